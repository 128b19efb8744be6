"""Interrupts where they must not be lost and where they must wait; and what a thread needs of the notebook's main one."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def held() -> Iterator[None]:
    """Within the block an interrupt waits for its end: who presses twice would else cut short what the first press begins."""
    came: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:  # none comes, or not through Python
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: came.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def on_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """Within the block `act` is called when the idle kernel is interrupted; without a kernel, nothing changes.

    ipykernel lets SIGINT raise KeyboardInterrupt while a cell runs, and sets back what it found before (it starts with
    "ignore"). So the handler is put there from its own loop, which is at work between two cells.
    """
    loop = _kernel_loop()
    if loop is None:
        yield
        return
    before: list[Any] = []
    loop.add_callback(lambda: before.append(signal.signal(signal.SIGINT, lambda *_: act())))
    try:
        yield
    finally:
        loop.add_callback(lambda: signal.signal(signal.SIGINT, before[0]))


def on_main_thread(act: Callable[[], None]) -> None:
    """Do it there: at once, or from another thread as soon as the kernel is idle; without a kernel not at all."""
    loop = _kernel_loop()
    if threading.current_thread() is threading.main_thread():
        act()
    elif loop is not None:
        loop.add_callback(act)


def _kernel_loop() -> Any:
    """The loop of the kernel this is in; its callbacks run on the main thread."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return getattr(getattr(get_ipython(), "kernel", None), "io_loop", None)
