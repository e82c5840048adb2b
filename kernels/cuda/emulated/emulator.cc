// Jumps between stacks are what this file is about.
#undef _FORTIFY_SOURCE
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
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

struct Copy {
  void* to;
  const void* from;
};
// A stack of its own that runs one thread after another. It is made once (makecontext) and then
// only jumped to: a jump asks the system for nothing.
struct Fiber {
  jmp_buf at;
  unsigned exchanges = 0;
  std::vector<Copy> copies;    // not yet arrived
  std::vector<size_t> groups;  // how many of them were there when each was closed
  Stack stack = make_stack();
  dim3 thread;
  void* fake_stack = nullptr;  // a sanitizer's
};

// So many fibers have to arrive; the last one wakes the others.
struct Barrier {
  unsigned expected = 0;
  std::vector<unsigned> waiting;
};

class Block {
 public:
  void run(dim3 block, dim3 blocks, dim3 threads, size_t shared_bytes, void (*kernel)(const void*),
           const void* context);
  void wait(Barrier& barrier);
  Barrier& whole() { return whole_; }
  Barrier& warp() { return warps_[running_ / kWarp]; }
  // Two sets in turn: whoever writes one again has seen everybody leave it.
  uint64_t& slot(unsigned lane) {
    return slots_[(running_ / kWarp * 2 + running().exchanges % 2) * kWarp + lane];
  }
  void* shared() { return shared_.get(); }
  Fiber& running() { return *fibers_[running_]; }

 private:
  static void start();
  void add_fiber();
  void resume(unsigned fiber);
  void leave();  // the running fiber, for the scheduler
  void arrive(Barrier& barrier, bool stays);
  unsigned draw(size_t below);

  jmp_buf scheduler_;
  void* scheduler_fake_stack_ = nullptr;
  const void* scheduler_bottom_ = nullptr;
  size_t scheduler_size_ = 0;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<unsigned> ready_;
  unsigned running_ = 0;
  Barrier whole_;
  std::vector<Barrier> warps_;
  std::vector<uint64_t> slots_;
  std::unique_ptr<std::byte, void (*)(void*)> shared_{nullptr, std::free};
  void (*kernel_)(const void*) = nullptr;
  const void* context_ = nullptr;
  uint64_t random_ = 1;
};

thread_local std::unique_ptr<Block> t_block;

