"""Presets and single methods on objects the embedded model has never seen: subject and prompt fidelity against seconds.

`python -m benchmarks.quality` trains, scores and writes `quality.md` and `quality.png`. It takes hours on two CPU cores
and can be interrupted: results are kept in `quality.jsonl` beside this file (unfinished runs in `outputs/quality`), from
which it resumes. `run`, `clock` and `report` do one part; method names select methods.

Likeness is judged twice: by tiny's own judge, and by features that we did not make (`benchmarks.other_judge`). Floor and
ceiling stand in the table: the initializer, and how near a name comes that the model was trained with (`python -m
tools.tiny_model trained-pictures` draws their pictures).

Seconds: all runs of a method share each pass through the UNet, so their own times mean nothing. A method's seconds are its
number of steps times the time of one of its steps alone, which `clock` measures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

import ti_nb as ti
from benchmarks.other_judge import NAME, other_judge
from ti_nb.results.plotting.figures import ACCENT, INK, SOFT, NotebookFigure

ROOT = Path(__file__).parents[1]
RESULTS, CLOCK = ROOT / "benchmarks/quality.jsonl", ROOT / "benchmarks/quality_clock.json"
PROMPTS = (
    "a photo of a {word} on the beach",
    "a photo of a {word} in the snow",
    "an outline drawing of a {word}",
    "a {word} with a party hat at night",
    "a small {word} on a red background",
)
LOWEST = 0.4  # smaller gaps are listed below the plot, not drawn
PORTRAITS, SCENES, STEPS = 8, 2, 15  # samples of "a photo of a ...", samples of each prompt, denoising steps


@dataclass(frozen=True)
class Method:
    """Settings, the steps to score at, whether pictures are mirrored, and a description."""

    settings: ti.TrainSettings
    score_at: tuple[int, ...]
    flip: bool = False
    does: str = ""


def _single(does: str, **changes: object) -> Method:
    """diffusers' recipe for 150 steps with one thing changed."""
    return Method(replace(ti.DIFFUSERS, steps=150, **changes), (150,), True, does)


METHODS = {
    "fast": Method(ti.FAST, (ti.FAST.steps,), does="the default"),
    "diffusers": Method(ti.DIFFUSERS, (75, 150, 300, 750, 1500, 3000), True, "the README's recipe"),
    "paper": Method(ti.PAPER, (50, 150, 300, 1000), True, "the paper's recipe, its first steps"),
    "clamp": _single("vectors may not grow", norm="clamp"),
    "fixed": Method(replace(ti.FAST, norm="fixed", rate=0.2), (150,), does="the default, but vectors only turn"),
    "rate x5": _single("rate 0.45 of the vocabulary's spread", rate=0.45, relative=True, scale_rate=False),
    "cosine": _single("the rate falls", decay="cosine"),
    "stratified": _single("timesteps spread over the batch", stratified=True),
    "min-SNR": _single("loss weighed by SNR up to 5", snr_gamma=5.0),
    "noisy half": _single("timesteps 500 to 1000 only", timesteps=(0.5, 1.0)),
    "from output": _single("starts at the encoder's output", init_source="output"),
    "running mean": _single("mean of the vectors", ema=0.95),
    "two vectors": _single("two vectors", vectors=2),
}


def things(split: str) -> dict[str, tuple[str, ti.ConceptImages, ti.ConceptImages]]:
    """Name -> initializer, pictures, held-back pictures. `tools.tiny_model` draws those of the other splits on request."""
    folder = ROOT / ("ti_nb/tiny/pictures" if split == "dev" else f"outputs/{split}_split")
    out = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        init = json.loads((path / "facts.json").read_text())["category"]
        out[path.name] = (init, ti.load_images(path / "pictures"), ti.load_images(path / "held_back"))
    return out


