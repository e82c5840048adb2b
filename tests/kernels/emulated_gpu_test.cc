// The emulated GPU shows what a real one would make of a wrong kernel: that is what it is for.
#if defined(VERBATIM_EMULATED_GPU)
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include <verbatim/kernels/cuda/attention_tiles.cuh>

namespace verbatim::cuda {
namespace {

constexpr int kThreads = 64;

// Each thread takes what its neighbour wrote.
template <bool kWaits>
__global__ void rotate_values(int* values) {
  __shared__ int shared[kThreads];
  shared[threadIdx.x] = values[threadIdx.x];
  if (kWaits) __syncthreads();
  values[threadIdx.x] = shared[(threadIdx.x + 1) % kThreads];
}

__global__ void sum_lanes(int* values) {
  int sum = values[threadIdx.x];
  for (int s = 16; s > 0; s /= 2) sum += __shfl_xor_sync(~0u, sum, s);
  values[threadIdx.x] = sum;
}

__global__ void wait_without_the_first(int*) {
  if (threadIdx.x > 0) __syncwarp();
  if (threadIdx.x == 0) return;
  __syncthreads();  // the thread that has ended is not waited for
}

__global__ void wait_apart(int*) {
  if (threadIdx.x % 2 == 0) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

template <bool kWaits>
__global__ void copy_sixteen_bytes(int* values) {
  __shared__ __align__(16) int shared[4];
  if (threadIdx.x == 0) {
    for (int& v : shared) v = -1;
    copy_later(shared, values, true);
    commit_copies();
    if (kWaits) wait_for_copies<0>();
    for (int i = 0; i < 4; ++i) values[4 + i] = shared[i];
  }
}

// Its frame alone fills a stack.
__global__ void take_too_much_stack(int* values) {
  volatile int frame[emulated::kStackBytes / sizeof(int)];
  frame[0] = values[threadIdx.x];
  values[threadIdx.x] = frame[0];
}

std::vector<int> run(void (*kernel)(int*)) {
  alignas(16) static int values[kThreads];
  std::iota(values, values + kThreads, 0);
  Gpu* gpu = *Gpu::get();
  EXPECT_TRUE(launch(*gpu, {.blocks = {}, .threads = {kThreads, 1, 1}}, kernel, values).ok());
  return {values, values + kThreads};
}

TEST(EmulatedGpu, AMissingBarrierGivesWrongValues) {
  std::vector<int> rotated(kThreads);
  for (int i = 0; i < kThreads; ++i) rotated[i] = (i + 1) % kThreads;
  EXPECT_EQ(run(rotate_values<true>), rotated);
  EXPECT_NE(run(rotate_values<false>), rotated);
}

TEST(EmulatedGpu, LanesOfAWarpExchangeValues) {
  const std::vector<int> sums = run(sum_lanes);
  EXPECT_EQ(sums[0], 31 * 32 / 2);
  EXPECT_EQ(sums[31], sums[0]);
  EXPECT_EQ(sums[32], sums[0] + 32 * 32);
}

TEST(EmulatedGpu, BarriersThatNotAllReachAreABug) {
  run(wait_without_the_first);
  EXPECT_DEATH(run(wait_apart), "threads of a block wait for others that do not come");
}

TEST(EmulatedGpu, AThreadWithoutStackLeftIsABug) { EXPECT_DEATH(run(take_too_much_stack), ""); }

TEST(EmulatedGpu, CopiesArriveWhenTheyAreWaitedFor) {
  const std::vector<int> values = run(copy_sixteen_bytes<true>);
  EXPECT_EQ(std::vector(values.begin() + 4, values.begin() + 8), std::vector({0, 1, 2, 3}));
  EXPECT_EQ(run(copy_sixteen_bytes<false>)[4], -1);
}

// All but one of 89 such numbers are left out.
TEST(AttentionTiles, WeightsInRangeAreTheContracts) {
  for (uint32_t bits = 0x80000000; bits <= bits_of(kLeastExponent); bits += 89)
    ASSERT_EQ(bits_of(exp2p_in_range(float_of(bits))), bits_of(exp2p(float_of(bits)))) << bits;
  EXPECT_EQ(bits_of(exp2p_in_range(kLeastExponent)), bits_of(exp2p(kLeastExponent)));
  EXPECT_NE(bits_of(exp2p_in_range(-126.5f)), bits_of(exp2p(-126.5f)));
}

}  // namespace
}  // namespace verbatim::cuda
#endif
