// Products of int8 slices (docs/numerics.md, Family B) from packed panels. Integers have no order:
// each instruction set multiplies as it can, and all give the same sums.
//
// A panel holds kPanel columns of B in blocks of kBlock codes of K. A block is kPanel int32, -128
// times the sum of each column's codes in it, and then its groups: four codes of the first column,
// four of the second, and so on, zeros where K ends. So a register holds four products for each of
// kLanes columns, and no sum crosses lanes; and sixteen groups of sixteen columns are a tile as
// AMX multiplies them. A's rows are copied in the form that the instruction takes.
//
// Sums are int32 over a span of K, one for each weight of a pair of slices. Where a span ends they
// are weighted and added up in binary64.
#include <utility>

#include <verbatim/kernels/cpu/target/dot.h>
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/product_tile.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/sliced.h>

namespace verbatim::VB_TARGET {
namespace {

constexpr int64_t kGroup = 4, kBlock = 1024;  // codes
constexpr int64_t kGroupBytes = kPanel * kGroup, kOffsetBytes = kPanel * 4,
                  kBlockBytes = kOffsetBytes + kBlock / kGroup * kGroupBytes;

// Four pairs of slices have one weight at most: two with the first slice, whose codes are within
// 127, and two others, whose codes are within 64.
constexpr int64_t kSpan = 65536;
static_assert(kSpan * (2 * 127 * 64 + 2 * 64 * 64) <= INT32_MAX && kSpan % kBlock == 0);

VB_INLINE int64_t groups_of(int64_t codes) { return (codes + kGroup - 1) / kGroup; }
// Groups that a panel has room for.
VB_INLINE int64_t stored_groups_of(int64_t codes) {
#if defined(__AVX512F__)
  return (codes + 63) / 64 * 16;  // whole tiles
#else
  return groups_of(codes);
#endif
}
VB_INLINE int32_t four_codes(const uint8_t* p) {
  int32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// The least and the greatest of codes.
class CodeRange {
 public:
  VB_INLINE void add(const int8_t* codes, int64_t size) {
    int64_t i = 0;
    for (; i + kBytes <= size; i += kBytes) add(load(reinterpret_cast<const int32_t*>(codes + i)));
    if (i == size) return;
    int8_t rest[kBytes] = {};
    std::memcpy(rest, codes + i, static_cast<size_t>(size) % kBytes);
    add(load(reinterpret_cast<const int32_t*>(rest)));
  }
  bool is_within(int greatest) const {
    int8_t ends[2 * kBytes];
    std::memcpy(ends, &least_, kBytes);
    std::memcpy(ends + kBytes, &most_, kBytes);
    bool within = true;
    for (const int8_t code : ends) within = within && -greatest <= code && code <= greatest;
    return within;
  }

 private:
  static constexpr int64_t kBytes = sizeof(I32);
  VB_INLINE void add(I32 codes) {
    least_ = minimum8(least_, codes);
    most_ = maximum8(most_, codes);
  }
  I32 least_ = all_int(0), most_ = all_int(0);
};

// How groups are multiplied: left() is a group of one row of A, in every lane, right() a group of
// kLanes columns. A row's copy has kLeftBytes for each group. kOffset: it holds code + 128, for
// which B's offsets make up. copy() gets whole groups.
struct Widening {
  static constexpr const char* kName = "";
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

#if defined(VB_HAS_DOT)
struct Dot {
  static constexpr int kRows = kTileRows, kLeftBytes = 4;
  using Codes = I32;
  VB_INLINE static I32 left(const uint8_t* p) { return all_int(four_codes(p)); }
  VB_INLINE static I32 right(const int8_t* p) { return load(reinterpret_cast<const int32_t*>(p)); }
  VB_INLINE static I32 add(I32 s, I32 a, I32 b) { return dot(s, a, b); }
#if defined(__AVX512F__)
  static constexpr bool kOffset = true;
  static constexpr const char* kName = "avx512_vnni";
  VB_INLINE static void copy(const int8_t* from, int64_t size, uint8_t* to) {
    for (int64_t i = 0; i < size; ++i) to[i] = static_cast<uint8_t>(from[i] ^ 0x80);
  }
#else
  static constexpr bool kOffset = false;
  static constexpr const char* kName = "neon_dotprod";
  VB_INLINE static void copy(const int8_t* from, int64_t size, uint8_t* to) {
    std::memcpy(to, from, static_cast<size_t>(size));
  }
#endif
};
#endif

template <class D>
constexpr int64_t kRowBytes = kBlock / kGroup* D::kLeftBytes + 64;  // not a multiple of 4 KiB

// A tile of the result and a block of K.
struct Tile {
  const SlicedProduct* p = nullptr;
  const uint8_t* a = nullptr;  // copied rows of all slices, a_slice apart
  int64_t a_slice = 0;
  const int8_t *b = nullptr, *offsets = nullptr;  // of the first panel and slice
  int64_t b_panel = 0, b_slice = 0;
  // Sums (level, panel, row, column) at sums + level * sums_level + panel * sums_panel +
  // row * kPanel + column. The totals of the spans before lie as the sums of one level do.
  int32_t* sums = nullptr;
  double* totals = nullptr;
  int64_t sums_level = 0, sums_panel = 0;
  int64_t row = 0, rows = 0, column = 0, groups = 0;
  const int8_t* next = nullptr;  // what this tile fetches ahead, so many lines for each step
  int64_t next_lines = 0;
  void* state = nullptr;  // of the way that multiplies
  bool begins_span = false, ends_span = false, in_first_span = false, in_last_span = false;

  int64_t levels() const { return greatest(p->a_count, p->b_count); }
};

// The slices of A that have one of B, level - i, to make up a weight.
struct Slices {
  int64_t from, to;
};
VB_INLINE Slices slices_of(const Tile& t, int64_t level) {
  return {greatest(0, level - t.p->b_count + 1), least(level + 1, t.p->a_count)};
}

// Nothing changes by adding -0.
VB_INLINE F32 bias_of(const SlicedProduct& p, int64_t column) {
  return p.bias == nullptr ? negative_zero() : load_up_to(p.bias + column, p.n - column, zero());
}

// kLanes columns from the span's sums, whose weights are 128 apart. Binary64 is exact: a whole sum
// is below 2^53.
VB_INLINE void add_levels(const Tile& t, const int32_t* sums, double* totals, int64_t row,
                          int64_t column) {
  const SlicedProduct& p = *t.p;
  F64 first_half = all64(0), second_half = all64(0);
  if (!t.in_first_span) {
    first_half = load(totals);
    second_half = load(totals + kLanes / 2);
  }
  for (int64_t level = 0, levels = t.levels(); level < levels; ++level) {
    const I32 sum = load(sums + level * t.sums_level);
    const F64 weight = all64(static_cast<double>(int64_t{1} << (7 * (levels - 1 - level))));
    first_half = fma(low(sum), weight, first_half);
    second_half = fma(high(sum), weight, second_half);
  }
  if (!t.in_last_span) {
    store(totals, first_half);
    store(totals + kLanes / 2, second_half);
    return;
  }
  F32 v;
  if (p.a_scales != nullptr) {
    v = narrow(first_half, second_half) *
        (all(p.a_scales[row]) * load_up_to(p.b_scales + column, p.n - column, zero()));
  } else {
    const F64 power = all64(p.a_powers[row]);
    v = narrow(first_half * (power * load(p.b_powers + column)),
               second_half * (power * load(p.b_powers + column + kLanes / 2)));
  }
  store_up_to(p.out + row * p.n + column, p.n - column, canonical(v + bias_of(p, column)));
}

// Rows [from, to) of kLanes columns of a tile whose span has ended; their sums are at `sums`.
VB_INLINE void end_columns(const Tile& t, int64_t column, int64_t from, int64_t to, int64_t sums) {
  const SlicedProduct& p = *t.p;
  sums += from * kPanel;
  if (p.a_scales == nullptr || !t.in_first_span || !t.in_last_span) {
    for (int64_t r = from; r < to; ++r, sums += kPanel)
      add_levels(t, t.sums + sums, t.totals + sums, t.row + r, column);
    return;
  }
  // One sum is all there is, and is rounded first.
  const int64_t count = p.n - column, step = p.n;
  const F32 scale = load_up_to(p.b_scales + column, count, zero()), bias = bias_of(p, column);
  const float* const a_scales = p.a_scales + t.row;
  const auto value = [&](int64_t r, const int32_t* sum) {
    return canonical(to_nearest_float(load(sum)) * (all(a_scales[r]) * scale) + bias);
  };
  const int32_t* sum = t.sums + sums;
  float* out = p.out + (t.row + from) * step + column;
  if (count >= kLanes) {
    for (int64_t r = from; r < to; ++r, sum += kPanel, out += step) store(out, value(r, sum));
  } else {
    for (int64_t r = from; r < to; ++r, sum += kPanel, out += step)
      store_first(out, count, value(r, sum));
  }
}

VB_INLINE void end_span(const Tile& t, int64_t panels, int64_t from, int64_t to) {
  for (int64_t v = 0; v < panels * kTileVectors && t.column + v * kLanes < t.p->n; ++v)
    end_columns(t, t.column + v * kLanes, from, to,
                v / kTileVectors * t.sums_panel + v % kTileVectors * kLanes);
}

// acc[r][v] += the dots of row r and the columns of vector v, whose codes are `slice` bytes from
// those of the first slice.
template <class D, int kRows, int kVectors>
VB_INLINE void multiply(const Tile& t, const uint8_t* a, int64_t slice,
                        I32 (&acc)[kRows][kVectors]) {
  const int8_t* b = t.b + slice;
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
          load(reinterpret_cast<const int32_t*>(t.offsets + slice + v / kTileVectors * t.b_panel) +
               v % kTileVectors * kLanes);
      VB_UNROLL
      for (int r = 0; r < kRows; ++r) acc[r][v] = acc[r][v] + offset;
    }
  }
}

template <class D, int kRows, int kPanels>
void run_tile(const Tile& t) {
  constexpr int kVectors = kPanels * kTileVectors;
  for (int64_t level = 0; level < t.levels(); ++level) {
    const auto sums = [&](int r, int v) {
      return t.sums + level * t.sums_level + v / kTileVectors * t.sums_panel + r * kPanel +
             v % kTileVectors * kLanes;
    };
    I32 acc[kRows][kVectors];
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      VB_UNROLL
      for (int v = 0; v < kVectors; ++v) acc[r][v] = all_int(0);
    }
    if (!t.begins_span) {
      VB_UNROLL
      for (int r = 0; r < kRows; ++r) {
        VB_UNROLL
        for (int v = 0; v < kVectors; ++v) acc[r][v] = load(sums(r, v));
      }
    }
    const Slices slices = slices_of(t, level);
    for (int64_t i = slices.from; i < slices.to; ++i)
      multiply<D>(t, t.a + i * t.a_slice, (level - i) * t.b_slice, acc);
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      VB_UNROLL
      for (int v = 0; v < kVectors; ++v) store(sums(r, v), acc[r][v]);
    }
  }
  if (t.ends_span) end_span(t, kPanels, 0, kRows);
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

// One register after the other, with an instruction D.
template <class D>
struct ByRegisters {
  static constexpr int64_t kRows = D::kRows, kDepth = kBlock, kCopyBytes = kRowBytes<D>;
  static constexpr int64_t kCopiedRows = 1;
  // Of B, and of A's copies: in the second-level cache.
  static constexpr int64_t kChunkBytes = 256 << 10, kMostCopies = 512 << 10;
  static constexpr const char* kName = D::kName;
  static SlicedTask task(const SlicedProduct&) { return {96, 256 / kPanel, 1}; }
  struct State {};  // of a task
  VB_INLINE static int64_t whole_rows(int64_t rows) { return rows; }
  VB_INLINE static TileRows rows_of(int64_t rows, int64_t tile) {
    return tile_rows(rows, tile, kRows);
  }
  static void copy(const int8_t* from, int64_t stride, int64_t rows, int64_t size, uint8_t* to) {
    const int64_t whole = size / kGroup * kGroup;
    for (int64_t r = 0; r < rows; ++r, from += stride, to += kCopyBytes) {
      D::copy(from, whole, to);
      if (whole == size) continue;
      int8_t rest[kGroup] = {};
      std::memcpy(rest, from + whole, static_cast<size_t>(size - whole));
      D::copy(rest, kGroup, to + whole / kGroup * D::kLeftBytes);
    }
  }
  static TileFunctions functions(int64_t rows) { return Functions<D>::kOf[rows - 1]; }
};

#if defined(__AVX512F__)
// Two by two tiles of AMX: 16 rows of 64 codes by 16 groups of 16 columns give 16 by 16 sums. The
// compiler knows nothing of tile registers: 0 to 3 hold sums, 4 and 5 rows of A, 6 and 7 columns
// of B.
struct ByTiles {
  static constexpr int64_t kHeight = 16, kRows = 2 * kHeight, kStep = 64;  // rows, codes
  // A panel's part of a block, 16 KiB, stays in the first-level cache while A's goes by.
  static constexpr int64_t kDepth = 512, kCopyBytes = kDepth, kChunkBytes = 1;
  static constexpr int64_t kCopiedRows = kRows, kStepRows = kRows / (kDepth / kStep);
  static constexpr int64_t kMostCopies = 1 << 20;
  static constexpr const char* kName = "amx_int8";
  static constexpr int64_t kLeastRows = 4;  // of A; fewer are faster without
  static_assert(kBlock % kDepth == 0 && kPanel == 2 * kLanes);

