// Which work a rung takes, and what code that is not CUDA's asks for.
#include <verbatim/kernels/cuda/ladder/ladder.h>
#include <verbatim/kernels/cuda/group_product.cuh>
#include <verbatim/kernels/cuda/ladder/attention.cuh>

namespace verbatim::cuda::ladder {

bool suits_any(const Gpu&, const Gemm&) { return true; }
bool suits_copy_engine(const Gpu& gpu, const Gemm& p) {
  return suits_groups(gpu, TileOperands{p.a, p.b, p.m, p.n, p.k});
}

bool suits_small_heads(const Gpu&, const Attention& p) { return p.size <= kMostSize; }
bool suits_units(const Gpu& gpu, const Attention& p) {
  return gpu.device().hopper && suits_small_heads(gpu, p);
}
bool suits_warp_groups(const Gpu& gpu, const Attention& p) {
  return attends_by_warp_groups(gpu, call_of(p));
}

Result<Gpu*> find_gpu() { return Gpu::get(); }
DeviceMemory& memory_of(Gpu& gpu) { return gpu; }

}  // namespace verbatim::cuda::ladder
