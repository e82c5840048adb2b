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

Outcome run_attention(Gpu& gpu, const KernelBackend& backend, const Node& node,
                      std::span<const Tensor> inputs) {
  if (!all_of_one_type(inputs.first(3))) return not_handled();
  const Result<AttentionSettings> settings = attention_settings(node, inputs);
  if (!settings.ok()) return not_handled();
  const AttentionSettings& s = *settings;
  constexpr int64_t kMostInYAndZ = 65535;
  if (s.head_size > kProductBlock || s.output[0] > kMostInYAndZ ||
      s.kv_heads * ceiling(s.value_size, 64) > kMostInYAndZ)
    return not_handled();
  VB_ASSIGN(Tensor out, backend.allocate(inputs[0].dtype(), s.output));
  if (out.elements() == 0) return done({out});
  VB_ASSIGN(const std::optional<PlacedAttention> placed,
            place_attention(gpu, s, inputs, out.mutable_address()));
  if (!placed) return not_handled();
  const AttentionCall& p = placed->call;
  VB_TRY(visit_storage(inputs[0].dtype(), [&](auto type) {
    using T = decltype(type);
    return s.value_size > 64 ? launch_attend<T, 128>(gpu, p, s.output[0])
                             : launch_attend<T, 64>(gpu, p, s.output[0]);
  }));
  return done({out});
}

}  // namespace verbatim::cuda
