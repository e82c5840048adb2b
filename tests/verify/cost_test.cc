// A referee asks what an operator would cost before it runs it, on shapes that two dishonest
// parties may have agreed on.
#include <gtest/gtest.h>

#include <verbatim/repops/op.h>

#include "support.h"

namespace verbatim::test {
namespace {

// Nothing is to be read out of bounds or divided by zero (sanitizer builds see it), whatever the
// shapes.
TEST(Cost, IsHarmlessForHostileShapes) {
  const std::vector<Tensor> shapes = {
      Tensor(), ok(Tensor::zeros(DType::f32, Shape{})), ok(Tensor::zeros(DType::i64, Shape{0})),
      ok(Tensor::zeros(DType::f32, Shape{0, 2})), ok(Tensor::zeros(DType::f32, Shape{2, 3, 0, 1}))};
  for (const OpDef* op : all_ops()) {
    for (const Tensor& in : shapes) {
      for (const Tensor& out : shapes) {
        Node node{std::string(op->domain), std::string(op->name), "", {}, {}, {}};
        for (const int count : {op->min_inputs, std::min(op->max_inputs, op->min_inputs + 3)}) {
          const std::vector<Tensor> inputs(static_cast<size_t>(count), in);
          node.inputs.assign(inputs.size(), 0);
          node.outputs = {1};
          (void)operation_count(node, inputs, std::vector<Tensor>{out});
        }
      }
    }
  }
}

// However few elements they give.
TEST(Cost, OfWhatReadsItsInputsIsTheirs) {
  const Tensor numbers = ok(Tensor::zeros(DType::f32, Shape{1000})),
               flags = ok(Tensor::zeros(DType::boolean, Shape{1000})),
               pair = ok(Tensor::zeros(DType::f32, Shape{2})),
               none = ok(Tensor::scalar(int64_t{0}));
  const std::pair<const char*, std::vector<Tensor>> cases[] = {
      {"NonZero", {numbers}}, {"Compress", {numbers, flags}}, {"OneHot", {numbers, none, pair}}};
  for (const auto& [op, inputs] : cases) {
    const Node node{"", op, "", {}, {}, {0}};
    const std::vector<Tensor> outputs = ok(evaluate_reference(node, inputs));
    EXPECT_EQ(outputs[0].elements(), 0) << op;
    EXPECT_GE(operation_count(node, inputs, outputs), 1000u) << op;
  }
}

}  // namespace
}  // namespace verbatim::test
