// Tiles of a warp on the tensor cores: D [16, 8] += A [16, k] B [k, 8] by mma.sync, for any GPU
// from sm_80 on. Integers are exact; floats are what the unit computes (docs/numerics.md, Family
// C).
//
// Thread t of a warp, g = t / 4 and q = t mod 4, holds of D the elements (g, 2 q), (g, 2 q + 1),
// (g + 8, 2 q), (g + 8, 2 q + 1). With w elements in a word of 32 bits: of A the words that begin
// at (g, w q), (g + 8, w q), (g, w (q + 4)), (g + 8, w (q + 4)), and of B those at (w q, g) and
// (w (q + 4), g), along k (PTX ISA, "Matrix fragments for mma").
#pragma once

#include <verbatim/kernels/cuda/gpu.h>
#include <verbatim/repops/tensor_core.h>

namespace verbatim::cuda {

inline constexpr int kTileRows = 16, kTileColumns = 8;
struct TileA {
  uint32_t word[4];
};
struct TileB {
  uint32_t word[2];
};

#if defined(VERBATIM_EMULATED_GPU)

// The two operands as all threads of the warp hold them.
struct WarpTiles {
  TileA a[kWarp];
  TileB b[kWarp];
  uint32_t a_word(int row, int word) const {  // `word` along k, 0 to 7
    return a[row % 8 * 4 + word % 4].word[(row >= 8) + 2 * (word >= 4)];
  }
  uint32_t b_word(int column, int word) const { return b[column * 4 + word % 4].word[word >= 4]; }
};

// result(tiles, row, column, element) for each of the thread's elements of D.
template <class Element, class F>
void multiply_tiles(Element (&d)[4], const TileA& a, const TileB& b, F&& result) {
  static thread_local WarpTiles warps[kWarp];
  WarpTiles& tiles = warps[threadIdx.x / kWarp];
  const int t = static_cast<int>(threadIdx.x % kWarp);
  tiles.a[t] = a;
  tiles.b[t] = b;
  __syncwarp();
  for (int i = 0; i < 4; ++i) d[i] = result(tiles, t / 4 + i / 2 * 8, t % 4 * 2 + i % 2, d[i]);
  __syncwarp();
}

inline void multiply_s8(int32_t (&d)[4], const TileA& a, const TileB& b) {
  multiply_tiles(d, a, b, [](const WarpTiles& tiles, int row, int column, int32_t sum) {
    for (int k = 0; k < 32; ++k) {
      const int shift = k % 4 * 8;
      sum += static_cast<int8_t>(tiles.a_word(row, k / 4) >> shift) *
             static_cast<int8_t>(tiles.b_word(column, k / 4) >> shift);
    }
    return sum;
  });
}

// As sm_90 computes it.
template <class Format>
void multiply_floats(float (&d)[4], const TileA& a, const TileB& b) {
  multiply_tiles(d, a, b, [](const WarpTiles& tiles, int row, int column, float sum) {
    uint16_t x[16], y[16];
    for (int k = 0; k < 16; ++k) {
      x[k] = static_cast<uint16_t>(tiles.a_word(row, k / 2) >> k % 2 * 16);
      y[k] = static_cast<uint16_t>(tiles.b_word(column, k / 2) >> k % 2 * 16);
    }
    return tensor_core::step<Format, Format>(tensor_core::kSm90, sum, x, y, 16);
  });
}

// Sixteen bytes from global to shared memory, zeros where there are none; complete after
// wait_for_copies(). Both addresses are multiples of 16.
inline void copy_later(void* shared, const void* global, bool there) {
  emulated::copy_later(shared, there ? global : nullptr);
}
inline void commit_copies() { emulated::commit_copies(); }
template <int kPending>
void wait_for_copies() {
  emulated::wait_for_copies(kPending);
}

#else

__device__ inline void multiply_s8(int32_t (&d)[4], const TileA& a, const TileB& b) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
        "r"(b.word[1]));
}

template <class Format>
__device__ inline void multiply_floats(float (&d)[4], const TileA& a, const TileB& b) {
  if constexpr (std::is_same_v<Format, tensor_core::BFloat16Format>)
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

__device__ inline void copy_later(void* shared, const void* global, bool there) {
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(global),
               "r"(there ? 16 : 0)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

#endif

}  // namespace verbatim::cuda
