// Family C against what GPUs computed, and against an independent statement of the rule.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <verbatim/repops/op.h>
#include <verbatim/repops/ops/number.h>
#include <verbatim/repops/ops/tensor_core.h>

#include "support/paths.h"
#include "support/random_tensor.h"

namespace verbatim {
namespace {

using namespace tensor_core;
using test::node_of;
using Codes = std::vector<uint32_t>;

struct Case {
  std::string instruction, types, group;
  Codes a, b;
  uint32_t before = 0, after = 0;
};

Codes hex_codes(const std::string& text) {
  std::istringstream in(text);
  Codes codes;
  for (std::string word; in >> word;)
    codes.push_back(static_cast<uint32_t>(std::strtoul(word.c_str(), nullptr, 16)));
  return codes;
}

std::vector<Case> golden_cases() {
  std::ifstream file(std::string(test::kTestsDir) + "/golden/tensor_core_h100.txt");
  std::vector<Case> cases;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream in(line);
    std::string a, b, before, after;
    Case c;
    for (std::string* field : {&c.instruction, &c.types, &c.group, &a, &b, &before, &after}) std::getline(in, *field, '|');
    c.a = hex_codes(a), c.b = hex_codes(b);
    c.before = hex_codes(before).at(0), c.after = hex_codes(after).at(0);
    cases.push_back(std::move(c));
  }
  return cases;
}

template <class A, class B>
uint32_t computed(const Case& c, Rule rule) {
  const bool unpacked = A::bits == 8 && c.instruction == "mma", half = c.types.ends_with(" to fp16");
  const auto before = static_cast<uint16_t>(c.before);
  const int n = static_cast<int>(c.a.size());
  if constexpr (A::bits == 8) {
    if (unpacked && half) return step_unpacked_half<A, B>(before, c.a.data(), c.b.data());
    if (unpacked) return bits_of(step_unpacked<A, B>(float_of(c.before), c.a.data(), c.b.data()));
  }
  if (half) return step_half<A, B>(rule, before, c.a.data(), c.b.data(), n);
  return bits_of(step<A, B>(rule, float_of(c.before), c.a.data(), c.b.data(), n));
}

uint32_t computed(const Case& c) {
  const std::string types = c.types.substr(0, c.types.find(" to "));
  if (types == "bf16") return computed<BFloat16Format, BFloat16Format>(c, kSm90);
  if (types == "fp16") return computed<HalfFormat, HalfFormat>(c, kSm90);
  if (types == "tf32") return computed<Tf32Format, Tf32Format>(c, kSm90Tf32);
  if (types == "e4m3") return computed<E4M3Format, E4M3Format>(c, kSm90Float8);
  if (types == "e5m2") return computed<E5M2Format, E5M2Format>(c, kSm90Float8);
  if (types == "e4m3,e5m2") return computed<E4M3Format, E5M2Format>(c, kSm90Float8);
  return computed<E5M2Format, E4M3Format>(c, kSm90Float8);
}

// The hardware's NaN has all bits set; the contract's is canonical.
uint32_t canonical_code(uint32_t code, bool half) {
  if (half) return (code & 0x7FFF) > 0x7C00 ? kHalfNanBits : code;
  return (code & 0x7FFFFFFF) > 0x7F800000 ? kNanBits : code;
}

TEST(TensorCore, EqualsTheH100OnEveryGoldenCase) {
  const std::vector<Case> cases = golden_cases();
  ASSERT_GT(cases.size(), 1000u);
  std::map<std::string, int> groups;
  for (const Case& c : cases) {
    EXPECT_EQ(computed(c), canonical_code(c.after, c.types.ends_with(" to fp16")))
        << c.instruction << " " << c.types << ", " << c.group;
    ++groups[c.instruction + c.types + c.group];
  }
  EXPECT_EQ(groups.size(), 2u * 11 * 12);  // instructions, types, classes
}

// Another chip's rule, or a rule a bit off, is not what the H100 computes: the golden cases tell them apart.
TEST(TensorCore, GoldenCasesTellRulesApart) {
  const std::vector<Case> cases = golden_cases();
  const auto differing = [&](Rule rule) {
    int n = 0;
    for (const Case& c : cases)
      if (c.types == "bf16") n += computed<BFloat16Format, BFloat16Format>(c, rule) != canonical_code(c.after, false);
    return n;
  };
  EXPECT_EQ(differing(kSm90), 0);
  for (const Rule& other : {Rule{16, 24, -133, 24}, Rule{16, 26, -133, 24}, Rule{16, 25, -133, 23}})
    EXPECT_GT(differing(other), 0) << other.fraction << " " << other.floor << " " << other.kept;
}

// --- recorded outputs of four GPUs, which the project may not carry -----------------------------------------------------------

std::vector<Codes> recorded_rows(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<Codes> rows;
  for (std::string line; std::getline(file, line);) rows.push_back(hex_codes(line));
  return rows;
}

std::vector<uint32_t> recorded_bits(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<uint32_t> values;
  for (std::string word; file >> word;) values.push_back(static_cast<uint32_t>(std::strtoul(word.c_str(), nullptr, 2)));
  return values;
}

// Recorded operands are binary32 numbers that the type holds exactly.
template <class F>
uint32_t code_of(uint32_t bits) {
  const float x = float_of(bits);
  if constexpr (F::bits == 19) return bits >> 13;
  else if constexpr (F::bits == 16 && F::exponent_bits == 8) return bfloat16_from_float(x);
  else if constexpr (F::bits == 16) return half_from_float(x);
  else if constexpr (F::infinities) return e5m2_from_float(x, false);
  else return e4m3_from_float(x, false);
}

struct Recorded {
  const char *gpu, *types;
  Unit unit;
  bool from_zero = false;  // the H100's fp8 programs ran with an accumulator of 0
};

template <class F>
int differing(const std::filesystem::path& folder, const Recorded& r, bool half) {
  const std::string suffix = std::string(r.gpu) + "_";
  const auto a = recorded_rows(folder / ("a_" + suffix + r.types + ".txt")), b = recorded_rows(folder / ("b_" + suffix + r.types + ".txt"));
  const auto c = recorded_bits(folder / ("c_" + suffix + "fp32.txt")),
             d = recorded_bits(folder / ("d_" + suffix + (half ? "fp16" : "fp32") + ".txt"));
  EXPECT_EQ(a.size(), 5000u);
  int wrong = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    Codes x, y;
    for (const uint32_t v : a[i]) x.push_back(code_of<F>(v));
    for (const uint32_t v : b[i]) y.push_back(code_of<F>(v));
    const int n = static_cast<int>(x.size());
    if (half) {
      // Recorded as the binary32 number that the fp16 result is.
      const uint16_t before = half_from_float(float_of(c[i]));
      uint16_t after;
      if constexpr (F::bits == 8) after = step_unpacked_half<F, F>(before, x.data(), y.data());
      else after = step_half<F, F>(r.unit.rule, before, x.data(), y.data(), n);
      wrong += bits_of(float_from_half(after)) != d[i];
      continue;
    }
    float acc = r.from_zero ? 0.0f : float_of(c[i]);
    if constexpr (F::bits == 8) {
      if (r.unit.unpacked) {
        wrong += bits_of(step_unpacked<F, F>(acc, x.data(), y.data())) != d[i];
        continue;
      }
    }
    for (int k = 0; k < n; k += r.unit.rule.group)
      acc = step<F, F>(r.unit.rule, acc, &x[k], &y[k], std::min(r.unit.rule.group, n - k));
    wrong += bits_of(acc) != d[i];
  }
  return wrong;
}

