// Attention of bf16 and fp16 as tensor cores compute it (docs/numerics.md, Tensor-core attention).
// A block of four warps has 64 rows, a row being one query of one head, of the heads that share a
// head of keys, and each warp 16 of them. Queries stay in shared memory; keys and values come in
// slabs, 128 keys by 64 codes, through a ring: first the slabs of a block's keys, whose products
// are its scores, then those of its values. Scores, weights and sums are in registers
// (attention_tiles.cuh).
#include <verbatim/repops/ops/tensor_core_attention.h>
#include <verbatim/kernels/cuda/attention_tiles.cuh>

namespace verbatim::cuda {
namespace {

struct Call : AttentionCall {
  bool float_out;  // or of the operands' type
  bool in_words;   // 16 bytes at once may be copied
  bool restarts;   // there are more keys than one part's
};

template <class T, int kColumns, bool kCapped>
struct TileAttention {
  using Unit = FloatUnit<typename tensor_core::FormatOf<T>::type>;
  static constexpr int kWarps = 4, kRows = kWarps * kTileRows,
                       kThreads = kWarps * static_cast<int>(kWarp);
  static constexpr int kStages = 4, kValueSlabs = kColumns / kSlabCodes;
  static constexpr int kSlabBytes = kBlockKeys * kSlabRowBytes, kQueryBytes = kRows * kSlabRowBytes;

  static constexpr int64_t kTotalBytes = kRows * kColumns * sizeof(float),
                           kScoreBytes = kRows * kBlockKeys * sizeof(float);

  static int64_t slabs_of(int64_t head_size) { return ceiling(head_size, kSlabCodes); }
  static size_t shared_bytes(const Call& p) {
    return static_cast<size_t>(slabs_of(p.head_size) * kQueryBytes + kStages * kSlabBytes +
                               (p.restarts ? kTotalBytes : 0) + (kCapped ? kScoreBytes : 0));
  }

  const Call& p;
  const AttentionView<T> view;
  const int columns, key_slabs;
  std::byte *queries, *ring;
  // Of each thread: o of the parts before, and scores that are being capped. Thread t's i-th is
  // element i * kThreads + t.
  float *totals, *scores;
  int begin, end;  // of the keys that some row sees
  // What is fetched next: a slab of a block, and its stage; and the stage of what is used next.
  int fetch_block, fetch_slab = 0, fetch_stage = 0, stage = kStages - 1;
  RowStates<kColumns> state;
  float total_m[2], total_l[2];

  __device__ TileAttention(const Call& call, int64_t first_row, int64_t column)
      : p(call),
        view(call, blockIdx.z, blockIdx.y % call.kv_heads, column, first_row),
        columns(static_cast<int>(least(kColumns, call.value_size - column))),
        key_slabs(static_cast<int>(ceiling(call.head_size, kSlabCodes))),
        queries(shared_memory<std::byte>()),
        ring(queries + key_slabs * kQueryBytes),
        totals(reinterpret_cast<float*>(ring + kStages * kSlabBytes)),
        scores(totals + (call.restarts ? kTotalBytes / sizeof(float) : 0)) {
    begin = static_cast<int>(view.visible(p, first_row).begin);
    end = static_cast<int>(view.visible(p, least(first_row + kRows, view.rows) - 1).end);
    fetch_block = begin / kBlockKeys * kBlockKeys;
  }

  // --- copies

