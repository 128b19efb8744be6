"""Pictures become cached latents; each step draws a `Batch` of them, with noise, timesteps and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..host.arguments import checked
from ..models.conditioning import count_chunks, token_ids
from ..models.denoise import cache_latents
from ..models.today.pipeline_model import PipelineModel
from ..models.tokens import init_ids, names_of_rows, token_in_words
from ..words.concept import Concept, initial_concept
from ..words.prompts import fill, negative_word, picture_word, replace_word, vary_caption
from .settings import as_settings

if TYPE_CHECKING:
    from ..models.model import Model
    from ..pictures.concept_images import ConceptImages
    from .settings import TrainSettings


@dataclass(frozen=True, eq=False)
class Batch:
    """The inputs of one loss, on the model's device.

    Attributes:
        latents, noise: (b, c, h, w) float32. timesteps: (b,) int64.
        ids: each encoder's token ids (b, 77), or of several chunks (b, 77 n). negative_ids: those of the negative prompts, if there are any.
        weights: (b, 1 or c, 1 or h, 1 or w) float32, of each squared error; those of a mask have the mean 1 over a picture.
    """

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    ids: Mapping[str, torch.Tensor]
    weights: torch.Tensor
    negative_ids: Mapping[str, torch.Tensor] | None = None

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, rows: torch.Tensor | slice) -> Batch:
        return Batch(
            self.latents[rows],
            self.noise[rows],
            self.timesteps[rows],
            {key: ids[rows] for key, ids in self.ids.items()},
            self.weights[rows],
            None if self.negative_ids is None else {key: ids[rows] for key, ids in self.negative_ids.items()},
        )


class Draws:
    """Draws batches of one concept: the seed and `step` say which pictures, `generator` has all other randomness.

    Attributes:
        step: the next to draw, from 0.
    """

    def __init__(
        self, model: Model, images: ConceptImages, settings: TrainSettings, words: Mapping[str, int], seed: int
    ) -> None:
        self.model, self.settings, self.words = model, settings, dict(words)
        self.seed, self.step = seed, 0
        self.generator = torch.Generator().manual_seed(seed)
        self.mean, self.std = cache_latents(model, images.pixels(model.size))
        self.mask = mask_weights(images.mask_pixels((self.mean.shape[-1], self.mean.shape[-2])), settings.unmasked)
        self._alphas = model.scheduler.alphas_cumprod.float().cpu()
        word = next(iter(words))
        self._negative = negative_word(word) if settings.negative else None
        self._prompts = prompts_of_pictures(images, settings, word, len(self.mean))
        self._ids: dict[str, dict[str, torch.Tensor]] = {}
        # Prompts that are too long are found here, before any step. All are as long as the longest, whatever is drawn with them.
        self.chunks = max(count_chunks(model, prompt, self.words) for prompt in {p for c in self._prompts for p in c})

    def draw(self) -> Batch:
        """The next step's batch, which does not depend on the device."""
        rows = rows_of_step(len(self.mean), self.settings.batch, self.step, self.seed)
        self.step += 1
        choices, word = [self._prompts[row] for row in rows.tolist()], next(iter(self.words))
        drawn = draw_step(choices, self.settings, word, self.mean.shape[1:], len(self._alphas), self.generator)
        latents = self.mean[rows] + self.std[rows] * drawn.spread
        return self._batch(rows, latents, drawn.noise, drawn.timesteps, drawn.prompts)

    def fixed(self, count: int) -> Batch:
        """A batch that is the same for every run of these settings: mean latents, fixed noise, even timesteps."""
        draw = torch.Generator().manual_seed(0)
        rows = torch.arange(count) % len(self.mean)
        noise = torch.randn(self.mean[rows].shape, generator=draw)
        low, high = self.settings.timesteps
        share = low + (torch.arange(count) + 0.5) / count * (high - low)
        prompts = [self._prompts[row][0] for row in rows.tolist()]
        return self._batch(rows, self.mean[rows], noise, (share * len(self._alphas)).long(), prompts)

    def _batch(
        self,
        rows: torch.Tensor,
        latents: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        prompts: Sequence[str],
    ) -> Batch:
        weights = self.settings.loss_weights(self._alphas[timesteps], self.model.prediction_type)[:, None, None, None]
        if self.mask is not None:
            weights = weights * self.mask[rows]
        word = next(iter(self.words))
        negative = [replace_word(p, word, self._negative) for p in prompts] if self._negative else []
        negative_ids = self._all_tokens(negative) if negative else None
        to, ids = self.model.device, self._all_tokens(prompts)
        return Batch(latents.to(to), noise.to(to), timesteps.to(to), ids, weights.to(to), negative_ids)

    def _all_tokens(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        each = [self._tokens(prompt) for prompt in prompts]
        if len({rows.shape for ids in each for rows in ids.values()}) > 1:
            return token_ids(self.model, prompts, self.words)  # a shuffled caption may take a chunk more
        return {key: torch.cat([ids[key] for ids in each]) for key in each[0]}

    def _tokens(self, prompt: str) -> dict[str, torch.Tensor]:
        if prompt not in self._ids:
            if len(self._ids) > 4096:
                self._ids.clear()
            self._ids[prompt] = token_ids(self.model, [prompt], self.words, self.chunks)
        return self._ids[prompt]


def rows_of_step(pictures: int, batch: int, step: int, seed: int) -> torch.Tensor:
    """Which of the pictures step `step` (from 0) draws (batch,): each comes once an epoch, in a new order every epoch."""
    first = step * batch
    numbers = range(first // pictures, (first + batch - 1) // pictures + 1)
    epochs = [np.random.default_rng([seed % 2**64, number]).permutation(pictures) for number in numbers]
    return torch.from_numpy(np.concatenate(epochs)[first % pictures :][:batch])


class Step(NamedTuple):
    """The random part of a step, besides which pictures it takes.

    Attributes:
        spread: (b, c, h, w) standard normal, times the latents' standard deviation. noise: (b, c, h, w).
        timesteps: (b,) int64. prompts: one a picture.
    """

    spread: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    prompts: list[str]


def draw_step(
    choices: Sequence[Sequence[str]],
    settings: TrainSettings,
    word: str,
    shape: Sequence[int],
    total: int,
    draw: torch.Generator,
) -> Step:
    """One step's random numbers, always in this order.

    Args:
        choices: the prompts of each picture of the batch. shape: of one picture's latents. total: timesteps there are.
    """
    count = len(choices)
    spread, noise = (torch.randn((count, *shape), generator=draw) for _ in range(2))
    timesteps = settings.draw_timesteps(count, total, draw)
    picks = [int(torch.randint(len(prompts), (), generator=draw)) for prompts in choices]
    chosen = [prompts[pick] for prompts, pick in zip(choices, picks)]
    varied = [vary_caption(prompt, settings.shuffle, settings.dropout, word, draw) for prompt in chosen]
    return Step(spread, noise, timesteps, varied)


def prompts_of_pictures(images: ConceptImages, settings: TrainSettings, word: str, count: int) -> list[list[str]]:
    """The prompts that may go with each of `count` pictures (mirror images included): its caption, or every template.

    With `per_picture` each ends in the picture's own word.
    """
    templates = [fill(t, word) for t in settings.template_list()]
    prompts = [[fill(c, word)] if c else templates for c in images.captions or [""] * len(images)]
    if settings.per_picture:
        prompts = [[f"{p} with {picture_word(word, i)}" for p in own] for i, own in enumerate(prompts, 1)]
    return prompts * (count // len(prompts))


def words_beside(model: Model, word: str, settings: TrainSettings, pictures: int) -> list[Concept]:
    """What is learned beside `word`, if asked for: a word for the negative prompt, and one for each of so many pictures.

    They start at random, with the vocabulary's mean and spread.
    """
    seed, out = settings.seed, []
    if settings.negative:
        out.append(initial_concept(model, negative_word(word), None, settings.negative, seed=seed))
    if settings.per_picture:
        out += [initial_concept(model, picture_word(word, i), None, seed=seed + i) for i in range(1, pictures + 1)]
    return out


def mask_weights(masks: torch.Tensor | None, unmasked: float) -> torch.Tensor | None:
    """Weights (n, 1, h, w) of mean 1 from masks (n, 1, h, w) in 0..1: `unmasked` where a mask is 0."""
    if masks is None:
        return None
    weights = unmasked + (1 - unmasked) * masks
    return weights / weights.mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)


def join_batches(batches: Sequence[Batch], sizes: Sequence[Mapping[str, int]], firsts: Mapping[str, int]) -> Batch:
    """Concatenate several concepts' batches; their words' ids are offset, so that they index all concepts' rows one after the other.

    Args:
        sizes: each concept's number of rows for each encoder. firsts: each encoder's first id past its vocabulary.
    """
    if len(batches) == 1:
        return batches[0]
    ids: dict[str, list[torch.Tensor]] = {key: [] for key in firsts}
    for key, first in firsts.items():
        offset = 0
        for batch, size in zip(batches, sizes):
            own = batch.ids[key]
            ids[key].append(torch.where(own >= first, own + offset, own))
            offset += size[key]
    shape = max((b.weights.shape[-2:] for b in batches), key=lambda side: side.numel())
    weights = [b.weights if b.weights.shape[-2:] == shape else b.weights.expand(-1, 1, *shape) for b in batches]
    return Batch(
        torch.cat([b.latents for b in batches]),
        torch.cat([b.noise for b in batches]),
        torch.cat([b.timesteps for b in batches]),
        {key: torch.cat(parts) for key, parts in ids.items()},
        torch.cat(weights),
    )


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
    """What training step `step` (from 1) will show the model; takes the arguments of `train`, and encodes nothing.

    Raises:
        ValueError: an invalid word, initializer, caption or setting.

    Examples:
        >>> import ti_nb as ti
        >>> model, photos = ti.load_model("tiny"), ti.example_images("penguin")
        >>> samples = ti.drawn_samples(model, photos, word="<my-penguin>", init="animal")
        >>> len(samples), "<my-penguin>" in samples[0].prompt
        (4, True)
    """
    chosen = as_settings(settings, changes)
    prompts = prompts_of_pictures(images, chosen, word, len(images) * (2 if images.flip else 1))
    draw = torch.Generator().manual_seed(chosen.seed)
    for number in range(step):
        rows = rows_of_step(len(prompts), chosen.batch, number, chosen.seed).tolist()
        choices = [prompts[row] for row in rows]
        drawn = draw_step(choices, chosen, word, model.latent_shape, len(model.scheduler.alphas_cumprod), draw)
    vectors = chosen.vectors or (max(len(init_ids(init, e.tokenizer)) for e in model.encoders) if init else 1)
    beside = {picture_word(word, i): 1 for i in range(1, len(images) + 1)} if chosen.per_picture else {}
    counts = {word: vectors, **beside}
    return [_drawn(model, row, prompt, counts, len(images)) for row, prompt in zip(rows, drawn.prompts)]


def _drawn(model: Model, row: int, prompt: str, counts: Mapping[str, int], count: int) -> Drawn:
    encoder = model.encoders[0]
    if isinstance(model, PipelineModel):
        return Drawn(row % count, row >= count, prompt, *model.spelled(prompt, counts))
    length, end = int(encoder.tokenizer.model_max_length), encoder.tokenizer.eos_token_id
    chunks = token_ids(model, [prompt], counts)[encoder.key].reshape(-1, length).tolist()
    ids = [number for chunk in chunks for number in chunk[: chunk.index(end) + 1]]
    own = names_of_rows(counts)
    names = [own[i - encoder.first] if i >= encoder.first else token_in_words(encoder.tokenizer, i) for i in ids]
    return Drawn(row % count, row >= count, prompt, tuple(ids), tuple(names))
