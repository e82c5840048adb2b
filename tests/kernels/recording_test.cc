// A recorded step has the bits of the step, whatever its inputs are by then: numbers on the device,
// integers that the host reads, and shapes that depend on them.
#include <algorithm>
#include <thread>

#include <verbatim/repops/executor.h>
#include <verbatim/repops/ops/quantized.h>

#include "kernels/compare.h"
#include "support/small_transformer.h"

namespace verbatim::test {
namespace {

class RecordingTest : public OnBackend {
 protected:
  // The step on the reference, on the host.
  static Tensors wanted(const Graph& graph, const Tensors& inputs) {
    const auto reference = make_reference_backend();
    return *(*Executor::create(graph, *reference)).run_step(0, inputs);
  }
  static void expect_equal(const Tensors& have, const Tensors& want) {
    ASSERT_EQ(have.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_TRUE(identical(*have[i].on_host(), want[i])) << "output " << i;
  }
  // Eight numbers, of which the first are zeros.
  static Tensors of_zeros(int zeros) {
    std::vector<float> values(8, 0.5f);
    std::fill_n(values.begin(), zeros, 0.0f);
    return {*Tensor::from<float>(Shape{8}, values)};
  }
  static void expect_of_zeros(RecordedStep& step, const Graph& graph) {
    for (const int zeros : {2, 5, 8, 2, 0}) {
      const Tensors now = of_zeros(zeros);
      expect_equal(*step.run(now), wanted(graph, now));
    }
  }
  bool records() const { return backend_->name() == "cuda"; }
};
INSTANTIATE_TEST_SUITE_P(Backends, RecordingTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

constexpr int64_t kWidth = 32, kWords = 11;

Tensor token_ids(Random& r, int64_t count) {
  std::vector<int64_t> ids(static_cast<size_t>(count));
  for (int64_t& id : ids) id = r.below(kWords);
  return *Tensor::from<int64_t>(Shape{1, count}, ids);
}

struct Net {
  explicit Net(Random& random) : r(random) {}

  Random& r;
  GraphBuilder b;
  std::vector<ValueId> values;  // float32 [1, T, kWidth]

  ValueId any() { return values[static_cast<size_t>(r.below(std::ssize(values)))]; }
  ValueId weight(const Shape& shape) {
    return b.constant("w" + std::to_string(names_++), floats(r, shape, Fill::ordinary));
  }
  ValueId integers(const Shape& shape, std::vector<int64_t> list) {
    return b.constant("i" + std::to_string(names_++), *Tensor::from<int64_t>(shape, list));
  }
  ValueId onnx(std::string_view op, std::vector<ValueId> in, Attributes a = {}) {
    return b.add(op, "", std::move(in), std::move(a));
  }
  ValueId some_node();

 private:
  int names_ = 0;
};

ValueId Net::some_node() {
  switch (r.below(9)) {
    case 0:
      return b.add("Linear", kVerbatimDomain, {any(), weight({kWidth, kWidth})});
    case 1:
      return onnx("Softmax", {any()});
    case 2:
      return onnx("RMSNormalization", {any(), weight({kWidth})});
    case 3:  // the host's
      return onnx("Pow", {onnx("Sigmoid", {any()}), weight({1})});
    case 4: {  // a view, by a shape that is read from another value
      const ValueId flat = onnx("Reshape", {any(), integers({1}, {-1})});
      return onnx("Reshape", {flat, onnx("Shape", {any()})});
    }
    case 5: {  // rows in an order that depends on numbers
      const ValueId x = any(),
                    order = onnx("ArgMax", {x}, {{"axis", int64_t{2}}, {"keepdims", int64_t{0}}}),
                    table = weight({kWidth, kWidth});
      return onnx("Gather", {table, order});
    }
    case 6:
      return onnx("Tanh", {any()});
    case 7: {
      const ValueId x = any();
      return b.add("Attention", kVerbatimDomain, {any(), x, x},
                   {{"heads", int64_t{4}}, {"scale", 0.3f}, {"causal", r.below(2)}});
    }
    default:
      return onnx("Add", {any(), any()});
  }
}

// Inputs: tokens, and numbers of the width.
Graph some_graph(Random& r, int64_t tokens) {
  Net net(r);
  const ValueId ids = net.b.input("tokens", DType::i64, {1, tokens}),
                x = net.b.input("x", DType::f32, {1, tokens, kWidth});
  net.values = {x, net.onnx("Gather", {net.weight({kWords, kWidth}), ids})};
  for (int64_t i = r.between(4, 24); i > 0; --i) net.values.push_back(net.some_node());
  net.b.output("last", net.values.back());
  for (int i = 0; i < 2; ++i) net.b.output("y" + std::to_string(i), net.any());
  net.b.output("ids", ids);
  return *net.b.finish();
}

TEST_P(RecordingTest, GraphsWithOtherInputs) {
  int64_t recorded = 0;
  const int count = is_emulated(*backend_) ? 60 : 300;
  for (int seed = 0; seed < count && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random r(static_cast<uint64_t>(seed));
    const int64_t tokens = r.between(1, 6);
    const Graph graph = some_graph(r, tokens);
    const Fill fill = any_fill(r);
    const auto inputs = [&] {
      return Tensors{token_ids(r, tokens), floats(r, {1, tokens, kWidth}, fill)};
    };
    const Executor executor = *Executor::create(graph, *backend_);
    const auto step = *executor.record(inputs());
    recorded += step->recorded_nodes();
    Tensors before, first;
    for (int i = 0; i < 3; ++i) {
      const Tensors now = inputs();
      const Tensors have = *step->run(now);
      expect_equal(have, wanted(graph, now));
      if (i == 0) {
        first = have;
        before = wanted(graph, now);
      }
    }
    expect_equal(first, before);  // what was given away is nobody's to write
  }
  EXPECT_EQ(recorded > count, records()) << recorded << " nodes in all";
}

// What is found decides how many rows there are.
TEST_P(RecordingTest, ShapesThatComeOutOtherwise) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {8});
  ValueId y = b.add("Gather", "", {x, b.add("NonZero", "", {x})});
  for (int i = 0; i < 4; ++i) y = b.add("Tanh", "", {y});
  b.output("y", y);
  const Graph graph = *b.finish();
  const Executor executor = *Executor::create(graph, *backend_);
  const auto step = *executor.record(of_zeros(2));
  EXPECT_EQ(step->recorded_nodes(), records() ? 4 : 0);
  expect_of_zeros(*step, graph);
}

// The same, where the shape comes to the device's nodes as integers of the host.
TEST_P(RecordingTest, IntegersThatFollowShapes) {
  Random r(1);
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {8}), found = b.add("NonZero", "", {x}),
                w = b.constant("w", floats(r, {1, 1}, Fill::ordinary));
  ValueId y = b.add("Expand", "", {w, b.add("Shape", "", {found})});
  for (int i = 0; i < 4; ++i) y = b.add("Tanh", "", {y});
  b.output("y", y);
  const Graph graph = *b.finish();
  const Executor executor = *Executor::create(graph, *backend_);
  const auto step = *executor.record(of_zeros(2));
  EXPECT_EQ(step->recorded_nodes() >= 4, records());
  expect_of_zeros(*step, graph);
}

// Codes that a step hands to the next one, on the device: others each time.
TEST_P(RecordingTest, CodesFromOutside) {
  Random r(1);
  GraphBuilder b;
  const ValueId codes = b.input("codes", DType::i8, {3, kWidth}),
                scales = b.input("scales", DType::f32, {3}),
                w = b.constant(
                    "w", quantize_rows(floats(r, {kWidth, kWidth}, Fill::ordinary), 1)->codes),
                w_scales = b.constant("w_scales", floats(r, {kWidth}, Fill::ordinary));
  ValueId y = b.add("QuantizedLinear", kVerbatimDomain, {codes, scales, w, w_scales});
  const ValueId turned = b.add("Transpose", "", {codes});
  for (int i = 0; i < 3; ++i) y = b.add("Tanh", "", {y});
  b.output("y", y);
  b.output("turned", turned);
  const Graph graph = *b.finish();
  const Executor executor = *Executor::create(graph, *backend_);
  const auto inputs = [&] {
    const Tensor x = floats(r, {3, kWidth}, Fill::ordinary);
    return *backend_->run(node_of("verbatim", "QuantizeRows", {}, 2), std::span(&x, 1));
  };
  const auto step = *executor.record(inputs());
  for (int i = 0; i < 3; ++i) {
    const Tensors now = inputs();
    expect_equal(*step->run(now), wanted(graph, {*now[0].on_host(), *now[1].on_host()}));
  }
}

// Between two parts, a branch.
TEST_P(RecordingTest, AroundABranch) {
  const auto branch = [](std::string_view op) {
    GraphBuilder b;
    const ValueId x = b.body_input("x");
    b.output("y", b.add(op, "", {x}));
    return *b.finish_body();
  };
  GraphBuilder b;
  const ValueId chosen = b.input("chosen", DType::boolean, {});
  ValueId x = b.input("x", DType::f32, {kWidth});
  for (int i = 0; i < 3; ++i) x = b.add("Sigmoid", "", {x});
  x = b.add("If", "", {chosen, x},
            {{"then_branch", branch("Tanh")}, {"else_branch", branch("Neg")}});
  for (int i = 0; i < 3; ++i) x = b.add("Sigmoid", "", {x});
  b.output("y", x);
  const Graph graph = *b.finish();
  const Executor executor = *Executor::create(graph, *backend_);
  Random r(1);
  const auto inputs = [&](bool which) {
    return Tensors{*Tensor::scalar(which), floats(r, {kWidth}, Fill::special)};
  };
  const auto step = *executor.record(inputs(true));
  EXPECT_EQ(step->recorded_nodes(), records() ? 6 : 0);
  for (const bool which : {false, true, false}) {
    const Tensors now = inputs(which);
    expect_equal(*step->run(now), wanted(graph, now));
  }
}

// A branch that hands its input on as it is: memory of the caller's, who writes it anew.
TEST_P(RecordingTest, AnInputHandedOn) {
  const auto branch = [](bool changes) {
    GraphBuilder b;
    const ValueId x = b.body_input("x");
    b.output("y", changes ? b.add("Neg", "", {x}) : x);
    return *b.finish_body();
  };
  GraphBuilder b;
  const ValueId chosen = b.input("chosen", DType::boolean, {});
  ValueId x = b.input("x", DType::f32, {kWidth});
  x = b.add("If", "", {chosen, x}, {{"then_branch", branch(false)}, {"else_branch", branch(true)}});
  for (int i = 0; i < 4; ++i) x = b.add("Sigmoid", "", {x});
  b.output("y", x);
  const Graph graph = *b.finish();
  const Executor executor = *Executor::create(graph, *backend_);
  Random r(1);
  Tensors inputs = {*Tensor::scalar(true), floats(r, {kWidth}, Fill::ordinary)};
  const auto step = *executor.record(inputs);
  EXPECT_EQ(step->recorded_nodes(), records() ? 4 : 0);
  for (int i = 0; i < 3; ++i) {
    for (float& v : inputs[1].mutable_data<float>()) v = number(r, Fill::ordinary);
    expect_equal(*step->run(inputs), wanted(graph, inputs));
  }
}

TEST_P(RecordingTest, OtherTypesAndShapesAreRefused) {
  GraphBuilder b;
  ValueId x = b.input("x", DType::f32, {-1});
  for (int i = 0; i < 4; ++i) x = b.add("Tanh", "", {x});
  b.output("y", x);
  const Graph graph = *b.finish();
  const Executor executor = *Executor::create(graph, *backend_);
  const auto ones = [](int64_t n) {
    return Tensors{*Tensor::from<float>(Shape{n}, std::vector<float>(n, 1.0f))};
  };
  const auto step = *executor.record(ones(5));
  EXPECT_FALSE(step->run(ones(6)).ok());
  EXPECT_FALSE(step->run({}).ok());
  EXPECT_TRUE(step->run(ones(5)).ok());
}

// Others compute meanwhile, and recordings come and go; each has memory of its own.
TEST_P(RecordingTest, BesideOthers) {
  Random r(1);
  const SmallTransformer small = small_transformer(1, 9);
  const auto inputs = [&] {
    const Tensors data = small_data(r.next(), 1, 2, 9);
    Tensors rows;
    for (const Tensor& t : data) rows.push_back(*t.reshaped(Shape{2, 9}));
    return rows;
  };
  const Executor executor = *Executor::create(small.graph, *backend_);
  auto step = *executor.record(inputs());
  std::thread other([&, now = inputs()] {
    const Tensors want = wanted(small.graph, now);
    for (int i = 0; i < 4; ++i) expect_equal(*executor.run_step(0, now), want);
  });
  for (int i = 0; i < 4; ++i) {
    auto next = *executor.record(inputs());
    EXPECT_EQ(next->recorded_nodes() > 20, records());
    for (RecordedStep* s : {step.get(), next.get(), step.get()}) {
      const Tensors now = inputs();
      expect_equal(*s->run(now), wanted(small.graph, now));
    }
    step = std::move(next);
  }
  other.join();
}

// Two threads run one recording, and two recordings read the same weights.
TEST_P(RecordingTest, SharedByThreads) {
  Random r(1);
  const Graph graph = some_graph(r, 4);
  const Executor first = *Executor::create(graph, *backend_),
                 second = *Executor::create(graph, *backend_);
  const auto inputs = [](Random& random) {
    return Tensors{token_ids(random, 4), floats(random, {1, 4, kWidth}, Fill::ordinary)};
  };
  const auto step = *first.record(inputs(r)), other = *second.record(inputs(r));
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&, i] {
      Random own(static_cast<uint64_t>(i));
      for (int time = 0; time < 4; ++time) {
        const Tensors now = inputs(own);
        expect_equal(*(time % 2 == 0 ? step : other)->run(now), wanted(graph, now));
      }
    });
  for (std::thread& t : threads) t.join();
}

}  // namespace
}  // namespace verbatim::test
