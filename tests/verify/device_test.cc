// Runs whose values lie on a device: they are committed to where they lie, and commitments and
// answers are those of the same run on the host.
#include "device.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <array>

#include "support.h"

namespace verbatim::test {
namespace {

// What a committed run asks of the device, beyond what a plain one does.
struct Asked {
  Commitment commitment;
  int copies, hashes;
};
Asked commit_there(const Task& task) {
  Elsewhere& memory = DeviceBackend::memory();
  DeviceBackend backend;
  const int before = memory.copies;
  ok(run_program(task.program, backend, task.inputs).status());
  const int plain = memory.copies - before, hashes = memory.hashes;
  Committer committer(task.program, task.level, task_id(task));
  RunOptions options;
  options.sink = &committer;
  ok(run_program(task.program, backend, task.inputs, options).status());
  Commitment commitment = ok(committer.finish());
  return {std::move(commitment), memory.copies - before - 2 * plain, memory.hashes - hashes};
}

// Values of a step that lie there, but are hashed packed, which devices do not do.
int64_t packed_values(const Graph& graph) {
  return std::ranges::count_if(graph.nodes, [](const Node& n) {
    return n.op == "Cast" &&
           ok(n.attributes.require<int64_t>("to")) == static_cast<int64_t>(DType::f4e2m1);
  });
}

TEST(Device, ValuesAreHashedWhereTheyLieOnceAStep) {
  for (const CommitLevel level : {CommitLevel::full, CommitLevel::light}) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      Random random(seed);
      const Task task = make_task(random, {2, 3, 5, 6}, level);
      const Commitment want = commit(task);
      const Asked have = commit_there(task);
      EXPECT_EQ(have.commitment.records, want.records);
      EXPECT_EQ(have.commitment.outputs, want.outputs);
      EXPECT_EQ(have.commitment.final_root, want.final_root);
      EXPECT_EQ(have.copies, level == CommitLevel::full ? static_cast<int64_t>(want.steps) *
                                                              packed_values(task.program.graph)
                                                        : 0);
      EXPECT_GT(have.hashes, 0);
      EXPECT_LE(have.hashes, static_cast<int>(want.steps) + 1);  // and outputs at the end
    }
  }
}

// So that they need not be kept until the step ends.
TEST(Device, LargeValuesDoNotWait) {
  constexpr int64_t kSide = 4096;
  static_assert(sizeof(float) * kSide * kSide == kMostWaiting);
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {kSide, kSide});
  b.output("y", b.add("Neg", "", {b.add("Neg", "", {x})}));
  Task task;
  task.level = CommitLevel::full;
  task.program.graph = ok(b.finish());
  task.inputs = {ok(Tensor::zeros(DType::f32, {kSide, kSide}))};
  const Asked have = commit_there(task);
  EXPECT_EQ(have.hashes, 2);
  EXPECT_EQ(have.commitment.final_root, commit(task).final_root);
}

// Nor are more kept than a device has work with.
TEST(Device, FewValuesAreKept) {
  constexpr int64_t kBytes = 8 << 20;
  GraphBuilder b;
  ValueId x = b.input("x", DType::f32, {kBytes / 4});
  for (int i = 0; i < 24; ++i) x = b.add("Neg", "", {x});
  b.output("y", x);
  Task task;
  task.level = CommitLevel::full;
  task.program.graph = ok(b.finish());
  task.inputs = {ok(Tensor::zeros(DType::f32, {kBytes / 4}))};
  Elsewhere& memory = DeviceBackend::memory();
  memory.most_kept = 0;
  const Asked have = commit_there(task);
  EXPECT_EQ(have.hashes, 12);
  EXPECT_EQ(memory.most_kept, kMostWaiting + kBatchBytes);
  EXPECT_EQ(have.commitment.final_root, commit(task).final_root);
}

// A value of more than is kept goes with its step.
TEST(Device, NoLargeValueIsKeptBeyondItsStep) {
  constexpr int64_t kBytes = static_cast<int64_t>(kMostWaiting) + (32 << 20);
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {1}),
                shape = b.constant("shape", ok(Tensor::from<int64_t>({1}, std::array{kBytes / 4})));
  const ValueId y = b.add("Expand", "", {x, shape});
  b.output("y", b.add("ReduceMax", "", {y}, {{"keepdims", int64_t{1}}}));
  Task task;
  task.level = CommitLevel::full;
  task.program.graph = ok(b.finish());
  task.program.max_steps = 3;
  task.program.carries = {{0, 0}};
  task.inputs = {ok(Tensor::zeros(DType::f32, {1}))};
  Elsewhere& memory = DeviceBackend::memory();
  memory.most_kept = 0;
  const Asked have = commit_there(task);
  EXPECT_GE(memory.most_kept, static_cast<size_t>(kBytes));
  EXPECT_LT(memory.most_kept, static_cast<size_t>(kBytes) + kBatchBytes);
  EXPECT_EQ(have.commitment.final_root, commit(task).final_root);
}

