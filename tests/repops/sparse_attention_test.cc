// Attention that leaves out blocks of keys or takes their means.
#include <verbatim/repops/ops/sparse_attention.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <verbatim/repops/unary.h>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

using test::node_of;

Result<Tensors> evaluate(const char* op, std::vector<Tensor> inputs, const Attributes& a) {
  return evaluate_reference(node_of(op, kVerbatimDomain, a), inputs);
}
Tensor run(const char* op, std::vector<Tensor> inputs, const Attributes& a) {
  Result<Tensors> out = evaluate(op, std::move(inputs), a);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? (*out)[0] : Tensor();
}

Tensor levels_of(const Shape& shape, uint8_t level) {
  Tensor t = *Tensor::zeros(DType::u8, shape);
  std::ranges::fill(t.mutable_data<uint8_t>(), level);
  return t;
}

// Keys, values and queries of some heads; levels of all blocks alike.
struct Example {
  int64_t queries, keys, heads, kv_heads, block;
  test::Random random{7};
  Tensor q = random.floats({2, queries, heads * 8}), k = random.floats({2, keys, kv_heads * 8}),
         v = random.floats({2, keys, kv_heads * 5});
  Attributes attributes() const {
    return {{"heads", heads}, {"kv_heads", kv_heads}, {"scale", 0.6f}, {"query_block", block}};
  }
  Shape levels() const {
    return {2, heads, (queries + block - 1) / block, (keys + kKeyBlock - 1) / kKeyBlock};
  }
};

bool same(const Tensor& a, const Tensor& b) { return std::ranges::equal(a.bytes(), b.bytes()); }

TEST(SparseAttention, WithAllBlocksWholeIsAttention) {
  for (const int64_t keys : {1, 127, 128, 300, 2300})
    for (const bool causal : {false, true}) {
      const Example e{std::min<int64_t>(keys, 40), keys, 4, 2, 16};
      Attributes a = e.attributes();
      a.set("causal", int64_t{causal});
      a.set("window", int64_t{causal ? 200 : 0});
      const Tensor lengths = test::ints({keys, keys / 2});
      EXPECT_TRUE(
          same(run("AttentionSparse", {e.q, e.k, e.v, levels_of(e.levels(), 1), lengths}, a),
               run("Attention", {e.q, e.k, e.v, lengths}, a)))
          << keys << " keys";
    }
}

// Leaving out the blocks before a window's is the window; a row without a block is +0.
TEST(SparseAttention, ABlockThatIsLeftOutTakesNoPart) {
  const Example e{1, 640, 2, 2, 1};
  Tensor levels = levels_of(e.levels(), 1);
  for (int64_t head = 0; head < 4; ++head)
    for (int64_t block = 0; block < 3; ++block)
      levels.mutable_data<uint8_t>()[head * 5 + block] = 0;
  Attributes a = e.attributes();
  a.set("causal", int64_t{1});
  Attributes window = a;
  window.set("window", int64_t{256});
  EXPECT_TRUE(same(run("AttentionSparse", {e.q, e.k, e.v, levels}, a),
                   run("Attention", {e.q, e.k, e.v}, window)));
  const Tensor nothing = run("AttentionSparse", {e.q, e.k, e.v, levels_of(e.levels(), 0)}, a);
  EXPECT_TRUE(std::ranges::all_of(nothing.data<float>(), [](float x) { return bits_of(x) == 0; }));
}

// One query, in binary64: a mean of 2^p keys counts for 2^p of them.
std::vector<double> by_means(const Example& e, std::span<const uint8_t> levels, int64_t visible) {
  const int64_t d = 8, width = 5;
  std::vector<double> y(static_cast<size_t>(width));
  double sum = 0;
  for (int64_t block = 0; block * kKeyBlock < visible; ++block) {
    const int64_t begin = block * kKeyBlock, end = std::min(begin + kKeyBlock, visible);
    const int level = levels[static_cast<size_t>(block)];
    if (level == 0) continue;
    const int64_t size = end - begin < kKeyBlock ? 1 : int64_t{1} << (level - 1);
    for (int64_t i = begin; i < end; i += size) {
      double s = 0;
      std::vector<double> value(static_cast<size_t>(width));
      for (int64_t r = i; r < i + size; ++r) {
        for (int64_t j = 0; j < d; ++j)
          s += double{e.q.data<float>()[j]} * e.k.data<float>()[r * d + j] / double(size);
        for (int64_t j = 0; j < width; ++j)
          value[static_cast<size_t>(j)] += double{e.v.data<float>()[r * width + j]} / double(size);
      }
      const double p = std::exp(double{0.6f} * s) * double(size);
      sum += p;
      for (size_t j = 0; j < value.size(); ++j) y[j] += p * value[j];
    }
  }
  for (double& x : y) x /= sum;
  return y;
}

TEST(SparseAttention, MeansCountForTheirKeys) {
  const Example e{1, 2500, 1, 1, 1};
  Tensor levels = levels_of(e.levels(), 1);
  for (int64_t i = 0; i < 20; ++i) levels.mutable_data<uint8_t>()[i] = i % 5;
  for (const int64_t length : {int64_t{2500}, int64_t{2432}, int64_t{300}}) {
    const Tensor y =
        run("AttentionSparse", {e.q, e.k, e.v, levels, test::ints({length, 0})}, e.attributes());
    const std::vector<double> want = by_means(e, levels.data<uint8_t>(), length);
    for (size_t j = 0; j < want.size(); ++j)
      EXPECT_NEAR(y.data<float>()[j], want[j], 3e-6) << length << " keys";
  }
}

