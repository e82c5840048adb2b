"""Products of other shapes: of integers, contractions, determinants, layers with a state, and ONNX's forms of attention
(docs/operators.md, "Products", "Layers with a state", "Attention and rotary embedding of ONNX"; docs/numerics.md, "Attention")."""
import functools
import math

import reals
from attention import LOG2_E, exp2, lane_sum, merged, scaled
from formats import add, div, fma, maximum, mul, round32, sqrt, sub
from operators import arithmetic, indices, limits, matmul, operator, quantized, split_rows, strides
from rows import dot, ordered_sum
from tensors import Tensor, tensor
from windows import Window, convolve

# --- integers

def centred(x, zero, axis):
    """Codes minus the zero point: one, or one for each index of the axis."""
    zeros = zero.values() if zero else [0]
    places = [at[axis] for at in indices(x.shape)] if len(zeros) > 1 else [0] * len(x.codes)
    return tensor("int32", x.shape, [v - zeros[p] for v, p in zip(x.values(), places)])


@operator("MatMulInteger")
def matmul_integer(_, a, b, a_zero=None, b_zero=None):
    return matmul({}, centred(a, a_zero, len(a.shape) - 2), centred(b, b_zero, len(b.shape) - 1))


@operator("ConvInteger")
def conv_integer(attributes, x, w, x_zero=None, w_zero=None, bias=None):
    window = Window(attributes, x.shape[2:], w.shape[2:])
    return convolve(centred(x, x_zero, 1), centred(w, w_zero, 0), bias, attributes.get("group", 1), window.output, window.taps)


def requantized(sums, a_scale, b_scale, y_scale, y_zero, a_axis, b_axis):
    (low, high), a, b = limits(y_zero.type), a_scale.values(), b_scale.values()
    codes = []
    for at, s in zip(indices(sums.shape), sums.values()):
        scale = mul(a[at[a_axis] if len(a) > 1 else 0], b[at[b_axis] if len(b) > 1 else 0])
        v = mul(round32(float(s)), div(scale, y_scale.values()[0]))
        codes.append(quantized(v, y_zero.values()[0], low, high))
    return [tensor(y_zero.type, sums.shape, codes)]


