"""Training does what diffusers' way of it does, changes nothing else, and is repeatable."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler

import ti_nb as ti
from ti_nb.models.conditioning import token_ids
from ti_nb.models.denoise import cache_latents
from ti_nb.training.batches import Batch
from ti_nb.training.losses import word_loss

pytestmark = pytest.mark.slow

STEPS = dict(steps=3, batch=2, watch=0)  # but for the gain, which takes longer than the steps


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("vectors", [1, 3])
def test_loss_and_gradient_equal_diffusers_resized_table(
    model: ti.Model, photos: ti.ConceptImages, prediction: str, vectors: int
) -> None:
    """As diffusers' textual_inversion.py: add tokens, resize the table, write the rows, gradient of the whole table."""
    scheduler = DDPMScheduler.from_config(model.scheduler.config, prediction_type=prediction)
    model = replace(model, scheduler=scheduler)
    mean, _ = cache_latents(model, photos.pixels(model.resolution))
    latents, noise = mean[:4], torch.randn(4, *mean.shape[1:])
    timesteps = torch.tensor([3, 250, 600, 990])
    start = ti.initial_concept(model, "<new>", "animal", vectors)
    rows = torch.nn.Parameter(start.vectors["clip_l"] + 0.01 * torch.randn_like(start.vectors["clip_l"]))
    first = len(model.tokenizer)
    text = "a photo of a <new> on the beach"
    ids = token_ids(model, [text] * 4, {"<new>": vectors})["clip_l"]
    batch = Batch(latents, noise, timesteps, {"clip_l": ids}, torch.ones(4, 1, 1, 1))
    ours = word_loss(model, {"clip_l": rows}, batch).mean()
    ours.backward()

    tokenizer, encoder = deepcopy(model.tokenizer), deepcopy(model.text_encoder)
    tokens = ["<new>", *(f"<new>_{i}" for i in range(1, vectors))]
    assert tokenizer.add_tokens(tokens) == vectors
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = encoder.get_input_embeddings().weight
    table.data[first:] = rows.data
    table.requires_grad_(True)
    spelled = text.replace("<new>", " ".join(tokens))
    their_ids = tokenizer([spelled] * 4, padding="max_length", max_length=77, return_tensors="pt").input_ids
    noisy = scheduler.add_noise(latents, noise, timesteps)
    predicted = model.unet(noisy, timesteps, encoder(their_ids)[0]).sample
    target = noise if prediction == "epsilon" else scheduler.get_velocity(latents, noise, timesteps)
    theirs = F.mse_loss(predicted, target)
    theirs.backward()

    assert torch.equal(ids, their_ids)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    torch.testing.assert_close(rows.grad, table.grad[first:], atol=1e-6, rtol=1e-4)


def test_nothing_but_the_word_changes(model: ti.Model, photos: ti.ConceptImages) -> None:
    parts = {"text": model.text_encoder, "unet": model.unet, "vae": model.vae}
    before = {f"{p}.{k}": v.clone() for p, m in parts.items() for k, v in m.state_dict().items()}
    vocabulary = model.tokenizer.get_vocab()
    run = ti.train(model, photos, word="<new>", init="animal", **{**STEPS, "watch": 1})
    list(run)
    after = {f"{p}.{k}": v for p, m in parts.items() for k, v in m.state_dict().items()}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert model.tokenizer.get_vocab() == vocabulary
    assert not torch.equal(run.concept().vectors["clip_l"], run.start.vectors["clip_l"])


def test_one_seed_gives_one_word_and_another_seed_another(model: ti.Model, photos: ti.ConceptImages) -> None:
    def learn(seed: int) -> tuple[torch.Tensor, list[float]]:
        run = ti.train(model, photos, word="<new>", init="animal", seed=seed, **STEPS)
        losses = [r.loss for r in run]
        return run.concept().vectors["clip_l"], losses

    first, again, other = learn(1), learn(1), learn(2)
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1]
    assert not torch.equal(first[0], other[0])


def test_stopping_and_going_on_equals_never_stopping(model: ti.Model, photos: ti.ConceptImages) -> None:
    whole = ti.train(model, photos, word="<new>", init="animal", **STEPS)
    list(whole)
    run = ti.train(model, photos, word="<new>", init="animal", **STEPS)
    for _ in run:
        break
    torch.rand(5)
    ti.sample(model, "a cat", seeds=1, steps=2, progress=False)
    list(run)
    assert torch.equal(run.concept().vectors["clip_l"], whole.concept().vectors["clip_l"])
    assert [r.step for r in run.records] == [1, 2, 3]


def test_learning_lowers_the_loss_on_the_same_noise(model: ti.Model, photos: ti.ConceptImages) -> None:
    mean, _ = cache_latents(model, photos.pixels(model.resolution))
    latents = mean.repeat(4, 1, 1, 1)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(5))
    timesteps = torch.linspace(50, 990, len(latents)).long()
    ids = token_ids(model, ["a photo of a <new>"] * len(latents), {"<new>": 1})
    batch = Batch(latents, noise, timesteps, ids, torch.ones(len(latents), 1, 1, 1))
    run = ti.train(model, photos, word="<new>", init="animal", steps=12, batch=4, watch=0)
    list(run)
    with torch.no_grad():
        before = word_loss(model, run.start.vectors, batch).mean()
        after = word_loss(model, run.concept().vectors, batch).mean()
    assert after < before


