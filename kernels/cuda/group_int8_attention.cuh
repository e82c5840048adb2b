// Int8 attention on Hopper: 128 rows a block of threads. One warp copies tiles into a ring; two
// warp groups multiply, each with 64 rows, both products by wgmma. What takes the time is not the
// products but the instructions in between, some 13 for each score, so what matters is that
// there be few of them, and that one group has some while the other waits for its products.
//
// The scores of four keys, of which a thread holds two and two, are one word of the weights' codes,
// the left operand of the next product. So the values' codes lie along the keys, in the order in
// which threads hold them (key_at_place).
#pragma once

#include <verbatim/kernels/cuda/attention_groups.cuh>
#include <verbatim/kernels/cuda/int8_attention.cuh>
#include <verbatim/kernels/cuda/rotation.cuh>

namespace verbatim::cuda {

// Which of the 32 keys of a unit of k stands at place p: thread q of a row has bytes 4 q to 4 q + 3
// of both halves, and scores of keys 8 j + 2 q and 8 j + 2 q + 1.
__host__ __device__ inline int key_at_place(int p) {
  return p / 16 * 16 + p % 4 / 2 * 8 + p % 16 / 4 * 2 + p % 2;
}
// What a block's keys have besides codes: scales, of values kScoreGrid + f (NaN where one is not
// finite) and value_step(). Of each kind kBlockKeys numbers, in pieces of four for each thread of a
// row: of its keys, in the order of its scores.
enum Number { kKeyScale, kPlace, kStep, kKinds };
inline constexpr int kNumbersBytes = kKinds * kBlockKeys * static_cast<int>(sizeof(float));
__host__ __device__ inline int key_of_number(int i) {
  const int n = i / 16 * 4 + i % 4, q = i % 16 / 4;  // which of the numbers of thread q of a row
  return n / 2 * 8 + q * 2 + n % 2;
}

struct GroupInt8Call : Int8AttentionCall {
  TileMap keys;    // codes of all keys as they lie
  TileMap values;  // [batch, kv_heads, columns] rows of codes along the keys, columns in multiples
                   // of kSize
  const float* numbers;  // [batch, kv_heads, blocks, kKinds, kBlockKeys]
  int blocks;            // of keys
  bool restarts;
};

// Of heads of at most kKeyCodes codes of queries and keys; a block of threads has kSize columns of
// values. Sizes are multiples of 16, and codes beyond them zeros, in the queries and in the values.
template <int kSize, int kSlabs, int kSlices, bool kCaps>
struct GroupInt8Attention {
  static constexpr int kGroups = 2, kRows = kGroups * kGroupRows,
                       kMultiplying = kGroups * static_cast<int>(kWarpGroup);
  static constexpr unsigned kThreads = kMultiplying + kWarpGroup, kReaders = kGroups * 4;
  static constexpr int kKeyCodes = kSlabs == 1 ? kSize : kSlabs * kSlabBytes;
  // A tile is a block's keys, with their numbers, or its values.
  static constexpr int kNumbersRoom = kNumbersBytes + (-kNumbersBytes & (int{kTileAlignment} - 1)),
                       kSlabOfKeys = kBlockKeys * kSlabBytes, kSlabOfRows = kRows * kSlabBytes,
                       kKeyBytes = kSlabs * kSlabOfKeys, kValueBytes = kSize * kSlabBytes,
                       kTileBytes = kKeyBytes + kNumbersRoom, kQueryBytes = kSlabs * kSlabOfRows;
  static_assert(kSize <= kSlabBytes && kTileBytes % kTileAlignment == 0);
  static constexpr int kCapped = kBlockKeys / 4;  // scores of a thread that are capped at a time
  using Ring = TileRing<kTileBytes>;

  static constexpr size_t fixed_bytes(bool restarts) {
    return kTileAlignment + kQueryBytes + (restarts ? size_t{kRows} * kSize * sizeof(float) : 0) +
           (kCaps ? size_t{kMultiplying} * kCapped * sizeof(float) : 0);
  }
  static constexpr int stages(bool restarts) { return Ring::stages_beside(fixed_bytes(restarts)); }
  static constexpr size_t shared_bytes(bool restarts) {
    return fixed_bytes(restarts) + size_t{kTileBytes} * stages(restarts) + Ring::kBarrierBytes;
  }
  static_assert(stages(true) >= 2);

