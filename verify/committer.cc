#include <verbatim/verify/committer.h>

#include <utility>

#include <verbatim/core/tensor_root.h>

namespace verbatim {

ValueRoots::ValueRoots(const Graph& graph) : graph_(&graph), absent_(absent_root()) { clear(); }

const Digest& ValueRoots::of(ValueId v, const Tensor& tensor) {
  if (v == kAbsent) return absent_;
  if (!known_[v]) set(v, tensor_root(tensor));
  return roots_[v];
}

void ValueRoots::set(ValueId v, const Digest& root) {
  roots_[v] = root;
  known_[v] = true;
}

void ValueRoots::clear() {
  roots_.assign(static_cast<size_t>(graph_->value_count), {});
  known_.assign(roots_.size(), false);
  for (const Initializer& init : graph_->initializers) set(init.value, init.root);
}

NodeRoots node_roots(ValueRoots& roots, const Node& node, std::span<const Tensor> inputs,
                     std::span<const Tensor> outputs) {
  NodeRoots result;
  for (size_t i = 0; i < node.inputs.size(); ++i)
    result.inputs.push_back(roots.of(node.inputs[i], inputs[i]));
  for (size_t i = 0; i < node.outputs.size(); ++i)
    result.outputs.push_back(roots.of(node.outputs[i], outputs[i]));
  return result;
}

Committer::Committer(const Program& program, CommitLevel level, const Digest& task_id)
    : program_(&program),
      level_(level),
      task_id_(task_id),
      recorded_(recorded_values(program)),
      is_recorded_(static_cast<size_t>(program.graph.value_count)),
      roots_(program.graph) {
  for (const ValueId v : recorded_) is_recorded_[v] = true;
}

Status Committer::on_node(uint64_t, int32_t node, std::span<const Tensor> inputs,
                          std::span<const Tensor> outputs) {
  const Node& n = program_->graph.nodes[node];
  if (level_ == CommitLevel::full) {
    const NodeRoots roots = node_roots(roots_, n, inputs, outputs);
    node_hashes_.push_back(node_hash(static_cast<uint32_t>(node), n, roots.inputs, roots.outputs));
    return {};
  }
  for (size_t i = 0; i < n.outputs.size(); ++i)
    if (n.outputs[i] != kAbsent && is_recorded_[n.outputs[i]]) roots_.of(n.outputs[i], outputs[i]);
  return {};
}

Status Committer::on_step_end(uint64_t step, std::span<const Tensor> graph_inputs,
                              std::span<const Tensor> graph_outputs) {
  const Graph& g = program_->graph;
  if (step != records_.size() || step >= program_->max_steps)
    return internal_error("step " + std::to_string(step) + " committed out of order");
  std::vector<Digest> body = std::exchange(node_hashes_, {});
  if (level_ == CommitLevel::light) {
    for (size_t i = 0; i < g.inputs.size(); ++i)  // an output may be an input, passed through
      if (is_recorded_[g.inputs[i].value]) roots_.of(g.inputs[i].value, graph_inputs[i]);
    body.clear();
    for (const ValueId v : recorded_) body.push_back(roots_.of(v, {}));
  }
  const Digest previous = records_.empty() ? genesis_record(task_id_) : records_.back();
  records_.push_back(step_record(step, previous, level_, static_cast<uint32_t>(g.nodes.size()),
                                 merkle_root(body)));
  last_outputs_.assign(graph_outputs.begin(), graph_outputs.end());
  last_output_roots_.clear();
  for (const GraphOutput& out : g.outputs)
    last_output_roots_.push_back(roots_.known(out.value) ? std::optional(roots_.of(out.value, {}))
                                                         : std::nullopt);
  carry_roots();
  return {};
}

// The next step starts from the roots that are known already.
void Committer::carry_roots() {
  const Graph& g = program_->graph;
  std::vector<std::optional<Digest>> next(g.inputs.size());
  for (size_t i = 0; i < next.size(); ++i)
    if (roots_.known(g.inputs[i].value)) next[i] = roots_.of(g.inputs[i].value, {});
  for (const Carry& carry : program_->carries) next[carry.input] = last_output_roots_[carry.output];
  roots_.clear();
  for (size_t i = 0; i < next.size(); ++i)
    if (next[i]) roots_.set(g.inputs[i].value, *next[i]);
}

Commitment Committer::finish() const {
  const Graph& g = program_->graph;
  Commitment c;
  c.steps = records_.size();
  c.records = records_;
  c.records_root = merkle_root(record_leaves(records_, program_->max_steps));
  for (size_t i = 0; i < last_outputs_.size(); ++i)
    c.outputs.push_back({g.outputs[i].name, last_output_roots_[i] ? *last_output_roots_[i]
                                                                  : tensor_root(last_outputs_[i])});
  c.final_root = final_root(task_id_, c.steps, c.records_root, c.outputs);
  return c;
}

}  // namespace verbatim
