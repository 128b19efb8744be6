"""Step 6: the judge, a small dual encoder in `CLIPModel` form at 128 px, trained on the wider world (held-out things too).

Beside whole captions it learns every factor by its own short phrase ("a teapot", "on the beach", "a glossy render"): a
cross-entropy of the picture against all phrases of a kind, through the same two encoders and the same cosine. A tenth of
the drawings, chosen by hash, is kept from it: `held_to` says how well it names things in drawings it has never seen.
"""

from __future__ import annotations

import json
import random
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from tools.tiny_model import judge as first
from tools.tiny_model import world
from tools.tiny_model.muon import Muon
from tools.tiny_model.runs import Average, Run, autocast, average_gradients, device, trapezoid_rate

from . import captions, scenes

STYLES = world.STYLES | first.BLOB
KINDS = ("thing", "style", "background")


def config(tokenizer: CLIPTokenizer) -> CLIPConfig:
    """128 px in patches of 16, 6 layers."""
    return first.config(tokenizer, side=scenes.SIDE, patch=16, layers=6)


def phrases(stock: scenes.Stock) -> dict[str, dict[str, str]]:
    """Kind of factor -> value -> the phrase that names it."""
    return {
        "thing": {n: world.article(n) for n in sorted({s.name for s in stock.sprites})},
        "style": {n: pair[0] for n, pair in STYLES.items()},
        "background": dict(world.BACKGROUNDS),
    }


def kept_from_it(sprite: scenes.Sprite) -> bool:
    """A tenth of the drawings, by the hash of thing and artist."""
    return int(sha256(f"{sprite.name}/{sprite.style}".encode()).hexdigest()[:2], 16) < 26


