// Attention in exact integers (docs/numerics.md, Attention, family B): each query, key and value of
// one token and one head is rotated and quantised by itself, so that no later token and no
// neighbour changes it; q.k and p.v are integer products.
#include <verbatim/repops/ops/int8_attention.h>

#include <algorithm>
#include <array>

#include <verbatim/core/parallel.h>
#include <verbatim/repops/ops/attention_row.h>
#include <verbatim/repops/ops/int8_weights.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/sliced.h>

namespace verbatim {
namespace {

// [B, T, heads * size] as [B, T, heads, size].
Result<Tensor> split_heads(const Tensor& x, int64_t heads) {
  return x.reshaped(Shape{x.dim(0), x.dim(1), heads, x.dim(2) / heads});
}

struct Values {
  Tensor codes;      // int8 [B, T, heads, size]
  Tensor exponents;  // int32 [B, T, heads]: a value is code * 2^f
  int64_t rotation;
};

Result<Values> quantize_values(const Tensor& v, const QuantizeRowsFn& quantize) {
  const int64_t size = v.dim(3);
  Values q{{}, {}, rotation_block(size)};
  VB_ASSIGN(q.codes, Tensor::allocate(DType::i8, v.shape()));
  VB_ASSIGN(q.exponents, Tensor::allocate(DType::i32, {v.dim(0), v.dim(1), v.dim(2)}));
  const RowCodes rows = {.x = v.data<float>().data(),
                         .n = size,
                         .rotation = q.rotation,
                         .codes = q.codes.mutable_data<int8_t>().data(),
                         .exponents = q.exponents.mutable_data<int32_t>().data()};
  parallel_for(q.exponents.elements(), row_grain(size),
               [&](int64_t from, int64_t to) { quantize(rows, from, to); });
  return q;
}

// One query of one head, and where its keys and values are.
struct Query {
  const AttentionSettings& s;
  int slices;
  const int8_t *q, *k, *v;
  float q_scale;  // of the codes, with the rotation's norm in it
  const float* k_scales;
  const int32_t* v_exponents;
  KeyRows rows;

  float score(int64_t key) const {
    const int8_t* codes = k + rows[key] * s.kv_heads * s.head_size;
    int32_t dot = 0;
    for (int64_t j = 0; j < s.head_size; ++j) dot += int32_t{q[j]} * codes[j];
    const float product = static_cast<float>(dot) * k_scales[rows[key] * s.kv_heads],
                log2_e = float_of(kLog2E);
    return s.softcap == 0 ? grid_score(product, q_scale * (s.scale * log2_e))
                          : grid_score(capped_score(s, product * q_scale), log2_e);
  }
  float value_exponent(int64_t key) const {
    const int32_t f = v_exponents[rows[key] * s.kv_heads];
    return f == kFlaggedRow ? float_of(kNanBits) : static_cast<float>(f);
  }
  // The code of a weight of exponent t; with two slices both, the second in 1/128.
  int32_t code(float t) const {
    const float w = exp2p(t);
    if (is_nan(w)) return 0;  // the block's units are NaN
    const float first = round_even(w);
    const auto whole = static_cast<int32_t>(first);
    return slices == 1 ? whole
                       : 128 * whole + static_cast<int32_t>(round_even((w - first) * 128.0f));
  }

