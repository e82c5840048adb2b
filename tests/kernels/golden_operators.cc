// Golden cases of operators with a state, of signals, of integers and of statistics.
#include "kernels/golden_builder.h"

namespace verbatim::test {
namespace {

Json scalar(DType type, uint64_t code) { return full(type, {}, {code}); }
Json real_scalar(float x) { return numbers({}, {x}); }

// x, w, r and b of a layer with `gates` gates.
std::vector<Json> layer(File& f, DType type, int64_t steps, int64_t batch, int64_t inputs,
                        int64_t hidden, int64_t gates, int64_t directions = 1) {
  const int64_t rows = gates * hidden;
  return {f.seeded(type, {steps, batch, inputs}), f.seeded(type, {directions, rows, inputs}),
          f.seeded(type, {directions, rows, hidden}), f.seeded(type, {directions, 2 * rows})};
}
std::vector<Json> join(std::initializer_list<std::vector<Json>> parts) {
  std::vector<Json> all;
  for (const std::vector<Json>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

void plain_layers(File& f) {
  f.onnx("RNN", "RNN", layer(f, DType::f32, 4, 2, 5, 3, 1), Json::object(), 2);
  f.onnx("RNN, both directions, lengths, a state, clip", "RNN",
         join({layer(f, DType::f32, 4, 3, 5, 3, 1, 2), {integers({4, 0, 2}), f.floats({2, 3, 3})}}),
         {{"direction", "bidirectional"}, {"clip", real(1.75f)}}, 2);
  f.onnx("RNN in reverse, batches first", "RNN", layer(f, DType::f32, 2, 4, 5, 3, 1),
         {{"direction", "reverse"}, {"layout", 1}}, 2);
  f.onnx("RNN of float16", "RNN", layer(f, DType::f16, 3, 2, 20, 3, 1), Json::object(), 2);
  f.onnx("RNN of float64", "RNN", layer(f, DType::f64, 2, 1, 4, 2, 1), Json::object(), 2);
  f.onnx("RNN, K in two blocks", "RNN", layer(f, DType::f32, 1, 1, 530, 2, 1), Json::object(), 2);
  f.onnx("RNN of any bits", "RNN",
         {f.floats({2, 3, 4}, "mixed"), f.floats({1, 2, 4}), f.floats({1, 2, 2})}, Json::object(),
         2);
  for (const char* function : {"Relu", "Tanh", "Sigmoid", "Softsign", "Softplus", "Affine",
                               "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"})
    f.onnx(std::string("RNN with ") + function, "RNN", layer(f, DType::f32, 2, 1, 3, 4, 1),
           {{"activations", Json::array({function})},
            {"activation_alpha", Json::array({real(0.3f)})},
            {"activation_beta", Json::array({real(0.7f)})}},
           2);
}

void gated_layers(File& f) {
  const Json both = {{"direction", "bidirectional"}};
  const auto states = [&] { return std::vector<Json>{integers({4, 0, 2}), f.floats({2, 3, 3})}; };
  f.onnx("GRU, linear_before_reset", "GRU", layer(f, DType::f32, 4, 2, 5, 3, 3),
         {{"linear_before_reset", 1}}, 2);
  f.onnx("GRU, both directions, lengths, a state", "GRU",
         join({layer(f, DType::f32, 4, 3, 5, 3, 3, 2), states()}), both, 2);
  f.onnx("GRU of bfloat16, batches first, clip", "GRU", layer(f, DType::bf16, 2, 3, 5, 3, 3),
         {{"layout", 1}, {"clip", real(0.75f)}}, 2);
  f.onnx("GRU with other functions", "GRU", layer(f, DType::f32, 3, 1, 5, 3, 3),
         {{"activations", Json::array({"HardSigmoid", "Softsign"})}, {"direction", "reverse"}}, 2);
  f.onnx("LSTM, both directions, lengths, states, peepholes", "LSTM",
         join({layer(f, DType::f32, 4, 3, 5, 3, 4, 2),
               states(),
               {f.floats({2, 3, 3}), f.floats({2, 9})}}),
         both, 3);
  f.onnx("LSTM, input_forget, clip", "LSTM", layer(f, DType::f32, 3, 2, 5, 3, 4),
         {{"input_forget", 1}, {"clip", real(0.6f)}}, 3);
  f.onnx("LSTM of float16, batches first", "LSTM", layer(f, DType::f16, 2, 3, 5, 3, 4),
         {{"layout", 1}}, 3);
  f.onnx("LSTM of float64 in reverse", "LSTM", layer(f, DType::f64, 2, 1, 4, 2, 4),
         {{"direction", "reverse"}}, 3);
}

void linear_attention(File& f) {
  const auto add = [&](const std::string& what, const char* rule, DType type,
                       std::vector<Json> more) {
    std::vector<Json> inputs = {f.seeded(type, {2, 3, 16}), f.seeded(type, {2, 3, 8}),
                                f.seeded(type, {2, 3, 6})};
    f.onnx("LinearAttention, " + what, "LinearAttention", join({inputs, more}),
           {{"q_num_heads", 4}, {"kv_num_heads", 2}, {"update_rule", rule}}, 2);
  };
  const auto shape = [](int64_t last) { return Dims{2, 3, last}; };
  add("linear", "linear", DType::f32, {});
  add("gated, a state", "gated", DType::f32, {f.floats({2, 2, 4, 3}), f.floats(shape(2))});
  add("gated for each key element, bfloat16", "gated", DType::bf16,
      {nullptr, f.seeded(DType::bf16, shape(8))});
  add("delta", "delta", DType::f32, {nullptr, nullptr, f.floats(shape(2))});
  add("gated_delta, one beta", "gated_delta", DType::f32,
      {f.floats({2, 2, 4, 3}), f.floats(shape(8)), f.floats(shape(1))});
  f.onnx("CausalConvWithState", "CausalConvWithState",
         {f.floats({2, 3, 5}), f.floats({3, 1, 4}), f.floats({3}), f.floats({2, 3, 3})},
         {{"activation", "silu"}}, 2);
  f.onnx("CausalConvWithState without a state, any bits", "CausalConvWithState",
         {f.floats({1, 2, 6}, "mixed"), f.floats({2, 1, 3})}, Json::object(), 2);
  f.onnx("CausalConvWithState of bfloat16, shorter than its state", "CausalConvWithState",
         {f.seeded(DType::bf16, {1, 2, 1}), f.seeded(DType::bf16, {2, 1, 4}), nullptr,
          f.seeded(DType::bf16, {1, 2, 3}, "bits")},
         Json::object(), 2);
}

std::vector<Json> recurrent() {
  File f(27000);
  plain_layers(f);
  gated_layers(f);
  linear_attention(f);
  return f.take();
}

void attentions(File& f) {
  const auto qkv = [&](DType type, int64_t rows, int64_t keys) {
    return std::vector<Json>{f.seeded(type, {2, 4, rows, 8}), f.seeded(type, {2, 2, keys, 8}),
                             f.seeded(type, {2, 2, keys, 6})};
  };
  const auto add = [&](const std::string& what, std::vector<Json> inputs,
                       Json attributes = Json::object(), int outputs = 1) {
    f.onnx("Attention of ONNX, " + what, "Attention", std::move(inputs), std::move(attributes),
           outputs);
  };
  const Json nothing;
  add("grouped heads, causal", qkv(DType::f32, 3, 150), {{"is_causal", 1}, {"scale", real(0.05f)}});
  add("by token, of float16",
      {f.seeded(DType::f16, {1, 3, 16}), f.seeded(DType::f16, {1, 9, 8}),
       f.seeded(DType::f16, {1, 9, 8})},
      {{"q_num_heads", 4}, {"kv_num_heads", 2}});
  add("a bool mask of fewer keys",
      join({qkv(DType::f32, 3, 9), std::vector<Json>{f.seeded(DType::boolean, {3, 7}, "bits")}}));
  add("lengths, windows",
      join({qkv(DType::f32, 3, 40), {nothing, nothing, nothing, integers({40, 17})}}),
      {{"left_window_size", 5}, {"right_window_size", 1}});
  for (int64_t mode = 0; mode < 4; ++mode) {
    // A bias with -infinity, which masks.
    const Json bias = numbers({1, 5}, {0.5f, -INFINITY, -1.25f, 0, 2});
    add("a cache, a bias, softcap, scores " + std::to_string(mode),
        join({qkv(DType::f32, 2, 3), {bias, f.floats({2, 2, 2, 8}), f.floats({2, 2, 2, 6})}}),
        {{"softcap", real(2)}, {"qk_matmul_output_mode", mode}, {"is_causal", 1}}, 4);
  }
  add("of bfloat16, the weights", qkv(DType::bf16, 2, 200),
      {{"scale", real(0.02f)}, {"qk_matmul_output_mode", 3}}, 4);
}

void rotations(File& f) {
  for (const int64_t interleaved : {0, 1})
    f.onnx("RotaryEmbedding of ONNX, interleaved " + std::to_string(interleaved), "RotaryEmbedding",
           {f.floats({2, 3, 4, 8}, "mixed"), f.floats({2, 4, 4}), f.floats({2, 4, 4})},
           {{"interleaved", interleaved}});
  f.onnx("RotaryEmbedding of ONNX in part, by positions, of bfloat16", "RotaryEmbedding",
         {f.seeded(DType::bf16, {2, 3, 16}), f.seeded(DType::bf16, {9, 2}),
          f.seeded(DType::bf16, {9, 2}), f.between(DType::i64, {2, 3}, 0, 8)},
         {{"num_heads", 2}, {"rotary_embedding_dim", 4}});
}

std::vector<Json> onnx_attention() {
  File f(28000);
  attentions(f);
  rotations(f);
  return f.take();
}

void transforms(File& f) {
  const Json axis = scalar(DType::i64, 1);
  const auto length = [](uint64_t n) { return scalar(DType::i64, n); };
  f.onnx("DFT of complex numbers", "DFT", {f.floats({2, 15, 2}, "mixed"), nullptr, axis});
  f.onnx("DFT, one-sided, a longer length", "DFT", {f.floats({1, 13, 1}), length(20), axis},
         {{"onesided", 1}});
  f.onnx("DFT, the inverse, a shorter length, another axis", "DFT",
         {f.floats({9, 3, 2}), length(7), scalar(DType::i64, ~uint64_t{2})}, {{"inverse", 1}});
  f.onnx("DFT, the inverse of one side", "DFT", {f.floats({2, 9, 2}), nullptr, axis},
         {{"inverse", 1}, {"onesided", 1}});
  f.onnx("DFT, K in two blocks", "DFT", {f.floats({1, 300, 1}), nullptr, axis}, {{"onesided", 1}});
  for (const DType type : {DType::f16, DType::f64})
    f.onnx("DFT of " + std::string(name_of(type)), "DFT",
           {f.seeded(type, {1, 12, 1}), nullptr, axis});
  f.onnx("STFT", "STFT", {f.floats({2, 40, 1}), length(7), f.floats({16})});
  f.onnx("STFT without a window, both sides, of complex numbers", "STFT",
         {f.floats({1, 20, 2}), length(4), nullptr, length(9)}, {{"onesided", 0}});
  f.onnx("STFT of bfloat16", "STFT",
         {f.seeded(DType::bf16, {1, 20, 1}), length(5), f.seeded(DType::bf16, {10}), length(10)});
  for (const char* op : {"HannWindow", "HammingWindow", "BlackmanWindow"}) {
    const std::string name = op;
    for (const int64_t periodic : {0, 1})
      f.onnx(name + ", periodic " + std::to_string(periodic), op, {length(37)},
             {{"periodic", periodic}});
    f.onnx(name + " of float64", op, {length(10)}, {{"output_datatype", number_of(DType::f64)}});
    f.onnx(name + " of float16", op, {length(10)}, {{"output_datatype", number_of(DType::f16)}});
    f.onnx(name + " of one element", op, {length(1)}, {{"periodic", 0}});
  }
  const auto mel = [&](const std::string& what, uint64_t bands, uint64_t size, uint64_t rate,
                       float low, float high, DType type) {
    f.onnx("MelWeightMatrix, " + what, "MelWeightMatrix",
           {length(bands), length(size), length(rate), real_scalar(low), real_scalar(high)},
           {{"output_datatype", number_of(type)}});
  };
  mel("float32", 8, 64, 8192, 0, 4096, DType::f32);
  mel("narrow bands of float64", 12, 32, 16000, 125.5f, 3800, DType::f64);
  mel("bfloat16", 5, 100, 22050, 20, 11025, DType::bf16);
}

std::vector<Json> signal() {
  File f(29000);
  transforms(f);
  return f.take();
}

void integer_products(File& f) {
  f.onnx("MatMulInteger", "MatMulInteger",
         {f.seeded(DType::u8, {3, 40}, "bits"), f.seeded(DType::i8, {40, 5}, "bits"),
          scalar(DType::u8, 120), scalar(DType::i8, 3)});
  f.onnx("MatMulInteger, zero points of rows and columns", "MatMulInteger",
         {f.seeded(DType::i8, {2, 3, 40}, "bits"), f.seeded(DType::u8, {40, 5}, "bits"),
          f.seeded(DType::i8, {3}, "bits"), f.seeded(DType::u8, {5}, "bits")});
  f.onnx("MatMulInteger without zero points", "MatMulInteger",
         {f.seeded(DType::u8, {4, 1000}, "bits"), f.seeded(DType::u8, {1000, 3}, "bits")});
  const Json geometry = {{"pads", Dims{1, 1, 0, 1}}, {"strides", Dims{2, 1}}};
  f.onnx("ConvInteger", "ConvInteger",
         {f.seeded(DType::u8, {1, 4, 6, 7}, "bits"), f.seeded(DType::i8, {6, 2, 3, 2}, "bits"),
          scalar(DType::u8, 128), f.seeded(DType::i8, {6}, "bits")},
         with(geometry, {{"group", 2}}));
  f.onnx("ConvInteger, dilations", "ConvInteger",
         {f.seeded(DType::i8, {2, 3, 9}, "bits"), f.seeded(DType::i8, {2, 3, 3}, "bits")},
         {{"dilations", Dims{3}}, {"auto_pad", "SAME_UPPER"}});
  const auto convolution = [&](const std::string& what, DType type, const Json& w_scale,
                               const Json& w_zero, uint64_t zero) {
    f.onnx("QLinearConv, " + what, "QLinearConv",
           {f.seeded(type, {1, 3, 6, 7}, "bits"), real_scalar(0.02f), scalar(type, zero),
            f.seeded(type, {4, 3, 3, 2}, "bits"), w_scale, w_zero, real_scalar(1.3f),
            scalar(type, zero), f.between(DType::i32, {4}, -5000, 5000)},
           geometry);
  };
  const Json scales = f.between(DType::f32, {4}, 0x3C000000, 0x3D800000),
             zeros = f.seeded(DType::u8, {4}, "bits");
  convolution("a scale for each channel", DType::u8, scales, zeros, 128);
  convolution("int8", DType::i8, real_scalar(0.03f), scalar(DType::i8, 0xFD), 5);
  f.onnx("QLinearMatMul, scales of rows and columns", "QLinearMatMul",
         {f.seeded(DType::i8, {3, 30}, "bits"), f.between(DType::f32, {3}, 0x3C000000, 0x3D800000),
          f.seeded(DType::i8, {3}, "bits"), f.seeded(DType::i8, {30, 5}, "bits"),
          f.between(DType::f32, {5}, 0x3C000000, 0x3D800000), f.seeded(DType::i8, {5}, "bits"),
          numbers({1}, {0.9f}), vector(DType::i8, {0xF0})});
}

void codes(File& f) {
  for (const int64_t block : {3, 4})
    f.onnx("QuantizeLinear in blocks of " + std::to_string(block), "QuantizeLinear",
           {f.floats({2, 10, 3}, "mixed"),
            f.between(DType::f32, {2, block == 3 ? 4 : 3, 3}, 0x3C000000, 0x3E000000)},
           {{"axis", 1}, {"block_size", block}, {"output_dtype", number_of(DType::i8)}});
  f.onnx("QuantizeLinear of bfloat16 by e8m0", "QuantizeLinear",
         {f.seeded(DType::bf16, {4, 6}, "mixed"), f.between(DType::f8e8m0, {6}, 118, 126)},
         {{"output_dtype", number_of(DType::f8e4m3)}});
  f.onnx("DequantizeLinear in blocks, to float16", "DequantizeLinear",
         {f.seeded(DType::i4, {3, 8}, "bits"), f.seeded(DType::f16, {3, 2}),
          f.seeded(DType::i4, {3, 2}, "bits")},
         {{"axis", -1}, {"block_size", 4}});
  f.onnx("DequantizeLinear of int32", "DequantizeLinear",
         {f.seeded(DType::i32, {40}, "bits"), real_scalar(0.3f), scalar(DType::i32, 7)});
  f.onnx("DynamicQuantizeLinear of positive numbers", "DynamicQuantizeLinear",
         {f.between(DType::f32, {60}, 0x3F000000, 0x41000000)}, Json::object(), 3);
  f.onnx("DynamicQuantizeLinear of zeros, NaN and infinity", "DynamicQuantizeLinear",
         {numbers({4}, {0, NAN, -INFINITY, 1})}, Json::object(), 3);
  f.onnx("DynamicQuantizeLinear of zeros", "DynamicQuantizeLinear", {numbers({2}, {0, -0.0f})},
         Json::object(), 3);
  for (const char* op : {"QuantizeKeys", "QuantizeValues"}) {
    const std::string name = op;
    f.own(name, op, {f.floats({2, 3, 48})}, {{"heads", 2}}, 2);
    f.own(name + " of any bits", op, {f.floats({3, 4, 16}, "mixed")}, {{"heads", 4}}, 2);
    f.own(name + " of special values", op, {full(DType::f32, {1, 5, 4}, kSpecial)}, {{"heads", 1}},
          2);
    f.own(name + " of heads of an odd size", op, {f.floats({1, 2, 14})}, {{"heads", 2}}, 2);
  }
}

std::vector<Json> integer_codes() {
  File f(30000);
  integer_products(f);
  codes(f);
  return f.take();
}

void group_statistics(File& f) {
  f.onnx("InstanceNormalization", "InstanceNormalization",
         {f.floats({2, 3, 5, 7}), f.floats({3}), f.floats({3})});
  f.onnx("InstanceNormalization of long planes", "InstanceNormalization",
         {f.floats({1, 2, 1100}), f.floats({2}), f.floats({2})}, {{"epsilon", real(0.01f)}});
  f.onnx("InstanceNormalization of float16", "InstanceNormalization",
         {f.seeded(DType::f16, {2, 3, 9}), f.seeded(DType::f16, {3}), f.seeded(DType::f16, {3})});
  f.onnx("GroupNormalization", "GroupNormalization",
         {f.floats({2, 6, 4, 3}), f.floats({6}), f.floats({6})}, {{"num_groups", 3}});
  f.onnx("GroupNormalization, parameters of groups", "GroupNormalization",
         {f.floats({2, 6, 5}, "mixed"), f.floats({2}), f.floats({2})}, {{"num_groups", 2}});
  f.onnx("GroupNormalization of bfloat16 by float32", "GroupNormalization",
         {f.seeded(DType::bf16, {1, 4, 40}), f.floats({4}), f.floats({4})}, {{"num_groups", 2}});
  f.onnx("BatchNormalization in training", "BatchNormalization",
         {f.floats({3, 2, 40}), f.floats({2}), f.floats({2}), f.floats({2}),
          numbers({2}, {0.5f, 1.5f})},
         {{"training_mode", 1}, {"momentum", real(0.8f)}}, 3);
  f.onnx("BatchNormalization of float16", "BatchNormalization",
         {f.seeded(DType::f16, {2, 3, 4}), f.floats({3}), f.floats({3}), f.floats({3}),
          numbers({3}, {0.5f, 1.5f, 3})});
  for (const int64_t p : {1, 2}) {
    const std::string name = "LpNormalization, p " + std::to_string(p);
    f.onnx(name, "LpNormalization", {f.floats({3, 70})}, {{"p", p}});
    f.onnx(name + ", a first axis, any bits", "LpNormalization", {f.floats({5, 30}, "mixed")},
           {{"p", p}, {"axis", 0}});
  }
  f.onnx("LpNormalization of zeros", "LpNormalization", {numbers({2, 2}, {0, -0.0f, 1, 0})});
  f.onnx("LpNormalization of float16", "LpNormalization", {f.seeded(DType::f16, {2, 40})});
  f.onnx("LRN", "LRN", {f.floats({2, 5, 3, 4})},
         {{"size", 3}, {"alpha", real(0.02f)}, {"beta", real(0.6f)}, {"bias", real(1.1f)}});
  f.onnx("LRN, an even size, any bits", "LRN", {f.floats({2, 7, 9}, "mixed")}, {{"size", 4}});
  for (const DType type : {DType::bf16, DType::f64})
    f.onnx("LRN of " + std::string(name_of(type)), "LRN", {f.seeded(type, {1, 5, 6})},
           {{"size", 5}});
}

void losses(File& f) {
  const Json targets = vector(DType::i64, {1, 4, 0, 1});
  for (const char* reduction : {"mean", "sum", "none"}) {
    const std::string name = std::string("NegativeLogLikelihoodLoss, ") + reduction;
    f.onnx(name, "NegativeLogLikelihoodLoss", {f.floats({4, 5}), targets},
           {{"reduction", reduction}});
    f.onnx(name + ", weights, ignored targets", "NegativeLogLikelihoodLoss",
           {f.floats({2, 5, 6}), f.between(DType::i64, {2, 6}, 0, 4), f.floats({5})},
           {{"reduction", reduction}, {"ignore_index", 2}});
  }
  f.onnx("NegativeLogLikelihoodLoss of float16, many rows", "NegativeLogLikelihoodLoss",
         {f.seeded(DType::f16, {1100, 3}), f.between(DType::i32, {1100}, 0, 2)});
}

void reductions(File& f) {
  for (const char* op : {"ReduceL1", "ReduceLogSum", "ReduceLogSumExp"}) {
    const std::string name = op;
    f.onnx(name + " of a long row", op, {f.floats({2, 1100}), integers({-1})});
    f.onnx(name + " of positive numbers", op,
           {f.between(DType::f32, {3, 1100}, 0x3C000000, 0x40000000), integers({1})});
    f.onnx(name + " of positive numbers of float64", op,
           {f.between(DType::f64, {2, 40}, 0x3FC0000000000000, 0x4010000000000000), integers({1})});
    f.onnx(name + " of any bits", op, {f.floats({20, 5}, "mixed"), integers({0})});
    f.onnx(name + " of two axes of bfloat16", op,
           {f.seeded(DType::bf16, {3, 4, 5}), integers({0, 2})}, {{"keepdims", 0}});
    f.onnx(name + " of nothing", op, {full(DType::f32, {2, 0}, {}), integers({1})});
  }
  f.onnx("ReduceL1 of int8 wraps", "ReduceL1",
         {f.seeded(DType::i8, {3, 40}, "bits"), integers({1})});
  f.onnx("ReduceLogSumExp of infinities", "ReduceLogSumExp",
         {numbers({3, 2}, {-INFINITY, -INFINITY, INFINITY, 1, 100, -100}), integers({1})});
  f.onnx("ReduceMax of bool", "ReduceMax",
         {f.seeded(DType::boolean, {4, 3}, "bits"), integers({0})});
  f.onnx("ReduceMean of int32", "ReduceMean",
         {f.between(DType::i32, {4, 3}, -100, 100), integers({0})});
  f.onnx("ReduceSum without axes, none meant", "ReduceSum", {f.floats({3, 4})},
         {{"noop_with_empty_axes", 1}});
  f.onnx("ReduceProd of all", "ReduceProd", {f.floats({3, 4})}, {{"keepdims", 0}});
  for (const char* op : {"CumSum", "CumProd"})
    for (const int64_t exclusive : {0, 1})
      for (const int64_t reverse : {0, 1})
        f.onnx(std::string(op) + ", exclusive " + std::to_string(exclusive) + ", reverse " +
                   std::to_string(reverse),
               op, {f.floats({7, 5}, "mixed"), scalar(DType::i64, 0)},
               {{"exclusive", exclusive}, {"reverse", reverse}});
  f.onnx("CumSum of float16, the total not rounded", "CumSum",
         {f.seeded(DType::f16, {3, 60}), scalar(DType::i32, 0xFFFFFFFF)});
  f.onnx("CumProd of int32 wraps", "CumProd",
         {f.seeded(DType::i32, {30}, "bits"), scalar(DType::i64, 0)});
}

void contractions(File& f) {
  f.onnx("Einsum, a sum", "Einsum", {f.floats({3, 1100})}, {{"equation", "ij->i"}});
  f.onnx("Einsum, a diagonal", "Einsum", {f.floats({2, 6, 6}, "bits")},
         {{"equation", "...ii->...i"}});
  f.onnx("Einsum of three", "Einsum", {f.floats({3, 4}), f.floats({4, 5}), f.floats({5, 3})},
         {{"equation", "ab,bc,ca"}});
  f.onnx("Einsum, broadcast dots, implied output", "Einsum",
         {f.floats({2, 1, 4, 30}), f.floats({3, 30, 5})}, {{"equation", "...ij,...jk"}});
  f.onnx("Einsum of bfloat16, two summed labels", "Einsum",
         {f.seeded(DType::bf16, {3, 20, 30}), f.seeded(DType::bf16, {20, 30})},
         {{"equation", "abc,bc->a"}});
  f.onnx("Einsum of int32 wraps", "Einsum",
         {f.seeded(DType::i32, {3, 8}, "bits"), f.seeded(DType::i32, {8}, "bits")},
         {{"equation", "ij,j->i"}});
  f.onnx("Det, ties of pivots, a pivot of zero", "Det",
         {numbers({3, 2, 2}, {-1, 2, 1, 3, 0, 0, 1, 2, -0.0f, 1, 1, 0})});
  f.onnx("Det of float16", "Det", {f.seeded(DType::f16, {2, 4, 4})});
  f.onnx("Det of float64", "Det", {f.seeded(DType::f64, {2, 6, 6})});
  f.onnx("Det of nothing", "Det", {full(DType::f32, {2, 0, 0}, {})});
}

void n_grams(File& f) {
  const Json pool = {{"ngram_counts", Dims{0, 3}},
                     {"ngram_indexes", Dims{2, 0, 1, 4, 3}},
                     {"pool_int64s", Dims{0, 1, 2, 0, 1, 2, 2}},
                     {"min_gram_length", 1},
                     {"max_gram_length", 2}};
  const Json weights =
      Json::array({real(0.1f), real(2.7f), real(-1), real(0.3f), real(1.0000001f)});
  for (const char* mode : {"TF", "IDF", "TFIDF"})
    for (const int64_t skip : {0, 2})
      f.onnx(std::string("TfIdfVectorizer, ") + mode + ", skip " + std::to_string(skip),
             "TfIdfVectorizer", {f.between(DType::i64, {3, 30}, 0, 2)},
             with(pool, {{"mode", mode}, {"max_skip_count", skip}, {"weights", weights}}));
  f.onnx("TfIdfVectorizer of int32, pairs alone, no weights", "TfIdfVectorizer",
         {f.between(DType::i32, {40}, 0, 2)},
         with(pool, {{"mode", "TFIDF"}, {"max_skip_count", 1}, {"min_gram_length", 2}}));
}

std::vector<Json> statistics() {
  File f(31000);
  group_statistics(f);
  losses(f);
  reductions(f);
  contractions(f);
  n_grams(f);
  return f.take();
}

}  // namespace

GoldenFiles golden_operator_cases() {
  return {{"recurrent", recurrent()},
          {"onnx_attention", onnx_attention()},
          {"signal", signal()},
          {"integer_codes", integer_codes()},
          {"statistics", statistics()}};
}

}  // namespace verbatim::test
