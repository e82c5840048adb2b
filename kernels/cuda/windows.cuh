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
  // Taps of output o that lie on the operand or its stated padding.
  __device__ int stated_taps(int o) const {
    const int room = input + padding + padding_end - o * stride,
              taps_there = (room + dilation - 1) / dilation;
    return room <= 0 ? 0 : taps_there < taps ? taps_there : taps;
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
  // f(source) for each tap of an output, ascending.
  template <class F>
  __device__ void each_tap(const Place& output, F&& f) const {
    Place t;
    for (t.at[0] = 0; t.at[0] < axis[0].taps; ++t.at[0])
      for (t.at[1] = 0; t.at[1] < axis[1].taps; ++t.at[1])
        for (t.at[2] = 0; t.at[2] < axis[2].taps; ++t.at[2]) f(source(output, t));
  }
  __device__ int64_t stated_taps(const Place& output) const {
    int64_t n = 1;
#pragma unroll
    for (int d = 0; d < kAxes; ++d) n *= axis[d].stated_taps(output.at[d]);
    return n;
  }
};

// f(i) for each i below n, by all threads of a launch.
template <class F>
__device__ void each_element(int64_t n, F&& f) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}

}  // namespace verbatim::cuda
