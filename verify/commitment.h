// What a provider commits to, as formulas: pure functions from roots to digests, shared by
// providers and the referee.
//
//   node hash    H(position, operator, edges, input roots, output roots)
//   step record  H(step, previous record, level, node count, body root)
//   records root Merkle root over max_steps leaves: the records, then absent_record() for steps
//   that were not taken final root   H(task, steps, records root, names and roots of the outputs of
//   the last step)
//
// Every input of a formula other than a root comes from the public program, so a verifier never
// takes a position, a count or an operator from the party that it checks. Layouts byte by byte:
// docs/formats.md.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <verbatim/core/hash.h>
#include <verbatim/repops/executor.h>

namespace verbatim {

// How much is hashed while a program runs; part of the task.
enum class CommitLevel : uint8_t {
  full = 1,   // the body root is over all node hashes of the step
  light = 2,  // over the roots of recorded_values() alone
};
std::string_view name_of(CommitLevel level);  // "full", "light"
Result<CommitLevel> commit_level(std::string_view name);

struct OutputRoot {
  std::string name;
  Digest root;
  bool operator==(const OutputRoot&) const = default;
};

Digest node_hash(uint32_t position, const Node& node, std::span<const Digest> input_roots,
                 std::span<const Digest> output_roots);
Digest genesis_record(const Digest& task_id);  // what step 0 has as its previous record
Digest step_record(uint64_t step, const Digest& previous, CommitLevel level, uint32_t node_count,
                   const Digest& body_root);
Digest absent_record();
// The leaves under the records root. records.size() must not exceed max_steps.
std::vector<Digest> record_leaves(std::span<const Digest> records, uint32_t max_steps);
Digest final_root(const Digest& task_id, uint64_t steps, const Digest& records_root,
                  std::span<const OutputRoot> outputs);

// For each graph output: the value of the new rows, where it is carried and has the form Concat(its
// own carried input, new rows), a key-value cache. The light level records these alone, so that a
// step costs the same however long the cache is.
std::vector<std::optional<ValueId>> appended_values(const Program& program);

// What the light level records of each step, in this order: the first output of every
// kCheckpointInterval-th node whose second input is an initializer of rank 2 or more (a product
// with a weight matrix), then every graph output, appended_values() standing for an output that has
// one. Inputs are not recorded: the task or the previous record binds them.
inline constexpr int kCheckpointInterval = 8;
std::vector<ValueId> recorded_values(const Program& program);

}  // namespace verbatim
