// Q16.16 operators against integers of unlimited size (GMP) and the definitions of their roundings.
#include <verbatim/repops/ops/fixed_point.h>

#include <gmp.h>
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

using test::node_of;

constexpr int32_t kLeast = INT32_MIN, kGreatest = INT32_MAX;

// Any code, with ends of the range, small ones and powers of two and their neighbours often.
rc::Gen<int32_t> any_code() {
  const auto near_power = rc::gen::map(
      rc::gen::tuple(rc::gen::inRange(0, 31), rc::gen::inRange(-1, 2), rc::gen::arbitrary<bool>()),
      [](const std::tuple<int, int, bool>& t) {
        const int32_t p = (1 << std::get<0>(t)) + std::get<1>(t);
        return std::get<2>(t) ? -p : p;
      });
  return rc::gen::oneOf(rc::gen::element(0, 1, -1, kLeast, kLeast + 1, kGreatest, kGreatest - 1),
                        rc::gen::inRange(-65537, 65538), near_power,
                        rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<int32_t>()));
}
std::vector<int32_t> codes(size_t n) {
  return *rc::gen::container<std::vector<int32_t>>(n, any_code());
}
Tensor tensor(const Shape& shape, const std::vector<int32_t>& values) {
  return *Tensor::from<int32_t>(shape, values);
}

Result<Tensors> evaluate(const char* op, std::vector<Tensor> inputs, Attributes attributes = {}) {
  return evaluate_reference(node_of(op, kVerbatimDomain, std::move(attributes), 2), inputs);
}

struct Pair {
  int32_t code;
  int64_t saturations;
};
Pair binary(const char* op, int32_t a, int32_t b) {
  const Tensors out = *evaluate(op, {tensor({1}, {a}), tensor({1}, {b})});
  return {out[0].data<int32_t>()[0], out[1].data<int64_t>()[0]};
}

class Integer {
 public:
  Integer(int64_t v = 0) { mpz_init_set_si(z_, v); }
  Integer(const Integer& o) { mpz_init_set(z_, o.z_); }
  Integer& operator=(const Integer&) = delete;
  ~Integer() { mpz_clear(z_); }
  mpz_ptr z() { return z_; }
  mpz_srcptr z() const { return z_; }
  // The code of numerator / denominator: the nearest integer by its definition, even in ties.
  static Pair nearest(const Integer& numerator, const Integer& denominator) {
    const Integer at = nearest_integer(numerator, denominator);
    return {clamped(at, kLeast, kGreatest), at.is_outside(kLeast, kGreatest)};
  }
  static Integer nearest_integer(const Integer& numerator, const Integer& denominator) {
    // floor((2 n + d) / (2 d)), one less where that was a tie and came out odd.
    Integer twice, bottom, q, r;
    mpz_mul_2exp(twice.z(), numerator.z(), 1);
    mpz_add(twice.z(), twice.z(), denominator.z());
    mpz_mul_2exp(bottom.z(), denominator.z(), 1);
    mpz_fdiv_qr(q.z(), r.z(), twice.z(), bottom.z());
    if (mpz_sgn(r.z()) == 0 && mpz_odd_p(q.z())) mpz_sub_ui(q.z(), q.z(), 1);
    return q;
  }
  bool is_outside(int64_t low, int64_t high) const {
    return mpz_cmp_si(z_, low) < 0 || mpz_cmp_si(z_, high) > 0;
  }
  template <class T>
  static T clamped(const Integer& x, T low, T high) {
    return mpz_cmp_si(x.z_, low) < 0    ? low
           : mpz_cmp_si(x.z_, high) > 0 ? high
                                        : static_cast<T>(mpz_get_si(x.z_));
  }

 private:
  mpz_t z_;
};

Integer shifted(int64_t v, unsigned bits) {
  Integer x(v);
  mpz_mul_2exp(x.z(), x.z(), bits);
  return x;
}

void expect_pair(const Pair& have, const Pair& want) {
  RC_ASSERT(have.code == want.code);
  RC_ASSERT(have.saturations == want.saturations);
}

