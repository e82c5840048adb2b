// Functions of one operand that no other backend has kernels for, of binary32. The elementary ones
// are those of unary_f32.h, correctly rounded on all inputs, here as on the host
// (docs/results/unary.md); activations are what repops/ops/activation.cc composes of them.
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/unary_f32.h>

namespace verbatim::cuda {
namespace {

// alpha and beta: a node's attributes.
using Kernel = void (*)(const float* x, float* y, int64_t n, float alpha, float beta);

template <auto kFunction>
__global__ void __launch_bounds__(256)
    map(const float* x, float* y, int64_t n, float alpha, float beta) {
  each_element(n, [&](int64_t i) { y[i] = canonical(kFunction(x[i], alpha, beta)); });
}

template <Unary f>
__device__ float elementary(float x, float, float) {
  return unary::f32::evaluate(f, x);
}
__device__ float absolute(float x, float, float) { return absolute_of(x); }
__device__ float negate(float x, float, float) { return negate_of(x); }
__device__ float sign(float x, float, float) { return x > 0 ? 1.0f : x < 0 ? -1.0f : x; }
__device__ float reciprocal(float x, float, float) { return 1.0f / x; }
__device__ float elu(float x, float alpha, float) {
  return x < 0 ? alpha * unary::f32::expm1(x) : x;
}
__device__ float selu(float x, float alpha, float gamma) {
  return gamma * (x > 0 ? x : alpha * unary::f32::expm1(x));
}
__device__ float celu(float x, float alpha, float) {
  return maximum(0.0f, x) + minimum(0.0f, alpha * unary::f32::expm1(x / alpha));
}
__device__ float hard_sigmoid(float x, float alpha, float beta) {
  return maximum(0.0f, minimum(1.0f, alpha * x + beta));
}
__device__ float hard_swish(float x, float, float) {
  return x * hard_sigmoid(x, 1.0f / 6.0f, 0.5f);
}
__device__ float mish(float x, float, float) {
  return x * unary::f32::tanh(unary::f32::softplus(x));
}
__device__ float softsign(float x, float, float) { return x / (1.0f + absolute_of(x)); }

struct Function {
  std::string_view op;
  Kernel kernel;
  // Its attributes, and what they are where a node has none.
  std::string_view first = {};
  float alpha = 0;
  std::string_view second = {};
  float beta = 0;
};
constexpr Function kFunctions[] = {
    {"Log", map<elementary<Unary::log>>},
    {"Sin", map<elementary<Unary::sin>>},
    {"Cos", map<elementary<Unary::cos>>},
    {"Tan", map<elementary<Unary::tan>>},
    {"Asin", map<elementary<Unary::asin>>},
    {"Acos", map<elementary<Unary::acos>>},
    {"Atan", map<elementary<Unary::atan>>},
    {"Sinh", map<elementary<Unary::sinh>>},
    {"Cosh", map<elementary<Unary::cosh>>},
    {"Asinh", map<elementary<Unary::asinh>>},
    {"Acosh", map<elementary<Unary::acosh>>},
    {"Atanh", map<elementary<Unary::atanh>>},
    {"Softplus", map<elementary<Unary::softplus>>},
    {"Abs", map<absolute>},
    {"Neg", map<negate>},
    {"Sign", map<sign>},
    {"Reciprocal", map<reciprocal>},
    {"Elu", map<elu>, "alpha", 1.0f},
    {"Selu", map<selu>, "alpha", 1.67326319217681884765625f, "gamma", 1.05070102214813232421875f},
    {"Celu", map<celu>, "alpha", 1.0f},
    {"HardSigmoid", map<hard_sigmoid>, "alpha", 0.2f, "beta", 0.5f},
    {"HardSwish", map<hard_swish>},
    {"Mish", map<mish>},
    {"Softsign", map<softsign>},
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
  const Function& f = *find_function(node);
  const auto attribute = [&](std::string_view name, float otherwise) -> Result<float> {
    if (name.empty()) return otherwise;
    return node.attributes.get<float>(name, otherwise);
  };
  VB_ASSIGN(const float alpha, attribute(f.first, f.alpha));
  VB_ASSIGN(const float beta, attribute(f.second, f.beta));
  VB_ASSIGN(Tensor y, backend.allocate(DType::f32, x.shape()));
  const int64_t n = x.elements();
  if (n > 0)
    VB_TRY(launch(gpu, grid_for(n), f.kernel, reinterpret_cast<const float*>(x.address()),
                  reinterpret_cast<float*>(y.mutable_address()), n, alpha, beta));
  return done({y});
}

}  // namespace verbatim::cuda
