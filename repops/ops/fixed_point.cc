#include <verbatim/repops/ops/fixed_point.h>

#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/strided.h>

namespace verbatim {
namespace {

Result<Shape> without_last(const Shape& shape) {
  return Shape::of(shape.dims().first(static_cast<size_t>(std::max(0, shape.rank() - 1))));
}

Status expect_codes(const Tensor& t) {
  if (t.dtype() == DType::i32) return {};
  return bad_input("fixed-point codes are int32, not " + t.describe());
}

// Fills codes int32 of `shape` and saturations int64, one count for each row of it: f(i) gives
// element i. Counts belong to rows, so that a row says the same of itself in any batch.
template <class F>
Result<Tensors> map_counted(const Shape& shape, F&& f) {
  VB_ASSIGN(const Shape rows_shape, without_last(shape));
  VB_ASSIGN(Tensor codes, Tensor::allocate(DType::i32, shape));
  VB_ASSIGN(Tensor saturations, Tensor::allocate(DType::i64, rows_shape));
  const int64_t width = shape.rank() == 0 ? 1 : shape[shape.rank() - 1],
                grain = std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, width));
  int32_t* y = codes.mutable_data<int32_t>().data();
  int64_t* counts = saturations.mutable_data<int64_t>().data();
  parallel_for(saturations.elements(), grain, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; ++r) {
      counts[r] = 0;
      for (int64_t i = r * width; i < (r + 1) * width; ++i) {
        const Saturated<int32_t> s = f(i);
        y[i] = s.code;
        counts[r] += s.saturated;
      }
    }
  });
  return Tensors{codes, saturations};
}

// ToFixed(x float32 [..., D]) -> codes int32 [..., D], saturations int64 [...].
Result<Tensors> to_fixed(const Node&, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (x.dtype() != DType::f32) return bad_input("ToFixed of " + x.describe());
  const float* values = x.data<float>().data();
  return map_counted(x.shape(), [=](int64_t i) { return fixed_from_float(values[i]); });
}

// FromFixed(codes int32) -> float32.
Result<Tensors> from_fixed(const Node&, std::span<const Tensor> inputs) {
  VB_TRY(expect_codes(inputs[0]));
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, inputs[0].shape()));
  std::ranges::transform(inputs[0].data<int32_t>(), out.mutable_data<float>().begin(),
                         float_from_fixed);
  return Tensors{out};
}

Saturated<int32_t> sum_of(int32_t a, int32_t b) { return saturate_fixed<int32_t>(int64_t{a} + b); }
Saturated<int32_t> difference_of(int32_t a, int32_t b) {
  return saturate_fixed<int32_t>(int64_t{a} - b);
}
Saturated<int32_t> product_of(int32_t a, int32_t b) {
  return saturate_fixed<int32_t>(round_fixed(int64_t{a} * b));
}

// FixedAdd, FixedSub, FixedMul, FixedDiv(a int32, b int32), broadcast -> codes int32 [..., D],
// saturations int64 [...]: the exact result rounded once to nearest even, saturated.
template <Saturated<int32_t> (*kF)(int32_t, int32_t)>
Result<Tensors> fixed_binary(const Node&, std::span<const Tensor> inputs) {
  for (const Tensor& t : inputs) VB_TRY(expect_codes(t));
  const Tensor &a = inputs[0], &b = inputs[1];
  VB_ASSIGN(const Shape shape, broadcast(a.shape(), b.shape()));
  const auto expanded = [&](const Tensor& t) -> Result<Tensor> {
    if (t.shape() == shape) return t;
    VB_ASSIGN(Tensor out, Tensor::allocate(DType::i32, shape));
    for_each_element<1>(shape, {broadcast_strides(t.shape(), shape)},
                        [&](int64_t i, const std::array<int64_t, 1>& at) {
                          out.mutable_data<int32_t>()[i] = t.data<int32_t>()[at[0]];
                        });
    return out;
  };
  VB_ASSIGN(const Tensor left, expanded(a));
  VB_ASSIGN(const Tensor right, expanded(b));
  const int32_t *x = left.data<int32_t>().data(), *y = right.data<int32_t>().data();
  return map_counted(shape, [=](int64_t i) { return kF(x[i], y[i]); });
}

// FixedReciprocalSqrt(x int32 [..., D]) -> codes int32 [..., D], saturations int64 [...].
Result<Tensors> reciprocal_sqrt(const Node&, std::span<const Tensor> inputs) {
  VB_TRY(expect_codes(inputs[0]));
  const int32_t* x = inputs[0].data<int32_t>().data();
  return map_counted(inputs[0].shape(), [=](int64_t i) { return fixed_reciprocal_sqrt(x[i]); });
}

Status check_dimensions(int64_t d) {
  if (d <= kMaxFixedDimensions) return {};
  return over_limit("rows of " + std::to_string(d) +
                    " elements: " + std::to_string(kMaxFixedDimensions) + " are possible");
}

