// Rows to codes whose groups have floating scales, and back (docs/numerics.md, Family B, group
// formats). What is found once for a group is scalar.
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/quantize.h>

namespace verbatim::VB_TARGET {
namespace {

VB_INLINE float float_of_bits(int32_t bits) { return __builtin_bit_cast(float, bits); }

VB_INLINE I32 nearest_code(F32 v, int greatest) {
  const F32 limit = all(static_cast<float>(greatest));
  return nearest_int(maximum_number(minimum_number(v, limit), all(0.0f) - limit));
}

// 2^-e, -127 <= e <= 127.
VB_INLINE float inverse_power(int e) {
  return float_of_bits(e == 127 ? 0x00400000 : (127 - e) << 23);
}

// The least e in [-127, 127] with max|x| <= greatest * 2^e.
VB_INLINE int exponent_of(int32_t most, int greatest) {
  const int code_bits = 32 - __builtin_clz(static_cast<unsigned>(greatest));
  int e = static_cast<int>(
      least(127, verbatim::VB_TARGET::greatest(-127, (most >> 23) - 127 - code_bits)));
  while (e < 127 && float_of_bits(most) * inverse_power(e) > static_cast<float>(greatest)) ++e;
  return e;
}

uint8_t power_group(const float* x, int64_t size, int greatest, int8_t* codes) {
  const int32_t most = greatest_bits(x, size);
  if (most >= kInfinity || most == 0) {
    std::memset(codes, 0, static_cast<size_t>(size));
    return most == 0 ? 0 : 0xFF;
  }
  const int e = exponent_of(most, greatest);
  const F32 unit = all(inverse_power(e));
  write_codes(x, size, codes, [=](F32 v) { return nearest_code(v * unit, greatest); });
  return static_cast<uint8_t>(e + 127);
}

// e4m3 of x >= 0, to nearest even; what is too great saturates.
VB_INLINE uint8_t small_float_of(float x) {
  constexpr int32_t kLeast = 121 << 23, kShift = 141 << 23;  // 2^-6; 2^14, whose last place is 2^-9
  const auto bits = __builtin_bit_cast(int32_t, x);
  const int32_t rebased = bits - (120 << 23);
  const int32_t code = bits >= kLeast
                           ? (rebased + 0x7FFFF + (rebased >> 20 & 1)) >> 20
                           : __builtin_bit_cast(int32_t, x + float_of_bits(kShift)) - kShift;
  return static_cast<uint8_t>(least(code, 0x7E));
}
VB_INLINE float value_of_small_float(uint8_t code) {
  return code < 8 ? static_cast<float>(code) * 0x1p-9f : float_of_bits((code + (120 << 3)) << 20);
}

uint8_t small_float_group(const float* x, int64_t size, float t, int greatest, int8_t* codes) {
  const float own = float_of_bits(greatest_bits(x, size)) / static_cast<float>(greatest);
  const uint8_t scale = small_float_of(own / t);
  const float step = value_of_small_float(scale) * t;
  if (step > 0) {
    write_codes(x, size, codes,
                [step, greatest](F32 v) { return nearest_code(v / all(step), greatest); });
  } else {
    std::memset(codes, 0, static_cast<size_t>(size));
  }
  return scale;
}

// t = max|x| / (448 * greatest): the greatest group then has the greatest e4m3.
float row_scale(const float* x, int64_t k, int greatest) {
  const int32_t most = greatest_bits(x, k);
  if (most >= kInfinity) return float_of_bits(0x7FC00000);
  return float_of_bits(most) / (448.0f * static_cast<float>(greatest));
}

void quantize_row_groups(const GroupCodes& p, int64_t row, const float* x) {
  int8_t* codes = p.codes + row * p.k;
  uint8_t* scales = p.scales + row * ((p.k + p.group - 1) / p.group);
  const float t = p.row_scales != nullptr ? row_scale(x, p.k, p.greatest) : 1.0f;
  if (p.row_scales != nullptr) p.row_scales[row] = t;
  for (int64_t k = 0; k < p.k; k += p.group, ++scales) {
    const int64_t size = least(p.group, p.k - k);
    if (p.row_scales == nullptr) {
      *scales = power_group(x + k, size, p.greatest, codes + k);
    } else if (t > 0) {
      *scales = small_float_group(x + k, size, t, p.greatest, codes + k);
    } else {
      *scales = 0;
      std::memset(codes + k, 0, static_cast<size_t>(size));
    }
  }
}

// kLanes bytes as numbers.
VB_INLINE F32 floats_of(const int8_t* codes) {
  const I32 bytes = widen(reinterpret_cast<const uint8_t*>(codes));
  return to_nearest_float(shift_right<24>(shift_left<24>(bytes)));
}

template <class Value>
VB_INLINE void write_values(const int8_t* codes, int64_t size, float* y, Value value) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(y + i, value(floats_of(codes + i)));
  if (i == size) return;
  int8_t last[kLanes] = {};
  std::memcpy(last, codes + i, static_cast<size_t>(size - i));
  store_first(y + i, size - i, value(floats_of(last)));
}

}  // namespace

void quantize_groups(const GroupCodes& p, int64_t from, int64_t to, float* scratch) {
  for (int64_t r = from; r < to; ++r) {
    const float* x = p.x + r * p.k;
    if (p.rotation > 1) {
      turn_blocks(x, scratch, p.k, p.rotation);
      x = scratch;
    }
    quantize_row_groups(p, r, x);
  }
}

void dequantize_groups(const GroupedRow& row, const float* row_scale, float* y) {
  for (int64_t k = 0, g = 0; k < row.k; k += row.group, ++g) {
    const int64_t size = least(row.group, row.k - k);
    const F32 scale = all(row.scale_values[row.scales[g]]);
    if (row_scale != nullptr) {
      write_values(row.codes + k, size, y + k,
                   [=](F32 v) { return canonical((v * scale) * all(*row_scale)); });
    } else {
      write_values(row.codes + k, size, y + k, [=](F32 v) { return canonical(v * scale); });
    }
  }
}

}  // namespace verbatim::VB_TARGET
