"""ONNX Runtime's side of verbatim-bench's whole models: what its children share.

A child reads tokens from the first line of standard input, makes a session, and says "ready", or "absent WHY". Then it answers
commands, a line each: "version" with what ONNX Runtime is and runs on, "run N" with the seconds that N runs take, "output" with the
numbers of the last one's first output.
"""
import pathlib
import sys
import time

try:
    import numpy as np
    import onnxruntime

    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "oracle"))
    from llama_onnx import llama_onnx
    from minilm_onnx import minilm_onnx
except ImportError as error:
    print(f"absent {error}", flush=True)
    sys.exit(0)


def tokens():
    return np.array(sys.stdin.readline().split(), np.int64)


def session(model, threads):
    """Of a serialised model, with so many threads and all graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def serve(running, feeds):
    print("ready", flush=True)
    outputs = None
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "run":
            start = time.perf_counter()
            for _ in range(int(arguments[0])):
                outputs = running.run(None, feeds)
            print(time.perf_counter() - start, flush=True)
        elif command == "output":
            print(*outputs[0].ravel().tolist(), flush=True)
        elif command == "version":
            print(onnxruntime.__version__, running.get_providers()[0], flush=True)
