// The GPU's cases: gemm_bf16, gemm_f16, gemm_f8, gemm_s8 and gemm_f32; the same of one row and of
// 16, whose rate is that of reading the weights (gemv_bf16, gemv_f16, gemv_s8, gemv_f32; nt:
// weights in memory [n, k]; gemv_w4 and gemv_w2: of so many bits; gemv_mxint8); gemm_w4;
// gemm_mxint8; gemm_sliced2 to 4; attention_f32, _bf16, _f16 and _s8; llama1b_f32, _bf16, _w8a8,
// _w4a8 (cases_models.cc); hash; ladder_gemm and ladder_attention (ladder.cc). Before anything is
// timed, our result is compared with the processor's, bit for bit: all of its rows, or where there
// are many a few, since a row's bits do not depend on the others.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <thread>

#include <verbatim/cli/bench/cases.h>
#include <verbatim/cli/bench/gpu.h>
#include <verbatim/core/parallel.h>
#include <verbatim/core/tensor_root.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/repops/ops/grouped.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/sliced.h>

namespace verbatim::bench::gpu {
namespace {

struct Size {
  int64_t m, n, k;
  double operations() const {
    return 2e-9 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  }
};
constexpr int64_t kSides[] = {1024, 2048, 4096, 8192, 16384};
constexpr int64_t kFloatSides[] = {512, 1024, 2048, 4096, 8192};
constexpr Size kRagged[] = {{4095, 4097, 4093}, {1531, 2039, 1097}};  // no tile divides them
constexpr Size kFewRows[] = {{1, 8192, 8192}, {16, 8192, 8192}};
constexpr AttentionSize kAttention[] = {{16, 16, 2048, 2048, 128, false},
                                        {16, 16, 2048, 2048, 128, true},
                                        {16, 16, 8192, 8192, 128, false},
                                        {16, 16, 8192, 8192, 128, true}};

// Cases run on one thread, which drives the device; making their operands takes all there are.
class AllThreads {
 public:
  AllThreads() {
    set_thread_count(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  }
  ~AllThreads() { set_thread_count(before_); }

 private:
  int before_ = thread_count();
};

// --- what is run, and whether its results are right

struct Work {
  std::string_view op, domain;
  Tensors inputs, constants;
  Attributes attributes = {};
};

// All there are, or where they are many the ends and two between.
std::vector<int64_t> sample(int64_t count) {
  if (count > 512) return {0, count / 3, count / 2 + 1, count - 1};
  std::vector<int64_t> all(static_cast<size_t>(count));
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  return all;
}

// Some of what the first dimension counts.
Result<Tensor> taken(const Tensor& x, std::span<const int64_t> rows) {
  std::vector<int64_t> dims(x.shape().dims().begin(), x.shape().dims().end());
  dims[0] = static_cast<int64_t>(rows.size());
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor y, Tensor::allocate(x.dtype(), shape));
  const size_t bytes = x.byte_size() / static_cast<size_t>(x.dim(0));
  for (size_t i = 0; i < rows.size(); ++i)
    std::memcpy(y.mutable_bytes().data() + i * bytes,
                x.bytes().data() + static_cast<size_t>(rows[i]) * bytes, bytes);
  return y;
}

// The same of some rows of all inputs.
Result<Work> taken(Work work, std::span<const int64_t> rows) {
  for (Tensor& t : work.inputs) {
    VB_ASSIGN(t, taken(t, rows));
  }
  return work;
}

// The operator after a run. Where it has a device, its inputs lie there, and so must its result.
Result<std::shared_ptr<Operator>> run_once(Backend& backend, Work work, DeviceMemory* device) {
  for (Tensor& t : work.inputs)
    if (device != nullptr) {
      VB_ASSIGN(t, t.copied_to(*device));
    }
  VB_ASSIGN(auto op, Operator::create(backend, work.op, work.domain, std::move(work.inputs),
                                      std::move(work.constants), std::move(work.attributes)));
  op->run();
  if (op->output().device() == device) return op;
  return internal_error(std::string(work.op) + " ran on the host");
}

struct Ours {
  std::shared_ptr<Operator> op;
  Tensor result;  // on the host

