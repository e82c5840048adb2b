// Elementwise operators: arithmetic, comparison, logic, selection and conversion. The functions of
// one variable are in activation.cc.
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/strided.h>
#include <verbatim/repops/unary.h>

namespace verbatim {
namespace {

Status same_types(std::span<const Tensor> inputs) {
  for (const Tensor& t : inputs) {
    if (!t.defined()) return bad_input("an operand is missing");
    if (t.dtype() != inputs[0].dtype())
      return bad_input("operands of different types: " + inputs[0].describe() + ", " +
                       t.describe());
  }
  return {};
}

// out[i] = f(a[..], b[..]) with both operands broadcast; R is the C++ type stored.
template <class R, class A, class B, class F>
Result<Tensors> map_pairs(const Tensor& a, const Tensor& b, F f) {
  VB_ASSIGN(const Shape shape, broadcast(a.shape(), b.shape()));
  VB_ASSIGN(Tensor out, Tensor::allocate(dtype_of<R>(), shape));
  const A* pa = a.data<A>().data();
  const B* pb = b.data<B>().data();
  R* y = out.mutable_data<R>().data();
  for_each_element<2>(
      shape, {broadcast_strides(a.shape(), shape), broadcast_strides(b.shape(), shape)},
      [=](int64_t i, const std::array<int64_t, 2>& at) { y[i] = f(pa[at[0]], pb[at[1]]); });
  return Tensors{out};
}

// --- arithmetic: each is one rounding in the operands' computing type
// -------------------------------------------------------

struct Add {
  template <class C>
  static C apply(C a, C b) {
    return add_of(a, b);
  }
};
struct Sub {
  template <class C>
  static C apply(C a, C b) {
    return subtract_of(a, b);
  }
};
struct Mul {
  template <class C>
  static C apply(C a, C b) {
    return multiply_of(a, b);
  }
};
struct Div {
  template <class C>
  static C apply(C a, C b) {
    return divide_of(a, b);
  }
};

template <class Op>
Result<Tensors> arithmetic(const Node&, std::span<const Tensor> inputs) {
  VB_TRY(same_types(inputs));
  return visit_number<Tensors>(inputs[0], [&](auto type) {
    using T = decltype(type);
    return map_pairs<T, T, T>(inputs[0], inputs[1],
                              [](T a, T b) { return store<T>(Op::apply(load(a), load(b))); });
  });
}

// An integer divisor of 0 that is used is an error, found before anything is computed.
Status check_divisors(const Tensor& a, const Tensor& b) {
  if (!is_integer(b.dtype()) || a.elements() == 0) return {};
  Result<bool> zero = visit_integer<bool>(b, [&](auto type) -> Result<bool> {
    return std::ranges::find(b.data<decltype(type)>(), decltype(type){0}) !=
           b.data<decltype(type)>().end();
  });
  if (!zero.ok()) return zero.status();
  return *zero ? bad_input("integer division by zero") : Status();
}

Result<Tensors> divide(const Node& node, std::span<const Tensor> inputs) {
  VB_TRY(same_types(inputs));
  VB_TRY(check_divisors(inputs[0], inputs[1]));
  return arithmetic<Div>(node, inputs);
}

// fmod = 1: the remainder of truncated division, with the dividend's sign, exact for floating
// types. fmod = 0 (integers only): of floored division, with the divisor's sign.
Result<Tensors> modulo(const Node& node, std::span<const Tensor> inputs) {
  VB_TRY(same_types(inputs));
  VB_ASSIGN(const int64_t fmod, node.attributes.get<int64_t>("fmod", 0));
  const Tensor &a = inputs[0], &b = inputs[1];
  VB_TRY(check_divisors(a, b));
  if (is_float(a.dtype()) && fmod == 0) return bad_input("Mod of floating types needs fmod = 1");
  return visit_number<Tensors>(a, [&](auto type) {
    using T = decltype(type);
    return map_pairs<T, T, T>(a, b, [=](T x, T y) {
      if constexpr (!std::is_integral_v<T>) {
        return store<T>(remainder_of(load(x), load(y)));
      } else {
        const T r = static_cast<T>(y == static_cast<T>(-1) && std::is_signed_v<T> ? 0 : x % y);
        return fmod == 0 && r != 0 && (r < 0) != (y < 0) ? static_cast<T>(r + y) : r;
      }
    });
  });
}

// Integer power, wrapping. A negative exponent truncates 1 / base^|e|, a zero base giving 0.
template <class T, class E>
T integer_power(T base, E exponent) {
  if (exponent < 0) {
    if (base == 1) return 1;
    if (std::is_signed_v<T> && base == static_cast<T>(-1)) return exponent % 2 == 0 ? T{1} : base;
    return 0;
  }
  T result = 1;
  for (auto e = static_cast<uint64_t>(exponent); e != 0; e >>= 1) {
    if (e & 1) result = multiply_of(result, base);
    base = multiply_of(base, base);
  }
  return result;
}

// Pow in x's type. Floating x: the exponent is rounded to x's computing type. Integer x and
// floating y: in binary64, then as Cast.
template <class T, class E>
T power_of(T x, E y) {
  if constexpr (std::is_integral_v<T> && std::is_integral_v<E>)
    return integer_power(x, y);
  else if constexpr (std::is_integral_v<T>)
    return saturate<T>(pow_f64(static_cast<double>(x), static_cast<double>(load(y))));
  else if constexpr (std::is_same_v<T, double>)
    return pow_f64(x, static_cast<double>(load(y)));
  else
    return store<T>(pow_f32(load(x), static_cast<float>(load(y))));
}

Result<Tensors> power(const Node&, std::span<const Tensor> inputs) {
  return visit_number<Tensors>(inputs[0], [&](auto x_type) {
    using T = decltype(x_type);
    return visit_number<Tensors>(inputs[1], [&](auto y_type) {
      using E = decltype(y_type);
      return map_pairs<T, T, E>(inputs[0], inputs[1], power_of<T, E>);
    });
  });
}

// PRelu: x where x >= 0, slope * x elsewhere; the slope broadcasts to x.
Result<Tensors> prelu(const Node&, std::span<const Tensor> inputs) {
  VB_TRY(same_types(inputs));
  VB_ASSIGN(const Shape shape, broadcast(inputs[0].shape(), inputs[1].shape()));
  if (!(shape == inputs[0].shape()))
    return bad_input("slope " + inputs[1].describe() + " does not broadcast to " +
                     inputs[0].describe());
  return visit_number<Tensors>(inputs[0], [&](auto type) {
    using T = decltype(type);
    return map_pairs<T, T, T>(inputs[0], inputs[1], [](T x, T slope) {
      const Compute<T> v = load(x);
      return store<T>(v < 0 ? multiply_of(load(slope), v) : v);
    });
  });
}

// --- any number of operands: combined from the first to the last in the computing type, stored
// once ------------------------

// Totals are in the computing type, a few at a time.
template <class Op, class T>
void combine(std::span<const Tensor> inputs, const Shape& shape, int64_t begin, int64_t end, T* y) {
  std::array<Compute<T>, 256> total;
  const auto size = static_cast<int64_t>(total.size());
  for (; begin < end; begin += size) {
    const int64_t count = std::min(size, end - begin);
    for (size_t k = 0; k < inputs.size(); ++k) {
      const T* x = inputs[k].data<T>().data();
      StridedWalk walk(shape, broadcast_strides(inputs[k].shape(), shape));
      walk.seek(begin);
      for (int64_t i = 0; i < count; ++i, walk.next()) {
        const Compute<T> v = load(x[walk.offset()]);
        total[i] = k == 0 ? v : Op::apply(total[i], v);
      }
    }
    for (int64_t i = 0; i < count; ++i)
      y[begin + i] = store<T>(Op::finish(total[i], inputs.size()));
  }
}

template <class Op>
Result<Tensors> variadic(const Node&, std::span<const Tensor> inputs) {
  VB_TRY(same_types(inputs));
  Shape shape = inputs[0].shape();
  for (const Tensor& t : inputs) {
    VB_ASSIGN(shape, broadcast(shape, t.shape()));
  }
  VB_ASSIGN(Tensor out, Tensor::allocate(inputs[0].dtype(), shape));
  return visit_number<Tensors>(inputs[0], [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    T* y = out.mutable_data<T>().data();
    parallel_for(shape.elements(), kElementGrain,
                 [&](int64_t begin, int64_t end) { combine<Op, T>(inputs, shape, begin, end, y); });
    return Tensors{out};
  });
}

// One operation for each operand of each element.
uint64_t variadic_cost(const Node&, std::span<const Tensor> inputs,
                       std::span<const Tensor> outputs) {
  return saturating_multiply(static_cast<uint64_t>(outputs[0].elements()), inputs.size());
}

struct Whole {
  template <class C>
  static C finish(C total, size_t) {
    return total;
  }
};
struct Max : Whole {
  template <class C>
  static C apply(C a, C b) {
    return maximum_of(a, b);
  }
};
struct Min : Whole {
  template <class C>
  static C apply(C a, C b) {
    return minimum_of(a, b);
  }
};
struct Sum : Add, Whole {};
struct Mean : Add {
  template <class C>
  static C finish(C total, size_t count) {
    return mean_of(total, count);
  }
};

// --- comparison and logic: bool out
// -----------------------------------------------------------------------------------------

struct Equal {
  template <class C>
  static bool apply(C a, C b) {
    return a == b;
  }
};
struct Less {
  template <class C>
  static bool apply(C a, C b) {
    return a < b;
  }
};
struct LessOrEqual {
  template <class C>
  static bool apply(C a, C b) {
    return a <= b;
  }
};
struct Greater {
  template <class C>
  static bool apply(C a, C b) {
    return a > b;
  }
};
struct GreaterOrEqual {
  template <class C>
  static bool apply(C a, C b) {
    return a >= b;
  }
};

template <class Op>
Result<Tensors> compare(const Node&, std::span<const Tensor> inputs) {
  VB_TRY(same_types(inputs));
  if (inputs[0].dtype() == DType::boolean)
    return map_pairs<bool, bool, bool>(inputs[0], inputs[1],
                                       [](bool a, bool b) { return Op::apply(a, b); });
  return visit_number<Tensors>(inputs[0], [&](auto type) {
    using T = decltype(type);
    return map_pairs<bool, T, T>(inputs[0], inputs[1],
                                 [](T a, T b) { return Op::apply(load(a), load(b)); });
  });
}

struct And {
  template <class C>
  static C apply(C a, C b) {
    return static_cast<C>(a & b);
  }
};
struct Or {
  template <class C>
  static C apply(C a, C b) {
    return static_cast<C>(a | b);
  }
};
struct Xor {
  template <class C>
  static C apply(C a, C b) {
    return static_cast<C>(a ^ b);
  }
};

template <class Op>
Result<Tensors> logical(const Node&, std::span<const Tensor> inputs) {
  VB_TRY(same_types(inputs));
  if (inputs[0].dtype() != DType::boolean)
    return bad_input("wants bool, not " + inputs[0].describe());
  return map_pairs<bool, bool, bool>(inputs[0], inputs[1],
                                     [](bool a, bool b) { return Op::apply(a, b); });
}

template <class Op>
Result<Tensors> bitwise(const Node&, std::span<const Tensor> inputs) {
  VB_TRY(same_types(inputs));
  return visit_integer<Tensors>(inputs[0], [&](auto type) {
    using T = decltype(type);
    return map_pairs<T, T, T>(inputs[0], inputs[1], [](T a, T b) { return Op::apply(a, b); });
  });
}

// A shift by the width or more (or by a negative count) gives 0; bits shifted in are 0.
Result<Tensors> bit_shift(const Node& node, std::span<const Tensor> inputs) {
  VB_TRY(same_types(inputs));
  VB_ASSIGN(const std::string direction, node.attributes.require<std::string>("direction"));
  if (direction != "LEFT" && direction != "RIGHT")
    return bad_input("direction '" + direction + "'");
  const bool left = direction == "LEFT";
  return visit_integer<Tensors>(inputs[0], [&](auto type) {
    using T = decltype(type);
    using U = std::make_unsigned_t<T>;
    return map_pairs<T, T, T>(inputs[0], inputs[1], [left](T a, T b) -> T {
      if (static_cast<U>(b) >= sizeof(T) * 8) return 0;
      const uint64_t bits = static_cast<U>(a);
      return static_cast<T>(left ? bits << static_cast<U>(b) : bits >> static_cast<U>(b));
    });
  });
}

// --- selection
// --------------------------------------------------------------------------------------------------------------

// Where(condition, x, y): bytes are kept.
Result<Tensors> where(const Node&, std::span<const Tensor> inputs) {
  const Tensor &condition = inputs[0], &x = inputs[1], &y = inputs[2];
  VB_TRY(same_types(inputs.subspan(1)));
  if (condition.dtype() != DType::boolean)
    return bad_input("condition is " + condition.describe() + ", not bool");
  VB_ASSIGN(const Shape xy, broadcast(x.shape(), y.shape()));
  VB_ASSIGN(const Shape shape, broadcast(condition.shape(), xy));
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), shape));
  const std::array<Strides, 3> strides = {broadcast_strides(condition.shape(), shape),
                                          broadcast_strides(x.shape(), shape),
                                          broadcast_strides(y.shape(), shape)};
  return visit_dtype<Result<Tensors>>(
      x.dtype(), bad_input("undefined operand"), [&](auto type) -> Result<Tensors> {
        using T = decltype(type);
        const bool* c = condition.data<bool>().data();
        const T *px = x.data<T>().data(), *py = y.data<T>().data();
        T* z = out.mutable_data<T>().data();
        for_each_element<3>(shape, strides, [=](int64_t i, const std::array<int64_t, 3>& at) {
          z[i] = c[at[0]] ? px[at[1]] : py[at[2]];
        });
        return Tensors{out};
      });
}

