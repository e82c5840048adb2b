// Jumps between stacks are what this file is about.
#undef _FORTIFY_SOURCE
#include <malloc.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include <cuda_runtime.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace verbatim::emulated {

thread_local Thread t_thread;

namespace {

constexpr size_t kGuardBytes = 64 << 10;  // whole pages, of whatever size
constexpr unsigned kWarp = 32;

// Of kStackBytes, above memory that nobody may touch: a kernel that takes more ends the program,
// and does not write on the stack of another thread.
struct Unmap {
  void operator()(std::byte* stack) const {
    munmap(stack - kGuardBytes, kGuardBytes + kStackBytes);
  }
};
using Stack = std::unique_ptr<std::byte[], Unmap>;

Stack make_stack() {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kGuardBytes, PROT_NONE) != 0) std::abort();
  return Stack(static_cast<std::byte*>(memory) + kGuardBytes);
}

struct Pending {
  std::vector<Later> items;    // not yet done
  std::vector<size_t> groups;  // how many of them were there when each was closed

  void wait(int pending);
};

// A stack of its own that runs one thread after another. It is made once (makecontext) and then
// only jumped to: a jump asks the system for nothing.
struct Fiber {
  jmp_buf at;
  unsigned exchanges = 0;
  Pending pending[3];  // by Queue
  Stack stack = make_stack();
  dim3 thread;
  void* fake_stack = nullptr;  // a sanitizer's
};

// So many fibers have to arrive; the last one wakes the others.
struct Barrier {
  unsigned expected = 0;
  std::vector<unsigned> waiting;
};

struct PhaseBarrier {
  unsigned expected, arrivals;  // of a phase; still to come
  int64_t bytes = 0;            // still to come
  unsigned phase = 0;
  std::vector<unsigned> waiting;
};

struct TileCopy {
  uint32_t to;  // offset in shared memory
  TileMap map;
  int64_t byte, row;
  uint32_t barrier;  // offset
};

// bar.sync and bar.arrive: some threads only say that they came by.
struct NamedBarrier {
  unsigned arrived = 0;
  std::vector<unsigned> waiting;
};

struct Block {
  Barrier whole;
  std::array<NamedBarrier, 16> named;
  std::unique_ptr<std::byte, void (*)(void*)> shared{nullptr, std::free};

  uint64_t& barrier_at(uint32_t offset) {
    return *reinterpret_cast<uint64_t*>(shared.get() + offset);
  }
};

// Runs one block of threads after another.
class Runner {
 public:
  void run(dim3 index, const Launch& launch, void (*kernel)(const void*), const void* context);
  void wait(Barrier& barrier);
  Block& block() { return block_; }
  Barrier& warp() { return warps_[running_ / kWarp]; }
  // Two sets in turn: whoever writes one again has seen everybody leave it.
  uint64_t& slot(unsigned lane) {
    return slots_[(running_ / kWarp * 2 + running().exchanges % 2) * kWarp + lane];
  }
  Fiber& running() { return *fibers_[running_]; }
  void init(uint64_t* barrier, unsigned arrivals);
  void arrive(uint64_t* barrier, unsigned arrivals, int64_t bytes);
  void wait(const uint64_t* barrier, unsigned parity);
  void arrive(NamedBarrier& barrier, unsigned threads, bool waits);
  void copy_later(const TileCopy& copy) { tile_copies_.push_back(copy); }
  bool toss() { return draw(2) == 1; }

 private:
  static void start();
  void add_fiber();
  void resume(unsigned fiber);
  void leave();  // the running fiber, for the scheduler
  void arrive(Barrier& barrier, bool stays);
  void start_block(const Launch& launch, unsigned threads);
  void start_threads(const Launch& launch, unsigned count);
  void copy_some_tile();
  unsigned draw(size_t below);

