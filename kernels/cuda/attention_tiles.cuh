// Attention of families B and C in the registers of a warp (docs/numerics.md, Int8 attention and
// Tensor-core attention): what becomes of the scores of 16 rows and a block of keys.
//
// Thread t of a warp, g = t / 4 and q = t mod 4, has rows g and g + 8 of the scores of each 8 keys,
// of keys 2 q and 2 q + 1, as a product on the tensor cores leaves them, and family C's weights,
// rounded, are where the next product wants its left operand.
#pragma once

#include <verbatim/kernels/cuda/attention.cuh>
#include <verbatim/kernels/cuda/tensor_core.cuh>

namespace verbatim::cuda {

// Of 16 bits, in a row of a slab.
inline constexpr int kSlabCodes = 64, kSlabRowBytes = kSlabBytes;

inline constexpr int kBlockKeys = static_cast<int>(kKeyBlock);
using BlockScores = float[kBlockKeys / 2];  // element 4 j + 2 h + e: row g + 8 h, key 8 j + 2 q + e
using BlockWeights = uint32_t[kBlockKeys / 4];  // word 2 j + h: those of e = 0 and 1

// The state of a thread's rows in a part of 2048 keys. A row that has seen a key has an l that is
// not 0, as one of its weights is about 1 at least.
template <int kColumns>
struct RowStates {
  float m[2], l[2];
  float o[kColumns / 2];  // as BlockScores, columns for keys

  __device__ void clear() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      m[h] = kUnseen;
      l[h] = 0;
    }
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) o[i] = 0;
  }
};

// Which keys of a block the thread's rows see.
struct SeenKeys {
  int begin[2], count[2];
  __device__ bool has(int h, int key) const {
    return static_cast<unsigned>(key - begin[h]) < static_cast<unsigned>(count[h]);
  }
};

#if defined(VERBATIM_EMULATED_GPU)
template <class T>
T greatest_of(T a, T b, T c) {
  return std::max(a, std::max(b, c));
}
inline uint32_t least_of(uint32_t a, uint32_t b, uint32_t c) { return std::min(a, std::min(b, c)); }
#else
__device__ inline int32_t greatest_of(int32_t a, int32_t b, int32_t c) {
  return __vimax3_s32(a, b, c);
}
__device__ inline uint32_t least_of(uint32_t a, uint32_t b, uint32_t c) {
  return __vimin3_u32(a, b, c);
}
#endif

// exp2p(t) for any t below 127, or NaN, without a branch.
__device__ inline float exp2p_of_any(float t) {
  const float least_t = maximum_of(t, -126.0f);
  const float shifted = least_t + 12582912.0f, n = shifted - 12582912.0f;
  const float p = exp2p_fraction(least_t - n) * float_of((bits_of(shifted) << 23) + bits_of(1.0f));
  return t < -126.0f ? 0.0f : p;
}

// The four threads of a row, and no others, exchange these.
__device__ inline float maximum_of_row(float x) {
#pragma unroll
  for (int lane = 1; lane < 4; lane *= 2) x = maximum_of(x, __shfl_xor_sync(~0u, x, lane));
  return x;
}
__device__ inline int key_of(int i) {
  return i / 4 * 8 + static_cast<int>(threadIdx.x % 4) * 2 + i % 2;
}

// Which of its scores a thread's rows see: bit 2 j + e of row g + 8 h.
struct SeenBits {
  uint32_t row[2];

  __device__ SeenBits(uint32_t first, uint32_t second) : row{first, second} {}
  __device__ explicit SeenBits(const SeenKeys& seen) {
#pragma unroll
    for (int h = 0; h < 2; ++h)
      row[h] = bits_below(seen.begin[h] + seen.count[h]) & ~bits_below(seen.begin[h]);
  }
  __device__ bool has(int i) const { return (row[i / 2 % 2] >> (i / 4 * 2 + i % 2) & 1) != 0; }

 private:
  // Of the keys before `key`.
  __device__ static uint32_t bits_below(int key) {
    uint32_t bits = 0;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int pairs = (key - static_cast<int>(threadIdx.x % 4) * 2 - e + 7) >> 3;
      const uint32_t ones = pairs <= 0    ? 0
                            : pairs >= 16 ? ~0u
                                          : (1u << (2 * static_cast<unsigned>(pairs))) - 1;
      bits |= ones & (0x55555555u << e);
    }
    return bits;
  }
};

