// SlicedLinear and QuantizedLinear: tasks over tiles of the result.
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/sliced.h>

#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

constexpr int64_t kTaskRows = 32, kTaskColumns = 64;

// All of p.out, whose shape is `shape`.
Outcome run_product(const CpuBackend& backend, SlicedProduct& p, const Shape& shape) {
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, shape));
  p.out = out.mutable_data<float>().data();
  const int64_t row_tasks = (p.m + kTaskRows - 1) / kTaskRows,
                column_tasks = (p.n + kTaskColumns - 1) / kTaskColumns;
  parallel_for(row_tasks * column_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / column_tasks * kTaskRows, column = i % column_tasks * kTaskColumns;
      backend.kernels().sliced_product(p, row, std::min(row + kTaskRows, p.m), column,
                                       std::min(column + kTaskColumns, p.n));
    }
  });
  return done({out});
}

}  // namespace

Outcome run_sliced_linear(const CpuBackend& backend, const Node&, std::span<const Tensor> inputs) {
  const Tensor &a = inputs[0], &b = inputs[2];
  const Tensor bias = inputs.size() > 4 ? inputs[4] : Tensor();
  if (!check_sliced(a, inputs[1]).ok() || !check_sliced(b, inputs[3]).ok() || b.rank() != 3)
    return not_handled();
  SlicedProduct p;
  p.m = inputs[1].elements();
  p.n = b.dim(1);
  p.k = b.dim(2);
  if (a.dim(a.rank() - 1) != p.k) return not_handled();
  if (bias.defined() && (bias.dtype() != DType::f32 || !(bias.shape() == Shape{p.n})))
    return not_handled();
  std::vector<int64_t> dims(inputs[1].shape().dims().begin(), inputs[1].shape().dims().end());
  dims.push_back(p.n);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  p.a = a.data<int8_t>().data();
  p.b = b.data<int8_t>().data();
  p.a_exponents = inputs[1].data<int32_t>().data();
  p.b_exponents = inputs[3].data<int32_t>().data();
  p.a_count = a.dim(0);
  p.b_count = b.dim(0);
  if (bias.defined()) p.bias = bias.data<float>().data();
  return run_product(backend, p, shape);
}

Outcome run_quantized_linear(const CpuBackend& backend, const Node&,
                             std::span<const Tensor> inputs) {
  const auto given = [&](size_t i) { return inputs.size() > i && inputs[i].defined(); };
  if (given(4)) return run_low_bit_linear(backend, inputs);
  const Result<Shape> shape = check_quantized_linear(inputs);
  if (!shape.ok()) return not_handled();
  SlicedProduct p;
  p.m = inputs[1].elements();
  p.n = inputs[2].dim(0);
  p.k = inputs[2].dim(1);
  p.a = inputs[0].data<int8_t>().data();
  p.b = inputs[2].data<int8_t>().data();
  p.a_scales = inputs[1].data<float>().data();
  p.b_scales = inputs[3].data<float>().data();
  if (given(5)) p.bias = inputs[5].data<float>().data();
  return run_product(backend, p, *shape);
}

}  // namespace verbatim
