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
    """(steps, seconds of training, validation loss, accuracy) of runs that follow each other."""
    seconds, steps, found = 0.0, 0, []
    for line in itertools.chain.from_iterable(open(run / "metrics.jsonl") for run in runs):
        record = json.loads(line)
        if "loss" in record:
            seconds, steps = seconds + record["seconds"], steps + 1
        elif "validation" in record:
            found.append((steps, seconds, record["validation"]["loss"], record["validation"]["accuracy"]))
    return found


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("ways", nargs="+", metavar="NAME=RUN[+RUN],…")
parser.add_argument("--output", type=pathlib.Path, required=True)
parser.add_argument("--by-step", action="store_true", help="draw over steps: where their times were disturbed")
parser.add_argument("--accuracy", action="store_true", help="draw accuracy instead of loss")
arguments = parser.parse_args()

figure, axes = plt.subplots(figsize=(7, 3.8), dpi=130)
print("| | validation loss | of each run | accuracy | seconds of training | steps |\n|---|---|---|---|---|---|")
for index, way in enumerate(arguments.ways):
    name, runs = way.split("=")
    curves = [validations(map(pathlib.Path, run.split("+"))) for run in runs.split(",")]
    for number, points in enumerate(curves):
        axes.plot(
            [steps if arguments.by_step else seconds for steps, seconds, _, _ in points],
            [100 * accuracy if arguments.accuracy else loss for _, _, loss, accuracy in points], ".-",
            color=f"C{index}", linewidth=1, markersize=4, alpha=0.75, label=None if number else name)
    steps, seconds, losses, accuracies = zip(*(points[-1] for points in curves))
    print(
        f"| {name} | {statistics.median(losses):.4f} | {', '.join(f'{loss:.4f}' for loss in losses)} "
        f"| {100 * statistics.median(accuracies):.1f} % | {statistics.median(seconds):.0f} | {statistics.median(steps):,.0f} |")
axes.set(
    xlabel="steps" if arguments.by_step else "seconds of training",
    ylabel="validation accuracy, %" if arguments.accuracy else "validation loss, nats")
axes.grid(alpha=0.25)
axes.legend(frameon=False, fontsize=8)
figure.tight_layout()
figure.savefig(arguments.output)
