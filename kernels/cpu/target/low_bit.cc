// Products with weights of 1 to 7 bits and integer group scales (docs/numerics.md, Family B,
// quantised rows) straight from their packed form (kernels.h, LowBitProduct), so that a product of
// one row reads as many bits as the weights have.
//
// A register of codes holds 4 successive k of each of kLanes columns: sums lie by column, and no
// lane is ever moved. Codes are unsigned, c + offset, as the multiply instructions want them; a sum
// starts from -offset times the sum of its activations.
#include <verbatim/kernels/cpu/target/dot.h>
#include <verbatim/kernels/cpu/target/kernels.h>

namespace verbatim::VB_TARGET {
namespace {

constexpr int kWords = kLowBitGroup / 4;        // of 4 codes each, in a group
constexpr int kStarts = kLowBitWords - kWords;  // most sums that a group is cut into
constexpr int64_t kBlock = 32;                  // groups that an int32 sums

// Codes are -offset .. offset, and packed ones 0 .. 2 offset; one bit is a code of -1 or 1, packed
// as 0 or 2.
constexpr int offset_of(int bits) { return bits == 1 ? 1 : (1 << (bits - 1)) - 1; }

// An int32 holds the sum of a block of groups, each a scale times a dot; blocks add up in int64.
static_assert(kBlock * 255 * kLowBitGroup * 127 * offset_of(kLowBitMostBits) <= INT32_MAX);

// Ways to multiply packed codes by activations. kSpan: elements of a group that one sum takes.
// start: what it begins with. scaled: the sum times its column's scale.
#if defined(__AVX2__)
// Two int16 sums a column, of the first and the last two of each four elements. Products of two
// are at most 2 * 126 * 127, so that the instruction never saturates; a sum may wrap on its way,
// and what it comes to is at most kSpan / 2 * 127 * offset, which an int16 holds.
struct Pairs {
  template <int kBits>
  static constexpr int kSpan = kLowBitGroup >> (kBits <= 5 ? 0 : kBits - 5);
  using Sum = I32;
  VB_INLINE static int32_t start(const int8_t* x, int span, int offset) {
    int32_t half[2] = {};
    for (int i = 0; i < span; ++i) half[i / 2 % 2] -= offset * x[i];
    return static_cast<int32_t>(static_cast<uint32_t>(half[0] & 0xFFFF) |
                                static_cast<uint32_t>(half[1]) << 16);
  }
  VB_INLINE static Sum begin(const int32_t* start) { return all_int(*start); }
  VB_INLINE static Sum add(Sum s, I32 codes, const int32_t* x) {
    return add16(s, multiply_bytes(codes, all_int(*x)));
  }
  VB_INLINE static I32 scales(const uint8_t* p) {
    const I32 scale = widen(p);
    return scale | shift_left<16>(scale);
  }
  template <int>
  VB_INLINE static I32 scaled(Sum s, I32 scale) {
    return multiply_pairs(s, scale);
  }
};
static_assert(16 * 127 * offset_of(5) <= INT16_MAX && 8 * 127 * offset_of(6) <= INT16_MAX &&
              4 * 127 * offset_of(7) <= INT16_MAX && 2 * 127 * 2 * offset_of(7) <= INT16_MAX);
#endif

// An int32 sum a column: 32 products of numbers below 2^7.
struct Whole {
  template <int>
  static constexpr int kSpan = kLowBitGroup;
  VB_INLINE static int32_t start(const int8_t* x, int span, int offset) {
    int32_t sum = 0;
    for (int i = 0; i < span; ++i) sum -= offset * x[i];
    return sum;
  }
  VB_INLINE static I32 scales(const uint8_t* p) { return widen(p); }
};

#if defined(VB_HAS_DOT)
struct Dot : Whole {
  using Sum = I32;
  VB_INLINE static Sum begin(const int32_t* start) { return all_int(*start); }
  VB_INLINE static Sum add(Sum s, I32 codes, const int32_t* x) { return dot(s, codes, x); }
  // On AVX-512 a product of 32 bits takes twice what one of 16 bits does.
  template <int kBits>
  VB_INLINE static I32 scaled(Sum s, I32 scale) {
    constexpr bool kFits = kLowBitGroup * 127 * offset_of(kBits) <= INT16_MAX;
    return kFits && kLanes == 16 ? multiply_pairs(s, scale) : multiply(s, scale);
  }
};
#endif
#if defined(__AVX2__)
using Plain = Pairs;
#else
// Two int32 lanes a column.
struct Plain : Whole {
  struct Sum {
    int32x4_t low, high;
  };
  VB_INLINE static Sum begin(const int32_t* start) {
    const int32x4_t first = {*start, 0, *start, 0};
    return {first, first};
  }
  VB_INLINE static Sum add(Sum s, I32 codes, const int32_t* x) {
    const int8x16_t c = vreinterpretq_s8_s32(codes.v), four = vreinterpretq_s8_s32(vdupq_n_s32(*x));
    return {vpadalq_s16(s.low, vmull_s8(vget_low_s8(c), vget_low_s8(four))),
            vpadalq_s16(s.high, vmull_high_s8(c, four))};
  }
  template <int>
  VB_INLINE static I32 scaled(Sum s, I32 scale) {
    return multiply({vpaddq_s32(s.low, s.high)}, scale);
  }
};
#endif

// Register `kWord` of the part of a group's codes that planes of kWidth bits hold, in its place in
// the code. Where a code has one bit, it is the second.
template <int kBits, int kWidth, int kWord>
VB_INLINE I32 field(const int32_t* plane) {
  constexpr int kPlace = kBits == 1 ? 1 : kBits & (8 - 2 * kWidth),
                kShift = kWord % (8 / kWidth) * kWidth - kPlace;
  constexpr auto kMask = static_cast<int32_t>(((1 << kWidth) - 1) << kPlace) * 0x01010101;
  const I32 v = load(plane + kWord / (8 / kWidth) * kLanes);
  if constexpr (kShift > 0) {
    return shift_right_unsigned16<kShift>(v) & all_int(kMask);
  } else if constexpr (kShift < 0) {
    return shift_left16<-kShift>(v) & all_int(kMask);
  } else {
    return v & all_int(kMask);
  }
}

// Register `kWord` of a group's codes: 4 k of each column. Planes lie widest first.
template <int kBits, int kWord>
VB_INLINE I32 unpacked(const int32_t* group) {
  I32 codes = all_int(0);
  if constexpr (kBits & 4) codes = codes | field<kBits, 4, kWord>(group);
  if constexpr (kBits & 2) codes = codes | field<kBits, 2, kWord>(group + (kBits & 4) * kLanes);
  if constexpr (kBits & 1) codes = codes | field<kBits, 1, kWord>(group + (kBits & 6) * kLanes);
  return codes;
}

// Adds a group's words from kWord on, for kRows rows whose activations are `stride` apart.
template <class D, int kBits, int kRows, int kWord = 0>
VB_INLINE void add_group(const int32_t* codes, const int32_t* x, int64_t stride, I32 scale,
                         typename D::Sum (&sum)[kRows], I32 (&total)[kRows]) {
  if constexpr (kWord < kWords) {
    constexpr int kSpanWords = D::template kSpan<kBits> / 4;
    const I32 c = unpacked<kBits, kWord>(codes);
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int32_t* const row = x + r * stride;
      if constexpr (kWord % kSpanWords == 0) sum[r] = D::begin(row + kWords + kWord / kSpanWords);
      sum[r] = D::add(sum[r], c, row + kWord);
      if constexpr (kWord % kSpanWords == kSpanWords - 1)
        total[r] = total[r] + D::template scaled<kBits>(sum[r], scale);
    }
    add_group<D, kBits, kRows, kWord + 1>(codes, x, stride, scale, sum, total);
  }
}

// The sums of kRows rows for the columns of a panel.
template <class D, int kBits, int kRows>
VB_INLINE void dots(const LowBitProduct& p, int64_t row, int64_t panel,
                    int64_t (&result)[kRows][kLanes]) {
  const int64_t stride = p.groups * kLowBitWords;
  const int32_t *x = p.x + row * stride, *codes = reinterpret_cast<const int32_t*>(p.codes) +
                                                  panel * p.groups * kBits * kLanes;
  const uint8_t* scales = p.group_scales + panel * p.groups * kLanes;
  for (int64_t g = 0; g < p.groups;) {
    I32 total[kRows];
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) total[r] = all_int(0);
    for (const int64_t end = least(g + kBlock, p.groups); g < end; ++g) {
      typename D::Sum sum[kRows];
      add_group<D, kBits, kRows>(codes, x, stride, D::scales(scales), sum, total);
      x += kLowBitWords;
      codes += kBits * kLanes;
      scales += kLanes;
    }
    for (int r = 0; r < kRows; ++r) {
      int32_t lanes[kLanes];
      store(lanes, total[r]);
      for (int c = 0; c < kLanes; ++c) result[r][c] += lanes[c];
    }
  }
}

