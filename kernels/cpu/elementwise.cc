// Elementwise operators and rotary embedding in binary32.
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

// How an operand of `shape` repeats over a result of `elements` elements, where that is simple: it
// is one element, or a block of elements that comes over and over.
struct Repeat {
  int64_t period;
  int step;
};
std::optional<Repeat> repeat_of(const Shape& shape, const Shape& result) {
  if (shape.elements() == 1) return Repeat{result.elements(), 0};
  int ones = 0;  // leading
  while (ones < shape.rank() && shape[ones] == 1) ++ones;
  const int offset = result.rank() - shape.rank();
  for (int i = ones; i < shape.rank(); ++i)
    if (shape[i] != result[i + offset]) return std::nullopt;
  return Repeat{shape.elements(), 1};
}

}  // namespace

Outcome run_unary(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (!all_float32(inputs)) return not_handled();
  VB_ASSIGN(const std::optional<UnaryKernel> kernel, unary_kernel(node));
  if (!kernel) return not_handled();
  float alpha = 1;
  if (*kernel == UnaryKernel::swish) {
    VB_ASSIGN(alpha, node.attributes.get<float>("alpha", 1.0f));
  }
  VB_ASSIGN(Tensor y, Tensor::allocate(DType::f32, x.shape()));
  const float* in = x.data<float>().data();
  float* out = y.mutable_data<float>().data();
  parallel_for(x.elements(), kElementGrain, [&](int64_t from, int64_t to) {
    backend.kernels().map_unary(*kernel, alpha, in + from, out + from, to - from);
  });
  return done({y});
}

Outcome run_binary(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  if (!all_float32(inputs)) return not_handled();
  const Tensor &a = inputs[0], &b = inputs[1];
  const Result<Shape> shape = broadcast(a.shape(), b.shape());
  if (!shape.ok()) return not_handled();
  const std::optional<Repeat> ra = repeat_of(a.shape(), *shape), rb = repeat_of(b.shape(), *shape);
  if (!ra || !rb) return not_handled();
  VB_ASSIGN(Tensor y, Tensor::allocate(DType::f32, *shape));
  // Runs in which neither operand starts over.
  const int64_t run = std::min(ra->period, rb->period), elements = y.elements();
  if (elements == 0) return done({y});
  const BinaryKernel kernel = binary_kernel(node);
  const float *pa = a.data<float>().data(), *pb = b.data<float>().data();
  float* out = y.mutable_data<float>().data();
  parallel_for(elements, kElementGrain, [&](int64_t from, int64_t to) {
    while (from < to) {
      const int64_t count = std::min(to - from, run - from % run);
      backend.kernels().map_binary(kernel, ra->step ? pa + from % ra->period : pa, ra->step,
                                   rb->step ? pb + from % rb->period : pb, rb->step, out + from,
                                   count);
      from += count;
    }
  });
  return done({y});
}

Outcome run_rotary(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  if (!all_float32(inputs)) return not_handled();
  const Tensor &x = inputs[0], &cosine = inputs[1], &sine = inputs[2];
  VB_ASSIGN(const int64_t heads, node.attributes.require<int64_t>("heads"));
  VB_ASSIGN(const int64_t interleaved, node.attributes.get<int64_t>("interleaved", 0));
  if (interleaved != 0 || x.rank() != 3 || heads < 1 || x.dim(2) % heads != 0 ||
      cosine.rank() != 2 || cosine.dim(0) != x.dim(1) || !(cosine.shape() == sine.shape()))
    return not_handled();
  const int64_t size = x.dim(2) / heads, half = cosine.dim(1);
  if (2 * half > size) return not_handled();
  VB_ASSIGN(Tensor y, Tensor::allocate(DType::f32, x.shape()));
  const float *in = x.data<float>().data(), *c = cosine.data<float>().data(),
              *s = sine.data<float>().data();
  float* out = y.mutable_data<float>().data();
  const int64_t positions = x.dim(1);
  parallel_for(x.dim(0) * positions, 16, [&](int64_t from, int64_t to) {
    for (int64_t v = from * heads; v < to * heads; ++v) {
      const int64_t table = v / heads % positions * half;
      std::copy(in + v * size + 2 * half, in + (v + 1) * size, out + v * size + 2 * half);
      backend.kernels().rotate_halves(in + v * size, c + table, s + table, out + v * size, half);
    }
  });
  return done({y});
}

}  // namespace verbatim