TEST(TensorCoreRecorded, EveryOutputOfFourGpusReplays) {
  const char* folder = std::getenv("VERBATIM_TENSOR_CORE_DIR");
  if (folder == nullptr) GTEST_SKIP() << "VERBATIM_TENSOR_CORE_DIR names no folder";
  const Unit mma = *unit_of("sm90_mma", DType::f8e4m3, DType::f8e4m3);
  const Recorded all[] = {
      {"A100", "bf16", {kSm80}},      {"A100", "fp16", {kSm80}}, {"A100", "tf32", {kSm80Tf32}},
      {"L40S", "bf16", {kSm80}},      {"L40S", "fp16", {kSm80}}, {"L40S", "tf32", {kSm80Tf32}},
      {"L40S", "E4M3", {kSm89Float8}}, {"L40S", "E5M2", {kSm89Float8}},
      {"H100", "bf16", {kSm90}},      {"H100", "fp16", {kSm90}}, {"H100", "tf32", {kSm90Tf32}},
      {"H100", "E4M3", {kSm90Float8}, true}, {"H100", "E5M2", {kSm90Float8}, true},
      {"B200", "bf16", {kSm90}},      {"B200", "fp16", {kSm90}}, {"B200", "tf32", {kSm90Tf32}},
      {"B200", "E4M3", mma},          {"B200", "E5M2", mma}};
  int sets = 0;
  for (const Recorded& r : all) {
    const std::filesystem::path path = std::filesystem::path(folder) / r.gpu / r.types;
    for (const bool half : {false, true}) {
      if (half && !std::filesystem::exists(path / ("d_" + std::string(r.gpu) + "_fp16.txt"))) continue;
      const std::string types = r.types;
      const int wrong = types == "bf16"   ? differing<BFloat16Format>(path, r, half)
                        : types == "fp16" ? differing<HalfFormat>(path, r, half)
                        : types == "tf32" ? differing<Tf32Format>(path, r, half)
                        : types == "E4M3" ? differing<E4M3Format>(path, r, half)
                                          : differing<E5M2Format>(path, r, half);
      EXPECT_EQ(wrong, 0) << r.gpu << " " << r.types << (half ? ", fp16 result" : "");
      ++sets;
    }
  }
  EXPECT_EQ(sets, 18 + 8);
}

