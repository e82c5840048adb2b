"""Operators from docs/numerics.md and docs/operators.md. Each takes the attributes and the input tensors (None where one is absent) and
returns the outputs. What is not here, check.py counts as not computed."""
import functools
import math

import attention
import reals
import tensor_core
from formats import E8M0, F32, NAN, add, div, fma, maximum, minimum, mul, rne, round32, sqrt, sub
from rows import (dot, greatest_power, ordered_sum, power_group, quantized_row, quantized_row_fp8, rotate, row_scale, slice_row,
                  small_float_group, sum_of_squares)
from tensors import NAMES, TYPES, Tensor, philox, tensor

TABLE = {}


def operator(*names):
    def note(f):
        for name in names:
            TABLE[name] = functools.partial(f, name) if len(names) > 1 else f
        return f
    return note


class NotComputed(Exception):
    """What of an operator, as its text, is not computed here."""


def arithmetic(*names):
    """operator() of functions that compute in binary32, the one format that is computed in here; what moves bytes takes any."""
    def note(f):
        @functools.wraps(f)
        def checked(*arguments):
            if any(isinstance(t, Tensor) and t.type == "float64" for t in arguments):
                raise NotComputed("float64")
            return f(*arguments)
        return operator(*names)(checked)
    return note


def split_rows(values, n):
    return [values[i:i + n] for i in range(0, len(values), n)] if n else []


def strides(shape, rank):
    """Of a shape that broadcasts to `rank` dimensions."""
    result, step = [], 1
    for d in reversed(shape):
        result.append(0 if d == 1 else step)
        step *= d
    return [0] * (rank - len(result)) + result[::-1]


def indices(shape):
    if not shape:
        yield ()
        return
    for head in indices(shape[:-1]):
        for i in range(shape[-1]):
            yield head + (i,)


def broadcast(f, *tensors):
    """(shape, [f of elements])."""
    rank = max(len(t.shape) for t in tensors)
    padded = [[1] * (rank - len(t.shape)) + t.shape for t in tensors]
    shape = [next((d for d in dims if d != 1), 1) for dims in zip(*padded)]
    values = [t.values() for t in tensors]
    steps = [strides(t.shape, rank) for t in tensors]
    return shape, [f(*(v[sum(i * s for i, s in zip(at, step))] for v, step in zip(values, steps))) for at in indices(shape)]


def truncated_quotient(a, b):
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


# --- elementwise

for _function in reals.FUNCTIONS:
    TABLE[_function.capitalize()] = TABLE["function " + _function] = functools.partial(
        lambda name, _, x: [tensor(x.type, x.shape, [reals.evaluate(name, v) for v in x.values()])], _function)


def round_half_even(x):
    return math.copysign(float(rne(x)), x) if math.isfinite(x) else x


SIMPLE = {
    "Sqrt": sqrt, "Reciprocal": lambda x: div(1.0, x), "Neg": lambda x: -x, "Abs": abs,
    "Floor": lambda x: math.copysign(float(math.floor(x)), x) if math.isfinite(x) else x,
    "Ceil": lambda x: math.copysign(float(math.ceil(x)), x) if math.isfinite(x) else x, "Round": round_half_even,
    "Sign": lambda x: x if x == 0 or math.isnan(x) else math.copysign(1.0, x)}
for _name, _f in SIMPLE.items():
    TABLE[_name] = functools.partial(lambda f, _, x: [tensor(x.type, x.shape, [f(v) for v in x.values()])], _f)

FLOAT_PAIRS = {"Add": add, "Sub": sub, "Mul": mul, "Div": div, "Pow": reals.power}
INTEGER_PAIRS = {"Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mul": lambda a, b: a * b, "Div": truncated_quotient}


@arithmetic(*FLOAT_PAIRS)
def pairs(name, _, a, b):
    f = (FLOAT_PAIRS if a.format else INTEGER_PAIRS)[name]
    return [tensor(a.type, *broadcast(f, a, b))]


@arithmetic("Max", "Min", "Sum", "Mean")
def several(name, _, *operands):
    f = {"Max": maximum, "Min": minimum}.get(name, add)
    finish = (lambda v: div(v, float(len(operands)))) if name == "Mean" else lambda v: v
    return [tensor(operands[0].type, *broadcast(lambda *v: finish(functools.reduce(f, v)), *operands))]


