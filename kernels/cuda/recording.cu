#include <verbatim/kernels/cuda/recording.h>

#include <algorithm>
#include <functional>

#include <verbatim/repops/ops/control_flow.h>

namespace verbatim::cuda {
namespace {

// A graph of fewer is launched no faster than they are.
constexpr int32_t kLeastNodes = 3;

bool lies_in(const Tensor& t, const std::byte* address) {
  return t.defined() && std::less_equal<>()(t.address(), address) &&
         std::less<>()(address, t.address() + t.byte_size());
}

bool of_one_kind(const Tensor& a, const Tensor& b) {
  return a.defined() == b.defined() && a.dtype() == b.dtype() && a.shape() == b.shape();
}

// What these give depends on nothing but shapes.
bool reads_shapes(const Node& node) {
  return node.domain.empty() && (node.op == "Shape" || node.op == "Size");
}

}  // namespace

Result<std::unique_ptr<RecordedStep>> Recording::make(Gpu& gpu, Backend& backend,
                                                      const Graph& graph,
                                                      std::span<const Tensor> inputs) {
  std::unique_ptr<Recording> made(new Recording(gpu, backend, graph));
  const Status status = made->record(inputs);
  // What the device has no room for, or cannot record after all, is run as ever.
  if (status.code() == StatusCode::limit || status.code() == StatusCode::unavailable)
    return std::unique_ptr<RecordedStep>();
  VB_TRY(status);
  if (made->recorded_nodes() == 0) return std::unique_ptr<RecordedStep>();
  return std::unique_ptr<RecordedStep>(std::move(made));
}

Recording::~Recording() {
  for (const Part& part : parts_)
    if (part.graph != nullptr) cudaGraphExecDestroy(part.graph);
  places_.clear();
  gpu_.give_back(arena_);
}

int64_t Recording::recorded_nodes() const {
  int64_t nodes = 0;
  for (const Part& part : parts_)
    if (part.recorded) nodes += part.end - part.begin;
  return nodes;
}

// --- looking at a run

Tensors Recording::first_values(std::span<const Tensor> inputs) const {
  Tensors values(static_cast<size_t>(graph_.value_count));
  for (const Initializer& init : graph_.initializers) values[init.value] = init.tensor;
  for (size_t i = 0; i < inputs.size(); ++i) values[graph_.inputs[i].value] = inputs[i];
  return values;
}

Result<Tensors> Recording::run_node(int32_t index, const Tensors& values) {
  const Node& node = graph_.nodes[index];
  Tensors inputs;
  for (const ValueId v : node.inputs) inputs.push_back(v == kAbsent ? Tensor() : values[v]);
  Result<Tensors> outputs = is_control_flow(node.domain, node.op)
                                ? backend_.run_bodies(node, inputs, {})
                                : backend_.run(node, inputs);
  if (!outputs.ok()) return outputs.status().with_context("node " + std::to_string(index));
  outputs->resize(node.outputs.size());
  return outputs;
}

void Recording::move_on(int32_t index, Tensors& outputs, Tensors& values) const {
  const Node& node = graph_.nodes[index];
  for (size_t i = 0; i < outputs.size(); ++i)
    if (node.outputs[i] != kAbsent && evaluation_.outlives(node.outputs[i], index))
      values[node.outputs[i]] = std::move(outputs[i]);
  for (const ValueId v : node.inputs)
    if (v != kAbsent && !evaluation_.outlives(v, index)) values[v] = Tensor();
}

Result<std::vector<bool>> Recording::nodes_that_suit(std::span<const Tensor> inputs) {
  std::vector<bool> suits;
  // What is not of floats has no place: what is known of codes, and -128, would have to be looked
  // at anew in each run.
  is_code_.assign(static_cast<size_t>(graph_.value_count), false);
  // The first time, weights go to the device and kernels are asked for, which a run waits for.
  for (int time = 0; time < 2; ++time) {
    suits.clear();
    Tensors values = first_values(inputs);
    varies_.assign(values.size(), false);
    for (const GraphInput& input : graph_.inputs) {
      varies_[input.value] = true;
      Tensor& t = values[input.value];
      if (is_float(t.dtype()) && t.device() == nullptr) {
        VB_ASSIGN(t, t.copied_to(gpu_));
      }
    }
    for (int32_t i = 0; i < std::ssize(graph_.nodes); ++i) {
      const Node& node = graph_.nodes[i];
      bool any_varies = false, suited = !is_control_flow(node.domain, node.op);
      for (const ValueId v : node.inputs) {
        if (v == kAbsent || !varies_[v]) continue;
        any_varies = true;
        suited = suited && values[v].device() == &gpu_;
        if (!is_float(values[v].dtype())) is_code_[v] = true;
      }
      const uint64_t waits = gpu_.waits();
      VB_ASSIGN(Tensors outputs, run_node(i, values));
      suited = suited && gpu_.waits() == waits;
      for (size_t j = 0; j < outputs.size(); ++j) {
        suited = suited && (!outputs[j].defined() || outputs[j].device() == &gpu_);
        if (node.outputs[j] != kAbsent)
          varies_[node.outputs[j]] = any_varies && !reads_shapes(node);
      }
      suits.push_back(suited);
      move_on(i, outputs, values);
    }
  }
  return suits;
}

void Recording::cut(std::vector<bool> suits) {
  for (bool again = true; again;) {
    parts_.clear();
    cut_once(suits);
    again = false;
    for (const Part& part : parts_)
      for (int32_t i = part.begin; i < part.end && part.recorded; ++i)
        for (const ValueId v : graph_.nodes[i].inputs)
          if (v != kAbsent && read_by_parts_[v] && is_code_[v] && suits[i]) {
            suits[i] = false;
            again = true;
          }
  }
}

void Recording::cut_once(const std::vector<bool>& suits) {
  const auto count = static_cast<int32_t>(suits.size());
  for (int32_t begin = 0, end; begin < count; begin = end) {
    for (end = begin + 1; end < count && suits[end] == suits[begin];) ++end;
    const bool recorded = suits[begin] && end - begin >= kLeastNodes;
    if (!recorded && !parts_.empty() && !parts_.back().recorded)
      parts_.back().end = end;
    else
      parts_.push_back({begin, end, recorded});
  }
  const auto values = static_cast<size_t>(graph_.value_count);
  std::vector<bool> made(values);
  for (const Part& part : parts_)
    for (int32_t i = part.begin; i < part.end && part.recorded; ++i)
      for (const ValueId v : graph_.nodes[i].outputs)
        if (v != kAbsent) made[v] = true;
  read_by_parts_.assign(values, false);
  read_outside_.assign(values, false);
  for (const Part& part : parts_)
    for (int32_t i = part.begin; i < part.end; ++i)
      for (const ValueId v : graph_.nodes[i].inputs)
        if (v != kAbsent && made[v] != part.recorded)
          (part.recorded ? read_by_parts_ : read_outside_)[v] = true;
  for (const GraphOutput& out : graph_.outputs)
    if (made[out.value]) read_outside_[out.value] = true;
  for (const Initializer& init : graph_.initializers) read_by_parts_[init.value] = false;
}

// --- recording

Status Recording::record(std::span<const Tensor> inputs) {
  VB_ASSIGN(std::vector<bool> suits, nodes_that_suit(inputs));
  cut(std::move(suits));
  places_.resize(static_cast<size_t>(graph_.value_count));
  Tensors values = first_values(inputs);
  for (const GraphInput& input : graph_.inputs)
    if (is_float(values[input.value].dtype())) VB_TRY(find_place(input.value, values));
  for (Part& part : parts_)
    VB_TRY(part.recorded ? record(part, values) : run(part, values).status());
  return {};
}

Status Recording::record(Part& part, Tensors& values) {
  VB_TRY(gpu_.begin_recording(arena_));
  // An exception (no memory on the host) must not leave the thread recording.
  struct End {
    Gpu& gpu;
    cudaGraphExec_t& graph;
    Status now() {
      VB_ASSIGN(graph, gpu.end_recording());
      return {};
    }
    ~End() {
      if (Gpu::is_recording()) (void)now();
    }
  } end{gpu_, part.graph};
  VB_TRY(run_recorded(part, values));
  VB_TRY(end.now());
  if (part.graph == nullptr) return unavailable("CUDA: a part cannot be recorded");
  return gpu_.replay(part.graph);
}

Status Recording::run_recorded(const Part& part, Tensors& values) {
  for (int32_t i = part.begin; i < part.end; ++i) {
    VB_ASSIGN(Tensors outputs, run_node(i, values));
    for (size_t j = 0; j < outputs.size(); ++j) {
      const ValueId v = graph_.nodes[i].outputs[j];
      if (outputs[j].defined() && outputs[j].device() != &gpu_)
        return unavailable("CUDA: a recorded node was computed by the host");
      if (v != kAbsent && read_outside_[v]) places_[v] = outputs[j];
    }
    move_on(i, outputs, values);
  }
  return {};
}

Status Recording::find_place(ValueId v, Tensors& values) {
  Tensor& value = values[v];
  if (!read_by_parts_[v]) return {};
  if (!places_[v].defined()) {
    VB_ASSIGN(places_[v], Tensor::allocate_on(gpu_, value.dtype(), value.shape()));
  }
  const Tensor from = std::exchange(value, places_[v]);
  std::byte* const to = value.mutable_address();
  return from.device() == nullptr ? gpu_.copy_from_host(to, from.address(), from.byte_size())
                                  : gpu_.copy(to, from.address(), from.byte_size());
}

// --- running

Result<bool> Recording::run(const Part& part, Tensors& values) {
  for (int32_t i = part.begin; i < part.end; ++i) {
    VB_ASSIGN(Tensors outputs, run_node(i, values));
    move_on(i, outputs, values);
    for (const ValueId v : graph_.nodes[i].outputs) {
      if (v == kAbsent || !read_by_parts_[v] || !evaluation_.outlives(v, i)) continue;
      const Tensor& value = values[v];
      if (places_[v].defined() && !of_one_kind(places_[v], value)) return false;
      const bool there = places_[v].defined() ? places_[v].device() == &gpu_
                                              : value.device() == &gpu_ || varies_[v];
      if (there) {
        VB_TRY(find_place(v, values));
      } else if (!places_[v].defined()) {
        places_[v] = value;
      } else {
        VB_ASSIGN(const Tensor here, value.on_host());
        if (!identical(here, places_[v])) return false;
      }
    }
  }
  return true;
}

Result<bool> Recording::replay(const Part& part, Tensors& values) {
  VB_TRY(gpu_.replay(part.graph));
  for (int32_t i = part.begin; i < part.end; ++i) {
    Tensors outputs;
    for (const ValueId v : graph_.nodes[i].outputs) {
      outputs.push_back(v == kAbsent ? Tensor() : places_[v]);
      // Codes are others by now.
      if (outputs.back().defined() && !is_float(outputs.back().dtype()))
        gpu_.forget(outputs.back());
    }
    move_on(i, outputs, values);
  }
  return true;
}

// What is given away is no place of ours, which the next run writes.
Result<Tensor> Recording::given_away(const Tensor& t) {
  if (t.device() != &gpu_ || t.byte_size() == 0) return t;
  const bool ours = arena_.has(t.address()) || std::ranges::any_of(places_, [&](const Tensor& p) {
                      return lies_in(p, t.address());
                    });
  if (!ours) return t;
  Result<Tensor> allocated = Tensor::allocate_on(gpu_, t.dtype(), t.shape());
  if (allocated.status().code() == StatusCode::limit) return t.on_host();
  VB_ASSIGN(Tensor copy, std::move(allocated));
  VB_TRY(gpu_.copy(copy.mutable_address(), t.address(), t.byte_size()));
  return copy;
}

Result<Tensors> Recording::run(std::span<const Tensor> inputs) {
  const std::lock_guard lock(mutex_);
  Tensors values = first_values(inputs);
  for (const GraphInput& input : graph_.inputs)
    if (places_[input.value].defined()) VB_TRY(find_place(input.value, values));
  for (const Part& part : parts_) {
    VB_ASSIGN(const bool as_recorded, part.recorded ? replay(part, values) : run(part, values));
    // Shapes came out otherwise, as those of what a node finds may, or integers that follow them.
    if (!as_recorded) return evaluation_.run(backend_, inputs);
  }
  Tensors outputs;
  for (const GraphOutput& out : graph_.outputs) {
    VB_ASSIGN(Tensor t, given_away(values[out.value]));
    outputs.push_back(std::move(t));
  }
  return outputs;
}

}  // namespace verbatim::cuda
