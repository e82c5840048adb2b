#!/usr/bin/env python3
"""check.py [FILE...]: computes the golden cases from docs/numerics.md and docs/operators.md, with Python's standard library alone.

Compares all of this folder's *.jsonl and tensor_core_h100.txt, or FILEs. Prints "N checked, N equal, N not computed (operators)" and
exits with 1 on any difference, or on an operator that is neither computed nor listed below. Of operators that compute, binary64 is
left out: formats.py has binary32's arithmetic. It reads no code of the library: where it agrees, the documents suffice.
"""
import json
import pathlib
import sys
from collections import Counter

import activations  # noqa: F401 - they add to operators.TABLE
import gradients  # noqa: F401
import movement  # noqa: F401
import normalizations  # noqa: F401
import operators
import products  # noqa: F401
import resampling  # noqa: F401
import tensor_core
import windows  # noqa: F401
from formats import bits32
from tensors import read

FOLDER = pathlib.Path(__file__).parent
# Operators of the cases that are not computed here; any other one that TABLE lacks is a mistake. These take sines, logarithms and powers
# of binary64, which the library's code defines and no text does (docs/numerics.md, first paragraph); Python's are those of the host.
NOT_COMPUTED = set("BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT".split())


def attribute(value):
    if isinstance(value, list):
        return [attribute(v) for v in value]
    if isinstance(value, dict):
        return read(value) if "type" in value else bits32(int(value["float32"], 16))
    return value


def difference(want, have):
    """"" or what differs."""
    if (have.type, have.shape) != (want["type"], want["shape"]):
        return f"{have.type} {have.shape}"
    if "root" in want:
        return "" if have.root() == want["root"] else f"root {have.root()}, recorded is {want['root']}"
    codes = [int(word, 16) for word in want["bits"].split()]
    wrong = [i for i, pair in enumerate(zip(have.codes, codes)) if pair[0] != pair[1]]
    if not wrong:
        return ""
    return f"{len(wrong)} elements, the first {wrong[0]}: {have.codes[wrong[0]]:x}, recorded is {codes[wrong[0]]:x}"


class Tally:
    def __init__(self):
        self.checked, self.equal, self.not_computed = 0, 0, Counter()

    def note(self, what, wrong):
        self.checked += 1
        self.equal += not wrong
        if wrong:
            print(f"differs: {what}: {wrong}")

    def case(self, case):
        name = ("function " if case["domain"] == "function" else "") + case["op"]
        if case["domain"] == "" and name in ("Attention", "RotaryEmbedding"):  # ours have these names, too
            name = "ONNX's " + name
        if name not in operators.TABLE:
            self.not_computed[name] += 1
            if name not in NOT_COMPUTED:
                self.note(case["name"], f"operator {name} is not computed")
            return
        inputs = [read(j) for j in case["inputs"]]
        attributes = {k: attribute(v) for k, v in case["attributes"].items()}
        try:
            outputs = operators.TABLE[name](attributes, *inputs)
        except operators.NotComputed as what:
            self.not_computed[f"{name} of {what}"] += 1
            return
        wrong = [f"output {i}: {d}" for i, (w, h) in enumerate(zip(case["outputs"], outputs)) if (d := difference(w, h))]
        self.note(case["name"], "; ".join(wrong) if len(outputs) >= len(case["outputs"]) else "number of outputs")

    def recorded(self, line):
        have, want = tensor_core.recorded(line)
        self.note(line[:60], "" if have == want else f"{have:x}, recorded is {want:x}")


def main(paths):
    tally = Tally()
    for path in paths or sorted(FOLDER.glob("*.jsonl")) + [FOLDER / "tensor_core_h100.txt"]:
        for line in pathlib.Path(path).read_text().splitlines():
            if not line.startswith("#"):
                tally.case(json.loads(line)) if line.startswith("{") else tally.recorded(line)
    rest = ", ".join(sorted(tally.not_computed))
    print(f"{tally.checked} checked, {tally.equal} equal, {tally.not_computed.total()} not computed ({rest})")
    return 0 if tally.checked and tally.equal == tally.checked else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
