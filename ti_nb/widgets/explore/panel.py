"""`ExplorePanel`: try a word in prompts, and compare settings on the same seeds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets as widgets

from ...errors import InvalidValue
from ...host import frontend, turns
from ...host.arguments import checked
from ...results.sampling import Sample, sample, save_samples
from ...words.concept import Concept
from .. import parts
from .controls import Controls
from .grid import Drawing, Grid, Row

if TYPE_CHECKING:
    from ...models.model import Model

KEPT = 10  # earlier drawings


class ExplorePanel(parts.Panel):
    """A word in prompts: set what to draw, draw it, keep what you like.

    `draw()` does what the button Draw does, and returns the samples; set the controls' `value`s from a cell before it,
    as in `panel.prompt.value = "a {word} in the snow"`.

    Args:
        model: the one the concepts were learned on.
        concepts: one word or several; all of them are known in every prompt.
        toward: the initializer, which "Editability" turns to; by default made from the concept's facts.
        out: the folder "Save pictures" writes to.

    Raises:
        ValueError: no concept, two of one word, one of another model.
    """

    @checked()
    def __init__(
        self,
        model: Model,
        concepts: Concept | Sequence[Concept],
        *,
        toward: Concept | None = None,
        out: str | Path = "outputs/explore",
    ) -> None:
        ask = Controls(model, [concepts] if isinstance(concepts, Concept) else list(concepts), toward)
        self.concept, self.prompt, self.negative, self.seeds = ask.concept, ask.prompt, ask.negative, ask.seeds
        self.steps, self.guidance, self.strength, self.editability = (
            ask.steps,
            ask.guidance,
            ask.strength,
            ask.editability,
        )
        self.compare_by, self.values, self.controls = ask.compare_by, ask.values, ask
        self.model, self.out = model, Path(out)
        self.drawings: list[Drawing] = []
        self._stop = False
        self.draw_button = parts.button("Draw", self._draw_clicked, style="primary")
        self.stop_button = parts.button("Stop", self.stop)
        self.stop_button.disabled = True
        self.save_button = parts.button("Save pictures", self._save_clicked)
        self.progress = widgets.IntProgress(value=0, max=1, layout=widgets.Layout(width="14em"))
        self.progress.layout.display = "none"  # but while it draws
        self.status, self.message = parts.note(), parts.note()
        self.history = parts.control(widgets.Dropdown, "Earlier drawings", options=[("none yet", -1)], width="44em")
        self.history.layout.max_width = "98%"
        self.history.observe(lambda _: self._show_earlier(), "value")
        self.grid = Grid(side=160 if model.resolution <= 128 else 256)
        buttons = parts.row(self.draw_button, self.stop_button, self.save_button, self.progress, self.status)
        title = parts.heading(f"Explore {', '.join(ask.concepts)}")
        super().__init__([title, ask, buttons, self.message, self.history, self.grid])

    def draw(self) -> list[Sample]:
        """Draw what the controls say, show it, and return it row by row; an interrupt keeps what is drawn.

        Raises:
            ValueError: controls that say nothing that can be drawn. RuntimeError: something is being drawn or trained already.
        """
        with frontend.clicks() as let_through:
            drawing = self._begin()
            with closing(self._batches(drawing)) as batches:
                for _ in batches:
                    let_through()
        return drawing.samples

    def stop(self) -> None:
        """Stop drawing after the pictures that are being drawn."""
        self._stop = True

    def save(self) -> list[Path]:
        """Write the pictures that are shown, each with its settings, into `out`; returns their paths.

        Raises:
            ValueError: nothing is shown. OSError: they can't be written.
        """
        if self.grid.drawing is None or not self.grid.drawing.samples:
            raise InvalidValue("nothing is drawn yet: press Draw first")
        return save_samples(self.grid.drawing.samples, self.out)

    def _begin(self) -> Drawing:
        """A drawing whose grid is shown empty; the lock is held until `_batches` ends."""
        turns.claim("drawing in a panel")
        try:
            drawing = self.controls.plan()
            self._stop = False
            self.grid.show(drawing)
            parts.say(self.message, "")
            parts.say(self.status, f"0 of {len(drawing)} pictures.")
            self.progress.max, self.progress.value = len(drawing), 0
            self._say_drawing(True)
        except BaseException:
            turns.release()
            raise
        return drawing

    def _batches(self, drawing: Drawing) -> Generator[None, None, None]:
        """Draw a few pictures at a time, showing each batch, with a turn between two; releases the lock.

        There is no turn after the last: a click in it would meet a drawing that looks done and still holds the lock.
        """
        began, size = time.monotonic(), 4 if self.model.resolution <= 128 else 1
        jobs = [
            (row, drawing.seeds[at : at + size]) for row in drawing.rows for at in range(0, len(drawing.seeds), size)
        ]
        try:
            for number, (row, seeds) in enumerate(jobs):
                if number:
                    yield
                if self._stop:
                    break
                self._add(drawing, self._draw_some(row, seeds, drawing.negative), began)
        except KeyboardInterrupt:
            pass
        finally:
            turns.release()
            done, seconds = len(drawing.samples), time.monotonic() - began
            how = "Drawn" if done == len(drawing) else "Stopped"
            if drawing.samples:
                self._remember(drawing)
            self._say_drawing(False)
            parts.say(self.status, f"{how}: {done} of {len(drawing)} pictures in {seconds:.1f} s.")

    def _say_drawing(self, drawing: bool) -> None:
        """The buttons and the bar of a panel that draws, or does not."""
        self.draw_button.disabled, self.stop_button.disabled = drawing, not drawing
        self.progress.layout.display = None if drawing else "none"

    def _draw_some(self, row: Row, seeds: list[int], negative: str) -> list[Sample]:
        return sample(
            self.model,
            row.prompt,
            row.concepts,
            seeds=seeds,
            steps=row.steps,
            guidance=row.guidance,
            negative=negative,
            progress=False,
        )

    def _add(self, drawing: Drawing, drawn: Sequence[Sample], began: float) -> None:
        drawing.samples += drawn
        if drawing is self.grid.drawing:  # not while an earlier one is looked at
            self.grid.refresh()
        done, seconds = len(drawing.samples), time.monotonic() - began
        self.progress.value = done
        left = seconds / done * (len(drawing) - done)
        parts.say(self.status, f"{done} of {len(drawing)} pictures, {seconds:.0f} s; about {left:.0f} s left.")

    def _draw_clicked(self) -> None:
        """Draw here; in a kernel that is idle, in turns with its other messages, so that Stop is heard.

        Not in Colab, where what happens after the click's own turn may not be shown (colabtools #3373).
        A second click that comes before the page knows of the first, as of a double click, is none.
        """
        if self.draw_button.disabled:
            return None
        try:
            drawing = self._begin()
        except (ValueError, RuntimeError) as error:
            return parts.say(self.message, str(error), "error")
        loop = _idle_loop()
        if loop is None:
            return self._draw_or_say(drawing)
        self._task = loop.create_task(self._draw_in_turns(drawing))  # kept, or it may be collected
        return None

    def _draw_or_say(self, drawing: Drawing) -> None:
        try:
            for _ in self._batches(drawing):
                pass
        except Exception as error:  # whatever it is, the panel says it
            parts.say(self.message, _in_words(error), "error")

    async def _draw_in_turns(self, drawing: Drawing) -> None:
        try:
            with closing(self._batches(drawing)) as batches:
                for _ in batches:
                    await asyncio.sleep(0.02)
        except Exception as error:
            parts.say(self.message, _in_words(error), "error")

    def _save_clicked(self) -> None:
        try:
            paths = self.save()
        except (ValueError, OSError) as error:
            return parts.say(self.message, _in_words(error), "error")
        text = f"Saved {len(paths)} pictures with their settings in {self.out}: {paths[0].name}"
        return parts.say(self.message, text + (f" to {paths[-1].name}." if len(paths) > 1 else "."), "good")

    def _remember(self, drawing: Drawing) -> None:
        drawing.title = f"{time.strftime('%H:%M:%S')} {drawing.title}"
        self.drawings = [drawing, *self.drawings][:KEPT]
        self.history.options = [(one.title, number) for number, one in enumerate(self.drawings)]
        self.history.value = 0

    def _show_earlier(self) -> None:
        number = self.history.value
        if number is not None and 0 <= number < len(self.drawings) and self.drawings[number] is not self.grid.drawing:
            self.grid.show(self.drawings[number])


def _idle_loop() -> asyncio.AbstractEventLoop | None:
    """The loop of a kernel that runs no cell, where work in turns with clicks is shown; else None."""
    if frontend.frontend() == "terminal" or frontend.prefers_foreground() or frontend.in_cell():
        return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__
