"""What a frozen model computes: pictures to latents, noisy latents to a prediction; and what memory that takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch.func import functional_call

from ..errors import NotFinite
from ..host import turns
from .today.memory import kept_for_backward
from .today.pipeline_model import PipelineModel, Told

if TYPE_CHECKING:
    from .conditioning import Conditioning
    from .model import Model


T = TypeVar("T")
REMEMBERED = 512  # answers of a VAE that are kept, the latest: at 512 px up to 64 MiB
_answers: WeakKeyDictionary[torch.nn.Module, dict[Hashable, Any]] = WeakKeyDictionary()


def _once(model: Model, asked: str, pixels: torch.Tensor, ask: Callable[[], T]) -> T:
    """What the model's VAE makes of these pictures, asked once, as every run and panel asks the same. Changed weights are asked anew."""
    changes = sum(0 if weight.is_inference() else weight._version for weight in model.vae.parameters())
    digest = hashlib.sha256(pixels.contiguous().numpy().tobytes()).digest()
    key = (asked, digest, tuple(pixels.shape), model.vae.dtype, str(model.device), changes)
    answers = _answers.setdefault(model.vae, {})
    answers[key] = answers.pop(key) if key in answers else ask()
    while len(answers) > REMEMBERED:
        answers.pop(next(iter(answers)))
    return answers[key]  # type: ignore[no-any-return]


