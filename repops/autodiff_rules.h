// The rules of differentiate(), one for each operator: given the gradients of a node's outputs, the
// nodes that compute those of its inputs. Internal.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <verbatim/repops/graph_editor.h>

namespace verbatim {

// One node as its rule sees it.
class BackwardNode {
 public:
  struct Given {
    size_t input;
    ValueId gradient;
  };
  // `gradients`: one for each output of the node, kAbsent where the loss does not depend on it.
  BackwardNode(GraphEditor& editor, std::map<ValueId, ValueId>& shapes, Node node,
               std::vector<ValueId> gradients, std::vector<bool> wanted);

  const Node& node() const { return node_; }
  ValueId in(size_t i) const { return i < node_.inputs.size() ? node_.inputs[i] : kAbsent; }
  ValueId out(size_t i = 0) const { return node_.outputs[i]; }
  ValueId gradient(size_t output = 0) const { return gradients_[output]; }
  bool wants(size_t input) const { return input < wanted_.size() && wanted_[input]; }
  const std::vector<Given>& given() const { return given_; }

  // The gradient of an input that is wanted; of another it is dropped.
  void give(size_t input, ValueId gradient);

  ValueId onnx(std::string_view op, std::vector<ValueId> inputs, Attributes attributes = {},
               int outputs = 1);
  ValueId own(std::string_view op, std::vector<ValueId> inputs, Attributes attributes = {},
              int outputs = 1);
  // A scalar of the type of `like`: `value` rounded once. One name always stands for one value.
  ValueId number(const std::string& name, double value, ValueId like);
  ValueId integer(int64_t value);                        // an int64 scalar
  ValueId integers(const std::vector<int64_t>& values);  // an int64 vector
  ValueId shape(ValueId value);                          // one Shape node for each value
  // x summed over the dimensions along which a value of the shape of `like` was broadcast to it.
  ValueId sum_to(ValueId x, ValueId like);
  // An error that names the node and its operator.
  Status no_rule(const std::string& why = "") const;

 private:
  GraphEditor& editor_;
  std::map<ValueId, ValueId>& shapes_;
  Node node_;
  std::vector<ValueId> gradients_;
  std::vector<bool> wanted_;
  std::vector<Given> given_;
};

using GradientRule = Status (*)(BackwardNode&);
// nullptr where there is none.
GradientRule find_gradient_rule(const Node& node);
// Whether a node's outputs are constant wherever they have a derivative: integers, bools and
// shapes, and what is rounded to integers. Gradients end there, as if they were zero.
bool has_zero_gradient(const Node& node);

}  // namespace verbatim
