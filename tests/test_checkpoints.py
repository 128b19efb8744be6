"""A kept run outlives interrupts, kills and full disks bit for bit; its files are what they claim; others are refused."""

from __future__ import annotations

import csv
import errno
import gc
import importlib.util
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import ti_nb as ti
from ti_nb.host import claims, turns
from ti_nb.models import denoise
from ti_nb.training import batches, checkpoints, losses, optimiser, records
from ti_nb.training import run as training
from ti_nb.training.checkpoints import RunFolder
from ti_nb.training.records import RECORDS, STATE, VECTORS, WORD

from . import disturbed, killed
from .families import pipeline
from .killed import difference, in_a_child, smallest, train, without_seconds

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_little_to_do() -> Iterator[None]:
    threads, interrupt = torch.get_num_threads(), signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "FIXED_BATCH", 2)
        yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, interrupt)


@pytest.fixture(scope="module")
def small() -> ti.Model:
    """Of random weights: how well it learns does not matter here."""
    return smallest()


@pytest.fixture(scope="module")
def whole(small: ti.Model) -> ti.Run:
    """Never interrupted, kept nowhere: what every other run must equal."""
    run = train(small, steps=4)
    list(run)
    return run


@pytest.fixture
def kept(small: ti.Model, whole: ti.Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder of that run, had it been kept."""
    made = tmp_path_factory.getbasetemp() / "kept"
    if not made.exists():
        list(train(small, made, steps=4))
    return shutil.copytree(made, tmp_path / "kept")


def assert_equal(run: ti.Run, whole: ti.Run) -> None:
    assert without_seconds(run.records) == without_seconds(whole.records)
    for key, history in whole.history.items():
        assert torch.equal(torch.stack(run.history[key]), torch.stack(history))
        assert torch.equal(run.concept().vectors[key], whole.concept().vectors[key])
    assert_same_state(run.state(), whole.state())


def assert_same_state(state: dict[str, Any], other: dict[str, Any]) -> None:
    assert state.keys() == other.keys()
    assert [k for k, v in state.items() if not torch.equal(torch.as_tensor(v), torch.as_tensor(other[k]))] == []


SETTINGS = {
    "plain": dict(vectors=1, negative=0, ema=0.0, watch=0),
    "everything": dict(),
    "no mean": dict(ema=0.0, norm="fixed"),
    "schedule": dict(rate="0.005:3, 1e-3", norm="free", weight_decay=0.1, stratified=False, watch=0),
    "random start": dict(
        init=None, watch=0, pull=0.1, snr_gamma=5.0, dropout=0.5, shuffle=True, templates=("a {}, old, big",)
    ),
}


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("save_every", [2, pytest.param(1, marks=pytest.mark.thorough)])
def test_a_run_stopped_and_resumed_equals_one_never_stopped(
    small: ti.Model, tmp_path: Path, changes: dict, save_every: int
) -> None:
    whole = train(small, steps=5, **changes)
    list(whole)
    first = train(small, tmp_path, steps=5, save_every=save_every, **changes)
    assert [next(first).step for _ in range(3)] == [1, 2, 3]
    second = train(small, tmp_path, steps=5, save_every=save_every, **changes)
    done = 3 // save_every * save_every
    assert without_seconds(second.records) == without_seconds(whole.records[:done])
    assert next(second).step == done + 1
    list(train(small, tmp_path, steps=5, save_every=save_every, **changes))
    assert difference(tmp_path, whole) == ""
    assert_equal(train(small, tmp_path, steps=5, **changes), whole)


def test_a_run_of_two_text_encoders_resumes_equal(tmp_path: Path) -> None:
    model = ti.from_pipeline(pipeline("sdxl"))
    whole = train(model, steps=4)
    list(whole)
    next(train(model, tmp_path, steps=4))
    resumed = train(model, tmp_path, steps=4)
    list(resumed)
    assert_equal(resumed, whole)
    assert ti.read_run(tmp_path).concept().vectors.keys() == {"clip_l", "clip_g"}
    assert difference(tmp_path, whole) == ""


def test_a_run_of_the_embedded_model_resumes_equal(model: ti.Model, photos: ti.ConceptImages, tmp_path: Path) -> None:
    how = dict(word="<new>", init="animal", steps=4, batch=2, watch=2)
    whole = ti.train(model, photos, **how)
    list(whole)
    next(ti.train(model, photos, out=tmp_path, save_every=1, **how))
    resumed = ti.train(model, photos, out=tmp_path, **how)
    list(resumed)
    assert_equal(resumed, whole)


def test_runs_that_go_together_resume_equal(small: ti.Model, photos: ti.ConceptImages, tmp_path: Path) -> None:
    how = dict(word="<new>", init="animal", steps=4, batch=2, seeds=2, save_every=1)
    whole = ti.train_seeds(small, photos, **how)
    list(ti.together(whole))
    next(ti.together(ti.train_seeds(small, photos, out=tmp_path, **how)))
    resumed = ti.train_seeds(small, photos, out=tmp_path, **how)
    assert [len(run.records) for run in resumed] == [1, 1]
    list(ti.together(resumed))
    for run, other in zip(resumed, whole):
        assert_equal(run, other)


# Killed.


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def lines_of(module: Any, folder: Path, *arguments: object) -> list[dict]:
    """What the program prints, in a fork of a process that has imported it and nothing but one thread."""
    forks, said = multiprocessing.get_context("forkserver"), folder / "said.jsonl"
    forks.set_forkserver_preload(["tests.disturbed"])
    program = forks.Process(target=killed.print_into, args=(said, module.main, [str(given) for given in arguments]))
    program.start()
    program.join()
    assert program.exitcode == 0, said.read_text()
    return [json.loads(line) for line in said.read_text().splitlines()]


@needs_fork
@pytest.mark.skipif(torch.version.cuda is not None, reason="torch built for GPUs can't train in a forked process")
@pytest.mark.thorough
@pytest.mark.parametrize("times", [4])
def test_runs_killed_at_random_moments_resume_equal(tmp_path: Path, times: int) -> None:
    runs = lines_of(killed, tmp_path, "kill", tmp_path, "--times", times, "--steps", 12)
    assert [run["wrong"] for run in runs] == [""] * times
    assert sum(len(run["killed"]) for run in runs) > 0


@needs_fork
@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.thorough)])
def test_dead_between_any_two_file_operations_the_state_before_or_after_is_whole(tmp_path: Path, every: int) -> None:
    """Of the first save, which makes the files, and of the last."""
    points = lines_of(killed, tmp_path, "point", tmp_path, "--steps", 2, "--done", 0, 1, "--every", every)
    assert [p for p in points if p["wrong"] or p["began"] != p["held"]] == []
    for done in (0, 1):
        held = [p["held"] for p in points if p["done"] == done]
        calls = Counter(p["before"] for p in points if p["done"] == done)
        assert held == sorted(held)
        assert set(held) == {done, done + 1}
        first = not done  # a new folder gets a state before anything else
        if every == 1:
            assert calls["fsync"] == 4 + first
            assert calls["replace"] == 2 + first


# A full disk.


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_what_a_failed_save_leaves(run: ti.Run, out: Path, copy: Path, whole: ti.Run, done: int) -> None:
    """After the save of step `done` + 1 failed, and before there is room again: elsewhere, the run resumes."""
    assert len(run.records) == done + 1
    assert difference(out, whole, done) == ""
    assert [path.name for path in out.glob(".*.tmp")] == []
    shutil.copytree(out, copy)
    resumed = train(run.model, copy, steps=len(run))
    assert len(resumed.records) == done
    list(resumed)
    assert_equal(resumed, whole)


@pytest.mark.parametrize("done", [2, 3])
@pytest.mark.parametrize("room", ["none", "part of the vectors", "part of the records", "part of the state"])
def test_a_save_that_fails_says_what_is_whole_and_the_run_goes_on(
    small: ti.Model, whole: ti.Run, tmp_path: Path, done: int, room: str
) -> None:
    """Of a step in the middle, and of the last, after which there is nothing left to do but save."""
    out = tmp_path / "run"
    run = train(small, out, steps=4)
    for _ in range(done):
        next(run)
    size = {path.name: path.stat().st_size for path in out.iterdir()}
    limit = {"none": 0, "part of the vectors": size[VECTORS] + 10, "part of the state": size[STATE] - 10}
    limit["part of the records"] = size[VECTORS] * (done + 1) // done
    with (
        files_no_larger_than(limit[room]),
        pytest.raises(
            OSError, match=rf"could not be saved.*File too large.*step {done}, is whole.*free some"
        ) as caught,
    ):
        next(run)
    assert caught.value.errno == errno.EFBIG
    check_what_a_failed_save_leaves(run, out, tmp_path / "copy", whole, done)
    list(run)
    assert_equal(run, whole)
    assert difference(out, whole) == ""


@pytest.mark.parametrize("pages", [0, 1])
def test_a_disk_that_is_full_leaves_the_last_save_and_the_run(
    small: ti.Model, whole: ti.Run, tmp_path: Path, pages: int
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    how = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if mount is None or subprocess.run([mount, *how], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        run = train(small, disk / "run", steps=4)
        next(run), next(run)
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        os.truncate(filler, filler.stat().st_size - pages * 4096)
        with pytest.raises(OSError, match=r"No space left.*step 2, is whole") as caught:
            next(run)
        assert caught.value.errno == errno.ENOSPC
        check_what_a_failed_save_leaves(run, disk / "run", tmp_path / "copy", whole, 2)
        filler.unlink()
        list(run)
        assert_equal(run, whole)
        assert difference(disk / "run", whole) == ""
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_state_that_just_got_its_name_is_whole_though_an_interrupt_and_a_full_disk_follow(
    small: ti.Model, whole: ti.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run then thinks that the state before is on the disk, and writes its last step again."""
    out = tmp_path / "run"
    run = train(small, out, steps=4)
    next(run), next(run)
    replace_file = os.replace

    def replace_and_interrupt(old: Path, new: Path) -> None:
        replace_file(old, new)
        if new.name == STATE:
            monkeypatch.undo()
            disk.enter_context(files_no_larger_than(0))
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace_and_interrupt)
    with ExitStack() as disk, pytest.raises(OSError, match="could not be saved"):
        next(run)
    assert difference(out, whole, 3) == ""
    list(run)
    assert difference(out, whole) == ""


