// Group formats, block floating point and caches of keys and values, against binary64 (Eigen).
#include <verbatim/repops/ops/grouped.h>

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <cmath>

#include <verbatim/repops/ops/number.h>

#include "support/random_tensor.h"

namespace verbatim {
namespace {

using test::node_of;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Result<Tensors> run(const char* op, std::vector<Tensor> inputs, Attributes attributes = {}) {
  return evaluate_reference(node_of(op, kVerbatimDomain, std::move(attributes)), inputs);
}
Tensors evaluate(const char* op, std::vector<Tensor> inputs, Attributes attributes = {}) {
  Result<Tensors> out = run(op, std::move(inputs), std::move(attributes));
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? *std::move(out) : Tensors(3);
}

Matrix matrix(const Tensor& t) {
  const int64_t columns = t.dim(t.rank() - 1), rows = t.elements() / columns;
  return Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
             t.data<float>().data(), rows, columns)
      .cast<double>();
}
Tensor floats(const Shape& shape, const std::vector<float>& values) {
  return *Tensor::from<float>(shape, values);
}
// About normally distributed: the sum of twelve uniform numbers.
Tensor gaussian(test::Random& random, const Shape& shape) {
  Tensor t = *Tensor::zeros(DType::f32, shape);
  for (int i = 0; i < 12; ++i)
    for (float& v : t.mutable_data<float>()) v += 0.5f * random.unit();
  return t;
}

Tensor ones(const Shape& shape) {
  Tensor t = *Tensor::allocate(DType::f32, shape);
  for (float& v : t.mutable_data<float>()) v = 1;
  return t;
}

double scale_of(const GroupedTensor& q, int64_t i) {
  return q.scales.dtype() == DType::f8e8m0
             ? double{load(q.scales.data<Float8E8M0>()[static_cast<size_t>(i)])}
             : double{load(q.scales.data<Float8E4M3>()[static_cast<size_t>(i)])};
}

// The exponent is the least that holds the group, and every element is within half a step.
TEST(GroupFormat, PowersOfTwoAreTheLeastThatFit) {
  test::Random random(1);
  for (int trial = 0; trial < 4000; ++trial) {
    const int bits = 2 + trial % 7, size = static_cast<int>(random.between(-149, 127));
    const double greatest_code = (1 << (bits - 1)) - 1;
    std::vector<float> row(5);
    for (float& v : row) v = std::ldexp(random.unit(), size);
    if (trial % 5 == 0) row[0] = std::ldexp(static_cast<float>(greatest_code), size);
    for (float& v : row)
      if (!std::isfinite(v)) v = 0x1.fffffep127f;
    const GroupedTensor q = *quantize_groups(floats({1, 5}, row), {bits, 32, DType::f8e8m0, 1});
    const double step = scale_of(q, 0);
    double greatest = 0;
    for (const float v : row) greatest = std::max(greatest, std::abs(double{v}));
    if (step < 0x1p127) {
      ASSERT_LE(greatest, greatest_code * step) << bits;
      for (size_t i = 0; i < 5; ++i)
        ASSERT_LE(std::abs(q.codes.data<int8_t>()[i] * step - row[i]), step / 2) << bits;
    }
    if (step > 0x1p-127) {
      ASSERT_GT(greatest, greatest_code * step / 2) << bits;
    }
  }
}

// e4m3 scales: a group's greatest element is near its greatest code, and every element within half
// a step of its code, or clipped where the scale was rounded down.
TEST(GroupFormat, SmallFloatScalesFollowTheGroups) {
  test::Random random(2);
  for (int trial = 0; trial < 300; ++trial) {
    Tensor x = random.floats({2, 40});
    for (int64_t i = 0; i < 80; ++i) x.mutable_data<float>()[i] *= i % 40 < 16 ? 100.0f : 1.0f;
    const GroupedTensor q = *quantize_groups(x, kNvInt4);
    ASSERT_EQ(q.scales.describe(), Tensor::zeros(DType::f8e4m3, {2, 3})->describe());
    for (int64_t i = 0; i < 80; ++i) {
      const double step = scale_of(q, i / 40 * 3 + i % 40 / 16) *
                          q.row_scales.data<float>()[static_cast<size_t>(i / 40)],
                   error = std::abs(q.codes.data<int8_t>()[i] * step - x.data<float>()[i]);
      ASSERT_LE(std::abs(q.codes.data<int8_t>()[i]), 7);
      // Clipping costs no more than e4m3's own 1/16 of the greatest element, and rounding.
      ASSERT_LE(error, std::abs(q.codes.data<int8_t>()[i]) == 7 ? 0.97 * step : 0.501 * step);
    }
  }
}

TEST(GroupFormat, ZeroAndNotFinite) {
  Tensor x = *Tensor::zeros(DType::f32, {2, 64});
  x.mutable_data<float>()[33] = NAN, x.mutable_data<float>()[64] = 1;
  const GroupedTensor mx = *quantize_groups(x, kMxInt8);
  EXPECT_EQ(mx.scales.data<Float8E8M0>()[0].bits, 0);
  EXPECT_EQ(mx.scales.data<Float8E8M0>()[1].bits, kE8M0NanBits);
  EXPECT_EQ(mx.scales.data<Float8E8M0>()[2].bits, 127 - 6);  // 64 * 2^-6 fits, 128 * 2^-7 not
  EXPECT_EQ(mx.codes.data<int8_t>()[64], 64);
  const GroupedTensor nv = *quantize_groups(x, kNvInt4), whole = *quantize_groups(x, kNvInt4, true);
  EXPECT_TRUE(std::isnan(nv.row_scales.data<float>()[0]));
  EXPECT_FALSE(std::isnan(nv.row_scales.data<float>()[1]));
  EXPECT_TRUE(std::isnan(whole.row_scales.data<float>()[1]));
  EXPECT_EQ(nv.codes.data<int8_t>()[64], 7);
  const GroupedTensor w = *quantize_groups(ones({1, 64}), kMxInt8);
  const Tensor y = evaluate("GroupedLinear", {mx.codes, mx.scales, w.codes, w.scales})[0];
  EXPECT_EQ(bits_of(y.data<float>()[0]), kNanBits);
  EXPECT_NEAR(y.data<float>()[1], 1, 0.001);
}

// Written anew, in ascending order; and within the rounding of so many additions of binary64's.
TEST(GroupedLinear, FoldsExactDotsInAscendingOrder) {
  test::Random random(3);
  for (const GroupFormat& f :
       {kMxInt8, kNvInt4, kNvInt4Rotated, GroupFormat{4, 64}, GroupFormat{5, 7}}) {
    for (const int64_t k : {0, 32, 64, 160, 1024}) {
      const GroupedTensor x = *quantize_groups(gaussian(random, {3, k}), f),
                          w = *quantize_groups(gaussian(random, {4, k}), f, true);
      const Tensor bias = random.floats({4});
      std::vector<Tensor> inputs = {x.codes,      x.scales,     w.codes, w.scales,
                                    x.row_scales, w.row_scales, bias};
      if (f.scale == DType::f8e8m0) inputs[4] = inputs[5] = Tensor();
      const Tensor y =
          evaluate("GroupedLinear", inputs, {{"group", f.group}, {"exponent", int64_t{-5}}})[0];
      const int64_t groups = (k + f.group - 1) / f.group;
      for (int64_t i = 0; i < 12; ++i) {
        const int64_t m = i / 4, n = i % 4;
        float acc = 0;
        double exact = 0, size = 0;
        for (int64_t g = 0; g < groups; ++g) {
          int64_t dot = 0;
          for (int64_t j = g * f.group; j < std::min(k, (g + 1) * f.group); ++j)
            dot += x.codes.data<int8_t>()[m * k + j] * w.codes.data<int8_t>()[n * k + j];
          const double scale = scale_of(x, m * groups + g) * scale_of(w, n * groups + g);
          acc = std::fmaf(static_cast<float>(dot), static_cast<float>(scale), acc);
          exact += static_cast<double>(dot) * scale,
              size += std::abs(static_cast<double>(dot) * scale);
        }
        ASSERT_LE(std::abs(acc - exact), 0x1p-24 * static_cast<double>(groups) * size);
        float want = acc;
        if (f.scale == DType::f8e4m3)
          want *= x.row_scales.data<float>()[m] * w.row_scales.data<float>()[n];
        want = want * 0x1p-5f + bias.data<float>()[n];
        ASSERT_EQ(bits_of(y.data<float>()[i]), bits_of(want)) << f.bits << " bits, K " << k;
      }
    }
  }
}

// Dots of 18 bits under scales of 8: where a product is rounded before it is added, some differ.
TEST(GroupedLinear, TheFoldIsFused) {
  test::Random random(10);
  int differing = 0;
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<int8_t> x(64), w(64);
    std::vector<Float8E4M3> scales, others(4, Float8E4M3{0x3F});  // 1.875
    float fused = 0, rounded_twice = 0;
    for (size_t g = 0; g < 4; ++g) {
      scales.push_back({static_cast<uint8_t>(random.between(0x30, 0x3F))});
      int dot = 0;
      for (size_t k = 16 * g; k < 16 * g + 16; ++k) {
        x[k] = static_cast<int8_t>(random.between(90, 127));
        w[k] = static_cast<int8_t>(random.between(-20, 127));
        dot += x[k] * w[k];
      }
      const float scale = load(scales.back()) * 1.875f;
      fused = std::fmaf(static_cast<float>(dot), scale, fused);
      const float product = static_cast<float>(dot) * scale;
      rounded_twice = rounded_twice + product;
    }
    differing += fused != rounded_twice;
    const Tensor y =
        evaluate("GroupedLinear",
                 {*Tensor::from<int8_t>({1, 64}, x), *Tensor::from<Float8E4M3>({1, 4}, scales),
                  *Tensor::from<int8_t>({1, 64}, w), *Tensor::from<Float8E4M3>({1, 4}, others)},
                 {{"group", int64_t{16}}})[0];
    ASSERT_EQ(y.data<float>()[0], fused) << trial;
  }
  EXPECT_GT(differing, 0);
}

