"""Blended latent diffusion: new within the mask, and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForInpainting
from PIL import Image, ImageDraw, ImageFilter

import ti_nb as ti
from tests.families import pipeline
from ti_nb.models.denoise import cache_latents
from ti_nb.results.drawing.blending import _blending, _prepared, _seam

pytestmark = pytest.mark.slow


def disc(side: int, *, radius: float = 0.25, centre: tuple[float, float] = (0.5, 0.5)) -> Image.Image:
    mask = Image.new("L", (side, side), 0)
    left, top = ((at - radius) * side for at in centre)
    ImageDraw.Draw(mask).ellipse((left, top, left + 2 * radius * side, top + 2 * radius * side), fill=255)
    return mask


def changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    """Levels by which each pixel differs, the mean of its channels (h, w)."""
    return np.abs(np.asarray(before, float) - np.asarray(after, float)).mean(-1)


def test_it_changes_what_is_in_the_mask_and_nothing_else(model: ti.Model, photos: ti.ConceptImages) -> None:
    picture = photos[0].resize((model.resolution,) * 2)
    mask = disc(model.resolution)
    inside = np.asarray(mask) > 127
    samples = ti.edit_picture(model, picture, mask, "a red apple", seeds=2, steps=4, progress=False)
    for sample in samples:
        difference = changed(picture, sample.image)
        assert difference[~inside].max() == 0 and difference[inside].mean() > 10
    assert changed(samples[0].image, samples[1].image)[inside].mean() > 1
    assert samples[0].settings()["sampler"] == "DDIM blended into a picture"


def test_outside_the_model_draws_on_from_the_picture_before_any_pixel_is_pasted(
    model: ti.Model, photos: ti.ConceptImages
) -> None:
    """What is decoded is the picture there but for what the VAE loses, which is less than another drawing would differ."""
    kept = _prepared(model, photos[0], disc(photos[0].width))
    told = _blending(model, kept)([3])
    pipe = model.pipeline()
    drawn = pipe("a red apple", num_inference_steps=4, **told).images[0]
    free = pipe("a red apple", num_inference_steps=4, latents=told["latents"]).images[0]
    latents, _ = cache_latents(model, kept.pixels(model.resolution))
    back = model.vae.to(model.device).decode(latents / model.vae.config.scaling_factor, return_dict=False)[0]
    back = pipe.image_processor.postprocess(back)[0]
    outside = (
        np.asarray(kept.masks[0].filter(ImageFilter.MaxFilter(17))) == 0
    )  # a decoded pixel depends on those around it
    lost, blended, other = (changed(kept[0], one)[outside].mean() for one in (back, drawn, free))
    assert blended < 2 * lost < other / 2, (lost, blended, other)


def test_all_in_the_mask_is_what_sample_draws(model: ti.Model, photos: ti.ConceptImages) -> None:
    """But for the seam at the picture's edge, of which a filter takes no more than is there."""
    all_of_it = Image.new("L", photos[0].size, 255)
    (edited,) = ti.edit_picture(model, photos[0], all_of_it, "a dog", seeds=[5], steps=3, progress=False)
    (drawn,) = ti.sample(model, "a dog", seeds=[5], steps=3, progress=False)
    assert changed(edited.image, drawn.image).max() <= 1


def test_the_seam_is_soft_and_lies_within_the_mask() -> None:
    mask = Image.new("L", (512, 512), 0)
    mask.paste(255, (256, 0, 512, 512))
    row = np.asarray(_seam(ti.ConceptImages((mask.convert("RGB"),), ("half",), masks=(mask,))), int)[256]
    assert row[:256].max() == 0 and row[256] < 20 and row[300] > 250
    assert np.diff(row).max() < 30


def test_a_thin_mask_is_not_lost(model: ti.Model, photos: ti.ConceptImages) -> None:
    mask = Image.new("L", photos[0].size, 0)
    mask.paste(255, (0, mask.height // 2, mask.width, mask.height // 2 + 3))
    told = _blending(model, _prepared(model, photos[0], mask))([0])
    pipe = model.pipeline()
    pipe.scheduler.set_timesteps(2)
    latents = torch.full_like(told["latents"], 9.0)
    out = told["callback_on_step_end"](pipe, 1, None, {"latents": latents})["latents"]
    rows = int((out == 9).all(dim=(0, 1, 3)).sum())
    assert 1 <= rows <= 2


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_other_families_edit_with_a_word(family: str, photos: ti.ConceptImages) -> None:
    model = ti.from_pipeline(pipeline(family))
    word = ti.initial_concept(model, "<new>", "bird")
    picture, mask = photos[0].resize((model.resolution,) * 2), disc(model.resolution, radius=0.4)
    (edited,) = ti.edit_picture(model, picture, mask, "a {word}", word, seeds=[1], steps=2, progress=False)
    assert changed(picture, edited.image)[np.asarray(mask) < 128].max() == 0
    assert edited.prompt == "a <new>" and changed(picture, edited.image).max() > 0


def test_a_word_works_in_diffusers_inpainting_of_the_same_weights(model: ti.Model, photos: ti.ConceptImages) -> None:
    """With another word it draws something else, and outside the mask the same."""
    pipe = AutoPipelineForInpainting.from_pipe(model.fresh_pipeline())
    pipe.set_progress_bar_config(disable=True)
    words = [ti.load_into(pipe, ti.initial_concept(model, f"<{name}>", name)) for name in ("dress", "house")]
    picture, mask = photos[0].resize((model.resolution,) * 2), disc(model.resolution)
    told = dict(image=picture, mask_image=mask, num_inference_steps=4, strength=1.0)
    size = dict(height=model.resolution, width=model.resolution)
    one, other = (
        pipe(f"a {word}", generator=torch.Generator().manual_seed(0), **told, **size).images[0] for word in words
    )
    inside = np.asarray(mask) > 127
    difference = changed(one, other)
    assert difference[inside].mean() > 5 and difference[~inside].mean() < difference[inside].mean() / 4


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Image.new("L", (3, 3), 255), r"mask is \(3, 3\) px large and picture"),
        (Image.new("L", (64, 64), 0), "mask has no white"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(
    model: ti.Model, photos: ti.ConceptImages, mask: Image.Image, message: str
) -> None:
    mask = mask if mask.width == 3 else mask.resize(photos[0].size)
    with pytest.raises(ValueError, match=message):
        ti.edit_picture(model, photos[0], mask, "a dog")
