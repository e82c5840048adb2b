// Attention against the reference: masks, groups of heads, long contexts, hostile values.
#include "kernels/compare.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include <verbatim/repops/ops/sliced.h>

namespace verbatim::test {
namespace {

class AttentionTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, AttentionTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

// How many keys of each sequence there are.
Tensor some_lengths(Random& r, int64_t batch, int64_t keys) {
  std::vector<int64_t> lengths;
  for (int64_t b = 0; b < batch; ++b) lengths.push_back(r.between(0, keys));
  return *Tensor::from<int64_t>(Shape{batch}, lengths);
}
void put_infinity(Tensor& t, int64_t at) {
  std::byte* code = t.mutable_bytes().data() + at * size_of(t.dtype());
  if (t.dtype() == DType::f32)
    *reinterpret_cast<float*>(code) = std::numeric_limits<float>::infinity();
  else
    *reinterpret_cast<uint16_t*>(code) = t.dtype() == DType::bf16 ? 0x7F80 : 0x7C00;
}

Case some_attention(Random& r, int64_t queries, int64_t keys, DType type = DType::f32) {
  const int64_t batch = r.between(1, 2), kv_heads = r.pick<int64_t>({1, 2, 3, 5, 9}),
                group = r.pick<int64_t>({1, 1, 2, 7}), heads = kv_heads * group;
  // Sizes of whole panels are read where they lie.
  const int64_t head_size = r.chance(5)    ? r.pick<int64_t>({0, 513, 600})
                            : r.chance(20) ? r.pick<int64_t>({32, 64, 96})
                                           : r.between(1, 40),
                value_size = r.chance(30) ? r.pick<int64_t>({32, 64, 96}) : r.between(0, 40);
  const Fill fill = any_fill(r);
  Attributes attributes{{"heads", heads},
                        {"scale", fill == Fill::ordinary ? 0.3f : number(r, fill)}};
  if (group > 1) attributes.set("kv_heads", kv_heads);
  if (r.chance(50)) attributes.set("causal", int64_t{1});
  if (r.chance(20)) attributes.set("window", r.between(1, 200));
  if (r.chance(20)) attributes.set("softcap", r.chance(80) ? 5.0f : number(r, fill));
  Case c{node_of("verbatim", "Attention", attributes), {}, {}};
  c.inputs.push_back(numbers(r, type, {batch, queries, heads * head_size}, fill));
  c.inputs.push_back(numbers(r, type, {batch, keys, kv_heads * head_size}, fill));
  c.inputs.push_back(numbers(r, type, {batch, keys, kv_heads * value_size}, fill));
  if (r.chance(30)) c.inputs.push_back(some_lengths(r, batch, keys));
  return c;
}

TEST_P(AttentionTest, Short) {
  expect_reference(*backend_, 400,
                   [](Random& r) { return some_attention(r, r.between(0, 20), r.between(0, 60)); });
}

TEST_P(AttentionTest, AcrossBlocks) {
  expect_reference(*backend_, 60, [](Random& r) {
    return some_attention(r, r.pick<int64_t>({1, 3, 64, 130}),
                          r.pick<int64_t>({127, 128, 129, 300}));
  });
}

TEST_P(AttentionTest, Of16Bits) {
  expect_reference(*backend_, 1000, [](Random& r) {
    const bool blocks = r.chance(3);
    return some_attention(r, r.between(0, 20),
                          blocks ? r.pick<int64_t>({127, 129, 300}) : r.between(0, 60),
                          r.pick({DType::bf16, DType::f16}));
  });
}

TEST_P(AttentionTest, AcrossRestarts) {
  expect_reference(*backend_, 6,
                   [](Random& r) { return some_attention(r, r.between(1, 4), 4200); });
}

// The same for int8 attention, or now and then its cached form, of codes at both ends of their
// range too.
Case as_int8_attention(Random& r, Case c) {
  c.node.op = "AttentionInt8";
  if (r.chance(50) || c.inputs[1].elements() == 0 || c.inputs[2].elements() == 0) return c;
  const int64_t heads = *c.node.attributes.get<int64_t>("heads", 1);
  const Attributes kv{{"heads", *c.node.attributes.get<int64_t>("kv_heads", heads)}};
  Tensors k = *evaluate_reference(node_of("verbatim", "QuantizeKeys", kv, 2), Tensors{c.inputs[1]}),
          v = *evaluate_reference(node_of("verbatim", "QuantizeValues", kv, 2),
                                  Tensors{c.inputs[2]});
  if (r.chance(50))
    for (Tensor* codes : {&k[0], &v[0]})
      for (int8_t& code : codes->mutable_data<int8_t>())
        code = static_cast<int8_t>(r.chance(50) ? r.pick({-127, 127}) : r.between(-127, 127));
  c.node.op = "AttentionInt8Cached";
  const Tensor lengths = c.inputs.size() > 3 ? c.inputs[3] : Tensor();
  c.inputs = {c.inputs[0], k[0], v[0], k[1], v[1], lengths};
  return c;
}

// With one and two slices of the weights.
Case some_int8_attention(Random& r, int64_t queries, int64_t keys) {
  Case c = some_attention(r, queries, keys);
  if (r.chance(50)) c.node.attributes.set("weight_slices", r.between(1, 2));
  return as_int8_attention(r, std::move(c));
}

TEST_P(AttentionTest, Int8) {
  expect_reference(*backend_, 600, [](Random& r) {
    return some_int8_attention(r, r.between(0, 20), r.between(0, 60));
  });
}

TEST_P(AttentionTest, Int8AcrossBlocks) {
  expect_reference(*backend_, 80, [](Random& r) {
    return some_int8_attention(r, r.pick<int64_t>({1, 3, 64, 130}),
                               r.pick<int64_t>({127, 128, 129, 300}));
  });
}

TEST_P(AttentionTest, Int8AcrossRestarts) {
  expect_reference(*backend_, 32,
                   [](Random& r) { return some_int8_attention(r, r.between(1, 4), 4200); });
}

Tensor rounded_to(DType type, const Tensor& t) {
  return (*evaluate_reference(node_of("", "Cast", {{"to", static_cast<int64_t>(type)}}),
                              Tensors{t}))[0];
}

// The same for tensor-core attention: operands rounded to 16 bits, scores of which some are far
// apart (tiny weights), keys and values of which some are tiny, so that the definition has to be
// asked here and there.
Case some_tensor_core_attention(Random& r, int64_t queries, int64_t keys) {
  Case c = some_attention(r, queries, keys);
  c.node.op = "AttentionTensorCore";
  const DType type = r.pick({DType::bf16, DType::f16});
  c.node.attributes.set("member", std::string(r.pick({"sm90", "sm80"})));
  if (r.chance(50)) c.node.attributes.set("output", static_cast<int64_t>(DType::f32));
  if (r.chance(40)) c.node.attributes.set("scale", r.chance(50) ? 8.0f : 40.0f);
  const int tiny = r.chance(30) ? 10 : 0;
  for (size_t i = 0; i < 3; ++i) {
    for (float& x : c.inputs[i].mutable_data<float>())
      if (r.chance(tiny)) x *= 0x1p-60f;
    c.inputs[i] = rounded_to(type, c.inputs[i]);
  }
  return c;
}

// Stretches of keys whose scores are up to hundreds of binades apart and whose values are so, too,
// or nothing but zeros: what a block adds may be far above what came before, or nothing.
Case far_apart(Random& r, DType type, int64_t queries, int64_t keys, int64_t size, int64_t width) {
  Tensor q = floats(r, {1, queries, size}, Fill::ordinary),
         k = floats(r, {1, keys, size}, Fill::ordinary),
         v = floats(r, {1, keys, width}, Fill::ordinary);
  const auto set = [&](Tensor& t, int64_t row, auto f) {
    for (int64_t i = row * t.dim(2); i < (row + 1) * t.dim(2); ++i)
      t.mutable_data<float>()[i] = f(t.data<float>()[i]);
  };
  for (int64_t t = 0; t < queries; ++t) set(q, t, [](float) { return 1.0f; });
  const int binades = type == DType::f16 ? 12 : 120;
  for (int64_t key = 0, end = 0; key < keys; key = end) {
    end = std::min(keys, key + r.pick<int64_t>({1, 7, 16, 60, 128, 128}));
    const auto score = static_cast<float>(r.between(-130, 130)) / static_cast<float>(size);
    const float factor =
        r.chance(30) ? 0.0f : std::ldexp(1.0f, static_cast<int>(r.between(-binades, binades)));
    for (int64_t i = key; i < end; ++i) {
      set(k, i, [&](float) { return score; });
      set(v, i, [&](float x) { return x * factor; });
    }
  }
  return {node_of("verbatim", "AttentionTensorCore",
                  {{"heads", int64_t{1}},
                   {"scale", 0.6931472f},
                   {"member", std::string(r.pick({"sm90", "sm80"}))},
                   {"output", static_cast<int64_t>(DType::f32)}}),
          {rounded_to(type, q), rounded_to(type, k), rounded_to(type, v)},
          {}};
}

Case some_far_apart(Random& r, int64_t queries, int64_t keys) {
  const DType type = r.pick({DType::bf16, DType::f16});
  const int64_t size = r.pick<int64_t>({1, 8, 24}), width = r.pick<int64_t>({1, 5, 17, 40});
  return far_apart(r, type, queries, keys, size, width);
}

TEST_P(AttentionTest, TensorCoreFarApart) {
  expect_reference(*backend_, 400,
                   [](Random& r) { return some_far_apart(r, r.between(1, 3), r.between(1, 500)); });
  expect_reference(*backend_, 20,
                   [](Random& r) { return some_far_apart(r, 1, r.between(2000, 4300)); });
}

TEST_P(AttentionTest, TensorCore) {
  expect_reference(*backend_, 1000, [](Random& r) {
    return some_tensor_core_attention(r, r.between(0, 20), r.between(0, 60));
  });
}

TEST_P(AttentionTest, TensorCoreAcrossBlocks) {
  expect_reference(*backend_, 60, [](Random& r) {
    return some_tensor_core_attention(r, r.pick<int64_t>({1, 3, 64, 130}),
                                      r.pick<int64_t>({127, 128, 129, 300}));
  });
}

// Puts one of `codes` in some of the places i * stride.
void put_some(Random& r, Tensor& t, int64_t stride, std::initializer_list<float> codes) {
  for (int64_t i = r.below(40); i * stride < t.elements(); i += 1 + r.below(200))
    t.mutable_data<float>()[i * stride] = r.pick(codes);
}

// Keys whose scores, in units of log2, rise from stretch to stretch by less than 8 and by more, and
// fall: the first element of a key is its stretch's level, the second one its own, the third one 1,
// by which a query lifts all.
Tensor rising_keys(Random& r, const Shape& shape, int64_t size, float sign) {
  Tensor k = *Tensor::zeros(DType::f32, shape);
  const int64_t spread = r.pick<int64_t>({0, 16, 64});
  float level = 0;
  for (int64_t i = 0, end = 0; i < k.elements() / size; ++i) {
    if (i == end) {
      end += r.pick<int64_t>({1, 16, 60, 128, 128, 300});
      level += r.pick({-20.0f, -5.0f, 3.0f, 7.5f, 8.0f, 8.0625f, 9.0f, 40.0f, 130.0f});
    }
    float* key = k.mutable_data<float>().data() + i * size;
    key[0] = sign * level;
    key[1] = static_cast<float>(r.between(-spread, spread)) / 16;
    key[2] = 1;
  }
  return k;
}

// All that makes m rise now and then, weights above 1, and exponents that are off the grid because
// |m| is above 4096, or of which nothing but the bound of 8 is left; infinities and NaN.
Case some_rising_scores(Random& r, int64_t queries, int64_t keys, int64_t size, int64_t width) {
  const DType type = r.pick({DType::bf16, DType::f16});
  const int64_t batch = r.between(1, 2), kv_heads = r.between(1, 2),
                heads = kv_heads * r.pick<int64_t>({1, 1, 4});
  const float sign = r.chance(30) ? -1.0f : 1.0f,
              times = r.chance(60) ? 1.0f : r.pick({0x1p7f, 0x1p20f, 0x1p40f, 0x1p122f}),
              lift = r.pick({0.0f, 0.0f, -5000.0f, 5000.0f, -30000.0f, 30000.0f, 0x1p24f, 0x1p50f});
  Attributes attributes{{"heads", heads},
                        {"kv_heads", kv_heads},
                        {"scale", sign * times * r.pick({0.6931472f, 0.7f})},
                        {"member", std::string(r.pick({"sm90", "sm80"}))}};
  if (r.chance(40)) attributes.set("causal", int64_t{1});
  if (r.chance(20)) attributes.set("window", r.between(1, keys));
  if (r.chance(20)) attributes.set("softcap", times * r.pick({5.0f, 1000.0f}));
  if (r.chance(60)) attributes.set("output", static_cast<int64_t>(DType::f32));
  Tensor q = *Tensor::zeros(DType::f32, Shape{batch, queries, heads * size}),
         k = rising_keys(r, Shape{batch, keys, kv_heads * size}, size, sign),
         v = floats(r, {batch, keys, kv_heads * width}, Fill::ordinary);
  for (int64_t i = 0; i < q.elements(); i += size) {
    q.mutable_data<float>()[i] = q.mutable_data<float>()[i + 1] = 1;
    q.mutable_data<float>()[i + 2] = type == DType::f16 ? std::clamp(lift, -6e4f, 6e4f) : lift;
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (r.chance(10)) put_some(r, k, size, {-sign * kInfinity});
  if (r.chance(5)) put_some(r, k, size, {-kInfinity, kInfinity, NAN, -NAN});
  if (r.chance(3))
    for (int64_t i = 0; i < k.elements(); i += size) k.mutable_data<float>()[i] = -sign * kInfinity;
  if (r.chance(10)) put_some(r, v, width, {-kInfinity, kInfinity, NAN, 0x1p90f, 0x1p-70f});
  Case c{node_of("verbatim", "AttentionTensorCore", attributes),
         {rounded_to(type, q), rounded_to(type, k), rounded_to(type, v)},
         {}};
  if (r.chance(20)) c.inputs.push_back(some_lengths(r, batch, keys));
  return c;
}
Case some_rising_scores(Random& r, int64_t queries, int64_t keys) {
  const int64_t size = r.pick<int64_t>({3, 8, 24}), width = r.pick<int64_t>({1, 5, 16, 17, 40});
  return some_rising_scores(r, queries, keys, size, width);
}

TEST_P(AttentionTest, TensorCoreRisingScores) {
  expect_reference(*backend_, 400, [](Random& r) {
    return some_rising_scores(r, r.between(1, 20), r.between(1, 600));
  });
  expect_reference(*backend_, 20, [](Random& r) {
    return some_rising_scores(r, r.between(1, 3), r.between(2000, 4300));
  });
}

// Of many rows and heads as models have them.
TEST_P(AttentionTest, TensorCoreGroupsOfRisingScores) {
  expect_reference(*backend_, 24, [](Random& r) {
    Case c = some_rising_scores(r, r.between(65, 80), r.pick<int64_t>({256, 700}), 64, 64);
    c.node.attributes.set("member", std::string("sm90"));
    return c;
  });
  // Past the end of a part.
  expect_reference(*backend_, 3, [](Random& r) {
    Case c = some_rising_scores(r, 66, 2200, 64, 64);
    c.node.attributes.set("member", std::string("sm90"));
    return c;
  });
}

// More heads than are worked on side by side: 16 and 5. Rows that see all keys, and causal ones,
// some of which do not see an infinite value of one of the 5.
TEST_P(AttentionTest, TensorCoreGroupsOfManyHeads) {
  for (const bool causal : {false, true})
    expect_reference(*backend_, 1, [=](Random& r) {
      constexpr int64_t kBatch = 3, kHeads = 7, kSize = 64, kRows = 140, kKeys = 128;
      const auto some = [&](int64_t rows) {
        return numbers(r, DType::bf16, {kBatch, rows, kHeads * kSize}, Fill::ordinary);
      };
      Case c{node_of("verbatim", "AttentionTensorCore",
                     {{"heads", kHeads},
                      {"kv_heads", kHeads},
                      {"scale", 0.1f},
                      {"causal", int64_t{causal}}}),
             {some(kRows), some(kKeys), some(kKeys)},
             {}};
      const int64_t key = r.between(1, kKeys - 1), head = r.between(3, kHeads - 1);
      if (causal)
        put_infinity(c.inputs[2], ((2 * kKeys + key) * kHeads + head) * kSize + r.below(kSize));
      return c;
    });
}

// Heads as models have them, whose rows are copied in words of 16 bytes: one slab of 64 codes and
// several, whole and not, several tiles of rows, and value columns for two blocks of threads.
Case some_wide_attention(Random& r) {
  const int64_t kv_heads = r.between(1, 2), group = r.pick<int64_t>({1, 4}),
                heads = kv_heads * group, queries = r.pick<int64_t>({1, 17, 40}),
                keys = r.pick<int64_t>({40, 128, 300}),
                head_size = r.pick<int64_t>({16, 64, 80, 128, 256}),
                value_size = r.pick<int64_t>({64, 128, 136});
  const DType type = r.pick({DType::bf16, DType::f16});
  const Fill fill = any_fill(r);
  Attributes attributes{
      {"heads", heads}, {"kv_heads", kv_heads}, {"scale", r.pick({0.1f, 0.1f, -0.1f, 0.0f})}};
  if (r.chance(60)) attributes.set("causal", int64_t{1});
  if (r.chance(20)) attributes.set("window", r.between(1, 200));
  if (r.chance(20)) attributes.set("softcap", 5.0f);
  if (r.chance(50)) attributes.set("output", static_cast<int64_t>(DType::f32));
  return {node_of("verbatim", "AttentionTensorCore", attributes),
          {numbers(r, type, {1, queries, heads * head_size}, fill),
           numbers(r, type, {1, keys, kv_heads * head_size}, fill),
           numbers(r, type, {1, keys, kv_heads * value_size}, fill)},
          {}};
}

TEST_P(AttentionTest, TensorCoreWide) { expect_reference(*backend_, 48, some_wide_attention); }

// Decoded tokens: few rows and many keys, which a GPU has kernels for of their own, by blocks of
// 128 keys. Groups of heads that fill a tile of 16 rows, or two; parts of 2048 keys, whole and
// begun; one value here and there that is not finite, which some rows see and others do not.
Case some_few_rows(Random& r, const char* op, DType type) {
  const bool ordered = op == std::string("Attention");
  const int64_t batch = r.between(1, 2), kv_heads = r.between(1, 2),
                group = r.pick<int64_t>({1, 4, 4, 16, 20}), heads = kv_heads * group,
                queries = group > 4 ? 1 : r.pick<int64_t>({1, 1, 1, 2, 5}),
                keys = r.pick<int64_t>({129, 256, 300, 1025, 2048, 2049, 2500, 4097, 4500}),
                head_size = r.pick<int64_t>({5, 8, 40, 64, 64, 72, 128, 256}),
                value_size = r.pick<int64_t>({3, 8, 24, 64, 64, 72});
  const Fill fill = r.chance(60) ? Fill::ordinary : any_fill(r);
  Attributes attributes{{"heads", heads},
                        {"kv_heads", kv_heads},
                        {"scale", r.pick({0.1f, 0.1f, 0.1f, 3.0f, -0.1f, 0.0f})}};
  if (r.chance(60)) attributes.set("causal", int64_t{1});
  if (r.chance(30)) attributes.set("window", r.pick<int64_t>({1, 100, 700, 2100}));
  if (r.chance(20)) attributes.set("softcap", 5.0f);
  if (!ordered && r.chance(70)) attributes.set("output", static_cast<int64_t>(DType::f32));
  Case c{node_of("verbatim", op, attributes),
         {numbers(r, type, {batch, queries, heads * head_size}, fill),
          numbers(r, type, {batch, keys, kv_heads * head_size}, fill),
          numbers(r, type, {batch, keys, kv_heads * value_size}, Fill::ordinary)},
         {}};
  for (int64_t i = r.chance(40) ? r.between(1, 9) : 0; i > 0; --i) {
    const int64_t at = r.chance(50) ? r.below(c.inputs[2].elements())
                                    : c.inputs[2].elements() - 1 - r.below(8 * value_size);
    put_infinity(c.inputs[2], at);
  }
  if (r.chance(40)) c.inputs.push_back(some_lengths(r, batch, keys));
  return c;
}

Case some_few_tensor_core_rows(Random& r) {
  const DType type = r.pick({DType::bf16, DType::f16});
  return some_few_rows(r, "AttentionTensorCore", type);
}
Case some_few_ordered_rows(Random& r) {
  const DType type = r.pick({DType::f32, DType::f32, DType::f32, DType::bf16, DType::f16});
  return some_few_rows(r, "Attention", type);
}

TEST_P(AttentionTest, FewRows) { expect_reference(*backend_, 160, some_few_ordered_rows); }

TEST_P(AttentionTest, FewRowsFarApart) {
  expect_reference(*backend_, 60, [](Random& r) {
    Case c = far_apart(r, DType::f32, r.between(1, 3), r.between(129, 2500), 8, 17);
    c.node = node_of("verbatim", "Attention", {{"heads", int64_t{1}}, {"scale", 0.6931472f}});
    return c;
  });
}

// Prompts: more rows than 64, which a GPU has a kernel for of its own; heads as models have them
// and such as fill no slab, pieces of values that are no words; one number here and there that is
// not finite, which some rows see and others do not.
Case some_many_rows(Random& r, int64_t keys) {
  const int64_t batch = keys > 1000 ? 1 : r.between(1, 2), kv_heads = r.between(1, 2),
                group = r.pick<int64_t>({1, 1, 1, 3, 4}),
                queries = r.pick<int64_t>({65, 70, 100, 129, 150}) / group + 1,
                head_size = keys > 1000 ? r.pick<int64_t>({3, 16, 21})
                                        : r.pick<int64_t>({1, 7, 8, 12, 16, 24, 40, 64, 100, 128}),
                value_size = keys > 1000 ? r.pick<int64_t>({4, 20, 66})
                                         : r.pick<int64_t>({1, 3, 8, 20, 64, 66, 100, 128});
  const DType type = r.pick({DType::f32, DType::f32, DType::f32, DType::bf16, DType::f16});
  const Fill fill = r.chance(60) ? Fill::ordinary : any_fill(r);
  Attributes attributes{{"heads", kv_heads * group},
                        {"kv_heads", kv_heads},
                        {"scale", r.pick({0.1f, 0.1f, 0.1f, 3.0f, -0.1f, 0.0f})}};
  if (r.chance(60)) attributes.set("causal", int64_t{1});
  if (r.chance(30)) attributes.set("window", r.pick<int64_t>({1, 16, 100, 200, 2100}));
  if (r.chance(20)) attributes.set("softcap", 5.0f);
  Case c{node_of("verbatim", "Attention", attributes),
         {numbers(r, type, {batch, queries, kv_heads * group * head_size}, fill),
          numbers(r, type, {batch, keys, kv_heads * head_size}, fill),
          numbers(r, type, {batch, keys, kv_heads * value_size}, fill)},
         {}};
  for (int64_t i = r.chance(50) ? r.between(1, 4) : 0; i > 0; --i) {
    Tensor& t = c.inputs[r.between(1, 2)];
    const int64_t at = r.chance(50) ? r.below(t.elements())
                                    : t.elements() - 1 - r.below(std::min(t.elements(), t.dim(2)));
    put_infinity(t, at);
  }
  if (r.chance(40)) c.inputs.push_back(some_lengths(r, batch, keys));
  return c;
}

TEST_P(AttentionTest, ManyRows) {
  expect_reference(*backend_, 160, [](Random& r) {
    return some_many_rows(r, r.pick<int64_t>({1, 40, 127, 128, 130, 200, 256, 390}));
  });
}

TEST_P(AttentionTest, ManyRowsAcrossRestarts) {
  expect_reference(*backend_, 12, [](Random& r) {
    return some_many_rows(r, r.pick<int64_t>({2048, 2050, 2300, 4100}));
  });
}

TEST_P(AttentionTest, ManyRowsFarApart) {
  expect_reference(*backend_, 40, [](Random& r) {
    Case c = far_apart(r, DType::f32, r.between(65, 70), r.between(100, 700), 8, 17);
    c.node = node_of("verbatim", "Attention", {{"heads", int64_t{1}}, {"scale", 0.6931472f}});
    return c;
  });
}

// The case's sequences over and over, as many rows as keep the keys of each from going side by side
// on a GPU of many multiprocessors (the emulated one has four).
Case in_many_tiles(const Backend& backend, Case c) {
  if (backend.name() != "cuda" || is_emulated(backend)) return c;
  constexpr int64_t kTimes = 40;
  for (Tensor& t : c.inputs) {
    std::vector<int64_t> dims(t.shape().dims().begin(), t.shape().dims().end());
    dims[0] *= kTimes;
    Tensor all = *Tensor::zeros(t.dtype(), *Shape::of(dims));
    for (size_t i = 0, size = t.byte_size(); size > 0 && i < kTimes; ++i)
      std::memcpy(all.mutable_bytes().data() + i * size, t.bytes().data(), size);
    t = std::move(all);
  }
  return c;
}

TEST_P(AttentionTest, ManyTilesOfManyRows) {
  for (const auto& [count, keys] : {std::pair<int, int64_t>{8, 390}, {3, 2300}, {1, 4100}})
    expect_reference(*backend_, count, [&, most = keys](Random& r) {
      return in_many_tiles(*backend_, some_many_rows(r, most));
    });
}

// What the first row has is -0, of weights times values that are too small: no block and no part of
// which it sees nothing makes +0 of it.
TEST_P(AttentionTest, ManyRowsKeepNegativeZeros) {
  constexpr int64_t kQueries = 140, kKeys = 300;
  Tensor q = *Tensor::zeros(DType::f32, Shape{1, kQueries, 1}),
         k = *Tensor::zeros(DType::f32, Shape{1, kKeys, 1}),
         v = *Tensor::zeros(DType::f32, Shape{1, kKeys, 1});
  for (float& x : q.mutable_data<float>()) x = 1;
  for (float& x : v.mutable_data<float>()) x = -0x1p-93f;
  k.mutable_data<float>()[0] = k.mutable_data<float>()[kKeyBlock] = 120;
  v.mutable_data<float>()[0] = v.mutable_data<float>()[kKeyBlock] = 0;
  const Node node = node_of("verbatim", "Attention",
                            {{"heads", int64_t{1}}, {"scale", 0.6931472f}, {"causal", int64_t{1}}});
  const Tensors want = *evaluate_reference(node, Tensors{q, k, v});
  ASSERT_EQ(bits_of(want[0].data<float>()[0]), 0x80000000);
  expect_reference(*backend_, in_many_tiles(*backend_, Case{node, {q, k, v}, {}}));
}

TEST_P(AttentionTest, TensorCoreFewRows) {
  expect_reference(*backend_, 160, some_few_tensor_core_rows);
}

TEST_P(AttentionTest, TensorCoreFewRowsFarApart) {
  expect_reference(*backend_, 60, [](Random& r) {
    Case c = some_far_apart(r, r.between(1, 3), r.between(129, 2500));
    c.node.attributes.set("member", std::string("sm90"));
    return c;
  });
}

// More scores than a GPU has room for at once, where it has four multiprocessors.
TEST_P(AttentionTest, TensorCoreManyFewRows) {
  Random r(1);
  const Attributes attributes{{"heads", int64_t{128}},
                              {"kv_heads", int64_t{1}},
                              {"scale", 0.1f},
                              {"output", static_cast<int64_t>(DType::f32)}};
  expect_reference(*backend_, Case{node_of("verbatim", "AttentionTensorCore", attributes),
                                   {numbers(r, DType::bf16, {1, 1, 128 * 8}, Fill::ordinary),
                                    numbers(r, DType::bf16, {1, 6300, 8}, Fill::ordinary),
                                    numbers(r, DType::bf16, {1, 6300, 8}, Fill::ordinary)},
                                   {}});
}

// Tiles of a row each, so many that keys need not go side by side, though there are several parts
// of them: 4 for each multiprocessor, of which the emulated GPU has four.
TEST_P(AttentionTest, ManyTilesOfFewRows) {
  Random r(2);
  const int64_t batch = is_emulated(*backend_) ? 2 : 59, kv_heads = 9, keys = 2100, size = 8;
  for (const float softcap : {0.0f, 3.0f})
    for (const DType type : {DType::f32, DType::bf16}) {
      const Attributes attributes{{"heads", kv_heads},
                                  {"scale", 0.3f},
                                  {"causal", int64_t{1}},
                                  {"window", int64_t{2070}},
                                  {"softcap", softcap}};
      const auto some = [&](int64_t rows) {
        return numbers(r, type, {batch, rows, kv_heads * size}, Fill::ordinary);
      };
      const Case c{
          node_of("verbatim", type == DType::f32 ? "Attention" : "AttentionTensorCore", attributes),
          {some(1), some(keys), some(keys)},
          {}};
      expect_reference(*backend_, c);
    }
}

// What a GPU has kernels for of their own: rows enough for warp groups, and two blocks of them;
// keys for a ring that goes round, beyond a part; one code here and there that is not finite, which
// some rows see and others do not.
Case some_attention_of_groups(Random& r, DType type) {
  const bool shared = r.chance(50);
  const int64_t batch = r.between(1, 2), kv_heads = 3 - batch, heads = kv_heads * (shared ? 4 : 1),
                queries = r.pick<int64_t>({70, 140}) / (shared ? 4 : 1),
                keys = r.pick<int64_t>({130, 256, 700}), size = r.pick<int64_t>({64, 64, 128});
  Attributes attributes{{"heads", heads},
                        {"kv_heads", kv_heads},
                        {"scale", r.pick({0.1f, 0.1f, 0.1f, -0.1f, 0.0f, 1e38f})}};
  const Fill fill = type == DType::f32 || r.chance(60) ? Fill::ordinary : any_fill(r);
  if (r.chance(60)) attributes.set("causal", int64_t{1});
  if (r.chance(20)) attributes.set("window", r.between(1, 400));
  if (type != DType::f32 && r.chance(50))
    attributes.set("output", static_cast<int64_t>(DType::f32));
  Case c{node_of("verbatim", "AttentionTensorCore", attributes),
         {numbers(r, type, {batch, queries, heads * size}, fill),
          numbers(r, type, {batch, keys, kv_heads * size}, fill),
          numbers(r, type, {batch, keys, kv_heads * size}, Fill::ordinary)},
         {}};
  if (r.chance(30)) {
    const int64_t at = r.below(c.inputs[2].elements());
    if (type == DType::f32)
      c.inputs[2].mutable_data<float>()[at] = std::numeric_limits<float>::infinity();
    else
      reinterpret_cast<uint16_t*>(c.inputs[2].mutable_bytes().data())[at] =
          type == DType::bf16 ? 0x7F80 : 0x7C00;
  }
  if (r.chance(30)) c.inputs.push_back(some_lengths(r, batch, keys));
  return c;
}

Case some_tensor_core_groups(Random& r) {
  const DType type = r.pick({DType::bf16, DType::f16});
  return some_attention_of_groups(r, type);
}

TEST_P(AttentionTest, TensorCoreGroups) {
  expect_reference(*backend_, 48, some_tensor_core_groups);
}

// Blocks that all rows see, of scores that are far apart, all below zero, or all far above it.
TEST_P(AttentionTest, TensorCoreGroupsFarApart) {
  expect_reference(*backend_, 24, [](Random& r) {
    const DType type = r.pick({DType::bf16, DType::f16});
    Case c = far_apart(r, type, r.between(65, 80), r.pick<int64_t>({256, 700}), 64, 64);
    c.node.attributes.set("member", std::string("sm90"));
    if (r.chance(50)) {
      Tensor k = floats(r, {1, c.inputs[1].dim(1), 64}, Fill::ordinary);
      const float middle = r.pick({-3.0f, 3.0f});
      for (float& x : k.mutable_data<float>()) x = middle + x / 64;
      c.inputs[1] = rounded_to(type, k);
    }
    return c;
  });
}

// The same in int8, of other sizes of heads too, with operands here and there that are not finite;
// and values whose exponents are far apart, among which the greatest weight is not that of the
// greatest score.
Case some_int8_attention_of_groups(Random& r) {
  Case c = some_attention_of_groups(r, DType::f32);
  if (r.chance(40)) {
    const int64_t heads = *c.node.attributes.get<int64_t>("heads", 1),
                  kv_heads = *c.node.attributes.get<int64_t>("kv_heads", 1),
                  size = r.pick<int64_t>({16, 48, 80, 192, 256}),
                  width = r.pick<int64_t>({16, 32, 96, 160, 256});
    const auto resize = [&](size_t input, int64_t to) {
      const Shape& shape = c.inputs[input].shape();
      c.inputs[input] = numbers(r, DType::f32, {shape[0], shape[1], to}, Fill::ordinary);
    };
    resize(0, heads * size);
    resize(1, kv_heads * size);
    resize(2, kv_heads * width);
  }
  if (r.chance(20)) c.node.attributes.set("softcap", 5.0f);
  if (r.chance(50)) c.node.attributes.set("weight_slices", r.between(1, 2));
  if (r.chance(30)) {
    Tensor& t = c.inputs[r.below(2)];
    t.mutable_data<float>()[r.below(t.elements())] = std::numeric_limits<float>::infinity();
  }
  if (r.chance(40)) {
    const int64_t width = c.inputs[2].dim(2);
    for (int64_t i = 0; i < c.inputs[2].elements(); i += width) {
      const int shift = static_cast<int>(r.between(-60, 60));
      for (float& v : c.inputs[2].mutable_data<float>().subspan(i, width)) v = std::ldexp(v, shift);
    }
  }
  return as_int8_attention(r, std::move(c));
}

TEST_P(AttentionTest, Int8Groups) {
  expect_reference(*backend_, 96, some_int8_attention_of_groups);
}

// Scores that are all below zero, so far apart that most weights are zero, infinite or NaN.
TEST_P(AttentionTest, Int8GroupsFarApart) {
  expect_reference(*backend_, 100, [](Random& r) {
    Case c = far_apart(r, DType::f32, r.between(65, 70), r.between(100, 400), 64, 64);
    c.node.attributes = {{"heads", int64_t{1}}, {"scale", 0.6931472f}};
    c.node.attributes.set("weight_slices", r.between(1, 2));
    if (r.chance(20)) c.node.attributes.set("scale", r.pick({1e38f, -0.6931472f, -1e38f}));
    return as_int8_attention(r, std::move(c));
  });
}

// The first part's values are zeros; the second one's so small, and its scores so far below, that
// -0 is what it adds. Then that is what a row keeps that does not see the third part.
TEST_P(AttentionTest, Int8KeepsNegativeZeros) {
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{8, 4100}, {140, 4200}}) {
    constexpr int64_t kSize = 64, kPart = kKeyRestart;
    Tensor q = *Tensor::zeros(DType::f32, Shape{1, queries, kSize}),
           k = *Tensor::zeros(DType::f32, Shape{1, keys, kSize}),
           v = *Tensor::zeros(DType::f32, Shape{1, keys, kSize});
    for (int64_t i = 0; i < queries; ++i) q.mutable_data<float>()[i * kSize] = 1;
    for (int64_t i = 0; i < kPart; ++i) k.mutable_data<float>()[i * kSize] = 120;
    for (int64_t i = kPart; i < 2 * kPart; ++i) v.mutable_data<float>()[i * kSize] = -0x1p-93f;
    const Node node =
        node_of("verbatim", "AttentionInt8",
                {{"heads", int64_t{1}}, {"scale", 0.6931472f}, {"causal", int64_t{1}}});
    const Tensors want = *evaluate_reference(node, Tensors{q, k, v});
    ASSERT_EQ(bits_of(want[0].data<float>()[0]), 0x80000000);
    expect_reference(*backend_, Case{node, {q, k, v}, {}});
  }
}

template <class T>
Tensor whole_numbers(Random& r, DType type, const Shape& shape, int64_t least, int64_t most) {
  Tensor t = *Tensor::allocate(type, shape);
  for (T& x : t.mutable_data<T>()) x = static_cast<T>(r.between(least, most));
  return t;
}

// Codes whose scores, in units of log2, are their keys' scales, given: rising ones, so that m goes
// on now and then; lifted until |e| is above 4096 and further; negative, zero and not finite. And
// exponents of values at both ends of their range, and NaN.
Case some_given_scales(Random& r, int64_t queries, int64_t keys, int64_t size) {
  const int64_t batch = r.between(1, 2), kv_heads = r.between(1, 2),
                heads = kv_heads * r.pick<int64_t>({1, 1, 4});
  const float lift = r.pick({0.0f, 0.0f, -5000.0f, 4090.0f, -30000.0f, 30000.0f, 0x1p50f});
  Attributes attributes{{"heads", heads},
                        {"kv_heads", kv_heads},
                        {"scale", r.chance(10) ? -0.6931472f : 0.6931472f},
                        {"weight_slices", r.between(1, 2)}};
  if (r.chance(40)) attributes.set("causal", int64_t{1});
  if (r.chance(30)) attributes.set("window", r.between(1, keys));
  if (r.chance(20)) attributes.set("softcap", r.pick({5.0f, 1000.0f}));
  Tensor q = *Tensor::zeros(DType::f32, Shape{batch, queries, heads * size}),
         k = whole_numbers<int8_t>(r, DType::i8, {batch, keys, kv_heads * size}, 1, 1),
         v = whole_numbers<int8_t>(r, DType::i8, {batch, keys, kv_heads * size}, -127, 127),
         rising = rising_keys(r, Shape{batch, keys, kv_heads * 3}, 3, 1),
         scales = *Tensor::zeros(DType::f32, Shape{batch, keys, kv_heads}),
         exponents = whole_numbers<int32_t>(r, DType::i32, {batch, keys, kv_heads}, -9,
                                            r.pick({-9, -6, 60}));
  for (int64_t i = 0; i < q.elements(); i += size) q.mutable_data<float>()[i] = 1;
  for (int64_t i = 0; i < scales.elements(); ++i)
    scales.mutable_data<float>()[i] =
        lift + rising.data<float>()[3 * i] + rising.data<float>()[3 * i + 1];
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (r.chance(15)) put_some(r, scales, 1, {0.0f, -0.0f, -1.0f, kInfinity, -kInfinity, NAN, -NAN});
  for (int64_t i = r.chance(30) ? r.below(40) : keys * batch; i < exponents.elements();
       i += 1 + r.below(200))
    exponents.mutable_data<int32_t>()[i] = r.pick({-100, 122, kFlaggedRow});
  Case c{node_of("verbatim", "AttentionInt8Cached", attributes),
         {q, k, v, scales, exponents, Tensor()},
         {}};
  if (r.chance(20)) c.inputs[5] = some_lengths(r, batch, keys);
  return c;
}
TEST_P(AttentionTest, Int8OfGivenScales) {
  expect_reference(*backend_, 200, [](Random& r) {
    return some_given_scales(r, r.between(1, 20), r.between(1, 600), r.pick<int64_t>({4, 24, 64}));
  });
}
TEST_P(AttentionTest, Int8GroupsOfGivenScales) {
  expect_reference(*backend_, 60, [](Random& r) {
    return some_given_scales(r, r.between(65, 150), r.pick<int64_t>({200, 256, 700}), 64);
  });
}

// A warp of 16 rows that see nothing of a block, in which other rows see a value that is infinite.
TEST_P(AttentionTest, Int8GroupsSeeNoInfinityThatOtherRowsSee) {
  for (const int64_t slices : {1, 2})
    for (const bool last : {true, false}) {
      Random r(static_cast<uint64_t>(slices));
      const int64_t keys = 200, queries = 100;
      Case c{node_of("verbatim", "AttentionInt8",
                     {{"heads", int64_t{1}},
                      {"scale", 0.1f},
                      {"causal", int64_t{1}},
                      {"window", last ? int64_t{0} : int64_t{10}},
                      {"weight_slices", slices}}),
             {},
             {}};
      for (const int64_t rows : {queries, keys, keys})
        c.inputs.push_back(numbers(r, DType::f32, {1, rows, 64}, Fill::ordinary));
      put_infinity(c.inputs[2], (last ? keys - 1 : queries - 8) * 64);
      expect_reference(*backend_, c);
    }
}

TEST_P(AttentionTest, Int8GroupsAcrossRestarts) {
  // With a softcap, scores and what parts have come to lie in one memory.
  for (const float softcap : {0.0f, 5.0f}) {
    for (const int64_t size : {64, 128}) {
      SCOPED_TRACE(std::to_string(size) + (softcap != 0 ? ", with a softcap" : ""));
      Random r(static_cast<uint64_t>(size));
      const int64_t keys = size == 64 ? 4300 : 2200;
      const Attributes attributes{{"heads", int64_t{1}},
                                  {"scale", 0.1f},
                                  {"window", int64_t{4200}},
                                  {"weight_slices", r.between(1, 2)},
                                  {"softcap", softcap}};
      expect_reference(
          *backend_,
          as_int8_attention(r, Case{node_of("verbatim", "Attention", attributes),
                                    {numbers(r, DType::f32, {1, 66, size}, Fill::ordinary),
                                     numbers(r, DType::f32, {1, keys, size}, Fill::ordinary),
                                     numbers(r, DType::f32, {1, keys, size}, Fill::ordinary)},
                                    {}}));
    }
  }
}

// Weights that are subnormal, or just not yet zero, times values that make them all of the result.
TEST_P(AttentionTest, TensorCoreTinyWeights) {
  for (const float score :
       {-124.5f, -125.0f, -125.5f, -126.0f, -126.5f, -127.0f, -127.5f, -254.5f, -1000.0f}) {
    SCOPED_TRACE(score);
    constexpr int64_t kKeys = 256;
    std::vector<float> k(kKeys, score), v(kKeys, 0x1p120f);
    k[0] = v[0] = 0;
    const Shape keys{1, kKeys, 1};
    const Case c{
        node_of("verbatim", "AttentionTensorCore",
                {{"heads", int64_t{1}},
                 {"scale", 0.6931472f},
                 {"output", static_cast<int64_t>(DType::f32)}}),
        {rounded_to(DType::bf16, *Tensor::from<float>(Shape{1, 1, 1}, std::vector<float>{1.0f})),
         rounded_to(DType::bf16, *Tensor::from<float>(keys, k)),
         rounded_to(DType::bf16, *Tensor::from<float>(keys, v))},
        {}};
    expect_reference(*backend_, c);
  }
}

// Weights of 2^8 times zeros, which leave to the last bit what lies far below the one value that is
// not zero, whose weight is.
TEST_P(AttentionTest, TensorCoreGreatWeightsOfZeros) {
  Random r(1);
  const Tensor some = floats(r, {1, 2 * kKeyBlock, 1}, Fill::ordinary);
  std::vector<float> k(2 * kKeyBlock, 0.0f);
  std::fill(k.begin() + kKeyBlock, k.end(), 8.0f);
  k.back() = -200;
  for (int exponent = -115; exponent < -60; ++exponent) {
    SCOPED_TRACE(exponent);
    std::vector<float> v(2 * kKeyBlock, 0.0f);
    for (int i = 0; i < kKeyBlock; ++i)
      v[i] = std::ldexp(some.data<float>()[i], exponent - i % 16);  // their sum has all bits
    v.back() = 1;
    for (const char* member : {"sm90", "sm80"}) {
      const Case c{
          node_of("verbatim", "AttentionTensorCore",
                  {{"heads", int64_t{1}},
                   {"scale", 0.6931472f},
                   {"member", std::string(member)},
                   {"output", static_cast<int64_t>(DType::f32)}}),
          {rounded_to(DType::bf16, *Tensor::from<float>(Shape{1, 1, 1}, std::vector<float>{1.0f})),
           rounded_to(DType::bf16, *Tensor::from<float>(some.shape(), k)),
           rounded_to(DType::bf16, *Tensor::from<float>(some.shape(), v))},
          {}};
      expect_reference(*backend_, c);
    }
  }
}

TEST_P(AttentionTest, TensorCoreGroupsAcrossRestarts) {
  expect_reference(*backend_, 3, [](Random& r) {
    return Case{node_of("verbatim", "AttentionTensorCore",
                        {{"heads", int64_t{1}}, {"scale", 0.1f}, {"window", int64_t{4200}}}),
                {numbers(r, DType::bf16, {1, 66, 64}, Fill::ordinary),
                 numbers(r, DType::bf16, {1, 4300, 64}, Fill::ordinary),
                 numbers(r, DType::bf16, {1, 4300, 64}, Fill::ordinary)},
                {}};
  });
}

TEST_P(AttentionTest, TensorCoreAcrossRestarts) {
  expect_reference(*backend_, 16,
                   [](Random& r) { return some_tensor_core_attention(r, r.between(1, 4), 4200); });
}

// The same with its keys and values in pages of a pool, in any order. What no sequence has there is
// what must not be read: NaN, pages that are none, and codes and exponents that are none, or zeros,
// without which a GPU takes no pool.
Case in_pages(Random& r, Case c, int64_t page_size) {
  const bool cached = c.node.op == "AttentionInt8Cached";
  const size_t lengths_at = cached ? 5 : 3;
  if (page_size == 0)
    page_size = r.chance(70) ? r.pick<int64_t>({1, 8, 16, 32, 64, 128, 256}) : r.between(1, 200);
  const int64_t batch = c.inputs[1].dim(0), keys = c.inputs[1].dim(1),
                pages = (keys + page_size - 1) / page_size + r.between(0, 1),
                count = batch * pages + r.between(0, 2);
  c.inputs.resize(lengths_at + 2);
  Tensor& lengths = c.inputs[lengths_at];
  if (!lengths.defined())
    lengths = *Tensor::from<int64_t>(Shape{batch}, std::vector<int64_t>(batch, keys));
  std::vector<int64_t> page(count), table;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t other = r.between(0, i);
    page[i] = page[other];
    page[other] = i;
  }
  const auto place = [&](int64_t b, int64_t i) {
    return page[b * pages + i / page_size] * page_size + i % page_size;
  };
  for (int64_t i = 0; i < batch * pages; ++i)
    table.push_back(i % pages * page_size < lengths.data<int64_t>()[i / pages]
                        ? page[i]
                        : r.pick({int64_t{-1}, count, INT64_MIN, INT64_MAX}));
  c.inputs[lengths_at + 1] = *Tensor::from<int64_t>(Shape{batch, pages}, table);
  const auto unread = static_cast<uint8_t>(cached ? r.pick({0x80, 0}) : 0);
  for (size_t input = 1; input < lengths_at; ++input) {
    const Tensor rows = c.inputs[input];
    const bool codes = rows.dtype() == DType::i8 || rows.dtype() == DType::i32;
    Tensor pool = filled(rows.dtype(), Shape{count, page_size, rows.dim(2)}, codes ? unread : 0xFF);
    const size_t width = static_cast<size_t>(rows.dim(2)) * size_of(rows.dtype());
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t i = 0; i < lengths.data<int64_t>()[b]; ++i)
        std::memcpy(pool.mutable_bytes().data() + place(b, i) * width,
                    rows.bytes().data() + (b * keys + i) * width, width);
    c.inputs[input] = pool;
  }
  return c;
}