unsigned Block::draw(size_t below) {
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

void Block::start() {
  Block& b = *t_block;
  arrived(nullptr, &b.scheduler_bottom_, &b.scheduler_size_);
  for (;;) {
    b.leave();
    b.kernel_(b.context_);
    b.arrive(b.warp(), false);
    b.arrive(b.whole_, false);
  }
}

void Block::add_fiber() {
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
void Block::arrive(Barrier& barrier, bool stays) {
  if (stays)
    barrier.waiting.push_back(running_);
  else
    --barrier.expected;
  if (barrier.waiting.size() < barrier.expected || barrier.waiting.empty()) return;
  ready_.insert(ready_.end(), barrier.waiting.begin(), barrier.waiting.end());
  barrier.waiting.clear();
}

void Block::wait(Barrier& barrier) {
  arrive(barrier, true);
  leave();
}

void Block::leave() {
  Fiber& f = *fibers_[running_];
  if (_setjmp(f.at) == 0) {
    leaving(&f.fake_stack, scheduler_bottom_, scheduler_size_);
    _longjmp(scheduler_, 1);
  }
  arrived(fibers_[running_]->fake_stack, &scheduler_bottom_, &scheduler_size_);
}

void Block::resume(unsigned fiber) {
  running_ = fiber;
  t_thread.thread = fibers_[fiber]->thread;
  if (_setjmp(scheduler_) == 0) {
    leaving(&scheduler_fake_stack_, fibers_[fiber]->stack.get(), kStackBytes);
    _longjmp(fibers_[fiber]->at, 1);
  }
  arrived(scheduler_fake_stack_, nullptr, nullptr);
}

void Block::run(dim3 block, dim3 blocks, dim3 threads, size_t shared_bytes,
                void (*kernel)(const void*), const void* context) {
  const unsigned count = threads.x * threads.y * threads.z;
  t_thread = {.thread = {}, .block = block, .block_size = threads, .grid_size = blocks};
  kernel_ = kernel;
  context_ = context;
  void* shared = nullptr;
  if (shared_bytes > 0 && posix_memalign(&shared, 1024, shared_bytes) != 0) std::abort();
  shared_.reset(static_cast<std::byte*>(shared));
  std::fill_n(shared_.get(), shared_bytes, std::byte{0xFF});  // what kernels may not rely on
  while (fibers_.size() < count) add_fiber();
  whole_.expected = count;
  warps_.resize((count + kWarp - 1) / kWarp);
  slots_.resize(warps_.size() * 2 * kWarp);
  for (unsigned w = 0; w < warps_.size(); ++w)
    warps_[w].expected = std::min(kWarp, count - w * kWarp);
  for (unsigned i = 0; i < count; ++i) {
    fibers_[i]->exchanges = 0;
    fibers_[i]->copies.clear();
    fibers_[i]->groups.clear();
    fibers_[i]->thread = {i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y};
    ready_.push_back(i);
  }
  while (!ready_.empty()) {
    const unsigned at = draw(ready_.size()), fiber = ready_[at];
    ready_[at] = ready_.back();
    ready_.pop_back();
    resume(fiber);
  }
  if (whole_.expected > 0) {
    std::fprintf(stderr, "verbatim: bug: %u threads of a block wait for others that do not come\n",
                 whole_.expected);
    std::abort();
  }
}

}  // namespace

void launch(dim3 blocks, dim3 threads, size_t shared_bytes, void (*kernel)(const void*),
            const void* context) {
  if (!t_block) t_block = std::make_unique<Block>();
  for (unsigned z = 0; z < blocks.z; ++z)
    for (unsigned y = 0; y < blocks.y; ++y)
      for (unsigned x = 0; x < blocks.x; ++x)
        t_block->run({x, y, z}, blocks, threads, shared_bytes, kernel, context);
}

void* shared_memory() { return t_block->shared(); }
void barrier_of_block() { t_block->wait(t_block->whole()); }
void barrier_of_warp() { t_block->wait(t_block->warp()); }

uint64_t exchange(uint64_t value, int from) {
  Block& block = *t_block;
  ++block.running().exchanges;
  block.slot(static_cast<unsigned>(lane())) = value;
  barrier_of_warp();
  return block.slot(static_cast<unsigned>(from));
}

void copy_later(void* to, const void* from) { t_block->running().copies.push_back({to, from}); }

void commit_copies() {
  Fiber& f = t_block->running();
  f.groups.push_back(f.copies.size());
}

void wait_for_copies(int pending) {
  Fiber& f = t_block->running();
  if (f.groups.size() <= static_cast<size_t>(pending)) return;
  const size_t closed = f.groups.size() - static_cast<size_t>(pending),
               arrived = f.groups[closed - 1];
  for (size_t i = 0; i < arrived; ++i) {
    if (f.copies[i].from == nullptr)
      std::memset(f.copies[i].to, 0, 16);
    else
      std::memcpy(f.copies[i].to, f.copies[i].from, 16);
  }
  f.copies.erase(f.copies.begin(), f.copies.begin() + static_cast<std::ptrdiff_t>(arrived));
  f.groups.erase(f.groups.begin(), f.groups.begin() + static_cast<std::ptrdiff_t>(closed));
  for (size_t& g : f.groups) g -= arrived;
}

}  // namespace verbatim::emulated

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) {
  if (bytes <= verbatim::emulated::g_most_bytes && posix_memalign(memory, 256, bytes) == 0)
    return cudaSuccess;
  return t_last_error = cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t) {
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index != 0) return cudaErrorInvalidValue;
  *properties = {"emulated GPU", 9, 0, 4, size_t{1} << 32};
  return cudaSuccess;
}
