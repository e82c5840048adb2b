// The few vector operations that the kernels are written in, once for each instruction set. A
// source that includes this is compiled once for each target, in that target's own namespace.
//
// How many lanes a register has is the machine's affair; the order in which numbers are combined is
// the contract's, so kernels map its logical lanes (32 of a sum, 8 of attention) onto registers and
// never derive an order from kLanes. Functions of other headers must not be called from such a
// source unless they are always inlined: the linker keeps one copy of an inline function, and it
// may keep the one that needs the newest processor. tests/kernels/symbols.sh checks that.
#pragma once

#include <cstdint>
#include <cstring>

#include <verbatim/core/dtype.h>

#if defined(__AVX512F__) || defined(__AVX2__)
// GCC 12 takes the deliberately undefined operands of its own intrinsics for mistakes (PR 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define VB_TARGET avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define VB_TARGET avx2
#elif defined(__aarch64__)
#define VB_TARGET neon
#else
#error "this source is for a vector target; see kernels/CMakeLists.txt"
#endif

#define VB_INLINE [[gnu::always_inline]] inline
#if defined(__clang__)
#define VB_UNROLL _Pragma("clang loop unroll(full)")
#else
#define VB_UNROLL _Pragma("GCC unroll 64")
#endif

namespace verbatim::VB_TARGET {

VB_INLINE constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
VB_INLINE constexpr int64_t greatest(int64_t a, int64_t b) { return a > b ? a : b; }

// F32: kLanes binary32 numbers. F64: half as many binary64. M32: a truth value for each lane of an
// F32. maximum_number(a, b) and minimum_number(a, b) are b where one operand is NaN; maximum and
// minimum tell -0 from +0, and are anything where one operand is NaN. first(n) is true in lanes
// 0..n-1; load_first and store_first touch only those, and load_first fills the others.

// look_up(table, i) is table[i mod kTableSize].

// greatest_lane(a) is the greatest where no lane is NaN. folded_lanes(a) is lane 0 after
// lane[j] += lane[j + s] for s = kLanes / 2, ..., 2, 1. butterfly<s>(a) takes the lanes u and v
// that are s apart, u the lower, to u + v and u - v. transpose(x) swaps lane j of x[i] and lane i
// of x[j].

// I32: the bits of an F32 as integers, or as pairs of 16-bit ones. to_int truncates toward zero,
// to_float rounds toward zero and to_nearest_float to nearest; low and high give a half's exact
// numbers. multiply keeps the low 32 bits; multiply_pairs adds the two products of 16-bit integers
// in each lane. widen loads kLanes bytes or 16-bit integers, unsigned; store16 and store8 store all
// lanes, whose numbers fit, as 16-bit integers and as bytes. overflowed(a, b, a + b) has its sign
// bit set where the sum did. store_half rounds to nearest fp16, NaN keeping its payload; load_half
// is exact. On x86, multiply_bytes multiplies unsigned bytes by signed ones and adds two products
// each, as saturated 16-bit integers.

#if defined(__AVX512F__)

inline constexpr int kLanes = 16;
struct F32 {
  __m512 v;
};
struct I32 {
  __m512i v;
};
struct F64 {
  __m512d v;
};
struct M32 {
  __mmask16 v;
};

VB_INLINE F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
VB_INLINE void store(float* p, F32 a) { _mm512_storeu_ps(p, a.v); }
VB_INLINE F32 all(float x) { return {_mm512_set1_ps(x)}; }
VB_INLINE F32 all_bits(uint32_t x) {
  return {_mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(x)))};
}
VB_INLINE F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
VB_INLINE F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
VB_INLINE F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
VB_INLINE F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
VB_INLINE F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
VB_INLINE F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
VB_INLINE F32 maximum_number(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
VB_INLINE F32 minimum_number(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
VB_INLINE F32 maximum(F32 a, F32 b) { return {_mm512_range_ps(a.v, b.v, 5)}; }
VB_INLINE F32 minimum(F32 a, F32 b) { return {_mm512_range_ps(a.v, b.v, 4)}; }
VB_INLINE F32 bit_and(F32 a, F32 b) { return {_mm512_and_ps(a.v, b.v)}; }
VB_INLINE F32 bit_or(F32 a, F32 b) { return {_mm512_or_ps(a.v, b.v)}; }

VB_INLINE M32 first(int64_t n) { return {static_cast<__mmask16>((1u << n) - 1)}; }
VB_INLINE M32 is_nan(F32 a) { return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)}; }
VB_INLINE M32 either_is_nan(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_UNORD_Q)}; }
VB_INLINE M32 below(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
VB_INLINE M32 differs(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_NEQ_UQ)}; }
VB_INLINE M32 operator|(M32 a, M32 b) { return {static_cast<__mmask16>(a.v | b.v)}; }
VB_INLINE unsigned bits(M32 m) { return m.v; }
VB_INLINE F32 select(M32 m, F32 yes, F32 no) { return {_mm512_mask_blend_ps(m.v, no.v, yes.v)}; }
inline constexpr int kTableSize = 32;
struct Table {
  __m512 low, high;
};
VB_INLINE Table load_table(const float* p) {
  return {_mm512_loadu_ps(p), _mm512_loadu_ps(p + kLanes)};
}
VB_INLINE F32 look_up(const Table& table, I32 i) {
  return {_mm512_permutex2var_ps(table.low, i.v, table.high)};
}
VB_INLINE F32 load_first(const float* p, int64_t n, F32 rest) {
  return {_mm512_mask_loadu_ps(rest.v, first(n).v, p)};
}
VB_INLINE void store_first(float* p, int64_t n, F32 a) {
  _mm512_mask_storeu_ps(p, first(n).v, a.v);
}

