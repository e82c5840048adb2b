#include <verbatim/core/tensor_root.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <tuple>

#include <verbatim/core/parallel.h>
#include <verbatim/core/tensor_codec.h>

namespace verbatim {
namespace {

void swap_elements(std::span<std::byte> bytes, size_t element_size) {
  for (size_t i = 0; i + element_size <= bytes.size(); i += element_size)
    std::reverse(bytes.begin() + i, bytes.begin() + i + element_size);
}

constexpr bool kSwap = std::endian::native == std::endian::big;

std::pair<int64_t, int64_t> rows_and_columns(const Shape& shape) {
  if (shape.rank() == 0) return {1, 1};
  return {shape.elements(0, shape.rank() - 1), shape[shape.rank() - 1]};
}

// Bytes of the first `columns` elements of a row.
int64_t row_bytes(DType dtype, int64_t columns) {
  if (!is_sub_byte(dtype)) return columns * static_cast<int64_t>(size_of(dtype));
  const int64_t per_byte = 8 / bit_width(dtype);
  return columns / per_byte + (columns % per_byte != 0 ? 1 : 0);
}

// canonical_size() of a tensor that exists, or of a shape that was checked.
uint64_t canonical_bytes(DType dtype, const Shape& shape) {
  if (!is_sub_byte(dtype)) return static_cast<uint64_t>(shape.elements()) * size_of(dtype);
  const auto [rows, columns] = rows_and_columns(shape);
  return static_cast<uint64_t>(rows * row_bytes(dtype, columns));
}

// How the elements of sub-byte rows lie in bytes.
struct Packing {
  int width;
  int64_t per_byte, columns, bytes_of_row;
  Packing(DType dtype, int64_t row)
      : width(bit_width(dtype)),
        per_byte(8 / width),
        columns(row),
        bytes_of_row(row_bytes(dtype, row)) {}
  // The flat element that begins byte `i`, and how many it holds.
  std::pair<int64_t, int64_t> elements(int64_t i) const {
    const int64_t column = i % bytes_of_row * per_byte;
    return {i / bytes_of_row * columns + column, std::min(per_byte, columns - column)};
  }
  unsigned mask() const { return (1u << width) - 1; }
};

Bytes pack(const Tensor& tensor, ByteRange range) {
  const Packing packing(tensor.dtype(), rows_and_columns(tensor.shape()).second);
  Bytes bytes(range.size());
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto [begin, count] = packing.elements(static_cast<int64_t>(range.begin + i));
    unsigned byte = 0;
    for (int64_t j = 0; j < count; ++j)
      byte |= std::to_integer<unsigned>(tensor.bytes()[begin + j]) << (j * packing.width);
    bytes[i] = static_cast<std::byte>(byte);
  }
  return bytes;
}

// False where a bit after a row's last element is set.
bool unpack(ByteView bytes, Tensor& tensor) {
  const Packing packing(tensor.dtype(), rows_and_columns(tensor.shape()).second);
  const std::span<std::byte> out = tensor.mutable_bytes();
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto [begin, count] = packing.elements(static_cast<int64_t>(i));
    const auto byte = std::to_integer<unsigned>(bytes[i]);
    if (byte >> (count * packing.width) != 0) return false;
    for (int64_t j = 0; j < count; ++j)
      out[begin + j] = static_cast<std::byte>(byte >> (j * packing.width) & packing.mask());
  }
  return true;
}

// The leaves from `first` on; kMerkleBatch at most.
void hash_leaves(const Tensor& tensor, const LeafLayout& layout, int64_t first,
                 std::span<Digest> leaves) {
  const auto count = static_cast<int64_t>(leaves.size());
  if (kSwap || is_sub_byte(tensor.dtype())) {
    for (int64_t i = 0; i < count; ++i)
      leaves[i] = merkle_leaf(little_endian_bytes(tensor, layout.bytes(first + i)));
    return;
  }
  std::array<ByteView, kMerkleBatch> data;
  for (int64_t i = 0; i < count; ++i) {
    const ByteRange range = layout.bytes(first + i);
    data[i] = tensor.bytes().subspan(range.begin, range.size());
  }
  sha256_many(std::byte{0}, std::span(data).first(leaves.size()), leaves.data());
}

