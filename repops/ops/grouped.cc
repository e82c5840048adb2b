#include <verbatim/repops/ops/grouped.h>

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

#include <verbatim/core/parallel.h>
#include <verbatim/repops/ops/number.h>
#include <verbatim/repops/ops/quantized.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/sliced.h>
#include <verbatim/repops/ops/sum.h>

namespace verbatim {
namespace {

constexpr int64_t kMaxChannels = 1 << 20;  // of all heads

int64_t groups_of(int64_t k, int64_t group) { return (k + group - 1) / group; }

int greatest_code(const GroupFormat& f) { return (1 << (f.bits - 1)) - 1; }

// The group's codes; returns its scale.
template <class Step>
std::byte quantize_group(const Step& step, std::span<const float> x, int8_t* codes) {
  for (size_t i = 0; i < x.size(); ++i) codes[i] = step.code(x[i]);
  return std::byte{step.scale};
}

void quantize_row_groups(std::span<const float> row, const GroupFormat& f, float t, int8_t* codes,
                         std::byte* scales) {
  const int greatest = greatest_code(f);
  for (size_t k = 0, g = 0; k < row.size(); k += static_cast<size_t>(f.group), ++g) {
    const auto part =
        row.subspan(k, std::min<size_t>(static_cast<size_t>(f.group), row.size() - k));
    const float most = greatest_magnitude(part);
    scales[g] = f.scale == DType::f8e8m0
                    ? quantize_group(PowerStep(most, greatest), part, codes + k)
                    : quantize_group(SmallFloatStep(most, t, greatest), part, codes + k);
  }
}

// QuantizeGroups(x float32 [..., K]) with attributes bits (8), group (32), scale_type (ONNX's
// number: float8e8m0, the default, or float8e4m3fn), rotation (1: none), whole (0) -> codes int8
// [..., K], scales [..., ceil(K / group)], and with e4m3 row scales float32 [...].
Result<Tensors> quantize(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const QuantizeGroups p, quantize_groups_of(node, inputs[0]));
  VB_ASSIGN(const GroupedTensor q, quantize_groups(inputs[0], p.format, p.whole));
  return q.outputs();
}

// The value of each code of a scale's type; null: no type of scales.
const float* values_of_scales(DType type) {
  using Values = std::array<float, 256>;
  const auto values = [](auto value_of) {
    Values all;
    for (size_t code = 0; code < all.size(); ++code)
      all[code] = value_of(static_cast<uint8_t>(code));
    return all;
  };
  static const Values kPowers = values(float_from_e8m0), kSmallFloats = values(float_from_e4m3);
  return type == DType::f8e8m0   ? kPowers.data()
         : type == DType::f8e4m3 ? kSmallFloats.data()
                                 : nullptr;
}

// DequantizeGroups(codes, scales, row scales?) with attribute group (32) -> float32 [..., K].
Result<Tensors> dequantize(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const GroupFormat f, group_format_of(node));
  VB_ASSIGN(const GroupedRows r,
            grouped_rows(f.group, inputs[0], inputs[1], input_or_none(inputs, 2)));
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, inputs[0].shape()));
  float* y = out.mutable_data<float>().data();
  parallel_for(r.rows, 8, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i)
      for (int64_t k = 0; k < r.k; ++k) y[i * r.k + k] = r.value(i, k);
  });
  return Tensors{out};
}

// The fold of GroupFold.
float folded_dot(const GroupedRows& x, int64_t m, const GroupedRows& w, int64_t n) {
  const int8_t *a = x.codes + m * x.k, *b = w.codes + n * w.k;
  float acc = 0;
  for (int64_t g = 0; g < x.groups; ++g) {
    int32_t dot = 0;
    for (int64_t k = g * x.group; k < std::min((g + 1) * x.group, x.k); ++k)
      dot += int32_t{a[k]} * b[k];
    acc = fma32(static_cast<float>(dot), x.scale(m, g) * w.scale(n, g), acc);
  }
  return acc;
}

// GroupedLinear(x codes [..., K], x scales, w codes [N, K], w scales, x row scales?, w row scales
// [N] or []?, bias [N]?) with attributes group (32) and exponent (0) -> float32 [..., N]: GroupFold
// with 2^exponent as its power (-5 undoes a rotation by 32; -12 is OCP's implied 2^-6 in both
// operands).
Result<Tensors> grouped_linear(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const GroupedOperands p, grouped_operands(node, inputs));
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::f32, p.shape));
  float* y = out.mutable_data<float>().data();
  parallel_for(out.elements(), 64, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t m = i / p.w.rows, n = i % p.w.rows;
      y[i] = p.finished(folded_dot(p.x, m, p.w, n), m, n);
    }
  });
  return Tensors{out};
}

