"""The elementary functions, correctly rounded to binary32: docs/numerics.md, "Unary functions".

Each is evaluated by `decimal` with more digits until both ends of the error's interval round alike. Results that are exactly
representable, or midpoints, are answered apart.
"""
import decimal
import functools
import math
from decimal import Decimal
from fractions import Fraction

from formats import F32, to32

NAN, INF = math.nan, math.inf


@functools.cache
def pi(digits):
    """By Machin's formula, in integers."""
    one = 10 ** (digits + 10)

    def inverse_tangent(n):
        total, power, k = 0, one // n, 1
        while power:
            total += power // k if k % 4 == 1 else -(power // k)
            power //= n * n
            k += 2
        return total

    return Decimal(4 * (4 * inverse_tangent(5) - inverse_tangent(239))).scaleb(-(digits + 10))


def series(first, ratio):
    """first * (1 + ratio(1) * (1 + ratio(2) * ...)), summed until a term is lost."""
    total, term, k = first, first, 1
    while True:
        term = term * ratio(k)
        if total + term == total:
            return total
        total += term
        k += 1


def exp(x):
    return Decimal("1e60") if x > 200 else Decimal("1e-90") if x < -200 else x.exp()


def quadrant(x):
    """(k mod 4, x - k * pi / 2) with |rest| at most pi / 4."""
    half = pi(decimal.getcontext().prec + 50) / 2
    k = (x / half).to_integral_value()
    return int(k % 4), x - k * half


def sine(r):
    return series(r, lambda k: -r * r / (2 * k * (2 * k + 1))) if r else r


def cosine(r):
    return series(Decimal(1), lambda k: -r * r / ((2 * k - 1) * 2 * k))


def sin(x):
    k, r = quadrant(x)
    return [sine, cosine, lambda r: -sine(r), lambda r: -cosine(r)][k](r)


def cos(x):
    k, r = quadrant(x)
    return [cosine, lambda r: -sine(r), lambda r: -cosine(r), sine][k](r)


def atan(x):
    if abs(x) > 1:
        half = pi(decimal.getcontext().prec) / 2
        return (half if x > 0 else -half) - atan(1 / x)
    for _ in range(4):
        x = x / (1 + (1 + x * x).sqrt())
    square = x * x
    total, power, k = x, x, 1
    while True:
        power, k = -power * square, k + 2
        if total + power / k == total:
            return 16 * total
        total += power / k


def asin(x):
    if abs(x) == 1:
        return pi(decimal.getcontext().prec) / 2 * x
    return atan(x / ((1 - x) * (1 + x)).sqrt())


def acos(x):
    if x == -1:
        return pi(decimal.getcontext().prec)
    return 2 * atan(((1 - x) / (1 + x)).sqrt())


def sinh(x):
    return (exp(x) - exp(-x)) / 2


def cosh(x):
    return (exp(x) + exp(-x)) / 2


def tanh(x):
    if abs(x) > 100:
        return (1 - Decimal("1e-80")).copy_sign(x)
    return sinh(x) / cosh(x)


def asinh(x):
    return (abs(x) + (x * x + 1).sqrt()).ln().copy_sign(x)


def erf(x):
    if abs(x) > 10:
        return (1 - Decimal("1e-44")).copy_sign(x)
    return 2 / pi(decimal.getcontext().prec).sqrt() * exp(-x * x) * series(x, lambda k: 2 * x * x / (2 * k + 1))


def softplus(x):
    return x + (1 + exp(-x)).ln() if x > 0 else (1 + exp(x)).ln()


def cbrt(x):
    return (abs(x).ln() / 3).exp().copy_sign(x)


@functools.cache
def ln(base, digits):
    """Of an integer, with the digits of the context."""
    return Decimal(base).ln()


LN = {base: lambda x, b=base: x.ln() / ln(b, decimal.getcontext().prec) for base in (2, 10)}
FUNCTIONS = {
    "exp": exp, "exp2": lambda x: exp(x * ln(2, decimal.getcontext().prec)) if abs(x) < 250 else exp(x), "expm1": lambda x: exp(x) - 1,
    "log": lambda x: x.ln(), "log2": LN[2], "log10": LN[10], "log1p": lambda x: (1 + x).ln(), "sin": sin, "cos": cos,
    "tan": lambda x: sin(x) / cos(x), "asin": asin, "acos": acos, "atan": atan, "sinh": sinh, "cosh": cosh, "tanh": tanh,
    "asinh": asinh, "acosh": lambda x: (x + (x * x - 1).sqrt()).ln(), "atanh": lambda x: ((1 + x) / (1 - x)).ln() / 2, "erf": erf,
    "sigmoid": lambda x: 1 / (1 + exp(-x)), "softplus": softplus, "cbrt": cbrt}
