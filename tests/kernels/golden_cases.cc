// The golden cases: what is asked. What the answers are, the files say (golden_test.cc).
#include <algorithm>

#include "kernels/golden_builder.h"
#include "support/unary_hard.h"

namespace verbatim::test {
namespace {

// Where functions overflow, underflow, saturate or are exact, and multiples of pi / 2.
const Codes kThresholds = {0x3F000000, 0xBF000000, 0x40000000, 0xC0000000, 0x3FC90FDA, 0x3FC90FDB,
                           0x40490FDB, 0x6F79BE45, 0x42B17217, 0x42B17218, 0xC2AEAC4F, 0xC2AEAC50,
                           0xC2CFF1B4, 0xC2CFF1B5, 0x43000000, 0x42FFFFFF, 0xC2FC0000, 0xC3150000,
                           0xC3160000, 0xC315FFFF, 0xC3160001, 0x41100000, 0x41200000, 0x42C80000,
                           0x447A0000, 0x41D80000, 0x33800000, 0xB3800000, 0x34000000, 0x39800000,
                           0x4B800000, 0x5F000000, 0x7E800000, 0x407AD3EA, 0x411021BC, 0x418AA123};

// Names of functions, and of the operators that apply them where there is one.
std::string operator_of(std::string_view function) {
  for (const std::string_view name : {"exp2", "expm1", "log2", "log10", "log1p", "cbrt"})
    if (function == name) return "";
  std::string op(function);
  op[0] = static_cast<char>(op[0] - 'a' + 'A');
  return op;
}

std::vector<Json> unary() {
  File f(1000);
  for (int i = 0; i < kUnaryCount; ++i) {
    const std::string name(name_of(static_cast<Unary>(i))), op = operator_of(name);
    const auto add = [&](const std::string& what, const Json& x) {
      f.add(name + what, op.empty() ? "function" : "", op.empty() ? name : op, {x});
    };
    Codes operands = kSpecial;
    operands.insert(operands.end(), kThresholds.begin(), kThresholds.end());
    operands.insert(operands.end(), std::begin(kHardOperands[i]), std::end(kHardOperands[i]));
    add(" of chosen operands", vector(DType::f32, operands));
    add(" of moderate numbers", f.floats({320}));
    add(" of any bits", f.floats({320}, "bits"));
  }
  for (const char* op : {"Sqrt", "Reciprocal", "Neg", "Abs", "Floor", "Ceil", "Round", "Sign"}) {
    f.onnx(std::string(op) + " of chosen operands", op, {vector(DType::f32, kSpecial)});
    f.onnx(std::string(op) + " of any bits", op, {f.floats({500}, "bits")});
  }
  f.onnx("Round of halves", "Round",
         {numbers({8}, {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 8388607.5f, 0.49999997f, -2.5f})});
  for (const DType dtype : {DType::f16, DType::bf16})
    f.onnx("Exp of all of " + std::string(name_of(dtype)), "Exp", {all_codes(dtype, 65536)});
  return f.take();
}

std::vector<Json> arithmetic() {
  File f(2000);
  const auto n = static_cast<int64_t>(kSpecial.size());
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Max", "Min", "Equal", "Less", "Pow"}) {
    const std::string name(op);
    f.onnx(name + " of special pairs", op,
           {full(DType::f32, {n, 1}, kSpecial), full(DType::f32, {n}, kSpecial)});
    if (name == "Pow") continue;
    f.onnx(name + " of any bits", op, {f.floats({33, 65}, "mixed"), f.floats({65}, "mixed")});
  }
  f.onnx("Pow of moderate numbers", "Pow", {f.floats({160}), f.floats({160})});
  f.onnx("Pow, exact and midpoint results", "Pow",
         {numbers({6}, {2, 4, 0.25f, 9, 16777217.0f / 2, -2}),
          numbers({6}, {-150, 0.5f, -0.5f, 1.5f, 2, 3})});
  for (const char* op : {"Add", "Mul", "Div"})
    for (const DType dtype : {DType::f16, DType::bf16})
      f.onnx(std::string(op) + " of " + std::string(name_of(dtype)), op,
             {f.seeded(dtype, {300}, "bits"), f.seeded(dtype, {300}, "bits")});
  for (const char* op : {"Add", "Sub", "Mul"})
    for (const DType dtype : {DType::i8, DType::i32, DType::u64})
      f.onnx(std::string(op) + " of " + std::string(name_of(dtype)) + " wraps", op,
             {f.seeded(dtype, {40}, "bits"), f.seeded(dtype, {40}, "bits")});
  f.onnx("Div of int32 truncates, and the least / -1 wraps", "Div",
         {vector(DType::i32, {7, 0xFFFFFFF9, 7, 0x80000000}),
          vector(DType::i32, {2, 2, 0xFFFFFFFE, 0xFFFFFFFF})});
  f.onnx("BitShift by the width", "BitShift",
         {vector(DType::u8, {255, 255, 255, 1}), vector(DType::u8, {7, 8, 200, 0})},
         {{"direction", "LEFT"}});
  f.onnx("Where keeps payloads", "Where",
         {vector(DType::boolean, {1, 0, 1}), vector(DType::f32, {0x7F800001, 1, 0xFFC12345}),
          vector(DType::f32, {2, 0xFFC00001, 3})});
  return f.take();
}

constexpr DType kSmallFloats[] = {DType::f16,    DType::bf16,       DType::f8e4m3,
                                  DType::f8e5m2, DType::f8e4m3fnuz, DType::f8e5m2fnuz,
                                  DType::f4e2m1, DType::f8e8m0};
constexpr DType kIntegers[] = {DType::i8,  DType::u8,  DType::i16, DType::u16,
                               DType::i32, DType::u32, DType::i64, DType::u64,
                               DType::i4,  DType::u4,  DType::i2,  DType::u2};

// Midpoints and ends of the ranges of the small types, and their neighbours.
const std::vector<float> kBoundaries = {0.25f,
                                        0.75f,
                                        1.25f,
                                        1.75f,
                                        2.5f,
                                        3.5f,
                                        5.0f,
                                        6.0f,
                                        7.0f,
                                        0x1p-7f,
                                        0x1p-9f,
                                        0x1p-10f,
                                        0x1.8p-10f,
                                        0x1.000002p-10f,
                                        0x1p-16f,
                                        0x1p-17f,
                                        0x1.8p-17f,
                                        0x1p-18f,
                                        0x1p-24f,
                                        0x1p-25f,
                                        0x1.8p-25f,
                                        0x1.000002p-25f,
                                        0x1p-126f,
                                        0x1p-127f,
                                        0x1p-133f,
                                        0x1p-134f,
                                        0x1.8p-134f,
                                        240,
                                        248,
                                        247.9f,
                                        448,
                                        464,
                                        463.9f,
                                        464.1f,
                                        480,
                                        57344,
                                        61440,
                                        61439,
                                        61441,
                                        65504,
                                        65519.996f,
                                        65520,
                                        0x1.FEp127f,
                                        0x1.FFp127f,
                                        0x1.8p127f,
                                        1.0009765625f,
                                        1.00048828125f,
                                        1.00146484375f,
                                        1.00390625f,
                                        127.5f,
                                        128.5f,
                                        -0.25f,
                                        -2.5f,
                                        -449,
                                        -129,
                                        255.5f,
                                        32767.5f,
                                        2147483648.0f,
                                        -2147483648.0f,
                                        9223372036854775808.0f,
                                        18446744073709551616.0f,
                                        0.99999994f,
                                        -0.99999994f};

void casts_from_floats(File& f) {
  Codes codes = kSpecial;
  for (const float v : kBoundaries) codes.push_back(bits_of(v));
  const auto cast = [&](const std::string& what, const Json& x, DType to,
                        Json attributes = Json::object()) {
    attributes["to"] = number_of(to);
    f.onnx("Cast " + what + " to " + std::string(name_of(to)), "Cast", {x}, attributes);
  };
  for (const DType to : kSmallFloats) {
    cast("of boundaries", vector(DType::f32, codes), to);
    cast("of any bits", f.floats({2000}, "mixed"), to);
    if (to == DType::f16 || to == DType::bf16 || to == DType::f4e2m1) continue;
    cast("of boundaries, not saturating", vector(DType::f32, codes), to, {{"saturate", 0}});
  }
  for (const char* mode : {"down", "nearest"})
    cast(std::string("of boundaries, rounding ") + mode, vector(DType::f32, codes), DType::f8e8m0,
         {{"round_mode", mode}});
  for (const DType to : kIntegers) cast("of boundaries", vector(DType::f32, codes), to);
  cast("of boundaries", vector(DType::f32, codes), DType::boolean);
  cast("of boundaries", vector(DType::f32, codes), DType::f64);
  // Where rounding first to binary32 would round twice; and the ends of binary32's range.
  const Json doubles = vector(
      DType::f64, {0x3FF0000010000000, 0x3FF0000010000001, 0x3FF0000030000000, 0x3FF0040000000001,
                   0x3FF0100000000001, 0x3FF00FFFFFFFFFFF, 0x3FF1000000000001, 0x47EFFFFFEFFFFFFF,
                   0x47EFFFFFF0000000, 0x36A0000000000000, 0x3690000000000000, 0x3690000000000001,
                   0x380FFFFFFFFFFFFF, 0x7FF0000000000001, 0xFFF0000000000000, 0x8000000000000001,
                   0x40EFFDFFFFFFFFFF, 0x40EFFE0000000000, 0x407D000000000001, 0x43E0000000000000});
  for (const DType to :
       {DType::f32, DType::f16, DType::bf16, DType::f8e4m3, DType::f8e5m2, DType::i64})
    cast("of binary64", doubles, to);
}

std::vector<Json> casts() {
  File f(3000);
  casts_from_floats(f);
  for (const DType from : kSmallFloats)
    f.onnx("Cast of every " + std::string(name_of(from)), "Cast",
           {all_codes(from, int64_t{1} << bit_width(from))}, {{"to", number_of(DType::f32)}});
  const Json wide =
      vector(DType::i64, {0, 1, 0xFFFFFFFFFFFFFFFF, 16777217, 16777219, 2049, 2051, 257, 259, 17,
                          0x0040000000000001, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 65519, 65520,
                          464, 465, 0x0000400000400001, 0x000040000040FFFF});
  for (const DType to : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::f8e4m3, DType::i8,
                         DType::u32, DType::i4, DType::u2, DType::boolean})
    f.onnx("Cast of int64 to " + std::string(name_of(to)), "Cast", {wide}, {{"to", number_of(to)}});
  return f.take();
}