  // Codes [at, size) of kOf rows into a slab, zeros where there are none. row(i): where row i
  // begins, or null.
  template <int kOf, class Row>
  __device__ void fetch_slab_of(std::byte* to, int64_t at, int64_t size, Row&& row) const {
    if (p.in_words) {
      constexpr int kPieces = kSlabRowBytes / 16;
      const int piece = static_cast<int>(threadIdx.x) % kPieces;
      const bool inside = at + piece * 8 < size;
#pragma unroll
      for (int i = 0; i < kOf; i += kThreads / kPieces) {
        const int r = i + static_cast<int>(threadIdx.x) / kPieces;
        const T* from = row(r);
        const bool there = inside && from != nullptr;
        copy_later(to + slab_offset(r, piece), there ? from + at + piece * 8 : p.q, there);
      }
      return;
    }
    for (int i = static_cast<int>(threadIdx.x); i < kOf * kSlabCodes; i += kThreads) {
      const int r = i / kSlabCodes, c = i % kSlabCodes;
      const T* from = row(r);
      *reinterpret_cast<T*>(to + slab_offset(r, c / 8) + c % 8 * 2) =
          from != nullptr && at + c < size ? from[at + c] : T{0};
    }
  }
  __device__ void fetch_queries() const {
    for (int slab = 0; slab < key_slabs; ++slab)
      fetch_slab_of<kRows>(
          queries + slab * kQueryBytes, slab * kSlabCodes, p.head_size, [&](int r) -> const T* {
            const int64_t row = view.first_row + r;
            return row < view.rows ? view.q + view.head_row(p, row) * p.head_size : nullptr;
          });
  }
  __device__ void fetch() {
    if (fetch_block < end) {
      const bool of_keys = fetch_slab < key_slabs;
      const int64_t size = of_keys ? p.head_size : p.value_size,
                    at = (of_keys ? fetch_slab : fetch_slab - key_slabs) * kSlabCodes;
      fetch_slab_of<kBlockKeys>(
          ring + fetch_stage * kSlabBytes, at, of_keys ? size : columns, [&](int r) -> const T* {
            const int key = fetch_block + r;
            return key < end
                       ? (of_keys ? view.k : view.v) + view.key_row(p, key) * p.kv_heads * size
                       : nullptr;
          });
      if (++fetch_slab == key_slabs + kValueSlabs) {
        fetch_slab = 0;
        fetch_block += kBlockKeys;
      }
    }
    commit_copies();
    fetch_stage = (fetch_stage + 1) % kStages;
  }
  // The next slab, once it is there for all; another one comes in the place of the last one.
  __device__ const std::byte* next_slab() {
    wait_for_copies<kStages - 2>();
    __syncthreads();
    fetch();
    stage = (stage + 1) % kStages;
    return ring + stage * kSlabBytes;
  }

  // --- products

  __device__ static int warp_row() { return static_cast<int>(threadIdx.x / kWarp) * kTileRows; }
  // What a row sees; one that does not exist sees what the last one does.
  struct KeyRange {
    int begin, end;
  };
  __device__ KeyRange range_of(int64_t row) const {
    const Range r = view.visible(p, least(row, view.rows - 1));
    return {static_cast<int>(r.begin), static_cast<int>(r.end)};
  }

  // What the warp's rows see of a block.
  struct Sight {
    bool any, whole;
    Groups groups;
    SeenKeys seen;
  };
  __device__ static Sight sight_of(int block, const KeyRange& first, const KeyRange& last,
                                   const KeyRange (&rows)[2]) {
    const auto in_block = [&](int key) {
      return key <= block ? 0 : key - block < kBlockKeys ? key - block : kBlockKeys;
    };
    Sight s;
    const int from = in_block(first.begin), to = in_block(last.end);
    s.any = from < to;
    s.whole = in_block(last.begin) == 0 && in_block(first.end) == kBlockKeys;
    s.groups = {from / 16, (to + 15) / 16};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      s.seen.begin[h] = in_block(rows[h].begin);
      const int count = in_block(rows[h].end) - s.seen.begin[h];
      s.seen.count[h] = count < 0 ? 0 : count;
    }
    return s;
  }

