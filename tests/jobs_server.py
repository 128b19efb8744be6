"""A Hub with Jobs, on loopback: what the real client asks for machines, starts, logs and ends; it runs what it is sent, for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.hub_server import Answer, HubServer, Refused, Request, route, said

ROOT = Path(__file__).parents[1]
MACHINES = {"cpu-basic": 0.000167, "t4-small": 0.0067, "l4x1": 0.0133}  # dollars a minute


@dataclass
class Machine:
    """A job of the Hub's: what was asked, and the process that does it."""

    id: str
    owner: str
    asked: dict[str, Any]
    process: subprocess.Popen[str] | None = None
    lines: list[str] = field(default_factory=list)
    stage: str = "RUNNING"
    message: str | None = None


class JobsServer(HubServer):
    """It has credit, or none; it runs machines with `python`, or with `runs=False` none at all.

    Attributes:
        credit: whether who asks can pay. python: what takes `uv run`'s place. machines: all that were started.
    """

    def __init__(self, *, credit: bool = True, python: str = sys.executable, runs: bool = True) -> None:
        super().__init__()
        self.credit, self.python, self.runs = credit, python, runs
        self.machines: dict[str, Machine] = {}

    def wait_for(self, job: str) -> Machine:
        """The machine, when it has ended."""
        machine = self.machines[job]
        if machine.process is not None:
            machine.process.wait(300)
            self._reader.join(60)
        return machine

    @route("GET", "/api/jobs/hardware")
    def _hardware(self, request: Request) -> Answer:
        facts = {
            "cpu": "2 vCPU",
            "ram": "16 GB",
            "ephemeralStorage": "20 GB",
            "accelerator": None,
            "unitLabel": "minute",
        }
        return said(
            [
                {"name": name, "prettyName": name, "unitCostMicroUSD": round(cost * 1e6), "unitCostUSD": cost, **facts}
                for name, cost in MACHINES.items()
            ]
        )

    @route("POST", "/api/jobs/{namespace}")
    def _start(self, request: Request, namespace: str) -> Answer:
        if not self._may(request, "repo.write", namespace):
            raise Refused(403, "You may not start jobs there")
        if not self.credit:
            raise Refused(402, "Pre-paid credit balance is insufficient")
        machine = Machine(f"job{len(self.machines)}", namespace, request.json())
        self.machines[machine.id] = machine
        if self.runs:
            self._run(machine)
        return said(self._told(machine))

    def _run(self, machine: Machine) -> None:
        command = machine.asked["command"]
        assert command[:3] == ["uv", "run", "--with"] and command[4] == "python", command
        env = {**os.environ, "HF_TOKEN_PATH": "/nonexistent/token", "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1"}
        env |= {**machine.asked["environment"], **machine.asked["secrets"]}
        machine.process = subprocess.Popen(
            [self.python, *command[5:]], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read, args=(machine,), daemon=True)
        self._reader.start()

    def _read(self, machine: Machine) -> None:
        assert machine.process is not None and machine.process.stdout is not None
        for line in machine.process.stdout:
            machine.lines.append(line)
        ended = machine.process.wait()
        if machine.stage == "RUNNING":
            machine.stage, machine.message = (
                ("COMPLETED", None) if ended == 0 else ("ERROR", f"Job failed with exit code: {ended}")
            )

    def _told(self, machine: Machine) -> dict[str, Any]:
        owner = {"id": machine.owner, "name": machine.owner, "type": "user"}
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        asked = {
            key: value for key, value in machine.asked.items() if key in ("command", "flavor", "environment", "labels")
        }
        status = {"stage": machine.stage, "message": machine.message}
        return {"id": machine.id, "createdAt": now, "owner": owner, "status": status, **asked}

    def _machine(self, request: Request, namespace: str, job: str) -> Machine:
        if not self._may(request, "repo.content.read", namespace) or job not in self.machines:
            raise Refused(404, "Job not found")
        return self.machines[job]

    @route("GET", "/api/jobs/{namespace}/{job}")
    def _inspect(self, request: Request, namespace: str, job: str) -> Answer:
        return said(self._told(self._machine(request, namespace, job)))

    @route("GET", "/api/jobs/{namespace}/{job}/logs")
    def _logs(self, request: Request, namespace: str, job: str) -> Answer:
        machine, when = self._machine(request, namespace, job), "2026-01-01T00:00:00.000Z"
        events = [json.dumps({"data": line, "timestamp": when}) for line in ["===== Job started", *machine.lines]]
        return Answer(
            "".join(f"data: {event}\n\n" for event in events).encode(), 200, {"Content-Type": "text/event-stream"}
        )

    @route("POST", "/api/jobs/{namespace}/{job}/cancel")
    def _cancel_job(self, request: Request, namespace: str, job: str) -> Answer:
        machine = self._machine(request, namespace, job)
        machine.stage = "CANCELED"
        if machine.process is not None:
            machine.process.kill()
        return said(self._told(machine))
