"""Masks of photographs by OpenCV's GrabCut, begun from the crop; and what is odd about a mask."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from PIL import Image, ImageStat

from ..errors import NotPossible
from ..host.arguments import checked
from .colours import on_background
from .picture import Crop, read_photo
from .subject import guess_square, saliency, scaled_size

SIDE = 192  # px: the longer side of the copy that is cut; a larger one takes longer and agreed no better with outlines by hand
STARTS = {"colours": 70, "lightness and hue": 65, "smoothed": 75}  # per cent of the crop that begin as background
OTHER_START = 55  # from which it should find much the same
ROUNDS = 5
NO_OPENCV = (
    "OpenCV, which guesses masks, is not installed: pip install opencv-python-headless, or use mask_by_threshold"
)


@checked()
def guess_mask(picture: Image.Image, crop: Crop | None = None) -> Image.Image:
    """A mask for `load_images(masks=...)` of the thing in a photograph, by GrabCut (Rother et al., SIGGRAPH 2004).

    Args:
        crop: the square (left, top, side) in px that holds the thing; what is outside is background. None for `guess_crop`'s.

    Returns an "L" picture of the picture's size, white where the thing is. Needs OpenCV (`pip install ti_nb[masks]`).

    Raises:
        RuntimeError: OpenCV is not installed.

    Examples:
        >>> import ti_nb as ti
        >>> from PIL import Image
        >>> picture = Image.new("RGB", (96, 96), "seagreen")
        >>> picture.paste("red", (32, 32, 64, 64))
        >>> mask = ti.guess_mask(picture, (20, 20, 56))
        >>> mask.getpixel((48, 48)), mask.getpixel((4, 4))
        (255, 0)
    """
    return guess_with_doubt(picture, crop)[0]


def guess_with_doubt(picture: Image.Image, crop: Crop | None = None) -> tuple[Image.Image, str]:
    """`guess_mask`, and why to look at it twice, "" for no reason.

    Other ways should find the same thing, and it should hold what is salient (`benchmarks/masks.md` has how often that helps).
    """
    cv2 = _opencv()
    photo = on_background(read_photo(picture, "the picture").picture, "white")
    small = photo.resize(scaled_size(photo, SIDE), Image.Resampling.BOX)
    k = small.width / photo.width
    left, top, side = (round(k * value) for value in crop or guess_square(photo, photo.size))
    where = _resized(saliency(photo), small.size)
    cuts = [_whole(cv2, _cut(cv2, seen, where, (left, top, side), s), where) for seen, s in _seen(cv2, small)]
    thing = _whole(cv2, np.sum(cuts, axis=0) >= 2, where)
    mask = Image.fromarray(thing.astype(np.uint8) * 255).resize(photo.size, Image.Resampling.BICUBIC)
    second = _cut(cv2, _seen(cv2, small)[0][0], where, (left, top, side), OTHER_START)
    return mask, _doubt(thing, [*cuts, _whole(cv2, second, where)], where)


def _seen(cv2: Any, small: Image.Image) -> list[tuple[np.ndarray, float]]:
    """The picture in three ways, as one alone sometimes finds something else; and where each begins."""
    bgr = np.ascontiguousarray(np.asarray(small)[..., ::-1])
    ways = {
        "colours": bgr,
        "lightness and hue": cv2.cvtColor(bgr, cv2.COLOR_BGR2LAB),
        "smoothed": cv2.medianBlur(bgr, 5),
    }
    return [(ways[name], start) for name, start in STARTS.items()]


def _doubt(thing: np.ndarray, cuts: list[np.ndarray], where: np.ndarray) -> str:
    agree = min((thing & cut).sum() / max(1, (thing | cut).sum()) for cut in cuts)
    if agree < 0.75:
        return "a second look finds something else: check that it is the thing"
    if thing[where > np.percentile(where, 90)].mean() < 0.8:
        return "it leaves out something that stands out: check that it is the whole thing"
    return ""


def has_opencv() -> bool:
    """Whether masks can be guessed."""
    return importlib.util.find_spec("cv2") is not None


def odd_share(kept: float) -> str:
    """What is odd about a mask that keeps this share (0 to 1) of its square, and what to do; "" for nothing."""
    if kept < 0.02:
        return (
            "that is next to nothing: is it white where the thing is? choose another kind of mask, or paint the thing"
        )
    if kept < 0.08:
        return "that is little: look whether it is the whole thing, or crop closer"
    if kept > 0.97:
        return "that is nearly all of it, as without a mask: erase the background, or turn the mask off"
    return ""


def _opencv() -> Any:
    if not has_opencv():
        raise NotPossible(NO_OPENCV)
    import cv2

    return cv2


def _resized(weights: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    grey = Image.fromarray((255 * weights / weights.max()).astype(np.uint8))
    return np.asarray(grey.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)


def _cut(cv2: Any, seen: np.ndarray, where: np.ndarray, crop: Crop, start: float, rounds: int = ROUNDS) -> np.ndarray:
    """GrabCut's foreground (h, w), begun with what is salient in the crop: all but `start` per cent of it."""
    left, top, side = crop
    labels = np.full(where.shape, cv2.GC_BGD, np.uint8)
    inside = (slice(top, top + side), slice(left, left + side))
    likely = where[inside] > np.percentile(where[inside], start)
    labels[inside] = np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    labels[:2] = labels[-2:] = labels[:, :2] = labels[:, -2:] = cv2.GC_BGD  # it needs some, where the crop is all of it
    if not (labels == cv2.GC_PR_FGD).any():
        return np.zeros(where.shape, bool)
    cv2.setRNGSeed(0)  # the same mask each time
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(seen, labels, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))


def _whole(cv2: Any, found: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Without pieces that are little salient, and without small holes."""
    count, pieces = cv2.connectedComponents(found.astype(np.uint8))
    if count < 2:
        return found
    weight = np.bincount(pieces.ravel(), weights=where.ravel())
    weight[0] = 0
    thing = (weight > 0.15 * weight.max())[pieces]
    _, outside = cv2.connectedComponents((~thing).astype(np.uint8), connectivity=4)
    edge = np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]])
    holes = np.bincount(outside.ravel()) < 0.02 * thing.size
    filled: np.ndarray = thing | (holes[outside] & ~thing & ~np.isin(outside, edge))
    return filled


def mask_notes(name: str, mask_square: Image.Image | None, alpha: bool) -> list[str]:
    """Warnings about a mask that keeps next to nothing, or was asked for and keeps everything."""
    if mask_square is None:
        return [f"{name}: nothing in it is transparent, so that all of it counts"] if alpha else []
    kept = ImageStat.Stat(mask_square).mean[0] / 255
    return [f"{name}: its mask keeps {kept:.1%} of the square: {odd_share(kept)}"] if kept < 0.02 else []
