// Quantised tensors. An integer code is rne(x / scale) + zero point, saturated; a NaN quotient
// counts as 0. A floating code is x / scale, converted; its zero point is 0. Products of codes are
// exact in int32, which wraps.
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/convolution.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

// Which scale belongs to element i: one for the tensor, one for each index of an axis, or one for
// each block along it.
struct ScaleMap {
  int64_t count = 1, dim = 1, inner = 1, blocks = 1, block = 1;
  bool blocked = false;
  int64_t operator()(int64_t i) const {
    if (count == 1) return 0;
    const int64_t k = i / inner % dim;
    return blocked ? (i / (inner * dim) * blocks + k / block) * inner + i % inner : k;
  }
};

Result<ScaleMap> scale_map(const Node& node, const Tensor& x, const Tensor& scale) {
  VB_ASSIGN(const int64_t a, node.attributes.get<int64_t>("axis", 1));
  VB_ASSIGN(const int64_t block, node.attributes.get<int64_t>("block_size", 0));
  const auto mismatch = [&] {
    return bad_input("scale " + scale.describe() + " for " + x.describe());
  };
  ScaleMap map;
  map.count = scale.elements();
  if (scale.rank() == 0 || (scale.elements() == 1 && block == 0)) return map;
  VB_ASSIGN(const int axis, x.shape().axis(a));
  map.dim = x.dim(axis);
  map.inner = x.shape().elements(axis + 1, x.rank());
  if (block == 0)
    return scale.rank() == 1 && scale.elements() == map.dim ? Result<ScaleMap>(map) : mismatch();
  if (block < 0 || scale.rank() != x.rank()) return mismatch();
  map.blocked = true;
  map.block = block;
  map.blocks = map.dim / block + (map.dim % block != 0 ? 1 : 0);
  for (int d = 0; d < x.rank(); ++d)
    if (scale.dim(d) != (d == axis ? map.blocks : x.dim(d))) return mismatch();
  if (map.count == 1) map.count = 2;  // a single block, found by the general rule
  return map;
}

template <class Q>
inline constexpr int64_t kLeastCode = std::numeric_limits<Compute<Q>>::min();
template <class Q>
inline constexpr int64_t kGreatestCode = std::numeric_limits<Compute<Q>>::max();
template <>
inline constexpr int64_t kGreatestCode<UInt4> = 15;
template <>
inline constexpr int64_t kLeastCode<Int4> = -8;
template <>
inline constexpr int64_t kGreatestCode<Int4> = 7;
template <>
inline constexpr int64_t kGreatestCode<UInt2> = 3;
template <>
inline constexpr int64_t kLeastCode<Int2> = -2;
template <>
inline constexpr int64_t kGreatestCode<Int2> = 1;

template <class Q, class C>
Q quantize(C x, C scale, int64_t zero) {
  const int64_t code =
      std::clamp<int64_t>(saturate<int64_t>(static_cast<double>(round_even_of(x / scale))),
                          -kMaxSize, kMaxSize) +
      zero;
  return store<Q>(
      static_cast<Compute<Q>>(std::clamp<int64_t>(code, kLeastCode<Q>, kGreatestCode<Q>)));
}

// Calls f with the C++ type of an integer code of up to 16 bits.
template <class R, class F>
Result<R> visit_code(DType dtype, F&& f) {
  switch (dtype) {
    case DType::u8:
      return f(uint8_t{});
    case DType::i8:
      return f(int8_t{});
    case DType::u16:
      return f(uint16_t{});
    case DType::i16:
      return f(int16_t{});
    case DType::u4:
      return f(UInt4{});
    case DType::i4:
      return f(Int4{});
    case DType::u2:
      return f(UInt2{});
    case DType::i2:
      return f(Int2{});
    default:
      return unsupported("codes of type " + std::string(name_of(dtype)));
  }
}

