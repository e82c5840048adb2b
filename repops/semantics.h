// The arithmetic of the contract (docs/numerics.md) that everything compiles: scalar reference,
// SIMD kernels, and CUDA.
//
// Nothing here calls libm. Build with -ffp-contract=off (nvcc: --fmad=false): a product and a sum
// are two roundings unless written as fma32().
#pragma once

#include <bit>
#include <cstdint>

#include <verbatim/repops/device.h>

namespace verbatim {

inline constexpr uint32_t kSemanticsVersion = 1;

inline constexpr int64_t kProductBlock = 512;  // K block of an ordered product
inline constexpr int64_t kSumBlock = 1024;     // block of an ordered sum
inline constexpr int kSumLanes = 32;
inline constexpr int64_t kKeyBlock = 128;     // keys of one attention block
inline constexpr int64_t kKeyRestart = 2048;  // keys after which attention's state starts afresh
inline constexpr int kKeyLanes = 8;

VB_HOST_DEVICE inline uint32_t bits_of(float x) { return std::bit_cast<uint32_t>(x); }
VB_HOST_DEVICE inline float float_of(uint32_t bits) { return std::bit_cast<float>(bits); }

inline constexpr uint32_t kNanBits = 0x7FC00000;
inline constexpr uint16_t kHalfNanBits = 0x7E00;
inline constexpr uint16_t kBFloat16NanBits = 0x7FC0;
inline constexpr uint64_t kDoubleNanBits = 0x7FF8000000000000;
inline constexpr uint32_t kLog2E = 0x3FB8AA3B;  // log2(e) rounded to binary32

VB_HOST_DEVICE inline bool is_nan(float x) { return x != x; }
VB_HOST_DEVICE inline bool is_nan(double x) { return x != x; }
// What an arithmetic operator stores: NaN in its one canonical form.
VB_HOST_DEVICE inline float canonical(float x) { return is_nan(x) ? float_of(kNanBits) : x; }
VB_HOST_DEVICE inline double canonical(double x) {
  return is_nan(x) ? std::bit_cast<double>(kDoubleNanBits) : x;
}

// a * b + c with one rounding, without hardware for it: the product of two binary32 is exact in
// binary64; the sum is rounded to odd there, after which rounding to binary32 gives what one
// rounding would (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved
// algorithms using rounding to odd", 2008).
VB_HOST_DEVICE inline float fma32_by_odd(float a, float b, float c) {
  const double product = static_cast<double>(a) * static_cast<double>(b);
  const double addend = c;
  const double sum = product + addend;
  const double t = sum - product;
  const double error = (product - (sum - t)) + (addend - t);
  uint64_t bits = std::bit_cast<uint64_t>(sum);
  // A sum that is infinite or NaN has a NaN error term, which must not touch it.
  constexpr uint64_t kExponent = uint64_t{0x7FF} << 52;
  if (error != 0 && (bits & 1) == 0 && (bits & kExponent) != kExponent) {
    // Inexact with an even last bit: the odd neighbour towards the exact value.
    bits += (error > 0) == (sum > 0) ? 1 : static_cast<uint64_t>(-1);
  }
  return static_cast<float>(std::bit_cast<double>(bits));
}

VB_HOST_DEVICE inline float fma32(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#elif defined(__FMA__) || defined(__aarch64__) || defined(__s390x__) || defined(__riscv_f)
  return __builtin_fmaf(a, b, c);
#else
  return fma32_by_odd(a, b, c);
#endif
}

// IEEE 754-2019 maximum and minimum: NaN wins, -0 is below +0.
VB_HOST_DEVICE inline float maximum(float a, float b) {
  if (is_nan(a) || is_nan(b)) return float_of(kNanBits);
  if (a == b) return float_of(bits_of(a) & bits_of(b));
  return a > b ? a : b;
}
VB_HOST_DEVICE inline float minimum(float a, float b) {
  if (is_nan(a) || is_nan(b)) return float_of(kNanBits);
  if (a == b) return float_of(bits_of(a) | bits_of(b));
  return a < b ? a : b;
}

VB_HOST_DEVICE inline double maximum(double a, double b) {
  if (is_nan(a) || is_nan(b)) return std::bit_cast<double>(kDoubleNanBits);
  if (a == b) return std::bit_cast<double>(std::bit_cast<uint64_t>(a) & std::bit_cast<uint64_t>(b));
  return a > b ? a : b;
}
VB_HOST_DEVICE inline double minimum(double a, double b) {
  if (is_nan(a) || is_nan(b)) return std::bit_cast<double>(kDoubleNanBits);
  if (a == b) return std::bit_cast<double>(std::bit_cast<uint64_t>(a) | std::bit_cast<uint64_t>(b));
  return a < b ? a : b;
}

// The nearest integer, ties to even, as a float. Exact for every input; keeps the sign of zero.
VB_HOST_DEVICE inline float round_even(float x) {
  const float magnitude = float_of(bits_of(x) & 0x7FFFFFFF);
  if (!(magnitude < 8388608.0f)) return canonical(x);
  const float rounded = (magnitude + 8388608.0f) - 8388608.0f;
  return float_of(bits_of(rounded) | (bits_of(x) & 0x80000000));
}

// 2^r for |r| <= 1/2 as exp2p takes it: in float, and in vectors of it. fma(a, b, c) and
// number(bits) are those of V. c_0 = 1, and c_1 to c_5 are the minimax polynomial of the relative
// error on [-1/2, 1/2], rounded to binary32.
template <class V, class Fma, class Number>
VB_HOST_DEVICE inline V exp2p_fraction(V r, Fma fma, Number number) {
  V p = fma(number(0x3AADDD09), r, number(0x3C1E7545));
  p = fma(p, r, number(0x3D635BA8));
  p = fma(p, r, number(0x3E75FCDF));
  p = fma(p, r, number(0x3F317215));
  return fma(p, r, number(0x3F800000));
}
VB_HOST_DEVICE inline float exp2p_fraction(float r) {
  return exp2p_fraction(
      r, [](float a, float b, float c) { return fma32(a, b, c); },
      [](uint32_t bits) { return float_of(bits); });
}

// 2^t for t < 127 by a fixed evaluation: what attention of families B and C weighs keys by. 2^-23.2
// relative error at most; +0 below -126.
VB_HOST_DEVICE inline float exp2p(float t) {
  if (is_nan(t)) return float_of(kNanBits);
  if (t < -126.0f) return 0.0f;
  const float n = round_even(t);
  return exp2p_fraction(t - n) *
         float_of(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
}

// Scores of attention of families B and C, in units of log2: multiples of 2^-9, which floats near
// kScoreGrid = 1.5 * 2^14 are (docs/numerics.md). Of a score s, to be multiplied by c, with scale *
// log2(e) in it: x, and its weight's exponent relative to m.
inline constexpr float kScoreGrid = 24576.0f;
inline constexpr float kMostExponent = 8.0f;
VB_HOST_DEVICE inline float grid_score(float s, float c) {
  return fma32(s, c, kScoreGrid) - kScoreGrid;
}
// m that is further from zero than this may be off s * c by more than a multiple.
inline constexpr float kMostNear = 4096.0f;
VB_HOST_DEVICE inline float grid_exponent(float s, float c, float m) {
  if (m >= -kMostNear && m <= kMostNear) return fma32(s, c, kScoreGrid - m) - kScoreGrid;
  return minimum(((grid_score(s, c) - m) + kScoreGrid) - kScoreGrid, kMostExponent);
}
// m where a block's greatest x is `greatest`: weights may be above 1, so that it seldom changes.
VB_HOST_DEVICE inline float grid_maximum(float m, float greatest) {
  return greatest <= m + kMostExponent ? m : greatest;
}

// --- 16-bit formats: exact on the way in, one rounding to nearest even on the way out
// ---------------------------------------

VB_HOST_DEVICE inline float float_from_bfloat16(uint16_t h) {
  return float_of(static_cast<uint32_t>(h) << 16);
}
VB_HOST_DEVICE inline uint16_t bfloat16_from_float(float x) {
  if (is_nan(x)) return kBFloat16NanBits;
  const uint32_t bits = bits_of(x);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

VB_HOST_DEVICE inline float float_from_half(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, magnitude = h & 0x7FFF;
  if (magnitude > 0x7C00) return float_of(kNanBits);
  if (magnitude == 0x7C00) return float_of(sign | 0x7F800000);
  if (magnitude >= 0x0400) return float_of(sign | ((magnitude << 13) + (uint32_t{112} << 23)));
  // Subnormal: magnitude * 2^-24, exact in binary32.
  const float value = static_cast<float>(magnitude) * 5.9604644775390625e-08f;
  return float_of(bits_of(value) | sign);
}
VB_HOST_DEVICE inline uint16_t half_from_float(float x) {
  if (is_nan(x)) return kHalfNanBits;
  const uint32_t sign = (bits_of(x) >> 16) & 0x8000, magnitude = bits_of(x) & 0x7FFFFFFF;
  if (magnitude >= 0x477FF000)
    return static_cast<uint16_t>(sign | 0x7C00);  // rounds to 65536 or beyond
  if (magnitude >= 0x38800000) {
    const uint32_t rebased = magnitude - (uint32_t{112} << 23);
    return static_cast<uint16_t>(sign | ((rebased + 0xFFF + ((rebased >> 13) & 1)) >> 13));
  }
  // Below 2^-14: adding 0.5 aligns the significand so that the addition itself rounds at 2^-24.
  const uint32_t aligned = bits_of(float_of(magnitude) + 0.5f) - 0x3F000000;
  return static_cast<uint16_t>(sign | aligned);
}

// --- fp8 (OCP 8-bit Floating Point Specification, revision 1.0): e4m3 has no infinities, and one
// NaN of each sign. What is beyond the greatest number saturates, or becomes e5m2's infinity and
// e4m3's NaN.

VB_HOST_DEVICE inline float float_from_e5m2(uint8_t code) {
  return float_from_half(static_cast<uint16_t>(code << 8));
}
VB_HOST_DEVICE inline float float_from_e4m3(uint8_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x80) << 24, magnitude = code & 0x7F;
  if (magnitude == 0x7F) return float_of(kNanBits);
  if (magnitude >= 8) return float_of(sign | ((magnitude << 20) + (uint32_t{120} << 23)));
  return float_of(
      sign | bits_of(static_cast<float>(magnitude) * 0.001953125f));  // subnormal: magnitude * 2^-9
}

inline constexpr uint8_t kE4M3NanBits = 0x7F, kE5M2NanBits = 0x7E;

// |x| to nearest even in a format of `fraction` bits whose least normal number is 2^(1 - bias); no
// limit at the top.
VB_HOST_DEVICE inline uint32_t small_float_magnitude(float x, int fraction, int bias) {
  const uint32_t magnitude = bits_of(x) & 0x7FFFFFFF;
  const int drop = 23 - fraction;
  if (magnitude >= static_cast<uint32_t>(128 - bias) << 23) {
    const uint32_t rebased = magnitude - (static_cast<uint32_t>(127 - bias) << 23);
    return (rebased + ((1u << (drop - 1)) - 1) + ((rebased >> drop) & 1)) >> drop;
  }
  // Adding a power of two whose last place is the format's least subnormal makes the addition
  // itself round there.
  const uint32_t shift = static_cast<uint32_t>(127 + 1 - bias + drop) << 23;
  return bits_of(float_of(magnitude) + float_of(shift)) - shift;
}
VB_HOST_DEVICE inline uint8_t e4m3_from_float(float x, bool saturate) {
  if (is_nan(x)) return kE4M3NanBits;
  const uint32_t sign = (bits_of(x) >> 24) & 0x80, magnitude = small_float_magnitude(x, 3, 7);
  return static_cast<uint8_t>(sign | (magnitude <= 0x7E ? magnitude
                                      : saturate        ? 0x7E
                                                        : kE4M3NanBits));
}
VB_HOST_DEVICE inline uint8_t e5m2_from_float(float x, bool saturate) {
  if (is_nan(x)) return kE5M2NanBits;
  const uint32_t sign = (bits_of(x) >> 24) & 0x80, magnitude = small_float_magnitude(x, 2, 15);
  return static_cast<uint8_t>(sign | (magnitude <= 0x7B ? magnitude : saturate ? 0x7B : 0x7C));
}

// The fnuz forms have one NaN, code 80, in -0's place: no -0, no infinity, and a bias greater by
// one.
inline constexpr uint8_t kFnuzNanBits = 0x80;

// The value of a magnitude without infinities or NaN; exact.
VB_HOST_DEVICE inline float float_from_magnitude(uint32_t magnitude, int fraction, int bias) {
  if (magnitude >> fraction != 0)
    return float_of((magnitude << (23 - fraction)) + (static_cast<uint32_t>(127 - bias) << 23));
  return static_cast<float>(magnitude) *
         float_of(static_cast<uint32_t>(127 + 1 - bias - fraction) << 23);
}
VB_HOST_DEVICE inline float float_from_fnuz(uint8_t code, int fraction, int bias) {
  if (code == kFnuzNanBits) return float_of(kNanBits);
  const float magnitude = float_from_magnitude(code & 0x7F, fraction, bias);
  return code & 0x80 ? -magnitude : magnitude;
}
VB_HOST_DEVICE inline uint8_t fnuz_from_float(float x, bool saturate, int fraction, int bias) {
  if (is_nan(x)) return kFnuzNanBits;
  const uint32_t sign = (bits_of(x) >> 24) & 0x80,
                 magnitude = small_float_magnitude(x, fraction, bias);
  if (magnitude == 0) return 0;
  if (magnitude > 0x7F && !saturate) return kFnuzNanBits;
  return static_cast<uint8_t>(sign | (magnitude > 0x7F ? 0x7F : magnitude));
}
VB_HOST_DEVICE inline float float_from_e4m3fnuz(uint8_t code) {
  return float_from_fnuz(code, 3, 8);
}
VB_HOST_DEVICE inline float float_from_e5m2fnuz(uint8_t code) {
  return float_from_fnuz(code, 2, 16);
}
VB_HOST_DEVICE inline uint8_t e4m3fnuz_from_float(float x, bool saturate) {
  return fnuz_from_float(x, saturate, 3, 8);
}
VB_HOST_DEVICE inline uint8_t e5m2fnuz_from_float(float x, bool saturate) {
  return fnuz_from_float(x, saturate, 2, 16);
}

// --- OCP Microscaling Formats (MX) Specification, revision 1.0

// e2m1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. What is greater saturates; NaN becomes -0.
VB_HOST_DEVICE inline float float_from_e2m1(uint8_t code) {
  const float magnitude = float_from_magnitude(code & 7, 1, 1);
  return code & 8 ? -magnitude : magnitude;
}
VB_HOST_DEVICE inline uint8_t e2m1_from_float(float x) {
  if (is_nan(x)) return 8;
  const uint32_t magnitude = small_float_magnitude(x, 1, 1);
  return static_cast<uint8_t>((bits_of(x) >> 28 & 8) | (magnitude > 7 ? 7 : magnitude));
}

// e8m0: code e is 2^(e - 127). `up` rounds to the power above, `down` to the one below, `nearest`
// takes 1.5 * 2^e up. What rounds beyond the least or the greatest (0 too) saturates or becomes
// NaN; less than 0 is NaN.
enum class ScaleRounding { up, down, nearest };
inline constexpr uint8_t kE8M0NanBits = 0xFF;

VB_HOST_DEVICE inline float float_from_e8m0(uint8_t code) {
  if (code == kE8M0NanBits) return float_of(kNanBits);
  return float_of(code == 0 ? 0x00400000 : static_cast<uint32_t>(code) << 23);
}
VB_HOST_DEVICE inline uint8_t e8m0_from_double(double x, bool saturate, ScaleRounding rounding) {
  if (is_nan(x) || x < 0) return kE8M0NanBits;
  const uint64_t bits = std::bit_cast<uint64_t>(x) & ~(uint64_t{1} << 63);
  const uint64_t fraction = bits & ((uint64_t{1} << 52) - 1);
  int code = static_cast<int>(bits >> 52) - 1023 + 127;
  if (rounding == ScaleRounding::up) code += fraction != 0;
  if (rounding == ScaleRounding::nearest) code += fraction >= uint64_t{1} << 51;
  if (code < 0) return saturate ? 0 : kE8M0NanBits;
  if (code > 0xFE) return saturate ? 0xFE : kE8M0NanBits;
  return static_cast<uint8_t>(code);
}

}  // namespace verbatim
