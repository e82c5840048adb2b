// Rotated int8 rows, their products, and int8 attention.
#include <verbatim/repops/ops/quantized.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

using test::node_of;

Tensor evaluate(const char* op, std::vector<Tensor> inputs, Attributes attributes = {}) {
  Result<Tensors> out =
      evaluate_reference(node_of(op, kVerbatimDomain, std::move(attributes)), inputs);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? (*out)[0] : Tensor();
}

Status refusal(const char* op, std::vector<Tensor> inputs, Attributes attributes = {}) {
  return evaluate_reference(node_of(op, kVerbatimDomain, std::move(attributes)), inputs).status();
}

TEST(Exp2P, IsWithinItsErrorAndExactAtIntegers) {
  double worst = 0;
  for (int i = 0; i <= 126 * 4096; ++i) {
    const float t = static_cast<float>(-i) / 4096.0f;
    const double want = std::exp2(static_cast<double>(t));
    worst = std::max(worst, std::abs(exp2p(t) - want) / want);
    if (i % 4096 == 0) {
      EXPECT_EQ(exp2p(t), static_cast<float>(want)) << t;
    }
  }
  // The polynomial's error, and the last rounding.
  EXPECT_LT(worst, std::exp2(-23.2) + 1.1 * std::exp2(-24.0));
  EXPECT_EQ(bits_of(exp2p(-126.00001f)), 0u);
  EXPECT_EQ(bits_of(exp2p(-INFINITY)), 0u);
  EXPECT_EQ(bits_of(exp2p(NAN)), kNanBits);
}

// A rotation keeps lengths and angles, and undoes itself, whatever the number of blocks.
TEST(Rotation, IsOrthogonalUpToItsNorm) {
  test::Random random(1);
  for (const int64_t n : {1, 2, 64, 96, 172, 384, 640, 1000, 1024}) {
    const int64_t block = rotation_block(n);
    ASSERT_EQ(n % block, 0);
    ASSERT_EQ(n / block % 2, 1);
    std::vector<float> x(static_cast<size_t>(n)), y(x.size());
    double want = 0, have = 0, size = 0;
    for (int64_t i = 0; i < n; ++i) {
      x[i] = random.unit(), y[i] = random.unit();
      want += double{x[i]} * y[i], size += double{x[i]} * x[i];
    }
    const std::vector<float> before = x;
    rotate_row(x, block), rotate_row(y, block);
    for (int64_t i = 0; i < n; ++i) have += double{x[i]} * y[i];
    EXPECT_NEAR(have / static_cast<double>(block), want, 1e-5 * size) << n;
    rotate_row(x, block);
    for (int64_t i = 0; i < n; ++i)
      ASSERT_NEAR(x[i], before[i] * static_cast<float>(block), 2e-6 * static_cast<double>(block))
          << n;
  }
}

// One great element becomes many small ones, in other blocks too.
TEST(Rotation, SpreadsAnOutlierOverTheRow) {
  std::vector<float> x(384);
  x[5] = 1;
  rotate_row(x, rotation_block(384));
  for (const float v : x) ASSERT_LE(std::abs(v), 0.67f);
  EXPECT_GT(std::abs(x[383]), 0.3f);
}

TEST(QuantizedRows, AreWithinHalfAStepAndUseTheWholeRange) {
  test::Random random(2);
  for (int trial = 0; trial < 2000; ++trial) {
    const int scale = static_cast<int>(random.between(-110, 126));
    std::vector<float> row(7);
    for (float& v : row) v = std::ldexp(random.unit(), scale);
    int8_t codes[7];
    const float s = quantize_row(row, kInt8Codes, codes);
    int greatest = 0;
    for (int i = 0; i < 7; ++i) {
      ASSERT_LE(std::abs(static_cast<double>(codes[i]) * s - row[i]), 0.50001 * s);
      greatest = std::max(greatest, std::abs(codes[i]));
    }
    ASSERT_EQ(greatest, 127);
  }
}