def test_a_folder_that_was_removed_is_written_anew(small: ti.Model, whole: ti.Run, tmp_path: Path) -> None:
    run = train(small, tmp_path / "run", steps=4)
    next(run), next(run)
    shutil.rmtree(tmp_path / "run")
    list(run)
    assert difference(tmp_path / "run", whole) == ""


# Interrupted inside a step.


def interrupt_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """The next call of it is done, then the user's interrupt arrives."""
    real = getattr(owner, name)

    def interrupted(*arguments: Any, **named: Any) -> None:
        real(*arguments, **named)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, interrupted)


PLACES = {
    "the draw": (batches.Draws, "draw"),
    "the forward pass": (losses, "predict"),
    "the optimiser": (torch.optim.AdamW, "step"),
    "the record": (ti.StepRecord, "of"),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("done", [0, 2])
def test_an_interrupt_leaves_the_run_saved_and_as_it_was_before_the_step(
    small: ti.Model, whole: ti.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str], done: int
) -> None:
    run = train(small, tmp_path, steps=4, save_every=100)
    for _ in range(done):
        next(run)
    before = run.state()
    interrupt_once(monkeypatch, *place)
    with pytest.raises(KeyboardInterrupt):
        next(run)
    assert_same_state(run.state(), before)
    assert without_seconds(run.records) == without_seconds(whole.records[:done])
    assert {len(history) for history in run.history.values()} == {done}
    assert difference(tmp_path, whole, done) == ""
    assert_same_state(train(small, tmp_path, steps=4).state(), before)
    list(run)
    assert_equal(run, whole)
    assert difference(tmp_path, whole) == ""


