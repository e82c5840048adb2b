#include <verbatim/verify/provider.h>

#include <algorithm>

#include <verbatim/core/no_throw.h>
#include <verbatim/core/tensor_root.h>

namespace verbatim {
namespace {

Refusal refusal(const Status& status) { return {shortened(status.message(), 500)}; }

}  // namespace

Status busy_for(const std::string& what, std::chrono::nanoseconds wait) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(wait).count();
  return busy(what + "; ask again in " + std::to_string(seconds) + " s");
}

Result<Program> bind_weights(const Program& program, const Graph& model) {
  std::map<Digest, const Initializer*> weights;
  for (const Initializer& init : model.initializers) weights.emplace(init.root, &init);
  if (program.graph.initializers.empty())
    return unavailable("the task uses no weight of this provider's model, and it serves no other");
  Program bound = program;
  for (Initializer& init : bound.graph.initializers) {
    const auto it = weights.find(init.root);
    if (it == weights.end())
      return unavailable("the task's weight '" + init.name + "' is not in this model (root " +
                         init.root.hex() + ")");
    init.tensor = it->second->tensor;
    if (init.tensor.dtype() != init.dtype || !(init.tensor.shape() == init.shape))
      return bad_input("the task gives weight '" + init.name + "' a type or shape that it has not");
  }
  return bound;
}

// One step run again: the root of every value, every node hash, and as many values as there is room
// for, the wanted one in any case.
struct Provider::StepDetails final : TraceSink {
  StepDetails(const Graph& graph, uint64_t at, ValueId wanted, uint64_t room)
      : graph(&graph),
        step(at),
        roots(graph),
        values(static_cast<size_t>(graph.value_count)),
        present(values.size()),
        wanted(wanted),
        room(room) {
    for (const Initializer& init : graph.initializers) values[init.value] = init.tensor;
  }
  // On the host.
  Status keep(ValueId v, const Tensor& tensor) {
    if (v != kAbsent) present[v] = tensor.defined();
    if (v == kAbsent || (v != wanted && tensor.byte_size() > room)) return {};
    if (v != wanted) room -= tensor.byte_size();
    VB_ASSIGN(values[v], tensor.on_host());
    return {};
  }
  Status on_node(uint64_t, int32_t index, std::span<const Tensor> inputs,
                 std::span<const Tensor> outputs) override {
    const Node& node = graph->nodes[index];
    VB_TRY(roots.add(node, inputs, outputs));
    for (size_t i = 0; i < node.outputs.size(); ++i) VB_TRY(keep(node.outputs[i], outputs[i]));
    return {};
  }
  Status on_step_end(uint64_t, std::span<const Tensor> inputs, std::span<const Tensor>) override {
    for (size_t i = 0; i < inputs.size(); ++i) {
      VB_TRY(roots.add(graph->inputs[i].value, inputs[i]));
      VB_TRY(keep(graph->inputs[i].value, inputs[i]));
    }
    VB_TRY(roots.settle());
    node_hashes = verbatim::node_hashes(*graph, roots);
    return {};
  }
  // Of the tree over the leaves of a value; kept, since a tensor is asked for in parts.
  const Digest& leaves_root(ValueId v) {
    const auto [it, fresh] = leaves_roots.try_emplace(v);
    if (fresh) it->second = merkle_root(tensor_leaves(values[v]));
    return it->second;
  }
  Digest root(ValueId v) { return roots.of(v); }  // known: every value has passed

  const Graph* graph;
  uint64_t step;
  ValueRoots roots;
  Tensors values;
  std::vector<bool> present;  // whether the step has the value, kept or not
  const ValueId wanted;
  uint64_t room;  // bytes
  std::vector<Digest> node_hashes;
  std::vector<Digest> recorded;  // light level
  std::map<ValueId, Digest> leaves_roots;
};

Provider::Provider(Task task, Program program, std::unique_ptr<Backend> backend, SigningKey key,
                   ProviderOptions options)
    : task_(std::move(task)),
      task_id_(task_id(task_)),
      program_(std::move(program)),
      backend_(std::move(backend)),
      key_(std::move(key)),
      options_(std::move(options)) {}