  jmp_buf scheduler_;
  void* scheduler_fake_stack_ = nullptr;
  const void* scheduler_bottom_ = nullptr;
  size_t scheduler_size_ = 0;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<unsigned> ready_;
  unsigned running_ = 0;
  Block block_;
  std::vector<Barrier> warps_;
  std::vector<uint64_t> slots_;
  std::vector<PhaseBarrier> phase_barriers_;  // one's index lies where the kernel has it
  std::vector<TileCopy> tile_copies_;         // not yet arrived
  void (*kernel_)(const void*) = nullptr;
  const void* context_ = nullptr;
  uint64_t random_ = 1;
};

thread_local std::unique_ptr<Runner> t_runner;

unsigned Runner::draw(size_t below) {
  random_ = random_ * 6364136223846793005u + 1442695040888963407u;
  return static_cast<unsigned>((random_ >> 33) % below);
}

// The sanitizer has to hear of each change of stacks.
void leaving([[maybe_unused]] void** fake_stack, [[maybe_unused]] const void* bottom,
             [[maybe_unused]] size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake_stack, bottom, size);
#endif
}
void arrived([[maybe_unused]] void* fake_stack, [[maybe_unused]] const void** bottom,
             [[maybe_unused]] size_t* size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, bottom, size);
#endif
}

void Runner::start() {
  Runner& r = *t_runner;
  arrived(nullptr, &r.scheduler_bottom_, &r.scheduler_size_);
  for (;;) {
    r.leave();
    r.kernel_(r.context_);
    r.arrive(r.warp(), false);
    r.arrive(r.block().whole, false);
  }
}

void Runner::add_fiber() {
  fibers_.push_back(std::make_unique<Fiber>());
  Fiber& f = *fibers_.back();
  ucontext_t context, here;
  getcontext(&context);
  context.uc_stack.ss_sp = f.stack.get();
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, start, 0);
  running_ = static_cast<unsigned>(fibers_.size() - 1);
  if (_setjmp(scheduler_) == 0) {
    leaving(&scheduler_fake_stack_, f.stack.get(), kStackBytes);
    swapcontext(&here, &context);
  }
  arrived(scheduler_fake_stack_, nullptr, nullptr);
}

// A thread that has ended is not waited for.
void Runner::arrive(Barrier& barrier, bool stays) {
  if (stays)
    barrier.waiting.push_back(running_);
  else
    --barrier.expected;
  if (barrier.waiting.size() < barrier.expected || barrier.waiting.empty()) return;
  ready_.insert(ready_.end(), barrier.waiting.begin(), barrier.waiting.end());
  barrier.waiting.clear();
}

void Runner::wait(Barrier& barrier) {
  arrive(barrier, true);
  leave();
}

void Runner::leave() {
  Fiber& f = *fibers_[running_];
  if (_setjmp(f.at) == 0) {
    leaving(&f.fake_stack, scheduler_bottom_, scheduler_size_);
    _longjmp(scheduler_, 1);
  }
  arrived(fibers_[running_]->fake_stack, &scheduler_bottom_, &scheduler_size_);
}

void Runner::resume(unsigned fiber) {
  running_ = fiber;
  t_thread.thread = fibers_[fiber]->thread;
  if (_setjmp(scheduler_) == 0) {
    leaving(&scheduler_fake_stack_, fibers_[fiber]->stack.get(), kStackBytes);
    _longjmp(fibers_[fiber]->at, 1);
  }
  arrived(scheduler_fake_stack_, nullptr, nullptr);
}

void Runner::init(uint64_t* barrier, unsigned arrivals) {
  *barrier = phase_barriers_.size();
  phase_barriers_.push_back({.expected = arrivals, .arrivals = arrivals, .waiting = {}});
}

void Runner::arrive(uint64_t* barrier, unsigned arrivals, int64_t bytes) {
  PhaseBarrier& b = phase_barriers_.at(*barrier);
  b.arrivals -= arrivals;
  b.bytes += bytes;
  if (b.arrivals > 0 || b.bytes != 0) return;
  ++b.phase;
  b.arrivals = b.expected;
  ready_.insert(ready_.end(), b.waiting.begin(), b.waiting.end());
  b.waiting.clear();
}

