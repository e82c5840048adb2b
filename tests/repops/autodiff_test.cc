// Gradients against central finite differences, in binary64 wherever the operators have it.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include <verbatim/repops/autodiff.h>
#include <verbatim/repops/executor.h>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

using Build = std::function<ValueId(GraphBuilder&, const std::vector<ValueId>&)>;

Tensors run(const Graph& graph, const Tensors& inputs) {
  const auto backend = make_reference_backend();
  const Executor executor = *Executor::create(graph, *backend);
  Result<Tensors> out = executor.run_step(0, inputs);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? *out : Tensors(graph.outputs.size());
}

// A number about 1, never near 0 where `away`: there the functions under test have a kink or a
// pole.
double number(test::Random& random, bool away) {
  const double x = 1.5 * double{random.unit()};
  return away ? (x < 0 ? x - 0.25 : x + 0.25) : x;
}
Tensor doubles(test::Random& random, std::vector<int64_t> dims, bool away = false) {
  Tensor t = *Tensor::allocate(DType::f64, *Shape::of(dims));
  for (double& v : t.mutable_data<double>()) v = number(random, away);
  return t;
}
// x moved to multiples of 1/64 and `offset`: differences must not step over where a function bends.
Tensor on_grid(const Tensor& x, double offset) {
  Tensor t = *Tensor::allocate(DType::f64, x.shape());
  std::ranges::transform(x.data<double>(), t.mutable_data<double>().begin(),
                         [&](double v) { return std::round(v * 64) / 64 + offset; });
  return t;
}
Tensor positive(test::Random& random, std::vector<int64_t> dims) {
  Tensor t = doubles(random, std::move(dims), true);
  for (double& v : t.mutable_data<double>()) v = std::fabs(v);
  return t;
}

// The graph of build(inputs), made one number: the sum of its elements, each times one of
// `weights`.
struct Loss {
  Graph graph;
  std::vector<ValueId> inputs;
};
Loss loss_of(const Build& build, const Tensors& inputs, const Tensor& weights) {
  GraphBuilder b;
  Loss loss;
  for (size_t i = 0; i < inputs.size(); ++i)
    loss.inputs.push_back(b.input("x" + std::to_string(i), inputs[i].dtype(),
                                  std::vector<int64_t>(static_cast<size_t>(inputs[i].rank()), -1)));
  ValueId y = build(b, loss.inputs);
  if (weights.defined())
    y = b.add("ReduceSum", "", {b.add("Mul", "", {y, b.constant("weights", weights)})},
              {{"keepdims", int64_t{0}}});
  b.output("loss", y);
  Result<Graph> graph = b.finish();
  EXPECT_TRUE(graph.ok()) << graph.status().message();
  loss.graph = *graph;
  return loss;
}

bool differs(double have, double want, double scale, double tolerance) {
  return !(std::fabs(have - want) <= tolerance * (1 + std::fabs(want) + scale));
}

