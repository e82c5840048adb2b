// Products of codes whose groups have floating scales (docs/numerics.md, Family B, group formats):
// MXINT8, NVINT4, block floating point. The dot of a group is exact, so each instruction set
// multiplies as it can; the groups of an output are folded in ascending order by one chain of fma,
// which lies in the lane of its column (kernels.h, GroupedProduct).
//
// A register of weights holds 4 successive k of each of kLanes columns, as unsigned numbers, code +
// offset. A sum over a group starts from -offset times the sum of its activations.
#include <verbatim/kernels/cpu/target/dot.h>
#include <verbatim/kernels/cpu/target/kernels.h>

namespace verbatim::VB_TARGET {
namespace {

constexpr int kStep = kGroupedStep, kWords = kStep / 4;  // codes; of 4 codes each
constexpr int kPanel = kGroupedPanel, kVectors = kPanel / kLanes;

// Outputs whose sums and folds a tile keeps in registers: rows by kVectors.
#if defined(__AVX512F__)
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 4;
#endif
constexpr int64_t kBlock = 512;  // codes whose weights stay in the first-level cache

// A group of activations: its scale, where its sum starts, and steps of 16 codes in the form that
// the way of multiplying takes.
constexpr int64_t kHeader = 2;

int32_t sum_of(const int8_t* codes, int64_t size) {
  int32_t sum = 0;
  for (int64_t i = 0; i < size; ++i) sum += codes[i];
  return sum;
}

#if defined(__aarch64__)
VB_INLINE I32 signed_bytes(I32 codes) {  // code + 128 as code
  return {veorq_s32(codes.v, vreinterpretq_s32_u8(vdupq_n_u8(0x80)))};
}
#endif

// Ways to multiply weights of kBits by activations. kStepWords: of 32 bits, of a step of
// activations. Sum: a group's. Part: a step's, which may be the sum itself. left() is a word of
// activations, right() 4 codes of each column.

// Whose 32-bit lanes take four products at once.
struct ByFours {
  static constexpr int kStepWords = kWords;
  using Left = I32;
  using Right = I32;
  VB_INLINE static void copy_step(const int8_t* codes, int32_t* to) {
    std::memcpy(to, codes, kStep);
  }
  VB_INLINE static Left left(const int32_t* step, int word) { return all_int(step[word]); }
};

#if defined(VB_HAS_DOT)
template <int kBits>
struct Dot : ByFours {
  using Sum = I32;
  using Part = I32;
  VB_INLINE static Sum begin(int32_t start) { return all_int(start); }
  VB_INLINE static Part begin_step(Sum s, const int32_t*) { return s; }
  VB_INLINE static Part add(Part s, Left x, Right codes) { return dot(s, codes, x); }
  VB_INLINE static Sum end_step(Sum, Part s) { return s; }
  VB_INLINE static I32 whole(Sum s) { return s; }
#if defined(__AVX512F__)
  static constexpr int kOffset = kBits == 8 ? 128 : 8;
  VB_INLINE static Right right(I32 codes) { return codes; }
#else
  static constexpr int kOffset = kBits == 8 ? 0 : 8;
  VB_INLINE static Right right(I32 codes) { return kBits == 8 ? signed_bytes(codes) : codes; }
#endif
};
#endif

#if defined(__AVX2__)
template <int kBits>
struct Plain;
// Bytes are widened to pairs of 16-bit numbers, the even ones and the odd ones.
template <>
struct Plain<8> {
  static constexpr int kOffset = 128, kStepWords = 2 * kWords;
  struct Pairs {
    I32 even, odd;
  };
  using Left = Pairs;
  using Right = Pairs;
  using Sum = I32;
  using Part = I32;
  VB_INLINE static void copy_step(const int8_t* codes, int32_t* to) {
    for (int i = 0; i < kStep; i += 4) {
      const int16_t pairs[] = {codes[i], codes[i + 2], codes[i + 1], codes[i + 3]};
      std::memcpy(to + i / 2, pairs, sizeof pairs);
    }
  }
  VB_INLINE static Left left(const int32_t* step, int word) {
    return {all_int(step[2 * word]), all_int(step[2 * word + 1])};
  }
  VB_INLINE static Right right(I32 codes) {
    return {codes & all_int(0x00FF00FF), shift_right_unsigned16<8>(codes)};
  }
  VB_INLINE static Sum begin(int32_t start) { return all_int(start); }
  VB_INLINE static Part begin_step(Sum s, const int32_t*) { return s; }
  VB_INLINE static Part add(Part s, const Left& x, const Right& codes) {
    return s + multiply_pairs(x.even, codes.even) + multiply_pairs(x.odd, codes.odd);
  }
  VB_INLINE static Sum end_step(Sum, Part s) { return s; }
  VB_INLINE static I32 whole(Sum s) { return s; }
};
// A step has two int16 sums a column, of the first and the last two of each four elements. Products
// of two are at most 2 * 15 * 128, so that the instruction never saturates, and a step's sum fits:
static_assert(8 * 15 * 128 + 8 * 8 * 128 <= INT16_MAX);
template <>
struct Plain<4> : ByFours {
  static constexpr int kOffset = 8, kStepWords = kWords + 1;  // the last: where the sums start
  using Sum = I32;
  using Part = I32;
  VB_INLINE static void copy_step(const int8_t* codes, int32_t* to) {
    std::memcpy(to, codes, kStep);
    int16_t start[2] = {};
    for (int i = 0; i < kStep; ++i)
      start[i / 2 % 2] = static_cast<int16_t>(start[i / 2 % 2] - kOffset * codes[i]);
    std::memcpy(to + kWords, start, sizeof start);
  }
  VB_INLINE static Sum begin(int32_t) { return all_int(0); }
  VB_INLINE static Part begin_step(Sum, const int32_t* step) { return all_int(step[kWords]); }
  VB_INLINE static Right right(I32 codes) { return codes; }
  VB_INLINE static Part add(Part s, Left x, Right codes) {
    return add16(s, multiply_bytes(codes, x));
  }
  VB_INLINE static Sum end_step(Sum s, Part p) {
    return s + multiply_pairs(p, all_int(0x00010001));
  }
  VB_INLINE static I32 whole(Sum s) { return s; }
};
#else
// Two int32 lanes a column.
template <int kBits>
struct Plain : ByFours {
  static constexpr int kOffset = kBits == 8 ? 0 : 8;
  struct Sum {
    int32x4_t low, high;
  };
  using Part = Sum;
  VB_INLINE static Sum begin(int32_t start) {
    const int32x4_t first = {start, 0, start, 0};
    return {first, first};
  }
  VB_INLINE static Part begin_step(const Sum& s, const int32_t*) { return s; }
  VB_INLINE static Right right(I32 codes) { return kBits == 8 ? signed_bytes(codes) : codes; }
  VB_INLINE static Part add(const Part& s, Left x, Right codes) {
    const int8x16_t c = vreinterpretq_s8_s32(codes.v), four = vreinterpretq_s8_s32(x.v);
    return {vpadalq_s16(s.low, vmull_s8(vget_low_s8(c), vget_low_s8(four))),
            vpadalq_s16(s.high, vmull_high_s8(c, four))};
  }
  VB_INLINE static Sum end_step(const Sum&, const Part& p) { return p; }
  VB_INLINE static I32 whole(const Sum& s) { return {vpaddq_s32(s.low, s.high)}; }
};
#endif

// Word `kWord` of a step of weights, vector v.
template <int kBits, int kWord>
VB_INLINE I32 unpacked(const int32_t* step, int v) {
  if constexpr (kBits == 8) {
    return load(step + (kWord * kVectors + v) * kLanes);
  } else {
    const I32 two = load(step + (kWord / 2 * kVectors + v) * kLanes), mask = all_int(0x0F0F0F0F);
    return (kWord % 2 == 0 ? two : shift_right_unsigned16<4>(two)) & mask;
  }
}
template <int kBits>
constexpr int64_t kStepCodes = int64_t{kWords} * kBits / 8 * kPanel;  // words of 32 bits

// Adds a step, for kRows rows of activations that are `stride` apart.
template <class D, int kBits, int kRows, int kWord = 0>
VB_INLINE void add_words(const int32_t* codes, const int32_t* x, int64_t stride,
                         typename D::Part (&part)[kRows][kVectors]) {
  if constexpr (kWord < kWords) {
    typename D::Right columns[kVectors];
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v) columns[v] = D::right(unpacked<kBits, kWord>(codes, v));
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const typename D::Left row = D::left(x + r * stride, kWord);
      VB_UNROLL
      for (int v = 0; v < kVectors; ++v) part[r][v] = D::add(part[r][v], row, columns[v]);
    }
    add_words<D, kBits, kRows, kWord + 1>(codes, x, stride, part);
  }
}