@operator("QLinearMatMul")
def quantized_matmul(_, a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
    return requantized(matmul_integer({}, a, b, a_zero, b_zero)[0], a_scale, b_scale, y_scale, y_zero, -2, -1)


@operator("QLinearConv")
def quantized_conv(attributes, x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias=None):
    return requantized(conv_integer(attributes, x, w, x_zero, w_zero, bias)[0], x_scale, w_scale, y_scale, y_zero, 1, 1)


# --- contractions

@operator("Einsum")
def einsum(attributes, *operands):
    """Labels are summed in the order of their first appearance. Digits are the labels of the dimensions that "..." stands for."""
    left, arrow, out = attributes["equation"].replace(" ", "").partition("->")
    terms = left.split(",")
    counts = [len(t.shape) - len(term) + 3 if "." in term else 0 for term, t in zip(terms, operands)]
    dots = "".join(map(str, range(max(counts))))
    terms = [term.replace("...", dots[len(dots) - n:]) for term, n in zip(terms, counts)]
    size = {}
    for c, d in (pair for term, t in zip(terms, operands) for pair in zip(term, t.shape)):
        size[c] = d if size.get(c, 1) == 1 else size[c]
    out = out.replace("...", dots) if arrow else dots + "".join(sorted(c for c in size if left.count(c) == 1))
    summed = [c for c in dict.fromkeys("".join(terms)) if c not in out]
    steps = [strides(t.shape, len(t.shape)) for t in operands]
    values = []
    for at in indices([size[c] for c in out]):
        vectors = [[] for _ in operands]
        for inner in indices([size[c] for c in summed]):
            of = dict(zip(out, at)) | dict(zip(summed, inner))
            for vector, term, step, t in zip(vectors, terms, steps, operands):
                vector.append(t.values_once[sum(of[c] * s for c, s in zip(term, step))])
        if operands[0].format:
            *first, last = vectors
            values.append(dot([functools.reduce(mul, v) for v in zip(*first)], last) if first else ordered_sum(last))
        else:
            values.append(sum(map(math.prod, zip(*vectors))))
    return [tensor(operands[0].type, [size[c] for c in out], values)]


def determinant(a):
    n, total = len(a), 1.0
    for k in range(n):
        best = max(range(k, n), key=lambda i: (math.isnan(a[i][k]), 0 if math.isnan(a[i][k]) else abs(a[i][k]), -i))
        if a[best][k] == 0:
            return 0.0
        if best != k:
            a[k], a[best] = a[best], a[k]
            total = -total
        total = mul(total, a[k][k])
        for i in range(k + 1, n):
            factor = -div(a[i][k], a[k][k])
            a[i] = a[i][:k + 1] + [fma(factor, p, v) for p, v in zip(a[k][k + 1:], a[i][k + 1:])]
    return total


@arithmetic("Det")
def det(_, x):
    n, shape = x.shape[-1], x.shape[:-2]
    matrices = split_rows(x.values(), n * n) or [[]] * math.prod(shape)
    return [tensor(x.type, shape, [determinant(split_rows(m, n)) for m in matrices])]


# --- layers with a state

@operator("LinearAttention")
def linear_attention(attributes, q, k, v, past=None, decay=None, beta=None):
    heads, kv_heads = attributes["q_num_heads"], attributes["kv_num_heads"]
    (batch, steps, width), key_size, value_size = q.shape, k.shape[2] // kv_heads, v.shape[2] // kv_heads
    scale = attributes.get("scale") or div(1.0, sqrt(float(key_size)))
    states = split_rows(past.values() if past else [0.0] * (batch * kv_heads * key_size * value_size), key_size * value_size)
    states = [split_rows(s, value_size) for s in states]
    head = lambda t, at, count, i: split_rows(t.values()[at * t.shape[2]:(at + 1) * t.shape[2]], t.shape[2] // count)[i]
    out = []
    for at in range(batch * steps):
        for h in range(heads):
            kv, group = h * kv_heads // heads, heads // kv_heads
            state = states[at // steps * kv_heads + kv]
            if h % group == 0:
                key, value = head(k, at, kv_heads, kv), head(v, at, kv_heads, kv)
                if decay:
                    g = head(decay, at, kv_heads, kv)
                    state[:] = [[mul(s, reals.evaluate("exp", g[d % len(g)])) for s in row] for d, row in enumerate(state)]
                if beta:
                    b = head(beta, at, beta.shape[2], kv if beta.shape[2] > 1 else 0)[0]
                    value = [mul(b, sub(w, dot(key, column))) for w, column in zip(value, zip(*state))]
                state[:] = [[fma(p, w, s) for w, s in zip(value, row)] for p, row in zip(key, state)]
            out += [mul(scale, dot(head(q, at, heads, h), column)) for column in zip(*state)]
    present = [s for state in states for row in state for s in row]
    return [tensor(q.type, [batch, steps, heads * value_size], out),
            tensor((past or q).type, [batch, kv_heads, key_size, value_size], present)]


@operator("CausalConvWithState")
def causal_conv(attributes, x, w, bias=None, past=None):
    """Conv of a channel's own weights, of the state and x; without a state what is before x is padding."""
    batch, channels, n = x.shape
    kept = w.shape[2] - 1
    rows = [(past.rows()[i] if past else []) + row for i, row in enumerate(x.rows())]
    codes = [(past.codes[i * kept:(i + 1) * kept] if past else [0] * kept) + x.codes[i * n:(i + 1) * n] for i in range(len(rows))]
    joined = tensor("float32", [batch, channels, len(rows[0])], [v for row in rows for v in row])
    window = Window({"pads": [0 if past else kept, 0]}, joined.shape[2:], w.shape[2:])
    y = convolve(joined, w, bias, channels, window.output, window.taps)[0].values()
    if attributes.get("activation", "none") != "none":
        y = [mul(v, reals.evaluate("sigmoid", v)) for v in y]
    return [tensor(x.type, x.shape, y), Tensor(x.type, [batch, channels, kept], [c for row in codes for c in row[len(row) - kept:]])]


# --- ONNX's attention

class Heads:
    """[B, heads, T, size], or [B, T, heads * size]."""

    def __init__(self, t, heads):
        self.t, self.by_token = t, len(t.shape) == 3
        if self.by_token:
            self.batch, self.rows, self.heads = *t.shape[:2], heads
        else:
            self.batch, self.heads, self.rows = t.shape[:3]
        self.size = len(t.codes) // (self.batch * self.rows * self.heads)
        self.vectors = split_rows(t.values(), self.size)

    def place(self, b, head, row):
        return (b * self.rows + row) * self.heads + head if self.by_token else (b * self.heads + head) * self.rows + row

    def __call__(self, b, head, row):
        return self.vectors[self.place(b, head, row)]


def of_mask(mask, b, head, row, i):
    """The mask's element of a key, None where it has none."""
    if i >= mask.shape[-1]:
        return None
    place = 0
    for at, d in zip((b, head, row)[4 - len(mask.shape):], mask.shape):
        place = place * d + (at if d > 1 else 0)
    return mask.values_once[place * mask.shape[-1] + i]


def reach(attributes, past, lengths, queries, keys, b, row):
    end = lengths.values()[b] if lengths else keys
    position = row + (end - queries if lengths else past)
    left, right = attributes.get("left_window_size", -1), attributes.get("right_window_size", -1)
    right = 0 if attributes.get("is_causal") else right
    return [i for i in range(end) if (right < 0 or i <= position + right) and (left < 0 or i >= position - left)]


@operator("ONNX's Attention")
def onnx_attention(attributes, q, k, v, mask=None, past_k=None, past_v=None, lengths=None):
    q_heads, k_heads, v_heads = (Heads(t, attributes.get(n, 0)) for t, n in
                                 ((q, "q_num_heads"), (k, "kv_num_heads"), (v, "kv_num_heads")))
    caches = [Heads(t, 0) if t else None for t in (past_k, past_v)]
    past = caches[0].rows if caches[0] else 0
    keys, mode = past + k_heads.rows, attributes.get("qk_matmul_output_mode", 0)
    settings = {"softcap": attributes.get("softcap", 0.0),
                "scale": attributes.get("scale") or div(1.0, sqrt(float(q_heads.size)))}
    vector = lambda heads, cache, b, kv, i: cache(b, kv, i) if i < past else heads(b, kv, i - past)
    out, scores = [None] * (q_heads.batch * q_heads.heads * q_heads.rows), []
    for b, head, row in indices([q_heads.batch, q_heads.heads, q_heads.rows]):
        kv = head // (q_heads.heads // k_heads.heads)
        products = [dot(q_heads(b, head, row), vector(k_heads, caches[0], b, kv, i)) for i in range(keys)]
        biases, seen = [None] * keys, reach(attributes, past, lengths, q_heads.rows, keys, b, row)
        if mask:
            elements = [of_mask(mask, b, head, row, i) for i in range(keys)]
            if mask.type == "bool":
                seen = [i for i in seen if elements[i]]
            else:
                biases, seen = elements, [i for i in seen if elements[i] is not None and elements[i] != -math.inf]
        x = [scaled(settings, s) for s in products]
        x = [t if u is None else fma(u, LOG2_E, t) for t, u in zip(x, biases)]

        def block_state(block):
            m = functools.reduce(maximum, [x[i] for i in block])
            p = [exp2(sub(x[i], m)) for i in block]
            o = [0.0] * v_heads.size
            for weight, i in zip(p, block):
                o = [fma(weight, y, acc) for y, acc in zip(vector(v_heads, caches[1], b, kv, i), o)]
            return m, lane_sum([i % 128 for i in block], p), o
        state = merged(seen, exp2, block_state)
        out[q_heads.place(b, head, row)] = [div(y, state[1]) for y in state[2]] if state else [0.0] * v_heads.size
        scores += score_row(settings, mode, products, biases, seen, x, state)
    shape = q.shape[:2] + [q_heads.heads * v_heads.size] if q_heads.by_token else q.shape[:3] + [v_heads.size]
    presents = [present(h, c, past) for h, c in ((k_heads, caches[0]), (v_heads, caches[1]))]
    return [tensor(q.type, shape, [y for o in out for y in o]), *presents,
            tensor(q.type, [q_heads.batch, q_heads.heads, q_heads.rows, keys], scores)]


def score_row(settings, mode, products, biases, seen, x, state):
    if mode == 3:
        return [div(exp2(sub(t, state[0])), state[1]) if i in seen else 0.0 for i, t in enumerate(x)]
    u, s = settings["softcap"], [mul(p, settings["scale"]) for p in products]
    if mode and u:
        s = [mul(u, reals.evaluate("tanh", div(v, u))) for v in s]
    if mode == 2:
        s = [(v if b is None else add(v, b)) if i in seen else -math.inf for i, (v, b) in enumerate(zip(s, biases))]
    return s


def present(heads, cache, past):
    codes = []
    for b, head, row in indices([heads.batch, heads.heads, past + heads.rows]):
        of, at = (cache, cache.place(b, head, row)) if row < past else (heads, heads.place(b, head, row - past))
        codes += of.t.codes[at * heads.size:(at + 1) * heads.size]
    return Tensor(heads.t.type, [heads.batch, heads.heads, past + heads.rows, heads.size], codes)


@operator("ONNX's RotaryEmbedding")
def onnx_rotary_embedding(attributes, x, cosine, sine, positions=None):
    heads, out = Heads(x, attributes.get("num_heads", 0)), list(x.codes)
    size = attributes.get("rotary_embedding_dim") or heads.size
    for b, head, row in indices([heads.batch, heads.heads, heads.rows]):
        token = b * heads.rows + row
        at = positions.values()[token] if positions else token
        c, s = (t.values_once[at * size // 2:(at + 1) * size // 2] for t in (cosine, sine))
        begin, vector = heads.place(b, head, row) * heads.size, heads(b, head, row)
        for j in range(size // 2):
            p, q = (2 * j, 2 * j + 1) if attributes.get("interleaved") else (j, j + size // 2)
            out[begin + p] = x.format.encode(sub(mul(vector[p], c[j]), mul(vector[q], s[j])))
            out[begin + q] = x.format.encode(add(mul(vector[p], s[j]), mul(vector[q], c[j])))
    return [Tensor(x.type, x.shape, out)]
