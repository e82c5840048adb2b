#!/usr/bin/env python3
"""training_pytorch.py MODEL VERBATIM [STEPS]: compares `verbatim train` with PyTorch on a Llama-type folder such as stories260K.

Writes the model once more in PyTorch from its config.json and model.safetensors, trains it on the same batches in binary32 and in
binary64 with torch.optim and clip_grad_norm_, and compares losses, gradient norms and the weights after the last step, for SGD and
AdamW. Against binary64 both are wrong by rounding alone: ours may be at most 4 times as wrong as PyTorch's own binary32, plus a floor.
Prints the figures; fails above. Without torch it says so and exits with 77. Needs: pip install torch numpy.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

TEXT = ("Once upon a time, there was a tiny robot named Bit. Bit liked to count stones by the river. One day the river was gone! "
        "Bit asked the old owl why. The owl said, \"Somebody built a wall, so the water waits behind it.\" Bit walked up the hill, "
        "found the wall, and took out one small stone. The river came back, and all the fish said thank you. ") * 3
BATCH, WINDOW = 2, 48


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "F32", (name, entry["dtype"])
        tensors[name] = np.frombuffer(data[8 + size + begin:8 + size + end], "<f4").reshape(entry["shape"]).copy()
    return tensors


class Llama:
    """As Hugging Face's LlamaForCausalLM computes it."""

    def __init__(self, weights, config, dtype):
        self.c, self.dtype = config, dtype
        self.w = {k: torch.tensor(v, dtype=dtype, requires_grad=True) for k, v in weights.items()}

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"]) * self.w[name + ".weight"]

    def rotate(self, x):
        size = x.shape[-1]
        frequency = 1.0 / self.c["rope_theta"] ** (torch.arange(0, size, 2, dtype=self.dtype) / size)
        angle = torch.arange(x.shape[-2], dtype=self.dtype)[:, None] * frequency
        a, b = x.chunk(2, -1)
        return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)

    def attention(self, x, name):
        rows, length, _ = x.shape
        heads, kv_heads = self.c["num_attention_heads"], self.c["num_key_value_heads"]
        split = lambda part, n: F.linear(x, self.w[f"{name}.{part}_proj.weight"]).view(rows, length, n, -1).transpose(1, 2)
        q, k, v = self.rotate(split("q", heads)), self.rotate(split("k", kv_heads)), split("v", kv_heads)
        k, v = (t.repeat_interleave(heads // kv_heads, 1) for t in (k, v))
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        scores = scores + torch.full((length, length), float("-inf"), dtype=self.dtype).triu(1)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(rows, length, -1)
        return F.linear(y, self.w[f"{name}.o_proj.weight"])

    def mlp(self, x, name):
        gate, up = (F.linear(x, self.w[f"{name}.{part}_proj.weight"]) for part in ("gate", "up"))
        return F.linear(F.silu(gate) * up, self.w[f"{name}.down_proj.weight"])

    def loss(self, tokens, labels):
        embedding = self.w["model.embed_tokens.weight"]
        x = embedding[tokens]
        for i in range(self.c["num_hidden_layers"]):
            name = f"model.layers.{i}"
            x = x + self.attention(self.norm(x, name + ".input_layernorm"), name + ".self_attn")
            x = x + self.mlp(self.norm(x, name + ".post_attention_layernorm"), name + ".mlp")
        logits = F.linear(self.norm(x, "model.norm"), self.w.get("lm_head.weight", embedding) if not self.c["tie_word_embeddings"] else embedding)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def batches(tokens):
    pieces = (len(tokens) - 1) // WINDOW
    count = pieces // BATCH
    used = count * BATCH * WINDOW
    shape = lambda t: torch.tensor(t).view(count, BATCH, WINDOW)
    return shape(tokens[:used]), shape(tokens[1:used + 1])


def train_torch(weights, config, dtype, tokens, optimizer, steps, rate):
    model = Llama(weights, config, dtype)
    parameters = list(model.w.values())
    o = (torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=0.01) if optimizer == "sgd" else
         torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01))
    data, labels = batches(tokens)
    losses, norms = [], []
    for step in range(steps):
        o.zero_grad()
        loss = model.loss(data[step % len(data)], labels[step % len(data)])
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, 1.0)))
        losses.append(float(loss.detach()))
        o.step()
    return losses, norms, {k: v.detach().double().numpy() for k, v in model.w.items()}


def train_ours(model, verbatim, text_file, optimizer, steps, rate, work):
    run = subprocess.run([verbatim, "train", model, "--text-file", text_file, "--steps", str(steps), "--batch", str(BATCH), "--window",
                          str(WINDOW), "--optimizer", optimizer, "--learning-rate", str(rate), "--momentum", "0.9", "--weight-decay", "0.01",
                          "--clip", "1", "--output", f"{work}/{optimizer}", "--json"], check=True, capture_output=True)
    result = json.loads(run.stdout)
    weights = read_safetensors(f"{work}/{optimizer}/model.safetensors")
    return result["losses"], result["gradient_norms"], {k: v.astype(np.float64) for k, v in weights.items()}, result["digest"]


def relative(a, b):
    return max(abs(x - y) / abs(y) for x, y in zip(a, b))


def weight_errors(a, b):
    """Root mean square and greatest difference over all weights."""
    d = np.concatenate([(a[k] - b[k]).ravel() for k in b])
    return float(np.sqrt(np.mean(d * d))), float(np.abs(d).max())


def main():
    folder, verbatim = pathlib.Path(sys.argv[1]), sys.argv[2]
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    config, weights = json.loads((folder / "config.json").read_text()), read_safetensors(folder / "model.safetensors")
    prompt = subprocess.run([verbatim, "generate", folder, "--prompt", TEXT, "--max-tokens", "1", "--json"], check=True, capture_output=True)
    tokens = json.loads(prompt.stdout)["tokens"][:-1]
    right = True
    with tempfile.TemporaryDirectory() as work:
        text_file = f"{work}/text"
        pathlib.Path(text_file).write_text(TEXT)
        for optimizer, rate in (("sgd", 0.1), ("adamw", 0.001)):
            exact = train_torch(weights, config, torch.float64, tokens, optimizer, steps, rate)
            theirs = train_torch(weights, config, torch.float32, tokens, optimizer, steps, rate)
            *ours, digest = train_ours(folder, verbatim, text_file, optimizer, steps, rate, work)
            figures = {"torch": torch.__version__, "optimizer": optimizer, "steps": steps, "loss": ours[0][-1], "digest": digest}
            for what, error, floor in (("loss", lambda r: relative(r[0], exact[0]), 1e-6), ("norm", lambda r: relative(r[1], exact[1]), 1e-6),
                                       ("weights_rms", lambda r: weight_errors(r[2], exact[2])[0], rate * 1e-6),
                                       ("weights_max", lambda r: weight_errors(r[2], exact[2])[1], rate * 1e-4)):
                figures[what] = {"ours": error(ours), "torch_float32": error(theirs)}
                right &= figures[what]["ours"] <= 4 * figures[what]["torch_float32"] + floor
            figures["moved_rms"] = weight_errors({k: v.astype(np.float64) for k, v in weights.items()}, exact[2])[0]
            print(json.dumps(figures))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
