// If, Loop and Scan: the nodes of their bodies run on every backend, to the reference's bits.
#include "kernels/compare.h"

#include <verbatim/repops/executor.h>

namespace verbatim::test {
namespace {

class ControlFlowTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, ControlFlowTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

// (trip, condition, x, w) to (condition, softmax(x w), its scan element), the product within an If.
Body recurrent() {
  GraphBuilder product;
  const ValueId x = product.body_input("x"), w = product.body_input("w");
  product.output("y", product.add("MatMul", "", {x, w}));
  const Body branch = *product.finish_body();
  GraphBuilder b;
  b.body_input("trip");
  const ValueId condition = b.body_input("condition"), state = b.body_input("state"),
                weight = b.body_input("weight");
  const ValueId y = b.add("If", "", {condition, state, weight},
                          {{"then_branch", branch}, {"else_branch", branch}});
  const ValueId next = b.add("Softmax", "", {y});
  b.output("go", condition);
  b.output("next", next);
  b.output("element", next);
  return *b.finish_body();
}

struct GraphCase {
  Graph graph;
  Tensors inputs;
};

void expect_reference(Backend& backend, const GraphCase& c) {
  const auto reference = make_reference_backend();
  const Tensors want = *Executor::create(c.graph, *reference)->run_step(0, c.inputs),
                have = *Executor::create(c.graph, backend)->run_step(0, c.inputs);
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(identical(want[i], have[i])) << i;
}

GraphCase loop_case(Random& r) {
  const int64_t m = r.between(1, 20), n = r.between(1, 70);
  const Fill fill = any_fill(r);
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {m, n});
  const ValueId trips = b.constant("trips", *Tensor::scalar(r.between(0, 4)));
  const ValueId w = b.constant("w", floats(r, {n, n}, fill));
  const ValueId y = b.add("Loop", "", {trips, kAbsent, x, w},
                          {{"body", recurrent()},
                           {"captures", int64_t{1}},
                           {"scan_types", std::vector<int64_t>{1, 2, m, n}}},
                          "", 2);
  b.output("last", y);
  b.output("all", y + 1);
  return {*b.finish(), {floats(r, {m, n}, fill)}};
}

TEST_P(ControlFlowTest, LoopsOfProducts) {
  for (uint64_t seed = 0; seed < 100 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random r(seed);
    expect_reference(*backend_, loop_case(r));
  }
}

// Passes nodes on, while bodies are its own: what limits and traces put around a backend.
class Wrapper final : public Backend {
 public:
  explicit Wrapper(Backend& inner) : inner_(inner) {}
  std::string_view name() const override { return inner_.name(); }
  Status prepare(const Graph& graph) override { return inner_.prepare(graph); }
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override {
    return inner_.run(node, inputs);
  }

 private:
  Backend& inner_;
};

// softmax(state + slice) for each slice of what a node before it computed, along any axis and in
// both directions.
GraphCase scan_case(Random& r) {
  GraphBuilder body;
  const ValueId state = body.body_input("state"), slice = body.body_input("slice");
  const ValueId next = body.add("Softmax", "", {body.add("Add", "", {state, slice})});
  body.output("next", next);
  body.output("element", next);
  const DType type = any_type(r);
  const std::vector<int64_t> axis = {r.between(0, 2)}, backwards = {r.below(2)};
  std::vector<int64_t> dims = {r.between(1, 5), r.between(1, 40)};
  const std::vector<int64_t> first = dims;
  dims.insert(dims.begin() + axis[0], r.between(1, 4));
  GraphBuilder b;
  const ValueId x = b.input("x", type, dims), start = b.input("start", type, first);
  const ValueId y = b.add("Scan", "", {start, b.add("Tanh", "", {x})},
                          {{"body", *body.finish_body()},
                           {"num_scan_inputs", int64_t{1}},
                           {"scan_input_axes", axis},
                           {"scan_input_directions", backwards}},
                          "", 2);
  b.output("last", y);
  b.output("all", y + 1);
  const Fill fill = any_fill(r);
  return {*b.finish(),
          {numbers(r, type, *Shape::of(dims), fill), numbers(r, type, *Shape::of(first), fill)}};
}

TEST_P(ControlFlowTest, ScansOfWhatNodesGive) {
  Wrapper wrapper(*backend_);
  for (uint64_t seed = 0; seed < 100 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random r(seed);
    const GraphCase c = scan_case(r);
    expect_reference(*backend_, c);
    expect_reference(wrapper, c);
  }
}

// A capture that the file leaves out is known to be missing only when the body runs. A provider
// whose backend made something up instead of refusing could not be told from one that lies.
TEST_P(ControlFlowTest, ARequiredOperandThatIsAbsentIsAnErrorOnEveryBackend) {
  const auto reference = make_reference_backend();
  Random r(1);
  for (const OpDef* op : all_ops()) {
    if (op->min_inputs < 1 || (op->name == "If" || op->name == "Loop" || op->name == "Scan"))
      continue;
    Node node{std::string(op->domain), std::string(op->name), "n", {}, {}, {0}};
    Tensors inputs;
    for (int i = 0; i < op->min_inputs; ++i) {
      node.inputs.push_back(i);
      inputs.push_back(floats(r, {4, 4}, Fill::ordinary));
    }
    inputs.back() = Tensor();
    const Result<Tensors> want = reference->run(node, inputs), have = run(node, inputs);
    ASSERT_FALSE(want.ok()) << op->name;
    EXPECT_FALSE(have.ok()) << op->name;
    if (!have.ok()) {
      EXPECT_EQ(have.status().message(), want.status().message());
    }
  }
}

}  // namespace
}  // namespace verbatim::test
