// Elementwise operators, conversions between the types of kernels, and rotary embedding.
#include <algorithm>
#include <optional>
#include <string>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>
#include <verbatim/repops/ops/strided.h>

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

// A result of two broadcast operands, in runs over which each of them is one element (a step of 0)
// or lies element by element.
struct Runs {
  int64_t length = 1;
  int a_step = 0, b_step = 0;
  Shape outer;  // of runs
  Strides a, b;
};
Result<Runs> runs_of(const Shape& a, const Shape& b, const Shape& result) {
  Runs r{.outer = {}, .a = broadcast_strides(a, result), .b = broadcast_strides(b, result)};
  int i = result.rank();
  for (; i > 0; --i) {
    const int64_t size = result[i - 1], a_stride = r.a[i - 1], b_stride = r.b[i - 1];
    if (size == 1) continue;
    if (r.length == 1) {
      r.a_step = a_stride != 0;
      r.b_step = b_stride != 0;
    }
    if (a_stride != r.a_step * r.length || b_stride != r.b_step * r.length) break;
    r.length *= size;
  }
  VB_ASSIGN(r.outer, Shape::of(result.dims().first(static_cast<size_t>(i))));
  return r;
}

// The function of each element of x, to y.
void map_all(const CpuBackend& backend, UnaryKernel kernel, float parameter, const Tensor& x,
             Tensor& y) {
  const auto x_size = static_cast<int64_t>(size_of(x.dtype())),
             y_size = static_cast<int64_t>(size_of(y.dtype()));
  const std::byte* in = x.bytes().data();
  std::byte* out = y.mutable_bytes().data();
  parallel_for(x.elements(), kElementGrain, [&](int64_t from, int64_t to) {
    backend.kernels().map_unary(kernel, parameter, x.dtype(), in + from * x_size, y.dtype(),
                                out + from * y_size, to - from);
  });
}

Result<Tensor> converted(const CpuBackend& backend, const Tensor& x, DType to, Purpose purpose) {
  VB_ASSIGN(Tensor y, Tensor::allocate(to, x.shape(), purpose));
  map_all(backend, UnaryKernel::convert, 0, x, y);
  return y;
}

}  // namespace

Outcome run_unary(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
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
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  map_all(backend, *kernel, alpha, x, y);
  return done({y});
}

Outcome run_on_floats(FloatsFn run, const CpuBackend& backend, const Node& node,
                      std::span<const Tensor> inputs, size_t operands) {
  if (!all_of_one_type(inputs.first(operands))) return not_handled();
  const DType type = inputs[0].dtype();
  if (type == DType::f32) return run(backend, node, inputs, type);
  Tensors wide(inputs.begin(), inputs.end());
  for (size_t i = 0; i < operands; ++i) {
    VB_ASSIGN(wide[i], converted(backend, inputs[i], DType::f32, Purpose::scratch));
  }
  return run(backend, node, wide, type);
}

Result<FloatsResult> start_floats(DType type, const Shape& shape) {
  FloatsResult r;
  VB_ASSIGN(r.result, Tensor::allocate(type, shape));
  r.floats = r.result;
  if (type != DType::f32) {
    VB_ASSIGN(r.floats, Tensor::allocate(DType::f32, shape, Purpose::scratch));
  }
  return r;
}

Outcome finish_floats(const CpuBackend& backend, FloatsResult r) {
  if (r.result.dtype() != DType::f32) map_all(backend, UnaryKernel::convert, 0, r.floats, r.result);
  return done({r.result});
}

Outcome run_cast(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
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
  VB_ASSIGN(const Tensor y, converted(backend, inputs[0], to, Purpose::result));
  return done({y});
}

Outcome run_binary(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  if (!all_of_one_type(inputs)) return not_handled();
  const Tensor &a = inputs[0], &b = inputs[1];
  const Result<Shape> shape = broadcast(a.shape(), b.shape());
  if (!shape.ok()) return not_handled();
  VB_ASSIGN(Tensor y, Tensor::allocate(a.dtype(), *shape));
  if (y.elements() == 0) return done({y});
  VB_ASSIGN(const Runs runs, runs_of(a.shape(), b.shape(), *shape));
  const BinaryKernel kernel = binary_kernel(node);
  const auto size = static_cast<int64_t>(size_of(a.dtype()));
  const std::byte *pa = a.bytes().data(), *pb = b.bytes().data();
  std::byte* out = y.mutable_bytes().data();
  parallel_for(y.elements(), kElementGrain, [&](int64_t from, int64_t to) {
    StridedWalk a_walk(runs.outer, runs.a), b_walk(runs.outer, runs.b);
    a_walk.seek(from / runs.length);
    b_walk.seek(from / runs.length);
    for (; from < to; a_walk.next(), b_walk.next()) {
      const int64_t done = from % runs.length, count = std::min(to - from, runs.length - done);
      backend.kernels().map_binary(kernel, a.dtype(),
                                   pa + (a_walk.offset() + done * runs.a_step) * size, runs.a_step,
                                   pb + (b_walk.offset() + done * runs.b_step) * size, runs.b_step,
                                   out + from * size, count);
      from += count;
    }
  });
  return done({y});
}

Outcome run_rotary(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  if (!all_of_one_type(inputs.first(1)) || !all_float32(inputs.subspan(1))) return not_handled();
  const Tensor &x = inputs[0], &cosine = inputs[1], &sine = inputs[2];
  VB_ASSIGN(const int64_t heads, node.attributes.require<int64_t>("heads"));
  VB_ASSIGN(const int64_t interleaved, node.attributes.get<int64_t>("interleaved", 0));
  if (interleaved != 0 || x.rank() != 3 || heads < 1 || x.dim(2) % heads != 0 ||
      cosine.rank() != 2 || cosine.dim(0) != x.dim(1) || !(cosine.shape() == sine.shape()))
    return not_handled();
  const int64_t size = x.dim(2) / heads, half = cosine.dim(1);
  if (2 * half > size) return not_handled();
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  const float *c = cosine.data<float>().data(), *s = sine.data<float>().data();
  const int64_t positions = x.dim(1), element = static_cast<int64_t>(size_of(x.dtype())),
                turned = 2 * half * element;
  parallel_for(x.dim(0) * positions, 16, [&](int64_t from, int64_t to) {
    for (int64_t v = from * heads; v < to * heads; ++v) {
      const int64_t table = v / heads % positions * half;
      const std::byte* in = x.bytes().data() + v * size * element;
      std::byte* out = y.mutable_bytes().data() + v * size * element;
      std::copy(in + turned, in + size * element, out + turned);
      backend.kernels().rotate_halves(x.dtype(), in, c + table, s + table, out, half);
    }
  });
  return done({y});
}

}  // namespace verbatim
