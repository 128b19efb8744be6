"""The errors that say a file is refused, and that the Hub said no."""

from __future__ import annotations

from .shown import plain


class NotAConcept(ValueError):
    """A file that holds no word we can read, or that is not safe to read; the message says which, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


class HubError(RuntimeError):
    """The Hub said no, or did not answer; the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


class NoAnswer(HubError):
    """The Hub is busy, can't be reached, or did not answer as it should."""
