"""What the paper tried besides one word, and what others tried since: against closed forms, and against diffusers' own loader."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ti_nb as ti
from ti_nb.models.conditioning import condition
from ti_nb.models.denoise import predict
from ti_nb.results.measures import in_words, paired
from ti_nb.training.losses import word_loss
from ti_nb.words.prompts import encode

from .families import pipeline

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small() -> ti.Model:
    return ti.from_pipeline(pipeline("sd1"))


@pytest.fixture(scope="module")
def two() -> ti.ConceptImages:
    draw = np.random.default_rng(2)
    images = tuple(Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(2))
    return ti.ConceptImages(images, ("a", "b"))


def started(model: ti.Model, pictures: ti.ConceptImages, **changes: object) -> ti.Run:
    how = {"word": "<new>", "init": "animal", "steps": 4, "batch": 2, "watch": 0, "norm": "free", **changes}
    return ti.train(model, pictures, **how)  # type: ignore[arg-type]


def rows_of(run: ti.Run) -> torch.Tensor:
    return run.concept().vectors["clip_l"]


# Terms of the loss


def by_hand(run: ti.Run, term: object) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient that the run's next step has, and that of the denoising loss and a term of its own.

    Adam's first moment is a tenth of the first gradient; its step would show the gradient's signs only.
    """
    learned = run._learner.rows["clip_l"]
    learned.data.add_(0.1 * torch.randn(learned.shape, generator=torch.Generator().manual_seed(1)))
    rows = learned.detach().clone().requires_grad_(True)
    draws = run._draws
    state, draws.step = draws.generator.get_state(), 0
    batch = draws.draw()
    draws.generator.set_state(state)
    with torch.enable_grad():
        (plain,) = torch.autograd.grad(word_loss(run.model, {"clip_l": rows}, batch).mean(), rows)
        (own,) = torch.autograd.grad(term(rows, batch), rows)  # type: ignore[operator]
    assert own.norm() > 0.3 * plain.norm()  # or it could be wrong unseen
    expected = plain + own
    next(run)
    return run._learner.optimizer.state[learned]["exp_avg"] / 0.1, expected


@pytest.mark.parametrize("vectors", [1, 3])
def test_pull_is_l2_regularisation_of_each_vector_to_its_own_of_the_initializer(
    small: ti.Model, two: ti.ConceptImages, vectors: int
) -> None:
    """Its gradient is that of the loss + pull / 2 x the squared distance; the paper's code multiplied the vectors with each other's."""
    run = started(small, two, pull=3.0, vectors=vectors, warmup=0)
    start = run.start.vectors["clip_l"]
    found, expected = by_hand(run, lambda rows, batch: 1.5 * (rows - start).square().sum())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_context_term_is_the_change_of_the_other_words_states(small: ti.Model, two: ti.ConceptImages) -> None:
    """In units of their variance, the word's own places left out; the gradient is that of the loss with it."""
    run = started(small, two, context=5.0, vectors=2, warmup=0)
    start = run.start.vectors["clip_l"]

    def term(rows: torch.Tensor, batch: object) -> torch.Tensor:
        ids = batch.ids["clip_l"]  # type: ignore[attr-defined]
        first = small.encoders[0].first
        total = torch.zeros(())
        before = condition(small, {"clip_l": ids}, {"clip_l": start}).states.detach()
        now = condition(small, {"clip_l": ids}, {"clip_l": rows}).states
        for row in range(len(ids)):
            places = [at for at, i in enumerate(ids[row].tolist()) if i < first]
            assert len(places) == ids.shape[1] - 2
            total = total + (now[row, places] - before[row, places]).pow(2).mean() / before.var()
        return 5.0 * total / len(ids)

    found, expected = by_hand(run, term)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_runs_that_go_together_each_keep_as_much_context_as_they_asked_for(
    small: ti.Model, two: ti.ConceptImages
) -> None:
    alone = [started(small, two, context=context, seed=1) for context in (0.0, 20.0)]
    beside = [started(small, two, context=context, seed=1) for context in (0.0, 20.0)]
    for run in alone:
        list(run)
    list(ti.together(beside))
    for one, other in zip(alone, beside):
        torch.testing.assert_close(rows_of(one), rows_of(other), rtol=0, atol=2e-4)
    moved = [float((rows_of(run) - run.start.vectors["clip_l"]).norm()) for run in alone]
    assert abs(moved[0] - moved[1]) > 1e-3


