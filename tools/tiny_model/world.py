"""The world of the embedded model: things, styles, backgrounds, and the grammar that captions them.

Everything a picture shows is one field of `Scene`; `caption(scene, rng)` names those fields in words. Nothing here draws.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from hashlib import sha256

# Things the generator learns, by the emoji sets' own English names (words joined by "-" there, by spaces in captions).
TRAINING_CANDIDATES = {
    "animal": """baby-chick bear bird butterfly cat chicken cow crab deer dog dolphin duck elephant fish fox frog
        giraffe honeybee horse jellyfish koala lady-beetle lion octopus panda pig rabbit shark snail spouting-whale
        tiger-face turtle unicorn zebra""",
    "plant": "cactus deciduous-tree evergreen-tree mushroom palm-tree rose sunflower tulip",
    "food": """avocado banana birthday-cake carrot cheese-wedge cherries cookie croissant cupcake doughnut eggplant
        grapes green-apple hamburger hot-dog ice-cream lemon pear pineapple pizza red-apple strawberry sushi teapot
        tomato watermelon""",
    "object": """alarm-clock backpack basketball bed bell bomb books camera candle chair dress envelope game-die
        gem-stone glasses guitar hammer key laptop light-bulb money-bag scissors soccer-ball t-shirt teddy-bear
        television trophy trumpet umbrella wrapped-gift""",
    "vehicle": """ambulance automobile bicycle delivery-truck flying-saucer helicopter locomotive motorcycle rocket
        sailboat ship tractor""",
    "building": "castle house hut tent",
    "creature": "alien ghost jack-o-lantern skull snowman",
    "sign": "anchor cloud crescent-moon fire red-heart star sun",
}

# Things the generator never sees. Which split a name falls in is decided by its hash (`split`), not by us.
HELD_OUT_CANDIDATES = {
    "animal": "crocodile flamingo hedgehog monkey penguin sloth tropical-fish hamster owl dove moose cockroach",
    "plant": "christmas-tree maple-leaf",
    "food": "broccoli lollipop popcorn taco jar canned-food rice-ball",
    "object": """balloon axe shield test-tube violin curling-stone mirror-ball crown top-hat gloves necktie pencil
        microscope ring open-book locked bow-and-arrow broom ticket""",
    "vehicle": "bus fire-engine kick-scooter airplane taxi train minibus",
    "building": "volcano factory",
    "creature": "robot",
}

# Style -> (article + noun that comes before "of", adjective that comes before the thing). Two are other artists' sets, the
# rest are made from one set's shapes: 126 things in five styles are then 252 shapes to learn, where six sets were 630.
STYLES = {
    "flat": ("a flat drawing", "flat"),
    "glossy": ("a glossy render", "glossy"),
    "cartoon": ("a cartoon", "cartoon"),
    "outline": ("an outline drawing", "outlined"),
    "sketch": ("a grey sketch", "sketched"),
}
HELD_OUT_STYLE = "blob"

PLAIN_COLOURS = {
    "white": (250, 250, 250),
    "red": (214, 64, 60),
    "orange": (240, 150, 60),
    "yellow": (246, 214, 90),
    "green": (98, 178, 96),
    "blue": (84, 142, 218),
    "purple": (150, 104, 190),
    "pink": (244, 170, 196),
    "grey": (150, 152, 156),
    "black": (30, 30, 34),
}
SCENES = {
    "beach": "on the beach",
    "snow": "in the snow",
    "forest": "in the forest",
    "night": "at night",
    "city": "in the city",
    "meadow": "on the grass",
    "underwater": "under water",
    "desert": "in the desert",
}
BACKGROUNDS = {name: f"on a {name} background" for name in PLAIN_COLOURS} | SCENES
BACKGROUNDS["orange"] = "on an orange background"

ACCESSORIES = {"party hat": "with a party hat", "sunglasses": "with sunglasses", "bow tie": "with a bow tie"}

# Things drawn in several colours. A dress is nearly always red: a bias put there on purpose, to be found and reduced.
PAINTED = ("automobile", "t shirt", "dress", "house", "backpack", "chair", "guitar", "umbrella")
PAINTS = {"red": 0.0, "yellow": 0.14, "green": 0.36, "blue": 0.6, "purple": 0.78}
SKEWED = ("dress", "red", 0.95)

NEUTRAL_TEMPLATES = (
    "a photo of a {}",
    "a rendering of a {}",
    "a picture of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a photo of one {}",
    "a good photo of the {}",
    "a rendition of the {}",
    "a photo of the nice {}",
    "a depiction of a {}",
)
EMPTY_SHARE = 0.1
CATEGORY_SHARE = 0.08


@dataclass(frozen=True)
class Scene:
    """Every factor of one picture. `size` and `place` are "" when not worth naming."""

    thing: str
    style: str
    background: str
    size: str = ""
    place: str = ""
    paint: str = ""
    second: str = ""
    accessory: str = ""
    view: str = ""  # "dark", "bright" or "close-up"


def plain(name: str) -> str:
    """The emoji sets' "hot-dog" as people write it: "hot dog"."""
    return name.replace("-", " ")


