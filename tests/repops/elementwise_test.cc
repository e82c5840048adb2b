// The contract's corners of elementwise operators: rounding, NaN, signed zeros, wrapping,
// saturation, broadcasting.
#include <cmath>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "repops/op_support.h"

namespace verbatim::testing {
namespace {

TEST(Elementwise, BroadcastsBothWays) {
  expect_output(evaluate("Add", {floats({2, 1}, {1, 2}), floats({3}, {10, 20, 30})}),
                floats({2, 3}, {11, 21, 31, 12, 22, 32}));
  expect_error(evaluate("Add", {floats({2}, {1, 2}), floats({3}, {1, 2, 3})}),
               StatusCode::bad_input, "do not broadcast");
  expect_error(evaluate("Add", {floats({1}, {1}), integers({1}, {1})}), StatusCode::bad_input,
               "different types");
  expect_error(evaluate("Add", {floats({1}, {1}), Tensor()}), StatusCode::bad_input,
               "input 1 is missing");
}

TEST(Elementwise, NanIsCanonicalAfterArithmeticAndKeptByMovement) {
  const Tensor odd = floats({1}, {float_of(0xFFC12345)});
  expect_output(evaluate("Neg", {odd}), floats({1}, {float_of(kNanBits)}));
  expect_output(evaluate("Mul", {odd, floats({1}, {2})}), floats({1}, {float_of(kNanBits)}));
  expect_output(evaluate("Where", {bools({1}, {true}), odd, floats({1}, {0})}), odd);
}

TEST(Elementwise, IntegersWrapAndDivisionTruncates) {
  constexpr int32_t kMin = std::numeric_limits<int32_t>::min(),
                    kMax = std::numeric_limits<int32_t>::max();
  const auto i32 = [](std::vector<int32_t> v) {
    return tensor<int32_t>({static_cast<int64_t>(v.size())}, v);
  };
  expect_output(evaluate("Add", {i32({kMax}), i32({1})}), i32({kMin}));
  expect_output(evaluate("Mul", {i32({kMax}), i32({kMax})}), i32({1}));
  expect_output(evaluate("Div", {i32({-7, 7, 7, kMin}), i32({2, -2, -1, -1})}),
                i32({-3, -3, -7, kMin}));
  expect_output(evaluate("Mod", {i32({-7, 7, kMin}), i32({3, -3, -1})}), i32({2, -2, 0}));
  expect_output(evaluate("Mod", {i32({-7, 7, kMin}), i32({3, -3, -1})}, {{"fmod", int64_t{1}}}),
                i32({-1, 1, 0}));
  expect_output(evaluate("Abs", {i32({kMin, -3})}), i32({kMin, 3}));
  expect_error(evaluate("Div", {i32({1}), i32({0})}), StatusCode::bad_input, "division by zero");
  expect_error(evaluate("Mod", {i32({1}), i32({0})}), StatusCode::bad_input, "division by zero");
}

TEST(Elementwise, ShiftsByTheWidthOrMoreGiveZero) {
  const Tensor x = tensor<uint8_t>({4}, {0xFF, 0xFF, 0xFF, 0xFF}),
               by = tensor<uint8_t>({4}, {0, 7, 8, 64});
  expect_output(evaluate("BitShift", {x, by}, {{"direction", std::string("LEFT")}}),
                tensor<uint8_t>({4}, {0xFF, 0x80, 0, 0}));
  expect_output(evaluate("BitShift", {x, by}, {{"direction", std::string("RIGHT")}}),
                tensor<uint8_t>({4}, {0xFF, 1, 0, 0}));
}

TEST(Elementwise, MaximumAndMinimumAreThoseOf2019) {
  const Tensor a = floats({4}, {-0.0f, kNan, 1, -0.0f}), b = floats({4}, {0.0f, 1, kNan, -0.0f});
  expect_output(evaluate("Max", {a, b}), floats({4}, {0.0f, kNan, kNan, -0.0f}));
  expect_output(evaluate("Min", {a, b}), floats({4}, {-0.0f, kNan, kNan, -0.0f}));
  expect_output(evaluate("Relu", {floats({3}, {-0.0f, -1, kNan})}), floats({3}, {0, 0, kNan}));
}

TEST(Elementwise, CastTruncatesSaturatesAndTakesNanToZero) {
  const Tensor x = floats({7}, {1.9f, -1.9f, 300, -300, kNan, kInf, -kInf});
  const auto to = [](DType d) { return Attributes{{"to", static_cast<int64_t>(d)}}; };
  expect_output(evaluate("Cast", {x}, to(DType::i8)),
                tensor<int8_t>({7}, {1, -1, 127, -128, 0, 127, -128}));
  expect_output(evaluate("Cast", {x}, to(DType::u8)),
                tensor<uint8_t>({7}, {1, 0, 255, 0, 0, 255, 0}));
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max(),
                    kMin = std::numeric_limits<int64_t>::min();
  expect_output(evaluate("Cast", {x}, to(DType::i64)),
                integers({7}, {1, -1, 300, -300, 0, kMax, kMin}));
  expect_output(evaluate("Cast", {x}, to(DType::boolean)),
                bools({7}, {true, true, true, true, true, true, true}));
  expect_output(evaluate("Cast", {integers({2}, {256 + 7, -1})}, to(DType::u8)),
                tensor<uint8_t>({2}, {7, 255}));
}

// 1 + 2^-11 + 2^-40 lies above a midpoint of two binary16 numbers, 1 + 3 * 2^-11 - 2^-40 below one;
// by way of binary32 both would fall onto it and round to the even neighbour.
TEST(Elementwise, CastOfWideTypesToHalfRoundsOnce) {
  const auto to = [](DType d) { return Attributes{{"to", static_cast<int64_t>(d)}}; };
  const Tensor x = tensor<double>({3}, {1 + 0x1p-11 + 0x1p-40, 1 + 0x1p-11, 1 + 0x3p-11 - 0x1p-40});
  const Result<Tensors> half = evaluate("Cast", {x}, to(DType::f16));
  ASSERT_TRUE(half.ok());
  EXPECT_EQ((*half)[0].data<Half>()[0].bits, 0x3C01);
  EXPECT_EQ((*half)[0].data<Half>()[1].bits, 0x3C00);
  EXPECT_EQ((*half)[0].data<Half>()[2].bits, 0x3C01);
  // 2^62 + 2^54 + 1 in bfloat16: just above the midpoint of 2^62 and 2^62 + 2^55.
  const Result<Tensors> brain =
      evaluate("Cast",
               {integers({2}, {(int64_t{1} << 62) + (int64_t{1} << 54) + 1,
                               (int64_t{1} << 62) + (int64_t{1} << 54)})},
               to(DType::bf16));
  ASSERT_TRUE(brain.ok());
  EXPECT_EQ((*brain)[0].data<BFloat16>()[0].bits, 0x5E81);
  EXPECT_EQ((*brain)[0].data<BFloat16>()[1].bits, 0x5E80);
}

// 16-bit floats are rounded once, at the end: (2048 + 1) + 1 by steps would stay 2048.
TEST(Elementwise, HalfSumsRoundOnce) {
  const auto half = [](float v) { return tensor<Half>({1}, {Half{half_from_float(v)}}); };
  expect_output(evaluate("Sum", {half(2048), half(1), half(1)}), half(2050));
}

TEST(Elementwise, RoundingFunctionsKeepTheSignOfZero) {
  const Tensor x = floats({6}, {-0.5f, 0.5f, 1.5f, 2.5f, -2.5f, -0.0f});
  expect_output(evaluate("Round", {x}), floats({6}, {-0.0f, 0, 2, 2, -2, -0.0f}));
  expect_output(evaluate("Floor", {x}), floats({6}, {-1, 0, 1, 2, -3, -0.0f}));
  expect_output(evaluate("Ceil", {x}), floats({6}, {-0.0f, 1, 2, 3, -2, -0.0f}));
}

TEST(Elementwise, PowerOfIntegersWraps) {
  const auto i32 = [](std::vector<int32_t> v) {
    return tensor<int32_t>({static_cast<int64_t>(v.size())}, v);
  };
  expect_output(evaluate("Pow", {i32({3, 2, -1, 2, 0}), i32({4, 31, 5, -1, 0})}),
                i32({81, std::numeric_limits<int32_t>::min(), -1, 0, 1}));
  expect_output(evaluate("Pow", {floats({2}, {2, -2}), integers({2}, {10, 3})}),
                floats({2}, {1024, -8}));
}

TEST(Elementwise, ClipWithCrossedBoundsGivesTheUpper) {
  expect_output(evaluate("Clip", {floats({3}, {-5, 0, 5}), floats({}, {2}), floats({}, {1})}),
                floats({3}, {1, 1, 1}));
  expect_output(evaluate("Clip", {floats({2}, {-5, 5}), Tensor(), floats({}, {1})}),
                floats({2}, {-5, 1}));
}

TEST(Elementwise, GeluIsTheWrittenComposition) {
  // erf(x / sqrt 2) at 1 is 0.6826895; the result of the composition is 0.8413447 rounded.
  const Result<Tensors> y = evaluate("Gelu", {floats({3}, {1, -0.0f, kNan})});
  ASSERT_TRUE(y.ok());
  EXPECT_EQ((*y)[0].data<float>()[0], 0.8413447f);
  EXPECT_EQ(bits_of((*y)[0].data<float>()[1]), 0x80000000u);
  EXPECT_EQ(bits_of((*y)[0].data<float>()[2]), kNanBits);
}

// The C library's fmod is exact as well: a second opinion on any pair of bit patterns (spread by
// odd multipliers, since RapidCheck prefers small numbers).
RC_GTEST_PROP(Elementwise, RemainderIsExact, (uint32_t a, uint32_t b)) {
  const float x = float_of(a * 0x9E3779B1u), y = float_of(b * 0x85EBCA77u);
  const Result<Tensors> have =
      evaluate("Mod", {floats({1}, {x}), floats({1}, {y})}, {{"fmod", int64_t{1}}});
  RC_ASSERT(have.ok());
  RC_ASSERT(bits_of((*have)[0].data<float>()[0]) == bits_of(canonical(std::fmod(x, y))));
}

RC_GTEST_PROP(Elementwise, RemainderOfDoublesIsExact, (uint64_t a, uint64_t b)) {
  const double x = std::bit_cast<double>(a * 0x9E3779B97F4A7C15u);
  const double y = std::bit_cast<double>(b * 0xC2B2AE3D27D4EB4Fu);
  const Result<Tensors> have =
      evaluate("Mod", {tensor<double>({1}, {x}), tensor<double>({1}, {y})}, {{"fmod", int64_t{1}}});
  RC_ASSERT(have.ok());
  RC_ASSERT(std::bit_cast<uint64_t>((*have)[0].data<double>()[0]) ==
            std::bit_cast<uint64_t>(canonical(std::fmod(x, y))));
}

}  // namespace
}  // namespace verbatim::testing
