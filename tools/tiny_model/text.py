"""Step 4a: teach the text encoder, on captions alone, to carry what a caption says in its last states.

Stable Diffusion starts from CLIP's trained text encoder; ours would start from nothing, and then the end and padding
states, most of the 77 that the UNet attends to, hardly tell one thing's name from another's. Looked at: after 58 000
pictures without this step the generator drew backgrounds and styles, but the same blob for every name.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from . import world
from .runs import autocast, cosine_rate, device, set_rate


def _classes() -> dict[str, list[str]]:
    things = [world.plain(n) for n in world.training_things()]
    categories = sorted(set(world.training_things().values()))
    return {
        "thing": ["", *things, *categories, "thing"],
        "second": ["", *things],
        "style": ["", *world.STYLES],
        "background": ["", *world.BACKGROUNDS],
        "place": ["", "on the left", "on the right"],
        "size": ["", "small"],
        "paint": ["", *world.PAINTS],
        "accessory": ["", *world.ACCESSORIES],
    }


def said(scene: world.Scene, text: str, categories: dict[str, str]) -> dict[str, str]:
    """What `text` really says of `scene`; "" for what it leaves out."""
    padded = f" {text} "
    noun, adjective = world.STYLES[scene.style]
    thing = next((n for n in (scene.thing, categories[scene.thing], "thing") if f" {n} " in padded), "")
    return {
        "thing": thing,
        "second": scene.second if scene.second and f" {scene.second} " in padded else "",
        "style": scene.style if text and (noun in text or f" {adjective} " in padded) else "",
        "background": scene.background if world.BACKGROUNDS[scene.background] in text else "",
        "place": scene.place if scene.place and scene.place in text else "",
        "size": scene.size if scene.size and f" {scene.size} " in padded else "",
        "paint": scene.paint if scene.paint and f" {scene.paint} {thing} " in padded else "",
        "accessory": scene.accessory if scene.accessory and scene.accessory in text else "",
    }


def pretrain(
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    scenes_path: Path,
    steps: int = 800,
    batch: int = 128,
    seed: int = 0,
) -> None:
    """Cross-entropy of every factor from the end state and three of the padding states behind it; in place.

    The first four fifths of the steps pad to 32 tokens, which is quicker, the rest to 77.
    """
    torch.manual_seed(seed)
    scenes = [world.Scene(**s) for s in json.loads(scenes_path.read_text())]
    categories = {world.plain(k): v for k, v in world.training_things().items()}
    classes = _classes()
    index = {kind: {name: i for i, name in enumerate(names)} for kind, names in classes.items()}
    heads = torch.nn.ModuleDict(
        {k: torch.nn.Linear(encoder.config.hidden_size, len(v)) for k, v in classes.items()}
    ).to(device())
    encoder.to(device()).train().requires_grad_(True)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=1e-3, weight_decay=0.01)
    for step in range(steps):
        speech = random.Random(seed * 104_729 + step)
        length, size = (32, batch) if step < 0.8 * steps else (77, batch // 2)
        chosen = [speech.choice(scenes) for _ in range(size)]
        texts = [world.caption(s, speech, categories) for s in chosen]
        truth = [said(s, t, categories) for s, t in zip(chosen, texts)]
        ids = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        end = (ids == tokenizer.eos_token_id).int().argmax(1)
        extra = (torch.rand(size, 3) * (length - end[:, None])).long() + end[:, None]
        places = torch.cat([end[:, None], extra.clamp(max=length - 1)], 1).to(device())
        set_rate(optimizer, cosine_rate(step, steps, 1e-3, warmup=50))
        with autocast():
            states = encoder(ids.to(device()))[0]
        states = states.float().gather(1, places[..., None].expand(-1, -1, states.shape[-1]))
        loss, right = torch.zeros((), device=device()), 0.0
        for kind in classes:
            target = torch.tensor([index[kind][t[kind]] for t in truth], device=device())[:, None].expand(-1, 4)
            logits = heads[kind](states)
            loss = loss + F.cross_entropy(logits.flatten(0, 1), target.flatten())
            right = float((logits.argmax(-1) == target).float().mean()) if kind == "thing" else right
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"text {step}/{steps}: loss {loss.item():.3f}, names right {right:.2f}", flush=True)
