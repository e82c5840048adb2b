// Roots of tensors that lie on a device, hashed there: those of the same tensors on the host.
#include <verbatim/core/tensor_root.h>

#include <algorithm>

#if defined(VERBATIM_EMULATED_GPU)
#include <cuda_runtime.h>
#endif

#include "kernels/compare.h"

namespace verbatim::test {
namespace {

class HashTest : public OnBackend {
 protected:
  void SetUp() override {
    OnBackend::SetUp();
    if (IsSkipped()) return;
    const Tensor one = *Tensor::scalar(1.0f);
    device_ = (*backend_->run(node_of("", "Identity"), std::span(&one, 1)))[0].device();
    ASSERT_NE(device_, nullptr);
  }
  // Of any bytes that the type allows, on the host.
  Tensor any(DType type, const Shape& shape) {
    Tensor t = *Tensor::allocate(type, shape);
    const auto mask = (1u << std::min(bit_width(type), 8)) - 1;
    for (std::byte& b : t.mutable_bytes())
      b = static_cast<std::byte>(random_.next() & (type == DType::boolean ? 1u : mask));
    return t;
  }
  Tensor there(const Tensor& t) { return *t.copied_to(*device_); }

  Random random_{1};
  DeviceMemory* device_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Backends, HashTest, ::testing::Values("cuda"),
                         [](const auto& info) { return info.param; });

std::vector<DType> all_types() {
  std::vector<DType> types;
  for (int64_t n = 1; n < 64; ++n)
    if (const DType type = dtype_from_onnx(n); type != DType::undefined) types.push_back(type);
  return types;
}

// Rows that leaves group, that are a leaf, and that are cut: where those of bytes begin, no word
// does.
TEST_P(HashTest, OfEveryTypeAndShape) {
  const Shape shapes[] = {{},       {0},      {1},       {2},       {3},      {55},    {56},
                          {63},     {64},     {67},      {511},     {512},    {513},   {1000},
                          {3, 0},   {0, 3},   {7, 1},    {7, 3},    {5, 100}, {9, 61}, {40, 54},
                          {3, 511}, {4, 512}, {33, 513}, {5, 1027}, {2, 3, 7}};
  Tensors host, device;
  for (const DType type : all_types())
    for (const Shape& shape : shapes) {
      host.push_back(any(type, shape));
      device.push_back(there(host.back()));
    }
  const std::vector<Digest> roots = *tensor_roots(device);
  ASSERT_EQ(roots.size(), host.size());
  for (size_t i = 0; i < roots.size(); ++i) {
    const Digest want = tensor_root(host[i]);
    EXPECT_EQ(roots[i], want) << host[i].describe();
    // Alone, most have few leaves, which are hashed in another way.
    EXPECT_EQ(*tensor_roots(std::span(&device[i], 1)), std::vector{want}) << host[i].describe();
  }
}

// Trees of one launch, of two, and of none, side by side.
TEST_P(HashTest, OfEverySizeOfTree) {
  Tensors host, device;
  for (const int64_t leaves : {1, 2, 3, 4, 5, 63, 64, 65, 511, 512, 513, 1025, 1536}) {
    host.push_back(any(DType::u8, {leaves, 512}));  // four rows to a leaf
    host.push_back(any(DType::i16, {leaves * 1024 - 3}));
    host.push_back(any(DType::u8, {leaves * 4 + 1, 700}));  // leaves of two lengths
  }
  host.push_back(any(DType::f32, {100000}));
  for (const Tensor& t : host) device.push_back(there(t));
  const std::vector<Digest> roots = *tensor_roots(device);
  for (size_t i = 0; i < roots.size(); ++i)
    EXPECT_EQ(roots[i], tensor_root(host[i])) << host[i].describe();
}

TEST_P(HashTest, OfTensorsHereAndThereAndNowhere) {
  Tensors tensors;
  std::vector<Digest> want;
  for (int i = 0; i < 600; ++i) {
    const Tensor t = i % 7 == 0 ? Tensor() : any(DType::f32, {i % 5, 1 + i % 3});
    want.push_back(tensor_root(t));
    tensors.push_back(t.defined() && i % 2 == 0 ? there(t) : t);
  }
  EXPECT_EQ(*tensor_roots(tensors), want);
  EXPECT_TRUE(tensor_roots({})->empty());
}

TEST_P(HashTest, ABitChangesTheRoot) {
  Tensor t = any(DType::f16, {5, 600});
  const Digest root = (*tensor_roots(std::vector{there(t)}))[0];
  for (const size_t at : {0, 1, 1023, 1024, 5999}) {
    t.mutable_bytes()[at] ^= std::byte{1};
    EXPECT_NE((*tensor_roots(std::vector{there(t)}))[0], root) << at;
    t.mutable_bytes()[at] ^= std::byte{1};
  }
}

#if defined(VERBATIM_EMULATED_GPU)

TEST_P(HashTest, WithoutRoomTheHostHashes) {
  const Tensors host = {any(DType::f32, {700, 512}), any(DType::bf16, {3, 600})};
  const Tensors device = {there(host[0]), there(host[1])};
  for (const size_t bytes : {size_t{0}, size_t{32}}) {  // for no leaf, and for no tree
    emulated::g_most_bytes = bytes;
    const Result<std::vector<Digest>> roots = tensor_roots(device);
    emulated::g_most_bytes = SIZE_MAX;
    ASSERT_TRUE(roots.ok()) << roots.status().message();
    EXPECT_EQ(*roots, (std::vector{tensor_root(host[0]), tensor_root(host[1])}));
  }
}

#endif

}  // namespace
}  // namespace verbatim::test