// Compares the gradients of all inputs `wrt` with (f(x + h) - f(x - h)) / 2h for each element.
void check(const Build& build, const Tensors& inputs, const std::vector<size_t>& wrt,
           double h = 1e-5, double tolerance = 1e-7) {
  test::Random random(17);
  const Tensor y = run(loss_of(build, inputs, Tensor()).graph, inputs)[0];
  ASSERT_TRUE(y.defined());
  Tensor weights = *Tensor::allocate(y.dtype(), y.shape());
  if (y.dtype() == DType::f64)
    for (double& w : weights.mutable_data<double>()) w = number(random, true);
  else
    for (float& w : weights.mutable_data<float>()) w = random.unit();
  const Loss loss = loss_of(build, inputs, weights);
  std::vector<ValueId> values;
  for (size_t i : wrt) values.push_back(loss.inputs[i]);
  const Result<Graph> graph = differentiate(loss.graph, loss.graph.outputs[0].value, values);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  const Tensors gradients = run(*graph, inputs);
  const auto value = [&](const Tensors& at) {
    const Tensor t = run(loss.graph, at)[0];
    return t.dtype() == DType::f64 ? t.data<double>()[0] : double{t.data<float>()[0]};
  };
  EXPECT_EQ(value(inputs), gradients[0].dtype() == DType::f64
                               ? gradients[0].data<double>()[0]
                               : double{gradients[0].data<float>()[0]});
  for (size_t k = 0; k < wrt.size(); ++k) {
    const Tensor& x = inputs[wrt[k]];
    const Tensor& g = gradients[k + 1];
    ASSERT_EQ(g.describe(), x.describe()) << "input " << wrt[k];
    for (int64_t i = 0; i < x.elements(); ++i) {
      double side[2];
      for (int s = 0; s < 2; ++s) {
        Tensors moved = inputs;
        Tensor& t = moved[wrt[k]] = *Tensor::allocate(x.dtype(), x.shape());
        std::ranges::copy(x.bytes(), t.mutable_bytes().begin());
        if (x.dtype() == DType::f64)
          t.mutable_data<double>()[i] += s == 0 ? -h : h;
        else
          t.mutable_data<float>()[i] += static_cast<float>(s == 0 ? -h : h);
        side[s] = value(moved);
      }
      const double want = (side[1] - side[0]) / (2 * h), have = x.dtype() == DType::f64
                                                                    ? g.data<double>()[i]
                                                                    : double{g.data<float>()[i]};
      ASSERT_FALSE(differs(have, want, std::fabs(side[0]), tolerance))
          << "input " << wrt[k] << ", element " << i << ": " << have << ", by differences " << want;
    }
  }
}

Build one(std::string op, Attributes attributes = {}, std::string domain = "", int outputs = 1) {
  return [=](GraphBuilder& b, const std::vector<ValueId>& in) {
    return b.add(op, domain, in, attributes, op, outputs);
  };
}

// Dimensions that broadcast to `dims`: some are 1, some on the left are missing.
std::vector<int64_t> broadcastable(test::Random& random, std::vector<int64_t> dims) {
  for (int64_t& d : dims)
    if (random.below(3) == 0) d = 1;
  dims.erase(dims.begin(), dims.begin() + random.below(static_cast<int64_t>(dims.size()) + 1));
  return dims;
}
std::vector<int64_t> some_dims(test::Random& random, int64_t least_rank = 1) {
  std::vector<int64_t> dims(static_cast<size_t>(random.between(least_rank, 3)));
  for (int64_t& d : dims) d = random.between(1, 4);
  return dims;
}
test::Random any_random() { return test::Random(*rc::gen::arbitrary<uint64_t>()); }

RC_GTEST_PROP(Gradient, OfBinaryOperatorsWithBroadcasting, ()) {
  test::Random random = any_random();
  const std::vector<int64_t> dims = some_dims(random);
  for (const char* op : {"Add", "Sub", "Mul", "Div"}) {
    SCOPED_TRACE(op);
    check(one(op), {doubles(random, dims), doubles(random, broadcastable(random, dims), true)},
          {0, 1});
    check(one(op), {doubles(random, broadcastable(random, dims)), doubles(random, dims, true)},
          {0, 1});
  }
  check(one("Pow"), {positive(random, dims), doubles(random, broadcastable(random, dims))}, {0, 1});
  RC_ASSERT(!::testing::Test::HasFailure());
}

RC_GTEST_PROP(Gradient, OfFunctionsOfOneVariable, ()) {
  test::Random random = any_random();
  const std::vector<int64_t> dims = some_dims(random);
  for (const char* op :
       {"Neg", "Abs", "Reciprocal", "Exp", "Sin", "Cos", "Tanh", "Sigmoid", "Softplus", "Erf",
        "Relu", "Gelu", "Swish", "Identity", "Transpose", "Flatten"}) {
    SCOPED_TRACE(op);
    check(one(op), {doubles(random, dims, true)}, {0});
  }
  check(one("Gelu", {{"approximate", std::string("tanh")}}), {doubles(random, dims)}, {0});
  check(one("Swish", {{"alpha", 1.75f}}), {doubles(random, dims)}, {0});
  for (const char* op : {"Sqrt", "Log"}) {
    SCOPED_TRACE(op);
    check(one(op), {positive(random, dims)}, {0});
  }
  RC_ASSERT(!::testing::Test::HasFailure());
}

