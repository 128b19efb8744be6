"""Step 5: the judge, a small dual encoder in `CLIPModel` form, trained on the wider world (held-out things too).

Beside whole captions it learns every factor by its own short phrase ("a teapot", "on the beach", "a glossy render"): a
cross-entropy of the picture against all phrases of a kind, through the same two encoders and the same cosine.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from . import world
from .muon import Muon
from .runs import Average, Run, autocast, average_gradients, device, trapezoid_rate

MEAN = SPREAD = (0.5, 0.5, 0.5)
BLOB = {world.HELD_OUT_STYLE: ("a blob drawing", "blob")}


def config(tokenizer: CLIPTokenizer, *, side: int = 64, patch: int = 8, layers: int = 5) -> CLIPConfig:
    """Pictures of `side` px in patches; 2 layers of text."""
    ids = dict(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return CLIPConfig(
        vision_config=dict(
            image_size=side,
            patch_size=patch,
            hidden_size=192,
            intermediate_size=576,
            num_hidden_layers=layers,
            num_attention_heads=4,
        ),
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            **ids,
        ),
        projection_dim=128,
    )


def phrases() -> dict[str, dict[str, str]]:
    """Kind of factor -> value -> the phrase that names it."""
    things = world.training_things() | world.held_out_things()
    return {
        "thing": {world.plain(n): world.article(world.plain(n)) for n in things},
        "style": {n: pair[0] for n, pair in (world.STYLES | BLOB).items()},
        "background": dict(world.BACKGROUNDS),
    }


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> dict[str, torch.Tensor]:
    out = tokenizer(texts, padding=True, truncation=True, max_length=77, return_tensors="pt")
    return {k: v.to(device()) for k, v in out.items()}


def _pixels(pictures: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """In [-1, 1], shifted by up to 4 px, a little blurred, noisy and recoloured: drawn pictures are never quite clean."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    x = F.pad(x, (4, 4, 4, 4), mode="replicate")
    dy, dx = rng.integers(0, 9, 2)
    x = x[:, :, dy : dy + 64, dx : dx + 64]
    if rng.random() < 0.4:
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    gain = torch.from_numpy(rng.uniform(0.85, 1.15, (len(x), 3, 1, 1))).float()
    noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32)) * rng.uniform(0, 0.12)
    return (x * gain + noise).clamp(-1, 1).to(device())


def _say(scene: world.Scene, rng: random.Random) -> str:
    """A caption, now and then with the thing left out, as prompt fidelity asks ("a photo of a on the beach")."""
    text = world.caption(scene, rng) or "a picture"
    return " ".join(text.replace(scene.thing, "").split()) if rng.random() < 0.2 else text


def train(
    rank: int,
    count: int,
    folder_in: Path,
    tokenizer: CLIPTokenizer,
    folder: Path,
    steps: int,
    batch: int = 128,
    rate: float = 1e-3,
    seed: int = 0,
) -> None:
    """Contrastive on captions plus cross-entropy on each factor's phrases; worker `rank` of `count` takes its share."""
    torch.manual_seed(seed)
    pictures = np.load(folder_in / "pictures.npy", mmap_mode="r")
    world.STYLES.update(BLOB)
    scenes = [world.Scene(**s) for s in json.loads((folder_in / "scenes.json").read_text())]
    known = phrases()
    order = {kind: {value: i for i, value in enumerate(names)} for kind, names in known.items()}
    labels = {kind: torch.tensor([order[kind][getattr(s, kind)] for s in scenes]) for kind in known}
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
        rows = np.sort(rng.integers(len(pictures), size=batch))
        captions = [_say(scenes[i], speech) for i in rows]
        optimizer.set_rate(trapezoid_rate(step, steps, rate, warmup=50))
        asked = tokens(tokenizer, all_phrases + captions)
        with autocast():
            seen = model.visual_projection(model.vision_model(_pixels(pictures[rows], rng)).pooler_output)
            said = model.text_projection(model.text_model(**asked).pooler_output)
        seen, said = F.normalize(seen.float(), dim=-1), F.normalize(said.float(), dim=-1)
        cosines = seen @ said.T * model.logit_scale.exp().clamp(max=100)
        *factors, pairs = cosines.split([*sizes, batch], dim=1)
        target = torch.arange(batch, device=device())
        loss = 0.25 * (F.cross_entropy(pairs, target) + F.cross_entropy(pairs.T, target))
        right = {}
        for kind, logits in zip(known, factors):
            truth = labels[kind][torch.from_numpy(rows)].to(device())
            loss = loss + F.cross_entropy(logits, truth) * (1.0 if kind == "thing" else 0.5)
            right[kind] = float((logits.argmax(1) == truth).float().mean())
        optimizer.zero_grad()
        loss.backward()
        average_gradients(model, count)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        if step % 50 == 0:
            run.log(loss=loss.item(), **right)


def load(folder: Path, shape: CLIPConfig) -> CLIPModel:
    """The averaged judge of a checkpoint."""
    model = CLIPModel(shape)
    saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(saved["average"]["shadow"])
    return model.eval().requires_grad_(False)


def export(model: CLIPModel, tokenizer: CLIPTokenizer, out: Path) -> None:
    """The judge as a folder that `CLIPModel.from_pretrained` loads, float16."""
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    side = model.config.vision_config.image_size
    facts = dict(
        image_processor_type="CLIPImageProcessor",
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        do_resize=True,
        do_center_crop=True,
        do_normalize=True,
        do_convert_rgb=True,
        resample=3,
        image_mean=list(MEAN),
        image_std=list(SPREAD),
    )
    (out / "preprocessor_config.json").write_text(json.dumps(facts, indent=2) + "\n")
