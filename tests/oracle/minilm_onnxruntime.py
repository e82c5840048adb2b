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
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

SENTENCES = ["The same bits everywhere.", "Anyone can check the result.", "A cat sat on the mat.",
             "Über naïve façades: 你好, wörld! It's 3.14159 today; isn't it?", "x"]


class Exporter:
    """Builds the encoder node by node; values are named as they are made."""

    def __init__(self, weights, config):
        self.weights, self.config = weights, config
        self.nodes, self.constants, self.count = [], {}, 0

    def constant(self, name, value):
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def op(self, kind, *inputs, **attributes):
        self.count += 1
        name = f"v{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def linear(self, x, name):
        w = self.constant(name + ".weight", self.weights[name + ".weight"].T)
        b = self.constant(name + ".bias", self.weights[name + ".bias"])
        return self.op("Add", self.op("MatMul", x, w), b)

    def norm(self, x, name):
        gamma, beta = (self.constant(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=self.config["layer_norm_eps"])

    def heads(self, x):
        heads, size = self.config["num_attention_heads"], self.config["hidden_size"]
        shape = self.constant("head_shape", np.array([0, 0, heads, size // heads], np.int64))
        return self.op("Transpose", self.op("Reshape", x, shape), perm=[0, 2, 1, 3])

    def attention(self, x, name):
        q, k, v = (self.heads(self.linear(x, f"{name}.self.{part}")) for part in ("query", "key", "value"))
        head_size = self.config["hidden_size"] // self.config["num_attention_heads"]
        scale = self.constant("scale", np.float32(1 / np.sqrt(head_size)))
        scores = self.op("Mul", self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2])), scale)
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        flat = self.constant("flat_shape", np.array([0, 0, self.config["hidden_size"]], np.int64))
        merged = self.op("Reshape", self.op("Transpose", mixed, perm=[0, 2, 1, 3]), flat)
        return self.norm(self.op("Add", self.linear(merged, name + ".output.dense"), x), name + ".output.LayerNorm")

    def gelu(self, x):
        half, one = self.constant("half", np.float32(0.5)), self.constant("one", np.float32(1))
        root = self.constant("root2", np.float32(np.sqrt(2)))
        return self.op("Mul", self.op("Mul", x, half), self.op("Add", self.op("Erf", self.op("Div", x, root)), one))

    def layer(self, x, name):
        middle = self.attention(x, name + ".attention")
        narrow = self.linear(self.gelu(self.linear(middle, name + ".intermediate.dense")), name + ".output.dense")
        return self.norm(self.op("Add", narrow, middle), name + ".output.LayerNorm")

    def model(self):
        w = self.weights
        word = self.op("Gather", self.constant("word", w["embeddings.word_embeddings.weight"]), "input_ids")
        kind = self.constant("type", w["embeddings.token_type_embeddings.weight"][0])
        place = self.op("Gather", self.constant("place", w["embeddings.position_embeddings.weight"]), "positions")
        x = self.norm(self.op("Add", self.op("Add", word, kind), place), "embeddings.LayerNorm")
        for i in range(self.config["num_hidden_layers"]):
            x = self.layer(x, f"encoder.layer.{i}")
        pooled = self.op("ReduceMean", x, axes=[1], keepdims=0)
        self.nodes.append(helper.make_node("LpNormalization", [pooled], ["embeddings"], axis=-1, p=2))
        graph = helper.make_graph(
            self.nodes, "minilm",
            [helper.make_tensor_value_info(n, TensorProto.INT64, s) for n, s in (("input_ids", [1, "t"]), ("positions", ["t"]))],
            [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [1, self.config["hidden_size"]])], list(self.constants.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def cosine(a, b):
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def main():
    folder, verbatim = pathlib.Path(sys.argv[1]), sys.argv[2]
    texts = sys.argv[3:] or SENTENCES
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    proto = Exporter(load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())).model()
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