TEST(QuantizedRows, ZeroSubnormalAndNotFinite) {
  int8_t codes[2];
  const auto quantize = [&](float a, float b) {
    const float row[] = {a, b};
    return quantize_row(row, kInt8Codes, codes);
  };
  EXPECT_EQ(bits_of(quantize(-0.0f, 0.0f)), 0u);
  EXPECT_EQ(codes[0], 0);
  EXPECT_EQ(quantize(0x1p-149f, 0), 0.0f);  // the scale is below the least subnormal
  EXPECT_EQ(codes[0], 0);
  EXPECT_GT(quantize(FLT_MAX, -FLT_MAX), 1e36f);
  EXPECT_EQ(codes[1], -127);
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    EXPECT_TRUE(std::isnan(quantize(1, bad)));
    EXPECT_EQ(codes[0], 0);
  }
}

// Against 128-bit integers and one rounding at each step, written anew.
TEST(QuantizedLinear, IsTheIntegerProductScaled) {
  test::Random random(3);
  for (const int bits : {8, 4, 3, 2, 1}) {
    for (const int64_t k : {0, 1, 31, 32, 33, 200}) {
      const QuantizedTensor x = *quantize_rows(random.floats({3, k}), 1);
      const QuantizedWeights w = *quantize_weights(random.floats({4, k}), bits, 1);
      const Tensor bias = random.floats({4});
      const Tensor y =
          evaluate("QuantizedLinear", {x.codes, x.scales, w.codes, w.scales, w.group_scales, bias});
      const int64_t groups = (k + 31) / 32;
      for (int64_t i = 0; i < 12; ++i) {
        const int64_t m = i / 4, n = i % 4;
        __int128 sum = 0;
        for (int64_t j = 0; j < k; ++j)
          sum += __int128{x.codes.data<int8_t>()[m * k + j]} * w.codes.data<int8_t>()[n * k + j] *
                 (bits == 8 ? 1 : w.group_scales.data<uint8_t>()[n * groups + j / 32]);
        const float scale = x.scales.data<float>()[m] * w.scales.data<float>()[n];
        const float want =
            static_cast<float>(static_cast<int64_t>(sum)) * scale + bias.data<float>()[n];
        ASSERT_EQ(bits_of(y.data<float>()[i]), bits_of(want)) << bits << " bits, K " << k;
      }
    }
  }
}

// The second part holds what the first rounded away, so that both together are a row of 15 bits.
TEST(QuantizedWeights, PartsAddUpToTheRotatedRow) {
  test::Random random(9);
  const Tensor w = random.floats({7, 96});
  const auto parts = *quantize_weights_in_parts(w, 32);
  const QuantizedWeights whole = *quantize_weights(w, 8, 32);
  EXPECT_TRUE(std::ranges::equal(parts[0].codes.bytes(), whole.codes.bytes()));
  EXPECT_TRUE(std::ranges::equal(parts[0].scales.bytes(), whole.scales.bytes()));
  for (int64_t r = 0; r < 7; ++r) {
    std::vector<float> row(w.data<float>().begin() + r * 96, w.data<float>().begin() + r * 96 + 96);
    rotate_row(row, 32);
    double most = 0;
    for (int64_t i = 0; i < 96; ++i) {
      double left = row[static_cast<size_t>(i)];
      for (const QuantizedWeights& part : parts)
        left -= 32.0 * part.scales.data<float>()[r] * part.codes.data<int8_t>()[r * 96 + i];
      most = std::max(most, std::abs(left));
    }
    EXPECT_LE(most, 32.0 * 0.501 * parts[1].scales.data<float>()[r]) << r;
    EXPECT_LE(parts[1].scales.data<float>()[r], 0.501 * parts[0].scales.data<float>()[r] / 127);
  }
}