// The same for a floating code.
template <class R, class F>
Result<R> visit_float_code(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f8e4m3:
      return f(Float8E4M3{});
    case DType::f8e5m2:
      return f(Float8E5M2{});
    case DType::f8e4m3fnuz:
      return f(Float8E4M3FNUZ{});
    case DType::f8e5m2fnuz:
      return f(Float8E5M2FNUZ{});
    case DType::f4e2m1:
      return f(Float4E2M1{});
    default:
      return unsupported("codes of type " + std::string(name_of(dtype)));
  }
}

// Calls f with the C++ type of a scale: a floating type, or e8m0.
template <class R, class F>
Result<R> visit_scale(const Tensor& scale, F&& f) {
  return scale.dtype() == DType::f8e8m0 ? f(Float8E8M0{}) : visit_float<R>(scale, f);
}

// A floating code has no zero point but 0.
template <class Q>
Status check_zero(const Tensor& zero) {
  if (zero.defined() && std::ranges::any_of(zero.data<Q>(), [](Q z) { return load(z) != 0; }))
    return bad_input("a zero point other than 0 for floating codes");
  return {};
}

template <class Q, class X, class S>
Result<Tensors> quantize_as(const Tensor& x, const Tensor& scale, const Tensor& zero,
                            const ScaleMap& map, bool saturate) {
  if constexpr (!std::is_same_v<Compute<X>, Compute<S>>) {
    return bad_input("scale " + scale.describe() + " for " + x.describe());
  } else {
    VB_ASSIGN(Tensor y, Tensor::allocate(dtype_of<Q>(), x.shape()));
    Q* codes = y.mutable_data<Q>().data();
    for (int64_t i = 0; i < x.elements(); ++i) {
      const int64_t s = map(i);
      const Compute<X> v = load(x.data<X>()[i]), by = load(scale.data<S>()[s]);
      if constexpr (is_float(dtype_of<Q>()))
        codes[i] = to_small_float<Q>(v / by, {saturate});
      else
        codes[i] = quantize<Q>(v, by, zero.defined() ? int64_t{load(zero.data<Q>()[s])} : 0);
    }
    return Tensors{y};
  }
}

// A zero point, where there is one, for each scale. ONNX's own cases give one in a vector, too.
bool pairs(const Tensor& zero, const Tensor& scale) {
  return !zero.defined() || zero.shape() == scale.shape() ||
         (zero.elements() == 1 && scale.elements() == 1);
}

// QuantizeLinear(x, scale, zero_point?; axis, block_size, output_dtype, saturate).
Result<Tensors> quantize_linear(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &scale = inputs[1], zero = inputs.size() > 2 ? inputs[2] : Tensor();
  VB_ASSIGN(const int64_t wanted, node.attributes.get<int64_t>("output_dtype", 0));
  VB_ASSIGN(const int64_t saturate, node.attributes.get<int64_t>("saturate", 1));
  const DType dtype = zero.defined() ? zero.dtype()
                      : wanted != 0  ? dtype_from_onnx(wanted)
                                     : DType::u8;
  if (!pairs(zero, scale))
    return bad_input("zero point " + zero.describe() + " for scale " + scale.describe());
  VB_ASSIGN(const ScaleMap map, scale_map(node, x, scale));
  const auto quantized = [&](auto code) {
    using Q = decltype(code);
    return visit_float<Tensors>(x, [&](auto x_type) {
      using X = decltype(x_type);
      return visit_scale<Tensors>(scale, [&](auto s) {
        return quantize_as<Q, X, decltype(s)>(x, scale, zero, map, saturate != 0);
      });
    });
  };
  if (!is_float(dtype)) return visit_code<Tensors>(dtype, quantized);
  return visit_float_code<Tensors>(dtype, [&](auto code) -> Result<Tensors> {
    VB_TRY(check_zero<decltype(code)>(zero));
    return quantized(code);
  });
}

