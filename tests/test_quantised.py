"""Weights in 8 bit: what diffusers' and transformers' own quantisation loads learns, draws, saves and goes on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import ti_nb as ti
from ti_nb.models.today.memory import stored
from ti_nb.models.today.pipeline_model import PipelineModel
from ti_nb.training.losses import word_loss

from .today import SIDE, pipeline

pytestmark = pytest.mark.slow
has_quanto = bool(importlib.util.find_spec("optimum") and importlib.util.find_spec("optimum.quanto"))
QUANTISED = ("Z-Image", "Chroma", "Flux", "Lumina 2")  # in 8 bit
LONG = [*QUANTISED[:1], *(pytest.param(name, marks=pytest.mark.thorough) for name in QUANTISED[1:])]


def of_folder(folder: Path, family: str, bits: int | None) -> PipelineModel:
    pipe, arguments = pipeline(family)
    if not folder.exists():
        pipe.save_pretrained(folder)
    model = ti.load_model(folder, dtype=torch.float32, bits=bits)
    assert isinstance(model, PipelineModel)
    model.arguments = {**model.arguments, **arguments}
    model.resize(SIDE)
    return model


@pytest.mark.skipif(not has_quanto, reason="needs optimum-quanto")
@pytest.mark.parametrize("family", LONG)
def test_a_word_learns_through_weights_in_8_bit(family: str, photos: ti.ConceptImages, tmp_path: Path) -> None:
    plain, small = (of_folder(tmp_path / "model", family, bits) for bits in (None, 8))
    kinds = {type(weight.data) for part in (small.unet, small.encoders[-1].network) for weight in part.parameters()}
    assert len(kinds) > 1 and torch.equal(small.encoders[-1].table, plain.encoders[-1].table)
    start = ti.initial_concept(small, "<new>", "cat", 2)
    run = ti.train(plain, photos, word="<new>", init=start, steps=1, watch=0)
    batch, grads, losses = run._draws.fixed(2), [], []
    for model in (plain, small):
        rows = {key: v.clone().requires_grad_() for key, v in start.vectors.items()}
        loss = word_loss(model, rows, batch).sum()
        loss.backward()
        losses.append(loss.item())
        grads.append(torch.cat([v.grad.flatten() for v in rows.values() if v.grad is not None]))
    assert abs(losses[1] - losses[0]) < 0.02 * losses[0]
    assert torch.nn.functional.cosine_similarity(*grads, dim=0) > 0.9
    how = {"word": "<new>", "init": "cat", "steps": 4, "batch": 2, "watch": 2, "rate": 1.0, "out": tmp_path / "run"}
    run = ti.train(small, photos, **how)
    list(run)
    assert 0 < run.plan.weights < ti.train(plain, photos, **{**how, "out": None}).plan.weights
    again = ti.load(ti.save(run.concept(), tmp_path / "new.safetensors"))
    first, second = (
        ti.sample(small, "a <new>", word, seeds=[3], steps=2, guidance=1.0, progress=False)[0].image
        for word in (run.concept(), again)
    )
    assert np.array_equal(np.asarray(first), np.asarray(second))
    assert len(ti.train(small, photos, **how).records) == 4


@pytest.mark.skipif(not has_quanto, reason="needs optimum-quanto")
def test_the_weights_are_those_of_the_quantiser_and_stay(photos: ti.ConceptImages, tmp_path: Path) -> None:
    model = of_folder(tmp_path / "model", "Z-Image", 8)
    held = [part.clone() for weight in model.unet.parameters() for part in stored(weight)]
    list(ti.train(model, photos, word="<new>", init="cat", steps=2, batch=2, watch=0))
    now = [part for weight in model.unet.parameters() for part in stored(weight)]
    assert len(held) > len(list(model.unet.parameters()))  # numbers and scales
    assert all(torch.equal(one, other) for one, other in zip(held, now, strict=True))


def test_what_can_t_be_quantised_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"bits is 8: SD 1\.x, 2\.x and SDXL are small enough"):
        ti.load_model("tiny", bits=8)
    pipeline("Z-Image")[0].save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="bits is 3: give 8 or 4"):
        ti.load_model(tmp_path, bits=3)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optimum" else find(name))
    with pytest.raises(RuntimeError, match=r"bits=8 needs optimum-quanto.*pip install ti_nb\[quant\]"):
        ti.load_model(tmp_path, bits=8)


def test_quantised_otherwise_is_refused_with_the_reason() -> None:
    pipe, arguments = pipeline("Z-Image")
    pipe.transformer.to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match="transformer is quantised in a way that gradients do not go through"):
        ti.from_pipeline(pipe, arguments=arguments)
