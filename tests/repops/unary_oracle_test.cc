// The oracle of `prove unary` against MPFR, which shares nothing with it: every constant by value,
// and its double-double values within the error that they claim.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <iostream>
#include <string>
#include <vector>

#include <verbatim/repops/unary_proof.h>

#include "repops/unary_mpfr.h"

namespace verbatim {
namespace {

using namespace unary;

constexpr mpfr_rnd_t kNearest = MPFR_RNDN;
constexpr mpfr_prec_t kConstantBits = 2000;

// A real number to 2000 bits, and the rest of it beyond what was taken.
class Exact {
 public:
  explicit Exact(const std::function<void(mpfr_ptr)>& set) : rest_(kConstantBits) { set(rest_); }
  // The next binary64 of the expansion hi, lo, ...
  double take() {
    const double next = mpfr_get_d(rest_, kNearest);
    mpfr_sub_d(rest_, rest_, next, kNearest);
    return next;
  }
  // The same, cut after 2^-n.
  double cut(int n) {
    Real scaled(kConstantBits);
    mpfr_mul_2si(scaled, rest_, n, kNearest);
    mpfr_floor(scaled, scaled);
    mpfr_mul_2si(scaled, scaled, -n, kNearest);
    const double next = mpfr_get_d(scaled, kNearest);
    mpfr_sub_d(rest_, rest_, next, kNearest);
    return next;
  }

