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
  const std::string model = model_bytes(p);
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

}  // namespace
}  // namespace verbatim::testing
