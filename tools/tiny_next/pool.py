"""Step 4: a pool of composed scenes as latents, so that a CPU encodes each picture once. (On a GPU every step composes anew.)"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from tqdm.auto import tqdm

from tools.tiny_model.runs import autocast, device

from . import autoencoder, scenes


@torch.no_grad()
def encoded(stock: scenes.Stock, vae: AutoencoderKL, specs: scenes.Specs) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (b, 8, 16, 16) of the scenes and how much of each place the thing covers (b, 1, 16, 16)."""
    pictures, covered = scenes.compose(stock, specs, device())
    with autocast():
        latents = vae.encode(pictures * 2 - 1).latent_dist.mean
    return latents.float(), F.avg_pool2d(covered, 8)


class Pool:
    """`count` scenes in `folder`, written in parts of 2 000 that a stopped run goes on from."""

    PART = 2_000

    def __init__(self, folder: Path, stock: scenes.Stock, count: int, seed: int = 0) -> None:
        self.stock, self.count = stock, count
        parts = [self._part(folder, i, seed) for i in tqdm(range(count // self.PART), desc="pool", disable=None)]
        self.latents = [np.load(p / "latents.npy", mmap_mode="r") for p in parts]
        self.covered = [np.load(p / "covered.npy") for p in parts]
        self.specs = [dict(np.load(p / "specs.npz")) for p in parts]

    def _part(self, folder: Path, number: int, seed: int) -> Path:
        part = folder / f"{number:03d}"
        if (part / "specs.npz").exists():
            return part
        part.mkdir(parents=True, exist_ok=True)
        vae = autoencoder.load(folder.parent / "vae")
        specs = scenes.sample(self.stock, self.PART, np.random.default_rng((seed, number)))
        latents, covered = [], []
        for i in range(0, self.PART, 50):
            z, c = encoded(self.stock, vae, {k: v[i : i + 50] for k, v in specs.items()})
            latents.append(z.half().cpu().numpy())
            covered.append((c * 255).byte().cpu().numpy())
        np.save(part / "latents.npy", np.concatenate(latents))
        np.save(part / "covered.npy", np.concatenate(covered))
        np.savez(part / "specs.npz", **specs)
        return part

    def batch(self, step: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, scenes.Specs]:
        """Latents, coverage and specs of the batch that `step` sees: a new order each epoch."""
        epoch, place = divmod(step, self.count // size)
        order = np.random.default_rng((seed, epoch)).permutation(self.count)[place * size : (place + 1) * size]
        part, row = np.divmod(order, self.PART)
        latents = np.stack([self.latents[p][r] for p, r in zip(part, row)])
        covered = np.stack([self.covered[p][r] for p, r in zip(part, row)])
        specs = {k: np.stack([self.specs[p][k][r] for p, r in zip(part, row)]) for k in self.specs[0]}
        return torch.from_numpy(latents).float(), torch.from_numpy(covered).float() / 255, specs
