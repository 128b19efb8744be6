"""One picture: found in a folder or an upload, decoded whole, turned upright, put on a background, cropped."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Union

from PIL import Image, ImageOps, UnidentifiedImageError

from .shown import place, plain

Picture = Union[str, Path, bytes, Image.Image]
Crop = tuple[int, int, int]  # left, top, side

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
MASKS = "masks"  # folder beside pictures that holds their masks, PNG files of the same names


def find_pictures(source: Picture | Iterable[Picture]) -> tuple[list[tuple[str, Picture]], list[tuple[str, str]]]:
    """(name, picture) pairs in a fixed order, nothing opened; and (name, reason) of what a folder holds beside pictures."""
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"no such folder or picture: {place(path)}")
        if path.is_dir():
            return _find_in_folder(path)
        return [(plain(path.name), path)], []
    if isinstance(source, (bytes, Image.Image)):
        return [("picture 1", source)], []
    items: Sequence[Picture] = list(source)
    named = []
    for number, item in enumerate(items, 1):
        if not isinstance(item, (str, Path, bytes, Image.Image)):
            raise ValueError(f"picture {number} is a {type(item).__name__}: give a path, a PIL picture or bytes")
        named.append((plain(Path(item).name) if isinstance(item, (str, Path)) else f"picture {number}", item))
    return named, []


def _find_in_folder(folder: Path) -> tuple[list[tuple[str, Picture]], list[tuple[str, str]]]:
    found: list[tuple[str, Picture]] = []
    skipped = []
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        name = plain(path.name)
        if path.name.startswith("."):
            skipped.append((name, "hidden"))
        elif path.is_dir():
            skipped.append((name, "a folder"))
        elif path.suffix.lower() not in SUFFIXES:
            skipped.append((name, "not a picture"))
        else:
            found.append((name, path))
    return found, skipped


def open_upright(item: Picture, name: str) -> Image.Image:
    """Decode and turn upright."""
    return ImageOps.exif_transpose(decode(item, name))


def decode(item: Picture, name: str) -> Image.Image:
    """The picture as stored, its EXIF with it, decoded fully so that a truncated file is noticed here.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is no picture that can be read.
    """
    if isinstance(item, Image.Image):
        return item
    data = item if isinstance(item, bytes) else _read(Path(item).expanduser())
    if not data:
        raise ValueError(f"{name} is empty (0 bytes): remove it or copy it again")
    try:
        picture = Image.open(io.BytesIO(data))
        picture.seek(0)
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = "no known format" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{name} can't be read as a picture ({why}): remove it or export it again") from error
    return picture


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"no such picture: {place(path)}")
    return path.read_bytes()


def on_background(picture: Image.Image, background: str | tuple[int, int, int]) -> Image.Image:
    """Any mode as 8-bit RGB; 16-bit greys are scaled, not clipped; transparency goes on `background`."""
    if picture.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        import numpy as np

        values = np.asarray(picture, dtype=np.float64)
        top = 65535 if values.max() > 255 else 255
        picture = Image.fromarray((values.clip(0, top) * 255 / top).round().astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        under = Image.new("RGBA", picture.size, background)
        picture = Image.alpha_composite(under, picture)
    return picture.convert("RGB")


def square(picture: Image.Image, crop: Crop | None = None) -> Image.Image:
    """The square `crop` (left, top, side), or the largest around the middle."""
    short = min(picture.size)
    left, top, side = crop or ((picture.width - short) // 2, (picture.height - short) // 2, short)
    return picture.crop((left, top, left + side, top + side))


def caption_of(item: Picture) -> str:
    """What the text file beside a picture says, "" where there is none."""
    if not isinstance(item, (str, Path)):
        raise ValueError('captions="files" needs pictures given as files: pass the captions themselves')
    path = Path(item).expanduser().with_suffix(".txt")
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def mask_file(item: Picture) -> Path | None:
    """The file in the folder "masks" beside a picture that has its name, None where there is none."""
    if not isinstance(item, (str, Path)):
        raise ValueError('masks="files" needs pictures given as files: pass the masks themselves')
    path = Path(item).expanduser()
    path = path.parent / MASKS / f"{path.stem}.png"
    return path if path.is_file() else None
