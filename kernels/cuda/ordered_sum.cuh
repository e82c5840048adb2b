// Ordered sums by a block of threads (docs/numerics.md, Family A, Sum): the 32 lanes of a block of
// 1024 elements are those of a warp, and warps take blocks of elements in turn. A lane starts at
// -0, to which adding its first element gives that element, and which changes nothing where lanes
// combine.
#pragma once

#include <verbatim/kernels/cuda/gpu.h>
#include <verbatim/repops/semantics.h>

namespace verbatim::cuda {

inline constexpr int kRowWarps = 8;  // most of a block that sums a row

// The sum of the lanes of a warp, in lane 0.
__device__ inline float combine_lanes(float lane) {
  for (int s = kSumLanes / 2; s > 0; s /= 2) lane = lane + __shfl_down_sync(~0u, lane, s);
  return lane;
}

// step(lane, v): the lane after an element of its own, whose value(i) is v. Of so many elements the
// values are asked for at once, so that a lane does not wait for each. All threads of the block
// call this, and get the sum.
template <int kAtOnce = 8, class Value, class Step>
__device__ float ordered_fold(int64_t n, Value value, Step step) {
  __shared__ float sums[kRowWarps];
  const unsigned warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  float total = 0;
  for (int64_t first = 0; first < n; first += kSumBlock * warps) {
    const int64_t begin = first + kSumBlock * warp, end = least(begin + kSumBlock, n);
    float lane = -0.0f;
    int64_t i = begin + threadIdx.x % kWarp;
    for (; i + (kAtOnce - 1) * kSumLanes < end; i += kAtOnce * kSumLanes) {
      float v[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) v[k] = value(i + k * kSumLanes);
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) lane = step(lane, v[k]);
    }
    for (; i < end; i += kSumLanes) lane = step(lane, value(i));
    lane = combine_lanes(lane);
    if (threadIdx.x % kWarp == 0) sums[warp] = lane;
    __syncthreads();
    for (unsigned w = 0; w < warps && first + kSumBlock * w < n; ++w)
      total = first == 0 && w == 0 ? sums[0] : total + sums[w];
    __syncthreads();
  }
  return total;
}

template <int kAtOnce = 8, class Value>
__device__ float ordered_sum(int64_t n, Value value) {
  return ordered_fold<kAtOnce>(n, value, [](float lane, float v) { return lane + v; });
}

template <class Value>
__device__ float ordered_sum_of_squares(int64_t n, Value value) {
  return ordered_fold(n, value, [](float lane, float v) { return fma32(v, v, lane); });
}

// Of all threads of the block, where the order does not matter.
template <class T, class Combine>
__device__ T block_fold(T value, Combine combine) {
  __shared__ T values[kRowWarps];
  for (int s = kWarp / 2; s > 0; s /= 2) value = combine(value, __shfl_xor_sync(~0u, value, s));
  if (threadIdx.x % kWarp == 0) values[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = values[0];
  for (unsigned w = 1; w < blockDim.x / kWarp; ++w) value = combine(value, values[w]);
  __syncthreads();
  return value;
}

// The bits of the greatest magnitude of a row; those of infinities and NaNs are above all others'.
__device__ inline uint32_t greatest_magnitude(const float* row, int64_t n) {
  const auto greater = [](uint32_t a, uint32_t b) { return a > b ? a : b; };
  uint32_t greatest = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
    greatest = greater(greatest, bits_of(row[i]) & 0x7FFFFFFF);
  return block_fold(greatest, greater);
}

// A block of threads for each row of n elements: more than a sum has blocks, for what is done with
// each element.
inline Grid grid_of_rows(int64_t rows, int64_t n) {
  const int64_t warps = n == 0 ? 1 : least(ceiling(n, kSumBlock / 4), kRowWarps);
  return {.blocks = {static_cast<unsigned>(least(rows, kMostBlocks)), 1, 1},
          .threads = {static_cast<unsigned>(warps) * kWarp, 1, 1}};
}

}  // namespace verbatim::cuda
