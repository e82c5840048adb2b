// The types that are stored, moved and converted: every code of each against its definition, and
// conversions into it against the nearest of all its values.
#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "../support/random_tensor.h"
#include "op_support.h"

namespace verbatim::testing {
namespace {

// A small float from its definition: sign, exponent and fraction bits; what is not a number.
struct Format {
  DType dtype;
  int exponent_bits, fraction_bits, bias;
  enum Specials { e4m3fn, ieee, fnuz, none } specials;

  int width() const { return 1 + exponent_bits + fraction_bits; }
  int sign() const { return 1 << (width() - 1); }
  // NaN where the code is one.
  double value(int code) const {
    const int fraction = code & ((1 << fraction_bits) - 1);
    const int exponent = code >> fraction_bits & ((1 << exponent_bits) - 1);
    const int greatest = (1 << exponent_bits) - 1;
    if (specials == fnuz && code == sign()) return NAN;
    if (specials == e4m3fn && exponent == greatest && fraction == 7) return NAN;
    double v;
    if (specials == ieee && exponent == greatest)
      v = fraction == 0 ? INFINITY : NAN;
    else if (exponent == 0)
      v = std::ldexp(fraction, 1 - bias - fraction_bits);
    else
      v = std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
    return code & sign() ? -v : v;
  }
  int greatest() const {  // the code of the greatest finite value
    int code = sign() - 1;
    while (!std::isfinite(value(code))) --code;
    return code;
  }
  // What |x| is between in the format, did it go on above its greatest value, and the code below.
  int nearest(double x, bool saturate) const {
    const int negative = std::signbit(x) ? sign() : 0;
    if (std::isnan(x)) return nan();
    const int top = greatest();
    const double magnitude = std::fabs(x), next = 2 * value(top) - value(top - 1);
    int below = 0;
    while (below < top && value(below + 1) <= magnitude) ++below;
    // Twice the distance to the middle, exact: two neighbours have few bits.
    const double high = below == top ? next : value(below + 1);
    const double middle = (value(below) + high) / 2;
    int code = magnitude > middle || (magnitude == middle && below % 2 == 1) ? below + 1 : below;
    if (code > top) code = saturate || specials == none ? top : overflow();
    if (specials == fnuz && (code == 0 || code == nan())) return code;
    return negative | code;
  }
  int nan() const {
    switch (specials) {
      case e4m3fn:
        return 0x7F;
      case ieee:
        return 0x7E;
      case fnuz:
        return 0x80;
      default:
        return sign();  // there is none: -0
    }
  }
  int overflow() const { return specials == ieee ? greatest() + 1 : nan(); }
};

constexpr Format kFormats[] = {{DType::f8e4m3, 4, 3, 7, Format::e4m3fn},
                               {DType::f8e4m3fnuz, 4, 3, 8, Format::fnuz},
                               {DType::f8e5m2, 5, 2, 15, Format::ieee},
                               {DType::f8e5m2fnuz, 5, 2, 16, Format::fnuz},
                               {DType::f4e2m1, 2, 1, 1, Format::none}};

Tensor all_codes(DType dtype) {
  const int64_t count = int64_t{1} << bit_width(dtype);
  Tensor t = *Tensor::allocate(dtype, Shape{count});
  for (int64_t i = 0; i < count; ++i) t.mutable_bytes()[i] = static_cast<std::byte>(i);
  return t;
}

Tensor cast(const Tensor& x, DType to, bool saturate = true, const char* round_mode = "up") {
  const Result<Tensors> y = evaluate("Cast", {x},
                                     {{"to", static_cast<int64_t>(to)},
                                      {"saturate", static_cast<int64_t>(saturate)},
                                      {"round_mode", std::string(round_mode)}});
  EXPECT_TRUE(y.ok()) << y.status().message();
  return (*y)[0];
}

int code_at(const Tensor& t, int64_t i) { return std::to_integer<int>(t.bytes()[i]); }

template <class T>
void expect_nearest(const Format& f, const std::vector<T>& values) {
  Tensor x = *Tensor::from<T>(Shape{static_cast<int64_t>(values.size())}, values);
  for (const bool saturate : {true, false}) {
    const Tensor y = cast(x, f.dtype, saturate);
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(code_at(y, static_cast<int64_t>(i)),
                f.nearest(static_cast<double>(values[i]), saturate))
          << name_of(f.dtype) << " of " << values[i] << " saturate " << saturate;
  }
}

// The values, their middles, and their neighbours: conversion is monotone, so these decide.
template <class T>
std::vector<T> decisive(const Format& f) {
  std::vector<T> v = {0, INFINITY, NAN, static_cast<T>(1e30), std::numeric_limits<T>::denorm_min()};
  for (int code = 0; code <= f.greatest(); ++code) {
    const double low = f.value(code),
                 high = code == f.greatest() ? 2 * low - f.value(code - 1) : f.value(code + 1);
    for (const double x : {low, (low + high) / 2, high})
      for (const T y : {static_cast<T>(x), std::nextafter(static_cast<T>(x), T{0}),
                        std::nextafter(static_cast<T>(x), std::numeric_limits<T>::infinity())})
        v.push_back(y);
  }
  for (size_t i = 0, n = v.size(); i < n; ++i) v.push_back(-v[i]);
  return v;
}

TEST(SmallFloats, EveryCodeConvertsExactly) {
  for (const Format& f : kFormats)
    for (const DType to : {DType::f32, DType::f64, DType::f16}) {
      const Tensor y = cast(cast(all_codes(f.dtype), to), DType::f64);
      for (int code = 0; code < 1 << f.width(); ++code) {
        const double want = f.value(code), have = y.data<double>()[code];
        // e5m2fnuz reaches below binary16's least subnormal.
        if (to == DType::f16 && std::fabs(want) < 0x1p-24 && want != 0) continue;
        EXPECT_TRUE(std::isnan(want) ? std::isnan(have) : have == want) << name_of(f.dtype) << code;
        EXPECT_EQ(std::signbit(have) && !std::isnan(have), std::signbit(want) && !std::isnan(want));
      }
    }
}

TEST(SmallFloats, EveryCodeComesBack) {
  for (const Format& f : kFormats)
    for (const DType to : {DType::f32, DType::f64}) {
      const Tensor y = cast(cast(all_codes(f.dtype), to), f.dtype, false);
      for (int code = 0; code < 1 << f.width(); ++code)
        EXPECT_EQ(code_at(y, code), std::isnan(f.value(code)) ? f.nan() : code) << name_of(f.dtype);
    }
}

TEST(SmallFloats, RoundToTheNearestOfAllValues) {
  test::Random random(7);
  std::vector<float> any(20000);
  for (float& v : any) v = random.wild();
  for (float& v : std::span(any).first(5000)) v = random.unit() * 8;
  for (const Format& f : kFormats) {
    expect_nearest(f, decisive<float>(f));
    expect_nearest(f,
                   decisive<double>(f));  // twice rounded, the neighbours of middles would differ
    expect_nearest(f, any);
  }
}

TEST(SmallFloats, RoundEveryBinary16AndEveryInteger) {
  Tensor halves = *Tensor::allocate(DType::f16, Shape{65536});
  for (int i = 0; i < 65536; ++i) halves.mutable_data<Half>()[i] = {static_cast<uint16_t>(i)};
  const Tensor wide = cast(halves, DType::f64);
  std::vector<int32_t> integers;
  for (int32_t i = -70000; i <= 70000; ++i) integers.push_back(i);
  const Tensor x = *Tensor::from<int32_t>(Shape{static_cast<int64_t>(integers.size())}, integers);
  for (const Format& f : kFormats)
    for (const bool saturate : {true, false}) {
      const Tensor y = cast(halves, f.dtype, saturate);
      for (int i = 0; i < 65536; ++i)
        ASSERT_EQ(code_at(y, i), f.nearest(wide.data<double>()[i], saturate)) << name_of(f.dtype);
      const Tensor z = cast(x, f.dtype, saturate);
      for (size_t i = 0; i < integers.size(); ++i)
        ASSERT_EQ(code_at(z, static_cast<int64_t>(i)), f.nearest(integers[i], saturate));
    }
}

// The code of x in e8m0, or 255: by comparing with every power of two.
int scale_of(double x, bool saturate, const std::string& rounding) {
  if (std::isnan(x) || x < 0) return 255;
  const int below = saturate ? 0 : 255, above = saturate ? 254 : 255;
  if (std::isinf(x)) return above;
  if (x == 0) return below;
  int e = -1100;
  while (std::ldexp(1.0, e + 1) <= x) ++e;  // 2^e <= x < 2^(e + 1), but for the least subnormals
  const double power = std::ldexp(1.0, e);
  if (rounding == "up" && x > power) ++e;
  if (rounding == "nearest" && x >= 1.5 * power) ++e;
  return e < -127 ? below : e > 127 ? above : e + 127;
}

TEST(SmallFloats, ScalesArePowersOfTwo) {
  const Tensor wide = cast(all_codes(DType::f8e8m0), DType::f64);
  for (int code = 0; code < 255; ++code)
    EXPECT_EQ(wide.data<double>()[code], std::ldexp(1.0, code - 127));
  EXPECT_TRUE(std::isnan(wide.data<double>()[255]));

  std::vector<double> v = {0.0, -0.0, INFINITY, -INFINITY, NAN, -1.0, 1e300, 1e-300, 1e-310};
  for (int e = -151; e < 131; ++e)
    for (const double m : {1.0, 1.25, 1.5, 1.75})
      for (const double toward : {0.0, 1e308})
        for (const double x : {std::ldexp(m, e)}) {
          v.push_back(x);
          v.push_back(std::nextafter(x, toward));
        }
  std::vector<float> narrow;
  for (const double x : v) narrow.push_back(static_cast<float>(x));
  const auto size = static_cast<int64_t>(v.size());
  for (const char* rounding : {"up", "down", "nearest"})
    for (const bool saturate : {true, false}) {
      const Tensor y =
          cast(*Tensor::from<double>(Shape{size}, v), DType::f8e8m0, saturate, rounding);
      const Tensor z =
          cast(*Tensor::from<float>(Shape{size}, narrow), DType::f8e8m0, saturate, rounding);
      for (int64_t i = 0; i < size; ++i) {
        EXPECT_EQ(code_at(y, i), scale_of(v[i], saturate, rounding)) << v[i] << rounding;
        EXPECT_EQ(code_at(z, i), scale_of(narrow[i], saturate, rounding)) << narrow[i] << rounding;
      }
    }
  expect_error(evaluate("Cast", {floats({1}, {1})}, {{"to", int64_t{24}}, {"round_mode", "odd"}}),
               StatusCode::bad_input, "round_mode 'odd'");
}

struct SmallInteger {
  DType dtype;
  int64_t least, greatest;
};
constexpr SmallInteger kIntegers[] = {
    {DType::u4, 0, 15}, {DType::i4, -8, 7}, {DType::u2, 0, 3}, {DType::i2, -2, 1}};

// The value that is congruent to v, from the definition of wrapping.
int64_t wrapped(const SmallInteger& t, int64_t v) {
  const int64_t count = t.greatest - t.least + 1;
  // In parts: v - least may be beyond int64.
  return ((v % count - t.least) % count + count) % count + t.least;
}

TEST(SmallIntegers, EveryCodeIsItsValueInTwosComplement) {
  for (const SmallInteger& t : kIntegers) {
    const Tensor y = cast(all_codes(t.dtype), DType::i64), z = cast(all_codes(t.dtype), DType::f16);
    const Tensor w = cast(z, DType::f32);
    for (int64_t code = 0; code <= t.greatest - t.least; ++code) {
      EXPECT_EQ(y.data<int64_t>()[code], wrapped(t, code));
      EXPECT_EQ(w.data<float>()[code], static_cast<float>(wrapped(t, code)));
    }
    const Tensor back = cast(y, t.dtype);
    EXPECT_TRUE(identical(back, all_codes(t.dtype)));
  }
}

TEST(SmallIntegers, IntegersWrapAndFloatsTruncateFirst) {
  std::vector<int64_t> v = {INT64_MIN, INT64_MAX, int64_t{1} << 40};
  for (int64_t i = -70000; i <= 70000; ++i) v.push_back(i);
  const Tensor x = *Tensor::from<int64_t>(Shape{static_cast<int64_t>(v.size())}, v);
  for (const SmallInteger& t : kIntegers) {
    const Tensor y = cast(cast(x, t.dtype), DType::i64);
    for (size_t i = 0; i < v.size(); ++i)
      ASSERT_EQ(y.data<int64_t>()[i], wrapped(t, v[i])) << name_of(t.dtype) << v[i];
    const Tensor f = floats({8}, {7.9f, -0.9f, -8.9f, 16.5f, kNan, kInf, -kInf, 3e18f});
    const int64_t truncated[] = {7, 0, -8, 16, 0, INT64_MAX, INT64_MIN, 0};
    const Tensor z = cast(cast(f, t.dtype), DType::i64);
    for (int i = 0; i < 8; ++i)
      EXPECT_EQ(z.data<int64_t>()[i], wrapped(t, truncated[i])) << name_of(t.dtype) << i;
  }
}

TEST(SmallIntegers, QuantisersSaturateAndComeBack) {
  for (const SmallInteger& t : kIntegers) {
    std::vector<float> v;
    for (int i = -80; i <= 80; ++i) v.push_back(static_cast<float>(i) * 0.25f);
    v.push_back(kNan);
    const Tensor x = floats({static_cast<int64_t>(v.size())}, v), scale = floats({}, {0.5f});
    const Tensor zero = cast(integers({}, {1}), t.dtype);
    const Result<Tensors> y = evaluate("QuantizeLinear", {x, scale, zero});
    ASSERT_TRUE(y.ok()) << y.status().message();
    const Tensor codes = cast((*y)[0], DType::i64);
    const Result<Tensors> z = evaluate("DequantizeLinear", {(*y)[0], scale, zero});
    ASSERT_TRUE(z.ok()) << z.status().message();
    for (size_t i = 0; i < v.size(); ++i) {
      const double quotient = std::isnan(v[i]) ? 0 : std::nearbyint(v[i] / 0.5);
      const auto want = std::clamp(static_cast<int64_t>(quotient) + 1, t.least, t.greatest);
      EXPECT_EQ(codes.data<int64_t>()[i], want) << name_of(t.dtype) << v[i];
      EXPECT_EQ((*z)[0].data<float>()[i], static_cast<float>(want - 1) * 0.5f);
    }
  }
}

TEST(SmallFloats, QuantisersConvertTheQuotient) {
  for (const Format& f : kFormats) {
    const std::vector<float> v = {0.3f, -1.7f, 1000.0f, -1e9f, kInf, kNan, 2.5f};
    const Tensor x = floats({7}, v), scale = floats({1}, {0.5f});
    const Tensor zero = *Tensor::zeros(f.dtype, Shape{});
    for (const int64_t saturate : {1, 0}) {
      const Result<Tensors> y =
          evaluate("QuantizeLinear", {x, scale, zero}, {{"saturate", saturate}});
      ASSERT_TRUE(y.ok()) << y.status().message();
      for (size_t i = 0; i < v.size(); ++i)
        EXPECT_EQ(code_at((*y)[0], static_cast<int64_t>(i)),
                  f.nearest(static_cast<double>(v[i] / 0.5f), saturate != 0));
    }
    const Result<Tensors> z =
        evaluate("DequantizeLinear", {all_codes(f.dtype), cast(scale, DType::f8e8m0)},
                 {{"output_dtype", int64_t{1}}});
    ASSERT_TRUE(z.ok()) << z.status().message();
    for (int code = 0; code < 1 << f.width(); ++code)
      if (const double value = f.value(code); !std::isnan(value)) {
        EXPECT_EQ((*z)[0].data<float>()[code], static_cast<float>(value * 0.5));
      }
    Tensor one = *Tensor::zeros(f.dtype, Shape{});
    one.mutable_bytes()[0] = std::byte{1};
    expect_error(evaluate("QuantizeLinear", {x, scale, one}), StatusCode::bad_input, "zero point");
  }
}

// Moving keeps codes; computing is refused; bits are taken for another type of as many only.
TEST(SmallTypes, AreMovedAndNotComputedIn) {
  for (int n = 0; n < 64; ++n) {
    const DType dtype = dtype_from_onnx(n);
    if (!is_storage_only(dtype)) continue;
    const Tensor x = *all_codes(dtype).reshaped(Shape{2, (int64_t{1} << bit_width(dtype)) / 2});
    const Tensor turned = (*evaluate("Transpose", {x}))[0];
    EXPECT_TRUE(identical((*evaluate("Transpose", {turned}))[0], x));
    EXPECT_FALSE(identical(*turned.reshaped(x.shape()), x));
    EXPECT_TRUE(identical((*evaluate("Where", {bools({1}, {true}), x, x}))[0], x));
    expect_error(evaluate("Add", {x, x}), StatusCode::unsupported, std::string(name_of(dtype)));
    const bool narrow = is_sub_byte(dtype);
    EXPECT_EQ(evaluate("BitCast", {x}, {{"to", int64_t{2}}}).ok(), !narrow);
    EXPECT_EQ(evaluate("BitCast", {x}, {{"to", int64_t{22}}}).ok(), bit_width(dtype) == 4);
    EXPECT_EQ(evaluate("BitCast", {x}, {{"to", int64_t{26}}}).ok(), bit_width(dtype) == 2);
  }
}

}  // namespace
}  // namespace verbatim::testing
