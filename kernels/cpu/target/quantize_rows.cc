// Rows to int8 codes (docs/numerics.md, Family B, quantised rows): rotation, reflection, greatest
// magnitude and rounding. Every element has its own chain of operations, so registers may hold any
// elements; the sums of the reflection are of whole registers, ascending.
#include <verbatim/kernels/cpu/target/kernels.h>
#include <verbatim/kernels/cpu/target/quantize.h>
#include <verbatim/repops/ops/sliced.h>

namespace verbatim::VB_TARGET {
namespace {

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
  turn_blocks(x, y, n, block);
  if (block > 1 && block < n) reflect(y, n, block);
}

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
    std::memset(codes, 0, static_cast<size_t>(n));
  }
  return scale;
}

// The least f, not below kLeastValueExponent, with greatest <= 127 * 2^f: 127 / 64 is a significand
// of 0x7E0000. Then no product is above 127, and the power of two and all products are those that
// the reference has in binary64, rounded.
int32_t quantize_value(const float* x, int64_t n, int8_t* codes) {
  const int32_t greatest = greatest_bits(x, n);
  if (greatest >= kInfinity) {
    std::memset(codes, 0, static_cast<size_t>(n));
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