std::vector<Json> quantization() {
  File f(4000);
  const std::vector<float> halves = {0,
                                     1,
                                     -1,
                                     3,
                                     -3,
                                     5,
                                     253,
                                     255,
                                     257,
                                     -255,
                                     -257,
                                     1e30f,
                                     -1e30f,
                                     0x1p-140f,
                                     float_of(0x7F800000),
                                     float_of(0xFF800000),
                                     float_of(0x7F800001),
                                     2.9999998f};
  const auto count = static_cast<int64_t>(halves.size());
  for (const DType to :
       {DType::u8, DType::i8, DType::u16, DType::i16, DType::u4, DType::i4, DType::u2, DType::i2}) {
    const std::string type(name_of(to));
    f.onnx("QuantizeLinear of halves to " + type, "QuantizeLinear",
           {numbers({count}, halves), numbers({}, {2}), full(to, {}, {1})});
    f.onnx("QuantizeLinear by columns to " + type, "QuantizeLinear",
           {f.floats({40, 3}, "mixed"), f.floats({3}), vector(to, {0, 1, 2})}, {{"axis", 1}});
    f.onnx("DequantizeLinear of " + type, "DequantizeLinear",
           {all_codes(to, std::min<int64_t>(256, int64_t{1} << bit_width(to))), numbers({}, {0.3f}),
            full(to, {}, {1})});
  }
  for (const DType to :
       {DType::f8e4m3, DType::f8e5m2, DType::f8e4m3fnuz, DType::f8e5m2fnuz, DType::f4e2m1}) {
    const std::string type(name_of(to));
    f.onnx("QuantizeLinear to " + type, "QuantizeLinear",
           {numbers({count}, halves), numbers({}, {3}), full(to, {}, {0})});
    f.onnx("DequantizeLinear of " + type, "DequantizeLinear",
           {all_codes(to, int64_t{1} << bit_width(to)), numbers({}, {0.3f})});
  }
  f.onnx("DynamicQuantizeLinear", "DynamicQuantizeLinear", {f.floats({200})}, Json::object(), 3);
  return f.take();
}

