// What unary.h offers, by the formulas of unary_f32.h, unary_f64.h and unary_proof.h.
#include <verbatim/repops/unary.h>

#include <algorithm>
#include <iterator>

#include <verbatim/repops/unary_f32.h>
#include <verbatim/repops/unary_f64.h>
#include <verbatim/repops/unary_proof.h>

namespace verbatim {

#define VB_UNARY(name)                                      \
  float name##_f32(float x) { return unary::f32::name(x); } \
  double name##_f64(double x) { return unary::f64::name(x); }
VB_UNARY_FUNCTIONS(VB_UNARY)
#undef VB_UNARY

namespace {

#define VB_NAME(name) #name,
constexpr std::string_view kNames[] = {VB_UNARY_FUNCTIONS(VB_NAME)};
#undef VB_NAME
static_assert(std::size(kNames) == kUnaryCount);

}  // namespace

float evaluate(Unary f, float x) { return unary::f32::evaluate(f, x); }
double evaluate(Unary f, double x) { return unary::f64::evaluate(f, x); }
std::optional<float> proven(Unary f, float x) { return unary::proven(f, x); }
std::string_view name_of(Unary f) { return kNames[static_cast<size_t>(f)]; }

double pow_f64(double x, double y) {
  using namespace unary;
  using unary::f64::exp_of, unary::f64::kInfinity, unary::f64::kNaN, unary::f64::log_of;
  if (y == 0 || x == 1) return 1;
  if (is_nan(x) || is_nan(y)) return kNaN;
  const double magnitude = std::abs(x);
  if (std::abs(y) == kInfinity) {
    if (magnitude == 1) return 1;
    return (magnitude > 1) == (y > 0) ? kInfinity : 0;
  }
  const bool integer = std::abs(y) >= 0x1p52 || nearest_integer(y) == y;
  const bool odd = integer && std::abs(y) < 0x1p53 && (static_cast<int64_t>(y) & 1) != 0;
  if (x < 0 && magnitude != kInfinity && !integer) return kNaN;
  const double sign = std::signbit(x) && odd ? -1 : 1;
  if (magnitude == 0 || magnitude == kInfinity) {
    return (magnitude == 0) == (y > 0) ? sign * 0.0 : sign * kInfinity;
  }
  if (magnitude == 1) return sign;
  const DoubleDouble log_x = log_of(magnitude);
  // Without this the double-double product could overflow; the result is 0 or infinite anyway.
  const double bound = 2000 / std::abs(log_x.hi);
  return sign * exp_of(log_x * DoubleDouble(std::clamp(y, -bound, bound)));
}

}  // namespace verbatim
