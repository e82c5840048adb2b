// Ordered matrix products (docs/numerics.md, Family A, Matrix product) from packed panels.
//
// Operands of 16 bits are widened where they are copied anyway: rows of A, and panels of B that
// several tiles or many rows read. Few rows read each panel once: they widen it in registers, so
// that weights cost half the memory traffic. Their sums stay in binary32 until the last block of K.
#include <type_traits>
#include <utility>

#include <verbatim/kernels/cpu/kernels.h>
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/product_tile.h>

namespace verbatim::VB_TARGET {
namespace {

// Of a K block of B, so much stays in the second-level cache while all rows pass it.
constexpr int64_t kChunkFloats = 1 << 16;
constexpr int64_t kMostChunkFloats = greatest(kChunkFloats, kMostPanels* kProductBlock* kPanel);
constexpr int64_t kFewRows = 4;

template <class T>
constexpr bool kFloats = std::is_same_v<T, float>;

template <class B>
struct Tile {
  const Product* p;
  const float* a;  // copied rows, kRowStride apart
  const B* b;      // the K block in the tile's first panel
  int64_t panel_stride;
  float* sums;  // of the K blocks so far, rows sums_row apart
  int64_t sums_row;
  int64_t row, column, k;  // k: size of the K block
  bool first, last;        // K block; never the last of 16-bit results
  Ahead ahead;
};

// step(sum, row, column, columns left) for each register of a tile.
template <int kRows, int kVectors, class Step>
VB_INLINE void for_registers(F32 (&sum)[kRows][kVectors], int64_t columns, Step step) {
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v) step(sum[r][v], r, v * kLanes, columns - v * kLanes);
  }
}

// What follows the last block: the rest of the formula.
template <class T, int kRows, int kVectors>
VB_INLINE void complete(const Product& p, int64_t row, int64_t column,
                        F32 (&sum)[kRows][kVectors]) {
  const int64_t columns = p.n - column;
  T* out = static_cast<T*>(p.out) + row * p.out_row + column;
  const T* c = static_cast<const T*>(p.c) + row * p.c_row + column * p.c_column;
  if (p.alpha != 1)
    for_registers(
        sum, columns, [&](auto& s, int64_t, int64_t, int64_t) __attribute__((always_inline)) {
          s = s * all(p.alpha);
        });
  if (!kFloats<T> && p.rounded_before_c)
    for_registers(
        sum, columns, [](auto& s, int64_t, int64_t, int64_t) __attribute__((always_inline)) {
          s = rounded<T>(s);
        });
  if (p.c != nullptr)
    for_registers(
        sum,
        columns, [&](auto& s, int64_t r, int64_t n, int64_t left) __attribute__((always_inline)) {
          const T* at = c + r * p.c_row + n * p.c_column;
          const F32 addend = p.c_column == 0 ? all(*at) : load_up_to(at, left, zero());
          s = s + (p.beta == 1 ? addend : addend * all(p.beta));
        });
  for_registers(
      sum,
      columns, [&](auto& s, int64_t r, int64_t n, int64_t left) __attribute__((always_inline)) {
        store_up_to(out + r * p.out_row + n, left, canonical(s));
      });
}

// The block's sums join those before them.
template <int kRows, int kVectors, class B>
VB_INLINE void finish(const Tile<B>& t, F32 (&sum)[kRows][kVectors]) {
  const int64_t columns = t.p->n - t.column;
  if (!t.first)
    for_registers(
        sum,
        columns, [&](auto& s, int64_t r, int64_t n, int64_t left) __attribute__((always_inline)) {
          s = load_up_to(t.sums + r * t.sums_row + n, left, zero()) + s;
        });
  if (t.last) return complete<float>(*t.p, t.row, t.column, sum);
  for_registers(
      sum,
      columns, [&](auto& s, int64_t r, int64_t n, int64_t left) __attribute__((always_inline)) {
        store_up_to(t.sums + r * t.sums_row + n, left, s);
      });
}