// Numbers in some order, further from one another than differences reach.
Tensor apart(test::Random& random, const std::vector<int64_t>& dims) {
  Tensor t = doubles(random, dims, true);
  const auto values = t.mutable_data<double>();
  for (size_t i = 0; i < values.size(); ++i) {
    const auto j = static_cast<size_t>(random.below(static_cast<int64_t>(i) + 1));
    values[i] = values[j];
    values[j] = 0.01 * static_cast<double>(i + 1);
  }
  return t;
}

RC_GTEST_PROP(Gradient, OfReductions, ()) {
  test::Random random = any_random();
  const std::vector<int64_t> dims = some_dims(random);
  std::vector<int64_t> axes;
  for (int64_t a = 0; a < static_cast<int64_t>(dims.size()); ++a)
    if (random.below(2) == 0)
      axes.push_back(random.below(2) == 0 ? a : a - static_cast<int64_t>(dims.size()));
  const bool given = random.below(3) != 0;
  const Attributes attributes = {{"keepdims", random.below(2)},
                                 {"noop_with_empty_axes", random.below(2)}};
  for (const std::string op : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1",
                               "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"}) {
    SCOPED_TRACE(op);
    const Build build = [&](GraphBuilder& b, const std::vector<ValueId>& in) {
      std::vector<ValueId> inputs = in;
      if (given) inputs.push_back(b.constant("axes", test::ints(axes)));
      return b.add(op, "", inputs, attributes, op);
    };
    const bool selects = op == "ReduceMax" || op == "ReduceMin";
    check(build, {selects ? apart(random, dims) : doubles(random, dims, true)}, {0});
  }
  RC_ASSERT(!::testing::Test::HasFailure());
}

RC_GTEST_PROP(Gradient, OfProducts, ()) {
  test::Random random = any_random();
  const int64_t m = random.between(1, 4), n = random.between(1, 4), k = random.between(1, 5);
  const std::vector<int64_t> batch = some_dims(random);
  const auto with = [](std::vector<int64_t> dims, int64_t rows, int64_t columns) {
    dims.insert(dims.end(), {rows, columns});
    return dims;
  };
  const auto narrow = [&] {
    std::vector<int64_t> dims = batch;
    for (int64_t& d : dims)
      if (random.below(2) == 0) d = 1;
    if (random.below(2) == 0) dims.erase(dims.begin());
    return dims;
  };
  check(one("MatMul"), {doubles(random, with(batch, m, k)), doubles(random, with(narrow(), k, n))},
        {0, 1});
  check(one("MatMul"), {doubles(random, with(narrow(), m, k)), doubles(random, with(batch, k, n))},
        {0, 1});
  for (const int64_t ta : {0, 1})
    for (const int64_t tb : {0, 1})
      check(one("Gemm", {{"transA", ta}, {"transB", tb}, {"alpha", random.unit()}, {"beta", 1.5f}}),
            {doubles(random, ta ? std::vector{k, m} : std::vector{m, k}),
             doubles(random, tb ? std::vector{n, k} : std::vector{k, n}),
             doubles(random, random.below(2) == 0 ? std::vector{n} : std::vector{m, int64_t{1}})},
            {0, 1, 2});
  std::vector<int64_t> rows = some_dims(random);
  rows.back() = k;
  check(one("Linear", {}, "verbatim"),
        {doubles(random, rows), doubles(random, {n, k}), doubles(random, {n})}, {0, 1, 2});
  RC_ASSERT(!::testing::Test::HasFailure());
}

RC_GTEST_PROP(Gradient, OfNormalisations, ()) {
  test::Random random = any_random();
  const std::vector<int64_t> dims = some_dims(random);
  const int64_t rank = static_cast<int64_t>(dims.size()), axis = random.between(-rank, rank - 1);
  for (const char* op : {"Softmax", "LogSoftmax"}) {
    SCOPED_TRACE(op);
    check(one(op, {{"axis", axis}}), {doubles(random, dims)}, {0});
  }
  const auto first = static_cast<size_t>(axis < 0 ? axis + rank : axis);
  const auto affine = [&] {
    return random.below(4) == 0
               ? std::vector<int64_t>{1}
               : std::vector<int64_t>(dims.begin() + static_cast<ptrdiff_t>(first), dims.end());
  };
  const Attributes attributes = {{"axis", axis}, {"epsilon", 0.125f}};
  check(one("LayerNormalization", attributes),
        {doubles(random, dims), doubles(random, affine()), doubles(random, affine())}, {0, 1, 2});
  check(one("LayerNormalization", attributes), {doubles(random, dims), doubles(random, affine())},
        {1});
  check(one("RMSNormalization", attributes), {doubles(random, dims), doubles(random, affine())},
        {0, 1});
  check(one("L2Normalize", {}, "verbatim"), {doubles(random, dims, true)}, {0});
  check(one("L2Normalize", {{"epsilon", 100.0f}}, "verbatim"), {doubles(random, dims)}, {0});
  RC_ASSERT(!::testing::Test::HasFailure());
}

