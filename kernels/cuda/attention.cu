// Ordered attention in binary32 (docs/numerics.md, Attention, family A). A block of threads has
// kRows rows, a row being one query of one head, of the heads that share a head of keys, and goes
// through the keys in blocks of 128: scores, their weights, the weighted sum of values, and the
// merge with the state of the keys before. Every score and every sum is one chain of one thread.
#include <verbatim/kernels/cuda/attention.cuh>

namespace verbatim::cuda {
namespace {

constexpr int kSide = 16, kThreads = kSide * kSide;
constexpr int kRows = 32, kI = kRows / kSide;
constexpr int kJ = static_cast<int>(kKeyBlock) / kSide;  // keys of a thread
constexpr int kDepth = 16;                               // elements of q and k, or keys, of a step
static_assert(kThreads == kRows * kKeyLanes);

// The state of a row's keys so far; kC outputs of it are this thread's.
template <int kC>
struct State {
  bool empty = true;
  float m = 0, l = 0, o[kC];
};

template <int kC>
__device__ void merge_into(State<kC>& a, const State<kC>& b) {
  if (b.empty) return;
  if (a.empty) {
    a = b;
    return;
  }
  const float m = maximum(a.m, b.m);
  const float alpha = unary::f32::exp2(a.m - m), beta = unary::f32::exp2(b.m - m);
  a.m = m;
  a.l = fma32(b.l, beta, a.l * alpha);
#pragma unroll
  for (int j = 0; j < kC; ++j) a.o[j] = fma32(b.o[j], beta, a.o[j] * alpha);
}

template <int kColumns>
struct Tile {
  float q[kDepth][kRows + 1], k[kDepth][kKeyBlock + 1], v[kDepth][kColumns + 1];
  float weight[kRows][kKeyBlock + 1];
  float l[kRows];
};

// s[i][j] = q of row y + 16 i . k of key block + x + 16 j.
template <class T, class Tile>
__device__ void score(const AttentionCall& p, const AttentionView<T>& view, Tile& tile,
                      int64_t block, int64_t end, float (&s)[kI][kJ]) {
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
#pragma unroll
  for (int i = 0; i < kI; ++i)
#pragma unroll
    for (int j = 0; j < kJ; ++j) s[i][j] = 0;
  for (int64_t d = 0; d < p.head_size; d += kDepth) {
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kDepth; i += kThreads) {
      const int64_t row = view.first_row + i / kDepth, at = d + i % kDepth;
      tile.q[i % kDepth][i / kDepth] = row < view.rows && at < p.head_size
                                           ? load(view.q[view.head_row(p, row) * p.head_size + at])
                                           : 0.0f;
    }
    for (int i = static_cast<int>(threadIdx.x); i < kKeyBlock * kDepth; i += kThreads) {
      const int64_t key = block + i / kDepth, at = d + i % kDepth;
      tile.k[i % kDepth][i / kDepth] =
          key < end && at < p.head_size
              ? load(view.k[view.key_row(p, key) * p.kv_heads * p.head_size + at])
              : 0.0f;
    }
    __syncthreads();
    const int steps = static_cast<int>(least(kDepth, p.head_size - d));
    for (int step = 0; step < steps; ++step) {
      float right[kJ];
#pragma unroll
      for (int j = 0; j < kJ; ++j) right[j] = tile.k[step][x + kSide * j];
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        const float left = tile.q[step][y + kSide * i];
#pragma unroll
        for (int j = 0; j < kJ; ++j) s[i][j] = fma32(left, right[j], s[i][j]);
      }
    }
    __syncthreads();
  }
}

