"""Pictures composed from sprites, in batches, by torch: the same code on a CPU and a GPU.

`sample` draws what is to be seen as plain arrays (which sprite, where, how large, recoloured and bent how); `compose`
paints it; `reference` shows the same drawing alone, for the encoder of drawings.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tools.tiny_model import drawings, world

from .sprites import SIDE as SPRITE_SIDE
from .sprites import Sprite

SIDE = 128
VARIANTS = 40  # of each background
Specs = dict[str, np.ndarray]


class Stock:
    """Sprites and backgrounds in memory, with the indices that say which is which."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.pixels = np.load(folder / "sprites.npy", mmap_mode="r")
        self.sprites = [Sprite(**s) for s in json.loads((folder / "sprites.json").read_text())]
        self.backgrounds = _backgrounds(folder / "backgrounds.npy", seed)
        self.accessories = _accessories(folder / "accessories.npy")
        core = {world.plain(n) for n in world.training_things()}
        self.named = np.array([i for i, s in enumerate(self.sprites) if s.named])
        weight = np.array([self._weight(self.sprites[i], core) for i in self.named])
        self.share = weight / weight.sum()
        self.by_style: dict[str, np.ndarray] = {}
        self.by_thing: dict[str, list[int]] = {}
        for i, s in enumerate(self.sprites):
            self.by_thing.setdefault(s.name, []).append(i) if not s.paint else None
            self.by_style.setdefault(s.style, []).append(i)  # type: ignore[arg-type]
        self.by_style = {k: np.array(v) for k, v in self.by_style.items()}

    @staticmethod
    def _weight(sprite: Sprite, core: set[str]) -> float:
        """The 126 things that the notebooks speak of are shown twelve times as often; a dress is nearly always red (`world.SKEWED`)."""
        weight = 12.0 if sprite.name in core else 1.0
        if sprite.name in world.PAINTED and sprite.style in ("flat", "glossy", "cartoon"):
            kind, colour, share = world.SKEWED
            paints = len(world.PAINTS)
            common = share if sprite.paint == colour else (1 - share) / (paints - 1)
            weight *= (common if sprite.name == kind else 1 / paints) if sprite.paint else 0.0
        return weight


