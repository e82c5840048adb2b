"""The encoder of a MiniLM folder (BERT, mean pooling, normalised) as an ONNX model, from its own weights.

Inputs input_ids int64 [b, t], all texts of t tokens, and positions int64 [t]; output embeddings float32 [b, hidden].
"""
import json
import pathlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file


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
            [helper.make_tensor_value_info(n, TensorProto.INT64, s) for n, s in (("input_ids", ["b", "t"]), ("positions", ["t"]))],
            [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["b", self.config["hidden_size"]])], list(self.constants.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def minilm_onnx(folder):
    folder = pathlib.Path(folder)
    return Exporter(load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())).model()
