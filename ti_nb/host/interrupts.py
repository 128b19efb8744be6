"""Ctrl-C and the kernel's stop button: delayed, handled while idle; and calls onto the notebook's main thread."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Within the block interrupts are delayed until its end: a second Ctrl-C would else cut short what the first began."""
    interrupts: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    if (
        threading.current_thread() is not threading.main_thread() or before is None
    ):  # only the main thread gets signals; None: not Python's handler
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: interrupts.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if interrupts:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def on_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """Within the block `act` is called when the kernel is interrupted, idle or busy; without a kernel, nothing changes.

    `act` runs in a signal handler, so it may only set a flag. What the interrupt does else, such as ending the cell that keeps
    the kernel busy, it still does.
    """
    listen()
    _acts.append(act)
    try:
        yield
    finally:
        _acts.remove(act)


def listen() -> None:
    """Hear this kernel's interrupts from now on. Only the main thread can, so that a panel calls it when it is made.

    ipykernel sets its own SIGINT handler before each message (a cell, a click), another one for a cell that awaits, and
    restores the former one afterwards ("ignore", as long as it is idle). So ours is put before theirs each time.
    """
    global _listening
    kernel, loop = _kernel(), _kernel_loop()
    if kernel is not None and not _listening:
        _listening = True
        for name in ("pre_handler_hook", "post_handler_hook"):
            if hook := getattr(kernel, name, None):
                setattr(kernel, name, _then_hear(hook))
        kernel.shell.events.register("pre_execute", _hear)
    if threading.current_thread() is threading.main_thread():
        _hear()
    elif loop is not None:
        loop.add_callback(_hear)


_acts: list[Callable[[], None]] = []
_listening = False


class _Heard:
    """A SIGINT handler: tells `_acts`, then does what the handler before it does."""

    def __init__(self, before: Any) -> None:
        self.before = before

    def __call__(self, *signal_and_frame: Any) -> None:
        for act in tuple(_acts):
            act()
        if callable(self.before):
            self.before(*signal_and_frame)


def _hear() -> None:
    before = signal.getsignal(signal.SIGINT)
    on_main = threading.current_thread() is threading.main_thread()  # a subshell's cell runs on another
    if _listening and on_main and before is not None and not isinstance(before, _Heard):
        signal.signal(signal.SIGINT, _Heard(before))


def _then_hear(hook: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        hook()
        _hear()

    return both


def on_main_thread(act: Callable[[], None]) -> None:
    """Call `act` on the main thread: now, or from another thread once the kernel is idle; without a kernel never."""
    loop = _kernel_loop()
    if threading.current_thread() is threading.main_thread():
        act()
    elif loop is not None:
        loop.add_callback(act)


def _kernel_loop() -> Any:
    """The event loop of this kernel, or None; its callbacks run on the main thread."""
    return getattr(_kernel(), "io_loop", None)


def _kernel() -> Any:
    """The kernel that this program is, or None."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None)