// --- weights of exponents that are multiples of 2^-9

// 2^t of such a multiple, or of any t below -126 or NaN: to be rounded to bf16, fp16 or int8
// attention's whole numbers, for which it is near enough (docs/numerics.md; tensor_core_probe.cu
// looks at all from -127 on).
#if defined(VERBATIM_EMULATED_GPU)
inline float grid_exp2(float t) { return exp2p(t); }
#else
__device__ inline float grid_exp2(float t) {
  float p;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(p) : "f"(t));
  return p;
}
#endif
// m goes on past a block's greatest x; what o and l are to be multiplied by.
__device__ inline float raise_maximum(float& m, float greatest) {
  const float before = m;
  m = grid_maximum(before, greatest);
  return m == before ? 1.0f : exp2p_of_any(before - m);
}

// The greatest score of a thread's part of each row, or zero; what is above zero or NaN is seen, if
// it has no sign bit.
__device__ __forceinline__ void find_above_zero(const BlockScores& s, float (&best)[2]) {
  constexpr int kChains = 2;  // of each row, so that none waits for itself
  int32_t up[2][kChains];
#pragma unroll
  for (int i = 0; i < kBlockKeys / 2; i += 2) {
    const int h = i / 2 % 2, chain = i / 4 % kChains;
    up[h][chain] =
        greatest_of(i < 4 * kChains ? 0 : up[h][chain], static_cast<int32_t>(bits_of(s[i])),
                    static_cast<int32_t>(bits_of(s[i + 1])));
  }
#pragma unroll
  for (int h = 0; h < 2; ++h)
    best[h] = float_of(static_cast<uint32_t>(greatest_of(up[h][0], up[h][1], up[h][1])));
}

// The least bits of each row: of its greatest score where all have sign bits.
__device__ __forceinline__ void find_least_bits(const BlockScores& s, uint32_t (&least)[2]) {
  least[0] = least[1] = ~0u;
#pragma unroll
  for (int i = 0; i < kBlockKeys / 2; i += 2)
    least[i / 2 % 2] = least_of(least[i / 2 % 2], bits_of(s[i]), bits_of(s[i + 1]));
}

// m of rows whose scores may be above it, and what o and l are to be multiplied by. `sees`: whether
// the row sees a key of the block. False where weights take more than grid_exp2(): by a warp.
__device__ __forceinline__ bool raise_maxima(const BlockScores& s, float scale,
                                             const bool (&sees)[2], float (&best)[2], float (&m)[2],
                                             float (&alpha)[2]) {
  uint32_t least[2];
  find_least_bits(s, least);
  bool ordinary = true;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (least[h] >> 31 != 0) best[h] = float_of(least[h]);
    alpha[h] = raise_maximum(m[h], grid_score(maximum_of_row(best[h]), scale));
    ordinary =
        ordinary && (m[h] >= -kMostNear || (m[h] == kUnseen && !sees[h])) && m[h] <= kMostNear;
  }
  return !__any_sync(~0u, !ordinary);
}

// The weights of any scores, keys and scales: in loops, from memory. For its code is to be short:
// what a kernel does in every block has to stay where instructions are fetched from.
__device__ __forceinline__ void weigh_grid_in_memory(float scale, const SeenBits& seen,
                                                     BlockScores& s, float (&m)[2],
                                                     float (&alpha)[2]) {
  constexpr int kAtOnce = 8;
  float scores[kBlockKeys / 2];
#pragma unroll
  for (int i = 0; i < kBlockKeys / 2; ++i) scores[i] = s[i];
  float best[2] = {kUnseen, kUnseen};
#pragma unroll 1
  for (int begin = 0; begin < kBlockKeys / 2; begin += kAtOnce)
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const float x = grid_score(scores[begin + i], scale);
      if (seen.has(begin + i)) best[i / 2 % 2] = maximum_of(best[i / 2 % 2], x);
    }
#pragma unroll
  for (int h = 0; h < 2; ++h) alpha[h] = raise_maximum(m[h], maximum_of_row(best[h]));
#pragma unroll 1
  for (int begin = 0; begin < kBlockKeys / 2; begin += kAtOnce)
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      float& score = scores[begin + i];
      const float weight = grid_exp2(grid_exponent(score, scale, m[i / 2 % 2]));
      score = seen.has(begin + i) ? weight : 0.0f;
    }
#pragma unroll
  for (int i = 0; i < kBlockKeys / 2; ++i) s[i] = scores[i];
}

