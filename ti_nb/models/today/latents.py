"""Latents as each family has them: what its VAE gives, what its network takes, and what that gives back."""

from __future__ import annotations

from typing import Any

import torch

from .recipe import Recipe


def posterior(vae: Any, picture: torch.Tensor, frames: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (1, c, h, w) of a picture's latents; 0 is the latter where the VAE has none (DC-AE)."""
    out = vae.encode(picture.unsqueeze(2) if frames else picture)
    if not hasattr(out, "latent_dist"):
        return out.latent, torch.zeros_like(out.latent)
    mean, std = out.latent_dist.mean, out.latent_dist.std
    return (mean.squeeze(2), std.squeeze(2)) if frames else (mean, std)


def scaled(vae: Any, recipe: Recipe, mean: torch.Tensor, std: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The VAE's latents (n, c, h, w) as the network was trained with them."""
    if recipe.latents == "patched":
        centre = vae.bn.running_mean.float().cpu()
        width = (vae.bn.running_var.float().cpu() + vae.config.batch_norm_eps).sqrt()
        mean, std = patched(mean), patched(std)
    elif recipe.latents == "standardised":
        centre, width = torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)
    else:
        centre = torch.tensor([float(getattr(vae.config, "shift_factor", None) or 0.0)])
        width = 1 / torch.tensor([float(vae.config.scaling_factor)])
    return (mean - centre[:, None, None]) / width[:, None, None], std / width[:, None, None]


def patched(latents: torch.Tensor) -> torch.Tensor:
    """(b, c, h, w) -> (b, 4 c, h/2, w/2): each 2 x 2 as channels, a channel's four side by side."""
    b, c, h, w = latents.shape
    return latents.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, 4 * c, h // 2, w // 2)


def packed(latents: torch.Tensor, recipe: Recipe) -> Any:
    """Latents (b, c, h, w) as the network takes them."""
    if recipe.packed in ("list", "video"):
        latents = latents.unsqueeze(2)
        return latents if recipe.packed == "video" else list(latents.unbind(0))
    if recipe.packed == "2x2":
        latents = patched(latents)
    return latents.flatten(2).transpose(1, 2) if recipe.packed else latents


def unpacked(out: Any, recipe: Recipe, like: torch.Tensor) -> torch.Tensor:
    """What the network gave, in the shape of `like` (b, c, h, w). Of twice the channels the second half is a variance."""
    b, c, h, w = like.shape
    if recipe.packed == "list":
        return torch.stack(list(out)).squeeze(2)
    if recipe.packed == "video":
        return out.squeeze(2)  # type: ignore[no-any-return]
    if recipe.packed == "tokens":
        return out.transpose(1, 2).reshape(b, c, h, w)  # type: ignore[no-any-return]
    if recipe.packed == "2x2":
        tiles = out.transpose(1, 2).reshape(b, c, 2, 2, h // 2, w // 2)
        return tiles.permute(0, 1, 4, 2, 5, 3).reshape(b, c, h, w)  # type: ignore[no-any-return]
    return out[:, :c]  # type: ignore[no-any-return]
