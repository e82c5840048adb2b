#!/usr/bin/env python3
"""models_onnxruntime.py FOLDER VERBATIM: compares models of other people with ONNX Runtime and with their authors' outputs.

FOLDER holds magika_standard_v3_3.onnx with .config.json and magika_examples.json.gz, silero_vad_op18_ifless.onnx,
silero_vad_16k.safetensors and super_resolution.onnx. The weights of the safetensors file, which are others than the ONNX file's, are
put into the ONNX graph for ONNX Runtime. Prints the greatest absolute difference of each model, and how many of Magika's examples get
the authors' label and, to their digits, score; fails above 1e-3 or where a label differs. Magika is too sensitive for that (ONNX
Runtime's scores of a file alone and in a batch differ by more), so VERBATIM runs it in binary64 as well: fails where its binary32 is
further from that than ONNX Runtime's, or that further than 3e-3. Needs: pip install numpy onnx onnxruntime safetensors.
"""
import base64
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from safetensors.numpy import load_file


def run(verbatim, work, model, inputs):
    """The outputs of `VERBATIM run MODEL` by name."""
    flags = []
    for name, value in inputs.items():
        np.save(f"{work}/{name}.npy", np.ascontiguousarray(value))
        flags += ["--input", f"{name}={work}/{name}.npy"]
    said = subprocess.run([verbatim, "run", str(model), *flags, "--output-dir", f"{work}/out", "--json"], check=True,
                          capture_output=True).stdout
    return {name: np.load(out["file"]) for name, out in json.loads(said)["outputs"].items()}


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), options)


def difference(ours, theirs):
    return max(float(np.max(np.abs(a - b))) for a, b in zip(ours, theirs))


def magika_features(content, config):
    """What Magika's own client makes of a file: its stripped beginning and end, padded to the middle."""
    begin, end = content[:config["block_size"]].lstrip(), content[-config["block_size"]:].rstrip()
    begin, end = begin[:config["beg_size"]], end[-config["end_size"]:]
    pad = config["padding_token"]
    return ([*begin] + [pad] * (config["beg_size"] - len(begin)) + [pad] * (config["end_size"] - len(end)) + [*end])


def in_binary64(model):
    """The ONNX model, every binary32 of it a binary64."""
    proto = onnx.load(str(model))
    attributes = [a for node in proto.graph.node for a in node.attribute]
    for tensor in [*proto.graph.initializer, *(a.t for a in attributes if a.type == onnx.AttributeProto.TENSOR)]:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for a in attributes:
        if a.name == "to" and a.i == onnx.TensorProto.FLOAT:
            a.i = onnx.TensorProto.DOUBLE
    for value in proto.graph.output:
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del proto.graph.value_info[:]
    return proto


def magika(folder, verbatim, work):
    config = json.loads((folder / "magika_standard_v3_3.config.json").read_text())
    model = folder / "magika_standard_v3_3.onnx"
    cases = []
    for e in json.load(gzip.open(folder / "magika_examples.json.gz")):
        content = base64.b64decode(e["content_base64"])
        # Others are decided without the model.
        if e["status"] == "ok" and e["prediction"]["dl"] != "undefined":
            cases.append((magika_features(content, config), e["prediction"]))
    features = np.array([f for f, _ in cases], np.int32)
    ours = run(verbatim, work, model, {"bytes": features})["target_label"]
    theirs = session(model).run(None, {"bytes": features})[0]
    onnx.save(in_binary64(model), f"{work}/binary64.onnx")
    exact = run(verbatim, work, f"{work}/binary64.onnx", {"bytes": features})["target_label"]
    labels = config["target_labels_space"]
    right = sum(labels[int(np.argmax(row))] == p["dl"] and abs(float(row.max()) - p["score"]) < 5e-3
                for row, (_, p) in zip(ours, cases))
    return {"examples": len(cases), "as_the_authors": right, "difference": difference([ours], [theirs]),
            "ours_to_binary64": difference([ours], [exact]), "theirs_to_binary64": difference([theirs], [exact])}


def with_weights(model, tensors):
    """The ONNX model as bytes, with the 16 kHz weights of the safetensors file."""
    names = {"stft_conv.weight": "model.stft.forward_basis_buffer", "final_conv.weight": "model.decoder.decoder.2.weight",
             "final_conv.bias": "model.decoder.decoder.2.bias"}
    names |= {f"conv{i + 1}.{p}": f"model.encoder.{i}.reparam_conv.{p}" for i in range(4) for p in ("weight", "bias")}
    names |= {f"lstm_cell.{p}": f"model.decoder.rnn.{p}" for p in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    proto = onnx.load(str(model))
    initializers = {i.name: i for i in proto.graph.initializer}
    for ours, theirs in names.items():
        initializers[theirs].CopyFrom(numpy_helper.from_array(tensors[ours], theirs))
    return proto.SerializeToString()


def chirp(samples):
    t = np.arange(samples) / 16000
    return (0.4 * np.sin(2 * np.pi * (180 + 900 * t) * t) * (1 + np.sin(11 * t)) / 2).astype(np.float32)


def recording(theirs, audio):
    """Probabilities of a session chunk by chunk: 64 samples of context, the state handed on."""
    state, rows = np.zeros((2, 1, 128), np.float32), []
    padded = np.concatenate([np.zeros(64, np.float32), audio, np.zeros(-len(audio) % 512, np.float32)])
    for at in range(0, len(padded) - 64, 512):
        p, state = theirs.run(None, {"input": padded[None, at:at + 576], "sr": np.array(16000), "state": state})
        rows.append(p[0, 0])
    return np.array([rows], np.float32), state


def silero(folder, verbatim, work):
    model, weights = folder / "silero_vad_op18_ifless.onnx", folder / "silero_vad_16k.safetensors"
    samples, state = chirp(576)[None], np.linspace(-1, 1, 256, dtype=np.float32).reshape(2, 1, 128)
    found = {}
    for rate in (16000, 8000):
        ours = run(verbatim, work, f"{model}:sr={rate}", {"input": samples, "state": state})
        theirs = session(model).run(None, {"input": samples, "sr": np.array(rate), "state": state})
        found[f"onnx_{rate}"] = difference([ours["output"], ours["stateN"]], theirs)
    audio = chirp(16000 * 3 + 77)
    ours = run(verbatim, work, weights, {"audio": audio})
    theirs = recording(session(with_weights(model, load_file(weights))), audio)
    found["safetensors"] = difference([ours["probabilities"], ours["stateN"]], theirs)
    return found


def super_resolution(folder, verbatim, work):
    model = folder / "super_resolution.onnx"
    x = np.abs(chirp(224 * 224)).reshape(1, 1, 224, 224)
    return difference(run(verbatim, work, model, {"input": x}).values(), session(model).run(None, {"input": x}))


def main():
    folder, verbatim = pathlib.Path(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as work:
        found = {"onnxruntime": onnxruntime.__version__, "magika": magika(folder, verbatim, work),
                 "silero": silero(folder, verbatim, work), "super_resolution": super_resolution(folder, verbatim, work)}
    print(json.dumps(found))
    scores = found["magika"]
    fine = (scores["as_the_authors"] == scores["examples"] > 0 and
            scores["ours_to_binary64"] < min(1e-3, scores["theirs_to_binary64"]) and scores["theirs_to_binary64"] < 3e-3 and
            max(found["silero"].values()) < 1e-3 and found["super_resolution"] < 1e-3)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
