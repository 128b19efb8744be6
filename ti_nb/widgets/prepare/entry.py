"""`Entry`: one picture in `PreparePanel` with its crop, mask and caption; and functions to show it."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import ipywidgets as widgets
from PIL import Image, ImageOps

from ...errors import InvalidValue
from ...host.plain_text import in_page
from ...pictures import faults as findings
from ...pictures import subject
from ...pictures.folders import read_caption
from ...pictures.masks import guess_with_doubt
from ...pictures.picture import Photo, read_mask, read_photo
from .. import parts

if TYPE_CHECKING:
    from ...pictures.picture import Crop, Picture
    from ...training.batches import Drawn

MASKS = (
    ("off", "off"),
    ("guessed (photographs)", "guessed"),
    ("by threshold (plain background)", "threshold"),
    ("from transparency", "alpha"),
    ("painted only", "painted"),
)
LARGE, SMALL = 340, 96  # px: the picture in the editor, a training sample


@dataclass(frozen=True)
class Copies:
    """Reduced copies of a picture for the screen; the full picture is read again from its source when needed.

    Attributes:
        size: of the full picture, upright, in px. small: in RGB. opacity: its alpha channel, None if fully opaque.
    """

    size: tuple[int, int]
    small: Image.Image
    opacity: Image.Image | None

    @classmethod
    def of(cls, photo: Photo) -> Copies:
        """Copies of a picture that was read in full."""
        opacity = reduced(photo.opacity) if photo.opacity else None
        return cls(photo.picture.size, subject.shrunk(photo.picture, subject.SEARCH_SIDE), opacity)


class Stroke(NamedTuple):
    """A stroke of the brush, in the units of `subject.paint`; `white` adds to the mask, else it erases."""

    points: tuple[tuple[float, float], ...]
    radius: float
    white: bool


@dataclass
class Entry:
    """One picture and its settings.

    Attributes:
        source: a path, a file's bytes or a PIL picture. crop: None for the middle.
        mask: one of `MASKS`' values. strokes: of the brush, in order.
        base: the mask loaded with the picture, on which "painted" starts.
    """

    name: str
    source: Picture = field(repr=False)
    faults: list[findings.Finding] = field(default_factory=list)
    use: bool = True
    crop: Crop | None = None
    mask: str = "off"
    tolerance: int = 40
    strokes: list[Stroke] = field(default_factory=list)
    base: Image.Image | None = None
    caption: str = ""
    copies: InitVar[Copies | None] = None
    _made: tuple[object, Image.Image, str] | None = field(default=None, repr=False)  # from what, the mask, its doubt

    def __post_init__(self, copies: Copies | None) -> None:
        self._copies = copies or Copies.of(self.read())

    @property
    def size(self) -> tuple[int, int]:
        """Of the full picture, upright, in px."""
        return self._copies.size

    @property
    def small(self) -> Image.Image:
        """A reduced copy in RGB."""
        return self._copies.small

    @property
    def opacity(self) -> Image.Image | None:
        """The alpha channel, perhaps reduced; None if fully opaque."""
        return self._copies.opacity

    def read(self) -> Photo:
        """Read the full picture."""
        return read_photo(self.source, self.name)

    def square(self) -> Crop:
        """The square to use: (left, top, side) in px."""
        width, height = self.size
        side = min(width, height)
        return self.crop or ((width - side) // 2, (height - side) // 2, side)

    def mask_of(self, size: tuple[int, int]) -> Image.Image | None:
        """The mask resized to `size` in px; None if it is off."""
        if self.mask == "off":
            return None
        if self.mask in ("threshold", "guessed"):
            out = self._make_mask()[0].resize(size)
        elif self.mask == "alpha":
            out = self.opacity.resize(size) if self.opacity else Image.new("L", size, 255)
        elif self.base:
            out = self.base.resize(size)
        else:  # a first stroke that erases starts on a full mask, one that paints on an empty one
            out = Image.new("L", size, 255 if self.strokes and not self.strokes[0].white else 0)
        for stroke in self.strokes:
            out = subject.paint_line(out, stroke.points, stroke.radius, stroke.white)
        return out

    def doubt(self) -> str:
        """Why to look twice at a guessed mask; "" for no reason."""
        return self._make_mask()[1] if self.mask == "guessed" else ""

    def _make_mask(self) -> tuple[Image.Image, str]:
        """The mask by threshold or GrabCut, of the small copy, and its doubt; made once for each tolerance or crop."""
        source = (self.mask, self.tolerance if self.mask == "threshold" else self.square())
        if self._made is None or self._made[0] != source:
            if self.mask == "threshold":
                self._made = (source, subject.mask_by_threshold(self.small, self.tolerance), "")
            else:
                k = self.small.width / self.size[0]
                left, top, side = (round(k * value) for value in self.square())
                self._made = (source, *guess_with_doubt(self.small, (left, top, side)))
        return self._made[1:]


def take_beside(entry: Entry, text: Path | None, mask: Path | None) -> list[str]:
    """Set a picture's caption and mask from the files beside it; returns what is wrong with them."""
    noted: list[str] = []
    try:
        entry.caption = read_caption(text, noted.append) if text else ""
        if mask:
            whole, more = read_mask(mask, f"mask of {entry.name}")
            noted += [f"mask of {entry.name}: {note}" for note in more]
            if whole.size != entry.size:
                raise InvalidValue(f"mask of {entry.name} is {whole.size} px, the picture {entry.size}: it is not used")
            entry.base, entry.mask = reduced(whole), "painted"
    except (ValueError, OSError) as error:
        noted.append(str(error))
    return noted