  Contender contender() const {
    Contender c = op->contender();
    c.run = [kept = op] { kept->run(); };
    return c;
  }
};
Result<Ours> ours_of(Backend& backend, const Work& work) {
  VB_ASSIGN(DeviceMemory* const device, memory());
  // For all rows the host would take minutes, should it run there.
  VB_ASSIGN(const Work one, taken(work, std::vector<int64_t>{0}));
  VB_TRY(run_once(backend, one, device).status());
  Ours ours;
  VB_ASSIGN(ours.op, run_once(backend, work, device));
  VB_ASSIGN(ours.result, ours.op->output().on_host());
  return ours;
}

// `result` against the processor's of the same work, of which each row of the inputs makes one.
Status equals_processor(const Tensor& result, const Work& work, std::span<const int64_t> rows) {
  VB_ASSIGN(const std::unique_ptr<Backend> backend, make_processor_backend());
  VB_ASSIGN(const Work some, taken(work, rows));
  VB_ASSIGN(const auto op, run_once(*backend, some, nullptr));
  VB_ASSIGN(const Tensor have, taken(result, rows));
  if (identical(have, op->output())) return {};
  return internal_error(std::string(work.op) + ": the device's bits are not those of " +
                        std::string(backend->name()));
}

// --- products

// Of a and b in `type`, b [k, n], or [n, k] in memory where turned.
struct Operands {
  Tensor a, b;
};
Result<Operands> operands(const Size& s, DType type, bool turned) {
  VB_ASSIGN(const Tensor a, random_tensor(Shape{s.m, s.k}, 1));
  VB_ASSIGN(const Tensor b, random_tensor(turned ? Shape{s.n, s.k} : Shape{s.k, s.n}, 2));
  Operands o;
  VB_ASSIGN(o.a, rounded_to(type, a));
  VB_ASSIGN(o.b, rounded_to(type, b));
  return o;
}

// The same operands, on the device, and room for a result.
Result<Product> product_there(const Size& s, const Operands& o, DType result, bool turned) {
  VB_ASSIGN(DeviceMemory* const device, memory());
  Product p{s.m, s.n, s.k, {}, {}, {}, turned};
  VB_ASSIGN(p.a, o.a.copied_to(*device));
  VB_ASSIGN(p.b, o.b.copied_to(*device));
  VB_ASSIGN(p.c, Tensor::allocate_on(*device, result, Shape{s.m, s.n}));
  return p;
}

// What a peer's result says of ours: an error, or a remark for the table.
using Compare = std::function<Result<std::string>(const Tensor& theirs, const std::string& who)>;

// A few rows of both are close: they are of the same product. The remark tells 16-bit results
// apart bit by bit.
Compare floats_like(const Tensor& ours, double tolerance) {
  return [=](const Tensor& theirs, const std::string& who) -> Result<std::string> {
    const std::vector<int64_t> rows = sample(ours.dim(0));
    VB_ASSIGN(const Tensor some, taken(ours, rows));
    VB_ASSIGN(const Tensor of_theirs, taken(theirs, rows));
    VB_TRY(close(numbers_of(some), numbers_of(of_theirs), tolerance, who));
    if (ours.dtype() == DType::f32) return std::string();
    const auto* a = reinterpret_cast<const uint16_t*>(ours.bytes().data());
    const auto* b = reinterpret_cast<const uint16_t*>(theirs.bytes().data());
    int64_t differing = 0;
    for (int64_t i = 0; i < ours.elements(); ++i) differing += a[i] != b[i];
    if (differing == 0) return std::string(", bits equal");
    return ", bits differ in " + std::to_string(differing) + " of " +
           std::to_string(ours.elements());
  };
}

// Every float of ours is its integer times the scales.
Compare integers_of(const Tensor& ours, const Tensor& row_scales, const Tensor& column_scales) {
  return [=](const Tensor& theirs, const std::string& who) -> Result<std::string> {
    const float* y = ours.data<float>().data();
    const int32_t* integers = theirs.data<int32_t>().data();
    for (const float row : row_scales.data<float>())
      for (const float column : column_scales.data<float>())
        if (*y++ != static_cast<float>(*integers++) * (row * column))
          return internal_error(who + "'s integers differ from ours");
    return std::string(", integers equal");
  };
}

// With few rows the rate is that of reading the weights.
Match match_of(const Size& s, DType type, const Ours& ours) {
  Match match{ours.contender(), {}, s.operations(), type == DType::i8 ? "GOP/s" : "GFLOP/s"};
  if (type == DType::f32) match.limit = Limit::gpu_float_operations;
  if (s.m > 16) return match;
  match.work = 1e-9 * static_cast<double>(s.n * s.k) * static_cast<double>(size_of(type));
  match.unit = "GB/s";
  match.limit = Limit::gpu_copy_bandwidth;
  return match;
}

// So that what a peer does not write is seen.
Status clear(const Tensor& there) {
  VB_ASSIGN(Tensor here, Tensor::allocate(there.dtype(), there.shape()));
  std::ranges::fill(here.mutable_bytes(), std::byte{0xFF});
  return there.device()->copy_from_host(const_cast<std::byte*>(there.address()),
                                        here.bytes().data(), here.byte_size());
}

Status add_peers(Match& match, const Product& p, const Compare& compare) {
  for (Contender& peer : product_peers(p)) {
    VB_TRY(clear(p.c));
    peer.run();
    VB_ASSIGN(const Tensor theirs, p.c.on_host());
    VB_ASSIGN(const std::string remark, compare(theirs, peer.name));
    peer.kernel += remark;
    match.peers.push_back(std::move(peer));
  }
  return {};
}

// The device's own time, for all.
Match timed_there(Match match) {
  const auto time = [](Contender& c) {
    c.seconds = [run = c.run](int64_t times) { return seconds(run, times); };
  };
  time(match.ours);
  for (Contender& peer : match.peers) time(peer);
  return match;
}

Result<Match> product(Backend& backend, const Size& s, DType type, const Operands& o, bool turned,
                      const Work& work, const std::function<Compare(const Tensor& ours)>& compare) {
  VB_ASSIGN(const Ours ours, ours_of(backend, work));
  VB_TRY(equals_processor(ours.result, work, sample(s.m)));
  VB_ASSIGN(Product there,
            product_there(s, o, type == DType::i8 ? DType::i32 : ours.result.dtype(), turned));
  there.precise = work.attributes.has("precise");
  Match match = match_of(s, type, ours);
  VB_TRY(add_peers(match, there, compare(ours.result)));
  return timed_there(std::move(match));
}

// Family A, in binary32.
Result<Match> ordered(Backend& backend, const Size& s, bool turned) {
  const AllThreads all;
  VB_ASSIGN(const Operands o, operands(s, DType::f32, turned));
  const Work work =
      turned ? Work{"Linear", kVerbatimDomain, {o.a}, {o.b}} : Work{"MatMul", "", {o.a}, {o.b}};
  return product(backend, s, DType::f32, o, turned, work,
                 [](const Tensor& ours) { return floats_like(ours, 1e-4); });
}

// Family C. Results are of the operands' type, as they commonly are.
Result<Match> tensor_core(Backend& backend, const Size& s, DType type) {
  const AllThreads all;
  VB_ASSIGN(const Operands o, operands(s, type, true));
  const Work work{
      "TensorCoreLinear", kVerbatimDomain, {o.a}, {o.b}, {{"output", static_cast<int64_t>(type)}}};
  return product(backend, s, type, o, true, work,
                 [=](const Tensor& ours) { return floats_like(ours, 0.05); });
}

// The same of fp8, to bf16. precise: sums are added in binary32 every 128 products, as cuBLASLt
// does it where it is not to be fast.
Result<Match> float8(Backend& backend, const Size& s, bool precise) {
  const AllThreads all;
  VB_ASSIGN(const Operands o, operands(s, DType::f8e4m3, true));
  Attributes attributes{{"output", static_cast<int64_t>(DType::bf16)}};
  if (precise) attributes.set("precise", int64_t{1});
  const Work work{"TensorCoreLinear", kVerbatimDomain, {o.a}, {o.b}, attributes};
  return product(backend, s, DType::f8e4m3, o, true, work,
                 [](const Tensor& ours) { return floats_like(ours, 0.1); });
}

// Family B.
Result<Match> quantized(Backend& backend, const Size& s) {
  const AllThreads all;
  VB_ASSIGN(const Operands o, operands(s, DType::f32, true));
  VB_ASSIGN(const QuantizedTensor a, quantize_rows(o.a, 1));
  VB_ASSIGN(const QuantizedTensor b, quantize_rows(o.b, 1));
  const Work work{"QuantizedLinear", kVerbatimDomain, {a.codes, a.scales}, {b.codes, b.scales}};
  return product(backend, s, DType::i8, {a.codes, b.codes}, true, work,
                 [&](const Tensor& ours) { return integers_of(ours, a.scales, b.scales); });
}

// The numbers that codes [rows, k] stand for. group_scales: undefined where a row has one scale.
Result<Tensor> numbers_coded_by(const Tensor& codes, const Tensor& scales,
                                const Tensor& group_scales) {
  VB_ASSIGN(Tensor x, Tensor::allocate(DType::f32, codes.shape()));
  const int64_t k = codes.dim(1), groups = (k + kQuantizedGroup - 1) / kQuantizedGroup;
  const int8_t* from = codes.data<int8_t>().data();
  const float* scale = scales.data<float>().data();
  const uint8_t* steps = group_scales.defined() ? group_scales.data<uint8_t>().data() : nullptr;
  float* to = x.mutable_data<float>().data();
  for (int64_t i = 0; i < codes.elements(); ++i) {
    const int64_t row = i / k, group = row * groups + i % k / kQuantizedGroup;
    const int step = steps == nullptr ? 1 : steps[group];
    to[i] = static_cast<float>(from[i] * step) * scale[row];
  }
  return x;
}

// Beside bf16's product of the same shape: of the numbers x and w that the codes stand for. One row
// does little but read the weights, of so many bytes.
Result<Match> beside_bf16(const Size& s, const Ours& ours, const Tensor& x, const Tensor& w,
                          double weight_bytes) {
  Match match{ours.contender(), {}, s.operations(), "GOP/s"};
  if (s.m == 1) {
    match.work = 1e-9 * static_cast<double>(s.n * s.k) * weight_bytes;
    match.unit = "GB/s";
    match.limit = Limit::gpu_copy_bandwidth;
  }
  Operands of_peers;
  VB_ASSIGN(of_peers.a, rounded_to(DType::bf16, x));
  VB_ASSIGN(of_peers.b, rounded_to(DType::bf16, w));
  VB_ASSIGN(const Product there, product_there(s, of_peers, DType::bf16, true));
  VB_TRY(add_peers(match, there, floats_like(ours.result, 0.05)));
  return timed_there(std::move(match));
}

// Weights of few bits.
Result<Match> low_bit(Backend& backend, const Size& s, int bits) {
  const AllThreads all;
  VB_ASSIGN(const Operands o, operands(s, DType::f32, true));
  VB_ASSIGN(const QuantizedTensor a, quantize_rows(o.a, 1));
  VB_ASSIGN(const QuantizedWeights w, quantize_weights(o.b, bits, 1));
  const Work work{
      "QuantizedLinear", kVerbatimDomain, {a.codes, a.scales}, {w.codes, w.scales, w.group_scales}};
  VB_ASSIGN(const Ours ours, ours_of(backend, work));
  VB_TRY(equals_processor(ours.result, work, sample(s.m)));
  VB_ASSIGN(const Tensor x, numbers_coded_by(a.codes, a.scales, {}));
  VB_ASSIGN(const Tensor y, numbers_coded_by(w.codes, w.scales, w.group_scales));
  return beside_bf16(s, ours, x, y, bits / 8.0 + 1.0 / kQuantizedGroup);
}

Result<Tensor> numbers_coded_by(const GroupedTensor& q, const GroupFormat& f) {
  VB_ASSIGN(const GroupedRows rows, grouped_rows(f.group, q.codes, q.scales, {}));
  VB_ASSIGN(Tensor x, Tensor::allocate(DType::f32, q.codes.shape()));
  float* to = x.mutable_data<float>().data();
  for (int64_t i = 0; i < x.elements(); ++i) to[i] = rows.value(i / rows.k, i % rows.k);
  return x;
}

// Groups of codes of 8 bits that share a power of two.
Result<Match> mxint8(Backend& backend, const Size& s) {
  const AllThreads all;
  VB_ASSIGN(const Operands o, operands(s, DType::f32, true));
  VB_ASSIGN(const GroupedTensor a, quantize_groups(o.a, kMxInt8));
  VB_ASSIGN(const GroupedTensor w, quantize_groups(o.b, kMxInt8));
  const Work work{"GroupedLinear",
                  kVerbatimDomain,
                  {a.codes, a.scales},
                  {w.codes, w.scales},
                  {{"group", kMxInt8.group}}};
  VB_ASSIGN(const Ours ours, ours_of(backend, work));
  VB_TRY(equals_processor(ours.result, work, sample(s.m)));
  VB_ASSIGN(const Tensor x, numbers_coded_by(a, kMxInt8));
  VB_ASSIGN(const Tensor y, numbers_coded_by(w, kMxInt8));
  return beside_bf16(s, ours, x, y, 1.0 + 1.0 / static_cast<double>(kMxInt8.group));
}

// The mean errors of a few rows of our result and of theirs, of the products that binary64 has.
Compare errors_beside(const Tensor& ours, const Operands& o) {
  return [=](const Tensor& theirs, const std::string&) -> Result<std::string> {
    const std::vector<int64_t> rows = sample(ours.dim(0));
    const int64_t n = o.b.dim(0), k = o.b.dim(1);
    const auto error_of = [&](const Tensor& c, int64_t row, int64_t column, double want) {
      return std::abs(static_cast<double>(c.data<float>()[static_cast<size_t>(row * n + column)]) -
                      want);
    };
    std::vector<double> our_errors(static_cast<size_t>(n)), their_errors(our_errors.size());
    parallel_for(n, 16, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j)
        for (const int64_t i : rows) {
          const float *a = o.a.data<float>().data() + i * k, *b = o.b.data<float>().data() + j * k;
          double want = 0;
          for (int64_t l = 0; l < k; ++l) want += static_cast<double>(a[l]) * b[l];
          our_errors[static_cast<size_t>(j)] += error_of(ours, i, j, want);
          their_errors[static_cast<size_t>(j)] += error_of(theirs, i, j, want);
        }
    });
    const auto mean = [&](const std::vector<double>& errors) {
      return std::accumulate(errors.begin(), errors.end(), 0.0) /
             static_cast<double>(n * std::ssize(rows));
    };
    char text[80];
    std::snprintf(text, sizeof text, ", mean error %.3g, ours %.3g", mean(their_errors),
                  mean(our_errors));
    return std::string(text);
  };
}

