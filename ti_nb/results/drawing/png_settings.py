"""How a picture was drawn, written into its PNG file and read again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InvalidValue, NoSuchFile, NotWritten
from ...host.arguments import checked
from ...host.atomic import replacing
from ...host.plain_text import place

if TYPE_CHECKING:
    from PIL import Image


def write_settings(image: Image.Image, settings: dict[str, Any], path: Path) -> None:
    """A PNG with the settings as text, for `read_settings` and, under "parameters", for other programs.

    Raises:
        OSError: the file can't be written, or does not read back as it was written.
    """
    from PIL.PngImagePlugin import PngInfo

    metadata = PngInfo()
    metadata.add_text("parameters", as_parameters(settings))
    metadata.add_text("ti_nb", json.dumps(settings))
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=metadata)
        if read_settings(temporary) != settings:
            raise NotWritten(f"{place(path)} did not read back as it was written: is the disk full?")


@checked()
def read_settings(path: str | Path) -> dict[str, Any]:
    """How a picture was drawn, from a PNG that `Sample.save` wrote: see `Sample.settings`.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is not a PNG, or has none of this package's metadata.

    Examples:
        >>> import ti_nb as ti
        >>> drawn = [ti.Sample(ti.example_images("penguin")[0], "a penguin", seed=3)]
        >>> ti.read_settings(ti.save_samples(drawn, "drawn")[0])["seed"]
        3
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path).expanduser()
    if not path.is_file():
        raise NoSuchFile(f"no such file: {place(path)}")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()  # text may follow the pixels
            text = image.info.get("ti_nb")
    except UnidentifiedImageError as error:
        raise InvalidValue(f"{place(path)} is not a PNG file") from error
    if text is None:
        raise InvalidValue(f"{place(path)} does not say how it was drawn: only PNG files written by `Sample.save` do")
    settings: dict[str, Any] = json.loads(text)
    return settings


def as_parameters(settings: dict[str, Any]) -> str:
    """Settings in AUTOMATIC1111's "parameters" format, which many programs and sites read."""
    facts = {
        "Steps": settings["steps"],
        "Sampler": settings["sampler"],
        "CFG scale": None if settings["guidance"] is None else f"{settings['guidance']:g}",
        "Seed": settings["seed"],
        "Size": f"{settings['width']}x{settings['height']}",
        "Model": settings["model"] or None,
        "TI hashes": ", ".join(f"{word}: {facts['sha256'][:12]}" for word, facts in settings["words"].items()) or None,
    }
    line = ", ".join(f"{name}: {_quoted(str(value))}" for name, value in facts.items() if value is not None)
    negative = [f"Negative prompt: {settings['negative']}"] if settings["negative"] else []
    return "\n".join([settings["prompt"], *negative, line])


def _quoted(value: str) -> str:
    """`value`, quoted if it has a comma, colon or line break, which separate the fields."""
    return json.dumps(value) if re.search(r"[,:\n]", value) else value
