// Softmax and the normalisations (docs/numerics.md, Family A). Each operation that is written is
// rounded; sums are ordered sums.
#include <vector>

#include <verbatim/repops/ops/normalization.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/strided.h>
#include <verbatim/repops/unary.h>

namespace verbatim {
namespace {

float exp_of(float x) { return exp_f32(x); }
double exp_of(double x) { return exp_f64(x); }
float log_of(float x) { return log_f32(x); }
double log_of(double x) { return log_f64(x); }

// The same row function over every vector of `x` along `axis`. It gets the vector's length, a
// reader and a writer.
template <class T, class Row>
void for_each_vector(const Tensor& x, Tensor& y, int axis, Row row) {
  if (x.elements() == 0) return;
  const int64_t length = x.dim(axis), inner = x.shape().elements(axis + 1, x.rank()),
                outer = x.shape().elements(0, axis);
  const T* in = x.data<T>().data();
  T* out = y.mutable_data<T>().data();
  const int64_t scratch = length * static_cast<int64_t>(sizeof(Compute<T>));
  parallel_for(
      outer * inner, scratch_grain(outer * inner, 16, scratch), [&](int64_t from, int64_t to) {
        for (int64_t v = from; v < to; ++v) {
          const int64_t base = v / inner * length * inner + v % inner;
          row(
              length, [&](int64_t i) { return load(in[base + i * inner]); },
              [&](int64_t i, Compute<T> value) { out[base + i * inner] = store<T>(value); });
        }
      });
}

// Softmax along axis: m = maximum; e = exp(x - m); y = e / sum(e).
// LogSoftmax: (x - m) - log(sum(e)).
template <bool kLog>
Result<Tensors> softmax(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int axis, vector_axis(node, x));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    for_each_vector<T>(x, y, axis, [](int64_t n, auto in, auto out) {
      if (n == 0) return;
      C m = in(0);
      for (int64_t i = 1; i < n; ++i) m = maximum(m, in(i));
      std::vector<C> e(static_cast<size_t>(n));
      for (int64_t i = 0; i < n; ++i) e[i] = exp_of(static_cast<C>(in(i)-m));
      const C sum = ordered_sum<C>(n, [&](int64_t i) { return e[i]; });
      const C log_sum = kLog ? log_of(sum) : C{0};
      for (int64_t i = 0; i < n; ++i) out(i, kLog ? (in(i)-m) - log_sum : e[i] / sum);
    });
    return Tensors{y};
  });
}

Result<Shape> statistics_shape(const Tensor& x, int axis) {
  std::vector<int64_t> dims(x.shape().dims().begin(), x.shape().dims().end());
  for (int i = axis; i < x.rank(); ++i) dims[i] = 1;
  return Shape::of(dims);
}

// LayerNormalization(x, gamma, beta?) -> y, mean?, 1/stddev?; two passes: mean = sum / n; d = x -
// mean; var = sumsq(d) / n; y = d * rsqrt(var + eps), then * gamma, + beta.
Result<Tensors> layer_normalization(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const int axis, vector_axis(node, x));
  VB_ASSIGN(const float epsilon, node.attributes.get<float>("epsilon", 1e-5f));
  const Tensor gamma = inputs[1], beta = inputs.size() > 2 ? inputs[2] : Tensor();
  VB_TRY(check_affine(gamma, x, axis, "scale"));
  VB_TRY(check_affine(beta, x, axis, "bias"));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  VB_ASSIGN(const Shape stat_shape, statistics_shape(x, axis));
  const DType stat_type = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  VB_ASSIGN(Tensor means, Tensor::allocate(stat_type, stat_shape));
  VB_ASSIGN(Tensor inverses, Tensor::allocate(stat_type, stat_shape));
  const Rows rows = rows_of(x, axis);
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    const T *px = x.data<T>().data(), *pg = gamma.defined() ? gamma.data<T>().data() : nullptr,
            *pb = beta.defined() ? beta.data<T>().data() : nullptr;
    const int64_t g_step = gamma.defined() && gamma.elements() > 1,
                  b_step = beta.defined() && beta.elements() > 1;
    T* py = y.mutable_data<T>().data();
    const int64_t scratch = rows.size * static_cast<int64_t>(sizeof(C));
    parallel_for(rows.count, scratch_grain(rows.count, 16, scratch), [&](int64_t from, int64_t to) {
      std::vector<C> d(static_cast<size_t>(rows.size));
      for (int64_t r = from; r < to; ++r) {
        const T* row = px + r * rows.size;
        const auto [mean, inverse] =
            layer_statistics<C>(rows.size, epsilon, [&](int64_t i) { return load(row[i]); });
        for (int64_t i = 0; i < rows.size; ++i) d[i] = load(row[i]) - mean;
        for (int64_t i = 0; i < rows.size; ++i) {
          C v = d[i] * inverse;
          if (pg) v = v * load(pg[i * g_step]);
          if (pb) v = v + load(pb[i * b_step]);
          py[r * rows.size + i] = store<T>(v);
        }
        means.mutable_data<C>()[r] = canonical(mean);
        inverses.mutable_data<C>()[r] = canonical(inverse);
      }
    });
    return Tensors{y, means, inverses};
  });
}

