// Short forms for tests of single operators.
#pragma once

#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <verbatim/repops/op.h>
#include <verbatim/repops/ops/number.h>

namespace verbatim::testing {

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <class T>
Tensor tensor(const std::vector<int64_t>& dims, const std::vector<T>& values) {
  const Result<Shape> shape = Shape::of(dims);
  Result<Tensor> t = Tensor::allocate(dtype_of<T>(), *shape);
  EXPECT_EQ(static_cast<size_t>(t->elements()), values.size());
  for (size_t i = 0; i < values.size(); ++i) t->template mutable_data<T>()[i] = values[i];
  return *t;
}
inline Tensor floats(const std::vector<int64_t>& dims, const std::vector<float>& values) {
  return tensor<float>(dims, values);
}
inline Tensor integers(const std::vector<int64_t>& dims, const std::vector<int64_t>& values) {
  return tensor<int64_t>(dims, values);
}
inline Tensor bools(const std::vector<int64_t>& dims, const std::vector<bool>& values) {
  return tensor<bool>(dims, values);
}

inline Result<Tensors> evaluate(const std::string& op, const Tensors& inputs,
                                Attributes attributes = {}, int outputs = 1) {
  Node node;
  node.op = op;
  node.attributes = std::move(attributes);
  for (int i = 0; i < outputs; ++i) node.outputs.push_back(i);
  return evaluate_reference(node, inputs);
}

// The first output, which must be `want` to the bit.
inline void expect_output(const Result<Tensors>& have, const Tensor& want, size_t output = 0) {
  ASSERT_TRUE(have.ok()) << have.status().message();
  ASSERT_GT(have->size(), output);
  const Tensor& t = (*have)[output];
  ASSERT_EQ(t.describe(), want.describe());
  for (int64_t i = 0; i < t.elements(); ++i) {
    const size_t width = size_of(t.dtype());
    const auto at = t.bytes().subspan(i * width, width),
               expected = want.bytes().subspan(i * width, width);
    EXPECT_TRUE(std::ranges::equal(at, expected)) << "element " << i;
  }
}

inline void expect_error(const Result<Tensors>& have, StatusCode code, const std::string& part) {
  ASSERT_FALSE(have.ok());
  EXPECT_EQ(have.status().code(), code) << have.status().message();
  EXPECT_NE(have.status().message().find(part), std::string::npos) << have.status().message();
}

}  // namespace verbatim::testing
