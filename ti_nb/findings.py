"""What a photographer would say of the pictures before training, and first guesses of a crop and of a mask.

NumPy and Pillow only. The limits were set on 50 photographs of ten things and on copies of them, blurred, darkened and cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from .pictures import decode, find_pictures, on_background

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .pictures import Picture

ORIENTATION, GPS = 0x0112, 0x8825  # EXIF tags
FAR = 200.0  # sharpness below which a picture is blurred
SAME, ALIKE = 12, 0.5  # bits of 63, and share of the contrast, by which near-duplicates may differ


@dataclass(frozen=True)
class Finding:
    """One thing noticed.

    Attributes:
        name: of the picture, "" for the whole set. kind: "small", "blurred", "duplicate", "turned", "gps", "dark",
            "bright", "clipped", "cut", "background" or "count".
        text: what it is and what to do. severity: "note" or "warning".
    """

    name: str
    kind: str
    text: str
    severity: str = "note"

    def __str__(self) -> str:
        start = f"{self.name}: " if self.name and not self.text.startswith(self.name) else ""
        return ("warning: " if self.severity == "warning" else "") + start + self.text


def find_faults(pictures: Picture | Iterable[Picture], *, names: Sequence[str] = (), size: int = 512) -> list[Finding]:
    """Look at pictures as they came, before any crop.

    Args:
        pictures: what `load_images` takes. names: one for each, if not the files' own.
        size: side of the model's pictures in px.

    Raises:
        FileNotFoundError, ValueError: as `load_images` for a picture that can't be read.
    """
    found, small = [], []
    items = find_pictures(pictures)[0]
    called = list(names) or [name for name, _ in items]
    for name, (_, item) in zip(called, items):
        picture = decode(item, name)
        found += faults_of(picture, name, size=size)
        small.append(shrunk(picture))
    return found + faults_of_set(small, called)


def faults_of(picture: Image.Image, name: str, *, size: int = 512) -> list[Finding]:
    """What can be seen in one picture by itself; `picture` still has its EXIF."""
    exif = picture.getexif()
    found = []
    if exif.get(ORIENTATION, 1) in range(2, 9):
        found.append(Finding(name, "turned", "its EXIF says it lies on its side or is mirrored: it was turned upright"))
    if exif.get_ifd(GPS):
        found.append(Finding(name, "gps", "it says where it was taken (GPS): that is left out when published"))
    picture = on_background(ImageOps.exif_transpose(picture), "white")
    side = min(picture.size)
    if side < size:
        severity = "warning" if side < 0.75 * size else "note"
        found.append(
            Finding(name, "small", f"its shorter side has {side} px, the model {size}: it will be enlarged", severity)
        )
    light = list(_light(picture, name))
    if sharpness(picture, size=size) < FAR and not any(f.kind == "dark" for f in light):  # there, nothing can be seen
        found.append(Finding(name, "blurred", "nothing in it is sharp: take it again if you can", "warning"))
    return [*found, *light, *_cut(picture, name)]


def faults_of_set(pictures: Sequence[Image.Image], names: Sequence[str]) -> list[Finding]:
    """What can be seen only in all pictures together; small copies (`shrunk`) will do."""
    found = []
    marks = [_mark(p) for p in pictures]
    for (a, one), (b, other) in combinations(zip(names, marks), 2):
        if _same(one, other):
            found.append(Finding(b, "duplicate", f"{b} is nearly the same picture as {a}: use one of them", "warning"))
    if len(pictures) > 1 and min(_alike(a, b) for a, b in combinations([_rim(p) for p in pictures], 2)) > 0.75:
        text = "all have the same background, which the word would learn too: vary it, or use masks"
        found.append(Finding("", "background", text, "warning"))
    if len(pictures) < 3:
        found.append(Finding("", "count", f"{_number(pictures)}: 3 to 5 of different sides and places teach more"))
    if len(pictures) > 8:
        found.append(
            Finding("", "count", f"{_number(pictures)}: about 5 good ones do as well (appendix B of the paper)")
        )
    return found


def shrunk(picture: Image.Image, side: int = 256) -> Image.Image:
    """An upright RGB copy, its longer side at most `side` px."""
    small = on_background(ImageOps.exif_transpose(picture), "white")
    small.thumbnail((side, side), Image.Resampling.BOX)
    return small


def sharpness(picture: Image.Image, *, size: int = 512) -> float:
    """Variance of the Laplacian in the sharpest of 64 tiles, seen at the model's size: a blurred background is no fault.

    Of 50 sharp photographs at 512 px the least has 457; blurred by a Gaussian of 1.5 px the most has 144.
    """
    grey = picture.convert("L")
    scale = size / min(grey.size)
    if scale < 1:
        grey = grey.resize((round(grey.width * scale), round(grey.height * scale)), Image.Resampling.LANCZOS)
    a = np.asarray(grey, dtype=np.float32)
    if min(a.shape) < 10:
        return float(a.var())
    laplacian = 4 * a[1:-1, 1:-1] - a[:-2, 1:-1] - a[2:, 1:-1] - a[1:-1, :-2] - a[1:-1, 2:]
    step = max(1, min(laplacian.shape) // 8)
    h, w = (n // step * step for n in laplacian.shape)
    tiles = laplacian[:h, :w].reshape(h // step, step, w // step, step)
    return float(tiles.var(axis=(1, 3)).max())


def saliency(picture: Image.Image) -> np.ndarray:
    """Where the thing seems to be: (h, w) float that adds up to 1, the longer side 64.

    A colour far from those of every side's rim (Mahalanobis distance, the least of the four), more so near the middle.
    """
    small = picture.convert("RGB").resize(_fitted(picture, 64), Image.Resampling.BOX)
    r, g, b = np.moveaxis(np.asarray(small.filter(ImageFilter.GaussianBlur(1)), dtype=np.float64) / 255, -1, 0)
    colours = np.stack([(r + g + b) / 3, r - g, (r + g) / 2 - b], axis=-1)
    h, w = r.shape
    m = max(2, round(0.06 * min(h, w)))
    far = np.full((h, w), np.inf)
    for rim in (colours[:m], colours[-m:], colours[:, :m], colours[:, -m:]):
        spread = np.cov(rim.reshape(-1, 3).T) + 0.002 * np.eye(3)
        away = colours - rim.reshape(-1, 3).mean(0)
        far = np.minimum(far, np.sqrt(np.einsum("hwi,ij,hwj->hw", away, np.linalg.inv(spread), away)))
    far = np.minimum(far / (far.mean() + 2 * far.std() + 1e-9), 1)  # no single spot decides
    smooth = Image.fromarray((255 * far).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))
    y, x = np.mgrid[:h, :w]
    middle = np.exp(-(((x + 0.5) / w - 0.5) ** 2 + ((y + 0.5) / h - 0.5) ** 2) / (2 * 0.35**2))
    out: np.ndarray = np.asarray(smooth, dtype=np.float64) ** 2 * middle
    out = (out - np.percentile(out, 10)).clip(0)
    return out / out.sum() if out.sum() else np.full((h, w), 1 / (h * w))


def guess_crop(picture: Image.Image, *, least: int = 512) -> tuple[int, int, int]:
    """A first guess of the square to use: (left, top, side) in px of the upright picture.

    It is half as large again as what holds the middle 92% of `saliency` both ways, at least 0.6 of the shorter side and
    `least` px where the picture has them.
    """
    picture = ImageOps.exif_transpose(picture)
    weights, short = saliency(picture), min(picture.size)
    scale = max(picture.size) / max(weights.shape)
    (x0, x1), (y0, y1) = _middle(weights.sum(0)), _middle(weights.sum(1))
    side = round(min(short, max(1.5 * scale * max(x1 - x0, y1 - y0), 0.6 * short, least)))
    left, top = (round(scale * (a + b) / 2 - side / 2) for a, b in ((x0, x1), (y0, y1)))
    return min(max(left, 0), picture.width - side), min(max(top, 0), picture.height - side), side


def mask_by_threshold(picture: Image.Image, tolerance: float = 40) -> Image.Image:
    """White where the colour differs from the picture's rim: an "L" picture of its size, for `load_images(masks=...)`.

    Args:
        tolerance: difference in levels (0 to 255) from the nearest colour of the rim, where the mask is half white.

    Small holes are filled and all but the largest pieces dropped. It serves plain backgrounds; paint the rest.
    """
    picture = on_background(ImageOps.exif_transpose(picture), "white")
    small = picture.resize(_fitted(picture, 160), Image.Resampling.BOX).filter(ImageFilter.MedianFilter(3))
    a = np.asarray(small, dtype=np.float64)
    rim = np.stack([np.median(part.reshape(-1, 3), axis=0) for part in _pieces_of_rim(a)])
    away = np.sqrt(((a[:, :, None] - rim) ** 2).mean(-1)).min(-1)  # (h, w)
    soft = ((away - tolerance) / (0.4 * tolerance + 1) + 0.5).clip(0, 1)
    labels = _blobs(soft > 0.5)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    thing = (sizes > 0.2 * sizes.max())[labels] & (labels > 0)
    outside = _blobs(~thing)
    holes = np.bincount(outside.ravel()) < 0.03 * thing.size
    filled = thing | (holes[outside] & ~thing & ~_touches_edge(outside))
    near = np.asarray(Image.fromarray(filled).convert("L").filter(ImageFilter.MaxFilter(3))) > 0
    grey = np.where(filled & ~thing, 1.0, soft * near)
    return Image.fromarray((grey * 255).astype(np.uint8)).resize(picture.size, Image.Resampling.BICUBIC)


def paint(mask: Image.Image, x: float, y: float, radius: float, white: bool = True) -> Image.Image:
    """A copy of `mask` with one round stroke: `x` of its width, `y` of its height, `radius` of its shorter side, 0 to 1."""
    out = mask.convert("L")
    out = out.copy() if out is mask else out
    cx, cy, r = x * mask.width, y * mask.height, radius * min(mask.size)
    ImageDraw.Draw(out).ellipse((cx - r, cy - r, cx + r, cy + r), fill=255 if white else 0)
    return out


def _light(picture: Image.Image, name: str) -> Iterator[Finding]:
    """Too dark, too bright, burnt out; a plain white or black background is none of these."""
    a = np.asarray(picture.resize(_fitted(picture, 128), Image.Resampling.BOX), dtype=np.float64)
    grey = a.mean(-1)
    if np.percentile(grey, 95) < 90:
        yield Finding(name, "dark", "it is very dark: brighten it or take it again", "warning")
    if np.percentile(grey, 5) > 165:
        yield Finding(name, "bright", "it is very bright and pale: darken it or take it again", "warning")
    rim = np.concatenate([part.reshape(-1, 3) for part in _pieces_of_rim(a)])
    white, white_rim = ((x.mean(-1) >= 240).mean() for x in (a, rim))
    black, black_rim = ((x <= 3).all(-1).mean() for x in (a, rim))
    if white > 0.08 and white_rim < 0.85:
        text = f"{white:.0%} of it is burnt out, without detail: take it with less light"
        yield Finding(name, "clipped", text, "warning" if white > 0.3 else "note")
    if black > 0.25 and black_rim < 0.85:
        yield Finding(name, "clipped", f"{black:.0%} of it is plain black, without detail: take it with more light")


def _cut(picture: Image.Image, name: str) -> Iterator[Finding]:
    """What a square around the middle would cut off."""
    long, short = max(picture.size), min(picture.size)
    if short / long > 0.97:
        return
    way = "width" if picture.width > picture.height else "height"
    weights = saliency(picture)
    along = weights.sum(0) if way == "width" else weights.sum(1)
    edge = (1 - short / long) / 2 * len(along)
    at = np.arange(len(along)) + 0.5
    lost = along[(at < edge) | (at > len(along) - edge)].sum()
    text = f"a square around the middle cuts off {1 - short / long:.0%} of its {way}"
    if lost > 0.08:
        yield Finding(name, "cut", f"{text}, part of the thing too, it seems: choose the crop", "warning")
    else:
        yield Finding(name, "cut", f"{text}, background it seems")


def _mark(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """63 bits, the signs of the lowest frequencies about their median (pHash); and 16 x 16 colours, less their mean."""
    grey = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    waves = np.cos(np.pi / 32 * np.arange(8)[:, None] * (np.arange(32) + 0.5))
    low = (waves @ grey @ waves.T).ravel()[1:]
    colours = np.asarray(picture.convert("RGB").resize((16, 16), Image.Resampling.BOX), dtype=np.float64)
    return low > np.median(low), colours - colours.mean((0, 1))


def _same(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    """Flat drawings can share their bits by chance, so that the colours must agree as well."""
    contrast = max(float(one[1].std()), float(other[1].std()), 1.0)
    return bool((one[0] != other[0]).sum() <= SAME and (one[1] - other[1]).std() < ALIKE * contrast)


def _rim(picture: Image.Image) -> np.ndarray:
    """Shares (64,) of the rim's colours, in four levels each."""
    a = np.asarray(picture.convert("RGB").resize((64, 64), Image.Resampling.BOX))
    levels = np.concatenate([part.reshape(-1, 3) for part in _pieces_of_rim(a)]) // 64
    return np.bincount(levels.astype(int) @ (16, 4, 1), minlength=64) / len(levels)


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.minimum(a, b).sum())