template <class D, int kBits, int kRows>
VB_INLINE void tile(const LowBitProduct& p, int64_t row, int64_t panel) {
  int64_t sums[kRows][kLanes] = {};
  dots<D, kBits, kRows>(p, row, panel, sums);
  const int64_t column = panel * kLanes, columns = least(kLanes, p.n - column);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      float v = static_cast<float>(sums[r][c]) * (p.x_scales[row + r] * p.w_scales[column + c]);
      if (p.bias) v = v + p.bias[column + c];
      p.out[(row + r) * p.n + column + c] = canonical(v);
    }
  }
}

#if defined(__AVX512F__)
constexpr int kTileRows = 8;
#else
constexpr int kTileRows = 4;
#endif

// All rows for a panel before the next: the weights come from memory once.
template <class D, int kBits>
void panels(const LowBitProduct& p, int64_t from, int64_t to) {
  for (int64_t panel = from; panel < to; ++panel) {
    int64_t row = 0;
    for (; row + kTileRows <= p.m; row += kTileRows) tile<D, kBits, kTileRows>(p, row, panel);
    for (; row < p.m; ++row) tile<D, kBits, 1>(p, row, panel);
  }
}

template <class D, int kBits = 1>
VB_INLINE void product(const LowBitProduct& p, int64_t from, int64_t to) {
  if constexpr (kBits < kLowBitMostBits)
    if (p.bits != kBits) return product<D, kBits + 1>(p, from, to);
  panels<D, kBits>(p, from, to);
}

