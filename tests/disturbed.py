"""Runs that are disturbed: by another process that writes to the same folder, by two interrupts, by the end of their kernel.

`python -m tests.disturbed two --times 50`, `... interrupts --times 100`, `... kernels --times 20`: prints a JSON object for each
time, and exits 1 if any went wrong. The suite does a few of each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import ti_nb as ti

from .killed import difference, in_a_child, made_ready, steps_in, train, without_seconds

SHORT = dict(steps=6, watch=0, negative=0, batch=1)
LONG = dict(steps=100_000, save_every=1_000, watch=0, negative=0, batch=1)


MEETINGS = ("at once", "after the first finished", "after the first was killed", "beside")


def two(model: ti.Model, folder: Path, *, times: int, seed: int) -> Iterator[dict[str, Any]]:
    """Two processes train the same run, or runs of two seeds, in one folder: at once, one after the other, or one beside."""
    draw, began = random.Random(seed), time.monotonic()
    for number in range(2):  # each in a child: where torch has threads for a GPU, who trained can't fork others that do
        end(*begin(model, folder / f"whole-{number}", number))
    whole = [ti.read_run(folder / f"whole-{number}") for number in range(2)]
    seconds = (time.monotonic() - began) / 2
    for number in range(times):
        out, seeds, way = folder / f"round-{number}", [0, draw.randint(0, 1)], MEETINGS[number % len(MEETINGS)]
        delay = draw.choice([0.01, 0.1, 1]) * draw.random()
        first = begin(model, out, seeds[0])
        if way == "after the first was killed":
            time.sleep(draw.random() * seconds)
            os.kill(first[0], signal.SIGKILL)
        if way.startswith("after"):
            ends = [end(*first), end(*begin(model, out, seeds[1], delay))]
        else:
            second = begin(model, out, seeds[1], delay, resume="beside" if way == "beside" else "auto")
            ends = [end(*first), end(*second)]
        wrong = wrong_with(out, way, whole, seeds, ends)
        yield {"way": way, "seeds": seeds, "delay": round(delay, 3), "ends": ends, "wrong": wrong}


def begin(model: ti.Model, out: Path, seed: int, delay: float = 0, resume: str = "auto") -> tuple[int, int]:
    """A process that trains there, or says why not."""

    def work(say: Callable[[str], None]) -> None:
        time.sleep(delay)
        try:
            list(train(model, out, seed=seed, resume=resume, **SHORT))
            say("finished")
        except ValueError as error:
            say(str(error))

    return in_a_child(work)


def end(child: int, read: int) -> tuple[int, str]:
    """Its exit code, and what it said."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = os.read(read, 4096).decode().strip()
    os.close(read)
    return code, said


def wrong_with(out: Path, way: str, whole: list[ti.SavedRun], seeds: list[int], ends: list[tuple[int, str]]) -> str:
    """Each is finished, killed, or refused in words where it may be; each folder holds a run as if it had been alone."""
    killed = ends[0][0] == -signal.SIGKILL
    finished = {seed for seed, (_, said) in zip(seeds, ends) if said == "finished"}
    if ends[1][0] or (ends[0][0] and not (killed and way == MEETINGS[2])):
        return "an exit code"
    if not all(said == "finished" or out.name in said for code, said in ends if code == 0):
        return "refused in other words"
    alike = way.startswith("after") and seeds[0] == seeds[1]
    must = set(seeds) if way == "beside" or alike else set()
    if not must <= finished or not (finished or killed):
        return "refused without need"
    kept = [ti.read_run(path) for path in (out, *out.parent.glob(f"{out.name}-*")) if steps_in(path)]
    if not all(is_part(run, whole[run.settings["seed"]]) for run in kept):
        return "another run"
    there = {run.settings["seed"] for run in kept if len(run.records) == SHORT["steps"]}
    return "" if finished <= there else "a run that finished is gone"


def is_part(run: ti.SavedRun, whole: ti.SavedRun) -> bool:
    """Whether it is bit for bit the first steps of the other."""
    steps = len(run.records)
    same = without_seconds(run.records) == without_seconds(whole.records[:steps])
    return same and all(torch.equal(rows, whole.history[key][:steps]) for key, rows in run.history.items())


# Interrupted twice.