 private:
  Real rest_;
};

void expect_exact(const char* name, int index, std::initializer_list<double> have,
                  const std::function<void(mpfr_ptr)>& set) {
  Exact exact(set);
  for (const double part : have) EXPECT_EQ(part, exact.take()) << name << "[" << index << "]";
}
void expect_exact(const char* name, DoubleDouble have, const std::function<void(mpfr_ptr)>& set) {
  expect_exact(name, 0, {have.hi, have.lo}, set);
}

void ln2(mpfr_ptr v) { mpfr_const_log2(v, kNearest); }
void ln2_sixteenth(mpfr_ptr v) {
  ln2(v);
  mpfr_div_ui(v, v, 16, kNearest);
}
void pi(mpfr_ptr v) { mpfr_const_pi(v, kNearest); }
void half_pi(mpfr_ptr v) {
  pi(v);
  mpfr_div_ui(v, v, 2, kNearest);
}
void two_over_pi(mpfr_ptr v) {
  pi(v);
  mpfr_ui_div(v, 2, v, kNearest);
}
// 2 / sqrt(pi).
void erf_slope(mpfr_ptr v) {
  pi(v);
  mpfr_rec_sqrt(v, v, kNearest);
  mpfr_mul_ui(v, v, 2, kNearest);
}

TEST(UnaryOracle, ConstantsAreTheRealNumbers) {
  widest_exponents();
  expect_exact("kLn2", kLn2, ln2);
  expect_exact("kInverseLn2", kInverseLn2, [](mpfr_ptr v) {
    ln2(v);
    mpfr_ui_div(v, 1, v, kNearest);
  });
  expect_exact("kInverseLn10", kInverseLn10, [](mpfr_ptr v) {
    mpfr_log_ui(v, 10, kNearest);
    mpfr_ui_div(v, 1, v, kNearest);
  });
  expect_exact("kPi", kPi, pi);
  expect_exact("kHalfPi", kHalfPi, half_pi);
  expect_exact("kTwoOverSqrtPi", kTwoOverSqrtPi, erf_slope);
  expect_exact("kExpPerStep", 0, {kExpPerStep}, [](mpfr_ptr v) {
    ln2_sixteenth(v);
    mpfr_ui_div(v, 1, v, kNearest);
  });
  expect_exact("kQuarterTurnsPerRadian", 0, {kQuarterTurnsPerRadian}, two_over_pi);
  Exact step(ln2_sixteenth);
  EXPECT_EQ(kExpStepHead, step.cut(41));
  EXPECT_EQ(kExpStepTail.hi, step.take());
  EXPECT_EQ(kExpStepTail.lo, step.take());
  Exact quarter(half_pi);
  EXPECT_EQ(kHalfPiHead, quarter.cut(31));
  EXPECT_EQ(kHalfPiMiddle, quarter.cut(63));
  EXPECT_EQ(kHalfPiTail, quarter.take());
}

TEST(UnaryOracle, TablesAreTheRealNumbers) {
  widest_exponents();
  for (int j = 0; j < 16; ++j)
    expect_exact("kExp2Table", j, {kExp2Table[j].hi, kExp2Table[j].lo}, [j](mpfr_ptr v) {
      mpfr_set_d(v, j * 0x1p-4, kNearest);
      mpfr_exp2(v, v, kNearest);
    });
  for (int i = 44; i <= 88; ++i) {
    const LogEntry& entry = kLogTable[i - 44];
    EXPECT_EQ(entry.inverse * 1024, std::floor(65536.0 / i + 0.5));
    expect_exact("kLogTable", i, {entry.log.hi, entry.log.lo}, [&](mpfr_ptr v) {
      mpfr_set_d(v, entry.inverse, kNearest);
      mpfr_log(v, v, kNearest);
      mpfr_neg(v, v, kNearest);
    });
  }
  for (int i = 0; i <= 16; ++i)
    expect_exact("kAtanTable", i, {kAtanTable[i].hi, kAtanTable[i].lo}, [i](mpfr_ptr v) {
      mpfr_set_d(v, i * 0x1p-4, kNearest);
      mpfr_atan(v, v, kNearest);
    });
  for (int i = 0; i <= 256; ++i) {
    const double c = i * 0x1p-6;
    expect_exact("kErfTable value", i, {kErfTable[i].value}, [c](mpfr_ptr v) {
      mpfr_set_d(v, c, kNearest);
      mpfr_erf(v, v, kNearest);
    });
    expect_exact("kErfTable slope", i, {kErfTable[i].slope}, [c](mpfr_ptr v) {
      Real slope(kConstantBits);
      erf_slope(slope);
      mpfr_set_d(v, -c * c, kNearest);
      mpfr_exp(v, v, kNearest);
      mpfr_mul(v, v, slope, kNearest);
    });
  }
}

TEST(UnaryOracle, CoefficientsAreTheRealNumbers) {
  widest_exponents();
  for (unsigned n = 0; n < 30; ++n)
    expect_exact("kInverseFactorial", static_cast<int>(n),
                 {kInverseFactorial[n].hi, kInverseFactorial[n].lo}, [n](mpfr_ptr v) {
                   mpfr_fac_ui(v, n, kNearest);
                   mpfr_ui_div(v, 1, v, kNearest);
                 });
  for (unsigned n = 1; n < 26; ++n)
    expect_exact("kInverseInteger", static_cast<int>(n),
                 {kInverseInteger[n].hi, kInverseInteger[n].lo}, [n](mpfr_ptr v) {
                   mpfr_set_ui(v, 1, kNearest);
                   mpfr_div_ui(v, v, n, kNearest);
                 });
  // Two words of zeros, then the fraction of 2 / pi, 32 bits at a time.
  Real rest(kConstantBits);
  Real word(kConstantBits);
  two_over_pi(rest);
  for (int i = 0; i < 44; ++i) {
    if (i < 2) {
      EXPECT_EQ(kTwoOverPi[i], 0u);
      continue;
    }
    mpfr_mul_2ui(rest, rest, 32, kNearest);
    mpfr_floor(word, rest);
    mpfr_sub(rest, rest, word, kNearest);
    EXPECT_EQ(kTwoOverPi[i], mpfr_get_ui(word, kNearest)) << i;
  }
}

// Where the evaluation goes over from one table entry, series or quadrant to the next: operands, of
// either sign. Where a function applies another to an expression of x, the expression's inverse.
class Edges {
 public:
  static std::vector<double> of(Unary f) {
    Edges e;
    e.add(f);
    return std::move(e.x_);
  }

 private:
  using Map = double (*)(double);
  static double same(double x) { return x; }
  static double half(double x) { return x / 2; }