// FixedNormalize(x int32 [..., D]) -> codes int32 [..., D], saturations int64 [...]: 1 for a row of
// zeros, else 0.
Result<Tensors> normalize(const Node&, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_TRY(expect_codes(x));
  if (x.rank() < 1) return bad_input("FixedNormalize of " + x.describe());
  const int64_t d = x.dim(x.rank() - 1);
  VB_TRY(check_dimensions(d));
  VB_ASSIGN(const Shape rows_shape, without_last(x.shape()));
  VB_ASSIGN(Tensor codes, Tensor::allocate(DType::i32, x.shape()));
  VB_ASSIGN(Tensor saturations, Tensor::allocate(DType::i64, rows_shape));
  const auto rows = x.data<int32_t>();
  int32_t* y = codes.mutable_data<int32_t>().data();
  int64_t* counts = saturations.mutable_data<int64_t>().data();
  parallel_for(saturations.elements(), 8, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; ++r)
      counts[r] = !fixed_normalize(rows.subspan(static_cast<size_t>(r * d), static_cast<size_t>(d)),
                                   y + r * d);
  });
  return Tensors{codes, saturations};
}

// All of a product: sum(m, n) is the exact one of row m and vector n, stored as T by `rounded`.
template <class T, class Sum>
Result<Tensors> product_of_rows(const FixedProductShape& s, Sum&& sum) {
  VB_ASSIGN(Tensor out, Tensor::allocate(dtype_of<T>(), s.out));
  VB_ASSIGN(Tensor saturations, Tensor::allocate(DType::i64, s.rows));
  T* y = out.mutable_data<T>().data();
  int64_t* counts = saturations.mutable_data<int64_t>().data();
  parallel_for(s.m, 1, [&](int64_t from, int64_t to) {
    for (int64_t m = from; m < to; ++m) {
      counts[m] = 0;
      for (int64_t n = 0; n < s.n; ++n) {
        const int128 exact = sum(m, n);
        const Saturated<T> stored = saturate_fixed<T>(s.exact ? exact : round_fixed(exact));
        y[m * s.n + n] = stored.code;
        counts[m] += stored.saturated;
      }
    }
  });
  return Tensors{out, saturations};
}

// FixedDot and FixedSquaredDistance(a int32 [..., D], b int32 [N, D]) with attribute fraction ->
// [..., N], saturations int64 [...]. The sum is exact; with fraction 16 it is then rounded once to
// nearest even and saturated to int32, with 32 it is saturated to int64, in units of 2^-32.
template <int128 (*kSum)(const int32_t*, const int32_t*, int64_t)>
Result<Tensors> fixed_product(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const FixedProductShape s, check_fixed_product(node, inputs));
  const int32_t *a = inputs[0].data<int32_t>().data(), *b = inputs[1].data<int32_t>().data();
  const auto sum = [=](int64_t m, int64_t n) { return kSum(a + m * s.k, b + n * s.k, s.k); };
  return s.exact ? product_of_rows<int64_t>(s, sum) : product_of_rows<int32_t>(s, sum);
}

template <uint64_t kFactor>
uint64_t element_cost(const Node&, std::span<const Tensor>, std::span<const Tensor> outputs) {
  return saturating_multiply(static_cast<uint64_t>(outputs[0].elements()), kFactor);
}
uint64_t product_cost(const Node&, std::span<const Tensor> inputs,
                      std::span<const Tensor> outputs) {
  return saturating_multiply(static_cast<uint64_t>(outputs[0].elements()),
                             3 * static_cast<uint64_t>(inputs[1].dim(1)) + 3);
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "ToFixed", 1, 1, 2, to_fixed, element_cost<3>},
    {kVerbatimDomain, "FromFixed", 1, 1, 1, from_fixed, element_cost<2>},
    {kVerbatimDomain, "FixedAdd", 2, 2, 2, fixed_binary<sum_of>, element_cost<2>},
    {kVerbatimDomain, "FixedSub", 2, 2, 2, fixed_binary<difference_of>, element_cost<2>},
    {kVerbatimDomain, "FixedMul", 2, 2, 2, fixed_binary<product_of>, element_cost<4>},
    {kVerbatimDomain, "FixedDiv", 2, 2, 2, fixed_binary<fixed_quotient>, element_cost<8>},
    {kVerbatimDomain, "FixedReciprocalSqrt", 1, 1, 2, reciprocal_sqrt, element_cost<20>},
    {kVerbatimDomain, "FixedNormalize", 1, 1, 2, normalize, element_cost<24>},
    {kVerbatimDomain, "FixedDot", 2, 2, 2, fixed_product<fixed_dot>, product_cost},
    {kVerbatimDomain, "FixedSquaredDistance", 2, 2, 2, fixed_product<fixed_squared_distance>,
     product_cost},
};

