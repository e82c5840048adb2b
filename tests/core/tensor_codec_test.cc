// The codec of types, shapes and tensors, and the guard that allocation asks.
#include <verbatim/core/tensor_codec.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <utility>

#include <verbatim/core/tensor_root.h>

namespace verbatim {
namespace {

TEST(TensorCodec, LayoutIsTheDocumentedOne) {
  Writer w;
  const Result<Tensor> t = Tensor::from<int16_t>(Shape{1, 2}, std::vector<int16_t>{0x0102, -2});
  ASSERT_TRUE(t.ok());
  write_tensor(w, *t);
  EXPECT_EQ(to_hex(w.bytes()),
            "05020100000000000000020000000000000004000000"
            "0201feff");
  Reader r(w.bytes(), "t");
  const Result<Tensor> back = read_tensor(r, 4);
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_TRUE(identical(*back, *t));
  EXPECT_TRUE(r.finish().ok());
}

TEST(TensorCodec, RefusesWhatItWouldNotWrite) {
  const auto refused = [](auto write) {
    Writer w;
    write(w);
    Reader r(w.bytes(), "t");
    return !read_tensor(r, 64).ok();
  };
  const auto header = [](Writer& w, uint8_t type, std::vector<int64_t> dims) {
    w.u8(type);
    write_dims(w, dims);
  };
  EXPECT_FALSE(refused([&](Writer& w) { header(w, 1, {1}), w.blob(Bytes(4)); }));
  EXPECT_TRUE(refused([&](Writer& w) { header(w, 0, {1}), w.blob({}); }));
  EXPECT_TRUE(refused([&](Writer& w) { header(w, 99, {1}), w.blob(Bytes(4)); }));
  EXPECT_TRUE(refused([&](Writer& w) { header(w, 1, {-1}), w.blob({}); }));
  EXPECT_TRUE(refused([&](Writer& w) {
    header(w, 1, {1, 1, 1, 1, 1, 1, 1, 1, 1}), w.blob(Bytes(4));
  }));
  EXPECT_TRUE(refused([&](Writer& w) {
    header(w, 1, {int64_t{1} << 40, int64_t{1} << 40}), w.blob({});
  }));
  EXPECT_TRUE(refused([&](Writer& w) { header(w, 1, {2}), w.blob(Bytes(4)); }));
  EXPECT_TRUE(
      refused([&](Writer& w) { header(w, 1, {17}), w.blob(Bytes(68)); }));  // above max_bytes
}

// Each row starts on a byte, its first element in the lowest bits.
TEST(TensorCodec, SubByteRowsStartOnAByte) {
  const Result<Tensor> t =
      Tensor::from<Int4>(Shape{2, 3}, std::vector<Int4>{{0x1}, {0x2}, {0xF}, {0x8}, {0x9}, {0x7}});
  ASSERT_TRUE(t.ok());
  Writer w;
  write_tensor(w, *t);
  EXPECT_EQ(to_hex(w.bytes()),
            "160202000000000000000300000000000000"
            "04000000"
            "210f9807");
  Reader r(w.bytes(), "t");
  const Result<Tensor> back = read_tensor(r, 4);
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_TRUE(identical(*back, *t));
}

std::vector<DType> all_types() {
  std::vector<DType> types;
  for (int n = 0; n < 256; ++n)
    if (const DType d = dtype_from_onnx(n); d != DType::undefined) types.push_back(d);
  return types;
}

// Codes that differ from their neighbours.
Tensor codes(DType dtype, const Shape& shape) {
  Tensor t = *Tensor::zeros(dtype, shape);
  const unsigned range = dtype == DType::boolean ? 2 : 1u << std::min(bit_width(dtype), 8);
  uint32_t state = 1;
  for (std::byte& b : t.mutable_bytes())
    b = static_cast<std::byte>(((state = state * 1664525 + 1013904223) >> 20) % range);
  return t;
}

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {{},       {0},      {1},       {5},       {3, 0},
                                         {0, 3},   {3, 5},   {4, 8},    {2, 3, 7}, {3, 511},
                                         {3, 512}, {2, 513}, {2, 1027}, {700, 3},  {8193}};
  return all;
}

TEST(TensorCodec, EveryTypeAndOddLengthRoundTrips) {
  for (const DType dtype : all_types())
    for (const Shape& shape : shapes()) {
      const Tensor t = codes(dtype, shape);
      Writer w;
      write_tensor(w, t);
      Reader r(w.bytes(), "t");
      const Result<Tensor> back = read_tensor(r, w.bytes().size());
      ASSERT_TRUE(back.ok()) << t.describe() << ": " << back.status().message();
      EXPECT_TRUE(identical(*back, t)) << t.describe();
      EXPECT_TRUE(r.finish().ok());
    }
}

// Whatever one of the bytes of a row is changed to is refused, or is another tensor that would be
// written so.
TEST(TensorCodec, BytesThatNoTensorHasAreRefused) {
  EXPECT_TRUE(tensor_from_little_endian(DType::i4, Shape{3}, *from_hex("210f")).ok());
  for (const DType dtype : {DType::u4, DType::i4, DType::f4e2m1})
    EXPECT_FALSE(tensor_from_little_endian(dtype, Shape{3}, *from_hex("211f")).ok());
  for (const DType dtype : {DType::u2, DType::i2})
    for (const char* bytes : {"e440", "e404", "e480", "e410"})
      EXPECT_FALSE(tensor_from_little_endian(dtype, Shape{5}, *from_hex(bytes)).ok()) << bytes;
  for (const DType dtype : all_types()) {
    Bytes bytes = little_endian_bytes(codes(dtype, Shape{3, 5}));
    for (std::byte& b : bytes)
      for (int i = 0; i < 256; ++i) {
        const std::byte before = std::exchange(b, static_cast<std::byte>(i));
        const Result<Tensor> t = tensor_from_little_endian(dtype, Shape{3, 5}, bytes);
        if (t.ok()) {
          EXPECT_EQ(little_endian_bytes(*t), bytes);
        }
        for (size_t j = 0; t.ok() && is_sub_byte(dtype) && j < t->byte_size(); ++j)
          EXPECT_EQ(std::to_integer<int>(t->bytes()[j]) >> bit_width(dtype), 0);
        b = before;
      }
  }
}

// The root and the bits of each element from the contract's words: rows, leaves, bits in order.
TEST(TensorRoot, OfEveryTypeIsWhatTheContractSpells) {
  for (const DType dtype : all_types())
    for (const Shape& shape : shapes()) {
      const Tensor t = codes(dtype, shape);
      const auto width = static_cast<size_t>(bit_width(dtype));
      const size_t columns = shape.rank() == 0 ? 1 : static_cast<size_t>(shape[shape.rank() - 1]);
      const size_t rows = columns == 0 ? 0 : static_cast<size_t>(t.elements()) / columns;
      const size_t row_bytes = (columns * width + 7) / 8;
      const auto bit = [&](size_t element, size_t i) {
        const size_t size = size_of(dtype), byte = i / 8;
        const size_t at = std::endian::native == std::endian::big ? size - 1 - byte : byte;
        return std::to_integer<unsigned>(t.bytes()[element * size + at]) >> (i % 8) & 1;
      };
      std::vector<Digest> leaves;
      Bytes all, leaf;
      const size_t rows_per_leaf =
          columns > 512 ? 1 : std::max<size_t>(1, 2048 / std::max<size_t>(row_bytes, 1));
      for (size_t r = 0; r < rows; ++r) {
        Bytes row(row_bytes);
        for (size_t i = 0; i < columns * width; ++i)
          row[i / 8] |= static_cast<std::byte>(bit(r * columns + i / width, i % width) << (i % 8));
        all.insert(all.end(), row.begin(), row.end());
        for (size_t c = 0; columns > 512 && c < columns; c += 512)
          leaves.push_back(merkle_leaf(ByteView(row).subspan(
              c * width / 8, std::min(512 * width / 8, row_bytes - c * width / 8))));
        leaf.insert(leaf.end(), row.begin(), row.end());
        if (columns <= 512 && ((r + 1) % rows_per_leaf == 0 || r + 1 == rows)) {
          leaves.push_back(merkle_leaf(leaf));
          leaf.clear();
        }
      }
      EXPECT_EQ(little_endian_bytes(t), all) << t.describe();
      EXPECT_EQ(tensor_leaves(t), leaves) << t.describe();
      Writer w;
      w.u8(static_cast<uint8_t>(dtype));
      write_shape(w, shape);
      w.u64(all.size());
      w.raw(merkle_root(leaves).bytes);
      EXPECT_EQ(tensor_root(t), tagged_hash("verbatim.tensor.1", w.bytes())) << t.describe();

      const LeafLayout layout = leaf_layout(dtype, shape);
      for (int64_t i = 0; i < layout.leaf_count(); ++i) {
        const auto [begin, end] = layout.elements(i);
        const auto bits = layout.element_bits(i, little_endian_bytes(t, layout.bytes(i)));
        ASSERT_EQ(bits.size(), static_cast<size_t>(end - begin));
        for (int64_t e = begin; e < end; ++e)
          for (size_t j = 0; j < width; ++j)
            ASSERT_EQ(bits[e - begin] >> j & 1, bit(static_cast<size_t>(e), j)) << t.describe();
      }
    }
}

class AtMost final : public AllocationGuard {
 public:
  explicit AtMost(int64_t elements) : elements_(elements) {}
  Result<std::shared_ptr<const void>> admit(const Tensor& t, Purpose) override {
    ++asked;
    if (t.elements() > elements_) return over_limit("too many");
    return lease;
  }
  std::shared_ptr<const void> lease;
  int asked = 0;

