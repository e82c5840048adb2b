// The ladders' rungs (kernels/cuda/ladder/README.md), each alone: ladder_gemm and ladder_attention.
// Before anything is timed, a rung's results are compared, bit for bit: sums with the host's, of
// some rows, and attention with what the backend's operator gives.
#include <algorithm>
#include <cstring>
#include <memory>

#include <verbatim/cli/bench/cases.h>
#include <verbatim/cli/bench/gpu.h>
#include <verbatim/kernels/cuda/ladder/ladder.h>
#include <verbatim/repops/ops/quantized.h>

namespace verbatim::bench::gpu {
namespace {

using cuda::ladder::Attention;
using cuda::ladder::Gemm;
using cuda::ladder::Rung;

constexpr int64_t kSide = 4096;
constexpr AttentionSize kAttention{16, 16, kSide, kSide, 128, false};

// Operands and results on the device, as long as the rung runs.
template <class Work>
struct There {
  Tensors operands;
  Tensor result;
  Work work;
};

// A run of the rung, timed by the device; an error where the rung does not take the work.
template <class Work>
Result<Match> match_of(const Rung<Work>& rung, const std::shared_ptr<There<Work>>& there,
                       double operations) {
  VB_ASSIGN(cuda::Gpu* const gpu, cuda::ladder::find_gpu());
  if (!rung.suits(*gpu, there->work)) return unavailable("not on this device");
  const auto run = [=, &rung] { require(rung.run(*gpu, there->work)); };
  run();
  return Match{
      {"Verbatim", "", "cuda", run, nullptr, [run](int64_t times) { return seconds(run, times); }},
      {},
      operations,
      "GOP/s"};
}

template <class T>
const T* first_of(const Tensor& t) {
  return reinterpret_cast<const T*>(t.address());
}

// Some rows of the sums.
Status check_sums(const Tensor& a, const Tensor& b, const Tensor& sums) {
  const int64_t n = b.dim(0), k = a.dim(1);
  for (const int64_t row : {int64_t{0}, a.dim(0) / 2 + 1, a.dim(0) - 1})
    for (int64_t column = 0; column < n; ++column) {
      const int8_t *x = &a.data<int8_t>()[row * k], *y = &b.data<int8_t>()[column * k];
      int32_t sum = 0;
      for (int64_t i = 0; i < k; ++i) sum += x[i] * y[i];
      if (sums.data<int32_t>()[row * n + column] != sum)
        return internal_error("the device's sums are not the host's");
    }
  return {};
}

Result<Match> product(const Rung<Gemm>& rung) {
  VB_ASSIGN(DeviceMemory* const device, memory());
  VB_ASSIGN(const Tensor x, random_tensor(Shape{kSide, kSide}, 1));
  VB_ASSIGN(const Tensor y, random_tensor(Shape{kSide, kSide}, 2));
  VB_ASSIGN(const QuantizedTensor a, quantize_rows(x, 1));
  VB_ASSIGN(const QuantizedTensor b, quantize_rows(y, 1));
  const auto there = std::make_shared<There<Gemm>>();
  there->operands.resize(2);
  VB_ASSIGN(there->operands[0], a.codes.copied_to(*device));
  VB_ASSIGN(there->operands[1], b.codes.copied_to(*device));
  VB_ASSIGN(there->result, Tensor::allocate_on(*device, DType::i32, Shape{kSide, kSide}));
  there->work = {first_of<int8_t>(there->operands[0]),
                 first_of<int8_t>(there->operands[1]),
                 reinterpret_cast<int32_t*>(there->result.mutable_address()),
                 kSide,
                 kSide,
                 kSide};
  VB_ASSIGN(Match match, match_of(rung, there, 2e-9 * kSide * kSide * kSide));
  VB_ASSIGN(const Tensor sums, there->result.on_host());
  VB_TRY(check_sums(a.codes, b.codes, sums));
  return match;
}

// What the backend's operator gives, on the host.
Result<Tensor> attended(Backend& backend, const AttentionSize& s, const Tensors& operands) {
  VB_ASSIGN(const auto op, Operator::create(backend, "AttentionTensorCore", kVerbatimDomain,
                                            operands, {}, s.attributes()));
  op->run();
  return op->output().on_host();
}

Result<Match> attention(Backend& backend, const Rung<Attention>& rung) {
  const AttentionSize& s = kAttention;
  VB_ASSIGN(DeviceMemory* const device, memory());
  VB_ASSIGN(const AttentionOperands o, attention_operands(s));
  const auto there = std::make_shared<There<Attention>>();
  for (const Tensor* t : {&o.q, &o.k, &o.v}) {
    VB_ASSIGN(const Tensor rounded, rounded_to(DType::bf16, *t));
    VB_ASSIGN(Tensor moved, rounded.copied_to(*device));
    there->operands.push_back(std::move(moved));
  }
  VB_ASSIGN(there->result, Tensor::allocate_on(*device, DType::f32, o.q.shape()));
  there->work = {.q = first_of<uint16_t>(there->operands[0]),
                 .k = first_of<uint16_t>(there->operands[1]),
                 .v = first_of<uint16_t>(there->operands[2]),
                 .out = reinterpret_cast<float*>(there->result.mutable_address()),
                 .queries = s.queries,
                 .heads = s.heads,
                 .kv_heads = s.kv_heads,
                 .size = s.head_size,
                 .keys = s.keys,
                 .scale = s.scale(),
                 .causal = s.causal};
  VB_ASSIGN(Match match, match_of(rung, there, s.operations()));
  VB_ASSIGN(const Tensor want, attended(backend, s, there->operands));
  VB_ASSIGN(const Tensor have, there->result.on_host());
  if (!std::ranges::equal(have.bytes(), want.bytes()))
    return internal_error("the rung's bits are not the operator's");
  return match;
}

}  // namespace

void add_ladder_cases(std::vector<Case>& cases) {
  for (const Rung<Gemm>& rung : cuda::ladder::kGemmRungs)
    cases.push_back({"ladder_gemm",
                     std::string(rung.name) + " " + shape_text({kSide, kSide, kSide}),
                     [&rung](Backend&) { return product(rung); }});
  for (const Rung<Attention>& rung : cuda::ladder::kAttentionRungs)
    cases.push_back({"ladder_attention", std::string(rung.name) + " " + kAttention.text(),
                     [&rung](Backend& backend) { return attention(backend, rung); }});
}

}  // namespace verbatim::bench::gpu