Provider::~Provider() = default;

Result<std::unique_ptr<Provider>> Provider::create(Task task, Program program,
                                                   std::unique_ptr<Backend> backend, SigningKey key,
                                                   ProviderOptions options) {
  VB_TRY(validate_task(task));
  if (task.semantics != kSemanticsVersion)
    return unsupported("the task is of semantics version " + std::to_string(task.semantics) +
                       ", this build has version " + std::to_string(kSemanticsVersion));
  if (program_digest(program) != program_digest(task.program))
    return unavailable("the task's program is not the program of this provider's model");
  for (const Initializer& init : program.graph.initializers)
    if (!init.tensor.defined()) return unavailable("weight '" + init.name + "' is not loaded");
  auto memory = MemoryBudget::create(options.live_bytes);
  backend = limited(std::move(backend), {task.limits, options.limits}, memory);
  std::unique_ptr<Provider> provider(new Provider(
      std::move(task), std::move(program), std::move(backend), std::move(key), std::move(options)));
  provider->memory_ = std::move(memory);
  VB_ASSIGN(provider->executor_, Executor::create(provider->program_.graph, *provider->backend_));
  return provider;
}

RunOptions Provider::run_options(TraceSink* sink) {
  RunOptions options;
  options.sink = sink;
  options.stop = options_.stop;
  if (!options_.fault) return options;
  options.tamper = [this](uint64_t step, int32_t node, Tensors& outputs) {
    const Fault& fault = *options_.fault;
    if (step != fault.step || node != fault.node || outputs.empty() || !outputs[0].defined())
      return;
    Result<Tensor> wrong = flip_bit(outputs[0], fault.element, fault.bit);
    fault_done_ = true;
    if (wrong.ok())
      outputs[0] = *std::move(wrong);
    else
      fault_status_ = wrong.status();
  };
  return options;
}

// States must suffice to run any step again after at most state_interval_ - 1 others. When they
// take too much room, every second one goes.
void Provider::keep_state(uint64_t step, const Tensors& state) {
  if (step % state_interval_ != 0) return;
  states_[step] = state;
  uint64_t bytes = 0;
  for (const Carry& carry : program_.carries) bytes += state[carry.input].byte_size();
  while (states_.size() > 2 && bytes * states_.size() > options_.state_bytes) {
    state_interval_ *= 2;
    std::erase_if(states_, [&](const auto& s) { return s.first % state_interval_ != 0; });
  }
}

Status Provider::run() {
  const std::lock_guard lock(mutex_);
  return run_locked();
}

Status Provider::run_locked() {
  if (commitment_ || !run_status_.ok()) return run_status_;
  Committer sink(program_, task_.level, task_id_);
  const auto run = [&]() -> Status {
    Tensors state = task_.inputs;
    for (uint64_t step = 0; step < program_.max_steps; ++step) {
      keep_state(step, state);
      VB_ASSIGN(const Tensors outputs,
                executor_->run_step_in_place(step, state, run_options(&sink)));
      if (stops_after(program_, outputs)) break;
      for (const Carry& carry : program_.carries) state[carry.input] = outputs[carry.output];
    }
    if (options_.fault && !fault_done_)
      return usage_error("the fault's step or node does not exist in this run");
    return fault_status_;
  };
  run_status_ = no_throw([&]() -> Status {
    VB_TRY(run());
    VB_ASSIGN(commitment_, sink.finish());
    memory_->lift();
    return {};
  });
  if (!run_status_.ok()) states_.clear();
  return run_status_;
}

