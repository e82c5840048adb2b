// Operators that move elements: shapes, clamping, hostile sizes, and indexed reads and writes.
#include "repops/op_support.h"

namespace verbatim::testing {
namespace {

Tensor iota(const std::vector<int64_t>& dims) {
  int64_t n = 1;
  for (int64_t d : dims) n *= d;
  std::vector<float> v;
  for (int64_t i = 0; i < n; ++i) v.push_back(static_cast<float>(i));
  return floats(dims, v);
}

TEST(Movement, ReshapeInfersAndRefuses) {
  const Tensor x = iota({2, 6});
  expect_output(evaluate("Reshape", {x, integers({3}, {0, -1, 2})}), iota({2, 3, 2}));
  expect_error(evaluate("Reshape", {x, integers({2}, {-1, -1})}), StatusCode::bad_input,
               "two dimensions");
  expect_error(evaluate("Reshape", {x, integers({2}, {-1, 5})}), StatusCode::bad_input,
               "cannot infer");
  expect_error(evaluate("Reshape", {x, integers({2}, {int64_t{1} << 40, int64_t{1} << 40})}),
               StatusCode::limit, "overflows");
  expect_output(
      evaluate("Reshape", {iota({0, 3}), integers({2}, {3, 0})}, {{"allowzero", int64_t{1}}}),
      iota({3, 0}));
}

TEST(Movement, TransposeAndConcatAndSplit) {
  expect_output(evaluate("Transpose", {iota({2, 3})}), floats({3, 2}, {0, 3, 1, 4, 2, 5}));
  expect_error(evaluate("Transpose", {iota({2, 3})}, {{"perm", std::vector<int64_t>{0, 0}}}),
               StatusCode::bad_input, "twice");
  const Tensor joined = floats({2, 3}, {0, 1, 9, 2, 3, 8});
  expect_output(evaluate("Concat", {iota({2, 2}), floats({2, 1}, {9, 8})}, {{"axis", int64_t{-1}}}),
                joined);
  const Result<Tensors> parts =
      evaluate("Split", {joined, integers({2}, {2, 1})}, {{"axis", int64_t{1}}}, 2);
  expect_output(parts, iota({2, 2}));
  expect_output(parts, floats({2, 1}, {9, 8}), 1);
  expect_error(evaluate("Split", {joined, integers({2}, {2, 2})}, {{"axis", int64_t{1}}}, 2),
               StatusCode::bad_input, "add up");
}

TEST(Movement, SliceClampsAsNumpy) {
  const Tensor x = iota({5});
  const auto slice = [&](int64_t start, int64_t end, int64_t step) {
    return evaluate("Slice", {x, integers({1}, {start}), integers({1}, {end}), Tensor(),
                              integers({1}, {step})});
  };
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min(),
                    kMax = std::numeric_limits<int64_t>::max();
  expect_output(slice(1, kMax, 2), floats({2}, {1, 3}));
  expect_output(slice(-1, kMin, -2), floats({3}, {4, 2, 0}));
  expect_output(slice(kMax, kMin, kMin), floats({1}, {4}));
  expect_output(slice(3, 1, 1), floats({0}, {}));
  expect_error(slice(0, 1, 0), StatusCode::bad_input, "step of 0");
}

TEST(Movement, PadModes) {
  const Tensor x = iota({3}), pads = integers({2}, {2, 4});
  const auto pad = [&](const char* mode) {
    return evaluate("Pad", {x, pads}, {{"mode", std::string(mode)}});
  };
  expect_output(pad("constant"), floats({9}, {0, 0, 0, 1, 2, 0, 0, 0, 0}));
  expect_output(pad("edge"), floats({9}, {0, 0, 0, 1, 2, 2, 2, 2, 2}));
  expect_output(pad("reflect"), floats({9}, {2, 1, 0, 1, 2, 1, 0, 1, 2}));
  expect_output(pad("wrap"), floats({9}, {1, 2, 0, 1, 2, 0, 1, 2, 0}));
  expect_output(evaluate("Pad", {x, integers({2}, {-1, 1}), floats({}, {7})}),
                floats({3}, {1, 2, 7}));
}

TEST(Movement, HostileSizesAreErrors) {
  constexpr int64_t kHuge = int64_t{1} << 60;
  expect_error(evaluate("Expand", {iota({1}), integers({1}, {kHuge})}), StatusCode::limit, "");
  expect_error(evaluate("ConstantOfShape", {integers({2}, {1 << 30, 1 << 30})}), StatusCode::limit,
               "");
  expect_error(evaluate("Tile", {iota({2}), integers({1}, {kHuge})}), StatusCode::limit, "");
  expect_error(evaluate("Pad", {iota({2}), integers({2}, {kHuge, kHuge})}), StatusCode::limit, "");
  expect_error(evaluate("Range", {integers({}, {0}), integers({}, {kHuge}), integers({}, {1})}),
               StatusCode::limit, "");
  expect_error(evaluate("OneHot", {integers({1}, {0}), integers({}, {kHuge}), floats({2}, {0, 1})}),
               StatusCode::limit, "");
  expect_error(evaluate("Unsqueeze", {iota({1}), integers({8}, {0, 1, 2, 3, 4, 5, 6, 7})}),
               StatusCode::limit, "rank");
}

// A dimension of 2^40 beside one of 0 holds no elements; nothing may loop over it.
// The greatest that Shape lets an empty tensor have (core/shape.cc).
TEST(Movement, EmptyTensorsWithLargeDimensionsAreQuick) {
  const Tensor x = floats({int64_t{1} << 20, 0}, {});
  EXPECT_TRUE(evaluate("Compress", {x, bools({0}, {})}, {{"axis", int64_t{1}}}).ok());
  EXPECT_TRUE(evaluate("Hardmax", {x}, {{"axis", int64_t{0}}}).ok());
  EXPECT_TRUE(evaluate("Gather", {x, integers({0}, {})}, {{"axis", int64_t{1}}}).ok());
  const Tensor none = floats({0, int64_t{1} << 26}, {});
  for (const char* op : {"Relu", "Softmax", "Hardmax", "Shape", "ReduceSumSquare"})
    EXPECT_TRUE(evaluate(op, {none}, {{"axis", int64_t{1}}}).ok()) << op;
  EXPECT_TRUE(evaluate("Add", {none, floats({1}, {1})}).ok());
  EXPECT_TRUE(evaluate("Softmax", {none}, {{"axis", int64_t{0}}}).ok());
  EXPECT_TRUE(evaluate("Det", {floats({0, 8192, 8192}, {})}).ok());
  expect_output(evaluate("Reshape", {floats({0, 3, 8}, {}), integers({2}, {0, -1})}),
                floats({0, 24}, {}));
  EXPECT_TRUE(evaluate("Tile", {floats({0, 1}, {}), integers({2}, {1, int64_t{1} << 26})}).ok());
}

TEST(Movement, GatherFamily) {
  const Tensor x = iota({3, 2});
  expect_output(evaluate("Gather", {x, integers({2}, {-1, 0})}), floats({2, 2}, {4, 5, 0, 1}));
  expect_error(evaluate("Gather", {x, integers({1}, {3})}), StatusCode::bad_input,
               "index 3 is outside 3");
  expect_output(evaluate("GatherElements", {x, integers({1, 2}, {2, 0})}), floats({1, 2}, {4, 1}));
  expect_output(evaluate("GatherND", {x, integers({2, 2}, {0, 1, -1, -2})}), floats({2}, {1, 4}));
  expect_error(evaluate("GatherND", {x, integers({1, 2}, {0, 2})}), StatusCode::bad_input,
               "index 2 is outside 2");
}

TEST(Movement, ScatterAppliesSourcesInAscendingOrder) {
  const Tensor zeros = floats({2}, {0, 0}), indices = integers({3}, {0, 0, 0});
  const Tensor updates = floats({3}, {1, 1e8f, -1e8f});
  expect_output(evaluate("ScatterElements", {zeros, indices, updates}), floats({2}, {-1e8f, 0}));
  // (0 + 1) + 1e8 loses the 1; any other order of the three would not.
  expect_output(
      evaluate("ScatterElements", {zeros, indices, updates}, {{"reduction", std::string("add")}}),
      floats({2}, {0, 0}));
  expect_output(evaluate("ScatterND", {zeros, integers({2, 1}, {1, 1}), floats({2}, {3, 4})},
                         {{"reduction", std::string("mul")}}),
                floats({2}, {0, 0}));
  expect_error(evaluate("ScatterND", {zeros, integers({1, 1}, {2}), floats({1}, {3})}),
               StatusCode::bad_input, "outside");
}

TEST(Movement, RangeIsStartPlusMultiples) {
  expect_output(evaluate("Range", {floats({}, {1}), floats({}, {2}), floats({}, {0.3f})}),
                floats({4}, {1, 1.0f + 1.0f * 0.3f, 1.0f + 2.0f * 0.3f, 1.0f + 3.0f * 0.3f}));
  expect_output(evaluate("Range", {integers({}, {5}), integers({}, {0}), integers({}, {-2})}),
                integers({3}, {5, 3, 1}));
  expect_error(evaluate("Range", {integers({}, {5}), integers({}, {0}), integers({}, {0})}),
               StatusCode::bad_input, "delta of 0");
}

TEST(Movement, UniqueAndNonZero) {
  const Result<Tensors> u = evaluate("Unique", {floats({5}, {2, 1, kNan, 1, kNan})}, {}, 4);
  expect_output(u, floats({3}, {1, 2, kNan}));
  expect_output(u, integers({3}, {1, 0, 2}), 1);
  expect_output(u, integers({5}, {1, 0, 2, 0, 2}), 2);
  expect_output(u, integers({3}, {2, 1, 2}), 3);
  expect_output(evaluate("NonZero", {floats({2, 2}, {-0.0f, 1, 2, 0})}),
                integers({2, 2}, {0, 1, 1, 0}));
}

}  // namespace
}  // namespace verbatim::testing
