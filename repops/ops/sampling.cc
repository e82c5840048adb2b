#include <verbatim/repops/ops/sampling.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include <verbatim/core/int128.h>
#include <verbatim/core/philox.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/semantics.h>
#include <verbatim/repops/unary.h>

namespace verbatim {
namespace {

// The greatest value at the lowest index; NaN is last.
int64_t argmax(std::span<const float> x) {
  int64_t best = 0;
  for (int64_t i = 1; i < static_cast<int64_t>(x.size()); ++i)
    if (x[i] > x[best] || (is_nan(x[best]) && !is_nan(x[i]))) best = i;
  return best;
}

std::vector<uint64_t> weights(std::span<const float> logits, float temperature) {
  float greatest = logits[0] / temperature;
  for (float v : logits)
    if (const float x = v / temperature; x > greatest || (is_nan(greatest) && !is_nan(x)))
      greatest = x;
  std::vector<uint64_t> w(logits.size());
  for (size_t i = 0; i < w.size(); ++i)
    w[i] = to_fixed32(exp_f32(logits[i] / temperature - greatest));
  return w;
}

void keep_top_k(std::vector<uint64_t>& w, int64_t k) {
  if (k <= 0 || k >= static_cast<int64_t>(w.size())) return;
  const std::vector<int64_t> order = by_weight(w);
  for (size_t i = static_cast<size_t>(k); i < order.size(); ++i) w[order[i]] = 0;
}

void keep_min_p(std::vector<uint64_t>& w, float min_p) {
  if (!(min_p > 0)) return;
  const uint128 bound = uint128{to_fixed32(std::min(min_p, 1.0f))} * *std::ranges::max_element(w);
  for (uint64_t& v : w)
    if (uint128{v} << 32 < bound) v = 0;
}

// Totals of weights are below 2^64: a vocabulary has fewer than 2^31 tokens, a weight is at most
// 2^32.
void keep_top_p(std::vector<uint64_t>& w, float top_p) {
  if (!(top_p < 1)) return;
  const uint64_t total = std::accumulate(w.begin(), w.end(), uint64_t{0});
  const uint128 bound = uint128{to_fixed32(top_p)} * total;
  uint64_t sum = 0;
  bool reached = false;
  for (int64_t i : by_weight(w)) {
    if (reached) w[i] = 0;
    sum += w[i];
    reached = reached || uint128{sum} << 32 >= bound;
  }
}

// Sample(logits [..., V], position int64 [1]) -> int64 [1]: the token after the last row of logits.
Result<Tensors> sample(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &logits = inputs[0], &position = inputs[1];
  if (logits.dtype() != DType::f32 || logits.rank() < 1 || logits.elements() == 0)
    return bad_input("Sample of " + logits.describe());
  if (position.dtype() != DType::i64 || position.elements() < 1)
    return bad_input("position " + position.describe());
  VB_ASSIGN(const SamplingSettings s, sampling_settings(node));
  const int64_t vocabulary = logits.dim(logits.rank() - 1);
  if (vocabulary >= int64_t{1} << 31)
    return over_limit("vocabulary of " + std::to_string(vocabulary));
  const int64_t last = position.data<int64_t>().back();
  const int64_t token = sample_token(logits.data<float>().last(static_cast<size_t>(vocabulary)),
                                     static_cast<uint64_t>(last), s);
  VB_ASSIGN(Tensor out, Tensor::from<int64_t>(Shape{1}, std::span(&token, 1)));
  return Tensors{out};
}

uint64_t sample_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor>) {
  return static_cast<uint64_t>(inputs[0].elements()) * 4;
}

constexpr OpDef kOps[] = {{kVerbatimDomain, "Sample", 2, 2, 1, sample, sample_cost}};

}  // namespace

Result<SamplingSettings> sampling_settings(const Node& node) {
  SamplingSettings s;
  VB_ASSIGN(s.temperature, node.attributes.get<float>("temperature", 0.0f));
  VB_ASSIGN(s.top_k, node.attributes.get<int64_t>("top_k", 0));
  VB_ASSIGN(s.top_p, node.attributes.get<float>("top_p", 1.0f));
  VB_ASSIGN(s.min_p, node.attributes.get<float>("min_p", 0.0f));
  VB_ASSIGN(const int64_t seed, node.attributes.get<int64_t>("seed", 0));
  s.seed = static_cast<uint64_t>(seed);
  return s;
}

std::vector<int64_t> by_weight(std::span<const uint64_t> weights) {
  std::vector<int64_t> order(weights.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](int64_t a, int64_t b) {
    return weights[a] != weights[b] ? weights[a] > weights[b] : a < b;
  });
  return order;
}

int64_t sample_token(std::span<const float> logits, uint64_t position,
                     const SamplingSettings& settings) {
  if (!(settings.temperature > 0)) return argmax(logits);
  std::vector<uint64_t> w = weights(logits, settings.temperature);
  keep_top_k(w, settings.top_k);
  keep_min_p(w, settings.min_p);
  keep_top_p(w, settings.top_p);
  const uint64_t total = std::accumulate(w.begin(), w.end(), uint64_t{0});
  if (total == 0)
    return argmax(logits);  // infinities or NaN everywhere: no distribution to draw from
  const auto r = static_cast<uint64_t>(
      uint128{philox_u64(settings.seed, position, settings.stream)} * total >> 64);
  uint64_t sum = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    sum += w[i];
    if (sum > r) return static_cast<int64_t>(i);
  }
  return static_cast<int64_t>(w.size()) - 1;  // not reached: r < total
}

std::span<const OpDef> sampling_ops() { return kOps; }

}  // namespace verbatim
