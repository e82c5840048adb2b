// What this processor can do, read once.
#pragma once

#include <string>
#include <vector>

namespace verbatim {

// What may be used: the processor has it, the operating system saves its registers, and the
// environment variable VERBATIM_CPU_DISABLE, a list of cpu_feature_names() with commas between
// them, does not name it.
struct CpuFeatures {
  bool avx2_fma = false;  // AVX2, FMA and F16C
  bool avx512 = false;    // AVX-512 F, BW, DQ and VL
  bool avx512_vnni = false;
  // Tiles of int8. The system grants them to a process that asks, which is done here; from then on
  // an alternate signal stack has to have room for them (getauxval(AT_MINSIGSTKSZ)).
  bool amx_int8 = false;
  bool sha = false;   // x86's SHA extensions
  bool neon = false;  // Advanced SIMD on AArch64
  bool neon_dotprod = false;
};
const CpuFeatures& cpu_features();
std::vector<std::string> cpu_feature_names();  // those present
// The names in VERBATIM_CPU_DISABLE. One that no feature has is an error that `verbatim doctor`
// tells.
std::vector<std::string> disabled_cpu_features();
bool is_cpu_feature(const std::string& name);
std::string cpu_model_name();  // "unknown" where the system does not tell

}  // namespace verbatim
