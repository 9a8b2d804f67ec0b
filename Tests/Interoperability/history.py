"""TensorBoard's own loader, SQLite, CSV and JSON Lines tell the same of a run that was stopped and went on."""
import csv
import glob
import json
import sqlite3
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

work = sys.argv[1]
database = sqlite3.connect(f"{work}/runs.sqlite")
assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
(run,) = database.execute("SELECT id FROM runs WHERE name = 'run'").fetchone()


def table(name, *columns):
    return database.execute(f"SELECT {', '.join(columns)} FROM {name} WHERE run = ? ORDER BY step", (run,)).fetchall()


steps = table("steps", "step", "loss", "learningRate", "gradientNorm")
validations = table("validations", "step", "loss")
samples = table("samples", "step", "text")
assert [step for step, *_ in steps] == list(range(1, len(steps) + 1)) and validations and samples

rows = list(csv.DictReader(open(f"{work}/run.csv")))
assert [
    (int(row["step"]), float(row["loss"]), float(row["learning_rate"]), float(row["gradient_norm"])) for row in rows
] == steps
assert [(int(row["step"]), float(row["validation_loss"])) for row in rows if row["validation_loss"]] == validations

lines = [json.loads(line) for line in open(f"{work}/run.jsonl")]
assert [
    (line["step"], line["loss"], line["learningRate"], line["gradientNorm"]) for line in lines if line["kind"] == "step"
] == steps
assert [(line["step"], line["text"]) for line in lines if line["kind"] == "sample"] == samples

assert len(glob.glob(f"{work}/board/run/events.out.tfevents.*")) == 2
board = EventAccumulator(f"{work}/board/run", size_guidance={"scalars": 0, "tensors": 0}).Reload()


def single(number):
    return struct.unpack("f", struct.pack("f", number))[0]


for tag, expected in [
    ("loss/training", [(step, loss) for step, loss, _, _ in steps]),
    ("learning rate", [(step, rate) for step, _, rate, _ in steps]),
    ("gradient norm", [(step, norm) for step, _, _, norm in steps]), ("loss/validation", validations),
]:
    assert [(event.step, event.value) for event in board.Scalars(tag)] == [
        (step, single(value)) for step, value in expected], tag
assert [(event.step, event.tensor_proto.string_val[0].decode()) for event in board.Tensors("sample")] == samples
print(f"history: {len(steps)} steps, {len(validations)} validations and {len(samples)} samples agree, TensorBoard's too")
