"""Looks inside: at which timesteps a word helps, and where in a picture the UNet attends to which token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from ..errors import InvalidValue
from ..host import turns
from ..host.arguments import SEEDS, checked
from ..host.devices import in_parts
from ..models.conditioning import token_ids
from ..models.denoise import add_noise, cache_latents, predict
from ..training.batches import Batch
from ..training.losses import plan_memory, word_loss
from ..training.settings import TrainSettings
from ..words.concept import check_fits
from ..words.prompts import check_prompt, encode, fill

if TYPE_CHECKING:
    from ..models.model import Model
    from ..pictures.concept_images import ConceptImages
    from ..words.concept import Concept


AT_ONCE = 8  # pictures of `loss_by_timestep`, where memory allows


@checked("concepts", bands=(1, 1000), draws=(1, None), seed=SEEDS)
@torch.no_grad()
def loss_by_timestep(
    model: Model,
    images: ConceptImages,
    concepts: Sequence[Concept],
    *,
    template: str = "a photo of a {}",
    bands: int = 10,
    draws: int = 4,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The denoising loss with each concept in each band of the schedule, on the same pictures and noise.

    Args:
        template: what is said of every picture. bands: how many equal parts of the schedule.
        draws: noises for each picture and band.

    Returns:
        The bands' middle timesteps (bands,), and losses (concepts, bands).

    Raises:
        ValueError: a template without the word, a concept of another model, none at all, a number out of range.
    """
    for concept in concepts:
        check_fits(concept, model)
        check_prompt(fill(template, concept.word), [concept.word])
    latents, _ = cache_latents(model, images.pixels(model.resolution))
    latents = latents.repeat(draws, 1, 1, 1)
    draw = torch.Generator().manual_seed(seed)
    total = len(model.scheduler.alphas_cumprod)
    middles = ((torch.arange(bands) + 0.5) / bands * total).long()
    losses = torch.zeros(len(concepts), bands)
    at_once = plan_memory(model, TrainSettings(batch=AT_ONCE)).micro
    for band, middle in enumerate(tqdm(middles.tolist(), desc="timesteps")):
        noise = torch.randn(latents.shape, generator=draw)
        for i, concept in enumerate(concepts):
            losses[i, band] = _loss(model, concept, fill(template, concept.word), latents, noise, middle, at_once)
    return middles, losses


def _loss(
    model: Model, concept: Concept, prompt: str, latents: torch.Tensor, noise: torch.Tensor, timestep: int, at_once: int
) -> float:
    ids, on = token_ids(model, [prompt], {concept.word: len(concept)}), model.device
    rows = {key: v.to(on) for key, v in concept.vectors.items()}

    def losses(part: slice) -> torch.Tensor:
        one, its_noise = latents[part].to(on), noise[part].to(on)
        steps = torch.full((len(one),), timestep, device=on)
        said = {key: v.expand(len(one), -1) for key, v in ids.items()}
        return word_loss(model, rows, Batch(one, its_noise, steps, said, torch.ones(len(one), 1, 1, 1, device=on)))

    return float(torch.cat(in_parts(losses, len(latents), at_once, on)).mean())


@dataclass(frozen=True, eq=False)
class Attention:
    """Where the UNet attends to which token of a prompt.

    Attributes:
        tokens: the prompt's, as the tokenizer spells them; a word of several vectors comes as several.
        maps: (pictures, tokens, h, w), shares of attention: over all 77 tokens they sum to 1 at each place. What is
            missing here went to the start and to the padding.
    """

    tokens: tuple[str, ...]
    maps: torch.Tensor


@checked(seed=SEEDS)
@torch.no_grad()
def attention(
    model: Model,
    images: ConceptImages,
    prompt: str,
    concept: Concept | None = None,
    *,
    noise: float = 0.5,
    seed: int = 0,
) -> Attention:
    """Cross-attention of pictures to a prompt, in the mean of all layers and heads.

    The pictures are noised as in training and go through the UNet once.

    Args:
        prompt: with "{word}" or "{}" where the word goes. concept: the word; None for a prompt without.
        noise: how far into the schedule, 0 to 1.

    Raises:
        ValueError: `noise` out of range, or a prompt that doesn't fit.
    """
    if not 0 <= noise <= 1:
        raise InvalidValue(f"noise is {noise}: give a share of the schedule, 0 to 1")
    if concept is not None:
        prompt = fill(prompt, concept.word)
        check_prompt(prompt, [concept.word])
    latents, _ = cache_latents(model, images.pixels(model.resolution))
    latents = latents[: len(images)].to(model.device)
    added = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(model.device)
    total = len(model.scheduler.alphas_cumprod)
    step = torch.tensor([min(int(noise * total), total - 1)], device=model.device)
    told = encode(model, [prompt], [concept] if concept else [])
    noisy = add_noise(model, latents, added, step.repeat(len(latents)))

    def maps(part: slice) -> torch.Tensor:
        with turns.turn, _recording(model.unet) as layers:
            predict(model, noisy[part], step, told)
        return _joined(layers, 1)

    found = in_parts(maps, len(latents), 1, model.device)  # one by one: plain attention keeps every share of it
    tokens = _spelled(model, prompt, concept)
    return Attention(tokens, torch.cat(found)[:, 1 : 1 + len(tokens)])


@contextmanager
def _recording(unet: Any) -> Iterator[list[torch.Tensor]]:
    """Within the block each cross-attention layer's shares (b x heads, h x w, 77) are kept, in diffusers' plain arithmetic.

    Layers between pictures' own places stay as they are: theirs would be h x w squared.
    """
    from diffusers.models.attention_processor import AttnProcessor

    before, kept = unet.attn_processors, []
    layers = [module for name, module in unet.named_modules() if name.endswith("attn2")]

    def recorded(scores: Any) -> Any:
        def call(*args: Any, **more: Any) -> torch.Tensor:
            shares: torch.Tensor = scores(*args, **more)
            kept.append(shares.float().cpu())
            return shares

        return call

    unet.set_attn_processor({name: AttnProcessor() if ".attn2." in name else own for name, own in before.items()})
    for layer in layers:
        layer.get_attention_scores = recorded(layer.get_attention_scores)
    try:
        yield kept
    finally:
        for layer in layers:
            del layer.get_attention_scores
        unet.set_attn_processor(before)


def _joined(layers: Sequence[torch.Tensor], count: int) -> torch.Tensor:
    """Layers' shares as one mean map each picture and token, at the finest layer's size: (count, 77, h, w)."""
    sides = [round(shares.shape[1] ** 0.5) for shares in layers]
    out = []
    for shares, side in zip(layers, sides):
        heads = shares.reshape(count, -1, side, side, shares.shape[-1]).mean(1)
        out.append(F.interpolate(heads.permute(0, 3, 1, 2), size=max(sides), mode="bilinear", align_corners=False))
    return torch.stack(out).mean(0)


def _spelled(model: Model, prompt: str, concept: Concept | None) -> tuple[str, ...]:
    encoder = model.encoders[0]
    ids = token_ids(model, [prompt], {concept.word: len(concept)} if concept else {})[encoder.key][0].tolist()
    end = ids.index(encoder.tokenizer.eos_token_id, 1)
    known = encoder.tokenizer.convert_ids_to_tokens([min(i, encoder.first - 1) for i in ids[1:end]])

    def own(number: int) -> str:
        assert concept is not None
        return concept.word if len(concept) == 1 else f"{concept.word} {number}"

    return tuple(
        own(i - encoder.first + 1) if i >= encoder.first else token.removesuffix("</w>")
        for i, token in zip(ids[1:end], known)
    )
