// Attention of bf16 and fp16 as tensor cores compute it (docs/numerics.md, Tensor-core attention).
// A block of four warps has 64 rows, a row being one query of one head, of the heads that share a
// head of keys, and each warp 16 of them. Queries stay in shared memory; keys and values come in
// slabs, 128 keys by 64 codes, through a ring: first the slabs of a block's keys, whose products
// are its scores, then those of its values. Scores, weights and sums are in registers
// (attention_tiles.cuh).
#include <verbatim/repops/ops/tensor_core_attention.h>
#include <verbatim/kernels/cuda/few_rows_attention.cuh>
#include <verbatim/kernels/cuda/group_attention.cuh>

namespace verbatim::cuda {
namespace {

constexpr int64_t kMostInYAndZ = 65535;

struct Call : AttentionCall {
  bool float_out;  // or of the operands' type
  bool in_words;   // 16 bytes at once may be copied
  bool restarts;   // there are more keys than one part's
  // What attend_groups() says of 128 rows each: nothing is to be done where they are right.
  const uint8_t* special = nullptr;
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
  RowRanges ranges;
  WarpRows<kColumns, kThreads> rows;
  WeightSums l = {};

  __device__ TileAttention(const Call& call, int64_t first_row, int64_t column)
      : p(call),
        view(call, blockIdx.z, blockIdx.y % call.kv_heads, column, first_row),
        columns(static_cast<int>(least(kColumns, call.value_size - column))),
        key_slabs(static_cast<int>(ceiling(call.head_size, kSlabCodes))),
        queries(shared_memory<std::byte>()),
        ring(queries + key_slabs * kQueryBytes),
        totals(reinterpret_cast<float*>(ring + kStages * kSlabBytes)),
        scores(totals + (call.restarts ? kTotalBytes / sizeof(float) : 0)),
        ranges(call, view, first_row + warp_row()),
        rows(first_row + warp_row(), totals + threadIdx.x) {
    begin = range_of(p, view, first_row).begin;
    end = range_of(p, view, first_row + kRows - 1).end;
    fetch_block = begin / kBlockKeys * kBlockKeys;
  }

  // --- copies

  template <int kOf, class Row>
  __device__ void fetch_slab_of(std::byte* to, int64_t at, int64_t size, Row&& row) const {
    fetch_codes<kOf, kSlabCodes, kThreads, T>(static_cast<int>(threadIdx.x), p.in_words, to, p.q,
                                              at, size, row);
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
      mine[i * kThreads] = p.capped_score(mine[i * kThreads]);
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
      if (take_scores(
              p.score_scale(), sight.whole, [&] { return sight.seen; }, s, rows.state.m, alpha)) {
        multiply_rows(rows.state.o, alpha);
        multiply_rows(l, alpha);
      }
      round_weights<T>(s, weights);
      add_weights<Unit, T>(l, weights);
    }
#pragma unroll
    for (int slab = 0; slab < kValueSlabs; ++slab) {
      const std::byte* values = next_slab();
      using Sums = float[kSlabCodes / 2];
      if (sight.any)
        add_values(reinterpret_cast<Sums&>(rows.state.o[slab * kSlabCodes / 2]), weights, values,
                   sight);
    }
  }

  __device__ void attend() {
    fetch_queries();
    for (int s = 0; s < kStages - 1; ++s) fetch();
    for (int block = begin / kBlockKeys * kBlockKeys; block < end; block += kBlockKeys) {
      if (block % kKeyRestart == 0 && block > begin) rows.end_part(l);
      attend_block(rows.row < view.rows ? ranges.sight_of(block) : Sight{});
    }
    rows.end(l);
    wait_for_copies<0>();
  }

