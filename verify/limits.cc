#include <verbatim/verify/limits.h>

#include <algorithm>
#include <string>

#include <verbatim/repops/ops/control_flow.h>

namespace verbatim {
namespace {

// "... which needs 7 bytes, the task allows 5"
Status check(const char* what, uint64_t need, const char* unit, uint64_t task, uint64_t own) {
  if (need <= std::min(task, own)) return {};
  return over_limit(what + std::to_string(need) + unit +
                    (own < task ? ", this party allows " : ", the task allows ") +
                    std::to_string(std::min(task, own)));
}

uint64_t cost_of(const Node& node, std::span<const Tensor> inputs, Tensors outputs) {
  outputs.resize(node.outputs.size());
  return operation_count(node, inputs, outputs);
}

uint64_t edges_cost(const Node& node) {
  return kTripOperations + kValueOperations * (node.inputs.size() + node.outputs.size());
}

// What reading an attribute takes, each time that its node runs.
struct AttributeCost {
  uint64_t operator()(int64_t) const { return 0; }
  uint64_t operator()(float) const { return 0; }
  uint64_t operator()(const Tensor&) const { return 0; }  // shared, not copied
  uint64_t operator()(const std::string& text) const { return text.size(); }
  uint64_t operator()(const std::vector<std::string>& texts) const {
    uint64_t sum = 0;
    for (const std::string& text : texts) sum += kValueOperations + text.size();
    return sum;
  }
  template <class T>
  uint64_t operator()(const std::vector<T>& list) const {
    return kValueOperations * list.size();
  }
  // Making ready for its trips, if there are any: Evaluation's constructor.
  uint64_t operator()(const Body& body) const {
    if (body == nullptr) return 0;
    auto sum = static_cast<uint64_t>(body->value_count);
    for (const Node& node : body->nodes) sum += 1 + node.inputs.size();
    return sum;
  }
};

// What a node of a body takes besides what it computes.
uint64_t handling_cost(const Node& node) {
  uint64_t sum = edges_cost(node);
  for (const auto& [name, value] : node.attributes.map()) sum += std::visit(AttributeCost{}, value);
  return sum;
}

// Operators may walk the other dimensions of a tensor without elements, which Shape bounds.
uint64_t empty_rows(std::span<const Tensor> tensors) {
  uint64_t sum = 0;
  for (const Tensor& t : tensors) {
    if (!t.defined() || t.elements() > 0) continue;
    uint64_t rows = 1;
    for (const int64_t d : t.shape().dims()) rows *= static_cast<uint64_t>(std::max<int64_t>(d, 1));
    sum += rows;
  }
  return sum;
}

// What the bodies of one control-flow node may take together, those within them included.
class BodyBackend final : public Backend, private AllocationGuard {
 public:
  BodyBackend(Backend& inner, const EffectiveLimits& limits, std::shared_ptr<MemoryBudget> live)
      : inner_(inner), limits_(limits), live_(std::move(live)) {}
  std::string_view name() const override { return inner_.name(); }
  Status prepare(const Graph&) override { return {}; }  // that was done for the whole graph

  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override {
    VB_TRY(spend(handling_cost(node)));
    NodeBudget budget(limits_, node, inputs, live_.get(), spent_);
    VB_TRY(budget.admit_inputs());
    VB_ASSIGN(Tensors outputs, inner_.run(node, inputs));
    VB_TRY(spend(
        saturating_add(cost_of(node, inputs, outputs), empty_rows(inputs) + empty_rows(outputs))));
    return outputs;
  }

  Result<Tensors> run_bodies(const Node& node, std::span<const Tensor> inputs,
                             const Checkpoint& checkpoint) override {
    VB_TRY(spend(handling_cost(node)));
    // A trip is given the node's inputs, or slices of them, and gives as many values as the node.
    const uint64_t trip = edges_cost(node);
    return run_control_flow(node, inputs, *this, checkpoint, [&] { return spend(trip); });
  }

  uint64_t spent() const { return spent_; }

 private:
  Status spend(uint64_t operations) {
    spent_ = saturating_add(spent_, operations);
    return check("", spent_, " operations", limits_.task.operations, limits_.own.operations);
  }

  // What the control-flow node itself allocates. Copies of what a device holds are no operations:
  // on another processor there are none.
  Result<std::shared_ptr<const void>> admit(const Tensor& tensor, Purpose purpose) override {
    VB_TRY(check("a tensor of ", tensor.byte_size(), " bytes", limits_.task.tensor_bytes,
                 limits_.own.tensor_bytes));
    if (purpose == Purpose::result) VB_TRY(spend(static_cast<uint64_t>(tensor.elements())));
    return live_->take(tensor.byte_size());
  }