// Clip(x, min?, max?) = minimum(maximum(x, min), max).
Result<Tensors> clip(const Node&, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  for (const Tensor& bound : inputs.subspan(1))
    if (bound.defined() && (bound.dtype() != x.dtype() || bound.elements() != 1))
      return bad_input("bound " + bound.describe() + " for " + x.describe());
  VB_ASSIGN(Tensor out, Tensor::allocate(x.dtype(), x.shape()));
  return visit_number<Tensors>(x, [&](auto type) -> Result<Tensors> {
    using T = decltype(type);
    const bool has_low = inputs.size() > 1 && inputs[1].defined(),
               has_high = inputs.size() > 2 && inputs[2].defined();
    const T* px = x.data<T>().data();
    T* y = out.mutable_data<T>().data();
    for (int64_t i = 0; i < x.elements(); ++i) {
      Compute<T> v = load(px[i]);
      if (has_low) v = maximum_of(v, load(inputs[1].data<T>()[0]));
      if (has_high) v = minimum_of(v, load(inputs[2].data<T>()[0]));
      y[i] = store<T>(v);
    }
    return Tensors{out};
  });
}

// --- conversion
// -------------------------------------------------------------------------------------------------------------

// An integer as a binary64 that rounds to binary32 and below as the integer itself would: bits
// below 2^-40 of its magnitude are gathered in the last one kept.
template <class I>
double sticky_double(I value) {
  const bool negative = std::is_signed_v<I> && value < I{0};
  uint64_t magnitude =
      negative ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  double scale = 1;
  for (; magnitude >> 40 != 0; scale *= 2) magnitude = (magnitude >> 1) | (magnitude & 1);
  const double d = static_cast<double>(magnitude) * scale;
  return negative ? -d : d;
}

