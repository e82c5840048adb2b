#include <verbatim/core/npy.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include <verbatim/core/file.h>
#include <verbatim/core/tensor_root.h>

namespace verbatim {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxHeader = 65536;

struct TypeCode {
  DType dtype;
  std::string_view code;
};
constexpr TypeCode kTypes[] = {{DType::f32, "f4"},  {DType::f64, "f8"},     {DType::f16, "f2"},
                               {DType::bf16, "V2"}, {DType::boolean, "b1"}, {DType::i8, "i1"},
                               {DType::u8, "u1"},   {DType::i16, "i2"},     {DType::u16, "u2"},
                               {DType::i32, "i4"},  {DType::u32, "u4"},     {DType::i64, "i8"},
                               {DType::u64, "u8"}};

// The text after 'key': in the header's Python dictionary.
std::optional<std::string_view> value_after(std::string_view header, std::string_view key) {
  const size_t at = header.find("'" + std::string(key) + "':");
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view rest = header.substr(at + key.size() + 3);
  rest.remove_prefix(std::min(rest.size(), rest.find_first_not_of(' ')));
  return rest;
}

Result<Shape> parse_shape(std::string_view text) {
  if (text.empty() || text[0] != '(') return bad_input("no shape tuple in the .npy header");
  std::vector<int64_t> dims;
  const char* p = text.data() + 1;
  const char* const end = text.data() + text.size();
  while (true) {
    while (p < end && (*p == ' ' || *p == ',')) ++p;
    if (p < end && *p == ')') break;
    int64_t d = 0;
    const auto [next, error] = std::from_chars(p, end, d);
    if (error != std::errc() || dims.size() >= kMaxRank)
      return bad_input("bad shape tuple in the .npy header");
    dims.push_back(d);
    p = next;
  }
  return Shape::of(dims);
}

}  // namespace

std::string npy_file_name(const std::string& value) {
  std::string s;
  for (const char c : value) {
    const bool kept = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      c == '.' || c == '-' || c == '_';
    s += kept ? c : '_';
  }
  return (s.empty() || s[0] == '.' ? "output" + s : s) + ".npy";
}

Result<Tensor> parse_npy(ByteView bytes, const std::string& source) {
  Reader r(bytes, source);
  VB_ASSIGN(const ByteView magic, r.raw(kMagic.size()));
  if (as_chars(magic) != kMagic) return bad_input_at(source, 0, "not a .npy file");
  VB_ASSIGN(const uint8_t major, r.u8());
  VB_ASSIGN(const uint8_t minor, r.u8());
  if (major < 1 || major > 3 || minor != 0)
    return r.fail("unknown .npy version " + std::to_string(major) + "." + std::to_string(minor));
  VB_ASSIGN(const ByteView length, r.raw(major == 1 ? 2 : 4));
  const size_t header_size =
      major == 1 ? load_le<uint16_t>(length.data()) : load_le<uint32_t>(length.data());
  if (header_size > kMaxHeader)
    return r.fail("header of " + std::to_string(header_size) + " bytes");
  VB_ASSIGN(const ByteView header_bytes, r.raw(header_size));
  const std::string_view header = as_chars(header_bytes);

  const auto descr = value_after(header, "descr"), order = value_after(header, "fortran_order"),
             dims = value_after(header, "shape");
  if (!descr || !order || !dims || descr->size() < 5 || (*descr)[0] != '\'')
    return r.fail("incomplete .npy header");
  if (!order->starts_with("False"))
    return r.fail("Fortran order is not supported: save with numpy.ascontiguousarray");
  const auto type = std::ranges::find(kTypes, descr->substr(2, 2), &TypeCode::code);
  if (type == std::end(kTypes) || (*descr)[4] != '\'')
    return r.fail("unsupported element type " + printable(descr->substr(0, 6)));
  const Result<Shape> shape = parse_shape(*dims);
  const Result<int64_t> size =
      shape.ok() ? checked_multiply(shape->elements(), static_cast<int64_t>(size_of(type->dtype)))
                 : shape.status();
  if (!size.ok()) {
    const auto at = static_cast<size_t>(dims->data() - as_chars(bytes).data());
    return size.status().with_context(source + ": byte " + std::to_string(at));
  }
  VB_ASSIGN(const ByteView data, r.raw(static_cast<size_t>(*size)));
  VB_TRY(r.finish());
  Bytes swapped;
  if ((*descr)[1] == '>') {
    const size_t width = size_of(type->dtype);
    swapped.assign(data.begin(), data.end());
    for (size_t i = 0; i < swapped.size(); i += width)
      std::reverse(swapped.begin() + i, swapped.begin() + i + width);
  }
  Result<Tensor> tensor =
      tensor_from_little_endian(type->dtype, *shape, swapped.empty() ? data : ByteView(swapped));
  return tensor.ok() ? tensor : Result<Tensor>(tensor.status().with_context(source));
}

Result<Tensor> read_npy(const std::string& path) {
  VB_ASSIGN(const Bytes bytes, read_file(path, max_tensor_bytes()));
  return parse_npy(bytes, path);
}

Result<Bytes> encode_npy(const Tensor& tensor) {
  const auto type = std::ranges::find(kTypes, tensor.dtype(), &TypeCode::dtype);
  if (type == std::end(kTypes))
    return unsupported(".npy has no name for the element type " +
                       std::string(name_of(tensor.dtype())));
  std::string dims;
  for (int64_t d : tensor.shape().dims()) dims += std::to_string(d) + ", ";
  if (tensor.rank() > 1) dims.resize(dims.size() - 2);
  if (tensor.rank() == 1) dims.pop_back();
  std::string header = "{'descr': '" + std::string(size_of(tensor.dtype()) == 1 ? "|" : "<") +
                       std::string(type->code) + "', 'fortran_order': False, 'shape': (" + dims +
                       "), }";
  header.append(63 - (kMagic.size() + 4 + header.size()) % 64,
                ' ');  // numpy aligns the data to 64 bytes
  header += '\n';
  Writer w;
  w.raw(as_bytes(kMagic));
  w.u8(1);
  w.u8(0);
  w.u8(static_cast<uint8_t>(header.size()));
  w.u8(static_cast<uint8_t>(header.size() >> 8));
  w.raw(as_bytes(header));
  w.raw(little_endian_bytes(tensor));
  return w.take();
}

Status write_npy(const std::string& path, const Tensor& tensor) {
  VB_ASSIGN(const Bytes bytes, encode_npy(tensor));
  return write_file(path, bytes);
}

}  // namespace verbatim