RC_GTEST_PROP(Gradient, OfMovement, ()) {
  test::Random random = any_random();
  const int64_t a = random.between(1, 4), b_size = random.between(1, 4), c = random.between(2, 5);
  const Tensor x = doubles(random, {a, b_size, c});
  const auto with = [&](std::string op, std::vector<std::vector<int64_t>> operands,
                        Attributes attributes = {}) {
    return [=](GraphBuilder& b, const std::vector<ValueId>& in) {
      std::vector<ValueId> inputs = in;
      for (size_t i = 0; i < operands.size(); ++i)
        inputs.push_back(b.constant("c" + std::to_string(i), test::ints(operands[i])));
      return b.add(op, "", inputs, attributes, op);
    };
  };
  check(with("Reshape", {{-1, a}}), {x}, {0});
  check(with("Unsqueeze", {{0, -1}}), {x}, {0});
  check(one("Transpose", {{"perm", std::vector<int64_t>{1, 2, 0}}}), {x}, {0});
  check(with("Expand", {{3, 1, b_size, c}}), {doubles(random, {b_size, 1})}, {0});
  check(with("Slice", {{-1, 0}, {-100, 100}, {2, 0}, {-2, 2}}), {x}, {0});
  check(with("Tile", {{2, 1, 3}}), {x}, {0});
  check(with("Gather", {{0, -1, 0, 1, 1}}, {{"axis", random.between(-1, -1)}}), {x}, {0});
  check(with("Gather", {{0, -1, 0}}), {x}, {0});
  check(with("Gather", {{0, -1, 0}}, {{"axis", int64_t{1}}}), {x}, {0});
  check(with("CumSum", {{1}}, {{"exclusive", random.below(2)}, {"reverse", random.below(2)}}), {x},
        {0});
  check(one("Concat", {{"axis", int64_t{-2}}}), {x, doubles(random, {a, 3, c}), x}, {0, 1, 2});
  check(
      [&](GraphBuilder& b, const std::vector<ValueId>& in) {
        const Tensor where = *test::ints({0, 1, 1, 0}).reshaped(Shape{1, 2, 2});
        return b.add("GatherElements", "", {in[0], b.constant("i", where)}, {{"axis", int64_t{2}}},
                     "elements");
      },
      {doubles(random, {1, 2, c})}, {0});
  check(
      [&](GraphBuilder& b, const std::vector<ValueId>& in) {
        const Tensor where = *test::ints({0, 0, -1, -1, 0, 0}).reshaped(Shape{3, 2});
        return b.add("GatherND", "", {in[0], b.constant("i", where)}, {}, "nd");
      },
      {x}, {0});
  check(with("ReverseSequence", {std::vector<int64_t>(static_cast<size_t>(b_size), 1)}), {x}, {0});
  check(one("DepthToSpace", {{"blocksize", int64_t{2}}}), {doubles(random, {1, 4, a, c})}, {0});
  check(with("Squeeze", {{0}}), {doubles(random, {1, b_size, c})}, {0});
  for (const char* op : {"Sum", "Mean"}) check(one(op), {x, doubles(random, {c}), x}, {0, 1, 2});
  check(
      [](GraphBuilder& b, const std::vector<ValueId>& in) {
        const auto bound = [&](const char* name, double v) {
          return b.constant(name, *Tensor::scalar(v));
        };
        return b.add("Clip", "", {in[0], bound("low", -0.5), bound("high", 0.75)}, {}, "clip");
      },
      {on_grid(x, 1.0 / 128)}, {0});
  // Two of the three parts are used, one of them twice.
  check(
      [](GraphBuilder& b, const std::vector<ValueId>& in) {
        const ValueId part = b.add("Split", "", in, {{"axis", int64_t{1}}}, "split", 3);
        return b.add("Sub", "", {b.add("Mul", "", {part, part}), part + 2});
      },
      {doubles(random, {a, 6, c})}, {0});
  check(
      [](GraphBuilder& b, const std::vector<ValueId>& in) {
        return b.add("Where", "", {b.add("Greater", "", {in[0], in[1]}), in[0], in[1]});
      },
      {on_grid(x, 1.0 / 128), on_grid(doubles(random, {c}), 0)}, {0, 1});
  RC_ASSERT(!::testing::Test::HasFailure());
}

