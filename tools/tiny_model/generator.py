"""Step 4: text encoder and UNet, trained together on cached latents (v-prediction, zero terminal SNR)."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import world
from .muon import Muon
from .runs import Average, Run, autocast, average_gradients, device, trapezoid_rate

UNET = dict(
    sample_size=16,
    in_channels=4,
    out_channels=4,
    block_out_channels=(64, 128, 256),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    cross_attention_dim=192,
    attention_head_dim=4,
    norm_num_groups=16,
)
TEXT = dict(
    hidden_size=192,
    intermediate_size=768,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=77,
    projection_dim=192,
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


class Generator(torch.nn.Module):
    """Text encoder and UNet as one module."""

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

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Predicted velocity (b, 4, 16, 16)."""
        states = self.text_encoder(ids)[0]
        return self.unet(noisy, timesteps, states).sample


def train(
    rank: int,
    count: int,
    latents: torch.Tensor,
    scenes_path: Path,
    text_path: Path,
    tokenizer: CLIPTokenizer,
    folder: Path,
    steps: int,
    batch: int,
    rate: float = 8e-4,
    seed: int = 0,
) -> None:
    """Train for `steps` batches, worker `rank` of `count` on its share of each.

    The order of pictures, captions, noise and timesteps depends on `seed` and the step only.
    """
    torch.manual_seed(seed)
    scenes = [world.Scene(**s) for s in json.loads(scenes_path.read_text())]
    categories = {world.plain(k): v for k, v in world.training_things().items()}
    model = Generator(tokenizer).to(device(), memory_format=torch.channels_last)
    model.text_encoder.load_state_dict(torch.load(text_path, map_location=device(), weights_only=True))
    if device().type == "cpu":  # scaled_dot_product_attention's backward is slow there: 28 % of the speed
        model.unet.set_attn_processor(AttnProcessor())
        model.text_encoder.set_attn_implementation("eager")
    optimizer = Muon(model, rank, count)
    average = Average(model, 0.992)  # updated every fourth step
    scheduler = DDIMScheduler(**SCHEDULER)
    run = Run(folder, steps, quiet=rank > 0)
    run.track(model=model, optimizer=optimizer, average=average)
    for step in run.steps():
        mine = slice(rank, None, count)
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = _rows(len(latents), step, batch, seed)
        noise = torch.randn((batch, *latents.shape[1:]), generator=draw)[mine]
        timesteps = _timesteps(batch, draw)[mine]
        speech = random.Random(seed * 7919 + step)
        texts = [world.caption(scenes[i], speech, categories) for i in rows.tolist()][mine]
        clean = latents[rows][mine].float()
        length = 77 if step % 4 == 0 else 24  # no caption is longer than 20 tokens; short ones cost less
        ids = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        noisy = scheduler.add_noise(clean, noise, timesteps).to(device(), memory_format=torch.channels_last)
        target = scheduler.get_velocity(clean, noise, timesteps).to(device())
        optimizer.set_rate(trapezoid_rate(step, steps, rate))
        with autocast():
            out = model(noisy, timesteps.to(device()), ids.to(device()))
        loss = F.mse_loss(out.float(), target)
        optimizer.zero_grad()
        loss.backward()
        average_gradients(model, count)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 4 == 0:
            average.update(model)
        if step % 20 == 0:
            run.log(loss=loss.item())


def _timesteps(batch: int, draw: torch.Generator) -> torch.Tensor:
    """Spread evenly over the batch, twice as dense in the middle, where at 16 x 16 latents shapes are decided."""
    share = (torch.arange(batch) + torch.rand(batch, generator=draw)) / batch
    share = share + 0.5 * torch.sin(2 * torch.pi * share) / (2 * torch.pi)
    return (share * 1000).long().clamp(0, 999)


def _rows(total: int, step: int, batch: int, seed: int) -> torch.Tensor:
    """Which pictures step `step` sees: a new order each epoch."""
    epoch, place = divmod(step, total // batch)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed + epoch))
    return order[place * batch : (place + 1) * batch]


def load(folder: Path, tokenizer: CLIPTokenizer) -> Generator:
    """The averaged generator of a checkpoint, in eval mode."""
    model = Generator(tokenizer)
    saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(saved["average"]["shadow"])
    return model.to(device()).eval().requires_grad_(False)
