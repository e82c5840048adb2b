// Training as a program: a graph with a loss becomes a Program, each step of which computes the
// loss of one batch, its gradients, their norm, and the next parameters (docs/numerics.md,
// Training).
//
//   GraphEditor e(model_graph);
//   const ValueId loss = cross_entropy(e, logits, labels);
//   VB_ASSIGN(const Training t, training_program(*e.finish(), loss, settings));
//   Tensors inputs = {tokens, labels};                          // of the graph, its own
//   inputs.insert(inputs.end(), t.state.begin(), t.state.end());  // rate, step, parameters,
//   moments VB_ASSIGN(const RunResult r, run_program(t.program, *backend, inputs));
//
// Parameters and moments are carries, so a run can be committed to and disputed as any other.
#pragma once

#include <string>
#include <vector>

#include <verbatim/repops/graph_editor.h>
#include <verbatim/repops/op.h>
#include <verbatim/repops/program.h>

namespace verbatim {

// SGD as PyTorch's SGD: weight decay is added to the gradient, momentum without dampening. AdamW:
// Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (arXiv 1711.05101).
enum class Optimizer : uint8_t { sgd, adamw };

struct TrainingSettings {
  Optimizer optimizer = Optimizer::adamw;
  float learning_rate = 1e-3f;
  float weight_decay = 0;
  float momentum = 0;                 // SGD; 0: no velocity is kept
  double beta1 = 0.9, beta2 = 0.999;  // AdamW; within [0, 1)
  float epsilon = 1e-8f;              // AdamW
  float max_norm = 0;                 // of all gradients together; 0: they are not clipped
  uint32_t steps = 1;
  // Names of the initializers that are trained, float32; their order is that of the norm's sum.
  std::vector<std::string> parameters;
  // Names of inputs that get a leading dimension: step t takes entry t mod its size.
  std::vector<std::string> batches;
};

// The program's inputs are those of the graph, then as many as `state`: learning_rate, step, with
// AdamW powers (of the betas), then the parameters, then the optimizer's moments. Outputs: loss,
// gradient_norm (before clipping), and the next value of each carry, the parameters from
// `first_parameter` on.
struct Training {
  Program program;
  Tensors state;
  std::vector<std::string> parameters;
  size_t first_parameter = 0;  // where theirs begin among the program's outputs
};

// Errors: parameters or inputs that the graph does not have, settings out of range, and what
// differentiate() says.
Result<Training> training_program(const Graph& graph, ValueId loss,
                                  const TrainingSettings& settings);

// Loss nodes. Cross-entropy of logits [..., C] against labels int64 [...]: the mean over the rows
// whose label is not `ignore_index` of -log softmax(row)[label].
inline constexpr int64_t kIgnoreIndex = -100;
ValueId cross_entropy(GraphEditor& e, ValueId logits, ValueId labels,
                      int64_t ignore_index = kIgnoreIndex);
// The mean over all elements of (prediction - target)^2.
ValueId mean_squared_error(GraphEditor& e, ValueId prediction, ValueId target);

}  // namespace verbatim
