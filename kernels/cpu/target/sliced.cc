// Products of int8 slices (docs/numerics.md, Family B) from packed panels. Integers have no order:
// each instruction set multiplies as it can, and all give the same sums.
//
// A panel holds kPanel columns of B in blocks of kBlock codes of K. A block is kPanel int32, -128
// times the sum of each column's codes in it, and then its groups: four codes of the first column,
// four of the second, and so on, zeros where K ends. So a register holds four products for each of
// kLanes columns, and no sum crosses lanes. A's rows are copied block by block in the form that the
// instruction takes.
#include <utility>

#include <verbatim/core/cpu.h>
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/product_tile.h>

namespace verbatim::VB_TARGET {
namespace {

constexpr int64_t kGroup = 4, kBlock = 1024;  // codes
constexpr int64_t kGroupBytes = kPanel * kGroup, kOffsetBytes = kPanel * 4,
                  kBlockBytes = kOffsetBytes + kBlock / kGroup * kGroupBytes;
constexpr int64_t kChunkBytes = 256 << 10;  // of B, in the second-level cache for all rows

VB_INLINE int64_t groups_of(int64_t codes) { return (codes + kGroup - 1) / kGroup; }
VB_INLINE int32_t four_codes(const uint8_t* p) {
  int32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// How groups are multiplied: left() is a group of one row of A, in every lane, right() a group of
// kLanes columns. A row's copy has kLeftBytes for each group. kOffset: it holds code + 128, for
// which B's offsets make up. copy() gets whole groups.
struct Widening {
#if defined(__AVX512F__)
  static constexpr int kRows = 12;
#elif defined(__AVX2__)
  static constexpr int kRows = 4;
#else
  static constexpr int kRows = 6;
#endif
  static constexpr int kLeftBytes = 8;
  static constexpr bool kOffset = false;
  struct Codes {
    I32 even, odd;  // 16-bit numbers
  };
  VB_INLINE static void copy(const int8_t* from, int64_t size, uint8_t* to) {
    for (int64_t i = 0; i < size; i += kGroup) {
      const int16_t codes[] = {from[i], from[i + 2], from[i + 1], from[i + 3]};
      std::memcpy(to + 2 * i, codes, sizeof codes);
    }
  }
  VB_INLINE static Codes left(const uint8_t* p) {
    return {all_int(four_codes(p)), all_int(four_codes(p + 4))};
  }
  VB_INLINE static Codes right(const int8_t* p) {
    const I32 v = load(reinterpret_cast<const int32_t*>(p));
    return {shift_right16<8>(shift_left16<8>(v)), shift_right16<8>(v)};
  }
  VB_INLINE static I32 add(I32 s, const Codes& a, const Codes& b) {
    return s + multiply_pairs(a.even, b.even) + multiply_pairs(a.odd, b.odd);
  }
};

// The one instruction beyond the target's own set: written as such, run only where has_dot().
#if defined(__AVX512F__) || !defined(__AVX2__)
#define VB_HAS_DOT 1
struct Dot {
  static constexpr int kRows = kTileRows, kLeftBytes = 4;
  using Codes = I32;
  VB_INLINE static I32 left(const uint8_t* p) { return all_int(four_codes(p)); }
  VB_INLINE static I32 right(const int8_t* p) { return load(reinterpret_cast<const int32_t*>(p)); }
#if defined(__AVX512F__)
  static constexpr bool kOffset = true;
  VB_INLINE static void copy(const int8_t* from, int64_t size, uint8_t* to) {
    for (int64_t i = 0; i < size; ++i) to[i] = static_cast<uint8_t>(from[i] ^ 0x80);
  }
  VB_INLINE static I32 add(I32 s, I32 a, I32 b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(s.v) : "v"(a.v), "v"(b.v));
    return s;
  }
#else
  static constexpr bool kOffset = false;
  VB_INLINE static void copy(const int8_t* from, int64_t size, uint8_t* to) {
    std::memcpy(to, from, static_cast<size_t>(size));
  }
  VB_INLINE static I32 add(I32 s, I32 a, I32 b) {
    __asm__(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.16b"
            : "+w"(s.v)
            : "w"(a.v), "w"(b.v));
    return s;
  }
#endif
};
bool has_dot() {
#if defined(__AVX512F__)
  return cpu_features().avx512_vnni;
#else
  return cpu_features().neon_dotprod;
#endif
}
#endif

template <class D>
constexpr int64_t kRowBytes = kBlock / kGroup* D::kLeftBytes + 64;  // not a multiple of 4 KiB

struct Tile {
  const SlicedProduct* p = nullptr;
  const uint8_t* a = nullptr;  // copied rows, kRowBytes apart, of all slices, a_slice apart
  int64_t a_slice = 0;
  const int8_t* b = nullptr;  // the block in the tile's first panel and slice
  int64_t b_panel = 0, b_slice = 0;
  double* totals = nullptr;  // sums of the blocks before, totals_row apart
  int64_t totals_row = 0, row = 0, column = 0, groups = 0;
  bool first = false, last = false;  // block
};

// acc[r][v] += the dots of row r and the columns of vector v.
template <class D, int kRows, int kVectors>
VB_INLINE void multiply(const Tile& t, const uint8_t* a, const int8_t* block,
                        I32 (&acc)[kRows][kVectors]) {
  const int8_t* b = block + kOffsetBytes;
  for (int64_t g = 0; g < t.groups; ++g) {
    typename D::Codes columns[kVectors];
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v)
      columns[v] = D::right(b + v / kTileVectors * t.b_panel + g * kGroupBytes +
                            v % kTileVectors * kLanes * kGroup);
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const typename D::Codes x = D::left(a + r * kRowBytes<D> + g * D::kLeftBytes);
      VB_UNROLL
      for (int v = 0; v < kVectors; ++v) acc[r][v] = D::add(acc[r][v], x, columns[v]);
    }
  }
  if constexpr (D::kOffset) {
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const I32 offset =
          load(reinterpret_cast<const int32_t*>(block + v / kTileVectors * t.b_panel) +
               v % kTileVectors * kLanes);
      VB_UNROLL
      for (int r = 0; r < kRows; ++r) acc[r][v] = acc[r][v] + offset;
    }
  }
}