  // `state` goes on with the visible keys [begin, end) of its part's next block.
  void extend(AttentionState& state, int64_t begin, int64_t end) const {
    std::array<float, kKeyBlock> z{}, y{};
    std::array<int32_t, kKeyBlock> codes{};
    for (int64_t i = begin; i < end; ++i) z[i - begin] = score(i);
    const auto count = static_cast<size_t>(end - begin);
    float e = z[0], g = float_of(0xFF800000);
    for (size_t i = 1; i < count; ++i) e = maximum(e, z[i]);
    for (size_t i = 0; i < count; ++i) {
      z[i] = z[i] - e;
      y[i] = z[i] + value_exponent(begin + static_cast<int64_t>(i));
      g = maximum(g, y[i]);
    }
    const float shift = total_shift(g, slices);
    int64_t total = 0;
    for (size_t i = 0; i < count; ++i) {
      codes[i] = code(code_exponent(y[i], g));
      const float weight = round_even(exp2p(z[i] + shift));
      if (!is_nan(weight)) total += static_cast<int64_t>(weight);
    }
    const float m = grid_maximum(state.m, e), alpha = raise(state.m, m),
                unit = exp2p(value_unit(e - m, g, slices));
    state.l = fma32(static_cast<float>(total), exp2p(total_unit(e - m, shift)), state.l * alpha);
    for (int64_t j = 0; j < s.value_size; ++j) {
      int32_t sum = 0;
      for (size_t i = 0; i < count; ++i)
        sum += codes[i] * v[rows[begin + static_cast<int64_t>(i)] * s.kv_heads * s.value_size + j];
      state.o[j] = fma32(static_cast<float>(sum), unit, state.o[j] * alpha);
    }
    state.m = m;
  }
};

Tensors attend_codes(const Int8Operands& o, Tensor out) {
  const AttentionSettings& s = o.settings;
  const int64_t tq = o.q.dim(1), rows = o.q.dim(0) * tq * s.heads;
  parallel_for(rows, 4, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t b = i / (tq * s.heads), row = i / s.heads % tq,
                    kv = i % s.heads / (s.heads / s.kv_heads);
      const Query query{s,
                        static_cast<int>(o.slices),
                        o.q.data<int8_t>().data() + i * s.head_size,
                        o.k.data<int8_t>().data() + kv * s.head_size,
                        o.v.data<int8_t>().data() + kv * s.value_size,
                        o.q_scales.data<float>()[i] * (1.0f / static_cast<float>(o.rotation)),
                        o.k_scales.data<float>().data() + kv,
                        o.v_exponents.data<int32_t>().data() + kv,
                        s.key_rows(b)};
      const AttentionState total = attend_on(visible_keys(s, row, tq, s.length(b)), s.value_size,
                                             [&](AttentionState& state, int64_t begin,
                                                 int64_t end) { query.extend(state, begin, end); });
      const std::span<float> result = out.mutable_data<float>().subspan(
          static_cast<size_t>(i * s.value_size), static_cast<size_t>(s.value_size));
      const float share = 1.0f / total.l;
      for (size_t j = 0; j < result.size(); ++j)
        result[j] = total.empty ? 0.0f : total.o[j] * share;
      finish_int8_row(result, o.value_rotation);
    }
  });
  return {out};
}

Status check_sizes(const AttentionSettings& s, const Tensor& q, const Tensor& v) {
  if (s.head_size >= 1 && s.head_size <= kMaxQuantizedK && s.value_size >= 1) return {};
  return bad_input("int8 attention of q " + q.describe() + ", v " + v.describe());
}

// What both operators check and quantise: all but keys and values.
Status set_queries(const Node& node, const Tensor& q, const QuantizeRowsFn& quantize,
                   Int8Operands& o) {
  VB_ASSIGN(o.slices, node.attributes.get<int64_t>("weight_slices", 1));
  if (q.dtype() != DType::f32)
    return unsupported("int8 attention of " + std::string(name_of(q.dtype())));
  if (o.slices != 1 && o.slices != 2)
    return bad_input(std::to_string(o.slices) + " slices of the weights: 1 or 2 are possible");
  o.rotation = rotation_block(o.settings.head_size);
  VB_ASSIGN(const Tensor heads, split_heads(q, o.settings.heads));
  VB_ASSIGN(QuantizedTensor codes, quantize_rows(heads, o.rotation, quantize));
  o.q = std::move(codes.codes);
  o.q_scales = std::move(codes.scales);
  return {};
}

// What QuantizeKeys and QuantizeValues take, with its heads split.
Result<Tensor> cache_rows(const Node& node, const Tensor& x) {
  VB_ASSIGN(const int64_t heads, node.attributes.require<int64_t>("heads"));
  if (x.dtype() != DType::f32 || x.rank() != 3 || heads < 1 || x.dim(2) % heads != 0 ||
      x.dim(2) == 0)
    return bad_input("a cache of " + x.describe() + " with " + std::to_string(heads) + " heads");
  return split_heads(x, heads);
}
// What attention_shapes takes of AttentionInt8Cached's inputs.
std::array<Tensor, 5> operands_in(std::span<const Tensor> inputs) {
  return {inputs[0], inputs[1], inputs[2], input_or_none(inputs, 5), input_or_none(inputs, 6)};
}

