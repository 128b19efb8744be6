"""Errors of this package: each says what was wrong and what to do."""

from __future__ import annotations

from .host.plain_text import plain


class TiError(Exception):
    """Every error class of this package is one; each is also the built-in kind that it was always caught as."""


class NotAConcept(TiError, ValueError):
    """A file that holds no word we can read, or that is not safe to read; the message says which, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


class HubError(TiError, RuntimeError):
    """The Hub said no, or did not answer; the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


class NoAnswer(HubError):
    """The Hub is busy, can't be reached, or did not answer as it should."""


class InvalidValue(TiError, ValueError):
    """An argument, a setting or a file that won't do."""


class NotPossible(TiError, RuntimeError):
    """What was asked can't be done here, or now."""


class NoSuchFile(TiError, FileNotFoundError):
    """A file or folder that is not there."""


class AlreadyThere(TiError, FileExistsError):
    """A file or folder that is there, and would be lost."""


class NotFinite(TiError, FloatingPointError):
    """Numbers that are no longer finite."""


class NotWritten(TiError, OSError):
    """A file that could not be written as it should be."""