// 2^24 + 1 - 2^24: from the front the 1 is lost, from the back it is not.
TEST(GroupedLinear, TheOrderIsAscending) {
  const std::vector<int8_t> x = {1, 1, 1}, w = {1, 1, -1};
  const std::vector<Float8E8M0> scales = {{127 + 24}, {127}, {127 + 24}}, unit(3, Float8E8M0{127});
  const auto product = [&](std::vector<int8_t> codes, std::vector<Float8E8M0> s) {
    return evaluate("GroupedLinear",
                    {*Tensor::from<int8_t>({1, 3}, x), *Tensor::from<Float8E8M0>({1, 3}, unit),
                     *Tensor::from<int8_t>({1, 3}, codes), *Tensor::from<Float8E8M0>({1, 3}, s)},
                    {{"group", int64_t{1}}})[0]
        .data<float>()[0];
  };
  EXPECT_EQ(product(w, scales), 0.0f);
  EXPECT_EQ(product({1, -1, 1}, {scales[0], scales[2], scales[1]}), 1.0f);
}

// OCP's files hold elements of code * 2^-6, and -128.
TEST(GroupedLinear, TakesOcpsImpliedExponentAndGreatestCode) {
  const std::vector<int8_t> codes(32, -128);
  const std::vector<Float8E8M0> one = {{127}};
  const Tensor c = *Tensor::from<int8_t>({1, 32}, codes),
               s = *Tensor::from<Float8E8M0>({1, 1}, one);
  const Tensor y = evaluate("GroupedLinear", {c, s, c, s}, {{"exponent", int64_t{-12}}})[0];
  EXPECT_EQ(y.data<float>()[0], 128.0f);
}