  // Each panel comes from far away for a task's rows, which are as many as their copies fit.
  static SlicedTask task(const SlicedProduct& p) {
    constexpr int64_t kMostRows = 512, kFewRows = 128, kMostTasks = 16, kLeastProducts = 1 << 25;
    const int64_t k = greatest(1, p.k) * p.a_count, fitting = kMostCopies / k / kRows * kRows,
                  rows = least(whole_rows(p.m), greatest(kFewRows, least(kMostRows, fitting)));
    int64_t columns = 1024;
    const auto tasks = [&] { return (p.m + rows - 1) / rows * ((p.n + columns - 1) / columns); };
    while (columns > kPanel && tasks() < kMostTasks && rows * columns > kLeastProducts / k)
      columns /= 2;
    return {rows, columns / kPanel, kRows};
  }
  static int64_t whole_rows(int64_t rows) { return (rows + kRows - 1) / kRows * kRows; }
  static TileRows rows_of(int64_t rows, int64_t tile) {
    return {tile * kRows, least((tile + 1) * kRows, rows)};
  }
  // [step][row][64]: what a step of the product takes lies in one piece. Whatever a step has
  // beyond the codes meets zeros of B.
  static void copy(const int8_t* from, int64_t stride, int64_t rows, int64_t size, uint8_t* to) {
    const int64_t step = (rows > kHeight ? 2 : 1) * kHeight * kStep;
    for (int64_t r = 0; r < rows; ++r, from += stride, to += kStep) {
      int64_t k = 0;
      for (; k + kStep <= size; k += kStep) std::memcpy(to + k / kStep * step, from + k, kStep);
      if (k < size) std::memcpy(to + k / kStep * step, from + k, static_cast<size_t>(size - k));
    }
  }
  static TileFunctions functions(int64_t rows) {
    return rows > kHeight ? TileFunctions{run<2>, run<2>, 1} : TileFunctions{run<1>, run<1>, 1};
  }

