"""What we save, diffusers loads, and draws the same picture; one seed is one picture."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import ti_nb as ti
from ti_nb.results.drawing.png_settings import read_settings
from ti_nb.results.drawing.sampling import save_samples
from ti_nb.words.concept import fingerprint

pytestmark = pytest.mark.slow


def concept(model: ti.Model, vectors: int = 1, word: str = "<new>") -> ti.Concept:
    rows = ti.initial_concept(model, word, "penguin", vectors).vectors["clip_l"]
    return ti.Concept(word, {"clip_l": rows + 0.02 * torch.randn_like(rows)}, {"steps": 3})


@pytest.mark.parametrize("vectors", [1, 3])
def test_diffusers_loads_our_file_and_draws_our_picture(model: ti.Model, tmp_path: Path, vectors: int) -> None:
    word = concept(model, vectors)
    prompt = "a photo of a <new> on the beach"
    ours = ti.sample(model, prompt, word, seeds=[11], steps=4, guidance=4.0, progress=False)[0].image
    pipe = model.fresh_pipeline()
    pipe.load_textual_inversion(str(ti.save(word, tmp_path / "new.safetensors")))
    generator = torch.Generator().manual_seed(11)
    theirs = pipe(prompt, num_inference_steps=4, guidance_scale=4.0, generator=generator).images[0]
    difference = np.abs(np.asarray(ours, int) - np.asarray(theirs, int))
    assert difference.max() <= 1


def test_a_saved_concept_loads_equal(model: ti.Model, tmp_path: Path) -> None:
    word = concept(model, 2)
    path = ti.save(word, tmp_path / "deep" / "new.safetensors")
    again = ti.load(path)
    assert (again.word, dict(again.facts)) == (word.word, dict(word.facts))
    assert torch.equal(again.vectors["clip_l"], word.vectors["clip_l"])
    assert ti.load(path, word="<other>").word == "<other>"
    assert list(load_file(path)) == ["<new>"]
    assert [p.name for p in path.parent.iterdir()] == ["new.safetensors"]


def test_a_failed_save_leaves_the_old_file(model: ti.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ti.save(concept(model), tmp_path / "new.safetensors")
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="disk full"):
        ti.save(concept(model, 2), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_one_dimensional_files_load(tmp_path: Path) -> None:
    save_file({"<old>": torch.arange(8.0)}, tmp_path / "old.safetensors")
    assert ti.load(tmp_path / "old.safetensors").vectors["clip_l"].shape == (1, 8)


def test_files_that_are_no_concept_are_refused_unopened(model: ti.Model, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ti.NotAConcept, match=r"it names '\w+\.mkdir', which no word needs: refused, not run"):
        ti.load(bad)
    assert not (tmp_path / "exploded").exists()
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, bad)
    with pytest.raises(ValueError, match="holds 2 words: name one with word=, of 'a', 'b'"):
        ti.load(bad)
    assert ti.load(bad, word="b").word == "b"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ti.load(tmp_path / "nowhere.safetensors")


def test_a_seed_is_a_picture_whatever_is_drawn_beside_it(model: ti.Model) -> None:
    many = ti.sample(model, ["a cat", "a {} teapot".replace("{} ", "")], seeds=3, steps=3, progress=False)
    alone = ti.sample(model, "a teapot", seeds=[2], steps=3, progress=False)[0]
    assert [(s.prompt, s.seed) for s in many] == [(p, s) for p in ("a cat", "a teapot") for s in range(3)]
    difference = np.abs(np.asarray(many[5].image, int) - np.asarray(alone.image, int))
    assert difference.max() <= 1
    assert not np.array_equal(np.asarray(many[4].image), np.asarray(many[5].image))


def test_where_memory_is_short_fewer_pictures_are_drawn_at_once(
    model: ti.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device with room for three pictures; what it draws is what one with more room draws."""
    from ti_nb.results.drawing import sampling

    draw, sizes = sampling._draw, []

    def on_a_small_device(pipeline: Any, model: ti.Model, said: Any, against: Any, jobs: Any, given: Any) -> Any:
        sizes.append(len(jobs))
        if len(jobs) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return draw(pipeline, model, said, against, jobs, given)

    plain = ti.sample(model, "a dog", seeds=7, steps=2, progress=False)
    monkeypatch.setattr(sampling, "_draw", on_a_small_device)
    short = ti.sample(model, "a dog", seeds=7, steps=2, progress=False)
    assert sizes == [7, 3, 3, 1]
    assert [s.seed for s in short] == list(range(7))
    for one, other in zip(plain, short):
        assert np.abs(np.asarray(one.image, int) - np.asarray(other.image, int)).max() <= 1
    monkeypatch.setattr(
        sampling, "_draw", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))
    )
    with pytest.raises(torch.OutOfMemoryError):
        ti.sample(model, "a dog", seeds=2, steps=1, progress=False)


