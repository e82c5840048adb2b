#include <verbatim/kernels/cuda/gpu.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

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

// Of the thread that records.
struct Recorder {
  cudaStream_t stream = nullptr;
  Arena* arena = nullptr;
  bool failed = false;  // something was asked for that cannot be recorded
};
thread_local Recorder t_recorder;
thread_local uint64_t t_waits = 0;

}  // namespace

bool Arena::has(const void* address) const {
  return std::ranges::any_of(blocks, [&](const Block& b) {
    return std::less_equal<>()(b.memory, address) &&
           std::less<>()(address, static_cast<const std::byte*>(b.memory) + b.bytes);
  });
}

Result<Gpu*> Gpu::get() {
  static const Result<Gpu*> made = []() -> Result<Gpu*> {
    VB_ASSIGN(Device device, find_device());
    std::unique_ptr<Gpu> gpu(new Gpu(std::move(device)));
    // Blocks of what runs beside the rest find a place when those of the rest that wait have one.
    int least = 0, greatest = 0;
    VB_TRY(check(cudaDeviceGetStreamPriorityRange(&least, &greatest)));
    VB_TRY(check(cudaStreamCreateWithPriority(&gpu->beside_, cudaStreamNonBlocking, least)));
#if !defined(VERBATIM_EMULATED_GPU)
    VB_TRY(check(cudaStreamCreateWithPriority(&gpu->stream_, cudaStreamNonBlocking, greatest)));
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

void Gpu::forget(const Tensor& t) {
  const std::lock_guard lock(mutex_);
  known_.erase(t.address());
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

cudaStream_t Gpu::stream() const {
  return t_recorder.stream != nullptr ? t_recorder.stream : stream_;
}

void* Gpu::take_new(size_t bytes) {
  void* memory = nullptr;
  if (cudaMallocAsync(&memory, bytes, stream_) == cudaSuccess) return memory;
  (void)cudaGetLastError();  // said by null, and not again by the next launch
  return nullptr;
}

void* Gpu::take(size_t bytes) {
  const size_t some = std::max<size_t>(bytes, 1);
  Arena* const arena = t_recorder.arena;
  if (arena == nullptr) return take_new(some);
  const std::lock_guard lock(mutex_);
  if (const auto it = arena->unused.find(some); it != arena->unused.end())
    return arena->unused.extract(it).mapped();
  void* const memory = take_new(some);
  if (memory == nullptr) return nullptr;
  arena->blocks.push_back({memory, some});
  arenas_[memory] = arena;
  return memory;
}

void Gpu::give_back(void* memory, size_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    known_.erase(memory);
    if (const auto it = arenas_.find(memory); it != arenas_.end()) {
      it->second->unused.emplace(std::max<size_t>(bytes, 1), memory);
      return;
    }
  }
  cudaFreeAsync(memory, stream_);
}

void Gpu::give_back(Arena& arena) {
  const std::lock_guard lock(mutex_);
  for (const Arena::Block& b : arena.blocks) {
    arenas_.erase(b.memory);
    cudaFreeAsync(b.memory, stream_);
  }
  arena = {};
}

Result<Gpu::Landing> Gpu::take_landing() {
  {
    const std::lock_guard lock(mutex_);
    if (!landings_.empty()) {
      const Landing landing = landings_.back();
      landings_.pop_back();
      return landing;
    }
  }
  Landing made;
  VB_TRY(check(cudaEventCreateWithFlags(&made.done, cudaEventDisableTiming)));
  const cudaError_t error = cudaMallocHost(&made.memory, kLandingBytes);
  if (error == cudaSuccess) return made;
  cudaEventDestroy(made.done);
  (void)cudaGetLastError();  // said here, and not again by the next launch
  return error == cudaErrorMemoryAllocation ? over_limit("CUDA: no pinned memory for roots")
                                            : check(error);
}

void Gpu::give_back(const Landing& landing) {
  const std::lock_guard lock(mutex_);
  landings_.push_back(landing);
}

Status Gpu::follow_stream(const Landing& landing) {
  VB_TRY(check(cudaEventRecord(landing.done, stream_)));
  return check(cudaStreamWaitEvent(beside_, landing.done, 0));
}

Status Gpu::begin_recording(Arena& arena) {
  cudaStream_t stream;
  VB_TRY(check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)));
  // Relaxed: memory is taken meanwhile, on the other stream.
  const Status status = check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  if (status.ok())
    t_recorder = {stream, &arena};
  else
    cudaStreamDestroy(stream);
  return status;
}

Result<cudaGraphExec_t> Gpu::end_recording() {
  const Recorder recorder = std::exchange(t_recorder, {});
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  const auto finish = [&]() -> Status {
    VB_TRY(check(cudaStreamEndCapture(recorder.stream, &graph)));
    return recorder.failed ? Status() : check(cudaGraphInstantiate(&exec, graph, 0));
  };
  const Status status = finish();
  cudaStreamDestroy(recorder.stream);
  if (graph != nullptr) cudaGraphDestroy(graph);
  VB_TRY(status);
  return exec;
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

uint64_t Gpu::waits() { return t_waits; }
bool Gpu::is_recording() { return t_recorder.arena != nullptr; }

Status Gpu::wait() {
  ++t_waits;
  if (!is_recording()) return {};
  t_recorder.failed = true;
  return unavailable("CUDA: a wait for the device cannot be recorded");
}

Status Gpu::copy_to_host(void* host, const void* device, size_t bytes) {
  VB_TRY(wait());
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
  VB_TRY(wait());
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
  return check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()));
}

}  // namespace verbatim::cuda
