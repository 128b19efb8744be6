"""Arguments of another kind are refused in words by every public function, before any work."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ti_nb as ti
from ti_nb.host.arguments import validated

NAN, INF = float("nan"), float("inf")
OWN = {"load_model", "from_pipeline", "mount_drive", "example_names"}  # which check by themselves, or take nothing


def functions() -> list[str]:
    return [name for name in ti.__all__ if inspect.isfunction(getattr(ti, name)) and name not in OWN]


@pytest.mark.parametrize("name", functions())
@pytest.mark.parametrize("value", [object(), {"a": 1}, 3 + 1j], ids=["object", "dictionary", "complex"])
def test_no_function_takes_anything_for_its_arguments(name: str, value: Any) -> None:
    """Each refuses what is of no kind at all, in the name of an argument that is so."""
    function = getattr(ti, name)
    needed = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind != p.VAR_KEYWORD
    ]
    given = needed or list(inspect.signature(function).parameters)[:1]
    positional = [n for n in given if inspect.signature(function).parameters[n].kind != inspect.Parameter.KEYWORD_ONLY]
    with pytest.raises(ValueError, match=r" is (of type|an? |\()"):
        function(*[value] * len(positional), **{n: value for n in given if n not in positional})


@pytest.mark.parametrize(
    "change",
    [
        {"steps": "100"},
        {"steps": True},
        {"steps": 0},
        {"steps": 1e9},
        {"steps": None},
        {"batch": 2.5},
        {"batch": torch.tensor(2)},
        {"vectors": "2"},
        {"vectors": [1]},
        {"rate": NAN},
        {"rate": True},
        {"rate": "1..5"},
        {"rate": "."},
        {"rate": INF},
        {"relative": "no"},
        {"decay": None},
        {"decay": ["cosine"]},
        {"timesteps": 0.5},
        {"timesteps": (0.1, NAN)},
        {"timesteps": "ab"},
        {"timesteps": (0.1, 0.5, 0.9)},
        {"seed": None},
        {"seed": -1},
        {"seed": 2**64},
        {"templates": ()},
        {"templates": "a photo of {}"},
        {"templates": ("a photo of {}", 3)},
        {"templates": None},
        {"weight_decay": -0.1},
        {"pull": NAN},
        {"snr_gamma": "5"},
        {"ema": -1},
        {"negative_guidance": INF},
        {"shuffle": 1},
        {"settings": 3},
        {"settings": {"steps": 3}},
    ],
    ids=str,
)
def test_settings_of_another_kind_are_refused(model: ti.Model, photos: ti.ConceptImages, change: dict) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(change))}|template"):
        ti.train(model, photos, word="<new>", init="animal", **change)


def test_numbers_of_numpy_are_numbers() -> None:
    given = ti.TrainSettings(
        steps=np.int64(7), rate=np.float32(0.5), shuffle=np.bool_(True), timesteps=[0, np.float64(1)]
    )
    assert given == ti.TrainSettings(steps=7, rate=0.5, shuffle=True, timesteps=(0, 1))
    assert [type(v) for v in (given.steps, given.rate, given.shuffle)] == [int, float, bool]
    assert (
        validated("seeds", np.arange(3), int | list[int])
        == validated("seeds", iter(range(3)), int | list[int])
        == [0, 1, 2]
    )


CALLS: dict[str, Callable[[ti.Model, ti.ConceptImages, ti.Concept, Path], Any]] = {
    "images is 'my": lambda m, p, c, t: ti.train(m, "my-pictures/", word="<n>", init="animal"),
    "images is a list": lambda m, p, c, t: ti.train(m, list(p.images), word="<n>", init="animal"),
    "model is 'tiny'": lambda m, p, c, t: ti.train("tiny", p, word="<n>", init="animal"),
    "word is None": lambda m, p, c, t: ti.train(m, p, word=None, init="animal"),
    "init is 3": lambda m, p, c, t: ti.train(m, p, word="<n>", init=3),
    "out is ''": lambda m, p, c, t: ti.train(m, p, word="<n>", init="animal", out=""),
    "save_every is 0": lambda m, p, c, t: ti.train(m, p, word="<n>", init="animal", save_every=0),
    "seeds is '3'": lambda m, p, c, t: ti.train_seeds(m, p, seeds="3", word="<n>", init="animal"),
    "seeds is 0": lambda m, p, c, t: ti.train_seeds(m, p, seeds=0, word="<n>", init="animal"),
    "runs is a list": lambda m, p, c, t: ti.together([m]),
    "prompts is 3": lambda m, p, c, t: ti.sample(m, 3, c),
    "prompts is empty": lambda m, p, c, t: ti.sample(m, [], c),
    "concepts is '<n>'": lambda m, p, c, t: ti.sample(m, "a {}", "<n>"),
    "seeds is -1": lambda m, p, c, t: ti.sample(m, "a {}", c, seeds=-1),
    "seeds is True": lambda m, p, c, t: ti.sample(m, "a {}", c, seeds=True),
    "seeds is .1.5": lambda m, p, c, t: ti.sample(m, "a {}", c, seeds=[1.5]),
    "seeds is ..:": lambda m, p, c, t: ti.sample(m, "a {}", c, seeds=[]),
    "steps is 2.5": lambda m, p, c, t: ti.sample(m, "a {}", c, steps=2.5),
    "steps is 1000000": lambda m, p, c, t: ti.sample(m, "a {}", c, steps=10**6),
    "guidance is nan": lambda m, p, c, t: ti.sample(m, "a {}", c, guidance=NAN),
    "negative is None": lambda m, p, c, t: ti.sample(m, "a {}", c, negative=None),
    "samples is ": lambda m, p, c, t: ti.save_samples("x", t),
    "folder is None": lambda m, p, c, t: ti.save_samples([], None),
    "path is 3": lambda m, p, c, t: ti.load(3),
    "path is None": lambda m, p, c, t: ti.read_run(None),
    "concept is '<n>'": lambda m, p, c, t: ti.adjust("<n>", None),
    "strength is '2'": lambda m, p, c, t: ti.adjust(c, None, strength="2"),
    "share is True": lambda m, p, c, t: ti.mix(c, c, True),
    "word is 3": lambda m, p, c, t: ti.rename(c, 3),
    "concepts is ": lambda m, p, c, t: ti.join(c, "<n>"),
    "source is 'x'": lambda m, p, c, t: ti.initial_concept(m, "<n>", "animal", source="x"),
    "count is 0": lambda m, p, c, t: c.nearest(m, 0),
    "words is 'cat'": lambda m, p, c, t: ti.vectors_of(m, "cat"),
    "tokenizer is of": lambda m, p, c, t: ti.check_word("<n>", m),
    "pipeline is a str": lambda m, p, c, t: ti.load_into("x", c),
    "pipeline is a Model": lambda m, p, c, t: ti.unload(m, c),
    "bands is 0": lambda m, p, c, t: ti.loss_by_timestep(m, p, [c], bands=0),
    "noise is nan": lambda m, p, c, t: ti.attention(m, p, "a {}", c, noise=NAN),
    "window is 0": lambda m, p, c, t: ti.plot_loss([], window=0),
    "columns is 0": lambda m, p, c, t: ti.show_images(p.images, columns=0),
    "flip is 'no'": lambda m, p, c, t: ti.load_images(p.images, flip="no"),
    "captions is 3": lambda m, p, c, t: ti.load_images(p.images, captions=3),
    "source is None": lambda m, p, c, t: ti.load_images(None),
    "name is 3": lambda m, p, c, t: ti.example_images(3),
    "together is 0": lambda m, p, c, t: ti.plan_memory(m, ti.FAST, together=0),
    "limit is 'x'": lambda m, p, c, t: ti.browse(limit="x"),
    "repo is 3": lambda m, p, c, t: ti.fetch(3),
    "token is of type": lambda m, p, c, t: ti.log_in(3),
    "every is 0.5": lambda m, p, c, t: ti.TrainPanel(ti.train(m, p, word="<n>", init="animal"), every=0.5),
    "run is 'x'": lambda m, p, c, t: ti.TrainPanel("x"),
    "step is 1.5": lambda m, p, c, t: ti.train(m, p, word="<n>", init="animal").concept(1.5),
    "of no kind|no tensor": lambda m, p, c, t: ti.Concept("<n>", {"clip_l": [[1.0]]}),
}


@pytest.mark.parametrize("said", list(CALLS))
def test_arguments_of_another_kind_are_named(
    model: ti.Model, photos: ti.ConceptImages, tmp_path: Path, said: str
) -> None:
    concept = ti.initial_concept(model, "<n>", "animal")
    with pytest.raises(ValueError, match=said):
        CALLS[said](model, photos, concept, tmp_path)


def test_a_secret_is_not_shown() -> None:
    with pytest.raises(ValueError, match="token is of type bytes") as caught:
        ti.fetch("a/b", token=b"hf_secret")
    assert "secret" not in str(caught.value)
