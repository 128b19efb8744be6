"""Step 5: text encoder, UNet and the encoder of drawings, trained together on latents (v-prediction, zero terminal SNR)."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch.utils.data import DataLoader
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tools.tiny_model import world
from tools.tiny_model.muon import Muon
from tools.tiny_model.runs import Average, Run, autocast, average_gradients, device, trapezoid_rate

from . import autoencoder, captions, scenes
from .drawing_encoder import DrawingEncoder, WordTable
from .pool import Pool, encoded

UNET = dict(
    sample_size=16,
    in_channels=8,
    out_channels=8,
    block_out_channels=(64, 128, 256),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    cross_attention_dim=256,
    attention_head_dim=4,
    norm_num_groups=16,
)
TEXT = dict(
    hidden_size=256,
    intermediate_size=1024,
    num_hidden_layers=4,
    num_attention_heads=4,
    max_position_embeddings=77,
    projection_dim=256,
)
SCHEDULER = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    timestep_spacing="trailing",
    clip_sample=False,
    set_alpha_to_one=True,
    steps_offset=1,  # no effect with trailing spacing; diffusers warns of 0
)


ENCODERS = 0.2  # their share of the UNet's rate: Muon's steps are as long for a gradient that is all noise, as the first ones are
NOISE = 0.2  # most of a vector's noise, as a share of its length: what is near a drawing's vector draws it too


class Generator(torch.nn.Module):
    """Text encoder and UNet as one module, and the encoder of drawings that helps to train them."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        ids = dict(
            vocab_size=len(tokenizer),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        self.text_encoder = CLIPTextModel(CLIPTextConfig(**TEXT, **ids))
        self.unet = UNet2DConditionModel(**UNET)
        self.drawing_encoder = DrawingEncoder(TEXT["hidden_size"])


def say(stock: scenes.Stock, specs: scenes.Specs, rng: random.Random, vectors: bool = True) -> tuple[list[str], np.ndarray, np.ndarray]:  # fmt: skip
    """A caption for each scene, and which drawing its word's and its style's vector are of (-1: no vector)."""
    texts, words, styles = [], [], []
    for i in range(len(specs["sprite"])):
        scene, own = scenes.scene_of(stock, specs, i), int(specs["sprite"][i])
        word, style, name_style = -1, -1, 0.92
        if vectors and (not specs["named"][i] or rng.random() < 0.35):
            word, name_style = own, 0.75
            others = stock.by_thing.get(scene.thing, ())
            if len(others) > 1 and not specs["changed"][i] and rng.random() < 0.3:  # the same thing by another artist
                word, name_style = rng.choice(others), 1.0
        foreign = word not in (-1, own)
        if vectors and rng.random() < (0.2 if scene.style in world.STYLES else 0.9 if foreign else 0.35):
            style = int(rng.choice(stock.by_style[scene.style]))
        marks = dict(thing=captions.WORD if word >= 0 else "", style=captions.STYLE if style >= 0 else "")
        texts.append(captions.caption(scene, rng, CATEGORIES, **marks, name_style=name_style))
        words.append(word if captions.WORD in texts[-1] else -1)
        styles.append(style if captions.STYLE in texts[-1] else -1)
    return texts, np.array(words), np.array(styles)


CATEGORIES = {world.plain(k): v for k, v in world.training_things().items()}


