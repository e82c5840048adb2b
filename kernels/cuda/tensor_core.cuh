// Tiles of a warp on the tensor cores: D [16, 8] += A [16, k] B [k, 8] by mma.sync, for any GPU
// from sm_80 on. Integers are exact; floats are what the unit computes (docs/numerics.md, Family
// C).
//
// Thread t of a warp, g = t / 4 and q = t mod 4, holds of D the elements (g, 2 q), (g, 2 q + 1),
// (g + 8, 2 q), (g + 8, 2 q + 1). With w elements in a word of 32 bits: of A the words that begin
// at (g, w q), (g + 8, w q), (g, w (q + 4)), (g + 8, w (q + 4)), and of B those at (w q, g) and
// (w (q + 4), g), along k (PTX ISA, "Matrix fragments for mma").
#pragma once

#include <cstring>

#include <verbatim/kernels/cuda/gpu.h>
#include <verbatim/repops/ops/number.h>
#include <verbatim/repops/tensor_core.h>

namespace verbatim::cuda {

inline constexpr int kTileRows = 16, kTileColumns = 8;
inline constexpr int kUnitBytes = 32;  // of a row of A, or a column of B, in one instruction
struct TileA {
  uint32_t word[4];
};
struct TileB {
  uint32_t word[2];
};

// What multiplies: int8 codes, or floats as sm_90 multiplies them. multiply() is of a warp's tiles;
// dot() says what one of its elements becomes.
struct Int8Unit {
  using Sum = int32_t;
  static Sum dot(Sum sum, const uint8_t (&x)[kUnitBytes], const uint8_t (&y)[kUnitBytes]) {
    for (int k = 0; k < kUnitBytes; ++k)
      sum += static_cast<int8_t>(x[k]) * static_cast<int8_t>(y[k]);
    return sum;
  }
  __device__ static void multiply(Sum (&d)[4], const TileA& a, const TileB& b);
};
template <class A, class B = A>
struct FloatUnit {  // both of 16 bits and the same, or both of 8
  using Sum = float;
  static Sum dot(Sum sum, const uint8_t (&x)[kUnitBytes], const uint8_t (&y)[kUnitBytes]) {
    if constexpr (A::bits == 8) {
      return tensor_core::step<A, B>(tensor_core::kSm90Float8, sum, x, y, kUnitBytes);
    } else {
      uint16_t a[16], b[16];
      std::memcpy(a, x, kUnitBytes);
      std::memcpy(b, y, kUnitBytes);
      return tensor_core::step<A, B>(tensor_core::kSm90, sum, a, b, 16);
    }
  }
  __device__ static void multiply(Sum (&d)[4], const TileA& a, const TileB& b);  // of 16 bits
};

// A slab lies in shared memory as rows of 128 bytes, one after the other, whose pieces of 16 bytes
// are exchanged by the row's number mod 8: no eight rows meet in a bank.
inline constexpr int kSlabBytes = 128;  // of a row
__device__ inline int slab_offset(int row, int piece) {
  return row * kSlabBytes + ((piece ^ (row & 7)) << 4);
}

// store<T>(), by the instruction that a device has for it.
template <class T>
__device__ inline T rounded(float x) {
#if !defined(VERBATIM_EMULATED_GPU)
  uint16_t bits;
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return {is_nan(x) ? kBFloat16NanBits : bits};
  } else if constexpr (std::is_same_v<T, Half>) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return {is_nan(x) ? kHalfNanBits : bits};
  }
