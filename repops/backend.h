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

// A graph on inputs of certain types and shapes, made ready to be run many times: the bits are
// run()'s.
class RecordedStep {
 public:
  virtual ~RecordedStep() = default;
  // The graph's outputs, where the backend computed them, from inputs of the types and shapes that
  // it was recorded on. Safe from several threads, which wait for one another.
  virtual Result<Tensors> run(std::span<const Tensor> inputs) = 0;
  // How many of the graph's nodes a run does not look at any more.
  virtual int64_t recorded_nodes() const = 0;
};

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
  // A prepared graph, recorded by running it on these inputs; it outlives the recording, and so
  // does the backend. Null: running its nodes is as fast.
  virtual Result<std::unique_ptr<RecordedStep>> record(const Graph&, std::span<const Tensor>) {
    return std::unique_ptr<RecordedStep>();
  }
};

// The scalar reference of every operator: the definition, and slow.
std::unique_ptr<Backend> make_reference_backend();

}  // namespace verbatim
