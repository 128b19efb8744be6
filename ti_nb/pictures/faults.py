"""Faults of the pictures that a photographer would see before training: blurred, dark, cut off, duplicates.

NumPy and Pillow only. The thresholds were set on 50 photographs of ten things and on blurred, darkened and cut copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..host.arguments import checked
from ..host.plain_text import plain
from .colours import on_background
from .folders import find_pictures
from .picture import Photo, read_photo
from .subject import connected_pieces, rim_pieces, saliency, scaled_size, shrunk, touches_edge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .picture import Picture

MIN_SHARPNESS = 200.0  # sharpness below which a picture is blurred
MAX_DIFFERENT_BITS, MAX_DIFFERENT_CONTRAST = (
    12,
    0.5,
)  # bits of 63, and share of the contrast, by which near-duplicates may differ


@dataclass(frozen=True)
class Finding:
    """One fault or remark.

    Attributes:
        name: the picture's, "" for the whole set. kind: "small", "blurred", "duplicate", "turned", "gps", "dark",
            "bright", "clipped", "cut", "background", "count" or "file".
        text: what it is and what to do. severity: "note" or "warning".
    """

    name: str
    kind: str
    text: str
    severity: str = "note"

    def __str__(self) -> str:
        start = f"{self.name}: " if self.name and not self.text.startswith(self.name) else ""
        return plain(("warning: " if self.severity == "warning" else "") + start + self.text)


@checked(size=(1, 65536))
def find_faults(pictures: Picture | Iterable[Picture], *, names: Sequence[str] = (), size: int = 512) -> list[Finding]:
    """Look for faults in pictures as they came, before any crop.

    Args:
        pictures: what `load_images` takes. names: of each picture; by default its file's.
        size: the model's resolution in px.

    Raises:
        FileNotFoundError, ValueError: as `load_images` for a picture that can't be read.
    """
    findings, small = [], []
    items = find_pictures(pictures)[0]
    called = list(names) or [name for name, _ in items]
    for name, (_, item) in zip(called, items):
        photo = read_photo(item, name)
        findings += faults_of(photo, size=size)
        small.append(shrunk(photo.picture))
    return findings + faults_of_set(small, called)


def faults_of(photo: Photo, *, size: int = 512) -> list[Finding]:
    """Faults of a single picture."""
    name = photo.name
    findings = [Finding(name, "file", note, "warning") for note in photo.notes]
    if photo.turned:
        findings.append(
            Finding(name, "turned", "its EXIF says it lies on its side or is mirrored: it was turned upright")
        )
    if photo.located:
        findings.append(Finding(name, "gps", "it says where it was taken (GPS): that is left out when published"))
    picture = on_background(photo.picture, "white")
    side = min(picture.size)
    if side < size:
        severity = "warning" if side < 0.75 * size else "note"
        findings.append(
            Finding(name, "small", f"its shorter side has {side} px, the model {size}: it will be enlarged", severity)
        )
    light = list(_exposure(picture, name))
    if sharpness(picture, size=size) < MIN_SHARPNESS and not any(
        f.kind == "dark" for f in light
    ):  # a dark picture has no contrast to judge by
        findings.append(Finding(name, "blurred", "nothing in it is sharp: take it again if you can", "warning"))
    return [*findings, *light, *_cut(picture, name)]


def faults_of_set(pictures: Sequence[Image.Image], names: Sequence[str]) -> list[Finding]:
    """Faults of all pictures together, what matters most first; small copies (`shrunk`) will do."""
    findings = list(_background(pictures, names))
    fingerprints = [_fingerprint(p) for p in pictures]
    for (a, first), (b, second) in combinations(zip(names, fingerprints), 2):
        if _is_duplicate(first, second):
            findings.append(
                Finding(b, "duplicate", f"{b} is nearly the same picture as {a}: use one of them", "warning")
            )
    if len(pictures) < 3:
        findings.append(Finding("", "count", f"{_count(pictures)}: 3 to 5 of different sides and places teach more"))
    if len(pictures) > 8:
        findings.append(
            Finding("", "count", f"{_count(pictures)}: about 5 good ones do as well (appendix B of the paper)")
        )
    return findings


def _background(pictures: Sequence[Image.Image], names: Sequence[str]) -> Iterator[Finding]:
    """One background behind all pictures, or behind most and at least three of them."""
    rims = [_rim_histogram(p) for p in pictures]
    alike = [[name for name, other in zip(names, rims) if _overlap(rim, other) > 0.75] for rim in rims]
    most = max(alike, key=len, default=[])
    if len(most) == len(pictures) > 1:
        which = "all have"
    elif len(most) >= 3 and 2 * len(most) > len(pictures):
        which = f"{len(most)} of {len(pictures)} ({', '.join(most)}) have"
    else:
        return
    text = f"{which} the same background, which the word would learn too: vary it, or use masks"
    yield Finding("", "background", text, "warning")


def sharpness(picture: Image.Image, *, size: int = 512) -> float:
    """Variance of the Laplacian in the sharpest of 64 tiles, at the model's resolution: the background may be blurred.

    Of 50 sharp photographs at 512 px the lowest is 457; after a Gaussian blur of 1.5 px the highest is 144.
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


