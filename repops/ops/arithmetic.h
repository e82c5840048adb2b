// Scalar arithmetic of the contract beyond semantics.h: wrapping integers, IEEE square root,
// rounding to integers, maximum and minimum for every type, the exact remainder. No libm: each
// function is exact or a single IEEE operation.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <verbatim/repops/ops/number.h>

namespace verbatim {

// Calls f with a value of the tensor's C++ type if one computes in it (not bool, no
// storage-only type); an error otherwise.
template <class R, class F>
Result<R> visit_number(const Tensor& t, F&& f) {
  if (t.dtype() == DType::boolean || is_storage_only(t.dtype()) || !t.defined())
    return unsupported("element type " + std::string(name_of(t.dtype())));
  return visit_dtype<Result<R>>(
      t.dtype(), internal_error("undefined tensor"), [&](auto type) -> Result<R> {
        if constexpr (std::is_same_v<decltype(type), bool> || kStorageOnly<decltype(type)>)
          return internal_error("no number");
        else
          return f(type);
      });
}

// The same for integers.
template <class R, class F>
Result<R> visit_integer(const Tensor& t, F&& f) {
  return visit_number<R>(t, [&](auto type) -> Result<R> {
    if constexpr (std::is_integral_v<decltype(type)>)
      return f(type);
    else
      return unsupported("element type " + std::string(name_of(t.dtype())));
  });
}

// Integers wrap: modulo 2^64 first, then narrowed.
template <class C>
C add_of(C a, C b) {
  if constexpr (std::is_integral_v<C>)
    return static_cast<C>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  else
    return a + b;
}
template <class C>
VB_HOST_DEVICE C subtract_of(C a, C b) {
  if constexpr (std::is_integral_v<C>)
    return static_cast<C>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
  else
    return a - b;
}
template <class C>
C multiply_of(C a, C b) {
  if constexpr (std::is_integral_v<C>)
    return static_cast<C>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  else
    return a * b;
}
// Integers: truncated, b is not 0, and the least integer over -1 wraps.
template <class C>
C divide_of(C a, C b) {
  if constexpr (std::is_signed_v<C> && std::is_integral_v<C>) {
    if (b == -1) return subtract_of<C>(0, a);
  }
  return static_cast<C>(a / b);
}
// total / count. Integers truncate, in 64 bits: a count may be beyond their own range. count > 0.
template <class C>
C mean_of(C total, size_t count) {
  if constexpr (std::is_integral_v<C> && std::is_signed_v<C>)
    return static_cast<C>(static_cast<int64_t>(total) / static_cast<int64_t>(count));
  else if constexpr (std::is_integral_v<C>)
    return static_cast<C>(static_cast<uint64_t>(total) / static_cast<uint64_t>(count));
  else
    return total / static_cast<C>(count);
}
template <class C>
VB_HOST_DEVICE C negate_of(C a) {
  if constexpr (std::is_integral_v<C>)
    return subtract_of<C>(0, a);
  else
    return -a;
}
template <class C>
VB_HOST_DEVICE C absolute_of(C a) {
  if constexpr (std::is_floating_point_v<C>)
    return std::signbit(a) ? -a : a;
  else if constexpr (std::is_signed_v<C>)
    return a < 0 ? negate_of(a) : a;
  else
    return a;
}

// IEEE square root, one rounding.
VB_HOST_DEVICE inline float sqrt_of(float x) {
  return x < 0 ? float_of(kNanBits) : __builtin_sqrtf(x);
}
inline double sqrt_of(double x) {
  return x < 0 ? std::bit_cast<double>(kDoubleNanBits) : __builtin_sqrt(x);
}

// IEEE 754-2019 maximum and minimum for every type.
template <class C>
C maximum_of(C a, C b) {
  if constexpr (std::is_integral_v<C>)
    return a > b ? a : b;
  else
    return maximum(a, b);
}
template <class C>
C minimum_of(C a, C b) {
  if constexpr (std::is_integral_v<C>)
    return a < b ? a : b;
  else
    return minimum(a, b);
}

// From here every value is already an integer.
template <class C>
inline constexpr C kIntegral = std::is_same_v<C, float> ? C(8388608) : C(4503599627370496);

template <class C>
C with_sign_of(C magnitude, C sign) {
  return std::signbit(sign) != std::signbit(magnitude) ? -magnitude : magnitude;
}

// Rounding to an integral value, exact, the sign of zero kept.
template <class C>
C truncate_of(C x) {
  if (!(absolute_of(x) < kIntegral<C>)) return canonical(x);
  return with_sign_of(static_cast<C>(static_cast<int64_t>(x)), x);
}
template <class C>
C floor_of(C x) {
  const C t = truncate_of(x);
  return t > x ? t - 1 : t;
}
template <class C>
C ceiling_of(C x) {
  const C t = truncate_of(x);
  return t < x ? t + 1 : t;
}
template <class C>
C round_even_of(C x) {
  const C magnitude = absolute_of(x);
  if (!(magnitude < kIntegral<C>)) return canonical(x);
  return with_sign_of((magnitude + kIntegral<C>)-kIntegral<C>, x);
}

// The remainder of a / b truncated, exactly, with a's sign (C's fmod). By shift and subtract on the
// significands.
double remainder_of(double a, double b);
// Both operands and the result are exact in binary64.
inline float remainder_of(float a, float b) {
  return static_cast<float>(remainder_of(static_cast<double>(a), static_cast<double>(b)));
}

// Conversions of Cast. Floating to integer truncates, saturates, and takes NaN to 0.
template <class To>
To saturate(double x) {
  if (is_nan(x)) return 0;
  // 2^digits is exact in binary64, where the greatest integer itself may not be.
  constexpr double kBound =
      static_cast<double>(uint64_t{1} << (std::numeric_limits<To>::digits - 1)) * 2;
  if (x >= kBound) return std::numeric_limits<To>::max();
  if (x <= (std::is_signed_v<To> ? -kBound : 0.0)) return std::numeric_limits<To>::min();
  return static_cast<To>(x);
}

// A real attribute as an operand: rounded for floating types, as Cast for integers.
template <class C>
C real_to(double x) {
  if constexpr (std::is_integral_v<C>)
    return saturate<C>(x);
  else
    return static_cast<C>(x);
}

}  // namespace verbatim
