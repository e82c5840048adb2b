// Products as tensor cores compute them: every member and type, against the definition.
#include <algorithm>
#include <initializer_list>

#include <verbatim/repops/semantics.h>

#include "kernels/compare.h"

namespace verbatim::test {
namespace {

class TensorCoreTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, TensorCoreTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

// Codes of numbers about 1, of a few exponents, of any exponent, or any codes at all: subnormals,
// infinities and NaNs, whose products only the slow path can do. few_tiny and most_tiny: numbers
// about 1, and others so far below that their products are less than a unit, or are not where a
// group has no others.
enum class Codes { ordinary, spread, wide, any, few_tiny, most_tiny };
uint16_t code_of(Random& r, DType type, Codes codes) {
  if (codes == Codes::any || r.chance(1)) return static_cast<uint16_t>(r.next());
  if (r.chance(10)) return r.chance(50) ? 0 : 0x8000;
  const float sign = r.chance(50) ? -1.0f : 1.0f;
  const int width = codes == Codes::wide ? 60 : codes == Codes::spread ? 13 : 3;
  float x = sign * (1.0f + static_cast<float>(r.below(128)) / 128.0f);
  for (int64_t e = r.between(-width, width); e != 0; e += e < 0 ? 1 : -1) x *= e < 0 ? 0.5f : 2.0f;
  if (codes == Codes::few_tiny ? r.chance(5) : codes == Codes::most_tiny && r.chance(95))
    x *= 0x1p-50f;
  return type == DType::bf16 ? bfloat16_from_float(x) : half_from_float(x);
}
Tensor codes(Random& r, DType type, const Shape& shape, Codes kind) {
  Tensor t = *Tensor::allocate(type, shape);
  auto* bytes = reinterpret_cast<uint8_t*>(t.mutable_bytes().data());
  for (int64_t i = 0; i < t.elements(); ++i) {
    if (size_of(type) == 1) {
      bytes[i] = static_cast<uint8_t>(r.next());
      if (kind != Codes::any && (bytes[i] & 0x7F) >= 0x7C) bytes[i] ^= 0x40;  // finite
    } else {
      reinterpret_cast<uint16_t*>(bytes)[i] = code_of(r, type, kind);
    }
  }
  return t;
}

Case some_product(Random& r, int64_t m, int64_t n, int64_t k) {
  const bool float8 = r.chance(40);
  const DType a =
      float8 ? r.pick({DType::f8e4m3, DType::f8e5m2}) : r.pick({DType::bf16, DType::f16});
  const DType b = float8 ? r.pick({DType::f8e4m3, DType::f8e5m2}) : a;
  const Codes kind = r.pick(
      {Codes::ordinary, Codes::spread, Codes::wide, Codes::any, Codes::few_tiny, Codes::most_tiny});
  const std::string member =
      float8 ? r.pick({"sm90", "sm90_mma", "sm89"}) : r.pick({"sm90", "sm89", "sm80"});
  Attributes attributes = {{"member", member}};
  if (float8 && r.chance(40)) attributes.set("precise", int64_t{1});
  if (k > 300 && r.chance(40)) attributes.set("split", int64_t{2});
  if (r.chance(30))
    attributes.set("output", static_cast<int64_t>(r.pick({DType::bf16, DType::f16})));
  const bool batched = r.chance(30) && m % 2 == 0;
  const Shape x = batched ? Shape{2, m / 2, k} : Shape{m, k},
              rows = batched ? Shape{2, m / 2} : Shape{m};
  Case c{node_of("verbatim", "TensorCoreLinear", attributes),
         {codes(r, a, x, kind), codes(r, b, {n, k}, kind)},
         {1}};
  if (r.chance(40)) c.inputs.push_back(floats(r, {n}, Fill::ordinary));
  if (r.chance(20)) {
    c.inputs.resize(3);
    c.inputs.push_back(floats(r, rows, Fill::ordinary));
    c.inputs.push_back(floats(r, {n}, Fill::ordinary));
  }
  return c;
}

TEST_P(TensorCoreTest, Product) {
  expect_reference(*backend_, 1500, [](Random& r) {
    return some_product(r, r.between(0, 40), r.between(0, 40), r.between(0, r.pick({20, 70, 700})));
  });
}

struct Size {
  int64_t m, n, k, split;
  DType a, b;
  bool precise = false;
};
constexpr DType bf16 = DType::bf16, f16 = DType::f16, e4m3 = DType::f8e4m3, e5m2 = DType::f8e5m2;

// With a bias and, every other one, results of 16 bits; on a GPU's device, and not on the host.
void expect_products(Backend& backend, std::initializer_list<Size> sizes) {
  int seed = 0;
  for (const Size& s : sizes) {
    Random r(static_cast<uint64_t>(seed++));
    Attributes attributes = {{"split", s.split}};
    if (s.precise) attributes.set("precise", int64_t{1});
    if (seed % 2 == 0) attributes.set("output", static_cast<int64_t>(seed % 4 == 0 ? f16 : bf16));
    // Of many codes of any kind all sums are NaN.
    const Codes kind = s.k < 64 ? Codes::any : r.pick({Codes::spread, Codes::few_tiny});
    const Case c{node_of("verbatim", "TensorCoreLinear", attributes),
                 {codes(r, s.a, {s.m, s.k}, kind), codes(r, s.b, {s.n, s.k}, kind),
                  floats(r, {s.n}, Fill::ordinary)},
                 {1}};
    expect_reference(backend, c);
    const bool of_16_bits = s.a == bf16 || s.a == f16;
    if (has_warp_groups(backend) || (of_16_bits && backend.name() == "cuda")) {
      EXPECT_NE((*backend.run(c.node, c.inputs))[0].device(), nullptr) << c.node.title();
    }
  }
}

// Several blocks of results for each of a GPU's multiprocessors, wide ones and narrow ones, of more
// steps than a ring of tiles has, with edges that are not whole; K whole and cut.
TEST_P(TensorCoreTest, BlocksOfManyResults) {
  expect_products(*backend_, {{300, 520, 328, 1, bf16, bf16},
                              {130, 264, 1000, 1, f16, f16},
                              {70, 131, 712, 2, bf16, bf16},
                              {65, 9, 8, 1, f16, f16},
                              {140, 260, 656, 1, e4m3, e5m2},
                              {5, 136, 400, 1, e5m2, e5m2},
                              {131, 70, 528, 1, e4m3, e4m3, true},
                              {1, 30, 400, 2, e5m2, e4m3}});
}

// Few rows, past which a GPU streams the weights: each number of tiles of rows; chains, slices and
// turns that end anywhere in its ring of tiles.
TEST_P(TensorCoreTest, FewRows) {
  expect_products(*backend_, {{1, 20, 4360, 1, bf16, bf16},
                              {8, 440, 72, 1, f16, f16},
                              {10, 100, 712, 3, bf16, bf16},
                              {17, 460, 600, 1, f16, f16},
                              {33, 300, 328, 2, bf16, bf16},
                              {64, 9, 8, 1, f16, f16}});
}

// Sixteen greatest terms of one sign and an accumulator of their exponent: more than an int32
// holds.
TEST_P(TensorCoreTest, SumsBeyondAnInt32) {
  for (const DType type : {DType::bf16, DType::f16}) {
    Tensor a = *Tensor::zeros(type, {3, 64}), b = *Tensor::zeros(type, {20, 64});
    const uint16_t greatest = 0x3FFF, one = type == DType::bf16 ? 0x3F80 : 0x3C00;  // just below 2
    for (Tensor* t : {&a, &b}) {
      auto* codes = reinterpret_cast<uint16_t*>(t->mutable_bytes().data());
      for (int64_t row = 0; row < t->dim(0); ++row) {
        codes[row * 64] = t == &a ? greatest : one;
        std::fill_n(codes + row * 64 + 16, 16, greatest);
      }
    }
    expect_reference(*backend_, Case{node_of("verbatim", "TensorCoreLinear"), {a, b}, {}});
  }
}

}  // namespace
}  // namespace verbatim::test
