// Linear, MatMul and Gemm: every backend gives the reference's bits, for every shape and value.
#include "kernels/compare.h"

#include <cstring>

namespace verbatim::test {
namespace {

class ProductTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, ProductTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

// Rows and columns on both sides of every tile size; K on both sides of the block of 512.
int64_t some_rows(Random& r) {
  return r.chance(50) ? r.between(1, 16)
                      : r.pick<int64_t>({0, 1, 17, 29, 61, 95, 97, 130, 191, 192, 193});
}
int64_t some_columns(Random& r) {
  return r.chance(50) ? r.between(1, 40) : r.pick<int64_t>({0, 1, 48, 63, 64, 65, 257, 300});
}
int64_t some_k(Random& r) {
  return r.chance(70) ? r.between(0, 40) : r.pick<int64_t>({511, 512, 513, 1024, 1030, 1600});
}

Case some_linear(Random& r, DType type) {
  const int64_t m = some_rows(r), n = some_columns(r), k = some_k(r);
  const Fill fill = any_fill(r);
  Case c{node_of("verbatim", "Linear"), {}, {1}};
  c.inputs.push_back(numbers(r, type,
                             r.chance(30)             ? Shape{2, m, k}
                             : m == 1 && r.chance(50) ? Shape{k}
                                                      : Shape{m, k},
                             fill));
  c.inputs.push_back(numbers(r, type, {n, k}, fill));
  if (r.chance(70)) c.inputs.push_back(numbers(r, type, {n}, fill));
  return c;
}

Case some_matmul(Random& r, DType type) {
  const int64_t m = some_rows(r), n = some_columns(r), k = some_k(r);
  const Fill fill = any_fill(r);
  const auto tensor = [&](int64_t rows, int64_t columns) {
    switch (r.below(5)) {
      case 0:
        return numbers(r, type, {2, rows, columns}, fill);
      case 1:
        return numbers(r, type, {3, 1, rows, columns}, fill);
      case 2:
        return numbers(r, type, {1, 2, rows, columns}, fill);
      default:
        return numbers(r, type, {rows, columns}, fill);
    }
  };
  const Tensor a = tensor(m, k), b = r.chance(3) ? numbers(r, type, {k}, fill) : tensor(k, n);
  return Case{node_of("", "MatMul"), {a, b}, {1}};
}

Case gemm_of(Random& r, DType type, int64_t m, int64_t n, int64_t k) {
  const Fill fill = any_fill(r);
  const bool a_turned = r.chance(50), b_turned = r.chance(50);
  Attributes attributes;
  if (r.chance(50)) attributes.set("alpha", number(r, fill));
  if (r.chance(50)) attributes.set("beta", number(r, fill));
  attributes.set("transA", int64_t{a_turned});
  attributes.set("transB", int64_t{b_turned});
  Case c{node_of("", "Gemm", attributes), {}, {1}};
  c.inputs.push_back(numbers(r, type, a_turned ? Shape{k, m} : Shape{m, k}, fill));
  c.inputs.push_back(numbers(r, type, b_turned ? Shape{n, k} : Shape{k, n}, fill));
  switch (r.below(6)) {
    case 0:
      break;
    case 1:
      c.inputs.push_back(numbers(r, type, {}, fill));
      break;
    case 2:
      c.inputs.push_back(numbers(r, type, {n}, fill));
      break;
    case 3:
      c.inputs.push_back(numbers(r, type, {m, 1}, fill));
      break;
    default:
      c.inputs.push_back(numbers(r, type, {m, n}, fill));
  }
  return c;
}

Case some_gemm(Random& r, DType type) {
  const int64_t m = some_rows(r), n = some_columns(r), k = some_k(r);
  return gemm_of(r, type, m, n, k);
}
// As large as a GPU's largest tiles, in whole words and not.
Case some_large_gemm(Random& r, DType type) {
  const int64_t m = r.pick<int64_t>({64, 243, 256}), n = r.pick<int64_t>({249, 256, 500}),
                k = r.pick<int64_t>({1, 8, 13, 16, 29, 56, 520, 1047});
  return gemm_of(r, type, m, n, k);
}

TEST_P(ProductTest, Linear) {
  expect_reference(*backend_, 400, [](Random& r) { return some_linear(r, DType::f32); });
}
TEST_P(ProductTest, MatMul) {
  expect_reference(*backend_, 400, [](Random& r) { return some_matmul(r, DType::f32); });
}
TEST_P(ProductTest, Gemm) {
  expect_reference(*backend_, 400, [](Random& r) { return some_gemm(r, DType::f32); });
}

TEST_P(ProductTest, LargeGemm) {
  expect_reference(*backend_, 48, [](Random& r) { return some_large_gemm(r, DType::f32); });
}

DType some_16_bits(Random& r) { return r.pick({DType::bf16, DType::f16}); }

TEST_P(ProductTest, LinearOf16Bits) {
  expect_reference(*backend_, 400, [](Random& r) { return some_linear(r, some_16_bits(r)); });
}
TEST_P(ProductTest, MatMulOf16Bits) {
  expect_reference(*backend_, 400, [](Random& r) { return some_matmul(r, some_16_bits(r)); });
}
TEST_P(ProductTest, GemmOf16Bits) {
  expect_reference(*backend_, 400, [](Random& r) { return some_gemm(r, some_16_bits(r)); });
}

TEST_P(ProductTest, LargeGemmOf16Bits) {
  expect_reference(*backend_, 24, [](Random& r) { return some_large_gemm(r, some_16_bits(r)); });
}

// A row alone has the bits that it has among others: what a batch must not change.
TEST_P(ProductTest, RowAlone) {
  Random r(1);
  constexpr int64_t kRows = 37, kSize = 700;
  const Tensor x = floats(r, {kRows, kSize}, Fill::ordinary),
               w = floats(r, {50, kSize}, Fill::ordinary);
  const Node node = node_of("verbatim", "Linear");
  const Tensors all = *run(node, Tensors{x, w});
  for (int64_t i = 0; i < kRows; ++i) {
    const Tensor row = *Tensor::from<float>({1, kSize}, x.data<float>().subspan(i * kSize, kSize));
    const Tensors alone = *run(node, Tensors{row, w});
    EXPECT_EQ(std::memcmp(alone[0].bytes().data(), all[0].bytes().data() + i * 50 * 4, 50 * 4), 0)
        << "row " << i;
  }
}

// Shapes and types that do not fit are the reference's errors, word for word.
TEST_P(ProductTest, Errors) {
  Random r(1);
  const auto f = [&](const Shape& s) { return floats(r, s, Fill::ordinary); };
  expect_reference(*backend_, {node_of("verbatim", "Linear"), {f({2, 3}), f({4, 5})}, {}});
  expect_reference(*backend_, {node_of("verbatim", "Linear"), {f({2, 3}), f({4, 3}), f({3})}, {}});
  expect_reference(*backend_, {node_of("", "MatMul"), {f({2, 3}), f({4, 5})}, {}});
  expect_reference(*backend_, {node_of("", "MatMul"), {f({2, 2, 3}), f({3, 3, 5})}, {}});
  expect_reference(*backend_, {node_of("", "Gemm"), {f({2, 3}), f({3, 5}), f({4})}, {}});
  expect_reference(*backend_, {node_of("", "Gemm"), {f({2, 3, 1}), f({3, 5})}, {}});
  const Tensor half = numbers(r, DType::f16, {4, 3}, Fill::ordinary);
  expect_reference(*backend_, {node_of("verbatim", "Linear"), {f({2, 3}), half}, {1}});
}

}  // namespace
}  // namespace verbatim::test
