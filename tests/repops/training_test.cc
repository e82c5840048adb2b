// Training programs: the optimizers' arithmetic, clipping, batches, and how a batch may be split.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include <verbatim/repops/autodiff.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/models/lm_training.h>

#include "support/random_tensor.h"
#include "support/small_transformer.h"

namespace verbatim {
namespace {

using test::node_of;

Tensors evaluate(const Node& node, const Tensors& inputs) {
  Result<Tensors> out = evaluate_reference(node, inputs);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? *out : Tensors(node.outputs.size());
}

void expect_bits(float have, float want) { EXPECT_EQ(bits_of(have), bits_of(want)); }

// The order that the operator's comment says, written out once more.
TEST(Optimizer, SgdIsItsFormula) {
  test::Random random(1);
  const Tensor w = random.floats({37}), g = random.floats({37}), v = random.floats({37});
  const Tensors y = evaluate(
      node_of("SgdUpdate", kVerbatimDomain, {{"momentum", 0.9f}, {"weight_decay", 0.1f}}, 2),
      {w, g, *Tensor::scalar(0.3f), v});
  const Tensors plain =
      evaluate(node_of("SgdUpdate", kVerbatimDomain), {w, g, *Tensor::scalar(0.3f)});
  for (int i = 0; i < 37; ++i) {
    const float wi = w.data<float>()[i], gi = g.data<float>()[i];
    const float moved = 0.9f * v.data<float>()[i] + (gi + 0.1f * wi);
    expect_bits(y[1].data<float>()[i], moved);
    expect_bits(y[0].data<float>()[i], wi - 0.3f * moved);
    expect_bits(plain[0].data<float>()[i], wi - 0.3f * gi);
  }
}

// Loshchilov and Hutter's algorithm 2 in binary64, three steps from zero moments.
TEST(Optimizer, AdamWIsCloseToBinary64) {
  test::Random random(2);
  const double betas[] = {0.9, 0.999};
  Tensor w = random.floats({41}), m = *Tensor::zeros(DType::f32, {41}), v = m;
  std::vector<double> w64(w.data<float>().begin(), w.data<float>().end()), m64(41), v64(41);
  double powers[] = {1, 1};
  for (int t = 1; t <= 3; ++t) {
    const Tensor g = random.floats({41});
    for (int i = 0; i < 2; ++i) powers[i] *= betas[i];
    const Tensors y = evaluate(
        node_of("AdamWUpdate", kVerbatimDomain, {{"epsilon", 1e-8f}, {"weight_decay", 0.125f}}, 3),
        {w, g, m, v, *Tensor::scalar(0.25f), *Tensor::from<double>(Shape{2}, betas),
         *Tensor::from<double>(Shape{2}, powers)});
    for (int i = 0; i < 41; ++i) {
      const double gi = g.data<float>()[i];
      m64[i] = 0.9 * m64[i] + 0.1 * gi;
      v64[i] = 0.999 * v64[i] + 0.001 * gi * gi;
      const double step =
          m64[i] / (1 - std::pow(0.9, t)) / (std::sqrt(v64[i] / (1 - std::pow(0.999, t))) + 1e-8);
      w64[i] -= 0.25 * (step + 0.125 * w64[i]);
      ASSERT_NEAR(y[0].data<float>()[i], w64[i], 1e-6) << t;
      ASSERT_NEAR(y[1].data<float>()[i], m64[i], 1e-7) << t;
    }
    w = y[0];
    m = y[1];
    v = y[2];
  }
}

TEST(Optimizer, RefusesWhatDoesNotFit) {
  test::Random random(3);
  const Tensor w = random.floats({4}), other = random.floats({5}), rate = *Tensor::scalar(1.0f);
  const auto refused = [](const Node& node, const Tensors& inputs) {
    return evaluate_reference(node, inputs).status().code() == StatusCode::bad_input;
  };
  const Node sgd = node_of("SgdUpdate", kVerbatimDomain, {}, 2);
  EXPECT_TRUE(refused(sgd, {w, other, rate, w}));
  EXPECT_TRUE(refused(sgd, {w, w, w, w}));
  EXPECT_TRUE(refused(sgd, {w, w, rate}));  // a velocity is asked for
  const Tensor pair = *Tensor::zeros(DType::f64, {2}), one = *Tensor::zeros(DType::f64, {1});
  const Node adamw = node_of("AdamWUpdate", kVerbatimDomain, {}, 3);
  EXPECT_TRUE(refused(adamw, {w, w, w, other, rate, pair, pair}));
  EXPECT_TRUE(refused(adamw, {w, w, w, w, rate, one, pair}));
}

// loss = mean((x w - y)^2) with one step of plain SGD, against the formula in binary64.
TEST(TrainingProgram, OneStepOfLeastSquares) {
  test::Random random(4);
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {-1, 3}), y = b.input("y", DType::f32, {-1, 1});
  const Tensor w0 = random.floats({1, 3});
  const ValueId w = b.constant("w", w0);
  const ValueId p = b.add("Linear", kVerbatimDomain, {x, w});
  b.output("p", p);
  GraphEditor e(*b.finish());
  const ValueId loss = mean_squared_error(e, p, y);
  TrainingSettings s;
  s.optimizer = Optimizer::sgd;
  s.learning_rate = 0.5f;
  s.parameters = {"w"};
  const Result<Training> t = training_program(*e.finish(), loss, s);
  ASSERT_TRUE(t.ok()) << t.status().message();
  Tensors inputs = {random.floats({5, 3}), random.floats({5, 1})};
  const auto X = inputs[0].data<float>(), Y = inputs[1].data<float>();
  double want[3] = {}, want_loss = 0;
  for (int r = 0; r < 5; ++r) {
    double d = -Y[r];
    for (int j = 0; j < 3; ++j) d += double{X[r * 3 + j]} * w0.data<float>()[j];
    want_loss += d * d / 5;
    for (int j = 0; j < 3; ++j) want[j] += 2 * d * X[r * 3 + j] / 5;
  }
  inputs.insert(inputs.end(), t->state.begin(), t->state.end());
  const Tensors out = run_program(t->program, *make_reference_backend(), inputs)->outputs;
  EXPECT_NEAR(out[0].data<float>()[0], want_loss, 1e-6);
  EXPECT_NEAR(out[1].data<float>()[0],
              std::sqrt(want[0] * want[0] + want[1] * want[1] + want[2] * want[2]), 1e-6);
  for (int j = 0; j < 3; ++j)
    EXPECT_NEAR(out[t->first_parameter].data<float>()[j], w0.data<float>()[j] - 0.5 * want[j],
                1e-6);
}

// The loss of a small transformer falls, steps take their own batches, and the norm is clipped.
TEST(TrainingProgram, LearnsWhatItSees) {
  for (const Optimizer optimizer : {Optimizer::sgd, Optimizer::adamw}) {
    const test::SmallTraining small = test::small_training(optimizer, 60);
    const auto backend = make_reference_backend();
    const Result<RunResult> r = run_program(small.training.program, *backend, small.inputs);
    ASSERT_TRUE(r.ok()) << r.status().message();
    const auto loss = [&](size_t step) { return r->step_outputs[step][0].data<float>()[0]; };
    EXPECT_NEAR(loss(0), std::log(13.0), 1.0);
    EXPECT_LT(loss(57), 0.75f * loss(0));
    EXPECT_NE(bits_of(loss(0)), bits_of(loss(1)));
    // Of the carries: the step, and with AdamW the powers of the betas.
    EXPECT_EQ(r->outputs[2].data<int64_t>()[0], 60);
    if (optimizer == Optimizer::adamw) {
      double power = 1;
      for (int i = 0; i < 60; ++i) power *= 0.9;
      EXPECT_EQ(r->outputs[3].data<double>()[0], power);
    }
  }
}

// An input of N batches gives step t its entry t mod N, whatever the others have.
TEST(TrainingProgram, EveryInputCountsItsOwnBatches) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {1}), z = b.input("z", DType::f32, {1});
  const ValueId w = b.constant("w", *Tensor::from<float>({1}, {{1.0f}}));
  const ValueId y = b.add("Mul", "", {w, b.add("Add", "", {x, z})});
  b.output("y", y);
  TrainingSettings s;
  s.optimizer = Optimizer::sgd;
  s.learning_rate = 0;
  s.steps = 4;
  s.parameters = {"w"};
  s.batches = {"x", "z"};
  const Training t = *training_program(*b.finish(), y, s);
  Tensors inputs = {*Tensor::from<float>({2, 1}, {{1, 2}}),
                    *Tensor::from<float>({4, 1}, {{10, 20, 30, 40}})};
  inputs.insert(inputs.end(), t.state.begin(), t.state.end());
  const RunResult r = *run_program(t.program, *make_reference_backend(), inputs);
  const float want[] = {11, 22, 31, 42};
  for (size_t step = 0; step < 4; ++step)
    EXPECT_EQ(r.step_outputs[step][0].data<float>()[0], want[step]) << step;
}

