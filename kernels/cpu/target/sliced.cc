// Products of int8 slices (docs/numerics.md, Family B). Integers have no order: each instruction
// set uses the widening product that it has, and all give the same sums. Codes are never -128.
#include <verbatim/core/cpu.h>
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/repops/ops/sliced.h>

namespace verbatim::VB_TARGET {
namespace {

// How kBytes codes of two rows are multiplied and added into int32 lanes. A lane gets at most
// 2^18 / 4 products of two codes below 2^7 (or of one below 2^8, where kOffset), less than 2^31.
// kOffset: the left codes are taken as code + 128, and 128 times the sum of the right row is taken
// off at the end.
#if defined(__AVX512F__)
constexpr int kTileRows8 = 4;
struct Widening {
  static constexpr int kBytes = 32;
  static constexpr bool kOffset = false;
  using Codes = __m512i;
  using Sums = __m512i;
  VB_INLINE static Sums none() { return _mm512_setzero_si512(); }
  VB_INLINE static Codes left(const int8_t* p) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  VB_INLINE static Codes right(const int8_t* p) { return left(p); }
  VB_INLINE static Sums add(Sums s, Codes a, Codes b) {
    return _mm512_add_epi32(s, _mm512_madd_epi16(a, b));
  }
  VB_INLINE static int64_t total(Sums s) {
    return _mm512_reduce_add_epi64(
        _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(s)),
                         _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(s, 1))));
  }
};
// The one instruction beyond the target's own set: written as such, run only where has_dot().
#define VB_HAS_DOT 1
struct Dot {
  static constexpr int kBytes = 64;
  static constexpr bool kOffset = true;
  using Codes = __m512i;
  using Sums = __m512i;
  VB_INLINE static Sums none() { return _mm512_setzero_si512(); }
  VB_INLINE static Codes right(const int8_t* p) { return _mm512_loadu_si512(p); }
  VB_INLINE static Codes left(const int8_t* p) {
    return _mm512_xor_si512(right(p), _mm512_set1_epi8(-128));
  }
  VB_INLINE static Codes ones() { return _mm512_set1_epi8(1); }
  VB_INLINE static Sums add(Sums s, Codes a, Codes b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(a), "v"(b));
    return s;
  }
  VB_INLINE static int64_t total(Sums s) { return Widening::total(s); }
};
bool has_dot() { return cpu_features().avx512_vnni; }
#elif defined(__AVX2__)
constexpr int kTileRows8 = 2;
struct Widening {
  static constexpr int kBytes = 16;
  static constexpr bool kOffset = false;
  using Codes = __m256i;
  using Sums = __m256i;
  VB_INLINE static Sums none() { return _mm256_setzero_si256(); }
  VB_INLINE static Codes left(const int8_t* p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  VB_INLINE static Codes right(const int8_t* p) { return left(p); }
  VB_INLINE static Sums add(Sums s, Codes a, Codes b) {
    return _mm256_add_epi32(s, _mm256_madd_epi16(a, b));
  }
  VB_INLINE static int64_t total(Sums s) {
    const __m256i wide = _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(s)),
                                          _mm256_cvtepi32_epi64(_mm256_extracti128_si256(s, 1)));
    const __m128i two =
        _mm_add_epi64(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    return _mm_cvtsi128_si64(two) + _mm_extract_epi64(two, 1);
  }
};
#else
constexpr int kTileRows8 = 4;
struct Widening {
  static constexpr int kBytes = 16;
  static constexpr bool kOffset = false;
  using Codes = int8x16_t;
  using Sums = int32x4_t;
  VB_INLINE static Sums none() { return vdupq_n_s32(0); }
  VB_INLINE static Codes left(const int8_t* p) { return vld1q_s8(p); }
  VB_INLINE static Codes right(const int8_t* p) { return vld1q_s8(p); }
  VB_INLINE static Sums add(Sums s, Codes a, Codes b) {
    s = vpadalq_s16(s, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vpadalq_s16(s, vmull_high_s8(a, b));
  }
  VB_INLINE static int64_t total(Sums s) { return vaddlvq_s32(s); }
};
// The one instruction beyond the target's own set: written as such, run only where has_dot().
#define VB_HAS_DOT 1
struct Dot : Widening {
  VB_INLINE static Sums add(Sums s, Codes a, Codes b) {
    __asm__(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.16b" : "+w"(s) : "w"(a), "w"(b));
    return s;
  }
};
bool has_dot() { return cpu_features().neon_dotprod; }
#endif

constexpr int kTileColumns8 = 4;

// The dots of kRows left rows and kColumns right rows, each `stride` bytes after the one before.
template <class D, int kRows, int kColumns>
VB_INLINE void dots(const int8_t* a, const int8_t* b, int64_t k_size,
                    int64_t (&result)[kRows][kColumns]) {
  typename D::Sums sums[kRows][kColumns], offset[kColumns];
  VB_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    offset[c] = D::none();
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) sums[r][c] = D::none();
  }
  const auto step = [&](const int8_t* left, int64_t left_stride, const int8_t* right,
                        int64_t right_stride) __attribute__((always_inline)) {
    typename D::Codes x[kRows];
    VB_UNROLL
    for (int r = 0; r < kRows; ++r) x[r] = D::left(left + r * left_stride);
    VB_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const typename D::Codes y = D::right(right + c * right_stride);
      if constexpr (D::kOffset) offset[c] = D::add(offset[c], D::ones(), y);
      VB_UNROLL
      for (int r = 0; r < kRows; ++r) sums[r][c] = D::add(sums[r][c], x[r], y);
    }
  };
  int64_t k = 0;
  for (; k + D::kBytes <= k_size; k += D::kBytes) step(a + k, k_size, b + k, k_size);
  if (k < k_size) {
    int8_t left[kRows][D::kBytes] = {}, right[kColumns][D::kBytes] = {};
    const auto rest = static_cast<size_t>(k_size - k);
    for (int r = 0; r < kRows; ++r) std::memcpy(left[r], a + r * k_size + k, rest);
    for (int c = 0; c < kColumns; ++c) std::memcpy(right[c], b + c * k_size + k, rest);
    step(left[0], D::kBytes, right[0], D::kBytes);
  }
  VB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VB_UNROLL
    for (int c = 0; c < kColumns; ++c)
      result[r][c] = D::total(sums[r][c]) - (D::kOffset ? 128 * D::total(offset[c]) : 0);
  }
}

