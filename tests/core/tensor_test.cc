#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <fstream>

#include <verbatim/core/file.h>
#include <verbatim/core/npy.h>
#include <verbatim/core/parallel.h>
#include <verbatim/core/tensor_root.h>

namespace verbatim {
namespace {

TEST(Shape, RefusesWhatOverflows) {
  const int64_t big[] = {int64_t{1} << 40, int64_t{1} << 40},
                hidden[] = {0, int64_t{1} << 40, int64_t{1} << 40}, negative[] = {-1};
  EXPECT_EQ(Shape::of(big).status().code(), StatusCode::limit);
  EXPECT_FALSE(
      Shape::of(hidden).ok());  // a zero must not hide an overflow that a reshape would bring back
  EXPECT_FALSE(Shape::of(negative).ok());
  const int64_t nine[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  EXPECT_FALSE(Shape::of(nine).ok());
}

TEST(Tensor, RefusesTooLargeAllocations) {
  const Status s = Tensor::allocate(DType::f64, Shape{int64_t{1} << 40}).status();
  EXPECT_EQ(s.code(), StatusCode::limit);
  EXPECT_NE(s.message().find("above the limit"), std::string::npos);
}

RC_GTEST_PROP(LeafLayout, LeavesTileTheTensorInOrder, ()) {
  const auto rows = *rc::gen::inRange<int64_t>(0, 70),
             columns = *rc::gen::inRange<int64_t>(0, 1600);
  const LeafLayout layout = leaf_layout(DType::f32, Shape{rows, columns});
  int64_t next = 0;
  for (int64_t i = 0; i < layout.leaf_count(); ++i) {
    const auto [begin, end] = layout.elements(i);
    RC_ASSERT(begin == next);
    RC_ASSERT(end > begin);
    // No leaf crosses a row unless it holds whole rows of at most 2048 bytes together.
    if (begin / columns != (end - 1) / columns)
      RC_ASSERT((end - begin) * 4 <= kLeafBytes && begin % columns == 0);
    RC_ASSERT(layout.leaf_of(begin) == i && layout.leaf_of(end - 1) == i);
    next = end;
  }
  RC_ASSERT(next == rows * columns);
}

// A root of a small tensor, spelt out from the contract by hand.
TEST(TensorRoot, IsWhatTheContractSpells) {
  const float values[] = {1.0f, -2.0f};
  const Tensor t = *Tensor::from<float>(Shape{2}, values);
  const Bytes leaf = *from_hex("0000803f000000c0");
  Bytes header = *from_hex(
      "01010200000000000000"
      "0800000000000000");
  const Digest merkle = merkle_leaf(leaf);
  header.insert(header.end(), merkle.bytes.begin(), merkle.bytes.end());
  EXPECT_EQ(tensor_root(t), tagged_hash("verbatim.tensor.1", header));
}

TEST(TensorRoot, DependsOnShapeTypeAndEveryBit) {
  const float values[] = {0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f};
  const Tensor t = *Tensor::from<float>(Shape{2, 3}, values);
  EXPECT_NE(tensor_root(t), tensor_root(*t.reshaped(Shape{3, 2})));
  EXPECT_NE(tensor_root(t), tensor_root(*t.reshaped(Shape{6})));
  const float negative_zero[] = {-0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f};
  EXPECT_NE(tensor_root(t), tensor_root(*Tensor::from<float>(Shape{2, 3}, negative_zero)));
  EXPECT_NE(tensor_root(*Tensor::zeros(DType::i32, Shape{4})),
            tensor_root(*Tensor::zeros(DType::f32, Shape{4})));
  EXPECT_NE(tensor_root(*Tensor::zeros(DType::f32, Shape{0, 4})),
            tensor_root(*Tensor::zeros(DType::f32, Shape{0, 5})));
}

TEST(TensorRoot, IsTheSameWithAnyNumberOfThreads) {
  Tensor t = *Tensor::zeros(DType::f32, Shape{700, 700});
  for (size_t i = 0; i < 490000; ++i) t.mutable_data<float>()[i] = static_cast<float>(i);
  set_thread_count(1);
  const Digest one = tensor_root(t);
  set_thread_count(5);
  EXPECT_EQ(tensor_root(t), one);
  set_thread_count(2);
}

TEST(Npy, RoundTripsEveryType) {
  for (int code = 0; code < 32; ++code) {
    const DType dtype = dtype_from_onnx(code);
    if (dtype == DType::undefined) continue;
    for (const Shape& shape : {Shape{}, Shape{3}, Shape{2, 3}, Shape{0, 4}}) {
      const Tensor t = *Tensor::zeros(dtype, shape);
      if (is_storage_only(dtype)) {
        EXPECT_EQ(encode_npy(t).status().code(), StatusCode::unsupported);
        continue;
      }
      const Result<Tensor> back = parse_npy(*encode_npy(t), "x");
      ASSERT_TRUE(back.ok()) << back.status().message();
      EXPECT_TRUE(identical(t, *back)) << t.describe();
    }
  }
}

RC_GTEST_PROP(Npy, TruncatedAndMutatedFilesAreErrorsOrTensors, ()) {
  Bytes bytes = *encode_npy(*Tensor::zeros(DType::f32, Shape{2, 3}));
  const auto size = *rc::gen::inRange<size_t>(0, bytes.size());
  RC_ASSERT(!parse_npy(ByteView(bytes).first(size), "x").ok());
  bytes[*rc::gen::inRange<size_t>(0, bytes.size())] =
      static_cast<std::byte>(*rc::gen::arbitrary<uint8_t>());
  (void)parse_npy(bytes, "x");
}

// A shape that no tensor has is at fault where it stands in the file.
TEST(Npy, ErrorsOfTheShapeNameFileAndByte) {
  const Bytes bytes = *encode_npy(*Tensor::zeros(DType::f32, Shape{2, 33}));
  const std::string text(as_chars(bytes));
  const size_t at = text.find("(2, 33)");
  ASSERT_NE(at, std::string::npos);
  for (const auto& [tuple, code, said] :
       {std::tuple("(2, -3)", StatusCode::bad_input, "negative dimension -3"),
        {"(9, 1e)", StatusCode::bad_input, "bad shape tuple"},
        {"(1, 0, )", StatusCode::bad_input, "bytes"}}) {
    std::string other = text;
    other.replace(at, std::string_view(tuple).size(), tuple);
    const Status status = parse_npy(as_bytes(other), "x.npy").status();
    EXPECT_EQ(status.code(), code) << tuple;
    EXPECT_NE(status.message().find(said), std::string::npos) << status.message();
    EXPECT_TRUE(status.message().starts_with("x.npy: byte ")) << status.message();
  }
  std::string other = text;
  other.replace(at, 7, "(4611686018427387904, 9)");
  const Status status = parse_npy(as_bytes(other), "x.npy").status();
  EXPECT_EQ(status.code(), StatusCode::limit);
  EXPECT_TRUE(status.message().starts_with("x.npy: byte " + std::to_string(at) + ": "))
      << status.message();
}

TEST(File, WritesAppearWholeAndErrorsNameThePath) {
  const std::string path = testing::TempDir() + "/verbatim_file_test";
  ASSERT_TRUE(write_file(path, as_bytes("hello")).ok());
  EXPECT_EQ(as_chars(*read_file(path, 5)), "hello");
  EXPECT_EQ(read_file(path, 4).status().code(), StatusCode::limit);
  EXPECT_EQ(as_chars((*MappedFile::open(path))->bytes()), "hello");
  const Status missing = read_file(path + ".none", 1).status();
  EXPECT_EQ(missing.code(), StatusCode::unavailable);
  EXPECT_NE(missing.message().find(path + ".none"), std::string::npos);
  EXPECT_FALSE(write_file("/nonexistent-folder/x", {}).ok());
}

}  // namespace
}  // namespace verbatim
