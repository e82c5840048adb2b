// Attention of few rows, as of decoded tokens, on tensor cores (docs/numerics.md, Tensor-core
// attention). Of what is done for a row only two things are chains over the keys, and both are
// short: m, and o with l, which is one more column of it. So there are two kernels. The first one
// has a block of threads for each 128 keys: scores, and the greatest of them. The second one has
// one for each part of 2048 keys and 16 columns of values; m of each block is all it has to know of
// the keys before, so that some of its warps make weights of scores, and one goes on with o and l,
// a block of keys behind. A third one merges parts, where there are several.
#pragma once

#include <verbatim/repops/ops/tensor_core.h>
#include <verbatim/kernels/cuda/attention_tiles.cuh>

namespace verbatim::cuda {

inline constexpr int kPartKeys = static_cast<int>(kKeyRestart),
                     kPartBlocks = kPartKeys / kBlockKeys;

struct FewRowsCall : AttentionCall {
  bool float_out, in_words;  // as of every call
  int64_t all_rows = 0;      // those of the results
  int parts = 1;
  // Which blocks of keys are being worked on, first_block the first one of a part; their scores,
  // capped, [all_rows, blocks, 128], and of each block the greatest x that the row sees.
  int first_block = 0, blocks = 0;
  float *scores = nullptr, *best = nullptr;
  // Where there are several parts, their states: o [parts, all_rows, value_size], and m and l
  // [parts, all_rows, 2].
  float *part_o = nullptr, *part_ml = nullptr;
};

// The 16 rows of a block of threads.
template <class T>
__device__ AttentionView<T> view_of(const FewRowsCall& p, int64_t column) {
  const auto kv_heads = static_cast<unsigned>(p.kv_heads);
  return {p, blockIdx.z, blockIdx.y % kv_heads, column, int64_t{blockIdx.y / kv_heads} * kTileRows};
}
// What some row of them sees.
template <class T>
__device__ KeyRange range_of_tile(const FewRowsCall& p, const AttentionView<T>& view) {
  return {range_of(p, view, view.first_row).begin,
          range_of(p, view, view.first_row + kTileRows - 1).end};
}

// --- scores

inline constexpr int kScoringWarps = 8, kScoringThreads = kScoringWarps * static_cast<int>(kWarp);
inline constexpr int kScoreRow = kBlockKeys + 8;  // floats, so that rows do not meet in a bank

inline size_t scoring_bytes(const AttentionCall& p) {
  return static_cast<size_t>(ceiling(p.head_size, kSlabCodes) * (kTileRows + kBlockKeys) *
                                 kSlabRowBytes +
                             kTileRows * kScoreRow * int64_t{sizeof(float)});
}

// The products of the tile's rows and the keys of a block, by warps of 16 keys each, to
// tile[kTileRows][kScoreRow].
template <class T>
__device__ void multiply_block(const FewRowsCall& p, const AttentionView<T>& view, int block,
                               int end, std::byte* slabs, float* tile) {
  using Unit = FloatUnit<typename tensor_core::FormatOf<T>::type>;
  constexpr int kQueryBytes = kTileRows * kSlabRowBytes, kKeyBytes = kBlockKeys * kSlabRowBytes,
                kKeys = kBlockKeys / kScoringWarps;
  const int count = static_cast<int>(ceiling(p.head_size, kSlabCodes)),
            t = static_cast<int>(threadIdx.x), warp = t / static_cast<int>(kWarp);
  std::byte* keys = slabs + count * kQueryBytes;
  for (int slab = 0; slab < count; ++slab) {
    fetch_codes<kBlockKeys, kSlabCodes, kScoringThreads, T>(
        t, p.in_words, keys + slab * kKeyBytes, p.q, slab * kSlabCodes, p.head_size,
        [&](int r) -> const T* {
          return block + r < end ? view.k + view.key_row(p, block + r) * p.kv_heads * p.head_size
                                 : nullptr;
        });
    fetch_codes<kTileRows, kSlabCodes, kScoringThreads, T>(
        t, p.in_words, slabs + slab * kQueryBytes, p.q, slab * kSlabCodes, p.head_size,
        [&](int r) -> const T* {
          const int64_t row = view.first_row + r;
          return row < view.rows ? view.q + view.head_row(p, row) * p.head_size : nullptr;
        });
  }
  commit_copies();
  wait_for_copies<0>();
  __syncthreads();
  float s[kKeys / 2] = {};
  for (int slab = 0; slab < count; ++slab)
    multiply_keys<Unit, true>(s, slabs + slab * kQueryBytes, 0,
                              keys + slab * kKeyBytes + warp * kKeys * kSlabRowBytes,
                              static_cast<int>(ceiling(p.head_size - slab * kSlabCodes, 16)), {});
  const int row = t % static_cast<int>(kWarp) / 4;
#pragma unroll
  for (int i = 0; i < kKeys / 2; ++i)
    tile[(row + i / 2 % 2 * 8) * kScoreRow + warp * kKeys + key_of(i)] = s[i];
  __syncthreads();
}

template <class T>
__global__ void __launch_bounds__(kScoringThreads) score_block(FewRowsCall p) {
  const AttentionView<T> view = view_of<T>(p, 0);
  const KeyRange some = range_of_tile(p, view);
  const int block = (p.first_block + static_cast<int>(blockIdx.x)) * kBlockKeys;
  if (some.end_in(block) <= some.begin_in(block)) return;
  auto* tile = shared_memory<float>();
  multiply_block(p, view, block, some.end,
                 reinterpret_cast<std::byte*>(tile + kTileRows * kScoreRow), tile);
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  for (int r = static_cast<int>(threadIdx.x / kWarp);
       r < kTileRows && view.first_row + r < view.rows; r += kScoringWarps) {
    const int64_t row = view.first_row + r, at = view.head_row(p, row) * p.blocks + blockIdx.x;
    const KeyRange seen = range_of(p, view, row);
    float best = kUnseen;
#pragma unroll 1  // the softcap's code is long
    for (int key = lane; key < kBlockKeys; key += static_cast<int>(kWarp)) {
      const float product = tile[r * kScoreRow + key],
                  score = p.softcap == 0 ? product : p.capped_score(product);
      p.scores[at * kBlockKeys + key] = score;
      if (seen.has(block + key)) best = maximum_of(best, grid_score(score, p.score_scale()));
    }
    for (int other = 1; other < static_cast<int>(kWarp); other *= 2)
      best = maximum_of(best, __shfl_xor_sync(~0u, best, other));
    if (lane == 0) p.best[at] = best;
  }
}

// --- weights and sums

// A part's 16 rows and up to 16 columns of its values.
template <class T>
struct PartAttention {
  using Unit = FloatUnit<typename tensor_core::FormatOf<T>::type>;
  static constexpr int kColumns = 16, kLanes = static_cast<int>(kWarp);
  // Warps: the first one goes on with o and l, the others make weights and fetch.
  static constexpr int kWeighing = 4 * kLanes, kRowThreads = kWeighing / kTileRows,
                       kThreads = kLanes + kWeighing;
  static constexpr int kStages = 6;  // blocks of values, and of scores
  static constexpr int kValueBytes = kBlockKeys * kColumns * 2,
                       kWeightSlab = kTileRows * kSlabRowBytes,
                       kWeightBytes = kBlockKeys / kSlabCodes * kWeightSlab;
  static constexpr int kScoreBytes = kBlockKeys * int{sizeof(float)};  // of a row

