// What the first rungs of the products share: where a block's results lie, tiles of codes in shared
// memory, and where the tensor cores leave their sums.
#pragma once

#include <verbatim/kernels/cuda/gpu.h>
#include <verbatim/kernels/cuda/ladder/ladder.h>

namespace verbatim::cuda::ladder {

// A block of threads for each kRows x kColumns results.
template <int kRows, int kColumns>
struct Blocks {
  static Grid grid(const Gemm& p, unsigned threads, size_t shared_bytes = 0) {
    return {.blocks = {static_cast<unsigned>(ceiling(p.m, kRows) * ceiling(p.n, kColumns)), 1, 1},
            .threads = {threads, 1, 1},
            .shared_bytes = shared_bytes};
  }
  int64_t row, column;  // the block's first
  __device__ explicit Blocks(const Gemm& p)
      : row(blockIdx.x / ceiling(p.n, kColumns) * kRows),
        column(blockIdx.x % ceiling(p.n, kColumns) * kColumns) {}
};

// Rows of k codes, one after the other. What lies beyond them is zero, which adds nothing.
struct Codes {
  const int8_t* at;
  int64_t rows, k;
  bool in_words;  // four codes at once may be read

  __device__ Codes(const int8_t* codes, int64_t rows, int64_t k)
      : at(codes),
        rows(rows),
        k(k),
        in_words(k % 4 == 0 && reinterpret_cast<uintptr_t>(at) % 4 == 0) {}

  __device__ uint32_t four(int64_t row, int64_t from) const {
    if (row >= rows || from >= k) return 0;
    const int8_t* codes = at + row * k + from;
    if (in_words) return *reinterpret_cast<const uint32_t*>(codes);
    uint32_t word = 0;
    for (int i = 0; i < 4 && from + i < k; ++i)
      word |= static_cast<uint32_t>(static_cast<uint8_t>(codes[i])) << (8 * i);
    return word;
  }
};

// 64 codes of each of kRows rows. kStride: words from a row to the next, such that what a warp
// reads at once is in different banks.
inline constexpr int kStepWords = 16, kStepCodes = 4 * kStepWords;
template <int kRows, int kStride>
struct Tile {
  uint32_t word[kRows][kStride];

  __device__ void load(const Codes& codes, int64_t row, int64_t from) {
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kStepWords;
         i += static_cast<int>(blockDim.x))
      word[i / kStepWords][i % kStepWords] =
          codes.four(row + i / kStepWords, from + 4 * (i % kStepWords));
  }
};

__device__ inline void store(const Gemm& p, int64_t row, int64_t column, int32_t sum) {
  if (row < p.m && column < p.n) p.c[row * p.n + column] = sum;
}
// A tile of 16 x 8, as the tensor cores leave it (tensor_core.cuh).
__device__ inline void store_tile(const Gemm& p, int64_t row, int64_t column,
                                  const int32_t (&sum)[4]) {
  const int t = static_cast<int>(threadIdx.x % kWarp), g = t / 4, q = t % 4;
#pragma unroll
  for (int e = 0; e < 4; ++e) store(p, row + g + e / 2 * 8, column + 2 * q + e % 2, sum[e]);
}

}  // namespace verbatim::cuda::ladder
