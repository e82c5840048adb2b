"""Attention of the three families (docs/numerics.md, "Attention")."""
import functools
import math

import reals
import tensor_core
from formats import NAN, add, bits32, div, fma, maximum, minimum, mul, rne, round32, sub
from rows import dot, greatest_power, least_exponent, quantized_row, rotate
from tensors import NAMES, Tensor, tensor

LOG2_E = bits32(0x3FB8AA3B)
GRID = 24576.0
EXP2P = [1.0] + [bits32(c) for c in (0x3F317215, 0x3E75FCDF, 0x3D635BA8, 0x3C1E7545, 0x3AADDD09)]


def exp2(t):
    return reals.evaluate("exp2", t)


def exp2p(t):
    if math.isnan(t):
        return NAN
    if t < -126:
        return 0.0
    n = rne(t)
    r = sub(t, float(n))
    p = EXP2P[5]
    for c in reversed(EXP2P[:5]):
        p = fma(p, r, c)
    return mul(p, 2.0 ** n)


def capped(attributes, s):
    """(A score, what makes it one in units of log2): with a softcap u, u * tanh(s * scale / u)."""
    u = attributes.get("softcap", 0.0)
    if not u:
        return s, mul(attributes["scale"], LOG2_E)
    return mul(u, reals.evaluate("tanh", div(mul(s, attributes["scale"]), u))), LOG2_E


def scaled(attributes, s):
    """x of a score, in units of log2."""
    return mul(*capped(attributes, s))


def lane_sum(keys, weights):
    lane = [0.0] * 8
    for key, p in zip(keys, weights):
        lane[key % 8] = add(lane[key % 8], p)
    pair = [add(lane[i], lane[i + 1]) for i in (0, 2, 4, 6)]
    return add(add(pair[0], pair[1]), add(pair[2], pair[3]))


def merge(a, b, power):
    """States are (m, l, o), or None where empty."""
    if a is None or b is None:
        return b if a is None else a
    m = maximum(a[0], b[0])
    alpha, beta = power(sub(a[0], m)), power(sub(b[0], m))
    o = [fma(y, beta, mul(x, alpha)) for x, y in zip(a[2], b[2])]
    return m, fma(b[1], beta, mul(a[1], alpha)), o


def visible(attributes, row, queries, length):
    position = length - queries + row
    keys = range(length)
    if attributes.get("causal"):
        keys = [i for i in keys if i <= position]
    if attributes.get("window"):
        keys = [i for i in keys if i > position - attributes["window"]]
    return list(keys)


