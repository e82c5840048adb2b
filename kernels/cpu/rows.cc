// Softmax, LayerNormalization, RMSNormalization and L2Normalize over the last dimensions.
#include <algorithm>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

constexpr int64_t kTaskElements = 1 << 13;

int64_t rows_for_a_task(int64_t row_size) {
  return std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, row_size));
}

// `axis` of x, or -1 where it is missing or wrong.
Result<int> axis_of(const Node& node, const Tensor& x) {
  VB_ASSIGN(const int64_t axis, node.attributes.get<int64_t>("axis", -1));
  const Result<int> found = x.shape().axis(axis);
  return found.ok() ? *found : -1;
}

// True where t, if given, is of x's type and one element or one for each of `size`.
bool is_affine(const Tensor& t, const Tensor& x, int64_t size) {
  return !t.defined() || (t.dtype() == x.dtype() && (t.elements() == size || t.elements() == 1));
}

// What both normalisations share; false where the reference is to run.
Result<bool> describe_norm(const Node& node, const Tensor& x, const Tensor& gamma,
                           const Tensor& beta, RowNorm& p, int& axis) {
  VB_ASSIGN(axis, axis_of(node, x));
  VB_ASSIGN(p.epsilon, node.attributes.get<float>("epsilon", 1e-5f));
  if (axis < 0) return false;
  p.n = x.shape().elements(axis, x.rank());
  if (!is_affine(gamma, x, p.n) || !is_affine(beta, x, p.n)) return false;
  p.type = x.dtype();
  p.x = x.bytes().data();
  if (gamma.defined()) p.gamma = gamma.bytes().data();
  if (beta.defined()) p.beta = beta.bytes().data();
  p.gamma_step = gamma.defined() && gamma.elements() > 1;
  p.beta_step = beta.defined() && beta.elements() > 1;
  return true;
}

}  // namespace

Outcome run_softmax(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (!all_of_one_type(inputs)) return not_handled();
  VB_ASSIGN(const int axis, axis_of(node, x));
  if (axis < 0 || axis != x.rank() - 1) return not_handled();
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  const int64_t n = x.dim(axis), row_bytes = n * static_cast<int64_t>(size_of(x.dtype()));
  const std::byte* in = x.bytes().data();
  std::byte* out = y.mutable_bytes().data();
  parallel_for(x.shape().elements(0, axis), rows_for_a_task(n), [&](int64_t from, int64_t to) {
    float* scratch = x.dtype() == DType::f32 ? nullptr : thread_scratch(static_cast<size_t>(n));
    backend.kernels().softmax(x.dtype(), in + from * row_bytes, out + from * row_bytes, to - from,
                              n, scratch);
  });
  return done({y});
}

Outcome run_layer_norm(const CpuBackend& backend, const Node& node,
                       std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  const Tensor beta = inputs.size() > 2 ? inputs[2] : Tensor();
  if (!all_of_one_type(inputs.first(1))) return not_handled();
  RowNorm p;
  int axis = 0;
  VB_ASSIGN(const bool fits, describe_norm(node, x, inputs[1], beta, p, axis));
  if (!fits) return not_handled();
  std::vector<int64_t> dims(x.shape().dims().begin(), x.shape().dims().end());
  std::fill(dims.begin() + axis, dims.end(), 1);
  VB_ASSIGN(const Shape statistics, Shape::of(dims));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  VB_ASSIGN(Tensor means, Tensor::allocate(DType::f32, statistics));
  VB_ASSIGN(Tensor inverses, Tensor::allocate(DType::f32, statistics));
  p.y = y.mutable_bytes().data();
  p.means = means.mutable_data<float>().data();
  p.inverses = inverses.mutable_data<float>().data();
  parallel_for(means.elements(), rows_for_a_task(p.n),
               [&](int64_t from, int64_t to) { backend.kernels().layer_norm(p, from, to); });
  return done({y, means, inverses});
}

Outcome run_rms_norm(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (!all_of_one_type(inputs.first(1))) return not_handled();
  RowNorm p;
  int axis = 0;
  VB_ASSIGN(const bool fits, describe_norm(node, x, inputs[1], Tensor(), p, axis));
  if (!fits) return not_handled();
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  p.y = y.mutable_bytes().data();
  parallel_for(x.shape().elements(0, axis), rows_for_a_task(p.n),
               [&](int64_t from, int64_t to) { backend.kernels().rms_norm(p, from, to); });
  return done({y});
}

Outcome run_l2_normalize(const CpuBackend& backend, const Node& node,
                         std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (!all_of_one_type(inputs) || x.rank() == 0) return not_handled();
  RowNorm p;
  p.type = x.dtype();
  p.x = x.bytes().data();
  p.n = x.dim(x.rank() - 1);
  VB_ASSIGN(p.epsilon, node.attributes.get<float>("epsilon", 1e-12f));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), x.shape()));
  p.y = y.mutable_bytes().data();
  parallel_for(x.shape().elements(0, x.rank() - 1), rows_for_a_task(p.n),
               [&](int64_t from, int64_t to) { backend.kernels().l2_normalize(p, from, to); });
  return done({y});
}

}  // namespace verbatim