VB_INLINE float greatest_lane(F32 a) { return _mm512_reduce_max_ps(a.v); }
VB_INLINE float folded_lanes(F32 a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
template <int kStride>
VB_INLINE F32 butterfly(F32 a) {
  __m512 other;
  if constexpr (kStride == 1) other = _mm512_permute_ps(a.v, 0xB1);
  if constexpr (kStride == 2) other = _mm512_permute_ps(a.v, 0x4E);
  if constexpr (kStride == 4) other = _mm512_shuffle_f32x4(a.v, a.v, 0xB1);
  if constexpr (kStride == 8) other = _mm512_shuffle_f32x4(a.v, a.v, 0x4E);
  constexpr __mmask16 kHigh = kStride == 1   ? 0xAAAA
                              : kStride == 2 ? 0xCCCC
                              : kStride == 4 ? 0xF0F0
                                             : 0xFF00;
  return {_mm512_mask_sub_ps(_mm512_add_ps(a.v, other), kHigh, other, a.v)};
}

VB_INLINE void transpose(F32 (&x)[kLanes]) {
  __m512 pairs[kLanes], fours[kLanes];  // of rows; then 4 columns of 4 rows in each quarter
  VB_UNROLL
  for (int i = 0; i < kLanes; i += 2) {
    pairs[i] = _mm512_unpacklo_ps(x[i].v, x[i + 1].v);
    pairs[i + 1] = _mm512_unpackhi_ps(x[i].v, x[i + 1].v);
  }
  const auto halves = [](__m512 a, __m512 b, bool high) {
    const __m512d u = _mm512_castps_pd(a), v = _mm512_castps_pd(b);
    return _mm512_castpd_ps(high ? _mm512_unpackhi_pd(u, v) : _mm512_unpacklo_pd(u, v));
  };
  VB_UNROLL
  for (int i = 0; i < kLanes; i += 4) {
    VB_UNROLL
    for (int c = 0; c < 4; ++c)
      fours[i + c] = halves(pairs[i + c / 2], pairs[i + c / 2 + 2], c % 2 != 0);
  }
  VB_UNROLL
  for (int c = 0; c < 4; ++c) {
    const __m512 even0 = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0x88),
                 odd0 = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0xDD),
                 even1 = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0x88),
                 odd1 = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0xDD);
    x[c].v = _mm512_shuffle_f32x4(even0, even1, 0x88);
    x[4 + c].v = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
    x[8 + c].v = _mm512_shuffle_f32x4(even0, even1, 0xDD);
    x[12 + c].v = _mm512_shuffle_f32x4(odd0, odd1, 0xDD);
  }
}