def blocks(keys, size):
    """Keys by blocks of absolute position."""
    result = {}
    for i in keys:
        result.setdefault(i // size, []).append(i)
    return [result[b] for b in sorted(result)]


def merged(keys, power, block_state):
    total = None
    for part in blocks(keys, 2048):
        running = None
        for block in blocks(part, 128):
            running = merge(running, block_state(block), power)
        total = merge(total, running, power)
    return total


def sequences(table, pool):
    """[B, Tk, ...] of pages; zeros stand for a page that is none."""
    if table is None:
        return pool
    pages, size, width = pool.shape
    n = size * width
    codes = []
    for page in table.values():
        codes += pool.codes[page * n:(page + 1) * n] if 0 <= page < pages else [0] * n
    return Tensor(pool.type, [table.shape[0], table.shape[1] * size, width], codes)


def each_row(attributes, q, k, v, lengths, f):
    """f(batch, query's (row, head), key-value head, visible keys) for every query's head, in the output's order."""
    heads = attributes["heads"]
    kv_heads = attributes.get("kv_heads", heads)
    for b in range(q.shape[0]):
        n = lengths.values()[b] if lengths else k.shape[1]
        for row in range(q.shape[1]):
            for head in range(heads):
                yield from f(b, row, head, head // (heads // kv_heads), visible(attributes, row, q.shape[1], n))


def head_of(flat, shape, heads, b, row, head):
    size = shape[2] // heads
    at = (b * shape[1] + row) * shape[2] + head * size
    return flat[at:at + size]


class Operands:
    """Vectors of one token and one head, each prepared once."""

    def __init__(self, attributes, q, k, v, flat):
        heads = attributes["heads"]
        counts = heads, attributes.get("kv_heads", heads), attributes.get("kv_heads", heads)
        self.parts = [(flat(t), t.shape, n) for t, n in zip((q, k, v), counts)]

    def q(self, *at):
        return head_of(*self.parts[0], *at)

    def k(self, *at):
        return head_of(*self.parts[1], *at)

    def v(self, *at):
        return head_of(*self.parts[2], *at)


def quotient(state, size):
    return [0.0] * size if state is None else [div(x, state[1]) for x in state[2]]


def output_shape(attributes, q, v):
    return q.shape[:2] + [attributes["heads"] * v.shape[2] // attributes.get("kv_heads", attributes["heads"])]


def ordered_state(attributes, query, indices, keys, values, shift=0.0):
    """Of one block: its keys and values, and each one's index in it, modulo 8."""
    x = [add(scaled(attributes, dot(query, key)), shift) for key in keys]
    m = functools.reduce(maximum, x)
    p = [exp2(sub(t, m)) for t in x]
    o = [0.0] * len(values[0])
    for weight, value in zip(p, values):
        o = [fma(weight, y, acc) for y, acc in zip(value, o)]
    return m, lane_sum(indices, p), o


def mean(rows, factor):
    """The sum of rows, ascending, times a factor, or divided by their number."""
    total = rows[0]
    for row in rows[1:]:
        total = [add(x, y) for x, y in zip(total, row)]
    return [mul(x, factor) if factor else div(x, float(len(rows))) for x in total]


def sparse(attributes, q, k, v, levels, lengths=None):
    operands = Operands(attributes, q, k, v, lambda t: t.values())
    of_block = functools.cache(lambda part, p, b, i, kv: mean([part(b, j, kv) for j in range(i, i + 2 ** p)], 2.0 ** -p))
    _, heads, query_blocks, key_blocks = levels.shape

    def row_of(b, row, head, kv, keys):
        query = operands.q(b, row, head)
        first = ((b * heads + head) * query_blocks + row // attributes.get("query_block", 128)) * key_blocks

        def block_state(block):
            level = levels.codes[first + block[0] // 128]
            p = level - 1 if len(block) == 128 else 0
            if level == 0:
                return None
            means = range(0, len(block), 2 ** p)
            parts = [[of_block(part, p, b, block[i], kv) for i in means] for part in (operands.k, operands.v)]
            indices = block if p == 0 else list(range(len(means)))
            return ordered_state(attributes, query, indices, *parts, float(p))
        return quotient(merged(keys, exp2, block_state), len(operands.v(b, 0, kv)))
    return [tensor(q.type, output_shape(attributes, q, v), list(each_row(attributes, q, k, v, lengths, row_of)))]


def level_of(shares, before, total):
    fits = [i + 1 for i, s in enumerate(shares) if s == 1 or before << 32 < rne(s * 2.0 ** 32) * total]
    return fits[0] if fits else 0


def sparse_levels(attributes, q, k, lengths=None):
    operands = Operands(attributes, q, k, k, lambda t: t.values())
    heads, size, out = attributes["heads"], attributes["query_block"], []
    group, key_blocks = heads // attributes.get("kv_heads", heads), -(-k.shape[1] // 128)
    for b in range(q.shape[0]):
        n = lengths.values()[b] if lengths else k.shape[1]
        for head in range(heads):
            for first in range(0, q.shape[1], size):
                rows = range(first, min(first + size, q.shape[1]))
                sights = [set(visible(attributes, row, q.shape[1], n)) for row in rows]
                query = mean([operands.q(b, row, head) for row in rows], None)
                levels, x = [0] * key_blocks, {}
                for block in range(key_blocks):
                    keys = range(block * 128, (block + 1) * 128)
                    levels[block] = int(any(not s.isdisjoint(keys) for s in sights))
                    if all(s.issuperset(keys) for s in sights):
                        x[block] = scaled(attributes, dot(query, mean([operands.k(b, i, head // group) for i in keys], None)))
                top = max((t for t in x.values() if not math.isnan(t)), default=-math.inf)
                powers = {block: exp2(sub(t, top)) for block, t in x.items()}
                weights = {block: 0 if math.isnan(p) else rne(p * 2.0 ** 32) for block, p in powers.items()}
                before = 0
                for block in sorted(weights, key=lambda i: (-weights[i], i)):
                    levels[block] = level_of(attributes["shares"], before, sum(weights.values()))
                    before += weights[block]
                out += levels
    return [tensor("uint8", [q.shape[0], heads, -(-q.shape[1] // size), key_blocks], out)]


def ordered(attributes, q, k, v, lengths=None, table=None):
    k, v = sequences(table, k), sequences(table, v)
    operands = Operands(attributes, q, k, v, lambda t: t.values())

    def row_of(b, row, head, kv, keys):
        query = operands.q(b, row, head)

        def block_state(block):
            return ordered_state(attributes, query, block, *([part(b, i, kv) for i in block] for part in (operands.k, operands.v)))
        return quotient(merged(keys, exp2, block_state), len(operands.v(b, 0, kv)))
    return [tensor(q.type, output_shape(attributes, q, v), list(each_row(attributes, q, k, v, lengths, row_of)))]


def quantized_value(row):
    """(f or None where a value is not finite, codes)."""
    row = rotate(row, greatest_power(len(row)))
    if not all(map(math.isfinite, row)):
        return None, [0] * len(row)
    f = least_exponent(max(map(abs, row)), -100, 122)
    return f, [rne(v * 2.0 ** -f) for v in row]


def int8(attributes, q, k, v, lengths=None):
    operands = Operands(attributes, q, k, v, lambda t: t.values())
    n = greatest_power(len(operands.q(0, 0, 0)))
    key = functools.cache(lambda *at: quantized_row(rotate(operands.k(*at), n)))
    value = functools.cache(lambda *at: quantized_value(operands.v(*at)))
    return int8_of(attributes, operands, q, k, v, lengths, key, value)


def int8_cached(attributes, q, k, v, k_scales, v_exponents, lengths=None, table=None):
    k, v, k_scales, v_exponents = (sequences(table, t) for t in (k, v, k_scales, v_exponents))
    operands = Operands(attributes, q, k, v, lambda t: t.values())
    scales, exponents = k_scales.values(), v_exponents.values()

    def at(b, i, head):
        return (b * k.shape[1] + i) * k_scales.shape[2] + head

    def value(*place):
        f = exponents[at(*place)]
        return None if f == 2 ** 31 - 1 else f, operands.v(*place)
    return int8_of(attributes, operands, q, k, v, lengths, lambda *place: (scales[at(*place)], operands.k(*place)), value)


def int8_of(attributes, operands, q, k, v, lengths, key, value):
    """key() gives a key's scale and codes, value() a value's exponent and codes."""
    n = greatest_power(len(operands.q(0, 0, 0)))
    slices = attributes["weight_slices"]
    most = (18.0 if slices == 2 else 10.0) - 7 / 1024  # of the exponents of the weights that l is the sum of

    def row_of(b, row, head, kv, keys):
        s_q, query = quantized_row(rotate(operands.q(b, row, head), n))
        s_q = mul(s_q, div(1.0, float(n)))

        def score(i):
            """A score, and what makes it one in units of log2."""
            s_k, codes = key(b, i, kv)
            s = mul(float(sum(x * y for x, y in zip(query, codes))), s_k)
            if attributes.get("softcap"):
                return capped(attributes, mul(s, s_q))
            return s, mul(s_q, mul(attributes["scale"], LOG2_E))

        def extend(state, block):
            before, sums = state
            x = [grid(*score(i)) for i in block]
            values = [value(b, i, kv) for i in block]
            e = functools.reduce(maximum, x)
            z = [sub(t, e) for t in x]
            y = [add(t, NAN if f is None else float(f)) for t, (f, _) in zip(z, values)]
            g = functools.reduce(maximum, y)
            whole = NAN if math.isnan(g) else float(math.floor(g))
            shift = add(sub(whole, g), most)
            codes, total = [], 0
            for t, u in zip(z, y):
                w, weight = exp2p(add(sub(u, g), 7.0 - 6 / 512)), exp2p(add(t, shift))
                if math.isnan(w):
                    return before, [NAN] * len(sums)
                codes.append(rne(w) if slices == 1 else 128 * rne(w) + rne(mul(sub(w, float(rne(w))), 128.0)))
                total += rne(weight)
            m = raised(before, e)
            alpha = 1.0 if m == before else exp2p(sub(before, m))
            above = sub(e, m)
            unit = exp2p(add(above, sub(g, 7.0 * slices - 6 / 512)))
            columns = [sum(c * v[j] for c, (_, v) in zip(codes, values)) for j in range(len(sums) - 1)]
            o = [fma(round32(float(c)), unit, mul(x, alpha)) for c, x in zip(columns, sums)]
            return m, o + [fma(float(total), exp2p(sub(above, shift)), mul(sums[-1], alpha))]
        width = len(operands.v(b, 0, kv))
        o = rotate(shared(keys, width, extend), greatest_power(width))
        return [mul(x, div(1.0, float(greatest_power(width)))) for x in o]
    return [tensor(q.type, output_shape(attributes, q, v), list(each_row(attributes, q, k, v, lengths, row_of)))]


def grid(s, c):
    """A score in units of log2, a multiple of 2^-9."""
    return sub(fma(s, c, GRID), GRID)


def raised(m, greatest):
    return m if greatest <= add(m, 8.0) else greatest


def shared(keys, width, extend):
    """o / l of a row: extend() goes on from (m, o's columns and l) with a block of keys."""
    total = None
    for part in blocks(keys, 2048):
        state = -math.inf, [0.0] * (width + 1)
        for block in blocks(part, 128):
            state = extend(state, block)
        total = merge(total, (state[0], state[1][-1], state[1][:-1]), exp2p)
    if total is None:
        return [0.0] * width
    share = div(1.0, total[1])
    return [mul(x, share) for x in total[2]]


def tensor_cores(attributes, q, k, v, lengths=None, table=None):
    k, v = sequences(table, k), sequences(table, v)
    form, r = q.format, tensor_core.rule(attributes["member"], False)
    operands = Operands(attributes, q, k, v, lambda t: t.codes)

    def exponent(s, c, m):
        if abs(m) <= 4096:
            return sub(fma(s, c, sub(GRID, m)), GRID)
        return minimum(sub(add(sub(grid(s, c), m), GRID), GRID), 8.0)

    def extend(state, b, query, kv, block):
        before, sums = state
        scores = [capped(attributes, tensor_core.chain(r, form, query, form, operands.k(b, i, kv))) for i in block]
        m = raised(before, functools.reduce(maximum, [grid(s, c) for s, c in scores]))
        codes = [form.encode(exp2p(exponent(s, c, m))) for s, c in scores]
        base, group = block[0] // 128 * 128, r[0]
        weight, columns = [0] * 128, [[0] * 128 for _ in sums]
        for i, p in zip(block, codes):
            weight[i - base] = p
            for column, code in zip(columns, operands.v(b, i, kv) + [form.encode(1.0)]):
                column[i - base] = code
        # Groups lie by the key's index in its block; those without a visible key take no part.
        first, last = (block[0] - base) // group * group, block[-1] - base + 1
        alpha = 1.0 if m == before else exp2p(sub(before, m))
        return m, [tensor_core.chain(r, form, weight[first:last], form, c[first:last], mul(x, alpha)) for c, x in zip(columns, sums)]

    def row_of(b, row, head, kv, keys):
        query = operands.q(b, row, head)
        return shared(keys, len(operands.v(b, 0, kv)), lambda state, block: extend(state, b, query, kv, block))
    out = list(each_row(attributes, q, k, v, lengths, row_of))
    return [tensor(NAMES[attributes.get("output", q.number)], output_shape(attributes, q, v), out)]
