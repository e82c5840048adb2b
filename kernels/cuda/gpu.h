// What kernels are launched with, and the memory they work in. Everything goes to one stream, in
// the order of the calls: memory that is given back may be taken again at once, and what is copied
// to the host is what all kernels before gave.
//
// Roots alone (hash.cu) go to a second stream, and come about beside what follows on the first.
// What they read is given back after the host has seen that they are done, and not before.
//
// Kernels are launched by launch(), and not by <<<>>>, so that the same sources also run on an
// emulated GPU (emulated/cuda_runtime.h).
#pragma once

#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include <verbatim/core/hash.h>
#include <verbatim/core/tensor.h>
#include <verbatim/kernels/cuda/device.h>
#include <verbatim/repops/device.h>

namespace verbatim::cuda {

// The memory that recordings share: what a tensor gave back is taken again in the same recording,
// and by nobody else.
struct Arena {
  struct Block {
    void* memory;
    size_t bytes;
  };
  std::vector<Block> blocks;
  std::multimap<size_t, void*> unused;  // by bytes

  bool has(const void* address) const;
};

class Gpu final : public DeviceMemory {
 public:
  // The process's one GPU. Errors: find_device()'s.
  static Result<Gpu*> get();

  void* take(size_t bytes) override;
  void give_back(void* memory, size_t bytes) override;
  Status copy_to_host(void* host, const void* device, size_t bytes) override;
  Status copy_from_host(void* device, const void* host, size_t bytes) override;
  // movement.cu
  Status copy_strided(size_t width, std::span<const int64_t> dims, void* to,
                      std::span<const int64_t> to_strides, const void* from,
                      std::span<const int64_t> from_strides) override;
  Status copy_blocks(void* to, const void* from, size_t bytes,
                     std::span<const int64_t> offsets) override;
  // hash.cu
  Result<std::unique_ptr<PendingRoots>> begin_leaf_roots(std::span<const Tensor> tensors) override;
  // Where roots come to lie on the host, and the event that says that they do.
  struct Landing {
    cudaEvent_t done = nullptr;
    void* memory = nullptr;  // pinned, of kLandingBytes; kernels write it
  };
  static constexpr size_t kLandingBytes = 8 << 10;
  Result<Landing> take_landing();
  void give_back(const Landing& landing);
  // What is launched beside the rest from here on comes after all that was launched before.
  Status follow_stream(const Landing& landing);
  // The landing's event comes when what was launched beside the rest so far is done.
  Status announce(const Landing& landing) { return check(cudaEventRecord(landing.done, beside_)); }
  // From one place on the device to another.
  Status copy(void* to, const void* from, size_t bytes);

  // What is known of codes here, so that nobody waits for a look at them: that these are slices,
  // the first of so many elements, or exponents of values. Until their memory is given back.
  enum class Known { slices, value_exponents };
  void know(const Tensor& t, Known what, int64_t first = 0);
  bool knows(const Tensor& t, Known what, int64_t first = 0) const;
  void forget(const Tensor& t);

  // How often this thread waited for the device, or gave it more than a launch can carry: what a
  // recording cannot hold.
  static uint64_t waits();
  // What this thread launches and copies from here on is not done, but becomes a graph, in memory
  // that stays with the arena; until the end, which gives the graph, or null if some of it could
  // not be recorded.
  Status begin_recording(Arena& arena);
  static bool is_recording();
  Result<cudaGraphExec_t> end_recording();
  // Does what was recorded.
  Status replay(cudaGraphExec_t graph) { return check(cudaGraphLaunch(graph, stream_)); }
  // Whose tensors are gone, and their replays no longer wanted.
  void give_back(Arena& arena);

  // What an earlier kernel or copy broke, after which nothing runs any more.
  Status fault() const;
#if !defined(VERBATIM_EMULATED_GPU)
  // Lets a kernel take so many bytes. Over the limit where the device has not as many beside what
  // the kernel itself declares: then the host computes.
  Status allow_shared(const void* kernel, size_t bytes) const;
#endif

  // Where this thread's launches go.
  cudaStream_t stream() const;
  // And those that are to run beside them, where they leave room.
  cudaStream_t beside() const { return beside_; }
  const Device& device() const { return device_; }

