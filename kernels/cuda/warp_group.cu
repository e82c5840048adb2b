#include <verbatim/kernels/cuda/warp_group.cuh>

#if !defined(VERBATIM_EMULATED_GPU)
#include <string>

namespace verbatim::cuda {
namespace {

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

// From the driver, by way of the runtime: programs that use no GPU start without libcuda.
Result<EncodeTiled> find_encoder() {
  constexpr unsigned kSince = 12000;  // CUDA 12.0
  void* encode = nullptr;
  cudaDriverEntryPointQueryResult found;
  VB_TRY(check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, kSince,
                                                cudaEnableDefault, &found)));
  if (found != cudaDriverEntryPointSuccess || encode == nullptr)
    return unavailable("CUDA: the driver has no cuTensorMapEncodeTiled");
  return reinterpret_cast<EncodeTiled>(encode);
}

}  // namespace

Result<TileMap> map_tiles(const void* base, int64_t rows, int64_t row_bytes, int box_rows) {
  static const Result<EncodeTiled> encode = find_encoder();
  VB_TRY(encode.status());
  const cuuint64_t dims[] = {static_cast<cuuint64_t>(row_bytes), static_cast<cuuint64_t>(rows)},
                   strides[] = {static_cast<cuuint64_t>(row_bytes)};
  const cuuint32_t box[] = {kSlabBytes, static_cast<cuuint32_t>(box_rows)}, steps[] = {1, 1};
  TileMap map;
  const CUresult result =
      (*encode)(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void*>(base), dims, strides, box,
                steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    return unavailable("CUDA: cuTensorMapEncodeTiled: error " + std::to_string(result));
  return map;
}

}  // namespace verbatim::cuda
#endif
