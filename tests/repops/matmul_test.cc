#include <gtest/gtest.h>

#include <Eigen/Dense>

#include <verbatim/core/parallel.h>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

using test::node_of;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Matrix as_double(const Tensor& t) {
  const auto v = t.data<float>();
  return Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
             v.data(), t.dim(0), t.dim(1))
      .cast<double>();
}

Tensor run(const Node& node, std::vector<Tensor> inputs) {
  Result<Tensors> out = evaluate_reference(node, inputs);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? (*out)[0] : Tensor();
}

TEST(Linear, IsCloseToBinary64) {
  test::Random random(1);
  const Tensor x = random.floats({7, 1300}), w = random.floats({9, 1300}),
               bias = random.floats({9});
  const Tensor y = run(node_of("Linear", kVerbatimDomain), {x, w, bias});
  const Matrix want = as_double(x) * as_double(w).transpose();
  const Matrix scale = as_double(x).cwiseAbs() * as_double(w).cwiseAbs().transpose();
  for (int64_t m = 0; m < 7; ++m)
    for (int64_t n = 0; n < 9; ++n)
      EXPECT_NEAR(y.data<float>()[m * 9 + n], want(m, n) + bias.data<float>()[n],
                  1e-6 * scale(m, n));
}

// Spelt out by hand for K = 1025: three blocks, the last of one element.
TEST(Linear, FoldsBlocksOf512InAscendingOrder) {
  test::Random random(2);
  const Tensor x = random.floats({1, 1025}), w = random.floats({1, 1025});
  const auto a = x.data<float>(), b = w.data<float>();
  float blocks[3];
  for (int i = 0; i < 3; ++i) {
    blocks[i] = 0.0f;
    for (int k = 512 * i; k < std::min(512 * (i + 1), 1025); ++k)
      blocks[i] = __builtin_fmaf(a[k], b[k], blocks[i]);
  }
  const float want = (blocks[0] + blocks[1]) + blocks[2];
  EXPECT_EQ(bits_of(run(node_of("Linear", kVerbatimDomain), {x, w}).data<float>()[0]),
            bits_of(want));
}

TEST(Linear, EmptyKIsPlusZeroAndNanIsCanonical) {
  const Tensor y =
      run(node_of("Linear", kVerbatimDomain),
          {*Tensor::zeros(DType::f32, Shape{2, 0}), *Tensor::zeros(DType::f32, Shape{3, 0})});
  for (float v : y.data<float>()) EXPECT_EQ(bits_of(v), 0u);
  const float infinity[] = {INFINITY}, zero[] = {0.0f};
  const Tensor n = run(node_of("Linear", kVerbatimDomain), {*Tensor::from<float>({1, 1}, infinity),
                                                            *Tensor::from<float>({1, 1}, zero)});
  EXPECT_EQ(bits_of(n.data<float>()[0]), kNanBits);
}

TEST(Linear, ARowAloneEqualsTheRowInABatch) {
  test::Random random(3);
  const Tensor x = random.floats({5, 700}, true), w = random.floats({11, 700});
  set_thread_count(3);
  const Tensor all = run(node_of("Linear", kVerbatimDomain), {x, w});
  set_thread_count(1);
  for (int64_t m = 0; m < 5; ++m) {
    const Tensor row = *Tensor::from<float>({1, 700}, x.data<float>().subspan(m * 700, 700));
    const Tensor one = run(node_of("Linear", kVerbatimDomain), {row, w});
    for (int64_t n = 0; n < 11; ++n)
      EXPECT_EQ(bits_of(one.data<float>()[n]), bits_of(all.data<float>()[m * 11 + n]));
  }
  set_thread_count(2);
}

TEST(MatMul, BroadcastsAsNumpyAndEqualsLinearOnTheTranspose) {
  test::Random random(4);
  const Tensor a = random.floats({2, 1, 3, 20}), b = random.floats({4, 20, 5});
  const Tensor y = run(node_of("MatMul", ""), {a, b});
  ASSERT_EQ(y.shape(), (Shape{2, 4, 3, 5}));
  for (int64_t i = 0; i < 2; ++i)
    for (int64_t j = 0; j < 4; ++j) {
      Tensor bt = *Tensor::allocate(DType::f32, Shape{5, 20});
      for (int64_t k = 0; k < 20; ++k)
        for (int64_t n = 0; n < 5; ++n)
          bt.mutable_data<float>()[n * 20 + k] = b.data<float>()[(j * 20 + k) * 5 + n];
      const Tensor ai = *Tensor::from<float>({3, 20}, a.data<float>().subspan(i * 60, 60));
      const Tensor want = run(node_of("Linear", kVerbatimDomain), {ai, bt});
      for (int64_t e = 0; e < 15; ++e)
        EXPECT_EQ(bits_of(y.data<float>()[(i * 4 + j) * 15 + e]), bits_of(want.data<float>()[e]));
    }
}

TEST(MatMul, VectorsAndMismatches) {
  test::Random random(5);
  EXPECT_EQ(run(node_of("MatMul", ""), {random.floats({4}), random.floats({4})}).rank(), 0);
  EXPECT_EQ(run(node_of("MatMul", ""), {random.floats({4}), random.floats({2, 4, 3})}).shape(),
            (Shape{2, 3}));
  const Tensor bad[] = {random.floats({2, 3}), random.floats({4, 2})};
  EXPECT_EQ(evaluate_reference(node_of("MatMul", ""), bad).status().code(), StatusCode::bad_input);
}

TEST(MatMul, IntegersWrap) {
  const int32_t big[] = {INT32_MAX, 2}, two[] = {2, 3};
  const Tensor y = run(node_of("MatMul", ""),
                       {*Tensor::from<int32_t>({1, 2}, big), *Tensor::from<int32_t>({2, 1}, two)});
  EXPECT_EQ(y.data<int32_t>()[0], 4);  // -2 + 6
}

TEST(Gemm, RoundsAlphaBetaAndSumOneByOne) {
  test::Random random(6);
  const Tensor a = random.floats({20, 3}), b = random.floats({5, 20}), c = random.floats({5});
  const Tensor y = run(
      node_of("Gemm", "",
              {{"transA", int64_t{1}}, {"transB", int64_t{1}}, {"alpha", 0.3f}, {"beta", 0.7f}}),
      {a, b, c});
  for (int64_t m = 0; m < 3; ++m)
    for (int64_t n = 0; n < 5; ++n) {
      float acc = 0.0f;
      for (int64_t k = 0; k < 20; ++k)
        acc = __builtin_fmaf(a.data<float>()[k * 3 + m], b.data<float>()[n * 20 + k], acc);
      const float scaled = acc * 0.3f, added = c.data<float>()[n] * 0.7f;
      EXPECT_EQ(bits_of(y.data<float>()[m * 5 + n]), bits_of(scaled + added));
    }
}

}  // namespace
}  // namespace verbatim
