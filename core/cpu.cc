#include <verbatim/core/cpu.h>

#include <fstream>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace verbatim {
namespace {

#if defined(__x86_64__)
// Compilers differ in whether __builtin_cpu_supports() knows it. The registers are SSE's, which
// every x86-64 system saves.
bool has_sha() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b >> 29 & 1) != 0;
}
#endif

CpuFeatures detect() {
  CpuFeatures f;
#if defined(__x86_64__)
  __builtin_cpu_init();  // checks that the operating system saves the wide registers, too
  f.avx2_fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  f.avx512 = f.avx2_fma && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
  f.avx512_vnni = f.avx512 && __builtin_cpu_supports("avx512vnni");
  f.sha = has_sha() && __builtin_cpu_supports("sse4.1");
#elif defined(__aarch64__)
  f.neon = true;
#if defined(__linux__)
  f.neon_dotprod = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#endif
#endif
  return f;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

std::vector<std::string> cpu_feature_names() {
  const CpuFeatures& f = cpu_features();
  std::vector<std::string> names;
  if (f.avx2_fma) names.insert(names.end(), {"avx2", "fma"});
  if (f.avx512) names.push_back("avx512");
  if (f.avx512_vnni) names.push_back("avx512_vnni");
  if (f.sha) names.push_back("sha");
  if (f.neon) names.push_back("neon");
  if (f.neon_dotprod) names.push_back("neon_dotprod");
  return names;
}

std::string cpu_model_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name") || line.starts_with("vendor_id")) {
      const size_t colon = line.find(": ");
      if (colon != std::string::npos && line.starts_with("model name"))
        return line.substr(colon + 2);
    }
  }
  return "unknown";
}

}  // namespace verbatim
