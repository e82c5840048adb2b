"""Images read between their elements, and grids of positions: docs/operators.md, "Resize, GridSample, RoiAlign", and AffineGrid of
"Products". Positions that the text puts in binary64 are Python's floats: +, -, * and / of them are IEEE 754's."""
import math

from formats import add, div, fma, maximum, mul, rne, round32, sub
from operators import NotComputed, arithmetic, indices, integer_code, operator, split_rows
from rows import dot
from tensors import Tensor, tensor
from windows import linear_read, place_of


# --- Resize

class Axis:
    """`size` elements become `output`; a region is what tf_crop_and_resize reads."""

    def __init__(self, size):
        self.size, self.output, self.scale, self.region = size, size, 1.0, (0.0, 1.0)

    def position(self, mode, i):
        s, n, m = self.scale, self.size, self.output
        wanted, (begin, end) = s * n, self.region
        if mode == "tf_crop_and_resize":
            return begin * (n - 1) + i * (end - begin) * (n - 1) / (m - 1) if m > 1 else 0.5 * (begin + end) * (n - 1)
        if mode == "align_corners":
            return 0.0 if wanted == 1 else i * (n - 1) / (wanted - 1)
        if mode == "half_pixel_symmetric":
            return n / 2 * (1 - m / wanted) + (i + 0.5) / s - 0.5
        if mode == "pytorch_half_pixel" and wanted == 1:
            return -0.5
        return {"asymmetric": i / s, "tf_half_pixel_for_nn": (i + 0.5) / s}.get(mode, (i + 0.5) / s - 0.5)

    def kept(self, mode):
        return self.size == self.output and self.scale == 1 and mode != "tf_crop_and_resize"

    def outside(self, mode, i):
        return mode == "tf_crop_and_resize" and not 0 <= self.position(mode, i) <= self.size - 1

    def nearest(self, attributes, mode, i):
        if self.kept(mode):
            return i
        p, rule = self.position(mode, i), attributes.get("nearest_mode", "round_prefer_floor")
        rounded = {"floor": math.floor(p), "ceil": math.ceil(p), "round_prefer_floor": math.ceil(p - 0.5)}
        return clamped(rounded.get(rule, math.floor(p + 0.5)), self.size)

    def taps(self, attributes, mode, i):
        """[(index, weight)] of output position i."""
        if self.kept(mode):
            return [(i, 1.0)]
        position = self.position(mode, i)
        base, kernel = math.floor(position), attributes["mode"]
        r, stretch = position - base, min(self.scale, 1.0) if attributes.get("antialias") else 1.0
        first = math.floor(-(1 if kernel == "linear" else 2) / stretch) + 1
        around = range(first, 2 - first)
        weights = [kernel_weight(kernel, attributes.get("cubic_coeff_a", -0.75), abs(stretch * (j - r))) for j in around]
        if attributes.get("exclude_outside"):
            weights = [w if 0 <= base + j < self.size else 0.0 for j, w in zip(around, weights)]
        if attributes.get("antialias") or attributes.get("exclude_outside"):
            total = 0.0
            for w in weights:
                total += w
            weights = [quotient(w, total) for w in weights]
        return [(clamped(base + j, self.size), round32(w)) for j, w in zip(around, weights)]


def quotient(a, b):
    """Of binary64; Python's own is an error where b is 0."""
    return a / b if b else math.nan if a == 0 else math.copysign(math.inf, a)


def clamped(i, size):
    return max(0, min(size - 1, i))


def kernel_weight(kernel, a, d):
    if kernel == "linear":
        return max(0.0, 1 - d)
    if d < 1:
        return ((a + 2) * d - (a + 3)) * d * d + 1
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a if d < 2 else 0.0


def resize_axes(attributes, x, region, scales, sizes):
    axes = [Axis(n) for n in x.shape]
    listed = [axes[a] for a in attributes.get("axes", range(len(axes)))]
    if scales and scales.codes:
        for axis, s in zip(listed, scales.values()):
            axis.scale, axis.output = s, math.floor(s * axis.size)
    else:
        policy, sizes = attributes.get("keep_aspect_ratio_policy", "stretch"), sizes.values()
        ratios = [n / axis.size for axis, n in zip(listed, sizes)]
        for axis, n, s in zip(listed, sizes, ratios):
            axis.scale = {"not_larger": min, "not_smaller": max}[policy](ratios) if policy != "stretch" else s
            axis.output = n if policy == "stretch" else math.floor(axis.scale * axis.size + 0.5)
    if region and region.codes:
        bounds = region.values()
        for axis, begin, end in zip(listed, bounds, bounds[len(listed):]):
            axis.region = begin, end
    return axes


