#include <verbatim/verify/commitment.h>

namespace verbatim {
namespace {

void write_roots(Writer& w, std::span<const Digest> roots) {
  w.u32(static_cast<uint32_t>(roots.size()));
  for (const Digest& root : roots) w.raw(root.bytes);
}

void write_edges(Writer& w, std::span<const ValueId> edges) {
  w.u32(static_cast<uint32_t>(edges.size()));
  for (const ValueId v : edges) w.u32(static_cast<uint32_t>(v));
}

bool multiplies_weights(const Graph& graph, std::span<const Graph::Producer> producers,
                        const Node& node) {
  if (node.inputs.size() < 2 || node.inputs[1] == kAbsent) return false;
  const Graph::Producer& p = producers[node.inputs[1]];
  return p.kind == Graph::Producer::Kind::initializer &&
         graph.initializers[p.index].shape.rank() >= 2;
}

}  // namespace

std::string_view name_of(CommitLevel level) {
  return level == CommitLevel::full ? "full" : "light";
}

Result<CommitLevel> commit_level(std::string_view name) {
  if (name == "full") return CommitLevel::full;
  if (name == "light") return CommitLevel::light;
  return usage_error("no commitment level '" + printable(name) + "'; there are full and light");
}

Digest node_hash(uint32_t position, const Node& node, std::span<const Digest> input_roots,
                 std::span<const Digest> output_roots) {
  Writer w;
  w.u32(position);
  encode_operator(w, node);
  write_edges(w, node.inputs);
  write_edges(w, node.outputs);
  write_roots(w, input_roots);
  write_roots(w, output_roots);
  return tagged_hash("verbatim.node.1", w.bytes());
}

Digest genesis_record(const Digest& task_id) {
  return tagged_hash("verbatim.genesis.1", task_id.bytes);
}

Digest step_record(uint64_t step, const Digest& previous, CommitLevel level, uint32_t node_count,
                   const Digest& body_root) {
  Writer w;
  w.u64(step);
  w.raw(previous.bytes);
  w.u8(static_cast<uint8_t>(level));
  w.u32(node_count);
  w.raw(body_root.bytes);
  return tagged_hash("verbatim.step.1", w.bytes());
}

Digest absent_record() { return tagged_hash("verbatim.nostep.1", {}); }

std::vector<Digest> record_leaves(std::span<const Digest> records, uint32_t max_steps) {
  std::vector<Digest> leaves(records.begin(), records.end());
  leaves.resize(max_steps, absent_record());
  return leaves;
}

Digest final_root(const Digest& task_id, uint64_t steps, const Digest& records_root,
                  std::span<const OutputRoot> outputs) {
  Writer w;
  w.raw(task_id.bytes);
  w.u64(steps);
  w.raw(records_root.bytes);
  w.u32(static_cast<uint32_t>(outputs.size()));
  for (const OutputRoot& out : outputs) {
    w.text(out.name);
    w.raw(out.root.bytes);
  }
  return tagged_hash("verbatim.result.1", w.bytes());
}

std::vector<std::optional<ValueId>> appended_values(const Program& program) {
  const Graph& g = program.graph;
  const std::vector<Graph::Producer> producers = g.producers();
  std::vector<std::optional<ValueId>> values(g.outputs.size());
  for (const Carry& carry : program.carries) {
    const Graph::Producer& p = producers[g.outputs[carry.output].value];
    if (p.kind != Graph::Producer::Kind::node) continue;
    const Node& node = g.nodes[p.index];
    if (node.domain.empty() && node.op == "Concat" && node.inputs.size() == 2 &&
        node.inputs[0] == g.inputs[carry.input].value && node.inputs[1] != kAbsent)
      values[carry.output] = node.inputs[1];
  }
  return values;
}

std::vector<ValueId> recorded_values(const Program& program) {
  const Graph& g = program.graph;
  const std::vector<Graph::Producer> producers = g.producers();
  std::vector<ValueId> values;
  int products = 0;
  for (const Node& node : g.nodes) {
    if (!multiplies_weights(g, producers, node) || node.outputs[0] == kAbsent) continue;
    if (++products % kCheckpointInterval == 0) values.push_back(node.outputs[0]);
  }
  const std::vector<std::optional<ValueId>> appended = appended_values(program);
  for (size_t i = 0; i < g.outputs.size(); ++i)
    values.push_back(appended[i].value_or(g.outputs[i].value));
  return values;
}

}  // namespace verbatim
