"""The experiments of the paper, and methods since then: what they say, and what we measured.

`python -m benchmarks.paper` learns every thing of the dev split in every way with every seed, scores the words, and writes `paper.md`,
each of whose rows has the command that makes it. It takes hours and can be interrupted: what is done stands in `paper.jsonl` beside
this file. Names of ways, `--seeds`, `--things` and `--steps` do less; `--quick` rehearses all of it with few steps, in
`outputs/paper-quick`.

The axes are those of the paper's Figures 10 and 12: likeness (its reconstruction) and how well the prompt is followed (its
editability), as cosines by tiny's own judge, beside which stands likeness by a judge that we did not make. A way is compared with
another, thing by thing and seed by seed; what is called more or less is so within the whole interval of 95 %, over things.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

import ti_nb as ti
from benchmarks import attention, quality
from benchmarks.other_judge import NAME
from ti_nb.models import TINY
from ti_nb.results.measures import in_words, interval, paired
from ti_nb.results.scores import measure

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/paper.jsonl"
CAPTIONS: Mapping[str, Sequence[str]] = json.loads((ROOT / "benchmarks/captions.json").read_text())
PLAN = ti.ScoreProtocol(quality.PROMPTS, quality.SCENES, subject_seeds=quality.PORTRAITS, steps=quality.STEPS)
QUICK = replace(PLAN, prompts=quality.PROMPTS[:2], seeds=1, subject_seeds=2, steps=4)
WORD = "<new>"
EDIT = "a {word} in the snow"  # what a picture's noise is drawn again with


@dataclass(frozen=True)
class Case:
    """One thing to learn: `steps` of the optimiser, from its pictures; `plan` says how what was learned is scored."""

    model: ti.Model
    judge: ti.Judge
    name: str
    init: str
    pictures: ti.ConceptImages
    held_back: ti.ConceptImages
    seed: int
    steps: int
    plan: ti.ScoreProtocol

    def learned(
        self, pictures: ti.ConceptImages | None = None, model: ti.Model | None = None, **changes: Any
    ) -> ti.Run:
        """A word of the default settings with some changed, trained to its end."""
        how = {"word": WORD, "init": self.init, "seed": self.seed, "steps": self.steps, "watch": 0, **changes}
        run = ti.train(model or self.model, pictures or self.pictures, **how)
        for _ in run:
            pass
        return run

    @property
    def start(self) -> ti.Concept:
        """The initializer."""
        return ti.initial_concept(self.model, WORD, self.init, 1)

    def score(self, concept: ti.Concept, model: ti.Model | None = None) -> dict[str, float]:
        """Likeness by both judges, and how well the prompts are followed."""
        found, _ = measure(model or self.model, self.judge, {"word": concept}, self.pictures.images, self.plan, False)
        one = found["word"]
        scores = {"likeness": statistics.mean(one.subject), "prompt": statistics.mean(one.prompt)}
        return {**scores, **quality.by_other("other", list(one.portraits), self.pictures.images)}


# Ways to learn: each scores what it made of a case


def words(**changes: Any) -> Callable[[Case], dict]:
    """The default settings with these changed."""

    def way(case: Case) -> dict:
        run = case.learned(**changes)
        return {**case.score(run.concept()), "done": len(run.records)}

    return way


def initializer(case: Case) -> dict:
    """No training at all; what real pictures score stands beside it."""
    real = ti.subject_fidelity(case.judge, case.held_back.images, case.pictures.images)
    return {**case.score(case.start), "real": real}


def growing(case: Case) -> dict:
    """1 vector, a second after 40 % of the steps, a third after 80 %."""
    how = {"word": WORD, "init": case.init, "steps": case.steps, "seed": case.seed, "watch": 0}
    for run in ti.train_progressively(case.model, case.pictures, **how):
        for _ in run:
            pass
    return case.score(run.concept())


def some_pictures(count: int) -> Callable[[Case], dict]:
    """From the first so many; past the five there are, the thing cut out and put on other backgrounds, larger and smaller."""

    def way(case: Case) -> dict:
        every = case.pictures
        if count > len(every):
            added = composed(every, count - len(every), case.model.resolution)
            every = ti.load_images([*every.images, *added])
        return case.score(case.learned(ti.load_images(list(every.images[:count]))).concept())

    return way


def composed(pictures: ti.ConceptImages, count: int, side: int) -> list[Image.Image]:
    """More pictures of the same thing."""
    from tools.tiny_model.drawings import draw_background

    (thing, mask), rng = attention.cut_out(pictures), Random(0)
    places = [draw_background(attention.PLACES[i % len(attention.PLACES)], rng, side) for i in range(count)]
    return [attention.compose(thing, mask, place.convert("RGB"), rng)[0] for place in places]


def caption(which: int) -> Callable[[Case], dict]:
    """A person's description in the word's place; nothing is learned."""
    return lambda case: case.score(ti.initial_concept(case.model, WORD, CAPTIONS[case.name][which]))


def image_only(case: Case) -> dict:
    """The pictures themselves, as if they had been drawn for every prompt."""
    prompts = [text.replace("{word}", WORD) for text in case.plan.prompts]
    samples = [ti.Sample(image, text, 0) for text in prompts for image in case.pictures.images]
    alike = ti.subject_fidelity(case.judge, case.held_back.images, case.pictures.images)
    other = quality.by_other("other", list(case.held_back.images), case.pictures.images)
    return {"likeness": alike, "prompt": ti.prompt_fidelity(case.judge, samples, WORD), **other}


def prompt_only(case: Case) -> dict:
    """The prompts without the word."""
    options = {"steps": case.plan.steps, "progress": False}
    bare = {
        ti.without_word(text.replace("{word}", WORD), WORD): text
        for text in ("a photo of a {word}", *case.plan.prompts)
    }
    first, *rest = bare
    portraits = ti.sample(case.model, first, seeds=case.plan.subject_seeds, **options)
    scenes = ti.sample(case.model, rest, seeds=case.plan.seeds, **options)
    alike = ti.subject_fidelity(case.judge, portraits, case.pictures.images)
    other = quality.by_other("other", portraits, case.pictures.images)
    return {"likeness": alike, "prompt": ti.prompt_fidelity(case.judge, scenes, WORD), **other}


def inverted(guidance: float) -> Callable[[Case], dict]:
    """The noise of each picture under "a photo of a S*", drawn again with another prompt; likeness is that of the outlines."""

    def way(case: Case) -> dict:
        word, steps = case.learned().concept(), case.plan.steps
        noise = ti.invert(case.model, case.pictures, "a photo of a {word}", word, steps=steps)
        drawn = ti.sample(case.model, EDIT, word, latents=noise, steps=steps, guidance=guidance, progress=False)
        kept = [outlines_kept(image, sample.image) for image, sample in zip(case.pictures.images, drawn)]
        return {"likeness": statistics.mean(kept), "prompt": ti.prompt_fidelity(case.judge, drawn, WORD)}

    return way


def outlines_kept(picture: Image.Image, other: Image.Image) -> float:
    """Correlation of two pictures' edges (the size of the lightness' slope): 1 where both have the same outlines."""
    edges = []
    for one in (picture, other.resize(picture.size)):
        down, across = np.gradient(np.asarray(one.convert("L"), float))
        edges.append(np.hypot(down, across).ravel())
    return float(np.corrcoef(edges)[0, 1])


def pivotal(case: Case) -> dict:
    """The word, then as many steps of a LoRA around it. No longer a frozen model."""
    how = {"steps": case.steps, "seed": case.seed, "progress": False}
    tuned = ti.tune(case.model, case.pictures, case.learned(), **how)
    return case.score(tuned.concept, tuned.model)


def crossed(case: Case) -> dict:
    """From the encoder's output for the class word, as long as that word's own vectors."""
    output = ti.initial_concept(case.model, WORD, case.init, 1, source="output")
    return case.score(case.learned(init=ti.adjust(output, case.start, match_length=1.0)).concept())


def each_layer(case: Case) -> dict:
    """A vector for each cross-attention layer."""
    layered = ti.by_layer(case.model)
    run = case.learned(model=layered, init=layered.everywhere(case.start))
    return case.score(run.concept(), layered)


def flat(case: Case) -> dict:
    """At a constant rate, until the gain on a fixed batch is flat."""
    run = case.learned(stop="flat", watch=max(1, case.steps // 15), decay="constant")
    return {**case.score(run.concept()), "done": len(run.records)}


@dataclass(frozen=True)
class Way:
    """A way to learn, and what is said of it.

    Attributes:
        does: what it is. score: of a case. says: the paper's statement, in short; "" for none.
        against: the way it is compared with. likeness, prompt: what the statement expects on an axis: "more", "less", "same", "not
            more"; "" for nothing. why: what may be the reason, where tiny disagrees. learns: whether seeds matter.
    """

    does: str
    score: Callable[[Case], dict]
    says: str = ""
    against: str = "one vector"
    likeness: str = ""
    prompt: str = ""
    why: str = ""
    learns: bool = True


SMALL = "tiny knows a hundred plain things, each well told by one vector"
FREE = {"norm": "free"}
WAYS = {
    "initializer": Way("the class word: the floor", initializer, learns=False),
    "one vector": Way("the default", words()),
    "free length": Way("the same, its length not held, as in the paper", words(**FREE)),
    "two vectors": Way("2 vectors", words(vectors=2), "as like, considerably less editable", "one vector", "same", "less", SMALL),
    "three vectors": Way("3 vectors", words(vectors=3), "as like, considerably less editable", "one vector", "same", "less", SMALL),
    "growing": Way("a second vector after 40 % of the steps, a third after 80 %", growing, "no better than one word", "one vector", "not more", "not more", "each vector is held as short as it began, which keeps several editable"),
    "L2": Way("L2 regularisation to the class word", words(pull=0.02, **FREE), "more editable, less detail", "free length", "less", "more", "how strong it was is not in the paper"),
    "words of pictures": Way('"S* with S_i", a word for each picture', words(per_picture=True), "no better than one word", "one vector", "not more", "not more", "the original's picture words began forty times too long, ours as long as the vocabulary's"),
    "high rate": Way("4 times the rate, as 0.02 to 0.005", words(rate=4 * 0.45, **FREE), "more like, less editable", "free length", "more", "less", "at 150 steps both rates come to an end of the way that 5000 steps go"),
    "low rate": Way("1/50 of the rate, as 0.0001 to 0.005", words(rate=0.45 / 50, **FREE), "less like, more editable", "free length", "less", "more", "in 150 steps of that rate the word hardly leaves the class word"),
    "one picture": Way("1 of the 5 pictures", some_pictures(1), "about 5 are best", "one vector", "not more", "not more"),
    "two pictures": Way("2 of the 5", some_pictures(2), "about 5 are best", "one vector", "not more", "not more"),
    "three pictures": Way("3 of the 5", some_pictures(3), "about 5 are best", "one vector", "not more", "not more"),
    "25 pictures": Way("the 5, and 20 of the thing on other backgrounds", some_pictures(25), "hardly more like, less editable", "one vector", "same", "less", "our 20 are one drawing on other backgrounds, which teach what is background"),
    "short caption": Way("a person's words, 12 at most", caption(0), "less like, and less editable", "one vector", "less", "less", "a caption in tiny's few words is as easy to edit as its class word", learns=False),
    "long caption": Way("a person's words, 30 at most", caption(1), "less like, and less editable", "one vector", "less", "less", "a caption in tiny's few words is as easy to edit as its class word", learns=False),
    "image only": Way("real pictures for every prompt: a bound", image_only, "the most like", "one vector", "more", "less", learns=False),
    "prompt only": Way("the prompts without the word: a bound", prompt_only, "the most editable", "one vector", "less", "more", "without a thing to draw, tiny draws things of its own", learns=False),
    "inversion, guidance 2": Way(f'each picture\'s noise drawn again as "{EDIT}"', inverted(2), "the structure is kept at about 2, lost at 5 to 10", "inversion, guidance 7.5", "more", "less"),
    "inversion, guidance 7.5": Way("the same with more guidance", inverted(7.5), against=""),
    "LoRA": Way("pivotal tuning: no longer a frozen model", pivotal, "better shape, editing collapses", "one vector", "more", "less", "a small LoRA for few steps, where the paper tuned all weights"),
    "Cross Initialization": Way("from the encoder's output, as published", words(init_source="output", pull=1e-5, **FREE), "more editable (CVPR 2024)", "free length", "", "more", "in 150 steps neither start drifts far"),
    "crossed, length kept": Way("from the encoder's output, as long as the class word", crossed, "", "one vector"),
    "Directional TI": Way("only turned, with a pull to the class word", words(norm="fixed", pull=1e-4), "less like, more editable (ICLR 2026)", "free length", "less", "more"),
    "DVAR": Way("stopped when the gain on a fixed batch is flat", flat, "as good in fewer steps (NeurIPS 2023)", "one vector", "same", "same"),
    "CoRe": Way("its context term, on the text encoder only", words(context=0.3), "more editable (AAAI 2025)", "one vector", "", "more", "the default holds the length, which is most of what the term does"),
    "XTI": Way("a vector for each cross-attention layer", each_layer, "more like, and more editable (P+, 2023)", "one vector", "more", "more", "tiny has few layers"),
}  # fmt: skip


def run(
    names: Sequence[str], seeds: Sequence[int], things: Sequence[str], steps: int, plan: ti.ScoreProtocol
) -> list[dict]:
    """Measure what is missing; returns all rows of these ways, seeds, steps and this plan."""
    model, judge, rows = ti.load_model("tiny"), ti.load_judge("tiny"), []
    jobs = [(seed, name) for seed in seeds for name in names if WAYS[name].learns or seed == seeds[0]]
    for seed, name in (bar := tqdm(jobs)):
        bar.set_description(f"{name}, seed {seed}")

        def one(thing: str, parts: tuple, name: str = name, seed: int = seed) -> dict:
            began = time.perf_counter()
            scores = WAYS[name].score(Case(model, judge, thing, *parts, seed, steps, plan))
            return {"thing": thing, "done": steps if WAYS[name].learns else 0, **_rounded(scores), "seconds": round(time.perf_counter() - began, 1)}  # fmt: skip

        said = {"way": name, "seed": seed, **kept_apart(steps, plan)}
        rows += [row for row in quality.collected(RESULTS, said, things, one) if not things or row["thing"] in things]
    return rows


def kept_apart(steps: int, plan: ti.ScoreProtocol) -> dict[str, Any]:
    """What rows must have in common to stand in one table: steps, samples, and the very model."""
    weights = (TINY / "unet/diffusion_pytorch_model.safetensors").read_bytes()
    model = hashlib.sha256(weights).hexdigest()[:12]
    return {"steps": steps, "samples": plan.pictures(), "drawn_in": plan.steps, "tiny": model}


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}


def by_thing(rows: Sequence[dict], way: str, key: str) -> dict[str, dict[int, float]]:
    """A way's figures: thing -> seed -> value."""
    out: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["way"] == way and key in row:
            out.setdefault(row["thing"], {})[row["seed"]] = row[key]
    return out


