"""Things and backgrounds as RGBA pictures: rendered from the packages' SVG, or drawn here."""

from __future__ import annotations

import io
import json
import random
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from . import world
from .fetch import MORE, PACKAGES

SPRITE = 128


def render_svg(body: str, width: float, height: float, side: int = SPRITE) -> Image.Image:
    """An SVG body as an RGBA picture of `side` px square."""
    import resvg_py  # only here, so that machines with finished sprites do without

    svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width} {height}" width="{side}" height="{side}">{body}</svg>'
    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")


@lru_cache
def _icons(folder: Path, package: str) -> dict:
    return json.loads((folder / "node_modules" / package / "icons.json").read_text())


def _iconify(folder: Path, package: str, name: str) -> Image.Image | None:
    icons = _icons(folder, package)
    while name in icons.get("aliases", {}):
        name = icons["aliases"][name]["parent"]
    icon = icons["icons"].get(name)
    if icon is None:
        return None
    width = icon.get("width", icons.get("width", 16))
    return render_svg(icon["body"], width, icon.get("height", icons.get("height", 16)))


@lru_cache
def code_points(folder: Path) -> dict[str, str]:
    """Name -> code point of every drawing in the 3D set, by the cartoon set's names."""
    chars = json.loads((folder / "node_modules" / PACKAGES["cartoon"][0] / "chars.json").read_text())
    found: dict[str, str] = {}
    for code, name in chars.items():
        found.setdefault(name, code)
    return found


def _glossy(folder: Path, name: str) -> Image.Image | None:
    code = code_points(folder).get(name)
    assets = folder / "node_modules" / PACKAGES["glossy"][0] / "assets"
    for stem in (code, f"{code}-fe0f"):
        path = assets / f"{stem}.webp"
        if path.exists():
            return Image.open(path).convert("RGBA").resize((SPRITE, SPRITE), Image.Resampling.LANCZOS)
    return None


def _lines(picture: Image.Image) -> np.ndarray:
    """Ink (0..1) where colour or coverage changes."""
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.8)), dtype=np.float32) / 255
    pixels = np.concatenate([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], axis=-1)
    dy, dx = np.gradient(pixels, axis=(0, 1))
    strength = np.sqrt((dx**2 + dy**2).sum(-1))
    ink = Image.fromarray((np.clip((strength - 0.05) * 8, 0, 1) * 255).astype(np.uint8))
    return np.asarray(ink.filter(ImageFilter.MaxFilter(3)).filter(ImageFilter.GaussianBlur(0.6)), np.float32) / 255


def _outline(picture: Image.Image) -> Image.Image:
    """Black lines on white paper cut to the thing's shape."""
    picture = _scaled_within(picture, 0.94)
    ink = _lines(picture)
    alpha = np.maximum(np.asarray(picture.getchannel("A"), np.float32) / 255, ink)
    grey = 1 - 0.95 * ink
    rgba = np.stack([grey, grey, grey, alpha], -1)
    return Image.fromarray((rgba * 255).astype(np.uint8), "RGBA")


def _sketch(picture: Image.Image) -> Image.Image:
    """Grey tones with darker lines, as with a soft lead."""
    picture = _scaled_within(picture, 0.94)
    ink = _lines(picture) * 0.7
    grey = np.asarray(picture.convert("L"), np.float32) / 255 * 0.75 + 0.12
    grey = grey * (1 - ink) + 0.15 * ink
    rgba = np.stack([grey, grey, grey * 1.03, np.asarray(picture.getchannel("A"), np.float32) / 255], -1)
    return Image.fromarray((np.clip(rgba, 0, 1) * 255).astype(np.uint8), "RGBA")


def _scaled_within(picture: Image.Image, share: float) -> Image.Image:
    side = int(picture.width * share)
    out = Image.new("RGBA", picture.size)
    offset = (picture.width - side) // 2
    out.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (offset, offset))
    return out


