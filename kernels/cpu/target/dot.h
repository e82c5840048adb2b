// The instruction that adds four products of bytes to each lane of 32 bits. It is beyond what a
// target may count on: written as such in the source, run only where has_dot().
#pragma once

#include <verbatim/core/cpu.h>
#include <verbatim/kernels/cpu/simd.h>

namespace verbatim::VB_TARGET {

// sum + the dot of four bytes. On AVX-512 `a` is unsigned, `b` signed; on NEON both are signed.
#if defined(__AVX512F__)
#define VB_HAS_DOT 1
VB_INLINE bool has_dot() { return cpu_features().avx512_vnni; }
VB_INLINE I32 dot(I32 sum, I32 a, I32 b) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
  return sum;
}
VB_INLINE I32 dot(I32 sum, I32 a, const int32_t* b) {  // *b in every lane
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum.v) : "v"(a.v), "m"(*b));
  return sum;
}
#elif defined(__aarch64__)
#define VB_HAS_DOT 1
VB_INLINE bool has_dot() { return cpu_features().neon_dotprod; }
VB_INLINE I32 dot(I32 sum, I32 a, I32 b) {
  __asm__(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.16b"
          : "+w"(sum.v)
          : "w"(a.v), "w"(b.v));
  return sum;
}
VB_INLINE I32 dot(I32 sum, I32 a, const int32_t* b) { return dot(sum, a, all_int(*b)); }
#endif

}  // namespace verbatim::VB_TARGET
