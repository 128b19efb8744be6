"""Models of one `.safetensors` file, as Civitai has them: which family a file is of, and its parts by diffusers' own conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import InvalidValue, NotWritten
from ...host.plain_text import first_line, place
from ..families import family
from ..today.recipe import Family
from ..today.recorder import quietly
from .supported import CHANNELS

# A key's beginning, in the original programs' names, and the family whose files have it.
BEGINNINGS = {
    "conditioner.embedders.1.": "SDXL",
    "cond_stage_model.transformer.": "SD 1.x",
    "cond_stage_model.model.": "SD 2.x",
}
FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"


def family_of_file(path: Path) -> tuple[Family, set[str]]:
    """The family of the model in a file, and the names of its tensors; only the file's header is read.

    Raises:
        ValueError: not a safetensors file, or one without a whole model of SD 1.x, 2.x or SDXL.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            keys = set(file.keys())
            channels = file.get_slice(FIRST_LAYER).get_shape()[1] if FIRST_LAYER in keys else None
    except (SafetensorError, OSError) as error:
        raise InvalidValue(f"{place(path)} is damaged ({first_line(error)}): fetch it again") from error
    if channels in CHANNELS:
        raise InvalidValue(f"{place(path)} can't be trained: its UNet takes {channels} channels, {CHANNELS[channels]}")
    found = [name for start, name in BEGINNINGS.items() if any(key.startswith(start) for key in keys)]
    if channels is None or not found:
        raise InvalidValue(
            f"{place(path)} has no {'UNet' if channels is None else 'text encoder'} of SD 1.x, 2.x or SDXL. A word is loaded by "
            "ti.load; the network of another family by its class in diffusers, FluxTransformer2DModel.from_single_file and so "
            "on: give it to the family's pipeline, and that to ti.from_pipeline"
        )
    return family(found[0]), keys


def load_file(path: Path, config: str | Path | None, options: dict[str, Any]) -> Any:
    """diffusers' pipeline of the model in a file.

    Args:
        config: a folder or repository with the small files of a model that is built alike; by default the family's usual
            one, from the Hub's cache on this machine, or fetched (a few MB).
        options: of diffusers' `from_single_file`.

    Raises:
        ValueError: a file that can't be loaded. OSError: the small files are not here and can't be fetched.
    """
    import diffusers

    found, keys = family_of_file(path)
    config = str(config or found.usual)
    try:
        with quietly():
            pipeline = getattr(diffusers, found.pipeline).from_single_file(str(path), config=config, **options)
    except OSError as error:
        raise NotWritten(
            f"{place(path)} is a {found.name}, whose small files ({config}) are not on this machine and can't be fetched: "
            f"connect once, or give config='a folder' that has them ({first_line(error)})"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError) as error:
        raise InvalidValue(
            f"{place(path)} can't be loaded as a {found.name} built as {config}: {first_line(error)}"
        ) from error
    if "v_pred" in keys:  # an empty tensor by which those say so that predict the velocity
        how = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": "ztsnr" in keys}
        pipeline.scheduler = type(pipeline.scheduler).from_config({**pipeline.scheduler.config, **how})
    return pipeline