def _exposure(picture: Image.Image, name: str) -> Iterator[Finding]:
    """Too dark, too bright, or clipped, unless that is a plain white or black background."""
    a = np.asarray(picture.resize(scaled_size(picture, 128), Image.Resampling.BOX), dtype=np.float64)
    grey = a.mean(-1)
    if np.percentile(grey, 95) < 90:
        yield Finding(name, "dark", "it is very dark: brighten it or take it again", "warning")
    if np.percentile(grey, 5) > 165:
        yield Finding(name, "bright", "it is very bright and pale: darken it or take it again", "warning")
    rim = np.concatenate([part.reshape(-1, 3) for part in rim_pieces(a)])
    white, white_rim = _burnt_out(a).mean(), (rim.mean(-1) >= 240).mean()
    black, black_rim = ((x <= 3).all(-1).mean() for x in (a, rim))
    if white > 0.08 and white_rim < 0.85:
        text = f"{white:.0%} of it is burnt out, without detail: take it with less light"
        yield Finding(name, "clipped", text, "warning" if white > 0.3 else "note")
    if black > 0.25 and black_rim < 0.85:
        yield Finding(name, "clipped", f"{black:.0%} of it is plain black, without detail: take it with more light")


def _burnt_out(a: np.ndarray) -> np.ndarray:
    """Where (h, w) a picture is white by too much light, rather than by a white wall or sky behind the thing.

    A wall reaches the picture's edge; too much light also leaves colours of which only a part of the channels is full.
    """
    white: np.ndarray = a.mean(-1) >= 240
    partly = (a.max(-1) >= 250) & ~white
    if partly.sum() > 0.2 * white.sum():
        return white
    inside: np.ndarray = white & ~touches_edge(connected_pieces(white))
    return inside


def _cut(picture: Image.Image, name: str) -> Iterator[Finding]:
    """What the centre crop would cut off."""
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


def _fingerprint(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """63 bits of a perceptual hash (pHash: which low frequencies are above their median), and 16 x 16 colours less their mean."""
    grey = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    waves = np.cos(np.pi / 32 * np.arange(8)[:, None] * (np.arange(32) + 0.5))
    low = (waves @ grey @ waves.T).ravel()[1:]
    colours = np.asarray(picture.convert("RGB").resize((16, 16), Image.Resampling.BOX), dtype=np.float64)
    return low > np.median(low), colours - colours.mean((0, 1))


def _is_duplicate(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether hash and colours agree; flat drawings can share the hash by chance."""
    contrast = max(float(first[1].std()), float(second[1].std()), 1.0)
    return bool(
        (first[0] != second[0]).sum() <= MAX_DIFFERENT_BITS
        and (first[1] - second[1]).std() < MAX_DIFFERENT_CONTRAST * contrast
    )


def _rim_histogram(picture: Image.Image) -> np.ndarray:
    """Histogram (64,) of the border's colours, four levels a channel, that sums to 1."""
    a = np.asarray(picture.convert("RGB").resize((64, 64), Image.Resampling.BOX))
    levels = np.concatenate([part.reshape(-1, 3) for part in rim_pieces(a)]) // 64
    return np.bincount(levels.astype(int) @ (16, 4, 1), minlength=64) / len(levels)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.minimum(a, b).sum())


def _count(pictures: Sequence[Image.Image]) -> str:
    return f"{len(pictures)} picture{'s' if len(pictures) != 1 else ''}"
