// Functions of one variable: rounding, sign, the correctly rounded elementary functions, and
// activations. An activation is a composition, given in its comment and computed operation by
// operation, each rounded; 16-bit tensors are rounded once, at the end.
#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/registry.h>
#include <verbatim/repops/ops/strided.h>
#include <verbatim/repops/unary.h>

namespace verbatim {
namespace {

template <class R, class T, class F>
Result<Tensors> map(const Tensor& x, F f) {
  VB_ASSIGN(Tensor out, Tensor::allocate(dtype_of<R>(), x.shape()));
  const T* px = x.data<T>().data();
  R* y = out.mutable_data<R>().data();
  parallel_for(x.elements(), kElementGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = f(px[i]);
  });
  return Tensors{out};
}

// f takes and returns a value of the computing type.
template <class F>
Result<Tensors> map_float(const Tensor& x, F f) {
  return visit_float<Tensors>(x, [&](auto type) {
    using T = decltype(type);
    return map<T, T>(x, [f](T v) { return store<T>(f(load(v))); });
  });
}
template <class F>
Result<Tensors> map_number(const Tensor& x, F f) {
  return visit_number<Tensors>(x, [&](auto type) {
    using T = decltype(type);
    return map<T, T>(x, [f](T v) { return store<T>(f(load(v))); });
  });
}

template <Unary U>
Result<Tensors> elementary(const Node&, std::span<const Tensor> inputs) {
  return map_float(inputs[0], [](auto x) { return evaluate(U, x); });
}

Result<Tensors> absolute(const Node&, std::span<const Tensor> inputs) {
  return map_number(inputs[0], [](auto x) { return absolute_of(x); });
}
Result<Tensors> negate(const Node&, std::span<const Tensor> inputs) {
  return map_number(inputs[0], [](auto x) { return negate_of(x); });
}
// -1, 0 (of the operand's sign) or 1.
Result<Tensors> sign(const Node&, std::span<const Tensor> inputs) {
  return map_number(inputs[0], [](auto x) {
    using C = decltype(x);
    return x > 0 ? C{1} : x < 0 ? negate_of(C{1}) : x;
  });
}
Result<Tensors> relu(const Node&, std::span<const Tensor> inputs) {
  return map_number(inputs[0], [](auto x) { return maximum_of(x, decltype(x){0}); });
}

Result<Tensors> floor(const Node&, std::span<const Tensor> inputs) {
  return map_float(inputs[0], [](auto x) { return floor_of(x); });
}
Result<Tensors> ceiling(const Node&, std::span<const Tensor> inputs) {
  return map_float(inputs[0], [](auto x) { return ceiling_of(x); });
}
Result<Tensors> round(const Node&, std::span<const Tensor> inputs) {
  return map_float(inputs[0], [](auto x) { return round_even_of(x); });
}
Result<Tensors> square_root(const Node&, std::span<const Tensor> inputs) {
  return map_float(inputs[0], [](auto x) { return sqrt_of(x); });
}
Result<Tensors> reciprocal(const Node&, std::span<const Tensor> inputs) {
  return map_float(inputs[0], [](auto x) { return decltype(x){1} / x; });
}

Result<Tensors> logical_not(const Node&, std::span<const Tensor> inputs) {
  if (inputs[0].dtype() != DType::boolean)
    return bad_input("wants bool, not " + inputs[0].describe());
  return map<bool, bool>(inputs[0], [](bool x) { return !x; });
}
Result<Tensors> bitwise_not(const Node&, std::span<const Tensor> inputs) {
  return visit_integer<Tensors>(inputs[0], [&](auto type) {
    using T = decltype(type);
    return map<T, T>(inputs[0], [](T x) { return static_cast<T>(~x); });
  });
}

Result<Tensors> is_nan_op(const Node&, std::span<const Tensor> inputs) {
  return visit_float<Tensors>(inputs[0], [&](auto type) {
    using T = decltype(type);
    return map<bool, T>(inputs[0], [](T x) { return is_nan(load(x)); });
  });
}
Result<Tensors> is_infinite(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const int64_t positive, node.attributes.get<int64_t>("detect_positive", 1));
  VB_ASSIGN(const int64_t negative, node.attributes.get<int64_t>("detect_negative", 1));
  return visit_float<Tensors>(inputs[0], [&](auto type) {
    using T = decltype(type);
    constexpr auto kInfinity = std::numeric_limits<Compute<T>>::infinity();
    return map<bool, T>(inputs[0], [=](T x) {
      return (positive != 0 && load(x) == kInfinity) || (negative != 0 && load(x) == -kInfinity);
    });
  });
}

