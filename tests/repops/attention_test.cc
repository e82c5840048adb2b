#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <verbatim/repops/ops/attention.h>
#include <verbatim/repops/ops/int8_weights.h>
#include <verbatim/repops/unary.h>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

using test::node_of;

Tensor cast(const Tensor& t, DType to) {
  return (*evaluate_reference(node_of("Cast", "", {{"to", static_cast<int64_t>(to)}}), {&t, 1}))[0];
}

// The tensor cores' takes its operands as bfloat16.
Tensor run(Attributes a, std::vector<Tensor> inputs, const std::string& op = "Attention") {
  if (op == "AttentionTensorCore") {
    for (Tensor& t : inputs)
      if (t.dtype() == DType::f32) t = cast(t, DType::bf16);
    a.set("output", static_cast<int64_t>(DType::f32));
  }
  Result<Tensors> out = evaluate_reference(node_of(op, kVerbatimDomain, a), inputs);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? (*out)[0] : Tensor();
}

Tensor rows(const Tensor& t, int64_t begin, int64_t end) {
  const int64_t width = t.dim(2);
  return *Tensor::from<float>({1, end - begin, width},
                              t.data<float>().subspan(begin * width, (end - begin) * width));
}

void expect_same(std::span<const float> a, std::span<const float> b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_EQ(bits_of(a[i]), bits_of(b[i])) << i;
}

TEST(Attention, IsCloseToBinary64PastTheRestart) {
  test::Random random(1);
  const int64_t keys = 2300, d = 8;
  const Tensor q = random.floats({1, 2, 2 * d}), k = random.floats({1, keys, d}),
               v = random.floats({1, keys, d});
  const Tensor y =
      run({{"heads", int64_t{2}}, {"kv_heads", int64_t{1}}, {"scale", 1.5f}}, {q, k, v});
  for (int64_t r = 0; r < 4; ++r) {  // (query, head) pairs
    std::vector<double> p(keys), want(d);
    double sum = 0;
    for (int64_t i = 0; i < keys; ++i) {
      double s = 0;
      for (int64_t j = 0; j < d; ++j)
        s += static_cast<double>(q.data<float>()[r * d + j]) * k.data<float>()[i * d + j];
      sum += p[i] = std::exp(1.5 * s);
    }
    for (int64_t i = 0; i < keys; ++i)
      for (int64_t j = 0; j < d; ++j) want[j] += p[i] / sum * v.data<float>()[i * d + j];
    for (int64_t j = 0; j < d; ++j) EXPECT_NEAR(y.data<float>()[r * d + j], want[j], 2e-6);
  }
}

// Of one slice: any 2^t that is as near as this gives the codes of weights, and l's weights, of the
// contract, which has its own (docs/numerics.md, Int8 attention).
void expect_one_whole_number(double t, double near) {
  const double power = std::exp2(t), whole = std::nearbyint(power);
  ASSERT_EQ(std::nearbyint(power * (1 - near)), whole) << t;
  ASSERT_EQ(std::nearbyint(power * (1 + near)), whole) << t;
  ASSERT_EQ(round_even(exp2p(static_cast<float>(t))), whole) << t;
}
TEST(Int8Weights, AreWhatAnyNearPowerGives) {
  constexpr double kStep = 1.0 / 512;
  EXPECT_EQ(round_even(exp2p(kMostCodeExponent)), 127);
  EXPECT_EQ(total_shift(0, 1), most_total_exponent(1));
  for (double t = -2; t <= kMostCodeExponent; t += kStep)
    if (t != -1) expect_one_whole_number(t, 0x1p-19);  // halfway, and exact
  for (double t = -2 + kStep / 2; t <= most_total_exponent(1); t += kStep)
    expect_one_whole_number(t, 6.2e-7);
}
TEST(Int8Weights, OfTheGreatestKeyAreNearTheMost) {
  for (const int slices : {1, 2})
    for (float g = -100; g <= 122; g += 0.375f) {
      EXPECT_GT(total_shift(g, slices), most_total_exponent(slices) - 1);
      EXPECT_LE(total_shift(g, slices), most_total_exponent(slices));
    }
}

// What holds in every family.
class AnyAttention : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, AnyAttention,
                         ::testing::Values("Attention", "AttentionInt8", "AttentionTensorCore"),
                         [](const auto& info) { return info.param; });

