"""Is the chosen step better than the last, and does editability trade likeness for the prompt? Judged on other seeds than chosen on.

`python -m benchmarks.choice` trains each thing of the dev split, lets `score_steps` choose one of its steps, and draws the chosen and
the last step on seeds that the choice has not seen; then it turns the last word towards its initializer by growing shares. It
resumes from `choice.jsonl` beside this file and writes `choice.md`. By default the run is diffusers' recipe, which goes on far
past its best.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from tqdm.auto import tqdm

import ti_nb as ti
from benchmarks import quality
from ti_nb.results.measures import embed, following, likeness

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/choice.jsonl"
CHOOSE = ti.ScoreProtocol(quality.PROMPTS, seeds=2, subject_seeds=8, steps=quality.STEPS)
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
NOISE = 0.01  # of a score, up to which it may go the other way


def judged(model: ti.Model, judge: ti.Judge, word: ti.Concept, pictures: Sequence, seeds: range) -> tuple[list, list]:
    """Each sample's likeness, and how well each follows its prompt, on those seeds."""
    options = dict(steps=quality.STEPS, progress=False)
    portraits = ti.sample(model, "a photo of a {word}", word, seeds=[*seeds, *(s + 1000 for s in seeds)], **options)
    scenes = ti.sample(model, quality.PROMPTS, word, seeds=list(seeds), **options)
    read = following(judge, embed(judge, scenes), scenes, word.word)
    return likeness(embed(judge, portraits), embed(judge, pictures)), read


def difference(
    chosen: tuple[list, list], last: tuple[list, list], start: tuple[list, list], real: float
) -> tuple[float, float]:
    """How much larger the chosen word's product of both axes is than the last one's, and half its interval of 95 %.

    Both are drawn on the same seeds, so that samples are drawn again in pairs.
    """
    first, kept = statistics.mean(start[0]), statistics.mean(start[1])

    def product(one: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return (one[0].mean(-1) - first) / (real - first) * one[1].mean(-1) / kept

    a, b = ([torch.tensor(axis, dtype=torch.float64) for axis in one] for one in (chosen, last))
    draw = torch.Generator().manual_seed(0)
    picks = [torch.randint(len(axis), (2000, len(axis)), generator=draw) for axis in a]
    drawn = product([axis[p] for axis, p in zip(a, picks)]) - product([axis[p] for axis, p in zip(b, picks)])
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return float(product(a) - product(b)), (high - low) / 2


def is_monotone(subject: Sequence[float], prompt: Sequence[float]) -> bool:
    """Whether likeness only falls and prompt fidelity only rises, up to the noise."""
    falls = all(b <= a + NOISE for a, b in pairwise(subject))
    return falls and all(b >= a - NOISE for a, b in pairwise(prompt))


def measure(model: ti.Model, judge: ti.Judge, name: str, thing: tuple, settings: ti.TrainSettings) -> dict:
    """One thing: the choice, and the trade-off of the last word."""
    init, pictures, held_back = thing
    run = ti.train(model, pictures, word="<new>", init=init, settings=settings)
    for _ in tqdm(run, desc=name):
        pass
    steps = ti.score_steps(model, run, judge, pictures.images, protocol=CHOOSE, held_back=held_back.images)
    fresh, last = range(100, 108), run.concept()
    scored = [judged(model, judge, one, pictures.images, fresh) for one in (run.best(steps), last, run.start)]
    gain, half = difference(*scored, steps.real)
    turned = [ti.adjust(last, run.start, editability=share) for share in SHARES]
    means = [[statistics.mean(a) for a in judged(model, judge, w, pictures.images, range(100, 104))] for w in turned]
    subject, prompt = (list(axis) for axis in zip(*means))
    facts = {"thing": name, "chosen": steps.step, "last": len(run.records), "gain": gain, "half": half}
    return {**facts, "subject": subject, "prompt": prompt}


def report(rows: list[dict]) -> str:
    """The table, and the verdicts below it."""
    lines = [
        "| thing | chosen of | product over the last step's | editability is a trade-off |",
        "| --- | --- | --- | --- |",
    ]
    for r in rows:
        traded = "yes" if is_monotone(r["subject"], r["prompt"]) else "no"
        lines.append(f"| {r['thing']} | {r['chosen']} of {r['last']} | {r['gain']:+.3f} ± {r['half']:.3f} | {traded} |")
    better = sum(r["gain"] > 0 for r in rows)
    worse = sum(r["gain"] < -r["half"] for r in rows)
    monotone = sum(is_monotone(r["subject"], r["prompt"]) for r in rows)
    lines += ["", f"Better than the last step: {better} of {len(rows)}; worse by more than the interval: {worse}."]
    return "\n".join([*lines, f"Editability only trades likeness for the prompt: {monotone} of {len(rows)}."])


def main() -> None:
    """Measure what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("things", nargs="*")
    parser.add_argument("--preset", default="diffusers", choices=list(ti.PRESETS))
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    settings = ti.TrainSettings(**{**vars(ti.PRESETS[options.preset]), "steps": options.steps, "watch": 0})
    model, judge = ti.load_model("tiny"), ti.load_judge("tiny")

    def one(name: str, thing: tuple) -> dict:
        return measure(model, judge, name, thing, settings)

    said = {"preset": options.preset, "steps": options.steps}
    text = report(quality.collected(RESULTS, said, options.things, one))
    print(text)
    RESULTS.with_suffix(".md").write_text(
        f"# Choosing a step, turning a word\n\n`python -m benchmarks.choice`.\n\n{text}\n"
    )


if __name__ == "__main__":
    main()