// Runs in pieces, the state handed over by hand, give the bits of the whole.
TEST(TrainingProgram, CanBeInterrupted) {
  test::SmallTraining whole = test::small_training(Optimizer::adamw, 5),
                      piece = test::small_training(Optimizer::adamw, 1);
  const auto backend = make_reference_backend();
  const Tensors want = run_program(whole.training.program, *backend, whole.inputs)->outputs;
  Tensors have;
  for (int step = 0; step < 5; ++step) {
    have = run_program(piece.training.program, *backend, piece.inputs)->outputs;
    for (const Carry& c : piece.training.program.carries) piece.inputs[c.input] = have[c.output];
  }
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(identical(have[i], want[i])) << i;
}

TEST(TrainingProgram, RefusesSettingsOutOfRange) {
  const test::SmallTransformer t = test::small_transformer(1, 4);
  const auto status = [&](auto change) {
    TrainingSettings s;
    s.parameters = t.parameters;
    change(s);
    return training_program(t.graph, t.loss, s).status();
  };
  EXPECT_TRUE(status([](TrainingSettings&) {}).ok());
  const auto message = [&](auto change) { return status(change).message(); };
  using S = TrainingSettings;
  EXPECT_NE(message([](S& s) { s.parameters = {"nothing"}; }).find("'nothing'"), std::string::npos);
  EXPECT_NE(message([](S& s) { s.batches = {"nobody"}; }).find("'nobody'"), std::string::npos);
  EXPECT_NE(message([](S& s) { s.parameters = {"cosine"}; }).find("no gradient rule"),
            std::string::npos);
  for (const Status& s :
       {status([](S& v) { v.parameters.clear(); }), status([](S& v) { v.beta2 = 1; }),
        status([](S& v) { v.beta1 = NAN; }), status([](S& v) { v.momentum = 1; }),
        status([](S& v) { v.learning_rate = INFINITY; }), status([](S& v) { v.weight_decay = -1; }),
        status([](S& v) { v.max_norm = -1; })})
    EXPECT_EQ(s.code(), StatusCode::usage) << s.message();
}