 private:
  int64_t elements_;
};

// A copy and a view share the storage, and what it holds.
TEST(AllocationGuard, WhatItReturnsLivesAsLongAsTheStorage) {
  auto lease = std::make_shared<int>();
  const std::weak_ptr<int> held = lease;
  Tensor view;
  {
    AtMost guard(8);
    guard.lease = std::move(lease);
    view = *Tensor::allocate(DType::f32, Shape{4})->reshaped(Shape{2, 2});
  }
  EXPECT_FALSE(held.expired());
  view = Tensor();
  EXPECT_TRUE(held.expired());
}

TEST(AllocationGuard, IsAskedBeforeThereIsMemoryAndEndsWithItsScope) {
  const auto allocates = [](int64_t n) { return Tensor::allocate(DType::f32, Shape{n}).ok(); };
  {
    AtMost outer(8);
    EXPECT_TRUE(allocates(8));
    EXPECT_EQ(Tensor::zeros(DType::f32, Shape{9}).status().code(), StatusCode::limit);
    {
      AtMost inner(2);
      EXPECT_FALSE(allocates(3));
      EXPECT_EQ(inner.asked, 1);
    }
    EXPECT_TRUE(allocates(3));
    EXPECT_FALSE(allocates(int64_t{1} << 31));  // 8 GiB: not even reserved
    EXPECT_EQ(outer.asked, 4);
  }
  EXPECT_TRUE(allocates(9));
}

}  // namespace
}  // namespace verbatim
