#include <verbatim/repops/ops/quantized.h>

#include <algorithm>
#include <bit>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/sliced.h>
#include <verbatim/repops/semantics.h>

namespace verbatim {
namespace {

Status check_rotation(int64_t rotation, int64_t k) {
  if (rotation >= 1 && std::has_single_bit(static_cast<uint64_t>(rotation)) && k % rotation == 0)
    return {};
  return bad_input("rotation " + std::to_string(rotation) + " of rows of " + std::to_string(k) +
                   ": a power of two that divides them is wanted");
}

Result<Tensors> quantize(const Node& node, std::span<const Tensor> inputs) {
  return quantize_rows_of(node, inputs, quantize_row_codes);
}

// The sum over groups of their scale times the dot of their codes: exact.
int64_t weighted_dot(const int8_t* x, const int8_t* w, const uint8_t* group_scales,
                     int64_t k_size) {
  int64_t sum = 0;
  const int64_t group = group_scales == nullptr ? k_size : kQuantizedGroup;
  for (int64_t k = 0, g = 0; k < k_size; k += group, ++g) {
    int32_t dot = 0;
    for (int64_t i = k; i < std::min(k + group, k_size); ++i) dot += int32_t{x[i]} * w[i];
    sum += int64_t{dot} * (group_scales == nullptr ? 1 : group_scales[g]);
  }
  return sum;
}

// QuantizedLinear(x codes, x scales, w codes, w scales, group scales?, bias?) -> float32 [..., N]:
// the integer product W, rounded to binary32, times (x scale * w scale), then + bias.
Result<Tensors> quantized_linear(const Node&, std::span<const Tensor> inputs) {
  VB_ASSIGN(const Shape shape, check_quantized_linear(inputs));
  VB_TRY(check_quantized_codes(inputs[0]));
  VB_TRY(check_quantized_codes(inputs[2]));
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, shape));
  const int64_t n_size = inputs[2].dim(0), k_size = inputs[2].dim(1),
                groups = (k_size + kQuantizedGroup - 1) / kQuantizedGroup;
  const int8_t *x = inputs[0].data<int8_t>().data(), *w = inputs[2].data<int8_t>().data();
  const float *x_scales = inputs[1].data<float>().data(),
              *w_scales = inputs[3].data<float>().data();
  const auto given = [&](size_t i) { return inputs.size() > i && inputs[i].defined(); };
  const uint8_t* group_scales = given(4) ? inputs[4].data<uint8_t>().data() : nullptr;
  const float* bias = given(5) ? inputs[5].data<float>().data() : nullptr;
  float* y = out.mutable_data<float>().data();
  parallel_for(out.elements(), 64, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t m = i / n_size, n = i % n_size;
      const int64_t sum =
          weighted_dot(x + m * k_size, w + n * k_size,
                       group_scales == nullptr ? nullptr : group_scales + n * groups, k_size);
      const float v = static_cast<float>(sum) * (x_scales[m] * w_scales[n]);
      y[i] = canonical(bias == nullptr ? v : v + bias[n]);
    }
  });
  return Tensors{out};
}

uint64_t quantize_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor>) {
  return saturating_multiply(static_cast<uint64_t>(inputs[0].elements()), 20);
}
uint64_t quantized_linear_cost(const Node&, std::span<const Tensor> inputs,
                               std::span<const Tensor> outputs) {
  return saturating_multiply(static_cast<uint64_t>(outputs[0].elements()),
                             2 * static_cast<uint64_t>(inputs[2].dim(1)) + 3);
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "QuantizeRows", 1, 1, 2, quantize, quantize_cost},
    {kVerbatimDomain, "QuantizedLinear", 4, 6, 1, quantized_linear, quantized_linear_cost},
};

bool holds(const Tensor& t, DType dtype, const Shape& shape) {
  return t.dtype() == dtype && t.shape() == shape;
}

