"""The peers: each a function that prepares a model and returns one step to be timed, and the tokens a step takes.

    python Benchmarks/peers.py NAME --d-model 128 --heads 4 --layers 4 --d-ff 512 --length 64 --batch-size 12 ...

runs one of them in a process of its own: warm-up, then a number of timed steps; prints one JSON object.
"""
import argparse
import json
import resource
import time

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY = 65


# Training: forward, loss, backward, gradient-norm clip, Adam.


def labml_model(a):
    """labml's feedback transformer with shared keys and values, as its experiment wires it."""
    from labml_nn.transformers.feed_forward import FeedForward
    from labml_nn.transformers.feedback import FeedbackAttention, FeedbackTransformerKV, FeedbackTransformerLayer

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, a.d_model)
            attention = FeedbackAttention(a.heads, a.d_model, 0.0, is_kv_precomputed=True)
            layer = FeedbackTransformerLayer(
                d_model=a.d_model, attn=attention, feed_forward=FeedForward(a.d_model, a.d_ff, 0.0), dropout_prob=0.0)
            self.transformer = FeedbackTransformerKV(layer, a.layers, a.d_model, a.heads)
            self.generator = nn.Linear(a.d_model, VOCABULARY)

        def forward(self, tokens):  # [T, B]
            return self.generator(self.transformer(self.embedding(tokens)))

    model = Model()
    return model, model.transformer.free


class ParallelLayer(nn.Module):
    """A pre-norm layer of the ordinary transformer: one product for q, k, v; PyTorch's fused attention; ReLU."""

    def __init__(self, a):
        super().__init__()
        self.heads = a.heads
        self.norms = nn.ModuleList(nn.LayerNorm(a.d_model) for _ in range(2))
        self.qkv, self.output = nn.Linear(a.d_model, 3 * a.d_model), nn.Linear(a.d_model, a.d_model)
        self.inner, self.outer = nn.Linear(a.d_model, a.d_ff), nn.Linear(a.d_ff, a.d_model)

    def forward(self, x):  # [B, T, D]
        B, T, D = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(context.transpose(1, 2).reshape(B, T, D))
        return x + self.outer(F.relu(self.inner(self.norms[1](x))))


class Parallel(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(VOCABULARY, a.d_model), nn.Embedding(a.length, a.d_model)
        self.layers = nn.Sequential(*(ParallelLayer(a) for _ in range(a.layers)))
        self.head = nn.Sequential(nn.LayerNorm(a.d_model), nn.Linear(a.d_model, VOCABULARY))

    def forward(self, tokens):  # [B, T]
        return self.head(self.layers(self.embedding(tokens) + self.positions.weight))


def training(a, model, batch_first, free=lambda: None):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    shape = (a.batch_size, a.length) if batch_first else (a.length, a.batch_size)

    def step():
        inputs, targets = torch.randint(VOCABULARY, shape), torch.randint(VOCABULARY, shape)
        with torch.autocast(a.device, torch.bfloat16, enabled=a.precision == "bfloat16"):
            loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        free()
        return loss.item()

    return step, a.length * a.batch_size


def labml_training(a):
    model, free = labml_model(a)
    return training(a, model, False, free)


def parallel_training(a):
    return training(a, Parallel(a), True)


# Generation: one sequence, greedily, where `length` tokens are already there.


def labml_generation(a):
    """labml's sample(): the whole sequence anew for every token."""
    model, free = labml_model(a)
    tokens = torch.randint(VOCABULARY, (a.length, 1))

    def step():
        model(tokens)[-1].argmax(-1).tolist()  # waits for a GPU
        free()

    return step, 1


def lucidrains_generation(a):
    from feedback_transformer_pytorch import FeedbackTransformer

    model = FeedbackTransformer(
        num_tokens=VOCABULARY, dim=a.d_model, depth=a.layers, mem_len=a.length, seq_len=1, heads=a.heads,
        dim_head=a.d_model // a.heads).eval()
    token, memory = model(torch.randint(VOCABULARY, (1, a.length)), return_memory=True)

    def step():
        nonlocal token, memory
        for _ in range(16):
            token, memory = model(token[:, -1:].argmax(-1), memory=memory, return_memory=True)

    return step, 16


def gpt2_generation(a):
    from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=a.length + 16, n_embd=a.d_model, n_layer=a.layers, n_head=a.heads,
            n_inner=a.d_ff, bos_token_id=0, eos_token_id=0)).eval().to(getattr(torch, a.precision))
    prompt = torch.randint(VOCABULARY, (1, a.length - 8))

    def start():
        cache = DynamicCache()
        return model(prompt, past_key_values=cache).logits[:, -1:].argmax(-1), cache

    def step():  # 16 tokens about a context of `length`
        token, cache = start()
        begin = time.perf_counter()
        for _ in range(16):
            token = model(token, past_key_values=cache).logits.argmax(-1)
        return time.perf_counter() - begin

    step.times_itself = True
    return step, 16


PEERS = {
    "labml-training": labml_training,
    "parallel-training": parallel_training,
    "labml-generation": labml_generation,
    "lucidrains-generation": lucidrains_generation,
    "gpt2-generation": gpt2_generation,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    for name in ["d-model", "heads", "layers", "d-ff", "length", "batch-size"]:
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    a = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(a.threads)
    torch.set_default_device(a.device)
    torch.set_grad_enabled(a.peer.endswith("training"))
    step, tokens = PEERS[a.peer](a)
    seconds = []
    for number in range(a.warm_up + a.steps):
        begin = time.perf_counter()
        result = step()
        taken = result if getattr(step, "times_itself", False) else time.perf_counter() - begin
        if number >= a.warm_up:
            seconds.append(taken)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"tokens": tokens, "seconds": seconds, "peakMemoryBytes": peak}))


if __name__ == "__main__":
    main()
