// Ordered matrix products (docs/numerics.md, Family A, Matrix product) from packed panels.
#include <verbatim/kernels/cpu/kernels.h>
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/product_tile.h>

namespace verbatim::VB_TARGET {
namespace {

// Of a K block of B, so much stays in the second-level cache while all rows pass it.
constexpr int64_t kChunkFloats = 1 << 16;

struct Tile {
  const Product* p;
  const float* a;          // copied rows, kRowStride apart
  const float* b;          // the K block in the tile's first panel
  int64_t row, column, k;  // k: size of the K block
  bool first, last;        // K block
  Ahead ahead;
};

// The block's sums join those before them, and after the last block the rest of the formula
// follows.
template <int kRows, int kVectors>
VB_INLINE void finish(const Tile& t, F32 (&sum)[kRows][kVectors]) {
  const Product& p = *t.p;
  float* out = p.out + t.row * p.out_row + t.column;
  // step(sum, row, column, columns left) in the tile
  const auto for_all = [&](auto step) __attribute__((always_inline)) {
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      VB_UNROLL
      for (int v = 0; v < kVectors; ++v)
        step(sum[r][v], r, v * kLanes, p.n - t.column - v * kLanes);
    }
  };
  if (!t.first)
    for_all([&](auto& s, int64_t r, int64_t n, int64_t left) __attribute__((always_inline)) {
      s = load_up_to(out + r * p.out_row + n, left, zero()) + s;
    });
  if (t.last) {
    if (p.alpha != 1)
      for_all([&](auto& s, int64_t, int64_t, int64_t)
                  __attribute__((always_inline)) { s = s * all(p.alpha); });
    if (p.c != nullptr)
      for_all([&](auto& s, int64_t r, int64_t n, int64_t left) __attribute__((always_inline)) {
        const float* c = p.c + (t.row + r) * p.c_row + (t.column + n) * p.c_column;
        const F32 addend = p.c_column == 0 ? all(*c) : load_up_to(c, left, zero());
        s = s + (p.beta == 1 ? addend : addend * all(p.beta));
      });
    for_all([](auto& s, int64_t, int64_t, int64_t)
                __attribute__((always_inline)) { s = canonical(s); });
  }
  for_all([&](auto& s, int64_t r, int64_t n, int64_t left)
              __attribute__((always_inline)) { store_up_to(out + r * p.out_row + n, left, s); });
}

template <int kRows, int kPanels>
void run_tile(const Tile& t) {
  constexpr int kVectors = kPanels * kTileVectors;
  if (!t.first) {  // the sums of the blocks before, until they are wanted
    for (int r = 0; r < kRows; ++r)
      for (int n = 0; n < kVectors * kLanes; n += kLine)
        __builtin_prefetch(t.p->out + (t.row + r) * t.p->out_row + t.column + n);
  }
  F32 acc[kRows][kVectors];
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v) acc[r][v] = zero();
  }
  multiply_tile(t.a, kRowStride, t.b, t.p->k * kPanel, t.k, acc, t.ahead);
  finish(t, acc);
}

// The tile function for a number of rows, for one panel and for as many as such a tile takes.
struct TileFunctions {
  void (*one)(const Tile&);
  void (*many)(const Tile&);
  int panels;
};
template <int kRows>
constexpr TileFunctions functions() {
  return {run_tile<kRows, 1>, run_tile<kRows, panels_at_once(kRows)>, panels_at_once(kRows)};
}
constexpr TileFunctions kFunctions[] = {
    {},
    functions<1>(),
    functions<2>(),
    functions<3>(),
    functions<4>(),
    functions<5>(),
    functions<6>(),
#if !defined(__AVX2__) || defined(__AVX512F__)
    functions<7>(),
    functions<8>(),
#endif
#if defined(__AVX512F__)
    functions<9>(),
    functions<10>(),
    functions<11>(),
    functions<12>(),
    functions<13>(),
    functions<14>(),
#endif
};
static_assert(sizeof kFunctions / sizeof kFunctions[0] == kTileRows + 1);

using Quad [[gnu::vector_size(16)]] = float;

VB_INLINE void transpose_4x4(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  Quad x[4];
  VB_UNROLL
  for (int i = 0; i < 4; ++i) std::memcpy(&x[i], in + i * in_stride, sizeof(Quad));
  const Quad a = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5),
             b = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5),
             c = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7),
             d = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
  const Quad y[4] = {
      __builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
      __builtin_shufflevector(c, d, 0, 1, 4, 5), __builtin_shufflevector(c, d, 2, 3, 6, 7)};
  VB_UNROLL
  for (int j = 0; j < 4; ++j) std::memcpy(out + j * out_stride, &y[j], sizeof(Quad));
}

