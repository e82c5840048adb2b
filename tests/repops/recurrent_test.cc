#include <gtest/gtest.h>

#include <cmath>

#include "op_support.h"
#include "support/random_tensor.h"

namespace verbatim {
namespace {

using test::Random;
using testing::evaluate;
using testing::expect_error;
using testing::expect_output;
using testing::floats;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

constexpr int64_t kSteps = 5, kBatch = 2, kInputs = 3, kHidden = 4;

struct Weights {
  Tensor w, r, b, p;
};
Weights weights(Random& random, int64_t gates, int64_t directions = 1) {
  return {random.floats({directions, gates * kHidden, kInputs}),
          random.floats({directions, gates * kHidden, kHidden}),
          random.floats({directions, 2 * gates * kHidden}),
          random.floats({directions, 3 * kHidden})};
}

// Gate `gate`'s operand for unit j in binary64, without the state's part where `state` is null.
double operand(const Weights& s, int64_t gates, int64_t gate, int64_t j, const float* x,
               const double* h) {
  const int64_t row = gate * kHidden + j;
  double v = s.b.data<float>()[row];
  for (int64_t k = 0; k < kInputs; ++k) v += double{x[k]} * s.w.data<float>()[row * kInputs + k];
  if (h == nullptr) return v;
  v += s.b.data<float>()[gates * kHidden + row];
  for (int64_t k = 0; k < kHidden; ++k) v += h[k] * s.r.data<float>()[row * kHidden + k];
  return v;
}

TEST(Recurrent, LstmWithPeepholesIsCloseToBinary64) {
  Random random(1);
  const Tensor x = random.floats({kSteps, 1, kInputs});
  const Weights s = weights(random, 4);
  const Result<Tensors> have =
      evaluate("LSTM", {x, s.w, s.r, s.b, Tensor(), Tensor(), Tensor(), s.p}, {}, 3);
  ASSERT_TRUE(have.ok()) << have.status().message();
  double h[kHidden] = {}, c[kHidden] = {};
  const auto p = s.p.data<float>();
  for (int64_t t = 0; t < kSteps; ++t) {
    double next[kHidden];
    for (int64_t j = 0; j < kHidden; ++j) {
      const auto gate = [&](int64_t g) {
        return operand(s, 4, g, j, x.data<float>().data() + t * kInputs, h);
      };
      const double i = sigmoid(gate(0) + p[j] * c[j]), f = sigmoid(gate(2) + p[8 + j] * c[j]);
      c[j] = f * c[j] + i * std::tanh(gate(3));
      next[j] = sigmoid(gate(1) + p[4 + j] * c[j]) * std::tanh(c[j]);
    }
    std::copy(next, next + kHidden, h);
    for (int64_t j = 0; j < kHidden; ++j)
      EXPECT_NEAR((*have)[0].data<float>()[t * kHidden + j], h[j], 1e-6);
  }
  for (int64_t j = 0; j < kHidden; ++j) {
    EXPECT_NEAR((*have)[1].data<float>()[j], h[j], 1e-6);
    EXPECT_NEAR((*have)[2].data<float>()[j], c[j], 1e-6);
  }
}

TEST(Recurrent, GruIsCloseToBinary64InBothForms) {
  Random random(2);
  const Tensor x = random.floats({kSteps, 1, kInputs});
  const Weights s = weights(random, 3);
  for (const int64_t before : {0, 1}) {
    const Result<Tensors> have =
        evaluate("GRU", {x, s.w, s.r, s.b}, {{"linear_before_reset", before}}, 2);
    ASSERT_TRUE(have.ok()) << have.status().message();
    double h[kHidden] = {};
    for (int64_t t = 0; t < kSteps; ++t) {
      const float* at = x.data<float>().data() + t * kInputs;
      double z[kHidden], r[kHidden], scaled[kHidden], next[kHidden];
      for (int64_t j = 0; j < kHidden; ++j) {
        z[j] = sigmoid(operand(s, 3, 0, j, at, h));
        r[j] = sigmoid(operand(s, 3, 1, j, at, h));
        scaled[j] = r[j] * h[j];
      }
      for (int64_t j = 0; j < kHidden; ++j) {
        const double input = operand(s, 3, 2, j, at, nullptr);
        const double g = before == 0 ? operand(s, 3, 2, j, at, scaled)
                                     : input + r[j] * (operand(s, 3, 2, j, at, h) - input);
        next[j] = (1 - z[j]) * std::tanh(g) + z[j] * h[j];
      }
      std::copy(next, next + kHidden, h);
    }
    for (int64_t j = 0; j < kHidden; ++j)
      EXPECT_NEAR((*have)[1].data<float>()[j], h[j], 1e-6) << "linear_before_reset " << before;
  }
}

Tensor part(const Tensor& x, int64_t begin, int64_t end) {  // of the first dimension
  const auto row = static_cast<size_t>(x.elements() / x.dim(0));
  std::vector<int64_t> dims(x.shape().dims().begin(), x.shape().dims().end());
  dims[0] = end - begin;
  return *Tensor::from<float>(*Shape::of(dims),
                              x.data<float>().subspan(begin * row, (end - begin) * row));
}

// The promise of states that are rounded at each step.
TEST(Recurrent, PiecesGiveTheBitsOfTheWhole) {
  Random random(3);
  const Tensor x = random.floats({kSteps, kBatch, kInputs});
  const auto half = [](const Tensor& t) {
    return (*evaluate("Cast", {t}, {{"to", int64_t{10}}}))[0];
  };
  const Weights s = weights(random, 4);
  const Tensor w = half(s.w), r = half(s.r), b = half(s.b);
  const Tensors whole = *evaluate("LSTM", {half(x), w, r, b}, {}, 3);
  const Tensors first = *evaluate("LSTM", {half(part(x, 0, 2)), w, r, b}, {}, 3);
  const Tensors second =
      *evaluate("LSTM", {half(part(x, 2, kSteps)), w, r, b, Tensor(), first[1], first[2]}, {}, 3);
  EXPECT_TRUE(identical(second[1], whole[1]));
  EXPECT_TRUE(identical(second[2], whole[2]));
}

// A reverse layer is a forward one on reversed time; a second direction has its own weights.
TEST(Recurrent, DirectionsAndLayouts) {
  Random random(4);
  const Tensor x = random.floats({kSteps, kBatch, kInputs});
  const Weights s = weights(random, 1, 2);
  const Tensors both = *evaluate("RNN", {x, s.w, s.r, s.b}, {{"direction", "bidirectional"}}, 2);
  const Tensors inputs = {x, part(s.w, 1, 2), part(s.r, 1, 2), part(s.b, 1, 2)};
  const Tensors back = *evaluate("RNN", inputs, {{"direction", "reverse"}}, 2);
  EXPECT_TRUE(identical(part(both[1], 1, 2), back[1]));
  for (int64_t t = 0; t < kSteps; ++t)
    for (int64_t i = 0; i < kBatch * kHidden; ++i)
      EXPECT_EQ(both[0].data<float>()[(2 * t + 1) * kBatch * kHidden + i],
                back[0].data<float>()[t * kBatch * kHidden + i]);
  const auto swapped = [](const Tensor& t, std::vector<int64_t> perm) {
    return (*evaluate("Transpose", {t}, {{"perm", std::move(perm)}}))[0];
  };
  const Tensors batched = *evaluate("RNN", {swapped(x, {1, 0, 2}), s.w, s.r, s.b},
                                    {{"direction", "bidirectional"}, {"layout", int64_t{1}}}, 2);
  EXPECT_TRUE(identical(swapped(batched[0], {1, 2, 0, 3}), both[0]));
  EXPECT_TRUE(identical(swapped(batched[1], {1, 0, 2}), both[1]));
}

// Each sequence ends at its own length, where the reverse direction begins.
TEST(Recurrent, ShorterSequencesAreAsIfAlone) {
  Random random(5);
  const Tensor x = random.floats({kSteps, 1, kInputs});
  const Weights s = weights(random, 1, 2);
  const Attributes a = {{"direction", "bidirectional"}};
  Tensor length = *Tensor::zeros(DType::i32, Shape{1});
  length.mutable_data<int32_t>()[0] = 3;
  const Tensors padded = *evaluate("RNN", {x, s.w, s.r, s.b, length}, a, 2);
  const Tensors alone = *evaluate("RNN", {part(x, 0, 3), s.w, s.r, s.b}, a, 2);
  EXPECT_TRUE(identical(padded[1], alone[1]));
  EXPECT_TRUE(identical(part(padded[0], 0, 3), alone[0]));
  const Tensor after = part(padded[0], 3, kSteps);
  for (const float v : after.data<float>()) EXPECT_EQ(bits_of(v), 0u);
  length.mutable_data<int32_t>()[0] = 6;
  expect_error(evaluate("RNN", {x, s.w, s.r, s.b, length}, a), StatusCode::bad_input,
               "sequence length 6 of 5");
}

TEST(Recurrent, ActivationsTakeTheirOwnAlphasInOrderAfterTheClip) {
  const Tensor x = floats({1, 1, 1}, {4}), one = floats({1, 1, 1}, {1});
  const auto rnn = [&](const char* name, std::vector<float> alpha, std::vector<float> beta) {
    return evaluate("RNN", {x, one, one},
                    {{"activations", std::vector<std::string>{name}},
                     {"activation_alpha", std::move(alpha)},
                     {"activation_beta", std::move(beta)},
                     {"clip", 3.0f}},
                    1);
  };
  expect_output(rnn("Affine", {2}, {1}), floats({1, 1, 1, 1}, {7}));
  expect_output(rnn("Relu", {}, {}), floats({1, 1, 1, 1}, {3}));
  expect_output(rnn("ThresholdedRelu", {3}, {}), floats({1, 1, 1, 1}, {0}));
  expect_output(rnn("HardSigmoid", {}, {-0.5f}), floats({1, 1, 1, 1}, {0.2f * 3.0f - 0.5f}));
  EXPECT_EQ(rnn("Swish", {}, {}).status().code(), StatusCode::unsupported);
  // Two directions: the first function has no alpha, the second takes the first one.
  const Tensor two = floats({2, 1, 1}, {1, 1});
  expect_output(evaluate("RNN", {x, two, two},
                         {{"activations", std::vector<std::string>{"Relu", "Affine"}},
                          {"activation_alpha", std::vector<float>{5}},
                          {"direction", "bidirectional"}}),
                floats({1, 2, 1, 1}, {4, 20}));
}

TEST(Recurrent, RefusesWhatDoesNotFit) {
  Random random(6);
  const Tensor x = random.floats({kSteps, kBatch, kInputs});
  const Weights s = weights(random, 1);
  const auto refuses = [&](const Tensors& inputs, const Attributes& a, const char* part) {
    expect_error(evaluate("RNN", inputs, a), StatusCode::bad_input, part);
  };
  refuses({x, s.r, s.w}, {}, "w is");
  refuses({x, s.w, s.r}, {{"direction", "bidirectional"}}, "w is");
  refuses({x, s.w, s.r}, {{"hidden_size", int64_t{5}}}, "hidden_size 5");
  refuses({x, s.w, s.r}, {{"clip", -1.0f}}, "clip");
  refuses({x, s.w, s.r}, {{"activations", std::vector<std::string>(2, "Tanh")}}, "2 activations");
  refuses({x, s.w, s.r, s.b, Tensor(), s.b}, {}, "initial_h");
}

}  // namespace
}  // namespace verbatim
