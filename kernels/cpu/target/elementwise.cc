// Elementwise arithmetic and activations, written out operation by operation as
// repops/ops/activation.cc gives them.
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/unary.h>

namespace verbatim::VB_TARGET {
namespace {

template <class F>
VB_INLINE void map_each(const float* x, float* y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, canonical(f(load(x + i))));
  if (i < n) store_first(y + i, n - i, canonical(f(load_first(x + i, n - i, zero()))));
}

// A step of 0 repeats the operand's only element.
template <class F>
VB_INLINE void map_pairs(const float* a, int a_step, const float* b, int b_step, float* y,
                         int64_t n, F f) {
  const auto at = [n](const float* p, int step, int64_t i) {
    if (step == 0) return all(*p);
    return load_up_to(p + i, n - i, zero());
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    store(y + i, canonical(f(at(a, a_step, i), at(b, b_step, i))));
  if (i < n) store_first(y + i, n - i, canonical(f(at(a, a_step, i), at(b, b_step, i))));
}

VB_INLINE F32 gelu(F32 x) {
  return all(0.5f) * x * (all(1) + erf(x * all(static_cast<float>(0x1.6a09e667f3bcdp-1))));
}
VB_INLINE F32 gelu_tanh(F32 x) {
  const F32 inner = x + all(static_cast<float>(0x1.6e4e26d4801f7p-5)) * (x * x * x);
  return all(0.5f) * x * (all(1) + tanh(all(static_cast<float>(0x1.9884533d43651p-1)) * inner));
}

}  // namespace

void map_unary(UnaryKernel f, float parameter, const float* x, float* y, int64_t n) {
  switch (f) {
    case UnaryKernel::exp:
      return map_each(x, y, n, [](F32 v) { return exp(v); });
    case UnaryKernel::exp2:
      return map_each(x, y, n, [](F32 v) { return exp2(v); });
    case UnaryKernel::erf:
      return map_each(x, y, n, [](F32 v) { return erf(v); });
    case UnaryKernel::tanh:
      return map_each(x, y, n, [](F32 v) { return tanh(v); });
    case UnaryKernel::sigmoid:
      return map_each(x, y, n, [](F32 v) { return sigmoid(v); });
    case UnaryKernel::swish:
      return map_each(x, y, n, [&](F32 v) { return v * sigmoid(all(parameter) * v); });
    case UnaryKernel::gelu:
      return map_each(x, y, n, [](F32 v) { return gelu(v); });
    case UnaryKernel::gelu_tanh:
      return map_each(x, y, n, [](F32 v) { return gelu_tanh(v); });
  }
}

void map_binary(BinaryKernel f, const float* a, int a_step, const float* b, int b_step, float* y,
                int64_t n) {
  switch (f) {
    case BinaryKernel::add:
      return map_pairs(a, a_step, b, b_step, y, n, [](F32 u, F32 v) { return u + v; });
    case BinaryKernel::subtract:
      return map_pairs(a, a_step, b, b_step, y, n, [](F32 u, F32 v) { return u - v; });
    case BinaryKernel::multiply:
      return map_pairs(a, a_step, b, b_step, y, n, [](F32 u, F32 v) { return u * v; });
    case BinaryKernel::divide:
      return map_pairs(a, a_step, b, b_step, y, n, [](F32 u, F32 v) { return u / v; });
  }
}

// Pairs (i, i + half) of one head turn by cos[i], sin[i].
void rotate_halves(const float* x, const float* cosine, const float* sine, float* y, int64_t half) {
  for (int64_t i = 0; i < half; i += kLanes) {
    const int64_t count = half - i;
    const auto at = [&](const float* p) { return load_up_to(p + i, count, zero()); };
    const F32 a = at(x), b = at(x + half), c = at(cosine), s = at(sine);
    store_up_to(y + i, count, canonical(a * c - b * s));
    store_up_to(y + half + i, count, canonical(a * s + b * c));
  }
}

}  // namespace verbatim::VB_TARGET