  // Tile registers, and a tile whose sums are done. Its results are made while the next tile is
  // multiplied: by another unit, and what was stored can be loaded by then.
  class State {
   public:
    State() {
      struct {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
      } shapes;
      __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
    }
    ~State() {
      end_rows(kRows);
      __asm__ volatile("tilerelease");  // so that nobody has to save them
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    void end_later(const Tile& t) {
      tile_ = t;
      row_ = 0;
    }
    VB_INLINE void end_rows(int64_t rows) {
      const int64_t end = least(row_ + rows, tile_.rows);
      if (row_ < end) end_span(tile_, 1, row_, end);
      row_ = end;
    }

   private:
    Tile tile_;
    int64_t row_ = 0;
  };

  template <int kHigh>
  static void run(const Tile& t) {
    State& state = *static_cast<State*>(t.state);
    for (int64_t level = 0; level < t.levels(); ++level) {
      int32_t* const sums = t.sums + level * t.sums_level;
      begin<kHigh>(sums, t.begins_span);
      const Slices slices = slices_of(t, level);
      for (int64_t i = slices.from; i < slices.to; ++i) {
        const uint8_t* a = t.a + i * t.a_slice;
        const int8_t* b = t.b + (level - i) * t.b_slice;
        // Each slice of B is the first slice's partner once.
        const int8_t* next = t.next + (level - i) * t.b_slice;
        const int64_t lines = i == 0 ? t.next_lines : 0;
        for (int64_t g = 0; g < t.groups; g += kStep / kGroup) {
          add<kHigh>(a, b);
          state.end_rows(kStepRows);
          for (int64_t line = 0; line < lines; ++line, next += 64) __builtin_prefetch(next, 0, 2);
          a += kHigh * kHeight * kStep;
          b += kStep / kGroup * kGroupBytes;
        }
      }
      state.end_rows(kRows);  // whose sums may be where these go
      end<kHigh>(sums);
    }
    if (t.ends_span) state.end_later(t);
  }
  template <int kHigh>
  VB_INLINE static void begin(const int32_t* sums, bool from_zero) {
    const int64_t stride = kPanel * 4;
    if (from_zero) {
      __asm__ volatile("tilezero %tmm0\n\ttilezero %tmm1\n\ttilezero %tmm2\n\ttilezero %tmm3");
      return;
    }
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm0\n\ttileloadd 64(%0,%1,1), %%tmm1"
                     :
                     : "r"(sums), "r"(stride)
                     : "memory");
    if constexpr (kHigh == 2)
      __asm__ volatile("tileloadd (%0,%1,1), %%tmm2\n\ttileloadd 64(%0,%1,1), %%tmm3"
                       :
                       : "r"(sums + kHeight * kPanel), "r"(stride)
                       : "memory");
  }
  template <int kHigh>
  VB_INLINE static void add(const uint8_t* a, const int8_t* b) {
    const int64_t a_stride = kStep, b_stride = kGroupBytes;
    __asm__ volatile(
        "tileloadd (%0,%2,1), %%tmm4\n\t"
        "tileloadd (%1,%3,1), %%tmm6\n\t"
        "tdpbssd %%tmm6, %%tmm4, %%tmm0\n\t"
        "tileloadd 64(%1,%3,1), %%tmm7\n\t"
        "tdpbssd %%tmm7, %%tmm4, %%tmm1"
        :
        : "r"(a), "r"(b), "r"(a_stride), "r"(b_stride)
        : "memory");
    if constexpr (kHigh == 2)
      __asm__ volatile(
          "tileloadd (%0,%1,1), %%tmm5\n\t"
          "tdpbssd %%tmm6, %%tmm5, %%tmm2\n\t"
          "tdpbssd %%tmm7, %%tmm5, %%tmm3"
          :
          : "r"(a + kHeight * kStep), "r"(a_stride)
          : "memory");
  }
  template <int kHigh>
  VB_INLINE static void end(int32_t* sums) {
    const int64_t stride = kPanel * 4;
    __asm__ volatile("tilestored %%tmm0, (%0,%1,1)\n\ttilestored %%tmm1, 64(%0,%1,1)"
                     :
                     : "r"(sums), "r"(stride)
                     : "memory");
    if constexpr (kHigh == 2)
      __asm__ volatile("tilestored %%tmm2, (%0,%1,1)\n\ttilestored %%tmm3, 64(%0,%1,1)"
                       :
                       : "r"(sums + kHeight * kPanel), "r"(stride)
                       : "memory");
  }
};
#endif

// How A's copies lie: [slice][block of K][row].
template <class Way>
struct Copies {
  int64_t block, slice;  // bytes
  explicit Copies(const SlicedProduct& p)
      : block(Way::whole_rows(p.m) * Way::kCopyBytes),
        slice((p.k + Way::kDepth - 1) / Way::kDepth * block) {}
};

template <class Way>
bool copy_rows(const SlicedProduct& p, int64_t row, int64_t row_end, uint8_t* copies) {
  const Copies<Way> at(p);
  bool within = true;
  for (int64_t s = 0; s < p.a_count; ++s) {
    CodeRange range;
    for (int64_t r = row; r < row_end; r += Way::kCopiedRows) {
      const int64_t rows = least(Way::kCopiedRows, row_end - r);
      const int8_t* const from = p.a + s * p.a_slice + r * p.k;
      range.add(from, rows * p.k);
      for (int64_t k = 0; k < p.k; k += Way::kDepth)
        Way::copy(from + k, p.k, rows, least(Way::kDepth, p.k - k),
                  copies + s * at.slice + k / Way::kDepth * at.block + r * Way::kCopyBytes);
    }
    within = within && range.is_within(s == 0 ? kInt8Codes : kLaterSliceCodes);
  }
  return within;
}

// A task's rows and panels. A stretch of K is that whose copied rows stay in the cache. Chunks of
// panels take turns in it, and blocks of K in a chunk, so that B is read in long pieces; for a
// block all tiles of rows go through the chunk. Sums stay from one stretch to the next.
template <class Way>
class Task {
 public:
  Task(const SlicedProduct& p, int64_t row, int64_t row_end, int64_t from, int64_t to)
      : p_(p),
        copies_(p),
        row_(row),
        rows_(row_end - row),
        tiles_((rows_ + Way::kRows - 1) / Way::kRows),
        from_(from),
        to_(to) {
    const int64_t whole_rows = Way::whole_rows(rows_),
                  blocks = Way::kMostCopies / (whole_rows * Way::kCopyBytes * p.a_count);
    stretch_ = least(p.k, greatest(1, blocks) * kDepth);
    chunk_ = tiles_ == 1 ? Way::functions(rows_).panels
                         : greatest(1, Way::kChunkBytes / (kBlockBytes * p.b_count));
    keeps_sums_ = stretch_ < p.k;
    tile_.p = &p;
    tile_.a_slice = copies_.slice;
    tile_.b_panel = sliced_panel_bytes(p.k);
    tile_.b_slice = (p.n + kPanel - 1) / kPanel * tile_.b_panel;
    tile_.sums_panel = whole_rows * kPanel;
    tile_.sums_level = (keeps_sums_ ? to - from : chunk_) * tile_.sums_panel;
  }
  int64_t scratch_bytes() const {
    return sums() * int64_t{sizeof(int32_t)} + totals() * int64_t{sizeof(double)};
  }
  void run(void* scratch) {
    sums_ = static_cast<int32_t*>(scratch);
    totals_ = reinterpret_cast<double*>(sums_ + sums());
    typename Way::State state;
    tile_.state = &state;
    int64_t k = 0;
    do {  // once even where K is 0: the sum of nothing is 0
      const int64_t end = least(k + stretch_, p_.k);
      for (int64_t chunk = from_; chunk < to_; chunk += chunk_) {
        int64_t block = k;
        do {
          const bool is_last = block + kDepth >= end;
          set_next(is_last ? k : block + kDepth, least(is_last ? chunk + chunk_ : chunk, to_ - 1));
          multiply_block(block, chunk, least(chunk + chunk_, to_));
          block += kDepth;
        } while (block < end);
      }
      k = end;
    } while (k < p_.k);
  }

