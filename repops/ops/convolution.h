// Convolution (docs/numerics.md, Family A): the K index of a tap is (channel, kernel row, kernel
// column). Blocks of 512 are cut by that index; padded taps take no part, so that a block of
// nothing but padding is +0.
#pragma once

#include <verbatim/repops/ops/window.h>

namespace verbatim {

// A convolution's shapes, checked. A plane is the part of one batch entry in one group; weights of
// an ordinary convolution are [groups * out_channels, k_size].
struct Convolution {
  Window window;
  int64_t batch = 0, groups = 1;
  int64_t in_channels = 0, out_channels = 0;  // of one group
  bool transposed = false;

  int64_t k_size() const { return in_channels * window.taps(); }
  // The weight of output channel m of group g at K index k.
  int64_t weight(int64_t g, int64_t m, int64_t k) const {
    if (!transposed) return (g * out_channels + m) * k_size() + k;
    const int64_t taps = window.taps(), c = k / taps;
    return ((g * in_channels + c) * out_channels + m) * taps + k % taps;
  }
  Result<Shape> output_shape() const;
};
Result<Convolution> plan_convolution(const Node& node, const Tensor& x, const Tensor& w,
                                     const Tensor& bias, bool transposed);

// The ordered product alone, without bias, of one element of the output.
float convolved(const Convolution& s, const float* x, const float* w, int64_t plane,
                int64_t channel, int64_t position);

// Y [N, M, outputs...] = convolution of X [N, C, ...] with W, [M, C / group, kernel...] or,
// transposed, [C, M / group, kernel...],
// + bias [M] where that is defined. float types, or int32, which wraps.
Result<Tensor> convolve(const Node& node, const Tensor& x, const Tensor& w, const Tensor& bias,
                        bool transposed);

uint64_t convolution_cost(const Node& node, std::span<const Tensor> inputs,
                          std::span<const Tensor> outputs);

}  // namespace verbatim
