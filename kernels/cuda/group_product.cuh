// The product that large matrices have on Hopper: A [m, k] and B [n, k], row-major, in blocks of
// 128 x kColumns results. One warp group of a block of threads copies tiles, two multiply, each
// with 64 rows, and tiles are in a ring between them. Blocks of threads take blocks of results in
// turn, so that the next one's tiles come while the last one's results go. Each result is one
// chain, ascending in k; where K is cut, the slices' sums are added ascending in binary32.
#pragma once

#include <verbatim/kernels/cuda/tile_product.cuh>
#include <verbatim/kernels/cuda/warp_group.cuh>

namespace verbatim::cuda {

// What finishes a result: Epilogue::Out, finished(sum, m, n), out [m, n].
template <class Epilogue>
struct GroupCall {
  TileMap a, b;
  int64_t m, n;
  int slabs;     // of K
  int per_fold;  // of them, in a chain
  Epilogue epilogue;
};

template <class Unit, int kColumns, bool kFolds>
struct GroupProduct {
  static constexpr int kGroups = 2, kRows = kGroups * kGroupRows;
  static constexpr unsigned kThreads = (kGroups + 1) * kWarpGroup, kWarps = kGroups * 4;
  static constexpr int kStages = kColumns == 256 ? 4 : 6;
  static constexpr int kStageBytes = (kRows + kColumns) * kSlabBytes;
  static constexpr size_t kSharedBytes =
      kTileAlignment + size_t{kStageBytes} * kStages + 2 * kStages * sizeof(uint64_t);
  static_assert(kSharedBytes <= kMostShared);

  std::byte* tiles;
  uint64_t *full, *empty;
  int stage = 0;
  unsigned parity = 0;  // of the ring's turn

  __device__ GroupProduct() {
    auto* shared = shared_memory<std::byte>();
    tiles = shared + (kTileAlignment - shared_address(shared) % kTileAlignment) % kTileAlignment;
    full = reinterpret_cast<uint64_t*>(tiles + kStageBytes * kStages);
    empty = full + kStages;
  }

  __device__ void make_barriers() const {
    if (threadIdx.x == 0) {
      for (int s = 0; s < kStages; ++s) {
        init_barrier(&full[s], 1);
        init_barrier(&empty[s], kWarps);
      }
      publish_barriers();
    }
    __syncthreads();
  }

  __device__ std::byte* tile_of_a() const { return tiles + stage * kStageBytes; }
  __device__ std::byte* tile_of_b() const { return tile_of_a() + kRows * kSlabBytes; }
  __device__ void next_stage() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }

  // Blocks of results in an order in which those at work at one time share rows and columns.
  static constexpr int kBand = 8;
  struct Place {
    int row, column;
  };
  __device__ static Place place(int64_t m, int64_t n, int block) {
    const int rows = static_cast<int>(ceiling(m, kRows)),
              columns = static_cast<int>(ceiling(n, kColumns)), band = block / (kBand * columns),
              in_band = block - band * kBand * columns,
              height = rows - band * kBand < kBand ? rows - band * kBand : kBand;
    return {(band * kBand + in_band % height) * kRows, in_band / height * kColumns};
  }
  static int64_t blocks(int64_t m, int64_t n) { return ceiling(m, kRows) * ceiling(n, kColumns); }

  // By one thread.
  template <class Call>
  __device__ void copy_tiles(const Call& p, int blocks) {
    for (int block = static_cast<int>(blockIdx.x); block < blocks;
         block += static_cast<int>(gridDim.x)) {
      const Place at = place(p.m, p.n, block);
      for (int slab = 0; slab < p.slabs; ++slab, next_stage()) {
        wait_for_phase(&empty[stage], parity ^ 1);
        arrive_expecting(&full[stage], kStageBytes);
        copy_tile(tile_of_a(), p.a, slab * kSlabBytes, at.row, &full[stage]);
        copy_tile(tile_of_b(), p.b, slab * kSlabBytes, at.column, &full[stage]);
      }
    }
  }

  __device__ void release(int of_stage) const {
    __syncwarp();
    if (threadIdx.x % kWarp == 0) arrive(&empty[of_stage]);
  }

  // One chain of so many slabs, into sums that are zero. A slab's tiles are given back while the
  // next slab's products are under way.
  __device__ void multiply(GroupSums<Unit, kColumns>& sums, int group, int slabs) {
    for (int slab = 0; slab < slabs; ++slab, next_stage()) {
      wait_for_phase(&full[stage], parity);
      const uint64_t a = describe_tile(tile_of_a() + group * kGroupRows * kSlabBytes),
                     b = describe_tile(tile_of_b());
      begin_products();
#pragma unroll
      for (uint64_t unit = 0; unit < kSlabBytes / kUnitBytes; ++unit)
        multiply_group<Unit, kColumns>(sums, a + unit * kNextUnit, b + unit * kNextUnit);
      commit_products();
      if (slab > 0) {
        wait_for_products<1>();
        release((stage == 0 ? kStages : stage) - 1);
      }
    }
    wait_for_products<0>();
    release((stage == 0 ? kStages : stage) - 1);
  }

  __device__ static void clear(GroupSums<Unit, kColumns>& sums) {
#pragma unroll
    for (auto& s : sums) s = 0;
  }