// Weights of the block's keys into tile.weight, their sums into tile.l; the greatest score of each
// of the thread's rows into m. All 16 threads of a row have the same.
template <class Tile>
__device__ void weigh(const AttentionCall& p, Tile& tile, int64_t block, const Range (&seen)[kI],
                      const Range& lane_seen, float (&s)[kI][kJ], float (&m)[kI]) {
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
#pragma unroll
  for (int i = 0; i < kI; ++i) {
    m[i] = float_of(0xFF800000);
#pragma unroll
    for (int j = 0; j < kJ; ++j) {
      s[i][j] = p.scaled_score(s[i][j]);
      if (seen[i].has(block + x + kSide * j)) m[i] = maximum(m[i], s[i][j]);
    }
    for (int lane = 1; lane < kSide; lane *= 2)
      m[i] = maximum(m[i], __shfl_xor_sync(~0u, m[i], lane));
#pragma unroll
    for (int j = 0; j < kJ; ++j)
      tile.weight[y + kSide * i][x + kSide * j] = unary::f32::exp2(s[i][j] - m[i]);
  }
  __syncthreads();
  const int row = static_cast<int>(threadIdx.x) / kKeyLanes,
            lane = static_cast<int>(threadIdx.x) % kKeyLanes;
  float sum = 0;
  for (int key = lane; key < kKeyBlock; key += kKeyLanes)
    if (lane_seen.has(block + key)) sum = sum + tile.weight[row][key];
  for (int other = 1; other < kKeyLanes; other *= 2) sum = sum + __shfl_xor_sync(~0u, sum, other);
  if (lane == 0) tile.l[row] = sum;
}

// o[i][c] = the weighted sum of the visible keys' values, of row y + 16 i and column x + 16 c.
template <class T, int kColumns>
__device__ void add_values(const AttentionCall& p, const AttentionView<T>& view,
                           Tile<kColumns>& tile, int64_t block, int64_t end, int64_t columns,
                           const Range (&seen)[kI], State<kColumns / kSide> (&state)[kI]) {
  constexpr int kC = kColumns / kSide;
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
#pragma unroll
  for (int i = 0; i < kI; ++i)
#pragma unroll
    for (int c = 0; c < kC; ++c) state[i].o[c] = 0;
  for (int first = 0; first < kKeyBlock && block + first < end; first += kDepth) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kColumns * kDepth; i += kThreads) {
      const int64_t key = block + first + i / kColumns;
      tile.v[i / kColumns][i % kColumns] =
          key < end && i % kColumns < columns
              ? load(view.v[view.key_row(p, key) * p.kv_heads * p.value_size + i % kColumns])
              : 0.0f;
    }
    __syncthreads();
    for (int step = 0; step < kDepth; ++step) {
      const int64_t key = block + first + step;
      float right[kC];
#pragma unroll
      for (int c = 0; c < kC; ++c) right[c] = tile.v[step][x + kSide * c];
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        if (!seen[i].has(key)) continue;
        const float w = tile.weight[y + kSide * i][first + step];
#pragma unroll
        for (int c = 0; c < kC; ++c) state[i].o[c] = fma32(w, right[c], state[i].o[c]);
      }
    }
  }
}

template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads) attend(AttentionCall p) {
  constexpr int kC = kColumns / kSide;
  __shared__ Tile<kColumns> tile;
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
  const int64_t column = blockIdx.y / p.kv_heads * kColumns,
                columns = least(kColumns, p.value_size - column);
  const AttentionView<T> view(p, blockIdx.z, blockIdx.y % p.kv_heads, column,
                              int64_t{blockIdx.x} * kRows);
  Range seen[kI];
#pragma unroll
  for (int i = 0; i < kI; ++i) seen[i] = view.visible(p, view.first_row + y + kSide * i);
  const Range lane_seen = view.visible(p, view.first_row + threadIdx.x / kKeyLanes);
  // Neither end decreases from row to row.
  const int64_t last_row = least(view.first_row + kRows, view.rows) - 1,
                begin = view.visible(p, view.first_row).begin, end = view.visible(p, last_row).end;

  State<kC> total[kI];
  for (int64_t part = begin / kKeyRestart * kKeyRestart; part < end; part += kKeyRestart) {
    State<kC> running[kI];
    const int64_t part_end = least(part + kKeyRestart, end);
    const int64_t first = begin > part ? begin / kKeyBlock * kKeyBlock : part;
    for (int64_t block = first; block < part_end; block += kKeyBlock) {
      float s[kI][kJ], m[kI];
      State<kC> state[kI];
      score(p, view, tile, block, end, s);
      weigh(p, tile, block, seen, lane_seen, s, m);
      add_values(p, view, tile, block, end, columns, seen, state);
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        state[i].empty = seen[i].begin >= block + kKeyBlock || seen[i].end <= block ||
                         seen[i].begin >= seen[i].end;
        state[i].m = m[i];
        state[i].l = tile.l[y + kSide * i];
        merge_into(running[i], state[i]);
      }
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < kI; ++i) merge_into(total[i], running[i]);
  }
