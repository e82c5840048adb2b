// The loop that every product on the tensor cores has: a block of 8 warps computes kRows x kColumns
// results, A [m, k] and B [n, k] row-major, and goes through k in one ascending chain, a step's
// tiles in shared memory while the next ones are on their way.
#pragma once

#include <verbatim/kernels/cuda/tensor_core.cuh>

namespace verbatim::cuda {

inline constexpr int kProductThreads = 256;

// A [m, k] and B [n, k], rows of so many bytes one after the other.
struct TileOperands {
  const void *a, *b;
  int64_t m, n, row_bytes;

  // Whether 16 bytes at once may be copied.
  VB_HOST_DEVICE bool in_words() const {
    return row_bytes % 16 == 0 && reinterpret_cast<uintptr_t>(a) % 16 == 0 &&
           reinterpret_cast<uintptr_t>(b) % 16 == 0;
  }
};

// Rows lie in shared memory as
// kStepBytes bytes and 16 more, so that what a warp reads at once is in different banks.
template <class Unit, int kRows, int kColumns>
struct TileProduct {
  static constexpr int kStepBytes = 64, kStride = kStepBytes + 16, kStages = 3;
  static constexpr int kWarpRows = kRows / 2, kWarpColumns = kColumns / 4;  // 2 x 4 warps
  static constexpr int kI = kWarpRows / kTileRows, kJ = kWarpColumns / kTileColumns;
  static constexpr size_t kStageBytes = size_t{kStride} * (kRows + kColumns),
                          kSharedBytes = kStageBytes * kStages;

  // A block of threads for each kRows x kColumns results.
  static Grid grid(const TileOperands& p) {
    return {.blocks = {static_cast<unsigned>(ceiling(p.m, kRows) * ceiling(p.n, kColumns)), 1, 1},
            .threads = {kProductThreads, 1, 1},
            .shared_bytes = kSharedBytes};
  }

  int64_t row, column;                // the block's first
  const std::byte *a, *b;             // its rows
  int64_t a_rows, b_rows, row_bytes;  // as many as there are from there on
  std::byte* shared;
  bool in_words;
  typename Unit::Sum sum[kI][kJ][4];

  __device__ explicit TileProduct(const TileOperands& p)
      : row(blockIdx.x / ceiling(p.n, kColumns) * kRows),
        column(blockIdx.x % ceiling(p.n, kColumns) * kColumns),
        a(static_cast<const std::byte*>(p.a) + row * p.row_bytes),
        b(static_cast<const std::byte*>(p.b) + column * p.row_bytes),
        a_rows(p.m - row),
        b_rows(p.n - column),
        row_bytes(p.row_bytes),
        shared(shared_memory<std::byte>()),
        in_words(p.in_words()) {}

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

  // The products of kUnitBytes of the rows, from `byte` of a step on, of what part(x) leaves of
  // each tile x of A.
  template <class Part>
  __device__ void multiply(const std::byte* tiles, int byte, Part&& part) {
    const int t = static_cast<int>(threadIdx.x % kWarp), g = t / 4, q = t % 4;
    const std::byte *left = tiles + (warp_row() + g) * kStride + 4 * q + byte,
                    *right = tiles + (kRows + warp_column() + g) * kStride + 4 * q + byte;
    const auto word = [](const std::byte* p) { return *reinterpret_cast<const uint32_t*>(p); };
    TileB y[kJ];
#pragma unroll
    for (int j = 0; j < kJ; ++j) {
      const std::byte* p = right + j * kTileColumns * kStride;
      y[j] = {{word(p), word(p + 16)}};
    }
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      const std::byte* p = left + i * kTileRows * kStride;
      const TileA x =
          part(TileA{{word(p), word(p + 8 * kStride), word(p + 16), word(p + 8 * kStride + 16)}});
#pragma unroll
      for (int j = 0; j < kJ; ++j) Unit::multiply(sum[i][j], x, y[j]);
    }
  }

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kI; ++i)
#pragma unroll
      for (int j = 0; j < kJ; ++j)
#pragma unroll
        for (auto& s : sum[i][j]) s = 0;
  }

  // use(step, tiles) for each step in turn, once its tiles are there. Of each step's stage, what
  // use() itself put there kStages - 1 steps before is there too.
  template <class Use>
  __device__ void each_step(Use&& use) {
    clear();
    const int64_t steps = ceiling(row_bytes, kStepBytes);
    for (int s = 0; s < kStages - 1; ++s) fetch(s);
    for (int64_t step = 0; step < steps; ++step) {
      wait_for_copies<kStages - 2>();
      __syncthreads();  // everybody's copies are there, and nobody reads the stage that is fetched
      fetch(step + kStages - 1);
      use(step, stage(step));
    }
    wait_for_copies<0>();
  }

  // `between(step)` is called before each step's products.
  template <class Between>
  __device__ void run(Between&& between) {
    each_step([&](int64_t step, const std::byte* tiles) {
      between(step);
#pragma unroll
      for (int byte = 0; byte < kStepBytes; byte += kUnitBytes)
        multiply(tiles, byte, [](const TileA& x) { return x; });
    });
  }

  // Of the block's rows and columns, those of sum[i][j][e].
  __device__ int row_of(int i, int e) const {
    return warp_row() + i * kTileRows + static_cast<int>(threadIdx.x % kWarp) / 4 + e / 2 * 8;
  }
  __device__ int column_of(int j, int e) const {
    return warp_column() + j * kTileColumns + static_cast<int>(threadIdx.x % kWarp) % 4 * 2 + e % 2;
  }

  // f(i, j, e, m, n), where sum[i][j][e] is result (m, n).
  template <class F>
  __device__ void each(F&& f) const {
#pragma unroll
    for (int i = 0; i < kI; ++i)
#pragma unroll
      for (int j = 0; j < kJ; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int64_t r = row_of(i, e), c = column_of(j, e);
          if (r < a_rows && c < b_rows) f(i, j, e, row + r, column + c);
        }
  }
};

}  // namespace verbatim::cuda
