// Operators that only gradients need (docs/numerics.md, Training), where ONNX's own do not say it:
// sums over broadcast dimensions, scatter-add, activations, pooling, the loss. Each operation that
// is written is rounded in the computing type; 16-bit tensors are rounded once, at the end.
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/sum.h>
#include <verbatim/repops/unary.h>

namespace verbatim {
namespace {

Result<Shape> read_shape_operand(const Tensor& t) {
  VB_ASSIGN(const std::vector<int64_t> dims, read_integers(t, "shape", kMaxRank));
  return Shape::of(dims);
}

// SumTo(x, shape int64 [rank]): the transpose of Expand. Dimensions along which `shape` broadcasts
// to x's (they are missing on the left, or 1) are summed: an ordered sum over them, flattened
// row-major. Where nothing is summed, x's bytes.
Result<Tensors> sum_to(const Node&, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const Shape target, read_shape_operand(inputs[1]));
  const Result<Shape> both = broadcast(target, x.shape());
  if (!both.ok() || !(*both == x.shape()))
    return bad_input(x.describe() + " is no broadcast of " + target.to_string());
  if (target.elements() == x.elements()) {
    VB_ASSIGN(Tensor same, x.reshaped(target));
    return Tensors{same};
  }
  // Both of x's rank; what the one counts is 1 in the other.
  std::vector<int64_t> kept, summed;
  for (int i = 0; i < x.rank(); ++i) {
    const int own = i - (x.rank() - target.rank());
    const bool sums = own < 0 || (target[own] == 1 && x.dim(i) != 1);
    kept.push_back(sums ? 1 : x.dim(i));
    summed.push_back(sums ? x.dim(i) : 1);
  }
  VB_ASSIGN(const Shape kept_shape, Shape::of(kept));
  VB_ASSIGN(const Shape summed_shape, Shape::of(summed));
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), target));
  const Strides strides = strides_of(x.shape());
  const int64_t count = summed_shape.elements();
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    const T* px = x.data<T>().data();
    T* y = out.mutable_data<T>().data();
    const int64_t grain = std::max<int64_t>(1, kElementGrain / std::max<int64_t>(count, 1));
    parallel_for(out.elements(), grain, [&](int64_t begin, int64_t end) {
      StridedWalk start(kept_shape, strides);
      start.seek(begin);
      for (int64_t i = begin; i < end; ++i, start.next()) {
        StridedWalk walk(summed_shape, strides, start.offset());
        // ordered_sum asks for each element once, in ascending order.
        y[i] = store<T>(ordered_sum<C>(count, [&](int64_t) {
          const C v = load(px[walk.offset()]);
          walk.next();
          return v;
        }));
      }
    });
    return Tensors{out};
  });
}

// GatherGrad(g, indices, shape; axis): the gradient of Gather(data, indices; axis), of data's
// `shape`. Each destination starts from +0 and adds its g in ascending source index (scatter-add).
Result<Tensors> gather_gradient(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &g = inputs[0], &where = inputs[1];
  VB_ASSIGN(const Shape shape, read_shape_operand(inputs[2]));
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", 0));
  VB_ASSIGN(const int axis, shape.axis(a));
  VB_ASSIGN(const Integers indices, Integers::of(where, "indices"));
  std::vector<int64_t> dims(shape.dims().begin(), shape.dims().begin() + axis);
  dims.insert(dims.end(), where.shape().dims().begin(), where.shape().dims().end());
  dims.insert(dims.end(), shape.dims().begin() + axis + 1, shape.dims().end());
  if (!std::ranges::equal(dims, g.shape().dims()))
    return bad_input("gradient " + g.describe() + " for indices " + where.describe() + " of " +
                     shape.to_string());
  const int64_t size = shape[axis];
  for (int64_t i = 0; i < indices.size(); ++i)
    if (indices[i] < -size || indices[i] >= size)
      return bad_input("index " + std::to_string(indices[i]) + " is outside " +
                       std::to_string(size));
  VB_ASSIGN(Tensor out, Tensor::zeros(g.dtype(), shape));
  if (g.elements() == 0) return Tensors{out};
  const int64_t outer = shape.elements(0, axis), inner = shape.elements(axis + 1, shape.rank());
  return visit_float<Tensors>(g, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    Tensor totals = out;
    if constexpr (!std::is_same_v<T, C>) {
      VB_ASSIGN(totals, Tensor::zeros(dtype_of<C>(), shape));
    }
    const T* from = g.data<T>().data();
    C* total = totals.template mutable_data<C>().data();
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = 0; i < indices.size(); ++i) {
        const int64_t at = o * size + indices[i] + (indices[i] < 0 ? size : 0);
        for (int64_t j = 0; j < inner; ++j) total[at * inner + j] += load(*from++);
      }
    T* y = out.mutable_data<T>().data();
    for (int64_t i = 0; i < out.elements(); ++i) y[i] = store<T>(total[i]);
    return Tensors{out};
  });
}

