#include <verbatim/verify/limits.h>

#include <algorithm>
#include <string>

namespace verbatim {
namespace {

// "... which needs 7 bytes, the task allows 5"
Status check(const Node& node, const char* what, uint64_t need, const char* unit, uint64_t task,
             uint64_t own) {
  if (need <= std::min(task, own)) return {};
  return over_limit(node.title() + ": " + what + std::to_string(need) + unit +
                    (own < task ? ", this party allows " : ", the task allows ") +
                    std::to_string(std::min(task, own)));
}

class LimitedBackend final : public Backend {
 public:
  LimitedBackend(std::unique_ptr<Backend> inner, const EffectiveLimits& limits,
                 std::shared_ptr<MemoryBudget> memory)
      : inner_(std::move(inner)), limits_(limits), memory_(std::move(memory)) {}
  std::string_view name() const override { return inner_->name(); }
  Status prepare(const Graph& graph) override { return inner_->prepare(graph); }
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override {
    NodeBudget budget(limits_, node, inputs, memory_.get());
    VB_TRY(budget.admit_inputs());
    return inner_->run(node, inputs);
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

std::shared_ptr<MemoryBudget> MemoryBudget::create(uint64_t bytes) {
  return std::shared_ptr<MemoryBudget>(new MemoryBudget(bytes));
}

Result<std::shared_ptr<const void>> MemoryBudget::take(uint64_t bytes) {
  const uint64_t total = total_;
  uint64_t used = used_.load();
  do {
    if (bytes > total - used)
      return over_limit("the run needs " + std::to_string(bytes) + " bytes more, " +
                        std::to_string(used) + " of the " + std::to_string(total) +
                        " that this party allows are in use");
  } while (!used_.compare_exchange_weak(used, used + bytes));
  const auto give_back = [self = shared_from_this(), bytes](const void*) { self->used_ -= bytes; };
  return std::shared_ptr<const void>(this, give_back);
}

NodeBudget::NodeBudget(const EffectiveLimits& limits, const Node& node,
                       std::span<const Tensor> inputs, MemoryBudget* memory)
    : limits_(limits), node_(node), inputs_(inputs), memory_(memory) {}

Status NodeBudget::take(const Tensor& tensor) {
  const uint64_t bytes = tensor.byte_size();
  VB_TRY(check(node_, "a tensor of ", bytes, " bytes", limits_.task.tensor_bytes,
               limits_.own.tensor_bytes));
  bytes_ += bytes;
  return check(node_, "computing it needs ", bytes_, " bytes", limits_.task.node_bytes,
               limits_.own.node_bytes);
}

Status NodeBudget::admit_inputs() {
  for (const Tensor& t : inputs_)
    if (t.defined()) VB_TRY(take(t));
  return {};
}

Result<std::shared_ptr<const void>> NodeBudget::admit(const Tensor& tensor) {
  VB_TRY(take(tensor));
  VB_TRY(check(node_, "", operation_count(node_, inputs_, {&tensor, 1}), " operations",
               limits_.task.operations, limits_.own.operations));
  if (memory_ == nullptr) return std::shared_ptr<const void>();
  return memory_->take(tensor.byte_size());
}

std::unique_ptr<Backend> limited(std::unique_ptr<Backend> inner, const EffectiveLimits& limits,
                                 std::shared_ptr<MemoryBudget> memory) {
  return std::make_unique<LimitedBackend>(std::move(inner), limits, std::move(memory));
}

}  // namespace verbatim
