#!/usr/bin/env python3
"""dump_onnxruntime.py MODEL.onnx DIR NAME=FILE.npy...: ONNX Runtime's values, for `verbatim trace import DIR --model MODEL.onnx`.

Runs the model on the given inputs with every value of its main graph as an output and without optimisations, which would fuse values
away, and writes each to DIR under its name (what is neither letter, digit, '.', '-' nor '_' becomes '_'). For PyTorch the same is a
forward hook on each module that saves its output under the module's name. Needs: pip install numpy onnx onnxruntime.
"""
import pathlib
import re
import sys

import numpy as np


def file_name(value):
    name = re.sub(r"[^A-Za-z0-9._-]", "_", value)
    return ("output" + name if not name or name.startswith(".") else name) + ".npy"


def dump(model, inputs, folder):
    """Runs an onnx.ModelProto on a dictionary of arrays and writes its values."""
    import onnx
    import onnxruntime
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    outputs = {out.name for out in proto.graph.output}
    for node in proto.graph.node:
        for name in node.output:
            if name and name not in outputs:
                proto.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    names = [out.name for out in session.get_outputs()]
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, session.run(names, inputs)):
        np.save(folder / file_name(name), np.ascontiguousarray(value))


def main():
    import onnx
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    inputs = {name: np.load(path) for name, _, path in (flag.rpartition("=") for flag in sys.argv[3:])}
    dump(onnx.load(sys.argv[1]), inputs, sys.argv[2])


if __name__ == "__main__":
    main()