// ChannelOrder(w float32 [heads * size, K]) with attributes heads, pairs (0), repeat (1) -> int64
// [heads * repeat * size]: rows for Gather.
Result<Tensors> order(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const int64_t heads, node.attributes.require<int64_t>("heads"));
  VB_ASSIGN(const int64_t pairs, node.attributes.get<int64_t>("pairs", 0));
  VB_ASSIGN(const int64_t repeat, node.attributes.get<int64_t>("repeat", 1));
  VB_ASSIGN(const std::vector<int64_t> rows, channel_order(inputs[0], heads, pairs != 0, repeat));
  VB_ASSIGN(Tensor out,
            Tensor::from<int64_t>(Shape{static_cast<int64_t>(rows.size())}, std::span(rows)));
  return Tensors{out};
}

uint64_t element_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor>) {
  return saturating_multiply(static_cast<uint64_t>(inputs[0].elements()), 20);
}
uint64_t linear_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  return saturating_multiply(static_cast<uint64_t>(outputs[0].elements()),
                             4 * static_cast<uint64_t>(inputs[2].dim(1)) + 8);
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "QuantizeGroups", 1, 1, 3, quantize, element_cost},
    {kVerbatimDomain, "DequantizeGroups", 2, 3, 1, dequantize, element_cost},
    {kVerbatimDomain, "GroupedLinear", 4, 7, 1, grouped_linear, linear_cost},
    {kVerbatimDomain, "ChannelOrder", 1, 1, 1, order, element_cost},
};

Status check_rows(const Tensor& x, const GroupFormat& f) {
  if (x.dtype() != DType::f32 || x.rank() < 1) return bad_input("groups of " + x.describe());
  return check_group_format(f, x.dim(x.rank() - 1));
}

// The indices in one head of `size` channels, by falling value of norm(i), NaN last, ties by index.
template <class Norm>
std::vector<int64_t> falling(int64_t size, Norm&& norm) {
  std::vector<int64_t> index(static_cast<size_t>(size));
  std::iota(index.begin(), index.end(), int64_t{0});
  std::ranges::stable_sort(index, [&](int64_t a, int64_t b) {
    const float x = norm(a), y = norm(b);
    return is_nan(y) ? !is_nan(x) : x > y;
  });
  return index;
}

}  // namespace

Status check_group_format(const GroupFormat& f, int64_t k) {
  if (f.bits < 2 || f.bits > 8 || f.group < 1 || f.group > kMaxGroup)
    return bad_input("groups of " + std::to_string(f.group) + " elements of " +
                     std::to_string(f.bits) + " bits: 1 to 256 of 2 to 8 are possible");
  if (f.scale != DType::f8e8m0 && f.scale != DType::f8e4m3)
    return unsupported("group scales of type " + std::string(name_of(f.scale)));
  if (f.rotation < 1 || !std::has_single_bit(static_cast<uint64_t>(f.rotation)) ||
      k % f.rotation != 0)
    return bad_input("rotation " + std::to_string(f.rotation) + " of rows of " + std::to_string(k) +
                     ": a power of two that divides them is wanted");
  return {};
}

Result<GroupFormat> group_format_of(const Node& node) {
  GroupFormat f;
  VB_ASSIGN(const int64_t bits, node.attributes.get<int64_t>("bits", f.bits));
  VB_ASSIGN(f.group, node.attributes.get<int64_t>("group", f.group));
  VB_ASSIGN(f.rotation, node.attributes.get<int64_t>("rotation", f.rotation));
  VB_ASSIGN(const int64_t scale,
            node.attributes.get<int64_t>("scale_type", static_cast<int64_t>(f.scale)));
  f.bits = static_cast<int>(std::clamp<int64_t>(bits, 0, 9));
  f.scale = dtype_from_onnx(scale);
  return f;
}