// Pages change no bit: of that many keys, or 0, any.
template <class F>
void expect_paged(Backend& backend, int count, F&& make, int64_t page_size = 0) {
  count = cases_for(backend, count);
  for (int seed = 0; seed < count && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(static_cast<uint64_t>(seed));
    const Case rows = make(random), pages = in_pages(random, rows, page_size);
    expect_reference(backend, pages);
    const Result<Tensors> want = evaluate_reference(rows.node, rows.inputs),
                          have = evaluate_reference(pages.node, pages.inputs);
    ASSERT_EQ(want.ok(), have.ok()) << have.status().message();
    ASSERT_TRUE(!want.ok() || identical((*want)[0], (*have)[0]));
  }
}

TEST_P(AttentionTest, Paged) {
  expect_paged(*backend_, 1000,
               [](Random& r) { return some_attention(r, r.between(0, 20), r.between(0, 60)); });
  expect_paged(*backend_, 60, [](Random& r) {
    return some_attention(r, r.pick<int64_t>({1, 3, 64, 130}),
                          r.pick<int64_t>({127, 128, 129, 300}));
  });
  expect_paged(*backend_, 4, [](Random& r) { return some_attention(r, r.between(1, 4), 4200); });
}

Case some_cached_attention(Random& r, int64_t queries, int64_t keys) {
  Case c = some_int8_attention(r, queries, keys);
  while (c.node.op != "AttentionInt8Cached") c = some_int8_attention(r, queries, keys);
  return c;
}