// (x - zero point) * scale. The difference of integers is exact, then rounded; that of floats is
// binary32's.
template <class Q, class S, class Y>
Result<Tensors> dequantize_as(const Tensor& x, const Tensor& scale, const Tensor& zero,
                              const ScaleMap& map) {
  using C = Compute<Y>;
  if constexpr (!std::is_same_v<C, Compute<S>>) {
    return unsupported("scale " + scale.describe() + " for " + std::string(name_of(dtype_of<Y>())));
  } else {
    VB_ASSIGN(Tensor y, Tensor::allocate(dtype_of<Y>(), x.shape()));
    Y* out = y.mutable_data<Y>().data();
    for (int64_t i = 0; i < x.elements(); ++i) {
      const int64_t s = map(i);
      const auto code = load(x.data<Q>()[i]);
      C distance;
      if constexpr (is_float(dtype_of<Q>())) {
        distance = static_cast<C>(code - (zero.defined() ? load(zero.data<Q>()[s]) : 0));
      } else {
        const int64_t z = zero.defined() ? static_cast<int64_t>(load(zero.data<Q>()[s])) : 0;
        distance = static_cast<C>(subtract_of(static_cast<int64_t>(code), z));
      }
      out[i] = store<Y>(distance * load(scale.data<S>()[s]));
    }
    return Tensors{y};
  }
}

// Calls f with the C++ type of a code that DequantizeLinear takes: floating, or any integer.
template <class F>
Result<Tensors> visit_any_code(const Tensor& x, F&& f) {
  if (is_float(x.dtype())) return visit_float_code<Tensors>(x.dtype(), f);
  if (is_sub_byte(x.dtype())) return visit_code<Tensors>(x.dtype(), f);
  return visit_integer<Tensors>(x, f);
}

// DequantizeLinear(x, scale, zero_point?; axis, block_size, output_dtype): float(x - zero_point) *
// scale, computed in the scale's computing type and rounded to the output's: the scale's by
// default.
Result<Tensors> dequantize_linear(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &scale = inputs[1], zero = inputs.size() > 2 ? inputs[2] : Tensor();
  VB_ASSIGN(const int64_t wanted, node.attributes.get<int64_t>("output_dtype", 0));
  const DType to = wanted != 0 ? dtype_from_onnx(wanted) : scale.dtype();
  if (!pairs(zero, scale) || (zero.defined() && zero.dtype() != x.dtype()))
    return bad_input("zero point " + zero.describe() + " for " + x.describe());
  VB_ASSIGN(const ScaleMap map, scale_map(node, x, scale));
  return visit_any_code(x, [&](auto code) {
    using Q = decltype(code);
    return visit_scale<Tensors>(scale, [&](auto scale_type) {
      return visit_float<Tensors>(to, [&](auto out_type) {
        return dequantize_as<Q, decltype(scale_type), decltype(out_type)>(x, scale, zero, map);
      });
    });
  });
}

// DynamicQuantizeLinear(x) -> codes, scale, zero point: the range is widened to hold 0; scale =
// (max - min) / 255; zero point = saturate(rne(0 - min / scale)).
Result<Tensors> dynamic_quantize_linear(const Node&, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (x.dtype() != DType::f32) return bad_input("wants float32, not " + x.describe());
  float low = 0, high = 0;
  for (float v : x.data<float>()) {
    low = minimum(low, v);
    high = maximum(high, v);
  }
  const float scale = (high - low) / 255.0f;
  const auto zero = quantize<uint8_t>(0.0f - low / scale, 1.0f, 0);
  VB_ASSIGN(Tensor y, Tensor::allocate(DType::u8, x.shape()));
  for (int64_t i = 0; i < x.elements(); ++i)
    y.mutable_data<uint8_t>()[i] = quantize<uint8_t>(x.data<float>()[i], scale, zero);
  VB_ASSIGN(Tensor scale_tensor, Tensor::scalar(canonical(scale)));
  VB_ASSIGN(Tensor zero_tensor, Tensor::scalar(zero));
  return Tensors{y, scale_tensor, zero_tensor};
}

// --- products of codes
// ------------------------------------------------------------------------------------------------------

