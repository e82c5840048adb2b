// Formats whose groups of elements share a floating scale (docs/numerics.md, Family B, group
// formats): a dot of codes within a group is an exact integer, the groups fold in ascending order
// by fma. So unlike the rest of family B a product has an order, and may not be split.
//
// MXINT8 is a group of 32 with 8 bits and a power of two (OCP Microscaling Formats, 1.0, 5.3.2);
// NVINT4 a group of 16 with 4 bits, an e4m3 scale and a binary32 scale of all; block floating
// point, as key-value caches use it, a group of 32 or 64 with few bits and a power of two.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <verbatim/core/status.h>
#include <verbatim/core/tensor.h>
#include <verbatim/repops/op.h>
#include <verbatim/repops/ops/group_codes.h>

namespace verbatim {

inline constexpr int64_t kMaxGroup = 256;  // a dot of codes is then exact in binary32

struct GroupFormat {
  int bits = 8;        // codes within +-(2^(bits - 1) - 1)
  int64_t group = 32;  // consecutive elements that share a scale; a row's last may be short
  DType scale = DType::f8e8m0;  // e8m0, or e4m3 with a binary32 scale for each row besides
  int64_t rotation = 1;         // elements that are rotated together first; 1: none
};
inline constexpr GroupFormat kMxInt8 = {8, 32, DType::f8e8m0, 1};
inline constexpr GroupFormat kNvInt4 = {4, 16, DType::f8e4m3, 1};
inline constexpr GroupFormat kNvInt4Rotated = {4, 16, DType::f8e4m3, 32};

struct GroupedTensor {
  Tensor codes;       // int8 [..., K]
  Tensor scales;      // float8e8m0 or float8e4m3fn [..., ceil(K / group)]
  Tensor row_scales;  // float32 [...] where scales are e4m3

  // Of QuantizeGroups.
  Tensors outputs() const;
};
// The format that a node's attributes name, and whether rows of k elements can have it.
Result<GroupFormat> group_format_of(const Node& node);
Status check_group_format(const GroupFormat& format, int64_t k);
// What a node QuantizeGroups makes of x, checked.
struct QuantizeGroups {
  GroupFormat format;
  bool whole = false;
};
Result<QuantizeGroups> quantize_groups_of(const Node& node, const Tensor& x);
// Room for the rows of x float32 [..., K] in a format that was checked, where x lies; row scales
// for any. And the work of filling it.
Result<GroupedTensor> allocate_groups(const Tensor& x, const GroupFormat& format);
GroupCodes group_codes(const Tensor& x, const GroupFormat& format, GroupedTensor& q);
// The rows of x float32 [..., K] in `format`. A group (e8m0) or a row (e4m3) with NaN or infinity
// has a NaN scale and zero codes. `whole`: one row scale for all rows, as weights have it;
// activations have their own, so that a row does not depend on its neighbours.
Result<GroupedTensor> quantize_groups(const Tensor& x, const GroupFormat& format,
                                      bool whole = false);

// The tensors' own memory, on the host or a device. row_scales may be undefined.
Result<GroupedRows> grouped_rows(int64_t group, const Tensor& codes, const Tensor& scales,
                                 const Tensor& row_scales);

// What GroupedLinear takes, checked, likewise; and its result's shape.
struct GroupedOperands : GroupFold {
  Shape shape;
};
Result<GroupedOperands> grouped_operands(const Node& node, std::span<const Tensor> inputs);

// For each of `heads` heads, the rows of w float32 [heads * size, K] by falling Euclidean norm,
// ties by index, NaN last: so channels of like size share a block's exponent. `pairs` keeps i and i
// + size / 2 side by side, which a rotary embedding mixes. `repeat`: the order of the rows of
// `repeat` query heads that share each head, instead of the head's own.
Result<std::vector<int64_t>> channel_order(const Tensor& w, int64_t heads, bool pairs,
                                           int64_t repeat);

}  // namespace verbatim
