#!/usr/bin/env python3
"""cublas.py LIBRARY [--json FILE] [--samples N]: is what stock PyTorch computes on this GPU the contract's tensor-core product?

Multiplies matrices of many shapes with torch.mm, torch.nn.functional.linear and torch._scaled_mm, and explains sampled outputs with
LIBRARY (built from tensor_core_model.cc): by one chain over K, or by K cut into S slices (docs/numerics.md, family C). Prints a line
a case; exits with 1 when an output is explained by no S.
"""
import argparse
import concurrent.futures
import ctypes
import json
import sys

import numpy
import torch
from torch.profiler import ProfilerActivity, profile

TYPES = {torch.bfloat16: 0, torch.float16: 1, torch.float8_e4m3fn: 2, torch.float8_e5m2: 3}
SPLITS = range(1, 33)
SHAPES = [(m, n, k) for m in (1, 2, 4, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048, 4096) for n, k in ((4096, 4096),)]
SHAPES += [(m, n, k) for m in (1, 16, 64, 128, 2048) for n, k in ((14336, 4096), (4096, 14336), (1024, 8192), (128256, 2048))]
SHAPES += [(n, n, n) for n in (16, 32, 64, 128, 256, 512, 1024, 2048, 8192, 16384)]
SHAPES += [(512, 512, 16384), (2048, 2048, 512), (16384, 64, 4096), (64, 16384, 16384), (4096, 4096, 64), (48, 80, 112)]


def codes(matrix):
    """The bits of a matrix's elements."""
    wide = matrix.element_size() == 2
    return matrix.contiguous().view(torch.int16 if wide else torch.uint8).cpu().numpy().view(numpy.uint16 if wide else numpy.uint8)


def slice_ends(k, split, multiple):
    """Where S slices of K end, as cuBLAS cuts it; None where it makes fewer."""
    size = -(-(-(-k // split)) // multiple) * multiple
    ends = [min(k, (i + 1) * size) for i in range(split)]
    return ends if split == 1 or (split - 1) * size < k else None


def explain(library, dtype, a, b, ends, block):
    n, k = a.shape
    out = numpy.zeros(n, numpy.float32)
    pointer = lambda x: x.ctypes.data_as(ctypes.c_void_p)
    ends = numpy.array(ends, numpy.int64)
    library.tensor_core_dots(TYPES[dtype], pointer(a), pointer(b), ctypes.c_int64(n), ctypes.c_int64(k), pointer(ends),
                             ctypes.c_int64(len(ends)), ctypes.c_int64(block), pointer(out))
    return out


def kernel_of(run):
    with profile(activities=[ProfilerActivity.CUDA]) as p:
        run()
        torch.cuda.synchronize()
    skip = ("emset", "emcpy", "Buffer", "Launch", "Sync", "elementwise")
    return [e.key[:80] for e in p.key_averages() if not any(word in e.key for word in skip)]


def cases(m, n, k):
    """(name, operand type, output type, precise, function of (a, w, bias))."""
    for dtype in (torch.bfloat16, torch.float16):
        yield "mm", dtype, torch.float32, False, lambda a, w, bias: torch.mm(a, w.t(), out_dtype=torch.float32)
        yield "linear", dtype, dtype, False, lambda a, w, bias: torch.nn.functional.linear(a, w)
        yield "linear+bias", dtype, dtype, False, lambda a, w, bias: torch.nn.functional.linear(a, w, bias)
    if n % 16 == 0 and k % 16 == 0:
        one = torch.ones((), device="cuda")
        for fast in (True, False):
            yield ("scaled_mm fast" if fast else "scaled_mm precise"), torch.float8_e4m3fn, torch.float32, not fast, (
                lambda a, w, bias, fast=fast: torch._scaled_mm(a, w.t(), scale_a=one, scale_b=one, out_dtype=torch.float32,
                                                               use_fast_accum=fast))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library")
    parser.add_argument("--json")
    parser.add_argument("--samples", type=int, default=256)
    arguments = parser.parse_args()
    library = ctypes.CDLL(arguments.library)
    generator = torch.Generator(device="cuda").manual_seed(1)
    pool = concurrent.futures.ThreadPoolExecutor(16)
    lines, unexplained, outputs = [], 0, 0
    for m, n, k in SHAPES:
        base_a = torch.randn(m, k, device="cuda", generator=generator)
        # Outliers: what a plain Gaussian hides.
        base_a *= torch.exp2(torch.randint(-4, 5, (m, k), device="cuda", generator=generator).float())
        base_w = torch.randn(n, k, device="cuda", generator=generator)
        rows = torch.randint(0, m, (arguments.samples,), device="cuda", generator=generator)
        columns = torch.randint(0, n, (arguments.samples,), device="cuda", generator=generator)
        for name, dtype, out_dtype, precise, function in cases(m, n, k):
            a, w = base_a.to(dtype), base_w.to(dtype)
            bias = torch.randn(n, device="cuda", generator=generator).to(out_dtype) if "bias" in name else None
            try:
                c = function(a, w, bias)
            except RuntimeError as error:
                lines.append({"m": m, "n": n, "k": k, "call": name, "type": str(dtype), "refused": str(error).split("\n")[0][:100]})
                continue
            got = c[rows, columns].float().cpu().numpy()
            x, y = codes(a[rows]), codes(w[columns])
            multiple = 128 // a.element_size()
            splits = [s for s in SPLITS if slice_ends(k, s, multiple)]
            block = 128 if precise else k

            def matches(split):
                value = torch.from_numpy(explain(library, dtype, x, y, slice_ends(k, split, multiple), block))
                if bias is not None:
                    value = value + bias[columns].float().cpu()
                return int((value.to(out_dtype).float().numpy() == got).sum())

            found = list(pool.map(matches, splits))
            best = max(range(len(splits)), key=lambda i: (found[i], -splits[i]))
            line = {"m": m, "n": n, "k": k, "call": name, "type": str(dtype).removeprefix("torch."),
                    "output": str(out_dtype).removeprefix("torch."), "split": splits[best], "equal": found[best],
                    "of": arguments.samples, "kernel": kernel_of(lambda: function(a, w, bias))}
            outputs += arguments.samples
            unexplained += arguments.samples - found[best]
            lines.append(line)
            print(f"{m}x{n}x{k} {name} {line['type']} -> {line['output']}: S = {line['split']}, {line['equal']} of {line['of']}"
                  f"  {line['kernel'][:2]}", flush=True)
            del a, w, c
    print(f"{outputs} outputs, {unexplained} unexplained")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"device": torch.cuda.get_device_name(0), "torch": torch.__version__, "cuda": torch.version.cuda,
                       "outputs": outputs, "unexplained": unexplained, "cases": lines}, file, indent=1)
    return 1 if unexplained else 0


sys.exit(main())
