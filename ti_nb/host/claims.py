"""One writer a folder: who writes to it claims it, against other programs and against other runs of this one.

Against programs stands a lock on a file in the folder, which the system takes back from a process however it ends. Within a
program a folder is handed over by whoever claimed it and is not at work. Where a file system has no locks nobody is kept
out: there the writer has to see before each save that what it left is still there, as `RunFolder` does.
"""

from __future__ import annotations

import errno
import os
import threading
from inspect import signature
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from filelock import FileLock, Timeout

from .plain_text import place

LOCK_FILE = ".lock"
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
# A mark in place of a lock would outlive a machine that is gone, as Colab's are every day, and keep its owner out.
WITHOUT_MARKS: dict[str, Any] = (
    {"fallback_to_soft": False} if "fallback_to_soft" in signature(FileLock.__init__).parameters else {}
)


class Taken(ValueError):
    """A folder that is another's."""


class Claim:
    """A folder that this process may write to, until `release`, or until nothing holds on to the claim.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path, lock: FileLock | None) -> None:
        self.path, self._key, self._lock = path, os.path.realpath(path), lock
        self._file, self._process = _lock_file_id(path), os.getpid()
        self._thread = threading.current_thread()
        _claims[self._key] = self

    def holds(self) -> bool:
        """Whether it is still so: neither handed over, nor inherited by a fork."""
        return _claims.get(self._key) is self and self._process == os.getpid()

    def is_whole(self) -> bool:
        """Whether it holds, and the folder was not removed meanwhile."""
        return self.holds() and self._file == _lock_file_id(self.path)

    def use(self) -> None:
        """This thread is at work there: as long as it lives, no other may take the folder over."""
        self._thread = threading.current_thread()

    def is_at_work(self) -> bool:
        """Whether another thread writes there; the main one rests when another asks."""
        resting = threading.current_thread(), threading.main_thread()
        return self._thread not in resting and self._thread.is_alive()

    def release(self) -> None:
        """Let others have it."""
        if self.holds():
            del _claims[self._key]
            if self._lock is not None:
                self._lock.release(force=True)


_claims: WeakValueDictionary[str, Claim] = WeakValueDictionary()  # by real path
_one_at_a_time = threading.RLock()


def take(path: Path) -> Claim:
    """Claim a folder, which is made if need be.

    Raises:
        Taken: another program, or another thread, is at work there. OSError: it can't be written.
    """
    with _one_at_a_time:
        before = _claims.get(os.path.realpath(path))
        if before is not None and before.is_whole():
            if before.is_at_work():
                raise Taken(
                    f"{place(path)} is in use by a run that trains in another thread: pause it, or give another folder"
                )
            claim = Claim(path, before._lock)
            before._lock = None
            return claim
        if before is not None:
            before.release()
        return Claim(path, _locked(path))


def _locked(path: Path) -> FileLock | None:
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / LOCK_FILE, thread_local=False, **WITHOUT_MARKS)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Taken(
            f"{place(path)} is in use by a run of another program or notebook: let it end, shut its kernel down, or give another folder"
        ) from None
    except NotImplementedError:
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return lock


def _lock_file_id(path: Path) -> tuple[int, int] | None:
    """Which file the lock is on: in a folder that was removed and made again it is another."""
    try:
        found = os.stat(path / LOCK_FILE)
    except OSError:
        return None
    return found.st_dev, found.st_ino
