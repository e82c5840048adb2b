// Products with weights of few bits, and of other formats of codes, beside our own int8 of the same
// shape. One row does little but read the weights: gemv_w4, gemv_w2, gemv_w1, gemv_mxint8,
// gemv_nvint4, gemv_bfp4, whose rate is the bytes of the packed weights over the time, the peer's
// too, though it reads more; so the ratio is one of times. More rows: gemm_mxint8 and so on. What
// makes codes of the activations: codes_mxint8, codes_nvint4, codes_nvint4_rotated.
#include <verbatim/cli/bench/cases.h>
#include <verbatim/repops/ops/grouped.h>
#include <verbatim/repops/ops/quantized.h>

namespace verbatim::bench {
namespace {

struct Size {
  int64_t m, n, k;
  double codes() const { return static_cast<double>(n * k); }
};
constexpr Size kRow[] = {{1, 4096, 4096}, {1, 8192, 8192}};
constexpr Size kRows[] = {{4, 4096, 4096}, {16, 4096, 4096}, {512, 512, 512}, {1024, 1024, 1024}};

struct Format {
  const char* name;
  GroupFormat format;
};
constexpr Format kFormats[] = {
    {"mxint8", kMxInt8}, {"nvint4", kNvInt4}, {"bfp4", {4, 32, DType::f8e8m0, 1}}};

struct Operands {
  Tensor x, w;  // [m, k], [n, k]
};
Result<Operands> operands(const Size& s) {
  Operands o;
  VB_ASSIGN(o.x, random_tensor(Shape{s.m, s.k}, 1));
  VB_ASSIGN(o.w, random_tensor(Shape{s.n, s.k}, 2));
  return o;
}

Result<std::shared_ptr<Operator>> integers(Backend& backend, const Operands& o, int bits) {
  VB_ASSIGN(const QuantizedTensor x, quantize_rows(o.x, 1));
  VB_ASSIGN(const QuantizedWeights w, quantize_weights(o.w, bits, 1));
  std::vector<Tensor> constants = {w.codes, w.scales};
  if (w.group_scales.defined()) constants.push_back(w.group_scales);
  return Operator::create(backend, "QuantizedLinear", kVerbatimDomain, {x.codes, x.scales},
                          constants);
}

Result<std::shared_ptr<Operator>> grouped(Backend& backend, const Operands& o,
                                          const GroupFormat& f) {
  VB_ASSIGN(const GroupedTensor x, quantize_groups(o.x, f));
  VB_ASSIGN(const GroupedTensor w, quantize_groups(o.w, f, true));
  // Scales of rows are left out: they take a multiplication of each result.
  return Operator::create(backend, "GroupedLinear", kVerbatimDomain, {x.codes, x.scales},
                          {w.codes, w.scales}, {{"group", f.group}});
}

Contender own(const std::string& name, const std::shared_ptr<Operator>& op) {
  Contender c = op->contender();
  c.name = name;
  c.run = [op] { op->run(); };
  return c;
}

// `work` in units of 1e9.
Match against_int8(const std::shared_ptr<Operator>& ours, const std::shared_ptr<Operator>& int8,
                   double work, const std::string& unit, Limit limit = Limit::none) {
  return {own("Verbatim", ours), {own("own int8", int8)}, work, unit, limit};
}

Result<Match> low_bit_row(Backend& backend, const Size& s, int bits) {
  VB_ASSIGN(const Operands o, operands(s));
  VB_ASSIGN(const auto ours, integers(backend, o, bits));
  VB_ASSIGN(const auto int8, integers(backend, o, 8));
  return against_int8(ours, int8, 1e-9 * s.codes() * (bits / 8.0 + 1.0 / kQuantizedGroup), "GB/s",
                      Limit::read_bandwidth);
}

Result<Match> format_product(Backend& backend, const Size& s, const GroupFormat& f) {
  VB_ASSIGN(const Operands o, operands(s));
  VB_ASSIGN(const auto ours, grouped(backend, o, f));
  VB_ASSIGN(const auto int8, integers(backend, o, 8));
  if (s.m > 1)
    return against_int8(ours, int8, 2e-9 * static_cast<double>(s.m) * s.codes(), "GOP/s");
  return against_int8(ours, int8,
                      1e-9 * s.codes() * (f.bits / 8.0 + 2.0 / static_cast<double>(f.group)),
                      "GB/s", Limit::read_bandwidth);
}

Result<Match> codes_of(Backend& backend, const Shape& shape, const GroupFormat& f) {
  VB_ASSIGN(const Tensor x, random_tensor(shape, 1));
  const Attributes attributes = {{"bits", int64_t{f.bits}},
                                 {"group", f.group},
                                 {"scale_type", static_cast<int64_t>(f.scale)},
                                 {"rotation", f.rotation}};
  VB_ASSIGN(const auto ours,
            Operator::create(backend, "QuantizeGroups", kVerbatimDomain, {x}, {}, attributes));
  VB_ASSIGN(const auto int8, Operator::create(backend, "QuantizeRows", kVerbatimDomain, {x}, {}));
  return against_int8(ours, int8, 4e-9 * static_cast<double>(x.elements()), "GB/s");
}

template <class F>
void add(std::vector<Case>& cases, const std::string& name, const Size& s, F prepare) {
  cases.push_back(
      {name, shape_text({s.m, s.n, s.k}), [=](Backend& backend) { return prepare(backend, s); }});
}

}  // namespace

void add_low_bit_cases(std::vector<Case>& cases) {
  for (const int bits : {4, 2, 1})
    for (const Size& s : kRow)
      add(cases, "gemv_w" + std::to_string(bits), s,
          [=](Backend& b, const Size& size) { return low_bit_row(b, size, bits); });
  for (const Format& f : kFormats) {
    const auto product = [=](Backend& b, const Size& s) { return format_product(b, s, f.format); };
    for (const Size& s : kRow) add(cases, std::string("gemv_") + f.name, s, product);
    for (const Size& s : kRows) add(cases, std::string("gemm_") + f.name, s, product);
  }
  for (const Format& f : {Format{"mxint8", kMxInt8}, Format{"nvint4", kNvInt4},
                          Format{"nvint4_rotated", kNvInt4Rotated}})
    cases.push_back({std::string("codes_") + f.name, shape_text({512, 4096}), [=](Backend& b) {
                       return codes_of(b, Shape{512, 4096}, f.format);
                     }});
}

}  // namespace verbatim::bench
