// Control flow among parties that do not trust each other: a lie inside a Loop is found, and what a
// body does stays within the limits while it runs.
#include <gtest/gtest.h>

#include <ctime>

#include <verbatim/verify/limits.h>

#include "device.h"
#include "support.h"
#include "support/body.h"

namespace verbatim::test {
namespace {

using testing::body_of;

// y, all = Loop(trips, absent, x, captured): `body` has inputs (trip, condition, x, captured).
Task loop_task(int64_t trips, const Shape& x, Tensor captured, const Body& body, int outputs,
               uint64_t seed = 7) {
  Random random(seed);
  GraphBuilder b;
  const ValueId in = b.input("x", DType::f32, {x.dims().begin(), x.dims().end()});
  const ValueId most = b.constant("trips", ok(Tensor::scalar(trips)));
  const ValueId w = b.constant("w", std::move(captured));
  const ValueId before = b.add("Neg", "", {in});
  const ValueId y = b.add("Loop", "", {most, kAbsent, before, w},
                          {{"body", body}, {"captures", int64_t{1}}}, "loop", outputs);
  b.output("y", b.add("Tanh", "", {y}));
  for (int i = 1; i < outputs; ++i) b.output("all" + std::to_string(i), y + i);
  Task task;
  task.level = CommitLevel::full;
  task.program.graph = ok(b.finish());
  task.program.graph.compute_roots();
  task.inputs = {random.tensor(x)};
  ok(validate_task(task));
  return task;
}

constexpr int32_t kLoop = 1;  // the node

// x becomes tanh(x w), and all of them are given.
Task recurrent_task() {
  Random random(3);
  const Body body = body_of(4, [](GraphBuilder& b, auto in) {
    const ValueId x = b.add("Tanh", "", {b.add("MatMul", "", {in[2], in[3]})});
    return std::vector{in[1], x, x};
  });
  return loop_task(6, {3, 8}, random.tensor({8, 8}), body, 2);
}

// Computes a bit wrong in the `wrong`th trip's MatMul, whenever the task of six trips is run.
class Slipping final : public Backend {
 public:
  explicit Slipping(int wrong) : wrong_(wrong) {}
  std::string_view name() const override { return "slipping"; }
  Status prepare(const Graph&) override { return {}; }
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override {
    VB_ASSIGN(Tensors outputs, evaluate_reference(node, inputs));
    if (node.op == "MatMul" && ++ran_ % 6 == wrong_ % 6) {
      VB_ASSIGN(outputs[0], flip_bit(outputs[0], 5, 20));
    }
    return outputs;
  }

