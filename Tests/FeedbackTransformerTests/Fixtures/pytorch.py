"""Writes this folder's checkpoints with PyTorch and labml's classes: python pytorch.py, with torch and labml-nn installed."""
import pathlib

import torch
from labml_nn.transformers.feedback import (
    FeedbackAttention, FeedbackTransformer, FeedbackTransformerKV, FeedbackTransformerLayer, FeedForward,
)
from torch import nn

folder = pathlib.Path(__file__).parent
vocabulary, d_model, heads, d_ff, positions = 5, 4, 2, 6, 7


class Model(nn.Module):
    def __init__(self, shared):
        super().__init__()
        attention = FeedbackAttention(heads, d_model, 0.0, is_kv_precomputed=shared)
        attention.key_pos_embeddings = nn.Parameter(torch.zeros(positions, heads, d_model // heads))
        attention.key_pos_bias = nn.Parameter(torch.zeros(positions, heads))
        layer = FeedbackTransformerLayer(
            d_model=d_model, attn=attention, feed_forward=FeedForward(d_model, d_ff, 0.0), dropout_prob=0.0)
        self.src_embed = nn.Embedding(vocabulary, d_model)
        self.transformer = (
            FeedbackTransformerKV(layer, 1, d_model, heads) if shared else FeedbackTransformer(layer, 1))
        self.generator = nn.Linear(d_model, vocabulary)
        for number, (_, parameter) in enumerate(sorted(self.named_parameters())):
            values = [((31 * number + index) % 17 - 8) / 8 for index in range(parameter.numel())]
            parameter.data = torch.tensor(values).view(parameter.shape)


def save(name, checkpoint, older=False):
    torch.save(checkpoint, folder / f"{name}.pt", _use_new_zipfile_serialization=not older)


def views(state):
    """All in one storage, and the matrices of the feed-forward network transposed in it."""
    transposed = {name: "layer" in name and tensor.dim() == 2 for name, tensor in state.items()}
    flat = torch.cat([(tensor.t() if transposed[name] else tensor).reshape(-1) for name, tensor in state.items()])
    found, at = {}, 0
    for name, tensor in state.items():
        part = flat[at : at + tensor.numel()]
        found[name] = part.view(tensor.shape[::-1]).t() if transposed[name] else part.view(tensor.shape)
        at += tensor.numel()
    return found


for variant, shared in [("shared", True), ("original", False)]:
    model = Model(shared)
    state = model.state_dict()
    save(variant, state)
    save(f"{variant}-older", state, older=True)
state = Model(True).state_dict()
save("float16", {name: tensor.half() for name, tensor in state.items()})
save("bfloat16", {name: tensor.bfloat16() for name, tensor in state.items()})
save("float64", {name: tensor.double() for name, tensor in state.items()})
save("views", views(state))
save("views-older", views(state), older=True)
save("parameters", dict(Model(True).named_parameters()))
wrapped = nn.Sequential()
wrapped.module = Model(True)
optimizer = torch.optim.Adam(wrapped.parameters())
save("wrapped", {"epoch": 3, "loss": 1.5, "model_state_dict": wrapped.state_dict(), "optimizer": optimizer.state_dict()})
torch.serialization.set_crc32_options(False)
save("unchecked", state)
