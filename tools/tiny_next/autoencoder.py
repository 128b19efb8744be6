"""Step 3: the autoencoder, f8 with 8 channels: 128 x 128 px become 16 x 16 latents.

What made its latents easy to learn on: the first three channels start as the picture's own colours at an eighth of its
size (a term that fades), the decoder sees noisy latents, and the channels are normalised when it is exported.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from tools.tiny_model.muon import Muon
from tools.tiny_model.runs import Average, Run, autocast, average_gradients, device, trapezoid_rate

from . import scenes

CONFIG = dict(
    in_channels=3,
    out_channels=3,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(32, 64, 96, 128),
    layers_per_block=1,
    latent_channels=8,
    norm_num_groups=8,
    sample_size=128,
    scaling_factor=1.0,
    mid_block_add_attention=False,
)
CROP = 64


def _crops(pictures: torch.Tensor, covered: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Two crops of 64 px from each picture, one of them about the thing."""
    out = []
    for picture, mask in zip(pictures, covered):
        places = torch.nonzero(mask[0] > 0.5)
        middle = places[rng.integers(len(places))].tolist() if len(places) else (64, 64)
        for y, x in ([c - CROP // 2 for c in middle], rng.integers(0, 128 - CROP + 1, 2).tolist()):
            y, x = min(max(y, 0), 128 - CROP), min(max(x, 0), 128 - CROP)
            out.append(picture[:, y : y + CROP, x : x + CROP])
    return torch.stack(out)


def _loss(vae: AutoencoderKL, pixels: torch.Tensor, anchor: float) -> tuple[torch.Tensor, torch.Tensor]:
    with autocast():
        posterior = vae.encode(pixels).latent_dist
        latents = posterior.sample().float()
        out = vae.decode(latents + 0.08 * torch.randn_like(latents)).sample.float()
    mean = posterior.mean.float()
    mse = F.mse_loss(out, pixels)
    colours = F.interpolate(pixels, scale_factor=0.125, mode="area") * 1.5
    edges = sum((out.diff(dim=d) - pixels.diff(dim=d)).abs().mean() for d in (-1, -2))
    loss = mse + 0.2 * F.l1_loss(out, pixels) + 0.1 * edges + 3e-4 * posterior.kl().mean() / mean[0].numel() * 4
    return loss + anchor * F.mse_loss(mean[:, :3], colours), mse


def train(rank: int, count: int, world: Path, folder: Path, steps: int, batch: int, rate: float = 1e-3, seed: int = 0) -> None:  # fmt: skip
    """Train on crops of 64 px, `batch` of them a step, and on whole pictures in the last fifth of `steps`."""
    torch.manual_seed(seed * 100 + rank)
    stock = scenes.Stock(world)
    torch.manual_seed(seed)
    vae = AutoencoderKL(**CONFIG).to(device())
    optimizer = Muon(vae, rank, count)
    average = Average(vae, 0.997)
    run = Run(folder, steps, quiet=rank > 0)
    run.track(model=vae, optimizer=optimizer, average=average)
    for step in run.steps():
        rng = np.random.default_rng((seed, step, rank))
        torch.manual_seed((seed * 1_000_003 + step) * count + rank)
        whole = step > 0.8 * steps
        pixels, covered = scenes.compose(
            stock, scenes.sample(stock, batch // count // (4 if whole else 2), rng), device()
        )
        pixels = (pixels if whole else _crops(pixels, covered, rng)) * 2 - 1
        anchor = 0.02 + 0.5 * max(0.0, 1 - step / (0.4 * steps))
        optimizer.set_rate(trapezoid_rate(step, steps, rate, warmup=50, fall=0.5))
        loss, mse = _loss(vae, pixels, anchor)
        optimizer.zero_grad()
        loss.backward()
        average_gradients(vae, count)
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update(vae)
        if step % 20 == 0:
            run.log(loss=loss.item(), psnr=-10 * np.log10(mse.item() / 4))


def sharpen(
    world: Path, before: Path, folder: Path, steps: int, batch: int = 16, rate: float = 5e-4, seed: int = 1
) -> None:
    """Train the decoder alone, its latents fixed, for sharp edges: absolute errors of pixels, of slopes and of curvature.

    The mean of all pictures that a blurred latent may stand for is blurred itself; the median, which absolute errors
    seek, is not.
    """
    torch.manual_seed(seed)
    stock = scenes.Stock(world)
    vae = AutoencoderKL(**CONFIG).to(device())
    saved = torch.load(before / "checkpoint.pt", map_location=device(), weights_only=True)
    vae.load_state_dict(saved["average"]["shadow"])
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    decoder = torch.nn.ModuleList([vae.decoder, vae.post_quant_conv])
    optimizer, average = Muon(decoder, 0, 1), Average(vae, 0.995)
    run = Run(folder, steps)
    run.track(model=vae, optimizer=optimizer, average=average)
    for step in run.steps():
        rng = np.random.default_rng((seed, step))
        torch.manual_seed(seed * 1_000_003 + step)
        pixels, covered = scenes.compose(stock, scenes.sample(stock, batch // 2, rng), device())
        pixels = _crops(pixels, covered, rng) * 2 - 1
        with autocast():
            with torch.no_grad():
                latents = vae.encode(pixels).latent_dist.mean
            out = vae.decode(latents.float() + 0.03 * torch.randn_like(latents.float())).sample.float()
        slopes = sum((out.diff(dim=d) - pixels.diff(dim=d)).abs().mean() for d in (-1, -2))
        bends = sum((out.diff(n=2, dim=d) - pixels.diff(n=2, dim=d)).abs().mean() for d in (-1, -2))
        loss = F.l1_loss(out, pixels) + slopes + 0.5 * bends
        optimizer.set_rate(trapezoid_rate(step, steps, rate, warmup=20, fall=0.6))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        average.update(vae)
        if step % 20 == 0:
            run.log(loss=loss.item(), psnr=-10 * np.log10(F.mse_loss(out, pixels).item() / 4))


@torch.no_grad()
def finish(world: Path, folder: Path, out: Path) -> dict[str, float]:
    """Write the averaged autoencoder, its channels normalised, in half precision to `out`; say how well it does.

    Returns:
        PSNR in dB, and the sharpness (variance of the Laplacian) kept, over 300 scenes that it never saw.
    """
    vae = AutoencoderKL(**CONFIG).to(device()).eval()
    saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    vae.load_state_dict(saved["average"]["shadow"])
    stock = scenes.Stock(world)
    rng = np.random.default_rng(99)
    normalise(vae, _pictures(stock, rng, 500))
    vae.half().save_pretrained(out)
    vae.float()
    pixels = _pictures(stock, rng, 300)
    drawn = torch.cat([vae.decode(vae.encode(p).latent_dist.mean).sample.clamp(-1, 1) for p in pixels.split(25)])
    error = (drawn - pixels).square().mean((1, 2, 3)) / 4
    return {"psnr": float((-10 * error.log10()).mean()), "sharpness": float(_laplacian(drawn) / _laplacian(pixels))}


def _pictures(stock: scenes.Stock, rng: np.random.Generator, count: int) -> torch.Tensor:
    return (
        torch.cat([scenes.compose(stock, scenes.sample(stock, 50, rng), device())[0] for _ in range(count // 50)]) * 2
        - 1
    )


def _laplacian(pictures: torch.Tensor) -> torch.Tensor:
    grey = pictures.mean(1, keepdim=True)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], device=grey.device)[None, None]
    return F.conv2d(grey, kernel).var(dim=(1, 2, 3)).mean()


@torch.no_grad()
def normalise(vae: AutoencoderKL, pixels: torch.Tensor) -> None:
    """Fold each latent channel's mean and spread into the 1x1 convolutions, so that latents are zero-mean, unit-spread.

    Exact, as both are linear: SD's pipelines know one scaling factor only, which then is 1.
    """
    latents = torch.cat([vae.encode(p).latent_dist.mean for p in pixels.split(25)])
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    quant, post = vae.quant_conv, vae.post_quant_conv
    n = len(mean)
    quant.weight[:n] /= spread[:, None, None, None]
    quant.bias[:n] = (quant.bias[:n] - mean) / spread
    quant.bias[n:] -= 2 * spread.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= spread[None, :, None, None]


def load(folder: Path) -> AutoencoderKL:
    """The finished autoencoder, in eval mode: of `folder`, or where it was not trained anew the one that lies here."""
    folder = folder if folder.exists() else Path(__file__).parent / "vae"
    return AutoencoderKL.from_pretrained(folder).float().to(device()).eval().requires_grad_(False)
