// Attention as tensor cores compute it (docs/numerics.md, Attention, family C): both products are
// chains of the member's steps, and within 2048 keys the sum of values is one chain that each block
// of keys goes on with, as FlashAttention's (Dao, arXiv 2307.08691) is.
#include <algorithm>
#include <array>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/repops/ops/attention_row.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/tensor_core.h>

namespace verbatim {
namespace {

template <class T>
struct Query {
  using Code = decltype(T::bits);
  using Format = typename tensor_core::FormatOf<T>::type;
  const AttentionSettings& s;
  const tensor_core::Rule& rule;
  const Code *q, *k, *v;  // k and v of this head's key 0

  float score(int64_t key) const {
    const Code* row = k + key * s.kv_heads * s.head_size;
    float acc = 0;
    for (int64_t i = 0; i < s.head_size; i += rule.group)
      acc = tensor_core::step<Format, Format>(
          rule, acc, q + i, row + i,
          static_cast<int>(std::min<int64_t>(rule.group, s.head_size - i)));
    return scaled_score(s, acc);
  }

  // acc + the weighted values of column j of the visible keys [begin, end) of one block: groups lie
  // by the key's index in the block, and a key that is not seen is zero in both operands.
  float accumulate(float acc, const std::array<Code, kKeyBlock>& p, int64_t begin, int64_t end,
                   int64_t j) const {
    const int64_t block = begin / kKeyBlock * kKeyBlock;
    for (int64_t group = begin / rule.group * rule.group; group < end; group += rule.group) {
      std::array<Code, 16> weights{}, values{};
      const int64_t first = std::max(group, begin),
                    last = std::min<int64_t>(group + rule.group, end);
      for (int64_t i = first; i < last; ++i) {
        weights[i - group] = p[i - block];
        values[i - group] = v[i * s.kv_heads * s.value_size + j];
      }
      acc = tensor_core::step<Format, Format>(rule, acc, weights.data(), values.data(), rule.group);
    }
    return acc;
  }

  // `state` goes on with the visible keys [begin, end) of its part's next block.
  void extend(AttentionState& state, int64_t begin, int64_t end) const {
    std::array<float, kKeyBlock> x{};
    std::array<Code, kKeyBlock> p{};
    std::array<float, kKeyLanes> lane{};
    const int64_t block = begin / kKeyBlock * kKeyBlock;
    for (int64_t i = begin; i < end; ++i) x[i - block] = score(i);
    float m = x[begin - block];
    for (int64_t i = begin + 1; i < end; ++i) m = maximum(m, x[i - block]);
    if (!state.empty) m = maximum(state.m, m);
    for (int64_t i = begin; i < end; ++i) {
      const T weight = store<T>(exp2p(x[i - block] - m));
      p[i - block] = weight.bits;
      lane[i % kKeyLanes] += load(weight);
    }
    const float alpha = state.empty ? 0.0f : exp2p(state.m - m);
    state.l = state.empty ? lane_sum(lane) : fma32(state.l, alpha, lane_sum(lane));
    state.o.resize(static_cast<size_t>(s.value_size));
    for (int64_t j = 0; j < s.value_size; ++j)
      state.o[j] = accumulate(state.empty ? 0.0f : state.o[j] * alpha, p, begin, end, j);
    state.m = m;
    state.empty = false;
  }

  AttentionState attend(std::pair<int64_t, int64_t> keys) const {
    AttentionState total;
    for (int64_t part = keys.first / kKeyRestart * kKeyRestart; part < keys.second;
         part += kKeyRestart) {
      AttentionState running;
      const int64_t part_end = std::min(part + kKeyRestart, keys.second);
      for (int64_t block = part; block < part_end; block += kKeyBlock) {
        const int64_t begin = std::max(block, keys.first),
                      end = std::min(block + kKeyBlock, part_end);
        if (begin < end) extend(running, begin, end);
      }
      total = merge(std::move(total), running, exp2p);
    }
    return total;
  }
};

template <class T, class Out>
void attention_of(const AttentionSettings& s, const tensor_core::Rule& rule,
                  std::span<const Tensor> inputs, Tensor& out) {
  using Code = decltype(T::bits);
  const int64_t tq = inputs[0].dim(1), tk = inputs[1].dim(1),
                rows = inputs[0].dim(0) * tq * s.heads;
  const auto* q = reinterpret_cast<const Code*>(inputs[0].data<T>().data());
  const auto* k = reinterpret_cast<const Code*>(inputs[1].data<T>().data());
  const auto* v = reinterpret_cast<const Code*>(inputs[2].data<T>().data());
  const int64_t* lengths =
      inputs.size() > 3 && inputs[3].defined() ? inputs[3].data<int64_t>().data() : nullptr;
  Out* y = out.mutable_data<Out>().data();
  parallel_for(rows, 4, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t b = i / (tq * s.heads), row = i / s.heads % tq,
                    kv = i % s.heads / (s.heads / s.kv_heads), first = b * tk * s.kv_heads + kv;
      const Query<T> query{s, rule, q + i * s.head_size, k + first * s.head_size,
                           v + first * s.value_size};
      const AttentionState total =
          query.attend(visible_keys(s, row, tq, lengths ? lengths[b] : tk));
      for (int64_t j = 0; j < s.value_size; ++j)
        y[i * s.value_size + j] = store<Out>(total.empty ? 0.0f : total.o[j] / total.l);
    }
  });
}

// AttentionTensorCore(q, k, v, lengths?), bfloat16 or float16, as Attention's, with attributes
// member and output (ONNX's number: float32, or the inputs' type, the default) -> [B, Tq, heads *
// value_size].
Result<Tensors> tensor_core_attention(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const AttentionSettings s, attention_settings(node, inputs));
  const DType type = inputs[0].dtype();
  VB_ASSIGN(const std::string member,
            node.attributes.get<std::string>("member", std::string(tensor_core::kDefaultMember)));
  VB_ASSIGN(const tensor_core::Unit unit, tensor_core::unit_of(member, type, type));
  VB_ASSIGN(const int64_t output,
            node.attributes.get<int64_t>("output", static_cast<int64_t>(type)));
  const DType to = dtype_from_onnx(output);
  if ((type != DType::bf16 && type != DType::f16) || (to != DType::f32 && to != type))
    return unsupported("tensor-core attention of " + std::string(name_of(type)) + " to type " +
                       std::to_string(output));
  VB_ASSIGN(Tensor out, Tensor::allocate(to, s.output));
  const auto run = [&](auto operand) {
    using T = decltype(operand);
    if (to == DType::f32)
      attention_of<T, float>(s, unit.rule, inputs, out);
    else
      attention_of<T, T>(s, unit.rule, inputs, out);
  };
  if (type == DType::bf16)
    run(BFloat16{});
  else
    run(Half{});
  return Tensors{out};
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "AttentionTensorCore", 3, 4, 1, tensor_core_attention, attention_cost},
};

}  // namespace

std::span<const OpDef> tensor_core_attention_ops() { return kOps; }

}  // namespace verbatim
