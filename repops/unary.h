// The elementary functions of the contract: each takes a binary32 and returns the exact real value
// rounded once to binary32 (nearest, ties to even). No libm and no platform: the bits are the same
// everywhere. Programs that want to vectorise the fast formulas find them in unary_core.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace verbatim {

enum class Unary : uint8_t {
  exp,
  exp2,
  expm1,
  log,
  log2,
  log10,
  log1p,
  sin,
  cos,
  tan,
  asin,
  acos,
  atan,
  sinh,
  cosh,
  tanh,
  asinh,
  acosh,
  atanh,
  erf,
  sigmoid,
  softplus,
  cbrt,
};
inline constexpr int kUnaryCount = 23;

// Correctly rounded. NaN operands and operands outside the domain give 0x7FC00000; signed zeros,
// infinities and poles follow IEEE 754-2019, section 9.2. Subnormals are neither flushed on entry
// nor on return. Angles are in radians.
float exp_f32(float x);
float exp2_f32(float x);
float expm1_f32(float x);
float log_f32(float x);
float log2_f32(float x);
float log10_f32(float x);
float log1p_f32(float x);
float sin_f32(float x);
float cos_f32(float x);
float tan_f32(float x);
float asin_f32(float x);
float acos_f32(float x);
float atan_f32(float x);
float sinh_f32(float x);
float cosh_f32(float x);
float tanh_f32(float x);
float asinh_f32(float x);
float acosh_f32(float x);
float atanh_f32(float x);
float erf_f32(float x);
float sigmoid_f32(float x);   // 1 / (1 + exp(-x)), one rounding
float softplus_f32(float x);  // log(1 + exp(x)), one rounding
float cbrt_f32(float x);

// x to the power y, correctly rounded, with IEEE 754-2019's special cases (pow, not powr).
float pow_f32(float x, float y);

// The same functions for binary64 tensors: a fixed double-double evaluation, its high part
// returned. Not correctly rounded (the error is below 1 ulp) but the same bits everywhere. NaN is
// 0x7FF8000000000000.
double exp_f64(double x);
double exp2_f64(double x);
double expm1_f64(double x);
double log_f64(double x);
double log2_f64(double x);
double log10_f64(double x);
double log1p_f64(double x);
double sin_f64(double x);
double cos_f64(double x);
double tan_f64(double x);
double asin_f64(double x);
double acos_f64(double x);
double atan_f64(double x);
double sinh_f64(double x);
double cosh_f64(double x);
double tanh_f64(double x);
double asinh_f64(double x);
double acosh_f64(double x);
double atanh_f64(double x);
double erf_f64(double x);
double sigmoid_f64(double x);
double softplus_f64(double x);
double cbrt_f64(double x);
double pow_f64(double x, double y);

float evaluate(Unary f, float x);
double evaluate(Unary f, double x);

// "exp", "exp2", ...: the enumerator's name.
std::string_view name_of(Unary f);

// What evaluate(f, x) has to be, by another way that takes no rounding on trust; nullopt where it
// cannot tell. From the binary64 function of double-double; where that lies too near to a boundary
// of rounding, from the double-double value, which must be clear of the boundary by more than the
// error that unary_core.h bounds, or be the one result that is exactly on one, exp2(-150). It has
// the formulas' tables in common with the function, so it finds wrong fast paths, bounds, ranges
// and roundings, and not a wrong constant: for those, tests compare both with MPFR.
std::optional<float> proven(Unary f, float x);

}  // namespace verbatim
