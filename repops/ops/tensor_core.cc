#include <verbatim/repops/ops/tensor_core.h>

#include <algorithm>
#include <vector>

#include <verbatim/core/parallel.h>
#include <verbatim/repops/ops/number.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace tensor_core {
namespace {

// One chain over `count` elements from +0. What is short of a group is padded with zeros, which take no part.
template <class A, class B, class T>
float chain(const Unit& unit, const T* a, const T* b, int64_t count) {
  float acc = 0;
  for (int64_t k = 0; k < count; k += unit.rule.group) {
    const int n = static_cast<int>(std::min<int64_t>(unit.rule.group, count - k));
    if (!unit.unpacked) {
      acc = step<A, B>(unit.rule, acc, a + k, b + k, n);
    } else if constexpr (A::bits == 8) {
      T x[32] = {}, y[32] = {};
      std::copy_n(a + k, n, x);
      std::copy_n(b + k, n, y);
      acc = step_unpacked<A, B>(acc, x, y);
    }
  }
  return acc;
}

template <class A, class B, class T>
float slice_sum(const Unit& unit, bool precise, const T* a, const T* b, int64_t count) {
  if (!precise) return chain<A, B>(unit, a, b, count);
  float master = 0;
  for (int64_t k = 0; k < count; k += kPreciseBlock) {
    const float part = chain<A, B>(unit, a + k, b + k, std::min(kPreciseBlock, count - k));
    master = k == 0 ? part : master + part;
  }
  return master;
}

template <class A, class B, class T>
float product(const Unit& unit, const Chains& chains, const T* a, const T* b, int64_t k_size) {
  float sum = 0;
  for (int64_t s = 0; s < chains.split; ++s) {
    const int64_t begin = s * chains.slice, count = std::min(chains.slice, k_size - begin);
    const float part = slice_sum<A, B>(unit, chains.precise, a + begin, b + begin, count);
    sum = s == 0 ? part : sum + part;
  }
  return canonical(sum);  // infinities that were added give another NaN on each processor
}

template <class A, class B>
float sum_of(const LinearOperands& o, int64_t m, int64_t n) {
  using Code = decltype(A::bits);
  return product<typename FormatOf<A>::type, typename FormatOf<B>::type>(
      o.unit, o.chains, static_cast<const Code*>(o.x) + m * o.k, static_cast<const Code*>(o.w) + n * o.k, o.k);
}

// For operands that unit_of() takes: both of 16 bits and the same, or both fp8.
LinearOperands::Sum sum_for(DType a, DType b) {
  if (a == DType::bf16) return sum_of<BFloat16, BFloat16>;
  if (a == DType::f16) return sum_of<Half, Half>;
  if (a == DType::f8e4m3) return b == a ? sum_of<Float8E4M3, Float8E4M3> : sum_of<Float8E4M3, Float8E5M2>;
  return b == a ? sum_of<Float8E5M2, Float8E5M2> : sum_of<Float8E5M2, Float8E4M3>;
}

bool holds_floats(const Tensor& t, const Shape& shape) { return t.dtype() == DType::f32 && t.shape() == shape; }

const float* floats(const Tensor& t) { return reinterpret_cast<const float*>(t.address()); }

Status read_epilogue(std::span<const Tensor> inputs, const Shape& rows, Epilogue& e) {
  const auto given = [&](size_t i) { return inputs.size() > i && inputs[i].defined(); };
  const Tensor& w = inputs[1];
  const Shape columns{w.dim(0)};
  if (given(2)) {
    if (!holds_floats(inputs[2], columns)) return bad_input("bias " + inputs[2].describe() + " for weight " + w.describe());
    e.bias = floats(inputs[2]);
  }
  if (given(3) != given(4)) return bad_input("scales of one operand only");
  if (!given(3)) return {};
  if (!holds_floats(inputs[3], rows) || !holds_floats(inputs[4], columns))
    return bad_input("scales " + inputs[3].describe() + " and " + inputs[4].describe() + " for " + inputs[0].describe() + " and " +
                     w.describe());
  e.x_scales = floats(inputs[3]);
  e.w_scales = floats(inputs[4]);
  return {};
}

// TensorCoreLinear(x [..., K], w [N, K], bias float32 [N]?, x scales float32 [...]?, w scales float32 [N]?) -> [..., N]: the product
// as the member's tensor cores compute it, then * (x scale * w scale), then + bias in binary32, then one rounding to `output` (ONNX's
// number; default float32). Attributes: member, split, precise (fp8).
Result<Tensors> linear(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const LinearOperands o, linear_operands(node, inputs));
  VB_ASSIGN(const Shape shape, Shape::of(o.dims));
  VB_ASSIGN(Tensor sums, Tensor::allocate(DType::f32, shape));
  float* y = sums.mutable_data<float>().data();
  parallel_for(sums.elements(), 64, [&](int64_t from, int64_t until) {
    for (int64_t i = from; i < until; ++i) y[i] = o.sum(o, i / o.n, i % o.n);
  });
  VB_ASSIGN(Tensor out, finish_linear(o, std::move(sums)));
  return Tensors{out};
}

