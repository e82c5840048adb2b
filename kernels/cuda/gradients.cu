// What training adds (docs/numerics.md, Training), of binary32: gradients, losses and optimizers,
// each operation rounded as repops/ops/gradient.cc, normalization_gradient.cc, loss.cc and
// optimizer.cc have it. Sums over rows are those of reductions, of terms that are written first.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/normalization.h>
#include <verbatim/repops/unary_f32.h>
#include <verbatim/kernels/cuda/ordered_sum.cuh>

namespace verbatim::cuda {
namespace {

const float* floats(const Tensor& t) { return reinterpret_cast<const float*>(t.address()); }
float* floats(Tensor& t) { return reinterpret_cast<float*>(t.mutable_address()); }

bool of_one_shape(std::span<const Tensor> tensors) {
  return all_float32(tensors) && std::ranges::all_of(tensors, [&](const Tensor& t) {
           return t.shape() == tensors[0].shape();
         });
}

// --- activations

__device__ float gelu_slope(float x, float) {
  const float below = 0.5f * (1.0f + unary::f32::erf(x * static_cast<float>(0x1.6a09e667f3bcdp-1)));
  const float density =
      unary::f32::exp(-((0.5f * x) * x)) * static_cast<float>(0x1.9884533d43651p-2);
  return below + x * density;
}
__device__ float gelu_tanh_slope(float x, float) {
  const float root = static_cast<float>(0x1.9884533d43651p-1), q = x * x;
  const float t = unary::f32::tanh(root * (x + static_cast<float>(0x1.6e4e26d4801f7p-5) * (q * x)));
  const float d = root * (1.0f + static_cast<float>(0x1.12ba9d1f60179p-3) * q);
  return 0.5f * (1.0f + t) + ((0.5f * x) * (1.0f - t * t)) * d;
}
__device__ float swish_slope(float x, float alpha) {
  const float z = alpha * x, s = unary::f32::sigmoid(z);
  return s + z * (s * (1.0f - s));
}

template <auto kSlope>
__global__ void __launch_bounds__(256)
    multiply_slopes(const float* g, const float* x, float* y, int64_t n, float alpha) {
  each_element(n, [&](int64_t i) { y[i] = canonical(g[i] * kSlope(x[i], alpha)); });
}

}  // namespace

Outcome run_activation_gradient(Gpu& gpu, const KernelBackend& backend, const Node& node,
                                std::span<const Tensor> inputs) {
  if (!of_one_shape(inputs.first(2))) return not_handled();
  auto* kernel = multiply_slopes<swish_slope>;
  float alpha = 0;
  if (node.op == "GeluGrad") {
    VB_ASSIGN(const std::string form, node.attributes.get<std::string>("approximate", "none"));
    if (form != "none" && form != "tanh") return not_handled();
    kernel = form == "none" ? multiply_slopes<gelu_slope> : multiply_slopes<gelu_tanh_slope>;
  } else {
    VB_ASSIGN(alpha, node.attributes.get<float>("alpha", 1.0f));
  }
  const int64_t n = inputs[1].elements();
  VB_ASSIGN(Tensor y, backend.allocate(DType::f32, inputs[1].shape()));
  if (n > 0)
    VB_TRY(launch(gpu, grid_for(n), kernel, floats(inputs[0]), floats(inputs[1]), floats(y), n,
                  alpha));
  return done({y});
}

namespace {

// --- normalisations

struct NormGradient {
  const float *g, *x, *gamma;
  float *dx, *terms;  // terms: whose sums are gamma's gradient
  int64_t n;
  int gamma_step;
  float epsilon;
};

template <bool kCentred>
__global__ void __launch_bounds__(kRowWarps* kWarp)
    differentiate_norm(NormGradient p, int64_t rows) {
  const auto n = static_cast<float>(p.n);
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const float *x = p.x + r * p.n, *g = p.g + r * p.n;
    const float mean = kCentred ? ordered_sum(p.n, [&](int64_t i) { return x[i]; }) / n : 0.0f;
    const float squares =
        ordered_sum_of_squares(p.n, [&](int64_t i) { return kCentred ? x[i] - mean : x[i]; });
    const float inverse = 1.0f / sqrt_of(squares / n + p.epsilon);
    const auto h = [&](int64_t i) { return g[i] * p.gamma[i * p.gamma_step]; };
    const auto z = [&](int64_t i) { return (x[i] - mean) * inverse; };
    const float a = kCentred ? ordered_sum(p.n, h) / n : 0.0f;
    const float c = ordered_sum(p.n, [&](int64_t i) { return h(i) * z(i); }) / n;
    for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x) {
      p.dx[r * p.n + i] = canonical(inverse * ((kCentred ? h(i) - a : h(i)) - z(i) * c));
      p.terms[r * p.n + i] = g[i] * z(i);
    }
  }
}

}  // namespace