// The mean error relative to |A||B|, over binary64's product of what was quantised.
double error_of(const Tensor& x, const Tensor& w, const GroupFormat& f) {
  const GroupedTensor a = *quantize_groups(x, f), b = *quantize_groups(w, f, true);
  const bool rows = f.scale == DType::f8e4m3;
  const Tensor y =
      evaluate("GroupedLinear",
               {a.codes, a.scales, b.codes, b.scales, rows ? a.row_scales : Tensor(),
                rows ? b.row_scales : Tensor()},
               {{"group", f.group}, {"exponent", int64_t{f.rotation > 1 ? -5 : 0}}})[0];
  const Matrix have = matrix(y), want = matrix(x) * matrix(w).transpose(),
               size = matrix(x).cwiseAbs() * matrix(w).cwiseAbs().transpose();
  return ((have - want).cwiseAbs().array() / size.array()).mean();
}

TEST(GroupedLinear, IsAsAccurateAsItsBits) {
  test::Random random(4);
  Tensor x = gaussian(random, {16, 1024});
  const Tensor w = gaussian(random, {16, 1024});
  const double mx = error_of(x, w, kMxInt8), nv = error_of(x, w, kNvInt4);
  EXPECT_LT(mx, 6e-4);
  EXPECT_LT(nv, 5e-3);
  EXPECT_GT(nv, mx);
  // An outlier in each group of 32 leaves 4 bits little for its neighbours; rotated, all have a
  // part.
  for (int64_t i = 0; i < x.elements(); i += 32) x.mutable_data<float>()[i] *= 30;
  EXPECT_LT(error_of(x, w, kNvInt4Rotated), 0.9 * error_of(x, w, kNvInt4));
}

