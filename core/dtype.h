// Element types. The numbers are those of ONNX's TensorProto.DataType, so that hashed bytes refer
// to a public list.
//
// An element of 4 or 2 bits has a byte of its own in memory: its code in the low bits, the others
// zero. So whatever moves bytes moves elements, of any type. Where elements travel or are hashed
// they are packed, the first in the lowest bits (tensor_root.h).
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
  f8e4m3 = 17,      // no infinities; 0x7F and 0xFF are NaN ("e4m3fn")
  f8e4m3fnuz = 18,  // no infinities, no -0; 0x80 is NaN
  f8e5m2 = 19,
  f8e5m2fnuz = 20,  // no infinities, no -0; 0x80 is NaN
  u4 = 21,
  i4 = 22,
  f4e2m1 = 23,  // no infinities, no NaN
  f8e8m0 = 24,  // powers of two, 2^-127 to 2^127: no sign, no zero; 0xFF is NaN
  u2 = 25,
  i2 = 26,
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
struct Float8E4M3FNUZ {
  uint8_t bits;
};
struct Float8E5M2FNUZ {
  uint8_t bits;
};
struct Float8E8M0 {
  uint8_t bits;
};
// The bits beyond the type's own are zero. int4 and int2 are in two's complement.
struct Float4E2M1 {
  uint8_t bits;
};
struct UInt4 {
  uint8_t bits;
};
struct Int4 {
  uint8_t bits;
};
struct UInt2 {
  uint8_t bits;
};
struct Int2 {
  uint8_t bits;
};

// Bytes per element in memory; 0 for undefined.
size_t size_of(DType dtype);

// "float32", "int64", "bool", ...: numpy's names, and those of ml_dtypes for what numpy lacks.
std::string_view name_of(DType dtype);

// The type with ONNX number `n`, or undefined where this build has none.
DType dtype_from_onnx(int64_t n);

// Those of which several share a byte where they are packed.
constexpr bool is_sub_byte(DType d) {
  return d == DType::u4 || d == DType::i4 || d == DType::f4e2m1 || d == DType::u2 || d == DType::i2;
}
// Bits per element where it is packed; 8 * size_of() but for the sub-byte types.
int bit_width(DType dtype);

// The fp8 types that tensor cores multiply.
constexpr bool is_float8(DType d) { return d == DType::f8e4m3 || d == DType::f8e5m2; }
// Types that are stored, moved and converted, but not computed in.
constexpr bool is_storage_only(DType d) {
  return is_float8(d) || d == DType::f8e4m3fnuz || d == DType::f8e5m2fnuz || d == DType::f8e8m0 ||
         is_sub_byte(d);
}
constexpr bool is_float(DType d) {
  return d == DType::f32 || d == DType::f16 || d == DType::bf16 || d == DType::f64 ||
         d == DType::f4e2m1 || (is_storage_only(d) && !is_sub_byte(d));
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
  else if constexpr (std::is_same_v<U, Float8E4M3FNUZ>)
    return DType::f8e4m3fnuz;
  else if constexpr (std::is_same_v<U, Float8E5M2FNUZ>)
    return DType::f8e5m2fnuz;
  else if constexpr (std::is_same_v<U, Float8E8M0>)
    return DType::f8e8m0;
  else if constexpr (std::is_same_v<U, Float4E2M1>)
    return DType::f4e2m1;
  else if constexpr (std::is_same_v<U, UInt4>)
    return DType::u4;
  else if constexpr (std::is_same_v<U, Int4>)
    return DType::i4;
  else if constexpr (std::is_same_v<U, UInt2>)
    return DType::u2;
  else if constexpr (std::is_same_v<U, Int2>)
    return DType::i2;
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
    case DType::f8e4m3fnuz:
      return f(Float8E4M3FNUZ{});
    case DType::f8e5m2fnuz:
      return f(Float8E5M2FNUZ{});
    case DType::f8e8m0:
      return f(Float8E8M0{});
    case DType::f4e2m1:
      return f(Float4E2M1{});
    case DType::u4:
      return f(UInt4{});
    case DType::i4:
      return f(Int4{});
    case DType::u2:
      return f(UInt2{});
    case DType::i2:
      return f(Int2{});
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
