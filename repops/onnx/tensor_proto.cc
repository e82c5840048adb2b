#include <verbatim/repops/onnx/tensor_proto.h>

#include <bit>
#include <charconv>
#include <filesystem>
#include <limits>

#include <google/protobuf/io/coded_stream.h>

#include <verbatim/core/file.h>
#include <verbatim/core/tensor_root.h>

#include "model_proto.pb.h"

namespace verbatim::onnx {
namespace {

constexpr int kMaxRecursion = 40;  // three messages for each body within a body
constexpr int kExternal = 1;

// A typed field's values, each narrowed to T (16-bit and smaller floats are stored as their
// bits in int32_data).
template <class T, class Field>
Result<Tensor> from_field(const Shape& shape, const Field& field) {
  if (field.size() != shape.elements())
    return bad_input(std::to_string(field.size()) + " values for shape " + shape.to_string());
  VB_ASSIGN(Tensor t, Tensor::allocate(dtype_of<T>(), shape));
  T* out = t.mutable_data<T>().data();
  for (int i = 0; i < field.size(); ++i) {
    const auto value = field.Get(i);
    if constexpr (!std::is_arithmetic_v<T>) {
      out[i].bits = static_cast<decltype(T::bits)>(value);
    } else {
      out[i] = static_cast<T>(value);
      if constexpr (std::is_integral_v<T>)
        if (static_cast<decltype(value)>(out[i]) != value)
          return bad_input("value " + std::to_string(value) + " does not fit " +
                           std::string(name_of(t.dtype())));
    }
  }
  return t;
}

// ONNX packs sub-byte elements without regard to rows: as those of one row.
Result<Tensor> from_one_row(DType dtype, const Shape& shape, ByteView bytes) {
  VB_ASSIGN(const Tensor row, tensor_from_little_endian(dtype, Shape{shape.elements()}, bytes));
  return row.reshaped(shape);
}

// A byte of packed elements in each value.
Result<Tensor> from_packed_field(const TensorProto& p, DType dtype, const Shape& shape) {
  Bytes bytes;
  for (const int32_t value : p.int32_data()) {
    if (value < 0 || value > 255)
      return bad_input("value " + std::to_string(value) + " is no byte of packed " +
                       std::string(name_of(dtype)));
    bytes.push_back(static_cast<std::byte>(value));
  }
  return from_one_row(dtype, shape, bytes);
}

Result<Tensor> from_typed_field(const TensorProto& p, DType dtype, const Shape& shape) {
  switch (dtype) {
    case DType::f32:
      return from_field<float>(shape, p.float_data());
    case DType::f64:
      return from_field<double>(shape, p.double_data());
    case DType::i64:
      return from_field<int64_t>(shape, p.int64_data());
    case DType::u64:
      return from_field<uint64_t>(shape, p.uint64_data());
    case DType::u32:
      return from_field<uint32_t>(shape, p.uint64_data());
    case DType::i32:
      return from_field<int32_t>(shape, p.int32_data());
    case DType::i16:
      return from_field<int16_t>(shape, p.int32_data());
    case DType::u16:
      return from_field<uint16_t>(shape, p.int32_data());
    case DType::i8:
      return from_field<int8_t>(shape, p.int32_data());
    case DType::u8:
      return from_field<uint8_t>(shape, p.int32_data());
    case DType::boolean:
      return from_field<bool>(shape, p.int32_data());
    case DType::f16:
      return from_field<Half>(shape, p.int32_data());
    case DType::bf16:
      return from_field<BFloat16>(shape, p.int32_data());
    case DType::f8e4m3:
      return from_field<Float8E4M3>(shape, p.int32_data());
    case DType::f8e5m2:
      return from_field<Float8E5M2>(shape, p.int32_data());
    case DType::f8e4m3fnuz:
      return from_field<Float8E4M3FNUZ>(shape, p.int32_data());
    case DType::f8e5m2fnuz:
      return from_field<Float8E5M2FNUZ>(shape, p.int32_data());
    case DType::f8e8m0:
      return from_field<Float8E8M0>(shape, p.int32_data());
    case DType::f4e2m1:
    case DType::u4:
    case DType::i4:
    case DType::u2:
    case DType::i2:
      return from_packed_field(p, dtype, shape);
    case DType::undefined:
      break;
  }
  return internal_error("undefined type");
}

Result<uint64_t> parse_number(const std::string& text, const char* what) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return bad_input(std::string(what) + " '" + printable(text) + "'");
  return value;
}

// The file that `location` names below `folder`, links resolved; nothing outside is ever opened.
Result<std::string> external_path(const std::string& folder, const std::string& location) {
  namespace fs = std::filesystem;
  const fs::path relative(location);
  const bool climbs = std::any_of(relative.begin(), relative.end(),
                                  [](const fs::path& part) { return part == ".."; });
  if (location.empty() || location.find('\0') != std::string::npos || relative.is_absolute() ||
      climbs)
    return bad_input("external data at '" + printable(location) +
                     "', which is no path below the model's folder");
  std::error_code error;
  const fs::path root = fs::canonical(folder, error);
  if (error) return unavailable("folder " + folder + ": " + error.message());
  const fs::path file = fs::canonical(root / relative, error);
  if (error) return unavailable("external data " + printable(location) + ": " + error.message());
  if (std::mismatch(root.begin(), root.end(), file.begin(), file.end()).first != root.end())
    return bad_input("external data '" + printable(location) + "' leads out of the model's folder");
  return file.string();
}

Result<Tensor> from_external(const TensorProto& p, DType dtype, const Shape& shape,
                             const std::string& folder) {
  std::string location;
  uint64_t offset = 0, length = std::numeric_limits<uint64_t>::max();
  for (const KeyValueProto& entry : p.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if (entry.key() == "offset") {
      VB_ASSIGN(offset, parse_number(entry.value(), "external offset"));
    }
    if (entry.key() == "length") {
      VB_ASSIGN(length, parse_number(entry.value(), "external length"));
    }
  }
  VB_ASSIGN(const std::string path, external_path(folder, location));
  VB_ASSIGN(const auto file, MappedFile::open(path));
  VB_ASSIGN(const int64_t need, canonical_size(dtype, Shape{shape.elements()}));
  const ByteView all = file->bytes();
  if (length != std::numeric_limits<uint64_t>::max() && length != static_cast<uint64_t>(need))
    return bad_input("external length " + std::to_string(length) + " where the shape needs " +
                     std::to_string(need));
  if (offset > all.size() || static_cast<uint64_t>(need) > all.size() - offset)
    return bad_input_at(
        path, offset,
        std::to_string(need) + " bytes wanted, the file has " + std::to_string(all.size()));
  const ByteView bytes = all.subspan(offset, static_cast<size_t>(need));
  // Weights are used where they are mapped, if this machine reads them as they lie.
  const bool aligned = reinterpret_cast<uintptr_t>(bytes.data()) % size_of(dtype) == 0;
  if (std::endian::native == std::endian::little && aligned && dtype != DType::boolean &&
      !is_sub_byte(dtype))
    return Tensor::borrow(dtype, shape, bytes, file);
  return from_one_row(dtype, shape, bytes);
}

}  // namespace