// One bit: signs, and for each group its mean magnitude in steps of 1/255 of the greatest.
TEST(SignWeights, HaveTheMeanMagnitudeOfEachGroup) {
  test::Random random(8);
  Tensor w = random.floats({2, 65});
  for (int64_t i = 0; i < 32; ++i) w.mutable_data<float>()[i] = i % 2 == 0 ? -0.0f : 0.0f;
  w.mutable_data<float>()[65 + 3] = NAN;
  const QuantizedWeights q = *quantize_weights(w, 1, 1);
  const float scale = q.scales.data<float>()[0];
  for (int64_t g = 0; g < 3; ++g) {
    double sum = 0;
    const int64_t end = std::min<int64_t>(65, 32 * g + 32);
    for (int64_t i = 32 * g; i < end; ++i) {
      const float v = w.data<float>()[i];
      sum += std::abs(double{v});
      ASSERT_EQ(q.codes.data<int8_t>()[i], v < 0 ? -1 : 1) << i;
    }
    ASSERT_NEAR(q.group_scales.data<uint8_t>()[g] * double{scale},
                sum / static_cast<double>(end - 32 * g), 0.501 * scale);
  }
  EXPECT_EQ(q.group_scales.data<uint8_t>()[0], 0);
  EXPECT_TRUE(std::isnan(q.scales.data<float>()[1]));
  EXPECT_EQ(q.codes.data<int8_t>()[65], 0);
  // The greatest numbers have a mean that is one too.
  for (float& v : w.mutable_data<float>()) v = FLT_MAX;
  EXPECT_NEAR(quantize_weights(w, 1, 1)->scales.data<float>()[0], FLT_MAX / 255, FLT_MAX / 1e6);
}

// Outlier channels, as activations have them, ruin a product without the rotation and hardly touch
// one with it.
TEST(QuantizedLinear, TheRotationTamesOutliers) {
  test::Random random(4);
  Tensor x = random.floats({16, 384});
  const Tensor w = random.floats({16, 384});
  for (int64_t m = 0; m < 16; ++m) x.mutable_data<float>()[m * 384 + 7] *= 100;
  const auto error = [&](int64_t rotation) {
    const QuantizedTensor q = *quantize_rows(x, rotation);
    const QuantizedWeights v = *quantize_weights(w, 8, rotation);
    const Tensor y = evaluate("QuantizedLinear", {q.codes, q.scales, v.codes, v.scales});
    double difference = 0, size = 0;
    for (int64_t i = 0; i < 256; ++i) {
      double want = 0;
      for (int64_t j = 0; j < 384; ++j)
        want += double{x.data<float>()[i / 16 * 384 + j]} * w.data<float>()[i % 16 * 384 + j];
      difference += std::abs(y.data<float>()[i] - want), size += std::abs(want);
    }
    return difference / size;
  };
  EXPECT_LT(error(rotation_block(384)), 0.01);
  EXPECT_GT(error(1), 2 * error(rotation_block(384)));
}

TEST(QuantizedLinear, RefusesWhatItCannotMultiply) {
  test::Random random(5);
  const QuantizedTensor x = *quantize_rows(random.floats({2, 64}), 1);
  const QuantizedWeights w = *quantize_weights(random.floats({3, 64}), 4, 1);
  const auto with = [&](size_t i, Tensor t) {
    std::vector<Tensor> inputs = {x.codes, x.scales, w.codes, w.scales, w.group_scales};
    inputs[i] = std::move(t);
    return refusal("QuantizedLinear", inputs).code();
  };
  EXPECT_EQ(with(1, w.scales), StatusCode::bad_input);
  EXPECT_EQ(with(2, x.codes), StatusCode::bad_input);
  EXPECT_EQ(with(4, *Tensor::zeros(DType::u8, Shape{3, 3})), StatusCode::bad_input);
  Tensor codes = *Tensor::zeros(DType::i8, Shape{2, 64});
  codes.mutable_data<int8_t>()[9] = -128;
  EXPECT_EQ(with(0, codes), StatusCode::bad_input);
  for (const int64_t rotation : {-1, 0, 3, 128})
    EXPECT_EQ(refusal("QuantizeRows", {random.floats({2, 64})}, {{"rotation", rotation}}).code(),
              StatusCode::bad_input);
}

