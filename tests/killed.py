"""Runs that die: `python -m tests.killed kill FOLDER` at random moments, `point FOLDER` at each file call of a save.

In a process of its own, so that nothing but one thread is there to fork. Each line it prints is a JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

import ti_nb as ti
from ti_nb.files import writing
from ti_nb.training import checkpoints, losses
from ti_nb.training.checkpoints import RunFolder

from .families import tokenizer

EVERYTHING = dict(vectors=2, negative=1, ema=0.9, decay="cosine", watch=5, warmup=3, batch=2)
BETWEEN, DONE = "between saves", "done"
STARTING = "before the first"


def smallest() -> ti.Model:
    """A model of random weights with 8 numbers to a vector, which takes some milliseconds a step."""
    torch.manual_seed(0)
    words = tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=8,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
    )
    pipeline = StableDiffusionPipeline(
        unet=unet,
        vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4),
        scheduler=DDPMScheduler(steps_offset=1, clip_sample=False),
        text_encoder=CLIPTextModel(text),
        tokenizer=words,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return ti.from_pipeline(pipeline, name="smallest")


def train(model: ti.Model, out: Path | None = None, **changes: Any) -> ti.Run:
    """A run of everything that has a state, saved after each step."""
    settings = {"word": "<new>", "init": "animal", "out": out, "save_every": 1, **EVERYTHING, **changes}
    return ti.train(model, ti.example_images("penguin"), **settings)


def without_seconds(records: list[ti.StepRecord]) -> list[ti.StepRecord]:
    """The clock is the one thing that two runs may differ in."""
    return [replace(record, seconds=0.0) for record in records]


def difference(folder: Path, whole: ti.Run, steps: int | None = None) -> str:
    """What is not bit-equal between a folder and the first `steps` steps (by default all) of a run, "" if nothing."""
    saved = ti.read_run(folder)
    steps = len(whole.records) if steps is None else steps
    if without_seconds(saved.records) != without_seconds(whole.records[:steps]):
        return f"records of {len(saved.records)} steps, not those of {steps}"
    for key, history in whole.history.items() if steps else ():
        if not torch.equal(saved.history[key], torch.stack(history[:steps])[:, : len(whole.start)]):
            return f"history of {key}"
    word = ti.load(folder / checkpoints.WORD)
    if steps == len(whole.records) and not all(
        torch.equal(v, whole.concept().vectors[k]) for k, v in word.vectors.items()
    ):
        return "the word"
    return ""


def steps_in(folder: Path) -> int:
    """How many steps a folder holds; one without a run holds none."""
    try:
        return len(ti.read_run(folder).records)
    except FileNotFoundError:
        return 0


# Killed from outside, at random moments.


def say_where(say: Callable[[str], None]) -> None:
    """Have this process say what it is about to do to its folder, each time before it does it."""
    save, append, replacing = RunFolder._save, checkpoints._append, checkpoints.replacing

    def saying_append(path: Path, *arguments: Any) -> int:
        say(path.name)
        return append(path, *arguments)

    @contextlib.contextmanager
    def saying_replacing(path: Path) -> Iterator[Path]:
        say(path.name)
        with replacing(path) as temporary:
            yield temporary

    def saying_save(self: RunFolder, *arguments: Any) -> None:
        save(self, *arguments)
        say(BETWEEN)

    RunFolder._save = saying_save  # type: ignore[method-assign]
    checkpoints._append = saying_append
    checkpoints.replacing = writing.replacing = saying_replacing


def in_a_child(work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """Fork a process that does `work`, giving it a function to say things; its id, and where to read what it says."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    code = 1
    try:
        os.close(read)
        work(lambda text: os.write(write, f"{text}\n".encode()) and None)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def attempt(model: ti.Model, folder: Path, steps: int, draw: random.Random, seconds: dict[str, float]) -> str:
    """Train in a process and kill it: half of the times within a save, half anywhere. Returns where it was then."""

    def work(say: Callable[[str], None]) -> None:
        say_where(say)
        list(train(model, folder, steps=steps))
        say(DONE)

    child, read = in_a_child(work)
    said = b""
    if draw.random() < 0.5:
        saves = draw.randint(1, max(1, steps // 3))
        while said.count(f"{checkpoints.VECTORS}\n".encode()) < saves and (heard := os.read(read, 4096)):
            said += heard
        wait = draw.uniform(0, seconds["save"])
    else:
        wait = draw.uniform(0, seconds["run"])
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while heard := os.read(read, 4096):
        said += heard
    os.close(read)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"the run in '{folder}' failed")
    return DONE if os.WIFEXITED(status) else (said.decode().splitlines() or [STARTING])[-1]


def kill(model: ti.Model, folder: Path, *, times: int, steps: int, seed: int) -> Iterator[dict[str, Any]]:
    """`times` runs, each killed and resumed until it is done; what became of each."""
    # In a child as well: where torch has threads for a GPU, a process that did a backward pass can't fork others that do.
    child, read = in_a_child(lambda _: list(train(model, folder / "whole", steps=steps)) and None)
    os.waitpid(child, 0)
    os.close(read)
    whole = train(model, folder / "whole", steps=steps)
    assert whole.finished
    seconds = {"run": whole.records[-1].seconds, "save": _seconds_of_a_save(whole)}
    draw = random.Random(seed)
    for number in range(times):
        out, killed, resumed, held = folder / str(number), [], 0, 0
        wrong = ""
        while not wrong:
            resumed += held > 0
            where = attempt(model, out, steps, draw, seconds)
            if where == DONE:
                wrong = difference(out, whole)
                break
            killed.append(where)
            had, held = held, steps_in(out)
            if held < had:
                wrong = f"{had} steps before, {held} after it was killed ({where})"
            elif held:
                wrong = difference(out, whole, held)
        yield {"killed": killed, "resumed": resumed, "wrong": wrong}
        shutil.rmtree(out, ignore_errors=True)


def _seconds_of_a_save(run: ti.Run) -> float:
    times = []
    for _ in range(10):
        began = time.monotonic()
        run.save()
        times.append(time.monotonic() - began)
    return statistics.median(times)


# Dead at a point: before each call that changes something on the disk, and after the last.

CALLS = ("mkdir", "open", "write", "truncate", "flush", "fsync", "close", "__exit__", "chmod", "replace", "unlink")


def die_at(point: int, say: Callable[[str], None]) -> None:
    """From now on let this process die, with nothing cleaned up, before the `point`-th such call."""
    count = 0

    def watch(frame: Any, event: str, called: Any) -> None:
        nonlocal count
        owner = getattr(called, "__module__", None) or type(getattr(called, "__self__", None)).__module__
        if event != "c_call" or called.__name__ not in CALLS or owner not in ("posix", "io", "_io"):
            return
        count += 1
        if count == point:
            sys.setprofile(None)
            say(called.__name__)
            os._exit(9)

    sys.setprofile(watch)


def point(model: ti.Model, folder: Path, *, done: int, steps: int, every: int) -> Iterator[dict[str, Any]]:
    """The save of step `done` + 1 cut short at every `every`-th point until it gets through; what the folder held then."""
    lighter = dict(steps=steps, watch=0, negative=0, batch=1, save_every=steps + 1)
    whole = train(model, **lighter)
    list(whole)
    before = folder / "before"
    run = train(model, before, **lighter)
    for _ in range(done):
        next(run)
    if done:
        run.save()
    kept, run.folder = run.folder, None
    next(run)
    run.folder = kept
    for number in range(1, 1000, every):
        out = folder / str(number)
        if before.exists():
            shutil.copytree(before, out)

        def work(say: Callable[[str], None], out: Path = out, number: int = number) -> None:
            run.folder.path = out
            die_at(number, say)
            run.save()

        child, read = in_a_child(work)
        _, status = os.waitpid(child, 0)
        where = os.read(read, 4096).decode().strip()
        os.close(read)
        held = steps_in(out)
        wrong = difference(out, whole, held) if held else ""
        resumed = train(model, out, **lighter)
        began = len(resumed.records)
        list(resumed)
        left = [path.name for path in out.glob(".*.tmp")]
        wrong = wrong or difference(out, whole) or (f"left {left}" if left else "")
        yield {"before": where or DONE, "held": held, "began": began, "wrong": wrong}
        shutil.rmtree(out)
        if os.WEXITSTATUS(status) == 0:
            return


def print_into(path: Path, main: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Run a program that prints into a file."""
    with path.open("w") as file, contextlib.redirect_stdout(file):
        main(arguments)


def made_ready() -> ti.Model:
    """The smallest model, in this process, where what the first run of a process has to find out is found out: forks know it."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    losses.FIXED_BATCH = 2  # fewer pictures to measure the gain on
    model = smallest()
    train(model)
    return model


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each run killed, or for each point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", choices=["kill", "point"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=4, help="runs to kill until they are done")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--done", type=int, nargs="+", default=[0], help="cut the save after this many steps short")
    parser.add_argument("--every", type=int, default=1, help="of the points")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args(arguments)
    model = made_ready()
    if options.how == "kill":
        for line in kill(model, options.folder, times=options.times, steps=options.steps, seed=options.seed):
            print(json.dumps(line), flush=True)
    else:
        for done in options.done:
            folder = options.folder / f"after-{done}"
            for line in point(model, folder, done=done, steps=options.steps, every=options.every):
                print(json.dumps({"done": done, **line}), flush=True)


if __name__ == "__main__":
    main()
