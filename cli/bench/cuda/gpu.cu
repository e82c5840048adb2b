// The GPU's clock, and what it can do at most.
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include <verbatim/cli/bench/cases.h>
#include <verbatim/cli/bench/gpu.h>
#include <verbatim/kernels/cuda/gpu.h>

namespace verbatim::bench::gpu {
namespace {

using cuda::check;
using cuda::Gpu;
using cuda::Grid;

__device__ inline int64_t nanoseconds() {
  int64_t t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  return t;
}

// Holds the stream up until the host opens it, at most for so long: a run that waits for the device
// would never end.
__global__ void wait_at_gate(const volatile int* open, int64_t most) {
  const int64_t start = nanoseconds();
  while (*open == 0 && nanoseconds() - start < most) __nanosleep(500);
}

constexpr int kChains = 16;  // independent ones, more than an addition's latency takes
constexpr unsigned kThreads = 256, kBlocksOfOne = 8;  // of a multiprocessor: all that it holds

struct Spent {
  int64_t cycles, nanoseconds;
};

__global__ void __launch_bounds__(kThreads, kBlocksOfOne)
    multiply_adds(float* out, Spent* spent, int rounds, float a, float b) {
  float x[kChains];
#pragma unroll
  for (int i = 0; i < kChains; ++i) x[i] = static_cast<float>(threadIdx.x + i);
  const int64_t start = nanoseconds(), first = clock64();
#pragma unroll 8
  for (int r = 0; r < rounds; ++r)
#pragma unroll
    for (int i = 0; i < kChains; ++i) x[i] = fmaf(x[i], a, b);
  if (blockIdx.x == 0 && threadIdx.x == 0) *spent = {clock64() - first, nanoseconds() - start};
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kChains; ++i) sum += x[i];
  out[blockIdx.x * kThreads + threadIdx.x] = sum;
}

Gpu& device() {
  static Gpu* const gpu = [] {
    const Result<Gpu*> found = Gpu::get();
    require(found.status());
    return *found;
  }();
  return *gpu;
}

template <class T>
T* address(Tensor& t) {
  return reinterpret_cast<T*>(t.mutable_address());
}

Tensor bytes_on_device(int64_t count) {
  Result<Tensor> t = Tensor::allocate_on(device(), DType::u8, Shape{count});
  require(t.status());
  return *std::move(t);
}

// Times what is launched between a gate and an event behind it.
class Stopwatch {
 public:
  Stopwatch() {
    void* memory = nullptr;
    require(check(cudaHostAlloc(&memory, sizeof(int), cudaHostAllocMapped)));
    open_ = static_cast<volatile int*>(memory);
    for (cudaEvent_t* event : {&begin_, &end_}) require(check(cudaEventCreate(event)));
  }
  double seconds(const std::function<void()>& enqueue, int64_t times) {
    const Gpu& gpu = device();
    *open_ = 0;
    require(cuda::launch(gpu, Grid{.blocks = {1, 1, 1}, .threads = {1, 1, 1}}, wait_at_gate, open_,
                         static_cast<int64_t>(1e9 * kMostWait)));
    require(check(cudaEventRecord(begin_, gpu.stream())));
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < times; ++i) enqueue();
    const std::chrono::duration<double> launching = std::chrono::steady_clock::now() - start;
    require(check(cudaEventRecord(end_, gpu.stream())));
    *open_ = 1;
    require(check(cudaEventSynchronize(end_)));
    if (launching.count() >= kMostWait && !std::exchange(warned_, true))
      std::fprintf(stderr,
                   "\nverbatim-bench: launching takes so long that the host is timed, too\n");
    float milliseconds = 0;
    require(check(cudaEventElapsedTime(&milliseconds, begin_, end_)));
    return 1e-3 * milliseconds;
  }

 private:
  static constexpr double kMostWait = 0.25;
  volatile int* open_ = nullptr;  // in host memory that the device reads
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  bool warned_ = false;
};

