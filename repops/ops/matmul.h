// Ordered matrix products (docs/numerics.md, Family A, Matrix product).
//
// K is cut into blocks of 512. In a block acc = +0, then acc = fma(a[k], b[k], acc) with k
// ascending. Block results are added in ascending order, starting from the first. K = 0 gives +0.
// The same for every M, so a row never depends on its neighbours. Operands are in K-major order:
// row m of A and row n of B are contiguous over k.
#pragma once

#include <algorithm>

#include <verbatim/repops/ops/number.h>
#include <verbatim/repops/ops/sum.h>

namespace verbatim {

// left() and right() give the next value of each operand, k ascending.
template <class C, class Left, class Right>
C ordered_product(int64_t k_size, Left left, Right right) {
  C total = 0;
  for (int64_t begin = 0; begin < k_size; begin += kProductBlock) {
    const int64_t end = std::min(begin + kProductBlock, k_size);
    C acc = 0;
    for (int64_t k = begin; k < end; ++k) {
      const C a = left(), b = right();
      if constexpr (std::is_integral_v<C>)
        acc = wrapping_multiply_add(a, b, acc);
      else
        acc = fma_of(a, b, acc);
    }
    if constexpr (std::is_integral_v<C>)
      total = wrapping_multiply_add(acc, C{1}, total);
    else
      total = begin == 0 ? acc : total + acc;
  }
  return total;
}

template <class T>
Compute<T> ordered_dot(const T* a, const T* b, int64_t k_size) {
  return ordered_product<Compute<T>>(
      k_size, [&] { return load(*a++); }, [&] { return load(*b++); });
}

}  // namespace verbatim