  // Of each block and each row, and of each row.
  struct Tables {
    float m[kPartBlocks][kTileRows], alpha[kPartBlocks][kTileRows];
    KeyRange seen[kTileRows];
    int64_t place[kTileRows];  // of the first block's, among those of all rows
  };
  static size_t shared_bytes(const FewRowsCall& p) {
    const int64_t rows = least(kTileRows, p.queries * (p.heads / p.kv_heads));
    return sizeof(Tables) + 2 * kWeightBytes +
           kStages * static_cast<size_t>(kValueBytes + rows * kScoreBytes);
  }

  const FewRowsCall& p;
  const int part;
  const int64_t column;
  const AttentionView<T> view;
  const int columns, rows;  // that there are
  int first, end;           // keys: the first one of a block, and the end of what rows see
  int blocks;
  Tables& tables;
  std::byte *weights, *values, *scores;  // two blocks of weights, and kStages of the others

  __device__ PartAttention(const FewRowsCall& call, int chunks)
      : p(call),
        part(call.first_block / kPartBlocks + static_cast<int>(blockIdx.x) / chunks),
        column(int64_t{static_cast<int>(blockIdx.x) % chunks} * kColumns),
        view(view_of<T>(call, column)),
        columns(static_cast<int>(least(kColumns, call.value_size - column))),
        rows(static_cast<int>(least(kTileRows, view.rows - view.first_row))),
        tables(*shared_memory<Tables>()),
        weights(shared_memory<std::byte>() + sizeof(Tables)),
        values(weights + 2 * kWeightBytes),
        scores(values + kStages * kValueBytes) {
    const KeyRange some = range_of_tile(p, view);
    const int begin = some.begin > part * kPartKeys ? some.begin : part * kPartKeys;
    end = some.end < (part + 1) * kPartKeys ? some.end : (part + 1) * kPartKeys;
    first = begin / kBlockKeys * kBlockKeys;
    blocks = begin < end ? static_cast<int>(ceiling(end - first, kBlockKeys)) : 0;
  }