template <class To, class C>
To convert_value(C x, StoreMode mode) {
  constexpr bool kFromFloat = std::is_floating_point_v<C>;
  if constexpr (std::is_same_v<To, bool>)
    return x != 0;
  else if constexpr (kStorageOnly<To> && !kSmallInteger<To>) {
    if constexpr (kFromFloat)
      return to_small_float<To>(x, mode);
    else
      return to_small_float<To>(sticky_double(x), mode);
  } else if constexpr (std::is_same_v<To, Half> || std::is_same_v<To, BFloat16>) {
    if constexpr (std::is_same_v<C, float>)
      return store<To>(x);
    else if constexpr (kFromFloat)
      return store<To>(round_to_odd(x));
    else
      return store<To>(round_to_odd(sticky_double(x)));
  } else if constexpr (std::is_floating_point_v<To>)
    return store<To>(static_cast<To>(x));
  else if constexpr (kSmallInteger<To> && kFromFloat)
    return store<To>(static_cast<Compute<To>>(saturate<int64_t>(static_cast<double>(x))));
  else if constexpr (kFromFloat)
    return saturate<To>(static_cast<double>(x));
  else
    return store<To>(static_cast<Compute<To>>(x));
}

template <class To, class From>
To convert(From raw, StoreMode mode) {
  using C = std::conditional_t<std::is_same_v<From, bool>, uint8_t, Compute<From>>;
  return convert_value<To, C>(load(raw), mode);
}

