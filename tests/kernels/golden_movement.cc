// Golden cases of operators that move elements, read or write them at places that a tensor gives,
// or take each by itself.
#include "kernels/golden_builder.h"

namespace verbatim::test {
namespace {

Json scalar(int64_t value) { return full(DType::i64, {}, {static_cast<uint64_t>(value)}); }

void shapes(File& f) {
  const Json x = f.floats({2, 3, 4}, "bits");
  f.onnx("Reshape, inferred and copied dimensions", "Reshape", {x, integers({0, -1, 2})});
  f.onnx("Reshape of nothing, allowzero", "Reshape",
         {full(DType::f32, {0, 3}, {}), integers({3, 0})}, {{"allowzero", 1}});
  for (const int64_t axis : {0, -1, 3})
    f.onnx("Flatten, axis " + std::to_string(axis), "Flatten", {x}, {{"axis", axis}});
  const Json thin = f.seeded(DType::bf16, {1, 3, 1, 2}, "bits");
  f.onnx("Squeeze", "Squeeze", {thin});
  f.onnx("Squeeze, axes", "Squeeze", {thin, integers({-2})});
  f.onnx("Unsqueeze, axes of the result", "Unsqueeze", {x, integers({-1, 0, 2})});
  f.onnx("Shape", "Shape", {x});
  f.onnx("Shape, from and to", "Shape", {x}, {{"start", -2}, {"end", 7}});
  f.onnx("Shape, from beyond to", "Shape", {x}, {{"start", 2}, {"end", 1}});
  f.onnx("Size", "Size", {x});
  f.onnx("Size of nothing", "Size", {full(DType::f32, {0, 3}, {})});
  f.onnx("BitCast of float32 to int32", "BitCast", {f.floats({40}, "bits")},
         {{"to", number_of(DType::i32)}});
  f.onnx("BitCast of int16 to bfloat16", "BitCast", {f.seeded(DType::i16, {40}, "bits")},
         {{"to", number_of(DType::bf16)}});
  f.onnx("BitCast of float64 to uint64", "BitCast", {f.seeded(DType::f64, {40}, "bits")},
         {{"to", number_of(DType::u64)}});
  f.onnx("Dropout in inference, payloads kept", "Dropout", {f.seeded(DType::f16, {40}, "bits")},
         Json::object(), 2);
}

void copies(File& f) {
  f.onnx("Transpose of four axes", "Transpose", {f.seeded(DType::f64, {2, 3, 4, 5}, "bits")},
         {{"perm", Dims{2, 0, 3, 1}}});
  f.onnx("Expand both ways", "Expand", {f.floats({3, 1, 5}, "bits"), integers({2, 1, 4, 1})});
  f.onnx("Expand of int4", "Expand", {f.seeded(DType::i4, {3, 1}, "bits"), integers({3, 5})});
  f.onnx("Concat, a negative axis, one of nothing", "Concat",
         {f.floats({2, 3}, "bits"), full(DType::f32, {2, 0}, {}), f.floats({2, 4}, "bits")},
         {{"axis", -1}});
  f.onnx("Concat of float16", "Concat",
         {f.seeded(DType::f16, {2, 3, 2}, "bits"), f.seeded(DType::f16, {2, 1, 2}, "bits")},
         {{"axis", 1}});
  f.onnx("Split in three, the last shorter", "Split", {f.floats({2, 7}, "bits")},
         {{"axis", 1}, {"num_outputs", 3}}, 3);
  f.onnx("Split by sizes", "Split", {f.seeded(DType::bf16, {6, 2}, "bits"), integers({1, 0, 5})},
         {{"axis", -2}}, 3);
  f.onnx("Slice backwards and beyond the ends", "Slice",
         {f.floats({5, 6, 7}, "bits"), integers({-1, 100, 1}), integers({-100, -100, 6}),
          integers({0, -1, 1}), integers({-2, -3, 2})});
  f.onnx("Slice without axes and steps", "Slice",
         {f.seeded(DType::f16, {5, 6}, "bits"), integers({1, -4}), integers({-1, 5})});
  f.onnx("Slice of nothing", "Slice", {f.floats({5}, "bits"), integers({3}), integers({3})});
  f.onnx("Tile", "Tile", {f.floats({2, 1, 3}, "bits"), integers({2, 3, 2})});
  f.onnx("Tile to nothing", "Tile", {f.floats({2, 3}, "bits"), integers({0, 2})});
  for (const char* mode : {"DCR", "CRD"})
    f.onnx(std::string("DepthToSpace, ") + mode, "DepthToSpace", {f.floats({2, 12, 2, 3}, "bits")},
           {{"blocksize", 2}, {"mode", mode}});
  f.onnx("SpaceToDepth", "SpaceToDepth", {f.seeded(DType::bf16, {2, 2, 4, 6}, "bits")},
         {{"blocksize", 2}});
  for (const int64_t upper : {0, 1})
    for (const int64_t k : {-2, 0, 1})
      f.onnx("Trilu, upper " + std::to_string(upper) + ", k " + std::to_string(k), "Trilu",
             {f.floats({2, 4, 5}, "bits"), scalar(k)}, {{"upper", upper}});
}

void paddings(File& f) {
  const Json minus_zero = full(DType::f32, {}, {0x80000000}), pads = integers({2, 1, 3, 2});
  f.onnx("Pad by zeros", "Pad", {f.floats({3, 4}, "bits"), pads});
  f.onnx("Pad by a constant, which is kept", "Pad",
         {f.floats({3, 4}, "bits"), pads, full(DType::f32, {}, {0x7F800001})});
  for (const char* mode : {"edge", "reflect", "wrap"})
    f.onnx(std::string("Pad, ") + mode, "Pad", {f.floats({3, 4}, "bits"), pads}, {{"mode", mode}});
  f.onnx("Pad, reflected more than once, cropped and of one axis", "Pad",
         {f.seeded(DType::f16, {4, 3}, "bits"), integers({7, -1}), nullptr, integers({-1})},
         {{"mode", "reflect"}});
  f.onnx("Pad, cropped, of an axis", "Pad",
         {f.floats({3, 6}, "bits"), integers({-2, 1}), minus_zero, integers({1})});
  f.onnx("CenterCropPad, odd sizes", "CenterCropPad",
         {f.floats({4, 7, 3}, "bits"), integers({7, 4, 3})});
  f.onnx("CenterCropPad, axes", "CenterCropPad",
         {f.seeded(DType::bf16, {4, 7}, "bits"), integers({10})}, {{"axes", Dims{-1}}});
}

void creation(File& f) {
  f.onnx("ConstantOfShape, zeros", "ConstantOfShape", {integers({2, 3})});
  f.onnx("ConstantOfShape, a NaN of bfloat16", "ConstantOfShape", {integers({5})},
         {{"value", vector(DType::bf16, {0xFFC1})}});
  f.onnx("ConstantOfShape of nothing", "ConstantOfShape", {integers({3, 0})},
         {{"value", vector(DType::i64, {~0ull})}});
  const auto range = [&](const std::string& what, DType type, const Codes& codes) {
    f.onnx("Range, " + what, "Range",
           {full(type, {}, {codes[0]}), full(type, {}, {codes[1]}), full(type, {}, {codes[2]})});
  };
  // 0.1 to 2.1 by 0.1, whose products and sums are rounded; 65 steps of a third in binary64.
  range("float32", DType::f32, {0x3DCCCCCD, 0x40066666, 0x3DCCCCCD});
  range("float64", DType::f64, {0xBFF0000000000000, 0x4034AAAAAAAAAAAB, 0x3FD5555555555555});
  range("bfloat16", DType::bf16, {0x3F80, 0x40A0, 0x3E9A});
  range("int16, downwards", DType::i16, {10, 0xFFF5, 0xFFFC});
  range("of nothing", DType::i64, {3, 3, 1});
  for (const int64_t k : {-1, 0, 2})
    f.onnx("EyeLike, k " + std::to_string(k), "EyeLike", {f.floats({4, 5}, "bits")}, {{"k", k}});
  f.onnx("EyeLike of another type", "EyeLike", {f.floats({3, 3}, "bits")},
         {{"dtype", number_of(DType::f16)}});
}

std::vector<Json> movement() {
  File f(20000);
  shapes(f);
  copies(f);
  paddings(f);
  creation(f);
  return f.take();
}

void gathers(File& f) {
  f.onnx("Gather, a middle axis, negative indices", "Gather",
         {f.floats({2, 5, 3}, "bits"), f.between(DType::i64, {2, 3}, -5, 4)}, {{"axis", 1}});
  f.onnx("Gather, int32 indices, a negative axis", "Gather",
         {f.seeded(DType::bf16, {2, 5}, "bits"), f.between(DType::i32, {4}, -5, 4)},
         {{"axis", -1}});
  f.onnx("Gather of no indices", "Gather", {f.floats({2, 5}, "bits"), full(DType::i64, {0}, {})});
  for (const int64_t axis : {0, -1})
    f.onnx("GatherElements, axis " + std::to_string(axis), "GatherElements",
           {f.floats({4, 5}, "bits"), f.between(DType::i64, {3, 4}, -4, 3)}, {{"axis", axis}});
  f.onnx("GatherElements of float16", "GatherElements",
         {f.seeded(DType::f16, {2, 3, 4}, "bits"), f.between(DType::i32, {2, 7, 4}, -3, 2)},
         {{"axis", 1}});
  f.onnx("GatherND of elements", "GatherND",
         {f.floats({3, 4}, "bits"), f.between(DType::i64, {5, 2}, -3, 2)});
  f.onnx("GatherND of slices", "GatherND",
         {f.seeded(DType::f64, {3, 4, 2}, "bits"), f.between(DType::i64, {2, 2, 1}, -3, 2)});
  f.onnx("GatherND in batches", "GatherND",
         {f.floats({2, 3, 4}, "bits"), f.between(DType::i64, {2, 5, 1}, -3, 2)},
         {{"batch_dims", 1}});
}

void scatters(File& f) {
  for (const char* how : {"none", "add", "mul", "max", "min"}) {
    const std::string name = std::string(", ") + how;
    f.onnx("ScatterElements" + name, "ScatterElements",
           {f.floats({4, 5}, "mixed"), f.between(DType::i64, {9, 5}, -4, 3),
            f.floats({9, 5}, "mixed")},
           {{"reduction", how}});
    f.onnx("ScatterND" + name, "ScatterND",
           {f.floats({4, 3}, "mixed"), f.between(DType::i64, {40, 1}, -4, 3),
            f.floats({40, 3}, "mixed")},
           {{"reduction", how}});
  }
  for (const char* how : {"add", "max"})
    f.onnx(std::string("ScatterND of bfloat16, rounded once, ") + how, "ScatterND",
           {f.seeded(DType::bf16, {4}), f.between(DType::i64, {60, 1}, 0, 3),
            f.seeded(DType::bf16, {60})},
           {{"reduction", how}});
  f.onnx("ScatterElements of int8 wraps", "ScatterElements",
         {f.seeded(DType::i8, {2, 4}, "bits"), f.between(DType::i32, {2, 30}, -4, 3),
          f.seeded(DType::i8, {2, 30}, "bits")},
         {{"axis", 1}, {"reduction", "add"}});
  f.onnx("TensorScatter", "TensorScatter",
         {f.floats({2, 1, 5, 3}, "bits"), f.floats({2, 1, 2, 3}, "bits"), integers({3, 0})});
  f.onnx("TensorScatter, circular", "TensorScatter",
         {f.seeded(DType::bf16, {2, 5, 3}, "bits"), f.seeded(DType::bf16, {2, 3, 3}, "bits"),
          integers({4, 3})},
         {{"mode", "circular"}});
  f.onnx("TensorScatter without positions", "TensorScatter",
         {f.floats({2, 4, 3}, "bits"), f.floats({2, 4, 2}, "bits")}, {{"axis", -1}});
}

void selections(File& f) {
  const Json off_on = vector(DType::f32, {0x80000000, 0x7F800001});
  f.onnx("OneHot, negative and outside", "OneHot",
         {f.between(DType::i64, {3, 4}, -6, 6), scalar(5), off_on});
  f.onnx("OneHot of floats, a first axis", "OneHot",
         {numbers({5}, {1.9f, -1.0f, 2.5f, NAN, -0.5f}), full(DType::f32, {1}, {0x40400000}),
          vector(DType::bf16, {0, 0x3F80})},
         {{"axis", 0}});
  f.onnx("NonZero, where -0 is zero", "NonZero", {full(DType::f32, {4, 5}, kSpecial)});
  f.onnx("NonZero of bool", "NonZero", {f.seeded(DType::boolean, {2, 3, 4}, "bits")});
  f.onnx("NonZero of zeros", "NonZero", {full(DType::i8, {2, 2}, {0, 0, 0, 0})});
  f.onnx("Compress, an axis", "Compress",
         {f.floats({3, 4, 2}, "bits"), vector(DType::boolean, {1, 0, 1})}, {{"axis", -2}});
  f.onnx("Compress of elements", "Compress",
         {f.seeded(DType::f16, {3, 4}, "bits"), f.seeded(DType::boolean, {12}, "bits")});
  f.onnx("ReverseSequence", "ReverseSequence", {f.floats({4, 3, 2}, "bits"), integers({4, 1, 0})});
  f.onnx("ReverseSequence, batches first", "ReverseSequence",
         {f.seeded(DType::f64, {3, 4}, "bits"), integers({2, 3, 4})},
         {{"batch_axis", 0}, {"time_axis", 1}});
}

// The order of sorts: -0 equals +0, NaN equals NaN and is last.
void orders(File& f) {
  const Json ties = vector(DType::f32, {0x40400000, 0x80000000, 0x7FC00000, 0x3F800000, 0x00000000,
                                        0xFFC12345, 0x40400000, 0xFF800000, 0x80000000});
  for (const int64_t sorted : {0, 1})
    f.onnx("Unique, sorted " + std::to_string(sorted), "Unique", {ties}, {{"sorted", sorted}}, 4);
  f.onnx("Unique of slices", "Unique", {f.between(DType::i8, {3, 12, 2}, 0, 1)}, {{"axis", 1}}, 4);
  f.onnx("Unique of float16", "Unique", {f.seeded(DType::f16, {60}, "mixed")}, Json::object(), 4);
  f.onnx("TopK, a first axis, of bfloat16", "TopK",
         {f.seeded(DType::bf16, {9, 3}, "mixed"), integers({4})}, {{"axis", 0}}, 2);
  f.onnx("TopK, the least of float64, payloads kept", "TopK",
         {f.seeded(DType::f64, {2, 30}, "bits"), integers({30})}, {{"largest", 0}}, 2);
  f.onnx("TopK of few values", "TopK", {f.between(DType::u8, {3, 40}, 0, 5), integers({7})},
         Json::object(), 2);
  f.onnx("TopK of none", "TopK", {f.floats({2, 3}), integers({0})}, Json::object(), 2);
  for (const int64_t axis : {-1, 0})
    f.onnx("Hardmax, axis " + std::to_string(axis), "Hardmax", {f.floats({5, 6}, "mixed")},
           {{"axis", axis}});
  f.onnx("Hardmax of ties and NaN", "Hardmax",
         {numbers({2, 4}, {-0.0f, 0.0f, -1, 0, NAN, 1, NAN, 2})});
  f.onnx("Hardmax of float16", "Hardmax", {f.seeded(DType::f16, {3, 20}, "mixed")});
}

std::vector<Json> indexing() {
  File f(21000);
  gathers(f);
  scatters(f);
  selections(f);
  orders(f);
  return f.take();
}

void activations(File& f) {
  const auto add = [&](const char* op, const Json& attributes = Json::object()) {
    const std::string name = op;
    f.onnx(name + " of special values", op, {vector(DType::f32, kSpecial)}, attributes);
    f.onnx(name + " of any bits", op, {f.floats({200}, "mixed")}, attributes);
    f.onnx(name + " of bfloat16", op, {f.seeded(DType::bf16, {200}, "mixed")}, attributes);
    f.onnx(name + " of float64", op, {f.seeded(DType::f64, {60}, "mixed")}, attributes);
  };
  add("Relu");
  f.onnx("Relu of int8", "Relu", {f.seeded(DType::i8, {40}, "bits")});
  add("LeakyRelu", {{"alpha", real(0.3f)}});
  add("Celu", {{"alpha", real(1.7f)}});
  add("HardSigmoid", {{"alpha", real(0.3f)}, {"beta", real(0.4f)}});
  add("Softsign");
  add("ThresholdedRelu", {{"alpha", real(0.7f)}});
  add("Shrink", {{"lambd", real(0.6f)}, {"bias", real(0.1f)}});
  for (const char* op : {"Elu", "Gelu", "HardSwish", "Mish", "Selu", "Swish"}) {
    f.onnx(std::string(op) + " of float16", op, {f.seeded(DType::f16, {200}, "mixed")});
    f.onnx(std::string(op) + " of float64", op, {f.seeded(DType::f64, {60}, "mixed")});
  }
  f.onnx("Gelu by tanh", "Gelu", {f.floats({200}, "mixed")}, {{"approximate", "tanh"}});
  f.onnx("IsNaN", "IsNaN", {vector(DType::f32, kSpecial)});
  f.onnx("IsNaN of float16", "IsNaN", {f.seeded(DType::f16, {300}, "bits")});
  f.onnx("IsInf", "IsInf", {vector(DType::f32, kSpecial)});
  f.onnx("IsInf, negative ones alone", "IsInf", {vector(DType::bf16, {0xFF80, 0x7F80, 0x7FC0})},
         {{"detect_positive", 0}});
  f.onnx("Not", "Not", {f.seeded(DType::boolean, {20}, "bits")});
}

void pairs(File& f) {
  const auto n = static_cast<int64_t>(kSpecial.size());
  for (const char* op : {"LessOrEqual", "Greater", "GreaterOrEqual"}) {
    const std::string name(op);
    f.onnx(name + " of special pairs", op,
           {full(DType::f32, {n, 1}, kSpecial), full(DType::f32, {n}, kSpecial)});
    f.onnx(name + " of uint64", op,
           {f.seeded(DType::u64, {40}, "bits"), f.seeded(DType::u64, {40}, "bits")});
  }
  for (const char* op : {"And", "Or", "Xor"})
    f.onnx(op, op,
           {full(DType::boolean, {5, 1}, {0, 1, 0, 1, 1}), vector(DType::boolean, {0, 1, 1, 0})});
  for (const char* op : {"BitwiseAnd", "BitwiseOr", "BitwiseXor"})
    for (const DType type : {DType::u8, DType::i32})
      f.onnx(std::string(op) + " of " + std::string(name_of(type)), op,
             {f.seeded(type, {5, 1}, "bits"), f.seeded(type, {4}, "bits")});
  for (const DType type : {DType::i8, DType::u64})
    f.onnx("BitwiseNot of " + std::string(name_of(type)), "BitwiseNot",
           {f.seeded(type, {20}, "bits")});
  f.onnx("Mod of floats", "Mod", {f.floats({300}, "mixed"), f.floats({300}, "mixed")},
         {{"fmod", 1}});
  f.onnx("Mod of special pairs", "Mod",
         {full(DType::f32, {n, 1}, kSpecial), full(DType::f32, {n}, kSpecial)}, {{"fmod", 1}});
  f.onnx("Mod of float64, far apart", "Mod",
         {f.seeded(DType::f64, {40}, "bits"), f.seeded(DType::f64, {40}, "bits")}, {{"fmod", 1}});
  const Json dividends = vector(DType::i32, {7, 0xFFFFFFF9, 7, 0x80000000, 0xFFFFFFFA}),
             divisors = vector(DType::i32, {3, 3, 0xFFFFFFFD, 0xFFFFFFFF, 3});
  for (const int64_t fmod : {0, 1})
    f.onnx("Mod of int32, fmod " + std::to_string(fmod), "Mod", {dividends, divisors},
           {{"fmod", fmod}});
  f.onnx("PRelu, a slope for each channel", "PRelu",
         {f.floats({2, 3, 20}, "mixed"), f.floats({3, 1}, "mixed")});
  f.onnx("PRelu of float16", "PRelu",
         {f.seeded(DType::f16, {4, 20}, "mixed"), f.seeded(DType::f16, {1})});
  f.onnx("PRelu of int32", "PRelu",
         {f.seeded(DType::i32, {20}, "bits"), f.seeded(DType::i32, {20}, "bits")});
}

void several(File& f) {
  for (const char* op : {"Sum", "Mean", "Max", "Min"}) {
    const std::string name(op);
    f.onnx(name + " of three, broadcast", op,
           {f.floats({4, 1, 30}, "mixed"), f.floats({3, 1}, "mixed"), f.floats({30}, "mixed")});
    f.onnx(name + " of five of bfloat16, rounded once", op,
           {f.seeded(DType::bf16, {60}), f.seeded(DType::bf16, {60}), f.seeded(DType::bf16, {60}),
            f.seeded(DType::bf16, {60}), f.seeded(DType::bf16, {60})});
    f.onnx(name + " of one", op, {vector(DType::f32, kSpecial)});
  }
  const Json low = full(DType::f32, {}, {0xBF000000}), high = full(DType::f32, {}, {0x3FC00000});
  f.onnx("Clip", "Clip", {f.floats({200}, "mixed"), low, high});
  f.onnx("Clip, the bounds crossed, NaN canonical", "Clip",
         {vector(DType::f32, kSpecial), high, low});
  f.onnx("Clip from below, by -0", "Clip",
         {numbers({3}, {-0.0f, 0.0f, -1}), full(DType::f32, {}, {0x80000000})});
  f.onnx("Clip from above by NaN", "Clip",
         {numbers({2}, {-1, INFINITY}), nullptr, full(DType::f32, {}, {0xFFC12345})});
  f.onnx("Clip of uint8", "Clip",
         {f.seeded(DType::u8, {40}, "bits"), full(DType::u8, {}, {30}), full(DType::u8, {}, {99})});
  f.onnx("CastLike to bfloat16", "CastLike",
         {f.floats({100}, "mixed"), full(DType::bf16, {0}, {})});
  f.onnx("CastLike to int8", "CastLike", {f.floats({100}, "mixed"), full(DType::i8, {1}, {0})});
  f.onnx("CastLike to e5m2, not saturating", "CastLike",
         {f.floats({100}, "mixed"), full(DType::f8e5m2, {1}, {0})}, {{"saturate", 0}});
  f.onnx("Gelu by tanh of many", "Gelu", {f.floats({256})}, {{"approximate", "tanh"}});
}

std::vector<Json> elementwise() {
  File f(22000);
  activations(f);
  pairs(f);
  several(f);
  return f.take();
}

}  // namespace

GoldenFiles golden_movement_cases() {
  return {{"movement", movement()}, {"indexing", indexing()}, {"elementwise", elementwise()}};
}

}  // namespace verbatim::test
