// How the reference operators see an element type: in what it is computed, and how it is loaded and
// stored.
#pragma once

#include <type_traits>
#include <utility>

#include <verbatim/core/tensor.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {

// float and double compute in themselves; the 16-bit types in binary32, exact on load, rounded once
// on store; integers in themselves. NaN is stored in its canonical form. The storage-only types are
// loaded and stored alike (the small floats saturate), but no operator computes in them.
template <class T>
inline constexpr bool kStorageOnly = is_storage_only(dtype_of<T>());
template <class T>
inline constexpr bool kSmallInteger = is_sub_byte(dtype_of<T>()) && !is_float(dtype_of<T>());
template <class T>
using Compute = std::conditional_t<
    std::is_same_v<T, Int4> || std::is_same_v<T, Int2>, int8_t,
    std::conditional_t<
        kSmallInteger<T>, uint8_t,
        std::conditional_t<
            std::is_same_v<T, Half> || std::is_same_v<T, BFloat16> || kStorageOnly<T>, float, T>>>;

template <class T>
VB_HOST_DEVICE Compute<T> load(T value) {
  if constexpr (std::is_same_v<T, Half>)
    return float_from_half(value.bits);
  else if constexpr (std::is_same_v<T, BFloat16>)
    return float_from_bfloat16(value.bits);
  else if constexpr (std::is_same_v<T, Float8E4M3>)
    return float_from_e4m3(value.bits);
  else if constexpr (std::is_same_v<T, Float8E5M2>)
    return float_from_e5m2(value.bits);
  else if constexpr (std::is_same_v<T, Float8E4M3FNUZ>)
    return float_from_e4m3fnuz(value.bits);
  else if constexpr (std::is_same_v<T, Float8E5M2FNUZ>)
    return float_from_e5m2fnuz(value.bits);
  else if constexpr (std::is_same_v<T, Float8E8M0>)
    return float_from_e8m0(value.bits);
  else if constexpr (std::is_same_v<T, Float4E2M1>)
    return float_from_e2m1(value.bits);
  else if constexpr (std::is_same_v<T, Int4>)
    return static_cast<int8_t>((value.bits ^ 8) - 8);
  else if constexpr (std::is_same_v<T, Int2>)
    return static_cast<int8_t>((value.bits ^ 2) - 2);
  else if constexpr (kSmallInteger<T>)
    return value.bits;
  else
    return value;
}

// How a value beyond a small float's range is stored, and how e8m0 rounds: Cast's attributes.
struct StoreMode {
  bool saturate = true;
  ScaleRounding rounding = ScaleRounding::up;
};

template <class T>
VB_HOST_DEVICE T store_small(Compute<T> value, StoreMode mode) {
  if constexpr (std::is_same_v<T, Float8E4M3>)
    return {e4m3_from_float(value, mode.saturate)};
  else if constexpr (std::is_same_v<T, Float8E5M2>)
    return {e5m2_from_float(value, mode.saturate)};
  else if constexpr (std::is_same_v<T, Float8E4M3FNUZ>)
    return {e4m3fnuz_from_float(value, mode.saturate)};
  else if constexpr (std::is_same_v<T, Float8E5M2FNUZ>)
    return {e5m2fnuz_from_float(value, mode.saturate)};
  else if constexpr (std::is_same_v<T, Float8E8M0>)
    return {e8m0_from_double(static_cast<double>(value), mode.saturate, mode.rounding)};
  else if constexpr (std::is_same_v<T, Float4E2M1>)
    return {e2m1_from_float(value)};
  else if constexpr (std::is_same_v<T, Int4> || std::is_same_v<T, UInt4>)
    return {static_cast<uint8_t>(value & 15)};  // wraps, as integers do
  else
    return {static_cast<uint8_t>(value & 3)};
}

template <class T>
VB_HOST_DEVICE T store(Compute<T> value) {
  if constexpr (std::is_same_v<T, Half>)
    return Half{half_from_float(value)};
  else if constexpr (std::is_same_v<T, BFloat16>)
    return BFloat16{bfloat16_from_float(value)};
  else if constexpr (kStorageOnly<T>)
    return store_small<T>(value, {});
  else if constexpr (std::is_floating_point_v<T>)
    return canonical(value);
  else
    return value;
}

// x rounded to binary32 to odd: a further rounding to a type of at most 22 bits then gives what one
// rounding would.
inline float round_to_odd(double x) {
  const auto nearest = static_cast<float>(x);
  if (is_nan(x) || static_cast<double>(nearest) == x) return nearest;
  uint32_t bits = bits_of(nearest);
  const bool beyond = x < 0 ? static_cast<double>(nearest) < x : static_cast<double>(nearest) > x;
  if (beyond) --bits;  // towards zero
  return float_of(bits | 1);
}

// A binary32 or binary64 value as a small float, rounded once.
template <class T, class C>
T to_small_float(C x, StoreMode mode) {
  if constexpr (std::is_same_v<T, Float8E8M0>)
    return {e8m0_from_double(static_cast<double>(x), mode.saturate, mode.rounding)};
  else if constexpr (std::is_same_v<C, float>)
    return store_small<T>(x, mode);
  else
    return store_small<T>(round_to_odd(x), mode);
}

// Calls f with a value of the C++ type if that is a floating type that is computed in; an error
// otherwise.
template <class R, class F>
Result<R> visit_float(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::f16:
      return f(Half{});
    case DType::bf16:
      return f(BFloat16{});
    default:
      return unsupported("element type " + std::string(name_of(dtype)));
  }
}
template <class R, class F>
Result<R> visit_float(const Tensor& t, F&& f) {
  return visit_float<R>(t.dtype(), std::forward<F>(f));
}

// Integers wrap: arithmetic in the unsigned type of the same width.
template <class T>
T wrapping_multiply_add(T a, T b, T c) {
  using U = std::make_unsigned_t<T>;
  return static_cast<T>(
      static_cast<U>(uint64_t{static_cast<U>(a)} * static_cast<U>(b) + static_cast<U>(c)));
}

}  // namespace verbatim
