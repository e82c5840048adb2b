// Operators that read between elements or at places computed: GridSample, AffineGrid, DeformConv,
// Col2Im, RoiAlign, NonMaxSuppression; and Det.
#include <gtest/gtest.h>

#include "op_support.h"
#include "support/random_tensor.h"

namespace verbatim {
namespace {

using test::Random;
using testing::evaluate;
using testing::expect_error;
using testing::expect_output;
using testing::floats;
using testing::integers;
using testing::kInf;
using testing::kNan;

// One row of 4 elements, sampled at positions in elements (align_corners).
Tensor sampled(const std::vector<float>& at, const char* mode, const char* padding) {
  const Tensor x = floats({1, 1, 4}, {10, 20, 40, 80});
  std::vector<float> grid;
  for (const float p : at) grid.push_back(p * 2 / 3 - 1);
  const auto n = static_cast<int64_t>(at.size());
  const Result<Tensors> y =
      evaluate("GridSample", {x, floats({1, n, 1}, grid)},
               {{"mode", mode}, {"padding_mode", padding}, {"align_corners", int64_t{1}}});
  EXPECT_TRUE(y.ok()) << y.status().message();
  return y.ok() ? (*y)[0] : Tensor();
}

TEST(GridSample, PadsAsToldWhereverThePositionIs) {
  const std::vector<float> at = {1, -1.5f, -3, 6, 1e30f, -1e30f, kInf, -kInf, kNan};
  expect_output(Tensors{sampled(at, "nearest", "zeros")},
                floats({1, 1, 9}, {20, 0, 0, 0, 0, 0, 0, 0, 10}));
  expect_output(Tensors{sampled(at, "linear", "border")},
                floats({1, 1, 9}, {20, 10, 10, 80, 80, 10, 80, 10, 10}));
  const Tensor mirrored = sampled(at, "linear", "reflection");
  EXPECT_EQ(mirrored.data<float>()[0], 20);
  EXPECT_EQ(mirrored.data<float>()[1], 30);
  EXPECT_EQ(mirrored.data<float>()[2], 80);
  EXPECT_EQ(mirrored.data<float>()[3], 10);
  for (const float v : mirrored.data<float>()) EXPECT_TRUE(v >= 10 && v <= 80) << v;
}

// Half an element beyond the edge, half of the edge's weight is on nothing.
TEST(GridSample, ElementsOutsideTakeNoPart) {
  Tensor x = floats({1, 1, 2}, {kInf, 1});
  expect_output(evaluate("GridSample", {x, floats({1, 1, 1}, {1})}), floats({1, 1, 1}, {0.5f}));
  expect_error(evaluate("GridSample", {x, floats({1, 1, 2}, {1, 1})}), StatusCode::bad_input,
               "grid");
  expect_error(evaluate("GridSample", {x, floats({1, 1, 1}, {1})}, {{"mode", "bilinear"}}),
               StatusCode::bad_input, "mode");
}

TEST(AffineGrid, AnAxisOfOneElementAndHostileSizes) {
  const Tensor theta = floats({1, 2, 3}, {1, 0, 0, 0, 1, 0});
  expect_output(
      evaluate("AffineGrid", {theta, integers({4}, {1, 1, 1, 3})}, {{"align_corners", int64_t{1}}}),
      floats({1, 1, 3, 2}, {-1, -1, 0, -1, 1, -1}));
  expect_output(evaluate("AffineGrid", {theta, integers({4}, {1, 1, 1, 2})}),
                floats({1, 1, 2, 2}, {-0.5f, 0, 0.5f, 0}));
  for (const int64_t n : {INT64_MAX, INT64_MIN, int64_t{-1}})
    EXPECT_FALSE(evaluate("AffineGrid", {theta, integers({4}, {n, n, n, n})}).ok());
  EXPECT_FALSE(evaluate("AffineGrid", {theta, integers({4}, {1, 1, INT64_MAX, 3})}).ok());
}

// With offsets of whole elements and masks of 1 it is the convolution, to the bit.
TEST(DeformConv, WholeOffsetsGiveTheConvolutionsBits) {
  Random random(1);
  const Tensor x = random.floats({2, 4, 6, 5}), w = random.floats({6, 2, 3, 2}),
               bias = random.floats({6});
  const Attributes a = {{"group", int64_t{2}},
                        {"strides", std::vector<int64_t>{2, 1}},
                        {"pads", std::vector<int64_t>{1, 0, 1, 1}}};
  const Tensor want = (*evaluate("Conv", {x, w, bias}, a))[0];
  Tensor offset = *Tensor::zeros(DType::f32, Shape{2, 12, want.dim(2), want.dim(3)}),
         mask = *Tensor::allocate(DType::f32, Shape{2, 6, want.dim(2), want.dim(3)});
  std::ranges::fill(mask.mutable_data<float>(), 1.0f);
  expect_output(evaluate("DeformConv", {x, w, offset, bias, mask}, a), want);
  std::ranges::fill(mask.mutable_data<float>(), 0.5f);
  const Tensor half = (*evaluate("Mul", {x, floats({}, {0.5f})}))[0];
  expect_output(evaluate("DeformConv", {x, w, offset, bias, mask}, a),
                (*evaluate("Conv", {half, w, bias}, a))[0]);
  std::ranges::fill(offset.mutable_data<float>(), 100.0f);
  const Tensors far = *evaluate("DeformConv", {x, w, offset, bias, mask}, a);
  EXPECT_EQ(bits_of(far[0].data<float>()[0]), bits_of(bias.data<float>()[0]));
  offset.mutable_data<float>()[0] = kNan;
  EXPECT_TRUE(evaluate("DeformConv", {x, w, offset, bias, mask}, a).ok());
  expect_error(evaluate("DeformConv", {x, w, mask, bias}, a), StatusCode::bad_input, "offset");
}

// The second half of the channels reads one row further down.
TEST(DeformConv, EachOffsetGroupHasItsOwnOffsets) {
  Random random(2);
  const Tensor x = random.floats({1, 4, 3, 3}), w = random.floats({2, 4, 1, 1});
  Tensor offset = *Tensor::zeros(DType::f32, Shape{1, 4, 3, 3}),
         moved = *Tensor::zeros(DType::f32, Shape{1, 4, 3, 3});
  for (int64_t i = 0; i < 36; ++i) {
    const bool second = i >= 18, inside = i % 9 < 6;
    if (i / 9 == 2) offset.mutable_data<float>()[i] = 1;
    if (!second || inside) moved.mutable_data<float>()[i] = x.data<float>()[second ? i + 3 : i];
  }
  expect_output(evaluate("DeformConv", {x, w, offset}, {{"offset_group", int64_t{2}}}),
                (*evaluate("Conv", {moved, w}))[0]);
}

TEST(Col2Im, AddsWhatOverlaps) {
  const Tensor x = floats({1, 2, 3}, {1, 2, 3, 10, 20, 30});  // windows of 2, one apart
  expect_output(evaluate("Col2Im", {x, integers({1}, {4}), integers({1}, {2})}),
                floats({1, 1, 4}, {1, 12, 23, 30}));
  for (const int64_t n : {INT64_MAX, int64_t{-1}, int64_t{0}, int64_t{5}}) {
    EXPECT_FALSE(evaluate("Col2Im", {x, integers({1}, {n}), integers({1}, {2})}).ok());
    EXPECT_FALSE(evaluate("Col2Im", {x, integers({1}, {4}), integers({1}, {n})}).ok());
  }
}

TEST(RoiAlign, BoundsTheSamplesOfHugeRegions) {
  const Tensor x = floats({1, 1, 1, 2}, {1, 3}), batch = integers({1}, {0});
  expect_output(evaluate("RoiAlign", {x, floats({1, 4}, {0, 0, 2, 1}), batch}),
                floats({1, 1, 1, 1}, {2}));
  expect_output(evaluate("RoiAlign", {x, floats({1, 4}, {0, 0, 1.5f, 1}), batch}),
                floats({1, 1, 1, 1}, {1.625f}));  // a bin of 1.5 elements has two samples
  expect_error(evaluate("RoiAlign", {x, floats({1, 4}, {0, 0, 1e30f, 1}), batch}),
               StatusCode::limit, "samples");
  for (const float v : {kNan, kInf, -1e30f}) {
    const Result<Tensors> y = evaluate("RoiAlign", {x, floats({1, 4}, {v, v, v, v}), batch});
    if (y.ok()) {
      EXPECT_EQ(bits_of((*y)[0].data<float>()[0]), 0u);
    }
  }
  expect_error(evaluate("RoiAlign", {x, floats({1, 4}, {0, 0, 2, 1}), integers({1}, {1})}),
               StatusCode::bad_input, "batch index 1 of 1");
}

TEST(NonMaxSuppression, TiesGoToTheLowerIndexAndNanIsLast) {
  std::vector<float> boxes;
  for (int i = 0; i < 4; ++i)
    for (const float v :
         {0.0f, 10.0f * static_cast<float>(i), 1.0f, 10.0f * static_cast<float>(i) + 1})
      boxes.push_back(v);
  const Tensors inputs = {floats({1, 4, 4}, boxes), floats({1, 1, 4}, {kNan, 0.0f, 2, -0.0f}),
                          integers({1}, {9})};
  expect_output(evaluate("NonMaxSuppression", inputs),
                integers({4, 3}, {0, 0, 2, 0, 0, 1, 0, 0, 3, 0, 0, 0}));
  Tensors above = inputs;
  above.resize(5);
  above[4] = floats({1}, {-1});
  expect_output(evaluate("NonMaxSuppression", above),
                integers({3, 3}, {0, 0, 2, 0, 0, 1, 0, 0, 3}));
  expect_output(evaluate("NonMaxSuppression", {inputs[0], inputs[1]}), integers({0, 3}, {}));
}

TEST(Det, PivotsAndSpecialValues) {
  expect_output(evaluate("Det", {floats({2, 2}, {0, 2, 3, 4})}), floats({}, {-6}));
  expect_output(evaluate("Det", {floats({2, 2}, {0, 1, 0, 1})}), floats({}, {0}));
  expect_output(evaluate("Det", {floats({2, 0, 0}, {})}), floats({2}, {1, 1}));
  const Tensors nan = *evaluate("Det", {floats({2, 2}, {0, 1, kNan, 1})});
  EXPECT_EQ(bits_of(nan[0].data<float>()[0]), kNanBits);
  expect_error(evaluate("Det", {floats({2, 1}, {0, 1})}), StatusCode::bad_input, "Det of");
}

}  // namespace
}  // namespace verbatim