  __device__ void store(int64_t column) {
    share_rows(rows.state.l, rows.state.o);
    if (p.float_out)
      rows.template store_rows<float>(p, view, column, columns);
    else
      rows.template store_rows<T>(p, view, column, columns);
  }
};

template <class T, int kColumns, bool kCapped>
__global__ void __launch_bounds__((TileAttention<T, kColumns, kCapped>::kThreads), 2)
    attend_tiles(Call p) {
  using Attention = TileAttention<T, kColumns, kCapped>;
  const int64_t tile = tile_of(p), column = blockIdx.y / p.kv_heads * kColumns;
  if (p.special != nullptr &&
      p.special[(blockIdx.z * gridDim.y + blockIdx.y) * ((gridDim.x + 1) / 2) + tile / 2] == 0)
    return;
  Attention attention(p, tile * Attention::kRows, column);
  attention.attend();
  attention.store(column);
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

// --- few rows

// Whether there are keys of several blocks, to go side by side, and too few tiles of 16 rows for
// each of the device's schedulers to have a warp of TileAttention's.
constexpr int64_t kSchedulers = 4;
bool suits_few_rows(const Gpu& gpu, const Call& p, int64_t batch) {
  return p.keys > kKeyBlock &&
         ceiling(p.queries * (p.heads / p.kv_heads), kTileRows) * p.kv_heads * batch <
             kSchedulers * gpu.device().multiprocessors;
}

// So many blocks of keys, whole parts, at a time.
template <class T>
Status launch_parts(Gpu& gpu, FewRowsCall p, int64_t batch, int blocks_at_once) {
  const auto tiles = static_cast<unsigned>(ceiling(p.queries * (p.heads / p.kv_heads), kTileRows) *
                                           p.kv_heads),
             chunks = static_cast<unsigned>(ceiling(p.value_size, PartAttention<T>::kColumns));
  const auto blocks = static_cast<int>(ceiling(p.keys, kKeyBlock));
  for (; p.first_block < blocks; p.first_block += p.blocks) {
    p.blocks = static_cast<int>(least(blocks_at_once, blocks - p.first_block));
    const auto parts = static_cast<unsigned>(ceiling(p.blocks, kPartBlocks));
    VB_TRY(launch(gpu,
                  {.blocks = {static_cast<unsigned>(p.blocks), tiles, static_cast<unsigned>(batch)},
                   .threads = {kScoringThreads, 1, 1},
                   .shared_bytes = scoring_bytes(p)},
                  score_block<T>, p));
    VB_TRY(launch(gpu,
                  {.blocks = {chunks * parts, tiles, static_cast<unsigned>(batch)},
                   .threads = {PartAttention<T>::kThreads, 1, 1},
                   .shared_bytes = PartAttention<T>::shared_bytes(p)},
                  attend_part<T>, p));
  }
  if (p.parts == 1) return {};
  const Grid grid = grid_for(p.all_rows * p.value_size);
  return p.float_out ? launch(gpu, grid, merge_parts<float>, p)
                     : launch(gpu, grid, merge_parts<T>, p);
}

template <class T>
Status launch_few_rows(Gpu& gpu, const Call& call, int64_t batch) {
  FewRowsCall p{call, call.float_out, call.in_words};
  p.all_rows = batch * p.queries * p.heads;
  p.parts = static_cast<int>(ceiling(p.keys, kKeyRestart));
  // Scores of a part of as many rows as there may be, and of more keys where there are fewer rows.
  const int64_t most_rows = kSchedulers * gpu.device().multiprocessors * kTileRows,
                blocks = least(ceiling(p.keys, kKeyBlock), most_rows / p.all_rows * kPartBlocks);
  const auto scratch = [&](const Shape& shape) {
    return Tensor::allocate_on(gpu, DType::f32, shape, Purpose::scratch);
  };
  VB_ASSIGN(Tensor scores, scratch(Shape{p.all_rows, blocks, kKeyBlock}));
  VB_ASSIGN(Tensor best, scratch(Shape{p.all_rows, blocks}));
  p.scores = reinterpret_cast<float*>(scores.mutable_address());
  p.best = reinterpret_cast<float*>(best.mutable_address());
  Tensor o, ml;
  if (p.parts > 1) {
    VB_ASSIGN(o, scratch(Shape{p.parts, p.all_rows, p.value_size}));
    VB_ASSIGN(ml, scratch(Shape{p.parts, p.all_rows, 2}));
    p.part_o = reinterpret_cast<float*>(o.mutable_address());
    p.part_ml = reinterpret_cast<float*>(ml.mutable_address());
  }
  return launch_parts<T>(gpu, p, batch, static_cast<int>(blocks));
}

// Whether this is one for warp groups: of Hopper, with rows enough for two of them, and keys that
// the copy engine finds in whole blocks. k_rows: of the tensor of keys, or of values.
bool suits_groups(const Gpu& gpu, const Call& p, int64_t k_rows) {
  constexpr int64_t kMost = 1 << 30;  // places are 32-bit integers
  return gpu.device().hopper && p.in_words && p.softcap == 0 && p.head_size == p.value_size &&
         (p.head_size == 64 || p.head_size == 128) && p.queries * (p.heads / p.kv_heads) > 64 &&
         p.page_size % kKeyBlock == 0 && k_rows > 0 && k_rows < kMost &&
         p.kv_heads * p.head_size < kMost;
}

template <class T, int kSize>
Status launch_groups(Gpu& gpu, const Call& p, int64_t batch, int64_t k_rows) {
  using Attention = GroupAttention<T, kSize>;
  const int64_t row_bytes = p.kv_heads * kSize * 2, rows = p.queries * (p.heads / p.kv_heads),
                row_tiles = ceiling(rows, Attention::kRows), all_heads = p.kv_heads * batch;
  VB_ASSIGN(const TileMap keys, map_tiles(p.k, k_rows, row_bytes, kBlockKeys));
  VB_ASSIGN(const TileMap values, map_tiles(p.v, k_rows, row_bytes, kBlockKeys));
  const bool masks = p.causal || p.window > 0 || p.lengths != nullptr || p.keys % kKeyBlock != 0;
  Tensor special;
  if (masks) {
    VB_ASSIGN(special,
              Tensor::allocate_on(gpu, DType::u8, Shape{all_heads, row_tiles}, Purpose::scratch));
  }
  auto* flags = masks ? reinterpret_cast<uint8_t*>(special.mutable_address()) : nullptr;
  const Grid grid{.blocks = {static_cast<unsigned>(row_tiles * all_heads), 1, 1},
                  .threads = {Attention::kThreads, 1, 1},
                  .shared_bytes = Attention::shared_bytes(p.restarts),
                  .early = true};
  VB_TRY(launch(gpu, grid, attend_groups<T, kSize>,
                GroupAttentionCall{p, keys, values, p.float_out, p.restarts, flags,
                                   static_cast<int>(row_tiles), static_cast<int>(all_heads)}));
  if (!masks) return {};
  Call again = p;
  again.special = flags;
  return launch_tiles<T, kSize, false>(gpu, again, batch);
}

template <class T>
Status launch_type(Gpu& gpu, const Call& p, int64_t batch, int64_t k_rows) {
  if (suits_groups(gpu, p, k_rows))
    return p.head_size == 64 ? launch_groups<T, 64>(gpu, p, batch, k_rows)
                             : launch_groups<T, 128>(gpu, p, batch, k_rows);
  if (suits_few_rows(gpu, p, batch)) {
    const Status status = launch_few_rows<T>(gpu, p, batch);
    if (status.code() != StatusCode::limit) return status;  // or there is no room for it
  }
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

Call call_of_bfloat16(const AttentionCall& p) {
  return {p, true, in_words(p), p.keys > kKeyRestart};
}

}  // namespace

bool attends_by_warp_groups(const Gpu& gpu, const AttentionCall& p) {
  return suits_groups(gpu, call_of_bfloat16(p), p.keys);
}
Status attend_by_warps(Gpu& gpu, const AttentionCall& p) {
  const Call call = call_of_bfloat16(p);
  return p.value_size > 64 ? launch_tiles<BFloat16, 128, false>(gpu, call, 1)
                           : launch_tiles<BFloat16, 64, false>(gpu, call, 1);
}
Status attend_by_warp_groups(Gpu& gpu, const AttentionCall& p) {
  const Call call = call_of_bfloat16(p);
  return p.head_size == 64 ? launch_groups<BFloat16, 64>(gpu, call, 1, p.keys)
                           : launch_groups<BFloat16, 128>(gpu, call, 1, p.keys);
}

Outcome run_tensor_core_attention(Gpu& gpu, const KernelBackend& backend, const Node& node,
                                  std::span<const Tensor> inputs) {
  constexpr int64_t kMostHead = 256;
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
  const int64_t batch = s.output[0], k_rows = inputs[1].dim(0) * inputs[1].dim(1);
  VB_TRY(operands->type == DType::bf16 ? launch_type<BFloat16>(gpu, p, batch, k_rows)
                                       : launch_type<Half>(gpu, p, batch, k_rows));
  return done({out});
}

}  // namespace verbatim::cuda