Outcome run_norm_gradient(Gpu& gpu, const KernelBackend& backend, const Node& node,
                          std::span<const Tensor> inputs) {
  const Tensor &g = inputs[0], &x = inputs[1], &gamma = inputs[2];
  if (!of_one_shape(inputs.first(2)) || x.elements() == 0) return not_handled();
  const Result<int> axis = vector_axis(node, x);
  if (!axis.ok() || !check_affine(gamma, x, *axis, "scale").ok()) return not_handled();
  VB_ASSIGN(const float epsilon, node.attributes.get<float>("epsilon", 1e-5f));
  const Rows rows = rows_of(x, *axis);
  VB_ASSIGN(Tensor dx, backend.allocate(DType::f32, x.shape()));
  VB_ASSIGN(Tensor dgamma, backend.allocate(DType::f32, gamma.shape()));
  VB_ASSIGN(Tensor terms, backend.allocate(DType::f32, x.shape(), Purpose::scratch));
  const NormGradient p{.g = floats(g),
                       .x = floats(x),
                       .gamma = floats(gamma),
                       .dx = floats(dx),
                       .terms = floats(terms),
                       .n = rows.size,
                       .gamma_step = gamma.elements() > 1,
                       .epsilon = epsilon};
  VB_TRY(launch(
      gpu, grid_of_rows(rows.count, rows.size),
      node.op == "RMSNormalizationGrad" ? differentiate_norm<false> : differentiate_norm<true>, p,
      rows.count));
  const bool of_columns = gamma.elements() == rows.size;
  VB_TRY(reduce(gpu,
                {.kind = ReduceKernel::sum,
                 .x = terms.address(),
                 .y = dgamma.mutable_address(),
                 .n = of_columns ? rows.count : x.elements(),
                 .inner = of_columns ? rows.size : 1},
                gamma.elements()));
  return done({dx, dgamma});
}

namespace {

__global__ void __launch_bounds__(kRowWarps* kWarp)
    differentiate_l2(const float* g, const float* x, float* y, int64_t rows, int64_t n,
                     float epsilon) {
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const float *gr = g + r * n, *xr = x + r * n;
    const float norm = sqrt_of(ordered_sum_of_squares(n, [&](int64_t i) { return xr[i]; }));
    const float m = maximum(norm, epsilon);
    const float s = ordered_sum(n, [&](int64_t i) { return gr[i] * (xr[i] / m); });
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
      y[r * n + i] = canonical((norm > epsilon ? gr[i] - (xr[i] / m) * s : gr[i]) / m);
  }
}

}  // namespace

Outcome run_l2_gradient(Gpu& gpu, const KernelBackend& backend, const Node& node,
                        std::span<const Tensor> inputs) {
  const Tensor& x = inputs[1];
  if (!of_one_shape(inputs.first(2)) || x.rank() == 0 || x.elements() == 0) return not_handled();
  VB_ASSIGN(const float epsilon, node.attributes.get<float>("epsilon", 1e-12f));
  VB_ASSIGN(Tensor y, backend.allocate(DType::f32, x.shape()));
  const Rows rows = rows_of(x, x.rank() - 1);
  VB_TRY(launch(gpu, grid_of_rows(rows.count, rows.size), differentiate_l2, floats(inputs[0]),
                floats(x), floats(y), rows.count, rows.size, epsilon));
  return done({y});
}

