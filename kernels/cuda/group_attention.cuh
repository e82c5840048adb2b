// Attention of family C on Hopper: 128 rows a block of threads. One warp group copies tiles of keys
// and of values, 128 by the size of a head, into a ring; two multiply, each with 64 rows, both
// products by wgmma, and go through the keys as FlashAttention-3 does (Shah et al., arXiv
// 2407.08608): the products of a block's values are under way while the next block's scores become
// weights. l is a product as well, of weights and ones: sums took instructions, which are scarce.
//
// A key that a row does not see counts as zero in both operands, which products of shared tiles
// cannot have: its weight is zero, but zero times infinity is NaN. So where a block is not seen
// whole, a warp that does nothing else looks for values that are not finite. Where it finds some,
// the results of those rows are wrong, and attend_tiles() makes them anew.
#pragma once

#include <verbatim/repops/ops/tensor_core.h>
#include <verbatim/kernels/cuda/attention_groups.cuh>

namespace verbatim::cuda {

struct GroupAttentionCall : AttentionCall {
  TileMap keys, values;
  bool float_out, restarts;
  uint8_t* special;  // of each tile of rows, whether its results are wrong; null: none can be
  int row_tiles;     // of a head of keys
  int all_heads;     // of keys, in all sequences
};

// The 128 rows of a block of threads: which of a head's, and of which of all heads of keys. The
// tiles of some heads are worked on side by side, so that what they read is in caches, and of these
// the ones first that see most keys.
struct RowTile {
  static constexpr int kAbreast = 16;
  int rows, head;
  __device__ explicit RowTile(const GroupAttentionCall& p) {
    const auto i = static_cast<int>(unknown(blockIdx.x));
    const int first = i / (kAbreast * p.row_tiles) * kAbreast,
              heads = kAbreast < p.all_heads - first ? kAbreast : p.all_heads - first,
              rank = (i - first * p.row_tiles) / heads;
    rows = p.causal ? p.row_tiles - 1 - rank : rank;
    head = first + (i - first * p.row_tiles) % heads;
  }
};

template <class T, int kSize>  // kSize: of a head's queries, keys and values
struct GroupAttention {
  using Unit = FloatUnit<typename tensor_core::FormatOf<T>::type>;
  static constexpr int kGroups = 2, kRows = kGroups * kGroupRows, kSlabs = kSize / kSlabCodes,
                       kMultiplying = kGroups * static_cast<int>(kWarpGroup);
  static constexpr unsigned kThreads = kMultiplying + kWarpGroup, kReaders = kGroups * 4 + 1;
  // In shared memory; slabs and queries of one group's rows.
  static constexpr int kSlabOfKeys = kBlockKeys * kSlabRowBytes,
                       kSlabOfRows = kGroupRows * kSlabRowBytes, kTileBytes = kSlabs * kSlabOfKeys,
                       kQueryBytes = kSlabs * kSlabOfRows,
                       kOnesBytes = static_cast<int>(kTileAlignment),
                       kTotalBytes = kRows * kSize * static_cast<int>(sizeof(float));
  using Ring = TileRing<kTileBytes>;

  static constexpr size_t fixed_bytes(bool restarts) {
    return kTileAlignment + kGroups * kQueryBytes + kOnesBytes +
           (restarts ? size_t{kTotalBytes} : 0);
  }
  static constexpr int stages(bool restarts) { return Ring::stages_beside(fixed_bytes(restarts)); }
  static constexpr size_t shared_bytes(bool restarts) {
    return fixed_bytes(restarts) + size_t{kTileBytes} * stages(restarts) + Ring::kBarrierBytes;
  }
  static_assert(stages(true) >= 4);

  const GroupAttentionCall& p;
  const RowTile tile;
  const AttentionView<T> view;
  std::byte *queries, *ones;
  Ring ring;
  float* totals;
  int begin, end;  // of the keys that some row sees

