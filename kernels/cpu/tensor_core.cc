// TensorCoreLinear: packing of the weights, tasks over tiles of the result, what follows a product.
#include <verbatim/repops/ops/tensor_core.h>

#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/kernels/cpu/cpu_backend.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {
namespace {

using namespace tensor_core;

constexpr int64_t kTaskPanels = 16;

int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Codes of 16 bits for each fp8 number: bf16 holds all of them.
Result<Tensor> widened(const Tensor& t) {
  if (!is_float8(t.dtype())) return t;
  VB_ASSIGN(Tensor wide, Tensor::allocate(DType::bf16, t.shape(), Purpose::scratch));
  uint16_t codes[256];
  for (unsigned i = 0; i < 256; ++i) {
    const auto code = static_cast<uint8_t>(i);
    codes[i] = bfloat16_from_float(t.dtype() == DType::f8e4m3 ? float_from_e4m3(code)
                                                              : float_from_e5m2(code));
  }
  const auto* from = reinterpret_cast<const uint8_t*>(t.bytes().data());
  auto* to = reinterpret_cast<uint16_t*>(wide.mutable_bytes().data());
  parallel_for(t.elements(), 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = codes[from[i]];
  });
  return wide;
}

// The biased exponent, as binary32's, of a type's subnormal numbers.
int least_exponent(DType type) {
  switch (type) {
    case DType::f16:
    case DType::f8e5m2:
      return 127 - 14;
    case DType::f8e4m3:
      return 127 - 6;
    default:
      return 1;
  }
}

const uint16_t* codes_of(const Tensor& t) {
  return reinterpret_cast<const uint16_t*>(t.bytes().data());
}

// What computes single elements by the definition.
struct Exact {
  const LinearOperands* operands;
  float* out;
};
void compute_exactly(const void* context, int64_t row, int64_t column, int64_t column_end) {
  const auto* exact = static_cast<const Exact*>(context);
  const LinearOperands& o = *exact->operands;
  for (int64_t n = column; n < column_end; ++n) exact->out[row * o.n + n] = o.sum(o, row, n);
}

}  // namespace

Result<PackedCodes> pack_floats(const CpuKernels& kernels, const Tensor& w) {
  VB_ASSIGN(const Tensor wide, widened(w));
  const int64_t n = w.dim(0), k = w.dim(1), width = kernels.tensor_core_panel,
                panels = ceiling(n, width),
                padded = ceiling(k, kTensorCoreGroup) * kTensorCoreGroup;
  PackedCodes packed;
  VB_ASSIGN(packed.codes, Tensor::allocate(DType::u16, {panels, padded, width}, Purpose::scratch));
  VB_ASSIGN(packed.infos,
            Tensor::allocate(DType::i16, {panels, width + kTensorCoreInfo}, Purpose::scratch));
  uint16_t* codes = packed.codes.mutable_data<uint16_t>().data();
  int16_t* infos = packed.infos.mutable_data<int16_t>().data();
  parallel_for(panels, 4, [&](int64_t begin, int64_t end) {
    kernels.tensor_core_pack(codes_of(wide), w.dtype() == DType::f16, least_exponent(w.dtype()), k,
                             n, begin, end, codes, infos);
  });
  return packed;
}

Outcome run_tensor_core_linear(const CpuBackend& backend, const Node& node,
                               std::span<const Tensor> inputs) {
  const Result<LinearOperands> operands = linear_operands(node, inputs);
  if (!operands.ok() || operands->unit.unpacked) return not_handled();
  const LinearOperands& o = *operands;
  VB_ASSIGN(const Tensor a, widened(inputs[0]));
  VB_ASSIGN(const PackedCodes b, backend.packed_codes(inputs[1]));
  VB_ASSIGN(const Shape shape, Shape::of(o.dims));
  VB_ASSIGN(Tensor sums, Tensor::allocate(DType::f32, shape));
  const Exact exact = {&o, sums.mutable_data<float>().data()};
  const TensorCoreProduct p = {.a = codes_of(a),
                               .b = b.codes.data<uint16_t>().data(),
                               .infos = b.infos.data<int16_t>().data(),
                               .n = o.n,
                               .k = o.k,
                               .half = inputs[0].dtype() == DType::f16,
                               .least_a = least_exponent(inputs[0].dtype()),
                               .least_b = least_exponent(inputs[1].dtype()),
                               .group = o.unit.rule.group,
                               .fraction = o.unit.rule.fraction,
                               .kept = o.unit.rule.kept,
                               .split = o.chains.split,
                               .slice = o.chains.slice,
                               .restart = o.chains.precise ? kPreciseBlock : 0,
                               .out = exact.out,
                               .exactly = compute_exactly,
                               .context = &exact};
  const int64_t panels = ceiling(o.n, backend.kernels().tensor_core_panel),
                row_tasks = ceiling(o.m, kTensorCoreRows),
                column_tasks = ceiling(panels, kTaskPanels);
  parallel_for(row_tasks * column_tasks, 1, [&](int64_t begin, int64_t end) {
    float* scratch = thread_scratch(backend.kernels().tensor_core_scratch(o.k));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / column_tasks, column = i % column_tasks;
      backend.kernels().tensor_core_product(p, o.m * row / row_tasks, o.m * (row + 1) / row_tasks,
                                            panels * column / column_tasks,
                                            panels * (column + 1) / column_tasks, scratch);
    }
  });
  VB_ASSIGN(Tensor out, finish_linear(o, std::move(sums)));
  return done({out});
}

}  // namespace verbatim
