// The idea: a warp multiplies tiles, 16 rows by 8 columns by 32 codes in one instruction, whose
// operands are spread over its threads as tensor_core.cuh says. Four warps compute 64 x 64 results,
// each 32 x 32 of them, from shared memory.
//
// What bounds it: the wait for memory. The tensor cores stand still while tiles come.
#include <verbatim/kernels/cuda/ladder/codes.cuh>
#include <verbatim/kernels/cuda/tensor_core.cuh>

namespace verbatim::cuda::ladder {
namespace {

constexpr int kSide = 32, kBlock = 2 * kSide, kThreads = 4 * static_cast<int>(kWarp);
constexpr int kI = kSide / kTileRows, kJ = kSide / kTileColumns;
constexpr int kStride = kStepWords + 4;  // eight rows of four words are in 32 banks
constexpr int kUnitWords = kUnitBytes / 4;
using Codes64 = Tile<kBlock, kStride>;

__device__ inline TileA load_a(const Codes64& tile, int row, int w) {
  return {
      {tile.word[row][w], tile.word[row + 8][w], tile.word[row][w + 4], tile.word[row + 8][w + 4]}};
}
__device__ inline TileB load_b(const Codes64& tile, int column, int w) {
  return {{tile.word[column][w], tile.word[column][w + 4]}};
}

__global__ void __launch_bounds__(kThreads) multiply_warp_tiles(Gemm p) {
  __shared__ Codes64 a, b;
  const Blocks<kBlock, kBlock> block(p);
  const Codes rows(p.a, p.m, p.k), columns(p.b, p.n, p.k);
  const int warp = static_cast<int>(threadIdx.x / kWarp), t = static_cast<int>(threadIdx.x % kWarp),
            g = t / 4, q = t % 4, row = warp / 2 * kSide, column = warp % 2 * kSide;
  int32_t sum[kI][kJ][4] = {};
  for (int64_t k = 0; k < p.k; k += kStepCodes) {
    a.load(rows, block.row, k);
    b.load(columns, block.column, k);
    __syncthreads();
#pragma unroll
    for (int w = 0; w < kStepWords; w += kUnitWords) {
      TileB y[kJ];
#pragma unroll
      for (int j = 0; j < kJ; ++j) y[j] = load_b(b, column + j * kTileColumns + g, w + q);
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        const TileA x = load_a(a, row + i * kTileRows + g, w + q);
#pragma unroll
        for (int j = 0; j < kJ; ++j) Int8Unit::multiply(sum[i][j], x, y[j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kI; ++i)
#pragma unroll
    for (int j = 0; j < kJ; ++j)
      store_tile(p, block.row + row + i * kTileRows, block.column + column + j * kTileColumns,
                 sum[i][j]);
}

}  // namespace

Status multiply_mma_sync(Gpu& gpu, const Gemm& p) {
  return launch(gpu, Blocks<kBlock, kBlock>::grid(p, kThreads), multiply_warp_tiles, p);
}

}  // namespace verbatim::cuda::ladder
