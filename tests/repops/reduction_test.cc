// Reductions against the contract's written order, and ties, NaN and emptiness.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <verbatim/repops/ops/sum.h>

#include "repops/op_support.h"

namespace verbatim::testing {
namespace {

const Attributes kDrop = {{"keepdims", int64_t{0}}};

// The order of docs/numerics.md written a second time, without sum.h.
float sum_by_the_text(const std::vector<float>& x) {
  float total = 0;
  for (size_t block = 0; block < x.size(); block += 1024) {
    const size_t size = std::min<size_t>(1024, x.size() - block);
    std::vector<float> lanes;
    for (size_t i = 0; i < size; ++i) {
      if (i < 32)
        lanes.push_back(x[block + i]);
      else
        lanes[i % 32] += x[block + i];
    }
    for (size_t s = 16; s > 0; s /= 2)
      for (size_t j = 0; j < s; ++j)
        if (j + s < lanes.size()) lanes[j] += lanes[j + s];
    total = block == 0 ? lanes[0] : total + lanes[0];
  }
  return total;
}

std::vector<float> noise(size_t n) {
  std::vector<float> v;
  uint32_t state = 12345;
  for (size_t i = 0; i < n; ++i) {
    state = state * 1664525u + 1013904223u;
    v.push_back(float_of((state >> 9) | 0x3F800000) * ((state & 1) ? 1.0f : -3.0f));
  }
  return v;
}

TEST(Reduction, SumFollowsTheWrittenOrder) {
  for (size_t n : {0, 1, 2, 31, 32, 33, 63, 100, 1023, 1024, 1025, 5000}) {
    const std::vector<float> v = noise(n);
    const Tensor x = floats({static_cast<int64_t>(n)}, v);
    expect_output(evaluate("ReduceSum", {x}, kDrop), floats({}, {sum_by_the_text(v)}));
    if (n > 0)
      expect_output(evaluate("ReduceMean", {x}, kDrop),
                    floats({}, {sum_by_the_text(v) / static_cast<float>(n)}));
  }
}

// Axes 0 and 2 of [3, 2, 40] are flattened row-major: 120 elements, in lanes by their number.
TEST(Reduction, SeveralAxesAreFlattenedRowMajor) {
  const std::vector<float> v = noise(240);
  std::vector<float> first, second;
  for (int a = 0; a < 3; ++a)
    for (int c = 0; c < 40; ++c) {
      first.push_back(v[a * 80 + c]);
      second.push_back(v[a * 80 + 40 + c]);
    }
  expect_output(evaluate("ReduceSum", {floats({3, 2, 40}, v), integers({2}, {2, 0})}, kDrop),
                floats({2}, {sum_by_the_text(first), sum_by_the_text(second)}));
}

TEST(Reduction, NothingToReduce) {
  const Tensor none = floats({0}, {});
  expect_output(evaluate("ReduceSum", {none}, kDrop), floats({}, {0}));
  expect_output(evaluate("ReduceProd", {none}, kDrop), floats({}, {1}));
  expect_output(evaluate("ReduceMax", {none}, kDrop), floats({}, {-kInf}));
  expect_output(evaluate("ReduceMin", {none}, kDrop), floats({}, {kInf}));
  expect_output(evaluate("ReduceLogSumExp", {none}, kDrop), floats({}, {-kInf}));
  const Attributes noop = {{"noop_with_empty_axes", int64_t{1}}};
  expect_output(evaluate("ReduceSumSquare", {floats({2}, {2, 3})}, noop), floats({2}, {4, 9}));
}

TEST(Reduction, IntegersWrap) {
  const Tensor x = tensor<int32_t>({2}, {std::numeric_limits<int32_t>::max(), 1});
  expect_output(evaluate("ReduceSum", {x}, kDrop),
                tensor<int32_t>({}, {std::numeric_limits<int32_t>::min()}));
}

TEST(Reduction, ArgMaxTakesTheLowerIndexAndSkipsNan) {
  const Tensor x = floats({6}, {kNan, 1, 3, -0.0f, 3, kNan});
  expect_output(evaluate("ArgMax", {x}, kDrop), integers({}, {2}));
  Attributes last = kDrop;
  last.set("select_last_index", int64_t{1});
  expect_output(evaluate("ArgMax", {x}, last), integers({}, {4}));
  expect_output(evaluate("ArgMin", {floats({3}, {0.0f, -0.0f, 1})}, kDrop), integers({}, {0}));
  expect_output(evaluate("ArgMax", {floats({2}, {kNan, kNan})}, kDrop), integers({}, {0}));
  expect_error(evaluate("ArgMax", {floats({0}, {})}, kDrop), StatusCode::bad_input, "no elements");
}

TEST(Reduction, TopKOrdersTiesAndNan) {
  const Tensor x = floats({5}, {1, kNan, 3, 3, 2});
  const Result<Tensors> top = evaluate("TopK", {x, integers({1}, {5})}, {}, 2);
  expect_output(top, floats({5}, {3, 3, 2, 1, kNan}));
  expect_output(top, integers({5}, {2, 3, 4, 0, 1}), 1);
  const Result<Tensors> least =
      evaluate("TopK", {x, integers({1}, {5})}, {{"largest", int64_t{0}}}, 2);
  expect_output(least, integers({5}, {0, 4, 2, 3, 1}), 1);
  expect_error(evaluate("TopK", {x, integers({1}, {6})}, {}, 2), StatusCode::bad_input, "k = 6");
}

TEST(Reduction, CumSumExclusiveAndReverse) {
  const Tensor x = floats({3}, {1, 2, 3}), axis = integers({}, {0});
  expect_output(evaluate("CumSum", {x, axis}), floats({3}, {1, 3, 6}));
  expect_output(evaluate("CumSum", {x, axis}, {{"exclusive", int64_t{1}}, {"reverse", int64_t{1}}}),
                floats({3}, {5, 3, 0}));
}

TEST(Reduction, EinsumOfTwoMatricesIsMatMulToTheBit) {
  const Tensor a = floats({3, 700}, noise(2100)), b = floats({700, 2}, noise(1400));
  const Result<Tensors> want = evaluate("MatMul", {a, b});
  ASSERT_TRUE(want.ok());
  expect_output(evaluate("Einsum", {a, b}, {{"equation", std::string("ik,kj->ij")}}), (*want)[0]);
  expect_output(
      evaluate("Einsum", {floats({2, 2}, {1, 2, 3, 4})}, {{"equation", std::string("ii")}}),
      floats({}, {5}));
  expect_error(evaluate("Einsum", {a}, {{"equation", std::string("ij,jk")}}), StatusCode::bad_input,
               "terms");
}

RC_GTEST_PROP(Reduction, AnySplitOfAnyRankAgreesWithTheText, ()) {
  const int64_t outer = *rc::gen::inRange(1, 4), size = *rc::gen::inRange(1, 80),
                inner = *rc::gen::inRange(1, 4);
  const std::vector<float> v = noise(static_cast<size_t>(outer * size * inner));
  std::vector<float> want;
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      std::vector<float> row;
      for (int64_t k = 0; k < size; ++k) row.push_back(v[(o * size + k) * inner + i]);
      want.push_back(sum_by_the_text(row));
    }
  const Result<Tensors> have =
      evaluate("ReduceSum", {floats({outer, size, inner}, v), integers({1}, {1})}, kDrop);
  RC_ASSERT(have.ok());
  RC_ASSERT(identical((*have)[0], floats({outer, inner}, want)));
}

}  // namespace
}  // namespace verbatim::testing
