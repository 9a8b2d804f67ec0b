"""Kills a random rank of a training run at random moments: kills.py FEEDBACK FOLDER [KILLS]

After every kill all ranks must end within ten seconds, and the run must go on from its newest checkpoint, on another number
of ranks; what it ends with are the bytes of a run that nobody disturbed.
"""
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import time

feedback, work = os.path.realpath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
kills = int(sys.argv[3]) if len(sys.argv) > 3 else 100
mpirun = os.environ.get("MPIRUN", "mpirun")
os.environ |= {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none", "FEEDBACK_RUNS": f"{work}/runs.sqlite",
}
(work / "text.txt").write_text("".join(f"{i} times {i} is {i * i}\n" for i in range(1, 2000)))
# Twelve threads in all, as many as two, three or four ranks can share alike.
settings = ["--data", f"{work}/text.txt", "--layers", "1", "--d-model", "32", "--heads", "2", "--d-ff", "64"]
settings += ["--sequence-length", "8", "--batch-size", "12", "--dropout", "0.1", "--steps", "120"]
settings += ["--checkpoint-interval", "10", "--eval-interval", "30", "--sample-interval", "60", "--keep", "2"]
last = "checkpoints/step-00000120"


def start(ranks, name, log):
    begin = ["--resume", name] if newest(name) else [*settings, "--output", name]
    return subprocess.Popen(
        [mpirun, "-n", str(ranks), feedback, "train", *begin, "--threads", str(12 // ranks)], stdout=log, stderr=log)


def newest(name):
    steps = sorted(pathlib.Path(name, "checkpoints").glob("step-*"))
    return int(steps[-1].name[5:]) if steps else 0


def processes(name):
    """Of this run: those of mpirun, and the ranks."""
    found = {}
    for entry in os.listdir("/proc"):
        try:
            arguments = open(f"/proc/{entry}/cmdline").read().split("\0") if entry.isdigit() else []
        except OSError:
            continue
        if name in arguments:
            found[int(entry)] = arguments[0] == feedback
    return found


def check(name):
    for file in ["model.safetensors", "optimizer.safetensors"]:
        one, other = (pathlib.Path(run, last, file).read_bytes() for run in (f"{work}/whole", name))
        assert one == other, f"{name} ends with another {file} than a run that nobody disturbed"


with open(work / "log", "w") as log:
    assert start(1, f"{work}/whole", log).wait() == 0, (work / "log").read_text()
chance, run, killed, times = random.Random(1), 0, 0, []
name = f"{work}/run-0"
while True:
    ranks, before = chance.choice([2, 3, 4]), newest(name)
    with open(work / "log", "w+") as log:
        process = start(ranks, name, log)
        if killed < kills:
            time.sleep(chance.uniform(0.1, 4))
            victims = [one for one, is_rank in processes(name).items() if is_rank]
            if victims and process.poll() is None:
                os.kill(chance.choice(victims), signal.SIGKILL)
                at = time.time()
                while processes(name) or process.poll() is None:
                    assert time.time() - at < 10, f"kill {killed}: {processes(name)} are still there"
                    time.sleep(0.02)
                times.append(time.time() - at)
                killed += 1
        status = process.wait()
        said = (work / "log").read_text()
    # One that is killed at its very end has come to it.
    assert status != 0 or newest(name) == 120, said
    assert newest(name) >= before and "damaged" not in said, said
    assert not before or f"going on from step {before}\n" in said or status != 0 or before == 120, said
    if newest(name) == 120:
        check(name)
        if killed == kills:
            break
        run += 1
        name = f"{work}/run-{run}"
print(f"{kills} kills of {run + 1} runs: all ranks ended within {max(times):.1f} s, {statistics.median(times):.1f} in the "
      "median; every run went on, to the bytes of one undisturbed")
