// Which kernel attends to what in order, and the powers of two that the one for many rows has.
#if defined(VERBATIM_EMULATED_GPU)
#include "kernels/compare.h"

#include <cmath>

#include <verbatim/kernels/cuda/ordered_many_rows.cuh>

namespace verbatim::test {
namespace {

using cuda::ordered::attend_many_rows;

// The kernel that a call of such sizes goes to, which gives the reference's bits.
const void* kernel_of(DType type, int64_t queries, int64_t group, int64_t size, int64_t width) {
  Random r(1);
  const int64_t keys = 130;
  const Case c{node_of("verbatim", "Attention",
                       {{"heads", group}, {"kv_heads", int64_t{1}}, {"scale", 0.1f}}),
               {numbers(r, type, {1, queries, group * size}, Fill::ordinary),
                numbers(r, type, {1, keys, size}, Fill::ordinary),
                numbers(r, type, {1, keys, width}, Fill::ordinary)},
               {}};
  const std::unique_ptr<Backend> gpu = *make_tested_backend("cuda");
  emulated::t_last_kernel = nullptr;
  expect_reference(*gpu, c);
  EXPECT_NE((*gpu->run(c.node, c.inputs))[0].device(), nullptr);  // the host has not
  return emulated::t_last_kernel;
}

template <class T, int kColumns>
const void* many_rows() {
  return reinterpret_cast<const void*>(attend_many_rows<T, kColumns>);
}

TEST(OrderedAttention, ManyRowsHaveAKernelOfTheirOwn) {
  EXPECT_EQ(kernel_of(DType::f32, 65, 1, 1, 1), (many_rows<float, 64>()));
  EXPECT_EQ(kernel_of(DType::f32, 65, 1, 128, 64), (many_rows<float, 64>()));
  EXPECT_EQ(kernel_of(DType::f32, 65, 1, 8, 65), (many_rows<float, 128>()));
  EXPECT_EQ(kernel_of(DType::f32, 33, 2, 8, 128), (many_rows<float, 128>()));
  EXPECT_EQ(kernel_of(DType::bf16, 65, 1, 8, 64), (many_rows<BFloat16, 64>()));
  EXPECT_EQ(kernel_of(DType::f16, 65, 1, 8, 128), (many_rows<Half, 128>()));
}

TEST(OrderedAttention, OthersHaveNot) {
  EXPECT_NE(kernel_of(DType::f32, 64, 1, 8, 8), (many_rows<float, 64>()));
  EXPECT_NE(kernel_of(DType::f32, 65, 1, 129, 8), (many_rows<float, 64>()));
  EXPECT_NE(kernel_of(DType::f32, 65, 1, 8, 129), (many_rows<float, 128>()));
}

TEST(OrderedAttention, ManyRowsWithoutTheirSharedMemory) {
  (void)make_tested_backend("cuda");  // looks at the tensor cores, once, by kernels that take more
  emulated::g_most_shared = size_t{48} << 10;
  const void* kernel = kernel_of(DType::f32, 65, 1, 8, 8);
  emulated::g_most_shared = SIZE_MAX;
  EXPECT_NE(kernel, nullptr);
  EXPECT_NE(kernel, (many_rows<float, 64>()));
}

// Where it is sure, it is right; it is sure of nearly all, and of none that is subnormal.
TEST(OrderedAttention, PowersOfTwo) {
  cuda::Exp2::Table table;
  for (int t = 0; t < cuda::Exp2::kSteps; ++t) table.write(t);
  const cuda::Exp2 exp2(table);
  int64_t unsure = 0, count = 0;
  const auto expect_exact = [&](float x) {
    const float want = unary::f32::exp2(x);
    const cuda::Exp2::Fast fast = exp2.fast(x);
    const bool safe = cuda::Exp2::safe(x, fast.distance);
    if (safe) {
      ASSERT_EQ(bits_of(fast.y), bits_of(want)) << std::hexfloat << x;
    }
    ASSERT_EQ(bits_of(exp2(x)), bits_of(want)) << std::hexfloat << x;
    if (x >= cuda::Exp2::kLeast)
      unsure += safe ? 0 : 1;
    else
      ASSERT_FALSE(safe) << std::hexfloat << x;
    ++count;
  };
  for (uint32_t bits = 0x80000000; bits < 0xFF800000; bits += 2503) expect_exact(float_of(bits));
  EXPECT_LT(unsure, count / 10'000);
  for (int n = -160 * 16; n <= 0; ++n)
    for (const float x : {static_cast<float>(n) / 16, static_cast<float>(n) / 16 - 1.0f / 32,
                          std::nextafter(static_cast<float>(n) / 16 - 1.0f / 32, 0.0f)})
      expect_exact(x);
  for (const uint32_t bits : {0xFF800000u, 0x7FC00000u, 0xFF812345u, 0x80000001u, 0u})
    expect_exact(float_of(bits));
  // Of all, 21 are wrong where nothing is in doubt; these are some.
  for (const float x : {-0x1.a1c732p-6f, -0x1.c1deb6p-6f, -0x1.e3ea42p-6f, -0x1.4b42cep-5f,
                        -0x1.3ca7a4p-3f, -0x1.250384p-2f, -0x1.7184d4p-1f, -0x1.b8c26ap+0f})
    expect_exact(x);
}

}  // namespace
}  // namespace verbatim::test
#endif
