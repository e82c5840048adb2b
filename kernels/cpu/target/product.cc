// Ordered matrix products (docs/numerics.md, Family A, Matrix product) from packed panels.
#include <verbatim/kernels/cpu/kernels.h>
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/product_tile.h>

namespace verbatim::VB_TARGET {
namespace {

constexpr int64_t kChunkPanels = 4;  // of one K block, these stay in the second-level cache

struct Tile {
  const Product* p;
  const float* a;          // copied rows, kRowStride apart
  const float* b;          // the K block in the tile's first panel
  int64_t row, column, k;  // k: size of the K block
  bool first, last;        // K block
};

// One vector of the result: the block's sum joins those before it, and after the last block the
// rest of the formula follows. `count` columns are left.
VB_INLINE void finish(const Tile& t, int64_t row, int64_t column, int64_t count, F32 sum) {
  const Product& p = *t.p;
  float* out = p.out + row * p.out_row + column;
  if (!t.first) sum = load_up_to(out, count, zero()) + sum;
  if (t.last) {
    if (p.alpha != 1) sum = sum * all(p.alpha);
    if (p.c != nullptr) {
      const float* c = p.c + row * p.c_row + column * p.c_column;
      F32 addend = p.c_column == 0 ? all(*c) : load_up_to(c, count, zero());
      if (p.beta != 1) addend = addend * all(p.beta);
      sum = sum + addend;
    }
    sum = canonical(sum);
  }
  store_up_to(out, count, sum);
}

template <int kRows, int kPanels>
void run_tile(const Tile& t) {
  constexpr int kVectors = kPanels * kTileVectors;
  F32 acc[kRows][kVectors];
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v) acc[r][v] = zero();
  }
  multiply_tile(t.a, kRowStride, t.b, t.p->k * kPanel, t.k, acc);
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int64_t column = t.column + v * kLanes;
      const int64_t count = t.p->n - column;
      if (count > 0) finish(t, t.row + r, column, count, acc[r][v]);
    }
  }
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

void copy_rows(const Product& p, int64_t row, int64_t rows, int64_t k, int64_t size, float* to) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = p.a + (row + r) * p.a_row + k * p.a_k;
    if (p.a_k == 1) {
      std::memcpy(to + r * kRowStride, from, static_cast<size_t>(size) * sizeof(float));
    } else {
      for (int64_t i = 0; i < size; ++i) to[r * kRowStride + i] = from[i * p.a_k];
    }
  }
}

}  // namespace

void product(const Product& p, int64_t row, int64_t row_end, int64_t from, int64_t to,
             float* scratch) {
  const int64_t rows = row_end - row, tiles = (rows + kTileRows - 1) / kTileRows;
  int64_t k = 0;
  do {  // once even where K is 0: the sum of nothing is +0
    const int64_t size = least(kProductBlock, p.k - k);
    copy_rows(p, row, rows, k, size, scratch);
    for (int64_t chunk = from; chunk < to; chunk += kChunkPanels) {
      const int64_t chunk_end = least(chunk + kChunkPanels, to);
      for (int64_t t = 0; t < tiles; ++t) {
        const TileRows r = tile_rows(rows, t);
        const TileFunctions& f = kFunctions[r.last - r.first];
        for (int64_t panel = chunk; panel < chunk_end;) {
          const bool many = panel + f.panels <= chunk_end;
          const Tile tile = {&p,
                             scratch + r.first * kRowStride,
                             p.b + (panel * p.k + k) * kPanel,
                             row + r.first,
                             panel * kPanel,
                             size,
                             k == 0,
                             k + size == p.k};
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
  constexpr int64_t kStrip = 16;  // rows of a panel that are written together when transposing
  for (int64_t panel = from; panel < to; ++panel) {
    float* out = packed + panel * k_size * kPanel;
    const float* in = b + panel * kPanel * b_n;
    const int64_t columns = least(kPanel, n_size - panel * kPanel);
    for (int64_t k0 = 0; k0 < k_size; k0 += kStrip) {
      const int64_t k1 = least(k0 + kStrip, k_size);
      if (columns < kPanel)
        std::memset(out + k0 * kPanel, 0, static_cast<size_t>((k1 - k0) * kPanel) * sizeof(float));
      if (b_n == 1) {
        for (int64_t k = k0; k < k1; ++k)
          std::memcpy(out + k * kPanel, in + k * b_k, static_cast<size_t>(columns) * sizeof(float));
      } else {
        for (int64_t n = 0; n < columns; ++n)
          for (int64_t k = k0; k < k1; ++k) out[k * kPanel + n] = in[k * b_k + n * b_n];
      }
    }
  }
}

}  // namespace verbatim::VB_TARGET