RC_GTEST_PROP(Gradient, OfPoolingAndLosses, ()) {
  test::Random random = any_random();
  const int64_t batch = random.between(1, 3), n = random.between(1, 4), c = random.between(2, 5);
  const auto labels = [&](int64_t count) {
    std::vector<int64_t> v(static_cast<size_t>(count));
    for (int64_t& t : v) t = random.below(4) == 0 ? -100 : random.below(c);
    v[0] = 0;  // a mean over nothing is NaN
    return test::ints(v);
  };
  std::vector<int64_t> lengths(static_cast<size_t>(batch));
  for (int64_t& l : lengths) l = random.between(0, n);
  check(one("MeanPool", {}, "verbatim"), {doubles(random, {batch, n, c}), test::ints(lengths)},
        {0});
  for (const std::string reduction : {"mean", "sum", "none"}) {
    SCOPED_TRACE(reduction);
    const Attributes attributes = {{"reduction", reduction}, {"ignore_index", int64_t{-100}}};
    check(one("NegativeLogLikelihoodLoss", attributes), {doubles(random, {n, c}), labels(n)}, {0});
    check(one("NegativeLogLikelihoodLoss", attributes),
          {doubles(random, {n, c, 2}), *labels(2 * n).reshaped(Shape{n, 2}), positive(random, {c})},
          {0});
  }
  RC_ASSERT(!::testing::Test::HasFailure());
}

// A value with several uses, at different distances from the loss.
TEST(Gradient, OfValuesWithSeveralUses) {
  test::Random random(5);
  check(
      [](GraphBuilder& b, const std::vector<ValueId>& in) {
        const ValueId t = b.add("Tanh", "", {in[0]}), s = b.add("Mul", "", {t, in[0]});
        return b.add("Sum", "", {s, b.add("Add", "", {t, in[0]}), b.add("Mul", "", {s, s})});
      },
      {doubles(random, {3, 2})}, {0});
}

// The order that the contract says: (first use + second) + third, in binary32.
TEST(Gradient, AddsUsesFromTheFirstToTheLast) {
  const float big = 1e8f;
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {1});
  const auto times = [&](float f) {
    return b.add("Mul", "", {x, b.constant(std::to_string(f), *Tensor::from<float>({1}, {{f}}))});
  };
  const ValueId first = times(big), second = times(-big), third = times(1.0f);
  // Their uses by the loss are in another order, which must not matter.
  const ValueId loss = b.add("Sum", "", {third, first, second});
  b.output("y", loss);
  const ValueId wrt[] = {x};
  const Graph graph = *differentiate(*b.finish(), loss, wrt);
  // (1e8 - 1e8) + 1, where (1 + 1e8) - 1e8 would be 0.
  EXPECT_EQ(run(graph, {*Tensor::from<float>({1}, {{2.0f}})})[1].data<float>()[0], 1.0f);
}

TEST(Gradient, ElementsThatEqualTheExtremeShareIt) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {4});
  const ValueId y = b.add("ReduceMax", "", {x}, {{"keepdims", int64_t{0}}});
  b.output("y", y);
  const ValueId wrt[] = {x};
  const Graph graph = *differentiate(*b.finish(), y, wrt);
  const Tensor g = run(graph, {*Tensor::from<float>({4}, {{3, 1, 3, 2}})})[1];
  EXPECT_TRUE(identical(g, *Tensor::from<float>({4}, {{0.5f, 0, 0.5f, 0}})));
}

