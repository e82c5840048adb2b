// Q16.16 fixed point (docs/numerics.md, Fixed point): a code is an int32 c and stands for c /
// 65536, so values are -32768 to 32768 - 2^-16 in steps of 2^-16. Sums of products are exact
// integers, so no order, split or number of threads can change one; what a result of the format
// cannot hold saturates and is counted.
//
// The format and its use for a vector memory are those of Valori (arXiv, 2025); unlike there every
// operation here saturates on every platform.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include <verbatim/core/int128.h>
#include <verbatim/core/status.h>
#include <verbatim/core/tensor.h>
#include <verbatim/repops/graph.h>

namespace verbatim {

inline constexpr int kFixedFraction = 16;  // bits after the point
// Elements of one row at most: a sum of products is then below 2^78, one of squared differences
// below 2^80.
inline constexpr int64_t kMaxFixedDimensions = 65536;

// A result, and whether it is not the exact value rounded, because the format has none for it.
template <class T>
struct Saturated {
  T code = 0;
  bool saturated = false;
};

// x where T has it, else the nearer end of T's range.
template <class T>
constexpr Saturated<T> saturate_fixed(int128 x) {
  using Limits = std::numeric_limits<T>;
  if (x > Limits::max()) return {Limits::max(), true};
  if (x < Limits::min()) return {Limits::min(), true};
  return {static_cast<T>(x), false};
}

// rne(x / 2^16): from the scale of a product to that of a factor. T is int64_t or int128.
template <class T>
constexpr T round_fixed(T x) {
  constexpr T kOne = T{1} << kFixedFraction, kHalf = T{1} << (kFixedFraction - 1);
  const T down = x >> kFixedFraction, rest = x & (kOne - 1);
  return down + T{rest > kHalf || (rest == kHalf && (down & T{1}) != 0) ? 1 : 0};
}

// rne(x * 2^16). NaN gives 0, saturated.
Saturated<int32_t> fixed_from_float(float x);
float float_from_fixed(int32_t code);  // code / 2^16, rounded once

// a / b rounded to nearest even. By 0 the quotient saturates with a's sign, and 0 / 0 is 0; both
// are saturated.
Saturated<int32_t> fixed_quotient(int32_t a, int32_t b);

// 1 / sqrt(x) rounded to nearest; a tie cannot be. 0 gives the greatest code, less than 0 gives 0;
// both are saturated.
Saturated<int32_t> fixed_reciprocal_sqrt(int32_t x);

// Exact, in units of 2^-32, for up to kMaxFixedDimensions elements.
int128 fixed_dot(const int32_t* a, const int32_t* b, int64_t n);
int128 fixed_squared_distance(const int32_t* a, const int32_t* b, int64_t n);

// Each element / the row's Euclidean length, rounded to nearest even: codes within +-65536. False
// for a row of zeros, which has no direction and stays zero.
bool fixed_normalize(std::span<const int32_t> row, int32_t* out);

// What FixedDot and FixedSquaredDistance take, checked: a int32 [..., D], b int32 [N, D] with D at
// most kMaxFixedDimensions, attribute fraction 16 (the default) or 32.
struct FixedProductShape {
  Shape out;   // [..., N]
  Shape rows;  // [...]
  int64_t m = 0, n = 0, k = 0;
  bool exact = false;  // fraction 32: int64 sums in units of 2^-32, not rounded
};
Result<FixedProductShape> check_fixed_product(const Node& node, std::span<const Tensor> inputs);

}  // namespace verbatim
