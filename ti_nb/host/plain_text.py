"""Text from users and files, made safe to show in a message, a terminal, a page or a figure.

A name may contain terminal control codes, bidirectional overrides or markup: they are shown escaped.
"""

from __future__ import annotations

import html
import sys
import warnings
from typing import Any

NO_MATH = 'class="mathjax_ignore tex2jax_ignore"'  # for HTML: text between $ stays text, not a formula
JOINERS = "\u200c\u200d"  # needed in Persian and emoji, and harmless


def plain(text: Any, *, lines: bool = False) -> str:
    """`text` on one line, control and bidirectional characters escaped; `lines` keeps its line ends."""
    kept = JOINERS + "\n" * lines
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in str(text))


def quoted(text: Any, most: int = 60) -> str:
    """`text` in quotes, cut to `most` characters: for names in messages."""
    full = str(text)
    return f"'{plain(full[:most])}{'...' if len(full) > most else ''}'"


def brief(text: Any, most: int = 300) -> str:
    """`text` on one line, cut to `most` characters; of an error without a message, its class."""
    words = plain(" ".join(str(text).split())) or type(text).__name__
    return words if len(words) <= most else words[:most] + "..."


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def place(path: Any) -> str:
    """A path, as messages show it."""
    return quoted(path, 300)


def in_page(text: Any) -> str:
    """`text` for HTML, its line ends kept: no markup, no bidirectional overrides."""
    return html.escape(plain(text, lines=True))


def warn(message: str) -> None:
    """Warn, pointing to the user's line that called this package, however deep the call."""
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
