// How code that the host and the GPU share is written: functions are VB_HOST_DEVICE (constexpr ones
// need no mark: nvcc gets --expt-relaxed-constexpr), tables VB_CONSTANT.
#pragma once

#include <bit>
#include <cstdint>

#if defined(__CUDACC__)
#define VB_HOST_DEVICE __host__ __device__
#define VB_CONSTANT __device__ constexpr
#else
#define VB_HOST_DEVICE
#define VB_CONSTANT inline constexpr
#endif

namespace verbatim {

// The index of the highest bit that is set, of x > 0. nvcc 13 compiles std::countl_zero for the GPU
// without a word, and to a wrong value.
VB_HOST_DEVICE inline int top_bit(uint64_t x) {
#if defined(__CUDA_ARCH__)
  return 63 - __clzll(static_cast<long long>(x));
#else
  return 63 - std::countl_zero(x);
#endif
}

}  // namespace verbatim
