// Reductions and MeanPool whose axes lie side by side.
#include <verbatim/repops/ops/reduction.h>

#include <algorithm>
#include <optional>

#include <verbatim/kernels/kernel_backend.h>

namespace verbatim {
namespace {

ReduceKernel kind_of(const Node& node) {
  if (node.op == "ReduceSum") return ReduceKernel::sum;
  if (node.op == "ReduceMean") return ReduceKernel::mean;
  if (node.op == "ReduceL1") return ReduceKernel::l1;
  if (node.op == "ReduceSumSquare") return ReduceKernel::sum_of_squares;
  if (node.op == "ReduceL2") return ReduceKernel::l2;
  return node.op == "ReduceMax" ? ReduceKernel::maximum : ReduceKernel::minimum;
}

// x as [outer, n, inner] of which n is reduced, or nothing where it cannot be seen so.
struct Axes {
  int64_t outer = 1, n = 1, inner = 1;
};
std::optional<Axes> axes_of(const Tensor& x, const ReducedShape& r) {
  Axes axes;
  bool found = false, behind = false;
  for (int i = 0; i < x.rank(); ++i) {
    if (x.dim(i) == 1) continue;
    if (r.kept[i] == 1) {
      if (behind) return std::nullopt;
      found = true;
      axes.n *= x.dim(i);
    } else {
      behind = found;
      (found ? axes.inner : axes.outer) *= x.dim(i);
    }
  }
  return axes;
}

}  // namespace

Outcome run_reduction(const KernelBackend& backend, const Node& node,
                      std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (!all_of_one_type(inputs.first(1)) || x.elements() == 0) return not_handled();
  const Result<ReducedShape> shape = reduced_shape(node, inputs);
  if (!shape.ok()) return not_handled();
  const std::optional<Axes> axes = axes_of(x, *shape);
  if (!axes) return not_handled();
  VB_ASSIGN(Tensor y, backend.allocate(x.dtype(), shape->result));
  Reduction p;
  p.type = x.dtype();
  p.kind = kind_of(node);
  p.x = x.address();
  p.y = y.mutable_address();
  p.n = axes->n;
  p.inner = axes->inner;
  VB_TRY(backend.reduce(p, y.elements()));
  return done({y});
}

Outcome run_mean_pool(const KernelBackend& backend, const Node&, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &lengths = inputs[1];
  if (!all_of_one_type(inputs.first(1)) || x.rank() != 3 || lengths.dtype() != DType::i64 ||
      !(lengths.shape() == Shape{x.dim(0)}))
    return not_handled();
  const std::span<const int64_t> counts = lengths.data<int64_t>();
  for (int64_t n : counts)
    if (n < 0 || n > x.dim(1)) return not_handled();
  const int64_t dims[] = {x.dim(0), x.dim(2)};
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor y, backend.allocate(x.dtype(), shape));
  const int64_t width = x.dim(2), row_bytes = width * static_cast<int64_t>(size_of(x.dtype()));
  for (int64_t b = 0; b < x.dim(0); ++b) {
    Reduction p;
    p.type = x.dtype();
    p.kind = counts[b] == 0 ? ReduceKernel::sum : ReduceKernel::mean;  // of nothing: +0
    p.x = x.address() + b * x.dim(1) * row_bytes;
    p.y = y.mutable_address() + b * row_bytes;
    p.n = counts[b];
    p.inner = width;
    VB_TRY(backend.reduce(p, width));
  }
  return done({y});
}

}  // namespace verbatim
