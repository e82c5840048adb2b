// Attention that leaves out blocks of keys or takes their means, and the levels that say which
// (docs/numerics.md, Sparse attention).
#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/repops/ops/sparse_attention.h>
#include <verbatim/kernels/cuda/ordered_attention.cuh>

namespace verbatim::cuda {
namespace {

using namespace ordered;

struct SparseCall {
  AttentionCall attention;
  const uint8_t* levels;  // [batch, heads, query_blocks, key_blocks]
  int64_t query_block, query_blocks, key_blocks;
  // Where a level is 1 + p, the means of 2^p keys and values, [batch, whole_keys >> p, width].
  const float *keys[kSparseLevels], *values[kSparseLevels];
  int64_t whole_keys;  // of each sequence, those of whole blocks

  __device__ int level(const AttentionView<float>& view, int64_t head, int64_t row,
                       int64_t block) const {
    const int64_t in_group = row - view.query(row) * view.group,
                  line = (head + in_group) * query_blocks + view.query(row) / query_block;
    return levels[line * key_blocks + block / kKeyBlock];
  }
};

constexpr int kUnused = -1;

// By how many powers of two row `row` takes the keys of a block together; kUnused: not at all. A
// block that is not seen whole is never taken so.
__device__ int pooling_of(const SparseCall& p, const AttentionView<float>& view, int64_t head,
                          int64_t row, int64_t block) {
  if (row >= view.rows) return kUnused;
  const int level = p.level(view, head, row, block);
  if (level <= 1) return level - 1;
  const Range seen = view.visible(p.attention, row);
  return seen.begin <= block && block + kKeyBlock <= seen.end ? level - 1 : 0;
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads) attend_sparsely(SparseCall p) {
  using Rows = OrderedRows<float, kColumns>;
  __shared__ Tile<kColumns> tile;
  __shared__ int pooling[kRows];
  const AttentionCall& call = p.attention;
  const Rows rows(call);
  const int64_t kv = blockIdx.y % call.kv_heads,
                head = blockIdx.z * call.heads + kv * rows.view.group;
  rows.attend([&](int64_t block, int64_t end, typename Rows::RowState(&running)[kI]) {
    if (threadIdx.x < kRows)
      pooling[threadIdx.x] =
          pooling_of(p, rows.view, head, rows.view.first_row + threadIdx.x, block);
    __syncthreads();
    for (int by = 0; by < kSparseLevels; ++by) {
      bool used = false;
      for (const int of_row : pooling) used = used || of_row == by;
      if (!used) continue;
      // Rows that take the block otherwise see none of these.
      const KeyTile keys = by == 0
                               ? KeyTile{block, end}
                               : KeyTile{block >> by, (block + kKeyBlock) >> by,
                                         static_cast<int>(kKeyBlock) >> by, static_cast<float>(by)};
      const auto seen_of = [&](int at, const Range& seen) {
        if (pooling[at] != by) return Range{};
        return by == 0 ? seen : Range{keys.first, keys.end};
      };
      Range seen[kI];
#pragma unroll
      for (int i = 0; i < kI; ++i)
        seen[i] = seen_of(static_cast<int>(threadIdx.x) / kSide + kSide * i, rows.seen[i]);
      AttentionView<float> from = rows.view;
      if (by > 0) {
        from.k = p.keys[by] + kv * call.head_size;
        from.v = p.values[by] + kv * call.value_size + rows.column;
        from.first_key = blockIdx.z * (p.whole_keys >> by);
      }
      rows.add_keys(tile, from, keys, seen,
                    seen_of(static_cast<int>(threadIdx.x) / kKeyLanes, rows.lane_seen), running);
    }
    __syncthreads();  // before anybody says how the next block is taken
  });
}

// Means of `size` successive rows of x [batch, rows, width], `means` of each sequence.
struct Means {
  const float* x;
  int64_t rows, width, size, means;
  float* out;  // [batch, means, width]
};

// By 1 / size, a power of two: what AttentionSparse takes in the place of keys.
__global__ void __launch_bounds__(256) pool_rows(Means p, int64_t n) {
  const float factor = 1.0f / static_cast<float>(p.size);
  each_element(n, [&](int64_t i) {
    const int64_t mean = i / p.width % p.means, b = i / p.width / p.means;
    const float* x = p.x + (b * p.rows + mean * p.size) * p.width + i % p.width;
    float sum = x[0];
    for (int64_t r = 1; r < p.size; ++r) sum = sum + x[r * p.width];
    p.out[i] = canonical(sum * factor);
  });
}

// By their count, of each head by itself: out [batch, heads, means, head_size]. Those of the last
// rows may be fewer.
__global__ void __launch_bounds__(256) average_rows(Means p, int64_t head_size, int64_t n) {
  each_element(n, [&](int64_t i) {
    const int64_t heads = p.width / head_size, at = i / head_size, mean = at % p.means,
                  head = at / p.means % heads, b = at / p.means / heads, from = mean * p.size,
                  to = least(p.rows, from + p.size);
    const float* x = p.x + b * p.rows * p.width + head * head_size + i % head_size;
    float sum = x[from * p.width];
    for (int64_t r = from + 1; r < to; ++r) sum = sum + x[r * p.width];
    p.out[i] = sum / static_cast<float>(to - from);
  });
}

const float* floats_of(const Tensor& t) { return reinterpret_cast<const float*>(t.address()); }

Result<Tensor> pool(Gpu& gpu, const Tensor& x, int by, int64_t whole_keys) {
  const int64_t means = whole_keys >> by, width = x.dim(2);
  VB_ASSIGN(Tensor out,
            Tensor::allocate_on(gpu, DType::f32, {x.dim(0), means, width}, Purpose::scratch));
  if (out.elements() == 0) return out;
  const Means p{floats_of(x),     x.dim(1), width,
                int64_t{1} << by, means,    reinterpret_cast<float*>(out.mutable_address())};
  VB_TRY(launch(gpu, grid_for(out.elements()), pool_rows, p, out.elements()));
  return out;
}

// The means of whole or begun blocks of x's rows, each head's a matrix.
Result<Tensor> averages(Gpu& gpu, const Tensor& x, int64_t size, int64_t means, int64_t heads) {
  const int64_t width = x.dim(2), head_size = width / heads;
  VB_ASSIGN(Tensor out, Tensor::allocate_on(gpu, DType::f32, {x.dim(0), heads, means, head_size},
                                            Purpose::scratch));
  if (out.elements() == 0) return out;
  const Means p{floats_of(x), x.dim(1), width,
                size,         means,    reinterpret_cast<float*>(out.mutable_address())};
  VB_TRY(launch(gpu, grid_for(out.elements()), average_rows, p, head_size, out.elements()));
  return out;
}

// Scores of each block of queries and whole block of keys: [batch * heads, query_blocks, blocks].
Result<Tensor> score_averages(Gpu& gpu, const LevelSettings& l, const Tensor& q, const Tensor& k) {
  const AttentionSettings& s = l.attention;
  const int64_t blocks = k.dim(1) / kKeyBlock, batch = q.dim(0), group = s.heads / s.kv_heads;
  VB_ASSIGN(const Tensor queries, averages(gpu, q, l.query_block, l.query_blocks, s.heads));
  VB_ASSIGN(const Tensor keys, averages(gpu, k, kKeyBlock, blocks, s.kv_heads));
  VB_ASSIGN(Tensor scores,
            Tensor::allocate_on(gpu, DType::f32, {batch * s.heads, l.query_blocks, blocks},
                                Purpose::scratch));
  std::vector<MatrixPair> pairs;
  for (int64_t i = 0; i < batch * s.heads; ++i) pairs.emplace_back(i, i / group);
  VB_TRY(multiply(gpu,
                  {.a = queries.address(),
                   .a_row = s.head_size,
                   .k = s.head_size,
                   .out = scores.mutable_address(),
                   .out_row = blocks},
                  {DType::f32, keys.address(), s.head_size, blocks, 1, s.head_size}, l.query_blocks,
                  pairs));
  return scores.on_host();
}

}  // namespace

Outcome run_sparse_attention(Gpu& gpu, const KernelBackend& backend, const Node& node,
                             std::span<const Tensor> inputs) {
  if (!all_float32(inputs.first(3))) return not_handled();
  const Result<SparseAttention> settings = sparse_attention_settings(node, inputs);
  if (!settings.ok()) return not_handled();
  const SparseAttention& s = *settings;
  if (!attends_in_order(s.attention)) return not_handled();
  VB_ASSIGN(Tensor out, backend.allocate(DType::f32, s.attention.output));
  if (out.elements() == 0) return done({out});
  VB_ASSIGN(const std::optional<PlacedAttention> placed,
            place_attention(gpu, s.attention, inputs, out.mutable_address()));
  if (!placed) return not_handled();
  VB_ASSIGN(const Tensor levels, inputs[3].copied_to(gpu));
  SparseCall call{.attention = placed->call,
                  .levels = reinterpret_cast<const uint8_t*>(levels.address()),
                  .query_block = s.query_block,
                  .query_blocks = s.query_blocks,
                  .key_blocks = s.key_blocks,
                  .keys = {},
                  .values = {},
                  .whole_keys = inputs[1].dim(1) / kKeyBlock * kKeyBlock};
  Tensors means;
  for (int by = 1; by < kSparseLevels; ++by) {
    if (!s.uses[static_cast<size_t>(by)]) continue;
    VB_ASSIGN(const Tensor keys, pool(gpu, inputs[1], by, call.whole_keys));
    VB_ASSIGN(const Tensor values, pool(gpu, inputs[2], by, call.whole_keys));
    call.keys[by] = floats_of(keys);
    call.values[by] = floats_of(values);
    means.insert(means.end(), {keys, values});
  }
  const int64_t batch = s.attention.output[0];
  if (s.attention.value_size > 64)
    VB_TRY(launch(gpu, ordered_attention_grid<128>(call.attention, batch), attend_sparsely<128>,
                  call));
  else
    VB_TRY(
        launch(gpu, ordered_attention_grid<64>(call.attention, batch), attend_sparsely<64>, call));
  return done({out});
}

Outcome run_attention_levels(Gpu& gpu, const KernelBackend&, const Node& node,
                             std::span<const Tensor> inputs) {
  if (!all_float32(inputs.first(2))) return not_handled();
  const Result<LevelSettings> settings = attention_levels_settings(node, inputs);
  if (!settings.ok()) return not_handled();
  const LevelSettings& l = *settings;
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::u8, l.output));
  if (out.elements() == 0) return done({out});
  VB_ASSIGN(const Tensor scores, score_averages(gpu, l, inputs[0], inputs[1]));
  const int64_t blocks = scores.dim(2), queries = l.attention.output[1];
  const float* const all = scores.data<float>().data();
  uint8_t* const levels = out.mutable_data<uint8_t>().data();
  parallel_for(out.elements() / l.key_blocks, 16, [&](int64_t begin, int64_t end) {
    std::vector<Sight> sights(static_cast<size_t>(l.key_blocks));
    std::vector<float> of_blocks(sights.size());
    for (int64_t i = begin; i < end; ++i) {
      const int64_t block = i % l.query_blocks, b = i / l.query_blocks / l.attention.heads;
      see_blocks(l, b, block * l.query_block, std::min(queries, (block + 1) * l.query_block),
                 sights);
      std::copy_n(all + i * blocks, blocks, of_blocks.begin());
      set_levels(l, sights, of_blocks, {levels + i * l.key_blocks, sights.size()});
    }
  });
  return done({out});
}

}  // namespace verbatim::cuda