Result<StoreMode> store_mode(const Node& node) {
  StoreMode mode;
  VB_ASSIGN(const int64_t saturate, node.attributes.get<int64_t>("saturate", 1));
  VB_ASSIGN(const std::string rounding, node.attributes.get<std::string>("round_mode", "up"));
  mode.saturate = saturate != 0;
  if (rounding == "down")
    mode.rounding = ScaleRounding::down;
  else if (rounding == "nearest")
    mode.rounding = ScaleRounding::nearest;
  else if (rounding != "up")
    return bad_input("round_mode '" + printable(rounding) + "'");
  return mode;
}

Result<Tensors> cast_to(const Node& node, const Tensor& x, DType to) {
  VB_ASSIGN(const StoreMode mode, store_mode(node));
  if (!x.defined()) return bad_input("an operand is missing");
  VB_ASSIGN(Tensor out, Tensor::allocate(to, x.shape()));
  visit_dtype<bool>(x.dtype(), false, [&](auto from_type) {
    return visit_dtype<bool>(to, false, [&](auto to_type) {
      using From = decltype(from_type);
      using To = decltype(to_type);
      const From* px = x.data<From>().data();
      To* y = out.mutable_data<To>().data();
      for (int64_t i = 0; i < x.elements(); ++i) y[i] = convert<To>(px[i], mode);
      return true;
    });
  });
  return Tensors{out};
}

