"""What every training step shares: the device, atomic checkpoints, a clock that survives a restart, a log."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm


def device() -> torch.device:
    """A GPU where one is at hand, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """bfloat16 where it pays: GPUs, and CPUs with the instructions for it."""
    return torch.autocast(device().type, torch.bfloat16)


def workers() -> int:
    """How many processes to train with: on a CPU one for each core, with one thread each.

    Measured on two cores, batch 32: one process with two threads 51 pictures a second, two with one each 70.
    """
    return 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))


def in_parallel(function: Callable[..., None], *args: Any) -> None:
    """Call `function(rank, world_size, *args)` in every worker, joined by gloo."""
    count = workers()
    if count == 1:
        return function(0, 1, *args)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_worker, (count, port, function, args), nprocs=count)


def _worker(rank: int, count: int, port: int, function: Callable[..., None], args: tuple) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    function(rank, count, *args)
    torch.distributed.destroy_process_group()


def average_gradients(module: torch.nn.Module, count: int) -> None:
    """The mean of all workers' gradients, in each."""
    if count == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    torch.distributed.all_reduce(flat)
    flat /= count
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients])):
        gradient.copy_(part.view_as(gradient))


class Run:
    """A resumable loop: `for step in run.steps(): ...` saves `state()` every `every` seconds and at the end."""

    def __init__(self, folder: Path, total: int, every: float = 240.0, quiet: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.total, self.every, self.quiet = folder, total, every, quiet
        self.objects: dict[str, Any] = {}
        self.step, self.seconds = 0, 0.0

    def track(self, **objects: Any) -> None:
        """Name what has `state_dict` and belongs in the checkpoint; loads it at once if there is one."""
        self.objects = objects
        path = self.folder / "checkpoint.pt"
        if path.exists():
            saved = torch.load(path, map_location="cpu", weights_only=True)
            self.step, self.seconds = saved["step"], saved["seconds"]
            for name, thing in objects.items():
                thing.load_state_dict(saved[name])

    def save(self) -> None:
        """Write the checkpoint beside the old one, then put it in its place."""
        if self.quiet:
            return
        state = {name: thing.state_dict() for name, thing in self.objects.items()}
        temporary = self.folder / "checkpoint.tmp"
        torch.save({"step": self.step, "seconds": self.seconds, **state}, temporary)
        os.replace(temporary, self.folder / "checkpoint.pt")

    def log(self, **values: float) -> None:
        """Append one line of figures to `log.jsonl`."""
        if self.quiet:
            return
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps({"step": self.step, "seconds": round(self.seconds, 1), **values}) + "\n")

    def steps(self) -> Iterator[int]:
        """Steps still to do; the caller trains in the loop's body."""
        bar = tqdm(total=self.total, initial=self.step, desc=self.folder.name, mininterval=5, disable=self.quiet)
        started, before, saved = time.monotonic(), self.seconds, time.monotonic()
        while self.step < self.total:
            yield self.step
            self.step += 1
            self.seconds = before + time.monotonic() - started
            bar.update()
            if time.monotonic() - saved > self.every:
                self.save()
                saved = time.monotonic()
        bar.close()
        self.save()


class Average:
    """Exponential moving average of a module's parameters, with a warm start."""

    def __init__(self, module: torch.nn.Module, decay: float = 0.999) -> None:
        self.decay, self.count = decay, 0
        self.shadow = {k: v.detach().clone().float() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        """Move towards `module`."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        now = {k: v for k, v in module.state_dict().items() if v.is_floating_point()}
        torch._foreach_lerp_([self.shadow[k] for k in now], list(now.values()), 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {"shadow": self.shadow, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.shadow, self.count = state["shadow"], state["count"]


def cosine_rate(step: int, total: int, peak: float, warmup: int = 200, floor: float = 0.05) -> float:
    """Linear warm-up, then half a cosine down to `floor` x peak."""
    import math

    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, total - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))


def trapezoid_rate(step: int, total: int, peak: float, warmup: int = 100, fall: float = 0.4) -> float:
    """Linear warm-up, level, then a straight fall to 0 over the last `fall` of the steps."""
    return peak * min(1.0, (step + 1) / warmup, (total - step) / (fall * total))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