TEST(GroupFormat, RefusesWhatIsNone) {
  test::Random random(5);
  const Tensor x = random.floats({2, 48});
  const auto refused = [&](Attributes a) {
    return run("QuantizeGroups", {x}, std::move(a)).status().code();
  };
  EXPECT_EQ(refused({{"bits", int64_t{1}}}), StatusCode::bad_input);
  EXPECT_EQ(refused({{"bits", int64_t{1} << 32 | 8}}), StatusCode::bad_input);
  EXPECT_EQ(refused({{"group", int64_t{0}}}), StatusCode::bad_input);
  EXPECT_EQ(refused({{"group", int64_t{257}}}), StatusCode::bad_input);
  EXPECT_EQ(refused({{"rotation", int64_t{32}}}), StatusCode::bad_input);
  EXPECT_EQ(refused({{"scale_type", int64_t{1}}}), StatusCode::unsupported);
  const Tensor inputs[] = {x};
  EXPECT_EQ(
      evaluate_reference(node_of("QuantizeGroups", kVerbatimDomain, {}, 3), inputs).status().code(),
      StatusCode::bad_input);
  const GroupedTensor q = *quantize_groups(x, kMxInt8);
  EXPECT_EQ(run("GroupedLinear", {q.codes, q.scales, q.codes, q.scales}, {{"group", int64_t{64}}})
                .status()
                .code(),
            StatusCode::bad_input);
  EXPECT_EQ(
      run("GroupedLinear", {q.codes, random.floats({2, 2}), q.codes, q.scales}).status().code(),
      StatusCode::unsupported);
  EXPECT_EQ(run("DequantizeGroups", {q.codes, q.scales, random.floats({3})}).status().code(),
            StatusCode::bad_input);
  EXPECT_EQ(run("ChannelOrder", {x}, {{"heads", int64_t{3}}}).status().code(),
            StatusCode::bad_input);
  EXPECT_EQ(run("ChannelOrder", {*Tensor::zeros(DType::f32, {1 << 20, 0})},
                {{"heads", int64_t{1}}, {"repeat", int64_t{256}}})
                .status()
                .code(),
            StatusCode::limit);
}

// Dequantised codes are the values that they stand for.
TEST(GroupFormat, ComesBackAsItsValues) {
  test::Random random(6);
  const Tensor x = random.floats({3, 70});
  const GroupedTensor mx = *quantize_groups(x, kMxInt8), nv = *quantize_groups(x, kNvInt4);
  const Tensor from_mx = evaluate("DequantizeGroups", {mx.codes, mx.scales})[0],
               from_nv = evaluate("DequantizeGroups", {nv.codes, nv.scales, nv.row_scales},
                                  {{"group", int64_t{16}}})[0];
  for (int64_t i = 0; i < 210; ++i) {
    ASSERT_EQ(double{from_mx.data<float>()[i]},
              mx.codes.data<int8_t>()[i] * scale_of(mx, i / 70 * 3 + i % 70 / 32));
    const auto code =
        static_cast<float>(nv.codes.data<int8_t>()[i] * scale_of(nv, i / 70 * 5 + i % 70 / 16));
    ASSERT_EQ(from_nv.data<float>()[i], code * nv.row_scales.data<float>()[i / 70]);
  }
}

