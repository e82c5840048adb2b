// A transformer of one layer with all that MiniLM and Llama-type models are made of, and a loss:
// small enough to train in tests.
#pragma once

#include <verbatim/core/philox.h>
#include <verbatim/repops/training.h>

namespace verbatim::test {

struct SmallTransformer {
  Graph graph;  // inputs: tokens int64 [B, T], labels int64 [B, T]
  ValueId loss = kAbsent;
  std::vector<std::string> parameters;
};
inline constexpr int64_t kSmallVocabulary = 13, kSmallHidden = 16;

namespace small {

// A generator of its own: each folder's tests have another Random.
class Numbers {
 public:
  explicit Numbers(uint64_t seed) : seed_(seed) {}
  int64_t below(int64_t n) {
    return static_cast<int64_t>(philox_u64(seed_, position_++, 0) % static_cast<uint64_t>(n));
  }
  // Within (-1, 1), on a grid of 2^-20.
  Tensor floats(const Shape& shape) {
    Tensor t = *Tensor::allocate(DType::f32, shape);
    for (float& v : t.mutable_data<float>())
      v = static_cast<float>(below((1 << 21) - 1) - ((1 << 20) - 1)) / static_cast<float>(1 << 20);
    return t;
  }

 private:
  uint64_t seed_, position_ = 0;
};

struct Maker {
  Numbers& random;
  GraphBuilder b;
  std::vector<std::string> parameters;

  ValueId parameter(const std::string& name, const Shape& shape, float offset = 0) {
    Tensor t = random.floats(shape);
    for (float& v : t.mutable_data<float>()) v = offset + 0.25f * v;
    parameters.push_back(name);
    return b.constant(name, t);
  }
  ValueId onnx(std::string_view op, std::vector<ValueId> in, const std::string& name,
               Attributes a = {}) {
    return b.add(op, "", std::move(in), std::move(a), name);
  }
  ValueId own(std::string_view op, std::vector<ValueId> in, const std::string& name,
              Attributes a = {}) {
    return b.add(op, kVerbatimDomain, std::move(in), std::move(a), name);
  }
  ValueId linear(ValueId x, const std::string& name, int64_t in, int64_t out) {
    const ValueId w = parameter(name + ".weight", Shape{out, in}),
                  bias = parameter(name + ".bias", Shape{out});
    return own("Linear", {x, w, bias}, name);
  }
  ValueId attention(ValueId x, ValueId tables) {
    const int64_t h = kSmallHidden;
    const auto rotated = [&](const char* name, int64_t out, int64_t heads) {
      return own("RotaryEmbedding", {linear(x, name, h, out), tables, tables + 1},
                 std::string(name) + ".rotary", {{"heads", heads}});
    };
    const ValueId y = own(
        "Attention",
        {rotated("query", h, 4), rotated("key", h / 2, 2), linear(x, "value", h, h / 2)},
        "attention",
        {{"heads", int64_t{4}}, {"kv_heads", int64_t{2}}, {"scale", 0.5f}, {"causal", int64_t{1}}});
    return linear(y, "output", h, h);
  }
};

}  // namespace small

inline SmallTransformer small_transformer(uint64_t seed, int64_t sequence) {
  small::Numbers random(seed);
  small::Maker m{random, {}, {}};
  const int64_t h = kSmallHidden;
  const ValueId tokens = m.b.input("tokens", DType::i64, {-1, sequence}),
                labels = m.b.input("labels", DType::i64, {-1, sequence});
  const ValueId embedding = m.parameter("embedding", Shape{kSmallVocabulary, h});
  const ValueId places = m.parameter("places", Shape{sequence, h});
  const ValueId tables = m.b.constant("cosine", random.floats({sequence, 2}));
  (void)m.b.constant("sine", random.floats({sequence, 2}));
  ValueId x = m.onnx("Add", {m.onnx("Gather", {embedding, tokens}, "embed"), places}, "embedded");
  const ValueId a = m.onnx("RMSNormalization", {x, m.parameter("norm.1", Shape{h}, 1)}, "norm.1");
  x = m.onnx("Add", {x, m.attention(a, tables)}, "residual.1");
  const ValueId gamma = m.parameter("norm.2", Shape{h}, 1),
                beta = m.parameter("norm.2.bias", Shape{h});
  const ValueId c = m.onnx("LayerNormalization", {x, gamma, beta}, "norm.2");
  const ValueId gate = m.linear(c, "gate", h, 24), up = m.linear(c, "up", h, 24);
  const ValueId silu = m.onnx("Mul", {gate, m.onnx("Sigmoid", {gate}, "sigmoid")}, "silu");
  const ValueId wide = m.onnx("Mul", {silu, m.onnx("Gelu", {up}, "gelu")}, "product");
  x = m.onnx("Add", {x, m.linear(wide, "down", 24, h)}, "residual.2");
  const ValueId logits = m.own("Linear", {x, embedding}, "logits");  // tied weights
  m.b.output("logits", logits);

  SmallTransformer t;
  GraphEditor e(*m.b.finish());
  t.loss = cross_entropy(e, logits, labels);
  t.graph = *e.finish();
  t.parameters = std::move(m.parameters);
  return t;
}

// `batches` data sets of [rows, sequence]: tokens and what follows them, some labels ignored.
inline Tensors small_data(uint64_t seed, int64_t batches, int64_t rows, int64_t sequence) {
  small::Numbers random(seed);
  Tensors data;
  for (int i = 0; i < 2; ++i) {
    Tensor t = *Tensor::allocate(DType::i64, Shape{batches, rows, sequence});
    for (int64_t& v : t.mutable_data<int64_t>())
      v = i == 1 && random.below(7) == 0 ? kIgnoreIndex : random.below(kSmallVocabulary);
    data.push_back(t);
  }
  return data;
}

// A program of so many steps, and its inputs.
struct SmallTraining {
  Training training;
  Tensors inputs;
};
inline SmallTraining small_training(Optimizer optimizer, uint32_t steps) {
  const SmallTransformer t = small_transformer(1, 9);
  TrainingSettings s;
  s.optimizer = optimizer;
  s.learning_rate = optimizer == Optimizer::sgd ? 0.5f : 0.05f;
  s.weight_decay = 0.01f;
  s.momentum = 0.5f;
  s.max_norm = 1.0f;
  s.steps = steps;
  s.parameters = t.parameters;
  s.batches = {"tokens", "labels"};
  SmallTraining small{*training_program(t.graph, t.loss, s), small_data(2, 3, 4, 9)};
  small.inputs.insert(small.inputs.end(), small.training.state.begin(), small.training.state.end());
  return small;
}

}  // namespace verbatim::test