namespace {

// --- broadcasting and gathering

// x as [outer, n, inner], n what is summed; nothing where that does not lie together.
std::optional<Reduction> sum_of(const Tensor& x, const Shape& target) {
  Reduction p{.kind = ReduceKernel::sum, .x = x.address(), .n = 1};
  bool summed = false;
  for (int i = 0; i < x.rank(); ++i) {
    const int own = i - (x.rank() - target.rank());
    const int64_t size = x.dim(i);
    if (size == 1) continue;
    if (own < 0 || target[own] == 1) {
      if (summed && p.inner > 1) return std::nullopt;
      summed = true;
      p.n *= size;
    } else if (summed) {
      p.inner *= size;
    }
  }
  return p;
}

}  // namespace

Outcome run_sum_to(Gpu& gpu, const KernelBackend& backend, const Node&,
                   std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  const Result<std::vector<int64_t>> dims = read_integers(inputs[1], "shape", kMaxRank);
  if (!all_float32(inputs.first(1)) || !dims.ok()) return not_handled();
  const Result<Shape> target = Shape::of(*dims);
  if (!target.ok()) return not_handled();
  const Result<Shape> both = broadcast(*target, x.shape());
  if (!both.ok() || !(*both == x.shape()) || x.elements() == 0) return not_handled();
  if (target->elements() == x.elements()) {
    VB_ASSIGN(Tensor same, x.reshaped(*target));
    return done({same});
  }
  std::optional<Reduction> p = sum_of(x, *target);
  if (!p) return not_handled();
  VB_ASSIGN(Tensor y, backend.allocate(DType::f32, *target));
  p->y = y.mutable_address();
  VB_TRY(reduce(gpu, *p, target->elements()));
  return done({y});
}

namespace {

// Rows of g, added to those that they were gathered from: each of these by one block, in ascending
// order of the sources. sources[begins[i] .. begins[i + 1]) are those of row rows[i].
__global__ void __launch_bounds__(256)
    scatter_rows(const float* g, float* y, const int64_t* rows, const int64_t* begins,
                 const int64_t* sources, int64_t touched, int64_t outer, int64_t size,
                 int64_t indices, int64_t inner) {
  for (int64_t b = blockIdx.x; b < outer * touched; b += gridDim.x) {
    const int64_t o = b / touched, i = b % touched;
    float* to = y + (o * size + rows[i]) * inner;
    for (int64_t j = threadIdx.x; j < inner; j += blockDim.x) {
      float total = 0;
      for (int64_t s = begins[i]; s < begins[i + 1]; ++s)
        total += g[(o * indices + sources[s]) * inner + j];
      to[j] = canonical(total);
    }
  }
}
__global__ void __launch_bounds__(256) clear(float* y, int64_t n) {
  each_element(n, [&](int64_t i) { y[i] = 0; });
}

}  // namespace

