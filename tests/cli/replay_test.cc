// Property-based replay: RapidCheck generates graph, inputs, split, threads, steps and seed; the
// scalar reference records the digests; every backend of this machine must give them, whole and
// split. Each case is saved under build/*/replays, where tests/cross.sh replays it on other
// architectures. A failure shrinks, and its least case is left as tests/replay/failed.vreplay: to
// be kept there under a name that says what it found.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <filesystem>

#include <verbatim/core/file.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/replay.h>

#include "support/paths.h"
#include "support/random_tensor.h"

namespace verbatim {
namespace {

struct Case {
  std::vector<int> layers;
  int64_t batch, tokens, width;  // width is even
  uint32_t steps, threads;
  bool split, any_bits;
  uint64_t seed;
};

// Each layer maps [B, T, W] to [B, T, W], no row of dimension 0 seeing another: what a split may
// not change.
class RandomGraph {
 public:
  RandomGraph(const Case& c) : c_(c), random_(c.seed) {}

  Program build() {
    input_ = b_.input("x", DType::f32, {-1, -1, c_.width});
    ValueId x = input_;
    for (int layer : c_.layers) x = apply(layer, x);
    b_.output("y", x);
    Program p;
    p.graph = *b_.finish();
    p.max_steps = c_.steps;
    if (c_.steps > 1) p.carries = {{0, 0}};
    return p;
  }
  Tensor input() { return random_.floats({c_.batch, c_.tokens, c_.width}, c_.any_bits); }

  static constexpr int kLayers = 16;

 private:
  ValueId constant(const Shape& shape) {
    return b_.constant("w" + std::to_string(count_++), random_.floats(shape));
  }
  ValueId onnx(const char* op, std::vector<ValueId> in, Attributes a = {}) {
    return b_.add(op, "", std::move(in), std::move(a));
  }
  ValueId own(const char* op, std::vector<ValueId> in, Attributes a = {}, int outputs = 1) {
    return b_.add(op, kVerbatimDomain, std::move(in), std::move(a), "", outputs);
  }
  ValueId sliced(ValueId x, int64_t count) {
    const ValueId xs = own("Slices", {x}, {{"count", count}}, 2);
    const ValueId ws =
        own("Slices", {constant({c_.width, c_.width})}, {{"count", 1 + count % 4}}, 2);
    return own("SlicedLinear", {xs, xs + 1, ws, ws + 1});
  }
  ValueId attention(ValueId x, bool causal) {
    return own("Attention", {x, x, x},
               {{"heads", int64_t{2}}, {"scale", 0.3f}, {"causal", int64_t{causal}}});
  }
  ValueId centred(ValueId x) {
    const ValueId axis = b_.constant("axis" + std::to_string(count_++), test::ints({-1}));
    return onnx("Sub", {x, onnx("ReduceMean", {x, axis})});
  }
  // tanh(x w), so many times; in every other trip x w alone.
  ValueId loop(ValueId x, int64_t trips) {
    GraphBuilder tanh, identity, body;
    tanh.output("y", tanh.add("Tanh", "", {tanh.body_input("x")}));
    identity.output("y", identity.body_input("x"));
    const ValueId trip = body.body_input("trip"), condition = body.body_input("condition"),
                  state = body.body_input("x"), w = body.body_input("w"),
                  two = body.body_input("two");
    const ValueId odd = body.add("Mod", "", {trip, two}),
                  test = body.add("Cast", "", {odd}, {{"to", int64_t{9}}});
    const ValueId y = body.add(
        "If", "", {test, body.add("MatMul", "", {state, w})},
        {{"then_branch", *identity.finish_body()}, {"else_branch", *tanh.finish_body()}}, "choice");
    body.output("condition", condition);
    body.output("x", y);
    const std::string name = std::to_string(count_++);
    return onnx("Loop",
                {b_.constant("trips" + name, test::ints({trips})), kAbsent, x,
                 constant({c_.width, c_.width}), b_.constant("two" + name, test::ints({2}))},
                {{"body", *body.finish_body()}, {"captures", int64_t{2}}});
  }
  // For each token its tanh and that of those after it, added to the greatest of all.
  ValueId scan(ValueId x) {
    GraphBuilder body;
    const ValueId total = body.body_input("total"), token = body.body_input("token");
    const ValueId sum = body.add("Add", "", {total, body.add("Tanh", "", {token})});
    body.output("total", sum);
    body.output("sum", sum);
    const ValueId first =
        onnx("ReduceMax", {x, b_.constant("axis" + std::to_string(count_++), test::ints({1}))},
             {{"keepdims", int64_t{0}}});
    const std::vector<int64_t> tokens = {1}, backwards = {1};
    return b_.add("Scan", "", {first, x},
                  {{"body", *body.finish_body()},
                   {"num_scan_inputs", int64_t{1}},
                   {"scan_input_axes", tokens},
                   {"scan_input_directions", backwards},
                   {"scan_output_axes", tokens},
                   {"scan_output_directions", backwards}},
                  "", 2) +
           1;
  }
  ValueId apply(int layer, ValueId x) {
    const int64_t w = c_.width;
    switch (layer) {
      case 0:
        return own("Linear", {x, constant({w, w}), constant({w})});
      case 1:
        return onnx("MatMul", {x, constant({w, w})});
      case 2:
        return onnx("LayerNormalization", {x, constant({w}), constant({w})});
      case 3:
        return onnx("RMSNormalization", {x, constant({w})});
      case 4:
        return onnx("Softmax", {x});
      case 5:
        return onnx("Gelu", {x});
      case 6:
        return onnx("Tanh", {x});
      case 7:
        return onnx("Mul", {x, onnx("Sigmoid", {x})});
      case 8:
        return attention(x, false);
      case 9:
        return attention(x, true);
      case 10:
        return onnx("Add", {x, input_});
      case 11:
        return sliced(x, 1 + random_.below(4));
      case 12:
        return centred(x);
      case 13:
        return onnx("Exp", {onnx("Min", {x, constant({w})})});
      case 14:
        return loop(x, 1 + random_.below(3));
      default:
        return scan(x);
    }
  }