// A block's scores become weights, not yet rounded, and m goes on. Whether o and l are then to be
// multiplied by alpha; where not, no row's m has risen. seen(): asked where not `whole`. By a warp.
template <class Seen>
__device__ __forceinline__ bool take_scores(float scale, bool whole, Seen&& seen, BlockScores& s,
                                            float (&m)[2], float (&alpha)[2]) {
  bool sees[2] = {true, true};
  if (!whole && scale > 0) {
    const SeenKeys of_block = seen();
    const SeenBits bits(of_block);
#pragma unroll
    for (int i = 0; i < kBlockKeys / 2; ++i) s[i] = bits.has(i) ? s[i] : kUnseen;
#pragma unroll
    for (int h = 0; h < 2; ++h) sees[h] = of_block.count[h] > 0;
  }
  float best[2];
  find_above_zero(s, best);
  bool may_rise = !(scale > 0);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    alpha[h] = 1;
    may_rise = may_rise || !(grid_score(best[h], scale) <= m[h] + kMostExponent) ||
               !(std::abs(m[h]) <= kMostNear);
  }
  may_rise = __any_sync(~0u, may_rise);
  const float before[2] = {m[0], m[1]};
  bool ordinary = !may_rise;
  if (may_rise) ordinary = scale > 0 && raise_maxima(s, scale, sees, best, m, alpha);
  if (ordinary) {
    // A row that has seen nothing yet has scores of -infinity: any offset that is finite will do.
    const float offset[2] = {kScoreGrid - (m[0] == kUnseen ? 0.0f : m[0]),
                             kScoreGrid - (m[1] == kUnseen ? 0.0f : m[1])};
#pragma unroll
    for (int i = 0; i < kBlockKeys / 2; ++i)
      s[i] = grid_exp2(fma32(s[i], scale, offset[i / 2 % 2]) - kScoreGrid);
  } else {
    m[0] = before[0];
    m[1] = before[1];
    weigh_grid_in_memory(scale, whole ? SeenBits(~0u, ~0u) : SeenBits(seen()), s, m, alpha);
  }
  return may_rise;
}

template <class T>
__device__ __forceinline__ void round_weights(const BlockScores& s, BlockWeights& weights) {
#pragma unroll
  for (int i = 0; i < kBlockKeys / 4; ++i) weights[i] = rounded_pair<T>(s[2 * i], s[2 * i + 1]);
}

// What l is while a part's keys are added: a tile of columns of o whose values are all 1.
using WeightSums = float[4];  // of row g + 8 h: element 2 h, and 2 h + 1 the same
template <class T>
inline constexpr uint32_t kOnes = std::is_same_v<T, BFloat16> ? 0x3F803F80 : 0x3C003C00;
template <class Unit, class T>
__device__ __forceinline__ void add_weights(WeightSums& l, const BlockWeights& weights) {
#pragma unroll
  for (int i = 0; i < kBlockKeys / 4; i += 4)
    Unit::multiply(l, {{weights[i], weights[i + 1], weights[i + 2], weights[i + 3]}},
                   {{kOnes<T>, kOnes<T>}});
}

template <int kCount>
__device__ __forceinline__ void multiply_rows(float (&o)[kCount], const float (&alpha)[2]) {
  // Most blocks leave the maximum as it is.
  if (!__any_sync(~0u, alpha[0] != 1 || alpha[1] != 1)) return;
#pragma unroll
  for (int i = 0; i < kCount; ++i) o[i] = o[i] * alpha[i / 2 % 2];
}

// The rows of o times 1 / l; zeros where l is 0.
template <int kCount>
__device__ __forceinline__ void share_rows(const float (&l)[2], float (&o)[kCount]) {
  const float share[2] = {l[0] == 0 ? 0.0f : 1.0f / l[0], l[1] == 0 ? 0.0f : 1.0f / l[1]};
#pragma unroll
  for (int i = 0; i < kCount; ++i) o[i] = o[i] * share[i / 2 % 2];
}

// --- the 16 rows of one warp

