// LinearAttention, CausalConvWithState and TfIdfVectorizer.
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
using testing::integers;

Tensor part(const Tensor& x, int64_t begin, int64_t end) {  // tokens of [1, T, size]
  const auto row = static_cast<size_t>(x.dim(2));
  return *Tensor::from<float>({1, end - begin, x.dim(2)},
                              x.data<float>().subspan(begin * row, (end - begin) * row));
}

constexpr int64_t kTokens = 6, kKey = 3, kValue = 2;

TEST(LinearAttention, GatedDeltaIsCloseToBinary64) {
  Random random(1);
  const Tensor q = random.floats({1, kTokens, 2 * kKey}), k = random.floats({1, kTokens, kKey}),
               v = random.floats({1, kTokens, kValue}), g = random.floats({1, kTokens, kKey}),
               beta = random.floats({1, kTokens, 1});
  const Result<Tensors> have =
      evaluate("LinearAttention", {q, k, v, Tensor(), g, beta},
               {{"q_num_heads", int64_t{2}}, {"kv_num_heads", int64_t{1}}, {"scale", 0.5f}}, 2);
  ASSERT_TRUE(have.ok()) << have.status().message();
  double s[kKey][kValue] = {};
  for (int64_t t = 0; t < kTokens; ++t) {
    const auto at = [t](const Tensor& x, int64_t i) {
      return double{x.data<float>()[t * x.dim(2) + i]};
    };
    for (int64_t d = 0; d < kKey; ++d)
      for (double& x : s[d]) x *= std::exp(at(g, d));
    for (int64_t m = 0; m < kValue; ++m) {
      double kept = 0;
      for (int64_t d = 0; d < kKey; ++d) kept += s[d][m] * at(k, d);
      const double value = at(beta, 0) * (at(v, m) - kept);
      for (int64_t d = 0; d < kKey; ++d) s[d][m] += at(k, d) * value;
    }
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t m = 0; m < kValue; ++m) {
        double want = 0;
        for (int64_t d = 0; d < kKey; ++d) want += 0.5 * at(q, h * kKey + d) * s[d][m];
        EXPECT_NEAR((*have)[0].data<float>()[(t * 2 + h) * kValue + m], want, 1e-5);
      }
  }
  for (int64_t i = 0; i < kKey * kValue; ++i)
    EXPECT_NEAR((*have)[1].data<float>()[i], s[i / kValue][i % kValue], 1e-5);
}

TEST(LinearAttention, PiecesGiveTheBitsOfTheWhole) {
  Random random(2);
  const Tensor q = random.floats({1, kTokens, 4}), k = random.floats({1, kTokens, 4}),
               v = random.floats({1, kTokens, 4}), g = random.floats({1, kTokens, 2});
  const Attributes a = {
      {"q_num_heads", int64_t{2}}, {"kv_num_heads", int64_t{2}}, {"update_rule", "gated"}};
  const Tensors whole = *evaluate("LinearAttention", {q, k, v, Tensor(), g}, a, 2);
  const Tensors first =
      *evaluate("LinearAttention",
                {part(q, 0, 2), part(k, 0, 2), part(v, 0, 2), Tensor(), part(g, 0, 2)}, a, 2);
  const Tensors rest = *evaluate("LinearAttention",
                                 {part(q, 2, kTokens), part(k, 2, kTokens), part(v, 2, kTokens),
                                  first[1], part(g, 2, kTokens)},
                                 a, 2);
  EXPECT_TRUE(identical(rest[0], part(whole[0], 2, kTokens)));
  EXPECT_TRUE(identical(rest[1], whole[1]));
}

TEST(LinearAttention, RefusesWhatDoesNotFit) {
  const Tensor x = floats({1, 1, 2}, {1, 2}), g = floats({1, 1, 1}, {0});
  const auto refuses = [&](const Tensors& inputs, Attributes a, const char* part) {
    a.set("kv_num_heads", int64_t{1});
    expect_error(evaluate("LinearAttention", inputs, a, 2), StatusCode::bad_input, part);
  };
  refuses({x, x, x}, {{"q_num_heads", int64_t{0}}}, "0 and 1 heads");
  refuses({x, x, x}, {{"q_num_heads", int64_t{1}}}, "decay");
  refuses({x, x, x, Tensor(), g}, {{"q_num_heads", int64_t{1}}}, "beta");
  refuses({x, x, x, g}, {{"q_num_heads", int64_t{1}}}, "past_state");
  refuses({x, x, x}, {{"q_num_heads", int64_t{1}}, {"update_rule", "delta_gated"}}, "update_rule");
}

