"""Methods of learning a word compared at equal seconds, the model frozen: on the dev split to choose, on the test split once.

`python -m benchmarks.methods` measures each method's seconds a step, gives all the seconds that 150 steps of `fast` take, trains
every thing with every method and seed, scores the words, and writes `methods.md`. It takes hours and can be interrupted: what is
done stands in `methods.jsonl` beside this file. Method names, `--seeds`, `--things` and `--steps` do less.

A method is a row of `METHODS`: settings of the package, and small pieces that are not in it: where the vectors start, terms added
to the loss, timesteps that change on the way, prompts of its own. `Trial` is the training loop that takes them; without any
pieces it does what the package's own run does, step by step, which a test proves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

import ti_nb as ti
from benchmarks import quality
from benchmarks.other_judge import NAME
from ti_nb.training.batches import Batch, Draws, words_beside
from ti_nb.training.losses import word_loss
from ti_nb.training.optimiser import Learner, kept_context

ROOT = Path(__file__).parents[1]
RESULTS, CLOCK = ROOT / "benchmarks/methods.jsonl", ROOT / "benchmarks/methods_clock.json"
WORD = "<new>"
Rows = Mapping[str, torch.Tensor]
Term = Callable[["Trial", Rows, Batch], torch.Tensor]


# Where the vectors start


def from_table(model: ti.Model, init: str, settings: ti.TrainSettings) -> ti.Concept:
    """The initializer's own vectors."""
    return ti.initial_concept(model, WORD, init, settings.vectors, source=settings.init_source, seed=settings.seed)


def from_output_at_table_length(model: ti.Model, init: str, settings: ti.TrainSettings) -> ti.Concept:
    """Cross Initialization with the norm brought back: the encoder's output for the initializer, as long as its own vectors."""
    own = ti.initial_concept(model, WORD, init, settings.vectors)
    crossed = ti.initial_concept(model, WORD, init, settings.vectors, source="output")
    return ti.adjust(crossed, own, match_length=1.0)


# Terms of the loss


def excludes_rest(trial: Trial, rows: Rows, batch: Batch) -> torch.Tensor:
    """The exclusion term of per-picture rows: the word's direction has nothing in common with theirs, the vocabulary's mean apart."""
    total = torch.zeros((), device=trial.model.device)
    for encoder in trial.model.encoders:
        own = F.normalize(rows[encoder.key] - encoder.table.mean(0), dim=-1)
        total = total + (own[: trial.count] @ own[trial.count :].T).square().mean()
    return total / len(trial.model.encoders)


# Timesteps on the way


def noisy_first(share: float) -> tuple[float, float]:
    """The noisier half at first, all timesteps from the middle of the training on."""
    return max(0.0, 0.5 - share), 1.0


@dataclass(frozen=True)
class Method:
    """A way to learn a word.

    Attributes:
        does: what it is. settings: those of the package. start: where the vectors start. terms: (weight, term) of the loss.
        timesteps: part of the schedule at a share of the way. captions: say the place of each picture in its prompt.
    """

    does: str
    settings: ti.TrainSettings = ti.FAST
    start: Callable[[ti.Model, str, ti.TrainSettings], ti.Concept] = from_table
    terms: tuple[tuple[float, Term], ...] = ()
    timesteps: Callable[[float], tuple[float, float]] | None = None
    captions: bool = False
    flip: bool = field(default=False)


def _fast(**changes: object) -> ti.TrainSettings:
    return replace(ti.FAST, **changes)


METHODS = {
    "fast": Method("the default"),
    "diffusers": Method("the README's recipe", ti.DIFFUSERS, flip=True),
    "crossed": Method("Cross Initialization, the norm brought back", start=from_output_at_table_length),
    "crossed, free": Method("Cross Initialization as published", _fast(init_source="output", norm="free", pull=1e-5)),
    "directional": Method("Directional TI", _fast(norm="fixed", pull=1e-4)),
    "directional, crossed": Method("both", _fast(norm="fixed", pull=1e-4), from_output_at_table_length),
    "rest": Method("a row a picture for the rest", _fast(per_picture=True)),
    "rest, excluded": Method(
        "the same with an exclusion term", _fast(per_picture=True), terms=((0.05, excludes_rest),)
    ),
    "captions": Method("prompts say the place", captions=True),
    "captions, rest": Method("both, excluded", _fast(per_picture=True), terms=((0.05, excludes_rest),), captions=True),
    "noisy first": Method("high noise first, then all", timesteps=noisy_first),
    "context": Method("CoRe's context term", _fast(context=0.02)),
    "context, strong": Method("five times that", _fast(context=0.1)),
    "two vectors": Method("two vectors", _fast(vectors=2)),
    "three vectors": Method("three vectors", _fast(vectors=3)),
    "batch 2": Method("more and noisier steps", _fast(batch=2)),
    "batch 8": Method("fewer and steadier steps", _fast(batch=8)),
}


