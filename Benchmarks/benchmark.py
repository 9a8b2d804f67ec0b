"""Measures this project and its peers in turn on this machine.

    Benchmarks/run.sh [--quick] [training | generation | scaling | report] …

Every run is a process of its own: warm-up, then timed steps. A round runs everyone once; rounds are repeated. What
comes out is appended to Benchmarks/results.jsonl, from which Benchmarks/RESULTS.md and its pictures are made.
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import time

import contestants
import report


def busy():
    """Seconds that all processors together have been busy, or taken away by the host."""
    values = [int(word) for word in open("/proc/stat").readline().split()[1:9]]
    idle = values[3] + values[4]
    return (sum(values) - idle) / os.sysconf("SC_CLK_TCK")


def own():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def version():
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=contestants.ROOT, capture_output=True, text=True).stdout.strip()


def measure(record, command, output):
    """Runs a command, adds what it reports to the record, and appends that to the results."""
    print(" ".join([record["part"], *map(str, record["case"])]), end=" … ", flush=True)
    before, busy_before, own_before, start = os.getloadavg()[0], busy(), own(), time.time()
    result = subprocess.run(command, cwd=contestants.ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        print("left out:", (result.stderr.strip().splitlines() or ["no message"])[-1])
        return
    found = json.loads(result.stdout.strip().splitlines()[-1])
    if "tokensPerSecond" not in found:
        found["tokensPerSecond"] = found["tokens"] / statistics.median(found.pop("seconds"))
    wall = time.time() - start
    # Processors that were busy with something else meanwhile.
    others = max(0, (busy() - busy_before - own() + own_before) / wall)
    record |= {
        "version": version(), "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "command": " ".join(["python" if word == contestants.sys.executable else word for word in command]),
        "loadBefore": before, "loadAfter": os.getloadavg()[0], "others": round(others, 2), "result": found,
    }
    with open(output, "a") as file:
        file.write(json.dumps(record) + "\n")
    print(f"{found['tokensPerSecond']:,.5g} tokens/s, others busy {others:.2f}")


def cases(arguments, part):
    threads, presets = arguments.threads, ["nanogpt-cpu"] if arguments.quick else arguments.preset
    if part == "scaling":
        for setting, value, precision, command in contestants.scaling(threads, arguments.quick):
            yield [setting, value, precision], command
        return
    for preset in presets:
        for name, precision, command in getattr(contestants, part)(preset, threads):
            yield [preset, name, precision], command


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="training, generation, scaling, report; all by default")
    parser.add_argument("--preset", action="append", choices=list(contestants.SIZES), help="both by default")
    parser.add_argument("--rounds", type=int, help="how often everyone is run: 3 by default, 1 if quick, 1 for scaling")
    parser.add_argument("--only", default="", help="a regular expression of preset, name and precision")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one round, small sizes: a few minutes")
    parser.add_argument("--results", type=pathlib.Path, default=contestants.ROOT / "Benchmarks/results.jsonl")
    arguments = parser.parse_args()
    arguments.preset = arguments.preset or list(contestants.SIZES)
    for part in arguments.parts or ["training", "generation", "scaling", "report"]:
        if part == "report":
            report.write(arguments.results)
            continue
        if part not in ["training", "generation", "scaling"]:
            parser.error(f"there is no part {part}")
        for _ in range(arguments.rounds or (1 if arguments.quick or part == "scaling" else 3)):
            for case, command in cases(arguments, part):
                if re.search(arguments.only, " ".join(map(str, case))):
                    measure({"part": part, "case": case, "threads": arguments.threads}, command, arguments.results)


if __name__ == "__main__":
    main()