  using Scores = int32_t[kBlockKeys / 2];
  using Sums = int32_t[kSize / 2];
  using Codes = uint32_t[kBlockKeys / 8];  // word 2 j + h: row g + 8 h, two pairs of keys
  using Rows = WarpRows<kSize, kMultiplying>;

  const GroupInt8Call& p;
  const AttentionView<int8_t> view;
  std::byte* queries;
  Ring ring;
  float* totals;   // of each thread: the i-th at totals[i * kMultiplying]
  int begin, end;  // of the keys that some row sees

  __device__ GroupInt8Attention(const GroupInt8Call& call, int64_t first_row)
      : p(call),
        view(call, blockIdx.z, kv(), chunk() * kSize, first_row),
        queries(aligned_tiles()),
        ring(queries + kQueryBytes, stages(call.restarts)),
        totals(reinterpret_cast<float*>(ring.end()) + threadIdx.x % kMultiplying) {
    begin = range_of(p, view, first_row).begin;
    end = range_of(p, view, first_row + kRows - 1).end;
  }

  // Which of the heads of keys, and of the chunks of a head's columns of values.
  __device__ int kv() const { return static_cast<int>(blockIdx.y) % static_cast<int>(p.kv_heads); }
  __device__ int chunk() const {
    return static_cast<int>(blockIdx.y) / static_cast<int>(p.kv_heads);
  }

  // The view and what rows see, for what is seldom done.
  __device__ AttentionView<int8_t> view_anew() const {
    return {p, unknown(blockIdx.z), kv(), chunk() * kSize, tile_of(p) * kRows};
  }
  __device__ RowRanges seen_anew(int64_t row) const { return {p, view_anew(), row}; }

  // Barriers, and the rows' queries, before anything else.
  __device__ void start() const {
    if (threadIdx.x == 0) ring.init(kReaders);
    load_queries<kRows, kKeyCodes / 16, kThreads>(static_cast<int>(threadIdx.x), p, view, queries);
    __syncthreads();
  }
  __device__ int first_block() const { return begin / kBlockKeys * kBlockKeys; }

  // By one thread: of each block its keys, then its values.
  __device__ void copy_tiles() {
    const int kv_heads = static_cast<int>(p.kv_heads),
              head = static_cast<int>(blockIdx.z) * kv_heads + kv(),
              chunks = static_cast<int>(gridDim.y) / kv_heads,
              columns = (head * chunks + chunk()) * kSize;
    for (int block = first_block(); block < end; block += kBlockKeys) {
      ring.begin_filling(kKeyBytes + kNumbersBytes);
      uint64_t* full = &ring.full[ring.stage];
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab)
        copy_tile(ring.tile() + slab * kSlabOfKeys, p.keys,
                  kv() * static_cast<int>(p.head_size) + slab * kSlabBytes,
                  static_cast<int>(view.key_row(p, block)), full);
      copy_bytes(
          ring.tile() + kKeyBytes,
          p.numbers + (int64_t{head} * p.blocks + block / kBlockKeys) * (kKinds * kBlockKeys),
          kNumbersBytes, full);
      ring.next();
      ring.begin_filling(kValueBytes);
      copy_tile(ring.tile(), p.values, block, columns, &ring.full[ring.stage]);
      ring.next();
    }
  }