  __device__ const float* scores_of(int i) const {
    return reinterpret_cast<const float*>(scores + i % kStages * rows * kScoreBytes);
  }
  // Of a row's weight of a key, in two slabs.
  __device__ static int weight_offset(int row, int key) {
    return key / kSlabCodes * kWeightSlab + slab_offset(row, key % kSlabCodes / 8) + key % 8 * 2;
  }

  // --- what comes from memory

  __device__ void fetch(int i, int thread) const {
    if (i < blocks) {
      const int block = first + i * kBlockKeys;
      fetch_codes<kBlockKeys, kColumns, kWeighing, T>(
          thread, p.in_words, values + i % kStages * kValueBytes, p.q, 0, columns,
          [&](int r) -> const T* {
            return block + r < end ? view.v + view.key_row(p, block + r) * p.kv_heads * p.value_size
                                   : nullptr;
          });
      constexpr int kPieces = kScoreBytes / 16;
      std::byte* to = scores + i % kStages * rows * kScoreBytes;
#pragma unroll 1
      for (int j = thread; j < rows * kPieces; j += kWeighing)
        copy_later(to + j * 16,
                   p.scores + (tables.place[j / kPieces] + i) * kBlockKeys + j % kPieces * 4, true);
    }
    commit_copies();
  }
  // Eight threads a row.
  __device__ void find_rows(int thread) const {
    const int r = thread / kRowThreads;
    const int64_t row = view.first_row + r;
    tables.seen[r] = range_of(p, view, row);
    tables.place[r] = view.head_row(p, row) * p.blocks + first / kBlockKeys - p.first_block;
  }
  // m of each block, of two of them by each thread: a chain, as m does not always rise. A row that
  // sees nothing of a block keeps its state.
  __device__ void find_maxima(int thread) const {
    static_assert(kPartBlocks == 2 * kRowThreads);
    const int r = thread / kRowThreads, lane = thread % kRowThreads;
    const auto best = [&](int i) {
      return r < rows && i < blocks ? p.best[tables.place[r] + i] : kUnseen;
    };
    const float own[2] = {best(2 * lane), best(2 * lane + 1)};
    float m = kUnseen;
#pragma unroll
    for (int i = 0; i < kPartBlocks; ++i) {
      const float alpha = raise_maximum(
          m, __shfl_sync(~0u, own[i % 2], thread / kRowThreads * kRowThreads + i / 2));
      if (lane != i / 2) continue;
      tables.m[i][r] = m;
      tables.alpha[i][r] = alpha;
    }
  }

