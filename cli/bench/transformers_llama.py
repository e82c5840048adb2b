#!/usr/bin/env python3
"""transformers_llama.py FOLDER THREADS TYPE PAST: a child (model_child.py) whose step takes all tokens but the first PAST, after those, by
the Llama-type model in FOLDER on a GPU, in TYPE (float32 or bfloat16). A step is recorded as a CUDA graph, so that the host's time is not
measured; one without a past has no cache, as a prompt that is only scored.

Needs: pip install torch transformers.
"""
import sys

from model_child import serve, tokens

try:
    import torch
    import transformers

    if not torch.cuda.is_available():
        raise ImportError("PyTorch finds no GPU")
except ImportError as error:
    print(f"absent {error}", flush=True)
    sys.exit(0)


class Step:
    def __init__(self, model, ids, past):
        self.model, self.past = model, past
        self.ids = torch.tensor([ids], device="cuda")
        self.positions = torch.arange(past, len(ids), device="cuda")[None]
        self.cache = None
        if past > 0:
            self.cache = transformers.StaticCache(config=model.config, max_cache_len=len(ids))
            self.model(self.ids[:, :past], past_key_values=self.cache, logits_to_keep=1)
        self.graph = torch.cuda.CUDAGraph()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # PyTorch asks for runs before a recording, on a stream of their own
            for _ in range(3):
                self.forward()
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(self.graph):
            self.logits = self.forward()

    def forward(self):
        options = {"use_cache": False}
        if self.cache is not None:
            for layer in self.cache.layers:  # the step is run again at the same place
                if isinstance(getattr(layer, "cumulative_length", None), torch.Tensor):
                    layer.cumulative_length.fill_(self.past)
            options = {"past_key_values": self.cache}
        return self.model(self.ids[:, self.past :], position_ids=self.positions, logits_to_keep=1, **options).logits

    def seconds(self, runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(runs):
            self.graph.replay()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) * 1e-3

    def output(self):
        return self.logits.float().ravel().tolist()


@torch.inference_mode()
def main():
    folder, dtype, past = sys.argv[1], *sys.argv[3:5]
    ids = tokens()
    torch.backends.cuda.matmul.allow_tf32 = False  # binary32 stays binary32
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa")
        step = Step(model.cuda().eval(), ids, int(past))
    except Exception as error:  # whatever a version of either cannot do
        print("absent", type(error).__name__, str(error).split("\n")[0], flush=True)
        return
    serve(step, f"{transformers.__version__} PyTorch {torch.__version__}, sdpa, CUDA graph")


main()