Result<GroupedTensor> allocate_groups(const Tensor& x, const GroupFormat& f) {
  const auto leading = x.shape().dims().first(static_cast<size_t>(x.rank() - 1));
  VB_ASSIGN(const Shape rows, Shape::of(leading));
  std::vector<int64_t> dims(leading.begin(), leading.end());
  dims.push_back(groups_of(x.dim(x.rank() - 1), f.group));
  VB_ASSIGN(const Shape scales, Shape::of(dims));
  const auto beside_x = [&](DType type, const Shape& shape) {
    return x.device() == nullptr ? Tensor::allocate(type, shape)
                                 : Tensor::allocate_on(*x.device(), type, shape);
  };
  GroupedTensor q;
  VB_ASSIGN(q.codes, beside_x(DType::i8, x.shape()));
  VB_ASSIGN(q.scales, beside_x(f.scale, scales));
  VB_ASSIGN(q.row_scales, beside_x(DType::f32, rows));
  return q;
}

GroupCodes group_codes(const Tensor& x, const GroupFormat& f, GroupedTensor& q) {
  const bool small_floats = f.scale == DType::f8e4m3;
  return {.x = reinterpret_cast<const float*>(x.address()),
          .k = x.dim(x.rank() - 1),
          .group = f.group,
          .rotation = f.rotation,
          .greatest = greatest_code(f),
          .codes = reinterpret_cast<int8_t*>(q.codes.mutable_address()),
          .scales = reinterpret_cast<uint8_t*>(q.scales.mutable_address()),
          .row_scales =
              small_floats ? reinterpret_cast<float*>(q.row_scales.mutable_address()) : nullptr};
}

Tensors GroupedTensor::outputs() const {
  if (scales.dtype() == DType::f8e8m0) return {codes, scales};
  return {codes, scales, row_scales};
}

Result<QuantizeGroups> quantize_groups_of(const Node& node, const Tensor& x) {
  VB_ASSIGN(const GroupFormat f, group_format_of(node));
  VB_ASSIGN(const int64_t whole, node.attributes.get<int64_t>("whole", 0));
  if (f.scale == DType::f8e8m0 && node.outputs.size() > 2)
    return bad_input("row scales are an output with e4m3 scales only");
  VB_TRY(check_rows(x, f));
  return QuantizeGroups{f, whole != 0};
}

Result<GroupedRows> grouped_rows(int64_t group, const Tensor& codes, const Tensor& scales,
                                 const Tensor& row_scales) {
  const auto fail = [&](const Tensor& t) {
    return bad_input("scales " + t.describe() + " for codes " + codes.describe() +
                     " in groups of " + std::to_string(group));
  };
  if (codes.dtype() != DType::i8 || codes.rank() < 1 || group < 1 || group > kMaxGroup)
    return fail(scales);
  GroupedRows r;
  r.k = codes.dim(codes.rank() - 1);
  r.group = group;
  r.groups = groups_of(r.k, group);
  const auto leading = codes.shape().dims().first(static_cast<size_t>(codes.rank() - 1));
  VB_ASSIGN(const Shape rows, Shape::of(leading));
  r.rows = rows.elements();
  std::vector<int64_t> dims(leading.begin(), leading.end());
  dims.push_back(r.groups);
  VB_ASSIGN(const Shape wanted, Shape::of(dims));
  if (!(scales.shape() == wanted)) return fail(scales);
  r.scale_values = values_of_scales(scales.dtype());
  if (r.scale_values == nullptr) return unsupported("group scales " + scales.describe());
  r.small_floats = scales.dtype() == DType::f8e4m3;
  r.scales = reinterpret_cast<const uint8_t*>(scales.address());
  r.codes = reinterpret_cast<const int8_t*>(codes.address());
  if (!row_scales.defined()) return r;
  r.one_row_scale = row_scales.rank() == 0;
  if (row_scales.dtype() != DType::f32 || !(r.one_row_scale || row_scales.shape() == rows))
    return fail(row_scales);
  r.row_scales = reinterpret_cast<const float*>(row_scales.address());
  return r;
}

