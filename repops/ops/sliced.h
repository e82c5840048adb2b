// Exact integer products (docs/numerics.md, Family B): a binary32 row becomes a power of two and
// one to four int8 slices, and a product of rows is integer arithmetic with a single rounding at
// the end.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include <verbatim/core/status.h>
#include <verbatim/core/tensor.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {

inline constexpr int kMaxSlices = 4;
inline constexpr int kSliceBits = 7;  // a slice's unit is 2^-7 of that of the slice before
inline constexpr int32_t kFlaggedRow =
    INT32_MAX;  // a row that holds NaN or infinity: its products are NaN
inline constexpr int kLaterSliceCodes = 64;     // -64..64, where the first slice has -127..127
inline constexpr int64_t kMaxSlicedK = 262143;  // |W| < 2^53

inline constexpr int32_t kLeastRowExponent = -148, kGreatestRowExponent = 129;

// 2^n in binary64, for -1022 <= n <= 1023.
VB_HOST_DEVICE inline double power_of_two(int n) {
  return std::bit_cast<double>(static_cast<uint64_t>(n + 1023) << 52);
}

// The least e with greatest <= 127 * 2^(e - 7), and never below -148.
VB_HOST_DEVICE inline int32_t row_exponent(float greatest) {
  if (greatest == 0) return kLeastRowExponent;
  const double g = greatest;  // normal in binary64
  const int above = static_cast<int>(std::bit_cast<uint64_t>(g) >> 52) - 1023 + 1,
            e = g <= 127.0 * power_of_two(above - 7) ? above : above + 1;
  return e < kLeastRowExponent ? kLeastRowExponent : e;
}

// put(s, code) for each of the `count` slices of a number of a row of exponent e. Every step is
// exact in binary64, since a residual never needs more bits than the number.
template <class Put>
VB_HOST_DEVICE void slice_number(float v, int32_t e, int count, Put&& put) {
  constexpr double kShift = 6755399441055744.0;  // 1.5 * 2^52: rounds |x| < 2^51 to nearest, even
  double rest = e == kFlaggedRow ? 0.0 : static_cast<double>(v) * power_of_two(7 - e);
  for (int s = 0; s < count; ++s) {
    const double code = (rest + kShift) - kShift;
    put(s, static_cast<int8_t>(code));
    rest = (rest - code) * 128.0;
  }
}

// Cuts a row into `count` slices, slices[s][k], each of row.size() codes, and returns its exponent
// e: the row is the sum over s of slice_s * 2^(e - 7 (s + 1)), plus what the last slice rounded
// away.
int32_t slice_row(std::span<const float> row, int count, int8_t* const* slices);

// The product of two sliced rows from the integer dots of their slices: dot(i, j) for i + j <
// max(p, q).
VB_HOST_DEVICE inline float sliced_result(int64_t weighted_sum, int32_t e_a, int32_t e_b,
                                          int order) {
  return static_cast<float>(static_cast<double>(weighted_sum) *
                            power_of_two(e_a + e_b - 7 * (order + 2)));
}

struct SlicedTensor {
  Tensor slices;     // int8 [count, ..., K]
  Tensor exponents;  // int32 [...]
};
// An operand of SlicedLinear from outside: slices int8 [1 to 4, ..., K <= kMaxSlicedK] and
// exponents int32 [...], in the range that slice_row() gives. The last two look at every element: a
// weight needs that once only.
Status check_sliced(const Tensor& slices, const Tensor& exponents);
Status check_slice_exponents(std::span<const int32_t> exponents);
Status check_slice_codes(const Tensor& slices);
// The result's shape, of operands wherever they lie.
Result<Shape> check_sliced_linear(std::span<const Tensor> inputs);

Result<SlicedTensor> slice_tensor(const Tensor& x, int count);

}  // namespace verbatim
