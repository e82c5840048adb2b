"""Operators that move elements, or read and write them at places that a tensor gives, and counts of n-grams: ONNX's rules of shapes,
bytes kept, ties and orders as docs/operators.md ("Selection, movement, detection") and docs/numerics.md ("Ground rules") say."""
import itertools
import math

from formats import add, maximum, minimum, mul
from operators import arithmetic, indices, lines, operator
from tensors import NAMES, TYPES, Tensor, tensor


def offset(at, shape):
    place = 0
    for i, d in zip(at, shape):
        place = place * d + i
    return place


def read_at(x, shape, source, fill=0):
    """A tensor whose element at `at` is x's at source(at), or `fill` where that is None."""
    codes = []
    for at in indices(list(shape)):
        place = source(at)
        codes.append(fill if place is None else x.codes[offset(place, x.shape)])
    return [Tensor(x.type, shape, codes)]


def ints(t):
    return t.values() if t is not None else None


def axis_of(attributes, name, otherwise, rank):
    return attributes.get(name, otherwise) % rank


# --- shape only

def view(x, shape):
    return [Tensor(x.type, shape, x.codes)]


@operator("Reshape")
def reshape(attributes, x, shape):
    dims = [x.shape[i] if d == 0 and not attributes.get("allowzero") else d for i, d in enumerate(ints(shape))]
    if -1 in dims:
        dims[dims.index(-1)] = len(x.codes) // math.prod(d for d in dims if d != -1)
    return view(x, dims)


@operator("Flatten")
def flatten(attributes, x):
    axis = attributes.get("axis", 1)
    axis += len(x.shape) if axis < 0 else 0
    return view(x, [math.prod(x.shape[:axis]), math.prod(x.shape[axis:])])


@operator("Squeeze")
def squeeze(_, x, axes=None):
    gone = [a % len(x.shape) for a in ints(axes)] if axes else [i for i, d in enumerate(x.shape) if d == 1]
    return view(x, [d for i, d in enumerate(x.shape) if i not in gone])


@operator("Unsqueeze")
def unsqueeze(_, x, axes):
    rank = len(x.shape) + len(axes.codes)
    new, rest = [a % rank for a in ints(axes)], iter(x.shape)
    return view(x, [1 if i in new else next(rest) for i in range(rank)])


@operator("BitCast")
def bit_cast(attributes, x):
    return [Tensor(NAMES[attributes["to"]], x.shape, x.codes)]


@operator("Dropout")
def dropout(attributes, x, ratio=None, training=None):
    return [x, tensor("bool", x.shape, [1] * len(x.codes))]


@operator("Shape")
def shape_of(attributes, x):
    dims = x.shape[attributes.get("start", 0):attributes.get("end", len(x.shape))]
    return [tensor("int64", [len(dims)], dims)]


@operator("Size")
def size_of(_, x):
    return [tensor("int64", [], [len(x.codes)])]


# --- copies

@operator("Transpose")
def transpose(attributes, x):
    order = attributes.get("perm", list(range(len(x.shape)))[::-1])
    return read_at(x, [x.shape[p] for p in order], lambda at: [at[order.index(d)] for d in range(len(order))])


@operator("Expand")
def expand(_, x, shape):
    pairs = list(itertools.zip_longest(reversed(x.shape), reversed(ints(shape)), fillvalue=1))
    dims = [b if a == 1 else a for a, b in reversed(pairs)]
    return read_at(x, dims, lambda at: [i if d > 1 else 0 for i, d in zip(at[len(dims) - len(x.shape):], x.shape)])


def parts_along(x, axis, sizes):
    begin, parts = 0, []
    for n in sizes:
        shape = x.shape[:axis] + [n] + x.shape[axis + 1:]
        parts += read_at(x, shape, lambda at, b=begin: at[:axis] + (at[axis] + b,) + at[axis + 1:])
        begin += n
    return parts