#pragma unroll
  for (int i = 0; i < kI; ++i) {
    const int64_t row = view.first_row + y + kSide * i;
    if (row >= view.rows) continue;
    T* out = static_cast<T*>(p.out) + view.head_row(p, row) * p.value_size + column;
    if (p.m != nullptr && x == 0 && column == 0) {
      p.m[view.head_row(p, row)] = total[i].m;
      p.l[view.head_row(p, row)] = total[i].l;
    }
#pragma unroll
    for (int c = 0; c < kC; ++c)
      if (x + kSide * c < columns)
        out[x + kSide * c] = store<T>(total[i].empty ? 0.0f : total[i].o[c] / total[i].l);
  }
}

template <class T, int kColumns>
Status launch_attend(Gpu& gpu, const AttentionCall& p, int64_t batch) {
  const int64_t rows = p.queries * (p.heads / p.kv_heads);
  const Grid grid{.blocks = {static_cast<unsigned>(ceiling(rows, kRows)),
                             static_cast<unsigned>(p.kv_heads * ceiling(p.value_size, kColumns)),
                             static_cast<unsigned>(batch)},
                  .threads = {kThreads, 1, 1}};
  return launch(gpu, grid, attend<T, kColumns>, p);
}

// Undefined where there are none.
Result<Tensor> upload_some(Gpu& gpu, const int64_t* values, int64_t count) {
  if (values == nullptr || count == 0) return Tensor();
  return upload(gpu, std::span(values, static_cast<size_t>(count)));
}

}  // namespace

Result<std::optional<PlacedAttention>> place_attention(Gpu& gpu, const AttentionSettings& s,
                                                       std::span<const Tensor> inputs, void* out) {
  constexpr int64_t kMost = int64_t{1} << 30;  // a block beyond the last key is still a number
  if (s.keys >= kMost || s.page_size >= kMost || s.output[1] * (s.heads / s.kv_heads) >= kMost)
    return std::optional<PlacedAttention>();
  VB_ASSIGN(Tensor lengths, upload_some(gpu, s.lengths, s.output[0]));
  VB_ASSIGN(Tensor table, upload_some(gpu, s.table, s.output[0] * s.pages));
  const AttentionCall call{.q = inputs[0].address(),
                           .k = inputs[1].address(),
                           .v = inputs[2].address(),
                           .out = out,
                           .queries = s.output[1],
                           .heads = s.heads,
                           .kv_heads = s.kv_heads,
                           .head_size = s.head_size,
                           .value_size = s.value_size,
                           .keys = s.keys,
                           .lengths = reinterpret_cast<const int64_t*>(lengths.address()),
                           .table = reinterpret_cast<const int64_t*>(table.address()),
                           .pages = s.pages,
                           .page_size = s.page_size,
                           .window = s.window,
                           .scale = s.scale,
                           .softcap = s.softcap,
                           .log_scale = s.scale * float_of(kLog2E),
                           .causal = s.causal};
  return std::optional(PlacedAttention{call, std::move(lengths), std::move(table)});
}

