"""Masks that `guess_mask` makes of photographs, compared with outlines drawn by hand.

`python -m benchmarks.masks PHOTOS` prints a line for each photograph, and writes `masks.md`. PHOTOS holds ten subjects of the
DreamBooth dataset (Ruiz et al., CVPR 2023; https://github.com/google/dreambooth, CC BY 4.0) as SUBJECT/00.jpg and so on, 768
px wide; they are not kept here. `outlines.json` was drawn once by hand over a grid: for each photograph a polygon of (across,
down) in per cent, with thin parts such as an aerial, and with what is seen between fringes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ti_nb.pictures.masks import guess_with_doubt
from ti_nb.pictures.subject import guess_crop, mask_by_threshold

HERE = Path(__file__).parent
ENOUGH = 0.75  # intersection over union, from which a mask counts as right


def agreement(mask: Image.Image, outline: list[list[float]]) -> float:
    """Intersection over union of a mask and a polygon in per cent."""
    by_hand = Image.new("L", mask.size, 0)
    ImageDraw.Draw(by_hand).polygon([(x * mask.width / 100, y * mask.height / 100) for x, y in outline], fill=255)
    a, b = np.asarray(mask) > 127, np.asarray(by_hand) > 127
    return float((a & b).sum() / (a | b).sum())


def measure(photos: Path) -> dict[str, tuple[float, float, str]]:
    """For each photograph the agreement of GrabCut's mask and of the threshold's, and what the panel doubts of the first."""
    results = {}
    for name, outline in json.loads((HERE / "outlines.json").read_text()).items():
        photo = Image.open(photos / f"{name}.jpg").convert("RGB")
        mask, doubt = guess_with_doubt(photo, guess_crop(photo))
        results[name] = (agreement(mask, outline), agreement(mask_by_threshold(photo), outline), doubt)
        print(f"{name:24} {results[name][0]:.2f}  by threshold {results[name][1]:.2f}  {doubt}", flush=True)
    return results


def report(results: dict[str, tuple[float, float, str]]) -> str:
    """The page: how many agree, which do not, and which were doubted."""
    guessed, threshold = ([values[i] for values in results.values()] for i in (0, 1))
    right = [value >= ENOUGH for value in guessed]
    doubted = [bool(doubt) for _, _, doubt in results.values()]
    wrong = [f"| {name} | {v:.2f} | {doubt or '-'} |" for name, (v, _, doubt) in results.items() if v < ENOUGH]
    lines = [
        "# Masks of photographs",
        "",
        f"{len(results)} photographs of ten things, crops guessed, intersection over union with outlines drawn by hand",
        f"(`benchmarks/masks.py`). Right means at least {ENOUGH}. `guess_mask`'s settings were chosen on these photographs.",
        "",
        "| | right | mean |",
        "| --- | --- | --- |",
        f"| `guess_mask` (GrabCut) | {sum(right)} of {len(right)} | {np.mean(guessed):.2f} |",
        f"| `mask_by_threshold` | {sum(v >= ENOUGH for v in threshold)} of {len(right)} | {np.mean(threshold):.2f} |",
        "",
        f"The panel doubts {sum(d and not r for d, r in zip(doubted, right))} of the {len(wrong)} that are wrong, and",
        f"{sum(d and r for d, r in zip(doubted, right))} of the {sum(right)} that are right.",
        "",
        "| wrong | agreement | what the panel says |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*lines, *wrong, ""])


def main() -> None:
    """Measure, where the photographs are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="the folder with the subjects' folders")
    photos = parser.parse_args().photos
    missing = [
        name for name in json.loads((HERE / "outlines.json").read_text()) if not (photos / f"{name}.jpg").exists()
    ]
    if missing:
        raise SystemExit(
            f"{photos} lacks {len(missing)} of the photographs, such as {missing[0]}.jpg: see the top of this file"
        )
    (HERE / "masks.md").write_text(report(measure(photos)))


if __name__ == "__main__":
    main()
