// Attention of family C on Hopper: 128 rows a block of threads. One warp group copies tiles of keys
// and of values, 128 by the size of a head, into a ring; two multiply, each with 64 rows, both
// products by wgmma, and go through the keys as FlashAttention-3 does (Shah et al., arXiv
// 2407.08608): the products of a block's values are under way while the next block's scores become
// weights.
//
// A key that a row does not see counts as zero in both operands, which products of shared tiles
// cannot have: its weight is zero, but zero times infinity is NaN. So where a block is not seen
// whole, a warp that does nothing else looks for values that are not finite. Where it finds some,
// the results of the block of threads are wrong, and attend_tiles() makes them anew.
#pragma once

#include <verbatim/repops/ops/tensor_core.h>
#include <verbatim/kernels/cuda/attention_groups.cuh>

namespace verbatim::cuda {

struct GroupAttentionCall : AttentionCall {
  TileMap keys, values;
  bool float_out, restarts;
  uint8_t* special;  // of each block of threads, whether its results are wrong; null: none can be
};

template <class T, int kSize>  // kSize: of a head's queries, keys and values
struct GroupAttention {
  using Unit = FloatUnit<typename tensor_core::FormatOf<T>::type>;
  static constexpr int kGroups = 2, kRows = kGroups * kGroupRows, kSlabs = kSize / kSlabCodes,
                       kMultiplying = kGroups * static_cast<int>(kWarpGroup);
  static constexpr unsigned kThreads = kMultiplying + kWarpGroup, kReaders = kGroups * 4 + 1;
  static constexpr int kSlabOfKeys = kBlockKeys * kSlabRowBytes,
                       kSlabOfRows = kRows * kSlabRowBytes, kTileBytes = kSlabs * kSlabOfKeys,
                       kQueryBytes = kSlabs * kSlabOfRows,
                       kTotalBytes = kRows * kSize * static_cast<int>(sizeof(float));
  using Ring = TileRing<kTileBytes>;

  static constexpr size_t fixed_bytes(bool restarts) {
    return kTileAlignment + kQueryBytes + (restarts ? size_t{kTotalBytes} : 0);
  }
  static constexpr int stages(bool restarts) { return Ring::stages_beside(fixed_bytes(restarts)); }
  static constexpr size_t shared_bytes(bool restarts) {
    return fixed_bytes(restarts) + size_t{kTileBytes} * stages(restarts) + Ring::kBarrierBytes;
  }
  static_assert(stages(true) >= 3);

  const GroupAttentionCall& p;
  const AttentionView<T> view;
  std::byte* queries;
  Ring ring;
  float* totals;
  int begin, end;  // of the keys that some row sees

  __device__ GroupAttention(const GroupAttentionCall& call, int64_t first_row)
      : p(call),
        view(call, blockIdx.z, blockIdx.y, 0, first_row),
        queries(aligned_tiles()),
        ring(queries + kQueryBytes, stages(call.restarts)),
        totals(reinterpret_cast<float*>(ring.end())) {
    begin = range_of(p, view, first_row).begin;
    end = range_of(p, view, first_row + kRows - 1).end;
  }

  // Barriers, and the rows' queries, before anything else.
  __device__ void start() const {
    if (threadIdx.x == 0) ring.init(kReaders);
    load_queries<kRows, kSize / 8, kThreads>(p, view, queries);
    __syncthreads();
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
    const int byte = static_cast<int>(blockIdx.y) * kSlabs * kSlabRowBytes;
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
      p.special[(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x +
                static_cast<unsigned>(view.first_row / kRows)] = special;
  }

  // Products of the tiles that come next, under way when these return.
  __device__ void multiply_keys(BlockScores& s, int group) const {
    ring.wait_until_full();
    const uint64_t q = uniform(describe_tile(queries + group * kGroupRows * kSlabRowBytes)),
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
  __device__ void multiply_values(float (&o)[kSize / 2], const BlockWeights& weights) const {
    ring.wait_until_full();
    const uint64_t v = uniform(describe_rows(ring.tile(), kSlabOfKeys));
    begin_products();
#pragma unroll
    for (int i = 0; i < kBlockKeys / 16; ++i)
      multiply_group_rows<Unit, kSize>(
          o, {{weights[4 * i], weights[4 * i + 1], weights[4 * i + 2], weights[4 * i + 3]}},
          further(v, i * kNextRows));
    commit_products();
  }

  using Rows = WarpRows<kSize, kMultiplying>;
  // The view, for what is seldom done.
  __device__ AttentionView<T> view_anew() const {
    return {p, unknown(blockIdx.z), unknown(blockIdx.y), 0, tile_of(p) * kRows};
  }

  __device__ void attend(Rows& rows, int group) {
    const KeyRange common = RowRanges(p, view, rows.row).common();
    if (begin >= end) return;
    const auto take_block = [&](int block, BlockScores& s, float(&alpha)[2]) {
      take_scores(
          p.log_scale, common.covers(block),
          [&] { return RowRanges(p, view_anew(), rows.row).seen_of(block); }, s, rows.state.m,
          alpha);
    };
    if (group == 1) pass_turn(0);
    BlockScores s;
    BlockWeights weights;
    float alpha[2];
    multiply_keys(s, group);
    wait_for_products<0>();
    settle(s);
    ring.release(ring.stage);
    ring.next();
    take_block(first_block(), s, alpha);
    round_weights<T>(s, alpha, weights, rows.state.l);
    for (int block = first_block() + kBlockKeys; block < end; block += kBlockKeys) {
      await_turn(group);
      multiply_keys(s, group);
      const int of_keys = ring.stage;
      ring.next();
      multiply_values(rows.state.o, weights);
      pass_turn(1 - group);
      const int of_values = ring.stage;
      ring.next();
      wait_for_products<1>();
      settle(s);
      ring.release(of_keys);
      if (block % kKeyRestart == 0) [[unlikely]] {
        wait_for_products<0>();
        settle(rows.state.o);
        rows.end_part();
      }
      take_block(block, s, alpha);
      wait_for_products<0>();
      settle(rows.state.o);
      settle(weights);
      ring.release(of_values);
      multiply_rows(rows.state.o, alpha);
      round_weights<T>(s, alpha, weights, rows.state.l);
    }
    multiply_values(rows.state.o, weights);
    wait_for_products<0>();
    settle(rows.state.o);
    rows.end();
  }
};

template <class T, int kSize>
__global__ void __launch_bounds__((GroupAttention<T, kSize>::kThreads), 1)
    attend_groups(const __grid_constant__ GroupAttentionCall p) {
  if constexpr (kHopperCode) {
    using Attention = GroupAttention<T, kSize>;
    share_attention<Attention>(
        p,
        [](Attention& attention) {
          if (threadIdx.x == 0) attention.copy_tiles();
          if (threadIdx.x / kWarp == 1) attention.look_at_values();
        },
        [&](Attention& attention, int group, int64_t row) {
          typename Attention::Rows rows(row, attention.totals + threadIdx.x - kWarpGroup);
          attention.attend(rows, group);
          const AttentionView<T> view = attention.view_anew();
          divide_rows(rows.state.l, rows.state.o);
          if (p.float_out)
            rows.template store_rows<float, true>(p, view, 0, kSize);
          else
            rows.template store_rows<T, true>(p, view, 0, kSize);
        });
  }
}

}  // namespace verbatim::cuda
