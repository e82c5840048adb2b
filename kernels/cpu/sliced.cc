// SlicedLinear and QuantizedLinear: packing of the weights and tasks over tiles of the result.
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/sliced.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>

namespace verbatim {
namespace {

int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Bytes of copies of A's rows at a time: a short row takes many times its own.
constexpr int64_t kMostCopied = int64_t{64} << 20;

// So many rows of A are copied at once, whole tasks.
int64_t rows_at_once(const CpuKernels& kernels, SlicedProduct p, const SlicedTask& task) {
  if (p.m <= task.rows) return p.m;
  p.m = task.rows;
  return std::max<int64_t>(1, kMostCopied / std::max<int64_t>(1, kernels.sliced_copy_bytes(p))) *
         task.rows;
}

// `rows` rows of A and of the result from `row` on.
SlicedProduct part_of(SlicedProduct p, int64_t row, int64_t rows) {
  p.a += row * p.k;
  if (p.a_powers != nullptr) p.a_powers += row;
  if (p.a_scales != nullptr) p.a_scales += row;
  p.out += row * p.n;
  p.m = rows;
  return p;
}

// Copies A's rows for the product. False: a code is out of range.
bool copy_rows(const CpuKernels& kernels, const SlicedProduct& p, int64_t unit, uint8_t* copies) {
  constexpr int64_t kBytes = 1 << 17;  // of a task
  std::atomic<bool> within = true;
  parallel_for(ceiling(p.m, unit), ceiling(kBytes, unit * (p.k + 1) * p.a_count),
               [&](int64_t begin, int64_t end) {
                 if (!kernels.sliced_copy(p, begin * unit, std::min(end * unit, p.m), copies))
                   within = false;
               });
  return within;
}

void multiply(const CpuKernels& kernels, const SlicedProduct& p) {
  const SlicedTask task = kernels.sliced_task(p);
  const int64_t panels = ceiling(p.n, kernels.sliced_panel), units = ceiling(p.m, task.row_unit),
                row_tasks = ceiling(p.m, task.rows), column_tasks = ceiling(panels, task.panels);
  parallel_for(row_tasks * column_tasks, 1, [&](int64_t begin, int64_t end) {
    float* scratch = thread_scratch(kernels.sliced_scratch(p, task));
    for (int64_t i = begin; i < end; ++i) {
      // One after the other with the same rows, which then are at hand.
      const int64_t row = i / column_tasks, column = i % column_tasks;
      kernels.sliced_product(p, units * row / row_tasks * task.row_unit,
                             std::min(units * (row + 1) / row_tasks * task.row_unit, p.m),
                             panels * column / column_tasks, panels * (column + 1) / column_tasks,
                             scratch);
    }
  });
}

// p's product with packed weights, its result of `shape`.
Outcome run_product(const CpuBackend& backend, const Tensor& weights, SlicedProduct p,
                    const Shape& shape) {
  const CpuKernels& kernels = backend.kernels();
  const int64_t at_once = rows_at_once(kernels, p, kernels.sliced_task(p));
  p.a_slice = p.m * p.k;
  SlicedProduct most = p;
  most.m = std::min(p.m, at_once);
  VB_ASSIGN(Tensor copies,
            Tensor::allocate(DType::u8, Shape{kernels.sliced_copy_bytes(most)}, Purpose::scratch));
  VB_ASSIGN(const PackedCodes packed, backend.packed_codes(weights));
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, shape));
  uint8_t* const copied = copies.mutable_data<uint8_t>().data();
  p.copies = copied;
  p.b = packed.codes.data<int8_t>().data();
  p.out = out.mutable_data<float>().data();
  for (int64_t row = 0; row < p.m; row += at_once) {
    const SlicedProduct part = part_of(p, row, std::min(at_once, p.m - row));
    if (!copy_rows(kernels, part, kernels.sliced_task(part).row_unit, copied)) return not_handled();
    multiply(kernels, part);
  }
  return done({out});
}