// The contract's promise: prefill, chunked prefill and decode give the same bits.
TEST_P(AnyAttention, ChunksAndSingleStepsEqualOnePass) {
  test::Random random(2);
  const int64_t n = 300;
  const Attributes a = {{"heads", int64_t{2}}, {"scale", 0.5f}, {"causal", int64_t{1}}};
  const Tensor q = random.floats({1, n, 16}), k = random.floats({1, n, 16}),
               v = random.floats({1, n, 16});
  const Tensor whole = run(a, {q, k, v}, GetParam());
  for (int64_t step : {1, 7, 128, 200}) {
    for (int64_t begin = 0; begin < n; begin += step) {
      const int64_t end = std::min(begin + step, n);
      const Tensor part =
          run(a, {rows(q, begin, end), rows(k, 0, end), rows(v, 0, end)}, GetParam());
      expect_same(part.data<float>(), whole.data<float>().subspan(begin * 16, (end - begin) * 16));
      if (step == 1 && begin == 40) begin = 250;  // all of them would be slow
    }
  }
}

TEST_P(AnyAttention, PaddingAndNeighboursChangeNothing) {
  test::Random random(3);
  const Attributes a = {{"heads", int64_t{2}}, {"scale", 0.5f}};
  const Tensor q = random.floats({2, 40, 16}), k = random.floats({2, 40, 16}),
               v = random.floats({2, 40, 16});
  const Tensor batch = run(a, {q, k, v, test::ints({23, 40})}, GetParam());
  const Tensor alone = run(a, {rows(q, 0, 23), rows(k, 0, 23), rows(v, 0, 23)}, GetParam());
  expect_same(alone.data<float>(), batch.data<float>().first(23 * 16));
  const auto second = [](const Tensor& t) {
    return *Tensor::from<float>({1, 40, 16}, t.data<float>().subspan(40 * 16, 40 * 16));
  };
  const Tensor other = run(a, {second(q), second(k), second(v)}, GetParam());
  expect_same(other.data<float>(), batch.data<float>().subspan(40 * 16));
}

Tensor linear(const Tensor& a, const Tensor& b) {
  const Tensor in[] = {a, b};
  return (*evaluate_reference(node_of("TensorCoreLinear", kVerbatimDomain), in))[0];
}

// Until a greatest x is more than 8 above the first block's it is two products of the tensor cores,
// with weights rounded between them, and l is the second one's column of ones.
TEST(TensorCoreAttention, IsTwoProductsAsLongAsScoresRiseLittle) {
  test::Random random(8);
  for (const DType type : {DType::bf16, DType::f16}) {
    for (const int64_t keys : {1, 16, 57, 128, 129, 400}) {
      const Tensor q = cast(random.floats({1, 3, 40}), type);
      Tensor rising = random.floats({1, keys, 40}), values = random.floats({1, keys, 25});
      for (int64_t i = 0; i < keys; ++i) {
        for (float& x : rising.mutable_data<float>().subspan(static_cast<size_t>(i * 40), 40))
          x *= 0.5f + static_cast<float>(i) / 400;
        values.mutable_data<float>()[i * 25 + 24] = 1;
      }
      const Tensor k = cast(rising, type), v = cast(values, type);
      const Tensor y =
          run({{"heads", int64_t{1}}, {"scale", 0.5f}}, {q, k, v}, "AttentionTensorCore");
      Tensor p = linear(q, *k.reshaped(Shape{keys, 40}));
      const float c = 0.5f * float_of(kLog2E);
      for (int64_t r = 0; r < 3; ++r) {
        const auto row = p.mutable_data<float>().subspan(static_cast<size_t>(r * keys),
                                                         static_cast<size_t>(keys));
        const auto first = row.first(static_cast<size_t>(std::min(keys, kKeyBlock)));
        const float m = grid_score(*std::ranges::max_element(first), c);
        for (float& x : row) x = exp2p(grid_exponent(x, c, m));
        EXPECT_EQ(*std::ranges::max_element(first), 1);
      }
      if (keys == 400) {
        EXPECT_GT(*std::ranges::max_element(p.data<float>()), 1);
      }
      const Tensor columns =
          (*evaluate_reference(node_of("Transpose", "", {{"perm", std::vector<int64_t>{1, 0}}}),
                               std::vector<Tensor>{*v.reshaped(Shape{keys, 25})}))[0];
      const Tensor o = linear(cast(p, type), columns);
      for (int64_t i = 0; i < 3 * 25; ++i) {
        const float share = 1 / o.data<float>()[i / 25 * 25 + 24];
        ASSERT_EQ(bits_of(y.data<float>()[i]), bits_of(o.data<float>()[i] * share))
            << keys << " keys, " << i;
      }
    }
  }
}

