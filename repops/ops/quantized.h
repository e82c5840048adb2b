// Int8 rows with binary32 scales (docs/numerics.md, Family B, quantised rows): one code for each
// element, outliers spread over the row by a Hadamard rotation first, and integer products of such
// rows.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>

#include <verbatim/core/status.h>
#include <verbatim/core/tensor.h>
#include <verbatim/repops/op.h>
#include <verbatim/repops/ops/row_codes.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {

inline constexpr int64_t kMaxQuantizedK = 131071;  // an int32 holds a dot of codes
inline constexpr int64_t kQuantizedGroup =
    32;                                 // elements that share an integer scale in low-bit weights
inline constexpr int kInt8Codes = 127;  // codes are -127..127

// The greatest power of two that divides n > 0: the block that a row of n elements is rotated by.
int64_t rotation_block(int64_t n);

// The Hadamard transform of each `block` consecutive elements, `block` a power of two that divides
// x.size(): a butterfly of strides 1, 2, 4, ... that takes (u, v) to (u + v, u - v), each rounded.
// Where there are several blocks, m of them, the i-th elements of all blocks are then reflected, so
// that an outlier spreads over the whole row: sum ascending, and x - sum * (2 / m) for each. A
// block of 1 is no rotation. Unnormalised: twice is `block` times the input, but for rounding.
void rotate_row(std::span<float> x, int64_t block);

// The codes of a row, rne(x / s) within +-greatest_code, with s = max|x| / greatest_code; returns
// s. A row of zeros has s = 0 and zero codes; one with NaN or infinity has s = NaN and zero codes.
float quantize_row(std::span<const float> row, int greatest_code, int8_t* codes);

// A row in codes of 2^f, where f, which is returned, is the least with max|x| <= 127 * 2^f, and not
// below kLeastValueExponent. A row with NaN or infinity has kFlaggedRow (sliced.h) and zero codes.
int32_t quantize_value(std::span<const float> row, int8_t* codes);

// Rows of n elements that a task quantises at least.
int64_t row_grain(int64_t n);

// The number of these bits, those of a magnitude; NaN where they are infinity's or NaN's.
VB_HOST_DEVICE inline float magnitude_or_nan(uint32_t bits) {
  return float_of(bits < 0x7F800000 ? bits : kNanBits);
}
// The greatest magnitude of a row, or NaN where one is NaN or infinite.
float greatest_magnitude(std::span<const float> row);

// rne(x) within +-greatest; NaN is 0.
VB_HOST_DEVICE inline int8_t code_of(float x, int greatest) {
  if (is_nan(x)) return 0;
  const auto limit = static_cast<float>(greatest);
  return static_cast<int8_t>(round_even(x < -limit ? -limit : x > limit ? limit : x));
}

struct QuantizedTensor {
  Tensor codes;   // int8 or float8e4m3fn [..., K]
  Tensor scales;  // float32 [...]
};
// Finds the codes of rows [from, to). The reference's is quantize_row_codes; a backend's gives the
// same bits.
using QuantizeRowsFn = std::function<void(const RowCodes& rows, int64_t from, int64_t to)>;
void quantize_row_codes(const RowCodes& rows, int64_t from, int64_t to);

// The rows of x float32 [..., K], rotated by `rotation` (1: not) and quantised.
Result<QuantizedTensor> quantize_rows(const Tensor& x, int64_t rotation,
                                      const QuantizeRowsFn& quantize = quantize_row_codes);
// The node QuantizeRows.
Result<Tensors> quantize_rows_of(const Node& node, std::span<const Tensor> inputs,
                                 const QuantizeRowsFn& quantize);

// The same in fp8: s = max|x| / 448 and codes e4m3 of x / s; not rotated.
Result<QuantizedTensor> quantize_rows_float8(const Tensor& x);

struct QuantizedWeights {
  Tensor codes;         // int8 [N, K]
  Tensor scales;        // float32 [N]; the rotation's norm, 1 / rotation, is in them
  Tensor group_scales;  // uint8 [N, K / 32, rounded up]; undefined at 8 bits
};
// Weights [N, K] in codes of `bits` (1 to 8), rotated as activations are. Below 8 bits each 32
// codes have an integer scale, so that a product is still one integer. One bit is a sign: codes are
// -1 and 1, and a scale is a group's mean magnitude.
Result<QuantizedWeights> quantize_weights(const Tensor& w, int bits, int64_t rotation);
// Weights of 8 bits in two parts whose products add up: the second holds what the first leaves of
// each rotated row, x - float(code) * s, in 8 bits of its own.
Result<std::array<QuantizedWeights, 2>> quantize_weights_in_parts(const Tensor& w,
                                                                  int64_t rotation);

// Whether every code is in [-greatest, greatest].
bool within(std::span<const int8_t> codes, int greatest);

// What QuantizedLinear takes, checked but for the codes' range: x codes int8 [..., K <=
// kMaxQuantizedK] with scales float32
// [...], and w codes int8 [N, K], scales float32 [N], group scales uint8 [N, ceil(K / 32)] or
// undefined, bias float32 [N] or undefined. Returns the output's shape. check_quantized_codes():
// no code is -128; a weight needs that once only.
Result<Shape> check_quantized_linear(std::span<const Tensor> inputs);
Status check_quantized_codes(const Tensor& codes);
Status check_quantized_codes(std::span<const int8_t> codes);
// Whether these are codes int8 [N, K] and group scales uint8 [N, ceil(K / 32)].
bool are_grouped_codes(const Tensor& codes, const Tensor& group_scales);

}  // namespace verbatim
