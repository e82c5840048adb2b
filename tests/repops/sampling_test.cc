#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include <verbatim/repops/ops/sampling.h>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

TEST(Sample, GreedyTakesTheLowestIndexOnTiesAndNanLast) {
  const std::vector<float> tie = {1.0f, 3.0f, 3.0f}, nan = {NAN, -1.0f, NAN};
  EXPECT_EQ(sample_token(tie, 0, {}), 1);
  EXPECT_EQ(sample_token(nan, 0, {}), 1);
}

TEST(Sample, FrequenciesFollowTheSoftmax) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, -1.0f};
  SamplingSettings s;
  s.temperature = 1.0f;
  s.seed = 42;
  std::vector<int> counts(4);
  const int n = 40000;
  for (int i = 0; i < n; ++i)
    ++counts[static_cast<size_t>(sample_token(logits, static_cast<uint64_t>(i), s))];
  double total = 0;
  for (float x : logits) total += std::exp(x);
  for (size_t i = 0; i < 4; ++i) {
    const double p = std::exp(logits[i]) / total;
    EXPECT_NEAR(counts[i], n * p, 5 * std::sqrt(n * p * (1 - p)));
  }
}

TEST(Sample, FiltersKeepWhatTheySay) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, 1.9f, -8.0f};
  const auto drawn = [&](const SamplingSettings& s) {
    std::vector<bool> seen(5);
    for (uint64_t i = 0; i < 3000; ++i)
      seen[static_cast<size_t>(sample_token(logits, i, s))] = true;
    return seen;
  };
  SamplingSettings s;
  s.temperature = 1.0f;
  s.top_k = 2;
  EXPECT_EQ(drawn(s), (std::vector<bool>{false, false, true, true, false}));
  s.top_k = 0;
  s.top_p = 0.5f;  // the greatest has share 0.43: two tokens make up the half
  EXPECT_EQ(drawn(s), (std::vector<bool>{false, false, true, true, false}));
  s.top_p = 1.0f;
  s.min_p = 0.2f;
  EXPECT_EQ(drawn(s), (std::vector<bool>{false, true, true, true, false}));
}

TEST(Sample, WithoutAFiniteDistributionItIsTheArgmax) {
  SamplingSettings s;
  s.temperature = 1.0f;
  const std::vector<float> infinite = {0.0f, INFINITY, 1.0f}, nothing = {-INFINITY, -INFINITY};
  EXPECT_EQ(sample_token(infinite, 3, s), 1);
  EXPECT_EQ(sample_token(nothing, 3, s), 0);
}

TEST(Sample, DependsOnPositionAndSeedOnly) {
  test::Random random(9);
  const Tensor logits = random.floats({1, 500});
  SamplingSettings s;
  s.temperature = 2.0f;
  s.seed = 7;
  const int64_t first = sample_token(logits.data<float>(), 11, s);
  EXPECT_EQ(sample_token(logits.data<float>(), 11, s), first);
  int different = 0;
  for (uint64_t p = 0; p < 50; ++p) different += sample_token(logits.data<float>(), p, s) != first;
  EXPECT_GT(different, 40);
}

}  // namespace
}  // namespace verbatim