def train(model: ti.Model, name: str, seed: int, split: str, steps: int) -> dict[str, ti.Run]:
    """Train all things with one method and seed together; each run is saved, and resumed where it was."""
    method, runs = METHODS[name], {}
    settings = replace(method.settings, seed=seed)
    if settings.decay == "constant":  # then a longer run begins with the same steps as a shorter one
        settings = replace(settings, steps=steps)
    for thing, (init, pictures, _) in things(split).items():
        runs[thing] = ti.train(
            model,
            replace(pictures, flip=method.flip),
            word="<new>",
            init=init,
            settings=settings,
            out=ROOT / "outputs/quality" / split / name.replace(" ", "-") / str(seed) / thing,
            save_every=100,
        )
    left = max(r.settings.steps - len(r.records) for r in runs.values())
    for _ in tqdm(ti.together(list(runs.values())), total=left, desc=f"{name}, seed {seed}"):
        pass
    return runs


def score(model: ti.Model, judge: ti.Judge, concept: ti.Concept, thing: tuple) -> dict[str, float]:
    """Subject fidelity to the pictures by each judge, prompt fidelity over `PROMPTS`."""
    options = dict(steps=STEPS, progress=False)
    portraits = ti.sample(model, "a photo of a {word}", concept, seeds=PORTRAITS, **options)
    scenes = ti.sample(model, PROMPTS, concept, seeds=SCENES, **options)
    return {
        "subject": round(ti.subject_fidelity(judge, portraits, thing[1].images), 4),
        "prompt": round(ti.prompt_fidelity(judge, scenes, concept.word), 4),
        **by_other("other", portraits, thing[1].images),
    }


def by_other(key: str, samples: list, pictures: tuple) -> dict[str, float]:
    """Likeness by the second judge under that key; nothing where it is not installed."""
    judge = other_judge()
    return {key: round(ti.subject_fidelity(judge, samples, pictures), 4)} if judge else {}


def first_row(model: ti.Model, judge: ti.Judge, split: str, name: str, thing: tuple) -> dict:
    """The floor of a thing, which is its initializer's scores, and what real pictures score."""
    init, pictures, held_back = thing
    scores = score(model, judge, ti.initial_concept(model, "<new>", init, 1), thing)
    real = round(ti.subject_fidelity(judge, held_back.images, pictures.images), 4)
    reals = {"real": real, **by_other("other_real", held_back.images, pictures.images)}
    return {"split": split, "method": "initializer", "seed": 0, "thing": name, "step": 0, **scores, **reals}


def ceiling(model: ti.Model, judge: ti.Judge) -> None:
    """Score names that the model was trained with, as if they had been learned; those missing in the results."""
    done = {(r["method"], r["thing"]) for r in read("trained")}
    for name, thing in things("trained").items():
        if ("initializer", name) not in done:
            _write(first_row(model, judge, "trained", name, thing))
        if ("own name", name) not in done:
            own = ti.initial_concept(model, "<new>", name.replace("-", " "))
            row = {"split": "trained", "method": "own name", "seed": 0, "thing": name, "step": 0}
            _write({**row, **score(model, judge, own, thing), "norm": round(float(own.norms()["clip_l"].mean()), 4)})


