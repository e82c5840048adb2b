#include <verbatim/core/parallel.h>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>

#include <verbatim/core/fp_guard.h>

namespace verbatim {
namespace {
std::atomic<int> g_threads{0};  // 0: not set, all that the process may use
}

int thread_count() {
  const int set = g_threads.load();
  return set > 0 ? set : oneapi::tbb::info::default_concurrency();
}

void set_thread_count(int threads) {
  // global_control is what makes more threads than cores possible; the tests use that to vary the
  // schedule.
  static std::mutex mutex;
  static std::unique_ptr<oneapi::tbb::global_control> control;
  const std::lock_guard lock(mutex);
  g_threads = std::max(1, threads);
  control = std::make_unique<oneapi::tbb::global_control>(
      oneapi::tbb::global_control::max_allowed_parallelism,
      static_cast<size_t>(std::max(1, threads)));
}

void parallel_for_impl(int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t),
                       void* context) {
  if (n <= 0) return;
  grain = std::max<int64_t>(1, grain);
  const int64_t ranges = (n + grain - 1) / grain;
  const auto run = [&](int64_t r) {
    const FloatGuard guard;
    body(context, r * grain, std::min(n, (r + 1) * grain));
  };
  if (ranges == 1 || thread_count() == 1) {
    for (int64_t r = 0; r < ranges; ++r) run(r);
    return;
  }
  // Without a context of its own the loop would run in the mode in which this process first used
  // oneTBB, long past though that may be.
  const FloatGuard guard;
  using Group = oneapi::tbb::task_group_context;
  Group group(Group::bound, Group::default_traits | Group::fp_settings);
  // Whoever waits here takes no other task: scratch memory of its thread may be in use around this.
  oneapi::tbb::this_task_arena::isolate(
      [&] { oneapi::tbb::parallel_for(int64_t{0}, ranges, run, group); });
}

}  // namespace verbatim
