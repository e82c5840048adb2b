// Parallel loops. Work is cut into ranges that depend on n and grain alone, and ranges write
// disjoint outputs, so the number of threads never changes a result. Every task runs under the
// contract's floating-point environment (fp_guard.h).
#pragma once

#include <cstdint>
#include <type_traits>

namespace verbatim {

// Threads that parallel_for may use; by default all that the process may run on.
int thread_count();
void set_thread_count(int threads);  // at least 1; takes effect for loops started afterwards

void parallel_for_impl(int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t),
                       void* context);

// Calls body(begin, end) for consecutive ranges that cover [0, n), each of `grain` items (the last
// may have fewer).
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& body) {
  using Body = std::remove_reference_t<F>;
  parallel_for_impl(
      n, grain, [](void* f, int64_t begin, int64_t end) { (*static_cast<Body*>(f))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace verbatim
