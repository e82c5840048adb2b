// Rows to int8 codes against the reference.
#include <cmath>

#include "kernels/compare.h"

namespace verbatim::test {
namespace {

class QuantizeRowsTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, QuantizeRowsTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

// Rotations within a register and beyond, of one block and of several, which are reflected.
struct Row {
  int64_t rotation, n;
};
Row some_row(Random& r) {
  const int64_t rotation = int64_t{1} << r.between(0, 10);
  return {rotation, rotation * (r.chance(40) ? 1 : r.between(0, rotation > 64 ? 3 : 20))};
}

// Rows of numbers whose scale is subnormal or zero, or nearly too great, besides the usual ones.
Tensor rows_of(Random& r, const Shape& shape) {
  Tensor x = floats(r, shape, any_fill(r));
  if (r.chance(60)) return x;
  const int shift = r.pick<int>({-150, -147, -140, -126, -120, -100, -93, 100, 120, 126});
  for (float& v : x.mutable_data<float>()) v = std::ldexp(v, shift);
  return x;
}

TEST_P(QuantizeRowsTest, Rows) {
  expect_reference(*backend_, 1000, [](Random& r) {
    const Row row = some_row(r);
    Attributes attributes;
    if (row.rotation > 1 || r.chance(50)) attributes.set("rotation", row.rotation);
    if (r.chance(3)) attributes.set("rotation", int64_t{3});
    if (r.chance(3)) attributes.set("to", static_cast<int64_t>(DType::f8e4m3));
    return Case{node_of("verbatim", "QuantizeRows", attributes, 2),
                {rows_of(r, {2, r.between(0, 9), row.n})},
                {}};
  });
}

TEST_P(QuantizeRowsTest, Float8) {
  expect_reference(*backend_, 300, [](Random& r) {
    return Case{
        node_of("verbatim", "QuantizeRows", {{"to", static_cast<int64_t>(DType::f8e4m3)}}, 2),
        {rows_of(r, {r.between(0, 3), r.pick({r.between(1, 40), r.between(1, 1500)})})},
        {}};
  });
}

// What a product with the inverse scale does not decide.
TEST_P(QuantizeRowsTest, QuotientsNextToHalves) {
  expect_reference(*backend_, 300, [](Random& r) {
    const float greatest = 127 * (0.1f + std::abs(number(r, Fill::ordinary)));
    const float scale = greatest / 127;
    std::vector<float> row{greatest};
    for (int k = -127; k < 127; ++k) {
      const float half = (static_cast<float>(k) + 0.5f) * scale;
      for (const float v : {half, std::nextafter(half, 0.0f), std::nextafter(half, 2 * half)})
        row.push_back(v);
    }
    const auto n = static_cast<int64_t>(row.size());
    return Case{
        node_of("verbatim", "QuantizeRows", {}, 2), {*Tensor::from<float>({1, n}, row)}, {}};
  });
}

TEST_P(QuantizeRowsTest, KeysAndValues) {
  expect_reference(*backend_, 1000, [](Random& r) {
    const int64_t heads = r.between(1, 3),
                  size = r.chance(50) ? r.between(1, 70) : r.pick<int64_t>({64, 96, 128, 256});
    Attributes attributes;
    attributes.set("heads", r.chance(3) ? int64_t{0} : heads);
    return Case{
        node_of("verbatim", r.chance(50) ? "QuantizeKeys" : "QuantizeValues", attributes, 2),
        {rows_of(r, {r.between(0, 2), r.between(0, 9), heads * size})},
        {}};
  });
}

// The least exponent that holds a value: the greatest of a row is 127 / 128 of a power of two, or
// one step above.
TEST_P(QuantizeRowsTest, ValuesAtTheEdgeOfAnExponent) {
  for (int e = -149; e <= 127; ++e) {
    for (const float edge : {std::ldexp(127.0f / 64, e), std::ldexp(0x1.fc0002p0f, e),
                             std::ldexp(0x1.fbfffep0f, e), std::ldexp(1.0f, e)}) {
      Tensor x = *Tensor::allocate(DType::f32, Shape{1, 1, 3});
      std::ranges::copy(std::initializer_list<float>{edge, -edge, edge / 3},
                        x.mutable_data<float>().begin());
      Attributes attributes;
      attributes.set("heads", int64_t{1});
      expect_reference(*backend_,
                       Case{node_of("verbatim", "QuantizeValues", attributes, 2), {x}, {}});
    }
  }
}

}  // namespace
}  // namespace verbatim::test
