"""What training shows the model, said before it starts: pictures, prompts and token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .batches import prompts_of_pictures, rows_of_step
from .checks import checked
from .inject import token_ids
from .prompts import init_ids, vary_caption
from .settings import TrainSettings, as_settings

if TYPE_CHECKING:
    from .images import ConceptImages
    from .models import Model


@dataclass(frozen=True)
class Drawn:
    """One sample of a training step: the picture's number, whether mirrored, the prompt, its ids without padding."""

    picture: int
    mirrored: bool
    prompt: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]


@checked(step=(1, 1_000_000))
def drawn_samples(
    model: Model,
    images: ConceptImages,
    *,
    word: str,
    init: str | None = None,
    step: int = 1,
    settings: TrainSettings | str | None = None,
    **changes: Any,
) -> list[Drawn]:
    """What training's step `step` (from 1) shows the model; the same arguments as `train`, nothing is encoded.

    Raises:
        ValueError: a word, initializer, caption or setting that won't do.
    """
    chosen = as_settings(settings, changes)
    said = prompts_of_pictures(images, chosen, word, len(images) * (2 if images.flip else 1))
    size = model.resolution // model.vae_factor
    shape = (chosen.batch, int(model.vae.config.latent_channels), size, size)
    draw = torch.Generator().manual_seed(chosen.seed)
    for number in range(step):
        rows = rows_of_step(len(said), chosen.batch, number, chosen.seed).tolist()
        prompts = _said(rows, said, chosen, word, shape, len(model.scheduler.alphas_cumprod), draw)
    vectors = chosen.vectors or (max(len(init_ids(init, e.tokenizer)) for e in model.encoders) if init else 1)
    return [_drawn(model, row, prompt, word, vectors, len(images)) for row, prompt in zip(rows, prompts)]


def _said(
    rows: list[int],
    said: list[list[str]],
    settings: TrainSettings,
    word: str,
    shape: tuple[int, ...],
    total: int,
    draw: torch.Generator,
) -> list[str]:
    """The prompts of a step: the same random numbers in the same order as `batches.Draws.draw`, for which a test stands."""
    for _ in ("latents", "noise"):
        torch.randn(shape, generator=draw)
    settings.draw_timesteps(settings.batch, total, draw)
    picks = [int(torch.randint(len(said[row]), (), generator=draw)) for row in rows]
    prompts = [said[row][pick] for row, pick in zip(rows, picks)]
    return [vary_caption(p, settings.shuffle, settings.dropout, word, draw) for p in prompts]


def _drawn(model: Model, row: int, prompt: str, word: str, vectors: int, count: int) -> Drawn:
    encoder = model.encoders[0]
    ids = token_ids(model, [prompt], {word: vectors})[encoder.key][0].tolist()
    ids = ids[: ids.index(encoder.tokenizer.eos_token_id) + 1]
    own = [word] if vectors == 1 else [f"{word} {i + 1}" for i in range(vectors)]
    names = [own[i - encoder.first] if i >= encoder.first else token_in_words(encoder.tokenizer, i) for i in ids]
    return Drawn(row % count, row >= count, prompt, tuple(ids), tuple(names))


def token_in_words(tokenizer: Any, number: int) -> str:
    """A token as people read it: its end-of-word mark dropped, a "+" where the word goes on."""
    token: str = tokenizer.convert_ids_to_tokens(number)
    if number in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        return "start" if number == tokenizer.bos_token_id else "end"
    return token.removesuffix("</w>") + ("" if token.endswith("</w>") else "+")
