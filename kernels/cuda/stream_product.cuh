// The product that few rows have on Hopper, where time is what the weights take to come: x [m, k]
// by weights [n, k], m at most 64. The weights are the rows of a tile and x its columns, so that no
// row of a product is idle; a unit's product is the same either way. Each warp has 16 rows of
// weights and goes through all of k with them, in one ascending chain; the warps of a block share
// x's tiles. One warp more copies, in a ring that fills a multiprocessor's memory: what is on its
// way at a time, mostly 128 KiB and more, covers the latency of all other memory. Where K is cut,
// the slices' sums are added ascending in binary32.
#pragma once

#include <verbatim/kernels/cuda/tile_product.cuh>
#include <verbatim/kernels/cuda/warp_group.cuh>

namespace verbatim::cuda {

// That multiply, at most: with the one that copies, two for each quarter of a multiprocessor, which
// leaves them all registers that a thread can have.
inline constexpr int kStreamWarps = 7;

// Epilogue: as GroupCall's.
template <class Epilogue>
struct StreamCall {
  TileMap w, x;
  int m, n;
  int warps, stages;
  int turns;     // of blocks, each of 16 rows of weights for each warp
  int slabs;     // of K
  int per_fold;  // of them, in a chain
  Epilogue epilogue;
};

template <class Unit, int kTiles>  // of 8 rows of x
struct StreamProduct {
  static constexpr int kTileBytes = kTileRows * kSlabBytes;  // of a warp's weights
  static constexpr int kXBytes = kTiles * kTileColumns * kSlabBytes;
  using Sums = typename Unit::Sum[kTiles][4];

  static constexpr int stage_bytes(int warps) { return warps * kTileBytes + kXBytes; }
  static constexpr size_t shared_bytes(int warps, int64_t stages) {
    return kTileAlignment + static_cast<size_t>(stages) * bytes_with_barriers(warps);
  }
  static constexpr size_t bytes_with_barriers(int warps) {
    return static_cast<size_t>(stage_bytes(warps)) + 2 * sizeof(uint64_t);
  }
  // As many as there is room for, and as are worth their barriers.
  static constexpr int64_t most_stages(int warps) {
    return least(32, (kMostShared - kTileAlignment) / bytes_with_barriers(warps));
  }

  int warps, stages;
  std::byte* tiles;
  uint64_t *full, *empty;
  int stage = 0;
  unsigned parity = 0;  // of the ring's turn

  __device__ StreamProduct(int warps, int stages)
      : warps(warps), stages(stages), tiles(aligned_tiles()) {
    full = reinterpret_cast<uint64_t*>(tiles + stages * stage_bytes(warps));
    empty = full + stages;
  }

  // A share by each warp, since one would be at it for half a microsecond.
  __device__ void make_barriers(int warp) const {
    if (is_elected()) {
      for (int s = warp; s < stages; s += warps + 1) {
        init_barrier(&full[s], 1);
        init_barrier(&empty[s], static_cast<unsigned>(warps));
      }
      publish_barriers();
    }
    __syncthreads();
  }

  // A stage: 16 rows of weights for each warp, then x.
  __device__ std::byte* tile_of_w(int warp) const {
    return tiles + stage * stage_bytes(warps) + warp * kTileBytes;
  }
  __device__ std::byte* tile_of_x() const { return tile_of_w(warps); }
  __device__ void next_stage() {
    if (++stage < stages) return;
    stage = 0;
    parity ^= 1;
  }

  // step(row) for the first row of weights of each of the block's turns.
  template <class Call, class Step>
  __device__ static void each_turn(const Call& p, Step&& step) {
    for (int turn = static_cast<int>(blockIdx.x); turn < p.turns;
         turn += static_cast<int>(gridDim.x))
      step(turn * p.warps * kTileRows);
  }

