// Tensors in a device's memory. Whoever reads elements on the host asks for a copy, and where the
// device has no room the host computes the same.
#include <verbatim/repops/executor.h>
#include <verbatim/repops/replay.h>

#if defined(VERBATIM_EMULATED_GPU)
#include <cuda_runtime.h>
#endif

#include "kernels/compare.h"
#include "kernels/golden.h"

namespace verbatim::test {
namespace {

class DeviceTest : public OnBackend {
 protected:
  // Of a type that lives on the device: there. Others stay.
  Tensor moved(const Tensor& t) {
    if (!t.defined()) return t;
    return (*backend_->run(node_of("", "Identity"), std::span(&t, 1)))[0];
  }
  Tensors moved(const Tensors& tensors) {
    Tensors there;
    for (const Tensor& t : tensors) there.push_back(moved(t));
    return there;
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, DeviceTest, ::testing::Values("cuda"),
                         [](const auto& info) { return info.param; });

// Roots of steps whose outputs the next step takes where they lie.
TEST_P(DeviceTest, AReplayHashesOutputsWhereTheyLie) {
  Random r(1);
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {-1, 8}),
                w = b.constant("w", floats(r, {8, 8}, Fill::ordinary));
  b.output("y", b.add("Tanh", "", {b.add("MatMul", "", {x, w})}));
  const Program program{*b.finish(), {{0, 0}}, 3, {}, 0};
  Replay replay = *record_replay(program, {floats(r, {4, 8}, Fill::ordinary)}, {3, 1}, 1);
  EXPECT_EQ(*run_replay(replay, *backend_), "");
  replay.outputs[2][0] = Digest{};
  EXPECT_NE(*run_replay(replay, *backend_), "");
}

// Some costs depend on elements and not on shapes alone.
TEST_P(DeviceTest, CostsAreThoseOfTheSameTensorsOnTheHost) {
  for (const auto& [file, cases] : golden_cases()) {
    for (const Json& line : cases) {
      const Golden g = *read_golden(line);
      if (g.c.node.domain == "function") continue;
      SCOPED_TRACE(file + ": " + g.name);
      const Tensors outputs = *evaluate_golden(g);
      EXPECT_EQ(operation_count(g.c.node, moved(g.c.inputs), outputs),
                operation_count(g.c.node, g.c.inputs, outputs));
    }
  }
}

// Refuses storage of more bytes, as limits of a node do, and notes what is allocated as a result.
class Limit final : public AllocationGuard {
 public:
  explicit Limit(size_t bytes) : bytes_(bytes) {}
  Result<std::shared_ptr<const void>> admit(const Tensor& t, Purpose purpose) override {
    if (t.byte_size() > bytes_) return over_limit(t.describe());
    if (purpose == Purpose::result) results_.push_back(t.describe());
    return std::shared_ptr<const void>();
  }
  const std::vector<std::string>& results() const { return results_; }