template <int kRows, int kPanels, class B>
void run_tile(const Tile<B>& t) {
  constexpr int kVectors = kPanels * kTileVectors;
  if (!t.first) {  // the sums of the blocks before, until they are wanted
    for (int r = 0; r < kRows; ++r)
      for (int n = 0; n < kVectors * kLanes; n += kLine)
        __builtin_prefetch(t.sums + r * t.sums_row + n);
  }
  F32 acc[kRows][kVectors];
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v) acc[r][v] = zero();
  }
  multiply_tile(t.a, kRowStride, t.b, t.panel_stride, t.k, acc, t.ahead);
  finish(t, acc);
}

// The tile function for a number of rows, for one panel and for as many as such a tile takes.
template <class B>
struct TileFunctions {
  void (*one)(const Tile<B>&);
  void (*many)(const Tile<B>&);
  int panels;
};
template <class B, class Rows>
struct TilesByRows;
template <class B, int... kRows>
struct TilesByRows<B, std::integer_sequence<int, kRows...>> {
  static constexpr TileFunctions<B> kFunctions[] = {
      {run_tile<kRows + 1, 1, B>, run_tile<kRows + 1, panels_at_once(kRows + 1), B>,
       panels_at_once(kRows + 1)}...};
};
template <class B>
constexpr const TileFunctions<B>& tile_functions(int64_t rows) {
  return TilesByRows<
      B, std::make_integer_sequence<int, kFloats<B> ? kTileRows : kFewRows>>::kFunctions[rows - 1];
}