def reduced(mask: Image.Image) -> Image.Image:
    """A mask reduced to at most 1024 px, which is more than training uses."""
    mask = mask.copy()
    mask.thumbnail((1024, 1024), Image.Resampling.BOX)
    return mask


def framed(entry: Entry, *, side: int) -> Image.Image:
    """The picture within `side` px, darkened outside its crop and tinted red outside its mask."""
    shown = entry.small.copy()
    shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    mask = entry.mask_of(shown.size)
    if mask:
        reds = ImageOps.colorize(shown.convert("L"), (70, 0, 20), (255, 130, 150))
        shown = Image.composite(shown, reds, mask)
    k = shown.width / entry.size[0]
    left, top, length = (round(k * value) for value in entry.square())
    inside = Image.new("L", shown.size, 0)
    inside.paste(255, (left, top, left + length, top + length))
    shown = Image.composite(shown, Image.blend(shown, Image.new("RGB", shown.size, (60, 60, 60)), 0.75), inside)
    factor = side // max(shown.size)  # a small drawing is enlarged with sharp pixels
    return (
        shown if factor < 2 else shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST)
    )


def padded(picture: Image.Image, side: int) -> Image.Image:
    """The picture centred in a transparent square of `side` px, so that thumbnails line up."""
    out = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    out.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return out


def thumb(entry: Entry) -> Image.Image:
    """A thumbnail of the crop."""
    k = entry.small.width / entry.size[0]
    left, top, side = (k * value for value in entry.square())
    right, bottom = (
        min(left + side, entry.small.width),
        min(top + side, entry.small.height),
    )  # the small copy's sides are rounded
    return entry.small.resize((SMALL, SMALL), Image.Resampling.BICUBIC, (left, top, right, bottom))


def sample_card(drawn: Drawn, thumb: Image.Image, first: int) -> widgets.HBox:
    """A training sample: its picture, prompt and tokens; ids from `first` on are the word's vectors, in bold."""
    shown = parts.Shown(layout=widgets.Layout(flex="0 0 auto"))
    shown.show(parts.as_png(ImageOps.mirror(thumb) if drawn.mirrored else thumb), drawn.prompt)
    tokens = " ".join(_token(name, i, i >= first) for name, i in zip(drawn.tokens, drawn.ids))
    mirrored = " (mirrored)" if drawn.mirrored else ""
    text = widgets.HTML(
        f'<div style="line-height:1.3">{in_page(drawn.prompt)}{mirrored}</div><div style="line-height:1.9">{tokens}</div>'
    )
    return widgets.HBox([shown, text], layout=widgets.Layout(width="30em", margin="0 8px 4px 0"))


def _token(name: str, number: int, bold: bool) -> str:
    style = (
        "border:1px solid currentColor;border-radius:3px;padding:0 3px;font-size:0.8em;white-space:nowrap;opacity:0.85"
    )
    shown = f"<b>{in_page(name)}</b>" if bold else in_page(name)
    return f'<span style="{style}">{shown} {number}</span>'
