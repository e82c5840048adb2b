// Limits come first and belong to whoever computes: what a task, a provider or a transcript says
// makes nobody compute more than it chose to, and what an honest provider accepts can be checked.
#include <verbatim/verify/limits.h>

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <new>

#include "support.h"

namespace verbatim::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr NodeLimits kUnlimited{UINT64_MAX, UINT64_MAX, UINT64_MAX};

Task one_node_task(std::string_view op, std::vector<int64_t> input, Tensor value = {}) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, input);
  std::vector<ValueId> in = {x};
  in.push_back(value.defined() ? b.constant("c", value) : x);
  b.output("y", b.add(op, "", in));
  Task task;
  task.program.graph = ok(b.finish());
  task.program.graph.compute_roots();
  task.inputs = {ok(Tensor::zeros(DType::f32, ok(Shape::of(input))))};
  task.limits = kUnlimited;
  ok(validate_task(task));
  return task;
}

// One float becomes 3e9 bytes.
Task expanding_task() {
  return one_node_task("Expand", {1},
                       ok(Tensor::from<int64_t>(Shape{1}, std::vector<int64_t>{750'000'000})));
}

// 2^36 operations, which the scalar reference takes minutes for: half a minute, under emulation and
// load too, tells it from none.
Task multiplying_task() { return one_node_task("MatMul", {2048, 2048}); }

std::unique_ptr<Provider> provider_with(const Task& task, const NodeLimits& limits,
                                        std::unique_ptr<Backend> backend = make_reference_backend(),
                                        uint8_t key = 1) {
  ProviderOptions options;
  options.limits = limits;
  return ok(Provider::create(task, task.program, std::move(backend), test_key(key), options));
}

void expect_refused_at_once(const Task& task, const NodeLimits& own, const std::string& reason) {
  const auto provider = provider_with(task, own);
  const auto start = Clock::now();
  const Status status = provider->run();
  EXPECT_LT(Clock::now() - start, 30s);
  EXPECT_EQ(status.code(), StatusCode::limit);
  EXPECT_NE(status.message().find(reason), std::string::npos) << status.message();
}

TEST(Limits, AProviderRefusesBeforeItComputes) {
  expect_refused_at_once(expanding_task(), {1 << 20, 1 << 20, 1 << 20},
                         "a tensor of 3000000000 bytes, this party allows 1048576");
  expect_refused_at_once(multiplying_task(), {1 << 30, 1 << 30, 1 << 30},
                         "17179869184 operations, this party allows 1073741824");
  Task tight = multiplying_task();
  tight.limits.operations = 1 << 20;
  expect_refused_at_once(tight, {}, "17179869184 operations, the task allows 1048576");
}

// `width` tensors of 256 KiB that all live until they are added up.
Task wide_task(int width) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {1, 256});
  const ValueId shape =
      b.constant("shape", ok(Tensor::from<int64_t>(Shape{2}, std::vector<int64_t>{256, 256})));
  std::vector<ValueId> wide;
  for (int i = 0; i < width; ++i) wide.push_back(b.add("Expand", "", {x, shape}));
  ValueId sum = wide[0];
  for (int i = 1; i < width; ++i) sum = b.add("Add", "", {sum, wide[i]});
  b.output("y", sum);
  Task task;
  task.level = CommitLevel::full;
  task.program.graph = ok(b.finish());
  task.program.graph.compute_roots();
  task.inputs = {Random(5).tensor({1, 256})};
  ok(validate_task(task));
  return task;
}

TEST(Limits, ARunThatNeedsMoreMemoryAtOnceIsRefusedAndKeepsNone) {
  const Task task = wide_task(16);
  ProviderOptions options;
  const auto provider = [&](uint64_t live_bytes) {
    options.live_bytes = live_bytes;
    return ok(Provider::create(task, task.program, make_reference_backend(), test_key(1), options));
  };
  EXPECT_TRUE(provider(17 * 262144)->run().ok());  // one more for the first sum
  const auto small = provider(16 * 262144);
  EXPECT_NE(small->run().message().find("4194304 of the 4194304 that this party allows are in use"),
            std::string::npos)
      << small->run().message();
  LocalParty party(*small);
  const Verdict v = ok(settle(task, std::vector<Party*>{&party}, new_session()));
  ASSERT_EQ(v.forfeited.size(), 1u);
  EXPECT_NE(v.forfeited[0].reason.find("this party allows"), std::string::npos);
}

