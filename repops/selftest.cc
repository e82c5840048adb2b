#include <verbatim/repops/selftest.h>

#include <vector>

#include <verbatim/core/fp_guard.h>
#include <verbatim/core/philox.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/ops/grouped.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/tensor_core.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {
namespace {

// Reproducible tensors. Every third value is drawn from all bit patterns, subnormals, infinities
// and NaN among them, where `wild`.
class Inputs {
 public:
  explicit Inputs(uint64_t seed) : seed_(seed) {}

  Tensor floats(const Shape& shape, bool wild = false) {
    std::vector<float> v(static_cast<size_t>(shape.elements()));
    for (float& x : v)
      x = wild && next() % 3 == 0 ? float_of(static_cast<uint32_t>(next())) : moderate();
    return *Tensor::from<float>(shape, v);
  }
  Tensor integers(const Shape& shape, int64_t bound) {
    std::vector<int64_t> v(static_cast<size_t>(shape.elements()));
    for (int64_t& x : v) x = static_cast<int64_t>(next() % static_cast<uint64_t>(bound));
    return *Tensor::from<int64_t>(shape, v);
  }

 private:
  uint64_t next() { return philox_u64(seed_, position_++, 0); }
  float moderate() { return moderate_float(next()); }
  uint64_t seed_, position_ = 0;
};

// A graph under construction whose outputs are all hashed.
class Group {
 public:
  ValueId constant(Tensor t) { return b_.constant("c" + std::to_string(count_++), std::move(t)); }
  ValueId onnx(std::string_view op, std::vector<ValueId> in, Attributes a = {}) {
    return keep(b_.add(op, "", std::move(in), std::move(a)));
  }
  ValueId own(std::string_view op, std::vector<ValueId> in, Attributes a = {}, int outputs = 1) {
    const ValueId first = b_.add(op, kVerbatimDomain, std::move(in), std::move(a), "", outputs);
    for (int i = 0; i < outputs; ++i) keep(first + i);
    return first;
  }
  Result<Digest> digest(Backend& backend) {
    VB_ASSIGN(const Graph graph, b_.finish());
    VB_ASSIGN(const Executor executor, Executor::create(graph, backend));
    VB_ASSIGN(const Tensors outputs, executor.run_step(0, {}));
    Writer w;
    for (const Tensor& t : outputs) w.raw(tensor_root(t).bytes);
    return tagged_hash("verbatim.selftest.1", w.bytes());
  }

