// Matrix products: names gemm_f32, gemm_s8, gemm_bf16, gemm_sliced2..4; of one row: gemv_f32,
// gemv_s8.
#include <verbatim/cli/bench/cases.h>
#include <verbatim/cli/bench/peers.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/sliced.h>

namespace verbatim::bench {
namespace {

struct Size {
  int64_t m, n, k;
};
constexpr Size kSquares[] = {
    {512, 512, 512}, {1024, 1024, 1024}, {2048, 2048, 2048}, {4096, 4096, 4096}};
// K = 64, as in the scores of attention; and sizes that no tile divides.
constexpr Size kOthers[] = {{2048, 2048, 64}, {509, 1021, 763}, {1531, 2039, 1097}};

constexpr Size kRows[] = {{1, 4096, 4096}, {1, 8192, 8192}};

double operations(const Size& s) {
  return 2e-9 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
}

// What a case holds on to while it runs.
struct FloatOperands {
  Tensor a, b, transposed;  // [m, k], [k, n], [n, k]
};
Result<FloatOperands> operands(const Size& s) {
  FloatOperands o;
  VB_ASSIGN(o.a, random_tensor(Shape{s.m, s.k}, 1));
  VB_ASSIGN(o.transposed, random_tensor(Shape{s.n, s.k}, 2));
  VB_ASSIGN(o.b, Tensor::allocate(DType::f32, Shape{s.k, s.n}));
  const std::span<const float> from = o.transposed.data<float>();
  const std::span<float> to = o.b.mutable_data<float>();
  for (int64_t k = 0; k < s.k; ++k)
    for (int64_t n = 0; n < s.n; ++n) to[k * s.n + n] = from[n * s.k + k];
  return o;
}

// Peers that multiply the same matrices in binary32, each into a result of its own.
struct FloatPeers {
  std::vector<Contender> peers;
  std::vector<Tensor> results;
};
Result<FloatPeers> float_peers(const Size& s, const FloatOperands& o) {
  FloatPeers f;
  for (size_t i = 0, count = float_product_peers({}).size(); i < count; ++i) {
    VB_ASSIGN(Tensor c, Tensor::zeros(DType::f32, Shape{s.m, s.n}));
    std::vector<Contender> all =
        float_product_peers({s.m, s.n, s.k, o.a.data<float>().data(), o.b.data<float>().data(),
                             c.mutable_data<float>().data()});
    f.peers.push_back(std::move(all[i]));
    f.results.push_back(std::move(c));
  }
  return f;
}

// Our operator of a precision on the operands of `s`.
using Make = Result<std::shared_ptr<Operator>> (*)(Backend&, const FloatOperands&);

Result<std::shared_ptr<Operator>> ordered(Backend& backend, const FloatOperands& o) {
  return Operator::create(backend, "MatMul", "", {o.a}, {o.b});
}

template <DType kType>
Result<std::shared_ptr<Operator>> tensor_core(Backend& backend, const FloatOperands& o) {
  VB_ASSIGN(const Tensor a, rounded_to(kType, o.a));
  VB_ASSIGN(const Tensor b, rounded_to(kType, o.transposed));
  return Operator::create(backend, "TensorCoreLinear", kVerbatimDomain, {a}, {b});
}

template <int kSlices>
Result<std::shared_ptr<Operator>> sliced(Backend& backend, const FloatOperands& o) {
  VB_ASSIGN(const SlicedTensor a, slice_tensor(o.a, kSlices));
  VB_ASSIGN(const SlicedTensor b, slice_tensor(o.transposed, kSlices));
  return Operator::create(backend, "SlicedLinear", kVerbatimDomain, {a.slices, a.exponents},
                          {b.slices, b.exponents});
}

Result<std::shared_ptr<Operator>> quantized(Backend& backend, const FloatOperands& o) {
  VB_ASSIGN(const QuantizedTensor a, quantize_rows(o.a, 1));
  VB_ASSIGN(const QuantizedTensor b, quantize_rows(o.transposed, 1));
  return Operator::create(backend, "QuantizedLinear", kVerbatimDomain, {a.codes, a.scales},
                          {b.codes, b.scales});
}

Result<Match> against_float_libraries(Backend& backend, const Size& s) {
  VB_ASSIGN(const FloatOperands o, operands(s));
  VB_ASSIGN(const std::shared_ptr<Operator> ours, ordered(backend, o));
  auto peers = std::make_shared<FloatPeers>();
  VB_ASSIGN(*peers, float_peers(s, o));
  Match match{ours->contender(), peers->peers, operations(s), "GFLOP/s", Limit::float_operations};
  match.check = [ours, peers, o]() -> Status {
    for (size_t i = 0; i < peers->peers.size(); ++i)
      VB_TRY(close(ours->output().data<float>(), peers->results[i].data<float>(), 1e-4,
                   peers->peers[i].name));
    return {};
  };
  return match;
}

// Another family against our own ordered binary32.
Result<Match> against_ordered(Backend& backend, const Size& s, Make make, double tolerance) {
  VB_ASSIGN(const FloatOperands o, operands(s));
  VB_ASSIGN(const std::shared_ptr<Operator> ours, make(backend, o));
  VB_ASSIGN(const std::shared_ptr<Operator> own, ordered(backend, o));
  Contender peer = own->contender();
  peer.name = "own ordered fp32";
  Match match{ours->contender(), {peer}, operations(s), "GFLOP/s"};
  match.check = [=] {
    return close(ours->output().data<float>(), own->output().data<float>(), tolerance,
                 "ordered binary32");
  };
  return match;
}

Result<Match> against_int8_libraries(Backend& backend, const Size& s) {
  VB_ASSIGN(const FloatOperands o, operands(s));
  VB_ASSIGN(const QuantizedTensor a, quantize_rows(o.a, 1));
  VB_ASSIGN(const QuantizedTensor b, quantize_rows(o.transposed, 1));
  VB_ASSIGN(const std::shared_ptr<Operator> ours,
            Operator::create(backend, "QuantizedLinear", kVerbatimDomain, {a.codes, a.scales},
                             {b.codes, b.scales}));
  VB_ASSIGN(Tensor c, Tensor::zeros(DType::i32, Shape{s.m, s.n}));
  Match match{ours->contender(),
              int8_product_peers({s.m, s.n, s.k, a.codes.data<int8_t>().data(),
                                  b.codes.data<int8_t>().data(), c.mutable_data<int32_t>().data()}),
              operations(s), "GOP/s", Limit::integer_operations};
  match.check = [=, keep = ours]() -> Status {
    if (match.peers.empty()) return {};
    const std::span<const float> y = keep->output().data<float>();
    for (int64_t i = 0; i < s.m * s.n; ++i) {
      const float scale = a.scales.data<float>()[i / s.n] * b.scales.data<float>()[i % s.n];
      if (y[i] != static_cast<float>(c.data<int32_t>()[i]) * scale)
        return internal_error("oneDNN's integers differ from ours at element " + std::to_string(i));
    }
    return {};
  };
  return match;
}

// A product of one row does little but read its weights: its rate is theirs.
template <Result<Match> (*kProduct)(Backend&, const Size&), int kBytes>
Result<Match> weights_read(Backend& backend, const Size& s) {
  VB_ASSIGN(Match match, kProduct(backend, s));
  match.work = 1e-9 * kBytes * static_cast<double>(s.n * s.k);
  match.unit = "GB/s";
  match.limit = Limit::read_bandwidth;
  return match;
}

template <class F>
void add(std::vector<Case>& cases, const std::string& name, const Size& s, F prepare) {
  cases.push_back(
      {name, shape_text({s.m, s.n, s.k}), [=](Backend& backend) { return prepare(backend, s); }});
}

void add_family(std::vector<Case>& cases, const std::string& name, std::span<const Size> sizes,
                Make make, double tolerance) {
  for (const Size& s : sizes)
    add(cases, name, s,
        [=](Backend& b, const Size& size) { return against_ordered(b, size, make, tolerance); });
}

}  // namespace

void add_product_cases(std::vector<Case>& cases) {
  for (const Size& s : kSquares) add(cases, "gemm_f32", s, against_float_libraries);
  for (const Size& s : kOthers) add(cases, "gemm_f32", s, against_float_libraries);
  for (const Size& s : kSquares) add(cases, "gemm_s8", s, against_int8_libraries);
  for (const Size& s : kRows) {
    add(cases, "gemv_f32", s, weights_read<against_float_libraries, 4>);
    add(cases, "gemv_s8", s, weights_read<against_int8_libraries, 1>);
  }
  const std::span<const Size> some(kSquares, 3);
  add_family(cases, "gemm_s8_own", some, quantized, 0.1);
  add_family(cases, "gemm_bf16", some, tensor_core<DType::bf16>, 0.05);
  add_family(cases, "gemm_f16", some, tensor_core<DType::f16>, 0.01);
  add_family(cases, "gemm_sliced2", some, sliced<2>, 1e-3);
  add_family(cases, "gemm_sliced3", some, sliced<3>, 1e-4);
  add_family(cases, "gemm_sliced4", some, sliced<4>, 1e-4);
}

}  // namespace verbatim::bench