TEST(Gradient, NamesTheNodeThatHasNoRule) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {3});
  const ValueId y = b.add("TopK", "", {x, b.constant("k", test::ints({1}))}, {}, "the.top", 2);
  b.output("y", y);
  const ValueId wrt[] = {x};
  const Status s = differentiate(*b.finish(), y, wrt).status();
  EXPECT_EQ(s.code(), StatusCode::unsupported);
  for (const char* part : {"node 0", "the.top", "operator 'TopK'", "ai.onnx"})
    EXPECT_NE(s.message().find(part), std::string::npos) << s.message();
}

TEST(Gradient, OfWhatTheLossDoesNotDependOnIsAnError) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {3}), z = b.input("z", DType::f32, {3});
  const ValueId y = b.add("Mul", "", {x, b.add("Floor", "", {z})});
  b.output("y", y);
  const Graph graph = *b.finish();
  const ValueId wrt[] = {x, z};
  const Status s = differentiate(graph, y, wrt).status();
  EXPECT_EQ(s.code(), StatusCode::bad_input);
  EXPECT_NE(s.message().find("'z'"), std::string::npos) << s.message();
  const ValueId nowhere[] = {99};
  EXPECT_EQ(differentiate(graph, y, nowhere).status().code(), StatusCode::bad_input);
}

// x + float(int(x)): what is rounded to integers passes nothing on, whichever operator says so.
TEST(Gradient, CastsToIntegersPassNothing) {
  for (const bool like : {false, true}) {
    GraphBuilder b;
    const ValueId x = b.input("x", DType::f32, {1});
    const ValueId i = like ? b.add("CastLike", "", {x, b.constant("like", test::ints({1}))})
                           : b.add("Cast", "", {x}, {{"to", static_cast<int64_t>(DType::i64)}});
    const ValueId y = b.add("Add", "", {x, b.add("CastLike", "", {i, x})});
    b.output("y", y);
    const ValueId wrt[] = {x};
    const Graph graph = *differentiate(*b.finish(), y, wrt);
    EXPECT_EQ(run(graph, {*Tensor::from<float>({1}, {{2.5f}})})[1].data<float>()[0], 1.0f) << like;
  }
}

TEST(Gradient, OfACastToATypeThatIsNotKnownIsAnError) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {1});
  const ValueId y = b.add("CastLike", "",
                          {x, b.add("TopK", "", {x, b.constant("k", test::ints({1}))}, {}, "", 2)});
  b.output("y", y);
  const ValueId wrt[] = {x};
  const Status s = differentiate(*b.finish(), y, wrt).status();
  EXPECT_EQ(s.code(), StatusCode::unsupported);
  EXPECT_NE(s.message().find("is not known"), std::string::npos) << s.message();
}

Tensor cast(const Tensor& t, DType to) {
  return (*evaluate_reference(test::node_of("Cast", "", {{"to", static_cast<int64_t>(to)}}),
                              {&t, 1}))[0];
}

// Of 16-bit tensors, the operators of our own compute in binary32 and round once, at the end.
TEST(Gradient, SixteenBitTensorsAreRoundedOnce) {
  test::Random random(12);
  const Tensor g = random.floats({2, 5, 6}), x = random.floats({2, 5, 6}),
               shape = test::ints({2, 5, 6});
  struct Operator {
    const char* name;
    Tensors inputs;
    Attributes attributes = {};
    int outputs = 1;
  };
  const Operator operators[] = {
      {"SumTo", {g, test::ints({1, 6})}},
      {"GatherGrad",
       {g, *test::ints({1, 0, 1, 1, 1, 2, 0, 1, 1, 1}).reshaped({2, 5}), test::ints({3, 6})}},
      {"GeluGrad", {g, x}},
      {"GeluGrad", {g, x}, {{"approximate", std::string("tanh")}}},
      {"SwishGrad", {g, x}, {{"alpha", 1.5f}}},
      {"MeanPoolGrad", {random.floats({2, 6}), test::ints({3, 5}), shape}},
      {"NegativeLogLikelihoodLossGrad",
       {random.floats({}), test::ints({4, 3}), test::ints({0, 2, 1, 1})}},
      {"LayerNormalizationGrad", {g, x, random.floats({6})}, {}, 2},
      {"RMSNormalizationGrad", {g, x, random.floats({6})}, {}, 2},
      {"L2NormalizeGrad", {g, x}},
      {"AttentionGrad",
       {g, x, random.floats({2, 4, 3}), random.floats({2, 4, 3}), test::ints({4, 2})},
       {{"heads", int64_t{2}}, {"kv_heads", int64_t{1}}, {"scale", 0.5f}},
       3}};
  for (const Operator& op : operators)
    for (const DType type : {DType::bf16, DType::f16}) {
      SCOPED_TRACE(op.name);
      const Node node = test::node_of(op.name, kVerbatimDomain, op.attributes, op.outputs);
      Tensors narrow, wide;
      for (const Tensor& t : op.inputs) {
        narrow.push_back(t.dtype() == DType::f32 ? cast(t, type) : t);
        wide.push_back(t.dtype() == DType::f32 ? cast(narrow.back(), DType::f32) : t);
      }
      const Result<Tensors> have = evaluate_reference(node, narrow),
                            want = evaluate_reference(node, wide);
      ASSERT_TRUE(have.ok() && want.ok()) << have.status().message();
      for (int i = 0; i < op.outputs; ++i)
        EXPECT_TRUE(identical((*have)[i], cast((*want)[i], type))) << i;
    }
}

