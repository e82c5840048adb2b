// How the reference operators see an element type: in what it is computed, and how it is loaded and
// stored.
#pragma once

#include <type_traits>

#include <verbatim/core/tensor.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {

// float and double compute in themselves; the 16-bit types in binary32, exact on load, rounded once
// on store; fp8, which is stored and multiplied but not computed in, saturates; integers in themselves. NaN is stored in its
// canonical form.
template <class T>
inline constexpr bool kIsFloat8 = std::is_same_v<T, Float8E4M3> || std::is_same_v<T, Float8E5M2>;
template <class T>
using Compute =
    std::conditional_t<std::is_same_v<T, Half> || std::is_same_v<T, BFloat16> || kIsFloat8<T>, float, T>;

template <class T>
Compute<T> load(T value) {
  if constexpr (std::is_same_v<T, Half>)
    return float_from_half(value.bits);
  else if constexpr (std::is_same_v<T, BFloat16>)
    return float_from_bfloat16(value.bits);
  else if constexpr (std::is_same_v<T, Float8E4M3>)
    return float_from_e4m3(value.bits);
  else if constexpr (std::is_same_v<T, Float8E5M2>)
    return float_from_e5m2(value.bits);
  else
    return value;
}

template <class T>
T store(Compute<T> value) {
  if constexpr (std::is_same_v<T, Half>)
    return Half{half_from_float(value)};
  else if constexpr (std::is_same_v<T, BFloat16>)
    return BFloat16{bfloat16_from_float(value)};
  else if constexpr (std::is_same_v<T, Float8E4M3>)
    return Float8E4M3{e4m3_from_float(value, true)};
  else if constexpr (std::is_same_v<T, Float8E5M2>)
    return Float8E5M2{e5m2_from_float(value, true)};
  else if constexpr (std::is_floating_point_v<T>)
    return canonical(value);
  else
    return value;
}

// Calls f with a value of the tensor's C++ type if that is a floating type; an error otherwise.
template <class R, class F>
Result<R> visit_float(const Tensor& t, F&& f) {
  switch (t.dtype()) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::f16:
      return f(Half{});
    case DType::bf16:
      return f(BFloat16{});
    default:
      return unsupported("element type " + std::string(name_of(t.dtype())));
  }
}

// Integers wrap: arithmetic in the unsigned type of the same width.
template <class T>
T wrapping_multiply_add(T a, T b, T c) {
  using U = std::make_unsigned_t<T>;
  return static_cast<T>(
      static_cast<U>(uint64_t{static_cast<U>(a)} * static_cast<U>(b) + static_cast<U>(c)));
}

}  // namespace verbatim
