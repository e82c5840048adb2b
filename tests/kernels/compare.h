// Comparing backends with the scalar reference, bit for bit, over generated shapes and hostile
// values.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <verbatim/kernels/backend.h>
#include <verbatim/repops/graph.h>

#include "kernels/case.h"

namespace verbatim::test {

// A generator of its own, so that a case is the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  uint64_t next();
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  bool chance(int percent) { return below(100) < percent; }
  template <class T>
  T pick(std::initializer_list<T> list) {
    return list.begin()[below(static_cast<int64_t>(list.size()))];
  }

 private:
  uint64_t state_;
};

// What fills a tensor: numbers about 1; numbers of every exponent, subnormals included; those with
// zeros of both signs, infinities and NaNs of several payloads among them.
enum class Fill { ordinary, wide, special };
Fill any_fill(Random& random);
float number(Random& random, Fill fill);
// The tensor lies at an address that is a multiple of 4 alone, and memory after its end is not
// readable, so that a kernel that assumes alignment or reads on is caught.
Tensor floats(Random& random, const Shape& shape, Fill fill);
// The same of float32, bfloat16 or float16 (a multiple of 2 alone); and one of those types.
DType any_type(Random& random);
Tensor numbers(Random& random, DType type, const Shape& shape, Fill fill);
// Such a tensor of any type, of bytes that are all `byte`.
Tensor filled(DType dtype, const Shape& shape, uint8_t byte);

// What the backend gives, on the host.
Result<Tensors> run_to_host(Backend& backend, const Node& node, std::span<const Tensor> inputs);
// What a case gives in each way that `backend` has of running it: with one thread, with three,
// and with its weights prepared. Each input lies as floats() lie, whatever its type.
std::vector<std::pair<std::string, Result<Tensors>>> every_way(Backend& backend, Case c);
// Runs the case on `backend` as it is and with its weights prepared, with one thread and with
// three. Every output must be the reference's to the bit.
void expect_reference(Backend& backend, const Case& c);

// The backends of this build, and the GPU's on an emulated GPU (kernels/cuda/emulated) where the
// build has none: its name is "cuda" in both cases.
std::vector<BackendInfo> tested_backends();
Result<std::unique_ptr<Backend>> make_tested_backend(std::string_view name);
// The backends besides the reference, as test parameters; SetUp skips those that cannot run here.
std::vector<std::string> vector_backends();
class OnBackend : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override;
  Result<Tensors> run(const Node& node, std::span<const Tensor> inputs) {
    return run_to_host(*backend_, node, inputs);
  }
  std::unique_ptr<Backend> backend_;
};
// Whether the backend runs on the emulated GPU, which takes a microsecond where a GPU takes some
// nanoseconds: tests give it a quarter of their cases, each in one way.
bool is_emulated(const Backend& backend);
// How many of `count` generated cases the backend is given: at most VERBATIM_MOST_CASES where that
// is set, for tools that make a test a hundred times slower, and at least VERBATIM_LEAST_CASES, for
// a long run on a machine that has the time.
int cases_for(const Backend& backend, int count);
// Whether it runs on a Hopper, by code for that: other GPUs leave fp8, slices and weights of few
// bits to the host (kernels/cuda/README.md).
bool has_warp_groups(const Backend& backend);
// `count` cases, made by f(random) from consecutive seeds.
template <class F>
void expect_reference(Backend& backend, int count, F&& make) {
  count = cases_for(backend, count);
  for (int seed = 0; seed < count && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(static_cast<uint64_t>(seed));
    expect_reference(backend, make(random));
  }
}

}  // namespace verbatim::test
