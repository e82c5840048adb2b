// Golden cases of operators on images: pools, convolutions, resampling, detection.
#include "kernels/golden_builder.h"

namespace verbatim::test {
namespace {

void max_pools(File& f) {
  f.onnx("MaxPool, ties, zeros and NaN", "MaxPool",
         {numbers({1, 1, 3, 4}, {3, 3, -0.0f, 0, 1, 3, 0, -0.0f, NAN, 2, NAN, -5})},
         {{"kernel_shape", Dims{2, 2}}}, 2);
  f.onnx("MaxPool, pads, strides, dilations", "MaxPool", {f.floats({2, 3, 9, 10}, "mixed")},
         {{"kernel_shape", Dims{3, 2}},
          {"strides", Dims{2, 1}},
          {"dilations", Dims{1, 3}},
          {"pads", Dims{1, 0, 1, 1}}},
         2);
  f.onnx("MaxPool, ceil_mode, column-major indices", "MaxPool", {f.floats({1, 2, 7, 8})},
         {{"kernel_shape", Dims{3, 3}},
          {"strides", Dims{2, 3}},
          {"ceil_mode", 1},
          {"storage_order", 1}},
         2);
  const Json three = {{"kernel_shape", Dims{3}}, {"strides", Dims{2}}};
  f.onnx("MaxPool of float16, SAME_UPPER", "MaxPool", {f.seeded(DType::f16, {1, 2, 12}, "mixed")},
         with(three, {{"auto_pad", "SAME_UPPER"}}), 2);
  f.onnx("MaxPool of int8, SAME_LOWER", "MaxPool", {f.seeded(DType::i8, {1, 2, 12}, "bits")},
         with(three, {{"auto_pad", "SAME_LOWER"}}), 2);
  f.onnx("MaxPool of bfloat16, three axes", "MaxPool",
         {f.seeded(DType::bf16, {1, 2, 4, 5, 6}, "mixed")}, {{"kernel_shape", Dims{2, 3, 2}}}, 2);
  for (const DType type : {DType::f32, DType::u8})
    f.onnx("MaxPool of padding alone, " + std::string(name_of(type)), "MaxPool",
           {f.seeded(type, {1, 1, 3}, "bits")}, {{"kernel_shape", Dims{1}}, {"pads", Dims{2, 1}}},
           2);
  f.onnx("MaxPool of nothing", "MaxPool", {full(DType::f32, {0, 2, 5, 5}, {})},
         {{"kernel_shape", Dims{2, 2}}}, 2);
  f.onnx("GlobalMaxPool", "GlobalMaxPool", {f.floats({2, 3, 5, 7}, "mixed")});
  f.onnx("GlobalMaxPool of float16", "GlobalMaxPool", {f.seeded(DType::f16, {2, 3, 9})});
}

void mean_pools(File& f) {
  const Json kernel = {{"kernel_shape", Dims{3, 3}}, {"strides", Dims{2, 2}}};
  for (const int64_t include : {0, 1})
    f.onnx("AveragePool, ceil_mode, count_include_pad " + std::to_string(include), "AveragePool",
           {f.floats({1, 2, 6, 7}, "mixed")},
           with(kernel,
                {{"pads", Dims{1, 1, 1, 1}}, {"ceil_mode", 1}, {"count_include_pad", include}}));
  f.onnx("AveragePool, dilations, SAME_LOWER", "AveragePool", {f.floats({2, 2, 8, 9})},
         with(kernel, {{"dilations", Dims{2, 1}}, {"auto_pad", "SAME_LOWER"}}));
  f.onnx("AveragePool of float16", "AveragePool", {f.seeded(DType::f16, {1, 2, 20}, "mixed")},
         {{"kernel_shape", Dims{4}}});
  f.onnx("AveragePool, windows beyond a block of the sum", "AveragePool",
         {f.floats({1, 1, 36, 37})}, {{"kernel_shape", Dims{35, 35}}});
  f.onnx("AveragePool of padding alone", "AveragePool", {f.floats({1, 1, 3})},
         {{"kernel_shape", Dims{1}}, {"pads", Dims{2, 1}}});
  f.onnx("GlobalAveragePool", "GlobalAveragePool", {f.floats({2, 3, 5, 7})});
  f.onnx("GlobalAveragePool of long rows", "GlobalAveragePool", {f.floats({1, 2, 1100})});
  f.onnx("GlobalAveragePool of bfloat16", "GlobalAveragePool",
         {f.seeded(DType::bf16, {2, 3, 9}, "mixed")});
  for (const int64_t p : {1, 2, 3}) {
    const std::string name = ", p " + std::to_string(p);
    f.onnx("LpPool" + name, "LpPool", {f.floats({1, 2, 6, 7})},
           with(kernel, {{"p", p}, {"pads", Dims{1, 0, 1, 1}}}));
    f.onnx("GlobalLpPool" + name, "GlobalLpPool", {f.floats({2, 2, 5, 7})}, {{"p", p}});
    f.onnx("LpPool of float64" + name, "LpPool", {f.seeded(DType::f64, {1, 1, 9})},
           {{"kernel_shape", Dims{3}}, {"p", p}});
  }
  f.onnx("LpPool of float16, ceil_mode, dilations", "LpPool", {f.seeded(DType::f16, {1, 2, 6, 7})},
         with(kernel, {{"ceil_mode", 1}, {"dilations", Dims{1, 2}}}));
  f.onnx("GlobalLpPool of any bits", "GlobalLpPool", {f.floats({4, 2, 9}, "mixed")});
}

void unpools(File& f) {
  const Json kernel = {{"kernel_shape", Dims{2, 2}}, {"strides", Dims{2, 2}}};
  const Json places = full(DType::i64, {1, 1, 2, 2}, {5, 7, 13, 8});
  f.onnx("MaxUnpool", "MaxUnpool", {f.floats({1, 1, 2, 2}, "bits"), places}, kernel);
  f.onnx("MaxUnpool to a shape", "MaxUnpool",
         {f.floats({1, 1, 2, 2}, "bits"), places, integers({1, 1, 5, 6})}, kernel);
  f.onnx("MaxUnpool of float16, pads", "MaxUnpool",
         {f.seeded(DType::f16, {1, 2, 3}, "bits"), full(DType::i64, {1, 2, 3}, {0, 3, 1, 9, 6, 7})},
         {{"kernel_shape", Dims{3}}, {"strides", Dims{2}}, {"pads", Dims{1, 1}}});
}

std::vector<Json> pooling() {
  File f(23000);
  max_pools(f);
  mean_pools(f);
  unpools(f);
  return f.take();
}

void convolutions(File& f) {
  f.onnx("Conv, K in two blocks, padded", "Conv",
         {f.floats({1, 60, 4, 5}), f.floats({3, 60, 3, 3}), f.floats({3})},
         {{"pads", Dims{1, 1, 1, 1}}});
  f.onnx("Conv, a block of nothing but padding", "Conv",
         {f.floats({1, 2, 600}), f.floats({2, 2, 600})},
         {{"pads", Dims{599, 0}}, {"strides", Dims{150}}});
  f.onnx("Conv, groups, strides, dilations", "Conv",
         {f.floats({2, 4, 8, 9}, "mixed"), f.floats({6, 2, 3, 2}), f.floats({6})},
         {{"group", 2}, {"strides", Dims{2, 1}}, {"dilations", Dims{1, 3}}});
  f.onnx("Conv by channel, SAME_LOWER", "Conv", {f.floats({1, 3, 7, 6}), f.floats({3, 1, 2, 4})},
         {{"group", 3}, {"auto_pad", "SAME_LOWER"}});
  f.onnx("Conv, three axes, SAME_UPPER", "Conv",
         {f.floats({1, 2, 3, 4, 5}), f.floats({2, 2, 2, 3, 2})},
         {{"auto_pad", "SAME_UPPER"}, {"strides", Dims{1, 2, 2}}});
  for (const DType type : {DType::f16, DType::bf16, DType::f64})
    f.onnx("Conv of " + std::string(name_of(type)), "Conv",
           {f.seeded(type, {1, 20, 6, 5}), f.seeded(type, {3, 20, 3, 3}), f.seeded(type, {3})},
           {{"pads", Dims{1, 1, 0, 2}}});
  f.onnx("Conv of nothing", "Conv", {full(DType::f32, {0, 2, 5}, {}), f.floats({3, 2, 3})});
  f.onnx("ConvTranspose, groups, dilations, output_padding", "ConvTranspose",
         {f.floats({2, 4, 4, 5}, "mixed"), f.floats({4, 3, 3, 2}), f.floats({6})},
         {{"group", 2},
          {"strides", Dims{3, 2}},
          {"dilations", Dims{1, 2}},
          {"pads", Dims{1, 0, 1, 1}},
          {"output_padding", Dims{2, 1}}});
  f.onnx("ConvTranspose, K in two blocks", "ConvTranspose",
         {f.floats({1, 200, 4}), f.floats({200, 3, 3})}, {{"strides", Dims{2}}});
  f.onnx("ConvTranspose to a shape, SAME_LOWER", "ConvTranspose",
         {f.floats({1, 2, 3, 3}), f.floats({2, 2, 3, 3})},
         {{"strides", Dims{2, 2}}, {"output_shape", Dims{6, 5}}, {"auto_pad", "SAME_LOWER"}});
  for (const DType type : {DType::bf16, DType::f64})
    f.onnx("ConvTranspose of " + std::string(name_of(type)), "ConvTranspose",
           {f.seeded(type, {1, 5, 6}), f.seeded(type, {5, 2, 4}), f.seeded(type, {2})},
           {{"strides", Dims{2}}});
}

void deformed(File& f) {
  f.onnx("DeformConv", "DeformConv",
         {f.floats({1, 2, 5, 6}), f.floats({3, 2, 2, 2}), f.floats({1, 8, 4, 5})});
  f.onnx("DeformConv, groups, a mask, padded", "DeformConv",
         {f.floats({2, 4, 5, 6}, "mixed"), f.floats({6, 2, 2, 3}), f.floats({2, 24, 3, 6}, "mixed"),
          f.floats({6}), f.floats({2, 12, 3, 6})},
         {{"group", 2},
          {"offset_group", 2},
          {"strides", Dims{2, 1}},
          {"pads", Dims{1, 1, 0, 1}},
          {"dilations", Dims{1, 1}}});
  f.onnx("DeformConv, K in two blocks", "DeformConv",
         {f.floats({1, 140, 3, 3}), f.floats({2, 140, 2, 2}), f.floats({1, 8, 2, 2})});
  f.onnx("DeformConv of float16", "DeformConv",
         {f.seeded(DType::f16, {1, 2, 5, 6}), f.seeded(DType::f16, {3, 2, 2, 2}),
          f.seeded(DType::f16, {1, 8, 3, 4})},
         {{"dilations", Dims{2, 2}}});
  f.onnx("Col2Im", "Col2Im", {f.floats({1, 8, 12}), integers({4, 5}), integers({2, 2})});
  f.onnx("Col2Im, pads, strides, dilations", "Col2Im",
         {f.floats({2, 12, 9}, "mixed"), integers({6, 5}), integers({2, 3})},
         {{"pads", Dims{1, 1, 0, 1}}, {"strides", Dims{2, 2}}, {"dilations", Dims{2, 1}}});
  f.onnx("Col2Im of float16, rounded once", "Col2Im",
         {f.seeded(DType::f16, {1, 5, 16}), integers({20}), integers({5})});
  f.onnx("Col2Im of int8 wraps", "Col2Im",
         {f.seeded(DType::i8, {1, 5, 16}, "bits"), integers({20}), integers({5})});
}

std::vector<Json> convolution() {
  File f(24000);
  convolutions(f);
  deformed(f);
  return f.take();
}

constexpr const char* kTransforms[] = {
    "half_pixel",    "pytorch_half_pixel",   "asymmetric",        "tf_half_pixel_for_nn",
    "align_corners", "half_pixel_symmetric", "tf_crop_and_resize"};

void resizes(File& f) {
  const Json region = numbers({4}, {0.1f, -0.2f, 0.7f, 1.3f}), scales = numbers({2}, {1.6f, 0.7f});
  const Json base = {{"axes", Dims{0, 1}}, {"extrapolation_value", real(-2.5f)}};
  for (const char* transform : kTransforms) {
    const std::string name = std::string("Resize, ") + transform;
    const Json attributes = with(base, {{"coordinate_transformation_mode", transform}});
    f.onnx(name + ", linear", "Resize", {f.floats({5, 7}, "mixed"), region, scales},
           with(attributes, {{"mode", "linear"}}));
    f.onnx(name + ", cubic, to sizes", "Resize",
           {f.floats({5, 7}), region, nullptr, integers({3, 11})},
           with(attributes, {{"mode", "cubic"}, {"exclude_outside", 1}}));
  }
  for (const char* nearest : {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"})
    f.onnx(std::string("Resize, nearest, ") + nearest, "Resize",
           {f.floats({6, 7}, "bits"), nullptr, numbers({2}, {0.5f, 1.5f})},
           {{"nearest_mode", nearest}});
  for (const char* mode : {"linear", "cubic"})
    f.onnx(std::string("Resize, antialias, ") + mode, "Resize",
           {f.floats({1, 2, 9, 10}), nullptr, nullptr, integers({4, 3})},
           {{"mode", mode}, {"antialias", 1}, {"axes", Dims{-2, -1}}});
  for (const char* policy : {"not_larger", "not_smaller"})
    f.onnx(std::string("Resize, ") + policy, "Resize",
           {f.floats({1, 1, 4, 7}), nullptr, nullptr, integers({7, 9})},
           {{"mode", "linear"}, {"axes", Dims{2, 3}}, {"keep_aspect_ratio_policy", policy}});
  for (const DType type : {DType::f16, DType::f64})
    f.onnx("Resize of " + std::string(name_of(type)), "Resize",
           {f.seeded(type, {1, 1, 5, 6}), nullptr, numbers({4}, {1, 1, 2.3f, 0.6f})},
           {{"mode", "cubic"}, {"cubic_coeff_a", real(-0.5f)}});
  f.onnx("Resize of uint8, nearest", "Resize",
         {f.seeded(DType::u8, {3, 5}, "bits"), nullptr, nullptr, integers({7, 2})},
         {{"coordinate_transformation_mode", "asymmetric"}});
}

void grids(File& f) {
  for (const char* mode : {"nearest", "linear", "cubic"})
    for (const char* padding : {"zeros", "border", "reflection"})
      for (const int64_t align : {0, 1})
        f.onnx(std::string("GridSample, ") + mode + ", " + padding + ", align_corners " +
                   std::to_string(align),
               "GridSample", {f.floats({1, 2, 4, 5}), f.floats({1, 7, 6, 2}, "mixed")},
               {{"mode", mode}, {"padding_mode", padding}, {"align_corners", align}});
  f.onnx("GridSample, three axes", "GridSample",
         {f.floats({2, 1, 3, 4, 5}), f.floats({2, 2, 3, 2, 3})});
  f.onnx("GridSample of float16 by float32", "GridSample",
         {f.seeded(DType::f16, {1, 2, 5, 6}, "mixed"), f.floats({1, 3, 4, 2})});
  f.onnx("GridSample of float32 by bfloat16, cubic", "GridSample",
         {f.floats({1, 2, 5, 6}), f.seeded(DType::bf16, {1, 3, 4, 2})}, {{"mode", "cubic"}});
  for (const int64_t align : {0, 1}) {
    const Json attributes = {{"align_corners", align}};
    const std::string name = ", align_corners " + std::to_string(align);
    f.onnx("AffineGrid" + name, "AffineGrid", {f.floats({2, 2, 3}), integers({2, 3, 5, 6})},
           attributes);
    f.onnx("AffineGrid, three axes" + name, "AffineGrid",
           {f.floats({1, 3, 4}), integers({1, 2, 3, 1, 4})}, attributes);
  }
  f.onnx("AffineGrid of float16", "AffineGrid",
         {f.seeded(DType::f16, {1, 2, 3}), integers({1, 1, 3, 7})});
}

std::vector<Json> resampling() {
  File f(25000);
  resizes(f);
  grids(f);
  return f.take();
}

void suppressions(File& f) {
  const auto count = [](int64_t n) { return integers({n}); };
  const auto number = [](float x) { return numbers({1}, {x}); };
  // Corners in any order, boxes that touch, one without area, one with NaN; scores that tie.
  const Json boxes =
      numbers({1, 8, 4}, {0, 0, 2, 2, 2, 2, 0,   0.5f, 0, 0.1f, 2, 2.1f, 2, 0, 4, 2,
                          1, 1, 1, 3, 0, 0, NAN, 2,    5, 5,    4, 4,    4, 4, 5, 5});
  const Json scores = numbers({1, 2, 8}, {0.9f, 0.8f, 0.9f, 0.7f, 0.6f, 0.95f, 0.5f, 0.5f, 0.1f,
                                          NAN, 0.3f, 0.3f, -0.0f, 0.0f, 0.3f, INFINITY});
  f.onnx("NonMaxSuppression", "NonMaxSuppression", {boxes, scores, count(5), number(0.5f)});
  f.onnx("NonMaxSuppression, above a score", "NonMaxSuppression",
         {boxes, scores, count(3), number(0), number(0.3f)});
  f.onnx("NonMaxSuppression, by center", "NonMaxSuppression",
         {f.between(DType::f32, {2, 40, 4}, 0x3F000000, 0x40000000), f.floats({2, 3, 40}),
          count(20), number(0.3f), number(0)},
         {{"center_point_box", 1}});
  // Two boxes whose intersection over union is a third: what is not above it is kept.
  f.onnx("NonMaxSuppression at the threshold", "NonMaxSuppression",
         {numbers({1, 2, 4}, {0, 0, 1, 2, 0, 1, 1, 3}), numbers({1, 1, 2}, {1, 2}), count(2),
          number(0x1.555556p-2f)});
  f.onnx("NonMaxSuppression of none", "NonMaxSuppression", {boxes, scores});
}

void alignments(File& f) {
  const Json regions =
      numbers({4, 4}, {0.5f, 1, 5.25f, 4, -3, -2, 2, 9, 2, 2, 2, 2, 1.3f, 0.7f, 6.9f, 5.1f});
  const Json batch = integers({0, 1, 1, 0});
  for (const char* transform : {"half_pixel", "output_half_pixel"})
    for (const char* mode : {"avg", "max"})
      for (const int64_t samples : {0, 2})
        f.onnx(std::string("RoiAlign, ") + transform + ", " + mode + ", sampling_ratio " +
                   std::to_string(samples),
               "RoiAlign", {f.floats({2, 2, 6, 7}), regions, batch},
               {{"coordinate_transformation_mode", transform},
                {"mode", mode},
                {"sampling_ratio", samples},
                {"output_height", 3},
                {"output_width", 2},
                {"spatial_scale", real(0.9f)}});
  f.onnx("RoiAlign of float16", "RoiAlign",
         {f.seeded(DType::f16, {1, 2, 6, 7}, "mixed"),
          full(DType::f16, {2, 4}, {0x3800, 0x3C00, 0x4500, 0x4400, 0x3C00, 0, 0x4600, 0x4200}),
          integers({0, 0})},
         {{"output_height", 2}, {"output_width", 2}});
}

std::vector<Json> detection() {
  File f(26000);
  suppressions(f);
  alignments(f);
  return f.take();
}

}  // namespace

GoldenFiles golden_window_cases() {
  return {{"pooling", pooling()},
          {"convolution", convolution()},
          {"resampling", resampling()},
          {"detection", detection()}};
}

}  // namespace verbatim::test