# Words of pictures, and words that grow


def test_a_picture_has_a_word_of_its_own_which_starts_like_the_vocabulary(
    small: ti.Model, two: ti.ConceptImages
) -> None:
    """The original's began at random numbers of 0 to 1, forty times too long, and it had letters for 21 pictures."""
    run = started(small, replace(two, flip=True), per_picture=True, vectors=2, steps=2)
    said = {prompts[0] for prompts in run._draws._prompts}
    assert said == {"a photo of a <new> with <new-in-1>", "a photo of a <new> with <new-in-2>"}
    first, norms = run._first["clip_l"][2:], small.encoders[0].table.norm(dim=-1)
    assert len(first) == 2 and not torch.equal(first[0], first[1])
    assert norms.min() < first.norm(dim=-1).min() and first.norm(dim=-1).max() < norms.max()
    list(run)
    assert rows_of(run).shape[0] == 2 and len(run._learner.rows["clip_l"]) == 4
    assert not torch.equal(run._learner.vectors()["clip_l"][2:], first)
    shown = ti.drawn_samples(small, two, word="<new>", init="animal", per_picture=True, batch=2)
    assert {s.tokens[-2] for s in shown} == {"<new-in-1>", "<new-in-2>"}


def test_more_pictures_than_letters_and_a_negative_word_beside_them(small: ti.Model, two: ti.ConceptImages) -> None:
    many = ti.ConceptImages(two.images * 15, tuple(map(str, range(30))))
    run = started(small, many, per_picture=True, negative=2, steps=1)
    list(run)
    assert len(run._learner.rows["clip_l"]) == 1 + 2 + 30
    assert len(run.negative()) == 2 and len(run.concept()) == 1
    assert torch.equal(run.negative().vectors["clip_l"], run._learner.vectors()["clip_l"][1:3])


def test_a_word_grows_at_shares_of_the_optimisers_steps(small: ti.Model, two: ti.ConceptImages) -> None:
    """Whatever else passes through the text encoder meanwhile: the original counted that."""
    stages = ti.train_progressively(small, two, word="<new>", init="animal", steps=10, watch=2, seed=5)
    new, last, found = ti.initial_concept(small, "<new>", "animal").vectors["clip_l"], None, []
    for run in stages:
        begun = run.start.vectors["clip_l"]
        assert torch.equal(begun[-1:], new) and (last is None or torch.equal(begun[:-1], last))
        for _ in run:
            encode(small, ["a <new>"], [run.concept()])
        last = rows_of(run)
        found.append((len(run.concept()), len(run.records), run.settings.seed))
    assert found == [(1, 4, 5), (2, 4, 6), (3, 2, 7)]
    unfinished = ti.train_progressively(small, two, word="<new>", init="animal", steps=10, watch=0)
    next(unfinished)
    with pytest.raises(ValueError, match="has 0 of 4 steps"):
        next(unfinished)
    with pytest.raises(ValueError, match=r"stages of \[1, 1, 0\]"):
        ti.train_progressively(small, two, word="<new>", init="animal", steps=2)


# A word for each layer


def test_the_same_word_in_all_layers_is_the_ordinary_word(model: ti.Model) -> None:
    layered, word = ti.by_layer(model), ti.initial_concept(model, "<new>", "hot dog")
    everywhere = layered.everywhere(word)
    draw = torch.Generator().manual_seed(0)
    noisy, timesteps = torch.randn((1, *model.latent_shape), generator=draw), torch.tensor([500])
    for prompt in ("a <new> on the beach", ""):
        ours = predict(layered, noisy, timesteps, encode(layered, [prompt], [everywhere]))
        theirs = predict(model, noisy, timesteps, encode(model, [prompt], [word]))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    drawn = [
        ti.sample(each, "a {word} on the beach", one, seeds=[3], steps=3, progress=False)[0].image
        for each, one in ((model, word), (layered, everywhere))
    ]
    assert np.abs(np.asarray(drawn[0], int) - np.asarray(drawn[1], int)).max() <= 1


