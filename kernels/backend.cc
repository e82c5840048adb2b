#include <verbatim/kernels/backend.h>

#include <cstdlib>

#include <verbatim/core/cpu.h>
#include <verbatim/kernels/cpu/cpu_backend.h>
#if defined(VERBATIM_KERNELS_CUDA)
#include <verbatim/kernels/cuda/cuda_backend.h>
#include <verbatim/kernels/cuda/device.h>
#endif

namespace verbatim {
namespace {

// What the build has (kernels/CMakeLists.txt) beside what the processor can.
#if defined(VERBATIM_KERNELS_X86)
constexpr bool kX86 = true, kArm = false;
#elif defined(VERBATIM_KERNELS_ARM)
constexpr bool kX86 = false, kArm = true;
#else
constexpr bool kX86 = false, kArm = false;
#endif

std::string missing(bool built, const char* processor, bool present, const char* features,
                    std::initializer_list<std::string_view> names) {
  if (!built) return std::string("not of this processor, but of ") + processor;
  if (present) return "";
  for (const std::string& disabled : disabled_cpu_features())
    for (const std::string_view name : names)
      if (disabled == name) return "VERBATIM_CPU_DISABLE names " + disabled;
  return std::string("this processor, or its operating system, lacks ") + features;
}

const CpuKernels* kernels_of([[maybe_unused]] std::string_view backend) {
#if defined(VERBATIM_KERNELS_X86)
  if (backend == "avx512") return &avx512::kKernels;
  if (backend == "avx2") return &avx2::kKernels;
#elif defined(VERBATIM_KERNELS_ARM)
  if (backend == "neon") return &neon::kKernels;
#endif
  return nullptr;
}

std::string missing_gpu() {
#if defined(VERBATIM_KERNELS_CUDA)
  static const std::string missing(cuda::find_device().status().message());
  return missing;
#else
  return "not built in (cmake --preset cuda)";
#endif
}

Result<std::unique_ptr<Backend>> construct(std::string_view name) {
#if defined(VERBATIM_KERNELS_CUDA)
  if (name == "cuda") {  // what it has no kernel for runs on the best that the processor has
    for (const BackendInfo& b : list_backends())
      if (b.name != name && b.missing.empty()) {
        VB_ASSIGN(std::unique_ptr<Backend> host, construct(b.name));
        return make_cuda_backend(std::move(host));
      }
  }
#endif
  const CpuKernels* kernels = kernels_of(name);
  if (kernels == nullptr) return make_reference_backend();
  return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(*kernels));
}

}  // namespace

std::vector<BackendInfo> list_backends() {
  const CpuFeatures& cpu = cpu_features();
  return {
      {"avx512",
       missing(kX86, "x86-64", cpu.avx512, "AVX-512 F, BW, DQ or VL", {"avx512", "avx2", "fma"})},
      {"avx2", missing(kX86, "x86-64", cpu.avx2_fma, "AVX2 or FMA", {"avx2", "fma"})},
      {"neon", missing(kArm, "AArch64", cpu.neon, "Advanced SIMD", {"neon"})},
      {"cuda", missing_gpu()},
      {"reference", ""},
  };
}

Result<std::unique_ptr<Backend>> make_backend(std::string_view name) {
  if (name.empty() || name == "auto") {
    const char* forced = std::getenv("VERBATIM_BACKEND");
    if (forced != nullptr && *forced != '\0' && std::string_view(forced) != "auto")
      return make_backend(forced);
    for (const BackendInfo& b : list_backends())
      if (b.missing.empty()) return construct(b.name);
  }
  std::string names;
  for (const BackendInfo& b : list_backends()) {
    if (b.name == name && b.missing.empty()) return construct(name);
    if (b.name == name) return unavailable("backend '" + b.name + "': " + b.missing);
    names += ", " + b.name;
  }
  return usage_error("no backend '" + std::string(name) + "'; there are auto" + names);
}

std::string integer_product_way(std::string_view backend, int64_t rows) {
  for (const BackendInfo& b : list_backends())
    if (b.name == backend && !b.missing.empty()) return "";  // its code must not run here
  const CpuKernels* kernels = kernels_of(backend);
  return kernels == nullptr ? "" : kernels->sliced_way({.m = rows});
}

}  // namespace verbatim