  // e^x: steps of ln 2 / 16, as far as there is a finite result.
  void exponential(Map inverse) {
    for (int k = -2420; k < 2060; ++k) x_.push_back(inverse((k + 0.5) * M_LN2 / 16));
  }
  // ln a: cells of 1 / 64 from 11/16 to 11/8, times each power of two.
  void logarithm(int low, int high, Map inverse) {
    for (int e = low; e <= high; ++e) {
      x_.push_back(inverse(std::ldexp(11.0 / 16, e)));
      for (int i = 44; i <= 88; ++i) x_.push_back(inverse(std::ldexp((2 * i + 1) / 128.0, e)));
    }
  }
  // ln(1 + t): a series up to 2^-7, then ln.
  void logarithm_of_sum(int low, int high, Map inverse) {
    for (const double t : {-0x1p-7, 0x1p-7}) x_.push_back(inverse(1 + t));
    logarithm(low, high, inverse);
  }
  void quarter_turns() {
    for (int k = 1; k < 6000; ++k) x_.push_back(k * M_PI / 4);
    for (int e = 13; e < 127; ++e)
      for (int k = 16; k < 32; ++k) x_.push_back(std::ldexp(k, e - 4) * M_PI / 4);
    for (const double x : {0.75, 0x1p20, 0x1p29}) x_.push_back(x);
  }
  // atan(y / x): cells of 1 / 16 of the ratio, and 1.
  void angle(Map of_ratio) {
    for (int i = 0; i <= 16; ++i)
      for (const double ratio : {(i + 0.5) / 16, 16 / (i + 0.5)}) x_.push_back(of_ratio(ratio));
    x_.push_back(of_ratio(1));
  }

  void add(Unary f) {
    switch (f) {
      case Unary::exp2:
        for (int k = -2420; k < 2060; ++k) x_.push_back((k + 0.5) / 16);
        return;
      case Unary::exp:
      case Unary::expm1:
      case Unary::sigmoid:
      case Unary::sinh:
      case Unary::cosh:
        return exponential(same);
      case Unary::tanh:
        return exponential(half);
      case Unary::log:
      case Unary::log2:
      case Unary::log10:
        return logarithm(-149, 127, same);
      case Unary::log1p:
        return logarithm_of_sum(-24, 127, [](double a) { return a - 1; });
      case Unary::asinh:
        return logarithm_of_sum(0, 128, [](double a) { return a / 2 - 0.5 / a; });
      case Unary::acosh:
        return logarithm_of_sum(0, 128, [](double a) { return a / 2 + 0.5 / a; });
      case Unary::atanh:
        return logarithm_of_sum(0, 25, [](double a) { return (a - 1) / (a + 1); });
      case Unary::softplus:
        exponential(same);
        return logarithm_of_sum(0, 1, [](double a) { return a > 1 ? std::log(a - 1) : 0; });
      case Unary::sin:
      case Unary::cos:
      case Unary::tan:
        return quarter_turns();
      case Unary::asin:
      case Unary::acos:
        return angle([](double ratio) { return ratio / std::sqrt(1 + ratio * ratio); });
      case Unary::atan:
        return angle(same);
      case Unary::erf:
        exponential([](double x) { return std::sqrt(std::abs(x)); });
        for (int i = 0; i < 400; ++i) x_.push_back((i + 0.5) / 64);
        return;
      case Unary::cbrt:
        for (int e = -149; e < 128; ++e) x_.push_back(std::ldexp(1.0, e));
        return;
    }
  }

  std::vector<double> x_;
};

// |1 - (hi + lo) / exact|.
double relative_error(DoubleDouble have, mpfr_ptr exact, mpfr_ptr scratch) {
  mpfr_sub_d(scratch, exact, have.hi, kNearest);
  mpfr_sub_d(scratch, scratch, have.lo, kNearest);
  mpfr_div(scratch, scratch, exact, kNearest);
  return std::abs(mpfr_get_d(scratch, kNearest));
}

// Infinite or zero in binary32, whatever the error; the least are subnormal in binary64, where no
// bound is relative.
bool is_out_of_range(double y) { return std::abs(y) > 0x1p200 || std::abs(y) < 0x1p-200; }

// proven() takes no double-double value where it is in no doubt: beyond these the function is
// saturated, and value_of() need not hold.
bool is_saturated(Unary f, double x) {
  if (f == Unary::expm1 || f == Unary::sigmoid || f == Unary::softplus) return std::abs(x) > 200;
  return (f == Unary::tanh && std::abs(x) > 50) || (f == Unary::erf && std::abs(x) > 6);
}

class UnaryOracleTest : public ::testing::TestWithParam<int> {
 protected:
  Unary function() const { return static_cast<Unary>(GetParam()); }

