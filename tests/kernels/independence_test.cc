// What a row's bits do not depend on: how many others there are, how K is cut, and how a prompt is
// cut into chunks. Each of these has the work done by other kernels.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>

#include <verbatim/repops/executor.h>
#include <verbatim/repops/ops/grouped.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/sliced.h>

#include "kernels/compare.h"
#include "support/small_transformer.h"

namespace verbatim::test {
namespace {

class IndependenceTest : public OnBackend {
 protected:
  // Computed by the device, where there is one.
  Tensor result_of(const Node& node, const Tensors& inputs) {
    const Tensors outputs = *backend_->run(node, inputs);
    if (has_warp_groups(*backend_)) {
      EXPECT_NE(outputs[0].device(), nullptr);
    }
    return *outputs[0].on_host();
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, IndependenceTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

// Rows [from, to) of x [rows, ...], or of x [1, rows, ...].
Tensor rows_of(const Tensor& x, int64_t from, int64_t to) {
  const int axis = x.rank() == 3 ? 1 : 0;
  if (axis == 1 && x.dim(0) != 1) std::abort();
  std::vector<int64_t> dims(x.shape().dims().begin(), x.shape().dims().end());
  const size_t row = x.byte_size() / static_cast<size_t>(dims[axis]);
  dims[axis] = to - from;
  Tensor some = *Tensor::allocate(x.dtype(), *Shape::of(dims));
  std::memcpy(some.mutable_bytes().data(), x.bytes().data() + static_cast<size_t>(from) * row,
              some.byte_size());
  return some;
}

Tensor as(DType type, const Tensor& x) {
  return (*evaluate_reference(node_of("", "Cast", {{"to", static_cast<int64_t>(type)}}),
                              std::span(&x, 1)))[0];
}

constexpr int64_t kRows = 128, kColumns = 72, kK = 256;

// A kind of products: what it makes of rows of numbers, and of weights.
struct Kind {
  const char* name;
  Node node;
  std::function<Tensors(const Tensor&x)> rows, weights;
};

Kind of_type(const char* name, const char* op, DType type, Attributes attributes = {}) {
  const auto cast = [type](const Tensor& x) { return Tensors{as(type, x)}; };
  return {name, node_of("verbatim", op, std::move(attributes)), cast, cast};
}
Kind of_bits(const char* name, int bits) {
  return {name, node_of("verbatim", "QuantizedLinear"),
          [](const Tensor& x) {
            const QuantizedTensor q = *quantize_rows(x, 1);
            return Tensors{q.codes, q.scales};
          },
          [bits](const Tensor& w) {
            const QuantizedWeights q = *quantize_weights(w, bits, 1);
            Tensors all = {q.codes, q.scales};
            if (q.group_scales.defined()) all.push_back(q.group_scales);
            return all;
          }};
}
Kind of_slices(const char* name, int count) {
  const auto slice = [count](const Tensor& x) {
    const SlicedTensor s = *slice_tensor(x, count);
    return Tensors{s.slices, s.exponents};
  };
  return {name, node_of("verbatim", "SlicedLinear"), slice, slice};
}
Kind of_groups(const char* name) {
  const auto quantize = [](const Tensor& x) {
    const GroupedTensor q = *quantize_groups(x, kMxInt8);
    return Tensors{q.codes, q.scales};
  };
  return {name, node_of("verbatim", "GroupedLinear", {{"group", kMxInt8.group}}), quantize,
          quantize};
}

std::vector<Kind> kinds() {
  const Attributes precise = {{"precise", int64_t{1}}};
  return {of_type("binary32", "Linear", DType::f32),
          of_type("bf16", "Linear", DType::bf16),
          of_type("fp16", "Linear", DType::f16),
          of_type("units, bf16", "TensorCoreLinear", DType::bf16),
          of_type("units, fp16", "TensorCoreLinear", DType::f16),
          of_type("units, fp8", "TensorCoreLinear", DType::f8e4m3),
          of_type("units, fp8, precise", "TensorCoreLinear", DType::f8e4m3, precise),
          of_bits("8 bits", 8),
          of_bits("4 bits", 4),
          of_bits("2 bits", 2),
          of_slices("2 slices", 2),
          of_slices("4 slices", 4),
          of_groups("groups")};
}

// The kind's one node, with its weights as constants.
Graph graph_of(const Kind& kind, const Tensors& rows, const Tensors& weights) {
  GraphBuilder b;
  std::vector<ValueId> inputs;
  for (const Tensor& t : rows) {
    std::vector<int64_t> any(static_cast<size_t>(t.rank()), -1);
    inputs.push_back(b.input("x" + std::to_string(inputs.size()), t.dtype(), std::move(any)));
  }
  for (const Tensor& t : weights)
    inputs.push_back(b.constant("w" + std::to_string(inputs.size()), t));
  b.output("y", b.add(kind.node.op, kind.node.domain, inputs, kind.node.attributes));
  return *b.finish();
}

TEST_P(IndependenceTest, ARowAloneAndAmongOthers) {
  Random r(1);
  for (const Kind& kind : kinds()) {
    SCOPED_TRACE(kind.name);
    const Tensor x = floats(r, {kRows, kK}, Fill::ordinary);
    const Tensors weights = kind.weights(floats(r, {kColumns, kK}, Fill::ordinary));
    const Graph graph = graph_of(kind, kind.rows(x), weights);
    ASSERT_TRUE(backend_->prepare(graph).ok());
    const auto product = [&](int64_t from, int64_t to) {
      Tensors inputs = kind.rows(rows_of(x, from, to));
      inputs.insert(inputs.end(), weights.begin(), weights.end());
      return result_of(graph.nodes[0], inputs);
    };
    const Tensor all = product(0, kRows);
    for (const int64_t count : {1, 2, 8, 16, 17, 33, 64, 65}) {
      const int64_t from = r.below(kRows - count + 1);
      EXPECT_TRUE(identical(product(from, from + count), rows_of(all, from, from + count)))
          << count << " rows from " << from;
    }
  }
}

// K cut into 1 to 64 slices, the last one shorter, each a chain of its own: part of what the
// operator is.
TEST_P(IndependenceTest, SplitsOfK) {
  Random r(1);
  for (int64_t split = 1; split <= 64; ++split) {
    SCOPED_TRACE(std::to_string(split) + " slices");
    const int64_t k = 128 * split - 40;
    const Kind kind =
        of_type("units", "TensorCoreLinear", r.pick({DType::bf16, DType::f16}), {{"split", split}});
    const Tensors x = kind.rows(floats(r, {r.pick<int64_t>({1, 3, 17}), k}, Fill::ordinary)),
                  w = kind.weights(floats(r, {3, k}, Fill::ordinary));
    ASSERT_TRUE(evaluate_reference(kind.node, Tensors{x[0], w[0]}).ok());
    expect_reference(*backend_, Case{kind.node, {x[0], w[0]}, {1}});
  }
}

// A prompt at once, and in chunks after one another, of `length` keys: the last `queries` of them.
struct Prompt {
  const char* op;
  DType type;
  int64_t length, queries, chunk;
};

TEST_P(IndependenceTest, APromptInChunks) {
  constexpr int64_t kSize = 64, kHeads = 4, kKvHeads = 2;
  Random r(1);
  for (const Prompt& p : {Prompt{"Attention", DType::f32, 200, 200, 77},
                          Prompt{"Attention", DType::bf16, 200, 200, 128},
                          Prompt{"AttentionTensorCore", DType::bf16, 300, 300, 128},
                          Prompt{"AttentionTensorCore", DType::f16, 200, 200, 199},
                          Prompt{"AttentionTensorCore", DType::bf16, 2300, 66, 65},
                          Prompt{"AttentionInt8", DType::f32, 300, 300, 128}}) {
    SCOPED_TRACE(std::string(p.op) + " of " + std::string(name_of(p.type)));
    Attributes attributes = {
        {"heads", kHeads}, {"kv_heads", kKvHeads}, {"scale", 0.2f}, {"causal", int64_t{1}}};
    // Rounded to 16 bits, results would hide what differs.
    if (p.op == std::string("AttentionTensorCore"))
      attributes.set("output", static_cast<int64_t>(DType::f32));
    const auto tensor = [&](int64_t heads) {
      return as(p.type, floats(r, {1, p.length, heads * kSize}, Fill::ordinary));
    };
    const Tensor q = tensor(kHeads), k = tensor(kKvHeads), v = tensor(kKvHeads);
    const auto attend = [&](int64_t from, int64_t to) {
      return result_of(node_of("verbatim", p.op, attributes),
                       {rows_of(q, from, to), rows_of(k, 0, to), rows_of(v, 0, to)});
    };
    const int64_t first = p.length - p.queries;
    const Tensor whole = attend(first, p.length);
    const auto expect_part = [&](int64_t from, int64_t to) {
      EXPECT_TRUE(identical(attend(from, to), rows_of(whole, from - first, to - first)))
          << "queries from " << from << " to " << to;
    };
    for (int64_t from = first; from < p.length; from += p.chunk)
      expect_part(from, std::min(p.length, from + p.chunk));
    for (const int64_t query : {int64_t{0}, p.queries / 2, p.queries - 1})
      expect_part(first + query, first + query + 1);
  }
}

// A whole model: 64 sequences at once, and one.
TEST_P(IndependenceTest, ASequenceAloneAndAmong64) {
  constexpr int64_t kBatch = 64, kLength = 9;
  const SmallTransformer small = small_transformer(1, kLength);
  const Tensors data = small_data(2, 1, kBatch, kLength);
  const Executor executor = *Executor::create(small.graph, *backend_);
  const auto logits = [&](int64_t from, int64_t to) {
    Tensors inputs;
    for (const Tensor& t : data)
      inputs.push_back(rows_of(*t.reshaped(Shape{kBatch, kLength}), from, to));
    return (*executor.run_step(0, inputs))[0];
  };
  const Tensor all = *logits(0, kBatch).reshaped(Shape{kBatch, kLength * kSmallVocabulary});
  for (const int64_t i : {0, 1, 31, 63}) {
    const Tensor alone = logits(i, i + 1), among = rows_of(all, i, i + 1);
    EXPECT_TRUE(identical(*alone.reshaped(among.shape()), among)) << "sequence " << i;
  }
}

}  // namespace
}  // namespace verbatim::test
