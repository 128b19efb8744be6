"""`TrainSettings`: how to train a word, checked when made; the presets; rates, timesteps and weights of the loss."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, get_type_hints

from ..errors import InvalidValue
from ..host.arguments import SEEDS, SHARE, Limits, validated
from ..words import prompts

if TYPE_CHECKING:
    import torch

CHOICES = {
    "decay": ("constant", "cosine", "linear"),
    "norm": ("free", "clamp", "fixed"),
    "init_source": ("table", "output"),
    "stop": ("never", "flat"),
}

DEFAULT_RATE = 0.45  # of Adam, in units of the vocabulary's spread
DEFAULT_ANGLE = 0.2  # radians a step, with norm="fixed": learns as well on `tiny` as DEFAULT_RATE does
MIN_MEASUREMENTS = 4  # of the gain, before it can be called flat


LIMITS: dict[str, Limits] = {
    "steps": (1, 10**7),
    "batch": (1, 10**4),
    "warmup": (0, 10**7),
    "weight_decay": (0, 10),
    "pull": (0, 1000),
    "context": (0, 1000),
    "negative": (0, 75),
    "negative_guidance": (0, 100),
    "watch": (0, None),
    "dropout": SHARE,
    "ema": SHARE,
    "unmasked": SHARE,
    "seed": SEEDS,
}


@dataclass(frozen=True)
class TrainSettings:
    """How to train. The defaults are the preset "fast"; `benchmarks/quality.md` has what many of them do, measured.

    Attributes:
        steps: optimiser steps.
        batch: pictures a step.
        rate: Adam's learning rate in units of the vocabulary's spread (the standard deviation of a coordinate, for each
            text encoder its own: 0.014 in SD 1.5, 0.022 in tiny), so that one number fits every model. A string is a
            schedule as AUTOMATIC1111 writes it, in plain units: "0.005:100, 1e-3:1000, 1e-5". With `norm="fixed"` it is the
            angle of a step in radians. None for 0.45; for 0.2, which is 11 degrees, with `norm="fixed"`.
        relative: False to have `rate` in plain units as other tools do.
        scale_rate: multiply the rate by `batch`, as the paper's code and diffusers' README do.
        decay: "constant"; "cosine" or "linear" to let the rate fall to a tenth. warmup: steps of rise from zero.
        weight_decay: AdamW's, pulling the vectors towards zero.
        vectors: how many vectors the word has; None for as many as the initializer has tokens.
        init_source: start from the embedding "table", or from the encoder's "output" (Cross Initialization).
        norm: "clamp" to keep each vector from growing longer than it started; "fixed" to keep its length and only rotate it,
            by the rate (Riemannian gradient descent, as Directional Textual Inversion does); "free" for no limit.
        pull: strength of a pull back to the start, added to the gradient: pull x (vectors - start), which is L2 regularisation to
            the initializer, each vector to its own.
        context: weight of a term that keeps what the text encoder makes of a prompt's other words as it was with the start in the
            word's place (CoRe's context regularisation, Wu et al. 2025): mean squared difference in units of their variance.
        ema: decay of an exponential moving average of the vectors, which is then the result; 0 turns it off.
        templates: a name in `prompts.TEMPLATES`, or your own, each with "{}" where the word goes. Pictures that have
            captions use those.
        shuffle: shuffle a caption's comma-separated parts. dropout: chance to leave out each part without the word.
        timesteps: the part of the schedule trained on, such as (0.5, 1) for the noisier half.
        stratified: spread a batch's timesteps evenly (less noise in the loss than uniform draws).
        snr_gamma: weight the loss by min(SNR, gamma) (Hang et al. 2023); None for none.
        unmasked: weight of the loss outside the masks of pictures that have one.
        per_picture: learn a word for each picture as well, "<my-cat> with <my-cat-in-1>", to take what is not the thing.
        negative: vectors of a second word, for the negative prompt, learned together with the first (DreamArtist); 0 for none.
        negative_guidance: guidance scale between the two while training.
        watch: steps between two measurements of the gain on a fixed batch; 0 for never.
        stop: "flat" to stop early, once 4 measurements of the gain or more show that it no longer changes (after DVAR, Voronov
            et al. 2023); "never".
        seed: of all random numbers.
    """

    steps: int = 150
    batch: int = 4
    rate: float | str | None = None
    relative: bool = True
    scale_rate: bool = False
    decay: str = "cosine"
    warmup: int = 10
    weight_decay: float = 0.0
    vectors: int | None = 1
    init_source: str = "table"
    norm: str = "clamp"
    pull: float = 0.0
    context: float = 0.0
    ema: float = 0.0
    templates: str | tuple[str, ...] = "object"
    shuffle: bool = False
    dropout: float = 0.0
    timesteps: tuple[float, float] = (0.0, 1.0)
    stratified: bool = True
    snr_gamma: float | None = None
    unmasked: float = 0.1
    per_picture: bool = False
    negative: int = 0
    negative_guidance: float = 3.0
    watch: int = 25
    stop: str = "never"
    seed: int = 0

    def __post_init__(self) -> None:
        hints = get_type_hints(TrainSettings)
        for name in hints:
            value = validated(name, getattr(self, name), hints[name], limits=LIMITS.get(name))
            object.__setattr__(self, name, value)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidValue(f"{name} is {getattr(self, name)!r}: choose from {', '.join(map(repr, choices))}")
        if self.ema == 1:
            raise InvalidValue("ema is 1: the average would never change; give less than 1")
        if self.vectors is not None and not 1 <= self.vectors <= 75:
            raise InvalidValue(f"vectors is {self.vectors}: 1 to 75 fit in a prompt, 1 or 2 is usual")
        if not 0 <= self.timesteps[0] < self.timesteps[1] <= 1:
            raise InvalidValue(f"timesteps is {self.timesteps}: give two shares of the schedule, such as (0.5, 1)")
        if self.snr_gamma is not None and self.snr_gamma <= 0:
            raise InvalidValue(f"snr_gamma is {self.snr_gamma}: 5 is usual, None turns it off")
        self._check_rate()
        if self.stop == "flat" and not 0 < MIN_MEASUREMENTS * self.watch < self.steps:
            raise InvalidValue(
                f"stop='flat' needs {MIN_MEASUREMENTS} measurements of the gain before the end, and in {self.steps} steps watch="
                f"{self.watch} makes too few: watch={max(1, (self.steps - 1) // MIN_MEASUREMENTS)} would do, or train longer"
            )
        self._check_templates()

    def _check_templates(self) -> None:
        if not self.template_list():
            raise InvalidValue("templates is empty: give at least one, such as ('a photo of a {}',)")
        for template in self.template_list():
            if "{}" not in template and "{word}" not in template:
                raise InvalidValue(f"template {template!r} has no '{{}}' where the word goes")

    def _check_rate(self) -> None:
        if isinstance(self.rate, str):
            rate_pieces(self.rate)
        elif self.rate is not None and not 0 < self.rate < 10:
            usual = "0.05 to 0.5 is usual" if self.relative else "0.0005 to 0.01 is usual"
            usual = "an angle in radians, 0.1 to 0.2 is usual" if self.norm == "fixed" else usual
            raise InvalidValue(f"rate is {self.rate}: {usual}")

    def template_list(self) -> tuple[str, ...]:
        """The templates themselves."""
        if isinstance(self.templates, str):
            if self.templates not in prompts.TEMPLATES:
                own = f", or write ({self.templates!r},) for your own" if "{" in self.templates else ""
                raise InvalidValue(f"no templates {self.templates!r}: choose from {', '.join(prompts.TEMPLATES)}{own}")
            return prompts.TEMPLATES[self.templates]
        return tuple(self.templates)

    @property
    def chosen_rate(self) -> float | str:
        """`rate`, or its default."""
        return self.rate if self.rate is not None else DEFAULT_ANGLE if self.norm == "fixed" else DEFAULT_RATE

    def rate_at(self, step: int, spread: float = 1.0) -> float:
        """Learning rate of step `step` (from 0) for an encoder whose vocabulary has that spread; or the angle of the step."""
        scale = self.batch if self.scale_rate else 1
        chosen = self.chosen_rate
        if isinstance(chosen, str):
            return scale * next(rate for rate, last in rate_pieces(chosen) if last is None or step < last)
        rate = chosen * scale * (spread if self.relative and self.norm != "fixed" else 1.0)
        if step < self.warmup:
            return rate * (step + 1) / (self.warmup + 1)
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        decayed = {"constant": 1.0, "linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share))}[self.decay]
        return rate * (0.1 + 0.9 * decayed)

    def draw_timesteps(self, count: int, total: int, draw: torch.Generator) -> torch.Tensor:
        """`count` timesteps of `total`, in the chosen part of the schedule: (count,) int64."""
        import torch

        share = torch.rand(count, generator=draw)
        if self.stratified:
            share = (torch.arange(count) + share) / count
        low, high = self.timesteps
        return ((low + share * (high - low)) * total).long().clamp(max=total - 1)

    def loss_weights(self, alphas: torch.Tensor, prediction_type: str) -> torch.Tensor:
        """Weight of the loss at each of some timesteps, given their cumulative alphas: min-SNR's, or ones."""
        import torch

        if self.snr_gamma is None:
            return torch.ones_like(alphas)
        snr = alphas / (1 - alphas).clamp_min(1e-12)
        # min-SNR weights the error of the predicted picture. The noise's error is SNR times that, the velocity's SNR + 1 times.
        return snr.clamp(max=self.snr_gamma) / (snr + 1 if prediction_type == "v_prediction" else snr.clamp_min(1e-12))


