// How an operator is computed. Backends differ in speed, never in bits.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <verbatim/repops/graph.h>
#include <verbatim/repops/op.h>

namespace verbatim {

// Asked before each node and before each trip through a control-flow node's body: an error ends the
// run with it. May be empty.
using Checkpoint = std::function<Status()>;

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;  // "reference", "avx2", "avx512", "neon"
  // Called once for each graph before run(): the place to pack weights. `graph` outlives the
  // backend's use of it.
  virtual Status prepare(const Graph& graph) = 0;
  // Safe to call from several threads at once.
  virtual Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) = 0;
  // A control-flow node (ops/control_flow.h): the nodes of its bodies run on this backend. run()
  // gives the same bits, but need not be as fast, and nothing ends it.
  virtual Result<Tensors> run_bodies(const Node& node, std::span<const Tensor> inputs,
                                     const Checkpoint& checkpoint);
};

// The scalar reference of every operator: the definition, and slow.
std::unique_ptr<Backend> make_reference_backend();

}  // namespace verbatim
