// The formulas of the elementary functions, each written once and evaluated at two precisions:
// Real = double is the fast value, Real = DoubleDouble the one that decides doubtful roundings.
//
// The contract fixes only the correctly rounded result, so a vector kernel is free to evaluate the
// binary64 formulas (exp_value, erf_positive, ...) in any order that keeps the stated bound: where
// rounds_safely(y, kFastError) is false it must call the scalar function of unary.h, and the bits
// then agree.
//
// Error bounds, for operands that are binary32. A truncated series leaves less than 2^-51 in
// binary64 and 2^-104 in double-double, as stated at each. Every other step is one operation of
// relative error 2^-53, or at most 15 * 2^-106. At most 6 leading bits cancel: in expm1 next to its
// first step and in logarithms next to their first table entry. The chains are short (under 20
// operations after the series' inner terms, whose errors are scaled down), so the totals stay below
// 2^-47 and 2^-95; kFastError leaves two bits more. The double-double value rounds directly: no
// binary32 has a result within a relative 2^-90 of a rounding boundary but those that are exact.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include <verbatim/repops/device.h>
#include <verbatim/repops/double_double.h>
#include <verbatim/repops/unary_tables.h>

// The functions in the order of their enumeration, for what is written once for each.
#define VB_UNARY_FUNCTIONS(X)                                                                    \
  X(exp)                                                                                         \
  X(exp2) X(expm1) X(log) X(log2) X(log10) X(log1p) X(sin) X(cos) X(tan) X(asin) X(acos) X(atan) \
      X(sinh) X(cosh) X(tanh) X(asinh) X(acosh) X(atanh) X(erf) X(sigmoid) X(softplus) X(cbrt)