// Rows [row, row + count) of a cache: no code is -128, exponents are those of quantize_values.
Status check_rows(std::span<const Tensor> inputs, int64_t row, int64_t count) {
  const auto rows_of = [&](const Tensor& x, auto type) {
    return x.data<decltype(type)>().subspan(static_cast<size_t>(row * x.dim(2)),
                                            static_cast<size_t>(count * x.dim(2)));
  };
  VB_TRY(check_quantized_codes(rows_of(inputs[1], int8_t{})));
  VB_TRY(check_quantized_codes(rows_of(inputs[2], int8_t{})));
  for (const int32_t f : rows_of(inputs[4], int32_t{}))
    if (f != kFlaggedRow && (f < kLeastValueExponent || f > kGreatestValueExponent))
      return bad_input("value exponent " + std::to_string(f));
  return {};
}

// What a cache from outside holds, checked; of pages, what sequences have there.
Status check_cache(const AttentionSettings& s, std::span<const Tensor> inputs) {
  const Tensor &k = inputs[1], &v = inputs[2], &scales = inputs[3], &exponents = inputs[4];
  const Shape rows{k.dim(0), k.dim(1), s.kv_heads};
  if (k.dtype() != DType::i8 || v.dtype() != DType::i8 || scales.dtype() != DType::f32 ||
      exponents.dtype() != DType::i32 || !(scales.shape() == rows) || !(exponents.shape() == rows))
    return bad_input("cache of keys " + k.describe() + " with scales " + scales.describe() +
                     ", values " + v.describe() + " with exponents " + exponents.describe());
  if (!s.paged()) return check_rows(inputs, 0, k.dim(0) * k.dim(1));
  for (int64_t b = 0; b < inputs[0].dim(0); ++b) {
    const KeyRows at = s.key_rows(b);
    for (int64_t i = 0; i < s.length(b); i += s.page_size)
      VB_TRY(check_rows(inputs, at[i], std::min(s.page_size, s.length(b) - i)));
  }
  return {};
}

// AttentionInt8(q, k, v, lengths?), float32, as Attention's, with attribute weight_slices (1, the
// default, or 2: int8 slices of the weights) -> [B, Tq, heads * value_size].
Result<Int8Operands> operands_of_floats(const Node& node, std::span<const Tensor> inputs,
                                        const QuantizeRowsFn& quantize) {
  Int8Operands o;
  VB_ASSIGN(o.settings, attention_settings(node, inputs));
  VB_TRY(check_sizes(o.settings, inputs[0], inputs[2]));
  VB_TRY(set_queries(node, inputs[0], quantize, o));
  VB_ASSIGN(const Tensor k_heads, split_heads(inputs[1], o.settings.kv_heads));
  VB_ASSIGN(const Tensor v_heads, split_heads(inputs[2], o.settings.kv_heads));
  VB_ASSIGN(QuantizedTensor keys, quantize_rows(k_heads, o.rotation, quantize));
  VB_ASSIGN(Values values, quantize_values(v_heads, quantize));
  o.k = std::move(keys.codes);
  o.k_scales = std::move(keys.scales);
  o.v = std::move(values.codes);
  o.v_exponents = std::move(values.exponents);
  o.value_rotation = values.rotation;
  return o;
}

// AttentionInt8Cached(q float32, k codes, v codes, k scales, v exponents, lengths?, table?) with
// AttentionInt8's attributes: its bits, where codes are those of QuantizeKeys and QuantizeValues.
Result<Int8Operands> operands_of_cache(const Node& node, std::span<const Tensor> inputs,
                                       const QuantizeRowsFn& quantize) {
  Int8Operands o;
  VB_ASSIGN(o.settings, attention_shapes(node, operands_in(inputs)));
  VB_TRY(check_sizes(o.settings, inputs[0], inputs[2]));
  // Allocates first, so that limits are asked before codes are looked at.
  VB_TRY(set_queries(node, inputs[0], quantize, o));
  VB_TRY(check_cache(o.settings, inputs));
  o.k = inputs[1];
  o.v = inputs[2];
  o.k_scales = inputs[3];
  o.v_exponents = inputs[4];
  o.value_rotation = rotation_block(o.settings.value_size);
  return o;
}