Outcome run_gather_gradient(Gpu& gpu, const KernelBackend& backend, const Node& node,
                            std::span<const Tensor> inputs) {
  const Tensor &g = inputs[0], &where = inputs[1];
  const Result<std::vector<int64_t>> values = read_integers(inputs[2], "shape", kMaxRank);
  const Result<Integers> indices = Integers::of(where, "indices");
  const Result<int64_t> a = node.attributes.get<int64_t>("axis", 0);
  if (!all_float32(inputs.first(1)) || !values.ok() || !indices.ok() || !a.ok())
    return not_handled();
  const Result<Shape> shape = Shape::of(*values);
  if (!shape.ok()) return not_handled();
  const Result<int> axis = shape->axis(*a);
  if (!axis.ok() || g.elements() == 0) return not_handled();
  const int64_t size = (*shape)[*axis], outer = shape->elements(0, *axis),
                inner = shape->elements(*axis + 1, shape->rank()), count = indices->size();
  std::vector<int64_t> dims(shape->dims().begin(), shape->dims().begin() + *axis);
  dims.insert(dims.end(), where.shape().dims().begin(), where.shape().dims().end());
  dims.insert(dims.end(), shape->dims().begin() + *axis + 1, shape->dims().end());
  if (!std::ranges::equal(dims, g.shape().dims())) return not_handled();
  const auto row_of = [&](int64_t i) { return (*indices)[i] + ((*indices)[i] < 0 ? size : 0); };
  std::vector<int64_t> sources(static_cast<size_t>(count)), rows, begins;
  for (int64_t i = 0; i < count; ++i) {
    if (row_of(i) < 0 || row_of(i) >= size) return not_handled();
    sources[static_cast<size_t>(i)] = i;
  }
  std::ranges::stable_sort(sources, {}, row_of);
  for (size_t i = 0; i < sources.size(); ++i)
    if (const int64_t row = row_of(sources[i]); rows.empty() || row != rows.back()) {
      rows.push_back(row);
      begins.push_back(static_cast<int64_t>(i));
    }
  begins.push_back(count);
  VB_ASSIGN(Tensor y, backend.allocate(DType::f32, *shape));
  VB_ASSIGN(const Tensor rows_there, upload(gpu, rows));
  VB_ASSIGN(const Tensor begins_there, upload(gpu, begins));
  VB_ASSIGN(const Tensor sources_there, upload(gpu, sources));
  const auto integers = [](const Tensor& t) {
    return reinterpret_cast<const int64_t*>(t.address());
  };
  const auto touched = static_cast<int64_t>(rows.size());
  VB_TRY(launch(gpu, grid_for(y.elements()), clear, floats(y), y.elements()));
  const Grid grid{.blocks = {static_cast<unsigned>(least(outer * touched, kMostBlocks)), 1, 1},
                  .threads = {256, 1, 1}};
  VB_TRY(launch(gpu, grid, scatter_rows, floats(g), floats(y), integers(rows_there),
                integers(begins_there), integers(sources_there), touched, outer, size, count,
                inner));
  return done({y});
}

namespace {

// --- loss

// Targets of rows of classes, on the device: -1 for those that are ignored.
struct Targets {
  Tensor labels;
  int64_t count, classes, inner;
  std::string reduction;
};
Result<std::optional<Targets>> targets_of(Gpu& gpu, const Node& node, const Shape& shape,
                                          const Tensor& target, const Tensor& weight) {
  Targets t;
  const auto reduction = node.attributes.get<std::string>("reduction", "mean");
  const auto ignored_label = node.attributes.get<int64_t>("ignore_index", 0);
  if (!reduction.ok() || !ignored_label.ok()) return std::optional<Targets>();
  t.reduction = *reduction;
  const int64_t ignored = *ignored_label;
  const bool ignores = node.attributes.has("ignore_index");
  const Result<Integers> labels = Integers::of(target, "target");
  bool fits = labels.ok() && shape.rank() >= 2 && target.rank() == shape.rank() - 1 &&
              target.dim(0) == shape[0] && target.elements() > 0 &&
              (t.reduction == "mean" || t.reduction == "sum" || t.reduction == "none");
  for (int i = 1; fits && i < target.rank(); ++i) fits = target.dim(i) == shape[i + 1];
  if (!fits) return std::optional<Targets>();
  t.count = labels->size();
  t.classes = shape[1];
  t.inner = shape.elements(2, shape.rank());
  if (weight.defined() && (weight.dtype() != DType::f32 || !(weight.shape() == Shape{t.classes})))
    return std::optional<Targets>();
  std::vector<int64_t> values(static_cast<size_t>(t.count));
  for (int64_t i = 0; i < t.count; ++i) {
    const int64_t label = (*labels)[i];
    const bool skipped = ignores && label == ignored;
    if (!skipped && (label < 0 || label >= t.classes)) return std::optional<Targets>();
    values[static_cast<size_t>(i)] = skipped ? -1 : label;
  }
  VB_ASSIGN(t.labels, upload(gpu, values));
  return std::optional<Targets>(std::move(t));
}

struct Losses {
  const int64_t* labels;
  const float* weights;  // of classes, or null
  int64_t classes, inner;