// Of `step`, with the value `wanted` among those kept.
Result<const Provider::StepDetails*> Provider::details(uint64_t step, ValueId wanted) {
  if (step >= commitment_->steps) return usage_error("there is no step " + std::to_string(step));
  if (details_ && details_->step == step &&
      (wanted == kAbsent || details_->values[wanted].defined() || !details_->present[wanted]))
    return details_.get();
  details_.reset();
  auto it = std::prev(states_.upper_bound(step));  // step 0 is always kept
  Tensors state = it->second;
  for (uint64_t s = it->first; s < step; ++s) {
    VB_ASSIGN(const Tensors outputs, executor_->run_step_in_place(s, state, run_options(nullptr)));
    for (const Carry& carry : program_.carries) state[carry.input] = outputs[carry.output];
  }
  auto fresh = std::make_unique<StepDetails>(program_.graph, step, wanted, options_.value_bytes);
  VB_ASSIGN(const Tensors outputs,
            executor_->run_step_in_place(step, state, run_options(fresh.get())));
  if (task_.level == CommitLevel::light)
    for (const ValueId v : recorded_values(program_)) fresh->recorded.push_back(fresh->root(v));
  details_ = std::move(fresh);
  return details_.get();
}

Result<Tensor> Provider::value(uint64_t step, uint32_t value) {
  if (value >= static_cast<uint32_t>(program_.graph.value_count))
    return usage_error("there is no value " + std::to_string(value));
  VB_ASSIGN(const StepDetails* d, details(step, static_cast<ValueId>(value)));
  if (!d->values[value].defined())
    return usage_error("value " + std::to_string(value) + " is absent");
  return d->values[value];
}

Result<std::vector<Digest>> Provider::tree_leaves(const TreeName& tree) {
  switch (tree.kind) {
    case TreeName::Kind::records:
      return record_leaves(commitment_->records, program_.max_steps);
    case TreeName::Kind::nodes: {
      VB_ASSIGN(const StepDetails* d, details(tree.step));
      return d->node_hashes;
    }
    case TreeName::Kind::recorded: {
      VB_ASSIGN(const StepDetails* d, details(tree.step));
      return d->recorded;
    }
    case TreeName::Kind::leaves: {
      VB_ASSIGN(const Tensor t, value(tree.step, tree.value));
      return tensor_leaves(t);
    }
  }
  return usage_error("there is no such tree");
}

Result<Reply> Provider::reply_to(const Session& session, const AskCommit&) {
  return Reply(Committed{commit_hash(key(), task_id_, session.id, session.salt,
                                     commitment_->final_root, commitment_->steps)});
}

Result<Reply> Provider::reply_to(const Session& session, const AskReveal&) {
  Revealed r{session.salt, commitment_->steps, commitment_->records_root, {}};
  for (const OutputRoot& out : commitment_->outputs) r.outputs.push_back(out.root);
  return Reply(std::move(r));
}

Result<Reply> Provider::reply_to(const Session&, const AskChildren& q) {
  VB_ASSIGN(const std::vector<Digest> leaves, tree_leaves(q.tree));
  if (!is_tree_node(leaves.size(), q.node)) return usage_error("there is no such tree node");
  return Reply(Children{walk_hashes(leaves, q.node)});
}

Result<Reply> Provider::reply_to(const Session&, const AskRecord& q) {
  const std::vector<Digest> leaves = record_leaves(commitment_->records, program_.max_steps);
  if (q.step >= leaves.size()) return usage_error("there is no step " + std::to_string(q.step));
  return Reply(Record{leaves[q.step], merkle_proof(leaves, q.step)});
}

Result<Reply> Provider::reply_to(const Session&, const AskStep& q) {
  VB_ASSIGN(const StepDetails* d, details(q.step));
  StepOpening r;
  r.previous = q.step == 0 ? genesis_record(task_id_) : commitment_->records[q.step - 1];
  r.node_root = merkle_root(d->node_hashes);
  r.body_root = task_.level == CommitLevel::full ? r.node_root : merkle_root(d->recorded);
  return Reply(r);
}

Result<Reply> Provider::reply_to(const Session&, const AskNode& q) {
  if (q.node >= program_.graph.nodes.size())
    return usage_error("there is no node " + std::to_string(q.node));
  VB_TRY(details(q.step).status());
  const Node& node = program_.graph.nodes[q.node];
  NodeOpening r;
  for (const ValueId v : node.inputs) r.inputs.push_back(details_->root(v));
  for (const ValueId v : node.outputs) r.outputs.push_back(details_->root(v));
  r.proof = merkle_proof(details_->node_hashes, q.node);
  return Reply(std::move(r));
}

