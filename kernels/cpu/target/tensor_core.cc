// Products as tensor cores compute them (docs/numerics.md, Family C): exactly the terms, exponents
// and truncations of repops/tensor_core.h, kLanes columns at a time.
//
// A step works on E, the greatest exponent of its terms. A term a * b, exact in binary32, times
// 2^(F - E) and truncated to an integer is the term in units of 2^(E - F); integers add exactly;
// the sum converts back rounded toward zero. That holds while no term and no unit leaves binary32's
// normal range, which the exponents of whole panels and rows decide beforehand, and while 17 terms
// fit in an int32, which is watched. What does not hold is computed by the definition.
#include <verbatim/kernels/cpu/target/kernels.h>

namespace verbatim::VB_TARGET {
namespace {

constexpr int64_t kRows = kTensorCoreRows;
constexpr int kBias = 127;
// Exponents (not biased) of products for which a step is exact: 2^(F - E) and 2^(E - F) are normal
// numbers for the greatest sum, too, and what is below 2^-125 is less than a unit.
constexpr int kLeastExponent = -100, kGreatestExponent = 90;
constexpr int16_t kZeroExponent = -8000;  // takes no part, whatever is added
constexpr int16_t kNotFinite = 8000;

// Biased exponents of a panel or of rows.
struct Exponents {
  int16_t least = INT16_MAX, greatest = INT16_MIN;  // of numbers that are not zero
};

// The biased exponent of a code's number, as binary32 has it.
VB_INLINE int16_t exponent_of(uint16_t code, bool half, int least) {
  const int magnitude = code & 0x7FFF;
  if (magnitude == 0) return kZeroExponent;
  const int field = half ? magnitude >> 10 : magnitude >> 7;
  if (field == (half ? 31 : 255)) return kNotFinite;
  const int biased = half ? field + (kBias - 15) : field;
  return static_cast<int16_t>(biased > least ? biased : least);
}

VB_INLINE float number_of(uint16_t code, bool half) {
  uint32_t bits = static_cast<uint32_t>(code) << 16;
  float x;
  if (!half) {
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
  // The fraction at its place and an exponent too small by 112: subnormals come out right, too.
  bits = static_cast<uint32_t>(code & 0x7FFF) << 13;
  std::memcpy(&x, &bits, sizeof x);
  x *= 0x1p112f;
  return code & 0x8000 ? -x : x;
}

VB_INLINE void note(Exponents& e, int16_t exponent) {
  if (exponent == kZeroExponent) return;
  if (exponent < e.least) e.least = exponent;
  if (exponent > e.greatest) e.greatest = exponent;
}

// One group of a panel, decoded: b[k][lane], and the exponents of pairs of k.
struct Group {
  alignas(64) float numbers[kTensorCoreGroup][kLanes];
  alignas(64) int32_t exponents[kTensorCoreGroup / 2][kLanes];
};

template <bool kHalf>
VB_INLINE void decode(const uint16_t* packed, int group, int least, Group& to) {
  const I32 sign = all_int(static_cast<int32_t>(0x80000000)),
            high = all_int(static_cast<int32_t>(0xFFFF0000));
  const F32 up = all(0x1p112f);
  const I32 floor = all_int(least * 0x10001),
            zero_exponent = all_int(static_cast<int32_t>((kZeroExponent & 0xFFFFu) * 0x10001u));
  const auto number = [&](I32 at_top)
      __attribute__((always_inline)) {  // the code in the upper half
    if constexpr (!kHalf) return float_of(at_top);
    const F32 magnitude = float_of(shift_right_unsigned<3>(at_top & all_int(0x7FFF0000))) * up;
    return bit_or(magnitude, float_of(at_top & sign));
  };
  for (int k = 0; k < group; k += 2) {
    I32 codes;
    std::memcpy(&codes, packed + k * kLanes, sizeof codes);
    store(to.numbers[k], number(shift_left<16>(codes)));
    store(to.numbers[k + 1], number(codes & high));
    const I32 magnitude = shift_left16<1>(codes);
    I32 field;
    if constexpr (kHalf) {
      field = add16(shift_right_unsigned16<11>(magnitude), all_int((kBias - 15) * 0x10001));
    } else {
      field = shift_right_unsigned16<8>(magnitude);
    }
    store(to.exponents[k / 2], where_zero16(magnitude, zero_exponent, maximum16(field, floor)));
  }
}

// Rows of A, decoded: for each group `kRows` pieces of `group` numbers and group / 2 pairs of
// exponents, which are less than B's by the bias.
struct Rows {
  const float* numbers;
  const int32_t* exponents;
};

// One step of one row: acc, and whether an int32 overflowed.
template <int kGroup, int kFraction, int kKept>
VB_INLINE F32 step(const float* a, const int32_t* exponents, const Group& b, F32 acc,
                   I32& overflow) {
  I32 e = add16(load(b.exponents[0]), all_int(exponents[0]));
  VB_UNROLL
  for (int j = 1; j < kGroup / 2; ++j)
    e = maximum16(e, add16(load(b.exponents[j]), all_int(exponents[j])));
  const I32 accumulator = shift_right_unsigned<24>(shift_left<1>(bits_of(acc)));
  e = maximum(maximum(shift_right<16>(e), shift_right<16>(shift_left<16>(e))),
              maximum(accumulator, all_int(kLeastExponent + kBias)));
  const I32 up = shift_left<23>(all_int(kFraction + 2 * kBias) - e),
            down = all_int((2 * kBias) << 23) - up;
  const F32 scale = float_of(up);
  I32 even = to_int(acc * scale), odd = all_int(int32_t{0});
  VB_UNROLL
  for (int k = 0; k < kGroup; k += 2) {
    even = even + to_int((all(a[k]) * load(b.numbers[k])) * scale);
    odd = odd + to_int((all(a[k + 1]) * load(b.numbers[k + 1])) * scale);
  }
  const I32 sum = even + odd;
  if constexpr (kFraction == 25) overflow = overflow | overflowed(even, odd, sum);
  F32 result = to_float(sum);
  if constexpr (kKept < 24) result = float_of(bits_of(result) & all_int(-(1 << (24 - kKept))));
  return result * float_of(down);
}

// The chain of K from `begin` to `end` for all rows of a panel: acc[row].
template <int kGroup, int kFraction, int kKept, bool kHalf>
void chain(const TensorCoreProduct& p, const Rows& rows, int64_t count, const uint16_t* panel,
           int64_t begin, int64_t end, F32 (&acc)[kRows], I32& overflow) {
  Group group;
  for (int64_t r = 0; r < count; ++r) acc[r] = zero();
  for (int64_t k = begin; k < end; k += kGroup) {
    decode<kHalf>(panel + k * kLanes, kGroup, p.least_b, group);
    const float* a = rows.numbers + k * kRows;
    const int32_t* exponents = rows.exponents + k / 2 * kRows;
    for (int64_t r = 0; r < count; ++r)
      acc[r] = step<kGroup, kFraction, kKept>(a + r * kGroup, exponents + r * (kGroup / 2), group,
                                              acc[r], overflow);
  }
}

template <int kGroup, int kFraction, int kKept, bool kHalf>
bool panel_product(const TensorCoreProduct& p, const Rows& rows, int64_t count, int64_t panel,
                   F32 (&total)[kRows]) {
  const int64_t padded = (p.k + kTensorCoreGroup - 1) / kTensorCoreGroup * kTensorCoreGroup;
  const uint16_t* b = p.b + panel * padded * kLanes;
  I32 overflow = all_int(int32_t{0});
  for (int64_t s = 0; s < p.split; ++s) {
    const int64_t begin = s * p.slice, end = least(p.k, begin + p.slice);
    const int64_t piece = p.restart > 0 ? p.restart : p.slice;
    F32 slice[kRows];
    for (int64_t k = begin; k == begin || k < end; k += piece) {
      F32 acc[kRows];
      chain<kGroup, kFraction, kKept, kHalf>(p, rows, count, b, k, least(end, k + piece), acc,
                                             overflow);
      for (int64_t r = 0; r < count; ++r) slice[r] = k == begin ? acc[r] : slice[r] + acc[r];
      if (piece == 0) break;
    }
    for (int64_t r = 0; r < count; ++r) total[r] = s == 0 ? slice[r] : total[r] + slice[r];
  }
  return !any_negative(overflow);
}

using PanelFunction = bool (*)(const TensorCoreProduct&, const Rows&, int64_t, int64_t,
                               F32 (&)[kRows]);
PanelFunction panel_function(const TensorCoreProduct& p) {
  if (p.kept < 24)
    return p.group == 32 ? panel_product<32, 13, 14, false> : panel_product<16, 13, 14, false>;
  if (p.group == 16)
    return p.half ? panel_product<16, 25, 24, true> : panel_product<16, 25, 24, false>;
  return p.half ? panel_product<8, 24, 24, true> : panel_product<8, 24, 24, false>;
}

Exponents decode_rows(const TensorCoreProduct& p, int64_t row, int64_t row_end, float* numbers,
                      int32_t* exponents) {
  Exponents range;
  const int64_t padded = (p.k + kTensorCoreGroup - 1) / kTensorCoreGroup * kTensorCoreGroup;
  int16_t* pieces = reinterpret_cast<int16_t*>(exponents);
  for (int64_t r = row; r < row_end; ++r) {
    for (int64_t k = 0; k < padded; ++k) {
      const uint16_t code = k < p.k ? p.a[r * p.k + k] : 0;
      const int64_t to = k / p.group * p.group * kRows + (r - row) * p.group + k % p.group;
      const int16_t e = exponent_of(code, p.half, p.least_a);
      numbers[to] = number_of(code, p.half);
      pieces[to] = static_cast<int16_t>(e - kBias);
      note(range, e);
    }
  }
  return range;
}

bool fits(const Exponents& a, const int16_t* b) {
  if (a.greatest == kNotFinite || b[1] == kNotFinite) return false;  // by zero, too, it is NaN
  if (a.least > a.greatest || b[0] > b[1]) return true;              // nothing but zeros
  return a.greatest + b[1] - 2 * kBias <= kGreatestExponent &&
         a.least + b[0] - 2 * kBias >= kLeastExponent;
}

}  // namespace

void tensor_core_pack(const uint16_t* b, bool half, int least_exponent, int64_t k_size, int64_t n,
                      int64_t from, int64_t to, uint16_t* packed, int16_t* ranges) {
  const int64_t padded = (k_size + kTensorCoreGroup - 1) / kTensorCoreGroup * kTensorCoreGroup;
  for (int64_t panel = from; panel < to; ++panel) {
    uint16_t* out = packed + panel * padded * kLanes;
    Exponents range;
    std::memset(out, 0, static_cast<size_t>(padded * kLanes) * sizeof *out);
    const int64_t rows = least(kLanes, n - panel * kLanes);
    for (int64_t r = 0; r < rows; ++r) {
      const uint16_t* row = b + (panel * kLanes + r) * k_size;
      for (int64_t k = 0; k < k_size; ++k) {
        out[k / 2 * 2 * kLanes + r * 2 + k % 2] = row[k];
        note(range, exponent_of(row[k], half, least_exponent));
      }
    }
    ranges[2 * panel] = range.least;
    ranges[2 * panel + 1] = range.greatest;
  }
}

size_t tensor_core_scratch(int64_t k) {
  const int64_t padded = (k + kTensorCoreGroup - 1) / kTensorCoreGroup * kTensorCoreGroup;
  return static_cast<size_t>(padded * kRows * 3 / 2);
}

void tensor_core_product(const TensorCoreProduct& p, int64_t row, int64_t row_end, int64_t from,
                         int64_t to, float* scratch) {
  const int64_t padded = (p.k + kTensorCoreGroup - 1) / kTensorCoreGroup * kTensorCoreGroup;
  int32_t* exponents = reinterpret_cast<int32_t*>(scratch + padded * kRows);
  const Exponents range = decode_rows(p, row, row_end, scratch, exponents);
  const PanelFunction panel_product = panel_function(p);
  const Rows rows = {scratch, exponents};
  for (int64_t panel = from; panel < to; ++panel) {
    const int64_t column = panel * kLanes, count = least(kLanes, p.n - column);
    F32 total[kRows];
    if (fits(range, p.ranges + 2 * panel) && panel_product(p, rows, row_end - row, panel, total)) {
      for (int64_t r = row; r < row_end; ++r)
        store_up_to(p.out + r * p.n + column, count, total[r - row]);
    } else {
      for (int64_t r = row; r < row_end; ++r) p.exactly(p.context, r, column, column + count);
    }
  }
}

}  // namespace verbatim::VB_TARGET