std::vector<Json> matmul() {
  File f(5000);
  for (const int64_t k : {1, 2, 31, 511, 512, 513, 1024, 1300})
    f.own("Linear, K = " + std::to_string(k), "Linear",
          {f.floats({3, k}), f.floats({5, k}), f.floats({5})});
  f.own("Linear, K = 0", "Linear",
        {numbers({2, 0}, {}), numbers({2, 0}, {}), numbers({2}, {-0.0f, 1})});
  f.own("Linear of any bits", "Linear", {f.floats({4, 40}, "mixed"), f.floats({9, 40})});
  // One operand of a row is subnormal or near the end of the range: a product and its sum are one
  // rounding.
  f.own("Linear, where a product underflows", "Linear",
        {numbers({1, 3}, {1, 0x1.000002p-75f, 0x1.000002p-60f}),
         numbers({1, 3}, {0x1p-126f, 0x1.000002p-75f, 0x1p-89f})});
  f.own("Linear, -0 by underflow", "Linear",
        {numbers({1, 1}, {-0x1p-100f}), numbers({1, 1}, {0x1p-100f})});
  f.own("Linear, where a product overflows and the sum does not", "Linear",
        {numbers({1, 2}, {0x1p127f, 0x1p64f}), numbers({1, 2}, {-1, 0x1p64f})});
  // The sum lies just below a midpoint of binary32, on which a rounding to binary64 would put it.
  f.own("Linear, where a sum rounded twice differs", "Linear",
        {numbers({2, 2}, {1, 0x1.000002p0f, -1, -0x1.000002p0f}),
         numbers({1, 2}, {0x1.000002p0f, 0x1.fffffcp-25f})});
  for (const DType dtype : {DType::f16, DType::bf16})
    f.own("Linear of " + std::string(name_of(dtype)), "Linear",
          {f.seeded(dtype, {3, 600}), f.seeded(dtype, {4, 600}), f.seeded(dtype, {4})});
  f.onnx("MatMul, batches broadcast", "MatMul", {f.floats({2, 1, 4, 65}), f.floats({3, 65, 7})});
  f.onnx("MatMul of vectors", "MatMul", {f.floats({700}), f.floats({700})});
  f.onnx("MatMul of int32 wraps", "MatMul",
         {f.seeded(DType::i32, {3, 8}, "bits"), f.seeded(DType::i32, {8, 4}, "bits")});
  f.onnx("Gemm", "Gemm", {f.floats({23, 6}), f.floats({7, 23}), f.floats({7})},
         {{"transA", 1}, {"transB", 1}, {"alpha", real(0.75f)}, {"beta", real(1.5f)}});
  f.own("Linear, many rows", "Linear", {f.floats({37, 530}), f.floats({45, 530}), f.floats({45})});
  return f.take();
}

std::vector<Json> reduction() {
  File f(6000);
  for (const char* op : {"ReduceSum", "ReduceMean", "ReduceSumSquare", "ReduceL2"}) {
    for (const int64_t n : {1, 31, 32, 33, 63, 1023, 1024, 1025, 2500})
      f.onnx(std::string(op) + " of " + std::to_string(n), op, {f.floats({3, n}), integers({1})});
    f.onnx(std::string(op) + " of any bits", op, {f.floats({5, 40}, "mixed"), integers({1})});
  }
  f.onnx("ReduceSum of nothing", "ReduceSum", {numbers({2, 0}, {}), integers({1})});
  f.onnx("ReduceSum of two axes, not kept", "ReduceSum", {f.floats({7, 3, 11}), integers({0, 2})},
         {{"keepdims", 0}});
  f.onnx("ReduceSum of -0", "ReduceSum", {numbers({2}, {-0.0f, -0.0f}), integers({0})});
  for (const DType dtype : {DType::f16, DType::bf16})
    f.onnx("ReduceSum of " + std::string(name_of(dtype)), "ReduceSum",
           {f.seeded(dtype, {2, 1100}), integers({1})});
  for (const char* op : {"ReduceMax", "ReduceMin"}) {
    f.onnx(std::string(op) + " of zeros", op,
           {numbers({2, 2}, {-0.0f, 0.0f, 0.0f, -0.0f}), integers({1})});
    f.onnx(std::string(op) + " of any bits", op, {f.floats({40, 5}, "mixed"), integers({0})});
  }
  for (const char* op : {"CumSum", "ReduceProd"})
    f.onnx(op, op, {f.floats({100}), op[0] == 'C' ? full(DType::i64, {}, {0}) : integers({0})});
  return f.take();
}

// Ties, zeros of both signs and NaN.
std::vector<Json> selection() {
  File f(7000);
  const float nan = float_of(0xFFC00001);
  const Json ties = numbers({4, 5}, {1,   3, 3, 2,   3, -0.0f, 0.0f, -0.0f, -1,  0.0f,
                                     nan, 1, 1, nan, 0, nan,   nan,  nan,   nan, nan});
  for (const char* op : {"ArgMax", "ArgMin"})
    for (const int last : {0, 1})
      f.onnx(std::string(op) + ", ties" + (last ? ", the last" : ""), op, {ties},
             {{"axis", 1}, {"select_last_index", last}});
  for (const int largest : {0, 1})
    f.onnx(std::string("TopK, ties") + (largest ? "" : ", the least"), "TopK",
           {ties, integers({4})}, {{"axis", 1}, {"largest", largest}}, 2);
  f.onnx("ArgMax of few values", "ArgMax", {f.between(DType::i32, {9, 50}, 0, 6)}, {{"axis", 1}});
  f.onnx("ScatterElements adds by ascending source", "ScatterElements",
         {numbers({4}, {1, 2, 3, 4}), f.between(DType::i64, {60}, 0, 3), f.floats({60})},
         {{"reduction", "add"}});
  f.onnx("Gather keeps payloads", "Gather",
         {vector(DType::f32, {0x7F800001, 0xFFC12345, 0x80000000}), integers({1, 0, 1, 2})});
  f.onnx("Transpose keeps payloads", "Transpose", {f.floats({17, 19}, "bits")});
  return f.take();
}

