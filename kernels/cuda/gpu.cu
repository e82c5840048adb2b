#include <verbatim/kernels/cuda/gpu.h>

#include <algorithm>
#include <cstring>

namespace verbatim::cuda {
namespace {

// What a launch carries along: so few bytes go to the device without a copy that the host would
// have to wait for.
struct Carried {
  static constexpr size_t kBytes = 2048, kMostTimes = 8;
  unsigned char bytes[kBytes];
};
__global__ void __launch_bounds__(256) put(Carried carried, unsigned char* to, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x))
    to[i] = carried.bytes[i];
}

}  // namespace

Result<Gpu*> Gpu::get() {
  static const Result<Gpu*> made = []() -> Result<Gpu*> {
    VB_ASSIGN(Device device, find_device());
    std::unique_ptr<Gpu> gpu(new Gpu(std::move(device)));
#if !defined(VERBATIM_EMULATED_GPU)
    VB_TRY(check(cudaStreamCreateWithFlags(&gpu->stream_, cudaStreamNonBlocking)));
    // What is given back stays with the pool, so that a loop of the same sizes asks the driver
    // once.
    int index = 0;
    VB_TRY(check(cudaGetDevice(&index)));
    cudaMemPool_t pool;
    uint64_t keep = ~uint64_t{0};
    VB_TRY(check(cudaDeviceGetDefaultMemPool(&pool, index)));
    VB_TRY(check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep)));
#endif
    return gpu.release();  // tensors may outlive whatever would destroy it
  }();
  return made;
}

Status Gpu::fault() const {
  const cudaError_t error = cudaStreamQuery(stream_);
  return error == cudaErrorNotReady ? Status() : check(error);
}

#if !defined(VERBATIM_EMULATED_GPU)
Status Gpu::allow_shared(const void* kernel, size_t bytes) const {
  const std::lock_guard lock(mutex_);
  auto it = allowed_.find(kernel);
  if (it == allowed_.end()) {
    cudaFuncAttributes attributes;
    VB_TRY(check(cudaFuncGetAttributes(&attributes, kernel)));
    const size_t left = device_.most_shared - attributes.sharedSizeBytes;
    VB_TRY(check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(left))));
    // All of it, so that as many blocks as fit are there together.
    VB_TRY(check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                      cudaSharedmemCarveoutMaxShared)));
    it = allowed_.emplace(kernel, left).first;
  }
  if (bytes <= it->second) return {};
  return over_limit("CUDA: a kernel of " + std::to_string(bytes) +
                    " bytes of shared memory, where " + std::to_string(it->second) + " are left");
}
#endif

void* Gpu::take(size_t bytes) {
  void* memory = nullptr;
  const size_t some = bytes == 0 ? 1 : bytes;
  if (cudaMallocAsync(&memory, some, stream_) == cudaSuccess) return memory;
  (void)cudaGetLastError();  // said by null, and not again by the next launch
  return nullptr;
}

void Gpu::give_back(void* memory, size_t) {
  {
    const std::lock_guard lock(mutex_);
    known_.erase(memory);
  }
  cudaFreeAsync(memory, stream_);
}

void Gpu::know(const Tensor& t, Known what, int64_t first) {
  const std::lock_guard lock(mutex_);
  known_[t.address()] = {what, first};
}

bool Gpu::knows(const Tensor& t, Known what, int64_t first) const {
  const std::lock_guard lock(mutex_);
  const auto it = known_.find(t.address());
  return it != known_.end() && it->second == std::pair(what, first);
}

Status Gpu::copy_to_host(void* host, const void* device, size_t bytes) {
  VB_TRY(check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_)));
  return check(cudaStreamSynchronize(stream_));
}

Status Gpu::copy_from_host(void* device, const void* host, size_t bytes) {
  if (bytes <= Carried::kMostTimes * Carried::kBytes) {
    for (size_t at = 0; at < bytes; at += Carried::kBytes) {
      Carried carried;
      const size_t count = std::min(Carried::kBytes, bytes - at);
      std::memcpy(carried.bytes, static_cast<const std::byte*>(host) + at, count);
      VB_TRY(launch(*this, {.blocks = {1, 1, 1}, .threads = {256, 1, 1}}, put, carried,
                    static_cast<unsigned char*>(device) + at, static_cast<int>(count)));
    }
    return {};
  }
  VB_TRY(check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_)));
  return check(cudaStreamSynchronize(stream_));
}

Result<Tensor> upload(Gpu& gpu, std::span<const int64_t> values) {
  const int64_t dims[] = {static_cast<int64_t>(values.size())};
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor t, Tensor::allocate_on(gpu, DType::i64, shape, Purpose::scratch));
  VB_TRY(gpu.copy_from_host(t.mutable_address(), values.data(), values.size_bytes()));
  return t;
}

Status Gpu::copy(void* to, const void* from, size_t bytes) {
  return check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_));
}

}  // namespace verbatim::cuda
