"""Text of users and of files, made fit to be shown: in a message, a terminal, a page or a figure.

A name may hold what clears a screen, colours it, turns the direction of writing around, or is markup. What is shown is
the same text with all of that spelled out.
"""

from __future__ import annotations

import html
import sys
import warnings
from typing import Any

NO_MATH = 'class="mathjax_ignore tex2jax_ignore"'  # of what stands in a page: no text between $ becomes a formula
JOINERS = "\u200c\u200d"  # within Persian words and emoji; they only ever act on their neighbours


def plain(text: Any, *, lines: bool = False) -> str:
    """`text` on one line, its control characters and those that change the direction of writing spelled out.

    Args:
        lines: keep its line ends.
    """
    kept = JOINERS + "\n" * lines
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in str(text))


def quoted(text: Any, most: int = 60) -> str:
    """`text` between quotes, cut to `most` letters: how a message names what a file holds."""
    said = str(text)
    return f"'{plain(said[:most])}{'...' if len(said) > most else ''}'"


def place(path: Any) -> str:
    """A file's or a folder's path as a message names it."""
    return quoted(path, 300)


def in_page(text: Any) -> str:
    """`text` as a page shows it, its line ends kept: no markup, nothing that turns the writing around."""
    return html.escape(plain(text, lines=True))


def warn(message: str) -> None:
    """A warning that points to the line of the user's that called this package, however deep it comes from."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "ti_nb":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def size(count: int) -> str:
    """Bytes, as people read them."""
    for unit, name, digits in ((1e9, "GB", 1), (1e6, "MB", 0), (1e3, "kB", 0)):
        if count >= (0.25 if name == "GB" else 2) * unit:
            return f"{count / unit:.{digits}f} {name}"
    return f"{count} bytes"
