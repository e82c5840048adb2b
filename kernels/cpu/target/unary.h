// Correctly rounded functions of a vector. As in repops/unary.cc: a binary64 formula of known
// error, then a test whether it decides the rounding; lanes that it does not decide are computed by
// the scalar function. The contract fixes the rounded result alone, so these formulas differ from
// the scalar ones where that suits vectors: exponentials need no table, and are only as good as
// keeps the scalar function rare (2^-39 leaves one lane in 2^14 to it, 2^-45 one in 2^20).
#pragma once

#include <verbatim/kernels/cpu/simd.h>
#include <verbatim/repops/unary.h>
#include <verbatim/repops/unary_tables.h>

namespace verbatim::VB_TARGET {

// A binary64 for each lane of an F32.
struct Wide {
  F64 low, high;
};
template <class F>
VB_INLINE Wide map(Wide x, F f) {
  return {f(x.low), f(x.high)};
}
VB_INLINE Wide widen(F32 x) { return {low(x), high(x)}; }

// y, within a relative `error`, rounded to binary32; exact(x) where that leaves it in doubt.
VB_INLINE F32 round_checked(Wide y, F32 x, float (*exact)(float), double error = 0x1p-45) {
  const F64 below = all64(1 - error), above = all64(1 + error);
  F32 result = narrow(y.low * below, y.high * below);
  const unsigned doubt = bits(differs(result, narrow(y.low * above, y.high * above)));
  if (doubt != 0) [[unlikely]] {
    float argument[kLanes], value[kLanes];
    store(argument, x);
    store(value, result);
    // By lanes, not by the set bits: GCC 12 was seen, with sanitizers, to leave bits above a mask's
    // own.
    for (int i = 0; i < kLanes; ++i)
      if (doubt >> i & 1) value[i] = exact(argument[i]);
    result = load(value);
  }
  return result;
}

VB_INLINE F32 absolute(F32 x) { return bit_and(x, all_bits(0x7FFFFFFF)); }
VB_INLINE F32 with_sign_of(F32 magnitude, F32 sign) {
  return bit_or(magnitude, bit_and(sign, all_bits(0x80000000)));
}
VB_INLINE F32 keep_nan(F32 x, F32 result) { return select(is_nan(x), x, result); }

// A NaN becomes -limit; keep_nan() brings it back.
VB_INLINE F32 clamp(F32 x, float limit) {
  return minimum_number(maximum_number(x, all(-limit)), all(limit));
}

inline constexpr float kExpLimit = 200;  // beyond, every result is infinite, zero or saturated
inline constexpr double kToInteger =
    0x1.8p52;  // v + this holds the integer next to v in its last bits

// e^x = scale * (1 + rest).
struct ExpParts {
  F64 scale, rest;
};

// For |r| < 0.35: Taylor to r^13; r^13 / 14! is below 2^-55 relative to r.
VB_INLINE F64 expm1_series(F64 r) {
  F64 sum = all64(unary::kInverseFactorial[13].hi);
  VB_UNROLL
  for (int n = 12; n >= 2; --n) sum = fma(sum, r, all64(unary::kInverseFactorial[n].hi));
  return fma(r * r, sum, r);
}

// |x| <= 2 * kExpLimit. The product of an integer below 2^10 and the 37 bits of kExpStepHead is
// exact.
VB_INLINE ExpParts exp_parts(F64 x) {
  const F64 t = fma(x, all64(unary::kExpPerStep / 16), all64(kToInteger));
  const F64 k = t - all64(kToInteger);
  const F64 r =
      fma(k, all64(-16 * unary::kExpStepTail.hi), fma(k, all64(-16 * unary::kExpStepHead), x));
  return {times_power_of_two(all64(1), t), expm1_series(r)};
}

// 2^(k + f) for |f| <= 1/2 and the integer k in the last bits of t: a minimax polynomial, which
// leaves a relative 2^-40.2.
VB_INLINE F64 exp2_of_parts(F64 t, F64 f) {
  F64 p = all64(0x1.61afced541895p-20);
  for (const double c :
       {0x1.00dad250bededp-16, 0x1.430acca32fd76p-13, 0x1.5d87483855455p-10, 0x1.3b2ab5c529311p-7,
        0x1.c6b08dd46d38fp-5, 0x1.ebfbdff9319e1p-3, 0x1.62e42fef8615ep-1, 0x1.ffffffffff7a3p-1})
    p = fma(p, f, all64(c));
  return times_power_of_two(p, t);
}
inline constexpr double kExpError = 0x1p-39;

VB_INLINE F64 exp2_core(F64 x) {
  const F64 t = x + all64(kToInteger);
  return exp2_of_parts(t, x - (t - all64(kToInteger)));
}
// |x| <= 2 * kExpLimit, whose binary logarithm's last place is below 2^-44.
VB_INLINE F64 exp_core(F64 x) {
  const F64 log2_e = all64(unary::kExpPerStep / 16), t = fma(x, log2_e, all64(kToInteger));
  return exp2_of_parts(t, fma(x, log2_e, all64(kToInteger) - t));
}

VB_INLINE F64 expm1_core(F64 x) {
  const ExpParts p = exp_parts(x);
  return fma(p.scale, p.rest, p.scale - all64(1));
}

VB_INLINE F32 exp(F32 x) {
  const Wide y = map(widen(clamp(x, kExpLimit)), [](F64 v) { return exp_core(v); });
  return keep_nan(x, round_checked(y, x, exp_f32, kExpError));
}
VB_INLINE F32 exp2(F32 x) {
  const Wide y = map(widen(clamp(x, kExpLimit)), [](F64 v) { return exp2_core(v); });
  return keep_nan(x, round_checked(y, x, exp2_f32, kExpError));
}
VB_INLINE F32 sigmoid(F32 x) {
  const Wide y = map(widen(clamp(x, kExpLimit)),
                     [](F64 v) { return all64(1) / (all64(1) + exp_core(all64(0) - v)); });
  return keep_nan(x, round_checked(y, x, sigmoid_f32, kExpError));
}
VB_INLINE F32 tanh(F32 x) {
  const F32 magnitude = minimum_number(absolute(x), all(20));
  const Wide y = map(widen(magnitude), [](F64 v) {
    const F64 e = expm1_core(v + v);
    return e / (e + all64(2));
  });
  return keep_nan(x, with_sign_of(round_checked(y, absolute(x), tanh_f32), x));
}

// erf x for 0 <= x <= 4: the formula of repops/unary_core.h's erf_positive.
VB_INLINE F64 erf_core(F64 x) {
  static_assert(sizeof(unary::ErfEntry) == 2 * sizeof(double));
  const F64 t = fma(x, all64(64), all64(kToInteger));
  F64 value, slope;
  look_up(&unary::kErfTable[0].value, t, value, slope);
  const F64 c = (t - all64(kToInteger)) * all64(0x1p-6), d = x - c;
  const F64 b1 = all64(-2) * c;
  const F64 b2 = all64(0) - fma(c, b1, all64(1));
  const F64 b3 = all64(-2.0 / 3) * fma(c, b2, b1);
  const F64 b4 = all64(-0.5) * fma(c, b3, b2);
  const F64 b5 = all64(-0.4) * fma(c, b4, b3);
  const F64 b6 = all64(-1.0 / 3) * fma(c, b5, b4);
  F64 tail = fma(d, b6 * all64(1.0 / 7), b5 * all64(1.0 / 6));
  tail = fma(d, tail, b4 * all64(0.2));
  tail = fma(d, tail, b3 * all64(0.25));
  tail = fma(d, tail, b2 * all64(1.0 / 3));
  const F64 g = fma(d * d, fma(d, tail, b1 * all64(0.5)), d);
  return fma(slope, g, value);
}
VB_INLINE F32 erf(F32 x) {
  const F32 magnitude = minimum_number(absolute(x), all(4));
  const Wide y = map(widen(magnitude), [](F64 v) { return erf_core(v); });
  return keep_nan(x, with_sign_of(round_checked(y, absolute(x), erf_f32), x));
}

}  // namespace verbatim::VB_TARGET
