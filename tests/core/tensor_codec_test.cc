// The codec of types, shapes and tensors, and the guard that allocation asks.
#include <verbatim/core/tensor_codec.h>

#include <gtest/gtest.h>

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

class AtMost final : public AllocationGuard {
 public:
  explicit AtMost(int64_t elements) : elements_(elements) {}
  Result<std::shared_ptr<const void>> admit(const Tensor& t) override {
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
