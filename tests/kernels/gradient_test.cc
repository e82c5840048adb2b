// What training adds, on a GPU against the reference, which alone has it elsewhere.
#include "kernels/compare.h"

namespace verbatim::test {
namespace {

class GradientTest : public OnBackend {
 protected:
  // As expect_reference(); most cases must have run on the device.
  template <class F>
  void check(int count, F&& make) {
    expect_reference(*backend_, count, make);
    int there = 0;
    constexpr int kSample = 20;
    for (uint64_t seed = 0; seed < kSample; ++seed) {
      Random r(seed);
      const Case c = make(r);
      const Result<Tensors> y = backend_->run(c.node, c.inputs);
      there += y.ok() && (*y)[0].device() != nullptr;
    }
    EXPECT_GT(there, kSample / 3);
  }
};
INSTANTIATE_TEST_SUITE_P(Backends, GradientTest, ::testing::Values("cuda"),
                         [](const auto& info) { return info.param; });

Tensor integers(const std::vector<int64_t>& values) {
  return *Tensor::from<int64_t>(Shape{static_cast<int64_t>(values.size())}, values);
}

TEST_P(GradientTest, Activations) {
  check(300, [](Random& r) {
    const int64_t n = r.between(0, 700);
    const bool swish = r.chance(50);
    Attributes a;
    if (swish && r.chance(50)) a.set("alpha", number(r, any_fill(r)));
    if (!swish && r.chance(50)) a.set("approximate", std::string("tanh"));
    return Case{node_of("verbatim", swish ? "SwishGrad" : "GeluGrad", a),
                {floats(r, {n}, any_fill(r)), floats(r, {n}, any_fill(r))},
                {}};
  });
}

TEST_P(GradientTest, Normalizations) {
  check(500, [](Random& r) {
    const Shape shape{r.between(1, 5), r.between(1, 9),
                      r.pick({r.between(1, 40), r.between(1, 2500)})};
    const Fill fill = any_fill(r);
    const Tensor g = floats(r, shape, fill), x = floats(r, shape, fill);
    if (r.chance(30))
      return Case{
          node_of("verbatim", "L2NormalizeGrad", {{"epsilon", r.pick({1e-12f, 1.0f, 1e30f})}}),
          {g, x},
          {}};
    Attributes a;
    if (r.chance(30)) a.set("axis", int64_t{1});
    const int64_t size = shape[2] * (a.has("axis") ? shape[1] : 1);
    const Tensor gamma = floats(r, {r.chance(80) ? size : 1}, fill);
    return Case{
        node_of("verbatim", r.chance(50) ? "LayerNormalizationGrad" : "RMSNormalizationGrad", a, 2),
        {g, x, gamma},
        {2}};
  });
}

TEST_P(GradientTest, SumsOverBroadcastDimensions) {
  check(500, [](Random& r) {
    const int64_t rank = r.between(0, 4);
    std::vector<int64_t> x, to;
    for (int64_t i = 0; i < rank; ++i)
      x.push_back(r.pick({1, 2, 3, static_cast<int>(r.between(1, 70))}));
    to = x;
    for (int64_t& size : to)
      if (r.chance(50)) size = 1;
    if (r.chance(50)) to.erase(to.begin(), to.begin() + r.between(0, rank));
    // Where nothing is summed elements are moved, NaN of any payload among them.
    const bool moves = Shape::of(x)->elements() == Shape::of(to)->elements();
    const Fill fill = moves ? Fill::ordinary : any_fill(r);
    return Case{node_of("verbatim", "SumTo"), {floats(r, *Shape::of(x), fill), integers(to)}, {}};
  });
}

TEST_P(GradientTest, ScatteredRows) {
  check(300, [](Random& r) {
    std::vector<int64_t> shape = {r.between(1, 30), r.between(1, 40)};
    const int64_t axis = r.chance(70) ? 0 : r.between(-2, 1),
                  size = shape[static_cast<size_t>((axis + 2) % 2)];
    std::vector<int64_t> where(static_cast<size_t>(r.between(0, 60)));
    for (int64_t& i : where) i = r.between(-size, r.chance(3) ? size : size - 1);
    std::vector<int64_t> g = shape;
    g[static_cast<size_t>((axis + 2) % 2)] = static_cast<int64_t>(where.size());
    return Case{node_of("verbatim", "GatherGrad", {{"axis", axis}}),
                {floats(r, *Shape::of(g), any_fill(r)), integers(where), integers(shape)},
                {}};
  });
}

TEST_P(GradientTest, Losses) {
  check(500, [](Random& r) {
    const int64_t n = r.between(1, 40), classes = r.between(1, 50), inner = r.between(1, 3);
    std::vector<int64_t> shape = {n, classes};
    if (r.chance(30)) shape.push_back(inner);
    std::vector<int64_t> target = {n};
    target.insert(target.end(), shape.begin() + 2, shape.end());
    Tensor labels = *Tensor::allocate(DType::i64, *Shape::of(target));
    for (int64_t& label : labels.mutable_data<int64_t>())
      label = r.below(classes + (r.chance(1) ? 1 : 0));
    const std::string reduction = r.pick({"mean", "sum", "none"});
    Attributes a = {{"reduction", reduction}};
    if (r.chance(40)) a.set("ignore_index", r.between(-1, classes));
    const Fill fill = any_fill(r);
    const bool gradient = r.chance(50);
    Case c{node_of(gradient ? "verbatim" : "",
                   gradient ? "NegativeLogLikelihoodLossGrad" : "NegativeLogLikelihoodLoss", a),
           {},
           {}};
    if (gradient)
      c.inputs = {floats(r, reduction == "none" ? *Shape::of(target) : Shape{}, fill),
                  integers(shape), labels};
    else
      c.inputs = {floats(r, *Shape::of(shape), fill), labels};
    if (r.chance(50)) c.inputs.push_back(floats(r, {classes}, fill));
    return c;
  });
}

// Nothing to launch for.
TEST_P(GradientTest, NoClasses) {
  Random r(1);
  Tensor labels = *Tensor::zeros(DType::i64, Shape{2});
  for (int64_t& label : labels.mutable_data<int64_t>()) label = 1;
  expect_reference(*backend_,
                   Case{node_of("verbatim", "NegativeLogLikelihoodLossGrad",
                                {{"ignore_index", int64_t{1}}, {"reduction", std::string("sum")}}),
                        {floats(r, Shape{}, Fill::ordinary), integers({2, 0}), labels},
                        {}});
}

TEST_P(GradientTest, Optimizers) {
  check(300, [](Random& r) {
    const Shape shape{r.between(0, 5), r.between(1, 300)};
    const Fill fill = any_fill(r);
    const auto state = [&] { return floats(r, shape, fill); };
    const Tensor rate = floats(r, Shape{}, fill);
    Attributes a;
    if (r.chance(50)) a.set("weight_decay", number(r, fill));
    if (r.chance(50)) {
      a.set("momentum", number(r, fill));
      Case c{node_of("verbatim", "SgdUpdate", a, 2), {state(), state(), rate, state()}, {}};
      if (r.chance(30)) {
        c.inputs.pop_back();
        if (r.chance(70)) c.node.outputs.pop_back();
      }
      return c;
    }
    const double betas[] = {0.9, 0.999}, powers[] = {0.81, r.chance(10) ? 1.0 : 0.998};
    return Case{node_of("verbatim", "AdamWUpdate", a, 3),
                {state(), state(), state(), state(), rate, *Tensor::from<double>(Shape{2}, betas),
                 *Tensor::from<double>(Shape{2}, powers)},
                {}};
  });
}

Case some_attention(Random& r, int64_t most_queries, int64_t most_keys) {
  const int64_t kv = r.between(1, 2), heads = kv * r.between(1, 2), size = r.between(1, 20),
                value = r.between(1, 20), batch = r.between(1, 2),
                queries = r.between(1, most_queries), keys = r.between(1, most_keys);
  Attributes a = {{"heads", heads}, {"kv_heads", kv}, {"scale", 0.3f}};
  if (r.chance(50) && keys >= queries) a.set("causal", int64_t{1});
  if (r.chance(30)) a.set("window", r.between(1, 20));
  if (r.chance(30)) a.set("softcap", 2.5f);
  const Fill fill = any_fill(r);
  Case c{node_of("verbatim", "AttentionGrad", a, 3),
         {floats(r, {batch, queries, heads * value}, fill),
          floats(r, {batch, queries, heads * size}, fill),
          floats(r, {batch, keys, kv * size}, fill), floats(r, {batch, keys, kv * value}, fill)},
         {}};
  if (r.chance(40)) {
    std::vector<int64_t> lengths;
    for (int64_t b = 0; b < batch; ++b) lengths.push_back(r.between(0, keys));
    c.inputs.push_back(integers(lengths));
  }
  return c;
}

Case some_attention(Random& r, int64_t most) { return some_attention(r, most, most); }

TEST_P(GradientTest, Attention) {
  Random random(1);
  const Case one = some_attention(random, 40);
  ASSERT_TRUE(evaluate_reference(one.node, one.inputs).ok());
  check(200, [](Random& r) { return some_attention(r, 40); });
  check(40, [](Random& r) { return some_attention(r, 300); });
  check(40, [](Random& r) { return some_attention(r, r.between(1, 4), 300); });
}

TEST_P(GradientTest, LogSoftmax) {
  check(200, [](Random& r) {
    Attributes a;
    if (r.chance(40)) a.set("axis", r.pick({int64_t{-1}, int64_t{1}, int64_t{0}}));
    return Case{
        node_of("", "LogSoftmax", a),
        {floats(r, {r.between(1, 5), r.pick({r.between(0, 3), r.between(1, 2500)})}, any_fill(r))},
        {}};
  });
}

}  // namespace
}  // namespace verbatim::test
