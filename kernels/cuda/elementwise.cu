// One thread for each element.
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/unary_f32.h>

namespace verbatim::cuda {
namespace {

template <UnaryKernel f>
VB_HOST_DEVICE float unary_of(float x, [[maybe_unused]] float parameter) {
  using enum UnaryKernel;
  namespace f32 = unary::f32;
  if constexpr (f == exp) return f32::exp(x);
  if constexpr (f == exp2) return f32::exp2(x);
  if constexpr (f == erf) return f32::erf(x);
  if constexpr (f == tanh) return f32::tanh(x);
  if constexpr (f == sigmoid) return f32::sigmoid(x);
  if constexpr (f == swish) return x * f32::sigmoid(parameter * x);
  if constexpr (f == gelu)
    return (0.5f * x) * (1.0f + f32::erf(x * static_cast<float>(0x1.6a09e667f3bcdp-1)));
  if constexpr (f == gelu_tanh) {
    const float inner = x + static_cast<float>(0x1.6e4e26d4801f7p-5) * ((x * x) * x);
    return (0.5f * x) * (1.0f + f32::tanh(static_cast<float>(0x1.9884533d43651p-1) * inner));
  }
  if constexpr (f == relu) return maximum(x, 0.0f);
  if constexpr (f == leaky_relu) return x < 0 ? parameter * x : x;
  if constexpr (f == square_root) return sqrt_of(x);
  if constexpr (f == convert) return x;
}

// put(i, get(i)) for each i below n, by all threads of a launch for ceiling(n, kAtOnce) items: a
// thread gets some, and then puts them, so that it waits once.
inline constexpr int kAtOnce = 4;
template <class Get, class Put>
__device__ void each_got(int64_t n, Get&& get, Put&& put) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x * kAtOnce;
  for (int64_t first = int64_t{blockIdx.x} * blockDim.x * kAtOnce + threadIdx.x; first < n;
       first += step) {
    decltype(get(first)) got[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      if (first + k * int64_t{blockDim.x} < n) got[k] = get(first + k * int64_t{blockDim.x});
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      if (first + k * int64_t{blockDim.x} < n) put(first + k * int64_t{blockDim.x}, got[k]);
  }
}

template <UnaryKernel f, class X, class Y>
__global__ void __launch_bounds__(256) map(const X* x, Y* y, int64_t n, float parameter) {
  each_got(
      n, [&](int64_t i) { return x[i]; },
      [&](int64_t i, X v) { y[i] = store<Y>(unary_of<f>(load(v), parameter)); });
}

// How far an operand's element is from its first, of each run.
struct Outer {
  int rank = 0;
  int64_t size[kMaxRank], a[kMaxRank], b[kMaxRank];  // innermost first
};

template <BinaryKernel f>
VB_HOST_DEVICE float binary_of(float a, float b) {
  if constexpr (f == BinaryKernel::add) return a + b;
  if constexpr (f == BinaryKernel::subtract) return a - b;
  if constexpr (f == BinaryKernel::multiply) return a * b;
  if constexpr (f == BinaryKernel::divide) return a / b;
}

template <class T>
struct Two {
  T a, b;
};

template <BinaryKernel f, class T>
__global__ void __launch_bounds__(256)
    combine(const T* a, const T* b, T* y, int64_t n, int64_t length, int a_step, int b_step,
            Outer outer) {
  const auto get = [&](int64_t i) -> Two<T> {
    int64_t run = outer.rank == 0 ? 0 : i / length;
    const int64_t within = i - run * length;
    int64_t at_a = within * a_step, at_b = within * b_step;
    for (int d = 0; d < outer.rank; ++d) {
      const int64_t next = run / outer.size[d], index = run - next * outer.size[d];
      at_a += index * outer.a[d];
      at_b += index * outer.b[d];
      run = next;
    }
    return {a[at_a], b[at_b]};
  };
  each_got(n, get, [&](int64_t i, const Two<T>& v) {
    y[i] = store<T>(binary_of<f>(load(v.a), load(v.b)));
  });
}

__device__ float greater_of(float a, float b) { return maximum(a, b); }
__device__ float lesser_of(float a, float b) { return minimum(a, b); }
__device__ float sum_of(float a, float b) { return a + b; }

// Of one element of each operand, which are broadcast by their strides.
template <auto kCombine>
__global__ void __launch_bounds__(256)
    combine_two(const float* a, const float* b, float* y, int64_t n, Outer dims) {
  each_element(n, [&](int64_t i) {
    int64_t rest = i, at_a = 0, at_b = 0;
    for (int d = 0; d < dims.rank; ++d) {
      const int64_t next = rest / dims.size[d], index = rest - next * dims.size[d];
      at_a += index * dims.a[d];
      at_b += index * dims.b[d];
      rest = next;
    }
    y[i] = canonical(kCombine(a[at_a], b[at_b]));
  });
}

template <class T>
__global__ void __launch_bounds__(256)
    turn(const T* x, T* y, const float* cosine, const float* sine, int64_t n, int64_t heads,
         int64_t size, int64_t half, int64_t table_rows) {
  const int64_t grid = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += grid) {
    const int64_t vector = i / size, j = i - vector * size;
    if (j >= 2 * half) {
      y[i] = x[i];
      continue;
    }
    const int64_t pair = j < half ? j : j - half, table = vector / heads % table_rows * half + pair;
    const float a = load(x[vector * size + pair]), b = load(x[vector * size + pair + half]),
                c = cosine[table], s = sine[table];
    y[i] = store<T>(j < half ? a * c - b * s : a * s + b * c);
  }
}

template <class X, class Y>
using MapKernel = void (*)(const X*, Y*, int64_t, float);

template <class T>
MapKernel<T, T> map_kernel(UnaryKernel f) {
  switch (f) {
#define VB_CASE(name)     \
  case UnaryKernel::name: \
    return map<UnaryKernel::name, T, T>;
    VB_CASE(exp)
    VB_CASE(exp2)
    VB_CASE(erf)
    VB_CASE(tanh)
    VB_CASE(sigmoid)
    VB_CASE(swish)
    VB_CASE(gelu)
    VB_CASE(gelu_tanh)
    VB_CASE(relu)
    VB_CASE(leaky_relu)
    VB_CASE(square_root)
    VB_CASE(convert)
#undef VB_CASE
  }
  return nullptr;
}

template <class T>
auto combine_kernel(BinaryKernel f) {
  switch (f) {
    case BinaryKernel::add:
      return combine<BinaryKernel::add, T>;
    case BinaryKernel::subtract:
      return combine<BinaryKernel::subtract, T>;
    case BinaryKernel::multiply:
      return combine<BinaryKernel::multiply, T>;
    default:
      return combine<BinaryKernel::divide, T>;
  }
}

}  // namespace

