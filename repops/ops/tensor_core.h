// Products as tensor cores compute them (family C of docs/numerics.md), for the operator and for
// kernels that must equal it.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include <verbatim/core/dtype.h>
#include <verbatim/core/status.h>
#include <verbatim/core/tensor.h>
#include <verbatim/repops/graph.h>
#include <verbatim/repops/tensor_core.h>

namespace verbatim::tensor_core {

// The format of an operand's C++ type.
template <class T>
struct FormatOf;
template <>
struct FormatOf<BFloat16> {
  using type = BFloat16Format;
};
template <>
struct FormatOf<Half> {
  using type = HalfFormat;
};
template <>
struct FormatOf<Float8E4M3> {
  using type = E4M3Format;
};
template <>
struct FormatOf<Float8E5M2> {
  using type = E5M2Format;
};

// How one chip's unit multiplies operands of one pair of types: the public description of a member.
struct Unit {
  Rule rule;
  bool unpacked = false;  // fp8 as mma.sync has it on Hopper and B200: step_unpacked()
};

// The unit that `member` has for these operands. sm90: Hopper's wgmma, and B200's for 16-bit types;
// sm90_mma: fp8 by mma.sync on Hopper and B200; sm89: Ada; sm80: A100. Errors: unsupported, for a
// type the chip does not multiply.
Result<Unit> unit_of(std::string_view member, DType a, DType b);

inline constexpr std::string_view kDefaultMember = "sm90";
inline constexpr int64_t kSplitBytes = 128;  // of operands: what the slices of K are multiples of
// Elements after which a precise fp8 product adds to its master sum.
inline constexpr int64_t kPreciseBlock = 128;

// How K is cut.
struct Chains {
  int64_t split =
      1;  // slices of K, each a chain from +0; their sums are added ascending in binary32
  int64_t slice = 0;     // elements of a slice; the last one may be shorter
  bool precise = false;  // every 128 elements a slice's chain is added to a master sum in binary32
                         // and starts again from +0
};

// K cut into `split` slices as cuBLAS cuts it: of K / split elements, rounded up to 128 bytes of
// operands (64 or 128 elements). Errors: bad_input where fewer than `split` slices come of it.
Result<Chains> cut(int64_t k_size, int64_t split, bool float8, bool precise);

// What may follow a product: * (x_scale * w_scale), + bias, each rounded to binary32. All may be
// null but both scales or none.
struct Epilogue {
  const float *x_scales = nullptr, *w_scales = nullptr, *bias = nullptr;

  VB_HOST_DEVICE float finished(float v, int64_t m, int64_t n) const {
    return finished(v, x_scale(m), w_scale(n), addend(n));
  }
  // The same in two steps: what is read, and what comes of it. What is not there is a factor of 1
  // and an addend of -0, which leave every number as it is.
  VB_HOST_DEVICE float x_scale(int64_t m) const { return x_scales == nullptr ? 1.0f : x_scales[m]; }
  VB_HOST_DEVICE float w_scale(int64_t n) const { return w_scales == nullptr ? 1.0f : w_scales[n]; }
  VB_HOST_DEVICE float addend(int64_t n) const { return bias == nullptr ? -0.0f : bias[n]; }
  VB_HOST_DEVICE static float finished(float v, float x_scale, float w_scale, float addend) {
    return v * (x_scale * w_scale) + addend;
  }
};

// TensorCoreLinear's operands, checked; pointers are to where they lie, on the host or a device.
struct LinearOperands {
  using Sum = float (*)(const LinearOperands&, int64_t m, int64_t n);
  Unit unit;
  Chains chains;
  int64_t m = 0, n = 0, k = 0;
  std::vector<int64_t> dims;  // of the result
  DType output = DType::f32;
  const void *x = nullptr, *w = nullptr;  // [m, k] and [n, k]
  Sum sum = nullptr;                      // the product of row m and row n: the definition
  Epilogue epilogue;
};
Result<LinearOperands> linear_operands(const Node& node, std::span<const Tensor> inputs);
// What follows the products float32 [..., n]: scales, bias, rounding. Works in place where it can.
Result<Tensor> finish_linear(const LinearOperands& o, Tensor sums);

}  // namespace verbatim::tensor_core
