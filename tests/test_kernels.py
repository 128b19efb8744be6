"""Clicks sent to real kernels, as frontends send them, steer a run: on this environment and on older and newer ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disturbed import BEGIN, WAYS, end_a_kernel, wrong_after_the_end
from tests.kernels import Kernel
from tests.killed import smallest
from tools import stacks

LONG = 1_000_000  # steps: never done by themselves

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq")]

LOAD = """
from ti_nb.training.settings import TrainSettings  # whose subpackage comes first does not matter
import torch, ti_nb as ti
model, photos = ti.load_model("tiny", dtype=torch.float32), ti.example_images("penguin")
def begin(steps):
    return ti.train(model, photos, word="<new>", init="animal", steps=steps, batch=1, watch=0)
"""


def needs(stack: str) -> object:
    """A parameter for when there is time; it is skipped, with the reason, where the stack was not built."""
    missing = pytest.mark.skipif(not stacks.is_built(stack), reason=f"run `make stacks` to test on {stack}")
    return pytest.param(stack, marks=[pytest.mark.thorough, missing], id=stack)


@pytest.fixture(
    scope="module",
    params=[pytest.param(None, id="here"), *map(needs, (stack for stack in stacks.WANTED if stack != "lowest"))],
)
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    with Kernel(request.param) as kernel:
        kernel.run(LOAD)
        yield kernel


def test_loading_says_nothing_of_libraries_that_are_not_needed(kernel: Kernel) -> None:
    assert "torchvision" not in kernel.printed


def show(kernel: Kernel, steps: int, *, background: bool = True, **others: object) -> None:
    """A new run and its panel; the buttons of earlier ones are forgotten."""
    kernel.models.clear()
    kernel.tracebacks.clear()
    kernel.run(f"run = begin({steps}); panel = ti.TrainPanel(run, every=0, background={background}, **{others})")


def test_stop_ends_a_run_before_its_end(kernel: Kernel) -> None:
    show(kernel, LONG)
    kernel.until_idle(kernel.click("Start"))
    kernel.wait("len(run.records) >= 2")
    kernel.until_idle(kernel.click("Stop"))
    kernel.wait("panel.state == 'stopped'")
    done = kernel.value("len(run.records)")
    kernel.run("import time; time.sleep(0.5)")
    assert kernel.value("len(run.records)") == done
    assert 2 <= int(done) < LONG
    assert not kernel.tracebacks


def test_paused_and_resumed_it_ends_where_it_would_have_without(kernel: Kernel) -> None:
    show(kernel, 8)
    kernel.run(HOLD_AT_3)
    kernel.until_idle(kernel.click("Start"))
    kernel.wait("held.is_set()")
    kernel.until_idle(kernel.click("Pause"))
    kernel.run("go_on.set()")
    kernel.wait("panel.state == 'paused'")
    assert kernel.value("len(run.records)") == "4"
    kernel.until_idle(kernel.click("Resume"))
    kernel.wait("panel.state == 'finished'")
    kernel.run("other = begin(8); list(other)")
    kernel.run("same = [torch.equal(v, other.concept().vectors[k]) for k, v in run.concept().vectors.items()]")
    assert kernel.value("same") == "[True]"
    assert kernel.value("[r.step for r in run.records] == list(range(1, 9))") == "True"
    assert not kernel.tracebacks


HOLD_AT_3 = """
import threading
held, go_on, draw = threading.Event(), threading.Event(), run._draws.draw
def draw_later():
    if len(run.records) == 3:
        held.set()
        go_on.wait()
    return draw()
