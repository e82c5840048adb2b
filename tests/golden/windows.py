"""Pools, convolutions, detection and recurrent layers: docs/operators.md, "Products", "Reductions, pools, normalisations", "Layers with a
state", "Selection, movement, detection". Shapes, layouts and what attributes mean are ONNX's."""
import functools
import math

import reals
from activations import elu, hard_sigmoid, leaky_relu, softsign, thresholded_relu
from formats import add, div, fma, maximum, minimum, mul, round32, sqrt, sub
from operators import arithmetic, indices, operator, split_rows
from rows import dot, ordered_sum, sum_of_squares
from tensors import TYPES, Tensor, tensor


class Window:
    """One window of each spatial dimension: `pads` at its beginning, and the number of positions."""

    def __init__(self, attributes, size, kernel):
        rank = len(size)
        self.size, self.kernel = size, kernel
        self.strides = attributes.get("strides", [1] * rank)
        self.dilations = attributes.get("dilations", [1] * rank)
        pads = attributes.get("pads", [0] * 2 * rank)
        self.begin, self.end = list(pads[:rank]), list(pads[rank:])
        same, self.output = attributes.get("auto_pad", "NOTSET"), []
        for d in range(rank):
            extent, stride = self.dilations[d] * (kernel[d] - 1) + 1, self.strides[d]
            if same.startswith("SAME"):
                count = -(-size[d] // stride)
                total = max(0, (count - 1) * stride + extent - size[d])
                self.begin[d] = total // 2 if same == "SAME_UPPER" else total - total // 2
                self.end[d] = total - self.begin[d]
            else:
                room = size[d] + self.begin[d] + self.end[d] - extent
                count = room // stride + 1
                if attributes.get("ceil_mode"):
                    count = -(-room // stride) + 1
                    count -= (count - 1) * stride >= size[d] + self.begin[d]  # it would start in the padding at the end
            self.output.append(count)

    def taps(self, at):
        """(tap, place or None) of output position `at`, taps row-major."""
        for k in indices(self.kernel):
            place = [o * s + j * e - b for o, s, j, e, b in zip(at, self.strides, k, self.dilations, self.begin)]
            yield k, place if all(0 <= p < n for p, n in zip(place, self.size)) else None

    def padded(self, at):
        """How many taps lie on the operand or its stated padding."""
        return sum(all(o * s + j * e < n + b + f for o, s, j, e, n, b, f in
                       zip(at, self.strides, k, self.dilations, self.size, self.begin, self.end)) for k in indices(self.kernel))


def place_of(place, size):
    flat = 0
    for p, n in zip(place, size):
        flat = flat * n + p
    return flat


def pool(window, x, f):
    """f(values, their places in the plane, the position) for each plane and position."""
    out = []
    for plane in split_rows(x.values(), math.prod(window.size)) if x.codes else []:
        for at in indices(window.output):
            places = [place_of(p, window.size) for _, p in window.taps(at) if p is not None]
            out.append(f([plane[p] for p in places], places, at))
    return x.shape[:2] + window.output, out


def pool_window(attributes, x):
    return Window(attributes, x.shape[2:], attributes["kernel_shape"])


def whole(attributes, x):
    return Window({}, x.shape[2:], x.shape[2:])


def average(window, x, include):
    def f(v, _, at):
        return div(ordered_sum(v), float(window.padded(at) if include else len(v)))
    return [tensor(x.type, *pool(window, x, f))]


def greatest(window, x, column_major):
    size = window.size
    least = -math.inf if x.format else (-(1 << (x.bits - 1)) if x.signed else 0)

    def f(v, places, _):
        if not v:
            return least, None
        best = functools.reduce(maximum, v) if x.format else max(v)
        first = next(i for i, w in enumerate(v) if (math.isnan(w) if x.format and math.isnan(best) else w == best))
        return v[first], places[first]  # of zeros of both signs the first is taken
    shape, found = pool(window, x, f)
    flat = []
    for i, (_, place) in enumerate(found):
        if place is not None and column_major:
            at = next(at for n, at in enumerate(indices(size)) if n == place)
            place = place_of(at[::-1], size[::-1])
        flat.append(-1 if place is None else i // math.prod(window.output) * math.prod(size) + place)
    return [tensor(x.type, shape, [v for v, _ in found]), tensor("int64", shape, flat)]


def power_mean(window, x, p):
    if p > 2:
        q, root = float(p), div(1.0, float(p))
        norm = lambda v, *_: reals.power(ordered_sum([reals.power(abs(w), q) for w in v]), root)
    elif p == 2:
        norm = lambda v, *_: sqrt(sum_of_squares(v))
    else:
        norm = lambda v, *_: ordered_sum([abs(w) for w in v])
    return [tensor(x.type, *pool(window, x, norm))]


for _prefix, _window in (("", pool_window), ("Global", whole)):
    arithmetic(_prefix + "AveragePool")(lambda a, x, w=_window: average(w(a, x), x, a.get("count_include_pad")))
    arithmetic(_prefix + "MaxPool")(lambda a, x, w=_window: greatest(w(a, x), x, a.get("storage_order")))
    arithmetic(_prefix + "LpPool")(lambda a, x, w=_window: power_mean(w(a, x), x, a.get("p", 2)))


# --- convolution

def convolve(x, w, bias, groups, spatial, taps):
    """taps(at): (tap, place or None) of an output position; weights [out channels, in channels of a group, kernel...]. Blocks are cut
    by the K index (channel, tap), whichever taps are padding; a block of nothing but padding is +0."""
    batch, channels, size = x.shape[0], x.shape[1], x.shape[2:]
    inner, outer, kernel = channels // groups, w.shape[0] // groups, w.shape[2:]
    planes, weights = split_rows(x.values(), math.prod(size)), split_rows(w.values(), inner * math.prod(kernel))
    seen = [(at, [(place_of(k, kernel), place_of(p, size)) for k, p in taps(at) if p is not None]) for at in indices(spatial)]
    blocks, k_size = -(-inner * math.prod(kernel) // 512), math.prod(kernel)
    out = []
    for n in range(batch):
        for m in range(w.shape[0]):
            first = n * channels + m // outer * inner
            for _, pairs in seen:
                left, right = [[] for _ in range(blocks)], [[] for _ in range(blocks)]
                for c in range(inner):
                    for k, p in pairs:
                        left[(c * k_size + k) // 512].append(planes[first + c][p])
                        right[(c * k_size + k) // 512].append(weights[m][c * k_size + k])
                if x.format:
                    v = functools.reduce(add, map(dot, left, right))
                    out.append(add(v, bias.values()[m]) if bias else v)
                else:
                    total = sum(a * b for p, q in zip(left, right) for a, b in zip(p, q))
                    out.append(total + bias.values()[m] if bias else total)
    return [tensor(x.type, [batch, w.shape[0]] + spatial, out)]


@arithmetic("Conv")
def conv(attributes, x, w, bias=None):
    window = Window(attributes, x.shape[2:], w.shape[2:])
    return convolve(x, w, bias, attributes.get("group", 1), window.output, window.taps)


@arithmetic("ConvTranspose")
def conv_transpose(attributes, x, w, bias=None):
    size, kernel, groups = x.shape[2:], w.shape[2:], attributes.get("group", 1)
    rank = len(size)
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    pads, extra = list(attributes.get("pads", [0] * 2 * rank)), attributes.get("output_padding", [0] * rank)
    full = [s * (n - 1) + e + d * (k - 1) + 1 for s, n, e, d, k in zip(strides, size, extra, dilations, kernel)]
    output = attributes.get("output_shape") or [f - pads[i] - pads[i + rank] for i, f in enumerate(full)]
    if "output_shape" in attributes:
        upper = attributes.get("auto_pad") == "SAME_UPPER"
        totals = [max(0, f - o) for f, o in zip(full, output)]
        pads = [t // 2 if upper else t - t // 2 for t in totals]

    def taps(at):
        for k in indices(kernel):
            place = [o + p - j * d for o, p, j, d in zip(at, pads, k, dilations)]
            fits = all(p % s == 0 and 0 <= p // s < n for p, s, n in zip(place, strides, size))
            yield k, [p // s for p, s in zip(place, strides)] if fits else None
    inner, outer, taps_of = w.shape[0] // groups, w.shape[1], math.prod(kernel)
    codes = [w.codes[((g * inner + c) * outer + m) * taps_of + k]
             for g in range(groups) for m in range(outer) for c in range(inner) for k in range(taps_of)]
    turned = Tensor(w.type, [groups * outer, inner] + kernel, codes)
    return convolve(x, turned, bias, groups, list(output), taps)


@operator("MaxUnpool")
def max_unpool(attributes, x, places, shape=None):
    """MaxPool's flat indices are those of a tensor of the natural size."""
    rank = len(x.shape) - 2
    strides, pads = attributes.get("strides", [1] * rank), attributes.get("pads", [0] * 2 * rank)
    natural = x.shape[:2] + [(n - 1) * s + k - p - q for n, s, k, p, q in zip(
        x.shape[2:], strides, attributes["kernel_shape"], pads, pads[rank:])]
    shape = shape.values() if shape else natural
    codes = [0] * math.prod(shape)
    for c, place in zip(x.codes, places.values()):
        at = []
        for n in reversed(natural):
            place, i = divmod(place, n)
            at.insert(0, i)
        codes[place_of(at, shape)] = c
    return [Tensor(x.type, shape, codes)]


@arithmetic("Col2Im")
def col2im(attributes, x, image, block):
    size, kernel = image.values(), block.values()
    taps, n = math.prod(kernel), math.prod(size)
    window, planes = Window(attributes, size, kernel), x.shape[0] * x.shape[1] // taps
    f, zero, rows = (add, 0.0, x.rows()) if x.format else (lambda a, b: a + b, 0, x.rows())
    out = [zero] * (planes * n)
    for plane in range(planes):
        for i, at in enumerate(indices(window.output)):
            for k, p in window.taps(at):
                if p is not None:
                    to = plane * n + place_of(p, size)
                    out[to] = f(out[to], rows[plane * taps + place_of(k, kernel)][i])
    return [tensor(x.type, [x.shape[0], x.shape[1] // taps] + size, out)]


def linear_read(image, size, at):
    """Between elements: along an axis an fma chain, the last axis first; elements outside take no part."""
    if not size:
        return image[0]
    step, acc = math.prod(size[1:]), 0.0
    if not -1 < at[0] < size[0]:
        return 0.0
    base = math.floor(at[0])
    r = sub(at[0], float(base))
    for i, weight in ((base, sub(1.0, r)), (base + 1, r)):
        if 0 <= i < size[0]:
            acc = fma(weight, linear_read(image[i * step:(i + 1) * step], size[1:], at[1:]), acc)
    return acc


@arithmetic("DeformConv")
def deform_conv(attributes, x, w, offsets, bias=None, mask=None):
    size, kernel = x.shape[2:], w.shape[2:]
    window, channels, rank, k_size = Window(attributes, size, kernel), x.shape[1], len(size), math.prod(kernel)
    groups, sets, positions = attributes.get("group", 1), attributes.get("offset_group", 1), math.prod(window.output)
    inner, outer = channels // groups, w.shape[0] // groups
    planes, weights = split_rows(x.values(), math.prod(size)), split_rows(w.values(), inner * k_size)
    moved, masks = split_rows(offsets.values(), positions), split_rows(mask.values(), positions) if mask else None

    def read(n, c, i, k, place):
        tap = (n * sets + c // (channels // sets)) * k_size + k
        at = [add(float(p), moved[tap * rank + d][i]) for d, p in enumerate(place)]
        v = linear_read(planes[n * channels + c], size, at)
        return mul(v, masks[tap][i]) if masks else v
    out = [0.0] * (x.shape[0] * w.shape[0] * positions)
    for n in range(x.shape[0]):
        for i, at in enumerate(indices(window.output)):
            places = [[o * s + j * e - b for o, s, j, e, b in zip(at, window.strides, k, window.dilations, window.begin)]
                      for k in indices(kernel)]
            values = [[read(n, c, i, k, p) for k, p in enumerate(places)] for c in range(channels)]
            for m in range(w.shape[0]):
                own = values[m // outer * inner:(m // outer + 1) * inner]
                v = dot([u for row in own for u in row], weights[m])
                out[(n * w.shape[0] + m) * positions + i] = add(v, bias.values()[m]) if bias else v
    return [tensor(x.type, x.shape[:1] + w.shape[:1] + window.output, out)]


# --- detection

def overlap(a, b, threshold):
    """Whether intersection / union is above it; what has no area, or NaN, does not overlap. Boxes are (low, high) by axis."""
    area = lambda box: mul(sub(box[0][1], box[0][0]), sub(box[1][1], box[1][0]))
    both = [(maximum(p[0], q[0]), minimum(p[1], q[1])) for p, q in zip(a, b)]
    if not all(high > low for low, high in both):
        return False
    common = area(both)
    union = sub(add(area(a), area(b)), common)
    return common > 0 and area(a) > 0 and area(b) > 0 and union > 0 and div(common, union) > threshold


@operator("NonMaxSuppression")
def non_max_suppression(attributes, boxes, scores, most=None, iou=None, score=None):
    def box(p):
        if attributes.get("center_point_box"):
            halves = [div(v, 2.0) for v in p[2:]]
            return [(sub(c, h), add(c, h)) for c, h in zip(p, halves)]
        return [(minimum(p[d], p[d + 2]), maximum(p[d], p[d + 2])) for d in (0, 1)]
    n, classes, count = scores.shape
    corners, rows, chosen = [box(p) for p in boxes.rows()], scores.rows(), []
    for at in range(n * classes):
        row, kept = rows[at], []
        order = [i for i in range(count) if not score or row[i] > score.values()[0]]
        order.sort(key=lambda i: (math.isnan(row[i]), 0 if math.isnan(row[i]) else -row[i], i))
        for i in order:
            own = corners[at // classes * count:]
            if len(kept) < (most.values()[0] if most else 0) and not any(
                    overlap(own[i], own[j], iou.values()[0] if iou else 0.0) for j in kept):
                kept.append(i)
        chosen += [(at // classes, at % classes, i) for i in kept]
    return [tensor("int64", [len(chosen), 3], [v for row in chosen for v in row])]


# --- recurrent layers

FUNCTIONS = {
    "Relu": lambda x, a, b: maximum(x, 0.0), "Tanh": lambda x, a, b: reals.evaluate("tanh", x),
    "Sigmoid": lambda x, a, b: reals.evaluate("sigmoid", x), "Softplus": lambda x, a, b: reals.evaluate("softplus", x),
    "Softsign": lambda x, a, b: softsign(x), "Affine": lambda x, a, b: add(mul(a, x), b),
    "LeakyRelu": lambda x, a, b: leaky_relu(x, a), "ThresholdedRelu": lambda x, a, b: thresholded_relu(x, a),
    "ScaledTanh": lambda x, a, b: mul(a, reals.evaluate("tanh", mul(b, x))), "HardSigmoid": lambda x, a, b: hard_sigmoid(x, a, b),
    "Elu": lambda x, a, b: elu(x, a)}
HAS_ALPHA = {"Affine": 1.0, "LeakyRelu": round32(0.01), "ThresholdedRelu": 1.0, "ScaledTanh": 1.0, "HardSigmoid": round32(0.2),
             "Elu": 1.0}
HAS_BETA = {"Affine": 0.0, "ScaledTanh": 1.0, "HardSigmoid": 0.5}


def activations(attributes, defaults):
    alphas, betas = iter(attributes.get("activation_alpha", [])), iter(attributes.get("activation_beta", []))
    clip, functions = attributes.get("clip", math.inf), []
    for name in attributes.get("activations", defaults):
        a = next(alphas, HAS_ALPHA[name]) if name in HAS_ALPHA else None
        b = next(betas, HAS_BETA[name]) if name in HAS_BETA else None
        functions.append(lambda x, f=FUNCTIONS[name], a=a, b=b: f(x if math.isnan(x) else max(-clip, min(clip, x)), a, b))
    return functions


class Cell:
    """One direction: the operand of a gate, ((x . W + h . R) + Wb) + Rb."""

    def __init__(self, gates, hidden, w, r, b, p):
        self.hidden, self.w, self.r, self.b, self.p, self.rows = hidden, w, r, b, p, gates * hidden

    def operand(self, gate, j, x, h):
        row = gate * self.hidden + j
        v = add(dot(x, self.w[row]), dot(h, self.r[row]))
        return add(add(v, self.b[row]), self.b[self.rows + row]) if self.b else v

    def peep(self, gate, j, x, h, c):
        v = self.operand(gate, j, x, h)
        return add(v, mul(self.p[gate * self.hidden + j], c)) if self.p else v


def rnn_step(_, cell, f, x, h, c):
    return [f[0](cell.operand(0, j, x, h)) for j in range(cell.hidden)], c


def gru_step(attributes, cell, f, x, h, c):
    n = cell.hidden
    z, r = ([f[0](cell.operand(g, j, x, h)) for j in range(n)] for g in (0, 1))
    out = []
    for j in range(n):
        row = 2 * n + j
        if attributes.get("linear_before_reset"):
            inner = dot(h, cell.r[row])
            inner = mul(r[j], add(inner, cell.b[cell.rows + row]) if cell.b else inner)
            v = add(dot(x, cell.w[row]), inner)
            v = add(v, cell.b[row]) if cell.b else v
        else:
            v = cell.operand(2, j, x, [mul(p, q) for p, q in zip(r, h)])
        out.append(add(mul(sub(1.0, z[j]), f[1](v)), mul(z[j], h[j])))
    return out, c


def lstm_step(attributes, cell, f, x, h, c):
    out, cells = [], []
    for j, old in enumerate(c):
        i = f[0](cell.peep(0, j, x, h, old))
        forget = sub(1.0, i) if attributes.get("input_forget") else f[0](cell.peep(2, j, x, h, old))
        new = add(mul(forget, old), mul(i, f[1](cell.operand(3, j, x, h))))
        out.append(mul(f[0](cell.peep(1, j, x, h, new)), f[2](new)))
        cells.append(new)
    return out, cells


LAYERS = {"RNN": (1, rnn_step, ["Tanh"]), "GRU": (3, gru_step, ["Sigmoid", "Tanh"]), "LSTM": (4, lstm_step, ["Sigmoid", "Tanh", "Tanh"])}


def per_direction(t, directions):
    return [None] * directions if t is None else split_rows(t.values(), len(t.codes) // directions)


@arithmetic(*LAYERS)
def layer(name, attributes, x, w, r, b=None, lengths=None, initial_h=None, initial_c=None, p=None):
    gates, step, defaults = LAYERS[name]
    direction, first = attributes.get("direction", "forward"), attributes.get("layout", 0)
    directions, hidden = (2 if direction == "bidirectional" else 1), r.shape[2]
    steps, batch = x.shape[:2][::-1] if first else x.shape[:2]
    functions, form = activations(attributes, defaults * directions), TYPES[x.type][2]
    rounded = lambda v: [form.decode(form.encode(u)) for u in v]
    rows = split_rows(x.values(), x.shape[2])
    y, states = [0.0] * (steps * directions * batch * hidden), [[], []]
    at_state = lambda d, n: (n * directions + d if first else d * batch + n) * hidden
    at_y = lambda t, d, n: ((n * steps + t) * directions + d if first else (t * directions + d) * batch + n) * hidden
    starts = [s.values() if s else [0.0] * (directions * batch * hidden) for s in (initial_h, initial_c)]
    parts = [per_direction(t, directions) for t in (b, p)]
    count = len(defaults)
    for d in range(directions):
        cell = Cell(gates, hidden, *(split_rows(per_direction(t, directions)[d], t.shape[2]) for t in (w, r)), parts[0][d], parts[1][d])
        for n in range(batch):
            h, c = (s[at_state(d, n):at_state(d, n) + hidden] for s in starts)
            length = lengths.values()[n] if lengths else steps
            for k in range(length):
                t = length - 1 - k if direction == "reverse" or d else k
                h, c = map(rounded, step(attributes, cell, functions[d * count:], rows[n * steps + t if first else t * batch + n], h, c))
                y[at_y(t, d, n):at_y(t, d, n) + hidden] = h
            for s, v in zip(starts, (h, c)):
                s[at_state(d, n):at_state(d, n) + hidden] = v
    shape, lead = ([batch, steps, directions], [batch, directions]) if first else ([steps, directions, batch], [directions, batch])
    out = [tensor(x.type, shape + [hidden], y)] + [tensor(x.type, lead + [hidden], s) for s in starts]
    return out[:3 if name == "LSTM" else 2]
