// Det: determinants by Gaussian elimination.
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/sum.h>

namespace verbatim {
namespace {

// The row from k on whose element in column k is greatest in magnitude; ties go to the lower row,
// NaN is above all.
template <class C>
int64_t pivot_row(const C* a, int64_t n, int64_t k) {
  int64_t best = k;
  for (int64_t i = k; i < n; ++i) {
    const C have = absolute_of(a[best * n + k]), candidate = absolute_of(a[i * n + k]);
    if (candidate > have || (is_nan(candidate) && !is_nan(have))) best = i;
  }
  return best;
}

// The n x n matrix at a is destroyed.
template <class C>
C determinant(C* a, int64_t n) {
  C product = 1;
  for (int64_t k = 0; k < n; ++k) {
    const int64_t best = pivot_row(a, n, k);
    const C pivot = a[best * n + k];
    if (pivot == 0) return 0;
    if (best != k) {
      std::swap_ranges(a + k * n, a + (k + 1) * n, a + best * n);
      product = -product;
    }
    product = product * pivot;
    for (int64_t i = k + 1; i < n; ++i) {
      const C factor = -(a[i * n + k] / pivot);
      for (int64_t j = k + 1; j < n; ++j) a[i * n + j] = fma_of(factor, a[k * n + j], a[i * n + j]);
    }
  }
  return product;
}

// Det(x [..., n, n]) -> [...]: column by column the greatest element is the pivot; of each row
// below it, element j becomes fma(-(x / pivot), pivot row's j, element j). The pivots are
// multiplied in their order, from 1, which a swap of rows negates first. A pivot of zero gives +0.
Result<Tensors> det(const Node&, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  const int rank = x.rank();
  if (rank < 2 || x.dim(rank - 1) != x.dim(rank - 2)) return bad_input("Det of " + x.describe());
  const int64_t n = x.dim(rank - 1);
  VB_ASSIGN(const Shape shape, Shape::of(x.shape().dims().first(static_cast<size_t>(rank - 2))));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), shape));
  if (y.elements() == 0) return Tensors{y};
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    std::vector<Compute<T>> matrix(static_cast<size_t>(n * n));
    for (int64_t i = 0; i < y.elements(); ++i) {
      std::ranges::transform(x.data<T>().subspan(static_cast<size_t>(i * n * n), matrix.size()),
                             matrix.begin(), load<T>);
      y.mutable_data<T>()[i] = store<T>(determinant(matrix.data(), n));
    }
    return Tensors{y};
  });
}

uint64_t det_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor>) {
  const Tensor& x = inputs[0];
  return saturating_multiply(static_cast<uint64_t>(x.elements()),
                             static_cast<uint64_t>(x.rank() < 2 ? 1 : x.dim(x.rank() - 1)));
}

constexpr OpDef kOps[] = {
    {"", "Det", 1, 1, 1, det, det_cost},
};

}  // namespace

std::span<const OpDef> determinant_ops() { return kOps; }

}  // namespace verbatim