std::vector<Json> normalization() {
  File f(8000);
  const Json special = full(DType::f32, {4, 5}, kSpecial);
  for (const char* op : {"Softmax", "LogSoftmax"}) {
    f.onnx(std::string(op), op, {f.floats({3, 70})});
    f.onnx(std::string(op) + " of a long row", op, {f.floats({1, 1500})});
    f.onnx(std::string(op) + " of special values", op, {special});
    f.onnx(std::string(op) + " of equal infinities", op,
           {numbers({3}, {float_of(0xFF800000), float_of(0xFF800000), 1})});
  }
  f.onnx("LayerNormalization", "LayerNormalization",
         {f.floats({3, 80}), f.floats({80}), f.floats({80})});
  f.onnx("LayerNormalization of long rows", "LayerNormalization",
         {f.floats({2, 1100}), f.floats({1100}), f.floats({1100})});
  f.onnx("LayerNormalization of special values", "LayerNormalization", {special, f.floats({5})});
  f.onnx("RMSNormalization", "RMSNormalization", {f.floats({3, 80}), f.floats({80})});
  f.onnx("RMSNormalization of long rows", "RMSNormalization",
         {f.floats({2, 1100}), f.floats({1100})}, {{"epsilon", real(1e-6f)}});
  f.own("L2Normalize", "L2Normalize", {f.floats({3, 80})});
  f.own("L2Normalize of tiny rows", "L2Normalize",
        {numbers({2, 2}, {0x1p-140f, -0x1p-141f, 0, -0.0f})});
  f.own("MeanPool", "MeanPool", {f.floats({3, 40, 6}), integers({40, 0, 7})});
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const std::string type(name_of(dtype));
    f.onnx("Softmax of " + type, "Softmax", {f.seeded(dtype, {2, 70})});
    f.onnx("LayerNormalization of " + type, "LayerNormalization",
           {f.seeded(dtype, {2, 70}), f.seeded(dtype, {70}), f.seeded(dtype, {70})});
    f.onnx("RMSNormalization of " + type, "RMSNormalization",
           {f.seeded(dtype, {2, 70}), f.seeded(dtype, {70})});
  }
  for (const int interleaved : {0, 1})
    f.own(std::string("RotaryEmbedding") + (interleaved ? ", interleaved" : ""), "RotaryEmbedding",
          {f.floats({2, 3, 20}), f.floats({3, 4}), f.floats({3, 4})},
          {{"heads", 2}, {"interleaved", interleaved}});
  return f.take();
}

Json heads(int64_t q, int64_t kv, float scale) {
  return {{"heads", q}, {"kv_heads", kv}, {"scale", real(scale)}};
}

// The forms that attention of every family has, of `type`.
void attention_of(File& f, const char* op, DType type, const Json& extra) {
  const std::string name = std::string(op) + " of " + std::string(name_of(type)) + ": ";
  const auto qkv = [&](int64_t b, int64_t tq, int64_t tk, int64_t q_heads, int64_t kv,
                       int64_t size) {
    return std::vector<Json>{f.seeded(type, {b, tq, q_heads * size}),
                             f.seeded(type, {b, tk, kv * size}),
                             f.seeded(type, {b, tk, kv * size})};
  };
  const auto add = [&](const char* what, std::vector<Json> inputs, Json attributes) {
    for (const auto& [key, value] : extra.items()) attributes[key] = value;
    f.own(name + what, op, std::move(inputs), std::move(attributes));
  };
  // Scales are small where many keys are seen, so that all of them have weight.
  add("few keys", qkv(1, 2, 5, 2, 2, 4), heads(2, 2, 0.25f));
  std::vector<Json> lengths = qkv(2, 2, 150, 2, 1, 8);
  lengths.push_back(integers({150, 33}));
  add("lengths, grouped heads", lengths, heads(2, 1, 0.03f));
  std::vector<Json> hidden = qkv(2, 3, 9, 1, 1, 4);
  hidden.push_back(integers({2, 0}));
  add("causal, rows that see nothing", hidden, with(heads(1, 1, 0.5f), {{"causal", 1}}));
  add("a window", qkv(1, 4, 300, 1, 1, 8),
      with(heads(1, 1, 0.02f), {{"causal", 1}, {"window", 140}}));
  add("softcap", qkv(1, 2, 140, 1, 1, 8), with(heads(1, 1, 0.35355338f), {{"softcap", real(5)}}));
  add("past the restart", qkv(1, 1, 2200, 2, 1, 8), heads(2, 1, 0.01f));
  std::vector<Json> wild = qkv(1, 2, 9, 1, 1, 4);
  for (Json& j : wild) j["values"] = "mixed";
  add("any bits", wild, heads(1, 1, 0.5f));
}

// Two sequences of 150 and 33 keys in pages of 24 rows, one of them shared. Entries that no key
// needs are no pages.
void paged_attention(File& f) {
  const Json lengths = integers({150, 33}),
             table = full(DType::i64, {2, 7},
                          {9, 2, 11, 0, 7, 5, 3, 9, 4, ~0ull, 12, ~0ull >> 1, 1ull << 63, ~0ull});
  const Dims pool = {12, 24, 16}, scales = {12, 24, 2};
  for (const DType type : {DType::f32, DType::bf16}) {
    const bool ordered = type == DType::f32;
    f.own("Attention in pages, " + std::string(name_of(type)),
          ordered ? "Attention" : "AttentionTensorCore",
          {f.seeded(type, {2, 3, 32}), f.seeded(type, pool), f.seeded(type, pool), lengths, table},
          ordered ? with(heads(4, 2, 0.03f), {{"causal", 1}})
                  : with(heads(4, 2, 0.03f), {{"causal", 1}, {"member", "sm90"}}));
  }
  for (const int slices : {1, 2})
    f.own("AttentionInt8Cached in pages, slices " + std::to_string(slices), "AttentionInt8Cached",
          {f.floats({2, 3, 32}), f.between(DType::i8, pool, -127, 127),
           f.between(DType::i8, pool, -127, 127), f.floats(scales),
           f.between(DType::i32, scales, -9, 3), lengths, table},
          with(heads(4, 2, 0.0001f), {{"weight_slices", slices}, {"window", 100}}));
}

// Blocks of every level, of which queries see some in whole, some in part and some not at all; the
// levels that operands themselves give.
void sparse_attention(File& f) {
  const Json lengths = integers({400, 260});
  const auto operand = [&](int64_t rows, int64_t size) { return f.floats({2, rows, size}); };
  f.own("AttentionSparse, lengths, grouped heads", "AttentionSparse",
        {operand(5, 16), operand(400, 8), operand(400, 6), f.between(DType::u8, {2, 2, 3, 4}, 0, 4),
         lengths},
        with(heads(2, 1, 0.05f), {{"query_block", 2}}));
  f.own(
      "AttentionSparse, causal, a window", "AttentionSparse",
      {operand(140, 4), operand(700, 4), operand(700, 4), f.between(DType::u8, {2, 1, 2, 6}, 0, 4)},
      with(heads(1, 1, 0.05f), {{"causal", 1}, {"window", 500}}));
  f.own("AttentionSparse, past the restart", "AttentionSparse",
        {operand(1, 4), operand(2600, 4), operand(2600, 4),
         f.between(DType::u8, {2, 1, 1, 21}, 0, 4)},
        heads(1, 1, 0.01f));
  f.own("AttentionLevels, lengths, grouped heads", "AttentionLevels",
        {operand(5, 16), operand(900, 8), integers({900, 520})},
        with(heads(2, 1, 0.3f),
             {{"query_block", 2}, {"shares", {real(0.25f), real(0.75f), real(0.9f)}}}));
  f.own("AttentionLevels, causal", "AttentionLevels", {operand(300, 4), operand(900, 4)},
        with(heads(1, 1, 2.0f), {{"query_block", 128},
                                 {"causal", 1},
                                 {"shares", {real(0), real(0.5f), real(0.5f), real(1)}}}));
}

