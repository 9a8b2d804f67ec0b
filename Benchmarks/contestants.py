"""Who is measured, in which sizes, with which command."""
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FEEDBACK = ".build/release/feedback"
PEERS = "Benchmarks/peers.py"

SIZES = {
    "labml": {"d-model": 512, "heads": 8, "layers": 6, "d-ff": 2048, "length": 128, "batch-size": 64},
    "nanogpt-cpu": {"d-model": 128, "heads": 4, "layers": 4, "d-ff": 512, "length": 64, "batch-size": 12},
}
# Timed steps of one run, after warm-up: the slow ones need no more, and runs are repeated anyway.
STEPS = {"labml": {"labml": 1, "parallel": 2, "ours": 2}, "nanogpt-cpu": {"labml": 5, "parallel": 30, "ours": 100}}


def flags(settings):
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def peer(name, size, **more):
    return [sys.executable, PEERS, name, *flags(size), *flags({k.replace("_", "-"): v for k, v in more.items()})]


def ours(what, preset, threads, **more):
    more = {k.replace("_", "-"): v for k, v in more.items()}
    return [FEEDBACK, "benchmark", what, "--preset", preset, *flags(more), *flags({"threads": threads}), "--json"]


def training(preset, threads):
    size, steps = SIZES[preset], STEPS[preset]
    for precision in ["float32", "bfloat16"]:
        # Once without memories being fed back: the same code, wired as the ordinary transformer.
        for name, memory in [("feedback", "feedback"), ("feedback, per-layer memory", "per-layer")]:
            yield name, precision, ours(
                "train", preset, threads, memory=memory, precision=precision, steps=steps["ours"])
        for name, key in [("labml", "labml"), ("PyTorch, parallel", "parallel")]:
            yield name, precision, peer(
                f"{key}-training", size, precision=precision, threads=threads, steps=steps[key],
                warm_up=1 if preset == "labml" else 3)


def generation(preset, threads):
    size = SIZES[preset] | {"length": 128, "batch-size": 1}
    # One thread is sometimes faster; everyone's better figure counts.
    for count in sorted({1, threads}):
        for precision in ["float32", "bfloat16", "int8"]:
            yield "feedback", precision, ours(
                "generate", preset, count, memory_window=128, precision=precision, steps=10)
        yield "labml", "float32", peer("labml-generation", size, threads=count)
        yield "lucidrains", "float32", peer("lucidrains-generation", size, threads=count)
        for precision in ["float32", "bfloat16"]:
            yield "Hugging Face GPT-2", precision, peer("gpt2-generation", size, threads=count, precision=precision)


# How our cost grows: one setting at a time, from nanogpt-cpu.
SCALING = {
    "sequence-length": [64, 128, 256, 512, 1024, 2048],
    "batch-size": [1, 2, 4, 8, 16, 32, 64, 128, 256],
    "d-model": [64, 128, 256, 512, 1024],
    "layers": [1, 2, 4, 8, 16],
    "threads": [1, 2],
}


def scaling(threads, quick):
    for setting, values in SCALING.items():
        for value in values[:3] if quick else values:
            count, more = (value, {}) if setting == "threads" else (threads, {setting: value})
            if setting == "sequence-length":
                more["batch-size"] = 8
            if setting == "d-model":
                more |= {"heads": max(1, value // 32), "d-ff": 4 * value}
            for precision in ["float32", "bfloat16"]:
                command = [
                    FEEDBACK, "benchmark", "train", "--preset", "nanogpt-cpu", *flags(more),
                    *flags({"threads": count, "precision": precision, "steps": 5}), "--json",
                ]
                yield setting, value, precision, command
