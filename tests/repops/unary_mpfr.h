// The unary functions by MPFR, and samples of binary32 that are the same in every run.
#pragma once

#include <mpfr.h>

#include <bit>
#include <cstdint>

#include <verbatim/repops/unary.h>

namespace verbatim {

inline float from_bits(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t to_bits(float x) { return std::bit_cast<uint32_t>(x); }

// SplitMix64: the samples are the same in every run.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  float bit_pattern() { return from_bits(static_cast<uint32_t>(next())); }
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // Either sign, exponent uniform in [low, high].
  float with_exponent(int low, int high) {
    const uint64_t r = next();
    const int e = low + static_cast<int>((r >> 32) % static_cast<uint64_t>(high - low + 1));
    return from_bits((static_cast<uint32_t>(r) & 0x807FFFFF) | static_cast<uint32_t>(e + 127)
                                                                   << 23);
  }

 private:
  uint64_t state_;
};

// An MPFR number that frees itself.
class Real {
 public:
  explicit Real(mpfr_prec_t precision) { mpfr_init2(value_, precision); }
  Real(const Real&) = delete;
  Real& operator=(const Real&) = delete;
  ~Real() { mpfr_clear(value_); }
  operator mpfr_ptr() { return value_; }

 private:
  mpfr_t value_;
};

inline void widest_exponents() {
  mpfr_set_emin(mpfr_get_emin_min());
  mpfr_set_emax(mpfr_get_emax_max());
}

// result = f(x) to the precision of result; returns MPFR's ternary value (of the last rounding:
// sigmoid and softplus go through 350 bits, where e^100 + 1 is not yet e^100).
inline int apply(Unary f, mpfr_ptr result, mpfr_ptr x) {
  constexpr mpfr_rnd_t kNearest = MPFR_RNDN;
  switch (f) {
    case Unary::exp:
      return mpfr_exp(result, x, kNearest);
    case Unary::exp2:
      return mpfr_exp2(result, x, kNearest);
    case Unary::expm1:
      return mpfr_expm1(result, x, kNearest);
    case Unary::log:
      return mpfr_log(result, x, kNearest);
    case Unary::log2:
      return mpfr_log2(result, x, kNearest);
    case Unary::log10:
      return mpfr_log10(result, x, kNearest);
    case Unary::log1p:
      return mpfr_log1p(result, x, kNearest);
    case Unary::sin:
      return mpfr_sin(result, x, kNearest);
    case Unary::cos:
      return mpfr_cos(result, x, kNearest);
    case Unary::tan:
      return mpfr_tan(result, x, kNearest);
    case Unary::asin:
      return mpfr_asin(result, x, kNearest);
    case Unary::acos:
      return mpfr_acos(result, x, kNearest);
    case Unary::atan:
      return mpfr_atan(result, x, kNearest);
    case Unary::sinh:
      return mpfr_sinh(result, x, kNearest);
    case Unary::cosh:
      return mpfr_cosh(result, x, kNearest);
    case Unary::tanh:
      return mpfr_tanh(result, x, kNearest);
    case Unary::asinh:
      return mpfr_asinh(result, x, kNearest);
    case Unary::acosh:
      return mpfr_acosh(result, x, kNearest);
    case Unary::atanh:
      return mpfr_atanh(result, x, kNearest);
    case Unary::erf:
      return mpfr_erf(result, x, kNearest);
    case Unary::cbrt:
      return mpfr_cbrt(result, x, kNearest);
    case Unary::sigmoid: {
      Real t(350);
      mpfr_neg(t, x, kNearest);
      mpfr_exp(t, t, kNearest);
      mpfr_add_ui(t, t, 1, kNearest);
      mpfr_ui_div(t, 1, t, kNearest);
      return mpfr_set(result, t, kNearest);
    }
    case Unary::softplus: {
      Real t(350);
      mpfr_abs(t, x, kNearest);
      mpfr_neg(t, t, kNearest);
      mpfr_exp(t, t, kNearest);
      mpfr_log1p(t, t, kNearest);
      if (mpfr_sgn(x) > 0) mpfr_add(t, t, x, kNearest);
      return mpfr_set(result, t, kNearest);
    }
  }
  return 0;
}

}  // namespace verbatim
