// Int8 attention on Hopper: 128 rows a block of threads. One warp copies tiles into a ring; two
// warp groups multiply, each with 64 rows, both products by wgmma. What takes the time is not the
// products but the instructions in between, some 25 for each score, so what matters is that
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
// A block's key scales, and its values' steps 2^f, as eight rows of 32 numbers, swizzled as tiles
// are: row q has those of thread q's keys, in their order, row 4 + q their values'.
inline constexpr int kScaleRows = 8, kScaleRowNumbers = 32,
                     kScaleBytes = kScaleRows * kScaleRowNumbers * static_cast<int>(sizeof(float));
__host__ __device__ inline int key_of_number(int q, int i) { return i / 2 * 8 + q * 2 + i % 2; }

struct GroupInt8Call : Int8AttentionCall {
  TileMap keys;    // codes of all keys as they lie
  TileMap values;  // [batch, kv_heads, columns] rows of codes along the keys, columns in multiples
                   // of kSize
  TileMap scales;  // [batch, kv_heads, blocks, kScaleRows] rows
  int blocks;      // of keys
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
  // A tile is a block's keys, with its scales, or its values.
  static constexpr int kSlabOfKeys = kBlockKeys * kSlabBytes, kSlabOfRows = kRows * kSlabBytes,
                       kKeyBytes = kSlabs * kSlabOfKeys, kValueBytes = kSize * kSlabBytes,
                       kTileBytes = kKeyBytes + kScaleBytes, kQueryBytes = kSlabs * kSlabOfRows;
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
      ring.begin_filling(kKeyBytes + kScaleBytes);
      uint64_t* full = &ring.full[ring.stage];
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab)
        copy_tile(ring.tile() + slab * kSlabOfKeys, p.keys,
                  kv() * static_cast<int>(p.head_size) + slab * kSlabBytes,
                  static_cast<int>(view.key_row(p, block)), full);
      copy_tile(ring.tile() + kKeyBytes, p.scales, 0,
                (head * p.blocks + block / kBlockKeys) * kScaleRows, full);
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
  // Where the thread's numbers lie behind a tile's keys: of pieces i and i + 4 of its row of
  // scales, offset[i] and 64 bytes on, or before where the swizzle exchanges the two.
  struct NumberPlaces {
    int offset[4];
    __device__ NumberPlaces() {
      const int q = static_cast<int>(threadIdx.x % 4);
#pragma unroll
      for (int i = 0; i < 4; ++i) offset[i] = kKeyBytes + slab_offset(q, i);
    }
    __device__ Four scales(const std::byte* tile, int piece) const {
      return *reinterpret_cast<const Four*>(tile + offset[piece % 4] + piece / 4 * 64);
    }
    __device__ Four steps(const std::byte* tile, int piece) const {
      constexpr int kRowsOn = 4 * kSlabRowBytes;
      return *reinterpret_cast<const Four*>(tile + offset[piece % 4] + kRowsOn +
                                            (1 - piece / 4) * 64);
    }
  };
  // use(i, its key's number) for each score i of the thread. numbers(piece): of keys 8 j + 2 q + e,
  // those of j = 2 piece and e = 0, 1, then those of j = 2 piece + 1.
  template <class Numbers, class Use>
  __device__ static void each_score(Numbers&& numbers, Use&& use) {
#pragma unroll
    for (int piece = 0; piece < kBlockKeys / 16; ++piece) {
      const Four four = numbers(piece);
#pragma unroll
      for (int i = 0; i < 8; ++i) use(8 * piece + i, four.of[i / 4 * 2 + i % 2]);
    }
  }

  __device__ static void scale(const float (&row_scale)[2], const NumberPlaces& places,
                               const std::byte* tile, const Scores& s, BlockScores& x) {
    each_score([&](int piece) { return places.scales(tile, piece); },
               [&](int i, float key_scale) {
                 x[i] = static_cast<float>(s[i]) * (row_scale[i / 2 % 2] * key_scale);
               });
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
        capped[i * kMultiplying] = p.scaled_score(capped[i * kMultiplying]);
#pragma unroll
      for (int i = 0; i < kCapped; ++i) x[first + i] = capped[i * kMultiplying];
    }
  }
  // The sums of a block's weights of each row, each lane's in order.
  __device__ static void add_weights(const BlockScores& x, float (&l)[2]) {
    float lane[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < kBlockKeys / 2; ++i) lane[i % 4] = lane[i % 4] + x[i];
#pragma unroll
    for (int h = 0; h < 2; ++h) l[h] = sum_of_row(lane[2 * h] + lane[2 * h + 1]);
  }
  // Weights times their values' steps.
  __device__ static void step_weights(const NumberPlaces& places, const std::byte* tile,
                                      BlockScores& x) {
    each_score([&](int piece) { return places.steps(tile, piece); },
               [&](int i, float step) { x[i] = x[i] * step; });
  }
  __device__ static float greatest_weight(const BlockScores& x, int h) {
    uint32_t most = 0;  // weights are not below zero, and NaN is above all
#pragma unroll
    for (int i = 2 * h; i < kBlockKeys / 2; i += 4)
      most = greatest_of(most, bits_of(x[i]), bits_of(x[i + 1]));
#pragma unroll
    for (int lane = 1; lane < 4; lane *= 2)
      most = greatest_of(most, most, __shfl_xor_sync(~0u, most, lane));
    return float_of(most);
  }
  // Their codes; with two slices, what these leave, in 1/128.
  __device__ static void code_weights(const BlockScores& x, const float (&up)[2],
                                      Codes (&codes)[kSlices]) {
#pragma unroll
    for (int i = 0; i < kBlockKeys / 2; i += 8)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float t[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) t[e] = x[i + e / 2 * 4 + 2 * h + e % 2] * up[h];
        codes[0][i / 4 + h] = packed_codes(t[0], t[1], t[2], t[3]);
        if constexpr (kSlices == 2) {
#pragma unroll
          for (float& rest : t) rest = (rest - ((rest + 12582912.0f) - 12582912.0f)) * 128.0f;
          codes[1][i / 4 + h] = packed_codes(t[0], t[1], t[2], t[3]);
        }
      }
  }
  // Of a key that a row does not see the score is -infinity, so that its weight is 0; which it
  // still is after a step of NaN.
  __device__ void take_scores_of(const float (&row_scale)[2], const NumberPlaces& places,
                                 bool whole, int block, const std::byte* tile, const Scores& s,
                                 Rows& rows, Codes (&codes)[kSlices], Joining (&joining)[2]) const {
    const auto seen = [&] { return seen_anew(rows.row).seen_of(block); };
    BlockScores x;
    float m[2] = {kUnseen, kUnseen}, l[2], up[2];
    scale(row_scale, places, tile, s, x);
    if constexpr (kCaps) cap_scores(x);
    weigh_scores([](float score) { return score; }, whole, seen, x, m);
    add_weights(x, l);
    step_weights(places, tile, x);
    bool sees[2] = {true, true};
    if (!whole) {
      const SeenKeys of_block = seen();
      clear_unseen(SeenBits(of_block), x);
      for (int h = 0; h < 2; ++h) sees[h] = of_block.count[h] > 0;
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float greatest = greatest_weight(x, h);
      up[h] = inverse_factor(greatest);
      if (!sees[h])
        joining[h] = kNothingJoins;
      else
        joining[h] =
            join_block(rows.state.m[h], rows.state.l[h], m[h], l[h], factor_of(greatest, kSlices));
    }
    code_weights(x, up, codes);
  }

  __device__ static void join_values(const Sums& sums, const Joining (&joining)[2],
                                     float (&o)[kSize / 2]) {
    if (__any_sync(~0u, joining[0].alpha != 1 || joining[1].alpha != 1)) {
#pragma unroll
      for (int i = 0; i < kSize / 2; ++i) o[i] = o[i] * joining[i / 2 % 2].alpha;
    }
#pragma unroll
    for (int i = 0; i < kSize / 2; ++i) {
      const Joining& j = joining[i / 2 % 2];
      o[i] = fma32(static_cast<float>(sums[i]) * j.down, j.beta, o[i]);
    }
  }

  __device__ void attend(Rows& rows, int group) {
    const KeyRange common = RowRanges(p, view, rows.row).common();
    if (begin >= end) return;
    const float c = kCaps ? 1.0f : p.log_scale;
    float row_scale[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t row = rows.thread_row(h);
      row_scale[h] = row < view.rows ? p.row_scale(view.head_row(p, row)) * c : 0.0f;
    }
    const NumberPlaces places;
    Scores s;
    if (group == 1) pass_turn(0);
    multiply_keys(s, group, true);
    for (int block = first_block(); block < end; block += kBlockKeys) {
      const bool more = block + kBlockKeys < end;
      Codes codes[kSlices];
      Joining joining[2];
      wait_for_products<0>();
      settle(s);
      if (block % kKeyRestart == 0 && block > begin) rows.end_part();
      const bool whole = common.covers(block);
      take_scores_of(row_scale, places, whole, block, ring.tile(), s, rows, codes, joining);
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

  // o / l; turned back, where heads are rotated as a whole. Columns 8 j + 2 q + e: strides of 1 are
  // within a pair, of 2 and 4 between threads, the others between elements.
  __device__ void finish(Rows& rows) const {
    auto& o = rows.state.o;
    constexpr int kElements = kSize / 2;
    divide_rows(rows.state.l, o);
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
    share_attention<Attention>(
        p,
        [](Attention& attention) {
          if (threadIdx.x == 0) attention.copy_tiles();
        },
        [&](Attention& attention, int group, int64_t row) {
          typename Attention::Rows rows(row, attention.totals);
          attention.attend(rows, group);
          attention.finish(rows);
          attention.store(rows);
        });
  }
}

}  // namespace verbatim::cuda