  template <bool kWhole>
  __device__ void score(BlockScores& s, int slab, const std::byte* keys, const Sight& sight) const {
    const auto steps = static_cast<int>(ceiling(p.head_size - slab * kSlabCodes, 16));
    multiply_keys<Unit, kWhole>(s, queries + slab * kQueryBytes, warp_row(), keys, steps,
                                sight.groups);
  }
  // Rolled up, as the function is long.
  __device__ void cap_scores(BlockScores& s) const {
    float* mine = scores + threadIdx.x;
#pragma unroll
    for (int i = 0; i < kBlockKeys / 2; ++i) mine[i * kThreads] = s[i];
#pragma unroll 1
    for (int i = 0; i < kBlockKeys / 2; ++i)
      mine[i * kThreads] = p.scaled_score(mine[i * kThreads]);
#pragma unroll
    for (int i = 0; i < kBlockKeys / 2; ++i) s[i] = mine[i * kThreads];
  }
  __device__ void add_values(float (&o)[kSlabCodes / 2], const BlockWeights& weights,
                             const std::byte* values, const Sight& sight) const {
    if (sight.whole)
      multiply_values<Unit, Values::whole>(o, weights, values, sight.groups, sight.seen);
    else if (!has_special<T>(values))
      multiply_values<Unit, Values::some>(o, weights, values, sight.groups, sight.seen);
    else
      multiply_values<Unit, Values::apart>(o, weights, values, sight.groups, sight.seen);
  }

  __device__ void attend_block(const Sight& sight) {
    BlockScores s;
#pragma unroll
    for (float& x : s) x = 0;
    for (int slab = 0; slab < key_slabs; ++slab) {
      const std::byte* keys = next_slab();
      if (sight.whole)
        score<true>(s, slab, keys, sight);
      else if (sight.any)
        score<false>(s, slab, keys, sight);
    }
    BlockWeights weights;
    if (sight.any) {
      float alpha[2];
      if constexpr (kCapped) cap_scores(s);
      const float scale = kCapped ? 1.0f : p.log_scale;
      if (sight.whole)
        take_scores<T, true>(scale, sight.seen, s, state.m, state.l, weights, alpha);
      else
        take_scores<T, false>(scale, sight.seen, s, state.m, state.l, weights, alpha);
      multiply_rows(state.o, alpha);
    }
#pragma unroll
    for (int slab = 0; slab < kValueSlabs; ++slab) {
      const std::byte* values = next_slab();
      using Sums = float[kSlabCodes / 2];
      if (sight.any)
        add_values(reinterpret_cast<Sums&>(state.o[slab * kSlabCodes / 2]), weights, values, sight);
    }
  }

  // state = merge(total, state): of the parts before, and of one after them.
  __device__ void merge_total() {
    float alpha[2], beta[2];
    bool before[2], after[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      before[h] = total_l[h] != 0;
      after[h] = state.l[h] != 0;
      const float m = maximum_of(total_m[h], state.m[h]);
      alpha[h] = exp2p(total_m[h] - m);
      beta[h] = exp2p(state.m[h] - m);
      state.m[h] = m;
      state.l[h] = !before[h]  ? state.l[h]
                   : !after[h] ? total_l[h]
                               : fma32(state.l[h], beta[h], total_l[h] * alpha[h]);
    }
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) {
      const int h = i / 2 % 2;
      const float a = totals[i * kThreads + static_cast<int>(threadIdx.x)];
      state.o[i] = !before[h]  ? state.o[i]
                   : !after[h] ? a
                               : fma32(state.o[i], beta[h], a * alpha[h]);
    }
  }
  __device__ void keep_total() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      total_m[h] = state.m[h];
      total_l[h] = state.l[h];
    }
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i)
      totals[i * kThreads + static_cast<int>(threadIdx.x)] = state.o[i];
  }

  __device__ void attend() {
    fetch_queries();
    for (int s = 0; s < kStages - 1; ++s) fetch();
    const int64_t row = view.first_row + warp_row();
    const KeyRange first = range_of(row), last = range_of(row + kTileRows - 1),
                   rows[2] = {range_of(row + threadIdx.x % kWarp / 4),
                              range_of(row + threadIdx.x % kWarp / 4 + 8)};
    state.clear();
    bool has_total = false;
    for (int block = begin / kBlockKeys * kBlockKeys; block < end; block += kBlockKeys) {
      if (block % kKeyRestart == 0 && block > begin) {
        if (has_total) merge_total();
        keep_total();
        has_total = true;
        state.clear();
      }
      attend_block(row < view.rows ? sight_of(block, first, last, rows) : Sight{});
    }
    if (has_total) merge_total();
    wait_for_copies<0>();
  }

  template <class Out>
  __device__ void store_rows(int64_t column) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t row = view.first_row + warp_row() + threadIdx.x % kWarp / 4 + 8 * h;
      if (row >= view.rows) continue;
      Out* out = static_cast<Out*>(p.out) + view.head_row(p, row) * p.value_size + column;
