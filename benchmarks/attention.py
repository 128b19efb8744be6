"""Does a word's attention land on its thing? Scenes are composed, so that it is known where the thing is.

`python -m benchmarks.attention` learns each thing of the dev split, cuts it out of a picture whose background is plain, pastes it
into another place, and compares the word's attention inside the pasted mask with that outside. It resumes from
`attention.jsonl` beside this file and writes `attention.md`. Things named on the command line are the only ones measured.
"""

from __future__ import annotations

import argparse
import random
import statistics
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

import ti_nb as ti

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/attention.jsonl"
LEAST = 2.0  # times more inside than outside
TOLERANCE = 40  # of the colour that is cut away
PLACES = ("beach", "snow", "forest", "night", "city", "meadow", "underwater", "desert")


def cut_out(pictures: ti.ConceptImages) -> tuple[Image.Image, Image.Image]:
    """The picture of the plainest background, and the mask of its thing."""
    plainest = min(pictures.images, key=lambda image: _edge(image).std(0).sum())
    return plainest, ti.mask_by_threshold(plainest, TOLERANCE)


def _edge(image: Image.Image) -> np.ndarray:
    """The colours (n, 3) of a picture's outermost pixels."""
    pixels = np.asarray(image.convert("RGB"), float)
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def compose(
    thing: Image.Image, mask: Image.Image, place: Image.Image, rng: random.Random
) -> tuple[Image.Image, Image.Image]:
    """The thing somewhere in the place, at 55 to 75 % of its size, and where it is."""
    side = round(place.width * rng.uniform(0.55, 0.75))
    at = tuple(rng.randrange(place.width - side + 1) for _ in range(2))
    small, cut = (one.resize((side, side), Image.Resampling.LANCZOS) for one in (thing, mask.convert("L")))
    scene, where = place.copy(), Image.new("L", place.size, 0)
    scene.paste(small, at, cut)
    where.paste(cut, at)
    return scene, where


def focus(model: ti.Model, word: ti.Concept, scenes: list, prompt: str, noise: float) -> dict[str, float]:
    """How many times more each token is attended to inside the masks of `scenes`, (picture, mask) each, than outside."""
    images, masks = zip(*scenes)
    pictures = ti.ConceptImages(tuple(images), tuple(str(n) for n in range(len(images))))
    found = ti.attention(model, pictures, prompt, word, noise=noise)
    ratios = found.focus(masks)
    own = [ratio for token, ratio in ratios.items() if token.split(" ")[0] == word.word]
    return {"word": statistics.mean(own), **{t: r for t, r in ratios.items() if t.split(" ")[0] != word.word}}


def measure(model: ti.Model, name: str, init: str, pictures: ti.ConceptImages, steps: int, noise: float) -> dict:
    """Learn one thing, and look where its word is attended to in a scene of each place, all on one page of the table."""
    from tools.tiny_model.drawings import draw_background

    rng = random.Random(name)
    run = ti.train(model, pictures, word="<new>", init=init, steps=steps, watch=0)
    for _ in tqdm(run, desc=name):
        pass
    thing, mask = cut_out(pictures)
    place = rng.choice(PLACES)
    scene = compose(thing, mask, draw_background(place, rng, model.resolution).convert("RGB"), rng)
    return {"thing": name, "place": place, **focus(model, run.concept(), [scene], "a photo of a {word}", noise)}


def report(rows: list[dict]) -> str:
    """The table, and the verdict below it."""
    lines = ["| thing | place | the word, inside to outside |", "| --- | --- | --- |"]
    lines += [f"| {r['thing']} | {r['place']} | {r['word']:.2f} |" for r in rows]
    ratios = [r["word"] for r in rows]
    enough = sum(ratio >= LEAST for ratio in ratios)
    verdict = (
        f"Mean {statistics.mean(ratios):.2f}, least {min(ratios):.2f}; at least {LEAST:g} in {enough} of {len(rows)}."
    )
    return "\n".join([*lines, "", verdict])


def main() -> None:
    """Measure what is missing, and write the table."""
    from .quality import collected

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("things", nargs="*")
    parser.add_argument("--steps", type=int, default=ti.FAST.steps)
    parser.add_argument("--noise", type=float, default=0.5)
    options = parser.parse_args()
    model, settings = ti.load_model("tiny"), {"steps": options.steps, "noise": options.noise}

    def one(name: str, thing: tuple) -> dict:
        return measure(model, name, thing[0], thing[1], options.steps, options.noise)

    text = report(collected(RESULTS, settings, options.things, one))
    print(text)
    RESULTS.with_suffix(".md").write_text(
        f"# Where a word is attended to\n\n`python -m benchmarks.attention`.\n\n{text}\n"
    )


if __name__ == "__main__":
    main()
