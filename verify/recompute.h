// The one computation of a referee: a node, from inputs whose roots are agreed, by the scalar
// reference.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <verbatim/verify/conversation.h>
#include <verbatim/verify/task_facts.h>
#include <verbatim/verify/verdict.h>

namespace verbatim {

// A whole tensor of `value` in `step`, whose root must be `root`. Nothing where the party failed to
// give it; its failure says so. `too_large` is set, and nobody blamed, where the tensor is larger
// than max_bytes.
std::optional<Tensor> fetch_tensor(Conversation& talk, uint64_t step, ValueId value,
                                   const Digest& root, uint64_t max_bytes, bool& too_large);
// Its type, shape and leaves root; the bytes are empty.
std::optional<TensorPart> fetch_header(Conversation& talk, uint64_t step, ValueId value,
                                       const Digest& root);

// Recomputes nodes, keeping the last one's outputs: liars that tell one lie cost one recomputation.
class Recomputation {
 public:
  // `own` are the referee's maxima for one node; the task's limits hold besides.
  Recomputation(const TaskFacts& facts, const NodeLimits& own, RefereeCost& cost)
      : facts_(facts), limits_{facts.task->limits, own}, cost_(cost) {}

  // The true outputs of `node` in `step` for inputs with these roots, which `askers` supply: the
  // first that can. An error of code unsupported or limit: the referee cannot check (no verdict).
  // Null where nobody supplied the inputs.
  Result<const Tensors*> outputs(uint64_t step, uint32_t node, std::span<const Digest> input_roots,
                                 std::span<Conversation* const> askers);

 private:
  std::optional<Tensor> local_input(const Digest& root) const;
  Result<std::optional<Tensors>> fetch_inputs(uint64_t step, const Node& node,
                                              std::span<const Digest> roots,
                                              std::span<Conversation* const> askers);
  Result<Tensors> evaluate(const Node& node, const Tensors& inputs) const;

  const TaskFacts& facts_;
  EffectiveLimits limits_;
  RefereeCost& cost_;
  struct Done {
    uint64_t step;
    uint32_t node;
    std::vector<Digest> input_roots;
    Tensors outputs;
  };
  std::optional<Done> last_;
};

// Finds the first tile and element in which what `talk` claims for an output (root `claimed`)
// differs from `truth`. Fills what it can: a party that does not answer any more leaves the tile
// unknown.
void locate_difference(Conversation& talk, uint64_t step, ValueId value, const Digest& claimed,
                       const Tensor& truth, Where& where);

}  // namespace verbatim