#pragma unroll
      for (int j = 0; j < kColumns / 4; ++j) {
        const int i = j / 2 * 4 + 2 * h + j % 2, c = key_of(i);
        if (c < columns) out[c] = store<Out>(state.l[h] == 0 ? 0.0f : state.o[i] / state.l[h]);
      }
    }
  }
};

template <class T, int kColumns, bool kCapped>
__global__ void __launch_bounds__((TileAttention<T, kColumns, kCapped>::kThreads), 2)
    attend_tiles(Call p) {
  using Attention = TileAttention<T, kColumns, kCapped>;
  // Of causal rows the last ones have most to do: they go first.
  const int64_t tile = p.causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x,
                column = blockIdx.y / p.kv_heads * kColumns;
  Attention attention(p, tile * Attention::kRows, column);
  attention.attend();
  if (p.float_out)
    attention.template store_rows<float>(column);
  else
    attention.template store_rows<T>(column);
}

template <class T, int kColumns, bool kCapped>
Status launch_tiles(Gpu& gpu, const Call& p, int64_t batch) {
  using Attention = TileAttention<T, kColumns, kCapped>;
  const int64_t rows = p.queries * (p.heads / p.kv_heads);
  const Grid grid{.blocks = {static_cast<unsigned>(ceiling(rows, Attention::kRows)),
                             static_cast<unsigned>(p.kv_heads * ceiling(p.value_size, kColumns)),
                             static_cast<unsigned>(batch)},
                  .threads = {Attention::kThreads, 1, 1},
                  .shared_bytes = Attention::shared_bytes(p)};
  return launch(gpu, grid, attend_tiles<T, kColumns, kCapped>, p);
}

template <class T>
Status launch_type(Gpu& gpu, const Call& p, int64_t batch) {
  if (p.value_size > 64)
    return p.softcap == 0 ? launch_tiles<T, 128, false>(gpu, p, batch)
                          : launch_tiles<T, 128, true>(gpu, p, batch);
  return p.softcap == 0 ? launch_tiles<T, 64, false>(gpu, p, batch)
                        : launch_tiles<T, 64, true>(gpu, p, batch);
}

bool in_words(const AttentionCall& p) {
  const auto aligned = [](const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; };
  return p.head_size % 8 == 0 && p.value_size % 8 == 0 && aligned(p.q) && aligned(p.k) &&
         aligned(p.v);
}

}  // namespace

Outcome run_tensor_core_attention(Gpu& gpu, const KernelBackend& backend, const Node& node,
                                  std::span<const Tensor> inputs) {
  constexpr int64_t kMostHead = 256, kMostInYAndZ = 65535;
  const Result<tensor_core::AttentionOperands> operands =
      tensor_core::attention_operands(node, inputs);
  if (!operands.ok()) return not_handled();
  const AttentionSettings& s = operands->settings;
  const tensor_core::Rule rule = operands->rule, ours = tensor_core::kSm90;
  if (rule.group != ours.group || rule.fraction != ours.fraction || s.head_size > kMostHead ||
      s.output[0] > kMostInYAndZ || s.kv_heads * ceiling(s.value_size, 64) > kMostInYAndZ)
    return not_handled();
  VB_ASSIGN(Tensor out, backend.allocate(operands->output, s.output));
  if (out.elements() == 0) return done({out});
  VB_ASSIGN(const std::optional<PlacedAttention> placed,
            place_attention(gpu, s, inputs, out.mutable_address()));
  if (!placed) return not_handled();
  const Call p{placed->call, operands->output == DType::f32, in_words(placed->call),
               s.keys > kKeyRestart};
  VB_TRY(operands->type == DType::bf16 ? launch_type<BFloat16>(gpu, p, s.output[0])
                                       : launch_type<Half>(gpu, p, s.output[0]));
  return done({out});
}

}  // namespace verbatim::cuda
