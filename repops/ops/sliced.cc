#include <verbatim/repops/ops/sliced.h>

#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {
namespace {

struct SlicedOperand {
  const int8_t* slices;
  int count;
  int64_t rows, k;
  const int32_t* exponents;
  const int8_t* row(int slice, int64_t r) const { return slices + (slice * rows + r) * k; }
};

Result<SlicedOperand> operand(const Tensor& slices, const Tensor& exponents) {
  VB_TRY(check_sliced(slices, exponents));
  VB_TRY(check_slice_exponents(exponents.data<int32_t>()));
  VB_TRY(check_slice_codes(slices));
  return SlicedOperand{slices.data<int8_t>().data(), static_cast<int>(slices.dim(0)),
                       exponents.elements(), slices.dim(slices.rank() - 1),
                       exponents.data<int32_t>().data()};
}

float sliced_dot(const SlicedOperand& a, int64_t m, const SlicedOperand& b, int64_t n) {
  const int order = std::max(a.count, b.count) - 1;
  if (a.exponents[m] == kFlaggedRow || b.exponents[n] == kFlaggedRow) return float_of(kNanBits);
  int64_t weighted = 0;
  for (int i = 0; i < a.count; ++i) {
    for (int j = 0; j < b.count && i + j <= order; ++j) {
      const int8_t *x = a.row(i, m), *y = b.row(j, n);
      int64_t dot = 0;
      for (int64_t k = 0; k < a.k; ++k) dot += int64_t{x[k]} * y[k];
      weighted += dot * (int64_t{1} << (7 * (order - i - j)));
    }
  }
  return sliced_result(weighted, a.exponents[m], b.exponents[n], order);
}

// Slices(x float32 [..., K]) with attribute count -> slices int8 [count, ..., K], exponents int32
// [...].
Result<Tensors> slices(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const int64_t count, node.attributes.require<int64_t>("count"));
  VB_ASSIGN(
      SlicedTensor s,
      slice_tensor(inputs[0], static_cast<int>(std::clamp<int64_t>(count, 0, kMaxSlices + 1))));
  return Tensors{s.slices, s.exponents};
}

// SlicedLinear(x slices [p, ..., K], x exponents [...], w slices [q, N, K], w exponents [N], bias
// [N]?) -> float32 [..., N]: the exact product rounded once, then + bias, rounded.
Result<Tensors> sliced_linear(const Node&, std::span<const Tensor> inputs) {
  VB_ASSIGN(const SlicedOperand a, operand(inputs[0], inputs[1]));
  VB_ASSIGN(const SlicedOperand b, operand(inputs[2], inputs[3]));
  VB_ASSIGN(const Shape shape, check_sliced_linear(inputs));
  const Tensor bias = inputs.size() > 4 ? inputs[4] : Tensor();
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, shape));
  float* y = out.mutable_data<float>().data();
  parallel_for(a.rows, 1, [&](int64_t from, int64_t to) {
    for (int64_t m = from; m < to; ++m) {
      for (int64_t n = 0; n < b.rows; ++n) {
        const float v = sliced_dot(a, m, b, n);
        y[m * b.rows + n] = canonical(bias.defined() ? v + bias.data<float>()[n] : v);
      }
    }
  });
  return Tensors{out};
}

uint64_t slices_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  return static_cast<uint64_t>(inputs[0].elements() + 3 * outputs[0].elements());
}
uint64_t sliced_linear_cost(const Node&, std::span<const Tensor> inputs,
                            std::span<const Tensor> outputs) {
  const int64_t p = inputs[0].dim(0), q = inputs[2].dim(0);
  int64_t products = 0;
  for (int64_t i = 0; i < p; ++i) products += std::min(q, std::max(p, q) - i);
  return static_cast<uint64_t>(outputs[0].elements() * products * 2 * inputs[2].dim(2));
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "Slices", 1, 1, 2, slices, slices_cost},
    {kVerbatimDomain, "SlicedLinear", 4, 5, 1, sliced_linear, sliced_linear_cost},
};

}  // namespace