@pytest.mark.parametrize(("side", "at_once"), [(64, 16), (128, 16), (512, 4), (768, 1), (1024, 1)])
def test_large_pictures_are_drawn_few_at_once(
    model: ti.Model, monkeypatch: pytest.MonkeyPatch, side: int, at_once: int
) -> None:
    from ti_nb.results.drawing import sampling

    sizes = []
    monkeypatch.setattr(ti.Model, "resolution", side)
    monkeypatch.setattr(
        sampling, "_draw", lambda *given: sizes.append(len(given[4])) or [Image.new("RGB", (8, 8))] * sizes[-1]
    )
    ti.sample(model, "a dog", seeds=17, steps=1, progress=False)
    assert max(sizes) == at_once and sum(sizes) == 17
    with pytest.raises(ValueError, match="batch is 0: at least one"):
        ti.sample(model, "a dog", batch=0)


def test_a_word_may_be_in_the_negative_prompt_alone(model: ti.Model) -> None:
    """And draws what diffusers draws with it there; where another word is wanted in the prompt, that is still looked for."""
    unwanted = ti.initial_concept(model, "<not>", "house")
    ours = ti.sample(model, "a dog", unwanted, negative="a <not>", seeds=[4], steps=3, progress=False)[0].image
    told = dict(negative_prompt="a house", num_inference_steps=3, guidance_scale=5.0)
    theirs = model.pipeline()("a dog", generator=torch.Generator().manual_seed(4), **told).images[0]
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1
    with pytest.raises(ValueError, match="does not say <new>"):
        ti.sample(model, "a dog", [unwanted, concept(model)], negative="a <not>")


def test_sampling_without_concepts_equals_the_plain_pipeline(model: ti.Model) -> None:
    ours = ti.sample(model, "a red apple", seeds=[4], steps=4, progress=False)[0].image
    generator = torch.Generator().manual_seed(4)
    theirs = model.pipeline()("a red apple", num_inference_steps=4, guidance_scale=5.0, generator=generator).images[0]
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


def test_two_concepts_in_one_prompt(model: ti.Model) -> None:
    one, two = concept(model, 1, "<one>"), concept(model, 2, "<two>")
    states = ti.encode(model, ["<one> and <two>"], [one, two])
    swapped = ti.encode(model, ["<one> and <two>"], [two, one])
    torch.testing.assert_close(states.states, swapped.states)
    with pytest.raises(ValueError, match="share the word"):
        ti.encode(model, ["<one>"], [one, one])


def test_wrong_prompts_and_concepts_are_refused(model: ti.Model) -> None:
    word = concept(model)
    with pytest.raises(ValueError, match="does not say <new>"):
        ti.sample(model, "a photo of a cat", word)
    with pytest.raises(ValueError, match="shorten"):
        ti.sample(model, "<new> " * 90, word)
    with pytest.raises(ValueError, match=r"width 768 .*SD 1\.x"):
        ti.sample(model, "a {word}", ti.Concept("<new>", {"clip_l": torch.ones(1, 768)}))
    with pytest.raises(ValueError, match="not all finite"):
        ti.Concept("<new>", {"clip_l": torch.full((1, 8), float("nan"))})
    with pytest.raises(ValueError, match="shape"):
        ti.Concept("<new>", {"clip_l": torch.ones(8)})


def drawn(model: ti.Model, folder: Path) -> tuple[ti.Sample, Path]:
    word = ti.Concept(
        "<new>", concept(model).vectors, {"edits": "strength 0.5", "init": "secret", "model": str(folder)}
    )
    prompt = "a photo of a {word}, in the snow: « ñ 猫 »"
    one = ti.sample(model, prompt, word, seeds=[7], steps=3, guidance=3.5, negative="a cat, a dog", progress=False)[0]
    return one, one.save(folder / "deep" / "one.png")


