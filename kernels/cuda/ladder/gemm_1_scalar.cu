// The idea: a thread computes one result, from its definition.
//
// What bounds it: loads. Two codes come from memory for each multiply-add, one byte at a time, and
// the threads of a warp read 32 rows of B, so that a load fetches 32 sectors for 32 bytes.
#include <verbatim/kernels/cuda/ladder/codes.cuh>

namespace verbatim::cuda::ladder {
namespace {

__global__ void multiply_each(Gemm p) {
  each_element(p.m * p.n, [&](int64_t i) {
    const int64_t row = i / p.n, column = i % p.n;
    int32_t sum = 0;
    for (int64_t k = 0; k < p.k; ++k) sum += p.a[row * p.k + k] * p.b[column * p.k + k];
    p.c[i] = sum;
  });
}

}  // namespace

Status multiply_scalar(Gpu& gpu, const Gemm& p) {
  return launch(gpu, grid_for(p.m * p.n), multiply_each, p);
}

}  // namespace verbatim::cuda::ladder
