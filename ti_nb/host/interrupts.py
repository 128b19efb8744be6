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
    """Within the block `act` is called when the idle kernel is interrupted; without a kernel, nothing changes.

    ipykernel sets its own SIGINT handler while a cell runs and restores the former one afterwards ("ignore" at first). So
    ours is set from its event loop, which runs between cells.
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
    """Call `act` on the main thread: now, or from another thread once the kernel is idle; without a kernel never."""
    loop = _kernel_loop()
    if threading.current_thread() is threading.main_thread():
        act()
    elif loop is not None:
        loop.add_callback(act)


def _kernel_loop() -> Any:
    """The event loop of this kernel, or None; its callbacks run on the main thread."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return getattr(getattr(get_ipython(), "kernel", None), "io_loop", None)
