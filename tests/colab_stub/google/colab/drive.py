"""`mount` makes the folder, with a few pictures in it."""

import shutil
from pathlib import Path

from . import BEHAVIOUR, wait
from .files import PICTURES

REFUSED = "mount failed: credential propagation was unsuccessful"
LATE = (
    "mount failed: timeout during initial read of root folder; for more info: "
    "https://research.google.com/colaboratory/faq.html#drive-timeout"
)


def mount(mountpoint: str, force_remount: bool = False, timeout_ms: int = 120000, readonly: bool = False) -> None:
    if BEHAVIOUR == "unsupported":
        raise NotImplementedError("Mounting drive is unsupported in this environment.")
    if " " in mountpoint:
        raise ValueError("Mountpoint must not contain a space.")
    home = Path(mountpoint) / "MyDrive"
    if home.is_dir() and not force_remount:
        print(
            f'Drive already mounted at {mountpoint}; to attempt to forcibly remount, call drive.mount("{mountpoint}", ...'
        )
        return
    if Path(mountpoint).is_dir() and any(Path(mountpoint).iterdir()) and not force_remount:
        raise ValueError("Mountpoint must not already contain files")
    if BEHAVIOUR == "refuse":
        raise ValueError(REFUSED)
    if BEHAVIOUR == "timeout":
        wait()
        raise ValueError(LATE)
    shutil.copytree(PICTURES, home / "pictures")
    print(f"Mounted at {mountpoint}")


def flush_and_unmount(timeout_ms: int = 24 * 60 * 60 * 1000) -> None:
    if BEHAVIOUR != "succeed":
        print("Drive not mounted, so nothing to flush and unmount.")
