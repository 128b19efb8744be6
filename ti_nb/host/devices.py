"""GPU or CPU: which one, how precise, how much memory it has and what to do when that is full, how many threads and processes."""

from __future__ import annotations

import ctypes
import gc
import os
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from .plain_text import size

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
OMP_PAUSE_SOFT = 1  # of OpenMP 5.0


def default_device() -> str:
    """This process's device according to accelerate: its GPU, else "mps" or "cpu"."""
    from accelerate import PartialState

    return str(PartialState().device)


def default_dtype(device: str) -> torch.dtype:
    """The fastest dtype of the device that training can use.

    GPUs: bfloat16 from compute capability 8 (Ampere) on, float16 before (T4: 7.5). CPUs: bfloat16 with AMX, which is twice as
    fast on `tiny` at 16 pictures a step (the gradient's cosine with float32's is 0.9999); float32 without.
    """
    import torch

    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return torch.bfloat16 if device == "cpu" and _has_matrix_tiles() else torch.float32


def _has_matrix_tiles() -> bool:
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get("amx_tile", False))
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def use_free_cores() -> int:
    """Limit torch to one thread per core this process may use, as more are many times slower; returns the number."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)
    return torch.get_num_threads()


def rest_threads() -> None:
    """Release the calling thread's pool of OpenMP threads, so that another thread's pool has the cores; it comes back by need.

    libgomp counts the threads of all pools; where they outnumber the cores it puts them to sleep between loops, and a
    training step in a second thread takes twice as long (measured). Does nothing without libgomp.
    """
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    for library in {line.split()[-1] for line in lines if "libgomp" in line}:
        pause = getattr(ctypes.CDLL(library), "omp_pause_resource_all", None)
        if pause is not None:
            pause(OMP_PAUSE_SOFT)


def free_memory(device: torch.device) -> int | None:
    """Bytes free on the device (this process's cached ones included); None where it can't be known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    import psutil

    return int(psutil.virtual_memory().available)


def used_memory(device: torch.device) -> str:
    """Memory in use, in words: the peak on a GPU, else this process's resident memory."""
    if device.type == "cuda":
        return f"{size(torch.cuda.max_memory_allocated(device))} at most"
    import psutil

    return size(psutil.Process().memory_info().rss)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the machine is out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and ("out of memory" in str(error) or "can't allocate memory" in str(error))


def release(device: torch.device) -> None:
    """Give cached memory back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def attempt(work: Callable[[], T], device: torch.device, *, least: str = "") -> T | None:
    """What `work` returns; None if the device had too little memory for it, which is then free for a smaller attempt.

    The error's traceback holds the tensors of the work that failed, so that it is let go before memory is given back.

    Args:
        least: what was asked for, in words, where there is no smaller attempt to make.

    Raises:
        torch.OutOfMemoryError: too little memory for the least.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if least:
            raise torch.OutOfMemoryError(
                f"the device is out of memory with {least}: free some of it, or use a smaller model"
            ) from error
        traceback.clear_frames(error.__traceback__)
    gc.collect()
    release(device)
    return None


def in_parts(work: Callable[[slice], T], count: int, at_once: int, device: torch.device) -> list[T]:
    """What `work` returns for each part of `count` pictures: `at_once` of them, or fewer where memory is short."""
    out: list[T] = []
    at = 0
    while at < count:
        part = slice(at, min(at + at_once, count))
        size = part.stop - at
        done = attempt(partial(work, part), device, least="one picture at once" if size == 1 else "")
        if done is None:
            at_once = size // 2
            continue
        out.append(done)
        at = part.stop
    return out


def own_share(count: int) -> range:
    """Which of `count` pictures this process computes: processes' shares are apart and together all, whatever each plans."""
    from accelerate import PartialState

    state = PartialState()
    ends = [count * number // state.num_processes for number in (state.process_index, state.process_index + 1)]
    return range(*ends)


def add_up(values: torch.Tensor) -> torch.Tensor:
    """The sum of all processes' `values`, the same in each."""
    from accelerate import PartialState
    from accelerate.utils import reduce

    if PartialState().num_processes == 1:
        return values
    total: torch.Tensor = reduce(values, "sum")
    return total


def is_main_process() -> bool:
    """Whether this is the one of the processes that train together which writes files."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


def from_main_process(text: str) -> str:
    """The main process's `text`, in every process."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    return str(broadcast_object_list([text])[0]) if PartialState().num_processes > 1 else text