// Without a state the taps before the first element take no part: not even an infinite weight.
TEST(CausalConv, IsAConvolutionThatLooksBack) {
  const Tensor x = floats({1, 1, 3}, {1, 2, 4}), w = floats({1, 1, 3}, {testing::kInf, 10, 1});
  const Tensors y = *evaluate("CausalConvWithState", {x, w}, {}, 2);
  expect_output(y, floats({1, 1, 3}, {1, 12, testing::kInf}));
  expect_output(y, floats({1, 1, 2}, {2, 4}), 1);
  const Tensor finite = floats({1, 1, 3}, {100, 10, 1}), past = floats({1, 1, 2}, {5, 7});
  expect_output(evaluate("CausalConvWithState", {x, finite, floats({1}, {-571}), past}),
                floats({1, 1, 3}, {0, 141, -447}));
  // A short operand leaves part of the old state, or +0, in the new one.
  const Tensor one = floats({1, 1, 1}, {3});
  expect_output(evaluate("CausalConvWithState", {one, finite, Tensor(), past}, {}, 2),
                floats({1, 1, 2}, {7, 3}), 1);
  expect_output(evaluate("CausalConvWithState", {one, finite}, {}, 2), floats({1, 1, 2}, {0, 3}),
                1);
  expect_error(evaluate("CausalConvWithState", {x, finite, Tensor(), one}), StatusCode::bad_input,
               "past_state");
  expect_error(evaluate("CausalConvWithState", {x, finite}, {{"activation", "gelu"}}),
               StatusCode::bad_input, "activation");
}

Result<Tensors> count(const Tensor& x, Attributes a) {
  for (const auto& [name, value] : std::initializer_list<std::pair<const char*, Attribute>>{
           {"min_gram_length", int64_t{1}},
           {"max_gram_length", int64_t{2}},
           {"max_skip_count", int64_t{1}},
           {"mode", std::string("TF")},
           {"ngram_counts", std::vector<int64_t>{0, 2}},
           {"ngram_indexes", std::vector<int64_t>{0, 2, 1}},
           {"pool_int64s", std::vector<int64_t>{5, 6, 5, 6}}})
    if (!a.has(name)) a.set(name, value);
  return evaluate("TfIdfVectorizer", {x}, a);
}

TEST(TfIdfVectorizer, CountsSingleElementsOnceAndPairsAtEachDistance) {
  const Tensor x = integers({5}, {5, 6, 6, 5, 6});
  expect_output(count(x, {}), floats({3}, {2, 3, 3}));
  expect_output(count(x, {{"max_skip_count", INT64_MAX}}), floats({3}, {2, 4, 3}));
  expect_output(count(x, {{"mode", "IDF"}, {"weights", std::vector<float>{2, 3, 4}}}),
                floats({3}, {2, 3, 4}));
  expect_output(count(x, {{"mode", "TFIDF"}, {"weights", std::vector<float>{2, 3, 4}}}),
                floats({3}, {4, 9, 12}));
  expect_output(count(integers({2, 0}, {}), {}), floats({2, 3}, {0, 0, 0, 0, 0, 0}));
}

TEST(TfIdfVectorizer, RefusesPoolsThatDoNotFit) {
  const Tensor x = integers({2}, {5, 6});
  using Ints = std::vector<int64_t>;
  EXPECT_FALSE(count(x, {{"ngram_counts", Ints{0, 9}}}).ok());
  EXPECT_FALSE(count(x, {{"ngram_counts", Ints{-1, 2}}}).ok());
  EXPECT_FALSE(count(x, {{"ngram_indexes", Ints{0}}}).ok());
  EXPECT_FALSE(count(x, {{"ngram_indexes", Ints{0, -1, 2}}}).ok());
  EXPECT_FALSE(count(x, {{"ngram_indexes", Ints{0, INT64_MAX, 2}}}).ok());
  EXPECT_FALSE(count(x, {{"max_gram_length", INT64_MAX}}).ok());
  EXPECT_FALSE(count(x, {{"weights", std::vector<float>{1}}}).ok());
}

}  // namespace
}  // namespace verbatim
