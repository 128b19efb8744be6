"""What `benchmarks.gpu` checks: each function takes a `Stage`, returns what it measured in words, or raises.

`python -m benchmarks.gpu_checks` does the jobs that its standard input names, in one process, and prints a line of JSON
before and after each. It ends at the first error of the device itself: after one, nothing in the process works.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

import ti_nb as ti
from benchmarks.step_time import INIT, THING, in_bytes, pipeline_of

STEPS = 3
ASKED = {"word": "<gpu>", "init": INIT, "steps": STEPS, "batch": 4, "watch": 0, "templates": ("a photo of a {}",)}
CLOSE = 0.03  # of a loss, for what half precision rounds otherwise when other things share its pass
PLANNED = 0.2  # how far the plan of memory may be from what was taken


@dataclass(frozen=True)
class Job:
    """One check on one network: what `benchmarks.gpu` has done, and what a row of its report is about."""

    network: str
    size: int
    dtype: str
    check: str


class Stage:
    """A network of random weights on a device, and the pictures that its checks learn from."""

    def __init__(self, job: Job, device: str) -> None:
        self.device, self.dtype = torch.device(device), getattr(torch, job.dtype)
        pipeline = pipeline_of(job.network, job.size, device, self.dtype, self.dtype)
        self.model = ti.from_pipeline(pipeline, name=job.network)
        self.photos = ti.example_images(THING)

    @property
    def is_gpu(self) -> bool:
        """Whether the device's memory can be measured and limited."""
        return self.device.type == "cuda"

    def run(self, **changes: Any) -> ti.Run:
        """A run that has not begun, of few steps; `changes` are `train`'s."""
        asked = {**ASKED, **changes}
        images = asked.pop("images", self.photos)
        return ti.train(self.model, images, **asked)

    def learned(self, **changes: Any) -> ti.Run:
        """A run that is done."""
        run = self.run(**changes)
        for _ in run:
            pass
        return run

    @cached_property
    def alone(self) -> ti.Run:
        """A plain run, for others to be compared with."""
        return self.learned()


def a_word(stage: Stage) -> str:
    """Losses and gain are numbers, the word has moved, its picture is one; seconds of a step."""
    run = stage.learned(steps=2 * STEPS, watch=STEPS)
    losses, gain = [r.loss for r in run.records], run.records[-1].gain
    assert np.isfinite([*losses, gain]).all(), f"losses {losses}, gain {gain}"
    noted = [r.note for r in run.records if r.note]
    assert run.records[-1].cosine < 1, f"the word has not moved; notes: {noted}"
    drawn = ti.sample(stage.model, "a photo of a {word}", run.concept(), seeds=1, steps=2, progress=False)
    pixels = np.asarray(drawn[0].image)
    assert pixels.std() > 0, "the picture is of one colour, as of values that are not finite"
    step = min(b.seconds - a.seconds for a, b in zip(run.records, run.records[1:]))
    return f"loss {losses[0]:.3g}, {step:.3g} s a step" + "".join(f"; {note}" for note in noted)


def gradient(stage: Stage) -> str:
    """The first step's direction is that of the same weights in float32."""
    model, how = stage.model, {"steps": 1, "norm": "fixed", "rate": 0.01, "warmup": 0, "batch": 1}
    half = _moved(stage.learned(**how))
    parts = [model.unet, *(encoder.network for encoder in model.encoders)]
    try:
        for part in parts:
            torch.nn.Module.to(part, torch.float32)  # the VAE stays as it is: the same latents
        full = _moved(stage.learned(**how))
    finally:
        for part in parts:
            torch.nn.Module.to(part, stage.dtype)
    return _alike(half, full, least=0.9)


def masked_twice(stage: Stage) -> str:
    """Two runs with masks, one after the other: the second is the first again."""
    masked = replace(stage.photos, masks=tuple(map(_circle, stage.photos.images)))
    first, second = (stage.learned(images=masked) for _ in range(2))
    assert first.records[0].loss != stage.alone.records[0].loss, "the masks made no difference"
    return _same_losses(first, second)