def interrupts(model: ti.Model, folder: Path, *, times: int, seed: int) -> Iterator[dict[str, Any]]:
    """Ctrl-C twice at moments that nobody chose, until the run is done, and another run, until it came so often."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process is born deaf to it
    whole = train(model, steps=30)
    list(whole)
    draw, came = random.Random(seed), 0
    for number in itertools.count():
        if came >= times:
            return
        out, here = folder / str(number), 0
        run = train(model, out, steps=30)
        wrong, longest = "", 0.05
        while not run.finished:
            before = len(run.records)
            with pressed_twice(draw, longest) as presses:
                for _ in run:
                    pass
            here += len(presses) == 2
            if len(run.records) == before:
                longest *= 1.2  # where a step takes longer than that, none would ever be done
            if {len(rows) for rows in run.history.values()} != {len(run.records)}:
                wrong = f"{len(run.records)} records, other history"
        came += here
        yield {"twice": here, "wrong": wrong or difference(out, whole)}


class pressed_twice:
    """Within the block Ctrl-C is pressed twice, first within `longest` seconds of this process's own time; that ends it, and only it."""

    def __init__(self, draw: random.Random, longest: float) -> None:
        self._first, self._then = (
            draw.uniform(0.0005, longest),
            draw.choice([0.0001, 0.001, 0.01]) * draw.uniform(0.1, 1),
        )
        self.presses: list[int] = []

    def __enter__(self) -> list[int]:
        self._before = signal.signal(signal.SIGVTALRM, self._press)
        signal.setitimer(signal.ITIMER_VIRTUAL, self._first, self._then)
        return self.presses

    def _press(self, *_: object) -> None:
        self.presses.append(1)
        if len(self.presses) == 2:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.raise_signal(signal.SIGINT)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        try:
            while len(self.presses) == 1:
                pass  # the second comes after what the first ended
        except KeyboardInterrupt:
            pass
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, self._before)
        return kind is None or issubclass(kind, KeyboardInterrupt)


# Kernels and programs that end while a panel trains.

BEGIN = """
import sys, time, torch
from pathlib import Path
torch.set_num_threads(1)
from tests.disturbed import LONG
from tests.killed import smallest, train
run = train(smallest(), Path({out!r}), **LONG)
panel = run.panel(every={every}, seeds=1, draw={{"steps": 2}}, background=True)
panel.start()
while len(run.records) < {steps}: time.sleep(0.01)
"""
WAYS = ("shut down", "exit()", "interrupted and shut down")


def kernels(model: ti.Model, folder: Path, *, times: int, seed: int) -> Iterator[dict[str, Any]]:
    """A kernel is shut down, or told to exit, in the middle of a run, or while a preview is drawn."""
    draw = random.Random(seed)
    for number in range(times):
        out, way = folder / str(number), WAYS[number % len(WAYS)]
        steps, every = draw.randint(1, 60), draw.choice([0, 7])
        code, seen = end_a_kernel(BEGIN.format(out=str(out), steps=steps, every=every), way)
        yield {"way": way, "code": code, "steps": seen, "wrong": wrong_after_the_end(model, out, code, seen)}


def end_a_kernel(code: str, way: str) -> tuple[int, int]:
    """Its exit code, and how many steps were done when it was told to end."""
    from .kernels import LIMIT, Kernel

    with Kernel() as kernel:
        kernel.manager.shutdown_wait_time = LIMIT
        kernel.run(code)
        process = kernel.manager.provisioner.process
        seen = int(kernel.value("len(run.records)"))
        if way.startswith("interrupted"):
            kernel.manager.interrupt_kernel()
        if way == "exit()":
            kernel.begin("exit()")
            process.wait()
        else:
            kernel.manager.shutdown_kernel(now=False)
        return int(process.wait()), seen


def wrong_after_the_end(model: ti.Model, out: Path, code: int, seen: int) -> str:
    """What was done is there, all of it, and as it is in a run that nobody ended."""
    if code != 0:
        return f"exit code {code}"
    saved = ti.read_run(out)
    if len(saved.records) < seen:
        return f"{len(saved.records)} steps of {seen}"
    whole = train(model, **LONG)
    for _ in saved.records:
        next(whole)
    return difference(out, whole)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", choices=["two", "interrupts", "kernels"])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args(arguments)
    model, wrong = made_ready(), False
    with tempfile.TemporaryDirectory() as folder:
        ways = {"two": two, "interrupts": interrupts, "kernels": kernels}
        for line in ways[options.how](model, Path(folder), times=options.times, seed=options.seed):
            print(json.dumps(line), flush=True)
            wrong |= bool(line["wrong"])
    sys.exit(wrong)


if __name__ == "__main__":
    main()
