// A task: everything that decides a result, in one canonical file (.vtask).
//
//   Task task;
//   task.program = ...;                       // graph.compute_roots() done; weights need not be
//   loaded afterwards task.inputs = {tokens}; task.shown = {{"prompt", "Once upon a time"}};
//   VB_TRY(write_task("story.vtask", task));
//   VB_ASSIGN(Task same, read_task("story.vtask"));   // task_id(same) == task_id(task)
//
// The task id is the hash of a header that holds, for each part, the part or its digest. A receipt
// carries that header, so whatever a receipt shows is bound by the task id. Layout:
// docs/formats.md.
#pragma once

#include <array>
#include <string>
#include <vector>

#include <verbatim/core/hash.h>
#include <verbatim/core/tensor.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/semantics.h>
#include <verbatim/verify/commitment.h>
#include <verbatim/verify/limits.h>

namespace verbatim {

inline constexpr size_t kMaxTaskBytes = size_t{64} << 20;

// What a person is shown about a task. Names are distinct and ascending; texts are UTF-8 and may
// hold newlines.
struct Shown {
  std::string name, text;
  bool operator==(const Shown&) const = default;
};

struct InputRoot {
  std::string name;
  Digest root;
  bool operator==(const InputRoot&) const = default;
};

struct TaskHeader {
  uint32_t semantics = kSemanticsVersion;
  CommitLevel level = CommitLevel::full;
  std::string model_name;
  Digest model_root;  // weights, tokenizer and configuration, as `verbatim model digest` prints it
  Digest program_root;  // program_digest()
  uint32_t max_steps = 1;
  std::vector<InputRoot> inputs;
  std::vector<Shown> shown;
  NodeLimits limits;
  std::array<std::byte, 32> nonce{};  // the client's, so that no two disputes share a task id
  bool operator==(const TaskHeader&) const = default;
};

struct Task {
  uint32_t semantics = kSemanticsVersion;
  CommitLevel level = CommitLevel::full;
  std::string model_name;
  Digest model_root;
  Program program;  // roots of initializers; their tensors are not part of a task
  Tensors inputs;   // in the order of program.graph.inputs
  std::vector<Shown> shown;
  NodeLimits limits;  // of any one operator: a party that goes by them refuses what passes them
  std::array<std::byte, 32> nonce{};
};

// Identity of graph, carries, number of steps and stop rule.
Digest program_digest(const Program& program);

TaskHeader task_header(const Task& task);
Digest task_id(const TaskHeader& header);
Digest task_id(const Task& task);

// Inputs fit the program, names and limits are in range. Decoding calls it; whoever builds a task
// does before encoding.
Status validate_task(const Task& task);

Bytes encode_task(const Task& task);
Result<Task> decode_task(ByteView bytes, const std::string& source);
Status write_task(const std::string& path, const Task& task);
Result<Task> read_task(const std::string& path);

void encode_task_header(Writer& w, const TaskHeader& header);
Result<TaskHeader> decode_task_header(Reader& r);

}  // namespace verbatim
