"""Small faults, put into a copy of the package one at a time: does a test see each? `python -m tools.faults`.

Each is a line of the package that is said wrongly, the tests it is run against, and what it would do to a user. The line
is looked for in the whole package, so that modules may move; a line that is no longer there just once is said, and wants
to be written anew here. Nothing in the working tree is changed.

`--list` only looks whether each line is found. `--only WORD` does those whose name or tests say it. `--all` runs all tests.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "ti_nb"
HEAVY = (
    "torch._dynamo",
    "torch._subclasses.fake_tensor",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "transformers.models.clip.modeling_clip",
    "accelerate",
)


@dataclass(frozen=True)
class Fault:
    """`old`, one line's text that is in the package once, said as `new`; `tests` are files' names without "test_"."""

    name: str
    old: str
    new: str
    tests: str


FAULTS = (
    Fault("the rate falls to nothing", "return rate * (0.1 + 0.9 * decayed)", "return rate * decayed", "settings"),
    Fault("min-SNR from below", "return snr.clamp(max=self.snr_gamma)", "return snr.clamp(min=self.snr_gamma)", "settings"),
    Fault("timesteps beyond their part", "((low + share * (high - low)) * total)", "((low + share * high) * total)", "settings"),
    Fault("no weight decay", "weight_decay=settings.weight_decay)", "weight_decay=0.0)", "training engine"),
    Fault("each seed the same batches", "self.generator = torch.Generator().manual_seed(seed)", "self.generator = torch.Generator().manual_seed(0)", "training engine"),
    Fault("mirror images with others' captions", "return prompts * (count // len(prompts))", "return [p for p in prompts for _ in range(count // len(prompts))]", "promises"),
    Fault("masks not mirrored", "resized += [ImageOps.mirror(mask) for mask in resized]", "resized += list(resized)", "promises"),
    Fault("the middle off", "crop or ((picture.width - short) // 2,", "crop or ((picture.width - short) // 3,", "promises"),
    Fault("captions of other pictures", "captions = [read_caption(path, notes.append) if path else \"\" for path in files]", "captions = [read_caption(path, notes.append) if path else \"\" for path in files[::-1]]", "promises"),
    Fault("norms not held", 'if self.settings.norm == "clamp":', 'if self.settings.norm == "held":', "training engine"),
    Fault("turned up the slope", "* unit - math.sin(angle) *", "* unit + math.sin(angle) *", "training engine"),
    Fault("pushed from the start", "alpha=self.settings.pull)", "alpha=-self.settings.pull)", "promises"),
    Fault("prompt and negative swapped in training", "predicted = against + settings.negative_guidance * (predicted - against)", "predicted = predicted + settings.negative_guidance * (against - predicted)", "engine families"),
    Fault("negative prompt not heard", "negative_prompt_embeds=negative.states.to(model.dtype),", "negative_prompt_embeds=torch.zeros_like(negative.states).to(model.dtype),", "promises"),
    Fault("guidance not heard", '"guidance_scale": asked.guidance}', '"guidance_scale": 5.0}', "promises"),
    Fault("one seed for pictures drawn at once", "manual_seed(seed) for _, seed in jobs]", "manual_seed(jobs[0][1]) for _ in jobs]", "files_and_sampling"),
    Fault("nothing outside masks counts", "weights = unmasked + (1 - unmasked) * masks", "weights = masks", "training engine"),
    Fault("the word left out of captions", "kept = [p for p in parts if word in split_on_words(p, [word]) or float(", "kept = [p for p in parts if float(", "prompts engine"),
    Fault("SDXL from the last layer", "states = out.hidden_states[-2 - model.clip_skip]", "states = out.hidden_states[-1 - model.clip_skip]", "families"),
    Fault("vectors of two words overlap", "next_id += count", "next_id += 1", "promises"),
    Fault("vectors of a longer initializer cut", "return rows.mean(0, keepdim=True).repeat(count, 1)", "return rows[:count]", "engine training"),
    Fault("random vectors around nothing", "return table.mean(0) + table.std(0) * torch.randn(", "return table.std(0) * torch.randn(", "promises"),
    Fault("nearest by length", "cosines = table @ mean / (table.norm(dim=-1) * mean.norm())", "cosines = table @ mean / (0 * table.norm(dim=-1) + mean.norm())", "promises"),
    Fault("the vectors of the step after", "{key: rows[step - 1] for key, rows in self.history.items()}", "{key: rows[min(step, len(rows) - 1)] for key, rows in self.history.items()}", "training checkpoints engine"),
    Fault("order of data not resumed", 'self._draws.generator.set_state(state["generator"])', "pass", "checkpoints training"),
    Fault("another's pictures go unseen", 'names = {"images": "other pictures, captions or masks", "start"', 'names = {"start"', "checkpoints"),
    Fault("captions not in the digest", "repr((images.flip, images.captions))", "repr(images.flip)", "checkpoints"),
    Fault("longer counted as shorter", "(self._norms[key] < rows.norm(dim=-1).mean())", "(self._norms[key] > rows.norm(dim=-1).mean())", "training engine"),
    Fault("two passes planned as one", "passes = 2 if settings.negative else 1", "passes = 1", "promises"),
    Fault("prompt fidelity with the word", "if instead else without_word(s.prompt, word) for s in samples]", "if instead else s.prompt for s in samples]", "scores"),
    Fault("pictures compared with themselves", "[~same].mean())", ".mean())", "scores"),
    Fault("DINOv2 shown all of the picture", "side, edge = self.resized, (self.resized - self.size) // 2", "side, edge = self.size, 0", "scores"),
    Fault("judges fetched unasked", "if download or _all_here(USUAL):", "if True:", "scores"),
    Fault("an interval of 90 %", "edge = (1 - share) / 2", "edge = 1 - share", "scores"),
    Fault("likeness alone chooses", "* max(0.0, kept)", "* 1.0", "selection"),
    Fault("the chosen step is not taken", "if scores is not None:", "if False:", "selection"),
    Fault("labels over each other", "return covered + 20 * outside, 0", "return 0, 0", "figures"),
    Fault("figures on white in dark pages", "dpi=dpi, transparent=True)", "dpi=dpi)", "figures"),
    Fault("the long word leads the average", "middle = (every / lengths.clamp_min(1e-12)).mean(0)", "middle = every.mean(0)", "edit"),
    Fault("gap closed of nothing", "return (word - initializer) / (real - initializer)", "return (word - initializer) / real", "promises"),
    Fault("turned from the far end", "turned = first * a + second * b", "turned = second * a + first * b", "edit"),
    Fault("cog's encoders swapped", '"text_encoders_1": "clip_g",', '"text_encoders_1": "clip_l",', "formats odd_files"),
    Fault("the last format of an ending", "and \"clip_keys\" in fitting else fitting[0])", "and \"clip_keys\" in fitting else fitting[-1])", "formats files_and_sampling"),
    Fault("the licence not in files", '"edits", "license")', '"edits")', "promises"),
    Fault("new repositories public", "_create(api, repo, private is not False, files)", "_create(api, repo, bool(private), files)", "hub hub_strangers"),
    Fault("training pictures of last time stay", 'PICTURE_FOLDERS = ("gallery/", "concept_images/")', 'PICTURE_FOLDERS = ("gallery/",)', "hub"),
    Fault("the first steps for the latest", "key=lambda f: (-steps[f],", "key=lambda f: (steps[f],", "hub hub_library hub_strangers"),
    Fault("the licence of the family for any base", "if base is None or base in USUAL else None", "if True else None", "model_card hub"),
    Fault("bands begin at their start", "middles = ((torch.arange(bands) + 0.5) / bands", "middles = ((torch.arange(bands) + 0.0) / bands", "inside"),
    Fault("small pictures pass", "if side < size:", "if side < size // 2:", "findings"),
    Fault("a pause is not saved", 'if state in ("paused", "stopped"):', 'if state == "stopped":', "promises"),
    Fault("a changed job goes on with the old run", "if before is None or not before.is_of_the_same(note) or not _is_whole(folder / RUN):", "if before is None:", "jobs"),
    Fault("a worker's death fails its job", "if order.deaths + 1 < TRIES:", "if order.deaths + 1 > TRIES:", "jobs"),
    Fault("captions of a job don't count", "captions = [text for text, _ in extras if text is not None and job.captions]", "captions: list[Path] = []", "jobs"),
    Fault("words that nobody asked for are lost", "if not future.cancel() and future.done() and", "if future.cancel() and future.done() and", "jobs"),
    Fault("pictures to a public repository", "if not with_retries(lambda: api.model_info(offer.repo)).private:", "if not offer.repo:", "rented"),
    Fault("more than was agreed to", "if most is not None and offer.most > most:", "if most is not None and offer.most > 2 * most:", "rented"),
    Fault("the first machine goes on alone", "        offer.cancel()", "        pass", "rented"),
    Fault("a plan of one word a worker", "free[first] += sum(group) * step", "free[first] += max(group) * step", "plans"),
)  # fmt: skip


def home_of(fault: Fault) -> Path | str:
    """The file whose text holds the line, or what is wrong."""
    texts = {path: path.read_text() for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
    found = [path for path, text in texts.items() for _ in range(text.count(fault.old))]
    return found[0].relative_to(ROOT) if len(found) == 1 else f"its line is there {len(found)} times: {fault.old!r}"


@contextmanager
def copy_of_the_tree() -> Iterator[Path]:
    """A copy of the package, all else linked to."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        heavy = {path.name for path in (ROOT / PACKAGE).iterdir() if path.is_dir() and not any(path.rglob("*.py"))}
        shutil.copytree(ROOT / PACKAGE, copy / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", *heavy))
        shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        for part in heavy:
            (copy / PACKAGE / part).symlink_to(ROOT / PACKAGE / part)
        for path in ROOT.iterdir():
            if path.name not in (PACKAGE, "tests", ".git", "outputs", ".pytest_cache"):
                (copy / path.name).symlink_to(path)
        yield copy


def verdict_of(fault: Fault, home: Path, every_test: bool) -> str:
    """ "caught by ...", "SURVIVED ...", or what went wrong."""
    with copy_of_the_tree() as copy:
        text = (copy / home).read_text()
        (copy / home).write_text(text.replace(fault.old, fault.new))
        names = [f"tests/test_{name}.py" for name in fault.tests.split()]
        code, said = run_tests(copy, ["tests"] if every_test else [name for name in names if (copy / name).exists()])
    failed = [line.split(" - ")[0].removeprefix("FAILED ") for line in said.splitlines() if line[:6] == "FAILED"]
    if code == 1 and failed:
        return f"caught by {failed[0]}"
    return f"SURVIVED {fault.tests}" if code == 0 else f"pytest ended with {code}: {said[-200:]}"


def run_tests(copy: Path, names: Sequence[str]) -> tuple[int, str]:
    """The exit status of pytest and what it said, in a fork of this process, in which what is heavy is imported already."""
    for name in HEAVY:
        importlib.import_module(name)
    output = copy / "output.txt"
    child = os.fork()
    if not child:
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy)
        sys.path.insert(0, str(copy))
        with output.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *names])))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), output.read_text(errors="replace")


def main(given: Sequence[str] | None = None) -> int:
    """Run the faults; the exit status is the number that no test saw, or whose line was not found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only look whether each line is found")
    parser.add_argument("--only", default="", help="those whose name or tests say this")
    parser.add_argument("--all", action="store_true", help="run all tests, not those likely to see it")
    options = parser.parse_args(given)
    chosen = [fault for fault in FAULTS if options.only in f"{fault.name} ({fault.tests})"]
    verdicts = []
    for fault in chosen:
        began, home = time.monotonic(), home_of(fault)
        said = home if isinstance(home, str) else str(home) if options.list else verdict_of(fault, home, options.all)
        verdicts.append(said)
        print(f"{fault.name}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    seen = sum(said.startswith("caught") for said in verdicts)
    lost = sum("its line is there" in said for said in verdicts)
    good = len(chosen) - lost if options.list else seen
    print(
        f"{len(chosen)} faults: "
        + (f"{good} found" if options.list else f"{seen} caught")
        + f", {lost} lines not found"
    )
    return len(chosen) - good


if __name__ == "__main__":
    sys.exit(main())
