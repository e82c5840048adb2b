#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

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
using testing::kNan;

TEST(Dft, IsItsDefinitionOnBothSides) {
  Random random(1);
  for (const int64_t n : {1, 2, 5, 12, 64}) {
    const Tensor x = random.floats({1, n, 2});
    const Tensors y = *evaluate("DFT", {x});
    for (int64_t k = 0; k < n; ++k) {
      double re = 0, im = 0;
      for (int64_t j = 0; j < n; ++j) {
        const double angle = -2 * std::numbers::pi * static_cast<double>(j * k) / n,
                     a = x.data<float>()[2 * j], b = x.data<float>()[2 * j + 1];
        re += a * std::cos(angle) - b * std::sin(angle);
        im += a * std::sin(angle) + b * std::cos(angle);
      }
      EXPECT_NEAR(y[0].data<float>()[2 * k], re, 1e-6 * n);
      EXPECT_NEAR(y[0].data<float>()[2 * k + 1], im, 1e-6 * n);
    }
    const Tensors back = *evaluate("DFT", y, {{"inverse", int64_t{1}}});
    for (int64_t i = 0; i < 2 * n; ++i)
      EXPECT_NEAR(back[0].data<float>()[i], x.data<float>()[i], 1e-6);
  }
}

// The roots at multiples of a quarter turn are exact, so nothing is left where waves cancel.
TEST(Dft, QuarterTurnsAreExact) {
  expect_output(evaluate("DFT", {floats({1, 4, 1}, {1, 2, 4, 8})}),
                floats({1, 4, 2}, {15, 0, -3, 6, -5, 0, -3, -6}));
  expect_output(evaluate("DFT", {floats({1, 4, 1}, {1, 2, 4, 8})}, {{"onesided", int64_t{1}}}),
                floats({1, 3, 2}, {15, 0, -3, 6, -5, 0}));
}

TEST(Dft, AOneSidedInverseIsReal) {
  for (const int64_t n : {6, 7}) {
    Random random(2);
    const Tensor x = random.floats({2, n, 1});
    Tensors y = *evaluate("DFT", {x}, {{"onesided", int64_t{1}}});
    y[0].mutable_data<float>()[1] = kNan;  // the first element is real: its other part is not read
    const Tensors back = *evaluate("DFT", {y[0], integers({}, {n})},
                                   {{"onesided", int64_t{1}}, {"inverse", int64_t{1}}});
    ASSERT_EQ(back[0].describe(), x.describe());
    for (int64_t i = 0; i < x.elements(); ++i)
      EXPECT_NEAR(back[0].data<float>()[i], x.data<float>()[i], 1e-6);
  }
}

TEST(Dft, LengthsPadAndCutAndAreBounded) {
  const Tensor x = floats({1, 2, 1}, {1, 2});
  expect_output(evaluate("DFT", {x, integers({}, {4})}),
                floats({1, 4, 2}, {3, 0, 1, -2, -1, 0, 1, 2}));
  expect_output(evaluate("DFT", {x, integers({}, {1})}), floats({1, 1, 2}, {1, 0}));
  for (const int64_t n : {int64_t{0}, int64_t{-1}, INT64_MAX, int64_t{1} << 40})
    EXPECT_FALSE(evaluate("DFT", {x, integers({}, {n})}).ok());
  expect_error(evaluate("DFT", {x, Tensor(), integers({}, {2})}), StatusCode::bad_input, "axis");
}

TEST(Stft, IsTheDftOfEachFrame) {
  Random random(3);
  const Tensor x = random.floats({1, 10, 1}), window = random.floats({4});
  const Tensors y = *evaluate("STFT", {x, integers({}, {3}), Tensor(), integers({}, {4})});
  ASSERT_EQ(y[0].describe(), "float32 [1, 3, 3, 2]");
  for (int64_t f = 0; f < 3; ++f) {
    const Tensor frame = *Tensor::from<float>({1, 4, 1}, x.data<float>().subspan(3 * f, 4));
    const Tensors want = *evaluate("DFT", {frame}, {{"onesided", int64_t{1}}});
    for (int64_t i = 0; i < 6; ++i)
      EXPECT_EQ(y[0].data<float>()[6 * f + i], want[0].data<float>()[i]);
  }
  for (const int64_t step : {int64_t{0}, int64_t{-1}})
    EXPECT_FALSE(evaluate("STFT", {x, integers({}, {step}), window}).ok());
  EXPECT_FALSE(evaluate("STFT", {x, integers({}, {1}), window, integers({}, {5})}).ok());
  EXPECT_TRUE(evaluate("STFT", {x, integers({}, {INT64_MAX}), window}).ok());
}

TEST(Windows, EndsAndSizes) {
  const Attributes symmetric = {{"periodic", int64_t{0}}};
  expect_output(evaluate("HannWindow", {integers({}, {5})}, symmetric),
                floats({5}, {0, 0.5f, 1, 0.5f, 0}));
  expect_output(evaluate("HannWindow", {integers({}, {4})}), floats({4}, {0, 0.5f, 1, 0.5f}));
  expect_output(evaluate("HammingWindow", {integers({}, {1})}, symmetric), floats({1}, {1}));
  expect_output(evaluate("BlackmanWindow", {integers({}, {0})}, symmetric), floats({0}, {}));
  for (const int64_t n : {int64_t{-1}, INT64_MIN, INT64_MAX})
    EXPECT_FALSE(evaluate("HannWindow", {integers({}, {n})}).ok());
  EXPECT_EQ(evaluate("HannWindow", {integers({}, {4})}, {{"output_datatype", int64_t{8}}})
                .status()
                .code(),
            StatusCode::unsupported);
}

TEST(MelWeightMatrix, RefusesHostileSizes) {
  const auto run = [](int64_t bands, int64_t length, int64_t rate, float low, float high) {
    return evaluate("MelWeightMatrix",
                    {integers({}, {bands}), integers({}, {length}), integers({}, {rate}),
                     floats({}, {low}), floats({}, {high})});
  };
  EXPECT_TRUE(run(8, 16, 8192, 0, 4096).ok());
  EXPECT_TRUE(run(4, 16, 1, 0, 1e20f).ok()) << "bands beyond the last bin";
  EXPECT_FALSE(run(-1, 16, 8192, 0, 4096).ok());
  EXPECT_FALSE(run(INT64_MAX, 16, 8192, 0, 4096).ok());
  EXPECT_FALSE(run(8, INT64_MAX, 8192, 0, 4096).ok());
  EXPECT_FALSE(run(8, 16, 0, 0, 4096).ok());
  EXPECT_FALSE(run(8, 16, 8192, kNan, 4096).ok());
  EXPECT_FALSE(run(8, 16, 8192, 5000, 4096).ok());
}

}  // namespace
}  // namespace verbatim
