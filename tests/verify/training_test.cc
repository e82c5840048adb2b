// A step of training is disputed as any other: one that lies in a gradient is refuted there.
#include <gtest/gtest.h>

#include <verbatim/repops/training.h>
#include <verbatim/verify/referee.h>

#include "support.h"

namespace verbatim::test {
namespace {

// d = x w - y, mean(d^2), two linear layers with a tanh between them, AdamW, clipped.
Task training_task(Random& random, CommitLevel level) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {-1, 3}), y = b.input("y", DType::f32, {-1, 2});
  const ValueId w1 = b.constant("w1", random.tensor({4, 3})),
                w2 = b.constant("w2", random.tensor({2, 4}));
  const ValueId h = b.add("Linear", kVerbatimDomain, {x, w1}, {}, "first");
  const ValueId p =
      b.add("Linear", kVerbatimDomain, {b.add("Tanh", "", {h}, {}, "tanh"), w2}, {}, "second");
  b.output("p", p);
  GraphEditor e(ok(b.finish()));
  const ValueId loss = mean_squared_error(e, p, y);
  TrainingSettings settings;
  settings.learning_rate = 0.1f;
  settings.max_norm = 0.5f;
  settings.steps = 6;
  settings.parameters = {"w1", "w2"};
  settings.batches = {"x", "y"};
  Training training = ok(training_program(ok(e.finish()), loss, settings));
  training.program.graph.compute_roots();
  Task task;
  task.level = level;
  task.model_name = "least squares";
  task.program = std::move(training.program);
  task.inputs = {random.tensor({4, 5, 3}), random.tensor({4, 5, 2})};
  task.inputs.insert(task.inputs.end(), training.state.begin(), training.state.end());
  ok(validate_task(task));
  return task;
}

int32_t node_named(const Graph& graph, const std::string& op, const std::string& name) {
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (graph.nodes[i].op == op && graph.nodes[i].name == name) return static_cast<int32_t>(i);
  ADD_FAILURE() << "no node " << op << " " << name;
  return 0;
}

TEST(TrainingDispute, ALieInAGradientIsRefutedAtItsNode) {
  for (const CommitLevel level : {CommitLevel::full, CommitLevel::light}) {
    Random random(3);
    const Task task = training_task(random, level);
    // The gradient of the second layer's weights, in step 3: everything later follows from the lie.
    const int32_t node = node_named(task.program.graph, "Gemm", "second.backward");
    const auto honest = make_provider(task, 1),
               liar = make_provider(task, 2, Fault{3, node, 5, 20});
    LocalParty a(*liar), b(*honest);
    const Verdict v = ok(settle(task, std::vector<Party*>{&a, &b}, new_session()));
    EXPECT_EQ(v.outcome, DisputeOutcome::settled);
    ASSERT_EQ(v.refuted.size(), 1u);
    EXPECT_EQ(v.refuted[0].party, 0u);
    ASSERT_TRUE(v.refuted[0].where.has_value());
    EXPECT_EQ(v.refuted[0].where->step, 3u);
    EXPECT_EQ(v.refuted[0].where->node, node);
    EXPECT_EQ(v.winners, std::vector<uint32_t>{1});
    EXPECT_EQ(v.cost.nodes_recomputed, 1u);
  }
}

}  // namespace
}  // namespace verbatim::test