 private:
  const size_t bytes_;
  std::vector<std::string> results_;
};

struct Product {
  Graph graph;
  Tensors inputs;  // of its one node; the second is a weight of 16 KiB
};

Product product() {
  Random r(1);
  const Tensors inputs = {floats(r, {2, 64}, Fill::ordinary), floats(r, {64, 64}, Fill::ordinary)};
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {2, 64});
  b.output("y", b.add("MatMul", "", {x, b.constant("w", inputs[1])}));
  return {*b.finish(), inputs};
}

TEST_P(DeviceTest, WeightsGoThereBeforeANodeHasLimits) {
  const Product p = product();
  const auto runs_there = [&] {
    const Limit limit(1024);
    return (*backend_->run(p.graph.nodes[0], p.inputs))[0].device() != nullptr;
  };
  EXPECT_FALSE(runs_there());
  ASSERT_TRUE(backend_->prepare(p.graph).ok());
  EXPECT_TRUE(runs_there());
}

// Slices that are cut otherwise are others: a first slice has greater codes than a later one.
TEST_P(DeviceTest, SlicesOfAnotherShapeAreLookedAt) {
  Random r(1);
  const Node cut = node_of("verbatim", "Slices", {{"count", int64_t{2}}}, 2);
  Tensor x = floats(r, {2, 64}, Fill::ordinary);
  const Tensor w = floats(r, {8, 64}, Fill::ordinary);
  for (float& v : x.mutable_data<float>()) v = 127;
  const Tensors of_x = *backend_->run(cut, std::span(&x, 1)),
                of_w = *backend_->run(cut, std::span(&w, 1));
  ASSERT_NE(of_x[0].device(), nullptr);
  const Node product = node_of("verbatim", "SlicedLinear");
  EXPECT_TRUE(backend_->run(product, Tensors{of_x[0], of_x[1], of_w[0], of_w[1]}).ok());
  const Tensor one = *Tensor::zeros(DType::i32, Shape{1});
  const Tensors otherwise = {*of_x[0].reshaped(Shape{4, 1, 64}), one, of_w[0], of_w[1]};
  Tensors there = otherwise;
  for (Tensor& t : there) t = *t.on_host();
  const auto want = evaluate_reference(product, there);
  ASSERT_FALSE(want.ok());
  const auto have = backend_->run(product, otherwise);
  ASSERT_FALSE(have.ok());
  EXPECT_EQ(have.status().message(), want.status().message());
}

// What a node is charged for is what it gives.
TEST_P(DeviceTest, CopiesAreNoResults) {
  Random r(1);
  const Tensor x = floats(r, {3, 4}, Fill::ordinary), there = moved(x);
  ASSERT_NE(there.device(), nullptr);
  for (const Node& node : {node_of("", "ArgMax", {{"axis", int64_t{1}}}), node_of("", "Tanh")}) {
    for (const Tensor& t : {x, there}) {
      const Limit limit(SIZE_MAX);
      const Tensors outputs = *backend_->run(node, std::span(&t, 1));
      EXPECT_EQ(limit.results(), std::vector{outputs[0].describe()}) << node.op;
    }
  }
}

// Exponents that a node left there need not be those of QuantizeValues.
TEST_P(DeviceTest, ACacheOfOtherExponentsIsRefused) {
  const Attributes heads{{"heads", int64_t{1}}};
  const Tensor x = *Tensor::zeros(DType::f32, Shape{1, 3, 4});
  const Tensors k = *backend_->run(node_of("verbatim", "QuantizeKeys", heads, 2), Tensors{x}),
                v = *backend_->run(node_of("verbatim", "QuantizeValues", heads, 2), Tensors{x}),
                slices = *backend_->run(node_of("verbatim", "Slices", {{"count", int64_t{1}}}, 2),
                                        Tensors{*x.reshaped(Shape{1, 3, 1, 4})});
  ASSERT_NE(v[1].device(), nullptr);
  ASSERT_NE(slices[1].device(), nullptr);
  const Node node =
      node_of("verbatim", "AttentionInt8Cached", {{"heads", int64_t{1}}, {"scale", 0.5f}});
  const Result<Tensors> good = backend_->run(node, Tensors{x, k[0], v[0], k[1], v[1]});
  ASSERT_TRUE(good.ok()) << good.status().message();
  EXPECT_NE((*good)[0].device(), nullptr);
  EXPECT_FALSE(backend_->run(node, Tensors{x, k[0], v[0], k[1], slices[1]}).ok());
}

#if defined(VERBATIM_EMULATED_GPU)

// While it lives, the device refuses storage of more bytes.
class Room {
 public:
  explicit Room(size_t bytes) { emulated::g_most_bytes = bytes; }
  ~Room() { emulated::g_most_bytes = SIZE_MAX; }
};

Case attention_of_few_rows(const char* op, DType type) {
  Random r(1);
  const auto x = [&](const Shape& shape) { return numbers(r, type, shape, Fill::ordinary); };
  return {node_of("verbatim", op, {{"heads", int64_t{4}}, {"scale", 0.1f}}),
          {x({1, 1, 64}), x({1, 300, 64}), x({1, 300, 64})},
          {}};
}

// A product, elementwise kernels, rows, one of the device's own, and movements of both kinds.
std::vector<Case> cases() {
  Random r(1);
  const auto x = [&](const Shape& shape) { return floats(r, shape, Fill::ordinary); };
  const std::vector<int64_t> swapped = {1, 0}, rows(64, 3);
  const auto int8_attention = [&](int64_t queries, int64_t size) {
    return Case{node_of("verbatim", "AttentionInt8", {{"heads", int64_t{2}}, {"scale", 0.1f}}),
                {x({1, queries, 2 * size}), x({1, 140, 2 * size}), x({1, 140, 2 * size})},
                {}};
  };
  const auto cached = [](Case c) {
    const Attributes heads{{"heads", int64_t{2}}};
    const Tensors k = *evaluate_reference(node_of("verbatim", "QuantizeKeys", heads, 2),
                                          Tensors{c.inputs[1]}),
                  v = *evaluate_reference(node_of("verbatim", "QuantizeValues", heads, 2),
                                          Tensors{c.inputs[2]});
    c.node.op = "AttentionInt8Cached";
    c.inputs = {c.inputs[0], k[0], v[0], k[1], v[1]};
    return c;
  };
  return {{node_of("", "MatMul"), {x({4, 64}), x({64, 32})}, {}},
          {node_of("", "Add"), {x({64, 1}), x({64})}, {}},
          {node_of("", "Softmax"), {x({8, 40})}, {}},
          {node_of("verbatim", "QuantizeRows", {}, 2), {x({8, 40})}, {}},
          {node_of("verbatim", "QuantizeKeys", {{"heads", int64_t{2}}}, 2), {x({1, 3, 40})}, {}},
          {node_of("verbatim", "QuantizeValues", {{"heads", int64_t{2}}}, 2), {x({1, 3, 40})}, {}},
          attention_of_few_rows("Attention", DType::f32),
          attention_of_few_rows("AttentionTensorCore", DType::bf16),
          int8_attention(3, 20),
          int8_attention(70, 64),
          cached(int8_attention(3, 20)),
          cached(int8_attention(70, 64)),
          {node_of("", "Transpose", {{"perm", swapped}}), {x({8, 40})}, {}},
          {node_of("", "Gather"), {x({64, 1}), *Tensor::from<int64_t>({64}, rows)}, {}}};
}

// Whether it is an operand that finds no room, a result or what a kernel needs besides; and the
// next launch is not told of it.
TEST_P(DeviceTest, WithoutRoomTheHostComputes) {
  for (const Case& c : cases()) {
    const Tensors want = *evaluate_reference(c.node, c.inputs);
    for (const Tensors& inputs : {c.inputs, moved(c.inputs)}) {
      for (const size_t bytes : {size_t{0}, size_t{256}, size_t{2048}, size_t{SIZE_MAX}}) {
        SCOPED_TRACE(c.node.op + ", at most " + std::to_string(bytes) + " bytes");
        const Room room(bytes);
        const Result<Tensors> have = backend_->run(c.node, inputs);
        ASSERT_TRUE(have.ok()) << have.status().message();
        if (bytes == 0 || bytes == SIZE_MAX) {
          EXPECT_EQ((*have)[0].device() == nullptr, bytes == 0);
        }
        for (size_t i = 0; i < want.size(); ++i)
          EXPECT_TRUE(identical(want[i], *(*have)[i].on_host())) << i;
      }
    }
  }
}

// Without room for what blocks of keys come to another kernel attends, that needs none.
TEST_P(DeviceTest, WithoutRoomForBlocksOfKeysTheDeviceAttends) {
  for (const Case& c : {attention_of_few_rows("Attention", DType::f32),
                        attention_of_few_rows("AttentionTensorCore", DType::bf16)}) {
    SCOPED_TRACE(c.node.op);
    const Tensors inputs = moved(c.inputs);
    const Room room(512);
    const Tensors have = *backend_->run(c.node, inputs);
    EXPECT_NE(have[0].device(), nullptr);
    EXPECT_TRUE(identical((*evaluate_reference(c.node, c.inputs))[0], *have[0].on_host()));
  }
}

// A weight for which there is no room goes there once there is.
TEST_P(DeviceTest, WithoutRoomForAWeightTheHostComputes) {
  const Product p = product();
  const Tensors want = *evaluate_reference(p.graph.nodes[0], p.inputs);
  for (const size_t bytes : {size_t{1024}, size_t{SIZE_MAX}}) {
    const Room room(bytes);
    const Status status = backend_->prepare(p.graph);
    ASSERT_TRUE(status.ok()) << status.message();
    const Tensors have = *backend_->run(p.graph.nodes[0], p.inputs);
    EXPECT_EQ(have[0].device() == nullptr, bytes == 1024);
    EXPECT_TRUE(identical(want[0], *have[0].on_host()));
  }
}

#endif

}  // namespace
}  // namespace verbatim::test
