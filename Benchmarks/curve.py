"""Draws the loss of training runs: python Benchmarks/curve.py RUN... --output picture.png (needs matplotlib)."""
import argparse
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("runs", nargs="+", type=pathlib.Path)
parser.add_argument("--output", type=pathlib.Path, required=True)
arguments = parser.parse_args()

figure, axes = plt.subplots(figsize=(7, 3.6), dpi=130)
for index, run in enumerate(arguments.runs):
    lines = [json.loads(line) for line in open(run / "metrics.jsonl")]
    steps = [line for line in lines if "loss" in line]
    smooth, mean = [], steps[0]["loss"]
    for count, line in enumerate(steps, start=1):
        mean += max(0.03, 2 / (count + 1)) * (line["loss"] - mean)
        smooth.append(mean)
    color = f"C{index}"
    axes.plot([line["step"] for line in steps], [line["loss"] for line in steps], color=color, alpha=0.15, linewidth=0.6)
    axes.plot([line["step"] for line in steps], smooth, color=color, linewidth=1.2, label=f"{run.name}, training")
    checks = [line for line in lines if "validation" in line]
    axes.plot(
        [line["step"] for line in checks], [line["validation"]["loss"] for line in checks], "o-", color=color,
        markersize=3.5, linewidth=0.8, label=f"{run.name}, validation")
axes.set(xlabel="step", ylabel="loss, nats per character", ylim=(1.2, 3.2))
axes.grid(alpha=0.25)
axes.legend(frameon=False, fontsize=8)
figure.tight_layout()
figure.savefig(arguments.output)