VB_INLINE void finish(const SlicedProduct& p, int64_t row, int64_t column, F64 low, F64 high) {
  const int64_t count = p.n - column;
  F32 v;
  if (p.a_scales != nullptr) {
    v = narrow(low, high) * (all(p.a_scales[row]) * load_up_to(p.b_scales + column, count, zero()));
  } else {
    const F64 power = all64(p.a_powers[row]);
    v = narrow(low * (power * load(p.b_powers + column)),
               high * (power * load(p.b_powers + column + kLanes / 2)));
  }
  if (p.bias != nullptr) v = v + load_up_to(p.bias + column, count, zero());
  store_up_to(p.out + row * p.n + column, count, canonical(v));
}

// A block of a tile: for each weight its pairs of slices, whose dots join the totals. Binary64 is
// exact: a whole sum is below 2^53, and an int32 holds four dots of a block.
template <class D, int kRows, int kPanels>
void run_tile(const Tile& t) {
  constexpr int kVectors = kPanels * kTileVectors;
  const SlicedProduct& p = *t.p;
  const int64_t order = greatest(p.a_count, p.b_count) - 1;
  for (int64_t level = 0; level <= order; ++level) {
    I32 acc[kRows][kVectors];
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      VB_UNROLL
      for (int v = 0; v < kVectors; ++v) acc[r][v] = all_int(0);
    }
    for (int64_t i = greatest(0, level - p.b_count + 1); i <= least(level, p.a_count - 1); ++i)
      multiply<D>(t, t.a + i * t.a_slice, t.b + (level - i) * t.b_slice, acc);
    int32_t sums[kRows][kVectors * kLanes];
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      VB_UNROLL
      for (int v = 0; v < kVectors; ++v) store(&sums[r][v * kLanes], acc[r][v]);
    }
    const F64 weight = all64(static_cast<double>(int64_t{1} << (7 * (order - level))));
    const bool first = t.first && level == 0, last = t.last && level == order;
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors && t.column + v * kLanes < p.n; ++v) {
        const I32 sum = load(&sums[r][v * kLanes]);
        double* total = t.totals + r * t.totals_row + v * kLanes;
        F64 low_sum = low(sum) * weight, high_sum = high(sum) * weight;
        if (!first) {
          low_sum = load(total) + low_sum;
          high_sum = load(total + kLanes / 2) + high_sum;
        }
        if (last) {
          finish(p, t.row + r, t.column + v * kLanes, low_sum, high_sum);
        } else {
          store(total, low_sum);
          store(total + kLanes / 2, high_sum);
        }
      }
    }
  }
}

// The tile function for a number of rows, for one panel and for as many as such a tile takes.
struct TileFunctions {
  void (*one)(const Tile&);
  void (*many)(const Tile&);
  int panels;
};
template <class D, class = std::make_integer_sequence<int, D::kRows>>
struct Functions;
template <class D, int... kRows>
struct Functions<D, std::integer_sequence<int, kRows...>> {
  static constexpr TileFunctions kOf[] = {{run_tile<D, kRows + 1, 1>,
                                           run_tile<D, kRows + 1, panels_at_once(kRows + 1)>,
                                           panels_at_once(kRows + 1)}...};
};

