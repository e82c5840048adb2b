// Group formats (MXINT8, NVINT4, block floating point, and whatever else has such scales) against
// the reference: products, and rows to codes and back.
#include <verbatim/repops/ops/grouped.h>

#include <cmath>

#include "kernels/compare.h"

namespace verbatim::test {
namespace {

class GroupedTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, GroupedTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

GroupFormat some_format(Random& r) {
  GroupFormat f = r.pick({kMxInt8, kNvInt4, kNvInt4Rotated, GroupFormat{4, 64}});
  if (r.chance(50)) {
    f.bits = static_cast<int>(r.between(2, 8));
    f.group = r.chance(50) ? r.pick<int64_t>({8, 16, 32, 48, 64, 128, 256}) : r.between(1, 70);
  }
  return f;
}

// Any codes of `bits` bits, -128 and -8 too now and then; both ends of their range come up often. A
// GPU leaves what has a code of -128 to the host.
void fill_codes(Random& r, int bits, Tensor& codes) {
  const int most = (1 << (bits - 1)) - 1, least = r.chance(30) ? -most - 1 : -most;
  const bool ends = r.chance(30);
  for (int8_t& code : codes.mutable_data<int8_t>())
    code = static_cast<int8_t>(ends ? r.pick({least, most}) : r.between(least, most));
}

// The rows of numbers, infinite and NaN ones among them, or any codes and any scales: about 1, or
// of every size, NaN, zero and less than zero included.
GroupedTensor some_rows(Random& r, const Shape& shape, const GroupFormat& f, Fill fill,
                        bool whole) {
  GroupedTensor q = *quantize_groups(floats(r, shape, fill), f, whole);
  if (r.chance(50)) fill_codes(r, r.pick({f.bits, 4, 8}), q.codes);
  if (r.chance(30)) {
    const bool any = r.chance(30);
    for (std::byte& scale : q.scales.mutable_bytes())
      scale = static_cast<std::byte>(
          any ? r.between(0, 255) : r.between(0, 15) + (f.scale == DType::f8e8m0 ? 120 : 48));
  }
  return q;
}

Tensor some_row_scales(Random& r, const GroupedTensor& q, const GroupFormat& f, Fill fill) {
  if (r.chance(f.scale == DType::f8e4m3 ? 10 : 80)) return {};
  if (r.chance(70)) return q.row_scales;
  return floats(r, r.chance(50) ? Shape{} : q.row_scales.shape(), fill);
}

Case some_product(Random& r, GroupFormat f, int64_t m, int64_t n, int64_t k) {
  const Fill fill = any_fill(r);
  if (k % f.rotation != 0) f.rotation = 1;
  const GroupedTensor x = some_rows(r, r.chance(30) ? Shape{2, m, k} : Shape{m, k}, f, fill, false),
                      w = some_rows(r, {n, k}, f, fill, r.chance(50));
  Attributes attributes{{"group", f.group}};
  if (r.chance(50))
    attributes.set("exponent", r.chance(80) ? r.between(-12, 0) : r.between(-126, 127));
  Case c{node_of("verbatim", "GroupedLinear", attributes),
         {x.codes, x.scales, w.codes, w.scales, some_row_scales(r, x, f, fill),
          some_row_scales(r, w, f, fill)},
         {2, 3}};
  c.inputs.push_back(r.chance(50) ? floats(r, {n}, fill) : Tensor());
  return c;
}

Case some_product(Random& r, int64_t m, int64_t n, int64_t k) {
  const GroupFormat f = some_format(r);
  return some_product(r, f, m, n, k);
}

TEST_P(GroupedTest, Product) {
  expect_reference(*backend_, 1000, [](Random& r) {
    return some_product(r, r.between(0, 14), r.between(0, 70), r.between(0, 200));
  });
}

// Rows whose groups are whole, as models have them; more rows than a task; blocks of K, in which
// folds stay from one to the next.
TEST_P(GroupedTest, Blocks) {
  expect_reference(*backend_, 60, [](Random& r) {
    return some_product(r, r.between(1, 30), r.between(1, 40), 32 * r.between(10, 70));
  });
  expect_reference(*backend_, 6, [](Random& r) {
    return some_product(r, r.between(90, 300), r.between(30, 80), r.between(300, 1100));
  });
}

// A GPU's tiles: groups of 32 and of 16 codes and of several times as many, a last one that is
// short, more rows than a block has, columns that no tile's width divides.
TEST_P(GroupedTest, Tiles) {
  expect_reference(*backend_, 80, [](Random& r) {
    GroupFormat f = r.pick({kMxInt8, kNvInt4, GroupFormat{4, 64}, GroupFormat{8, 48}});
    if (r.chance(30)) f.group = r.pick<int64_t>({16, 32, 96, 112, 256});
    const int64_t k = r.chance(60) ? 16 * r.between(1, 30) : r.between(1, 300);
    return some_product(r, f, r.pick<int64_t>({9, 31, 33, 65, 130}), r.between(1, 140), k);
  });
}

// Every code, activation and scale at an end of its range: the sums that bounds are about.
TEST_P(GroupedTest, GreatestSums) {
  const auto filled = [](DType type, const Shape& shape, int value) {
    Tensor t = *Tensor::allocate(type, shape);
    for (std::byte& b : t.mutable_bytes()) b = static_cast<std::byte>(value);
    return t;
  };
  for (const int x : {-128, 127})
    for (const int w : {-128, 127, -8, 7})
      for (const int64_t group : {16, 32, 64, 256})
        expect_reference(
            *backend_,
            Case{node_of("verbatim", "GroupedLinear", {{"group", group}}),
                 {filled(DType::i8, {7, 512}, x), filled(DType::f8e8m0, {7, 512 / group}, 120),
                  filled(DType::i8, {3, 512}, w), filled(DType::f8e8m0, {3, 512 / group}, 130)},
                 {2, 3}});
}

// Two products that share codes and scales, whose groups differ, keep their packed weights apart.
TEST_P(GroupedTest, GroupsOfAPackedWeight) {
  Random r(1);
  const GroupedTensor x = some_rows(r, {3, 40}, {8, 20}, Fill::ordinary, false),
                      w = some_rows(r, {5, 40}, {8, 20}, Fill::ordinary, false);
  GraphBuilder b;
  const ValueId in[] = {b.input("x", DType::i8, {3, 40}), b.input("s", DType::f8e8m0, {3, 2}),
                        b.constant("w", w.codes), b.constant("t", w.scales)};
  for (const int64_t group : {20, 24, 39})
    b.output("y" + std::to_string(group), b.add("GroupedLinear", kVerbatimDomain,
                                                {in[0], in[1], in[2], in[3]}, {{"group", group}}));
  const Graph graph = *b.finish();
  ASSERT_TRUE(backend_->prepare(graph).ok());
  for (const Node& node : graph.nodes) {
    const Tensor inputs[] = {x.codes, x.scales, w.codes, w.scales};
    const Tensors want = *evaluate_reference(node, inputs), have = *run(node, inputs);
    EXPECT_TRUE(identical(want[0], have[0])) << node.title();
  }
}

TEST_P(GroupedTest, Errors) {
  Random r(1);
  const Case good = some_product(r, 2, 3, 64);
  for (size_t i = 0; i < 4; ++i) {
    Case c = good;
    c.inputs[i] = floats(r, {2, 3}, Fill::ordinary);
    expect_reference(*backend_, c);
  }
  Case c = good;
  c.node.attributes.set("exponent", int64_t{128});
  expect_reference(*backend_, c);
  c = good;
  c.node.attributes.set("group", int64_t{257});
  expect_reference(*backend_, c);
}

// Numbers whose scales are subnormal, zero or nearly too great, besides the usual ones.
Tensor numbers(Random& r, const Shape& shape) {
  Tensor x = floats(r, shape, any_fill(r));
  if (r.chance(60)) return x;
  const int shift = r.pick<int>({-150, -147, -140, -126, -120, -100, 100, 120, 126});
  for (float& v : x.mutable_data<float>()) v = std::ldexp(v, shift);
  return x;
}

Attributes attributes_of(const GroupFormat& f) {
  return {{"bits", int64_t{f.bits}},
          {"group", f.group},
          {"scale_type", static_cast<int64_t>(f.scale)},
          {"rotation", f.rotation}};
}

TEST_P(GroupedTest, Quantize) {
  expect_reference(*backend_, 1500, [](Random& r) {
    GroupFormat f = some_format(r);
    if (r.chance(50)) f.rotation = int64_t{1} << r.between(0, 9);
    const int64_t k = f.rotation * r.between(0, f.rotation > 64 ? 2 : 256 / f.rotation);
    Attributes attributes = attributes_of(f);
    if (r.chance(10)) attributes.set("whole", int64_t{1});
    if (r.chance(3)) attributes.set("bits", int64_t{9});
    const int outputs = f.scale == DType::f8e4m3 || r.chance(2) ? 3 : 2;
    return Case{node_of("verbatim", "QuantizeGroups", attributes, outputs),
                {numbers(r, {2, r.between(0, 5), k})},
                {}};
  });
}

// The least exponent that holds a group: its greatest number is a code times a power of two, or one
// step above or below.
TEST_P(GroupedTest, QuantizeAtTheEdgeOfAnExponent) {
  for (const int bits : {2, 4, 8}) {
    for (int e = -150; e <= 127; ++e) {
      const float edge = std::ldexp(static_cast<float>((1 << (bits - 1)) - 1), e - bits + 2);
      std::vector<float> x;
      for (const float v : {edge, std::nextafter(edge, 0.0f), std::nextafter(edge, INFINITY)})
        x.insert(x.end(), {v, -v / 3});
      expect_reference(*backend_, Case{node_of("verbatim", "QuantizeGroups",
                                               {{"bits", int64_t{bits}}, {"group", int64_t{2}}}, 2),
                                       {*Tensor::from<float>({1, 6}, std::span<const float>(x))},
                                       {}});
    }
  }
}

// Quotients next to halves, and scales next to halves of e4m3.
TEST_P(GroupedTest, QuantizeNextToHalves) {
  expect_reference(*backend_, 300, [](Random& r) {
    const float greatest = 7 * (0.1f + std::abs(number(r, Fill::ordinary)));
    std::vector<float> x;
    for (int group = 0; group < 8; ++group) {
      const float size = greatest * static_cast<float>(r.between(1, 32)) / 32, step = size / 7;
      for (int i = 0; i < 16; ++i) {
        const float half = (static_cast<float>(r.between(-7, 6)) + 0.5f) * step;
        x.push_back(i == 0 ? size : r.pick({half, std::nextafter(half, 0.0f), half * 1.0001f}));
      }
    }
    return Case{node_of("verbatim", "QuantizeGroups", attributes_of(kNvInt4), 3),
                {*Tensor::from<float>({1, 128}, std::span<const float>(x))},
                {}};
  });
}

TEST_P(GroupedTest, Dequantize) {
  expect_reference(*backend_, 1000, [](Random& r) {
    const Fill fill = any_fill(r);
    GroupFormat f = some_format(r);
    f.rotation = 1;
    const GroupedTensor q =
        some_rows(r, {2, r.between(0, 5), r.between(0, 150)}, f, fill, r.chance(30));
    Case c{node_of("verbatim", "DequantizeGroups", {{"group", f.group}}), {q.codes, q.scales}, {}};
    if (r.chance(50)) c.inputs.push_back(some_row_scales(r, q, f, fill));
    return c;
  });
}

// On a GPU, from numbers to codes, to their product and back: what each kernel gives lies there.
class GroupedDeviceTest : public OnBackend {
 protected:
  Tensors run_there(const char* op, const Attributes& attributes, const Tensors& inputs,
                    int outputs = 1) {
    Tensors y = *backend_->run(node_of("verbatim", op, attributes, outputs), inputs);
    for (const Tensor& t : y) EXPECT_NE(t.device(), nullptr) << op << " gave " << t.describe();
    return y;
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, GroupedDeviceTest, ::testing::Values("cuda"),
                         [](const auto& info) { return info.param; });

TEST_P(GroupedDeviceTest, NothingLeaves) {
  Random r(1);
  for (const GroupFormat& f : {kMxInt8, kNvInt4, kNvInt4Rotated, GroupFormat{4, 64},
                               GroupFormat{5, 20}, GroupFormat{8, 48}})
    for (const int64_t m : {0, 1, 70})
      for (const int64_t n : {0, 11}) {
        const int outputs = f.scale == DType::f8e4m3 ? 3 : 2;
        const auto codes = [&](int64_t rows) {
          return run_there("QuantizeGroups", attributes_of(f),
                           {floats(r, {rows, 160}, Fill::ordinary)}, outputs);
        };
        const Tensors x = codes(m), w = codes(n);
        const Attributes group = {{"group", f.group}};
        run_there("DequantizeGroups", group, x);
        Tensors operands = {x[0], x[1], w[0], w[1]};
        if (outputs == 3) operands.insert(operands.end(), {x[2], w[2]});
        run_there("GroupedLinear", group, operands);
      }
}

}  // namespace
}  // namespace verbatim::test
