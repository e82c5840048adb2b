// Rows on their way to int8 codes, as plain memory: what the reference and backends' kernels take.
#pragma once

#include <cstdint>

namespace verbatim {

// Dense rows of n elements, rotated by `rotation` (quantized.h's rotate_row) before they are
// quantised. Either scales are given, and rows are quantized.h's quantize_row's, or exponents, and
// they are quantize_value's; the other is null.
struct RowCodes {
  const float* x = nullptr;  // [rows, n]
  int64_t n = 0, rotation = 1;
  int8_t* codes = nullptr;       // [rows, n]
  float* scales = nullptr;       // [rows]
  int32_t* exponents = nullptr;  // [rows]
};

// Dense rows of k elements, of which each `rotation` are turned together (rotate_row's butterfly
// alone), on their way to groups of codes within +-greatest (grouped.h).
struct GroupCodes {
  const float* x = nullptr;  // [rows, k]
  int64_t k = 0, group = 0, rotation = 1;
  int greatest = 0;
  int8_t* codes = nullptr;      // [rows, k]
  uint8_t* scales = nullptr;    // [rows, ceil(k / group)]: e8m0, or where
  float* row_scales = nullptr;  // these are given, e4m3
};

// So that what a block's sums are multiplied by is a normal number where its keys draw most.
inline constexpr int32_t kLeastValueExponent = -100;
inline constexpr int32_t kGreatestValueExponent = 122;  // that of the greatest binary32

}  // namespace verbatim
