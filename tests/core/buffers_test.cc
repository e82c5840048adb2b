// Buffers for tensors: what is given back serves the next, within bounds.
#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include <verbatim/core/buffers.h>
#include <verbatim/core/tensor.h>

namespace verbatim {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kKeeps = false;
#else
constexpr bool kKeeps = true;
#endif

TEST(Buffers, ALoopOfTheSameSizesAsksTheSystemOnce) {
  if (!kKeeps) GTEST_SKIP() << "nothing is kept under a sanitizer";
  const auto step = [] {
    const Tensor a = *Tensor::zeros(DType::f32, Shape{300, 1000}),
                 b = *Tensor::zeros(DType::u8, Shape{70000});
  };
  step();
  const uint64_t before = buffer_statistics().from_system;
  for (int i = 0; i < 100; ++i) step();
  EXPECT_EQ(buffer_statistics().from_system, before);
}

TEST(Buffers, KeepsNoMoreThanItIsTold) {
  std::vector<void*> all;
  for (int i = 0; i < 8; ++i) all.push_back(take_buffer(1 << 20));
  for (void* p : all) std::memset(p, 7, 1 << 20);
  set_kept_buffer_bytes(3 << 20);
  for (void* p : all) give_back_buffer(p, 1 << 20);
  EXPECT_LE(buffer_statistics().kept, size_t{3} << 20);
  if (kKeeps) {
    EXPECT_GE(buffer_statistics().kept, size_t{2} << 20);
  }
  set_kept_buffer_bytes(0);
  EXPECT_EQ(buffer_statistics().kept, 0u);
  set_kept_buffer_bytes(kKeeps ? size_t{1} << 30 : 0);
}

// What an earlier part of a program left does not keep a later one from its steady state.
TEST(Buffers, SizesThatNobodyWantsMakeRoom) {
  if (!kKeeps) GTEST_SKIP() << "nothing is kept under a sanitizer";
  constexpr size_t kMost = size_t{8} << 20;
  set_kept_buffer_bytes(kMost);
  std::vector<void*> stale(8);
  for (void*& p : stale) p = take_buffer(1 << 20);
  for (void* p : stale) give_back_buffer(p, 1 << 20);
  const auto step = [] { give_back_buffer(take_buffer(3 << 20), 3 << 20); };
  step();
  const uint64_t before = buffer_statistics().from_system;
  step();
  EXPECT_EQ(buffer_statistics().from_system, before);
  EXPECT_LE(buffer_statistics().kept, kMost);
  set_kept_buffer_bytes(size_t{1} << 30);
}

// One that is larger than all that may be kept leaves those that are.
TEST(Buffers, OneThatIsTooLargeDrivesOutNoOther) {
  if (!kKeeps) GTEST_SKIP() << "nothing is kept under a sanitizer";
  set_kept_buffer_bytes(size_t{8} << 20);
  give_back_buffer(take_buffer(3 << 20), 3 << 20);
  const size_t before = buffer_statistics().kept;
  give_back_buffer(take_buffer(9 << 20), 9 << 20);
  EXPECT_GE(before, size_t{3} << 20);
  EXPECT_EQ(buffer_statistics().kept, before);
  set_kept_buffer_bytes(size_t{1} << 30);
}

// Two threads never hold one buffer: each writes its own number and finds it again.
TEST(Buffers, AreOneOwnersAtATime) {
  std::vector<std::thread> threads;
  std::vector<int> wrong(8);
  for (size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 3000; ++i) {
        const size_t size = (size_t{1} << 14) + 4096 * ((i + t) % 5);
        auto* p = static_cast<unsigned char*>(take_buffer(size));
        std::memset(p, static_cast<int>(t), size);
        for (size_t j = 0; j < size; j += 997) wrong[t] += p[j] != t;
        give_back_buffer(p, size);
      }
    });
  for (std::thread& t : threads) t.join();
  for (const int w : wrong) EXPECT_EQ(w, 0);
}

}  // namespace
}  // namespace verbatim