 private:
  static constexpr int64_t kDepth = Way::kDepth;

  int64_t sums() const { return tile_.levels() * tile_.sums_level; }
  int64_t totals() const { return p_.k > kSpan ? tile_.sums_level : 0; }

  const int8_t* groups(int64_t k, int64_t panel) const {
    return p_.b + panel * tile_.b_panel + k / kBlock * kBlockBytes + kOffsetBytes +
           k % kBlock / kGroup * kGroupBytes;
  }
  // Shares the block that follows out among the tiles of this one.
  void set_next(int64_t k, int64_t panel) {
    constexpr int64_t kStepLines = kGroupBytes / 4;  // of one step of 64 codes: 16 groups
    next_ = groups(k, panel);
    tile_.next_lines = (kStepLines + tiles_ - 1) / tiles_;
  }
  void multiply_block(int64_t k, int64_t chunk, int64_t chunk_end) {
    const int64_t size = least(kDepth, p_.k - k);
    tile_.groups = groups_of(size);
    tile_.begins_span = k % kSpan == 0;
    tile_.in_first_span = k < kSpan;
    tile_.in_last_span = p_.k - k / kSpan * kSpan <= kSpan;
    tile_.ends_span = k + size == p_.k || (k + size) % kSpan == 0;
    for (int64_t i = 0; i < tiles_; ++i) {
      const TileRows r = Way::rows_of(rows_, i);
      const TileFunctions f = Way::functions(r.last - r.first);
      tile_.row = row_ + r.first;
      tile_.rows = r.last - r.first;
      tile_.a = p_.copies + k / kDepth * copies_.block + tile_.row * Way::kCopyBytes;
      for (int64_t panel = chunk; panel < chunk_end;) {
        const bool many = panel + f.panels <= chunk_end;
        tile_.offsets = p_.b + panel * tile_.b_panel + k / kBlock * kBlockBytes;
        tile_.b = groups(k, panel);
        tile_.next = next_ + i * tile_.next_lines * (kDepth / 64) * 64;
        tile_.column = panel * kPanel;
        // The sums of one block have no need to stay: all tiles take the same place.
        const int64_t at =
            p_.k <= kDepth
                ? 0
                : (panel - (keeps_sums_ ? from_ : chunk)) * tile_.sums_panel + r.first * kPanel;
        tile_.sums = sums_ + at;
        tile_.totals = totals_ + at;
        (many ? f.many : f.one)(tile_);
        panel += many ? f.panels : 1;
      }
    }
  }

