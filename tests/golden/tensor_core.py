"""Family C, docs/numerics.md: tensor-core arithmetic."""
from formats import BF16, E4M3, E5M2, F16, F32, Format, NAN, add
import math

TF32 = Format(19, 10, 127, 0x3FBFF, 0x3FC00, 0x3FE00)

# (member, operand width or type) -> G, F, floor, R.
SM90, SM90_TF32, SM90_FP8 = (16, 25, -133, 24), (8, 25, -133, 24), (32, 13, -133, 14)
SM80, SM89_FP8 = (8, 24, -132, 24), (16, 13, -133, 14)


def rule(member, float8):
    if float8:
        return {"sm90": SM90_FP8, "sm89": SM89_FP8, "sm90_mma": None}[member]
    return {"sm90": SM90, "sm80": SM80, "sm89": SM80}[member]


def term(form, code):
    """(significand with its sign, exponent), or None for NaN, or an infinity as a float."""
    value = form.decode(code)
    if math.isnan(value):
        return None
    if math.isinf(value):
        return value
    magnitude = code & (form.sign - 1)
    field = magnitude >> form.fraction
    significand = (magnitude & ((1 << form.fraction) - 1)) | (1 << form.fraction if field else 0)
    return (-significand if code & form.sign else significand), max(field, 1) - form.bias


def product(x, y):
    """A term of two operands' terms."""
    if x is None or y is None:
        return None
    if isinstance(x, float) or isinstance(y, float):
        sign = [(v if isinstance(v, float) else v[0]) for v in (x, y)]
        return None if 0 in sign else math.inf if (sign[0] > 0) == (sign[1] > 0) else -math.inf
    return x[0] * y[0], x[1] + y[1]


def sum_terms(terms, fraction, floor):
    """The truncated terms' sum as (integer, exponent of its unit), or NaN or an infinity. Terms: (significand, exponent, fraction bits)."""
    if any(t is None for t, _ in terms):
        return NAN
    infinities = {t for t, _ in terms if isinstance(t, float)}
    if infinities:
        return NAN if len(infinities) == 2 else infinities.pop()
    top = max([e for (s, e), _ in terms if s != 0] + [floor])
    unit, total = top - fraction, 0
    for (s, e), bits in terms:
        right = unit - (e - bits)
        size = abs(s) >> right if right >= 0 else abs(s) << -right
        total += size if s > 0 else -size
    return total, unit


def truncate(total, unit, kept):
    """To `kept` significant bits and to multiples of 2^-149, toward zero."""
    place = max(abs(total).bit_length() - kept + unit, -149)
    right = place - unit
    size = abs(total) >> right if right >= 0 else abs(total) << -right
    if size == 0:
        return 0.0
    value = math.ldexp(size, place)
    return math.copysign(value if value < 2.0 ** 128 else math.inf, total)


def terms_of(form_a, a, form_b, b):
    bits = form_a.fraction + form_b.fraction
    return [(product(term(form_a, x), term(form_b, y)), bits) for x, y in zip(a, b)]


def step(r, acc, form_a, a, form_b, b):
    """With a binary32 accumulator, a float."""
    _, fraction, floor, kept = r
    result = sum_terms([(term(F32, F32.encode(acc)), 23)] + terms_of(form_a, a, form_b, b), fraction, floor)
    return truncate(*result, kept) if isinstance(result, tuple) else result


def step_half(r, acc, form_a, a, form_b, b):
    """With an fp16 accumulator: codes of fp16. The sum is rounded once, a zero of any origin is +0."""
    _, fraction, floor, _ = r
    result = sum_terms([(term(F16, acc), 10)] + terms_of(form_a, a, form_b, b), fraction, floor)
    if not isinstance(result, tuple):
        return F16.encode(result)
    total, unit = result
    code = min(F16.magnitude(total, unit), F16.infinity)
    return code | F16.sign if code and total < 0 else code


def halves(form, codes):
    """32 fp8 operands as fp16, those with k mod 4 in {0, 1} and those in {2, 3}."""
    wide = [F16.encode(form.decode(c)) for c in codes]
    return [[c for k, c in enumerate(wide) if k % 4 // 2 == part] for part in (0, 1)]


def step_unpacked(acc, form_a, a, form_b, b):
    total = 0.0
    for x, y in zip(halves(form_a, a), halves(form_b, b)):
        total = step(SM90, total, F16, x, F16, y)
    return add(total, acc)


def step_unpacked_half(acc, form_a, a, form_b, b):
    total = 0
    for x, y in zip(halves(form_a, a), halves(form_b, b)):
        total = step_half(SM90, total, F16, x, F16, y)
    return F16.encode(add(F16.decode(total), F16.decode(acc)))


def chain(r, form_a, a, form_b, b, acc=0.0):
    """Groups in ascending k; K is padded with zeros."""
    group = r[0] if r else 32
    for k in range(0, len(a), group):
        x, y = a[k:k + group], b[k:k + group]
        if r:
            acc = step(r, acc, form_a, x, form_b, y)
        else:
            pad = [0] * (32 - len(x))
            acc = step_unpacked(acc, form_a, x + pad, form_b, y + pad)
    return acc


def dot(r, form_a, a, form_b, b, split=1, precise=False):
    size = len(a)
    if split > 1:
        multiple = 128 * 8 // form_a.bits
        size = -(-(-(-len(a) // split)) // multiple) * multiple
    total = None
    for begin in range(0, max(len(a), 1), max(size, 1)):
        x, y = a[begin:begin + size], b[begin:begin + size]
        part = None
        for k in range(0, max(len(x), 1), 128 if precise else max(len(x), 1)):
            end = k + 128 if precise else len(x)
            sub = chain(r, form_a, x[k:end], form_b, y[k:end])
            part = sub if part is None else add(part, sub)
        total = part if total is None else add(total, part)
    return total


OPERANDS = {"bf16": BF16, "fp16": F16, "tf32": TF32, "e4m3": E4M3, "e5m2": E5M2}


def recorded(line):
    """(what the rule gives, what the chip gave) for a line of tensor_core_h100.txt."""
    instruction, types, _, a, b, before, after = line.split("|")
    half = types.endswith(" to fp16")
    names = types.removesuffix(" to fp16").split(",")
    form_a, form_b = OPERANDS[names[0]], OPERANDS[names[-1]]
    a, b = [int(x, 16) for x in a.split()], [int(x, 16) for x in b.split()]
    r = SM90_TF32 if form_a is TF32 else SM90_FP8 if form_a.bits == 8 else SM90
    unpacked = instruction == "mma" and form_a.bits == 8
    acc_form = F16 if half else F32
    acc, want = int(before, 16), acc_form.encode(acc_form.decode(int(after, 16)))  # NaN canonical
    if half:
        return (step_unpacked_half(acc, form_a, a, form_b, b) if unpacked else step_half(r, acc, form_a, a, form_b, b)), want
    acc = F32.decode(acc)
    have = step_unpacked(acc, form_a, a, form_b, b) if unpacked else step(r, acc, form_a, a, form_b, b)
    return F32.encode(have), want