void Runner::wait(const uint64_t* barrier, unsigned parity) {
  while (phase_barriers_.at(*barrier).phase % 2 == parity) {
    phase_barriers_[*barrier].waiting.push_back(running_);
    leave();
  }
}

void Runner::arrive(NamedBarrier& barrier, unsigned threads, bool waits) {
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ready_.insert(ready_.end(), barrier.waiting.begin(), barrier.waiting.end());
    barrier.waiting.clear();
  } else if (waits) {
    barrier.waiting.push_back(running_);
    leave();
  }
}

// Bits 4 to 6 of an address in shared memory change with bits 7 to 9: the swizzle of 128 bytes.
uint64_t swizzled(uint64_t offset) { return offset ^ (offset >> 7 & 7) << 4; }

void Runner::copy_some_tile() {
  const unsigned at = draw(tile_copies_.size());
  const TileCopy c = tile_copies_[at];
  tile_copies_[at] = tile_copies_.back();
  tile_copies_.pop_back();
  std::byte* const shared = block_.shared.get();
  uint64_t* const barrier = &block_.barrier_at(c.barrier);
  if (c.map.box_rows == 0) {  // bytes as they lie
    std::memcpy(shared + c.to, c.map.base, static_cast<size_t>(c.map.row_bytes));
    arrive(barrier, 0, -c.map.row_bytes);
    return;
  }
  for (int r = 0; r < c.map.box_rows; ++r)
    for (int byte = 0; byte < 128; ++byte) {
      const int64_t row = c.row + r, from = c.byte + byte;
      const bool inside = row < c.map.rows && from < c.map.row_bytes;
      shared[swizzled(c.to + static_cast<uint64_t>(r * 128 + byte))] =
          inside ? c.map.base[row * c.map.row_bytes + from] : std::byte{0};
    }
  arrive(barrier, 0, -c.map.box_rows * 128);
}

void Runner::start_block(const Launch& launch, unsigned threads) {
  block_.whole.expected = threads;
  block_.named = {};
  void* shared = nullptr;
  const size_t bytes = launch.shared_bytes;
  if (bytes > 0 && posix_memalign(&shared, 1024, bytes) != 0) std::abort();
  block_.shared.reset(static_cast<std::byte*>(shared));
  std::fill_n(block_.shared.get(), bytes, std::byte{0xFF});  // what kernels may not rely on
}

void Runner::start_threads(const Launch& launch, unsigned count) {
  while (fibers_.size() < count) add_fiber();
  warps_.resize((count + kWarp - 1) / kWarp);
  slots_.resize(warps_.size() * 2 * kWarp);
  for (unsigned w = 0; w < warps_.size(); ++w)
    warps_[w].expected = std::min(kWarp, count - w * kWarp);
  for (unsigned i = 0; i < count; ++i) {
    fibers_[i]->exchanges = 0;
    for (Pending& p : fibers_[i]->pending) {
      p.items.clear();
      p.groups.clear();
    }
    const unsigned x = launch.threads.x, y = launch.threads.y;
    fibers_[i]->thread = {i % x, i / x % y, i / x / y};
    ready_.push_back(i);
  }
}

void Runner::run(dim3 index, const Launch& launch, void (*kernel)(const void*),
                 const void* context) {
  t_thread = {
      .thread = {}, .block = index, .block_size = launch.threads, .grid_size = launch.blocks};
  kernel_ = kernel;
  context_ = context;
  const unsigned threads = launch.threads.x * launch.threads.y * launch.threads.z;
  phase_barriers_.clear();
  start_block(launch, threads);
  start_threads(launch, threads);
  const bool late = toss();  // tiles arrive when all threads wait, and not before
  while (!ready_.empty() || !tile_copies_.empty()) {
    const bool only_threads = late && !ready_.empty();
    const unsigned at = draw(ready_.size() + (only_threads ? 0 : tile_copies_.size()));
    if (at >= ready_.size()) {
      copy_some_tile();
      continue;
    }
    const unsigned fiber = ready_[at];
    ready_[at] = ready_.back();
    ready_.pop_back();
    resume(fiber);
  }
  if (block_.whole.expected > 0) {
    std::fprintf(stderr, "verbatim: bug: %u threads of a block wait for others that do not come\n",
                 block_.whole.expected);
    std::abort();
  }
}

