"""`Grid`: rows of pictures on the same seeds, with their settings; placeholders are shown until they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from PIL import Image

from .. import parts
from ..parts import enlarged

if TYPE_CHECKING:
    from ...results.drawing.samples import Sample
    from ...words.concept import Concept

SEPARATOR = " · "
PLACEHOLDER = Image.new("RGBA", (1, 1), (128, 128, 128, 48))  # faint on white and on black


@dataclass(frozen=True)
class Row:
    """One row of a drawing: its label, and what it is drawn with; `settings` are further arguments of `sample`.

    Attributes:
        taken: from where in the run its word is; "" for the end.
    """

    label: str
    prompt: str
    concepts: tuple[Concept, ...]
    settings: dict[str, Any]
    taken: str = ""


@dataclass
class Drawing:
    """Rows of pictures, all on the same seeds; `samples`: those drawn so far, row by row."""

    title: str
    rows: list[Row]
    seeds: list[int]
    negative: str
    samples: list[Sample] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows) * len(self.seeds)


class Grid(widgets.VBox):  # type: ignore[misc]
    """Shows one `Drawing`, its pictures `side` px wide: their common settings above, the differing ones below each."""

    def __init__(self, *, side: int) -> None:
        self.side = side
        self.drawing: Drawing | None = None
        self.shared = parts.note()
        self._pictures: list[widgets.Image] = []
        self._body = parts.column()
        super().__init__([self.shared, self._body])

    def show(self, drawing: Drawing) -> None:
        """Show the pictures drawn so far, and placeholders for the rest."""
        self.drawing, self._filled = drawing, 0
        shared = shared_facts(drawing)
        jobs = [(row, seed) for row in drawing.rows for seed in drawing.seeds]
        cells = [self._cell(drawing, row, seed, shared) for row, seed in jobs]
        self._pictures = [cell.children[0] for cell in cells]
        self.refresh()
        parts.say(self.shared, SEPARATOR.join(shared))
        rows = self._one_row(cells) if len(drawing.rows) == 1 else self._table(drawing, cells)
        parts.refill(self._body, rows)

    def refresh(self) -> None:
        """Fill in the pictures drawn since the last call."""
        assert self.drawing is not None
        for sample, image in zip(self.drawing.samples[self._filled :], self._pictures[self._filled :]):
            image.value = parts.as_png(enlarged(sample.image))
        self._filled = len(self.drawing.samples)

    def _cell(self, drawing: Drawing, row: Row, seed: int, shared: Sequence[str]) -> widgets.VBox:
        every = facts(row, drawing.negative)
        own = [fact for fact in every if fact not in shared]
        if row.label and not any(row.label in fact for fact in own):
            own = [row.label, *own]
        last = f"seed {seed}"
        label = SEPARATOR.join([*every, last])
        return parts.captioned(PLACEHOLDER, SEPARATOR.join([*own, last]), width=self.side, label=label)

    def _one_row(self, cells: Sequence[widgets.Widget]) -> widgets.Widget:
        layout = dict(flex_flow="row wrap", align_items="flex-start", grid_gap="6px")
        return widgets.HBox(list(cells), layout=widgets.Layout(**layout))

    def _table(self, drawing: Drawing, cells: Sequence[widgets.Widget]) -> widgets.Widget:
        columns = len(drawing.seeds)
        table: list[widgets.Widget] = [parts.heading(""), *(parts.heading(f"seed {s}") for s in drawing.seeds)]
        for y, row in enumerate(drawing.rows):
            table += [parts.heading(row.label), *cells[y * columns : (y + 1) * columns]]
        widths = f"fit-content(9em) repeat({columns}, {self.side + 4}px)"
        return widgets.GridBox(
            table, layout=widgets.Layout(grid_template_columns=widths, grid_gap="6px", overflow="auto")
        )


def facts(row: Row, negative: str) -> list[str]:
    """The settings of a row's pictures but for the seed, as text: prompt, steps, guidance, edits of the word."""
    prefix = "{}: " if len(row.concepts) > 1 else ""
    edits = [prefix.format(c.word) + str(c.facts["edits"]) for c in row.concepts if c.facts.get("edits")]
    negatives = [f"not: {negative}"] if negative else []
    settings = [f"{name} {value:g}" for name, value in row.settings.items()]
    return [row.prompt, *negatives, *settings, *([row.taken] if row.taken else []), *edits]


def shared_facts(drawing: Drawing) -> list[str]:
    """The facts that all rows have in common."""
    first, *others = (facts(row, drawing.negative) for row in drawing.rows)
    return [fact for fact in first if all(fact in other for other in others)]
