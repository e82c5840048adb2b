// Inputs that once crashed, hung or gave other bits elsewhere: each stays refused, or defined.
#include <gtest/gtest.h>

#include <filesystem>

#include <verbatim/core/codec.h>
#include <verbatim/core/file.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/models/model.h>
#include <verbatim/repops/models/safetensors.h>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

using test::node_of;

Tensor bytes(int64_t n, int8_t value) {
  return *Tensor::from<int8_t>(Shape{n}, std::vector<int8_t>(static_cast<size_t>(n), value));
}

// 256 as an int8 is 0: the count must not be narrowed before it divides.
TEST(Hostile, MeansOfManySmallIntegers) {
  for (int64_t n : {128, 256, 65536}) {
    const Tensor inputs[] = {bytes(n, 0), test::ints({0})};
    const Result<Tensors> mean = evaluate_reference(node_of("ReduceMean", ""), inputs);
    ASSERT_TRUE(mean.ok()) << mean.status().message();
    EXPECT_EQ((*mean)[0].data<int8_t>()[0], 0);
  }
  const std::vector<Tensor> many(256, bytes(1, 1));  // the sum wraps to 0
  EXPECT_EQ((*evaluate_reference(node_of("Mean", ""), many))[0].data<int8_t>()[0], 0);
}

// A real attribute beyond an integer type saturates, as Cast does: a bare conversion differs
// between processors.
TEST(Hostile, RealAttributesOfIntegerOperatorsSaturate) {
  const int32_t one[] = {1};
  const Tensor a = *Tensor::from<int32_t>({1, 1}, one);
  const Tensor inputs[] = {a, a};
  const Tensor y = (*evaluate_reference(node_of("Gemm", "", {{"alpha", 3e10f}}), inputs))[0];
  EXPECT_EQ(y.data<int32_t>()[0], INT32_MAX);
}

TEST(Hostile, EmptyTensorsWithHugeOtherDimensionsAreRefused) {
  const int64_t dims[] = {int64_t{1} << 40, 0};
  EXPECT_EQ(Shape::of(dims).status().code(), StatusCode::limit);
  const int64_t fine[] = {1, 0, 4096};
  EXPECT_TRUE(Shape::of(fine).ok());
}

// What a model makes of no images is large beside its 0; there is nothing to loop over.
TEST(Hostile, ABatchOfNoneHasEntriesOfOrdinarySize) {
  constexpr int64_t kHuge = int64_t{1} << 40;
  const auto shape_of = [](std::vector<int64_t> dims) { return Shape::of(dims).status().code(); };
  EXPECT_EQ(shape_of({0, 64, 224, 224}), StatusCode::ok);
  EXPECT_EQ(shape_of({0, int64_t{1} << 26}), StatusCode::ok);
  EXPECT_EQ(shape_of({0, (int64_t{1} << 26) + 1}), StatusCode::limit);
  EXPECT_EQ(shape_of({0, kHuge, kHuge}), StatusCode::limit);
  EXPECT_EQ(shape_of({1, 0, int64_t{1} << 21}), StatusCode::limit);
  EXPECT_EQ(shape_of({0, 0, kHuge}), StatusCode::limit);
}

// The lengths of sequences that nobody gives are no list: states beyond the limit come first.
TEST(Hostile, RecurrentLayersOfNoStepsAllocateWithinTheLimit) {
  const Tensor x = *Tensor::zeros(DType::f32, Shape{0, int64_t{1} << 26, 1}),
               w = *Tensor::zeros(DType::f32, Shape{1, 512, 1}),
               r = *Tensor::zeros(DType::f32, Shape{1, 512, 512});
  const Tensor inputs[] = {x, w, r};
  EXPECT_EQ(evaluate_reference(node_of("RNN", ""), inputs).status().code(), StatusCode::limit);
}

TEST(Hostile, AnAbsentRequiredInputIsRefusedByTheGraph) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {-1, 4});
  b.output("y", b.add("LayerNormalization", "", {x, kAbsent, x}));
  EXPECT_NE(b.finish().status().message().find("input 1 is required"), std::string::npos);
}

TEST(Hostile, SliceCodesBeyondTheirRangeAreRefused) {
  Tensor slices = *Tensor::zeros(DType::i8, Shape{2, 1, 2}),
         exponents = *Tensor::zeros(DType::i32, Shape{1});
  slices.mutable_data<int8_t>()[3] = 65;
  const Tensor inputs[] = {slices, exponents, slices, exponents};
  EXPECT_EQ(evaluate_reference(node_of("SlicedLinear", kVerbatimDomain), inputs).status().code(),
            StatusCode::bad_input);
}

