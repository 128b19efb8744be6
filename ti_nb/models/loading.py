"""`load_model` turns a name into a `Model`; what can't be trained is refused from a model's small files, before its large ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidValue, NotWritten
from ..host.devices import default_device, default_dtype
from ..host.plain_text import first_line, place
from .checks.model_files import check_whole, read_index, variant_of
from .checks.supported import check_pipeline, needed
from .families import RECIPES, RELEASES, SUPPORTED
from .model import TINY, Model, of_parts
from .today.pipeline_model import of_pipeline

if TYPE_CHECKING:
    import torch

CHECKPOINTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx", ".sft")
MAX_PATH_LENGTH = 1000


def load_model(
    name: str | Path = "tiny", *, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> Model:
    """Load a model by name.

    Args:
        name: "tiny" (comes with the package), "sd15", "sd21", "sd21-base", "sdxl", a diffusers folder, or a repository id.
        device: where to put it; a GPU where there is one, else the CPU.
        dtype: precision of the frozen weights; by default what the device computes in natively (`default_dtype`).

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
        raise InvalidValue(f"no model {name!r}: give {_choices()}")
    folder, kind, variant = _find(str(name))
    import torch

    dtype = dtype or default_dtype(device)
    release = RELEASES.get(str(name))
    if variant is None and release and release.half and dtype != torch.float32:
        variant = "fp16"
    pipeline = _loaded(folder, kind, dtype, variant)
    check_pipeline(pipeline, str(name))  # before it is moved, which weights that are missing can't be
    return _of_checked(pipeline.to(device), str(name))


def from_pipeline(pipeline: Any, *, name: str = "mine", arguments: Mapping[str, Any] | None = None) -> Model:
    """A `Model` of the parts of a loaded diffusers pipeline, which are frozen; nothing is copied.

    Args:
        arguments: what its call is told beside the prompt, such as `max_sequence_length`; not of SD 1.x, 2.x and SDXL.

    Raises:
        ValueError: a pipeline whose parts can't be trained; the message says what is missing or different.

    Examples:
        >>> import ti_nb as ti
        >>> pipeline = ti.load_model("tiny").pipeline()  # or any pipeline that you have loaded with diffusers
        >>> ti.from_pipeline(pipeline, name="tiny").resolution
        64
    """
    _unwrap(pipeline)
    check_pipeline(pipeline, name)
    return _of_checked(pipeline, name, arguments)


def _of_checked(pipeline: Any, name: str, arguments: Mapping[str, Any] | None = None) -> Model:
    if type(pipeline).__name__ in RECIPES:
        return of_pipeline(pipeline, name, arguments or {})
    if arguments:
        raise InvalidValue(
            f"arguments are {list(arguments)}: a {type(pipeline).__name__} is not driven by its own call"
        )
    return of_parts(pipeline, name)


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


def _loaded(folder: str, kind: str, dtype: torch.dtype, variant: str | None) -> Any:
    """diffusers' pipeline of the folder or repository."""
    from packaging.version import Version
    from safetensors import SafetensorError

    unused = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    options: dict[str, Any] = {} if "XL" in kind or kind in RECIPES else unused
    options["dtype" if Version(version("diffusers")) >= Version("0.42.1") else "torch_dtype"] = dtype
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


@contextmanager
def _quietly() -> Iterator[Any]:
    """diffusers, without transformers' warnings on image processors, which we don't use, when torchvision is missing."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        import diffusers

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


def _find(name: str) -> tuple[str, str, str | None]:
    """The folder or repository id that `name` stands for, its pipeline's class, and which variant of its files to load."""
    if name == "tiny":
        return str(TINY), SUPPORTED[0], None
    if name in RELEASES:
        return _checked_repository(RELEASES[name].repository)
    path = Path(name).expanduser() if not name.startswith("~") or name[1:2] in ("", "/", "\\") else Path(name)
    if path.is_file() or (path.suffix.lower() in CHECKPOINTS and not path.is_dir()):
        raise InvalidValue(_file_advice(path))
    if path.exists() or name.startswith((".", "/", "~")) or re.match(r"[A-Za-z]:[\\/]", name):
        return _checked_folder(path)
    if name.count("/") != 1:
        raise InvalidValue(f"no model {name!r}: give {_choices()}")
    return _checked_repository(name)


def _choices() -> str:
    return f"{', '.join(('tiny', *RELEASES))}, a folder, or a repository id such as 'owner/name'"


def _file_advice(path: Path) -> str:
    """What to do instead, for a name that is a file."""
    if path.name == "model_index.json":
        return f"{place(path)} is a file within a model's folder: give the folder, {place(path.parent)}"
    there = f"{place(path)} is one file" if path.is_file() else f"no such file: {place(path)}"
    if path.suffix.lower() not in (".safetensors", ".sft"):
        return (
            f"{there}; load_model takes a folder that save_pretrained wrote, or a repository id (.ckpt, .pt and .bin are "
            "pickles, which can run anything: convert them to .safetensors)"
        )
    return (
        f"{there}, and load_model takes a folder: load a checkpoint by ti.from_pipeline(diffusers.StableDiffusionPipeline."
        f"from_single_file({str(path)!r})), of SDXL by StableDiffusionXLPipeline, and a word by ti.load"
    )


def _checked_folder(path: Path) -> tuple[str, str, str | None]:
    """The folder, once its files show a complete model that can be trained."""
    index = path / "model_index.json"
    if not index.is_file():
        raise InvalidValue(
            f"{place(path)} is not a diffusers model: it has no model_index.json; give the folder save_pretrained wrote"
        )
    kind, parts = read_index(index, str(path))
    files = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    variant = variant_of(files, parts, str(path))
    for part in parts:
        for file in sorted((path / part).glob("*")):
            check_whole(file)
    return str(path), kind, variant


def _checked_repository(name: str) -> tuple[str, str, str | None]:
    """`name`, once its index (a kilobyte) and its list of files show that it can be trained: before gigabytes are downloaded."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        index = Path(hf_hub_download(name, "model_index.json"))
    except LocalEntryNotFoundError:  # no answer, and not in the cache
        raise
    except EntryNotFoundError as error:
        raise InvalidValue(
            f"{place(name)} is not a diffusers model: it has no model_index.json (a word is loaded by ti.fetch, a checkpoint of one "
            "file by diffusers' from_single_file and ti.from_pipeline)"
        ) from error
    except RepositoryNotFoundError as error:
        raise NotWritten(
            f"there is no folder {place(name)} here, and no repository of that name on the Hub (or it is private: log in)"
        ) from error
    kind, parts = read_index(index, name)
    files = _files_of(name)
    return name, kind, variant_of(files, parts, name) if files else None


def _files_of(name: str) -> list[str]:
    """The repository's files; none if the Hub does not say."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return list(HfApi().list_repo_files(name))
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError):
        return []
