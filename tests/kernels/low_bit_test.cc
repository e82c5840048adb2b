// Products with weights of 1 to 7 bits and group scales against the reference.
#include <verbatim/repops/ops/quantized.h>

#include "kernels/compare.h"

namespace verbatim::test {
namespace {

class LowBitTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, LowBitTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

// Any codes of `bits` bits; both ends of their range come up often.
void fill_codes(Random& r, int bits, Tensor& codes) {
  const int greatest = bits == 1 ? 1 : (1 << (bits - 1)) - 1;
  const bool ends = bits == 1 || r.chance(30);
  for (int8_t& code : codes.mutable_data<int8_t>())
    code =
        static_cast<int8_t>(ends ? r.pick({-greatest, greatest}) : r.between(-greatest, greatest));
}

Case product_of(const QuantizedTensor& x, const QuantizedWeights& w) {
  return {node_of("verbatim", "QuantizedLinear"),
          {x.codes, x.scales, w.codes, w.scales, w.group_scales},
          {2, 3, 4}};
}

// Weights from numbers, infinite and NaN ones among them, or any codes and scales at all.
Case some_product(Random& r, int bits, int64_t m, int64_t n, int64_t k) {
  const Fill fill = any_fill(r);
  QuantizedTensor x =
      *quantize_rows(floats(r, r.chance(30) ? Shape{2, m, k} : Shape{m, k}, fill), 1);
  QuantizedWeights w = *quantize_weights(floats(r, {n, k}, fill), bits, 1);
  if (r.chance(50)) {
    fill_codes(r, bits, w.codes);
    for (uint8_t& scale : w.group_scales.mutable_data<uint8_t>())
      scale = static_cast<uint8_t>(r.chance(20) ? 0 : r.between(1, 255));
  }
  if (r.chance(50)) fill_codes(r, 8, x.codes);
  Case c = product_of(x, w);
  if (r.chance(50)) c.inputs.push_back(floats(r, {n}, fill));
  return c;
}

TEST_P(LowBitTest, Product) {
  expect_reference(*backend_, 400, [](Random& r) {
    return some_product(r, static_cast<int>(r.between(1, 7)), r.between(0, 20), r.between(0, 70),
                        r.between(0, 200));
  });
}

// A GPU has kernels for few rows and for many; they lie otherwise where K is whole words of 16
// bytes.
TEST_P(LowBitTest, RowsOfWords) {
  expect_reference(*backend_, 160, [](Random& r) {
    return some_product(r, static_cast<int>(r.between(1, 7)), r.between(1, 64), r.between(1, 150),
                        16 * r.between(1, 30));
  });
}

TEST_P(LowBitTest, ManyRows) {
  expect_reference(*backend_, 40, [](Random& r) {
    return some_product(r, static_cast<int>(r.between(1, 7)), r.between(65, 300), r.between(1, 150),
                        r.chance(50) ? 16 * r.between(1, 20) : r.between(1, 320));
  });
}

// Sums are widened after each 32 groups on a processor, after 16 on a GPU.
TEST_P(LowBitTest, ManyGroups) {
  expect_reference(*backend_, 20, [](Random& r) {
    return some_product(r, static_cast<int>(r.between(1, 7)), r.between(1, 9), r.between(1, 20),
                        r.between(1000, 3100));
  });
}

// More rows of weights than a GPU's warps have at a time, whose parts of K are no equal number of
// slabs.
TEST_P(LowBitTest, ManyRowsOfWeights) {
  const bool emulated = is_emulated(*backend_);  // which has few multiprocessors
  expect_reference(*backend_, 4, [&](Random& r) {
    return some_product(r, r.pick({2, 4, 7}), r.pick<int64_t>({1, 9, 20}), emulated ? 500 : 15000,
                        emulated ? 2200 : 600);
  });
}

// Every code, activation and scale at its greatest: the sums that bounds are about.
TEST_P(LowBitTest, GreatestSums) {
  for (int bits = 1; bits <= 7; ++bits) {
    for (const int sign : {-1, 1}) {
      const int64_t k = kMaxQuantizedK, m = bits == 7 && sign < 0 ? 65 : 5,
                    groups = (k + kQuantizedGroup - 1) / kQuantizedGroup;
      const auto code = static_cast<int8_t>(sign * (bits == 1 ? 1 : (1 << (bits - 1)) - 1));
      const auto filled = [](DType type, const Shape& shape, int value) {
        Tensor t = *Tensor::allocate(type, shape);
        for (std::byte& b : t.mutable_bytes()) b = static_cast<std::byte>(value);
        return t;
      };
      Random r(1);
      const QuantizedTensor x = {filled(DType::i8, {m, k}, 127), floats(r, {m}, Fill::ordinary)};
      const QuantizedWeights w = {filled(DType::i8, {3, k}, code), floats(r, {3}, Fill::ordinary),
                                  filled(DType::u8, {3, groups}, 255)};
      expect_reference(*backend_, product_of(x, w));
    }
  }
}

// A Hopper multiplies with constants of up to 7 bits itself, by few rows and by many.
TEST_P(LowBitTest, WhatAGpuMultiplies) {
  const bool gpu = has_warp_groups(*backend_);
  Random r(1);
  for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8}) {
    for (const int64_t m : {64, 65}) {
      Case c = some_product(r, std::min(bits, 7), m, 20, 64);
      if (bits == 8) fill_codes(r, bits, c.inputs[2]);
      GraphBuilder b;
      std::vector<ValueId> inputs;
      for (size_t i = 0; i < c.inputs.size(); ++i) {
        const std::string name = std::to_string(i);
        const Tensor& t = c.inputs[i];
        inputs.push_back(
            i < 2 ? b.input(name, t.dtype(), {t.shape().dims().begin(), t.shape().dims().end()})
                  : b.constant(name, t));
      }
      b.output("y", b.add("QuantizedLinear", "verbatim", inputs));
      const Graph graph = *b.finish();
      ASSERT_TRUE(backend_->prepare(graph).ok());
      EXPECT_EQ((*backend_->run(graph.nodes[0], c.inputs))[0].device() != nullptr, gpu && bits < 8)
          << bits << " bits, " << m << " rows";
    }
  }
}

// What has more bits than are packed is the reference's, which also names errors.
TEST_P(LowBitTest, LeftToTheReference) {
  Random r(1);
  Case c = some_product(r, 4, 2, 3, 40);
  fill_codes(r, 8, c.inputs[2]);
  expect_reference(*backend_, c);
  for (const size_t operand : {0, 2}) {
    c = some_product(r, 4, 2, 3, 40);
    c.inputs[operand].mutable_data<int8_t>()[0] = -128;
    expect_reference(*backend_, c);
  }
  c = some_product(r, 4, 2, 3, 40);
  c.inputs[4] = *Tensor::zeros(DType::u8, Shape{3, 1});
  expect_reference(*backend_, c);
}

}  // namespace
}  // namespace verbatim::test
