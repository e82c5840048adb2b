// The GPU that this process uses: finding it, its memory, its errors. Included by CUDA sources and,
// without the toolkit's headers, by whoever wants to describe it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <verbatim/core/status.h>
#if defined(__CUDACC__) || defined(VERBATIM_EMULATED_GPU)
#include <cuda_runtime.h>
#endif

namespace verbatim::cuda {

struct Device {
  std::string name;          // "NVIDIA H100 80GB HBM3"
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  uint64_t memory = 0;          // bytes
  size_t most_shared = 0;       // bytes, of a block of threads
  bool hopper = false;          // the code for sm_90a runs: warp groups and the copy engine
  int driver = 0, runtime = 0;  // CUDA versions: 1000 * major + 10 * minor
};

// The current device. Errors: unavailable, where there is no driver, no device, or none that runs
// this program's code (sm_80 and later).
Result<Device> find_device();

#if defined(__CUDACC__) || defined(VERBATIM_EMULATED_GPU)
// A call's error, as unavailable: what fails here is the machine's.
Status check(cudaError_t error);

struct Free {
  void operator()(void* p) const { cudaFree(p); }
};
template <class T>
using Memory = std::unique_ptr<T[], Free>;

template <class T>
Status allocate(Memory<T>& memory, int64_t count) {
  void* p = nullptr;
  VB_TRY(check(cudaMalloc(&p, static_cast<size_t>(count) * sizeof(T))));
  memory.reset(static_cast<T*>(p));
  return {};
}
#endif

}  // namespace verbatim::cuda