TEST_P(AttentionTest, PagedInt8) {
  expect_paged(*backend_, 1000, [](Random& r) {
    return some_cached_attention(r, r.between(0, 20), r.between(1, 60));
  });
  expect_paged(*backend_, 60, [](Random& r) {
    return some_cached_attention(r, r.pick<int64_t>({1, 3, 64, 130}),
                                 r.pick<int64_t>({127, 128, 129, 300}));
  });
  expect_paged(*backend_, 4,
               [](Random& r) { return some_cached_attention(r, r.between(1, 4), 4200); });
}

TEST_P(AttentionTest, PagedInt8Groups) {
  const auto cached = [](Random& r) {
    Case c = some_int8_attention_of_groups(r);
    while (c.node.op != "AttentionInt8Cached") c = some_int8_attention_of_groups(r);
    return c;
  };
  expect_paged(*backend_, 12, cached);
  expect_paged(*backend_, 16, cached, kKeyBlock);
}

TEST_P(AttentionTest, PagedTensorCoreGroups) {
  expect_paged(*backend_, 12, some_tensor_core_groups);
}

TEST_P(AttentionTest, PagedTensorCoreRisingScores) {
  expect_paged(*backend_, 100,
               [](Random& r) { return some_rising_scores(r, r.between(1, 5), r.between(1, 600)); });
}

