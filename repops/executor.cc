#include <verbatim/repops/executor.h>

#include <algorithm>
#include <map>

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

// A step that is run many times, recorded where that is faster.
class RepeatedStep final : public RecordedStep {
 public:
  // `recorded` may be null.
  RepeatedStep(const Executor& executor, std::span<const Tensor> inputs,
               std::unique_ptr<RecordedStep> recorded)
      : executor_(executor), recorded_(std::move(recorded)) {
    for (const Tensor& t : inputs) kinds_.emplace_back(t.dtype(), t.shape());
  }

  Result<Tensors> run(std::span<const Tensor> inputs) override {
    const auto alike = [](const Tensor& t, const auto& kind) {
      return t.dtype() == kind.first && t.shape() == kind.second;
    };
    if (!std::ranges::equal(inputs, kinds_, alike))
      return bad_input("inputs are not of the types and shapes that were recorded");
    if (recorded_ == nullptr) return executor_.run_step_in_place(0, inputs);
    const FloatWatch watch;
    const FloatGuard guard;
    VB_TRY(watch.check());
    VB_ASSIGN(Tensors outputs, recorded_->run(inputs));
    VB_TRY(watch.check());
    return outputs;
  }
  int64_t recorded_nodes() const override {
    return recorded_ == nullptr ? 0 : recorded_->recorded_nodes();
  }

 private:
  const Executor& executor_;
  std::vector<std::pair<DType, Shape>> kinds_;
  std::unique_ptr<RecordedStep> recorded_;
};

// What has several names there is copied once: a graph may give one value a thousand.
Result<Tensors> on_host(std::span<const Tensor> tensors) {
  Tensors here(tensors.begin(), tensors.end());
  std::map<const std::byte*, Tensor> copies;  // by where it lies on its device
  for (Tensor& t : here) {
    if (t.device() == nullptr) continue;
    Tensor& copy = copies[t.address()];
    if (!copy.defined() || copy.dtype() != t.dtype() || copy.elements() != t.elements()) {
      VB_ASSIGN(copy, t.on_host());
    }
    VB_ASSIGN(t, copy.reshaped(t.shape()));
  }
  return here;
}

}  // namespace

Executor::Executor(const Graph& graph, Backend& backend) : evaluation_(graph), backend_(&backend) {}

Result<Executor> Executor::create(const Graph& graph, Backend& backend) {
  VB_TRY(graph.validate());
  const FloatWatch watch;
  VB_TRY(backend.prepare(graph));
  VB_TRY(watch.check());
  return Executor(graph, backend);
}

Status Executor::check_inputs(std::span<const Tensor> inputs) const {
  const Graph& g = evaluation_.graph();
  if (inputs.size() != g.inputs.size())
    return bad_input(std::to_string(inputs.size()) + " inputs given, the model has " +
                     std::to_string(g.inputs.size()));
  for (size_t i = 0; i < inputs.size(); ++i) VB_TRY(check_input(g.inputs[i], inputs[i]));
  return {};
}

Result<std::unique_ptr<RecordedStep>> Executor::record(std::span<const Tensor> inputs) const {
  const FloatWatch watch;
  const FloatGuard guard;
  VB_TRY(watch.check());
  VB_TRY(check_inputs(inputs));
  VB_ASSIGN(std::unique_ptr<RecordedStep> recorded, backend_->record(evaluation_.graph(), inputs));
  VB_TRY(watch.check());
  return std::unique_ptr<RecordedStep>(
      std::make_unique<RepeatedStep>(*this, inputs, std::move(recorded)));
}

Result<Tensors> Executor::run_step(uint64_t step, std::span<const Tensor> inputs,
                                   const RunOptions& options) const {
  VB_ASSIGN(const Tensors outputs, run_step_in_place(step, inputs, options));
  return on_host(outputs);
}

Result<Tensors> Executor::run_step_in_place(uint64_t step, std::span<const Tensor> inputs,
                                            const RunOptions& options) const {
  const FloatWatch watch;
  const FloatGuard guard;
  VB_TRY(watch.check());
  VB_TRY(check_inputs(inputs));

  Checkpoint checkpoint;
  if (options.stop)
    checkpoint = [&]() -> Status {
      if (!options.stop()) return {};
      return Status(StatusCode::deadline, "stopped in step " + std::to_string(step));
    };
  const Evaluation::OnNode on_node = [&](int32_t node, std::span<const Tensor> node_inputs,
                                         Tensors& outputs) -> Status {
    VB_TRY(watch.check());
    if (options.tamper) {
      VB_ASSIGN(outputs, on_host(outputs));
      options.tamper(step, node, outputs);
    }
    if (options.sink == nullptr) return {};
    return options.sink->on_node(step, node, node_inputs, outputs);
  };
  VB_ASSIGN(Tensors results, evaluation_.run(*backend_, inputs, checkpoint, on_node));
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
    VB_ASSIGN(result.outputs, executor.run_step_in_place(step, state, options));
    result.steps = step + 1;
    Tensors kept = result.outputs;
    for (size_t i = 0; i < kept.size(); ++i) {
      if (carried[i]) kept[i] = Tensor();
      VB_ASSIGN(kept[i], kept[i].on_host());
    }
    result.step_outputs.push_back(std::move(kept));
    if (options.on_step && !options.on_step(step, result.outputs)) break;
    if (stops_after(program, result.outputs)) break;
    for (const Carry& c : program.carries) state[c.input] = result.outputs[c.output];
  }
  VB_ASSIGN(result.outputs, on_host(result.outputs));
  return result;
}

}  // namespace verbatim
