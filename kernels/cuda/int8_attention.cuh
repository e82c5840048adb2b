// What every kernel of int8 attention has (docs/numerics.md, Attention, family B): its call, and
// weights as codes.
#pragma once

#include <verbatim/repops/ops/int8_weights.h>
#include <verbatim/repops/ops/row_codes.h>
#include <verbatim/repops/ops/sliced.h>
#include <verbatim/kernels/cuda/attention_tiles.cuh>

namespace verbatim::cuda {

// q, k and v are int8 codes, none of them -128; `out` is binary32.
struct Int8AttentionCall : AttentionCall {
  const float *q_scales, *k_scales;  // of each row of q and k, in their order
  const int32_t* v_exponents;
  float q_factor, o_factor;  // 1 / the rotation's block, of q and k, and of v
  int slices;                // of the weights

  // What the score of a row's codes is multiplied by before its key's scale.
  __device__ float row_scale(int64_t head_row) const { return q_scales[head_row] * q_factor; }
};

// f, or NaN of a value that is not finite.
__device__ inline float value_exponent(int32_t f) {
  return f == kFlaggedRow ? float_of(kNanBits) : static_cast<float>(f);
}
// What makes an l's weight of a code's 2^t, a whole power of 2 that no key has a part in aside:
// 2^-f, but for kTotalOfCode. Anything where the value is not finite, but a number.
__device__ inline float value_step(int32_t f) {
  return f == kFlaggedRow ? 1.0f : kTotalOfCode * float_of(static_cast<uint32_t>(127 - f) << 23);
}

// Added to a number within +-2^22, this makes the last bits those of the nearest whole number.
inline constexpr float kWholeNumbers = 12582912.0f;  // 1.5 * 2^23
// The nearest; anything of NaN.
__device__ inline int32_t whole_number(float x) {
  return static_cast<int32_t>(bits_of(x + kWholeNumbers) - bits_of(kWholeNumbers));
}
// A result of arithmetic, whose NaN has no sign bit on a GPU, unlike some processors'.
#if defined(VERBATIM_EMULATED_GPU)
inline float of_gpu(float x) { return canonical(x); }
#else
__device__ inline float of_gpu(float x) { return x; }
#endif
// Four numbers within +-127 as int8 codes, the first in the lowest byte: rounded half to even;
// anything of NaN.
#if defined(VERBATIM_EMULATED_GPU)
__device__ inline uint32_t packed_codes(float a, float b, float c, float d) {
  const auto whole = [](float x) { return bits_of(x + kWholeNumbers); };
  const uint32_t low = __byte_perm(whole(a), whole(b), 0x0040),
                 high = __byte_perm(whole(c), whole(d), 0x0040);
  return __byte_perm(low, high, 0x5410);
}
#else
// The compiler joins each packing with the two roundings that it packs.
__device__ inline uint32_t packed_codes(float a, float b, float c, float d) {
  uint32_t word;
  asm("{\n.reg .b32 upper;\n"
      "cvt.pack.sat.s8.s32.b32 upper, %4, %3, 0;\n"
      "cvt.pack.sat.s8.s32.b32 %0, %2, %1, upper;\n}"
      : "=r"(word)
      : "r"(__float2int_rn(a)), "r"(__float2int_rn(b)), "r"(__float2int_rn(c)),
        "r"(__float2int_rn(d)));
  return word;
}
#endif

}  // namespace verbatim::cuda
