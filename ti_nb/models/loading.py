"""`load_model` turns a name into a `Model`; what can't be trained is refused from a model's small files, before its large ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidValue
from ..host.arguments import validated
from ..host.devices import default_device, default_dtype
from ..host.plain_text import first_line, place
from .checks.names import find as _find
from .checks.quantised import quantisation
from .checks.single_file import load_file
from .checks.supported import check_pipeline, needed, noise_schedule, pool_at_the_end
from .families import KEY_OF_WIDTH, RECIPES, RELEASES, no_such_model
from .model import Model, TextEncoder
from .today.pipeline_model import of_pipeline

if TYPE_CHECKING:
    import torch

MAX_PATH_LENGTH = 1000


def load_model(
    name: str | Path = "tiny",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    resolution: int | tuple[int, int] | None = None,
    clip_skip: int = 0,
    config: str | Path | None = None,
    bits: int | None = None,
) -> Model:
    """Load a model by name.

    Args:
        name: "tiny" (comes with the package), "sd15", "sd21", "sd21-base", "sdxl", a diffusers folder, a repository id, or a
            `.safetensors` file of SD 1.x, 2.x or SDXL, as Civitai has them.
        device: where to put it; a GPU where there is one, else the CPU.
        dtype: precision of the frozen weights; by default what the device computes in natively (`default_dtype`).
        resolution: of the pictures to learn from and to draw, in px: a side, or (width, height); by default the model's own.
        clip_skip: how many of the text encoders' last layers to leave out, in training and drawing, as diffusers counts them:
            1 is what other programs call "Clip skip 2".
        config: for a file, a folder or repository with the small files of a model that is built alike; by default those of
            the family's usual model, which are fetched (a few MB) if they are not on this machine.
        bits: 8 or 4 to keep the weights of a model of today in so many bits (`ti.needs` says what fits); `pip install
            ti_nb[quant]`.

    Raises:
        ValueError: an unknown name, a folder or repository without a complete diffusers model, or a model that can't be
            trained; the message says what is missing or different.
        OSError: a repository that can't be downloaded.

    >>> model = load_model("tiny")
    >>> model.resolution, [encoder.key for encoder in model.encoders]
    (64, ['clip_l'])
    """
    device = _checked_device(device)
    _check_dtype(dtype)
    if (
        not isinstance(name, str | Path)
        or not str(name).strip()
        or "\0" in str(name)
        or len(str(name)) > MAX_PATH_LENGTH
    ):
        raise no_such_model(name)
    resolution, clip_skip = _checked_use(resolution, clip_skip)
    if config is not None and not isinstance(config, str | Path):
        raise InvalidValue(f"config is {config!r}: give a folder, or a repository id such as 'owner/name'")
    folder, kind, variant = _find(str(name))
    with _quietly():
        quantised = quantisation(bits, RECIPES.get(kind))
    import torch

    dtype = dtype or default_dtype(device)
    release = RELEASES.get(str(name))
    if variant is None and release and release.half and dtype != torch.float32:
        variant = "fp16"
    pipeline = _loaded(folder, kind, {**_options(kind, dtype), **quantised}, variant, config)
    check_pipeline(pipeline, str(name))  # before it is moved, which weights that are missing can't be
    return _of_checked(pipeline.to(device), str(name), {}, resolution, clip_skip)


def from_pipeline(
    pipeline: Any,
    *,
    name: str = "mine",
    arguments: Mapping[str, Any] | None = None,
    resolution: int | tuple[int, int] | None = None,
    clip_skip: int = 0,
) -> Model:
    """A `Model` of the parts of a loaded diffusers pipeline, which are frozen; nothing is copied.

    Args:
        arguments: what its call is told beside the prompt, such as `max_sequence_length`; not of SD 1.x, 2.x and SDXL.
        resolution, clip_skip: as `load_model` takes them.

    Raises:
        ValueError: a pipeline whose parts can't be trained; the message says what is missing or different.

    Examples:
        >>> import ti_nb as ti
        >>> pipeline = ti.load_model("tiny").pipeline()  # or any pipeline that you have loaded with diffusers
        >>> ti.from_pipeline(pipeline, name="tiny").resolution
        64
    """
    resolution, clip_skip = _checked_use(resolution, clip_skip)
    _unwrap(pipeline)
    check_pipeline(pipeline, name)
    return _of_checked(pipeline, name, arguments or {}, resolution, clip_skip)


def _checked_use(resolution: Any, clip_skip: Any) -> tuple[int | tuple[int, int] | None, int]:
    resolution = tuple(resolution) if isinstance(resolution, list) else resolution
    sides = validated("resolution", resolution, int | tuple[int, int] | None)
    return sides, validated("clip_skip", clip_skip or 0, int)


def _of_checked(
    pipeline: Any, name: str, arguments: Mapping[str, Any], resolution: int | tuple[int, int] | None, clip_skip: int
) -> Model:
    if arguments and type(pipeline).__name__ not in RECIPES:
        raise InvalidValue(
            f"arguments are {list(arguments)}: a {type(pipeline).__name__} is not driven by its own call"
        )
    model = of_pipeline(pipeline, name, arguments) if type(pipeline).__name__ in RECIPES else _of_parts(pipeline, name)
    model.leave_out(clip_skip)
    if resolution is not None:
        model.resize(resolution)
    return model


def _of_parts(pipeline: Any, name: str) -> Model:
    """The model of a pipeline of SD 1.x, 2.x or SDXL that has been checked."""
    encoders = [_clip_encoder(pipeline.tokenizer, pipeline.text_encoder, "clip_l")]
    if getattr(pipeline, "text_encoder_2", None) is not None:
        encoders.append(_clip_encoder(pipeline.tokenizer_2, pipeline.text_encoder_2, "clip_g"))
    for part in (*(e.network for e in encoders), pipeline.unet, pipeline.vae):
        part.requires_grad_(False).eval()
    for encoder in encoders:
        pool_at_the_end(encoder.network, encoder.tokenizer)
    zeroes = bool(getattr(pipeline.config, "force_zeros_for_empty_prompt", False))
    model = Model(name, tuple(encoders), pipeline.unet, pipeline.vae, noise_schedule(pipeline.scheduler), zeroes)
    _suit_cpu(model)
    return model


def _clip_encoder(tokenizer: Any, network: Any, usual: str) -> TextEncoder:
    """A CLIP encoder, by the key of its width."""
    return TextEncoder(KEY_OF_WIDTH.get(network.config.hidden_size, usual), tokenizer, network)


def _suit_cpu(model: Model) -> None:
    """On a CPU, measured on `tiny`: channels last train a sixth faster; plain attention a quarter, for the backward of
    torch's fused one is slow there (with small latents, where memory does not matter)."""
    import torch
    from diffusers.models.attention_processor import AttnProcessor

    if model.device.type != "cpu":
        return
    model.unet.to(memory_format=torch.channels_last)
    if max(model.latent_shape[1:]) <= 32:
        model.unet.set_attn_processor(AttnProcessor())
        for encoder in model.encoders:
            encoder.network.set_attn_implementation("eager")