def test_paper_preset_is_the_papers() -> None:
    paper = ti.PAPER
    assert (paper.steps, paper.weight_decay, paper.decay, paper.norm) == (5000, 0.01, "constant", "free")
    assert paper.rate_at(0) == paper.rate_at(4999) == pytest.approx(0.005 * 4)
    assert paper.template_list() == ti.OBJECT_TEMPLATES_CODE


def test_norm_clamp_and_fixed_let_vectors_turn_but_not_grow(model: ti.Model, photos: ti.ConceptImages) -> None:
    held, fixed, free = (
        ti.train(model, photos, word="<new>", init="animal", vectors=2, norm=norm, rate=2.0, warmup=0, **STEPS)
        for norm in ("clamp", "fixed", "free")
    )
    list(held), list(fixed), list(free)
    start = held.start.norms()["clip_l"]
    assert (held.concept().norms()["clip_l"] <= start * (1 + 1e-5)).all()
    torch.testing.assert_close(fixed.concept().norms()["clip_l"], start)
    assert (free.concept().norms()["clip_l"] > start * 1.05).all()
    assert max(held.records[-1].cosine, fixed.records[-1].cosine) < 0.999


def test_weight_decay_alone_shrinks_as_adamw_says(model: ti.Model, photos: ti.ConceptImages) -> None:
    """Closed form of one AdamW step: w(1 - rate x decay) - rate x sign-like step of size rate."""
    settings = ti.TrainSettings(
        steps=1, batch=1, rate=0.02, relative=False, warmup=0, decay="constant", weight_decay=0.5, norm="free"
    )
    run = ti.train(model, photos, word="<new>", init="animal", settings=settings)
    next(run)
    expected = run.start.vectors["clip_l"] * (1 - 0.02 * 0.5)
    moved = (run.concept().vectors["clip_l"] - expected).abs()
    assert moved.max() <= 0.02 * 1.001
    assert moved.median() == pytest.approx(0.02, rel=0.01)


def test_initializer_of_several_tokens(model: ti.Model) -> None:
    table = model.encoders[0].table
    ids = model.tokenizer("hot dog", add_special_tokens=False).input_ids
    assert len(ids) == 2
    start = {n: ti.initial_concept(model, "<x>", "hot dog", n).vectors["clip_l"] for n in (None, 1, 3)}
    assert torch.equal(start[None], table[ids])
    assert torch.allclose(start[1], table[ids].mean(0, keepdim=True))
    assert torch.equal(start[3], table[[ids[0], ids[1], ids[0]]])


def test_a_concept_can_be_trained_further(model: ti.Model, photos: ti.ConceptImages) -> None:
    start = ti.Concept("<old>", {"clip_l": torch.full((2, model.encoders[0].width), 0.1)})
    run = ti.train(model, photos, word="<new>", init=start, **STEPS)
    assert torch.equal(run.concept().vectors["clip_l"], start.vectors["clip_l"])
    assert run.concept().word == "<new>"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(word="teapot"), "already in the model's vocabulary"),
        (dict(init="xqzvwkjh"), "does not know"),
        (dict(steps=0), "steps is 0"),
        (dict(rate=0.0), "rate is 0.0"),
        (dict(vectors=0), "vectors is 0"),
        (dict(templates="objects"), "choose from"),
        (dict(templates=("a photo",)), "has no '{}'"),
        (dict(speed=3), "no setting 'speed'"),
        (dict(norm="fixd"), "norm is 'fixd': choose from"),
        (dict(decay="linaer"), "decay is 'linaer': choose from"),
        (dict(vectors=74), "shorten"),
        (dict(init=ti.Concept("<x>", {"clip_l": torch.ones(1, 768)})), "width 768"),
    ],
)
def test_wrong_input_is_refused_before_any_step(
    model: ti.Model, photos: ti.ConceptImages, changes: dict, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        ti.train(model, photos, **{"word": "<new>", "init": "animal", **changes})


def test_fixed_norm_turns_each_vector_by_the_rate_against_its_gradient(
    model: ti.Model, photos: ti.ConceptImages
) -> None:
    """Riemannian descent on the sphere, in the plane of the vector and its gradient."""
    run = ti.train(model, photos, word="<new>", init="animal", vectors=2, norm="fixed", rate=0.3, warmup=0, watch=0)
    learner = run._learner
    (rows,) = learner.rows.values()
    before = rows.detach().clone()
    gradient = torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    rows.grad = gradient * torch.tensor([[1e-3], [1e3]])  # its size does not matter
    learner.step(0, loss=1.0)
    after = rows.detach()
    assert after.norm(dim=-1).allclose(before.norm(dim=-1))
    cosine = torch.nn.functional.cosine_similarity(before, after)
    assert cosine.arccos().allclose(torch.tensor(0.3), atol=1e-4)
    unit = torch.nn.functional.normalize(before, dim=-1)
    along = gradient - (gradient * unit).sum(-1, keepdim=True) * unit
    assert torch.nn.functional.cosine_similarity(after - (after * unit).sum(-1, keepdim=True) * unit, -along).allclose(
        torch.ones(2), atol=1e-4
    )