Digest root_over(DType dtype, const Shape& shape, const Digest& leaves_root) {
  Writer w;
  write_dtype(w, dtype);
  write_shape(w, shape);
  w.u64(canonical_bytes(dtype, shape));
  w.raw(leaves_root.bytes);
  return tagged_hash("verbatim.tensor.1", w.bytes());
}

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

ByteRange LeafLayout::bytes(int64_t leaf) const {
  const int64_t row = row_bytes(dtype, columns);
  if (leaves_per_row == 1)
    return {static_cast<uint64_t>(leaf * rows_per_leaf * row),
            static_cast<uint64_t>(std::min((leaf + 1) * rows_per_leaf, rows) * row)};
  const int64_t first = leaf / leaves_per_row * row,
                begin = row_bytes(dtype, leaf % leaves_per_row * kLeafElements);
  return {static_cast<uint64_t>(first + begin),
          static_cast<uint64_t>(first + std::min(begin + row_bytes(dtype, kLeafElements), row))};
}

std::vector<uint64_t> LeafLayout::element_bits(int64_t leaf, ByteView bytes) const {
  const auto [begin, end] = elements(leaf);
  std::vector<uint64_t> bits(static_cast<size_t>(end - begin));
  if (is_sub_byte(dtype)) {
    const Packing packing(dtype, std::min(columns, end - begin));
    for (size_t i = 0; i < bytes.size(); ++i) {
      const auto [first, count] = packing.elements(static_cast<int64_t>(i));
      for (int64_t j = 0; j < count; ++j)
        bits[first + j] =
            std::to_integer<unsigned>(bytes[i]) >> (j * packing.width) & packing.mask();
    }
    return bits;
  }
  const size_t size = size_of(dtype);
  for (size_t i = 0; i < bytes.size(); ++i)
    bits[i / size] |= std::to_integer<uint64_t>(bytes[i]) << (8 * (i % size));
  return bits;
}

std::string element_hex(DType dtype, uint64_t bits) {
  std::byte big_endian[8];
  for (int i = 0; i < 8; ++i) big_endian[i] = static_cast<std::byte>(bits >> (56 - 8 * i));
  return to_hex(ByteView(big_endian).last(size_of(dtype)));
}

LeafLayout leaf_layout(DType dtype, const Shape& shape) {
  LeafLayout layout;
  layout.dtype = dtype;
  std::tie(layout.rows, layout.columns) = rows_and_columns(shape);
  if (layout.columns > kLeafElements) {
    layout.leaves_per_row = (layout.columns + kLeafElements - 1) / kLeafElements;
  } else if (layout.columns > 0) {
    layout.rows_per_leaf = std::max<int64_t>(1, kLeafBytes / row_bytes(dtype, layout.columns));
  }
  return layout;
}

Result<int64_t> canonical_size(DType dtype, const Shape& shape) {
  // Packed, there is at most a byte for each element.
  VB_TRY(checked_multiply(shape.elements(), static_cast<int64_t>(size_of(dtype))).status());
  return static_cast<int64_t>(canonical_bytes(dtype, shape));
}

Bytes little_endian_bytes(const Tensor& tensor, ByteRange range) {
  if (is_sub_byte(tensor.dtype())) return pack(tensor, range);
  const ByteView view = tensor.bytes().subspan(range.begin, range.size());
  Bytes bytes(view.begin(), view.end());
  if (kSwap) swap_elements(bytes, size_of(tensor.dtype()));
  return bytes;
}

Bytes little_endian_bytes(const Tensor& tensor) {
  return little_endian_bytes(tensor, {0, canonical_bytes(tensor.dtype(), tensor.shape())});
}

