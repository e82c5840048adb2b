#!/usr/bin/env python3
"""onnxruntime_minilm.py FOLDER THREADS TEXTS TOKENS: a child (onnxruntime_child.py) whose run embeds TEXTS texts of TOKENS tokens each.

Needs: pip install numpy onnx onnxruntime safetensors.
"""
import sys

from onnxruntime_child import minilm_onnx, np, serve, session, tokens


def main():
    folder, threads, texts, length = sys.argv[1], *map(int, sys.argv[2:5])
    ids = tokens().reshape(texts, length)
    serve(session(minilm_onnx(folder).SerializeToString(), threads), {"input_ids": ids, "positions": np.arange(length, dtype=np.int64)})


main()