// A block that is not seen whole is not pooled: a later key never changes a row.
TEST(SparseAttention, LaterKeysChangeNoEarlierRow) {
  const Example e{300, 300, 2, 1, 64};
  const Tensor levels = levels_of(e.levels(), 3);
  Attributes a = e.attributes();
  a.set("causal", int64_t{1});
  const Tensor y = run("AttentionSparse", {e.q, e.k, e.v, levels}, a);
  for (const int64_t row : {0, 100, 127, 128, 200, 290}) {
    Tensor k = *Tensor::from<float>(e.k.shape(), e.k.data<float>()),
           v = *Tensor::from<float>(e.v.shape(), e.v.data<float>());
    for (int64_t i = (row + 1) * 8; i < 300 * 8; ++i) k.mutable_data<float>()[i] = NAN;
    for (int64_t i = (row + 1) * 5; i < 300 * 5; ++i) v.mutable_data<float>()[i] = NAN;
    const Tensor changed = run("AttentionSparse", {e.q, k, v, levels}, a);
    const auto first = [&](const Tensor& t) {
      return t.data<float>().first(static_cast<size_t>((row + 1) * 10));
    };
    EXPECT_TRUE(std::ranges::equal(first(y), first(changed))) << row;
  }
}

TEST(SparseAttention, RefusesWrongLevels) {
  const Example e{4, 200, 2, 2, 2};
  const auto status = [&](const Tensor& levels, const Attributes& a) {
    return evaluate("AttentionSparse", {e.q, e.k, e.v, levels}, a).status();
  };
  EXPECT_EQ(status(levels_of(e.levels(), 5), e.attributes()).code(), StatusCode::bad_input);
  EXPECT_EQ(status(levels_of({2, 2, 2, 3}, 1), e.attributes()).code(), StatusCode::bad_input);
  EXPECT_EQ(status(test::ints({1}), e.attributes()).code(), StatusCode::bad_input);
  Attributes none = e.attributes();
  none.set("query_block", int64_t{0});
  EXPECT_EQ(status(levels_of(e.levels(), 1), none).code(), StatusCode::bad_input);
}

// --- levels
// ------------------------------------------------------------------------------------

std::vector<uint8_t> chosen(std::vector<uint64_t> weights, std::vector<float> shares) {
  std::vector<uint8_t> levels(weights.size(), 9);
  choose_levels(weights, shares, levels);
  return levels;
}

TEST(ChooseLevels, TakesTheLeastPrefixOfEachShare) {
  using V = std::vector<uint8_t>;
  EXPECT_EQ(chosen({10, 50, 30, 10}, {0.5f, 0.75f}), (V{0, 1, 2, 0}));
  EXPECT_EQ(chosen({10, 50, 30, 10}, {0.5f, 0.81f}), (V{2, 1, 2, 0}));  // ties to the lower index
  EXPECT_EQ(chosen({10, 50, 30, 10}, {0, 0.1f, 0.1f, 1}), (V{4, 2, 4, 4}));
  EXPECT_EQ(chosen({0, 0}, {0.5f, 1}), (V{2, 2}));  // a share of 1 takes all
  EXPECT_EQ(chosen({0, 0}, {0.5f}), (V{0, 0}));
  EXPECT_EQ(chosen({}, {0.5f}), V{});
  const uint64_t most = uint64_t{1} << 62;
  EXPECT_EQ(chosen({most, most, most - 1}, {0.5f}), (V{1, 1, 0}));
}

TEST(AttentionLevels, RanksWholeBlocksAndKeepsPartlySeenOnes) {
  Example e{2, 700, 1, 1, 2};
  // Block 3 is what the queries look for.
  for (int64_t i = 3 * 128 * 8; i < 4 * 128 * 8; ++i)
    e.k.mutable_data<float>()[i] = 9 * e.q.data<float>()[i % 8];
  std::ranges::copy(e.q.data<float>().first(8), e.q.mutable_data<float>().begin() + 8);
  Attributes a = e.attributes();
  a.set("shares", std::vector<float>{0.5f});
  const Tensor levels = run("AttentionLevels", {e.q, e.k}, a);
  EXPECT_EQ(levels.describe(), "uint8 [2, 1, 1, 6]");
  const auto first = levels.data<uint8_t>().first(6);
  const uint8_t want[] = {0, 0, 0, 1, 0, 1};
  EXPECT_TRUE(std::ranges::equal(first, want));
  // All that is seen, in level 1.
  a.set("shares", std::vector<float>{1.0f});
  a.set("causal", int64_t{1});
  const Tensor all = run("AttentionLevels", {e.q, e.k, test::ints({300, 700})}, a);
  const uint8_t seen[] = {1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1};
  EXPECT_TRUE(std::ranges::equal(all.data<uint8_t>(), seen));
  for (const std::vector<float>& shares :
       {std::vector<float>{}, {0.5f, 0.4f}, {-1.0f}, {2.0f}, {0, 0, 0, 0, 0}, {NAN}, {0, NAN, 1}}) {
    a.set("shares", shares);
    EXPECT_EQ(evaluate("AttentionLevels", {e.q, e.k}, a).status().code(), StatusCode::bad_input);
  }
}

}  // namespace
}  // namespace verbatim
