"""`Model`: a text-to-image model's text encoders, UNet, VAE and scheduler, and facts about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..errors import InvalidValue
from ..host import turns
from .tokens import ExtendedEmbedding as ExtendedEmbedding
from .tokens import extended as extended
from .tokens import plain

TINY = Path(__file__).parents[1] / "tiny"
Vectors = Mapping[str, torch.Tensor]
LARGEST = 4096  # px along a side


@dataclass(eq=False)
class TextEncoder:
    """One of a model's text encoders.

    Attributes:
        key: the name of its embeddings in shared files: "clip_l" (SD 1.x, SDXL), "clip_h" (SD 2.x), "clip_g" (SDXL).
        tokenizer, network: as transformers loads them.
        part: the end of their names in models of today's pipelines.
    """

    key: str
    tokenizer: Any
    network: Any
    part: str = ""

    @property
    def first(self) -> int:
        """The first id past the table: where a concept's vectors are put."""
        return int(self.network.get_input_embeddings().num_embeddings)

    @property
    def table(self) -> torch.Tensor:
        """The vocabulary's embedding table (tokens, width), float32."""
        weight: torch.Tensor = self.network.get_input_embeddings().weight
        return weight.detach()[: len(self.tokenizer)].float()

    @property
    def width(self) -> int:
        """Size of one embedding vector."""
        return int(self.network.get_input_embeddings().weight.shape[-1])

    @cached_property
    def spread(self) -> float:
        """Standard deviation of a coordinate over the vocabulary: the unit of learning rates (0.014 in SD 1.5)."""
        return float(self.table.std(0).mean())