Status map_unary(Gpu& gpu, UnaryKernel f, float parameter, DType x_type, const void* x,
                 DType y_type, void* y, int64_t n) {
  if (n == 0) return {};
  return visit_storage(x_type, [&](auto from) {
    using X = decltype(from);
    const auto* px = static_cast<const X*>(x);
    if (x_type == y_type)
      return launch(gpu, grid_for(ceiling(n, kAtOnce)), map_kernel<X>(f), px, static_cast<X*>(y), n,
                    parameter);
    return visit_storage(y_type, [&](auto to) {
      using Y = decltype(to);
      return launch(gpu, grid_for(ceiling(n, kAtOnce)), map<UnaryKernel::convert, X, Y>, px,
                    static_cast<Y*>(y), n, parameter);
    });
  });
}

Status map_binary(Gpu& gpu, const Binary& p) {
  Outer outer;
  for (int d = p.outer.rank() - 1; d >= 0; --d) {
    if (p.outer[d] == 1) continue;
    outer.size[outer.rank] = p.outer[d];
    outer.a[outer.rank] = p.a_strides[d];
    outer.b[outer.rank++] = p.b_strides[d];
  }
  return visit_storage(p.type, [&](auto type) {
    using T = decltype(type);
    return launch(gpu, grid_for(ceiling(p.elements, kAtOnce)), combine_kernel<T>(p.f),
                  static_cast<const T*>(p.a), static_cast<const T*>(p.b), static_cast<T*>(p.out),
                  p.elements, p.length, p.a_step, p.b_step, outer);
  });
}

Outcome run_variadic(Gpu& gpu, const KernelBackend& backend, const Node& node,
                     std::span<const Tensor> inputs) {
  if (inputs.size() < 2 || !all_float32(inputs)) return not_handled();
  auto* kernel = node.op == "Max"   ? combine_two<greater_of>
                 : node.op == "Min" ? combine_two<lesser_of>
                                    : combine_two<sum_of>;
  Tensor y = inputs[0];
  for (size_t i = 1; i < inputs.size(); ++i) {
    const Tensor a = y, &t = inputs[i];
    const Result<Shape> shape = broadcast(a.shape(), t.shape());
    if (!shape.ok()) return not_handled();
    VB_ASSIGN(y, backend.allocate(DType::f32, *shape,
                                  i + 1 < inputs.size() ? Purpose::scratch : Purpose::result));
    const Strides a_strides = broadcast_strides(a.shape(), *shape),
                  b_strides = broadcast_strides(t.shape(), *shape);
    Outer dims;
    for (int d = shape->rank() - 1; d >= 0; --d) {
      dims.size[dims.rank] = (*shape)[d];
      dims.a[dims.rank] = a_strides[static_cast<size_t>(d)];
      dims.b[dims.rank++] = b_strides[static_cast<size_t>(d)];
    }
    const auto floats = [](const Tensor& x) { return reinterpret_cast<const float*>(x.address()); };
    if (y.elements() > 0)
      VB_TRY(launch(gpu, grid_for(y.elements()), kernel, floats(a), floats(t),
                    reinterpret_cast<float*>(y.mutable_address()), y.elements(), dims));
  }
  return done({y});
}

Status rotate(Gpu& gpu, const Rotation& p) {
  const int64_t n = p.positions * p.heads * p.size;
  if (n == 0) return {};
  return visit_storage(p.type, [&](auto type) {
    using T = decltype(type);
    return launch(gpu, grid_for(n), turn<T>, static_cast<const T*>(p.x), static_cast<T*>(p.y),
                  p.cosine, p.sine, n, p.heads, p.size, p.half, p.table_rows);
  });
}

}  // namespace verbatim::cuda