// --- the operator -----------------------------------------------------------------------------------------------------------------

template <class T>
Tensor random_codes(test::Random& random, const Shape& shape, int spread) {
  std::vector<T> values;
  for (int64_t i = 0; i < shape.elements(); ++i)
    values.push_back(store<T>(random.unit() * static_cast<float>(std::exp2(random.between(-spread, spread)))));
  return *Tensor::from<T>(shape, std::span<const T>(values));
}

// The text of the contract once more, in another way: all terms as integers in units of 2^-400, by long arithmetic on doubles' bits.
template <class F, class T>
float oracle_step(Rule rule, float acc, const T* a, const T* b, int count) {
  struct Term {
    double value;  // exact: at most 24 significant bits, exponents within binary64's
    int exponent;
  };
  std::vector<Term> terms;
  int greatest = rule.floor;
  const auto add = [&](double value, int exponent) {
    if (value == 0) return;
    terms.push_back({value, exponent});
    greatest = std::max(greatest, exponent);
  };
  const auto exponent_of = [](double v, int least) { return v == 0 ? least : std::max(std::ilogb(v), least); };
  add(acc, exponent_of(acc, -126));
  for (int k = 0; k < count; ++k) {
    const double x = load(a[k]), y = load(b[k]);
    add(x * y, exponent_of(x, 1 - F::bias) + exponent_of(y, 1 - F::bias));
  }
  double sum = 0;  // of at most 33 multiples of 2^(greatest - fraction) below 2^(greatest + 2): exact
  for (const Term& t : terms) sum += std::ldexp(std::trunc(std::ldexp(t.value, rule.fraction - greatest)), greatest - rule.fraction);
  if (sum == 0) return 0;
  const int last = std::max(std::ilogb(sum) - rule.kept + 1, -149);
  const double kept = std::ldexp(std::trunc(std::ldexp(sum, -last)), last);
  if (kept == 0) return 0;
  return static_cast<float>(kept);
}

template <class F, class T>
void check_against_oracle(const char* member, DType dtype) {
  const Unit unit = *unit_of(member, dtype, dtype);
  test::Random random(static_cast<uint64_t>(unit.rule.fraction * 1000 + F::bits));
  for (int trial = 0; trial < 60; ++trial) {
    const int64_t k_size = 1 + static_cast<int64_t>(random.between(0, 150)), rows = 3, columns = 4;
    const int spread = static_cast<int>(random.between(0, F::exponent_bits == 8 ? 60 : 7));
    const Tensor x = random_codes<T>(random, Shape{rows, k_size}, spread), w = random_codes<T>(random, Shape{columns, k_size}, spread);
    Node node = node_of("TensorCoreLinear", kVerbatimDomain);
    node.attributes.set("member", std::string(member));
    const Tensor inputs[] = {x, w};
    const Result<Tensors> y = evaluate_reference(node, inputs);
    ASSERT_TRUE(y.ok()) << y.status().message();
    for (int64_t m = 0; m < rows; ++m)
      for (int64_t n = 0; n < columns; ++n) {
        float acc = 0;
        for (int64_t k = 0; k < k_size; k += unit.rule.group)
          acc = oracle_step<F>(unit.rule, acc, x.data<T>().data() + m * k_size + k, w.data<T>().data() + n * k_size + k,
                               static_cast<int>(std::min<int64_t>(unit.rule.group, k_size - k)));
        EXPECT_EQ(bits_of((*y)[0].data<float>()[m * columns + n]), bits_of(acc)) << member << " " << k_size;
      }
  }
}

