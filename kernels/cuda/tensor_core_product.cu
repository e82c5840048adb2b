// Products of bf16 and fp16 as tensor cores compute them (docs/numerics.md, Family C), by the
// tensor cores: one ascending chain for each result, or for each slice of K, whose sums are added
// in binary32. Where the device's units are not those of the contract, nothing runs here.
#include <verbatim/kernels/cuda/kernels.h>
#include <verbatim/kernels/cuda/stream_product.cuh>
#include <verbatim/kernels/cuda/tensor_core_linear.cuh>

namespace verbatim::cuda {
namespace {

using tensor_core::BFloat16Format;
using tensor_core::HalfFormat;

template <class Out>
struct Call {
  TileOperands codes;  // of 16 bits
  int64_t slice;       // elements, a multiple of a step's where there are several
  LinearEpilogue<Out> epilogue;
};

// `kSliced`: K is cut, and what a slice's chain gave joins the sum of those before it.
template <class Format, class Out, bool kSliced, int kRows, int kColumns>
__global__ void __launch_bounds__(kProductThreads) multiply_as_units(Call<Out> p) {
  using Product = TileProduct<FloatUnit<Format>, kRows, kColumns>;
  Product product(p.codes);
  float total[kSliced ? Product::kI : 1][kSliced ? Product::kJ : 1][4];
  int64_t slices = 0;
  const auto end_slice = [&] {
    if constexpr (kSliced) {
#pragma unroll
      for (int i = 0; i < Product::kI; ++i)
#pragma unroll
        for (int j = 0; j < Product::kJ; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            float& sum = product.sum[i][j][e];
            total[i][j][e] = slices == 0 ? sum : total[i][j][e] + sum;
            sum = 0;
          }
      ++slices;
    }
  };
  constexpr int kStep = Product::kStepBytes / 2;
  product.run([&](int64_t step) {
    if (kSliced && step > 0 && step * kStep % p.slice == 0) end_slice();
  });
  end_slice();
  product.each([&](int i, int j, int e, int64_t m, int64_t n) {
    float sum = product.sum[i][j][e];
    if constexpr (kSliced) sum = total[i][j][e];
    p.epilogue.out[m * p.codes.n + n] =
        p.epilogue.finished(sum, p.epilogue.row(m), p.epilogue.column(n));
  });
}

template <class Format, class Out, bool kSliced, int kRows, int kColumns>
Status launch_tiles(Gpu& gpu, const Call<Out>& p) {
  return launch(gpu, TileProduct<FloatUnit<Format>, kRows, kColumns>::grid(p.codes),
                multiply_as_units<Format, Out, kSliced, kRows, kColumns>, p);
}

template <class Format, class Out>
Status launch_product(Gpu& gpu, const Call<Out>& p) {
  if (suits_groups(gpu, p.codes)) {
    using Unit = FloatUnit<Format>;
    const int64_t per_fold = ceiling(2 * p.slice, kSlabBytes);
    return p.codes.m <= kStreamRows ? multiply_in_stream<Unit>(gpu, p.codes, per_fold, p.epilogue)
                                    : multiply_in_groups<Unit>(gpu, p.codes, per_fold, p.epilogue);
  }
  const bool sliced = 2 * p.slice < p.codes.row_bytes;
  if (p.codes.m <= 32)
    return sliced ? launch_tiles<Format, Out, true, 32, 64>(gpu, p)
                  : launch_tiles<Format, Out, false, 32, 64>(gpu, p);
  return sliced ? launch_tiles<Format, Out, true, 64, 128>(gpu, p)
                : launch_tiles<Format, Out, false, 128, 128>(gpu, p);
}

template <class Format>
Status multiply_formats(Gpu& gpu, const tensor_core::LinearOperands& o, void* out) {
  return visit_storage(o.output, [&](auto type) {
    using Out = decltype(type);
    return launch_product<Format, Out>(
        gpu, Call<Out>{.codes = {o.x, o.w, o.m, o.n, 2 * o.k},
                       .slice = o.chains.split == 1 ? o.k : o.chains.slice,
                       .epilogue = {o.epilogue, static_cast<Out*>(out)}});
  });
}

}  // namespace

Outcome run_tensor_core_linear(Gpu& gpu, const KernelBackend& backend, const Node& node,
                               std::span<const Tensor> inputs) {
  const Result<tensor_core::LinearOperands> operands = tensor_core::linear_operands(node, inputs);
  if (!operands.ok()) return not_handled();
  const tensor_core::LinearOperands& o = *operands;
  const DType type = inputs[0].dtype();
  const bool float8 = is_float8(type);
  if (o.unit.unpacked ||
      !(o.unit.rule == (float8 ? tensor_core::kSm90Float8 : tensor_core::kSm90)) ||
      (float8 && !suits_float8(gpu, o)))
    return not_handled();
  VB_ASSIGN(const Shape shape, Shape::of(o.dims));
  VB_ASSIGN(Tensor out, backend.allocate(o.output, shape));
  if (out.elements() == 0) return done({out});
  void* y = out.mutable_address();
  if (float8)
    VB_TRY(multiply_float8(gpu, o, type, inputs[1].dtype(), y));
  else
    VB_TRY(type == DType::bf16 ? multiply_formats<BFloat16Format>(gpu, o, y)
                               : multiply_formats<HalfFormat>(gpu, o, y));
  return done({out});
}

}  // namespace verbatim::cuda
