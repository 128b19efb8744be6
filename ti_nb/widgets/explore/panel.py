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
from ...results.drawing.samples import Sample, save_samples
from ...results.drawing.sampling import sample
from ...training.records import SavedRun
from ...training.run import Run
from ...words.concept import Concept
from .. import parts
from .controls import Controls
from .grid import Drawing, Grid, Row

if TYPE_CHECKING:
    from ...models.model import Model

MAX_EARLIER = 10  # drawings kept to look at again


class ExplorePanel(parts.Panel):
    """A word in prompts: set what to draw, draw it, keep what you like.

    `draw()` does what the button Draw does, and returns the samples. Controls can be set from a cell, as in
    `panel.prompt.value = "a {word} in the snow"`.

    Args:
        model: the one the concepts were learned on.
        concepts: one word or several; all of them are known in every prompt. Or a run: "After step" then says which of its
            steps the word is taken from.
        toward: the initializer, towards which "Editability" turns the word; by default made from the concept's facts.
        out: the folder "Save pictures" writes to.

    Raises:
        ValueError: no concept, two with the same word, one of another model.

    Attributes:
        concept, prompt, negative, seeds, steps, guidance, strength, editability, match_length, class_word, after_step,
            compare_by, values: the controls. live: whether each change of them draws anew, on the same seeds.
        drawings: the latest drawings, newest first.
    """

    @checked()
    def __init__(
        self,
        model: Model,
        concepts: Concept | Run | SavedRun | Sequence[Concept],
        *,
        toward: Concept | None = None,
        out: str | Path = "outputs/explore",
    ) -> None:
        run = concepts if isinstance(concepts, Run | SavedRun) else None
        if run is not None:
            if not run.records:
                raise InvalidValue("the run has no steps yet: train first")
            toward = toward or getattr(run, "start", None)
            concepts = run.concept()
        self.controls = Controls(model, [concepts] if isinstance(concepts, Concept) else list(concepts), toward, run)  # type: ignore[arg-type]
        for name, control in self.controls.public().items():
            setattr(self, name, control)
        self.model, self.out = model, Path(out)
        self.drawings: list[Drawing] = []
        self._stop = self._again = False
        self.draw_button = parts.button("Draw", self._draw_clicked, style="primary")
        self.stop_button = parts.button("Stop", self.stop)
        self.stop_button.disabled = True
        self.save_button = parts.button("Save pictures", self._save_clicked)
        self.live = parts.tick("Draw whenever I change something")
        for control in self.controls.public().values():
            control.observe(lambda _: self._changed(), "value")
        self.progress = widgets.IntProgress(value=0, max=1, layout=widgets.Layout(width="14em"))
        self.progress.layout.display = "none"  # shown only while it draws
        self.status, self.message = parts.note(), parts.note()
        self.history = parts.control(widgets.Dropdown, "Earlier drawings", options=[("none yet", -1)], width="44em")
        self.history.layout.max_width = "98%"
        self.history.observe(lambda _: self._show_earlier(), "value")
        self.grid = Grid(side=160 if model.resolution <= 128 else 256)
        buttons = parts.row(self.draw_button, self.stop_button, self.save_button, self.live, self.progress, self.status)
        title = parts.heading(f"Explore {', '.join(self.controls.concepts)}")
        super().__init__([title, self.controls, buttons, self.message, self.history, self.grid])

    def draw(self) -> list[Sample]:
        """Draw what the controls describe, show it, and return it row by row; an interrupt keeps what is drawn so far.

        Raises:
            ValueError: the controls describe nothing that can be drawn. RuntimeError: something is already being drawn or trained.
        """
        with frontend.clicks() as let_through:
            drawing = self._begin()
            with closing(self._batches(drawing)) as batches:
                for _ in batches:
                    let_through()
        return drawing.samples

    def word(self) -> Concept:
        """The chosen word as the controls have it, edits and step included, to be saved or shared.

        Raises:
            ValueError: it can't be turned so.
        """
        return self.controls.edited()

    def stop(self) -> None:
        """Stop after the batch being drawn."""
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
        """A new drawing, shown with placeholders; takes the lock, which `_batches` releases."""
        turns.claim("drawing in a panel")
        try:
            drawing = self.controls.plan()
            self._stop = False
            self.grid.show(drawing)
            parts.say(self.message, "")
            parts.say(self.status, f"0 of {len(drawing)} pictures.")
            self.progress.max, self.progress.value = len(drawing), 0
            self._show_drawing(True)
        except BaseException:
            turns.release()
            raise
        return drawing

    def _batches(self, drawing: Drawing) -> Generator[None, None, None]:
        """Draw and show one batch after the other, yielding between them; releases the lock at the end.

        It does not yield after the last batch: a click would find a drawing that looks done but still holds the lock.
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
                self._add(drawing, self._draw_batch(row, seeds, drawing.negative), began)
        except KeyboardInterrupt:
            pass
        finally:
            turns.release()
            done, seconds = len(drawing.samples), time.monotonic() - began
            outcome = "Drawn" if done == len(drawing) else "Stopped"
            if drawing.samples:
                self._remember(drawing)
            self._show_drawing(False)
            parts.say(self.status, f"{outcome}: {done} of {len(drawing)} pictures in {seconds:.1f} s.")

    def _show_drawing(self, drawing: bool) -> None:
        """Set buttons and progress bar for a panel that is drawing, or is not."""
        self.draw_button.disabled, self.stop_button.disabled = drawing, not drawing
        self.progress.layout.display = None if drawing else "none"

    def _draw_batch(self, row: Row, seeds: list[int], negative: str) -> list[Sample]:
        return sample(
            self.model, row.prompt, row.concepts, seeds=seeds, negative=negative, progress=False, **row.settings
        )

    def _add(self, drawing: Drawing, drawn: Sequence[Sample], began: float) -> None:
        drawing.samples += drawn
        if drawing is self.grid.drawing:  # not while the user looks at an earlier one
            self.grid.refresh()
        done, seconds = len(drawing.samples), time.monotonic() - began
        self.progress.value = done
        left = seconds / done * (len(drawing) - done)
        parts.say(self.status, f"{done} of {len(drawing)} pictures, {seconds:.0f} s; about {left:.0f} s left.")

    def _draw_clicked(self) -> None:
        """Draw; in an idle kernel as a task on its event loop, so that a click on Stop gets through.

        Not on Colab, which may not show what happens after the click's callback (colabtools #3373).
        """
        if self.draw_button.disabled:  # the second click of a double click
            return None
        try:
            drawing = self._begin()
        except (ValueError, RuntimeError) as error:
            return parts.say(self.message, str(error), "error")
        loop = _idle_loop()
        if loop is None:
            return self._draw_all(drawing)
        self._task = loop.create_task(self._draw_in_task(drawing))  # a task without a reference may be collected
        return None

    def _changed(self) -> None:
        """Draw what the controls now describe, if that was asked for; a drawing at work is stopped for it."""
        if not self.live.value:
            return
        if self.draw_button.disabled:
            self._again = True
            return self.stop()
        self._draw_clicked()

    def _once_more(self) -> None:
        if self._again:
            self._again = False
            self._draw_clicked()

    def _draw_all(self, drawing: Drawing) -> None:
        try:
            for _ in self._batches(drawing):
                pass
        except Exception as error:  # a traceback would not be shown: the panel shows the error
            return parts.say(self.message, _message(error), "error")
        self._once_more()

    async def _draw_in_task(self, drawing: Drawing) -> None:
        try:
            with closing(self._batches(drawing)) as batches:
                for _ in batches:
                    await asyncio.sleep(0.02)  # s, in which the kernel handles clicks
        except Exception as error:
            return parts.say(self.message, _message(error), "error")
        self._once_more()

    def _save_clicked(self) -> None:
        try:
            paths = self.save()
        except (ValueError, OSError) as error:
            return parts.say(self.message, _message(error), "error")
        text = f"Saved {len(paths)} pictures with their settings in {self.out}: {paths[0].name}"
        return parts.say(self.message, text + (f" to {paths[-1].name}." if len(paths) > 1 else "."), "good")

    def _remember(self, drawing: Drawing) -> None:
        drawing.title = f"{time.strftime('%H:%M:%S')} {drawing.title}"
        self.drawings = [drawing, *self.drawings][:MAX_EARLIER]
        self.history.options = [(drawing.title, number) for number, drawing in enumerate(self.drawings)]
        self.history.value = 0

    def _show_earlier(self) -> None:
        number = self.history.value
        if number is not None and 0 <= number < len(self.drawings) and self.drawings[number] is not self.grid.drawing:
            self.grid.show(self.drawings[number])


def _idle_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of an idle kernel whose front end shows what a task does; else None."""
    if frontend.frontend() == "terminal" or frontend.prefers_foreground() or frontend.in_cell():
        return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__
