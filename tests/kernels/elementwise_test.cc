// Activations, arithmetic and rotary embedding against the reference.
#include "kernels/compare.h"

#include <bit>
#include <cstring>

#include <verbatim/core/parallel.h>

namespace verbatim::test {
namespace {

class ElementwiseTest : public OnBackend {};
INSTANTIATE_TEST_SUITE_P(Backends, ElementwiseTest, ::testing::ValuesIn(vector_backends()),
                         [](const auto& info) { return info.param; });

std::vector<Node> unary_nodes() {
  return {node_of("", "Exp"),   node_of("", "Erf"),
          node_of("", "Tanh"),  node_of("", "Sigmoid"),
          node_of("", "Swish"), node_of("", "Swish", {{"alpha", 1.702f}}),
          node_of("", "Gelu"),  node_of("", "Gelu", {{"approximate", std::string("tanh")}}),
          node_of("", "Relu"),  node_of("", "LeakyRelu"),
          node_of("", "Sqrt"),  node_of("", "LeakyRelu", {{"alpha", -0.5f}})};
}

TEST_P(ElementwiseTest, Unary) {
  for (const Node& node : unary_nodes())
    expect_reference(*backend_, 200, [&](Random& r) {
      return Case{node, {numbers(r, any_type(r), {r.between(0, 300)}, any_fill(r))}, {}};
    });
}

// Every code of both 16-bit types.
TEST_P(ElementwiseTest, UnaryOf16Bits) {
  for (const DType type : {DType::bf16, DType::f16}) {
    Tensor x = *Tensor::allocate(type, Shape{1 << 16});
    for (int64_t i = 0; i < x.elements(); ++i) {
      const auto code = static_cast<uint16_t>(i);
      std::memcpy(x.mutable_bytes().data() + 2 * i, &code, sizeof code);
    }
    for (const Node& node : unary_nodes()) expect_reference(*backend_, {node, {x}, {}});
    for (const DType to : {DType::f32, DType::bf16, DType::f16})
      expect_reference(*backend_,
                       {node_of("", "Cast", {{"to", static_cast<int64_t>(to)}}), {x}, {}});
  }
}

TEST_P(ElementwiseTest, Cast) {
  expect_reference(*backend_, 1000, [](Random& r) {
    const Tensor x = numbers(r, any_type(r), {r.between(0, 300)}, any_fill(r));
    const DType to = r.chance(10) ? DType::i32 : any_type(r);
    if (r.chance(20))
      return Case{node_of("", "CastLike"), {x, numbers(r, any_type(r), {}, Fill::ordinary)}, {}};
    Attributes attributes{{"to", static_cast<int64_t>(to)}};
    if (r.chance(20)) attributes.set("saturate", int64_t{1});
    if (r.chance(5)) attributes.set("round_mode", std::string("wrong"));
    return Case{node_of("", "Cast", attributes), {x}, {}};
  });
}

// Every 2053rd bit pattern of binary32: 2 million arguments for each function, all exponents.
TEST_P(ElementwiseTest, UnaryEverywhere) {
  constexpr uint32_t kStep = 2053;
  constexpr int64_t kChunk = 1 << 18;
  set_thread_count(2);
  for (const Node& node : unary_nodes()) {
    SCOPED_TRACE(node.title());
    for (uint64_t first = 0; first <= UINT32_MAX && !HasFailure();
         first += uint64_t{kChunk} * kStep) {
      Tensor x = *Tensor::allocate(DType::f32, Shape{kChunk});
      for (int64_t i = 0; i < kChunk; ++i)
        x.mutable_data<float>()[i] =
            std::bit_cast<float>(static_cast<uint32_t>(first + static_cast<uint64_t>(i) * kStep));
      const Tensors want = *evaluate_reference(node, Tensors{x}),
                    have = *run(node, Tensors{x});
      if (identical(want[0], have[0])) continue;
      for (int64_t i = 0; i < kChunk; ++i)
        ASSERT_EQ(std::bit_cast<uint32_t>(want[0].data<float>()[i]),
                  std::bit_cast<uint32_t>(have[0].data<float>()[i]))
            << "of " << x.data<float>()[i];
    }
  }
}

TEST_P(ElementwiseTest, Binary) {
  expect_reference(*backend_, 1200, [](Random& r) {
    const int64_t n = r.between(0, 40), m = r.between(0, 6);
    const auto shape = [&] {
      switch (r.below(10)) {
        case 0:
          return Shape{};
        case 1:
          return Shape{n};
        case 2:
          return Shape{1, n};
        case 3:
          return Shape{m, 1};
        case 4:
          return Shape{1, 1, 1};
        case 5:
          return Shape{3, m, n};
        case 6:
          return Shape{3, 1, n};
        case 7:
          return Shape{3, 1, 1};
        default:
          return Shape{m, n};
      }
    };
    const DType type = any_type(r);
    const Fill fill = any_fill(r);
    return Case{node_of("", r.pick<const char*>({"Add", "Sub", "Mul", "Div"})),
                {numbers(r, type, shape(), fill), numbers(r, type, shape(), fill)},
                {}};
  });
}

TEST_P(ElementwiseTest, RotaryEmbedding) {
  expect_reference(*backend_, 1000, [](Random& r) {
    const int64_t heads = r.between(1, 3), half = r.between(0, 20),
                  size = 2 * half + r.between(0, 5);
    const int64_t length = r.between(0, 5);
    const Fill fill = any_fill(r);
    Attributes attributes{{"heads", heads}};
    if (r.chance(20)) attributes.set("interleaved", int64_t{1});
    return Case{node_of("verbatim", "RotaryEmbedding", attributes),
                {numbers(r, any_type(r), {2, length, heads * size}, fill),
                 floats(r, {length, half}, fill), floats(r, {length, half}, fill)},
                {}};
  });
}

}  // namespace
}  // namespace verbatim::test
