#include <verbatim/core/tensor_root.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include <verbatim/core/parallel.h>
#include <verbatim/core/tensor_codec.h>

namespace verbatim {
namespace {

void swap_elements(std::span<std::byte> bytes, size_t element_size) {
  for (size_t i = 0; i + element_size <= bytes.size(); i += element_size)
    std::reverse(bytes.begin() + i, bytes.begin() + i + element_size);
}

constexpr bool kSwap = std::endian::native == std::endian::big;

}  // namespace

int64_t LeafLayout::leaf_count() const {
  if (rows == 0 || columns == 0) return 0;
  return leaves_per_row > 1 ? rows * leaves_per_row : (rows + rows_per_leaf - 1) / rows_per_leaf;
}

std::pair<int64_t, int64_t> LeafLayout::elements(int64_t leaf) const {
  if (leaves_per_row > 1) {
    const int64_t row = leaf / leaves_per_row, begin = leaf % leaves_per_row * kLeafElements;
    return {row * columns + begin, row * columns + std::min(begin + kLeafElements, columns)};
  }
  return {leaf * rows_per_leaf * columns, std::min((leaf + 1) * rows_per_leaf, rows) * columns};
}

int64_t LeafLayout::leaf_of(int64_t element) const {
  const int64_t row = element / columns;
  return leaves_per_row > 1 ? row * leaves_per_row + element % columns / kLeafElements
                            : row / rows_per_leaf;
}

LeafLayout leaf_layout(DType dtype, const Shape& shape) {
  LeafLayout layout;
  layout.columns = shape.rank() == 0 ? 1 : shape[shape.rank() - 1];
  layout.rows = shape.rank() == 0 ? 1 : shape.elements(0, shape.rank() - 1);
  if (layout.columns > kLeafElements) {
    layout.leaves_per_row = (layout.columns + kLeafElements - 1) / kLeafElements;
  } else if (layout.columns > 0) {
    layout.rows_per_leaf =
        std::max<int64_t>(1, kLeafBytes / (layout.columns * static_cast<int64_t>(size_of(dtype))));
  }
  return layout;
}

Bytes little_endian_bytes(const Tensor& tensor, int64_t begin, int64_t end) {
  const size_t size = size_of(tensor.dtype());
  const ByteView view = tensor.bytes().subspan(static_cast<size_t>(begin) * size,
                                               static_cast<size_t>(end - begin) * size);
  Bytes bytes(view.begin(), view.end());
  if (kSwap) swap_elements(bytes, size);
  return bytes;
}

Result<Tensor> tensor_from_little_endian(DType dtype, const Shape& shape, ByteView bytes) {
  VB_ASSIGN(const int64_t need,
            checked_multiply(shape.elements(), static_cast<int64_t>(size_of(dtype))));
  if (static_cast<int64_t>(bytes.size()) != need)
    return bad_input(std::to_string(bytes.size()) + " bytes for " + std::string(name_of(dtype)) +
                     " " + shape.to_string());
  if (dtype == DType::boolean &&
      std::ranges::any_of(bytes, [](std::byte b) { return b > std::byte{1}; }))
    return bad_input("a bool that is neither 0 nor 1");
  VB_ASSIGN(Tensor t, Tensor::allocate(dtype, shape));
  if (!bytes.empty()) std::memcpy(t.mutable_bytes().data(), bytes.data(), bytes.size());
  if (kSwap) swap_elements(t.mutable_bytes(), size_of(dtype));
  return t;
}

std::vector<Digest> tensor_leaves(const Tensor& tensor) {
  const LeafLayout layout = leaf_layout(tensor.dtype(), tensor.shape());
  std::vector<Digest> leaves(static_cast<size_t>(layout.leaf_count()));
  const size_t size = size_of(tensor.dtype());
  parallel_for(layout.leaf_count(), 64, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const auto [begin, end] = layout.elements(i);
      if constexpr (kSwap) {
        leaves[i] = merkle_leaf(little_endian_bytes(tensor, begin, end));
      } else {
        leaves[i] = merkle_leaf(tensor.bytes().subspan(begin * size, (end - begin) * size));
      }
    }
  });
  return leaves;
}

Digest tensor_root(DType dtype, const Shape& shape, std::span<const Digest> leaves) {
  Writer w;
  write_dtype(w, dtype);
  write_shape(w, shape);
  w.u64(static_cast<uint64_t>(shape.elements()) * size_of(dtype));
  w.raw(merkle_root(leaves).bytes);
  return tagged_hash("verbatim.tensor.1", w.bytes());
}

Digest tensor_root(const Tensor& tensor) {
  return tensor.defined() ? tensor_root(tensor.dtype(), tensor.shape(), tensor_leaves(tensor))
                          : absent_root();
}

Digest absent_root() { return tagged_hash("verbatim.absent.1", {}); }

}  // namespace verbatim
