// Attention as tensor cores compute it (docs/numerics.md, Attention, family C): both products are
// chains of the member's steps, and within 2048 keys the sum of values is one chain that each block
// of keys goes on with, as FlashAttention's (Dao, arXiv 2307.08691) is.
#include <verbatim/repops/ops/tensor_core_attention.h>

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/repops/ops/attention_row.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

template <class T>
struct Query {
  using Code = decltype(T::bits);
  using Format = typename tensor_core::FormatOf<T>::type;
  const AttentionSettings& s;
  const tensor_core::Rule& rule;
  const Code *q, *k, *v;  // k and v of this head's row 0
  KeyRows rows;

  float score(int64_t key) const {
    const float product = tensor_core::attention_score<Format>(
        rule, q, k + rows[key] * s.kv_heads * s.head_size, s.head_size);
    return s.softcap == 0 ? product : capped_score(s, product);
  }

  // `state` goes on with the visible keys [begin, end) of its part's next block.
  void extend(AttentionState& state, int64_t begin, int64_t end) const {
    std::array<float, kKeyBlock> score_of{};
    std::array<Code, kKeyBlock> p{};
    const float c = tensor_core::attention_log_scale(s);
    const int64_t block = begin / kKeyBlock * kKeyBlock;
    for (int64_t i = begin; i < end; ++i) score_of[i - block] = score(i);
    float greatest = grid_score(score_of[begin - block], c);
    for (int64_t i = begin + 1; i < end; ++i)
      greatest = maximum(greatest, grid_score(score_of[i - block], c));
    const float m = grid_maximum(state.m, greatest);
    for (int64_t i = begin; i < end; ++i)
      p[i - block] = store<T>(exp2p(grid_exponent(score_of[i - block], c, m))).bits;
    const float alpha = raise(state.m, m);
    const auto add = [&](float sum, auto&& value) {
      return tensor_core::attention_weighted<Format>(rule, sum * alpha, p.data(), begin - block,
                                                     end - block, value);
    };
    state.l = add(state.l, [](int64_t) { return store<T>(1.0f).bits; });
    for (int64_t j = 0; j < s.value_size; ++j)
      state.o[j] = add(state.o[j], [&](int64_t i) {
        return v[rows[block + i] * s.kv_heads * s.value_size + j];
      });
    state.m = m;
  }
};

template <class T, class Out>
void attention_of(const AttentionSettings& s, const tensor_core::Rule& rule,
                  std::span<const Tensor> inputs, Tensor& out) {
  using Code = decltype(T::bits);
  const int64_t tq = inputs[0].dim(1), rows = inputs[0].dim(0) * tq * s.heads;
  const auto* q = reinterpret_cast<const Code*>(inputs[0].data<T>().data());
  const auto* k = reinterpret_cast<const Code*>(inputs[1].data<T>().data());
  const auto* v = reinterpret_cast<const Code*>(inputs[2].data<T>().data());
  Out* y = out.mutable_data<Out>().data();
  parallel_for(rows, 4, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t b = i / (tq * s.heads), row = i / s.heads % tq,
                    kv = i % s.heads / (s.heads / s.kv_heads);
      const Query<T> query{
          s, rule, q + i * s.head_size, k + kv * s.head_size, v + kv * s.value_size, s.key_rows(b)};
      const AttentionState total = attend_on(visible_keys(s, row, tq, s.length(b)), s.value_size,
                                             [&](AttentionState& state, int64_t begin,
                                                 int64_t end) { query.extend(state, begin, end); });
      const float share = 1.0f / total.l;
      for (int64_t j = 0; j < s.value_size; ++j)
        y[i * s.value_size + j] = store<Out>(total.empty ? 0.0f : total.o[j] * share);
    }
  });
}

// AttentionTensorCore(q, k, v, lengths?, table?), bfloat16 or float16, as Attention's, with
// attributes member and output (ONNX's number: float32, or the inputs' type, the default) -> [B,
// Tq, heads * value_size].
Result<Tensors> tensor_core_attention(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const tensor_core::AttentionOperands o, tensor_core::attention_operands(node, inputs));
  VB_ASSIGN(Tensor out, Tensor::allocate(o.output, o.settings.output));
  const auto run = [&](auto operand) {
    using T = decltype(operand);
    if (o.output == DType::f32)
      attention_of<T, float>(o.settings, o.rule, inputs, out);
    else
      attention_of<T, T>(o.settings, o.rule, inputs, out);
  };
  if (o.type == DType::bf16)
    run(BFloat16{});
  else
    run(Half{});
  return Tensors{out};
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "AttentionTensorCore", 3, 5, 1, tensor_core_attention, attention_cost},
};

}  // namespace

Result<tensor_core::AttentionOperands> tensor_core::attention_operands(
    const Node& node, std::span<const Tensor> inputs) {
  AttentionOperands o;
  VB_ASSIGN(o.settings, attention_settings(node, inputs));
  o.type = inputs[0].dtype();
  VB_ASSIGN(const std::string member,
            node.attributes.get<std::string>("member", std::string(kDefaultMember)));
  VB_ASSIGN(const Unit unit, unit_of(member, o.type, o.type));
  o.rule = unit.rule;
  VB_ASSIGN(const int64_t output,
            node.attributes.get<int64_t>("output", static_cast<int64_t>(o.type)));
  o.output = dtype_from_onnx(output);
  if ((o.type != DType::bf16 && o.type != DType::f16) ||
      (o.output != DType::f32 && o.output != o.type))
    return unsupported("tensor-core attention of " + std::string(name_of(o.type)) + " to type " +
                       std::to_string(output));
  return o;
}

std::span<const OpDef> tensor_core_attention_ops() { return kOps; }

}  // namespace verbatim