// codes - zero point as int32; the zero point broadcasts.
Result<Tensor> centred(const Tensor& codes, const Tensor& zero) {
  if (codes.dtype() != DType::u8 && codes.dtype() != DType::i8)
    return bad_input("codes are " + codes.describe());
  if (zero.defined() && zero.dtype() != codes.dtype())
    return bad_input("zero point " + zero.describe() + " for " + codes.describe());
  if (zero.defined()) {
    VB_ASSIGN(const Shape shape, broadcast(zero.shape(), codes.shape()));
    if (!(shape == codes.shape()))
      return bad_input("zero point " + zero.describe() + " for " + codes.describe());
  }
  VB_ASSIGN(Tensor out, Tensor::allocate(DType::i32, codes.shape()));
  const Strides strides =
      zero.defined() ? broadcast_strides(zero.shape(), codes.shape()) : Strides{};
  return visit_code<Tensor>(codes.dtype(), [&](auto type) -> Result<Tensor> {
    using Q = decltype(type);
    int32_t* y = out.mutable_data<int32_t>().data();
    for_each_element<1>(codes.shape(), {strides}, [&](int64_t i, const std::array<int64_t, 1>& at) {
      y[i] = load(codes.data<Q>()[i]) - (zero.defined() ? load(zero.data<Q>()[at[0]]) : 0);
    });
    return out;
  });
}

// A vector [n] as [n, 1, 1, ...] so that it broadcasts along the first of `rank` dimensions, where
// there is one.
Result<Tensor> along_first(const Tensor& t, int rank) {
  if (rank < 1 || !t.defined() || t.rank() != 1 || t.elements() == 1) return t;
  std::vector<int64_t> dims(static_cast<size_t>(rank), 1);
  dims[0] = t.elements();
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  return t.reshaped(shape);
}

Result<Tensor> integer_matmul(const Tensor& a, const Tensor& b, const Tensor& a_zero,
                              const Tensor& b_zero) {
  VB_ASSIGN(const Tensor rows, along_first(a_zero, 2));
  VB_ASSIGN(const Tensor a_wide, centred(a, rows));
  VB_ASSIGN(const Tensor b_wide, centred(b, b_zero));
  VB_ASSIGN(const Tensors product, find_op("", "MatMul")->evaluate({}, std::array{a_wide, b_wide}));
  return product[0];
}

Result<Tensors> matmul_integer(const Node&, std::span<const Tensor> inputs) {
  const auto optional = [&](size_t i) { return inputs.size() > i ? inputs[i] : Tensor(); };
  VB_ASSIGN(Tensor y, integer_matmul(inputs[0], inputs[1], optional(2), optional(3)));
  return Tensors{y};
}

Result<Tensor> integer_convolution(const Node& node, const Tensor& x, const Tensor& w,
                                   const Tensor& x_zero, const Tensor& w_zero, const Tensor& bias) {
  VB_ASSIGN(const Tensor channels, along_first(w_zero, w.rank()));
  VB_ASSIGN(const Tensor x_wide, centred(x, x_zero));
  VB_ASSIGN(const Tensor w_wide, centred(w, channels));
  return convolve(node, x_wide, w_wide, bias, false);
}

Result<Tensors> convolution_integer(const Node& node, std::span<const Tensor> inputs) {
  const auto optional = [&](size_t i) { return inputs.size() > i ? inputs[i] : Tensor(); };
  VB_ASSIGN(Tensor y,
            integer_convolution(node, inputs[0], inputs[1], optional(2), optional(3), Tensor()));
  return Tensors{y};
}

// The values of a floating tensor in binary32.
Result<std::vector<float>> read_scales(const Tensor& t) {
  return visit_float<std::vector<float>>(t, [&](auto type) -> Result<std::vector<float>> {
    std::vector<float> values;
    for (auto v : t.data<decltype(type)>()) values.push_back(static_cast<float>(load(v)));
    return values;
  });
}

