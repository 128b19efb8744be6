"""Work for `train_many`'s workers in tests: real, or simulated; some die, or run out of disk, when they are told to."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ti_nb as ti
from ti_nb.jobs.driver import Driver
from ti_nb.jobs.engines.work import Order, Outcome, Place, do
from ti_nb.jobs.job import stamp
from ti_nb.jobs.progress import Board
from ti_nb.jobs.shelf import WORD, Note, Shelf, begin, finish, identity
from ti_nb.training.run import Run

FEW = {"steps": 4, "batch": 1, "watch": 0, "warmup": 1}


def jobs(count: int, **settings: Any) -> list[ti.Job]:
    """Jobs of different words, pictures and seeds."""
    names = ti.example_names()
    return [
        ti.Job(ti.example_images(names[n % len(names)]), f"<word-{n}>", "thing", {**FEW, "seed": n, **settings})
        for n in range(count)
    ]


def driver(todo: Any, folder: Path, *, model: str = "none", work: Any = do, **options: Any) -> Driver:
    """A driver that shows nothing."""
    place = Place(model, {}, identity(model, {}) if model != "none" else {"name": "none"})
    return Driver(todo, place, Shelf(folder), Board(None, show=False), work=work, **options)


def simulated(order: Order, seconds: float = 0.0) -> list[Outcome]:
    """Keep a "word" for each task, without a model."""
    outcomes = []
    for task in order.tasks:
        folder, note = Path(task.folder), Note(task.about, order.model.identity, task.stamp or stamp(task.job))
        begin(folder, note)
        time.sleep(seconds)
        (folder / WORD).write_bytes(task.job.word.encode())
        finish(folder, note, 1, keep_run=True)
        outcomes.append(Outcome(steps=1, seconds=seconds))
    return outcomes


def ten_milliseconds(order: Order) -> list[Outcome]:
    return simulated(order, 0.01)


def killed(order: Order) -> list[Outcome]:
    """Dies at once, every time, for a word that has "killer" in it."""
    if "killer" in order.tasks[0].job.word:
        os._exit(9)
    return simulated(order)


class Died(BaseException):
    """A worker that is a thread."""


def die() -> None:
    if multiprocessing.parent_process() is not None:
        os._exit(9)
    raise Died


class ThreadSlot:
    """A worker's place with a thread in it, which can die."""

    def start(self) -> Future[Any]:
        self._pool = ThreadPoolExecutor(1)
        return self._pool.submit(int)

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._pool.submit(self._called, function, args)

    def _called(self, function: Any, args: Any) -> Any:
        try:
            return function(*args)
        except Died:
            raise BrokenExecutor("it died") from None

    def stop(self, *, kill: bool) -> None:
        self._pool.shutdown(wait=not kill)


def killed_once(order: Order) -> list[Outcome]:
    """Real work; the process dies in the fourth step of words 1 and 2, once each."""
    marks = [Path(task.folder).parent / f"{task.job.folder}.died" for task in order.tasks]
    mine = [mark for mark in marks if mark.stem in ("word-1", "word-2") and not mark.exists()]
    step = Run._end

    def end(run: Run, *told: Any) -> Any:
        if len(run.records) == 3 and mine:
            mine[0].touch()
            die()
        return step(run, *told)

    Run._end = end  # type: ignore[method-assign]
    try:
        return do(order)
    finally:
        Run._end = step  # type: ignore[method-assign]


def full_disk(order: Order) -> list[Outcome]:
    """Real work, on a disk that is full when the word of job 1 is saved."""
    from ti_nb.jobs.engines import work

    save = work.save

    def saved(concept: ti.Concept, path: Path) -> Path:
        if concept.word == "<word-1>":
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(concept, path)

    work.save = saved  # type: ignore[assignment]
    try:
        return do(order)
    finally:
        work.save = save
