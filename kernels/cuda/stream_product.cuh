// The product that few rows have on Hopper, where time is what the weights take to come: x [m, k]
// by weights [n, k], m at most 64. The weights are the rows of a tile and x its columns, so that no
// row of a product is idle; a unit's product is the same either way. Each warp has 16 rows of
// weights and goes through all of k with them, in one ascending chain; the warps of a block share
// x's tiles. One warp more copies, in a ring that fills a multiprocessor's memory: what is on its
// way at a time, mostly 128 KiB and more, covers the latency of all other memory. Where K is cut,
// the slices' sums are added ascending in binary32.
//
// Weights of few bits come faster than one warp can multiply them, or copy them slab by slab: where
// sums are exact, several warps share 16 rows, each has its part of the slabs, and their sums are
// added in the end. A stage then has a slab for each, and one copy brings those of 16 rows; x's are
// another warp's to copy.
#pragma once

#include <verbatim/kernels/cuda/tile_product.cuh>
#include <verbatim/kernels/cuda/warp_group.cuh>

namespace verbatim::cuda {

// That multiply, at most: with the one that copies, two for each quarter of a multiprocessor, which
// leaves them all registers that a thread can have.
inline constexpr int kStreamWarps = 7;
inline constexpr int kSharingBarrier = 1;

// Epilogue: as GroupCall's. Weights: where a stream's weights come from, and what is done with
// them.
template <class Weights, class Epilogue>
struct StreamCall {
  Weights w;
  TileMap x;
  int m, n;
  int warps, stages;
  int parts;  // of K: so many warps share 16 rows of weights, and so many slabs are a stage's
  int turns;  // of blocks, each of `warps` times 16 rows of weights
  int slabs;  // of K
  Epilogue epilogue;
};

// A stage of some successive slabs: x's tiles, and so many bytes of weights for each warp. One warp
// fills it, the others read, each its part.
template <class Weights, int kTiles>  // of 8 rows of x
struct StreamRing {
  static constexpr int kTileBytes = Weights::kTileBytes;
  static constexpr int kXBytes = kTiles * kTileColumns * kSlabBytes;
  // Of x's tiles, which are swizzled by their place.
  static_assert(kXBytes % kTileAlignment == 0);

  // Warps that copy: the weights and x, or each. With many rows of x registers are scarce.
  static constexpr int kCopiers = Weights::kShares && kTiles <= 2 ? 2 : 1;

  static constexpr int slab_bytes(int warps) { return warps * kTileBytes + kXBytes; }
  static constexpr size_t shared_bytes(int warps, int parts, int64_t stages) {
    return kTileAlignment + static_cast<size_t>(stages) * bytes_with_barriers(warps, parts);
  }
  static constexpr size_t bytes_with_barriers(int warps, int parts) {
    return static_cast<size_t>(parts * slab_bytes(warps)) + 2 * sizeof(uint64_t);
  }
  // As many as there is room for beside so many bytes, and as are worth their barriers.
  static constexpr int64_t most_stages(int warps, int parts, size_t beside) {
    return least(32, (kMostShared - kTileAlignment - beside) / bytes_with_barriers(warps, parts));
  }

  int warps, parts, stages;
  std::byte *x_tiles, *w_tiles;  // of all stages
  uint64_t *full, *empty;
  int part = 0;  // the warp's
  int stage = 0;
  unsigned parity = 0;  // of the ring's turn

  template <class Call>
  __device__ explicit StreamRing(const Call& p)
      : warps(p.warps),
        parts(Weights::kShares ? p.parts : 1),
        stages(p.stages),
        x_tiles(aligned_tiles()),
        w_tiles(x_tiles + stages * parts * kXBytes) {
    full = reinterpret_cast<uint64_t*>(w_tiles + stages * parts * warps * kTileBytes);
    empty = full + stages;
  }
  __device__ std::byte* memory_behind() const {
    return reinterpret_cast<std::byte*>(empty + stages);
  }

  // A share by each warp, since one would be at it for half a microsecond.
  __device__ void make_barriers(int warp) const {
    if (is_elected()) {
      for (int s = warp; s < stages; s += warps * parts + kCopiers) {
        init_barrier(&full[s], kCopiers);
        init_barrier(&empty[s], static_cast<unsigned>(warps * parts));
      }
      publish_barriers();
    }
    __syncthreads();
  }

