// Attention that leaves out blocks of keys or takes their means, and the levels that say which.
#include <verbatim/repops/ops/sparse_attention.h>

#include <algorithm>
#include <vector>

#include <verbatim/kernels/cpu/attention_tasks.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

// The means of the whole blocks of keys, of each batch entry and head of keys, as B of a product
// with queries.
struct KeyMeans {
  int64_t blocks = 0, size = 0;  // floats of one batch entry and head
  Tensor packed;
};
Result<KeyMeans> key_means(const CpuKernels& kernels, const AttentionSettings& s, const Tensor& k) {
  const int64_t keys = k.dim(1), width = s.head_size, stride = k.dim(2);
  KeyMeans means;
  means.blocks = keys / kKeyBlock;
  const int64_t panels = (means.blocks + kernels.panel - 1) / kernels.panel;
  means.size = panels * kernels.panel * width;
  VB_ASSIGN(means.packed,
            Tensor::allocate(DType::f32, {k.dim(0) * s.kv_heads, means.size}, Purpose::scratch));
  const float* rows = k.data<float>().data();
  float* packed = means.packed.mutable_data<float>().data();
  parallel_for(k.dim(0) * s.kv_heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* head = rows + i / s.kv_heads * keys * stride + i % s.kv_heads * width;
      float* mean = thread_scratch(static_cast<size_t>(means.blocks * width));
      for (int64_t j = 0; j < means.blocks; ++j)
        kernels.mean_rows(head + j * kKeyBlock * stride, stride, kKeyBlock, width,
                          mean + j * width);
      kernels.pack(DType::f32, mean, 1, width, width, means.blocks, 0, panels,
                   packed + i * means.size);
    }
  });
  return means;
}

// Scores of the means of the blocks of queries [from, to), of one head of one batch entry, into
// [to - from, key_blocks].
void score_means(const CpuKernels& kernels, const LevelSettings& l, const KeyMeans& means,
                 const Tensor& q, int64_t b, int64_t head, int64_t from, int64_t to,
                 float* scores) {
  const AttentionSettings& s = l.attention;
  const int64_t queries = q.dim(1), width = s.head_size, stride = q.dim(2),
                panels = (means.blocks + kernels.panel - 1) / kernels.panel;
  const size_t product_scratch = kernels.product_scratch(DType::f32, to - from, panels);
  float* scratch = thread_scratch(product_scratch + static_cast<size_t>((to - from) * width));
  float* mean = scratch + product_scratch;
  for (int64_t block = from; block < to; ++block) {
    const int64_t first = block * l.query_block;
    kernels.mean_rows(q.data<float>().data() + (b * queries + first) * stride + head * width,
                      stride, std::min(l.query_block, queries - first), width,
                      mean + (block - from) * width);
  }
  Product p;
  p.a = mean;
  p.a_row = width;
  p.b = means.packed.data<float>().data() +
        (b * s.kv_heads + head / (s.heads / s.kv_heads)) * means.size;
  p.n = means.blocks;
  p.k = width;
  p.out = scores;
  p.out_row = l.key_blocks;
  kernels.product(p, 0, to - from, 0, panels, scratch);
}

}  // namespace

Outcome run_attention_sparse(const CpuBackend& backend, const Node& node,
                             std::span<const Tensor> inputs) {
  const Result<SparseAttention> settings = sparse_attention_settings(node, inputs);
  if (!settings.ok()) return not_handled();
  const SparseAttention& s = *settings;
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, s.attention.output));
  Attention all;
  set_view<float>(all, s.attention, inputs[0].data<float>().data(), inputs[1].data<float>().data(),
                  inputs[2].data<float>().data(), out.mutable_data<float>().data());
  all.group = 1;  // heads have levels of their own
  for_attention_tasks(s.attention, all, s.query_block, 1, [&](Attention p, const AttentionTask& t) {
    const CpuKernels& kernels = backend.kernels();
    p.levels = s.levels +
               ((t.batch * s.attention.heads + t.head) * s.query_blocks + t.from / s.query_block) *
                   s.key_blocks;
    float* scratch = thread_scratch(kernels.attention_scratch(t.to - t.from, p.value_size, 1));
    kernels.attend(p, t.from, t.to, t.visible, scratch);
  });
  return done({out});
}

Outcome run_attention_levels(const CpuBackend& backend, const Node& node,
                             std::span<const Tensor> inputs) {
  const Result<LevelSettings> settings = attention_levels_settings(node, inputs);
  if (!settings.ok()) return not_handled();
  const LevelSettings& l = *settings;
  const AttentionSettings& s = l.attention;
  const CpuKernels& kernels = backend.kernels();
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::u8, l.output));
  VB_ASSIGN(const KeyMeans means, key_means(kernels, s, inputs[1]));
  uint8_t* levels = out.mutable_data<uint8_t>().data();
  constexpr int64_t kTaskBlocks = 32;
  const int64_t tasks = (l.query_blocks + kTaskBlocks - 1) / kTaskBlocks;
  parallel_for(s.output[0] * s.heads * tasks, 1, [&](int64_t begin, int64_t end) {
    std::vector<Sight> sights(static_cast<size_t>(l.key_blocks));
    std::vector<float> scores(static_cast<size_t>(kTaskBlocks * l.key_blocks));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t from = i % tasks * kTaskBlocks,
                    to = std::min(from + kTaskBlocks, l.query_blocks), row = i / tasks,
                    b = row / s.heads;  // row: of batch entries and heads
      score_means(kernels, l, means, inputs[0], b, row % s.heads, from, to, scores.data());
      for (int64_t block = from; block < to; ++block) {
        see_blocks(l, b, block * l.query_block, std::min((block + 1) * l.query_block, s.output[1]),
                   sights);
        set_levels(l, sights,
                   std::span(scores).subspan(static_cast<size_t>((block - from) * l.key_blocks),
                                             sights.size()),
                   {levels + (row * l.query_blocks + block) * l.key_blocks, sights.size()});
      }
    }
  });
  return done({out});
}

}  // namespace verbatim