// What the first of two blocks of equal scores weighs, the second one's being `rise` above it.
float share_of_first_block(float rise) {
  std::vector<float> k(2 * kKeyBlock, 1.0f), v(2 * kKeyBlock, 0.0f);
  std::fill_n(v.begin(), kKeyBlock, 1.0f);
  std::fill(k.begin() + kKeyBlock, k.end(), 1.0f + rise);
  const Shape keys{1, 2 * kKeyBlock, 1};
  return run({{"heads", int64_t{1}}, {"scale", 0.6931472f}},
             {*Tensor::from<float>(Shape{1, 1, 1}, std::vector<float>{1.0f}),
              *Tensor::from<float>(keys, k), *Tensor::from<float>(keys, v)},
             "AttentionTensorCore")
      .data<float>()[0];
}

// By as much as 8 a weight above 1 is rounded to bfloat16; by more, alpha is not rounded to it.
TEST(TensorCoreAttention, MRisesByMoreThanEight) {
  for (const float rise : {-3.25f, 0.25f, 7.25f, 8.0f}) {
    const auto weight = store<BFloat16>(std::exp2(rise));
    EXPECT_EQ(share_of_first_block(rise), kKeyBlock * (1 / (kKeyBlock * (1 + load(weight)))));
  }
  for (const float rise : {8.125f, 9.25f, 20.25f}) {
    const float alpha = std::exp2(-rise);
    EXPECT_NEAR(share_of_first_block(rise) / alpha, 1 / (1 + alpha), 1e-6);
  }
}

// What m is next, and exponents of scores of any size: no more than 8 even where they are too
// great for the grid, and NaN where infinities meet.
TEST(TensorCoreAttention, ExponentsOfAnyScores) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(grid_score(1.001953125f, 1), 1.001953125f);
  EXPECT_EQ(grid_score(1.0009765625f, 1), 1);  // half way between two places of the grid
  EXPECT_EQ(grid_score(-1.0029296875f, 1), -1.00390625f);
  EXPECT_EQ(grid_maximum(-kInfinity, -1e30f), -1e30f);
  EXPECT_EQ(grid_maximum(-kInfinity, -kInfinity), -kInfinity);
  EXPECT_EQ(grid_maximum(kInfinity, 1), kInfinity);
  EXPECT_EQ(grid_maximum(-5, 3), -5);
  EXPECT_EQ(grid_maximum(-5, 3.001953125f), 3.001953125f);
  EXPECT_TRUE(is_nan(grid_maximum(1, NAN)));
  EXPECT_EQ(grid_exponent(0x1.000002p27f, 1, 0x1p27f), 8);  // 16 above m
  EXPECT_EQ(grid_exponent(0x1p100f, 1e30f, -kInfinity), 8);
  EXPECT_EQ(grid_exponent(-kInfinity, 1, 5), -kInfinity);
  EXPECT_TRUE(is_nan(grid_exponent(kInfinity, 1, kInfinity)));
  EXPECT_TRUE(is_nan(grid_exponent(-kInfinity, 1, -kInfinity)));
  // However far from zero it is, the score that m was raised to weighs 1, and l is no less.
  for (float s = 0x1p-100f; s < kInfinity; s *= 2)
    for (const float c : {0.1f, -0.1f, 1.7f, 1e30f, -1e30f}) {
      const float x = grid_score(s * 1.2345678f, c);
      if (std::abs(x) < kInfinity) {
        EXPECT_EQ(grid_exponent(s * 1.2345678f, c, x), 0) << s << " " << c;
      }
    }
}

// The distance of 2^t from where its rounding to a format changes, relative to it; `nearest` is
// 2^t correctly rounded. Subnormal numbers have the spacing of the exponent `least`.
double distance_to_boundary(double t, int fraction, int least, double& nearest) {
  const double power = std::exp2(t),
               spacing = std::exp2(std::max(std::floor(t), static_cast<double>(least)) - fraction);
  nearest = std::rint(power / spacing) * spacing;
  return std::abs(power - (std::floor(power / spacing) + 0.5) * spacing) / power;
}

