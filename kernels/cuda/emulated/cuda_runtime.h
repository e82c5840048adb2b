// A GPU for machines that have none: what the kernels of this folder use of CUDA, compiled for the
// host. Each thread of a block is a fiber, and between two barriers fibers run one after the other
// in an order drawn anew each time, so that a missing barrier shows as a wrong result, and one that
// not all threads reach ends the program. Memory is the host's, exactly as large as asked for, so
// that a sanitizer sees what reaches beyond it.
//
// It stands where the toolkit's header of this name would (kernels/CMakeLists.txt), and has only
// what is used. Blocks run one by one, on the thread that launches them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __shared__ static thread_local
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

namespace verbatim::emulated {

// The thread that runs: what a kernel sees as its built-in variables.
struct Thread {
  dim3 thread, block, block_size, grid_size;
};
extern thread_local Thread t_thread;
inline constexpr size_t kStackBytes = 128 << 10;  // that a thread has

// Runs kernel(context) for each thread of each block.
struct Launch {
  dim3 blocks, threads;
  size_t shared_bytes;
};
void launch(const Launch& launch, void (*kernel)(const void*), const void* context);
void* shared_memory();
void barrier_of_block();
void barrier_of_warp();
// What lane `from` of the warp gives, all of whose threads take part.
uint64_t exchange(uint64_t value, int from);

// What a thread has asked for and is done when it waits for all but its last `pending` groups, and
// not before: copies, products of warp groups, stores of tiles.
struct Later {
  void (*run)(const Later&);
  void* to;
  const void* from;
  uint64_t a, b;
  unsigned char rows[64] = {};  // of a left operand from registers
};
enum class Queue { copies, products, stores };
void do_later(Queue queue, const Later& what);
void commit(Queue queue);
void wait_for(Queue queue, int pending);

// Shared memory by its offset, as descriptors name it.
uint32_t shared_offset(const void* shared);
const std::byte* at_shared_offset(uint32_t offset);

// mbarriers (PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier"): a phase
// ends when all arrivals and all bytes are there. wait_for_phase() returns once the phase of that
// parity has ended.
void init_barrier(uint64_t* barrier, unsigned arrivals);
void arrive_at(uint64_t* barrier, int64_t expected_bytes);
void wait_for_phase(const uint64_t* barrier, unsigned parity);

// A block's barrier of that number, which so many threads pass: bar.sync, and bar.arrive, whose
// thread goes on at once.
void sync_named(int barrier, unsigned threads);
void arrive_named(int barrier, unsigned threads);

// A matrix of rows, of which boxes of 128 bytes by box_rows are copied, zeros beyond its edges.
struct TileMap {
  std::byte* base;
  int64_t rows, row_bytes;
  int box_rows;
};
// To shared memory, swizzled by 128 bytes; arrives some time, and then at the barrier.
void copy_tile_later(void* shared, const TileMap& map, int64_t byte, int64_t row,
                     uint64_t* barrier);
// Bytes one after the other, the same way; both addresses and the count are
// multiples of 16, or the process ends.
void copy_bytes_later(void* shared, const void* from, int64_t bytes, uint64_t* barrier);
// The other way, in the queue of stores; what lies beyond the matrix's edges goes nowhere.
void store_tile_later(const void* shared, const TileMap& map, int64_t byte, int64_t row);

template <class T>
T exchange_as(T value, int from) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(bits, from);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
inline int lane() { return static_cast<int>(t_thread.thread.x % 32); }

// Streams that were made with a priority do what they are told later: some of it, drawn anew, each
// time that a thread tells the first stream something, and all of it when they are waited for. What
// reads memory that was given back meanwhile is then seen. The first stream does everything at
// once, so that a stream that did not wait for it would be no different: therefore a thread that
// tells another stream anything has to have had it wait for all that it told the first, or the
// process ends.
void tell_first();  // before it does it
void tell_later(std::function<void()> what);
uint64_t told_later();
void do_told_later(uint64_t until);  // of what told_later() counts
uint64_t left_for_later();           // told and not yet done

// An allocation of more bytes is refused: for tests of a GPU that is full.
inline std::atomic<size_t> g_most_bytes = SIZE_MAX;
// So is a launch of blocks with more shared memory,
inline std::atomic<size_t> g_most_shared = SIZE_MAX;
// and one on a late stream where as many wait.
inline std::atomic<size_t> g_most_left_for_later = SIZE_MAX;

// What this thread launched last.
inline thread_local const void* t_last_kernel = nullptr;

}  // namespace verbatim::emulated

#define threadIdx (::verbatim::emulated::t_thread.thread)
#define blockIdx (::verbatim::emulated::t_thread.block)
#define blockDim (::verbatim::emulated::t_thread.block_size)
#define gridDim (::verbatim::emulated::t_thread.grid_size)

