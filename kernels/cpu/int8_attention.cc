// Attention in exact integers: tasks as in attention.cc.
#include <verbatim/repops/ops/int8_attention.h>

#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

constexpr int64_t kTaskRows = 192;

// The kernel's view of batch entry b and head `head` of keys; its results go to `out`.
Int8Attention view_of(const Int8Operands& o, int64_t b, int64_t head, float* out) {
  const AttentionSettings& s = o.settings;
  const int64_t group = s.heads / s.kv_heads, q_row = b * o.q.dim(1) * s.heads + head * group,
                kv_row = b * o.k.dim(1) * s.kv_heads + head;
  return {.q = o.q.data<int8_t>().data() + q_row * s.head_size,
          .k = o.k.data<int8_t>().data() + kv_row * s.head_size,
          .v = o.v.data<int8_t>().data() + kv_row * s.value_size,
          .q_scales = o.q_scales.data<float>().data() + q_row,
          .k_scales = o.k_scales.data<float>().data() + kv_row,
          .v_exponents = o.v_exponents.data<int32_t>().data() + kv_row,
          .out = out + q_row * s.value_size,
          .heads = s.heads,
          .kv_heads = s.kv_heads,
          .group = group,
          .head_size = s.head_size,
          .value_size = s.value_size,
          .scale = s.scale,
          .softcap = s.softcap,
          .q_factor = 1.0f / static_cast<float>(o.rotation),
          .slices = o.slices};
}

// Queries [from, to).
void attend(const CpuKernels& kernels, const Int8Operands& o, const Int8Attention& p, int64_t from,
            int64_t to, int64_t length) {
  thread_local std::vector<KeyRange> visible;  // kept, as scratch is
  visible.clear();
  for (int64_t t = from; t < to; ++t) {
    const auto [first, last] = visible_keys(o.settings, t, o.q.dim(1), length);
    visible.push_back({first, last});
  }
  float* scratch = thread_scratch(
      kernels.int8_attention_scratch((to - from) * p.group, p.head_size, p.value_size));
  kernels.attend_int8(p, from, to, visible.data(), scratch);
  for (int64_t t = from; t < to; ++t)
    for (int64_t g = 0; g < p.group; ++g)
      kernels.rotate_back(p.out + (t * p.heads + g) * p.value_size, p.value_size, o.value_rotation);
}

}  // namespace

Outcome run_int8_attention(const CpuBackend& backend, const Node& node,
                           std::span<const Tensor> inputs) {
  const Result<Int8Operands> operands =
      int8_operands(node, inputs, quantize_rows_fn(backend.kernels()));
  if (!operands.ok()) return not_handled();
  const Int8Operands& o = *operands;
  const AttentionSettings& s = o.settings;
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, s.output));
  float* outs = out.mutable_data<float>().data();
  const int64_t batch = o.q.dim(0), queries = o.q.dim(1), keys = o.k.dim(1);
  const int64_t most = std::max<int64_t>(1, kTaskRows / (s.heads / s.kv_heads)),
                tasks = (queries + most - 1) / most;
  parallel_for(batch * s.kv_heads * tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t task = i % tasks, head = i / tasks % s.kv_heads, b = i / tasks / s.kv_heads;
      attend(backend.kernels(), o, view_of(o, b, head, outs), queries * task / tasks,
             queries * (task + 1) / tasks, o.lengths ? o.lengths[b] : keys);
    }
  });
  return done({out});
}

}  // namespace verbatim