Result<Tensor> tensor_from_little_endian(DType dtype, const Shape& shape, ByteView bytes) {
  VB_ASSIGN(const int64_t need, canonical_size(dtype, shape));
  if (static_cast<int64_t>(bytes.size()) != need)
    return bad_input(std::to_string(bytes.size()) + " bytes for " + std::string(name_of(dtype)) +
                     " " + shape.to_string());
  if (dtype == DType::boolean &&
      std::ranges::any_of(bytes, [](std::byte b) { return b > std::byte{1}; }))
    return bad_input("a bool that is neither 0 nor 1");
  VB_ASSIGN(Tensor t, Tensor::allocate(dtype, shape));
  if (is_sub_byte(dtype))
    return unpack(bytes, t) ? Result<Tensor>(std::move(t))
                            : bad_input("a bit is set after a row's last element");
  if (!bytes.empty()) std::memcpy(t.mutable_bytes().data(), bytes.data(), bytes.size());
  if (kSwap) swap_elements(t.mutable_bytes(), size_of(dtype));
  return t;
}

std::vector<Digest> tensor_leaves(const Tensor& tensor) {
  const LeafLayout layout = leaf_layout(tensor.dtype(), tensor.shape());
  std::vector<Digest> leaves(static_cast<size_t>(layout.leaf_count()));
  parallel_for(layout.leaf_count(), kMerkleBatch, [&](int64_t from, int64_t to) {
    hash_leaves(tensor, layout, from, std::span(leaves).subspan(from, to - from));
  });
  return leaves;
}

Digest tensor_root(DType dtype, const Shape& shape, std::span<const Digest> leaves) {
  return root_over(dtype, shape, merkle_root(leaves));
}

Digest tensor_root(const Tensor& tensor) {
  if (!tensor.defined()) return absent_root();
  const LeafLayout layout = leaf_layout(tensor.dtype(), tensor.shape());
  const auto make = [&](size_t first, std::span<Digest> leaves) {
    hash_leaves(tensor, layout, static_cast<int64_t>(first), leaves);
  };
  return root_over(tensor.dtype(), tensor.shape(),
                   merkle_root(static_cast<size_t>(layout.leaf_count()), make));
}

// What a device may not hash, or has no room to, is copied and hashed here, at once: where there is
// no room nothing is to be kept.
Result<BegunRoots> BegunRoots::begin(std::vector<Tensor> tensors) {
  BegunRoots begun;
  begun.tensors_ = std::move(tensors);
  begun.roots_.resize(begun.tensors_.size());
  std::map<DeviceMemory*, std::vector<size_t>> there;
  std::vector<size_t> here;
  for (size_t i = 0; i < begun.tensors_.size(); ++i) {
    const Tensor& t = begun.tensors_[i];
    const bool is_hashed_there =
        t.device() != nullptr && !is_sub_byte(t.dtype()) && t.elements() > 0;
    (is_hashed_there ? there[t.device()] : here).push_back(i);
  }
  for (auto& [device, which] : there) {
    std::vector<Tensor> its;
    for (const size_t i : which) its.push_back(begun.tensors_[i]);
    Result<std::unique_ptr<PendingRoots>> roots = device->begin_leaf_roots(its);
    if (roots.ok())
      begun.there_.push_back({std::move(which), *std::move(roots)});
    else if (roots.status().code() == StatusCode::limit)
      here.insert(here.end(), which.begin(), which.end());
    else
      return roots.status();
  }
  for (const size_t i : here) {
    VB_ASSIGN(const Tensor on_host, begun.tensors_[i].on_host());
    begun.roots_[i] = tensor_root(on_host);
    begun.tensors_[i] = {};
  }
  return begun;
}

Result<std::vector<Digest>> BegunRoots::wait() {
  for (const Part& part : there_) {
    VB_ASSIGN(const std::vector<Digest> leaves, part.roots->wait());
    for (size_t i = 0; i < part.which.size(); ++i) {
      const Tensor& t = tensors_[part.which[i]];
      roots_[part.which[i]] = root_over(t.dtype(), t.shape(), leaves[i]);
    }
  }
  return roots_;
}

Result<std::vector<Digest>> tensor_roots(std::span<const Tensor> tensors) {
  VB_ASSIGN(BegunRoots begun, BegunRoots::begin({tensors.begin(), tensors.end()}));
  return begun.wait();
}

Digest absent_root() { return tagged_hash("verbatim.absent.1", {}); }

}  // namespace verbatim
