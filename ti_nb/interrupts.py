"""An interrupt also reaches what works in a thread: Jupyter's kernel ignores it while no cell is running."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


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


def _kernel_loop() -> Any:
    """The loop of the kernel this is in; its callbacks run on the main thread."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return getattr(getattr(get_ipython(), "kernel", None), "io_loop", None)
