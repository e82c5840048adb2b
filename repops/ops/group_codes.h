// The arithmetic of group formats (grouped.h) as the reference and a GPU's kernels both compile it:
// rows in groups as plain memory, wherever that lies; how the numbers of a group become codes; what
// follows the fold of a product.
#pragma once

#include <bit>
#include <cstdint>

#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {

// Rows in groups, from outside, their shapes and types checked.
struct GroupedRows {
  const int8_t* codes = nullptr;    // [rows, k]
  const uint8_t* scales = nullptr;  // [rows, groups]
  bool small_floats = false;        // scales are e4m3, and not e8m0
  // What each of the 256 scales stands for, on the host: for those who would rather look it up.
  const float* scale_values = nullptr;
  const float* row_scales = nullptr;  // [rows], or one for all; null: none
  bool one_row_scale = false;
  int64_t rows = 0, k = 0, group = 0, groups = 0;

  VB_HOST_DEVICE float scale(int64_t row, int64_t g) const {
    const uint8_t code = scales[row * groups + g];
    return small_floats ? float_from_e4m3(code) : float_from_e8m0(code);
  }
  VB_HOST_DEVICE float row_scale(int64_t row) const {
    return row_scales == nullptr ? 1.0f : row_scales[one_row_scale ? 0 : row];
  }
  // Element i of a row: (code * scale) * row scale, each product rounded (the first is exact but
  // below 2^-126).
  VB_HOST_DEVICE float value(int64_t row, int64_t i) const {
    const float v = static_cast<float>(codes[row * k + i]) * scale(row, i / group);
    return canonical(row_scales == nullptr ? v : v * row_scale(row));
  }
};

// A product of such rows: acc = +0; for each group, ascending, acc = fma(the dot of its codes,
// scale of x * scale of w, acc); and what becomes of that.
struct GroupFold {
  GroupedRows x, w;
  float power = 1;
  const float* bias = nullptr;

  VB_HOST_DEVICE bool has_row_scales() const {
    return x.row_scales != nullptr || w.row_scales != nullptr;
  }
  // Where row scales are given, * (x's * w's), two roundings; * power; + bias.
  VB_HOST_DEVICE float finished(float acc, int64_t m, int64_t n) const {
    float v = acc;
    if (has_row_scales()) v = v * (x.row_scale(m) * w.row_scale(n));
    if (power != 1) v = v * power;
    return canonical(bias != nullptr ? v + bias[n] : v);
  }
};

// x * 2^-e, rounded once, for |e| <= 127.
VB_HOST_DEVICE inline float scaled_down(float x, int e) {
  return static_cast<float>(x * std::bit_cast<double>(static_cast<uint64_t>(1023 - e) << 52));
}

// One group under a power of two: the least e in [-127, 127] with max|x| <= greatest * 2^e, found
// from bits; code = rne(x * 2^-e) within +-greatest. `most` is max|x|, or NaN (magnitude_or_nan).
struct PowerStep {
  uint8_t scale = 0;  // e8m0
  int greatest = 0, exponent = 0;
  bool zeros = true;  // all codes are

  VB_HOST_DEVICE PowerStep(float most, int greatest_code) : greatest(greatest_code) {
    if (is_nan(most)) scale = kE8M0NanBits;
    if (is_nan(most) || most == 0) return;
    const int bits = top_bit(static_cast<uint64_t>(greatest)) + 1,
              e = static_cast<int>(bits_of(most) >> 23) - 127 - bits;
    exponent = e < -127 ? -127 : e > 127 ? 127 : e;
    while (exponent < 127 && scaled_down(most, exponent) > static_cast<float>(greatest)) ++exponent;
    scale = static_cast<uint8_t>(exponent + 127);
    zeros = false;
  }
  VB_HOST_DEVICE int8_t code(float x) const {
    return zeros ? int8_t{0} : code_of(scaled_down(x, exponent), greatest);
  }
};

// One group of a row whose scale is t: s = e4m3 of (max|x| / greatest) / t, saturated; code = rne(x
// / (s * t)) within +-greatest. A scale that is 0 has zero codes.
struct SmallFloatStep {
  uint8_t scale = 0;  // e4m3
  int greatest = 0;
  float step = 0;

  VB_HOST_DEVICE SmallFloatStep(float most, float t, int greatest_code) : greatest(greatest_code) {
    if (!(t > 0)) return;
    scale = e4m3_from_float(most / static_cast<float>(greatest) / t, true);
    step = float_from_e4m3(scale) * t;
  }
  VB_HOST_DEVICE int8_t code(float x) const {
    return step > 0 ? code_of(x / step, greatest) : int8_t{0};
  }
};

// t = max|x| / (448 * greatest code): the greatest group then has the greatest e4m3.
VB_HOST_DEVICE inline float group_row_scale(float most, int greatest_code) {
  return canonical(most / (448.0f * static_cast<float>(greatest_code)));
}

}  // namespace verbatim