def test_each_layer_reads_the_vectors_that_are_its_own(small: ti.Model) -> None:
    """Layer by layer the states are those of the ordinary encoder with that layer's vectors; and they come to that layer."""
    layered = ti.by_layer(small)
    count = len(layered.layers)
    table = small.encoders[0].table
    word = ti.Concept("<new>", {"clip_l_by_layer": table[100 : 100 + 2 * count]})
    states = encode(layered, ["a <new> here"], [word]).states
    seen: dict[str, torch.Tensor] = {}
    for name in layered.layers:
        layered.unet.get_submodule(name).register_forward_pre_hook(
            lambda _, given, named, name=name: seen.update({name: named["encoder_hidden_states"]}), with_kwargs=True
        )
    predict(layered, torch.zeros(1, *small.latent_shape), torch.tensor([5]), encode(layered, ["a <new> here"], [word]))
    for layer, name in enumerate(layered.layers):
        own = ti.Concept("<new>", {"clip_l": table[[100 + layer, 100 + count + layer]]})
        expected = encode(small, ["a <new> here"], [own]).states
        torch.testing.assert_close(states.chunk(count, 1)[layer], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(seen[name], expected, rtol=0, atol=1e-5)


def test_words_are_mixed_by_layer_and_belong_to_their_model(model: ti.Model, two: ti.ConceptImages) -> None:
    layered = ti.by_layer(model)
    shape, style = (layered.everywhere(ti.initial_concept(model, f"<{w}>", w, 2)) for w in ("cat", "car"))
    mixed = layered.mix(shape, style, word="<both>")
    halved = [layered._depth(name) for name in layered.layers]
    assert len(set(halved)) > 1
    for i, row in enumerate(mixed.vectors["clip_l_by_layer"]):
        source = shape if halved[i % len(halved)] > min(halved) else style
        assert torch.equal(row, source.vectors["clip_l_by_layer"][i])
    with pytest.raises(ValueError, match="needs clip_l of width"):
        ti.sample(model, "a {word}", mixed, seeds=1, steps=1)
    with pytest.raises(ValueError, match="clip_l_by_layer"):
        layered.mix(shape, ti.initial_concept(model, "<x>", "cat"))
    with pytest.raises(ValueError, match="can't be read by layer"):
        ti.by_layer(layered)
    run = ti.train(layered, two, word="<new>", init=shape, steps=1, watch=0)
    list(run)
    moved = (run.concept().vectors["clip_l_by_layer"] != shape.vectors["clip_l_by_layer"]).any(1)
    assert moved.all()
    assert not any(layer._forward_pre_hooks for layer in model.unet.modules())
    assert type(model.text_encoder).__name__ == "CLIPTextModel" and layered.vae is model.vae
    ours, theirs = (next(m.unet.parameters()) for m in (layered, model))
    assert ours is theirs


# A LoRA around the word


@pytest.fixture(scope="module")
def tuned(model: ti.Model, photos: ti.ConceptImages) -> ti.Tuned:
    pytest.importorskip("peft")
    word = ti.initial_concept(model, "<new>", "bird")
    return ti.tune(model, photos, word, rank=2, steps=4, rate=5e-3, batch=2, progress=False)


def drawn(model: ti.Model, concept: ti.Concept) -> np.ndarray:
    (sample,) = ti.sample(model, "a {word} in the snow", concept, seeds=[3], steps=4, progress=False)
    return np.asarray(sample.image, int)


def test_tuning_leaves_the_model_as_it_was(model: ti.Model, photos: ti.ConceptImages) -> None:
    pytest.importorskip("peft")
    word = ti.initial_concept(model, "<new>", "bird")
    names, weights = (
        [n for n, _ in model.unet.named_modules()],
        {n: p.clone() for n, p in model.unet.named_parameters()},
    )
    before, learned = drawn(model, word), word.vectors["clip_l"].clone()
    tuned = ti.tune(model, photos, word, rank=1, steps=2, rate=5e-3, batch=2, progress=False)
    assert names == [n for n, _ in model.unet.named_modules()] and not hasattr(model.unet, "peft_config")
    assert all(torch.equal(p, weights[n]) and not p.requires_grad for n, p in model.unet.named_parameters())
    assert np.array_equal(drawn(model, word), before) and torch.equal(word.vectors["clip_l"], learned)
    assert not np.array_equal(drawn(tuned.model, word), before)
    assert not any(p.requires_grad for p in tuned.model.unet.parameters())
    shared = {p.data_ptr() for p in model.unet.parameters()}
    assert all(p.data_ptr() in shared for n, p in tuned.model.unet.named_parameters() if "lora" not in n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_diffusers_loads_the_file_and_draws_the_same_picture(
    dtype: torch.dtype, photos: ti.ConceptImages, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    model = ti.load_model("tiny", dtype=dtype)
    word = ti.initial_concept(model, "<new>", "bird")
    tuned = ti.tune(model, photos, word, rank=2, steps=3, rate=1e-2, batch=2, progress=False)
    ours, plain = drawn(tuned.model, word), drawn(model, word)
    path = tuned.save(tmp_path)
    assert path.name == "pytorch_lora_weights.safetensors" and [p.name for p in tmp_path.iterdir()] == [path.name]
    theirs = model.fresh_pipeline()
    theirs.load_lora_weights(tmp_path)
    text = f"a {ti.load_into(theirs, word)} in the snow"
    how = dict(num_inference_steps=4, guidance_scale=5.0, height=model.resolution, width=model.resolution)
    image = theirs(text, generator=torch.Generator().manual_seed(3), **how).images[0]
    assert np.abs(np.asarray(image, int) - ours).max() <= 1
    assert np.abs(ours - plain).max() > 8


def test_comfyui_finds_each_weight_under_its_name(model: ti.Model, tuned: ti.Tuned, tmp_path: Path) -> None:
    """It looks for lora_unet_ and the weight's name in diffusers, its points written as underscores (comfy/lora.py)."""
    from safetensors.torch import load_file

    has = load_file(tuned.save(tmp_path))
    attended = [n for n, p in model.unet.named_parameters() if ".attn" in n and n.endswith(".weight")]
    wanted = {f"lora_unet_{n.removesuffix('.weight').replace('.', '_')}" for n in attended}
    assert len(wanted) == 8 * len(ti.by_layer(model).layers)
    assert set(has) == {f"{name}.{part}" for name in wanted for part in ("lora_down.weight", "lora_up.weight", "alpha")}
    for name in wanted:
        assert has[f"{name}.lora_down.weight"].shape[0] == 2 == has[f"{name}.alpha"]


def test_what_cannot_be_tuned_is_said_before_any_work(
    model: ti.Model, photos: ti.ConceptImages, tuned: ti.Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="has a LoRA in it already"):
        ti.tune(tuned.model, photos, tuned.concept)
    with pytest.raises(ValueError, match="needs clip_l of width"):
        ti.tune(model, photos, ti.Concept("<x>", {"clip_l": torch.ones(1, 768)}))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RuntimeError, match="pip install peft"):
        ti.tune(model, photos, tuned.concept)


# Differences


def test_a_difference_counts_where_its_whole_interval_does() -> None:
    assert [
        in_words((0.1, low, high)) for low, high in ((0.01, 0.2), (-0.2, -0.01), (-0.1, 0.1), (float("nan"),) * 2)
    ] == [
        "more",
        "less",
        "same",
        "same",
    ]
    draw = np.random.default_rng(0)
    shared, apart = draw.normal(size=400), draw.normal(0.3, 0.1, size=400)
    mean, low, high = paired((shared + apart).tolist(), shared.tolist())
    assert mean == pytest.approx(0.3, abs=0.02) and high - low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.2)
    with pytest.raises(ValueError, match="2 samples and 1"):
        paired([1, 2], [1])