class Pictures:
    """`count` composed scenes of the wide world as uint8 (count, 128, 128, 3) with what each shows; written once.

    Args:
        unseen: of the drawings that are kept from the judge, else of the others.
    """

    def __init__(self, folder: Path, stock: scenes.Stock, count: int, unseen: bool = False, seed: int = 0) -> None:
        path = folder / ("unseen" if unseen else "seen")
        if not (path / "scenes.json").exists():
            path.mkdir(parents=True, exist_ok=True)
            self._write(path, stock, count, unseen, seed)
        self.pixels = np.load(path / "pictures.npy", mmap_mode="r")
        self.scenes = [world.Scene(**s) for s in json.loads((path / "scenes.json").read_text())]

    @staticmethod
    def _write(path: Path, stock: scenes.Stock, count: int, unseen: bool, seed: int) -> None:
        rng = np.random.default_rng((seed, unseen))
        specs = scenes.sample(stock, count, rng)
        drawings = [i for i, s in enumerate(stock.sprites) if kept_from_it(s) == unseen]
        often = {name: 0 for name in {stock.sprites[i].name for i in drawings}}
        for i in drawings:
            often[stock.sprites[i].name] += 1
        share = np.array([often[stock.sprites[i].name] ** -0.7 for i in drawings])  # things with few drawings too
        plain = ~specs["second"]
        specs["sprite"] = np.where(plain, rng.choice(drawings, count, p=share / share.sum()), specs["sprite"])
        specs["joined"] = np.zeros(count, bool)
        shown = [vars(scenes.scene_of(stock, specs, i)) for i in range(count)]
        size = (count, scenes.SIDE, scenes.SIDE, 3)
        out = np.lib.format.open_memmap(path / "pictures.npy", "w+", np.uint8, size)
        for i in tqdm(range(0, count, 100), desc="judge's pictures", disable=None):
            some = {k: v[i : i + 100] for k, v in specs.items()}
            drawn, _ = scenes.compose(stock, some, device())
            out[i : i + 100] = (drawn * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        out.flush()
        (path / "scenes.json").write_text(json.dumps(shown))


def _pixels(pictures: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """In [-1, 1], shifted by up to 8 px, a little blurred, noisy and recoloured: drawn pictures are never quite clean."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    x = F.pad(x, (8, 8, 8, 8), mode="replicate")
    dy, dx = rng.integers(0, 17, 2)
    x = x[:, :, dy : dy + 128, dx : dx + 128]
    if rng.random() < 0.4:
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    gain = torch.from_numpy(rng.uniform(0.85, 1.15, (len(x), 3, 1, 1))).float()
    noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32)) * rng.uniform(0, 0.12)
    return (x * gain + noise).clamp(-1, 1).to(device())


def _say(scene: world.Scene, rng: random.Random) -> str:
    """A caption, now and then with the thing left out, as prompt fidelity asks ("a photo of a on the beach")."""
    text = captions.caption(scene, rng, {}) or "a picture"
    return " ".join(text.replace(scene.thing, "").split()) if rng.random() < 0.2 else text


def _labels(known: dict[str, dict[str, str]], shown: list[world.Scene]) -> dict[str, torch.Tensor]:
    """Each scene's place among the phrases of each kind; -100 where it has none (another artist's style)."""
    order = {kind: {value: i for i, value in enumerate(names)} for kind, names in known.items()}
    return {kind: torch.tensor([order[kind].get(getattr(s, kind), -100) for s in shown]) for kind in known}


def train(
    rank: int,
    count: int,
    folder_in: Path,
    tokenizer: CLIPTokenizer,
    folder: Path,
    steps: int,
    batch: int = 128,
    pictures: int = 24_000,
    rate: float = 1e-3,
    seed: int = 0,
) -> None:
    """Contrastive on captions plus cross-entropy on each factor's phrases; worker `rank` of `count` takes its share."""
    torch.manual_seed(seed)
    stock = scenes.Stock(folder_in)
    seen_by_it = Pictures(folder_in, stock, pictures)
    known = phrases(stock)
    labels = _labels(known, seen_by_it.scenes)
    all_phrases = [text for names in known.values() for text in names.values()]
    sizes = [len(names) for names in known.values()]
    model = CLIPModel(config(tokenizer)).to(device())
    if device().type == "cpu":
        model.set_attn_implementation("eager")
    optimizer = Muon(model, rank, count)
    average = Average(model, 0.99)
    run = Run(folder, steps, quiet=rank > 0)
    batch //= count
    run.track(model=model, optimizer=optimizer, average=average)
    for step in run.steps():
        rng, speech = np.random.default_rng((seed, step, rank)), random.Random((seed * 7919 + step) * count + rank)
        rows = np.sort(rng.integers(len(seen_by_it.pixels), size=batch))
        said = [_say(seen_by_it.scenes[i], speech) for i in rows]
        optimizer.set_rate(trapezoid_rate(step, steps, rate, warmup=50))
        tokens = first.tokens(tokenizer, all_phrases + said)
        with autocast():
            looks = model.visual_projection(model.vision_model(_pixels(seen_by_it.pixels[rows], rng)).pooler_output)
            words = model.text_projection(model.text_model(**tokens).pooler_output)
        looks, words = F.normalize(looks.float(), dim=-1), F.normalize(words.float(), dim=-1)
        cosines = looks @ words.T * model.logit_scale.exp().clamp(max=100)
        *factors, pairs = cosines.split([*sizes, batch], dim=1)
        target = torch.arange(batch, device=device())
        loss = 0.25 * (F.cross_entropy(pairs, target) + F.cross_entropy(pairs.T, target))
        right = {}
        for kind, logits in zip(known, factors):
            truth = labels[kind][torch.from_numpy(rows)].to(device())
            loss = loss + F.cross_entropy(logits, truth) * (1.0 if kind == "thing" else 0.5)
            right[kind] = float((logits.argmax(1) == truth)[truth >= 0].float().mean())
        optimizer.zero_grad()
        loss.backward()
        average_gradients(model, count)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        if step % 50 == 0:
            run.log(loss=loss.item(), **right)


@torch.no_grad()
def held_to(model: CLIPModel, tokenizer: CLIPTokenizer, stock: scenes.Stock, folder_in: Path, count: int = 1000) -> dict[str, float]:  # fmt: skip
    """Share right, first and in the first five, for scenes of the drawings that were kept from it."""
    shown = Pictures(folder_in, stock, count, unseen=True)
    x = torch.from_numpy(np.array(shown.pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    looks = F.normalize(
        torch.cat([model.visual_projection(model.vision_model(b).pooler_output) for b in x.split(100)]), dim=-1
    )
    known, out = phrases(stock), {}
    for kind, truth in _labels(known, shown.scenes).items():
        tokens = first.tokens(tokenizer, list(known[kind].values()))
        words = F.normalize(model.text_projection(model.text_model(**tokens).pooler_output), dim=-1)
        order = (looks @ words.T).argsort(1, descending=True)[truth >= 0]
        hit = order == truth[truth >= 0, None]
        out |= {f"{kind}_top1": float(hit[:, :1].any(1).float().mean()), f"{kind}_top5": float(hit[:, :5].any(1).float().mean())}  # fmt: skip
    return {k: round(v, 3) for k, v in out.items()}
