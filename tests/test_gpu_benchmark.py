"""What runs on a GPU runs on a CPU first, very small; and its report survives whatever a check does."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu, gpu_checks

pytestmark = pytest.mark.slow
JOBS = [("toy-sd15", 16, "float16", name) for name in gpu.CHECKS[:3]]


def rehearse(out: Path, only: str) -> int:
    return gpu.main(["--device", "cpu", "--size", "toy", "--only", only, "--out", str(out)])


def report(path: Path) -> gpu.Report:
    return gpu.Report(path, time.monotonic())


@pytest.mark.thorough
def test_every_check_passes_where_there_are_no_panels_or_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ipywidgets", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    assert rehearse(tmp_path / "gpu.md", "^toy-sdxl 16 bfloat16|^step toy-sd15 16 (ours|best)$") == 0
    said = (tmp_path / "gpu.md").read_text()
    rows = [line.split(" | ") for line in said.splitlines() if line.startswith("| toy")]
    assert [row[3] for row in rows] == [*gpu.CHECKS, "step of ti_nb", "step of diffusers, best flags"]
    assert "10 checks passed, 0 failed, 0 were skipped" in said
    assert said.count("| ti_nb | bfloat16 |") + said.count("| ti_nb | float32 |") == 1  # the step table


def test_the_checks_that_are_planned_are_those_there_are() -> None:
    assert tuple(gpu_checks.CHECKS) == gpu.CHECKS


def test_a_failing_check_is_reported_and_the_others_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> str:
        raise AssertionError("a long story\nwhat went wrong")

    monkeypatch.setattr(gpu_checks, "Setup", lambda *_: None)
    for name in gpu.CHECKS:
        monkeypatch.setitem(gpu_checks.CHECKS, name, lambda _: "fine")
    monkeypatch.setitem(gpu_checks.CHECKS, gpu.CHECKS[1], fails)
    assert rehearse(tmp_path / "gpu.md", "^toy-sd15 16 float16") == 1
    said = (tmp_path / "gpu.md").read_text()
    assert "| FAILED: AssertionError: what went wrong |" in said
    assert "7 checks passed, 1 failed" in said


def test_after_an_error_of_the_device_nothing_more_is_tried_in_that_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(gpu_checks, "Setup", breaks)
    answers = list(gpu_checks.do([gpu_checks.Job(*job) for job in JOBS], "cpu", time.monotonic() + 1000))
    assert [answer.get("job") for answer in answers] == [None, 0]


DYING = """
import json, os, sys
jobs = json.loads(sys.stdin.readline())["jobs"]
for number, job in enumerate(jobs):
    print(json.dumps({"began": number}), flush=True)
    if job["check"] == "gradient as in float32":
        os._exit(7)
    print(json.dumps({"job": number, "seconds": 0.1, "passed": "fine"}), flush=True)
"""


def test_a_process_that_dies_takes_one_check_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_command", lambda _: [sys.executable, "-c", DYING])
    found = report(tmp_path / "gpu.md")
    gpu.do_checks(JOBS, gpu.arguments(["--device", "cpu"]), found, time.monotonic() + 1000)
    assert [row.get("passed", row.get("failed")) for row in found.rows] == ["fine", "the process ended with 7", "fine"]


def test_a_check_that_never_ends_is_stopped_when_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_command", lambda _: [sys.executable, "-c", "import time; time.sleep(1000)"])
    found = report(tmp_path / "gpu.md")
    gpu.do_checks(JOBS, gpu.arguments(["--device", "cpu"]), found, time.monotonic() + 0.2)
    assert [row.get("skipped", "")[-16:] for row in found.rows] == ["no time was left"] * 3
    assert found.failures == 0
    assert "3 were skipped" in (tmp_path / "gpu.md").read_text()


def test_what_is_missing_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = importlib.util.find_spec
    gone = ("psutil", "matplotlib")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in gone else there(name))
    assert rehearse(tmp_path / "gpu.md", "") == 2
    said = capsys.readouterr().out
    assert "missing: psutil" in said and "not needed here: matplotlib" in said
    assert not (tmp_path / "gpu.md").exists()