// Exact products of `count` slices of either operand, beside products in binary32. A row's slices
// do not depend on the others.
Result<Match> sliced(Backend& backend, const Size& s, int count) {
  const AllThreads all;
  VB_ASSIGN(DeviceMemory* const device, memory());
  VB_ASSIGN(const Operands o, operands(s, DType::f32, true));
  VB_ASSIGN(const SlicedTensor w, slice_tensor(o.b, count));
  const auto work_of = [&](const Tensor& a) -> Result<Work> {
    VB_ASSIGN(const SlicedTensor x, slice_tensor(a, count));
    return Work{"SlicedLinear", kVerbatimDomain, {x.slices, x.exponents}, {w.slices, w.exponents}};
  };
  Ours ours;
  VB_ASSIGN(const Work work, work_of(o.a));
  VB_ASSIGN(ours.op, run_once(backend, work, device));
  VB_ASSIGN(ours.result, ours.op->output().on_host());
  const std::vector<int64_t> rows = sample(s.m);
  VB_ASSIGN(const Tensor some, taken(o.a, rows));
  VB_ASSIGN(const Work work_of_some, work_of(some));
  VB_ASSIGN(const std::unique_ptr<Backend> host, make_processor_backend());
  VB_ASSIGN(const auto want, run_once(*host, work_of_some, nullptr));
  VB_ASSIGN(const Tensor have, taken(ours.result, rows));
  if (!identical(have, want->output()))
    return internal_error("SlicedLinear: the device's bits are not the processor's");
  VB_ASSIGN(const Product there, product_there(s, o, DType::f32, true));
  Match match = match_of(s, DType::f32, ours);
  VB_TRY(add_peers(match, there, floats_like(ours.result, 0.01)));
  if (count == 2) {
    Product narrow = there;
    narrow.kind = " TF32";
    VB_TRY(add_peers(match, narrow, errors_beside(ours.result, o)));
    Operands rounded;
    VB_ASSIGN(rounded.a, rounded_to(DType::bf16, o.a));
    VB_ASSIGN(rounded.b, rounded_to(DType::bf16, o.b));
    VB_ASSIGN(narrow, product_there(s, rounded, DType::f32, true));
    narrow.kind = " bf16";
    VB_TRY(add_peers(match, narrow, errors_beside(ours.result, o)));
  }
  // The host waits for a look at the codes, and so for everything.
  const auto wait_for = [](Contender& c) {
    c.run = [run = c.run] {
      run();
      wait();
    };
  };
  wait_for(match.ours);
  for (Contender& peer : match.peers) wait_for(peer);
  return match;
}

