// Elementwise operators, conversions between the types of kernels, and rotary embedding.
#include <algorithm>
#include <optional>
#include <string>

#include <verbatim/kernels/kernel_backend.h>

namespace verbatim {
namespace {

// The kernel of a node, or nothing where its attributes are another's affair.
Result<std::optional<UnaryKernel>> unary_kernel(const Node& node) {
  std::optional<UnaryKernel> kernel;
  if (node.op == "Exp") kernel = UnaryKernel::exp;
  if (node.op == "Erf") kernel = UnaryKernel::erf;
  if (node.op == "Tanh") kernel = UnaryKernel::tanh;
  if (node.op == "Sigmoid") kernel = UnaryKernel::sigmoid;
  if (node.op == "Swish") kernel = UnaryKernel::swish;
  if (node.op == "Relu") kernel = UnaryKernel::relu;
  if (node.op == "LeakyRelu") kernel = UnaryKernel::leaky_relu;
  if (node.op == "Sqrt") kernel = UnaryKernel::square_root;
  if (node.op == "Gelu") {
    VB_ASSIGN(const std::string form, node.attributes.get<std::string>("approximate", "none"));
    if (form == "none") kernel = UnaryKernel::gelu;
    if (form == "tanh") kernel = UnaryKernel::gelu_tanh;
  }
  return kernel;
}

BinaryKernel binary_kernel(const Node& node) {
  if (node.op == "Add") return BinaryKernel::add;
  if (node.op == "Sub") return BinaryKernel::subtract;
  if (node.op == "Mul") return BinaryKernel::multiply;
  return BinaryKernel::divide;
}

// Cuts the result into runs.
Status find_runs(Binary& p, const Shape& a, const Shape& b, const Shape& result) {
  p.a_strides = broadcast_strides(a, result);
  p.b_strides = broadcast_strides(b, result);
  int i = result.rank();
  for (; i > 0; --i) {
    const int64_t size = result[i - 1], a_stride = p.a_strides[i - 1],
                  b_stride = p.b_strides[i - 1];
    if (size == 1) continue;
    if (p.length == 1) {
      p.a_step = a_stride != 0;
      p.b_step = b_stride != 0;
    }
    if (a_stride != p.a_step * p.length || b_stride != p.b_step * p.length) break;
    p.length *= size;
  }
  VB_ASSIGN(p.outer, Shape::of(result.dims().first(static_cast<size_t>(i))));
  return {};
}

Result<Tensor> mapped(const KernelBackend& backend, UnaryKernel kernel, float parameter,
                      const Tensor& x, DType type) {
  VB_ASSIGN(Tensor y, backend.allocate(type, x.shape()));
  VB_TRY(backend.map_unary(kernel, parameter, x.dtype(), x.address(), type, y.mutable_address(),
                           x.elements()));
  return y;
}

}  // namespace

Outcome run_unary(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (!all_of_one_type(inputs)) return not_handled();
  VB_ASSIGN(const std::optional<UnaryKernel> kernel, unary_kernel(node));
  if (!kernel) return not_handled();
  float alpha = 0;
  if (*kernel == UnaryKernel::swish) {
    VB_ASSIGN(alpha, node.attributes.get<float>("alpha", 1.0f));
  }
  if (*kernel == UnaryKernel::leaky_relu) {
    VB_ASSIGN(alpha, node.attributes.get<float>("alpha", 0.01f));
  }
  VB_ASSIGN(const Tensor y, mapped(backend, *kernel, alpha, x, x.dtype()));
  return done({y});
}

Outcome run_cast(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  const auto known = [](DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16; };
  DType to = inputs.size() > 1 ? inputs[1].dtype() : DType::undefined;
  if (node.op == "Cast") {
    const Result<int64_t> type = node.attributes.get<int64_t>("to", 0);
    to = dtype_from_onnx(type.ok() ? *type : 0);
  }
  // Of no use to these types, but a wrong one is an error.
  const bool plain =
      !node.attributes.has("round_mode") && node.attributes.get<int64_t>("saturate", 1).ok();
  if (!plain || !known(to) || !known(inputs[0].dtype())) return not_handled();
  VB_ASSIGN(const Tensor y, mapped(backend, UnaryKernel::convert, 0, inputs[0], to));
  return done({y});
}

Outcome run_binary(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  if (!all_of_one_type(inputs)) return not_handled();
  const Tensor &a = inputs[0], &b = inputs[1];
  const Result<Shape> shape = broadcast(a.shape(), b.shape());
  if (!shape.ok()) return not_handled();
  VB_ASSIGN(Tensor y, backend.allocate(a.dtype(), *shape));
  if (y.elements() == 0) return done({y});
  Binary p{.f = binary_kernel(node),
           .type = a.dtype(),
           .a = a.address(),
           .b = b.address(),
           .out = y.mutable_address(),
           .elements = y.elements()};
  VB_TRY(find_runs(p, a.shape(), b.shape(), *shape));
  VB_TRY(backend.map_binary(p));
  return done({y});
}

Outcome run_rotary(const KernelBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  if (!all_of_one_type(inputs.first(1)) || !all_float32(inputs.subspan(1))) return not_handled();
  const Tensor &x = inputs[0], &cosine = inputs[1], &sine = inputs[2];
  VB_ASSIGN(const int64_t heads, node.attributes.require<int64_t>("heads"));
  VB_ASSIGN(const int64_t interleaved, node.attributes.get<int64_t>("interleaved", 0));
  if (interleaved != 0 || x.rank() != 3 || heads < 1 || x.dim(2) % heads != 0 ||
      cosine.rank() != 2 || cosine.dim(0) != x.dim(1) || !(cosine.shape() == sine.shape()))
    return not_handled();
  const int64_t size = x.dim(2) / heads, half = cosine.dim(1);
  if (2 * half > size) return not_handled();
  VB_ASSIGN(Tensor y, backend.allocate(x.dtype(), x.shape()));
  VB_TRY(backend.rotate({.type = x.dtype(),
                         .x = x.address(),
                         .y = y.mutable_address(),
                         .cosine = reinterpret_cast<const float*>(cosine.address()),
                         .sine = reinterpret_cast<const float*>(sine.address()),
                         .positions = x.dim(0) * x.dim(1),
                         .heads = heads,
                         .size = size,
                         .half = half,
                         .table_rows = x.dim(1)}));
  return done({y});
}

}  // namespace verbatim
