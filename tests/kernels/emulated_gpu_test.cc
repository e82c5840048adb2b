// The emulated GPU shows what a real one would make of a wrong kernel: that is what it is for.
#if defined(VERBATIM_EMULATED_GPU)
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include <verbatim/kernels/cuda/attention_tiles.cuh>
#include <verbatim/kernels/cuda/tile_product.cuh>

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

__global__ void add_one(int* values) { ++values[threadIdx.x]; }

Status add_one_beside(Gpu& gpu, int* values) {
  const Grid grid{.blocks = {}, .threads = {kThreads, 1, 1}, .beside = true};
  return launch(gpu, grid, add_one, values);
}

TEST(EmulatedGpu, ASecondStreamIsDoneWhenItIsWaitedFor) {
  Gpu& gpu = **Gpu::get();
  static int values[kThreads];
  const Gpu::Landing landing = *gpu.take_landing();
  ASSERT_TRUE(gpu.follow_stream(landing).ok());
  ASSERT_TRUE(add_one_beside(gpu, values).ok());
  ASSERT_TRUE(gpu.announce(landing).ok());
  EXPECT_EQ(values[1], 0);
  EXPECT_EQ(cudaEventSynchronize(landing.done), cudaSuccess);
  EXPECT_EQ(values[1], 1);
  gpu.give_back(landing);
}

TEST(EmulatedGpu, ASecondStreamThatDoesNotWaitForTheFirstIsABug) {
  Gpu& gpu = **Gpu::get();
  static int values[kThreads];
  const Gpu::Landing landing = *gpu.take_landing();
  ASSERT_TRUE(gpu.follow_stream(landing).ok());
  const Tensor later = *Tensor::allocate_on(gpu, DType::u8, Shape{1});
  EXPECT_DEATH((void)add_one_beside(gpu, values), "a stream does not wait for what was told");
  gpu.give_back(landing);
}

template <int kRows, int kColumns>
__global__ void multiply_by_tiles(TileOperands codes, int32_t* out) {
  TileProduct<Int8Unit, kRows, kColumns> product(codes);
  product.run([](int64_t) {});
  product.each([&](int i, int j, int e, int64_t m, int64_t n) {
    out[m * codes.n + n] = product.sum[i][j][e];
  });
}

// What no operator reaches on the emulated GPU, which is one of Hopper's: the loop for other GPUs
// where rows are of whole words.
template <int kRows, int kColumns>
void expect_product_of_tiles() {
  constexpr int64_t kM = 130, kN = 70, kK = 208;
  alignas(16) static int8_t a[kM * kK], b[kN * kK];
  for (int64_t i = 0; i < kM * kK; ++i) a[i] = static_cast<int8_t>(i * i % 251 - 125);
  for (int64_t i = 0; i < kN * kK; ++i) b[i] = static_cast<int8_t>(i * i % 241 - 120);
  const TileOperands codes{a, b, kM, kN, kK};
  ASSERT_TRUE(codes.in_words());
  std::vector<int32_t> want(kM * kN), have(kM * kN);
  for (int64_t i = 0; i < kM * kN; ++i)
    for (int64_t k = 0; k < kK; ++k) want[i] += a[i / kN * kK + k] * b[i % kN * kK + k];
  ASSERT_TRUE(launch(**Gpu::get(), TileProduct<Int8Unit, kRows, kColumns>::grid(codes),
                     multiply_by_tiles<kRows, kColumns>, codes, have.data())
                  .ok());
  EXPECT_EQ(have, want);
}
TEST(EmulatedGpu, TilesOfOtherGpus) {
  expect_product_of_tiles<32, 64>();
  expect_product_of_tiles<64, 128>();
  expect_product_of_tiles<128, 128>();
}

// All but one of 89 such numbers are left out.
TEST(AttentionTiles, PowersWithoutABranchAreTheContracts) {
  const auto expect_equal = [](uint32_t from, uint32_t to) {
    for (uint32_t bits = from; bits <= to; bits += 89)
      ASSERT_EQ(bits_of(exp2p_of_any(float_of(bits))), bits_of(exp2p(float_of(bits)))) << bits;
  };
  expect_equal(0x80000000, 0xFF800000);
  expect_equal(0, bits_of(127.0f) - 89);
  EXPECT_TRUE(is_nan(exp2p_of_any(float_of(kNanBits))));
}

}  // namespace
}  // namespace verbatim::cuda
#endif