// 2^(e - scale) for each exponent, NaN for a flagged row; zeros up to `size`.
Result<Tensor> powers_of_two(const Tensor& exponents, int scale, int64_t size) {
  VB_ASSIGN(Tensor powers, Tensor::zeros(DType::f64, Shape{size}, Purpose::scratch));
  std::ranges::transform(exponents.data<int32_t>(), powers.mutable_data<double>().begin(),
                         [scale](int32_t e) {
                           return e == kFlaggedRow ? std::numeric_limits<double>::quiet_NaN()
                                                   : std::ldexp(1.0, e - scale);
                         });
  return powers;
}

}  // namespace

Result<PackedCodes> pack_slices(const CpuKernels& kernels, const Tensor& w) {
  VB_TRY(w.rank() == 3 ? check_slice_codes(w) : check_quantized_codes(w));
  const int64_t slices = w.rank() == 3 ? w.dim(0) : 1, n = w.dim(w.rank() - 2),
                k = w.dim(w.rank() - 1), panels = ceiling(n, kernels.sliced_panel),
                bytes = kernels.sliced_panel_bytes(k);
  VB_ASSIGN(Tensor codes, Tensor::allocate(DType::i8, {slices, panels, bytes}, Purpose::scratch));
  int8_t* const packed = codes.mutable_data<int8_t>().data();
  parallel_for(slices * panels, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t slice = i / panels, panel = i % panels;
      kernels.sliced_pack(w.data<int8_t>().data() + slice * n * k, k, n, panel, panel + 1,
                          packed + slice * panels * bytes);
    }
  });
  return PackedCodes{.codes = codes, .infos = {}, .group_scales = {}};
}

Outcome run_sliced_linear(const CpuBackend& backend, const Node&, std::span<const Tensor> inputs) {
  const Tensor &a = inputs[0], &b = inputs[2];
  const Tensor bias = inputs.size() > 4 ? inputs[4] : Tensor();
  const Result<Shape> shape = check_sliced_linear(inputs);
  if (!shape.ok() || !check_slice_exponents(inputs[1].data<int32_t>()).ok() ||
      !check_slice_exponents(inputs[3].data<int32_t>()).ok())
    return not_handled();
  const int64_t n = b.dim(1), m = inputs[1].elements(), panel = backend.kernels().sliced_panel;
  const int order = static_cast<int>(std::max(a.dim(0), b.dim(0))) - 1;
  VB_ASSIGN(const Tensor a_powers, powers_of_two(inputs[1], 7 * (order + 2), m));
  VB_ASSIGN(const Tensor b_powers, powers_of_two(inputs[3], 0, ceiling(n, panel) * panel));
  return run_product(backend, b,
                     {.a = a.data<int8_t>().data(),
                      .a_powers = a_powers.data<double>().data(),
                      .b_powers = b_powers.data<double>().data(),
                      .a_count = a.dim(0),
                      .b_count = b.dim(0),
                      .m = m,
                      .n = n,
                      .k = b.dim(2),
                      .bias = bias.defined() ? bias.data<float>().data() : nullptr},
                     *shape);
}

Outcome run_quantized_linear(const CpuBackend& backend, const Node&,
                             std::span<const Tensor> inputs) {
  const auto given = [&](size_t i) { return inputs.size() > i && inputs[i].defined(); };
  if (given(4)) return run_low_bit_linear(backend, inputs);
  const Result<Shape> shape = check_quantized_linear(inputs);
  if (!shape.ok()) return not_handled();
  return run_product(backend, inputs[2],
                     {.a = inputs[0].data<int8_t>().data(),
                      .a_scales = inputs[1].data<float>().data(),
                      .b_scales = inputs[3].data<float>().data(),
                      .m = inputs[1].elements(),
                      .n = inputs[2].dim(0),
                      .k = inputs[2].dim(1),
                      .bias = given(5) ? inputs[5].data<float>().data() : nullptr},
                     *shape);
}

}  // namespace verbatim