def draw_thing(folder: Path, name: str, style: str) -> Image.Image | None:
    """`name` in `style` as a 128 px RGBA picture, cropped to what is drawn and centred; None where no set has it."""
    package = (PACKAGES | MORE).get(style, PACKAGES["flat"])[0]
    picture = _glossy(folder, name) if style == "glossy" else _iconify(folder, package, name)
    if picture is None:
        return None
    box = picture.getchannel("A").point(lambda a: 255 if a > 16 else 0).getbbox()
    if box is None:
        return None
    side = max(box[2] - box[0], box[3] - box[1])
    square = Image.new("RGBA", (side, side))
    square.paste(picture.crop(box), ((side - box[2] + box[0]) // 2, (side - box[3] + box[1]) // 2))
    picture = square.resize((SPRITE, SPRITE), Image.Resampling.LANCZOS)
    change = {"outline": _outline, "sketch": _sketch}.get(style)
    return change(picture) if change else picture


def paint(picture: Image.Image, hue: float) -> Image.Image:
    """Turn every clearly coloured pixel to `hue` (0..1)."""
    hsv = np.asarray(picture.convert("RGB").convert("HSV")).copy()
    coloured = hsv[..., 1] > 60
    hsv[..., 0] = np.where(coloured, int(hue * 255), hsv[..., 0])
    hsv[..., 1] = np.where(coloured, np.maximum(hsv[..., 1], 150), hsv[..., 1])
    out = Image.fromarray(hsv, "HSV").convert("RGB")
    out.putalpha(picture.getchannel("A"))
    return out


def accessory(name: str) -> Image.Image:
    """A party hat, sunglasses or a bow tie, 128 px wide."""
    body = {
        "party hat": '<path d="M20 120 64 6 108 120Z" fill="#e0338f"/><path d="M38 74 88 66 95 86 30 96Z" fill="#ffd23e"/><circle cx="64" cy="12" r="11" fill="#36c5d8"/>',
        "sunglasses": '<path d="M2 46h124v12H2z" fill="#111"/><rect x="8" y="44" width="48" height="38" rx="16" fill="#111"/><rect x="72" y="44" width="48" height="38" rx="16" fill="#111"/><path d="M18 54l16-4-10 18z" fill="#667"/>',
        "bow tie": '<path d="M6 34 64 64 6 94Z" fill="#c8102e"/><path d="M122 34 64 64l58 30Z" fill="#c8102e"/><rect x="52" y="50" width="24" height="28" rx="6" fill="#8c0b20"/>',
    }[name]
    return render_svg(body, 128, 128)


def _plain(rgb: tuple[int, int, int], rng: random.Random) -> str:
    red, green, blue = (min(255, max(0, c + rng.randint(-10, 10))) for c in rgb)
    return f'<rect width="64" height="64" fill="rgb({red},{green},{blue})"/>'


def _waves(rng: random.Random, y: float, colour: str) -> str:
    bend = rng.uniform(-4, 4)
    return f'<path d="M0 {y} Q16 {y + bend} 32 {y} T64 {y} V64 H0Z" fill="{colour}"/>'


def _scene(name: str, rng: random.Random) -> str:
    u = rng.uniform
    if name == "beach":
        return (
            '<rect width="64" height="64" fill="#8fd3f4"/>'
            + f'<rect y="{u(20, 26)}" width="64" height="24" fill="#2f8fd0"/>'
            + _waves(rng, u(36, 42), "#f2dca0")
            + f'<circle cx="{u(6, 58)}" cy="{u(6, 14)}" r="6" fill="#fff3a8"/>'
        )
    if name == "snow":
        flakes = "".join(f'<circle cx="{u(0, 64)}" cy="{u(0, 64)}" r="{u(0.8, 1.6)}" fill="#fff"/>' for _ in range(22))
        return '<rect width="64" height="64" fill="#b9d3ea"/>' + _waves(rng, u(36, 44), "#f7fbff") + flakes
    if name == "forest":
        trees = "".join(
            f'<path d="M{x} {u(4, 14)} l8 {u(28, 34)} h-16Z" fill="{rng.choice(("#1f6b3a", "#17542d", "#2b7d46"))}"/>'
            for x in range(rng.randint(0, 6), 70, 9)
        )
        return (
            f'<rect width="64" height="64" fill="#a9d8b0"/>{trees}<rect y="38" width="64" height="26" fill="#3c7a3a"/>'
        )
    if name == "night":
        stars = "".join(
            f'<circle cx="{u(0, 64)}" cy="{u(0, 48)}" r="{u(0.6, 1.2)}" fill="#fff7cf"/>' for _ in range(18)
        )
        moon = f'<circle cx="{u(6, 58)}" cy="{u(6, 14)}" r="5.5" fill="#f6edc0"/>'
        return f'<rect width="64" height="64" fill="#141a46"/>{stars}{moon}' + _waves(rng, u(48, 54), "#0b0f2a")
    if name == "city":
        houses = ""
        x = -rng.randint(0, 6)
        while x < 64:
            w, top = rng.randint(9, 14), rng.randint(6, 26)
            colour = rng.choice(("#6d7a8f", "#8793a6", "#596579"))
            houses += f'<rect x="{x}" y="{top}" width="{w}" height="50" fill="{colour}"/>'
            houses += "".join(
                f'<rect x="{x + dx}" y="{top + dy}" width="2.4" height="3" fill="#ffe08a"/>'
                for dx in (2, 6)
                for dy in range(4, 30, 7)
            )
            x += w + 1
        return (
            f'<rect width="64" height="64" fill="#c9dcec"/>{houses}<rect y="48" width="64" height="16" fill="#4a4d55"/>'
        )
    if name == "meadow":
        flowers = "".join(
            f'<circle cx="{u(0, 64)}" cy="{u(40, 64)}" r="1.5" fill="{rng.choice(("#fff", "#ffd84d", "#ff8ab3"))}"/>'
            for _ in range(9)
        )
        cloud = f'<ellipse cx="{u(8, 56)}" cy="{u(6, 14)}" rx="10" ry="4" fill="#fff"/>'
        return f'<rect width="64" height="64" fill="#9fdcff"/>{cloud}' + _waves(rng, u(30, 38), "#63c04f") + flowers
    if name == "underwater":
        bubbles = "".join(
            f'<circle cx="{u(0, 64)}" cy="{u(0, 56)}" r="{u(1.2, 2.6)}" fill="none" stroke="#c9f4ff" stroke-width=".9"/>'
            for _ in range(11)
        )
        weed = "".join(
            f'<path d="M{x} 64 q-4 -9 0 -14 t0 -10" stroke="#1d8a6b" stroke-width="2.4" fill="none"/>'
            for x in (u(2, 12), u(50, 62))
        )
        return f'<rect width="64" height="64" fill="#1596b8"/>{bubbles}{weed}' + _waves(rng, u(54, 58), "#d9c48a")
    return (
        '<rect width="64" height="64" fill="#fbd9a0"/>'
        + f'<circle cx="{u(8, 56)}" cy="{u(8, 14)}" r="6" fill="#ff8a3c"/>'
        + _waves(rng, u(28, 34), "#e0a95a")
        + _waves(rng, u(42, 48), "#c98a3d")
    )


def draw_background(name: str, rng: random.Random, side: int) -> Image.Image:
    """A named background as an RGBA picture of `side` px; no two are quite the same."""
    plain = world.PLAIN_COLOURS.get(name)
    return render_svg(_plain(plain, rng) if plain else _scene(name, rng), 64, 64, side)


def composite(layers: list[Image.Image]) -> Image.Image:
    """Layers of one size, first at the bottom, as RGB."""
    out = layers[0]
    for layer in layers[1:]:
        out = Image.alpha_composite(out, layer)
    return out.convert("RGB")


def shadow(layer: Image.Image) -> Image.Image:
    """A soft shadow below a placed thing, so that a white thing shows on white."""
    alpha = layer.getchannel("A").filter(ImageFilter.GaussianBlur(1.6)).point(lambda a: int(a * 0.35))
    out = Image.new("RGBA", layer.size, (0, 0, 0, 0))
    out.putalpha(ImageChops.offset(alpha, 0, 1))
    return out
