#include <verbatim/repops/executor.h>

#include <algorithm>

#include <verbatim/core/fp_guard.h>

namespace verbatim {
namespace {

Status check_input(const GraphInput& want, const Tensor& have) {
  const std::string who = "input '" + want.name + "'";
  if (!have.defined()) return bad_input(who + " is not given");
  if (have.dtype() != want.dtype)
    return bad_input(who + " is " + have.describe() + ", the model wants " +
                     std::string(name_of(want.dtype)));
  if (have.rank() != static_cast<int>(want.dims.size()))
    return bad_input(who + " is " + have.describe() + ", the model wants rank " +
                     std::to_string(want.dims.size()));
  for (int i = 0; i < have.rank(); ++i)
    if (want.dims[i] >= 0 && want.dims[i] != have.dim(i))
      return bad_input(who + " is " + have.describe() + ", the model wants " +
                       std::to_string(want.dims[i]) + " in dimension " + std::to_string(i));
  return {};
}

}  // namespace

Executor::Executor(const Graph& graph, Backend& backend)
    : graph_(&graph), backend_(&backend), last_use_(static_cast<size_t>(graph.value_count), -1) {
  const auto node_count = static_cast<int32_t>(graph.nodes.size());
  for (int32_t i = 0; i < node_count; ++i)
    for (ValueId v : graph.nodes[i].inputs)
      if (v != kAbsent) last_use_[v] = i;
  for (const GraphOutput& out : graph.outputs) last_use_[out.value] = node_count;
}

Result<Executor> Executor::create(const Graph& graph, Backend& backend) {
  VB_TRY(graph.validate());
  const FloatWatch watch;
  VB_TRY(backend.prepare(graph));
  VB_TRY(watch.check());
  return Executor(graph, backend);
}

Result<Tensors> Executor::run_step(uint64_t step, std::span<const Tensor> inputs,
                                   const RunOptions& options) const {
  const FloatWatch watch;
  const FloatGuard guard;
  VB_TRY(watch.check());
  const Graph& g = *graph_;
  if (inputs.size() != g.inputs.size())
    return bad_input(std::to_string(inputs.size()) + " inputs given, the model has " +
                     std::to_string(g.inputs.size()));
  Tensors values(static_cast<size_t>(g.value_count));
  for (size_t i = 0; i < inputs.size(); ++i) {
    VB_TRY(check_input(g.inputs[i], inputs[i]));
    values[g.inputs[i].value] = inputs[i];
  }
  for (const Initializer& init : g.initializers) {
    if (!init.tensor.defined()) return unavailable("weight '" + init.name + "' is not loaded");
    values[init.value] = init.tensor;
  }

  Tensors node_inputs;
  for (int32_t i = 0; i < static_cast<int32_t>(g.nodes.size()); ++i) {
    const Node& node = g.nodes[i];
    if (options.stop && options.stop())
      return Status(StatusCode::deadline, "stopped before node " + std::to_string(i) + " of step " +
                                              std::to_string(step));
    node_inputs.clear();
    for (ValueId v : node.inputs) node_inputs.push_back(v == kAbsent ? Tensor() : values[v]);
    Result<Tensors> outputs = backend_->run(node, node_inputs);
    if (!outputs.ok()) return outputs.status().with_context("node " + std::to_string(i));
    VB_TRY(watch.check());
    if (outputs->size() < node.outputs.size())
      return internal_error("node " + std::to_string(i) + " (" + node.title() +
                            ") left out an output");
    outputs->resize(node.outputs.size());
    if (options.tamper) options.tamper(step, i, *outputs);
    if (options.sink) VB_TRY(options.sink->on_node(step, i, node_inputs, *outputs));
    for (size_t j = 0; j < node.outputs.size(); ++j)
      if (node.outputs[j] != kAbsent && last_use_[node.outputs[j]] > i)
        values[node.outputs[j]] = std::move((*outputs)[j]);
    for (ValueId v : node.inputs)
      if (v != kAbsent && last_use_[v] == i) values[v] = Tensor();
  }

  Tensors results;
  for (const GraphOutput& out : g.outputs) results.push_back(values[out.value]);
  if (options.sink) VB_TRY(options.sink->on_step_end(step, inputs, results));
  return results;
}

Result<RunResult> run_program(const Program& program, Backend& backend,
                              std::span<const Tensor> inputs, const RunOptions& options) {
  VB_TRY(validate_program(program));
  VB_ASSIGN(const Executor executor, Executor::create(program.graph, backend));
  std::vector<bool> carried(program.graph.outputs.size());
  for (const Carry& c : program.carries) carried[c.output] = true;
  if (program.stop_output) carried[*program.stop_output] = false;

  RunResult result;
  Tensors state(inputs.begin(), inputs.end());
  for (uint64_t step = 0; step < program.max_steps; ++step) {
    VB_ASSIGN(result.outputs, executor.run_step(step, state, options));
    result.steps = step + 1;
    Tensors kept = result.outputs;
    for (size_t i = 0; i < kept.size(); ++i)
      if (carried[i]) kept[i] = Tensor();
    result.step_outputs.push_back(std::move(kept));
    if (options.on_step && !options.on_step(step, result.outputs)) break;
    if (stops_after(program, result.outputs)) break;
    for (const Carry& c : program.carries) state[c.input] = result.outputs[c.output];
  }
  return result;
}

}  // namespace verbatim
