"""Colab, Jupyter, VS Code, a terminal: what depends on where the code runs."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any


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


def _shell() -> Any:
    """IPython's shell in a kernel, else None; IPython is not loaded for this."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None
