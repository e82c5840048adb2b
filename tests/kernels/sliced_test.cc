// Products of int8 slices and of quantised rows against the reference. What multiplies them depends
// on the processor; tests/CMakeLists.txt runs these again with less of it.
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/sliced.h>

#include "kernels/compare.h"

namespace verbatim::test {
namespace {

class SlicedTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, SlicedTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

// Slices of numbers, or any codes that may be: both ends of their range come up often.
SlicedTensor some_slices(Random& r, int count, const Shape& shape, Fill fill) {
  SlicedTensor s = *slice_tensor(floats(r, shape, fill), count);
  if (r.chance(50)) return s;
  const std::span<int8_t> codes = s.slices.mutable_data<int8_t>();
  for (size_t i = 0; i < codes.size(); ++i) {
    const int most = i < codes.size() / static_cast<size_t>(count) ? 127 : 64;
    codes[i] = static_cast<int8_t>(r.chance(50) ? r.pick({-most, most}) : r.between(-most, most));
  }
  return s;
}

Case some_product(Random& r, int64_t m, int64_t n, int64_t k) {
  const Fill fill = any_fill(r);
  const auto count = [&] { return static_cast<int>(r.between(1, kMaxSlices)); };
  const SlicedTensor a = some_slices(r, count(), r.chance(30) ? Shape{2, m, k} : Shape{m, k}, fill),
                     b = some_slices(r, count(), Shape{n, k}, fill);
  Case c{
      node_of("verbatim", "SlicedLinear"), {a.slices, a.exponents, b.slices, b.exponents}, {2, 3}};
  if (r.chance(50)) c.inputs.push_back(floats(r, {n}, fill));
  return c;
}

TEST_P(SlicedTest, Product) {
  expect_reference(*backend_, 400, [](Random& r) {
    return some_product(r, r.between(0, 9), r.between(0, 70), r.between(0, 200));
  });
  // Every number of rows of a tile, more rows than a task, several blocks of K.
  expect_reference(*backend_, 100, [](Random& r) {
    return some_product(r, r.between(1, 33), r.between(1, 9), r.between(900, 2200));
  });
  // More rows than a task, and steps of K that are whole and not.
  expect_reference(*backend_, 4, [](Random& r) {
    return some_product(r, r.between(97, 600), r.between(250, 300), r.between(1, 140));
  });
  expect_reference(*backend_, 20, [](Random& r) {
    return some_product(r, r.between(1, 70), r.between(1, 40), r.between(1, 20) * 64);
  });
}

// Several blocks of results for each of a GPU's multiprocessors: every number of slices of either
// operand, on the device and not on the host.
TEST_P(SlicedTest, BlocksOfManyResults) {
  for (int64_t seed = 0; seed < 6; ++seed) {
    Random r(static_cast<uint64_t>(seed));
    const int a = 1 + static_cast<int>(seed) % 4, b = 1 + static_cast<int>(seed * 3 + 1) % 4;
    const int64_t m = seed == 0 ? 300 : r.between(1, 140), n = seed == 0 ? 260 : r.between(1, 140),
                  k = 16 * r.between(1, 25);
    const Fill fill = any_fill(r);
    const SlicedTensor x = some_slices(r, a, Shape{m, k}, fill),
                       w = some_slices(r, b, {n, k}, fill);
    const Case c{node_of("verbatim", "SlicedLinear"),
                 {x.slices, x.exponents, w.slices, w.exponents, floats(r, {n}, fill)},
                 {2, 3}};
    expect_reference(*backend_, c);
    if (has_warp_groups(*backend_)) {
      EXPECT_NE((*backend_->run(c.node, c.inputs))[0].device(), nullptr) << c.node.title();
    }
  }
}

// Codes that may not be there, whether they come from the host or lie on a device already.
TEST_P(SlicedTest, CodesBeyondASlice) {
  Random r(1);
  for (const bool there : {false, true}) {
    SlicedTensor x = some_slices(r, 2, {3, 16}, Fill::ordinary);
    const SlicedTensor w = some_slices(r, 2, {4, 16}, Fill::ordinary);
    x.slices.mutable_data<int8_t>()[static_cast<size_t>(3 * 16 + 5)] = kLaterSliceCodes + 1;
    Tensors inputs = {x.slices, x.exponents, w.slices, w.exponents};
    if (there && backend_->name() == "cuda") {  // what a movement gives stays there
      const Node moved = node_of("", "Identity");
      inputs[0] = (*backend_->run(moved, std::span(inputs).first(1)))[0];
      ASSERT_NE(inputs[0].device(), nullptr);
    }
    const Result<Tensors> result = backend_->run(node_of("verbatim", "SlicedLinear"), inputs);
    ASSERT_FALSE(result.ok());
    EXPECT_NE(result.status().message().find("slice codes out of range"), std::string::npos);
  }
}

TEST_P(SlicedTest, Slices) {
  expect_reference(*backend_, 100, [](Random& r) {
    return Case{node_of("verbatim", "Slices", {{"count", r.between(1, kMaxSlices)}}),
                {floats(r,
                        r.chance(50) ? Shape{r.between(0, 5), r.between(0, 600)}
                                     : Shape{2, 3, r.between(1, 70)},
                        any_fill(r))},
                {}};
  });
}

// Codes from numbers or any at all; scales of numbers too, so that infinite and NaN ones come up.
QuantizedTensor some_codes(Random& r, const Shape& shape, Fill fill) {
  QuantizedTensor q = *quantize_rows(floats(r, shape, fill), 1);
  if (r.chance(50))
    for (int8_t& code : q.codes.mutable_data<int8_t>())
      code = static_cast<int8_t>(r.chance(50) ? r.pick({-127, 127}) : r.between(-127, 127));
  return q;
}

Case some_quantized(Random& r, int64_t m, int64_t n, int64_t k) {
  const Fill fill = any_fill(r);
  const QuantizedTensor a = some_codes(r, r.chance(30) ? Shape{2, m, k} : Shape{m, k}, fill),
                        b = some_codes(r, Shape{n, k}, fill);
  Case c{node_of("verbatim", "QuantizedLinear"), {a.codes, a.scales, b.codes, b.scales}, {2, 3}};
  if (r.chance(50)) c.inputs.insert(c.inputs.end(), {Tensor(), floats(r, {n}, fill)});
  return c;
}

TEST_P(SlicedTest, QuantizedProduct) {
  expect_reference(*backend_, 400, [](Random& r) {
    return some_quantized(r, r.between(0, 9), r.between(0, 70), r.between(0, 200));
  });
  expect_reference(*backend_, 100, [](Random& r) {
    return some_quantized(r, r.between(1, 33), r.between(1, 9), r.between(900, 2200));
  });
  expect_reference(*backend_, 4, [](Random& r) {
    return some_quantized(r, r.between(97, 1100), r.between(30, 40), r.between(1, 1100));
  });
  expect_reference(*backend_, 2, [](Random& r) { return some_quantized(r, 2, 5, kMaxQuantizedK); });
  expect_reference(*backend_, 1,
                   [](Random& r) { return some_quantized(r, 18, 3, kMaxQuantizedK); });
  // More rows than are copied at a time; an emulated GPU, which copies none, would take long.
  const int64_t rows = is_emulated(*backend_) ? 1003 : 140'003;
  expect_reference(*backend_, 1, [&](Random& r) { return some_quantized(r, rows, 2, 3); });
  Random r(1);
  Case c = some_quantized(r, 2, 3, 4);
  c.inputs[2].mutable_data<int8_t>()[0] = -128;
  expect_reference(*backend_, c);
  // Several blocks of results for each of a GPU's multiprocessors.
  int64_t seed = 0;
  for (const Shape& shape : {Shape{300, 520, 656}, Shape{130, 250, 1008}, Shape{65, 9, 16}}) {
    Random r(static_cast<uint64_t>(seed++));
    expect_reference(*backend_, some_quantized(r, shape[0], shape[1], shape[2]));
  }
}

// Few rows, past which a GPU streams the weights: each number of tiles of rows; weights of one warp
// and of seven, of one block's turn and of several; chains and turns longer than its ring of tiles.
TEST_P(SlicedTest, FewQuantizedRows) {
  const int64_t turns = is_emulated(*backend_) ? 460 : 15'000;
  int64_t seed = 0;
  for (const Shape& shape :
       {Shape{1, 20, 8720}, Shape{8, 440, 144}, Shape{9, 100, 272}, Shape{16, 9, 16},
        Shape{17, turns, 1296}, Shape{33, 460, 912}, Shape{64, 70, 48}}) {
    Random r(static_cast<uint64_t>(seed++));
    expect_reference(*backend_, some_quantized(r, shape[0], shape[1], shape[2]));
  }
}

// At the greatest K an int32 lane holds more than half of its range, and a dot more than all of it.
TEST_P(SlicedTest, GreatestK) {
  expect_reference(*backend_, 3, [](Random& r) { return some_product(r, 2, 5, kMaxSlicedK); });
  const auto filled = [](int64_t rows, int sign) {
    Tensor t = *Tensor::allocate(DType::i8, Shape{4, rows, kMaxSlicedK});
    const std::span<int8_t> codes = t.mutable_data<int8_t>();
    for (size_t i = 0; i < codes.size(); ++i)
      codes[i] = static_cast<int8_t>(i < codes.size() / 4 ? 127 * sign : 64 * sign);
    return t;
  };
  const auto exponents = [](int64_t rows) { return *Tensor::zeros(DType::i32, Shape{rows}); };
  for (const int64_t rows : {3, 17})
    for (const int sign : {-1, 1})
      expect_reference(*backend_,
                       Case{node_of("verbatim", "SlicedLinear"),
                            {filled(rows, sign), exponents(rows), filled(4, 1), exponents(4)},
                            {}});
}

TEST_P(SlicedTest, Errors) {
  Random r(1);
  Case c = some_product(r, 2, 3, 4);
  c.inputs[0].mutable_data<int8_t>()[0] = -128;
  expect_reference(*backend_, c);
  c = some_product(r, 2, 3, 4);
  c.inputs[3].mutable_data<int32_t>()[0] = 130;
  expect_reference(*backend_, c);
}

}  // namespace
}  // namespace verbatim::test