// So weights are correctly rounded, whatever computes 2^t with an error of less than 2^-21.2.
TEST(TensorCoreAttention, WeightsOnTheGridAreCorrectlyRounded) {
  double least_half = 1, least_bfloat16 = 1, nearest = 0;
  for (int i = -127 * 512; i <= 8 * 512; ++i) {
    const float t = static_cast<float>(i) / 512;
    const bool whole = i % 512 == 0;
    const double to_half = distance_to_boundary(t, 10, -14, nearest);
    if (!whole) least_half = std::min(least_half, to_half);
    ASSERT_EQ(load(store<Half>(exp2p(t))), nearest) << t;
    const double to_bfloat16 = distance_to_boundary(t, 7, -126, nearest);
    if (!whole) least_bfloat16 = std::min(least_bfloat16, to_bfloat16);
    ASSERT_EQ(load(store<BFloat16>(exp2p(t))), t < -126 ? 0 : nearest) << t;
  }
  EXPECT_GT(least_half, std::exp2(-21.2));
  EXPECT_LT(least_half, std::exp2(-21.1));
  EXPECT_GT(least_bfloat16, std::exp2(-18.2));
  EXPECT_LT(least_bfloat16, std::exp2(-18.1));
}

// Many blocks and a restart: as close to ordered attention of the same operands as the weights'
// rounding lets it be.
TEST(TensorCoreAttention, IsCloseToOrderedAttentionPastTheRestart) {
  test::Random random(9);
  const Tensor q = cast(random.floats({1, 3, 32}), DType::bf16),
               k = cast(random.floats({1, 2300, 16}), DType::bf16),
               v = cast(random.floats({1, 2300, 16}), DType::bf16);
  const Attributes a = {
      {"heads", int64_t{2}}, {"kv_heads", int64_t{1}}, {"scale", 3.0f}, {"causal", int64_t{1}}};
  const Tensor have = run(a, {q, k, v}, "AttentionTensorCore"),
               want = run(a, {cast(q, DType::f32), cast(k, DType::f32), cast(v, DType::f32)});
  double difference = 0, size = 0;
  for (int64_t i = 0; i < want.elements(); ++i) {
    difference += std::abs(double{have.data<float>()[i]} - want.data<float>()[i]);
    size += std::abs(want.data<float>()[i]);
  }
  EXPECT_LT(difference / size, 0.005);
  EXPECT_GT(difference, 0);
}

// What a key that is not seen holds, NaN too, is never multiplied.
TEST(TensorCoreAttention, HiddenKeysTakeNoPart) {
  test::Random random(10);
  const Attributes a = {{"heads", int64_t{1}}, {"scale", 1.0f}};
  Tensor q = random.floats({1, 2, 16}), k = random.floats({1, 20, 16}),
         v = random.floats({1, 20, 16});
  const Tensor before = run(a, {q, k, v, test::ints({13})}, "AttentionTensorCore");
  for (int64_t i = 13 * 16; i < 20 * 16; ++i)
    k.mutable_data<float>()[i] = v.mutable_data<float>()[i] = NAN;
  expect_same(run(a, {q, k, v, test::ints({13})}, "AttentionTensorCore").data<float>(),
              before.data<float>());
}

TEST(Attention, AnEndlessWindowHidesNothing) {
  AttentionSettings s;
  s.window = INT64_MAX;
  EXPECT_EQ(visible_keys(s, 0, 6, 1), (std::pair<int64_t, int64_t>{0, 1}));
  s.window = 3;
  EXPECT_EQ(visible_keys(s, 5, 6, 6), (std::pair<int64_t, int64_t>{3, 6}));
}

TEST(Attention, AWindowHidesOlderKeys) {
  test::Random random(4);
  const Tensor q = random.floats({1, 1, 8}), k = random.floats({1, 300, 8}),
               v = random.floats({1, 300, 8});
  const Tensor windowed =
      run({{"heads", int64_t{1}}, {"scale", 1.0f}, {"causal", int64_t{1}}, {"window", int64_t{5}}},
          {q, k, v});
  double sum = 0, want = 0;
  for (int64_t i = 295; i < 300; ++i) {
    double s = 0;
    for (int64_t j = 0; j < 8; ++j)
      s += static_cast<double>(q.data<float>()[j]) * k.data<float>()[i * 8 + j];
    sum += std::exp(s);
    want += std::exp(s) * v.data<float>()[i * 8];
  }
  EXPECT_NEAR(windowed.data<float>()[0], want / sum, 1e-6);
}