// One row of low-bit weights: the integer scales of its groups, its codes, and the scale of all.
float quantize_grouped_row(std::span<const float> row, int greatest_code, int8_t* codes,
                           uint8_t* group_scales) {
  const float all = greatest_magnitude(row);
  // The greatest group has scale 255, others in proportion: a step of 1/255 costs a group little
  // until it hardly matters.
  const float scale = all / static_cast<float>(greatest_code) / 255.0f;
  for (size_t k = 0, g = 0; k < row.size(); k += kQuantizedGroup, ++g) {
    const auto part = row.subspan(k, std::min<size_t>(kQuantizedGroup, row.size() - k));
    const float own = greatest_magnitude(part) / static_cast<float>(greatest_code);
    const float steps = scale > 0 ? std::clamp(round_even(own / scale), 1.0f, 255.0f) : 1.0f;
    group_scales[g] = static_cast<uint8_t>(is_nan(all) ? 1.0f : steps);
    for (size_t i = 0; i < part.size(); ++i)
      codes[k + i] = scale > 0 ? code_of(part[i] / (scale * steps), greatest_code) : int8_t{0};
  }
  return scale;
}

// The sum of |v| / n, ascending, each operation rounded: so the greatest numbers do not overflow.
float mean_magnitude(std::span<const float> group) {
  const auto count = static_cast<float>(group.size());
  float sum = 0;
  for (const float v : group) sum += float_of(bits_of(v) & 0x7FFFFFFF) / count;
  return sum;
}

// One row of one-bit weights: the scale that is best for signs is the mean magnitude (Rastegari et
// al., XNOR-Net, 2016, section 3.1). The greatest group has 255 steps; one of none is zero.
float quantize_sign_row(std::span<const float> row, int8_t* codes, uint8_t* group_scales) {
  const auto group = [&](size_t k) {
    return row.subspan(k, std::min<size_t>(kQuantizedGroup, row.size() - k));
  };
  const bool finite = !is_nan(greatest_magnitude(row));
  float greatest = 0;
  for (size_t k = 0; k < row.size(); k += kQuantizedGroup)
    greatest = maximum(greatest, mean_magnitude(group(k)));
  const float scale = finite ? greatest / 255.0f : float_of(kNanBits);
  for (size_t k = 0; k < row.size(); ++k)
    codes[k] = static_cast<int8_t>(!(scale > 0) ? 0 : row[k] < 0 ? -1 : 1);
  for (size_t k = 0, g = 0; k < row.size(); k += kQuantizedGroup, ++g)
    group_scales[g] = static_cast<uint8_t>(
        scale > 0 ? std::min(255.0f, round_even(mean_magnitude(group(k)) / scale)) : 0);
  return scale;
}

}  // namespace

int64_t rotation_block(int64_t n) { return n & -n; }

float greatest_magnitude(std::span<const float> row) {
  uint32_t greatest = 0;
  for (const float v : row) greatest = std::max(greatest, bits_of(v) & 0x7FFFFFFF);
  return magnitude_or_nan(greatest);
}

void rotate_row(std::span<float> x, int64_t block) {
  for (size_t base = 0; base < x.size(); base += static_cast<size_t>(block)) {
    float* const b = x.data() + base;
    for (int64_t stride = 1; stride < block; stride *= 2) {
      for (int64_t i = 0; i < block; ++i) {
        if (i & stride) continue;
        const float u = b[i], v = b[i + stride];
        b[i] = u + v;
        b[i + stride] = u - v;
      }
    }
  }
  const auto blocks = block == 0 ? 0 : static_cast<int64_t>(x.size()) / block;
  if (blocks <= 1 || block == 1) return;
  const float factor = 2.0f / static_cast<float>(blocks);
  for (int64_t i = 0; i < block; ++i) {
    float sum = x[i];
    for (int64_t j = 1; j < blocks; ++j) sum += x[i + j * block];
    const float shift = sum * factor;
    for (int64_t j = 0; j < blocks; ++j) x[i + j * block] -= shift;
  }
}

