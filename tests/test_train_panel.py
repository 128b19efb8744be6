"""The train panel does what its buttons say, in this thread and beside it; what it shows is the run's own."""

from __future__ import annotations

import base64
import io
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ti_nb as ti
from ti_nb.host import turns
from ti_nb.widgets import parts
from ti_nb.widgets.train.driver import Driver
from ti_nb.widgets.train.estimate import progress_in_words, step_seconds
from ti_nb.widgets.train.panel import notes_in_words
from ti_nb.widgets.train.previews import strip

from .disturbed import BEGIN, wrong_after_the_end
from .killed import smallest, train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LONG = 1_000_000  # steps: never done by themselves


@pytest.fixture(scope="module")
def model() -> ti.Model:
    """Of random weights: how well it learns does not matter here."""
    return smallest()


def _run(model: ti.Model, photos: ti.ConceptImages, steps: int = 6, **more: object) -> ti.Run:
    return ti.train(model, photos, word="<new>", init="animal", steps=steps, batch=1, watch=2, **more)


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 1800  # only what hangs fails, not what runs on a busy machine
    while not true():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.01)


def _panel(run: ti.Run, **more: object) -> ti.TrainPanel:
    return ti.TrainPanel(run, **{"every": 0, "seeds": 1, "draw": {"steps": 1}, **more})


def test_a_run_through_the_panel_is_the_run_of_a_plain_loop(model: ti.Model, photos: ti.ConceptImages) -> None:
    plain = _run(model, photos)
    for _ in plain:
        pass
    for background in (False, True):
        panel = _panel(_run(model, photos), background=background, every=2)
        panel.start()
        panel.wait()
        assert panel.state == "finished"
        assert panel.run.concept().vectors["clip_l"].equal(plain.concept().vectors["clip_l"])
        assert [p.step for p in panel.previews.kept] == [0, 2, 4, 6]


def test_buttons_pause_resume_and_stop_a_run_in_the_background(model: ti.Model, photos: ti.ConceptImages) -> None:
    panel = _panel(_run(model, photos, LONG), background=True)
    panel.buttons["start"].click()
    _until(lambda: len(panel.run.records) >= 2)
    panel.buttons["pause"].click()
    _until(lambda: panel.state == "paused")
    done = len(panel.run.records)
    assert panel.buttons["start"].description == "Resume"
    time.sleep(0.1)
    assert len(panel.run.records) == done < LONG
    panel.buttons["start"].click()
    _until(lambda: len(panel.run.records) > done)
    panel.buttons["stop"].click()
    assert "state stopped" in str(panel.wait())
    assert f"step {len(panel.run.records)} of {LONG}" in panel._time.value


def test_sample_now_draws_while_it_trains_and_while_it_rests(model: ti.Model, photos: ti.ConceptImages) -> None:
    panel = _panel(_run(model, photos, LONG), background=True)
    panel.buttons["sample"].click()
    assert [p.step for p in panel.previews.kept] == [0]
    panel.start()
    _until(lambda: len(panel.run.records) >= 1)
    panel.buttons["sample"].click()
    _until(lambda: len(panel.previews.kept) == 2)
    panel.stop()
    panel.wait()
    newest = panel.previews.kept[-1]
    assert panel.previews.slider.value == newest.step
    panel.previews.slider.value = 0
    assert "After step 0" in panel.previews._caption.value


def test_previews_are_sample_s_own_pictures(model: ti.Model, photos: ti.ConceptImages) -> None:
    panel = _panel(_run(model, photos, 2), background=False, every=2, seeds=2, draw={"steps": 3})
    panel.start()
    drawn = ti.sample(model, "a photo of a {word}", panel.run.concept(), seeds=2, steps=3, progress=False)
    assert panel.previews.kept[-1].png == parts.as_png(strip([s.image for s in drawn], 2))


def test_the_rate_slider_scales_the_next_steps_rate_and_is_kept(
    model: ti.Model, photos: ti.ConceptImages, tmp_path: Path
) -> None:
    plain = _run(model, photos)
    rates = [r.rate for r in plain]
    panel = _panel(_run(model, photos, out=tmp_path / "run"), background=False)
    next(panel.run)
    panel.rate.value = 0.1
    panel.start()
    assert [r.rate for r in panel.run.records] == pytest.approx([rates[0], *(0.1 * r for r in rates[1:])])
    assert panel.run.records[1].note == "rate times 0.1 from here on"
    assert _run(model, photos, out=tmp_path / "run").panel().rate.value == pytest.approx(0.1)
    with pytest.raises(ValueError, match="above 0"):
        panel.run.rate_factor = 0


