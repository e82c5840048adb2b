// Interpolation at a point between the elements of an array, along one axis after another.
#pragma once

#include <array>
#include <span>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/strided.h>
#include <verbatim/repops/ops/sum.h>

namespace verbatim {

// What one axis reads: up to four elements and their weights; an index of -1 takes no part.
template <class C>
struct AxisTaps {
  int count = 0;
  std::array<int64_t, 4> index{};
  std::array<C, 4> weight{};
};

// The point's value: along an axis acc = +0; acc = fma(weight, x, acc) over its taps, ascending,
// the last axis first. Between axes values stay in the computing type.
template <class T, class C = Compute<T>>
C interpolate(const T* x, const Strides& strides, std::span<const AxisTaps<C>> axes, int axis = 0) {
  if (axis == static_cast<int>(axes.size())) return load(*x);
  const AxisTaps<C>& taps = axes[axis];
  C acc = 0;
  for (int i = 0; i < taps.count; ++i)
    if (taps.index[i] >= 0)
      acc = fma_of(taps.weight[i],
                   interpolate<T, C>(x + taps.index[i] * strides[axis], strides, axes, axis + 1),
                   acc);
  return acc;
}

// Linear weights 1 - r and r of the elements around position `at`, whose fraction is r. Elements
// outside [0, size), and a NaN position's, take no part.
template <class C>
AxisTaps<C> linear_taps(C at, int64_t size) {
  AxisTaps<C> taps;
  if (!(at > -1 && at < static_cast<C>(size))) return taps;
  const C base = floor_of(at), r = at - base;
  const auto first = static_cast<int64_t>(base);
  taps.count = 2;
  taps.index = {first, first + 1 < size ? first + 1 : -1};
  taps.weight = {C{1} - r, r};
  return taps;
}

}  // namespace verbatim