template <class E>
VB_INLINE void transpose_4x4(const E* in, int64_t in_stride, E* out, int64_t out_stride) {
  typedef E Quad __attribute__((vector_size(4 * sizeof(E))));
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
template <class E>
void transpose(const E* in, int64_t in_stride, int64_t rows, int64_t columns, E* out,
               int64_t out_stride) {
  constexpr int64_t kElements = kLineBytes / sizeof(E);
  for (int64_t line = 0; line < columns; line += kElements) {
    const int64_t line_end = least(line + kElements, columns);
    for (int64_t i = 0; i < rows; i += 4) {
      for (int64_t j = line; j < line_end; j += 4) {
        const E* from = in + i * in_stride + j;
        E* to = out + j * out_stride + i;
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

template <class T>
VB_INLINE void widen_all(const T* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += kLanes)
    store_up_to(to + i, count - i, load_up_to(from + i, count - i, zero()));
}

// The bits of an element: what is moved and not computed.
template <class T>
using Code = std::conditional_t<kFloats<T>, float, uint16_t>;

// 16-bit elements that have to be turned come to the end of a row's place first and are widened
// from its beginning on: a register is read before what lies there is overwritten.
template <class T>
void copy_rows(const Product& p, int64_t row, int64_t rows, int64_t k, int64_t size, float* to) {
  const T* from = static_cast<const T*>(p.a) + row * p.a_row + k * p.a_k;
  constexpr int64_t kStride = kRowStride * sizeof(float) / sizeof(T);
  T* codes = reinterpret_cast<T*>(to) + (kFloats<T> ? 0 : kStride - kProductBlock);
  if (p.a_k != 1)
    transpose(reinterpret_cast<const Code<T>*>(from), p.a_k, size, rows,
              reinterpret_cast<Code<T>*>(codes), kStride);
  for (int64_t r = 0; r < rows; ++r) {
    if constexpr (!kFloats<T>)
      widen_all(p.a_k != 1 ? codes + r * kStride : from + r * p.a_row, size, to + r * kRowStride);
    else if (p.a_k == 1)
      std::memcpy(to + r * kRowStride, from + r * p.a_row,
                  static_cast<size_t>(size) * sizeof(float));
  }
}

// `columns` elements of a row of B, and zeros up to a panel's width.
template <class E>
VB_INLINE void pack_row(const E* in, int64_t columns, E* out) {
  const int64_t count = least(columns, kPanel);
  if (count == kPanel) {
    std::memcpy(out, in, sizeof(E) * kPanel);
    return;
  }
  for (int64_t i = 0; i < count; ++i) out[i] = in[i];
  for (int64_t i = count; i < kPanel; ++i) out[i] = 0;
}

template <class E>
void pack_codes(const E* b, int64_t b_k, int64_t b_n, int64_t k_size, int64_t n_size, int64_t from,
                int64_t to, E* packed) {
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
      std::memset(at(panel), 0, static_cast<size_t>(k_size * kPanel) * sizeof(E));
    transpose(b + panel * kPanel * b_n, b_n, columns(panel), k_size, at(panel), kPanel);
  }
}

// The rows [row, row + rows) of the columns of panels [from, to), a K block after the other.
template <class T>
struct Call {
  const Product& p;
  int64_t row, rows, from, to;
  float *copies, *wide;  // of the K block: rows of A, a chunk of B's panels
  float* sums;
  int64_t sums_row;
  int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  // Rows are copied just before they are wanted; where they have to be turned, all at once, for
  // each line holds elements of many.
  bool copies_by_tile = p.a_k == 1;

  // The chunk of panels [begin, end) of the K block that begins at k: panel i is at
  // b + (i - begin) * stride.
  template <class B>
  void multiply(const B* b, int64_t stride, int64_t k, int64_t size, int64_t begin, int64_t end,
                int64_t chunk) const {
    const bool first_chunk = begin == from;
    for (int64_t t = 0; t < tiles; ++t) {
      const TileRows r = tile_rows(rows, t);
      if (first_chunk && copies_by_tile) copy(r, k, size);
      const TileFunctions<B>& f = tile_functions<B>(r.last - r.first);
      for (int64_t panel = begin; panel < end;) {
        const bool many = panel + f.panels <= end;
        const int64_t next = panel + (many ? f.panels : 1);
        Tile<B> tile = {&p,
                        copies + r.first * kRowStride,
                        b + (panel - begin) * stride,
                        stride,
                        sums + r.first * sums_row + (panel - from) * kPanel,
                        sums_row,
                        row + r.first,
                        panel * kPanel,
                        size,
                        k == 0,
                        kFloats<T> && k + size == p.k,
                        ahead_of(t, panel, k, size, begin, chunk)};
        if (first_chunk && copies_by_tile && t + 1 < tiles)
          fetch_rows(tile_rows(rows, t + 1), k, size, panel - begin, next - begin, end - begin,
                     tile.ahead);
        (many ? f.many : f.one)(tile);
        panel = next;
      }
    }
  }

  // Each tile fetches its part of a panel in the next chunk, which may be the next K block's.
  Ahead ahead_of(int64_t t, int64_t panel, int64_t k, int64_t size, int64_t begin,
                 int64_t chunk) const {
    if (panel + chunk < to) {
      panel += chunk;
    } else if (k + size < p.k) {
      panel -= begin - from;
      k += size;
      size = least(size, p.k - k);
    } else {
      return {};
    }
    const int64_t lines = size * kPanel * static_cast<int64_t>(sizeof(T)) / kLineBytes;
    const auto* at = reinterpret_cast<const float*>(panel_at(panel, k));
    return {at + lines * t / tiles * kLine, at + lines * (t + 1) / tiles * kLine};
  }

  // The part [part, part_end) of `parts` of rows that the next tile is going to copy.
  void fetch_rows(TileRows r, int64_t k, int64_t size, int64_t part, int64_t part_end,
                  int64_t parts, Ahead& ahead) const {
    const int64_t count = r.last - r.first, first = r.first + count * part / parts;
    ahead.rows = r.first + count * part_end / parts - first;
    ahead.row =
        reinterpret_cast<const float*>(static_cast<const T*>(p.a) + (row + first) * p.a_row + k);
    ahead.row_stride = p.a_row * static_cast<int64_t>(sizeof(T)) / 4;
    ahead.row_size = size * static_cast<int64_t>(sizeof(T)) / 4;
  }

  void copy(TileRows r, int64_t k, int64_t size) const {
    copy_rows<T>(p, row + r.first, r.last - r.first, k, size, copies + r.first * kRowStride);
  }

  const T* panel_at(int64_t panel, int64_t k) const {
    return static_cast<const T*>(p.b) + (panel * p.k + k) * kPanel;
  }

  void multiply_block(int64_t k, int64_t size) const {
    if (!copies_by_tile) copy({0, rows}, k, size);
    const int64_t chunk = rows > kFewRows && tiles <= 2 && rows / tiles > 3
                              ? 1
                              : greatest(kMostPanels, kChunkFloats / (greatest(1, size) * kPanel));
    for (int64_t begin = from; begin < to; begin += chunk) {
      const int64_t end = least(begin + chunk, to);
      if (kFloats<T> || rows <= kFewRows) {
        multiply(panel_at(begin, k), p.k * kPanel, k, size, begin, end, chunk);
      } else {
        for (int64_t i = begin; i < end; ++i)
          widen_all(panel_at(i, k), size * kPanel, wide + (i - begin) * size * kPanel);
        multiply<float>(wide, size * kPanel, k, size, begin, end, chunk);
      }
    }
  }

  // The sums of 16-bit operands' products become their result.
  void complete_rows() const {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t panel = from; panel < to; ++panel) {
        F32 sum[1][kTileVectors];
        VB_UNROLL
        for (int v = 0; v < kTileVectors; ++v)
          sum[0][v] = load(sums + r * sums_row + (panel - from) * kPanel + v * kLanes);
        complete<T>(p, row + r, panel * kPanel, sum);
      }
    }
  }
};

}  // namespace

