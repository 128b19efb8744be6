"""Everything that users do on a GPU, checked and measured by one command of at most eight minutes.

`python -m benchmarks.gpu` needs a CUDA device, and no network: SD 1.5 and SDXL are built at full size with random
weights. It writes `gpu.md` after each check, goes on past one that fails, says what there was no time for, and ends with
status 1 if something failed. `--only` does the rows in which a regular expression is found; `--device cpu --size toy`
rehearses it all in this process, very small.

On a machine that has torch and transformers but no network, with wheels made where there is one (`make gpu-bundle`, or
`pip download --no-deps -d wheels diffusers`), in the folder of this repository:

    pip install --no-deps --no-index --find-links wheels diffusers
    python -m benchmarks.gpu
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
IMPORTED_AS = {"pillow": "PIL"}
NOT_NEEDED = ("ipywidgets", "matplotlib")  # panels and plots
LIMIT = 90.0  # seconds for one check, and for one row of the step table; a compiled one takes more
COMPILING = 150.0
CHECKS = (  # those of `gpu_checks`, which is too heavy to import before it is known what is missing
    "a word is learned",
    "gradient as in float32",
    "plan of memory",
    "two masked runs",
    "runs together",
    "preview beside attention",
    "out of memory",
    "resume",
)
BRIEF = CHECKS[:3]
SIZES = {"full": {"sd15": (512, 1024), "sdxl": (1024, 512)}, "toy": {"toy-sd15": (16, 32), "toy-sdxl": (16, 32)}}


@dataclass
class Report:
    """What was found so far, and the file that says so, written anew after each check."""

    path: Path
    began: float
    facts: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, network: str, size: int, dtype: str, check: str, found: dict[str, Any]) -> None:
        """A check's result: {"seconds"} and one of "said", "failed" and "skipped"."""
        row = {"network": network, "size": size, "dtype": dtype, "check": check, **found}
        self.rows.append(row)
        print(f"{self.passed:4.0f} s  {network} {size} {dtype}  {check}: {_result(row)}", flush=True)
        self.write()

    @property
    def passed(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self.began

    @property
    def failures(self) -> int:
        """How many checks failed."""
        return sum("failed" in row for row in self.rows)

    def write(self) -> None:
        """Write the file."""
        from benchmarks import step_time

        skipped = sum("skipped" in row for row in self.rows)
        done = len(self.rows) - skipped - self.failures
        lines = [
            "# On a GPU",
            "",
            "`python -m benchmarks.gpu`. Networks at full size, with random weights, unless they are called toy. The step"
            ' table\'s columns are those of [the step benchmark](step_time.md); "compiled" is the UNet in torch.compile.',
            "",
            ", ".join(f"{name} {what}" for name, what in self.facts.items()),
            "",
            f"{done} checks passed, {self.failures} failed, {skipped} were skipped; {self.passed:.0f} s in all.",
            "",
            "| network | px | precision | check | result | s |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in self.rows:
            cells = [row["network"], row["size"], row["dtype"], row["check"], _result(row), f"{row['seconds']:.1f}"]
            lines.append("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
        tables = [step_time.table(found) for found in self.tables.values()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(lines) + "\n" + "".join(f"\n{table}\n" for table in tables))


def _result(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"FAILED: {row['failed']}"
    return f"skipped: {row['skipped']}" if "skipped" in row else str(row["said"])


def missing() -> tuple[list[str], list[str]]:
    """What of the package's dependencies is not installed, or too old: what is needed here, and what is not."""
    from importlib.metadata import PackageNotFoundError, version

    needed, others = [], []
    for wanted in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        name, _, least = wanted.partition(">=")
        found = ""
        if importlib.util.find_spec(IMPORTED_AS.get(name, name.replace("-", "_"))) is not None:
            try:
                found = version(name)
            except PackageNotFoundError:
                found = "of unknown version"
        old = found[:1].isdigit() and _numbers(found) < _numbers(least)
        if not found or old:
            (others if name in NOT_NEEDED else needed).append(wanted + (f" (there is {found})" if old else ""))
    return needed, others


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def jobs_of(options: argparse.Namespace) -> list[tuple[str, Any]]:
    """What there is to do, the most telling first: ("checks", jobs) and ("steps", (network, size, side)), by turns."""
    sizes = SIZES[options.size]
    kinds = ("bfloat16", "float16")

    def checks(which: int, names: Sequence[str]) -> tuple[str, Any]:
        wanted = [(n, size[which], dtype, check) for n, size in sizes.items() for dtype in kinds for check in names]
        return "checks", [job for job in wanted if _is_asked(options.only, *job)]

    def steps(*sides: str) -> list[tuple[str, Any]]:
        rows = [(n, size[0], side) for n, size in sizes.items() for side in sides]
        return [("steps", row) for row in rows if _is_asked(options.only, "step", *row)]

    compiled = steps("ours-compiled", "best-compiled")
    half = -(-len(compiled) // 2)
    plan = [checks(0, CHECKS), *steps("ours", "best", "readme"), *compiled[:half], checks(1, BRIEF), *compiled[half:]]
    return [(kind, what) for kind, what in plan if what]


def _is_asked(only: str, *words: Any) -> bool:
    return re.search(only, " ".join(map(str, words))) is not None


def do_checks(jobs: list[tuple[str, int, str, str]], options: argparse.Namespace, report: Report, until: float) -> None:
    """Do the jobs in a process of their own, and in a new one what is left when that ends before its time."""
    while jobs:
        left = until - time.monotonic()
        if left <= 0:
            for job in jobs:
                report.add(*job, {"seconds": 0.0, "skipped": "no time was left"})
            return
        asked = {"jobs": [dict(zip(("network", "size", "dtype", "check"), job)) for job in jobs]}
        answers = stream(_command(options), {**asked, "device": options.device, "left": left}, until)
        jobs = jobs[_take(answers, jobs, report) :]


def _command(options: argparse.Namespace) -> list[str]:
    return [sys.executable, "-m", "benchmarks.gpu_checks"]


def _take(answers: Iterator[dict[str, Any]], jobs: list[Any], report: Report) -> int:
    """Report what the process says of its jobs; returns how many of them are done with, at least one."""
    done, began, at = 0, time.monotonic(), 0
    for answer in answers:
        if "facts" in answer:
            report.facts = answer["facts"]
        elif "began" in answer:
            at, began = answer["began"], time.monotonic()
        elif "ended" in answer:
            if done < len(jobs):
                kind = "skipped" if answer["no time"] else "failed"
                report.add(*jobs[done], {"seconds": time.monotonic() - began, kind: answer["ended"]})
            return done + 1
        else:
            number = answer.pop("job")
            report.add(*jobs[number], answer)
            done = number + 1
    return max(done, at)


def stream(command: list[str], asked: dict[str, Any], until: float, limit: float = LIMIT) -> Iterator[dict[str, Any]]:
    """What a process answers line by line; at last {"ended", "no time"} if it died, said nothing for `limit` seconds, or
    ran past `until`, when it is killed."""
    env = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "TRANSFORMERS_VERBOSITY": "error"}  # for exact repeats
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    output = process.stdout

    def read() -> None:
        for line in output:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    try:
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.close()
        while line := lines.get(timeout=max(0.01, min(limit, until - time.monotonic()))):
            yield json.loads(line)
        if process.wait() != 0:
            yield {"ended": f"the process ended with {process.returncode}", "no time": False}
    except BrokenPipeError:
        yield {"ended": f"the process ended with {process.wait()}", "no time": False}
    except queue.Empty:
        out = time.monotonic() >= until
        yield {"ended": "cut off: no time was left" if out else f"stopped after {limit:.0f} s", "no time": out}
    finally:
        process.kill()
        process.wait()


def do_here(jobs: list[tuple[str, int, str, str]], options: argparse.Namespace, report: Report, until: float) -> None:
    """The same in this process: what a rehearsal does, to be quick."""
    from benchmarks import gpu_checks

    report.facts = gpu_checks.facts(options.device)
    for answer in gpu_checks.do([gpu_checks.Job(*job) for job in jobs], options.device, until):
        if "job" in answer:
            report.add(*jobs[answer.pop("job")], answer)


def do_step(row: tuple[str, int, str], options: argparse.Namespace, report: Report, until: float) -> None:
    """One row of the step table: a side of a network."""
    from benchmarks import step_time

    network, size, side = row
    limit = min(until - time.monotonic(), COMPILING if "compiled" in side else LIMIT)
    name, began = f"step of {step_time.SIDES[side]}", time.monotonic()
    if limit <= 0:
        report.add(network, size, "", name, {"seconds": 0.0, "skipped": "no time was left"})
        return
    is_toy = options.size == "toy"
    steps, asked = (2 if is_toy else 10), argparse.Namespace(device=options.device, pictures=4)
    if is_toy:
        found = asdict(step_time.measure(network, side, options.device, size, steps, 4))
    else:
        found = step_time.in_a_process(network, side, asked, size, steps, limit)
    seconds = time.monotonic() - began
    facts = {"device": report.facts.get("device", options.device), "torch": report.facts.get("torch", "")}
    table = {"network": network, "size": size, "rounds": 1, "steps": steps, **facts, "rows": {}}
    report.tables.setdefault(network, table)["rows"][side] = found
    if "failed" in found:
        kind = "skipped" if time.monotonic() >= until else "failed"
        report.add(network, size, "", name, {"seconds": seconds, kind: found["failed"]})
    else:
        step = sorted(found["seconds"])[steps // 2]
        report.add(network, size, found["precision"], name, {"seconds": seconds, "said": f"{step:.3g} s"})


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", default="full", choices=SIZES)
    parser.add_argument("--only", default="", help="such as 'sdxl 512|resume': only rows where this is found")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing goes on")
    parser.add_argument(
        "--out", type=Path, help="the report; by default gpu.md beside this file, of a rehearsal outputs/"
    )
    options = parser.parse_args(given)
    options.out = options.out or ROOT / ("benchmarks/gpu.md" if options.size == "full" else "outputs/gpu-toy.md")
    return options


def main(given: Sequence[str] | None = None) -> int:
    """Check and measure; returns the exit status."""
    began = time.monotonic()
    options = arguments(given)
    needed, others = missing()
    if others:
        print(f"not installed, and not needed here: {', '.join(others)}")
    if needed:
        print(f"missing: {', '.join(needed)}. `pip install` them (without a network: see `--help`)")
        return 2
    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: `--device cpu --size toy` rehearses what runs on one")
        return 2
    report, until = Report(options.out, began), began + 60 * options.minutes - 5  # to write, and to end a process
    doers: dict[str, Callable[..., None]] = {
        "checks": do_here if options.size == "toy" else do_checks,
        "steps": do_step,
    }
    for kind, what in jobs_of(options):
        doers[kind](what, options, report, until)
    print(f"{options.out}: {report.failures} failed")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