 private:
  explicit Gpu(Device device) : device_(std::move(device)) {}

  Device device_;
  mutable std::mutex mutex_;
  mutable std::map<const void*, size_t> allowed_;  // to each kernel, bytes
  std::map<const void*, std::pair<Known, int64_t>> known_;
  std::map<const void*, Arena*> arenas_;  // by their blocks
  cudaStream_t stream_ = nullptr, beside_ = nullptr;
  std::vector<Landing> landings_;  // unused: the driver takes longer for one than roots take

  void* take_new(size_t bytes);  // null where memory is refused
  Status wait();                 // an error where it may not be
};

// Integers of the host, on the device.
Result<Tensor> upload(Gpu& gpu, std::span<const int64_t> values);

// Rows of device memory as rows of whole words of 16 bytes, zeros behind them: uint8 [rows, ...].
Result<Tensor> in_whole_words(Gpu& gpu, const void* from, int64_t rows, int64_t row_bytes);

struct Grid {
  dim3 blocks, threads;
  size_t shared_bytes = 0;  // of memory that shared_memory() gives
  bool early = false;       // the kernel calls await_kernels_before(), and may begin before that
  bool beside = false;      // goes to Gpu::beside()
};

inline constexpr int64_t kMostBlocks = 0x7FFFFFFF;  // in x; in y and z 65535
inline constexpr unsigned kWarp = 32;
inline constexpr size_t kMostShared = 227 << 10;  // bytes that shared_memory() may give on Hopper

VB_HOST_DEVICE inline int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }
VB_HOST_DEVICE inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// One thread for each of n items, or for several a grid apart, in blocks of `threads`.
inline Grid grid_for(int64_t n, unsigned threads = 256) {
  const int64_t blocks = ceiling(n, threads);
  return {.blocks = {static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks), 1, 1},
          .threads = {threads, 1, 1}};
}

#if defined(VERBATIM_EMULATED_GPU)

template <class T>
T* shared_memory() {
  return static_cast<T*>(emulated::shared_memory());
}
inline void await_kernels_before() {}
inline constexpr bool kHopperCode = true;

template <class... P>
Status launch(const Gpu& gpu, const Grid& grid, void (*kernel)(P...),
              std::type_identity_t<P>... args) {
  if (grid.shared_bytes > emulated::g_most_shared) return over_limit("a kernel's shared memory");
  emulated::t_last_kernel = reinterpret_cast<const void*>(kernel);
  const auto call = [=] { kernel(args...); };
  emulated::tell(grid.beside ? gpu.beside() : gpu.stream(), [=] {
    emulated::launch(
        {grid.blocks, grid.threads, grid.shared_bytes},
        [](const void* f) { (*static_cast<const decltype(call)*>(f))(); }, &call);
  });
  return check(cudaGetLastError());
}

#else

template <class T>
__device__ T* shared_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return reinterpret_cast<T*>(memory);
}

// Kernels of Hopper have no code where they are compiled for any device (Device::hopper).
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
inline constexpr bool kHopperCode = false;
#else
inline constexpr bool kHopperCode = true;
#endif

// From here on what earlier kernels wrote is there, and theirs may be written: by all threads of a
// kernel that is launched early, before they touch the device's memory. The next kernel, where that
// is launched early too, may come as soon as there is room (CUDA programming guide, "Programmatic
// Dependent Launch"). Hopper's.
__device__ inline void await_kernels_before() {
  asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;" ::: "memory");
}

template <class... P>
Status launch(const Gpu& gpu, const Grid& grid, void (*kernel)(P...),
              std::type_identity_t<P>... args) {
  // 48 KiB go without asking, what a kernel itself declares included.
  if (grid.shared_bytes > kMostShared / 8)
    VB_TRY(gpu.allow_shared(reinterpret_cast<const void*>(kernel), grid.shared_bytes));
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared_bytes;
  config.stream = grid.beside ? gpu.beside() : gpu.stream();
  config.attrs = &early;
  config.numAttrs = grid.early ? 1 : 0;
  return check(cudaLaunchKernelEx(&config, kernel, args...));
}

#endif

// f(i) for each i below n, by all threads of a launch.
template <class F>
__device__ void each_element(int64_t n, F&& f) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}

}  // namespace verbatim::cuda