Status parse_message(ByteView bytes, const std::string& source,
                     google::protobuf::MessageLite& message) {
  if (bytes.size() > static_cast<size_t>(std::numeric_limits<int>::max()))
    return over_limit(source + ": above 2 GiB");
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  in.SetRecursionLimit(kMaxRecursion);
  if (!message.MergeFromCodedStream(&in) || !in.ConsumedEntireMessage())
    return bad_input_at(source, static_cast<uint64_t>(std::max(0, in.CurrentPosition())),
                        "not the protobuf message that was expected");
  return {};
}

Result<Tensor> convert_tensor(const TensorProto& p, const std::string* folder) {
  const DType dtype = dtype_from_onnx(p.data_type());
  if (dtype == DType::undefined)
    return unsupported("tensors of ONNX element type " + std::to_string(p.data_type()));
  VB_ASSIGN(const Shape shape, Shape::of({p.dims().data(), static_cast<size_t>(p.dims().size())}));
  if (p.data_location() == kExternal) {
    if (folder == nullptr) return bad_input("external data is not allowed here");
    return from_external(p, dtype, shape, *folder);
  }
  if (p.has_raw_data()) return from_one_row(dtype, shape, as_bytes(p.raw_data()));
  return from_typed_field(p, dtype, shape);
}

}  // namespace verbatim::onnx