// --- what a text becomes, and what is saved
// ------------------------------------------------------------------------------------

TEST(TextBatches, AreConsecutivePiecesAndTheTokensAfter) {
  std::vector<int64_t> tokens(24);
  for (int64_t i = 0; i < 24; ++i) tokens[i] = 100 + i;
  const TextBatches b = *text_batches(tokens, 2, 5);  // 4 pieces of 5, of 23 that can be predicted
  EXPECT_EQ(b.tokens.describe(), "int64 [2, 2, 5]");
  EXPECT_EQ(b.positions.describe(), "int64 [5]");
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(b.tokens.data<int64_t>()[i], 100 + i);
    EXPECT_EQ(b.labels.data<int64_t>()[i], 101 + i);
  }
  EXPECT_EQ(b.positions.data<int64_t>()[4], 4);
  EXPECT_EQ(text_batches(tokens, 9, 5)->tokens.describe(), "int64 [1, 4, 5]");
  EXPECT_EQ(text_batches(tokens, 9, 500)->tokens.describe(), "int64 [1, 1, 23]");
  EXPECT_EQ(text_batches({7}, 1, 1).status().code(), StatusCode::usage);
  EXPECT_EQ(text_batches(tokens, 0, 1).status().code(), StatusCode::usage);
}

TEST(Safetensors, WhatIsWrittenIsRead) {
  test::Random random(8);
  TensorMap tensors = {{"b", random.floats({3, 5}, true)},
                       {"a.\u00fc", *Tensor::scalar(true)},
                       {"c", *Tensor::zeros(DType::i64, {0, 2})}};
  const Tensor x = random.floats({7});
  for (const DType d : {DType::bf16, DType::f16, DType::f8e4m3, DType::f64, DType::u8})
    tensors.emplace(
        std::string(name_of(d)),
        (*evaluate_reference(node_of("Cast", "", {{"to", static_cast<int64_t>(d)}}), {&x, 1}))[0]);
  const Bytes bytes = *encode_safetensors(tensors);
  const Result<TensorMap> back = parse_safetensors(bytes, "w", nullptr);
  ASSERT_TRUE(back.ok()) << back.status().message();
  ASSERT_EQ(back->size(), tensors.size());
  for (const auto& [name, t] : tensors) EXPECT_TRUE(identical(back->at(name), t)) << name;
  EXPECT_EQ(encode_safetensors({{"x", *Tensor::zeros(DType::i4, {2})}}).status().code(),
            StatusCode::unsupported);
}