  // --- what is done with a block of keys

  // Of rows that do not exist weights are anything.
  __device__ void weigh(int i, int thread) const {
    const float* x = scores_of(i);
    std::byte* to = weights + i % 2 * kWeightBytes;
    const int block = first + i * kBlockKeys;
#pragma unroll 2
    for (int j = thread; j < rows * (kBlockKeys / 2); j += kWeighing) {
      const int r = j / (kBlockKeys / 2), key = j % (kBlockKeys / 2) * 2;
      const KeyRange seen = tables.seen[r];
      const float m = tables.m[i][r], scale = p.score_scale();
      const auto weight = [&](int k) {
        const float w = grid_exp2(grid_exponent(x[r * kBlockKeys + k], scale, m));
        return seen.has(block + k) ? w : 0.0f;
      };
      *reinterpret_cast<uint32_t*>(to + weight_offset(r, key)) =
          rounded_pair<T>(weight(key), weight(key + 1));
    }
  }
  using Sums = float[kColumns / 2];
  // The operands of a group of 16 keys of block i.
  __device__ void load_group(int i, int group, TileA& a, uint32_t (&b)[4]) const {
    const int lane = static_cast<int>(threadIdx.x % kWarp), r = lane % 8 + lane / 8 % 2 * 8;
    load_matrices<false>(
        a.word, weights + i % 2 * kWeightBytes + weight_offset(r, 16 * group + lane / 16 * 8));
    load_matrices<true>(
        b, values + i % kStages * kValueBytes + piece_offset<kColumns>(16 * group + r, lane / 16));
  }
  // Of all groups, or those that some row sees, the next one's operands coming during a product.
  template <bool kWhole>
  __device__ void add_values(int i, const Groups& groups, Sums& o, WeightSums& l) const {
    TileA a[2];
    uint32_t b[2][4];
    load_group(i, 0, a[0], b[0]);
#pragma unroll
    for (int group = 0; group < kBlockKeys / 16; ++group) {
      const int next = group + 1, at = group % 2;
      if (next < kBlockKeys / 16) load_group(i, next, a[next % 2], b[next % 2]);
      if (!kWhole && (group < groups.begin || group >= groups.end)) continue;
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n)
        Unit::multiply(reinterpret_cast<float(&)[4]>(o[4 * n]), a[at],
                       {{b[at][2 * n], b[at][2 * n + 1]}});
      Unit::multiply(l, a[at], {{kOnes<T>, kOnes<T>}});
    }
  }
  __device__ void add_values_apart(int i, const Sight& sight, Sums& o, WeightSums& l) const {
#pragma unroll 1
    for (int group = sight.groups.begin; group < sight.groups.end; ++group) {
      TileA a;
      uint32_t b[4];
      load_group(i, group, a, b);
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n)
        multiply_seen<Unit>(reinterpret_cast<float(&)[4]>(o[4 * n]), a, {{b[2 * n], b[2 * n + 1]}},
                            16 * group, sight.seen);
      Unit::multiply(l, a, {{kOnes<T>, kOnes<T>}});
    }
  }
  __device__ void extend(int i, const RowRanges& ranges, Sums& o, WeightSums& l) const {
    const Sight sight = ranges.sight_of(first + i * kBlockKeys);
    if (!sight.any) return;
    const int r = static_cast<int>(threadIdx.x % kWarp) / 4;
    const float alpha[2] = {tables.alpha[i][r], tables.alpha[i][r + 8]};
    multiply_rows(o, alpha);
    multiply_rows(l, alpha);
    if (sight.whole)
      add_values<true>(i, sight.groups, o, l);
    else if (!has_special<T, kValueBytes>(values + i % kStages * kValueBytes))
      add_values<false>(i, sight.groups, o, l);
    else
      add_values_apart(i, sight, o, l);
  }

  // --- results

  __device__ void store_part(const WarpRows<kColumns, kLanes>& of_warp) const {
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) {
      const int64_t r = of_warp.thread_row(i / 2 % 2);
      const int c = key_of(i);
      if (r < view.rows && c < columns)
        p.part_o[(part * p.all_rows + view.head_row(p, r)) * p.value_size + column + c] =
            of_warp.state.o[i];
    }
    if (threadIdx.x % 4 != 0 || column != 0) return;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t r = of_warp.thread_row(h);
      if (r >= view.rows) continue;
      float* ml = p.part_ml + 2 * (part * p.all_rows + view.head_row(p, r));
      ml[0] = tables.m[kPartBlocks - 1][r - view.first_row];
      ml[1] = of_warp.state.l[h];
    }
  }
  __device__ void store(WarpRows<kColumns, kLanes>& of_warp) const {
    if (p.parts > 1) {
      store_part(of_warp);
      return;
    }
    share_rows(of_warp.state.l, of_warp.state.o);
    if (p.float_out)
      of_warp.template store_rows<float>(p, view, column, columns);
    else
      of_warp.template store_rows<T>(p, view, column, columns);
  }

  // --- the warps' work, in step

  __device__ void attend() const {
    const bool extends = threadIdx.x < kLanes;  // or weighs
    const int thread = static_cast<int>(threadIdx.x) - (extends ? 0 : kLanes);
    if (!extends) find_rows(thread);
    __syncthreads();
    if (!extends) find_maxima(thread);
    const RowRanges ranges(tables.seen);
    WarpRows<kColumns, kLanes> of_warp(view.first_row, nullptr);
    WeightSums l = {};
    constexpr int kAhead = kStages - 1;  // blocks that are fetched before they are needed
#pragma unroll 1
    for (int i = -kAhead; i < blocks; ++i) {
      if (i >= -1) {
        wait_for_copies<kAhead - 2>();
        __syncthreads();  // block i's weights are there, and what those of the next one are made of
      }
      if (!extends) {
        if (i >= -1 && i + 1 < blocks) weigh(i + 1, thread);
        fetch(i + kAhead, thread);
      } else if (i >= 0) {
        extend(i, ranges, of_warp.state.o, l);
      }
    }
    wait_for_copies<0>();
    if (!extends) return;
    of_warp.end(l);
    store(of_warp);
  }
};