TEST_P(AttentionTest, PagedFewRows) { expect_paged(*backend_, 48, some_few_ordered_rows); }

TEST_P(AttentionTest, PagedManyRows) {
  expect_paged(*backend_, 64, [](Random& r) {
    return some_many_rows(r, r.pick<int64_t>({40, 128, 130, 200, 390}));
  });
}

TEST_P(AttentionTest, PagedManyTilesOfManyRows) {
  expect_paged(*backend_, 6, [&](Random& r) {
    return in_many_tiles(*backend_, some_many_rows(r, r.pick<int64_t>({200, 390})));
  });
}

TEST_P(AttentionTest, PagedTensorCoreFewRows) {
  expect_paged(*backend_, 48, some_few_tensor_core_rows);
}

TEST_P(AttentionTest, PagedTensorCore) {
  expect_paged(*backend_, 1000, [](Random& r) {
    return some_tensor_core_attention(r, r.between(0, 20), r.between(0, 60));
  });
  expect_paged(*backend_, 40, [](Random& r) {
    return some_tensor_core_attention(r, r.pick<int64_t>({1, 3, 64}),
                                      r.pick<int64_t>({127, 128, 129, 300}));
  });
  expect_paged(*backend_, 2,
               [](Random& r) { return some_tensor_core_attention(r, r.between(1, 4), 4200); });
}

