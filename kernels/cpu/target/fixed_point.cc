// Products of Q16.16 codes (docs/numerics.md, Fixed point): 32-bit factors, 64-bit sums modulo
// 2^64. Integers have no order, so lanes, tiles and the order of k are this file's own affair.
#include <verbatim/kernels/cpu/target/kernels.h>

namespace verbatim::VB_TARGET {
namespace {

// Codes: kCodes elements of a row, ready to multiply. Sums: kSums 64-bit lanes, to each of which
// add_first and add_second add one product.
#if defined(__AVX512F__)
constexpr int kFixedRows = 4, kCodes = 16, kSums = 8;
using Sums = __m512i;
// mul_epi32 reads the even elements; the odd ones are moved there once for each row.
struct Codes {
  __m512i even, odd;
};
VB_INLINE Sums none() { return _mm512_setzero_si512(); }
VB_INLINE Codes codes(const int32_t* p) {
  const __m512i v = _mm512_loadu_si512(p);
  return {v, _mm512_srli_epi64(v, 32)};
}
VB_INLINE Sums add_first(Sums s, Codes a, Codes b) {
  return _mm512_add_epi64(s, _mm512_mul_epi32(a.even, b.even));
}
VB_INLINE Sums add_second(Sums s, Codes a, Codes b) {
  return _mm512_add_epi64(s, _mm512_mul_epi32(a.odd, b.odd));
}
VB_INLINE Sums unite(Sums a, Sums b) { return _mm512_or_si512(a, b); }
// Not _mm512_reduce_add_epi64: sums may wrap here, and GCC writes that one with signed additions.
VB_INLINE int64_t total(Sums s) {
  const __m256i four = _mm256_add_epi64(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));
  const __m128i two =
      _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
  return _mm_cvtsi128_si64(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
}
VB_INLINE uint64_t any(Sums s) { return static_cast<uint64_t>(_mm512_reduce_or_epi64(s)); }
#elif defined(__AVX2__)
constexpr int kFixedRows = 2, kCodes = 8, kSums = 4;
using Sums = __m256i;
struct Codes {
  __m256i even, odd;
};
VB_INLINE Sums none() { return _mm256_setzero_si256(); }
VB_INLINE Codes codes(const int32_t* p) {
  const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {v, _mm256_srli_epi64(v, 32)};
}
VB_INLINE Sums add_first(Sums s, Codes a, Codes b) {
  return _mm256_add_epi64(s, _mm256_mul_epi32(a.even, b.even));
}
VB_INLINE Sums add_second(Sums s, Codes a, Codes b) {
  return _mm256_add_epi64(s, _mm256_mul_epi32(a.odd, b.odd));
}
VB_INLINE Sums unite(Sums a, Sums b) { return _mm256_or_si256(a, b); }
VB_INLINE int64_t total(Sums s) {
  const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  return _mm_cvtsi128_si64(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
}
VB_INLINE uint64_t any(Sums s) {
  const __m128i two = _mm_or_si128(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_or_si128(two, _mm_unpackhi_epi64(two, two))));
}
#else
constexpr int kFixedRows = 4, kCodes = 4, kSums = 2;
using Sums = int64x2_t;
using Codes = int32x4_t;
VB_INLINE Sums none() { return vdupq_n_s64(0); }
VB_INLINE Codes codes(const int32_t* p) { return vld1q_s32(p); }
VB_INLINE Sums add_first(Sums s, Codes a, Codes b) {
  return vmlal_s32(s, vget_low_s32(a), vget_low_s32(b));
}
VB_INLINE Sums add_second(Sums s, Codes a, Codes b) { return vmlal_high_s32(s, a, b); }
VB_INLINE Sums unite(Sums a, Sums b) { return vorrq_s64(a, b); }
VB_INLINE int64_t total(Sums s) { return vaddvq_s64(s); }
VB_INLINE uint64_t any(Sums s) {
  return static_cast<uint64_t>(vgetq_lane_s64(s, 0) | vgetq_lane_s64(s, 1));
}
#endif

constexpr int kFixedColumns = 4;

template <int kRows, int kColumns>
VB_INLINE void tile(const int32_t* a, const int32_t* b, int64_t k_size, int64_t* sums,
                    int64_t stride) {
  Sums s[kRows][kColumns];
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int c = 0; c < kColumns; ++c) s[r][c] = none();
  }
  const auto step = [&](const int32_t* left, int64_t left_stride, const int32_t* right,
                        int64_t right_stride) __attribute__((always_inline)) {
    Codes x[kRows];
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) x[r] = codes(left + r * left_stride);
    VB_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const Codes y = codes(right + c * right_stride);
      VB_UNROLL
      for (int r = 0; r < kRows; ++r) s[r][c] = add_second(add_first(s[r][c], x[r], y), x[r], y);
    }
  };
  int64_t k = 0;
  for (; k + kCodes <= k_size; k += kCodes) step(a + k, k_size, b + k, k_size);
  if (k < k_size) {
    int32_t left[kRows][kCodes] = {}, right[kColumns][kCodes] = {};
    const auto rest = static_cast<size_t>(k_size - k) * sizeof(int32_t);
    for (int r = 0; r < kRows; ++r) std::memcpy(left[r], a + r * k_size + k, rest);
    for (int c = 0; c < kColumns; ++c) std::memcpy(right[c], b + c * k_size + k, rest);
    step(left[0], kCodes, right[0], kCodes);
  }
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int c = 0; c < kColumns; ++c) sums[r * stride + c] = total(s[r][c]);
  }
}

}  // namespace

// Lanes grow by at most 2^62 at a time. One that reaches 2^61 is below 2^63 when it does, so the
// bits that say so are seen before it can wrap. Lanes that never reached 2^61 sum to less than
// 2^64.
uint64_t fixed_norm(const int32_t* row, int64_t k_size) {
  static_assert(kSums <= 8);
  Sums sum = none(), seen = none();
  const auto step = [&](const int32_t* p) __attribute__((always_inline)) {
    const Codes x = codes(p);
    sum = add_first(sum, x, x);
    seen = unite(seen, sum);
    sum = add_second(sum, x, x);
    seen = unite(seen, sum);
  };
  int64_t k = 0;
  for (; k + kCodes <= k_size; k += kCodes) step(row + k);
  if (k < k_size) {
    int32_t rest[kCodes] = {};
    std::memcpy(rest, row + k, static_cast<size_t>(k_size - k) * sizeof(int32_t));
    step(rest);
  }
  if (any(seen) >= kWideFixedNorm) return kWideFixedNorm;
  const auto norm = static_cast<uint64_t>(total(sum));
  return norm < kWideFixedNorm ? norm : kWideFixedNorm;
}

void fixed_dots(const int32_t* a, int64_t rows, const int32_t* b, int64_t columns, int64_t k_size,
                int64_t* sums, int64_t stride) {
  for (int64_t column = 0; column < columns;) {
    const bool wide = column + kFixedColumns <= columns;
    for (int64_t row = 0; row < rows;) {
      const bool tall = row + kFixedRows <= rows;
      const int32_t *x = a + row * k_size, *y = b + column * k_size;
      int64_t* const out = sums + row * stride + column;
      if (tall && wide) {
        tile<kFixedRows, kFixedColumns>(x, y, k_size, out, stride);
      } else if (wide) {
        tile<1, kFixedColumns>(x, y, k_size, out, stride);
      } else {
        tile<1, 1>(x, y, k_size, out, stride);
      }
      row += tall && wide ? kFixedRows : 1;
    }
    column += wide ? kFixedColumns : 1;
  }
}

}  // namespace verbatim::VB_TARGET