std::vector<Json> attention() {
  File f(9000);
  attention_of(f, "Attention", DType::f32, Json::object());
  attention_of(f, "Attention", DType::bf16, Json::object());
  attention_of(f, "AttentionInt8", DType::f32, {{"weight_slices", 1}});
  f.own("AttentionInt8, two slices", "AttentionInt8",
        {f.floats({1, 2, 24}), f.floats({1, 200, 24}), f.floats({1, 200, 24})},
        with(heads(1, 1, 0.3f), {{"weight_slices", 2}}));
  for (const int slices : {1, 2})  // scores, and values' exponents, are far apart
    f.own("AttentionInt8Cached far apart, slices " + std::to_string(slices), "AttentionInt8Cached",
          {f.floats({1, 3, 24}), f.between(DType::i8, {1, 300, 24}, -127, 127),
           f.between(DType::i8, {1, 300, 24}, -127, 127), f.floats({1, 300, 1}),
           f.between(DType::i32, {1, 300, 1}, -60, 60)},
          with(heads(1, 1, 0.05f), {{"weight_slices", slices}}));
  attention_of(f, "AttentionTensorCore", DType::bf16,
               {{"member", "sm90"}, {"output", number_of(DType::f32)}});
  attention_of(f, "AttentionTensorCore", DType::f16, {{"member", "sm80"}});
  paged_attention(f);
  sparse_attention(f);
  for (const float scale :
       {250.0f, 30000.0f})  // |m| about 4096, where exponents change, and beyond
    f.own("AttentionTensorCore, scale " + std::to_string(static_cast<int>(scale)),
          "AttentionTensorCore",
          {f.seeded(DType::bf16, {1, 6, 16}), f.seeded(DType::bf16, {1, 300, 16}),
           f.seeded(DType::bf16, {1, 300, 16})},
          with(heads(1, 1, scale), {{"member", "sm90"}, {"output", number_of(DType::f32)}}));
  // m is 2^27 + 16, and m + 8 is rounded to the last key's x, which is 16 above m.
  std::vector<uint64_t> keys;
  for (int i = 0; i < 129; ++i) keys.insert(keys.end(), {0x4D00u, i < 128 ? 0x4180u : 0x4200u});
  f.own("AttentionTensorCore, a weight of 2^8", "AttentionTensorCore",
        {full(DType::bf16, {1, 1, 2}, {0x3F80, 0x3F80}), full(DType::bf16, {1, 129, 2}, keys),
         f.seeded(DType::bf16, {1, 129, 4})},
        with(heads(1, 1, 0.6931472f), {{"member", "sm90"}, {"output", number_of(DType::f32)}}));
  return f.take();
}

std::vector<Json> sliced() {
  File f(10000);
  const Json rows =
      full(DType::f32, {7, 4},
           {0x42FE0000, 0x42FE0001, 0xC2FE0000, 0x42FD0000,  // 127, just above, -127, 126.5
            0,          0x80000000, 0,          0,           // zeros
            0x00000001, 0x80000003, 0x00000000, 0x00000005,  // subnormals
            0x7F7FFFFF, 0xFF7FFFFF, 0x3F800000, 0x00000001,  // the greatest
            0x3F800000, 0x7F800000, 0x3F800000, 0,           // infinity
            0x3F800000, 0x7FC00001, 0x3F800000, 0,           // NaN
            0x3F000000, 0x3F010000, 0x3F018000, 0x3EFF8000});
  for (int64_t count = 1; count <= 4; ++count) {
    f.own("Slices, " + std::to_string(count), "Slices", {rows}, {{"count", count}}, 2);
    f.own("Slices of moderate rows, " + std::to_string(count), "Slices", {f.floats({3, 70})},
          {{"count", count}}, 2);
  }
  const auto product = [&](const std::string& what, int64_t p, int64_t q, int64_t k, const Json& a,
                           const Json& b) {
    f.own("SlicedLinear, " + what, "SlicedLinear",
          {f.between(DType::i8, {p, 4, k}, -64, 64), a, f.between(DType::i8, {q, 5, k}, -64, 64), b,
           f.floats({5})});
  };
  for (int64_t p = 1; p <= 4; ++p)
    for (int64_t q = 1; q <= 4; ++q)
      product(std::to_string(p) + " by " + std::to_string(q), p, q, 300,
              vector(DType::i32, {0, 0xFFFFFFFE, 5, 0x7FFFFFFF}),
              f.between(DType::i32, {5}, -3, 4));
  const Json low = vector(DType::i32, {0xFFFFFF6C, 0xFFFFFFBA, 0xFFFFFFC0, 0xFFFFFFC6}),
             high = vector(DType::i32, {129, 100, 70, 60});
  const auto no_bias = [&](const std::string& what, const Json& a, const Json& b) {
    f.own(
        "SlicedLinear, " + what, "SlicedLinear",
        {f.between(DType::i8, {2, 4, 9}, -64, 64), a, f.between(DType::i8, {3, 5, 9}, -64, 64), b});
  };
  no_bias("subnormal results", low,
          vector(DType::i32, {0xFFFFFFBA, 0xFFFFFFB8, 0xFFFFFFBC, 0xFFFFFFC4, 0}));
  no_bias("overflow", high, vector(DType::i32, {129, 60, 58, 0, 55}));
  // Sums of 33 bits that round to about 19: by way of 24 some round twice.
  f.own("SlicedLinear, subnormal results of long sums", "SlicedLinear",
        {f.between(DType::i8, {3, 16, 300}, 0, 64), f.between(DType::i32, {16}, -70, -64),
         f.between(DType::i8, {3, 16, 300}, 0, 64), f.between(DType::i32, {16}, -70, -64)});
  return f.take();
}

std::vector<Json> quantized() {
  File f(11000);
  for (const int64_t rotation : {1, 4, 16})
    f.own("QuantizeRows, rotation " + std::to_string(rotation), "QuantizeRows", {f.floats({3, 48})},
          {{"rotation", rotation}}, 2);
  f.own("QuantizeRows of special rows", "QuantizeRows", {full(DType::f32, {5, 4}, kSpecial)},
        Json::object(), 2);
  f.own("QuantizeRows of any bits", "QuantizeRows", {f.floats({60, 8}, "mixed")}, {{"rotation", 8}},
        2);
  f.own("QuantizeRows to fp8", "QuantizeRows", {f.floats({3, 48})},
        {{"to", number_of(DType::f8e4m3)}}, 2);
  f.own("QuantizeRows to fp8 of special rows", "QuantizeRows", {full(DType::f32, {5, 4}, kSpecial)},
        {{"to", number_of(DType::f8e4m3)}}, 2);
  const auto codes = [&](const Dims& shape) { return f.between(DType::i8, shape, -127, 127); };
  f.own("QuantizedLinear", "QuantizedLinear",
        {codes({4, 300}), f.floats({4}), codes({6, 300}), f.floats({6})});
  f.own("QuantizedLinear, groups and bias", "QuantizedLinear",
        {codes({4, 300}), f.floats({4}), codes({6, 300}), f.floats({6}),
         f.between(DType::u8, {6, 10}, 1, 255), f.floats({6})});
  return f.take();
}