template <class D, int kBits = 1>
VB_INLINE void activations(const int8_t* x, int64_t k_size, int bits, int32_t* words) {
  if constexpr (kBits < kLowBitMostBits)
    if (bits != kBits) return activations<D, kBits + 1>(x, k_size, bits, words);
  constexpr int kSpan = D::template kSpan<kBits>;
  for (int64_t k = 0; k < k_size; k += kLowBitGroup, words += kLowBitWords) {
    int8_t group[kLowBitGroup] = {};
    std::memcpy(group, x + k, static_cast<size_t>(least(kLowBitGroup, k_size - k)));
    std::memcpy(words, group, sizeof group);
    for (int s = 0; s < kStarts; ++s)
      words[kWords + s] =
          s * kSpan < kLowBitGroup ? D::start(group + s * kSpan, kSpan, offset_of(kBits)) : 0;
  }
}

}  // namespace

void low_bit_activations(const int8_t* x, int64_t k_size, int bits, int32_t* words) {
#if defined(VB_HAS_DOT)
  if (has_dot()) return activations<Dot>(x, k_size, bits, words);
#endif
  activations<Plain>(x, k_size, bits, words);
}

void low_bit_product(const LowBitProduct& p, int64_t from, int64_t to) {
#if defined(VB_HAS_DOT)
  if (has_dot()) return product<Dot>(p, from, to);
#endif
  product<Plain>(p, from, to);
}

}  // namespace verbatim::VB_TARGET