  void check(float x) {
    if (HasFailure()) return;
    ++samples_;
    const double operand = x, y = f64::evaluate(function(), operand);
    mpfr_set_d(operand_, operand, kNearest);
    apply(function(), exact_, operand_);
    if (is_nan(y) || is_out_of_range(y) || !mpfr_regular_p(exact_)) {
      expect_trivial(x, y);
      return;
    }
    const double fast = relative_error(y, exact_, scratch_) / kDoubleError;
    greatest_fast_ = std::max(greatest_fast_, fast);
    ASSERT_LE(fast, 1) << std::hexfloat << x;
    if (is_saturated(function(), operand)) return;
    const double slow =
        relative_error(value_of(function(), operand), exact_, scratch_) / kDoubleDoubleError;
    if (slow > greatest_) worst_ = x;
    greatest_ = std::max(greatest_, slow);
    ASSERT_LE(slow, 1) << std::hexfloat << x;
  }

  void check_both_signs(double edge) {
    const auto nearest = static_cast<float>(std::abs(edge));
    const uint32_t bits = to_bits(nearest);
    for (int i = -1; i <= 1; ++i) {
      if (bits == 0 || !std::isfinite(from_bits(bits + static_cast<uint32_t>(i)))) continue;
      check(from_bits(bits + static_cast<uint32_t>(i)));
      check(-from_bits(bits + static_cast<uint32_t>(i)));
    }
  }

  // Every exponent and sign, `count` mantissas of each, one in each of as many equal parts; the
  // first and the last are the least and the greatest.
  void check_exponents(uint32_t low, uint32_t high, uint32_t count, Random& random) {
    const uint32_t part = (1u << 23) / count;
    for (uint32_t exponent = low; exponent <= high; ++exponent)
      for (uint32_t i = 0; i < count; ++i) {
        uint32_t mantissa = i * part + static_cast<uint32_t>(random.next() % part);
        if (i == 0) mantissa = 0;
        if (i == count - 1) mantissa = (1u << 23) - 1;
        check(from_bits(exponent << 23 | mantissa));
        check(from_bits(0x80000000 | exponent << 23 | mantissa));
      }
  }

  int samples_ = 0;
  double greatest_ = 0, greatest_fast_ = 0;
  float worst_ = 0;

 private:
  // NaN, infinite or zero: MPFR has that, too.
  void expect_trivial(float x, double y) {
    const double exact = mpfr_get_d(exact_, kNearest);
    if (is_nan(y) || is_nan(exact)) {
      ASSERT_EQ(is_nan(y), is_nan(exact)) << std::hexfloat << x;
    } else {
      ASSERT_EQ(to_bits(static_cast<float>(y)), to_bits(static_cast<float>(exact)))
          << std::hexfloat << x;
    }
  }

  Real operand_{24}, exact_{128}, scratch_{128};
};

// Mantissas for each exponent and sign: 320 are some 2^18 operands with those of the exponents -12
// to 7, of which there are eight times as many. Other processors are emulated in our tests, slowly,
// and compute the same values.
#if defined(__x86_64__)
constexpr int kMantissas = 320;
#else
constexpr int kMantissas = 20;
#endif

// VERBATIM_ORACLE_SAMPLES=N takes N mantissas instead.
TEST_P(UnaryOracleTest, ValuesAreWithinTheirClaimedError) {
  widest_exponents();
  const char* said = std::getenv("VERBATIM_ORACLE_SAMPLES");
  const int wanted = std::clamp(said == nullptr ? kMantissas : std::atoi(said), 2, 1 << 20);
  const auto count = static_cast<uint32_t>(wanted);
  Random random(41 + static_cast<uint64_t>(GetParam()));
  check_exponents(0, 254, count, random);
  check_exponents(127 - 12, 127 + 7, std::min(8 * count, 1u << 23), random);
  const bool whole = wanted >= 320;
  const std::vector<double> edges = Edges::of(function());
  for (size_t i = 0; i < edges.size(); i += whole ? 1 : 7) check_both_signs(edges[i]);
  if (whole) {
    EXPECT_GE(samples_, 1 << 18);
  }
  std::cout << name_of(function()) << ": " << samples_
            << " operands; error / claimed error at most " << greatest_ << " in double-double (at "
            << worst_ << "), " << greatest_fast_ << " in binary64\n";
}

INSTANTIATE_TEST_SUITE_P(AllFunctions, UnaryOracleTest, ::testing::Range(0, kUnaryCount),
                         [](const ::testing::TestParamInfo<int>& info) {
                           return std::string(name_of(static_cast<Unary>(info.param)));
                         });

}  // namespace
}  // namespace verbatim
