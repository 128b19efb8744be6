"""`Model`: a text-to-image model's text encoders, UNet, VAE and scheduler, and facts about them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..host import turns
from .checks.supported import noise_schedule
from .families import KEY_OF_WIDTH

if TYPE_CHECKING:
    import torch

TINY = Path(__file__).parents[1] / "tiny"
Vectors = Mapping[str, torch.Tensor]


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


class ExtendedEmbedding(torch.nn.Module):
    """A frozen embedding table and a few rows of its own: id `first + i` gives `rows[i]`.

    A concept's vectors so stand in for rows of the table while a prompt is encoded. Nothing is resized and no weight is
    written. The same way serves any encoder that looks its ids up in a table, T5 and LLMs as well as CLIP.

    Args:
        first: the id of the first row; by default the first past the table. Tables may be longer than tokenizers, whose
            next id is then within the table.
    """

    def __init__(self, table: torch.nn.Embedding, rows: torch.Tensor, first: int | None = None) -> None:
        super().__init__()
        self.table = table
        self.rows = rows
        self.num_embeddings = table.num_embeddings
        self.first = table.num_embeddings if first is None else first

    @property
    def weight(self) -> torch.Tensor:
        """The frozen table; transformers looks here for the dtype."""
        return self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(..., ) ids -> (..., width) vectors in the table's dtype."""
        known = self.table(ids.clamp(max=self.first - 1))
        own = self.rows[(ids - self.first).clamp(min=0)].to(known)
        scale = getattr(self.table, "embed_scale", None)  # Gemma's tables multiply what they give by it
        own = own if scale is None else own * torch.as_tensor(scale).to(own)
        return torch.where((ids >= self.first).unsqueeze(-1), own, known)


@contextmanager
def extended(text_encoder: Any, rows: torch.Tensor, first: int | None = None) -> Iterator[int]:
    """Within the block, ids from the yielded number on mean `rows` (n, width); they may require gradients."""
    table = plain(text_encoder).get_input_embeddings()
    inner = ExtendedEmbedding(table, rows, first)
    text_encoder.set_input_embeddings(inner)
    try:
        yield inner.first
    finally:
        text_encoder.set_input_embeddings(table)


def plain(text_encoder: Any) -> Any:
    """The encoder with its own table, whatever an interrupt may have left in it."""
    table = text_encoder.get_input_embeddings()
    if type(table) is ExtendedEmbedding:  # words that were loaded into a pipeline stay
        text_encoder.set_input_embeddings(table.table)
    return text_encoder


@dataclass(eq=False)
class Model:
    """A frozen text-to-image model and its facts.

    Attributes:
        name: what it was loaded by ("tiny", a repository, a folder).
        encoders: its text encoders: one in SD 1.x and 2.x, two in SDXL.
        unet, vae: the loaded parts, in eval mode, without gradients.
        scheduler: the noise schedule it was trained with.
        zeroes_empty: whether its pipeline puts zeros where there is no negative prompt, as SDXL's does, or encodes "".
    """

    name: str
    encoders: tuple[TextEncoder, ...]
    unet: Any
    vae: Any
    scheduler: Any
    zeroes_empty: bool = False

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
    def resolution(self) -> int:
        """Side of its pictures in px."""
        return self.latent_side * self.vae_factor

    @property
    def latent_side(self) -> int:
        """Side of its latents."""
        side = self.unet.config.sample_size
        return int(side[0] if isinstance(side, list | tuple) else side)

    @property
    def vae_factor(self) -> int:
        """Pixels to a latent, along a side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its latents."""
        side = self.resolution // self.vae_factor
        return int(self.vae.config.latent_channels), side, side

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
        weight: torch.Tensor = next(self.unet.parameters())  # the UNet's own properties look through all its modules
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

        side = self.resolution
        return torch.tensor([[side, side, 0, 0, side, side]], device=self.device)

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
        if self.resolution > 128:
            self.vae.enable_slicing()  # pictures are decoded one by one: several at once can take more than the UNet
        return pipeline

    def fresh_pipeline(self) -> Any:
        """A pipeline whose tokenizers and text encoders are copies, so that loading words into it leaves the model alone."""
        from copy import deepcopy

        with turns.turn:  # not while a training step has replaced its embedding table
            copies = tuple(TextEncoder(e.key, deepcopy(e.tokenizer), deepcopy(plain(e.network))) for e in self.encoders)
        return replace(self, encoders=copies).pipeline()


def of_parts(pipeline: Any, name: str) -> Model:
    """The model of a pipeline of SD 1.x, 2.x or SDXL that has been checked."""
    encoders = [_encoder(pipeline.tokenizer, pipeline.text_encoder, "clip_l")]
    if getattr(pipeline, "text_encoder_2", None) is not None:
        encoders.append(_encoder(pipeline.tokenizer_2, pipeline.text_encoder_2, "clip_g"))
    for part in (*(e.network for e in encoders), pipeline.unet, pipeline.vae):
        part.requires_grad_(False).eval()
    for encoder in encoders:
        pool_at_the_end(encoder)
    zeroes = bool(getattr(pipeline.config, "force_zeros_for_empty_prompt", False))
    model = Model(name, tuple(encoders), pipeline.unet, pipeline.vae, noise_schedule(pipeline.scheduler), zeroes)
    _suit_cpu(model)
    return model


def _encoder(tokenizer: Any, network: Any, usual: str) -> TextEncoder:
    return TextEncoder(KEY_OF_WIDTH.get(network.config.hidden_size, usual), tokenizer, network)


def pool_at_the_end(encoder: TextEncoder) -> None:
    """Take pooled text from the end token, as the encoders were trained, not from the highest id.

    Published configurations name a wrong end token (2); transformers then pools at the highest id, which a new word's
    is (transformers #21029, #24650; diffusers #10754). With known words both rules pool at the same place.
    """
    for module in encoder.network.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = encoder.tokenizer.eos_token_id


def _suit_cpu(model: Model) -> None:
    """On a CPU, measured on `tiny`: channels last train a sixth faster; plain attention a quarter, for the backward of
    torch's fused one is slow there (with small latents, where memory does not matter)."""
    import torch
    from diffusers.models.attention_processor import AttnProcessor

    if model.device.type != "cpu":
        return
    model.unet.to(memory_format=torch.channels_last)
    if model.latent_side <= 32:
        model.unet.set_attn_processor(AttnProcessor())
        for encoder in model.encoders:
            encoder.network.set_attn_implementation("eager")
