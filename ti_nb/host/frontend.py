"""Colab, Jupyter, VS Code or a terminal: what differs between them."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any


def in_colab() -> bool:
    """Whether the kernel is Colab's; the front end may still be VS Code."""
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
    """Whether long work should run in the cell: Colab may not show what a thread changes in a widget (colabtools #3373)."""
    return in_colab()


def in_cell() -> bool:
    """Whether a cell is running now, rather than a widget's callback or a plain program."""
    shell = _shell()
    parent = shell.kernel.get_parent() if shell is not None and hasattr(shell.kernel, "get_parent") else {}
    return bool(parent.get("header", {}).get("msg_type") == "execute_request")


@contextmanager
def clicks() -> Iterator[Callable[[], None]]:
    """Within the block, the yielded function handles pending widget clicks while the cell is still running.

    It does nothing outside a cell, without jupyter_ui_poll, on ipykernel 7.4 and later (whose clicks it misses), and in
    VS Code, which holds clicks back until the cell ends (vscode-jupyter #17360).
    """
    if not _can_poll_clicks():
        yield lambda: None
        return
    from jupyter_ui_poll import ui_events  # type: ignore[import-not-found]

    with ui_events() as pump:
        yield lambda: pump(10)


def poll() -> Callable[[], None]:
    """What `clicks` yields, without a block: it sets up and tidies up at each call."""
    if not _can_poll_clicks():
        return lambda: None

    def handle_clicks() -> None:
        with clicks() as handle:
            handle()

    return handle_clicks


def _can_poll_clicks() -> bool:
    if not (in_cell() and importlib.util.find_spec("jupyter_ui_poll") and frontend() != "vscode"):
        return False
    return tuple(int(part) for part in version("ipykernel").split(".")[:2]) < (7, 4)


def _shell() -> Any:
    """IPython's shell in a kernel, else None; IPython is not imported for this."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None
