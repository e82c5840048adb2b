// 2^x rounded once, as unary::f32::exp2() gives it, for the weights of ordered attention: x is at
// most 0, and there is one for each score.
#pragma once

#include <cmath>

#include <verbatim/kernels/cuda/attention.cuh>

namespace verbatim::cuda {

// ln(2)^(i + 1) / (i + 1)!
VB_CONSTANT double kExp2Slopes[5] = {0x1.62e42fefa39efp-1, 0x1.ebfbdff82c58fp-3,
                                     0x1.c6b08d704a0c0p-5, 0x1.3b2ab6fba4e77p-7,
                                     0x1.5d87fe78a6731p-10};

// For what the fast way leaves in doubt. Out of line, as that is one in 2^16.
[[gnu::noinline]] __device__ inline float exp2_slowly(float x) {
  return x < -150 ? 0.0f : unary::f32::exp2(x);
}

// x is n / 16 + r, |r| <= 1/32, both exact, and its power 2^(n / 16) times a series in binary64.
// The terms left out are 2^-42.66 of it at most, and all roundings some 2^-52: together 1300 units
// of the 2^29 that a float's last place has. In doubt are those within 4096 of the middle.
//
// unary::f32::exp2() says itself what is in doubt (rounds_safely()), by a wider margin and with
// more terms; it has the last word.
class Exp2 {
 public:
  static constexpr int kSteps = 16, kTerms = 5;
  static constexpr float kLeast = -126;  // below, results are subnormal

  // In shared memory, written by threads 0 to 15.
  struct Table {
    double powers[kSteps], slopes[kSteps];

    __device__ void write(int thread) {
      if (thread >= kSteps) return;
      powers[thread] = unary::kExp2Table[thread].hi;
      slopes[thread] = kExp2Slopes[least(thread, kTerms - 1)];
    }
  };
  // Slopes in registers: as constants they would be moved there for each power, which is more than
  // all else that one takes.
  __device__ explicit Exp2(const Table& table) : powers_(table.powers) {
#pragma unroll
    for (int i = 0; i < kTerms; ++i) slopes_[i] = table.slopes[i];
  }

  // A result, and how far it is from what is in doubt: safe() says whether it is far enough.
  struct Fast {
    float y;
    uint32_t distance;
  };
  __device__ Fast fast(float x) const {
    constexpr float kWhole = 0x1.8p23f;  // the sum with it is a whole number
    const float shifted = fma32(x, kSteps, kWhole);
    const double r = fma32(shifted - kWhole, -1.0f / kSteps, x);  // exact
    const uint32_t n = bits_of(shifted), step = unknown(n % kSteps), whole = unknown(n - step);
    double slope = slopes_[kTerms - 1];
#pragma unroll
    for (int i = kTerms - 2; i >= 0; --i) slope = std::fma(slope, r, slopes_[i]);
    const double power = powers_[step], y = std::fma(power * r, slope, power);
    const auto low = static_cast<uint32_t>(std::bit_cast<uint64_t>(y));
    return {float_of(bits_of(static_cast<float>(y)) + (whole << 19)),
            (low << kUnused) + ((kMiddle + kMargin) << kUnused)};
  }
  // Of the least of several x, and of distances. Not where x is NaN.
  __device__ static bool safe(float x, uint32_t distance) {
    return x >= kLeast && distance >= 2 * kMargin << kUnused;
  }
  __device__ float operator()(float x) const {
    const Fast y = fast(x);
    return safe(x, y.distance) ? y.y : exp2_slowly(x);
  }

 private:
  // Of the code of a result in binary64, the 29 bits that a float has not.
  static constexpr int kUnused = 3;
  static constexpr uint32_t kMiddle = 1 << 28, kMargin = 1 << 12;

  const double* powers_;
  double slopes_[kTerms];
};

}  // namespace verbatim::cuda