Result<GroupedOperands> grouped_operands(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const GroupFormat f, group_format_of(node));
  GroupedOperands p;
  VB_ASSIGN(p.x, grouped_rows(f.group, inputs[0], inputs[1], input_or_none(inputs, 4)));
  VB_ASSIGN(p.w, grouped_rows(f.group, inputs[2], inputs[3], input_or_none(inputs, 5)));
  VB_ASSIGN(const int64_t exponent, node.attributes.get<int64_t>("exponent", 0));
  const Tensor bias = input_or_none(inputs, 6);
  if (inputs[2].rank() != 2 || p.x.k != p.w.k)
    return bad_input("codes " + inputs[0].describe() + " and " + inputs[2].describe() +
                     " do not multiply");
  if (bias.defined() && (bias.dtype() != DType::f32 || !(bias.shape() == Shape{p.w.rows})))
    return bad_input("bias " + bias.describe() + " for " + inputs[2].describe());
  if (exponent < -126 || exponent > 127)
    return bad_input("exponent " + std::to_string(exponent) + ": -126 to 127 are possible");
  p.power = float_of(static_cast<uint32_t>(exponent + 127) << 23);
  if (bias.defined()) p.bias = reinterpret_cast<const float*>(bias.address());
  std::vector<int64_t> dims(inputs[0].shape().dims().begin(), inputs[0].shape().dims().end());
  dims.back() = p.w.rows;
  VB_ASSIGN(p.shape, Shape::of(dims));
  return p;
}

Result<GroupedTensor> quantize_groups(const Tensor& x, const GroupFormat& f, bool whole) {
  VB_TRY(check_rows(x, f));
  const int64_t k = x.dim(x.rank() - 1);
  const int64_t groups = groups_of(k, f.group);
  VB_ASSIGN(GroupedTensor q, allocate_groups(x, f));
  VB_ASSIGN(Tensor rotated, Tensor::allocate(DType::f32, x.shape()));
  std::ranges::copy(x.data<float>(), rotated.mutable_data<float>().begin());
  const auto values = rotated.mutable_data<float>();
  for (size_t i = 0; f.rotation > 1 && i < values.size(); i += static_cast<size_t>(f.rotation))
    rotate_row(values.subspan(i, static_cast<size_t>(f.rotation)), f.rotation);
  int8_t* codes = q.codes.mutable_data<int8_t>().data();
  float* row_scales = q.row_scales.mutable_data<float>().data();
  std::byte* scales = q.scales.mutable_bytes().data();
  const auto row_scale = [&](std::span<const float> numbers) {
    return group_row_scale(greatest_magnitude(numbers), greatest_code(f));
  };
  const float common = whole ? row_scale(values) : 0.0f;
  parallel_for(q.row_scales.elements(), 8, [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; ++r) {
      const auto row = values.subspan(static_cast<size_t>(r * k), static_cast<size_t>(k));
      row_scales[r] = whole ? common : row_scale(row);
      quantize_row_groups(row, f, row_scales[r], codes + r * k, scales + r * groups);
    }
  });
  return q;
}

Result<std::vector<int64_t>> channel_order(const Tensor& w, int64_t heads, bool pairs,
                                           int64_t repeat) {
  if (w.dtype() != DType::f32 || w.rank() != 2 || heads < 1 || w.dim(0) % heads != 0 ||
      (pairs && w.dim(0) / heads % 2 != 0) || repeat < 1 || repeat > kMaxGroup)
    return bad_input("channels of " + w.describe() + " in " + std::to_string(heads) + " heads, " +
                     std::to_string(repeat) + " times");
  if (w.dim(0) * repeat > kMaxChannels)
    return over_limit(std::to_string(w.dim(0) * repeat) + " channels to order");
  const int64_t k = w.dim(1), size = w.dim(0) / heads, half = size / 2;
  std::vector<float> norms(static_cast<size_t>(w.dim(0)));
  for (int64_t r = 0; r < w.dim(0); ++r)
    norms[static_cast<size_t>(r)] = ordered_sum_of_squares<float>(
        k, [&](int64_t i) { return w.data<float>()[static_cast<size_t>(r * k + i)]; });
  std::vector<int64_t> order;
  for (int64_t h = 0; h < heads; ++h) {
    const float* norm = norms.data() + h * size;
    std::vector<int64_t> head;
    if (!pairs) head = falling(size, [&](int64_t i) { return norm[i]; });
    if (pairs)
      for (const int64_t i : falling(half, [&](int64_t j) { return norm[j] + norm[j + half]; }))
        head.insert(head.end(), {i, i + half});
    for (int64_t r = 0; r < repeat; ++r)
      for (const int64_t i : head) order.push_back((h * repeat + r) * size + i);
  }
  return order;
}

std::span<const OpDef> grouped_ops() { return kOps; }

}  // namespace verbatim
