// Softmax, normalisations and pooling against the reference.
#include <array>

#include "kernels/compare.h"

namespace verbatim::test {
namespace {

class RowsTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, RowsTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

// On both sides of the 32 lanes of a sum and of its block of 1024.
int64_t some_length(Random& r) {
  return r.chance(60) ? r.between(0, 70) : r.pick<int64_t>({384, 1023, 1024, 1025, 1056, 2050});
}

TEST_P(RowsTest, Softmax) {
  expect_reference(*backend_, 1000, [](Random& r) {
    const int64_t n = some_length(r), rows = r.between(0, 5);
    Attributes attributes;
    if (r.chance(20)) attributes.set("axis", r.between(-3, 2));
    Tensor x = numbers(r, any_type(r), {2, rows, n}, any_fill(r));
    return Case{node_of("", "Softmax", attributes), {x}, {}};
  });
}

// What generated cases reach seldom.
TEST_P(RowsTest, OfNothing) {
  Random r(1);
  const Tensor x = floats(r, {3, 0}, Fill::ordinary), none = floats(r, {0}, Fill::ordinary);
  for (const Case& c :
       {Case{node_of("", "Softmax"), {x}, {}}, Case{node_of("", "LogSoftmax"), {x}, {}},
        Case{node_of("", "LayerNormalization"), {x, none, none}, {}},
        Case{node_of("", "RMSNormalization"), {x, none}, {}},
        Case{node_of("verbatim", "L2Normalize"), {x}, {}},
        Case{node_of("", "ReduceSum"), {x, *Tensor::from<int64_t>(Shape{1}, {{1}})}, {}}})
    expect_reference(*backend_, c);
}

TEST_P(RowsTest, LayerNormalization) {
  expect_reference(*backend_, 1000, [](Random& r) {
    const int64_t n = some_length(r), rows = r.between(0, 5);
    const DType type = any_type(r);
    const Fill fill = any_fill(r);
    const bool two_axes = r.chance(20);
    Attributes attributes;
    if (two_axes) attributes.set("axis", int64_t{-2});
    if (r.chance(30)) attributes.set("epsilon", number(r, fill));
    Case c{node_of("", "LayerNormalization", attributes, 3), {}, {}};
    c.inputs.push_back(numbers(r, type, {rows, 2, n}, fill));
    const auto affine = [&] {
      return numbers(r, type, r.chance(10) ? Shape{1} : two_axes ? Shape{2, n} : Shape{n}, fill);
    };
    c.inputs.push_back(affine());
    if (r.chance(70)) c.inputs.push_back(affine());
    return c;
  });
}

TEST_P(RowsTest, RmsNormalization) {
  expect_reference(*backend_, 1000, [](Random& r) {
    const int64_t n = some_length(r);
    const DType type = any_type(r);
    const Fill fill = any_fill(r);
    return Case{node_of("", "RMSNormalization"),
                {numbers(r, type, {r.between(0, 5), n}, fill),
                 numbers(r, type, r.chance(10) ? Shape{1} : Shape{n}, fill)},
                {}};
  });
}

TEST_P(RowsTest, L2Normalize) {
  expect_reference(*backend_, 1000, [](Random& r) {
    const Fill fill = any_fill(r);
    Attributes attributes;
    if (r.chance(30)) attributes.set("epsilon", number(r, Fill::special));
    return Case{node_of("verbatim", "L2Normalize", attributes),
                {numbers(r, any_type(r), {r.between(0, 5), some_length(r)}, fill)},
                {}};
  });
}

TEST_P(RowsTest, MeanPool) {
  expect_reference(*backend_, 400, [](Random& r) {
    const int64_t batch = r.between(0, 3), rows = some_length(r), width = r.between(0, 40);
    std::vector<int64_t> lengths;
    for (int64_t b = 0; b < batch; ++b)
      lengths.push_back(r.chance(3) ? rows + 1 : r.between(0, rows));
    return Case{node_of("verbatim", "MeanPool"),
                {numbers(r, any_type(r), {batch, rows, width}, any_fill(r)),
                 *Tensor::from<int64_t>(Shape{batch}, lengths)},
                {}};
  });
}

std::string some_reduction(Random& r) {
  return r.pick<const char*>({"ReduceSum", "ReduceMean", "ReduceL1", "ReduceSumSquare", "ReduceL2",
                              "ReduceMax", "ReduceMin"});
}

// One long axis, and others around it; any of them is reduced.
TEST_P(RowsTest, Reductions) {
  expect_reference(*backend_, 3000, [](Random& r) {
    const int64_t n = some_length(r), rank = r.between(0, 4), longest = r.between(0, rank);
    std::vector<int64_t> dims, axes;
    for (int64_t i = 0; i < rank; ++i) {
      dims.push_back(i == longest ? n : r.pick<int64_t>({0, 1, 1, 2, 3, 5}));
      if (r.chance(40)) axes.push_back(r.chance(50) ? i : i - rank);
    }
    // Results side by side, on both sides of a strip of 64.
    if (rank > 1 && longest + 1 < rank && r.chance(50))
      dims.back() = r.chance(50) ? r.between(1, 70) : r.pick<int64_t>({64, 128, 130});
    Attributes attributes;
    if (r.chance(50)) attributes.set("keepdims", r.between(0, 1));
    if (r.chance(20)) attributes.set("noop_with_empty_axes", int64_t{1});
    if (r.chance(2)) axes.push_back(rank);  // wrong
    Case c{node_of("", some_reduction(r), attributes), {}, {}};
    c.inputs.push_back(numbers(r, any_type(r), *Shape::of(dims), any_fill(r)));
    if (!axes.empty() || r.chance(50))
      c.inputs.push_back(*Tensor::from<int64_t>(Shape{static_cast<int64_t>(axes.size())}, axes));
    return c;
  });
}

// Zeros of both signs alone: a sum of -0 is -0, and a maximum tells them apart.
TEST_P(RowsTest, ReductionsOfZeros) {
  expect_reference(*backend_, 400, [](Random& r) {
    const int64_t n = some_length(r);
    Tensor x = *Tensor::allocate(DType::f32, r.chance(50) ? Shape{3, n} : Shape{n, 3});
    const int positive = r.chance(50) ? 0 : 10;
    for (float& v : x.mutable_data<float>()) v = r.chance(positive) ? 0.0f : -0.0f;
    const int64_t axis = x.dim(0) == n ? 0 : 1;
    return Case{
        node_of("", some_reduction(r)), {x, *Tensor::from<int64_t>({1}, std::array{axis})}, {}};
  });
}

// A sum of -0 alone is -0: no lane may start from +0.
TEST_P(RowsTest, NegativeZeros) {
  const auto zeros = [](const Shape& shape) {
    Tensor t = *Tensor::allocate(DType::f32, shape);
    for (float& x : t.mutable_data<float>()) x = -0.0f;
    return t;
  };
  for (const int64_t n : {1, 5, 31, 32, 33, 1024, 1025, 1030}) {
    expect_reference(
        *backend_,
        {node_of("", "LayerNormalization", {}, 3), {zeros({2, n}), zeros({n}), zeros({n})}, {}});
    expect_reference(*backend_, {node_of("verbatim", "MeanPool"),
                                 {zeros({1, n, 9}), *Tensor::from<int64_t>({1}, std::array{n})},
                                 {}});
  }
}

}  // namespace
}  // namespace verbatim::test
