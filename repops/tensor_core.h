// One step of a tensor core, as the hardware computes it: family C of the contract (docs/numerics.md). Scalar reference on the CPU
// and, compiled by nvcc, the judge of the hardware itself (tests/hardware).
//
// The rule is that of Li et al., "MMA-Sim: Bit-Accurate Reference Model of Tensor Cores and Matrix Cores" (arXiv 2511.10909), and
// of Hawkeye (arXiv 2603.20421), with what measurement added.
#pragma once

#include <verbatim/repops/semantics.h>

namespace verbatim::tensor_core {

// An operand type of at most 32 bits: sign, exponent, fraction, from the top of `bits` bits.
template <int kBits, int kExponentBits, int kFractionBits, bool kInfinities>
struct Format {
  static constexpr int bits = kBits, exponent_bits = kExponentBits, fraction_bits = kFractionBits;
  static constexpr int bias = (1 << (kExponentBits - 1)) - 1;
  // The greatest exponent field holds infinity and NaN; otherwise its last code alone is NaN.
  static constexpr bool infinities = kInfinities;
};
using BFloat16Format = Format<16, 8, 7, true>;
using HalfFormat = Format<16, 5, 10, true>;
using E4M3Format = Format<8, 4, 3, false>;
using E5M2Format = Format<8, 5, 2, true>;
using Tf32Format = Format<19, 8, 10, true>;
using Binary32Format = Format<32, 8, 23, true>;

// How a chip's unit adds: `group` products and the accumulator at once, each truncated to `fraction` bits below the greatest
// exponent, which counts as at least `floor`; the sum truncated to `kept` significant bits.
struct Rule {
  int group, fraction, floor, kept;

  bool operator==(const Rule&) const = default;
};
inline constexpr Rule kSm90{16, 25, -133, 24};        // Hopper and B200: bf16, fp16
inline constexpr Rule kSm90Tf32{8, 25, -133, 24};     // Hopper and B200
inline constexpr Rule kSm90Float8{32, 13, -133, 14};  // Hopper's wgmma: e4m3, e5m2
inline constexpr Rule kSm80{8, 24, -132, 24};         // A100, Ada: bf16, fp16
inline constexpr Rule kSm80Tf32{4, 24, -132, 24};
inline constexpr Rule kSm89Float8{16, 13, -133, 14};  // Ada: e4m3, e5m2

struct Number {
  uint32_t significand;  // an integer; the value is significand * 2^(exponent - fraction_bits)
  int exponent;
  bool negative, infinite, nan;
};

template <class F>
VB_HOST_DEVICE inline Number decode(uint32_t bits) {
  constexpr uint32_t kFraction = (1u << F::fraction_bits) - 1, kExponent = (1u << F::exponent_bits) - 1;
  const uint32_t fraction = bits & kFraction, field = (bits >> F::fraction_bits) & kExponent;
  Number n{};
  n.negative = (bits >> (F::bits - 1)) & 1;
  if (field == kExponent && F::infinities) {
    n.infinite = fraction == 0;
    n.nan = fraction != 0;
  } else if (field == kExponent && fraction == kFraction) {
    n.nan = true;
  } else {
    // A subnormal has the least exponent and no hidden bit; it is not renormalised, and neither is its product.
    n.exponent = (field == 0 ? 1 : static_cast<int>(field)) - F::bias;
    n.significand = fraction | (field == 0 ? 0 : 1u << F::fraction_bits);
  }
  return n;
}

// What becomes of a step's terms, one after another: first all through see(), then all through add().
struct Adder {
  int fraction, exponent;  // of the greatest term, at least the rule's floor
  bool nan = false, plus = false, minus = false;  // NaN, infinities of either sign
  int64_t sum = 0;                                // in units of 2^(exponent - fraction)

  VB_HOST_DEVICE explicit Adder(Rule rule) : fraction(rule.fraction), exponent(rule.floor) {}

