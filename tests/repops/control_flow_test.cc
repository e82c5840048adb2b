// If, Loop and Scan: conditions, trip counts, states, scan outputs, captures, bodies within bodies,
// and what must be refused.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <verbatim/repops/executor.h>
#include <verbatim/repops/ops/control_flow.h>

#include "repops/op_support.h"
#include "support/body.h"
#include "support/random_tensor.h"

namespace verbatim::testing {
namespace {

ValueId op(GraphBuilder& b, const char* name, std::vector<ValueId> in, Attributes a = {}) {
  return b.add(name, "", std::move(in), std::move(a));
}

const Tensor kTrue = *Tensor::scalar(true), kFalse = *Tensor::scalar(false);
Tensor number(int64_t n) { return *Tensor::scalar(n); }

// --- If

Attributes branches() {
  return {{"then_branch", body_of(2,
                                  [](GraphBuilder& b, auto in) {
                                    return std::vector{op(b, "Add", {in[0], in[1]}), in[0]};
                                  })},
          {"else_branch", body_of(2, [](GraphBuilder& b, auto in) {
             return std::vector{op(b, "Neg", {in[1]}), in[1]};
           })}};
}

TEST(If, RunsTheBranchThatItsConditionNames) {
  const Tensor a = floats({2}, {1, 2}), b = floats({2}, {10, 20});
  const auto yes = evaluate("If", {kTrue, a, b}, branches(), 2);
  expect_output(yes, floats({2}, {11, 22}));
  expect_output(yes, a, 1);
  const auto no = evaluate("If", {bools({1, 1}, {false}), a, b}, branches(), 2);
  expect_output(no, floats({2}, {-10, -20}));
  expect_output(no, b, 1);
}

TEST(If, WantsOneBoolAndTwoFittingBranches) {
  const Tensor a = floats({2}, {1, 2});
  const auto error = [&](const Tensors& in, Attributes attributes, const std::string& part) {
    expect_error(evaluate("If", in, std::move(attributes), 2), StatusCode::bad_input, part);
  };
  error({number(1), a, a}, branches(), "the condition is int64 [], not one bool");
  error({bools({2}, {true, true}), a, a}, branches(), "the condition is bool [2], not one bool");
  error({kTrue, a}, branches(), "then_branch has 2 inputs, the node's form wants 1");
  Attributes one = branches();
  one.erase("else_branch");
  error({kFalse, a, a}, one, "attribute 'else_branch' is missing");
  one.set("else_branch", int64_t{1});
  error({kFalse, a, a}, one, "attribute 'else_branch' has the wrong type");
  const Tensor three = floats({3}, {1, 2, 3});
  error({kTrue, a, three}, branches(), "If: then_branch: node 0: Add: ");
}

// --- Loop

// (trip, condition, sum, captured) to (trip < 3, sum + captured, trip): three more trips at most.
Body adding() {
  return body_of(4, [](GraphBuilder& b, auto in) {
    const ValueId sum = op(b, "Add", {in[2], in[3]});
    const ValueId limit = op(b, "Size", {op(b, "ConstantOfShape", {in[3]})});
    return std::vector{op(b, "Less", {in[0], limit}), sum, in[0]};
  });
}

// The captured value, [3], is both the increment and the limit: a tensor of shape [3] has 3
// elements.
Result<Tensors> add_up(Tensor most, Tensor condition) {
  return evaluate(
      "Loop", {most, condition, integers({1}, {100}), integers({1}, {3})},
      {{"body", adding()}, {"captures", int64_t{1}}, {"scan_types", std::vector<int64_t>{7, 0}}},
      2);
}

void expect_sum(const Result<Tensors>& have, int64_t trips) {
  expect_output(have, integers({1}, {100 + 3 * trips}));
  std::vector<int64_t> numbers;
  for (int64_t t = 0; t < trips; ++t) numbers.push_back(t);
  expect_output(have, integers({trips}, numbers), 1);
}

TEST(Loop, EndsAtTheTripCountOrTheCondition) {
  expect_sum(add_up(number(2), kTrue), 2);
  expect_sum(add_up(integers({1}, {100}), kTrue), 4);  // trip 3 says that it is the last
  expect_sum(add_up(Tensor(), bools({1}, {true})), 4);
  expect_sum(add_up(number(INT64_MAX), kTrue), 4);
  // Without a condition of its own what the body says does not end it.
  expect_sum(add_up(number(7), Tensor()), 7);
}

TEST(Loop, OfNoTripsGivesItsStateAndEmptyScans) {
  expect_sum(add_up(number(0), kTrue), 0);
  expect_sum(add_up(number(-5), kTrue), 0);
  expect_sum(add_up(number(5), kFalse), 0);
  expect_sum(add_up(Tensor(), kFalse), 0);
  const Tensors in = {number(0), kTrue, integers({1}, {100}), integers({1}, {3})};
  const auto with = [&](std::vector<int64_t> types) {
    return evaluate(
        "Loop", in,
        {{"body", adding()}, {"captures", int64_t{1}}, {"scan_types", std::move(types)}}, 2);
  };
  expect_output(with({1, 2, -1, 4}), floats({0, 0, 4}, {}), 1);
  expect_error(with({}), StatusCode::bad_input, "no trips, and no type is stated");
  expect_error(with({1, -1}), StatusCode::bad_input, "no trips, and no type is stated");
  expect_error(with({1, 2, 3}), StatusCode::bad_input, "dimension below -1");
  expect_error(with({1, 0, 1}), StatusCode::bad_input, "not of 1 outputs");
  expect_error(with({1, 8}), StatusCode::bad_input, "rank 8");
}

TEST(Loop, TellsItsBodyTripAndCondition) {
  // The condition that the body gives is the next trip's, whether it counts or not.
  const Body body = body_of(2, [](GraphBuilder& b, auto in) {
    return std::vector{op(b, "Not", {in[1]}), in[0], in[1]};
  });
  const auto have = evaluate("Loop", {number(3), Tensor()}, {{"body", body}}, 2);
  expect_output(have, integers({3}, {0, 1, 2}));
  expect_output(have, bools({3}, {true, false, true}), 1);
}

TEST(Loop, RefusesWhatChanges) {
  const Body casts = body_of(3, [](GraphBuilder& b, auto in) {
    return std::vector{in[1], op(b, "Cast", {in[2]}, {{"to", int64_t{1}}})};
  });
  expect_error(evaluate("Loop", {number(2), kTrue, integers({1}, {1})}, {{"body", casts}}),
               StatusCode::bad_input, "body: state 0 becomes float32 [1], was int64 [1]");
  const Body grows = body_of(3, [](GraphBuilder& b, auto in) {
    const ValueId longer = op(b, "Concat", {in[2], in[2]}, {{"axis", int64_t{0}}});
    return std::vector{in[1], longer, longer};
  });
  expect_error(evaluate("Loop", {number(2), kTrue, integers({1}, {1})}, {{"body", grows}}, 2),
               StatusCode::bad_input, "body: scan output 0: is int64 [4] in trip 1, was int64 [2]");
  const Body number_for_condition = body_of(2, [](GraphBuilder&, auto in) {
    return std::vector{in[0], in[0]};
  });
  expect_error(evaluate("Loop", {number(2), kTrue}, {{"body", number_for_condition}}),
               StatusCode::bad_input,
               "body: the condition that it gives is int64 [], not one bool");
}

TEST(Loop, RefusesOperandsOfAWrongForm) {
  const auto error = [&](Tensors in, Attributes attributes, const std::string& part) {
    attributes.set("body", adding());
    expect_error(evaluate("Loop", in, std::move(attributes), 2), StatusCode::bad_input, part);
  };
  const Tensor one = integers({1}, {1});
  const Attributes captures = {{"captures", int64_t{1}}};
  error({floats({}, {3}), kTrue, one, one}, captures, "the trip count is float32 []");
  error({integers({2}, {1, 2}), kTrue, one, one}, captures, "the trip count has 2 values");
  error({number(1), one, one, one}, captures, "the condition is int64 [1]");
  error({number(1), kTrue, Tensor(), one}, captures, "input 2 is missing");
  error({number(1), kTrue, one, one}, {{"captures", int64_t{3}}}, "'captures' is 3");
  error({number(1), kTrue, one, one}, {{"captures", int64_t{-1}}}, "'captures' is -1");
  error({number(1), kTrue, one}, captures, "body has 4 inputs, the node's form wants 3");
  error({number(1)}, {}, "1 inputs");
  expect_error(evaluate("Loop", {number(1), kTrue}), StatusCode::bad_input,
               "attribute 'body' is missing");
}

// --- Scan

// (state, a, b) to (state + a, a, b).
Body running() {
  return body_of(3, [](GraphBuilder& b, auto in) {
    return std::vector{op(b, "Add", {in[0], in[1]}), in[1], in[2]};
  });
}

TEST(Scan, ReadsAndWritesAlongAxesInEitherDirection) {
  const Tensor a = floats({2, 3}, {1, 2, 3, 4, 5, 6}), b = floats({3, 2}, {1, 2, 3, 4, 5, 6});
  const auto run = [&](Attributes attributes, const Tensor& first) {
    attributes.set("body", running());
    attributes.set("num_scan_inputs", int64_t{2});
    return evaluate(
        "Scan",
        {floats({first.dim(1)}, std::vector<float>(static_cast<size_t>(first.dim(1)), 0)), first,
         b},
        attributes, 3);
  };
  using Ints = std::vector<int64_t>;
  const auto plain = run({}, b);
  expect_output(plain, floats({2}, {9, 12}));
  expect_output(plain, b, 1);
  const auto back = run({{"scan_input_directions", Ints{1, 0}}}, b);
  expect_output(back, floats({3, 2}, {5, 6, 3, 4, 1, 2}), 1);
  expect_output(back, b, 2);
  const auto out =
      run({{"scan_output_directions", Ints{1, 0}}, {"scan_output_axes", Ints{1, -1}}}, b);
  expect_output(out, floats({2, 3}, {5, 3, 1, 6, 4, 2}), 1);
  expect_output(out, floats({2, 3}, {1, 3, 5, 2, 4, 6}), 2);
  Attributes across = {{"scan_input_axes", Ints{-1, 0}}};
  across.set("body", running());
  across.set("num_scan_inputs", int64_t{2});
  const auto columns = evaluate("Scan", {floats({2}, {0, 0}), a, b}, across, 3);
  expect_output(columns, floats({2}, {6, 15}));
  expect_output(columns, floats({3, 2}, {1, 4, 2, 5, 3, 6}), 1);
}

TEST(Scan, RefusesWhatDoesNotFit) {
  const Tensor zero = floats({2}, {0, 0}), b = floats({3, 2}, {1, 2, 3, 4, 5, 6});
  const auto error = [&](const Tensors& in, const char* name, std::vector<int64_t> list,
                         const std::string& part) {
    Attributes attributes = {{"body", running()}, {"num_scan_inputs", int64_t{2}}};
    if (*name != 0) attributes.set(name, std::move(list));
    expect_error(evaluate("Scan", in, attributes, 3), StatusCode::bad_input, part);
  };
  error({zero, b, floats({2, 2}, {1, 2, 3, 4})}, "", {},
        "scan input 1 has 2 slices, the first has 3");
  error({zero, b, floats({}, {1})}, "", {}, "scan input 1: axis 0 is outside rank 0");
  error({zero, b, b}, "scan_input_axes", {0}, "'scan_input_axes' has 1 values for 2");
  error({zero, b, b}, "scan_input_directions", {0, 2}, "'scan_input_directions' has 2");
  error({zero, b, b}, "scan_output_axes", {0, 2}, "axis 2 of an output of rank 2");
  error({zero, b, Tensor()}, "", {}, "scan input 1 is missing");
  expect_error(evaluate("Scan", {zero}, {{"body", running()}, {"num_scan_inputs", int64_t{2}}}, 3),
               StatusCode::bad_input, "'num_scan_inputs' is 2");
}

TEST(Scan, OfAnEmptySequenceGivesEmptyOutputs) {
  Attributes attributes = {{"body", running()},
                           {"num_scan_inputs", int64_t{2}},
                           {"scan_output_axes", std::vector<int64_t>{1, 0}},
                           {"scan_types", std::vector<int64_t>{1, 1, 2, 1, 0}}};
  const Tensor empty = floats({0, 2}, {});
  const auto have = evaluate("Scan", {floats({2}, {7, 8}), empty, empty}, attributes, 3);
  expect_output(have, floats({2}, {7, 8}));
  expect_output(have, floats({2, 0}, {}), 1);
  expect_output(have, floats({0}, {}), 2);
}

// --- a Loop of n trips is its body n times

struct Unrolled {
  Graph loop, plain;
  Tensors inputs;
};

// A state of [rows, n], carried through one to four random layers with captured weights; the scan
// elements are the states.
Unrolled random_loop(test::Random& random, int64_t trips) {
  const int64_t rows = random.between(1, 4), n = random.between(1, 6);
  std::vector<std::pair<const char*, Tensor>> layers;
  for (int64_t i = random.between(1, 4); i > 0; --i) {
    constexpr const char* kOps[] = {"MatMul", "Add", "Mul", "Tanh", "Softmax"};
    const char* name = kOps[random.below(5)];
    layers.emplace_back(name, random.floats(name == kOps[0] ? Shape{n, n} : Shape{n}));
  }
  const auto layer = [&](GraphBuilder& b, ValueId x, const std::vector<ValueId>& weights) {
    for (size_t i = 0; i < layers.size(); ++i) {
      const bool binary = std::string_view(layers[i].first).size() < 7 && layers[i].first[0] != 'T';
      x = binary ? op(b, layers[i].first, {x, weights[i]}) : op(b, layers[i].first, {x});
    }
    return x;
  };
  const auto weights = [&](GraphBuilder& b) {
    std::vector<ValueId> values;
    for (size_t i = 0; i < layers.size(); ++i)
      values.push_back(b.constant("w" + std::to_string(i), layers[i].second));
    return values;
  };
  Unrolled u;
  u.inputs = {random.floats({rows, n}, true)};
  GraphBuilder looping, plain;
  const auto count = static_cast<int64_t>(layers.size());
  const Body body = body_of(static_cast<int>(3 + count), [&](GraphBuilder& b, auto in) {
    const ValueId x = layer(b, in[2], {in.begin() + 3, in.end()});
    return std::vector{in[1], x, x};
  });
  std::vector<ValueId> in = {kAbsent, kAbsent, looping.input("x", DType::f32, {rows, n})};
  in[0] = looping.constant("trips", number(trips));
  for (const ValueId w : weights(looping)) in.push_back(w);
  const ValueId last = looping.add("Loop", "", in, {{"body", body}, {"captures", count}}, "", 2);
  looping.output("last", last);
  looping.output("all", last + 1);
  ValueId x = plain.input("x", DType::f32, {rows, n});
  const std::vector<ValueId> values = weights(plain);
  const ValueId axis = plain.constant("axis", integers({1}, {0}));
  std::vector<ValueId> all;
  for (int64_t t = 0; t < trips; ++t) {
    x = layer(plain, x, values);
    all.push_back(op(plain, "Unsqueeze", {x, axis}));
  }
  plain.output("last", x);
  plain.output("all", op(plain, "Concat", all, {{"axis", int64_t{0}}}));
  u.loop = *looping.finish();
  u.plain = *plain.finish();
  return u;
}

RC_GTEST_PROP(Loop, IsItsBodyWrittenOutBitForBit, ()) {
  test::Random random(*rc::gen::arbitrary<uint64_t>());
  const Unrolled u = random_loop(random, random.between(1, 9));
  const auto backend = make_reference_backend();
  const Tensors have = *Executor::create(u.loop, *backend)->run_step(0, u.inputs),
                want = *Executor::create(u.plain, *backend)->run_step(0, u.inputs);
  for (size_t i = 0; i < 2; ++i) RC_ASSERT(identical(have[i], want[i]));
}

// --- bodies within bodies, and where their nodes run

// x * 2^(rows * columns), by a Loop in a Loop in an If.
Graph nested() {
  const Body inner = body_of(4, [](GraphBuilder& b, auto in) {  // trip, condition, x, two
    return std::vector{in[1], op(b, "Mul", {in[2], in[3]})};
  });
  const Body outer = body_of(5, [&](GraphBuilder& b, auto in) {  // trip, condition, x, two, columns
    const ValueId x = b.add("Loop", "", {in[4], in[1], in[2], in[3]},
                            {{"body", inner}, {"captures", int64_t{1}}}, "inner");
    return std::vector{in[1], x};
  });
  const Body branch = body_of(4, [&](GraphBuilder& b, auto in) {  // x, rows, columns, two
    return std::vector{b.add("Loop", "", {in[1], kAbsent, in[0], in[3], in[2]},
                             {{"body", outer}, {"captures", int64_t{2}}}, "outer")};
  });
  const Body other = body_of(4, [](GraphBuilder&, auto in) { return std::vector{in[0]}; });
  GraphBuilder b;
  const ValueId condition = b.input("condition", DType::boolean, {}),
                x = b.input("x", DType::f32, {-1}), rows = b.input("rows", DType::i64, {}),
                columns = b.input("columns", DType::i64, {});
  b.output("y", b.add("If", "", {condition, x, rows, columns, b.constant("two", floats({}, {2}))},
                      {{"then_branch", branch}, {"else_branch", other}}, "choice"));
  Graph g = *b.finish();
  g.compute_roots();
  return g;
}

class Counting final : public Backend {
 public:
  std::string_view name() const override { return "counting"; }
  Status prepare(const Graph&) override { return {}; }
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override {
    ++ran[node.op];
    return evaluate_reference(node, inputs);
  }
  std::map<std::string, int> ran;
};

TEST(ControlFlow, BodiesWithinBodiesRunOnTheCallersBackend) {
  const Graph g = nested();
  Counting backend;
  const Executor executor = *Executor::create(g, backend);
  const Tensor x = floats({2}, {1, 3});
  expect_output(executor.run_step(0, Tensors{kTrue, x, number(2), number(3)}),
                floats({2}, {64, 192}));
  EXPECT_EQ(backend.ran, (std::map<std::string, int>{{"Mul", 6}}));
  expect_output(executor.run_step(0, Tensors{kFalse, x, number(2), number(3)}), x);
}

TEST(ControlFlow, ErrorsNameTheNestedPlace) {
  const Graph g = nested();
  const auto backend = make_reference_backend();
  const Executor executor = *Executor::create(g, *backend);
  expect_error(
      executor.run_step(0, Tensors{kTrue, floats({2}, {1, 3}), number(2), number(int64_t{1} << 62)},
                        {nullptr, [n = 0]() mutable { return ++n == 9; }, {}, {}}),
      StatusCode::deadline,
      "node 0: If choice: then_branch: node 0: Loop outer: body: node 0: Loop inner: ");
}

// A loop of nothing, whose condition is always true, ends when nobody wants it any more.
TEST(ControlFlow, AnEndlessLoopEndsWhenItIsToStop) {
  const Body idle = body_of(3, [](GraphBuilder&, auto in) { return std::vector{in[1], in[2]}; });
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {});
  b.output("y", b.add("Loop", "", {kAbsent, kAbsent, x}, {{"body", idle}}));
  const Graph g = *b.finish();
  const auto backend = make_reference_backend();
  int asked = 0;
  RunOptions options;
  options.stop = [&] { return ++asked == 1000; };
  expect_error(Executor::create(g, *backend)->run_step(3, Tensors{floats({}, {1})}, options),
               StatusCode::deadline, "stopped in step 3");
  EXPECT_EQ(asked, 1000);
}

// --- as data

TEST(ControlFlow, EncodesToCanonicalBytesThatBindTheBodies) {
  const Graph g = nested();
  const Bytes bytes = encode_graph(g);
  const Result<Graph> back = decode_graph(bytes, "g");
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(encode_graph(*back), bytes);
  Graph other = g;
  Graph branch = *std::get<Body>(g.nodes[0].attributes.map().at("then_branch"));
  branch.nodes[0].name = "renamed";
  other.nodes[0].attributes.set("then_branch", std::make_shared<const Graph>(branch));
  EXPECT_NE(program_root(other), program_root(g));
}

RC_GTEST_PROP(ControlFlow, MutatedEncodingsAreRefusedOrCanonical, ()) {
  static const Bytes original = encode_graph(nested());
  Bytes bytes = original;
  bytes[*rc::gen::inRange<size_t>(0, bytes.size())] ^=
      static_cast<std::byte>(*rc::gen::inRange(1, 256));
  const Result<Graph> g = decode_graph(bytes, "g");
  if (g.ok()) RC_ASSERT(encode_graph(*g) == bytes);
}

// An If within an If within ..., `depth` deep.
Graph deep(int depth) {
  Body branch = body_of(1, [](GraphBuilder&, auto in) { return std::vector{in[0]}; });
  for (int i = 1; i < depth; ++i) {
    GraphBuilder b;
    const ValueId condition = b.body_input("condition");
    b.output("y", b.add("If", "", {condition, condition},
                        {{"then_branch", branch}, {"else_branch", branch}}));
    // Validated at the end: finish() would see it as the outermost graph.
    branch = *b.finish_body();
  }
  GraphBuilder b;
  const ValueId condition = b.input("condition", DType::boolean, {});
  b.output("y", b.add("If", "", {condition, condition},
                      {{"then_branch", branch}, {"else_branch", branch}}));
  return *b.finish();
}

TEST(ControlFlow, BodiesAreBoundedInDepth) {
  const Graph most = deep(kMaxBodyDepth);
  EXPECT_TRUE(decode_graph(encode_graph(most), "g").ok());
  Graph more = most;
  Graph branch = *std::get<Body>(most.nodes[0].attributes.map().at("then_branch"));
  const Body again = std::make_shared<const Graph>([&] {
    Graph g = most;
    g.inputs[0].dtype = DType::undefined;
    return g;
  }());
  more.nodes[0].attributes.set("then_branch", again);
  EXPECT_EQ(more.validate().code(), StatusCode::limit);
  EXPECT_NE(more.validate().message().find("bodies more than 8 deep"), std::string::npos)
      << more.validate().message();
  const Status read = decode_graph(encode_graph(more), "g").status();
  EXPECT_NE(read.message().find("byte "), std::string::npos) << read.message();
  EXPECT_NE(read.message().find("bodies more than 8 deep"), std::string::npos) << read.message();
}

// The decoder goes no deeper than that, whatever else is wrong.
TEST(ControlFlow, BytesOfAMillionBodiesAreRefused) {
  Writer w;
  for (int depth = 0; depth < 1'000'000; ++depth) {
    w.u32(1);                  // values
    w.u32(0);                  // inputs
    if (depth == 0) w.u32(0);  // initializers
    w.u32(1);                  // nodes
    w.text("");
    w.text("If");
    w.text("");
    w.u32(1);
    w.text("then_branch");
    w.u8(8);
  }
  const Status status = decode_graph(w.bytes(), "g").status();
  EXPECT_NE(status.message().find("bodies more than 8 deep"), std::string::npos)
      << status.message();
}

TEST(ControlFlow, BodiesHaveNoWeightsTypesOrValuesThatNothingMakes) {
  const auto message = [](auto change) {
    Graph g = nested();
    Graph branch = *std::get<Body>(g.nodes[0].attributes.map().at("then_branch"));
    change(branch);
    g.nodes[0].attributes.set("then_branch", std::make_shared<const Graph>(std::move(branch)));
    return g.validate().message();
  };
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find("node 0 (If choice): then_branch: " + part), std::string::npos) << text;
  };
  has(message([](Graph& g) {
        g.initializers.push_back({"w", 0, floats({}, {1}), DType::f32, {}, {}});
      }),
      "a body with initializers");
  has(message([](Graph& g) { g.inputs[1].dtype = DType::f32; }), "input in1: a body's inputs");
  has(message([](Graph& g) { g.value_count = 1 << 22; }), "a body of 4194304 values that makes 5");
  has(message([](Graph& g) { g.nodes[0].inputs[2] = 4; }),
      "node 0 (Loop outer): input value 4 has no earlier producer");
  has(message([](Graph& g) { g.nodes[0].inputs.pop_back(); }),
      "node 0 (Loop outer): body has 5 inputs, the node's form wants 4");
  has(message([](Graph& g) { g.nodes[0].attributes.set("body", Body()); }),
      "node 0 (Loop outer): attribute 'body' is no graph");
  Graph g = nested();
  g.nodes[0].inputs.pop_back();
  EXPECT_NE(g.validate().message().find("then_branch has 4 inputs, the node's form wants 3"),
            std::string::npos);
}

}  // namespace
}  // namespace verbatim::testing
