// The idea: a thread computes 4 x 4 results, so that what it loads, 4 + 4 words, serves 16 times;
// and four products are one instruction, dp4a.
//
// What bounds it: dp4a itself, and the wait for memory, since nothing is multiplied while tiles
// come.
#include <verbatim/kernels/cuda/ladder/codes.cuh>

namespace verbatim::cuda::ladder {
namespace {

constexpr int kSide = 16, kThreads = kSide * kSide, kEach = 4, kBlock = kSide * kEach;
constexpr int kStride = kStepWords + 1;

// Thread (x, y) has rows y + 16 i and columns x + 16 j.
__global__ void __launch_bounds__(kThreads) multiply_register_blocks(Gemm p) {
  __shared__ Tile<kBlock, kStride> a, b;
  const Blocks<kBlock, kBlock> block(p);
  const Codes rows(p.a, p.m, p.k), columns(p.b, p.n, p.k);
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
  int32_t sum[kEach][kEach] = {};
  for (int64_t k = 0; k < p.k; k += kStepCodes) {
    a.load(rows, block.row, k);
    b.load(columns, block.column, k);
    __syncthreads();
#pragma unroll
    for (int w = 0; w < kStepWords; ++w) {
      int left[kEach], right[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        left[i] = static_cast<int>(a.word[y + kSide * i][w]);
        right[i] = static_cast<int>(b.word[x + kSide * i][w]);
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j) sum[i][j] = __dp4a(left[i], right[j], sum[i][j]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < kEach; ++j)
      store(p, block.row + y + kSide * i, block.column + x + kSide * j, sum[i][j]);
}

}  // namespace

Status multiply_register_tiles(Gpu& gpu, const Gemm& p) {
  return launch(gpu, Blocks<kBlock, kBlock>::grid(p, kThreads), multiply_register_blocks, p);
}

}  // namespace verbatim::cuda::ladder
