#include <array>
#include <charconv>
#include <cstring>
#include <sstream>

#include <verbatim/core/philox.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/selftest.h>
#include <verbatim/repops/semantics.h>
#include <verbatim/repops/unary.h>

#include "kernels/golden.h"

namespace verbatim::test {
namespace {

constexpr int64_t kInFull = 256;

DType dtype_named(const std::string& name) {
  for (int n = 1; n < 64; ++n)
    if (const DType dtype = dtype_from_onnx(n); dtype != DType::undefined && name_of(dtype) == name)
      return dtype;
  return DType::undefined;
}

// Bits of an element that carry its value.
int code_bits(DType dtype) { return dtype == DType::boolean ? 1 : bit_width(dtype); }
uint64_t code_mask(DType dtype) {
  const int bits = code_bits(dtype);
  return bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
}
int hex_digits(DType dtype) { return (bit_width(dtype) + 3) / 4; }

void set_code(Tensor& t, int64_t i, uint64_t code) {
  const size_t size = size_of(t.dtype());
  std::byte* at = t.mutable_bytes().data() + static_cast<size_t>(i) * size;
  const auto put = [&](auto value) { std::memcpy(at, &value, sizeof value); };
  if (size == 1) put(static_cast<uint8_t>(code));
  if (size == 2) put(static_cast<uint16_t>(code));
  if (size == 4) put(static_cast<uint32_t>(code));
  if (size == 8) put(code);
}
uint64_t code_at(const Tensor& t, int64_t i) {
  const size_t size = size_of(t.dtype());
  const std::byte* at = t.bytes().data() + static_cast<size_t>(i) * size;
  const auto get = [&](auto value) -> uint64_t {
    std::memcpy(&value, at, sizeof value);
    return value;
  };
  if (size == 1) return get(uint8_t{});
  if (size == 2) return get(uint16_t{});
  return size == 4 ? get(uint32_t{}) : get(uint64_t{});
}

Status fill_in_full(const std::string& bits, Tensor& t) {
  std::istringstream in(bits);
  std::string word;
  for (int64_t i = 0; i < t.elements(); ++i) {
    uint64_t code = 0;
    in >> word;
    const auto end = word.data() + word.size();
    const auto [rest, error] = std::from_chars(word.data(), end, code, 16);
    if (!in || rest != end || error != std::errc() || code > code_mask(t.dtype()))
      return bad_input("element " + std::to_string(i) + " of " + t.describe());
    set_code(t, i, code);
  }
  if (in >> word) return bad_input("too many elements for " + t.describe());
  return {};
}

// Moderate numbers are made in binary32 and cast.
Status fill_moderate(const std::vector<uint64_t>& random, Tensor& t) {
  Tensor floats = *Tensor::allocate(DType::f32, t.shape());
  for (size_t i = 0; i < random.size(); ++i)
    floats.mutable_data<float>()[i] = moderate_float(random[i]);
  const Node cast = node_of("", "Cast", {{"to", static_cast<int64_t>(t.dtype())}});
  VB_ASSIGN(const Tensors converted, evaluate_reference(cast, std::array{floats}));
  t = converted[0];
  return {};
}

Status fill_from_seed(const Json& j, const std::string& values, Tensor& t) {
  const auto seed = j.at("seed").get<uint64_t>();
  std::vector<uint64_t> random(static_cast<size_t>(t.elements()));
  for (size_t i = 0; i < random.size(); ++i) random[i] = philox_u64(seed, i, 0);
  if (values == "moderate" || values == "mixed") {
    VB_TRY(fill_moderate(random, t));
    for (size_t i = 3; values == "mixed" && i < random.size(); i += 4)
      set_code(t, static_cast<int64_t>(i), random[i] & code_mask(t.dtype()));
    return {};
  }
  const bool integers = values == "integers";
  if (!integers && values != "bits") return bad_input("values '" + values + "'");
  const int64_t low = integers ? j.at("low").get<int64_t>() : 0;
  const uint64_t count =
      integers ? static_cast<uint64_t>(j.at("high").get<int64_t>() - low + 1) : 0;
  for (size_t i = 0; i < random.size(); ++i) {
    const uint64_t code = integers ? static_cast<uint64_t>(low) + random[i] % count : random[i];
    set_code(t, static_cast<int64_t>(i), code & code_mask(t.dtype()));
  }
  return {};
}

Result<Tensor> tensor_of(const Json& j) {
  if (j.is_null()) return Tensor();
  const auto dims = j.at("shape").get<std::vector<int64_t>>();
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor t, Tensor::allocate(dtype_named(j.at("type")), shape));
  if (j.contains("bits")) {
    VB_TRY(fill_in_full(j.at("bits"), t));
  } else if (j.at("values") == "codes") {
    for (int64_t i = 0; i < t.elements(); ++i)
      set_code(t, i, static_cast<uint64_t>(i) & code_mask(t.dtype()));
  } else {
    VB_TRY(fill_from_seed(j, j.at("values"), t));
  }
  return t;
}

std::string hex_of(DType dtype, uint64_t code) {
  char text[20];
  std::snprintf(text, sizeof text, "%0*llx", hex_digits(dtype),
                static_cast<unsigned long long>(code));
  return text;
}

float real_of(const Json& j) {
  return float_of(
      static_cast<uint32_t>(std::stoul(j.at("float32").get<std::string>(), nullptr, 16)));
}

Attribute attribute_of(const Json& j) {
  if (j.is_object()) return real_of(j);
  if (j.is_array() && !j.empty() && j[0].is_object()) {
    std::vector<float> list;
    for (const Json& x : j) list.push_back(real_of(x));
    return list;
  }
  if (j.is_string()) return j.get<std::string>();
  if (j.is_array() && !j.empty() && j[0].is_string()) return j.get<std::vector<std::string>>();
  if (j.is_array()) return j.get<std::vector<int64_t>>();
  return j.get<int64_t>();
}

// A function of unary.h that no operator gives.
Tensor evaluate_function(const std::string& name, const Tensor& x) {
  Tensor y = *Tensor::allocate(DType::f32, x.shape());
  for (int f = 0; f < kUnaryCount; ++f)
    if (name_of(static_cast<Unary>(f)) == name)
      for (int64_t i = 0; i < x.elements(); ++i)
        y.mutable_data<float>()[i] = evaluate(static_cast<Unary>(f), x.data<float>()[i]);
  return y;
}

}  // namespace

