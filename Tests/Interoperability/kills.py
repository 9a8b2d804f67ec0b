"""Kills a training run at random moments: what does the history know then? kills.py FEEDBACK FOLDER [KILLS]

Needs a text at FOLDER/text.txt. After every kill the database must be whole, and lack no more than the last second's steps.
"""
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

feedback, work = sys.argv[1:3]
kills = int(sys.argv[3]) if len(sys.argv) > 3 else 20
store = f"{work}/killed.sqlite"
settings = ["--data", f"{work}/text.txt", "--layers", "1", "--d-model", "32", "--heads", "2", "--d-ff", "64", "--quiet"]
settings += ["--steps", "1000000", "--eval-interval", "50", "--sample-interval", "80", "--checkpoint-interval", "40"]
chance = random.Random(1)
lost = []
for kill in range(kills):
    # Every run but the first of four goes on where the last one was killed.
    name = f"{work}/killed-{kill // 4}"
    saved = os.path.isdir(f"{name}/checkpoints") and any(
        entry.startswith("step-") for entry in os.listdir(f"{name}/checkpoints"))
    if os.path.isdir(name) and not saved:
        name += f"-{kill}"
    begin = ["--resume", name, "--runs", store] if saved else [*settings, "--output", name, "--runs", store]
    started = time.time()
    process = subprocess.Popen([feedback, "train", *begin], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(chance.uniform(0.05, 1.8))
    assert process.poll() is None, f"kill {kill}: the run has ended by itself"
    process.send_signal(signal.SIGKILL)
    killed = time.time()
    process.wait()

    if not os.path.exists(store):
        continue
    database = sqlite3.connect(store)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)], f"kill {kill}"
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'steps'").fetchone():
        continue
    # What this process has written; there is nothing yet where it was killed in its first half second.
    (last,) = database.execute("SELECT max(time) FROM steps WHERE time > ?", (started,)).fetchone()
    database.close()
    if last is not None:
        lost.append(killed - last)
assert lost and max(lost) < 1, f"{max(lost):.2f} s were lost"
listed = subprocess.run([feedback, "runs", "list", "--runs", store], capture_output=True, text=True, check=True).stdout
assert "crashed" in listed and "running" not in listed, listed
print(f"{kills} kills: the history is whole, and lacks at most {max(lost):.2f} s of steps")