  __device__ static AttentionView<T> view_of(const GroupAttentionCall& p, const RowTile& tile) {
    const auto kv_heads = static_cast<int>(p.kv_heads);
    return {p, tile.head / kv_heads, tile.head % kv_heads, 0, int64_t{tile.rows} * kRows};
  }
  __device__ explicit GroupAttention(const GroupAttentionCall& call)
      : p(call),
        tile(call),
        view(view_of(call, tile)),
        queries(aligned_tiles()),
        ones(queries + kGroups * kQueryBytes),
        ring(ones + kOnesBytes, stages(call.restarts)),
        totals(reinterpret_cast<float*>(ring.end())) {
    begin = range_of(p, view, view.first_row).begin;
    end = range_of(p, view, view.first_row + kRows - 1).end;
  }

  // Before anything else, by all threads.
  __device__ void start() const {
    if (threadIdx.x == 0) ring.init(kReaders);
    for (int i = static_cast<int>(threadIdx.x); i < kOnesBytes / 4; i += kThreads)
      reinterpret_cast<uint32_t*>(ones)[i] = kOnes<T>;
    publish_tiles();
    __syncthreads();
  }
  // By a group: keys come meanwhile.
  __device__ void load_queries_of(int group) const {
    AttentionView<T> of_group = view;
    of_group.first_row += group * kGroupRows;
    load_queries<kGroupRows, kSize / 8, static_cast<int>(kWarpGroup)>(
        static_cast<int>(threadIdx.x % kWarpGroup), p, of_group, queries + group * kQueryBytes);
    sync_threads(1 + group, kWarpGroup);
  }

  __device__ int first_block() const { return begin / kBlockKeys * kBlockKeys; }

  // step(map, block) for each tile in the order of the ring: a block's values after the keys of the
  // next one.
  template <class Step>
  __device__ void each_tile(Step&& step) {
    for (int block = first_block(); block < end + kBlockKeys; block += kBlockKeys) {
      if (block < end) {
        step(p.keys, block);
        ring.next();
      }
      if (block > first_block()) {
        step(p.values, block - kBlockKeys);
        ring.next();
      }
    }
  }

  // By one thread.
  __device__ void copy_tiles() {
    const int byte = tile.head % static_cast<int>(p.kv_heads) * kSlabs * kSlabRowBytes;
    if (begin >= end) return;
    each_tile([&](const TileMap& map, int block) {
      ring.begin_filling(kTileBytes);
      const auto row = static_cast<int>(view.key_row(p, block));
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab)
        copy_tile(ring.tile() + slab * kSlabOfKeys, map, byte + slab * kSlabRowBytes, row,
                  &ring.full[ring.stage]);
    });
  }

  // By one warp.
  __device__ void look_at_values() {
    const KeyRange first = range_of(p, view, view.first_row),
                   last = range_of(p, view, view.first_row + kRows - 1);
    bool special = false;
    if (begin < end)
      each_tile([&](const TileMap& map, int block) {
        ring.wait_until_full();
        const bool whole = KeyRange{last.begin, first.end}.covers(block);
        if (&map == &p.values && !whole)
          for (int slab = 0; slab < kSlabs; ++slab)
            special = has_special<T>(ring.tile() + slab * kSlabOfKeys) || special;
        ring.release(ring.stage);
      });
    if (p.special != nullptr && threadIdx.x % kWarp == 0)
      p.special[tile.head * p.row_tiles + tile.rows] = special;
  }

