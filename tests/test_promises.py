"""Promises that a small fault put in by hand showed to be guarded by no other test (`python -m tools.faults`)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ti_nb as ti
from tests import families
from ti_nb.models.conditioning import token_ids
from ti_nb.results.measures import gap_closed
from ti_nb.training.batches import prompts_of_pictures
from ti_nb.widgets.train.driver import Driver

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small() -> ti.Model:
    return ti.from_pipeline(families.pipeline("sd1"), name="small")


@pytest.fixture(scope="module")
def mirrored() -> ti.ConceptImages:
    """Two pictures that are bright on the left, with captions, and masks that are white there."""
    left = np.zeros((16, 16), np.uint8)
    left[:, :8] = 255
    masks = (Image.fromarray(left), None)
    images = tuple(Image.fromarray(left // n).convert("RGB") for n in (1, 2))
    return ti.ConceptImages(images, ("a", "b"), flip=True, captions=("one {}", "two {}"), masks=masks)


def test_a_mirror_image_has_its_own_pictures_caption(mirrored: ti.ConceptImages) -> None:
    brightest = mirrored.pixels(16).amax(dim=(1, 2, 3))  # a, b, and their mirror images
    said = [choices[0] for choices in prompts_of_pictures(mirrored, ti.TrainSettings(), "<new>", 4)]
    assert {caption for caption, top in zip(said, brightest) if top > 0.5} == {"one <new>"}
    assert {caption for caption, top in zip(said, brightest) if top < 0.5} == {"two <new>"}


def test_a_mirror_images_mask_is_mirrored(mirrored: ti.ConceptImages) -> None:
    masks, pixels = mirrored.mask_pixels(16), mirrored.pixels(16)
    assert masks is not None
    for mask, picture in zip(masks[::2], pixels[::2]):  # a and its mirror image: white where the picture is bright
        assert torch.equal(mask[0] > 0.5, picture[0] > 0)
    assert torch.equal(masks[2], masks[0].flip(-1))


def test_captions_from_files_are_those_of_the_pictures_names(tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f"{name} of {{}}")
    images = ti.load_images(tmp_path, captions="files")
    assert [caption.split()[0] for caption in images.captions] == [Path(name).stem for name in images.names]


def test_the_square_around_the_middle_leaves_as_much_on_both_sides() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    for picture in (wide, wide.transpose(1, 0, 2)):
        assert np.asarray(ti.load_images(Image.fromarray(picture))[0]).min() == 255


def test_pull_draws_back_to_the_start(small: ti.Model, photos: ti.ConceptImages) -> None:
    away = []
    for pull in (0.0, 1e3):  # then the pictures' gradient does not count
        run = ti.train(
            small, photos, word="<new>", init="cat", steps=6, batch=1, watch=0, warmup=0, norm="free", pull=pull
        )
        for _ in run:
            pass
        away.append(float((run.concept().vectors["clip_l"] - run.start.vectors["clip_l"]).norm()))
    assert away[1] < 0.7 * away[0]


@pytest.mark.parametrize("asked", [{"guidance": 1.0}, {"guidance": 9.0}, {"negative": "a red cat"}])
def test_guidance_and_the_negative_prompt_are_what_the_pipeline_makes_of_them(small: ti.Model, asked: dict) -> None:
    (ours,) = ti.sample(small, "a cat", seeds=[3], steps=3, progress=False, **asked)
    theirs = small.pipeline()(
        "a cat",
        negative_prompt=asked.get("negative", ""),
        guidance_scale=asked.get("guidance", 5.0),
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(3),
        height=small.resolution,
        width=small.resolution,
    ).images[0]
    (plain,) = ti.sample(small, "a cat", seeds=[3], steps=3, progress=False)
    assert np.abs(np.asarray(ours.image, int) - np.asarray(theirs, int)).max() <= 1
    assert ours.image.tobytes() != plain.image.tobytes()


def test_each_vector_of_each_word_has_an_id_of_its_own(small: ti.Model) -> None:
    ids = token_ids(small, ["<a> <b>"], {"<a>": 2, "<b>": 3})["clip_l"][0].tolist()
    first = small.encoders[0].first
    assert ids[1:6] == [first, first + 1, first + 2, first + 3, first + 4]


def test_random_vectors_have_the_vocabularys_mean_and_spread(small: ti.Model) -> None:
    encoder = replace(small.encoders[0])
    with torch.no_grad():
        encoder.network.get_input_embeddings().weight.add_(1.0)
    try:
        rows = ti.initial_concept(small, "<new>", None, 60).vectors["clip_l"]
        assert math.isclose(rows.mean(), 1.0, abs_tol=0.1)
        assert math.isclose(rows.std(), encoder.table.std(), rel_tol=0.1)
    finally:
        with torch.no_grad():
            encoder.network.get_input_embeddings().weight.sub_(1.0)


def test_the_nearest_words_are_those_of_the_largest_cosine(small: ti.Model) -> None:
    encoder = small.encoders[0]
    vector = encoder.table[100] * 7 + encoder.table[101]
    cosines = torch.nn.functional.cosine_similarity(encoder.table, vector[None])
    found = ti.Concept("<new>", {"clip_l": vector[None]}).nearest(small, 3)
    best = cosines.topk(3)
    names = [t.removesuffix("</w>") for t in encoder.tokenizer.convert_ids_to_tokens(best.indices.tolist())]
    assert [name for name, _ in found] == names
    assert [cosine for _, cosine in found] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_a_negative_word_doubles_what_a_step_is_planned_to_keep(small: ti.Model) -> None:
    plain, guided = (ti.plan_memory(small, ti.TrainSettings(batch=1, negative=n), free=1 << 34) for n in (0, 1))
    assert guided.activations == 2 * plain.activations


def test_the_gap_is_closed_from_the_initializer_to_the_real_pictures() -> None:
    assert gap_closed(0.5, 0.5, 0.9) == 0
    assert gap_closed(0.5, 0.9, 0.9) == pytest.approx(1)
    assert gap_closed(0.5, 0.6, 0.9) == pytest.approx(0.25)


def test_a_words_licence_goes_into_its_file(tmp_path: Path) -> None:
    word = ti.Concept("<new>", {"clip_l": torch.ones(1, 768)}, {"license": "mit"})
    assert ti.load(ti.save(word, tmp_path / "new.safetensors")).facts["license"] == "mit"


def test_a_run_that_was_asked_to_pause_is_in_its_folder(
    small: ti.Model, photos: ti.ConceptImages, tmp_path: Path
) -> None:
    run = ti.train(small, photos, word="<new>", init="cat", steps=5, batch=1, watch=0, out=tmp_path / "run")
    driver = Driver(run, on_step=lambda _: driver.ask_pause(), on_sample=lambda: None, on_state=lambda: None)
    driver.start(background=False)
    assert driver.state == "paused"
    assert len(ti.read_run(tmp_path / "run").records) == 1


def test_a_file_holds_the_usual_format_of_its_ending(tmp_path: Path) -> None:
    word = ti.Concept("<new>", {"clip_l": torch.ones(1, 768)})
    assert list(load_file(ti.save(word, tmp_path / "new.safetensors"))) == ["<new>"]
