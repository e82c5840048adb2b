"""ONNX Runtime's side of verbatim-bench's whole models: what its children share (model_child.py)."""
import pathlib
import sys
import time

try:
    import model_child
    import numpy as np
    import onnxruntime

    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "oracle"))
    from llama_onnx import llama_onnx
    from minilm_onnx import minilm_onnx
except ImportError as error:
    print(f"absent {error}", flush=True)
    sys.exit(0)


def tokens():
    return np.array(model_child.tokens(), np.int64)


def session(model, threads):
    """Of a serialised model, with so many threads and all graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Step:
    """What model_child.serve() serves."""

    def __init__(self, running, feeds):
        self.running, self.feeds = running, feeds

    def seconds(self, runs):
        start = time.perf_counter()
        for _ in range(runs):
            self.outputs = self.running.run(None, self.feeds)
        return time.perf_counter() - start

    def output(self):
        return self.outputs[0].ravel().tolist()


def serve(running, feeds):
    model_child.serve(Step(running, feeds), f"{onnxruntime.__version__} {running.get_providers()[0]}")
