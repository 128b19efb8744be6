"""Step 2: every drawing of the world as a sprite, 104 px RGBA with premultiplied alpha, and what each shows.

Two kinds of names: `named` things are spoken in captions; the rest (faces, people, signs, other artists' sets) only ever
stand behind a vector of their own, so that "one vector, any drawing" is familiar to the generator. Nothing held out, under
any artist's spelling of its name, is among them.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from tools.tiny_model import drawings, world
from tools.tiny_model.fetch import MORE, PACKAGES

SIDE = 104
ARTISTS = ("flat", "glossy", "cartoon", "twemoji", "fxemoji", "emojione", "streamline")
DERIVED = ("outline", "sketch")  # made from the flat set

_TONES = re.compile(r"skin-tone|-(light|medium|dark|medium-light|medium-dark)(-|$)|flag-|^flag|regional|keycap")
_NO_THING = re.compile(
    r"face|heart|circle|square|hand|finger|thumb|fist|button|arrow|clock-|moon|sun-|speech|speaker|symbol|cross|"
    r"question|exclamation|heavy|sign|input|antenna|triangle|diamond-with|blue-diamond|orange-diamond|bubble|no-|mans|"
    r"womans|person|people|man$|woman|^man|girl|boy|child|baby$|pregnant|worker|officer|suit|asterisk|loop|mark|claus|"
    r"prince|judge|singer|pilot|cook$|student|teacher|artist$|farmer|mechanic$|scientist|technologist|guard|detective|"
    r"ninja|astronaut|selfie|globe|speaking|silhouette|foot|leg$|ear$|nose|mouth|tongue|^eye|tooth$|brain|lungs|"
    r"place-|room|closet|volume|restroom|customs|luggage|information|aquarius|aries|cancer|capricorn|gemini|leo$|libra|"
    r"ophiuchus|pisces|sagittarius|scorpio$|taurus|virgo|-cat$|cat-with|monkey|zzz|om$|copyright|registered|trade|"
    r"plus|minus|multiply|divide|infinity|japanese|level|memo|page|tray|chart|calendar|folder|notebook|bookmark|"
    r"oclock|thirty|flag|map-of|wavy|hundred|prohibited|vibration|wireless|dashing|dizzy|fog|sparkle$|trident|wheel-of"
)


@dataclass(frozen=True)
class Sprite:
    """One drawing: the thing's name in plain words, whose style, whether captions may name it, its paint or ""."""

    name: str
    style: str
    named: bool
    paint: str = ""


def _names(folder: Path, style: str) -> set[str]:
    if style == "glossy":
        return set(drawings.code_points(folder))
    icons = json.loads((folder / "node_modules" / (PACKAGES | MORE)[style][0] / "icons.json").read_text())
    return {n for n, icon in (icons["icons"] | icons.get("aliases", {})).items() if not icon.get("hidden")}


def choose(folder: Path, held_out: bool = False) -> list[Sprite]:
    """All sprites to draw, the named things first in each set.

    Args:
        held_out: for the judge, which knows them: the held-out things and the held-out style too, and every artist's
            drawing of a thing is named.
    """
    artists = (*ARTISTS, world.HELD_OUT_STYLE) if held_out else ARTISTS
    sets = {
        s: {n for n in _names(folder, s) if not _TONES.search(n) and (held_out or not world.is_held_out(n))}
        for s in artists
    }
    shared = sets["flat"] & sets["cartoon"] & sets["glossy"]
    things = {n for n in shared if not _NO_THING.search(n) and n.count("-") < 3} | set(world.training_things())
    things |= set(world.held_out_things()) if held_out else set()
    out = []
    for style in (*ARTISTS[:3], *DERIVED, *artists[3:]):
        source = sets["flat"] if style in DERIVED else sets[style]
        wanted = sorted(things & source) if style in DERIVED or held_out else sorted(source)
        for name in wanted:
            out.append(Sprite(world.plain(name), style, name in things and (held_out or style in world.STYLES)))
            if world.plain(name) in world.PAINTED and style in ("flat", "glossy", "cartoon"):
                out += [Sprite(world.plain(name), style, True, paint) for paint in world.PAINTS]
    return out


def render(folder: Path, sprite: Sprite) -> np.ndarray | None:
    """(104, 104, 4) uint8, premultiplied; None where the set has no such drawing."""
    picture = drawings.draw_thing(folder, sprite.name.replace(" ", "-"), sprite.style)
    if picture is None:
        return None
    if sprite.paint:
        picture = drawings.paint(picture, world.PAINTS[sprite.paint])
    pixels = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    return pixels.round().astype(np.uint8)


def run(folder: Path, out: Path, held_out: bool = False) -> None:
    """Write `sprites.npy` (n, 104, 104, 4) and `sprites.json` of `choose(folder, held_out)` to `out`."""
    if (out / "sprites.json").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    pixels, kept, seen = [], [], set()
    for sprite in tqdm(choose(folder, held_out), desc="sprites"):
        drawn = render(folder, sprite)
        key = drawn.tobytes() if drawn is not None else b""
        if drawn is None or (drawn[..., 3] > 16).mean() < 0.03 or (key in seen and not sprite.named):
            continue
        seen.add(key)
        pixels.append(drawn)
        kept.append(sprite)
    np.save(out / "sprites.npy", np.stack(pixels))
    (out / "sprites.json").write_text(json.dumps([asdict(s) for s in kept]))
    print(f"{len(kept)} sprites, {len({s.name for s in kept if s.named})} names")
