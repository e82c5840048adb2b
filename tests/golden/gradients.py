"""Gradients that are operators of their own: docs/numerics.md, "Training", and the rules marked there by a star."""
import math

from attention import Operands, blocks, exp2, head_of, merged, ordered_state, quotient, scaled, visible
from activations import tanh
from formats import add, div, fma, maximum, mul, round32, sqrt, sub
from normalizations import target_weights
from operators import EPSILON, arithmetic, lines, operator, rsqrt
from rows import dot, ordered_sum, sum_of_squares
from tensors import Tensor, tensor


# --- movement and pools

@operator("SumTo")
def sum_to(_, x, shape):
    wanted = shape.values()
    padded = [1] * (len(x.shape) - len(wanted)) + wanted
    axes = [i for i, (n, m) in enumerate(zip(x.shape, padded)) if n != m]
    if not axes:
        return [Tensor(x.type, wanted, x.codes)]
    v = x.values()
    return [tensor(x.type, wanted, [ordered_sum([v[i] for i in line]) for line in lines(x, axes)[1]])]


@arithmetic("GatherGrad")
def gather_gradient(attributes, g, places, shape):
    dims = shape.values()
    axis = attributes.get("axis", 0) % len(dims)
    inner, count, n = math.prod(dims[axis + 1:]), len(places.codes), dims[axis]
    out = [0.0] * math.prod(dims)
    for k, v in enumerate(g.values()):
        outer, source, i = k // inner // count, k // inner % count, k % inner
        to = (outer * n + places.values_once[source] % n) * inner + i
        out[to] = add(out[to], v)
    return [tensor(g.type, dims, out)]


@arithmetic("MeanPoolGrad")
def mean_pool_gradient(_, g, lengths, shape):
    _, steps, width = shape.values()
    out = []
    for row, n in zip(g.rows(), lengths.values()):
        out += [div(v, float(n)) for v in row] * n + [0.0] * (width * (steps - n))
    return [tensor(g.type, shape.values(), out)]


