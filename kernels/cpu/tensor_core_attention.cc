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

}  // namespace

Outcome run_tensor_core_attention(const CpuBackend& backend, const Node& node,
                                  std::span<const Tensor> inputs) {
  const Result<AttentionOperands> operands = attention_operands(node, inputs);
  if (!operands.ok()) return not_handled();
  const AttentionSettings& s = operands->settings;
  VB_ASSIGN(FloatsResult out, start_floats(operands->output, s.output));
  for_attention_tasks(s, view_of(*operands, inputs, out.floats.mutable_data<float>().data()),
                      [&](const TensorCoreAttention& p, const AttentionTask& t) {
                        const CpuKernels& kernels = backend.kernels();
                        float* scratch = thread_scratch(kernels.tensor_core_attention_scratch(
                            (t.to - t.from) * p.group, p.head_size, p.value_size));
                        kernels.attend_tensor_core(p, t.from, t.to, t.visible, scratch);
                      });
  return finish_floats(backend, std::move(out));
}

}  // namespace verbatim
