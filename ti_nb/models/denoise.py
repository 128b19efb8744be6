"""What a frozen model computes: pictures to latents, noisy latents to a prediction."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import torch

from ..errors import NotFinite
from ..host import turns

if TYPE_CHECKING:
    from .conditioning import Conditioning
    from .model import Model


@torch.no_grad()
def cache_latents(model: Model, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each picture's latents, scaled as the UNet expects: two (n, c, h, w), float32, CPU.

    A VAE that overflows in float16, as SDXL's does (`force_upcast`), encodes in float32. Afterwards the VAE waits in the
    machine's memory, off the GPU, until pictures are drawn.
    """
    with turns.turn:
        mean, std = _encoded(model, pixels)
    scale = float(model.vae.config.scaling_factor)
    if not bool(mean.isfinite().all()):
        raise NotFinite(f"the VAE's latents are not finite in {model.vae.dtype}: load the model with dtype=float32")
    return mean * scale, std * scale


def _encoded(model: Model, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    vae, dtype = model.vae.to(model.device), model.vae.dtype
    if trap := dtype == torch.float16 and vae.config.force_upcast:
        vae.to(torch.float32)
    means, spreads = [], []
    try:
        for one in pixels.unsqueeze(1):
            posterior = vae.encode(one.to(model.device, vae.dtype)).latent_dist
            means.append(posterior.mean.float().cpu())
            spreads.append(posterior.std.float().cpu())
    finally:
        if trap:
            vae.to(dtype)
        vae.to("cpu")
    return torch.cat(means), torch.cat(spreads)


def predict(model: Model, noisy: torch.Tensor, timesteps: torch.Tensor, told: Conditioning) -> torch.Tensor:
    """The UNet's prediction, float32."""
    dtype = model.dtype
    more: dict[str, Any] = {}
    if told.pooled is not None:
        more["added_cond_kwargs"] = {
            "text_embeds": told.pooled.to(dtype),
            "time_ids": model.time_ids().to(dtype).expand(len(noisy), -1),
        }
    with turns.turn:
        out: torch.Tensor = model.unet(noisy.to(dtype), timesteps, told.states.to(dtype), **more).sample
    return out.float()


def target_of(model: Model, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """What the UNet was trained to predict: the noise, or the velocity."""
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