// A binary32 is significand * 2^exponent; everything from there is integers.
RC_GTEST_PROP(FixedPoint, ConversionRoundsTheExactValueOnce, (uint32_t any, uint16_t low)) {
  // Half of them have an exponent about the format's range, and few significant bits, for ties.
  const uint32_t bits =
      any & 1 ? any : (any & 0x80000000) | (102 + any % 60) << 23 | uint32_t{low} << 7;
  const float x = float_of(bits);
  const Saturated<int32_t> have = fixed_from_float(x);
  if (!std::isfinite(x)) {
    RC_ASSERT(have.saturated);
    RC_ASSERT(have.code == (std::isnan(x) ? 0 : x > 0 ? kGreatest : kLeast));
    return;
  }
  const int exponent = std::max<int>(1, bits >> 23 & 0xFF) - 127 - 23 + kFixedFraction;
  int64_t significand = (bits & 0x7FFFFF) | ((bits >> 23 & 0xFF) != 0 ? 0x800000 : 0);
  if (bits >> 31) significand = -significand;
  const Pair want = exponent >= 0 ? Integer::nearest(shifted(significand, exponent), Integer(1))
                                  : Integer::nearest(Integer(significand), shifted(1, -exponent));
  expect_pair({have.code, have.saturated}, want);
}

TEST(FixedPoint, ConversionAtTheEndsOfTheRange) {
  const float x[] = {32768.0f, 32767.998f, -32768.0f, -32768.004f, INFINITY, -INFINITY,
                     NAN,      -0.0f,      0x1p-17f,  0x1.8p-16f,  0x1p-149f};
  const Tensors out = *evaluate("ToFixed", {*Tensor::from<float>({1, 11}, x)});
  const int32_t want[] = {kGreatest, kGreatest - 127, kLeast, kLeast, kGreatest, kLeast, 0, 0, 0, 2,
                          0};
  for (size_t i = 0; i < 11; ++i) EXPECT_EQ(out[0].data<int32_t>()[i], want[i]) << x[i];
  EXPECT_EQ(out[1].data<int64_t>()[0], 5);
}

RC_GTEST_PROP(FixedPoint, BackToFloatIsOneRounding, ()) {
  const int32_t code = *any_code();
  RC_ASSERT(bits_of(float_from_fixed(code)) ==
            bits_of(static_cast<float>(std::ldexp(static_cast<double>(code), -16))));
}

RC_GTEST_PROP(FixedPoint, SumsProductsAndQuotients, ()) {
  const int32_t a = *any_code(), b = *any_code();
  const Integer one(1), unit(65536);
  expect_pair(binary("FixedAdd", a, b), Integer::nearest(Integer(int64_t{a} + b), one));
  expect_pair(binary("FixedSub", a, b), Integer::nearest(Integer(int64_t{a} - b), one));
  expect_pair(binary("FixedMul", a, b), Integer::nearest(Integer(int64_t{a} * b), unit));
  if (b == 0) {
    expect_pair(binary("FixedDiv", a, b), {a == 0 ? 0 : a > 0 ? kGreatest : kLeast, 1});
    return;
  }
  // GMP's floor wants a positive denominator: the sign goes to the numerator.
  expect_pair(binary("FixedDiv", a, b), Integer::nearest(shifted(b < 0 ? -int64_t{a} : a, 16),
                                                         Integer(std::abs(int64_t{b}))));
}

// Halves of the last step: 0.5 and 2.5 go down, 1.5 up, of either sign.
TEST(FixedPoint, TiesGoToEven) {
  for (const int sign : {-1, 1}) {
    for (const auto& [code, want] : {std::pair{1, 0}, {3, 2}, {5, 2}, {7, 4}}) {
      EXPECT_EQ(binary("FixedMul", sign * code, 32768).code, sign * want) << code;
      EXPECT_EQ(binary("FixedDiv", sign * code, 131072).code, sign * want) << code;
      EXPECT_EQ(binary("FixedDiv", code, sign * 131072).code, sign * want) << code;
      EXPECT_EQ(fixed_from_float(static_cast<float>(sign * code) * 0x1p-17f).code, sign * want);
      const Tensors dot =
          *evaluate("FixedDot", {tensor({1, 2}, {sign * code, 5}), tensor({1, 2}, {32768, 0})});
      EXPECT_EQ(dot[0].data<int32_t>()[0], sign * want) << code;
    }
  }
}