// --- attention

// What is attended by, and how far from PyTorch's results ours may be: each row's error over the
// row's size. Int8 attention quantises numbers of binary32; PyTorch gets them in bf16.
struct Attending {
  std::string_view name, op;
  DType type, peer_type;
  double tolerance;
};
constexpr Attending kAttending[] = {
    {"attention_f32", "Attention", DType::f32, DType::f32, 1e-4},
    {"attention_bf16", "AttentionTensorCore", DType::bf16, DType::bf16, 0.05},
    {"attention_f16", "AttentionTensorCore", DType::f16, DType::f16, 0.05},
    {"attention_s8", "AttentionInt8", DType::f32, DType::bf16, 0.2}};

// Each head is a row of a batch: some of them, alone, by the processor.
Result<Match> attention(Backend& backend, const AttentionSize& s, const Attending& by,
                        AttentionPeers& peers) {
  const AllThreads all;
  VB_ASSIGN(const AttentionOperands o, attention_operands(s));
  AttentionSize head = s;
  head.heads = head.kv_heads = 1;
  Work whole{by.op, kVerbatimDomain, {}, {}, s.attributes()},
      by_heads{by.op, kVerbatimDomain, {}, {}, head.attributes()};
  Tensors of_peers;
  for (const Tensor& t : {o.q, o.k, o.v}) {
    VB_ASSIGN(const Tensor heads, by_head(t, t.dim(1), s.heads));
    for (auto& [work, x] : {std::pair<Work&, const Tensor&>{whole, t}, {by_heads, heads}}) {
      VB_ASSIGN(Tensor rounded, rounded_to(by.type, x));
      work.inputs.push_back(std::move(rounded));
    }
    VB_ASSIGN(Tensor of_peer, rounded_to(by.peer_type, heads));
    of_peers.push_back(std::move(of_peer));
  }
  VB_ASSIGN(const Ours ours, ours_of(backend, whole));
  VB_ASSIGN(const Tensor result, by_head(ours.result, s.queries, s.heads));
  VB_TRY(equals_processor(result, by_heads, std::vector<int64_t>{0, s.heads - 1}));
  Match match{ours.contender(), {}, s.operations(), "GFLOP/s"};
  if (by.peer_type == DType::f32) match.limit = Limit::gpu_float_operations;
  match = timed_there(std::move(match));
  const auto like_ours = [&](const Tensor& theirs, const std::string& who) -> Status {
    const std::vector<float> a = numbers_of(result), b = numbers_of(theirs);
    const auto size = static_cast<size_t>(s.head_size);
    for (size_t i = 0; i < a.size(); i += size)  // of causal rows, early ones are greater
      VB_TRY(close({&a[i], size}, {&b[i], size}, by.tolerance, who));
    return {};
  };
  VB_ASSIGN(match.peers, peers.of(s, of_peers, like_ours));
  return match;
}