def remainder(a, b):
    """Of truncated division, exact, with the dividend's sign."""
    return NAN if math.isnan(a) or math.isnan(b) or math.isinf(a) or b == 0 else math.fmod(a, b)


@operator("Mod")
def modulo(attributes, a, b):
    if not a.format:
        f = (lambda x, y: x - y * truncated_quotient(x, y)) if attributes.get("fmod") else lambda x, y: x % y
        return [tensor(a.type, *broadcast(f, a, b))]
    return [tensor(a.type, *broadcast(remainder, a, b))]


COMPARISONS = {"Equal": lambda x, y: x == y, "Less": lambda x, y: x < y, "LessOrEqual": lambda x, y: x <= y,
               "Greater": lambda x, y: x > y, "GreaterOrEqual": lambda x, y: x >= y}
BITS = {"And": lambda x, y: x & y, "Or": lambda x, y: x | y, "Xor": lambda x, y: x ^ y}


@operator(*COMPARISONS)
def compare(name, _, a, b):
    return [tensor("bool", *broadcast(COMPARISONS[name], a, b))]


@operator(*BITS, *("Bitwise" + name for name in BITS))
def bitwise(name, _, a, b):
    return [tensor(a.type, *broadcast(BITS[name.removeprefix("Bitwise")], a, b))]


@operator("Not", "BitwiseNot")
def inverted(name, _, x):
    return [Tensor(x.type, x.shape, [c ^ (1 if name == "Not" else (1 << x.bits) - 1) for c in x.codes])]


@operator("IsNaN")
def is_nan(_, x):
    return [tensor("bool", x.shape, [int(math.isnan(v)) for v in x.values()])]


@operator("IsInf")
def is_infinite(attributes, x):
    wanted = [math.inf] * attributes.get("detect_positive", 1) + [-math.inf] * attributes.get("detect_negative", 1)
    return [tensor("bool", x.shape, [int(v in wanted) for v in x.values()])]


@operator("Relu")
def relu(_, x):
    return [tensor(x.type, x.shape, [maximum(v, 0.0) if x.format else max(v, 0) for v in x.values()])]


@operator("Clip")
def clip(_, x, low=None, high=None):
    above, below = (maximum, minimum) if x.format else (max, min)
    v = x.values()
    v = [above(u, low.values()[0]) for u in v] if low else v
    v = [below(u, high.values()[0]) for u in v] if high else v
    return [tensor(x.type, x.shape, v)]


@arithmetic("PRelu")
def prelu(_, x, slope):
    f = mul if x.format else lambda a, b: a * b
    return [tensor(x.type, *broadcast(lambda v, s: f(s, v) if v < 0 else v, x, slope))]


@operator("BitShift")
def bit_shift(attributes, a, b):
    left = attributes["direction"] == "LEFT"
    return [tensor(a.type, *broadcast(lambda x, n: 0 if n >= a.bits else x << n if left else x >> n, a, b))]


def bytes_kept(x, shape, codes):
    return [Tensor(x.type, shape, codes)]


@operator("Where")
def where(_, condition, a, b):
    return bytes_kept(a, a.shape, [x if c else y for c, x, y in zip(condition.codes, a.codes, b.codes)])


@operator("Identity")
def identity(_, x):
    return [x]


# --- conversion

def saturated(x, low, high):
    """A float truncated to an integer of a range; NaN is 0."""
    if math.isnan(x):
        return 0
    return low if x <= low else high if x >= high else int(x)


def limits(type_name):
    _, bits, _, signed = TYPES[type_name]
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def integer_code(x, to):
    """A float as an integer: the small types go through int64 and wrap."""
    return saturated(x, *limits("int64" if TYPES[to][1] < 8 else to))


@operator("Cast")
def cast(attributes, x):
    to = NAMES[attributes["to"]]
    _, bits, form, _ = TYPES[to]
    values = x.values()
    if to == "bool":
        return [tensor(to, x.shape, [int(v != 0) for v in values])]
    if form is None:
        return [tensor(to, x.shape, [integer_code(v, to) if x.format else v for v in values])]
    options = {"saturate": attributes.get("saturate", 1) != 0}
    if form is E8M0:
        options["mode"] = attributes.get("round_mode", "up")
    if not x.format:  # exact integers: round them as themselves
        codes = [encode_integer(form, v, options) for v in values]
    else:
        codes = [form.encode(v, **options) for v in values]
    return [Tensor(to, x.shape, codes)]


