#!/usr/bin/env python3
"""PyTorch's side of verbatim-bench's attention on a GPU: a child that answers commands, a line each.

"prepare KERNEL TYPE HEADS QUERIES KEYS SIZE CAUSAL SCALE FOLDER" reads q, k and v, each [heads, tokens, size] and nothing else, from files
of these names, and says "ready", or "absent WHY" where KERNEL of torch.nn.attention.SDPBackend does not take them. "run KERNEL N" says
the seconds of device time that N runs take; "output KERNEL FILE" writes the last one's result. "version" says what PyTorch is.

Needs: pip install numpy torch.
"""
import pathlib
import sys

try:
    import numpy as np
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    if not torch.cuda.is_available():
        raise ImportError("PyTorch finds no GPU")
except ImportError as error:
    print(f"absent {error}", flush=True)
    sys.exit(0)


def read(file, dtype, shape):
    there = torch.from_numpy(np.fromfile(file, np.uint8)).cuda()
    return there.view(dtype).reshape(shape)


class Attention:
    """One batch of heads, by one kernel."""

    def __init__(self, kernel, dtype, heads, queries, keys, size, causal, scale, folder):
        heads, queries, keys, size = map(int, (heads, queries, keys, size))
        self.kernel = getattr(SDPBackend, kernel)
        self.options = {"is_causal": causal == "1", "scale": float(scale)}
        rows = {"q": queries, "k": keys, "v": keys}
        self.inputs = [read(pathlib.Path(folder) / name, getattr(torch, dtype), (1, heads, count, size)) for name, count in rows.items()]
        self.seconds(1)

    def seconds(self, runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with sdpa_kernel(self.kernel):
            torch.cuda.synchronize()
            begin.record()
            for _ in range(runs):
                self.result = scaled_dot_product_attention(*self.inputs, **self.options)
            end.record()
            torch.cuda.synchronize()
        return begin.elapsed_time(end) * 1e-3


def main():
    # Binary32 stays binary32.
    torch.backends.cuda.matmul.allow_tf32 = False
    prepared = {}
    print("ready", flush=True)
    for line in sys.stdin:
        command, *arguments = line.rstrip("\n").split(" ", 9)
        if command == "prepare":
            try:
                prepared.pop(arguments[0], None)
                prepared[arguments[0]] = Attention(*arguments)
                print("ready", flush=True)
            except Exception as error:  # whatever a version of PyTorch cannot do
                print("absent", str(error).split("\n")[0], flush=True)
        elif command == "run":
            print(prepared[arguments[0]].seconds(int(arguments[1])), flush=True)
        elif command == "output":
            prepared[arguments[0]].result.contiguous().view(torch.uint8).cpu().numpy().tofile(" ".join(arguments[1:]))
            print("ready", flush=True)
        elif command == "version":
            print(torch.__version__, flush=True)


main()
