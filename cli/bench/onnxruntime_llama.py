#!/usr/bin/env python3
"""onnxruntime_llama.py FOLDER THREADS PAST: a child (onnxruntime_child.py) whose run takes all tokens but the first PAST, after those.

Needs: pip install numpy onnx onnxruntime safetensors.
"""
import sys

from onnxruntime_child import llama_onnx, np, serve, session, tokens


def feeds_of(ids, past):
    """`past`: keys and values of the tokens before, by the name of their input."""
    length = next(iter(past.values())).shape[2] + ids.size
    return {"input_ids": ids[None], "positions": np.arange(length - ids.size, length)[None], "seqlens": np.array([length - 1], np.int32),
            "total": np.array([length], np.int32), **past}


def main():
    folder, threads, past_tokens = sys.argv[1], *map(int, sys.argv[2:4])
    ids = tokens()
    running = session(llama_onnx(folder).SerializeToString(), threads)
    inputs = [i for i in running.get_inputs() if i.name.startswith("past_")]
    past = {i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32) for i in inputs}
    if past_tokens > 0:
        names = [i.name.replace("past", "present") for i in inputs]
        past = dict(zip(past, running.run(names, feeds_of(ids[:past_tokens], past))))
    serve(running, feeds_of(ids[past_tokens:], past))


main()
