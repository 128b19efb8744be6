"""Step 7: write the folder that ships: a diffusers pipeline in safetensors, the judge, and the pictures of things to learn.

All weights are stored in float16. diffusers widens what it loads; transformers takes the precision that `config.json` names,
so that the text encoder's names float32: in float16, beside a float32 UNet, diffusers' pipelines stop, and its scripts learn NaN.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from transformers import CLIPTokenizer

from tools.tiny_model import judge as first
from tools.tiny_model import world
from tools.tiny_model.export import DEV_THINGS

from . import autoencoder, generator, judge, scenes


def export(build: Path, tokenizer: CLIPTokenizer, out: Path) -> None:
    """Everything under `out`; existing weights are replaced."""
    model = generator.load(build / "generator", tokenizer).cpu()
    pipeline = StableDiffusionPipeline(
        vae=autoencoder.load(build / "vae").cpu().half(),
        text_encoder=model.text_encoder.half(),
        tokenizer=tokenizer,
        unet=model.unet.half(),
        scheduler=DDIMScheduler(**generator.SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out)
    config = out / "text_encoder/config.json"
    config.write_text(config.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))
    if (build / "judge/checkpoint.pt").exists():
        first.export(first.load(build / "judge", judge.config(tokenizer)), tokenizer, out / "judge")
    shutil.rmtree(out / "pictures", ignore_errors=True)
    concept_pictures(scenes.Stock(build / "wide"), out / "pictures", DEV_THINGS)
    size = sum(path.stat().st_size for path in out.rglob("*.safetensors"))
    print(f"weights: {size / 1e6:.1f} MB")


def concept_pictures(stock: scenes.Stock, out: Path, names: list[str], seed: int = 11) -> None:
    """Five pictures to learn from and five held back, for each held-out thing: one drawing of it in one style, in
    changing places, sizes and tilts. The style goes round with the thing's number."""
    styles = [s for s in world.STYLES if s not in ("outline", "sketch")]
    drawing = {(s.name, s.style): i for i, s in enumerate(stock.sprites) if not s.paint}
    for number, slug in enumerate(names):
        name = world.plain(slug)
        style = next(s for s in [*styles[number % len(styles) :], *styles] if (name, s) in drawing)
        _write(out / slug, portraits(stock, drawing[name, style], f"{seed} {slug}"))
        facts = {"name": name, "category": world.held_out_things()[slug], "style": style}
        (out / slug / "facts.json").write_text(json.dumps(facts) + "\n")


def portraits(stock: scenes.Stock, sprite: int, seed: str, count: int = 10) -> list[Image.Image]:
    """`count` scenes of one drawing, as it is, alone, each on another background."""
    rng = random.Random(seed)
    specs = scenes.sample(stock, 400, np.random.default_rng(rng.getrandbits(32)))
    plain = ~(specs["second"] | specs["changed"] | specs["small"] | specs["large"] | specs["zoomed"])
    plain &= (specs["accessory"] < 0) & (specs["place"] == 0) & (specs["light"] == 0)
    specs = {k: v[np.flatnonzero(plain)[:count]] for k, v in specs.items()}
    specs |= dict(sprite=np.full(count, sprite), flip=np.ones(count))
    specs["background"] = np.array(rng.sample(range(len(world.BACKGROUNDS)), count))
    pictures, _ = scenes.compose(stock, specs, torch.device("cpu"))
    return [Image.fromarray(p) for p in (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()]


def _write(folder: Path, pictures: list[Image.Image]) -> None:
    half = len(pictures) // 2
    for name, some in (("pictures", pictures[:half]), ("held_back", pictures[half:])):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, picture in enumerate(some):
            picture.save(folder / name / f"{i + 1}.png", optimize=True)