  // Products of the tile that comes next, under way when these return. Where none comes, of
  // whatever lies there.
  __device__ void multiply_keys(Scores& s, int group, bool comes) const {
    if (comes) ring.wait_until_full();
    const uint64_t q = uniform(describe_tile(queries + group * kGroupRows * kSlabBytes)),
                   k = uniform(describe_tile(ring.tile()));
    begin_products();
    multiply_group<Int8Unit, kBlockKeys, true>(s, q, k);
#pragma unroll
    for (int unit = 1; unit < kKeyCodes / kUnitBytes; ++unit) {
      const int slab = unit / 4, next = unit % 4 * kNextUnit;
      multiply_group<Int8Unit, kBlockKeys>(s, further(q, slab * kSlabOfRows / 16 + next),
                                           further(k, slab * kSlabOfKeys / 16 + next));
    }
    commit_products();
  }
  template <bool kFresh>
  __device__ void multiply_values(Sums& sums, const Codes& codes) const {
    const uint64_t v = uniform(describe_tile(ring.tile()));
    const auto a = [&](int unit) {
      return TileA{
          {codes[4 * unit], codes[4 * unit + 1], codes[4 * unit + 2], codes[4 * unit + 3]}};
    };
    begin_products();
    multiply_group_rows<Int8Unit, kSize, kFresh>(sums, a(0), v);
#pragma unroll
    for (int unit = 1; unit < kBlockKeys / kUnitBytes; ++unit)
      multiply_group_rows<Int8Unit, kSize>(sums, a(unit), further(v, unit * kNextUnit));
    commit_products();
  }

  // --- what becomes of a block's scores

  struct alignas(16) Four {
    float of[4];
  };
  __device__ static int thread_in_row() { return static_cast<int>(threadIdx.x % 4); }
  // The number of score i's key, for any i.
  __device__ static float number_at(const std::byte* tile, Number kind, int i) {
    const int n = i / 4 * 2 + i % 2;
    return reinterpret_cast<const float*>(
        tile + kKeyBytes)[kind * kBlockKeys + n / 4 * 16 + thread_in_row() * 4 + n % 4];
  }
  // use(i, its key's number) for each score i of the thread.
  template <class Use>
  __device__ static void each_score(Number kind, const std::byte* tile, Use&& use) {
    const auto* numbers = reinterpret_cast<const Four*>(tile + kKeyBytes) + thread_in_row();
#pragma unroll
    for (int piece = 0; piece < kBlockKeys / 16; ++piece) {
      const Four four = numbers[kind * (kBlockKeys / 4) + piece * 4];
#pragma unroll
      for (int i = 0; i < 8; ++i) use(8 * piece + i, four.of[i / 4 * 2 + i % 2]);
    }
  }

  // What scores are before they are multiplied by RowScales::score and lie on the grid: products of
  // codes times the key's scale; with a softcap, capped.
  __device__ void scale_scores(const float (&row_scale)[2], const std::byte* tile, const Scores& s,
                               BlockScores& x) const {
    each_score(kKeyScale, tile, [&](int i, float key_scale) {
      x[i] = of_gpu(static_cast<float>(s[i]) * key_scale);
      if constexpr (kCaps) x[i] = x[i] * row_scale[i / 2 % 2];
    });
    if constexpr (kCaps) cap_scores(x);
  }
  // Rolled up, as the function is long.
  __device__ void cap_scores(BlockScores& x) const {
    float* capped = totals + (p.restarts ? kRows * kSize : 0);
#pragma unroll
    for (int first = 0; first < kBlockKeys / 2; first += kCapped) {
#pragma unroll
      for (int i = 0; i < kCapped; ++i) capped[i * kMultiplying] = x[first + i];
#pragma unroll 1
      for (int i = 0; i < kCapped; ++i)
        capped[i * kMultiplying] = p.capped_score(capped[i * kMultiplying]);
#pragma unroll
      for (int i = 0; i < kCapped; ++i) x[first + i] = capped[i * kMultiplying];
    }
  }

  // What a block is of a thread's rows (int8_weights.h): e, g, and the thread's part of the sum of
  // l's weights. Where a row sees no key the sum is 0; elsewhere it is not, but where g is NaN.
  struct BlockRows {
    bool ordinary;    // by a warp
    float most_y[2];  // kScoreGrid + e + g, where ordinary
    float e[2], g[2];
    int32_t total[2];
  };

