// Every rung of the ladders (kernels/cuda/ladder/ladder.h) against the scalar reference, bit for
// bit, on the GPU of this build, a real or the emulated one.
#if defined(VERBATIM_EMULATED_GPU) || defined(VERBATIM_KERNELS_CUDA)
#include <algorithm>
#include <cstring>
#include <initializer_list>

#include <verbatim/kernels/cuda/ladder/ladder.h>

#include "kernels/compare.h"

namespace verbatim::test {
namespace {

using cuda::ladder::Attention;
using cuda::ladder::Gemm;

class LadderTest : public OnBackend {
 protected:
  void SetUp() override {
    OnBackend::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    gpu_ = *cuda::ladder::find_gpu();
    hopper_ = has_warp_groups(*backend_);
  }

  // On the device, so many bytes behind an address that is a multiple of 256.
  Tensor moved(const Tensor& t, int64_t offset = 0) const {
    Tensor behind = *Tensor::zeros(DType::u8, Shape{offset + static_cast<int64_t>(t.byte_size())});
    std::ranges::copy(t.bytes(), behind.mutable_bytes().begin() + offset);
    return *behind.copied_to(cuda::ladder::memory_of(*gpu_));
  }

  void expect_sums(Random& r, int64_t m, int64_t n, int64_t k, int64_t offset);
  void expect_attention(const Case& c, bool aligned);

