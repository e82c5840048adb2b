// The weights of int8 attention as whole numbers (docs/numerics.md, Int8 attention): of a block of
// keys with scores x in units of log2, e is the greatest, z = x - e, and y = z + f with the value's
// exponent f, of which g is the greatest.
#pragma once

#include <verbatim/repops/ops/row_codes.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {

// A little below 2^7, so that no weight's code is above 127; on the grid of the scores.
inline constexpr float kMostCodeExponent = 7 - 6 / 512.0f;
// Of the weights that l is the sum of: between places of the grid, so that none is a power of two,
// and none halfway between whole numbers. Of 10 bits or less 2^t is then further than 2^-20.6 of it
// from where rounding changes; two slices take the contract's own 2^t.
VB_HOST_DEVICE constexpr float most_total_exponent(int slices) {
  return (slices == 2 ? 18 : 10) - 7 / 1024.0f;
}
// Where no g is greater, a weight of l that is not 0 has a code's 2^t that is a normal number.
inline constexpr float kMostRise = 20;
static_assert(-4 - kMostRise + kLeastValueExponent >= -126);
// 2^(5 / 1024): of an l's weight of one slice to the code's 2^t, a whole power of 2 aside.
inline constexpr float kTotalOfCode = 1.0033902f;

// A weight's code is rne(2^t).
VB_HOST_DEVICE inline float code_exponent(float y, float g) { return (y - g) + kMostCodeExponent; }

// The greatest whole number not above g, which is within +-2^22.
VB_HOST_DEVICE inline float whole_below(float g) {
  const float nearest = (g + 12582912.0f) - 12582912.0f;  // 1.5 * 2^23
  return nearest > g ? nearest - 1.0f : nearest;
}
// l is the sum of rne(2^(z + shift)).
VB_HOST_DEVICE inline float total_shift(float g, int slices) {
  return (whole_below(g) - g) + most_total_exponent(slices);
}

// What a block's sums of codes and of l's weights are multiplied by, as exponents: relative to m,
// of which e is `above`.
VB_HOST_DEVICE inline float value_unit(float above, float g, int slices) {
  return above + (g - (kMostCodeExponent + static_cast<float>(7 * slices - 7)));
}
VB_HOST_DEVICE inline float total_unit(float above, float shift) { return above - shift; }

}  // namespace verbatim