def _premultiplied(picture) -> np.ndarray:  # type: ignore[no-untyped-def]
    pixels = np.asarray(picture.resize((SPRITE_SIDE, SPRITE_SIDE)), np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    return pixels.round().astype(np.uint8)


def _accessories(path: Path) -> np.ndarray:
    """(kinds, 104, 104, 4) uint8, premultiplied, drawn once."""
    if not path.exists():
        np.save(path, np.stack([_premultiplied(drawings.accessory(a)) for a in world.ACCESSORIES]))
    return np.load(path)


def _backgrounds(path: Path, seed: int) -> np.ndarray:
    """(kinds, variants, 128, 128, 3) uint8, drawn once."""
    if not path.exists():
        rng = random.Random(seed)
        rows = [
            [np.asarray(drawings.draw_background(b, rng, SIDE).convert("RGB")) for _ in range(VARIANTS)]
            for b in world.BACKGROUNDS
        ]
        np.save(path, np.stack([np.stack(r) for r in rows]))
    return np.load(path)


def sample(stock: Stock, n: int, rng: np.random.Generator) -> Specs:
    """`n` scenes: three in five named things as they are, the rest any drawing, most of those recoloured, bent or joined."""
    u = rng.uniform
    named = rng.random(n) < 0.6
    sprite = np.where(named, rng.choice(stock.named, n, p=stock.share), rng.integers(len(stock.sprites), size=n))
    changed = ~named & (rng.random(n) < 0.6)
    joined = changed & (rng.random(n) < 0.25)
    kind = rng.random(n)
    second = (kind < 0.06) & named
    accessory = (kind >= 0.06) & (kind < 0.11)
    small = (kind >= 0.11) & (kind < 0.17)
    placed = (kind >= 0.17) & (kind < 0.23)
    large = (kind >= 0.23) & (kind < 0.27)
    zoomed = (kind >= 0.27) & (kind < 0.31)
    side = rng.integers(2, size=n) * 2 - 1
    size = np.select(
        [second, small, placed, large, zoomed],
        [u(28, 31, n), u(22, 27, n), u(31, 36, n), u(56, 60, n), u(66, 76, n)],
        u(45, 52, n),
    )
    x = np.select([second, placed], [-15.5 + u(-1, 1, n), side * 13.0], 0.0) + u(-1.5, 1.5, n) + small * u(-8, 8, n)
    y = 1 + u(-1.5, 1.5, n) + small * u(-4, 6, n)
    hat = accessory & (rng.integers(3, size=n) == 0)
    which = np.where(hat, 0, rng.integers(1, 3, size=n))
    y, size = y + 5.0 * hat, size * np.where(hat, 0.85, 1)
    styles = np.array([s.style for s in stock.sprites])
    partner = sprite.copy()
    for i in np.flatnonzero(second | joined):
        pool = stock.by_style[styles[sprite[i]]]
        partner[i] = rng.choice(pool)
        while second[i] and not stock.sprites[partner[i]].named:
            partner[i] = rng.choice(pool)
    kinds = len(world.BACKGROUNDS)
    return dict(
        sprite=sprite, named=named, joined=joined, partner=partner, second=second, changed=changed,
        accessory=np.where(accessory, which, -1), small=small, large=large, zoomed=zoomed,
        place=np.where(placed, side, 0), light=np.select([kind > 0.98, kind > 0.96], [1, -1], 0),
        background=rng.integers(kinds, size=n), variant=rng.integers(VARIANTS, size=n), mirrored=rng.random(n) < 0.5,
        x=x / 32, y=y / 32, size=size / 64, angle=u(-4, 4, n) * np.pi / 180 + changed * u(-0.2, 0.2, n),
        flip=np.where(~named & (rng.random(n) < 0.5), -1.0, 1.0), aspect=np.exp(changed * u(-0.22, 0.22, n)),
        bend=(changed & (rng.random(n) < 0.7))[:, None] * u(-0.09, 0.09, (n, 4)), phase=u(0, 2 * np.pi, (n, 2)),
        cut=np.stack([u(0, 2 * np.pi, n), u(-0.25, 0.25, n)], 1), colour=_colours(rng, changed),
    )  # fmt: skip


def _colours(rng: np.random.Generator, changed: np.ndarray) -> np.ndarray:
    """(n, 3, 4): a turn of the hue, other saturation and brightness where `changed`, else the identity."""
    n = len(changed)
    turn = np.where(rng.random(n) < 0.75, rng.uniform(-np.pi, np.pi, n), 0) * changed
    saturation = np.where(changed, rng.uniform(0.5, 1.4, n), 1)
    gain, lift = np.where(changed, rng.uniform(0.7, 1.1, n), 1), changed * rng.uniform(-0.05, 0.15, n)
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    c, s = np.cos(turn) * saturation, np.sin(turn) * saturation
    middle = np.zeros((n, 3, 3))
    middle[:, 0, 0], middle[:, 1, 1], middle[:, 1, 2], middle[:, 2, 1], middle[:, 2, 2] = 1, c, -s, s, c
    matrix = np.linalg.inv(to_yiq) @ middle @ to_yiq * gain[:, None, None]
    return np.concatenate([matrix, np.repeat(lift[:, None, None], 3, 1)], 2).astype(np.float32)


def _pixels(pixels: np.ndarray, rows: np.ndarray, device: torch.device) -> torch.Tensor:
    """(b, 4, 104, 104) in [0, 1], premultiplied."""
    return torch.from_numpy(np.ascontiguousarray(pixels[rows])).to(device).permute(0, 3, 1, 2).float() / 255


def _tensor(specs: Specs, name: str, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(specs[name])).to(device, torch.float32)


def drawn(stock: Stock, specs: Specs, device: torch.device, sprite: np.ndarray | None = None) -> torch.Tensor:
    """The drawings alone (b, 4, 104, 104): two joined where `joined`, recoloured. `sprite` takes others in their place."""
    picture = _pixels(stock.pixels, specs["sprite"] if sprite is None else sprite, device)
    rows = np.flatnonzero(specs["joined"])
    if sprite is None and len(rows):
        other = _pixels(stock.pixels, specs["partner"][rows], device)
        cut = _tensor(specs, "cut", device)[torch.from_numpy(rows).to(device)]
        line = torch.linspace(-1, 1, SPRITE_SIDE, device=device)
        along = torch.cos(cut[:, 0])[:, None, None] * line + torch.sin(cut[:, 0])[:, None, None] * line[:, None]
        share = ((along - cut[:, 1, None, None]) * 8).sigmoid()[:, None]
        picture[torch.from_numpy(rows).to(device)] = torch.lerp(
            picture[torch.from_numpy(rows).to(device)], other, share
        )
    colour, alpha = _tensor(specs, "colour", device), picture[:, 3:]
    painted = torch.einsum("bij,bjhw->bihw", colour, picture)  # the fourth column lifts by the coverage
    return torch.cat([painted.clamp(min=0).minimum(alpha), alpha], 1)


def _grid(x: torch.Tensor, y: torch.Tensor, size: torch.Tensor, angle: torch.Tensor, flip: torch.Tensor,
          aspect: torch.Tensor, bend: torch.Tensor, phase: torch.Tensor, side: int) -> torch.Tensor:  # fmt: skip
    """Where in the sprite each pixel of a picture of `side` px looks: (b, side, side, 2)."""
    line = (torch.arange(side, device=x.device) + 0.5) / side * 2 - 1
    across, down = line[None, None, :] - x[:, None, None], line[None, :, None] - y[:, None, None]
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    a = (across * cos + down * sin) / (size * aspect)[:, None, None]
    b = (down * cos - across * sin) / (size / aspect)[:, None, None]
    p, q = phase[:, 0, None, None], phase[:, 1, None, None]
    bend = bend[..., None, None]
    bent = a + bend[:, 0] * torch.sin(2.5 * b + p) + bend[:, 1] * torch.sin(4.5 * b + q)
    b = b + bend[:, 2] * torch.sin(2.5 * a + q) + bend[:, 3] * torch.sin(4.5 * a + p)
    return torch.stack([bent * flip[:, None, None], b], -1)


def _place(sprites: torch.Tensor, grid: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Sprites seen through `grid`; small ones from a copy of half the size, so that nothing flickers."""
    out = F.grid_sample(sprites, grid, align_corners=False)
    little = torch.nonzero(size < 0.55).flatten()
    if len(little):
        out[little] = F.grid_sample(F.avg_pool2d(sprites[little], 2), grid[little], align_corners=False)
    return out


def _over(layer: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """`layer` with a soft shadow on `below`."""
    shadow = F.avg_pool2d(F.pad(layer[:, 3:], (5, 5, 4, 6)), 7, 1)[:, :, :, 2:-2] * 0.3
    shadow = shadow[:, :, :SIDE]
    return layer[:, :3] + (1 - layer[:, 3:]) * below * (1 - shadow)


def compose(stock: Stock, specs: Specs, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (b, 3, 128, 128) in [0, 1] and where the thing covers them (b, 1, 128, 128)."""
    get = {k: _tensor(specs, k, device) for k in ("x", "y", "size", "angle", "flip", "aspect", "bend", "phase")}
    below = torch.from_numpy(stock.backgrounds[specs["background"], specs["variant"]]).to(device)
    below = below.permute(0, 3, 1, 2).float() / 255
    mirrored = torch.from_numpy(specs["mirrored"]).to(device)[:, None, None, None]
    below = torch.where(mirrored, below.flip(-1), below)
    layer = _place(drawn(stock, specs, device), _grid(**get, side=SIDE), get["size"])
    out = _over(layer, below)
    rows = np.flatnonzero(specs["second"] | (specs["accessory"] >= 0))
    if len(rows):
        out[torch.from_numpy(rows).to(device)] = _over(
            _beside(stock, specs, rows, device), out[torch.from_numpy(rows).to(device)]
        )
    light = _tensor(specs, "light", device)[:, None, None, None]
    out = torch.where(light < 0, out * 0.45, torch.where(light > 0, 0.45 + 0.55 * out, out))
    return out.clamp(0, 1), layer[:, 3:]


def _beside(stock: Stock, specs: Specs, rows: np.ndarray, device: torch.device) -> torch.Tensor:
    """The second thing, or what the first one wears, for the scenes `rows` (b, 4, 128, 128)."""
    some = {k: v[rows] for k, v in specs.items()}
    second = torch.from_numpy(some["second"]).to(device)
    things = _pixels(stock.pixels, some["partner"], device)
    worn = _pixels(stock.accessories, some["accessory"].clip(0), device)
    sprites = torch.where(second[:, None, None, None], things, worn)
    x, y, size, angle = (_tensor(some, k, device) for k in ("x", "y", "size", "angle"))
    item = torch.from_numpy(some["accessory"].clip(0)).to(device)
    dy = torch.tensor([-0.58, -0.16, 0.24], device=device)[item]
    width = torch.tensor([0.42, 0.55, 0.4], device=device)[item]
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    place = dict(x=torch.where(second, -x, x), y=torch.where(second, y, y + 2 * dy * size))
    size = torch.where(second, size, size * width)
    grid = _grid(**place, size=size, angle=angle, flip=one, aspect=one, bend=zero[:, None].expand(-1, 4), phase=zero[:, None].expand(-1, 2), side=SIDE)  # fmt: skip
    return _place(sprites, grid, size)


def reference(stock: Stock, specs: Specs, sprite: np.ndarray | None, rng: np.random.Generator, device: torch.device) -> torch.Tensor:  # fmt: skip
    """The drawings alone on plain paper, 64 px, a little moved: (b, 3, 64, 64) in [-1, 1]. `sprite`: others instead."""
    n = len(specs["sprite"])
    get = {k: _tensor(specs, k, device) for k in ("flip", "aspect", "bend", "phase")}
    draw = {
        k: torch.from_numpy(rng.uniform(-s, s, n)).to(device).float()
        for k, s in dict(x=0.06, y=0.06, angle=0.05).items()
    }
    size = torch.from_numpy(rng.uniform(0.85, 0.98, n)).to(device).float()
    layer = F.grid_sample(
        F.avg_pool2d(drawn(stock, specs, device, sprite), 2),
        _grid(**get, **draw, size=size, side=64),
        align_corners=False,
    )
    paper = torch.from_numpy(rng.uniform(0, 1, (n, 3, 1, 1)) ** 0.5).to(device).float()
    return (layer[:, :3] + (1 - layer[:, 3:]) * paper) * 2 - 1


def alone(stock: Stock, specs: Specs, device: torch.device) -> torch.Tensor:
    """The drawings as they are bent and coloured, upright in the middle, (b, 4, 16, 16) premultiplied in [0, 1]."""
    get = {k: _tensor(specs, k, device) for k in ("flip", "aspect", "bend", "phase")}
    zero = torch.zeros(len(specs["sprite"]), device=device)
    grid = _grid(**get, x=zero, y=zero, angle=zero, size=zero + 0.92, side=32)
    return F.avg_pool2d(F.grid_sample(F.avg_pool2d(drawn(stock, specs, device), 2), grid, align_corners=False), 2)


def scene_of(stock: Stock, specs: Specs, i: int) -> world.Scene:
    """What scene `i` shows, in the words of the captions' grammar."""
    sprite = stock.sprites[specs["sprite"][i]]
    accessory = int(specs["accessory"][i])
    return world.Scene(
        sprite.name,
        sprite.style,
        list(world.BACKGROUNDS)[specs["background"][i]],
        size="small" if specs["small"][i] else "large" if specs["large"][i] else "",
        place={-1: "on the left", 1: "on the right"}.get(int(specs["place"][i]), ""),
        paint=sprite.paint,
        second=stock.sprites[specs["partner"][i]].name if specs["second"][i] else "",
        accessory=list(world.ACCESSORIES)[accessory] if accessory >= 0 else "",
        view="dark" if specs["light"][i] < 0 else "bright" if specs["light"][i] > 0 else "close-up" if specs["zoomed"][i] else "",
    )  # fmt: skip
