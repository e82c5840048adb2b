// What finishes a product of int8 codes (docs/numerics.md, Family B): its sum, exact, and the
// scales of its row and column.
#pragma once

#include <verbatim/kernels/cuda/gpu.h>
#include <verbatim/repops/semantics.h>

namespace verbatim::cuda {

struct CodesEpilogue {
  using Out = float;
  const float *x_scales, *w_scales, *bias;  // [m], [n], [n] or null
  float* out;                               // [m, n]

  using Row = float;
  struct Column {
    float scale, bias;
  };
  __device__ Row row(int64_t m) const { return x_scales[m]; }
  __device__ Column column(int64_t n) const {
    return {w_scales[n], bias == nullptr ? -0.0f : bias[n]};  // which changes no number
  }
  template <class Sum>  // an integer, rounded once
  __device__ float finished(Sum sum, Row x_scale, const Column& c) const {
    return canonical(static_cast<float>(sum) * (x_scale * c.scale) + c.bias);
  }
};

}  // namespace verbatim::cuda
