// An unevaluated sum of two binary64 numbers, about 106 bits of precision, built from IEEE + - * /
// and sqrt in a fixed order: no fma, so that every machine computes the same bits.
//
// Algorithms and relative error bounds, with u = 2^-53: Joldes, Muller, Popescu, "Tight and
// rigorous error bounds for basic building blocks of double-word arithmetic", ACM TOMS 44(2), 2017;
// square root: Lefevre, Louvet, Muller, Picot, Rideau, ACM TOMS 49(1), 2023. They hold while
// nothing overflows, no operand exceeds 2^996 and no error term falls below 2^-1074.
#pragma once

#include <cmath>

#include <verbatim/repops/device.h>

namespace verbatim {

struct DoubleDouble {
  double hi = 0;
  double lo = 0;

  constexpr DoubleDouble() = default;
  constexpr DoubleDouble(double h) : hi(h) {}  // NOLINT: every binary64 is one
  constexpr DoubleDouble(double h, double l) : hi(h), lo(l) {}
};

// a + b exactly.
constexpr DoubleDouble two_sum(double a, double b) {
  const double s = a + b;
  const double b_part = s - a;
  const double a_part = s - b_part;
  return {s, (a - a_part) + (b - b_part)};
}

// a + b exactly, given |a| >= |b| or a = 0.
constexpr DoubleDouble fast_two_sum(double a, double b) {
  const double s = a + b;
  return {s, b - (s - a)};
}

// a * b exactly (Dekker): each factor is split into halves whose products are exact.
constexpr DoubleDouble two_product(double a, double b) {
  constexpr double kSplitter = 0x1p27 + 1;
  const double a_scaled = kSplitter * a;
  const double b_scaled = kSplitter * b;
  const double a_hi = a_scaled - (a_scaled - a);
  const double b_hi = b_scaled - (b_scaled - b);
  const double a_lo = a - a_hi;
  const double b_lo = b - b_hi;
  const double p = a * b;
  return {p, ((a_hi * b_hi - p) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo};
}

constexpr DoubleDouble operator-(DoubleDouble a) { return {-a.hi, -a.lo}; }

constexpr DoubleDouble operator+(DoubleDouble a, DoubleDouble b) {  // 3u^2 + 13u^3
  const DoubleDouble s = two_sum(a.hi, b.hi);
  const DoubleDouble t = two_sum(a.lo, b.lo);
  const DoubleDouble v = fast_two_sum(s.hi, s.lo + t.hi);
  return fast_two_sum(v.hi, t.lo + v.lo);
}

constexpr DoubleDouble operator-(DoubleDouble a, DoubleDouble b) { return a + (-b); }

constexpr DoubleDouble operator*(DoubleDouble a, DoubleDouble b) {  // 7u^2
  const DoubleDouble p = two_product(a.hi, b.hi);
  return fast_two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

constexpr DoubleDouble operator/(DoubleDouble a, DoubleDouble b) {  // 15u^2 + 56u^3
  const double q = a.hi / b.hi;
  const DoubleDouble product = b * DoubleDouble(q);
  const double rest = (a.hi - product.hi) + (a.lo - product.lo);
  return fast_two_sum(q, rest / b.hi);
}

VB_HOST_DEVICE inline DoubleDouble sqrt(DoubleDouble a) {  // 25/8 u^2
  if (a.hi == 0) return a;
  const double s = std::sqrt(a.hi);
  const DoubleDouble square = two_product(s, s);
  const double rest = ((a.hi - square.hi) - square.lo) + a.lo;
  return fast_two_sum(s, rest / (2 * s));
}

}  // namespace verbatim