VB_INLINE F64 low(F32 a) { return {_mm512_cvtps_pd(_mm512_castps512_ps256(a.v))}; }
VB_INLINE F64 high(F32 a) { return {_mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1))}; }
VB_INLINE F64 low(I32 a) { return {_mm512_cvtepi32_pd(_mm512_castsi512_si256(a.v))}; }
VB_INLINE F64 high(I32 a) { return {_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(a.v, 1))}; }
VB_INLINE F64 load(const double* p) { return {_mm512_loadu_pd(p)}; }
VB_INLINE void store(double* p, F64 a) { _mm512_storeu_pd(p, a.v); }
VB_INLINE F32 narrow(F64 low, F64 high) {
  return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low.v)),
                             _mm512_cvtpd_ps(high.v), 1)};
}
VB_INLINE F64 all64(double x) { return {_mm512_set1_pd(x)}; }
VB_INLINE F64 operator+(F64 a, F64 b) { return {_mm512_add_pd(a.v, b.v)}; }
VB_INLINE F64 operator-(F64 a, F64 b) { return {_mm512_sub_pd(a.v, b.v)}; }
VB_INLINE F64 operator*(F64 a, F64 b) { return {_mm512_mul_pd(a.v, b.v)}; }
VB_INLINE F64 operator/(F64 a, F64 b) { return {_mm512_div_pd(a.v, b.v)}; }
VB_INLINE F64 fma(F64 a, F64 b, F64 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
// a * 2^n where the last bits of the binary64 in `t` are the integer n, and neither is subnormal.
VB_INLINE F64 times_power_of_two(F64 a, F64 t) {
  return {_mm512_castsi512_pd(
      _mm512_add_epi64(_mm512_slli_epi64(_mm512_castpd_si512(t.v), 52), _mm512_castpd_si512(a.v)))};
}
// table[i] of 16 for the integer i in the last bits of the binary64 in `t`.
VB_INLINE F64 look_up(const double* table, F64 t) {
  return {_mm512_permutex2var_pd(_mm512_load_pd(table), _mm512_castpd_si512(t.v),
                                 _mm512_load_pd(table + 8))};
}

VB_INLINE I32 load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
VB_INLINE void store(int32_t* p, I32 a) { _mm512_storeu_si512(p, a.v); }
VB_INLINE I32 all_int(int32_t x) { return {_mm512_set1_epi32(x)}; }
VB_INLINE I32 operator+(I32 a, I32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
VB_INLINE I32 operator-(I32 a, I32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
VB_INLINE I32 operator&(I32 a, I32 b) { return {_mm512_and_si512(a.v, b.v)}; }
VB_INLINE I32 operator|(I32 a, I32 b) { return {_mm512_or_si512(a.v, b.v)}; }
VB_INLINE I32 operator^(I32 a, I32 b) { return {_mm512_xor_si512(a.v, b.v)}; }
VB_INLINE I32 maximum(I32 a, I32 b) { return {_mm512_max_epi32(a.v, b.v)}; }
VB_INLINE I32 multiply(I32 a, I32 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
VB_INLINE I32 widen(const uint8_t* p) {
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
VB_INLINE I32 widen(const uint16_t* p) {
  return {_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
VB_INLINE int32_t greatest_lane(I32 a) { return _mm512_reduce_max_epi32(a.v); }
template <int kBits>
VB_INLINE I32 shift_left(I32 a) {
  return {_mm512_slli_epi32(a.v, kBits)};
}
template <int kBits>
VB_INLINE I32 shift_right(I32 a) {  // signed
  return {_mm512_srai_epi32(a.v, kBits)};
}
template <int kBits>
VB_INLINE I32 shift_right_unsigned(I32 a) {
  return {_mm512_srli_epi32(a.v, kBits)};
}
VB_INLINE I32 bits_of(F32 a) { return {_mm512_castps_si512(a.v)}; }
VB_INLINE F32 float_of(I32 a) { return {_mm512_castsi512_ps(a.v)}; }
VB_INLINE I32 to_int(F32 a) { return {_mm512_cvttps_epi32(a.v)}; }
VB_INLINE F32 to_float(I32 a) {
  return {_mm512_cvt_roundepi32_ps(a.v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC)};
}
VB_INLINE F32 to_nearest_float(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
VB_INLINE I32 multiply_pairs(I32 a, I32 b) { return {_mm512_madd_epi16(a.v, b.v)}; }
VB_INLINE I32 multiply_bytes(I32 a, I32 b) { return {_mm512_maddubs_epi16(a.v, b.v)}; }
VB_INLINE void store16(int16_t* p, I32 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(a.v));
}
VB_INLINE void store8(int8_t* p, I32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}
VB_INLINE void store_half(uint16_t* p, F32 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VB_INLINE F32 load_half(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
VB_INLINE I32 overflowed(I32 a, I32 b, I32 sum) {
  return {_mm512_ternarylogic_epi32(a.v, b.v, sum.v, 0x42)};
}
VB_INLINE bool any_negative(I32 a) { return _mm512_movepi32_mask(a.v) != 0; }
VB_INLINE I32 add16(I32 a, I32 b) { return {_mm512_add_epi16(a.v, b.v)}; }
VB_INLINE I32 maximum16(I32 a, I32 b) { return {_mm512_max_epi16(a.v, b.v)}; }
VB_INLINE I32 maximum8(I32 a, I32 b) { return {_mm512_max_epi8(a.v, b.v)}; }
VB_INLINE I32 minimum8(I32 a, I32 b) { return {_mm512_min_epi8(a.v, b.v)}; }
VB_INLINE I32 add8(I32 a, I32 b) { return {_mm512_add_epi8(a.v, b.v)}; }
VB_INLINE I32 maximum_unsigned8(I32 a, I32 b) { return {_mm512_max_epu8(a.v, b.v)}; }
template <int kBits>
VB_INLINE I32 shift_left16(I32 a) {
  return {_mm512_slli_epi16(a.v, kBits)};
}
template <int kBits>
VB_INLINE I32 shift_right_unsigned16(I32 a) {
  return {_mm512_srli_epi16(a.v, kBits)};
}
template <int kBits>
VB_INLINE I32 shift_right16(I32 a) {
  return {_mm512_srai_epi16(a.v, kBits)};
}
VB_INLINE I32 where_zero16(I32 a, I32 yes, I32 no) {
  return {
      _mm512_mask_blend_epi16(_mm512_cmpeq_epi16_mask(a.v, _mm512_setzero_si512()), no.v, yes.v)};
}

#elif defined(__AVX2__)

inline constexpr int kLanes = 8;
struct F32 {
  __m256 v;
};
struct I32 {
  __m256i v;
};
struct F64 {
  __m256d v;
};
struct M32 {
  __m256 v;
};

VB_INLINE F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
VB_INLINE void store(float* p, F32 a) { _mm256_storeu_ps(p, a.v); }
VB_INLINE F32 all(float x) { return {_mm256_set1_ps(x)}; }
VB_INLINE F32 all_bits(uint32_t x) {
  return {_mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(x)))};
}
VB_INLINE F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
VB_INLINE F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
VB_INLINE F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
VB_INLINE F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
VB_INLINE F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
VB_INLINE F32 sqrt(F32 a) { return {_mm256_sqrt_ps(a.v)}; }
VB_INLINE F32 maximum_number(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
VB_INLINE F32 minimum_number(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
VB_INLINE F32 bit_and(F32 a, F32 b) { return {_mm256_and_ps(a.v, b.v)}; }
VB_INLINE F32 bit_or(F32 a, F32 b) { return {_mm256_or_ps(a.v, b.v)}; }
// The instruction gives its second operand where zeros differ in their signs alone.
VB_INLINE F32 maximum(F32 a, F32 b) { return bit_and(maximum_number(a, b), maximum_number(b, a)); }
VB_INLINE F32 minimum(F32 a, F32 b) { return bit_or(minimum_number(a, b), minimum_number(b, a)); }

VB_INLINE M32 first(int64_t n) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), index))};
}
VB_INLINE M32 is_nan(F32 a) { return {_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q)}; }
VB_INLINE M32 either_is_nan(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_UNORD_Q)}; }
VB_INLINE M32 below(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
VB_INLINE M32 differs(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_NEQ_UQ)}; }
VB_INLINE M32 operator|(M32 a, M32 b) { return {_mm256_or_ps(a.v, b.v)}; }
VB_INLINE unsigned bits(M32 m) { return static_cast<unsigned>(_mm256_movemask_ps(m.v)); }
VB_INLINE F32 select(M32 m, F32 yes, F32 no) { return {_mm256_blendv_ps(no.v, yes.v, m.v)}; }
inline constexpr int kTableSize = 8;
struct Table {
  __m256 v;
};
VB_INLINE Table load_table(const float* p) { return {_mm256_loadu_ps(p)}; }
VB_INLINE F32 look_up(Table table, I32 i) { return {_mm256_permutevar8x32_ps(table.v, i.v)}; }
VB_INLINE F32 load_first(const float* p, int64_t n, F32 rest) {
  const M32 m = first(n);
  return select(m, {_mm256_maskload_ps(p, _mm256_castps_si256(m.v))}, rest);
}
VB_INLINE void store_first(float* p, int64_t n, F32 a) {
  _mm256_maskstore_ps(p, _mm256_castps_si256(first(n).v), a.v);
}