#endif
  return store<T>(x);
}
// Two numbers rounded to T, low and high half. NaN is what the instruction makes of it, 0x7FFF, and
// not the canonical one (canonical_pairs()).
template <class T>
__device__ inline uint32_t rounded_pair(float low, float high) {
#if defined(VERBATIM_EMULATED_GPU)
  const auto bits = [](float x) -> uint32_t { return is_nan(x) ? 0x7FFF : store<T>(x).bits; };
  return bits(low) | bits(high) << 16;
#else
  uint32_t pair;
  if constexpr (std::is_same_v<T, BFloat16>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#endif
}
// Pairs of T with the canonical NaN in place of the instruction's.
template <class T, int kCount>
__device__ inline void canonical_pairs(uint32_t (&pairs)[kCount]) {
  // A half without its sign bit, plus 1, has that bit if it was 0x7FFF.
  uint32_t found = 0;
#pragma unroll
  for (const uint32_t pair : pairs) found |= (pair & 0x7FFF7FFF) + 0x00010001;
  if ((found & 0x80008000) == 0) return;
  constexpr uint32_t kNan = std::is_same_v<T, BFloat16> ? kBFloat16NanBits : kHalfNanBits;
#pragma unroll
  for (uint32_t& pair : pairs) {
    if ((pair & 0x7FFF) == 0x7FFF) pair = (pair & 0xFFFF0000) | kNan;
    if ((pair >> 16 & 0x7FFF) == 0x7FFF) pair = (pair & 0xFFFF) | kNan << 16;
  }
}

#if defined(VERBATIM_EMULATED_GPU)

// The two operands as all threads of the warp hold them.
struct WarpTiles {
  TileA a[kWarp];
  TileB b[kWarp];
  void row_of_a(int row, uint8_t (&bytes)[kUnitBytes]) const {
    for (int w = 0; w < 8; ++w)
      std::memcpy(bytes + 4 * w, &a[row % 8 * 4 + w % 4].word[(row >= 8) + 2 * (w >= 4)], 4);
  }
  void column_of_b(int column, uint8_t (&bytes)[kUnitBytes]) const {
    for (int w = 0; w < 8; ++w) std::memcpy(bytes + 4 * w, &b[column * 4 + w % 4].word[w >= 4], 4);
  }
};

template <class Unit>
void multiply_tiles(typename Unit::Sum (&d)[4], const TileA& a, const TileB& b) {
  static thread_local WarpTiles warps[kWarp];
  WarpTiles& tiles = warps[threadIdx.x / kWarp];
  const int t = static_cast<int>(threadIdx.x % kWarp);
  tiles.a[t] = a;
  tiles.b[t] = b;
  __syncwarp();
  for (int i = 0; i < 4; ++i) {
    uint8_t x[kUnitBytes], y[kUnitBytes];
    tiles.row_of_a(t / 4 + i / 2 * 8, x);
    tiles.column_of_b(t % 4 * 2 + i % 2, y);
    d[i] = Unit::dot(d[i], x, y);
  }
  __syncwarp();
}
inline void Int8Unit::multiply(Sum (&d)[4], const TileA& a, const TileB& b) {
  multiply_tiles<Int8Unit>(d, a, b);
}
template <class A, class B>
void FloatUnit<A, B>::multiply(Sum (&d)[4], const TileA& a, const TileB& b) {
  static_assert(A::bits == 16);
  multiply_tiles<FloatUnit>(d, a, b);
}

// Four matrices of 8 x 8 codes of 16 bits from shared memory. Lane 8 i + r names row r of matrix i,
// 16 bytes at a multiple of 16; thread t gets of each matrix, as one word, elements (t / 4, 2 (t
// mod 4)) and the next one of that row, or kTransposed, (2 (t mod 4), t / 4) and the next one of
// that column (PTX ISA, "ldmatrix").
template <bool kTransposed = false>
void load_matrices(uint32_t (&to)[4], const void* row) {
  static thread_local const std::byte* warps[kWarp][kWarp];
  const auto& rows = warps[threadIdx.x / kWarp];
  const int t = static_cast<int>(threadIdx.x % kWarp), g = t / 4, q = t % 4;
  warps[threadIdx.x / kWarp][t] = static_cast<const std::byte*>(row);
  __syncwarp();
  for (int i = 0; i < 4; ++i) {
    uint16_t pair[2];
    for (int e = 0; e < 2; ++e) {
      const int r = kTransposed ? 2 * q + e : g, c = kTransposed ? g : 2 * q + e;
      std::memcpy(&pair[e], rows[8 * i + r] + 2 * c, 2);
    }
    std::memcpy(&to[i], pair, 4);
  }
  __syncwarp();
}

// Sixteen bytes from global to shared memory, zeros where there are none; complete after
// wait_for_copies(). Both addresses are multiples of 16.
inline void copy_later(void* shared, const void* global, bool there) {
  const auto copy = [](const emulated::Later& l) {
    if (l.from == nullptr)
      std::memset(l.to, 0, 16);
    else
      std::memcpy(l.to, l.from, 16);
  };
  emulated::do_later(emulated::Queue::copies, {copy, shared, there ? global : nullptr, 0, 0});
}
// Four bytes, at addresses that are multiples of 4.
inline void copy_word_later(void* shared, const void* global) {
  const auto copy = [](const emulated::Later& l) { std::memcpy(l.to, l.from, 4); };
  emulated::do_later(emulated::Queue::copies, {copy, shared, global, 0, 0});
}
inline void commit_copies() { emulated::commit(emulated::Queue::copies); }
template <int kPending>
void wait_for_copies() {
  emulated::wait_for(emulated::Queue::copies, kPending);
}

#else

__device__ inline void Int8Unit::multiply(Sum (&d)[4], const TileA& a, const TileB& b) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
        "r"(b.word[1]));
}

template <class A, class B>
__device__ inline void FloatUnit<A, B>::multiply(Sum (&d)[4], const TileA& a, const TileB& b) {
  static_assert(A::bits == 16);
  if constexpr (std::is_same_v<A, tensor_core::BFloat16Format>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
          "r"(b.word[1]));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
          "r"(b.word[1]));
}

template <bool kTransposed = false>
__device__ inline void load_matrices(uint32_t (&to)[4], const void* row) {
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(at)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(at)
                 : "memory");
}

__device__ inline void copy_later(void* shared, const void* global, bool there) {
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(global),
               "r"(there ? 16 : 0)
               : "memory");
}
__device__ inline void copy_word_later(void* shared, const void* global) {
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(at), "l"(global) : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

#endif

}  // namespace verbatim::cuda
