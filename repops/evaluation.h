// One evaluation of a graph: what an executor's step and a trip through a control-flow node's body
// share.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include <verbatim/core/tensor.h>
#include <verbatim/repops/backend.h>

namespace verbatim {

class Evaluation {
 public:
  // `graph` is valid and outlives it.
  explicit Evaluation(const Graph& graph);

  // Called after each node; may change its outputs, and its error ends the evaluation.
  using OnNode =
      std::function<Status(int32_t node, std::span<const Tensor> inputs, Tensors& outputs)>;

  // The graph's outputs from its inputs, which are as many as it has; each value goes after its
  // last use. `checkpoint`, if any, is asked before each node.
  Result<Tensors> run(Backend& backend, std::span<const Tensor> inputs,
                      const Checkpoint& checkpoint = {}, const OnNode& on_node = {}) const;

  const Graph& graph() const { return *graph_; }
  // Whether anybody reads the value after this node.
  bool outlives(ValueId value, int32_t node) const { return last_use_[value] > node; }

 private:
  Result<Tensors> run_node(Backend& backend, int32_t index, std::span<const Tensor> inputs,
                           const Checkpoint& checkpoint) const;

  const Graph* graph_;
  std::vector<int32_t> last_use_;  // for each value: the node after which it may be freed;
                                   // nodes.size() for graph outputs
};

}  // namespace verbatim