// A product of every row with every row, as one unit computes it.
void tensor_core_of(File& f, const std::string& member, DType type, int64_t group) {
  const std::string name = member + " " + std::string(name_of(type)) + ": ";
  const bool float8 = is_float8(type);
  const auto add = [&](const std::string& what, std::vector<Json> inputs,
                       const Json& more = Json::object()) {
    Json attributes{{"member", member}};
    attributes.update(more);
    f.own(name + what, "TensorCoreLinear", std::move(inputs), attributes);
  };
  const auto pair = [&](const char* values, int64_t m, int64_t n, int64_t k) {
    return std::vector<Json>{f.seeded(type, {m, k}, values), f.seeded(type, {n, k}, values)};
  };
  add("one step of moderate numbers", pair("moderate", 9, 9, group));
  add("one step of any bits", pair("bits", 16, 16, group));
  add("two steps of any bits", pair("bits", 16, 16, 2 * group));
  add("short of a group", pair("bits", 8, 8, group + 3));
  add("a chain", pair("moderate", 4, 6, 640));
  add("a split", pair("moderate", 4, 6, 640), {{"split", 3}});
  if (float8) add("precise", pair("moderate", 4, 6, 640), {{"precise", 1}});
  std::vector<Json> scaled = pair("moderate", 4, 6, 100);
  for (const int64_t size : {6, 4, 6}) scaled.push_back(f.floats({size}));
  add("scales, bias and a 16-bit result", scaled, {{"output", number_of(DType::bf16)}});
}

std::vector<Json> tensor_core() {
  File f(12000);
  tensor_core_of(f, "sm90", DType::bf16, 16);
  tensor_core_of(f, "sm90", DType::f16, 16);
  tensor_core_of(f, "sm90", DType::f8e4m3, 32);
  tensor_core_of(f, "sm90", DType::f8e5m2, 32);
  tensor_core_of(f, "sm90_mma", DType::f8e4m3, 32);
  tensor_core_of(f, "sm90_mma", DType::f8e5m2, 32);
  tensor_core_of(f, "sm80", DType::bf16, 8);
  tensor_core_of(f, "sm80", DType::f16, 8);
  tensor_core_of(f, "sm89", DType::f8e4m3, 16);
  tensor_core_of(f, "sm89", DType::f8e5m2, 16);
  f.own("sm90, e4m3 times e5m2", "TensorCoreLinear",
        {f.seeded(DType::f8e4m3, {8, 64}, "bits"), f.seeded(DType::f8e5m2, {8, 64}, "bits")},
        {{"member", "sm90"}});
  // Two products whose sum is 2^9 or 2^10 of their last places, which lie about the last place that
  // the floor lets them have: another floor gives another result.
  const auto row = [](std::initializer_list<float> values) {
    Codes codes;
    for (const float v : values) codes.push_back(bits_of(v) >> 16);
    return codes;
  };
  for (const char* member : {"sm90", "sm80"})
    f.own(std::string(member) + ", sums at the floor", "TensorCoreLinear",
          {full(DType::bf16, {8, 2},
                row({7 * 0x1p-80f, 11 * 0x1p-80f, 7 * 0x1p-79f, 11 * 0x1p-79f, 7 * 0x1p-78f,
                     11 * 0x1p-78f, 7 * 0x1p-77f, 11 * 0x1p-77f, 11 * 0x1p-80f, 39 * 0x1p-80f,
                     11 * 0x1p-79f, 39 * 0x1p-79f, 11 * 0x1p-78f, 39 * 0x1p-78f, 11 * 0x1p-77f,
                     39 * 0x1p-77f})),
           full(DType::bf16, {2, 2},
                row({37 * 0x1p-79f, 23 * 0x1p-79f, 47 * 0x1p-79f, 13 * 0x1p-79f}))},
          {{"member", member}});
  // The sum of both infinities is another NaN on each processor; here it is the canonical one.
  Codes infinite(2 * 128, 0x3F80);
  infinite[0] = 0x7F80;
  infinite[64] = 0xFF80;
  infinite[128] = 0x7F80;
  f.own("slices of opposite infinities", "TensorCoreLinear",
        {full(DType::bf16, {2, 128}, infinite), full(DType::bf16, {1, 128}, Codes(128, 0x3F80))},
        {{"member", "sm90"}, {"split", 2}});
  return f.take();
}

std::vector<Json> sampling() {
  File f(13000);
  const auto add = [&](const std::string& what, const Json& logits, const Json& attributes,
                       int64_t position = 7) {
    f.own("Sample, " + what, "Sample", {logits, integers({position})}, attributes);
  };
  add("temperature 0, ties", numbers({5}, {1, 3, 3, -1, 3}), {{"temperature", real(0)}});
  add("temperature 0, NaN", numbers({3}, {float_of(kNanBits), -1, -2}), {{"temperature", real(0)}});
  for (int64_t i = 0; i < 24; ++i)
    add("draw " + std::to_string(i), f.floats({257}),
        {{"temperature", real(0.8f)},
         {"seed", 17 * i},
         {"top_k", i % 3 * 20},
         {"top_p", real(i % 2 ? 0.9f : 1.0f)},
         {"min_p", real(i % 4 == 3 ? 0.05f : 0.0f)}},
        1000 * i);
  const float inf = float_of(0x7F800000), nan = float_of(kNanBits);
  const Json sampled = {{"temperature", real(1)}, {"seed", 5}};
  add("masked tokens", numbers({6}, {-inf, 1, -inf, 1, nan, -inf}), sampled);
  add("only infinities", numbers({3}, {inf, 1, inf}), sampled);
  add("only NaN", numbers({2}, {nan, nan}), sampled);
  for (int64_t position = 0; position < 8; ++position)
    add("equal weights with top_k " + std::to_string(position),
        numbers({8}, std::vector<float>(8, 2)),
        {{"temperature", real(1)}, {"seed", -1}, {"top_k", 3}}, position);
  // 200 tokens of weight 1 before one of 2^32: at these positions the draw is 57 and 3, sums that
  // the prefixes have, too.
  std::vector<float> light(200, -22.18f);
  light.push_back(0);
  for (const int64_t position : {2920362, 16732269})
    add("a draw on a boundary, " + std::to_string(position), numbers({201}, light), sampled,
        position);
  for (int64_t position = 0; position < 8; ++position)
    add("top_p at a boundary " + std::to_string(position), numbers({4}, {0, 0, 0, 0}),
        {{"temperature", real(1)}, {"seed", 9}, {"top_p", real(0.5f)}},
        (int64_t{1} << 40) + position);
  return f.take();
}

