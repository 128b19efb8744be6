"""The folder of tiny is a good citizen: diffusers' pipelines and its training script take it as they take any model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import ti_nb as ti

FOLDER = Path(ti.__file__).parent / "tiny"

pytestmark = pytest.mark.slow


def test_the_cards_line_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read off the card, run as written: no precision is named, so that diffusers and transformers choose."""
    from diffusers import StableDiffusionPipeline

    line = re.search(r"`(StableDiffusionPipeline\.from_pretrained\([^`]*\))`", (FOLDER / "README.md").read_text())
    assert line
    monkeypatch.chdir(FOLDER.parents[1])
    pipeline = eval(line[1], {"StableDiffusionPipeline": StableDiffusionPipeline})
    assert {p.dtype for p in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a cartoon of a cat on the beach", num_inference_steps=2).images[0]
    assert picture.size == (ti.load_model("tiny").resolution,) * 2


def test_diffusers_training_script_learns_numbers_on_it(photos: ti.ConceptImages) -> None:
    """The script's own lines: parts loaded by their classes, the whole table trained by AdamW, in no precision but theirs."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(FOLDER, subfolder="tokenizer")
    noise_scheduler = DDPMScheduler.from_pretrained(FOLDER, subfolder="scheduler")
    text_encoder = CLIPTextModel.from_pretrained(FOLDER, subfolder="text_encoder")
    vae = AutoencoderKL.from_pretrained(FOLDER, subfolder="vae")
    unet = UNet2DConditionModel.from_pretrained(FOLDER, subfolder="unet")
    tokenizer.add_tokens(["<cat-toy>"])
    text_encoder.resize_token_embeddings(len(tokenizer))
    table = text_encoder.get_input_embeddings().weight
    table.data[-1] = table.data[tokenizer.encode("animal", add_special_tokens=False)[0]]
    optimizer = torch.optim.AdamW([table], lr=5e-3)
    pixels = photos.pixels(vae.config.sample_size)
    ids = tokenizer(["a photo of a <cat-toy>"] * len(pixels), padding="max_length", return_tensors="pt").input_ids
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        latents = vae.encode(pixels).latent_dist.sample(generator).detach() * vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = torch.randint(0, 1000, (len(latents),), generator=generator)
        noisy = noise_scheduler.add_noise(latents, noise, timesteps)
        prediction = unet(noisy, timesteps, text_encoder(ids)[0]).sample
        loss = F.mse_loss(prediction, noise_scheduler.get_velocity(latents, noise, timesteps))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.isfinite()
    assert table[-1].isfinite().all()