inline void __syncthreads() { verbatim::emulated::barrier_of_block(); }
inline void __syncwarp(unsigned = ~0u) { verbatim::emulated::barrier_of_warp(); }
template <class T>
T __shfl_sync(unsigned, T value, int from) {
  return verbatim::emulated::exchange_as(value, from % 32);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return verbatim::emulated::exchange_as(value, verbatim::emulated::lane() ^ mask);
}
template <class T>
T atomicAdd(T* sum, T value) {
  return std::atomic_ref<T>(*sum).fetch_add(value);
}
inline int __any_sync(unsigned, int predicate) {
  for (int mask = 1; mask < 32; mask *= 2) predicate |= __shfl_xor_sync(~0u, predicate, mask);
  return predicate;
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned by) {
  const int from = verbatim::emulated::lane() + static_cast<int>(by);
  return verbatim::emulated::exchange_as(value, from < 32 ? from : verbatim::emulated::lane());
}

// The low word of high:low, shifted by `by` mod 32.
inline uint32_t __funnelshift_r(uint32_t low, uint32_t high, uint32_t by) {
  return static_cast<uint32_t>((uint64_t{high} << 32 | low) >> (by % 32));
}
// Digit i of `select` names byte i of the result among those of y:x (prmt in its default mode; a
// digit above 7, which copies a sign, is not for this).
inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t select) {
  uint32_t bytes = 0;
  for (int i = 0; i < 4; ++i)
    bytes |= static_cast<uint32_t>((uint64_t{y} << 32 | x) >> (8 * (select >> (4 * i) & 7)) & 0xFF)
             << (8 * i);
  return bytes;
}
// sum plus the products of the four signed bytes of each.
inline int __dp4a(int x, int y, int sum) {
  for (int i = 0; i < 4; ++i)
    sum += static_cast<int8_t>(static_cast<uint32_t>(x) >> (8 * i)) *
           static_cast<int8_t>(static_cast<uint32_t>(y) >> (8 * i));
  return sum;
}

// --- The runtime: one device, whose first stream has done everything when a call returns.

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNotReady = 600
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
using cudaStream_t = struct EmulatedStream*;
struct cudaDeviceProp {
  char name[64];
  int major, minor, multiProcessorCount;
  size_t totalGlobalMem, sharedMemPerBlockOptin;
};
struct cudaFuncAttributes {
  int ptxVersion;
};

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream);
inline cudaError_t cudaMalloc(void** memory, size_t bytes) {
  return cudaMallocAsync(memory, bytes, nullptr);
}
inline cudaError_t cudaFree(void* memory) { return cudaFreeAsync(memory, nullptr); }

// A graph: what a stream was told while it captured.
struct EmulatedGraph {
  std::vector<std::function<void()>> nodes;
};
using cudaGraph_t = EmulatedGraph*;
using cudaGraphExec_t = EmulatedGraph*;
struct EmulatedStream {
  cudaGraph_t captured = nullptr;  // not null: captures
  bool is_late = false;
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
inline constexpr unsigned cudaStreamNonBlocking = 1;
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new EmulatedStream;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  *stream = new EmulatedStream{.is_late = true};
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->captured = new EmulatedGraph;
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream->captured, nullptr);
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                        unsigned long long) {
  *exec = new EmulatedGraph(*graph);
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return cudaGraphDestroy(exec); }
namespace verbatim::emulated {
// Does it, or has a stream that captures remember it.
template <class F>
void tell(cudaStream_t stream, F&& f) {
  if (stream != nullptr && stream->captured != nullptr) {
    stream->captured->nodes.emplace_back(std::forward<F>(f));
  } else if (stream != nullptr && stream->is_late) {
    tell_later(std::forward<F>(f));
  } else {
    tell_first();
    f();
  }
}
}  // namespace verbatim::emulated

// What its stream was told before it was recorded.
struct EmulatedEvent {
  uint64_t first = 0, later = 0;
};
using cudaEvent_t = EmulatedEvent*;
inline constexpr unsigned cudaEventDisableTiming = 2;
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new EmulatedEvent;
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
// A late stream, for an event of the first.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
inline cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = std::malloc(bytes);
  return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                                   cudaStream_t stream) {
  verbatim::emulated::tell(stream, [=] {
    if (bytes > 0) std::memcpy(to, from, bytes);
  });
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream != nullptr && stream->is_late)
    verbatim::emulated::do_told_later(verbatim::emulated::told_later());
  return cudaSuccess;
}
inline cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
inline thread_local cudaError_t t_last_error = cudaSuccess;  // until it is asked for
inline cudaError_t cudaGetLastError() { return std::exchange(t_last_error, cudaSuccess); }
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  for (const auto& node : exec->nodes) node();
  return cudaGetLastError();
}
inline const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorInvalidConfiguration) return "invalid configuration argument";
  return error == cudaErrorMemoryAllocation ? "out of memory" : "invalid value";
}
inline cudaError_t cudaGetDevice(int* index) {
  *index = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index);
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel) {
  attributes->ptxVersion = 90;
  return cudaSuccess;
}
