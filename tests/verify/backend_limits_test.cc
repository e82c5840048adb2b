// Limits mean the same on every processor: where the scalar reference may compute a node, so may
// the backends that pack weights and copy rows for it.
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/sliced.h>
#include <verbatim/verify/limits.h>

#include <chrono>

#include "support.h"

namespace verbatim::test {
namespace {

uint64_t bytes_of(std::span<const Tensor> tensors) {
  uint64_t sum = 0;
  for (const Tensor& t : tensors) sum += t.byte_size();
  return sum;
}

// Whoever may compute it with the reference and not a byte or an operation more.
void expect_every_backend_may(const Node& node, const Tensors& inputs) {
  SCOPED_TRACE(node.op + " of " + inputs[0].describe());
  const auto reference = make_reference_backend();
  uint64_t operations = 0;
  const NodeLimits wide;
  const Tensors want =
      ok(run_limited(*reference, {wide, wide}, node, inputs, {}, nullptr, &operations));
  const NodeLimits least{operations, wide.tensor_bytes, bytes_of(inputs) + bytes_of(want)};
  ok(run_limited(*reference, {least, least}, node, inputs));
  for (const BackendInfo& info : list_backends()) {
    if (!info.missing.empty()) continue;
    const auto backend = ok(make_backend(info.name));
    const Result<Tensors> have = run_limited(*backend, {least, least}, node, inputs);
    ASSERT_TRUE(have.ok()) << info.name << ": " << have.status().message();
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_TRUE(identical(want[i], (*have)[i])) << info.name;
  }
}

Node node_of(std::string_view domain, std::string_view op, size_t inputs, int outputs = 1) {
  Node node;
  node.domain = domain;
  node.op = op;
  for (size_t i = 0; i < inputs; ++i) node.inputs.push_back(static_cast<ValueId>(i));
  for (int i = 0; i < outputs; ++i)
    node.outputs.push_back(static_cast<ValueId>(inputs) + static_cast<ValueId>(i));
  return node;
}

TEST(BackendLimits, WhatTheReferenceMayComputeEveryBackendMay) {
  Random r(3);
  const auto f32 = [&](const Shape& shape) { return r.tensor(shape); };
  // Few rows, few columns, a short K: copies and panels are far larger than the operands.
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{4096, 1, 16}, {1, 300, 200}, {70, 90, 1}}) {
    const QuantizedTensor a = ok(quantize_rows(f32({m, k}), 1)),
                          b = ok(quantize_rows(f32({n, k}), 1));
    expect_every_backend_may(node_of("verbatim", "QuantizedLinear", 4),
                             {a.codes, a.scales, b.codes, b.scales});
    const SlicedTensor c = ok(slice_tensor(f32({m, k}), 2)), d = ok(slice_tensor(f32({n, k}), 3));
    expect_every_backend_may(node_of("verbatim", "SlicedLinear", 4),
                             {c.slices, c.exponents, d.slices, d.exponents});
    expect_every_backend_may(node_of("verbatim", "Linear", 2), {f32({m, k}), f32({n, k})});
    expect_every_backend_may(node_of("", "MatMul", 2), {f32({2, m, k}), f32({2, k, n})});
    const auto rounded = [&](const Tensor& t) {
      Node cast = node_of("", "Cast", 1);
      cast.attributes.set("to", static_cast<int64_t>(DType::bf16));
      return ok(make_reference_backend()->run(cast, Tensors{t}))[0];
    };
    expect_every_backend_may(node_of("verbatim", "TensorCoreLinear", 2),
                             {rounded(f32({m, k})), rounded(f32({n, k}))});
    expect_every_backend_may(node_of("verbatim", "Linear", 2),
                             {rounded(f32({m, k})), rounded(f32({n, k}))});
    expect_every_backend_may(node_of("", "MatMul", 2),
                             {rounded(f32({2, m, k})), rounded(f32({2, k, n}))});
    expect_every_backend_may(node_of("", "Conv", 2),
                             {rounded(f32({1, k, m})), rounded(f32({n, k, 1}))});
    Node attention = node_of("verbatim", "Attention", 3);
    attention.attributes.set("heads", int64_t{1});
    attention.attributes.set("scale", 1.0f);
    expect_every_backend_may(attention, {rounded(f32({1, std::min<int64_t>(m, 70), k})),
                                         rounded(f32({1, n, k})), rounded(f32({1, n, k}))});
    attention.op = "AttentionTensorCore";
    expect_every_backend_may(attention, {rounded(f32({1, std::min<int64_t>(m, 70), k})),
                                         rounded(f32({1, n, k})), rounded(f32({1, n, k}))});
    const auto fixed = [&](const Shape& shape) { return ok(Tensor::zeros(DType::i32, shape)); };
    expect_every_backend_may(node_of("verbatim", "FixedDot", 2, 2), {fixed({m, k}), fixed({n, k})});
  }
}

