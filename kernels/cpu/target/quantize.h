// What all quantisers of rows do: rotate blocks, find the greatest magnitude, write codes.
#pragma once

#include <verbatim/kernels/cpu/simd.h>

namespace verbatim::VB_TARGET {

// The strides that lie within a register.
VB_INLINE F32 turn_lanes(F32 x, int64_t block) {
  if (block > 1) x = butterfly<1>(x);
  if (block > 2) x = butterfly<2>(x);
  if constexpr (kLanes > 4) {
    if (block > 4) x = butterfly<4>(x);
  }
  if constexpr (kLanes > 8) {
    if (block > 8) x = butterfly<8>(x);
  }
  return x;
}

// The strides from kLanes on: two at a time, so that a block is read and written half as often.
inline void turn_block(float* x, int64_t block) {
  int64_t stride = kLanes;
  for (; 2 * stride < block; stride *= 4) {
    for (int64_t base = 0; base < block; base += 4 * stride) {
      for (int64_t i = base; i < base + stride; i += kLanes) {
        const F32 a = load(x + i), b = load(x + i + stride), c = load(x + i + 2 * stride),
                  d = load(x + i + 3 * stride);
        const F32 ab = a + b, a_b = a - b, cd = c + d, c_d = c - d;
        store(x + i, ab + cd);
        store(x + i + stride, a_b + c_d);
        store(x + i + 2 * stride, ab - cd);
        store(x + i + 3 * stride, a_b - c_d);
      }
    }
  }
  if (stride >= block) return;
  for (int64_t i = 0; i < stride; i += kLanes) {
    const F32 u = load(x + i), v = load(x + i + stride);
    store(x + i, u + v);
    store(x + i + stride, u - v);
  }
}

// The Hadamard transform of each block of x, to y, which may be x.
inline void turn_blocks(const float* x, float* y, int64_t n, int64_t block) {
  for (int64_t i = 0; i < n; i += kLanes)
    store_up_to(y + i, n - i, turn_lanes(load_up_to(x + i, n - i, zero()), block));
  for (int64_t i = 0; i < n && block > kLanes; i += block) turn_block(y + i, block);
}

inline constexpr int32_t kInfinity = 0x7F800000;

// The bits of the greatest magnitude, where NaN is above all.
VB_INLINE int32_t greatest_bits(const float* x, int64_t n) {
  I32 most = all_int(0);
  for (int64_t i = 0; i < n; i += kLanes)
    most = maximum(most, bits_of(load_up_to(x + i, n - i, zero())) & all_int(0x7FFFFFFF));
  return greatest_lane(most);
}

// codes[i] = code(x[i]).
template <class Code>
VB_INLINE void write_codes(const float* x, int64_t n, int8_t* codes, Code code) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store8(codes + i, code(load(x + i)));
  if (i == n) return;
  int8_t last[kLanes];
  store8(last, code(load_first(x + i, n - i, zero())));
  std::memcpy(codes + i, last, static_cast<size_t>(n - i));
}

}  // namespace verbatim::VB_TARGET
