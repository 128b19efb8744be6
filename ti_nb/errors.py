"""The error that says a file is refused."""

from __future__ import annotations

from .shown import plain


class NotAConcept(ValueError):
    """A file that holds no word we can read, or that is not safe to read; the message says which, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))
