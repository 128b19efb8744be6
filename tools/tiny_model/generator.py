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
from .runs import Average, Run, autocast, average_gradients, cosine_rate, device, set_rate

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
    steps_offset=0,
)
HALF_BATCHES = 1200


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
    """Train for `steps` batches, worker `rank` of `count` on its share of each; the first 1200 batches are half as large.

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
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    average = Average(model, 0.994)  # updated every fourth step
    scheduler = DDIMScheduler(**SCHEDULER)
    run = Run(folder, steps, quiet=rank > 0)
    run.track(model=model, optimizer=optimizer, average=average)
    for step in run.steps():
        size = batch // 2 if step < HALF_BATCHES else batch
        mine = slice(rank, None, count)
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = _rows(len(latents), step, size, batch, seed)
        noise = torch.randn((size, *latents.shape[1:]), generator=draw)[mine]
        share = (torch.arange(size) + torch.rand(size, generator=draw)) / size
        timesteps = (share * 1000).long().clamp(max=999)[mine]
        speech = random.Random(seed * 7919 + step)
        texts = [world.caption(scenes[i], speech, categories) for i in rows.tolist()][mine]
        clean = latents[rows][mine].float()
        ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        noisy = scheduler.add_noise(clean, noise, timesteps).to(device(), memory_format=torch.channels_last)
        target = scheduler.get_velocity(clean, noise, timesteps).to(device())
        set_rate(optimizer, cosine_rate(step, steps, rate, warmup=300))
        with autocast():
            out = model(noisy, timesteps.to(device()), ids.to(device()))
        loss = F.mse_loss(out.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(model, count)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 4 == 0:
            average.update(model)
        if step % 20 == 0:
            run.log(loss=loss.item())


def _rows(total: int, step: int, size: int, batch: int, seed: int) -> torch.Tensor:
    """Which pictures step `step` sees: a new order each epoch."""
    at = step * (batch // 2) if step < HALF_BATCHES else HALF_BATCHES * (batch // 2) + (step - HALF_BATCHES) * batch
    epoch, place = divmod(at, total - batch)
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed + epoch))[place : place + size]


def load(folder: Path, tokenizer: CLIPTokenizer) -> Generator:
    """The averaged generator of a checkpoint, in eval mode."""
    model = Generator(tokenizer)
    saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(saved["average"]["shadow"])
    return model.to(device()).eval().requires_grad_(False)
