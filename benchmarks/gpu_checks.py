"""The checks of `benchmarks.gpu`: each function takes a `Setup`, and returns its measurement as text or raises.

`python -m benchmarks.gpu_checks` does the jobs given on standard input in one process, and prints a line of JSON before
and after each. It ends at the first CUDA error, after which nothing else in the process would work.
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
SETTINGS = {"word": "<gpu>", "init": INIT, "steps": STEPS, "batch": 4, "watch": 0, "templates": ("a photo of a {}",)}
LOSS_TOLERANCE = 0.03  # relative: half precision rounds differently when others share the batch
PLAN_TOLERANCE = 0.2  # relative, of planned against used memory


@dataclass(frozen=True)
class Job:
    """One check on one network: a row of the report."""

    network: str
    size: int
    dtype: str
    check: str


class Setup:
    """A network with random weights on a device, and training pictures."""

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
        """A new run of few steps; `changes` are arguments of `train`."""
        arguments = {**SETTINGS, **changes}
        images = arguments.pop("images", self.photos)
        return ti.train(self.model, images, **arguments)

    def learned(self, **changes: Any) -> ti.Run:
        """A finished run."""
        run = self.run(**changes)
        for _ in run:
            pass
        return run

    @cached_property
    def baseline(self) -> ti.Run:
        """A plain run to compare others with."""
        return self.learned()


def a_word(setup: Setup) -> str:
    """Losses and gain are finite, the word has moved, and a picture drawn with it is not blank; seconds per step."""
    run = setup.learned(steps=2 * STEPS, watch=STEPS)
    losses, gain = [r.loss for r in run.records], run.records[-1].gain
    assert np.isfinite([*losses, gain]).all(), f"losses {losses}, gain {gain}"
    notes = [r.note for r in run.records if r.note]
    assert run.records[-1].cosine < 1, f"the word has not moved; notes: {notes}"
    drawn = ti.sample(setup.model, "a photo of a {word}", run.concept(), seeds=1, steps=2, progress=False)
    pixels = np.asarray(drawn[0].image)
    assert pixels.std() > 0, "the picture has only one colour, as from values that are not finite"
    step = min(b.seconds - a.seconds for a, b in zip(run.records, run.records[1:]))
    return f"loss {losses[0]:.3g}, {step:.3g} s a step" + "".join(f"; {note}" for note in notes)


def gradient(setup: Setup) -> str:
    """The first step has the same direction as with the same weights in float32."""
    model, settings = setup.model, {"steps": 1, "norm": "fixed", "rate": 0.01, "warmup": 0, "batch": 1}
    half = _moved(setup.learned(**settings))
    parts = [model.unet, *(encoder.network for encoder in model.encoders)]
    try:
        for part in parts:
            torch.nn.Module.to(part, torch.float32)  # not the VAE: the latents stay the same
        full = _moved(setup.learned(**settings))
    finally:
        for part in parts:
            torch.nn.Module.to(part, setup.dtype)
    return _check_cosine(half, full, minimum=0.9)


def masked_twice(setup: Setup) -> str:
    """Two runs with the same masks, one after the other, have the same losses."""
    masked = replace(setup.photos, masks=tuple(map(_circle, setup.photos.images)))
    first, second = (setup.learned(images=masked) for _ in range(2))
    assert first.records[0].loss != setup.baseline.records[0].loss, "the masks made no difference"
    return _same_losses(first, second)


def side_by_side(setup: Setup) -> str:
    """Two runs trained `together` have the same losses as alone."""
    seeds = ti.train_seeds(setup.model, setup.photos, seeds=2, **SETTINGS)
    for _ in ti.together(seeds):
        pass
    other = setup.learned(seed=1)
    return f"{_same_losses(setup.baseline, seeds[0])}; {_same_losses(other, seeds[1])}"


def preview_beside_attention(setup: Setup) -> str:
    """Drawing in a thread during `attention`: both have the same results as alone."""
    word, prompt = setup.baseline.concept(), "a photo of a {word}"
    one_photo = replace(setup.photos, images=setup.photos.images[:1])

    def draw() -> Image.Image:
        return ti.sample(setup.model, prompt, word, seeds=1, steps=3, progress=False)[0].image

    def look() -> torch.Tensor:
        return ti.attention(setup.model, one_photo, prompt, word).maps

    drawn_alone, maps_alone = draw(), look()
    results: list[Any] = []

    def keep_drawing() -> None:
        try:
            results.extend(draw() for _ in range(2))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=keep_drawing)
    thread.start()
    maps = [look() for _ in range(2)]
    thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    alone = np.asarray(drawn_alone, float)
    pixels_off = max(float(np.abs(np.asarray(picture, float) - alone).mean()) for picture in results)
    maps_off = max(float((m - maps_alone).abs().max()) for m in maps)
    assert pixels_off < 3 and maps_off < 0.05, f"pictures differ by {pixels_off:.3g} of 255, maps by {maps_off:.3g}"
    return f"pictures differ by {pixels_off:.2g} of 255, maps by {maps_off:.2g}"


def out_of_memory(setup: Setup) -> str:
    """A run that runs out of memory continues with smaller batches and the same losses."""
    run = setup.run()
    planned = run.plan
    with _short_of_memory(setup, planned.activations / planned.micro):
        for _ in run:
            pass
    notes = "; ".join(r.note for r in run.records if r.note)
    assert "out of memory" in notes, f"the limit had no effect: {planned}"
    losses = _same_losses(setup.baseline, run)
    after = setup.learned()
    return (
        f"{planned.micro} at once became {run.plan.micro}; {losses}; freed again: {_same_losses(setup.baseline, after)}"
    )


def plan_of_memory(setup: Setup) -> str:
    """Planned memory against the peak that was allocated, as planned and with activations recomputed."""
    lines = []
    for recomputed in (False, True):
        run = setup.run()
        if recomputed:
            run.plan = ti.plan_memory(setup.model, run.settings, free=0)
        planned = run.plan.weights + run.plan.activations
        used = _peak(setup, run)
        mode = "recomputed" if run.plan.checkpointing else f"{run.plan.micro} at once"
        lines.append(f"{mode}: planned {in_bytes(planned)}, used {in_bytes(used) if used else 'unknown on a CPU'}")
        if used and abs(planned - used) > PLAN_TOLERANCE * used:
            lines[-1] += f", {planned / used - 1:+.0%} off"
    assert not any("off" in line for line in lines), "; ".join(lines)
    return "; ".join(lines)


def resumed(setup: Setup) -> str:
    """A run that was stopped and resumed from its folder equals, bit for bit, one that was not.

    With torch's deterministic kernels: others sum in varying order. How closely those repeat is reported too.
    """
    with tempfile.TemporaryDirectory() as folder, _deterministic():
        whole, again = setup.learned(), setup.learned()
        run = setup.run(out=folder)
        for _ in range(STEPS - 1):
            next(run)
        run.save()
        del run
        continued = setup.run(out=folder)
        assert len(continued.records) == STEPS - 1, f"{len(continued.records)} steps were found in the folder"
        for _ in continued:
            pass
    repeats, resumes = _apart(whole, again), _apart(whole, continued)
    assert resumes == 0, f"apart by {resumes:.3g}; two runs that were not stopped by {repeats:.3g}"
    plain = _apart(setup.baseline, setup.learned())
    return "bit-equal; with default kernels a run repeats " + (f"to {plain:.2g}" if plain else "bit for bit")


CHECKS: dict[str, Callable[[Setup], str]] = {
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
    """How far training has moved the vectors, as one flat tensor."""
    start, end = run.concept(0).vectors, run.concept().vectors
    return torch.cat([(end[key] - start[key]).flatten() for key in end])


def _check_cosine(a: torch.Tensor, b: torch.Tensor, *, minimum: float) -> str:
    cosine = float(torch.nn.functional.cosine_similarity(a, b, dim=0))
    assert cosine >= minimum, f"cosine {cosine:.4f}, at least {minimum} expected"
    return f"cosine {cosine:.4f}"


def _same_losses(first: ti.Run, second: ti.Run) -> str:
    a, b = ([r.loss for r in run.records] for run in (first, second))
    off = max(abs(x - y) / x for x, y in zip(a, b, strict=True))
    assert off <= LOSS_TOLERANCE, f"losses {a} and {b}"
    return f"losses within {off:.1g}"


def _apart(a: ti.Run, b: ti.Run) -> float:
    return float((_moved(a) - _moved(b)).abs().max())


def _circle(picture: Image.Image) -> Image.Image:
    mask = Image.new("L", picture.size)
    width, height = picture.size
    ImageDraw.Draw(mask).ellipse((width // 4, height // 4, 3 * width // 4, 3 * height // 4), fill=255)
    return mask


def _peak(setup: Setup, run: ti.Run) -> int:
    """Peak bytes allocated during a run's steps; 0 if the device can't tell."""
    if not setup.is_gpu:
        next(run)
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for _ in run:
        pass
    return torch.cuda.max_memory_allocated()


@contextmanager
def _short_of_memory(setup: Setup, bytes_per_picture: float) -> Iterator[None]:
    """Within the block there is memory for about two and a half pictures; on a CPU this is simulated."""
    if not setup.is_gpu:
        with _refusing(setup.model.unet, more_than=2):
            yield
        return
    gc.collect()
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_allocated() + 2.5 * bytes_per_picture
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@contextmanager
def _refusing(unet: torch.nn.Module, *, more_than: int) -> Iterator[None]:
    def refuse(_: Any, inputs: tuple[Any, ...]) -> None:
        if len(inputs[0]) > more_than:
            raise torch.OutOfMemoryError(f"simulated, out of memory: {len(inputs[0])} pictures at once")

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
    """The device and the versions of the main packages."""
    from importlib.metadata import version

    name = f"{torch.cuda.get_device_name()}" if device.startswith("cuda") else f"{device}"
    memory = in_bytes(torch.cuda.get_device_properties(0).total_memory) if device.startswith("cuda") else ""
    return {"device": " ".join(filter(None, (name, memory)))} | {
        name: version(name) for name in ("torch", "diffusers", "transformers")
    }


def do(jobs: list[Job], device: str, until: float) -> Iterator[dict[str, Any]]:
    """Yield each job's result: {"job", "seconds", "passed"}, or "failed" with the error's last line, or "skipped".

    None is begun after `until`. Consecutive jobs on the same network and precision share it.
    """
    setup, kind = None, ("", 0, "")
    for number, job in enumerate(jobs):
        yield {"began": number}
        now = time.monotonic()
        if now > until:
            yield {"job": number, "seconds": 0.0, "skipped": "no time was left"}
            continue
        try:
            if (job.network, job.size, job.dtype) != kind or setup is None:
                setup, kind = None, (job.network, job.size, job.dtype)
                gc.collect()
                setup = Setup(job, device)
            result = {"passed": CHECKS[job.check](setup)}
        except Exception as error:
            result = {"failed": f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[-1]}"}
        yield {"job": number, "seconds": time.monotonic() - now, **result}
        if "CUDA error" in result.get("failed", ""):
            return


def main() -> None:
    """Do the jobs on standard input, one line of JSON: {"jobs", "device", "left"}, the seconds left."""
    request = json.loads(sys.stdin.readline())
    out, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not mix with the answers
    until = time.monotonic() + request["left"]
    print(json.dumps({"facts": facts(request["device"])}), file=out, flush=True)
    for result in do([Job(**job) for job in request["jobs"]], request["device"], until):
        print(json.dumps(result), file=out, flush=True)


if __name__ == "__main__":
    main()