def _pieces_of_rim(a: np.ndarray) -> list[np.ndarray]:
    """The outermost 4% of (h, w, 3) in four pieces a side."""
    m = max(1, round(0.04 * min(a.shape[:2])))
    sides = [(a[:m], 1), (a[-m:], 1), (a[:, :m], 0), (a[:, -m:], 0)]
    return [piece for side, axis in sides for piece in np.array_split(side, 4, axis=axis)]


def _blobs(where: np.ndarray) -> np.ndarray:
    """(h, w) int: one number for each connected piece of `where`, 0 elsewhere."""
    labels = np.where(where, np.arange(1, where.size + 1).reshape(where.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        around = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
        grown = np.where(where, np.maximum.reduce([labels, *around]), 0)
        grown = np.where(where, grown.ravel()[grown - 1], 0)  # a number is a place: take over what stands there
        if np.array_equal(grown, labels):
            return labels
        labels = grown


def _touches_edge(labels: np.ndarray) -> np.ndarray:
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.isin(labels, edge[edge > 0])


def _middle(profile: np.ndarray) -> tuple[int, int]:
    """Where the middle 92% of `profile`, which adds up to 1, begins and ends."""
    up_to = np.cumsum(profile)
    return int(np.searchsorted(up_to, 0.04)), int(np.searchsorted(up_to, 0.96)) + 1


def _fitted(picture: Image.Image, longer: int) -> tuple[int, int]:
    scale = longer / max(picture.size)
    return max(8, round(picture.width * scale)), max(8, round(picture.height * scale))


def _number(pictures: Sequence[Image.Image]) -> str:
    return f"{len(pictures)} picture{'s' if len(pictures) != 1 else ''}"
