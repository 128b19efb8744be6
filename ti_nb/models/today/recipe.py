"""What a family's row says: facts of its models, how they are driven, and what they weigh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Network:
    """What is counted of a network to reckon its memory.

    Attributes:
        billions: of its weights. layers, width: of its transformer. tokens: of one picture of 512 px, or of one prompt.
        table: billions of weights in its embedding table, which stays in 16 bit.
    """

    billions: float
    layers: int
    width: int
    tokens: int
    table: float = 0.0


@dataclass(frozen=True)
class Release:
    """A model with a short name. Sizes are of its files, rounded; memory and time are estimates, not measured by us.

    Attributes:
        repository: one that still exists (Stability and Runway removed theirs).
        full, half: about how many GB are downloaded in full, and in half precision; None if the repository has no float16 files.
        memory: GB of a GPU to train on. time: to learn a word in. These two of models whose networks are not counted.
        networks: those of a model of today, the denoiser first, from which its memory is reckoned.
        terms: its licence, in words. gated: whether it must be asked for on the Hub.
    """

    repository: str
    full: float
    half: float | None = None
    memory: int = 0
    time: str = ""
    networks: tuple[Network, ...] = ()
    terms: str = ""
    gated: bool = False


@dataclass(frozen=True)
class Recipe:
    """How a model is driven through its own pipeline: what its call does beside encoding the prompt.

    Attributes:
        latents: how the VAE's become the network's: "scaled", (z - shift) x scale; "standardised", by each channel's mean
            and deviation; "patched", 2 x 2 of them into channels, then as the VAE's batch norm says.
        packed: how the network takes them: "" as (b, c, h, w), "2x2" and "tokens" as (b, tokens, c), "list" one by one,
            "video" as (b, c, 1, h, w).
        frames: whether the VAE is one of videos, a picture being one frame.
        clock: what the network is given for the scheduler's sigma, 0 to 1, or t, 0 to 1000: "t", "t/1000", "1 - t/1000"; or
            "unshifted", the t before the shift of its sigmas.
        sign: -1 where the pipeline negates what the network predicts, which is then latents - noise.
        flow: whether it was trained by flow matching; else it predicts the noise of a schedule of betas.
        guidance: the argument of the call for the scale of guidance. off: its value without.
        negative: whether it guides away from a negative prompt, which distilled models don't.
        arguments: others that the call needs.
    """

    latents: str = "scaled"
    packed: str = ""
    frames: bool = False
    clock: str = "t"
    sign: int = 1
    flow: bool = True
    guidance: str = "guidance_scale"
    off: float = 1.0
    negative: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """Models that share their words.

    Attributes:
        name: as `Concept.family` says it. encoders: the keys of its text encoders, in their order.
        width: of the first encoder, where another family has the same keys.
        pipeline: diffusers' class. tag: its models' on the Hub. license: of its usual models.
        architecture: the name modelspec has for it. releases: models by their short names, the usual one first.
        moved: repositories that were taken down, and where the same weights live on.
        recipe: how it is driven through its own pipeline; None for those whose encoding is written out here.
    """

    name: str
    encoders: tuple[str, ...] = ()
    width: int | None = None
    pipeline: str = "StableDiffusionPipeline"
    tag: str = "stable-diffusion"
    license: str | None = None
    architecture: str | None = None
    releases: Mapping[str, Release] = field(default_factory=dict)
    moved: Mapping[str, str] = field(default_factory=dict)
    recipe: Recipe | None = None

    @property
    def usual(self) -> str | None:
        """The repository of its usual model."""
        return next((release.repository for release in self.releases.values()), None)