def vectors(model: Generator, stock: scenes.Stock, specs: scenes.Specs, words: np.ndarray, styles: np.ndarray,
            rng: np.random.Generator) -> torch.Tensor:  # fmt: skip
    """Rows (2 b, d) for the ids of `captions.tokenise`: the drawings' vectors at the vocabulary's length, a little noisy."""
    table = model.text_encoder.get_input_embeddings().weight
    rows, pictures = [], []
    for kind, chosen in enumerate((words, styles)):
        these = np.flatnonzero(chosen >= 0)
        some = {k: v[these] for k, v in specs.items()}
        own = chosen[these] == some["sprite"]
        some |= {"sprite": chosen[these], "joined": some["joined"] & own}
        rows.append(2 * these + kind)
        pictures.append(scenes.reference(stock, some, None, rng, table.device))
    with autocast():
        word, style = model.drawing_encoder(torch.cat(pictures))
    length = table.detach().norm(dim=-1).mean()
    count = len(rows[0])
    unit = torch.cat([word[:count], style[count:]]).float()
    share = torch.from_numpy(rng.uniform(0, NOISE, (len(unit), 1))).to(unit)
    noise = torch.from_numpy(rng.standard_normal(unit.shape)).to(unit) / unit.shape[1] ** 0.5
    unit = F.normalize(unit + share * noise, dim=-1)
    out = torch.zeros(2 * len(words), table.shape[1], device=table.device)
    return out.index_copy(0, torch.from_numpy(np.concatenate(rows)).to(table.device), unit * length)


class Batches(torch.utils.data.Dataset):
    """What each step sees and is told, a pure function of `seed` and the step; on a GPU machine made by worker processes.

    Items: specs, ids (b, 24 or 77), words and styles (b,) as of `say`, and the pool's latents and coverage (or nothing).
    """

    def __init__(self, stock: scenes.Stock, pool: Pool | None, tokenizer: CLIPTokenizer, steps: int, batch: int, seed: int,
                 with_vectors: bool) -> None:  # fmt: skip
        self.stock, self.pool, self.tokenizer, self.steps = stock, pool, tokenizer, steps
        self.batch, self.seed, self.with_vectors = batch, seed, with_vectors

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple:
        if self.pool:
            clean, covered, specs = self.pool.batch(step, self.batch, self.seed)
        else:
            clean = covered = torch.empty(0)
            specs = scenes.sample(self.stock, self.batch, np.random.default_rng((self.seed, step)))
        texts, words, styles = say(self.stock, specs, random.Random(self.seed * 7919 + step), self.with_vectors)
        length = 77 if step % 4 == 0 else 24  # hardly a caption is longer than 24 tokens; short ones cost less
        return clean, covered, specs, captions.tokenise(texts, self.tokenizer, length), words, styles

    def since(self, step: int) -> Iterator[tuple]:
        """The items from `step` on, in order."""
        workers = min(12, (os.cpu_count() or 1) - 2) if device().type == "cuda" else 0
        rows = range(step, self.steps)
        ahead = dict(num_workers=workers, prefetch_factor=4 if workers else None)
        return iter(DataLoader(self, batch_size=None, sampler=rows, collate_fn=_as_it_is, **ahead))


def _as_it_is(item: tuple) -> tuple:
    """The loader would turn arrays into tensors, and an array indexed by a tensor of one element loses a dimension."""
    return item