struct Speed {
  double operations = 0, clock = 0;  // a second; MHz
};
const Speed& speed() {
  static const Speed measured = [] {
    constexpr int kRounds = 1 << 14, kTries = 7;
    int multiprocessors = 0, index = 0;
    require(check(cudaGetDevice(&index)));
    require(check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, index)));
    const auto blocks = kBlocksOfOne * static_cast<unsigned>(multiprocessors);
    const int64_t threads = int64_t{blocks} * kThreads;
    Tensor out = bytes_on_device(threads * int64_t{sizeof(float)}),
           spent = bytes_on_device(sizeof(Spent));
    const auto run = [&] {
      require(cuda::launch(device(), Grid{.blocks = {blocks, 1, 1}, .threads = {kThreads, 1, 1}},
                           multiply_adds, address<float>(out), address<Spent>(spent), kRounds,
                           0.999f, 0.001f));
    };
    run();             // loaded behind the gate, a kernel would wait for it to open
    seconds(run, 20);  // the clock rises
    double least = seconds(run, 1);
    for (int i = 1; i < kTries; ++i) least = std::min(least, seconds(run, 1));
    Spent of_one{};
    require(device().copy_to_host(&of_one, spent.address(), sizeof of_one));
    return Speed{
        2.0 * kChains * kRounds * static_cast<double>(threads) / least,
        1e3 * static_cast<double>(of_one.cycles) / static_cast<double>(of_one.nanoseconds)};
  }();
  return measured;
}

// "580.65.06", or "" where its management library is not there.
std::string driver_version() {
  void* library = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return "";
  const auto init = reinterpret_cast<int (*)()>(::dlsym(library, "nvmlInit_v2"));
  const auto version =
      reinterpret_cast<int (*)(char*, unsigned)>(::dlsym(library, "nvmlSystemGetDriverVersion"));
  char text[96] = "";
  const bool found =
      init != nullptr && version != nullptr && init() == 0 && version(text, sizeof text) == 0;
  return found ? text : "";
}

}  // namespace

Result<Description> describe() {
  VB_ASSIGN(const cuda::Device found, cuda::find_device());
  Description d;
  d.name = found.name;
  d.driver = driver_version();
  d.driver += (d.driver.empty() ? "CUDA " : ", CUDA ") + std::to_string(found.driver / 1000) + "." +
              std::to_string(found.driver % 1000 / 10);
  d.clock = speed().clock;
  int index = 0, kilohertz = 0;
  VB_TRY(check(cudaGetDevice(&index)));
  VB_TRY(check(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, index)));
  d.most_clock = 1e-3 * kilohertz;
  return d;
}

Result<DeviceMemory*> memory() {
  VB_ASSIGN(Gpu* const gpu, Gpu::get());
  return gpu;
}

cudaStream_t stream() { return device().stream(); }
void wait() { require(check(cudaStreamSynchronize(stream()))); }

double seconds(const std::function<void()>& enqueue, int64_t times) {
  static Stopwatch watch;
  constexpr int64_t kAtOnce = 64;  // the queue of a stream holds about a thousand commands
  double total = 0;
  for (int64_t left = times; left > 0; left -= kAtOnce)
    total += watch.seconds(enqueue, std::min(left, kAtOnce));
  return total;
}

double float_operations() { return speed().operations; }

double copy_bandwidth() {
  constexpr int64_t kBytes = int64_t{1} << 30;  // beyond the cache
  constexpr int kTries = 7, kCopies = 4;
  Tensor from = bytes_on_device(kBytes), to = bytes_on_device(kBytes);
  const auto copy = [&] { require(device().copy(to.mutable_address(), from.address(), kBytes)); };
  copy();
  double least = seconds(copy, kCopies);
  for (int i = 1; i < kTries; ++i) least = std::min(least, seconds(copy, kCopies));
  return 2.0 * kCopies * kBytes / least;
}

}  // namespace verbatim::bench::gpu