class Trial:
    """One word being learned by one method.

    Attributes:
        concept: the word so far. count: its vectors.
    """

    def __init__(
        self, model: ti.Model, pictures: ti.ConceptImages, init: str, method: Method, *, seed: int, steps: int
    ) -> None:
        self.model, self.method, self.done = model, method, 0
        self.settings = replace(method.settings, seed=seed, steps=steps, watch=0)
        self.start = method.start(model, init, self.settings)
        self.count = len(self.start)
        words = (self.start, *words_beside(model, WORD, self.settings, len(pictures)))
        first = {key: torch.cat([word.vectors[key] for word in words]) for key in self.start.vectors}
        counts = {word.word: len(word) for word in words}
        self.draws = Draws(model, replace(pictures, flip=method.flip), self.settings, counts, seed)
        self.learner = Learner(model, first, self.settings)

    def __iter__(self) -> Iterator[float]:
        """Each step's loss, its terms included."""
        while self.done < self.settings.steps:
            yield self.step()

    def step(self) -> float:
        """One step of the optimiser; returns the loss."""
        if self.method.timesteps:
            share = self.done / self.settings.steps
            self.draws.settings = replace(self.settings, timesteps=self.method.timesteps(share))
        self.draws.step = self.done
        batch, rows = self.draws.draw(), self.learner.rows
        self.learner.clear()
        with torch.enable_grad():
            kept = kept_context([self.learner], torch.zeros(len(batch), dtype=torch.long))
            loss = (word_loss(self.model, rows, batch, self.settings, kept) / len(batch)).sum()
            for weight, term in self.method.terms:
                loss = loss + weight * term(self, rows, batch)
            (loss * self.learner.loss_scale).backward()
        value = float(loss.detach())
        self.learner.step(self.done, value)
        self.done += 1
        return value

    @property
    def concept(self) -> ti.Concept:
        """The word as it is now; what stands for the rest is left out."""
        rows = {key: v[: self.count] for key, v in self.learner.vectors().items()}
        return ti.Concept(WORD, rows, {**self.start.facts, "steps": self.done})


def with_captions(pictures: ti.ConceptImages, init: str, judge: ti.Judge) -> ti.ConceptImages:
    """Each picture with a caption that says the place which the judge sees, among those of tiny's world."""
    from tools.tiny_model.world import BACKGROUNDS

    places = list(BACKGROUNDS.values())
    said = judge.embed_texts([f"a photo of a {init} {place}" for place in places])
    assert said is not None
    best = (judge.embed_images(pictures.images) @ said.T).argmax(1).tolist()
    return replace(pictures, captions=tuple(f"a photo of a {{}} {places[i]}" for i in best))


def clock(model: ti.Model, names: list[str], repeats: int = 8) -> dict[str, float]:
    """Each method's seconds a step: the median of `repeats`, the methods taking turns; kept in a file, and read from it."""
    known: dict[str, float] = json.loads(CLOCK.read_text()) if CLOCK.exists() else {}
    names = [name for name in dict.fromkeys(["fast", *names]) if name not in known]
    pictures = ti.example_images("penguin")
    trials = {n: Trial(model, pictures, "animal", METHODS[n], seed=0, steps=repeats + 2) for n in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats + 2):
        for name, trial in trials.items():
            began = time.perf_counter()
            trial.step()
            if repeat >= 2:  # the first two warm up
                seconds[name].append(time.perf_counter() - began)
    known |= {name: round(statistics.median(s), 5) for name, s in seconds.items()}
    if names:
        CLOCK.write_text(json.dumps(known, indent=1) + "\n")
    return known