Result<Reply> Provider::reply_to(const Session&, const AskRecorded& q) {
  VB_ASSIGN(const StepDetails* d, details(q.step));
  if (q.index >= d->recorded.size())
    return usage_error("there is no recorded value " + std::to_string(q.index));
  return Reply(Recorded{d->recorded[q.index], merkle_proof(d->recorded, q.index)});
}

Result<Reply> Provider::reply_to(const Session&, const AskTensor& q) {
  VB_ASSIGN(const Tensor t, value(q.step, q.value));
  VB_ASSIGN(const int64_t canonical, canonical_size(t.dtype(), t.shape()));
  const auto total = static_cast<uint64_t>(canonical);
  const size_t size = size_of(t.dtype());
  if (q.offset % size != 0 || q.length % size != 0 || q.offset > total ||
      q.length > total - q.offset)
    return usage_error("the bytes asked for do not exist");
  return Reply(TensorPart{t.dtype(), t.shape(),
                          details_->leaves_root(static_cast<ValueId>(q.value)),
                          little_endian_bytes(t, {q.offset, q.offset + q.length})});
}

Result<Provider::Session*> Provider::session(const Request& request) {
  const auto it = std::ranges::find(sessions_, request.session, &Session::id);
  const auto now = std::chrono::steady_clock::now();
  if (it != sessions_.end()) {
    it->used = now;
    sessions_.splice(sessions_.end(), sessions_, it);
    return &sessions_.back();
  }
  if (request.sequence != 0) return unavailable("this dispute is not known here");
  if (sessions_.size() == kMaxSessions) {
    const auto idle = now - sessions_.front().used;
    if (idle < options_.lease)
      return busy_for(std::to_string(kMaxSessions) + " disputes over this task are under way",
                      options_.lease - idle);
    sessions_.pop_front();
  }
  VB_ASSIGN(const Bytes salt, random_bytes(32));
  Session fresh;
  fresh.id = request.session;
  std::ranges::copy(salt, fresh.salt.begin());
  fresh.used = now;
  fresh.previous = exchange_start(task_id_, request.session, key());
  sessions_.push_back(std::move(fresh));
  return &sessions_.back();
}

Bytes Provider::reply(const Session& session, const Question& question) {
  const Result<Reply> r = no_throw([&]() -> Result<Reply> {
    VB_TRY(run_locked());
    return std::visit([&](const auto& q) { return reply_to(session, q); }, question);
  });
  return encode_reply(r.ok() ? *r : Reply(refusal(r.status())));
}

Result<SignedAnswer> Provider::answer(ByteView bytes) {
  const std::lock_guard lock(mutex_);
  VB_ASSIGN(const Request request, decode_request(bytes, "request"));
  if (request.task != task_id_) return bad_input("the request is about another task");
  VB_ASSIGN(Session * s, session(request));
  if (s->sequence > 0 && std::ranges::equal(bytes, s->last_request)) {
    Bytes again = reply(*s, request.question);
    if (sha256(again) != s->last_reply) return unavailable("it cannot say again what it said");
    return SignedAnswer{std::move(again), s->last_signature};
  }
  if (request.sequence != s->sequence || request.previous != s->previous)
    return bad_input("the request is out of its place");
  Bytes encoded = reply(*s, request.question);
  VB_ASSIGN(
      const Signature signature,
      key_.sign(answer_digest(task_id_, key(), s->sequence, s->previous, bytes, encoded).bytes));
  s->previous = exchange_next(s->previous, bytes, encoded);
  ++s->sequence;
  s->last_request.assign(bytes.begin(), bytes.end());
  s->last_reply = sha256(encoded);
  s->last_signature = signature;
  return SignedAnswer{std::move(encoded), signature};
}

}  // namespace verbatim
