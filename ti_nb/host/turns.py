"""One thing at a time uses the loaded models: a run is trained, or pictures are drawn.

What takes long and has buttons claims them as a whole. What a cell does beside it, such as drawing while a thread trains,
takes turns with it: `turn` is held for a training step, for the pictures drawn at once, and
while the VAE encodes: whoever moves a part to another device, or uses one, has it. It is entered by a `with` of the
function that needs it, never by a generator: there an interrupt would leave it held.
"""

from __future__ import annotations

import threading

from ..errors import NotPossible

turn = threading.RLock()
_lock = threading.Lock()
_who = ""


def claim(who: str) -> None:
    """Begin something long, called `who`; whoever claimed calls `release` at its end.

    Raises:
        RuntimeError: something else is at work; the message says what.
    """
    global _who
    if not _lock.acquire(blocking=False):
        raise NotPossible(f"{_who} is at work: wait for it, or pause or stop it first")
    _who = who


def release() -> None:
    """Let others begin."""
    _lock.release()