  const SlicedProduct& p_;
  const Copies<Way> copies_;
  const int64_t row_, rows_, tiles_, from_, to_;
  int64_t stretch_, chunk_;
  bool keeps_sums_;
  const int8_t* next_ = nullptr;
  Tile tile_;
  int32_t* sums_ = nullptr;
  double* totals_ = nullptr;
};

// f(the fastest way for p that this processor has)
template <class F>
VB_INLINE auto in_best_way([[maybe_unused]] const SlicedProduct& p, F&& f) {
#if defined(__AVX512F__)
  if (cpu_features().amx_int8 && p.m >= ByTiles::kLeastRows) return f(ByTiles());
#endif
#if defined(VB_HAS_DOT)
  if (has_dot()) return f(ByRegisters<Dot>());
#endif
  return f(ByRegisters<Widening>());
}

}  // namespace

int64_t sliced_panel_bytes(int64_t k) {
  const int64_t blocks = greatest(1, (k + kBlock - 1) / kBlock);
  return blocks * kOffsetBytes + stored_groups_of(k) * kGroupBytes;
}

const char* sliced_way(const SlicedProduct& p) {
  return in_best_way(p, [&]<class Way>(Way) { return Way::kName; });
}

SlicedTask sliced_task(const SlicedProduct& p) {
  return in_best_way(p, [&]<class Way>(Way) { return Way::task(p); });
}

int64_t sliced_copy_bytes(const SlicedProduct& p) {
  return in_best_way(p, [&]<class Way>(Way) { return p.a_count * Copies<Way>(p).slice; });
}

bool sliced_copy(const SlicedProduct& p, int64_t row, int64_t row_end, uint8_t* copies) {
  return in_best_way(p, [&]<class Way>(Way) { return copy_rows<Way>(p, row, row_end, copies); });
}

size_t sliced_scratch(const SlicedProduct& p, const SlicedTask& task) {
  return in_best_way(p, [&]<class Way>(Way) {
    return static_cast<size_t>(Task<Way>(p, 0, task.rows, 0, task.panels).scratch_bytes()) /
           sizeof(float);
  });
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
  in_best_way(p, [&]<class Way>(Way) { Task<Way>(p, row, row_end, from, to).run(scratch); });
}

}  // namespace verbatim::VB_TARGET
