// Reductions and MeanPool whose axes lie side by side.
#include <verbatim/repops/ops/reduction.h>

#include <algorithm>
#include <optional>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>
#include <verbatim/repops/ops/strided.h>

namespace verbatim {
namespace {

constexpr int64_t kStrip = 64;  // results side by side that kernels reduce at once

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

Outcome run_reduction(const CpuBackend& backend, const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (!all_of_one_type(inputs.first(1)) || x.elements() == 0) return not_handled();
  const Result<ReducedShape> shape = reduced_shape(node, inputs);
  if (!shape.ok()) return not_handled();
  const std::optional<Axes> axes = axes_of(x, *shape);
  if (!axes) return not_handled();
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), shape->result));
  Reduction p;
  p.type = x.dtype();
  p.kind = kind_of(node);
  p.x = x.bytes().data();
  p.y = y.mutable_bytes().data();
  p.n = axes->n;
  p.inner = axes->inner;
  const int64_t at_once = p.inner == 1 ? 1 : kStrip;
  parallel_for(y.elements(), std::max<int64_t>(1, kElementGrain / (p.n * at_once)) * at_once,
               [&](int64_t from, int64_t to) { backend.kernels().reduce(p, from, to); });
  return done({y});
}

Outcome run_mean_pool(const CpuBackend& backend, const Node&, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &lengths = inputs[1];
  if (!all_of_one_type(inputs.first(1)) || x.rank() != 3 || lengths.dtype() != DType::i64 ||
      !(lengths.shape() == Shape{x.dim(0)}))
    return not_handled();
  const std::span<const int64_t> counts = lengths.data<int64_t>();
  for (int64_t n : counts)
    if (n < 0 || n > x.dim(1)) return not_handled();
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), {x.dim(0), x.dim(2)}));
  const int64_t width = x.dim(2), row_bytes = width * static_cast<int64_t>(size_of(x.dtype()));
  parallel_for(x.dim(0), 1, [&](int64_t from, int64_t to) {
    for (int64_t b = from; b < to; ++b) {
      Reduction p;
      p.type = x.dtype();
      p.kind = counts[b] == 0 ? ReduceKernel::sum : ReduceKernel::mean;  // of nothing: +0
      p.x = x.bytes().data() + b * x.dim(1) * row_bytes;
      p.y = y.mutable_bytes().data() + b * row_bytes;
      p.n = counts[b];
      p.inner = width;
      backend.kernels().reduce(p, 0, width);
    }
  });
  return done({y});
}

}  // namespace verbatim