// Cast: floating to integer truncates, saturates, and takes NaN to 0 (to int4, uint4, int2 and
// uint2 by way of int64, which wraps); integers wrap; to bool is x != 0; to floating rounds once.
// What is too great for fp8 becomes its greatest number, or with saturate = 0 its infinity or NaN.
// round_mode says how e8m0 rounds.
Result<Tensors> cast(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const int64_t to, node.attributes.require<int64_t>("to"));
  const DType dtype = dtype_from_onnx(to);
  if (dtype == DType::undefined) return unsupported("Cast to element type " + std::to_string(to));
  return cast_to(node, inputs[0], dtype);
}

Result<Tensors> cast_like(const Node& node, std::span<const Tensor> inputs) {
  if (!inputs[1].defined()) return bad_input("the type's example is missing");
  return cast_to(node, inputs[0], inputs[1].dtype());
}

constexpr OpDef kOps[] = {
    {"", "Add", 2, 2, 1, arithmetic<Add>},
    {"", "Sub", 2, 2, 1, arithmetic<Sub>},
    {"", "Mul", 2, 2, 1, arithmetic<Mul>},
    {"", "Div", 2, 2, 1, divide},
    {"", "Mod", 2, 2, 1, modulo},
    {"", "Pow", 2, 2, 1, power},
    {"", "PRelu", 2, 2, 1, prelu},
    {"", "Max", 1, kVariadic, 1, variadic<Max>, variadic_cost},
    {"", "Min", 1, kVariadic, 1, variadic<Min>, variadic_cost},
    {"", "Sum", 1, kVariadic, 1, variadic<Sum>, variadic_cost},
    {"", "Mean", 1, kVariadic, 1, variadic<Mean>, variadic_cost},
    {"", "Equal", 2, 2, 1, compare<Equal>},
    {"", "Less", 2, 2, 1, compare<Less>},
    {"", "LessOrEqual", 2, 2, 1, compare<LessOrEqual>},
    {"", "Greater", 2, 2, 1, compare<Greater>},
    {"", "GreaterOrEqual", 2, 2, 1, compare<GreaterOrEqual>},
    {"", "And", 2, 2, 1, logical<And>},
    {"", "Or", 2, 2, 1, logical<Or>},
    {"", "Xor", 2, 2, 1, logical<Xor>},
    {"", "BitwiseAnd", 2, 2, 1, bitwise<And>},
    {"", "BitwiseOr", 2, 2, 1, bitwise<Or>},
    {"", "BitwiseXor", 2, 2, 1, bitwise<Xor>},
    {"", "BitShift", 2, 2, 1, bit_shift},
    {"", "Where", 3, 3, 1, where},
    {"", "Clip", 1, 3, 1, clip},
    {"", "Cast", 1, 1, 1, cast},
    {"", "CastLike", 2, 2, 1, cast_like},
};

}  // namespace

