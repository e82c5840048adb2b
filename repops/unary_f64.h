// The elementary functions of binary64, for the host and the GPU: the double-double formulas of
// unary_core.h with binary64's range around them. Deterministic, below 1 ulp, not correctly
// rounded.
#pragma once

#include <bit>
#include <cmath>
#include <limits>

#include <verbatim/repops/semantics.h>
#include <verbatim/repops/unary.h>
#include <verbatim/repops/unary_core.h>

namespace verbatim::unary::f64 {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr double kNaN = std::bit_cast<double>(kDoubleNanBits);

// Below this an odd function with slope 1 at 0 is its argument, and above its inverse the
// double-double products would leave their range.
inline constexpr double kTiny = 0x1p-300;
inline constexpr double kHuge = 0x1p300;

// e^x is infinite and e^-x is 0 well before this.
inline constexpr double kExpLimit = 760;

// By value: a reference to a constant of the host is none of the GPU's.
constexpr double at_most(double x, double limit) { return x < limit ? x : limit; }
VB_HOST_DEVICE inline double with_sign_of(double x, double y) { return std::signbit(x) ? -y : y; }

// e^x over all of binary64's range. 2^512 is taken out where the double-double products would
// overflow or lose their low parts.
VB_HOST_DEVICE inline double exp_of(DoubleDouble x) {
  if (std::abs(x.hi) > 750) return x.hi > 0 ? kInfinity : 0;
  const int shift = x.hi > 600 ? 512 : x.hi < -600 ? -512 : 0;
  return exp_value(x - DoubleDouble(shift) * kLn2).hi * power_of_two(shift);
}

// ln x for any finite x > 0.
VB_HOST_DEVICE inline DoubleDouble log_of(double x) {
  const int shift = x < 0x1p-900 ? 100 : x > 0x1p900 ? -100 : 0;
  return log_value<DoubleDouble>(x * power_of_two(shift)) - DoubleDouble(shift) * kLn2;
}

VB_HOST_DEVICE inline double logarithm(double x, DoubleDouble factor) {
  if (!(x >= 0)) return kNaN;
  if (x == 0) return -kInfinity;
  if (x == kInfinity) return x;
  return (log_of(x) * factor).hi;
}

VB_HOST_DEVICE inline double exp(double x) { return is_nan(x) ? kNaN : exp_of(x); }

VB_HOST_DEVICE inline double exp2(double x) {
  if (is_nan(x)) return kNaN;
  if (x > 1030) return kInfinity;
  if (x < -1080) return 0;
  const int shift = x > 800 ? 512 : x < -800 ? -512 : 0;
  return exp2_value(DoubleDouble(x - shift)).hi * power_of_two(shift);
}

VB_HOST_DEVICE inline double expm1(double x) {
  if (is_nan(x)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  if (x > 500) return exp_of(x);
  if (x < -50) return -1;
  return expm1_value(DoubleDouble(x)).hi;
}

VB_HOST_DEVICE inline double log(double x) { return logarithm(x, 1); }
VB_HOST_DEVICE inline double log2(double x) { return logarithm(x, kInverseLn2); }
VB_HOST_DEVICE inline double log10(double x) { return logarithm(x, kInverseLn10); }

VB_HOST_DEVICE inline double log1p(double x) {
  if (!(x >= -1)) return kNaN;
  if (x == -1) return -kInfinity;
  if (std::abs(x) < kTiny) return x;
  return x > kHuge ? log(x) : log1p_value(DoubleDouble(x)).hi;
}

VB_HOST_DEVICE inline double sin(double x) {
  if (!(std::abs(x) < kInfinity)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  return with_sign_of(x, sin_value(DoubleDouble(std::abs(x))).hi);
}

VB_HOST_DEVICE inline double cos(double x) {
  if (!(std::abs(x) < kInfinity)) return kNaN;
  return cos_value(DoubleDouble(std::abs(x))).hi;
}

VB_HOST_DEVICE inline double tan(double x) {
  if (!(std::abs(x) < kInfinity)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  return with_sign_of(x, tan_value(DoubleDouble(std::abs(x))).hi);
}

VB_HOST_DEVICE inline double asin(double x) {
  if (!(std::abs(x) <= 1)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  const DoubleDouble v = std::abs(x);
  return with_sign_of(x, angle_of(v, cofunction(v)).hi);
}

VB_HOST_DEVICE inline double acos(double x) {
  if (!(std::abs(x) <= 1)) return kNaN;
  const DoubleDouble v = x;
  return angle_of(cofunction(v), v).hi;
}

VB_HOST_DEVICE inline double atan(double x) {
  if (is_nan(x)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  const DoubleDouble v = at_most(std::abs(x), kHuge);
  return with_sign_of(x, angle_of(v, DoubleDouble(1)).hi);
}

VB_HOST_DEVICE inline double sinh(double x) {
  if (is_nan(x)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  const DoubleDouble v = at_most(std::abs(x), kExpLimit);
  return with_sign_of(x, v.hi > 50 ? exp_of(v - kLn2) : sinh_positive(v).hi);
}

VB_HOST_DEVICE inline double cosh(double x) {
  if (is_nan(x)) return kNaN;
  const DoubleDouble v = at_most(std::abs(x), kExpLimit);
  return v.hi > 50 ? exp_of(v - kLn2) : cosh_value(v).hi;
}

VB_HOST_DEVICE inline double tanh(double x) {
  if (is_nan(x)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  return with_sign_of(x, tanh_value(DoubleDouble(at_most(std::abs(x), 50.0))).hi);
}

VB_HOST_DEVICE inline double asinh(double x) {
  if (is_nan(x)) return kNaN;
  if (std::abs(x) < kTiny || std::abs(x) == kInfinity) return x;
  const double v = std::abs(x);
  return with_sign_of(x, v > kHuge ? (log_of(v) + kLn2).hi : asinh_positive(DoubleDouble(v)).hi);
}

VB_HOST_DEVICE inline double acosh(double x) {
  if (!(x >= 1)) return kNaN;
  if (x == kInfinity) return x;
  return x > kHuge ? (log_of(x) + kLn2).hi : acosh_value(DoubleDouble(x)).hi;
}

VB_HOST_DEVICE inline double atanh(double x) {
  if (!(std::abs(x) <= 1)) return kNaN;
  if (std::abs(x) == 1) return x * kInfinity;
  if (std::abs(x) < kTiny) return x;
  return with_sign_of(x, atanh_positive(DoubleDouble(std::abs(x))).hi);
}

VB_HOST_DEVICE inline double erf(double x) {
  if (is_nan(x)) return kNaN;
  return with_sign_of(x, erf_positive(DoubleDouble(at_most(std::abs(x), 6.0))).hi);
}

VB_HOST_DEVICE inline double sigmoid(double x) {
  if (is_nan(x)) return kNaN;
  if (x < -500) return exp_of(x);
  return x > 500 ? 1 : sigmoid_value(DoubleDouble(x)).hi;
}

VB_HOST_DEVICE inline double softplus(double x) {
  if (is_nan(x)) return kNaN;
  if (x < -500) return exp_of(x);
  return x > 500 ? x : softplus_value(DoubleDouble(x)).hi;
}

VB_HOST_DEVICE inline double cbrt(double x) {
  if (is_nan(x)) return kNaN;
  if (x == 0 || std::abs(x) == kInfinity) return x;
  const double v = std::abs(x);
  const int shift = v < 0x1p-300 ? 110 : v > 0x1p300 ? -110 : 0;  // a third of the scaling
  const double third = power_of_two(-shift);
  return with_sign_of(x, cbrt_positive(DoubleDouble(v * power_of_two(3 * shift))).hi * third);
}

VB_HOST_DEVICE inline double evaluate(Unary f, double x) {
  switch (f) {
#define VB_CASE(name) \
  case Unary::name:   \
    return name(x);
    VB_UNARY_FUNCTIONS(VB_CASE)
#undef VB_CASE
  }
  return kNaN;
}

}  // namespace verbatim::unary::f64
