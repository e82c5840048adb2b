// The elementary functions of binary64 tensors: the double-double formulas of unary_core.h with
// binary64's range around them. Deterministic, below 1 ulp, not correctly rounded.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <verbatim/repops/semantics.h>
#include <verbatim/repops/unary.h>
#include <verbatim/repops/unary_core.h>

namespace verbatim {
namespace {

using namespace unary;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::bit_cast<double>(kDoubleNanBits);

// Below this an odd function with slope 1 at 0 is its argument, and above its inverse the
// double-double products would leave their range.
constexpr double kTiny = 0x1p-300;
constexpr double kHuge = 0x1p300;

// e^x is infinite and e^-x is 0 well before this.
constexpr double kExpLimit = 760;

double with_sign_of(double x, double y) { return std::signbit(x) ? -y : y; }

// e^x over all of binary64's range. 2^512 is taken out where the double-double products would
// overflow or lose their low parts.
double exp_of(DoubleDouble x) {
  if (std::abs(x.hi) > 750) return x.hi > 0 ? kInfinity : 0;
  const int shift = x.hi > 600 ? 512 : x.hi < -600 ? -512 : 0;
  return exp_value(x - DoubleDouble(shift) * kLn2).hi * power_of_two(shift);
}

// ln x for any finite x > 0.
DoubleDouble log_of(double x) {
  const int shift = x < 0x1p-900 ? 100 : x > 0x1p900 ? -100 : 0;
  return log_value<DoubleDouble>(x * power_of_two(shift)) - DoubleDouble(shift) * kLn2;
}

double logarithm(double x, DoubleDouble factor) {
  if (!(x >= 0)) return kNaN;
  if (x == 0) return -kInfinity;
  if (x == kInfinity) return x;
  return (log_of(x) * factor).hi;
}

}  // namespace

double exp_f64(double x) { return is_nan(x) ? kNaN : exp_of(x); }

double exp2_f64(double x) {
  if (is_nan(x)) return kNaN;
  if (x > 1030) return kInfinity;
  if (x < -1080) return 0;
  const int shift = x > 800 ? 512 : x < -800 ? -512 : 0;
  return exp2_value(DoubleDouble(x - shift)).hi * power_of_two(shift);
}

double expm1_f64(double x) {
  if (is_nan(x)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  if (x > 500) return exp_of(x);
  if (x < -50) return -1;
  return expm1_value(DoubleDouble(x)).hi;
}

double log_f64(double x) { return logarithm(x, 1); }
double log2_f64(double x) { return logarithm(x, kInverseLn2); }
double log10_f64(double x) { return logarithm(x, kInverseLn10); }

double log1p_f64(double x) {
  if (!(x >= -1)) return kNaN;
  if (x == -1) return -kInfinity;
  if (std::abs(x) < kTiny) return x;
  return x > kHuge ? log_f64(x) : log1p_value(DoubleDouble(x)).hi;
}

double sin_f64(double x) {
  if (!(std::abs(x) < kInfinity)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  return with_sign_of(x, sin_value(DoubleDouble(std::abs(x))).hi);
}

double cos_f64(double x) {
  if (!(std::abs(x) < kInfinity)) return kNaN;
  return cos_value(DoubleDouble(std::abs(x))).hi;
}

double tan_f64(double x) {
  if (!(std::abs(x) < kInfinity)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  return with_sign_of(x, tan_value(DoubleDouble(std::abs(x))).hi);
}

double asin_f64(double x) {
  if (!(std::abs(x) <= 1)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  const DoubleDouble v = std::abs(x);
  return with_sign_of(x, angle_of(v, cofunction(v)).hi);
}

double acos_f64(double x) {
  if (!(std::abs(x) <= 1)) return kNaN;
  const DoubleDouble v = x;
  return angle_of(cofunction(v), v).hi;
}

double atan_f64(double x) {
  if (is_nan(x)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  const DoubleDouble v = std::min(std::abs(x), kHuge);
  return with_sign_of(x, angle_of(v, DoubleDouble(1)).hi);
}

double sinh_f64(double x) {
  if (is_nan(x)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  const DoubleDouble v = std::min(std::abs(x), kExpLimit);
  return with_sign_of(x, v.hi > 50 ? exp_of(v - kLn2) : sinh_positive(v).hi);
}

double cosh_f64(double x) {
  if (is_nan(x)) return kNaN;
  const DoubleDouble v = std::min(std::abs(x), kExpLimit);
  return v.hi > 50 ? exp_of(v - kLn2) : cosh_value(v).hi;
}

double tanh_f64(double x) {
  if (is_nan(x)) return kNaN;
  if (std::abs(x) < kTiny) return x;
  return with_sign_of(x, tanh_value(DoubleDouble(std::min(std::abs(x), 50.0))).hi);
}

double asinh_f64(double x) {
  if (is_nan(x)) return kNaN;
  if (std::abs(x) < kTiny || std::abs(x) == kInfinity) return x;
  const double v = std::abs(x);
  return with_sign_of(x, v > kHuge ? (log_of(v) + kLn2).hi : asinh_positive(DoubleDouble(v)).hi);
}

double acosh_f64(double x) {
  if (!(x >= 1)) return kNaN;
  if (x == kInfinity) return x;
  return x > kHuge ? (log_of(x) + kLn2).hi : acosh_value(DoubleDouble(x)).hi;
}

double atanh_f64(double x) {
  if (!(std::abs(x) <= 1)) return kNaN;
  if (std::abs(x) == 1) return x * kInfinity;
  if (std::abs(x) < kTiny) return x;
  return with_sign_of(x, atanh_positive(DoubleDouble(std::abs(x))).hi);
}

double erf_f64(double x) {
  if (is_nan(x)) return kNaN;
  return with_sign_of(x, erf_positive(DoubleDouble(std::min(std::abs(x), 6.0))).hi);
}

double sigmoid_f64(double x) {
  if (is_nan(x)) return kNaN;
  if (x < -500) return exp_of(x);
  return x > 500 ? 1 : sigmoid_value(DoubleDouble(x)).hi;
}

double softplus_f64(double x) {
  if (is_nan(x)) return kNaN;
  if (x < -500) return exp_of(x);
  return x > 500 ? x : softplus_value(DoubleDouble(x)).hi;
}

double cbrt_f64(double x) {
  if (is_nan(x)) return kNaN;
  if (x == 0 || std::abs(x) == kInfinity) return x;
  const double v = std::abs(x);
  const int shift = v < 0x1p-300 ? 110 : v > 0x1p300 ? -110 : 0;  // a third of the scaling
  const double third = power_of_two(-shift);
  return with_sign_of(x, cbrt_positive(DoubleDouble(v * power_of_two(3 * shift))).hi * third);
}

double pow_f64(double x, double y) {
  if (y == 0 || x == 1) return 1;
  if (is_nan(x) || is_nan(y)) return kNaN;
  const double magnitude = std::abs(x);
  if (std::abs(y) == kInfinity) {
    if (magnitude == 1) return 1;
    return (magnitude > 1) == (y > 0) ? kInfinity : 0;
  }
  const bool integer = std::abs(y) >= 0x1p52 || nearest_integer(y) == y;
  const bool odd = integer && std::abs(y) < 0x1p53 && (static_cast<int64_t>(y) & 1) != 0;
  if (x < 0 && magnitude != kInfinity && !integer) return kNaN;
  const double sign = std::signbit(x) && odd ? -1 : 1;
  if (magnitude == 0 || magnitude == kInfinity) {
    return (magnitude == 0) == (y > 0) ? sign * 0.0 : sign * kInfinity;
  }
  if (magnitude == 1) return sign;
  const DoubleDouble log_x = log_of(magnitude);
  // Without this the double-double product could overflow; the result is 0 or infinite anyway.
  const double bound = 2000 / std::abs(log_x.hi);
  return sign * exp_of(log_x * DoubleDouble(std::clamp(y, -bound, bound)));
}

double evaluate(Unary f, double x) {
  using Function = double (*)(double);
  static constexpr Function kFunctions[kUnaryCount] = {
      // in the order of the enumeration
      exp_f64,   exp2_f64,  expm1_f64, log_f64,  log2_f64,    log10_f64,    log1p_f64, sin_f64,
      cos_f64,   tan_f64,   asin_f64,  acos_f64, atan_f64,    sinh_f64,     cosh_f64,  tanh_f64,
      asinh_f64, acosh_f64, atanh_f64, erf_f64,  sigmoid_f64, softplus_f64, cbrt_f64};
  return kFunctions[static_cast<size_t>(f)](x);
}

}  // namespace verbatim
