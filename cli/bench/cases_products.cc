// Matrix products: names gemm_f32, gemm_s8, gemm_bf16, gemm_sliced2..4; of one row: gemv_f32,
// gemv_s8; where both operands are new each time: gemm_nn_f32, gemm_nt_f32, gemm_tn_f32,
// gemm_tt_f32 (t: transposed in memory), and batches of them, bmm_f32. Ordered products of 16-bit
// tensors: gemm_bf16_ordered, gemm_f16_ordered, gemv_bf16_ordered, gemv_f16_ordered.
#include <cmath>

#include <verbatim/cli/bench/cases.h>
#include <verbatim/cli/bench/peers.h>
#include <verbatim/kernels/backend.h>
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

// The two products of attention, heads being the batch.
constexpr int64_t kBatch = 12;
constexpr Size kBatched[] = {{512, 512, 64}, {512, 64, 512}};

constexpr Size kRows[] = {{1, 4096, 4096}, {1, 8192, 8192}};
constexpr Size kFewRows[] = {{2, 4096, 4096}, {4, 4096, 4096}, {8, 4096, 4096}, {16, 4096, 4096}};

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

// Peers of a product of binary32 matrices, each with a result of its own.
struct FloatPeers {
  std::vector<Contender> peers;
  std::vector<Tensor> results;
};
Result<FloatPeers> float_peers(FloatProduct p) {
  FloatPeers f;
  for (size_t i = 0, count = float_product_peers({}).size(); i < count; ++i) {
    VB_ASSIGN(Tensor c, Tensor::zeros(DType::f32, Shape{p.batch, p.m, p.n}));
    p.c = c.mutable_data<float>().data();
    std::vector<Contender> all = float_product_peers(p);
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

// `ours` keeps the operands.
Result<Match> against_float_libraries(const std::shared_ptr<Operator>& ours,
                                      const FloatProduct& p) {
  auto peers = std::make_shared<FloatPeers>();
  VB_ASSIGN(*peers, float_peers(p));
  Match match{ours->contender(), peers->peers,
              static_cast<double>(p.batch) * operations({p.m, p.n, p.k}), "GFLOP/s",
              Limit::float_operations};
  match.check = [ours, peers]() -> Status {
    for (size_t i = 0; i < peers->peers.size(); ++i)
      VB_TRY(close(ours->output().data<float>(), peers->results[i].data<float>(), 1e-4,
                   peers->peers[i].name));
    return {};
  };
  return match;
}

// Our product of int8 codes, its kernel what multiplies them: "avx512 amx_int8".
Contender integers_of(Operator& ours, const Backend& backend, int64_t rows) {
  Contender c = ours.contender();
  const std::string way = integer_product_way(backend.name(), rows);
  if (!way.empty()) c.kernel += " " + way;
  return c;
}

Result<Match> by_weights(Backend& backend, const Size& s) {
  VB_ASSIGN(const FloatOperands o, operands(s));
  VB_ASSIGN(const std::shared_ptr<Operator> ours, ordered(backend, o));
  return against_float_libraries(
      ours, {s.m, s.n, s.k, o.a.data<float>().data(), o.b.data<float>().data(), nullptr});
}

// Both operands are new each time: nothing is packed before.
Result<Match> by_operand(Backend& backend, const Size& s, int64_t batch, bool a_turned,
                         bool b_turned) {
  const auto shape = [&](int64_t rows, int64_t columns) {
    return batch == 1 ? Shape{rows, columns} : Shape{batch, rows, columns};
  };
  VB_ASSIGN(const Tensor a, random_tensor(a_turned ? shape(s.k, s.m) : shape(s.m, s.k), 1));
  VB_ASSIGN(const Tensor b, random_tensor(b_turned ? shape(s.n, s.k) : shape(s.k, s.n), 2));
  const Attributes turns = {{"transA", int64_t{a_turned}}, {"transB", int64_t{b_turned}}};
  VB_ASSIGN(const std::shared_ptr<Operator> ours,
            batch == 1 ? Operator::create(backend, "Gemm", "", {a, b}, {}, turns)
                       : Operator::create(backend, "MatMul", "", {a, b}, {}));
  return against_float_libraries(
      ours, {s.m, s.n, s.k, a.data<float>().data(), b.data<float>().data(), nullptr, batch,
             a_turned, b_turned, false});
}

// Another family against our own ordered binary32.
Result<Match> against_ordered(Backend& backend, const Size& s, Make make, bool integers,
                              double tolerance) {
  VB_ASSIGN(const FloatOperands o, operands(s));
  VB_ASSIGN(const std::shared_ptr<Operator> ours, make(backend, o));
  VB_ASSIGN(const std::shared_ptr<Operator> own, ordered(backend, o));
  Contender peer = own->contender();
  peer.name = "own ordered fp32";
  Match match{integers ? integers_of(*ours, backend, s.m) : ours->contender(),
              {peer},
              operations(s),
              "GFLOP/s"};
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
  VB_ASSIGN(Tensor scaled, Tensor::zeros(DType::f32, Shape{s.m, s.n}));
  Match match{
      integers_of(*ours, backend, s.m),
      int8_product_peers({s.m, s.n, s.k, a.codes.data<int8_t>().data(),
                          b.codes.data<int8_t>().data(), b.scales.data<float>().data(),
                          c.mutable_data<int32_t>().data(), scaled.mutable_data<float>().data()}),
      operations(s), "GOP/s", Limit::integer_operations};
  match.check = [=, keep = ours]() -> Status {
    if (match.peers.empty()) return {};
    const std::span<const float> y = keep->output().data<float>();
    for (int64_t i = 0; i < s.m * s.n; ++i) {
      const float row = a.scales.data<float>()[i / s.n];
      if (y[i] !=
          static_cast<float>(c.data<int32_t>()[i]) * (row * b.scales.data<float>()[i % s.n]))
        return internal_error("oneDNN's integers differ from ours at element " + std::to_string(i));
      if (std::abs(y[i] - scaled.data<float>()[i] * row) > 1e-6f * std::abs(y[i]))
        return internal_error("oneDNN's floats differ from ours at element " + std::to_string(i));
    }
    return {};
  };
  return match;
}

// Our ordered product of 16-bit tensors beside that of binary32; and oneDNN's, which adds as it
// likes.
template <DType kType>
Result<Match> of_16_bits(Backend& backend, const Size& s) {
  VB_ASSIGN(const FloatOperands o, operands(s));
  VB_ASSIGN(const Tensor a, rounded_to(kType, o.a));
  VB_ASSIGN(const Tensor b, rounded_to(kType, o.transposed));
  VB_ASSIGN(const std::shared_ptr<Operator> ours,
            Operator::create(backend, "Linear", kVerbatimDomain, {a}, {b}));
  VB_ASSIGN(const std::shared_ptr<Operator> own, ordered(backend, o));
  VB_ASSIGN(Tensor c, Tensor::zeros(kType, Shape{s.m, s.n}));
  Match match{ours->contender(), {own->contender()}, operations(s), "GFLOP/s"};
  match.peers[0].name = "own ordered fp32";
  match.limit = Limit::float_operations;
  if constexpr (kType == DType::bf16)
    for (Contender& peer :
         bfloat16_product_peers({s.m, s.n, s.k, a.data<BFloat16>().data(),
                                 b.data<BFloat16>().data(), c.mutable_data<BFloat16>().data()}))
      match.peers.push_back(std::move(peer));
  const bool has_onednn = match.peers.size() > 1;
  match.check = [=]() -> Status {
    const std::vector<float> y = numbers_of(ours->output());
    if (has_onednn) VB_TRY(close(y, numbers_of(c), 0.05, "oneDNN"));
    return close(y, own->output().data<float>(), 0.1, "ordered binary32");
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
                Make make, bool integers, double tolerance) {
  for (const Size& s : sizes)
    add(cases, name, s, [=](Backend& b, const Size& size) {
      return against_ordered(b, size, make, integers, tolerance);
    });
}

}  // namespace

void add_product_cases(std::vector<Case>& cases) {
  for (const Size& s : kSquares) add(cases, "gemm_f32", s, by_weights);
  for (const Size& s : kOthers) add(cases, "gemm_f32", s, by_weights);
  for (const bool a_turned : {false, true})
    for (const bool b_turned : {false, true})
      add(cases, std::string("gemm_") + (a_turned ? "t" : "n") + (b_turned ? "t" : "n") + "_f32",
          kSquares[1],
          [=](Backend& b, const Size& s) { return by_operand(b, s, 1, a_turned, b_turned); });
  for (const Size& s : kBatched)
    cases.push_back({"bmm_f32", shape_text({kBatch, s.m, s.n, s.k}),
                     [=](Backend& b) { return by_operand(b, s, kBatch, false, false); }});
  for (const Size& s : kSquares) add(cases, "gemm_s8", s, against_int8_libraries);
  for (const Size& s : kFewRows) add(cases, "gemm_s8", s, against_int8_libraries);
  for (const Size& s : kRows) {
    add(cases, "gemv_f32", s, weights_read<by_weights, 4>);
    add(cases, "gemv_bf16_ordered", s, weights_read<of_16_bits<DType::bf16>, 2>);
    add(cases, "gemv_f16_ordered", s, weights_read<of_16_bits<DType::f16>, 2>);
    add(cases, "gemv_s8", s, weights_read<against_int8_libraries, 1>);
  }
  const std::span<const Size> some(kSquares, 3);
  for (const Size& s : some) {
    add(cases, "gemm_bf16_ordered", s, of_16_bits<DType::bf16>);
    add(cases, "gemm_f16_ordered", s, of_16_bits<DType::f16>);
  }
  for (const Size& s : kFewRows) add(cases, "gemm_bf16_ordered", s, of_16_bits<DType::bf16>);
  add_family(cases, "gemm_s8_own", some, quantized, true, 0.1);
  add_family(cases, "gemm_bf16", some, tensor_core<DType::bf16>, false, 0.05);
  add_family(cases, "gemm_f16", some, tensor_core<DType::f16>, false, 0.01);
  add_family(cases, "gemm_sliced2", some, sliced<2>, true, 1e-3);
  add_family(cases, "gemm_sliced3", some, sliced<3>, true, 1e-4);
  add_family(cases, "gemm_sliced4", some, sliced<4>, true, 1e-4);
}

}  // namespace verbatim::bench
