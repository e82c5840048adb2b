#include <verbatim/verify/match.h>

#include <algorithm>

#include <verbatim/core/tensor_root.h>

namespace verbatim {

void Match::refute(int side, std::string reason, bool binds_result, std::optional<Where> where) {
  for (const Refutation& r : result_.refuted)
    if (r.side == side) return;  // the first reason stands
  result_.refuted.push_back({side, std::move(reason), std::move(where), binds_result});
}

void Match::refute_differing(const Both<Digest>& claims, const Digest& truth,
                             const std::string& reason, bool binds_result,
                             const std::optional<Where>& where) {
  for (int side = 0; side < 2; ++side)
    if (claims[side] != truth) refute(side, reason, binds_result, where);
}

Where Match::at(uint64_t step, uint32_t node) const {
  Where where;
  where.step = step;
  where.node = static_cast<int32_t>(node);
  where.title = facts_.node(node).title();
  return where;
}

// Both are asked even if the first fails, so that silence of both is seen.
template <class R>
std::optional<Match::Both<R>> Match::ask_both(const Question& question) {
  const std::optional<R> a = sides_[0].talk->ask<R>(question);
  const std::optional<R> b = sides_[1].talk->ask<R>(question);
  if (!a || !b) return std::nullopt;
  return Both<R>{{*a, *b}};
}

std::optional<Match::Split> Match::first_difference(TreeName tree, uint64_t count,
                                                    Both<Digest> roots) {
  LeafRange node{0, count};
  while (node.size() > 1) {
    const auto children = ask_both<Children>(AskChildren{tree, node});
    if (!children) return std::nullopt;
    const std::vector<LeafRange> ranges = walk_ranges(node);
    for (int side = 0; side < 2; ++side) {
      const std::vector<Digest>& hashes = (*children)[side].hashes;
      if (hashes.size() != ranges.size() || walk_fold(node, hashes) != roots[side])
        sides_[side].talk->fail("what it opens of a tree does not hash to what it committed to");
    }
    if (failed(0) || failed(1)) return std::nullopt;
    size_t i = 0;
    while ((*children)[0].hashes[i] == (*children)[1].hashes[i]) ++i;  // equal lists fold alike
    node = ranges[i];
    roots = {{(*children)[0].hashes[i], (*children)[1].hashes[i]}};
  }
  return Split{node.begin, roots};
}

// ---- Openings ----

std::optional<Digest> Match::record_of(int side, uint64_t step) {
  Conversation& talk = *sides_[side].talk;
  const auto reply = talk.ask<Record>(AskRecord{step});
  if (!reply) return std::nullopt;
  if (merkle_verify(sides_[side].claim->records_root, facts_.max_steps(), step, reply->record,
                    reply->proof))
    return reply->record;
  talk.fail("the step record that it opens is not under its records root");
  return std::nullopt;
}

std::optional<StepOpening> Match::step_of(int side, uint64_t step) {
  const auto record = record_of(side, step);
  if (!record) return std::nullopt;
  const auto opening = sides_[side].talk->ask<StepOpening>(AskStep{step});
  if (!opening) return std::nullopt;
  Where where;
  where.step = step;
  if (step_record(step, opening->previous, facts_.task->level, facts_.node_count(),
                  opening->body_root) != *record)
    refute(side, "what it opens is not what it committed to in its step record", false, where);
  else if (!light() && opening->node_root != opening->body_root)
    refute(side, "its list of nodes is not the one that it committed to", false, where);
  else
    return opening;
  return std::nullopt;
}

std::optional<NodeOpening> Match::node_of(int side, uint64_t step, uint32_t index) {
  const auto step_opening = step_of(side, step);
  if (!step_opening) return std::nullopt;
  Conversation& talk = *sides_[side].talk;
  const auto opening = talk.ask<NodeOpening>(AskNode{step, index});
  if (!opening) return std::nullopt;
  const Node& node = facts_.node(index);
  if (opening->inputs.size() != node.inputs.size() ||
      opening->outputs.size() != node.outputs.size()) {
    refute(side, "the opened node has other edges than the program's", false, at(step, index));
    return std::nullopt;
  }
  const Digest hash = node_hash(index, node, opening->inputs, opening->outputs);
  if (merkle_verify(step_opening->node_root, facts_.node_count(), index, hash, opening->proof))
    return opening;
  refute(side,
         "what it opens, with the program's operator, attributes and edges, is not the node that "
         "it committed to",
         false, at(step, index));
  return std::nullopt;
}

std::optional<Digest> Match::recorded_of(int side, uint64_t step, uint32_t index) {
  const auto opening = step_of(side, step);
  if (!opening) return std::nullopt;
  Conversation& talk = *sides_[side].talk;
  const auto reply = talk.ask<Recorded>(AskRecorded{step, index});
  if (!reply) return std::nullopt;
  if (merkle_verify(opening->body_root, facts_.recorded.size(), index, reply->root, reply->proof))
    return reply->root;
  talk.fail("the recorded value that it opens is not under its step record");
  return std::nullopt;
}

// ---- Agreed roots ----

std::optional<Digest> Match::previous_record(uint64_t step) {
  if (step == 0) return genesis_record(facts_.id);
  for (int side = 0; side < 2; ++side)
    if (auto record = record_of(side, step - 1)) return record;
  return std::nullopt;
}

// Of a value in a step whose nodes up to its producer are agreed.
std::optional<Digest> Match::value_root(uint64_t step, ValueId value) {
  if (value == kAbsent) return absent_root();
  const Graph::Producer& p = facts_.producers[value];
  if (p.kind == Graph::Producer::Kind::initializer)
    return facts_.task->program.graph.initializers[p.index].root;
  if (p.kind == Graph::Producer::Kind::input)
    return input_root(step, static_cast<uint32_t>(p.index));
  for (int side = 0; side < 2; ++side)
    if (const auto opening = node_of(side, step, static_cast<uint32_t>(p.index)))
      return opening->outputs[p.output];
  return std::nullopt;
}

// Of a graph input in a step whose previous record is agreed. An output may be an input passed on,
// so this may lead further back.
std::optional<Digest> Match::input_root(uint64_t step, uint32_t input) {
  const Graph& g = facts_.task->program.graph;
  while (step > 0 && facts_.carried_output[input]) {
    const uint32_t output = *facts_.carried_output[input];
    const Graph::Producer& p = facts_.producers[g.outputs[output].value];
    if (p.kind != Graph::Producer::Kind::input) return output_root(step - 1, output);
    input = static_cast<uint32_t>(p.index);
    --step;
  }
  return facts_.input_roots[input];
}

// Of a graph output in a step whose record is agreed.
std::optional<Digest> Match::output_root(uint64_t step, uint32_t output) {
  const ValueId value = facts_.task->program.graph.outputs[output].value;
  const Graph::Producer& p = facts_.producers[value];
  if (p.kind != Graph::Producer::Kind::node || !light()) return value_root(step, value);
  if (facts_.appended[output]) return appended_root(step, output, static_cast<uint32_t>(p.index));
  for (int side = 0; side < 2; ++side)
    if (auto root = recorded_of(side, step, facts_.output_record[output])) return root;
  return std::nullopt;
}

// Light level: a cache that each step appends to, of which records hold the new rows alone. The
// sides open the appending node in one step after another, by halving, down to two neighbouring
// steps of which the first is agreed and the second is not; from agreed rows and an agreed cache
// that node has one right output. Claims between need no commitment: an honest side only ever says
// what is so, hence where both agree it is so, and where they part the other side's claim is false.
std::optional<Digest> Match::appended_root(uint64_t step, uint32_t output, uint32_t node) {
  const auto claims = [&](uint64_t s) -> std::optional<Both<NodeOpening>> {
    const auto a = node_of(0, s, node), b = node_of(1, s, node);
    if (!a || !b) return std::nullopt;
    return Both<NodeOpening>{{*a, *b}};
  };
  auto last = claims(step);
  if (!last) return std::nullopt;
  if ((*last)[0].outputs[0] == (*last)[1].outputs[0]) return (*last)[0].outputs[0];

  const Graph::Producer& cache = facts_.producers[facts_.node(node).inputs[0]];
  Digest past = facts_.input_roots[cache.index];
  uint64_t agreed = 0, differs = step;  // steps below `agreed` are agreed
  while (agreed < differs) {
    const uint64_t middle = agreed + (differs - agreed) / 2;
    const auto here = claims(middle);
    if (!here) return std::nullopt;
    if ((*here)[0].outputs[0] == (*here)[1].outputs[0]) {
      agreed = middle + 1;
      past = (*here)[0].outputs[0];
    } else {
      differs = middle;
      last = here;
    }
  }
  refute_differing({{(*last)[0].inputs[0], (*last)[1].inputs[0]}}, past,
                   "it appends to another cache than the step before left", false,
                   at(differs, node));
  const auto rows = [&]() -> std::optional<Digest> {
    for (int side = 0; side < 2; ++side)
      if (auto root = recorded_of(side, differs, facts_.output_record[output])) return root;
    return std::nullopt;
  }();
  if (!rows) return std::nullopt;
  refute_differing({{(*last)[0].inputs[1], (*last)[1].inputs[1]}}, *rows,
                   "it appends other rows than its step record holds", false, at(differs, node));
  if (!decided()) play_recomputation(differs, node, *last);
  return std::nullopt;
}

// Whether output_root() follows from the record alone, and so from the final root.
bool Match::output_is_bound(uint32_t output) const {
  if (!light()) return true;
  const ValueId value = facts_.task->program.graph.outputs[output].value;
  return !facts_.appended[output] && facts_.producers[value].kind == Graph::Producer::Kind::node;
}

// ---- Phase 1 ----

MatchResult Match::play() {
  play_records();
  return std::move(result_);
}

void Match::play_records() {
  const Claim &a = *sides_[0].claim, &b = *sides_[1].claim;
  if (a.records_root == b.records_root) {
    if (a.steps != b.steps)
      play_steps_claimed();
    else
      play_outputs();
    return;
  }
  const auto split = first_difference({}, facts_.max_steps(), {{a.records_root, b.records_root}});
  if (split) play_leaf(split->index, split->leaf);
}

void Match::play_leaf(uint64_t step, const Both<Digest>& leaf) {
  Where where;
  where.step = step;
  bool absent[2];
  for (int side = 0; side < 2; ++side) {
    absent[side] = leaf[side] == absent_record();
    if (absent[side] != (sides_[side].claim->steps <= step))
      refute(side, "its number of steps is not that of its step records", true, where);
  }
  if (decided()) return;
  if (!absent[0] && !absent[1])
    play_step(step);
  else
    play_length(step, absent[0] ? 0 : 1);
}

// All records before `step` are agreed; `shorter` ends there and the other goes on. The stop rule
// decides.
void Match::play_length(uint64_t step, int shorter) {
  const Program& program = facts_.task->program;
  Where where;
  where.step = step;
  if (!program.stop_output)
    return refute(shorter, "it ends before the program's last step", true, where);
  const auto root = output_root(step - 1, *program.stop_output);
  if (!root) return;
  const ValueId value = program.graph.outputs[*program.stop_output].value;
  std::optional<Tensor> stop;
  bool too_large = false;
  for (int side = 0; side < 2 && !stop && !too_large; ++side)
    stop = fetch_tensor(*sides_[side].talk, step - 1, value, *root, kMaxTensorPart, too_large);
  if (!stop && !too_large) return;
  // A tensor that is too large to fetch here is not one int64.
  Tensors outputs(program.graph.outputs.size());
  if (stop) outputs[*program.stop_output] = *stop;
  const bool stops = stop && stops_after(program, outputs);
  const bool bound = output_is_bound(*program.stop_output);
  if (stops)
    refute(1 - shorter, "it goes on after the step whose output ends the program", bound, where);
  else
    refute(shorter, "it ends at a step whose output does not end the program", bound, where);
}

// Equal records, but different numbers of steps.
void Match::play_steps_claimed() {
  const int shorter = sides_[0].claim->steps < sides_[1].claim->steps ? 0 : 1;
  const uint64_t step = sides_[shorter].claim->steps;
  for (int side = 0; side < 2; ++side) {
    const auto leaf = record_of(side, step);
    if (!leaf) continue;
    Where where;
    where.step = step;
    return refute(*leaf == absent_record() ? 1 - shorter : shorter,
                  "its number of steps is not that of its step records", true, where);
  }
}

// Equal records and steps: an output is not what the last step gave.
void Match::play_outputs() {
  const Graph& g = facts_.task->program.graph;
  const uint64_t step = sides_[0].claim->steps - 1;
  for (uint32_t i = 0; i < g.outputs.size() && !decided(); ++i) {
    const Both<Digest> claims{{sides_[0].claim->outputs[i], sides_[1].claim->outputs[i]}};
    if (claims[0] == claims[1]) continue;
    const auto truth = output_root(step, i);
    if (!truth) return;
    Where where;
    where.step = step;
    refute_differing(
        claims, *truth,
        "its output '" + shortened(g.outputs[i].name) + "' is not what its last step gave",
        output_is_bound(i), where);
  }
}

// ---- Phase 2 ----

void Match::play_step(uint64_t step) {
  const auto previous = previous_record(step);
  if (!previous) return;
  const auto a = step_of(0, step), b = step_of(1, step);
  if (!a || !b) return;
  const Both<StepOpening> opening{{*a, *b}};
  Where where;
  where.step = step;
  refute_differing({{a->previous, b->previous}}, *previous,
                   "its step record does not continue the agreed record of the step before", true,
                   where);
  if (decided()) return;
  if (a->node_root == b->node_root) return play_recorded(step, opening);
  const auto split = first_difference({TreeName::Kind::nodes, step, 0}, facts_.node_count(),
                                      {{a->node_root, b->node_root}});
  if (split) play_node(step, static_cast<uint32_t>(split->index));
}

// Light level: equal nodes, but other recorded values. Whose record is not what its own nodes gave?
void Match::play_recorded(uint64_t step, const Both<StepOpening>& opening) {
  const auto split = first_difference({TreeName::Kind::recorded, step, 0}, facts_.recorded.size(),
                                      {{opening[0].body_root, opening[1].body_root}});
  if (!split) return;
  const auto truth = value_root(step, facts_.recorded[split->index]);
  if (!truth) return;
  Where where;
  where.step = step;
  refute_differing(split->leaf, *truth, "its step record is not what its own nodes gave", false,
                   where);
}

void Match::play_node(uint64_t step, uint32_t node) {
  const auto a = node_of(0, step, node), b = node_of(1, step, node);
  if (!a || !b) return;
  const Both<NodeOpening> opening{{*a, *b}};
  if (play_inputs(step, node, opening)) play_recomputation(step, node, opening);
}

// Whether the sides agree on all inputs; otherwise who takes another input than the agreed producer
// gave is refuted.
bool Match::play_inputs(uint64_t step, uint32_t node, const Both<NodeOpening>& opening) {
  const std::vector<ValueId>& inputs = facts_.node(node).inputs;
  for (size_t j = 0; j < inputs.size(); ++j) {
    const Both<Digest> claims{{opening[0].inputs[j], opening[1].inputs[j]}};
    if (claims[0] == claims[1]) continue;
    const auto truth = value_root(step, inputs[j]);
    if (truth)
      refute_differing(claims, *truth,
                       "input " + std::to_string(j) + " of the node is not what its producer gave",
                       !light(), at(step, node));
    return false;
  }
  return true;
}

void Match::play_recomputation(uint64_t step, uint32_t index, const Both<NodeOpening>& opening) {
  Conversation* const askers[] = {sides_[0].talk, sides_[1].talk};
  const std::vector<Digest> claims[] = {opening[0].outputs, opening[1].outputs};
  const auto truth = recomputation_.outputs(step, index, opening[0].inputs, askers);
  if (!truth.ok()) {
    result_.no_verdict = "the referee cannot recompute node " + std::to_string(index) +
                         " of step " + std::to_string(step) + ": " +
                         shortened(truth.status().message(), 1000);
    return;
  }
  if (*truth == nullptr) return;  // neither supplied the inputs: both have failed
  const Node& node = facts_.node(index);
  for (size_t k = 0; k < node.outputs.size(); ++k) {
    const bool wanted = node.outputs[k] != kAbsent;
    const Digest root = wanted ? tensor_root((**truth)[k]) : absent_root();
    for (int side = 0; side < 2; ++side) {
      if (claims[side][k] == root) continue;
      Where where = at(step, index);
      where.output = static_cast<int32_t>(k);
      if (wanted)
        locate_difference(*sides_[side].talk, step, node.outputs[k], claims[side][k], (**truth)[k],
                          where);
      refute(side, "its output is not what the operator computes from the agreed inputs", !light(),
             where);
    }
  }
  if (!decided()) result_.no_verdict = "node hashes differ, but nothing in them";
}

}  // namespace verbatim