def test_an_interrupt_in_the_cell_pauses_and_saves(
    model: ti.Model, photos: ti.ConceptImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(model, photos, out=tmp_path / "run", save_every=1000)
    panel = _panel(run, background=False)
    step, draw = iter(range(100)), run._draws.draw

    def interrupted() -> object:
        if next(step) == 3:
            raise KeyboardInterrupt
        return draw()

    monkeypatch.setattr(run._draws, "draw", interrupted)
    panel.start()
    assert panel.state == "paused"
    assert len(ti.read_run(tmp_path / "run").records) == 3
    panel.start()
    assert panel.state == "finished"


def test_an_interrupt_while_waiting_pauses_the_thread(
    model: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = _panel(_run(model, photos, LONG), background=True)
    panel.start()
    wait, calls = panel.driver._idle.wait, iter(range(100))

    def interrupted(timeout: float | None = None) -> bool:
        if next(calls) == 0:
            raise KeyboardInterrupt
        return wait(timeout)

    monkeypatch.setattr(panel.driver._idle, "wait", interrupted)
    panel.wait()
    assert panel.state == "paused"


def test_a_second_run_is_refused_with_words_while_one_trains(model: ti.Model, photos: ti.ConceptImages) -> None:
    first, second = (_panel(_run(model, photos, LONG), background=True) for _ in range(2))
    first.start()
    second.buttons["start"].click()
    assert second.state == "ready"
    with pytest.raises(RuntimeError, match="training of <new> is at work"):  # a cell that goes on would use half a word
        second.start()
    assert "training of &lt;new&gt; is at work" in second._status.value
    first.pause()
    first.wait()
    second.start()
    assert second.state == "running"
    second.stop()
    second.wait()
    turns.claim("a test")  # nothing holds on to it
    turns.release()


def test_what_fails_in_the_thread_is_said_and_raised_by_wait(
    model: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = _panel(_run(model, photos), background=True)
    monkeypatch.setattr(panel.run._draws, "draw", lambda: (_ for _ in ()).throw(OSError("the disk burns")))
    panel.start()
    with pytest.raises(OSError, match="the disk burns"):
        panel.wait()
    assert panel.state == "failed"
    assert "✗ Error: the disk burns" in panel._status.value


def test_run_panel_is_one_panel_and_finds_earlier_previews(
    model: ti.Model, photos: ti.ConceptImages, tmp_path: Path
) -> None:
    run = _run(model, photos, 4, out=tmp_path / "run")
    panel = run.panel(every=2, seeds=1, draw={"steps": 1}, background=False)
    assert run.panel() is panel
    assert run.panel(every=2, seeds=1, draw={"steps": 1}, background=False) is panel  # its cell, run again
    panel.start()
    other = run.panel(every=3, background=False)
    assert other is not panel and run.panel() is other and other.state == "finished"
    again = _run(model, photos, 4, out=tmp_path / "run").panel()
    assert again.state == "finished"
    assert [p.step for p in again.previews.kept] == [0, 2, 4]
    assert again.previews.kept[-1].png == panel.previews.kept[-1].png


def test_the_summary_needs_no_kernel_and_says_it_in_words(
    model: ti.Model, photos: ti.ConceptImages, tmp_path: Path
) -> None:
    panel = _panel(_run(model, photos, 2), background=False, every=2)
    panel.start()
    summary = panel.wait()
    shown = summary._repr_html_()
    assert "&lt;new&gt;, learned from animal" in shown
    assert shown.count('src="data:image/png;base64,') == 2
    assert shown.count("alt=") == 2
    page = summary.save(tmp_path / "summary.html").read_text()
    assert shown in page


def test_every_control_has_its_label_in_words(model: ti.Model, photos: ti.ConceptImages) -> None:
    import ipywidgets as widgets

    def controls(of: widgets.Widget) -> list[widgets.Widget]:
        inner = [w for child in getattr(of, "children", ()) for w in controls(child)]
        is_control = hasattr(of, "description") and not isinstance(of, widgets.HTML)
        return inner + ([of] if is_control else [])

    found = controls(_panel(_run(model, photos)))
    assert len(found) >= 8
    assert all(len(w.description) > 3 for w in found)


def test_a_strip_keeps_the_pictures_order() -> None:
    colours = ["red", "green", "blue", "white"]
    one = strip([Image.new("RGB", (8, 8), c) for c in colours], 2)
    side = (one.width - 4) // 2
    seen = [one.convert("RGB").getpixel((x, y)) for y in (2, side + 6) for x in (2, side + 6)]
    assert seen == [Image.new("RGB", (1, 1), c).getpixel((0, 0)) for c in colours]


def test_a_run_resumed_the_moment_it_pauses_is_waited_for(model: ti.Model, photos: ti.ConceptImages) -> None:
    def resume_once() -> None:
        if driver.state == "paused" and not resumed:
            resumed.append(True)
            driver.start(background=True)

    resumed: list[bool] = []
    run = _run(model, photos, LONG)
    driver = Driver(run, on_step=lambda record: None, on_sample=lambda: None, on_state=resume_once)
    driver.start(background=True)
    driver.ask_pause()
    _until(lambda: len(run.records) >= 2 and bool(resumed))
    driver.ask_stop()
    driver.wait()
    assert driver.state == "stopped"


def test_a_panel_with_other_options_is_refused_while_its_run_trains(model: ti.Model, photos: ti.ConceptImages) -> None:
    run = _run(model, photos, LONG)
    panel = run.panel(every=0, background=True)
    panel.start()
    with pytest.raises(ValueError, match="pause it"):
        run.panel(every=3)
    panel.stop()
    panel.wait()


def test_what_a_cell_does_while_a_thread_trains_changes_neither(model: ti.Model, photos: ti.ConceptImages) -> None:
    alone = _run(model, photos, 12)
    for _ in alone:
        pass
    word = ti.initial_concept(model, "<other>", "taco", 2)
    draw = {"prompts": "a {word}", "concepts": word, "seeds": 2, "steps": 2, "progress": False}
    before, looked = ti.sample(model, **draw), ti.attention(model, photos, "a {word}", word).maps
    panel = _panel(_run(model, photos, 12), background=True)
    panel.start()
    while panel.state == "running":
        assert [s.image.tobytes() for s in ti.sample(model, **draw)] == [s.image.tobytes() for s in before]
        assert ti.attention(model, photos, "a {word}", word).maps.equal(looked)
    panel.wait()
    assert panel.state == "finished"
    assert panel.run.concept().vectors["clip_l"].equal(alone.concept().vectors["clip_l"])


ENDS = [("", 0), ("sys.exit()", 0), ("raise SystemExit(3)", 3), ("raise RuntimeError('a fault of its own')", 1)]


@pytest.mark.thorough
@pytest.mark.parametrize(("end", "code"), ENDS)
def test_a_program_that_ends_while_its_panel_trains_loses_nothing(tmp_path: Path, end: str, code: int) -> None:
    """It used to die within torch, three times of four."""
    program = BEGIN.format(out=str(tmp_path / "run"), steps=20, every=0) + f"print(len(run.records))\n{end}\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-2000:]
    assert wrong_after_the_end(smallest(), tmp_path / "run", 0, int(done.stdout.split()[-1])) == ""


def test_a_second_interrupt_while_a_run_in_the_cell_is_being_saved_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(smallest(), tmp_path, steps=8, save_every=100)
    panel = _panel(run, background=False)
    press(monkeypatch, run._draws, "draw", at=3)
    press(monkeypatch, run.folder, "save", at=2)  # the driver's, after that of the step
    panel.start()
    assert panel.state == "paused" and len(ti.read_run(tmp_path).records) == 2
    turns.claim("a test")
    turns.release()
    monkeypatch.undo()
    panel.start()
    assert panel.state == "finished"


def press(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, at: int) -> None:
    """Ctrl-C as it is called for the `at`-th time."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process is born deaf to it
    real, calls = getattr(owner, name), iter(range(1, 1000))

    def interrupted(*arguments: object) -> object:
        if next(calls) == at:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(owner, name, interrupted)


def test_start_says_whose_the_folder_is_by_now(tmp_path: Path) -> None:
    model = smallest()
    panel, other = _panel(train(model, tmp_path, steps=4), background=True), train(model, tmp_path, steps=4)
    next(other)
    panel.buttons["start"].click()
    assert panel.state == "ready" and "another run wrote to it" in panel._status.value
    turns.claim("a test")
    turns.release()


def test_a_run_whose_folder_was_taken_fails_in_words_in_its_panel(tmp_path: Path) -> None:
    model = smallest()
    run, other = (train(model, tmp_path / name, steps=LONG, save_every=1) for name in ("run", "other"))
    next(other)
    panel = _panel(run, background=True)
    panel.start()
    _until(lambda: run.folder.saved >= 1)
    with turns.turn:  # as another machine does where locks don't reach
        shutil.copy(tmp_path / "other" / "state.safetensors", tmp_path / "run" / "state.safetensors")
    with pytest.raises(ValueError, match="another run wrote to it"):
        panel.wait()
    assert panel.state == "failed" and "another run wrote to it" in panel._status.value


def _usable(panel: ti.TrainPanel) -> set[str]:
    return {name for name, button in panel.buttons.items() if not button.disabled}


def test_buttons_can_be_pressed_where_they_do_something(model: ti.Model, photos: ti.ConceptImages) -> None:
    panel = _panel(_run(model, photos, LONG), background=True)
    assert _usable(panel) == {"start", "sample"}
    with turns.turn:  # no step ends meanwhile
        panel.start()
        assert _usable(panel) == {"pause", "stop", "sample"}
        panel.pause()
        assert _usable(panel) == {"stop"} and "Pausing after this step" in panel._status.value
    panel.wait()
    assert _usable(panel) == {"start", "stop", "sample"} and "Paused" in panel._status.value
    panel.stop()
    assert _usable(panel) == {"start", "sample"} and "Stopped" in panel._status.value


def test_the_place_of_the_previews_is_held_until_they_come(model: ti.Model, photos: ti.ConceptImages) -> None:
    panel = _panel(_run(model, photos, 2), background=False, every=2, seeds=3, prompts=("a {word}", "{word}"))
    before = _picture_in(panel.previews._strip.value)
    panel.start()
    assert _picture_in(panel.previews._strip.value).size == before.size == (3 * 196 - 4, 2 * 196 - 4)
    assert _picture_in(_panel(_run(model, photos), every=0).previews._strip.value) is None


def _picture_in(page: str) -> Image.Image | None:
    found = re.search(r"base64,([^\"]+)", page)
    return Image.open(io.BytesIO(base64.b64decode(found[1]))) if found else None


def test_pictures_say_in_words_what_they_show(model: ti.Model, photos: ti.ConceptImages) -> None:
    panel = _panel(_run(model, photos, 2), background=False, every=2)
    panel.start()
    assert 'alt="Previews. After step 2: a photo of a &lt;new&gt;. Seeds 0."' in panel.previews._strip.value
    assert re.search(r'alt="Curves of loss, gain and vector. Loss \d', panel._curves.value)


def test_a_change_of_the_rate_is_one_note(model: ti.Model, photos: ti.ConceptImages) -> None:
    panel = _panel(_run(model, photos, 6), background=False)
    assert panel.rate.continuous_update is False
    for factor in (0.9, 0.7, 0.5):
        panel.run.rate_factor = factor
    assert next(panel.run).note == "rate times 0.5 from here on"
    for factor in (0.4, 0.3):  # by the arrow keys, while it trains
        panel.run.rate_factor = factor
        next(panel.run)
    assert notes_in_words(panel.run) == ["Step 3: rate times 0.3 from here on"]


class _Timed(SimpleNamespace):
    """A run of 40 steps of which some are done; their seconds are given, every fifth measured the scores."""

    def __init__(self, gaps: list[float]) -> None:
        ends = enumerate(accumulate(gaps), 1)
        records = [SimpleNamespace(seconds=end, gain=None if step % 5 else 0.1) for step, end in ends]
        super().__init__(
            records=records, settings=SimpleNamespace(watch=5), model=SimpleNamespace(device=torch.device("cpu"))
        )

    def __len__(self) -> int:
        return 40


def test_the_time_that_is_left_is_that_of_steps_scores_and_previews() -> None:
    gaps = [2.0 if (i + 1) % 5 else 12.0 for i in range(20)]  # a score takes 10 s
    run: Any = _Timed(gaps)
    assert step_seconds(run) == (2.0, pytest.approx(10.0))
    said = progress_in_words(run, 10, 15.0)
    assert "80 s elapsed" in said and "110 s" not in said
    assert "2 min left" in said  # 20 * 2 + 4 * 10 + 2 * 15 = 110 s
    assert "40 s of it for 4 scores" in said and "30 s of it for 2 previews" in said
    assert "and 2 previews left" in progress_in_words(run, 10, None)


def test_curves_are_read_on_white_and_on_black(model: ti.Model, photos: ti.ConceptImages) -> None:
    panel = _panel(_run(model, photos, 4), background=False)
    panel.start()
    shown = _picture_in(panel._curves.value)
    assert shown is not None
    pixels = np.asarray(shown.convert("RGBA")).reshape(-1, 4).astype(float)
    assert (pixels[:, 3] == 0).mean() > 0.8  # no ground of its own
    inks = np.unique(pixels[pixels[:, 3] == 255][:, :3], axis=0) / 255
    light = np.where(inks <= 0.04045, inks / 12.92, ((inks + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
    assert (1.05 / (light + 0.05)).min() >= 3 and ((light + 0.05) / 0.05).min() >= 3
