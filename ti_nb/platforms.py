"""Colab, Jupyter, VS Code, a terminal: all that depends on where the code runs, in one place."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .checks import checked
from .shown import place, plain, warn

DRIVE = Path("/content/drive")


def in_colab() -> bool:
    """Whether this is a Colab kernel; the page in front of it may still be VS Code's."""
    return "google.colab" in sys.modules


def frontend() -> str:
    """What shows our output: "colab", "vscode", "jupyter" (Lab, Notebook and others) or "terminal" (no kernel).

    VS Code's own kernels have VSCODE_PID or VSCODE_CWD (vscode-jupyter #3364, panel #5200); a Jupyter server started in
    its terminal has them too, and names its session besides.
    """
    if in_colab():
        return "colab"
    shell = _shell()
    if shell is None:
        return "terminal"
    started_by_vscode = any(name in os.environ for name in ("VSCODE_PID", "VSCODE_CWD"))
    if "__vsc_ipynb_file__" in shell.user_ns or (started_by_vscode and "JPY_SESSION_NAME" not in os.environ):
        return "vscode"
    return "jupyter"


def prefers_foreground() -> bool:
    """Whether long work belongs into a busy cell: in Colab widgets changed from a thread don't show (colabtools #3373)."""
    return in_colab()


def in_cell() -> bool:
    """Whether a cell is running now, rather than a widget's callback or a plain program."""
    shell = _shell()
    parent = shell.kernel.get_parent() if shell is not None and hasattr(shell.kernel, "get_parent") else {}
    return bool(parent.get("header", {}).get("msg_type") == "execute_request")


@contextmanager
def clicks() -> Iterator[Callable[[], None]]:
    """Within the block, the yielded function lets clicks on widgets through, in a busy cell where that can work.

    It does nothing outside a cell, without jupyter_ui_poll, on ipykernel 7.4 and later (whose clicks it misses), and in
    VS Code, which holds clicks back until the cell ends (vscode-jupyter #17360).
    """
    if not _clicks_can_be_let_through():
        yield lambda: None
        return
    from jupyter_ui_poll import ui_events  # type: ignore[import-not-found]

    with ui_events() as pump:
        yield lambda: pump(10)


def poll() -> Callable[[], None]:
    """The function `clicks` yields, for loops that are no block of code: it sets up and tidies up at each call."""
    if not _clicks_can_be_let_through():
        return lambda: None

    def let_through() -> None:
        with clicks() as once:
            once()

    return let_through


def _clicks_can_be_let_through() -> bool:
    if not (in_cell() and importlib.util.find_spec("jupyter_ui_poll") and frontend() != "vscode"):
        return False
    return tuple(int(part) for part in version("ipykernel").split(".")[:2]) < (7, 4)


@checked()
def choose_pictures(folder: str | Path = "pictures") -> list[Path]:
    """Let the user of Colab choose pictures on their computer; they arrive in `folder`, or a new one beside it.

    Returns the paths of the pictures that arrived, which `load_images` checks; what else did is said in a warning.

    Raises:
        RuntimeError: not in Colab, no answer from the page (VS Code's does not, colab-vscode #276), nothing chosen.
    """
    instead = "give load_images the path of a folder with your pictures, or use the panel's upload button"
    if not in_colab():
        raise RuntimeError(f"pictures can be chosen this way in Colab only: {instead}")
    from google.colab import files  # type: ignore[import-not-found]

    from .folders import find_pictures
    from .images import fresh_folder

    folder = fresh_folder(Path(folder).expanduser())
    try:
        files.upload(target_dir=str(folder))
    except (Exception, KeyboardInterrupt) as error:
        raise RuntimeError(f"the page did not hand over the pictures ({_said(error)}): {instead}") from error
    found, others = find_pictures(folder)
    passed = "; ".join(f"{name}: {why}" for name, why in others)
    if not found:
        raise RuntimeError(f"no picture was chosen{f' ({passed})' if passed else ''}: run the cell again, or {instead}")
    if passed:
        warn(f"passed over {passed}")
    return [path for _, path in found if isinstance(path, Path)]


