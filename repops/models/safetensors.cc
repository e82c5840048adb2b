#include <verbatim/repops/models/safetensors.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <set>
#include <vector>

#include <verbatim/core/file.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/models/json.h>

namespace verbatim {
namespace {

constexpr uint64_t kMaxHeader = 100 << 20;  // the format's own limit
constexpr size_t kMaxTensors = 1 << 16;

constexpr std::pair<const char*, DType> kCodes[] = {
    {"F32", DType::f32},      {"F16", DType::f16},        {"BF16", DType::bf16},
    {"F64", DType::f64},      {"I8", DType::i8},          {"U8", DType::u8},
    {"I16", DType::i16},      {"U16", DType::u16},        {"I32", DType::i32},
    {"U32", DType::u32},      {"I64", DType::i64},        {"U64", DType::u64},
    {"BOOL", DType::boolean}, {"F8_E4M3", DType::f8e4m3}, {"F8_E5M2", DType::f8e5m2}};

DType dtype_of_code(const std::string& code) {
  for (const auto& [name, dtype] : kCodes)
    if (code == name) return dtype;
  return DType::undefined;
}

struct Entry {
  std::string name;
  DType dtype;
  Shape shape;
  uint64_t begin, end;
};

Result<std::vector<int64_t>> integers(const Json& array, const std::string& where) {
  std::vector<int64_t> out;
  if (!array.is_array()) return bad_input(where + " is not an array");
  for (const Json& v : array) {
    if (!v.is_number_unsigned() || v.get<uint64_t>() > uint64_t{1} << 62)
      return bad_input(where + " holds something else than sizes");
    out.push_back(static_cast<int64_t>(v.get<uint64_t>()));
  }
  return out;
}

Result<Entry> parse_entry(const std::string& name, const Json& json, const std::string& source) {
  const std::string where = source + ": tensor '" + printable(name) + "'";
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets") || json.size() != 3)
    return bad_input(where + " must have dtype, shape and data_offsets");
  VB_ASSIGN(const std::string code, json_get<std::string>(json, "dtype", "", where));
  Entry e{name, dtype_of_code(code), {}, 0, 0};
  if (e.dtype == DType::undefined) return unsupported(where + " has type " + printable(code));
  VB_ASSIGN(const std::vector<int64_t> dims, integers(json["shape"], where + ": shape"));
  Result<Shape> shape = Shape::of(dims);
  if (!shape.ok()) return shape.status().with_context(where);
  e.shape = *shape;
  VB_ASSIGN(const std::vector<int64_t> offsets,
            integers(json["data_offsets"], where + ": data_offsets"));
  if (offsets.size() != 2 || offsets[0] > offsets[1])
    return bad_input(where + ": data_offsets must be two ascending offsets");
  e.begin = static_cast<uint64_t>(offsets[0]);
  e.end = static_cast<uint64_t>(offsets[1]);
  const Result<int64_t> size =
      checked_multiply(e.shape.elements(), static_cast<int64_t>(size_of(e.dtype)));
  if (!size.ok()) return size.status().with_context(where);
  if (e.end - e.begin != static_cast<uint64_t>(*size))
    return bad_input(where + " is " + std::to_string(e.end - e.begin) + " bytes, its shape needs " +
                     std::to_string(*size));
  return e;
}

Result<Tensor> tensor_of(const Entry& e, ByteView bytes, std::shared_ptr<const void> owner) {
  const bool aligned = reinterpret_cast<uintptr_t>(bytes.data()) % size_of(e.dtype) == 0;
  // Bools go through the copying path, too: it refuses bytes that are neither 0 nor 1.
  if (std::endian::native == std::endian::little && aligned && e.dtype != DType::boolean)
    return Tensor::borrow(e.dtype, e.shape, bytes, std::move(owner));
  return tensor_from_little_endian(e.dtype, e.shape, bytes);
}

}  // namespace

Result<TensorMap> parse_safetensors(ByteView bytes, const std::string& source,
                                    std::shared_ptr<const void> owner) {
  Reader r(bytes, source);
  VB_ASSIGN(const uint64_t header_size, r.u64());
  if (header_size > kMaxHeader)
    return bad_input_at(source, 0,
                        "header of " + std::to_string(header_size) + " bytes, the format allows " +
                            std::to_string(kMaxHeader));
  VB_ASSIGN(const ByteView header, r.raw(header_size));
  VB_ASSIGN(const Json json, parse_json(as_chars(header), source, 8));
  if (!json.is_object()) return bad_input_at(source, 8, "the header is not a JSON object");
  if (json.size() > kMaxTensors)
    return over_limit(source + ": " + std::to_string(json.size()) + " tensors");

  std::vector<Entry> entries;
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") continue;
    VB_ASSIGN(Entry e, parse_entry(name, value, source));
    entries.push_back(std::move(e));
  }
  std::ranges::sort(entries, {}, [](const Entry& e) { return std::pair(e.begin, e.end); });

