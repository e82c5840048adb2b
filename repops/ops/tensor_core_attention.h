// Attention as tensor cores compute it (docs/numerics.md, Attention, family C): its operands, and
// its two products, for the operator and for kernels that must equal it.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include <verbatim/repops/ops/attention.h>
#include <verbatim/repops/ops/tensor_core.h>

namespace verbatim::tensor_core {

struct AttentionOperands {
  AttentionSettings settings;
  Rule rule{};
  DType type = DType::bf16, output = DType::bf16;  // of q, k and v: bf16 or f16; `type` or f32
};
// The operands of AttentionTensorCore, checked.
Result<AttentionOperands> attention_operands(const Node& node, std::span<const Tensor> inputs);

// What scores, or capped ones, are multiplied by: they are then in units of log2.
inline float attention_log_scale(const AttentionSettings& s) {
  return s.softcap == 0 ? s.scale * float_of(kLog2E) : float_of(kLog2E);
}

// q . k, one chain.
template <class Format>
float attention_score(const Rule& rule, const uint16_t* q, const uint16_t* k, int64_t size) {
  float acc = 0;
  for (int64_t i = 0; i < size; i += rule.group)
    acc = step<Format, Format>(rule, acc, q + i, k + i,
                               static_cast<int>(std::min<int64_t>(rule.group, size - i)));
  return acc;
}

// acc + the weights p[i] times v(i) of the keys [begin, end) of a block, i from the block's first
// key on: a key that is not seen is zero in both operands.
template <class Format, class Values>
float attention_weighted(const Rule& rule, float acc, const uint16_t* p, int64_t begin, int64_t end,
                         Values&& v) {
  for (int64_t group = begin / rule.group * rule.group; group < end; group += rule.group) {
    std::array<uint16_t, 16> weights{}, values{};
    const int64_t first = std::max(group, begin), last = std::min<int64_t>(group + rule.group, end);
    for (int64_t i = first; i < last; ++i) {
      weights[i - group] = p[i];
      values[i - group] = v(i);
    }
    acc = step<Format, Format>(rule, acc, weights.data(), values.data(), rule.group);
  }
  return acc;
}

}  // namespace verbatim::tensor_core
