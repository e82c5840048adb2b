// Sample on a GPU against the reference, which alone has it elsewhere.
#include <limits>

#include "kernels/compare.h"

namespace verbatim::test {
namespace {

class SamplingTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, SamplingTest, ::testing::Values("cuda"),
                         [](const auto& info) { return info.param; });

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Few different logits give ties, wide ones a few that weigh anything; infinities and NaN.
Tensor some_logits(Random& r, int64_t n) {
  Tensor logits = floats(r, r.chance(50) ? Shape{n} : Shape{1, 2, n}, any_fill(r));
  const int64_t levels = r.pick({0, 0, 1, 3, 20});
  if (levels > 0)
    for (float& v : logits.mutable_data<float>())
      v = static_cast<float>(r.between(-levels, levels)) * 0.5f;
  for (int64_t i = r.pick({0, 0, 1, 5}); i > 0; --i) {
    float& v = logits.mutable_data<float>()[static_cast<size_t>(r.below(logits.elements()))];
    v = r.pick({std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                kNan, 0.0f, -0.0f});
  }
  return logits;
}

Case some_choice(Random& r, int64_t n) {
  const int64_t position[] = {r.between(0, 1 << 30)};
  Attributes a = {{"temperature", r.pick({0.0f, 0.3f, 1.0f, 5.0f, 1e30f,
                                          std::numeric_limits<float>::infinity(), kNan, -1.0f})},
                  {"seed", r.between(-5, 1 << 30)}};
  if (r.chance(60))
    a.set("top_k", r.pick({int64_t{-1}, int64_t{1}, int64_t{2}, r.between(0, n), n, n + 7}));
  if (r.chance(60))
    a.set("top_p", r.pick({0.0f, -1.0f, kNan, 1e-20f, 0.1f, 0.5f, 0.9f, 0.999999f, 1.0f}));
  if (r.chance(40)) a.set("min_p", r.pick({0.0f, kNan, 1e-6f, 0.05f, 0.5f, 1.0f, 3.0f}));
  return {node_of("verbatim", "Sample", a),
          {some_logits(r, n), *Tensor::from<int64_t>(Shape{1}, position)},
          {}};
}

TEST_P(SamplingTest, FewTokens) {
  expect_reference(*backend_, 1000, [](Random& r) { return some_choice(r, r.between(1, 40)); });
}

TEST_P(SamplingTest, SeveralChunks) {
  expect_reference(*backend_, 200, [](Random& r) { return some_choice(r, r.between(900, 5000)); });
}

TEST_P(SamplingTest, ALargeVocabulary) {
  expect_reference(*backend_, 16, [](Random& r) { return some_choice(r, 200'000 + r.below(9)); });
}

TEST_P(SamplingTest, BothZerosAreTheGreatest) {
  const int64_t position[] = {7};
  for (const std::vector<float>& logits : {std::vector{-1.0f, -0.0f, 0.0f}, {0.0f, -0.0f}})
    expect_reference(*backend_,
                     {node_of("verbatim", "Sample"),
                      {*Tensor::from<float>(Shape{static_cast<int64_t>(logits.size())}, logits),
                       *Tensor::from<int64_t>(Shape{1}, position)},
                      {}});
}

// Notes whether memory for weights was asked for, which the host does without.
class Guard final : public AllocationGuard {
 public:
  Result<std::shared_ptr<const void>> admit(const Tensor& t, Purpose purpose) override {
    weights = weights || (purpose == Purpose::scratch && t.dtype() == DType::u64);
    return std::shared_ptr<const void>();
  }
  bool weights = false;
};

TEST_P(SamplingTest, TheDeviceChooses) {
  Random r(1);
  const Case c = some_choice(r, 100);
  Guard guard;
  ASSERT_TRUE(backend_->run(c.node, c.inputs).ok());
  EXPECT_TRUE(guard.weights);
}

}  // namespace
}  // namespace verbatim::test