VB_INLINE float greatest_lane(F32 a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
VB_INLINE float folded_lanes(F32 a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
template <int kStride>
VB_INLINE F32 butterfly(F32 a) {
  __m256 other;
  if constexpr (kStride == 1) other = _mm256_permute_ps(a.v, 0xB1);
  if constexpr (kStride == 2) other = _mm256_permute_ps(a.v, 0x4E);
  if constexpr (kStride == 4) other = _mm256_permute2f128_ps(a.v, a.v, 1);
  constexpr int kHigh = kStride == 1 ? 0xAA : kStride == 2 ? 0xCC : 0xF0;
  return {_mm256_blend_ps(_mm256_add_ps(a.v, other), _mm256_sub_ps(other, a.v), kHigh)};
}

VB_INLINE void transpose(F32 (&x)[kLanes]) {
  __m256 pairs[kLanes], fours[kLanes];  // of rows; then 4 columns of 4 rows in each half
  VB_UNROLL
  for (int i = 0; i < kLanes; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(x[i].v, x[i + 1].v);
    pairs[i + 1] = _mm256_unpackhi_ps(x[i].v, x[i + 1].v);
  }
  const auto halves = [](__m256 a, __m256 b, bool high) {
    const __m256d u = _mm256_castps_pd(a), v = _mm256_castps_pd(b);
    return _mm256_castpd_ps(high ? _mm256_unpackhi_pd(u, v) : _mm256_unpacklo_pd(u, v));
  };
  VB_UNROLL
  for (int i = 0; i < kLanes; i += 4) {
    VB_UNROLL
    for (int c = 0; c < 4; ++c)
      fours[i + c] = halves(pairs[i + c / 2], pairs[i + c / 2 + 2], c % 2 != 0);
  }
  VB_UNROLL
  for (int c = 0; c < 4; ++c) {
    x[c].v = _mm256_permute2f128_ps(fours[c], fours[4 + c], 0x20);
    x[4 + c].v = _mm256_permute2f128_ps(fours[c], fours[4 + c], 0x31);
  }
}

VB_INLINE F64 low(F32 a) { return {_mm256_cvtps_pd(_mm256_castps256_ps128(a.v))}; }
VB_INLINE F64 high(F32 a) { return {_mm256_cvtps_pd(_mm256_extractf128_ps(a.v, 1))}; }
VB_INLINE F64 low(I32 a) { return {_mm256_cvtepi32_pd(_mm256_castsi256_si128(a.v))}; }
VB_INLINE F64 high(I32 a) { return {_mm256_cvtepi32_pd(_mm256_extracti128_si256(a.v, 1))}; }
VB_INLINE F64 load(const double* p) { return {_mm256_loadu_pd(p)}; }
VB_INLINE void store(double* p, F64 a) { _mm256_storeu_pd(p, a.v); }
VB_INLINE F32 narrow(F64 low, F64 high) {
  return {_mm256_set_m128(_mm256_cvtpd_ps(high.v), _mm256_cvtpd_ps(low.v))};
}
VB_INLINE F64 all64(double x) { return {_mm256_set1_pd(x)}; }
VB_INLINE F64 operator+(F64 a, F64 b) { return {_mm256_add_pd(a.v, b.v)}; }
VB_INLINE F64 operator-(F64 a, F64 b) { return {_mm256_sub_pd(a.v, b.v)}; }
VB_INLINE F64 operator*(F64 a, F64 b) { return {_mm256_mul_pd(a.v, b.v)}; }
VB_INLINE F64 operator/(F64 a, F64 b) { return {_mm256_div_pd(a.v, b.v)}; }
VB_INLINE F64 fma(F64 a, F64 b, F64 c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
VB_INLINE F64 times_power_of_two(F64 a, F64 t) {
  return {_mm256_castsi256_pd(
      _mm256_add_epi64(_mm256_slli_epi64(_mm256_castpd_si256(t.v), 52), _mm256_castpd_si256(a.v)))};
}
// a = pairs[2 i], b = pairs[2 i + 1] for the integer i in the last 32 bits of the binary64 in `t`.
// Four 16-byte loads and two shuffles: gathers are slower on many processors.
VB_INLINE void look_up(const double* pairs, F64 t, F64& a, F64& b) {
  alignas(32) int64_t i[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(i), _mm256_castpd_si256(t.v));
  const auto pair = [&](int lane) {
    return _mm_loadu_pd(pairs + 2 * static_cast<uint32_t>(i[lane]));
  };
  const __m256d p02 = _mm256_set_m128d(pair(2), pair(0)), p13 = _mm256_set_m128d(pair(3), pair(1));
  a.v = _mm256_unpacklo_pd(p02, p13);
  b.v = _mm256_unpackhi_pd(p02, p13);
}

VB_INLINE I32 load(const int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
}
VB_INLINE void store(int32_t* p, I32 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
VB_INLINE I32 all_int(int32_t x) { return {_mm256_set1_epi32(x)}; }
VB_INLINE I32 operator+(I32 a, I32 b) { return {_mm256_add_epi32(a.v, b.v)}; }
VB_INLINE I32 operator-(I32 a, I32 b) { return {_mm256_sub_epi32(a.v, b.v)}; }
VB_INLINE I32 operator&(I32 a, I32 b) { return {_mm256_and_si256(a.v, b.v)}; }
VB_INLINE I32 operator|(I32 a, I32 b) { return {_mm256_or_si256(a.v, b.v)}; }
VB_INLINE I32 operator^(I32 a, I32 b) { return {_mm256_xor_si256(a.v, b.v)}; }
VB_INLINE I32 maximum(I32 a, I32 b) { return {_mm256_max_epi32(a.v, b.v)}; }
VB_INLINE I32 multiply(I32 a, I32 b) { return {_mm256_mullo_epi32(a.v, b.v)}; }
VB_INLINE I32 widen(const uint8_t* p) { return {_mm256_cvtepu8_epi32(_mm_loadu_si64(p))}; }
VB_INLINE I32 widen(const uint16_t* p) {
  return {_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
VB_INLINE int32_t greatest_lane(I32 a) {
  __m128i x = _mm_max_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4E));
  return _mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32(x, 0xB1)));
}
template <int kBits>
VB_INLINE I32 shift_left(I32 a) {
  return {_mm256_slli_epi32(a.v, kBits)};
}
template <int kBits>
VB_INLINE I32 shift_right(I32 a) {
  return {_mm256_srai_epi32(a.v, kBits)};
}
template <int kBits>
VB_INLINE I32 shift_right_unsigned(I32 a) {
  return {_mm256_srli_epi32(a.v, kBits)};
}
VB_INLINE I32 bits_of(F32 a) { return {_mm256_castps_si256(a.v)}; }
VB_INLINE F32 float_of(I32 a) { return {_mm256_castsi256_ps(a.v)}; }
VB_INLINE I32 to_int(F32 a) { return {_mm256_cvttps_epi32(a.v)}; }
// Rounded to nearest, and a step back toward zero where that went away from it: where the
// difference has the number's own sign. (2^31 converts back to -2^31, and the difference is right
// modulo 2^32.)
VB_INLINE F32 to_float(I32 a) {
  const __m256 nearest = _mm256_cvtepi32_ps(a.v);
  const __m256i d = _mm256_sub_epi32(_mm256_cvttps_epi32(nearest), a.v);
  const __m256i away = _mm256_andnot_si256(
      _mm256_cmpeq_epi32(d, _mm256_setzero_si256()),
      _mm256_xor_si256(_mm256_srai_epi32(_mm256_xor_si256(d, a.v), 31), _mm256_set1_epi32(-1)));
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(nearest), away))};
}
VB_INLINE F32 to_nearest_float(I32 a) { return {_mm256_cvtepi32_ps(a.v)}; }
VB_INLINE I32 multiply_pairs(I32 a, I32 b) { return {_mm256_madd_epi16(a.v, b.v)}; }
VB_INLINE I32 multiply_bytes(I32 a, I32 b) { return {_mm256_maddubs_epi16(a.v, b.v)}; }
VB_INLINE void store16(int16_t* p, I32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packs_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1)));
}
VB_INLINE void store8(int8_t* p, I32 a) {
  const __m128i half =
      _mm_packs_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(half, half));
}
VB_INLINE void store_half(uint16_t* p, F32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VB_INLINE F32 load_half(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
VB_INLINE I32 overflowed(I32 a, I32 b, I32 sum) {
  return {_mm256_and_si256(_mm256_xor_si256(a.v, sum.v), _mm256_xor_si256(b.v, sum.v))};
}
VB_INLINE bool any_negative(I32 a) { return _mm256_movemask_ps(_mm256_castsi256_ps(a.v)) != 0; }
VB_INLINE I32 add16(I32 a, I32 b) { return {_mm256_add_epi16(a.v, b.v)}; }
VB_INLINE I32 maximum16(I32 a, I32 b) { return {_mm256_max_epi16(a.v, b.v)}; }
VB_INLINE I32 maximum8(I32 a, I32 b) { return {_mm256_max_epi8(a.v, b.v)}; }
VB_INLINE I32 minimum8(I32 a, I32 b) { return {_mm256_min_epi8(a.v, b.v)}; }
VB_INLINE I32 add8(I32 a, I32 b) { return {_mm256_add_epi8(a.v, b.v)}; }
VB_INLINE I32 maximum_unsigned8(I32 a, I32 b) { return {_mm256_max_epu8(a.v, b.v)}; }
template <int kBits>
VB_INLINE I32 shift_left16(I32 a) {
  return {_mm256_slli_epi16(a.v, kBits)};
}
template <int kBits>
VB_INLINE I32 shift_right_unsigned16(I32 a) {
  return {_mm256_srli_epi16(a.v, kBits)};
}
template <int kBits>
VB_INLINE I32 shift_right16(I32 a) {
  return {_mm256_srai_epi16(a.v, kBits)};
}
VB_INLINE I32 where_zero16(I32 a, I32 yes, I32 no) {
  return {_mm256_blendv_epi8(no.v, yes.v, _mm256_cmpeq_epi16(a.v, _mm256_setzero_si256()))};
}

#else  // NEON

inline constexpr int kLanes = 4;
struct F32 {
  float32x4_t v;
};
struct I32 {
  int32x4_t v;
};
struct F64 {
  float64x2_t v;
};
struct M32 {
  uint32x4_t v;
};

VB_INLINE F32 load(const float* p) { return {vld1q_f32(p)}; }
VB_INLINE void store(float* p, F32 a) { vst1q_f32(p, a.v); }
VB_INLINE F32 all(float x) { return {vdupq_n_f32(x)}; }
VB_INLINE F32 all_bits(uint32_t x) { return {vreinterpretq_f32_u32(vdupq_n_u32(x))}; }
VB_INLINE F32 operator+(F32 a, F32 b) { return {vaddq_f32(a.v, b.v)}; }
VB_INLINE F32 operator-(F32 a, F32 b) { return {vsubq_f32(a.v, b.v)}; }
VB_INLINE F32 operator*(F32 a, F32 b) { return {vmulq_f32(a.v, b.v)}; }
VB_INLINE F32 operator/(F32 a, F32 b) { return {vdivq_f32(a.v, b.v)}; }
VB_INLINE F32 fma(F32 a, F32 b, F32 c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
VB_INLINE F32 sqrt(F32 a) { return {vsqrtq_f32(a.v)}; }
// Not FMAXNM and FMINNM, which make a NaN of a number and a signalling NaN.
VB_INLINE F32 maximum_number(F32 a, F32 b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
VB_INLINE F32 minimum_number(F32 a, F32 b) { return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)}; }
VB_INLINE F32 maximum(F32 a, F32 b) { return {vmaxq_f32(a.v, b.v)}; }
VB_INLINE F32 minimum(F32 a, F32 b) { return {vminq_f32(a.v, b.v)}; }
VB_INLINE F32 bit_and(F32 a, F32 b) {
  return {vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a.v), vreinterpretq_u32_f32(b.v)))};
}
VB_INLINE F32 bit_or(F32 a, F32 b) {
  return {vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(a.v), vreinterpretq_u32_f32(b.v)))};
}

