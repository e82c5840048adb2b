// Ordered sums of a row (docs/numerics.md, Family A, Sum). The 32 lanes of a sum lie in registers
// one after the other. A lane starts at -0, to which adding its first element gives that element; a
// lane without elements stays -0 and changes nothing where lanes combine.
#pragma once

#include <verbatim/kernels/cpu/simd.h>
#include <verbatim/repops/semantics.h>

namespace verbatim::VB_TARGET {

inline constexpr int kSumRegisters = kSumLanes / kLanes;

// lane[j] += lane[j + s] for s = 16, 8, 4, 2, 1; the result is lane[0].
VB_INLINE float combine_lanes(F32 (&lane)[kSumRegisters]) {
  VB_UNROLL
  for (int s = kSumRegisters / 2; s > 0; s /= 2) {
    VB_UNROLL
    for (int j = 0; j < s; ++j) lane[j] = lane[j] + lane[j + s];
  }
  return folded_lanes(lane[0]);
}

// step(lane, i, count): the lanes after elements i .. i + count - 1, which are theirs in order.
template <class Step>
VB_INLINE float ordered_fold(int64_t n, Step step) {
  float total = 0;
  for (int64_t begin = 0; begin < n; begin += kSumBlock) {
    const int64_t end = least(begin + kSumBlock, n);
    F32 lane[kSumRegisters];
    for (F32& l : lane) l = negative_zero();
    int64_t i = begin;
    for (; i + kSumLanes <= end; i += kSumLanes) {
      VB_UNROLL
      for (int r = 0; r < kSumRegisters; ++r) lane[r] = step(lane[r], i + r * kLanes, kLanes);
    }
    VB_UNROLL
    for (int r = 0; r < kSumRegisters; ++r) {
      const int64_t count = end - (i + r * kLanes);
      if (count > 0) lane[r] = step(lane[r], i + r * kLanes, count);
    }
    const float block = combine_lanes(lane);
    total = begin == 0 ? block : total + block;
  }
  return total;
}

template <class T>
VB_INLINE float ordered_sum(const T* x, int64_t n) {
  return ordered_fold(n, [x](F32 lane, int64_t i, int64_t count) {
    return lane + load_up_to(x + i, count, negative_zero());
  });
}

// The sum of the squares of value(i, count), whose lanes from count on are 0.
template <class Value>
VB_INLINE float ordered_sum_of_squares(int64_t n, Value value) {
  return ordered_fold(n, [&](F32 lane, int64_t i, int64_t count) {
    const F32 v = value(i, count);
    return fma(v, v, lane);
  });
}

}  // namespace verbatim::VB_TARGET