// --- activations
// ------------------------------------------------------------------------------------------------------------

// out = g * slope(x), element by element.
template <class Slope>
Result<Tensors> times_slope(std::span<const Tensor> inputs, Slope slope) {
  const Tensor &g = inputs[0], &x = inputs[1];
  if (g.dtype() != x.dtype() || !(g.shape() == x.shape()))
    return bad_input("gradient " + g.describe() + " for " + x.describe());
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), x.shape()));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    const T *pg = g.data<T>().data(), *px = x.data<T>().data();
    T* y = out.mutable_data<T>().data();
    parallel_for(x.elements(), kElementGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y[i] = store<T>(load(pg[i]) * slope(load(px[i])));
    });
    return Tensors{out};
  });
}

// GeluGrad(g, x; approximate) = g * slope.
// "none": slope = 0.5 * (1 + erf(x * sqrt(1/2))) + x * (exp(-((0.5 * x) * x)) * (1 / sqrt(2 pi))).
// "tanh": q = x * x; t = tanh(sqrt(2/pi) * (x + 0.044715 * (q * x))); d = sqrt(2/pi) * (1 +
// 0.134145
// * q); slope = 0.5 * (1 + t) + ((0.5 * x) * (1 - t * t)) * d.
Result<Tensors> gelu_gradient(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const std::string approximate, node.attributes.get<std::string>("approximate", "none"));
  if (approximate == "none")
    return times_slope(inputs, [](auto x) {
      using C = decltype(x);
      const C below =
          C{0.5} * (C{1} + evaluate(Unary::erf, x * static_cast<C>(0x1.6a09e667f3bcdp-1)));
      const C density =
          evaluate(Unary::exp, -((C{0.5} * x) * x)) * static_cast<C>(0x1.9884533d43651p-2);
      return below + x * density;
    });
  if (approximate != "tanh") return bad_input("approximate = '" + printable(approximate) + "'");
  return times_slope(inputs, [](auto x) {
    using C = decltype(x);
    const C root = static_cast<C>(0x1.9884533d43651p-1), q = x * x;
    const C t = evaluate(Unary::tanh, root * (x + static_cast<C>(0x1.6e4e26d4801f7p-5) * (q * x)));
    const C d = root * (C{1} + static_cast<C>(0x1.12ba9d1f60179p-3) * q);
    return C{0.5} * (C{1} + t) + ((C{0.5} * x) * (C{1} - t * t)) * d;
  });
}

// SwishGrad(g, x; alpha) = g * (s + (alpha * x) * (s * (1 - s))), s = sigmoid(alpha * x).
Result<Tensors> swish_gradient(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const float alpha, node.attributes.get<float>("alpha", 1.0f));
  return times_slope(inputs, [alpha](auto x) {
    using C = decltype(x);
    const C z = alpha * x, s = evaluate(Unary::sigmoid, z);
    return s + z * (s * (C{1} - s));
  });
}

// --- pooling and loss
// ---------------------------------------------------------------------------------------------------------

// MeanPoolGrad(g [B, H], lengths int64 [B], shape int64 [3]) -> [B, T, H]: a sequence's own rows
// get g / length, the others +0.
Result<Tensors> mean_pool_gradient(const Node&, std::span<const Tensor> inputs) {
  const Tensor &g = inputs[0], &lengths = inputs[1];
  VB_ASSIGN(const Shape shape, read_shape_operand(inputs[2]));
  if (shape.rank() != 3 || lengths.dtype() != DType::i64 || !(lengths.shape() == Shape{shape[0]}) ||
      !(g.shape() == Shape{shape[0], shape[2]}))
    return bad_input("gradient " + g.describe() + " for " + shape.to_string() + " with lengths " +
                     lengths.describe());
  for (int64_t n : lengths.data<int64_t>())
    if (n < 0 || n > shape[1])
      return bad_input("length " + std::to_string(n) + " for " + shape.to_string());
  VB_ASSIGN(Tensor out, Tensor::zeros(g.dtype(), shape));
  return visit_float<Tensors>(g, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    const int64_t width = shape[2];
    for (int64_t b = 0; b < shape[0]; ++b) {
      const int64_t n = lengths.data<int64_t>()[b];
      T* rows = out.mutable_data<T>().data() + b * shape[1] * width;
      for (int64_t i = 0; i < n * width; ++i)
        rows[i] = store<T>(load(g.data<T>()[b * width + i % width]) / static_cast<C>(n));
    }
    return Tensors{out};
  });
}

