"""The model's own denoising loss of a batch, as a function of the word's vectors (paper, section 4.1, equation 2)."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import torch

from . import busy
from .batches import Batch, mean_square
from .concept import Vectors
from .inject import Conditioning, condition

if TYPE_CHECKING:
    from .models import Model


def word_loss(model: Model, rows: Vectors, batch: Batch, *, guidance: float = 3.0) -> torch.Tensor:
    """Each picture's loss (b,), float32, with ids past the vocabulary standing for `rows`, each encoder's (n, width).

    With negative prompts in the batch the prediction is the guided one, negative + guidance x (prompt - negative)
    (DreamArtist, Dong et al. 2022).
    """
    noisy = add_noise(model, batch.latents, batch.noise, batch.timesteps)
    predicted = predict(model, noisy, batch.timesteps, condition(model, batch.ids, rows))
    if batch.negative_ids is not None:
        against = predict(model, noisy, batch.timesteps, condition(model, batch.negative_ids, rows))
        predicted = against + guidance * (predicted - against)
    return mean_square(predicted, target_of(model, batch), batch.weights)


def add_noise(model: Model, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """The latents with as much of the noise as the model's schedule has at the timesteps.

    diffusers' schedulers keep their tables on the device they were last used on; a copy does it, so that the model's own
    stay where others look for them.
    """
    noisy: torch.Tensor = copy(model.scheduler).add_noise(latents, noise, timesteps)
    return noisy


def target_of(model: Model, batch: Batch) -> torch.Tensor:
    """What the UNet was trained to predict: the noise, or the velocity."""
    if model.prediction_type == "epsilon":
        return batch.noise
    velocity: torch.Tensor = copy(model.scheduler).get_velocity(batch.latents, batch.noise, batch.timesteps)
    return velocity


def predict(model: Model, noisy: torch.Tensor, timesteps: torch.Tensor, told: Conditioning) -> torch.Tensor:
    """The UNet's prediction, float32."""
    dtype = model.dtype
    more: dict[str, Any] = {}
    if told.pooled is not None:
        more["added_cond_kwargs"] = {
            "text_embeds": told.pooled.to(dtype),
            "time_ids": model.time_ids().to(dtype).expand(len(noisy), -1),
        }
    with busy.turn:
        out: torch.Tensor = model.unet(noisy.to(dtype), timesteps, told.states.to(dtype), **more).sample
    return out.float()