size_t product_scratch(DType type, int64_t rows, int64_t panels) {
  const int64_t copies = rows * kRowStride;
  return static_cast<size_t>(
      type == DType::f32 ? copies : copies + kMostChunkFloats + rows * panels * kPanel);
}

void product(const Product& p, int64_t row, int64_t row_end, int64_t from, int64_t to,
             float* scratch) {
  visit_storage(p.type, [&](auto element) {
    using T = decltype(element);
    Call<T> call = {p, row, row_end - row, from, to, scratch, nullptr, nullptr, 0};
    if constexpr (kFloats<T>) {
      call.sums = static_cast<float*>(p.out) + row * p.out_row + from * kPanel;
      call.sums_row = p.out_row;
    } else {
      call.wide = scratch + call.rows * kRowStride;
      call.sums = call.wide + kMostChunkFloats;
      call.sums_row = (to - from) * kPanel;
    }
    int64_t k = 0;
    do {  // once even where K is 0: the sum of nothing is +0
      const int64_t size = least(kProductBlock, p.k - k);
      call.multiply_block(k, size);
      k += size;
    } while (k < p.k);
    if constexpr (!kFloats<T>) call.complete_rows();
  });
}

void pack(const float* b, int64_t b_k, int64_t b_n, int64_t k_size, int64_t n_size, int64_t from,
          int64_t to, float* packed) {
  pack_codes(b, b_k, b_n, k_size, n_size, from, to, packed);
}

void pack(DType type, const void* b, int64_t b_k, int64_t b_n, int64_t k_size, int64_t n_size,
          int64_t from, int64_t to, void* packed) {
  if (type == DType::f32)
    return pack(static_cast<const float*>(b), b_k, b_n, k_size, n_size, from, to,
                static_cast<float*>(packed));
  pack_codes(static_cast<const uint16_t*>(b), b_k, b_n, k_size, n_size, from, to,
             static_cast<uint16_t*>(packed));
}

}  // namespace verbatim::VB_TARGET