VB_INLINE M32 first(int64_t n) {
  const uint32x4_t index = {0, 1, 2, 3};
  return {vcltq_u32(index, vdupq_n_u32(static_cast<uint32_t>(n)))};
}
VB_INLINE M32 is_nan(F32 a) { return {vmvnq_u32(vceqq_f32(a.v, a.v))}; }
VB_INLINE M32 either_is_nan(F32 a, F32 b) {
  return {vmvnq_u32(vandq_u32(vceqq_f32(a.v, a.v), vceqq_f32(b.v, b.v)))};
}
VB_INLINE M32 below(F32 a, F32 b) { return {vcltq_f32(a.v, b.v)}; }
VB_INLINE M32 differs(F32 a, F32 b) { return {vmvnq_u32(vceqq_f32(a.v, b.v))}; }
VB_INLINE M32 operator|(M32 a, M32 b) { return {vorrq_u32(a.v, b.v)}; }
VB_INLINE unsigned bits(M32 m) {
  const uint32x4_t weight = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(m.v, weight));
}
VB_INLINE F32 select(M32 m, F32 yes, F32 no) { return {vbslq_f32(m.v, yes.v, no.v)}; }
inline constexpr int kTableSize = 8;
struct Table {
  uint8x16x2_t v;
};
VB_INLINE Table load_table(const float* p) {
  return {{{vreinterpretq_u8_f32(vld1q_f32(p)), vreinterpretq_u8_f32(vld1q_f32(p + 4))}}};
}
VB_INLINE F32 look_up(const Table& table, I32 i) {
  const uint32x4_t entry = vandq_u32(vreinterpretq_u32_s32(i.v), vdupq_n_u32(kTableSize - 1));
  const uint32x4_t bytes = vmlaq_n_u32(vdupq_n_u32(0x03020100), entry, 0x04040404);
  return {vreinterpretq_f32_u8(vqtbl2q_u8(table.v, vreinterpretq_u8_u32(bytes)))};
}
VB_INLINE F32 load_first(const float* p, int64_t n, F32 rest) {
  float lane[kLanes];
  store(lane, rest);
  for (int64_t i = 0; i < n; ++i) lane[i] = p[i];
  return load(lane);
}
VB_INLINE void store_first(float* p, int64_t n, F32 a) {
  float lane[kLanes];
  store(lane, a);
  for (int64_t i = 0; i < n; ++i) p[i] = lane[i];
}