  // The greatest of a thread's numbers of each row, as signed integers: of positive ones, or where
  // NaN is above all.
  __device__ static void find_greatest(const BlockScores& x, int32_t (&best)[2]) {
    constexpr int kChains = 2;  // of each row, so that none waits for itself
    int32_t most[2][kChains];
    const auto bits = [&](int i) { return static_cast<int32_t>(bits_of(x[i])); };
#pragma unroll
    for (int i = 0; i < kBlockKeys / 2; i += 2) {
      int32_t& chain = most[i / 2 % 2][i / 4 % kChains];
      chain = greatest_of(i < 4 * kChains ? bits(i) : chain, bits(i), bits(i + 1));
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) best[h] = greatest_of(most[h][0], most[h][1], most[h][1]);
  }
  // The same of any numbers.
  __device__ static void find_greatest_of_any(const BlockScores& x, int32_t (&best)[2]) {
    find_greatest(x, best);
    if (!__any_sync(~0u, best[0] < 0 || best[1] < 0)) return;
    uint32_t least[2];  // where all have sign bits
    find_least_bits(x, least);
#pragma unroll
    for (int h = 0; h < 2; ++h)
      if (best[h] < 0) best[h] = static_cast<int32_t>(least[h]);
  }
  __device__ static float of_row(int32_t best) {
    return maximum_of_row(float_of(static_cast<uint32_t>(best)));
  }

  // Scaled scores become kScoreGrid + x + f. They are not ordinary where they do not grow with
  // their products, some e is further from zero than kMostNear or NaN, or some g above kMostRise,
  // as NaN is.
  __device__ static BlockRows place_on_grid(const float (&score_scale)[2], const bool (&sees)[2],
                                            const std::byte* tile, BlockScores& x) {
    BlockRows b;
    int32_t best_x[2], best_y[2];
    find_greatest_of_any(x, best_x);
    each_score(kPlace, tile,
               [&](int i, float place) { x[i] = fma32(x[i], score_scale[i / 2 % 2], place); });
    find_greatest(x, best_y);
    bool ordinary = true;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float most_x = of_row(best_x[h]), most_y = of_row(best_y[h]),
                  most = sees[h] ? fma32(most_x, score_scale[h], kScoreGrid) : kScoreGrid;
      // Of a key that is not seen, y is -infinity, or NaN where its value is.
      b.most_y[h] = sees[h] ? most_y : maximum_of(most_y, kScoreGrid);
      b.e[h] = most - kScoreGrid;
      b.g[h] = b.most_y[h] - most;
      ordinary =
          ordinary && score_scale[h] > 0 && std::abs(b.e[h]) <= kMostNear && b.g[h] <= kMostRise;
    }
    b.ordinary = !__any_sync(~0u, !ordinary);
    return b;
  }
  // l's weights are the codes' 2^t times a number; added to one whose last place is their unit,
  // they are rounded, one like another, as none is halfway.
  __device__ static void weigh_once(const std::byte* tile, BlockScores& x, BlockRows& b) {
    float base[2], unit[2], sum[2][2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      base[h] = b.most_y[h] - kMostCodeExponent;
      const int up = static_cast<int>(whole_below(b.g[h])) + 3;  // 2^(up - f) in place of 2^-f
      unit[h] = float_of((static_cast<uint32_t>(127 + 23 - up) << 23) | 0x400000);
      sum[h][0] = sum[h][1] = unit[h];
    }
    each_score(kStep, tile, [&](int i, float step) {
      const int h = i / 2 % 2;
      x[i] = grid_exp2(x[i] - base[h]);
      sum[h][i % 2] = fma32(x[i], step, sum[h][i % 2]);
    });
#pragma unroll
    for (int h = 0; h < 2; ++h)
      b.total[h] =
          static_cast<int32_t>(bits_of(sum[h][0]) + bits_of(sum[h][1]) - 2 * bits_of(unit[h]));
  }
  __device__ static void weigh_exactly(const std::byte* tile, BlockScores& x, BlockRows& b) {
    float base[2], shift[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      base[h] = b.most_y[h] - kMostCodeExponent;
      shift[h] = total_shift(b.g[h], kSlices);
      b.total[h] = 0;
    }
    each_score(kPlace, tile, [&](int i, float place) {
      const int h = i / 2 % 2;
      const float weight = exp2p_of_any(((x[i] - place) - b.e[h]) + shift[h]);
      b.total[h] += whole_number(weight);
      x[i] = exp2p_of_any(x[i] - base[h]);
    });
  }
  // The same for any scores, scales and exponents, from products made anew: in loops, from memory.
  // For its code is to be short: what a kernel does in every block has to stay where instructions
  // are fetched from.
  __device__ void weigh_in_memory(const float (&row_scale)[2], const float (&score_scale)[2],
                                  const SeenBits& seen, int first_row, const std::byte* tile,
                                  BlockScores& x, BlockRows& b) const {
    int32_t products[kBlockKeys / 2];
    float z[kBlockKeys / 2];
    {
      Scores sums = {};
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab)
        cuda::multiply_keys<Int8Unit, true>(sums, queries + slab * kSlabOfRows, first_row,
                                            tile + slab * kSlabOfKeys,
                                            kSlabs == 1 ? kKeyCodes / kUnitBytes : 4, Groups{});
#pragma unroll
      for (int i = 0; i < kBlockKeys / 2; ++i) products[i] = sums[i];
    }
    const auto exponent = [&](int i) { return number_at(tile, kPlace, i) - kScoreGrid; };
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      b.e[h] = b.g[h] = kUnseen;
      b.total[h] = 0;
    }
    const auto each = [&](auto&& use) {
#pragma unroll 1
      for (int i = 0; i < kBlockKeys / 2; i += 4)
#pragma unroll
        for (int j = 0; j < 4; ++j) use(i + j, j / 2);
    };
    each([&](int i, int h) {
      float score = static_cast<float>(products[i]) * number_at(tile, kKeyScale, i);
      if constexpr (kCaps) score = p.capped_score(score * row_scale[h]);
      z[i] = seen.has(i) ? grid_score(score, score_scale[h]) : kUnseen;
      b.e[h] = maximum_of(b.e[h], z[i]);
    });
