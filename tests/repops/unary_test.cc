// The elementary functions against MPFR, bit for bit: special values, neighbourhoods of every power
// of two and of each function's own thresholds, known hard cases, and a fixed random sample.
#include <gtest/gtest.h>
#include <mpfr.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <verbatim/repops/unary.h>
#include <verbatim/repops/unary_core.h>
#include <verbatim/repops/unary_pow.h>

#include "repops/unary_mpfr.h"
#include "support/unary_hard.h"

namespace verbatim {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kInfinity64 = std::numeric_limits<double>::infinity();

// A 24-bit result, rounded once to binary32's range.
float to_binary32(mpfr_ptr result, int ternary) {
  mpfr_set_emin(-148);
  mpfr_set_emax(128);
  ternary = mpfr_check_range(result, ternary, MPFR_RNDN);
  mpfr_subnormalize(result, ternary, MPFR_RNDN);
  const float r = mpfr_get_flt(result, MPFR_RNDN);
  return std::isnan(r) ? from_bits(0x7FC00000) : r;
}

float oracle(Unary f, float x) {
  widest_exponents();
  Real operand(24);
  Real result(24);
  mpfr_set_d(operand, x, MPFR_RNDN);
  const int ternary = apply(f, result, operand);
  return to_binary32(result, ternary);
}

float pow_oracle(float x, float y) {
  widest_exponents();
  Real base(24);
  Real exponent(24);
  Real result(24);
  mpfr_set_d(base, x, MPFR_RNDN);
  mpfr_set_d(exponent, y, MPFR_RNDN);
  const int ternary = mpfr_pow(result, base, exponent, MPFR_RNDN);
  return to_binary32(result, ternary);
}

class UnaryTest : public ::testing::TestWithParam<int> {
 protected:
  Unary function() const { return static_cast<Unary>(GetParam()); }

  void check(float x) {
    if (wrong_ >= 10) return;
    const float ours = evaluate(function(), x);
    const float right = oracle(function(), x);
    const std::optional<float> by_proof = proven(function(), x);
    if (!by_proof || to_bits(*by_proof) != to_bits(right)) {
      ++wrong_;
      ADD_FAILURE() << "the proof of " << name_of(function()) << " of bits " << std::hex
                    << to_bits(x) << " gives " << (by_proof ? to_bits(*by_proof) : 0)
                    << ", right is " << to_bits(right);
    }
    if (to_bits(ours) == to_bits(right)) return;
    ++wrong_;
    ADD_FAILURE() << name_of(function()) << " of bits " << std::hex << to_bits(x) << " gives "
                  << to_bits(ours) << ", right is " << to_bits(right);
  }

  // x, -x and the `radius` numbers on each side.
  void check_around(float x, int radius) {
    const auto bits = static_cast<int64_t>(to_bits(std::abs(x)));
    for (int64_t b = bits - radius; b <= bits + radius; ++b) {
      if (b < 0 || b > 0x7F800000) continue;
      check(from_bits(static_cast<uint32_t>(b)));
      check(-from_bits(static_cast<uint32_t>(b)));
    }
  }

