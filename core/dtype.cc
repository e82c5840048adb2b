#include <verbatim/core/dtype.h>

namespace verbatim {

size_t size_of(DType dtype) {
  return visit_dtype<size_t>(dtype, 0, [](auto value) { return sizeof(value); });
}

int bit_width(DType dtype) {
  if (dtype == DType::u2 || dtype == DType::i2) return 2;
  return is_sub_byte(dtype) ? 4 : 8 * static_cast<int>(size_of(dtype));
}

std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::f64:
      return "float64";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    case DType::f8e4m3:
      return "float8_e4m3fn";
    case DType::f8e5m2:
      return "float8_e5m2";
    case DType::f8e4m3fnuz:
      return "float8_e4m3fnuz";
    case DType::f8e5m2fnuz:
      return "float8_e5m2fnuz";
    case DType::f8e8m0:
      return "float8_e8m0fnu";
    case DType::f4e2m1:
      return "float4_e2m1fn";
    case DType::u4:
      return "uint4";
    case DType::i4:
      return "int4";
    case DType::u2:
      return "uint2";
    case DType::i2:
      return "int2";
    case DType::boolean:
      return "bool";
    case DType::u8:
      return "uint8";
    case DType::i8:
      return "int8";
    case DType::u16:
      return "uint16";
    case DType::i16:
      return "int16";
    case DType::i32:
      return "int32";
    case DType::u32:
      return "uint32";
    case DType::i64:
      return "int64";
    case DType::u64:
      return "uint64";
    case DType::undefined:
      break;
  }
  return "undefined";
}

DType dtype_from_onnx(int64_t n) {
  if (n < 0 || n > 255) return DType::undefined;
  const auto dtype = static_cast<DType>(n);
  return size_of(dtype) == 0 ? DType::undefined : dtype;
}

}  // namespace verbatim
