"""Learn twenty things the embedded model has never seen; write how well it went to `benchmarks/dev_split.md`.

`make benchmark`, about 20 minutes on two CPU cores. Done things are kept in `outputs/dev_split.jsonl`, so a run resumes.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch
from tqdm.auto import tqdm

import ti_nb as ti

ROOT = Path(__file__).parents[1]
PROMPTS = (
    "a photo of a {word} on the beach",
    "a photo of a {word} in the snow",
    "an outline drawing of a {word}",
    "a {word} with a party hat at night",
    "a small {word} on a red background",
)


def learn(model: ti.Model, judge: ti.Judge, name: str, settings: ti.TrainSettings) -> dict:
    """One thing: train, draw, compare."""
    facts = json.loads((ROOT / "ti_nb/tiny/pictures" / name / "facts.json").read_text())
    pictures, held_back = ti.example_images(name), ti.example_images(name, held_back=True)
    run = ti.train(model, pictures, word="<new>", init=facts["category"], settings=settings)
    list(run)
    concept = run.concept()
    scores = ti.score(
        model, judge, concept, run.start, pictures.images, prompts=PROMPTS, held_back=held_back.images, seeds=2
    )
    return {
        "thing": name,
        "init": facts["category"],
        "seconds": round(run.records[-1].seconds, 1),
        "norm": round(run.records[-1].norm, 2),
        **{f"subject_{k}": round(v, 3) for k, v in scores.subject_fidelity.items()},
        **{f"prompt_{k}": round(v, 3) for k, v in scores.prompt_fidelity.items()},
        "gap_closed": round(scores.gap_closed, 3),
        "prompt_kept": round(scores.prompt_fidelity["word"] / scores.prompt_fidelity["initializer"], 3),
    }


def table(rows: list[dict]) -> str:
    """Markdown: a line a thing, then mean and worst."""
    lines = [
        "| thing | from | subject: initializer | word | real | gap closed | prompt: initializer | word | kept | s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    keys = ("subject_initializer", "subject_word", "subject_real", "gap_closed", "prompt_initializer", "prompt_word")
    keys += ("prompt_kept", "seconds")
    for row in sorted(rows, key=lambda r: -r["gap_closed"]):
        lines.append(f"| {row['thing']} | {row['init']} | " + " | ".join(f"{row[k]:.3g}" for k in keys) + " |")
    for label, fold in (("mean", lambda v: sum(v) / len(v)), ("worst", min)):
        cells = [
            f"{(max if k == 'seconds' and label == 'worst' else fold)([r[k] for r in rows]):.3g}"
            if label == "mean" or k in ("gap_closed", "prompt_kept", "seconds")
            else ""
            for k in keys
        ]
        lines.append(f"| **{label}** | | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """All twenty, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=ti.example_names())
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/dev_split.md")
    parser.add_argument("--log", type=Path, default=ROOT / "outputs/dev_split.jsonl")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting, e.g. rate=0.02"
    )
    options = parser.parse_args()
    changes = {k: json.loads(v) for k, v in (pair.split("=", 1) for pair in options.set)}
    settings = ti.TrainSettings(**changes)
    options.log.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in options.log.read_text().splitlines()] if options.log.exists() else []
    model, judge = ti.load_model("tiny"), ti.load_judge("tiny")
    for name in tqdm([n for n in options.names if n not in {r["thing"] for r in rows}], desc="things"):
        rows.append(learn(model, judge, name, settings))
        with open(options.log, "a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    text = (
        "# Twenty things of the dev split, one seed\n\n"
        f"`make benchmark`; {settings}; {platform.machine()} CPU, threads: {torch.get_num_threads()}.\n\n"
        'Gap closed: (word - initializer) / (real - initializer) in subject fidelity, 16 samples of "a photo of a ...". '
        "Kept: the word's prompt fidelity over the initializer's, 5 prompts x 2 seeds. Worst `s` is the slowest.\n\n"
    )
    options.out.write_text(text + table(rows) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
