"""Colours of any picture as 8-bit sRGB: modes, bit depths, colour profiles, transparency."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from ..errors import InvalidValue

Say = Callable[[str], None]
WHITES = (1, 255, 65535, 2**31 - 1, 2**32 - 1)  # candidates for the white level where the format does not say
SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}  # a profile's colour space: Pillow's mode


def as_srgb(picture: Image.Image, say: Say) -> Image.Image:
    """The picture as "RGB", or "RGBA" if any of it is transparent; `say` gets what had to be guessed or given up."""
    profile, opacity = picture.info.get("icc_profile"), _opacity(picture)
    if not profile and picture.mode == ("RGB" if opacity is None else "RGBA"):
        return picture
    colours = _in_srgb(_without_opacity(picture, say), profile, say)
    if opacity is not None:
        colours = colours.convert("RGBA")
        colours.putalpha(opacity)
    return colours


def on_background(picture: Image.Image, background: str | tuple[int, int, int]) -> Image.Image:
    """The result of `as_srgb` as RGB, `background` behind what is transparent."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    under = Image.new("RGB", picture.size, background).convert("RGBA")
    return Image.alpha_composite(under, picture).convert("RGB")


def _opacity(picture: Image.Image) -> Image.Image | None:
    """The alpha channel as "L"; None if the picture is opaque everywhere."""
    if not picture.has_transparency_data:
        return None
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        out = picture.getchannel(len(picture.getbands()) - 1)
    elif _is_deep(picture):  # one level is transparent, as in a PNG's tRNS
        out = Image.fromarray((np.asarray(picture) != picture.info["transparency"]) * np.uint8(255))
    else:
        out = picture.convert("RGBA").getchannel("A")
    out.info = {}
    return out if out.getextrema() != (255, 255) else None


def _without_opacity(picture: Image.Image, say: Say) -> Image.Image:
    """The colours as 8-bit L, RGB, CMYK or LAB."""
    if _is_deep(picture):
        return _in_8_bits(picture, say)
    if picture.mode in ("L", "RGB", "CMYK", "LAB"):
        return picture
    if picture.mode in ("LA", "La"):
        return picture.convert("LA").getchannel("L")
    if picture.mode in ("P", "PA", "RGBa"):  # P via RGBA, or Pillow warns of its transparency
        return picture.convert("RGBA").convert("RGB")
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _is_deep(picture: Image.Image) -> bool:
    return picture.mode.startswith("I") or picture.mode == "F"


def _in_8_bits(picture: Image.Image, say: Say) -> Image.Image:
    """16 or 32 bits, integers or floats, scaled to 8 rather than clipped."""
    values = np.asarray(picture)
    if picture.mode == "F":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    elif picture.mode == "I" and values.min() < -65536:  # uint32, for which Pillow has no mode
        values = values.view(np.uint32)
    low, high = float(values.min()), float(values.max())
    white = _white(picture, values)
    black = -white if low < -0.05 * white else 0
    if (black, white) != (0, 65535):
        say(f"its levels go from {low:g} to {high:g}: {black:g} was taken for black, {white:g} for white")
    out = np.empty(values.shape, np.uint8)
    for at in range(0, len(values), 256):  # 256 rows at a time, as float64 takes much memory
        rows = values[at : at + 256].astype(np.float64)
        out[at : at + 256] = ((rows - black) * (255 / (white - black))).clip(0, 255).round()
    return Image.fromarray(out)


def _white(picture: Image.Image, values: np.ndarray) -> float:
    """The white level: the format's where it says so, else the smallest of `WHITES` that no value exceeds.

    Of floats 1% may exceed it: highlights beyond white.
    """
    if picture.mode == "F":
        step = max(1, min(values.shape) // 512)
        high = float(np.percentile(np.abs(values[::step, ::step]), 99))
        return next((white for white in WHITES[:3] if high <= white), float(values.max()))
    if picture.mode == "I" and getattr(picture, "tag_v2", {}).get(258) == (16,):  # TIFF's BitsPerSample: signed 16-bit
        return 32767
    return next(white for white in WHITES[1:] if values.max() <= white)


def _in_srgb(picture: Image.Image, profile: bytes | None, say: Say) -> Image.Image:
    if profile:
        try:
            return _by_profile(picture, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except Exception:  # damaged data can raise anything
            say("its colour profile is damaged or not made for it: the colours were taken as they are")
    if picture.mode == "LAB":
        return _by_profile(picture, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    return picture.convert("RGB")


def _by_profile(picture: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """The picture in sRGB; unchanged if the profile is sRGB.

    Raises:
        ValueError, KeyError: the profile is for pictures of another mode.
    """
    mode = SPACES[profile.profile.xcolor_space.strip()]
    if mode == "RGB":
        picture = picture.convert("RGB") if picture.mode == "L" else picture
    if picture.mode != mode:
        raise InvalidValue(f"a profile for {mode}, a picture in {picture.mode}")
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "RGB" and _changes_nothing(transform):
        return picture
    out = ImageCms.applyTransform(picture, transform)
    assert out is not None  # None only with inPlace
    return out


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether it maps sRGB to sRGB up to rounding; names of profiles can't be trusted ("sRGB-elle-V2-g10" is linear)."""
    cube = (np.indices((16, 16, 16), dtype=np.uint8) * 17).reshape(3, 64, 64).transpose(1, 2, 0)
    out = ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(cube)), transform)
    return bool(np.abs(np.asarray(out, dtype=int) - cube).max() <= 2)