def press(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, how: Callable[[], object]) -> None:
    """Interrupt the next call of it, at its beginning."""
    real = getattr(owner, name)

    def interrupted(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(owner, name, real)
        how()
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, staticmethod(interrupted) if name == "of" else interrupted)


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def raised() -> None:
    """As where no handler can hold it back: before one is there."""
    raise KeyboardInterrupt


SECOND = {"restore": (optimiser.Learner, "restore"), "_save": (RunFolder, "_save"), "replace": (os, "replace")}


def twice() -> Iterator[Any]:
    """Each place with each, and with each way; every day each pair of them, all three together when there is time."""
    for (i, first), (j, second), (k, how) in itertools.product(
        enumerate(PLACES), enumerate(SECOND), enumerate((ctrl_c, raised))
    ):
        marks = [pytest.mark.thorough] if (i + j + k) % 2 else []
        yield pytest.param(PLACES[first], SECOND[second], how, id=f"{first}-{second}-{how.__name__}", marks=marks)


@pytest.mark.parametrize(("first", "second", "how"), list(twice()))
def test_interrupted_twice_a_run_is_as_if_it_were_interrupted_once(
    small: ti.Model,
    whole: ti.Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: tuple[Any, str],
    second: tuple[Any, str],
    how: Callable[[], object],
) -> None:
    run = train(small, tmp_path, steps=4)
    next(run)
    press(monkeypatch, *first, ctrl_c)
    press(monkeypatch, *second, how)
    with pytest.raises(KeyboardInterrupt):
        next(run)
    monkeypatch.undo()
    monkeypatch.setattr(losses, "FIXED_BATCH", 2)
    assert len(run.records) == 1
    assert torch.equal(run.concept().vectors["clip_l"], whole.concept(1).vectors["clip_l"])
    list(run)
    assert_equal(run, whole)
    assert difference(tmp_path, whole) == ""