def difference(rows: Sequence[dict], way: str, other: str, key: str) -> tuple[float, float, float] | None:
    """Mean difference of two ways and its interval over things; None without a thing that both have.

    In pairs of the same seed; what does not learn has one figure for all seeds.
    """
    one, two = by_thing(rows, way, key), by_thing(rows, other, key)
    apart = []
    for thing in sorted(one.keys() & two.keys()):
        seeds = (one[thing].keys() & two[thing].keys()) or one[thing].keys()
        pairs = [(one[thing][s], two[thing].get(s, statistics.mean(two[thing].values()))) for s in seeds]
        apart.append(statistics.mean(a - b for a, b in pairs))
    return paired(apart, [0.0] * len(apart)) if apart else None


def agreement(expected: str, found: tuple[float, float, float]) -> str:
    """What a difference says of a statement: "agrees", "not seen", "the other way", "more instead"; "" where nothing is expected or known."""
    if not expected or found[1] != found[1]:  # of a single thing there is no interval
        return ""
    word = in_words(found)
    if expected == "not more":
        return "the other way" if word == "more" else "agrees"
    if word == expected:
        return "agrees"
    if expected == "same":
        return f"{word} instead"
    return "not seen" if word == "same" else "the other way"


def verdict(rows: Sequence[dict], name: str) -> str:
    """In a sentence: both differences in words and numbers, and whether that is what was said."""
    way, parts, results = WAYS[name], [], []
    for axis, expected in (("likeness", way.likeness), ("prompt", way.prompt)):
        found = difference(rows, name, way.against, axis)
        if found is None:
            return ""
        told = f"{axis} {in_words(found)} ({found[0]:+.3f}, {found[1]:+.3f} to {found[2]:+.3f})"
        parts.append(told if found[1] == found[1] else f"{axis} {found[0]:+.3f}, of one thing")
        results.append(agreement(expected, found))
    said = list(dict.fromkeys(result for result in results if result))
    told = " and ".join(said)
    why = f" Perhaps: {way.why}." if way.why and set(said) - {"agrees"} else ""
    return f"{'; '.join(parts)}.{f' **{told.capitalize()}.**' if told else ''}{why}"


