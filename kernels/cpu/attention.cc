// Attention in binary32.
#include <verbatim/kernels/cpu/attention_tasks.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

Outcome attend(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs,
               DType type) {
  const Result<AttentionSettings> settings = attention_settings(node, inputs);
  if (!settings.ok()) return not_handled();
  const AttentionSettings& s = *settings;
  VB_ASSIGN(FloatsResult out, start_floats(type, s.output));
  Attention all;
  set_view(all, s, inputs[0].data<float>().data(), inputs[1].data<float>().data(),
           inputs[2].data<float>().data(), out.floats.mutable_data<float>().data());
  for_attention_tasks(s, all, [&](const Attention& p, const AttentionTask& t) {
    const CpuKernels& kernels = backend.kernels();
    float* scratch =
        thread_scratch(kernels.attention_scratch((t.to - t.from) * p.group, p.value_size));
    kernels.attend(p, t.from, t.to, t.visible, scratch);
  });
  return finish_floats(backend, std::move(out));
}

}  // namespace

Outcome run_attention(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  return run_on_floats(attend, backend, node, inputs, 3);
}

}  // namespace verbatim