int32_t quantize_value(std::span<const float> row, int8_t* codes) {
  const float greatest = greatest_magnitude(row);
  if (is_nan(greatest)) {
    std::fill_n(codes, row.size(), int8_t{0});
    return kFlaggedRow;
  }
  const int32_t f = std::max(kLeastValueExponent, row_exponent(greatest) - 7);
  // In binary64 the power of two is exact, and so is the product; as a binary32 it is the code
  // before rounding.
  const double unit = 1.0 / std::bit_cast<double>(static_cast<uint64_t>(f + 1023) << 52);
  for (size_t i = 0; i < row.size(); ++i)
    codes[i] = static_cast<int8_t>(round_even(static_cast<float>(row[i] * unit)));
  return f;
}

int64_t row_grain(int64_t n) { return std::max<int64_t>(8, 4096 / std::max<int64_t>(1, n)); }

float quantize_row(std::span<const float> row, int greatest_code, int8_t* codes) {
  const float scale = greatest_magnitude(row) / static_cast<float>(greatest_code);
  if (!(scale > 0)) {
    std::fill_n(codes, row.size(), int8_t{0});
    return scale;
  }
  for (size_t i = 0; i < row.size(); ++i) codes[i] = code_of(row[i] / scale, greatest_code);
  return scale;
}

// QuantizeRows(x float32 [..., K]) with attributes to (ONNX's number: int8, the default, or
// float8e4m3fn) and, for int8, rotation (default 1: none) -> codes [..., K], scales float32 [...].
Result<Tensors> quantize_rows_of(const Node& node, std::span<const Tensor> inputs,
                                 const QuantizeRowsFn& quantize) {
  VB_ASSIGN(const int64_t rotation, node.attributes.get<int64_t>("rotation", 1));
  VB_ASSIGN(const int64_t to, node.attributes.get<int64_t>("to", static_cast<int64_t>(DType::i8)));
  const bool float8 = dtype_from_onnx(to) == DType::f8e4m3;
  if (!float8 && dtype_from_onnx(to) != DType::i8)
    return unsupported("rows quantised to type " + std::to_string(to));
  if (float8 && rotation != 1) return unsupported("fp8 rows are not rotated");
  VB_ASSIGN(QuantizedTensor q, float8 ? quantize_rows_float8(inputs[0])
                                      : quantize_rows(inputs[0], rotation, quantize));
  return Tensors{q.codes, q.scales};
}

void quantize_row_codes(const RowCodes& rows, int64_t from, int64_t to) {
  std::vector<float> row(static_cast<size_t>(rows.n));
  for (int64_t r = from; r < to; ++r) {
    std::copy_n(rows.x + r * rows.n, rows.n, row.begin());
    rotate_row(row, rows.rotation);
    if (rows.scales) {
      rows.scales[r] = quantize_row(row, kInt8Codes, rows.codes + r * rows.n);
    } else {
      rows.exponents[r] = quantize_value(row, rows.codes + r * rows.n);
    }
  }
}

Result<QuantizedTensor> quantize_rows(const Tensor& x, int64_t rotation,
                                      const QuantizeRowsFn& quantize) {
  if (x.dtype() != DType::f32 || x.rank() < 1)
    return bad_input("quantised rows of " + x.describe());
  const int64_t k = x.dim(x.rank() - 1);
  VB_TRY(check_rotation(rotation, k));
  VB_ASSIGN(const Shape rows_shape,
            Shape::of(x.shape().dims().first(static_cast<size_t>(x.rank() - 1))));
  QuantizedTensor q;
  VB_ASSIGN(q.codes, Tensor::allocate(DType::i8, x.shape()));
  VB_ASSIGN(q.scales, Tensor::allocate(DType::f32, rows_shape));
  const RowCodes rows = {.x = x.data<float>().data(),
                         .n = k,
                         .rotation = rotation,
                         .codes = q.codes.mutable_data<int8_t>().data(),
                         .scales = q.scales.mutable_data<float>().data()};
  parallel_for(q.scales.elements(), row_grain(k),
               [&](int64_t from, int64_t to) { quantize(rows, from, to); });
  return q;
}