// The least memory with which it can commit suffices to answer for every node, though it keeps what
// a run lets go.
TEST(Limits, WhoeverCouldCommitCanDefendIt) {
  const Task task = wide_task(8);
  ProviderOptions least;
  least.live_bytes = 9 * 262144;
  const auto honest =
      ok(Provider::create(task, task.program, make_reference_backend(), test_key(1), least));
  ok(honest->run());
  for (int32_t node = 0; node < static_cast<int32_t>(task.program.graph.nodes.size()); ++node) {
    const auto liar = make_provider(task, 2, Fault{0, node, 1000, 3});
    LocalParty a(*honest), b(*liar);
    const Verdict v = ok(settle(task, std::vector<Party*>{&a, &b}, new_session()));
    EXPECT_EQ(v.winners, std::vector<uint32_t>{0}) << "node " << node << ": " << v.reason;
  }
}

// A provider without room for the values of a step computes those that are asked for anew.
TEST(Limits, AnswersDoNotDependOnHowManyValuesAreKept) {
  const Task task = wide_task(8);
  ProviderOptions tight;
  tight.value_bytes = 300000;  // one value
  tight.live_bytes = 10 * 262144;
  for (int32_t node = 0; node < static_cast<int32_t>(task.program.graph.nodes.size()); ++node) {
    ProviderOptions lying = tight;
    lying.fault = Fault{0, node, 1000, 3};
    const auto honest =
        ok(Provider::create(task, task.program, make_reference_backend(), test_key(1), tight));
    const auto liar =
        ok(Provider::create(task, task.program, make_reference_backend(), test_key(2), lying));
    LocalParty a(*honest), b(*liar);
    const Verdict v = ok(settle(task, std::vector<Party*>{&a, &b}, new_session()));
    ASSERT_EQ(v.refuted.size(), 1u) << "node " << node << ": " << v.reason;
    EXPECT_EQ(v.refuted[0].where->node, node);
    EXPECT_EQ(v.winners, std::vector<uint32_t>{0});
  }
}

TEST(Limits, TheDefaultsHoldWhateverTheTaskSays) {
  const Task task = one_node_task(
      "Expand", {1}, ok(Tensor::from<int64_t>(Shape{1}, std::vector<int64_t>{int64_t{5} << 28})));
  expect_refused_at_once(task, NodeLimits{}, "a tensor of 5368709120 bytes, this party allows");
}

// Claims some small tensor for whatever a MatMul gives.
class Inventing final : public Backend {
 public:
  explicit Inventing(float value) : value_(value) {}
  std::string_view name() const override { return "inventing"; }
  Status prepare(const Graph&) override { return {}; }
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override {
    if (node.op != "MatMul") return evaluate_reference(node, inputs);
    return Tensors{ok(Tensor::from<float>(Shape{1}, std::span(&value_, 1)))};
  }

 private:
  float value_;
};

// Two liars agree that the output is small, so that checking it would seem cheap.
TEST(Limits, LiarsCannotMakeARefereeOrAJudgeCompute) {
  const Task task = multiplying_task();
  const auto x = provider_with(task, kUnlimited, std::make_unique<Inventing>(1.0f), 1),
             y = provider_with(task, kUnlimited, std::make_unique<Inventing>(2.0f), 2);
  LocalParty a(*x), b(*y);
  const RefereeOptions options{{1 << 30, 1 << 30, 1 << 30}};
  const std::string path = ::testing::TempDir() + "/limits" + std::to_string(::getpid());
  ::unlink(path.c_str());
  const auto start = Clock::now();
  const Verdict v =
      ok(run_dispute(task, std::vector<Disputant>{{"a", &a}, {"b", &b}}, path, options));
  EXPECT_EQ(v.outcome, DisputeOutcome::no_verdict);
  EXPECT_NE(v.reason.find("this party allows 1073741824"), std::string::npos) << v.reason;
  EXPECT_EQ(v.cost.operations, 0u);
  EXPECT_EQ(encode_verdict(ok(judge(ok(Transcript::open(path)), options))), encode_verdict(v));
  EXPECT_LT(Clock::now() - start, 30s);
  ::unlink(path.c_str());
}

