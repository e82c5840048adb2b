// Losses: what trained models carry along, and the ONNX suite tests.
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/sum.h>

namespace verbatim {
namespace {

// NegativeLogLikelihoodLoss(x [N, C, ...], target [N, ...], weight [C]?; ignore_index, reduction):
// -(x[n, t, ...] * weight[t]), and for "mean" the ordered sum over that of the weights. Ignored
// targets have loss and weight 0.
Result<Tensors> negative_log_likelihood(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &target = inputs[1],
               weight = inputs.size() > 2 ? inputs[2] : Tensor();
  VB_ASSIGN(const std::string reduction, node.attributes.get<std::string>("reduction", "mean"));
  if (reduction != "mean" && reduction != "sum" && reduction != "none")
    return bad_input("reduction '" + reduction + "'");
  const bool ignores = node.attributes.has("ignore_index");
  VB_ASSIGN(const int64_t ignored, node.attributes.get<int64_t>("ignore_index", 0));
  bool fits = x.rank() >= 2 && target.rank() == x.rank() - 1 && target.dim(0) == x.dim(0);
  for (int i = 1; fits && i < target.rank(); ++i) fits = target.dim(i) == x.dim(i + 1);
  if (!fits) return bad_input("target " + target.describe() + " for " + x.describe());
  const int64_t classes = x.dim(1), inner = x.shape().elements(2, x.rank());
  if (weight.defined() && (weight.dtype() != x.dtype() || !(weight.shape() == Shape{classes})))
    return bad_input("weight " + weight.describe() + " for " + x.describe());
  VB_ASSIGN(const Integers labels, Integers::of(target, "target"));
  const auto skipped = [&](int64_t i) { return ignores && labels[i] == ignored; };
  for (int64_t i = 0; i < labels.size(); ++i)
    if (!skipped(i) && (labels[i] < 0 || labels[i] >= classes))
      return bad_input("target " + std::to_string(labels[i]) + " of " + std::to_string(classes));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), reduction == "none" ? target.shape() : Shape{}));
  return visit_float<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    using C = Compute<T>;
    const auto weight_of = [&](int64_t i) {
      if (skipped(i)) return C{0};
      return weight.defined() ? load(weight.data<T>()[labels[i]]) : C{1};
    };
    const auto loss = [&](int64_t i) {
      if (skipped(i)) return C{0};
      const C v = load(x.data<T>()[(i / inner * classes + labels[i]) * inner + i % inner]);
      return -(v * weight_of(i));
    };
    if (reduction == "none") {
      for (int64_t i = 0; i < labels.size(); ++i) y.mutable_data<T>()[i] = store<T>(loss(i));
      return Tensors{y};
    }
    C total = ordered_sum<C>(labels.size(), loss);
    if (reduction == "mean") total = total / ordered_sum<C>(labels.size(), weight_of);
    y.mutable_data<T>()[0] = store<T>(total);
    return Tensors{y};
  });
}

// One operation for each target.
uint64_t loss_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor>) {
  return static_cast<uint64_t>(inputs[1].elements());
}

constexpr OpDef kOps[] = {
    {"", "NegativeLogLikelihoodLoss", 2, 3, 1, negative_log_likelihood, loss_cost},
};

}  // namespace

std::span<const OpDef> loss_ops() { return kOps; }

}  // namespace verbatim
