// 2^x rounded once, as unary::f32::exp2() gives it, for the weights of ordered attention: x is at
// most 0, and there is one for each score.
#pragma once

#include <bit>
#include <cmath>

#include <verbatim/kernels/cuda/gpu.h>
#include <verbatim/repops/unary_f32.h>

namespace verbatim::cuda {

// For what the fast way leaves in doubt. Out of line, as that is one in 2^16.
[[gnu::noinline]] __device__ inline float exp2_slowly(float x) {
  return x < -150 ? 0.0f : unary::f32::exp2(x);
}

// x is n / 16 + r, |r| <= 1/32, and its power 2^(n / 16) times a series in binary64, whose terms
// left out are below 2^-42 of it. It is rounded by adding half a unit to its code; in doubt are
// results within 2^-40 of the middle between two floats.
struct Exp2 {
  static constexpr int kSteps = 16, kLeftOut = 52 - 23;  // bits of a result that are
  static constexpr float kLeast = -126;                  // below, results are subnormal

  const double* powers;  // power(0), ..., power(15)

  // Of such a magnitude that the low bits of its exponent are those of a float's.
  __device__ static double power(int i) { return unary::kExp2Table[i].hi * 0x1p-384; }

  // Any float where it is not safe, or x is above 0.
  __device__ float fast(float x, bool& safe) const {
    constexpr float kWhole = 0x1.8p23f;  // the sum with it is a whole number
    constexpr uint32_t kMargin = 1 << 12;
    const float shifted = fma32(x, kSteps, kWhole);
    const uint32_t n = bits_of(shifted);
    const double r = fma32(shifted - kWhole, -1.0f / kSteps, x);  // exact
    double slope = 0x1.5d87fe78a6731p-10;                         // ln(2)^5 / 5!
    slope = std::fma(slope, r, 0x1.3b2ab6fba4e77p-7);
    slope = std::fma(slope, r, 0x1.c6b08d704a0cp-5);
    slope = std::fma(slope, r, 0x1.ebfbdff82c58fp-3);
    slope = std::fma(slope, r, 0x1.62e42fefa39efp-1);
    const double power = powers[n % kSteps], y = std::fma(power * r, slope, power);
    const uint64_t code = std::bit_cast<uint64_t>(y) + (uint64_t{1} << (kLeftOut - 1));
    const uint32_t from_middle = (static_cast<uint32_t>(code) + kMargin) << (32 - kLeftOut);
    safe = x >= kLeast && from_middle >= 2 * kMargin << (32 - kLeftOut);
    return float_of(static_cast<uint32_t>(code >> kLeftOut) + ((n & ~(kSteps - 1u)) << 19));
  }
  __device__ float operator()(float x) const {
    bool safe;
    const float y = fast(x, safe);
    return safe ? y : exp2_slowly(x);
  }
};

}  // namespace verbatim::cuda