// r is nearest to 2^24 / sqrt(x): (2 r - 1)^2 x < 2^50 < (2 r + 1)^2 x.
RC_GTEST_PROP(FixedPoint, ReciprocalSquareRootIsTheNearest, ()) {
  const int32_t x = *any_code();
  const Saturated<int32_t> have = fixed_reciprocal_sqrt(x);
  RC_ASSERT(have.saturated == (x <= 0));
  if (x <= 0) {
    RC_ASSERT(have.code == (x == 0 ? kGreatest : 0));
    return;
  }
  const auto low = static_cast<uint128>(2 * int64_t{have.code} - 1),
             high = static_cast<uint128>(2 * int64_t{have.code} + 1),
             value = static_cast<uint128>(x);
  RC_ASSERT(low * low * value < uint128{1} << 50);
  RC_ASSERT(high * high * value > uint128{1} << 50);
}

// |y_i| is nearest to |x_i| 2^16 / sqrt(S): the same, in integers, and where it is a tie, even.
void expect_normalized(const std::vector<int32_t>& x, const int32_t* y) {
  Integer s;
  for (const int32_t v : x) mpz_add(s.z(), s.z(), Integer(int64_t{v} * v).z());
  for (size_t i = 0; i < x.size(); ++i) {
    RC_ASSERT((x[i] == 0 ? y[i] == 0 : int64_t{x[i]} * y[i] >= 0));
    Integer value = shifted(1, 34);
    mpz_mul(value.z(), value.z(), Integer(int64_t{x[i]} * x[i]).z());
    const int64_t r = std::abs(int64_t{y[i]});
    Integer low(std::max<int64_t>(0, 2 * r - 1)), high(2 * r + 1);
    for (Integer* bound : {&low, &high}) {
      mpz_mul(bound->z(), bound->z(), bound->z());
      mpz_mul(bound->z(), bound->z(), s.z());
    }
    const int from_low = mpz_cmp(low.z(), value.z()), to_high = mpz_cmp(value.z(), high.z());
    RC_ASSERT(r == 0 || from_low < 0 || (from_low == 0 && r % 2 == 0));
    RC_ASSERT(to_high < 0 || (to_high == 0 && r % 2 == 0));
  }
}

RC_GTEST_PROP(FixedPoint, NormalisedElementsAreTheNearest, ()) {
  const auto n = *rc::gen::inRange<size_t>(1, 40);
  std::vector<int32_t> x = codes(n);
  const Tensors out = *evaluate("FixedNormalize", {tensor({1, static_cast<int64_t>(n)}, x)});
  const bool zero = std::ranges::all_of(x, [](int32_t v) { return v == 0; });
  RC_ASSERT(out[1].data<int64_t>()[0] == zero);
  if (!zero) expect_normalized(x, out[0].data<int32_t>().data());
}

// Squares that sum to 2^34: the length is 2^17, an element x becomes x / 2.
TEST(FixedPoint, NormalisedTiesGoToEven) {
  const std::vector<int32_t> x = {1, -3, 131071, 487, 158};
  const Tensors out = *evaluate("FixedNormalize", {tensor({1, 5}, x)});
  EXPECT_EQ(fixed_dot(x.data(), x.data(), 5), int128{1} << 34);
  EXPECT_EQ(out[0].data<int32_t>()[0], 0);
  EXPECT_EQ(out[0].data<int32_t>()[1], -2);
  expect_normalized(x, out[0].data<int32_t>().data());
}

// What a product must be: the exact sum, rounded once where the fraction is 16, saturated.
struct Oracle {
  Integer dot, distance;
  Oracle(const int32_t* a, const int32_t* b, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      mpz_add(dot.z(), dot.z(), Integer(int64_t{a[i]} * b[i]).z());
      const Integer d(int64_t{a[i]} - b[i]);
      mpz_addmul(distance.z(), d.z(), d.z());
    }
  }
};