 private:
  int wrong_ = 0;
};

TEST_P(UnaryTest, SpecialValues) {
  for (const uint32_t bits :
       {0x00000000u, 0x7F800000u, 0x7FC00000u, 0x7FC00001u, 0x7F800001u, 0x7FFFFFFFu, 0x00000001u,
        0x007FFFFFu, 0x00800000u, 0x3F800000u, 0x3F000000u, 0x40000000u, 0x7F7FFFFFu}) {
    check(from_bits(bits));
    check(from_bits(bits | 0x80000000));
  }
}

TEST_P(UnaryTest, NearPowersOfTwo) {
  for (int e = -149; e <= 127; ++e) check_around(std::ldexp(1.0f, e), 24);
  for (uint32_t bits = 0; bits < 0x00800000; bits += 4099) check_around(from_bits(bits), 0);
}

// Overflow, underflow and saturation, the steps of the tables, and multiples of pi / 2.
TEST_P(UnaryTest, NearThresholds) {
  for (const float x :
       {88.72284f,  87.33655f,  103.97208f, 103.27893f, 128.0f,     126.0f,  149.0f, 150.0f,
        89.415985f, 17.328680f, 16.635532f, 9.0109133f, 3.9192059f, 0.6875f, 1.375f, 0.0216608f,
        0.0078125f, 0.75f,      200.0f,     20.0f,      4.0f,       10.0f,   0x1p20f}) {
    check_around(x, 500);
  }
  for (int i = 1; i <= 256; ++i) {
    check_around(static_cast<float>(i) / 64, 8);
    check_around(static_cast<float>(2 * i + 1) / 128, 8);
    check_around(static_cast<float>(i * 0.5 * M_PI), 8);
    check_around(static_cast<float>(i * M_LN2 / 32), 8);
  }
  for (int i = 0; i < 90; ++i) check(static_cast<float>(i));
  for (int i = 1; i < 5000; ++i) check_around(static_cast<float>(i) * 0x1p-23f, 0);  // sigmoid
  for (int i = 1; i < 300; ++i) check(static_cast<float>(i) * static_cast<float>(i * i));
  for (double ten = 1; ten < 1e38; ten *= 10) check_around(static_cast<float>(ten), 2);
  check_around(16367173 * 0x1p72f, 2);  // the binary32 nearest to a multiple of pi / 2
}

TEST_P(UnaryTest, HardCases) {
  for (const uint32_t bits : test::kHardOperands[GetParam()]) check(from_bits(bits));
}

TEST_P(UnaryTest, RandomSample) {
  Random random(17 + static_cast<uint64_t>(GetParam()));
  for (int i = 0; i < 25000; ++i) {
    check(random.bit_pattern());
    check(random.with_exponent(-28, 7));
  }
}

INSTANTIATE_TEST_SUITE_P(AllFunctions, UnaryTest, ::testing::Range(0, kUnaryCount),
                         [](const ::testing::TestParamInfo<int>& info) {
                           return std::string(name_of(static_cast<Unary>(info.param)));
                         });

// |1 - value / exact|.
double relative_error(double value, mpfr_ptr exact) {
  Real error(200);
  mpfr_sub_d(error, exact, value, MPFR_RNDN);
  mpfr_div(error, error, exact, MPFR_RNDN);
  return std::abs(mpfr_get_d(error, MPFR_RNDN));
}

// The binary64 formulas keep the bound that the rounding test relies on, with room to spare.
TEST(UnaryCore, FastErrorIsBelowTheStatedBound) {
  widest_exponents();
  Random random(5);
  Real x(53);
  Real exact(200);
  const auto check = [&](float a, Unary f, double value, double bound) {
    mpfr_set_d(x, a, MPFR_RNDN);
    apply(f, exact, x);
    ASSERT_LT(relative_error(value, exact), bound) << name_of(f) << " " << std::hexfloat << a;
  };
  for (int i = 0; i < 30000; ++i) {
    const float a = random.with_exponent(-20, 6);
    check(a, Unary::exp, unary::exp_value<double>(a), unary::kFastError / 4);
    check(a, Unary::expm1, unary::expm1_value<double>(a), unary::kFastError / 4);
    const float b = std::abs(random.with_exponent(-30, 1));
    check(b, Unary::erf, unary::erf_positive(double{b}), unary::kFastError / 4);
    const float c =
        std::abs(i % 2 == 0 ? random.with_exponent(-1, 0) : random.with_exponent(-126, 127));
    // pow's bound rests on this one.
    if (c != 1) check(c, Unary::log, unary::log_value<double>(c), 0x1p-49);
    // Close to a multiple of pi / 2 in the range of the short reduction.
    const auto d = static_cast<float>((1 + random.next() % 667000) * (M_PI / 2));
    check(d, Unary::sin, unary::sin_value<double>(d), unary::kFastError / 4);
    check(d, Unary::cos, unary::cos_value<double>(d), unary::kFastError / 4);
  }
}

void check_pow(float x, float y) {
  const float ours = pow_f32(x, y);
  const float right = pow_oracle(x, y);
  ASSERT_EQ(to_bits(ours), to_bits(right))
      << std::hexfloat << x << " to the " << y << ": " << ours << ", right is " << right;
}

TEST(Pow, SpecialValues) {
  const float values[] = {0,
                          1,
                          2,
                          3,
                          4,
                          9,
                          27,
                          0.5f,
                          0.25f,
                          1.5f,
                          2.5f,
                          7,
                          127,
                          128,
                          149,
                          150,
                          151,
                          0x1p-149f,
                          0x1p-126f,
                          0x1p23f,
                          0x1p24f,
                          0x1p25f,
                          0x1p31f,
                          0x1p33f,
                          0x1p-40f,
                          kInfinity,
                          0x1.fffffep23f,
                          0x1.fffffep127f,
                          0x1.fffffep-1f,
                          0x1.000002p0f};
  for (const float x : values) {
    for (const float y : values) {
      for (const float sx : {x, -x}) {
        for (const float sy : {y, -y}) check_pow(sx, sy);
      }
    }
    const float nan = from_bits(0x7FC00123);
    check_pow(nan, x);
    check_pow(x, nan);
  }
}

// Powers whose exact value is a binary32 or exactly between two.
TEST(Pow, ExactAndMidpointResults) {
  for (int m = 3; m < 6000; m += 2) {
    const auto x = static_cast<float>(m);
    for (int n = 2; n <= 4; ++n) {
      check_pow(x, static_cast<float>(n));
      check_pow(std::ldexp(x, -60), static_cast<float>(n));
    }
    if (m < 4096) {
      check_pow(x * x, 1.5f);
      check_pow(std::ldexp(x * x, -140), 0.5f);
    }
  }
  for (int e = -149; e < 128; ++e) {
    for (int k = -40; k <= 40; ++k) {
      for (const float unit : {1.0f, 0.5f, 0.25f, 0.0625f}) {
        check_pow(std::ldexp(1.0f, e), static_cast<float>(k) * unit);
      }
    }
  }
}

TEST(Pow, RandomSample) {
  Random random(3);
  for (int i = 0; i < 150000; ++i) {
    float x = random.bit_pattern();
    float y = random.bit_pattern();
    if (i % 4 != 0) {  // a result within binary32's range, half of the time from a base next to 1
      x = i % 4 == 1 ? std::abs(x) : 1 + random.with_exponent(-23, -12);
      const auto log2_x = std::log2(static_cast<double>(x));
      y = static_cast<float>((random.unit() - 0.5) * 304 / log2_x);
    }
    check_pow(x, y);
  }
}

TEST(Pow, ExactPower) {
  using unary::exact_power;
  EXPECT_EQ(exact_power(9, 1.5), 27.0);
  EXPECT_EQ(exact_power(81, 0.25), 3.0);
  EXPECT_EQ(exact_power(4, -2.5), 0x1p-5);
  EXPECT_EQ(exact_power(0x1p-149, 1), 0x1p-149);
  EXPECT_EQ(exact_power(3, 33), 5559060566555523.0);
  EXPECT_EQ(exact_power(3, 34), std::nullopt);
  EXPECT_EQ(exact_power(2, 0.5), std::nullopt);
  EXPECT_EQ(exact_power(3, -1), std::nullopt);
  EXPECT_EQ(exact_power(10, 0.25), std::nullopt);
  EXPECT_EQ(exact_power(0x1.000002p0, 0x1p24), std::nullopt);
}

// The last resort by itself, against the 25-bit number next to each power.
TEST(Pow, ComparesWithGrowingPrecision) {
  widest_exponents();
  Random random(11);
  Real base(24);
  Real exponent(24);
  Real power(2000);
  Real near(25);
  int compared = 0;
  for (int i = 0; i < 3000; ++i) {
    const float x = std::abs(random.with_exponent(-149 + 23, 127));
    auto y = static_cast<float>((random.unit() - 0.5) * 290 / std::log2(static_cast<double>(x)));
    if (i % 3 == 0) y = std::round(y);
    if (!(std::abs(y) > 0x1p-33f && std::abs(y) < 100000)) continue;
    mpfr_set_d(base, x, MPFR_RNDN);
    mpfr_set_d(exponent, y, MPFR_RNDN);
    mpfr_pow(power, base, exponent, MPFR_RNDN);
    mpfr_set(near, power, MPFR_RNDN);
    const int right = mpfr_cmp(power, near);
    if (right == 0) continue;
    ASSERT_EQ(unary::compare_power(x, y, mpfr_get_d(near, MPFR_RNDN)), right > 0 ? 1 : -1)
        << std::hexfloat << x << " to the " << y;
    ++compared;
  }
  EXPECT_GT(compared, 2000);
}

// Binary64: within one unit in the last place, and the exceptional values.
TEST(UnaryF64, ErrorIsBelowOneUlp) {
  widest_exponents();
  Random random(23);
  Real x(53);
  Real exact(200);
  for (int i = 0; i < kUnaryCount; ++i) {
    const auto f = static_cast<Unary>(i);
    for (int n = 0; n < 3000; ++n) {
      double a = std::bit_cast<double>(random.next());
      if (n % 4 != 0) {
        a = random.with_exponent(-28, n % 4 == 1 ? 9 : 2);
        a *= 1 + random.unit();
      }
      mpfr_set_d(x, a, MPFR_RNDN);
      apply(f, exact, x);
      const double ours = evaluate(f, a);
      const double right = mpfr_get_d(exact, MPFR_RNDN);
      if (std::isnan(right) || right == 0 || std::isinf(right) || std::isinf(ours)) {
        const uint64_t expected =
            std::isnan(right) ? 0x7FF8000000000000 : std::bit_cast<uint64_t>(right);
        ASSERT_EQ(std::bit_cast<uint64_t>(ours), expected)
            << name_of(f) << " " << std::hexfloat << a;
        continue;
      }
      const double ulp =
          std::max(std::nextafter(std::abs(right), kInfinity64) - std::abs(right), 0x1p-1074);
      mpfr_sub_d(exact, exact, ours, MPFR_RNDN);
      mpfr_div_d(exact, exact, ulp, MPFR_RNDN);
      ASSERT_LT(std::abs(mpfr_get_d(exact, MPFR_RNDN)), 1)
          << name_of(f) << " " << std::hexfloat << a;
    }
  }
}

// Not correctly rounded, so no oracle tells the bits; a change of any is a new semantics version.
TEST(UnaryF64, BitsAreThoseOfSemanticsVersion1) {
  Random random(29);
  uint64_t digest = 14695981039346656037u;  // FNV-1a over whole words
  const auto add = [&digest](double v) {
    digest = (digest ^ std::bit_cast<uint64_t>(v)) * 1099511628211u;
  };
  for (int n = 0; n < 3000; ++n) {
    double a = std::bit_cast<double>(random.next());
    if (n % 4 != 0) {
      a = random.with_exponent(-28, 7);
      a *= 1 + random.unit();
    }
    for (int i = 0; i < kUnaryCount; ++i) add(evaluate(static_cast<Unary>(i), a));
    add(pow_f64(std::abs(a), (random.unit() - 0.5) * 64));
  }
  EXPECT_EQ(digest, 0x974BB4A51DEBFA96u);
}

TEST(UnaryF64, SpecialValues) {
  for (int i = 0; i < kUnaryCount; ++i) {
    const auto f = static_cast<Unary>(i);
    for (const float x : {0.0f, 1.0f, kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
      for (const float signed_x : {x, -x}) {
        const float single = evaluate(f, signed_x);
        const double ours = evaluate(f, static_cast<double>(signed_x));
        if (std::isnan(single)) {
          EXPECT_EQ(std::bit_cast<uint64_t>(ours), 0x7FF8000000000000u) << name_of(f) << signed_x;
        } else {
          EXPECT_EQ(to_bits(static_cast<float>(ours)), to_bits(single)) << name_of(f) << signed_x;
        }
      }
    }
  }
  EXPECT_EQ(pow_f64(-2, 3), -8);
  EXPECT_EQ(pow_f64(10, 300), 1e300);
  EXPECT_EQ(pow_f64(2, -1074), 0x1p-1074);
  EXPECT_EQ(pow_f64(0x1p-1074, -1), kInfinity64);
  EXPECT_EQ(pow_f64(-0.0, -3), -kInfinity64);
  EXPECT_EQ(pow_f64(1.5, 1e300), kInfinity64);
  EXPECT_EQ(pow_f64(-kInfinity64, 3), -kInfinity64);
  EXPECT_TRUE(std::isnan(pow_f64(-2, 0.5)));
}

}  // namespace
}  // namespace verbatim
