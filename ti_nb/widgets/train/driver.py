"""`Driver`: iterates over a run, in the cell or in a background thread; flags ask it to pause, stop or sample."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING

from ...host import frontend, turns
from ...host.devices import rest_threads
from ...host.interrupts import interrupts_deferred, listen, on_interrupt, on_main_thread

if TYPE_CHECKING:
    from ...training.records import StepRecord
    from ...training.run import Run


class Driver:
    """Advances one run until it is finished, or until it is asked to pause or stop.

    The `ask_` methods only set flags, so they may be called from any thread at any time, also from a signal handler: the
    thread of widget callbacks depends on the version of Jupyter. Requests are served between two steps. A program or kernel
    that ends while a thread trains waits for the step, and for the run to be saved.

    Attributes:
        run: the run. error: the exception that made it fail, if any.
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
        self._pause = self._stop = self._sample = (
            False  # not Events: set() in a signal handler can deadlock with a set() it interrupts
        )
        self._idle = (
            threading.Event()
        )  # in place of Thread.join, which in Python 3.11, interrupted, takes the thread for ended
        self._idle.set()
        self.error: BaseException | None = None
        listen()

    @property
    def asked(self) -> str:
        """What a running run was asked and has not done yet: "stop", "pause", or ""."""
        running = self.state == "running"
        return "stop" if running and self._stop else "pause" if running and self._pause else ""

    def ask_pause(self) -> None:
        """Stop iterating after the current step."""
        self._pause = True

    def ask_stop(self) -> None:
        """Stop after the current step, with what is learned so far as the result. `start` can still continue."""
        self._stop = True
        if self.state == "paused":
            self._set_state("stopped")

    def ask_sample(self) -> None:
        """Draw previews after the current step; at once if the run is not running."""
        self._sample = True
        if self.state != "running":
            self._with_lock(self._sample_if_asked)

    def ask_sample_first(self) -> None:
        """Draw previews before the first step after `start`."""
        self._sample = True

    def start(self, *, background: bool) -> None:
        """Iterate: in a thread, returning at once; or in this one, returning when the run is finished, paused or stopped.

        Raises:
            RuntimeError: another run is being trained, or pictures are being drawn.
            ValueError: the run's folder now belongs to another run.
        """
        if self.state in ("running", "finished"):
            return
        turns.claim(self._who)
        before = self.state
        idle = threading.Event()  # a new one: the previous thread may still set its own
        try:
            self.run.claim()
            self._pause = self._stop = False
            self.error, self._idle = None, idle
            self._set_state("running")
        except BaseException:
            idle.set()
            self.state = before
            turns.release()
            raise
        if background:
            on_main_thread(rest_threads)
            with interrupts_deferred():
                self._work_in_thread(idle)
        else:
            self._work(idle)

    def wait(self) -> None:
        """Return when training has ended. An interrupt pauses the run, which is then saved.

        Raises:
            the exception that ended the training, if one did.
        """
        try:
            with frontend.clicks() as process_clicks:
                while not self._idle.wait(0.1):
                    process_clicks()
        except KeyboardInterrupt:
            self.ask_pause()
            self._idle.wait()
        if self.error is not None:
            raise self.error

    def _work_in_thread(self, idle: threading.Event) -> None:
        def work() -> None:
            try:
                self._work(idle)
            finally:
                atexit.unregister(end)

        def end() -> None:
            """A thread still in torch when the interpreter exits would crash the program."""
            if thread.is_alive():  # in a forked process it is not
                with interrupts_deferred():
                    self._save_at_exit(idle)
                    thread.join()

        thread = threading.Thread(target=work, name=f"ti_nb {self.run.start.word}", daemon=True)
        atexit.register(end)
        thread.start()

    def _save_at_exit(self, idle: threading.Event) -> None:
        self.ask_pause()
        with suppress(OSError, ValueError):
            self.run.save()  # at once: Jupyter kills a kernel some seconds after asking it to end, and previews may take longer
        idle.wait()

    def _work(self, idle: threading.Event) -> None:
        on_main = threading.current_thread() is threading.main_thread()
        state = "paused"  # the outcome if an interrupt comes outside `_iterate`
        try:
            with _clicks_if(on_main) as process_clicks, _interrupts_unless(on_main, self.ask_pause):
                self._iterate(process_clicks)
            state = "finished" if self.run.finished else "stopped" if self._stop else "paused"
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            self.error, state = error, "failed"
        finally:
            while not idle.is_set():  # again if another interrupt came before it could be deferred
                with suppress(KeyboardInterrupt), interrupts_deferred():
                    self._end(state, idle)

    def _end(self, state: str, idle: threading.Event) -> None:
        """Save a run that pauses or stops before its state says so."""
        turns.release()
        try:
            if state in ("paused", "stopped"):
                self.run.save()
        except Exception as error:
            self.error, state = error, "failed"
        try:
            self._set_state(state)
        finally:
            idle.set()

    def _iterate(self, process_clicks: Callable[[], None]) -> None:
        self.run.claim()
        self._sample_if_asked()
        while not (self._pause or self._stop):
            record = next(self.run, None)
            if record is None:
                return
            self._on_step(record)
            process_clicks()
            self._sample_if_asked()

    def _sample_if_asked(self) -> None:
        if self._sample:
            self._sample = False
            self._on_sample()

    def _with_lock(self, work: Callable[[], None]) -> None:
        turns.claim(self._who)
        try:
            work()
        finally:
            turns.release()

    def _set_state(self, state: str) -> None:
        self.state = state
        self._on_state()


def _interrupts_unless(on_main: bool, act: Callable[[], None]) -> AbstractContextManager[None]:
    """Call `act` on an interrupt, which raises KeyboardInterrupt in the main thread only."""
    return nullcontext() if on_main else on_interrupt(act)


def _clicks_if(on_main: bool) -> AbstractContextManager[Callable[[], None]]:
    """A function that processes waiting clicks; beside a worker thread the kernel does so by itself."""
    return frontend.clicks() if on_main else nullcontext(lambda: None)
