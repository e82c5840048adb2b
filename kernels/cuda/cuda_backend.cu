#include <verbatim/kernels/cuda/cuda_backend.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/kernels/cuda/recording.h>
#include <verbatim/repops/ops/control_flow.h>
#include <verbatim/repops/ops/quantized.h>

namespace verbatim {
namespace {

using cuda::Gpu;

// Operators that move elements and keep their bytes. The reference of these moves them where they
// lie (repops/ops/copy.h), so it is run on tensors of the device.
bool is_movement(const Node& node) {
  static constexpr std::string_view kNames[] = {"Reshape",  "Squeeze",   "Unsqueeze", "Flatten",
                                                "Identity", "Transpose", "Expand",    "Concat",
                                                "Split",    "Slice",     "Gather"};
  return node.domain.empty() && std::ranges::find(kNames, node.op) != std::end(kNames);
}

// Floats and int8 codes; other integers are the host's.
bool lives_there(DType type) { return type == DType::i8 || is_float(type); }

// Operators that have kernels of their own here.
using AdmitsFn = Result<bool>(Gpu& gpu, const Tensor& t);
struct Own {
  cuda::OwnKernel* run = nullptr;
  // Whether an operand, on the host or the device, holds only what the kernel takes; it then may
  // be of int32 too. Null: all do.
  AdmitsFn* admits = nullptr;
  // What of weights in codes and their groups' scales the kernel takes in their place, if they are
  // constants of a graph.
  Result<Tensor> (*pack)(Gpu& gpu, const Tensor& codes, const Tensor& group_scales) = nullptr;

  explicit operator bool() const { return run != nullptr; }
  bool wants_there(DType type) const {
    return lives_there(type) || (admits != nullptr && type == DType::i32);
  }
};
// What the device's tensor cores were seen to do as the contract's sm90, and whether its 2^t is
// near enough.
struct Units {
  bool products = false, attention = false, powers = false;
};

// Of QuantizedLinear.
constexpr size_t kCodesInput = 2, kGroupScalesInput = 4;
bool has_group_scales(const Node& node) {
  return node.inputs.size() > kGroupScalesInput && node.inputs[kGroupScalesInput] != kAbsent;
}
bool has_group_scales(std::span<const Tensor> inputs) {
  return inputs.size() > kGroupScalesInput && inputs[kGroupScalesInput].defined();
}

struct Entry {
  std::string_view domain, op;
  Own own;
};
constexpr Entry kEntries[] = {
    {"", "Conv", {cuda::run_convolution}},
    {"", "ConvTranspose", {cuda::run_convolution}},
    {"", "MaxPool", {cuda::run_pool}},
    {"", "GlobalMaxPool", {cuda::run_pool}},
    {"", "AveragePool", {cuda::run_pool}},
    {"", "GlobalAveragePool", {cuda::run_pool}},
    {"", "Max", {cuda::run_variadic}},
    {"", "Min", {cuda::run_variadic}},
    {"", "Sum", {cuda::run_variadic}},
    {"", "LogSoftmax", {cuda::run_log_softmax}},
    {"", "NegativeLogLikelihoodLoss", {cuda::run_loss}},
    {kVerbatimDomain, "NegativeLogLikelihoodLossGrad", {cuda::run_loss_gradient}},
    {kVerbatimDomain, "Attention", {cuda::run_attention}},
    {kVerbatimDomain, "AttentionGrad", {cuda::run_attention_gradient}},
    {kVerbatimDomain, "AttentionInt8", {cuda::run_int8_attention}},
    {kVerbatimDomain, "AttentionInt8Cached", {cuda::run_int8_attention, cuda::admits_cache}},
    {kVerbatimDomain, "AttentionSparse", {cuda::run_sparse_attention}},
    {kVerbatimDomain, "AttentionLevels", {cuda::run_attention_levels}},
    {kVerbatimDomain, "AttentionTensorCore", {cuda::run_tensor_core_attention}},
    {kVerbatimDomain, "QuantizeKeys", {cuda::run_quantize_keys}},
    {kVerbatimDomain, "QuantizeValues", {cuda::run_quantize_values}},
    {kVerbatimDomain, "QuantizeRows", {cuda::run_quantize_rows}},
    {kVerbatimDomain, "QuantizedLinear", {cuda::run_quantized_linear}},
    {kVerbatimDomain, "QuantizeGroups", {cuda::run_quantize_groups}},
    {kVerbatimDomain, "DequantizeGroups", {cuda::run_dequantize_groups}},
    {kVerbatimDomain, "GroupedLinear", {cuda::run_grouped_linear}},
    {kVerbatimDomain, "Slices", {cuda::run_slices}},
    {kVerbatimDomain, "SlicedLinear", {cuda::run_sliced_linear, cuda::admits_slices}},
    {kVerbatimDomain, "TensorCoreLinear", {cuda::run_tensor_core_linear}},
    {kVerbatimDomain, "Sample", {cuda::run_sample}},
    {kVerbatimDomain, "GeluGrad", {cuda::run_activation_gradient}},
    {kVerbatimDomain, "SwishGrad", {cuda::run_activation_gradient}},
    {kVerbatimDomain, "LayerNormalizationGrad", {cuda::run_norm_gradient}},
    {kVerbatimDomain, "RMSNormalizationGrad", {cuda::run_norm_gradient}},
    {kVerbatimDomain, "L2NormalizeGrad", {cuda::run_l2_gradient}},
    {kVerbatimDomain, "SumTo", {cuda::run_sum_to}},
    {kVerbatimDomain, "GatherGrad", {cuda::run_gather_gradient}},
    {kVerbatimDomain, "SgdUpdate", {cuda::run_sgd}},
    {kVerbatimDomain, "AdamWUpdate", {cuda::run_adamw}},
};

// grouped: has_group_scales()
Own find_own(const Node& node, const Units& units, bool grouped) {
  if (cuda::is_function(node)) return {cuda::run_function};
  const auto* e = std::ranges::find_if(kEntries, [&](const Entry& entry) {
    return entry.domain == node.domain && entry.op == node.op;
  });
  if (e == std::end(kEntries)) return {};
  cuda::OwnKernel* const run = e->own.run;
  if (run == cuda::run_tensor_core_linear && !units.products) return {};
  if (run == cuda::run_tensor_core_attention && !units.attention) return {};
  if (run == cuda::run_int8_attention && !units.powers) return {};
  if (run == cuda::run_quantized_linear && grouped)
    return {cuda::run_low_bit_linear, nullptr, cuda::pack_low_bit};
  return e->own;
}

class CudaBackend final : public KernelBackend {
 public:
  CudaBackend(Gpu& gpu, std::unique_ptr<Backend> host, const Units& units)
      : gpu_(gpu), host_(std::move(host)), units_(units) {}

