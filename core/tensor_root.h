// A tensor's identity: a Merkle root over leaves of its little-endian bytes (docs/numerics.md,
// Bytes).
//
// The tensor is viewed as [rows, last dimension]. Rows longer than 512 elements are cut into leaves
// of 512, the last of a row shorter; shorter rows are grouped, max(1, floor(2048 / row bytes))
// whole rows to a leaf. A tile is one leaf of an output.
#pragma once

#include <vector>

#include <verbatim/core/hash.h>
#include <verbatim/core/tensor.h>

namespace verbatim {

inline constexpr int64_t kLeafElements = 512;
inline constexpr int64_t kLeafBytes = 2048;

struct LeafLayout {
  int64_t rows = 0, columns = 0;  // of the two-dimensional view; 0 leaves where either is 0
  int64_t rows_per_leaf = 1;      // above 1 only where leaves_per_row is 1
  int64_t leaves_per_row = 1;
  int64_t leaf_count() const;
  // The flat element range [begin, end) of a leaf.
  std::pair<int64_t, int64_t> elements(int64_t leaf) const;
  int64_t leaf_of(int64_t element) const;
};
LeafLayout leaf_layout(DType dtype, const Shape& shape);

std::vector<Digest> tensor_leaves(const Tensor& tensor);
// SHA-256 over tag, dtype, rank, dimensions, byte count and Merkle root.
Digest tensor_root(const Tensor& tensor);
Digest tensor_root(DType dtype, const Shape& shape, std::span<const Digest> leaves);
// An absent optional tensor has this root.
Digest absent_root();

// Little-endian bytes of the elements [begin, end): what a leaf hashes, what travels.
Bytes little_endian_bytes(const Tensor& tensor, int64_t begin, int64_t end);
// The inverse: a tensor from its little-endian bytes.
Result<Tensor> tensor_from_little_endian(DType dtype, const Shape& shape, ByteView bytes);

}  // namespace verbatim
