#include <gtest/gtest.h>

#include <atomic>
#include <cfenv>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include <verbatim/core/fp_guard.h>
#include <verbatim/core/parallel.h>

namespace verbatim {
namespace {

TEST(FloatGuard, SetsNearestEvenAndRestoresTheCallers) {
  std::fesetround(FE_UPWARD);
  EXPECT_FALSE(check_float_environment().ok());
  {
    const FloatGuard guard;
    EXPECT_TRUE(check_float_environment().ok());
  }
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
  EXPECT_TRUE(check_float_environment().ok());
}

TEST(FloatGuard, HoldsInEveryTask) {
  std::fesetround(FE_DOWNWARD);
#if defined(__SSE2__)
  _mm_setcsr(_mm_getcsr() | 0x8040);  // what -ffast-math's start-up code sets
#endif
  std::atomic<int> wrong{0};
  parallel_for(64, 1, [&](int64_t, int64_t) {
    volatile float tiny = 1e-40f;
    if (!check_float_environment().ok() || tiny * 1.0f == 0.0f) ++wrong;
  });
  EXPECT_EQ(wrong.load(), 0);
#if defined(__SSE2__)
  _mm_setcsr(_mm_getcsr() & ~0x8040u);
#endif
  std::fesetround(FE_TONEAREST);
}

TEST(ParallelFor, CoversTheRangeOnce) {
  for (int threads : {1, 2, 5}) {
    set_thread_count(threads);
    for (int64_t n : {0, 1, 7, 100}) {
      std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
      parallel_for(n, 3, [&](int64_t from, int64_t to) {
        for (int64_t i = from; i < to; ++i) ++hits[static_cast<size_t>(i)];
      });
      for (const auto& h : hits) EXPECT_EQ(h.load(), 1);
    }
  }
}

}  // namespace
}  // namespace verbatim