template <class D, int kBits, int kRows>
VB_INLINE void add_step(const int32_t* codes, const int32_t* x, int64_t stride,
                        typename D::Sum (&sum)[kRows][kVectors]) {
  typename D::Part part[kRows][kVectors];
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v) part[r][v] = D::begin_step(sum[r][v], x + r * stride);
  }
  add_words<D, kBits, kRows>(codes, x, stride, part);
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[r][v] = D::end_step(sum[r][v], part[r][v]);
  }
}

// A tile of the result and a block of its groups.
struct Tile {
  const GroupedProduct* p;
  const int32_t *x, *codes;  // of the first row and group, of the first group
  const uint16_t* scales;
  int64_t x_stride, steps, groups;  // steps: of a group
  float* folds;                     // [row][kPanel], from one block to the next
  int64_t row, column;
  bool is_first, is_last;
};

// What follows the fold of kLanes columns.
VB_INLINE void finish(const Tile& t, int64_t r, int64_t column, F32 v) {
  const GroupedProduct& p = *t.p;
  const int64_t row = t.row + r, count = p.n - column;
  if (count <= 0) return;
  if (p.x_scales != nullptr) {
    const F32 of_columns =
        p.w_scale_step == 0 ? all(*p.w_scales) : load_up_to(p.w_scales + column, count, zero());
    v = v * (all(p.x_scales[row * p.x_scale_step]) * of_columns);
  }
  v = v * all(p.power);
  if (p.bias != nullptr) v = v + load_up_to(p.bias + column, count, zero());
  store_up_to(p.out + row * p.n + column, count, canonical(v));
}

