// Elementwise arithmetic and activations, written out operation by operation as
// repops/ops/activation.cc gives them.
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/unary.h>

namespace verbatim::VB_TARGET {
namespace {

// Elements of any type. Functions of one variable take longer than to tell types apart, so they are
// compiled once; a register of elements at a time.
VB_INLINE F32 load_any(DType type, const void* p, int64_t i, int64_t count) {
  switch (type) {
    case DType::bf16:
      return load_up_to(static_cast<const BFloat16*>(p) + i, count, zero());
    case DType::f16:
      return load_up_to(static_cast<const Half*>(p) + i, count, zero());
    default:
      return load_up_to(static_cast<const float*>(p) + i, count, zero());
  }
}
VB_INLINE void store_any(DType type, void* p, int64_t i, int64_t count, F32 a) {
  switch (type) {
    case DType::bf16:
      return store_up_to(static_cast<BFloat16*>(p) + i, count, a);
    case DType::f16:
      return store_up_to(static_cast<Half*>(p) + i, count, a);
    default:
      return store_up_to(static_cast<float*>(p) + i, count, a);
  }
}

// A step of 0 repeats the operand's only element.
template <class T, class F>
VB_INLINE void map_pairs(const void* a, int a_step, const void* b, int b_step, void* y, int64_t n,
                         F f) {
  const T *pa = static_cast<const T*>(a), *pb = static_cast<const T*>(b);
  T* out = static_cast<T*>(y);
  const F32 first_a = n > 0 ? all(*pa) : zero(), first_b = n > 0 ? all(*pb) : zero();
  const auto at = [](const T* p, int step, F32 first_one, int64_t i, int64_t count)
      __attribute__((always_inline)) {
    return step == 0 ? first_one : load_up_to(p + i, count, zero());
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    store(out + i,
          canonical(f(at(pa, a_step, first_a, i, kLanes), at(pb, b_step, first_b, i, kLanes))));
  if (i < n)
    store_up_to(out + i, n - i,
                canonical(f(at(pa, a_step, first_a, i, n - i), at(pb, b_step, first_b, i, n - i))));
}

VB_INLINE F32 gelu(F32 x) {
  return all(0.5f) * x * (all(1) + erf(x * all(static_cast<float>(0x1.6a09e667f3bcdp-1))));
}
VB_INLINE F32 gelu_tanh(F32 x) {
  const F32 inner = x + all(static_cast<float>(0x1.6e4e26d4801f7p-5)) * (x * x * x);
  return all(0.5f) * x * (all(1) + tanh(all(static_cast<float>(0x1.9884533d43651p-1)) * inner));
}

template <class T>
VB_INLINE void map_binary_of(BinaryKernel f, const void* a, int a_step, const void* b, int b_step,
                             void* y, int64_t n) {
  switch (f) {
    case BinaryKernel::add:
      return map_pairs<T>(a, a_step, b, b_step, y, n, [](F32 u, F32 v) { return u + v; });
    case BinaryKernel::subtract:
      return map_pairs<T>(a, a_step, b, b_step, y, n, [](F32 u, F32 v) { return u - v; });
    case BinaryKernel::multiply:
      return map_pairs<T>(a, a_step, b, b_step, y, n, [](F32 u, F32 v) { return u * v; });
    case BinaryKernel::divide:
      return map_pairs<T>(a, a_step, b, b_step, y, n, [](F32 u, F32 v) { return u / v; });
  }
}

}  // namespace

void map_unary(UnaryKernel f, float parameter, DType x_type, const void* x, DType y_type, void* y,
               int64_t n) {
  const auto each = [&](auto function) __attribute__((always_inline)) {
    for (int64_t i = 0; i < n; i += kLanes)
      store_any(y_type, y, i, n - i, canonical(function(load_any(x_type, x, i, n - i))));
  };
  switch (f) {
    case UnaryKernel::exp:
      return each([](F32 v) { return exp(v); });
    case UnaryKernel::exp2:
      return each([](F32 v) { return exp2(v); });
    case UnaryKernel::erf:
      return each([](F32 v) { return erf(v); });
    case UnaryKernel::tanh:
      return each([](F32 v) { return tanh(v); });
    case UnaryKernel::sigmoid:
      return each([](F32 v) { return sigmoid(v); });
    case UnaryKernel::swish:
      return each([&](F32 v) { return v * sigmoid(all(parameter) * v); });
    case UnaryKernel::gelu:
      return each([](F32 v) { return gelu(v); });
    case UnaryKernel::gelu_tanh:
      return each([](F32 v) { return gelu_tanh(v); });
    case UnaryKernel::relu:
      return each([](F32 v) { return keep_nan(v, maximum_number(v, zero())); });
    case UnaryKernel::leaky_relu:
      return each([&](F32 v) { return select(below(v, zero()), all(parameter) * v, v); });
    case UnaryKernel::square_root:
      return each([](F32 v) { return sqrt(v); });
    case UnaryKernel::convert:
      return each([](F32 v) { return v; });
  }
}

void map_binary(BinaryKernel f, DType type, const void* a, int a_step, const void* b, int b_step,
                void* y, int64_t n) {
  visit_storage(
      type, [&](auto element) { map_binary_of<decltype(element)>(f, a, a_step, b, b_step, y, n); });
}

void rotate_halves(DType type, const void* x, const float* cosine, const float* sine, void* y,
                   int64_t half) {
  visit_storage(type, [&](auto element) {
    using T = decltype(element);
    const T* in = static_cast<const T*>(x);
    T* out = static_cast<T*>(y);
    for (int64_t i = 0; i < half; i += kLanes) {
      const int64_t count = half - i;
      const auto at = [&](const auto* p) { return load_up_to(p + i, count, zero()); };
      const F32 a = at(in), b = at(in + half), c = at(cosine), s = at(sine);
      store_up_to(out + i, count, canonical(a * c - b * s));
      store_up_to(out + half + i, count, canonical(a * s + b * c));
    }
  });
}

}  // namespace verbatim::VB_TARGET