#pragma unroll
    for (float& e : b.e) e = maximum_of_row(e);
    each([&](int i, int h) {
      z[i] = z[i] - b.e[h];
      b.g[h] = maximum_of(b.g[h], seen.has(i) ? z[i] + exponent(i) : kUnseen);
    });
#pragma unroll
    for (float& g : b.g) g = maximum_of_row(g);
    each([&](int i, int h) {
      const float weight = exp2p_of_any(z[i] + total_shift(b.g[h], kSlices));
      z[i] = seen.has(i) ? exp2p_of_any(code_exponent(z[i] + exponent(i), b.g[h])) : 0.0f;
      if (seen.has(i) && !is_nan(weight)) b.total[h] += whole_number(weight);
    });
#pragma unroll
    for (int i = 0; i < kBlockKeys / 2; ++i) x[i] = z[i];
  }

  // Weights' codes; with two slices, what these leave, in 1/128.
  __device__ static void code_weights(const BlockScores& x, Codes (&codes)[kSlices]) {
#pragma unroll
    for (int i = 0; i < kBlockKeys / 2; i += 8)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float t[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) t[e] = x[i + e / 2 * 4 + 2 * h + e % 2];
        codes[0][i / 4 + h] = packed_codes(t[0], t[1], t[2], t[3]);
        if constexpr (kSlices == 2) {
#pragma unroll
          for (float& rest : t) rest = (rest - ((rest + kWholeNumbers) - kWholeNumbers)) * 128.0f;
          codes[1][i / 4 + h] = packed_codes(t[0], t[1], t[2], t[3]);
        }
      }
  }

  // m and l go on with the block. What o is to be multiplied by, and the block's sums of values.
  struct Joining {
    float alpha[2], unit[2];
  };
  __device__ static Joining join_block(const BlockRows& b, Rows& rows) {
    auto& [m, l, o] = rows.state;
    Joining joining;
    float exponent[4];
    int32_t total[2];
    bool rises = false, sees[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      total[h] = b.total[h];
#pragma unroll
      for (int lane = 1; lane < 4; lane *= 2) total[h] += __shfl_xor_sync(~0u, total[h], lane);
      sees[h] = total[h] != 0 || is_nan(b.g[h]);
      const float before = m[h];
      if (sees[h]) m[h] = grid_maximum(before, b.e[h]);
      joining.alpha[h] = m[h] == before ? 0 : before - m[h];
      rises = rises || m[h] != before;
      exponent[2 * h] = value_unit(b.e[h] - m[h], b.g[h], kSlices);
      exponent[2 * h + 1] = total_unit(b.e[h] - m[h], total_shift(b.g[h], kSlices));
    }
    rises = __any_sync(~0u, rises);
#pragma unroll
    for (float& alpha : joining.alpha) alpha = rises && alpha != 0 ? exp2p_of_any(alpha) : 1.0f;
    // Each thread of a row has one of its four powers.
    const int q = thread_in_row(), first = static_cast<int>(threadIdx.x % kWarp) - q;
    const float low = q % 2 == 0 ? exponent[0] : exponent[1],
                high = q % 2 == 0 ? exponent[2] : exponent[3],
                power = exp2p_of_any(q < 2 ? low : high);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float of_values = __shfl_sync(~0u, power, first + 2 * h),
                  of_total = __shfl_sync(~0u, power, first + 2 * h + 1);
      // Sums of no codes leave o as it is.
      joining.unit[h] = sees[h] ? of_values : -0.0f;
      if (sees[h]) l[h] = fma32(static_cast<float>(total[h]), of_total, l[h] * joining.alpha[h]);
    }
    return joining;
  }
  // What a row's scores are multiplied by: those of codes, and those that come to lie on the grid.
  struct RowScales {
    float row[2], score[2];
  };
  __device__ RowScales scales_of(const Rows& rows) const {
    RowScales scales;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t row = rows.thread_row(h);
      scales.row[h] = row < view.rows ? p.row_scale(view.head_row(p, row)) : 1.0f;
      scales.score[h] = kCaps ? float_of(kLog2E) : scales.row[h] * p.log_scale;
    }
    return scales;
  }
  __device__ BlockRows take_scores(const RowScales& scales, bool whole, int block,
                                   const std::byte* tile, const Rows& rows, const Scores& s,
                                   BlockScores& x) const {
    bool sees[2] = {true, true};
    scale_scores(scales.row, tile, s, x);
    if (!whole) {
      const SeenKeys of_block = seen_anew(rows.row).seen_of(block);
      const SeenBits seen(of_block);
#pragma unroll
      for (int i = 0; i < kBlockKeys / 2; ++i) x[i] = seen.has(i) ? x[i] : kUnseen;
#pragma unroll
      for (int h = 0; h < 2; ++h) sees[h] = of_block.count[h] > 0;
    }
    return place_on_grid(scales.score, sees, tile, x);
  }
  __device__ void weigh(const RowScales& scales, bool whole, int block, const std::byte* tile,
                        const Rows& rows, BlockScores& x, BlockRows& b,
                        Codes (&codes)[kSlices]) const {
    if (!b.ordinary) {
      const SeenBits seen =
          whole ? SeenBits(~0u, ~0u) : SeenBits(seen_anew(rows.row).seen_of(block));
      const auto first_row = static_cast<int>(rows.row - view.first_row);
      weigh_in_memory(scales.row, scales.score, seen, first_row, tile, x, b);
    } else if constexpr (kSlices == 1) {
      weigh_once(tile, x, b);
    } else {
      weigh_exactly(tile, x, b);
    }
    code_weights(x, codes);
  }

  __device__ static void join_values(const Sums& sums, const Joining& joining,
                                     float (&o)[kSize / 2]) {
    multiply_rows(o, joining.alpha);
#pragma unroll
    for (int i = 0; i < kSize / 2; ++i)
      o[i] = fma32(static_cast<float>(sums[i]), joining.unit[i / 2 % 2], o[i]);
  }

  __device__ void attend(Rows& rows, int group) {
    if (begin >= end) return;
    const KeyRange common = RowRanges(p, view, rows.row).common();
    const RowScales scales = scales_of(rows);
    Scores s;
    if (group == 1) pass_turn(0);
    multiply_keys(s, group, true);
    for (int block = first_block(); block < end; block += kBlockKeys) {
      const bool whole = common.covers(block), more = block + kBlockKeys < end;
      BlockScores x;
      Codes codes[kSlices];
      wait_for_products<0>();
      settle(s);
      if (block % kKeyRestart == 0 && block > begin) rows.end_part();
      BlockRows b = take_scores(scales, whole, block, ring.tile(), rows, s, x);
      weigh(scales, whole, block, ring.tile(), rows, x, b, codes);
      ring.release(ring.stage);
      ring.next();
      Sums sums;
      ring.wait_until_full();
      await_turn(group);
      multiply_values<true>(sums, codes[0]);
      if constexpr (kSlices == 2) {
        wait_for_products<0>();
        settle(sums);
        settle(codes[0]);
#pragma unroll
        for (int32_t& sum : sums) sum = sum * 128;
        multiply_values<false>(sums, codes[1]);
      }
      const int of_values = ring.stage;
      ring.next();
      // With two slices there are no registers for the next scores yet.
      if constexpr (kSlices == 1) multiply_keys(s, group, more);
      pass_turn(1 - group);
      // While products are under way.
      const Joining joining = join_block(b, rows);
      wait_for_products<kSlices == 1 ? 1 : 0>();
      settle(sums);
      settle(codes[kSlices - 1]);
      ring.release(of_values);
      join_values(sums, joining, rows.state.o);
      if constexpr (kSlices == 2) multiply_keys(s, group, more);
    }
    wait_for_products<0>();
    rows.end();
  }

  // o * (1 / l); turned back, where heads are rotated as a whole. Columns 8 j + 2 q + e: strides of
  // 1 are within a pair, of 2 and 4 between threads, the others between elements.
  __device__ void finish(Rows& rows) const {
    auto& o = rows.state.o;
    constexpr int kElements = kSize / 2;
    share_rows(rows.state.l, o);
    if (p.value_size != kSize) return;
    const auto rotate_within = [&](int stride) {
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        if ((i & stride) != 0) continue;
        const float u = o[i], v = o[i + stride];
        o[i] = u + v;
        o[i + stride] = u - v;
      }
    };
    rotate_within(1);