 private:
  ValueId keep(ValueId v) {
    b_.output("o" + std::to_string(count_++), v);
    return v;
  }
  GraphBuilder b_;
  int count_ = 0;
};

void unary(Group& g, Inputs& in) {
  const ValueId x = g.constant(in.floats({97, 31}, true));
  for (const char* op :
       {"Exp",  "Log",  "Sin",   "Cos",   "Tan",   "Asin", "Acos",      "Atan",     "Sinh",
        "Cosh", "Tanh", "Asinh", "Acosh", "Atanh", "Erf",  "Sigmoid",   "Softplus", "Sqrt",
        "Neg",  "Abs",  "Floor", "Ceil",  "Round", "Gelu", "Reciprocal"})
    g.onnx(op, {x});
}

void elementwise(Group& g, Inputs& in) {
  const ValueId a = g.constant(in.floats({5, 7, 33}, true)),
                b = g.constant(in.floats({7, 1}, true)), c = g.constant(in.floats({5, 7, 33}));
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Less", "Equal"})
    g.onnx(op, {a, b});
  g.onnx("Where", {g.onnx("Greater", {a, b}), a, c});
  for (int64_t to : {10, 16, 6, 11}) g.onnx("Cast", {a}, {{"to", to}});
}

void reduction(Group& g, Inputs& in) {
  const ValueId x = g.constant(in.floats({3, 1100, 5}));
  const ValueId axis = g.constant(*Tensor::from<int64_t>(Shape{1}, std::vector<int64_t>{1}));
  for (const char* op :
       {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"})
    g.onnx(op, {x, axis});
  g.onnx("ArgMax", {x}, {{"axis", int64_t{1}}});
}

void matmul(Group& g, Inputs& in) {
  const ValueId x = g.constant(in.floats({37, 1300})), w = g.constant(in.floats({45, 1300})),
                bias = g.constant(in.floats({45}));
  g.own("Linear", {x, w, bias});
  g.own("Linear", {g.constant(in.floats({1, 700}, true)), g.constant(in.floats({19, 700}))});
  g.onnx("MatMul", {g.constant(in.floats({2, 3, 9, 65})), g.constant(in.floats({3, 65, 17}))});
  g.onnx("Gemm",
         {g.constant(in.floats({23, 11})), g.constant(in.floats({29, 23})),
          g.constant(in.floats({29}))},
         {{"transA", int64_t{1}}, {"transB", int64_t{1}}, {"alpha", 0.75f}, {"beta", 1.5f}});
}

void normalization(Group& g, Inputs& in) {
  const ValueId x = g.constant(in.floats({13, 384})), gamma = g.constant(in.floats({384})),
                beta = g.constant(in.floats({384}));
  g.onnx("Softmax", {x});
  g.onnx("LogSoftmax", {x});
  g.onnx("LayerNormalization", {x, gamma, beta});
  g.onnx("RMSNormalization", {x, gamma});
  g.own("L2Normalize", {x});
  g.own("MeanPool", {g.constant(in.floats({3, 40, 24})), g.constant(in.integers({3}, 40))});
}

void attention(Group& g, Inputs& in) {
  const Attributes plain = {{"heads", int64_t{4}}, {"scale", 0.25f}};
  g.own("Attention",
        {g.constant(in.floats({2, 19, 64})), g.constant(in.floats({2, 150, 64})),
         g.constant(in.floats({2, 150, 64})),
         g.constant(*Tensor::from<int64_t>(Shape{2}, std::vector<int64_t>{150, 33}))},
        plain);
  // Past the restart at 2048 keys, grouped heads, causal.
  g.own("Attention",
        {g.constant(in.floats({1, 3, 32})), g.constant(in.floats({1, 2200, 16})),
         g.constant(in.floats({1, 2200, 16}))},
        {{"heads", int64_t{4}},
         {"kv_heads", int64_t{2}},
         {"scale", 0.35355338f},
         {"causal", int64_t{1}}});
  g.own("RotaryEmbedding",
        {g.constant(in.floats({2, 9, 64})), g.constant(in.floats({9, 8})),
         g.constant(in.floats({9, 8}))},
        {{"heads", int64_t{4}}});
}

void sliced(Group& g, Inputs& in) {
  for (int64_t p = 1; p <= 4; ++p) {
    const ValueId x =
        g.own("Slices", {g.constant(in.floats({11, 530}, p == 2))}, {{"count", p}}, 2);
    const ValueId w =
        g.own("Slices", {g.constant(in.floats({21, 530}))}, {{"count", 1 + p % 4}}, 2);
    g.own("SlicedLinear", {x, x + 1, w, w + 1});
  }
}

// Rotated int8 rows, with weights of 8 bits and of 4, whose groups have scales; int8 attention past
// the restart.
void quantized(Group& g, Inputs& in) {
  const ValueId x = g.own("QuantizeRows", {g.constant(in.floats({11, 384}, true))},
                          {{"rotation", int64_t{128}}}, 2);
  for (const int bits : {8, 4}) {
    const QuantizedWeights w = *quantize_weights(in.floats({21, 384}), bits, 128);
    std::vector<ValueId> inputs = {x, x + 1, g.constant(w.codes), g.constant(w.scales)};
    if (w.group_scales.defined()) inputs.push_back(g.constant(w.group_scales));
    g.own("QuantizedLinear", inputs);
  }
  for (int64_t slices = 1; slices <= 2; ++slices)
    g.own("AttentionInt8",
          {g.constant(in.floats({1, 3, 48})), g.constant(in.floats({1, 2200, 24})),
           g.constant(in.floats({1, 2200, 24}))},
          {{"heads", int64_t{4}},
           {"kv_heads", int64_t{2}},
           {"scale", 0.3f},
           {"causal", int64_t{1}},
           {"weight_slices", slices}});
}

// Products of every member with the types that it has, whole, split and precise.
void tensor_core(Group& g, Inputs& in) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f8e4m3, DType::f8e5m2}) {
    const auto operand = [&](const Shape& shape) {
      return g.onnx("Cast", {g.constant(in.floats(shape))}, {{"to", static_cast<int64_t>(dtype)}});
    };
    const ValueId x = operand({5, 640}), w = operand({7, 640});
    for (const char* member : {"sm90", "sm90_mma", "sm89", "sm80"}) {
      if (!tensor_core::unit_of(member, dtype, dtype).ok()) continue;
      for (const int64_t split : {1, 2})
        g.own("TensorCoreLinear", {x, w}, {{"member", std::string(member)}, {"split", split}});
      if (is_float8(dtype))
        g.own("TensorCoreLinear", {x, w},
              {{"member", std::string(member)}, {"precise", int64_t{1}}});
    }
  }
}

