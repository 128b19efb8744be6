"""What we save, diffusers loads, and draws the same picture; one seed is one picture."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ti_nb as ti


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
    with pytest.raises(ValueError, match="not a safetensors file"):
        ti.load(bad)
    assert not (tmp_path / "exploded").exists()
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, bad)
    with pytest.raises(ValueError, match="holds 2 tensors"):
        ti.load(bad)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ti.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        ti.save(concept(model), tmp_path / "new.bin")


def test_a_seed_is_a_picture_whatever_is_drawn_beside_it(model: ti.Model) -> None:
    many = ti.sample(model, ["a cat", "a {} teapot".replace("{} ", "")], seeds=3, steps=3, progress=False)
    alone = ti.sample(model, "a teapot", seeds=[2], steps=3, progress=False)[0]
    assert [(s.prompt, s.seed) for s in many] == [(p, s) for p in ("a cat", "a teapot") for s in range(3)]
    difference = np.abs(np.asarray(many[5].image, int) - np.asarray(alone.image, int))
    assert difference.max() <= 1
    assert not np.array_equal(np.asarray(many[4].image), np.asarray(many[5].image))


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