namespace {

constexpr int64_t kMostInYAndZ = 65535;

// Whether attend() takes it.
bool attends(const AttentionSettings& s) {
  return s.head_size <= kProductBlock && s.output[0] <= kMostInYAndZ &&
         s.kv_heads * ceiling(s.value_size, 64) <= kMostInYAndZ;
}

Status attend_all(Gpu& gpu, const AttentionCall& p, DType type, int64_t batch) {
  return visit_storage(type, [&](auto element) {
    using T = decltype(element);
    return p.value_size > 64 ? launch_attend<T, 128>(gpu, p, batch)
                             : launch_attend<T, 64>(gpu, p, batch);
  });
}

}  // namespace

Outcome run_attention(Gpu& gpu, const KernelBackend& backend, const Node& node,
                      std::span<const Tensor> inputs) {
  if (!all_of_one_type(inputs.first(3))) return not_handled();
  const Result<AttentionSettings> settings = attention_settings(node, inputs);
  if (!settings.ok()) return not_handled();
  const AttentionSettings& s = *settings;
  if (!attends(s)) return not_handled();
  VB_ASSIGN(Tensor out, backend.allocate(inputs[0].dtype(), s.output));
  if (out.elements() == 0) return done({out});
  VB_ASSIGN(const std::optional<PlacedAttention> placed,
            place_attention(gpu, s, inputs, out.mutable_address()));
  if (!placed) return not_handled();
  VB_TRY(attend_all(gpu, placed->call, inputs[0].dtype(), s.output[0]));
  return done({out});
}

// --- the gradient (docs/numerics.md, Training), of binary32: head by head, the scores of all keys
// and the products of g with all values as ordered products, then each key's weights, then the
// sums.
namespace {

constexpr int64_t kQueryBlock = 128;  // of a key's sums (attention_gradient.cc)

// One head of one batch entry.
struct HeadGradient {
  AttentionCall p;
  int64_t batch, head;
  const float *g, *output;   // output: of attention
  float *scores, *products;  // [queries, keys]; in the end the weights, and the scores' gradients
  float *d, *dq, *dk, *dv;   // d: g . output of each row

