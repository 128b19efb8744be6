"""Prompts, concepts and seeds become pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

from .concept import Concept
from .inject import check_prompt, encode
from .models import use_free_cores
from .prompts import fill

if TYPE_CHECKING:
    from PIL import Image

    from .models import Model


@dataclass(frozen=True)
class Sample:
    """One picture, with all that is needed to draw it again."""

    image: Image.Image
    prompt: str
    seed: int


def sample(
    model: Model,
    prompts: str | Sequence[str],
    concepts: Concept | Sequence[Concept] = (),
    *,
    seeds: int | Sequence[int] = 4,
    steps: int = 25,
    guidance: float = 5.0,
    negative: str = "",
    batch: int = 16,
    progress: bool = True,
) -> list[Sample]:
    """Draw every prompt with every seed: prompt by prompt, seeds in order.

    A seed gives the same picture whatever else is drawn beside it (to float rounding). "{word}" and "{}" in a prompt
    stand for the first concept's word. A word learned for the negative prompt is given among the concepts and said in
    `negative`.

    Args:
        seeds: how many (0, 1, ...), or which.
        steps: denoising steps. guidance: classifier-free guidance scale; 1 turns it off.
        negative: what to steer away from. batch: pictures drawn at once.

    Raises:
        ValueError: with concepts, a prompt that says none of their words; a prompt beyond 77 tokens; a concept of
            another width.
    """
    concepts = [concepts] if isinstance(concepts, Concept) else list(concepts)
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if concepts:
        texts = [fill(text, concepts[0].word) for text in texts]
        for text in texts:
            check_prompt(text, [c.word for c in concepts])
    use_free_cores()
    told = encode(model, [*texts, negative], concepts)
    jobs = [(i, seed) for i in range(len(texts)) for seed in seeds]
    pipeline = model.pipeline()
    out: list[Sample] = []
    for at in tqdm(range(0, len(jobs), batch), desc="sampling", disable=not progress):
        some = jobs[at : at + batch]
        said, against = told[[i for i, _ in some]], told[[-1] * len(some)]
        pooled = {}
        if said.pooled is not None and against.pooled is not None:
            pooled = {
                "pooled_prompt_embeds": said.pooled.to(model.dtype),
                "negative_pooled_prompt_embeds": against.pooled.to(model.dtype),
            }
        images = pipeline(
            prompt_embeds=said.states.to(model.dtype),
            negative_prompt_embeds=against.states.to(model.dtype),
            **pooled,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator("cpu").manual_seed(seed) for _, seed in some],
            height=model.resolution,
            width=model.resolution,
        ).images
        out += [Sample(image, texts[i], seed) for image, (i, seed) in zip(images, some)]
    return out