Result<Golden> read_golden(const Json& line) {
  Golden g;
  g.name = line.at("name");
  Attributes attributes;
  for (const auto& [name, value] : line.at("attributes").items()) {
    if (value.contains("type")) {
      VB_ASSIGN(const Tensor tensor, tensor_of(value));
      attributes.set(name, tensor);
    } else {
      attributes.set(name, attribute_of(value));
    }
  }
  g.outputs = line.value("outputs", Json::array());
  const auto outputs = line.contains("outputs") ? g.outputs.size() : line.at("count").get<size_t>();
  g.c.node = node_of(line.at("domain").get<std::string>(), line.at("op").get<std::string>(),
                     std::move(attributes), static_cast<int>(outputs));
  for (const Json& j : line.at("inputs")) {
    Result<Tensor> t = tensor_of(j);
    if (!t.ok()) return t.status().with_context(g.name);
    if (!g.c.inputs.empty()) g.c.weights.push_back(static_cast<int>(g.c.inputs.size()));
    g.c.inputs.push_back(*std::move(t));
  }
  return g;
}

Json golden_output(const Tensor& t) {
  Json j{{"type", name_of(t.dtype())},
         {"shape", std::vector<int64_t>(t.shape().dims().begin(), t.shape().dims().end())}};
  if (t.elements() > kInFull) {
    j["root"] = tensor_root(t).hex();
    return j;
  }
  std::string bits;
  for (int64_t i = 0; i < t.elements(); ++i)
    bits += (i == 0 ? "" : " ") + hex_of(t.dtype(), code_at(t, i));
  j["bits"] = bits;
  return j;
}

Result<Tensors> evaluate_golden(const Golden& g) {
  if (g.c.node.domain == "function") return Tensors{evaluate_function(g.c.node.op, g.c.inputs[0])};
  return evaluate_reference(g.c.node, g.c.inputs);
}

std::string golden_difference(const Golden& g, const Tensors& have) {
  if (have.size() != g.outputs.size())
    return std::to_string(have.size()) + " outputs, not " + std::to_string(g.outputs.size());
  for (size_t i = 0; i < have.size(); ++i)
    if (const Json got = golden_output(have[i]); got != g.outputs[i])
      return "output " + std::to_string(i) + " is " + got.dump() + ", recorded is " +
             g.outputs[i].dump();
  return "";
}

}  // namespace verbatim::test
