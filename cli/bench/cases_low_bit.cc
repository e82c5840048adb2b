// One row times weights of few bits, which does little but read them: names gemv_w4, gemv_w2,
// gemv_w1, beside our own int8. A rate is the bytes of the packed weights over the time, the peer's
// too, though it reads more: so the ratio is one of times.
#include <verbatim/cli/bench/cases.h>
#include <verbatim/repops/ops/quantized.h>

namespace verbatim::bench {
namespace {

Result<std::shared_ptr<Operator>> product(Backend& backend, const QuantizedTensor& x,
                                          const Tensor& w, int bits) {
  VB_ASSIGN(const QuantizedWeights q, quantize_weights(w, bits, 1));
  std::vector<Tensor> constants = {q.codes, q.scales};
  if (q.group_scales.defined()) constants.push_back(q.group_scales);
  return Operator::create(backend, "QuantizedLinear", kVerbatimDomain, {x.codes, x.scales},
                          constants);
}

Result<Match> against_int8(Backend& backend, int64_t n, int64_t k, int bits) {
  VB_ASSIGN(const Tensor row, random_tensor(Shape{1, k}, 1));
  VB_ASSIGN(const QuantizedTensor x, quantize_rows(row, 1));
  VB_ASSIGN(const Tensor w, random_tensor(Shape{n, k}, 2));
  VB_ASSIGN(const std::shared_ptr<Operator> ours, product(backend, x, w, bits));
  VB_ASSIGN(const std::shared_ptr<Operator> int8, product(backend, x, w, 8));
  const auto codes = static_cast<double>(n * k);
  Contender peer = {"own int8", "", std::string(backend.name()), [int8] { int8->run(); }, {}};
  return Match{{"Verbatim", "", std::string(backend.name()), [ours] { ours->run(); }, {}},
               {std::move(peer)},
               1e-9 * (codes * bits / 8 + codes / kQuantizedGroup),
               "GB/s",
               Limit::read_bandwidth};
}

}  // namespace

void add_low_bit_cases(std::vector<Case>& cases) {
  for (const int bits : {4, 2, 1})
    for (const int64_t size : {4096, 8192})
      cases.push_back({"gemv_w" + std::to_string(bits), shape_text({1, size, size}),
                       [=](Backend& b) { return against_int8(b, size, size, bits); }});
}

}  // namespace verbatim::bench
