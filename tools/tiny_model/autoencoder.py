"""Step 3: the autoencoder, f4 with 4 channels: 64 x 64 px become 16 x 16 latents.

What made its latents easy to learn on: the first three channels start as the picture's own colours at a quarter of its
size (a term that fades), the decoder sees noisy latents, and the channels are normalised when it is exported.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from .runs import Average, Run, autocast, cosine_rate, device, set_rate

CONFIG = dict(
    in_channels=3,
    out_channels=3,
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    block_out_channels=(32, 64, 64),
    layers_per_block=1,
    latent_channels=4,
    norm_num_groups=8,
    sample_size=64,
    scaling_factor=1.0,
    mid_block_add_attention=False,
)


def to_model(pictures: np.ndarray) -> torch.Tensor:
    """(n, h, w, 3) uint8 -> (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(pictures).to(device()).permute(0, 3, 1, 2).float() / 127.5 - 1


def _crops(pictures: np.ndarray, batch: int, side: int, rng: np.random.Generator) -> torch.Tensor:
    rows = rng.integers(len(pictures), size=batch)
    y, x = rng.integers(0, 64 - side + 1, size=2)
    return to_model(np.ascontiguousarray(pictures[rows, y : y + side, x : x + side]))


def _loss(vae: AutoencoderKL, pixels: torch.Tensor, anchor: float) -> tuple[torch.Tensor, torch.Tensor]:
    with autocast():
        posterior = vae.encode(pixels).latent_dist
        latents = posterior.sample().float()
        out = vae.decode(latents + 0.08 * torch.randn_like(latents)).sample.float()
    mean = posterior.mean.float()
    mse = F.mse_loss(out, pixels)
    colours = F.interpolate(pixels, scale_factor=0.25, mode="area") * 1.5
    edges = sum((out.diff(dim=d) - pixels.diff(dim=d)).abs().mean() for d in (-1, -2))
    loss = mse + 0.2 * F.l1_loss(out, pixels) + 0.1 * edges + 3e-4 * posterior.kl().mean() / mean[0].numel() * 4
    return loss + anchor * F.mse_loss(mean[:, :3], colours), mse


def train(pictures: np.ndarray, folder: Path, steps: int, batch: int, rate: float = 1.5e-3, seed: int = 0) -> None:
    """Train on random crops of 32 px, and on whole pictures in the last fifth."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(**CONFIG).to(device(), memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=rate, weight_decay=1e-4, betas=(0.9, 0.99))
    average = Average(vae, 0.998)
    run = Run(folder, steps)
    run.track(model=vae, optimizer=optimizer, average=average)
    for step in run.steps():
        rng = np.random.default_rng((seed, step))
        whole = step > 0.8 * steps
        pixels = _crops(pictures, batch // 4 if whole else batch, 64 if whole else 32, rng)
        anchor = 0.02 + 0.5 * max(0.0, 1 - step / (0.4 * steps))
        set_rate(optimizer, cosine_rate(step, steps, rate))
        loss, mse = _loss(vae, pixels.to(memory_format=torch.channels_last), anchor)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update(vae)
        if step % 50 == 0:
            run.log(loss=loss.item(), psnr=-10 * np.log10(mse.item() / 4))


def load(folder: Path) -> AutoencoderKL:
    """The averaged autoencoder of a checkpoint, in eval mode."""
    vae = AutoencoderKL(**CONFIG)
    saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    vae.load_state_dict(saved["average"]["shadow"])
    return vae.to(device()).eval().requires_grad_(False)


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: np.ndarray, batch: int = 64) -> torch.Tensor:
    """Latents' means (n, 4, 16, 16), float16, on the CPU."""
    out = []
    for i in range(0, len(pictures), batch):
        with autocast():
            out.append(vae.encode(to_model(pictures[i : i + batch])).latent_dist.mean.half().cpu())
    return torch.cat(out)


@torch.no_grad()
def normalise(vae: AutoencoderKL, pictures: np.ndarray) -> None:
    """Fold each latent channel's mean and spread into the 1x1 convolutions, so that latents are zero-mean, unit-spread.

    Exact, as both are linear: SD's pipelines know one scaling factor only, which then is 1.
    """
    latents = encode(vae, pictures).float().to(device())
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    quant, post = vae.quant_conv, vae.post_quant_conv
    n = len(mean)
    quant.weight[:n] /= spread[:, None, None, None]
    quant.bias[:n] = (quant.bias[:n] - mean) / spread
    quant.bias[n:] -= 2 * spread.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= spread[None, :, None, None]


@torch.no_grad()
def psnr(vae: AutoencoderKL, pictures: np.ndarray) -> float:
    """Mean peak signal-to-noise ratio of reconstructions, in dB."""
    pixels = to_model(pictures)
    out = vae.decode(vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
    return float((-10 * torch.log10(F.mse_loss(out, pixels, reduction="none").mean((1, 2, 3)) / 4)).mean())