@needs_fork
@pytest.mark.thorough
@pytest.mark.parametrize("times", [5])
def test_runs_interrupted_twice_at_random_moments_end_equal(tmp_path: Path, times: int) -> None:
    runs = lines_of(disturbed, tmp_path, "interrupts", "--times", times)
    assert {run["wrong"] for run in runs} == {""}
    assert sum(run["twice"] for run in runs) >= times


def test_a_save_that_fails_in_one_run_does_not_keep_another_from_being_saved(
    small: ti.Model, photos: ti.ConceptImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = dict(word="<new>", init="animal", steps=4, batch=2, seeds=2, out=tmp_path)
    runs = ti.train_seeds(small, photos, **how)
    steps = ti.together(runs)
    next(steps)
    monkeypatch.setattr(runs[0].folder, "_save", lambda *_: (_ for _ in ()).throw(OSError("the disk burns")))
    press(monkeypatch, torch.optim.AdamW, "step", ctrl_c)
    with pytest.raises(OSError, match="the disk burns"):
        next(steps)
    assert len(ti.read_run(tmp_path / "seed-1").records) == 1


@contextmanager
def interrupt_at_line(number: int) -> Iterator[None]:
    """Raise at the `number`-th line that the package runs; no interrupt if it runs fewer."""
    count, home = 0, str(ROOT / "ti_nb")

    def watch(frame: types.FrameType, event: str, _: Any) -> Callable | None:
        nonlocal count
        if not frame.f_code.co_filename.startswith(home):
            return None
        if event == "line":
            count += 1
            if count == number:
                sys.settrace(None)
                raise KeyboardInterrupt
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("apart", [19, pytest.param(7, marks=pytest.mark.thorough)])
def test_an_interrupt_at_any_line_of_a_step_or_its_save_spoils_nothing(
    small: ti.Model, whole: ti.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: int
) -> None:
    """Every `apart`-th line; one run takes all the interrupts."""
    # A tracer also raises where Python lets no interrupt in: on the way out of a `with`, before the lock is released.
    monkeypatch.setattr(turns, "turn", threading.RLock())
    run = train(small, tmp_path, steps=4)
    next(run)
    interrupts = []
    number = 1
    while not run.finished:
        done = len(run.records)
        try:
            with interrupt_at_line(number):
                next(run)
        except KeyboardInterrupt:
            interrupts.append(len(run.records) - done)
            assert {len(history) for history in run.history.values()} == {len(run.records)}
            assert difference(tmp_path, whole, len(run.records)) == "", number
            number += apart
        else:
            number = len(run.records) + 1
    assert len(interrupts) > 20
    assert set(interrupts) == {0, 1}
    assert_equal(run, whole)
    assert difference(tmp_path, whole) == ""


def test_after_an_interrupt_another_thread_gets_its_turn_with_the_model(small: ti.Model) -> None:
    """Real interrupts, at moments of this process's own time that nobody chose."""
    run = train(small, steps=100_000)
    moments, longest, came = random.Random(0), 0.1, 0

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        while came < 30 or len(run.records) < 20:
            done = len(run.records)
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, moments.uniform(0.0005, longest))
                while True:
                    next(run)
            except KeyboardInterrupt:
                came += 1
            if len(run.records) == done:
                longest *= 1.2  # where a step takes longer than that, none would ever be done
            assert others_may_go_on()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def others_may_go_on() -> bool:
    """Whether another thread gets its turn with the models."""
    came = threading.Event()

    def take() -> None:
        with turns.turn:
            came.set()

    threading.Thread(target=take, daemon=True).start()
    return came.wait(600)


def test_an_interrupt_saves_each_of_the_runs_that_go_together(
    small: ti.Model, photos: ti.ConceptImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = ti.train_seeds(small, photos, word="<new>", init="animal", steps=4, batch=2, seeds=2, out=tmp_path)
    steps = ti.together(runs)
    next(steps)
    interrupt_once(monkeypatch, torch.optim.AdamW, "step")
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    assert [len(ti.read_run(tmp_path / f"seed-{seed}").records) for seed in range(2)] == [1, 1]


# What is refused, and what is not.


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != claims.LOCK_FILE
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(word="<old>"), r"word: '<new>' in the folder, '<old>' requested"),
        (dict(seed=1), r"seed: 0 in the folder, 1 requested"),
        (dict(ema=0.5, batch=3), r"batch: 2 in the folder, 3 requested; ema: 0\.9 in the folder, 0\.5 requested"),
        (dict(timesteps=(0.5, 1)), r"timesteps: \[0\.0, 1\.0\] in the folder, \[0\.5, 1\] requested"),
        (dict(init="bus"), "another initializer"),
    ],
)
def test_a_folder_of_another_run_is_refused_and_left_alone(
    small: ti.Model, whole: ti.Run, kept: Path, changes: dict, reason: str
) -> None:
    with pytest.raises(ValueError, match=rf"holds another run \({reason}\): give another folder"):
        train(small, kept, steps=4, **changes)
    assert difference(kept, whole) == ""


