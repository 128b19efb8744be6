"""Step 8: does the model draw what it is asked? Judged on random captions of the training grammar; contact sheets to look at."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import ti_nb as ti
from tools.tiny_model import world

from . import captions, judge, scenes
from .generator import CATEGORIES
from .text import said


def _asked(stock: scenes.Stock, count: int, seed: int) -> list[tuple[world.Scene, str, Image.Image]]:
    """`count` random training scenes of named things, a caption that says something of each, and their real pictures."""
    speech, specs = random.Random(seed), scenes.sample(stock, 4 * count, np.random.default_rng(seed))
    shown, _ = scenes.compose(stock, {k: v[: 4 * count] for k, v in specs.items()}, torch.device("cpu"))
    out = []
    for i in np.flatnonzero(specs["named"]):
        scene = scenes.scene_of(stock, specs, int(i))
        text = captions.caption(scene, speech, CATEGORIES)
        if text and len(out) < count:
            out.append((scene, text, Image.fromarray((shown[i] * 255).byte().permute(1, 2, 0).numpy())))
    return out


def evaluate(model_folder: Path, build: Path, out: Path, count: int = 300, seed: int = 123) -> dict[str, float]:
    """Share of captions whose thing is in the judge's first five of all names, whose style and background are its first;
    only what the caption says is asked for. Sharpness: mean variance of the Laplacian, over the real pictures'."""
    asked = _asked(scenes.Stock(build / "world"), count, seed)
    model, opinion = ti.load_model(model_folder), ti.load_judge(model_folder / "judge")
    drawn = draw_all(model, [text for _, text, _ in asked], seed)
    figures: dict[str, float] = {}
    for pictures, prefix in ((drawn, ""), ([real for *_, real in asked], "real_")):
        seen = opinion.embed_images(pictures)
        for kind, names in judge.phrases(scenes.Stock(build / "wide")).items():
            order = (seen @ opinion.embed_texts(list(names.values())).T).argsort(dim=1, descending=True)
            values, hits = list(names), []
            for (scene, text, _), ranks in zip(asked, order.tolist()):
                told = said(scene, text)[kind]
                if told and told in names:
                    hits.append([told in [values[r] for r in ranks[:top]] for top in (1, 5)])
            first, five = np.mean(hits, axis=0)
            figures |= {f"{prefix}{kind}_top1": round(float(first), 3), f"{prefix}{kind}_top5": round(float(five), 3)}
    sharp = [np.mean([_sharpness(p) for p in some]) for some in (drawn, [real for *_, real in asked])]
    figures["sharpness"] = round(float(sharp[0] / sharp[1]), 3)
    print(json.dumps(figures, indent=2))
    out.mkdir(parents=True, exist_ok=True)
    (out / "tiny_figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    sheet(drawn[:60], 10).save(out / "tiny_captions.png", optimize=True)
    sheet(draw_all(model, one_of_each(), seed), 14).save(out / "tiny_things.png", optimize=True)
    return figures


def one_of_each() -> list[str]:
    """A prompt for every thing of old, which the notebooks speak of; styles and backgrounds go round."""
    things = [world.plain(slug) for slug in world.training_things()]
    styles, places = list(world.STYLES.values()), list(world.BACKGROUNDS.values())
    return [f"{styles[i % 5][0]} of {world.article(t)} {places[i * 7 % len(places)]}" for i, t in enumerate(things)]


def draw_all(model: ti.Model, texts: list[str], seed: int, steps: int = 25, guidance: float = 4.0) -> list[Image.Image]:
    """One picture a caption, each from its own seed, in batches."""
    pipeline = model.pipeline()
    images = []
    for i in range(0, len(texts), 25):
        seeds = [torch.Generator().manual_seed(seed + i + k) for k in range(len(texts[i : i + 25]))]
        some = texts[i : i + 25]
        images += pipeline(some, num_inference_steps=steps, guidance_scale=guidance, generator=seeds).images
    return images


def _sharpness(picture: Image.Image) -> float:
    a = np.asarray(picture.convert("L"), np.float64)
    around = a[:-2, 1:-1] + a[2:, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:]
    return float((around - 4 * a[1:-1, 1:-1]).var())


def sheet(images: list[Image.Image], columns: int) -> Image.Image:
    """Pictures side by side in rows."""
    step, rows = images[0].width + 2, -(-len(images) // columns)
    out = Image.new("RGB", (columns * step, rows * step), "white")
    for i, image in enumerate(images):
        out.paste(image, (i % columns * step + 1, i // columns * step + 1))
    return out