def _unwrap(pipeline: Any) -> None:
    """Take parts out of what `torch.compile` and data parallelism wrap them in: training drives the plain ones."""
    from accelerate.utils import extract_model_from_parallel

    for part in needed(type(pipeline).__name__):
        network = getattr(pipeline, part, None)
        plain = getattr(network, "_orig_mod", network)
        plain = extract_model_from_parallel(plain) if hasattr(plain, "parameters") else plain
        if plain is not network:
            setattr(pipeline, part, plain)


def _checked_device(device: Any) -> str:
    """The device's name, if it is there."""
    import torch

    if device is None:
        return default_device()
    try:
        torch.zeros(1, device=torch.device(device)).cpu()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise InvalidValue(
            f"device is {device!r}, which can't be used here ({first_line(error)}): give 'cpu', or 'cuda' where there is a GPU"
        ) from error
    return str(device)


def _check_dtype(dtype: Any) -> None:
    import torch

    if dtype not in (None, torch.float32, torch.float16, torch.bfloat16):
        raise InvalidValue(f"dtype is {dtype!r}: give torch.float32, torch.float16 or torch.bfloat16")


def _loaded(folder: str, kind: str, options: dict[str, Any], variant: str | None, config: str | Path | None) -> Any:
    """diffusers' pipeline of the folder, repository or file."""
    from safetensors import SafetensorError

    if Path(folder).is_file():
        with _quietly():
            return load_file(Path(folder), config, options)
    if variant is not None:
        options["variant"] = variant
    try:
        with _quietly() as diffusers:
            pipeline = getattr(diffusers, kind).from_pretrained(folder, use_safetensors=True, **options)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RuntimeError,
        ImportError,
        SafetensorError,
    ) as error:
        if isinstance(error, OSError) and not Path(folder).is_dir():
            raise
        raise InvalidValue(
            f"{place(folder)} can't be loaded as a {kind}, it seems damaged: {first_line(error)}"
        ) from error
    if Path(folder).is_dir() and kind not in RECIPES:  # others tie weights, and name them in several ways
        _check_text_encoders(pipeline, Path(folder))
    return pipeline


def _options(kind: str, dtype: torch.dtype) -> dict[str, Any]:
    """What diffusers is told of how to load a pipeline."""
    from packaging.version import Version

    unused = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    precision = "dtype" if Version(version("diffusers")) >= Version("0.42.1") else "torch_dtype"
    return {precision: dtype, **({} if "XL" in kind or kind in RECIPES else unused)}


@contextmanager
def _quietly() -> Iterator[Any]:
    """diffusers, without transformers' warnings on image processors, which we don't use, when torchvision is missing, and
    without its own that a later version will not have quanto."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        import diffusers

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*Quanto", category=FutureWarning)
            yield diffusers
    finally:
        logging.set_verbosity(before)


def _check_text_encoders(pipeline: Any, folder: Path) -> None:
    """Refuse a text encoder whose file lacks some weights: transformers would initialise them at random."""
    from safetensors import safe_open

    for part in needed(type(pipeline).__name__):
        network = getattr(pipeline, part, None)
        if not part.startswith("text_encoder") or network is None:
            continue
        stored: set[str] = set()
        for path in (folder / part).glob("*.safetensors"):
            with safe_open(str(path), framework="pt") as file:
                stored |= {key.removeprefix("text_model.") for key in file.keys()}  # noqa: SIM118
        missing = {key.removeprefix("text_model.") for key, _ in network.named_parameters()} - stored
        if missing:
            raise InvalidValue(
                f"{place(folder)} is damaged: its {part} lacks {len(missing)} of its weights, such as {min(missing)}: fetch it again"
            )
