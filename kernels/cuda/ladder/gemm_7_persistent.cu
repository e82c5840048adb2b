// The idea: no seams. One warp group copies and two multiply, and each goes on from block to block
// of results, so that the next block's tiles come while the last one's results go; a slab's tiles
// are given back while the next slab's products are under way; and blocks of results are up to 256
// columns wide.
// This is what the backend runs on Hopper for more than 64 rows: the loop itself is GroupProduct's
// (group_product.cuh).
//
// What bounds it: the tensor cores.
#include <verbatim/kernels/cuda/ladder/ladder.h>
#include <verbatim/kernels/cuda/group_product.cuh>

namespace verbatim::cuda::ladder {

struct SumsEpilogue {
  using Out = int32_t;
  struct Row {};
  struct Column {};
  int32_t* out;
  __device__ Row row(int64_t) const { return {}; }
  __device__ Column column(int64_t) const { return {}; }
  __device__ Out finished(int32_t sum, Row, Column) const { return sum; }
};

Status multiply_persistent(Gpu& gpu, const Gemm& p) {
  return multiply_in_groups<Int8Unit>(gpu, {p.a, p.b, p.m, p.n, p.k}, ceiling(p.k, kSlabBytes),
                                      SumsEpilogue{p.c});
}

}  // namespace verbatim::cuda::ladder