run._draws.draw = draw_later
"""


def test_sample_now_draws_while_it_trains_and_while_it_is_paused(kernel: Kernel) -> None:
    show(kernel, LONG, seeds=1, draw={"steps": 2})
    kernel.until_idle(kernel.click("Sample now"))
    kernel.wait("[p.step for p in panel.previews.kept] == [0]")
    kernel.until_idle(kernel.click("Start"))
    kernel.wait("len(run.records) >= 2")
    kernel.until_idle(kernel.click("Sample now"))
    kernel.wait("len(panel.previews.kept) == 2")
    kernel.until_idle(kernel.click("Stop"))
    kernel.wait("panel.state == 'stopped'")
    assert not kernel.tracebacks


def test_an_interrupt_pauses_a_run_that_keeps_the_cell_busy(kernel: Kernel) -> None:
    show(kernel, LONG, background=False)
    message = kernel.begin("panel.start(); print('after', panel.state)")
    kernel.until("two steps", lambda: steps_shown(kernel) >= 2)
    kernel.manager.interrupt_kernel()
    kernel.until_idle(message)
    assert "after paused" in kernel.printed
    assert kernel.value(f"2 <= len(run.records) < {LONG}") == "True"
    assert not kernel.tracebacks


def test_an_interrupt_pauses_a_run_in_the_background_that_a_cell_waits_for(kernel: Kernel) -> None:
    show(kernel, LONG)
    message = kernel.begin("panel.start(); panel.wait(); print('waited until', panel.state)")
    kernel.until("two steps", lambda: steps_shown(kernel) >= 2)
    kernel.manager.interrupt_kernel()
    kernel.until_idle(message)
    assert "waited until paused" in kernel.printed
    assert not kernel.tracebacks


def test_an_interrupt_pauses_a_run_in_the_background_while_no_cell_runs(kernel: Kernel) -> None:
    """The kernel ignores SIGINT then, unless somebody listens; afterwards it ignores it again."""
    show(kernel, LONG)
    kernel.until_idle(kernel.begin("panel.start()"))
    kernel.until("two steps", lambda: steps_shown(kernel) >= 2)
    kernel.manager.interrupt_kernel()
    kernel.wait("panel.state == 'paused'")
    kernel.manager.interrupt_kernel()
    assert kernel.value(f"2 <= len(run.records) < {LONG}") == "True"
    assert not kernel.tracebacks


@pytest.mark.parametrize("busy", ["while True: time.sleep(0.01)", "await asyncio.sleep(10_000)"], ids=["loop", "await"])
def test_an_interrupt_pauses_a_run_in_the_background_while_another_cell_runs(kernel: Kernel, busy: str) -> None:
    """It used to end the cell alone: the run went on, against what the panel says of interrupts."""
    show(kernel, LONG)
    kernel.run("import asyncio, time; panel.start()")
    kernel.wait("len(run.records) >= 2")
    kernel.printed = ""
    message = kernel.begin(f"print('busy')\n{busy}")
    kernel.until("the other cell", lambda: "busy" in kernel.printed)
    kernel.manager.interrupt_kernel()
    kernel.until_idle(message, patience=1)
    kernel.wait("panel.state == 'paused'")
    assert len(kernel.tracebacks) == 1  # of the other cell, which ends as it always did
    kernel.tracebacks.clear()


@pytest.mark.parametrize("background", [True, False], ids=["thread", "cell"])
def test_a_click_through_a_subshell_stops_it(kernel: Kernel, background: bool) -> None:
    """As JupyterLab 4.4 and newer send it. In a busy cell it arrives up to ipykernel 7.3, on a thread of its own."""
    subshell = kernel.subshell()
    if subshell is None:
        pytest.skip("this kernel has no subshells")
    kernel.run("import ipykernel")
    arrives = background or kernel.value("ipykernel.version_info[:2] < (7, 4)") == "True"
    show(kernel, LONG if arrives else 20, background=background)
    message = kernel.begin("panel.start()")
    kernel.until("two steps", lambda: steps_shown(kernel) >= 2)
    kernel.click("Stop", subshell=subshell)
    kernel.until_idle(message)
    kernel.wait("panel.state != 'running'")
    assert kernel.value("panel.state") == ("'stopped'" if arrives else "'finished'")
    assert not kernel.tracebacks


@pytest.mark.thorough  # a program that ends while its panel trains is among the quicker tests, in test_train_panel.py
@pytest.mark.parametrize("way", WAYS)
def test_a_kernel_that_ends_while_its_panel_trains_loses_nothing_and_exits_with_0(tmp_path: Path, way: str) -> None:
    code, seen = end_a_kernel(BEGIN.format(out=str(tmp_path / "run"), steps=7, every=7), way)
    assert wrong_after_the_end(smallest(), tmp_path / "run", code, seen) == ""


def steps_shown(kernel: Kernel) -> int:
    """What the panel's progress bar says, as a reader of the page sees it."""
    bars = [model for model in kernel.models.values() if model.get("_model_name") == "IntProgressModel"]
    return int(bars[0]["value"])