// --- attention: binary32 alone, so the differences are those of the same function in binary64
// --------------------------------------

struct AttentionCase {
  int64_t batch, queries, keys, heads, kv_heads, size, value_size;
  bool causal;
  int64_t window;
  float scale, softcap;
  std::vector<int64_t> lengths;
};

std::vector<double> plain_attention(const AttentionCase& c, const std::vector<double>& q,
                                    const std::vector<double>& k, const std::vector<double>& v) {
  std::vector<double> y(static_cast<size_t>(c.batch * c.queries * c.heads * c.value_size));
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t t = 0; t < c.queries; ++t)
      for (int64_t h = 0; h < c.heads; ++h) {
        const int64_t kv = h / (c.heads / c.kv_heads), length = c.lengths[b],
                      position = length - c.queries + t;
        std::vector<double> p(static_cast<size_t>(c.keys));
        double sum = 0;
        for (int64_t i = 0; i < length; ++i) {
          if (c.causal && i > position) continue;
          if (c.window > 0 && i <= position - c.window) continue;
          double s = 0;
          for (int64_t j = 0; j < c.size; ++j)
            s += q[((b * c.queries + t) * c.heads + h) * c.size + j] *
                 k[((b * c.keys + i) * c.kv_heads + kv) * c.size + j];
          s = c.softcap == 0 ? s * c.scale : c.softcap * std::tanh(s * c.scale / c.softcap);
          sum += p[i] = std::exp(s);
        }
        for (int64_t i = 0; i < c.keys && sum > 0; ++i)
          for (int64_t j = 0; j < c.value_size; ++j)
            y[((b * c.queries + t) * c.heads + h) * c.value_size + j] +=
                p[i] / sum * v[((b * c.keys + i) * c.kv_heads + kv) * c.value_size + j];
      }
  return y;
}

std::vector<double> widened(const Tensor& t) {
  return {t.data<float>().begin(), t.data<float>().end()};
}