void expect_product(const char* op, bool distance, const std::vector<int32_t>& a,
                    const std::vector<int32_t>& b, int64_t m, int64_t n, int64_t k) {
  const std::vector<Tensor> inputs = {tensor({m, k}, a), tensor({n, k}, b)};
  const Tensors rounded = *evaluate(op, inputs),
                exact = *evaluate(op, inputs, {{"fraction", int64_t{32}}});
  for (int64_t i = 0; i < m; ++i) {
    int64_t rounded_count = 0, exact_count = 0;
    for (int64_t j = 0; j < n; ++j) {
      const Oracle o(a.data() + i * k, b.data() + j * k, static_cast<size_t>(k));
      const Integer& sum = distance ? o.distance : o.dot;
      const Pair want = Integer::nearest(sum, Integer(65536));
      RC_ASSERT(rounded[0].data<int32_t>()[i * n + j] == want.code);
      rounded_count += want.saturations;
      RC_ASSERT(exact[0].data<int64_t>()[i * n + j] ==
                Integer::clamped<int64_t>(sum, INT64_MIN, INT64_MAX));
      exact_count += sum.is_outside(INT64_MIN, INT64_MAX);
    }
    RC_ASSERT(rounded[1].data<int64_t>()[i] == rounded_count);
    RC_ASSERT(exact[1].data<int64_t>()[i] == exact_count);
  }
}

RC_GTEST_PROP(FixedPoint, DotsAndSquaredDistancesAreExactAndRoundedOnce, ()) {
  const auto m = *rc::gen::inRange<int64_t>(0, 4), n = *rc::gen::inRange<int64_t>(0, 5),
             k = *rc::gen::inRange<int64_t>(0, 24);
  const std::vector<int32_t> a = codes(static_cast<size_t>(m * k)),
                             b = codes(static_cast<size_t>(n * k));
  expect_product("FixedDot", false, a, b, m, n, k);
  expect_product("FixedSquaredDistance", true, a, b, m, n, k);
}

// The greatest sums there are: 2^78, and (2^32 - 1)^2 * 2^16.
TEST(FixedPoint, TheGreatestRowsDoNotOverflow) {
  const auto size = static_cast<size_t>(kMaxFixedDimensions);
  const std::vector<int32_t> low(size, kLeast), high(size, kGreatest);
  EXPECT_EQ(fixed_dot(low.data(), low.data(), kMaxFixedDimensions), int128{1} << 78);
  const int128 difference = (int128{1} << 32) - 1;
  EXPECT_EQ(fixed_squared_distance(low.data(), high.data(), kMaxFixedDimensions),
            difference * difference * kMaxFixedDimensions);
  for (const auto& [a, b] : {std::pair{low, low}, {low, high}, {high, high}}) {
    expect_product("FixedDot", false, a, b, 1, 1, kMaxFixedDimensions);
    expect_product("FixedSquaredDistance", true, a, b, 1, 1, kMaxFixedDimensions);
  }
  const Tensors unit = *evaluate("FixedNormalize", {tensor({1, kMaxFixedDimensions}, low)});
  EXPECT_EQ(unit[0].data<int32_t>()[7], -256);
}

// The bounds that docs/numerics.md states: nothing in them saturates an int64.
TEST(FixedPoint, TheBoundsOfAVectorMemoryFitAnInt64) {
  for (const auto& [magnitude, k] : {std::pair{64.0f, int64_t{65536}}, {256.0f, int64_t{4096}}}) {
    const int32_t code = fixed_from_float(magnitude).code;
    const std::vector<int32_t> a(static_cast<size_t>(k), code), b(a.size(), -code);
    EXPECT_LE(fixed_squared_distance(a.data(), b.data(), k), int128{1} << 62);
    EXPECT_LE(fixed_dot(a.data(), a.data(), k), int128{1} << 60);
  }
}

