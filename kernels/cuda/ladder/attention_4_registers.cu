// The idea: where a product on the tensor cores leaves scores is where the next one wants weights,
// so they never leave registers (attention_tiles.cuh): a row's maximum takes two exchanges between
// the four threads that have it, and those only where it may rise. Keys and values come in slabs
// through a ring, the next ones on their way while these are multiplied. This is what the backend runs on GPUs before
// Hopper, and for few rows: the kernel is attend_tiles() (tensor_core_attention.cu).
//
// What bounds it: instructions beside the products. Weights take more of them than products do,
// and the tensor cores stand still meanwhile, unless another warp multiplies.
#include <verbatim/kernels/cuda/ladder/attention.cuh>

namespace verbatim::cuda::ladder {

Status attend_registers(Gpu& gpu, const Attention& p) { return attend_by_warps(gpu, call_of(p)); }

}  // namespace verbatim::cuda::ladder
