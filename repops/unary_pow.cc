// pow of binary32: Ziv's method in binary64, then double-double, then for the operands that still
// are in doubt an exact test, and last logarithms of growing precision. Always correctly rounded.
#include <verbatim/repops/unary_pow.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <verbatim/repops/semantics.h>
#include <verbatim/repops/unary.h>
#include <verbatim/repops/unary_core.h>

namespace verbatim {
namespace unary {
namespace {

bool is_integer(double y) { return std::abs(y) >= 0x1p52 || nearest_integer(y) == y; }

// Two's complement fixed point: 4 limbs before the point and a chosen number after it, least
// significant first.
class Fixed {
 public:
  explicit Fixed(int fraction_limbs, uint32_t integer = 0)
      : limbs_(static_cast<size_t>(fraction_limbs) + 4) {
    limbs_[static_cast<size_t>(fraction_limbs)] = integer;
  }

  Fixed& operator+=(const Fixed& other) {
    uint64_t carry = 0;
    for (size_t i = 0; i < limbs_.size(); ++i) {
      carry += uint64_t{limbs_[i]} + other.limbs_[i];
      limbs_[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    return *this;
  }

  Fixed& operator*=(uint32_t factor) {
    uint64_t carry = 0;
    for (uint32_t& limb : limbs_) {
      carry += uint64_t{limb} * factor;
      limb = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    return *this;
  }

  // Of a value >= 0, rounded down.
  Fixed& operator/=(uint32_t divisor) {
    uint64_t rest = 0;
    for (size_t i = limbs_.size(); i-- > 0;) {
      rest = (rest << 32) | limbs_[i];
      limbs_[i] = static_cast<uint32_t>(rest / divisor);
      rest %= divisor;
    }
    return *this;
  }

  // Less one last place.
  void negate() {
    for (uint32_t& limb : limbs_) limb = ~limb;
  }

  void multiply_by_power_of_two(int n) {
    for (; n > 31; n -= 31) *this *= 1u << 31;
    *this *= 1u << n;
  }

  bool is_zero() const {
    return std::all_of(limbs_.begin(), limbs_.end(), [](uint32_t limb) { return limb == 0; });
  }

  // The sign of the value without its `ignored` lowest limbs; 0 where the others are all zeros or
  // all ones, so that a small error might change it.
  int sign_without(size_t ignored) const {
    bool zeros = true;
    bool ones = true;
    for (size_t i = ignored; i < limbs_.size(); ++i) {
      zeros = zeros && limbs_[i] == 0;
      ones = ones && limbs_[i] == 0xFFFFFFFF;
    }
    if (zeros || ones) return 0;
    return (limbs_.back() >> 31) != 0 ? -1 : 1;
  }

 private:
  std::vector<uint32_t> limbs_;
};

// 2 atanh(p / q), 0 <= p < q / 2, q < 2^27. Every step loses less than 3 units in the last place.
Fixed twice_atanh(uint32_t p, uint32_t q, int limbs) {
  Fixed power(limbs, 2);
  power *= p;
  power /= q;
  Fixed sum(limbs);
  for (uint32_t n = 1; !power.is_zero(); n += 2) {
    Fixed term = power;
    term /= n;
    sum += term;
    for (int i = 0; i < 2; ++i) {
      power *= p;
      power /= q;
    }
  }
  return sum;
}

// An odd integer times a power of two.
struct Dyadic {
  uint32_t odd;
  int exponent;
};

Dyadic split(double v) {
  const uint64_t bits = std::bit_cast<uint64_t>(v);
  const uint64_t significand = (bits & 0xFFFFFFFFFFFFF) | 0x10000000000000;
  const int zeros = std::countr_zero(significand);
  return {static_cast<uint32_t>(significand >> zeros),
          static_cast<int>((bits >> 52) & 0x7FF) - 1075 + zeros};
}

// ln v for v > 0 of at most 25 significant bits: v = 2^e * (odd / 2^k), the ratio within
// [3/4, 3/2), and ln(a / b) = 2 atanh((a - b) / (a + b)).
Fixed log_of(double v, int limbs) {
  const Dyadic d = split(v);
  int k = std::bit_width(d.odd) - 1;
  if (2 * uint64_t{d.odd} >= (uint64_t{3} << k)) ++k;
  const uint32_t one = 1u << k;
  const bool below = d.odd < one;
  Fixed sum = twice_atanh(below ? one - d.odd : d.odd - one, one + d.odd, limbs);
  if (below) sum.negate();
  const int e = d.exponent + k;
  Fixed whole = twice_atanh(1, 3, limbs);  // ln 2
  whole *= static_cast<uint32_t>(std::abs(e));
  if (e < 0) whole.negate();
  sum += whole;
  return sum;
}

// t = y * ln x with |t| <= 104 where the result is neither 0 nor infinite, so that an error of ln x
// (2^-49 in binary64, 2^-100 in double-double: x has 24 bits, m * inverse in log_value is exact)
// counts 104 times.
constexpr double kPowFastError = 0x1p-41;
constexpr double kPowSlowError = 0x1p-92;

// x^y for finite 0 < x != 1 and finite y != 0.
float power_of_positive(double x, double y) {
  const auto formula = [y]<class Real>(Real v) {
    constexpr double kLimit = 200;  // e^+-200 is infinite or 0 in binary32
    const Real t = log_value<Real>(v) * Real(y);
    if (head(t) > kLimit) return exp_value(Real(kLimit));
    if (head(t) < -kLimit) return exp_value(Real(-kLimit));
    return exp_value(t);
  };
  const double fast = formula(x);
  if (rounds_safely(fast, kPowFastError)) return static_cast<float>(fast);

  const DoubleDouble slow = formula(DoubleDouble(x));
  const DoubleDouble margin = slow.hi * kPowSlowError;
  const float below = round_once(slow - margin);
  const float above = round_once(slow + margin);
  if (below == above) return below;

  if (const std::optional<double> exact = exact_power(x, y)) return static_cast<float>(*exact);
  const double next = std::isinf(above) ? 0x1p128 : above;
  return compare_power(x, y, (below + next) / 2) < 0 ? below : above;
}

}  // namespace

std::optional<double> exact_power(double x, double y) {
  if (y < 0) {  // the reciprocal of a power of two, or nothing
    if (split(x).odd != 1) return {};
    x = 1 / x;
    y = -y;
  }
  // Square roots take y to an integer; each must be exact.
  for (; !is_integer(y); y *= 2) {
    const double root = std::sqrt(x);
    const DoubleDouble square = two_product(root, root);
    if (square.hi != x || square.lo != 0) return {};
    x = root;
  }
  // Then every product: an odd factor above 1 outgrows 53 bits within 33, a power of two the range.
  double power = x;
  for (; y > 1; --y) {
    const DoubleDouble next = two_product(power, x);
    if (next.lo != 0 || next.hi > 0x1p200 || next.hi < 0x1p-200) return {};
    power = next.hi;
  }
  return power;
}

int compare_power(double x, double y, double m) {
  // y = +-n * 2^f: the sign of +-n * 2^max(f, 0) * ln x - 2^max(-f, 0) * ln m. A logarithm is wrong
  // by less than 2^13 last places a limb (11 steps of 3, |e| <= 150 times), its factor is below
  // 2^57: all but the 3 lowest limbs of the difference are right. Where that does not tell, more
  // limbs will, as the difference is not 0.
  const Dyadic d = split(std::abs(y));
  for (int limbs = 8;; limbs *= 2) {
    Fixed left = log_of(x, limbs);
    left *= d.odd;
    left.multiply_by_power_of_two(std::max(d.exponent, 0));
    if (y < 0) left.negate();
    Fixed right = log_of(m, limbs);
    right.multiply_by_power_of_two(std::max(-d.exponent, 0));
    right.negate();
    left += right;
    if (const int sign = left.sign_without(3)) return sign;
  }
}

}  // namespace unary

float pow_f32(float x, float y) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::bit_cast<float>(kNanBits);
  if (y == 0 || x == 1) return 1;
  if (is_nan(x) || is_nan(y)) return kNaN;
  const float magnitude = std::abs(x);
  if (std::abs(y) == kInfinity) {
    if (magnitude == 1) return 1;
    return (magnitude > 1) == (y > 0) ? kInfinity : 0;
  }
  const bool integer = unary::is_integer(y);
  const bool odd = integer && std::abs(y) < 0x1p24f && (static_cast<int>(y) & 1) != 0;
  if (x < 0 && magnitude != kInfinity && !integer) return kNaN;
  const float sign = std::signbit(x) && odd ? -1.0f : 1.0f;
  if (magnitude == 0 || magnitude == kInfinity) {
    return (magnitude == 0) == (y > 0) ? sign * 0.0f : sign * kInfinity;
  }
  if (magnitude == 1) return sign;
  return sign * unary::power_of_positive(magnitude, y);
}

}  // namespace verbatim
