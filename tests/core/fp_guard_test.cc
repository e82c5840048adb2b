#include <gtest/gtest.h>

#include <atomic>
#include <cfenv>
#include <string>
#include <thread>

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

// Sets bits of this thread's control word, and asserts, for a scope.
class Asserted {
 public:
  Asserted() : before_(float_environment_asserted()) { assert_float_environment(true); }
  ~Asserted() {
    assert_float_environment(before_);
    std::fesetenv(FE_DFL_ENV);
  }

 private:
  bool before_;
};

void set_flush_to_zero() {
#if defined(__SSE2__)
  _mm_setcsr(_mm_getcsr() | 0x8040);
#elif defined(__aarch64__)
  uint64_t v;
  __asm__ volatile("mrs %0, fpcr" : "=r"(v));
  __asm__ volatile("msr fpcr, %0" ::"r"(v | 1u << 24));
#else
  std::fesetround(FE_UPWARD);  // there is no flush-to-zero
#endif
}

TEST(FloatAssertion, NamesTheBitsTheThreadAndTheRemedy) {
  const Asserted asserted;
  std::string message;
  std::thread other([&] {
    const FloatWatch watch;
    set_flush_to_zero();
    const FloatGuard guard;
    message = watch.check().message();
  });
  other.join();
#if defined(__SSE2__)
  for (const char* part :
       {"MXCSR 0x9f", "flush-to-zero (bit 15) and denormals-are-zero (bit 6) set", "-ffast-math"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
#elif defined(__aarch64__)
  for (const char* part : {"flush-to-zero (FZ, bit 24) set", "-ffast-math"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
#endif
  for (const char* part : {"of thread ", "VERBATIM_ASSERT_FP", "std::fesetenv(FE_DFL_ENV)"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
}

TEST(FloatAssertion, TheRemedyIsOne) {
  const Asserted asserted;
  set_flush_to_zero();
  std::fesetround(FE_DOWNWARD);
  std::fesetenv(FE_DFL_ENV);
  const FloatWatch watch;
  const FloatGuard guard;
  EXPECT_TRUE(watch.check().ok()) << watch.check().message();
}

TEST(FloatAssertion, ARoundingDirectionIsNamed) {
  const Asserted asserted;
  const FloatWatch watch;
  std::fesetround(FE_UPWARD);
  const FloatGuard guard;
  const std::string message = watch.check().message();
  for (const char* part : {"a rounding direction", "std::fesetround(FE_TONEAREST)", "FE_DFL_ENV"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
  for (const char* part : {"flush", "-ffast-math"})
    EXPECT_EQ(message.find(part), std::string::npos) << message;
}

#if defined(__SSE2__)
// Each part of the mode is blamed on what sets it.
TEST(FloatAssertion, FlushingAndRoundingHaveRemediesOfTheirOwn) {
  struct Case {
    unsigned control;
    bool flushing, rounding;
  };
  for (const Case& c : {Case{0x9f80, true, false}, Case{0x1fc0, true, false},
                        Case{0x3f80, false, true}, Case{0xffc0, true, true}}) {
    const Asserted asserted;
    const FloatWatch watch;
    _mm_setcsr(c.control);
    const std::string here = check_float_environment().message();
    const FloatGuard guard;
    for (const std::string& message : {here, watch.check().message()}) {
      EXPECT_EQ(message.find("-ffast-math") != std::string::npos, c.flushing) << message;
      EXPECT_EQ(message.find("fesetround") != std::string::npos, c.rounding) << message;
    }
  }
}
#endif

TEST(FloatAssertion, WithoutItTheGuardCorrects) {
  const Asserted asserted;
  assert_float_environment(false);
  const FloatWatch watch;
  set_flush_to_zero();
  const FloatGuard guard;
  EXPECT_TRUE(watch.check().ok());
  EXPECT_TRUE(check_float_environment().ok());
}

// In a worker, too, which a library that a task calls may have spoiled.
TEST(FloatAssertion, SeesWhatWorkersMeet) {
  const Asserted asserted;
  for (int threads : {1, 2, 5}) {
    set_thread_count(threads);
    const FloatWatch watch;
    std::atomic<int> met{0};
    parallel_for(64, 1, [&](int64_t, int64_t) {
      set_flush_to_zero();
      { const FloatGuard inner; }
      std::fesetenv(FE_DFL_ENV);
      ++met;
    });
    EXPECT_EQ(met.load(), 64);
    EXPECT_FALSE(watch.check().ok());
  }
}

// oneTBB keeps the mode in which a process first used it and gives it to tasks: a host that has put
// its own right is right.
TEST(FloatAssertion, AModeOfThePastDoesNotCount) {
  set_thread_count(5);
  set_flush_to_zero();
  std::atomic<int> ran{0};
  parallel_for(64, 1, [&](int64_t, int64_t) { ++ran; });
  const Asserted asserted;
  std::fesetenv(FE_DFL_ENV);
  const FloatWatch watch;
  parallel_for(64, 1, [&](int64_t, int64_t) { ++ran; });
  EXPECT_EQ(ran.load(), 128);
  EXPECT_TRUE(watch.check().ok()) << watch.check().message();
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