TEST_P(AnyAttention, ARowThatSeesNothingIsPlusZero) {
  test::Random random(5);
  const Tensor y = run({{"heads", int64_t{1}}, {"scale", 1.0f}},
                       {random.floats({1, 2, 8}), random.floats({1, 3, 8}),
                        random.floats({1, 3, 8}), test::ints({0})},
                       GetParam());
  for (float v : y.data<float>()) EXPECT_EQ(bits_of(v), 0u);
}

TEST(Attention, MergeHasAnEmptyStateAsItsIdentity) {
  const AttentionState a{false, 1.0f, 2.0f, {3.0f, 4.0f}};
  EXPECT_EQ(merge({}, a, exp2_f32).o, a.o);
  EXPECT_EQ(merge(a, {}, exp2_f32).l, a.l);
}

TEST(Attention, RefusesShapesThatDoNotFit) {
  test::Random random(6);
  const Attributes a = {{"heads", int64_t{2}}, {"scale", 0.5f}};
  const std::vector<std::vector<Tensor>> bad = {
      {random.floats({1, 2, 15}), random.floats({1, 3, 16}), random.floats({1, 3, 16})},
      {random.floats({1, 2, 16}), random.floats({1, 3, 16}), random.floats({1, 4, 16})},
      {random.floats({1, 2, 16}), random.floats({2, 3, 16}), random.floats({1, 3, 16})},
      {random.floats({1, 2, 16}), random.floats({1, 3, 16}), random.floats({1, 3, 16}),
       test::ints({4})}};
  for (const auto& inputs : bad)
    EXPECT_EQ(evaluate_reference(node_of("Attention", kVerbatimDomain, a), inputs).status().code(),
              StatusCode::bad_input);
}

// Two sequences that share a pool, and the pages of what they have in common.
struct Pool {
  test::Random random{11};
  Tensor q = random.floats({2, 3, 16}), k = random.floats({6, 16, 8}),
         v = random.floats({6, 16, 8});
  Attributes a = {
      {"heads", int64_t{2}}, {"kv_heads", int64_t{1}}, {"scale", 0.5f}, {"causal", int64_t{1}}};

  static Tensor table(std::vector<int64_t> pages) {
    return *Tensor::from<int64_t>(Shape{2, static_cast<int64_t>(pages.size()) / 2}, pages);
  }
  std::vector<Tensor> operands(const Tensor& lengths, const Tensor& pages) const {
    return {q, k, v, lengths, pages};
  }
  Result<Tensors> of(const Tensor& lengths, const Tensor& pages) const {
    return evaluate_reference(node_of("Attention", kVerbatimDomain, a), operands(lengths, pages));
  }
  // Pages one after the other, as a sequence alone has them.
  Tensor alone(const Tensor& pool, const std::vector<int64_t>& pages) const {
    std::vector<float> rows;
    for (const int64_t page : pages) {
      const auto of_page = pool.data<float>().subspan(static_cast<size_t>(page * 16 * 8), 16 * 8);
      rows.insert(rows.end(), of_page.begin(), of_page.end());
    }
    return *Tensor::from<float>(Shape{1, static_cast<int64_t>(pages.size()) * 16, 8}, rows);
  }
};

TEST(PagedAttention, SequencesShareAPool) {
  const Pool p;
  const std::vector<int64_t> first = {5, 2, 0}, second = {5, 2, 3};
  const Tensor lengths = test::ints({48, 37}), table = Pool::table({5, 2, 0, 5, 2, 3});
  for (const char* op : {"Attention", "AttentionTensorCore"}) {
    const Tensor both = run(p.a, p.operands(lengths, table), op);
    for (int64_t b = 0; b < 2; ++b) {
      const std::vector<int64_t>& pages = b == 0 ? first : second;
      const Tensor q = *Tensor::from<float>(
          Shape{1, 3, 16}, p.q.data<float>().subspan(static_cast<size_t>(b * 48), 48));
      expect_same(run(p.a,
                      {q, p.alone(p.k, pages), p.alone(p.v, pages),
                       test::ints({lengths.data<int64_t>()[b]})},
                      op)
                      .data<float>(),
                  both.data<float>().subspan(static_cast<size_t>(b * 48), 48));
    }
  }
}

