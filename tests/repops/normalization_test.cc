#include <gtest/gtest.h>

#include <cmath>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

using test::node_of;

Tensor run(const Node& node, std::vector<Tensor> inputs) {
  Result<Tensors> out = evaluate_reference(node, inputs);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? (*out)[0] : Tensor();
}

TEST(Softmax, IsCloseToBinary64AlongAnyAxis) {
  test::Random random(1);
  const Tensor x = random.floats({3, 50, 4});
  const Tensor y = run(node_of("Softmax", "", {{"axis", int64_t{1}}}), {x});
  const auto in = x.data<float>(), out = y.data<float>();
  for (int64_t a = 0; a < 3; ++a)
    for (int64_t c = 0; c < 4; ++c) {
      double sum = 0;
      for (int64_t b = 0; b < 50; ++b)
        sum += std::exp(static_cast<double>(in[(a * 50 + b) * 4 + c]));
      for (int64_t b = 0; b < 50; ++b) {
        const int64_t i = (a * 50 + b) * 4 + c;
        EXPECT_NEAR(out[i], std::exp(static_cast<double>(in[i])) / sum, 1e-7);
      }
    }
}

// Keys masked by -inf or by a huge negative number weigh exactly zero, so padding changes no bit.
TEST(Softmax, MaskedColumnsLeaveTheOthersBitsAlone) {
  test::Random random(2);
  const Tensor x = random.floats({1, 37});
  Tensor padded = *Tensor::allocate(DType::f32, Shape{1, 60});
  for (int i = 0; i < 60; ++i)
    padded.mutable_data<float>()[i] = i < 37 ? x.data<float>()[i] : i % 2 ? -INFINITY : -1e9f;
  const Tensor a = run(node_of("Softmax", ""), {x}), b = run(node_of("Softmax", ""), {padded});
  for (int i = 0; i < 60; ++i)
    EXPECT_EQ(bits_of(b.data<float>()[i]), i < 37 ? bits_of(a.data<float>()[i]) : 0u);
}

TEST(LayerNormalization, IsCloseToBinary64) {
  test::Random random(3);
  const int64_t n = 1500;
  const Tensor x = random.floats({4, n}), gamma = random.floats({n}), beta = random.floats({n});
  const Tensor y = run(node_of("LayerNormalization", "", {{"epsilon", 1e-5f}}), {x, gamma, beta});
  for (int64_t r = 0; r < 4; ++r) {
    const auto row = x.data<float>().subspan(r * n, n);
    double mean = 0, var = 0;
    for (float v : row) mean += v;
    mean /= n;
    for (float v : row) var += (v - mean) * (v - mean);
    var /= n;
    for (int64_t i = 0; i < n; ++i)
      EXPECT_NEAR(
          y.data<float>()[r * n + i],
          (row[i] - mean) / std::sqrt(var + 1e-5) * gamma.data<float>()[i] + beta.data<float>()[i],
          2e-6);
  }
}

TEST(RmsNormalization, IsCloseToBinary64) {
  test::Random random(4);
  const Tensor x = random.floats({3, 64}), gamma = random.floats({64});
  const Tensor y = run(node_of("RMSNormalization", ""), {x, gamma});
  for (int64_t r = 0; r < 3; ++r) {
    double sum = 0;
    for (int64_t i = 0; i < 64; ++i)
      sum += std::pow(static_cast<double>(x.data<float>()[r * 64 + i]), 2);
    for (int64_t i = 0; i < 64; ++i)
      EXPECT_NEAR(y.data<float>()[r * 64 + i],
                  x.data<float>()[r * 64 + i] / std::sqrt(sum / 64 + 1e-5) * gamma.data<float>()[i],
                  1e-6);
  }
}

TEST(L2Normalize, GivesUnitRowsAndLeavesZeroRowsZero) {
  test::Random random(5);
  Tensor x = random.floats({2, 384});
  for (int i = 384; i < 768; ++i) x.mutable_data<float>()[i] = 0.0f;
  const Tensor y = run(node_of("L2Normalize", kVerbatimDomain), {x});
  double norm = 0;
  for (int i = 0; i < 384; ++i) norm += std::pow(static_cast<double>(y.data<float>()[i]), 2);
  EXPECT_NEAR(norm, 1.0, 1e-6);
  for (int i = 384; i < 768; ++i) EXPECT_EQ(bits_of(y.data<float>()[i]), 0u);
}

TEST(MeanPool, PaddingTakesNoPart) {
  test::Random random(6);
  const Tensor x = random.floats({2, 50, 8}, true);
  const Tensor y = run(node_of("MeanPool", kVerbatimDomain), {x, test::ints({50, 7})});
  const Tensor cut = *Tensor::from<float>({1, 7, 8}, x.data<float>().subspan(400, 56));
  const Tensor alone = run(node_of("MeanPool", kVerbatimDomain), {cut, test::ints({7})});
  for (int h = 0; h < 8; ++h)
    EXPECT_EQ(bits_of(y.data<float>()[8 + h]), bits_of(alone.data<float>()[h]));
  const Tensor bad[] = {x, test::ints({51, 7})};
  EXPECT_FALSE(evaluate_reference(node_of("MeanPool", kVerbatimDomain), bad).ok());
}

}  // namespace
}  // namespace verbatim
