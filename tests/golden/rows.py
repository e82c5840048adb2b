"""What rows go through: ordered products and sums, slices, rotation, quantisation (docs/numerics.md, families A and B)."""
import math

from formats import E4M3, NAN, add, div, exact, fma, mul, rne, sub


def dot(a, b):
    """The ordered product: fma chains of 512, added in ascending order."""
    total = None
    for begin in range(0, len(a), 512):
        acc = 0.0
        for x, y in zip(a[begin:begin + 512], b[begin:begin + 512]):
            acc = fma(x, y, acc)
        total = acc if total is None else add(total, acc)
    return 0.0 if total is None else total


def fold(n, first, step):
    total = None
    for begin in range(0, n, 1024):
        end = min(begin + 1024, n)
        lane = [first(i) for i in range(begin, min(begin + 32, end))]
        for i in range(begin + 32, end):
            lane[(i - begin) % 32] = step(lane[(i - begin) % 32], i)
        for s in (16, 8, 4, 2, 1):
            for j in range(min(s, max(0, len(lane) - s))):
                lane[j] = add(lane[j], lane[j + s])
        total = lane[0] if total is None else add(total, lane[0])
    return 0.0 if total is None else total


def ordered_sum(v):
    return fold(len(v), lambda i: v[i], lambda lane, i: add(lane, v[i]))


def sum_of_squares(v):
    return fold(len(v), lambda i: mul(v[i], v[i]), lambda lane, i: fma(v[i], v[i], lane))


def least_exponent(greatest, low, high):
    """The least e in [low, high] with greatest <= 127 * 2^e."""
    return next(e for e in range(low, high + 1) if greatest <= 127 * 2.0 ** e)


def slice_row(row, count):
    """(e, [slices])."""
    if not all(map(math.isfinite, row)):
        return 2 ** 31 - 1, [[0] * len(row)] * count
    e = least_exponent(max(map(abs, row), default=0), -155, 122) + 7
    parts = [[] for _ in range(count)]
    for v in row:
        n, unit = exact(v)
        n, unit = n << 400, unit - 400  # far below anything that is left over
        for s in range(count):
            place = e - 7 * (s + 1) - unit
            half = 1 << (place - 1)
            code, rest = n + half >> place, (n + half) & ((1 << place) - 1)
            if rest == 0 and code & 1:
                code -= 1  # a tie goes to the even code
            parts[s].append(code)
            n -= code << place
    return e, parts


def rotate(row, block):
    x = list(row)
    for base in range(0, len(x), block):
        stride = 1
        while stride < block:
            for i in range(base, base + block):
                if not (i - base) & stride:
                    u, v = x[i], x[i + stride]
                    x[i], x[i + stride] = add(u, v), sub(u, v)
            stride *= 2
    blocks = len(x) // block
    if blocks > 1 and block > 1:
        for i in range(block):
            total = x[i]
            for j in range(1, blocks):
                total = add(total, x[i + j * block])
            z = mul(total, div(2.0, float(blocks)))
            for j in range(blocks):
                x[i + j * block] = sub(x[i + j * block], z)
    return x


def greatest_power(n):
    return n & -n


def row_scale(row, greatest_code):
    return div(max(map(abs, row)), greatest_code) if all(map(math.isfinite, row)) else NAN


def quantized_row(row):
    s = row_scale(row, 127.0)
    if not s > 0:
        return s, [0] * len(row)
    return s, [max(-127, min(127, rne(div(v, s)))) for v in row]


def power_group(part, greatest_code):
    """(scale, codes) of a group under a power of two."""
    greatest = max(map(abs, part))
    if not all(map(math.isfinite, part)):
        return NAN, [0] * len(part)
    e = next((e for e in range(-127, 128) if greatest <= greatest_code * 2.0 ** e), 127)
    return 2.0 ** e, [max(-greatest_code, min(greatest_code, rne(v * 2.0 ** -e))) for v in part]


def small_float_group(part, t, greatest_code):
    """(scale, codes) of a group of a row whose scale is t; the scale is an e4m3."""
    if not t > 0:
        return 0.0, [0] * len(part)
    s = E4M3.decode(E4M3.encode(div(div(max(map(abs, part)), float(greatest_code)), t)))
    step = mul(s, t)
    return s, [max(-greatest_code, min(greatest_code, rne(div(v, step)))) if step > 0 else 0 for v in part]


def quantized_row_fp8(row):
    s = row_scale(row, 448.0)
    return s, [E4M3.encode(div(v, s)) if s > 0 else 0 for v in row]
