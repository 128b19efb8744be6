"""Textual inversion: settings, and the run that yields one `StepRecord` an optimiser step.

The loss is the model's own denoising loss; only the word's vectors are parameters (Gal et al. 2022, section 4).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from . import prompts
from .concept import Concept, initial_concept
from .inject import extended
from .models import use_free_cores

if TYPE_CHECKING:
    from .images import ConceptImages
    from .models import Model


@dataclass(frozen=True)
class TrainSettings:
    """How to train. The defaults suit the embedded model; `PAPER` is the paper's recipe.

    Left free, vectors grow to several times the length of any real word's and drown the rest of the prompt. Held at the
    initializer's length they are turned only: on three dev things, one seed, likeness was the same and more of the prompt
    was kept, though steps and batch differed too (compare Directional Textual Inversion, with an optimiser on the sphere).

    Attributes:
        steps: optimiser steps.
        batch: pictures a step.
        rate: Adam's learning rate; with `scale_rate` it is multiplied by `batch`, as the paper's code does.
        weight_decay: AdamW's, pulling the vectors towards zero.
        warmup: steps over which the rate rises from zero.
        decay: "constant", or "cosine" to let the rate fall to a tenth.
        vectors: how many vectors the word has; None for as many as the initializer has tokens.
        templates: a name in `prompts.TEMPLATES`, or your own, each with "{}" where the word goes.
        norm: "start" to give each vector the initializer's length again after a step that made it longer; or "free".
        stratified: spread a batch's timesteps evenly over the schedule (less noise in the loss than uniform draws).
        seed: of everything random.
    """

    steps: int = 150
    batch: int = 4
    rate: float = 0.01
    scale_rate: bool = False
    weight_decay: float = 0.0
    warmup: int = 10
    decay: str = "cosine"
    vectors: int | None = 1
    templates: str | tuple[str, ...] = "object"
    norm: str = "start"
    stratified: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 1), ("warmup", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if not 0 < self.rate < 10:
            raise ValueError(f"rate is {self.rate}: a learning rate between 0.0001 and 0.1 is usual")
        if self.decay not in ("constant", "cosine"):
            raise ValueError(f"decay is {self.decay!r}: write 'constant' or 'cosine'")
        if self.norm not in ("start", "free"):
            raise ValueError(f"norm is {self.norm!r}: write 'start' or 'free'")
        if self.vectors is not None and not 1 <= self.vectors <= 75:
            raise ValueError(f"vectors is {self.vectors}: 1 to 75 fit in a prompt, 1 or 2 is usual")
        for template in self.template_list():
            if "{}" not in template and "{word}" not in template:
                raise ValueError(f"template {template!r} has no '{{}}' where the word goes")

    def template_list(self) -> tuple[str, ...]:
        """The templates themselves."""
        if isinstance(self.templates, str):
            if self.templates not in prompts.TEMPLATES:
                raise ValueError(f"no templates {self.templates!r}: choose from {', '.join(prompts.TEMPLATES)}")
            return prompts.TEMPLATES[self.templates]
        return tuple(self.templates)

    def rate_at(self, step: int) -> float:
        """Learning rate of step `step` (from 0)."""
        import math

        rate = self.rate * (self.batch if self.scale_rate else 1)
        if step < self.warmup:
            return rate * (step + 1) / (self.warmup + 1)
        if self.decay == "constant":
            return rate
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


# Section 4 and the released configuration: 5000 steps at 0.005 x batch 4 a GPU (x 2 GPUs there), AdamW's own decay of 0.01.
PAPER = TrainSettings(
    steps=5000,
    batch=4,
    rate=0.005,
    scale_rate=True,
    weight_decay=0.01,
    warmup=0,
    decay="constant",
    templates="object-code",
    norm="free",
    stratified=False,
)


@dataclass(frozen=True)
class StepRecord:
    """What one optimiser step did.

    Attributes:
        step: counted from 1.
        steps: of how many.
        loss: mean squared error of the batch.
        rate: learning rate used.
        norm: mean length of the word's vectors after the step.
        cosine: of the mean vector with where it started.
        seconds: training time since the run began.
    """

    step: int
    steps: int
    loss: float
    rate: float
    norm: float
    cosine: float
    seconds: float


class Run:
    """One word being learned: an iterator of `StepRecord`; stop iterating to pause, go on to resume."""

    def __init__(self, model: Model, images: ConceptImages, start: Concept, settings: TrainSettings) -> None:
        self.model, self.settings, self.start = model, settings, start
        self.records: list[StepRecord] = []
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._mean, self._std = cache_latents(model, images.pixels(model.resolution))
        self._rows = torch.nn.Parameter(start.vectors.to(model.device, torch.float32, copy=True))
        self._optimizer = torch.optim.AdamW([self._rows], lr=settings.rate, weight_decay=settings.weight_decay)
        first = model.text_encoder.get_input_embeddings().num_embeddings
        words = {start.word: list(range(first, first + len(start)))}
        filled = [prompts.fill(t, start.word) for t in settings.template_list()]
        self._ids = torch.tensor([prompts.tokenise(t, model.tokenizer, words) for t in filled])
        self._alphas = model.scheduler.alphas_cumprod.float()

    def __iter__(self) -> Iterator[StepRecord]:
        return self

    def __len__(self) -> int:
        return self.settings.steps

    def __next__(self) -> StepRecord:
        step = len(self.records)
        if step >= self.settings.steps:
            raise StopIteration
        began = time.monotonic()
        rate = self.settings.rate_at(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss = self._loss()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        if self.settings.norm == "start":
            self._shorten()
        value = loss.item()
        if value != value:
            raise FloatingPointError(f"the loss is not a number at step {step + 1}: lower the rate ({rate:g})")
        before = self.records[-1].seconds if self.records else 0.0
        rows, start = self._rows.detach().cpu(), self.start.vectors
        self.records.append(
            StepRecord(
                step=step + 1,
                steps=self.settings.steps,
                loss=value,
                rate=rate,
                norm=float(rows.norm(dim=-1).mean()),
                cosine=float(F.cosine_similarity(rows.mean(0), start.mean(0), dim=0)),
                seconds=before + time.monotonic() - began,
            )
        )
        return self.records[-1]

    def concept(self) -> Concept:
        """The word as learned so far."""
        facts = {**self.start.facts, "steps": len(self.records), "seed": self.settings.seed, "base": self.model.name}
        return Concept(self.start.word, self._rows.detach().cpu().clone(), facts)

    @torch.no_grad()
    def _shorten(self) -> None:
        """Bring vectors that grew back to the length they started with."""
        longest = self.start.norms().to(self._rows.device)[:, None]
        norms = self._rows.norm(dim=-1, keepdim=True)
        self._rows.mul_(norms.clamp(max=longest) / norms.clamp_min(1e-12))

    def _loss(self) -> torch.Tensor:
        batch, draw = self.settings.batch, self._generator
        # Each picture about equally often: a fresh order whenever the last is used up.
        rows = torch.cat(
            [torch.randperm(len(self._mean), generator=draw) for _ in range(-(-batch // len(self._mean)))]
        )[:batch]
        latents = self._mean[rows] + self._std[rows] * torch.randn(self._mean[rows].shape, generator=draw)
        noise = torch.randn(latents.shape, generator=draw)
        share = torch.rand(batch, generator=draw)
        if self.settings.stratified:
            share = (torch.arange(batch) + share) / batch
        timesteps = (share * len(self._alphas)).long().clamp(max=len(self._alphas) - 1)
        ids = self._ids[torch.randint(len(self._ids), (batch,), generator=draw)]
        return word_loss(self.model, self._rows, ids, latents, noise, timesteps)


def train(
    model: Model,
    images: ConceptImages,
    *,
    word: str,
    init: str | Concept,
    settings: TrainSettings | None = None,
    **changes: Any,
) -> Run:
    """Start to learn `word` from `images`. Iterate over what it returns: nothing is trained before.

    Args:
        model: from `load_model`; it stays as it is.
        images: from `load_images`.
        word: the placeholder token, such as "<my-cat>".
        init: the initializer: one or several known words for the kind of thing; or a concept, to train further.
        settings: how to train; by default `TrainSettings()`.
        **changes: single settings to change, such as `steps=500`.

    Raises:
        ValueError: a word in the vocabulary, an unknown initializer, a setting out of range, a template without the word.
    """
    unknown = set(changes) - {f.name for f in fields(TrainSettings)}
    if unknown:
        raise ValueError(
            f"no setting {sorted(unknown)[0]!r}: there are {', '.join(f.name for f in fields(TrainSettings))}"
        )
    settings = replace(settings or TrainSettings(), **changes)
    prompts.check_word(word, model.tokenizer)
    if isinstance(init, Concept):
        from .concept import check_width

        check_width(init, model)
        start = Concept(word, init.vectors.clone(), {**init.facts})
    else:
        start = initial_concept(model, word, init, settings.vectors)
    use_free_cores()
    return Run(model, images, start, settings)


@torch.no_grad()
def cache_latents(model: Model, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each picture's latents, scaled as the UNet expects: two (n, c, h, w), float32, CPU."""
    means, spreads = [], []
    for one in pixels.unsqueeze(1):
        posterior = model.vae.encode(one.to(model.device, model.vae.dtype)).latent_dist
        means.append(posterior.mean.float().cpu())
        spreads.append(posterior.std.float().cpu())
    scale = float(model.vae.config.scaling_factor)
    return torch.cat(means) * scale, torch.cat(spreads) * scale


def word_loss(
    model: Model,
    rows: torch.Tensor,
    ids: torch.Tensor,
    latents: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
) -> torch.Tensor:
    """The denoising loss of a batch, with ids past the vocabulary standing for `rows` (n, width).

    Args:
        ids: (b, 77). latents, noise: (b, c, h, w). timesteps: (b,).
    """
    device, dtype = model.device, model.dtype
    noisy = model.scheduler.add_noise(latents, noise, timesteps).to(device, dtype)
    target = noise if model.prediction_type == "epsilon" else model.scheduler.get_velocity(latents, noise, timesteps)
    with extended(model.text_encoder, rows):
        states = model.text_encoder(ids.to(device))[0]
    predicted = model.unet(noisy, timesteps.to(device), states.to(dtype)).sample
    return F.mse_loss(predicted.float(), target.to(device).float())