  std::string_view name() const override { return "cuda"; }
  // Weights go to the device, and stay.
  Status prepare(const Graph& graph) override;
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override;
  Result<std::unique_ptr<RecordedStep>> record(const Graph& graph,
                                               std::span<const Tensor> inputs) override {
    return cuda::Recording::make(gpu_, *this, graph, inputs);
  }

  Result<Tensor> allocate(DType type, const Shape& shape, Purpose purpose) const override {
    return Tensor::allocate_on(gpu_, type, shape, purpose);
  }
  Status multiply(const Product& p, const MatrixView& b, int64_t, int64_t m,
                  std::span<const MatrixPair> pairs) const override {
    return cuda::multiply(gpu_, p, b, m, pairs);
  }
  Status softmax(DType type, const void* x, void* y, int64_t rows, int64_t n) const override {
    return cuda::softmax(gpu_, type, x, y, rows, n);
  }
  Status layer_norm(const RowNorm& p, int64_t rows) const override {
    return cuda::layer_norm(gpu_, p, rows);
  }
  Status rms_norm(const RowNorm& p, int64_t rows) const override {
    return cuda::rms_norm(gpu_, p, rows);
  }
  Status l2_normalize(const RowNorm& p, int64_t rows) const override {
    return cuda::l2_normalize(gpu_, p, rows);
  }
  Status reduce(const Reduction& p, int64_t results) const override {
    return cuda::reduce(gpu_, p, results);
  }
  Status map_unary(UnaryKernel f, float parameter, DType x_type, const void* x, DType y_type,
                   void* y, int64_t n) const override {
    return cuda::map_unary(gpu_, f, parameter, x_type, x, y_type, y, n);
  }
  Status map_binary(const Binary& p) const override { return cuda::map_binary(gpu_, p); }
  Status rotate(const Rotation& p) const override { return cuda::rotate(gpu_, p); }