// --- what does not depend on how a batch is split
// --------------------------------------------------------------------------------

Tensor part(const Tensor& t, int64_t begin, int64_t end) {
  std::vector<int64_t> dims(t.shape().dims().begin(), t.shape().dims().end());
  dims[0] = end - begin;
  const int64_t row = t.shape().elements(1, t.rank());
  return *Tensor::from<float>(*Shape::of(dims),
                              t.data<float>().subspan(begin * row, (end - begin) * row));
}

// The gradient of an activation is its own sequence's alone.
TEST(BatchSplit, GradientsOfActivationsAreTheirSequences) {
  test::Random random(6);
  const Tensor g = random.floats({3, 150, 8}), q = random.floats({3, 150, 8}),
               k = random.floats({3, 150, 4}), v = random.floats({3, 150, 4}),
               gamma = random.floats({8});
  const Node attention = node_of("AttentionGrad", kVerbatimDomain,
                                 {{"heads", int64_t{2}},
                                  {"kv_heads", int64_t{1}},
                                  {"scale", 0.7f},
                                  {"causal", int64_t{1}}},
                                 3),
             norm = node_of("LayerNormalizationGrad", kVerbatimDomain, {}, 2);
  const Tensors whole = evaluate(attention, {g, q, k, v}), rows = evaluate(norm, {g, q, gamma});
  for (int64_t b = 0; b < 3; ++b) {
    const auto own = [&](const Tensor& t) { return part(t, b, b + 1); };
    const Tensors alone = evaluate(attention, {own(g), own(q), own(k), own(v)});
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(identical(alone[i], own(whole[i]))) << i;
    EXPECT_TRUE(identical(evaluate(norm, {own(g), own(q), gamma})[0], own(rows[0])));
  }
}

// A weight's gradient is an ordered product over the rows of the batch: pieces of 512 rows, added
// ascending, are the whole. A bias' is an ordered sum: pieces of 1024.
TEST(BatchSplit, GradientsOfWeightsAddUpByBlocks) {
  test::Random random(7);
  const int64_t n = 2048 + 300;
  const Tensor x = random.floats({n, 5}), g = random.floats({n, 3});
  GraphBuilder b;
  const ValueId vx = b.input("x", DType::f32, {-1, 5}), vg = b.input("g", DType::f32, {-1, 3});
  const ValueId w = b.constant("w", random.floats({3, 5})),
                bias = b.constant("b", random.floats({3}));
  const ValueId y = b.add("Mul", "", {b.add("Linear", kVerbatimDomain, {vx, w, bias}), vg});
  b.output("y", y);
  const ValueId wrt[] = {w, bias};
  const Graph graph = *differentiate(*b.finish(), y, wrt);
  const auto backend = make_reference_backend();
  const Executor executor = *Executor::create(graph, *backend);
  const auto gradients = [&](int64_t begin, int64_t end) {
    return *executor.run_step(0, Tensors{part(x, begin, end), part(g, begin, end)});
  };
  const Tensors whole = gradients(0, n);
  for (const auto& [output, block] : {std::pair(1, 512), std::pair(2, 1024)}) {
    Tensor sum;
    for (int64_t begin = 0; begin < n; begin += block) {
      const Tensor next = gradients(begin, std::min(begin + block, n))[output];
      sum = begin == 0 ? next : evaluate(node_of("Add", ""), {sum, next})[0];
    }
    EXPECT_TRUE(identical(sum, whole[output])) << output;
  }
}

}  // namespace
}  // namespace verbatim