  Backend& inner_;
  const EffectiveLimits& limits_;
  const std::shared_ptr<MemoryBudget> live_;
  uint64_t spent_ = 0;
};

Result<Tensors> run_bodies_limited(Backend& backend, const EffectiveLimits& limits,
                                   const Node& node, std::span<const Tensor> inputs,
                                   const Checkpoint& checkpoint,
                                   const std::shared_ptr<MemoryBudget>& memory,
                                   uint64_t* operations) {
  uint64_t bytes = 0;
  for (const Tensor& t : inputs) bytes = saturating_add(bytes, t.byte_size());
  const bool own = limits.own.node_bytes < limits.task.node_bytes;
  auto live = MemoryBudget::create(limits.node_bytes() - std::min(limits.node_bytes(), bytes),
                                   memory, {node.title(), own ? "this party" : "the task"});
  BodyBackend body(backend, limits, std::move(live));
  VB_ASSIGN(Tensors outputs, body.run_bodies(node, inputs, checkpoint));
  if (operations != nullptr) *operations = saturating_add(*operations, body.spent());
  return outputs;
}

class LimitedBackend final : public Backend {
 public:
  LimitedBackend(std::unique_ptr<Backend> inner, const EffectiveLimits& limits,
                 std::shared_ptr<MemoryBudget> memory)
      : inner_(std::move(inner)), limits_(limits), memory_(std::move(memory)) {}
  std::string_view name() const override { return inner_->name(); }
  Status prepare(const Graph& graph) override { return inner_->prepare(graph); }
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override {
    return run_limited(*inner_, limits_, node, inputs, {}, memory_);
  }
  Result<Tensors> run_bodies(const Node& node, std::span<const Tensor> inputs,
                             const Checkpoint& checkpoint) override {
    return run_limited(*inner_, limits_, node, inputs, checkpoint, memory_);
  }

 private:
  std::unique_ptr<Backend> inner_;
  EffectiveLimits limits_;
  std::shared_ptr<MemoryBudget> memory_;
};

}  // namespace

uint64_t EffectiveLimits::tensor_bytes() const {
  return std::min(task.tensor_bytes, own.tensor_bytes);
}

uint64_t EffectiveLimits::node_bytes() const { return std::min(task.node_bytes, own.node_bytes); }

bool EffectiveLimits::own_are_lower() const {
  return own.operations < task.operations || own.tensor_bytes < task.tensor_bytes ||
         own.node_bytes < task.node_bytes;
}

std::shared_ptr<MemoryBudget> MemoryBudget::create(uint64_t bytes,
                                                   std::shared_ptr<MemoryBudget> around,
                                                   BudgetWords words) {
  return std::shared_ptr<MemoryBudget>(
      new MemoryBudget(bytes, std::move(around), std::move(words)));
}

Result<std::shared_ptr<const void>> MemoryBudget::take(uint64_t bytes) {
  std::shared_ptr<const void> outer;
  if (around_ != nullptr) {
    VB_ASSIGN(outer, around_->take(bytes));
  }
  const uint64_t total = total_;
  uint64_t used = used_.load();
  do {
    if (bytes > total - used)
      return over_limit(words_.who + " needs " + std::to_string(bytes) + " bytes more, " +
                        std::to_string(used) + " of the " + std::to_string(total) + " that " +
                        words_.allows + " allows are in use");
  } while (!used_.compare_exchange_weak(used, used + bytes));
  const auto give_back = [self = shared_from_this(), outer = std::move(outer), bytes](const void*) {
    self->used_ -= bytes;
  };
  return std::shared_ptr<const void>(this, give_back);
}

NodeBudget::NodeBudget(const EffectiveLimits& limits, const Node& node,
                       std::span<const Tensor> inputs, MemoryBudget* memory, uint64_t spent)
    : limits_(limits), node_(node), inputs_(inputs), memory_(memory), spent_(spent) {}

Status NodeBudget::take(const Tensor& tensor) {
  const uint64_t bytes = tensor.byte_size();
  VB_TRY(
      check("a tensor of ", bytes, " bytes", limits_.task.tensor_bytes, limits_.own.tensor_bytes));
  const uint64_t all = saturating_add(bytes_, bytes);
  VB_TRY(
      check("computing it needs ", all, " bytes", limits_.task.node_bytes, limits_.own.node_bytes));
  bytes_ = all;
  return {};
}

Status NodeBudget::admit_inputs() {
  for (const Tensor& t : inputs_)
    if (t.defined()) VB_TRY(take(t).with_context(node_.title()));
  return {};
}

Result<std::shared_ptr<const void>> NodeBudget::admit(const Tensor& tensor, Purpose purpose) {
  if (purpose == Purpose::result) {
    VB_TRY(take(tensor));
    VB_TRY(check("", saturating_add(spent_, operation_count(node_, inputs_, {&tensor, 1})),
                 spent_ > 0 ? " operations, those of the trips so far included" : " operations",
                 limits_.task.operations, limits_.own.operations));
  }
  if (memory_ == nullptr) return std::shared_ptr<const void>();
  return memory_->take(tensor.byte_size());
}

Result<Tensors> run_limited(Backend& backend, const EffectiveLimits& limits, const Node& node,
                            std::span<const Tensor> inputs, const Checkpoint& checkpoint,
                            const std::shared_ptr<MemoryBudget>& memory, uint64_t* operations) {
  NodeBudget budget(limits, node, inputs, memory.get());
  VB_TRY(budget.admit_inputs());
  if (is_control_flow(node.domain, node.op))
    return run_bodies_limited(backend, limits, node, inputs, checkpoint, memory, operations);
  VB_ASSIGN(Tensors outputs, backend.run(node, inputs));
  if (operations != nullptr)
    *operations = saturating_add(*operations, cost_of(node, inputs, outputs));
  return outputs;
}

std::unique_ptr<Backend> limited(std::unique_ptr<Backend> inner, const EffectiveLimits& limits,
                                 std::shared_ptr<MemoryBudget> memory) {
  return std::make_unique<LimitedBackend>(std::move(inner), limits, std::move(memory));
}

}  // namespace verbatim