std::vector<Json> roots() {
  File f(14000);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f8e4m3, DType::i64,
                            DType::boolean, DType::u4, DType::i2, DType::f4e2m1}) {
    const std::string type(name_of(dtype));
    f.onnx("root of " + type + ", a leaf of rows", "Identity",
           {f.seeded(dtype, {3, 7, 19}, "bits")});
    f.onnx("root of " + type + ", leaves of a row", "Identity",
           {f.seeded(dtype, {3, 1027}, "bits")});
    f.onnx("root of " + type + ", rows of 512", "Identity", {f.seeded(dtype, {9, 512}, "bits")});
  }
  f.onnx("root of one row more than a leaf holds", "Identity", {f.floats({18, 30}, "bits")});
  return f.take();
}

// One case of operators that tests/golden/check.py does not compute.
std::vector<Json> others() {
  File f(15000);
  f.onnx("Conv", "Conv", {f.floats({1, 3, 7, 8}), f.floats({4, 3, 3, 3}), f.floats({4})},
         {{"pads", Dims{1, 1, 1, 1}}});
  f.onnx("ConvTranspose", "ConvTranspose", {f.floats({1, 3, 4, 5}), f.floats({3, 2, 3, 3})},
         {{"strides", Dims{2, 2}}});
  f.onnx("AveragePool", "AveragePool", {f.floats({1, 2, 7, 8})},
         {{"kernel_shape", Dims{3, 3}}, {"pads", Dims{1, 1, 1, 1}}});
  f.onnx("Resize", "Resize", {f.floats({1, 1, 5, 6}), nullptr, nullptr, integers({1, 1, 8, 13})},
         {{"mode", "cubic"}});
  f.onnx("LSTM", "LSTM",
         {f.floats({4, 2, 5}), f.floats({1, 12, 5}), f.floats({1, 12, 3}), f.floats({1, 24})},
         {{"hidden_size", 3}}, 3);
  f.onnx("GRU", "GRU",
         {f.floats({4, 2, 5}), f.floats({1, 9, 5}), f.floats({1, 9, 3}), f.floats({1, 18})},
         {{"hidden_size", 3}}, 2);
  f.onnx("Einsum", "Einsum", {f.floats({2, 3, 40}), f.floats({2, 40, 5})},
         {{"equation", "bij,bjk->bik"}});
  f.onnx("GridSample", "GridSample", {f.floats({1, 2, 5, 6}), f.floats({1, 4, 4, 2})});
  f.onnx("DFT", "DFT", {f.floats({1, 20, 1}), nullptr, full(DType::i64, {}, {1})});
  f.onnx("Det", "Det", {f.floats({3, 5, 5})});
  for (const char* op : {"Gelu", "Mish", "Swish", "Elu", "Selu", "HardSwish"})
    f.onnx(op, op, {f.floats({300}, "mixed")});
  f.onnx("QLinearMatMul", "QLinearMatMul",
         {f.seeded(DType::u8, {4, 20}, "bits"), numbers({}, {0.02f}), full(DType::u8, {}, {120}),
          f.seeded(DType::i8, {20, 5}, "bits"), numbers({}, {0.03f}), full(DType::i8, {}, {3}),
          numbers({}, {0.7f}), full(DType::u8, {}, {100})});
  f.onnx("BatchNormalization", "BatchNormalization",
         {f.floats({2, 3, 4}), f.floats({3}), f.floats({3}), f.floats({3}),
          numbers({3}, {0.5f, 1.5f, 3})});
  return f.take();
}

// Codes of Q16.16 small enough for a vector memory's, and such as saturate.
std::vector<Json> fixed_point() {
  File f(16000);
  f.own("ToFixed", "ToFixed", {f.floats({4, 50}, "mixed")}, Json::object(), 2);
  f.own("ToFixed of ties, of the ends and of what is beyond them", "ToFixed",
        {numbers({2, 5}, {0x1p-17f, 0x3p-17f, -0x1p-17f, 32768.0f, -32768.0f, 32767.998f, -40000.0f,
                          INFINITY, NAN, -0.0f})},
        Json::object(), 2);
  f.own("FromFixed", "FromFixed", {f.seeded(DType::i32, {4, 50}, "bits")});
  for (const char* op : {"FixedAdd", "FixedSub", "FixedMul", "FixedDiv"}) {
    f.own(std::string(op) + " of any codes", op,
          {f.seeded(DType::i32, {3, 40}, "bits"), f.seeded(DType::i32, {40}, "bits")},
          Json::object(), 2);
    f.own(std::string(op) + " of small codes", op,
          {f.between(DType::i32, {3, 40}, -4000000, 4000000),
           f.between(DType::i32, {3, 1}, -70000, 70000)},
          Json::object(), 2);
  }
  f.own("FixedDiv by 0", "FixedDiv",
        {vector(DType::i32, {5, 0, 0xFFFFFFFB}), vector(DType::i32, {0, 0, 0})}, Json::object(), 2);
  f.own("FixedReciprocalSqrt", "FixedReciprocalSqrt",
        {vector(DType::i32, {0, 1, 2, 3, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 12345, 7})},
        Json::object(), 2);
  f.own("FixedReciprocalSqrt of any codes", "FixedReciprocalSqrt",
        {f.seeded(DType::i32, {4, 50}, "bits")}, Json::object(), 2);
  f.own("FixedNormalize", "FixedNormalize", {f.between(DType::i32, {5, 37}, -300000, 300000)},
        Json::object(), 2);
  f.own("FixedNormalize of zeros, of one and of ends", "FixedNormalize",
        {full(DType::i32, {3, 2}, {0, 0, 0, 0xFFFFFFFE, 0x7FFFFFFF, 0x80000000})}, Json::object(),
        2);
  for (const char* op : {"FixedDot", "FixedSquaredDistance"})
    for (const int64_t fraction : {16, 32}) {
      const std::string name = std::string(op) + ", fraction " + std::to_string(fraction);
      f.own(name, op,
            {f.between(DType::i32, {3, 61}, -300000, 300000),
             f.between(DType::i32, {4, 61}, -300000, 300000)},
            {{"fraction", fraction}}, 2);
      f.own(name + ", beyond its range", op,
            {f.seeded(DType::i32, {3, 9}, "bits"), f.seeded(DType::i32, {4, 9}, "bits")},
            {{"fraction", fraction}}, 2);
    }
  return f.take();
}