  template <class Call>
  __device__ void copy_tiles(const Call& p) {
    each_turn(p, [&](int row) {
      for (int slab = 0; slab < p.slabs; ++slab, next_stage()) {
        wait_for_phase(&empty[stage], parity ^ 1);
        if (!is_elected()) continue;
        arrive_expecting(&full[stage], stage_bytes(warps));
        copy_tile(tile_of_w(0), p.w, slab * kSlabBytes, row, &full[stage]);
        copy_tile(tile_of_x(), p.x, slab * kSlabBytes, 0, &full[stage]);
      }
    });
  }

  // Of two units, half a slab: what four matrices of x are.
  struct Fragments {
    TileA w[2];
    TileB x[2][kTiles];
  };
  // A lane names a row by its number mod 8, with which the row's pieces of 16 bytes are exchanged.
  __device__ void load(Fragments& f, int warp, int half) const {
    const int lane = static_cast<int>(threadIdx.x % kWarp), row = lane % 8, matrix = lane / 8;
    const auto piece = [&](int i) { return row * kSlabBytes + (i ^ row) * 16; };
#pragma unroll
    for (int u = 0; u < 2; ++u)  // upper and lower rows of one piece, then of the next
      load_matrices(f.w[u].word, tile_of_w(warp) + matrix % 2 * 8 * kSlabBytes +
                                     piece(4 * half + 2 * u + matrix / 2));
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      uint32_t word[4];
      load_matrices(word, tile_of_x() + t * kTileColumns * kSlabBytes + piece(4 * half + matrix));
      f.x[0][t] = {{word[0], word[1]}};
      f.x[1][t] = {{word[2], word[3]}};
    }
  }
  __device__ static void multiply(Sums& sums, const Fragments& f, int unit) {
#pragma unroll
    for (int t = 0; t < kTiles; ++t) Unit::multiply(sums[t], f.w[unit], f.x[unit][t]);
  }

  __device__ void release() const {
    __syncwarp();
    if (threadIdx.x % kWarp == 0) arrive(&empty[stage]);
  }

  // One chain of so many slabs. Its products wait for nothing but each other: while half a slab is
  // multiplied the next half is loaded, and what a stage costs falls between two products.
  __device__ void multiply(Sums& sums, int warp, int slabs) {
    Fragments first, second;
    wait_for_phase(&full[stage], parity);
    load(first, warp, 0);
    for (int left = slabs - 1;; --left) {
      load(second, warp, 1);
      multiply(sums, first, 0);
      release();
      next_stage();
      multiply(sums, first, 1);
      if (left == 0) break;
      wait_for_phase(&full[stage], parity);
      load(first, warp, 0);
      multiply(sums, second, 0);
      multiply(sums, second, 1);
    }
    multiply(sums, second, 0);
    multiply(sums, second, 1);
  }

  template <class F>
  __device__ static void each(F&& f) {
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int e = 0; e < 4; ++e) f(t, e);
  }

  template <class Call>
  __device__ void sum_slices(const Call& p, Sums& sums, int warp) {
    for (int slab = 0; slab < p.slabs; slab += p.per_fold) {
      Sums chain;
      each([&](int t, int e) { chain[t][e] = 0; });
      multiply(chain, warp, p.slabs - slab < p.per_fold ? p.slabs - slab : p.per_fold);
      each([&](int t, int e) { sums[t][e] = slab == 0 ? chain[t][e] : sums[t][e] + chain[t][e]; });
    }
  }

  // Element e of tile t is of weights' row lane / 4 + 8 (e / 2) and x's row 8 t + 2 (lane mod 4) +
  // e mod 2. What finishes results is asked for before their products, since it comes from afar.
  template <class Call>
  __device__ void multiply_and_store(const Call& p, int warp) {
    using Epilogue = decltype(p.epilogue);
    const int lane = static_cast<int>(threadIdx.x % kWarp);
    const auto row_of = [&](int t, int e) { return t * kTileColumns + lane % 4 * 2 + e % 2; };
    const auto within = [](int i, int size) { return i < size ? i : size - 1; };
    typename Epilogue::Row rows[kTiles][2];
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int e = 0; e < 2; ++e) rows[t][e] = p.epilogue.row(within(row_of(t, e), p.m));
    each_turn(p, [&](int row) {
      const int n = row + warp * kTileRows + lane / 4;
      const typename Epilogue::Column columns[2] = {p.epilogue.column(within(n, p.n)),
                                                    p.epilogue.column(within(n + 8, p.n))};
      Sums sums;
      sum_slices(p, sums, warp);
      typename Epilogue::Out results[kTiles][4];
      each([&](int t, int e) {
        results[t][e] = p.epilogue.finished(sums[t][e], rows[t][e % 2], columns[e / 2]);
      });
      each([&](int t, int e) {
        const int64_t m = row_of(t, e);
        if (m < p.m && n + e / 2 * 8 < p.n) p.epilogue.out[m * p.n + n + e / 2 * 8] = results[t][e];
      });
    });
  }
};

