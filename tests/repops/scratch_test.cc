// What an operator takes besides tensors, which limits do not see, does not grow with its output or
// with an attribute. Measured by replacing the plain operator new: tensors use the aligned one.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include <verbatim/core/parallel.h>

#include "op_support.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define VERBATIM_OWN_NEW 0  // the sanitizers' own is to stay
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define VERBATIM_OWN_NEW 0
#endif
#endif
#ifndef VERBATIM_OWN_NEW
#define VERBATIM_OWN_NEW 1
#endif

#if VERBATIM_OWN_NEW
namespace {

std::atomic<int64_t> g_live{0}, g_peak{0};
constexpr size_t kHeader = alignof(std::max_align_t);

}  // namespace

void* operator new(size_t size) {
  void* p = size > SIZE_MAX - kHeader ? nullptr : std::malloc(size + kHeader);
  if (p == nullptr) throw std::bad_alloc();
  *static_cast<size_t*>(p) = size;
  const int64_t live = g_live += static_cast<int64_t>(size);
  for (int64_t peak = g_peak; live > peak && !g_peak.compare_exchange_weak(peak, live);) {
  }
  return static_cast<char*>(p) + kHeader;
}
void operator delete(void* p) noexcept {
  if (p == nullptr) return;
  void* start = static_cast<char*>(p) - kHeader;
  g_live -= static_cast<int64_t>(*static_cast<size_t*>(start));
  std::free(start);
}
void operator delete(void* p, size_t) noexcept { operator delete(p); }

namespace verbatim {
namespace {

using testing::floats;
using testing::integers;

constexpr int64_t kMany = 1 << 21, kSome = 1 << 16;

Tensor filled(DType dtype, std::vector<int64_t> dims, int value = 0) {
  Tensor t = *Tensor::zeros(dtype, *Shape::of(dims));
  for (std::byte& b : t.mutable_bytes()) b = static_cast<std::byte>(value);
  return t;
}

struct Case {
  const char* op;
  Tensors inputs;
  Attributes attributes = {};
  int outputs = 1;
};

std::vector<Case> cases() {
  const Tensor two = filled(DType::u8, {2}), many = filled(DType::u8, {kMany}, 1);
  return {
      {"Tile", {two, integers({1}, {kMany})}},
      {"Pad", {two, integers({2}, {0, kMany})}},
      {"Pad", {two, integers({2}, {kMany, 0})}, {{"mode", "reflect"}}},
      {"CenterCropPad", {two, integers({1}, {kMany})}},
      {"Sum", {filled(DType::f16, {2048, 1}), filled(DType::f16, {1024})}},
      {"MatMul", {filled(DType::f32, {1024, 1, 1, 1}), filled(DType::f32, {2048, 1, 1})}},
      {"ScatterND", {many, filled(DType::i64, {1, 0}), filled(DType::u8, {1, kMany})}},
      {"ScatterElements",
       {many, filled(DType::i32, {kSome}), filled(DType::u8, {kSome})},
       {{"reduction", "add"}}},
      {"GatherND", {many, filled(DType::i32, {kMany, 1})}},
      {"OneHot", {many, integers({}, {2}), filled(DType::u8, {2})}},
      {"NonZero", {many}},
      {"Unique", {filled(DType::u8, {kSome}, 1)}, {}, 4},
      {"TopK", {filled(DType::u8, {kSome}), integers({1}, {2})}, {}, 2},
      {"TensorScatter",
       {filled(DType::u8, {kMany, 1}), filled(DType::u8, {kMany, 1})},
       {{"axis", int64_t{1}}}},
      {"Resize", {two, Tensor(), Tensor(), integers({1}, {kMany})}},
      {"Resize",
       {floats({2}, {1, 2}), Tensor(), Tensor(), integers({1}, {kMany})},
       {{"mode", "linear"}}},
      {"Einsum", {filled(DType::f32, {1024}), filled(DType::f32, {2048})}, {{"equation", "a,b->"}}},
      {"Conv", {filled(DType::f32, {1, 1, 1 << 20}), filled(DType::f32, {1, 1, 1 << 20})}},
      {"NegativeLogLikelihoodLoss", {filled(DType::f16, {kMany, 1}), filled(DType::i32, {kMany})}},
      {"ReduceSum", {filled(DType::f16, {64, 1 << 16}), integers({1}, {1})}},
      {"Softmax", {filled(DType::f16, {64, 1 << 16})}},
      {"Attention",
       {filled(DType::f32, {1, 1, 512, 1}), filled(DType::f32, {1, 1, 16, 1}),
        filled(DType::f32, {1, 1, 16, 1024})},
       {},
       4},
      {"RotaryEmbedding",
       {filled(DType::f16, {1, 1, kSome, 2}), filled(DType::f16, {1, kSome, 1}),
        filled(DType::f16, {1, kSome, 1})}},
      {"LSTM",
       {filled(DType::f32, {kSome, 1, 1}), filled(DType::f32, {1, 32, 1}),
        filled(DType::f32, {1, 32, 8})},
       {},
       3},
      {"AffineGrid", {filled(DType::f32, {1, 2, 3}), integers({4}, {1, 1, 512, 512})}},
      {"Col2Im",
       {floats({1, 1, 1}, {1}), integers({1}, {1 << 20}), integers({1}, {1})},
       {{"strides", std::vector<int64_t>{1 << 20}}}},
      {"RoiAlign",
       {floats({1, 1, 1, 1}, {1}), floats({1, 4}, {0, 0, 1, 1}), integers({1}, {0})},
       {{"output_height", int64_t{512}}, {"output_width", int64_t{512}}}},
      {"NonMaxSuppression",
       {filled(DType::f32, {1, 1024, 4}), filled(DType::f32, {1, 16, 1024}),
        integers({1}, {kMany})}},
      {"DFT", {floats({1, 2, 1}, {1, 2}), integers({}, {kSome})}},
      {"HannWindow", {integers({}, {kSome})}},
      {"MelWeightMatrix",
       {integers({}, {64}), integers({}, {1 << 14}), integers({}, {16000}), floats({}, {0}),
        floats({}, {8000})}},
      {"TfIdfVectorizer",
       {integers({1}, {1})},
       {{"mode", "TF"},
        {"min_gram_length", int64_t{1}},
        {"max_gram_length", int64_t{1}},
        {"max_skip_count", int64_t{0}},
        {"ngram_counts", std::vector<int64_t>{0}},
        {"ngram_indexes", std::vector<int64_t>{kMany}},
        {"pool_int64s", std::vector<int64_t>{1}}}},
  };
}

TEST(Scratch, DoesNotGrowWithOutputsOrAttributes) {
  const int threads = thread_count();
  set_thread_count(4);  // each has its own
  for (const Case& c : cases()) {
    int64_t operands = 0;
    for (const Tensor& t : c.inputs)
      operands += t.defined() ? static_cast<int64_t>(t.byte_size()) : 0;
    const int64_t before = g_live;
    g_peak = before;
    const Result<Tensors> y = testing::evaluate(c.op, c.inputs, c.attributes, c.outputs);
    const int64_t scratch = g_peak - before;
    EXPECT_TRUE(y.ok()) << c.op << ": " << y.status().message();
    EXPECT_LE(scratch, 2 * operands + (1 << 18)) << c.op;
  }
  set_thread_count(threads);
}

}  // namespace
}  // namespace verbatim
#endif
