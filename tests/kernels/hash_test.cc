// Roots of tensors that lie on a device, hashed there: those of the same tensors on the host.
#include <verbatim/core/tensor_root.h>

#include <rapidcheck.h>

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

// Some are begun, forgotten, and asked for in another order, while nobody else keeps the tensors,
// and memory is taken and given back.
TEST_P(HashTest, RootsBesideOtherWork) {
  struct Begun {
    std::unique_ptr<PendingRoots> roots;
    std::vector<Digest> want;
  };
  const auto some_tensor = [&] {
    const int64_t columns = *rc::gen::element<int64_t>(1, 60, 512, 700);
    return any(*rc::gen::element(DType::f32, DType::bf16, DType::u8),
               {*rc::gen::inRange<int64_t>(1, 40), columns});
  };
  const bool passed = rc::check([&] {
    random_ = Random(*rc::gen::arbitrary<uint64_t>());
    std::vector<Begun> begun;
    const auto take = [&](size_t i) {
      RC_ASSERT(*begun[i].roots->wait() == begun[i].want);
      begun.erase(begun.begin() + static_cast<std::ptrdiff_t>(i));
    };
    for (int i = *rc::gen::inRange(1, 12); i > 0; --i) {
      Tensors tensors;
      std::vector<Digest> want;
      for (int j = *rc::gen::inRange(0, 4); j > 0; --j) {
        const Tensor t = some_tensor();
        want.push_back(merkle_root(tensor_leaves(t)));
        tensors.push_back(there(t));
      }
      begun.push_back({*device_->begin_leaf_roots(tensors), std::move(want)});
      tensors.clear();
      const Tensor x = any(DType::u8, {*rc::gen::inRange<int64_t>(1, 40), 512}), y = there(x);
      RC_ASSERT(identical(*y.on_host(), x));
      const int what = *rc::gen::inRange(0, 5);
      if (what == 0) begun.pop_back();
      if (what == 1) take(*rc::gen::inRange<size_t>(0, begun.size()));
    }
    while (!begun.empty()) take(begun.size() - 1);
  });
  EXPECT_TRUE(passed);
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

TEST_P(HashTest, WhoForgetsRootsWaits) {
  const Tensor t = there(any(DType::f32, {700, 512}));
  {
    const BegunRoots roots = *BegunRoots::begin({t});
    EXPECT_GT(emulated::left_for_later(), 0u);
  }
  EXPECT_EQ(emulated::left_for_later(), 0u);
}

// Of tensors of two launches, the second of which finds no room.
TEST_P(HashTest, WhoCannotBeginAllWaitsForSome) {
  Tensors tensors(256, there(any(DType::f32, {3, 512})));
  tensors.push_back(there(any(DType::f32, {1000, 512})));
  emulated::g_most_bytes = 256 * 3 * 32;
  const auto roots = device_->begin_leaf_roots(tensors);
  emulated::g_most_bytes = SIZE_MAX;
  EXPECT_EQ(roots.status().code(), StatusCode::limit);
  EXPECT_EQ(emulated::left_for_later(), 0u);
}

// Leaves are launched, and a tree is not.
TEST_P(HashTest, ALaunchThatFailsIsAnError) {
  emulated::g_most_left_for_later = 1;
  const auto roots = BegunRoots::begin({there(any(DType::f32, {700, 512}))});
  emulated::g_most_left_for_later = SIZE_MAX;
  EXPECT_EQ(roots.status().code(), StatusCode::unavailable);
  EXPECT_EQ(emulated::left_for_later(), 0u);
}

#endif

}  // namespace
}  // namespace verbatim::test