  VB_HOST_DEVICE void see(uint64_t significand, int e) {
    if (significand != 0 && e > exponent) exponent = e;
  }
  VB_HOST_DEVICE void see_infinity(bool negative) { (negative ? minus : plus) = true; }
  // Truncates toward zero. At most 30 bits of a significand of f fraction bits: 33 terms fit in 64 bits.
  VB_HOST_DEVICE void add(uint64_t significand, int e, int f, bool negative) {
    if (significand == 0) return;
    const int right = f - fraction + (exponent - e);
    const uint64_t term = right <= 0 ? significand << -right : right < 64 ? significand >> right : 0;
    sum += negative ? -static_cast<int64_t>(term) : static_cast<int64_t>(term);
  }
  VB_HOST_DEVICE bool special() const { return nan || plus || minus; }
  VB_HOST_DEVICE float special_result() const {
    if (nan || (plus && minus)) return float_of(kNanBits);
    return float_of(minus ? 0xFF800000 : 0x7F800000);
  }
};

// sum * 2^unit, truncated toward zero to `kept` significant bits, and to multiples of 2^-149; beyond binary32's range infinity.
VB_HOST_DEVICE inline float truncated(int64_t sum, int unit, int kept) {
  if (sum == 0) return 0.0f;
  const uint32_t sign = sum < 0 ? 0x80000000 : 0;
  uint64_t magnitude = sum < 0 ? -static_cast<uint64_t>(sum) : static_cast<uint64_t>(sum);
  const int top = top_bit(magnitude);
  const int exponent = unit + top;
  if (exponent > 127) return float_of(sign | 0x7F800000);
  if (top >= kept) magnitude = magnitude >> (top - kept + 1) << (top - kept + 1);
  if (exponent < -126) {
    const int right = -149 - unit;
    const uint64_t scaled = right <= 0 ? magnitude << -right : right < 64 ? magnitude >> right : 0;
    return scaled == 0 ? 0.0f : float_of(sign | static_cast<uint32_t>(scaled));
  }
  const uint64_t fraction = top >= 23 ? magnitude >> (top - 23) : magnitude << (23 - top);
  return float_of(sign | static_cast<uint32_t>(exponent + 127) << 23 | (static_cast<uint32_t>(fraction) & 0x7FFFFF));
}

// sum * 2^unit rounded to fp16, nearest even, zero without a sign: what a unit with an fp16 accumulator gives.
VB_HOST_DEVICE inline uint16_t rounded_half(int64_t sum, int unit) {
  if (sum == 0) return 0;
  const uint16_t sign = sum < 0 ? 0x8000 : 0;
  const uint64_t magnitude = sum < 0 ? -static_cast<uint64_t>(sum) : static_cast<uint64_t>(sum);
  const int exponent = unit + top_bit(magnitude), last = exponent - 10 > -24 ? exponent - 10 : -24, right = last - unit;
  uint64_t kept = right <= 0 ? magnitude << -right : right < 64 ? magnitude >> right : 0;
  if (right > 0 && right <= 64) {
    const uint64_t half = uint64_t{1} << (right - 1), rest = right < 64 ? magnitude & (2 * half - 1) : magnitude;
    kept += rest > half || (rest == half && (kept & 1));
  }
  // kept * 2^last: in the lowest binade the code itself; above, a carry out of the fraction moves to the exponent by itself.
  const uint64_t code = last == -24 ? kept : kept + (static_cast<uint64_t>(last + 24) << 10);
  if (code == 0) return 0;
  return static_cast<uint16_t>(sign | (code < 0x7C00 ? code : 0x7C00));
}

// acc + the sum over `count` (at most rule.group) of a[k] * b[k], all terms at once, not yet rounded.
template <class A, class B, class C, class T, class S>
VB_HOST_DEVICE inline Adder added(Rule rule, uint32_t acc, const T* a, const S* b, int count) {
  Adder adder(rule);
  const Number c = decode<C>(acc);
  adder.nan = c.nan;
  if (c.infinite) adder.see_infinity(c.negative);
  adder.see(c.significand, c.exponent);
  for (int k = 0; k < count; ++k) {
    const Number x = decode<A>(a[k]), y = decode<B>(b[k]);
    const bool zero_times_infinity = (x.infinite && y.significand == 0 && !y.infinite) ||
                                     (y.infinite && x.significand == 0 && !x.infinite);
    if (x.nan || y.nan || zero_times_infinity)
      adder.nan = true;
    else if (x.infinite || y.infinite)
      adder.see_infinity(x.negative != y.negative);
    else
      adder.see(uint64_t{x.significand} * y.significand, x.exponent + y.exponent);
  }
  if (adder.special()) return adder;
  adder.add(c.significand, c.exponent, C::fraction_bits, c.negative);
  for (int k = 0; k < count; ++k) {
    const Number x = decode<A>(a[k]), y = decode<B>(b[k]);
    adder.add(uint64_t{x.significand} * y.significand, x.exponent + y.exponent, A::fraction_bits + B::fraction_bits,
              x.negative != y.negative);
  }
  return adder;
}

// One step with a binary32 accumulator.
template <class A, class B, class T, class S>
VB_HOST_DEVICE inline float step(Rule rule, float acc, const T* a, const S* b, int count) {
  const Adder sum = added<A, B, Binary32Format>(rule, bits_of(acc), a, b, count);
  return sum.special() ? sum.special_result() : truncated(sum.sum, sum.exponent - rule.fraction, rule.kept);
}

// One step with an fp16 accumulator: the sum is rounded to nearest even once.
template <class A, class B, class T, class S>
VB_HOST_DEVICE inline uint16_t step_half(Rule rule, uint16_t acc, const T* a, const S* b, int count) {
  const Adder sum = added<A, B, HalfFormat>(rule, acc, a, b, count);
  return sum.special() ? half_from_float(sum.special_result()) : rounded_half(sum.sum, sum.exponent - rule.fraction);
}

// The fp16 number that an fp8 number is; a subnormal of e4m3 becomes normal.
template <class F>
VB_HOST_DEVICE inline uint16_t half_from_float8(uint32_t code) {
  const uint32_t sign = (code & 0x80) << 8, magnitude = code & 0x7F;
  if constexpr (F::infinities) {
    return static_cast<uint16_t>(sign | magnitude << 8);  // e5m2 is the upper half of fp16
  } else {
    if (magnitude == 0x7F) return kHalfNanBits;
    if (magnitude >= 8) return static_cast<uint16_t>(sign | ((magnitude << 7) + (8 << 10)));
    return static_cast<uint16_t>(sign | half_from_float(static_cast<float>(magnitude) * 0x1p-9f));
  }
}

// The halves of 32 fp8 elements that mma.sync gives to its two fp16 steps: k mod 4 in {0, 1}, then {2, 3}.
template <class F, class T>
VB_HOST_DEVICE inline void unpack(const T* row, int half, uint16_t (&out)[16]) {
  for (int i = 0; i < 16; ++i) out[i] = half_from_float8<F>(row[i / 2 * 4 + half * 2 + i % 2]);
}

// 32 fp8 products as mma.sync adds them on Hopper and B200, where it is no instruction of its own: two chained fp16 steps from +0,
// whose result is added to acc in binary32.
template <class A, class B, class T, class S>
VB_HOST_DEVICE inline float step_unpacked(float acc, const T* a, const S* b) {
  float sum = 0;
  for (int half = 0; half < 2; ++half) {
    uint16_t x[16], y[16];
    unpack<A>(a, half, x);
    unpack<B>(b, half, y);
    sum = step<HalfFormat, HalfFormat>(kSm90, sum, x, y, 16);
  }
  return canonical(sum + acc);
}

// The same with an fp16 accumulator: both steps and the addition round to fp16.
template <class A, class B, class T, class S>
VB_HOST_DEVICE inline uint16_t step_unpacked_half(uint16_t acc, const T* a, const S* b) {
  uint16_t sum = 0;
  for (int half = 0; half < 2; ++half) {
    uint16_t x[16], y[16];
    unpack<A>(a, half, x);
    unpack<B>(b, half, y);
    sum = step_half<HalfFormat, HalfFormat>(kSm90, sum, x, y, 16);
  }
  return half_from_float(float_from_half(sum) + float_from_half(acc));
}

}  // namespace verbatim::tensor_core
