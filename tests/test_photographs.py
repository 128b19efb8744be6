"""tiny draws drawings: who gives it photographs hears so before anything is trained."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image, ImageFilter

import ti_nb as ti
from ti_nb.models.denoise import reconstruction

pytestmark = pytest.mark.slow


def _like_photographs(side: int = 400) -> list[Image.Image]:
    """Detail at every scale, as leaves, fur and wood have it: octaves of noise, brighter towards one corner."""
    out = []
    for seed in range(5):
        rng, total = np.random.default_rng(seed), np.zeros((side, side, 3))
        for octave in range(2, 8):
            small = (rng.random((2**octave, 2**octave, 3)) * 255).astype(np.uint8)
            layer = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
            total += np.asarray(layer.filter(ImageFilter.GaussianBlur(1)), float) * 1.1**octave
        light = np.linspace(0.6, 1.1, side)[:, None, None]
        total = (total - total.min()) / (total.max() - total.min()) * 255 * light
        out.append(Image.fromarray(total.clip(0, 255).astype(np.uint8)))
    return out


def test_training_and_the_panel_warn_of_photographs(model: ti.Model) -> None:
    detailed = ti.load_images(_like_photographs())
    with pytest.warns(UserWarning, match="look like photographs, and tiny draws drawings"):
        ti.train(model, detailed, word="<new>", init="thing", steps=1)
    panel = ti.PreparePanel(model)
    panel.add((f"{i}.png", picture) for i, picture in enumerate(detailed.images))
    assert "look like photographs" in panel.loaded.value


@pytest.mark.parametrize("name", ti.example_names())
def test_drawings_go_through_without_a_word(model: ti.Model, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ti.train(model, ti.example_images(name), word="<new>", init="thing", steps=1)


def test_the_signal_to_noise_ratio_of_a_known_loss(model: ti.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that gives grey for pictures of -0.5: 10 log10(2^2 / 0.5^2) = 12.04 dB."""
    pixels = ti.load_images([Image.new("RGB", (64, 64), (64, 64, 64))] * 2).pixels(64) * 0 - 0.5
    grey = type("Out", (), {"sample": pixels * 0})
    monkeypatch.setattr(model.vae, "decode", lambda latents: grey)
    assert reconstruction(model, pixels) == pytest.approx(12.0412, abs=1e-3)
