// Products of Q16.16 codes against the reference.
#include <verbatim/repops/ops/fixed_point.h>

#include <rapidcheck.h>

#include "kernels/compare.h"

namespace verbatim::test {
namespace {

class FixedPointTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, FixedPointTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

// How great codes are: products in an int64; about where a row's norm stops to fit; all of them.
enum class Range { narrow, middle, whole };

int32_t code(Random& r, Range range) {
  if (range == Range::whole && r.chance(50))
    return static_cast<int32_t>(r.pick({INT32_MIN, INT32_MIN + 1, INT32_MAX, -1, 0, 1}));
  const int64_t bound = int64_t{1} << (range == Range::narrow   ? 22
                                       : range == Range::middle ? 29
                                                                : 31);
  return static_cast<int32_t>(r.between(-bound, bound - 1));
}
Tensor some_codes(Random& r, const Shape& shape) {
  Tensor t = *Tensor::allocate(DType::i32, shape);
  const int64_t k = shape[shape.rank() - 1];
  Range range = Range::narrow;
  for (int64_t i = 0; i < t.elements(); ++i) {
    if (i % k == 0) range = r.pick({Range::narrow, Range::narrow, Range::middle, Range::whole});
    t.mutable_data<int32_t>()[i] = code(r, range);
  }
  return t;
}

Case some_product(Random& r, int64_t m, int64_t n, int64_t k) {
  const Attributes attributes = {{"fraction", r.pick({int64_t{16}, int64_t{32}})}};
  return {node_of("verbatim", r.chance(50) ? "FixedDot" : "FixedSquaredDistance", attributes, 2),
          {some_codes(r, r.chance(30) ? Shape{2, m, k} : Shape{m, k}), some_codes(r, Shape{n, k})},
          {}};
}

TEST_P(FixedPointTest, Product) {
  rc::check([&] {
    Random r(*rc::gen::arbitrary<uint64_t>());
    const auto m = *rc::gen::inRange<int64_t>(0, 40), n = *rc::gen::inRange<int64_t>(0, 140),
               k = *rc::gen::inRange<int64_t>(0, 70);
    expect_reference(*backend_, some_product(r, m, n, k));
    RC_ASSERT(!HasFailure());
  });
}

Tensor filled(int64_t rows, int64_t k, int32_t value) {
  Tensor t = *Tensor::allocate(DType::i32, Shape{rows, k});
  for (int32_t& c : t.mutable_data<int32_t>()) c = value;
  return t;
}

// Norms just below, at and above what an int64 of products allows, and the greatest there are.
TEST_P(FixedPointTest, NormsAboutTheLimit) {
  for (const char* op : {"FixedDot", "FixedSquaredDistance"})
    for (const int64_t fraction : {16, 32})
      for (const int64_t k : {int64_t{8}, int64_t{32}, kMaxFixedDimensions})
        for (int log = 20; log <= 31; ++log)
          for (const int64_t offset : {-1, 0, 1})
            for (const int sign : {-1, 1}) {
              const int64_t value = sign * ((int64_t{1} << log) + offset);
              if (value < INT32_MIN || value > INT32_MAX) continue;
              if (k == kMaxFixedDimensions && log % 4 != 2 && log != 31) continue;
              const auto v = static_cast<int32_t>(value);
              expect_reference(*backend_,
                               Case{node_of("verbatim", op, {{"fraction", fraction}}, 2),
                                    {filled(2, k, v), filled(5, k, v == INT32_MIN ? v : -v)},
                                    {}});
            }
}

TEST_P(FixedPointTest, Errors) {
  Random r(1);
  Case c = some_product(r, 2, 3, 4);
  c.inputs[1] = filled(3, 5, 1);
  expect_reference(*backend_, c);
  c = some_product(r, 2, 3, 4);
  c.node.attributes.set("fraction", int64_t{8});
  expect_reference(*backend_, c);
}

}  // namespace
}  // namespace verbatim::test
