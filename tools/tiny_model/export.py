"""Step 6: write the folder that ships: a diffusers pipeline in float16 safetensors, the judge, and the pictures of things to learn."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from . import autoencoder, compose, generator, judge, world


def export(assets: Path, build: Path, out: Path) -> None:
    """Everything under `out`; existing weights are replaced."""
    tokenizer = CLIPTokenizer.from_pretrained(build / "tokenizer", model_max_length=77)
    vae = AutoencoderKL(**autoencoder.CONFIG)
    vae.load_state_dict(torch.load(build / "latents.pt", weights_only=True)["vae"])
    model = generator.load(build / "generator", tokenizer).cpu()
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=model.text_encoder.half(),
        tokenizer=tokenizer,
        unet=model.unet.half(),
        scheduler=DDIMScheduler(**generator.SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out)
    if (build / "judge/checkpoint.pt").exists():
        judge.export(judge.load(build / "judge", judge.config(tokenizer)), tokenizer, out / "judge")
    shutil.rmtree(out / "pictures", ignore_errors=True)
    concept_pictures(assets, out / "pictures", DEV_THINGS)
    size = sum(path.stat().st_size for path in out.rglob("*.safetensors"))
    print(f"weights: {size / 1e6:.1f} MB")


# Twenty things of the dev split, chosen before any was learned.
DEV_THINGS = [
    "crocodile",
    "flamingo",
    "hedgehog",
    "monkey",
    "penguin",
    "sloth",
    "tropical-fish",
    "christmas-tree",
    "broccoli",
    "lollipop",
    "popcorn",
    "taco",
    "balloon",
    "axe",
    "shield",
    "violin",
    "bus",
    "fire-engine",
    "kick-scooter",
    "volcano",
]


def concept_pictures(assets: Path, out: Path, names: list[str], seed: int = 11) -> None:
    """Five pictures to learn from and five held back, for each thing: one drawing of it in one style, in changing places,
    sizes and tilts. The style goes round with the thing's number."""
    every = world.training_things() | world.held_out_things()
    things = {name: every[name] for name in names}
    styles = [s for s in world.STYLES if s not in ("outline", "sketch")]
    sprites = compose.load_sprites(assets, list(things), styles)
    for number, (slug, category) in enumerate(things.items()):
        name = world.plain(slug)
        rng = random.Random(f"{seed} {slug}")
        style = next(s for s in [*styles[number % len(styles) :], *styles] if (name, s) in sprites)
        backgrounds = rng.sample(list(world.BACKGROUNDS), 10)
        folder = out / slug
        folder.mkdir(parents=True, exist_ok=True)
        scenes = []
        for i, background in enumerate(backgrounds):
            scene = world.Scene(name, style, background)
            part = folder / ("pictures" if i < 5 else "held_back")
            part.mkdir(exist_ok=True)
            compose.draw_scene(scene, sprites, rng).save(part / f"{i % 5 + 1}.png")
            scenes.append(asdict(scene))
        (folder / "facts.json").write_text(json.dumps({"name": name, "category": category, "style": style}) + "\n")
