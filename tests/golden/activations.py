"""Activations: docs/operators.md, "Elementwise", from Elu on, and their gradients, "Of this library". Each is a composition of correctly
rounded operations, with binary32 constants."""
import math
from decimal import Decimal
from fractions import Fraction

import reals
from formats import add, div, maximum, minimum, mul, round32, sqrt, sub
from operators import arithmetic
from tensors import tensor


def rounded(digits):
    """A real number, written with many more digits than binary32 has, as a constant."""
    return reals.round_fraction(Fraction(Decimal(digits)))


ROOT_HALF = sqrt(0.5)
ROOT_TWO_BY_PI = rounded("0.79788456080286535587989211986876373")
DENSITY_AT_ZERO = rounded("0.39894228040143267793994605993438187")  # 1 / sqrt(2 pi)
CUBIC, TRIPLE_CUBIC = rounded("0.044715"), rounded("0.134145")


def exp(x):
    return reals.evaluate("exp", x)


def expm1(x):
    return reals.evaluate("expm1", x)


def erf(x):
    return reals.evaluate("erf", x)


def tanh(x):
    return reals.evaluate("tanh", x)


def sigmoid(x):
    return reals.evaluate("sigmoid", x)


def leaky_relu(x, alpha):
    return mul(alpha, x) if x < 0 else x


def elu(x, alpha):
    return mul(alpha, expm1(x)) if x < 0 else x


def selu(x, alpha, gamma):
    return mul(gamma, x if x > 0 else mul(alpha, expm1(x)))


def celu(x, alpha):
    return add(maximum(0.0, x), minimum(0.0, mul(alpha, expm1(div(x, alpha)))))


def hard_sigmoid(x, alpha, beta):
    return maximum(0.0, minimum(1.0, add(mul(alpha, x), beta)))


def hard_swish(x):
    return mul(x, hard_sigmoid(x, div(1.0, 6.0), 0.5))


def swish(x, alpha):
    return mul(x, sigmoid(mul(alpha, x)))


def mish(x):
    return mul(x, tanh(reals.evaluate("softplus", x)))


def softsign(x):
    return div(x, add(1.0, abs(x)))


def thresholded_relu(x, alpha):
    return x if x > alpha or math.isnan(x) else 0.0


def shrink(x, threshold, bias):
    if math.isnan(x):
        return x
    return add(x, bias) if x < -threshold else sub(x, bias) if x > threshold else 0.0


def gelu(x, approximate):
    if approximate == "tanh":
        second = tanh(mul(ROOT_TWO_BY_PI, add(x, mul(CUBIC, mul(mul(x, x), x)))))
    else:
        second = erf(mul(x, ROOT_HALF))
    return mul(mul(0.5, x), add(1.0, second))


def gelu_slope(x, approximate):
    if approximate == "tanh":
        q = mul(x, x)
        t = tanh(mul(ROOT_TWO_BY_PI, add(x, mul(CUBIC, mul(q, x)))))
        inner = mul(ROOT_TWO_BY_PI, add(1.0, mul(TRIPLE_CUBIC, q)))
        return add(mul(0.5, add(1.0, t)), mul(mul(mul(0.5, x), sub(1.0, mul(t, t))), inner))
    density = mul(exp(-mul(mul(0.5, x), x)), DENSITY_AT_ZERO)
    return add(mul(0.5, add(1.0, erf(mul(x, ROOT_HALF)))), mul(x, density))


def swish_slope(x, alpha):
    z = mul(alpha, x)
    s = sigmoid(z)
    return add(s, mul(z, mul(s, sub(1.0, s))))


# Operator: (function, ((attribute, default), ...)).
ACTIVATIONS = {
    "LeakyRelu": (leaky_relu, (("alpha", round32(0.01)),)), "Elu": (elu, (("alpha", 1.0),)),
    "Selu": (selu, (("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875))), "Celu": (celu, (("alpha", 1.0),)),
    "HardSigmoid": (hard_sigmoid, (("alpha", round32(0.2)), ("beta", 0.5))), "HardSwish": (hard_swish, ()),
    "Swish": (swish, (("alpha", 1.0),)), "Mish": (mish, ()), "Softsign": (softsign, ()),
    "ThresholdedRelu": (thresholded_relu, (("alpha", 1.0),)), "Shrink": (shrink, (("lambd", 0.5), ("bias", 0.0))),
    "Gelu": (gelu, (("approximate", "none"),))}
SLOPES = {"GeluGrad": (gelu_slope, (("approximate", "none"),)), "SwishGrad": (swish_slope, (("alpha", 1.0),))}


def bound(table, name, attributes):
    f, names = table[name]
    constants = [attributes.get(n, default) for n, default in names]
    return lambda x: f(x, *constants)


@arithmetic(*ACTIVATIONS)
def activation(name, attributes, x):
    return [tensor(x.type, x.shape, map(bound(ACTIVATIONS, name, attributes), x.values()))]


@arithmetic(*SLOPES)
def activation_gradient(name, attributes, g, x):
    slope = bound(SLOPES, name, attributes)
    return [tensor(g.type, g.shape, [mul(a, slope(b)) for a, b in zip(g.values(), x.values())])]
