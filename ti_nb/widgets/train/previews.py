"""`Previews`: the pictures drawn during a run, with a slider through them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from PIL import Image

from ...host.atomic import replacing
from .. import parts

MAX_WIDTH, MAX_SIDE, GAP = 880, 192, 4  # px: of the strip, of one picture, between pictures


@dataclass(frozen=True)
class Preview:
    """The pictures drawn after some step, as one PNG, with their caption."""

    step: int
    png: bytes
    text: str


class Previews(widgets.VBox):
    """The previews of a run so far; each is also saved as a PNG in `folder`, from which a new kernel reads them.

    Args:
        grid: columns and rows of pictures, whose place is held until the first come; none for no rows.

    Attributes:
        kept: the previews, in order of steps.
    """

    def __init__(self, folder: Path | None, done: int, *, grid: tuple[int, int]) -> None:
        self.folder, self.kept = folder, _read(folder, done)
        self.slider = parts.control(
            widgets.SelectionSlider, "Previews, step", options=[("none yet", -1)], width="32em", disabled=True
        )
        self.slider.observe(self._on_slider, "value")
        self.newest = widgets.Checkbox(value=True, description="Show each new one", indent=False)
        self._strip, self._caption = parts.Shown(), parts.note("No previews yet.")
        columns, rows = grid
        if rows:
            self._strip.show(parts.as_png(Image.new("RGBA", size_of_strip(columns, rows), (128, 128, 128, 40))), "")
        if self.kept:
            self._offer(self.kept[-1].step)
        super().__init__([parts.row(self.slider, self.newest), self._strip, self._caption])

    def keep(self, step: int, images: Sequence[Image.Image], columns: int, text: str, *, on_disk: bool = True) -> None:
        """Add the pictures drawn after `step` steps, in rows of `columns`; they replace earlier ones of that step."""
        new = Preview(step, parts.as_png(strip(images, columns)), text)
        self.kept = sorted([*(p for p in self.kept if p.step != step), new], key=lambda p: p.step)
        if self.folder is not None and on_disk:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / f"step-{step:05d}.png") as temporary:
                temporary.write_bytes(new.png)
        self._offer(step if self.newest.value else self.slider.value)

    def _offer(self, step: int) -> None:
        steps = [p.step for p in self.kept]
        self.slider.disabled = False
        self.slider.options = [(str(s), s) for s in steps]
        self.slider.value = step if step in steps else steps[-1]
        self._on_slider({"new": self.slider.value})

    def _on_slider(self, change: Any) -> None:
        for preview in self.kept:
            if preview.step == change["new"]:
                self._strip.show(preview.png, f"Previews. {preview.text}")
                parts.say(self._caption, preview.text)


def strip(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Square pictures in rows of `columns` with gaps one sees through; small ones are enlarged with sharp pixels."""
    side = _side(columns)
    resampling = Image.Resampling.NEAREST if images[0].width < side else Image.Resampling.LANCZOS
    out = Image.new("RGBA", size_of_strip(columns, -(-len(images) // columns)), (0, 0, 0, 0))
    for i, image in enumerate(images):
        out.paste(image.resize((side, side), resampling), (i % columns * (side + GAP), i // columns * (side + GAP)))
    return out


def size_of_strip(columns: int, rows: int) -> tuple[int, int]:
    """Width and height in px of so many pictures."""
    return columns * (_side(columns) + GAP) - GAP, rows * (_side(columns) + GAP) - GAP


def _side(columns: int) -> int:
    return max(1, min(MAX_SIDE, MAX_WIDTH // columns - GAP))


def _read(folder: Path | None, done: int) -> list[Preview]:
    """The previews saved earlier, up to step `done`; unreadable files are skipped."""
    previews = []
    for path in sorted(folder.glob("step-*.png")) if folder is not None else ():
        match = re.fullmatch(r"step-(\d+)", path.stem)
        if match and int(match[1]) <= done:
            try:
                Image.open(path, formats=["PNG"]).verify()
                previews.append(
                    Preview(int(match[1]), path.read_bytes(), f"After step {int(match[1])}, drawn earlier.")
                )
            except (OSError, SyntaxError):
                continue
    return previews
