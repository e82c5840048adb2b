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

}  // namespace
}  // namespace verbatim::test
