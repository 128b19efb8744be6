"""Running out of memory, numbers that are not finite, old cards; side by side; masks, captions, negative words, signals."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import ti_nb as ti
from ti_nb.host import devices
from ti_nb.models.denoise import activation_bytes
from ti_nb.training.batches import Draws, mask_weights, rows_of_step
from ti_nb.training.losses import ROOM, Watch, word_loss
from ti_nb.training.optimiser import GROW_AFTER

from .families import pipeline

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small() -> ti.Model:
    """Random weights suffice where only arithmetic is tested, and are faster."""
    return ti.from_pipeline(pipeline("sd1"))


@pytest.fixture(scope="module")
def half() -> ti.Model:
    return ti.from_pipeline(pipeline("sd1").to(torch.float16))


def start(model: ti.Model, photos: ti.ConceptImages, **changes: Any) -> ti.Run:
    return ti.train(model, photos, **{"word": "<new>", "init": "animal", "steps": 4, "batch": 4, "watch": 0, **changes})


def vectors(run: ti.Run) -> torch.Tensor:
    return run.concept().vectors["clip_l"]


# Memory


def test_a_batch_in_parts_is_the_batch_whole(small: ti.Model, photos: ti.ConceptImages) -> None:
    whole, parts = start(small, photos), start(small, photos)
    parts.plan = replace(parts.plan, micro=1)
    list(whole), list(parts)
    torch.testing.assert_close(vectors(parts), vectors(whole), atol=2e-4, rtol=0)
    assert [r.loss for r in parts.records] == pytest.approx([r.loss for r in whole.records], rel=1e-3)


def test_out_of_memory_halves_what_goes_at_once_then_recomputes(
    small: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that holds one picture's activations, and those only if they are recomputed."""
    run, forward, seen = start(small, photos, steps=2), small.unet.forward, []

    def small_device(sample: torch.Tensor, *rest: Any, **more: Any) -> Any:
        seen.append((len(sample), small.unet.is_gradient_checkpointing))
        if len(sample) > 1 or not small.unet.is_gradient_checkpointing:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(sample, *rest, **more)

    monkeypatch.setattr(small.unet, "forward", small_device)
    records = list(run)
    assert seen[:3] == [(4, False), (2, False), (1, False)] and set(seen[3:]) == {(1, True)}
    assert "out of memory: now 1 pictures at once, activations recomputed" in records[0].note
    assert records[1].note == "" and run.plan.checkpointing
    monkeypatch.undo()
    easy = start(small, photos, steps=2)
    list(easy)
    assert not small.unet.is_gradient_checkpointing
    torch.testing.assert_close(vectors(run), vectors(easy), atol=2e-4, rtol=0)