@arithmetic("NegativeLogLikelihoodLossGrad")
def loss_gradient(attributes, g, shape, target, weight=None):
    dims, weights, reduction = shape.values(), target_weights(attributes, target, weight), attributes.get("reduction", "mean")
    positions, h = math.prod(dims[2:]), g.values()
    if reduction == "mean":
        h = [div(h[0], ordered_sum(weights))]
    out = [0.0] * math.prod(dims)
    for i, (t, w) in enumerate(zip(target.values(), weights)):
        if t != attributes.get("ignore_index"):
            out[(i // positions * dims[1] + t) * positions + i % positions] = -mul(h[i if reduction == "none" else 0], w)
    return [tensor(g.type, dims, out)]


# --- normalisations

def product_sum(a, b):
    return ordered_sum([mul(p, q) for p, q in zip(a, b)])


@arithmetic("LayerNormalizationGrad", "RMSNormalizationGrad")
def normalization_gradient(name, attributes, g, x, gamma):
    centred, weights = name == "LayerNormalizationGrad", gamma.values()
    n, out, normalized = float(x.shape[-1]), [], []
    for gradient, row in zip(g.rows(), x.rows()):
        mean = div(ordered_sum(row), n)
        d = [sub(v, mean) for v in row] if centred else row
        inverse = rsqrt(add(div(sum_of_squares(d), n), attributes.get("epsilon", EPSILON)))
        z, h = [mul(v, inverse) for v in d], [mul(p, q) for p, q in zip(gradient, weights)]
        c = div(product_sum(h, z), n)
        a = div(ordered_sum(h), n)
        out += [mul(inverse, sub(sub(p, a) if centred else p, mul(q, c))) for p, q in zip(h, z)]
        normalized.append(z)
    of_gamma = [product_sum(column, own) for column, own in zip(zip(*g.rows()), zip(*normalized))]
    return [tensor(x.type, x.shape, out), tensor(gamma.type, gamma.shape, of_gamma)]


@arithmetic("L2NormalizeGrad")
def l2_normalize_gradient(attributes, g, x):
    epsilon, out = attributes.get("epsilon", round32(1e-12)), []
    for gradient, row in zip(g.rows(), x.rows()):
        norm = sqrt(sum_of_squares(row))
        m = maximum(norm, epsilon)
        y = [div(v, m) for v in row]
        s = product_sum(gradient, y)
        out += [div(sub(p, mul(q, s)) if norm > epsilon else p, m) for p, q in zip(gradient, y)]
    return [tensor(x.type, x.shape, out)]


# --- attention

def chain_sum(chains, size):
    """fma chains of (weight, vector) from +0, added ascending, starting from the first; +0 of none."""
    total = None
    for chain in chains:
        acc = [0.0] * size
        for weight, vector in chain:
            acc = [fma(weight, v, a) for v, a in zip(vector, acc)]
        total = acc if total is None else [add(t, a) for t, a in zip(total, acc)]
    return [0.0] * size if total is None else total


class Row:
    """One query of one head: its weights p and its scores' gradients ds, by key."""

    def __init__(self, attributes, operands, gradient, b, row, head, kv, keys):
        self.query, self.gradient = operands.q(b, row, head), gradient
        of_key, of_value = ({i: part(b, i, kv) for i in keys} for part in (operands.k, operands.v))
        state = merged(keys, exp2, lambda block: ordered_state(
            attributes, self.query, block, [of_key[i] for i in block], [of_value[i] for i in block]))
        d = dot(gradient, quotient(state, len(gradient)))
        s = {i: dot(self.query, of_key[i]) for i in keys}
        self.p = {i: div(exp2(sub(scaled(attributes, s[i]), state[0])), state[1]) for i in keys}
        self.ds = {i: self.score_gradient(attributes, mul(self.p[i], sub(dot(gradient, of_value[i]), d)), s[i]) for i in keys}
        self.of_query = chain_sum([[(self.ds[i], of_key[i]) for i in block] for block in blocks(keys, 128)], len(self.query))

    @staticmethod
    def score_gradient(attributes, e, s):
        u, e = attributes.get("softcap", 0.0), mul(e, attributes["scale"])
        if not u:
            return e
        t = tanh(div(mul(s, attributes["scale"]), u))
        return mul(e, sub(1.0, mul(t, t)))


@arithmetic("AttentionGrad")
def attention_gradient(attributes, g, q, k, v, lengths=None):
    operands, gradients = Operands(attributes, q, k, v, lambda t: t.values()), g.values()
    (batch, queries), heads = q.shape[:2], attributes["heads"]
    kv_heads = attributes.get("kv_heads", heads)
    group, rows = heads // kv_heads, {}
    for b in range(batch):
        n = lengths.values()[b] if lengths else k.shape[1]
        for row in range(queries):
            for head in range(heads):
                own = head_of(gradients, g.shape, heads, b, row, head)
                rows[b, row, head] = Row(attributes, operands, own, b, row, head, head // group, visible(attributes, row, queries, n))

    def of_key(b, i, kv, pairs, size):
        chains = []
        for head in range(kv * group, (kv + 1) * group):
            seeing = [row for row in range(queries) if i in rows[b, row, head].p]
            chains += [[pairs(rows[b, row, head], i) for row in block] for block in blocks(seeing, 128)]
        return chain_sum(chains, size)
    places = [(b, i, kv) for b in range(batch) for i in range(k.shape[1]) for kv in range(kv_heads)]
    dk = [y for at in places for y in of_key(*at, lambda r, i: (r.ds[i], r.query), k.shape[2] // kv_heads)]
    dv = [y for at in places for y in of_key(*at, lambda r, i: (r.p[i], r.gradient), v.shape[2] // kv_heads)]
    dq = [y for r in rows.values() for y in r.of_query]
    return [tensor(t.type, t.shape, values) for t, values in ((q, dq), (k, dk), (v, dv))]