ODD = {"expm1", "log1p", "sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "erf", "cbrt"}  # f(-0) = -0
DOMAIN = {"log": (0, INF), "log2": (0, INF), "log10": (0, INF), "log1p": (-1, INF), "asin": (-1, 1), "acos": (-1, 1),
          "acosh": (1, INF), "atanh": (-1, 1)}
# Values at (-infinity, +infinity).
LIMITS = {"exp": (0.0, INF), "exp2": (0.0, INF), "expm1": (-1.0, INF), "log": (NAN, INF), "log2": (NAN, INF), "log10": (NAN, INF),
          "log1p": (NAN, INF), "sinh": (-INF, INF), "cosh": (INF, INF), "tanh": (-1.0, 1.0), "asinh": (-INF, INF),
          "acosh": (NAN, INF), "erf": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "softplus": (0.0, INF), "cbrt": (-INF, INF)}
HALF_PI = F32.decode(0x3FC90FDB)


def special(name, x):
    """The result where no real number decides it, else None."""
    if math.isnan(x):
        return NAN
    low, high = DOMAIN.get(name, (-INF, INF))
    if not low <= x <= high:
        return NAN
    if math.isinf(x):
        if name == "atan":
            return math.copysign(HALF_PI, x)
        return LIMITS[name][x > 0] if name in LIMITS else NAN
    if name in ("log", "log2", "log10") and x == 0 or name == "log1p" and x == -1:
        return -INF
    if name == "atanh" and abs(x) == 1:
        return math.copysign(INF, x)
    return None


def cube_root(n):
    root = round(n ** (1 / 3)) if n < 2 ** 900 else 0
    return next((r for r in (root - 1, root, root + 1) if r ** 3 == n), None)


def rational(name, x):
    """f(x) as a Fraction where it is rational, else None; x is finite and in the domain."""
    if x == 0:
        at_zero = {"exp": 1, "exp2": 1, "cos": 1, "cosh": 1, "sigmoid": Fraction(1, 2)}
        return Fraction(at_zero[name]) if name in at_zero else None if name in ("acos", "softplus") else Fraction(0)
    if x == 1 and name in ("log", "log2", "log10", "acos", "acosh"):
        return Fraction(0)
    if name == "exp2" and x == int(x) and abs(x) < 1000:
        return Fraction(2) ** int(x)
    exact = Fraction(x)
    if name == "log2" and (exact.numerator == 1 or exact.denominator == 1):
        e = exact.numerator.bit_length() - exact.denominator.bit_length()
        return Fraction(e) if exact == Fraction(2) ** e else None
    if name == "log10" and exact.denominator == 1:
        e = len(str(exact.numerator)) - 1
        return Fraction(e) if exact == 10 ** e else None
    if name == "cbrt":
        n, d = cube_root(abs(exact.numerator)), cube_root(exact.denominator)
        return Fraction(n, d) * (1 if x > 0 else -1) if n and d else None
    return None


def round_fraction(q):
    """To binary32; q is not 0."""
    shift = 400
    n, rest = divmod(abs(q.numerator) << shift, q.denominator)
    return math.copysign(to32(2 * n + (rest != 0), -shift - 1), q)


def decide(value_at):
    """The binary32 that value_at(digits), whose relative error is below 10^-digits, rounds to; None where it is not decided."""
    for digits in (30, 60, 120):
        v = value_at(digits)
        slack = abs(v) * Decimal(10) ** -digits
        ends = {round_fraction(Fraction(v - slack)), round_fraction(Fraction(v + slack))}
        if len(ends) == 1:
            return ends.pop()
    return None


def with_digits(digits, f, *operands):
    # Differences lose at most the 45 digits of the least operand, and squares of it must not be lost beside 1; exponentials lose three.
    with decimal.localcontext() as context:
        spare = 10 if f in (FUNCTIONS["exp"], FUNCTIONS["exp2"]) else 110
        context.prec, context.Emax, context.Emin = digits + spare, 10 ** 9, -10 ** 9
        return f(*(Decimal(x) for x in operands))


@functools.cache
def _evaluate(name, bits):
    x = F32.decode(bits)
    known = special(name, x)
    if known is not None:
        return known
    if x == 0 and name in ODD:
        return x
    q = rational(name, x)
    if q is not None:
        return round_fraction(q) if q else 0.0
    result = decide(lambda digits: with_digits(digits, FUNCTIONS[name], x))
    assert result is not None, (name, hex(bits))
    return result


def evaluate(name, x):
    return _evaluate(name, F32.encode(x))


def power(x, y):
    """pow(x, y) of IEEE 754-2019, correctly rounded."""
    if y == 0 or x == 1:
        return 1.0
    if math.isnan(x) or math.isnan(y):
        return NAN
    integer = math.isinf(y) or y == int(y)
    odd = integer and math.isfinite(y) and int(y) % 2 == 1
    if math.isinf(y):
        return 1.0 if abs(x) == 1 else INF if (abs(x) > 1) == (y > 0) else 0.0
    if x == 0 or math.isinf(x):
        size = 0.0 if (x == 0) == (y > 0) else INF
        return math.copysign(size, x) if odd else size
    if x < 0 and not integer:
        return NAN
    size = positive_power(abs(x), y)
    return -size if x < 0 and odd else size


def positive_power(x, y):
    estimate = y * math.log2(x)
    if abs(estimate) > 400:
        return INF if estimate > 0 else 0.0
    result = decide(lambda digits: with_digits(digits, lambda a, b: (a.ln() * b).exp(), x, y))
    if result is not None:
        return result
    # Not decided with 120 digits: the result is a number of few bits. Which one is proved in integers.
    with decimal.localcontext() as context:
        context.prec = 60
        v = (Decimal(x).ln() * Decimal(y)).exp()
    n = round(Fraction(v) * Fraction(2) ** (26 - math.floor(estimate)))
    candidate = Fraction(n) * Fraction(2) ** (math.floor(estimate) - 26)
    root = Fraction(y).denominator
    assert candidate ** root == Fraction(x) ** Fraction(y).numerator, (x, y)
    return round_fraction(candidate)