namespace verbatim::unary {

inline constexpr double kFastError = 0x1p-45;

// True where every real number within a relative `error` of y rounds to the same binary32,
// (float)y. Holds in the subnormal range and beyond the largest binary32 too.
VB_HOST_DEVICE inline bool rounds_safely(double y, double error) {
  return static_cast<float>(y - y * error) == static_cast<float>(y + y * error);
}

// v rounded once to binary32: v.hi is first rounded to odd, so that the low part is not forgotten
// where v.hi is a midpoint.
VB_HOST_DEVICE inline float round_once(DoubleDouble v) {
  uint64_t bits = std::bit_cast<uint64_t>(v.hi);
  if (v.lo != 0 && (bits & 1) == 0) {
    const bool away_from_zero = (v.lo < 0) == (v.hi < 0);
    bits = away_from_zero ? bits + 1 : bits - 1;
  }
  return static_cast<float>(std::bit_cast<double>(bits));
}

template <class Real>
inline constexpr bool kIsFast = std::is_same_v<Real, double>;

constexpr double head(double x) { return x; }
constexpr double head(DoubleDouble x) { return x.hi; }

// A constant, or an intermediate DoubleDouble, at the precision of Real.
template <class Real>
constexpr Real as(DoubleDouble c) {
  if constexpr (kIsFast<Real>) {
    return c.hi;
  } else {
    return c;
  }
}

// 2^n for -1022 <= n <= 1023.
constexpr double power_of_two(int n) {
  return std::bit_cast<double>(static_cast<uint64_t>(n + 1023) << 52);
}

constexpr double scale(double x, double factor) { return x * factor; }
constexpr DoubleDouble scale(DoubleDouble x, double factor) {  // exact for a power of two
  return {x.hi * factor, x.lo * factor};
}

// first[0] + first[step] * z + first[2 * step] * z^2 + ..., `terms` of them.
template <int kTerms, int kStep = 1, class Real>
constexpr Real horner(Real z, const DoubleDouble* first) {
  Real sum = as<Real>(first[(kTerms - 1) * kStep]);
  for (int i = kTerms - 2; i >= 0; --i) sum = sum * z + as<Real>(first[i * kStep]);
  return sum;
}

// ---- Exponential --------------------------------------------------------------------------------

// e^x = scale * (1 + rest), scale = 2^(k / 16).
template <class Real>
struct ExpParts {
  Real scale;
  Real rest;
};

// e^r - 1 for |r| < 0.0217 (ln 2 / 32 and a little): Taylor to r^7 (left out: r^7 / 8! < 2^-53
// relative to r) or r^14 (2^-115).
template <class Real>
constexpr Real expm1_series(Real r) {
  return r + r * r * horner<(kIsFast<Real> ? 6 : 13)>(r, &kInverseFactorial[2]);
}

// The integer nearest to v (|v| < 2^51), by rounding at the binary point.
constexpr double nearest_integer(double v) {
  constexpr double kRound = 0x1.8p52;
  return (v + kRound) - kRound;
}

template <class Real>
constexpr ExpParts<Real> exp_parts_of_step(double k, Real r) {
  const int steps = static_cast<int>(k);
  const Real table = as<Real>(kExp2Table[steps & 15]);
  return {scale(table, power_of_two(steps >> 4)), expm1_series(r)};
}

// |x| <= 700. The product k * kExpStepHead and, in binary64, its subtraction from x are exact.
template <class Real>
constexpr ExpParts<Real> exp_parts(Real x) {
  const double k = nearest_integer(head(x) * kExpPerStep);
  const Real r = (x - Real(k * kExpStepHead)) - Real(k) * as<Real>(kExpStepTail);
  return exp_parts_of_step(k, r);
}

template <class Real>
constexpr Real exp_value(Real x) {
  const ExpParts<Real> p = exp_parts(x);
  return p.scale + p.scale * p.rest;
}

template <class Real>
constexpr Real exp2_value(Real x) {
  const double k = nearest_integer(head(x) * 16);
  const Real r = (x - Real(k * 0x1p-4)) * as<Real>(kLn2);
  const ExpParts<Real> p = exp_parts_of_step(k, r);
  return p.scale + p.scale * p.rest;
}

template <class Real>
constexpr Real expm1_value(Real x) {
  const ExpParts<Real> p = exp_parts(x);
  return (p.scale - Real(1)) + p.scale * p.rest;
}

// ---- Logarithm ----------------------------------------------------------------------------------

// ln(1 + r) for |r| < 0.0125: Taylor to r^8 (left out: r^8 / 9 < 2^-53 relative to r), or
// 2 atanh(s), s = r / (2 + r), to s^17 (s^18 / 19 < 2^-135).
template <class Real>
constexpr Real log1p_series(Real r) {
  if constexpr (kIsFast<Real>) {
    return r - r * r * horner<7>(-r, &kInverseInteger[2]);
  } else {
    const Real s = r / (Real(2) + r);
    const Real z = s * s;
    return scale(s + s * z * horner<8, 2>(z, &kInverseInteger[3]), 2);
  }
}

// ln a for 2^-1000 < a < 2^1000. a = 2^e * m with m in [11/16, 11/8), m * inverse = 1 + r with
// inverse from the table. Around a = 1 that is e = 0 and inverse = 1, so nothing cancels there.
template <class Real>
constexpr Real log_value(DoubleDouble a) {
  constexpr uint64_t kLowest = 0x3FE6000000000000;  // 11/16
  const uint64_t bits = std::bit_cast<uint64_t>(a.hi);
  const int e = static_cast<int>(static_cast<int64_t>(bits - kLowest) >> 52);
  const double m = std::bit_cast<double>(bits - (static_cast<uint64_t>(e) << 52));
  const double m_lo = a.lo * power_of_two(-e);
  const LogEntry& entry = kLogTable[static_cast<int>(m * 64 + 0.5) - 44];
  if constexpr (kIsFast<Real>) {
    // inverse has at most 11 bits: the product with the leading 41 bits of m is exact.
    const double m_top = std::bit_cast<double>(std::bit_cast<uint64_t>(m) & ~uint64_t{0xFFF});
    const double r = (m_top * entry.inverse - 1) + ((m - m_top) + m_lo) * entry.inverse;
    return (e * kLn2.hi + entry.log.hi) + log1p_series(r);
  } else {
    const DoubleDouble r = DoubleDouble(m, m_lo) * DoubleDouble(entry.inverse) - DoubleDouble(1);
    return (DoubleDouble(e) * kLn2 + entry.log) + log1p_series(r);
  }
}

// ln(1 + t) for t > -1.
template <class Real>
constexpr Real log1p_value(Real t) {
  if (head(t) < 0x1p-7 && head(t) > -0x1p-7) return log1p_series(t);
  if constexpr (kIsFast<Real>) {
    return log_value<Real>(two_sum(1, t));
  } else {
    return log_value<Real>(DoubleDouble(1) + t);
  }
}

// ---- Trigonometry -------------------------------------------------------------------------------

struct Angle {
  int quadrant;           // modulo 4
  DoubleDouble fraction;  // of a quarter turn, in [-1/2, 1/2]
};

inline constexpr uint64_t kLow32 = 0xFFFFFFFF;

// x * 2 / pi modulo 4 in 256 bits, most significant word first; the last bit has weight 2^-254.
struct QuarterTurns {
  uint64_t words[4];
};

VB_HOST_DEVICE inline QuarterTurns quarter_turns(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  uint64_t m = (bits & 0xFFFFFFFFFFFFF) | 0x10000000000000;
  int e = static_cast<int>(bits >> 52) - 1075;  // x = m * 2^e
  if ((m & 0x1FFFFFFF) == 0) {                  // a binary32: its 24 bits fill one word
    m >>= 29;
    e += 29;
  }

  // The window of 2 / pi from the bit whose product with 2^e has weight 2 (the bits before it give
  // multiples of 4), as 8 words, least significant first.
  const int start = e + 62;
  const int skip = start & 31;
  const int first = start >> 5;
  uint64_t window[8];
  for (int i = 0; i < 8; ++i) {
    const uint64_t two = (uint64_t{kTwoOverPi[first + 7 - i]} << 32) | kTwoOverPi[first + 8 - i];
    window[i] = ((two << skip) >> 32) & kLow32;
  }

  uint64_t product[8] = {};
  for (int shift = 0; shift < 2; ++shift) {
    const uint64_t factor = shift == 0 ? m & kLow32 : m >> 32;
    if (factor == 0) continue;
    uint64_t carry = 0;
    for (int i = shift; i < 8; ++i) {
      carry += factor * window[i - shift] + product[i];
      product[i] = carry & kLow32;
      carry >>= 32;
    }
  }
  QuarterTurns turns;
  for (int i = 0; i < 4; ++i) {
    turns.words[i] = (product[7 - 2 * i] << 32) | product[6 - 2 * i];
  }
  return turns;
}

// The 106 leading bits of the fraction 0.f[0] f[1] f[2] f[3].
VB_HOST_DEVICE inline DoubleDouble leading_bits(const uint64_t (&f)[4]) {
  int first = 0;
  while (first < 3 && f[first] == 0) ++first;
  const auto word = [&](int i) { return i < 4 ? f[i] : 0; };
  const int zeros = 63 - top_bit(f[first]);
  uint64_t top = f[first];
  uint64_t next = word(first + 1);
  if (zeros > 0) {
    top = (top << zeros) | (next >> (64 - zeros));
    next = (next << zeros) | (word(first + 2) >> (64 - zeros));
  }
  const double hi = static_cast<double>(top >> 11) * 0x1p-53;
  const double lo = static_cast<double>(((top & 0x7FF) << 42) | (next >> 22)) * 0x1p-106;
  return scale(fast_two_sum(hi, lo), power_of_two(-64 * first - zeros));
}

// x = (quadrant + fraction) * pi / 2 modulo 2 pi, for any finite x >= 1/2, the fraction to about
// 2^-200 (Payne and Hanek, "Radian reduction for trigonometric functions", 1983). The nearest that
// a binary64 comes to a multiple of pi / 2 is about 2^-62.
VB_HOST_DEVICE inline Angle reduce(double x) {
  auto [f] = quarter_turns(x);
  // 2 bits of quadrant, 254 of fraction; a fraction above 1/2 counts down from the next quadrant.
  int quadrant = static_cast<int>(f[0] >> 62);
  const bool counts_down = ((f[0] >> 61) & 1) != 0;
  if (counts_down) {
    ++quadrant;
    for (uint64_t& word : f) word = ~word;  // negated but for the last bit
  }
  f[0] &= 0x3FFFFFFFFFFFFFFF;
  const DoubleDouble fraction = scale(leading_bits(f), 4);
  return {quadrant & 3, counts_down ? -fraction : fraction};
}

// sin r for |r| <= pi / 4, to r^15 (left out: r^16 / 17! < 2^-53) or r^29 (2^-118).
template <class Real>
constexpr Real sin_series(Real r) {
  const Real z = r * r;
  Real sum = as<Real>(kInverseFactorial[kIsFast<Real> ? 15 : 29]);
  for (int n = kIsFast<Real> ? 13 : 27; n >= 3; n -= 2) {
    sum = as<Real>(kInverseFactorial[n]) - z * sum;
  }
  return r - r * (z * sum);
}

// cos r for |r| <= pi / 4, to r^16 (left out: r^18 / 18! < 2^-58) or r^28 (2^-117).
template <class Real>
constexpr Real cos_series(Real r) {
  const Real z = r * r;
  Real sum = as<Real>(kInverseFactorial[kIsFast<Real> ? 16 : 28]);
  for (int n = kIsFast<Real> ? 14 : 26; n >= 2; n -= 2) {
    sum = as<Real>(kInverseFactorial[n]) - z * sum;
  }
  return Real(1) - z * sum;
}

// x >= 0 in what follows.
template <class Real>
struct Reduced {
  int quadrant;
  Real r;
};

template <class Real>
VB_HOST_DEVICE Reduced<Real> reduce_as(Real x) {
  if (head(x) < 0.75) return {0, x};
  if (kIsFast<Real> && head(x) < 0x1p20) {
    // Cody and Waite: k and the head of pi / 2 have 53 bits together, x - k * head is exact, and
    // every further rounding is relative to the result, which is above 2^-30 for a binary32.
    const double k = nearest_integer(head(x) * kQuarterTurnsPerRadian);
    const double r = ((head(x) - k * kHalfPiHead) - k * kHalfPiMiddle) - k * kHalfPiTail;
    return {static_cast<int>(k) & 3, r};
  }
  const Angle a = reduce(head(x));
  return {a.quadrant, as<Real>(a.fraction) * as<Real>(kHalfPi)};
}

// sin(r + quadrant * pi / 2).
template <class Real>
constexpr Real sin_in_quadrant(int quadrant, Real r) {
  const Real v = (quadrant & 1) != 0 ? cos_series(r) : sin_series(r);
  return (quadrant & 2) != 0 ? -v : v;
}

template <class Real>
VB_HOST_DEVICE Real sin_value(Real x) {
  const Reduced<Real> a = reduce_as(x);
  return sin_in_quadrant(a.quadrant, a.r);
}

template <class Real>
VB_HOST_DEVICE Real cos_value(Real x) {
  const Reduced<Real> a = reduce_as(x);
  return sin_in_quadrant(a.quadrant + 1, a.r);
}

template <class Real>
VB_HOST_DEVICE Real tan_value(Real x) {
  const Reduced<Real> a = reduce_as(x);
  const Real s = sin_series(a.r);
  const Real c = cos_series(a.r);
  return (a.quadrant & 1) != 0 ? -(c / s) : s / c;
}

// atan(y / x) for 0 <= y <= x, x > 0. With c = i / 16 next to y / x: atan(c) + atan(t),
// t = (y - c x) / (x + c y), |t| <= 1/32 and a little; series to t^11 (left out: t^12 / 13 < 2^-63)
// or t^23 (2^-124).
template <class Real>
constexpr Real atan_ratio(Real y, Real x) {
  const int i = static_cast<int>(head(y) / head(x) * 16 + 0.5);
  const Real c = i * 0x1p-4;
  const Real t = (y - c * x) / (x + c * y);
  const Real z = -(t * t);
  const Real rest = t * (z * horner<(kIsFast<Real> ? 5 : 11), 2>(z, &kInverseInteger[3]));
  return as<Real>(kAtanTable[i]) + (t + rest);
}

// The angle of the point (x, y), y >= 0, in [0, pi].
template <class Real>
constexpr Real angle_of(Real y, Real x) {
  const bool left = head(x) < 0;
  if (left) x = -x;
  const Real a = head(y) <= head(x) ? atan_ratio(y, x) : as<Real>(kHalfPi) - atan_ratio(x, y);
  return left ? as<Real>(kPi) - a : a;
}

// ---- Error function and cube root ---------------------------------------------------------------

// erf x for 0 <= x <= 4. With c = i / 64 next to x and d = x - c:
// erf(c + d) = erf(c) + erf'(c) * g, g the integral from 0 to d of e^(-2cu - u^2) = sum of b_n u^n,
// b_(n+1) = -2 (c b_n + b_(n-1)) / (n + 1). |d| <= 1/128 and the sum to n = 6 leave less than
// 2^-53.
constexpr double erf_positive(double x) {
  const int i = static_cast<int>(x * 64 + 0.5);
  const ErfEntry& entry = kErfTable[i];
  const double c = i * 0x1p-6;
  const double d = x - c;
  const double b1 = -2 * c;
  const double b2 = -(c * b1 + 1);
  const double b3 = (-2.0 / 3) * (c * b2 + b1);
  const double b4 = -0.5 * (c * b3 + b2);
  const double b5 = -0.4 * (c * b4 + b3);
  const double b6 = (-1.0 / 3) * (c * b5 + b4);
  const double tail =
      b2 * (1.0 / 3) +
      d * (b3 * 0.25 + d * (b4 * 0.2 + d * (b5 * (1.0 / 6) + d * (b6 * (1.0 / 7)))));
  const double g = d + d * d * (b1 * 0.5 + d * tail);
  return entry.value + entry.slope * g;
}

// erf x for 0 <= x <= 6 by Kummer's series, whose terms are all positive:
// 2 / sqrt(pi) * x * e^(-x^2) * (1 + 2x^2/3 + (2x^2)^2/(3 * 5) + ...).
constexpr DoubleDouble erf_positive(DoubleDouble x) {
  const DoubleDouble square = x * x;
  const DoubleDouble twice = scale(square, 2);
  DoubleDouble term = 1;
  DoubleDouble sum = 1;
  for (int n = 3; term.hi > sum.hi * 0x1p-110; n += 2) {
    term = term * twice / DoubleDouble(n);
    sum = sum + term;
  }
  return kTwoOverSqrtPi * x * exp_value(-square) * sum;
}

// The cube root of a normal a > 0. A third of the bit pattern is right to 1/29; Halley's step cubes
// the error, twice, and Newton's squares it.
constexpr double cbrt_fast(double a) {
  constexpr uint64_t kOffset = 0x2A9F7893'782DA1CE;
  double y = std::bit_cast<double>(std::bit_cast<uint64_t>(a) / 3 + kOffset);
  for (int i = 0; i < 2; ++i) {
    const double cube = y * y * y;
    y = y * (cube + 2 * a) / (2 * cube + a);
  }
  return y - (y * y * y - a) / (3 * y * y);
}

template <class Real>
constexpr Real cbrt_positive(Real a) {
  const double y = cbrt_fast(head(a));
  if constexpr (kIsFast<Real>) {
    return y;
  } else {
    // One Newton step from y, right to 2^-51, squares that.
    const DoubleDouble square = two_product(y, y);
    return DoubleDouble(y) + (a - square * DoubleDouble(y)) / (DoubleDouble(3) * square);
  }
}

// ---- Functions made of these --------------------------------------------------------------------
// Odd functions take x >= 0 where their name says so.

template <class Real>
constexpr Real sinh_positive(Real x) {
  const Real e = expm1_value(x);
  return scale(e + e / (e + Real(1)), 0.5);
}

template <class Real>
constexpr Real cosh_value(Real x) {
  const Real e = exp_value(x);
  return scale(e + Real(1) / e, 0.5);
}

template <class Real>
constexpr Real tanh_value(Real x) {
  const Real e = expm1_value(scale(x, 2));
  return e / (e + Real(2));
}

template <class Real>
constexpr Real sigmoid_value(Real x) {
  return Real(1) / (Real(1) + exp_value(-x));
}

template <class Real>
constexpr Real softplus_value(Real x) {
  return head(x) > 0 ? x + log1p_value(exp_value(-x)) : log1p_value(exp_value(x));
}

template <class Real>
VB_HOST_DEVICE Real asinh_positive(Real x) {
  using std::sqrt;
  const Real square = x * x;
  return log1p_value(x + square / (Real(1) + sqrt(square + Real(1))));
}

template <class Real>
VB_HOST_DEVICE Real acosh_value(Real x) {
  using std::sqrt;
  const Real d = x - Real(1);
  return log1p_value(d + sqrt(d * (x + Real(1))));
}

template <class Real>
constexpr Real atanh_positive(Real x) {
  return scale(log1p_value(scale(x, 2) / (Real(1) - x)), 0.5);
}

// sqrt(1 - x^2), |x| <= 1.
template <class Real>
VB_HOST_DEVICE Real cofunction(Real x) {
  using std::sqrt;
  return sqrt((Real(1) - x) * (Real(1) + x));
}

}  // namespace verbatim::unary