Result<QuantizedTensor> quantize_rows_float8(const Tensor& x) {
  if (x.dtype() != DType::f32 || x.rank() < 1)
    return bad_input("quantised rows of " + x.describe());
  const int64_t k = x.dim(x.rank() - 1);
  VB_ASSIGN(const Shape rows_shape,
            Shape::of(x.shape().dims().first(static_cast<size_t>(x.rank() - 1))));
  QuantizedTensor q;
  VB_ASSIGN(q.codes, Tensor::allocate(DType::f8e4m3, x.shape()));
  VB_ASSIGN(q.scales, Tensor::allocate(DType::f32, rows_shape));
  Float8E4M3* codes = q.codes.mutable_data<Float8E4M3>().data();
  float* scales = q.scales.mutable_data<float>().data();
  parallel_for(q.scales.elements(), 8, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; ++r) {
      const auto row = x.data<float>().subspan(static_cast<size_t>(r * k), static_cast<size_t>(k));
      const float scale = greatest_magnitude(row) / 448.0f;
      scales[r] = canonical(scale);
      for (int64_t i = 0; i < k; ++i)
        codes[r * k + i] = Float8E4M3{
            scale > 0 ? e4m3_from_float(row[static_cast<size_t>(i)] / scale, true) : uint8_t{0}};
    }
  });
  return q;
}

namespace {

Result<QuantizedWeights> allocate_weights(const Tensor& w, int bits, int64_t rotation) {
  if (w.dtype() != DType::f32 || w.rank() != 2)
    return bad_input("quantised weights of " + w.describe());
  const int64_t n = w.dim(0), k = w.dim(1);
  VB_TRY(check_rotation(rotation, k));
  QuantizedWeights q;
  VB_ASSIGN(q.codes, Tensor::allocate(DType::i8, w.shape()));
  VB_ASSIGN(q.scales, Tensor::allocate(DType::f32, Shape{n}));
  if (bits < 8) {
    VB_ASSIGN(q.group_scales,
              Tensor::allocate(DType::u8, {n, (k + kQuantizedGroup - 1) / kQuantizedGroup}));
  }
  return q;
}

std::vector<float> rotated_row(const Tensor& w, int64_t r, int64_t rotation) {
  const auto k = static_cast<size_t>(w.dim(1));
  const auto from = w.data<float>().subspan(static_cast<size_t>(r) * k, k);
  std::vector<float> row(from.begin(), from.end());
  rotate_row(row, rotation);
  return row;
}

}  // namespace

Result<QuantizedWeights> quantize_weights(const Tensor& w, int bits, int64_t rotation) {
  if (bits < 1 || bits > 8) return bad_input(std::to_string(bits) + " bits: 1 to 8 are possible");
  VB_ASSIGN(QuantizedWeights q, allocate_weights(w, bits, rotation));
  const int64_t n = w.dim(0), k = w.dim(1), groups = (k + kQuantizedGroup - 1) / kQuantizedGroup;
  int8_t* codes = q.codes.mutable_data<int8_t>().data();
  float* scales = q.scales.mutable_data<float>().data();
  uint8_t* group_scales = bits < 8 ? q.group_scales.mutable_data<uint8_t>().data() : nullptr;
  const int greatest_code = (1 << (bits - 1)) - 1;
  for (int64_t r = 0; r < n; ++r) {
    const std::vector<float> row = rotated_row(w, r, rotation);
    int8_t* const row_codes = codes + r * k;
    const float scale = bits == 8   ? quantize_row(row, greatest_code, row_codes)
                        : bits == 1 ? quantize_sign_row(row, row_codes, group_scales + r * groups)
                                    : quantize_grouped_row(row, greatest_code, row_codes,
                                                           group_scales + r * groups);
    scales[r] = scale * (1.0f / static_cast<float>(rotation));
  }
  return q;
}

