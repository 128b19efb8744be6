"""What uses a model leaves it as it was, has its turn, takes no more memory than is planned, and gives back what it took."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import ti_nb as ti
from ti_nb.host import devices, turns
from ti_nb.models.denoise import activation_bytes, cache_latents
from ti_nb.results.drawing import sampling
from ti_nb.results.look_inside import _record_attention
from ti_nb.training import losses as loss_module
from ti_nb.training.batches import Draws
from ti_nb.training.losses import word_loss

from .families import pipeline

pytestmark = pytest.mark.slow

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB"
Use = Callable[[ti.Model, ti.ConceptImages], object]


@pytest.fixture
def small() -> ti.Model:
    """One of its own for each test, as they change it."""
    return ti.from_pipeline(pipeline("sd1"))


def start(model: ti.Model, photos: ti.ConceptImages, **changes: Any) -> ti.Run:
    return ti.train(model, photos, **{"word": "<new>", "init": "animal", "steps": 2, "watch": 1, **changes})


def draw(model: ti.Model, count: int) -> object:
    return ti.sample(model, "a cat", seeds=count, steps=1, progress=False)


def look(model: ti.Model, photos: ti.ConceptImages) -> object:
    return ti.loss_by_timestep(model, photos, [ti.initial_concept(model, "<new>", "animal")], bands=2, draws=2)


USES: dict[str, Use] = {
    "training": lambda model, photos: list(start(model, photos)),
    "a negative word": lambda model, photos: list(start(model, photos, negative=1, norm="free")),
    "sampling": lambda model, photos: draw(model, 2),
    "attention": lambda model, photos: ti.attention(model, photos, "a cat"),
    "losses": look,
    "a start from output": lambda model, photos: ti.initial_concept(model, "<new>", "cat", source="output"),
    "a pipeline": lambda model, photos: model.pipeline(),
}


# The schedule


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_a_step_on_another_device_leaves_the_schedule_where_it_is(family: str, photos: ti.ConceptImages) -> None:
    """diffusers' schedulers move their tables to where they are used: masks, on the CPU, then met weights on the GPU."""
    model = ti.from_pipeline(pipeline(family))
    batch = Draws(model, photos, ti.TrainSettings(), {"<new>": 1}, 0).draw()
    before = dict(vars(model.scheduler))
    for part in (model.unet, model.encoders[0].network):
        part.to("meta")
    there = {name: value.to("meta") for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    ids = {key: value.to("meta") for key, value in batch.ids.items()}
    rows = {"clip_l" if family == "sd1" else "clip_h": torch.zeros(1, model.encoders[0].width, device="meta")}
    assert word_loss(model, rows, replace(batch, ids=ids, **there)).device.type == "meta"
    assert vars(model.scheduler).keys() == before.keys()
    assert [name for name, value in vars(model.scheduler).items() if value is not before[name]] == []


# Turns


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_whoever_uses_or_moves_a_part_of_the_model_has_its_turn(
    small: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    outside: list[str] = []

    def watched(part: str, does: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            if not turns.turn._is_owned():  # type: ignore[attr-defined]
                outside.append(part)
            return does(*args, **more)

        return call

    for name, does in (("vae", "to"), ("vae", "encode"), ("vae", "decode"), ("unet", "to"), ("unet", "forward")):
        monkeypatch.setattr(getattr(small, name), does, watched(f"{name}.{does}", getattr(getattr(small, name), does)))
    network = small.encoders[0].network
    monkeypatch.setattr(network, "forward", watched("text encoder", network.forward))
    use(small, photos)
    assert outside == []


def test_the_vae_is_fetched_again_for_each_drawing(small: ti.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that begins in between sets it aside."""
    where, plain = [""], sampling._draw

    def set_aside_after(*given: Any) -> Any:
        assert where[-1] == str(small.device)
        images = plain(*given)
        where.append("aside")
        return images

    move = small.vae.to
    monkeypatch.setattr(small.vae, "to", lambda to: (where.append(str(to)), move(to))[1])
    monkeypatch.setattr(sampling, "_draw", set_aside_after)
    assert len(ti.sample(small, "a cat", seeds=2, steps=1, batch=1, progress=False)) == 2


# Memory


def hold_what_is_drawn(monkeypatch: pytest.MonkeyPatch, model: ti.Model, room: int) -> tuple[list[int], list[Any]]:
    """A device with room for `room` pictures at once: what the UNet was given, and what a failed pass had on the device.

    Its error is among the variables of the function that raises it, as in many libraries: a cycle.
    """
    sizes: list[int] = []
    held: list[Any] = []
    forward = model.unet.forward

    def on_a_small_device(sample: torch.Tensor, *rest: Any, **more: Any) -> Any:
        sizes.append(len(sample))
        if len(sample) > room:
            activations = torch.zeros(8)
            held.append(weakref.ref(activations))
            error = torch.OutOfMemoryError(FULL)
            raise error
        return forward(sample, *rest, **more)

    monkeypatch.setattr(model.unet, "forward", on_a_small_device)
    return sizes, held


@pytest.mark.parametrize("use", [v for k, v in USES.items() if k in ("training", "sampling", "losses")])
def test_what_a_failed_pass_held_is_let_go_before_memory_is_given_back(
    small: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    """Else there is nothing to give back, and the smaller pass fails as well."""
    _, held = hold_what_is_drawn(monkeypatch, small, 2)
    left: list[int] = []
    monkeypatch.setattr(devices, "release", lambda _: left.append(sum(ref() is not None for ref in held)))
    use(small, photos)
    assert held and left and set(left) == {0}


def test_the_gain_is_measured_with_as_many_pictures_at_once_as_the_plan_has(
    small: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(small, photos, batch=4)
    list(whole)
    run = start(small, photos, batch=4)
    run.plan = replace(run.plan, micro=2)
    sizes, _ = hold_what_is_drawn(monkeypatch, small, 2)
    list(run)
    assert max(sizes) == 2
    assert [r.gain for r in run.records] == pytest.approx([r.gain for r in whole.records], abs=1e-4)


@pytest.mark.parametrize("plan", [4, 8])
def test_where_memory_is_shorter_than_planned_the_gain_is_measured_all_the_same(
    small: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch, plan: int
) -> None:
    run = start(small, photos)
    next(run)
    watch, rows = run._watch, run.concept().vectors
    assert watch is not None
    gain = watch.measure(run.records[0], rows).gain
    sizes, _ = hold_what_is_drawn(monkeypatch, small, 1)
    watch.plan = replace(run.plan, micro=plan)
    assert watch.measure(run.records[0], rows).gain == pytest.approx(gain, abs=1e-5)
    assert sizes[0] == plan and sizes.count(1) == 8


def test_losses_by_timestep_fit_the_device(
    small: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses() -> torch.Tensor:
        return ti.loss_by_timestep(small, photos, [ti.initial_concept(small, "<new>", "animal")], bands=2, draws=2)[1]

    plain = losses()
    sizes, _ = hold_what_is_drawn(monkeypatch, small, 3)
    torch.testing.assert_close(losses(), plain)
    assert sizes[0] > 3
    sizes.clear()
    free = int(2.5 * activation_bytes(small, False) / loss_module.ROOM)
    monkeypatch.setattr(loss_module, "free_memory", lambda _: free)
    torch.testing.assert_close(losses(), plain)
    assert max(sizes) == 2


def test_a_device_without_room_for_one_picture_says_so(
    small: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_what_is_drawn(monkeypatch, small, 0)
    for use in (look, USES["attention"], USES["sampling"]):
        with pytest.raises(torch.OutOfMemoryError, match="out of memory with one picture at once: free some of it"):
            use(small, photos)


def test_errors_that_are_not_of_memory_are_raised_as_they_are() -> None:
    def fails() -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        devices.attempt(fails, torch.device("cpu"))


def test_attention_is_recorded_of_words_only(small: ti.Model) -> None:
    """Between a picture's own places it would take the square of their number."""
    before = dict(small.unet.attn_processors)
    with _record_attention(small.unet):
        changed = {name for name, own in small.unet.attn_processors.items() if own is not before[name]}
    assert changed == {name for name in before if ".attn2." in name} and len(changed) < len(before)
    assert small.unet.attn_processors == before


# Several processes


class Process:
    """What accelerate says in the `number`-th of `count` processes."""

    def __init__(self, number: int, count: int) -> None:
        self.process_index, self.num_processes = number, count


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_processes_compute_each_picture_once_whatever_each_plans(
    monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    import accelerate

    from ti_nb.host.devices import own_share

    for pictures in range(1, 12):
        shares = []
        for number in range(processes):
            monkeypatch.setattr(accelerate, "PartialState", lambda number=number: Process(number, processes))
            shares.append(list(own_share(pictures)))
        assert [number for share in shares for number in share] == list(range(pictures))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_plans_for_its_share(small: ti.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate

    monkeypatch.setattr(accelerate, "PartialState", lambda: Process(0, 4))
    assert ti.plan_memory(small, ti.TrainSettings(batch=10)).micro == 3


def test_the_vaes_turn_is_given_back_where_it_fails(
    small: ti.Model, photos: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: torch.Tensor) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(small.vae, "encode", fails)
    with pytest.raises(KeyboardInterrupt):
        cache_latents(small, photos.pixels(small.resolution))
    assert not turns.turn._is_owned()  # type: ignore[attr-defined]
