// What every kernel of int8 attention has (docs/numerics.md, Attention, family B): its call, and
// how a block of keys joins the state of those before.
#pragma once

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

// 2^f, of a row that is flagged NaN.
__device__ inline float value_step(int32_t f) {
  return f == kFlaggedRow ? float_of(kNanBits) : float_of(static_cast<uint32_t>(f + 127) << 23);
}

// How a block of keys joins a row's state: each o of it is float(sum of codes) * down, and becomes
// part of the state's as fma(o, beta, the state's * alpha).
struct Joining {
  float alpha, beta, down;
};
// The row sees no key of the block. The factor makes -0 of a sum of 0, which changes no o.
inline constexpr Joining kNothingJoins = {1.0f, 1.0f, -0.0f};

// What a block's factor is: of W, the greatest of its weights, or NaN.
__device__ inline float factor_of(float greatest, int slices) {
  // greatest / 127, rounded: the remainder of the product with 1 / 127 is exact (Markstein,
  // "Computation of elementary functions on the IBM RISC System/6000 processor", 1990).
  constexpr float kInverse = 1.0f / 127.0f;
  const float quotient = greatest * kInverse,
              down = fma32(fma32(-127.0f, quotient, greatest), kInverse, quotient);
  return slices == 2 ? down * 0.0078125f : down;
}
// merge(state, block) of m and l. One of both weights is exp2p(0) = 1; a NaN of either m is in its
// l and its o as well.
__device__ inline Joining join_block(float& m, float& l, float block_m, float block_l, float down) {
  const bool rises = block_m > m;
  const float other = exp2p_of_any(rises ? m - block_m : block_m - m);
  const Joining joining{rises ? other : 1.0f, rises ? 1.0f : other, down};
  m = rises ? block_m : m;
  l = fma32(block_l, joining.beta, l * joining.alpha);
  return joining;
}

#if defined(VERBATIM_EMULATED_GPU)
inline float inverse_factor(float greatest) { return 127.0f / greatest; }
// Four numbers as int8 codes, the first in the lowest byte: rounded half to even, within -128..127,
// NaN to 0.
inline uint32_t packed_codes(float a, float b, float c, float d) {
  uint32_t word = 0;
  for (const float x : {d, c, b, a}) {
    const float code = is_nan(x) ? 0.0f : minimum(127.0f, maximum(-128.0f, round_even(x)));
    word = word << 8 | static_cast<uint8_t>(static_cast<int8_t>(code));
  }
  return word;
}
#else
// 127 / W, rounded, for W = 2^-100 to 2^123, by what a division does that need not look at its
// operands; and NaN of NaN, anything of 0.
__device__ inline float inverse_factor(float greatest) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(greatest));
  y = fma32(y, fma32(-greatest, y, 1.0f), y);
  const float quotient = 127.0f * y;
  return fma32(y, fma32(-greatest, quotient, 127.0f), quotient);
}
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