// Blocks that are left out, whole, or taken as means, by levels at random. Queries of one block may
// see a block of keys in whole, in part or not at all.
Case some_sparse_attention(Random& r, int64_t queries, int64_t keys) {
  Case c = some_attention(r, queries, keys);
  c.node.op = "AttentionSparse";
  const int64_t block = r.pick<int64_t>({1, 3, 16, 128, 200, 300}),
                heads = *c.node.attributes.get<int64_t>("heads", 1);
  if (block != 128 || r.chance(50)) c.node.attributes.set("query_block", block);
  Tensor levels =
      *Tensor::zeros(DType::u8, Shape{c.inputs[0].dim(0), heads, (queries + block - 1) / block,
                                      (keys + kKeyBlock - 1) / kKeyBlock});
  for (uint8_t& level : levels.mutable_data<uint8_t>())
    level = static_cast<uint8_t>(r.between(0, 4));
  c.inputs.insert(c.inputs.begin() + 3, levels);
  return c;
}

TEST_P(AttentionTest, Sparse) {
  expect_reference(*backend_, 1000, [](Random& r) {
    return some_sparse_attention(r, r.between(0, 20), r.between(0, 300));
  });
  expect_reference(*backend_, 40, [](Random& r) {
    return some_sparse_attention(r, r.pick<int64_t>({64, 130, 400}), r.between(256, 600));
  });
}

