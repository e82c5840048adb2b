// Choosing a token (docs/numerics.md, Randomness): integer weights, an integer prefix sum, and
// Philox, so that a choice is as exact as an argmax.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <verbatim/core/status.h>
#include <verbatim/repops/device.h>

namespace verbatim {

struct SamplingSettings {
  float temperature = 0;  // 0: the greatest logit, the lower index on ties
  int64_t top_k = 0;      // 0: all
  float top_p = 1;        // nucleus; 1: all
  float min_p = 0;        // share of the greatest weight below which a token is dropped; 0: none
  uint64_t seed = 0;
  uint64_t stream = 0;  // the index of the choice where a prompt has several
};

// Sample's attributes.
struct Node;
Result<SamplingSettings> sampling_settings(const Node& node);

// rne(v * 2^32) for v in [0, 1]; NaN gives 0. The product is exact in binary64, and so is adding
// 2^52 but for its one rounding.
VB_HOST_DEVICE inline uint64_t to_fixed32(float v) {
  if (!(v > 0)) return 0;
  const double scaled = static_cast<double>(v) * 4294967296.0;
  return static_cast<uint64_t>((scaled + 4503599627370496.0) - 4503599627370496.0);
}
// Indices by descending weight, then ascending index.
std::vector<int64_t> by_weight(std::span<const uint64_t> weights);

// The token drawn at absolute index `position`. Logits must not be empty.
int64_t sample_token(std::span<const float> logits, uint64_t position,
                     const SamplingSettings& settings);

}  // namespace verbatim
