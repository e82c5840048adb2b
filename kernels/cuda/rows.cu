// Softmax, normalisations and reductions of rows (docs/numerics.md, Family A).
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/unary_f32.h>
#include <verbatim/kernels/cuda/ordered_sum.cuh>

namespace verbatim::cuda {
namespace {

// The greatest element need not be exact in the sign of zero, nor tell NaNs: see
// ../cpu/target/rows.cc. Exponentials are kept where y can hold them, and computed again where not.
template <class T>
__global__ void __launch_bounds__(kRowWarps* kWarp)
    softmax_rows(const T* x, T* y, int64_t rows, int64_t n) {
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* in = x + r * n;
    T* out = y + r * n;
    const auto greater = [](float a, float b) { return b > a ? b : a; };
    float m = load(in[0]);
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) m = greater(m, load(in[i]));
    m = block_fold(m, greater);
    const auto weight = [&](int64_t i) { return unary::f32::exp(load(in[i]) - m); };
    constexpr bool kKeeps = std::is_same_v<T, float>;
    const float sum = ordered_sum<1>(n, [&](int64_t i) {
      const float e = weight(i);
      if constexpr (kKeeps) out[i] = e;
      return e;
    });
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      if constexpr (kKeeps)
        out[i] = store<T>(out[i] / sum);
      else
        out[i] = store<T>(weight(i) / sum);
    }
    __syncthreads();
  }
}

// (x - m) - log(sum of exp(x - m)), m the contract's maximum, whose sign of zero may be seen.
__global__ void __launch_bounds__(kRowWarps* kWarp)
    log_softmax_rows(const float* x, float* y, int64_t rows, int64_t n) {
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const float* in = x + r * n;
    const auto greater = [](float a, float b) { return maximum(a, b); };
    float m = in[0];
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) m = greater(m, in[i]);
    m = block_fold(m, greater);
    const float log_sum =
        unary::f32::log(ordered_sum<1>(n, [&](int64_t i) { return unary::f32::exp(in[i] - m); }));
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
      y[r * n + i] = canonical((in[i] - m) - log_sum);
  }
}

VB_HOST_DEVICE float rsqrt_of(float x) { return 1.0f / sqrt_of(x); }

template <class T>
__global__ void __launch_bounds__(kRowWarps* kWarp) layer_norm_rows(RowNorm p, int64_t rows) {
  const auto n = static_cast<float>(p.n);
  const T *gamma = static_cast<const T*>(p.gamma), *beta = static_cast<const T*>(p.beta);
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* x = static_cast<const T*>(p.x) + r * p.n;
    T* y = static_cast<T*>(p.y) + r * p.n;
    const float mean = ordered_sum(p.n, [&](int64_t i) { return load(x[i]); }) / n;
    const float squares = ordered_sum_of_squares(p.n, [&](int64_t i) { return load(x[i]) - mean; });
    const float inverse = rsqrt_of(squares / n + p.epsilon);
    for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x) {
      float v = (load(x[i]) - mean) * inverse;
      if (gamma != nullptr) v = v * load(gamma[i * p.gamma_step]);
      if (beta != nullptr) v = v + load(beta[i * p.beta_step]);
      y[i] = store<T>(v);
    }
    if (threadIdx.x == 0) {
      p.means[r] = canonical(mean);
      p.inverses[r] = canonical(inverse);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kRowWarps* kWarp) rms_norm_rows(RowNorm p, int64_t rows) {
  const T* gamma = static_cast<const T*>(p.gamma);
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* x = static_cast<const T*>(p.x) + r * p.n;
    T* y = static_cast<T*>(p.y) + r * p.n;
    const float squares = ordered_sum_of_squares(p.n, [&](int64_t i) { return load(x[i]); });
    const float inverse = rsqrt_of(squares / static_cast<float>(p.n) + p.epsilon);
    for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x)
      y[i] = store<T>(load(x[i]) * inverse * load(gamma[i * p.gamma_step]));
  }
}

template <class T>
__global__ void __launch_bounds__(kRowWarps* kWarp) l2_normalize_rows(RowNorm p, int64_t rows) {
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* x = static_cast<const T*>(p.x) + r * p.n;
    T* y = static_cast<T*>(p.y) + r * p.n;
    const float squares = ordered_sum_of_squares(p.n, [&](int64_t i) { return load(x[i]); });
    const float norm = maximum(sqrt_of(squares), p.epsilon);
    for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x) y[i] = store<T>(load(x[i]) / norm);
  }
}

// How each kind takes an element in, and what follows.
template <ReduceKernel kind>
VB_HOST_DEVICE float reduce_step(float lane, float x) {
  if constexpr (kind == ReduceKernel::l1) return lane + absolute_of(x);
  if constexpr (kind == ReduceKernel::sum_of_squares || kind == ReduceKernel::l2)
    return fma32(x, x, lane);
  if constexpr (kind == ReduceKernel::maximum) return maximum(lane, x);
  if constexpr (kind == ReduceKernel::minimum) return minimum(lane, x);
  return lane + x;
}
template <ReduceKernel kind>
VB_HOST_DEVICE float reduce_end(float sum, int64_t n) {
  if constexpr (kind == ReduceKernel::mean) return sum / static_cast<float>(n);
  if constexpr (kind == ReduceKernel::l2) return sqrt_of(sum);
  return sum;
}
template <ReduceKernel kind>
inline constexpr bool kExtreme = kind == ReduceKernel::maximum || kind == ReduceKernel::minimum;

