// TensorCoreLinear on Hopper: what its types share.
#pragma once

#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/number.h>
#include <verbatim/repops/ops/tensor_core.h>
#include <verbatim/kernels/cuda/group_product.cuh>

namespace verbatim::cuda {

template <class OutType>
struct LinearEpilogue {
  using Out = OutType;
  tensor_core::Epilogue epilogue;
  Out* out;  // [m, n]

  using Row = float;
  struct Column {
    float scale, addend;
  };
  __device__ Row row(int64_t m) const { return epilogue.x_scale(m); }
  __device__ Column column(int64_t n) const { return {epilogue.w_scale(n), epilogue.addend(n)}; }
  __device__ float value(float sum, Row x_scale, const Column& c) const {
    return epilogue.finished(sum, x_scale, c.scale, c.addend);
  }
  __device__ Out finished(float sum, Row x_scale, const Column& c) const {
    return rounded<Out>(value(sum, x_scale, c));
  }
};

// fp8, which warp groups alone multiply as the contract's sm90 does (tensor_core_float8.cu).
bool suits_float8(const Gpu& gpu, const tensor_core::LinearOperands& o);
Status multiply_float8(Gpu& gpu, const tensor_core::LinearOperands& o, DType x, DType w, void* out);

}  // namespace verbatim::cuda
