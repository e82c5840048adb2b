#include <verbatim/kernels/cpu/cpu_backend.h>

#include <algorithm>
#include <bit>
#include <mutex>
#include <vector>

#include <verbatim/repops/ops/control_flow.h>

namespace verbatim {
namespace {

struct Entry {
  std::string_view domain, op;
  RunFn run;
};
constexpr Entry kEntries[] = {
    {"", "Conv", run_convolution},
    {kVerbatimDomain, "Attention", run_attention},
    {kVerbatimDomain, "AttentionInt8", run_int8_attention},
    {kVerbatimDomain, "AttentionInt8Cached", run_int8_attention},
    {kVerbatimDomain, "AttentionTensorCore", run_tensor_core_attention},
    {kVerbatimDomain, "AttentionSparse", run_attention_sparse},
    {kVerbatimDomain, "AttentionLevels", run_attention_levels},
    {kVerbatimDomain, "SlicedLinear", run_sliced_linear},
    {kVerbatimDomain, "QuantizeRows", run_quantize_rows},
    {kVerbatimDomain, "QuantizeKeys", run_quantize_keys},
    {kVerbatimDomain, "QuantizeValues", run_quantize_values},
    {kVerbatimDomain, "QuantizedLinear", run_quantized_linear},
    {kVerbatimDomain, "QuantizeGroups", run_quantize_groups},
    {kVerbatimDomain, "DequantizeGroups", run_dequantize_groups},
    {kVerbatimDomain, "GroupedLinear", run_grouped_linear},
    {kVerbatimDomain, "TensorCoreLinear", run_tensor_core_linear},
    {kVerbatimDomain, "FixedDot", run_fixed_product},
    {kVerbatimDomain, "FixedSquaredDistance", run_fixed_product},
};

RunFn find(const Node& node) {
  for (const Entry& e : kEntries)
    if (e.op == node.op && e.domain == node.domain) return e.run;
  return nullptr;
}

// Which inputs of a product hold weights in codes and their groups' scales; SIZE_MAX: none does.
struct CodesInputs {
  size_t codes = SIZE_MAX, group_scales = SIZE_MAX;
  int64_t group = 0;
};
CodesInputs codes_inputs(const Node& node) {
  if (node.domain != kVerbatimDomain) return {};
  if (node.op == "TensorCoreLinear") return {.codes = 1};
  if (node.op == "SlicedLinear") return {.codes = 2};
  if (node.op == "QuantizedLinear") return {.codes = 2, .group_scales = 4};
  if (node.op != "GroupedLinear") return {};
  const Result<GroupFormat> format = group_format_of(node);
  return {.codes = 2, .group_scales = 3, .group = format.ok() ? format->group : 0};
}

}  // namespace

Status CpuBackend::prepare(const Graph& graph) {
  std::vector<Tensor> weights(static_cast<size_t>(graph.value_count));
  for (const Initializer& init : graph.initializers) weights[init.value] = init.tensor;
  return prepare(graph, weights);
}

Status CpuBackend::prepare(const Graph& graph, const std::vector<Tensor>& weights) {
  for (const Node& node : graph.nodes) {
    for (const BodyCaptures& captures : body_captures(node)) {
      const Graph& body = *captures.body;
      std::vector<Tensor> inner(static_cast<size_t>(body.value_count));
      for (size_t i = captures.first_capture; i < body.inputs.size(); ++i)
        if (const ValueId v = node.inputs[i + captures.offset]; v != kAbsent)
          inner[body.inputs[i].value] = weights[v];
      VB_TRY(prepare(body, inner));
    }
    const auto weight_at = [&](size_t i) {
      return i < node.inputs.size() && node.inputs[i] != kAbsent ? weights[node.inputs[i]]
                                                                 : Tensor();
    };
    const CodesInputs in = codes_inputs(node);
    if (const Tensor codes = weight_at(in.codes); codes.defined())
      prepare_codes(codes, weight_at(in.group_scales), in.group);
    if (node.inputs.size() < 2 || node.inputs[1] == kAbsent) continue;
    const Tensor& weight = weights[node.inputs[1]];
    if (node.domain.empty() && node.op == "Conv" && weight.dtype() == DType::f32 &&
        all_finite(weight)) {
      const std::unique_lock lock(mutex_);
      Tensor& kept = finite_[weight.bytes().data()];
      if (!kept.defined() || kept.elements() < weight.elements()) kept = weight;
    }
    const std::optional<MatrixView> view = weight_view(node, weight);
    if (!view) continue;
    const std::unique_lock lock(mutex_);
    if (prepared_.contains(key_of(*view))) continue;
    VB_ASSIGN(Tensor panels, pack_matrices(kernels_, *view, 1, 0));
    prepared_.emplace(key_of(*view), Packed{weight, std::move(panels)});
  }
  return {};
}

void CpuBackend::prepare_codes(const Tensor& w, const Tensor& group_scales, int64_t group) {
  const std::unique_lock lock(mutex_);
  const CodesKey key = key_of(w, group_scales, group);
  if (prepared_codes_.contains(key)) return;
  Result<PackedCodes> packed = pack_codes(kernels_, w, group_scales, group);
  // What is wrong with a weight is said once it is used.
  if (packed.ok()) prepared_codes_.emplace(key, PreparedCodes{w, group_scales, *std::move(packed)});
}

CpuBackend::CodesKey CpuBackend::key_of(const Tensor& w, const Tensor& group_scales,
                                        int64_t group) {
  return {w.bytes().data(),
          group_scales.bytes().data(),
          group,
          w.dtype(),
          group_scales.dtype(),
          {w.shape().dims().begin(), w.shape().dims().end()}};
}

Result<PackedCodes> pack_codes(const CpuKernels& kernels, const Tensor& w,
                               const Tensor& group_scales, int64_t group) {
  if (group > 0) {
    VB_ASSIGN(const GroupedRows rows, grouped_rows(group, w, group_scales, Tensor()));
    return pack_groups(kernels, rows);
  }
  const bool floats = w.dtype() == DType::bf16 || w.dtype() == DType::f16 || is_float8(w.dtype());
  if (group_scales.defined() && are_grouped_codes(w, group_scales))
    return pack_low_bit(kernels, w, group_scales);
  if (floats && w.rank() == 2) return pack_floats(kernels, w);
  if (w.dtype() == DType::i8 && (w.rank() == 2 || w.rank() == 3)) return pack_slices(kernels, w);
  return bad_input("weights " + w.describe() + " are not packed");
}

Result<PackedCodes> CpuBackend::packed_codes(const Tensor& w, const Tensor& group_scales,
                                             int64_t group) const {
  {
    const std::shared_lock lock(mutex_);
    const auto it = prepared_codes_.find(key_of(w, group_scales, group));
    if (it != prepared_codes_.end()) return it->second.packed;
  }
  return pack_codes(kernels_, w, group_scales, group);
}

Result<Tensors> CpuBackend::run(const Node& node, std::span<const Tensor> inputs) {
  const KernelFn shared = find_kernel(node);
  const RunFn own = find(node);
  if ((shared != nullptr || own != nullptr) && has_required(node, inputs)) {
    Outcome outcome = shared != nullptr ? shared(*this, node, inputs) : own(*this, node, inputs);
    if (outcome.ok() && outcome->has_value()) return **std::move(outcome);
    // Where there is no room for a kernel's scratch memory, the reference, which has none, decides.
    if (!outcome.ok() && outcome.status().code() != StatusCode::limit)
      return outcome.status().with_context(node.title());
  }
  return evaluate_reference(node, inputs);
}

Result<Tensor> CpuBackend::packed(const MatrixView& b) const {
  {
    const std::shared_lock lock(mutex_);
    const auto it = prepared_.find(key_of(b));
    if (it != prepared_.end()) return it->second.panels;
  }
  return pack_matrices(kernels_, b, 1, 0);
}

bool CpuBackend::all_finite(const Tensor& t) const {
  {
    const std::shared_lock lock(mutex_);
    const auto it = finite_.find(t.bytes().data());
    if (it != finite_.end() && t.elements() <= it->second.elements()) return true;
  }
  // A block at a time, without branches, so that compilers use vectors.
  const std::span<const float> x = t.data<float>();
  constexpr size_t kBlock = 1024;
  const auto any_beyond = [](const float* from, size_t count) {
    uint32_t found = 0;
    for (size_t i = 0; i < count; ++i)
      found |= (std::bit_cast<uint32_t>(from[i]) & 0x7FFFFFFFu) + 0x00800000u;
    return found >> 31 != 0;
  };
  size_t i = 0;
  for (; i + kBlock <= x.size(); i += kBlock)
    if (any_beyond(x.data() + i, kBlock)) return false;
  return !any_beyond(x.data() + i, x.size() - i);
}

float* thread_scratch(size_t size) {
  constexpr size_t kLine = 64;
  thread_local std::vector<float> memory;
  if (memory.size() < size + kLine / sizeof(float)) memory.resize(size + kLine / sizeof(float));
  void* p = memory.data();
  size_t space = memory.size() * sizeof(float);
  return static_cast<float*>(std::align(kLine, size * sizeof(float), p, space));
}

}  // namespace verbatim
