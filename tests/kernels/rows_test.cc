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
  expect_reference(*backend_, 400, [](Random& r) {
    const int64_t n = some_length(r), rows = r.between(0, 5);
    Attributes attributes;
    if (r.chance(20)) attributes.set("axis", r.between(-3, 2));
    Tensor x = floats(r, {2, rows, n}, any_fill(r));
    return Case{node_of("", "Softmax", attributes), {x}, {}};
  });
}

TEST_P(RowsTest, LayerNormalization) {
  expect_reference(*backend_, 400, [](Random& r) {
    const int64_t n = some_length(r), rows = r.between(0, 5);
    const Fill fill = any_fill(r);
    const bool two_axes = r.chance(20);
    Attributes attributes;
    if (two_axes) attributes.set("axis", int64_t{-2});
    if (r.chance(30)) attributes.set("epsilon", number(r, fill));
    Case c{node_of("", "LayerNormalization", attributes, 3), {}, {}};
    c.inputs.push_back(floats(r, {rows, 2, n}, fill));
    const auto affine = [&] {
      return floats(r, r.chance(10) ? Shape{1} : two_axes ? Shape{2, n} : Shape{n}, fill);
    };
    c.inputs.push_back(affine());
    if (r.chance(70)) c.inputs.push_back(affine());
    return c;
  });
}

TEST_P(RowsTest, RmsNormalization) {
  expect_reference(*backend_, 400, [](Random& r) {
    const int64_t n = some_length(r);
    const Fill fill = any_fill(r);
    return Case{node_of("", "RMSNormalization"),
                {floats(r, {r.between(0, 5), n}, fill),
                 floats(r, r.chance(10) ? Shape{1} : Shape{n}, fill)},
                {}};
  });
}

TEST_P(RowsTest, MeanPool) {
  expect_reference(*backend_, 200, [](Random& r) {
    const int64_t batch = r.between(0, 3), rows = some_length(r), width = r.between(0, 40);
    std::vector<int64_t> lengths;
    for (int64_t b = 0; b < batch; ++b)
      lengths.push_back(r.chance(3) ? rows + 1 : r.between(0, rows));
    return Case{node_of("verbatim", "MeanPool"),
                {floats(r, {batch, rows, width}, any_fill(r)),
                 *Tensor::from<int64_t>(Shape{batch}, lengths)},
                {}};
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