// LeakyRelu: x < 0 ? alpha * x : x.
Result<Tensors> leaky_relu(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const float alpha, node.attributes.get<float>("alpha", 0.01f));
  return map_float(inputs[0], [alpha](auto x) { return x < 0 ? alpha * x : x; });
}

// Elu: x < 0 ? alpha * expm1(x) : x.
Result<Tensors> elu(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const float alpha, node.attributes.get<float>("alpha", 1.0f));
  return map_float(inputs[0],
                   [alpha](auto x) { return x < 0 ? alpha * evaluate(Unary::expm1, x) : x; });
}

// Selu: gamma * (x > 0 ? x : alpha * expm1(x)).
Result<Tensors> selu(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const float alpha, node.attributes.get<float>("alpha", 1.67326319217681884765625f));
  VB_ASSIGN(const float gamma, node.attributes.get<float>("gamma", 1.05070102214813232421875f));
  return map_float(inputs[0],
                   [=](auto x) { return gamma * (x > 0 ? x : alpha * evaluate(Unary::expm1, x)); });
}

// Celu: maximum(0, x) + minimum(0, alpha * expm1(x / alpha)).
Result<Tensors> celu(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const float alpha, node.attributes.get<float>("alpha", 1.0f));
  return map_float(inputs[0], [alpha](auto x) {
    using C = decltype(x);
    return maximum_of(C{0}, x) + minimum_of(C{0}, alpha * evaluate(Unary::expm1, x / alpha));
  });
}

template <class C>
C hard_sigmoid_of(C x, C alpha, C beta) {
  return maximum_of(C{0}, minimum_of(C{1}, alpha * x + beta));
}

// HardSigmoid: maximum(0, minimum(1, alpha * x + beta)), the product and the sum each rounded.
Result<Tensors> hard_sigmoid(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const float alpha, node.attributes.get<float>("alpha", 0.2f));
  VB_ASSIGN(const float beta, node.attributes.get<float>("beta", 0.5f));
  return map_float(inputs[0], [=](auto x) {
    using C = decltype(x);
    return hard_sigmoid_of(x, C{alpha}, C{beta});
  });
}

// HardSwish: x * HardSigmoid(x; 1/6, 1/2), 1/6 rounded to the computing type.
Result<Tensors> hard_swish(const Node&, std::span<const Tensor> inputs) {
  return map_float(inputs[0], [](auto x) {
    using C = decltype(x);
    return x * hard_sigmoid_of(x, C{1} / C{6}, C{0.5});
  });
}

// Swish: x * sigmoid(alpha * x).
Result<Tensors> swish(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const float alpha, node.attributes.get<float>("alpha", 1.0f));
  return map_float(inputs[0], [alpha](auto x) { return x * evaluate(Unary::sigmoid, alpha * x); });
}

// Mish: x * tanh(softplus(x)).
Result<Tensors> mish(const Node&, std::span<const Tensor> inputs) {
  return map_float(inputs[0],
                   [](auto x) { return x * evaluate(Unary::tanh, evaluate(Unary::softplus, x)); });
}

// Softsign: x / (1 + |x|).
Result<Tensors> softsign(const Node&, std::span<const Tensor> inputs) {
  return map_float(inputs[0], [](auto x) { return x / (decltype(x){1} + absolute_of(x)); });
}

// Gelu: (0.5 * x) * (1 + erf(x * sqrt(1/2))); with approximate = "tanh": (0.5 * x) * (1 +
// tanh(sqrt(2/pi) * (x + 0.044715 * ((x * x) * x)))).
Result<Tensors> gelu(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const std::string approximate, node.attributes.get<std::string>("approximate", "none"));
  if (approximate == "none")
    return map_float(inputs[0], [](auto x) {
      using C = decltype(x);
      return (C{0.5} * x) * (C{1} + evaluate(Unary::erf, x * static_cast<C>(0x1.6a09e667f3bcdp-1)));
    });
  if (approximate != "tanh") return bad_input("approximate = '" + approximate + "'");
  return map_float(inputs[0], [](auto x) {
    using C = decltype(x);
    const C inner = x + static_cast<C>(0x1.6e4e26d4801f7p-5) * ((x * x) * x);
    return (C{0.5} * x) *
           (C{1} + evaluate(Unary::tanh, static_cast<C>(0x1.9884533d43651p-1) * inner));
  });
}

