// Exact integer products (docs/numerics.md, Family B): a binary32 row becomes a power of two and
// one to four int8 slices, and a product of rows is integer arithmetic with a single rounding at
// the end.
#pragma once

#include <cstdint>
#include <span>

#include <verbatim/core/status.h>
#include <verbatim/core/tensor.h>

namespace verbatim {

inline constexpr int kMaxSlices = 4;
inline constexpr int32_t kFlaggedRow =
    INT32_MAX;  // a row that holds NaN or infinity: its products are NaN
inline constexpr int kLaterSliceCodes = 64;     // -64..64, where the first slice has -127..127
inline constexpr int64_t kMaxSlicedK = 262143;  // |W| < 2^53

// The least e with greatest <= 127 * 2^(e - 7), and never below -148.
int32_t row_exponent(float greatest);

// Cuts a row into `count` slices, slices[s][k], each of row.size() codes, and returns its exponent
// e: the row is the sum over s of slice_s * 2^(e - 7 (s + 1)), plus what the last slice rounded
// away.
int32_t slice_row(std::span<const float> row, int count, int8_t* const* slices);

// The product of two sliced rows from the integer dots of their slices: dot(i, j) for i + j <
// max(p, q).
float sliced_result(int64_t weighted_sum, int32_t e_a, int32_t e_b, int order);

struct SlicedTensor {
  Tensor slices;     // int8 [count, ..., K]
  Tensor exponents;  // int32 [...]
};
// An operand of SlicedLinear from outside: slices int8 [1 to 4, ..., K <= kMaxSlicedK] and
// exponents int32 [...] in the range that slice_row() gives. check_slice_codes() looks at every
// code: a weight needs that once only.
Status check_sliced(const Tensor& slices, const Tensor& exponents);
Status check_slice_codes(const Tensor& slices);

Result<SlicedTensor> slice_tensor(const Tensor& x, int count);

}  // namespace verbatim
