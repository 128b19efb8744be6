"""Step 2: compose pictures with captions from things, styles and backgrounds.

Writes `pictures.npy` (n, 64, 64, 3) uint8, `scenes.json` (the factors of each) and the sprites it used.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from . import drawings, world

SIDE = 64


def load_sprites(folder: Path, things: list[str], styles: list[str]) -> dict[tuple[str, str], Image.Image]:
    """(plain name, style) -> 128 px RGBA picture, for every pair that the sets draw."""
    sprites = {}
    for thing in tqdm(things, desc="things"):
        for style in styles:
            picture = drawings.draw_thing(folder, thing, style)
            if picture is not None:
                sprites[world.plain(thing), style] = picture
    return sprites


def _place(sprite: Image.Image, side: float, cx: float, cy: float, angle: float, canvas: int) -> Image.Image:
    """`sprite` turned by `angle` degrees, `side` px large, its centre at (cx, cy), on an empty canvas."""
    turned = sprite.rotate(angle, Image.Resampling.BILINEAR) if angle else sprite
    size = max(4, round(side))
    small = turned.resize((size, size), Image.Resampling.LANCZOS)
    out = Image.new("RGBA", (canvas, canvas))
    out.paste(small, (round(cx - size / 2), round(cy - size / 2)))
    return out


def draw_scene(scene: world.Scene, sprites: dict, rng: random.Random, side: int = SIDE) -> Image.Image:
    """The picture of a scene, with position, size and tilt drawn from `rng`."""
    s = side / 64
    u = rng.uniform
    layers = [drawings.draw_background(scene.background, rng, side)]

    def add(name: str, style: str, size: float, x: float, y: float) -> None:
        sprite = sprites[name, style]
        if scene.paint and name == scene.thing and style not in ("outline", "sketch"):
            sprite = drawings.paint(sprite, world.PAINTS[scene.paint])
        layer = _place(sprite, size * s, x * s, y * s, u(-4, 4), side)
        layers.extend([drawings.shadow(layer), layer])

    if scene.second:
        add(scene.thing, scene.style, u(28, 31), 16.5 + u(-1, 1), 34 + u(-3, 3))
        add(scene.second, scene.style, u(28, 31), 47.5 + u(-1, 1), 34 + u(-3, 3))
        return drawings.composite(layers)
    size = {"small": u(22, 27)}.get(scene.size, u(45, 51) if not scene.place else u(31, 36))
    x = (
        {"on the left": 19.0, "on the right": 45.0}.get(scene.place, 32.0)
        + u(-1.5, 1.5)
        + (scene.size == "small") * u(-8, 8)
    )
    y = 33 + u(-1.5, 1.5) + (scene.size == "small") * u(-4, 6)
    if scene.accessory == "party hat":
        y, size = 38 + u(-1, 1), size * 0.85
    add(scene.thing, scene.style, size, x, y)
    if scene.accessory:
        dy, width = {"party hat": (-0.58, 0.42), "sunglasses": (-0.16, 0.55), "bow tie": (0.24, 0.4)}[scene.accessory]
        item = drawings.accessory(scene.accessory)
        layers.append(_place(item, size * width * s, x * s, (y + dy * size) * s, u(-6, 6), side))
    return drawings.composite(layers)


def compose(
    sprites: dict, things: list[str], styles: list[str], count: int, seed: int
) -> tuple[np.ndarray, list[dict]]:
    """`count` pictures that show every (thing, style) pair equally often."""
    rng = random.Random(seed)
    pairs = [(t, s) for t in things for s in styles if (t, s) in sprites]
    pictures = np.empty((count, SIDE, SIDE, 3), np.uint8)
    scenes = []
    for i in tqdm(range(count), desc="pictures"):
        thing, style = pairs[i % len(pairs)]
        others = [t for t in things if (t, style) in sprites]
        scene = world.random_scene(thing, style, rng, others)
        if scene.style in ("outline", "sketch"):
            scene = world.Scene(**{**asdict(scene), "paint": ""})
        pictures[i] = np.asarray(draw_scene(scene, sprites, rng))
        scenes.append(asdict(scene))
    return pictures, scenes


def run(assets: Path, out: Path, count: int, judge_count: int, seed: int = 0) -> None:
    """Write the generator's world to `out`/train and the judge's wider one (held-out things too) to `out`/judge."""
    train = world.training_things()
    styles = list(world.STYLES)
    jobs = {
        "train": (list(train), styles, count, seed),
        "judge": (list(train | world.held_out_things()), [*styles, world.HELD_OUT_STYLE], judge_count, seed + 1),
    }
    for name, (things, some_styles, n, s) in jobs.items():
        folder = out / name
        if (folder / "scenes.json").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        sprites = load_sprites(assets, things, some_styles)
        pictures, scenes = compose(sprites, [world.plain(t) for t in things], some_styles, n, s)
        np.save(folder / "pictures.npy", pictures)
        (folder / "scenes.json").write_text(json.dumps(scenes))