void check_attention(test::Random& random, const AttentionCase& c, int64_t probes) {
  const Tensor q = random.floats({c.batch, c.queries, c.heads * c.size}),
               k = random.floats({c.batch, c.keys, c.kv_heads * c.size}),
               v = random.floats({c.batch, c.keys, c.kv_heads * c.value_size}),
               g = random.floats({c.batch, c.queries, c.heads * c.value_size});
  const Attributes attributes = {{"heads", c.heads},   {"kv_heads", c.kv_heads},
                                 {"scale", c.scale},   {"softcap", c.softcap},
                                 {"window", c.window}, {"causal", int64_t{c.causal}}};
  GraphBuilder b;
  const auto in = [&](const char* name) { return b.input(name, DType::f32, {-1, -1, -1}); };
  const ValueId vq = in("q"), vk = in("k"), vv = in("v");
  const ValueId y = b.add("Attention", kVerbatimDomain,
                          {vq, vk, vv, b.constant("lengths", test::ints(c.lengths))}, attributes);
  const ValueId loss = b.add("ReduceSum", "", {b.add("Mul", "", {y, b.constant("g", g)})},
                             {{"keepdims", int64_t{0}}});
  b.output("loss", loss);
  const ValueId wrt[] = {vq, vk, vv};
  const Result<Graph> graph = differentiate(*b.finish(), loss, wrt);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  const Tensors out = run(*graph, {q, k, v});
  std::vector<std::vector<double>> x = {widened(q), widened(k), widened(v)};
  const std::vector<double> weights = widened(g);
  const auto value = [&] {
    const std::vector<double> have = plain_attention(c, x[0], x[1], x[2]);
    double sum = 0;
    for (size_t i = 0; i < have.size(); ++i) sum += have[i] * weights[i];
    return sum;
  };
  constexpr double h = 1e-5;
  for (size_t operand = 0; operand < 3; ++operand) {
    const auto count = static_cast<int64_t>(x[operand].size());
    for (int64_t probe = 0; probe < std::min(count, probes); ++probe) {
      const int64_t i = probes >= count ? probe : random.below(count);
      const double before = x[operand][i];
      x[operand][i] = before + h;
      const double above = value();
      x[operand][i] = before - h;
      const double below = value();
      x[operand][i] = before;
      const double want = (above - below) / (2 * h);
      ASSERT_NEAR(out[operand + 1].data<float>()[i], want, 4e-6 * (1 + std::fabs(want)))
          << "operand " << operand << ", element " << i;
    }
  }
}

RC_GTEST_PROP(Gradient, OfAttention, ()) {
  test::Random random = any_random();
  AttentionCase c{};
  c.batch = random.between(1, 2);
  c.keys = random.between(1, 6);
  c.queries = random.below(2) == 0 ? c.keys : random.between(1, c.keys);
  c.kv_heads = random.between(1, 2);
  c.heads = c.kv_heads * random.between(1, 3);
  c.size = random.between(1, 5);
  c.value_size = random.between(1, 4);
  c.causal = random.below(2) == 0;
  c.window = random.below(3) == 0 ? random.between(1, 4) : 0;
  c.scale = 0.5f + 0.25f * random.unit();
  c.softcap = random.below(3) == 0 ? 1.5f : 0.0f;
  for (int64_t b = 0; b < c.batch; ++b) c.lengths.push_back(random.between(0, c.keys));
  check_attention(random, c, 1 << 20);
  RC_ASSERT(!::testing::Test::HasFailure());
}

// Several blocks of keys and of queries.
TEST(Gradient, OfAttentionOverBlocks) {
  test::Random random(9);
  check_attention(random, {1, 290, 290, 2, 1, 3, 2, true, 0, 0.7f, 0, {290}}, 60);
  check_attention(random, {1, 140, 300, 2, 2, 3, 2, true, 150, 0.7f, 0, {270}}, 60);
}

// Linear in x, so a long step costs no accuracy: binary32 is all there is.
TEST(Gradient, OfAttentionToPagesIsAnError) {
  GraphBuilder b;
  const ValueId x = b.input("x", DType::f32, {1, 4, 8});
  const ValueId y =
      b.add("Attention", kVerbatimDomain,
            {x, x, x, kAbsent, b.constant("table", *test::ints({0}).reshaped(Shape{1, 1}))},
            {{"heads", int64_t{1}}, {"scale", 0.5f}});
  const ValueId loss = b.add("ReduceSum", "", {y}, {{"keepdims", int64_t{0}}});
  b.output("loss", loss);
  const Status status = differentiate(*b.finish(), loss, {&x, 1}).status();
  EXPECT_EQ(status.code(), StatusCode::unsupported);
  EXPECT_NE(status.message().find("keys in pages have none"), std::string::npos)
      << status.message();
}

TEST(Gradient, OfRotaryEmbedding) {
  test::Random random(10);
  for (const int64_t interleaved : {0, 1})
    check(one("RotaryEmbedding", {{"heads", int64_t{2}}, {"interleaved", interleaved}}, "verbatim"),
          {random.floats({2, 3, 12}), random.floats({3, 2}), random.floats({3, 2})}, {0}, 1.0,
          2e-6);
}

}  // namespace
}  // namespace verbatim