// Groups of 16 keys of a block that some row of the warp sees.
struct Groups {
  int begin, end;
};
// What the rows see of a block.
struct Sight {
  bool any, whole;
  Groups groups;
  SeenKeys seen;
};
struct KeyRange {
  int begin, end;
  __device__ int begin_in(int block) const { return in_block(begin, block); }
  __device__ int end_in(int block) const { return in_block(end, block); }
  __device__ bool has(int key) const { return key >= begin && key < end; }
  __device__ bool covers(int block) const { return begin <= block && end >= block + kBlockKeys; }
  __device__ static int in_block(int key, int block) {
    return key <= block ? 0 : key - block < kBlockKeys ? key - block : kBlockKeys;
  }
};
// What a row sees; one that does not exist sees what the last one does.
template <class T>
__device__ KeyRange range_of(const AttentionCall& p, const AttentionView<T>& view, int64_t row) {
  const Range r = view.visible(p, least(row, view.rows - 1));
  return {static_cast<int>(r.begin), static_cast<int>(r.end)};
}

// Which of the tiles of rows the block of threads has. Of causal rows the last ones have most to
// do: they go first.
__device__ inline int64_t tile_of(const AttentionCall& p) {
  const unsigned tile = unknown(blockIdx.x);
  return p.causal ? gridDim.x - 1 - tile : tile;
}

// Which keys the rows of a warp see.
struct RowRanges {
  KeyRange first, last, own[2];

  template <class T>
  __device__ RowRanges(const AttentionCall& p, const AttentionView<T>& view, int64_t first_row)
      : first(range_of(p, view, first_row)),
        last(range_of(p, view, first_row + kTileRows - 1)),
        own{range_of(p, view, first_row + threadIdx.x % kWarp / 4),
            range_of(p, view, first_row + threadIdx.x % kWarp / 4 + 8)} {}
  __device__ explicit RowRanges(const KeyRange (&of_rows)[kTileRows])
      : first(of_rows[0]),
        last(of_rows[kTileRows - 1]),
        own{of_rows[threadIdx.x % kWarp / 4], of_rows[threadIdx.x % kWarp / 4 + 8]} {}

  // What all of them see.
  __device__ KeyRange common() const { return {last.begin, first.end}; }
  __device__ SeenKeys seen_of(int block) const {
    SeenKeys seen;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      seen.begin[h] = own[h].begin_in(block);
      const int count = own[h].end_in(block) - seen.begin[h];
      seen.count[h] = count < 0 ? 0 : count;
    }
    return seen;
  }
  __device__ Sight sight_of(int block) const {
    const int from = first.begin_in(block), to = last.end_in(block);
    return {from < to, common().covers(block), {from / 16, (to + 15) / 16}, seen_of(block)};
  }
};

// Rows and their states. What the parts of 2048 keys before have come to lies in shared memory: the
// i-th o of a thread at totals[i * kThreads].
template <int kColumns, int kThreads>
struct WarpRows {
  int64_t row;  // the first one
  float* totals;
  RowStates<kColumns> state;
  float total_m[2], total_l[2] = {0, 0};
  bool has_total = false;

  __device__ WarpRows(int64_t first_row, float* thread_totals)
      : row(first_row), totals(thread_totals), total_m{kUnseen, kUnseen} {
    state.clear();
  }
  __device__ int64_t thread_row(int h) const { return row + threadIdx.x % kWarp / 4 + 8 * h; }

