"""Step 4: text encoder and UNet, trained together on cached latents (v-prediction, zero terminal SNR)."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import world
from .runs import Average, Run, autocast, cosine_rate, device, set_rate

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


def _captions(scenes: list[world.Scene], rng: random.Random, categories: dict[str, str]) -> list[str]:
    return [world.caption(scene, rng, categories) for scene in scenes]


def train(
    latents: torch.Tensor,
    scenes_path: Path,
    tokenizer: CLIPTokenizer,
    folder: Path,
    *,
    steps: int,
    batch: int = 64,
    rate: float = 8e-4,
    seed: int = 0,
    compile: bool = False,
) -> None:
    """Train for `steps` batches; the order of pictures, captions, noise and timesteps depends on `seed` and step only."""
    torch.manual_seed(seed)
    scenes = [world.Scene(**s) for s in json.loads(scenes_path.read_text())]
    categories = {world.plain(k): v for k, v in world.training_things().items()}
    model = Generator(tokenizer).to(device(), memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    average = Average(model, 0.994)  # updated every fourth step
    scheduler = DDIMScheduler(**SCHEDULER)
    run = Run(folder, steps)
    run.track(model=model, optimizer=optimizer, average=average)
    forward = torch.compile(model) if compile else model
    per_epoch = len(latents) // batch
    for step in run.steps():
        epoch, place = divmod(step, per_epoch)
        order = torch.randperm(len(latents), generator=torch.Generator().manual_seed(seed + epoch))
        rows = order[place * batch : (place + 1) * batch]
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
        clean = latents[rows].float()
        noise = torch.randn(clean.shape, generator=draw)
        share = (torch.arange(batch) + torch.rand(batch, generator=draw)) / batch
        timesteps = (share * 1000).long().clamp(max=999)
        texts = _captions([scenes[i] for i in rows.tolist()], random.Random(seed * 7919 + step), categories)
        ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        noisy = scheduler.add_noise(clean, noise, timesteps).to(device(), memory_format=torch.channels_last)
        target = scheduler.get_velocity(clean, noise, timesteps).to(device())
        set_rate(optimizer, cosine_rate(step, steps, rate, warmup=300))
        with autocast():
            out = forward(noisy, timesteps.to(device()), ids.to(device()))
        loss = F.mse_loss(out.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 4 == 0:
            average.update(model)
        if step % 50 == 0:
            run.log(loss=loss.item())


def load(folder: Path, tokenizer: CLIPTokenizer) -> Generator:
    """The averaged generator of a checkpoint, in eval mode."""
    model = Generator(tokenizer)
    saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(saved["average"]["shadow"])
    return model.to(device()).eval().requires_grad_(False)