// Groups with floating scales, weights of one bit, and caches of keys and values.
void grouped(Group& g, Inputs& in) {
  const ValueId x = g.constant(in.floats({11, 160}, true)), w = g.constant(in.floats({7, 160}));
  for (const GroupFormat& f : {kMxInt8, kNvInt4, kNvInt4Rotated, GroupFormat{4, 64}}) {
    const bool rows = f.scale == DType::f8e4m3;
    const Attributes a = {{"bits", int64_t{f.bits}},
                          {"group", f.group},
                          {"scale_type", static_cast<int64_t>(f.scale)},
                          {"rotation", f.rotation}};
    const ValueId xq = g.own("QuantizeGroups", {x}, a, rows ? 3 : 2),
                  wq = g.own("QuantizeGroups", {w}, a, rows ? 3 : 2);
    std::vector<ValueId> product = {xq, xq + 1, wq, wq + 1}, values = {xq, xq + 1};
    if (rows) product.insert(product.end(), {xq + 2, wq + 2}), values.push_back(xq + 2);
    g.own("GroupedLinear", product, {{"group", f.group}});
    g.own("DequantizeGroups", values, {{"group", f.group}});
  }
  g.own("ChannelOrder", {x}, {{"heads", int64_t{1}}});
  const ValueId rows = g.own("QuantizeRows", {x}, {{"rotation", int64_t{32}}}, 2);
  const QuantizedWeights signs = *quantize_weights(in.floats({5, 160}), 1, 32);
  g.own("QuantizedLinear", {rows, rows + 1, g.constant(signs.codes), g.constant(signs.scales),
                            g.constant(signs.group_scales)});
  const ValueId k = g.own("QuantizeKeys", {g.constant(in.floats({1, 200, 24}))},
                          {{"heads", int64_t{2}}}, 2),
                v = g.own("QuantizeValues", {g.constant(in.floats({1, 200, 24}))},
                          {{"heads", int64_t{2}}}, 2);
  g.own("AttentionInt8Cached", {g.constant(in.floats({1, 3, 48})), k, v, k + 1, v + 1},
        {{"heads", int64_t{4}}, {"kv_heads", int64_t{2}}, {"scale", 0.3f}});
}

// Q16.16: everything from floats of any bits, and codes of any bits in products that saturate.
void fixed_point(Group& g, Inputs& in) {
  const ValueId a = g.own("ToFixed", {g.constant(in.floats({11, 70}, true))}, {}, 2),
                b = g.own("ToFixed", {g.constant(in.floats({11, 70}))}, {}, 2);
  for (const char* op : {"FixedAdd", "FixedSub", "FixedMul", "FixedDiv"}) g.own(op, {a, b}, {}, 2);
  g.own("FixedReciprocalSqrt", {b}, {}, 2);
  g.own("FromFixed", {g.own("FixedNormalize", {a}, {}, 2)});
  const ValueId any = g.onnx("Cast", {g.constant(in.integers({19, 70}, int64_t{1} << 32))},
                             {{"to", static_cast<int64_t>(DType::i32)}});
  for (const char* op : {"FixedDot", "FixedSquaredDistance"}) {
    for (const int64_t fraction : {16, 32}) {
      g.own(op, {a, b}, {{"fraction", fraction}}, 2);
      g.own(op, {b, any}, {{"fraction", fraction}}, 2);
    }
  }
}

void sampling(Group& g, Inputs& in) {
  for (int64_t i = 0; i < 16; ++i) {
    const ValueId logits = g.constant(in.floats({1, 257})),
                  position = g.constant(in.integers({1}, 1 << 20));
    g.own("Sample", {logits, position},
          {{"temperature", i == 0 ? 0.0f : 0.8f},
           {"seed", 17 * i},
           {"top_k", i % 3 * 20},
           {"top_p", i % 2 ? 0.9f : 1.0f}});
  }
}

ValueId integers_of(Group& g, const std::vector<int64_t>& values) {
  const Shape shape{static_cast<int64_t>(values.size())};
  return g.constant(*Tensor::from<int64_t>(shape, values));
}

