// What computing one operator may take, enforced before it is taken.
//
// A task states limits, so that all parties know what they let themselves in for. Each party has
// maxima of its own besides, and what counts for it is the smaller of the two: nobody computes more
// than it chose to, whatever a task says.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>

#include <verbatim/core/tensor.h>
#include <verbatim/repops/backend.h>

namespace verbatim {

struct NodeLimits {
  uint64_t operations = uint64_t{1} << 40;    // elementary operations (operation_count)
  uint64_t tensor_bytes = uint64_t{4} << 30;  // one tensor
  uint64_t node_bytes = uint64_t{8} << 30;    // inputs, and whatever is allocated, together
  bool operator==(const NodeLimits&) const = default;
};

// The task's limits and those of the party that computes.
struct EffectiveLimits {
  NodeLimits task, own;
  uint64_t tensor_bytes() const;
  uint64_t node_bytes() const;
  // Whether the party's own maxima make a difference to what a task may take.
  bool own_are_lower() const;
};

// For messages: who needs the bytes, and who allows no more.
struct BudgetWords {
  std::string who = "the run", allows = "this party";
};

// Bytes of all tensors that live at once, of one party's run of one task, or of a part of it.
// Shared by threads.
class MemoryBudget : public std::enable_shared_from_this<MemoryBudget> {
 public:
  // What is taken is taken from `around` too, if given.
  static std::shared_ptr<MemoryBudget> create(uint64_t bytes,
                                              std::shared_ptr<MemoryBudget> around = nullptr,
                                              BudgetWords words = {});
  // Takes so many bytes until the result is released. An error of code limit: there is no room.
  Result<std::shared_ptr<const void>> take(uint64_t bytes);
  uint64_t used() const { return used_; }
  // From now on everything is granted.
  void lift() { total_ = UINT64_MAX; }

 private:
  MemoryBudget(uint64_t bytes, std::shared_ptr<MemoryBudget> around, BudgetWords words)
      : total_(bytes), around_(std::move(around)), words_(std::move(words)) {}
  std::atomic<uint64_t> total_;
  std::atomic<uint64_t> used_ = 0;
  const std::shared_ptr<MemoryBudget> around_;
  const BudgetWords words_;
};

// While it lives, each result that this thread allocates is taken for an output of the node: it
// must be within the limits, and so must be what the node costs with an output of that size.
// Operators allocate before they compute, so what is refused costs nothing. The rule depends on
// shapes alone, not on claims. A kernel's scratch memory, a small multiple of its operands, counts
// for `memory` alone, and where there is no room for it the scalar reference computes the node
// without: what one processor is allowed, all others and a referee of the same limits are.
class NodeBudget final : public AllocationGuard {
 public:
  // `memory`, if any, must outlive it: what is allocated is taken from there. `spent`: operations
  // that count besides, of a control-flow node's trips so far.
  NodeBudget(const EffectiveLimits& limits, const Node& node, std::span<const Tensor> inputs,
             MemoryBudget* memory = nullptr, uint64_t spent = 0);

  // The inputs by themselves. To be asked first; errors of both are of code limit.
  Status admit_inputs();
  Result<std::shared_ptr<const void>> admit(const Tensor& tensor, Purpose purpose) override;

 private:
  Status take(const Tensor& tensor);
  const EffectiveLimits& limits_;
  const Node& node_;
  std::span<const Tensor> inputs_;
  MemoryBudget* memory_;
  const uint64_t spent_;
  uint64_t bytes_ = 0;  // inputs and allocations so far
};

// What a trip through a body, and a node of a body, count as operations besides what the node
// computes: each by itself, for each value that it is given or gives, and for each element of its
// attributes' lists. So trips that compute nothing come to an end, and an operation stands for some
// nanoseconds of the scalar reference whether it computes or allocates empty tensors.
inline constexpr uint64_t kTripOperations = 1024;
inline constexpr uint64_t kValueOperations = 64;

// One node on `backend`, within the limits; `operations`, if given, grows by what it cost.
//
// A control-flow node costs what the nodes of its bodies cost, as they ran, and what handling them
// and each trip takes: kTripOperations and kValueOperations, an operation for each character of a
// text attribute, one for each node, input and value of a body that is made ready, for each row of
// a tensor without elements, and for each element of a slice or a scan output. It is refused where
// that passes the limit while it runs, where one of these nodes by itself passes a limit, or where
// its inputs and the tensors that live at once while it runs are more than node_bytes.
Result<Tensors> run_limited(Backend& backend, const EffectiveLimits& limits, const Node& node,
                            std::span<const Tensor> inputs, const Checkpoint& checkpoint = {},
                            const std::shared_ptr<MemoryBudget>& memory = nullptr,
                            uint64_t* operations = nullptr);

// `inner`, each of whose nodes runs under a budget, and all of them under `memory`, if given.
std::unique_ptr<Backend> limited(std::unique_ptr<Backend> inner, const EffectiveLimits& limits,
                                 std::shared_ptr<MemoryBudget> memory = nullptr);

}  // namespace verbatim
