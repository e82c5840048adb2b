// Convolutions and pools: the order of the K index, padding that takes no part, geometry, quantised
// forms.
#include <verbatim/repops/semantics.h>

#include "repops/op_support.h"

namespace verbatim::testing {
namespace {

using Ints = std::vector<int64_t>;

Tensor noise(const Ints& dims) {
  int64_t n = 1;
  for (int64_t d : dims) n *= d;
  std::vector<float> v;
  uint32_t state = 99;
  for (int64_t i = 0; i < n; ++i) {
    state = state * 1664525u + 1013904223u;
    v.push_back(float_of((state >> 9) | 0x3F800000) - 1.5f);
  }
  return floats(dims, v);
}

// 70 channels of 3x3: 630 taps, so blocks of 512 and 118 by K index, whatever is padding.
TEST(Convolution, BlocksAreCutByTheKIndex) {
  const Tensor x = noise({1, 70, 4, 4}), w = noise({2, 70, 3, 3});
  const Result<Tensors> y = evaluate("Conv", {x, w}, {{"pads", Ints{1, 1, 1, 1}}});
  ASSERT_TRUE(y.ok()) << y.status().message();
  for (int m = 0; m < 2; ++m)
    for (int r = 0; r < 4; ++r)
      for (int c = 0; c < 4; ++c) {
        float blocks[2] = {0, 0};
        for (int k = 0; k < 630; ++k) {
          const int channel = k / 9, row = r + k / 3 % 3 - 1, column = c + k % 3 - 1;
          if (row < 0 || row >= 4 || column < 0 || column >= 4) continue;
          blocks[k / 512] = fma32(x.data<float>()[channel * 16 + row * 4 + column],
                                  w.data<float>()[m * 630 + k], blocks[k / 512]);
        }
        EXPECT_EQ(bits_of((*y)[0].data<float>()[m * 16 + r * 4 + c]),
                  bits_of(blocks[0] + blocks[1]));
      }
}

TEST(Convolution, PaddingTakesNoPart) {
  // A zero times infinity would be NaN.
  expect_output(evaluate("Conv", {floats({1, 1, 1}, {2}), floats({1, 1, 3}, {kInf, 3, kInf})},
                         {{"pads", Ints{1, 1}}}),
                floats({1, 1, 1}, {6}));
}

TEST(Convolution, GroupsStridesDilationsAndBias) {
  const Tensor x = floats({1, 2, 5}, {1, 2, 3, 4, 5, 10, 20, 30, 40, 50}),
               w = floats({2, 1, 2}, {1, 1, 1, -1});
  expect_output(evaluate("Conv", {x, w, floats({2}, {0.5f, 0})},
                         {{"group", int64_t{2}}, {"strides", Ints{2}}, {"dilations", Ints{2}}}),
                floats({1, 2, 2}, {4.5f, 8.5f, -20, -20}));
  expect_error(evaluate("Conv", {x, w}, {{"group", int64_t{3}}}), StatusCode::bad_input, "group");
  expect_error(evaluate("Conv", {x, w}, {{"strides", Ints{0}}, {"group", int64_t{2}}}),
               StatusCode::bad_input, "strides");
  expect_error(evaluate("Conv", {x, w}, {{"pads", Ints{-1, 0}}, {"group", int64_t{2}}}),
               StatusCode::bad_input, "pads");
}

TEST(Convolution, TransposedIsTheGradient) {
  expect_output(
      evaluate("ConvTranspose", {floats({1, 1, 2}, {1, 10}), floats({1, 1, 3}, {1, 2, 3})},
               {{"strides", Ints{2}}}),
      floats({1, 1, 5}, {1, 2, 13, 20, 30}));
}

TEST(Pooling, AverageCountsPaddingOnlyWhenTold) {
  const Tensor x = floats({1, 1, 3}, {3, 6, 9});
  const Attributes pads = {{"kernel_shape", Ints{3}}, {"pads", Ints{1, 1}}};
  expect_output(evaluate("AveragePool", {x}, pads), floats({1, 1, 3}, {4.5f, 6, 7.5f}));
  Attributes counted = pads;
  counted.set("count_include_pad", int64_t{1});
  expect_output(evaluate("AveragePool", {x}, counted), floats({1, 1, 3}, {3, 6, 5}));
}

TEST(Pooling, MaximumIsNanAwareAndNamesTheFirst) {
  const Result<Tensors> y =
      evaluate("MaxPool", {floats({1, 1, 4}, {5, 5, kNan, 1})}, {{"kernel_shape", Ints{2}}}, 2);
  expect_output(y, floats({1, 1, 3}, {5, kNan, kNan}));
  expect_output(y, integers({1, 1, 3}, {0, 2, 2}), 1);
}

// A kernel of 2^20 by 2^20 over padding has 2^40 taps; the few that read something are found
// without visiting the others.
TEST(Pooling, HugeKernelsOverPaddingAreQuick) {
  constexpr int64_t kBig = 1 << 20;
  expect_output(evaluate("MaxPool", {floats({1, 1, 1, 1}, {4})},
                         {{"kernel_shape", Ints{kBig, kBig}},
                          {"pads", Ints{kBig, kBig, 0, 0}},
                          {"strides", Ints{kBig, kBig}}}),
                floats({1, 1, 1, 1}, {-kInf}));
}

TEST(Quantization, RoundsHalfToEvenAndSaturates) {
  const Tensor x = floats({7}, {0.5f, 1.5f, 2.5f, -1, 1000, kNan, kInf}), scale = floats({}, {1});
  expect_output(evaluate("QuantizeLinear", {x, scale, tensor<uint8_t>({}, {10})}),
                tensor<uint8_t>({7}, {10, 12, 12, 9, 255, 10, 255}));
  expect_output(evaluate("DequantizeLinear", {tensor<int8_t>({2}, {-128, 127}), floats({}, {0.5f}),
                                              tensor<int8_t>({}, {1})}),
                floats({2}, {-64.5f, 63}));
  const auto e4m3 = [](std::vector<uint8_t> bits) {
    Tensor t = *Tensor::allocate(DType::f8e4m3, Shape{static_cast<int64_t>(bits.size())});
    for (size_t i = 0; i < bits.size(); ++i) t.mutable_bytes()[i] = std::byte{bits[i]};
    return t;
  };
  // 448, -0.001953125, NaN, less a zero point of 1.
  expect_output(
      evaluate("DequantizeLinear",
               {e4m3({0x7E, 0x81, 0x7F}), floats({3}, {2, 2, 2}), e4m3({0x38, 0x38, 0x38})},
               {{"axis", int64_t{0}}}),
      floats({3}, {894, -2.00390625f, float_of(kNanBits)}));
}

TEST(Quantization, IntegerProductsWiden) {
  expect_output(evaluate("MatMulInteger", {tensor<uint8_t>({1, 2}, {255, 255}),
                                           tensor<int8_t>({2, 1}, {-128, -128})}),
                tensor<int32_t>({1, 1}, {-65280}));
  expect_output(
      evaluate("MatMulInteger", {tensor<uint8_t>({1, 2}, {3, 4}), tensor<uint8_t>({2, 1}, {5, 6}),
                                 tensor<uint8_t>({}, {1}), tensor<uint8_t>({}, {5})}),
      tensor<int32_t>({1, 1}, {3}));
}

TEST(Resize, LinearReadsTheEdge) {
  const Tensor x = floats({1, 1, 2}, {1, 3}), scales = floats({3}, {1, 1, 2});
  expect_output(evaluate("Resize", {x, Tensor(), scales}, {{"mode", std::string("linear")}}),
                floats({1, 1, 4}, {1, 1.5f, 2.5f, 3}));
  expect_error(evaluate("Resize", {x}, {}), StatusCode::bad_input, "scales or sizes");
  expect_error(evaluate("Resize", {x, Tensor(), floats({3}, {1, 1, kNan})}), StatusCode::bad_input,
               "resize");
}

}  // namespace
}  // namespace verbatim::testing