uint64_t linear_cost(const Node&, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  const auto k = static_cast<uint64_t>(inputs[1].dim(1));
  return static_cast<uint64_t>(outputs[0].elements()) * 2 * std::max<uint64_t>(k, 1);
}

constexpr OpDef kOps[] = {
    {kVerbatimDomain, "TensorCoreLinear", 2, 5, 1, linear, linear_cost},
};

}  // namespace

Result<Unit> unit_of(std::string_view member, DType a, DType b) {
  const bool float8 = is_float8(a) && is_float8(b), wide = a == b && (a == DType::bf16 || a == DType::f16);
  if (wide && member == "sm90") return Unit{kSm90};
  if (wide && (member == "sm80" || member == "sm89")) return Unit{kSm80};
  if (float8 && member == "sm90") return Unit{kSm90Float8};
  if (float8 && member == "sm90_mma") return Unit{{32, kSm90.fraction, kSm90.floor, kSm90.kept}, true};
  if (float8 && member == "sm89") return Unit{kSm89Float8};
  return unsupported("the tensor cores of '" + printable(member) + "' multiplying " + std::string(name_of(a)) + " and " +
                     std::string(name_of(b)));
}

Result<LinearOperands> linear_operands(const Node& node, std::span<const Tensor> inputs) {
  const Tensor &x = inputs[0], &w = inputs[1];
  LinearOperands o;
  VB_ASSIGN(const std::string member, node.attributes.get<std::string>("member", std::string(kDefaultMember)));
  VB_ASSIGN(o.unit, unit_of(member, x.dtype(), w.dtype()));
  if (x.rank() < 1 || w.rank() != 2 || x.dim(x.rank() - 1) != w.dim(1))
    return bad_input("shapes " + x.describe() + " and " + w.describe());
  VB_ASSIGN(const Shape rows, Shape::of(x.shape().dims().first(static_cast<size_t>(x.rank() - 1))));
  VB_TRY(read_epilogue(inputs, rows, o.epilogue));
  VB_ASSIGN(const int64_t output, node.attributes.get<int64_t>("output", static_cast<int64_t>(DType::f32)));
  o.output = dtype_from_onnx(output);
  if (o.output != DType::f32 && o.output != DType::bf16 && o.output != DType::f16)
    return unsupported("output type " + std::to_string(output));
  o.m = rows.elements();
  o.n = w.dim(0);
  o.k = w.dim(1);
  VB_ASSIGN(const int64_t split, node.attributes.get<int64_t>("split", 1));
  VB_ASSIGN(const int64_t precise, node.attributes.get<int64_t>("precise", 0));
  VB_ASSIGN(o.chains, cut(o.k, split, is_float8(x.dtype()), precise != 0));
  o.dims.assign(x.shape().dims().begin(), x.shape().dims().end());
  o.dims.back() = o.n;
  o.x = x.address();
  o.w = w.address();
  o.sum = sum_for(x.dtype(), w.dtype());
  return o;
}

Result<Tensor> finish_linear(const LinearOperands& o, Tensor sums) {
  const float* from = sums.data<float>().data();
  if (o.output == DType::f32 && o.epilogue.x_scales == nullptr && o.epilogue.bias == nullptr) return sums;
  Tensor out = sums;
  if (o.output != DType::f32) {
    VB_ASSIGN(out, Tensor::allocate(o.output, sums.shape()));
  }
  const auto fill = [&](auto* y) {
    using T = std::remove_pointer_t<decltype(y)>;
    parallel_for(sums.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y[i] = store<T>(o.epilogue.finished(from[i], i / o.n, i % o.n));
    });
  };
  if (o.output == DType::f32) {
    fill(out.mutable_data<float>().data());
  } else if (o.output == DType::bf16) {
    fill(out.mutable_data<BFloat16>().data());
  } else {
    fill(out.mutable_data<Half>().data());
  }
  return out;
}

Result<Chains> cut(int64_t k_size, int64_t split, bool float8, bool precise) {
  if (precise && !float8) return unsupported("precise is for fp8");
  if (split == 1) return Chains{1, k_size, precise};
  const int64_t multiple = float8 ? kSplitBytes : kSplitBytes / 2;
  if (split >= 1 && split <= k_size) {
    const int64_t slice = ((k_size + split - 1) / split + multiple - 1) / multiple * multiple;
    if ((split - 1) * slice < k_size) return Chains{split, slice, precise};
  }
  return bad_input("K = " + std::to_string(k_size) + " does not cut into " + std::to_string(split) + " multiples of " +
                   std::to_string(multiple));
}

}  // namespace tensor_core

std::span<const OpDef> tensor_core_ops() { return tensor_core::kOps; }

}  // namespace verbatim