// RMSNormalization(x, gamma): y = x * rsqrt(sumsq(x) / n + eps), then * gamma.
Result<Tensors> rms_normalization(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &gamma = inputs[1];
  VB_ASSIGN(const int axis, vector_axis(node, x));
  VB_ASSIGN(const float epsilon, node.attributes.get<float>("epsilon", 1e-5f));
  VB_TRY(check_affine(gamma, x, axis, "scale"));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  const Rows rows = rows_of(x, axis);
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    const T *px = x.data<T>().data(), *pg = gamma.data<T>().data();
    const int64_t g_step = gamma.elements() > 1;
    T* py = y.mutable_data<T>().data();
    parallel_for(rows.count, 16, [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r) {
        const T* row = px + r * rows.size;
        const C inverse =
            rms_inverse<C>(rows.size, epsilon, [&](int64_t i) { return load(row[i]); });
        for (int64_t i = 0; i < rows.size; ++i)
          py[r * rows.size + i] =
              store<T>(static_cast<C>(load(row[i]) * inverse) * load(pg[i * g_step]));
      }
    });
    return Tensors{y};
  });
}

// L2Normalize(x): along the last axis, y = x / maximum(sqrt(sumsq(x)), eps).
Result<Tensors> l2_normalize(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (x.rank() == 0) return bad_input("a scalar has no axis");
  VB_ASSIGN(const float epsilon, node.attributes.get<float>("epsilon", 1e-12f));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    for_each_vector<T>(x, y, x.rank() - 1, [&](int64_t n, auto in, auto out) {
      const C norm = maximum(sqrt_of(ordered_sum_of_squares<C>(n, in)), static_cast<C>(epsilon));
      for (int64_t i = 0; i < n; ++i) out(i, in(i) / norm);
    });
    return Tensors{y};
  });
}

// MeanPool(x [B, T, H], lengths int64 [B]) -> [B, H]: the mean of a sequence's first lengths[b]
// rows, an ordered sum over them divided by their number. Rows beyond the length take no part, so
// padding changes nothing. Length 0 gives +0.
Result<Tensors> mean_pool(const Node&, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &lengths = inputs[1];
  if (x.rank() != 3 || lengths.dtype() != DType::i64 || !(lengths.shape() == Shape{x.dim(0)}))
    return bad_input("MeanPool of " + x.describe() + " with lengths " + lengths.describe());
  for (int64_t n : lengths.data<int64_t>())
    if (n < 0 || n > x.dim(1))
      return bad_input("length " + std::to_string(n) + " for " + x.describe());
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), {x.dim(0), x.dim(2)}));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    const int64_t width = x.dim(2);
    for (int64_t b = 0; b < x.dim(0); ++b) {
      const int64_t n = lengths.data<int64_t>()[b];
      const T* rows = x.data<T>().data() + b * x.dim(1) * width;
      for (int64_t h = 0; h < width; ++h) {
        const C sum = ordered_sum<C>(n, [&](int64_t t) { return load(rows[t * width + h]); });
        y.mutable_data<T>()[b * width + h] = store<T>(n == 0 ? C{0} : sum / static_cast<C>(n));
      }
    }
    return Tensors{y};
  });
}

template <int kPerElement>
uint64_t per_input_element(const Node&, std::span<const Tensor> inputs, std::span<const Tensor>) {
  return static_cast<uint64_t>(inputs[0].elements()) * kPerElement;
}

constexpr OpDef kOps[] = {
    {"", "Softmax", 1, 1, 1, softmax<false>, per_input_element<5>},
    {"", "LogSoftmax", 1, 1, 1, softmax<true>, per_input_element<5>},
    {"", "LayerNormalization", 2, 3, 3, layer_normalization, per_input_element<8>},
    {"", "RMSNormalization", 2, 2, 1, rms_normalization, per_input_element<4>},
    {kVerbatimDomain, "L2Normalize", 1, 1, 1, l2_normalize, per_input_element<3>},
    {kVerbatimDomain, "MeanPool", 2, 2, 1, mean_pool, per_input_element<1>},
};

}  // namespace

std::span<const OpDef> normalization_ops() { return kOps; }

}  // namespace verbatim