#pragma unroll
    for (int stride = 1; stride < 4; stride *= 2) {
#pragma unroll
      for (float& x : o) x = rotated_across(x, stride);
    }
#pragma unroll
    for (int stride = 4; stride < kElements; stride *= 2) rotate_within(stride);
#pragma unroll
    for (float& x : o) x = canonical(x * p.o_factor);
  }
  __device__ void store(const Rows& rows) const {
    const int columns = static_cast<int>(p.value_size) - chunk() * kSize;
    rows.template store_rows<float, true>(p, view_anew(), chunk() * kSize, columns);
  }
};

template <int kSize, int kSlabs, int kSlices, bool kCaps>
__global__ void __launch_bounds__((GroupInt8Attention<kSize, kSlabs, kSlices, kCaps>::kThreads), 1)
    attend_int8_groups(const __grid_constant__ GroupInt8Call p) {
  if constexpr (kHopperCode) {
    using Attention = GroupInt8Attention<kSize, kSlabs, kSlices, kCaps>;
    await_kernels_before();
    const int64_t first_row = tile_of(p) * Attention::kRows;
    Attention attention(p, first_row);
    attention.start();
    const int group = static_cast<int>(threadIdx.x / kWarpGroup) - 1;
    if (group < 0) {
      give_registers<24>();
      if (threadIdx.x == 0) attention.copy_tiles();
      return;
    }
    take_registers<240>();
    typename Attention::Rows rows(
        first_row + group * kGroupRows + threadIdx.x % kWarpGroup / kWarp * kTileRows,
        attention.totals);
    attention.attend(rows, group);
    attention.finish(rows);
    attention.store(rows);
  }
}

}  // namespace verbatim::cuda