def side_by_side(stage: Stage) -> str:
    """Two runs `together` have the losses that each has alone."""
    seeds = ti.train_seeds(stage.model, stage.photos, seeds=2, **ASKED)
    for _ in ti.together(seeds):
        pass
    other = stage.learned(seed=1)
    return f"{_same_losses(stage.alone, seeds[0])}; {_same_losses(other, seeds[1])}"


def preview_beside_attention(stage: Stage) -> str:
    """Pictures drawn in a thread while attention is looked at: both as alone."""
    word, say = stage.alone.concept(), "a photo of a {word}"
    one_photo = replace(stage.photos, images=stage.photos.images[:1])

    def draw() -> Image.Image:
        return ti.sample(stage.model, say, word, seeds=1, steps=3, progress=False)[0].image

    def look() -> torch.Tensor:
        return ti.attention(stage.model, one_photo, say, word).maps

    drawn, seen = draw(), look()
    found: list[Any] = []

    def keep_drawing() -> None:
        try:
            found.extend(draw() for _ in range(2))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=keep_drawing)
    thread.start()
    maps = [look() for _ in range(2)]
    thread.join()
    for one in found:
        if isinstance(one, BaseException):
            raise one
    off = max(float(np.abs(np.asarray(one, float) - np.asarray(drawn, float)).mean()) for one in found)
    apart = max(float((one - seen).abs().max()) for one in maps)
    assert off < 3 and apart < 0.05, f"pictures differ by {off:.3g} of 255, maps by {apart:.3g}"
    return f"pictures differ by {off:.2g} of 255, maps by {apart:.2g}"


def out_of_memory(stage: Stage) -> str:
    """A run whose memory runs short in the middle takes less at once, and its losses stay what they were."""
    run = stage.run()
    planned = run.plan
    with _short_of_memory(stage, planned.activations / planned.micro):
        for _ in run:
            pass
    notes = "; ".join(r.note for r in run.records if r.note)
    assert "out of memory" in notes, f"the limit was not felt: {planned}"
    said = _same_losses(stage.alone, run)
    after = stage.learned()
    return f"{planned.micro} at once became {run.plan.micro}; {said}; freed again: {_same_losses(stage.alone, after)}"


def plan_of_memory(stage: Stage) -> str:
    """What the plan says beside what was allocated at most, as planned and with activations recomputed."""
    said = []
    for recomputed in (False, True):
        run = stage.run()
        if recomputed:
            run.plan = ti.plan_memory(stage.model, run.settings, free=0)
        wanted = run.plan.weights + run.plan.activations
        taken = _peak(stage, run)
        how = "recomputed" if run.plan.checkpointing else f"{run.plan.micro} at once"
        said.append(f"{how}: planned {in_bytes(wanted)}, taken {in_bytes(taken) if taken else 'unknown on a CPU'}")
        if taken and abs(wanted - taken) > PLANNED * taken:
            said[-1] += f", {wanted / taken - 1:+.0%} off"
    assert not any("off" in one for one in said), "; ".join(said)
    return "; ".join(said)


def resumed(stage: Stage) -> str:
    """A run that was stopped and taken up from its folder ends bit for bit as one that was not.

    With torch's deterministic kernels: others add up in another order each time. What those do is said beside.
    """
    with tempfile.TemporaryDirectory() as folder, _deterministic():
        whole, again = stage.learned(), stage.learned()
        run = stage.run(out=folder)
        for _ in range(STEPS - 1):
            next(run)
        run.save()
        del run
        found = stage.run(out=folder)
        assert len(found.records) == STEPS - 1, f"{len(found.records)} steps were found in the folder"
        for _ in found:
            pass
    repeats, resumes = _apart(whole, again), _apart(whole, found)
    assert resumes == 0, f"apart by {resumes:.3g}; two runs that were not stopped by {repeats:.3g}"
    plain = _apart(stage.alone, stage.learned())
    return "bit-equal; kernels as they come repeat a run " + (f"to {plain:.2g}" if plain else "bit for bit")


CHECKS: dict[str, Callable[[Stage], str]] = {
    "a word is learned": a_word,
    "gradient as in float32": gradient,
    "plan of memory": plan_of_memory,
    "two masked runs": masked_twice,
    "runs together": side_by_side,
    "preview beside attention": preview_beside_attention,
    "out of memory": out_of_memory,
    "resume": resumed,
}


