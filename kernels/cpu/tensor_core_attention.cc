// Attention as tensor cores compute it.
#include <verbatim/repops/ops/tensor_core_attention.h>

#include <verbatim/kernels/cpu/attention_tasks.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

using namespace tensor_core;

template <class Format>
float exact_score(const TensorCoreAttention& p, const uint16_t* q, const uint16_t* k) {
  return attention_score<Format>(p.product_group == 16 ? kSm90 : kSm80, q, k, p.head_size);
}
template <class Format>
float exact_weighted(const TensorCoreAttention& p, float acc, const uint16_t* weights,
                     int64_t begin, int64_t end, const uint16_t* v, int64_t stride) {
  return attention_weighted<Format>(p.product_group == 16 ? kSm90 : kSm80, acc, weights, begin, end,
                                    [&](int64_t i) { return v[i * stride]; });
}

const uint16_t* codes_of(const Tensor& t) {
  return reinterpret_cast<const uint16_t*>(t.bytes().data());
}

// The kernel's view of all batch entries and heads.
TensorCoreAttention view_of(const AttentionOperands& o, std::span<const Tensor> inputs,
                            float* out) {
  TensorCoreAttention p;
  set_view(p, o.settings, codes_of(inputs[0]), codes_of(inputs[1]), codes_of(inputs[2]), out);
  p.half = o.type == DType::f16;
  p.product_group = o.rule.group;
  p.score = p.half ? exact_score<HalfFormat> : exact_score<BFloat16Format>;
  p.weighted = p.half ? exact_weighted<HalfFormat> : exact_weighted<BFloat16Format>;
  return p;
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
  VB_ASSIGN(Tensor out,
            Tensor::allocate(DType::f32, s.output,
                             operands->output == DType::f32 ? Purpose::result : Purpose::scratch));
  for_attention_tasks(s, view_of(*operands, inputs, out.mutable_data<float>().data()),
                      [&](const TensorCoreAttention& p, const AttentionTask& t) {
                        const CpuKernels& kernels = backend.kernels();
                        float* scratch = thread_scratch(kernels.tensor_core_attention_scratch(
                            (t.to - t.from) * p.group, p.head_size, p.value_size));
                        kernels.attend_tensor_core(p, t.from, t.to, t.visible, scratch);
                      });
  VB_ASSIGN(out, rounded(out, operands->output));
  return done({out});
}

}  // namespace verbatim
