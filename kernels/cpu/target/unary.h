// Correctly rounded functions of a vector. As in repops/unary.cc: a binary64 formula of known
// error, then a test whether it decides the rounding; lanes that it does not decide are computed by
// the scalar function. The contract fixes the rounded result alone, so these formulas differ from
// the scalar ones where that suits vectors: exponentials need no table, and are only as good as
// keeps the scalar function rare (2^-39 leaves one lane in 2^14 to it, 2^-45 one in 2^20).
#pragma once

#include <verbatim/kernels/cpu/simd.h>
#include <verbatim/kernels/cpu/target/erf_table.h>
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
// 2^x in binary32 alone, for |x| <= 126. With x = k + f, k the next multiple of a table's step,
// 2^f = 1 + slope * f + rest; slope has 8 bits, entries have 16, so that their product is exact and
// what y = head + head * slope * f loses to rounding is one fma more. `rest`, below 2^-9, holds the
// whole error: that of y + rest was measured over all x.
inline constexpr float kExp2Slope = 0x1.62p-1f;
inline constexpr float kExp2Error = kTableSize == 32 ? 0x1p-34f : 0x1.6p-32f;
// 2^(j / 32) to 16 bits, and what that lacks, relative to it.
inline constexpr float kExp2Heads[] = {
    0x1p+0f,      0x1.059cp+0f, 0x1.0b56p+0f, 0x1.113p+0f,  0x1.172cp+0f, 0x1.1d48p+0f,
    0x1.2388p+0f, 0x1.29eap+0f, 0x1.307p+0f,  0x1.371ap+0f, 0x1.3deap+0f, 0x1.44ep+0f,
    0x1.4bfep+0f, 0x1.5342p+0f, 0x1.5abp+0f,  0x1.6248p+0f, 0x1.6a0ap+0f, 0x1.71f8p+0f,
    0x1.7a12p+0f, 0x1.8258p+0f, 0x1.8acep+0f, 0x1.9374p+0f, 0x1.9c4ap+0f, 0x1.a55p+0f,
    0x1.ae8ap+0f, 0x1.b7f8p+0f, 0x1.c19ap+0f, 0x1.cb72p+0f, 0x1.d582p+0f, 0x1.dfcap+0f,
    0x1.ea4ap+0f, 0x1.f508p+0f};
inline constexpr float kExp2Tails[] = {0,
                                       -0x1.db33bap-17f,
                                       -0x1.d03376p-18f,
                                       0x1.b2dff2p-20f,
                                       -0x1.c7a2bcp-18f,
                                       0x1.9d1a0cp-18f,
                                       -0x1.38f328p-18f,
                                       -0x1.c14facp-20f,
                                       -0x1.a5f74ep-20f,
                                       0x1.7c035ap-18f,
                                       0x1.44879ap-18f,
                                       0x1.a670cap-18f,
                                       -0x1.fe00b2p-19f,
                                       0x1.11c8eep-17f,
                                       0x1.73a91cp-18f,
                                       -0x1.e54042p-21f,
                                       -0x1.218fe2p-20f,
                                       -0x1.bed716p-18f,
                                       -0x1.f46856p-18f,
                                       0x1.9710c2p-18f,
                                       0x1.b47122p-19f,
                                       -0x1.517038p-18f,
                                       -0x1.1fe752p-17f,
                                       0x1.1f7afap-19f,
                                       -0x1.e843fap-23f,
                                       -0x1.510b74p-18f,
                                       -0x1.2d5868p-19f,
                                       0x1.ec6a84p-22f,
                                       -0x1.f2179ap-19f,
                                       -0x1.2c77b8p-18f,
                                       0x1.053e34p-17f,
                                       -0x1.3b5396p-18f};
struct Exp2Tables {
  alignas(64) float heads[kTableSize], tails[kTableSize];
};
inline constexpr Exp2Tables kExp2Tables = [] {
  Exp2Tables t{};
  for (int j = 0; j < kTableSize; ++j) {
    t.heads[j] = kExp2Heads[32 / kTableSize * j];
    t.tails[j] = kExp2Tails[32 / kTableSize * j];
  }
  return t;
}();

// The lanes that binary32 leaves in doubt decide this for all.
[[gnu::noinline]] inline F32 exp2_in_binary64(F32 x) {
  const Wide y = map(widen(clamp(x, kExpLimit)), [](F64 v) {
    const F64 t = v + all64(kToInteger);
    return exp2_of_parts(t, v - (t - all64(kToInteger)));
  });
  return keep_nan(x, round_checked(y, x, exp2_f32, kExpError));
}

VB_INLINE F32 exp2(F32 x) {
  const F32 integer = all(0x1.8p23f / kTableSize), t = x + integer, f = x - (t - integer);
  const I32 steps = bits_of(t);
  const F32 head = look_up(load_table(kExp2Tables.heads), steps),
            tail = look_up(load_table(kExp2Tables.tails), steps);
  F32 rest = all(0x1.5d8cp-10f);
  for (const float c : {0x1.3b2fc6p-7f, 0x1.c6b08ep-5f, 0x1.ebfbep-3f, 0x1.c85fep-10f})
    rest = fma(rest, f, all(c));
  rest = rest * f;
  const F32 rise = head * all(kExp2Slope), y = fma(rise, f, head);
  rest = fma(head, rest, fma(tail, fma(head, rest, y), fma(rise, f, head - y)));
  const F32 below_it = y + (rest - all(kExp2Error)), above_it = y + (rest + all(kExp2Error));
  if (bits(differs(below_it, above_it) | below(all(126), absolute(x))) != 0) [[unlikely]]
    return exp2_in_binary64(x);
  constexpr int kStepBits = kTableSize == 32 ? 5 : 3;
  return float_of(bits_of(below_it) +
                  (shift_left<23 - kStepBits>(steps) & all_int(static_cast<int>(0xFF800000))));
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

// erf x for 0 <= x <= kErfLimit, from where on it rounds to 1.
inline constexpr float kErfLimit = 0x1.f8p+1f;
#if defined(__AVX512F__)
inline constexpr double kErfError = 0x1p-41;
// Coefficients from registers: two shuffles for eight of them, where gathering took as long as all
// else.
VB_INLINE F64 erf_core(F64 x) {
  const F64 t = fma(x, all64(1 / kErfStep), all64(kToInteger));
  const F64 d = fma(t - all64(kToInteger), all64(-kErfStep), x);
  constexpr int kDegree = sizeof kErfQuotient / sizeof kErfQuotient[0] - 1;
  F64 sum = look_up(kErfQuotient[kDegree], t);
  VB_UNROLL
  for (int k = kDegree - 1; k >= 0; --k) sum = fma(sum, d, look_up(kErfQuotient[k], t));
  return x * sum;
}
#else
inline constexpr double kErfError = 0x1p-45;
// The formula of repops/unary_core.h's erf_positive.
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
#endif
VB_INLINE F32 erf(F32 x) {
  const F32 magnitude = minimum_number(absolute(x), all(kErfLimit));
  const Wide y = map(widen(magnitude), [](F64 v) { return erf_core(v); });
  return keep_nan(x, with_sign_of(round_checked(y, absolute(x), erf_f32, kErfError), x));
}

}  // namespace verbatim::VB_TARGET