  // Products of the tiles that come next, under way when these return.
  __device__ void multiply_keys(BlockScores& s, int group) const {
    ring.wait_until_full();
    const uint64_t q = uniform(describe_tile(queries + group * kQueryBytes)),
                   k = uniform(describe_tile(ring.tile()));
    begin_products();
    multiply_group<Unit, kBlockKeys, true>(s, q, k);
#pragma unroll
    for (int unit = 1; unit < kSlabs * 4; ++unit) {
      const int slab = unit / 4, next = unit % 4 * kNextUnit;
      multiply_group<Unit, kBlockKeys>(s, further(q, slab * kSlabOfRows / 16 + next),
                                       further(k, slab * kSlabOfKeys / 16 + next));
    }
    commit_products();
  }
  // And of l, whose values are ones wherever a product reads them.
  __device__ void multiply_values(float (&o)[kSize / 2], WeightSums& l,
                                  const BlockWeights& weights) const {
    ring.wait_until_full();
    const uint64_t v = uniform(describe_rows(ring.tile(), kSlabOfKeys)),
                   of_l = uniform(describe_like_rows(ones));
    begin_products();
#pragma unroll
    for (int i = 0; i < kBlockKeys / 16; ++i) {
      const TileA a{{weights[4 * i], weights[4 * i + 1], weights[4 * i + 2], weights[4 * i + 3]}};
      multiply_group_rows<Unit, kSize>(o, a, further(v, i * kNextRows));
      multiply_group_rows<Unit, kTileColumns>(l, a, of_l);
    }
    commit_products();
  }

  using Rows = WarpRows<kSize, kMultiplying>;
  // The view, for what is seldom done.
  __device__ AttentionView<T> view_anew() const { return view_of(p, RowTile(p)); }

  __device__ int64_t first_row_of_warp(int group) const {
    return view.first_row + group * kGroupRows + threadIdx.x % kWarpGroup / kWarp * kTileRows;
  }
  __device__ void attend(Rows& rows, int group) {
    const KeyRange common = RowRanges(p, view, rows.row).common();
    if (begin >= end) return;
    auto& o = rows.state.o;
    WeightSums l = {};
    BlockScores s;
    BlockWeights weights;
    float alpha[2];
    const auto take_block = [&](int block) {
      return take_scores(
          p.log_scale, common.covers(block),
          [&] { return RowRanges(p, view_anew(), rows.row).seen_of(block); }, s, rows.state.m,
          alpha);
    };
    const auto wait_for_values = [&] {
      wait_for_products<0>();
      settle(o);
      settle(l);
    };
    multiply_keys(s, group);
    wait_for_products<0>();
    settle(s);
    ring.release(ring.stage);
    ring.next();
    take_block(first_block());
    round_weights<T>(s, weights);
    for (int block = first_block() + kBlockKeys; block < end; block += kBlockKeys) {
      multiply_keys(s, group);
      const int of_keys = ring.stage;
      ring.next();
      multiply_values(o, l, weights);
      const int of_values = ring.stage;
      ring.next();
      wait_for_products<1>();
      settle(s);
      ring.release(of_keys);
      if (block % kKeyRestart == 0) [[unlikely]] {
        wait_for_values();
        rows.end_part(l);
      }
      const bool may_rise = take_block(block);
      wait_for_values();
      settle(weights);
      ring.release(of_values);
      if (may_rise) {
        multiply_rows(o, alpha);
        multiply_rows(l, alpha);
      }
      round_weights<T>(s, weights);
    }
    multiply_values(o, l, weights);
    wait_for_values();
    rows.end(l);
  }
};

template <class T, int kSize>
__global__ void __launch_bounds__((GroupAttention<T, kSize>::kThreads), 1)
    attend_groups(const __grid_constant__ GroupAttentionCall p) {
  if constexpr (kHopperCode) {
    using Attention = GroupAttention<T, kSize>;
    await_kernels_before();
    Attention attention(p);
    attention.start();
    const int group = static_cast<int>(threadIdx.x / kWarpGroup) - 1;
    if (group < 0) {
      give_registers<40>();
      if (threadIdx.x == 0) attention.copy_tiles();
      if (threadIdx.x / kWarp == 1) attention.look_at_values();
      return;
    }
    take_registers<232>();
    attention.load_queries_of(group);
    typename Attention::Rows rows(attention.first_row_of_warp(group),
                                  attention.totals + threadIdx.x - kWarpGroup);
    attention.attend(rows, group);
    share_rows(rows.state.l, rows.state.o);
    const AttentionView<T> view = attention.view_anew();
    if (p.float_out)
      rows.template store_rows<float, true>(p, view, 0, kSize);
    else
      rows.template store_rows<T, true>(p, view, 0, kSize);
  }
}

}  // namespace verbatim::cuda