// Relative L1 error of int8 attention against ordered attention: the bound of the contract's
// simulation (0.022 to 0.026), with outlier channels in keys and values and a first key that draws
// most of the weight.
TEST(Int8Attention, IsCloseToOrderedAttention) {
  test::Random random(6);
  const int64_t n = 400, d = 64;
  for (const bool outliers : {false, true}) {
    Tensor q = random.floats({1, n, d}), k = random.floats({1, n, d}), v = random.floats({1, n, d});
    for (int64_t t = 0; outliers && t < n; ++t) {
      k.mutable_data<float>()[t * d + 3] *= 20;
      v.mutable_data<float>()[t * d + 5] *= 20;
    }
    for (int64_t j = 0; outliers && j < d; ++j) k.mutable_data<float>()[j] *= 4;
    const Attributes a = {{"heads", int64_t{2}}, {"scale", 1.0f}, {"causal", int64_t{1}}};
    const Tensor want = evaluate("Attention", {q, k, v}, a);
    const auto error = [&](int64_t slices) {
      Attributes b = a;
      b.set("weight_slices", slices);
      const Tensor have = evaluate("AttentionInt8", {q, k, v}, b);
      double difference = 0, size = 0;
      for (int64_t i = 0; i < want.elements(); ++i) {
        difference += std::abs(double{have.data<float>()[i]} - want.data<float>()[i]);
        size += std::abs(want.data<float>()[i]);
      }
      return difference / size;
    };
    EXPECT_LT(error(1), 0.04) << outliers;
    EXPECT_LT(error(2), error(1)) << outliers;
  }
}

TEST(Int8Attention, NanStaysInItsRowsAndExtremesAreDefined) {
  test::Random random(7);
  Tensor q = random.floats({1, 4, 8}), k = random.floats({1, 4, 8}), v = random.floats({1, 4, 8});
  const Attributes a = {{"heads", int64_t{1}}, {"scale", 1.0f}, {"causal", int64_t{1}}};
  v.mutable_data<float>()[2 * 8 + 1] = INFINITY;
  Tensor y = evaluate("AttentionInt8", {q, k, v}, a);
  for (int64_t i = 0; i < 32; ++i) EXPECT_EQ(std::isnan(y.data<float>()[i]), i >= 16) << i;
  v = random.floats({1, 4, 8});
  q.mutable_data<float>()[8] = NAN;
  y = evaluate("AttentionInt8", {q, k, v}, a);
  for (int64_t i = 0; i < 32; ++i) EXPECT_EQ(std::isnan(y.data<float>()[i]), i / 8 == 1) << i;
  // Values of the least and the greatest magnitude; all zero ones give +0.
  q = random.floats({1, 4, 8});
  for (float& x : v.mutable_data<float>()) x = 0x1p-149f;
  y = evaluate("AttentionInt8", {q, k, v}, a);
  for (const float x : y.data<float>()) EXPECT_TRUE(x >= 0 && x <= 0x1p-147f) << x;
  for (float& x : v.mutable_data<float>()) x = 1e37f;
  y = evaluate("AttentionInt8", {q, k, v}, a);
  for (const float x : y.data<float>()) EXPECT_NEAR(x, 1e37, 1e35);
  y = evaluate("AttentionInt8", {q, k, *Tensor::zeros(DType::f32, Shape{1, 4, 8})}, a);
  for (const float x : y.data<float>()) EXPECT_EQ(bits_of(x), 0u);
}

}  // namespace
}  // namespace verbatim