// A row says the same, count included, in any batch, and a sum may be cut anywhere.
RC_GTEST_PROP(FixedPoint, NoBatchAndNoSplitChangesABit, ()) {
  const auto k = *rc::gen::inRange<int64_t>(1, 30), cut = *rc::gen::inRange<int64_t>(0, k + 1);
  const std::vector<int32_t> a = codes(static_cast<size_t>(3 * k)),
                             b = codes(static_cast<size_t>(2 * k));
  const Tensors all = *evaluate("FixedDot", {tensor({3, k}, a), tensor({2, k}, b)});
  for (int64_t i = 0; i < 3; ++i) {
    const Tensor row = tensor({1, k}, {a.begin() + i * k, a.begin() + (i + 1) * k});
    const Tensors one = *evaluate("FixedDot", {row, tensor({2, k}, b)});
    RC_ASSERT(one[1].data<int64_t>()[0] == all[1].data<int64_t>()[i]);
    for (int64_t j = 0; j < 2; ++j)
      RC_ASSERT(one[0].data<int32_t>()[j] == all[0].data<int32_t>()[i * 2 + j]);
  }
  RC_ASSERT(fixed_dot(a.data(), b.data(), k) ==
            fixed_dot(a.data(), b.data(), cut) +
                fixed_dot(a.data() + cut, b.data() + cut, k - cut));
}

TEST(FixedPoint, CountsBelongToRowsAndOperandsBroadcast) {
  const Tensors sum = *evaluate(
      "FixedAdd", {tensor({2, 3}, {kGreatest, 1, kGreatest, 1, 2, 3}), tensor({3}, {1, 1, 0})});
  const int32_t want[] = {kGreatest, 2, kGreatest, 2, 3, 3};
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(sum[0].data<int32_t>()[i], want[i]);
  EXPECT_EQ(sum[1].describe(), "int64 [2]");
  EXPECT_EQ(sum[1].data<int64_t>()[0], 1);
  EXPECT_EQ(sum[1].data<int64_t>()[1], 0);
  const Tensors scalar = *evaluate("FixedDiv", {tensor({}, {3}), tensor({}, {0})});
  EXPECT_EQ(scalar[1].describe(), Tensor::scalar<int64_t>(0)->describe());
  EXPECT_EQ(scalar[1].data<int64_t>()[0], 1);
}

TEST(FixedPoint, RefusesWhatItCannotMultiply) {
  const Tensor a = tensor({2, 4}, std::vector<int32_t>(8)),
               wide = *Tensor::zeros(DType::i64, {2, 4});
  const auto code = [](const char* op, std::vector<Tensor> inputs, Attributes attributes = {}) {
    return evaluate(op, std::move(inputs), std::move(attributes)).status().code();
  };
  EXPECT_EQ(code("FixedDot", {a, tensor({4}, {1, 2, 3, 4})}), StatusCode::bad_input);
  EXPECT_EQ(code("FixedDot", {a, tensor({1, 3}, {1, 2, 3})}), StatusCode::bad_input);
  EXPECT_EQ(code("FixedDot", {a, wide}), StatusCode::bad_input);
  EXPECT_EQ(code("FixedDot", {a, a}, {{"fraction", int64_t{17}}}), StatusCode::bad_input);
  EXPECT_EQ(code("FixedAdd", {a, wide}), StatusCode::bad_input);
  EXPECT_EQ(code("FixedAdd", {a, tensor({3}, {1, 2, 3})}), StatusCode::bad_input);
  EXPECT_EQ(code("ToFixed", {a}), StatusCode::bad_input);
  EXPECT_EQ(code("FixedNormalize", {tensor({}, {1})}), StatusCode::bad_input);
  const Tensor long_rows = *Tensor::zeros(DType::i32, {1, kMaxFixedDimensions + 1});
  EXPECT_EQ(code("FixedDot", {long_rows, long_rows}), StatusCode::limit);
  EXPECT_EQ(code("FixedNormalize", {long_rows}), StatusCode::limit);
}

}  // namespace
}  // namespace verbatim