  const Case& c_;
  test::Random random_;
  GraphBuilder b_;
  ValueId input_ = 0;
  int count_ = 0;
};

Result<Replay> record(const Case& c) {
  RandomGraph graph(c);
  Program program = graph.build();
  const Tensor input = graph.input();
  std::vector<int64_t> split;
  if (c.split && c.batch > 1) split = {1, c.batch - 1};
  return record_replay(std::move(program), {input}, split, c.threads);
}

std::string replay_everywhere(const Replay& replay) {
  for (const BackendInfo& info : list_backends()) {
    if (!info.missing.empty()) continue;
    const auto backend = make_backend(info.name);
    if (!backend.ok()) return backend.status().message();
    const Result<std::string> difference = run_replay(replay, **backend);
    if (!difference.ok()) return info.name + ": " + difference.status().message();
    if (!difference->empty()) return info.name + ": " + *difference;
  }
  return "";
}

RC_GTEST_PROP(Replay, EveryBackendGivesTheRecordedDigests, ()) {
  static int saved = 0;
  const auto layer = rc::gen::inRange(0, RandomGraph::kLayers);
  Case c;
  c.layers = *rc::gen::resize(7, rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(layer)));
  c.batch = *rc::gen::inRange<int64_t>(1, 5);
  c.tokens = *rc::gen::inRange<int64_t>(1, 20);
  c.width = 2 * *rc::gen::inRange<int64_t>(1, 40);
  c.steps = *rc::gen::inRange<uint32_t>(1, 4);
  c.threads = *rc::gen::inRange<uint32_t>(1, 6);
  c.split = *rc::gen::arbitrary<bool>();
  c.any_bits = *rc::gen::arbitrary<bool>();
  c.seed = *rc::gen::arbitrary<uint64_t>();
  const Result<Replay> replay = record(c);
  RC_ASSERT(replay.ok());
  const Bytes bytes = encode_replay(*replay);
  const std::string folder = std::string(test::kBinDir) + "/../replays";
  std::filesystem::create_directories(folder);
  RC_ASSERT(write_file(folder + "/case" + std::to_string(saved++) + ".vreplay", bytes).ok());
  const Result<Replay> read = decode_replay(bytes, "case");
  RC_ASSERT(read.ok());
  const std::string difference = replay_everywhere(*read);
  if (!difference.empty()) {
    // Shrinking ends with the least case, so the last file written is that one.
    std::filesystem::create_directories(std::string(test::kTestsDir) + "/replay");
    RC_ASSERT(write_file(std::string(test::kTestsDir) + "/replay/failed.vreplay", bytes).ok());
    RC_FAIL(difference);
  }
}

// Writes the kept cases anew: for a new semantics version or file format.
void record_kept_files() {
  for (int layer = 0; layer < RandomGraph::kLayers; ++layer) {
    const Case c{{layer, (layer + 3) % RandomGraph::kLayers},
                 3,
                 9,
                 22,
                 2,
                 3,
                 true,
                 true,
                 static_cast<uint64_t>(layer)};
    const std::string path =
        std::string(test::kTestsDir) + "/replay/layer" + std::to_string(layer) + ".vreplay";
    ASSERT_TRUE(write_file(path, encode_replay(*record(c))).ok());
  }
}

// The cases that are kept: one for each layer, recorded once (with VERBATIM_RECORD_REPLAYS set,
// anew), and whatever a failure left.
TEST(Replay, KeptFilesGiveTheirDigests) {
  if (std::getenv("VERBATIM_RECORD_REPLAYS") != nullptr) record_kept_files();
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(test::kTestsDir) + "/replay")) {
    if (entry.path().extension() != ".vreplay") continue;
    const Bytes bytes = *read_file(entry.path().string(), 1 << 24);
    const Result<Replay> replay = decode_replay(bytes, entry.path().string());
    ASSERT_TRUE(replay.ok()) << replay.status().message();
    EXPECT_EQ(replay_everywhere(*replay), "") << entry.path();
    ++count;
  }
  EXPECT_GE(count, RandomGraph::kLayers);
}

}  // namespace
}  // namespace verbatim
