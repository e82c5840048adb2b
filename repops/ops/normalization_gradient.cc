// Gradients of the normalisations (docs/numerics.md, Training). A row's statistics are computed
// again from x, in the order of the forward operator; each operation that is written is rounded;
// sums are ordered sums.
#include <algorithm>

#include <verbatim/repops/ops/normalization.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/strided.h>

namespace verbatim {
namespace {

// A normalisation's gradient, its operands checked: y = normalised * gamma (+ beta), where
// normalised(x) = (x - mean) * inverse, the mean being +0 in RMSNormalization.
struct Problem {
  Tensor g, x, gamma;
  Rows rows;
  float epsilon = 0;
  Tensor means, inverses;  // of each row, in the computing type
};

Result<Problem> read_problem(const Node& node, std::span<const Tensor> inputs) {
  Problem p{inputs[0], inputs[1], inputs[2], {}, 0, {}, {}};
  VB_ASSIGN(const int axis, vector_axis(node, p.x));
  VB_ASSIGN(p.epsilon, node.attributes.get<float>("epsilon", 1e-5f));
  VB_TRY(check_affine(p.gamma, p.x, axis, "scale"));
  if (p.g.dtype() != p.x.dtype() || !(p.g.shape() == p.x.shape()))
    return bad_input("gradient " + p.g.describe() + " for " + p.x.describe());
  p.rows = rows_of(p.x, axis);
  const DType type = p.x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  VB_ASSIGN(p.means, Tensor::allocate(type, Shape{p.rows.count}, Purpose::scratch));
  VB_ASSIGN(p.inverses, Tensor::allocate(type, Shape{p.rows.count}, Purpose::scratch));
  return p;
}

// The gradient of x. With h = g * gamma and z the normalised row: c = sum(h * z) / n and, for
// LayerNormalization, a = sum(h) / n; dx = inverse * ((h - a) - z * c), without a: (h - z * c).
template <class T, bool kCentred>
void input_gradient(Problem& p, T* dx) {
  using C = Compute<T>;
  const int64_t n = p.rows.size, step = p.gamma.elements() > 1;
  const T *pg = p.g.data<T>().data(), *px = p.x.data<T>().data(), *gamma = p.gamma.data<T>().data();
  C *means = p.means.mutable_data<C>().data(), *inverses = p.inverses.mutable_data<C>().data();
  parallel_for(p.rows.count, 16, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; ++r) {
      const auto x = [&](int64_t i) { return load(px[r * n + i]); };
      LayerStatistics<C> s{0, 0};
      if constexpr (kCentred)
        s = layer_statistics<C>(n, p.epsilon, x);
      else
        s.inverse = rms_inverse<C>(n, p.epsilon, x);
      means[r] = s.mean;
      inverses[r] = s.inverse;
      const auto h = [&](int64_t i) { return load(pg[r * n + i]) * load(gamma[i * step]); };
      const auto z = [&](int64_t i) { return (x(i) - s.mean) * s.inverse; };
      const C count = static_cast<C>(n);
      const C a = kCentred ? ordered_sum<C>(n, h) / count : C{0};
      const C c = ordered_sum<C>(n, [&](int64_t i) { return h(i) * z(i); }) / count;
      for (int64_t i = 0; i < n; ++i)
        dx[r * n + i] = store<T>(s.inverse * ((kCentred ? h(i) - a : h(i)) - z(i) * c));
    }
  });
}

// The gradient of gamma: the ordered sum of g * z over the rows, or where gamma is a single number,
// over all elements in row-major order.
template <class T>
void scale_gradient(const Problem& p, T* dgamma, int64_t count) {
  using C = Compute<T>;
  const int64_t n = p.rows.size, terms = count == n ? p.rows.count : p.rows.count * n,
                step = count == n ? n : 1;
  const T *pg = p.g.data<T>().data(), *px = p.x.data<T>().data();
  const C *means = p.means.data<C>().data(), *inverses = p.inverses.data<C>().data();
  parallel_for(count, 16, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i)
      dgamma[i] = store<T>(ordered_sum<C>(terms, [&](int64_t k) {
        const int64_t at = i + k * step, r = at / n;
        return load(pg[at]) * ((load(px[at]) - means[r]) * inverses[r]);
      }));
  });
}

// LayerNormalizationGrad, RMSNormalizationGrad(g, x, gamma; axis, epsilon) -> d x, d gamma.
template <bool kCentred>
Result<Tensors> normalization_gradient(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(Problem p, read_problem(node, inputs));
  VB_ASSIGN(Tensor dx, Tensor::allocate(p.x.dtype(), p.x.shape()));
  VB_ASSIGN(Tensor dgamma, Tensor::allocate(p.x.dtype(), p.gamma.shape()));
  return visit_float<Tensors>(p.x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    input_gradient<T, kCentred>(p, dx.mutable_data<T>().data());
    scale_gradient<T>(p, dgamma.mutable_data<T>().data(), dgamma.elements());
    return Tensors{dx, dgamma};
  });
}

// L2NormalizeGrad(g, x; epsilon): with norm = sqrt(sumsq(x)), m = maximum(norm, epsilon), y = x /
// m: where norm > epsilon, (g - y * sum(g * y)) / m, else g / m.
Result<Tensors> l2_normalize_gradient(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &g = inputs[0], &x = inputs[1];
  if (x.rank() == 0) return bad_input("a scalar has no axis");
  if (g.dtype() != x.dtype() || !(g.shape() == x.shape()))
    return bad_input("gradient " + g.describe() + " for " + x.describe());
  VB_ASSIGN(const float epsilon, node.attributes.get<float>("epsilon", 1e-12f));
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), x.shape()));
  const Rows rows = rows_of(x, x.rank() - 1);
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    const int64_t n = rows.size;
    parallel_for(rows.count, 16, [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r) {
        const T *px = x.data<T>().data() + r * n, *pg = g.data<T>().data() + r * n;
        const C norm =
            sqrt_of(ordered_sum_of_squares<C>(n, [&](int64_t i) { return load(px[i]); }));
        const C m = maximum(norm, static_cast<C>(epsilon));
        const auto y = [&](int64_t i) { return load(px[i]) / m; };
        const C s = ordered_sum<C>(n, [&](int64_t i) { return load(pg[i]) * y(i); });
        T* to_row = out.mutable_data<T>().data() + r * n;
        for (int64_t i = 0; i < n; ++i)
          to_row[i] =
              store<T>((norm > static_cast<C>(epsilon) ? load(pg[i]) - y(i) * s : load(pg[i])) / m);
      }
    });
    return Tensors{out};
  });
}

template <int kPerElement>
uint64_t per_element(const Node&, std::span<const Tensor> inputs, std::span<const Tensor>) {
  return saturating_multiply(static_cast<uint64_t>(inputs[1].elements()), kPerElement);
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "LayerNormalizationGrad", 3, 3, 2, normalization_gradient<true>,
     per_element<20>},
    {kVerbatimDomain, "RMSNormalizationGrad", 3, 3, 2, normalization_gradient<false>,
     per_element<16>},
    {kVerbatimDomain, "L2NormalizeGrad", 2, 2, 1, l2_normalize_gradient, per_element<8>},
};

}  // namespace

std::span<const OpDef> normalization_gradient_ops() { return kOps; }

}  // namespace verbatim