VB_INLINE float scaled(const SlicedProduct& p, int64_t sum, int64_t row, int64_t column,
                       int order) {
  if (p.a_scales != nullptr)
    return static_cast<float>(sum) * (p.a_scales[row] * p.b_scales[column]);
  const int32_t e_a = p.a_exponents[row], e_b = p.b_exponents[column];
  if (e_a == kFlaggedRow || e_b == kFlaggedRow) return __builtin_nanf("");
  return sliced_result(sum, e_a, e_b, order);
}

template <class D, int kRows, int kColumns>
VB_INLINE void tile(const SlicedProduct& p, int64_t row, int64_t column) {
  const int order = static_cast<int>(greatest(p.a_count, p.b_count)) - 1;
  int64_t weighted[kRows][kColumns] = {};
  for (int i = 0; i < p.a_count; ++i) {
    for (int j = 0; j < p.b_count && i + j <= order; ++j) {
      int64_t dot[kRows][kColumns];
      dots<D>(p.a + (i * p.m + row) * p.k, p.b + (j * p.n + column) * p.k, p.k, dot);
      const int64_t weight = int64_t{1} << (7 * (order - i - j));
      for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < kColumns; ++c) weighted[r][c] += dot[r][c] * weight;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      float v = scaled(p, weighted[r][c], row + r, column + c, order);
      if (p.bias) v = v + p.bias[column + c];
      p.out[(row + r) * p.n + column + c] = canonical(v);
    }
  }
}

template <class D>
VB_INLINE void product(const SlicedProduct& p, int64_t row, int64_t row_end, int64_t from,
                       int64_t to) {
  for (int64_t column = from; column < to;) {
    const bool wide = column + kTileColumns8 <= to;
    for (int64_t r = row; r < row_end;) {
      const bool tall = r + kTileRows8 <= row_end;
      if (tall && wide) {
        tile<D, kTileRows8, kTileColumns8>(p, r, column);
      } else if (wide) {
        tile<D, 1, kTileColumns8>(p, r, column);
      } else {
        tile<D, 1, 1>(p, r, column);
      }
      r += tall && wide ? kTileRows8 : 1;
    }
    column += wide ? kTileColumns8 : 1;
  }
}

}  // namespace

void sliced_product(const SlicedProduct& p, int64_t row, int64_t row_end, int64_t from,
                    int64_t to) {
#if defined(VB_HAS_DOT)
  if (has_dot()) return product<Dot>(p, row, row_end, from, to);
#endif
  product<Widening>(p, row, row_end, from, to);
}

}  // namespace verbatim::VB_TARGET
