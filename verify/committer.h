// Commits to a run while it runs: a TraceSink that turns what passes into step records.
//
//   Committer committer(program, CommitLevel::light, task_id(task));
//   VB_ASSIGN(RunResult run, run_program(program, *backend, inputs, {.sink = &committer}));
//   Commitment c = committer.finish();
//
// Memory: 32 bytes for each step, and the roots of one step.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include <verbatim/verify/commitment.h>

namespace verbatim {

struct Commitment {
  uint64_t steps = 0;
  std::vector<Digest> records;
  Digest records_root;
  std::vector<OutputRoot> outputs;  // of the last step, in the order of graph.outputs
  Digest final_root;
};

// The roots of the values of one step. A root is computed once, when its value is first seen;
// initializers have theirs in the graph (Graph::compute_roots must have been called).
class ValueRoots {
 public:
  explicit ValueRoots(const Graph& graph);

  // The root of value `v`, whose tensor is `tensor`. kAbsent has the absent root.
  const Digest& of(ValueId v, const Tensor& tensor);
  bool known(ValueId v) const { return known_[v]; }
  void set(ValueId v, const Digest& root);
  // Forgets everything but the initializers.
  void clear();

 private:
  const Graph* graph_;
  Digest absent_;
  std::vector<Digest> roots_;
  std::vector<bool> known_;
};

// The input and output roots of one node that has just run.
struct NodeRoots {
  std::vector<Digest> inputs, outputs;
};
NodeRoots node_roots(ValueRoots& roots, const Node& node, std::span<const Tensor> inputs,
                     std::span<const Tensor> outputs);

class Committer final : public TraceSink {
 public:
  // `program` must outlive the committer.
  Committer(const Program& program, CommitLevel level, const Digest& task_id);

  Status on_node(uint64_t step, int32_t node, std::span<const Tensor> inputs,
                 std::span<const Tensor> outputs) override;
  Status on_step_end(uint64_t step, std::span<const Tensor> graph_inputs,
                     std::span<const Tensor> graph_outputs) override;

  // After the last step. Hashes those outputs that no record needed.
  Commitment finish() const;

 private:
  void carry_roots();

  const Program* program_;
  CommitLevel level_;
  Digest task_id_;
  std::vector<ValueId> recorded_;
  std::vector<bool> is_recorded_;  // for each value
  ValueRoots roots_;
  std::vector<Digest> node_hashes_;  // of the step under way
  std::vector<Digest> records_;
  std::vector<Tensor> last_outputs_;
  std::vector<std::optional<Digest>> last_output_roots_;  // where a record needed them
};

}  // namespace verbatim
