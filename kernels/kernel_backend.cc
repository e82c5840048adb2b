#include <verbatim/kernels/kernel_backend.h>

#include <algorithm>

namespace verbatim {
namespace {

struct Entry {
  std::string_view domain, op;
  KernelFn run;
};
constexpr Entry kEntries[] = {
    {kVerbatimDomain, "Linear", run_linear},
    {"", "MatMul", run_matmul},
    {"", "Gemm", run_gemm},
    {"", "Softmax", run_softmax},
    {"", "LayerNormalization", run_layer_norm},
    {"", "RMSNormalization", run_rms_norm},
    {kVerbatimDomain, "L2Normalize", run_l2_normalize},
    {kVerbatimDomain, "MeanPool", run_mean_pool},
    {"", "ReduceSum", run_reduction},
    {"", "ReduceMean", run_reduction},
    {"", "ReduceL1", run_reduction},
    {"", "ReduceSumSquare", run_reduction},
    {"", "ReduceL2", run_reduction},
    {"", "ReduceMax", run_reduction},
    {"", "ReduceMin", run_reduction},
    {"", "Exp", run_unary},
    {"", "Erf", run_unary},
    {"", "Tanh", run_unary},
    {"", "Sigmoid", run_unary},
    {"", "Swish", run_unary},
    {"", "Gelu", run_unary},
    {"", "Relu", run_unary},
    {"", "LeakyRelu", run_unary},
    {"", "Sqrt", run_unary},
    {"", "Cast", run_cast},
    {"", "CastLike", run_cast},
    {"", "Add", run_binary},
    {"", "Sub", run_binary},
    {"", "Mul", run_binary},
    {"", "Div", run_binary},
    {kVerbatimDomain, "RotaryEmbedding", run_rotary},
};

}  // namespace

KernelFn find_kernel(const Node& node) {
  for (const Entry& e : kEntries)
    if (e.op == node.op && e.domain == node.domain) return e.run;
  return nullptr;
}

bool has_required(const Node& node, std::span<const Tensor> inputs) {
  const OpDef* op = find_op(node.domain, node.op);
  const auto required = static_cast<size_t>(op->min_inputs);
  return inputs.size() >= required &&
         std::ranges::all_of(inputs.first(required), [](const Tensor& t) { return t.defined(); });
}

bool all_float32(std::span<const Tensor> inputs) {
  return std::ranges::all_of(inputs, [](const Tensor& t) { return t.dtype() == DType::f32; });
}

bool all_of_one_type(std::span<const Tensor> inputs) {
  const DType type = inputs[0].dtype();
  if (type != DType::f32 && type != DType::bf16 && type != DType::f16) return false;
  return std::ranges::all_of(inputs, [type](const Tensor& t) { return t.dtype() == type; });
}

}  // namespace verbatim