void Pending::wait(int pending) {
  if (groups.size() <= static_cast<size_t>(pending)) return;
  const size_t closed = groups.size() - static_cast<size_t>(pending), done = groups[closed - 1];
  for (size_t i = 0; i < done; ++i) items[i].run(items[i]);
  items.erase(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(done));
  groups.erase(groups.begin(), groups.begin() + static_cast<std::ptrdiff_t>(closed));
  for (size_t& g : groups) g -= done;
}

// What late streams were told, in order.
struct LateWork {
  std::mutex mutex;
  std::deque<std::function<void()>> items;
  uint64_t done = 0, random = 1;

  void do_one() {
    items.front()();
    items.pop_front();
    ++done;
  }
};
// It outlives whoever gives memory back at the end of the process.
LateWork& g_late = *new LateWork;

// What this thread told the first stream, and of that, what its late streams come after.
thread_local uint64_t t_told_first = 0, t_waited_for = 0;

Pending& pending_of(Queue queue) { return t_runner->running().pending[static_cast<int>(queue)]; }

}  // namespace

void launch(const Launch& launch, void (*kernel)(const void*), const void* context) {
  const auto within = [](unsigned n, unsigned most) { return n >= 1 && n <= most; };
  const dim3 &b = launch.blocks, &t = launch.threads;
  if (!within(b.x, 0x7FFFFFFF) || !within(b.y, 65535) || !within(b.z, 65535) ||
      !within(t.x * t.y * t.z, 1024) || launch.shared_bytes > size_t{227} << 10) {
    t_last_error = cudaErrorInvalidConfiguration;
    return;
  }
  if (!t_runner) t_runner = std::make_unique<Runner>();
  for (unsigned z = 0; z < launch.blocks.z; ++z)
    for (unsigned y = 0; y < launch.blocks.y; ++y)
      for (unsigned x = 0; x < launch.blocks.x; ++x)
        t_runner->run({x, y, z}, launch, kernel, context);
}

void tell_first() {
  ++t_told_first;
  const std::lock_guard lock(g_late.mutex);
  while (!g_late.items.empty()) {
    g_late.random = g_late.random * 6364136223846793005u + 1442695040888963407u;
    if (g_late.random >> 62 != 0) break;
    g_late.do_one();
  }
}

void tell_later(std::function<void()> what) {
  if (t_waited_for != t_told_first) {
    std::fputs("verbatim: bug: a stream does not wait for what was told to the first\n", stderr);
    std::abort();
  }
  const std::lock_guard lock(g_late.mutex);
  if (g_late.items.size() < g_most_left_for_later)
    g_late.items.push_back(std::move(what));
  else
    t_last_error = cudaErrorMemoryAllocation;
}

uint64_t told_later() {
  const std::lock_guard lock(g_late.mutex);
  return g_late.done + g_late.items.size();
}

void do_told_later(uint64_t until) {
  const std::lock_guard lock(g_late.mutex);
  while (g_late.done < until) g_late.do_one();
}

uint64_t left_for_later() {
  const std::lock_guard lock(g_late.mutex);
  return g_late.items.size();
}

void* shared_memory() { return t_runner->block().shared.get(); }
void barrier_of_block() { t_runner->wait(t_runner->block().whole); }
void barrier_of_warp() { t_runner->wait(t_runner->warp()); }

uint64_t exchange(uint64_t value, int from) {
  Runner& runner = *t_runner;
  ++runner.running().exchanges;
  runner.slot(static_cast<unsigned>(lane())) = value;
  barrier_of_warp();
  return runner.slot(static_cast<unsigned>(from));
}

