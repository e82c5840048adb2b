// Rotation of rows (docs/numerics.md, Family B, Rotation) by a block of threads.
#pragma once

#include <verbatim/kernels/cuda/gpu.h>

namespace verbatim::cuda {

// The butterfly of rotate_row (quantized.h) of each `block` elements, by a block of threads, of a
// row in shared memory.
__device__ inline void turn_blocks(float* x, int64_t n, int64_t block) {
  const auto pairs = static_cast<int>(n / 2), strides = static_cast<int>(block);
  for (int stride = 1; stride < strides; stride *= 2) {  // a power of two
    for (int i = static_cast<int>(threadIdx.x); i < pairs; i += static_cast<int>(blockDim.x)) {
      const int at = (i & ~(stride - 1)) << 1 | (i & (stride - 1));
      const float u = x[at], v = x[at + stride];
      x[at] = u + v;
      x[at + stride] = u - v;
    }
    __syncthreads();
  }
}

// rotate_row, the same way.
__device__ inline void rotate_row(float* x, int64_t n, int64_t block) {
  turn_blocks(x, n, block);
  const int64_t blocks = n / block;
  if (blocks <= 1 || block == 1) return;
  const float factor = 2.0f / static_cast<float>(blocks);
  for (int64_t i = threadIdx.x; i < block; i += blockDim.x) {
    float sum = x[i];
    for (int64_t j = 1; j < blocks; ++j) sum = sum + x[i + j * block];
    const float shift = sum * factor;
    for (int64_t j = 0; j < blocks; ++j) x[i + j * block] = x[i + j * block] - shift;
  }
  __syncthreads();
}

// A block of threads for each row of n elements in shared memory, four elements a thread.
inline Grid grid_of_shared_rows(int64_t rows, int64_t n) {
  constexpr int64_t kMostWarps = 8;
  const int64_t warps = least(ceiling(n, 4 * int64_t{kWarp}), kMostWarps);
  return {.blocks = {static_cast<unsigned>(least(rows, kMostBlocks)), 1, 1},
          .threads = {static_cast<unsigned>(warps) * kWarp, 1, 1},
          .shared_bytes = static_cast<size_t>(n) * sizeof(float)};
}

// One stride of it between two threads of a warp: what becomes of the element x of a thread. A
// product with 1 or -1 is exact, so that the sum is rounded as one of two terms.
__device__ inline float rotated_across(float x, int stride) {
  const float other = __shfl_xor_sync(~0u, x, stride);
  return fma32(x, (static_cast<int>(threadIdx.x) & stride) != 0 ? -1.0f : 1.0f, other);
}

}  // namespace verbatim::cuda
