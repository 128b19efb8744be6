"""Who iterates over a run: the cell, or a thread beside it; and the flags by which others ask it to pause, stop or sample."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from . import busy, platforms
from .devices import rest_threads
from .interrupts import on_interrupt, on_main_thread

if TYPE_CHECKING:
    from .records import StepRecord
    from .training import Run


class Driver:
    """Advances one run until it is finished, or until it is asked to pause or stop.

    The `ask_` methods only set flags, so they may be called from any thread at any moment: the callbacks of widgets come
    on the main thread or on another, by the versions of Jupyter. What is asked for is done between two steps.

    Attributes:
        run: the run. error: what made it fail, if anything did.
        state: "ready", "running", "paused", "stopped", "finished" or "failed".
    """

    def __init__(
        self,
        run: Run,
        *,
        on_step: Callable[[StepRecord], None],
        on_sample: Callable[[], None],
        on_state: Callable[[], None],
    ) -> None:
        self.run, self._who = run, f"training of {run.start.word}"
        self.state = "finished" if run.finished else "paused" if run.records else "ready"
        self._on_step, self._on_sample, self._on_state = on_step, on_sample, on_state
        self._pause, self._stop, self._sample = threading.Event(), threading.Event(), threading.Event()
        self._rests = threading.Event()  # not the thread's join: interrupted, Python 3.11's takes it for ended
        self._rests.set()
        self.error: BaseException | None = None

    def ask_pause(self) -> None:
        """Stop iterating after the step being done."""
        self._pause.set()

    def ask_stop(self) -> None:
        """End here: what is learned so far is the result. `start` still goes on from it."""
        self._stop.set()
        if self.state == "paused":
            self._become("stopped")

    def ask_sample(self) -> None:
        """Draw previews after the step being done; at once where none is."""
        self._sample.set()
        if self.state != "running":
            self._exclusively(self._sample_if_asked)

    def ask_sample_first(self) -> None:
        """Draw previews before the first step that `start` does."""
        self._sample.set()

    def start(self, *, background: bool) -> None:
        """Iterate: in a thread, returning at once; or here, returning when the run is finished, paused or stopped.

        Raises:
            RuntimeError: another run is being trained, or pictures drawn.
        """
        if self.state in ("running", "finished"):
            return
        self._pause.clear()
        self._stop.clear()
        busy.claim(self._who)
        self.error = None
        rests = self._rests = threading.Event()  # a new one, which the thread before, at its very end, does not set
        self._become("running")
        if background:
            on_main_thread(rest_threads)
            name = f"ti_nb {self.run.start.word}"
            threading.Thread(target=self._work, args=[rests], name=name, daemon=True).start()
        else:
            self._work(rests)

    def wait(self) -> None:
        """Return when nothing is being trained any more. An interrupt pauses the run, which is then saved.

        Raises:
            whatever the training raised.
        """
        try:
            with platforms.clicks() as let_through:
                while not self._rests.wait(0.1):
                    let_through()
        except KeyboardInterrupt:
            self.ask_pause()
            self._rests.wait()
        if self.error is not None:
            raise self.error

    def _work(self, rests: threading.Event) -> None:
        here = threading.current_thread() is threading.main_thread()
        try:
            with _clicks_if(here) as let_through, _interrupts_unless(here, self.ask_pause):
                self._iterate(let_through)
            state = "finished" if self.run.finished else "stopped" if self._stop.is_set() else "paused"
        except KeyboardInterrupt:
            state = "paused"
        except BaseException as error:
            self.error, state = error, "failed"
        finally:
            busy.release()
        try:
            self._save(state)
        finally:
            rests.set()

    def _iterate(self, let_through: Callable[[], None]) -> None:
        self._sample_if_asked()
        while not (self._pause.is_set() or self._stop.is_set()):
            record = next(self.run, None)
            if record is None:
                return
            self._on_step(record)
            let_through()
            self._sample_if_asked()

    def _sample_if_asked(self) -> None:
        if self._sample.is_set():
            self._sample.clear()
            self._on_sample()

    def _save(self, state: str) -> None:
        """A run that pauses is saved before anyone is told so."""
        try:
            if state in ("paused", "stopped"):
                self.run.save()
        except OSError as error:
            self.error, state = error, "failed"
        self._become(state)

    def _exclusively(self, work: Callable[[], None]) -> None:
        busy.claim(self._who)
        try:
            work()
        finally:
            busy.release()

    def _become(self, state: str) -> None:
        self.state = state
        self._on_state()


def _interrupts_unless(here: bool, act: Callable[[], None]) -> AbstractContextManager[None]:
    """On the main thread an interrupt raises; a worker thread has to be told."""
    return nullcontext() if here else on_interrupt(act)


def _clicks_if(here: bool) -> AbstractContextManager[Callable[[], None]]:
    """Clicks are let through by the main thread only; beside a worker thread the kernel is free to do it."""
    return platforms.clicks() if here else nullcontext(lambda: None)
