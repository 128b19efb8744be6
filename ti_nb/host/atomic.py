"""A file that is there as a whole, or as it was."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFT = ".*-*.tmp"  # what a process leaves that is killed while it writes


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; when the block ends well it is on the disk and takes `path`'s place.

    Who may read it is as if it were written in place: a new file gets what the umask gives, an old one keeps what it has.
    """
    temporary = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(8)}.tmp")  # a stem may fill a name
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with open(temporary, "r+b") as file:  # Windows syncs only what may be written
            os.fsync(file.fileno())
        with suppress(OSError):  # no file there yet, or a file system without such rights
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
