// The loop that every product on the tensor cores has: a block of 8 warps computes kRows x kColumns
// results, A [m, k] and B [n, k] row-major, and goes through k in one ascending chain, a step's
// tiles in shared memory while the next ones are on their way.
#pragma once

#include <verbatim/kernels/cuda/tensor_core.cuh>

namespace verbatim::cuda {

inline constexpr int kProductThreads = 256;

// `Core` says what the units do: Core::Sum, Core::multiply(sum, a, b). Rows lie in shared memory as
// kStepBytes bytes and 16 more, so that what a warp reads at once is in different banks.
template <class Core, int kRows, int kColumns>
struct TileProduct {
  static constexpr int kStepBytes = 64, kStride = kStepBytes + 16, kStages = 3;
  static constexpr int kWarpRows = kRows / 2, kWarpColumns = kColumns / 4;  // 2 x 4 warps
  static constexpr int kI = kWarpRows / kTileRows, kJ = kWarpColumns / kTileColumns;
  static constexpr size_t kStageBytes = size_t{kStride} * (kRows + kColumns),
                          kSharedBytes = kStageBytes * kStages;

  const std::byte *a, *b;             // first row of the block's
  int64_t a_rows, b_rows, row_bytes;  // rows there are from it on
  std::byte* shared;
  bool in_words;  // 16 bytes at once may be copied: addresses and row_bytes are multiples of 16
  typename Core::Sum sum[kI][kJ][4];

  __device__ std::byte* stage(int64_t step) const {
    return shared + static_cast<size_t>(step % kStages) * kStageBytes;
  }

  // Bytes [step, step + 1) * kStepBytes of `rows` rows, zeros beyond.
  template <int kOf>
  __device__ void fetch_rows(const std::byte* from, int64_t rows, int64_t at, std::byte* to) const {
    if (in_words) {
      for (int i = static_cast<int>(threadIdx.x); i < kOf * (kStepBytes / 16);
           i += kProductThreads) {
        const int row = i / (kStepBytes / 16), byte = i % (kStepBytes / 16) * 16;
        const bool there = row < rows && at + byte < row_bytes;
        copy_later(to + row * kStride + byte, there ? from + row * row_bytes + at + byte : from,
                   there);
      }
      return;
    }
    for (int i = static_cast<int>(threadIdx.x); i < kOf * kStepBytes; i += kProductThreads) {
      const int row = i / kStepBytes, byte = i % kStepBytes;
      const bool there = row < rows && at + byte < row_bytes;
      to[row * kStride + byte] = there ? from[row * row_bytes + at + byte] : std::byte{0};
    }
  }
  __device__ void fetch(int64_t step) const {
    if (step * kStepBytes < row_bytes) {
      fetch_rows<kRows>(a, a_rows, step * kStepBytes, stage(step));
      fetch_rows<kColumns>(b, b_rows, step * kStepBytes, stage(step) + kRows * kStride);
    }
    commit_copies();
  }

  __device__ int warp_row() const { return static_cast<int>(threadIdx.x / kWarp) / 4 * kWarpRows; }
  __device__ int warp_column() const {
    return static_cast<int>(threadIdx.x / kWarp) % 4 * kWarpColumns;
  }

  __device__ void multiply(const std::byte* tiles) {
    const int t = static_cast<int>(threadIdx.x % kWarp), g = t / 4, q = t % 4;
    const std::byte *left = tiles + (warp_row() + g) * kStride + 4 * q,
                    *right = tiles + (kRows + warp_column() + g) * kStride + 4 * q;
    const auto word = [](const std::byte* p) { return *reinterpret_cast<const uint32_t*>(p); };
#pragma unroll
    for (int byte = 0; byte < kStepBytes; byte += 32) {
      TileB y[kJ];
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        const std::byte* p = right + j * kTileColumns * kStride + byte;
        y[j] = {{word(p), word(p + 16)}};
      }
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        const std::byte* p = left + i * kTileRows * kStride + byte;
        const TileA x{{word(p), word(p + 8 * kStride), word(p + 16), word(p + 8 * kStride + 16)}};
#pragma unroll
        for (int j = 0; j < kJ; ++j) Core::multiply(sum[i][j], x, y[j]);
      }
    }
  }

  // `between(step)` is called before each step's products.
  template <class Between>
  __device__ void run(Between&& between) {
#pragma unroll
    for (int i = 0; i < kI; ++i)
#pragma unroll
      for (int j = 0; j < kJ; ++j)
#pragma unroll
        for (auto& s : sum[i][j]) s = 0;
    const int64_t steps = ceiling(row_bytes, kStepBytes);
    for (int s = 0; s < kStages - 1; ++s) fetch(s);
    for (int64_t step = 0; step < steps; ++step) {
      wait_for_copies<kStages - 2>();
      __syncthreads();  // everybody's copies are there, and nobody reads the stage that is fetched
      fetch(step + kStages - 1);
      between(step);
      multiply(stage(step));
    }
    wait_for_copies<0>();
  }

  // f(i, j, e, row, column, sum[i][j][e]) of each result, counted from the block's first.
  template <class F>
  __device__ void each(F&& f) const {
    const int t = static_cast<int>(threadIdx.x % kWarp);
#pragma unroll
    for (int i = 0; i < kI; ++i)
#pragma unroll
      for (int j = 0; j < kJ; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          f(i, j, e, warp_row() + i * kTileRows + t / 4 + e / 2 * 8,
            warp_column() + j * kTileColumns + t % 4 * 2 + e % 2, sum[i][j][e]);
  }
};

}  // namespace verbatim::cuda
