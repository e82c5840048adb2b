// What operators over raw memory take, on the host as on a GPU. Shapes were checked and outputs
// allocated by the callers.
//
// A `type` is that of all floating operands and results: float32, bfloat16 or float16. Those of 16
// bits are computed in binary32, exact on load and rounded once on store.
#pragma once

#include <cstdint>

#include <verbatim/core/dtype.h>

namespace verbatim {

// out = (A B) * alpha + c * beta, where a factor of 1 takes no part, and each step is rounded.
struct Product {
  DType type = DType::f32;
  const void* a = nullptr;  // element (m, k) at a[m * a_row + k * a_k]; one of them is 1
  int64_t a_row = 0, a_k = 1;
  const void* b = nullptr;  // as the kernels want it: packed, or at b[k * b_k + n * b_n]
  int64_t b_k = 0, b_n = 0;
  int64_t n = 0, k = 0;
  void* out = nullptr;  // element (m, n) at out[m * out_row + n]
  int64_t out_row = 0;
  float alpha = 1, beta = 1;
  const void* c = nullptr;  // element (m, n) at c[m * c_row + n * c_column], c_column 0 or 1
  int64_t c_row = 0, c_column = 0;
  bool rounded_before_c = false;  // to `type`: as Linear does it, and Gemm does not
};

// LayerNormalization, RMSNormalization and L2Normalize over rows of n elements. gamma and beta may
// be absent (RMSNormalization has gamma); with a step of 0 they are one element for all.
struct RowNorm {
  DType type = DType::f32;
  const void* x = nullptr;
  void* y = nullptr;
  int64_t n = 0;
  float epsilon = 0;
  const void* gamma = nullptr;
  const void* beta = nullptr;
  int gamma_step = 1, beta_step = 1;
  float* means = nullptr;     // LayerNormalization: one for each row
  float* inverses = nullptr;  // 1 / standard deviation
};

// x [outer, n, inner] reduced over n: y [outer, inner]. L1 is a sum of magnitudes, L2 the root of a
// sum of squares. A mean of nothing is NaN.
enum class ReduceKernel { sum, mean, l1, sum_of_squares, l2, maximum, minimum };
struct Reduction {
  DType type = DType::f32;
  ReduceKernel kind = ReduceKernel::sum;
  const void* x = nullptr;
  void* y = nullptr;
  int64_t n = 0, inner = 1;
};

enum class UnaryKernel {
  exp,
  exp2,
  erf,
  tanh,
  sigmoid,
  swish,  // x * sigmoid(parameter * x)
  gelu,
  gelu_tanh,
  relu,
  leaky_relu,  // parameter * x where x < 0
  square_root,
  convert  // between types alone
};
enum class BinaryKernel { add, subtract, multiply, divide };

}  // namespace verbatim
