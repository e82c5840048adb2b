// Conv against the reference.
#include "kernels/compare.h"

namespace verbatim::test {
namespace {

class ConvolutionTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, ConvolutionTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

using Ints = std::vector<int64_t>;

struct Size {
  int spatial = 2;  // dimensions
  int64_t image = 9, channels = 4, outputs = 6, kernel = 3;
};

// Any strides, dilations, padding and groups; `fill` of the weights may differ from the image's.
Case some_convolution(Random& r, const Size& most, Fill fill, Fill weights) {
  const int64_t groups = r.pick({1, 1, 1, 2, 3}), channels = r.between(1, most.channels);
  Ints x = {r.between(1, 2), channels * groups},
       w = {r.between(1, most.outputs) * groups, channels};
  Ints strides, dilations, begin, end;
  for (int d = 0; d < most.spatial; ++d) {
    w.push_back(r.between(1, most.kernel));
    dilations.push_back(r.between(1, 2));
    strides.push_back(r.pick({1, 1, 2, 3}));
    begin.push_back(r.between(0, 2));
    end.push_back(r.between(0, 2));
    x.push_back(r.between(1 + (w.back() - 1) * dilations.back(), most.image + 4));
  }
  begin.insert(begin.end(), end.begin(), end.end());
  const DType type = any_type(r);
  Case c{
      node_of("", "Conv",
              {{"group", groups}, {"strides", strides}, {"dilations", dilations}, {"pads", begin}}),
      {numbers(r, type, *Shape::of(x), fill), numbers(r, type, *Shape::of(w), weights)},
      {1, 2}};
  if (r.chance(50)) c.inputs.push_back(numbers(r, type, Shape{w[0]}, fill));
  return c;
}

TEST_P(ConvolutionTest, EqualsTheReference) {
  for (const Size& most : {Size{1, 90, 4, 20, 7}, Size{2, 9, 4, 6, 3}, Size{3, 4, 2, 4, 2}})
    expect_reference(*backend_, 500, [&](Random& r) {
      const Fill fill = any_fill(r);
      return some_convolution(r, most, fill, r.chance(50) ? fill : Fill::ordinary);
    });
}

TEST_P(ConvolutionTest, SeveralBlocksTilesAndStrips) {
  expect_reference(*backend_, 12, [](Random& r) {
    return some_convolution(r, {2, 20, 200, 130, 3}, any_fill(r), Fill::ordinary);
  });
}

// Few positions and many channels: one strip, whose panels and rows threads share.
TEST_P(ConvolutionTest, OneStripOfManyRows) {
  expect_reference(*backend_, 20, [](Random& r) {
    const int64_t image = r.between(3, 9), channels = r.between(1, 70), rows = r.between(60, 200);
    return Case{node_of("", "Conv", {{"pads", Ints{1, 1, 1, 1}}}),
                {numbers(r, DType::f32, Shape{1, channels, image, image}, any_fill(r)),
                 numbers(r, DType::f32, Shape{rows, channels, 3, 3}, Fill::ordinary)},
                {1}};
  });
}

// A sum that is -0 where a window reaches into padding: +0 added there would turn its sign.
TEST_P(ConvolutionTest, PaddingLeavesTheSignOfZero) {
  const float least = 1e-45f;
  Tensor x = *Tensor::zeros(DType::f32, Shape{1, 1, 40});
  for (float& v : x.mutable_data<float>()) v = least;
  for (const int64_t channels : {2, 9}) {  // many share what a GPU gathers
    Tensor w = *Tensor::zeros(DType::f32, Shape{channels, 1, 3});
    w.mutable_data<float>()[1] = -0.25f;
    w.mutable_data<float>()[2] = 1;  // reaches into the padding at the end
    w.mutable_data<float>()[4] = -0.25f;
    for (const Tensor& bias : {Tensor(), *Tensor::zeros(DType::f32, Shape{channels})}) {
      Case c{node_of("", "Conv", {{"pads", Ints{1, 1}}}), {x, w}, {1}};
      if (bias.defined()) c.inputs.push_back(bias);
      expect_reference(*backend_, c);
    }
  }
}

// Weights that are not finite, where many channels share gathered columns.
TEST_P(ConvolutionTest, PaddingTimesInfinityTakesNoPart) {
  expect_reference(*backend_, 60, [](Random& r) {
    return some_convolution(r, {2, 9, 3, 20, 3}, any_fill(r), Fill::special);
  });
}

Case some_transposed(Random& r) {
  const int64_t groups = r.pick({1, 1, 2}), spatial = r.between(1, 3);
  Ints x = {r.between(1, 2), r.between(1, 5) * groups}, w = {x[1], r.between(1, 4)};
  Ints strides, dilations, extra, pads;
  for (int d = 0; d < spatial; ++d) {
    x.push_back(r.between(1, 7));
    w.push_back(r.between(1, 3));
    strides.push_back(r.between(1, 3));
    dilations.push_back(r.between(1, 2));
    extra.push_back(r.below(std::max(strides.back(), dilations.back())));
  }
  for (int d = 0; d < 2 * spatial; ++d) pads.push_back(r.between(0, 1));
  const DType type = any_type(r);
  Case c{
      node_of("", "ConvTranspose",
              {{"group", groups},
               {"strides", strides},
               {"dilations", dilations},
               {"output_padding", extra},
               {"pads", pads}}),
      {numbers(r, type, *Shape::of(x), any_fill(r)), numbers(r, type, *Shape::of(w), any_fill(r))},
      {1}};
  if (r.chance(50)) c.inputs.push_back(numbers(r, type, Shape{w[1] * groups}, any_fill(r)));
  return c;
}

TEST_P(ConvolutionTest, Transposed) { expect_reference(*backend_, 400, some_transposed); }

Case some_pool(Random& r) {
  const int64_t spatial = r.between(1, 3);
  const bool average = r.chance(50), global = r.chance(15);
  Ints x = {r.between(1, 2), r.between(1, 3)}, kernel, strides, dilations, pads;
  for (int d = 0; d < spatial; ++d) {
    kernel.push_back(r.between(1, 4));
    dilations.push_back(r.between(1, 2));
    strides.push_back(r.between(1, 3));
    x.push_back(r.between(1, 12));
  }
  for (int d = 0; d < 2 * spatial; ++d) pads.push_back(r.between(0, kernel[d % spatial] - 1));
  Attributes a;
  if (!global) {
    a = {{"kernel_shape", kernel}, {"strides", strides}, {"dilations", dilations}, {"pads", pads}};
    if (r.chance(50)) a.set("ceil_mode", int64_t{1});
    if (average && r.chance(50)) a.set("count_include_pad", int64_t{1});
  }
  const std::string op = std::string(global ? "Global" : "") + (average ? "Average" : "Max");
  Tensor image = numbers(r, any_type(r), *Shape::of(x), any_fill(r));
  if (image.dtype() == DType::f32 && r.chance(30))  // the first zero is the greatest
    for (float& v : image.mutable_data<float>()) v = r.pick({-0.0f, 0.0f, -1.0f});
  return {node_of("", op + "Pool", a), {image}, {}};
}

TEST_P(ConvolutionTest, Pools) { expect_reference(*backend_, 1000, some_pool); }

// A kernel far larger than the image costs what it reads.
TEST_P(ConvolutionTest, APoolOfPadding) {
  Random r(1);
  const Ints pads(4, 4095);
  expect_reference(
      *backend_,
      {node_of("", "MaxPool",
               {{"kernel_shape", Ints{4096, 4096}}, {"strides", Ints{512, 512}}, {"pads", pads}}),
       {floats(r, {1, 1, 8, 8}, Fill::ordinary)},
       {}});
}

}  // namespace
}  // namespace verbatim::test