  TensorMap tensors;
  const size_t data_offset = r.offset();
  uint64_t expected = 0;
  for (const Entry& e : entries) {
    if (e.begin != expected)
      return bad_input_at(
          source, data_offset + e.begin,
          "tensor '" + printable(e.name) + "' leaves a gap or overlaps the one before");
    expected = e.end;
    VB_ASSIGN(const ByteView data, r.raw(e.end - e.begin));
    Result<Tensor> t = tensor_of(e, data, owner);
    if (!t.ok()) return t.status().with_context(source + ": tensor '" + printable(e.name) + "'");
    tensors.emplace(e.name, *std::move(t));
  }
  VB_TRY(r.finish());
  return tensors;
}

Result<TensorMap> load_safetensors(const std::string& folder) {
  std::set<std::string> files = {"model.safetensors"};
  const std::string index_path = folder + "/model.safetensors.index.json";
  std::error_code none;
  if (std::filesystem::exists(index_path, none)) {
    VB_ASSIGN(const Json index, read_json_object(index_path, 64 << 20));
    const auto map = index.find("weight_map");
    if (map == index.end() || !map->is_object()) return bad_input(index_path + ": no weight_map");
    files.clear();
    for (const auto& [tensor, file] : map->items()) {
      if (!file.is_string())
        return bad_input(index_path + ": the file of '" + printable(tensor) + "' is not a string");
      files.insert(file.get<std::string>());
    }
  }
  TensorMap all;
  for (const std::string& file : files) {
    if (file.find('/') != std::string::npos || file.starts_with('.'))
      return bad_input(index_path + ": shard '" + printable(file) + "' is outside the folder");
    VB_ASSIGN(const auto map, MappedFile::open(folder + "/" + file));
    VB_ASSIGN(TensorMap tensors, parse_safetensors(map->bytes(), map->path(), map));
    for (auto& [name, tensor] : tensors)
      if (!all.emplace(name, std::move(tensor)).second)
        return bad_input(folder + ": tensor '" + printable(name) + "' stands in two shards");
  }
  return all;
}

Result<Bytes> encode_safetensors(const TensorMap& tensors) {
  Json header = Json::object();
  uint64_t offset = 0;
  for (const auto& [name, t] : tensors) {
    const auto code = std::ranges::find(kCodes, t.dtype(), [](const auto& c) { return c.second; });
    if (code == std::end(kCodes))
      return unsupported("tensor '" + printable(name) + "' is " + t.describe());
    const auto dims = t.shape().dims();
    const uint64_t end = offset + t.byte_size();
    header[name] = {{"dtype", code->first},
                    {"shape", std::vector<int64_t>(dims.begin(), dims.end())},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that data starts aligned, as the format asks
  Writer w;
  w.u64(text.size());
  w.raw(as_bytes(text));
  for (const auto& [name, t] : tensors) w.raw(little_endian_bytes(t));
  return w.take();
}

}  // namespace verbatim
