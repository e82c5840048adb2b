// The idea: shared memory holds three steps' tiles. While one is multiplied, the next two are on
// their way by copies that no thread waits for (cp.async), and one barrier a step says both that
// the next tiles are there and that the last ones may be written over. Blocks of results are 128 x
// 128, so that a code that was read serves 128 times. This is what the backend runs on GPUs before
// Hopper: the loop itself is TileProduct's (tile_product.cuh).
//
// What bounds it: instructions beside the products. Each warp loads its operands from shared memory
// into registers, and each thread asks for its copies.
#include <verbatim/kernels/cuda/ladder/ladder.h>
#include <verbatim/kernels/cuda/tile_product.cuh>

namespace verbatim::cuda::ladder {
namespace {

using Product = TileProduct<Int8Unit, 128, 128>;

__global__ void __launch_bounds__(kProductThreads) multiply_ahead(TileOperands codes, int32_t* c) {
  Product product(codes);
  product.run([](int64_t) {});
  product.each([&](int i, int j, int e, int64_t row, int64_t column) {
    c[row * codes.n + column] = product.sum[i][j][e];
  });
}

}  // namespace

Status multiply_copies_ahead(Gpu& gpu, const Gemm& p) {
  const TileOperands codes{p.a, p.b, p.m, p.n, p.k};
  return launch(gpu, Product::grid(codes), multiply_ahead, codes, p.c);
}

}  // namespace verbatim::cuda::ladder
