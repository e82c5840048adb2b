// Products of fp8 as Hopper's wgmma computes them (docs/numerics.md, Family C). A chain goes over
// all of K, over a slice of it, or over the 128 elements after which a precise product adds to its
// master sum; mma.sync adds fp8 in another way, and has no part here.
#include <verbatim/kernels/cuda/tensor_core_linear.cuh>

namespace verbatim::cuda {
namespace {

using tensor_core::E4M3Format;
using tensor_core::E5M2Format;

TileOperands codes_of(const tensor_core::LinearOperands& o) { return {o.x, o.w, o.m, o.n, o.k}; }

template <class X, class W>
Status multiply_formats(Gpu& gpu, const tensor_core::LinearOperands& o, void* out) {
  const int64_t chain =
      o.chains.precise ? tensor_core::kPreciseBlock : (o.chains.split > 1 ? o.chains.slice : o.k);
  VB_ASSIGN(const WordOperands words, in_words(gpu, codes_of(o), o.m, o.n));
  return visit_storage(o.output, [&](auto type) {
    using Out = decltype(type);
    return multiply_in_groups<FloatUnit<X, W>>(
        gpu, words.codes, ceiling(chain, kSlabBytes),
        LinearEpilogue<Out>{o.epilogue, static_cast<Out*>(out)});
  });
}

}  // namespace

// A master sum for each slice would be a third level of sums.
bool suits_float8(const Gpu& gpu, const tensor_core::LinearOperands& o) {
  return !(o.chains.precise && o.chains.split > 1) && fits_groups(gpu, codes_of(o));
}

Status multiply_float8(Gpu& gpu, const tensor_core::LinearOperands& o, DType x, DType w,
                       void* out) {
  if (x == DType::f8e4m3)
    return w == x ? multiply_formats<E4M3Format, E4M3Format>(gpu, o, out)
                  : multiply_formats<E4M3Format, E5M2Format>(gpu, o, out);
  return w == x ? multiply_formats<E5M2Format, E5M2Format>(gpu, o, out)
                : multiply_formats<E5M2Format, E4M3Format>(gpu, o, out);
}

}  // namespace verbatim::cuda