void do_later(Queue queue, const Later& what) { pending_of(queue).items.push_back(what); }
void commit(Queue queue) {
  Pending& p = pending_of(queue);
  p.groups.push_back(p.items.size());
}
void wait_for(Queue queue, int pending) { pending_of(queue).wait(pending); }

uint32_t shared_offset(const void* shared) {
  return static_cast<uint32_t>(static_cast<const std::byte*>(shared) -
                               t_runner->block().shared.get());
}
const std::byte* at_shared_offset(uint32_t offset) {
  return t_runner->block().shared.get() + swizzled(offset);
}

void init_barrier(uint64_t* barrier, unsigned arrivals) { t_runner->init(barrier, arrivals); }
void arrive_at(uint64_t* barrier, int64_t expected_bytes) {
  t_runner->arrive(barrier, 1, expected_bytes);
}
void wait_for_phase(const uint64_t* barrier, unsigned parity) { t_runner->wait(barrier, parity); }

void sync_named(int barrier, unsigned threads) {
  t_runner->arrive(t_runner->block().named.at(static_cast<size_t>(barrier)), threads, true);
}
void arrive_named(int barrier, unsigned threads) {
  t_runner->arrive(t_runner->block().named.at(static_cast<size_t>(barrier)), threads, false);
}

void copy_tile_later(void* shared, const TileMap& map, int64_t byte, int64_t row,
                     uint64_t* barrier) {
  t_runner->copy_later({shared_offset(shared), map, byte, row, shared_offset(barrier)});
}

void copy_bytes_later(void* shared, const void* from, int64_t bytes, uint64_t* barrier) {
  auto* base = static_cast<std::byte*>(const_cast<void*>(from));
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0 || shared_offset(shared) % 16 != 0 ||
      bytes % 16 != 0)
    std::abort();
  t_runner->copy_later({shared_offset(shared), {base, 1, bytes, 0}, 0, 0, shared_offset(barrier)});
}

// At once, or as late as may be.
void store_tile_later(const void* shared, const TileMap& map, int64_t byte, int64_t row) {
  const auto store = [](const Later& l) {
    const auto& to = *static_cast<const TileMap*>(l.from);
    for (uint64_t r = 0; r < static_cast<uint64_t>(to.box_rows); ++r)
      for (uint64_t i = 0; i < 128; ++i) {
        const auto at_row = static_cast<int64_t>(l.b + r), at = static_cast<int64_t>(l.a + i);
        if (at_row < to.rows && at < to.row_bytes)
          to.base[at_row * to.row_bytes + at] =
              *at_shared_offset(shared_offset(l.to) + static_cast<uint32_t>(r * 128 + i));
      }
  };
  const Later later{store, const_cast<void*>(shared), &map, static_cast<uint64_t>(byte),
                    static_cast<uint64_t>(row)};
  if (t_runner->toss())
    store(later);
  else
    do_later(Queue::stores, later);
}

}  // namespace verbatim::emulated

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) {
  verbatim::emulated::tell_first();
  if (bytes <= verbatim::emulated::g_most_bytes && posix_memalign(memory, 256, bytes) == 0)
    return cudaSuccess;
  return t_last_error = cudaErrorMemoryAllocation;
}

// Nobody finds there what was there.
cudaError_t cudaFreeAsync(void* memory, cudaStream_t) {
  verbatim::emulated::tell_first();
  if (memory != nullptr) std::memset(memory, 0xFF, malloc_usable_size(memory));
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const bool late = stream != nullptr && stream->is_late;
  *event = late ? EmulatedEvent{.later = verbatim::emulated::told_later()}
                : EmulatedEvent{.first = verbatim::emulated::t_told_first};
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  verbatim::emulated::do_told_later(event->later);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (stream == nullptr || !stream->is_late) return cudaErrorInvalidValue;
  verbatim::emulated::t_waited_for = event->first;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index != 0) return cudaErrorInvalidValue;
  *properties = {"emulated GPU", 9, 0, 4, size_t{1} << 32, size_t{227} << 10};
  return cudaSuccess;
}