  __device__ std::byte* tile_of_w(int warp) const {
    return w_tiles + ((stage * warps + warp) * parts + part) * kTileBytes;
  }
  __device__ std::byte* tile_of_x() const { return x_tiles + (stage * parts + part) * kXBytes; }
  __device__ void next() {
    if (++stage < stages) return;
    stage = 0;
    parity ^= 1;
  }

  // f(), which begins copies of so many bytes of the stage, by one thread.
  template <class F>
  __device__ void fill(int bytes, F&& f) {
    wait_for_phase(&empty[stage], parity ^ 1);
    if (is_elected()) {
      arrive_expecting(&full[stage], bytes);
      f();
    }
    next();
  }
  __device__ void wait_until_full() const { wait_for_phase(&full[stage], parity); }
  __device__ void release() {
    __syncwarp();
    if (threadIdx.x % kWarp == 0) arrive(&empty[stage]);
    next();
  }

  // A unit's columns, of x's tile t, for both units of half a slab: what four matrices of x are. A
  // lane names a row by its number mod 8.
  __device__ void load_x(int t, int half, TileB& first, TileB& second) const {
    const int lane = static_cast<int>(threadIdx.x % kWarp);
    uint32_t word[4];
    load_matrices(word, tile_of_x() + t * kTileColumns * kSlabBytes +
                            slab_offset(lane % 8, 4 * half + lane / 8));
    first = {{word[0], word[1]}};
    second = {{word[2], word[3]}};
  }
};

// Rows of a unit's operands, in chains of per_fold slabs.
template <class UnitT>
struct UnitWeights {
  using Unit = UnitT;
  using Sum = typename Unit::Sum;
  static constexpr int kTileBytes = kTileRows * kSlabBytes;
  // A chain is one warp's.
  template <int kTiles>
  static constexpr int kMostWarps = kStreamWarps;
  static constexpr bool kShares = false;

  TileMap rows;  // in boxes of all warps'
  int per_fold;

  // To the stage's tiles, those of `row` and what follows it, of `count` slabs of all.
  template <class Ring>
  __device__ void copy(const Ring& ring, int row, int slab, int /*count*/, int /*slabs*/) const {
    copy_tile(ring.tile_of_w(0), rows, slab * kSlabBytes, row, &ring.full[ring.stage]);
  }

  // Of two units, half a slab.
  template <int kTiles>
  struct Fragments {
    TileA w[2];
    TileB x[2][kTiles];
  };
  template <class Ring, int kTiles>
  __device__ static void load(const Ring& ring, Fragments<kTiles>& f, int warp, int half) {
    const int lane = static_cast<int>(threadIdx.x % kWarp), row = lane % 8, matrix = lane / 8;
#pragma unroll
    for (int u = 0; u < 2; ++u)  // upper and lower rows of one piece, then of the next
      load_matrices(f.w[u].word, ring.tile_of_w(warp) + matrix % 2 * 8 * kSlabBytes +
                                     slab_offset(row, 4 * half + 2 * u + matrix / 2));
#pragma unroll
    for (int t = 0; t < kTiles; ++t) ring.load_x(t, half, f.x[0][t], f.x[1][t]);
  }
  template <int kTiles>
  __device__ static void multiply(Sum (&sums)[kTiles][4], const Fragments<kTiles>& f, int unit) {
#pragma unroll
    for (int t = 0; t < kTiles; ++t) Unit::multiply(sums[t], f.w[unit], f.x[unit][t]);
  }

  // One chain of so many slabs. Its products wait for nothing but each other: while half a slab is
  // multiplied the next half is loaded, and what a stage costs falls between two products.
  template <class Ring, int kTiles>
  __device__ static void multiply(Ring& ring, Sum (&sums)[kTiles][4], int warp, int slabs) {
    Fragments<kTiles> first, second;
    ring.wait_until_full();
    load(ring, first, warp, 0);
    for (int left = slabs - 1;; --left) {
      load(ring, second, warp, 1);
      multiply(sums, first, 0);
      ring.release();
      multiply(sums, first, 1);
      if (left == 0) break;
      ring.wait_until_full();
      load(ring, first, warp, 0);
      multiply(sums, second, 0);
      multiply(sums, second, 1);
    }
    multiply(sums, second, 0);
    multiply(sums, second, 1);
  }

