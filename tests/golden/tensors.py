"""Tensors of the golden files: element types, how a seed becomes elements, and a tensor's root (docs/numerics.md, "Randomness" and
"Bytes"; README.md here)."""
import functools
import hashlib
import math

from formats import E2M1, E4M3, E4M3FNUZ, E5M2, E5M2FNUZ, E8M0, F16, F32, F64, BF16

# Name: (ONNX's number, bits, format or None for integers, signed).
TYPES = {
    "float32": (1, 32, F32, None), "uint8": (2, 8, None, False), "int8": (3, 8, None, True), "uint16": (4, 16, None, False),
    "int16": (5, 16, None, True), "int32": (6, 32, None, True), "int64": (7, 64, None, True), "bool": (9, 8, None, False),
    "float16": (10, 16, F16, None), "float64": (11, 64, F64, None), "uint32": (12, 32, None, False),
    "uint64": (13, 64, None, False), "bfloat16": (16, 16, BF16, None), "float8_e4m3fn": (17, 8, E4M3, None),
    "float8_e4m3fnuz": (18, 8, E4M3FNUZ, None), "float8_e5m2": (19, 8, E5M2, None), "float8_e5m2fnuz": (20, 8, E5M2FNUZ, None),
    "uint4": (21, 4, None, False), "int4": (22, 4, None, True), "float4_e2m1fn": (23, 4, E2M1, None),
    "float8_e8m0fnu": (24, 8, E8M0, None), "uint2": (25, 2, None, False), "int2": (26, 2, None, True)}
NAMES = {number: name for name, (number, _, _, _) in TYPES.items()}
MASK32, MASK64 = 2 ** 32 - 1, 2 ** 64 - 1


def philox(seed, position, stream):
    """64 bits of Philox4x32-10."""
    c = [position & MASK32, position >> 32, stream & MASK32, stream >> 32]
    k = [seed & MASK32, seed >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK32, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK32]
        k = [(k[0] + 0x9E3779B9) & MASK32, (k[1] + 0xBB67AE85) & MASK32]
    return c[0] | c[1] << 32


class Tensor:
    """Elements as codes: unsigned integers of the type's width, in row-major order."""

    def __init__(self, type_name, shape, codes):
        self.type, self.shape, self.codes = type_name, list(shape), codes
        self.number, self.bits, self.format, self.signed = TYPES[type_name]

    def values(self):
        """Floats for floating types, else integers."""
        if self.format:
            return [self.format.decode(c) for c in self.codes]
        if self.signed:
            half = 1 << (self.bits - 1)
            return [(c ^ half) - half for c in self.codes]
        return list(self.codes)

    @functools.cached_property
    def values_once(self):
        """values(), for who reads them often and changes none."""
        return self.values()

    def rows(self):
        n = self.shape[-1]
        v = self.values()
        return [v[i * n:(i + 1) * n] for i in range(math.prod(self.shape[:-1]))]

    def root(self):
        return tensor_root(self).hex()


def tensor(type_name, shape, values):
    """A tensor of floats, each rounded once, or of integers, which wrap."""
    _, bits, form, _ = TYPES[type_name]
    codes = [form.encode(v) for v in values] if form else [v & ((1 << bits) - 1) for v in values]
    assert len(codes) == math.prod(shape)
    return Tensor(type_name, shape, codes)


def moderate(r):
    """Sign and significand from 32 bits, exponent -6 to 2 from the others."""
    return F32.decode((r & 0x807FFFFF) | (121 + (r >> 32) % 9) << 23)


def read(j):
    if j is None:
        return None
    _, bits, form, _ = TYPES[j["type"]]
    count = math.prod(j["shape"])
    mask = 1 if j["type"] == "bool" else (1 << bits) - 1
    if "bits" in j:
        codes = [int(word, 16) for word in j["bits"].split()]
    elif j["values"] == "codes":
        codes = [i & mask for i in range(count)]
    else:
        codes = from_seed(j, count, form, mask)
    assert len(codes) == count
    return Tensor(j["type"], j["shape"], codes)


def from_seed(j, count, form, mask):
    random = [philox(j["seed"], i, 0) for i in range(count)]
    kind = j["values"]
    if kind == "bits":
        return [r & mask for r in random]
    if kind == "integers":
        return [(j["low"] + r % (j["high"] - j["low"] + 1)) & mask for r in random]
    if form is None:  # a moderate number as Cast makes it an integer: truncated
        assert kind == "moderate"
        return [int(moderate(r)) & mask for r in random]
    return [r & mask if kind == "mixed" and i % 4 == 3 else form.encode(moderate(r)) for i, r in enumerate(random)]


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def tagged_hash(tag, body):
    return sha256(bytes([len(tag)]), tag, body)


def merkle(leaves):
    """RFC 6962, section 2.1."""
    if not leaves:
        return sha256()
    if len(leaves) == 1:
        return sha256(b"\0", leaves[0])
    left = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\1", merkle(leaves[:left]), merkle(leaves[left:]))


def pack(codes, bits):
    """Little-endian; elements of 4 and 2 bits from the lowest bits up."""
    if bits >= 8:
        return b"".join(c.to_bytes(bits // 8, "little") for c in codes)
    per_byte = 8 // bits
    return bytes(sum(c << (bits * k) for k, c in enumerate(codes[i:i + per_byte])) for i in range(0, len(codes), per_byte))


def leaves(t):
    columns = t.shape[-1] if t.shape else 1
    rows = [t.codes[i:i + columns] for i in range(0, len(t.codes), columns)] if t.codes else []
    if columns > 512:
        return [pack(row[i:i + 512], t.bits) for row in rows for i in range(0, columns, 512)]
    packed = [pack(row, t.bits) for row in rows]
    per_leaf = max(1, 2048 // len(packed[0])) if packed else 1
    return [b"".join(packed[i:i + per_leaf]) for i in range(0, len(packed), per_leaf)]


def tensor_root(t):
    parts = leaves(t)
    body = bytes([t.number, len(t.shape)]) + b"".join(d.to_bytes(8, "little") for d in t.shape)
    return tagged_hash(b"verbatim.tensor.1", body + sum(map(len, parts)).to_bytes(8, "little") + merkle(parts))
