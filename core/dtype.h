// Element types. The numbers are those of ONNX's TensorProto.DataType, so that hashed bytes refer
// to a public list.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace verbatim {

enum class DType : uint8_t {
  undefined = 0,
  f32 = 1,
  u8 = 2,
  i8 = 3,
  u16 = 4,
  i16 = 5,
  i32 = 6,
  i64 = 7,
  boolean = 9,  // one byte, 0 or 1
  f16 = 10,
  f64 = 11,
  u32 = 12,
  u64 = 13,
  bf16 = 16,
  f8e4m3 = 17,  // no infinities; 0x7F and 0xFF are NaN ("e4m3fn")
  f8e5m2 = 19,
};

// Storage for the small floating types; arithmetic goes through semantics.h's conversions.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};
struct Float8E4M3 {
  uint8_t bits;
};
struct Float8E5M2 {
  uint8_t bits;
};

// Bytes per element; 0 for undefined.
size_t size_of(DType dtype);

// "float32", "int64", "bool", ...: numpy's names, and those of ml_dtypes for what numpy lacks.
std::string_view name_of(DType dtype);

// The type with ONNX number `n`, or undefined where this build has none.
DType dtype_from_onnx(int64_t n);

constexpr bool is_float8(DType d) { return d == DType::f8e4m3 || d == DType::f8e5m2; }
constexpr bool is_float(DType d) {
  return d == DType::f32 || d == DType::f16 || d == DType::bf16 || d == DType::f64 || is_float8(d);
}
constexpr bool is_integer(DType d) {
  return d != DType::undefined && d != DType::boolean && !is_float(d);
}

template <class T>
constexpr DType dtype_of() {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<U, float>)
    return DType::f32;
  else if constexpr (std::is_same_v<U, double>)
    return DType::f64;
  else if constexpr (std::is_same_v<U, Half>)
    return DType::f16;
  else if constexpr (std::is_same_v<U, BFloat16>)
    return DType::bf16;
  else if constexpr (std::is_same_v<U, Float8E4M3>)
    return DType::f8e4m3;
  else if constexpr (std::is_same_v<U, Float8E5M2>)
    return DType::f8e5m2;
  else if constexpr (std::is_same_v<U, bool>)
    return DType::boolean;
  else if constexpr (std::is_same_v<U, uint8_t>)
    return DType::u8;
  else if constexpr (std::is_same_v<U, int8_t>)
    return DType::i8;
  else if constexpr (std::is_same_v<U, uint16_t>)
    return DType::u16;
  else if constexpr (std::is_same_v<U, int16_t>)
    return DType::i16;
  else if constexpr (std::is_same_v<U, int32_t>)
    return DType::i32;
  else if constexpr (std::is_same_v<U, uint32_t>)
    return DType::u32;
  else if constexpr (std::is_same_v<U, uint64_t>)
    return DType::u64;
  else {
    static_assert(std::is_same_v<U, int64_t>, "no DType for this C++ type");
    return DType::i64;
  }
}

// Calls f with a value of the C++ type that holds `dtype` and returns what f returns; `otherwise`
// for undefined.
template <class R, class F>
R visit_dtype(DType dtype, R otherwise, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::f16:
      return f(Half{});
    case DType::bf16:
      return f(BFloat16{});
    case DType::f8e4m3:
      return f(Float8E4M3{});
    case DType::f8e5m2:
      return f(Float8E5M2{});
    case DType::boolean:
      return f(bool{});
    case DType::u8:
      return f(uint8_t{});
    case DType::i8:
      return f(int8_t{});
    case DType::u16:
      return f(uint16_t{});
    case DType::i16:
      return f(int16_t{});
    case DType::i32:
      return f(int32_t{});
    case DType::u32:
      return f(uint32_t{});
    case DType::i64:
      return f(int64_t{});
    case DType::u64:
      return f(uint64_t{});
    case DType::undefined:
      break;
  }
  return otherwise;
}

}  // namespace verbatim
