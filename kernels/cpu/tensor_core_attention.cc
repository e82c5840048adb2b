// Attention as tensor cores compute it: tasks as in attention.cc.
#include <verbatim/repops/ops/tensor_core_attention.h>

#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

using namespace tensor_core;

constexpr int64_t kTaskRows = 192;

template <class Format>
float exact_score(const TensorCoreAttention& p, const uint16_t* q, const uint16_t* k) {
  return attention_score<Format>(p.product_group == 16 ? kSm90 : kSm80, q, k, p.head_size);
}
template <class Format>
float exact_weighted(const TensorCoreAttention& p, float acc, const uint16_t* weights,
                     int64_t begin, int64_t end, const uint16_t* v) {
  return attention_weighted<Format>(p.product_group == 16 ? kSm90 : kSm80, acc, weights, begin, end,
                                    v, p.v_stride);
}

// The kernel's view of all batch entries and heads.
TensorCoreAttention view_of(const AttentionOperands& o) {
  const AttentionSettings& s = o.settings;
  const bool half = o.type == DType::f16;
  return {.q_stride = s.heads * s.head_size,
          .k_stride = s.kv_heads * s.head_size,
          .v_stride = s.kv_heads * s.value_size,
          .out_stride = s.heads * s.value_size,
          .group = s.heads / s.kv_heads,
          .head_size = s.head_size,
          .value_size = s.value_size,
          .scale = s.scale,
          .softcap = s.softcap,
          .half = half,
          .product_group = o.rule.group,
          .score = half ? exact_score<HalfFormat> : exact_score<BFloat16Format>,
          .weighted = half ? exact_weighted<HalfFormat> : exact_weighted<BFloat16Format>};
}

const uint16_t* codes_of(const Tensor& t) {
  return reinterpret_cast<const uint16_t*>(t.bytes().data());
}

Result<Tensor> rounded(const Tensor& x, DType type) {
  if (type == DType::f32) return x;
  VB_ASSIGN(Tensor y, Tensor::allocate(type, x.shape()));
  const float* from = x.data<float>().data();
  const auto fill = [&](auto* to) {
    using T = std::remove_pointer_t<decltype(to)>;
    parallel_for(x.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] = store<T>(from[i]);
    });
  };
  if (type == DType::bf16)
    fill(y.mutable_data<BFloat16>().data());
  else
    fill(y.mutable_data<Half>().data());
  return y;
}

}  // namespace

Outcome run_tensor_core_attention(const CpuBackend& backend, const Node& node,
                                  std::span<const Tensor> inputs) {
  const Result<AttentionOperands> operands = attention_operands(node, inputs);
  if (!operands.ok()) return not_handled();
  const AttentionSettings& s = operands->settings;
  const int64_t* lengths =
      inputs.size() > 3 && inputs[3].defined() ? inputs[3].data<int64_t>().data() : nullptr;
  const int64_t batch = inputs[0].dim(0), queries = inputs[0].dim(1), keys = inputs[1].dim(1);
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, s.output));
  const TensorCoreAttention p = view_of(*operands);
  const uint16_t *q = codes_of(inputs[0]), *k = codes_of(inputs[1]), *v = codes_of(inputs[2]);
  float* outs = out.mutable_data<float>().data();
  const int64_t most = std::max<int64_t>(1, kTaskRows / p.group),
                tasks = (queries + most - 1) / most;
  parallel_for(batch * s.kv_heads * tasks, 1, [&](int64_t begin, int64_t end) {
    const CpuKernels& kernels = backend.kernels();
    thread_local std::vector<KeyRange> visible;  // kept, as scratch is
    for (int64_t i = begin; i < end; ++i) {
      const int64_t task = i % tasks, head = i / tasks % s.kv_heads, b = i / tasks / s.kv_heads;
      const int64_t from = queries * task / tasks, to = queries * (task + 1) / tasks;
      visible.clear();
      for (int64_t t = from; t < to; ++t) {
        const auto [first, last] = visible_keys(s, t, queries, lengths ? lengths[b] : keys);
        visible.push_back({first, last});
      }
      TensorCoreAttention local = p;
      local.q = q + b * queries * p.q_stride + head * p.group * p.head_size;
      local.k = k + b * keys * p.k_stride + head * p.head_size;
      local.v = v + b * keys * p.v_stride + head * p.value_size;
      local.out = outs + b * queries * p.out_stride + head * p.group * p.value_size;
      float* scratch = thread_scratch(
          kernels.tensor_core_attention_scratch((to - from) * p.group, p.head_size, p.value_size));
      kernels.attend_tensor_core(local, from, to, visible.data(), scratch);
    }
  });
  VB_ASSIGN(out, rounded(out, operands->output));
  return done({out});
}

}  // namespace verbatim
