// One step of a tensor core (docs/numerics.md, Family C; repops/tensor_core.h) on kLanes columns,
// and how rows and panels of columns become what it takes.
//
// A step works on E, the greatest exponent of its terms. A term a * b, exact in binary32, times
// 2^(F - E) and truncated to an integer is the term in units of 2^(E - F); integers add exactly;
// the sum converts back rounded toward zero.
//
// E comes of bytes, four k to a lane. Every row and every column is shifted by a power of two, so
// that the exponent of its greatest number becomes kGreatestByte; the byte sum of two exponents is
// then the exponent field of their product, and no sum with a zero among its operands reaches one
// without. Numbers below kLeastByte are dropped: as long as E is kCarefulField or more, their terms
// are less than a unit. What may not hold, that and that 17 terms fit in an int32, is watched where
// rows and columns do not rule it out beforehand. What does not hold is computed by the definition.
#pragma once

#include <verbatim/kernels/cpu/kernels.h>
#include <verbatim/kernels/cpu/simd.h>

namespace verbatim::VB_TARGET {

inline constexpr int kBias = 127;
inline constexpr int kGreatestByte = 110, kLeastByte = 62, kZeroByte = 13;
static_assert(kZeroByte + kGreatestByte < 2 * kLeastByte);
inline constexpr int kRowOffset = 63, kColumnOffset = kBias - kRowOffset;  // field - offset = byte
inline constexpr int kMostShift = 120;  // half of two of them is a normal number's exponent
inline constexpr int kCarefulField = kLeastByte - 1 + kGreatestByte + 2 + 25;
// Exponents (not biased) of products for which a step is exact: its unit is 2^-149 at least, and no
// sum leaves binary32's range.
inline constexpr int kLeastExponent = -120, kGreatestExponent = 90;
// As a half of its field, exponent bits of an fp16 number at binary32's place are too small by
// this.
inline constexpr int kHalfBias = kBias - 15;

struct CodeType {
  bool half;  // fp16, else bf16
  int least;  // biased exponent, as binary32's, of subnormal numbers
};

// Of codes without their signs: the greatest, and the least one that is not zero, less 1.
struct Magnitudes {
  uint16_t greatest = 0, least = UINT16_MAX;
};
VB_INLINE void see(Magnitudes& m, uint16_t code) {
  const auto magnitude = static_cast<uint16_t>(code & 0x7FFF);
  const auto below = static_cast<uint16_t>(magnitude - 1);
  m.greatest = magnitude > m.greatest ? magnitude : m.greatest;
  m.least = below < m.least ? below : m.least;
}

VB_INLINE int64_t pieces_of(int64_t k) { return (k + kTensorCoreGroup - 1) / kTensorCoreGroup; }

enum class Codes : int16_t { plain, careful, exact };
VB_INLINE Codes worse(Codes a, Codes b) { return a > b ? a : b; }

// Biased exponents of numbers that are not zero and not dropped, and what rows or columns need.
struct Extent {
  int16_t least = INT16_MAX, greatest = INT16_MIN;
  Codes need = Codes::plain;
};
VB_INLINE void join(Extent& a, const Extent& b) {
  a.least = b.least < a.least ? b.least : a.least;
  a.greatest = b.greatest > a.greatest ? b.greatest : a.greatest;
  a.need = worse(a.need, b.need);
}
VB_INLINE bool fits(const Extent& a, const Extent& b) {
  if (a.least > a.greatest || b.least > b.greatest) return true;  // nothing but zeros
  return a.greatest + b.greatest - 2 * kBias <= kGreatestExponent &&
         a.least + b.least - 2 * kBias >= kLeastExponent;
}

// How a row or a column is decoded: times 2^shift, codes whose magnitude is below `limit` as zero.
struct Scale {
  int shift = 0;
  unsigned limit = 0;
  Extent extent;
};
VB_INLINE Scale scale_of(Magnitudes m, CodeType type, int offset) {
  const auto biased = [&](unsigned magnitude) {
    const int field = static_cast<int>(type.half ? (magnitude >> 10) + kHalfBias : magnitude >> 7);
    return static_cast<int16_t>(field > type.least ? field : type.least);
  };
  Scale s;
  if (m.greatest == 0) return s;
  if (m.greatest >= (type.half ? 0x7C00 : 0x7F80)) {
    s.limit = 0x8000;  // by zero, too, it is NaN: nothing of it takes part
    s.extent.need = Codes::exact;
    return s;
  }
  s.extent.greatest = biased(m.greatest);
  s.shift = static_cast<int>(least(kGreatestByte + offset - s.extent.greatest, kMostShift));
  const int floor = kLeastByte + offset - s.shift;
  if (floor > type.least) s.limit = static_cast<unsigned>(floor) << 7;  // never fp16: 30 binades
  const unsigned least_magnitude = m.least + 1u;
  if (least_magnitude < s.limit) s.extent.need = Codes::careful;
  s.extent.least = static_cast<int16_t>(greatest(biased(least_magnitude), floor));
  return s;
}

VB_INLINE uint16_t kept(uint16_t code, unsigned limit) {
  return (code & 0x7FFFu) < limit ? uint16_t{0} : code;
}

VB_INLINE float power_of_two(int exponent) {
  return __builtin_bit_cast(float, (exponent + kBias) << 23);
}
// 2^-shift in two factors.
struct Unshift {
  float first, second;
};
VB_INLINE Unshift unshift(int shift) {
  return {power_of_two(-(shift / 2)), power_of_two(shift / 2 - shift)};
}

// What decodes codes of one kind: pairs of them in 32 bits, k and k + 1.
struct Decoder {
  F32 power;  // 2^shift
  I32 bytes;  // shift - offset, in both halves
  I32 least;  // in both halves
};
VB_INLINE int32_t twice(int x) {
  return static_cast<int32_t>((static_cast<uint32_t>(x) & 0xFFFF) * 0x10001);
}
VB_INLINE I32 both_halves(int x) { return all_int(twice(x)); }

template <bool kHalf>
VB_INLINE F32 number_of(I32 at_top, F32 power) {  // the code is in the upper half
  if constexpr (!kHalf) return float_of(at_top) * power;
  // The fraction at its place and an exponent too small by 112: subnormals come out right, too.
  const F32 magnitude =
      float_of(shift_right_unsigned<3>(at_top & all_int(0x7FFF0000))) * all(0x1p112f) * power;
  return bit_or(magnitude, float_of(at_top & all_int(INT32_MIN)));
}
template <bool kHalf>
VB_INLINE F32 first_number(I32 codes, const Decoder& d) {
  return number_of<kHalf>(shift_left<16>(codes), d.power);
}
template <bool kHalf>
VB_INLINE F32 second_number(I32 codes, const Decoder& d) {
  return number_of<kHalf>(codes & all_int(static_cast<int32_t>(0xFFFF0000)), d.power);
}
template <bool kHalf>
VB_INLINE I32 byte_pairs(I32 codes, const Decoder& d) {
  const I32 magnitude = shift_left16<1>(codes);
  I32 field = kHalf ? add16(shift_right_unsigned16<11>(magnitude), both_halves(kHalfBias))
                    : shift_right_unsigned16<8>(magnitude);
  field = add16(maximum16(field, d.least), d.bytes);
  return where_zero16(magnitude, both_halves(kZeroByte), field);
}

// Decoded columns of a panel: b[k][lane], and of each four k (0, 2, 1, 3) their bytes.
struct Columns {
  alignas(64) float numbers[kTensorCoreGroup][kLanes];
  alignas(64) int32_t bytes[kTensorCoreGroup / 4][kLanes];
};
template <bool kHalf>
VB_INLINE void decode_columns(const uint16_t* packed, int count, const Decoder& d, Columns& to) {
  for (int k = 0; k < count; k += 4) {
    I32 codes[2];
    std::memcpy(codes, packed + k * kLanes, sizeof codes);
    for (int i = 0; i < 2; ++i) {
      store(to.numbers[k + 2 * i], first_number<kHalf>(codes[i], d));
      store(to.numbers[k + 2 * i + 1], second_number<kHalf>(codes[i], d));
    }
    store(to.bytes[k / 4],
          byte_pairs<kHalf>(codes[0], d) | shift_left<8>(byte_pairs<kHalf>(codes[1], d)));
  }
}

// A decoded row's 32 k: the even ones, the odd ones; the bytes of each four as those of columns.
struct RowPiece {
  float numbers[kTensorCoreGroup];
  int32_t bytes[kTensorCoreGroup / 4];
};
template <bool kHalf>
VB_INLINE void decode_piece(const uint16_t* codes, const Decoder& d, RowPiece& to) {
  constexpr int kPairs = kTensorCoreGroup / 2;
  int32_t pairs[kPairs];
  for (int i = 0; i < kPairs; i += kLanes) {
    I32 two;
    std::memcpy(&two, codes + 2 * i, sizeof two);
    store(to.numbers + i, first_number<kHalf>(two, d));
    store(to.numbers + kPairs + i, second_number<kHalf>(two, d));
    store(pairs + i, byte_pairs<kHalf>(two, d));
  }
  for (int i = 0; i < kPairs / 2; ++i) to.bytes[i] = pairs[2 * i] | pairs[2 * i + 1] << 8;
}

// A row of k_size codes: ceil(k_size / 32) pieces, `stride` apart.
template <bool kHalf>
VB_INLINE void decode_row(const uint16_t* codes, int64_t k_size, const Scale& scale, CodeType type,
                          RowPiece* to, int64_t stride) {
  const Decoder d = {all(power_of_two(scale.shift)), both_halves(scale.shift - kRowOffset),
                     both_halves(type.least)};
  for (int64_t k = 0; k < k_size; k += kTensorCoreGroup, to += stride) {
    if (scale.extent.need == Codes::plain && k + kTensorCoreGroup <= k_size) {
      decode_piece<kHalf>(codes + k, d, *to);
      continue;
    }
    uint16_t piece[kTensorCoreGroup] = {};
    for (int64_t i = 0; i < least(kTensorCoreGroup, k_size - k); ++i)
      piece[i] = kept(codes[k + i], scale.limit);
    decode_piece<kHalf>(piece, d, *to);
  }
}

// True where significands are so great that a group's terms and acc may not fit in an int32: 16
// terms below 4 * 2^25 each, and acc below 2 * 2^25. All it takes of a row's group is to have a sum
// of significands (below 2) of 31 or more.
template <bool kHalf>
VB_INLINE bool is_crowded(const uint16_t* codes, int64_t k_size) {
  constexpr int kGroup = 16, kOne = kHalf ? 1 << 10 : 1 << 7;
  for (int64_t k = 0; k + kGroup <= k_size; k += kGroup) {
    int sum = 0;
    for (int i = 0; i < kGroup; ++i) sum += codes[k + i] & (kOne - 1);
    if (sum >= 15 * kOne) return true;
  }
  return false;
}

// How a step adds: kGroup terms, truncated to kFraction bits, the sum to kKept.
template <int kGroupSize, int kFractionBits, int kKeptBits>
struct StepRule {
  static constexpr int kGroup = kGroupSize, kFraction = kFractionBits, kKept = kKeptBits;
};

// E of one row's step as an exponent field at its place; acc is in the frame of shifted operands.
template <class Rule>
VB_INLINE I32 greatest_field(const int32_t* a_bytes, const int32_t (*b_bytes)[kLanes], F32 acc) {
  I32 e = add8(load(b_bytes[0]), all_int(a_bytes[0]));
  VB_UNROLL
  for (int j = 1; j < Rule::kGroup / 4; ++j)
    e = maximum_unsigned8(e, add8(load(b_bytes[j]), all_int(a_bytes[j])));
  e = maximum_unsigned8(e, shift_left<16>(e));
  e = maximum_unsigned8(e, shift_left<8>(e));
  return maximum(shift_right_unsigned<1>(e), bits_of(acc) & all_int(INT32_MAX)) &
         all_int(0x7F800000);
}

// One step of one row: `a` and `a_bytes` are its group's in a piece, b and b_bytes a panel's.
// kCareful: `doubt` gets its sign bit where the step does not hold; where nothing was dropped,
// least_field is 0.
template <class Rule, bool kCareful>
VB_INLINE F32 step(const float* a, const int32_t* a_bytes, const float (*b)[kLanes],
                   const int32_t (*b_bytes)[kLanes], F32 acc, I32 least_field, I32& doubt) {
  constexpr int kFraction = Rule::kFraction, kOdd = kTensorCoreGroup / 2;
  const I32 e = greatest_field<Rule>(a_bytes, b_bytes, acc);
  const F32 scale = float_of(all_int((kFraction + 2 * kBias) << 23) - e),
            unit = float_of(e - all_int(kFraction << 23));
  I32 even = to_int(acc * scale), odd = all_int(0);
  VB_UNROLL
  for (int k = 0; k < Rule::kGroup; k += 2) {
    even = even + to_int((all(a[k / 2]) * load(b[k])) * scale);
    pin(even);
    odd = odd + to_int((all(a[kOdd + k / 2]) * load(b[k + 1])) * scale);
    pin(odd);
  }
  const I32 sum = even + odd;
  if constexpr (kCareful) {
    doubt = doubt | (e - least_field);
    if constexpr (kFraction == 25) doubt = doubt | overflowed(even, odd, sum);
  }
  F32 result = to_float(sum);
  if constexpr (Rule::kKept < 24)
    result = float_of(bits_of(result) & all_int(-(1 << (24 - Rule::kKept))));
  return result * unit;
}

// A panel: kLanes columns of codes [k / 2][column][2], zeros where they end. What it takes to
// decode them, as it is stored besides them:
struct PanelInfo {
  int16_t shifts[kLanes];
  Extent extent;
  int16_t padding;
};
static_assert(sizeof(PanelInfo) == (kLanes + kTensorCoreInfo) * sizeof(int16_t));

// The codes of kLanes columns at one k, zeros from `columns` on.
struct CodeRow {
  uint16_t codes[kLanes];
};
VB_INLINE CodeRow code_row(const uint16_t* b, int64_t columns) {
  CodeRow row = {};
  if (columns == kLanes) {
    std::memcpy(row.codes, b, sizeof row.codes);
  } else {
    for (int64_t c = 0; c < columns; ++c) row.codes[c] = b[c];
  }
  return row;
}
VB_INLINE void store_pair(uint16_t* out, uint32_t pair) { std::memcpy(out, &pair, sizeof pair); }

// Packs `columns` columns; element (k, c) is at b[k * b_k + c * b_column], one of the two steps 1.
// What loops write are locals, which codes in memory cannot alias.
VB_INLINE PanelInfo pack_panel(const uint16_t* b, int64_t b_k, int64_t b_column, int64_t columns,
                               int64_t k_size, CodeType type, uint16_t* out) {
  const int64_t pairs = k_size / 2;
  uint16_t greatest[kLanes] = {}, least[kLanes];
  unsigned limits[kLanes] = {};
  for (uint16_t& x : least) x = UINT16_MAX;
  if (b_k == 1) {
    for (int64_t c = 0; c < columns; ++c) {
      Magnitudes m;
      for (int64_t k = 0; k < k_size; ++k) see(m, b[c * b_column + k]);
      greatest[c] = m.greatest;
      least[c] = m.least;
    }
  } else {
    for (int64_t k = 0; k < k_size; ++k) {
      const CodeRow row = code_row(b + k * b_k, columns);
      for (int c = 0; c < kLanes; ++c) {
        Magnitudes m = {greatest[c], least[c]};
        see(m, row.codes[c]);
        greatest[c] = m.greatest;
        least[c] = m.least;
      }
    }
  }
  PanelInfo info = {};
  for (int64_t c = 0; c < columns; ++c) {
    const Scale scale = scale_of({greatest[c], least[c]}, type, kColumnOffset);
    info.shifts[c] = static_cast<int16_t>(scale.shift);
    limits[c] = scale.limit;
    join(info.extent, scale.extent);
  }
  std::memset(
      out + pairs * 2 * kLanes, 0,
      static_cast<size_t>(pieces_of(k_size) * kTensorCoreGroup - pairs * 2) * kLanes * sizeof *out);
  if (b_k == 1) {
    if (columns < kLanes)
      std::memset(out, 0, static_cast<size_t>(pairs * 2 * kLanes) * sizeof *out);
    for (int64_t c = 0; c < columns; ++c) {
      const uint16_t* column = b + c * b_column;
      const auto code = [&](int64_t k) { return uint32_t{kept(column[k], limits[c])}; };
      for (int64_t j = 0; j < pairs; ++j)
        store_pair(out + (j * kLanes + c) * 2, code(2 * j) | code(2 * j + 1) << 16);
      if (k_size % 2 != 0) store_pair(out + (pairs * kLanes + c) * 2, code(k_size - 1));
    }
  } else {
    for (int64_t k = 0; k < k_size; k += 2) {
      const CodeRow first = code_row(b + k * b_k, columns),
                    second = code_row(b + (k + 1) * b_k, k + 1 < k_size ? columns : 0);
      uint32_t both[kLanes];
      for (int c = 0; c < kLanes; ++c)
        both[c] = uint32_t{kept(first.codes[c], limits[c])} |
                  uint32_t{kept(second.codes[c], limits[c])} << 16;
      std::memcpy(out + k * kLanes, both, sizeof both);
    }
  }
  return info;
}

struct Panel {
  const uint16_t* codes;
  Decoder decoder;
  F32 first, second;  // 2^-shift of its columns in two factors
  I32 least_field;    // of a step that is not in doubt
};
VB_INLINE Panel panel_of(const uint16_t* codes, const PanelInfo& info, int least, bool careful) {
  float power[kLanes], first[kLanes], second[kLanes];
  int32_t bytes[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    const int shift = info.shifts[i];
    power[i] = power_of_two(shift);
    bytes[i] = twice(shift - kColumnOffset);
    first[i] = unshift(shift).first;
    second[i] = unshift(shift).second;
  }
  return {codes,
          {load(power), load(bytes), both_halves(least)},
          load(first),
          load(second),
          all_int(careful ? kCarefulField << 23 : 0)};
}
// A result in the frame of its row and columns, where it belongs.
VB_INLINE F32 unshifted(F32 acc, const Unshift& row, const Panel& panel) {
  return acc * (all(row.first) * panel.first) * (all(row.second) * panel.second);
}

// In the first `count` lanes.
VB_INLINE bool is_doubtful(I32 doubt, int64_t count) {
  return any_negative(bits_of(select(first(least(count, kLanes)), float_of(doubt), zero())));
}

struct RowRange {
  int64_t begin, end;
};
// Goes on with the chains acc[row] over the k of [begin, end); the rows that take part in the group
// at k are rows_at(k), and row r's piece is `pieces` + r, those of the next 32 k `stride` on.
template <class Rule, bool kHalf, bool kCareful, class RowsAt>
VB_INLINE void run_chains(const RowPiece* pieces, int64_t stride, const Panel& panel, int64_t begin,
                          int64_t end, RowsAt rows_at, F32* acc, I32* doubt) {
  Columns columns;
  for (int64_t k = begin; k < end; k += Rule::kGroup) {
    const RowRange rows = rows_at(k);
    if (rows.begin >= rows.end) continue;
    decode_columns<kHalf>(panel.codes + k * kLanes, Rule::kGroup, panel.decoder, columns);
    const RowPiece* piece = pieces + k / kTensorCoreGroup * stride;
    const int64_t inside = k % kTensorCoreGroup;
    for (int64_t r = rows.begin; r < rows.end; ++r)
      acc[r] =
          step<Rule, kCareful>(piece[r].numbers + inside / 2, piece[r].bytes + inside / 4,
                               columns.numbers, columns.bytes, acc[r], panel.least_field, doubt[r]);
  }
}

}  // namespace verbatim::VB_TARGET
