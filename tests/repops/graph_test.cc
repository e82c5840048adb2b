#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cfenv>

#include <verbatim/core/fp_guard.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/replay.h>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

// x W^T + b, twice, with attributes of several kinds.
Program small_program(uint64_t seed) {
  test::Random random(seed);
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {-1, 6});
  const ValueId w = b.constant("w", random.floats({6, 6})),
                bias = b.constant("b", random.floats({6}));
  const ValueId h = b.add("Linear", kVerbatimDomain, {x, w, bias}, {}, "first");
  const ValueId y = b.add("Gemm", "", {h, w}, {{"alpha", 0.5f}, {"transB", int64_t{1}}}, "second");
  b.output("y", y);
  Program p;
  p.graph = *b.finish();
  p.graph.compute_roots();
  p.carries = {{0, 0}};
  p.max_steps = 3;
  return p;
}

TEST(Graph, EncodingRoundTripsAndTheRootSeesEverything) {
  const Program p = small_program(1);
  const Bytes bytes = encode_program(p);
  const Result<Program> back = decode_program(bytes, "p");
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(encode_program(*back), bytes);
  Graph changed = p.graph;
  changed.nodes[1].attributes.set("alpha", 0.25f);
  EXPECT_NE(program_root(changed), program_root(p.graph));
  changed = p.graph;
  changed.nodes[0].inputs[2] = kAbsent;
  EXPECT_NE(program_root(changed), program_root(p.graph));
  EXPECT_NE(program_root(small_program(2).graph), program_root(p.graph));  // other weights
}

RC_GTEST_PROP(Graph, MutatedEncodingsAreRefusedOrCanonical, ()) {
  static const Bytes original = encode_program(small_program(1));
  Bytes bytes = original;
  bytes[*rc::gen::inRange<size_t>(0, bytes.size())] ^=
      static_cast<std::byte>(*rc::gen::inRange(1, 256));
  const Result<Program> p = decode_program(bytes, "p");
  if (p.ok()) RC_ASSERT(encode_program(*p) == bytes);
  RC_ASSERT(
      !decode_program(ByteView(original).first(*rc::gen::inRange<size_t>(0, original.size())), "p")
           .ok());
}

TEST(Graph, ValidationNamesTheNode) {
  const auto message = [](auto change) {
    Graph g = small_program(1).graph;
    change(g);
    return g.validate().message();
  };
  EXPECT_NE(message([](Graph& g) {
              g.nodes[1].op = "Nonsense";
            }).find("node 1 (Nonsense second): no operator"),
            std::string::npos);
  EXPECT_NE(
      message([](Graph& g) { std::swap(g.nodes[0], g.nodes[1]); }).find("has no earlier producer"),
      std::string::npos);
  EXPECT_NE(message([](Graph& g) {
              g.nodes[1].outputs[0] = g.nodes[0].outputs[0];
            }).find("produced twice"),
            std::string::npos);
  EXPECT_NE(message([](Graph& g) { g.nodes[0].inputs.resize(1); }).find("1 inputs"),
            std::string::npos);
  EXPECT_NE(message([](Graph& g) { g.outputs.push_back(g.outputs[0]); }).find("two outputs"),
            std::string::npos);
}

// Asserted, a caller's wrong mode is an error; corrected else, and the caller keeps it.
TEST(Executor, AnAssertedFloatEnvironmentIsNotCorrected) {
  GraphBuilder b;
  b.output("y", b.add("Exp", "", {b.input("x", DType::f32, {-1})}));
  const Graph graph = *b.finish();
  const auto backend = make_reference_backend();
  const Executor executor = *Executor::create(graph, *backend);
  const Tensors x = {*Tensor::from<float>(Shape{2}, std::vector<float>{1, 2})};
  const bool before = float_environment_asserted();
  std::fesetround(FE_UPWARD);
  assert_float_environment(false);
  const Result<Tensors> corrected = executor.run_step(0, x);
  assert_float_environment(true);
  const Result<Tensors> refused = executor.run_step(0, x);
  assert_float_environment(before);
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
  ASSERT_TRUE(corrected.ok());
  EXPECT_EQ(refused.status().code(), StatusCode::unavailable);
  EXPECT_NE(refused.status().message().find("a rounding direction"), std::string::npos)
      << refused.status().message();
  EXPECT_TRUE(identical((*executor.run_step(0, x))[0], (*corrected)[0]));
}

TEST(Executor, StepsFeedEachOtherAndInputsAreChecked) {
  const Program p = small_program(3);
  const auto backend = make_reference_backend();
  test::Random random(4);
  const Tensor x = random.floats({2, 6});
  const Tensor inputs[] = {x};
  const Result<RunResult> three = run_program(p, *backend, inputs);
  ASSERT_TRUE(three.ok()) << three.status().message();
  Tensor state = x;
  const Executor executor = *Executor::create(p.graph, *backend);
  for (int i = 0; i < 3; ++i) {
    const Tensor in[] = {state};
    state = (*executor.run_step(0, in))[0];
  }
  EXPECT_TRUE(identical(state, three->outputs[0]));
  const Tensor wrong[] = {random.floats({2, 7})};
  EXPECT_NE(run_program(p, *backend, wrong).status().message().find("wants 6 in dimension 1"),
            std::string::npos);
}

TEST(Replay, RecordsRunsAndFindsAChange) {
  test::Random random(5);
  const Replay r = *record_replay(small_program(6), {random.floats({5, 6})}, {2, 3}, 2);
  const auto backend = make_reference_backend();
  EXPECT_EQ(*run_replay(r, *backend), "");
  const Bytes bytes = encode_replay(r);
  Replay back = *decode_replay(bytes, "r");
  EXPECT_EQ(encode_replay(back), bytes);
  back.outputs[1][0].bytes[0] ^= std::byte{1};
  EXPECT_NE(run_replay(back, *backend)->find("step 1, output 'y'"), std::string::npos);
}

RC_GTEST_PROP(Replay, MutatedFilesAreRefusedOrCanonical, ()) {
  static const Bytes original =
      encode_replay(*record_replay(small_program(6), {test::Random(5).floats({5, 6})}, {2, 3}, 2));
  Bytes bytes = original;
  bytes[*rc::gen::inRange<size_t>(0, bytes.size())] ^=
      static_cast<std::byte>(*rc::gen::inRange(1, 256));
  const Result<Replay> r = decode_replay(bytes, "r");
  if (r.ok()) RC_ASSERT(encode_replay(*r) == bytes);
}

}  // namespace
}  // namespace verbatim
