"""Atomic writes: a reader sees the old file or the new one, never half."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFT = ".*-*.tmp"  # the temporary files that a process killed while writing leaves behind


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; when the block ends without an error it replaces `path`.

    Permissions are as if `path` were written in place: the umask's for a new file, unchanged for an old one.
    """
    temporary = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(8)}.tmp")  # the whole name may have 255 bytes
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with open(temporary, "r+b") as file:  # Windows syncs only files opened for writing
            os.fsync(file.fileno())
        with suppress(OSError):  # no file there yet, or a file system without permissions
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