VB_INLINE float greatest_lane(F32 a) { return vmaxvq_f32(a.v); }
VB_INLINE float folded_lanes(F32 a) {
  return vpadds_f32(vadd_f32(vget_low_f32(a.v), vget_high_f32(a.v)));
}
template <int kStride>
VB_INLINE F32 butterfly(F32 a) {
  const float32x4_t other = kStride == 1 ? vrev64q_f32(a.v) : vextq_f32(a.v, a.v, 2);
  const uint32x4_t high = kStride == 1 ? uint32x4_t{0, ~0u, 0, ~0u} : uint32x4_t{0, 0, ~0u, ~0u};
  return {vbslq_f32(high, vsubq_f32(other, a.v), vaddq_f32(a.v, other))};
}

VB_INLINE void transpose(F32 (&x)[kLanes]) {
  const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(x[0].v, x[1].v)),
                    b = vreinterpretq_f64_f32(vtrn2q_f32(x[0].v, x[1].v)),
                    c = vreinterpretq_f64_f32(vtrn1q_f32(x[2].v, x[3].v)),
                    d = vreinterpretq_f64_f32(vtrn2q_f32(x[2].v, x[3].v));
  x[0].v = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
  x[1].v = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
  x[2].v = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
  x[3].v = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

VB_INLINE F64 low(F32 a) { return {vcvt_f64_f32(vget_low_f32(a.v))}; }
VB_INLINE F64 high(F32 a) { return {vcvt_high_f64_f32(a.v)}; }
VB_INLINE F64 low(I32 a) { return {vcvtq_f64_s64(vmovl_s32(vget_low_s32(a.v)))}; }
VB_INLINE F64 high(I32 a) { return {vcvtq_f64_s64(vmovl_high_s32(a.v))}; }
VB_INLINE F64 load(const double* p) { return {vld1q_f64(p)}; }
VB_INLINE void store(double* p, F64 a) { vst1q_f64(p, a.v); }
VB_INLINE F32 narrow(F64 low, F64 high) { return {vcvt_high_f32_f64(vcvt_f32_f64(low.v), high.v)}; }
VB_INLINE F64 all64(double x) { return {vdupq_n_f64(x)}; }
VB_INLINE F64 operator+(F64 a, F64 b) { return {vaddq_f64(a.v, b.v)}; }
VB_INLINE F64 operator-(F64 a, F64 b) { return {vsubq_f64(a.v, b.v)}; }
VB_INLINE F64 operator*(F64 a, F64 b) { return {vmulq_f64(a.v, b.v)}; }
VB_INLINE F64 operator/(F64 a, F64 b) { return {vdivq_f64(a.v, b.v)}; }
VB_INLINE F64 fma(F64 a, F64 b, F64 c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
VB_INLINE F64 times_power_of_two(F64 a, F64 t) {
  return {vreinterpretq_f64_u64(
      vaddq_u64(vshlq_n_u64(vreinterpretq_u64_f64(t.v), 52), vreinterpretq_u64_f64(a.v)))};
}
VB_INLINE void look_up(const double* pairs, F64 t, F64& a, F64& b) {
  const uint64x2_t i = vreinterpretq_u64_f64(t.v);
  const float64x2_t p = vld1q_f64(pairs + 2 * static_cast<uint32_t>(vgetq_lane_u64(i, 0)));
  const float64x2_t q = vld1q_f64(pairs + 2 * static_cast<uint32_t>(vgetq_lane_u64(i, 1)));
  a.v = vzip1q_f64(p, q);
  b.v = vzip2q_f64(p, q);
}

VB_INLINE I32 load(const int32_t* p) { return {vld1q_s32(p)}; }
VB_INLINE void store(int32_t* p, I32 a) { vst1q_s32(p, a.v); }
VB_INLINE I32 all_int(int32_t x) { return {vdupq_n_s32(x)}; }
VB_INLINE I32 operator+(I32 a, I32 b) { return {vaddq_s32(a.v, b.v)}; }
VB_INLINE I32 operator-(I32 a, I32 b) { return {vsubq_s32(a.v, b.v)}; }
VB_INLINE I32 operator&(I32 a, I32 b) { return {vandq_s32(a.v, b.v)}; }
VB_INLINE I32 operator|(I32 a, I32 b) { return {vorrq_s32(a.v, b.v)}; }
VB_INLINE I32 operator^(I32 a, I32 b) { return {veorq_s32(a.v, b.v)}; }
VB_INLINE I32 maximum(I32 a, I32 b) { return {vmaxq_s32(a.v, b.v)}; }
VB_INLINE I32 multiply(I32 a, I32 b) { return {vmulq_s32(a.v, b.v)}; }
VB_INLINE I32 widen(const uint8_t* p) {
  uint32_t four;
  std::memcpy(&four, p, sizeof four);
  const uint16x8_t halves = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
  return {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(halves)))};
}
VB_INLINE I32 widen(const uint16_t* p) { return {vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p)))}; }
VB_INLINE int32_t greatest_lane(I32 a) { return vmaxvq_s32(a.v); }
template <int kBits>
VB_INLINE I32 shift_left(I32 a) {
  return {vshlq_n_s32(a.v, kBits)};
}
template <int kBits>
VB_INLINE I32 shift_right(I32 a) {
  return {vshrq_n_s32(a.v, kBits)};
}
template <int kBits>
VB_INLINE I32 shift_right_unsigned(I32 a) {
  return {vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a.v), kBits))};
}
VB_INLINE I32 bits_of(F32 a) { return {vreinterpretq_s32_f32(a.v)}; }
VB_INLINE F32 float_of(I32 a) { return {vreinterpretq_f32_s32(a.v)}; }
VB_INLINE I32 to_int(F32 a) { return {vcvtq_s32_f32(a.v)}; }
// As on AVX2; 2^31 converts back to 2^31 - 1, from which only that number itself comes without a
// difference.
VB_INLINE F32 to_float(I32 a) {
  const float32x4_t nearest = vcvtq_f32_s32(a.v);
  const int32x4_t back = vcvtq_s32_f32(nearest), d = vsubq_s32(back, a.v);
  const uint32x4_t differs = vtstq_s32(d, d),
                   same_sign = vcgeq_s32(veorq_s32(d, a.v), vdupq_n_s32(0));
  const uint32x4_t away =
      vorrq_u32(vandq_u32(differs, same_sign), vceqq_s32(back, vdupq_n_s32(INT32_MAX)));
  return {vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(nearest), away))};
}
VB_INLINE F32 to_nearest_float(I32 a) { return {vcvtq_f32_s32(a.v)}; }
VB_INLINE I32 multiply_pairs(I32 a, I32 b) {
  const int16x8_t x = vreinterpretq_s16_s32(a.v), y = vreinterpretq_s16_s32(b.v);
  return {vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y))};
}
VB_INLINE void store16(int16_t* p, I32 a) { vst1_s16(p, vmovn_s32(a.v)); }
VB_INLINE void store8(int8_t* p, I32 a) {
  const int16x4_t half = vmovn_s32(a.v);
  const int8x8_t bytes = vmovn_s16(vcombine_s16(half, half));
  std::memcpy(p, &bytes, kLanes);
}
VB_INLINE void store_half(uint16_t* p, F32 a) {
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a.v)));
}
VB_INLINE F32 load_half(const uint16_t* p) {
  return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))};
}
VB_INLINE I32 overflowed(I32 a, I32 b, I32 sum) {
  return {vandq_s32(veorq_s32(a.v, sum.v), veorq_s32(b.v, sum.v))};
}
VB_INLINE bool any_negative(I32 a) { return vminvq_s32(a.v) < 0; }
VB_INLINE I32 add16(I32 a, I32 b) {
  return {vreinterpretq_s32_s16(vaddq_s16(vreinterpretq_s16_s32(a.v), vreinterpretq_s16_s32(b.v)))};
}
VB_INLINE I32 maximum16(I32 a, I32 b) {
  return {vreinterpretq_s32_s16(vmaxq_s16(vreinterpretq_s16_s32(a.v), vreinterpretq_s16_s32(b.v)))};
}
VB_INLINE I32 maximum8(I32 a, I32 b) {
  return {vreinterpretq_s32_s8(vmaxq_s8(vreinterpretq_s8_s32(a.v), vreinterpretq_s8_s32(b.v)))};
}
VB_INLINE I32 minimum8(I32 a, I32 b) {
  return {vreinterpretq_s32_s8(vminq_s8(vreinterpretq_s8_s32(a.v), vreinterpretq_s8_s32(b.v)))};
}
VB_INLINE I32 add8(I32 a, I32 b) {
  return {vreinterpretq_s32_u8(vaddq_u8(vreinterpretq_u8_s32(a.v), vreinterpretq_u8_s32(b.v)))};
}
VB_INLINE I32 maximum_unsigned8(I32 a, I32 b) {
  return {vreinterpretq_s32_u8(vmaxq_u8(vreinterpretq_u8_s32(a.v), vreinterpretq_u8_s32(b.v)))};
}
template <int kBits>
VB_INLINE I32 shift_left16(I32 a) {
  return {vreinterpretq_s32_s16(vshlq_n_s16(vreinterpretq_s16_s32(a.v), kBits))};
}
template <int kBits>
VB_INLINE I32 shift_right_unsigned16(I32 a) {
  return {vreinterpretq_s32_u16(vshrq_n_u16(vreinterpretq_u16_s32(a.v), kBits))};
}
template <int kBits>
VB_INLINE I32 shift_right16(I32 a) {
  return {vreinterpretq_s32_s16(vshrq_n_s16(vreinterpretq_s16_s32(a.v), kBits))};
}
VB_INLINE I32 where_zero16(I32 a, I32 yes, I32 no) {
  const uint16x8_t zero = vceqq_s16(vreinterpretq_s16_s32(a.v), vdupq_n_s16(0));
  return {vbslq_s32(vreinterpretq_u32_u16(zero), yes.v, no.v)};
}

