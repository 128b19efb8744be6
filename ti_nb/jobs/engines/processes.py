"""`processes`: one process a GPU of this machine, or several on its cores, each with the model loaded once. Imports no torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

from ...errors import InvalidValue, NotPossible
from .workers import Workers

GUARD = (
    "in a script, put what calls it under `if __name__ == '__main__':`, as a new process imports the script again; else see what "
    "the processes print, or try executor=None"
)


def processes(count: int | None = None, *, threads: int | None = None) -> Workers:
    """Processes of this machine for `train_many`, each with a GPU of its own where there are GPUs. They start when it is made.

    Args:
        count: how many; by default one a GPU, or without a GPU one for two cores. On a GPU more than one rarely pays:
            `train_many(together=...)` fills it better.
        threads: of each on the CPU; by default the cores, shared out.

    Raises:
        ValueError: no number above 0. RuntimeError: called in such a process itself, as by a script that is imported again.

    Examples:
        >>> import ti_nb as ti
        >>> with ti.jobs.processes(2) as workers:
        ...     workers.submit(max, 1, 2).result()
        2
    """
    if multiprocessing.parent_process() is not None and getattr(
        multiprocessing.current_process(), "_inheriting", False
    ):
        raise NotPossible(f"a process of train_many can't start others: {GUARD}")
    gpus, cores = _gpus(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = (len(gpus) or max(1, cores // 2)) if count is None else count
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InvalidValue(f"count is {count!r}: give how many processes, at least 1")
    threads = max(1, cores // count) if threads is None else threads
    slots = [ProcessSlot(gpus[rank % len(gpus)] if gpus else None, threads) for rank in range(count)]
    return Workers(slots, advice=GUARD)


class ProcessSlot:
    """A process, spawned: a fork would inherit threads and GPUs in the middle of their work.

    Attributes:
        gpu: which one it sees, by number or UUID; None for whatever there is. threads: of torch.
    """

    def __init__(self, gpu: str | None, threads: int) -> None:
        self.gpu, self.threads = gpu, threads
        self._pool: ProcessPoolExecutor | None = None

    def start(self) -> Future[Any]:
        """A new process. The old one's pool, if it broke, ends by itself: to shut it down here would wait for this very thread."""
        self._pool = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=prepare, initargs=(self.gpu, self.threads)
        )
        return self._pool.submit(os.getpid)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Have it called there."""
        if self._pool is None:
            raise BrokenProcessPool("the process was ended")
        return self._pool.submit(function, *args, **kwargs)

    def stop(self, *, kill: bool) -> None:
        """End the process."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        going = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=not kill, cancel_futures=kill)
        for process in going if kill else ():
            process.kill()


def prepare(gpu: str | None, threads: int) -> None:
    """What comes first in a new process: its share of the machine, and an end with its parent, however that ends."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a notebook's stop reaches all processes; the driver decides what ends
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # a run's last save is whole at any moment


def _gpus() -> list[str]:
    """The GPUs of this process, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in named.split(",")][:count] if named and count else [str(n) for n in range(count)]
