#include <gtest/gtest.h>

#include <cmath>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

// std::fma is IEEE's operation in every C library that we build with; here it is the oracle, not
// the implementation.
TEST(Fma, ByRoundToOddEqualsTheIeeeOperation) {
  test::Random random(1);
  for (int i = 0; i < 2000000; ++i) {
    float a = random.wild(), b = random.wild(), c = random.wild();
    if (i % 3 == 0) c = -a * b;                                               // cancellation
    if (i % 3 == 1) c = float_of(bits_of(a * b) ^ (1u << random.below(32)));  // near it
    const float want = canonical(std::fma(a, b, c)), have = canonical(fma32_by_odd(a, b, c));
    ASSERT_EQ(bits_of(have), bits_of(want)) << std::hexfloat << a << " * " << b << " + " << c;
    ASSERT_EQ(bits_of(canonical(fma32(a, b, c))), bits_of(want));
  }
}

TEST(Fma, HardRounding) {
  // The product lies 2^-60 above a midpoint of binary32: rounding to binary64 first would lose it.
  const float a = 1.0f + 0x1p-12f, tiny = 0x1p-80f;
  EXPECT_EQ(bits_of(fma32_by_odd(a, a, tiny)), bits_of(std::fma(a, a, tiny)));
  EXPECT_EQ(bits_of(fma32_by_odd(a, a, -tiny)), bits_of(std::fma(a, a, -tiny)));
  // Subnormal results, overflow, signed zero.
  EXPECT_EQ(bits_of(fma32_by_odd(0x1p-100f, 0x1p-40f, 0x1p-149f)),
            bits_of(std::fma(0x1p-100f, 0x1p-40f, 0x1p-149f)));
  EXPECT_EQ(fma32_by_odd(0x1p127f, 2.0f, 0.0f), INFINITY);
  EXPECT_EQ(bits_of(fma32_by_odd(-0.0f, 1.0f, -0.0f)), 0x80000000u);
}

TEST(MaximumMinimum, NanWinsAndZerosAreOrdered) {
  EXPECT_EQ(bits_of(maximum(-0.0f, 0.0f)), 0u);
  EXPECT_EQ(bits_of(minimum(0.0f, -0.0f)), 0x80000000u);
  EXPECT_EQ(bits_of(maximum(float_of(0x7FC12345), 1.0f)), kNanBits);
  EXPECT_EQ(bits_of(minimum(1.0f, float_of(0xFF800001))), kNanBits);
  EXPECT_EQ(maximum(1.0f, 2.0f), 2.0f);
}

TEST(RoundEven, EqualsNearbyint) {
  test::Random random(2);
  for (int i = 0; i < 1000000; ++i) {
    float x = i % 2 ? random.wild() : random.unit() * 1024.0f;
    if (i % 5 == 0) x = static_cast<float>(random.between(-100, 100)) + 0.5f;
    ASSERT_EQ(bits_of(round_even(x)), bits_of(canonical(std::nearbyint(x)))) << x;
  }
}

// Every half: to binary32 and back is the identity, and neighbours round to the nearer one.
TEST(Half, ExactInAndNearestEvenOut) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const auto bits = static_cast<uint16_t>(h);
    const float x = float_from_half(bits);
    if (is_nan(x)) {
      EXPECT_EQ(half_from_float(x), kHalfNanBits);
      continue;
    }
    ASSERT_EQ(half_from_float(x), bits);
    if ((bits & 0x7FFF) >= 0x7C00) continue;
    const auto up = static_cast<uint16_t>(bits + 1);
    // Beyond the greatest half lies 65536, which is where the next one would be.
    const float next = (up & 0x7FFF) == 0x7C00 ? std::copysign(65536.0f, x) : float_from_half(up);
    const float middle = x + (next - x) / 2;
    ASSERT_EQ(half_from_float(middle), bits % 2 == 0 ? bits : up) << h;
    ASSERT_EQ(half_from_float(std::nextafter(middle, 0.0f)), bits) << h;
    ASSERT_EQ(half_from_float(std::nextafter(middle, x > 0 || bits == 0 ? INFINITY : -INFINITY)),
              up)
        << h;
  }
}

TEST(BFloat16, NearestEven) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float x = float_from_bfloat16(static_cast<uint16_t>(h));
    if (is_nan(x)) {
      EXPECT_EQ(bfloat16_from_float(x), kBFloat16NanBits);
      continue;
    }
    ASSERT_EQ(bfloat16_from_float(x), h);
    if ((h & 0x7FFF) == 0x7F80) continue;
    ASSERT_EQ(bfloat16_from_float(float_of(bits_of(x) + 0x8000)), h + h % 2);  // the midpoint
    ASSERT_EQ(bfloat16_from_float(float_of(bits_of(x) + 0x7FFF)), h);
    ASSERT_EQ(bfloat16_from_float(float_of(bits_of(x) + 0x8001)), h + 1);
  }
}

}  // namespace
}  // namespace verbatim