TEST(ChannelOrder, FallingNormsTiesByIndexNanLast) {
  const Tensor w = floats({6, 2}, {1, 0, 0, 3, NAN, 0, 0, 1, 2, 2, 0, -3});
  const auto order = [&](Attributes a) {
    const Tensor t = evaluate("ChannelOrder", {w}, std::move(a))[0];
    const auto data = t.data<int64_t>();
    return std::vector<int64_t>(data.begin(), data.end());
  };
  EXPECT_EQ(order({{"heads", int64_t{1}}}), (std::vector<int64_t>{1, 5, 4, 0, 3, 2}));
  EXPECT_EQ(order({{"heads", int64_t{2}}}), (std::vector<int64_t>{1, 0, 2, 5, 4, 3}));
  // Pairs (0, 3), (1, 4), (2, 5): norms 2, 17, NaN.
  EXPECT_EQ(order({{"heads", int64_t{1}}, {"pairs", int64_t{1}}}),
            (std::vector<int64_t>{1, 4, 0, 3, 2, 5}));
  EXPECT_EQ(order({{"heads", int64_t{2}}, {"repeat", int64_t{2}}}),
            (std::vector<int64_t>{1, 0, 2, 4, 3, 5, 8, 7, 6, 11, 10, 9}));
}

// Attention in binary64 of one batch entry: q [T, heads * d], k and v [T, kv_heads * d].
Matrix attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, int64_t kv_heads,
                 double scale) {
  const Matrix a = matrix(q), b = matrix(k), c = matrix(v);
  const int64_t d = a.cols() / heads;
  Matrix out(a.rows(), a.cols());
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t kv = h / (heads / kv_heads);
    Matrix s = scale * a.middleCols(h * d, d) * b.middleCols(kv * d, d).transpose();
    for (int64_t t = 0; t < s.rows(); ++t) {
      const double greatest = s.row(t).maxCoeff();
      s.row(t) = (s.row(t).array() - greatest).exp();
      s.row(t) /= s.row(t).sum();
    }
    out.middleCols(h * d, d) = s * c.middleCols(kv * d, d);
  }
  return out;
}
double relative_error(const Tensor& have, const Matrix& want) {
  return (matrix(have) - want).cwiseAbs().sum() / want.cwiseAbs().sum();
}

// A cache of int8 codes, filled token by token or at once, gives AttentionInt8's own bits, which
// are near binary64's.
TEST(KeyValueCache, Int8CodesGiveTheBitsOfInt8Attention) {
  test::Random random(7);
  const int64_t t = 300, heads = 4, kv_heads = 2, d = 24;
  const Tensor q = gaussian(random, {1, t, heads * d}), k = gaussian(random, {1, t, kv_heads * d}),
               v = gaussian(random, {1, t, kv_heads * d});
  Attributes a = {{"heads", heads}, {"kv_heads", kv_heads}, {"scale", 0.3f}};
  const Attributes of_cache = {{"heads", kv_heads}};
  const Tensors keys = evaluate("QuantizeKeys", {k}, of_cache),
                values = evaluate("QuantizeValues", {v}, of_cache);
  EXPECT_LT(relative_error(evaluate("AttentionInt8", {q, k, v}, a)[0],
                           attention(q, k, v, heads, kv_heads, 0.3)),
            0.04);
  for (const int64_t slices : {1, 2}) {
    a.set("weight_slices", slices);
    a.set("causal", int64_t{1});
    const Tensor want = evaluate("AttentionInt8", {q, k, v}, a)[0],
                 have = evaluate("AttentionInt8Cached", {q, keys[0], values[0], keys[1], values[1]},
                                 a)[0];
    EXPECT_TRUE(identical(have, want)) << slices;
  }
  // Token 5 by itself has the codes that it has among the others.
  const auto token = [&](const Tensor& x) {
    const auto all = x.data<float>();
    return floats({1, 1, kv_heads * d},
                  {all.begin() + 5 * kv_heads * d, all.begin() + 6 * kv_heads * d});
  };
  const Tensors key = evaluate("QuantizeKeys", {token(k)}, of_cache),
                value = evaluate("QuantizeValues", {token(v)}, of_cache);
  for (int64_t i = 0; i < kv_heads * d; ++i) {
    ASSERT_EQ(key[0].data<int8_t>()[i], keys[0].data<int8_t>()[5 * kv_heads * d + i]);
    ASSERT_EQ(value[0].data<int8_t>()[i], values[0].data<int8_t>()[5 * kv_heads * d + i]);
  }
  for (int64_t h = 0; h < kv_heads; ++h) {
    ASSERT_EQ(key[1].data<float>()[h], keys[1].data<float>()[5 * kv_heads + h]);
    ASSERT_EQ(value[1].data<int32_t>()[h], values[1].data<int32_t>()[5 * kv_heads + h]);
  }
}

