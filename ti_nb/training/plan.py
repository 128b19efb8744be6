"""What a run will use, said before it starts; and how it is cut to fit the device."""

from __future__ import annotations

import gc
import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.func import functional_call

from ..host import turns
from ..host.arguments import checked
from ..host.devices import free_memory, is_out_of_memory, release
from ..host.plain_text import size

if TYPE_CHECKING:
    from ..models.model import Model
    from .settings import TrainSettings

T = TypeVar("T")
ON_A_CPU = 32  # pictures at once: on tiny, 32 train 78 a second, 16 train 70 and 80 train 58, for caches
ROOM = 0.9  # share of the free memory to plan with: kernels and allocators need some of their own


@dataclass(frozen=True)
class Plan:
    """How a step is computed, and what that needs.

    Attributes:
        micro: pictures through the UNet at once; a batch is cut into parts of that size, which changes no result.
        checkpointing: recompute the UNet's activations in the backward pass instead of keeping them.
        weights, activations: bytes of the frozen weights on the device, and of what is kept for one part's backward pass.
        free: bytes the device has for activations; None if it can't say.
        dtype: precision of the frozen weights.
    """

    micro: int
    checkpointing: bool
    weights: int
    activations: int
    free: int | None
    dtype: str

    def __str__(self) -> str:
        parts = f"{self.micro} pictures at once" + (", activations recomputed" if self.checkpointing else "")
        need = f"weights {size(self.weights)} ({self.dtype}) + activations {size(self.activations)}"
        return f"{parts}; {need}; free for activations: {size(self.free) if self.free is not None else 'unknown'}"

    def smaller(self) -> Plan | None:
        """The next plan to try when the device ran out of memory: half the pictures at once, then recomputing."""
        if self.micro > 1:
            return replace(self, micro=(self.micro + 1) // 2, activations=self.activations // 2)
        return None if self.checkpointing else replace(self, checkpointing=True)


@checked(together=(1, None), free=(0, None))
def plan_memory(model: Model, settings: TrainSettings, *, together: int = 1, free: int | None = None) -> Plan:
    """Choose how many pictures go through the UNet at once, and whether to recompute activations.

    As many as fit, up to the batch; recomputing (a fifth to a third slower) only where one picture doesn't fit without.

    Args:
        together: runs that share each pass. free: bytes to plan with; by default what the device has free.
    """
    from accelerate import PartialState

    wanted = -(-settings.batch * together // PartialState().num_processes)  # each process takes its share
    passes = 2 if settings.negative else 1
    weights = sum(_bytes(part) for part in (model.unet, *(e.network for e in model.encoders)))
    with turns.turn:  # what a step of another run takes for a moment is not taken for good
        free = free_memory(model.device) if free is None else free
    room = None if free is None else int(free * ROOM)
    for checkpointing in (False, True):
        one = activation_bytes(model, checkpointing) * passes
        fits = wanted if room is None else min(wanted, room // max(one, 1))
        fits = min(fits, ON_A_CPU) if model.device.type == "cpu" else fits
        if fits >= 1 or checkpointing:
            break
    micro = -(-wanted // -(-wanted // max(1, fits)))  # parts of equal size
    return Plan(micro, checkpointing, weights, one * micro, free, str(model.dtype).removeprefix("torch."))


def activation_bytes(model: Model, checkpointing: bool) -> int:
    """Bytes one picture's forward pass keeps for its backward pass: counted on a copy of the UNet without storage.

    Measured by what autograd saves (each storage once, weights not), not by formula. Temporaries are not in it. Fake
    tensors know their device, so attention takes the kernel it takes there; meta tensors would keep whole maps.
    """
    unet = model.unet
    pooled = model.encoders[-1].network.config.projection_dim if model.is_xl else 0
    with turns.turn:  # `attention` puts others there for a moment
        plain = all(type(processor).__name__ == "AttnProcessor" for processor in unet.attn_processors.values())
    config = json.dumps({**unet.config, "sample_size": model.latent_side})
    return _count(config, model.dtype, str(model.device), plain, pooled, checkpointing)


@lru_cache(maxsize=64)
def _count(config: str, dtype: torch.dtype, device: str, plain: bool, pooled: int, checkpointing: bool) -> int:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(json.loads(config)).eval().requires_grad_(False)
    unet.set_attn_processor(AttnProcessor() if plain else AttnProcessor2_0())  # whatever the user set is near one
    kept: dict[int, torch.Tensor] = {}
    with FakeTensorMode(), torch.device(device), recomputing(unet, checkpointing), torch.enable_grad():
        weights = {name: torch.empty(p.shape, dtype=dtype) for name, p in unet.named_parameters()}
        frozen = {p.untyped_storage()._cdata for p in weights.values()}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()._cdata
            if storage not in frozen:
                kept[storage] = tensor
            return tensor

        side, width = unet.config.sample_size, unet.config.cross_attention_dim
        width = width[0] if isinstance(width, list | tuple) else width
        latents = torch.empty(1, unet.config.in_channels, side, side, dtype=dtype)
        states = torch.empty(1, 77, width, dtype=dtype, requires_grad=True)
        more: dict[str, Any] = {}
        if pooled:
            sizes = torch.empty(1, 6, dtype=dtype)
            more["added_cond_kwargs"] = {"text_embeds": torch.empty(1, pooled, dtype=dtype), "time_ids": sizes}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            functional_call(unet, weights, (latents, torch.zeros(1, dtype=torch.long), states), more)
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@contextmanager
def recomputing(unet: Any, on: bool) -> Iterator[None]:
    """Within the block the UNet recomputes its activations in the backward pass, if `on`."""
    if on:
        unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if on:
            unet.disable_gradient_checkpointing()


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


def _bytes(module: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


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