@torch.no_grad()
def cache_latents(model: Model, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each picture's latents, scaled as the UNet expects: two (n, c, h, w), float32, CPU.

    A VAE that overflows in float16, as SDXL's does (`force_upcast`), encodes in float32. Afterwards the VAE waits in the
    machine's memory, off the GPU, until pictures are drawn.
    """
    with turns.turn:
        mean, std = _encoded(model, pixels)
    if not bool(mean.isfinite().all()):
        raise NotFinite(f"the VAE's latents are not finite in {model.vae.dtype}: load the model with dtype=float32")
    return model.scaled(mean, std)


def _encoded(model: Model, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with _widened(model.vae) as vae:
        each = [
            _once(model, "latents", picture, partial(_posterior, model, picture)) for picture in pixels.unsqueeze(1)
        ]
    vae.to("cpu")
    mean, std = (torch.cat(parts) for parts in zip(*each))
    return mean, std


@contextmanager
def _widened(vae: Any) -> Iterator[Any]:
    """In float32, where float16 would overflow."""
    if vae.dtype != torch.float16 or not getattr(vae.config, "force_upcast", False):
        yield vae
        return
    try:
        yield vae.to(torch.float32)
    finally:
        vae.to(torch.float16)


def _posterior(model: Model, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = model.posterior(picture.to(model.device, model.vae.to(model.device).dtype))
    return mean.float().cpu(), std.float().cpu()


@torch.no_grad()
def reconstruction(model: Model, pixels: torch.Tensor) -> float:
    """How well the VAE gives pictures (n, 3, h, w) in [-1, 1] back: their peak signal-to-noise ratio in dB."""
    mean, _ = cache_latents(model, pixels)
    scale = float(model.vae.config.scaling_factor)
    with turns.turn:
        out = model.vae.decode((mean / scale).to(model.vae.dtype)).sample.float().clamp(-1, 1)
    return float(10 * torch.log10(4 / (out - pixels).square().mean().clamp(min=1e-12)))


TINY_SHOWS = 24.6  # dB: sets of five photographs 21.7 to 23.5, sets of drawings that it never saw 25.8 to 31.2


def remark_on_photographs(model: Model, pixels: torch.Tensor) -> str:
    """What to tell someone who gives tiny, which draws drawings, photographs; "" for other pictures and models."""
    if model.name != "tiny" or _once(model, "dB", pixels[:8], partial(reconstruction, model, pixels[:8])) >= TINY_SHOWS:
        return ""
    return (
        "these look like photographs, and tiny draws drawings: they will come out as blobs in their colours. It is good "
        'for trying this out; for photographs take "sd15" or another model, on a machine with a GPU'
    )


def predict(
    model: Model, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning | Told
) -> torch.Tensor:
    """The UNet's prediction, float32."""
    if isinstance(conditioning, Told):
        assert isinstance(model, PipelineModel)
        return model.predict(noisy, timesteps, conditioning)
    dtype = model.dtype
    extra: dict[str, Any] = {}
    if conditioning.pooled is not None:
        extra["added_cond_kwargs"] = {
            "text_embeds": conditioning.pooled.to(dtype),
            "time_ids": model.time_ids().to(dtype).expand(len(noisy), -1),
        }
    with turns.turn:
        out: torch.Tensor = model.unet(noisy.to(dtype), timesteps, conditioning.states.to(dtype), **extra).sample
    return out.float()


def target_of(model: Model, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """What the UNet was trained to predict: the noise, or the velocity, which flow matching defines otherwise."""
    if model.prediction_type == "epsilon":
        return noise
    velocity: torch.Tensor = copy(model.scheduler).get_velocity(latents, noise, timesteps)
    return velocity


def add_noise(model: Model, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """The latents with as much of the noise as the model's schedule has at the timesteps.

    diffusers' schedulers keep their tables on the device they were last used on; a copy does it, so that the model's own
    stay where others look for them.
    """
    noisy: torch.Tensor = copy(model.scheduler).add_noise(latents, noise, timesteps)
    return noisy


def activation_bytes(model: Model, checkpointing: bool) -> int:
    """Bytes one picture's forward pass keeps for its backward pass: counted on a copy of the UNet that has no data.

    Measured, not computed by a formula: the tensors that autograd saves, each storage once, without weights and
    temporaries. Fake tensors know their device, so that attention takes the kernel it takes there; with meta tensors it
    would save whole attention maps.
    """
    if isinstance(model, PipelineModel):
        with turns.turn, recomputing(model.unet, checkpointing):
            return kept_for_backward(model)
    unet = model.unet
    pooled = model.encoders[-1].network.config.projection_dim if model.is_xl else 0
    with turns.turn:  # `attention` replaces them for a moment
        plain = all(type(processor).__name__ == "AttnProcessor" for processor in unet.attn_processors.values())
    config = json.dumps({**unet.config, "sample_size": model.latent_shape[1:]})
    return _count(config, model.dtype, str(model.device), plain, pooled, checkpointing)


@lru_cache(maxsize=64)
def _count(config: str, dtype: torch.dtype, device: str, plain: bool, pooled: int, checkpointing: bool) -> int:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(json.loads(config)).eval().requires_grad_(False)
    unet.set_attn_processor(
        AttnProcessor() if plain else AttnProcessor2_0()
    )  # other processors need about what one of these does
    kept: dict[int, torch.Tensor] = {}
    with FakeTensorMode(), torch.device(device), recomputing(unet, checkpointing), torch.enable_grad():
        weights = {name: torch.empty(p.shape, dtype=dtype) for name, p in unet.named_parameters()}
        frozen = {p.untyped_storage()._cdata for p in weights.values()}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()._cdata
            if storage not in frozen:
                kept[storage] = tensor
            return tensor

        (high, wide), width = unet.config.sample_size, unet.config.cross_attention_dim
        width = width[0] if isinstance(width, list | tuple) else width
        latents = torch.empty(1, unet.config.in_channels, high, wide, dtype=dtype)
        states = torch.empty(1, 77, width, dtype=dtype, requires_grad=True)
        extra: dict[str, Any] = {}
        if pooled:
            sizes = torch.empty(1, 6, dtype=dtype)
            extra["added_cond_kwargs"] = {"text_embeds": torch.empty(1, pooled, dtype=dtype), "time_ids": sizes}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            functional_call(unet, weights, (latents, torch.zeros(1, dtype=torch.long), states), extra)
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