// Gradients of what has operators of its own.
void gradients(Group& g, Inputs& in) {
  const ValueId dy = g.constant(in.floats({3, 40, 48})), x = g.constant(in.floats({3, 40, 48})),
                gamma = g.constant(in.floats({48})), shape = integers_of(g, {3, 40, 48});
  g.own("SumTo", {dy, integers_of(g, {48})});
  g.own("SumTo", {dy, integers_of(g, {40, 1})});
  g.own("GatherGrad", {dy, g.constant(in.integers({3, 40}, 11)), integers_of(g, {11, 48})});
  g.own("GeluGrad", {dy, x});
  g.own("GeluGrad", {dy, x}, {{"approximate", std::string("tanh")}});
  g.own("SwishGrad", {dy, x});
  g.own("LayerNormalizationGrad", {dy, x, gamma}, {}, 2);
  g.own("RMSNormalizationGrad", {dy, x, gamma}, {}, 2);
  g.own("L2NormalizeGrad", {dy, x});
  g.own("MeanPoolGrad", {g.constant(in.floats({3, 48})), g.constant(in.integers({3}, 41)), shape});
  g.own("NegativeLogLikelihoodLossGrad",
        {g.constant(in.floats({})), integers_of(g, {40, 13}), g.constant(in.integers({40}, 13))},
        {{"ignore_index", int64_t{5}}});
}

// Several blocks of keys and queries, grouped heads.
void attention_gradient(Group& g, Inputs& in) {
  const Tensor q = in.floats({1, 150, 32}), k = in.floats({1, 170, 16}),
               v = in.floats({1, 170, 16}), dy = in.floats({1, 150, 32});
  for (const float softcap : {0.0f, 20.0f})
    g.own("AttentionGrad", {g.constant(dy), g.constant(q), g.constant(k), g.constant(v)},
          {{"heads", int64_t{4}},
           {"kv_heads", int64_t{2}},
           {"scale", 0.35355338f},
           {"softcap", softcap},
           {"causal", int64_t{1}}},
          3);
}

void training(Group& g, Inputs& in) {
  gradients(g, in);
  attention_gradient(g, in);
  const ValueId w = g.constant(in.floats({70, 9})), dw = g.constant(in.floats({70, 9})),
                rate = g.constant(*Tensor::scalar(0.125f)), m = g.constant(in.floats({70, 9}));
  const double betas[] = {0.9, 0.999}, powers[] = {0.9 * 0.9, 0.999 * 0.999};
  g.own("SgdUpdate", {w, dw, rate, m}, {{"momentum", 0.9f}, {"weight_decay", 0.01f}}, 2);
  g.own("AdamWUpdate",
        {w, dw, m, g.onnx("Mul", {m, m}), rate, g.constant(*Tensor::from<double>({2}, betas)),
         g.constant(*Tensor::from<double>({2}, powers))},
        {{"weight_decay", 0.01f}}, 3);
}

struct NamedGroup {
  const char* name;
  void (*build)(Group&, Inputs&);
};
constexpr NamedGroup kGroups[] = {{"unary", unary},
                                  {"elementwise", elementwise},
                                  {"reduction", reduction},
                                  {"matmul", matmul},
                                  {"normalization", normalization},
                                  {"attention", attention},
                                  {"sliced", sliced},
                                  {"sampling", sampling},
                                  {"quantized", quantized},
                                  {"tensor_core", tensor_core},
                                  {"fixed_point", fixed_point},
                                  {"grouped", grouped},
                                  {"training", training}};

}  // namespace

float moderate_float(uint64_t random) {
  const auto exponent = static_cast<uint32_t>(121 + (random >> 32) % 9);
  return float_of(static_cast<uint32_t>(random & 0x807FFFFF) | exponent << 23);
}

Result<SelftestDigests> run_selftest(Backend& backend, uint64_t seed) {
  const FloatWatch watch;
  const FloatGuard guard;  // inputs are computed, too
  VB_TRY(watch.check());
  SelftestDigests digests;
  uint64_t stream = 0;
  for (const NamedGroup& named : kGroups) {
    // Groups draw from seeds of their own, so that adding one leaves the others' digests alone.
    Inputs inputs(philox_u64(seed, stream++, 1));
    Group group;
    named.build(group, inputs);
    Result<Digest> digest = group.digest(backend);
    if (!digest.ok()) return digest.status().with_context(named.name);
    digests.emplace(named.name, *digest);
  }
  return digests;
}

const std::map<std::string, std::string>* golden_digests(uint64_t seed) {
  static const std::map<uint64_t, std::map<std::string, std::string>> kGolden = {
#include <verbatim/repops/selftest_golden.inc>
  };
  const auto it = kGolden.find(seed);
  return it == kGolden.end() ? nullptr : &it->second;
}

}  // namespace verbatim
