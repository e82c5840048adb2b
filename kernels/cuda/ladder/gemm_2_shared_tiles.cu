// The idea: a block of threads computes 32 x 32 results and brings 64 codes of each of their rows
// and columns to shared memory, where each code is read 32 times. Memory is read 32 times less, and
// in whole words, by threads that are neighbours where the codes are.
//
// What bounds it: loads from shared memory. Each multiply-add still waits for two codes of its own.
#include <verbatim/kernels/cuda/ladder/codes.cuh>

namespace verbatim::cuda::ladder {
namespace {

constexpr int kSide = 32, kThreads = kSide * kSide;
constexpr int kStride = kStepWords + 1;  // odd: 32 rows begin in 32 banks

__global__ void __launch_bounds__(kThreads) multiply_tiles(Gemm p) {
  __shared__ Tile<kSide, kStride> a, b;
  const Blocks<kSide, kSide> block(p);
  const Codes rows(p.a, p.m, p.k), columns(p.b, p.n, p.k);
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
  int32_t sum = 0;
  for (int64_t k = 0; k < p.k; k += kStepCodes) {
    a.load(rows, block.row, k);
    b.load(columns, block.column, k);
    __syncthreads();  // the tiles are there
    const auto* left = reinterpret_cast<const int8_t*>(a.word[y]);
    const auto* right = reinterpret_cast<const int8_t*>(b.word[x]);
    for (int i = 0; i < kStepCodes; ++i) sum += left[i] * right[i];
    __syncthreads();  // nobody reads them any more
  }
  store(p, block.row + y, block.column + x, sum);
}

}  // namespace

Status multiply_shared_tiles(Gpu& gpu, const Gemm& p) {
  return launch(gpu, Blocks<kSide, kSide>::grid(p, kThreads), multiply_tiles, p);
}

}  // namespace verbatim::cuda::ladder
