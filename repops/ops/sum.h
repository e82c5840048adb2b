// Ordered sums (docs/numerics.md, Family A, Sum): blocks of 1024; in a block, element i goes to
// lane i mod 32, a lane starts from its first element and adds in ascending i; lanes combine
// pairwise; block results are added ascending. An empty sum is +0.
#pragma once

#include <algorithm>
#include <array>

#include <verbatim/repops/semantics.h>

namespace verbatim {

// fma in T: binary32 by our own rule, binary64 by the IEEE operation that every C library has.
VB_HOST_DEVICE inline float fma_of(float a, float b, float c) { return fma32(a, b, c); }
VB_HOST_DEVICE inline double fma_of(double a, double b, double c) { return __builtin_fma(a, b, c); }

// Folds n elements: first(i) starts a lane, step(lane, i) adds element i to it.
template <class T, class First, class Step>
T ordered_fold(int64_t n, First first, Step step) {
  T total = 0;
  for (int64_t begin = 0; begin < n; begin += kSumBlock) {
    const int64_t size = std::min(kSumBlock, n - begin);
    const int lanes = static_cast<int>(std::min<int64_t>(size, kSumLanes));
    std::array<T, kSumLanes> lane;
    for (int j = 0; j < lanes; ++j) lane[j] = first(begin + j);
    for (int64_t i = lanes; i < size; ++i)
      lane[i % kSumLanes] = step(lane[i % kSumLanes], begin + i);
    for (int s = kSumLanes / 2; s > 0; s /= 2)
      for (int j = 0; j < s && j + s < lanes; ++j) lane[j] = lane[j] + lane[j + s];
    total = begin == 0 ? lane[0] : total + lane[0];
  }
  return total;
}

template <class T, class Value>
T ordered_sum(int64_t n, Value value) {
  return ordered_fold<T>(n, value, [&](T lane, int64_t i) { return lane + value(i); });
}

template <class T, class Value>
T ordered_sum_of_squares(int64_t n, Value value) {
  return ordered_fold<T>(
      n, [&](int64_t i) { return value(i) * value(i); },
      [&](T lane, int64_t i) { return fma_of(value(i), value(i), lane); });
}

}  // namespace verbatim
