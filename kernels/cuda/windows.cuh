// Sliding windows on the device: repops/ops/window.h's, of at most three dimensions.
#pragma once

#include <optional>

#include <verbatim/kernels/cuda/gpu.h>
#include <verbatim/repops/ops/window.h>

namespace verbatim::cuda {

// A spatial dimension; one that is not there has one position and one tap.
struct Axis {
  int input = 1, output = 1, taps = 1, stride = 1, dilation = 1, padding = 0, padding_end = 0;

  // Where tap k of output o reads; -1 where it is padding or nothing.
  __device__ int source(int o, int k, bool transposed) const {
    int at = transposed ? o + padding - k * dilation : o * stride + k * dilation - padding;
    if (transposed) {
      if (at < 0 || at % stride != 0) return -1;
      at /= stride;
    }
    return at < input ? at : -1;
  }
  // Taps of output o before the place `limit`, counted from where its stated padding begins.
  __device__ int taps_before(int o, int limit) const {
    const int room = limit - o * stride;
    if (room <= 0) return 0;
    const int there = (room - 1) / dilation + 1;
    return there < taps ? there : taps;
  }
  // The taps [first, end) that may read an element.
  __device__ int first_tap(int o, bool transposed) const {
    return transposed ? 0 : taps_before(o, padding);
  }
  __device__ int end_tap(int o, bool transposed) const {
    return transposed ? taps : taps_before(o, padding + input);
  }
};

struct Windows {
  static constexpr int kAxes = 3;
  Axis axis[kAxes];
  bool transposed = false;
  int64_t inputs = 1, outputs = 1, taps = 1;  // of all axes

  // Nothing where there are more axes, or where sizes or their products are no 32-bit integers.
  static std::optional<Windows> of(const Window& window) {
    constexpr int64_t kMost = 1 << 29;
    if (window.rank > kAxes || window.taps() > kMost) return std::nullopt;
    Windows w;
    for (int d = 0; d < window.rank; ++d) {
      const int64_t reach = window.kernel[d] * window.dilation[d];
      for (const int64_t size : {window.input[d], window.output[d], window.kernel[d],
                                 window.stride[d], window.dilation[d], window.pad_begin[d],
                                 window.pad_end[d], reach, window.output[d] * window.stride[d]})
        if (size > kMost || size < -kMost) return std::nullopt;
      const auto as_int = [](int64_t v) { return static_cast<int>(v); };
      w.axis[kAxes - window.rank + d] = {as_int(window.input[d]),    as_int(window.output[d]),
                                         as_int(window.kernel[d]),   as_int(window.stride[d]),
                                         as_int(window.dilation[d]), as_int(window.pad_begin[d]),
                                         as_int(window.pad_end[d])};
    }
    w.transposed = window.transposed;
    w.inputs = window.inputs();
    w.outputs = window.outputs();
    w.taps = window.taps();
    return w;
  }

  struct Place {
    int at[kAxes];
  };
  // Of an output, and of a tap.
  __device__ Place position(int64_t flat) const {
    Place p;
#pragma unroll
    for (int d = kAxes - 1; d >= 0; --d) {
      p.at[d] = static_cast<int>(flat % axis[d].output);
      flat /= axis[d].output;
    }
    return p;
  }
  __device__ Place tap(int flat) const {
    Place p;
#pragma unroll
    for (int d = kAxes - 1; d >= 0; --d) {
      p.at[d] = flat % axis[d].taps;
      flat /= axis[d].taps;
    }
    return p;
  }
  // The element that a tap of an output reads; -1: none.
  __device__ int64_t source(const Place& output, const Place& tap) const {
    int64_t from = 0;
    bool inside = true;
#pragma unroll
    for (int d = 0; d < kAxes; ++d) {
      const int i = axis[d].source(output.at[d], tap.at[d], transposed);
      inside = inside && i >= 0;
      from = from * axis[d].input + i;
    }
    return inside ? from : -1;
  }
  // f(tap, source) for each tap of an output that reads an element, ascending.
  template <class F>
  __device__ void each_tap(const Place& output, F&& f) const {
    Place first, end, t;
#pragma unroll
    for (int d = 0; d < kAxes; ++d) {
      first.at[d] = axis[d].first_tap(output.at[d], transposed);
      end.at[d] = axis[d].end_tap(output.at[d], transposed);
    }
    for (t.at[0] = first.at[0]; t.at[0] < end.at[0]; ++t.at[0])
      for (t.at[1] = first.at[1]; t.at[1] < end.at[1]; ++t.at[1])
        for (t.at[2] = first.at[2]; t.at[2] < end.at[2]; ++t.at[2])
          if (const int64_t from = source(output, t); from >= 0)
            f((t.at[0] * axis[1].taps + t.at[1]) * axis[2].taps + t.at[2], from);
  }
  // How many taps of an output lie on the operand or its stated padding.
  __device__ int64_t stated_taps(const Place& output) const {
    int64_t n = 1;
#pragma unroll
    for (int d = 0; d < kAxes; ++d)
      n *= axis[d].taps_before(output.at[d], axis[d].input + axis[d].padding + axis[d].padding_end);
    return n;
  }
};

}  // namespace verbatim::cuda
