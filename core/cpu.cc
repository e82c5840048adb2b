#include <verbatim/core/cpu.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace verbatim {
namespace {

struct Name {
  std::string_view name;
  bool CpuFeatures::*feature;
};
constexpr Name kNames[] = {
    {"avx2", &CpuFeatures::avx2_fma},     {"fma", &CpuFeatures::avx2_fma},
    {"avx512", &CpuFeatures::avx512},     {"avx512_vnni", &CpuFeatures::avx512_vnni},
    {"amx_int8", &CpuFeatures::amx_int8}, {"sha", &CpuFeatures::sha},
    {"neon", &CpuFeatures::neon},         {"neon_dotprod", &CpuFeatures::neon_dotprod},
};

#if defined(__x86_64__)
// Compilers differ in whether __builtin_cpu_supports() knows it. The registers are SSE's, which
// every x86-64 system saves.
bool has_sha() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b >> 29 & 1) != 0;
}

// The processor has tiles and their int8 products, and the system saves them.
bool has_amx_int8() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kOsxsave = 1u << 27, kTileAndInt8 = 3u << 24, kTileState = 3u << 17;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsxsave) == 0) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTileAndInt8) != kTileAndInt8)
    return false;
  __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return (a & kTileState) == kTileState;
}

// Linux hands out the 8 KiB of tiles on demand alone (Documentation/arch/x86/xstate.rst). The grant
// is for all threads of the process.
bool may_use_tiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

CpuFeatures detect() {
  CpuFeatures allowed;
  for (const Name& n : kNames) allowed.*n.feature = true;
  for (const std::string& name : disabled_cpu_features())
    for (const Name& n : kNames)
      if (n.name == name) allowed.*n.feature = false;
  CpuFeatures f;
#if defined(__x86_64__)
  __builtin_cpu_init();  // checks that the operating system saves the wide registers, too
  f.avx2_fma = allowed.avx2_fma && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  f.avx512 = allowed.avx512 && f.avx2_fma && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
  f.avx512_vnni = allowed.avx512_vnni && f.avx512 && __builtin_cpu_supports("avx512vnni");
  f.amx_int8 = allowed.amx_int8 && f.avx512 && has_amx_int8() && may_use_tiles();
  f.sha = allowed.sha && has_sha() && __builtin_cpu_supports("sse4.1");
#elif defined(__aarch64__)
  f.neon = allowed.neon;
#if defined(__linux__)
  f.neon_dotprod = allowed.neon_dotprod && f.neon && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
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
  std::vector<std::string> names;
  for (const Name& n : kNames)
    if (cpu_features().*n.feature) names.emplace_back(n.name);
  return names;
}

std::vector<std::string> disabled_cpu_features() {
  const char* said = std::getenv("VERBATIM_CPU_DISABLE");
  std::istringstream list(said == nullptr ? "" : said);
  std::vector<std::string> names;
  for (std::string name; std::getline(list, name, ',');) {
    std::erase(name, ' ');
    if (!name.empty()) names.push_back(name);
  }
  return names;
}

bool is_cpu_feature(const std::string& name) {
  return std::ranges::any_of(kNames, [&](const Name& n) { return n.name == name; });
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