def test_other_pictures_captions_or_masks_are_refused(
    small: ti.Model, photos: ti.ConceptImages, tmp_path: Path
) -> None:
    how = dict(word="<new>", init="animal", steps=2, batch=1, out=tmp_path)
    list(ti.train(small, photos, **how))
    grey = tuple(image.convert("L") for image in photos.images)
    for other in (
        ti.example_images("bus"),
        replace(photos, flip=True),
        replace(photos, captions=("a {}",) * len(photos)),
        replace(photos, masks=grey),
    ):
        with pytest.raises(ValueError, match="other pictures, captions or masks"):
            ti.train(small, other, **how)
    assert ti.train(small, replace(photos, names=("x",) * len(photos)), **how).finished


def test_another_run_is_left_alone_and_this_one_kept_beside_it(small: ti.Model, whole: ti.Run, tmp_path: Path) -> None:
    out, other = tmp_path / "run", {"steps": 2, "init": "taco", "resume": "beside"}
    list(train(small, out, steps=2))
    held = contents(out)
    first = train(small, out, **other)
    list(first)
    assert first.folder.path == tmp_path / "run-2"
    again, same = train(small, out, **other), train(small, out, steps=2, resume="beside")
    assert (again.folder.path, len(again.records)) == (tmp_path / "run-2", 2)
    assert (same.folder.path, len(same.records)) == (out, 2)
    assert train(small, out, **{**other, "rate": 0.1}).folder.path == tmp_path / "run-3"
    assert contents(out) == held