TEST(Hostile, ConfigurationsOfAbsurdSizeAreRefusedAtOnce) {
  const std::string folder = testing::TempDir() + "/verbatim_hostile_config";
  std::filesystem::create_directories(folder);
  const std::string common =
      R"("model_type":"llama","hidden_size":64,"intermediate_size":172,"num_attention_heads":8,"vocab_size":512,)";
  for (const char* rest :
       {R"("num_hidden_layers":2147483648)", R"("num_hidden_layers":5,"head_dim":2147483648)",
        R"("num_hidden_layers":5,"rope_theta":0)", R"("num_hidden_layers":5,"rope_theta":1e39)",
        R"("num_hidden_layers":5,"rms_norm_eps":-1)", R"("num_hidden_layers":-1)",
        R"("num_hidden_layers":"5")", R"("num_hidden_layers":5,"num_hidden_layers":5)"}) {
    ASSERT_TRUE(write_file(folder + "/config.json", as_bytes("{" + common + rest + "}")).ok());
    const Status s = Model::load(folder).status();
    EXPECT_TRUE(s.code() == StatusCode::bad_input || s.code() == StatusCode::limit)
        << rest << ": " << s.message();
    EXPECT_NE(s.message().find("config.json"), std::string::npos) << s.message();
  }
}

TEST(Hostile, BrokenJsonIsNamedByItsOffsetInTheFile) {
  const std::string folder = testing::TempDir() + "/verbatim_hostile_json";
  std::filesystem::create_directories(folder);
  ASSERT_TRUE(write_file(folder + "/config.json", as_bytes(R"({"model_type": llama})")).ok());
  const Status config = Model::load(folder).status();
  EXPECT_EQ(config.code(), StatusCode::bad_input);
  EXPECT_NE(config.message().find("config.json: byte 16: malformed JSON"), std::string::npos)
      << config.message();

  const std::string header = R"({"a": ?})";
  Writer w;
  w.u64(header.size());
  w.raw(as_bytes(header));
  const Status tensors = parse_safetensors(w.bytes(), "w.safetensors", nullptr).status();
  EXPECT_EQ(tensors.code(), StatusCode::bad_input);
  EXPECT_NE(tensors.message().find("w.safetensors: byte 15: malformed JSON"), std::string::npos)
      << tensors.message();
}

// The weights' first dimension was written where there was none.
TEST(Hostile, AVectorOfZeroPointsForAScalarIsRefused) {
  const Tensor five = bytes(5, 0), scalar = *Tensor::scalar<int8_t>(1), one = *Tensor::scalar(1.0f);
  const Tensor plain[] = {five, scalar, Tensor(), five};
  EXPECT_EQ(evaluate_reference(node_of("ConvInteger", ""), plain).status().code(),
            StatusCode::bad_input);
  const Tensor quantized[] = {five, one, scalar, scalar, one, five, one, scalar};
  EXPECT_EQ(evaluate_reference(node_of("QLinearConv", ""), quantized).status().code(),
            StatusCode::bad_input);
}

// Sanitizer builds see an overflow that does not wrap.
TEST(Hostile, IntegerGemmWraps) {
  const int64_t least[] = {INT64_MIN};
  const Tensor a = *Tensor::from<int64_t>({1, 1}, least), one = *test::ints({1}).reshaped({1, 1});
  const Tensor inputs[] = {a, one, a};
  const Node node = node_of("Gemm", "", {{"alpha", 8.0f}, {"beta", 3.0f}});
  EXPECT_EQ((*evaluate_reference(node, inputs))[0].data<int64_t>()[0], INT64_MIN);
}

// 114 bytes said 2^24 steps of no outputs, each of which took memory.
TEST(Hostile, ProgramsWithoutOutputsOrOfTooManyStepsAreRefused) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {1});
  b.output("y", b.add("Neg", "", {x}));
  Program program;
  program.graph = *b.finish();
  program.max_steps = kMaxSteps;
  EXPECT_TRUE(decode_program(encode_program(program), "p").ok());
  program.max_steps = kMaxSteps + 1;
  EXPECT_EQ(decode_program(encode_program(program), "p").status().code(), StatusCode::limit);
  program.max_steps = 1;
  program.graph.outputs.clear();
  const Status status = decode_program(encode_program(program), "p").status();
  EXPECT_NE(status.message().find("without an output"), std::string::npos) << status.message();
}

// Heads and sizes whose product no shape can have, and rows without an element, of which there
// could be 2^60: refused, in every family.
TEST(Hostile, AttentionOfImpossibleShapes) {
  const auto refused = [](const char* op, DType dtype, const Shape& q, const Shape& k,
                          const Shape& v, int64_t heads, int64_t kv_heads) {
    const Tensor inputs[] = {*Tensor::zeros(dtype, q), *Tensor::zeros(dtype, k),
                             *Tensor::zeros(dtype, v)};
    const Node node =
        node_of(op, kVerbatimDomain, {{"heads", heads}, {"kv_heads", kv_heads}, {"scale", 1.0f}});
    return !evaluate_reference(node, inputs).ok();
  };
  for (const char* op : {"Attention", "AttentionInt8", "AttentionTensorCore"}) {
    const DType dtype = std::string_view(op) == "AttentionTensorCore" ? DType::bf16 : DType::f32;
    EXPECT_TRUE(refused(op, dtype, {1, 0, 1024}, {1, 1, 1}, {1, 1, 2048}, 1024, 1)) << op;
    EXPECT_TRUE(refused(op, dtype, {1, 1, 0}, {1, 1, 0}, {1, 1, 8}, int64_t{1} << 60, 1)) << op;
    EXPECT_TRUE(
        refused(op, dtype, {1, 1, 0}, {1, 0, 0}, {1, 0, 0}, int64_t{1} << 60, int64_t{1} << 60))
        << op;
  }
}

}  // namespace
}  // namespace verbatim
