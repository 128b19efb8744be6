"""Looked at while it trains: names on the left, drawings it has never seen, each said by its own vector, on the right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from PIL import Image
from transformers import CLIPTokenizer

from tools.tiny_model import drawings, world
from tools.tiny_model.runs import autocast, device

from . import autoencoder, captions, generator
from .drawing_encoder import WordTable

PLACES = ("on a blue background", "on the beach", "in the snow")
NAMES = ("cat", "teapot", "automobile", "panda", "hamburger", "castle", "guitar", "rose", "rocket", "owl")


@torch.no_grad()
def draw(model: generator.Generator, states: torch.Tensor, nothing: torch.Tensor, steps: int = 25, guidance: float = 4.0,
         seed: int = 0) -> torch.Tensor:  # fmt: skip
    """Latents (b, 8, 16, 16) for text states (b, n, d)."""
    scheduler = DDIMScheduler(**generator.SCHEDULER)
    scheduler.set_timesteps(steps)
    x = torch.randn(len(states), 8, 16, 16, generator=torch.Generator().manual_seed(seed)).to(device())
    both = torch.cat([nothing.expand_as(states), states])
    for t in scheduler.timesteps:
        with autocast():
            no, yes = model.unet(torch.cat([x, x]), t, both).sample.float().chunk(2)
        x = scheduler.step(no + guidance * (yes - no), t, x).prev_sample
    return x


@torch.no_grad()
def sheet(build: Path, tokenizer: CLIPTokenizer, folder: str = "generator", assets: Path = Path("outputs/tiny_model/drawings")) -> Image.Image:  # fmt: skip
    """Three pictures of each of ten names, then of twenty held-out drawings beside the drawing itself."""
    model = generator.load(build / folder, tokenizer)
    vae = autoencoder.load(build / "vae")
    table = model.text_encoder.get_input_embeddings()
    if not isinstance(table, WordTable):
        model.text_encoder.set_input_embeddings(table := WordTable(table))
    things = [n for n in world.held_out_things("dev")][:20]
    styles = [("flat", "glossy", "cartoon")[i % 3] for i in range(len(things))]
    seen = np.stack(
        [
            _paper(drawings.draw_thing(assets, n, s) or drawings.draw_thing(assets, n, "flat"))
            for n, s in zip(things, styles)
        ]
    )
    words, _ = model.drawing_encoder(torch.from_numpy(seen).permute(0, 3, 1, 2).float().to(device()) / 127.5 - 1)
    rows = torch.zeros(2 * len(words), words.shape[1], device=device())
    rows[::2] = words.float() * table.weight.norm(dim=-1).mean()
    named = [f"{world.STYLES['glossy'][0]} of {world.article(n)}" for n in NAMES]
    meant = [f"{world.STYLES[s][0]} of a {captions.WORD}" for s in styles]
    columns = []
    for k, place in enumerate(PLACES):
        texts = [f"{t} {place}" for t in meant] + [f"{t} {place}" for t in named]
        table.extra = rows
        states = model.text_encoder(captions.tokenise(texts, tokenizer, 77).to(device()))[0]
        nothing = model.text_encoder(captions.tokenise([""], tokenizer, 77).to(device()))[0]
        with autocast():
            out = vae.decode(draw(model, states, nothing, seed=k)).sample.float()
        columns.append(((out.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).cpu().numpy())
    rows_new = [np.concatenate([_large(seen[i]), *(c[i] for c in columns)], 1) for i in range(len(things))]
    rows_named = [np.concatenate([c[len(things) + i] for c in columns], 1) for i in range(len(NAMES))]
    blocks = [np.concatenate(rows_named), np.concatenate(rows_new[:10]), np.concatenate(rows_new[10:])]
    return Image.fromarray(np.concatenate(blocks, 1))


def _paper(picture: Image.Image) -> np.ndarray:
    paper = Image.new("RGBA", (64, 64), "white")
    small = picture.resize((58, 58), Image.Resampling.LANCZOS)
    paper.alpha_composite(small, (3, 3))
    return np.asarray(paper.convert("RGB"))


def _large(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((128, 128)))