@dataclass(eq=False)
class Model:
    """A frozen text-to-image model and its facts.

    Attributes:
        name: what it was loaded by ("tiny", a repository, a folder).
        encoders: its text encoders: one in SD 1.x and 2.x, two in SDXL.
        unet, vae: the loaded parts, in eval mode, without gradients.
        scheduler: the noise schedule it was trained with.
        zeroes_empty: whether its pipeline puts zeros where there is no negative prompt, as SDXL's does, or encodes "".
        clip_skip: how many of its text encoders' last layers are left out, counted as diffusers counts them.
        asked: width and height of its pictures in px, where others are asked for than it was made for.
    """

    name: str
    encoders: tuple[TextEncoder, ...]
    unet: Any
    vae: Any
    scheduler: Any
    zeroes_empty: bool = False
    clip_skip: int = 0
    asked: tuple[int, int] | None = None

    @property
    def shared_name(self) -> str:
        """The name to write into files that are shared: of a folder only the last part."""
        is_repository = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", self.name) is not None and not Path(self.name).exists()
        return self.name if is_repository else re.split(r"[\\/]", self.name.rstrip("\\/"))[-1]

    @property
    def tokenizer(self) -> Any:
        """The first text encoder's tokenizer."""
        return self.encoders[0].tokenizer

    @property
    def text_encoder(self) -> Any:
        """The first text encoder."""
        return self.encoders[0].network

    @property
    def is_xl(self) -> bool:
        """Whether the UNet also takes pooled text and sizes, as SDXL's does."""
        return bool(self.unet.config.addition_embed_type == "text_time")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its pictures in px."""
        return self.asked or (self._own_side * self.vae_factor,) * 2

    @property
    def resolution(self) -> int:
        """Side of its pictures in px, the shorter one."""
        return min(self.size)

    @property
    def _own_side(self) -> int:
        """Side of the latents that it was made for."""
        side = self.unet.config.sample_size
        return int(side[0] if isinstance(side, list | tuple) else side)

    @property
    def multiple(self) -> int:
        """Sides of its pictures are multiples of so many px."""
        return self.vae_factor

    def resize(self, resolution: int | tuple[int, int]) -> None:
        """Learn and draw pictures of `resolution` px: a side, or width and height.

        Raises:
            ValueError: not multiples of its latents' px, or more than 4096 px.
        """
        sides = (resolution, resolution) if isinstance(resolution, int) else tuple(resolution)
        if len(sides) != 2 or any(not 0 < side <= LARGEST or side % self.multiple for side in sides):
            near = max(self.multiple, round(min(LARGEST, max(1, *sides)) / self.multiple) * self.multiple)
            raise InvalidValue(
                f"resolution is {resolution}: give a side in px, or (width, height), in multiples of {self.multiple} up to "
                f"{LARGEST}, such as {near}"
            )
        self.asked = sides

    def leave_out(self, layers: int) -> None:
        """Take the text encoders' states `layers` layers before those that the model was trained with.

        Raises:
            ValueError: they have no so many layers.
        """
        fewest = min(int(encoder.network.config.num_hidden_layers) for encoder in self.encoders)
        if not 0 <= layers < fewest:
            raise InvalidValue(f"clip_skip is {layers}: its text encoders have {fewest} layers, give 0 to {fewest - 1}")
        self.clip_skip = layers

    @property
    def for_negatives(self) -> Model:
        """Itself, with all layers of its text encoders: diffusers leaves none out for negative prompts."""
        return replace(self, clip_skip=0) if self.clip_skip else self

    @property
    def used_as(self) -> dict[str, Any]:
        """How it is used otherwise than it was made for: facts of the words that are learned on it."""
        size = {"resolution": f"{self.asked[0]} x {self.asked[1]}"} if self.asked else {}
        return {**size, **({"clip_skip": self.clip_skip} if self.clip_skip else {})}

    @property
    def vae_factor(self) -> int:
        """Pixels to a latent, along a side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its latents."""
        width, height = self.size
        return int(self.vae.config.latent_channels), height // self.vae_factor, width // self.vae_factor

    def posterior(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the VAE's latents of a picture (1, 3, h, w)."""
        found = self.vae.encode(picture).latent_dist
        return found.mean, found.std

    def scaled(self, mean: torch.Tensor, std: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The VAE's latents as the UNet expects them."""
        scale = float(self.vae.config.scaling_factor)
        return mean * scale, std * scale

    @property
    def prediction_type(self) -> str:
        """ "epsilon" or "v_prediction"."""
        return str(self.scheduler.config.prediction_type)

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return self._first_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the frozen weights."""
        return self._first_weight.dtype

    @property
    def _first_weight(self) -> torch.Tensor:
        weights = self.unet.parameters()  # the UNet's own properties look through all its modules
        weight: torch.Tensor = next(weight for weight in weights if weight.is_floating_point())
        return weight

    @property
    def family_name(self) -> str:
        """The family whose models share its words, where that can't be seen from their vectors; else ""."""
        return ""

    @property
    def sampler(self) -> str:
        """The scheduler of `pipeline`, as other programs call it."""
        return "DDIM"

    def time_ids(self) -> torch.Tensor:
        """SDXL's sizes (1, 6): original height and width, crop's top and left, target height and width.

        The sizes pictures are drawn with by default, so that a word is learned as it is used.
        """
        import torch

        width, height = self.size
        return torch.tensor([[height, width, 0, 0, height, width]], device=self.device)

    def pipeline(self) -> Any:
        """The same parts as a diffusers pipeline, nothing copied: `StableDiffusionPipeline`, or SDXL's."""
        from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

        with turns.turn:
            self.vae.to(self.device)  # training moves it to the CPU
        parts = {"unet": self.unet, "vae": self.vae, "scheduler": DDIMScheduler.from_config(self.scheduler.config)}
        for encoder, suffix in zip(self.encoders, ("", "_2")):
            parts |= {f"text_encoder{suffix}": encoder.network, f"tokenizer{suffix}": encoder.tokenizer}
        if self.is_xl:
            pipeline = StableDiffusionXLPipeline(
                **parts, add_watermarker=False, force_zeros_for_empty_prompt=self.zeroes_empty
            )
        else:
            pipeline = StableDiffusionPipeline(
                **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
            )
        pipeline.set_progress_bar_config(disable=True)
        if max(self.size) > 128:
            self.vae.enable_slicing()  # pictures are decoded one by one: several at once can take more than the UNet
        return pipeline

    def fresh_pipeline(self) -> Any:
        """A pipeline whose tokenizers and text encoders are copies, so that loading words into it leaves the model alone."""
        from copy import deepcopy

        with turns.turn:  # not while a training step has replaced its embedding table
            copies = tuple(TextEncoder(e.key, deepcopy(e.tokenizer), deepcopy(plain(e.network))) for e in self.encoders)
        return replace(self, encoders=copies).pipeline()