TEST(TensorCoreLinear, EqualsTheOracle) {
  for (const char* member : {"sm90", "sm80", "sm89"}) {
    check_against_oracle<BFloat16Format, BFloat16>(member, DType::bf16);
    check_against_oracle<HalfFormat, Half>(member, DType::f16);
  }
  for (const char* member : {"sm90", "sm89"}) {
    check_against_oracle<E4M3Format, Float8E4M3>(member, DType::f8e4m3);
    check_against_oracle<E5M2Format, Float8E5M2>(member, DType::f8e5m2);
  }
}

Result<Tensors> linear(const Tensor& x, const Tensor& w, Attributes attributes, const Tensor& bias = {}) {
  Node node = node_of("TensorCoreLinear", kVerbatimDomain);
  node.attributes = std::move(attributes);
  const Tensor inputs[] = {x, w, bias};
  return evaluate_reference(node, inputs);
}

Tensor part(const Tensor& x, int64_t from, int64_t to) {
  std::vector<BFloat16> values;
  for (int64_t r = 0; r < x.dim(0); ++r)
    for (int64_t k = from; k < to; ++k) values.push_back(x.data<BFloat16>()[r * x.dim(1) + k]);
  return *Tensor::from<BFloat16>(Shape{x.dim(0), to - from}, std::span<const BFloat16>(values));
}

// cuBLAS cuts 8192 in five as 1664, 1664, 1664, 1664, 1536; here 520 in three as 192, 192, 136.
TEST(TensorCoreLinear, SplitsAreChainsOfTheirOwnAddedAscending) {
  test::Random random(5);
  const Tensor x = random_codes<BFloat16>(random, Shape{3, 520}, 4), w = random_codes<BFloat16>(random, Shape{5, 520}, 4);
  const Tensor whole = (*linear(x, w, {{"split", int64_t{3}}}))[0];
  const Tensor parts[] = {(*linear(part(x, 0, 192), part(w, 0, 192), {}))[0], (*linear(part(x, 192, 384), part(w, 192, 384), {}))[0],
                          (*linear(part(x, 384, 520), part(w, 384, 520), {}))[0]};
  for (size_t i = 0; i < 15; ++i)
    EXPECT_EQ(whole.data<float>()[i], (parts[0].data<float>()[i] + parts[1].data<float>()[i]) + parts[2].data<float>()[i]);
  for (const int64_t split : {0, -1, 4, 10, 1000}) {
    // 520 in four slices of 192 makes three.
    EXPECT_EQ(linear(x, w, {{"split", split}}).status().code(), StatusCode::bad_input) << split;
  }
}

TEST(TensorCoreLinear, BiasIsAddedBeforeTheOneRounding) {
  test::Random random(6);
  const Tensor x = random_codes<BFloat16>(random, Shape{4, 96}, 2), w = random_codes<BFloat16>(random, Shape{6, 96}, 2);
  const std::vector<float> values = {1, -2, 3, 0.5f, 1e-3f, 100};
  const Tensor bias = *Tensor::from<float>(Shape{6}, values);
  const Tensor plain = (*linear(x, w, {}))[0], rounded = (*linear(x, w, {{"output", int64_t{16}}}, bias))[0];
  ASSERT_EQ(rounded.dtype(), DType::bf16);
  for (int64_t i = 0; i < 24; ++i)
    EXPECT_EQ(rounded.data<BFloat16>()[i].bits, bfloat16_from_float(plain.data<float>()[i] + bias.data<float>()[i % 6]));
}

