// Runs whose values lie on a device: they are committed to where they lie, and commitments and
// answers are those of the same run on the host.
#include "device.h"

#include <gtest/gtest.h>

#include <algorithm>

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