#endif

// Keeps the compiler from reordering a sum of integers: of a chain that is as long as it is wide,
// it makes a tree whose leaves do not fit in the registers.
VB_INLINE void pin(I32& a) {
#if defined(__aarch64__)
  __asm__("" : "+w"(a.v));
#else
  __asm__("" : "+v"(a.v));
#endif
}
VB_INLINE void prefetch(const float* p) { __builtin_prefetch(p); }

// What an arithmetic operator stores.
VB_INLINE F32 canonical(F32 a) { return select(is_nan(a), all_bits(0x7FC00000), a); }
VB_INLINE float canonical(float x) {
  if (x == x) return x;
  const uint32_t nan = 0x7FC00000;
  std::memcpy(&x, &nan, sizeof x);
  return x;
}
VB_INLINE F32 zero() { return all_bits(0); }
// rne(x) for |x| < 2^22; NaN gives any integer.
VB_INLINE I32 nearest_int(F32 x) { return bits_of(x + all(0x1.8p23f)) - all_int(0x4B400000); }
VB_INLINE F32 negative_zero() { return all_bits(0x80000000); }

// Eight sums of attention: element i of a block belongs to lane i mod 8; lane_sum combines them as
// ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)).
#if defined(__AVX512F__)
struct Octet {
  __m256 v = _mm256_setzero_ps();
};
VB_INLINE void add(Octet& sums, F32 a, int64_t) {
  sums.v = _mm256_add_ps(_mm256_add_ps(sums.v, _mm512_castps512_ps256(a.v)),
                         _mm512_extractf32x8_ps(a.v, 1));
}
VB_INLINE float lane_sum(const Octet& sums) {
  __m128 x = _mm_hadd_ps(_mm256_castps256_ps128(sums.v), _mm256_extractf128_ps(sums.v, 1));
  x = _mm_hadd_ps(x, x);
  return _mm_cvtss_f32(_mm_hadd_ps(x, x));
}
#elif defined(__AVX2__)
struct Octet {
  __m256 v = _mm256_setzero_ps();
};
VB_INLINE void add(Octet& sums, F32 a, int64_t) { sums.v = _mm256_add_ps(sums.v, a.v); }
VB_INLINE float lane_sum(const Octet& sums) {
  __m128 x = _mm_hadd_ps(_mm256_castps256_ps128(sums.v), _mm256_extractf128_ps(sums.v, 1));
  x = _mm_hadd_ps(x, x);
  return _mm_cvtss_f32(_mm_hadd_ps(x, x));
}
#else
struct Octet {
  F32 half[2] = {zero(), zero()};
};
// Elements i .. i + 3, i a multiple of 4.
VB_INLINE void add(Octet& sums, F32 a, int64_t i) {
  F32& half = sums.half[i / kLanes % 2];
  half = half + a;
}
VB_INLINE float lane_sum(const Octet& sums) {
  float32x4_t x = vpaddq_f32(sums.half[0].v, sums.half[1].v);
  x = vpaddq_f32(x, x);
  return vgetq_lane_f32(vpaddq_f32(x, x), 0);
}
#endif

