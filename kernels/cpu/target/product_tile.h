// The inner loop of every ordered product: a tile of accumulators in registers, one fused
// multiply-add for each element of it and each k, k ascending.
#pragma once

#include <verbatim/kernels/cpu/simd.h>
#include <verbatim/repops/semantics.h>

namespace verbatim::VB_TARGET {

// Registers of accumulators that fill the pipeline and leave room for operands: rows by vectors.
#if defined(__AVX512F__)
inline constexpr int kTileRows = 14, kTileVectors = 2;
#elif defined(__AVX2__)
inline constexpr int kTileRows = 6, kTileVectors = 2;
#else
inline constexpr int kTileRows = 8, kTileVectors = 3;
#endif
inline constexpr int kPanel = kTileVectors * kLanes;  // columns
// A's rows are copied with this stride: a multiple of 4 KiB would put all of a tile's rows into one
// set of the first-level cache.
inline constexpr int64_t kRowStride = kProductBlock + 16;

// What a tile fetches for one that comes after it: lines, then rows. Whatever lies there.
struct Ahead {
  const float *next = nullptr, *end = nullptr;
  const float* row = nullptr;
  int64_t rows = 0, row_stride = 0, row_size = 0;
};
inline constexpr int kLine = 16;  // floats
inline constexpr int kLineBytes = kLine * sizeof(float);

// acc[r][v] = fma(a[r, k], b[k, v], acc[r][v]) for k = 0 .. k_size - 1. Row r of A is at
// a + r * a_stride. B is one or more packed panels, panel_stride apart, of floats or of 16-bit
// elements that are widened in registers.
template <int kRows, int kVectors, class B>
VB_INLINE void multiply_tile(const float* a, int64_t a_stride, const B* b, int64_t panel_stride,
                             int64_t k_size, F32 (&acc)[kRows][kVectors], Ahead ahead = {}) {
  const auto step = [&](int64_t k) __attribute__((always_inline)) {
    F32 column[kVectors];
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v)
      column[v] =
          load(b + v / kTileVectors * panel_stride + k * kPanel + v % kTileVectors * kLanes);
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const F32 x = all(a[r * a_stride + k]);
      VB_UNROLL
      for (int v = 0; v < kVectors; ++v) acc[r][v] = fma(x, column[v], acc[r][v]);
    }
  };
  constexpr int kSteps = 4;  // a loop's own additions take slots of multiply-adds
  // Few rows are soon done with a panel, and as soon want the next.
  constexpr int kLines = kRows > 3 && 4 * kRows <= 3 * kTileRows ? 8 : 2;
  for (; k_size >= kSteps; k_size -= kSteps) {
    if (ahead.next < ahead.end) {
      VB_UNROLL
      for (int i = 0; i < kLines; ++i) __builtin_prefetch(ahead.next + i * kLine, 0, 2);
      ahead.next += kLines * kLine;
    } else if (ahead.rows > 0) {
      ahead.next = ahead.row;
      ahead.end = ahead.row + ahead.row_size;
      ahead.row += ahead.row_stride;
      --ahead.rows;
    }
    VB_UNROLL
    for (int k = 0; k < kSteps; ++k) step(k);
    a += kSteps;
    b += kSteps * kPanel;
  }
  for (int64_t k = 0; k < k_size; ++k) step(k);
}

// Panels that a tile of few rows takes at once, so that enough additions are in flight.
inline constexpr int kMostPanels = 4;
constexpr int panels_at_once(int rows) { return rows == 1 ? kMostPanels : rows <= 3 ? 2 : 1; }

// The rows [first, last) of tile `t` when `rows` are cut into as few tiles of up to `most` as
// possible, evenly.
struct TileRows {
  int64_t first, last;
};
VB_INLINE TileRows tile_rows(int64_t rows, int64_t t, int64_t most = kTileRows) {
  const int64_t tiles = (rows + most - 1) / most;
  return {rows * t / tiles, rows * (t + 1) / tiles};
}

}  // namespace verbatim::VB_TARGET