template <ReduceKernel kind, class T>
__global__ void __launch_bounds__(kRowWarps* kWarp)
    reduce_rows(const T* x, T* y, int64_t rows, int64_t n) {
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* row = x + r * n;
    float result = 0;
    if constexpr (kExtreme<kind>) {
      result = load(row[0]);
      for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        result = reduce_step<kind>(result, load(row[i]));
      result = block_fold(result, [](float a, float b) { return reduce_step<kind>(a, b); });
    } else {
      result = ordered_fold(
          n, [&](int64_t i) { return load(row[i]); },
          [](float lane, float v) { return reduce_step<kind>(lane, v); });
    }
    if (threadIdx.x == 0) y[r] = store<T>(reduce_end<kind>(result, n));
  }
}

// x [outer, n, inner]: a thread for each result, whose lanes are its registers.
template <ReduceKernel kind, class T>
__global__ void __launch_bounds__(128)
    reduce_columns(const T* x, T* y, int64_t results, int64_t n, int64_t inner) {
  const int64_t grid = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < results; i += grid) {
    const T* at = x + i / inner * n * inner + i % inner;
    float total = 0;
    if constexpr (kExtreme<kind>) {
      total = load(*at);
      for (int64_t k = 1; k < n; ++k) total = reduce_step<kind>(total, load(at[k * inner]));
    } else {
      for (int64_t begin = 0; begin < n; begin += kSumBlock) {
        const int64_t end = least(begin + kSumBlock, n);
        float lane[kSumLanes];
#pragma unroll
        for (int j = 0; j < kSumLanes; ++j) lane[j] = -0.0f;
        for (int64_t k = begin; k < end; k += kSumLanes) {
#pragma unroll
          for (int j = 0; j < kSumLanes; ++j)
            if (k + j < end) lane[j] = reduce_step<kind>(lane[j], load(at[(k + j) * inner]));
        }
#pragma unroll
        for (int step = 4; step >= 0; --step) {
#pragma unroll
          for (int j = 0; j < 1 << step; ++j) lane[j] = lane[j] + lane[j + (1 << step)];
        }
        total = begin == 0 ? lane[0] : total + lane[0];
      }
    }
    y[i] = store<T>(reduce_end<kind>(total, n));
  }
}

template <ReduceKernel kind, class T>
Status reduce_as(Gpu& gpu, const Reduction& p, int64_t results) {
  const auto* x = static_cast<const T*>(p.x);
  auto* y = static_cast<T*>(p.y);
  if (p.inner == 1)
    return launch(gpu, grid_of_rows(results, p.n), reduce_rows<kind, T>, x, y, results, p.n);
  return launch(gpu, grid_for(results, 128), reduce_columns<kind, T>, x, y, results, p.n, p.inner);
}

// Launches kernel(p, rows) of p's type.
template <class F>
Status launch_norm(Gpu& gpu, const RowNorm& p, int64_t rows, F&& kernel_of) {
  if (rows == 0) return {};
  return visit_storage(p.type, [&](auto type) {
    return launch(gpu, grid_of_rows(rows, p.n), kernel_of(type), p, rows);
  });
}

}  // namespace

Status softmax(Gpu& gpu, DType type, const void* x, void* y, int64_t rows, int64_t n) {
  if (rows == 0 || n == 0) return {};
  return visit_storage(type, [&](auto element) {
    using T = decltype(element);
    return launch(gpu, grid_of_rows(rows, n), softmax_rows<T>, static_cast<const T*>(x),
                  static_cast<T*>(y), rows, n);
  });
}

Outcome run_log_softmax(Gpu& gpu, const KernelBackend& backend, const Node& node,
                        std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  const Result<int64_t> axis = node.attributes.get<int64_t>("axis", -1);
  if (!all_float32(inputs) || x.rank() == 0 || !axis.ok() || (*axis != -1 && *axis != x.rank() - 1))
    return not_handled();
  VB_ASSIGN(Tensor y, backend.allocate(DType::f32, x.shape()));
  if (y.elements() == 0) return done({y});
  const int64_t n = x.dim(x.rank() - 1), rows = x.elements() / n;
  VB_TRY(launch(gpu, grid_of_rows(rows, n), log_softmax_rows,
                reinterpret_cast<const float*>(x.address()),
                reinterpret_cast<float*>(y.mutable_address()), rows, n));
  return done({y});
}

Status layer_norm(Gpu& gpu, const RowNorm& p, int64_t rows) {
  return launch_norm(gpu, p, rows, [](auto type) { return layer_norm_rows<decltype(type)>; });
}
Status rms_norm(Gpu& gpu, const RowNorm& p, int64_t rows) {
  return launch_norm(gpu, p, rows, [](auto type) { return rms_norm_rows<decltype(type)>; });
}
Status l2_normalize(Gpu& gpu, const RowNorm& p, int64_t rows) {
  return launch_norm(gpu, p, rows, [](auto type) { return l2_normalize_rows<decltype(type)>; });
}

Status reduce(Gpu& gpu, const Reduction& p, int64_t results) {
  if (results == 0) return {};
  return visit_storage(p.type, [&](auto type) -> Status {
    using T = decltype(type);
    switch (p.kind) {
#define VB_CASE(name)      \
  case ReduceKernel::name: \
    return reduce_as<ReduceKernel::name, T>(gpu, p, results);
      VB_CASE(sum)
      VB_CASE(mean)
      VB_CASE(l1)
      VB_CASE(sum_of_squares)
      VB_CASE(l2)
      VB_CASE(maximum)
      VB_CASE(minimum)
#undef VB_CASE
    }
    return internal_error("no such reduction");
  });
}

}  // namespace verbatim::cuda
