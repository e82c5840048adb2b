// Runs a program: one graph for one or more steps, the outputs of a step feeding the next.
//
// A step is one evaluation of the whole graph: a sentence embedding has one, a generation one for
// each token. Whatever a node produced goes past a TraceSink, which is how commitments are made;
// without a sink nothing is paid.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include <verbatim/core/tensor.h>
#include <verbatim/repops/evaluation.h>
#include <verbatim/repops/program.h>

namespace verbatim {

// What it gets lies where the backend left it: floats may be on a device.
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  // After each node, in the program's order. `node` is the index into graph.nodes.
  virtual Status on_node(uint64_t step, int32_t node, std::span<const Tensor> inputs,
                         std::span<const Tensor> outputs) = 0;
  virtual Status on_step_end(uint64_t step, std::span<const Tensor> graph_inputs,
                             std::span<const Tensor> graph_outputs) = 0;
};

struct RunOptions {
  TraceSink* sink = nullptr;
  // Asked before each node, and each trip through a body; true ends the run with an error of code
  // deadline (out of time, nobody wants it any more).
  std::function<bool()> stop;
  // Fault injection: may change a node's outputs before anybody sees them.
  std::function<void(uint64_t step, int32_t node, Tensors& outputs)> tamper;
  // Called after each step, with outputs where the backend left them (floats may lie on a device);
  // false ends the run there, as the stop rule does.
  std::function<bool(uint64_t step, std::span<const Tensor> outputs)> on_step;
};

class Executor {
 public:
  // Prepares the backend for the graph. Both must outlive the executor.
  static Result<Executor> create(const Graph& graph, Backend& backend);

  // One step. Inputs in the order of graph.inputs; checked against its types and dimensions. What
  // the caller gets lies on the host.
  Result<Tensors> run_step(uint64_t step, std::span<const Tensor> inputs,
                           const RunOptions& options = {}) const;
  // The same, but outputs stay where the backend computed them: for those that the next step takes.
  Result<Tensors> run_step_in_place(uint64_t step, std::span<const Tensor> inputs,
                                    const RunOptions& options = {}) const;
  // Such a step, made ready to be run many times on other inputs of these types and shapes: on a
  // GPU, as CUDA graphs. Others are an error. The executor outlives it.
  Result<std::unique_ptr<RecordedStep>> record(std::span<const Tensor> inputs) const;

 private:
  Executor(const Graph& graph, Backend& backend);
  Status check_inputs(std::span<const Tensor> inputs) const;
  Evaluation evaluation_;
  Backend* backend_;
};

struct RunResult {
  uint64_t steps = 0;
  Tensors outputs;                    // of the last step, in the order of graph.outputs
  std::vector<Tensors> step_outputs;  // of every step, only those outputs that are not carried or
                                      // that stop the program
};

// All steps of a program.
Result<RunResult> run_program(const Program& program, Backend& backend,
                              std::span<const Tensor> inputs, const RunOptions& options = {});

}  // namespace verbatim