// out[j * out_stride + i] = in[i * in_stride + j] for i < rows, j < columns, a cache line of each
// row of `in` at a time.
void transpose(const float* in, int64_t in_stride, int64_t rows, int64_t columns, float* out,
               int64_t out_stride) {
  for (int64_t line = 0; line < columns; line += kLine) {
    const int64_t line_end = least(line + kLine, columns);
    for (int64_t i = 0; i < rows; i += 4) {
      for (int64_t j = line; j < line_end; j += 4) {
        const float* from = in + i * in_stride + j;
        float* to = out + j * out_stride + i;
        const int64_t height = least(4, rows - i), width = least(4, line_end - j);
        if (height == 4 && width == 4) {
          transpose_4x4(from, in_stride, to, out_stride);
        } else {
          for (int64_t v = 0; v < width; ++v)
            for (int64_t u = 0; u < height; ++u) to[v * out_stride + u] = from[u * in_stride + v];
        }
      }
    }
  }
}

void copy_rows(const Product& p, int64_t row, int64_t rows, int64_t k, int64_t size, float* to) {
  const float* from = p.a + row * p.a_row + k * p.a_k;
  if (p.a_k != 1) return transpose(from, p.a_k, size, rows, to, kRowStride);
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(to + r * kRowStride, from + r * p.a_row, static_cast<size_t>(size) * sizeof(float));
}

// `columns` elements of a row of B, and zeros up to a panel's width.
VB_INLINE void pack_row(const float* in, int64_t columns, float* out) {
  VB_UNROLL
  for (int v = 0; v < kTileVectors; ++v)
    store(out + v * kLanes, load_up_to(in + v * kLanes, columns - v * kLanes, zero()));
}

}  // namespace

void product(const Product& p, int64_t row, int64_t row_end, int64_t from, int64_t to,
             float* scratch) {
  const int64_t rows = row_end - row, tiles = (rows + kTileRows - 1) / kTileRows;
  int64_t k = 0;
  do {  // once even where K is 0: the sum of nothing is +0
    const int64_t size = least(kProductBlock, p.k - k);
    copy_rows(p, row, rows, k, size, scratch);
    const int64_t chunk = greatest(kMostPanels, kChunkFloats / (greatest(1, size) * kPanel));
    for (int64_t begin = from; begin < to; begin += chunk) {
      const int64_t end = least(begin + chunk, to);
      for (int64_t t = 0; t < tiles; ++t) {
        const TileRows r = tile_rows(rows, t);
        const TileFunctions& f = kFunctions[r.last - r.first];
        for (int64_t panel = begin; panel < end;) {
          const bool many = panel + f.panels <= end;
          const auto at = [&](int64_t i) { return p.b + (i * p.k + k) * kPanel; };
          Tile tile = {&p,
                       scratch + r.first * kRowStride,
                       at(panel),
                       row + r.first,
                       panel * kPanel,
                       size,
                       k == 0,
                       k + size == p.k,
                       {}};
          if (panel + chunk < to) {  // each tile fetches its part of a panel in the next chunk
            const int64_t lines = size * kPanel / kLine;
            tile.ahead = {at(panel + chunk) + lines * t / tiles * kLine,
                          at(panel + chunk) + lines * (t + 1) / tiles * kLine};
          }
          (many ? f.many : f.one)(tile);
          panel += many ? f.panels : 1;
        }
      }
    }
    k += size;
  } while (k < p.k);
}

void pack(const float* b, int64_t b_k, int64_t b_n, int64_t k_size, int64_t n_size, int64_t from,
          int64_t to, float* packed) {
  const auto columns = [&](int64_t panel) { return least(kPanel, n_size - panel * kPanel); };
  const auto at = [&](int64_t panel) { return packed + panel * k_size * kPanel; };
  if (b_n == 1) {
    constexpr int64_t kStrip = 16;  // rows of all panels in turn: few pages at a time on both sides
    for (int64_t strip = 0; strip < k_size; strip += kStrip)
      for (int64_t panel = from; panel < to; ++panel)
        for (int64_t k = strip; k < least(strip + kStrip, k_size); ++k)
          pack_row(b + k * b_k + panel * kPanel, columns(panel), at(panel) + k * kPanel);
    return;
  }
  for (int64_t panel = from; panel < to; ++panel) {
    if (columns(panel) < kPanel)
      std::memset(at(panel), 0, static_cast<size_t>(k_size * kPanel) * sizeof(float));
    transpose(b + panel * kPanel * b_n, b_n, columns(panel), k_size, at(panel), kPanel);
  }
}

}  // namespace verbatim::VB_TARGET
