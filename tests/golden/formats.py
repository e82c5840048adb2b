"""Number formats and rounding, by integers: docs/numerics.md, "Ground rules" and "Small types".

A value of a floating type is a Python float, which holds it exactly; what is rounded is an integer times a power of two. No sum,
product or quotient of floats is ever rounded by the machine.
"""
import math

NAN = math.nan


class Format:
    """A binary format: `fraction` stored bits, `bias`; `top` is the greatest magnitude code that is a number."""

    def __init__(self, bits, fraction, bias, top, infinity=None, nan=None, negative_zero=True):
        self.bits, self.fraction, self.bias, self.top = bits, fraction, bias, top
        self.infinity, self.nan, self.negative_zero = infinity, nan, negative_zero
        self.sign = 1 << (bits - 1)
        self.least = 1 - bias - fraction  # the exponent of the last place of subnormals

    def decode(self, code):
        magnitude = code & (self.sign - 1)
        if not self.negative_zero and code == self.sign:
            return NAN
        if magnitude > self.top:
            if magnitude != self.infinity:
                return NAN
            return -math.inf if code & self.sign else math.inf
        exponent = magnitude >> self.fraction
        significand = magnitude & ((1 << self.fraction) - 1)
        if exponent:
            significand |= 1 << self.fraction
        value = math.ldexp(significand, max(exponent, 1) - 1 + self.least)
        return -value if code & self.sign else value

    def magnitude(self, n, unit):
        """|n| * 2^unit to nearest even, as a magnitude code without a limit at the top."""
        if n == 0:
            return 0
        n = abs(n)
        place = max(n.bit_length() + unit - 1 - self.fraction, self.least)
        n = shift_to_even(n, place - unit)
        # In the lowest binade the significand is the code; above, a carry moves into the exponent by itself.
        return n + ((place - self.least) << self.fraction)

    def encode(self, x, saturate=True):
        """A float as a code, rounded once; what is too great becomes infinity, or as `saturate` says for the 8-bit types."""
        if math.isnan(x):
            return self.nan
        sign = self.sign if math.copysign(1, x) < 0 else 0
        code = self.top + 1 if math.isinf(x) else self.magnitude(*exact(x))
        if code > self.top:
            if self.bits >= 16:
                code = self.infinity
            elif saturate or self.bits < 8:
                code = self.top
            else:
                return sign | self.infinity if self.infinity else self.nan if not self.negative_zero else sign | self.nan
        if code == 0 and not self.negative_zero:
            return 0
        return sign | code


F64 = Format(64, 52, 1023, 0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0x7FF8000000000000)
F32 = Format(32, 23, 127, 0x7F7FFFFF, 0x7F800000, 0x7FC00000)
F16 = Format(16, 10, 15, 0x7BFF, 0x7C00, 0x7E00)
BF16 = Format(16, 7, 127, 0x7F7F, 0x7F80, 0x7FC0)
E4M3 = Format(8, 3, 7, 0x7E, None, 0x7F)
E5M2 = Format(8, 2, 15, 0x7B, 0x7C, 0x7E)
E4M3FNUZ = Format(8, 3, 8, 0x7F, None, 0x80, False)
E5M2FNUZ = Format(8, 2, 16, 0x7F, None, 0x80, False)
E2M1 = Format(4, 1, 1, 0x7, None, 0x8)


class PowersOfTwo:
    """e8m0: code e is 2^(e - 127), FF is NaN."""

    bits, nan = 8, 0xFF

    def decode(self, code):
        return NAN if code == 0xFF else math.ldexp(1, code - 127)

    def encode(self, x, saturate=True, mode="up"):
        if math.isnan(x) or x < 0:
            return 0xFF
        if x == 0 or math.isinf(x):
            code = -1 if x == 0 else 0xFF
        else:
            m, e = math.frexp(x)  # x = m * 2^e, 1/2 <= m < 1
            code = e - 1 + 127 + {"up": m > 0.5, "down": 0, "nearest": m >= 0.75}[mode]
        if 0 <= code <= 0xFE:
            return code
        return (0 if code < 0 else 0xFE) if saturate else 0xFF


E8M0 = PowersOfTwo()


def exact(x):
    """A finite float as (integer, exponent)."""
    numerator, denominator = x.as_integer_ratio()
    return numerator, 1 - denominator.bit_length()


def shift_to_even(n, right):
    """n / 2^right for n >= 0, to the nearest integer, ties to even."""
    if right <= 0:
        return n << -right
    quotient, rest = n >> right, n & ((1 << right) - 1)
    half = 1 << (right - 1)
    return quotient + (rest > half or (rest == half and quotient & 1))


def rne(x):
    """The nearest integer of a finite float, ties to even."""
    n, unit = exact(x)
    return -shift_to_even(-n, -unit) if n < 0 else shift_to_even(n, -unit)


def to32(n, unit):
    """n * 2^unit rounded to binary32, as a float; n is not 0."""
    code = F32.magnitude(n, unit)
    value = F32.decode(code) if code <= F32.top else math.inf
    return -value if n < 0 else value


def round32(x):
    """A float (binary64) rounded to binary32."""
    return x if x == 0 or not math.isfinite(x) else to32(*exact(x))


SCALE = 2.0 ** 149


def units(x):
    """A binary32 value as an integer in units of 2^-149."""
    return int(x * SCALE)


# Binary32 arithmetic. Where an operand is not finite, or the exact result is zero, the machine's own operation rounds nothing and
# follows IEEE 754's rules of signs.
def add(a, b):
    if not (math.isfinite(a) and math.isfinite(b)):
        return a + b
    n = units(a) + units(b)
    return to32(n, -149) if n else a + b


def sub(a, b):
    return add(a, -b)


def mul(a, b):
    if not (math.isfinite(a) and math.isfinite(b)) or a == 0 or b == 0:
        return a * b
    return to32(units(a) * units(b), -298)


def fma(a, b, c):
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    n = units(a) * units(b) + (units(c) << 149)
    return to32(n, -298) if n else a * b + c


def div(a, b):
    if math.isnan(a) or math.isnan(b) or (math.isinf(a) and math.isinf(b)) or (a == 0 and b == 0):
        return NAN
    sign = math.copysign(1, a) * math.copysign(1, b)
    if math.isinf(a) or b == 0:
        return sign * math.inf
    if a == 0 or math.isinf(b):
        return sign * 0.0
    # More bits of the quotient than the rounding needs, and a last one that says whether there are others.
    n, d = abs(units(a)) << 400, abs(units(b))
    quotient, rest = divmod(n, d)
    return sign * to32(2 * quotient + (rest != 0), -401)


def sqrt(a):
    if math.isnan(a) or a < 0:
        return NAN
    if a == 0 or math.isinf(a):
        return a
    n = units(a) << 201  # a * 2^350
    root = math.isqrt(n)
    return to32(2 * root + (root * root != n), -176)


def maximum(a, b):
    """IEEE 754-2019: NaN wins, -0 is below +0."""
    if math.isnan(a) or math.isnan(b):
        return NAN
    if a == b:
        return a if math.copysign(1, a) > 0 else b
    return a if a > b else b


def minimum(a, b):
    return -maximum(-a, -b)


def bits32(code):
    return F32.decode(code)