template <class D, int kBits, int kRows>
void run_tile(const Tile& t) {
  F32 fold[kRows][kVectors];
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v)
      fold[r][v] = t.is_first ? zero() : load(t.folds + r * kPanel + v * kLanes);
  }
  const int32_t *x = t.x, *codes = t.codes;
  const uint16_t* scales = t.scales;
  for (int64_t g = 0; g < t.groups; ++g) {
    typename D::Sum sum[kRows][kVectors];
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      VB_UNROLL
      for (int v = 0; v < kVectors; ++v) sum[r][v] = D::begin(x[r * t.x_stride + 1]);
    }
    const int32_t* step = x + kHeader;
    for (int64_t s = 0; s < t.steps; ++s) {
      add_step<D, kBits, kRows>(codes, step, t.x_stride, sum);
      codes += kStepCodes<kBits>;
      step += D::kStepWords;
    }
    F32 scale[kVectors];
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v)
      scale[v] = float_of(shift_left<16>(widen(scales + v * kLanes)));
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const F32 own = float_of(all_int(x[r * t.x_stride]));
      VB_UNROLL
      for (int v = 0; v < kVectors; ++v)
        fold[r][v] = fma(to_nearest_float(D::whole(sum[r][v])), own * scale[v], fold[r][v]);
    }
    x = step;
    scales += kPanel;
  }
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      if (t.is_last) {
        finish(t, r, t.column + v * kLanes, fold[r][v]);
      } else {
        store(t.folds + r * kPanel + v * kLanes, fold[r][v]);
      }
    }
  }
}