Result<std::array<QuantizedWeights, 2>> quantize_weights_in_parts(const Tensor& w,
                                                                  int64_t rotation) {
  std::array<QuantizedWeights, 2> parts;
  for (QuantizedWeights& part : parts) {
    VB_ASSIGN(part, allocate_weights(w, 8, rotation));
  }
  const int64_t k = w.dim(1);
  for (int64_t r = 0; r < w.dim(0); ++r) {
    std::vector<float> row = rotated_row(w, r, rotation);
    for (QuantizedWeights& part : parts) {
      int8_t* const codes = part.codes.mutable_data<int8_t>().data() + r * k;
      const float scale = quantize_row(row, kInt8Codes, codes);
      part.scales.mutable_data<float>()[r] = scale * (1.0f / static_cast<float>(rotation));
      for (size_t i = 0; i < row.size(); ++i)
        row[i] = row[i] - static_cast<float>(codes[i]) * scale;
    }
  }
  return parts;
}

bool are_grouped_codes(const Tensor& codes, const Tensor& group_scales) {
  return codes.dtype() == DType::i8 && codes.rank() == 2 &&
         holds(group_scales, DType::u8,
               Shape{codes.dim(0), (codes.dim(1) + kQuantizedGroup - 1) / kQuantizedGroup});
}

Result<Shape> check_quantized_linear(std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &x_scales = inputs[1], &w = inputs[2], &w_scales = inputs[3];
  const auto fail = [&] {
    return bad_input("codes " + x.describe() + " with scales " + x_scales.describe() + " and " +
                     w.describe() + " with scales " + w_scales.describe() + " do not multiply");
  };
  if (x.dtype() != DType::i8 || x.rank() < 1 || w.rank() != 2 || w.dtype() != DType::i8 ||
      x.dim(x.rank() - 1) != w.dim(1))
    return fail();
  VB_ASSIGN(const Shape rows, Shape::of(x.shape().dims().first(static_cast<size_t>(x.rank() - 1))));
  const int64_t n = w.dim(0), k = w.dim(1);
  if (!holds(x_scales, DType::f32, rows) || !holds(w_scales, DType::f32, Shape{n})) return fail();
  if (k > kMaxQuantizedK)
    return over_limit("K = " + std::to_string(k) + " is above " + std::to_string(kMaxQuantizedK));
  if (inputs.size() > 4 && inputs[4].defined() && !are_grouped_codes(w, inputs[4]))
    return bad_input("group scales " + inputs[4].describe() + " for " + w.describe());
  if (inputs.size() > 5 && inputs[5].defined() && !holds(inputs[5], DType::f32, Shape{n}))
    return bad_input("bias " + inputs[5].describe() + " for " + w.describe());
  std::vector<int64_t> dims(rows.dims().begin(), rows.dims().end());
  dims.push_back(n);
  return Shape::of(dims);
}

Status check_quantized_codes(const Tensor& codes) {
  return check_quantized_codes(codes.data<int8_t>());
}

Status check_quantized_codes(std::span<const int8_t> codes) {
  if (within(codes, kInt8Codes)) return {};
  return bad_input("a code of -128: codes are -127 to 127");
}

bool within(std::span<const int8_t> codes, int greatest) {
  // Without an exit from the loop, which the compiler makes vector code of.
  int8_t least = 0, most = 0;
  for (const int8_t code : codes) {
    least = std::min(least, code);
    most = std::max(most, code);
  }
  return least >= -greatest && most <= greatest;
}

std::span<const OpDef> quantized_ops() { return kOps; }

}  // namespace verbatim