// A referee that may do less than the one that wrote the transcript says that it cannot tell.
TEST(Limits, AWeakerJudgeGivesNoVerdict) {
  Random random(11);
  Task task = make_task(random, {3, 5, 4, 20}, CommitLevel::full);
  task.program.stop_value = -1;
  const auto honest = make_provider(task, 1), liar = make_provider(task, 2, Fault{9, 2, 0, 20});
  LocalParty a(*honest), b(*liar);
  const std::string path = ::testing::TempDir() + "/weaker" + std::to_string(::getpid());
  ::unlink(path.c_str());
  const Verdict v = ok(run_dispute(task, std::vector<Disputant>{{"a", &a}, {"b", &b}}, path));
  ASSERT_EQ(v.refuted.size(), 1u);
  const Transcript t = ok(Transcript::open(path));
  EXPECT_EQ(encode_verdict(ok(judge(t))), encode_verdict(v));
  const Verdict weak = ok(judge(t, {{1, 1, 1}}));
  EXPECT_EQ(weak.outcome, DisputeOutcome::no_verdict);
  EXPECT_TRUE(weak.winners.empty() && weak.refuted.empty());
  ::unlink(path.c_str());
}

TEST(Limits, WhatAnHonestProviderAcceptsCanBeChecked) {
  for (const uint64_t number : {1, 2, 3}) {
    Random random(number);
    Task task = make_task(random, {3, 5, 4, 4}, CommitLevel::full);
    task.program.stop_value = -1;
    task.limits = {least(task, &NodeLimits::operations), least(task, &NodeLimits::tensor_bytes),
                   least(task, &NodeLimits::node_bytes)};
    const auto honest = make_provider(task, 1);
    for (int32_t node = 0; node < static_cast<int32_t>(task.program.graph.nodes.size()); ++node) {
      const auto liar = make_provider(task, 2, Fault{3, node, 0, 0});
      LocalParty a(*honest), b(*liar);
      const Verdict v = ok(settle(task, std::vector<Party*>{&a, &b}, new_session()));
      ASSERT_EQ(v.refuted.size(), 1u) << "node " << node << ": " << v.reason;
      EXPECT_EQ(v.refuted[0].where->node, node);
      EXPECT_EQ(v.winners, std::vector<uint32_t>{0});
    }
  }
}

TEST(Limits, ARunStopsBeforeTheNextNode) {
  Random random(3);
  const Task task = make_task(random, {}, CommitLevel::full);
  const auto backend = make_reference_backend();
  for (const int64_t allowed : {0, 3, 11}) {
    int64_t asked = 0, ran = 0;
    RunOptions options;
    options.stop = [&] { return asked++ == allowed; };
    options.tamper = [&](uint64_t, int32_t, Tensors&) { ++ran; };
    const Status status = run_program(task.program, *backend, task.inputs, options).status();
    EXPECT_EQ(status.code(), StatusCode::deadline);
    EXPECT_NE(status.message().find("stopped in step"), std::string::npos);
    EXPECT_EQ(ran, allowed);
  }
}

// Throws in the middle of a run.
class Throwing final : public Backend {
 public:
  std::string_view name() const override { return "throwing"; }
  Status prepare(const Graph&) override { return {}; }
  Result<Tensors> run(const Node&, std::span<const Tensor>) override { throw std::bad_alloc(); }
};

TEST(Limits, WhatABackendThrowsIsASignedRefusal) {
  Random random(3);
  const Task task = make_task(random, {}, CommitLevel::full);
  const auto provider = provider_with(task, {}, std::make_unique<Throwing>());
  EXPECT_EQ(provider->run().code(), StatusCode::limit);
  LocalParty party(*provider);
  const Verdict v = ok(settle(task, std::vector<Party*>{&party}, new_session()));
  ASSERT_EQ(v.forfeited.size(), 1u);
  EXPECT_EQ(v.forfeited[0].reason, "it declined to answer: out of memory");
}

TEST(Limits, AProgramWithoutWeightsIsOfNoModel) {
  Random random(3);
  const Task weightless = multiplying_task();
  const Status status = bind_weights(weightless.program, make_program(random, {}).graph).status();
  EXPECT_EQ(status.code(), StatusCode::unavailable);
  EXPECT_NE(status.message().find("no weight of this provider's model"), std::string::npos);
}

}  // namespace
}  // namespace verbatim::test