@checked()
def pictures_from(where: str | Path, folder: str = "") -> Path | list[Path]:
    """Pictures for `load_images`: of "example", "upload" (Colab), "drive" (Colab, in its `folder`), or a folder's path.

    Raises:
        RuntimeError: Colab did not hand them over; the message says what to do instead.
        FileNotFoundError: there is no such folder.
    """
    from .images import EXAMPLES

    if where == "upload":
        return choose_pictures()
    path = (
        mount_drive() / folder
        if where == "drive"
        else EXAMPLES / "penguin/pictures"
        if where == "example"
        else Path(where)
    )
    if not path.expanduser().exists():
        raise FileNotFoundError(f"no such folder: {place(path)}")
    return path


def mount_drive() -> Path:
    """Ask to connect the user's Google Drive and return its folder; what is kept there outlives the session.

    Raises:
        RuntimeError: not in Colab, the user said no, or Drive did not answer in time.
    """
    if not in_colab():
        raise RuntimeError("Google Drive can be mounted in Colab only: give a folder of this computer instead")
    from google.colab import drive  # type: ignore[import-not-found]

    without = "go on without it and download what you want to keep: files of the session vanish with it"
    try:
        drive.mount(str(DRIVE))
    except (Exception, KeyboardInterrupt) as error:
        said = _said(error)
        late = any(word in said.lower() for word in ("timeout", "timed out", "time-out"))
        reason = "did not answer in time" if late else "was not connected, as when permission is refused"
        raise RuntimeError(f"Google Drive {reason} ({said}): run the cell again and allow it, or {without}") from error
    if not (DRIVE / "MyDrive").is_dir():
        raise RuntimeError(f"Google Drive was connected but '{DRIVE / 'MyDrive'}' is not there: {without}")
    return DRIVE / "MyDrive"


@dataclass(frozen=True)
class _Needs:
    """About how many GB a model fetches in full and, if its repository has such files, in half precision; what GPU memory
    training takes, and how long."""

    full: float
    half: float | None
    memory: int
    time: str


# Sizes are of the published files, rounded; memory and times are estimates, not measured by us.
_NEEDS = {
    "sd15": _Needs(4, 2, 6, "minutes on a T4"),
    "sd21": _Needs(5, None, 8, "minutes on a T4"),
    "sd21-base": _Needs(5, None, 7, "minutes on a T4"),
    "sdxl": _Needs(14, 7, 12, "tens of minutes on a T4"),
}


@checked("name")
def needs(name: str) -> str:
    """What a model needs before anything starts, in words, and whether this machine has it; fetches nothing."""
    if name == "tiny":
        return "tiny: comes with the package; nothing is downloaded, any CPU will do, a word takes under a minute."
    if name not in _NEEDS:
        return f"{plain(name)}: its size is not known here; models like SD 1.5 want a GPU of 6 GB, like SDXL of 12 GB."
    need, (device, memory) = _NEEDS[name], _device()
    half = f" ({need.half:g} GB in half precision)" if need.half else ""
    text = (
        f"{name}: downloads about {need.full:g} GB once{half}; wants a GPU of about "
        f"{need.memory} GB or more, where a word takes about {need.time}."
    )
    if not memory:
        where = " In Colab: Runtime > Change runtime type > T4 GPU." if in_colab() else ""
        return f"{text} This machine has {device}: it will work, but take hours rather than minutes.{where}"
    verdict = "enough" if memory >= need.memory else "too little, so that it may run out of memory"
    return f"{text} This machine has {device} with {memory:.0f} GB: {verdict}."


def _device() -> tuple[str, float]:
    """The device's name, and its memory in GB if it is a GPU of its own."""
    import torch

    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        return facts.name, facts.total_memory / 1e9
    return ("an Apple GPU, which shares memory", 0.0) if torch.backends.mps.is_available() else ("no GPU", 0.0)


def _shell() -> Any:
    """IPython's shell in a kernel, else None; IPython is not loaded for this."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


def _said(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