def read(split: str) -> list[dict]:
    """All results of a split so far."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return [row for row in map(json.loads, lines) if row["split"] == split]


def write(row: dict) -> None:
    """Add a result."""
    with open(RESULTS, "a") as file:
        file.write(json.dumps(row) + "\n")


def run(names: list[str], seeds: list[int], split: str, things: list[str], steps: int | None) -> None:
    """Train and score what is missing; `steps` of `fast` make the seconds that every method has."""
    model, judge = ti.load_model("tiny"), ti.load_judge("tiny")
    every = {n: t for n, t in quality.things(split).items() if not things or n in things}
    seconds = clock(model, names)
    budget = (steps or ti.FAST.steps) * seconds["fast"]
    done = {(r["method"], r["seed"], r["thing"]) for r in read(split)}
    for thing, found in every.items():
        if ("initializer", 0, thing) not in done:
            write(quality.first_row(model, judge, split, thing, found))
    jobs = [(s, n, t) for s in seeds for t in every for n in names if (n, s, t) not in done]
    for seed, name, thing in tqdm(jobs, desc="words"):
        method, (init, pictures, _) = METHODS[name], every[thing]
        given = with_captions(pictures, init, judge) if method.captions else pictures
        trial = Trial(model, given, init, method, seed=seed, steps=max(1, round(budget / seconds[name])))
        for _ in trial:
            pass
        scores = quality.score(model, judge, trial.concept, every[thing])
        norm = round(float(next(iter(trial.concept.norms().values())).mean()), 4)
        facts = {"split": split, "method": name, "seed": seed, "thing": thing, "step": trial.done}
        write({**facts, "seconds": round(budget, 1), **scores, "norm": norm})


def report(split: str) -> str:
    """The table, best product of both axes first, and how often each method beats the default on both."""
    rows = read(split)
    start = {r["thing"]: r for r in rows if r["method"] == "initializer"}
    found = {}
    for name in METHODS:
        mine = [r for r in rows if r["method"] == name]
        if mine:
            found[name] = {**quality.means(mine, start), "step": round(statistics.mean(r["step"] for r in mine))}
    lines = [
        f"| method | what it is | steps | seeds | things | gap closed | by {NAME} | prompt kept | both | better than fast |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, r in sorted(found.items(), key=lambda item: -item[1]["gap"] * item[1]["kept"]):
        other = "–" if r["other"] is None else f"{r['other']:.3f}"
        count = len({thing for thing, _ in r["pairs"]})
        lines.append(
            f"| {name} | {METHODS[name].does} | {r['step']} | {r['seeds']} | {count} | {r['gap']:.3f} ± {r['error']:.3f} | {other} | "
            f"{r['kept']:.3f} | {r['gap'] * r['kept']:.3f} | {_wins(r, found.get('fast'))} |"
        )
    return "\n".join(lines)


def _wins(row: dict, fast: dict | None) -> str:
    """Of how many things, each over the seeds that both have, the product of both axes is larger than the default's."""
    if fast is None or fast is row:
        return ""
    shared = row["pairs"].keys() & fast["pairs"].keys()
    products: dict[str, list[float]] = {}
    for pair in shared:
        (gap, kept), (gap_fast, kept_fast) = row["pairs"][pair], fast["pairs"][pair]
        products.setdefault(pair[0], []).append(gap * kept - gap_fast * kept_fast)
    return f"{sum(statistics.mean(d) > 0 for d in products.values())} of {len(products)}"


PREFACE = """# Methods at equal seconds: the {split} split

`python -m benchmarks.methods`. The model is frozen; every method has {seconds} s a word on this machine. Columns as in
`quality.md`; both is gap closed x prompt kept; the last column counts the things whose product of both is larger than `fast`'s.

"""


def main() -> None:
    """Run the comparison, or a part of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help=f"of {', '.join(METHODS)}; all by default")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--things", nargs="*", default=[])
    parser.add_argument("--split", default="dev", choices=["dev", "test"])
    parser.add_argument("--steps", type=int, help="of `fast`, whose seconds all methods get; 150 by default")
    parser.add_argument("--out", type=Path, help="another folder for what is written, as for a rehearsal")
    options = parser.parse_args()
    if options.out:
        global RESULTS, CLOCK
        options.out.mkdir(parents=True, exist_ok=True)
        RESULTS, CLOCK = (options.out / path.name for path in (RESULTS, CLOCK))
    run(options.methods or list(METHODS), options.seeds, options.split, options.things, options.steps)
    text = report(options.split)
    print(text)
    seconds = next(str(r["seconds"]) for r in read(options.split) if "seconds" in r)
    suffix = "" if options.split == "dev" else "_test"
    page = RESULTS.with_name(f"methods{suffix}.md")
    page.write_text(PREFACE.format(split=options.split, seconds=seconds) + text + "\n")


if __name__ == "__main__":
    main()
