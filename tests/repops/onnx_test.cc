// The ONNX importer: models written byte by byte, old forms of operators, external data, and what
// must be refused.
#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>

#include <verbatim/core/file.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/onnx/import.h>

#include "repops/onnx_writer.h"
#include "repops/op_support.h"

namespace verbatim::testing {
namespace {

Result<Graph> import(const ModelParts& parts, const std::string& folder = "/nonexistent") {
  const std::string bytes = model_bytes(parts);
  return import_onnx(as_bytes(bytes), "test.onnx", folder);
}

Result<Tensors> run(const ModelParts& parts, const Tensors& inputs) {
  VB_ASSIGN(const Graph graph, import(parts));
  const auto backend = make_reference_backend();
  VB_ASSIGN(const Executor executor, Executor::create(graph, *backend));
  return executor.run_step(0, inputs);
}

// A model of one node with the given inputs (x, and constants) and one output.
ModelParts one_node(int64_t opset, const std::string& op,
                    const std::vector<std::pair<std::string, Tensor>>& constants,
                    const std::vector<Message>& attributes, const std::vector<int64_t>& dims) {
  ModelParts p;
  p.opset = opset;
  std::vector<std::string> names = {"x"};
  for (const auto& [name, value] : constants) {
    names.push_back(value.defined() ? name : "");
    if (value.defined()) p.initializers.push_back(tensor_message(value, name));
  }
  p.nodes = {node(op, names, {"y"}, attributes)};
  p.inputs = {value_info("x", DType::f32, dims)};
  p.outputs = {value_info("y", DType::f32, {})};
  return p;
}

void expect_refused(const Result<Graph>& graph, StatusCode code, const std::string& part) {
  ASSERT_FALSE(graph.ok());
  EXPECT_EQ(graph.status().code(), code) << graph.status().message();
  EXPECT_NE(graph.status().message().find(part), std::string::npos) << graph.status().message();
}

TEST(Onnx, RunsNodesInAnyOrder) {
  ModelParts p;
  p.nodes = {node("Mul", {"s", "two"}, {"y"}), node("Add", {"x", "two"}, {"s"}, {}, "first")};
  p.initializers = {tensor_message(floats({}, {2}), "two")};
  p.inputs = {value_info("x", DType::f32, {-1}),
              value_info("two", DType::f32, {})};  // with a default
  p.outputs = {value_info("y", DType::f32, {-1})};
  expect_output(run(p, {floats({2}, {1, 2})}), floats({2}, {6, 8}));
  const Result<Graph> g = import(p);
  ASSERT_TRUE(g.ok());
  EXPECT_EQ(g->inputs.size(), 1u);
  EXPECT_EQ(g->nodes[0].name, "first");
  EXPECT_EQ(g->nodes[1].name, "y");  // a node without a name has its output's
}

TEST(Onnx, OldFormsBecomeTheNewest) {
  const Tensor x = floats({2, 3}, {1, 2, 3, 4, 5, 6});
  const std::vector<int64_t> dims = {2, 3};
  const auto axes = std::vector<int64_t>{1};
  expect_output(run(one_node(11, "ReduceSum", {},
                             {attribute("axes", axes), attribute("keepdims", int64_t{0})}, dims),
                    {x}),
                floats({2}, {6, 15}));
  expect_output(run(one_node(13, "ReduceMax", {}, {attribute("axes", axes)}, dims), {x}),
                floats({2, 1}, {3, 6}));
  expect_output(run(one_node(11, "Unsqueeze", {}, {attribute("axes", axes)}, dims), {x}),
                floats({2, 1, 3}, {1, 2, 3, 4, 5, 6}));
  expect_output(
      run(one_node(1, "Reshape", {}, {attribute("shape", std::vector<int64_t>{3, -1})}, dims), {x}),
      floats({3, 2}, {1, 2, 3, 4, 5, 6}));
  expect_output(run(one_node(9, "Slice", {},
                             {attribute("starts", axes), attribute("ends", std::vector<int64_t>{3}),
                              attribute("axes", axes)},
                             dims),
                    {x}),
                floats({2, 2}, {2, 3, 5, 6}));
  expect_output(
      run(one_node(6, "Clip", {}, {attribute("min", 2.0f), attribute("max", 5.0f)}, dims), {x}),
      floats({2, 3}, {2, 2, 3, 4, 5, 5}));
  expect_output(
      run(one_node(10, "Pad", {},
                   {attribute("pads", std::vector<int64_t>{0, 1, 0, 0}), attribute("value", 7.0f)},
                   dims),
          {x}),
      floats({2, 4}, {7, 1, 2, 3, 7, 4, 5, 6}));
  expect_output(run(one_node(5, "Cast", {}, {attribute("to", std::string("INT64"))}, dims), {x}),
                integers({2, 3}, {1, 2, 3, 4, 5, 6}));
  expect_output(run(one_node(9, "Upsample", {{"scales", floats({2}, {1, 2})}}, {}, dims), {x}),
                floats({2, 6}, {1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6}));
  expect_output(run(one_node(9, "Dropout", {}, {attribute("ratio", 0.5f)}, dims), {x}), x);
  expect_output(
      run(one_node(6, "Add", {{"b", floats({2}, {10, 20})}},
                   {attribute("broadcast", int64_t{1}), attribute("axis", int64_t{0})}, dims),
          {x}),
      floats({2, 3}, {11, 12, 13, 24, 25, 26}));
}

TEST(Onnx, OldPReluHasASlopeForEachChannel) {
  const std::vector<int64_t> dims = {1, 2, 2};  // the last is as long as the channels
  const Tensor x = floats(dims, {-1, -2, -3, 4}), slopes = floats({2}, {10, 100}),
               by_channel = floats(dims, {-10, -20, -300, 4});
  expect_output(run(one_node(6, "PRelu", {{"slope", slopes}}, {}, dims), {x}), by_channel);
  expect_output(run(one_node(7, "PRelu", {{"slope", slopes}}, {}, dims), {x}),
                floats(dims, {-10, -200, -30, 4}));
  expect_output(run(one_node(6, "PRelu", {{"slope", floats({1}, {10})}}, {}, dims), {x}),
                floats(dims, {-10, -20, -30, 4}));
  ModelParts inner = one_node(6, "PRelu", {{"slope", slopes}}, {}, dims);  // of unknown rank
  inner.nodes = {node("Abs", {"x"}, {"a"}), node("Neg", {"a"}, {"b"}),
                 node("PRelu", {"b", "slope"}, {"y"})};
  expect_output(run(inner, {floats(dims, {1, 2, 3, 4})}), floats(dims, {-10, -20, -300, -400}));
}

// An axis to align at, where nothing says of which rank the first operand is.
TEST(Onnx, OldArithmeticAlignsWhereRanksAreUnknown) {
  const std::vector<int64_t> dims = {1, 2, 2};
  for (const auto& [op, want] : {std::pair("Add", std::vector<float>{11, 12, 103, 104}),
                                 {"Mul", std::vector<float>{10, 20, 300, 400}}}) {
    ModelParts p = one_node(6, op, {{"b", floats({2}, {10, 100})}}, {}, dims);
    p.nodes = {node("Abs", {"x"}, {"a"}),
               node(op, {"a", "b"}, {"y"},
                    {attribute("broadcast", int64_t{1}), attribute("axis", int64_t{1})})};
    expect_output(run(p, {floats(dims, {1, 2, 3, 4})}), floats(dims, want));
  }
}

TEST(Onnx, OldDefaultsAndRangesAreKept) {
  const auto one = [](int64_t opset, const std::string& op, const std::vector<Message>& attributes,
                      const Tensor& x,
                      const std::vector<std::pair<std::string, Tensor>>& constants = {}) {
    const auto dims = x.shape().dims();
    return run(one_node(opset, op, constants, attributes, {dims.begin(), dims.end()}), {x});
  };
  constexpr float kGreatest = std::numeric_limits<float>::max();
  const Tensor ends = floats({2}, {-kInf, kInf});
  expect_output(one(6, "Clip", {}, ends), floats({2}, {-kGreatest, kGreatest}));
  expect_output(one(6, "Clip", {attribute("min", 0.0f)}, ends), floats({2}, {0, kGreatest}));
  expect_output(one(11, "Clip", {}, ends), ends);
  expect_output(one(5, "Selu", {}, floats({1}, {1})), floats({1}, {1.0507f}));
  expect_output(one(6, "Selu", {}, floats({1}, {1})), floats({1}, {1.05070102f}));
  expect_output(one(1, "GlobalLpPool", {attribute("p", 1.0f)}, floats({1, 1, 2}, {3, -4})),
                floats({1, 1, 1}, {7}));
  // Index -1 is out of range before operator set 11, and the last thereafter.
  const std::vector<std::pair<std::string, Tensor>> rest = {{"depth", integers({1}, {2})},
                                                            {"values", floats({2}, {5, 9})}};
  expect_output(one(9, "OneHot", {}, floats({2}, {-1, 0}), rest), floats({2, 2}, {5, 5, 9, 5}));
  expect_output(one(11, "OneHot", {}, floats({2}, {-1, 0}), rest), floats({2, 2}, {5, 9, 9, 5}));
  // Neither does a depth beyond the indices' type bring it back.
  ModelParts hot = one_node(9, "OneHot", {{"depth", integers({1}, {200})}, rest[1]}, {}, {1});
  hot.inputs = {value_info("x", DType::i8, {1})};
  const Tensor minus_one = *Tensor::from<int8_t>(Shape{1}, std::vector<int8_t>{-1});
  expect_output(run(hot, {minus_one}), floats({1, 200}, std::vector<float>(200, 5)));
  expect_output(one(5, "Clip", {}, ends), ends);
  ModelParts p = one_node(3, "Concat", {{"b", floats({1, 1}, {3})}}, {}, {1, 2});
  expect_output(run(p, {floats({1, 2}, {1, 2})}), floats({1, 3}, {1, 2, 3}));
  p = one_node(1, "Split", {{"sizes", floats({2}, {1, 2})}}, {}, {3});
  p.nodes = {node("Split", {"x", "sizes"}, {"y", "rest"})};
  expect_output(run(p, {floats({3}, {1, 2, 3})}), floats({1}, {1}));
}

// A part that nobody reads need not have a name.
TEST(Onnx, SplitCountsThePartsWithoutAName) {
  ModelParts p = one_node(13, "Split", {}, {}, {6});
  p.nodes = {node("Split", {"x"}, {"y", "z", ""})};
  expect_output(run(p, {floats({6}, {1, 2, 3, 4, 5, 6})}), floats({2}, {1, 2}));
}

// The cases of ONNX's operator set 10; scales need not be constants.
TEST(Onnx, NearestOfOperatorSet10RoundsUpWhereItShrinks) {
  const Tensor x = floats({1, 1, 2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}),
               shrinks = floats({4}, {1, 1, 0.6f, 0.6f}), both = floats({4}, {1, 1, 2, 0.6f});
  const auto resized = [&](const Tensor& scales) {
    return run(one_node(10, "Resize", {{"scales", scales}}, {}, {1, 1, 2, 4}), {x});
  };
  expect_output(resized(shrinks), floats({1, 1, 1, 2}, {1, 3}));
  expect_output(resized(both), floats({1, 1, 4, 2}, {1, 3, 1, 3, 5, 7, 5, 7}));
  ModelParts p = one_node(10, "Resize", {}, {}, {1, 1, 2, 4});
  p.nodes = {node("Resize", {"x", "s"}, {"y"})};
  p.inputs.push_back(value_info("s", DType::f32, {4}));
  expect_output(run(p, {x, shrinks}), floats({1, 1, 1, 2}, {1, 3}));
}

TEST(Onnx, UpsampleOfOperatorSet1HasTwoScales) {
  const Tensor x = floats({1, 1, 1, 2}, {1, 3});
  const std::vector<Message> scales = {attribute("height_scale", 2.0f),
                                       attribute("width_scale", 2.0f)};
  expect_output(run(one_node(1, "Upsample", {}, scales, {1, 1, 1, 2}), {x}),
                floats({1, 1, 2, 4}, {1, 1, 3, 3, 1, 1, 3, 3}));
  std::vector<Message> linear = scales;
  linear.push_back(attribute("mode", std::string("bilinear")));
  expect_output(run(one_node(1, "Upsample", {}, linear, {1, 1, 1, 2}), {x}),
                floats({1, 1, 2, 4}, {1, 2, 3, 3, 1, 2, 3, 3}));
}

TEST(Onnx, OldTrainingModesAndFormsAreRefused) {
  const Message training = attribute("is_test", int64_t{0});
  expect_refused(import(one_node(6, "Dropout", {}, {training}, {2})), StatusCode::unsupported,
                 "Dropout in training mode (is_test = 0)");
  const std::vector<std::pair<std::string, Tensor>> parameters = {{"scale", floats({1}, {1})},
                                                                  {"b", floats({1}, {0})},
                                                                  {"mean", floats({1}, {0})},
                                                                  {"var", floats({1}, {1})}};
  expect_refused(import(one_node(6, "BatchNormalization", parameters, {training}, {1, 1})),
                 StatusCode::unsupported, "BatchNormalization in training mode (is_test = 0)");
  expect_output(run(one_node(6, "Dropout", {}, {attribute("is_test", int64_t{1})}, {2}),
                    {floats({2}, {1, 2})}),
                floats({2}, {1, 2}));
  expect_refused(
      import(one_node(1, "Tile", {{"n", floats({}, {2})}, {"axis", floats({}, {0})}}, {}, {2})),
      StatusCode::unsupported, "Tile of operator set 1");
  ModelParts mask = one_node(7, "Dropout", {}, {}, {2});  // of x's type
  mask.nodes = {node("Dropout", {"x"}, {"d", "y"})};
  expect_output(run(mask, {floats({2}, {1, 2})}), floats({2}, {1, 1}));
}

// y = If(rate == 16000) { x + c } else { If(rate == 8000) { x * c } else { c } }, c = 3 from
// outside; both branches of the outer If call their value z.
ModelParts with_branches() {
  const auto out = [](const std::string& name) { return value_info(name, DType::f32, {-1}); };
  ModelParts sum, product, constant, otherwise, p;
  sum.nodes = {node("Add", {"x", "c"}, {"z"}, {}, "sum")};
  sum.outputs = {out("z")};
  product.nodes = {node("Mul", {"x", "two"}, {"t"}), node("Mul", {"t", "c"}, {"u"}, {}, "product")};
  product.initializers = {tensor_message(floats({}, {2}), "two")};
  product.outputs = {out("u")};
  constant.outputs = {out("c")};
  otherwise.nodes = {node("Equal", {"rate", "low"}, {"is_low"}),
                     node("If", {"is_low"}, {"z"},
                          {attribute("then_branch", product), attribute("else_branch", constant)})};
  otherwise.outputs = {out("z")};
  // Out of order: the If reads c by its branches alone.
  p.nodes = {node("If", {"is_high"}, {"y"},
                  {attribute("then_branch", sum), attribute("else_branch", otherwise)}, "choice"),
             node("Identity", {"three"}, {"c"}), node("Equal", {"rate", "high"}, {"is_high"})};
  p.initializers = {tensor_message(floats({1}, {3}), "three"),
                    tensor_message(integers({}, {16000}), "high"),
                    tensor_message(integers({}, {8000}), "low")};
  p.inputs = {value_info("x", DType::f32, {-1}), value_info("rate", DType::i64, {})};
  p.outputs = {out("y")};
  return p;
}

Result<OnnxModel> import_fixed(const ModelParts& p,
                               const std::map<std::string, std::string>& fixed) {
  const std::string bytes = model_bytes(p);
  return import_onnx_model(as_bytes(bytes), "test.onnx", "/nonexistent", fixed);
}

TEST(Onnx, AnIfIsItsBranchWhereItsConditionIsFixed) {
  const auto backend = make_reference_backend();
  for (const auto& [rate, want] : {std::pair("16000", 7.0f), {"8000", 24.0f}, {"5", 3.0f}}) {
    const Result<OnnxModel> model = import_fixed(with_branches(), {{"rate", rate}});
    ASSERT_TRUE(model.ok()) << model.status().message();
    ASSERT_EQ(model->graph.inputs.size(), 1u);
    EXPECT_EQ(model->dims, (std::vector<std::vector<std::string>>{{"n"}}));
    EXPECT_NE(model->values.at("y"), kAbsent);
    const Executor executor = *Executor::create(model->graph, *backend);
    expect_output(executor.run_step(0, Tensors{floats({1}, {4})}), floats({1}, {want}));
  }
}

TEST(Onnx, AnInputIsFixedByANumberOfItsType) {
  const auto refused = [](const ModelParts& p, const std::map<std::string, std::string>& fixed,
                          StatusCode code, const char* part) {
    const Result<OnnxModel> model = import_fixed(p, fixed);
    ASSERT_FALSE(model.ok());
    EXPECT_EQ(model.status().code(), code) << model.status().message();
    EXPECT_NE(model.status().message().find(part), std::string::npos) << model.status().message();
  };
  refused(with_branches(), {{"rate", "fast"}}, StatusCode::usage, "'fast' is no int64");
  refused(with_branches(), {{"rate", "16000"}, {"pace", "1"}}, StatusCode::usage,
          "no input 'pace' to fix");
  ModelParts p = with_branches();
  p.inputs[1] = value_info("rate", DType::i64, {2});
  refused(p, {{"rate", "1"}}, StatusCode::usage, "only an input of one element");
}

TEST(Onnx, OldSoftmaxIsOverAMatrix) {
  const Tensor x = floats({1, 2, 2}, {0, 0, 0, 0});
  expect_output(run(one_node(11, "Softmax", {}, {}, {1, 2, 2}), {x}),
                floats({1, 2, 2}, {0.25f, 0.25f, 0.25f, 0.25f}));
  expect_output(run(one_node(13, "Softmax", {}, {}, {1, 2, 2}), {x}),
                floats({1, 2, 2}, {0.5f, 0.5f, 0.5f, 0.5f}));
}

TEST(Onnx, UnsupportedModelsSayWhat) {
  ModelParts p = one_node(18, "FancyOp", {}, {}, {1});
  expect_refused(import(p), StatusCode::unsupported, "FancyOp");
  expect_refused(import(one_node(28, "Neg", {}, {}, {1})), StatusCode::unsupported,
                 "operator set 28");
  expect_refused(import(one_node(18, "Neg", {}, {attribute("body", p)}, {1})),
                 StatusCode::unsupported, "attribute 'body': it is a graph");
  p = one_node(18, "Neg", {}, {}, {1});
  p.nodes[0].text(7, "com.example");
  expect_refused(import(p), StatusCode::unsupported, "com.example");
  p = one_node(18, "Neg", {}, {}, {1});
  p.inputs = {
      Message().text(1, "x").message(2, Message().message(1, Message().number(1, 8)))};  // strings
  expect_refused(import(p), StatusCode::unsupported, "element type 8");
}

TEST(Onnx, ModelsOfOtherDomainsAreRefusedByTheDomain) {
  ModelParts p = one_node(18, "Scaler", {}, {}, {1});
  p.nodes[0].text(7, "ai.onnx.ml");
  const std::string bytes = Message()
                                .number(1, 8)
                                .message(7, graph_message(p))
                                .message(8, Message().text(1, "ai.onnx.ml").number(2, 3))
                                .bytes();
  const Result<Graph> g = import_onnx(as_bytes(bytes), "test.onnx", "");
  expect_refused(g, StatusCode::unsupported, "operators of domain 'ai.onnx.ml'");
  EXPECT_EQ(g.status().message().find("operator set"), std::string::npos);
}

// Whether it is to drop anything is known here only when it runs.
TEST(Onnx, DropoutOfRatioZeroIsTheIdentity) {
  const Tensor x = floats({2}, {1, 2}), yes = *Tensor::scalar(true), no = *Tensor::scalar(false);
  ModelParts p = one_node(13, "Dropout", {}, {}, {2});
  p.nodes = {node("Dropout", {"x", "ratio", "training"}, {"y", "mask"})};
  p.inputs = {value_info("x", DType::f32, {2}), value_info("ratio", DType::f32, {}),
              value_info("training", DType::boolean, {})};
  p.outputs.push_back(value_info("mask", DType::boolean, {2}));
  for (const auto& [ratio, training] : {std::pair(0.0f, yes), {0.5f, no}}) {
    const auto have = run(p, {x, *Tensor::scalar(ratio), training});
    expect_output(have, x);
    expect_output(have, bools({2}, {true, true}), 1);
  }
  expect_error(run(p, {x, *Tensor::scalar(0.5f), yes}), StatusCode::unsupported, "random");
  expect_error(run(p, {x, integers({}, {0}), yes}), StatusCode::bad_input, "ratio");
  // Of the ratio that an absent one stands for.
  p.nodes = {node("Dropout", {"x", "", "training"}, {"y"})};
  p.outputs.pop_back();
  expect_error(run(p, {x, *Tensor::scalar(0.0f), yes}), StatusCode::unsupported, "random");
}

TEST(Onnx, OptionalsOfTensorsAreTensors) {
  const Tensor x = floats({2}, {1, 2});
  ModelParts p = one_node(18, "OptionalHasElement", {}, {}, {2});
  p.nodes = {node("Optional", {"x"}, {"o"}), node("OptionalHasElement", {"o"}, {"h"}),
             node("OptionalHasElement", {""}, {"n"}), node("OptionalGetElement", {"o"}, {"y"})};
  p.outputs.push_back(value_info("h", DType::boolean, {}));
  p.outputs.push_back(value_info("n", DType::boolean, {}));
  const auto have = run(p, {x});
  expect_output(have, x);
  expect_output(have, *Tensor::scalar(true), 1);
  expect_output(have, *Tensor::scalar(false), 2);
  p.nodes[0] = node("Optional", {}, {"o"});
  expect_refused(import(p), StatusCode::unsupported, "an optional without an element");
}

// x [2, 3] cut into its rows, which `nodes` make y of; positions are one, last and far.
ModelParts with_rows(const std::vector<Message>& nodes) {
  ModelParts p = one_node(13, "Neg", {}, {}, {2, 3});
  p.nodes = {node("SplitToSequence", {"x"}, {"rows"}, {attribute("keepdims", int64_t{0})})};
  p.nodes.insert(p.nodes.end(), nodes.begin(), nodes.end());
  p.initializers = {tensor_message(integers({}, {1}), "one"),
                    tensor_message(integers({}, {-1}), "last"),
                    tensor_message(integers({}, {-3}), "far")};
  return p;
}

// Lengths and positions that are known make a sequence a list of values: none is left in the graph.
TEST(Onnx, SequencesAreListsOfTensors) {
  const Tensor x = floats({2, 3}, {1, 2, 3, 4, 5, 6});
  const Message doubled = node("Add", {"r", "r"}, {"d"});
  const auto at = [](const std::string& s, const std::string& position, const std::string& y) {
    return node("SequenceAt", {s, position}, {y});
  };
  expect_output(run(with_rows({at("rows", "one", "y")}), {x}), floats({3}, {4, 5, 6}));
  expect_output(run(with_rows({at("rows", "last", "y")}), {x}), floats({3}, {4, 5, 6}));
  expect_output(run(with_rows({node("SequenceLength", {"rows"}, {"y"})}), {x}), integers({}, {2}));
  // [r0, 2 r1, r1], without its last: [r0, 2 r1].
  const std::vector<Message> edits = {
      at("rows", "one", "r"), doubled, node("SequenceInsert", {"rows", "d", "one"}, {"s"}),
      node("SequenceErase", {"s"}, {"t"}), node("Identity", {"t"}, {"u"})};
  auto joined = edits, stacked = edits;
  joined.push_back(node("ConcatFromSequence", {"u"}, {"y"}, {attribute("axis", int64_t{0})}));
  expect_output(run(with_rows(joined), {x}), floats({6}, {1, 2, 3, 8, 10, 12}));
  stacked.push_back(node("ConcatFromSequence", {"u"}, {"y"},
                         {attribute("axis", int64_t{-1}), attribute("new_axis", int64_t{1})}));
  expect_output(run(with_rows(stacked), {x}), floats({3, 2}, {1, 8, 2, 10, 3, 12}));
  expect_output(run(with_rows({node("SequenceEmpty", {}, {"e"}),
                               node("SequenceInsert", {"e", "x"}, {"s"}), at("s", "last", "y")}),
                    {x}),
                x);
}

TEST(Onnx, SplitToSequenceHasSizesOrAChunk) {
  const auto split = [](const Tensor& sizes, int64_t position) {
    ModelParts p = one_node(13, "Neg", {}, {}, {5});
    p.nodes = {node("SplitToSequence", {"x", "sizes"}, {"s"}),
               node("SequenceAt", {"s", "position"}, {"y"})};
    p.initializers = {tensor_message(sizes, "sizes"),
                      tensor_message(integers({}, {position}), "position")};
    return run(p, {floats({5}, {1, 2, 3, 4, 5})});
  };
  expect_output(split(integers({}, {2}), 2), floats({1}, {5}));
  expect_output(split(integers({2}, {2, 3}), 1), floats({3}, {3, 4, 5}));
  expect_output(split(tensor<int32_t>({2}, {2, 3}), 0), floats({2}, {1, 2}));
  EXPECT_EQ(split(integers({2}, {2, 2}), 0).status().code(), StatusCode::bad_input);
  EXPECT_EQ(split(integers({}, {0}), 0).status().code(), StatusCode::bad_input);
}

TEST(Onnx, SequencesThatAreNoListsAreRefused) {
  const auto refused = [](const std::vector<Message>& nodes, StatusCode code, const char* part) {
    expect_refused(import(with_rows(nodes)), code, part);
  };
  refused({node("SequenceAt", {"rows", "far"}, {"y"})}, StatusCode::bad_input,
          "position -3 in a sequence of 2");
  refused({node("SequenceErase", {"rows", "far"}, {"y"})}, StatusCode::bad_input, "position -3");
  refused({node("ReduceSum", {"x"}, {"n"}), node("SequenceAt", {"rows", "n"}, {"y"})},
          StatusCode::unsupported, "a position in a sequence that is not constant");
  refused({node("Neg", {"rows"}, {"y"})}, StatusCode::unsupported, "a sequence as an input");
  refused({node("Identity", {"rows"}, {"y"})}, StatusCode::unsupported, "a sequence as an output");
  refused({node("SequenceAt", {"x", "one"}, {"y"})}, StatusCode::bad_input, "no sequence");
  ModelParts open = with_rows({node("SequenceAt", {"rows", "one"}, {"y"})});
  open.inputs = {value_info("x", DType::f32, {-1, 3})};
  expect_refused(import(open), StatusCode::unsupported, "a sequence of unknown length");
  // Bodies take tensors, and give tensors.
  ModelParts inner, outer = with_rows({});
  inner.nodes = {node("SequenceAt", {"rows", "one"}, {"z"})};
  inner.outputs = {value_info("z", DType::f32, {3})};
  outer.nodes.push_back(
      node("If", {"c"}, {"y"}, {attribute("then_branch", inner), attribute("else_branch", inner)}));
  outer.inputs.push_back(value_info("c", DType::boolean, {}));
  expect_refused(import(outer), StatusCode::unsupported, "a sequence from outside");
  inner.nodes = {node("SequenceConstruct", {"x"}, {"z"})};
  outer.nodes[1] =
      node("If", {"c"}, {"y"}, {attribute("then_branch", inner), attribute("else_branch", inner)});
  expect_refused(import(outer), StatusCode::unsupported, "a sequence as an output");
  outer.nodes[1] = node("If", {"rows"}, {"y"},
                        {attribute("then_branch", inner), attribute("else_branch", inner)});
  expect_refused(import(outer), StatusCode::unsupported, "a sequence as an input");
}

// Each insertion copies a list: a file of many of them must not take memory by the square.
TEST(Onnx, SequencesAreBounded) {
  std::vector<Message> nodes;
  for (int i = 0; i < 3000; ++i)
    nodes.push_back(node("SequenceInsert", {i == 0 ? "rows" : "s" + std::to_string(i), "x"},
                         {"s" + std::to_string(i + 1)}));
  nodes.push_back(node("SequenceLength", {"s3000"}, {"y"}));
  expect_refused(import(with_rows(nodes)), StatusCode::limit, "sequences of more than");
  // What is joined has as many operands, each time.
  nodes.assign({node("SplitToSequence", {"x"}, {"s"})});
  for (int i = 0; i < 300; ++i)
    nodes.push_back(node("ConcatFromSequence", {"s"}, {i == 0 ? "y" : "y" + std::to_string(i)},
                         {attribute("axis", int64_t{0})}));
  ModelParts p = one_node(13, "Neg", {}, {}, {4096});
  p.nodes = nodes;
  expect_refused(import(p), StatusCode::limit, "sequences of more than");
}

TEST(Onnx, ErrorsNameTheByte) {
  ModelParts p = one_node(18, "Neg", {}, {}, {1});
  p.nodes.push_back(node("Bad\x1b[31m", {"y"}, {"z"}));
  const std::string bytes = model_bytes(p);
  const Result<Graph> g = import_onnx(as_bytes(bytes), "test.onnx", "");
  expect_refused(g, StatusCode::unsupported,
                 "test.onnx: byte " + std::to_string(bytes.find(p.nodes[1].bytes())) + ": node 1");
  EXPECT_EQ(g.status().message().find('\x1b'),
            std::string::npos);  // nothing that a terminal would obey
}

TEST(Onnx, MalformedGraphsAreRefused) {
  ModelParts p = one_node(18, "Neg", {}, {}, {1});
  p.nodes.push_back(node("Neg", {"y"}, {"y"}));
  expect_refused(import(p), StatusCode::bad_input, "produced twice");
  p.nodes = {node("Neg", {"b"}, {"y"}), node("Neg", {"y"}, {"b"})};
  expect_refused(import(p), StatusCode::bad_input, "cycle");
  p.nodes = {node("Neg", {"nowhere"}, {"y"})};
  expect_refused(import(p), StatusCode::bad_input, "nothing produces");
  p.nodes = {};
  expect_refused(import(p), StatusCode::bad_input, "not produced");
  p = one_node(18, "Add", {}, {}, {1});
  expect_refused(import(p), StatusCode::bad_input, "1 inputs");
  p = one_node(18, "Neg", {}, {attribute("a", int64_t{1}), attribute("a", int64_t{2})}, {1});
  expect_refused(import(p), StatusCode::bad_input, "given twice");
}

TEST(Onnx, TensorsHaveTheBytesTheirShapeWants) {
  const auto parse = [](const Message& m) {
    return parse_onnx_tensor(as_bytes(m.bytes()), "t.pb");
  };
  EXPECT_TRUE(parse(tensor_message(floats({2}, {1, 2}))).ok());
  for (const Message& bad :
       {Message().number(1, 3).number(2, 1).text(9, "12345678"),         // 8 bytes for three floats
        Message().number(1, int64_t{1} << 61).number(2, 1).text(9, ""),  // overflows
        Message().number(1, -1).number(2, 1).text(9, ""),                // negative
        Message().number(1, 1).number(2, 9).text(9, "\x02"),             // bool 2
        Message().number(1, 1).number(2, 3).number(5, 300),              // int8 300
        Message().number(1, 1).number(2, 1).number(14, 1)}) {            // external
    const Result<Tensor> t = parse(bad);
    ASSERT_FALSE(t.ok());
    EXPECT_NE(t.status().message().find("t.pb: byte"), std::string::npos) << t.status().message();
  }
  const Result<Tensor> half = parse(Message().number(1, 1).number(2, 10).number(5, 0x3C00));
  ASSERT_TRUE(half.ok());
  EXPECT_EQ(half->data<Half>()[0].bits, 0x3C00);
}

// Elements of less than a byte are packed over all rows, the first in the lowest bits.
TEST(Onnx, SubByteTensorsArePackedWithoutRegardToRows) {
  const auto parse = [](const Message& m) {
    return parse_onnx_tensor(as_bytes(m.bytes()), "t.pb");
  };
  const auto shape = [](int type) { return Message().number(1, 3).number(1, 1).number(2, type); };
  const auto codes = [](const Result<Tensor>& t) {
    EXPECT_TRUE(t.ok()) << t.status().message();
    std::string text;
    if (t.ok())
      for (const std::byte b : t->bytes()) text += std::to_string(std::to_integer<int>(b)) + " ";
    return text;
  };
  for (const int type : {21, 22, 23})
    EXPECT_EQ(codes(parse(shape(type).text(9, "\x21\x0F"))), "1 2 15 ");
  EXPECT_EQ(codes(parse(shape(22).number(5, 0x21).number(5, 0x0F))), "1 2 15 ");
  for (const int type : {25, 26}) {
    EXPECT_EQ(codes(parse(shape(type).text(9, "\x1B"))), "3 2 1 ");
    EXPECT_EQ(codes(parse(shape(type).number(5, 0x1B))), "3 2 1 ");
    EXPECT_FALSE(parse(shape(type).text(9, "\x5B")).ok());  // a fourth element
  }
  EXPECT_FALSE(parse(shape(22).text(9, "\x21\x1F")).ok());  // a fourth element
  EXPECT_FALSE(parse(shape(22).text(9, "\x21\x03\x04")).ok());
  EXPECT_FALSE(parse(shape(22).number(5, 0x121).number(5, 3)).ok());
  EXPECT_FALSE(parse(shape(22).number(5, -1).number(5, 3)).ok());
}

Message external(const std::string& location, int64_t offset) {
  const auto entry = [](const std::string& k, const std::string& v) {
    return Message().text(1, k).text(2, v);
  };
  return Message()
      .number(1, 2)
      .number(2, 1)
      .text(8, "w")
      .message(13, entry("location", location))
      .message(13, entry("offset", std::to_string(offset)))
      .number(14, 1);
}

TEST(Onnx, ExternalDataStaysBelowTheFolder) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(::testing::TempDir()) / "verbatim_onnx_test";
  fs::create_directories(folder / "inside");
  const Bytes data = little_endian_bytes(floats({3}, {5, 6, 7}));
  ASSERT_TRUE(write_file((folder / "inside" / "w.bin").string(), data).ok());
  ASSERT_TRUE(write_file((folder / "outside.bin").string(), data).ok());
  fs::remove(folder / "inside" / "link");
  fs::create_symlink(folder / "outside.bin", folder / "inside" / "link");
  const auto with = [&](const std::string& location, int64_t offset) {
    ModelParts p = one_node(18, "Add", {}, {}, {2});
    p.nodes = {node("Add", {"x", "w"}, {"y"})};
    p.initializers = {external(location, offset)};
    return import(p, (folder / "inside").string());
  };
  const Result<Graph> g = with("w.bin", 4);
  ASSERT_TRUE(g.ok()) << g.status().message();
  EXPECT_TRUE(identical(g->initializers[0].tensor, floats({2}, {6, 7})));
  expect_refused(with("w.bin", 8), StatusCode::bad_input, "bytes wanted");
  expect_refused(with("../outside.bin", 0), StatusCode::bad_input, "no path below");
  expect_refused(with((folder / "outside.bin").string(), 0), StatusCode::bad_input,
                 "no path below");
  expect_refused(with("link", 0), StatusCode::bad_input, "leads out");
  expect_refused(with("missing.bin", 0), StatusCode::unavailable, "missing.bin");
  fs::remove_all(folder);
}

// Every truncation and many overwritten bytes of a model with a bit of everything: an error or a
// graph, nothing else.
TEST(Onnx, MutatedModelsDoNotCrash) {
  ModelParts p = one_node(
      11, "Conv", {{"w", floats({1, 1, 2}, {1, 2})}},
      {attribute("pads", std::vector<int64_t>{1, 1}), attribute("auto_pad", std::string("NOTSET"))},
      {1, 1, 4});
  p.nodes.push_back(node("Constant", {}, {"c"}, {attribute("value", floats({2}, {1, 2}))}));
  p.nodes.push_back(node("Softmax", {"y"}, {"z"}, {attribute("axis", int64_t{1})}));
  const ModelParts sequences = with_rows(
      {node("SequenceConstruct", {"x"}, {"s"}), node("SequenceInsert", {"rows", "x", "one"}, {"t"}),
       node("SequenceErase", {"t", "last"}, {"u"}), node("SequenceAt", {"u", "one"}, {"y"}),
       node("ConcatFromSequence", {"s"}, {"z"}, {attribute("axis", int64_t{0})})});
  for (const ModelParts& parts : {p, sequences}) {
    const std::string model = model_bytes(parts);
    ASSERT_TRUE(import_onnx(as_bytes(model), "m", "").ok());
    for (size_t n = 0; n < model.size(); ++n)
      (void)import_onnx(as_bytes(model).first(n), "m", "").ok();
    for (size_t at = 0; at < model.size(); ++at)
      for (int value : {0x00, 0x01, 0x7F, 0x80, 0xFF}) {
        std::string mutant = model;
        mutant[at] = static_cast<char>(value);
        (void)import_onnx(as_bytes(mutant), "m", "").ok();
      }
  }
}

}  // namespace
}  // namespace verbatim::testing