  // merge(total, state): m and l into the state, and each o to use(i, o).
  template <class Use>
  __device__ __forceinline__ void merge_total(Use&& use) {
    float alpha[2], beta[2];
    bool before[2], after[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      before[h] = total_l[h] != 0;
      after[h] = state.l[h] != 0;
      const float m = maximum_of(total_m[h], state.m[h]);
      alpha[h] = exp2p_of_any(total_m[h] - m);
      beta[h] = exp2p_of_any(state.m[h] - m);
      state.m[h] = m;
      state.l[h] = !before[h]  ? state.l[h]
                   : !after[h] ? total_l[h]
                               : fma32(state.l[h], beta[h], total_l[h] * alpha[h]);
    }
    const bool some_empty = !before[0] || !before[1] || !after[0] || !after[1];
    if (__any_sync(~0u, some_empty)) {
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) {
        const int h = i / 2 % 2;
        const float a = totals[i * kThreads], b = state.o[i];
        use(i, !before[h] ? b : !after[h] ? a : fma32(b, beta[h], a * alpha[h]));
      }
    } else {
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) {
        const int h = i / 2 % 2;
        use(i, fma32(state.o[i], beta[h], totals[i * kThreads] * alpha[h]));
      }
    }
  }
  __device__ __forceinline__ void end_part() {
    if (has_total) {
      merge_total([&](int i, float o) { totals[i * kThreads] = o; });
    } else {
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) totals[i * kThreads] = state.o[i];
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      total_m[h] = state.m[h];
      total_l[h] = state.l[h];
    }
    state.clear();
    has_total = true;
  }
  __device__ void end() {
    if (has_total) merge_total([&](int i, float o) { state.o[i] = o; });
  }
  // The same, where l has been in `sums`.
  __device__ __forceinline__ void end_part(WeightSums& sums) {
    state.l[0] = sums[0];
    state.l[1] = sums[2];
    end_part();
#pragma unroll
    for (float& sum : sums) sum = 0;
  }
  __device__ void end(const WeightSums& sums) {
    state.l[0] = sums[0];
    state.l[1] = sums[2];
    end();
  }

  // Columns [column, column + columns) of o, which are results. kEven: the size
  // of values is known to be.
  template <class Out, bool kEven = false, class T>
  __device__ void store_rows(const AttentionCall& p, const AttentionView<T>& view, int64_t column,
                             int columns) const {
    const bool in_pairs = kEven || p.value_size % 2 == 0;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (thread_row(h) >= view.rows) continue;
      Out* out = static_cast<Out*>(p.out) + view.head_row(p, thread_row(h)) * p.value_size + column;
#pragma unroll
      for (int j = 0; j < kColumns / 8; ++j) {
        const int i = 4 * j + 2 * h, c = key_of(i);
        struct alignas(2 * sizeof(Out)) Pair {
          Out low, high;
        } pair{rounded<Out>(state.o[i]), rounded<Out>(state.o[i + 1])};
        if (in_pairs) {
          if (c < columns) *reinterpret_cast<Pair*>(out + c) = pair;
        } else {
          if (c < columns) out[c] = pair.low;
          if (c + 1 < columns) out[c + 1] = pair.high;
        }
      }
    }
  }
};

// --- copies by a block of threads

// slab_offset() of rows of kCodes.
template <int kCodes>
__device__ int piece_offset(int row, int piece) {
  constexpr int kPieces = kCodes / 8, kRowsAbreast = kSlabCodes / kCodes;
  return row * (16 * kPieces) + ((piece ^ (row / kRowsAbreast & (kPieces - 1))) << 4);
}

// Codes [at, size) of kOf rows into kCodes of each in shared memory, zeros where there are none, by
// kThreads of which this is one. row(i): where row i begins, or null. In words, 16 bytes at once;
// `anywhere` is then a multiple of 16.
template <int kOf, int kCodes, int kThreads, class T, class Row>
__device__ void fetch_codes(int thread, bool in_words, std::byte* to, const void* anywhere,
                            int64_t at, int64_t size, Row&& row) {
  if (in_words) {
    constexpr int kPieces = kCodes / 8, kRowsAtOnce = kThreads / kPieces;
    const int piece = thread % kPieces;
    const bool inside = at + piece * 8 < size;
#pragma unroll
    for (int i = 0; i < kOf; i += kRowsAtOnce) {
      const int r = i + thread / kPieces;
      if (kOf % kRowsAtOnce != 0 && r >= kOf) break;
      const T* from = row(r);
      const bool there = inside && from != nullptr;
      copy_later(to + piece_offset<kCodes>(r, piece), there ? from + at + piece * 8 : anywhere,
                 there);
    }
    return;
  }
#pragma unroll 1
  for (int i = thread; i < kOf * kCodes; i += kThreads) {
    const int r = i / kCodes, c = i % kCodes;
    const T* from = row(r);
    *reinterpret_cast<T*>(to + piece_offset<kCodes>(r, c / 8) + c % 8 * 2) =
        from != nullptr && at + c < size ? from[at + c] : T{0};
  }
}

// --- the products of one warp, from slabs

// scores += the 16 rows of a slab of queries, from row `first` on, times kCount / 4 * 8 keys of a
// slab; `steps` of 32 bytes.
template <class Unit, bool kWhole, int kCount>
__device__ void multiply_keys(typename Unit::Sum (&s)[kCount], const std::byte* queries, int first,
                              const std::byte* keys, int steps, const Groups& groups) {
  const int lane = static_cast<int>(threadIdx.x % kWarp), i = lane / 8, r = lane % 8;
#pragma unroll
  for (int step = 0; step < kSlabCodes / 16; ++step) {
    if (step >= steps) break;
    TileA a;
    load_matrices<false>(a.word, queries + slab_offset(first + i % 2 * 8 + r, 2 * step + i / 2));
#pragma unroll
    for (int group = 0; group < kCount / 8; ++group) {
      if (!kWhole && (group < groups.begin || group >= groups.end)) continue;
      uint32_t b[4];
      load_matrices<false>(b, keys + slab_offset(16 * group + i / 2 * 8 + r, 2 * step + i % 2));
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        auto& d = reinterpret_cast<typename Unit::Sum(&)[4]>(s[8 * group + 4 * n]);
        Unit::multiply(d, a, {{b[2 * n], b[2 * n + 1]}});
      }
    }
  }
}