def test_a_picture_says_how_it_was_drawn_and_draws_equal_again(model: ti.Model, tmp_path: Path) -> None:
    one, path = drawn(model, tmp_path)
    said = read_settings(path)
    assert said == one.settings()
    again = ti.sample(
        model,
        said["prompt"],
        one.concepts,
        seeds=[said["seed"]],
        steps=said["steps"],
        guidance=said["guidance"],
        negative=said["negative"],
        progress=False,
    )[0]
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), np.asarray(again.image))
    assert said["words"] == {"<new>": {"sha256": fingerprint(one.concepts[0]), "edits": "strength 0.5"}}
    assert (said["model"], said["dtype"], said["sampler"], said["width"]) == ("tiny", "float32", "DDIM", 64)
    assert [p.name for p in path.parent.iterdir()] == ["one.png"]


def test_other_programs_read_the_settings(model: ti.Model, tmp_path: Path) -> None:
    """Pillow as the second reader of the text AUTOMATIC1111's programs look for."""
    one, path = drawn(model, tmp_path)
    with Image.open(path) as image:
        text = image.text
    assert set(text) == {"parameters", "ti_nb"}
    assert text["parameters"].splitlines() == [
        "a photo of a <new>, in the snow: « ñ 猫 »",
        "Negative prompt: a cat, a dog",
        "Steps: 3, Sampler: DDIM, CFG scale: 3.5, Seed: 7, Size: 64x64, Model: tiny, "
        f'TI hashes: "<new>: {fingerprint(one.concepts[0])[:12]}"',
    ]
    everything = path.read_bytes() + "".join(text.values()).encode()
    assert not any(private.encode() in everything for private in (str(tmp_path), "secret", str(Path.home())))


def test_a_sample_of_three_parts_is_valid_and_saves(tmp_path: Path) -> None:
    plain = ti.Sample(Image.new("RGB", (8, 6)), "a cat", 3)
    assert plain == ti.Sample(plain.image, "a cat", 3)
    said = read_settings(plain.save(tmp_path / "a.png"))
    assert (said["steps"], said["guidance"], said["words"], said["model"]) == (None, None, {}, "")
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["parameters"] == "a cat\nSeed: 3, Size: 8x6"


def test_saved_pictures_are_numbered_on(tmp_path: Path) -> None:
    samples = [ti.Sample(Image.new("RGB", (4, 4)), f"A <cat> & {'so ' * 30}{s}", s) for s in range(2)]
    names = [p.name for p in save_samples(samples, tmp_path / "x")]
    assert names == [f"00{i + 1}-a-cat-so-so-so-so-so-so-so-so-so-so-so-s-seed{i}.png" for i in range(2)]
    assert [p.name[:3] for p in save_samples(samples, tmp_path / "x")] == ["003", "004"]
    assert len(list((tmp_path / "x").iterdir())) == 4


def test_no_folder_of_a_model_is_told(model: ti.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    names = {
        "tiny": "tiny",
        "sd15": "sd15",
        "owner/name-1.5": "owner/name-1.5",
        "/home/ann/models/cats": "cats",
        "~/models/cats/": "cats",
        "./cats": "cats",
        "../../cats": "cats",
        "C:\\Users\\Ann\\cats": "cats",
        "home/mine": "mine",
    }
    assert {name: replace(model, name=name).shared_name for name in names} == names
    told = ti.sample(replace(model, name="/home/ann/x"), "a cat", seeds=1, steps=1, progress=False)[0]
    assert told.model == "x"


def test_a_failed_or_wrong_picture_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ti.Sample(Image.new("RGB", (8, 6)), "a cat", 3)
    with pytest.raises(ValueError, match=r"must end in \.png"):
        plain.save(tmp_path / "a.jpg")
    plain.image.save(tmp_path / "bare.png")
    plain.image.save(tmp_path / "a.jpg")
    (tmp_path / "text.png").write_text("hello")
    for name, reason in (("bare.png", "does not say"), ("a.jpg", "not a PNG"), ("text.png", "not a PNG")):
        with pytest.raises(ValueError, match=reason):
            read_settings(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_settings(tmp_path / "nowhere.png")
    path = plain.save(tmp_path / "kept.png")
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="disk full"):
        ti.Sample(plain.image, "a dog", 3).save(path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))
