// What the normalisations and their gradients share: which dimensions are normalised, and a row's
// statistics in their order (docs/numerics.md, Family A). Each operation that is written is
// rounded.
#pragma once

#include <string>

#include <verbatim/repops/graph.h>
#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/sum.h>

namespace verbatim {

// 1 / sqrt(x): a division of a square root, two roundings.
template <class C>
C rsqrt_of(C x) {
  return C{1} / sqrt_of(x);
}

inline Result<int> vector_axis(const Node& node, const Tensor& x) {
  VB_ASSIGN(const int64_t axis, node.attributes.get<int64_t>("axis", -1));
  if (x.rank() == 0) return bad_input("a scalar has no axis");
  return x.shape().axis(axis);
}

// The normalised dimensions of x flattened: [rows, size].
struct Rows {
  int64_t count, size;
};
inline Rows rows_of(const Tensor& x, int axis) {
  return {x.shape().elements(0, axis), x.shape().elements(axis, x.rank())};
}

inline Status check_affine(const Tensor& t, const Tensor& x, int axis, const char* name) {
  if (!t.defined()) return {};
  // Broadcasts over the normalised dimensions from the right.
  const int64_t size = x.shape().elements(axis, x.rank());
  if (t.dtype() != x.dtype() || (t.elements() != size && t.elements() != 1))
    return bad_input(std::string(name) + " " + t.describe() + " for " + x.describe());
  return {};
}

template <class C>
struct LayerStatistics {
  C mean, inverse;
};

// mean = sum / n; inverse = rsqrt(sumsq(x - mean) / n + epsilon). row(i) gives an element.
template <class C, class Row>
LayerStatistics<C> layer_statistics(int64_t n, float epsilon, Row row) {
  const C count = static_cast<C>(n);
  const C mean = ordered_sum<C>(n, row) / count;
  const C var = ordered_sum_of_squares<C>(n, [&](int64_t i) { return row(i) - mean; }) / count;
  return {mean, rsqrt_of(static_cast<C>(var + static_cast<C>(epsilon)))};
}

// rsqrt(sumsq(x) / n + epsilon).
template <class C, class Row>
C rms_inverse(int64_t n, float epsilon, Row row) {
  const C mean_square = ordered_sum_of_squares<C>(n, row) / static_cast<C>(n);
  return rsqrt_of(static_cast<C>(mean_square + static_cast<C>(epsilon)));
}

}  // namespace verbatim
