// What the public task alone says, laid out for looking up: the referee's side of every comparison.
#pragma once

#include <optional>
#include <vector>

#include <verbatim/verify/task.h>

namespace verbatim {

struct TaskFacts {
  explicit TaskFacts(const Task& task);

  const Node& node(uint32_t i) const { return task->program.graph.nodes[i]; }
  uint32_t node_count() const { return static_cast<uint32_t>(task->program.graph.nodes.size()); }
  uint32_t max_steps() const { return task->program.max_steps; }

  const Task* task;
  Digest id;
  std::vector<Graph::Producer> producers;  // of each value
  std::vector<Digest> input_roots;         // of the task's inputs
  std::vector<std::optional<uint32_t>>
      carried_output;                   // for each graph input: what feeds it from step to step
  std::vector<ValueId> recorded;        // recorded_values(): the light level
  std::vector<uint32_t> output_record;  // for each graph output: its place in `recorded` (its new
                                        // rows, where it is appended to)
  std::vector<std::optional<ValueId>> appended;  // for each graph output: appended_values()
};

}  // namespace verbatim