@operator("CastLike")
def cast_like(attributes, x, like):
    return cast(attributes | {"to": TYPES[like.type][0]}, x)


def encode_integer(form, v, options):
    code = form.magnitude(v, 0)
    if code <= form.top:
        return code | (form.sign if v < 0 else 0)
    return form.encode(math.copysign(math.inf, v), **options)


def scale_places(attributes, x, scale):
    """Which scale belongs to each element: one for all, one for each index of the axis, or for each block along it."""
    if len(scale.codes) == 1:
        return [0] * len(x.codes)
    axis = attributes.get("axis", 1) % len(x.shape)
    block = attributes.get("block_size", 0)
    if not block:
        return [at[axis] for at in indices(x.shape)]
    steps = strides(scale.shape, len(x.shape))
    return [sum((i // block if d == axis else i) * s for d, (i, s) in enumerate(zip(at, steps))) for at in indices(x.shape)]


def quantized(x, zero, low, high):
    """rne(x) + zero, saturated; NaN counts as 0."""
    n = 0 if math.isnan(x) else rne(max(min(x, 1e18), -1e18))
    return max(low, min(high, n + zero))


@arithmetic("QuantizeLinear")
def quantize_linear(attributes, x, scale, zero=None):
    to = zero.type if zero else NAMES[attributes.get("output_dtype", 2)]
    scales, form, places = scale.values(), TYPES[to][2], scale_places(attributes, x, scale)
    quotients = [div(v, scales[p]) for v, p in zip(x.values(), places)]
    if form:
        return [tensor(to, x.shape, quotients)]
    zeros = zero.values() if zero else [0] * len(scales)
    return [tensor(to, x.shape, [quantized(q, zeros[p], *limits(to)) for q, p in zip(quotients, places)])]


@arithmetic("DynamicQuantizeLinear")
def dynamic_quantize_linear(_, x):
    low, high = (functools.reduce(f, x.values(), 0.0) for f in (minimum, maximum))
    scale = div(sub(high, low), 255.0)
    zero = quantized(sub(0.0, div(low, scale)), 0, 0, 255)
    codes = [quantized(div(v, scale), zero, 0, 255) for v in x.values()]
    return [tensor("uint8", x.shape, codes), tensor("float32", [], [scale]), tensor("uint8", [], [zero])]


@arithmetic("DequantizeLinear")
def dequantize_linear(attributes, x, scale, zero=None):
    scales, places = scale.values(), scale_places(attributes, x, scale)
    zeros = zero.values() if zero else [0] * len(scales)
    to = NAMES[attributes["output_dtype"]] if "output_dtype" in attributes else scale.type
    distances = [v if x.format else round32(float(v - zeros[p])) for v, p in zip(x.values(), places)]
    return [tensor(to, x.shape, [mul(d, scales[p]) for d, p in zip(distances, places)])]


# --- products

@operator("Linear")
def linear(_, x, w, bias=None):
    b = bias.values() if bias else None
    row = TYPES[x.type][2]
    out = []
    for a in x.rows():
        for n, c in enumerate(w.rows()):
            v = row.decode(row.encode(dot(a, c)))  # a 16-bit product is rounded to its type before the bias
            out.append(add(v, b[n]) if b else v)
    return [tensor(x.type, x.shape[:-1] + [w.shape[0]], out)]


def product(a, b_columns, integers):
    if integers:
        return [sum(p * q for p, q in zip(r, c)) for r in a for c in b_columns]
    return [dot(r, c) for r in a for c in b_columns]


@operator("MatMul")
def matmul(_, a, b):
    if len(a.shape) == 1:
        return [tensor(a.type, [], [dot(a.values(), b.values())])]
    (m, k), n = a.shape[-2:], b.shape[-1]
    left, right = split_rows(a.values(), m * k), split_rows(b.values(), k * n)
    rank = max(len(a.shape), len(b.shape)) - 2
    batches = [[1] * (rank - len(t.shape) + 2) + t.shape[:-2] for t in (a, b)]
    shape = [max(d) for d in zip(*batches)]
    steps = [strides(s, rank) for s in batches]
    out = []
    for at in indices(shape):
        i, j = (sum(x * s for x, s in zip(at, step)) for step in steps)
        columns = [list(c) for c in zip(*split_rows(right[j], n))]
        out += product(split_rows(left[i], k), columns, a.format is None)
    return [tensor(a.type, shape + [m, n], out)]


@operator("Gemm")
def gemm(attributes, a, b, c):
    rows = a.rows() if not attributes.get("transA") else [list(r) for r in zip(*a.rows())]
    columns = b.rows() if attributes.get("transB") else [list(r) for r in zip(*b.rows())]
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    bias = c.values()
    out = [add(mul(dot(r, w), alpha), mul(bias[n], beta)) for r in rows for n, w in enumerate(columns)]
    return [tensor(a.type, [len(rows), len(columns)], out)]


# --- reductions

def lines(x, axes):
    """([shape with the axes 1], the elements' positions of each line, row-major)."""
    axes = [a % len(x.shape) for a in axes]
    kept = [1 if i in axes else d for i, d in enumerate(x.shape)]
    inner = [d if i in axes else 1 for i, d in enumerate(x.shape)]
    steps = [math.prod(x.shape[i + 1:]) for i in range(len(x.shape))]
    position = lambda at: sum(i * s for i, s in zip(at, steps))
    return kept, [[position(base) + position(at) for at in indices(inner)] for base in indices(kept)]


def log_sum_exp(v):
    m = functools.reduce(maximum, v, -math.inf)
    m = 0.0 if math.isinf(m) else m
    return add(m, reals.evaluate("log", ordered_sum([reals.evaluate("exp", sub(u, m)) for u in v])))


REDUCTIONS = {
    "ReduceSum": ordered_sum, "ReduceMean": lambda v: div(ordered_sum(v), float(len(v))), "ReduceSumSquare": sum_of_squares,
    "ReduceL2": lambda v: sqrt(sum_of_squares(v)), "ReduceMax": lambda v: functools.reduce(maximum, v),
    "ReduceMin": lambda v: functools.reduce(minimum, v), "ReduceProd": lambda v: functools.reduce(mul, v),
    "ReduceL1": lambda v: ordered_sum([abs(u) for u in v]), "ReduceLogSum": lambda v: reals.evaluate("log", ordered_sum(v)),
    "ReduceLogSumExp": log_sum_exp}


INTEGER_REDUCTIONS = {"ReduceSum": sum, "ReduceMean": lambda v: truncated_quotient(sum(v), len(v)), "ReduceMax": max, "ReduceMin": min,
                      "ReduceL1": lambda v: sum(map(abs, v))}


@arithmetic(*REDUCTIONS)
def reduce(name, attributes, x, axes=None):
    axes = axes.values() if axes else [] if attributes.get("noop_with_empty_axes") else list(range(len(x.shape)))
    shape, groups = lines(x, axes)
    v = x.values()
    if not attributes.get("keepdims", 1):
        shape = [d for i, d in enumerate(x.shape) if i not in axes]
    return [tensor(x.type, shape, [(REDUCTIONS if x.format else INTEGER_REDUCTIONS)[name]([v[i] for i in group]) for group in groups])]


@operator("ArgMax", "ArgMin")
def arg_extreme(name, attributes, x):
    sign = 1 if name == "ArgMax" else -1
    last = attributes.get("select_last_index", 0)
    shape, groups = lines(x, [attributes["axis"]])
    v = x.values()

    def best(group):
        numbers = [i for i in group if not math.isnan(v[i])]
        top = max((sign * v[i] for i in numbers), default=None)
        ties = [k for k, i in enumerate(group) if (not numbers if math.isnan(v[i]) else sign * v[i] == top)]
        return ties[-1 if last else 0]
    return [tensor("int64", shape, [best(g) for g in groups])]


# --- rows

def map_rows(x, f):
    return [tensor(x.type, x.shape, [y for row in x.rows() for y in f(row)])]


def softmax_parts(row):
    m = functools.reduce(maximum, row)
    d = [sub(v, m) for v in row]
    e = [reals.evaluate("exp", v) for v in d]
    return d, e, ordered_sum(e)


@operator("Softmax")
def softmax(_, x):
    def f(row):
        _, e, total = softmax_parts(row)
        return [div(v, total) for v in e]
    return map_rows(x, f)


@operator("LogSoftmax")
def log_softmax(_, x):
    def f(row):
        d, _, total = softmax_parts(row)
        logarithm = reals.evaluate("log", total)
        return [sub(v, logarithm) for v in d]
    return map_rows(x, f)


def rsqrt(x):
    return div(1.0, sqrt(x))


def affine(y, gamma, beta):
    if gamma:
        y = [mul(v, g) for v, g in zip(y, gamma)]
    return [add(v, b) for v, b in zip(y, beta)] if beta else y


EPSILON = F32.decode(F32.encode(1e-5))


@operator("LayerNormalization")
def layer_normalization(attributes, x, gamma, beta=None):
    epsilon = attributes.get("epsilon", EPSILON)
    out, means, inverses = [], [], []
    for row in x.rows():
        n = float(len(row))
        mean = div(ordered_sum(row), n)
        d = [sub(v, mean) for v in row]
        inverse = rsqrt(add(div(sum_of_squares(d), n), epsilon))
        out += affine([mul(v, inverse) for v in d], gamma.values(), beta.values() if beta else None)
        means.append(mean)
        inverses.append(inverse)
    statistics = x.shape[:-1] + [1]
    return [tensor(x.type, x.shape, out), tensor("float32", statistics, means), tensor("float32", statistics, inverses)]


@operator("RMSNormalization")
def rms_normalization(attributes, x, gamma):
    epsilon = attributes.get("epsilon", EPSILON)

    def f(row):
        inverse = rsqrt(add(div(sum_of_squares(row), float(len(row))), epsilon))
        return affine([mul(v, inverse) for v in row], gamma.values(), None)
    return map_rows(x, f)


@operator("L2Normalize")
def l2_normalize(_, x):
    def f(row):
        norm = maximum(sqrt(sum_of_squares(row)), round32(1e-12))
        return [div(v, norm) for v in row]
    return map_rows(x, f)


@operator("MeanPool")
def mean_pool(_, x, lengths):
    batch, steps, width = x.shape
    v, out = x.values(), []
    for b, n in enumerate(lengths.values()):
        for h in range(width):
            own = [v[(b * steps + t) * width + h] for t in range(n)]
            out.append(div(ordered_sum(own), float(n)) if n else 0.0)
    return [tensor(x.type, [batch, width], out)]


@operator("RotaryEmbedding")
def rotary_embedding(attributes, x, cosine, sine):
    heads, size, half = attributes["heads"], x.shape[2] // attributes["heads"], cosine.shape[1]
    out = []
    for i, head in enumerate(split_rows(x.values(), size)):
        t = i // heads % x.shape[1]
        c, s = cosine.rows()[t], sine.rows()[t]
        for j in range(half):
            p, q = (2 * j, 2 * j + 1) if attributes["interleaved"] else (j, j + half)
            a, b = head[p], head[q]
            head[p], head[q] = sub(mul(a, c[j]), mul(b, s[j])), add(mul(a, s[j]), mul(b, c[j]))
        out += head
    return [tensor(x.type, x.shape, out)]


# --- family B

FLAGGED = 2 ** 31 - 1


@operator("Slices")
def slices(attributes, x):
    count = attributes["count"]
    rows = [slice_row(row, count) for row in x.rows()]
    codes = [c for s in range(count) for _, parts in rows for c in parts[s]]
    return [tensor("int8", [count] + x.shape, codes), tensor("int32", x.shape[:-1], [e for e, _ in rows])]


@operator("SlicedLinear")
def sliced_linear(_, a, a_exponents, b, b_exponents, bias=None):
    p, m, k = a.shape
    q, n, _ = b.shape
    order = max(p, q) - 1
    left, right = split_rows(a.rows(), m), split_rows(b.rows(), n)
    out = []
    for i, e in enumerate(a_exponents.values()):
        for j, f in enumerate(b_exponents.values()):
            w = sum(sum(x * y for x, y in zip(left[s][i], right[t][j])) << (7 * (order - s - t))
                    for s in range(p) for t in range(q) if s + t <= order)
            unit = e + f - 7 * (order + 2)
            v = NAN if FLAGGED in (e, f) else F32.decode(encode_scaled(w, unit)) if w else 0.0
            out.append(add(v, bias.values()[j]) if bias else v)
    return [tensor("float32", [m, n], out)]


def encode_scaled(w, unit):
    code = min(F32.magnitude(w, unit), F32.infinity)
    return code | (F32.sign if w < 0 else 0)


@operator("QuantizeRows")
def quantize_rows(attributes, x):
    if attributes.get("to", 3) == 17:
        rows = [quantized_row_fp8(row) for row in x.rows()]
        codes = Tensor("float8_e4m3fn", x.shape, [c for _, row in rows for c in row])
    else:
        rows = [quantized_row(rotate(row, attributes.get("rotation", 1))) for row in x.rows()]
        codes = tensor("int8", x.shape, [c for _, row in rows for c in row])
    return [codes, tensor("float32", x.shape[:-1], [s for s, _ in rows])]


@operator("QuantizeKeys", "QuantizeValues")
def quantize_cache(name, attributes, x):
    heads = attributes["heads"]
    rows, shape = split_rows(x.values(), x.shape[2] // heads), x.shape[:2] + [heads]
    if name == "QuantizeKeys":
        rows = [quantized_row(rotate(row, greatest_power(len(row)))) for row in rows]
        scales = tensor("float32", shape, [s for s, _ in rows])
    else:
        rows = [attention.quantized_value(row) for row in rows]
        scales = tensor("int32", shape, [FLAGGED if f is None else f for f, _ in rows])
    return [tensor("int8", x.shape, [c for _, row in rows for c in row]), scales]


@operator("QuantizedLinear")
def quantized_linear(_, x, x_scales, w, w_scales, groups=None, bias=None):
    scales = groups.rows() if groups else None
    out = []
    for a, s in zip(x.rows(), x_scales.values()):
        for n, (c, t) in enumerate(zip(w.rows(), w_scales.values())):
            total = sum(p * q * (scales[n][k // 32] if groups else 1) for k, (p, q) in enumerate(zip(a, c)))
            v = mul(round32(float(total)), mul(s, t))
            out.append(add(v, bias.values()[n]) if bias else v)
    return [tensor("float32", x.shape[:-1] + [w.shape[0]], out)]


@operator("QuantizeGroups")
def quantize_groups(attributes, x):
    group, rotation = attributes.get("group", 32), attributes.get("rotation", 1)
    greatest = (1 << (attributes.get("bits", 8) - 1)) - 1
    rows = [[v for block in split_rows(row, rotation) for v in rotate(block, rotation)] for row in x.rows()]
    shape = x.shape[:-1] + [-(-x.shape[-1] // group)]
    if attributes.get("scale_type", 24) == 24:
        groups = [power_group(part, greatest) for row in rows for part in split_rows(row, group)]
        return [tensor("int8", x.shape, [c for _, codes in groups for c in codes]),
                tensor("float8_e8m0fnu", shape, [s for s, _ in groups])]
    assert not attributes.get("whole")
    scales = [row_scale(row, mul(448.0, float(greatest))) for row in rows]
    groups = [small_float_group(part, t, greatest) for row, t in zip(rows, scales) for part in split_rows(row, group)]
    return [tensor("int8", x.shape, [c for _, codes in groups for c in codes]),
            tensor("float8_e4m3fn", shape, [s for s, _ in groups]), tensor("float32", x.shape[:-1], scales)]


@operator("DequantizeGroups")
def dequantize_groups(attributes, codes, scales, row_scales=None):
    group, values = attributes.get("group", 32), []
    for i, (row, s) in enumerate(zip(codes.rows(), scales.rows())):
        for k, c in enumerate(row):
            v = mul(float(c), s[k // group])
            values.append(mul(v, row_scales.values()[i]) if row_scales else v)
    return [tensor("float32", codes.shape, values)]


@operator("GroupedLinear")
def grouped_linear(attributes, x, x_scales, w, w_scales, x_row_scales=None, w_row_scales=None, bias=None):
    group, exponent, out = attributes.get("group", 32), attributes.get("exponent", 0), []

    def row_scale_of(scales, i):
        return 1.0 if scales is None else scales.values()[i if scales.shape else 0]
    for m, (a, s) in enumerate(zip(x.rows(), x_scales.rows())):
        for n, (b, t) in enumerate(zip(w.rows(), w_scales.rows())):
            v = 0.0
            for g, (p, q) in enumerate(zip(split_rows(a, group), split_rows(b, group))):
                v = fma(float(sum(c * d for c, d in zip(p, q))), mul(s[g], t[g]), v)
            if x_row_scales or w_row_scales:
                v = mul(v, mul(row_scale_of(x_row_scales, m), row_scale_of(w_row_scales, n)))
            v = mul(v, 2.0 ** exponent)
            out.append(add(v, bias.values()[n]) if bias else v)
    return [tensor("float32", x.shape[:-1] + w.shape[:1], out)]


@operator("ChannelOrder")
def channel_order(attributes, w):
    """Of each head its rows; pairs that a rotary embedding mixes have no case here."""
    if attributes.get("pairs") or attributes.get("repeat", 1) != 1:
        raise NotComputed("pairs")
    norms, order = [sum_of_squares(row) for row in w.rows()], []
    size = len(norms) // attributes["heads"]
    for first in range(0, len(norms), size):
        order += sorted(range(first, first + size), key=lambda i: (math.isnan(norms[i]), 0 if math.isnan(norms[i]) else -norms[i], i))
    return [tensor("int64", [len(order)], order)]


# --- family C

@operator("TensorCoreLinear")
def tensor_core_linear(attributes, x, w, bias=None, x_scales=None, w_scales=None):
    r = tensor_core.rule(attributes["member"], x.bits == 8)
    k, out = x.shape[1], []
    for m, a in enumerate(split_rows(x.codes, k)):
        for n, b in enumerate(split_rows(w.codes, k)):
            v = tensor_core.dot(r, x.format, a, w.format, b, attributes.get("split", 1), attributes.get("precise", 0))
            if x_scales:
                v = mul(v, mul(x_scales.values()[m], w_scales.values()[n]))
            out.append(add(v, bias.values()[n]) if bias else v)
    return [tensor(NAMES[attributes.get("output", 1)], [x.shape[0], w.shape[0]], out)]


TABLE["Attention"] = attention.ordered
TABLE["AttentionInt8"] = attention.int8
TABLE["AttentionInt8Cached"] = attention.int8_cached
TABLE["AttentionTensorCore"] = attention.tensor_cores
TABLE["AttentionSparse"] = attention.sparse
TABLE["AttentionLevels"] = attention.sparse_levels


# --- randomness

def ranking(w):
    return sorted(range(len(w)), key=lambda i: (-w[i], i))


def argmax(x):
    numbers = [v for v in x if not math.isnan(v)]
    return x.index(max(numbers)) if numbers else 0


def fixed32(p):
    return rne(p * 2.0 ** 32)


def weights(x, temperature):
    scaled = [div(v, temperature) for v in x]
    numbers = [v for v in scaled if not math.isnan(v)]
    if not numbers:
        return [0] * len(x)
    top = max(numbers)
    e = [reals.evaluate("exp", sub(v, top)) for v in scaled]
    return [0 if math.isnan(v) else fixed32(v) for v in e]


@operator("Sample")
def sample(attributes, logits, position):
    x, temperature = logits.values()[-logits.shape[-1]:], attributes.get("temperature", 0.0)
    w = weights(x, temperature) if temperature > 0 else [0]
    k, top_p, min_p = attributes.get("top_k", 0), attributes.get("top_p", 1.0), attributes.get("min_p", 0.0)
    if k:
        kept = set(ranking(w)[:k])
        w = [v if i in kept else 0 for i, v in enumerate(w)]
    if min_p > 0:
        bound = fixed32(min_p) * max(w)
        w = [v if v << 32 >= bound else 0 for v in w]
    if top_p < 1:
        bound, total, kept = fixed32(top_p) * sum(w), 0, set()
        for i in ranking(w):
            total += w[i]
            kept.add(i)
            if total << 32 >= bound:
                break
        w = [v if i in kept else 0 for i, v in enumerate(w)]
    if sum(w) == 0:
        return [tensor("int64", [1], [argmax(x)])]
    u = philox(attributes.get("seed", 0) % 2 ** 64, position.values()[-1], 0)
    r, total = u * sum(w) >> 64, 0
    for token, v in enumerate(w):
        total += v
        if total > r:
            return [tensor("int64", [1], [token])]


# --- fixed point: exact integers, rounded once

def saturate(x, bits):
    """(code, whether it saturated)."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return min(max(x, low), high), not low <= x <= high


def rounded_quotient(a, b):
    """a / b to the nearest integer, ties to even."""
    if b < 0:
        a, b = -a, -b
    down, rest = divmod(a, b)
    return down + (2 * rest > b or (2 * rest == b and down % 2 == 1))


def counted(shape, pairs, type_name="int32"):
    """Codes, and for each row how many of them saturated."""
    n = shape[-1] if shape else 1
    counts = [sum(s for _, s in row) for row in split_rows(pairs, n)]
    return [tensor(type_name, shape, [c for c, _ in pairs]), tensor("int64", shape[:-1], counts)]


@operator("ToFixed")
def to_fixed(_, x):
    def code(v):
        if math.isnan(v):
            return 0, True
        return saturate(rne(v * 65536) if math.isfinite(v) else int(math.copysign(1 << 40, v)), 32)
    return counted(x.shape, [code(v) for v in x.values()])


@operator("FromFixed")
def from_fixed(_, x):
    return [tensor("float32", x.shape, [c / 65536 for c in x.values()])]


def fixed_quotient(a, b):
    if b == 0:
        return (0, True) if a == 0 else (saturate((1 << 40) * (1 if a > 0 else -1), 32)[0], True)
    return saturate(rounded_quotient(a << 16, b), 32)


FIXED = {"FixedAdd": lambda a, b: saturate(a + b, 32), "FixedSub": lambda a, b: saturate(a - b, 32),
         "FixedMul": lambda a, b: saturate(rounded_quotient(a * b, 1 << 16), 32), "FixedDiv": fixed_quotient}


@operator(*FIXED)
def fixed_pairs(name, _, a, b):
    return counted(*broadcast(FIXED[name], a, b))


@operator("FixedReciprocalSqrt")
def fixed_reciprocal_sqrt(_, x):
    def code(c):  # 1 / sqrt(c / 2^16) * 2^16 = sqrt(2^48 / c); twice that, then the half decides
        if c <= 0:
            return ((1 << 31) - 1 if c == 0 else 0), True
        return saturate((math.isqrt((1 << 50) // c) + 1) // 2, 32)
    return counted(x.shape, [code(c) for c in x.values()])


@operator("FixedNormalize")
def fixed_normalize(_, x):
    pairs = []
    for row in x.rows():
        s = sum(c * c for c in row)
        for c in row:
            square = (c * c) << 34  # (2 * |c| * 2^16)^2; r is nearest where (2 r - 1)^2 S < it < (2 r + 1)^2 S
            twice = math.isqrt(square // s) if s else 0
            r = (twice + 1) // 2
            if s and twice % 2 and twice * twice * s == square and r % 2:
                r -= 1  # a tie goes to even
            pairs.append((r if c >= 0 else -r, False))
    codes = counted(x.shape, pairs)[0]
    return [codes, tensor("int64", x.shape[:-1], [int(not any(row)) for row in x.rows()])]


@operator("FixedDot", "FixedSquaredDistance")
def fixed_product(name, attributes, a, b):
    term = (lambda x, y: x * y) if name == "FixedDot" else (lambda x, y: (x - y) ** 2)
    sums = [sum(map(term, row, vector)) for row in a.rows() for vector in b.rows()]
    shape = a.shape[:-1] + b.shape[:1]
    if attributes["fraction"] == 32:
        return counted(shape, [saturate(s, 64) for s in sums], "int64")
    return counted(shape, [saturate(rounded_quotient(s, 1 << 16), 32) for s in sums])


# --- optimizers

@operator("SgdUpdate")
def sgd_update(attributes, w, g, rate, velocity=None):
    momentum, decay, step = attributes.get("momentum", 0.0), attributes.get("weight_decay", 0.0), rate.values()[0]
    decayed = [add(y, mul(decay, x)) if decay else y for x, y in zip(w.values(), g.values())]
    moved = [add(mul(momentum, v), d) for v, d in zip(velocity.values(), decayed)] if velocity else decayed
    new = tensor("float32", w.shape, [sub(x, mul(step, v)) for x, v in zip(w.values(), moved)])
    return [new, tensor("float32", w.shape, moved)] if velocity else [new]


@operator("AdamWUpdate")
def adamw_update(attributes, w, g, m, v, rate, betas, powers):
    # 1 - x of a binary64 x in [0, 1) is rounded to binary64, which Python's own subtraction does, and then to binary32.
    b1, b2 = map(round32, betas.values())
    r1, r2 = (round32(1 - x) for x in betas.values())
    c1, c2 = (round32(1 - x) for x in powers.values())
    epsilon, decay, step = attributes.get("epsilon", round32(1e-8)), attributes.get("weight_decay", 0.0), rate.values()[0]
    first = [add(mul(b1, x), mul(r1, y)) for x, y in zip(m.values(), g.values())]
    second = [add(mul(b2, x), mul(r2, mul(y, y))) for x, y in zip(v.values(), g.values())]
    change = [add(div(div(x, c1), add(sqrt(div(y, c2)), epsilon)), mul(decay, z)) for x, y, z in zip(first, second, w.values())]
    new = [sub(x, mul(step, d)) for x, d in zip(w.values(), change)]
    return [tensor("float32", w.shape, values) for values in (new, first, second)]
