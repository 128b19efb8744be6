"""One writer per folder: a run claims its folder, against other processes and other runs of this one.

Between processes this is a file lock in the folder, which the system releases however a process ends. Within a process an
idle run hands its folder over. A file system without locks keeps nobody out: there the writer has to check before each
save that the folder is as it left it, as `RunFolder` does.
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

from ..errors import InvalidValue
from .plain_text import place

LOCK_FILE = ".lock"
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
# A marker file instead of a lock would outlive its machine (Colab's vanish every day) and keep its owner out.
NO_MARKER_FILE: dict[str, Any] = (
    {"fallback_to_soft": False} if "fallback_to_soft" in signature(FileLock.__init__).parameters else {}
)


class Taken(InvalidValue):
    """The folder is in use by another run."""


class Claim:
    """A folder that this process may write to, until `release` or until the claim is garbage collected.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path, lock: FileLock | None) -> None:
        self.path, self._key, self._lock = path, os.path.realpath(path), lock
        self._file, self._process = _lock_file_id(path), os.getpid()
        self._thread = threading.current_thread()
        _claims[self._key] = self

    def holds(self) -> bool:
        """Whether this is still the claim: neither handed over, nor inherited by a fork."""
        return _claims.get(self._key) is self and self._process == os.getpid()

    def is_whole(self) -> bool:
        """Whether it holds, and the folder was not removed since."""
        return self.holds() and self._file == _lock_file_id(self.path)

    def use(self) -> None:
        """Mark the calling thread as the one that writes: while it lives, no other may take the folder over."""
        self._thread = threading.current_thread()

    def is_at_work(self) -> bool:
        """Whether another live thread writes there; the main thread counts as idle."""
        idle = threading.current_thread(), threading.main_thread()
        return self._thread not in idle and self._thread.is_alive()

    def release(self) -> None:
        """Give the folder up."""
        if self.holds():
            del _claims[self._key]
            if self._lock is not None:
                self._lock.release(force=True)


_claims: WeakValueDictionary[str, Claim] = WeakValueDictionary()  # by real path
_claims_lock = threading.RLock()


def take(path: Path) -> Claim:
    """Claim a folder; it is created if need be.

    Raises:
        Taken: another process, or another thread, is writing there. OSError: it can't be written.
    """
    with _claims_lock:
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
    lock = FileLock(path / LOCK_FILE, thread_local=False, **NO_MARKER_FILE)
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
    """Identity of the lock file: a folder that was removed and made again has another."""
    try:
        stat = os.stat(path / LOCK_FILE)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
