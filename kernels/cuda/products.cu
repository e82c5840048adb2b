// Ordered products in binary32 (docs/numerics.md, Family A, Matrix product) on the SIMT cores:
// which loop computes what.
#include <verbatim/kernels/cuda/row_product.cuh>

namespace verbatim::cuda {
namespace {

// The longest run of products from `first` on whose matrices of A, and of B, lie a step apart.
struct Run {
  int64_t count, a_step, b_step;  // in matrices
};
Run run_from(std::span<const MatrixPair> pairs, size_t first) {
  constexpr int64_t kMost = 65535;  // blocks in z
  const auto left = static_cast<int64_t>(pairs.size() - first);
  if (left == 1) return {1, 0, 0};
  const auto at = [&](int64_t i) { return pairs[first + static_cast<size_t>(i)]; };
  Run run{2, at(1).first - at(0).first, at(1).second - at(0).second};
  while (run.count < least(left, kMost) &&
         at(run.count).first - at(run.count - 1).first == run.a_step &&
         at(run.count).second - at(run.count - 1).second == run.b_step)
    ++run.count;
  return run;
}

}  // namespace

Status multiply(Gpu& gpu, const Product& product, const MatrixView& b, int64_t m,
                std::span<const MatrixPair> pairs) {
  if (m == 0 || b.n == 0) return {};
  return visit_storage(b.type, [&](auto type) -> Status {
    using T = decltype(type);
    SimtCall<T> call{.p = product, .a = {}, .b = {}, .k = b.k};
    call.p.n = b.n;
    for (size_t i = 0; i < pairs.size();) {
      const Run run = run_from(pairs, i);
      call.a = Lines<T>::of(static_cast<const T*>(product.a) + pairs[i].first * m * b.k, m, b.k,
                            product.a_row, product.a_k, run.a_step * m * b.k);
      call.b = Lines<T>::of(reinterpret_cast<const T*>(b.data) + pairs[i].second * b.k * b.n, b.n,
                            b.k, b.n_stride, b.k_stride, run.b_step * b.k * b.n);
      call.p.out = static_cast<T*>(product.out) + static_cast<int64_t>(i) * m * b.n;
      VB_TRY(m <= kMostFewRows || b.n <= kMostFewRows ? multiply_few(gpu, call, run.count)
                                                      : multiply_in_tiles(gpu, call, run.count));
      i += static_cast<size_t>(run.count);
    }
    return {};
  });
}

}  // namespace verbatim::cuda