 private:
  const int wrong_;
  int ran_ = 0;
};

TEST(ControlFlow, ALieInsideALoopIsFound) {
  const Task task = recurrent_task();
  for (const int trip : {1, 4, 6}) {
    const auto honest = make_provider(task, 1);
    const auto liar = ok(Provider::create(task, task.program, std::make_unique<Slipping>(trip),
                                          test_key(2), ProviderOptions{}));
    LocalParty a(*honest), b(*liar);
    const Verdict v = ok(settle(task, std::vector<Party*>{&a, &b}, new_session()));
    ASSERT_EQ(v.refuted.size(), 1u) << v.reason;
    EXPECT_EQ(v.winners, std::vector<uint32_t>{0});
    EXPECT_EQ(v.refuted[0].where->node, kLoop);
    // Six trips of three nodes or trips of 1024, the products, and the stacked elements.
    EXPECT_GE(v.cost.operations, 6u * (3 * kTripOperations + 2 * 3 * 8 * 8));
    EXPECT_LT(v.cost.operations, 2u * 6u * (3 * kTripOperations + 2 * 3 * 8 * 8));
  }
}

TEST(ControlFlow, ALieAboutAnyOutputOfALoopIsFound) {
  const Task task = recurrent_task();
  const auto honest = make_provider(task, 1), liar = make_provider(task, 2, Fault{0, kLoop, 3, 7});
  LocalParty a(*honest), b(*liar);
  const Verdict v = ok(settle(task, std::vector<Party*>{&a, &b}, new_session()));
  ASSERT_EQ(v.refuted.size(), 1u) << v.reason;
  EXPECT_EQ(v.refuted[0].where->node, kLoop);
  EXPECT_EQ(v.refuted[0].where->element, 3);
}

TEST(ControlFlow, WhatAnHonestProviderAcceptsCanBeChecked) {
  Task task = recurrent_task();
  task.limits = {least(task, &NodeLimits::operations), least(task, &NodeLimits::tensor_bytes),
                 least(task, &NodeLimits::node_bytes)};
  EXPECT_GT(task.limits.operations, 6 * 3 * kTripOperations);
  const auto honest = make_provider(task, 1), liar = make_provider(task, 2, Fault{0, kLoop, 0, 0});
  LocalParty a(*honest), b(*liar);
  const Verdict v = ok(settle(task, std::vector<Party*>{&a, &b}, new_session()));
  ASSERT_EQ(v.refuted.size(), 1u) << v.reason;
}

void expect_refused_at_once(const Task& task, const NodeLimits& own, const std::string& reason) {
  ProviderOptions options;
  options.limits = own;
  const auto provider =
      ok(Provider::create(task, task.program, make_reference_backend(), test_key(1), options));
  // Of the processor's time, which other work on the machine does not lengthen.
  const std::clock_t start = std::clock();
  const Status status = provider->run();
  EXPECT_LT(std::clock() - start, 30 * CLOCKS_PER_SEC);
  EXPECT_EQ(status.code(), StatusCode::limit) << status.message();
  EXPECT_NE(status.message().find(reason), std::string::npos) << status.message();
}

constexpr uint64_t kMiB = 1 << 20;
constexpr NodeLimits kSmall{1 << 26, 4 * kMiB, 16 * kMiB};

TEST(ControlFlow, EndlessLoopsAreRefusedAndRefereesDoNotRunThem) {
  const Body idle = body_of(4, [](GraphBuilder&, auto in) { return std::vector{in[1], in[2]}; });
  const Task task = loop_task(INT64_MAX, {1}, ok(Tensor::scalar(1.0f)), idle, 1);
  expect_refused_at_once(task, kSmall, " operations, this party allows 67108864");
  const Body empty = body_of(4, [](GraphBuilder& b, auto in) {
    return std::vector{in[1], in[2], b.add("Shape", "", {in[0]})};
  });
  expect_refused_at_once(loop_task(INT64_MAX, {1}, ok(Tensor::scalar(1.0f)), empty, 2), kSmall,
                         "this party allows");
}

// What a Loop of `trips` trips counts: its state an empty tensor, its `captured` a number.
uint64_t operations_of(int64_t trips, const Body& body, int outputs = 1, const Shape& state = {0},
                       const std::unique_ptr<Backend>& backend = make_reference_backend()) {
  Node node;
  node.op = "Loop";
  node.attributes = {{"body", body}, {"captures", int64_t{1}}};
  node.inputs.assign(4, 0);
  node.outputs.assign(static_cast<size_t>(outputs), 1);
  const Tensor inputs[] = {ok(Tensor::scalar(trips)), Tensor(),
                           ok(Tensor::zeros(DType::i64, state)), ok(Tensor::scalar(int64_t{0}))};
  const NodeLimits limits;
  uint64_t operations = 0;
  ok(run_limited(*backend, {limits, limits}, node, inputs, {}, nullptr, &operations));
  return operations;
}

// A trip that computes nothing may still take long: by what it is given, gives and reads.
TEST(ControlFlow, WhatATripHandlesCounts) {
  using Values = std::vector<ValueId>;
  constexpr int kWide = 1000, kLong = 100'000;
  const auto expect_each = [](const char* what, uint64_t least, const Body& body, int outputs = 1) {
    const uint64_t ten = operations_of(10, body, outputs), two = operations_of(2, body, outputs);
    EXPECT_GE(ten - two, 8 * least) << what;
    EXPECT_LT(ten - two, 8 * 3 * least) << what;
  };
  // As Neg of nothing with an attribute.
  const auto with = [](Attribute attribute) {
    return body_of(4, [&](GraphBuilder& b, auto in) {
      b.add("Neg", "", {in[2]}, {{"unused", std::move(attribute)}});
      return Values{in[1], in[2]};
    });
  };
  const Body gives = body_of(4, [](GraphBuilder& b, auto in) {
    b.add("Split", "", {in[2]}, {{"axis", int64_t{0}}, {"num_outputs", int64_t{kWide}}}, "", kWide);
    return Values{in[1], in[2]};
  });
  const Body takes = body_of(4, [](GraphBuilder& b, auto in) {
    return Values{in[1], b.add("Concat", "", Values(kWide, in[2]), {{"axis", int64_t{0}}})};
  });
  const Body collects = body_of(4, [](GraphBuilder&, auto in) {
    Values all(kWide + 2, in[2]);
    all[0] = in[1];
    return all;
  });
  const Body many = body_of(3, [](GraphBuilder& b, auto in) {
    for (int i = 0; i < kLong; ++i) b.add("Neg", "", {in[2]});
    return Values{in[1], in[2]};
  });
  const Body prepares = body_of(4, [&](GraphBuilder& b, auto in) {
    return Values{in[1], b.add("Loop", "", {in[3], kAbsent, in[2]}, {{"body", many}})};
  });
  expect_each("outputs", 64 * kWide, gives);
  expect_each("inputs", 64 * kWide, takes);
  expect_each("scan outputs", 64 * kWide, collects, kWide + 1);
  expect_each("a list", 64 * kWide, with(std::vector<int64_t>(kWide)));
  expect_each("texts", 64 * kWide, with(std::vector<std::string>(kWide)));
  expect_each("a text", kLong, with(std::string(kLong, 'x')));
  expect_each("a body of no trips", 2 * kLong, prepares);
  const Body negates = body_of(4, [](GraphBuilder& b, auto in) {
    return Values{in[1], b.add("Neg", "", {in[2]})};
  });
  const Shape rows{kLong, 0};  // of no elements
  EXPECT_GE(operations_of(10, negates, 1, rows) - operations_of(2, negates, 1, rows),
            8 * 2 * kLong);
}

// Whoever may run it with the reference may with a device, from which scan elements are copied.
TEST(ControlFlow, WhereElementsLieDoesNotCount) {
  const Body collects = body_of(4, [](GraphBuilder& b, auto in) {
    const ValueId y = b.add("Neg", "", {in[2]});
    return std::vector{in[1], y, y};
  });
  const Shape state{1000};
  EXPECT_EQ(operations_of(10, collects, 2, state, std::make_unique<DeviceBackend>()),
            operations_of(10, collects, 2, state));
}

TEST(ControlFlow, EndlessLoopsOverManyEmptyTensorsAreRefused) {
  const Body wide = body_of(4, [](GraphBuilder& b, auto in) {
    constexpr int kWide = 1 << 14;
    b.add("Split", "", {in[2]}, {{"axis", int64_t{0}}, {"num_outputs", int64_t{kWide}}}, "", kWide);
    return std::vector{in[1], in[2]};
  });
  expect_refused_at_once(loop_task(INT64_MAX, {0}, ok(Tensor::scalar(1.0f)), wide, 1), kSmall,
                         " operations, this party allows 67108864");
}

TEST(ControlFlow, LoopsThatGrowAreRefused) {
  const Body doubling = body_of(4, [](GraphBuilder& b, auto in) {
    return std::vector{in[1], b.add("Concat", "", {in[2], in[2]}, {{"axis", int64_t{0}}})};
  });
  expect_refused_at_once(loop_task(60, {1024}, ok(Tensor::scalar(1.0f)), doubling, 1), kSmall,
                         "Concat: a tensor of 8388608 bytes, this party allows 4194304");
  const Body collecting = body_of(4, [](GraphBuilder& b, auto in) {
    const ValueId x = b.add("Neg", "", {in[2]});
    return std::vector{in[1], x, x, x, x, x, x};
  });
  // Five outputs of a megabyte for each trip; each is within the limits.
  expect_refused_at_once(loop_task(100, {kMiB / 4}, ok(Tensor::scalar(1.0f)), collecting, 6),
                         kSmall, "that this party allows are in use");
  const Body products = body_of(4, [](GraphBuilder& b, auto in) {
    return std::vector{in[1], b.add("MatMul", "", {in[2], in[3]})};
  });
  Random random(1);
  expect_refused_at_once(
      loop_task(100, {128, 128}, random.tensor({128, 128}), products, 1), kSmall,
      "operations, those of the trips so far included, this party allows 67108864");
}

// What a trip frees is there for the next: a hundred trips of four megabytes in sixteen.
TEST(ControlFlow, MemoryIsWhatLivesAtOnce) {
  const Body busy = body_of(4, [](GraphBuilder& b, auto in) {
    const ValueId a = b.add("Neg", "", {in[2]}), c = b.add("Add", "", {a, in[3]});
    return std::vector{in[1], b.add("Sub", "", {c, a})};
  });
  const Task task = loop_task(100, {kMiB / 4}, ok(Tensor::scalar(1.0f)), busy, 1);
  ProviderOptions options;
  options.limits = {1 << 28, 4 * kMiB, 16 * kMiB};
  options.live_bytes = 16 * kMiB;
  const auto provider =
      ok(Provider::create(task, task.program, make_reference_backend(), test_key(1), options));
  const Status status = provider->run();
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST(ControlFlow, TheRunsMemoryCountsInsideBodies) {
  const Body body = body_of(4, [](GraphBuilder& b, auto in) {
    return std::vector{in[1], b.add("Add", "", {in[2], in[3]})};
  });
  const Task task = loop_task(3, {kMiB / 4}, ok(Tensor::scalar(1.0f)), body, 1);
  ProviderOptions options;
  options.live_bytes = 5 * kMiB / 2;
  const auto provider =
      ok(Provider::create(task, task.program, make_reference_backend(), test_key(1), options));
  const Status status = provider->run();
  EXPECT_EQ(status.code(), StatusCode::limit);
  EXPECT_NE(status.message().find("the run needs 1048576 bytes more"), std::string::npos)
      << status.message();
}

// run() alone, without anything that could stop it, is under the limits too.
TEST(ControlFlow, ALimitedBackendLimitsBodiesHoweverItIsAsked) {
  const Body idle = body_of(2, [](GraphBuilder&, auto in) { return std::vector{in[1], in[0]}; });
  Node node;
  node.op = "Loop";
  node.attributes = {{"body", idle}};
  node.outputs = {0};
  const Tensor absent[2];
  const auto backend = limited(make_reference_backend(), {kSmall, kSmall});
  EXPECT_EQ(backend->run(node, absent).status().code(), StatusCode::limit);
}

}  // namespace
}  // namespace verbatim::test