def train(
    rank: int,
    count: int,
    folder_in: Path,
    text_path: Path,
    tokenizer: CLIPTokenizer,
    folder: Path,
    steps: int,
    batch: int,
    pool: int,
    with_vectors: bool = True,
    rate: float = 8e-4,
    seed: int = 0,
    cool: float = 0.25,
    minutes: float = 0.0,
) -> None:
    """Train for `steps` batches, worker `rank` of `count` on its share of each.

    What a step sees depends on `seed` and the step only. The rate falls over the last `cool` of the steps: a run stopped
    early and started again with fewer `steps` cools down from where it is. `pool`: scenes encoded ahead; 0: none, each
    step composes its own. `minutes`: as many steps as go into that time instead, counted once the first 40 are done.
    """
    began = time.monotonic()
    torch.manual_seed(seed)
    stock = scenes.Stock(folder_in)
    model = Generator(tokenizer).to(device(), memory_format=torch.channels_last)
    for name, weights in torch.load(text_path, map_location=device(), weights_only=True).items():
        getattr(model, name).load_state_dict(weights)
    table = WordTable(model.text_encoder.get_input_embeddings())
    model.text_encoder.set_input_embeddings(table)
    if device().type == "cpu":  # scaled_dot_product_attention's backward is slow there: 28 % of the speed
        model.unet.set_attn_processor(AttnProcessor())
        model.text_encoder.set_attn_implementation("eager")
    optimizer = Muon(model.unet, rank, count, every=2)
    encoders = Muon(torch.nn.ModuleList([model.text_encoder, model.drawing_encoder]), rank, count, every=2)
    average = Average(model, 0.998)  # updated every fourth step
    scheduler = DDIMScheduler(**SCHEDULER)
    ahead = Pool(folder.parent / "pool", stock, pool) if pool else None
    vae = None if pool else autoencoder.load(folder.parent / "vae").to(memory_format=torch.channels_last)
    unet = torch.compile(model.unet) if device().type == "cuda" else model.unet
    run = Run(folder, steps, every=60 if device().type == "cuda" else 240, quiet=rank > 0)
    run.track(model=model, optimizer=optimizer, encoders=encoders, average=average)
    batches = Batches(stock, ahead, tokenizer, 10**6 if minutes else steps, batch, seed, with_vectors).since(run.step)
    for step in run.steps():
        if minutes and step in (20, 40):
            if step == 20:
                warm = time.monotonic()
            else:
                steps = run.total = 40 + int(
                    (60 * minutes - (time.monotonic() - began)) / (time.monotonic() - warm) * 20
                )
        mine = slice(rank, None, count)
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
        clean, covered, specs, ids, words, styles = next(batches)
        specs = {k: v[mine] for k, v in specs.items()}
        if vae is not None:
            clean, covered = encoded(stock, vae, specs)
        else:
            clean, covered = clean[mine].to(device()), covered[mine].to(device())
        noise = torch.randn((batch, *clean.shape[1:]), generator=draw)[mine].to(device())
        timesteps = _timesteps(batch, draw)[mine].to(device())
        noisy = scheduler.add_noise(clean, noise, timesteps).contiguous(memory_format=torch.channels_last)
        target = scheduler.get_velocity(clean, noise, timesteps)
        for part, share in ((optimizer, 1.0), (encoders, ENCODERS)):
            part.set_rate(share * trapezoid_rate(step, steps, rate, fall=cool))
        chance = np.random.default_rng((seed, step, rank))
        table.extra = vectors(model, stock, specs, words[mine], styles[mine], chance) if with_vectors else None
        with autocast():
            out = unet(
                noisy, timesteps, model.text_encoder(_own_rows(ids, mine, len(tokenizer)).to(device()))[0]
            ).sample
        weight = 0.6 + covered  # people look at the thing
        loss = (weight * (out.float() - target).square()).mean() / weight.mean()
        model.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(model, count)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        encoders.step()
        if step % 4 == 0:
            average.update(model)
        if step % 20 == 0:
            run.log(loss=loss.item())


def _own_rows(ids: torch.Tensor, mine: slice, size: int) -> torch.Tensor:
    """One worker's captions; their marks, which count all captions of the batch, count these."""
    rows = torch.arange(len(ids))[mine]
    shift = 2 * (rows - torch.arange(len(rows)))
    ids = ids[mine]
    return torch.where(ids >= size, ids - shift[:, None], ids)


def _timesteps(batch: int, draw: torch.Generator) -> torch.Tensor:
    """Spread evenly over the batch, twice as dense in the middle, where at 16 x 16 latents shapes are decided."""
    share = (torch.arange(batch) + torch.rand(batch, generator=draw)) / batch
    share = share + 0.5 * torch.sin(2 * torch.pi * share) / (2 * torch.pi)
    return (share * 1000).long().clamp(0, 999)


def load(folder: Path, tokenizer: CLIPTokenizer) -> Generator:
    """The averaged generator of a checkpoint, in eval mode."""
    model = Generator(tokenizer)
    saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    weights = {
        k.replace("token_embedding.table.", "token_embedding."): v for k, v in saved["average"]["shadow"].items()
    }
    model.load_state_dict(weights)
    return model.to(device()).eval().requires_grad_(False)
