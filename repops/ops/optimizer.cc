// Optimizers: one step of one parameter (docs/numerics.md, Training). All of binary32; each
// operation that is written is rounded.
#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/strided.h>

namespace verbatim {
namespace {

// All are float32 of the first one's shape.
Status check_states(std::span<const Tensor> tensors) {
  for (const Tensor& t : tensors)
    if (t.dtype() != DType::f32 || !(t.shape() == tensors[0].shape()))
      return bad_input("an update of " + tensors[0].describe() + " by " + t.describe());
  return {};
}

Result<float> read_rate(const Tensor& t) {
  if (t.dtype() != DType::f32 || t.elements() != 1)
    return bad_input("learning rate " + t.describe() + ", not one float32");
  return t.data<float>()[0];
}

// SgdUpdate(w, g, rate, v?; momentum, weight_decay) -> w, v?: g' = g + weight_decay * w (g itself
// where that is 0); v' = momentum * v + g' (g' itself without v); w' = w - rate * v'.
Result<Tensors> sgd_update(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &w = inputs[0], &g = inputs[1], velocity = input_or_none(inputs, 3);
  VB_ASSIGN(const float momentum, node.attributes.get<float>("momentum", 0.0f));
  VB_ASSIGN(const float decay, node.attributes.get<float>("weight_decay", 0.0f));
  VB_ASSIGN(const float rate, read_rate(inputs[2]));
  const Tensor all[] = {w, g, velocity.defined() ? velocity : g};
  VB_TRY(check_states(all));
  if (!velocity.defined() && node.outputs.size() > 1)
    return bad_input("a velocity is asked for and none is given");
  VB_ASSIGN(Tensor new_w, Tensor::allocate(DType::f32, w.shape()));
  VB_ASSIGN(Tensor new_v, Tensor::allocate(DType::f32, w.shape()));
  const float *pw = w.data<float>().data(), *pg = g.data<float>().data(),
              *pv = velocity.defined() ? velocity.data<float>().data() : nullptr;
  float *yw = new_w.mutable_data<float>().data(), *yv = new_v.mutable_data<float>().data();
  parallel_for(w.elements(), kElementGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float decayed = decay == 0 ? pg[i] : pg[i] + decay * pw[i];
      const float v = pv == nullptr ? decayed : momentum * pv[i] + decayed;
      yv[i] = canonical(v);
      yw[i] = canonical(pw[i] - rate * v);
    }
  });
  return Tensors{new_w, new_v};
}

// AdamWUpdate(w, g, m, v, rate, betas float64 [2], powers float64 [2]; epsilon, weight_decay) -> w,
// m, v: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (arXiv 1711.05101),
// algorithm 2 with alpha = 1 and eta = rate. `powers` are beta1^t and beta2^t of the step t = 1, 2,
// ... b = beta and r = 1 - beta (subtracted in binary64) and c = 1 - power (likewise) are rounded
// to binary32; then m' = b1 * m + r1 * g; v' = b2 * v + r2 * (g * g); w' = w - rate * ((m' / c1) /
// (sqrt(v' / c2) + epsilon) + weight_decay * w).
Result<Tensors> adamw_update(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const float epsilon, node.attributes.get<float>("epsilon", 1e-8f));
  VB_ASSIGN(const float decay, node.attributes.get<float>("weight_decay", 0.0f));
  VB_ASSIGN(const float rate, read_rate(inputs[4]));
  VB_TRY(check_states(inputs.first(4)));
  for (const Tensor& t : inputs.subspan(5))
    if (t.dtype() != DType::f64 || !(t.shape() == Shape{2}))
      return bad_input("betas or powers " + t.describe() + ", not float64 [2]");
  const auto betas = inputs[5].data<double>(), powers = inputs[6].data<double>();
  const auto b1 = static_cast<float>(betas[0]), b2 = static_cast<float>(betas[1]),
             r1 = static_cast<float>(1 - betas[0]), r2 = static_cast<float>(1 - betas[1]),
             c1 = static_cast<float>(1 - powers[0]), c2 = static_cast<float>(1 - powers[1]);
  Tensors out(3);
  for (Tensor& t : out) {
    VB_ASSIGN(t, Tensor::allocate(DType::f32, inputs[0].shape()));
  }
  const float *w = inputs[0].data<float>().data(), *g = inputs[1].data<float>().data(),
              *m = inputs[2].data<float>().data(), *v = inputs[3].data<float>().data();
  float *yw = out[0].mutable_data<float>().data(), *ym = out[1].mutable_data<float>().data(),
        *yv = out[2].mutable_data<float>().data();
  parallel_for(inputs[0].elements(), kElementGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float first = b1 * m[i] + r1 * g[i], second = b2 * v[i] + r2 * (g[i] * g[i]);
      const float step = (first / c1) / (sqrt_of(second / c2) + epsilon);
      ym[i] = canonical(first);
      yv[i] = canonical(second);
      yw[i] = canonical(w[i] - rate * (step + decay * w[i]));
    }
  });
  return out;
}

template <int kPerElement>
uint64_t per_element(const Node&, std::span<const Tensor>, std::span<const Tensor> outputs) {
  return saturating_multiply(static_cast<uint64_t>(outputs[0].elements()), kPerElement);
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "SgdUpdate", 3, 4, 2, sgd_update, per_element<6>},
    {kVerbatimDomain, "AdamWUpdate", 7, 7, 3, adamw_update, per_element<15>},
};

}  // namespace

std::span<const OpDef> optimizer_ops() { return kOps; }

}  // namespace verbatim
