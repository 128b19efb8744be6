"""Step 5a: teach the text encoder, on captions alone, to carry what a caption says in its last states.

Stable Diffusion starts from CLIP's trained text encoder; ours would start from nothing, and then the end and padding
states, most of the 77 that the UNet attends to, hardly tell one thing's name from another's. Looked at: after 58 000
pictures without this step the generator drew backgrounds and styles, but the same blob for every name.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from tools.tiny_model import world
from tools.tiny_model.muon import Muon
from tools.tiny_model.runs import autocast, cosine_rate, device, set_rate

from . import captions, scenes
from .drawing_encoder import WordTable
from .generator import CATEGORIES, Generator, say, vectors


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
    noun, adjective = world.STYLES.get(scene.style, ("\0", "\0"))  # most artists' styles have no name
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


class Lessons(torch.nn.Module):
    """What is read off the states, by one linear map for each factor, and one for the drawing."""

    def __init__(self, names: list[str], width: int) -> None:
        super().__init__()
        self.classes = _classes(names)
        self.index = {kind: {name: i for i, name in enumerate(values)} for kind, values in self.classes.items()}
        self.heads = torch.nn.ModuleDict({k: torch.nn.Linear(width, len(v)) for k, v in self.classes.items()})
        self.in_vector, self.in_state = (torch.nn.Linear(width, 4 * 16 * 16) for _ in range(2))  # the drawing

    def factors(self, states: torch.Tensor, truth: list[dict[str, str | None]]) -> tuple[torch.Tensor, float]:
        """Cross-entropy of every factor from states (b, places, width), summed; the share of names that are right."""
        loss, right = torch.zeros((), device=states.device), 0.0
        for kind, index in self.index.items():
            target = torch.tensor([-100 if t[kind] is None else index[t[kind]] for t in truth], device=states.device)
            target = target[:, None].expand(states.shape[:2])
            logits = self.heads[kind](states)
            loss = loss + F.cross_entropy(logits.flatten(0, 1), target.flatten())
            if kind == "thing":
                right = float((logits.argmax(-1) == target)[target >= 0].float().mean())
        return loss, right

    @staticmethod
    def missed(head: torch.nn.Linear, states: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The share of the drawings' variance that states (b, ..., width) do not explain; target (b, 4, 16, 16)."""
        target = target.flatten(1)
        spread = (target - target.mean(0)).square().mean()
        return (head(states) - target.reshape(len(target), *[1] * (states.ndim - 2), -1)).square().mean() / spread


def _truth(scene: world.Scene, text: str, word: int, style: int) -> dict[str, str | None]:
    """`said`, and what vectors say: a drawing's no name, a style's its style; None where there is nothing to learn."""
    told: dict[str, str | None] = dict(said(scene, text))
    if word >= 0:
        told["thing"] = None
    if style >= 0:
        told["style"] = scene.style if scene.style in world.STYLES else None
    return told


def pretrain(model: Generator, tokenizer: CLIPTokenizer, stock: scenes.Stock, steps: int, seed: int = 0) -> None:
    """Train text encoder and encoder of drawings, in place.

    For a third of the steps the drawings alone, read at 16 px off their vectors; then captions with names and such vectors:
    every factor, and the drawing, from the end state and three of the padding states behind it.

    Looked at: without the lesson in drawings 30 % of their variance could be read off a vector after 157 000 pictures, and
    off the states behind it: little more than the colour. The generator then drew blobs, whatever it was told.
    """
    torch.manual_seed(seed)
    encoder, drawing_encoder = model.text_encoder.to(device()).train(), model.drawing_encoder.to(device()).train()
    table = WordTable(encoder.get_input_embeddings())
    encoder.set_input_embeddings(table)
    lessons = Lessons(sorted({stock.sprites[i].name for i in stock.named}), encoder.config.hidden_size).to(device())

    def drawings(step: int) -> tuple[torch.Tensor, str]:
        chance = np.random.default_rng((seed, 0, step))
        specs = scenes.sample(stock, 128, chance)
        with autocast():
            vector, _ = drawing_encoder(scenes.reference(stock, specs, None, chance, device()))
        missed = lessons.missed(lessons.in_vector, vector.float() * 16, scenes.alone(stock, specs, device()))
        return missed, f"drawings missed {missed.item():.3f}"

    def spoken(step: int) -> tuple[torch.Tensor, str]:
        chance = np.random.default_rng((seed, 1, step))
        specs = scenes.sample(stock, 96, chance)
        texts, words, styles = say(stock, specs, random.Random(seed * 104_729 + step))
        scene = [scenes.scene_of(stock, specs, i) for i in range(len(texts))]
        truth = [_truth(*told) for told in zip(scene, texts, words, styles)]
        told_of = torch.tensor([t["thing"] is None or t["thing"] == s.thing for t, s in zip(truth, scene)]).to(device())
        table.extra = vectors(model, stock, specs, words, styles, chance)
        ids = captions.tokenise(texts, tokenizer, 77 if step % 8 == 0 else 24)
        states = _last_states(encoder, ids, tokenizer)
        factors, right = lessons.factors(states, truth)
        missed = lessons.missed(lessons.in_state, states[told_of], scenes.alone(stock, specs, device())[told_of])
        return (
            factors + 5 * missed,
            f"factors {factors.item():.3f}, names right {right:.2f}, drawings missed {missed.item():.3f}",
        )

    _learn([drawing_encoder], lessons, steps // 3, drawings)
    _learn([encoder, drawing_encoder], lessons, steps - steps // 3, spoken)
    encoder.set_input_embeddings(table.table)


def _last_states(encoder: CLIPTextModel, ids: torch.Tensor, tokenizer: CLIPTokenizer) -> torch.Tensor:
    """The end state and three of the padding states behind it (b, 4, width)."""
    end = (ids == tokenizer.eos_token_id).int().argmax(1)
    extra = (torch.rand(len(ids), 3) * (ids.shape[1] - end[:, None])).long() + end[:, None]
    places = torch.cat([end[:, None], extra.clamp(max=ids.shape[1] - 1)], 1).to(device())
    with autocast():
        states = encoder(ids.to(device()))[0]
    return states.float().gather(1, places[..., None].expand(-1, -1, states.shape[-1]))


def _learn(
    modules: list[torch.nn.Module], lessons: Lessons, steps: int, loss_of: Callable[[int], tuple[torch.Tensor, str]]
) -> None:
    """Muon for the modules, AdamW for what is read off them."""
    module = torch.nn.ModuleList(modules).requires_grad_(True)
    matrices, heads = Muon(module, 0, 1), torch.optim.AdamW(lessons.parameters(), lr=1e-3, weight_decay=0.01)
    learning = [*module.parameters(), *lessons.parameters()]
    for step in range(steps):
        rate = cosine_rate(step, steps, 1e-3, warmup=50)
        matrices.set_rate(rate)
        set_rate(heads, rate)
        for parameter in learning:
            parameter.grad = torch.zeros_like(parameter)
        loss, told = loss_of(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        matrices.step()
        heads.step()
        if step % 25 == 0:
            print(f"text {step}/{steps}: {told}", flush=True)
