#include <verbatim/repops/evaluation.h>

#include <utility>

#include <verbatim/repops/ops/control_flow.h>

namespace verbatim {

Evaluation::Evaluation(const Graph& graph)
    : graph_(&graph), last_use_(static_cast<size_t>(graph.value_count), -1) {
  const auto node_count = static_cast<int32_t>(graph.nodes.size());
  for (int32_t i = 0; i < node_count; ++i)
    for (ValueId v : graph.nodes[i].inputs)
      if (v != kAbsent) last_use_[v] = i;
  for (const GraphOutput& out : graph.outputs) last_use_[out.value] = node_count;
}

Result<Tensors> Evaluation::run(Backend& backend, std::span<const Tensor> inputs,
                                const Checkpoint& checkpoint, const OnNode& on_node) const {
  const Graph& g = *graph_;
  Tensors values(static_cast<size_t>(g.value_count));
  for (size_t i = 0; i < inputs.size(); ++i) values[g.inputs[i].value] = inputs[i];
  for (const Initializer& init : g.initializers) {
    if (!init.tensor.defined()) return unavailable("weight '" + init.name + "' is not loaded");
    values[init.value] = init.tensor;
  }

  Tensors node_inputs;
  for (int32_t i = 0; i < static_cast<int32_t>(g.nodes.size()); ++i) {
    const Node& node = g.nodes[i];
    node_inputs.clear();
    for (ValueId v : node.inputs) node_inputs.push_back(v == kAbsent ? Tensor() : values[v]);
    VB_ASSIGN(Tensors outputs, run_node(backend, i, node_inputs, checkpoint));
    if (on_node) VB_TRY(on_node(i, node_inputs, outputs));
    for (size_t j = 0; j < node.outputs.size(); ++j)
      if (node.outputs[j] != kAbsent && outlives(node.outputs[j], i))
        values[node.outputs[j]] = std::move(outputs[j]);
    for (ValueId v : node.inputs)
      if (v != kAbsent && !outlives(v, i)) values[v] = Tensor();
  }

  Tensors results;
  for (const GraphOutput& out : g.outputs) results.push_back(values[out.value]);
  return results;
}

Result<Tensors> Evaluation::run_node(Backend& backend, int32_t index,
                                     std::span<const Tensor> inputs,
                                     const Checkpoint& checkpoint) const {
  const Node& node = graph_->nodes[index];
  const auto who = [&] { return "node " + std::to_string(index); };
  if (checkpoint)
    if (const Status status = checkpoint(); !status.ok())
      return status.with_context("before " + who());
  Result<Tensors> outputs = is_control_flow(node.domain, node.op)
                                ? backend.run_bodies(node, inputs, checkpoint)
                                : backend.run(node, inputs);
  if (!outputs.ok()) return outputs.status().with_context(who());
  if (outputs->size() < node.outputs.size())
    return internal_error(who() + " (" + node.title() + ") left out an output");
  outputs->resize(node.outputs.size());
  return outputs;
}

}  // namespace verbatim