  template <class Call>
  __device__ void multiply_and_store(const Call& p, int group, int blocks) {
    for (int block = static_cast<int>(blockIdx.x); block < blocks;
         block += static_cast<int>(gridDim.x)) {
      GroupSums<Unit, kColumns> sums;
      clear(sums);
      multiply(sums, group, kFolds ? p.per_fold : p.slabs);
      if constexpr (kFolds) {
        GroupSums<Unit, kColumns> more;
        for (int slab = p.per_fold; slab < p.slabs; slab += p.per_fold) {
          clear(more);
          multiply(more, group, p.slabs - slab < p.per_fold ? p.slabs - slab : p.per_fold);
#pragma unroll
          for (int i = 0; i < kColumns / 2; ++i) sums[i] = sums[i] + more[i];
        }
      }
      const Place at = place(p.m, p.n, block);
      store_results(p, sums, at.row + group * kGroupRows, at.column);
    }
  }

  // Two results of a row at once, where the rows of `out` allow that.
  template <class Call>
  __device__ static void store_results(const Call& p, const GroupSums<Unit, kColumns>& sums,
                                       int row, int column) {
    using Out = typename decltype(p.epilogue)::Out;
    struct alignas(2 * sizeof(Out)) Pair {
      Out first, second;
    };
    const int t = static_cast<int>(threadIdx.x % kWarpGroup);
    const int64_t first_row = row + t / 32 * kTileRows + t % 32 / 4,
                  first_column = column + t % 4 * 2;
    const bool in_pairs = p.n % 2 == 0;
#pragma unroll
    for (int i = 0; i < kColumns / 2; i += 2) {
      const int64_t m = first_row + i % 4 / 2 * 8, n = first_column + i / 4 * kTileColumns;
      if (m >= p.m || n >= p.n) continue;
      Out* to = p.epilogue.out + m * p.n + n;
      const Out first = p.epilogue.finished(sums[i], m, n);
      if (n + 1 == p.n) {
        *to = first;
        continue;
      }
      const Out second = p.epilogue.finished(sums[i + 1], m, n + 1);
      if (in_pairs) {
        *reinterpret_cast<Pair*>(to) = {first, second};
      } else {
        to[0] = first;
        to[1] = second;
      }
    }
  }
};

template <class Unit, int kColumns, bool kFolds, class Epilogue>
__global__ void __launch_bounds__((GroupProduct<Unit, kColumns, kFolds>::kThreads), 1)
    multiply_groups(const __grid_constant__ GroupCall<Epilogue> p, int blocks) {
  GroupProduct<Unit, kColumns, kFolds> product;
  product.make_barriers();
  const int group = static_cast<int>(threadIdx.x / kWarpGroup) - 1;
  if (group < 0) {
    give_registers<40>();
    if (threadIdx.x == 0) product.copy_tiles(p, blocks);
  } else {
    take_registers<232>();
    product.multiply_and_store(p, group, blocks);
  }
}

template <class Unit, int kColumns, bool kFolds, class Epilogue>
Status launch_groups(Gpu& gpu, const TileOperands& codes, int per_fold, const Epilogue& epilogue) {
  using Product = GroupProduct<Unit, kColumns, kFolds>;
  VB_ASSIGN(const TileMap a, map_tiles(codes.a, codes.m, codes.row_bytes, Product::kRows));
  VB_ASSIGN(const TileMap b, map_tiles(codes.b, codes.n, codes.row_bytes, kColumns));
  const int64_t blocks = Product::blocks(codes.m, codes.n);
  const GroupCall<Epilogue> p{
      a,        b,       codes.m, codes.n, static_cast<int>(ceiling(codes.row_bytes, kSlabBytes)),
      per_fold, epilogue};
  const Grid grid{
      .blocks = {static_cast<unsigned>(least(blocks, gpu.device().multiprocessors)), 1, 1},
      .threads = {Product::kThreads, 1, 1},
      .shared_bytes = Product::kSharedBytes};
  return launch(gpu, grid, multiply_groups<Unit, kColumns, kFolds, Epilogue>, p,
                static_cast<int>(blocks));
}

// Whether the product is one for warp groups: of Hopper, with more rows than a warp's tiles take
// well, and lying where the copy engine reads.
inline bool suits_groups(const Gpu& gpu, const TileOperands& codes) {
  constexpr int64_t kMost = 1 << 30;  // places are 32-bit integers
  return gpu.device().major == 9 && codes.m > 64 && codes.row_bytes > 0 && codes.in_words() &&
         codes.m < kMost && codes.n < kMost && codes.row_bytes < kMost &&
         ceiling(codes.m, 128) * ceiling(codes.n, 128) < kMost;
}

// per_fold: slabs of a chain. Wide blocks of results read less, where there are enough of them to
// keep all multiprocessors at work.
template <class Unit, class Epilogue>
Status multiply_in_groups(Gpu& gpu, const TileOperands& codes, int64_t per_fold,
                          const Epilogue& epilogue) {
  if (per_fold * kSlabBytes < codes.row_bytes)
    return launch_groups<Unit, 128, true>(gpu, codes, static_cast<int>(per_fold), epilogue);
  const int64_t wide = GroupProduct<Unit, 256, false>::blocks(codes.m, codes.n);
  return wide * 4 >= gpu.device().multiprocessors * int64_t{3}
             ? launch_groups<Unit, 256, false>(gpu, codes, 0, epilogue)
             : launch_groups<Unit, 128, false>(gpu, codes, 0, epilogue);
}

}  // namespace verbatim::cuda
