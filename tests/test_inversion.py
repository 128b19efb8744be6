"""DDIM inversion: diffusers' own way back, and with corrections a way that drawing comes back on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler

import ti_nb as ti
from tests.families import pipeline
from ti_nb.models.denoise import cache_latents
from ti_nb.results.drawing.inversion import _guided, _schedules, _told
from ti_nb.words.prompts import encode

pytestmark = pytest.mark.slow
PROMPT = "a photo of a bird"


def missed(model: ti.Model, photos: ti.ConceptImages, corrections: int) -> float:
    """How far what is drawn from the inverted noise is from the picture's latents, in their own spread."""
    noise = ti.invert(model, photos[0], PROMPT, steps=8, corrections=corrections)
    told = {"prompt": PROMPT, "num_inference_steps": 8, "guidance_scale": 1.0}
    drawn = model.pipeline()(latents=noise.to(model.dtype), output_type="latent", **told).images
    latents, _ = cache_latents(model, photos.pixels(model.resolution)[:1])
    return float((drawn - latents).square().mean().sqrt() / latents.std())


def test_diffusers_draws_the_picture_again_from_the_noise(model: ti.Model, photos: ti.ConceptImages) -> None:
    """In so few steps to a sixth of the latents' spread; without corrections it is quite another picture."""
    assert missed(model, photos, corrections=3) < 1 / 6 < 0.5 < missed(model, photos, corrections=0)


def test_without_corrections_it_is_diffusers_own_inversion(model: ti.Model, photos: ti.ConceptImages) -> None:
    scheduler = DDIMInverseScheduler.from_config(model.pipeline().scheduler.config)
    scheduler.set_timesteps(5)
    latents, _ = cache_latents(model, photos.pixels(model.resolution)[:1])
    states = encode(model, [PROMPT]).states
    for timestep in scheduler.timesteps:
        with torch.no_grad():
            predicted = model.unet(latents, timestep, states).sample
        latents = scheduler.step(predicted, int(timestep), latents).prev_sample
    ours = ti.invert(model, photos[0], PROMPT, steps=5, corrections=0)
    torch.testing.assert_close(ours, latents, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_what_is_undone_is_what_diffusers_does(family: str) -> None:
    """Where weights are random the way back does not settle; but forth, from the same predictions, is diffusers' own."""
    model = ti.from_pipeline(pipeline(family))
    noise = torch.randn(1, *model.latent_shape)
    size = {"height": model.resolution, "width": model.resolution}
    told = {"prompt": PROMPT, "num_inference_steps": 3, "guidance_scale": 2.0, **size}
    theirs = model.pipeline()(latents=noise, output_type="latent", **told).images
    denoiser = _guided(model, _told(model, PROMPT, []), 2.0)
    schedule, _ = _schedules(model, 3)
    latents = noise
    with torch.no_grad():
        for timestep in schedule.timesteps:
            latents = schedule.step(denoiser(latents, timestep), int(timestep), latents).prev_sample
    torch.testing.assert_close(latents, theirs, rtol=1e-3, atol=1e-3)


def test_noise_given_is_noise_of_a_seed(model: ti.Model) -> None:
    """Two seeds' noise, handed over, gives their pictures; the file says that no seed would."""
    given = torch.cat(
        [torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in (7, 9)]
    )
    ours = ti.sample(model, ["a dog", "a cat"], steps=2, latents=given, progress=False)
    seeds = ti.sample(model, ["a dog", "a cat"], steps=2, seeds=[7, 9], progress=False)
    for one, other in zip(ours, seeds, strict=True):
        assert np.abs(np.asarray(one.image, int) - np.asarray(other.image, int)).max() <= 1
    assert [s.seed for s in ours] == [0, 1, 0, 1]
    assert ours[0].settings()["sampler"] == "DDIM from given noise"


def test_noise_of_another_shape_is_refused(model: ti.Model) -> None:
    with pytest.raises(ValueError, match=r"latents have the shape \(4, 3, 3\): 'tiny' takes \(n, 4, "):
        ti.sample(model, "a dog", latents=torch.zeros(4, 3, 3))


def test_a_prompt_without_the_word_is_refused(model: ti.Model, photos: ti.ConceptImages) -> None:
    with pytest.raises(ValueError, match="does not say <new>"):
        ti.invert(model, photos[0], "a bird", ti.initial_concept(model, "<new>", "bird"))
