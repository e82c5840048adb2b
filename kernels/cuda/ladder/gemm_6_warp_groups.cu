// The idea: what fed the tensor cores is done by the machine. One thread tells the copy engine
// which tiles to bring, and four warps together multiply 64 rows by 128 columns from where they lie
// in shared memory (wgmma): no operand passes through registers but the sums. Two such groups
// compute a block of 128 x 128 results. Hopper's.
//
// What bounds it: the seams. Each step's products end before its tiles are given back, the thread
// that copies multiplies too, and a block's first tiles and last stores are waited for; a second
// block on the same multiprocessor fills some of that.
#include <verbatim/kernels/cuda/group_product.cuh>
#include <verbatim/kernels/cuda/ladder/codes.cuh>

namespace verbatim::cuda::ladder {

// Not unnamed: nvcc would warn where Hopper's kernels have no code and do not use it.
struct SlabProduct {
  static constexpr int kRows = 2 * kGroupRows, kColumns = 128, kStages = 3, kPerDevice = 2;
  static constexpr unsigned kThreads = 2 * kWarpGroup;
  static constexpr int kStageBytes = (kRows + kColumns) * kSlabBytes;  // a slab of A, then of B
  using Ring = TileRing<kStageBytes>;
  using Sums = GroupSums<Int8Unit, kColumns>;
  static constexpr size_t kSharedBytes =
      kTileAlignment + size_t{kStages} * kStageBytes + Ring::kBarrierBytes;

  Gemm p;
  TileMap a, b;
  int slabs;  // of k

  // By one thread.
  __device__ void fill(Ring& ring, const Blocks<kRows, kColumns>& block, int slab) const {
    if (slab >= slabs) return;
    ring.begin_filling(kStageBytes);
    uint64_t* full = &ring.full[ring.stage];
    const int byte = slab * kSlabBytes;
    copy_tile(ring.tile(), a, byte, static_cast<int>(block.row), full);
    copy_tile(ring.tile() + kRows * kSlabBytes, b, byte, static_cast<int>(block.column), full);
    ring.next();
  }

  __device__ static void multiply(Sums& sums, const std::byte* tiles, int group) {
    const uint64_t left = describe_tile(tiles + group * kGroupRows * kSlabBytes),
                   right = describe_tile(tiles + kRows * kSlabBytes);
    begin_products();
#pragma unroll
    for (int unit = 0; unit < kSlabBytes / kUnitBytes; ++unit)
      multiply_group<Int8Unit, kColumns>(sums, further(left, unit * kNextUnit),
                                         further(right, unit * kNextUnit));
    commit_products();
    wait_for_products<0>();
    settle(sums);
  }

  __device__ void store_sums(const Sums& sums, int64_t row, int64_t column) const {
#pragma unroll
    for (int j = 0; j < kColumns / kTileColumns; ++j)
      store_tile(p, row, column + j * kTileColumns,
                 {sums[4 * j], sums[4 * j + 1], sums[4 * j + 2], sums[4 * j + 3]});
  }
};

__global__ void __launch_bounds__(SlabProduct::kThreads, SlabProduct::kPerDevice)
    multiply_slabs(const __grid_constant__ SlabProduct product) {
  if constexpr (kHopperCode) {
    const Blocks<SlabProduct::kRows, SlabProduct::kColumns> block(product.p);
    const int group = static_cast<int>(threadIdx.x / kWarpGroup);
    SlabProduct::Ring ring(aligned_tiles(), SlabProduct::kStages), ahead = ring;
    const bool copies = threadIdx.x == 0;
    if (copies) ring.init(SlabProduct::kThreads / kWarp);
    __syncthreads();
    if (copies)
      for (int slab = 0; slab < SlabProduct::kStages; ++slab) product.fill(ahead, block, slab);
    __syncwarp();  // products are asked for by whole warps
    SlabProduct::Sums sums;
#pragma unroll
    for (auto& sum : sums) sum = 0;
    for (int slab = 0; slab < product.slabs; ++slab) {
      ring.wait_until_full();
      SlabProduct::multiply(sums, ring.tile(), group);
      ring.release(ring.stage);
      ring.next();
      if (copies) product.fill(ahead, block, slab + SlabProduct::kStages);
      __syncwarp();
    }
    const auto warp = static_cast<int>(threadIdx.x / kWarp);
    product.store_sums(sums, block.row + warp * kTileRows, block.column);
  }
}

Status multiply_warp_groups(Gpu& gpu, const Gemm& p) {
  using Product = SlabProduct;
  VB_ASSIGN(const TileMap a, map_tiles(p.a, p.m, p.k, Product::kRows));
  VB_ASSIGN(const TileMap b, map_tiles(p.b, p.n, p.k, Product::kColumns));
  const Product product{p, a, b, static_cast<int>(ceiling(p.k, kSlabBytes))};
  return launch(
      gpu,
      Blocks<Product::kRows, Product::kColumns>::grid(p, Product::kThreads, Product::kSharedBytes),
      multiply_slabs, product);
}

}  // namespace verbatim::cuda::ladder
