// What this processor can do, read once.
#pragma once

#include <string>
#include <vector>

namespace verbatim {

struct CpuFeatures {
  bool avx2_fma = false;  // AVX2, FMA and F16C, enabled by the operating system
  bool avx512 = false;    // AVX-512 F, BW, DQ and VL
  bool avx512_vnni = false;
  bool sha = false;   // x86's SHA extensions
  bool neon = false;  // Advanced SIMD on AArch64
  bool neon_dotprod = false;
};
const CpuFeatures& cpu_features();
std::vector<std::string> cpu_feature_names();  // those present
std::string cpu_model_name();                  // "unknown" where the system does not tell

}  // namespace verbatim