// codes of float(sum) * ((a_scale * b_scale) / y_scale), the factor in binary32. Several b_scales
// belong to the indices of `axis`, several a_scales to the rows of a product.
Result<Tensors> requantize(const Tensor& sums, const Tensor& a_scale, const Tensor& b_scale,
                           const Tensor& y_scale, const Tensor& y_zero, int axis) {
  VB_ASSIGN(const std::vector<float> a, read_scales(a_scale));
  VB_ASSIGN(const std::vector<float> b, read_scales(b_scale));
  VB_ASSIGN(const std::vector<float> out, read_scales(y_scale));
  const int64_t inner = sums.shape().elements(axis + 1, sums.rank()), columns = sums.dim(axis);
  const int64_t rows = axis == sums.rank() - 1 && sums.rank() > 1 ? sums.dim(axis - 1) : 1;
  const auto count = [](const std::vector<float>& v) { return static_cast<int64_t>(v.size()); };
  if (out.size() != 1 || (count(b) != 1 && count(b) != columns) ||
      (count(a) != 1 && count(a) != rows) || y_zero.elements() != 1)
    return bad_input("scales " + a_scale.describe() + ", " + b_scale.describe() + ", " +
                     y_scale.describe() + " for " + sums.describe());
  VB_ASSIGN(Tensor y, Tensor::allocate(y_zero.dtype(), sums.shape()));
  return visit_code<Tensors>(y_zero.dtype(), [&](auto type) -> Result<Tensors> {
    using Q = decltype(type);
    const int64_t zero = load(y_zero.data<Q>()[0]);
    for (int64_t i = 0; i < sums.elements(); ++i) {
      const float sa = a[count(a) == 1 ? 0 : i / columns % rows],
                  sb = b[count(b) == 1 ? 0 : i / inner % columns];
      const float factor = (sa * sb) / out[0];
      y.mutable_data<Q>()[i] =
          quantize<Q>(static_cast<float>(sums.data<int32_t>()[i]) * factor, 1.0f, zero);
    }
    return Tensors{y};
  });
}

// QLinearMatMul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero).
Result<Tensors> quantized_matmul(const Node&, std::span<const Tensor> inputs) {
  if (inputs[3].rank() < 1 || inputs[0].rank() < 2)
    return bad_input("operands " + inputs[0].describe() + ", " + inputs[3].describe());
  VB_ASSIGN(const Tensor sums, integer_matmul(inputs[0], inputs[3], inputs[2], inputs[5]));
  if (sums.rank() == 0) return bad_input("a product of vectors");
  return requantize(sums, inputs[1], inputs[4], inputs[6], inputs[7], sums.rank() - 1);
}

// QLinearConv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias int32?).
Result<Tensors> quantized_convolution(const Node& node, std::span<const Tensor> inputs) {
  const Tensor bias = inputs.size() > 8 ? inputs[8] : Tensor();
  VB_ASSIGN(const Tensor sums,
            integer_convolution(node, inputs[0], inputs[3], inputs[2], inputs[5], bias));
  return requantize(sums, inputs[1], inputs[4], inputs[6], inputs[7], 1);
}

uint64_t matmul_cost(uint64_t k, const Tensor& y) {
  return saturating_multiply(2 * k, static_cast<uint64_t>(y.elements()));
}
uint64_t matmul_integer_cost(const Node&, std::span<const Tensor> inputs,
                             std::span<const Tensor> outputs) {
  const Tensor& a = inputs[0];
  return matmul_cost(static_cast<uint64_t>(a.rank() == 0 ? 1 : a.dim(a.rank() - 1)), outputs[0]);
}
uint64_t quantized_convolution_cost(const Node& node, std::span<const Tensor> inputs,
                                    std::span<const Tensor> outputs) {
  return convolution_cost(node, std::array{inputs[0], inputs[3]}, outputs);
}

constexpr OpDef kOps[] = {
    {"", "QuantizeLinear", 2, 3, 1, quantize_linear},
    {"", "DequantizeLinear", 2, 3, 1, dequantize_linear},
    {"", "DynamicQuantizeLinear", 1, 1, 3, dynamic_quantize_linear},
    {"", "MatMulInteger", 2, 4, 1, matmul_integer, matmul_integer_cost},
    {"", "QLinearMatMul", 8, 8, 1, quantized_matmul, matmul_integer_cost},
    {"", "ConvInteger", 2, 4, 1, convolution_integer, convolution_cost},
    {"", "QLinearConv", 8, 9, 1, quantized_convolution, quantized_convolution_cost},
};

}  // namespace

std::span<const OpDef> quantization_ops() { return kOps; }

}  // namespace verbatim
