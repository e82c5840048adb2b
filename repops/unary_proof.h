// The oracle of `prove unary`, for the host and the GPU (proven() in unary.h): double-double
// throughout, and no rounding that its error could change.
#pragma once

#include <optional>

#include <verbatim/repops/unary_f64.h>

namespace verbatim::unary {

// The binary64 functions are right to 1 ulp, 2^-52; double-double to 2^-95 (unary_core.h).
inline constexpr double kDoubleError = 0x1p-50;
inline constexpr double kDoubleDoubleError = 0x1p-92;

// f(x) in double-double, for x where f is finite, not saturated, and near no pole.
VB_HOST_DEVICE inline DoubleDouble value_of(Unary f, double x) {
  const DoubleDouble v(x), size(std::abs(x));
  const auto odd = [x](DoubleDouble y) { return x < 0 ? -y : y; };
  switch (f) {
    case Unary::exp:
      return exp_value(v);
    case Unary::exp2:
      return exp2_value(v);
    case Unary::expm1:
      return expm1_value(v);
    case Unary::log:
      return log_value<DoubleDouble>(v);
    case Unary::log2:
      return log_value<DoubleDouble>(v) * kInverseLn2;
    case Unary::log10:
      return log_value<DoubleDouble>(v) * kInverseLn10;
    case Unary::log1p:
      return log1p_value(v);
    case Unary::sin:
      return odd(sin_value(size));
    case Unary::cos:
      return cos_value(size);
    case Unary::tan:
      return odd(tan_value(size));
    case Unary::asin:
      return odd(angle_of(size, cofunction(size)));
    case Unary::acos:
      return angle_of(cofunction(v), v);
    case Unary::atan:
      return odd(angle_of(size, DoubleDouble(1)));
    case Unary::sinh:
      return odd(sinh_positive(size));
    case Unary::cosh:
      return cosh_value(size);
    case Unary::tanh:
      return odd(tanh_value(size));
    case Unary::asinh:
      return odd(asinh_positive(size));
    case Unary::acosh:
      return acosh_value(v);
    case Unary::atanh:
      return odd(atanh_positive(size));
    case Unary::erf:
      return odd(erf_positive(size));
    case Unary::sigmoid:
      return sigmoid_value(v);
    case Unary::softplus:
      return softplus_value(v);
    case Unary::cbrt:
      return odd(cbrt_positive(size));
  }
  return {};
}

VB_HOST_DEVICE inline std::optional<float> proven(Unary f, float x) {
  const double y = f64::evaluate(f, static_cast<double>(x));
  if (is_nan(y)) return float_of(kNanBits);
  if (y == 0 || std::abs(y) > 0x1p200 || rounds_safely(y, kDoubleError))
    return static_cast<float>(y);
  if (f == Unary::exp2 && x == -150) return 0.0f;  // half of the least subnormal: to even
  const DoubleDouble v = value_of(f, static_cast<double>(x));
  const double error = std::abs(v.hi) * kDoubleDoubleError;
  const float low = round_once(fast_two_sum(v.hi, v.lo - error)),
              high = round_once(fast_two_sum(v.hi, v.lo + error));
  if (bits_of(low) != bits_of(high)) return std::nullopt;
  return low;
}

}  // namespace verbatim::unary