@operator("Concat")
def concat(attributes, *parts):
    axis = attributes["axis"] % len(parts[0].shape)
    sizes = [p.shape[axis] for p in parts]
    shape = parts[0].shape[:axis] + [sum(sizes)] + parts[0].shape[axis + 1:]
    owners = [(p, i) for p, n in zip(parts, sizes) for i in range(n)]
    codes = []
    for at in indices(shape):
        part, i = owners[at[axis]]
        codes.append(part.codes[offset(at[:axis] + (i,) + at[axis + 1:], part.shape)])
    return [Tensor(parts[0].type, shape, codes)]


@operator("Split")
def split(attributes, x, sizes=None):
    axis = axis_of(attributes, "axis", 0, len(x.shape))
    n = x.shape[axis]
    if sizes:
        return parts_along(x, axis, ints(sizes))
    count = attributes["num_outputs"]
    chunk = -(-n // count)
    return parts_along(x, axis, [max(0, min(chunk, n - i * chunk)) for i in range(count)])


@operator("Slice")
def slice_of(_, x, starts, ends, axes=None, steps=None):
    kept = [range(d) for d in x.shape]
    for i, (a, b) in enumerate(zip(ints(starts), ints(ends))):
        axis, step = ints(axes)[i] % len(x.shape) if axes else i, ints(steps)[i] if steps else 1
        n = x.shape[axis]
        first, last = (0, n) if step > 0 else (-1, n - 1)
        a, b = (min(max(v + n if v < 0 else v, first), last) for v in (a, b))
        kept[axis] = range(a, b, step)
    return read_at(x, [len(r) for r in kept], lambda at: [r[i] for r, i in zip(kept, at)])


@operator("Tile")
def tile(_, x, repeats):
    shape = [d * r for d, r in zip(x.shape, ints(repeats))]
    return read_at(x, shape, lambda at: [i % d for i, d in zip(at, x.shape)])


def padded_place(mode, i, n):
    if 0 <= i < n:
        return i
    if mode == "wrap":
        return i % n
    if mode == "reflect":
        i %= 2 * (n - 1)
        return min(i, 2 * (n - 1) - i)
    return None if mode == "constant" else 0 if i < 0 else n - 1


@operator("Pad")
def pad(attributes, x, pads, constant=None, axes=None):
    rank, widths = len(x.shape), ints(pads)
    begin, end = [0] * rank, [0] * rank
    for k, axis in enumerate(a % rank for a in (ints(axes) if axes else range(rank))):
        begin[axis], end[axis] = widths[k], widths[k + len(widths) // 2]
    shape = [max(0, b + d + e) for b, d, e in zip(begin, x.shape, end)]

    def source(at):
        places = [padded_place(attributes.get("mode", "constant"), i - b, d) for i, b, d in zip(at, begin, x.shape)]
        return None if None in places else places
    return read_at(x, shape, source, constant.codes[0] if constant else 0)


@operator("CenterCropPad")
def center_crop_pad(attributes, x, shape):
    """The smaller half of what is cut off or added is at the beginning."""
    begin, dims = [0] * len(x.shape), list(x.shape)
    for axis, d in zip(attributes.get("axes", range(len(x.shape))), ints(shape)):
        begin[axis] = (d - dims[axis]) // 2 if d >= dims[axis] else -((dims[axis] - d) // 2)
        dims[axis] = d

    def source(at):
        places = [i - b for i, b in zip(at, begin)]
        return places if all(0 <= p < d for p, d in zip(places, x.shape)) else None
    return read_at(x, dims, source)


@operator("DepthToSpace")
def depth_to_space(attributes, x):
    (n, c, h, w), b = x.shape, attributes["blocksize"]
    depth = c // (b * b)

    def source(at):
        i, k, y, z = at
        block = y % b * b + z % b
        return i, (k * b * b + block if attributes.get("mode") == "CRD" else block * depth + k), y // b, z // b
    return read_at(x, [n, depth, h * b, w * b], source)


@operator("SpaceToDepth")
def space_to_depth(attributes, x):
    (n, c, h, w), b = x.shape, attributes["blocksize"]
    return read_at(x, [n, c * b * b, h // b, w // b],
                   lambda at: (at[0], at[1] % c, at[2] * b + at[1] // c // b, at[3] * b + at[1] // c % b))


@operator("Trilu")
def trilu(attributes, x, k=None):
    k = ints(k)[0] if k else 0
    keeps = (lambda at: at[-1] - at[-2] >= k) if attributes.get("upper", 1) else (lambda at: at[-1] - at[-2] <= k)
    return read_at(x, x.shape, lambda at: at if keeps(at) else None)


@operator("EyeLike")
def eye_like(attributes, x):
    to = NAMES[attributes["dtype"]] if "dtype" in attributes else x.type
    one = 1.0 if TYPES[to][2] else 1
    return [tensor(to, x.shape, [one if c - r == attributes.get("k", 0) else 0 * one for r, c in indices(x.shape)])]


@operator("ConstantOfShape")
def constant_of_shape(attributes, shape):
    value = attributes.get("value") or tensor("float32", [1], [0.0])
    return [Tensor(value.type, ints(shape), value.codes * math.prod(ints(shape)))]


@arithmetic("Range")
def range_of(_, start, limit, delta):
    first, last, step = (t.values()[0] for t in (start, limit, delta))
    count = max(0, math.ceil((last - first) / step))
    steps = [add(first, mul(float(i), step)) if start.format else first + i * step for i in range(count)]
    return [tensor(start.type, [count], steps)]


# --- at places

@operator("Gather")
def gather(attributes, x, where):
    axis, rank = axis_of(attributes, "axis", 0, len(x.shape)), len(where.shape)
    places, n = ints(where), x.shape[axis]
    return read_at(x, x.shape[:axis] + where.shape + x.shape[axis + 1:],
                   lambda at: at[:axis] + (places[offset(at[axis:axis + rank], where.shape)] % n,) + at[axis + rank:])


@operator("GatherElements")
def gather_elements(attributes, x, where):
    axis, places = axis_of(attributes, "axis", 0, len(x.shape)), ints(where)
    return read_at(x, where.shape,
                   lambda at: at[:axis] + (places[offset(at, where.shape)] % x.shape[axis],) + at[axis + 1:])


@operator("GatherND")
def gather_nd(attributes, x, where):
    batch, length, lead = attributes.get("batch_dims", 0), where.shape[-1], len(where.shape) - 1
    places = ints(where)

    def source(at):
        begin = offset(at[:lead], where.shape[:-1]) * length
        place = [i % d for i, d in zip(places[begin:begin + length], x.shape[batch:])]
        return list(at[:batch]) + place + list(at[lead:])
    return read_at(x, where.shape[:-1] + x.shape[batch + length:], source)


COMBINED = {"add": add, "mul": mul, "max": maximum, "min": minimum}


def scatter(attributes, x, updates, targets):
    """Ascending source index for each destination; with a reduction 16-bit tensors are rounded once, at the end."""
    how = attributes.get("reduction", "none")
    if how == "none":
        codes = list(x.codes)
        for t, c in zip(targets, updates.codes):
            codes[t] = c
        return [Tensor(x.type, x.shape, codes)]
    f = COMBINED[how] if x.format else {"add": lambda a, b: a + b, "mul": lambda a, b: a * b, "max": max, "min": min}[how]
    v = x.values()
    for t, u in zip(targets, updates.values()):
        v[t] = f(v[t], u)
    return [tensor(x.type, x.shape, v)]


@arithmetic("ScatterElements")
def scatter_elements(attributes, x, where, updates):
    axis = axis_of(attributes, "axis", 0, len(x.shape))
    targets = [offset(at[:axis] + (i % x.shape[axis],) + at[axis + 1:], x.shape)
               for at, i in zip(indices(where.shape), ints(where))]
    return scatter(attributes, x, updates, targets)


@arithmetic("ScatterND")
def scatter_nd(attributes, x, where, updates):
    length, places, block = where.shape[-1], ints(where), math.prod(x.shape[where.shape[-1]:])
    tuples = [places[i:i + length] for i in range(0, len(places), length)]
    begins = [offset([i % d for i, d in zip(t, x.shape)], x.shape[:length]) * block for t in tuples]
    return scatter(attributes, x, updates, [b + i for b in begins for i in range(block)])


@operator("TensorScatter")
def tensor_scatter(attributes, x, updates, begins=None):
    axis = axis_of(attributes, "axis", -2, len(x.shape))
    codes = list(x.codes)
    for at, c in zip(indices(updates.shape), updates.codes):
        place = (at[axis] + (ints(begins)[at[0]] if begins else 0)) % x.shape[axis]
        codes[offset(at[:axis] + (place,) + at[axis + 1:], x.shape)] = c
    return [Tensor(x.type, x.shape, codes)]


@operator("OneHot")
def one_hot(attributes, where, depth, values):
    n, axis = int(depth.values()[0]), attributes.get("axis", -1)
    axis += len(where.shape) + 1 if axis < 0 else 0
    hot = [0 if math.isnan(v) else int(v) for v in where.values()]
    hot = [v % n if -n <= v < n else None for v in hot]
    shape, codes = where.shape[:axis] + [n] + where.shape[axis:], []
    for at in indices(shape):
        codes.append(values.codes[hot[offset(at[:axis] + at[axis + 1:], where.shape)] == at[axis]])
    return [Tensor(values.type, shape, codes)]


@operator("NonZero")
def non_zero(_, x):
    found = [at for at, v in zip(indices(x.shape), x.values()) if v != 0]
    return [tensor("int64", [len(x.shape), len(found)], [at[d] for d in range(len(x.shape)) for at in found])]


@operator("Compress")
def compress(attributes, x, condition):
    x = x if "axis" in attributes else Tensor(x.type, [len(x.codes)], x.codes)
    axis = axis_of(attributes, "axis", 0, len(x.shape))
    kept = [i for i, c in enumerate(condition.codes) if c]
    return read_at(x, x.shape[:axis] + [len(kept)] + x.shape[axis + 1:],
                   lambda at: at[:axis] + (kept[at[axis]],) + at[axis + 1:])


@operator("ReverseSequence")
def reverse_sequence(attributes, x, lengths):
    batch, time, n = attributes.get("batch_axis", 1), attributes.get("time_axis", 0), ints(lengths)

    def source(at):
        at = list(at)
        if at[time] < n[at[batch]]:
            at[time] = n[at[batch]] - 1 - at[time]
        return at
    return read_at(x, x.shape, source)


# --- along an axis

@operator("TopK")
def top_k(attributes, x, k):
    k, sign = ints(k)[0], -1 if attributes.get("largest", 1) else 1
    axis = axis_of(attributes, "axis", -1, len(x.shape))
    _, groups = lines(x, [axis])
    v = x.values()
    chosen = [sorted(range(len(g)), key=lambda i: (math.isnan(v[g[i]]), 0 if math.isnan(v[g[i]]) else sign * v[g[i]], i))[:k]
              for g in groups]
    inner = math.prod(x.shape[axis + 1:])
    order = [(line, i) for outer in range(0, len(groups), inner) for i in range(k) for line in range(outer, outer + inner)]
    places = [chosen[line][i] for line, i in order]
    shape = x.shape[:axis] + [k] + x.shape[axis + 1:]
    return [Tensor(x.type, shape, [x.codes[groups[line][p]] for (line, _), p in zip(order, places)]),
            tensor("int64", shape, places)]


@operator("Hardmax")
def hardmax(attributes, x):
    codes, one = [0] * len(x.codes), x.format.encode(1.0)
    v = x.values()
    for group in lines(x, [attributes.get("axis", -1)])[1]:
        best = max(group, key=lambda i: (not math.isnan(v[i]), v[i] if not math.isnan(v[i]) else 0, -i))
        codes[best] = one
    return [Tensor(x.type, x.shape, codes)]


@operator("Unique")
def unique(attributes, x):
    x = x if "axis" in attributes else Tensor(x.type, [len(x.codes)], x.codes)
    axis = axis_of(attributes, "axis", 0, len(x.shape))
    v = x.values()
    slices = [[] for _ in range(x.shape[axis])]
    for at, u in zip(indices(x.shape), v):  # of -0 and 0, and of all NaN, one stands for the others
        slices[at[axis]].append((math.isnan(u), 0 if math.isnan(u) else u + 0))
    first = {}
    for i, s in enumerate(map(tuple, slices)):
        first.setdefault(s, i)
    order = sorted(first.values(), key=(lambda i: slices[i]) if attributes.get("sorted", 1) else None)
    place = {tuple(slices[i]): k for k, i in enumerate(order)}
    inverse = [place[tuple(s)] for s in slices]
    shape = x.shape[:axis] + [len(order)] + x.shape[axis + 1:]
    return read_at(x, shape, lambda at: at[:axis] + (order[at[axis]],) + at[axis + 1:]) + [
        tensor("int64", [len(v)], v) for v in (order, inverse, [inverse.count(k) for k in range(len(order))])]


@arithmetic("CumSum", "CumProd")
def cumulate(name, attributes, x, axis):
    start = (0 if name == "CumSum" else 1) * (1.0 if x.format else 1)
    f = {("CumSum", True): add, ("CumProd", True): mul, ("CumSum", False): lambda a, b: a + b,
         ("CumProd", False): lambda a, b: a * b}[name, bool(x.format)]
    v, out = x.values(), [None] * len(x.codes)
    for group in lines(x, ints(axis))[1]:
        total = None
        for i in reversed(group) if attributes.get("reverse") else group:
            after = v[i] if total is None else f(total, v[i])
            out[i] = (start if total is None else total) if attributes.get("exclusive") else after
            total = after
    return [tensor(x.type, x.shape, out)]


# --- n-grams

def columns_of(attributes):
    """{n-gram: its column}; those of length n begin at ngram_counts[n - 1] of the pool."""
    pool, starts = attributes["pool_int64s"], attributes["ngram_counts"] + [len(attributes["pool_int64s"])]
    grams = [tuple(pool[i:i + n]) for n in range(1, len(starts)) for i in range(starts[n - 1], starts[n] - n + 1, n)]
    return dict(zip(grams, attributes["ngram_indexes"]))


@operator("TfIdfVectorizer")
def tf_idf_vectorizer(attributes, x):
    """Elements of an n-gram lie 1 to max_skip_count + 1 apart; single elements count once."""
    columns, width, out = columns_of(attributes), max(attributes["ngram_indexes"]) + 1, []
    weights = attributes.get("weights", [1.0] * width)
    for row in x.rows():
        counts = [0] * width
        for n in range(attributes["min_gram_length"], attributes["max_gram_length"] + 1):
            for step in range(1, attributes["max_skip_count"] + 2 if n > 1 else 2):
                for i in range(len(row) - (n - 1) * step):
                    column = columns.get(tuple(row[i:i + (n - 1) * step + 1:step]))
                    if column is not None:
                        counts[column] += 1
        values = {"TF": counts, "IDF": [w if c else 0.0 for c, w in zip(counts, weights)],
                  "TFIDF": [mul(float(c), w) if c else 0.0 for c, w in zip(counts, weights)]}
        out += map(float, values[attributes["mode"]])
    return [tensor("float32", x.shape[:-1] + [width], out)]