  __device__ float weight(int64_t i) const {
    if (labels[i] < 0) return 0.0f;
    return weights == nullptr ? 1.0f : weights[labels[i]];
  }
  __device__ int64_t place(int64_t i) const {
    return (i / inner * classes + labels[i]) * inner + i % inner;
  }
};
Losses losses_of(const Targets& t, const Tensor& weight) {
  return {reinterpret_cast<const int64_t*>(t.labels.address()),
          weight.defined() ? floats(weight) : nullptr, t.classes, t.inner};
}

__global__ void __launch_bounds__(256)
    take_losses(Losses l, const float* x, float* losses, int64_t n) {
  each_element(n, [&](int64_t i) {
    losses[i] = l.labels[i] < 0 ? 0.0f : canonical(-(x[l.place(i)] * l.weight(i)));
  });
}
// By one block: the sum of losses, for a mean over that of the weights.
__global__ void __launch_bounds__(kRowWarps* kWarp)
    total_loss(Losses l, const float* losses, float* y, int64_t n, bool mean) {
  float total = ordered_sum(n, [&](int64_t i) { return losses[i]; });
  if (mean) total = total / ordered_sum(n, [&](int64_t i) { return l.weight(i); });
  if (threadIdx.x == 0) *y = canonical(total);
}
__global__ void __launch_bounds__(kRowWarps* kWarp)
    spread_loss(Losses l, const float* g, float* y, int64_t n, bool mean, bool each) {
  const float over = mean ? ordered_sum(n, [&](int64_t i) { return l.weight(i); }) : 1.0f;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    if (l.labels[i] < 0) continue;
    const float h = each ? g[i] : mean ? g[0] / over : g[0];
    y[l.place(i)] = canonical(-(h * l.weight(i)));
  }
}

const Grid kOneBlock{.blocks = {1, 1, 1}, .threads = {kRowWarps * kWarp, 1, 1}};

}  // namespace

Outcome run_loss(Gpu& gpu, const KernelBackend& backend, const Node& node,
                 std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], weight = inputs.size() > 2 ? inputs[2] : Tensor();
  if (!all_float32(inputs.first(1))) return not_handled();
  VB_ASSIGN(const std::optional<Targets> t, targets_of(gpu, node, x.shape(), inputs[1], weight));
  if (!t) return not_handled();
  const Losses l = losses_of(*t, weight);
  const bool each = t->reduction == "none";
  VB_ASSIGN(Tensor losses, backend.allocate(DType::f32, inputs[1].shape(),
                                            each ? Purpose::result : Purpose::scratch));
  VB_TRY(launch(gpu, grid_for(t->count), take_losses, l, floats(x), floats(losses), t->count));
  if (each) return done({losses});
  VB_ASSIGN(Tensor y, backend.allocate(DType::f32, Shape{}));
  VB_TRY(launch(gpu, kOneBlock, total_loss, l, floats(std::as_const(losses)), floats(y), t->count,
                t->reduction == "mean"));
  return done({y});
}

Outcome run_loss_gradient(Gpu& gpu, const KernelBackend& backend, const Node& node,
                          std::span<const Tensor> inputs) {
  const Tensor &g = inputs[0], weight = inputs.size() > 3 ? inputs[3] : Tensor();
  const Result<std::vector<int64_t>> dims = read_integers(inputs[1], "shape", kMaxRank);
  if (!all_float32(inputs.first(1)) || !dims.ok()) return not_handled();
  const Result<Shape> shape = Shape::of(*dims);
  if (!shape.ok()) return not_handled();
  VB_ASSIGN(const std::optional<Targets> t, targets_of(gpu, node, *shape, inputs[2], weight));
  if (!t) return not_handled();
  const bool each = t->reduction == "none";
  if (!(g.shape() == (each ? inputs[2].shape() : Shape{}))) return not_handled();
  VB_ASSIGN(Tensor y, backend.allocate(DType::f32, *shape));
  if (y.elements() == 0) return done({y});
  VB_TRY(launch(gpu, grid_for(y.elements()), clear, floats(y), y.elements()));
  VB_TRY(launch(gpu, kOneBlock, spread_loss, losses_of(*t, weight), floats(g), floats(y), t->count,
                t->reduction == "mean", each));
  return done({y});
}

namespace {

// --- optimizers

struct Sgd {
  const float *w, *g, *rate, *v;  // v: or null
  float *new_w, *new_v;
  float momentum, decay;
};
__global__ void __launch_bounds__(256) step_sgd(Sgd p, int64_t n) {
  each_element(n, [&](int64_t i) {
    const float decayed = p.decay == 0 ? p.g[i] : p.g[i] + p.decay * p.w[i];
    const float v = p.v == nullptr ? decayed : p.momentum * p.v[i] + decayed;
    p.new_v[i] = canonical(v);
    p.new_w[i] = canonical(p.w[i] - *p.rate * v);
  });
}

}  // namespace