  // Of the warp's 16 rows by all of x.
  template <class Ring, int kTiles>
  __device__ void sum(Ring& ring, Sum (&sums)[kTiles][4], int warp, int slabs) const {
    for (int slab = 0; slab < slabs; slab += per_fold) {
      Sum chain[kTiles][4] = {};
      multiply(ring, chain, warp, slabs - slab < per_fold ? slabs - slab : per_fold);
#pragma unroll
      for (int t = 0; t < kTiles; ++t)
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[t][e] = slab == 0 ? chain[t][e] : sums[t][e] + chain[t][e];
    }
  }
};

template <class Weights, int kTiles>
struct StreamProduct {
  using Ring = StreamRing<Weights, kTiles>;
  Ring ring;

  // step(row) for the first row of weights of each of the block's turns.
  template <class Call, class Step>
  __device__ static void each_turn(const Call& p, Step&& step) {
    for (int turn = static_cast<int>(blockIdx.x); turn < p.turns;
         turn += static_cast<int>(gridDim.x))
      step(turn * p.warps * kTileRows);
  }

  // f(row, first, count) for the first row and slab of each stage, and its number of slabs.
  template <class Call, class F>
  __device__ static void each_stage(const Call& p, F&& f) {
    each_turn(p, [&](int row) {
      for (int first = 0; first < p.slabs; first += p.parts)
        f(row, first, p.slabs - first < p.parts ? p.slabs - first : p.parts);
    });
  }
  template <class Call>
  __device__ void copy_x(const Call& p, int first, int count) {
    for (int i = 0; i < count; ++i)
      copy_tile(ring.tile_of_x() + i * Ring::kXBytes, p.x, (first + i) * kSlabBytes, 0,
                &ring.full[ring.stage]);
  }
  template <class Call>
  __device__ void copy_tiles(const Call& p, int copier) {
    each_stage(p, [&](int row, int first, int count) {
      const int x_bytes = count * Ring::kXBytes, w_bytes = count * p.warps * Weights::kTileBytes;
      const auto copy_w = [&] { p.w.copy(ring, row, first, count, p.slabs); };
      if (Ring::kCopiers == 1)
        ring.fill(w_bytes + x_bytes, [&] {
          copy_w();
          copy_x(p, first, count);
        });
      else if (copier == 0)
        ring.fill(w_bytes, copy_w);
      else
        ring.fill(x_bytes, [&] { copy_x(p, first, count); });
    });
  }

  template <class F>
  __device__ static void each(F&& f) {
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int e = 0; e < 4; ++e) f(t, e);
  }

  // The sums of all parts of K to the first part's warps: true for these.
  template <class Sum>
  __device__ bool add_parts(Sum (&sums)[kTiles][4], int warp) {
    if (ring.parts == 1) return true;
    const int lane = static_cast<int>(threadIdx.x % kWarp), threads = ring.warps * ring.parts * 32;
    auto* const all = reinterpret_cast<Sum*>(ring.memory_behind());
    const auto at = [&](int part, int t, int e) -> Sum& {
      return all[(((part - 1) * ring.warps + warp) * kTiles * 4 + t * 4 + e) * 32 + lane];
    };
    if (ring.part > 0) each([&](int t, int e) { at(ring.part, t, e) = sums[t][e]; });
    sync_threads(kSharingBarrier, threads);
    for (int part = 1; ring.part == 0 && part < ring.parts; ++part)
      each([&](int t, int e) { sums[t][e] += at(part, t, e); });
    sync_threads(kSharingBarrier, threads);  // before the next turn's are there
    return ring.part == 0;
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
      typename Weights::Sum sums[kTiles][4];
      p.w.sum(ring, sums, warp, p.slabs);
      if constexpr (Weights::kShares)
        if (!add_parts(sums, warp)) return;
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

template <class Weights, int kTiles, class Epilogue>
__global__ void __launch_bounds__(
    (Weights::template kMostWarps<kTiles> + StreamRing<Weights, kTiles>::kCopiers) * kWarp, 1)
    stream_weights(const __grid_constant__ StreamCall<Weights, Epilogue> p) {
  if constexpr (kHopperCode) {
    using Product = StreamProduct<Weights, kTiles>;
    Product product{typename Product::Ring(p)};
    // By a shuffle, so that the compiler knows that a warp's threads have the same.
    const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x / kWarp), 0);
    product.ring.make_barriers(warp);
    await_kernels_before();
    const int copier = warp - p.warps * product.ring.parts;
    if (Weights::kShares && copier < 0) product.ring.part = warp / p.warps;
    if (copier < 0)
      product.multiply_and_store(p, warp - product.ring.part * p.warps);
    else
      product.copy_tiles(p, copier);
  }
}

