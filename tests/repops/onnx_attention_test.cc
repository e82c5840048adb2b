#include <gtest/gtest.h>

#include <cmath>

#include "op_support.h"
#include "support/random_tensor.h"

namespace verbatim {
namespace {

using test::Random;
using testing::evaluate;
using testing::expect_error;
using testing::expect_output;
using testing::floats;
using testing::kInf;
using testing::kNan;

// [B, heads, T, size] as [B, T, heads * size].
Tensor by_token(const Tensor& x) {
  const int64_t perm[] = {0, 2, 1, 3};
  const Tensors y = *evaluate("Transpose", {x}, {{"perm", std::vector<int64_t>(perm, perm + 4)}});
  return *y[0].reshaped(Shape{x.dim(0), x.dim(2), x.dim(1) * x.dim(3)});
}

Tensor own_attention(const Attributes& a, const Tensors& inputs) {
  const Result<Tensors> out =
      evaluate_reference(test::node_of("Attention", kVerbatimDomain, a), inputs);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return (*out)[0];
}

Tensor run(const Tensors& inputs, Attributes a = {}, int output = 0) {
  const Result<Tensors> out = evaluate("Attention", inputs, std::move(a), output + 1);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? (*out)[output] : Tensor();
}

Tensor rows(const Tensor& x, int64_t begin, int64_t end) {  // of [1, 1, T, size]
  const auto width = static_cast<size_t>(x.dim(3));
  return *Tensor::from<float>({1, 1, end - begin, x.dim(3)},
                              x.data<float>().subspan(begin * width, (end - begin) * width));
}

struct Operands {
  Tensor q, k, v;
};
Operands operands(uint64_t seed, int64_t heads, int64_t kv_heads, int64_t queries, int64_t keys) {
  Random random(seed);
  return {random.floats({2, heads, queries, 8}), random.floats({2, kv_heads, keys, 8}),
          random.floats({2, kv_heads, keys, 5})};
}

// Layouts, grouped heads and causal masks of a cache are the library's own attention to the bit.
TEST(OnnxAttention, IsTheLibrarysOwn) {
  const auto [q, k, v] = operands(1, 6, 2, 9, 300);
  const Tensor own = own_attention(
      {{"heads", int64_t{6}}, {"kv_heads", int64_t{2}}, {"scale", 0.25f}, {"softcap", 2.0f}},
      {by_token(q), by_token(k), by_token(v)});
  const Attributes a = {{"scale", 0.25f}, {"softcap", 2.0f}};
  EXPECT_TRUE(identical(by_token(run({q, k, v}, a)), own));
  Attributes three = a;
  three.set("q_num_heads", int64_t{6});
  three.set("kv_num_heads", int64_t{2});
  EXPECT_TRUE(identical(run({by_token(q), by_token(k), by_token(v)}, three), own));
}

TEST(OnnxAttention, ACacheIsTheKeysBeforeTheOperands) {
  Random random(2);
  const Tensor q = random.floats({1, 1, 3, 8}), k = random.floats({1, 1, 200, 8}),
               v = random.floats({1, 1, 200, 4});
  const Attributes a = {{"is_causal", int64_t{1}}, {"scale", 0.5f}};
  const Tensor whole =
      own_attention({{"heads", int64_t{1}}, {"scale", 0.5f}, {"causal", int64_t{1}}},
                    {by_token(q), by_token(k), by_token(v)});
  const Tensors cached = {q,        rows(k, 197, 200), rows(v, 197, 200),
                          Tensor(), rows(k, 0, 197),   rows(v, 0, 197)};
  EXPECT_TRUE(identical(by_token(run(cached, a)), whole));
  EXPECT_TRUE(identical(run(cached, a, 1), k));
  EXPECT_TRUE(identical(run(cached, a, 2), v));
}

TEST(OnnxAttention, AMaskedKeyTakesNoPart) {
  auto [q, k, v] = operands(3, 2, 2, 4, 40);
  Tensor visible = *Tensor::allocate(DType::boolean, Shape{4, 40}),
         bias = *Tensor::zeros(DType::f32, Shape{4, 40}),
         more = *Tensor::zeros(DType::f32, Shape{4, 30});
  for (int64_t i = 0; i < 160; ++i) {
    const bool seen = i % 40 < 30 && i % 7 != 0;
    visible.mutable_data<bool>()[i] = seen;
    if (!seen) bias.mutable_data<float>()[i] = -kInf;
    if (!seen && i % 40 < 30) more.mutable_data<float>()[i / 40 * 30 + i % 40] = -kInf;
  }
  const Tensor want = run({q, k, v, visible});
  EXPECT_TRUE(identical(run({q, k, v, bias}), want));
  EXPECT_TRUE(identical(run({q, k, v, more}), want)) << "a shorter mask masks what follows";
  for (Tensor* t : {&k, &v})  // keys 30 to 39 of every head
    for (int64_t i = 0; i < t->elements(); ++i)
      if (i / t->dim(3) % 40 >= 30) t->mutable_data<float>()[i] = kNan;
  EXPECT_TRUE(identical(run({q, k, v, visible}), want)) << "NaN where nobody looks";
  EXPECT_FALSE(std::isnan(run({q, k, v, bias}).data<float>()[0]));
}

TEST(OnnxAttention, ABiasIsAddedToTheScore) {
  Random random(4);
  const Tensor q = random.floats({1, 1, 1, 4}), k = random.floats({1, 1, 6, 4}),
               v = random.floats({1, 1, 6, 3}), bias = random.floats({1, 6});
  const Tensor y = run({q, k, v, bias}),
               p = run({q, k, v, bias}, {{"qk_matmul_output_mode", int64_t{3}}}, 3),
               s = run({q, k, v, bias}, {{"qk_matmul_output_mode", int64_t{0}}}, 3),
               b = run({q, k, v, bias}, {{"qk_matmul_output_mode", int64_t{2}}}, 3);
  double sum = 0;
  std::array<double, 6> weight;
  for (int i = 0; i < 6; ++i) {
    double score = 0;
    for (int j = 0; j < 4; ++j) score += 0.5 * q.data<float>()[j] * k.data<float>()[i * 4 + j];
    EXPECT_NEAR(s.data<float>()[i], score, 1e-6);
    EXPECT_NEAR(b.data<float>()[i], score + bias.data<float>()[i], 1e-6);
    sum += weight[i] = std::exp(score + bias.data<float>()[i]);
  }
  for (int j = 0; j < 3; ++j) {
    double want = 0;
    for (int i = 0; i < 6; ++i) want += weight[i] / sum * v.data<float>()[i * 3 + j];
    EXPECT_NEAR(y.data<float>()[j], want, 1e-6);
  }
  for (int i = 0; i < 6; ++i) EXPECT_NEAR(p.data<float>()[i], weight[i] / sum, 1e-6);
}

// Queries before the first key (nonpad_kv_seqlen below their number) see nothing.
TEST(OnnxAttention, ARowThatSeesNothingIsZero) {
  const auto [q, k, v] = operands(5, 1, 1, 3, 4);
  const Tensors inputs = {q, k, v, Tensor(), Tensor(), Tensor(), test::ints({2, 4})};
  const Attributes a = {{"is_causal", int64_t{1}}, {"qk_matmul_output_mode", int64_t{3}}};
  const Tensor y = run(inputs, a), p = run(inputs, a, 3);
  for (int64_t j = 0; j < 5; ++j) EXPECT_EQ(bits_of(y.data<float>()[j]), 0u);
  for (int64_t j = 0; j < 4; ++j) EXPECT_EQ(bits_of(p.data<float>()[j]), 0u);
  EXPECT_NE(y.data<float>()[5], 0);
  Attributes biased = a;
  biased.set("qk_matmul_output_mode", int64_t{2});
  EXPECT_EQ(run(inputs, biased, 3).data<float>()[0], -kInf);
}

TEST(OnnxAttention, WindowsBoundBothSides) {
  const auto [q, k, v] = operands(6, 1, 1, 5, 5);
  Tensor visible = *Tensor::allocate(DType::boolean, Shape{5, 5});
  for (int64_t i = 0; i < 25; ++i)
    visible.mutable_data<bool>()[i] = i % 5 >= i / 5 - 2 && i % 5 <= i / 5 + 1;
  EXPECT_TRUE(identical(
      run({q, k, v}, {{"left_window_size", int64_t{2}}, {"right_window_size", int64_t{1}}}),
      run({q, k, v, visible})));
}

TEST(OnnxAttention, RefusesWhatDoesNotFit) {
  const auto [q, k, v] = operands(7, 3, 2, 2, 4);
  expect_error(evaluate("Attention", {q, k, v}), StatusCode::bad_input, "attention of q");
  const auto [a, b, c] = operands(8, 2, 2, 2, 4);
  const auto refuses = [&](const Tensors& inputs, const Attributes& attributes, const char* part) {
    expect_error(evaluate("Attention", inputs, attributes), StatusCode::bad_input, part);
  };
  refuses({a, b, c, Tensor(), b}, {}, "go together");
  refuses({a, b, c, *Tensor::zeros(DType::f32, Shape{2, 5})}, {}, "attn_mask");
  refuses({a, b, c, *Tensor::zeros(DType::f32, Shape{3, 1, 2, 4})}, {}, "attn_mask");
  refuses({a, b, c, Tensor(), Tensor(), Tensor(), test::ints({1, 5})}, {}, "nonpad_kv_seqlen 5");
  refuses({a, b, c}, {{"left_window_size", int64_t{-2}}}, "window");
  refuses({by_token(a), by_token(b), by_token(c)}, {}, "heads");
}

TEST(OnnxRotaryEmbedding, TurnsPairsAndCopiesTheRest) {
  const Tensor x = floats({1, 1, 1, 6}, {1, 2, 3, 4, 5, 6}), cosine = floats({2, 2}, {9, 9, 0, 1}),
               sine = floats({2, 2}, {9, 9, 1, 0});
  const Attributes a = {{"rotary_embedding_dim", int64_t{4}}};
  const Tensor at = testing::integers({1, 1}, {1});
  expect_output(evaluate("RotaryEmbedding", {x, cosine, sine, at}, a),
                floats({1, 1, 1, 6}, {-3, 2, 1, 4, 5, 6}));
  Attributes pairs = a;
  pairs.set("interleaved", int64_t{1});
  expect_output(evaluate("RotaryEmbedding", {x, cosine, sine, at}, pairs),
                floats({1, 1, 1, 6}, {-2, 1, 3, 4, 5, 6}));
  expect_error(evaluate("RotaryEmbedding", {x, cosine, sine, testing::integers({1, 1}, {2})}, a),
               StatusCode::bad_input, "position 2 of 2");
  expect_error(
      evaluate("RotaryEmbedding", {x, cosine, sine, at}, {{"rotary_embedding_dim", int64_t{3}}}),
      StatusCode::bad_input, "rotary_embedding_dim 3");
}

}  // namespace
}  // namespace verbatim
