// Int8 attention (docs/numerics.md, Attention, family B): its operands, as codes.
#pragma once

#include <span>

#include <verbatim/repops/ops/attention.h>
#include <verbatim/repops/ops/quantized.h>

namespace verbatim {

struct Node;

// A value is code * 2^f, or NaN where f is kFlaggedRow (sliced.h); else -100 <= f <= 122.
struct Int8Operands {
  AttentionSettings settings;
  int64_t slices = 1;         // of weights: 1 or 2
  Tensor q, k, v;             // codes int8 [B, T, heads or kv_heads, size]; none is -128
  Tensor q_scales, k_scales;  // float32 [B, T, heads or kv_heads]
  Tensor v_exponents;         // int32 [B, T, kv_heads]: f
  int64_t rotation = 1, value_rotation = 1;  // of q and k, and of v
};

// The operands of AttentionInt8 or AttentionInt8Cached, checked, and quantised where they are not.
Result<Int8Operands> int8_operands(const Node& node, std::span<const Tensor> inputs,
                                   const QuantizeRowsFn& quantize);

// The nodes QuantizeKeys and QuantizeValues.
Result<Tensors> quantize_keys_of(const Node& node, std::span<const Tensor> inputs,
                                 const QuantizeRowsFn& quantize);
Result<Tensors> quantize_values_of(const Node& node, std::span<const Tensor> inputs,
                                   const QuantizeRowsFn& quantize);

// One query's o / l, turned back in place.
void finish_int8_row(std::span<float> row, int64_t rotation);

}  // namespace verbatim
