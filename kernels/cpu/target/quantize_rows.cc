// Rows to int8 codes (docs/numerics.md, Family B, quantised rows): rotation, reflection, greatest
// magnitude and rounding. Every element has its own chain of operations, so registers may hold any
// elements; the sums of the reflection are of whole registers, ascending.
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/repops/ops/sliced.h>

namespace verbatim::VB_TARGET {
namespace {

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
void turn_block(float* x, int64_t block) {
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

// The i-th elements of all blocks, less 2 / blocks of their sum.
void reflect(float* x, int64_t n, int64_t block) {
  const F32 factor = all(2.0f / static_cast<float>(n / block));
  for (int64_t i = 0; i < block; i += kLanes) {
    const int64_t count = block - i;
    F32 sum = load_up_to(x + i, count, zero());
    for (int64_t j = i + block; j < n; j += block) sum = sum + load_up_to(x + j, count, zero());
    const F32 shift = sum * factor;
    for (int64_t j = i; j < n; j += block)
      store_up_to(x + j, count, load_up_to(x + j, count, zero()) - shift);
  }
}

// quantized.h's rotate_row, from x to y, which may be x.
void rotate(const float* x, float* y, int64_t n, int64_t block) {
  for (int64_t i = 0; i < n; i += kLanes)
    store_up_to(y + i, n - i, turn_lanes(load_up_to(x + i, n - i, zero()), block));
  for (int64_t i = 0; i < n && block > kLanes; i += block) turn_block(y + i, block);
  if (block > 1 && block < n) reflect(y, n, block);
}

// The bits of the greatest magnitude, where NaN is above all.
int32_t greatest_bits(const float* x, int64_t n) {
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

void write_zeros(const float* x, int64_t n, int8_t* codes) {
  write_codes(x, n, codes, [](F32) { return all_int(0); });
}

constexpr int32_t kInfinity = 0x7F800000;

VB_INLINE F32 clamped_quotient(F32 v, float divisor) {
  return maximum_number(minimum_number(v / all(divisor), all(127)), all(-127));
}
// rne(v / divisor) for |v| <= 127 * divisor. The product is less than 2^-15 off the quotient, so
// both are next to the same integer unless one is about halfway between two; a division takes as
// long as all else.
constexpr float kLeastInverted = 0x1p-100f;  // from where on an inverse is a normal number
VB_INLINE I32 nearest_quotient(F32 v, float divisor, float inverse) {
  const F32 q = v * all(inverse), shift = all(0x1.8p23f);
  const F32 off = q - ((q + shift) - shift);
  const M32 halfway = below(all(0.5f - 0x1p-13f), bit_and(off, all_bits(0x7FFFFFFF)));
  if (bits(halfway) != 0) [[unlikely]]
    return nearest_int(clamped_quotient(v, divisor));
  return nearest_int(q);
}

float quantize_row(const float* x, int64_t n, int8_t* codes) {
  const int32_t greatest = greatest_bits(x, n);
  const float scale = greatest < kInfinity ? __builtin_bit_cast(float, greatest) / 127.0f
                                           : __builtin_bit_cast(float, 0x7FC00000);
  if (scale > kLeastInverted) {
    write_codes(x, n, codes, [scale, inverse = 1 / scale](F32 v) {
      return nearest_quotient(v, scale, inverse);
    });
  } else if (scale > 0) {
    write_codes(x, n, codes, [scale](F32 v) { return nearest_int(clamped_quotient(v, scale)); });
  } else {
    write_zeros(x, n, codes);
  }
  return scale;
}

// The least f, not below kLeastValueExponent, with greatest <= 127 * 2^f: 127 / 64 is a significand
// of 0x7E0000. Then no product is above 127, and the power of two and all products are those that
// the reference has in binary64, rounded.
int32_t quantize_value(const float* x, int64_t n, int8_t* codes) {
  const int32_t greatest = greatest_bits(x, n);
  if (greatest >= kInfinity) {
    write_zeros(x, n, codes);
    return kFlaggedRow;
  }
  const int32_t least_f = (greatest >> 23) - 127 - 6 + ((greatest & 0x7FFFFF) > 0x7E0000);
  const int32_t f = least_f > kLeastValueExponent ? least_f : kLeastValueExponent;
  const F32 unit = all_bits(static_cast<uint32_t>(127 - f) << 23);
  write_codes(x, n, codes, [unit](F32 v) { return nearest_int(v * unit); });
  return f;
}

}  // namespace

void quantize_rows(const RowCodes& p, int64_t from, int64_t to, float* scratch) {
  for (int64_t r = from; r < to; ++r) {
    const float* x = p.x + r * p.n;
    if (p.rotation > 1) {
      rotate(x, scratch, p.n, p.rotation);
      x = scratch;
    }
    if (p.scales) {
      p.scales[r] = quantize_row(x, p.n, p.codes + r * p.n);
    } else {
      p.exponents[r] = quantize_value(x, p.n, p.codes + r * p.n);
    }
  }
}

void rotate_back(float* x, int64_t n, int64_t rotation) {
  rotate(x, x, n, rotation);
  const F32 factor = all(1.0f / static_cast<float>(rotation));
  for (int64_t i = 0; i < n; i += kLanes)
    store_up_to(x + i, n - i, canonical(load_up_to(x + i, n - i, zero()) * factor));
}

}  // namespace verbatim::VB_TARGET
