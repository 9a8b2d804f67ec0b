"""labml's own classes and ours: checkpoints in, the same logits and text; out, and loaded by labml again with the same bits."""
import json
import pathlib
import subprocess
import sys

import numpy
import torch
from labml_nn.transformers.feedback import (
    FeedbackAttention, FeedbackTransformer, FeedbackTransformerKV, FeedbackTransformerLayer, FeedForward,
)
from labml_nn.transformers.feedback.experiment import AutoregressiveModel
from safetensors.torch import load_file, save_file
from torch import nn

feedback, text_file, work = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
text = open(text_file, encoding="utf-8").read()
characters = sorted(set(text))
tokens = torch.tensor([characters.index(character) for character in text[:20_000]])
d_model, heads, d_ff, layers = 32, 4, 64, 2
torch.manual_seed(1)
torch.set_num_threads(1)


def make(shared):
    attention = FeedbackAttention(heads, d_model, 0.0, is_kv_precomputed=shared)
    layer = FeedbackTransformerLayer(
        d_model=d_model, attn=attention, feed_forward=FeedForward(d_model, d_ff, 0.0), dropout_prob=0.0)
    transformer = (
        FeedbackTransformerKV(layer, layers, d_model, heads) if shared else FeedbackTransformer(layer, layers))
    return AutoregressiveModel(len(characters), d_model, transformer)


def logits(model, inputs):
    result, _ = model(inputs)
    if isinstance(model.transformer, FeedbackTransformerKV):
        model.transformer.free()
    return result


def train(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(30):
        starts = torch.randint(0, len(tokens) - 40, (8,))
        inputs, targets = (torch.stack([tokens[at + s : at + s + 32] for at in starts], 1) for s in [0, 1])
        loss = nn.functional.cross_entropy(logits(model, inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return optimizer


def forms(state, optimizer, folder):
    """The checkpoint in every form, and what its numbers then are."""
    folder.mkdir()
    path = folder / "zip.pt"
    torch.save(state, path)
    yield path, state
    path = folder / "older.pt"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    yield path, state
    path = folder / "wrapped.pt"
    named = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"model": named, "optimizer": optimizer.state_dict(), "epoch": 3}, path)
    yield path, state
    flat = torch.cat([tensor.t().reshape(-1) if tensor.dim() == 2 else tensor.reshape(-1) for tensor in state.values()])
    views, at = {}, 0
    for name, tensor in state.items():
        part = flat[at : at + tensor.numel()]
        views[name] = part.view(tensor.shape[::-1]).t() if tensor.dim() == 2 else part.view(tensor.shape)
        at += tensor.numel()
    path = folder / "views.pt"
    torch.save(views, path)
    yield path, state
    for type in [torch.float16, torch.bfloat16]:
        path = folder / f"{type}.pt"
        torch.save({name: tensor.to(type) for name, tensor in state.items()}, path)
        yield path, {name: tensor.to(type).float() for name, tensor in state.items()}
    path = folder / "file.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    yield path, state
    path = folder / "numpy"
    path.mkdir()
    for name, tensor in views.items():
        numpy.save(path / f"model_{name}.npy", tensor.numpy())
    (path / "info.json").write_text(json.dumps({"model": {name: f"model_{name}.npy" for name in state}}))
    yield path, state


def run(*arguments):
    return subprocess.run([feedback, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


for variant, shared in [("shared", True), ("per-layer", False)]:
    model = make(shared)
    optimizer = train(model)
    state = model.state_dict()
    checked = 0
    for path, expected in forms(state, optimizer, work / variant):
        folder = work / variant / f"{path.stem}.model"
        run("import", "labml", path, "--text", text_file, "--output", folder)
        tensors = load_file(folder / "model.safetensors")
        assert set(tensors) == set(expected)
        assert all(torch.equal(tensors[name], expected[name]) for name in expected), path
        checked += 1

    # `verify` compares logits, every gradient and five steps with those that PyTorch has of the same model.
    folder = work / variant / "zip.model"
    shape = (48, 3)
    inputs, targets = (tokens[s : s + 144].reshape(shape[::-1]).t().contiguous() for s in [0, 1])
    learner = make(shared)
    learner.load_state_dict(state)
    steps = torch.optim.Adam(learner.parameters(), lr=1e-3)
    losses, fixture = [], {f"weights.{name}": tensor.clone() for name, tensor in state.items()}
    for step in range(5):
        steps.zero_grad()
        result = logits(learner, inputs)
        loss = nn.functional.cross_entropy(result.flatten(0, 1), targets.flatten())
        loss.backward()
        losses.append(loss.detach())
        if step == 0:
            fixture |= {"logits": result.detach().clone(), "loss": loss.detach().reshape(1)}
            fixture |= {f"grads.{name}": value.grad.clone() for name, value in learner.named_parameters()}
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        steps.step()
    fixture |= {"inputs": inputs.int(), "targets": targets.int(), "adam_losses": torch.stack(losses)}
    metadata = {
        "memory": "feedback", "key_value": variant, "layers": layers, "d_model": d_model, "heads": heads, "d_ff": d_ff,
        "vocab": len(characters), "positions": 4096, "adam_lr": 1e-3, "grad_clip": 1.0,
    }
    path = work / variant / "fixture.safetensors"
    tensors = load_file(folder / "model.safetensors")
    fixture |= {f"weights.{name}": tensor for name, tensor in tensors.items()}
    save_file({name: value.contiguous() for name, value in fixture.items()}, path, {k: str(v) for k, v in metadata.items()})
    results = json.loads(run("verify", path, "--json"))
    error = next(entry["error"] for entry in results["tensors"] if entry["name"] == "logits")
    assert results["passed"] and error <= 1e-4

    # Greedy: of the text so far, each character is labml's likeliest.
    prompt = text[:8]
    greedy = run("generate", folder, "--prompt", prompt, "--max-tokens", 500, "--temperature", 0)[:500]
    sequence = torch.tensor([characters.index(character) for character in prompt + greedy])
    with torch.no_grad():
        likeliest = logits(model, sequence[:, None])[:, 0].argmax(1)
    assert len(greedy) == 500 and torch.equal(likeliest[len(prompt) - 1 : -1], sequence[len(prompt) :])

    exported = work / variant / "exported.pth"
    run("export", folder, "--format", "labml", "--output", exported)
    back = torch.load(exported, weights_only=True)
    assert list(back) and set(back) == set(state) and all(torch.equal(back[name], state[name]) for name in state)
    again = make(shared)
    again.load_state_dict(back)
    assert torch.equal(logits(again, inputs), logits(model, inputs))
    print(f"labml, {variant}: {checked} forms agree, logits to {error:.1e}, 500 characters, and back with equal bits")
