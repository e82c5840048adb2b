#include <verbatim/kernels/unary_prover.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <verbatim/core/codec.h>
#include <verbatim/core/fp_guard.h>
#include <verbatim/core/parallel.h>
#include <verbatim/kernels/backend.h>
#include <verbatim/kernels/cpu/cpu_backend.h>
#include <verbatim/kernels/cuda/unary.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {
namespace {

constexpr int64_t kGrain = int64_t{1} << 14;

std::optional<UnaryKernel> vector_kernel(Unary f) {
  switch (f) {
    case Unary::exp:
      return UnaryKernel::exp;
    case Unary::exp2:
      return UnaryKernel::exp2;
    case Unary::erf:
      return UnaryKernel::erf;
    case Unary::tanh:
      return UnaryKernel::tanh;
    case Unary::sigmoid:
      return UnaryKernel::sigmoid;
    default:
      return std::nullopt;
  }
}

class CpuProver final : public UnaryProver {
 public:
  CpuProver(std::unique_ptr<Backend> backend, UnaryOracle oracle)
      : backend_(std::move(backend)), oracle_(oracle) {
    if (const auto* cpu = dynamic_cast<const CpuBackend*>(backend_.get()))
      kernels_ = &cpu->kernels();
  }

  std::string_view name() const override { return backend_->name(); }
  int64_t part() const override { return int64_t{1} << 21; }

  Status run(Unary f, uint32_t first, int64_t count, std::byte* results,
             UnaryFaults& faults) override {
    std::vector<UnaryFaults> found(static_cast<size_t>((count + kGrain - 1) / kGrain));
    parallel_for(count, kGrain, [&](int64_t from, int64_t to) {
      check(f, first + static_cast<uint32_t>(from), to - from, results + 4 * from,
            found[static_cast<size_t>(from / kGrain)]);
    });
    for (const UnaryFaults& part : found) {
      faults.wrong += part.wrong;
      if (!faults.first) faults.first = part.first;
    }
    return {};
  }

 private:
  void compute(Unary f, const float* x, float* y, int64_t n) const {
    if (const auto kernel = vector_kernel(f); kernel && kernels_ != nullptr)
      return kernels_->map_unary(*kernel, 0, DType::f32, x, DType::f32, y, n);
    for (int64_t i = 0; i < n; ++i) y[i] = evaluate(f, x[i]);
  }

  void check(Unary f, uint32_t first, int64_t n, std::byte* results, UnaryFaults& found) const {
    constexpr int64_t kAtOnce = 1024;
    std::array<float, kAtOnce> x, y;
    for (int64_t begin = 0; begin < n; begin += kAtOnce) {
      const int64_t count = std::min(kAtOnce, n - begin);
      for (int64_t i = 0; i < count; ++i)
        x[static_cast<size_t>(i)] = float_of(first + static_cast<uint32_t>(begin + i));
      compute(f, x.data(), y.data(), count);
      for (int64_t i = 0; i < count; ++i) {
        const uint32_t have = bits_of(y[static_cast<size_t>(i)]);
        store_le(results + 4 * (begin + i), have);
        if (oracle_ == kNoOracle) continue;
        const std::optional<float> right = oracle_(f, x[static_cast<size_t>(i)]);
        if (right && bits_of(*right) == have) continue;
        if (found.wrong++ == 0) found.first = bits_of(x[static_cast<size_t>(i)]);
      }
    }
  }

  std::unique_ptr<Backend> backend_;
  const CpuKernels* kernels_ = nullptr;  // none: the reference
  UnaryOracle oracle_;
};

}  // namespace

Result<std::unique_ptr<UnaryProver>> make_unary_prover(std::string_view backend,
                                                       UnaryOracle oracle) {
  if (backend == "cuda") {
#if defined(VERBATIM_KERNELS_CUDA)
    return make_cuda_unary_prover(oracle != kNoOracle);
#else
    return unavailable("backend 'cuda': this program is built without it (preset cuda)");
#endif
  }
  VB_ASSIGN(std::unique_ptr<Backend> cpu, make_backend(backend));
  return std::unique_ptr<UnaryProver>(std::make_unique<CpuProver>(std::move(cpu), oracle));
}

}  // namespace verbatim
