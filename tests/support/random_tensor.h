// Generated tensors for tests: reproducible from a seed, moderate values or every bit pattern.
#pragma once

#include <random>
#include <vector>

#include <verbatim/core/tensor.h>
#include <verbatim/repops/op.h>
#include <verbatim/repops/semantics.h>

namespace verbatim::test {

// mt19937_64's sequence is fixed by the C++ standard; the standard distributions are not, so none
// is used.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint64_t bits() { return engine_(); }
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  // Uniform in (-1, 1), on a grid of 2^-24.
  float unit() {
    return static_cast<float>(below(1 << 25) - (1 << 24)) / static_cast<float>(1 << 24);
  }
  // Any bit pattern: subnormals, infinities and NaN with payloads included.
  float wild() {
    const auto special = below(8);
    if (special == 0)
      return float_of(static_cast<uint32_t>(bits()) & 0x807FFFFF);  // zero or subnormal
    if (special == 1) return float_of((bits() & 1 ? 0x80000000u : 0u) | 0x7F800000u);
    if (special == 2) return float_of(static_cast<uint32_t>(bits()) | 0x7F800000u);
    return float_of(static_cast<uint32_t>(bits()));
  }
  Tensor floats(const Shape& shape, bool any_bits = false) {
    Tensor t = *Tensor::allocate(DType::f32, shape);
    for (float& v : t.mutable_data<float>()) v = any_bits && below(4) == 0 ? wild() : unit();
    return t;
  }

 private:
  std::mt19937_64 engine_;
};

inline Node node_of(std::string_view op, std::string_view domain, Attributes attributes = {},
                    int outputs = 1) {
  Node n;
  n.op = op;
  n.domain = domain;
  n.attributes = std::move(attributes);
  for (int i = 0; i < outputs; ++i) n.outputs.push_back(i);
  return n;
}

inline Tensor ints(std::vector<int64_t> values) {
  return *Tensor::from<int64_t>(Shape{static_cast<int64_t>(values.size())}, values);
}

}  // namespace verbatim::test
