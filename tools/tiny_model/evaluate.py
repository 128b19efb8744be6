"""Step 7: does the model draw what it is asked? Judged on random captions of the training grammar; contact sheets to look at."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
from PIL import Image

import ti_nb as ti

from . import judge as recipe
from . import world


def _asked(scenes: list[world.Scene], count: int, seed: int) -> list[tuple[world.Scene, str]]:
    """`count` random training scenes with a caption that names the thing."""
    rng = random.Random(seed)
    out = []
    while len(out) < count:
        scene = rng.choice(scenes)
        text = world.caption(scene, rng)
        if text:
            out.append((scene, text))
    return out


def names_style(scene: world.Scene, text: str) -> bool:
    noun, adjective = world.STYLES[scene.style]
    return noun in text or f" {adjective} " in f" {text} "


def evaluate(model_folder: Path, scenes_path: Path, out: Path, count: int = 300, seed: int = 123) -> dict[str, float]:
    """Share of captions whose thing is in the judge's top 5 of all names, whose style and background are its first."""
    scenes = [world.Scene(**s) for s in json.loads(scenes_path.read_text())]
    asked = _asked(scenes, count, seed)
    model = ti.load_model(model_folder)
    judge = ti.load_judge(model_folder / "judge")
    drawn = _draw_all(model, [text for _, text in asked], seed)
    seen = judge.embed_images(drawn)
    figures = {}
    for kind, names in recipe.phrases().items():
        order = (seen @ judge.embed_texts(list(names.values())).T).argsort(dim=1, descending=True)
        values = list(names)
        hits = {1: [], 5: []}
        for (scene, text), ranks in zip(asked, order.tolist()):
            if kind == "background" and world.BACKGROUNDS[scene.background] not in text:
                continue
            if kind == "style" and not names_style(scene, text):
                continue
            for top in hits:
                hits[top].append(getattr(scene, kind) in [values[r] for r in ranks[:top]])
        figures |= {f"{kind}_top{top}": round(float(np.mean(h)), 3) for top, h in hits.items()}
    print(json.dumps(figures, indent=2))
    out.mkdir(parents=True, exist_ok=True)
    (out / "tiny_figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    sheet(drawn[:120], 15).save(out / "tiny_captions.png")
    sheet(_draw_all(model, _one_of_each(), seed), 18).save(out / "tiny_things.png")
    return figures


def _one_of_each() -> list[str]:
    """A prompt for every training thing; styles and backgrounds go round."""
    things = [world.plain(slug) for slug in world.training_things()]
    styles, places = list(world.STYLES.values()), list(world.BACKGROUNDS.values())
    return [f"{styles[i % 5][0]} of {world.article(t)} {places[i * 7 % len(places)]}" for i, t in enumerate(things)]


def _draw_all(model: ti.Model, texts: list[str], seed: int) -> list[Image.Image]:
    """One picture a caption, each from its own seed, in batches."""
    import torch

    pipeline = model.pipeline()
    images = []
    for i in range(0, len(texts), 25):
        seeds = [torch.Generator().manual_seed(seed + i + k) for k in range(len(texts[i : i + 25]))]
        images += pipeline(texts[i : i + 25], num_inference_steps=25, guidance_scale=5.0, generator=seeds).images
    return images


def sheet(images: list[Image.Image], columns: int) -> Image.Image:
    """Pictures side by side in rows."""
    rows = -(-len(images) // columns)
    out = Image.new("RGB", (columns * 66, rows * 66), "white")
    for i, image in enumerate(images):
        out.paste(image, (i % columns * 66 + 1, i // columns * 66 + 1))
    return out
