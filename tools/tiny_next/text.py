"""Step 5a: teach the text encoder, on captions alone, to carry what a caption says in its last states.

Stable Diffusion starts from CLIP's trained text encoder; ours would start from nothing, and then the end and padding
states, most of the 77 that the UNet attends to, hardly tell one thing's name from another's. Looked at: after 58 000
pictures without this step the generator drew backgrounds and styles, but the same blob for every name.
"""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from tools.tiny_model import world
from tools.tiny_model.runs import autocast, cosine_rate, device, set_rate

from . import captions, scenes
from .generator import CATEGORIES


def _classes(names: list[str]) -> dict[str, list[str]]:
    return {
        "thing": ["", *names, *sorted(set(CATEGORIES.values())), "thing"],
        "second": ["", *names],
        "style": ["", *world.STYLES],
        "background": ["", *world.BACKGROUNDS],
        "place": ["", "on the left", "on the right"],
        "size": ["", "small", "large"],
        "paint": ["", *world.PAINTS],
        "accessory": ["", *world.ACCESSORIES],
        "view": ["", "dark", "bright", "close-up"],
    }


def said(scene: world.Scene, text: str) -> dict[str, str]:
    """What `text` really says of `scene`; "" for what it leaves out."""
    padded = f" {text} "
    noun, adjective = world.STYLES[scene.style]
    thing = next((n for n in (scene.thing, CATEGORIES.get(scene.thing, "thing"), "thing") if f" {n} " in padded), "")
    return {
        "thing": thing,
        "second": scene.second if scene.second and f" {scene.second} " in padded else "",
        "style": scene.style if text and (noun in text or f" {adjective} " in padded) else "",
        "background": scene.background if world.BACKGROUNDS[scene.background] in text else "",
        "place": scene.place if scene.place and scene.place in text else "",
        "size": scene.size if scene.size and f" {scene.size} " in padded else "",
        "paint": scene.paint if scene.paint and f" {scene.paint} {thing} " in padded else "",
        "accessory": scene.accessory if scene.accessory and scene.accessory in text else "",
        "view": scene.view if scene.view and (f" {scene.view} " in padded or " cropped " in padded) else "",
    }


def _spoken(stock: scenes.Stock, count: int, seed: int) -> list[tuple[world.Scene, str]]:
    """Scenes of named things, each with a caption."""
    speech, out = random.Random(seed), []
    specs = scenes.sample(stock, 3 * count, np.random.default_rng(seed))
    for i in np.flatnonzero(specs["named"])[:count]:
        scene = scenes.scene_of(stock, specs, int(i))
        out.append((scene, captions.caption(scene, speech, CATEGORIES)))
    return out


def pretrain(
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    stock: scenes.Stock,
    steps: int = 1200,
    batch: int = 128,
    seed: int = 0,
) -> None:
    """Cross-entropy of every factor from the end state and three of the padding states behind it; in place.

    The first four fifths of the steps pad to 32 tokens, which is quicker, the rest to 77.
    """
    torch.manual_seed(seed)
    classes = _classes(sorted({stock.sprites[i].name for i in stock.named}))
    index = {kind: {name: i for i, name in enumerate(names)} for kind, names in classes.items()}
    heads = torch.nn.ModuleDict(
        {k: torch.nn.Linear(encoder.config.hidden_size, len(v)) for k, v in classes.items()}
    ).to(device())
    encoder.to(device()).train().requires_grad_(True)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=1e-3, weight_decay=0.01)
    for step in range(steps):
        length, size = (32, batch) if step < 0.8 * steps else (77, batch // 2)
        spoken = _spoken(stock, size, seed * 104_729 + step)
        truth = [said(s, t) for s, t in spoken]
        ids = captions.tokenise([t for _, t in spoken], tokenizer, length)
        end = (ids == tokenizer.eos_token_id).int().argmax(1)
        extra = (torch.rand(len(ids), 3) * (length - end[:, None])).long() + end[:, None]
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
