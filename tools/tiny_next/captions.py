"""What is said of a scene: by names, or with a vector in the place of the thing's name or of its style's.

`WORD` and `STYLE` mark those places; `tokenise` turns them into ids past the vocabulary.
"""

from __future__ import annotations

import random

import torch
from transformers import CLIPTokenizer

from tools.tiny_model import world

WORD, STYLE = "\x01", "\x02"
VIEWS = {
    "dark": ("a dark photo of the {}",),
    "bright": ("a bright photo of the {}",),
    "close-up": ("a close-up photo of a {}", "a close-up photo of the {}", "a cropped photo of the {}", "a cropped photo of a {}"),
}  # fmt: skip
PLAIN_VIEWS = (
    "a photo of a {}", "a rendering of a {}", "a picture of a {}", "the photo of a {}", "a photo of a clean {}", "a photo of my {}",
    "a photo of a dirty {}", "a photo of the cool {}", "a photo of the {}", "a good photo of the {}", "a photo of one {}", "a rendition of the {}",
    "a photo of the clean {}", "a rendition of a {}", "a photo of a nice {}", "a good photo of a {}", "a photo of the nice {}",
    "a photo of the weird {}", "a photo of a cool {}", "a depiction of a {}", "an illustration of a {}", "an image of a {}",
)  # fmt: skip
STYLE_LINES = (
    "a painting in the style of {}", "a rendering in the style of {}", "the painting in the style of {}", "a clean painting in the style of {}",
    "a dirty painting in the style of {}", "a picture in the style of {}", "a cool painting in the style of {}", "a good painting in the style of {}",
    "a rendition in the style of {}", "a nice painting in the style of {}", "a weird painting in the style of {}", "a drawing in the style of {}",
)  # fmt: skip
STYLE_VIEWS = {
    "dark": "a dark painting in the style of {}", "bright": "a bright painting in the style of {}",
    "close-up": "a close-up painting in the style of {}", "small": "a small painting in the style of {}", "large": "a large painting in the style of {}",
}  # fmt: skip


def where(scene: world.Scene) -> str:
    """All that follows the thing: who stands beside it, what it wears, where."""
    after = world.ACCESSORIES.get(scene.accessory, "")
    if scene.second:
        after = f"and {world.article(scene.second)}"
    return " ".join(x for x in (after, scene.place, world.BACKGROUNDS[scene.background]) if x)


def caption(scene: world.Scene, rng: random.Random, categories: dict[str, str], *, thing: str = "", style: str = "",
            name_style: float = 0.92) -> str:  # fmt: skip
    """One of many ways to say `scene`.

    Args:
        scene: its style is named with probability `name_style` where it has a name.
        categories: thing -> "animal", ...; some captions say only that.
        thing, style: `WORD`, `STYLE` where a vector says it.
    """
    if rng.random() < world.EMPTY_SHARE:
        return ""
    noun = thing or scene.thing
    if not thing and noun in categories and rng.random() < world.CATEGORY_SHARE:
        noun = rng.choice((categories[noun], "thing"))
    if style:
        return _with_style(scene, noun, rng)
    noun = " ".join(p for p in (scene.size, scene.paint, noun) if p)
    place = where(scene)
    if scene.view or scene.style not in world.STYLES or rng.random() > name_style:
        line = rng.choice(VIEWS.get(scene.view, PLAIN_VIEWS))
        if not scene.view and rng.random() < 0.3:
            line = "a {}"
        said = _fill(line, noun)
        named = scene.style in world.STYLES and rng.random() < 0.5
        said = f"{said} as {world.STYLES[scene.style][0]}" if named and scene.view else said
        return f"{said} {place}" if rng.random() < 0.75 else said
    long, short = world.STYLES[scene.style]
    if rng.random() < 0.6:
        said = f"{long} of {world.article(noun)}"
    else:
        said = rng.choice(("", "", "a photo of ", "a picture of ")) + world.article(f"{short} {noun}")
    short_place = " ".join(x for x in (place.removesuffix(world.BACKGROUNDS[scene.background]).strip(),) if x)
    return f"{said} {place}" if rng.random() < 0.8 else f"{said} {short_place}".strip()


def _fill(line: str, noun: str) -> str:
    return line.replace("a {}", world.article(noun)) if line.endswith("a {}") else line.format(noun)


def _with_style(scene: world.Scene, noun: str, rng: random.Random) -> str:
    if rng.random() < 0.35 and not scene.second and not scene.accessory:
        line = STYLE_VIEWS.get(scene.view or scene.size) or rng.choice(STYLE_LINES)
        return line.format(STYLE) + (f" {world.BACKGROUNDS[scene.background]}" if rng.random() < 0.5 else "")
    noun = " ".join(p for p in (scene.size, scene.paint, noun) if p)
    said = _fill(
        rng.choice(VIEWS[scene.view])
        if scene.view
        else rng.choice(("a {}", "a picture of a {}", "a drawing of a {}", "a photo of a {}", "a painting of a {}")),
        noun,
    )
    place = where(scene) if rng.random() < 0.75 else ""
    return (
        f"{said} in the style of {STYLE} {place}".strip()
        if rng.random() < 0.6
        else f"{said} {place} in the style of {STYLE}".replace("  ", " ")
    )


def tokenise(texts: list[str], tokenizer: CLIPTokenizer, length: int) -> torch.Tensor:
    """Ids (b, length); in text i `WORD` becomes id `len(tokenizer) + 2 i`, `STYLE` the next one."""
    size, rows = len(tokenizer), []
    pieces, shape = [], []
    for text in texts:
        parts = text.replace(WORD, f"\x00{WORD}\x00").replace(STYLE, f"\x00{STYLE}\x00").split("\x00")
        shape.append(parts)
        pieces += [p for p in parts if p not in (WORD, STYLE)]
    encoded = iter(tokenizer(pieces, add_special_tokens=False).input_ids)
    for i, parts in enumerate(shape):
        ids = [tokenizer.bos_token_id]
        for part in parts:
            ids += [size + 2 * i] if part == WORD else [size + 2 * i + 1] if part == STYLE else next(encoded)
        ids = ids[: length - 1]
        rows.append(ids + [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * (length - 1 - len(ids)))
    return torch.tensor(rows)