// x [m, k], rows of so many bytes, by weights [n, k].
struct StreamOperands {
  const void* x;
  int64_t m, n, row_bytes;
};

// A block for each multiprocessor, with as many warps as give all of them rows of weights at a
// time. make(warps): Result<Weights>.
template <int kTiles, class Weights, class Epilogue, class Make>
Status launch_stream(Gpu& gpu, const StreamOperands& p, const Epilogue& epilogue, Make&& make) {
  using Ring = typename StreamProduct<Weights, kTiles>::Ring;
  constexpr int kMostWarps = Weights::template kMostWarps<kTiles>;
  const int64_t tiles = ceiling(p.n, kTileRows), blocks = gpu.device().multiprocessors,
                turns_each = ceiling(tiles, blocks * kStreamWarps),
                slabs = ceiling(p.row_bytes, kSlabBytes);
  const auto warps = static_cast<int>(ceiling(tiles, blocks * turns_each));
  const auto parts = static_cast<int>(Weights::kShares ? least(kMostWarps / warps, slabs) : 1);
  const size_t sums =
      static_cast<size_t>((parts - 1) * warps) * kTiles * 4 * kWarp * sizeof(typename Weights::Sum);
  const int64_t turns = ceiling(tiles, warps), stages = least(Ring::most_stages(warps, parts, sums),
                                                              ceiling(slabs, parts) * turns_each);
  VB_ASSIGN(const Weights w, make(warps));
  VB_ASSIGN(const TileMap x, map_tiles(p.x, p.m, p.row_bytes, kTiles * kTileColumns));
  const StreamCall<Weights, Epilogue> call{.w = w,
                                           .x = x,
                                           .m = static_cast<int>(p.m),
                                           .n = static_cast<int>(p.n),
                                           .warps = warps,
                                           .stages = static_cast<int>(stages),
                                           .parts = parts,
                                           .turns = static_cast<int>(turns),
                                           .slabs = static_cast<int>(slabs),
                                           .epilogue = epilogue};
  const Grid grid{.blocks = {static_cast<unsigned>(least(turns, blocks)), 1, 1},
                  .threads = {static_cast<unsigned>(warps * parts + Ring::kCopiers) * kWarp, 1, 1},
                  .shared_bytes = Ring::shared_bytes(warps, parts, stages) + sums,
                  .early = true};
  return launch(gpu, grid, stream_weights<Weights, kTiles, Epilogue>, call);
}

inline constexpr int64_t kStreamRows = 64;  // of x, at most

// launch(std::integral_constant<int, kTiles>) with as many tiles as m rows of x take.
template <class Launch>
Status with_tiles_of(int64_t m, Launch&& launch) {
  if (m <= 8) return launch(std::integral_constant<int, 1>());
  if (m <= 16) return launch(std::integral_constant<int, 2>());
  if (m <= 32) return launch(std::integral_constant<int, 4>());
  return launch(std::integral_constant<int, 8>());
}

// per_fold: slabs of a chain.
template <class Unit, class Epilogue>
Status multiply_in_stream(Gpu& gpu, const TileOperands& codes, int64_t per_fold,
                          const Epilogue& epilogue) {
  using Weights = UnitWeights<Unit>;
  const auto make = [&](int warps) -> Result<Weights> {
    VB_ASSIGN(const TileMap rows, map_tiles(codes.b, codes.n, codes.row_bytes, warps * kTileRows));
    return Weights{rows, static_cast<int>(per_fold)};
  };
  return with_tiles_of(codes.m, [&](auto tiles) {
    return launch_stream<tiles(), Weights>(gpu, {codes.a, codes.m, codes.n, codes.row_bytes},
                                           epilogue, make);
  });
}

}  // namespace verbatim::cuda