// The integer nearest to sqrt(square / divisor), ties to even, for a square below 2^96, a divisor
// from 1 to 2^78, and a root below 2^25. Integers decide; binary64 only says where to look.
uint64_t nearest_root(uint128 square, uint128 divisor) {
  auto root =
      static_cast<uint64_t>(sqrt_of(static_cast<double>(square) / static_cast<double>(divisor)));
  while (uint128{root} * root * divisor > square) --root;
  while (uint128{root + 1} * (root + 1) * divisor <= square) ++root;
  // Above root + 1/2, or at it and root odd.
  const uint128 twice = 2 * uint128{root} + 1, middle = twice * twice * divisor, at = 4 * square;
  return root + (at > middle || (at == middle && (root & 1) != 0) ? 1 : 0);
}

uint64_t magnitude_of(int32_t x) { return static_cast<uint64_t>(x < 0 ? -int64_t{x} : int64_t{x}); }

}  // namespace

Saturated<int32_t> fixed_from_float(float x) {
  if (is_nan(x)) return {0, true};
  const double exact = static_cast<double>(x) * 65536.0;
  // A binary32 of this size is an integer, so nothing rounds to the bound.
  if (exact >= 0x1p31) return {INT32_MAX, true};
  if (exact < -0x1p31) return {INT32_MIN, true};
  return {static_cast<int32_t>(round_even_of(exact)), false};
}

float float_from_fixed(int32_t code) { return static_cast<float>(code) * 0x1p-16f; }

Saturated<int32_t> fixed_quotient(int32_t a, int32_t b) {
  if (b == 0) return {a == 0 ? 0 : a > 0 ? INT32_MAX : INT32_MIN, true};
  const uint64_t numerator = magnitude_of(a) << kFixedFraction, divisor = magnitude_of(b);
  const uint64_t down = numerator / divisor, twice = 2 * (numerator % divisor);
  const uint64_t rounded = down + (twice > divisor || (twice == divisor && (down & 1) != 0));
  const auto value = static_cast<int64_t>(rounded);
  return saturate_fixed<int32_t>((a < 0) == (b < 0) ? value : -value);
}

Saturated<int32_t> fixed_reciprocal_sqrt(int32_t x) {
  if (x <= 0) return {x == 0 ? INT32_MAX : 0, true};
  // 2^16 / sqrt(x / 2^16) = sqrt(2^48 / x), at most 2^24.
  return {static_cast<int32_t>(nearest_root(uint128{1} << 48, static_cast<uint128>(x))), false};
}

int128 fixed_dot(const int32_t* a, const int32_t* b, int64_t n) {
  int128 sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += int64_t{a[i]} * b[i];
  return sum;
}

int128 fixed_squared_distance(const int32_t* a, const int32_t* b, int64_t n) {
  int128 sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t difference = int64_t{a[i]} - b[i];
    sum += int128{difference} * difference;
  }
  return sum;
}

bool fixed_normalize(std::span<const int32_t> row, int32_t* out) {
  const auto square =
      static_cast<uint128>(fixed_dot(row.data(), row.data(), static_cast<int64_t>(row.size())));
  for (size_t i = 0; i < row.size(); ++i) {
    const uint128 x = magnitude_of(row[i]);
    const auto root =
        square == 0 ? 0
                    : static_cast<int32_t>(nearest_root((x * x) << (2 * kFixedFraction), square));
    out[i] = row[i] < 0 ? -root : root;
  }
  return square != 0;
}

Result<FixedProductShape> check_fixed_product(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &a = inputs[0], &b = inputs[1];
  VB_ASSIGN(const int64_t fraction, node.attributes.get<int64_t>("fraction", kFixedFraction));
  if (fraction != kFixedFraction && fraction != 2 * kFixedFraction)
    return bad_input(std::to_string(fraction) + " bits of fraction: 16 or 32 are possible");
  VB_TRY(expect_codes(a));
  VB_TRY(expect_codes(b));
  if (a.rank() < 1 || b.rank() != 2 || a.dim(a.rank() - 1) != b.dim(1))
    return bad_input("fixed-point rows " + a.describe() + " and vectors " + b.describe() +
                     " do not multiply");
  VB_TRY(check_dimensions(b.dim(1)));
  FixedProductShape s;
  VB_ASSIGN(s.rows, without_last(a.shape()));
  std::vector<int64_t> dims(s.rows.dims().begin(), s.rows.dims().end());
  dims.push_back(b.dim(0));
  VB_ASSIGN(s.out, Shape::of(dims));
  s.m = s.rows.elements();
  s.n = b.dim(0);
  s.k = b.dim(1);
  s.exact = fraction != kFixedFraction;
  return s;
}

std::span<const OpDef> fixed_point_ops() { return kOps; }

}  // namespace verbatim