// Long division of the significands: at most 2,100 steps, one for each bit of difference between
// the exponents.
double remainder_of(double a, double b) {
  constexpr uint64_t kSign = uint64_t{1} << 63, kHidden = uint64_t{1} << 52;
  const uint64_t ua = std::bit_cast<uint64_t>(a), sign = ua & kSign;
  const double x = absolute_of(a), y = absolute_of(b);
  if (is_nan(a) || is_nan(b) || y == 0 || x == std::numeric_limits<double>::infinity())
    return std::bit_cast<double>(kDoubleNanBits);
  if (x < y) return a;
  const auto split = [](double v) {  // significand and exponent; a subnormal has the least exponent
                                     // and no hidden bit
    const uint64_t bits = std::bit_cast<uint64_t>(v);
    const auto exponent = static_cast<int>(bits >> 52);
    const uint64_t fraction = bits & (kHidden - 1);
    return exponent == 0 ? std::pair(fraction, 1) : std::pair(fraction | kHidden, exponent);
  };
  auto [m, e] = split(x);
  const auto [n, f] = split(y);
  m %= n;
  for (; e > f && m != 0; --e) m = (m << 1) % n;
  if (m == 0) return std::bit_cast<double>(sign);
  // m < n and both are at exponent f: bring the hidden bit back, or stay subnormal.
  e = f;
  while ((m & kHidden) == 0 && e > 1) {
    m <<= 1;
    --e;
  }
  const uint64_t magnitude =
      (m & kHidden) ? (static_cast<uint64_t>(e) << 52) | (m & (kHidden - 1)) : m;
  return std::bit_cast<double>(magnitude | sign);
}

std::span<const OpDef> elementwise_ops() { return kOps; }

}  // namespace verbatim
