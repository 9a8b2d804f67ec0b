"""Turns Benchmarks/results.jsonl into Benchmarks/RESULTS.md and its pictures."""
import importlib.metadata
import json
import pathlib
import platform
import re
import statistics
import subprocess

import contestants
import pictures

NEWEST = 5  # runs of each that count
QUIET = 0.25  # of a core: a run with more taken by others counts for nobody


def load(path):
    """The newest quiet runs of every case, {part: {case: [record]}}, and how many runs were not quiet."""
    parts, disturbed = {}, 0
    for line in open(path):
        record = json.loads(line)
        if record["others"] > QUIET:
            disturbed += 1
            continue
        # Peers are also run on fewer threads in generation; those are runs of their own.
        case = tuple(record["case"]) + ((threads(record),) if record["part"] == "generation" else ())
        parts.setdefault(record["part"], {}).setdefault(case, []).append(record)
    return {part: {case: runs[-NEWEST:] for case, runs in cases.items()} for part, cases in parts.items()}, disturbed


def threads(record):
    return int(re.search(r"--threads (\d+)", record["command"])[1])


def rates(runs):
    return [run["result"]["tokensPerSecond"] for run in runs]


def middle(runs, key="tokensPerSecond"):
    return statistics.median(run["result"][key] for run in runs)


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(header, rows):
    return "\n".join(["| " + " | ".join(header) + " |", "|" + "---|" * len(header)] + ["| " + " | ".join(row) + " |" for row in rows])


def fastest(cases):
    """Of a contestant measured with several numbers of threads, the fastest: {case without threads: runs}."""
    best = {}
    for case, runs in cases.items():
        if case[:3] not in best or middle(runs) > middle(best[case[:3]]):
            best[case[:3]] = runs
    return best


def comparison(cases, preset, peers):
    """One table: tokens/s, the spread of the runs, how many times each peer's rate, and the machine's limit."""
    mine = {case: runs for case, runs in cases.items() if case[0] == preset}
    rows = []
    for (_, name, precision), runs in sorted(mine.items(), key=lambda item: -middle(item[1])):
        row = [name, precision, number(middle(runs)), f"{number(min(rates(runs)))} – {number(max(rates(runs)))}", str(len(runs)), str(threads(runs[0]))]
        for peer in peers:
            other = [r for (_, n, p), r in mine.items() if n == peer and (p == "float32" or precision != "float32")]
            row.append(f"{middle(runs) / max(map(middle, other)):.3g}×" if other and name != peer else "")
        own = "utilization" in runs[0]["result"]
        row.append(f"{middle(runs, 'utilization'):.2f} of {number(middle(runs, 'limitTokensPerSecond'))}" if own else "")
        row.append(f"{middle(runs, 'peakMemoryBytes') / 2**30:.2f}")
        rows.append(row)
    header = ["", "precision", "tokens/s", "runs from – to", "runs", "threads"]
    return table(header + [f"× {peer}" for peer in peers] + ["of the machine's limit", "peak GiB"], rows)


def commands(cases):
    return "\n".join(
        f"- {', '.join(map(str, case[:3]))}: `{runs[-1]['command']}`" for case, runs in cases.items())


def versions(records):
    found = []
    for package in ["torch", "labml-nn", "feedback-transformer-pytorch", "transformers"]:
        found.append(f"{package} {importlib.metadata.version(package)}")
    swift = subprocess.run(["swift", "--version"], capture_output=True, text=True).stdout
    match = re.search(r"Swift version (\S+)", swift)
    return ", ".join(
        [f"this project at {' and '.join(dict.fromkeys(r['version'] for r in records))}", f"Swift {match[1] if match else '?'}", f"Python {platform.python_version()}"] + found)


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.*)", info)[1]
    flags = re.search(r"flags\s*:\s*(.*)", info)[1].split()
    vector = [flag for flag in ["avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16"] if flag in flags]
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 2**20
    return f"{model}, {info.count('processor	')} cores ({', '.join(vector)}), {memory:.0f} GiB, {platform.system()} {platform.release()}"


INTRODUCTION = """# Results

Made by `Benchmarks/run.sh` from [results.jsonl](results.jsonl). Every run is a process of its own: warm-up, then timed
steps, of which the median counts. Runs of the contestants alternate; a figure is the median of its newest runs, {newest} at most.
PyTorch's peers run eagerly, with a fused optimizer; the parallel transformer (pre-norm, ReLU) also with fused attention.
Ratios are to a peer's float32, or from a narrower precision to the fastest that the peer has in any. lucidrains' feed-forward is gated, which makes its model larger: 12 instead of 8 D² a layer.

- Machine: {machine}
- Versions: {versions}
- Measured: {first} to {last}. Load average before a run {load}; other processes, and the host, took {others} of a core
  during a run in the median, {most} at most; runs with more than {quiet} are left out, for everyone: {disturbed} so far.
"""


def write(path):
    parts, disturbed = load(path)
    records = [record for cases in parts.values() for runs in cases.values() for record in runs]
    loads, others = [r["loadBefore"] for r in records], [r["others"] for r in records]
    text = [INTRODUCTION.format(
        newest=NEWEST, machine=machine(), versions=versions(records), first=min(r["date"] for r in records),
        last=max(r["date"] for r in records), load=f"{min(loads):.2f} to {max(loads):.2f}",
        others=f"{statistics.median(others):.2f}", most=f"{max(others):.2f}",
        disturbed=disturbed, quiet=QUIET)]
    for part, title, peers in [
        ("training", "Training: forward, loss, backward, clipping, Adam", ["labml", "PyTorch, parallel"]),
        ("generation", "Generation: one sequence, 128 tokens in memory", ["labml", "lucidrains", "Hugging Face GPT-2"]),
    ]:
        if part not in parts:
            continue
        cases = fastest(parts[part])
        text.append(f"## {title}\n\n![{title}]({part}.png)\n")
        for preset in [preset for preset in contestants.SIZES if any(case[0] == preset for case in cases)]:
            size = ", ".join(f"{name} {value}" for name, value in contestants.SIZES[preset].items())
            text.append(f"`{preset}` ({size}):\n\n{comparison(cases, preset, peers)}\n")
        text.append(f"<details><summary>Commands</summary>\n\n{commands(cases)}\n\n</details>\n")
        pictures.bars(cases, path.parent / f"{part}.png")
    if "scaling" in parts:
        cases = parts["scaling"]
        rows = [
            [case[0], str(case[1]), case[2], number(middle(runs)), f"{middle(runs, 'utilization'):.2f}",
             f"{1e6 / middle(runs):.3g}", f"{middle(runs, 'peakMemoryBytes') / 2**30:.2f}"]
            for case, runs in sorted(cases.items(), key=lambda item: (list(contestants.SCALING).index(item[0][0]), item[0][2], item[0][1]))
        ]
        text.append("## How cost grows\n\n![How cost grows](scaling.png)\n\nFrom `nanogpt-cpu`, one setting changed at a time (the sequence length with B = 8).\n")
        text.append(table(["setting", "value", "precision", "tokens/s", "utilization", "µs a token", "peak GiB"], rows) + "\n")
        text.append(f"<details><summary>Commands</summary>\n\n{commands(cases)}\n\n</details>\n")
        pictures.curves(cases, path.parent / "scaling.png")
    (path.parent / "RESULTS.md").write_text("\n".join(text))
    print(f"wrote {path.parent / 'RESULTS.md'}")
