"""Two locks around the loaded models: `claim` for a whole job with buttons, `turn` for one step of any job.

A panel claims the models while it trains or draws. What a cell does meanwhile, such as drawing while a thread trains, takes
turns with it: whoever uses a network, or moves it to another device, holds `turn` for a training step, a batch of pictures or
an encoding. Enter it by `with` in a function, never in a generator: there an interrupt would leave it held.
"""

from __future__ import annotations

import threading

from ..errors import NotPossible

turn = threading.RLock()
_lock = threading.Lock()
_claimed_by = ""


def claim(who: str) -> None:
    """Begin a long job named `who`; call `release` at its end.

    Raises:
        RuntimeError: another job is running; the message names it.
    """
    global _claimed_by
    if not _lock.acquire(blocking=False):
        raise NotPossible(f"{_claimed_by} is at work: wait for it, or pause or stop it first")
    _claimed_by = who


def release() -> None:
    """Let another job begin."""
    _lock.release()
