#include <verbatim/kernels/cuda/device.h>

namespace verbatim::cuda {
namespace {

__global__ void probe() {}

}  // namespace

Status check(cudaError_t error) {
  if (error == cudaSuccess) return {};
  return unavailable(std::string("CUDA: ") + cudaGetErrorString(error));
}

Result<Device> find_device() {
  int index = 0;
  VB_TRY(check(cudaGetDevice(&index)));
  cudaDeviceProp properties;
  VB_TRY(check(cudaGetDeviceProperties(&properties, index)));
  Device device{properties.name,           properties.major,
                properties.minor,          properties.multiProcessorCount,
                properties.totalGlobalMem, properties.sharedMemPerBlockOptin};
  VB_TRY(check(cudaDriverGetVersion(&device.driver)));
  VB_TRY(check(cudaRuntimeGetVersion(&device.runtime)));
  cudaFuncAttributes attributes;
  const Status runs = check(cudaFuncGetAttributes(&attributes, probe));
  if (!runs.ok())
    return runs.with_context(device.name + " (compute capability " + std::to_string(device.major) +
                             "." + std::to_string(device.minor) + ")");
  device.hopper = device.major == 9 && attributes.ptxVersion >= 90;
  return device;
}

}  // namespace verbatim::cuda