// ThresholdedRelu: x > alpha ? x : 0.
Result<Tensors> thresholded_relu(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const float alpha, node.attributes.get<float>("alpha", 1.0f));
  return map_float(inputs[0],
                   [alpha](auto x) { return x > alpha || is_nan(x) ? x : decltype(x){0}; });
}

// Shrink: x < -lambd ? x + bias : x > lambd ? x - bias : 0.
Result<Tensors> shrink(const Node& node, std::span<const Tensor> inputs) {
  VB_ASSIGN(const float lambd, node.attributes.get<float>("lambd", 0.5f));
  VB_ASSIGN(const float bias, node.attributes.get<float>("bias", 0.0f));
  return map_float(inputs[0], [=](auto x) {
    using C = decltype(x);
    return x < -lambd ? x + C{bias} : x > lambd ? x - C{bias} : is_nan(x) ? x : C{0};
  });
}

constexpr OpDef kOps[] = {
    {"", "Exp", 1, 1, 1, elementary<Unary::exp>},
    {"", "Log", 1, 1, 1, elementary<Unary::log>},
    {"", "Sin", 1, 1, 1, elementary<Unary::sin>},
    {"", "Cos", 1, 1, 1, elementary<Unary::cos>},
    {"", "Tan", 1, 1, 1, elementary<Unary::tan>},
    {"", "Asin", 1, 1, 1, elementary<Unary::asin>},
    {"", "Acos", 1, 1, 1, elementary<Unary::acos>},
    {"", "Atan", 1, 1, 1, elementary<Unary::atan>},
    {"", "Sinh", 1, 1, 1, elementary<Unary::sinh>},
    {"", "Cosh", 1, 1, 1, elementary<Unary::cosh>},
    {"", "Tanh", 1, 1, 1, elementary<Unary::tanh>},
    {"", "Asinh", 1, 1, 1, elementary<Unary::asinh>},
    {"", "Acosh", 1, 1, 1, elementary<Unary::acosh>},
    {"", "Atanh", 1, 1, 1, elementary<Unary::atanh>},
    {"", "Erf", 1, 1, 1, elementary<Unary::erf>},
    {"", "Sigmoid", 1, 1, 1, elementary<Unary::sigmoid>},
    {"", "Softplus", 1, 1, 1, elementary<Unary::softplus>},
    {"", "Abs", 1, 1, 1, absolute},
    {"", "Neg", 1, 1, 1, negate},
    {"", "Sign", 1, 1, 1, sign},
    {"", "Relu", 1, 1, 1, relu},
    {"", "Floor", 1, 1, 1, floor},
    {"", "Ceil", 1, 1, 1, ceiling},
    {"", "Round", 1, 1, 1, round},
    {"", "Sqrt", 1, 1, 1, square_root},
    {"", "Reciprocal", 1, 1, 1, reciprocal},
    {"", "Not", 1, 1, 1, logical_not},
    {"", "BitwiseNot", 1, 1, 1, bitwise_not},
    {"", "IsNaN", 1, 1, 1, is_nan_op},
    {"", "IsInf", 1, 1, 1, is_infinite},
    {"", "LeakyRelu", 1, 1, 1, leaky_relu},
    {"", "Elu", 1, 1, 1, elu},
    {"", "Selu", 1, 1, 1, selu},
    {"", "Celu", 1, 1, 1, celu},
    {"", "HardSigmoid", 1, 1, 1, hard_sigmoid},
    {"", "HardSwish", 1, 1, 1, hard_swish},
    {"", "Swish", 1, 1, 1, swish},
    {"", "Mish", 1, 1, 1, mish},
    {"", "Softsign", 1, 1, 1, softsign},
    {"", "Gelu", 1, 1, 1, gelu},
    {"", "ThresholdedRelu", 1, 1, 1, thresholded_relu},
    {"", "Shrink", 1, 1, 1, shrink},
};

}  // namespace

std::span<const OpDef> activation_ops() { return kOps; }

}  // namespace verbatim
