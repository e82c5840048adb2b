// The geometry of sliding windows: kernel, strides, dilations and padding of convolutions and
// pools, read from a node and checked.
#pragma once

#include <array>
#include <string>
#include <vector>

#include <verbatim/repops/graph.h>
#include <verbatim/repops/ops/copy.h>

namespace verbatim {

// Spatial dimensions only; index 0 is the outermost of them.
struct Window {
  int rank = 0;
  bool transposed = false;  // a convolution's gradient: strides spread the input
  std::array<int64_t, kMaxRank> input{}, output{}, kernel{}, stride{}, dilation{}, pad_begin{},
      pad_end{};

  int64_t outputs() const { return product(output); }
  int64_t inputs() const { return product(input); }
  int64_t taps() const { return product(kernel); }

  // For output position `o` (flat): calls f(k, offset) for each tap that reads an element, k (flat)
  // ascending, offset flat in the input's spatial dimensions.
  template <class F>
  void for_each_tap(int64_t o, F&& f) const {
    std::array<int64_t, kMaxRank> at{}, begin{}, end{};
    for (int d = rank - 1; d >= 0; --d) {
      at[d] = o % output[d];
      o /= output[d];
      begin[d] = transposed ? 0 : first_tap(d, at[d]);
      end[d] = transposed ? kernel[d] : end_tap(d, at[d]);
      if (begin[d] >= end[d]) return;
    }
    std::array<int64_t, kMaxRank> k = begin;
    for (;;) {
      int64_t flat = 0, offset = 0;
      bool inside = true;
      for (int d = 0; d < rank; ++d) {
        const int64_t s = source(d, at[d], k[d]);
        inside = inside && s >= 0;
        offset = offset * input[d] + s;
        flat = flat * kernel[d] + k[d];
      }
      if (inside) f(flat, offset);
      int d = rank - 1;
      for (; d >= 0 && ++k[d] == end[d]; --d) k[d] = begin[d];
      if (d < 0) return;
    }
  }

  // How many taps of output position o lie before `limit` in dimension d, padding at the beginning
  // counted: taps beyond the stated padding, where ceil_mode may reach, are left out.
  int64_t taps_before(int d, int64_t o, int64_t limit) const {
    const int64_t room = limit - o * stride[d];
    return room <= 0 ? 0 : std::min(kernel[d], (room + dilation[d] - 1) / dilation[d]);
  }

 private:
  // Where tap k of output position o reads in dimension d; -1 where it is padding or nothing.
  int64_t source(int d, int64_t o, int64_t k) const {
    int64_t at = transposed ? o + pad_begin[d] - k * dilation[d]
                            : o * stride[d] + k * dilation[d] - pad_begin[d];
    if (transposed) {
      if (at < 0 || at % stride[d] != 0) return -1;
      at /= stride[d];
    }
    return at >= 0 && at < input[d] ? at : -1;
  }
  // The taps [first, end) of an ordinary window that read an element in dimension d.
  int64_t first_tap(int d, int64_t o) const { return taps_before(d, o, pad_begin[d]); }
  int64_t end_tap(int d, int64_t o) const { return taps_before(d, o, pad_begin[d] + input[d]); }

  int64_t product(const std::array<int64_t, kMaxRank>& dims) const {
    int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= dims[d];
    return n;
  }
};

// The window of a node over x [N, C, spatial...] from its attributes strides, dilations, pads,
// auto_pad and, for pools, ceil_mode; for transposed convolutions output_padding and output_shape.
Result<Window> read_window(const Node& node, const Tensor& x, std::span<const int64_t> kernel,
                           bool transposed = false);

}  // namespace verbatim