TEST(TensorCoreLinear, PreciseAddsToAMasterSumEvery128) {
  test::Random random(7);
  const Tensor x = random_codes<Float8E4M3>(random, Shape{2, 300}, 3), w = random_codes<Float8E4M3>(random, Shape{2, 300}, 3);
  const Tensor precise = (*linear(x, w, {{"precise", int64_t{1}}}))[0];
  const Unit unit = *unit_of("sm90", DType::f8e4m3, DType::f8e4m3);
  for (int64_t m = 0; m < 2; ++m)
    for (int64_t n = 0; n < 2; ++n) {
      float master = 0;
      for (int64_t k = 0; k < 300; k += 128) {
        float acc = 0;
        for (int64_t i = k; i < std::min<int64_t>(k + 128, 300); i += 32)
          acc = oracle_step<E4M3Format>(unit.rule, acc, x.data<Float8E4M3>().data() + m * 300 + i, w.data<Float8E4M3>().data() + n * 300 + i,
                                        static_cast<int>(std::min<int64_t>(32, 300 - i)));
        master = k == 0 ? acc : master + acc;
      }
      EXPECT_EQ(bits_of(precise.data<float>()[m * 2 + n]), bits_of(master));
    }
}

TEST(TensorCoreLinear, RefusesWhatNoChipMultiplies) {
  test::Random random(8);
  const Tensor x = random_codes<BFloat16>(random, Shape{2, 16}, 2), h = random_codes<Half>(random, Shape{2, 16}, 2),
               e = random_codes<Float8E4M3>(random, Shape{2, 16}, 2);
  EXPECT_EQ(linear(x, h, {}).status().code(), StatusCode::unsupported);
  EXPECT_EQ(linear(x, x, {{"member", std::string("sm42")}}).status().code(), StatusCode::unsupported);
  EXPECT_EQ(linear(x, x, {{"precise", int64_t{1}}}).status().code(), StatusCode::unsupported);
  EXPECT_EQ(linear(e, e, {{"member", std::string("sm80")}}).status().code(), StatusCode::unsupported);
  EXPECT_EQ(linear(x, x, {{"output", int64_t{11}}}).status().code(), StatusCode::unsupported);
  EXPECT_EQ(linear(x, random_codes<BFloat16>(random, Shape{2, 17}, 2), {}).status().code(), StatusCode::bad_input);
}

// --- fp8 --------------------------------------------------------------------------------------------------------------------------

// Every code converts exactly; every binary32 near a code or a midpoint rounds to nearest even.
template <class F>
void check_float8(float (*to)(uint8_t), uint8_t (*from)(float, bool), int greatest) {
  for (int code = 0; code < 256; ++code) {
    const Number n = decode<F>(static_cast<uint32_t>(code));
    const float x = to(static_cast<uint8_t>(code));
    if (n.nan) {
      EXPECT_TRUE(is_nan(x)) << code;
      continue;
    }
    if (!n.infinite) {
      EXPECT_EQ(x, std::ldexp(static_cast<float>(n.significand), n.exponent - F::fraction_bits) * (n.negative ? -1 : 1));
    }
    EXPECT_EQ(std::signbit(x), n.negative) << code;
    EXPECT_EQ(from(x, false), code);
  }
  for (int code = 0; code < greatest; ++code) {
    const float low = to(static_cast<uint8_t>(code)), high = to(static_cast<uint8_t>(code + 1)), middle = (low + high) / 2;
    EXPECT_EQ(from(middle, true), code + (code & 1)) << code;
    EXPECT_EQ(from(std::nextafter(middle, 0.0f), true), code) << code;
    EXPECT_EQ(from(std::nextafter(middle, 1e30f), true), code + 1) << code;
    EXPECT_EQ(from(-middle, true), 0x80 | (code + (code & 1))) << code;
  }
  EXPECT_EQ(from(1e30f, true), greatest);
  EXPECT_EQ(from(-INFINITY, true), 0x80 | greatest);
}

TEST(Float8, ConversionsAreExactAndRoundToNearestEven) {
  check_float8<E4M3Format>(float_from_e4m3, e4m3_from_float, 0x7E);
  check_float8<E5M2Format>(float_from_e5m2, e5m2_from_float, 0x7B);
  EXPECT_EQ(e4m3_from_float(INFINITY, false), 0x7F);
  EXPECT_EQ(e5m2_from_float(-INFINITY, false), 0xFC);
  EXPECT_EQ(e4m3_from_float(464, false), 0x7E);  // the midpoint of 448 and 480, to even
  EXPECT_EQ(e4m3_from_float(465, false), 0x7F);
}

}  // namespace
}  // namespace verbatim