std::vector<Json> grouped() {
  File f(17000);
  const Json e4m3 = {{"bits", 4}, {"group", 16}, {"scale_type", number_of(DType::f8e4m3)}};
  f.own("QuantizeGroups to MXINT8", "QuantizeGroups", {f.floats({3, 80})}, Json::object(), 2);
  f.own("QuantizeGroups to NVINT4", "QuantizeGroups", {f.floats({3, 80})}, e4m3, 3);
  Json rotated = e4m3;
  rotated["rotation"] = 16;
  f.own("QuantizeGroups to NVINT4, rotated", "QuantizeGroups", {f.floats({3, 80})}, rotated, 3);
  f.own("QuantizeGroups of infinities and zeros", "QuantizeGroups",
        {numbers({2, 3}, {0, 0, 0, 1, INFINITY, 2})}, {{"group", 2}}, 2);
  const auto codes = [&](Dims shape) { return f.between(DType::i8, shape, -127, 127); };
  const auto scales = [&](Dims shape) { return f.between(DType::f8e8m0, shape, 120, 130); };
  f.own("DequantizeGroups", "DequantizeGroups", {codes({3, 80}), scales({3, 3})});
  f.own("GroupedLinear", "GroupedLinear",
        {codes({3, 80}), scales({3, 3}), codes({5, 80}), scales({5, 3})});
  f.own("GroupedLinear, scaled by a power and with a bias", "GroupedLinear",
        {codes({3, 80}), scales({3, 3}), codes({5, 80}), scales({5, 3}), nullptr, nullptr,
         f.floats({5})},
        {{"exponent", -12}});
  f.own("ChannelOrder", "ChannelOrder", {f.floats({16, 9})}, {{"heads", 2}});
  // NVINT4: scales of which no product is a power of two, so that what is rounded when shows.
  const auto small = [&](Dims shape) { return f.between(DType::i8, shape, -7, 7); };
  const auto e4m3_scales = [&](Dims shape) { return f.between(DType::f8e4m3, shape, 0x30, 0x7E); };
  f.own("GroupedLinear of NVINT4", "GroupedLinear",
        {codes({3, 200}), e4m3_scales({3, 13}), small({5, 200}), e4m3_scales({5, 13}),
         f.floats({3}), f.floats({}), f.floats({5})},
        {{"group", 16}, {"exponent", -5}});
  f.own("DequantizeGroups of NVINT4", "DequantizeGroups",
        {small({3, 40}), e4m3_scales({3, 3}), f.floats({3})}, {{"group", 16}});
  return f.take();
}

std::vector<Json> training() {
  File f(18000);
  const auto shape = [](const std::vector<int64_t>& dims) { return integers(dims); };
  f.own("SumTo", "SumTo", {f.floats({3, 4, 50}), shape({4, 1})});
  f.own("GatherGrad", "GatherGrad",
        {f.floats({6, 5}), vector(DType::i64, {2, 0, 2, 1, 0, 2}), shape({4, 5})});
  f.own("GeluGrad", "GeluGrad", {f.floats({100}), f.floats({100}, "mixed")});
  f.own("GeluGrad by tanh", "GeluGrad", {f.floats({100}), f.floats({100})},
        {{"approximate", "tanh"}});
  f.own("SwishGrad", "SwishGrad", {f.floats({100}), f.floats({100}, "mixed")});
  f.own("MeanPoolGrad", "MeanPoolGrad",
        {f.floats({2, 7}), vector(DType::i64, {3, 1}), shape({2, 4, 7})});
  f.own("NegativeLogLikelihoodLossGrad", "NegativeLogLikelihoodLossGrad",
        {f.floats({}), shape({4, 5}), vector(DType::i64, {1, 4, 0, 1})});
  for (const char* op : {"LayerNormalizationGrad", "RMSNormalizationGrad"})
    f.own(op, op, {f.floats({3, 70}), f.floats({3, 70}), f.floats({70})}, Json::object(), 2);
  f.own("L2NormalizeGrad", "L2NormalizeGrad", {f.floats({3, 70}), f.floats({3, 70})});
  f.own("AttentionGrad", "AttentionGrad",
        {f.floats({1, 5, 16}), f.floats({1, 5, 16}), f.floats({1, 5, 8}), f.floats({1, 5, 8})},
        {{"heads", 2}, {"kv_heads", 1}, {"causal", 1}, {"scale", real(0.35f)}}, 3);
  const Json rate = numbers({}, {0.1f});
  f.own("SgdUpdate with momentum and decay", "SgdUpdate",
        {f.floats({50}), f.floats({50}), rate, f.floats({50})},
        {{"momentum", real(0.9f)}, {"weight_decay", real(0.01f)}}, 2);
  const Json v = f.between(DType::f32, {50}, 0x3C000000, 0x3F800000);  // second moments: positive
  f.own("AdamWUpdate", "AdamWUpdate",
        {f.floats({50}), f.floats({50}), f.floats({50}), v, rate,
         vector(DType::f64, {0x3FECCCCCCCCCCCCD, 0x3FEFF7CED916872B}),   // 0.9, 0.999
         vector(DType::f64, {0x3FE9EB851EB851ED, 0x3FEFEFA3F11B2AF6})},  // about their squares
        {{"weight_decay", real(0.01f)}}, 3);
  f.own("AttentionGrad of grouped heads", "AttentionGrad",
        {f.floats({2, 9, 24}), f.floats({2, 9, 24}), f.floats({2, 9, 8}), f.floats({2, 9, 8}),
         integers({9, 7})},
        {{"heads", 6},
         {"kv_heads", 2},
         {"causal", 1},
         {"window", 6},
         {"softcap", real(2)},
         {"scale", real(0.35f)}},
        3);
  return f.take();
}

}  // namespace

GoldenFiles golden_cases() {
  GoldenFiles files = {{"unary", unary()},         {"arithmetic", arithmetic()},
                       {"casts", casts()},         {"quantization", quantization()},
                       {"matmul", matmul()},       {"reduction", reduction()},
                       {"selection", selection()}, {"normalization", normalization()},
                       {"attention", attention()}, {"sliced", sliced()},
                       {"quantized", quantized()}, {"tensor_core", tensor_core()},
                       {"sampling", sampling()},   {"roots", roots()},
                       {"others", others()},       {"fixed_point", fixed_point()},
                       {"grouped", grouped()},     {"training", training()}};
  files.merge(golden_movement_cases());
  files.merge(golden_window_cases());
  files.merge(golden_operator_cases());
  return files;
}

}  // namespace verbatim::test