def rate_pieces(text: str) -> list[tuple[float, int | None]]:
    """AUTOMATIC1111's "rate:until, rate:until, rate" as (rate, first step after it), the last open-ended.

    After the last number the last rate stays.

    Raises:
        ValueError: a piece that is not such a pair, or steps that do not rise.
    """
    pieces: list[tuple[float, int | None]] = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE][-+]?\d+)?)\s*(?::\s*(\d+)\s*)?", piece)
        last = pieces[-1][1] if pieces else 0
        if not match or not 0 < _number(match[1]) < 10 or last is None or (match[2] and int(match[2]) <= last):
            raise InvalidValue(f"rate {text!r}: can't read {piece.strip()!r}; write '0.005:100, 1e-3:1000, 1e-5'")
        pieces.append((float(match[1]), int(match[2]) if match[2] else None))
    return [*pieces[:-1], (pieces[-1][0], None)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # such as 1..5
        return math.nan


FAST = TrainSettings()

# Section 4 and the released configuration: 5000 steps at 0.005 x batch 4 a GPU (x 2 GPUs there), AdamW's own decay of 0.01.
PAPER = TrainSettings(
    steps=5000,
    batch=4,
    rate=0.005,
    relative=False,
    scale_rate=True,
    weight_decay=0.01,
    warmup=0,
    decay="constant",
    templates="object-code",
    norm="free",
    stratified=False,
)

# The README of diffusers' examples/textual_inversion: batch 1 x accumulation 4, 5e-4 scaled by both, 3000 steps. Its script
# also mirrors half the pictures: load them with `flip=True` for that.
DIFFUSERS = TrainSettings(
    steps=3000,
    batch=4,
    rate=5e-4,
    relative=False,
    scale_rate=True,
    weight_decay=0.01,
    warmup=0,
    decay="constant",
    norm="free",
    stratified=False,
)

PRESETS: Mapping[str, TrainSettings] = {"fast": FAST, "paper": PAPER, "diffusers": DIFFUSERS}


def as_settings(given: TrainSettings | str | None, changes: Mapping[str, Any]) -> TrainSettings:
    """The settings meant by a preset's name (or settings, or None for "fast") and single changes to it.

    Raises:
        ValueError: no such preset or setting, or a value out of range.
    """
    from dataclasses import replace

    given = validated("settings", given, TrainSettings | str | None)
    known = [f.name for f in fields(TrainSettings)]
    for name in changes:
        if name not in known:
            raise InvalidValue(f"no setting {name!r}: there are {', '.join(known)}")
    if isinstance(given, str):
        if given not in PRESETS:
            raise InvalidValue(f"no preset {given!r}: there are {', '.join(PRESETS)}")
        given = PRESETS[given]
    return replace(given or FAST, **changes)