def _moved(run: ti.Run) -> torch.Tensor:
    start, end = run.concept(0).vectors, run.concept().vectors
    return torch.cat([(end[key] - start[key]).flatten() for key in end])


def _alike(one: torch.Tensor, other: torch.Tensor, *, least: float) -> str:
    cosine = float(torch.nn.functional.cosine_similarity(one, other, dim=0))
    assert cosine >= least, f"cosine {cosine:.4f}, at least {least} was wanted"
    return f"cosine {cosine:.4f}"


def _same_losses(one: ti.Run, other: ti.Run) -> str:
    a, b = ([r.loss for r in run.records] for run in (one, other))
    off = max(abs(x - y) / x for x, y in zip(a, b, strict=True))
    assert off <= CLOSE, f"losses {a} and {b}"
    return f"losses within {off:.1g}"


def _apart(one: ti.Run, other: ti.Run) -> float:
    return float((_moved(one) - _moved(other)).abs().max())


def _circle(picture: Image.Image) -> Image.Image:
    mask = Image.new("L", picture.size)
    width, height = picture.size
    ImageDraw.Draw(mask).ellipse((width // 4, height // 4, 3 * width // 4, 3 * height // 4), fill=255)
    return mask


def _peak(stage: Stage, run: ti.Run) -> int:
    """Bytes that a run's steps had allocated at most; 0 where the device does not say."""
    if not stage.is_gpu:
        next(run)
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for _ in run:
        pass
    return torch.cuda.max_memory_allocated()


@contextmanager
def _short_of_memory(stage: Stage, one: float) -> Iterator[None]:
    """Within the block there is room for about two and a half pictures, each `one` bytes; a CPU only acts so."""
    if not stage.is_gpu:
        with _refusing(stage.model.unet, more_than=2):
            yield
        return
    gc.collect()
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_allocated() + 2.5 * one
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@contextmanager
def _refusing(unet: torch.nn.Module, *, more_than: int) -> Iterator[None]:
    def refuse(_: Any, given: tuple[Any, ...]) -> None:
        if len(given[0]) > more_than:
            raise torch.OutOfMemoryError(f"as if out of memory: {len(given[0])} pictures at once")

    hook = unet.register_forward_pre_hook(refuse)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def facts(device: str) -> dict[str, str]:
    """The device and the versions that were measured."""
    from importlib.metadata import version

    name = f"{torch.cuda.get_device_name()}" if device.startswith("cuda") else f"{device}"
    memory = in_bytes(torch.cuda.get_device_properties(0).total_memory) if device.startswith("cuda") else ""
    return {"device": " ".join(filter(None, (name, memory)))} | {
        name: version(name) for name in ("torch", "diffusers", "transformers")
    }


def do(jobs: list[Job], device: str, until: float) -> Iterator[dict[str, Any]]:
    """Each job's result as it comes: {"job", "seconds", "said"}, or "failed" with the error's last line, or "skipped".

    None is begun after `until`. The network is kept from one job to the next of the same kind.
    """
    stage, kind = None, ("", 0, "")
    for number, job in enumerate(jobs):
        yield {"began": number}
        now = time.monotonic()
        if now > until:
            yield {"job": number, "seconds": 0.0, "skipped": "no time was left"}
            continue
        try:
            if (job.network, job.size, job.dtype) != kind or stage is None:
                stage, kind = None, (job.network, job.size, job.dtype)
                gc.collect()
                stage = Stage(job, device)
            said = {"said": CHECKS[job.check](stage)}
        except Exception as error:
            said = {"failed": f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[-1]}"}
        yield {"job": number, "seconds": time.monotonic() - now, **said}
        if "CUDA error" in said.get("failed", ""):
            return


def main() -> None:
    """Jobs of standard input, one line of JSON: {"jobs", "device", "left"}."""
    asked = json.loads(sys.stdin.readline())
    out, sys.stdout = sys.stdout, sys.stderr
    until = time.monotonic() + asked["left"]
    print(json.dumps({"facts": facts(asked["device"])}), file=out, flush=True)
    for found in do([Job(**job) for job in asked["jobs"]], asked["device"], until):
        print(json.dumps(found), file=out, flush=True)


if __name__ == "__main__":
    main()
