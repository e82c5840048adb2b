// A tensor's canonical bytes, and its identity: a Merkle root over leaves of them
// (docs/numerics.md, Bytes).
//
// Elements are little-endian. Those of 4 or 2 bits are packed, the first in the lowest bits; each
// row of the last dimension starts on a byte, and the bits that its last byte has left are zero.
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

// Of a tensor's canonical bytes; begin and end lie between elements.
struct ByteRange {
  uint64_t begin = 0, end = 0;
  size_t size() const { return static_cast<size_t>(end - begin); }
};

struct LeafLayout {
  DType dtype = DType::undefined;
  int64_t rows = 0, columns = 0;  // of the two-dimensional view; 0 leaves where either is 0
  int64_t rows_per_leaf = 1;      // above 1 only where leaves_per_row is 1
  int64_t leaves_per_row = 1;
  int64_t leaf_count() const;
  // The flat element range [begin, end) of a leaf.
  std::pair<int64_t, int64_t> elements(int64_t leaf) const;
  int64_t leaf_of(int64_t element) const;
  // The canonical bytes of a leaf. Its type and shape must be a tensor's that can exist.
  ByteRange bytes(int64_t leaf) const;
  // The bits of each element in as many bytes as the leaf has; left-over bits are not looked at.
  std::vector<uint64_t> element_bits(int64_t leaf, ByteView bytes) const;
};
LeafLayout leaf_layout(DType dtype, const Shape& shape);

std::vector<Digest> tensor_leaves(const Tensor& tensor);
// SHA-256 over tag, dtype, rank, dimensions, byte count and Merkle root.
Digest tensor_root(const Tensor& tensor);
Digest tensor_root(DType dtype, const Shape& shape, std::span<const Digest> leaves);
// Those of tensors that may lie on devices, which hash them there, all at once. Errors: a device's.
Result<std::vector<Digest>> tensor_roots(std::span<const Tensor> tensors);
// The same in two parts, between which devices hash beside what they are told. What is begun holds
// those of the tensors that devices hash, for as long as it lives; the host hashes the others
// first.
class BegunRoots {
 public:
  static Result<BegunRoots> begin(std::vector<Tensor> tensors);
  // Once, or again after an error.
  Result<std::vector<Digest>> wait();

 private:
  struct Part {
    std::vector<size_t> which;  // of the tensors
    std::unique_ptr<PendingRoots> roots;
  };
  std::vector<Tensor> tensors_;
  std::vector<Digest> roots_;  // of those that the host has hashed
  std::vector<Part> there_;    // a part for each device
};
// An absent optional tensor has this root.
Digest absent_root();

// "3f800000": the bits of an element, the most significant digit first.
std::string element_hex(DType dtype, uint64_t bits);

// How many canonical bytes such a tensor has: elements * size_of(), or fewer where they are packed.
// Errors: a tensor of more than 2^62 bytes in memory.
Result<int64_t> canonical_size(DType dtype, const Shape& shape);

// The canonical bytes: what leaves hash, what travels.
Bytes little_endian_bytes(const Tensor& tensor);
Bytes little_endian_bytes(const Tensor& tensor, ByteRange range);
// The inverse: a tensor from its canonical bytes. Errors: another number of bytes than the shape
// needs, and bytes that no tensor has: a bool beyond 1, a bit that is set after a row's last
// element.
Result<Tensor> tensor_from_little_endian(DType dtype, const Shape& shape, ByteView bytes);

}  // namespace verbatim
