#!/usr/bin/env python3
"""trace_divergence.py VERBATIM: a weight changed in another engine's model is found by its first node.

Makes a small perceptron as an ONNX file, runs it with `VERBATIM run --trace`, and runs it in ONNX Runtime, once as it is and once for
each layer with one weight of that layer changed. `VERBATIM trace diff` must find no difference to within a tolerance, and then the
product that reads the changed weight. Exit 77: no ONNX Runtime. Needs: pip install numpy onnx onnxruntime.
"""
import json
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime  # noqa: F401 (dump_onnxruntime runs it)
    from onnx import TensorProto, helper, numpy_helper
except ImportError as missing:
    print(f"Skipped\nno ONNX Runtime to compare with: {missing}\n")
    sys.exit(77)

from dump_onnxruntime import dump

LAYERS, WIDTH = 4, 32


def perceptron():
    random = np.random.default_rng(1)
    nodes, weights, x = [], [], "x"
    for i in range(LAYERS):
        weights.append(numpy_helper.from_array(random.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32), f"w{i}"))
        weights.append(numpy_helper.from_array(random.normal(0, 0.1, WIDTH).astype(np.float32), f"b{i}"))
        nodes += [helper.make_node("MatMul", [x, f"w{i}"], [f"layer/{i}:product"], name=f"product{i}"),
                  helper.make_node("Add", [f"layer/{i}:product", f"b{i}"], [f"sum{i}"], name=f"bias{i}"),
                  helper.make_node("Tanh", [f"sum{i}"], [f"y{i}"], name=f"tanh{i}")]
        x = f"y{i}"
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in ("x", x)]
    graph = helper.make_graph(nodes, "perceptron", info[:1], info[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def changed(model, layer):
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for initializer in other.graph.initializer:
        if initializer.name == f"w{layer}":
            value = numpy_helper.to_array(initializer).copy()
            value[3, 5] += 0.25
            initializer.CopyFrom(numpy_helper.from_array(value, initializer.name))
    return other


def main():
    verbatim = sys.argv[1]

    def call(*arguments, codes=(0,)):
        done = subprocess.run([verbatim, *arguments, "--json"], capture_output=True, text=True)
        assert done.returncode in codes, f"{arguments}: {done.returncode} {done.stderr}"
        return json.loads(done.stdout)

    model = perceptron()
    x = np.random.default_rng(2).normal(0, 1, (7, WIDTH)).astype(np.float32)
    with tempfile.TemporaryDirectory() as work:
        onnx.save(model, f"{work}/model.onnx")
        np.save(f"{work}/x.npy", x)
        call("run", f"{work}/model.onnx", "--input", f"x={work}/x.npy", "--output-dir", f"{work}/out", "--trace", f"{work}/ours")
        for layer in [None, *range(LAYERS)]:
            dump(model if layer is None else changed(model, layer), {"x": x}, f"{work}/dumps")
            theirs = f"{work}/theirs{layer}"  # a new folder each time: an import replaces nothing
            said = call("trace", "import", f"{work}/dumps", "--model", f"{work}/model.onnx", "-o", theirs)
            assert said["values"] == 3 * LAYERS and not said["missing"] and not said["unused"], said
            diff = call("trace", "diff", f"{work}/ours", theirs, "--tolerance", "1e-5", "--relative", "1e-5", codes=(0, 1))
            print(layer, diff)
            assert diff["equal"] if layer is None else diff["operator"] == f"MatMul product{layer}", diff
    return 0


if __name__ == "__main__":
    sys.exit(main())