Outcome run_sgd(Gpu& gpu, const KernelBackend& backend, const Node& node,
                std::span<const Tensor> inputs) {
  const bool moving = inputs.size() > 3 && inputs[3].defined();
  const Tensor states[] = {inputs[0], inputs[1], moving ? inputs[3] : inputs[1]};
  if (!of_one_shape(states) || !all_float32(inputs.subspan(2, 1)) || inputs[2].elements() != 1 ||
      (!moving && node.outputs.size() > 1))
    return not_handled();
  VB_ASSIGN(const float momentum, node.attributes.get<float>("momentum", 0.0f));
  VB_ASSIGN(const float decay, node.attributes.get<float>("weight_decay", 0.0f));
  VB_ASSIGN(Tensor new_w, backend.allocate(DType::f32, inputs[0].shape()));
  VB_ASSIGN(Tensor new_v, backend.allocate(DType::f32, inputs[0].shape()));
  const int64_t n = new_w.elements();
  const Sgd p{
      floats(inputs[0]), floats(inputs[1]), floats(inputs[2]), moving ? floats(inputs[3]) : nullptr,
      floats(new_w),     floats(new_v),     momentum,          decay};
  if (n > 0) VB_TRY(launch(gpu, grid_for(n), step_sgd, p, n));
  return done({new_w, new_v});
}

namespace {

struct AdamW {
  const float *w, *g, *m, *v, *rate;
  const double *betas, *powers;  // two each
  float *new_w, *new_m, *new_v;
  float epsilon, decay;
};
__global__ void __launch_bounds__(256) step_adamw(AdamW p, int64_t n) {
  const auto b1 = static_cast<float>(p.betas[0]), b2 = static_cast<float>(p.betas[1]),
             r1 = static_cast<float>(1 - p.betas[0]), r2 = static_cast<float>(1 - p.betas[1]),
             c1 = static_cast<float>(1 - p.powers[0]), c2 = static_cast<float>(1 - p.powers[1]);
  each_element(n, [&](int64_t i) {
    const float first = b1 * p.m[i] + r1 * p.g[i], second = b2 * p.v[i] + r2 * (p.g[i] * p.g[i]);
    const float step = (first / c1) / (sqrt_of(second / c2) + p.epsilon);
    p.new_m[i] = canonical(first);
    p.new_v[i] = canonical(second);
    p.new_w[i] = canonical(p.w[i] - *p.rate * (step + p.decay * p.w[i]));
  });
}

}  // namespace

Outcome run_adamw(Gpu& gpu, const KernelBackend& backend, const Node& node,
                  std::span<const Tensor> inputs) {
  if (!of_one_shape(inputs.first(4)) || !all_float32(inputs.subspan(4, 1)) ||
      inputs[4].elements() != 1)
    return not_handled();
  for (const Tensor& t : inputs.subspan(5, 2))
    if (t.dtype() != DType::f64 || !(t.shape() == Shape{2}) || t.device() == nullptr)
      return not_handled();
  VB_ASSIGN(const float epsilon, node.attributes.get<float>("epsilon", 1e-8f));
  VB_ASSIGN(const float decay, node.attributes.get<float>("weight_decay", 0.0f));
  Tensors out(3);
  for (Tensor& t : out) {
    VB_ASSIGN(t, backend.allocate(DType::f32, inputs[0].shape()));
  }
  const auto doubles = [](const Tensor& t) { return reinterpret_cast<const double*>(t.address()); };
  const AdamW p{floats(inputs[0]),  floats(inputs[1]), floats(inputs[2]),
                floats(inputs[3]),  floats(inputs[4]), doubles(inputs[5]),
                doubles(inputs[6]), floats(out[0]),    floats(out[1]),
                floats(out[2]),     epsilon,           decay};
  const int64_t n = out[0].elements();
  if (n > 0) VB_TRY(launch(gpu, grid_for(n), step_adamw, p, n));
  return done(std::move(out));
}

}  // namespace verbatim::cuda
