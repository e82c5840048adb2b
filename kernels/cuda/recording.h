// A graph on inputs of certain types and shapes, recorded as CUDA graphs: what the host does for a
// node (its attributes, its launches) is done once, and a step costs it a launch for each part.
//
// A node is recorded if what it does depends on nothing but numbers on the device. The others run
// one by one between the recorded parts, as they do without a recording: those that the host
// computes or waits in, and those that read integers which a step may give anew (the tokens that
// are looked up, lengths). Integers that follow from shapes are compared with what they were. So a
// recording cannot be wrong for other inputs, whatever they are.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <verbatim/kernels/cuda/gpu.h>
#include <verbatim/repops/backend.h>
#include <verbatim/repops/evaluation.h>

namespace verbatim::cuda {

class Recording final : public RecordedStep {
 public:
  // `backend`, whose device `gpu` is, has prepared the graph; both outlive the recording.
  static Result<std::unique_ptr<RecordedStep>> make(Gpu& gpu, Backend& backend, const Graph& graph,
                                                    std::span<const Tensor> inputs);
  ~Recording() override;

  Result<Tensors> run(std::span<const Tensor> inputs) override;
  int64_t recorded_nodes() const override;

 private:
  // Successive nodes.
  struct Part {
    int32_t begin, end;
    bool recorded;
    cudaGraphExec_t graph = nullptr;  // of a recorded part
  };
  Recording(Gpu& gpu, Backend& backend, const Graph& graph)
      : gpu_(gpu), backend_(backend), graph_(graph), evaluation_(graph) {}

  Tensors first_values(std::span<const Tensor> inputs) const;
  Result<Tensors> run_node(int32_t node, const Tensors& values);
  // Keeps those of a node's outputs that are read later, and forgets what it was the last to read.
  void move_on(int32_t node, Tensors& outputs, Tensors& values) const;

  // Runs the graph, to see which nodes may be recorded.
  Result<std::vector<bool>> nodes_that_suit(std::span<const Tensor> inputs);
  // Into parts, such that none reads from outside what can have no place.
  void cut(std::vector<bool> suits);
  void cut_once(const std::vector<bool>& suits);
  Status record(std::span<const Tensor> inputs);
  Status record(Part& part, Tensors& values);
  Status run_recorded(const Part& part, Tensors& values);

  // A value from outside of recorded parts comes to lie where they read it.
  Status find_place(ValueId v, Tensors& values);
  // False: a value came out with another shape, or one that follows shapes is another one: for that
  // nothing is recorded.
  Result<bool> run(const Part& part, Tensors& values);
  Result<bool> replay(const Part& part, Tensors& values);
  Result<Tensor> given_away(const Tensor& t);

  Gpu& gpu_;
  Backend& backend_;
  const Graph& graph_;
  const Evaluation evaluation_;
  std::vector<Part> parts_;
  // By value: read in recorded parts and from outside of them, or the reverse.
  std::vector<bool> read_by_parts_, read_outside_;
  // By value: may be another one in each run; such, and not of floats.
  std::vector<bool> varies_, is_code_;
  // By value: where recorded parts read it, or leave it for others. On the host: what it was then.
  Tensors places_;
  Arena arena_;
  std::mutex mutex_;
};

}  // namespace verbatim::cuda
