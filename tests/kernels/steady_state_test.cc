// In steady state a run asks the system for no tensor and no scratch. Steady state: the same graph
// has run on the same shapes before, and nothing else ran since. Counted by replacing operator new.
// What is left is bookkeeping (lists of tensors, owners of buffers), held to a small bound for each
// node.
#include "kernels/compare.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include <verbatim/core/buffers.h>
#include <verbatim/core/parallel.h>
#include <verbatim/repops/executor.h>
#include <verbatim/repops/semantics.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define VERBATIM_COUNTED 0  // the sanitizers' own operator new is to stay
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define VERBATIM_COUNTED 0
#endif
#endif
#ifndef VERBATIM_COUNTED
#define VERBATIM_COUNTED 1
#endif

#if VERBATIM_COUNTED
namespace {

struct Allocations {
  std::atomic<int64_t> calls{0}, bytes{0}, largest{0};
  void count(size_t size) {
    const auto n = static_cast<int64_t>(size);
    ++calls;
    bytes += n;
    for (int64_t most = largest; n > most && !largest.compare_exchange_weak(most, n);) {
    }
  }
  void clear() { calls = bytes = largest = 0; }
};
// Tensors take aligned memory (core/buffers.h); containers take the other.
Allocations g_aligned, g_plain;

// Not inlined below: GCC would take free() for the wrong partner of new.
void* checked(void* p) { return p != nullptr ? p : throw std::bad_alloc(); }

}  // namespace

[[gnu::noinline]] void* operator new(size_t size) {
  g_plain.count(size);
  return checked(std::malloc(std::max<size_t>(size, 1)));
}
[[gnu::noinline]] void* operator new(size_t size, std::align_val_t alignment) {
  g_aligned.count(size);
  const auto a = static_cast<size_t>(alignment);
  return checked(std::aligned_alloc(a, (std::max<size_t>(size, 1) + a - 1) / a * a));
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }

namespace verbatim::test {
namespace {

class SteadyStateTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, SteadyStateTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

constexpr int64_t kHidden = 96;

struct Maker {
  Random random{1};
  GraphBuilder b;
  ValueId weight(const Shape& shape) {
    return b.constant("w" + std::to_string(count_++), floats(random, shape, Fill::ordinary));
  }
  ValueId onnx(std::string_view op, std::vector<ValueId> in, Attributes a = {}) {
    return b.add(op, "", std::move(in), std::move(a));
  }
  ValueId own(std::string_view op, std::vector<ValueId> in, Attributes a = {}) {
    return b.add(op, kVerbatimDomain, std::move(in), std::move(a));
  }
  ValueId linear(ValueId x, int64_t in, int64_t out) {
    return own("Linear", {x, weight(Shape{out, in}), weight(Shape{out})});
  }

 private:
  int count_ = 0;
};

// A layer of a transformer with a Softmax and a MatMul after it.
Graph layer() {
  Maker m;
  const ValueId input = m.b.input("x", DType::f32, {-1, -1, kHidden});
  const ValueId attention =
      m.own("Attention",
            {m.linear(input, kHidden, kHidden), m.linear(input, kHidden, kHidden),
             m.linear(input, kHidden, kHidden)},
            {{"heads", int64_t{4}}, {"scale", 0.2f}});
  ValueId x = m.onnx("Add", {input, m.linear(attention, kHidden, kHidden)});
  x = m.onnx("LayerNormalization", {x, m.weight(Shape{kHidden}), m.weight(Shape{kHidden})});
  const ValueId wide = m.onnx("Gelu", {m.linear(x, kHidden, 4 * kHidden)});
  x = m.onnx("Add", {x, m.linear(wide, 4 * kHidden, kHidden)});
  x = m.onnx("RMSNormalization", {x, m.weight(Shape{kHidden})});
  const ValueId mixed = m.onnx("MatMul", {m.onnx("Softmax", {x}), m.weight(Shape{kHidden, 8})});
  m.b.output("y", m.onnx("Sigmoid", {mixed}));
  return *m.b.finish();
}

// One thread: with several, which of them has not yet needed its own scratch is chance.
TEST_P(SteadyStateTest, ARunTakesNothingFromTheSystem) {
  const int threads = thread_count();
  set_thread_count(1);
  const Graph graph = layer();
  const Executor executor = *Executor::create(graph, *backend_);
  Random random(2);
  for (const Shape& shape : {Shape{2, 70, kHidden}, Shape{1, 1, kHidden}}) {
    const Tensors inputs = {floats(random, shape, Fill::ordinary)};
    const auto run = [&] { return executor.run_step(0, inputs).ok(); };
    ASSERT_TRUE(run() && run());
    g_aligned.clear();
    g_plain.clear();
    const uint64_t before = buffer_statistics().from_system;
    const bool ok = run();
    const int64_t aligned = g_aligned.calls, calls = g_plain.calls, bytes = g_plain.bytes,
                  largest = g_plain.largest;
    ASSERT_TRUE(ok);
    const auto nodes = static_cast<int64_t>(graph.nodes.size());
    SCOPED_TRACE(shape.to_string() + ": " + std::to_string(calls) + " allocations of " +
                 std::to_string(bytes) + " bytes for " + std::to_string(nodes) +
                 " nodes, the largest " + std::to_string(largest));
    RecordProperty("allocations_per_node", std::to_string(calls / nodes));
    EXPECT_EQ(buffer_statistics().from_system, before);
    EXPECT_EQ(aligned, 0);
    // Lists of tensors, and for a GPU those of where operands lie.
    EXPECT_LE(calls, (backend_->name() == "cuda" ? 10 : 4) * nodes);
    EXPECT_LE(largest, 4096);
  }
  set_thread_count(threads);
}

}  // namespace
}  // namespace verbatim::test
#endif