  __device__ int64_t kv() const { return head / (p.heads / p.kv_heads); }
  __device__ int64_t row(int64_t query) const {
    return (batch * p.queries + query) * p.heads + head;
  }
  __device__ int64_t key(int64_t i) const { return (batch * p.keys + i) * p.kv_heads + kv(); }
  __device__ Range visible(int64_t query) const {
    const auto [begin, end] = visible_range(p.causal, p.window, query, p.queries,
                                            p.lengths == nullptr ? p.keys : p.lengths[batch]);
    return {begin, end};
  }
  __device__ const float* q(int64_t query) const {
    return static_cast<const float*>(p.q) + row(query) * p.head_size;
  }
};

__global__ void __launch_bounds__(128) multiply_outputs(HeadGradient h) {
  each_element(h.p.queries, [&](int64_t query) {
    const int64_t at = h.row(query) * h.p.value_size;
    float total = 0;
    for (int64_t begin = 0; begin < h.p.value_size; begin += kProductBlock) {
      float acc = 0;
      for (int64_t j = begin; j < least(begin + kProductBlock, h.p.value_size); ++j)
        acc = fma32(h.g[at + j], h.output[at + j], acc);
      total = begin == 0 ? acc : total + acc;
    }
    h.d[query] = total;
  });
}

__global__ void __launch_bounds__(256) weigh_keys(HeadGradient h) {
  each_element(h.p.queries * h.p.keys, [&](int64_t i) {
    const int64_t query = i / h.p.keys, row = h.row(query);
    if (!h.visible(query).has(i % h.p.keys)) return;
    const float score = h.scores[i],
                weight = unary::f32::exp2(h.p.scaled_score(score) - h.p.m[row]) / h.p.l[row];
    const float e = weight * (h.products[i] - h.d[query]);
    float slope = e * h.p.scale;
    if (h.p.softcap != 0) {
      const float t = unary::f32::tanh(score * h.p.scale / h.p.softcap);
      slope = slope * (1.0f - t * t);
    }
    h.scores[i] = weight;
    h.products[i] = slope;
  });
}

// A block of threads for each query: blocks of 128 keys, in each a chain.
__global__ void __launch_bounds__(128) sum_over_keys(HeadGradient h) {
  const auto* keys = static_cast<const float*>(h.p.k);
  for (int64_t query = blockIdx.x; query < h.p.queries; query += gridDim.x) {
    const Range seen = h.visible(query);
    const float* slopes = h.products + query * h.p.keys;
    for (int64_t c = threadIdx.x; c < h.p.head_size; c += blockDim.x) {
      float total = 0;
      bool first = true;
      for (int64_t i = seen.begin; i < seen.end; first = false) {
        const int64_t end = least(seen.end, (i / kKeyBlock + 1) * kKeyBlock);
        float acc = 0;
        for (; i < end; ++i) acc = fma32(slopes[i], keys[h.key(i) * h.p.head_size + c], acc);
        total = first ? acc : total + acc;
      }
      h.dq[h.row(query) * h.p.head_size + c] = canonical(total);
    }
  }
}

// A block of threads for each key: blocks of 128 queries, in each a chain over those that see it.
// The first head of a group starts the sums, the others go on with them.
__global__ void __launch_bounds__(128) sum_over_queries(HeadGradient h) {
  const bool starts = h.head % (h.p.heads / h.p.kv_heads) == 0;
  const auto add = [&](int64_t key, const float* weights, auto&& factor, float* sum) {
    float total = starts ? 0 : *sum;
    bool first = starts;
    for (int64_t begin = 0; begin < h.p.queries; begin += kQueryBlock) {
      float acc = 0;
      bool seen = false;
      for (int64_t query = begin; query < least(begin + kQueryBlock, h.p.queries); ++query) {
        if (!h.visible(query).has(key)) continue;
        seen = true;
        acc = fma32(weights[query * h.p.keys + key], factor(query), acc);
      }
      if (!seen) continue;
      total = first ? acc : total + acc;
      first = false;
    }
    *sum = total;
  };
  for (int64_t key = blockIdx.x; key < h.p.keys; key += gridDim.x) {
    for (int64_t c = threadIdx.x; c < h.p.head_size; c += blockDim.x)
      add(
          key, h.products, [&](int64_t query) { return h.q(query)[c]; },
          h.dk + h.key(key) * h.p.head_size + c);
    for (int64_t c = threadIdx.x; c < h.p.value_size; c += blockDim.x)
      add(
          key, h.scores, [&](int64_t query) { return h.g[h.row(query) * h.p.value_size + c]; },
          h.dv + h.key(key) * h.p.value_size + c);
  }
}

__global__ void __launch_bounds__(256) make_canonical(float* x, int64_t n) {
  each_element(n, [&](int64_t i) { x[i] = canonical(x[i]); });
}

// out [queries, keys] = rows of a, `size` elements each, by rows of b.
Status multiply_rows(Gpu& gpu, const HeadGradient& h, const float* a, const float* b, int64_t size,
                     float* out) {
  const AttentionCall& p = h.p;
  const int64_t kv = h.head / (p.heads / p.kv_heads);
  const MatrixView keys{
      DType::f32,
      reinterpret_cast<const std::byte*>(b + (h.batch * p.keys * p.kv_heads + kv) * size),
      size,
      p.keys,
      1,
      p.kv_heads * size};
  constexpr MatrixPair kPair[] = {{0, 0}};
  return multiply(gpu,
                  {.a = a + (h.batch * p.queries * p.heads + h.head) * size,
                   .a_row = p.heads * size,
                   .out = out},
                  keys, p.queries, kPair);
}

Status differentiate_head(Gpu& gpu, const HeadGradient& h) {
  const AttentionCall& p = h.p;
  const auto blocks = [](int64_t n) {
    return Grid{.blocks = {static_cast<unsigned>(least(n, kMostBlocks)), 1, 1},
                .threads = {128, 1, 1}};
  };
  VB_TRY(multiply_rows(gpu, h, static_cast<const float*>(p.q), static_cast<const float*>(p.k),
                       p.head_size, h.scores));
  VB_TRY(multiply_rows(gpu, h, h.g, static_cast<const float*>(p.v), p.value_size, h.products));
  VB_TRY(launch(gpu, grid_for(p.queries, 128), multiply_outputs, h));
  VB_TRY(launch(gpu, grid_for(p.queries * p.keys), weigh_keys, h));
  VB_TRY(launch(gpu, blocks(p.queries), sum_over_keys, h));
  return launch(gpu, blocks(p.keys), sum_over_queries, h);
}

}  // namespace

