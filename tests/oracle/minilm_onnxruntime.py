#!/usr/bin/env python3
"""minilm_onnxruntime.py MODEL VERBATIM [SENTENCE...]: compares MiniLM's embeddings with ONNX Runtime's.

Writes the encoder of the folder MODEL (BERT, mean pooling, normalised) as an ONNX file from its own weights, runs it in ONNX Runtime
on the tokens of Hugging Face's tokenizer, and compares with `VERBATIM embed MODEL` and with `VERBATIM run` on the same ONNX file.
Prints the least cosine of each; fails below 0.99999. Needs: pip install numpy onnx onnxruntime safetensors tokenizers.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from tokenizers import Tokenizer

from minilm_onnx import minilm_onnx

SENTENCES = ["The same bits everywhere.", "Anyone can check the result.", "A cat sat on the mat.",
             "Über naïve façades: 你好, wörld! It's 3.14159 today; isn't it?", "x"]


def cosine(a, b):
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def main():
    folder, verbatim = pathlib.Path(sys.argv[1]), sys.argv[2]
    texts = sys.argv[3:] or SENTENCES
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    proto = minilm_onnx(folder)
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    text_flags = [flag for text in texts for flag in ("--text", text)]
    ours = json.loads(subprocess.run([verbatim, "embed", folder, *text_flags, "--json"], check=True, capture_output=True).stdout)["embeddings"]
    least_folder = least_onnx = 1.0
    with tempfile.TemporaryDirectory() as work:
        onnx.save(proto, f"{work}/minilm.onnx")
        for text, mine in zip(texts, ours):
            ids = np.array([tokenizer.encode(text).ids], np.int64)
            feeds = {"input_ids": ids, "positions": np.arange(ids.shape[1], dtype=np.int64)}
            theirs = session.run(None, feeds)[0]
            for name, value in feeds.items():
                np.save(f"{work}/{name}.npy", value)
            inputs = [flag for name in feeds for flag in ("--input", f"{name}={work}/{name}.npy")]
            subprocess.run([verbatim, "run", f"{work}/minilm.onnx", *inputs, "--output-dir", work], check=True, capture_output=True)
            least_folder = min(least_folder, cosine(np.array(mine, np.float32), theirs))
            least_onnx = min(least_onnx, cosine(np.load(f"{work}/embeddings.npy"), theirs))
    print(json.dumps({"onnxruntime": onnxruntime.__version__, "sentences": len(texts), "least_cosine_folder": least_folder,
                      "least_cosine_onnx_file": least_onnx}))
    return 0 if min(least_folder, least_onnx) >= 0.99999 else 1


if __name__ == "__main__":
    sys.exit(main())