def test_latents_that_another_device_rounds_otherwise_are_the_same_run(
    small: ti.Model, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = denoise.cache_latents
    monkeypatch.setattr(batches, "cache_latents", lambda *a: tuple(part * (1 + 2**-22) for part in real(*a)))
    assert train(small, kept, steps=4).finished


def test_never_resume_refuses_a_used_folder_and_takes_a_new_one(small: ti.Model, kept: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="holds a run: give another folder"):
        train(small, kept, steps=4, resume="never")
    assert not train(small, tmp_path / "new", steps=4, resume="never").records
    with pytest.raises(ValueError, match="write 'auto', 'beside' or 'never'"):
        train(small, kept, steps=4, resume="yes")
    with pytest.raises(ValueError, match="save_every is 0"):
        train(small, kept, steps=4, save_every=0)


def test_more_steps_go_on_and_equal_the_longer_run(small: ti.Model, tmp_path: Path) -> None:
    long = train(small, steps=6, decay="constant", watch=0)
    list(long)
    list(train(small, tmp_path, steps=3, decay="constant", watch=0))
    run = train(small, tmp_path, steps=6, decay="constant", watch=0)
    assert [record.step for record in run] == [4, 5, 6]
    assert [replace(record, steps=6) for record in without_seconds(run.records)] == without_seconds(long.records)
    assert_same_state(run.state(), long.state())
    assert torch.equal(torch.stack(run.history["clip_l"]), torch.stack(long.history["clip_l"]))


def test_a_finished_run_resumes_finished(small: ti.Model, whole: ti.Run, kept: Path) -> None:
    before = contents(kept)
    run = train(small, kept, steps=4)
    assert run.finished
    assert list(run) == []
    assert_equal(run, whole)
    assert contents(kept) == before


def test_a_run_that_went_flat_resumes_stopped(small: ti.Model, tmp_path: Path) -> None:
    how = dict(steps=40, watch=1, stop="flat", rate="0.05:6, 1e-9", ema=0.0, negative=0, norm="free")
    steps = len(list(train(small, tmp_path, **how)))
    assert 4 <= steps < 40
    run = train(small, tmp_path, **how)
    assert run.finished
    assert len(run.records) == steps


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def zeros(path: Path) -> None:
    """What a broken sync, or a power cut, leaves."""
    keep = path.stat().st_size * 3 // 4
    path.write_bytes(path.read_bytes()[:keep].ljust(path.stat().st_size, b"\0"))


def bit(part: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) * part // 8] ^= 4
        path.write_bytes(data)

    return flip


def without_facts(path: Path) -> None:
    save_file({"rows.clip_l": torch.zeros(2, 8)}, path)


def without_column(path: Path) -> None:
    rows = [line.rsplit(",", 3)[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(rows).ljust(path.stat().st_size))


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "empty state": (STATE, lambda path: path.write_bytes(b"")),
    "state cut short": (STATE, cut),
    "zeros for a state": (STATE, lambda path: path.write_bytes(bytes(path.stat().st_size))),
    "text for a state": (STATE, lambda path: path.write_text("hello " * 100)),
    "state without facts": (STATE, without_facts),
    "no vectors": (VECTORS, lambda path: path.unlink()),
    "vectors cut short": (VECTORS, cut),
    "no records": (RECORDS, lambda path: path.unlink()),
    "records cut short": (RECORDS, cut),
    "records without a column": (RECORDS, without_column),
    "records of words": (RECORDS, lambda path: path.write_text(path.read_text().replace("0.", "o."))),
    "records of bytes": (RECORDS, lambda path: path.write_bytes(b"\xff" * path.stat().st_size)),
    "no state": (STATE, lambda path: path.unlink()),
    **{f"zeros at the end of {name}": (name, zeros) for name in (STATE, VECTORS, RECORDS)},
    **{
        f"one bit of {name}, {part} of 8": (name, bit(part))
        for name in (STATE, VECTORS, RECORDS)
        for part in (1, 3, 5, 7)
    },
}


@pytest.mark.parametrize(("name", "damage"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_run_is_said_to_be_and_left_alone(
    small: ti.Model, kept: Path, name: str, damage: Callable[[Path], object]
) -> None:
    damage(kept / name)
    before = contents(kept)
    for read in (lambda: ti.read_run(kept), lambda: train(small, kept, steps=4)):
        with pytest.raises(ValueError, match=r"can't be read .*: give another folder"):
            read()
    assert contents(kept) == before


def rewritten(path: Path, **changes: Any) -> None:
    """The state with other contents, sealed as ours are."""
    tensors, facts = records._read_state(path.read_bytes())
    parts = {key: value for key, value in {**facts["numbers"], **tensors, **changes}.items() if value is not None}
    path.write_bytes(records.as_state(facts, parts))


@pytest.mark.parametrize(
    "changes", [{"generator": None}, {"generator": torch.zeros(9)}, {"rows.clip_l": None}, {"slower": None}]
)
def test_a_state_that_lacks_a_part_is_said_to_be_damaged(small: ti.Model, kept: Path, changes: dict) -> None:
    rewritten(kept / STATE, **changes)
    with pytest.raises(ValueError, match=r"can't be read .*: give another folder"):
        train(small, kept, steps=4)


@pytest.mark.parametrize("version", [None, 1, records.FORMAT + 1, "two"])
def test_a_folder_of_another_version_is_refused_or_left_beside(
    small: ti.Model, kept: Path, monkeypatch: pytest.MonkeyPatch, version: object
) -> None:
    with monkeypatch.context() as other:
        tensors, facts = records._read_state((kept / STATE).read_bytes())
        other.setattr(records, "FORMAT", version)
        (kept / STATE).write_bytes(records.as_state(facts, tensors | facts["numbers"]))
    before = contents(kept)
    for read in (lambda: ti.read_run(kept), lambda: train(small, kept, steps=4)):
        with pytest.raises(ValueError, match=rf"another version of ti_nb, its format is {version}"):
            read()
    assert train(small, kept, steps=4, resume="beside").folder.path.name == "kept-2"
    assert contents(kept) == before


def test_a_words_file_that_is_damaged_or_gone_is_written_again(small: ti.Model, whole: ti.Run, kept: Path) -> None:
    for damage in (cut, bit(4), Path.unlink):
        damage(kept / WORD)
        assert train(small, kept, steps=4).finished
        assert difference(kept, whole) == ""


def test_a_folder_without_a_run_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no run: it has no state\.safetensors"):
        ti.read_run(tmp_path)


# More than one writer.


def test_another_process_is_refused_before_any_work_until_the_run_is_finished_or_gone(
    small: ti.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(small, tmp_path / "run", steps=4)
    next(run)
    monkeypatch.setattr(claims, "_claims", {})  # as in another process, which shares none of it
    monkeypatch.setattr(training, "Draws", None)  # no work
    with pytest.raises(ValueError, match=r"is in use by a run of another program.*or resume='beside'"):
        train(small, tmp_path / "run", steps=4)
    monkeypatch.undo()
    monkeypatch.setattr(claims, "_claims", {})
    beside = train(small, tmp_path / "run", steps=4, resume="beside")
    assert beside.folder.path == tmp_path / "run-2"
    del run
    gc.collect()
    assert len(train(small, tmp_path / "run", steps=4).records) == 1


@needs_fork
@pytest.mark.skipif(torch.version.cuda is not None, reason="torch built for GPUs can't train in a forked process")
@pytest.mark.parametrize("times", [2, pytest.param(8, marks=pytest.mark.thorough)])
def test_two_processes_at_random_moments_spoil_nothing(tmp_path: Path, times: int) -> None:
    runs = lines_of(disturbed, tmp_path, "two", "--times", times)
    assert [run["wrong"] for run in runs] == [""] * times


def test_of_two_runs_in_one_folder_whoever_saves_first_keeps_it(small: ti.Model, whole: ti.Run, tmp_path: Path) -> None:
    """A cell with `train` run twice; or a loop over seeds that forgot to name other folders."""
    for number, change in enumerate(({}, {"seed": 1}, {"word": "<other>"})):
        out = tmp_path / str(number)
        first, second = train(small, out, steps=4), train(small, out, steps=4, **change)
        next(first)
        for beside in (second.__next__, second.save):
            with pytest.raises(ValueError, match="not as this run left it: another run wrote to it"):
                beside()
        assert not second.records
        list(first)
        assert difference(out, whole) == ""


def test_a_cell_with_train_run_again_goes_on(small: ti.Model, whole: ti.Run, tmp_path: Path) -> None:
    run = train(small, tmp_path, steps=4)
    next(run)
    old, run = run, train(small, tmp_path, steps=4)
    assert len(run.records) == 1
    list(run)
    with pytest.raises(ValueError, match="call train again"):
        next(old)
    assert difference(tmp_path, whole) == ""


def test_while_a_thread_trains_its_folder_is_refused_to_others(small: ti.Model, tmp_path: Path) -> None:
    run = train(small, tmp_path / "run", steps=100_000, watch=0)
    began, may_end = threading.Event(), threading.Event()

    def work() -> None:
        while not may_end.is_set():
            next(run)
            began.set()

    thread = threading.Thread(target=work)
    thread.start()
    began.wait()
    try:
        with pytest.raises(ValueError, match="trains in another thread: pause it"):
            train(small, tmp_path / "run", steps=100_000, watch=0)
        assert train(small, tmp_path / "run", steps=4, resume="beside").folder.path.name == "run-2"
        for _ in range(20):
            run.save()  # beside the thread's own saves
    finally:
        may_end.set()
        thread.join()
    assert difference(tmp_path / "run", run) == ""
    assert train(small, tmp_path / "run", steps=100_000, watch=0).records == run.records


def test_runs_of_one_folder_cannot_go_together(small: ti.Model, tmp_path: Path) -> None:
    runs = [train(small, tmp_path, steps=4, negative=0, seed=seed) for seed in range(2)]
    with pytest.raises(ValueError, match="folders of their own"):
        next(ti.together(runs))


@needs_fork
def test_a_forked_process_does_not_write_where_its_parent_trains(small: ti.Model, tmp_path: Path) -> None:
    run = train(small, tmp_path, steps=4)
    child, read = in_a_child(lambda say: say(refusal_of(run.save)))
    os.waitpid(child, 0)
    assert "in use by a run of another program" in os.read(read, 4096).decode()
    os.close(read)
    run.save()


def refusal_of(work: Callable[[], object]) -> str:
    try:
        work()
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("error", [NotImplementedError(), OSError(errno.ENOLCK, "no locks")])
def test_on_a_file_system_without_locks_each_save_still_sees_whose_the_folder_is(
    small: ti.Model, whole: ti.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(claims.FileLock, "acquire", refuse)
    first = train(small, tmp_path, steps=4)
    monkeypatch.setattr(claims, "_claims", {})  # as in another process
    second = train(small, tmp_path, steps=4, seed=1)
    list(first)
    with pytest.raises(ValueError, match="another run wrote to it"):
        second.save()
    assert difference(tmp_path, whole) == ""


def test_where_nothing_can_be_written_that_is_said_before_any_work_but_a_finished_run_is_read(
    small: ti.Model, whole: ti.Run, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(claims, "_locked", refuse)
    assert_equal(train(small, kept, steps=4), whole)
    monkeypatch.setattr(training, "Draws", None)
    for out in (kept, tmp_path / "new"):
        with pytest.raises(OSError, match=r"can't be written \(Read-only.*give another folder") as caught:
            train(small, out, steps=5, decay="cosine")
        assert caught.value.errno == errno.EROFS


def test_a_program_that_goes_to_another_folder_keeps_its_run_in_one(
    small: ti.Model, whole: ti.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    run = train(small, Path("run"), steps=4)
    next(run)
    monkeypatch.chdir("elsewhere")
    list(run)
    assert difference(tmp_path / "run", whole) == ""
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="rights of another kind")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
def test_files_get_the_rights_that_the_umask_gives_and_keep_those_they_have(
    small: ti.Model, tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        run = train(small, tmp_path / "run", steps=4, watch=0)
        next(run)
        files = [path for path in (tmp_path / "run").iterdir() if path.is_file() and path.name != claims.LOCK_FILE]
        assert {path.name: path.stat().st_mode & 0o777 for path in files} == {
            path.name: 0o666 & ~umask for path in files
        }
        (tmp_path / "run" / WORD).chmod(0o640)
        next(run)
        assert (tmp_path / "run" / WORD).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


# What the files hold.


def test_the_files_are_what_they_claim(model: ti.Model, photos: ti.ConceptImages, tmp_path: Path) -> None:
    how = dict(word="<new>", init="animal", vectors=2, steps=5, batch=2, watch=2, ema=0.9, save_every=2)
    run = ti.train(model, photos, out=tmp_path, **how)
    list(run)
    assert {path.name for path in tmp_path.iterdir()} - {"tensorboard", claims.LOCK_FILE} == {
        STATE,
        VECTORS,
        RECORDS,
        WORD,
    }
    assert (tmp_path / STATE).stat().st_size < 1_000_000

    kinds = get_type_hints(ti.StepRecord)
    with open(tmp_path / RECORDS, newline="") as file:
        rows = list(csv.DictReader(file))
    for row, record in zip(rows, run.records, strict=True):
        assert row.keys() == kinds.keys()
        for name, kind in kinds.items():
            value = getattr(record, name)
            assert row[name] == "" if value is None else (kind if kind in (int, str) else float)(row[name]) == value

    vectors = np.fromfile(tmp_path / VECTORS, dtype="<f4").reshape(5, 2, model.encoders[0].width)
    assert np.array_equal(vectors, torch.stack(run.history["clip_l"]).numpy())

    word, concept = ti.load(tmp_path / WORD), run.concept()
    assert (word.word, word.facts) == (concept.word, concept.facts)
    assert torch.equal(word.vectors["clip_l"], concept.vectors["clip_l"])

    saved = ti.read_run(tmp_path)
    assert saved.records == run.records
    assert saved.settings == json.loads(json.dumps(vars(run.settings)))
    for step in range(1, 6):
        assert torch.equal(saved.concept(step).vectors["clip_l"], run.concept(step).vectors["clip_l"])
    with pytest.raises(ValueError, match="give 1 to 5"):
        saved.concept(6)


def test_the_state_stays_small_with_many_steps(small: ti.Model, tmp_path: Path) -> None:
    run = train(small, tmp_path, steps=12, watch=0)
    next(run)
    first = (tmp_path / STATE).stat().st_size
    list(run)
    assert abs((tmp_path / STATE).stat().st_size - first) < 100


def test_notes_and_what_is_not_finite_are_read_again_equal(small: ti.Model, tmp_path: Path) -> None:
    run = train(small, tmp_path, steps=3, watch=0)
    next(run)
    run._learner.note('a note, with "quotes", commas; and an é')
    next(run)
    run.records[-1] = replace(run.records[-1], loss=float("inf"))
    shutil.rmtree(tmp_path)  # so that it is written once more
    run.save()
    assert ti.read_run(tmp_path).records == run.records
    assert 'with "quotes"' in run.records[1].note


def test_scalars_go_to_tensorboard_if_it_is_there(small: ti.Model, whole: ti.Run, tmp_path: Path) -> None:
    next(train(small, tmp_path, steps=4))
    list(train(small, tmp_path, steps=4))
    if importlib.util.find_spec("tensorboard") is None:
        assert not (tmp_path / "tensorboard").exists()
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([r.loss for r in whole.records])


def test_each_step_goes_to_tensorboard_once(
    small: ti.Model, whole: ti.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for its writer, as it need not be installed."""
    written, purged = [], []

    class SummaryWriter:
        def __init__(self, log_dir: str, purge_step: int) -> None:
            assert log_dir == str(tmp_path / "tensorboard")
            purged.append(purge_step)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None:
            pass

    stand_in = types.ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    real = importlib.util.find_spec
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    monkeypatch.setattr(
        checkpoints.importlib.util, "find_spec", lambda name, *a: name == "tensorboard" or real(name, *a)
    )
    first = train(small, tmp_path, steps=4, save_every=2)
    next(first), next(first)
    second = train(small, tmp_path, steps=4, save_every=2)
    list(second)
    assert purged == [1, 3]
    for name in ("loss", "rate", "norm", "gain"):
        values = [(getattr(r, name), r.step) for r in whole.records if getattr(r, name) is not None]
        assert [(value, step) for said, value, step in written if said == name] == values


def test_only_the_main_process_writes(small: ti.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import PartialState

    monkeypatch.setattr(PartialState, "is_main_process", False)
    list(train(small, tmp_path, steps=2))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    folder = RunFolder(tmp_path, save_every=3)
    assert [step for step in range(1, 8) if folder.is_due(step)] == [3, 6]