def report(rows: Sequence[dict]) -> str:
    """The page's two tables: figures, and statements."""
    shown = [name for name in WAYS if any(row["way"] == name for row in rows)]
    lines = [
        f"| way | what it is | steps | seeds | things | likeness | by {NAME} | prompt | command |",
        "| --- " * 9 + "|",
    ]
    lines += [_figures(rows, name) for name in shown]
    lines += [
        "",
        "## What is said, and what we measured",
        "",
        "| way | against | said | measured | command |",
        "| --- " * 5 + "|",
    ]
    for name in shown:
        way = WAYS[name]
        if way.says and (found := verdict(rows, name)):
            lines.append(f"| {name} | {way.against} | {way.says} | {found} | {command(name, way.against)} |")
    return "\n".join(lines)


def _figures(rows: Sequence[dict], name: str) -> str:
    mine = [row for row in rows if row["way"] == name]
    shown = []
    for axis in ("likeness", "other", "prompt"):
        means = [statistics.mean(seeds.values()) for seeds in by_thing(rows, name, axis).values()]
        low, high = interval(means)
        span = f" ({low:.3f} to {high:.3f})" if low == low else ""
        shown.append(f"{statistics.mean(means):.3f}{span}" if means else "–")
    count = {key: len({row[key] for row in mine}) for key in ("seed", "thing")}
    done = statistics.mean(row["done"] for row in mine)
    return f"| {name} | {WAYS[name].does} | {done:.0f} | {count['seed']} | {count['thing']} | {' | '.join(shown)} | {command(name)} |"


