"""AUTOMATIC1111's embedding cards: a PNG of the word that contains its vectors.

The vectors are stored twice, as that program does: in a text chunk, and in pixels at both sides of the picture, which survive
when a website strips the text. Written from the format, not from its code.
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import InvalidValue, NotAConcept

if TYPE_CHECKING:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

TEXT_KEY = "sd-ti-embedding"
MAX_PIXELS = 1 << 22  # of a card to read: 2048 x 2048
MAX_FILE_BYTES = 1 << 24  # of its file
MAX_JSON_BYTES = 3 << 20  # of the vectors as text: 180 vectors of SD 1.x, 65 of SDXL
MAX_OBJECTS, MAX_LISTS = 64, 1024  # in that text
SIDE = 512  # px, width of the picture in the middle


class Card(dict[str, Any]):
    """A card's data. Its "name" field is the word; in other formats the file's name is."""


class LoadedTensor:
    """A `LazyTensor` already in memory."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values, self.shape = values, tuple(values.shape)

    def read(self) -> torch.Tensor:
        """Its values, float32."""
        return self.values.float()


def draw(data: dict[str, Any], picture: Image.Image, title: str, below: str) -> tuple[Image.Image, PngInfo]:
    """The card and its text chunks: `picture` with `title` above and `below` under it, the vectors of `data` at both sides."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    encoded = json.dumps(data, default=lambda tensor: {"TORCHTENSOR": tensor.tolist()})
    if len(encoded) > MAX_JSON_BYTES:
        raise InvalidValue("the word has too many vectors for a card: write a .safetensors file")
    text = PngInfo()
    text.add_text(TEXT_KEY, base64.b64encode(encoded.encode()).decode())
    middle = _captioned(picture, title, below)
    low, high = _blocks(zlib.compress(encoded.encode(), 9), middle.height, _shades(data))
    card = Image.new("RGB", (low.width + 1 + middle.width + 1 + high.width, middle.height))
    card.paste(low, (0, 0))
    card.paste(middle, (low.width + 1, 0))
    card.paste(high, (low.width + 1 + middle.width + 1, 0))
    return card, text


def read(path: Path) -> Any:
    """A card's data, its tensors as `LoadedTensor`: from its text chunk if there is one, else from its pixels.

    Raises:
        NotAConcept: it has no vectors, is damaged, or is too large.
    """
    from PIL import Image

    if path.stat().st_size > MAX_FILE_BYTES:
        raise NotAConcept("it is a picture too large for a card")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise NotAConcept(f"it is a picture of {image.width} x {image.height} px, too large for a card")
            image.load()
            text = image.info.get(TEXT_KEY)
            data = base64.b64decode(text) if isinstance(text, str) else _from_pixels(np.asarray(image.convert("RGB")))
        if len(data) > MAX_JSON_BYTES:
            raise NotAConcept("its text is too long for a word's vectors")
        parsed = _parsed(data)
        if isinstance(parsed, Card) and isinstance(image.info.get("ti_nb"), str):
            parsed.setdefault("ti_nb", image.info["ti_nb"])
        return parsed
    except NotAConcept:
        raise
    except Exception as error:  # damaged data can raise anything
        raise NotAConcept(f"it is a damaged picture ({type(error).__name__})") from None


def pixels(path: Path) -> Any:
    """Like `read`, from the pixels only."""
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as image:
        return _parsed(_from_pixels(np.asarray(image.convert("RGB"))))


def _parsed(data: bytes) -> Any:
    if (
        data.count(b"{") > MAX_OBJECTS or data.count(b"[") > MAX_LISTS
    ):  # a parsed one takes twenty times its brackets' memory
        raise NotAConcept("its text holds more lists than a word's vectors are")
    parsed = json.loads(data, object_hook=_tensors)
    return Card(parsed) if isinstance(parsed, dict) else parsed


def _tensors(item: dict[str, Any]) -> Any:
    if "TORCHTENSOR" not in item:
        return item
    values = np.asarray(item["TORCHTENSOR"], dtype=np.float64)
    return LoadedTensor(torch.from_numpy(values.astype(np.float32)))


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    """The mask over the data: low four bits, modulo 255, of a linear congruential generator (2^32, 1664525, 1013904223)."""
    count = int(np.prod(shape))
    out, seed = np.empty(count, np.uint8), 0
    for i in range(count):
        seed = (1664525 * seed + 1013904223) % 2**32
        out[i] = seed % 255
    return out.reshape(shape) & 0x0F


def _from_pixels(rgb: np.ndarray) -> bytes:
    """The data from the pixels: two blocks with four bits each, separated from the picture by columns with low bits 0."""
    lit = np.asarray((rgb > 0).all(axis=2))
    if not lit.any():
        raise NotAConcept("it is a picture without a word's vectors")
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    low_bits = rgb[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] & 0x0F
    dark = np.flatnonzero(low_bits.sum(axis=(0, 2), dtype=np.int64) == 0)
    if len(dark) < 2:
        raise NotAConcept("it is a picture without a word's vectors")
    low, high = low_bits[:, : dark[0]], low_bits[:, dark[-1] + 1 :]
    if low.shape != high.shape or not low.size or low.size > 1 << 22:
        raise NotAConcept("it is a picture without a word's vectors")
    noise = _noise(low.shape)
    packed = ((high ^ noise) << 4 | (low ^ noise)).astype(np.uint8).tobytes()
    try:
        return zlib.decompressobj().decompress(packed, MAX_JSON_BYTES + 1)
    except zlib.error as error:
        raise NotAConcept("it is a picture without a word's vectors") from error


def _blocks(packed: bytes, height: int, shades: np.ndarray) -> tuple[Image.Image, Image.Image]:
    """The data as two blocks of that height, in the low bits; the high bits draw dots shaded by the word's own vector."""
    from PIL import Image

    columns = -(-len(packed) // (height * 3))
    padded = np.resize(np.frombuffer(packed, np.uint8), height * columns * 3).reshape(height, columns, 3)
    noise = _noise(padded.shape)
    blocks = []
    for half, colours in ((padded & 0x0F, shades), (padded >> 4, shades[::-1])):
        blocks.append(Image.fromarray((half ^ noise) | (_dots(columns, height, colours) & 0xF0)))
    return blocks[0], blocks[1]


def _dots(width: int, height: int, shades: np.ndarray) -> np.ndarray:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, height), (16, 16, 16))  # not 0: all-dark columns separate the blocks
    brush = ImageDraw.Draw(image)
    places = [(x, y) for x in range(-6, width, 8) for y in range(-6, height, 8)]
    for i, (x, y) in enumerate(places):
        left = x + (4 if (y + 6) // 8 % 2 == 0 else 0)
        shade = max(16, int(shades[i % len(shades)]))
        brush.ellipse((left, y, left + 6, y + 6), fill=(shade, shade, shade))
    return np.asarray(image)


def _shades(data: dict[str, Any]) -> np.ndarray:
    params = data.get("string_to_param", data)
    first = next(value for value in params.values() if isinstance(value, torch.Tensor))[0].abs()
    return (first / first.max().clamp_min(1e-12) * 255).numpy().astype(np.uint8)


def _captioned(picture: Image.Image, title: str, below: str) -> Image.Image:
    """The picture, `SIDE` px wide, with text on dark bands at the top and the bottom."""
    from PIL import Image, ImageDraw, ImageFont

    out = picture.convert("RGB").resize((SIDE, round(SIDE * picture.height / picture.width)), Image.Resampling.LANCZOS)
    shade = Image.new("L", (1, out.height), 0)
    for y in range(out.height):
        edge = min(y, out.height - 1 - y) / (0.18 * out.height)
        shade.putpixel((0, y), int(200 * max(0.0, 1 - edge)))
    out.paste((0, 0, 0), (0, 0), shade.resize(out.size))
    brush, margin = ImageDraw.Draw(out), 14
    for text, at, anchor, size in (
        (title, (margin, margin), "lt", 40),
        (below, (margin, out.height - margin), "ls", 22),
    ):
        while size > 8 and brush.textlength(text, font=ImageFont.load_default(size)) > SIDE - 2 * margin:
            size -= 1
        brush.text(at, text, anchor=anchor, font=ImageFont.load_default(size), fill=(255, 255, 255))
    return out