// --- hashing

// With the wait for the root: whoever commits to a tensor waits for it.
Result<Match> hash(const Shape& shape) {
  const AllThreads all;
  VB_ASSIGN(DeviceMemory* const device, memory());
  VB_ASSIGN(const Tensor here, random_tensor(shape, 3));
  VB_ASSIGN(const Tensor there, here.copied_to(*device));
  const auto root = [there]() -> Result<Digest> {
    VB_ASSIGN(const std::vector<Digest> roots, tensor_roots(std::span(&there, 1)));
    return roots[0];
  };
  VB_ASSIGN(const Digest have, root());
  if (have != tensor_root(here)) return internal_error("the device's root is not the processor's");
  return Match{{"Verbatim", "", "cuda", [root] { require(root().status()); }},
               {},
               1e-9 * static_cast<double>(here.byte_size()),
               "GB/s"};
}

template <class F>
void add(std::vector<Case>& cases, const std::string& name, const Size& s, F prepare) {
  cases.push_back(
      {name, shape_text({s.m, s.n, s.k}), [=](Backend& backend) { return prepare(backend, s); }});
}

}  // namespace

void add_cases(std::vector<Case>& cases, const ModelFiles& files) {
  const auto attention_peers = std::make_shared<AttentionPeers>(files.python);
  const auto floats = [](bool turned) {
    return [=](Backend& b, const Size& s) { return ordered(b, s, turned); };
  };
  const auto units = [](DType type) {
    return [=](Backend& b, const Size& s) { return tensor_core(b, s, type); };
  };
  for (const int64_t n : kSides) add(cases, "gemm_bf16", {n, n, n}, units(DType::bf16));
  for (const int64_t n : kSides) add(cases, "gemm_f16", {n, n, n}, units(DType::f16));
  for (const int64_t n : kSides)
    for (const bool precise : {false, true})
      add(cases, precise ? "gemm_f8_precise" : "gemm_f8", {n, n, n},
          [=](Backend& b, const Size& s) { return float8(b, s, precise); });
  for (const int64_t n : kSides) add(cases, "gemm_s8", {n, n, n}, quantized);
  for (const int64_t n : kFloatSides) add(cases, "gemm_f32", {n, n, n}, floats(false));
  for (const int count : {2, 3, 4})
    for (const int64_t n : {2048, 8192})
      add(cases, "gemm_sliced" + std::to_string(count), {n, n, n},
          [=](Backend& b, const Size& s) { return sliced(b, s, count); });
  for (const Size& s : kRagged) add(cases, "gemm_f32", s, floats(false));
  for (const Size& s : {Size{4096, 4096, 4096}, kRagged[0]})
    add(cases, "gemm_nt_f32", s, floats(true));
  for (const Size& s : kFewRows) {
    add(cases, "gemv_f32", s, floats(false));
    add(cases, "gemv_nt_f32", s, floats(true));
    add(cases, "gemv_bf16", s, units(DType::bf16));
    add(cases, "gemv_f16", s, units(DType::f16));
    add(cases, "gemv_s8", s, quantized);
    for (const int bits : {4, 2})
      add(cases, "gemv_w" + std::to_string(bits), s,
          [=](Backend& b, const Size& size) { return low_bit(b, size, bits); });
    add(cases, "gemv_mxint8", s, mxint8);
  }
  add(cases, "gemm_w4", {4096, 4096, 4096},
      [](Backend& b, const Size& s) { return low_bit(b, s, 4); });
  for (const int64_t m : {1024, 4096}) add(cases, "gemm_mxint8", {m, 4096, 4096}, mxint8);
  for (const AttentionSize& s : kAttention)
    for (const Attending& by : kAttending)
      cases.push_back({std::string(by.name), s.text(),
                       [=, s = s](Backend& b) { return attention(b, s, by, *attention_peers); }});
  add_decoder_cases(cases, files.python);
  for (const int64_t rows : {16, 1024, 16384, 262144})
    cases.push_back({"hash", shape_text({rows, 1024}), [=](Backend&) {
                       return hash(Shape{rows, 1024});
                     }});
  add_ladder_cases(cases);
}

}  // namespace verbatim::bench::gpu