def command(*names: str) -> str:
    """What measures these ways again."""
    return f"`python -m benchmarks.paper {' '.join(map(json.dumps, names))}`"


PREFACE = """# What the paper says, and what we measured

`python -m benchmarks.paper{quick}`. On tiny, frozen but for the LoRA; each thing of the dev split from five pictures and its category's
name, {steps} steps; {portraits} samples of "a photo of a S*", {scenes} of each of {prompts} prompts. Figures are cosines with their intervals of 95 % over
things. Of the inversion, likeness is how much of the picture's outlines is kept. The table of statements is written from the intervals:
"agrees" where a difference is as said, "not seen" where the interval does not tell; of no difference it says only that none is seen.
The paper has no table of numbers; its statements are those of its sections 4.3 and 5 and appendices A and B.

"""


def main() -> None:
    """Measure what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ways", nargs="*", help=f"of {', '.join(WAYS)}; all by default")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--things", nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=ti.FAST.steps)
    parser.add_argument("--quick", action="store_true", help="a rehearsal: one thing, one seed, 8 steps, small scores")
    options = parser.parse_args()
    global RESULTS
    plan, steps, seeds, things = PLAN, options.steps, options.seeds, options.things
    if options.quick:
        RESULTS = ROOT / "outputs/paper-quick/paper.jsonl"
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        plan, steps, seeds, things = QUICK, 8, [0], things or ["penguin"]
    run(options.ways or list(WAYS), seeds, things, steps, plan)
    same = kept_apart(steps, plan)
    rows = [row for row in map(json.loads, RESULTS.read_text().splitlines()) if same.items() <= row.items()]
    text = report(rows)
    print(text)
    facts = {"steps": steps, "portraits": plan.subject_seeds, "scenes": plan.seeds, "prompts": len(plan.prompts)}
    quick = " --quick" if options.quick else ""
    RESULTS.with_suffix(".md").write_text(PREFACE.format(quick=quick, **facts) + text + "\n")


if __name__ == "__main__":
    main()