// While the next step runs.
TEST(Device, AStepIsHashedBesideTheNext) {
  Random random(1);
  const Task task = make_task(random, {2, 3, 5, 6}, CommitLevel::full);
  ASSERT_GT(commit(task).steps, 1u);
  DeviceBackend backend;
  Committer committer(task.program, task.level, task_id(task));
  RunOptions options;
  options.sink = &committer;
  options.on_step = [&](uint64_t, std::span<const Tensor>) {
    EXPECT_EQ(DeviceBackend::memory().begun, 1);
    return true;
  };
  ok(run_program(task.program, backend, task.inputs, options).status());
  EXPECT_EQ(ok(committer.finish()).final_root, commit(task).final_root);
  EXPECT_EQ(DeviceBackend::memory().begun, 0);
}

// A run on a device that breaks, or has no room, or that is stopped, at any time: the same
// commitment to as many steps as have ended, or an error; and nobody reads its values any more.
TEST(Device, WhateverHappensRootsAreRightOrMissing) {
  struct Repaired {
    ~Repaired() {
      DeviceBackend::memory().waits_left = INT_MAX;
      DeviceBackend::memory().has_room = true;
    }
  };
  const bool passed = rc::check([](uint64_t number) {
    const Repaired at_the_end;
    Random random(number);
    const auto level = *rc::gen::element(CommitLevel::full, CommitLevel::light);
    const Task task = make_task(random, {2, 3, 5, 6}, level);
    const Commitment want = commit(task);
    Elsewhere& memory = DeviceBackend::memory();
    const bool breaks = *rc::gen::arbitrary<bool>(), stops = *rc::gen::arbitrary<bool>();
    const int nodes = static_cast<int>(want.steps * task.program.graph.nodes.size());
    int left = stops ? *rc::gen::inRange(0, nodes) : INT_MAX;
    {
      Committer committer(task.program, level, [&task] { return task_id(task); });
      RunOptions options;
      options.sink = &committer;
      options.stop = [&] {
        memory.has_room = random.below(2) == 1;
        return left-- == 0;
      };
      DeviceBackend backend;
      memory.waits_left = breaks ? *rc::gen::inRange(0, static_cast<int>(want.steps)) : INT_MAX;
      const Status run = run_program(task.program, backend, task.inputs, options).status();
      RC_ASSERT(run.ok() || stops || breaks);
      for (int i = 0; i < 2; ++i) {
        const Result<Commitment> have = committer.finish();
        RC_ASSERT(have.ok() || breaks);
        if (!have.ok()) continue;
        RC_ASSERT(
            std::ranges::equal(have->records, std::span(want.records).first(have->records.size())));
        RC_ASSERT(!run.ok() || have->final_root == want.final_root);
      }
    }
    RC_ASSERT(memory.begun == 0);
  });
  EXPECT_TRUE(passed);
}

// It takes a hash of the inputs, and a device computes meanwhile.
TEST(Device, ATasksIdIsAskedForOnceWhenAStepHasEnded) {
  Random random(1);
  const Task task = make_task(random, {2, 3, 5, 6}, CommitLevel::light);
  int nodes = 0, asked = 0;
  Committer committer(task.program, task.level, [&] {
    EXPECT_EQ(nodes, static_cast<int>(task.program.graph.nodes.size()));
    ++asked;
    return task_id(task);
  });
  RunOptions options;
  options.sink = &committer;
  options.stop = [&] { return ++nodes < 0; };
  DeviceBackend backend;
  ok(run_program(task.program, backend, task.inputs, options).status());
  EXPECT_EQ(ok(committer.finish()).final_root, commit(task).final_root);
  EXPECT_EQ(asked, 1);
}

// A graph may give one value any number of names, and each copy would take its bytes again.
TEST(Device, AnOutputOfManyNamesIsCopiedOnce) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {2, 3});
  const ValueId y = b.add("Neg", "", {x});
  for (const char* name : {"a", "b", "c"}) b.output(name, y);
  const Graph graph = ok(b.finish());
  DeviceBackend backend;
  const Executor executor = ok(Executor::create(graph, backend));
  const Tensors inputs = {ok(Tensor::zeros(DType::f32, {2, 3}))};
  const int before = DeviceBackend::memory().copies;
  const Tensors outputs = ok(executor.run_step(0, inputs));
  EXPECT_EQ(DeviceBackend::memory().copies - before, 1);
  for (const Tensor& t : outputs) EXPECT_EQ(t.address(), outputs[0].address());
}

TEST(Device, AnswersAreThoseOfTheHost) {
  for (const CommitLevel level : {CommitLevel::full, CommitLevel::light}) {
    Random random(7);
    const Task task = make_task(random, {}, level);
    const auto there =
        ok(Provider::create(task, task.program, std::make_unique<DeviceBackend>(), test_key(1)));
    const auto wrong = make_provider(task, 2, Fault{1, 2, 0, 30});
    LocalParty honest(*there), liar(*wrong);
    std::vector<Party*> parties = {&honest, &liar};
    const Verdict verdict = ok(settle(task, parties, new_session()));
    ASSERT_EQ(verdict.refuted.size(), 1u);
    EXPECT_EQ(verdict.refuted[0].party, 1u);
  }
}

}  // namespace
}  // namespace verbatim::test