  cuda::Gpu* gpu_ = nullptr;
  bool hopper_ = false;
  size_t products_[std::size(cuda::ladder::kGemmRungs)] = {};  // that each rung took
  size_t attentions_[std::size(cuda::ladder::kAttentionRungs)] = {};
};
INSTANTIATE_TEST_SUITE_P(Backends, LadderTest, ::testing::Values("cuda"),
                         [](const auto& info) { return info.param; });

// --- products

Tensor codes(Random& r, const Shape& shape) {
  Tensor t = *Tensor::allocate(DType::i8, shape);
  for (int8_t& code : t.mutable_data<int8_t>())
    code = static_cast<int8_t>(r.chance(10) ? r.pick({-128, 127}) : r.between(-128, 127));
  return t;
}

Tensor sums_of(const Tensor& a, const Tensor& b) {
  const int64_t m = a.dim(0), n = b.dim(0), k = a.dim(1);
  Tensor c = *Tensor::zeros(DType::i32, {m, n});
  for (int64_t i = 0; i < m * n; ++i)
    for (int64_t at = 0; at < k; ++at)
      c.mutable_data<int32_t>()[i] +=
          a.data<int8_t>()[i / n * k + at] * b.data<int8_t>()[i % n * k + at];
  return c;
}

// By each rung that takes it; operands lie `offset` bytes behind a multiple of 256.
void LadderTest::expect_sums(Random& r, int64_t m, int64_t n, int64_t k, int64_t offset) {
  const Tensor a = codes(r, {m, k}), b = codes(r, {n, k}), want = sums_of(a, b);
  const Tensor a_there = moved(a, offset), b_there = moved(b, offset);
  const auto first = [&](const Tensor& t) {
    return reinterpret_cast<const int8_t*>(t.address()) + offset;
  };
  for (size_t i = 0; i < std::size(cuda::ladder::kGemmRungs); ++i) {
    const auto& rung = cuda::ladder::kGemmRungs[i];
    Tensor c = moved(filled(DType::i32, {m, n}, 0x5A));
    const Gemm p{
        first(a_there), first(b_there), reinterpret_cast<int32_t*>(c.mutable_address()), m, n, k};
    if (!rung.suits(*gpu_, p)) continue;
    ++products_[i];
    ASSERT_TRUE(rung.run(*gpu_, p).ok()) << rung.name;
    const Tensor have = *c.on_host();
    EXPECT_EQ(std::memcmp(want.bytes().data(), have.bytes().data(), want.byte_size()), 0)
        << rung.name << ": " << m << " x " << n << " x " << k << ", offset " << offset;
  }
}

TEST_P(LadderTest, Products) {
  struct Size {
    int64_t m, n, k, offset;
  };
  int seed = 0;
  // One result, and no codes; more steps than any ring has stages; blocks of several rungs with
  // edges, more of them than multiprocessors; rows that are no whole words.
  for (const Size& s : {Size{1, 1, 1, 0}, Size{3, 2, 0, 0}, Size{20, 33, 1040, 0},
                        Size{290, 270, 80, 0}, Size{70, 131, 203, 1}}) {
    Random r(static_cast<uint64_t>(seed++));
    expect_sums(r, s.m, s.n, s.k, s.offset);
  }
  for (; seed < 12; ++seed) {
    Random r(static_cast<uint64_t>(seed));
    const int64_t k = r.chance(60) ? 16 * r.between(1, 20) : r.between(1, 300);
    expect_sums(r, r.between(1, 150), r.between(1, 150), k, r.pick({0, 0, 0, 1, 4}));
  }
  for (size_t i = 0; i < std::size(products_); ++i)
    EXPECT_TRUE(products_[i] > 2 || (i >= 5 && !hopper_)) << cuda::ladder::kGemmRungs[i].name;
}

// --- attention

Case some_attention(Random& r, Fill fill, int64_t queries, int64_t heads, int64_t kv_heads,
                    int64_t size, int64_t keys, bool causal) {
  Case c{node_of("verbatim", "AttentionTensorCore",
                 {{"heads", heads},
                  {"kv_heads", kv_heads},
                  {"scale", r.chance(50) ? 0.125f : 3.0f},
                  {"causal", int64_t{causal}},
                  {"output", static_cast<int64_t>(DType::f32)}}),
         {numbers(r, DType::bf16, {1, queries, heads * size}, fill),
          numbers(r, DType::bf16, {1, keys, kv_heads * size}, fill),
          numbers(r, DType::bf16, {1, keys, kv_heads * size}, Fill::ordinary)},
         {}};
  // A value that is not finite, of a key that not all rows see, perhaps.
  if (r.chance(50)) {
    const int64_t key = keys - 1 - r.below(std::min<int64_t>(keys, queries));
    auto* values = reinterpret_cast<uint16_t*>(c.inputs[2].mutable_bytes().data());
    values[key * kv_heads * size + r.below(kv_heads * size)] = 0x7F80;
  }
  return c;
}

// By each rung that takes it; unless `aligned`, operands lie at multiples of 2 alone.
void LadderTest::expect_attention(const Case& c, bool aligned) {
  const Tensor want = (*evaluate_reference(c.node, c.inputs))[0];
  const int64_t offset = aligned ? 0 : 2;
  std::vector<Tensor> there;
  std::vector<const uint16_t*> first;
  for (const Tensor& t : c.inputs) {
    there.push_back(moved(t, offset));
    first.push_back(reinterpret_cast<const uint16_t*>(there.back().address() + offset));
  }
  const auto of = [&](const char* name) { return *c.node.attributes.get<int64_t>(name, 0); };
  for (size_t i = 0; i < std::size(cuda::ladder::kAttentionRungs); ++i) {
    const auto& rung = cuda::ladder::kAttentionRungs[i];
    Tensor out = moved(filled(DType::f32, want.shape(), 0x5A));
    const Attention p{.q = first[0],
                      .k = first[1],
                      .v = first[2],
                      .out = reinterpret_cast<float*>(out.mutable_address()),
                      .queries = want.dim(1),
                      .heads = of("heads"),
                      .kv_heads = of("kv_heads"),
                      .size = want.dim(2) / of("heads"),
                      .keys = c.inputs[1].dim(1),
                      .scale = *c.node.attributes.get<float>("scale", 0.0f),
                      .causal = of("causal") != 0};
    if (!rung.suits(*gpu_, p)) continue;
    ++attentions_[i];
    ASSERT_TRUE(rung.run(*gpu_, p).ok()) << rung.name;
    const Tensor have = *out.on_host();
    EXPECT_EQ(std::memcmp(want.bytes().data(), have.bytes().data(), want.byte_size()), 0)
        << rung.name << ": " << p.queries << " queries, " << p.heads << " heads, " << p.kv_heads
        << " of keys, of " << p.size << ", " << p.keys << " keys, causal " << p.causal;
  }
}

TEST_P(LadderTest, Attention) {
  struct Size {
    int64_t queries, heads, kv_heads, size, keys;
    bool causal;
  };
  int seed = 0;
  // Keys beyond a part; rows enough for warp groups, of both sizes of heads, and beyond a part;
  // rows that see nothing, a whole warp of them, too, which is done before others.
  for (const Size& s : {Size{3, 2, 1, 16, 2200, false}, Size{70, 1, 1, 64, 150, true},
                        Size{36, 2, 1, 128, 130, true}, Size{33, 2, 1, 64, 2100, true},
                        Size{65, 1, 1, 64, 256, false}, Size{20, 2, 2, 8, 7, true},
                        Size{66, 1, 1, 128, 50, true}}) {
    Random r(static_cast<uint64_t>(seed++));
    expect_attention(
        some_attention(r, Fill::ordinary, s.queries, s.heads, s.kv_heads, s.size, s.keys, s.causal),
        true);
  }
  for (; seed < 14; ++seed) {
    Random r(static_cast<uint64_t>(seed));
    const int64_t kv_heads = r.between(1, 2), heads = kv_heads * r.between(1, 3);
    expect_attention(some_attention(r, any_fill(r), r.between(1, 15), heads, kv_heads,
                                    r.between(1, 128), r.between(1, 200), r.chance(50)),
                     r.chance(50));
  }
  for (size_t i = 0; i < std::size(attentions_); ++i)
    EXPECT_TRUE(attentions_[i] > 2 || (i >= 2 && !hopper_))
        << cuda::ladder::kAttentionRungs[i].name;
}

}  // namespace
}  // namespace verbatim::test
#endif