TEST_P(AttentionTest, SparseIsComputedOnTheDevice) {
  Random r(1);
  Case c = some_sparse_attention(r, 3, 300);
  c.node.attributes.set("query_block", int64_t{3});
  const Tensors have = *backend_->run(c.node, c.inputs);
  EXPECT_EQ(have[0].device() != nullptr, backend_->name() == "cuda");
}

TEST_P(AttentionTest, SparseAcrossRestarts) {
  expect_reference(*backend_, 6,
                   [](Random& r) { return some_sparse_attention(r, r.between(1, 4), 4200); });
}

Case some_levels(Random& r, int64_t queries, int64_t keys) {
  Case c = some_attention(r, queries, keys);
  c.node.op = "AttentionLevels";
  c.node.attributes.set("query_block", r.pick<int64_t>({1, 3, 16, 128, 200}));
  std::vector<float> shares;
  for (int64_t i = r.between(1, 4); i > 0; --i)
    shares.push_back(r.chance(20) ? 1.0f : static_cast<float>(r.between(0, 100)) / 100);
  std::ranges::sort(shares);
  c.node.attributes.set("shares", shares);
  c.inputs.erase(c.inputs.begin() + 2);
  return c;
}

TEST_P(AttentionTest, Levels) {
  expect_reference(*backend_, 1000,
                   [](Random& r) { return some_levels(r, r.between(0, 40), r.between(0, 900)); });
  expect_reference(*backend_, 20, [](Random& r) {
    return some_levels(r, r.pick<int64_t>({64, 300}), r.between(2000, 5000));
  });
}

// A query alone has the bits that it has in a prefill.
TEST_P(AttentionTest, QueryAlone) {
  Random r(1);
  constexpr int64_t kLength = 150, kWidth = 24;
  const auto tensor = [&] { return floats(r, {1, kLength, kWidth}, Fill::ordinary); };
  const Tensor q = tensor(), k = tensor(), v = tensor();
  const Node node = node_of("verbatim", "Attention",
                            {{"heads", int64_t{2}}, {"scale", 0.25f}, {"causal", int64_t{1}}});
  const Tensors all = *run(node, Tensors{q, k, v});
  const auto rows = [&](const Tensor& t, int64_t from, int64_t to) {
    return *Tensor::from<float>({1, to - from, kWidth},
                                t.data<float>().subspan(from * kWidth, (to - from) * kWidth));
  };
  for (int64_t i = 0; i < kLength; ++i) {
    const Tensors alone =
        *run(node, Tensors{rows(q, i, i + 1), rows(k, 0, i + 1), rows(v, 0, i + 1)});
    EXPECT_EQ(
        std::memcmp(alone[0].bytes().data(), all[0].bytes().data() + i * kWidth * 4, kWidth * 4), 0)
        << "query " << i;
  }
}

}  // namespace
}  // namespace verbatim::test
