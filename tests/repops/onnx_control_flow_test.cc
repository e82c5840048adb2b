// If, Loop and Scan of ONNX models: what bodies take from around them, the forms of older operator
// sets, and errors.
#include <gtest/gtest.h>

#include <chrono>

#include <verbatim/repops/executor.h>
#include <verbatim/repops/onnx/import.h>
#include <verbatim/repops/onnx/lower.h>
#include <verbatim/repops/ops/control_flow.h>

#include "repops/onnx_writer.h"
#include "repops/op_support.h"

namespace verbatim::testing {
namespace {

Result<Graph> import(const ModelParts& parts) {
  const std::string bytes = model_bytes(parts);
  return import_onnx(as_bytes(bytes), "test.onnx", "/nonexistent");
}

Result<Tensors> run(const ModelParts& parts, const Tensors& inputs) {
  VB_ASSIGN(Graph graph, import(parts));
  graph.compute_roots();
  VB_ASSIGN(const Graph decoded, decode_graph(encode_graph(graph), "test.onnx"));
  EXPECT_EQ(program_root(decoded), program_root(graph));
  const auto backend = make_reference_backend();
  VB_ASSIGN(const Executor executor, Executor::create(graph, *backend));
  return executor.run_step(0, inputs);
}

void expect_refused(const ModelParts& parts, StatusCode code, const std::string& part) {
  const Status status = import(parts).status();
  EXPECT_EQ(status.code(), code) << status.message();
  EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
}

Message floats_named(const std::string& name, int64_t n = -1) {
  return value_info(name, DType::f32, {n});
}
Message any(const std::string& name) { return Message().text(1, name); }  // of no stated type
Message scalar(const std::string& name, DType dtype) { return value_info(name, dtype, {}); }

ModelParts branch(std::vector<Message> nodes, const std::string& output) {
  return {18, std::move(nodes), {}, {any(output)}, {}};
}

// y = c ? x + w : s - x, where s = x * w is computed outside and w is a weight.
ModelParts choosing() {
  ModelParts p;
  p.inputs = {scalar("c", DType::boolean), floats_named("x")};
  p.outputs = {floats_named("y")};
  p.initializers = {tensor_message(floats({2}, {10, 20}), "w")};
  p.nodes = {node("Mul", {"x", "w"}, {"s"}),
             node("If", {"c"}, {"y"},
                  {attribute("then_branch", branch({node("Add", {"x", "w"}, {"t"})}, "t")),
                   attribute("else_branch", branch({node("Sub", {"s", "x"}, {"e"})}, "e"))})};
  return p;
}

TEST(OnnxControlFlow, WhatABranchTakesFromOutsideIsAnInput) {
  const Tensor x = floats({2}, {1, 2}), yes = *Tensor::scalar(true), no = *Tensor::scalar(false);
  expect_output(run(choosing(), {yes, x}), floats({2}, {11, 22}));
  expect_output(run(choosing(), {no, x}), floats({2}, {9, 38}));
  const Graph g = *import(choosing());
  ASSERT_EQ(g.nodes.size(), 2u);
  const Node& n = g.nodes[1];
  // The condition, then x and w for the first branch, then s for the second.
  EXPECT_EQ(n.inputs, (std::vector<ValueId>{g.inputs[0].value, g.inputs[1].value,
                                            g.initializers[0].value, g.nodes[0].outputs[0]}));
  for (const BodyCaptures& c : body_captures(n)) {
    ASSERT_EQ(c.body->inputs.size(), 3u);
    EXPECT_EQ(c.body->inputs[0].name, "x");
    EXPECT_EQ(c.body->inputs[1].name, "w");
    EXPECT_EQ(c.body->inputs[2].name, "s");
  }
}

// What a body reads counts for the order of nodes.
TEST(OnnxControlFlow, NodesComeInAnyOrder) {
  ModelParts p = choosing();
  std::swap(p.nodes[0], p.nodes[1]);
  expect_output(run(p, {*Tensor::scalar(false), floats({2}, {1, 2})}), floats({2}, {9, 38}));
  p.nodes[1] = node("Mul", {"y", "w"}, {"s"});
  expect_refused(p, StatusCode::bad_input, "cycle");
}

TEST(OnnxControlFlow, AnIfOfAConstantConditionIsItsBranch) {
  ModelParts p = choosing();
  p.inputs.erase(p.inputs.begin());
  for (const bool c : {true, false}) {
    p.initializers.resize(1);
    p.initializers.push_back(tensor_message(bools({1}, {c}), "c"));
    const Graph g = *import(p);
    EXPECT_EQ(g.nodes.back().op, c ? "Add" : "Sub");
    expect_output(run(p, {floats({2}, {1, 2})}),
                  floats({2}, c ? std::vector<float>{11, 22} : std::vector<float>{9, 38}));
  }
  // The branch that is not taken is not looked at; the other one's errors have its place.
  p.nodes[1] = node("If", {"c"}, {"y"},
                    {attribute("then_branch", branch({node("Nonsense", {"x"}, {"t"})}, "t")),
                     attribute("else_branch", branch({node("Neg", {"x"}, {"e"})}, "e"))});
  EXPECT_TRUE(import(p).ok());
  p.initializers[1] = tensor_message(bools({}, {true}), "c");
  expect_refused(p, StatusCode::unsupported, "node 1 (If ): then_branch: node 0 (Nonsense ): ");
}

// sum of (i + x * w) over i < n while the sum's first element is below 100; w and 2 are the body's
// own constants, and its names hide those around it.
ModelParts looping(const std::vector<int64_t>& scalar_dims) {
  ModelParts body;
  body.inputs = {value_info("i", DType::i64, scalar_dims),
                 value_info("go", DType::boolean, scalar_dims), floats_named("sum")};
  body.outputs = {scalar("next", DType::boolean), floats_named("y"),
                  value_info("f", DType::f32, scalar_dims)};
  body.initializers = {tensor_message(floats({2}, {10, 20}), "w")};
  body.nodes = {node("Constant", {}, {"limit"}, {attribute("value", floats({}, {100}))}),
                node("Cast", {"i"}, {"f"}, {attribute("to", int64_t{1})}),
                node("Mul", {"x", "w"}, {"product"}),
                node("Sum", {"f", "product", "sum"}, {"y"}),
                node("ReduceSum", {"y"}, {"all"}, {attribute("keepdims", int64_t{0})}),
                node("Less", {"all", "limit"}, {"next"})};
  ModelParts p;
  p.inputs = {scalar("n", DType::i64), floats_named("x"), floats_named("zero")};
  p.outputs = {floats_named("y"), floats_named("trips")};
  p.initializers = {tensor_message(floats({2}, {5, 5}), "w"),
                    tensor_message(bools({}, {true}), "c")};
  p.nodes = {node("Loop", {"n", "c", "zero"}, {"y", "trips"}, {attribute("body", body)})};
  return p;
}

TEST(OnnxControlFlow, ALoopsConstantsAreItsGraphs) {
  const Tensor x = floats({2}, {1, 1}), zero = floats({2}, {0, 0});
  const auto two = run(looping({}), {*Tensor::scalar(int64_t{2}), x, zero});
  expect_output(two, floats({2}, {21, 41}));
  expect_output(two, floats({2}, {0, 1}), 1);
  const auto many = run(looping({}), {*Tensor::scalar(int64_t{9}), x, zero});
  expect_output(many, floats({4}, {0, 1, 2, 3}), 1);
  const auto none = run(looping({}), {*Tensor::scalar(int64_t{0}), x, zero});
  expect_output(none, zero);
  expect_output(none, floats({0}, {}), 1);
  // A body may state its scalars as tensors of one element.
  const auto one = run(looping({1}), {*Tensor::scalar(int64_t{2}), x, zero});
  expect_output(one, floats({2}, {21, 41}));
  expect_output(one, floats({2, 1}, {0, 1}), 1);
  const Graph g = *import(looping({}));
  ASSERT_EQ(g.initializers.size(), 4u);
  EXPECT_EQ(g.initializers[2].name, "w#2");
  EXPECT_EQ(g.nodes[0].inputs.size(), 6u);  // x, w and the limit besides its own
}

TEST(OnnxControlFlow, ALoopWithoutTripCountOrState) {
  ModelParts body;
  body.inputs = {any("i"), any("go")};
  body.outputs = {any("next"), scalar("square", DType::i64)};
  body.nodes = {node("Mul", {"i", "i"}, {"square"}), node("Less", {"square", "most"}, {"next"})};
  ModelParts p;
  p.inputs = {scalar("most", DType::i64)};
  p.initializers = {tensor_message(bools({}, {true}), "c")};
  p.outputs = {floats_named("squares")};
  p.nodes = {node("Loop", {"", "c"}, {"squares"}, {attribute("body", body)})};
  expect_output(run(p, {*Tensor::scalar(int64_t{5})}), integers({4}, {0, 1, 4, 9}));
}

// (s, x) to (s + x, s + x).
ModelParts summing() {
  ModelParts body;
  body.inputs = {floats_named("s"), floats_named("x")};
  body.outputs = {floats_named("sum", 2), floats_named("copy", 2)};
  body.nodes = {node("Add", {"s", "x"}, {"sum"}), node("Identity", {"sum"}, {"copy"})};
  return body;
}

ModelParts scanning(int64_t opset, std::vector<std::string> inputs,
                    std::vector<Message> attributes) {
  ModelParts p;
  p.opset = opset;
  p.outputs = {floats_named("y"), floats_named("all")};
  for (const std::string& name : inputs)
    if (!name.empty())
      p.inputs.push_back(name == "lengths" ? value_info(name, DType::i64, {-1})
                         : name == "s"     ? value_info(name, DType::f32,
                                                    opset == 8 ? std::vector<int64_t>{-1, 2}
                                                                   : std::vector<int64_t>{2})
                                           : value_info(name, DType::f32,
                                                    opset == 8 ? std::vector<int64_t>{-1, -1, 2}
                                                                   : std::vector<int64_t>{-1, 2}));
  attributes.push_back(attribute("num_scan_inputs", int64_t{1}));
  attributes.push_back(attribute("body", summing()));
  p.nodes = {node("Scan", std::move(inputs), {"y", "all"}, std::move(attributes))};
  return p;
}

TEST(OnnxControlFlow, ScanOfOperatorSetNine) {
  const Tensor s = floats({2}, {0, 0}), x = floats({3, 2}, {1, 2, 3, 4, 5, 6});
  const auto have = run(scanning(9, {"s", "x"}, {}), {s, x});
  expect_output(have, floats({2}, {9, 12}));
  expect_output(have, floats({3, 2}, {1, 2, 4, 6, 9, 12}), 1);
  const auto none = run(scanning(9, {"s", "x"}, {}), {s, floats({0, 2}, {})});
  expect_output(none, floats({0, 2}, {}), 1);
}

TEST(OnnxControlFlow, ScanOfOperatorSetEightHasABatchAndLengths) {
  const Tensor s = floats({2, 2}, {0, 0, 100, 100}),
               x = floats({2, 3, 2}, {1, 2, 3, 4, 5, 6, 1, 1, 2, 2, 3, 3});
  const auto whole = run(scanning(8, {"", "s", "x"}, {}), {s, x});
  expect_output(whole, floats({2, 2}, {9, 12, 106, 106}));
  expect_output(whole, floats({2, 3, 2}, {1, 2, 4, 6, 9, 12, 101, 101, 103, 103, 106, 106}), 1);
  const auto part = run(scanning(8, {"lengths", "s", "x"}, {}), {integers({2}, {2, 3}), s, x});
  expect_output(part, floats({2, 2}, {4, 6, 106, 106}));
  expect_output(part, floats({2, 3, 2}, {1, 2, 4, 6, 0, 0, 101, 101, 103, 103, 106, 106}), 1);
  // Too long is the whole; a sequence of no slices leaves its state.
  const auto odd = run(scanning(8, {"lengths", "s", "x"}, {}), {integers({2}, {-1, 9}), s, x});
  expect_output(odd, floats({2, 2}, {0, 0, 106, 106}));
  expect_output(odd, floats({2, 3, 2}, {0, 0, 0, 0, 0, 0, 101, 101, 103, 103, 106, 106}), 1);
  const auto back =
      run(scanning(8, {"lengths", "s", "x"}, {attribute("directions", std::vector<int64_t>{1})}),
          {integers({2}, {2, 3}), s, x});
  expect_output(back, floats({2, 3, 2}, {3, 4, 4, 6, 0, 0, 103, 103, 105, 105, 106, 106}), 1);
}

// As of operator set 9, what comes of no trips has the type that the file states.
TEST(OnnxControlFlow, ScanOfOperatorSetEightHasTheFilesTypesForABatchOfNone) {
  const Tensor s = floats({0, 2}, {}), x = floats({0, 3, 2}, {});
  const auto whole = run(scanning(8, {"", "s", "x"}, {}), {s, x});
  expect_output(whole, floats({0, 2}, {}));
  expect_output(whole, floats({0, 0, 2}, {}), 1);
  const auto part = run(scanning(8, {"lengths", "s", "x"}, {}), {integers({0}, {}), s, x});
  expect_output(part, floats({0, 2}, {}));
  expect_output(part, floats({0, 0, 2}, {}), 1);
}

TEST(OnnxControlFlow, ABodyMayGiveAValueTwiceAndWhatIsNotItsOwn) {
  ModelParts p = choosing();
  p.outputs.push_back(floats_named("z"));
  const ModelParts twice = {18, {}, {}, {any("x"), any("x")}, {}};
  p.nodes[1] = node("If", {"c"}, {"y", "z"},
                    {attribute("then_branch", twice), attribute("else_branch", twice)});
  const Tensor x = floats({2}, {1, 2});
  const auto have = run(p, {*Tensor::scalar(true), x});
  expect_output(have, x);
  expect_output(have, x, 1);
}

TEST(OnnxControlFlow, ErrorsNameTheNestedPlace) {
  ModelParts p = choosing();
  const auto with = [&](const ModelParts& then_branch) {
    p.nodes[1] = node("If", {"c"}, {"y"},
                      {attribute("then_branch", then_branch),
                       attribute("else_branch", branch({node("Neg", {"x"}, {"e"})}, "e"))},
                      "choice");
    return p;
  };
  const auto at = [&](const ModelParts& parts) {
    return "byte " + std::to_string(model_bytes(parts).find(parts.nodes[1].bytes())) +
           ": node 1 (If choice): ";
  };
  const ModelParts nonsense = with(branch({node("Nonsense", {"x"}, {"t"}, {}, "n")}, "t"));
  expect_refused(nonsense, StatusCode::unsupported,
                 at(nonsense) + "then_branch: node 0 (Nonsense n): operator 'Nonsense'");
  expect_refused(with(branch({node("Neg", {"nowhere"}, {"t"})}, "t")), StatusCode::bad_input,
                 "then_branch: node 0 reads 'nowhere', which nothing produces");
  expect_refused(with(branch({node("Neg", {"x"}, {"t"})}, "u")), StatusCode::bad_input,
                 "then_branch: output 'u' is not produced");
  expect_refused(with(branch({}, "e")), StatusCode::bad_input,
                 "then_branch: output 'e' is not produced");  // the other branch's
  ModelParts inputs = branch({node("Neg", {"x"}, {"t"})}, "t");
  inputs.inputs = {floats_named("a")};
  expect_refused(with(inputs), StatusCode::bad_input, "a body of 1 inputs, the node gives 0");
  ModelParts two = branch({node("Neg", {"x"}, {"t"})}, "t");
  two.outputs.push_back(any("x"));
  expect_refused(with(two), StatusCode::bad_input, "its branches give 2 and 1 outputs");
  expect_refused(with(branch({node("Add", {"x"}, {"t"})}, "t")), StatusCode::bad_input,
                 "then_branch: node 0 (Add t): 1 inputs");
  p.nodes[1] = node("If", {"c"}, {"y"}, {attribute("then_branch", branch({}, "x"))});
  expect_refused(p, StatusCode::bad_input, "it has not two branches");
  p = looping({});
  p.nodes = {node("Loop", {"n", "c", "zero"}, {"y"}, {attribute("body", summing())})};
  expect_refused(p, StatusCode::bad_input,
                 "node 0 (Loop ): body: a body of 2 inputs, the node gives 3");
  p.nodes = {node("Loop", {"n", "c"}, {"y", "z"}, {attribute("body", summing())})};
  expect_refused(p, StatusCode::bad_input, "2 outputs, its body gives 1");
  p.nodes = {node("Loop", {"n", "c"}, {"y"})};
  expect_refused(p, StatusCode::bad_input, "attribute 'body' is missing");
  p.nodes = {node("Scan", {"zero"}, {"y"}, {attribute("body", summing())})};
  expect_refused(p, StatusCode::bad_input, "attribute 'num_scan_inputs' is missing");
}

TEST(OnnxControlFlow, BodiesAreBoundedInDepth) {
  const auto deep = [](int depth) {
    ModelParts inner = branch({node("Neg", {"x"}, {"y"})}, "y");
    for (int i = 1; i < depth; ++i)
      inner = branch(
          {node("If", {"c"}, {"y"},
                {attribute("then_branch", inner), attribute("else_branch", branch({}, "x"))})},
          "y");
    ModelParts p = choosing();
    p.nodes = {node("If", {"c"}, {"y"},
                    {attribute("then_branch", inner), attribute("else_branch", branch({}, "x"))})};
    return p;
  };
  expect_output(run(deep(kMaxBodyDepth), {*Tensor::scalar(true), floats({2}, {1, 2})}),
                floats({2}, {-1, -2}));
  expect_refused(deep(kMaxBodyDepth + 1), StatusCode::limit, "bodies more than 8 deep");
  EXPECT_FALSE(import(deep(100)).ok());  // the parser's own limit
}

std::vector<std::string> names_of(const Graph& body) {
  std::vector<std::string> names;
  for (const GraphOutput& out : body.outputs) names.push_back(out.name);
  return names;
}

// Roots depend on these names.
TEST(OnnxControlFlow, EqualNamesAreNumbered) {
  const std::vector<std::string> want = {"a", "a#2", "a#3", "a#4", "a#2#2"};
  ModelParts p = choosing(), body = {18, {}, {}, {}, {}};
  std::vector<std::string> outputs;
  for (const char* name : {"a", "a#2", "a", "a", "a#2"}) {
    body.outputs.push_back(any(name));
    outputs.push_back("y" + std::to_string(outputs.size()));
  }
  body.nodes = {node("Neg", {"x"}, {"a"}), node("Neg", {"a"}, {"a#2"})};
  p.outputs = {floats_named("y0")};
  p.nodes = {
      node("If", {"c"}, outputs, {attribute("then_branch", body), attribute("else_branch", body)})};
  const Graph g = *import(p);
  EXPECT_EQ(names_of(*std::get<Body>(g.nodes[0].attributes.map().at("then_branch"))), want);

  onnx::Emitter emitter;
  for (const char* name : {"a", "a#2", "a", "a", "a#2"}) emitter.constant(name, floats({}, {1}));
  const Graph constants = *emitter.finish();
  for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(constants.initializers[i].name, want[i]);
}

TEST(OnnxControlFlow, EqualNamesTakeNoLongerThanOthers) {
  constexpr int kMany = 1 << 15;
  ModelParts p = choosing(), body = {18, {}, {}, {}, {}};
  for (int i = 0; i < kMany; ++i) body.outputs.push_back(any("x"));
  p.nodes[1] =
      node("If", {"c"}, {"y"}, {attribute("then_branch", body), attribute("else_branch", body)});
  const auto start = std::chrono::steady_clock::now();
  const Result<Graph> g = import(p);
  ASSERT_TRUE(g.ok()) << g.status().message();
  EXPECT_EQ(names_of(*std::get<Body>(g->nodes[1].attributes.map().at("then_branch"))).back(),
            "x#32768");
  onnx::Emitter emitter;
  for (int i = 0; i < kMany; ++i) emitter.constant("w", floats({}, {1}));
  EXPECT_EQ(emitter.finish()->initializers.back().name, "w#32768");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(OnnxControlFlow, OutputsOfABodyAreBounded) {
  ModelParts p = choosing(), body = {18, {}, {}, {}, {}};
  for (int i = 0; i <= 1 << 16; ++i) body.outputs.push_back(any("x" + std::to_string(i)));
  body.nodes = {node("Nonsense", {"x"}, {"x0"})};
  p.nodes[1] =
      node("If", {"c"}, {"y"}, {attribute("then_branch", body), attribute("else_branch", body)});
  expect_refused(p, StatusCode::limit, "then_branch: a body of 65537 outputs");
}

// What follows from constants is remembered for the conditions of Ifs, as far as it is small.
TEST(OnnxControlFlow, LittleOfWhatFollowsFromConstantsIsKept) {
  onnx::Emitter emitter;
  const Tensor column = *Tensor::zeros(DType::f32, Shape{64, 1}),
               row = *Tensor::zeros(DType::f32, Shape{1, 64});
  const ValueId a = emitter.constant("a", column), b = emitter.constant("b", row);
  const auto known = [&](std::string_view op, std::vector<ValueId> inputs, Attributes attributes) {
    return emitter.known(emitter.emit(op, std::move(inputs), std::move(attributes), "")) != nullptr;
  };
  EXPECT_TRUE(known("Add", {a, a}, {}));
  EXPECT_FALSE(known("Add", {a, b}, {}));
  EXPECT_FALSE(known("Concat", {a, a}, {{"axis", int64_t{0}}}));
  EXPECT_FALSE(known("Gather", {b, emitter.constant("i", *Tensor::zeros(DType::i64, Shape{2}))},
                     {{"axis", int64_t{0}}}));
  // A million elements in all, those of bodies included.
  onnx::Emitter body(&emitter);
  const ValueId inside = body.reach(emitter, a, "a");
  int kept = 0;
  while (kept < 20000 && known("Add", {a, a}, {}) &&
         body.known(body.emit("Add", {inside, inside}, {}, "")) != nullptr)
    ++kept;
  EXPECT_EQ(kept, 8191);
}

// Every truncation and many overwritten bytes: an error or a graph that decodes again.
TEST(OnnxControlFlow, MutatedModelsDoNotCrash) {
  for (const ModelParts& parts :
       {choosing(), looping({1}), scanning(8, {"lengths", "s", "x"}, {})}) {
    const std::string model = model_bytes(parts);
    const auto check = [](const std::string& bytes) {
      Result<Graph> g = import_onnx(as_bytes(bytes), "m", "");
      if (!g.ok()) return;
      g->compute_roots();
      EXPECT_TRUE(decode_graph(encode_graph(*g), "m").ok());
    };
    for (size_t n = 0; n < model.size(); ++n) check(model.substr(0, n));
    for (size_t at = 0; at < model.size(); ++at)
      for (int value : {0x00, 0x01, 0x7F, 0x80, 0xFF}) {
        std::string mutant = model;
        mutant[at] = static_cast<char>(value);
        check(mutant);
      }
  }
}

}  // namespace
}  // namespace verbatim::testing
