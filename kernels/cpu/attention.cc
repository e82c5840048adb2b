// Attention in binary32: tasks of some queries, all heads that share a head of keys, one batch
// entry.
#include <verbatim/repops/ops/attention.h>

#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {
constexpr int64_t kTaskRows = 192;

Outcome attend(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs,
               Purpose purpose) {
  const Result<AttentionSettings> settings = attention_settings(node, inputs);
  if (!settings.ok()) return not_handled();
  const AttentionSettings& s = *settings;
  const Tensor &q = inputs[0], &k = inputs[1], &v = inputs[2];
  const int64_t* lengths =
      inputs.size() > 3 && inputs[3].defined() ? inputs[3].data<int64_t>().data() : nullptr;
  const int64_t batch = q.dim(0), queries = q.dim(1), keys = k.dim(1);
  VB_ASSIGN(Tensor out,
            Tensor::allocate(DType::f32, Shape{batch, queries, s.heads * s.value_size}, purpose));
  Attention p;
  p.group = s.heads / s.kv_heads;
  p.head_size = s.head_size;
  p.value_size = s.value_size;
  p.scale = s.scale;
  p.softcap = s.softcap;
  p.q_stride = s.heads * s.head_size;
  p.k_stride = s.kv_heads * s.head_size;
  p.v_stride = s.kv_heads * s.value_size;
  p.out_stride = s.heads * s.value_size;
  const float *qs = q.data<float>().data(), *ks = k.data<float>().data(),
              *vs = v.data<float>().data();
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
      Attention local = p;
      local.q = qs + b * queries * p.q_stride + head * p.group * p.head_size;
      local.k = ks + b * keys * p.k_stride + head * p.head_size;
      local.v = vs + b * keys * p.v_stride + head * p.value_size;
      local.out = outs + b * queries * p.out_stride + head * p.group * p.value_size;
      float* scratch =
          thread_scratch(kernels.attention_scratch((to - from) * p.group, p.value_size));
      kernels.attend(local, from, to, visible.data(), scratch);
    }
  });
  return done({out});
}

}  // namespace

Outcome run_attention(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  return run_on_floats(attend, backend, node, inputs, 3);
}

}  // namespace verbatim
