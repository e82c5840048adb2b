#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>

#include <verbatim/repops/ops/sliced.h>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

using test::node_of;

double value_of(const SlicedTensor& s, int64_t row, int64_t k) {
  const int64_t count = s.slices.dim(0), rows = s.exponents.elements(),
                width = s.slices.dim(s.slices.rank() - 1);
  double v = 0;
  for (int64_t i = 0; i < count; ++i)
    v += s.slices.data<int8_t>()[(i * rows + row) * width + k] *
         std::ldexp(1.0, s.exponents.data<int32_t>()[row] - 7 * (static_cast<int>(i) + 1));
  return v;
}

// Rows of every size of exponent, subnormals included: the remainder is at most half a unit of the
// last slice, codes are in range, and the exponent is the least that fits.
TEST(Slices, RepresentARowToHalfAUnit) {
  test::Random random(1);
  for (int trial = 0; trial < 3000; ++trial) {
    const int count = 1 + trial % 4, scale = static_cast<int>(random.between(-149, 127));
    std::vector<float> row(5);
    for (float& v : row) v = std::ldexp(random.unit(), scale);
    const Tensor x = *Tensor::from<float>({1, 5}, row);
    const SlicedTensor s = *slice_tensor(x, count);
    const int32_t e = s.exponents.data<int32_t>()[0];
    double greatest = 0;
    for (int64_t k = 0; k < 5; ++k) {
      greatest = std::max(greatest, std::abs(static_cast<double>(row[k])));
      ASSERT_LE(std::abs(value_of(s, 0, k) - row[k]), std::ldexp(0.5, e - 7 * count))
          << std::hexfloat << row[k];
      ASSERT_LE(std::abs(s.slices.data<int8_t>()[k]), 127);
      for (int i = 1; i < count; ++i) ASSERT_LE(std::abs(s.slices.data<int8_t>()[i * 5 + k]), 64);
    }
    ASSERT_LE(greatest, std::ldexp(127.0, e - 7));
    if (e > -148) {
      ASSERT_GT(greatest, std::ldexp(127.0, e - 8));
    }
  }
}

TEST(Slices, ExtremesAndFlags) {
  const float rows[] = {0.0f,     -0.0f,    0x1p-149f, -0x1p-149f, FLT_MAX,
                        -FLT_MAX, INFINITY, 1.0f,      2.0f,       NAN};
  const SlicedTensor s = *slice_tensor(*Tensor::from<float>({5, 2}, rows), 4);
  EXPECT_EQ(s.exponents.data<int32_t>()[0], -148);
  EXPECT_EQ(s.exponents.data<int32_t>()[1], -148);
  EXPECT_EQ(value_of(s, 1, 0), 0x1p-149);
  EXPECT_EQ(s.exponents.data<int32_t>()[2], 129);
  EXPECT_EQ(value_of(s, 2, 0), static_cast<double>(FLT_MAX));
  EXPECT_EQ(s.exponents.data<int32_t>()[3], kFlaggedRow);
  EXPECT_EQ(s.exponents.data<int32_t>()[4], kFlaggedRow);
}

// The product against exact rational arithmetic in 128-bit integers, one rounding at the end.
TEST(SlicedLinear, EqualsExactArithmeticRoundedOnce) {
  test::Random random(2);
  for (int p = 1; p <= 4; ++p)
    for (int q = 1; q <= 4; ++q) {
      const int64_t k = 700;
      const SlicedTensor x = *slice_tensor(random.floats({3, k}), p),
                         w = *slice_tensor(random.floats({5, k}), q);
      const Tensor inputs[] = {x.slices, x.exponents, w.slices, w.exponents};
      const Tensor y = (*evaluate_reference(node_of("SlicedLinear", kVerbatimDomain), inputs))[0];
      for (int64_t m = 0; m < 3; ++m)
        for (int64_t n = 0; n < 5; ++n) {
          const int order = std::max(p, q) - 1;
          __int128 sum = 0;
          for (int i = 0; i < p; ++i)
            for (int j = 0; j < q && i + j <= order; ++j)
              for (int64_t t = 0; t < k; ++t)
                sum += static_cast<__int128>(x.slices.data<int8_t>()[(i * 3 + m) * k + t] *
                                             w.slices.data<int8_t>()[(j * 5 + n) * k + t])
                       << (7 * (order - i - j));
          const int e =
              x.exponents.data<int32_t>()[m] + w.exponents.data<int32_t>()[n] - 7 * (order + 2);
          EXPECT_EQ(y.data<float>()[m * 5 + n],
                    static_cast<float>(std::ldexp(static_cast<double>(sum), e)));
        }
    }
}

TEST(SlicedLinear, FourSlicesAreAsGoodAsBinary32) {
  test::Random random(3);
  const int64_t k = 512;
  const Tensor x = random.floats({4, k}), w = random.floats({4, k});
  const SlicedTensor xs = *slice_tensor(x, 4), ws = *slice_tensor(w, 4);
  const Tensor inputs[] = {xs.slices, xs.exponents, ws.slices, ws.exponents};
  const Tensor y = (*evaluate_reference(node_of("SlicedLinear", kVerbatimDomain), inputs))[0];
  for (int64_t m = 0; m < 4; ++m)
    for (int64_t n = 0; n < 4; ++n) {
      double want = 0, magnitude = 0;
      for (int64_t i = 0; i < k; ++i) {
        const double t =
            static_cast<double>(x.data<float>()[m * k + i]) * w.data<float>()[n * k + i];
        want += t;
        magnitude += std::abs(t);
      }
      EXPECT_NEAR(y.data<float>()[m * 4 + n], want, 1e-7 * magnitude);
    }
}

TEST(SlicedLinear, FlaggedRowsGiveNanAndForeignCodesAreRefused) {
  const float rows[] = {INFINITY, 1.0f, 1.0f, 1.0f};
  const SlicedTensor x = *slice_tensor(*Tensor::from<float>({2, 2}, rows), 2);
  const Tensor inputs[] = {x.slices, x.exponents, x.slices, x.exponents};
  const Tensor y = (*evaluate_reference(node_of("SlicedLinear", kVerbatimDomain), inputs))[0];
  EXPECT_EQ(bits_of(y.data<float>()[0]), kNanBits);
  EXPECT_EQ(bits_of(y.data<float>()[1]), kNanBits);
  EXPECT_EQ(y.data<float>()[3], 2.0f);
  Tensor foreign = *Tensor::zeros(DType::i8, Shape{1, 2, 2});
  foreign.mutable_data<int8_t>()[0] = -128;
  const Tensor bad[] = {foreign, x.exponents, foreign, x.exponents};
  EXPECT_FALSE(evaluate_reference(node_of("SlicedLinear", kVerbatimDomain), bad).ok());
}

}  // namespace
}  // namespace verbatim