Outcome run_attention_gradient(Gpu& gpu, const KernelBackend& backend, const Node& node,
                               std::span<const Tensor> inputs) {
  const std::span<const Tensor> operands = inputs.subspan(1);
  const Tensor &g = inputs[0], &q = inputs[1], &k = inputs[2], &v = inputs[3];
  if (!all_float32(inputs.first(4))) return not_handled();
  const Result<AttentionSettings> settings = attention_settings(node, operands);
  if (!settings.ok() || !(g.shape() == settings->output)) return not_handled();
  const AttentionSettings& s = *settings;
  // Launches are by heads, and chains go through all queries or keys.
  constexpr int64_t kMostHeads = 1 << 13, kMostLength = 1 << 17;
  if (!attends(s) || g.elements() == 0 || k.elements() == 0 || q.elements() == 0 || s.pages > 0 ||
      s.output[0] * s.heads > kMostHeads || s.output[1] > kMostLength || s.keys > kMostLength)
    return not_handled();
  const auto scratch = [&](std::initializer_list<int64_t> dims) -> Result<Tensor> {
    VB_ASSIGN(const Shape shape, Shape::of({dims.begin(), dims.size()}));
    return backend.allocate(DType::f32, shape, Purpose::scratch);
  };
  const int64_t batch = s.output[0], queries = s.output[1], rows = batch * queries * s.heads;
  VB_ASSIGN(Tensor output, scratch({rows, s.value_size}));
  VB_ASSIGN(Tensor sums, scratch({2, rows}));
  VB_ASSIGN(Tensor of_head, scratch({2 * s.keys + 1, queries}));
  VB_ASSIGN(Tensor dq, backend.allocate(DType::f32, q.shape()));
  VB_ASSIGN(Tensor dk, backend.allocate(DType::f32, k.shape()));
  VB_ASSIGN(Tensor dv, backend.allocate(DType::f32, v.shape()));
  VB_ASSIGN(std::optional<PlacedAttention> placed,
            place_attention(gpu, s, operands, output.mutable_address()));
  if (!placed) return not_handled();
  const auto floats = [](Tensor& t) { return reinterpret_cast<float*>(t.mutable_address()); };
  placed->call.m = floats(sums);
  placed->call.l = floats(sums) + rows;
  VB_TRY(attend_all(gpu, placed->call, DType::f32, batch));
  HeadGradient h{.p = placed->call,
                 .batch = 0,
                 .head = 0,
                 .g = reinterpret_cast<const float*>(g.address()),
                 .output = floats(output),
                 .scores = floats(of_head),
                 .products = floats(of_head) + queries * s.keys,
                 .d = floats(of_head) + 2 * queries * s.keys,
                 .dq = floats(dq),
                 .dk = floats(dk),
                 .dv = floats(dv)};
  for (h.batch = 0; h.batch < batch; ++h.batch)
    for (h.head = 0; h.head < s.heads; ++h.head) VB_TRY(differentiate_head(gpu, h));
  VB_TRY(launch(gpu, grid_for(dk.elements()), make_canonical, floats(dk), dk.elements()));
  VB_TRY(launch(gpu, grid_for(dv.elements()), make_canonical, floats(dv), dv.elements()));
  return done({dq, dk, dv});
}

}  // namespace verbatim::cuda
