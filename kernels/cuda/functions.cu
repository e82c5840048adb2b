// The elementary functions that no other backend has kernels for, of binary32: those of
// unary_f32.h, correctly rounded on all inputs, here as on the host (docs/results/unary.md).
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/unary_f32.h>

namespace verbatim::cuda {
namespace {

template <Unary f>
__global__ void __launch_bounds__(256) evaluate(const float* x, float* y, int64_t n) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step)
    y[i] = unary::f32::evaluate(f, x[i]);
}

struct Function {
  std::string_view op;
  void (*kernel)(const float* x, float* y, int64_t n);
};
constexpr Function kFunctions[] = {
    {"Log", evaluate<Unary::log>},           {"Sin", evaluate<Unary::sin>},
    {"Cos", evaluate<Unary::cos>},           {"Tan", evaluate<Unary::tan>},
    {"Asin", evaluate<Unary::asin>},         {"Acos", evaluate<Unary::acos>},
    {"Atan", evaluate<Unary::atan>},         {"Sinh", evaluate<Unary::sinh>},
    {"Cosh", evaluate<Unary::cosh>},         {"Asinh", evaluate<Unary::asinh>},
    {"Acosh", evaluate<Unary::acosh>},       {"Atanh", evaluate<Unary::atanh>},
    {"Softplus", evaluate<Unary::softplus>},
};

const Function* find_function(const Node& node) {
  for (const Function& f : kFunctions)
    if (node.domain.empty() && node.op == f.op) return &f;
  return nullptr;
}

}  // namespace

bool is_function(const Node& node) { return find_function(node) != nullptr; }

Outcome run_function(Gpu& gpu, const KernelBackend& backend, const Node& node,
                     std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (x.dtype() != DType::f32) return not_handled();
  VB_ASSIGN(Tensor y, backend.allocate(DType::f32, x.shape()));
  const int64_t n = x.elements();
  if (n > 0)
    VB_TRY(launch(gpu, grid_for(n), find_function(node)->kernel,
                  reinterpret_cast<const float*>(x.address()),
                  reinterpret_cast<float*>(y.mutable_address()), n));
  return done({y});
}

}  // namespace verbatim::cuda