template <class Unit, int kTiles, class Epilogue>
__global__ void __launch_bounds__((kStreamWarps + 1) * kWarp, 1)
    stream_weights(const __grid_constant__ StreamCall<Epilogue> p) {
  if constexpr (kHopperCode) {
    StreamProduct<Unit, kTiles> product(p.warps, p.stages);
    // By a shuffle, so that the compiler knows that a warp's threads have the same.
    const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x / kWarp), 0);
    product.make_barriers(warp);
    await_kernels_before();
    if (warp < p.warps)
      product.multiply_and_store(p, warp);
    else
      product.copy_tiles(p);
  }
}

// A block for each multiprocessor, with as many warps as give all of them rows of weights at a
// time.
template <class Unit, int kTiles, class Epilogue>
Status launch_stream(Gpu& gpu, const TileOperands& codes, int64_t per_fold,
                     const Epilogue& epilogue) {
  using Product = StreamProduct<Unit, kTiles>;
  const int64_t tiles = ceiling(codes.n, kTileRows), blocks = gpu.device().multiprocessors,
                turns_each = ceiling(tiles, blocks * kStreamWarps),
                slabs = ceiling(codes.row_bytes, kSlabBytes);
  const auto warps = static_cast<int>(ceiling(tiles, blocks * turns_each));
  const int64_t turns = ceiling(tiles, warps),
                stages = least(Product::most_stages(warps), slabs * turns_each);
  VB_ASSIGN(const TileMap w, map_tiles(codes.b, codes.n, codes.row_bytes, warps * kTileRows));
  VB_ASSIGN(const TileMap x, map_tiles(codes.a, codes.m, codes.row_bytes, kTiles * kTileColumns));
  const StreamCall<Epilogue> p{.w = w,
                               .x = x,
                               .m = static_cast<int>(codes.m),
                               .n = static_cast<int>(codes.n),
                               .warps = warps,
                               .stages = static_cast<int>(stages),
                               .turns = static_cast<int>(turns),
                               .slabs = static_cast<int>(slabs),
                               .per_fold = static_cast<int>(per_fold),
                               .epilogue = epilogue};
  const Grid grid{.blocks = {static_cast<unsigned>(least(turns, blocks)), 1, 1},
                  .threads = {static_cast<unsigned>(warps + 1) * kWarp, 1, 1},
                  .shared_bytes = Product::shared_bytes(warps, stages),
                  .early = true};
  return launch(gpu, grid, stream_weights<Unit, kTiles, Epilogue>, p);
}

inline constexpr int64_t kStreamRows = 64;  // of x, at most

// per_fold: slabs of a chain.
template <class Unit, class Epilogue>
Status multiply_in_stream(Gpu& gpu, const TileOperands& codes, int64_t per_fold,
                          const Epilogue& epilogue) {
  if (codes.m <= 8) return launch_stream<Unit, 1>(gpu, codes, per_fold, epilogue);
  if (codes.m <= 16) return launch_stream<Unit, 2>(gpu, codes, per_fold, epilogue);
  if (codes.m <= 32) return launch_stream<Unit, 4>(gpu, codes, per_fold, epilogue);
  return launch_stream<Unit, 8>(gpu, codes, per_fold, epilogue);
}

}  // namespace verbatim::cuda