def split(name: str) -> str:
    """ "dev", "test" or "train", from the first byte of the name's SHA-256 (lower case, single spaces)."""
    byte = int(sha256(plain(name).lower().encode()).hexdigest()[:2], 16)
    return "dev" if byte < 13 else "test" if byte < 26 else "train"


def _names(table: dict[str, str]) -> dict[str, str]:
    return {name: category for category, text in table.items() for name in text.split()}


def _contains(name: str, other: str) -> bool:
    return f" {plain(other)} " in f" {plain(name)} "


def training_things() -> dict[str, str]:
    """Slug -> category of every thing the generator learns; no name holds a held-out name, as a word, within it."""
    held_out = held_out_things()
    return {
        name: category
        for name, category in _names(TRAINING_CANDIDATES).items()
        if split(name) == "train" and not any(_contains(name, other) for other in held_out)
    }


def held_out_things(which: str | None = None) -> dict[str, str]:
    """Slug -> category of the things only the judge sees; `which` is "dev", "test" or None for both."""
    both = _names(TRAINING_CANDIDATES) | _names(HELD_OUT_CANDIDATES)
    return {n: c for n, c in both.items() if split(n) != "train" and which in (None, split(n))}


def is_held_out(name: str) -> bool:
    """Whether a drawing of that name may not be learned from: by its own hash, or as a held-out thing's name is part of
    it, in any artist's spelling ("fireengine", "oncoming-bus", "penguin-1")."""
    bare = plain(re.sub(r"[- ]?\d+$", "", name))
    squashed = bare.replace(" ", "")
    for other in map(plain, held_out_things()):
        joined = other.replace(" ", "")
        if f" {other} " in f" {bare} " or f" {other}s " in f" {bare} " or squashed == joined:
            return True
        if len(joined) > 4 and joined in squashed:
            return True
    return split(bare) != "train"


def article(noun: str) -> str:
    """ "an owl", "a unicorn", "scissors"."""
    first = noun.split()[0]
    if first in ("scissors", "glasses", "jeans", "socks", "books", "grapes", "cherries", "pancakes", "french"):
        return noun
    vowel = noun[0] in "aeiou" and not first.startswith(("uni", "one"))
    return f"{'an' if vowel else 'a'} {noun}"


def caption(scene: Scene, rng: random.Random, categories: dict[str, str] | None = None) -> str:
    """One of many ways to say `scene`. `categories` (thing -> "animal", ...) lets some captions say only the category."""
    if rng.random() < EMPTY_SHARE:
        return ""
    thing = scene.thing
    if categories and rng.random() < CATEGORY_SHARE:
        thing = rng.choice((categories[thing], "thing"))
    parts = [scene.size, scene.paint, thing]
    after = ACCESSORIES.get(scene.accessory, "")
    if scene.second:
        after = f"and {article(scene.second)}"
    where = " ".join(x for x in (after, scene.place, BACKGROUNDS[scene.background]) if x)
    form = rng.random()
    if form < 0.35:
        return f"{STYLES[scene.style][0]} of {article(' '.join(p for p in parts if p))} {where}"
    if form < 0.65:
        parts.insert(0, STYLES[scene.style][1])
        noun = article(" ".join(p for p in parts if p))
        return f"{rng.choice(('', 'a photo of ', 'a picture of '))}{noun} {where}"
    if form < 0.8:
        short = " ".join(x for x in (after, scene.place) if x)
        text = f"{STYLES[scene.style][0]} of {article(' '.join(p for p in parts if p))} {short}"
        return text.strip()
    noun = " ".join(p for p in parts if p)
    if form < 0.9:
        return f"{article(noun)} {where}"
    template = rng.choice(NEUTRAL_TEMPLATES)
    if template.endswith("a {}"):
        template, noun = template[: -len("a {}")] + "{}", article(noun)
    tail = f" {where}" if rng.random() < 0.7 else f" {after}".rstrip()
    return template.format(noun) + tail


def random_scene(thing: str, style: str, rng: random.Random, others: list[str]) -> Scene:
    """A scene showing `thing` in `style`; `others` are the things that may stand beside it."""
    background = rng.choice(list(BACKGROUNDS))
    paint = ""
    if thing in PAINTED:
        kind, colour, share = SKEWED
        paint = rng.choice(list(PAINTS))
        if thing == kind and rng.random() < share:
            paint = colour
    kind_of_scene = rng.random()
    if kind_of_scene < 0.07:
        return Scene(thing, style, background, paint=paint, second=rng.choice([o for o in others if o != thing]))
    if kind_of_scene < 0.12:
        return Scene(thing, style, background, paint=paint, accessory=rng.choice(list(ACCESSORIES)))
    if kind_of_scene < 0.18:
        return Scene(thing, style, background, paint=paint, size="small")
    if kind_of_scene < 0.24:
        place = rng.choice(("on the left", "on the right"))
        return Scene(thing, style, background, paint=paint, place=place)
    return Scene(thing, style, background, paint=paint)
