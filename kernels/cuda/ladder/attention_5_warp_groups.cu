// The idea: products need no instructions while they run. Both are a warp group's (wgmma), from
// tiles that the copy engine brings; a block's values are multiplied while the next block's scores
// become weights, and another group's products run meanwhile. This is what the backend runs on Hopper: the kernel is attend_groups()
// (group_attention.cuh), and attend_tiles() behind it where a value that is not finite meets a row
// that does not see its key.
//
// What bounds it: registers, which both weights and products read (docs/results/gpu-kernels.md).
#include <verbatim/kernels/cuda/ladder/attention.cuh>

namespace verbatim::cuda::ladder {

Status attend_warp_groups(Gpu& gpu, const Attention& p) {
  return attend_by_warp_groups(gpu, call_of(p));
}

}  // namespace verbatim::cuda::ladder