TEST(PagedAttention, RefusesPagesThatAreNotThere) {
  const Pool p;
  const auto refused = [&](const Tensor& lengths, const Tensor& table, const char* part) {
    const Status status = p.of(lengths, table).status();
    EXPECT_EQ(status.code(), StatusCode::bad_input);
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  };
  refused({}, Pool::table({0, 1, 2, 6}), "page 1 of sequence 1 is 6 of k");
  refused({}, Pool::table({0, -1, 2, 3}), "page 1 of sequence 0 is -1 of k");
  refused({}, Pool::table({INT64_MAX, 1, 2, 3}), "page 0 of sequence 0");
  refused(test::ints({32, 17}), Pool::table({0, 1, 2, 6}), "page 1 of sequence 1");
  refused(test::ints({33, 0}), Pool::table({0, 1, 2, 3}), "length 33");
  refused({}, test::ints({0, 1}), "table of pages");
  refused({}, *Pool::table({0, 1, 2, 3}).reshaped(Shape{4, 1}), "table of pages");
  refused({}, cast(Pool::table({0, 1, 2, 3}), DType::i32), "table of pages");
  // Of no sequence's keys: any number.
  EXPECT_TRUE(p.of(test::ints({32, 16}), Pool::table({0, 1, 2, -7})).ok());
  EXPECT_TRUE(p.of(test::ints({0, 0}), Pool::table({9, 9, 9, 9})).ok());
}

TEST(PagedAttention, ChecksTheCodesThatSequencesHave) {
  Pool p;
  const Attributes heads = {{"heads", int64_t{1}}};
  const auto quantized = [&](const char* op, const Tensor& x) {
    return *evaluate_reference(node_of(op, kVerbatimDomain, heads, 2), {&x, 1});
  };
  Tensors k = quantized("QuantizeKeys", p.k), v = quantized("QuantizeValues", p.v);
  const auto status = [&](int64_t second) {
    const Tensor inputs[] = {
        p.q, k[0], v[0], k[1], v[1], test::ints({32, second}), Pool::table({0, 1, 2, 3})};
    return evaluate_reference(node_of("AttentionInt8Cached", kVerbatimDomain, p.a), inputs)
        .status()
        .code();
  };
  EXPECT_EQ(status(32), StatusCode::ok);
  k[0].mutable_data<int8_t>()[(3 * 16 + 5) * 8] = -128;
  EXPECT_EQ(status(21), StatusCode::ok);
  EXPECT_EQ(status(22), StatusCode::bad_input);
  k[0].mutable_data<int8_t>()[(3 * 16 + 5) * 8] = 0;
  v[1].mutable_data<int32_t>()[3 * 16 + 7] = 123;
  EXPECT_EQ(status(23), StatusCode::ok);
  EXPECT_EQ(status(24), StatusCode::bad_input);
}

TEST(RotaryEmbedding, TurnsPairsAndKeepsTheRest) {
  test::Random random(7);
  const Tensor x = random.floats({1, 2, 12});
  const float cosine[] = {0.6f, 1.0f}, sine[] = {0.8f, 0.0f};
  const Tensor inputs[] = {x, *Tensor::from<float>({2, 1}, cosine),
                           *Tensor::from<float>({2, 1}, sine)};
  const Tensor y = (*evaluate_reference(
      node_of("RotaryEmbedding", kVerbatimDomain, {{"heads", int64_t{2}}}), inputs))[0];
  const auto in = x.data<float>(), out = y.data<float>();
  EXPECT_EQ(bits_of(out[0]), bits_of(in[0] * 0.6f - in[1] * 0.8f));
  EXPECT_EQ(bits_of(out[1]), bits_of(in[0] * 0.8f + in[1] * 0.6f));
  for (int i = 2; i < 6; ++i) EXPECT_EQ(bits_of(out[i]), bits_of(in[i]));
  EXPECT_EQ(out[12], in[12] * 1.0f - in[13] * 0.0f);
}

}  // namespace
}  // namespace verbatim
