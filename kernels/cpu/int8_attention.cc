// Attention in exact integers.
#include <verbatim/repops/ops/int8_attention.h>

#include <verbatim/kernels/cpu/attention_tasks.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

// The kernel's view of all batch entries and heads.
Int8Attention view_of(const Int8Operands& o, float* out) {
  Int8Attention p;
  set_view(p, o.settings, o.q.data<int8_t>().data(), o.k.data<int8_t>().data(),
           o.v.data<int8_t>().data(), out);
  p.q_scales = o.q_scales.data<float>().data();
  p.k_scales = o.k_scales.data<float>().data();
  p.v_exponents = o.v_exponents.data<int32_t>().data();
  p.heads = o.settings.heads;
  p.kv_heads = o.settings.kv_heads;
  p.q_factor = 1.0f / static_cast<float>(o.rotation);
  p.slices = o.slices;
  return p;
}

void attend(const CpuKernels& kernels, const Int8Operands& o, Int8Attention p,
            const AttentionTask& t) {
  p.q_scales += t.batch * o.q.dim(1) * p.heads + t.head;
  p.k_scales += t.kv;
  p.v_exponents += t.kv;
  float* scratch = thread_scratch(
      kernels.int8_attention_scratch((t.to - t.from) * p.group, p.head_size, p.value_size));
  kernels.attend_int8(p, t.from, t.to, t.visible, scratch);
  for (int64_t i = t.from; i < t.to; ++i)
    for (int64_t g = 0; g < p.group; ++g)
      kernels.rotate_back(p.out + i * p.out_stride + g * p.value_size, p.value_size,
                          o.value_rotation);
}

}  // namespace

Outcome run_int8_attention(const CpuBackend& backend, const Node& node,
                           std::span<const Tensor> inputs) {
  const Result<Int8Operands> operands =
      int8_operands(node, inputs, quantize_rows_fn(backend.kernels()));
  if (!operands.ok()) return not_handled();
  const Int8Operands& o = *operands;
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, o.settings.output));
  for_attention_tasks(
      o.settings, view_of(o, out.mutable_data<float>().data()),
      [&](const Int8Attention& p, const AttentionTask& t) { attend(backend.kernels(), o, p, t); });
  return done({out});
}

}  // namespace verbatim