TEST(KeyValueCache, RefusesCodesThatAreNone) {
  test::Random random(8);
  const Tensor x = random.floats({1, 3, 8});
  const Attributes a = {{"heads", int64_t{2}}, {"scale", 1.0f}};
  const Tensors keys = evaluate("QuantizeKeys", {x}, {{"heads", int64_t{2}}}),
                values = evaluate("QuantizeValues", {x}, {{"heads", int64_t{2}}});
  const auto with = [&](size_t i, const Tensor& t) {
    std::vector<Tensor> inputs = {x, keys[0], values[0], keys[1], values[1]};
    inputs[i] = t;
    return run("AttentionInt8Cached", inputs, a).status().code();
  };
  EXPECT_EQ(with(0, x), StatusCode::ok);
  Tensor codes = *Tensor::zeros(DType::i8, {1, 3, 8}),
         exponents = *Tensor::zeros(DType::i32, {1, 3, 2});
  codes.mutable_data<int8_t>()[4] = -128;
  exponents.mutable_data<int32_t>()[1] = 123;
  EXPECT_EQ(with(1, codes), StatusCode::bad_input);
  EXPECT_EQ(with(2, codes), StatusCode::bad_input);
  EXPECT_EQ(with(1, x), StatusCode::bad_input);
  EXPECT_EQ(with(3, *Tensor::zeros(DType::f32, {1, 3, 1})), StatusCode::bad_input);
  EXPECT_EQ(with(4, exponents), StatusCode::bad_input);
  EXPECT_EQ(run("QuantizeKeys", {x}, {{"heads", int64_t{3}}}).status().code(),
            StatusCode::bad_input);
}

// Keys in 4 bits by blocks of 32 channels, some channels being great: in falling order the great
// ones share a block, and the others are stored better. Attention gains less, since it is the great
// channels' error that weighs in it. The order itself changes no score.
TEST(KeyValueCache, ChannelOrderTamesBlockFloatingPoint) {
  test::Random random(9);
  const int64_t t = 100, heads = 2, d = 128, in = 48;
  const Tensor h = gaussian(random, {t, in}), v = gaussian(random, {1, t, heads * d}),
               wq = gaussian(random, {heads * d, in});
  Tensor wk = gaussian(random, {heads * d, in});
  for (int64_t c = 0; c < heads * d; ++c)
    for (int64_t i = 0; i < in; ++i) wk.mutable_data<float>()[c * in + i] *= c % 32 == 3 ? 16 : 1;
  const auto permuted = [&](const Tensor& w) {
    Node gather = node_of("Gather", "");
    const Tensor inputs[] = {w, evaluate("ChannelOrder", {wk}, {{"heads", heads}})[0]};
    return (*evaluate_reference(gather, inputs))[0];
  };
  const auto projected = [&](const Tensor& w) {
    return *evaluate("Linear", {h, w})[0].reshaped({1, t, heads * d});
  };
  const auto stored = [&](const Tensor& k) {
    const Tensors blocks = evaluate("QuantizeGroups", {k}, {{"bits", int64_t{4}}});
    return evaluate("DequantizeGroups", {blocks[0], blocks[1]})[0];
  };
  const auto key_error = [&](const Tensor& k) {
    return (matrix(stored(k)) - matrix(k)).cwiseAbs().mean();
  };
  const auto error = [&](const Tensor& q, const Tensor& k) {
    const Attributes a = {{"heads", heads}, {"scale", 0.001f}};
    return relative_error(evaluate("Attention", {q, stored(k), v}, a)[0],
                          attention(q, k, v, heads, heads, 0.001));
  };
  const Tensor q = projected(wq), k = projected(wk), q_ordered = projected(permuted(wq)),
               k_ordered = projected(permuted(wk));
  EXPECT_LT((attention(q, k, v, heads, heads, 0.001) -
             attention(q_ordered, k_ordered, v, heads, heads, 0.001))
                .cwiseAbs()
                .maxCoeff(),
            1e-12);
  EXPECT_LT(key_error(k_ordered), 0.75 * key_error(k));
  EXPECT_LT(error(q_ordered, k_ordered), 0.95 * error(q, k));
}

}  // namespace
}  // namespace verbatim
