#include <verbatim/repops/op.h>

#include <algorithm>
#include <map>

#include <verbatim/repops/backend.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

using Key = std::pair<std::string_view, std::string_view>;

const std::map<Key, const OpDef*>& table() {
  static const std::map<Key, const OpDef*> ops = [] {
    std::map<Key, const OpDef*> m;
    for (const auto& group : {elementwise_ops(),
                              activation_ops(),
                              movement_ops(),
                              indexing_ops(),
                              reduction_ops(),
                              matmul_ops(),
                              normalization_ops(),
                              attention_ops(),
                              sparse_attention_ops(),
                              sampling_ops(),
                              sliced_ops(),
                              convolution_ops(),
                              quantization_ops(),
                              pooling_ops(),
                              loss_ops(),
                              statistics_ops(),
                              resize_ops(),
                              einsum_ops(),
                              tensor_core_ops(),
                              onnx_attention_ops(),
                              recurrent_ops(),
                              grid_ops(),
                              detection_ops(),
                              deformable_ops(),
                              determinant_ops(),
                              signal_ops(),
                              linear_attention_ops(),
                              ngram_ops(),
                              quantized_ops(),
                              int8_attention_ops(),
                              tensor_core_attention_ops(),
                              fixed_point_ops(),
                              grouped_ops(),
                              gradient_ops(),
                              normalization_gradient_ops(),
                              attention_gradient_ops(),
                              optimizer_ops(),
                              control_flow_ops()})
      for (const OpDef& op : group) m.emplace(Key{op.domain, op.name}, &op);
    return m;
  }();
  return ops;
}

class ReferenceBackend final : public Backend {
 public:
  std::string_view name() const override { return "reference"; }
  Status prepare(const Graph&) override { return {}; }
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) override {
    return evaluate_reference(node, inputs);
  }
};

}  // namespace

const OpDef* find_op(std::string_view domain, std::string_view name) {
  const auto it = table().find({domain, name});
  return it == table().end() ? nullptr : it->second;
}

std::span<const OpDef* const> all_ops() {
  static const std::vector<const OpDef*> list = [] {
    std::vector<const OpDef*> v;
    for (const auto& [key, op] : table()) v.push_back(op);
    return v;
  }();
  return list;
}

uint64_t operation_count(const Node& node, std::span<const Tensor> inputs,
                         std::span<const Tensor> outputs) {
  const OpDef* op = find_op(node.domain, node.op);
  if (op != nullptr && op->cost_reads) {
    std::vector<Tensor> here;
    for (const Tensor& t : inputs) {
      Result<Tensor> copy = t.on_host();
      if (!copy.ok()) return UINT64_MAX;
      here.push_back(*std::move(copy));
    }
    return op->cost(node, here, outputs);
  }
  if (op != nullptr && op->cost != nullptr) return op->cost(node, inputs, outputs);
  uint64_t n = 0;
  for (const Tensor& t : outputs) n += static_cast<uint64_t>(t.defined() ? t.elements() : 0);
  return n;
}

Result<Tensors> evaluate_reference(const Node& node, std::span<const Tensor> inputs) {
  const OpDef* op = find_op(node.domain, node.op);
  if (op == nullptr)
    return unsupported("no operator '" + node.op + "' in domain '" + node.domain + "'");
  for (size_t i = 0; i < static_cast<size_t>(op->min_inputs); ++i)
    if (i >= inputs.size() || !inputs[i].defined())
      return bad_input(node.title() + ": input " + std::to_string(i) + " is missing");
  Result<Tensors> outputs = op->evaluate(node, inputs);
  if (!outputs.ok()) return outputs.status().with_context(node.title());
  return outputs;
}

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace verbatim