def test_a_device_too_small_for_one_picture_says_so(
    small: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    run = start(small, photos)
    monkeypatch.setattr(small.unet, "forward", full)
    with pytest.raises(RuntimeError, match=r"out of memory with one picture at once .* free some of it"):
        next(run)
    monkeypatch.undo()
    assert len(list(run)) == 4 and not small.unet.is_gradient_checkpointing


def test_the_plan_fits_what_is_free(small: ti.Model) -> None:
    settings = ti.TrainSettings(batch=8)
    one = activation_bytes(small, checkpointing=False)
    plans = [ti.plan_memory(small, settings, free=int(n * one / ROOM) + 9) for n in (100, 8, 5, 1, 0.5)]
    assert [p.micro for p in plans] == [8, 8, 4, 1, 1 + int(0.5 * one // activation_bytes(small, True) - 1)]
    assert [p.checkpointing for p in plans] == [False, False, False, False, True]
    assert all(p.activations <= p.free * ROOM for p in plans[:4])
    assert "8 pictures at once" in str(plans[0]) and "MB" in str(plans[0])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_plans_activations_are_what_autograd_keeps(small: ti.Model, checkpointing: bool) -> None:
    """Counted on a copy without storage; here on the real network."""
    kept: dict[int, torch.Tensor] = {}
    frozen = {p.untyped_storage()._cdata for p in small.unet.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage()._cdata not in frozen:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    if checkpointing:
        small.unet.enable_gradient_checkpointing()
    states = torch.zeros(1, 77, small.unet.config.cross_attention_dim, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        small.unet(torch.zeros(1, 4, 8, 8), torch.tensor([5]), states)
    small.unet.disable_gradient_checkpointing()
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert activation_bytes(small, checkpointing) == pytest.approx(real, rel=0.1)


# Numbers that are not finite


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_skipped_and_the_rate_lowered(
    small: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    run = start(small, photos, steps=6)
    next(run), next(run)
    before, rate = vectors(run), run.settings.rate_at(2, small.encoders[0].spread)
    real = ti.training.optimiser.word_loss

    def bad(*args: Any, **more: Any) -> torch.Tensor:
        loss = real(*args, **more)
        return loss * float("nan") if where == "loss" else loss + 0 * torch.sqrt(0 * loss)  # 0 forwards, nan backwards

    monkeypatch.setattr(ti.training.optimiser, "word_loss", bad)
    record = next(run)
    assert torch.equal(vectors(run), before)
    assert "not finite: step skipped, rate now" in record.note
    monkeypatch.undo()
    assert next(run).rate == pytest.approx(run.settings.rate_at(3, small.encoders[0].spread) / 2)
    assert rate > 0 and all(r.note == "" for r in list(run)) and not torch.equal(vectors(run), before)


def test_a_run_that_never_becomes_finite_gives_up_and_keeps_the_word(
    small: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(small, photos, steps=50)
    next(run)
    before, real = vectors(run), ti.training.optimiser.word_loss
    monkeypatch.setattr(ti.training.optimiser, "word_loss", lambda *a, **k: real(*a, **k) * float("nan"))
    with pytest.raises(FloatingPointError, match=r"9 steps in a row .* lower the rate"):
        list(run)
    assert torch.equal(vectors(run), before) and len(run.records) == 9


# Old cards


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_precision_is_what_the_card_computes_in(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    """A T4 is 7.5: it can hold bfloat16, and computes in it many times slower."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    assert devices.default_dtype("cuda:0") == dtype


@pytest.mark.parametrize("tiles", [True, False])
def test_a_cpu_with_matrix_tiles_takes_bfloat16(monkeypatch: pytest.MonkeyPatch, tiles: bool) -> None:
    monkeypatch.setattr(devices, "_has_matrix_tiles", lambda: tiles)
    assert devices.default_dtype("cpu") == (torch.bfloat16 if tiles else torch.float32)


def test_float16_weights_learn_what_float32_weights_do(
    half: ti.Model, small: ti.Model, photos: ti.ConceptImages
) -> None:
    """As on a T4: gradients would vanish without the scaled loss; the vectors themselves stay float32."""
    one, other = start(half, photos, steps=3), start(small, photos, steps=3)
    list(one), list(other)
    assert one._learner.loss_scale > 1 and other._learner.loss_scale == 1
    assert vectors(one).dtype == torch.float32
    moved = [vectors(run) - run.start.vectors["clip_l"] for run in (one, other)]
    assert torch.cosine_similarity(moved[0].flatten(), moved[1].flatten(), dim=0) > 0.95


def test_a_loss_scale_that_overflows_is_halved_not_the_rate(half: ti.Model, photos: ti.ConceptImages) -> None:
    run = start(half, photos, steps=1)
    run._learner.loss_scale = 2.0**60
    before = vectors(run)
    (record,) = run
    assert "float16 gradients overflowed" in record.note and "rate now" not in record.note
    assert run._learner.loss_scale == 2.0**59 and torch.equal(vectors(run), before)


def test_a_loss_that_is_not_finite_is_no_matter_of_the_scale(half: ti.Model, photos: ti.ConceptImages) -> None:
    learner = start(half, photos)._learner
    said = learner.step(0, loss=float("inf"))
    assert "rate now" in said and learner.loss_scale == 2.0**14


def test_the_loss_scale_grows_back_after_steps_that_were_good(half: ti.Model, photos: ti.ConceptImages) -> None:
    """As torch's GradScaler, which is asked the same beside it."""
    learner = start(half, photos)._learner
    (rows,) = learner.rows.values()
    theirs = torch.amp.GradScaler("cpu", init_scale=learner.loss_scale, growth_interval=GROW_AFTER)
    theirs.scale(torch.zeros(()))
    optimiser = torch.optim.SGD([weight := torch.nn.Parameter(torch.zeros(1))])
    overflows, seen = {20, GROW_AFTER + 30}, set()
    for step in range(3 * GROW_AFTER):
        grad = float("inf") if step in overflows else 1.0
        rows.grad, weight.grad = torch.full_like(rows, grad), torch.full_like(weight, grad)
        learner.step(min(step, 3), loss=1.0)
        theirs.step(optimiser)
        theirs.update(new_scale=None)
        seen.add(learner.loss_scale)
        assert learner.loss_scale == theirs.get_scale(), step
        if step == GROW_AFTER:  # between two changes: how many were good is part of the state
            resumed = start(half, photos)._learner
            resumed.restore(learner.state())
            learner, (rows,) = resumed, resumed.rows.values()
    assert seen == {2.0**13, 2.0**14}


def test_runs_side_by_side_have_each_its_own_loss_scale(half: ti.Model, photos: ti.ConceptImages) -> None:
    """One overflows, and is alone in skipping its step; the others learn what they learn alone, whatever their scales."""
    runs = ti.train_seeds(half, photos, seeds=3, word="<new>", init="animal", steps=1, batch=2, watch=0)
    for run, scale in zip(runs, (2.0**60, 2.0**6, 2.0**14)):
        run._learner.loss_scale = scale
    (records,) = ti.together(runs)
    assert ["overflowed" in record.note for record in records] == [True, False, False]
    assert [run._learner.loss_scale for run in runs] == [2.0**59, 2.0**6, 2.0**14]
    for run in runs[1:]:
        alone = start(half, photos, steps=1, batch=2, seed=run.settings.seed)
        list(alone)
        moved = [vectors(r) - r.start.vectors["clip_l"] for r in (run, alone)]
        assert torch.cosine_similarity(*(m.flatten() for m in moved), dim=0) > 0.99
        assert alone.records[0].loss == pytest.approx(run.records[0].loss, rel=1e-2)


# Side by side


def test_runs_together_end_where_each_alone_ends(small: ti.Model, photos: ti.ConceptImages) -> None:
    """Two seeds of one thing, and another thing with two vectors, through the UNet at once."""
    other = ti.example_images("bus")

    def runs() -> list[ti.Run]:
        seeds = ti.train_seeds(small, photos, seeds=2, word="<new>", init="animal", steps=4, batch=4, watch=0)
        return [*seeds, start(small, other, word="<bus>", init="vehicle", vectors=2, steps=3, batch=2)]

    beside, alone = runs(), runs()
    turns = [len(records) for records in ti.together(beside)]
    assert turns == [3, 3, 3, 2]
    for one in alone:
        list(one)
    for a, b in zip(beside, alone):
        assert [r.loss for r in a.records] == pytest.approx([r.loss for r in b.records], rel=1e-3)
        torch.testing.assert_close(vectors(a), vectors(b), atol=3e-4, rtol=0)
    assert not torch.equal(vectors(beside[0]), vectors(beside[1]))


def test_runs_of_two_models_cannot_go_together(model: ti.Model, photos: ti.ConceptImages) -> None:
    other = ti.load_model("tiny", dtype=torch.float32)
    with pytest.raises(ValueError, match="same loaded model"):
        next(ti.together([start(model, photos), start(other, photos)]))


# Masks, captions, negative words


def test_masked_parts_count_less(photos: ti.ConceptImages) -> None:
    masks = torch.zeros(1, 1, 2, 2)
    masks[..., 0, :] = 1
    weights = mask_weights(masks, unmasked=0.25)
    assert torch.allclose(weights, torch.tensor([[[[1.6, 1.6], [0.4, 0.4]]]]))
    assert mask_weights(None, 0.25) is None


def test_the_loss_with_a_mask_is_the_loss_inside_it(small: ti.Model, photos: ti.ConceptImages) -> None:
    from PIL import Image

    left = [Image.new("L", image.size, 0) for image in photos.images]
    for mask in left:
        mask.paste(255, (0, 0, mask.width // 2, mask.height))
    masked = replace(photos, masks=tuple(left))
    draws = Draws(small, masked, ti.TrainSettings(unmasked=0.0), {"<new>": 1}, 0)
    batch, rows = draws.draw(), ti.initial_concept(small, "<new>", "animal").vectors
    with torch.no_grad():
        ours = word_loss(small, rows, batch)
        noisy = small.scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        from ti_nb.models.conditioning import condition
        from ti_nb.models.denoise import predict, target_of

        target = target_of(small, batch.latents, batch.noise, batch.timesteps)
        error = predict(small, noisy, batch.timesteps, condition(small, batch.ids, rows)) - target
    torch.testing.assert_close(ours, error[..., :4].square().mean(dim=(1, 2, 3)))


def test_latents_are_the_vaes_own_and_scaled(small: ti.Model, photos: ti.ConceptImages) -> None:
    """Mean and spread as its posterior has them, times its scaling factor; drawn as mean + spread x noise."""
    draws = Draws(small, photos, ti.TrainSettings(), {"<new>": 1}, 7)
    with torch.no_grad():
        posterior = small.vae.encode(photos.pixels(small.resolution)).latent_dist
    factor = small.vae.config.scaling_factor
    assert factor != 1
    torch.testing.assert_close(draws.mean, factor * posterior.mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(draws.std, factor * posterior.std, atol=1e-5, rtol=1e-4)
    draws.std = draws.std + 0.5
    batch, rows = draws.draw(), rows_of_step(len(photos), 4, 0, 7)
    random = torch.Generator().manual_seed(7)
    latents, noise = (torch.randn(batch.latents.shape, generator=random) for _ in range(2))
    torch.testing.assert_close(batch.latents, draws.mean[rows] + draws.std[rows] * latents)
    assert torch.equal(batch.noise, noise)


@pytest.mark.parametrize(("pictures", "batch", "steps"), [(200, 4, 150), (5, 4, 25), (3, 8, 9), (1, 3, 4), (7, 7, 5)])
def test_each_picture_comes_once_a_round(pictures: int, batch: int, steps: int) -> None:
    """Drawn anew for each step, 9 of 200 pictures never came in a default run."""
    drawn = torch.cat([rows_of_step(pictures, batch, step, seed=5) for step in range(steps)])
    assert len(drawn) == batch * steps
    rounds = [part.tolist() for part in drawn.split(pictures)]
    assert all(sorted(part) == list(range(pictures)) for part in rounds[: batch * steps // pictures])
    assert len(set(rounds[-1])) == len(rounds[-1])
    if pictures > 5:
        assert len({tuple(part) for part in rounds}) == len(rounds)
        assert not torch.equal(drawn[:pictures], rows_of_step(pictures, pictures, 0, seed=6))


def test_a_run_draws_the_pictures_of_its_step(small: ti.Model, photos: ti.ConceptImages) -> None:
    """Of the step it is at, whatever was drawn before: an interrupted step, or another process's."""
    run = start(small, photos, steps=3, batch=2)
    marks = torch.arange(0.0, 5)[:, None, None, None].expand_as(run._draws.mean)
    run._draws.mean, run._draws.std = marks, torch.zeros_like(marks)
    for step in (0, 1, 2):
        run._begin()
        drawn = run._begin().latents[:, 0, 0, 0].int()
        assert torch.equal(drawn, rows_of_step(5, 2, step, 0).int())
        next(run)


def test_captions_are_said_instead_of_templates(small: ti.Model, photos: ti.ConceptImages) -> None:
    captioned = replace(photos, captions=("a {} in the snow", "", "red, a {}, night, beach", "a {}", "a {}"))
    draws = Draws(small, captioned, ti.TrainSettings(), {"<new>": 1}, 0)
    assert draws._prompts[0] == ["a <new> in the snow"] and draws._prompts[3] == ["a <new>"]
    assert len(draws._prompts[1]) == len(ti.OBJECT_TEMPLATES)
    with pytest.raises(ValueError, match=r"has no '\{\}' where the word goes: 'a cat'"):
        replace(photos, captions=("a cat", "", "", "", ""))
    with pytest.raises(ValueError, match="2 captions for 5 pictures"):
        replace(photos, captions=("a {}", "a {}"))


def test_parts_of_captions_are_shuffled_and_left_out_but_never_the_word() -> None:
    from ti_nb.words.prompts import vary_caption

    draw = torch.Generator().manual_seed(0)
    many = [vary_caption("a <w>, red, night, snow", True, 0.5, "<w>", draw) for _ in range(400)]
    assert all("a <w>" in m for m in many)
    shares = [sum(part in m for m in many) / 400 for part in ("red", "night", "snow")]
    assert shares == pytest.approx([0.5] * 3, abs=0.1)
    assert len({m for m in many if m.count(",") == 3}) > 10
    assert vary_caption("a <w>, red", False, 0.0, "<w>", draw) == "a <w>, red"


def test_a_negative_word_is_learned_along_and_used_in_the_negative_prompt(
    small: ti.Model, photos: ti.ConceptImages
) -> None:
    run = start(small, photos, negative=2, norm="free", steps=3)
    first = run.negative()
    list(run)
    assert first.word == "<not-new>" and len(first) == 2
    assert not torch.equal(run.negative().vectors["clip_l"], first.vectors["clip_l"])
    words = [run.concept(), run.negative()]
    with_it = ti.sample(small, "a {word}", words, seeds=1, steps=2, negative="<not-new>", progress=False)
    without = ti.sample(small, "a {word}", words, seeds=1, steps=2, progress=False)
    assert with_it[0].image.tobytes() != without[0].image.tobytes()
    with pytest.raises(ValueError, match="no negative word"):
        start(small, photos).negative()


def test_guided_loss_is_the_guided_prediction(small: ti.Model, photos: ti.ConceptImages) -> None:
    """With guidance 1 only the prompt's prediction is left; with 0 only the negative one's."""
    draws = Draws(small, photos, ti.TrainSettings(negative=1), {"<new>": 1, "<not-new>": 1}, 0)
    batch = draws.draw()
    rows = {"clip_l": small.encoders[0].table[[100, 200]]}
    assert batch.negative_ids is not None
    with torch.no_grad():
        plain = word_loss(small, rows, replace(batch, negative_ids=None))
        torch.testing.assert_close(word_loss(small, rows, batch, ti.TrainSettings(negative_guidance=1)), plain)
        swapped = replace(batch, ids=batch.negative_ids, negative_ids=None)
        torch.testing.assert_close(
            word_loss(small, rows, batch, ti.TrainSettings(negative_guidance=0)), word_loss(small, rows, swapped)
        )


# Starts


def test_random_and_cross_initialization(model: ti.Model) -> None:
    encoder = model.encoders[0]
    random = ti.initial_concept(model, "<x>", None, 500).vectors["clip_l"]
    torch.testing.assert_close(random.std(0).mean(), encoder.table.std(0).mean(), rtol=0.05, atol=0)
    states = ti.encode(model, ["hot dog"]).states[0]
    crossed = ti.initial_concept(model, "<x>", "hot dog", source="output").vectors["clip_l"]
    torch.testing.assert_close(crossed, states[1:3])


# Signals


def test_gain_is_the_loss_with_the_initializer_minus_that_with_the_word(
    model: ti.Model, photos: ti.ConceptImages
) -> None:
    run = start(model, photos, steps=8, watch=5)
    records = list(run)
    assert [r.step for r in records if r.gain is not None] == [5, 8]
    held = run._draws.fixed(8)
    with torch.no_grad():
        before = word_loss(model, run.start.vectors, held).mean()
        after = word_loss(model, run.concept().vectors, held).mean()
        nothing = {
            "clip_l": model.tokenizer([""] * 8, padding="max_length", max_length=77, return_tensors="pt").input_ids
        }
        empty = word_loss(model, run.start.vectors, replace(held, ids=nothing)).mean()
    assert records[-1].gain == pytest.approx(float(before - after), abs=1e-4)
    assert records[-1].gain_empty == pytest.approx(float(empty - after), abs=1e-4)
    assert abs(records[-1].gain_empty - records[-1].gain) > 1e-3  # or one would do for the other
    assert records[-1].gain > 0 and records[-1].gain_empty > 0
    norms = model.encoders[0].table.norm(dim=-1)
    assert records[-1].percentile == pytest.approx(float((norms < records[-1].norm).float().mean()))


@pytest.mark.parametrize("best", [2, 4, 6])
def test_the_best_word_is_that_of_the_largest_gain(small: ti.Model, photos: ti.ConceptImages, best: int) -> None:
    run = start(small, photos, steps=6, watch=2)
    list(run)
    run.records = [r if r.gain is None else replace(r, gain=-abs(r.step - best) - 1.0) for r in run.records]
    assert torch.equal(run.best().vectors["clip_l"], run.history["clip_l"][best - 1])
    assert run.best().facts["steps"] == best


def test_history_has_every_steps_word(small: ti.Model, photos: ti.ConceptImages) -> None:
    run = start(small, photos, steps=3)
    seen = [vectors(run)] + [vectors(run) for _ in run]
    assert all(torch.equal(run.concept(step).vectors["clip_l"], v) for step, v in enumerate(seen))
    with pytest.raises(ValueError, match="3 steps have been done"):
        run.concept(4)


def test_a_word_that_has_not_moved_is_warned_of(small: ti.Model, photos: ti.ConceptImages) -> None:
    stuck = list(start(small, photos, rate=1e-6, steps=6, watch=3))
    assert "has not moved from 'animal' in 6 steps: raise the rate" in stuck[-1].warning
    fine = list(start(small, photos, steps=6, watch=3))
    assert "has not moved" not in fine[-1].warning


def test_a_word_that_drowns_the_prompt_is_warned_of(model: ti.Model, photos: ti.ConceptImages) -> None:
    run = start(model, photos, steps=4, watch=4)
    list(run)
    watch = run._watch
    assert watch is not None
    same = watch.measure(run.records[0], run.start.vectors)
    assert same.gain == pytest.approx(0, abs=1e-6) and same.percentile < 1 and "drowns" not in same.warning
    longest = float(model.encoders[0].table.norm(dim=-1).max())
    huge = {"clip_l": 1.01 * longest * torch.nn.functional.normalize(run.start.vectors["clip_l"], dim=-1)}
    drowned = watch.measure(replace(run.records[0], norm=1.01 * longest), huge)
    assert drowned.percentile == 1 and "drowns the rest of the prompt" in drowned.warning


def test_a_run_stops_when_the_gain_is_flat(small: ti.Model, photos: ti.ConceptImages) -> None:
    for count in (4, 5, 12, 200):  # a gain that rises evenly, or as the root of the steps, is not flat
        assert not Watch.is_flat([0.1 * i for i in range(1, count)])
        assert not Watch.is_flat([i**0.5 for i in range(1, count)])
    assert not Watch.is_flat([1.0, 1.0, 1.0]) and Watch.is_flat([1.0, 1.0, 1.0, 1.0])
    assert Watch.is_flat([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.61, 0.6, 0.6, 0.59, 0.6, 0.6])
    assert ti.TrainSettings(stop="flat").steps == 150  # the default run is long enough for it to act
    run = start(small, photos, steps=30, watch=5, stop="flat", rate="0.05:4, 1e-9")
    assert len(list(run)) == 20 and run.finished


def test_running_mean_lags_behind_the_vectors(small: ti.Model, photos: ti.ConceptImages) -> None:
    mean, plain = start(small, photos, ema=0.9), start(small, photos)
    list(mean), list(plain)
    torch.testing.assert_close(mean._learner.rows["clip_l"], plain._learner.rows["clip_l"])
    begun = plain.start.vectors["clip_l"]
    assert 0 < float((vectors(mean) - begun).norm()) < float((vectors(plain) - begun).norm())


@pytest.mark.parametrize("ema", [0.15, 0.9])
def test_running_mean_is_that_of_its_closed_form(small: ti.Model, photos: ti.ConceptImages, ema: float) -> None:
    """Each step keeps the share `ema` of the mean, less in the first steps: (1 + n) / (10 + n) after n of them."""
    mean, plain = start(small, photos, ema=ema, norm="free"), start(small, photos, norm="free")
    list(mean), list(plain)
    expected = plain.start.vectors["clip_l"]
    for done, (rows, kept) in enumerate(zip(plain.history["clip_l"], mean.history["clip_l"])):
        share = min(ema, (1 + done) / (10 + done))
        expected = share * expected + (1 - share) * rows
        torch.testing.assert_close(kept, expected)


def test_with_fixed_norm_the_rate_is_the_angle_that_is_turned(small: ti.Model, photos: ti.ConceptImages) -> None:
    """By default 0.2 radians, falling as any rate does; what the record says is what was turned."""
    run = start(small, photos, norm="fixed", vectors=2, steps=6, warmup=2)
    rates = [record.rate for record in run]
    steps = [run.start.vectors["clip_l"], *run.history["clip_l"]]
    for before, after, rate in zip(steps, steps[1:], rates):
        angles = torch.cosine_similarity(before.double(), after.double()).arccos()
        torch.testing.assert_close(angles, torch.full((2,), rate).double(), atol=1e-3, rtol=1e-3)
    assert max(rates) == rates[2] == ti.TrainSettings(norm="fixed").rate_at(10, spread=0.014) == 0.2


@pytest.mark.thorough
def test_two_processes_learn_what_one_does(photos: ti.ConceptImages, tmp_path: Path) -> None:
    """As `accelerate launch` starts them; each process takes its share of the same batches, cut as it has room for."""
    script = Path(__file__).parent / "two_processes.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    words = [ti.load(tmp_path / f"{rank}.safetensors").vectors["clip_l"] for rank in (0, 1)]
    assert torch.equal(words[0], words[1])
    run = start(ti.from_pipeline(pipeline("sd1")), photos, batch=5, watch=2)
    list(run)
    torch.testing.assert_close(words[0], vectors(run), atol=2e-4, rtol=0)
    saved = ti.read_run(tmp_path / "run").records
    assert [r.loss for r in saved] == pytest.approx([r.loss for r in run.records], rel=1e-3)
    gains = [[r.gain for r in records if r.gain is not None] for records in (saved, run.records)]
    assert len(gains[0]) == 2 and gains[0] == pytest.approx(gains[1], abs=1e-4)
    assert (tmp_path / "0.gains").read_text() == (tmp_path / "1.gains").read_text()