template <class T>
__global__ void __launch_bounds__(PartAttention<T>::kThreads, 2) attend_part(FewRowsCall p) {
  const auto chunks = static_cast<int>(ceiling(p.value_size, PartAttention<T>::kColumns));
  PartAttention<T>(p, chunks).attend();
}

// --- parts

// A result of each thread, from the states of the parts, ascending.
template <class Out>
__global__ void merge_parts(FewRowsCall p) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < p.all_rows * p.value_size;
       i += int64_t{gridDim.x} * blockDim.x) {
    float m = 0, l = 0, o = 0;
    for (int part = 0; part < p.parts; ++part) {
      const int64_t row = part * p.all_rows + i / p.value_size;
      const float part_m = p.part_ml[2 * row], part_l = p.part_ml[2 * row + 1],
                  part_o = p.part_o[part * p.all_rows * p.value_size + i];
      if (part_l == 0) continue;
      const float best = maximum(m, part_m);
      const float alpha = exp2p(m - best), beta = exp2p(part_m - best);
      o = l == 0 ? part_o : fma32(part_o, beta, o * alpha);
      m = l == 0 ? part_m : best;
      l = l == 0 ? part_l : fma32(part_l, beta, l * alpha);
    }
    static_cast<Out*>(p.out)[i] = store<Out>(l == 0 ? 0.0f : o * (1.0f / l));
  }
}

}  // namespace verbatim::cuda
