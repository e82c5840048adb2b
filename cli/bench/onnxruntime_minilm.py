#!/usr/bin/env python3
"""onnxruntime_minilm.py FOLDER THREADS TEXTS TOKENS: ONNX Runtime's side of verbatim-bench's whole models.

Reads TEXTS * TOKENS token ids from the first line of standard input and makes a session of the model in FOLDER, with THREADS threads
and all of its graph optimisations. Then answers commands, a line each: "version" with what it is and runs on, "run N" with the seconds
that N runs take, "embeddings" with the numbers of the last one. Needs: pip install numpy onnx onnxruntime safetensors.
"""
import pathlib
import sys
import time

try:
    import numpy as np
    import onnxruntime

    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "oracle"))
    from minilm_onnx import minilm_onnx
except ImportError as error:
    print(f"absent {error}", flush=True)
    sys.exit(0)


def main():
    folder, threads, texts, tokens = sys.argv[1], *map(int, sys.argv[2:5])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(minilm_onnx(folder).SerializeToString(), options, providers=["CPUExecutionProvider"])
    ids = np.array(sys.stdin.readline().split(), np.int64).reshape(texts, tokens)
    feeds = {"input_ids": ids, "positions": np.arange(tokens, dtype=np.int64)}
    print("ready", flush=True)
    outputs = None
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "run":
            start = time.perf_counter()
            for _ in range(int(arguments[0])):
                outputs = session.run(None, feeds)
            print(time.perf_counter() - start, flush=True)
        elif command == "embeddings":
            print(*outputs[0].ravel().tolist(), flush=True)
        elif command == "version":
            print(onnxruntime.__version__, session.get_providers()[0], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