// What is beyond the limits is refused before it is computed: each of these would take minutes.
TEST(BackendLimits, WhatIsRefusedIsNotComputed) {
  const auto zeros = [](DType type, std::initializer_list<int64_t> dims) {
    return ok(Tensor::zeros(type, dims));
  };
  const NodeLimits wide, few{1'000'000, wide.tensor_bytes, wide.node_bytes};
  const auto expect_refused = [&](const Node& node, const Tensors& inputs) {
    for (const BackendInfo& info : list_backends()) {
      if (!info.missing.empty()) continue;
      const auto start = std::chrono::steady_clock::now();
      const Result<Tensors> result =
          run_limited(*ok(make_backend(info.name)), {few, few}, node, inputs);
      EXPECT_EQ(result.status().code(), StatusCode::limit) << node.op << " on " << info.name;
      EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30))
          << node.op << " on " << info.name;
    }
  };
  Node attention = node_of("verbatim", "Attention", 3);
  attention.attributes.set("heads", int64_t{1});
  attention.attributes.set("scale", 1.0f);
  const Tensor rows = zeros(DType::bf16, {1, 300'000, 64});
  expect_refused(attention, {rows, rows, rows});
  attention.op = "AttentionTensorCore";
  expect_refused(attention, {rows, rows, rows});
  expect_refused(node_of("", "Conv", 2),
                 {zeros(DType::bf16, {64, 256, 64, 64}), zeros(DType::bf16, {256, 256, 3, 3})});
  // One page that all sequences share.
  Node cached = node_of("verbatim", "AttentionInt8Cached", 7);
  cached.inputs[5] = kAbsent;
  cached.attributes = attention.attributes;
  expect_refused(cached,
                 {zeros(DType::f32, {512, 1, 32}), zeros(DType::i8, {1, 4096, 32}),
                  zeros(DType::i8, {1, 4096, 32}), zeros(DType::f32, {1, 4096, 1}),
                  zeros(DType::i32, {1, 4096, 1}), Tensor(), zeros(DType::i64, {512, 4096})});
}

// Shapes whose product is beyond all memory while they hold nothing.
TEST(BackendLimits, EmptyOperandsOfLargeShapes) {
  const auto zeros = [](DType type, std::initializer_list<int64_t> dims) {
    return ok(Tensor::zeros(type, dims));
  };
  Node grouped = node_of("verbatim", "GroupedLinear", 4);
  grouped.attributes = {{"bits", int64_t{8}},
                        {"group", int64_t{256}},
                        {"scale", static_cast<int64_t>(DType::f8e8m0)}};
  const auto outcome = [](Backend& backend, const Node& node, const Tensors& inputs) {
    const Result<Tensors> y = backend.run(node, inputs);
    return y.ok() ? (*y)[0].describe() : std::to_string(static_cast<int>(y.status().code()));
  };
  const std::pair<Node, Tensors> cases[] = {
      {grouped,
       {zeros(DType::i8, {1, 0}), zeros(DType::f8e8m0, {1, 0}), zeros(DType::i8, {65536, 0}),
        zeros(DType::f8e8m0, {65536, 0})}},
      {grouped,
       {zeros(DType::i8, {0, 524288}), zeros(DType::f8e8m0, {0, 2048}),
        zeros(DType::i8, {0, 524288}), zeros(DType::f8e8m0, {0, 2048})}},
      {node_of("", "Gemm", 2), {zeros(DType::f32, {0, 1}), zeros(DType::f32, {1, 2097152})}},
      {node_of("", "MatMul", 2), {zeros(DType::f32, {0, 1}), zeros(DType::f32, {1, 2097152})}},
  };
  for (const auto& [node, inputs] : cases) {
    const std::string want = outcome(*make_reference_backend(), node, inputs);
    for (const BackendInfo& info : list_backends())
      if (info.missing.empty()) {
        EXPECT_EQ(outcome(*ok(make_backend(info.name)), node, inputs), want)
            << node.op << " on " << info.name;
      }
  }
}

// Short rows that take many times their own size once they are copied are not copied all at once.
TEST(BackendLimits, ManyShortRows) {
  const int64_t rows = 300'000;
  const Tensor codes = ok(Tensor::zeros(DType::i8, Shape{rows, 1})),
               w = ok(Tensor::zeros(DType::i8, Shape{1, 1})),
               scales = ok(Tensor::zeros(DType::f32, Shape{rows})),
               scale = ok(Tensor::zeros(DType::f32, Shape{1}));
  for (const BackendInfo& info : list_backends()) {
    if (!info.missing.empty()) continue;
    const auto memory = MemoryBudget::create(uint64_t{72} << 20);
    const NodeLimits limits;
    EXPECT_TRUE(run_limited(*ok(make_backend(info.name)), {limits, limits},
                            node_of("verbatim", "QuantizedLinear", 4),
                            Tensors{codes, scales, w, scale}, {}, memory)
                    .ok())
        << info.name;
  }
}

}  // namespace
}  // namespace verbatim::test
