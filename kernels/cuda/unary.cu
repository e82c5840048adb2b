// The functions of unary_f32.h and the oracle of unary_proof.h as the host compiles them, one
// thread for each input: one kernel for each function, so that none pays for another's registers.
#include <verbatim/kernels/cuda/unary.h>

#include <bit>
#include <utility>

#include <verbatim/kernels/cuda/device.h>
#include <verbatim/repops/unary_f32.h>
#include <verbatim/repops/unary_proof.h>

namespace verbatim {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr int kThreads = 256;
constexpr int64_t kPart = int64_t{1} << 26;

struct DeviceFaults {
  unsigned long long wrong;
  uint32_t first;  // bits of the least wrong input; ~0 where none is, or that one is
};

template <Unary f>
__global__ void __launch_bounds__(kThreads)
    check(uint32_t first, int64_t count, uint32_t* results, bool oracle, DeviceFaults* faults) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const uint32_t input = first + static_cast<uint32_t>(i);
  const uint32_t have = bits_of(unary::f32::evaluate(f, float_of(input)));
  results[i] = have;
  if (!oracle) return;
  const std::optional<float> right = unary::proven(f, float_of(input));
  if (right.has_value() && bits_of(*right) == have) return;
  atomicAdd(&faults->wrong, 1ull);
  atomicMin(&faults->first, input);
}

using Kernel = void (*)(uint32_t, int64_t, uint32_t*, bool, DeviceFaults*);

template <size_t... kIndex>
Kernel kernel_of(Unary f, std::index_sequence<kIndex...>) {
  static constexpr Kernel kKernels[] = {check<static_cast<Unary>(kIndex)>...};
  return kKernels[static_cast<size_t>(f)];
}

class CudaProver final : public UnaryProver {
 public:
  explicit CudaProver(bool oracle) : oracle_(oracle) {}

  std::string_view name() const override { return "cuda"; }
  int64_t part() const override { return kPart; }

  Status prepare() {
    VB_TRY(cuda::allocate(results_, kPart));
    return cuda::allocate(faults_, 1);
  }

  Status run(Unary f, uint32_t first, int64_t count, std::byte* results,
             UnaryFaults& faults) override {
    DeviceFaults found{0, ~uint32_t{0}};
    VB_TRY(cuda::check(cudaMemcpy(faults_.get(), &found, sizeof found, cudaMemcpyHostToDevice)));
    const auto blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
    kernel_of(f, std::make_index_sequence<kUnaryCount>())<<<blocks, kThreads>>>(
        first, count, results_.get(), oracle_, faults_.get());
    VB_TRY(cuda::check(cudaGetLastError()));
    VB_TRY(cuda::check(cudaMemcpy(results, results_.get(), static_cast<size_t>(4 * count),
                                  cudaMemcpyDeviceToHost)));
    VB_TRY(cuda::check(cudaMemcpy(&found, faults_.get(), sizeof found, cudaMemcpyDeviceToHost)));
    faults.wrong += found.wrong;
    if (found.wrong > 0 && !faults.first) faults.first = found.first;
    return {};
  }

 private:
  cuda::Memory<uint32_t> results_;
  cuda::Memory<DeviceFaults> faults_;
  bool oracle_;
};

}  // namespace

Result<std::unique_ptr<UnaryProver>> make_cuda_unary_prover(bool oracle) {
  VB_TRY(cuda::find_device().status());
  auto prover = std::make_unique<CudaProver>(oracle);
  VB_TRY(prover->prepare());
  return std::unique_ptr<UnaryProver>(std::move(prover));
}

}  // namespace verbatim
