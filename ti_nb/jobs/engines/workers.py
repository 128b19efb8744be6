"""`Workers`: an executor of several workers, one call at a time in each; a worker that dies takes only its own call with it.

Stdlib's process pool is broken for good, with all its calls, when one of its processes dies. So each worker is a pool of its own.
This module imports no torch: what a new process needs in its environment has to be set before that.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ...errors import NotPossible

TIRED = 3  # times in a row that a worker may fail to start
LATE = 120.0  # s after which it is said that calls wait and no worker is there


class Slot(Protocol):
    """A worker's place: what starts it, gives it calls, and ends it."""

    def start(self) -> Future[Any]:
        """A new worker; done when it is ready for calls."""

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Have it called there; `BrokenExecutor` if the worker dies."""

    def stop(self, *, kill: bool) -> None:
        """End it: after its call, or with `kill` at once."""


class WorkerUnfit(BrokenExecutor):
    """Raised by a call whose worker can't do it, nor the next ones: another may. The worker is given no more calls.

    Attributes:
        done: what it did before, for whoever asked.
    """

    def __init__(self, reason: str, done: Any = None) -> None:
        super().__init__(reason, done)
        self.done = done

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass
class _Call:
    future: Future[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Workers(Executor):
    """An executor over slots; `train_many` takes it, as it takes any executor.

    In a `with` block it waits for its calls at the end; where the block ends by an error or an interrupt it ends them at once.

    Attributes:
        advice: what to do when no worker can be started. died: how many did.
    """

    def __init__(self, slots: Sequence[Slot], advice: str = "") -> None:
        self.advice, self.died = advice, 0
        self._slots, self._idle = list(slots), deque[Slot]()
        self._left, self._backlog = len(slots), deque[_Call]()
        self._lock, self._quiet = threading.RLock(), threading.Event()
        self._closed, self._at_work, self._failed = False, 0, dict[int, int]()
        self._unfit = ""
        self._quiet.set()
        for slot in self._slots:
            self._start(slot)

    @property
    def _max_workers(self) -> int:
        return len(self._slots)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As any executor's.

        Raises:
            RuntimeError: it was shut down, or none of its workers could be started.
        """
        future: Future[Any] = Future()
        with self._lock:
            if self._closed or not self._left:
                raise NotPossible("these workers were shut down: make new ones" if self._closed else self._no_worker())
            self._backlog.append(_Call(future, fn, args, kwargs))
            self._quiet.clear()
        self._feed()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers, after the calls in hand."""
        with self._lock:
            self._closed = True
            cancelled = [call.future for call in self._backlog] if cancel_futures else []
            if cancel_futures:
                self._backlog.clear()
            self._rest()
        for future in cancelled:
            future.cancel()
        if wait:
            self._quiet.wait()
            self._stop(kill=False)

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.shutdown()
            return
        self.shutdown(wait=False, cancel_futures=True)
        self._stop(kill=True)

    def _stop(self, *, kill: bool) -> None:
        for slot in self._slots:
            slot.stop(kill=kill)

    def _no_worker(self) -> str:
        if self._unfit:
            return f"no worker is left: {self._unfit}"
        return f"no worker can be started{': ' + self.advice if self.advice else ''}"

    def _start(self, slot: Slot) -> None:
        if self._closed:
            return
        started = slot.start()
        late = threading.Timer(LATE, self._say_late)
        late.daemon = True
        late.start()
        started.add_done_callback(lambda _: late.cancel())
        started.add_done_callback(partial(self._ready, slot))

    def _say_late(self) -> None:
        """A cluster without room lets workers wait for as long as there is none, which looks like a hang."""
        with self._lock:
            waits = bool(self._backlog) and not self._idle and not self._at_work and not self._closed
        if waits:
            advice = f" {self.advice}" if self.advice else ""
            warnings.warn(
                f"no worker is ready, and one has been starting for {LATE:g} s; what is finished is kept.{advice}",
                stacklevel=2,
            )

    def _start_again(self, slot: Slot) -> None:
        """In a thread of its own: a broken process pool calls us with a lock held that it takes again when it is let go."""
        threading.Thread(target=self._start, args=(slot,), daemon=True).start()

    def _ready(self, slot: Slot, started: Future[Any]) -> None:
        """Take a worker in, or try again; where none is left every call fails."""
        if started.cancelled() or started.exception() is not None:
            self._failed[id(slot)] = self._failed.get(id(slot), 0) + 1
            if self._failed[id(slot)] < TIRED and not self._closed:
                self._start_again(slot)
            else:
                self._fail(self._give_up())
            return
        with self._lock:
            self._failed[id(slot)] = 0
            self._idle.append(slot)
        self._feed()

    def _retire(self, slot: Slot, reason: str) -> list[_Call]:
        """Give a worker that is there, and no good, no more calls; the calls that nobody is left for."""
        self._unfit = reason
        threading.Thread(target=slot.stop, kwargs={"kill": False}, daemon=True).start()  # not from its own callback
        return self._give_up()

    def _give_up(self) -> list[_Call]:
        with self._lock:
            self._left -= 1
            lost = [] if self._left else [self._backlog.popleft() for _ in range(len(self._backlog))]
            self._rest()
        return lost

    def _fail(self, lost: Sequence[_Call]) -> None:
        for call in lost:
            if call.future.set_running_or_notify_cancel():
                call.future.set_exception(NotPossible(self._no_worker()))

    def _feed(self) -> None:
        """Give calls to workers that have none."""
        while True:
            with self._lock:
                if not (self._idle and self._backlog):
                    self._rest()
                    return
                call = self._backlog.popleft()
                if not call.future.set_running_or_notify_cancel():
                    continue
                slot = self._idle.popleft()
                self._at_work += 1
            try:
                inner = slot.call(call.function, *call.args, **call.kwargs)
            except BaseException as error:
                inner = Future()
                inner.set_exception(error)
            inner.add_done_callback(partial(self._done, slot, call.future))

    def _done(self, slot: Slot, future: Future[Any], inner: Future[Any]) -> None:
        """Hand the answer on; the worker gets its next call, or if it died another takes its place."""
        error = None if inner.cancelled() else inner.exception()
        died = inner.cancelled() or isinstance(error, BrokenExecutor)
        unfit = isinstance(error, WorkerUnfit)
        with self._lock:
            self._at_work -= 1
            self.died += died and not self._closed
            if not died:
                self._idle.append(slot)
        lost = self._retire(slot, str(error)) if unfit else []
        if inner.cancelled():
            future.set_exception(BrokenExecutor("the worker was ended"))
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(inner.result())
        self._fail(lost)  # after the answer, which may have words in it
        if died and not unfit and not self._closed:
            self._start_again(slot)
        self._feed()
        if unfit:  # at the very end: where warnings are errors, nobody shall wait for ever
            warnings.warn(f"a worker gets no more calls: {error}. Others do them.", stacklevel=2)

    def _rest(self) -> None:
        """Say that nothing is left to do, for who waits for it."""
        if not self._backlog and not self._at_work:
            self._quiet.set()
