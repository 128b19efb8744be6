"""Who iterates over a run: the cell, or a thread beside it; and the flags by which others ask it to pause, stop or sample."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING

from ...host import frontend, turns
from ...host.devices import rest_threads
from ...host.interrupts import held, on_interrupt, on_main_thread

if TYPE_CHECKING:
    from ...training.records import StepRecord
    from ...training.run import Run


class Driver:
    """Advances one run until it is finished, or until it is asked to pause or stop.

    The `ask_` methods only set flags, so they may be called from any thread at any moment, a handler of signals included: the
    callbacks of widgets come on the main thread or on another, by the versions of Jupyter. What is asked for is done between
    two steps. A program or kernel that ends while a thread trains waits for the step, and for the run to be saved.

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
        self._pause = self._stop = self._sample = False  # no events: one that is set twice at once never returns
        self._rests = threading.Event()  # not the thread's join: interrupted, Python 3.11's takes it for ended
        self._rests.set()
        self.error: BaseException | None = None

    def ask_pause(self) -> None:
        """Stop iterating after the step being done."""
        self._pause = True

    def ask_stop(self) -> None:
        """End here: what is learned so far is the result. `start` still goes on from it."""
        self._stop = True
        if self.state == "paused":
            self._become("stopped")

    def ask_sample(self) -> None:
        """Draw previews after the step being done; at once where none is."""
        self._sample = True
        if self.state != "running":
            self._exclusively(self._sample_if_asked)

    def ask_sample_first(self) -> None:
        """Draw previews before the first step that `start` does."""
        self._sample = True

    def start(self, *, background: bool) -> None:
        """Iterate: in a thread, returning at once; or here, returning when the run is finished, paused or stopped.

        Raises:
            RuntimeError: another run is being trained, or pictures drawn.
            ValueError: the run's folder is another's now.
        """
        if self.state in ("running", "finished"):
            return
        turns.claim(self._who)
        before, rests = (
            self.state,
            threading.Event(),
        )  # a new one, which the thread before, at its very end, does not set
        try:
            self.run.claim()
            self._pause = self._stop = False
            self.error, self._rests = None, rests
            self._become("running")
        except BaseException:
            rests.set()
            self.state = before
            turns.release()
            raise
        if background:
            on_main_thread(rest_threads)
            with held():
                self._work_beside(rests)
        else:
            self._work(rests)

    def wait(self) -> None:
        """Return when nothing is being trained any more. An interrupt pauses the run, which is then saved.

        Raises:
            whatever the training raised.
        """
        try:
            with frontend.clicks() as let_through:
                while not self._rests.wait(0.1):
                    let_through()
        except KeyboardInterrupt:
            self.ask_pause()
            self._rests.wait()
        if self.error is not None:
            raise self.error

    def _work_beside(self, rests: threading.Event) -> None:
        def work() -> None:
            try:
                self._work(rests)
            finally:
                atexit.unregister(end)

        def end() -> None:
            """A thread that is within torch when the interpreter goes takes the program down with it."""
            if thread.is_alive():  # it is not in a forked process
                with held():
                    self._end_with_program(rests)
                    thread.join()

        thread = threading.Thread(target=work, name=f"ti_nb {self.run.start.word}", daemon=True)
        atexit.register(end)
        thread.start()

    def _end_with_program(self, rests: threading.Event) -> None:
        self.ask_pause()
        with suppress(OSError, ValueError):
            self.run.save()  # at once: who ends a kernel kills it after some seconds, and pictures being drawn may take longer
        rests.wait()

    def _work(self, rests: threading.Event) -> None:
        here = threading.current_thread() is threading.main_thread()
        state = "paused"  # if an interrupt comes where nothing is being done
        try:
            with _clicks_if(here) as let_through, _interrupts_unless(here, self.ask_pause):
                self._iterate(let_through)
            state = "finished" if self.run.finished else "stopped" if self._stop else "paused"
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            self.error, state = error, "failed"
        finally:
            while not rests.is_set():  # again, if another interrupt came before it was held
                with suppress(KeyboardInterrupt), held():
                    self._rest(state, rests)

    def _rest(self, state: str, rests: threading.Event) -> None:
        """A run that pauses is saved before anyone is told so."""
        turns.release()
        try:
            if state in ("paused", "stopped"):
                self.run.save()
        except Exception as error:
            self.error, state = error, "failed"
        try:
            self._become(state)
        finally:
            rests.set()

    def _iterate(self, let_through: Callable[[], None]) -> None:
        self.run.claim()
        self._sample_if_asked()
        while not (self._pause or self._stop):
            record = next(self.run, None)
            if record is None:
                return
            self._on_step(record)
            let_through()
            self._sample_if_asked()

    def _sample_if_asked(self) -> None:
        if self._sample:
            self._sample = False
            self._on_sample()

    def _exclusively(self, work: Callable[[], None]) -> None:
        turns.claim(self._who)
        try:
            work()
        finally:
            turns.release()

    def _become(self, state: str) -> None:
        self.state = state
        self._on_state()


def _interrupts_unless(here: bool, act: Callable[[], None]) -> AbstractContextManager[None]:
    """On the main thread an interrupt raises; a worker thread has to be told."""
    return nullcontext() if here else on_interrupt(act)


def _clicks_if(here: bool) -> AbstractContextManager[Callable[[], None]]:
    """Clicks are let through by the main thread only; beside a worker thread the kernel is free to do it."""
    return frontend.clicks() if here else nullcontext(lambda: None)