Status check_sliced(const Tensor& slices, const Tensor& exponents) {
  if (slices.dtype() != DType::i8 || exponents.dtype() != DType::i32 || slices.rank() < 2 ||
      exponents.rank() != slices.rank() - 2)
    return bad_input("slices " + slices.describe() + " with exponents " + exponents.describe());
  for (int i = 0; i < exponents.rank(); ++i)
    if (exponents.dim(i) != slices.dim(i + 1))
      return bad_input("slices " + slices.describe() + " with exponents " + exponents.describe());
  if (slices.dim(0) < 1 || slices.dim(0) > kMaxSlices)
    return bad_input(std::to_string(slices.dim(0)) + " slices");
  const int64_t k = slices.dim(slices.rank() - 1);
  if (k > kMaxSlicedK)
    return over_limit("K = " + std::to_string(k) + " is above " + std::to_string(kMaxSlicedK));
  return {};
}

Status check_slice_exponents(std::span<const int32_t> exponents) {
  for (const int32_t e : exponents)
    if (e != kFlaggedRow && (e < kLeastRowExponent || e > kGreatestRowExponent))
      return bad_input("slice exponent " + std::to_string(e));
  return {};
}

Status check_slice_codes(const Tensor& slices) {
  // |W| < 2^53 rests on it.
  const size_t slice_size = static_cast<size_t>(slices.elements() / slices.dim(0));
  const auto codes = slices.data<int8_t>();
  if (!within(codes.first(slice_size), kInt8Codes) ||
      !within(codes.subspan(slice_size), kLaterSliceCodes))
    return bad_input("slice codes out of range");
  return {};
}

int32_t slice_row(std::span<const float> row, int count, int8_t* const* slices) {
  float greatest = 0;
  bool finite = true;
  for (float v : row) {
    const float magnitude = float_of(bits_of(v) & 0x7FFFFFFF);
    finite = finite && bits_of(magnitude) < 0x7F800000;
    greatest = std::max(greatest, magnitude);
  }
  const int32_t e = finite ? row_exponent(greatest) : kFlaggedRow;
  for (size_t k = 0; k < row.size(); ++k)
    slice_number(row[k], e, count, [&](int slice, int8_t code) { slices[slice][k] = code; });
  return e;
}

Result<Shape> check_sliced_linear(std::span<const Tensor> inputs) {
  VB_TRY(check_sliced(inputs[0], inputs[1]));
  VB_TRY(check_sliced(inputs[2], inputs[3]));
  const Tensor &x = inputs[0], &w = inputs[2];
  if (w.rank() != 3 || x.dim(x.rank() - 1) != w.dim(2))
    return bad_input("slices " + x.describe() + " and " + w.describe() + " do not multiply");
  const Tensor bias = inputs.size() > 4 ? inputs[4] : Tensor();
  if (bias.defined() && (bias.dtype() != DType::f32 || !(bias.shape() == Shape{w.dim(1)})))
    return bad_input("bias " + bias.describe());
  std::vector<int64_t> dims(inputs[1].shape().dims().begin(), inputs[1].shape().dims().end());
  dims.push_back(w.dim(1));
  return Shape::of(dims);
}

Result<SlicedTensor> slice_tensor(const Tensor& x, int count) {
  if (x.dtype() != DType::f32 || x.rank() < 1 || x.rank() >= kMaxRank)
    return bad_input("slices of " + x.describe());
  if (count < 1 || count > kMaxSlices)
    return bad_input("the slice count must be 1 to " + std::to_string(kMaxSlices));
  std::vector<int64_t> dims{count};
  dims.insert(dims.end(), x.shape().dims().begin(), x.shape().dims().end());
  VB_ASSIGN(const Shape slices_shape, Shape::of(dims));
  VB_ASSIGN(const Shape exponents_shape,
            Shape::of(x.shape().dims().first(static_cast<size_t>(x.rank() - 1))));
  SlicedTensor s;
  VB_ASSIGN(s.slices, Tensor::allocate(DType::i8, slices_shape));
  VB_ASSIGN(s.exponents, Tensor::allocate(DType::i32, exponents_shape));
  const int64_t k = x.dim(x.rank() - 1), rows = s.exponents.elements();
  int8_t* codes = s.slices.mutable_data<int8_t>().data();
  int32_t* exponents = s.exponents.mutable_data<int32_t>().data();
  parallel_for(rows, 8, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; ++r) {
      int8_t* targets[kMaxSlices] = {};
      for (int i = 0; i < count; ++i) targets[i] = codes + (i * rows + r) * k;
      exponents[r] =
          slice_row(x.data<float>().subspan(static_cast<size_t>(r * k), static_cast<size_t>(k)),
                    count, targets);
    }
  });
  return s;
}

std::span<const OpDef> sliced_ops() { return kOps; }

}  // namespace verbatim
