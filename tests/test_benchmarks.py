"""What the benchmarks compute is right, on small things; running them in full takes hours and is no test."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import ti_nb as ti
from benchmarks import attention
from tests.families import pipeline
from ti_nb.results.look_inside import Attention


@pytest.fixture(scope="module")
def small() -> ti.Model:
    return ti.from_pipeline(pipeline("sd1"), name="small")


def disc() -> tuple[Image.Image, Image.Image]:
    """A red disc on blue, and where it is."""
    thing, mask = Image.new("RGB", (64, 64), (60, 90, 200)), Image.new("L", (64, 64))
    ImageDraw.Draw(thing).ellipse((12, 12, 52, 52), fill=(200, 30, 40))
    ImageDraw.Draw(mask).ellipse((12, 12, 52, 52), fill=255)
    return thing, mask


def test_focus_is_the_attention_inside_over_that_outside() -> None:
    """Three times as much in the mask's quarter; of the second token as much everywhere."""
    maps = torch.ones(2, 2, 8, 8)
    maps[:, 0, :4, :4] = 3
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 32))
    found = Attention(("<x>", "snow"), maps)
    assert found.focus([mask, mask]) == pytest.approx({"<x>": 3, "snow": 1})
    shifted = Image.new("L", (64, 64))
    shifted.paste(255, (32, 32, 64, 64))
    assert found.focus([shifted, shifted])["<x>"] == pytest.approx(1 / ((16 * 3 + 32) / 48))
    with pytest.raises(ValueError, match="1 masks and 2 pictures"):
        found.focus([mask])
    with pytest.raises(ValueError, match="all white or all black"):
        found.focus([mask, Image.new("L", (8, 8), 255)])


def test_a_scene_has_the_thing_where_its_mask_says() -> None:
    thing, mask = disc()
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    cut_from, cut = attention.cut_out(ti.ConceptImages((noisy, thing), ("noisy", "plain")))
    assert cut_from is thing
    overlap = np.asarray(cut) > 127, np.asarray(mask) > 127
    assert (overlap[0] & overlap[1]).sum() / (overlap[0] | overlap[1]).sum() > 0.95
    place = Image.new("RGB", (64, 64), (250, 250, 250))
    for seed in range(3):
        scene, where = attention.compose(thing, cut, place, random.Random(seed))
        pixels, inside = np.asarray(scene).astype(int), np.asarray(where)
        assert (pixels[inside == 255][:, 0] > 150).all() and (pixels[inside == 255][:, 2] < 120).all()
        assert (pixels[inside == 0] == 250).all()
        assert 0.1 < (inside > 127).mean() < 0.5


def test_a_words_attention_is_measured_in_scenes(small: ti.Model) -> None:
    """The rows of the table are what `attention` and the masks give."""
    thing, mask = disc()
    place = Image.new("RGB", (16, 16), "white")
    scenes = [attention.compose(thing, mask, place, random.Random(seed)) for seed in range(2)]
    word = ti.initial_concept(small, "<new>", "penguin", 2)
    found = attention.focus(small, word, scenes, "a {word} here", 0.5)
    pictures = ti.ConceptImages(tuple(s for s, _ in scenes), ("0", "1"))
    own = ti.attention(small, pictures, "a {word} here", word).focus([m for _, m in scenes])
    assert found["word"] == pytest.approx((own["<new> 1"] + own["<new> 2"]) / 2)
    assert found["here"] == pytest.approx(own["here"])
    rows = [{"thing": name, "place": "snow", "word": ratio} for name, ratio in (("a", 3.0), ("b", 1.0))]
    assert "Mean 2.00, least 1.00; at least 2 in 1 of 2." in attention.report(rows)
