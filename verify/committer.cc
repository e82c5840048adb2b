#include <verbatim/verify/committer.h>

#include <utility>

namespace verbatim {

ValueRoots::ValueRoots(const Graph& graph) : graph_(&graph), absent_(absent_root()) { clear(); }

Status ValueRoots::add(ValueId v, const Tensor& tensor) {
  if (v == kAbsent || known_[v]) return {};
  if (tensor.device() == nullptr) {
    set(v, tensor_root(tensor));
    return {};
  }
  known_[v] = true;
  waiting_.push_back(v);
  waiting_tensors_.push_back(tensor);
  waiting_bytes_ += tensor.byte_size();
  if (waiting_bytes_ < kBatchBytes) return {};
  VB_TRY(begin());
  return keep_at_most(kMostWaiting, 1);
}

Status ValueRoots::add(const Node& node, std::span<const Tensor> inputs,
                       std::span<const Tensor> outputs) {
  for (size_t i = 0; i < node.inputs.size(); ++i) VB_TRY(add(node.inputs[i], inputs[i]));
  for (size_t i = 0; i < node.outputs.size(); ++i) VB_TRY(add(node.outputs[i], outputs[i]));
  return {};
}

Status ValueRoots::begin() {
  if (waiting_.empty()) return {};
  VB_ASSIGN(BegunRoots roots, BegunRoots::begin(waiting_tensors_));
  begun_.push_back({std::exchange(waiting_, {}), waiting_bytes_, std::move(roots)});
  begun_bytes_ += std::exchange(waiting_bytes_, 0);
  waiting_tensors_.clear();
  return {};
}

Status ValueRoots::take_first_batch() {
  Batch& first = begun_.front();
  VB_ASSIGN(const std::vector<Digest> roots, first.roots.wait());
  for (size_t i = 0; i < roots.size(); ++i) set(first.values[i], roots[i]);
  begun_bytes_ -= first.bytes;
  begun_.pop_front();
  return {};
}

Status ValueRoots::keep_at_most(size_t bytes, size_t batches) {
  while (begun_bytes_ > bytes && begun_.size() > batches) VB_TRY(take_first_batch());
  return {};
}

Status ValueRoots::end_step() {
  VB_TRY(begin());
  return keep_at_most(kMostWaiting, 0);
}

Status ValueRoots::settle() {
  VB_TRY(begin());
  while (!begun_.empty()) VB_TRY(take_first_batch());
  return {};
}

std::vector<Digest> ValueRoots::of(std::span<const ValueId> values) const {
  std::vector<Digest> roots;
  for (const ValueId v : values) roots.push_back(of(v));
  return roots;
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

std::vector<Digest> node_hashes(const Graph& graph, const ValueRoots& roots) {
  std::vector<Digest> hashes;
  for (const Node& node : graph.nodes)
    hashes.push_back(node_hash(static_cast<uint32_t>(hashes.size()), node, roots.of(node.inputs),
                               roots.of(node.outputs)));
  return hashes;
}

Committer::Committer(const Program& program, CommitLevel level, const Digest& task_id)
    : Committer(program, level, [task_id] { return task_id; }) {}

Committer::Committer(const Program& program, CommitLevel level, std::function<Digest()> task_id)
    : program_(&program),
      level_(level),
      make_task_id_(std::move(task_id)),
      recorded_(recorded_values(program)),
      is_recorded_(static_cast<size_t>(program.graph.value_count)),
      roots_(program.graph),
      last_roots_(program.graph) {
  for (const ValueId v : recorded_) is_recorded_[v] = true;
  for (const GraphInput& input : program.graph.inputs) before_.push_back(input.value);
  for (const Carry& carry : program.carries)
    before_[carry.input] = program.graph.outputs[carry.output].value;
}

Status Committer::on_node(uint64_t, int32_t node, std::span<const Tensor> inputs,
                          std::span<const Tensor> outputs) {
  const Node& n = program_->graph.nodes[node];
  if (level_ == CommitLevel::full) return roots_.add(n, inputs, outputs);
  for (size_t i = 0; i < n.outputs.size(); ++i)
    if (n.outputs[i] != kAbsent && is_recorded_[n.outputs[i]])
      VB_TRY(roots_.add(n.outputs[i], outputs[i]));
  return {};
}

Status Committer::on_step_end(uint64_t step, std::span<const Tensor> graph_inputs,
                              std::span<const Tensor> graph_outputs) {
  const Graph& g = program_->graph;
  if (step != steps_ || step >= program_->max_steps)
    return internal_error("step " + std::to_string(step) + " committed out of order");
  if (level_ == CommitLevel::light)
    for (size_t i = 0; i < g.inputs.size(); ++i)  // an output may be an input, passed through
      if (is_recorded_[g.inputs[i].value]) VB_TRY(roots_.add(g.inputs[i].value, graph_inputs[i]));
  VB_TRY(roots_.end_step());
  if (!task_id_) task_id_ = make_task_id_();
  VB_TRY(record_last_step());
  std::swap(last_roots_, roots_);
  last_outputs_.assign(graph_outputs.begin(), graph_outputs.end());
  ++steps_;
  // The next step starts from the roots that this one knows.
  roots_.clear();
  for (size_t i = 0; i < before_.size(); ++i)
    if (last_roots_.known(before_[i])) roots_.expect(g.inputs[i].value);
  return {};
}

Status Committer::record_last_step() {
  if (records_.size() == steps_) return {};
  const Graph& g = program_->graph;
  VB_TRY(last_roots_.settle());
  const std::vector<Digest> body =
      level_ == CommitLevel::full ? node_hashes(g, last_roots_) : last_roots_.of(recorded_);
  const Digest previous = records_.empty() ? genesis_record(*task_id_) : records_.back();
  records_.push_back(step_record(records_.size(), previous, level_,
                                 static_cast<uint32_t>(g.nodes.size()), merkle_root(body)));
  for (size_t i = 0; i < before_.size(); ++i)
    if (last_roots_.known(before_[i])) roots_.set(g.inputs[i].value, last_roots_.of(before_[i]));
  return {};
}

Result<Commitment> Committer::finish() {
  const Graph& g = program_->graph;
  VB_TRY(record_last_step());
  if (!task_id_) task_id_ = make_task_id_();
  Commitment c;
  c.steps = records_.size();
  c.records = records_;
  c.records_root = merkle_root(record_leaves(records_, program_->max_steps));
  Tensors others;
  for (size_t i = 0; i < last_outputs_.size(); ++i)
    if (!last_roots_.known(g.outputs[i].value)) others.push_back(last_outputs_[i]);
  VB_ASSIGN(const std::vector<Digest> roots, tensor_roots(others));
  auto other = roots.begin();
  for (size_t i = 0; i < last_outputs_.size(); ++i) {
    const ValueId v = g.outputs[i].value;
    c.outputs.push_back({g.outputs[i].name, last_roots_.known(v) ? last_roots_.of(v) : *other++});
  }
  c.final_root = final_root(*task_id_, c.steps, c.records_root, c.outputs);
  return c;
}

}  // namespace verbatim
