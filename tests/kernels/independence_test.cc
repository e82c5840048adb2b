// What a row's bits do not depend on: how many others there are, how K is cut, and how a prompt is
// cut into chunks. Each of these has the work done by other kernels.
#include <algorithm>
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
  Tensor result_of(const Case& c) { return (*run(c.node, c.inputs))[0]; }
};
INSTANTIATE_TEST_SUITE_P(Backends, IndependenceTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

// Rows [from, to) of x [rows, ...], or of each entry of x [1, rows, ...].
Tensor rows_of(const Tensor& x, int64_t from, int64_t to) {
  const int axis = x.rank() == 3 ? 1 : 0;
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

struct Kind {
  const char* name;
  std::function<Case(const Tensor& x, const Tensor& w)> make;
};

Case units(const Tensor& x, const Tensor& w, DType type, bool precise = false) {
  Attributes attributes;
  if (precise) attributes.set("precise", int64_t{1});
  return {node_of("verbatim", "TensorCoreLinear", attributes), {as(type, x), as(type, w)}, {1}};
}
Case codes(const Tensor& x, const Tensor& w, int bits) {
  const QuantizedTensor a = *quantize_rows(x, 1);
  const QuantizedWeights b = *quantize_weights(w, bits, 1);
  return {node_of("verbatim", "QuantizedLinear"),
          {a.codes, a.scales, b.codes, b.scales, b.group_scales},
          {2, 3, 4}};
}
Case slices(const Tensor& x, const Tensor& w, int count) {
  const SlicedTensor a = *slice_tensor(x, count), b = *slice_tensor(w, count);
  return {
      node_of("verbatim", "SlicedLinear"), {a.slices, a.exponents, b.slices, b.exponents}, {2, 3}};
}
Case groups(const Tensor& x, const Tensor& w) {
  const GroupedTensor a = *quantize_groups(x, kMxInt8), b = *quantize_groups(w, kMxInt8);
  return {node_of("verbatim", "GroupedLinear", {{"group", kMxInt8.group}}),
          {a.codes, a.scales, b.codes, b.scales},
          {2, 3}};
}
Case linear(const Tensor& x, const Tensor& w, DType type) {
  return {node_of("verbatim", "Linear"), {as(type, x), as(type, w)}, {1}};
}

const Kind kKinds[] = {
    {"binary32", [](const Tensor& x, const Tensor& w) { return linear(x, w, DType::f32); }},
    {"bf16", [](const Tensor& x, const Tensor& w) { return linear(x, w, DType::bf16); }},
    {"fp16", [](const Tensor& x, const Tensor& w) { return linear(x, w, DType::f16); }},
    {"units bf16", [](const Tensor& x, const Tensor& w) { return units(x, w, DType::bf16); }},
    {"units fp16", [](const Tensor& x, const Tensor& w) { return units(x, w, DType::f16); }},
    {"units fp8", [](const Tensor& x, const Tensor& w) { return units(x, w, DType::f8e4m3); }},
    {"units fp8, precise",
     [](const Tensor& x, const Tensor& w) { return units(x, w, DType::f8e4m3, true); }},
    {"8 bits", [](const Tensor& x, const Tensor& w) { return codes(x, w, 8); }},
    {"4 bits", [](const Tensor& x, const Tensor& w) { return codes(x, w, 4); }},
    {"2 bits", [](const Tensor& x, const Tensor& w) { return codes(x, w, 2); }},
    {"2 slices", [](const Tensor& x, const Tensor& w) { return slices(x, w, 2); }},
    {"4 slices", [](const Tensor& x, const Tensor& w) { return slices(x, w, 4); }},
    {"groups", groups},
};

TEST_P(IndependenceTest, ARowAloneAndAmongOthers) {
  Random r(1);
  for (const Kind& kind : kKinds) {
    SCOPED_TRACE(kind.name);
    const Tensor x = floats(r, {kRows, kK}, Fill::ordinary),
                 w = floats(r, {kColumns, kK}, Fill::ordinary);
    const Tensor all = result_of(kind.make(x, w));
    for (const int64_t count : {1, 2, 8, 16, 17, 33, 64, 65}) {
      const int64_t from = r.below(kRows - count + 1);
      const Tensor some = result_of(kind.make(rows_of(x, from, from + count), w));
      EXPECT_TRUE(identical(some, rows_of(all, from, from + count)))
          << count << " rows from " << from;
    }
  }
}

// K cut into 1 to 64 slices, each a chain of its own: part of what the operator is.
TEST_P(IndependenceTest, SplitsOfK) {
  Random r(1);
  for (int64_t split = 1; split <= 64; ++split) {
    SCOPED_TRACE(std::to_string(split) + " slices");
    Case c = units(floats(r, {r.pick<int64_t>({1, 5, 70}), 2048}, Fill::ordinary),
                   floats(r, {9, 2048}, Fill::ordinary), r.pick({DType::bf16, DType::f16}));
    c.node.attributes.set("split", split);
    expect_reference(*backend_, c);
  }
}

// A prompt at once, and in chunks after one another.
TEST_P(IndependenceTest, APromptInChunks) {
  constexpr int64_t kLength = 300, kSize = 32, kHeads = 4, kKvHeads = 2;
  Random r(1);
  const Attributes attributes = {
      {"heads", kHeads}, {"kv_heads", kKvHeads}, {"scale", 0.2f}, {"causal", int64_t{1}}};
  const struct {
    const char* op;
    DType type;
  } kinds[] = {{"Attention", DType::f32},
               {"Attention", DType::bf16},
               {"AttentionTensorCore", DType::bf16},
               {"AttentionTensorCore", DType::f16},
               {"AttentionInt8", DType::f32}};
  for (const auto& kind : kinds) {
    SCOPED_TRACE(std::string(kind.op) + " of " + std::string(name_of(kind.type)));
    const auto tensor = [&](int64_t heads) {
      return as(kind.type, floats(r, {1, kLength, heads * kSize}, Fill::ordinary));
    };
    const Tensor q = tensor(kHeads), k = tensor(kKvHeads), v = tensor(kKvHeads);
    const auto attend = [&](int64_t from, int64_t to) {
      return result_of({node_of("verbatim", kind.op, attributes),
                        {rows_of(q, from, to), rows_of(k, 0, to), rows_of(v, 0, to)},
                        {}});
    };
    const Tensor whole = attend(0, kLength);
    for (const int64_t chunk : {100, 128, 299}) {
      for (int64_t from = 0; from < kLength; from += chunk) {
        const int64_t to = std::min(kLength, from + chunk);
        EXPECT_TRUE(identical(attend(from, to), rows_of(whole, from, to)))
            << "queries from " << from << " to " << to;
      }
    }
    for (const int64_t query : {0, 7, 127, 128, 299})
      EXPECT_TRUE(identical(attend(query, query + 1), rows_of(whole, query, query + 1)))
          << "query " << query;
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