 private:
  struct Weight {
    Tensor host;  // kept, so that no other tensor can come to lie where it does
    Tensor device;
    AdmitsFn* admitted = nullptr;  // by whose rules
  };
  // The tensor on the device: itself, a weight's copy, or a copy made now. Undefined where a code
  // is -128, which kernels do not take (codes that are on the device never are), or where `own`
  // does not admit it.
  Result<Tensor> on_device(const Tensor& t, const Own& own);
  // What the node's kernel takes in the place of these weights, made at most once; undefined where
  // they are no constants of a graph, or the kernel does not take them.
  Result<Tensor> packed(const Own& own, const Tensor& codes, const Tensor& group_scales);
  // Where kernels want them: floats and int8 codes on the device, other integers on the host, and
  // what is packed at kPackedLowBit. Nothing where one of them cannot be there.
  Result<std::optional<Tensors>> place(std::span<const Tensor> inputs, const Own& own);
  // On the device, by a kernel; with neither it is a movement.
  Outcome run_here(const Node& node, std::span<const Tensor> inputs, KernelFn kernel,
                   const Own& own);

  Gpu& gpu_;
  std::unique_ptr<Backend> host_;
  const Units units_;
  std::mutex mutex_;
  std::map<const std::byte*, Weight> weights_;  // by the storage of a graph's constants
  struct Packed {
    Tensor codes, group_scales;  // kept, as a weight is
    Tensor device;
  };
  // By their storage, elements, and elements of a row.
  using PackedKey = std::tuple<const std::byte*, const std::byte*, int64_t, int64_t>;
  std::map<PackedKey, Packed> packed_;
};

Status CudaBackend::prepare(const Graph& graph) {
  {
    const std::lock_guard lock(mutex_);
    for (const Initializer& init : graph.initializers)
      if (init.tensor.defined() && init.tensor.byte_size() > 0)
        weights_.try_emplace(init.tensor.address(), Weight{init.tensor, {}});
  }
  // What this graph's nodes read there goes there now, outside of any limit of a node; what bodies
  // read, and what finds no room now, once they do.
  std::vector<Tensor> constants(static_cast<size_t>(graph.value_count));
  for (const Initializer& init : graph.initializers) constants[init.value] = init.tensor;
  for (const Node& node : graph.nodes) {
    const Own own = find_own(node, units_, has_group_scales(node));
    if (find_kernel(node) == nullptr && !own) continue;
    if (own.pack != nullptr) {
      const Status status = packed(own, constants[node.inputs[kCodesInput]],
                                   constants[node.inputs[kGroupScalesInput]])
                                .status();
      if (!status.ok() && status.code() != StatusCode::limit) return status;
    }
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId v = node.inputs[i];
      if (own.pack != nullptr && i == kCodesInput) continue;
      if (v == kAbsent || !own.wants_there(constants[v].dtype())) continue;
      const Status status = on_device(constants[v], own).status();
      if (!status.ok() && status.code() != StatusCode::limit) return status;
    }
  }
  for (const Node& node : graph.nodes)
    for (const BodyCaptures& captures : body_captures(node)) VB_TRY(prepare(*captures.body));
  return {};
}

Result<Tensor> CudaBackend::on_device(const Tensor& t, const Own& own) {
  if (!t.defined()) return t;
  const auto placed = [&]() -> Result<Tensor> {
    if (own.admits != nullptr) {
      VB_ASSIGN(const bool admitted, own.admits(gpu_, t));
      if (!admitted) return Tensor();
    }
    if (t.device() == &gpu_) return t;
    if (t.dtype() == DType::i8 && !within(t.data<int8_t>(), kInt8Codes)) return Tensor();
    return t.copied_to(gpu_);
  };
  std::unique_lock lock(mutex_);
  const auto it = weights_.find(t.address());
  if (it == weights_.end() || it->second.host.dtype() != t.dtype() ||
      it->second.host.elements() != t.elements()) {
    lock.unlock();  // a kernel may look at it, and others need not wait for that
    return placed();
  }
  // A weight stays where it is, for recordings read it there.
  Weight& w = it->second;
  if (!w.device.defined()) {
    if (Gpu::is_recording()) return unavailable("CUDA: a weight is not on the device");
    VB_ASSIGN(w.device, placed());
    w.admitted = own.admits;
  } else if (own.admits != nullptr && w.admitted != own.admits) {
    VB_ASSIGN(const bool admitted, own.admits(gpu_, t));
    if (!admitted) return Tensor();
    w.admitted = own.admits;
  }
  return w.device.defined() ? w.device.reshaped(t.shape()) : Tensor();
}

Result<Tensor> CudaBackend::packed(const Own& own, const Tensor& codes,
                                   const Tensor& group_scales) {
  if (!codes.defined() || !group_scales.defined()) return Tensor();
  const PackedKey key{codes.address(), group_scales.address(), codes.elements(),
                      codes.rank() > 0 ? codes.dim(codes.rank() - 1) : 0};
  {
    const std::lock_guard lock(mutex_);
    const auto it = packed_.find(key);
    if (it != packed_.end()) return it->second.device;
    if (!weights_.contains(codes.address()) || !weights_.contains(group_scales.address()))
      return Tensor();
  }
  if (Gpu::is_recording()) return unavailable("CUDA: weights are not packed");
  VB_ASSIGN(const Tensor device, own.pack(gpu_, codes, group_scales));
  // If another thread has packed them meanwhile, its are used: recordings read them where they lie.
  const std::lock_guard lock(mutex_);
  return packed_.try_emplace(key, Packed{codes, group_scales, device}).first->second.device;
}

Result<std::optional<Tensors>> CudaBackend::place(std::span<const Tensor> inputs, const Own& own) {
  Tensors placed;
  const bool packs = own.pack != nullptr;
  Tensor weights;
  if (packs) {
    VB_ASSIGN(weights, packed(own, inputs[kCodesInput], inputs[kGroupScalesInput]));
    if (!weights.defined()) return std::optional<Tensors>();
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& t = inputs[i];
    const bool there = own.wants_there(t.dtype()) && !(packs && i == kCodesInput);
    VB_ASSIGN(Tensor at, there ? on_device(t, own) : t.on_host());
    if (t.defined() && !at.defined()) return std::optional<Tensors>();
    placed.push_back(std::move(at));
  }
  if (packs) {
    placed.resize(cuda::kPackedLowBit);
    placed.push_back(std::move(weights));
  }
  return std::optional<Tensors>(std::move(placed));
}

Outcome CudaBackend::run_here(const Node& node, std::span<const Tensor> inputs, KernelFn kernel,
                              const Own& own) {
  VB_ASSIGN(const std::optional<Tensors> placed, place(inputs, own));
  if (!placed) return not_handled();
  if (kernel == nullptr && !own) {
    VB_ASSIGN(Tensors moved, evaluate_reference(node, *placed));
    return done(std::move(moved));
  }
  Outcome outcome =
      kernel != nullptr ? kernel(*this, node, *placed) : own.run(gpu_, *this, node, *placed);
  if (!outcome.ok()) return outcome.status().with_context(node.title());
  return outcome;
}

Result<Tensors> CudaBackend::run(const Node& node, std::span<const Tensor> inputs) {
  const KernelFn kernel = find_kernel(node);
  const Own own = find_own(node, units_, has_group_scales(inputs));
  const bool moves = is_movement(node);
  if ((kernel != nullptr || own || moves) && has_required(node, inputs)) {
    Outcome outcome = run_here(node, inputs, kernel, own);
    if (outcome.ok() && outcome->has_value()) return **std::move(outcome);
    // Where there is no room on the device, the host decides; but nothing has room on one that a
    // kernel broke.
    if (!outcome.ok()) {
      if (outcome.status().code() != StatusCode::limit) return outcome.status();
      VB_TRY(gpu_.fault());
    }
  }
  Tensors here(inputs.begin(), inputs.end());
  for (Tensor& t : here) {
    VB_ASSIGN(t, t.on_host());
  }
  return host_->run(node, here);
}

Result<Units> probe(Gpu& gpu) {
  Units units;
  VB_ASSIGN(units.powers, cuda::has_near_powers(gpu));
  VB_ASSIGN(units.products, cuda::has_units_of_sm90(gpu));
  if (!units.powers || !units.products) return units;
  units.attention = true;
  CudaBackend backend(gpu, make_reference_backend(), units);
  VB_ASSIGN(units.attention, cuda::attends_as_sm90(backend));
  return units;
}

}  // namespace

Result<std::unique_ptr<Backend>> make_cuda_backend(std::unique_ptr<Backend> host) {
  VB_ASSIGN(Gpu * gpu, Gpu::get());
  // Once: it is the process's GPU.
  static const Result<Units> units = probe(*gpu);
  VB_TRY(units.status());
  return std::unique_ptr<Backend>(std::make_unique<CudaBackend>(*gpu, std::move(host), *units));
}

}  // namespace verbatim