def collected(results: Path, settings: dict, only: Sequence[str], measure: Callable[[str, tuple], dict]) -> list[dict]:
    """A row for each thing of the dev split (of those in `only`, if any), as `measure` gives it, with the settings.

    Rows are kept as they come, so that a stopped run goes on; those of other settings are left alone.
    """
    lines = results.read_text().splitlines() if results.exists() else []
    rows = [row for row in map(json.loads, lines) if settings.items() <= row.items()]
    for name, thing in things("dev").items():
        if name in {r["thing"] for r in rows} or (only and name not in only):
            continue
        rows.append({**measure(name, thing), **settings})
        with open(results, "a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    return rows


def read(split: str) -> list[dict]:
    """All results of a split so far."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return [row for row in map(json.loads, lines) if row["split"] == split]


def run(names: list[str], seeds: list[int], split: str, until: int) -> None:
    """Train and score what is missing in the results, up to step `until`."""
    model, judge = ti.load_model("tiny"), ti.load_judge("tiny")
    done = {(r["method"], r["seed"], r["thing"], r["step"]) for r in read(split)}
    all_things = things(split)
    for name, thing in all_things.items():
        if ("initializer", 0, name, 0) not in done:
            _write(first_row(model, judge, split, name, thing))
    if (ROOT / "outputs/trained_split").is_dir():
        ceiling(model, judge)
    for seed in seeds:
        for name in names:
            at = [step for step in METHODS[name].score_at if step <= until]
            if all((name, seed, thing, step) in done for thing in all_things for step in at):
                continue
            runs = train(model, name, seed, split, max(at))
            for step in at:
                for thing in tqdm(
                    [t for t in all_things if (name, seed, t, step) not in done], desc=f"{name} at {step}"
                ):
                    scores = score(model, judge, runs[thing].concept(step), all_things[thing])
                    row = {"split": split, "method": name, "seed": seed, "thing": thing, "step": step, **scores}
                    _write({**row, "norm": round(runs[thing].records[step - 1].norm, 4)})


def _write(row: dict) -> None:
    with open(RESULTS, "a") as file:
        file.write(json.dumps(row) + "\n")


def clock(repeats: int = 12) -> None:
    """Measure each method's seconds per step: the median of `repeats`, the methods taking turns."""
    model, pictures = ti.load_model("tiny"), ti.example_images("penguin")
    runs = {n: ti.train(model, pictures, word="<new>", init="animal", settings=m.settings) for n, m in METHODS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 2):
        for name, timed in runs.items():
            began = time.perf_counter()
            next(timed)
            if repeat >= 2:  # the first two warm up
                seconds[name].append(time.perf_counter() - began)
    facts = {"threads": torch.get_num_threads(), "dtype": str(model.dtype)}
    facts["seconds"] = {name: round(statistics.median(s), 5) for name, s in seconds.items()}
    CLOCK.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


def summary(split: str) -> list[dict]:
    """A row for each method and step: means over things and seeds; "pairs" has each thing and seed."""
    rows = read(split)
    start = {r["thing"]: r for r in rows if r["method"] == "initializer"}
    seconds = json.loads(CLOCK.read_text())["seconds"]
    out = []
    for name, method in METHODS.items():
        for step in method.score_at:
            mine = [r for r in rows if (r["method"], r["step"]) == (name, step)]
            if mine:
                facts = {"method": name, "does": method.does, "step": step, "seconds": step * seconds[name]}
                out.append({**facts, **means(mine, start)})
    return out


def means(mine: list[dict], start: dict[str, dict]) -> dict:
    """Means of some results over things, each thing's over its seeds; `start` has each thing's first row."""
    pairs = {(r["thing"], r["seed"]): _both(r, start[r["thing"]]) for r in mine}
    by_thing = _by_thing(pairs)
    gaps = [gap for gap, _ in by_thing.values()]
    others = [gap for r in mine if (gap := _other_gap(r, start[r["thing"]])) is not None]
    return {
        "seeds": len({r["seed"] for r in mine}),
        "gap": statistics.mean(gaps),
        "error": statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0,
        "worst": min(gaps),
        "other": statistics.mean(others) if others else None,
        "kept": statistics.mean(kept for _, kept in by_thing.values()),
        "norm": statistics.mean(r.get("norm", 0) for r in mine),
        "pairs": pairs,
    }


def _other_gap(row: dict, start: dict) -> float | None:
    """Gap closed by the second judge; None where it did not judge."""
    keys = (("other", start), ("other", row), ("other_real", start))
    if any(key not in one for key, one in keys):
        return None
    return ti.gap_closed(*(one[key] for key, one in keys))


def _both(row: dict, start: dict) -> tuple[float, float]:
    """Gap closed, and prompt fidelity relative to the initializer's."""
    return ti.gap_closed(start["subject"], row["subject"], start["real"]), row["prompt"] / start["prompt"]


def _by_thing(pairs: dict, seeds: set[int] | None = None) -> dict[str, tuple[float, float]]:
    """Each thing's two figures, means over its seeds, or over those in `seeds`."""
    out = {}
    for thing in sorted({t for t, _ in pairs}):
        mine = [v for (t, seed), v in pairs.items() if t == thing and (seeds is None or seed in seeds)]
        out[thing] = (statistics.mean(g for g, _ in mine), statistics.mean(k for _, k in mine))
    return out


def report(split: str) -> str:
    """The table in Markdown, and the comparisons below it."""
    rows = summary(split)
    lines = [
        f"| method | what it is | steps | s | seeds | gap closed | worst | by {NAME} | prompt kept | norm |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    floor = [r for r in read(split) if r["method"] == "initializer"]
    if floor:
        bottom = means(floor, {r["thing"]: r for r in floor})
        lines.append(_line({"method": "initializer", "does": "the floor", "step": 0, "seconds": 0, **bottom}))
    lines += [_line(r) for r in rows]
    known = read("trained")
    named = [r for r in known if r["method"] == "own name"]
    if named:
        top = means(named, {r["thing"]: r for r in known if r["method"] == "initializer"})
        facts = {"method": "own name", "does": "the ceiling: things the model knows", "step": 0, "seconds": 0}
        lines.append(_line({**facts, **top}))
    return "\n".join(lines) + "\n\n" + "\n".join([*verdicts(rows), *disagreement(rows)])


def _line(r: dict) -> str:
    other = "–" if r["other"] is None else f"{r['other']:.3f}"
    return (
        f"| {r['method']} | {r['does']} | {r['step']} | {r['seconds']:.1f} | {r['seeds']} | {r['gap']:.3f} ± {r['error']:.3f} | "
        f"{r['worst']:.2f} | {other} | {r['kept']:.3f} | {r['norm']:.2f} |"
    )


def disagreement(rows: list[dict]) -> list[str]:
    """Pairs of methods that the two judges of likeness put in another order, by more than both standard errors."""
    judged = [r for r in rows if r["other"] is not None]
    out = []
    for i, a in enumerate(judged):
        for b in judged[i + 1 :]:
            apart = abs(a["gap"] - b["gap"]) > a["error"] + b["error"]
            if apart and (a["gap"] - b["gap"]) * (a["other"] - b["other"]) < 0:
                better, worse = (a, b) if a["gap"] > b["gap"] else (b, a)
                out.append(
                    f"- The judges disagree: by tiny's `{better['method']}` at {better['step']} is more like than "
                    f"`{worse['method']}` at {worse['step']}, by {NAME} the other way round."
                )
    return out


def verdicts(rows: list[dict]) -> list[str]:
    """Is `fast` better on both axes at equal seconds? Does it reach diffusers' final fidelity in a tenth of its seconds?"""
    fast = next((r for r in rows if r["method"] == "fast"), None)
    theirs = [r for r in rows if r["method"] == "diffusers"]
    if fast is None or not theirs:
        return []
    out = []
    equal = min((r for r in theirs if r["seconds"] >= 0.98 * fast["seconds"]), key=lambda r: r["seconds"], default=None)
    for other in [r for i, r in enumerate((equal, theirs[-1])) if r is not None and (i == 0 or r is not equal)]:
        seeds = {seed for _, seed in fast["pairs"]} & {seed for _, seed in other["pairs"]}
        ours, others = _by_thing(fast["pairs"], seeds), _by_thing(other["pairs"], seeds)
        pairs = [(ours[t], others[t]) for t in ours if t in others]
        means = [statistics.mean(p[i][j] for p in pairs) for i in (0, 1) for j in (0, 1)]
        both = sum(a[0] > b[0] and a[1] > b[1] for a, b in pairs)
        likeness, prompt = sum(a[0] > b[0] for a, b in pairs), sum(a[1] > b[1] for a, b in pairs)
        out.append(
            f"- `fast` ({fast['seconds']:.1f} s) against `diffusers` after {other['step']} steps ({other['seconds']:.1f} s): "
            f"of {len(pairs)} things {likeness} are more like, {prompt} keep more of the prompt, {both} both; means "
            f"{means[0]:.3f} and {means[1]:.3f} against {means[2]:.3f} and {means[3]:.3f} (seeds: {len(seeds)})."
        )
    plain = next((r for r in theirs if r["step"] == 150), None)
    single = next((r for r in rows if r["method"] == "clamp"), None)
    if plain and single:
        seeds = {seed for _, seed in single["pairs"]}
        gaps, kepts = zip(*_by_thing(plain["pairs"], seeds).values())
        out.append(
            f"- `diffusers` after 150 steps on the single methods' seeds ({', '.join(map(str, sorted(seeds)))}): "
            f"{statistics.mean(gaps):.3f} and {statistics.mean(kepts):.3f}."
        )
    return out


def plot(split: str) -> NotebookFigure:
    """Subject against prompt fidelity: a point for each method and step, labelled with its seconds."""
    figure = NotebookFigure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    rows = summary(split)
    for name, colour in (("diffusers", INK), ("paper", "#6b8f71")):
        line = [r for r in rows if r["method"] == name and r["gap"] >= LOWEST]
        if not line:
            continue
        axes.plot([r["kept"] for r in line], [r["gap"] for r in line], "o-", color=colour, label=name, markersize=4)
        for r in (line[0], line[-1]):
            place = (r["kept"], r["gap"])
            axes.annotate(f"{r['seconds']:.0f} s", place, xytext=(5, -10), textcoords="offset points", fontsize=7)
    for r in rows:
        if r["method"] in ("diffusers", "paper") or r["gap"] < LOWEST:
            continue
        mark, colour, size = ("*", ACCENT, 16) if r["method"] == "fast" else ("s", SOFT, 6)
        axes.plot(r["kept"], r["gap"], mark, color=colour, markersize=size)
        label = f"{r['method']}, {r['seconds']:.0f} s"
        axes.annotate(label, (r["kept"], r["gap"]), xytext=(8, 4), textcoords="offset points", fontsize=7)
    below = [f"{r['method']} at {r['step']}: {r['gap']:.2f}" for r in rows if r["gap"] < LOWEST]
    if below:
        axes.text(0.01, 0.01, f"below {LOWEST}: {', '.join(below)}", transform=axes.transAxes, fontsize=7, color=INK)
    axes.set(
        xlabel="prompt fidelity kept (initializer = 1)", ylabel="gap in subject fidelity closed (real pictures = 1)"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def main() -> None:
    """Run the benchmark, or one part of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=["all", "run", "clock", "report"])
    parser.add_argument("methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument(
        "--until", type=int, default=10**9, help="score, and train constant rates, up to this step only"
    )
    parser.add_argument("--split", default="dev", choices=["dev", "test"])
    options = parser.parse_args()
    if options.part in ("all", "clock"):
        clock()
    if options.part in ("all", "run"):
        run(options.methods or list(METHODS), options.seeds, options.split, options.until)
    if options.part in ("all", "report"):
        text = report(options.split)
        print(text)
        suffix = "" if options.split == "dev" else "_test"
        (ROOT / f"benchmarks/quality{suffix}.md").write_text(PREFACE.format(split=options.split) + text + "\n")
        plot(options.split).savefig(ROOT / f"benchmarks/quality{suffix}.png", dpi=110)


PREFACE = """# What each method does: the {split} split

`python -m benchmarks.quality`. Every line is trained by this package's engine on tiny, each thing from five pictures and
its category's name; drawn at 64 px and judged by tiny's own CLIP, and for likeness also by the features of EfficientNet-Lite0. Gap closed: (word - initializer) / (real - initializer) in subject fidelity,
{{portraits}} samples of "a photo of a ..."; mean over things (of their seeds'
means), with its standard error; worst is the worst thing's. Prompt kept: the word's prompt fidelity over the initializer's, 5 prompts x {{scenes}} seeds. Seconds: steps x one step alone. The single methods are the
`diffusers` recipe's first 150 steps with one thing changed; the last line below has that recipe's own figures on their seeds.

""".replace("{{portraits}}", str(PORTRAITS)).replace("{{scenes}}", str(SCENES))


if __name__ == "__main__":
    main()
