// Commits to a run while it runs: a TraceSink that turns what passes into step records.
//
//   Committer committer(program, CommitLevel::light, task_id(task));
//   VB_ASSIGN(RunResult run, run_program(program, *backend, inputs, {.sink = &committer}));
//   VB_ASSIGN(const Commitment c, committer.finish());
//
// Memory: 32 bytes for each step, the roots of two, and some of their values for a while, where
// they lie on a device (kMostWaiting).
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include <verbatim/core/tensor_root.h>
#include <verbatim/verify/commitment.h>

namespace verbatim {

struct Commitment {
  uint64_t steps = 0;
  std::vector<Digest> records;
  Digest records_root;
  std::vector<OutputRoot> outputs;  // of the last step, in the order of graph.outputs
  Digest final_root;
};

// Bytes of values on a device that are hashed together: enough to occupy it.
inline constexpr size_t kBatchBytes = size_t{16} << 20;
// Bytes of a step's values that are kept until they are hashed: so many that the device has work
// when the host waits for the first, little of its memory. While a step runs its newest batch is
// kept besides; once it has ended its own are, and those of the next one.
inline constexpr size_t kMostWaiting = size_t{64} << 20;

// The roots of the values of one step. A root is computed once, when its value is first seen, or
// where that lies on a device, together with others, because a hundred take as long there as one,
// and beside what the device is told next. Initializers have theirs in the graph
// (Graph::compute_roots must have been called).
class ValueRoots {
 public:
  explicit ValueRoots(const Graph& graph);

  // Value `v` is `tensor`, or absent.
  Status add(ValueId v, const Tensor& tensor);
  // What a node that has just run takes and gives.
  Status add(const Node& node, std::span<const Tensor> inputs, std::span<const Tensor> outputs);
  // The root of `v` will be set() before it is asked for.
  void expect(ValueId v) { known_[v] = true; }
  // The step's last value was added: devices begin with what is left, and little is kept.
  Status end_step();
  // To be called before roots are asked for.
  Status settle();
  // kAbsent has the absent root.
  const Digest& of(ValueId v) const { return v == kAbsent ? absent_ : roots_[v]; }
  std::vector<Digest> of(std::span<const ValueId> values) const;
  // It is, or will be.
  bool known(ValueId v) const { return known_[v]; }
  void set(ValueId v, const Digest& root);
  // Forgets everything but the initializers, once all are settled.
  void clear();

 private:
  struct Batch {
    std::vector<ValueId> values;
    size_t bytes;
    BegunRoots roots;
  };
  Status begin();             // has devices begin with what was added
  Status take_first_batch();  // waits for it
  // Waits for batches, the first ones first, while there are more bytes, and more than so many.
  Status keep_at_most(size_t bytes, size_t batches);

  const Graph* graph_;
  Digest absent_;
  std::vector<Digest> roots_;
  std::vector<bool> known_;
  std::vector<ValueId> waiting_;
  Tensors waiting_tensors_;
  size_t waiting_bytes_ = 0;
  std::deque<Batch> begun_;
  size_t begun_bytes_ = 0;
};

// The hashes of all nodes of a step, whose values have passed.
std::vector<Digest> node_hashes(const Graph& graph, const ValueRoots& roots);

// A step's record is made when the next one has ended, or the run: devices hash beside it.
class Committer final : public TraceSink {
 public:
  // `program` must outlive the committer.
  Committer(const Program& program, CommitLevel level, const Digest& task_id);
  // The same for a task whose id nobody has asked for yet. It takes a hash of the inputs: it is
  // asked for once, when the first step has ended, which a device may still be working on, or by
  // finish() where no step has. What it reads must be there, and unchanged, until then.
  Committer(const Program& program, CommitLevel level, std::function<Digest()> task_id);

  Status on_node(uint64_t step, int32_t node, std::span<const Tensor> inputs,
                 std::span<const Tensor> outputs) override;
  Status on_step_end(uint64_t step, std::span<const Tensor> graph_inputs,
                     std::span<const Tensor> graph_outputs) override;

  // After the last step. Hashes those outputs that no record needed. Errors: a device's.
  Result<Commitment> finish();

 private:
  Status record_last_step();  // once

  const Program* program_;
  CommitLevel level_;
  std::function<Digest()> make_task_id_;
  std::optional<Digest> task_id_;  // once a step has ended
  std::vector<ValueId> recorded_;
  std::vector<bool> is_recorded_;  // for each value
  std::vector<ValueId> before_;    // for each input: what it is in the step before
  uint64_t steps_ = 0;             // that have ended
  std::vector<Digest> records_;    // of all of them, or all but the last
  ValueRoots roots_;               // of the step that runs
  ValueRoots last_roots_;          // of the last that has ended
  std::vector<Tensor> last_outputs_;
};

}  // namespace verbatim