Result<Tensors> int8_attention(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const Int8Operands o, int8_operands(node, inputs, quantize_row_codes));
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, o.settings.output));
  return attend_codes(o, std::move(out));
}

Result<Tensors> quantize_keys(const Node& node, std::span<const Tensor> inputs) {
  return quantize_keys_of(node, inputs, quantize_row_codes);
}
Result<Tensors> quantize_cache_values(const Node& node, std::span<const Tensor> inputs) {
  return quantize_values_of(node, inputs, quantize_row_codes);
}

uint64_t cached_cost(const Node& node, std::span<const Tensor> inputs,
                     std::span<const Tensor> outputs) {
  const uint64_t attention = attention_cost(node, operands_in(inputs), outputs);
  const Result<AttentionSettings> s = attention_shapes(node, operands_in(inputs));
  if (!s.ok() || !s->paged()) return attention;
  // Of pages, each sequence's codes are looked at, though other sequences share them.
  const uint64_t keys = saturating_multiply(static_cast<uint64_t>(inputs[0].dim(0)),
                                            static_cast<uint64_t>(s->keys)),
                 codes = static_cast<uint64_t>(s->kv_heads * (s->head_size + s->value_size));
  return saturating_add(attention, saturating_multiply(keys, codes));
}
uint64_t cache_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor>) {
  return saturating_multiply(static_cast<uint64_t>(inputs[0].elements()), 20);
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "AttentionInt8", 3, 4, 1, int8_attention, attention_cost},
    {kVerbatimDomain, "QuantizeKeys", 1, 1, 2, quantize_keys, cache_cost},
    {kVerbatimDomain, "QuantizeValues", 1, 1, 2, quantize_cache_values, cache_cost},
    {kVerbatimDomain, "AttentionInt8Cached", 5, 7, 1, int8_attention, cached_cost},
};

}  // namespace

Result<Int8Operands> int8_operands(const Node& node, std::span<const Tensor> inputs,
                                   const QuantizeRowsFn& quantize) {
  return node.op == "AttentionInt8" ? operands_of_floats(node, inputs, quantize)
                                    : operands_of_cache(node, inputs, quantize);
}

// QuantizeKeys(k float32 [B, T, heads * size]) with attribute heads -> codes int8 [B, T, heads *
// size], scales float32 [B, T, heads]; QuantizeValues(v) alike, with exponents int32 [B, T, heads].
// What a key-value cache holds of each token and head: nothing of one depends on another.
Result<Tensors> quantize_keys_of(const Node& node, std::span<const Tensor> inputs,
                                 const QuantizeRowsFn& quantize) {
  VB_ASSIGN(const Tensor heads, cache_rows(node, inputs[0]));
  VB_ASSIGN(const QuantizedTensor q, quantize_rows(heads, rotation_block(heads.dim(3)), quantize));
  VB_ASSIGN(const Tensor codes, q.codes.reshaped(inputs[0].shape()));
  return Tensors{codes, q.scales};
}

Result<Tensors> quantize_values_of(const Node& node, std::span<const Tensor> inputs,
                                   const QuantizeRowsFn& quantize) {
  VB_ASSIGN(const Tensor heads, cache_rows(node, inputs[0]));
  VB_ASSIGN(const Values q, quantize_values(heads, quantize));
  VB_ASSIGN(const Tensor codes, q.codes.reshaped(inputs[0].shape()));
  return Tensors{codes, q.exponents};
}

void finish_int8_row(std::span<float> row, int64_t rotation) {
  rotate_row(row, rotation);
  for (float& v : row) v = canonical(v * (1.0f / static_cast<float>(rotation)));
}

std::span<const OpDef> int8_attention_ops() { return kOps; }

}  // namespace verbatim
