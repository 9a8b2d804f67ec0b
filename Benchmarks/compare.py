"""Compares ways to train: validation loss, or accuracy, against training time; a table and a picture (needs matplotlib).

    python Benchmarks/compare.py --output picture.png "feedback=runs/a-1,runs/a-2" "parallel, then feedback=runs/p-1+runs/f-1"

A way is its name and its runs, one a seed; a run that began with another's model (--init) follows it after a +. Time is
that of the training steps, without validation.
"""
import argparse
import itertools
import json
import pathlib
import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def validations(runs):
    """(seconds of training, validation loss, accuracy) of runs that follow each other, and all their steps."""
    seconds, steps, found = 0.0, 0, []
    for line in itertools.chain.from_iterable(open(run / "metrics.jsonl") for run in runs):
        record = json.loads(line)
        if "loss" in record:
            seconds, steps = seconds + record["seconds"], steps + 1
        elif "validation" in record:
            found.append((seconds, record["validation"]["loss"], record["validation"]["accuracy"]))
    return found, steps


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("ways", nargs="+", metavar="NAME=RUN[+RUN],…")
parser.add_argument("--output", type=pathlib.Path, required=True)
parser.add_argument("--accuracy", action="store_true", help="draw accuracy instead of loss")
arguments = parser.parse_args()

figure, axes = plt.subplots(figsize=(7, 3.8), dpi=130)
print("| | validation loss | of each run | accuracy | seconds of training | steps |\n|---|---|---|---|---|---|")
for index, way in enumerate(arguments.ways):
    name, runs = way.split("=")
    curves = [validations(map(pathlib.Path, run.split("+"))) for run in runs.split(",")]
    for number, (points, _) in enumerate(curves):
        axes.plot(
            [seconds for seconds, _, _ in points],
            [100 * accuracy if arguments.accuracy else loss for _, loss, accuracy in points], ".-", color=f"C{index}",
            linewidth=1, markersize=4, alpha=0.75, label=None if number else name)
    ends = [points[-1] for points, _ in curves]
    losses = ", ".join(f"{loss:.4f}" for _, loss, _ in ends)
    print(
        f"| {name} | {statistics.median(loss for _, loss, _ in ends):.4f} | {losses} "
        f"| {100 * statistics.median(accuracy for _, _, accuracy in ends):.1f} % "
        f"| {statistics.median(seconds for seconds, _, _ in ends):.0f} "
        f"| {statistics.median(steps for _, steps in curves):,.0f} |")
axes.set(
    xlabel="seconds of training", ylabel="validation accuracy, %" if arguments.accuracy else "validation loss, nats")
axes.grid(alpha=0.25)
axes.legend(frameon=False, fontsize=8)
figure.tight_layout()
figure.savefig(arguments.output)
