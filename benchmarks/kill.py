"""Kill runs at random moments and resume them until they are done: does each equal, bit for bit, one never stopped?

`python -m benchmarks.kill --times 50`, about three minutes; it exits 1 if any run differs. Half of the kills are aimed at
a save. It compares each step's vectors and record (without its seconds) and the word, after each kill and at the end.
It needs fork, and torch's CPU build: a build for GPUs can't train in a forked process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUTSIDE = ("before the first", "between saves")  # kills that hit no save


def summary(runs: list[dict], seconds: float) -> str:
    """Kills by place, resumes, and how many runs came out equal."""
    places = Counter(place for run in runs for place in run["killed"])
    during_save = {place: count for place, count in places.most_common() if place not in OUTSIDE}
    equal = sum(not run["wrong"] for run in runs)
    return "\n".join(
        (
            f"killed: {places.total()} times",
            f"  while a save was going on: {sum(during_save.values())} ({', '.join(f'{k} {v}' for k, v in during_save.items())})",
            f"  between saves: {places['between saves']}",
            f"  before a process's first save: {places['before the first']}",
            f"resumed: {sum(run['resumed'] for run in runs)} times",
            f"equal: {equal} of {len(runs)} ({seconds:.0f} s)",
        )
    )


def main() -> None:
    """Kill and resume the runs, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50, help="runs to kill until they are done")
    parser.add_argument("--steps", type=int, default=40, help="steps of each run")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    runs: list[dict] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--times", str(options.times), "--steps", str(options.steps), "--seed", str(options.seed)]
        command = [sys.executable, "-m", "tests.killed", "kill", folder, *arguments]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                run = json.loads(line)
                runs.append(run)
                outcome = f"NOT EQUAL: {run['wrong']}" if run["wrong"] else "equal"
                places = ", ".join(run["killed"]) or "never"
                print(f"{len(runs)} of {options.times}: {outcome}; killed: {places}", flush=True)
    print(summary(runs, time.monotonic() - began))
    if process.returncode or len(runs) < options.times or any(run["wrong"] for run in runs):
        sys.exit(1)


if __name__ == "__main__":
    main()
