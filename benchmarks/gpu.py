"""Check and measure everything that users do on a GPU, in at most eight minutes.

`python -m benchmarks.gpu` needs a CUDA device, and no network: SD 1.5 and SDXL are built at full size with random
weights. It writes `gpu.md` after each check, continues after one that fails, reports what there was no time for, and exits
with status 1 if anything failed. `--only` selects rows by a regular expression; `--device cpu --size toy` rehearses all
of it in this process, on very small networks.

On a machine with torch and transformers but no network: get the wheels on one with a network (`make gpu-bundle`, or
`pip download --no-deps -d wheels diffusers`), then in the folder of this repository:

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
NOT_NEEDED = ("ipywidgets", "matplotlib")  # for panels and plots only
LIMIT = 90.0  # s for one check or one row of the step table; longer with torch.compile
COMPILING = 150.0
CHECKS = (  # the names in `gpu_checks`, which can't be imported before `missing` has checked its dependencies
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
    """The results so far, and the file with them, which is rewritten after each check."""

    path: Path
    began: float
    facts: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, network: str, size: int, dtype: str, check: str, result: dict[str, Any]) -> None:
        """Add a check's result: "seconds", and one of "passed", "failed" and "skipped" with its text."""
        row = {"network": network, "size": size, "dtype": dtype, "check": check, **result}
        self.rows.append(row)
        print(f"{self.elapsed:4.0f} s  {network} {size} {dtype}  {check}: {_result(row)}", flush=True)
        self.write()

    @property
    def elapsed(self) -> float:
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
        passed = len(self.rows) - skipped - self.failures
        lines = [
            "# On a GPU",
            "",
            "`python -m benchmarks.gpu`. Networks at full size, with random weights, unless they are called toy. The step"
            ' table\'s columns are those of [the step benchmark](step_time.md); "compiled" is the UNet in torch.compile.',
            "",
            ", ".join(f"{name} {value}" for name, value in self.facts.items()),
            "",
            f"{passed} checks passed, {self.failures} failed, {skipped} were skipped; {self.elapsed:.0f} s in all.",
            "",
            "| network | px | precision | check | result | s |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in self.rows:
            cells = [row["network"], row["size"], row["dtype"], row["check"], _result(row), f"{row['seconds']:.1f}"]
            lines.append("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
        tables = [step_time.table(results) for results in self.tables.values()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(lines) + "\n" + "".join(f"\n{table}\n" for table in tables))


def _result(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"FAILED: {row['failed']}"
    return f"skipped: {row['skipped']}" if "skipped" in row else str(row["passed"])


def missing() -> tuple[list[str], list[str]]:
    """The package's dependencies that are missing or too old: those needed here, and the others."""
    from importlib.metadata import PackageNotFoundError, version

    needed, others = [], []
    for wanted in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        name, _, minimum = wanted.partition(">=")
        installed = ""
        if importlib.util.find_spec(IMPORTED_AS.get(name, name.replace("-", "_"))) is not None:
            try:
                installed = version(name)
            except PackageNotFoundError:
                installed = "of unknown version"
        old = installed[:1].isdigit() and _numbers(installed) < _numbers(minimum)
        if not installed or old:
            (others if name in NOT_NEEDED else needed).append(wanted + (f" (installed: {installed})" if old else ""))
    return needed, others


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def jobs_of(options: argparse.Namespace) -> list[tuple[str, Any]]:
    """All work, the most important first: entries ("checks", jobs) and ("steps", (network, size, side))."""
    sizes = SIZES[options.size]
    kinds = ("bfloat16", "float16")

    def checks(size_index: int, names: Sequence[str]) -> tuple[str, Any]:
        wanted = [
            (n, size[size_index], dtype, check) for n, size in sizes.items() for dtype in kinds for check in names
        ]
        return "checks", [job for job in wanted if _is_selected(options.only, *job)]

    def steps(*sides: str) -> list[tuple[str, Any]]:
        rows = [(n, size[0], side) for n, size in sizes.items() for side in sides]
        return [("steps", row) for row in rows if _is_selected(options.only, "step", *row)]

    compiled = steps("ours-compiled", "best-compiled")
    half = -(-len(compiled) // 2)
    work = [checks(0, CHECKS), *steps("ours", "best", "readme"), *compiled[:half], checks(1, BRIEF), *compiled[half:]]
    return [(kind, jobs) for kind, jobs in work if jobs]


def _is_selected(only: str, *words: Any) -> bool:
    return re.search(only, " ".join(map(str, words))) is not None


def do_checks(jobs: list[tuple[str, int, str, str]], options: argparse.Namespace, report: Report, until: float) -> None:
    """Do the jobs in a process of their own; if it dies, a new one does the rest."""
    while jobs:
        left = until - time.monotonic()
        if left <= 0:
            for job in jobs:
                report.add(*job, {"seconds": 0.0, "skipped": "no time was left"})
            return
        request = {"jobs": [dict(zip(("network", "size", "dtype", "check"), job)) for job in jobs]}
        answers = stream(_command(options), {**request, "device": options.device, "left": left}, until)
        jobs = jobs[_report_answers(answers, jobs, report) :]


def _command(options: argparse.Namespace) -> list[str]:
    return [sys.executable, "-m", "benchmarks.gpu_checks"]


def _report_answers(answers: Iterator[dict[str, Any]], jobs: list[Any], report: Report) -> int:
    """Report the results that the process prints; returns how many jobs are done with, at least one."""
    done, began, at = 0, time.monotonic(), 0
    for answer in answers:
        if "facts" in answer:
            report.facts = answer["facts"]
        elif "began" in answer:
            at, began = answer["began"], time.monotonic()
        elif "ended" in answer:
            if done < len(jobs):
                outcome = "skipped" if answer["no time"] else "failed"
                report.add(*jobs[done], {"seconds": time.monotonic() - began, outcome: answer["ended"]})
            return done + 1
        else:
            number = answer.pop("job")
            report.add(*jobs[number], answer)
            done = number + 1
    return max(done, at)


def stream(command: list[str], request: dict[str, Any], until: float, limit: float = LIMIT) -> Iterator[dict[str, Any]]:
    """The JSON lines that a process prints; at last {"ended", "no time"} if it died, or was killed as it printed nothing for
    `limit` seconds or ran past `until`."""
    env = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # without it, cuBLAS is not deterministic
    env["TRANSFORMERS_VERBOSITY"] = "error"
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
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.close()
        while line := lines.get(timeout=max(0.01, min(limit, until - time.monotonic()))):
            yield json.loads(line)
        if process.wait() != 0:
            yield {"ended": f"the process ended with {process.returncode}", "no time": False}
    except BrokenPipeError:
        yield {"ended": f"the process ended with {process.wait()}", "no time": False}
    except queue.Empty:
        is_late = time.monotonic() >= until
        yield {"ended": "cut off: no time was left" if is_late else f"stopped after {limit:.0f} s", "no time": is_late}
    finally:
        process.kill()
        process.wait()


def do_here(jobs: list[tuple[str, int, str, str]], options: argparse.Namespace, report: Report, until: float) -> None:
    """Do the jobs in this process, which is quicker, for a rehearsal."""
    from benchmarks import gpu_checks

    report.facts = gpu_checks.facts(options.device)
    for answer in gpu_checks.do([gpu_checks.Job(*job) for job in jobs], options.device, until):
        if "job" in answer:
            report.add(*jobs[answer.pop("job")], answer)


def do_step(row: tuple[str, int, str], options: argparse.Namespace, report: Report, until: float) -> None:
    """Measure one row of the step table: one side on one network."""
    from benchmarks import step_time

    network, size, side = row
    limit = min(until - time.monotonic(), COMPILING if "compiled" in side else LIMIT)
    name, began = f"step of {step_time.SIDES[side]}", time.monotonic()
    if limit <= 0:
        report.add(network, size, "", name, {"seconds": 0.0, "skipped": "no time was left"})
        return
    is_toy = options.size == "toy"
    steps, step_options = (2 if is_toy else 10), argparse.Namespace(device=options.device, pictures=4)
    if is_toy:
        result = asdict(step_time.measure(network, side, options.device, size, steps, 4))
    else:
        result = step_time.in_a_process(network, side, step_options, size, steps, limit)
    seconds = time.monotonic() - began
    facts = {"device": report.facts.get("device", options.device), "torch": report.facts.get("torch", "")}
    table = {"network": network, "size": size, "rounds": 1, "steps": steps, **facts, "rows": {}}
    report.tables.setdefault(network, table)["rows"][side] = result
    if "failed" in result:
        outcome = "skipped" if time.monotonic() >= until else "failed"
        report.add(network, size, "", name, {"seconds": seconds, outcome: result["failed"]})
    else:
        step = sorted(result["seconds"])[steps // 2]
        report.add(network, size, result["precision"], name, {"seconds": seconds, "passed": f"{step:.3g} s"})


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", default="full", choices=SIZES)
    parser.add_argument("--only", default="", help="regular expression that selects rows, such as 'sdxl 512|resume'")
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit for everything")
    parser.add_argument(
        "--out", type=Path, help="the report; by default gpu.md beside this file, for a rehearsal outputs/gpu-toy.md"
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
        print(f"not installed, but not needed here: {', '.join(others)}")
    if needed:
        print(f"missing: {', '.join(needed)}. `pip install` them (without a network: see `--help`)")
        return 2
    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: `--device cpu --size toy` rehearses what runs on one")
        return 2
    report, until = (
        Report(options.out, began),
        began + 60 * options.minutes - 5,
    )  # s to write the report and end a process
    do: dict[str, Callable[..., None]] = {
        "checks": do_here if options.size == "toy" else do_checks,
        "steps": do_step,
    }
    for kind, jobs in jobs_of(options):
        do[kind](jobs, options, report, until)
    print(f"{options.out}: {report.failures} failed")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
