// What golden cases are written with.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <verbatim/repops/semantics.h>

#include "kernels/golden.h"

namespace verbatim::test {

using Dims = std::vector<int64_t>;
using Codes = std::vector<uint64_t>;

inline std::string hex(uint64_t code, int digits) {
  char text[20];
  std::snprintf(text, sizeof text, "%0*llx", digits, static_cast<unsigned long long>(code));
  return text;
}

// A binary32 attribute.
inline Json real(float x) { return {{"float32", hex(bits_of(x), 8)}}; }

inline Json full(DType dtype, const Dims& shape, const Codes& codes) {
  std::string bits;
  for (const uint64_t code : codes)
    bits += (bits.empty() ? "" : " ") + hex(code, (bit_width(dtype) + 3) / 4);
  return {{"type", name_of(dtype)}, {"shape", shape}, {"bits", bits}};
}
inline Json vector(DType dtype, const Codes& codes) {
  return full(dtype, {static_cast<int64_t>(codes.size())}, codes);
}
inline Json numbers(const Dims& shape, const std::vector<float>& values) {
  Codes codes;
  for (const float v : values) codes.push_back(bits_of(v));
  return full(DType::f32, shape, codes);
}
inline Json integers(const std::vector<int64_t>& values) {
  return vector(DType::i64, Codes(values.begin(), values.end()));
}
// Every code of the type in turn.
inline Json all_codes(DType dtype, int64_t count) {
  return {{"type", name_of(dtype)}, {"shape", Dims{count}}, {"values", "codes"}};
}
constexpr int64_t number_of(DType dtype) { return static_cast<int64_t>(dtype); }

// The cases of one file. Seeds count up, so that a new case at the end leaves the others alone.
class File {
 public:
  explicit File(uint64_t first_seed) : seed_(first_seed) {}

  Json seeded(DType dtype, const Dims& shape, const char* values = "moderate") {
    return {{"type", name_of(dtype)}, {"shape", shape}, {"values", values}, {"seed", seed_++}};
  }
  Json floats(const Dims& shape, const char* values = "moderate") {
    return seeded(DType::f32, shape, values);
  }
  Json between(DType dtype, const Dims& shape, int64_t low, int64_t high) {
    Json j = seeded(dtype, shape, "integers");
    j["low"] = low;
    j["high"] = high;
    return j;
  }
  void onnx(const std::string& name, const char* op, std::vector<Json> inputs,
            Json attributes = Json::object(), int outputs = 1) {
    add(name, "", op, std::move(inputs), std::move(attributes), outputs);
  }
  void own(const std::string& name, const char* op, std::vector<Json> inputs,
           Json attributes = Json::object(), int outputs = 1) {
    add(name, "verbatim", op, std::move(inputs), std::move(attributes), outputs);
  }
  void add(const std::string& name, std::string_view domain, std::string_view op,
           std::vector<Json> inputs, Json attributes = Json::object(), int outputs = 1) {
    cases_.push_back({{"name", name},
                      {"domain", domain},
                      {"op", op},
                      {"attributes", std::move(attributes)},
                      {"inputs", std::move(inputs)},
                      {"count", outputs}});
  }
  std::vector<Json> take() { return std::move(cases_); }

 private:
  uint64_t seed_;
  std::vector<Json> cases_;
};

// Zeros, subnormals, the ends of the normal range, ones and their neighbours, infinities, NaNs.
inline const Codes kSpecial = {0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007FFFFF,
                               0x807FFFFF, 0x00800000, 0x80800000, 0x3F7FFFFF, 0xBF7FFFFF,
                               0x3F800000, 0xBF800000, 0x3F800001, 0x7F7FFFFF, 0xFF7FFFFF,
                               0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFC12345};

// `attributes` and more of them.
inline Json with(Json attributes, std::initializer_list<std::pair<const char*, Json>> more) {
  for (const auto& [name, value] : more) attributes[name] = value;
  return attributes;
}

}  // namespace verbatim::test
