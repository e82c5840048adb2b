// Correct rounding after Ziv: evaluate in binary64; where the error bound leaves the rounding in
// doubt, evaluate again in double-double. Exact and midpoint results: see each function.
#include <verbatim/repops/unary.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <verbatim/repops/semantics.h>
#include <verbatim/repops/unary_core.h>

namespace verbatim {
namespace unary {
namespace {

constexpr uint64_t kLow32 = 0xFFFFFFFF;

// x * 2 / pi modulo 4 in 256 bits, most significant word first; the last bit has weight 2^-254.
struct QuarterTurns {
  uint64_t words[4];
};

QuarterTurns quarter_turns(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  uint64_t m = (bits & 0xFFFFFFFFFFFFF) | 0x10000000000000;
  int e = static_cast<int>(bits >> 52) - 1075;  // x = m * 2^e
  if ((m & 0x1FFFFFFF) == 0) {                  // a binary32: its 24 bits fill one word
    m >>= 29;
    e += 29;
  }

  // The window of 2 / pi from the bit whose product with 2^e has weight 2 (the bits before it give
  // multiples of 4), as 8 words, least significant first.
  const int start = e + 62;
  const int skip = start & 31;
  const uint32_t* words = &kTwoOverPi[start >> 5];
  uint64_t window[8];
  for (int i = 0; i < 8; ++i) {
    const uint64_t two = (uint64_t{words[7 - i]} << 32) | words[8 - i];
    window[i] = ((two << skip) >> 32) & kLow32;
  }

  uint64_t product[8] = {};
  for (int shift = 0; shift < 2; ++shift) {
    const uint64_t factor = shift == 0 ? m & kLow32 : m >> 32;
    if (factor == 0) continue;
    uint64_t carry = 0;
    for (int i = shift; i < 8; ++i) {
      carry += factor * window[i - shift] + product[i];
      product[i] = carry & kLow32;
      carry >>= 32;
    }
  }
  QuarterTurns turns;
  for (int i = 0; i < 4; ++i) {
    turns.words[i] = (product[7 - 2 * i] << 32) | product[6 - 2 * i];
  }
  return turns;
}

// The 106 leading bits of the fraction 0.f[0] f[1] f[2] f[3].
DoubleDouble leading_bits(const uint64_t (&f)[4]) {
  int first = 0;
  while (first < 3 && f[first] == 0) ++first;
  const auto word = [&](int i) { return i < 4 ? f[i] : 0; };
  const int zeros = std::countl_zero(f[first]);
  uint64_t top = f[first];
  uint64_t next = word(first + 1);
  if (zeros > 0) {
    top = (top << zeros) | (next >> (64 - zeros));
    next = (next << zeros) | (word(first + 2) >> (64 - zeros));
  }
  const double hi = static_cast<double>(top >> 11) * 0x1p-53;
  const double lo = static_cast<double>(((top & 0x7FF) << 42) | (next >> 22)) * 0x1p-106;
  return scale(fast_two_sum(hi, lo), power_of_two(-64 * first - zeros));
}

}  // namespace

Angle reduce(double x) {
  auto [f] = quarter_turns(x);
  // 2 bits of quadrant, 254 of fraction; a fraction above 1/2 counts down from the next quadrant.
  int quadrant = static_cast<int>(f[0] >> 62);
  const bool counts_down = ((f[0] >> 61) & 1) != 0;
  if (counts_down) {
    ++quadrant;
    for (uint64_t& word : f) word = ~word;  // negated but for the last bit
  }
  f[0] &= 0x3FFFFFFFFFFFFFFF;
  const DoubleDouble fraction = scale(leading_bits(f), 4);
  return {quadrant & 3, counts_down ? -fraction : fraction};
}

}  // namespace unary

namespace {

using namespace unary;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::bit_cast<float>(kNanBits);

template <class Function>
[[gnu::noinline, gnu::cold]] float round_slowly(Function f, double x) {
  return round_once(f(DoubleDouble(x)));
}

// f(x) rounded once; f is a formula that takes either precision.
template <class Function>
float rounded(Function f, double x) {
  const double y = f(x);
  if (rounds_safely(y, kFastError)) [[likely]]
    return static_cast<float>(y);
  return round_slowly(f, x);
}

// The same for an odd f, whose formula takes x >= 0.
template <class Function>
float rounded_odd(Function f, double x) {
  const float y = rounded(f, std::abs(x));
  return std::signbit(x) ? -y : y;
}

// For functions that are constant, zero or infinite in binary32 beyond +-limit.
double clamp(float x, double limit) { return std::clamp<double>(x, -limit, limit); }

// Beyond +-200 every result is infinite, zero or saturated, and e^200 is an ordinary binary64.
constexpr double kExpLimit = 200;

// A logarithm with its factor: NaN below 0, pole at 0.
template <class Function>
float logarithm(Function f, float x) {
  if (!(x >= 0)) return kNaN;
  if (x == 0) return -kInfinity;
  if (x == kInfinity) return x;
  return rounded(f, x);
}

}  // namespace

float exp_f32(float x) {
  if (is_nan(x)) return kNaN;
  return rounded([](auto v) { return exp_value(v); }, clamp(x, kExpLimit));
}

// The one midpoint, exp2(-150), comes out exactly in double-double and rounds to even, +0.
float exp2_f32(float x) {
  if (is_nan(x)) return kNaN;
  return rounded([](auto v) { return exp2_value(v); }, clamp(x, kExpLimit));
}

float expm1_f32(float x) {
  if (is_nan(x)) return kNaN;
  if (x == 0) return x;
  return rounded([](auto v) { return expm1_value(v); }, clamp(x, kExpLimit));
}

float log_f32(float x) {
  return logarithm([](auto v) { return log_value<decltype(v)>(v); }, x);
}

float log2_f32(float x) {
  return logarithm([]<class Real>(Real v) { return log_value<Real>(v) * as<Real>(kInverseLn2); },
                   x);
}

float log10_f32(float x) {
  return logarithm([]<class Real>(Real v) { return log_value<Real>(v) * as<Real>(kInverseLn10); },
                   x);
}

float log1p_f32(float x) {
  if (!(x >= -1)) return kNaN;
  if (x == -1) return -kInfinity;
  if (x == 0 || x == kInfinity) return x;
  return rounded([](auto v) { return log1p_value(v); }, x);
}

float sin_f32(float x) {
  if (!(std::abs(x) < kInfinity)) return kNaN;
  return rounded_odd([](auto v) { return sin_value(v); }, x);
}

float cos_f32(float x) {
  if (!(std::abs(x) < kInfinity)) return kNaN;
  return rounded([](auto v) { return cos_value(v); }, std::abs(x));
}

float tan_f32(float x) {
  if (!(std::abs(x) < kInfinity)) return kNaN;
  return rounded_odd([](auto v) { return tan_value(v); }, x);
}

float asin_f32(float x) {
  if (!(std::abs(x) <= 1)) return kNaN;
  return rounded_odd([](auto v) { return angle_of(v, cofunction(v)); }, x);
}

float acos_f32(float x) {
  if (!(std::abs(x) <= 1)) return kNaN;
  return rounded([](auto v) { return angle_of(cofunction(v), v); }, x);
}

float atan_f32(float x) {
  if (is_nan(x)) return kNaN;
  const float bounded = std::clamp(x, -0x1p100f, 0x1p100f);  // beyond: +-pi/2
  return rounded_odd([]<class Real>(Real v) { return angle_of(v, Real(1)); }, bounded);
}

float sinh_f32(float x) {
  if (is_nan(x)) return kNaN;
  return rounded_odd([](auto v) { return sinh_positive(v); }, clamp(x, kExpLimit));
}

float cosh_f32(float x) {
  if (is_nan(x)) return kNaN;
  return rounded([](auto v) { return cosh_value(v); }, std::abs(clamp(x, kExpLimit)));
}

float tanh_f32(float x) {
  if (is_nan(x)) return kNaN;
  return rounded_odd([](auto v) { return tanh_value(v); }, clamp(x, 20));
}

float asinh_f32(float x) {
  if (is_nan(x)) return kNaN;
  if (std::abs(x) == kInfinity) return x;
  return rounded_odd([](auto v) { return asinh_positive(v); }, x);
}

float acosh_f32(float x) {
  if (!(x >= 1)) return kNaN;
  if (x == kInfinity) return x;
  return rounded([](auto v) { return acosh_value(v); }, x);
}

float atanh_f32(float x) {
  if (!(std::abs(x) <= 1)) return kNaN;
  if (std::abs(x) == 1) return x * kInfinity;
  return rounded_odd([](auto v) { return atanh_positive(v); }, x);
}

float erf_f32(float x) {
  if (is_nan(x)) return kNaN;
  return rounded_odd([](auto v) { return erf_positive(v); }, clamp(x, 4));
}

float sigmoid_f32(float x) {
  if (is_nan(x)) return kNaN;
  return rounded([](auto v) { return sigmoid_value(v); }, clamp(x, kExpLimit));
}

float softplus_f32(float x) {
  if (is_nan(x)) return kNaN;
  if (x > kExpLimit) return x;
  return rounded([](auto v) { return softplus_value(v); }, clamp(x, kExpLimit));
}

float cbrt_f32(float x) {
  if (is_nan(x)) return kNaN;
  if (x == 0 || std::abs(x) == kInfinity) return x;
  return rounded_odd([](auto v) { return cbrt_positive(v); }, x);
}

namespace {

// In the order of the enumeration.
struct Entry {
  std::string_view name;
  float (*function)(float);
};
constexpr Entry kEntries[kUnaryCount] = {
    {"exp", exp_f32},         {"exp2", exp2_f32},         {"expm1", expm1_f32}, {"log", log_f32},
    {"log2", log2_f32},       {"log10", log10_f32},       {"log1p", log1p_f32}, {"sin", sin_f32},
    {"cos", cos_f32},         {"tan", tan_f32},           {"asin", asin_f32},   {"acos", acos_f32},
    {"atan", atan_f32},       {"sinh", sinh_f32},         {"cosh", cosh_f32},   {"tanh", tanh_f32},
    {"asinh", asinh_f32},     {"acosh", acosh_f32},       {"atanh", atanh_f32}, {"erf", erf_f32},
    {"sigmoid", sigmoid_f32}, {"softplus", softplus_f32}, {"cbrt", cbrt_f32},
};

}  // namespace

float evaluate(Unary f, float x) { return kEntries[static_cast<size_t>(f)].function(x); }

std::string_view name_of(Unary f) { return kEntries[static_cast<size_t>(f)].name; }

}  // namespace verbatim