template <class D>
VB_INLINE void copy_row(const int8_t* from, int64_t size, uint8_t* to) {
  const int64_t whole = size / kGroup * kGroup;
  D::copy(from, whole, to);
  if (whole == size) return;
  int8_t rest[kGroup] = {};
  std::memcpy(rest, from + whole, static_cast<size_t>(size - whole));
  D::copy(rest, kGroup, to + whole / kGroup * D::kLeftBytes);
}

template <class D>
void multiply_panels(const SlicedProduct& p, int64_t row, int64_t row_end, int64_t from, int64_t to,
                     float* scratch) {
  const int64_t rows = row_end - row, tiles = (rows + D::kRows - 1) / D::kRows,
                panel_bytes = sliced_panel_bytes(p.k), panels = (p.n + kPanel - 1) / kPanel,
                chunk_panels = greatest(1, kChunkBytes / (kBlockBytes * p.b_count));
  Tile tile = {.p = &p,
               .a_slice = rows * kRowBytes<D>,
               .b_panel = panel_bytes,
               .b_slice = panels * panel_bytes,
               .totals_row = (to - from) * kPanel};
  auto* totals = reinterpret_cast<double*>(scratch);
  auto* copies = reinterpret_cast<uint8_t*>(totals + rows * tile.totals_row);
  int64_t k = 0;
  do {  // once even where K is 0: the sum of nothing is 0
    const int64_t size = least(kBlock, p.k - k);
    for (int64_t i = 0; i < p.a_count; ++i)
      for (int64_t r = 0; r < rows; ++r)
        copy_row<D>(p.a + ((i * p.m + row + r) * p.k + k), size,
                    copies + i * tile.a_slice + r * kRowBytes<D>);
    tile.groups = groups_of(size);
    tile.first = k == 0;
    tile.last = k + size == p.k;
    for (int64_t chunk = from; chunk < to; chunk += chunk_panels) {
      const int64_t chunk_end = least(chunk + chunk_panels, to);
      for (int64_t i = 0; i < tiles; ++i) {
        const TileRows r = tile_rows(rows, i, D::kRows);
        const TileFunctions& f = Functions<D>::kOf[r.last - r.first - 1];
        tile.a = copies + r.first * kRowBytes<D>;
        tile.row = row + r.first;
        for (int64_t panel = chunk; panel < chunk_end;) {
          const bool many = panel + f.panels <= chunk_end;
          tile.b = p.b + panel * panel_bytes + k / kBlock * kBlockBytes;
          tile.column = panel * kPanel;
          tile.totals = totals + r.first * tile.totals_row + (panel - from) * kPanel;
          (many ? f.many : f.one)(tile);
          panel += many ? f.panels : 1;
        }
      }
    }
    k += size;
  } while (k < p.k);
}

}  // namespace

int64_t sliced_panel_bytes(int64_t k) {
  const int64_t blocks = greatest(1, (k + kBlock - 1) / kBlock);
  return blocks * kOffsetBytes + groups_of(k) * kGroupBytes;
}

size_t sliced_scratch(int64_t a_count, int64_t panels) {
  const int64_t bytes =
      kSlicedRows * (panels * kPanel * int64_t{sizeof(double)} + a_count * kRowBytes<Widening>);
  return static_cast<size_t>(bytes) / sizeof(float);
}

void sliced_pack(const int8_t* b, int64_t k, int64_t n, int64_t from, int64_t to, int8_t* packed) {
  const int64_t panel_bytes = sliced_panel_bytes(k);
  for (int64_t panel = from; panel < to; ++panel) {
    int8_t* const out = packed + panel * panel_bytes;
    std::memset(out, 0, static_cast<size_t>(panel_bytes));
    const int64_t columns = least(kPanel, n - panel * kPanel);
    for (int64_t k0 = 0; k0 < k; k0 += kBlock) {
      int8_t* const block = out + k0 / kBlock * kBlockBytes;
      const int64_t size = least(kBlock, k - k0);
      for (int64_t c = 0; c < columns; ++c) {
        const int8_t* in = b + (panel * kPanel + c) * k + k0;
        int32_t sum = 0;
        for (int64_t i = 0; i < size; ++i) sum += in[i];
        sum *= -128;
        std::memcpy(block + c * 4, &sum, sizeof sum);
        for (int64_t i = 0; i < size; i += kGroup)
          std::memcpy(block + kOffsetBytes + i * kPanel + c * kGroup, in + i,
                      static_cast<size_t>(least(kGroup, size - i)));
      }
    }
  }
}

void sliced_product(const SlicedProduct& p, int64_t row, int64_t row_end, int64_t from, int64_t to,
                    float* scratch) {
#if defined(VB_HAS_DOT)
  if (has_dot()) return multiply_panels<Dot>(p, row, row_end, from, to, scratch);
#endif
  multiply_panels<Widening>(p, row, row_end, from, to, scratch);
}

}  // namespace verbatim::VB_TARGET