def resize_one(values, outer, taps, size, inner):
    """[outer, size, inner] to [outer, len(taps), inner]."""
    out = []
    for o in range(outer):
        for own in taps:
            for i in range(inner):
                acc = 0.0
                for j, weight in own:
                    acc = fma(weight, values[(o * size + j) * inner + i], acc)
                out.append(acc)
    return out


@operator("Resize")
def resize(attributes, x, region=None, scales=None, sizes=None):
    mode = attributes.get("coordinate_transformation_mode", "half_pixel")
    axes = resize_axes(attributes, x, region, scales, sizes)
    shape = [axis.output for axis in axes]
    if attributes.get("mode", "nearest") == "nearest":
        sources = [[axis.nearest(attributes, mode, i) for i in range(axis.output)] for axis in axes]
        y = Tensor(x.type, shape, [x.codes[place_of([s[i] for s, i in zip(sources, at)], x.shape)] for at in indices(shape)])
    elif x.type == "float64":
        raise NotComputed(x.type)
    else:
        y = interpolated(attributes, x, axes, mode, shape)
    value = attributes.get("extrapolation_value", 0.0)
    fill = tensor(x.type, [], [value if x.format else integer_code(value, x.type)]).codes[0]
    for place, at in enumerate(indices(shape)):
        if any(axis.outside(mode, i) for axis, i in zip(axes, at)):
            y.codes[place] = fill
    return [y]


def interpolated(attributes, x, axes, mode, shape):
    values = x.values()
    for d in reversed(range(len(axes))):
        taps = [axes[d].taps(attributes, mode, i) for i in range(axes[d].output)]
        values = resize_one(values, math.prod(x.shape[:d]), taps, axes[d].size, math.prod(shape[d + 1:]))
    return tensor(x.type, shape, values)


# --- GridSample

class Border:
    """How one axis of `size` elements is read at the grid's values; `low` and `high` are the borders."""

    def __init__(self, attributes, size):
        self.mode, self.padding = attributes.get("mode", "linear"), attributes.get("padding_mode", "zeros")
        self.align, self.size = attributes.get("align_corners", 0), size
        self.low, self.high = (0.0, size - 1.0) if self.align else (-0.5, size - 0.5)

    def mirrored(self, x):
        length, below = sub(self.high, self.low), x < self.low
        distance = sub(self.low, x) if below else sub(x, self.high)
        quotient = div(distance, length)
        if not math.isfinite(quotient):
            return self.low
        turns = math.trunc(quotient)
        rest = sub(distance, mul(float(turns), length))
        near_low = below == (turns % 2 == 0)
        return max(self.low, min(self.high, add(self.low, rest) if near_low else sub(self.high, rest)))

    def position(self, g):
        n = float(self.size)
        x = mul(div(add(g, 1.0), 2.0), sub(n, 1.0)) if self.align else div(sub(mul(add(g, 1.0), n), 1.0), 2.0)
        x = 0.0 if math.isnan(x) else x
        if self.mode == "nearest" and math.isfinite(x):
            x = float(rne(x))
        if not self.low <= x <= self.high:
            if self.padding == "border":
                x = max(0.0, min(n - 1.0, x))
            elif self.padding == "reflection":
                x = self.mirrored(x)
        return max(-4.0, min(n + 4.0, x))  # nothing is read beyond, either

    def element(self, i):
        """The index that is read in the place of i, or None."""
        if self.padding == "border":
            return clamped(i, self.size)
        if self.padding == "reflection":
            period = 2 * (self.size - 1) if self.align else 2 * self.size
            i = i % period if period else 0
            return min(i, period - i if self.align else period - 1 - i)
        return i if 0 <= i < self.size else None

    def taps(self, g):
        x = self.position(g)
        base = math.floor(x)
        r = sub(x, float(base))
        first, weights = {"nearest": lambda: (base, [1.0]), "linear": lambda: (base, [sub(1.0, r), r]),
                          "cubic": lambda: (base - 1, cubic_weights(r))}[self.mode]()
        taps = [(self.element(first + i), w) for i, w in enumerate(weights)]
        return [(i, w) for i, w in taps if i is not None]


def cubic_weights(r):
    a = -0.75

    def near(d):
        return add(mul(mul(sub(mul(add(a, 2.0), d), add(a, 3.0)), d), d), 1.0)

    def far(d):
        return sub(mul(add(mul(sub(mul(a, d), mul(5.0, a)), d), mul(8.0, a)), d), mul(4.0, a))
    return [far(add(r, 1.0)), near(r), near(sub(1.0, r)), far(sub(2.0, r))]


