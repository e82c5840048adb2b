// parallel.h without threads: for the static verifier and for machines that have no TBB.
#include <algorithm>

#include <verbatim/core/fp_guard.h>
#include <verbatim/core/parallel.h>

namespace verbatim {

int thread_count() { return 1; }
void set_thread_count(int) {}

void parallel_for_impl(int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t),
                       void* context) {
  grain = std::max<int64_t>(1, grain);
  const FloatGuard guard;
  for (int64_t begin = 0; begin < n; begin += grain)
    body(context, begin, std::min(n, begin + grain));
}

}  // namespace verbatim
