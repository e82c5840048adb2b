"""A Llama-type folder as an ONNX model, from its own weights, with the fused operators that ONNX Runtime has for such models.

Inputs input_ids and positions int64 [1, t], seqlens int32 [1] (tokens with the past, less 1), total int32 [1] (tokens with the past), and
for each layer past_key.I and past_value.I [1, kv_heads, p, head_dim]. Outputs logits [1, vocabulary] after the last token, and for each
layer the longer present_key.I and present_value.I.
"""
import json
import pathlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open

ORT = "com.microsoft"


class Exporter:
    """Builds the decoder node by node; values are named as they are made."""

    def __init__(self, weights, config):
        self.weights, self.config = weights, config
        self.nodes, self.constants, self.count = [], {}, 0
        self.heads, self.kv_heads = config["num_attention_heads"], config.get("num_key_value_heads", config["num_attention_heads"])
        self.head_dim = config.get("head_dim") or config["hidden_size"] // self.heads

    def constant(self, name, value):
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def weight(self, name):
        return self.weights.get_tensor(name).astype(np.float32, copy=False)

    def op(self, kind, *inputs, outputs=1, domain="", **attributes):
        names = [f"v{self.count + i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
        self.count += len(names)
        self.nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0] if len(names) == 1 else names

    def linear(self, x, name):
        return self.op("MatMul", x, self.constant(name, self.weight(name).T))

    def norm(self, x, name):
        return self.op("SimplifiedLayerNormalization", x, self.constant(name, self.weight(name)), axis=-1,
                       epsilon=self.config["rms_norm_eps"])

    def rotary(self):
        """cos and sin of position * theta^(-2i / head_dim)."""
        half = np.arange(0, self.head_dim, 2, dtype=np.float32) / self.head_dim
        frequency = 1 / np.float32(self.config.get("rope_theta", 10000.0)) ** half
        angles = np.arange(self.config["max_position_embeddings"], dtype=np.float32)[:, None] * frequency[None]
        return self.constant("cos", np.cos(angles)), self.constant("sin", np.sin(angles))

    def attention(self, x, name, layer):
        q, k, v = (self.linear(x, f"{name}.{part}_proj.weight") for part in "qkv")
        fused = self.head_dim % 16 == 0  # what GroupQueryAttention can rotate itself
        if not fused:
            q, k = (self.op("RotaryEmbedding", x, "positions", *self.rotary(), domain=ORT, num_heads=heads)
                    for x, heads in ((q, self.heads), (k, self.kv_heads)))
        y, *_ = self.op("GroupQueryAttention", q, k, v, f"past_key.{layer}", f"past_value.{layer}", "seqlens", "total",
                        *(self.rotary() if fused else ()), do_rotary=int(fused), num_heads=self.heads, kv_num_heads=self.kv_heads,
                        outputs=[f"attention.{layer}", f"present_key.{layer}", f"present_value.{layer}"], domain=ORT)
        return self.linear(y, name + ".o_proj.weight")

    def mlp(self, x, name):
        gate, up = self.linear(x, name + ".gate_proj.weight"), self.linear(x, name + ".up_proj.weight")
        silu = self.op("Mul", gate, self.op("Sigmoid", gate))
        return self.linear(self.op("Mul", silu, up), name + ".down_proj.weight")

    def layer(self, x, layer):
        name = f"model.layers.{layer}"
        middle = self.op("Add", x, self.attention(self.norm(x, name + ".input_layernorm.weight"), name + ".self_attn", layer))
        return self.op("Add", middle, self.mlp(self.norm(middle, name + ".post_attention_layernorm.weight"), name + ".mlp"))

    def model(self):
        tied = self.config.get("tie_word_embeddings", False)
        x = self.op("Gather", self.constant("embedding", self.weight("model.embed_tokens.weight")), "input_ids")
        for i in range(self.config["num_hidden_layers"]):
            x = self.layer(x, i)
        last = self.op("Gather", x, self.constant("last", np.array(-1, np.int64)), axis=1)
        head = self.constant("head", self.weight("model.embed_tokens.weight" if tied else "lm_head.weight").T)
        self.op("MatMul", self.norm(last, "model.norm.weight"), head, outputs=["logits"])
        return self.finish()

    def finish(self):
        def values(what, length):
            return [helper.make_tensor_value_info(f"{what}_{part}.{i}", TensorProto.FLOAT, [1, self.kv_heads, length, self.head_dim])
                    for i in range(self.config["num_hidden_layers"]) for part in ("key", "value")]
        inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "t"]),
                  helper.make_tensor_value_info("positions", TensorProto.INT64, [1, "t"]),
                  helper.make_tensor_value_info("seqlens", TensorProto.INT32, [1]),
                  helper.make_tensor_value_info("total", TensorProto.INT32, [1]), *values("past", "p")]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, self.config["vocab_size"]]), *values("present", "n")]
        graph = helper.make_graph(self.nodes, "llama", inputs, outputs, list(self.constants.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(ORT, 1)], ir_version=8)


def llama_onnx(folder):
    folder = pathlib.Path(folder)
    with safe_open(folder / "model.safetensors", framework="numpy") as weights:
        return Exporter(weights, json.loads((folder / "config.json").read_text())).model()
