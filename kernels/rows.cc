// Softmax, LayerNormalization, RMSNormalization and L2Normalize over the last dimensions.
#include <algorithm>
#include <vector>

#include <verbatim/kernels/kernel_backend.h>

namespace verbatim {
namespace {

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
  p.x = x.address();
  if (gamma.defined()) p.gamma = gamma.address();
  if (beta.defined()) p.beta = beta.address();
  p.gamma_step = gamma.defined() && gamma.elements() > 1;
  p.beta_step = beta.defined() && beta.elements() > 1;
  return true;
}

}  // namespace

Outcome run_softmax(const KernelBackend& backend, const Node& node,
                    std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (!all_of_one_type(inputs)) return not_handled();
  VB_ASSIGN(const int axis, axis_of(node, x));
  if (axis < 0 || axis != x.rank() - 1) return not_handled();
  VB_ASSIGN(Tensor y, backend.allocate(x.dtype(), x.shape()));
  VB_TRY(backend.softmax(x.dtype(), x.address(), y.mutable_address(), x.shape().elements(0, axis),
                         x.dim(axis)));
  return done({y});
}

Outcome run_layer_norm(const KernelBackend& backend, const Node& node,
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
  VB_ASSIGN(Tensor y, backend.allocate(x.dtype(), x.shape()));
  VB_ASSIGN(Tensor means, backend.allocate(DType::f32, statistics));
  VB_ASSIGN(Tensor inverses, backend.allocate(DType::f32, statistics));
  p.y = y.mutable_address();
  p.means = reinterpret_cast<float*>(means.mutable_address());
  p.inverses = reinterpret_cast<float*>(inverses.mutable_address());
  VB_TRY(backend.layer_norm(p, means.elements()));
  return done({y, means, inverses});
}

Outcome run_rms_norm(const KernelBackend& backend, const Node& node,
                     std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (!all_of_one_type(inputs.first(1))) return not_handled();
  RowNorm p;
  int axis = 0;
  VB_ASSIGN(const bool fits, describe_norm(node, x, inputs[1], Tensor(), p, axis));
  if (!fits) return not_handled();
  VB_ASSIGN(Tensor y, backend.allocate(x.dtype(), x.shape()));
  p.y = y.mutable_address();
  VB_TRY(backend.rms_norm(p, x.shape().elements(0, axis)));
  return done({y});
}

Outcome run_l2_normalize(const KernelBackend& backend, const Node& node,
                         std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (!all_of_one_type(inputs) || x.rank() == 0) return not_handled();
  RowNorm p;
  p.type = x.dtype();
  p.x = x.address();
  p.n = x.dim(x.rank() - 1);
  VB_ASSIGN(p.epsilon, node.attributes.get<float>("epsilon", 1e-12f));
  VB_ASSIGN(Tensor y, backend.allocate(x.dtype(), x.shape()));
  p.y = y.mutable_address();
  VB_TRY(backend.l2_normalize(p, x.shape().elements(0, x.rank() - 1)));
  return done({y});
}

}  // namespace verbatim
