// The elementary functions of binary32, correctly rounded, for the host and the GPU: unary.h says
// what they give. After Ziv: evaluate in binary64; where the error bound leaves the rounding in
// doubt, evaluate again in double-double. Exact and midpoint results: see each function.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <verbatim/repops/semantics.h>
#include <verbatim/repops/unary.h>
#include <verbatim/repops/unary_core.h>

namespace verbatim::unary::f32 {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::bit_cast<float>(kNanBits);

template <class Function>
[[gnu::noinline, gnu::cold]] VB_HOST_DEVICE float round_slowly(Function f, double x) {
  return round_once(f(DoubleDouble(x)));
}

// f(x) rounded once; f is a formula that takes either precision.
template <class Function>
VB_HOST_DEVICE inline float rounded(Function f, double x) {
  const double y = f(x);
  if (rounds_safely(y, kFastError)) [[likely]]
    return static_cast<float>(y);
  return round_slowly(f, x);
}

// The same for an odd f, whose formula takes x >= 0.
template <class Function>
VB_HOST_DEVICE inline float rounded_odd(Function f, double x) {
  const float y = rounded(f, std::abs(x));
  return std::signbit(x) ? -y : y;
}

// For functions that are constant, zero or infinite in binary32 beyond +-limit.
VB_HOST_DEVICE inline double clamp(float x, double limit) {
  return std::clamp<double>(x, -limit, limit);
}

// Beyond +-200 every result is infinite, zero or saturated, and e^200 is an ordinary binary64.
inline constexpr double kExpLimit = 200;

// A logarithm with its factor: NaN below 0, pole at 0.
template <class Function>
VB_HOST_DEVICE inline float logarithm(Function f, float x) {
  if (!(x >= 0)) return kNaN;
  if (x == 0) return -kInfinity;
  if (x == kInfinity) return x;
  return rounded(f, x);
}

VB_HOST_DEVICE inline float exp(float x) {
  if (is_nan(x)) return kNaN;
  return rounded([](auto v) { return exp_value(v); }, clamp(x, kExpLimit));
}

// The one midpoint, exp2(-150), comes out exactly in double-double and rounds to even, +0.
VB_HOST_DEVICE inline float exp2(float x) {
  if (is_nan(x)) return kNaN;
  return rounded([](auto v) { return exp2_value(v); }, clamp(x, kExpLimit));
}

VB_HOST_DEVICE inline float expm1(float x) {
  if (is_nan(x)) return kNaN;
  if (x == 0) return x;
  return rounded([](auto v) { return expm1_value(v); }, clamp(x, kExpLimit));
}

VB_HOST_DEVICE inline float log(float x) {
  return logarithm([](auto v) { return log_value<decltype(v)>(v); }, x);
}

VB_HOST_DEVICE inline float log2(float x) {
  return logarithm([]<class Real>(Real v) { return log_value<Real>(v) * as<Real>(kInverseLn2); },
                   x);
}

VB_HOST_DEVICE inline float log10(float x) {
  return logarithm([]<class Real>(Real v) { return log_value<Real>(v) * as<Real>(kInverseLn10); },
                   x);
}

VB_HOST_DEVICE inline float log1p(float x) {
  if (!(x >= -1)) return kNaN;
  if (x == -1) return -kInfinity;
  if (x == 0 || x == kInfinity) return x;
  return rounded([](auto v) { return log1p_value(v); }, x);
}

VB_HOST_DEVICE inline float sin(float x) {
  if (!(std::abs(x) < kInfinity)) return kNaN;
  return rounded_odd([](auto v) { return sin_value(v); }, x);
}

VB_HOST_DEVICE inline float cos(float x) {
  if (!(std::abs(x) < kInfinity)) return kNaN;
  return rounded([](auto v) { return cos_value(v); }, std::abs(x));
}

VB_HOST_DEVICE inline float tan(float x) {
  if (!(std::abs(x) < kInfinity)) return kNaN;
  return rounded_odd([](auto v) { return tan_value(v); }, x);
}

VB_HOST_DEVICE inline float asin(float x) {
  if (!(std::abs(x) <= 1)) return kNaN;
  return rounded_odd([](auto v) { return angle_of(v, cofunction(v)); }, x);
}

VB_HOST_DEVICE inline float acos(float x) {
  if (!(std::abs(x) <= 1)) return kNaN;
  return rounded([](auto v) { return angle_of(cofunction(v), v); }, x);
}

VB_HOST_DEVICE inline float atan(float x) {
  if (is_nan(x)) return kNaN;
  const float bounded = std::clamp(x, -0x1p100f, 0x1p100f);  // beyond: +-pi/2
  return rounded_odd([]<class Real>(Real v) { return angle_of(v, Real(1)); }, bounded);
}

VB_HOST_DEVICE inline float sinh(float x) {
  if (is_nan(x)) return kNaN;
  return rounded_odd([](auto v) { return sinh_positive(v); }, clamp(x, kExpLimit));
}

VB_HOST_DEVICE inline float cosh(float x) {
  if (is_nan(x)) return kNaN;
  return rounded([](auto v) { return cosh_value(v); }, std::abs(clamp(x, kExpLimit)));
}

VB_HOST_DEVICE inline float tanh(float x) {
  if (is_nan(x)) return kNaN;
  return rounded_odd([](auto v) { return tanh_value(v); }, clamp(x, 20));
}

VB_HOST_DEVICE inline float asinh(float x) {
  if (is_nan(x)) return kNaN;
  if (std::abs(x) == kInfinity) return x;
  return rounded_odd([](auto v) { return asinh_positive(v); }, x);
}

VB_HOST_DEVICE inline float acosh(float x) {
  if (!(x >= 1)) return kNaN;
  if (x == kInfinity) return x;
  return rounded([](auto v) { return acosh_value(v); }, x);
}

VB_HOST_DEVICE inline float atanh(float x) {
  if (!(std::abs(x) <= 1)) return kNaN;
  if (std::abs(x) == 1) return x * kInfinity;
  return rounded_odd([](auto v) { return atanh_positive(v); }, x);
}

VB_HOST_DEVICE inline float erf(float x) {
  if (is_nan(x)) return kNaN;
  return rounded_odd([](auto v) { return erf_positive(v); }, clamp(x, 4));
}

VB_HOST_DEVICE inline float sigmoid(float x) {
  if (is_nan(x)) return kNaN;
  return rounded([](auto v) { return sigmoid_value(v); }, clamp(x, kExpLimit));
}

VB_HOST_DEVICE inline float softplus(float x) {
  if (is_nan(x)) return kNaN;
  if (x > kExpLimit) return x;
  return rounded([](auto v) { return softplus_value(v); }, clamp(x, kExpLimit));
}

VB_HOST_DEVICE inline float cbrt(float x) {
  if (is_nan(x)) return kNaN;
  if (x == 0 || std::abs(x) == kInfinity) return x;
  return rounded_odd([](auto v) { return cbrt_positive(v); }, x);
}

VB_HOST_DEVICE inline float evaluate(Unary f, float x) {
  switch (f) {
#define VB_CASE(name) \
  case Unary::name:   \
    return name(x);
    VB_UNARY_FUNCTIONS(VB_CASE)
#undef VB_CASE
  }
  return kNaN;
}

}  // namespace verbatim::unary::f32
