// Commits to a run while it runs: a TraceSink that turns what passes into step records.
//
//   Committer committer(program, CommitLevel::light, task_id(task));
//   VB_ASSIGN(RunResult run, run_program(program, *backend, inputs, {.sink = &committer}));
//   VB_ASSIGN(const Commitment c, committer.finish());
//
// Memory: 32 bytes for each step, the roots of one step, and some of its values for a while, where
// they lie on a device (kMostWaiting).
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

// Bytes of values on a device that wait to be hashed together: enough to occupy it, little of its
// memory.
inline constexpr size_t kMostWaiting = size_t{64} << 20;

// The roots of the values of one step. A root is computed once, when its value is first seen, or
// where that lies on a device, together with others: a hundred take as long there as one.
// Initializers have theirs in the graph (Graph::compute_roots must have been called).
class ValueRoots {
 public:
  explicit ValueRoots(const Graph& graph);

  // Value `v` is `tensor`, or absent.
  Status add(ValueId v, const Tensor& tensor);
  // What a node that has just run takes and gives.
  Status add(const Node& node, std::span<const Tensor> inputs, std::span<const Tensor> outputs);
  // To be called before roots are asked for.
  Status settle();
  // kAbsent has the absent root.
  const Digest& of(ValueId v) const { return v == kAbsent ? absent_ : roots_[v]; }
  std::vector<Digest> of(std::span<const ValueId> values) const;
  bool known(ValueId v) const { return known_[v]; }
  void set(ValueId v, const Digest& root);
  // Forgets everything but the initializers.
  void clear();

 private:
  const Graph* graph_;
  Digest absent_;
  std::vector<Digest> roots_;
  std::vector<bool> known_;  // or waiting
  std::vector<ValueId> waiting_;
  Tensors waiting_tensors_;
  size_t waiting_bytes_ = 0;
};

// The hashes of all nodes of a step, whose values have passed.
std::vector<Digest> node_hashes(const Graph& graph, const ValueRoots& roots);

class Committer final : public TraceSink {
 public:
  // `program` must outlive the committer.
  Committer(const Program& program, CommitLevel level, const Digest& task_id);

  Status on_node(uint64_t step, int32_t node, std::span<const Tensor> inputs,
                 std::span<const Tensor> outputs) override;
  Status on_step_end(uint64_t step, std::span<const Tensor> graph_inputs,
                     std::span<const Tensor> graph_outputs) override;

  // After the last step. Hashes those outputs that no record needed. Errors: a device's.
  Result<Commitment> finish() const;

 private:
  void carry_roots();

  const Program* program_;
  CommitLevel level_;
  Digest task_id_;
  std::vector<ValueId> recorded_;
  std::vector<bool> is_recorded_;  // for each value
  ValueRoots roots_;
  std::vector<Digest> records_;
  std::vector<Tensor> last_outputs_;
  std::vector<std::optional<Digest>> last_output_roots_;  // where a record needed them
};

}  // namespace verbatim