// d += the product where a key that a row does not see may have a value that is not finite, and
// then counts as zero in both operands: row by row, each with its own values.
template <class Unit>
__device__ void multiply_seen(float (&d)[4], const TileA& a, const TileB& b, int first_key,
                              const SeenKeys& seen) {
  const int t = static_cast<int>(threadIdx.x % kWarp), g = t / 4, q = t % 4;
#pragma unroll 1
  for (int row = 0; row < kTileRows; ++row) {
    const int h = row / 8, owner = row % 8 * 4;
    SeenKeys of_row = {};
    of_row.begin[0] = __shfl_sync(~0u, h == 0 ? seen.begin[0] : seen.begin[1], owner);
    of_row.count[0] = __shfl_sync(~0u, h == 0 ? seen.count[0] : seen.count[1], owner);
    TileA of_a = a;
    TileB of_b = b;
#pragma unroll
    for (int w = 0; w < 4; ++w)
      if (g + w % 2 * 8 != row) of_a.word[w] = 0;
#pragma unroll
    for (int w = 0; w < 2; ++w) {
      const int key = first_key + 8 * w + 2 * q;
      of_b.word[w] &=
          (of_row.has(0, key) ? 0xFFFFu : 0u) | (of_row.has(0, key + 1) ? 0xFFFF0000u : 0u);
    }
    float sum[4] = {d[0], d[1], d[2], d[3]};
    Unit::multiply(sum, of_a, of_b);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (g + e / 2 * 8 == row) d[e] = sum[e];
  }
}

enum class Values {
  whole,  // of keys that all rows see
  some,   // finite, or their keys are seen by all rows or none
  apart,  // any
};

// o += weights times a slab of 64 columns of values.
template <class Unit, Values kValues>
__device__ void multiply_values(float (&o)[kSlabCodes / 2], const BlockWeights& weights,
                                const std::byte* values, const Groups& groups,
                                const SeenKeys& seen) {
  const int lane = static_cast<int>(threadIdx.x % kWarp), i = lane / 8, r = lane % 8;
#pragma unroll
  for (int group = 0; group < kBlockKeys / 16; ++group) {
    if (kValues != Values::whole && (group < groups.begin || group >= groups.end)) continue;
    const TileA a{{weights[4 * group], weights[4 * group + 1], weights[4 * group + 2],
                   weights[4 * group + 3]}};
#pragma unroll
    for (int n = 0; n < kSlabCodes / 8; n += 2) {
      uint32_t b[4];
      load_matrices<true>(b, values + slab_offset(16 * group + i % 2 * 8 + r, n + i / 2));
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        float(&d)[4] = reinterpret_cast<float(&)[4]>(o[4 * (n + k)]);
        const TileB tile{{b[2 * k], b[2 * k + 1]}};
        if constexpr (kValues == Values::apart)
          multiply_seen<Unit>(d, a, tile, 16 * group, seen);
        else
          Unit::multiply(d, a, tile);
      }
    }
  }
}

// Whether some of kBytes' codes, those of a slab, is infinite or NaN; by a warp.
template <class T, int kBytes = kBlockKeys* kSlabRowBytes>
__device__ bool has_special(const std::byte* slab) {
  constexpr uint32_t kField = std::is_same_v<T, BFloat16> ? 0x7F80 : 0x7C00;
  struct alignas(16) Piece {
    uint32_t word[4];
  };
  const auto* pieces = reinterpret_cast<const Piece*>(slab);
  bool found = false;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x % kWarp); i < kBytes / 16; i += kWarp) {
    const Piece piece = pieces[i];
#pragma unroll
    for (const uint32_t w : piece.word)
      found = found || (w & kField) == kField || (w >> 16 & kField) == kField;
  }
  return __any_sync(~0u, found);
}

}  // namespace verbatim::cuda
