// Attention in binary32.
#include <verbatim/kernels/cpu/attention_tasks.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

// Heads of keys that take turns in a task: those of few rows, which read keys and values as fast as
// memory gives them. Those of a token lie side by side; one block and what is fetched of the next
// stay in a second-level cache.
int64_t kv_heads_at_once(const AttentionSettings& s) {
  constexpr int64_t kMostRows = 64, kBytes = 512 << 10;
  const int64_t rows = s.output[1] * (s.heads / s.kv_heads),
                block = kKeyBlock * (s.head_size + s.value_size) * int64_t{sizeof(float)};
  int64_t heads = 1;
  while (2 * heads <= std::min(kMostKvHeads, s.kv_heads) && 2 * heads * rows <= kMostRows &&
         2 * heads * block <= kBytes)
    heads *= 2;
  return heads;
}

Outcome attend(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs,
               DType type) {
  const Result<AttentionSettings> settings = attention_settings(node, inputs);
  if (!settings.ok()) return not_handled();
  const AttentionSettings& s = *settings;
  VB_ASSIGN(FloatsResult out, start_floats(type, s.output));
  Attention all;
  set_view(all, s, inputs[0].data<float>().data(), inputs[1].data<float>().data(),
           inputs[2].data<float>().data(), out.floats.mutable_data<float>().data());
  const auto attend_task = [&](Attention p, const AttentionTask& t) {
    const CpuKernels& kernels = backend.kernels();
    p.kv_heads = t.kv_heads;
    float* scratch = thread_scratch(
        kernels.attention_scratch((t.to - t.from) * p.group, p.value_size, p.kv_heads));
    kernels.attend(p, t.from, t.to, t.visible, scratch);
  };
  for_attention_tasks(s, all, s.output[1], kv_heads_at_once(s), attend_task);
  return finish_floats(backend, std::move(out));
}

}  // namespace

Outcome run_attention(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  return run_on_floats(attend, backend, node, inputs, 3);
}

}  // namespace verbatim
