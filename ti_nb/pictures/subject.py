"""Guesses where the subject is: a crop, a mask, and a brush to correct it.

NumPy and Pillow only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..host.arguments import checked
from .colours import on_background
from .picture import read_photo

SEARCH_SIDE = 680  # px: longer side of the copy in which the crop is searched


def shrunk(picture: Image.Image, side: int = 256) -> Image.Image:
    """An upright RGB copy, its longer side at most `side` px."""
    small = read_photo(picture, "the picture").picture
    if max(small.size) > side:  # before `on_background`, which would copy a large picture whole
        small = small.resize(scaled_size(small, side, least=1), Image.Resampling.BOX)
    return on_background(small, "white")


def saliency(picture: Image.Image) -> np.ndarray:
    """Where the subject seems to be: (h, w) weights that sum to 1, the longer side 64.

    High where the colour is far from the border's on all four sides (least Mahalanobis distance), and near the middle.
    """
    small = picture.convert("RGB").resize(scaled_size(picture, 64), Image.Resampling.BOX)
    r, g, b = np.moveaxis(np.asarray(small.filter(ImageFilter.GaussianBlur(1)), dtype=np.float64) / 255, -1, 0)
    colours = np.stack([(r + g + b) / 3, r - g, (r + g) / 2 - b], axis=-1)
    h, w = r.shape
    m = max(2, round(0.06 * min(h, w)))
    far = np.full((h, w), np.inf)
    for rim in (colours[:m], colours[-m:], colours[:, :m], colours[:, -m:]):
        spread = np.cov(rim.reshape(-1, 3).T) + 0.002 * np.eye(3)
        away = colours - rim.reshape(-1, 3).mean(0)
        far = np.minimum(far, np.sqrt(np.einsum("hwi,ij,hwj->hw", away, np.linalg.inv(spread), away)))
    far = np.minimum(far / (far.mean() + 2 * far.std() + 1e-9), 1)  # so that no single spot dominates
    smooth = Image.fromarray((255 * far).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))
    y, x = np.mgrid[:h, :w]
    middle = np.exp(-(((x + 0.5) / w - 0.5) ** 2 + ((y + 0.5) / h - 0.5) ** 2) / (2 * 0.35**2))
    out: np.ndarray = np.asarray(smooth, dtype=np.float64) ** 2 * middle
    out = (out - np.percentile(out, 10)).clip(0)
    return out / out.sum() if out.sum() else np.full((h, w), 1 / (h * w))


@checked(least=(1, None))
def guess_crop(picture: Image.Image, *, least: int = 512) -> tuple[int, int, int]:
    """A guess of the best square crop: (left, top, side) in px of the upright picture.

    Its side is 1.5 times the extent of the middle 92% of `saliency`, and at least 0.6 of the shorter side and `least` px, as
    far as the picture has them.

    Examples:
        >>> import ti_nb as ti
        >>> from PIL import Image
        >>> photo = Image.new("RGB", (1200, 800), "white")
        >>> photo.paste("red", (700, 200, 1000, 600))
        >>> left, top, side = ti.guess_crop(photo)
        >>> left <= 700 and left + side >= 1000
        True
    """
    return guess_square(shrunk(picture, SEARCH_SIDE), read_photo(picture, "the picture").picture.size, least=least)


def guess_square(small: Image.Image, size: tuple[int, int], *, least: int = 512) -> tuple[int, int, int]:
    """`guess_crop` for a picture of `size` px, from a small copy."""
    weights, short = saliency(small), min(size)
    scale = max(size) / max(weights.shape)
    (x0, x1), (y0, y1) = _middle(weights.sum(0)), _middle(weights.sum(1))
    side = round(min(short, max(1.5 * scale * max(x1 - x0, y1 - y0), 0.6 * short, least)))
    left, top = (round(scale * (a + b) / 2 - side / 2) for a, b in ((x0, x1), (y0, y1)))
    return min(max(left, 0), size[0] - side), min(max(top, 0), size[1] - side), side


@checked(tolerance=(0, 255))
def mask_by_threshold(picture: Image.Image, tolerance: float = 40) -> Image.Image:
    """A mask for `load_images(masks=...)`: an "L" picture, white where the colour differs from the picture's border.

    Args:
        tolerance: difference in levels (0 to 255) from the nearest border colour at which the mask is half white.

    Small holes are filled and all but the largest pieces dropped. Made for plain backgrounds; paint the rest.

    Examples:
        >>> import ti_nb as ti
        >>> from PIL import Image
        >>> photo = Image.new("RGB", (100, 100), "white")
        >>> photo.paste("red", (30, 30, 70, 70))
        >>> mask = ti.mask_by_threshold(photo)
        >>> mask.getpixel((50, 50)), mask.getpixel((5, 5))
        (255, 0)
    """
    photo = on_background(read_photo(picture, "the picture").picture, "white")
    small = photo.resize(scaled_size(photo, 160), Image.Resampling.BOX).filter(ImageFilter.MedianFilter(3))
    a = np.asarray(small, dtype=np.float64)
    rim = np.stack([np.median(part.reshape(-1, 3), axis=0) for part in rim_pieces(a)])
    away = np.sqrt(((a[:, :, None] - rim) ** 2).mean(-1)).min(-1)  # (h, w)
    soft = ((away - tolerance) / (0.4 * tolerance + 1) + 0.5).clip(0, 1)
    labels = connected_pieces(soft > 0.5)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    thing = (sizes > 0.2 * sizes.max())[labels] & (labels > 0)
    outside = connected_pieces(~thing)
    holes = np.bincount(outside.ravel()) < 0.03 * thing.size
    filled = thing | (holes[outside] & ~thing & ~touches_edge(outside))
    near = np.asarray(Image.fromarray(filled).convert("L").filter(ImageFilter.MaxFilter(3))) > 0
    grey = np.where(filled & ~thing, 1.0, soft * near)
    return Image.fromarray((grey * 255).astype(np.uint8)).resize(photo.size, Image.Resampling.BICUBIC)


def paint(mask: Image.Image, x: float, y: float, radius: float, white: bool = True) -> Image.Image:
    """A copy of `mask` with a dot at `x` (of the width) and `y` (of the height), `radius` of the shorter side, all 0 to 1."""
    return paint_line(mask, [(x, y)], radius, white)


def paint_line(
    mask: Image.Image, points: Sequence[tuple[float, float]], radius: float, white: bool = True
) -> Image.Image:
    """A copy of `mask` with a round line through `points`, in the units of `paint`."""
    out = mask.convert("L")
    out = out.copy() if out is mask else out
    pen, fill, r = ImageDraw.Draw(out), 255 if white else 0, radius * min(mask.size)
    through = [(x * mask.width, y * mask.height) for x, y in points]
    pen.line(through, fill=fill, width=max(1, round(2 * r)))
    for x, y in through:
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    return out


def connected_pieces(where: np.ndarray) -> np.ndarray:
    """Connected components of `where`: (h, w) int, a number for each, 0 elsewhere."""
    labels = np.where(where, np.arange(1, where.size + 1).reshape(where.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        around = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
        grown = np.where(where, np.maximum.reduce([labels, *around]), 0)
        grown = np.where(
            where, grown.ravel()[grown - 1], 0
        )  # a label is the index of a pixel: take that pixel's label (halves the rounds)
        if np.array_equal(grown, labels):
            return labels
        labels = grown


def touches_edge(labels: np.ndarray) -> np.ndarray:
    """Which of the pieces of `connected_pieces` reach the edge: (h, w) bool."""
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.isin(labels, edge[edge > 0])


def _middle(profile: np.ndarray) -> tuple[int, int]:
    """Where the middle 92% of `profile`, which sums to 1, begins and ends."""
    up_to = np.cumsum(profile)
    return int(np.searchsorted(up_to, 0.04)), int(np.searchsorted(up_to, 0.96)) + 1


def scaled_size(picture: Image.Image, longer: int, *, least: int = 8) -> tuple[int, int]:
    """The size of a copy with a longer side of `longer` px, and no side under `least`."""
    scale = longer / max(picture.size)
    return max(least, round(picture.width * scale)), max(least, round(picture.height * scale))


def rim_pieces(a: np.ndarray) -> list[np.ndarray]:
    """The outermost 4% of (h, w, 3), as four pieces per side."""
    m = max(1, round(0.04 * min(a.shape[:2])))
    sides = [(a[:m], 1), (a[-m:], 1), (a[:, :m], 0), (a[:, -m:], 0)]
    return [piece for side, axis in sides for piece in np.array_split(side, 4, axis=axis)]