// Lanes [0, count) of p, the others `rest`: no lane where count is negative, all where it is kLanes
// or more.
VB_INLINE F32 load_up_to(const float* p, int64_t count, F32 rest) {
#if defined(__AVX512F__)  // where a mask costs nothing and a branch does
  return load_first(p, greatest(0, least(count, kLanes)), rest);
#else
  return count >= kLanes ? load(p) : load_first(p, count, rest);
#endif
}
VB_INLINE void store_up_to(float* p, int64_t count, F32 a) {
#if defined(__AVX512F__)
  store_first(p, greatest(0, least(count, kLanes)), a);
#else
  if (count >= kLanes) {
    store(p, a);
  } else {
    store_first(p, count, a);
  }
#endif
}

// Elements of 16 bits, computed in binary32: exact on load, rounded once to nearest on store. What
// is stored has its NaNs canonical already.
VB_INLINE F32 load(const BFloat16* p) { return float_of(shift_left<16>(widen(&p->bits))); }
VB_INLINE F32 load(const Half* p) { return load_half(&p->bits); }
VB_INLINE void store(BFloat16* p, F32 a) {
  const I32 x = bits_of(a), odd = shift_right_unsigned<16>(x) & all_int(1);
  store16(reinterpret_cast<int16_t*>(p), shift_right<16>(x + odd + all_int(0x7FFF)));
}
VB_INLINE void store(Half* p, F32 a) { store_half(&p->bits, a); }

// Lanes [0, count) of 16-bit elements, as of floats.
template <class T>
VB_INLINE F32 load_up_to(const T* p, int64_t count, F32 rest) {
  if (count >= kLanes) return load(p);
  T x[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) x[i] = p[i];
  return select(first(greatest(count, 0)), load(x), rest);
}
template <class T>
VB_INLINE void store_up_to(T* p, int64_t count, F32 a) {
  if (count >= kLanes) return store(p, a);
  T x[kLanes];
  store(x, a);
  for (int64_t i = 0; i < count; ++i) p[i] = x[i];
}

VB_INLINE F32 all(BFloat16 x) { return all_bits(static_cast<uint32_t>(x.bits) << 16); }
VB_INLINE F32 all(Half x) {
  Half lane[kLanes];
  for (Half& l : lane) l = x;
  return load(lane);
}
template <class T>
VB_INLINE F32 rounded(F32 a) {
  T lane[kLanes];
  store(lane, canonical(a));
  return load(lane);
}

// f(an element of the type), for the types of which kernels know: float, BFloat16, Half.
template <class F>
VB_INLINE void visit_storage(DType type, F f) {
  switch (type) {
    case DType::bf16:
      return f(BFloat16{});
    case DType::f16:
      return f(Half{});
    default:
      return f(float{});
  }
}

}  // namespace verbatim::VB_TARGET