// NegativeLogLikelihoodLossGrad(g, shape, target, weight?; ignore_index, reduction): the gradient
// of the log-probabilities, of `shape` [N, C, ...]: -(h * weight[t]) at each target t, +0 elsewhere
// and for ignored ones. h is g, for "mean" g / the ordered sum of the targets' weights.
Result<Tensors> negative_log_likelihood_gradient(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &g = inputs[0], &target = inputs[2], weight = input_or_none(inputs, 3);
  VB_ASSIGN(const Shape shape, read_shape_operand(inputs[1]));
  VB_ASSIGN(const std::string reduction, node.attributes.get<std::string>("reduction", "mean"));
  if (reduction != "mean" && reduction != "sum" && reduction != "none")
    return bad_input("reduction '" + printable(reduction) + "'");
  const bool ignores = node.attributes.has("ignore_index"), each = reduction == "none";
  VB_ASSIGN(const int64_t ignored, node.attributes.get<int64_t>("ignore_index", 0));
  bool fits = shape.rank() >= 2 && target.rank() == shape.rank() - 1 && target.dim(0) == shape[0];
  for (int i = 1; fits && i < target.rank(); ++i) fits = target.dim(i) == shape[i + 1];
  if (!fits || !(g.shape() == (each ? target.shape() : Shape{})))
    return bad_input("gradient " + g.describe() + " and target " + target.describe() + " for " +
                     shape.to_string());
  const int64_t classes = shape[1], inner = shape.elements(2, shape.rank());
  if (weight.defined() && (weight.dtype() != g.dtype() || !(weight.shape() == Shape{classes})))
    return bad_input("weight " + weight.describe() + " for " + shape.to_string());
  VB_ASSIGN(const Integers labels, Integers::of(target, "target"));
  const auto skipped = [&](int64_t i) { return ignores && labels[i] == ignored; };
  for (int64_t i = 0; i < labels.size(); ++i)
    if (!skipped(i) && (labels[i] < 0 || labels[i] >= classes))
      return bad_input("target " + std::to_string(labels[i]) + " of " + std::to_string(classes));
  VB_ASSIGN(Tensor out, Tensor::zeros(g.dtype(), shape));
  return visit_float<Tensors>(g, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    const auto weight_of = [&](int64_t i) {
      if (skipped(i)) return C{0};
      return weight.defined() ? load(weight.data<T>()[labels[i]]) : C{1};
    };
    C h = each ? C{0} : load(g.data<T>()[0]);
    if (reduction == "mean") h = h / ordered_sum<C>(labels.size(), weight_of);
    for (int64_t i = 0; i < labels.size(); ++i) {
      if (skipped(i)) continue;
      if (each) h = load(g.data<T>()[i]);
      out.mutable_data<T>()[(i / inner * classes + labels[i]) * inner + i % inner] =
          store<T>(-(h * weight_of(i)));
    }
    return Tensors{out};
  });
}

// One operation for each element of the gradient that comes in, and of the one that goes out.
uint64_t scatter_cost(const Node&, std::span<const Tensor> inputs,
                      std::span<const Tensor> outputs) {
  return saturating_add(static_cast<uint64_t>(inputs[0].elements()),
                        static_cast<uint64_t>(outputs[0].elements()));
}
template <int kPerElement>
uint64_t per_element(const Node&, std::span<const Tensor>, std::span<const Tensor> outputs) {
  return saturating_multiply(static_cast<uint64_t>(outputs[0].elements()), kPerElement);
}
uint64_t likelihood_cost(const Node&, std::span<const Tensor> inputs,
                         std::span<const Tensor> outputs) {
  return saturating_add(static_cast<uint64_t>(inputs[2].elements()) * 3,
                        static_cast<uint64_t>(outputs[0].elements()));
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "SumTo", 2, 2, 1, sum_to, scatter_cost},
    {kVerbatimDomain, "GatherGrad", 3, 3, 1, gather_gradient, scatter_cost},
    {kVerbatimDomain, "GeluGrad", 2, 2, 1, gelu_gradient, per_element<12>},
    {kVerbatimDomain, "SwishGrad", 2, 2, 1, swish_gradient, per_element<6>},
    {kVerbatimDomain, "MeanPoolGrad", 3, 3, 1, mean_pool_gradient},
    {kVerbatimDomain, "NegativeLogLikelihoodLossGrad", 3, 4, 1, negative_log_likelihood_gradient,
     likelihood_cost},
};

}  // namespace

std::span<const OpDef> gradient_ops() { return kOps; }

}  // namespace verbatim
