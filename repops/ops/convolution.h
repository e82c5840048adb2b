// Convolution (docs/numerics.md, Family A): the K index of a tap is (channel, kernel row, kernel
// column). Blocks of 512 are cut by that index; padded taps take no part, so that a block of
// nothing but padding is +0.
#pragma once

#include <verbatim/repops/ops/window.h>

namespace verbatim {

// Y [N, M, outputs...] = convolution of X [N, C, ...] with W, [M, C / group, kernel...] or,
// transposed, [C, M / group, kernel...],
// + bias [M] where that is defined. float types, or int32, which wraps.
Result<Tensor> convolve(const Node& node, const Tensor& x, const Tensor& w, const Tensor& bias,
                        bool transposed);

uint64_t convolution_cost(const Node& node, std::span<const Tensor> inputs,
                          std::span<const Tensor> outputs);

}  // namespace verbatim