template <class D, int kBits, int kRows = 1>
VB_INLINE void run_tile_of(int64_t rows, const Tile& t) {
  if constexpr (kRows < kTileRows)
    if (rows != kRows) return run_tile_of<D, kBits, kRows + 1>(rows, t);
  run_tile<D, kBits, kRows>(t);
}

template <class D>
int64_t row_words(int64_t groups, int64_t steps) {
  return groups * (kHeader + steps * D::kStepWords);
}

// All rows go through a block of a panel before the next. Where they are few, a block is all: the
// weights come from memory in one stream.
template <class D, int kBits>
void product(const GroupedProduct& p, int64_t row, int64_t row_end, int64_t from, int64_t to,
             float* folds) {
  const int64_t rows = row_end - row, tiles = (rows + kTileRows - 1) / kTileRows,
                block = tiles == 1 ? p.groups : greatest(1, kBlock / (p.steps * kStep));
  Tile t = {};
  t.p = &p;
  t.steps = p.steps;
  t.x_stride = row_words<D>(p.groups, p.steps);
  for (int64_t panel = from; panel < to; ++panel) {
    t.column = panel * kPanel;
    int64_t g = 0;
    do {  // once even where there is no group
      t.groups = least(block, p.groups - g);
      t.is_first = g == 0;
      t.is_last = g + t.groups == p.groups;
      t.codes = p.codes + (panel * p.groups + g) * p.steps * kStepCodes<kBits>;
      t.scales = p.scales + (panel * p.groups + g) * kPanel;
      for (int64_t i = 0; i < tiles; ++i) {
        const int64_t first = rows * i / tiles, last = rows * (i + 1) / tiles;
        t.row = row + first;
        t.x = p.x + t.row * t.x_stride + row_words<D>(g, p.steps);
        t.folds = folds + first * kPanel;
        run_tile_of<D, kBits>(last - first, t);
      }
      g += t.groups;
    } while (g < p.groups);
  }
}

template <class D>
void activations(const GroupedRow& a, int32_t* words) {
  const int64_t steps = (a.group + kStep - 1) / kStep;
  for (int64_t k = 0, g = 0; k < a.k; k += a.group, ++g) {
    const int64_t size = least(a.group, a.k - k);
    const float scale = a.scale_values[a.scales[g]];
    std::memcpy(words, &scale, sizeof scale);
    words[1] = -D::kOffset * sum_of(a.codes + k, size);
    words += kHeader;
    for (int64_t i = 0; i < steps * kStep; i += kStep, words += D::kStepWords) {
      int8_t codes[kStep] = {};
      if (i < size)
        std::memcpy(codes, a.codes + k + i, static_cast<size_t>(least(kStep, size - i)));
      D::copy_step(codes, words);
    }
  }
}

// f(the way of multiplying weights of `bits` here)
template <int kBits, class F>
VB_INLINE auto in_way(F&& f) {
#if defined(VB_HAS_DOT)
  if (has_dot()) return f(Dot<kBits>());
#endif
  return f(Plain<kBits>());
}

}  // namespace

int64_t grouped_row_words(int64_t groups, int64_t steps, int bits) {
  const auto words = [=]<class D>(D) { return row_words<D>(groups, steps); };
  return bits == 4 ? in_way<4>(words) : in_way<8>(words);
}

void grouped_activations(const GroupedRow& a, int bits, int32_t* words) {
  const auto copy = [&]<class D>(D) { activations<D>(a, words); };
  bits == 4 ? in_way<4>(copy) : in_way<8>(copy);
}

void grouped_product(const GroupedProduct& p, int64_t row, int64_t row_end, int64_t from,
                     int64_t to, float* scratch) {
  if (p.bits == 4) {
    in_way<4>([&]<class D>(D) { product<D, 4>(p, row, row_end, from, to, scratch); });
  } else {
    in_way<8>([&]<class D>(D) { product<D, 8>(p, row, row_end, from, to, scratch); });
  }
}

}  // namespace verbatim::VB_TARGET
