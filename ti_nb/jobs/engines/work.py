"""What a worker does with an order: load the model once, train the jobs, keep each word as it is finished."""

from __future__ import annotations

import errno
import getpass
import hashlib
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import NotPossible
from ...files.writing import save
from ...host import claims
from ...host.plain_text import brief
from ...models.loading import load_model
from ...training.start import together, train
from ..job import Job, Stamp, stamp
from ..shelf import NOTE, RUN, WORD, Note, begin, finish
from .workers import WorkerUnfit

if TYPE_CHECKING:
    from ...models.model import Model
    from ...training.run import Run

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # on a disk of a worker's own: another worker's may have room
PATIENCE = 30  # times a second that a run's folder is waited for, while a worker of a driver that was killed ends


@dataclass(frozen=True)
class Place:
    """Where a model comes from.

    Attributes:
        name, options: as `load_model` takes them. identity: what tells it from another. model: the model itself, in one process.
    """

    name: str
    options: Mapping[str, Any]
    identity: Mapping[str, Any]
    model: Model | None = None


@dataclass(frozen=True)
class Task:
    """A job to do.

    Attributes:
        about: what its word depends on, see `Job.about`. folder: where to keep it. stamp: of its pictures; None to find out there.
        anew: why a word that is there does not count, for the report.
    """

    job: Job
    about: Mapping[str, Any]
    folder: str
    stamp: Stamp | None = None
    anew: str = ""


@dataclass(frozen=True)
class Order:
    """Jobs to do in one go; several share each pass through the model.

    Attributes:
        sends: the worker has another disk than the driver: it keeps the words in a folder of its own, and sends them.
    """

    tasks: tuple[Task, ...]
    model: Place
    save_every: int = 25
    keep_runs: bool = True
    sends: bool = False
    deaths: int = field(default=0, compare=False)

    def singly(self) -> list[Order]:
        """An order for each of its jobs, as after the death of a worker that had them all."""
        return [replace(self, tasks=(task,), deaths=self.deaths + 1) for task in self.tasks]


@dataclass(frozen=True)
class Outcome:
    """What became of a task, in some kilobytes.

    Attributes:
        reason: why it failed; "" where it did not. steps: in all; found: of these, done before. files: to keep at the driver's.
        no_room: it failed as the worker's own disk takes no more.
    """

    reason: str = ""
    steps: int = 0
    found: int = 0
    seconds: float = 0.0
    files: Mapping[str, bytes] = field(default_factory=dict)
    no_room: bool = False


@dataclass
class _Begun:
    """A task that is being trained."""

    task: Task
    folder: Path
    note: Note
    run: Run
    found: int


_loading = threading.Lock()
_models: dict[str, Model] = {}  # of this process: the last one used


def do(order: Order) -> list[Outcome]:
    """Do the order's jobs; an outcome for each, in their order. One that fails stops no other.

    Raises:
        WorkerUnfit: this worker's own disk takes no more; with the outcomes.
    """
    try:
        loaded(order.model)
    except Exception as error:
        return [Outcome(f"the model can't be loaded: {_why(error)}")] * len(order.tasks)
    began, outcomes = time.monotonic(), dict[int, Outcome]()
    begun: dict[int, _Begun] = {}
    for number, task in enumerate(order.tasks):
        try:
            begun[number] = _begin(task, order)
        except Exception as error:  # whatever is wrong with a job is its own reason, and no other's
            outcomes[number] = _failed(error, order, seconds=time.monotonic() - began)
    _train_side_by_side([each.run for each in begun.values()])
    for number, each in begun.items():
        outcomes[number] = _end(each, order, began, len(begun))
    done = [outcomes[number] for number in range(len(order.tasks))]
    full = [number for number, outcome in outcomes.items() if outcome.no_room]
    for number in full:
        shutil.rmtree(_own_folder(order.tasks[number]).parent, ignore_errors=True)
    if full:
        raise WorkerUnfit(
            f"the disk of {platform.node()} at {tempfile.gettempdir()!r} takes no more ({outcomes[full[0]].reason})",
            done,
        )
    return done


def _train_side_by_side(runs: Sequence[Run]) -> None:
    """Train several in one; what can't go together, or fails, is left for each to do by itself, from where it stands."""
    with suppress(Exception):
        for _ in together(runs) if len(runs) > 1 else ():
            pass


def _end(each: _Begun, order: Order, began: float, sharing: int) -> Outcome:
    """Train what is left, and keep the word."""
    run, since = each.run, time.monotonic()
    shared = (since - began) / sharing
    try:
        for _ in run:
            pass
        save(run.concept(), each.folder / WORD)
        if run.folder is not None:
            run.folder.release()
        finish(each.folder, each.note, len(run.records), keep_run=order.keep_runs)
        files = _sent(each.folder) if order.sends else {}
        return Outcome("", len(run.records), each.found, shared + time.monotonic() - since, files)
    except Exception as error:
        return _failed(error, order, len(run.records), each.found, shared + time.monotonic() - since)
    finally:
        if run.folder is not None:
            run.folder.release()


def _failed(error: Exception, order: Order, steps: int = 0, found: int = 0, seconds: float = 0.0) -> Outcome:
    """The outcome of a task that failed."""
    no_room = order.sends and isinstance(error, OSError) and error.errno in FULL
    return Outcome(_why(error), steps, found, seconds, no_room=no_room)


def _begin(task: Task, order: Order) -> _Begun:
    folder = _own_folder(task) if order.sends else Path(task.folder)
    seen = task.stamp or stamp(task.job)  # before they are loaded: if they change meanwhile, the next call sees it
    images, model = task.job.images(), loaded(order.model)
    note = Note(task.about, order.model.identity, seen)
    _wait_for(folder / RUN)
    begin(folder, note)
    job = task.job
    run = train(
        model,
        images,
        word=job.word,
        init=job.init,
        settings=job.settings,
        out=folder / RUN,
        save_every=order.save_every,
    )
    return _Begun(task, folder, note, run, len(run.records))


def _wait_for(run: Path) -> None:
    """Wait until nobody else writes there."""
    for left in range(PATIENCE, -1, -1):
        if not run.exists():
            return
        try:
            claims.take(run).release()
            return
        except claims.Taken:
            if not left:
                raise
            time.sleep(1)


def loaded(place: Place) -> Model:
    """The model, loaded once in this process.

    Raises:
        ValueError, OSError: as `load_model`.
    """
    if place.model is not None:
        return place.model
    key = repr((place.name, sorted(place.options.items(), key=lambda pair: pair[0]), place.identity))
    with _loading:
        if key not in _models:
            _models.clear()
            _models[key] = load_model(place.name, **place.options)
        return _models[key]


def _own_folder(task: Task) -> Path:
    """This machine's folder for a word, the same after a worker's death; nobody else can have made it for us."""
    name = hashlib.sha256(f"{getpass.getuser()} {task.folder}".encode()).hexdigest()[:16]
    parent = Path(tempfile.gettempdir()) / f"ti_nb-jobs-{name}"
    parent.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and (parent.is_symlink() or parent.stat().st_uid != os.getuid()):
        raise NotPossible(f"{str(parent)!r} is somebody else's: set TMPDIR to a folder of your own")
    return parent / "word"


def _sent(folder: Path) -> dict[str, bytes]:
    """The files that the driver keeps; they go from here."""
    files = {name: (folder / name).read_bytes() for name in (WORD, NOTE)}
    shutil.rmtree(folder.parent, ignore_errors=True)
    return files


def _why(error: BaseException) -> str:
    kind = type(error).__name__
    return brief(error) if isinstance(error, ValueError) else f"{kind}: {brief(error)}"
