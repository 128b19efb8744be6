"""A real kernel without a browser: runs cells, sees which buttons they made, clicks on them as a frontend does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from tools import stacks

ROOT = Path(__file__).parents[1]
LIMIT = 600  # s, for whatever is waited for: only what hangs may fail, not what runs on a busy machine


class Kernel:
    """A kernel of this environment (None) or of a stack; leave the `with` block and it is gone.

    Attributes:
        models: what each open widget was last said to be, by comm id.
        printed: everything that went to stdout and stderr. tracebacks: of cells and callbacks that failed.
    """

    def __init__(self, stack: str | None = None, **environment: str) -> None:
        self.manager = manager(stack)
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
        self.models: dict[str, dict[str, Any]] = {}
        self.printed, self.tracebacks = "", list[str]()
        self._done: set[str] = set()

    def __enter__(self) -> Kernel:
        self.manager.start_kernel(env=self.environment, cwd=str(ROOT))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=LIMIT)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def begin(self, code: str) -> str:
        """Send a cell and return its message's id at once, without what it is going to say."""
        return str(self.client.execute(code, stop_on_error=False))  # or what is asked next is not answered

    def run(self, code: str, *, seconds: float = LIMIT) -> None:
        """Run a cell to its end; one that fails raises its traceback."""
        self.until_idle(self.begin(code), seconds=seconds)
        assert not self.tracebacks, self.tracebacks[-1]

    def value(self, expression: str) -> str:
        """The repr of an expression, computed in the kernel."""
        message = self.client.execute("", silent=True, user_expressions={"it": expression})
        reply = self._reply(message)["content"]["user_expressions"]["it"]
        assert reply["status"] == "ok", reply
        return str(reply["data"]["text/plain"])

    def wait(self, expression: str, *, seconds: float = LIMIT) -> None:
        """Ask until the expression is true."""
        end = time.monotonic() + seconds
        while self.value(f"bool({expression})") != "True":
            assert time.monotonic() < end, f"after {seconds} s still not {expression}"
            time.sleep(0.05)

    def until(self, what: str, seen: Callable[[], bool], *, seconds: float = LIMIT, patience: float = 10) -> None:
        """Take in what the kernel says, while a cell keeps it busy, until it is seen in the widgets; `patience` seconds, and it is woken."""
        end, again = time.monotonic() + seconds, time.monotonic() + patience
        while not seen():
            assert time.monotonic() < end, f"after {seconds} s still no {what}; it printed: {self.printed}"
            if time.monotonic() > again:  # see `_reply`
                self.client.kernel_info()
                again += patience
            self._read_for(0.5)

    def button(self, description: str) -> str:
        """The comm id of the one button that says `description`, now or soon."""
        self.until(f"button {description!r}", lambda: len(self._buttons(description)) == 1)
        return self._buttons(description)[0]

    def _buttons(self, description: str) -> list[str]:
        said = {"_model_name": "ButtonModel", "description": description}
        return [key for key, model in self.models.items() if said.items() <= model.items()]

    def click(self, description: str, *, subshell: str | None = None) -> str:
        """What a frontend sends for a click; in a subshell as JupyterLab 4.4 and newer do where a kernel has them."""
        event = {"method": "custom", "content": {"event": "click"}}
        content = {"comm_id": self.button(description), "data": event}
        message = self.client.session.msg("comm_msg", content)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def subshell(self) -> str | None:
        """Open a subshell; None where the kernel has none."""
        info = self._reply(self.client.kernel_info())
        if "kernel subshells" not in info["content"].get("supported_features", []):
            return None
        self.client.control_channel.send(self.client.session.msg("create_subshell_request"))
        return str(self.client.get_control_msg(timeout=LIMIT)["content"]["subshell_id"])

    def until_idle(self, message: str, *, seconds: float = LIMIT, patience: float = 10) -> None:
        """Take in what the kernel says until it is done with `message`."""
        self.until(f"end of message {message}", lambda: message in self._done, seconds=seconds, patience=patience)

    def _read_for(self, seconds: float) -> None:
        """Note what the next message says, if one comes in time."""
        try:
            said = dict(self.client.get_iopub_msg(timeout=seconds))
        except Empty:
            return
        content = said["content"]
        if said["msg_type"] == "comm_open":
            self.models[content["comm_id"]] = dict(content["data"].get("state", {}))
        elif said["msg_type"] == "comm_msg":
            self.models.setdefault(content["comm_id"], {}).update(content["data"].get("state", {}))
        elif said["msg_type"] == "stream":
            self.printed += content["text"]
        elif said["msg_type"] == "error":
            self.tracebacks.append("\n".join(content["traceback"]))
        elif said["msg_type"] == "status" and content["execution_state"] == "idle":
            self._done.add(said["parent_header"].get("msg_id", ""))

    def _reply(self, message: str) -> dict[str, Any]:
        """The answer to `message` on the shell channel. ipykernel 7 now and then lets a request lie until the next one comes (its issue #1554)."""
        end = time.monotonic() + LIMIT
        while True:
            try:
                reply = dict(self.client.get_shell_msg(timeout=5))
            except Empty:
                assert time.monotonic() < end, f"no answer to {message}"
                self.client.kernel_info()
                continue
            if reply["parent_header"].get("msg_id") == message:
                return reply


def manager(stack: str | None, kind: type[KernelManager] = KernelManager) -> KernelManager:
    """Of a stack's kernel; of this environment's for None."""
    if stack is None:
        return kind(kernel_name="python3")
    specs = KernelSpecManager(kernel_dirs=[str(stacks.kernels(stack))], ensure_native_kernel=False)
    return kind(kernel_name="python3", kernel_spec_manager=specs)