def read_taps(image, size, taps):
    """An fma chain along each axis, the last one first."""
    if not size:
        return image[0]
    step, acc = math.prod(size[1:]), 0.0
    for i, weight in taps[0]:
        acc = fma(weight, read_taps(image[i * step:(i + 1) * step], size[1:], taps[1:]), acc)
    return acc


@arithmetic("GridSample")
def grid_sample(attributes, x, grid):
    size, channels = x.shape[2:], x.shape[1]
    borders, points = [Border(attributes, n) for n in size], math.prod(grid.shape[1:-1])
    images, out = split_rows(x.values(), math.prod(size)), [0.0] * (x.shape[0] * channels * points)
    for place, point in enumerate(grid.rows()):
        n, i = divmod(place, points)
        taps = [border.taps(g) for border, g in zip(borders, reversed(point))]
        for plane in range(n * channels, (n + 1) * channels):
            out[plane * points + i] = read_taps(images[plane], size, taps)
    return [tensor(x.type, x.shape[:2] + grid.shape[1:-1], out)]


@arithmetic("AffineGrid")
def affine_grid(attributes, theta, size):
    batch, _, *spatial = size.values()

    def position(i, n):
        if attributes.get("align_corners"):
            return round32(2 * i / (n - 1) - 1) if n > 1 else -1.0
        return round32((2 * i + 1) / n - 1)
    rows, rank, out = theta.rows(), len(spatial), []
    for b in range(batch):
        for at in indices(spatial):
            place = [position(i, n) for i, n in zip(at, spatial)][::-1] + [1.0]
            out += [dot(row, place) for row in rows[b * rank:(b + 1) * rank]]
    return [tensor(theta.type, [batch] + spatial + [rank], out)]


# --- RoiAlign

class Region:
    """One axis of a region of interest, `bins` of it on an axis of `size` elements."""

    def __init__(self, attributes, begin, end, bins, size):
        half = attributes.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
        scale, offset = attributes.get("spatial_scale", 1.0), 0.5 if half else 0.0
        self.start, self.size = sub(mul(begin, scale), offset), size
        extent = sub(sub(mul(end, scale), offset), self.start)
        self.bin = div(extent if half else maximum(extent, 1.0), float(bins))
        self.samples = attributes.get("sampling_ratio", 0) or max(0, math.ceil(self.bin))

    def position(self, p, i):
        """Of sample i of bin p, or None where it reads nothing."""
        at = add(add(self.start, mul(float(p), self.bin)), div(mul(add(float(i), 0.5), self.bin), float(self.samples)))
        return max(0.0, min(self.size - 1.0, at)) if -1 <= at <= self.size else None


def greatest_weighted(image, size, at):
    """The greatest of the elements around a point, each times its weights' product."""
    (y, p), (x, q) = ((math.floor(v), sub(v, float(math.floor(v)))) for v in at)
    best = None
    for i, u in ((y, sub(1.0, p)), (y + 1, p)):
        for j, v in ((x, sub(1.0, q)), (x + 1, q)):
            value = mul(image[i * size[1] + j], mul(u, v)) if i < size[0] and j < size[1] else 0.0
            best = value if best is None else maximum(best, value)
    return best


def pool_samples(attributes, image, size, places):
    if attributes.get("mode", "avg") == "max":
        best = None
        for at in places:
            value = 0.0 if None in at else greatest_weighted(image, size, at)
            best = value if best is None else maximum(best, value)
        return 0.0 if best is None else best
    total = 0.0
    for at in places:
        total = add(total, 0.0 if None in at else linear_read(image, size, at))
    return div(total, float(len(places))) if places else 0.0


@arithmetic("RoiAlign")
def roi_align(attributes, x, regions, batch):
    bins = [attributes.get("output_height", 1), attributes.get("output_width", 1)]
    size, channels, out = x.shape[2:], x.shape[1], []
    images = split_rows(x.values(), math.prod(size))
    for (x1, y1, x2, y2), n in zip(regions.rows(), batch.values()):
        axes = [Region(attributes, *place, *rest) for place, rest in zip(((y1, y2), (x1, x2)), zip(bins, size))]
        for image in images[n * channels:(n + 1) * channels]:
            for p in indices(bins):
                places = [[axis.position(k, j) for axis, k, j in zip(axes, p, i)] for i in indices([axis.samples for axis in axes])]
                out.append(pool_samples(attributes, image, size, places))
    return [tensor(x.type, [len(batch.codes), channels] + bins, out)]
