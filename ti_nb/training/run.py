"""Textual inversion: a `Run` is an iterator that does one optimiser step at a time and returns its `StepRecord`.

The loss is the model's own denoising loss; only the word's vectors are parameters (Gal et al. 2022, section 4).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ..errors import InvalidValue, NotFinite
from ..host import turns
from ..host.arguments import validated
from ..host.interrupts import interrupts_deferred
from ..models.model import Vectors
from ..words import prompts
from ..words.concept import Concept, initial_concept
from .batches import Batch, Draws
from .checkpoints import RunFolder
from .losses import Watch, plan_memory
from .optimiser import Learner, gradients
from .records import StepRecord, damaged
from .settings import TrainSettings

if TYPE_CHECKING:
    from ..models.model import Model
    from ..pictures.concept_images import ConceptImages
    from ..widgets.train.panel import TrainPanel

MAX_BAD_STEPS = 8  # consecutive steps that were not finite, after which the run gives up
RATE_NOTE = "rate times "


class Chosen(Protocol):
    """What says which step is best."""

    @property
    def step(self) -> int:
        """Counted from 1."""


class Run:
    """One word being learned: an iterator of `StepRecord`; stop iterating to pause, go on to resume.

    Attributes:
        start: the word before training. settings: how it is trained. records: of the steps done.
        history: the word's vectors after each step, each encoder's (steps, n, width).
        plan: how a step is computed. folder: where the run is kept, if anywhere.
    """

    def __init__(
        self,
        model: Model,
        images: ConceptImages,
        start: Concept,
        settings: TrainSettings,
        *,
        folder: RunFolder | None = None,
    ) -> None:
        self.model, self.settings, self.start, self.folder = model, settings, start, folder
        saved = folder.open(settings, start, images) if folder is not None else None
        self.records: list[StepRecord] = saved[1] if saved else []
        try:
            if folder is not None and not self.finished:
                folder.claim()  # before any work, so that an unwritable folder costs none
            self._prepare(images)
            if folder is not None and saved:
                self._resume(folder, saved[0], saved[2])
        except BaseException:
            if folder is not None:
                folder.release()  # a kept traceback would keep it claimed
            raise

    def _prepare(self, images: ConceptImages) -> None:
        model, settings, start = self.model, self.settings, self.start
        self._negative = None
        if settings.negative:
            word = prompts.negative_word(start.word)
            self._negative = initial_concept(model, word, None, settings.negative, seed=settings.seed)
        first: Vectors = {e.key: start.vectors[e.key] for e in model.encoders}
        if self._negative:
            first = {key: torch.cat([rows, self._negative.vectors[key]]) for key, rows in first.items()}
        words = {c.word: len(c) for c in (start, self._negative) if c}
        self._draws = Draws(model, images, settings, words, settings.seed)
        self._first, self._learner = first, Learner(model, first, settings)
        self.plan = plan_memory(model, settings)
        self.history: dict[str, list[torch.Tensor]] = {key: [] for key in first}
        self._watch: Watch | None = None
        self._panel: TrainPanel | None = None
        self._options: dict[str, Any] = {}
        # Steps, state and notes before the step being done.
        self._before: tuple[int, dict[str, Any], list[str]] | None = None

    def __iter__(self) -> Iterator[StepRecord]:
        return self

    def __len__(self) -> int:
        return self.settings.steps

    def __next__(self) -> StepRecord:
        if self.finished:
            self.save_rest()
            raise StopIteration
        return advance([self])[0]

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the gain went flat and `stop` is "flat"."""
        return len(self.records) >= self.settings.steps or self._is_flat()

    def concept(self, step: int | None = None) -> Concept:
        """The word as learned so far, or as it was after `step` steps (0: the start).

        Raises:
            ValueError: a step that was not done.
        """
        done, step = len(self.records), validated("step", step, int | None)
        if step is not None and not 0 <= step <= done:
            raise InvalidValue(f"step is {step}: {done} steps have been done")
        step = done if step is None else step
        after = self._after(step)
        rows = {key: after[key][: len(self.start)].clone() for key in self.start.vectors}
        facts = {**self.start.facts, "steps": step, "seed": self.settings.seed, "base": self.model.shared_name}
        return Concept(self.start.word, rows, facts)

    def best(self, scores: Chosen | None = None) -> Concept:
        """The word after the step that `scores` (of `score_steps`) chose; without, where the gain was largest, or as it is now."""
        if scores is not None:
            return self.concept(validated("scores.step", getattr(scores, "step", scores), int))
        gains = [(r.gain, r.step) for r in self.records if r.gain is not None]
        return self.concept(max(gains)[1]) if gains else self.concept()

    def negative(self) -> Concept:
        """The word for negative prompts.

        Raises:
            ValueError: the run learns none.
        """
        if self._negative is None:
            raise InvalidValue("this run learns no negative word: train with negative=1 or more")
        rows = {key: v[len(self.start) :].clone() for key, v in self._after(len(self.records)).items()}
        return Concept(self._negative.word, rows, {**self.start.facts, "steps": len(self.records)})

    def _after(self, step: int) -> Vectors:
        """All learned vectors after that step: from the history, as another thread may be in the middle of a step."""
        return self._first if step == 0 else {key: rows[step - 1] for key, rows in self.history.items()}

    @property
    def rate_factor(self) -> float:
        """What the settings' learning rate is multiplied by from the next step on; 1 unless set. Kept with the run."""
        return self._learner.factor

    @rate_factor.setter
    def rate_factor(self, factor: float) -> None:
        factor = validated("rate_factor", factor, float)
        if not 0 < factor <= 100:
            raise InvalidValue(f"rate_factor is {factor}: give a number above 0, such as 0.5")
        if factor != self._learner.factor:
            self._learner.factor = float(factor)
            self._learner.note(f"{RATE_NOTE}{factor:g} from here on", instead_of=RATE_NOTE)

    def panel(self, **options: Any) -> TrainPanel:
        """The panel that shows and controls this run; the same one until called with other `options` (those of `TrainPanel`).

        Raises:
            ValueError: other options while it trains.
        """
        if self._panel is None or (options and options != self._options):
            from ..widgets.train.panel import TrainPanel

            if self._panel is not None and self._panel.state == "running":
                raise InvalidValue("this run is being trained in its panel: pause it to open one with other options")
            self._panel, self._options = TrainPanel(self, **options), options
        return self._panel

    def save(self) -> None:
        """Write the run's state to its folder, if it has one.

        Raises:
            ValueError: another run wrote there meanwhile.
        """
        if self.folder is None:
            return
        with turns.turn:
            self.folder.save(self.state(), self.records, self.history, self.concept())
            if self.finished:
                self.folder.release()

    def save_rest(self) -> None:
        """Save the steps that are not saved yet, as after a save that failed."""
        if self.folder is not None and self.folder.saved < len(self.records):
            self.save()

    def state(self) -> dict[str, Any]:
        """All that the next step depends on: small tensors and numbers."""
        with turns.turn:
            self._put_back()
            return {**self._learner.state(), "generator": self._draws.generator.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Set what `state` returned."""
        self._learner.restore(state)
        self._draws.generator.set_state(state["generator"])

    def _resume(self, folder: RunFolder, state: dict[str, Any], history: dict[str, list[torch.Tensor]]) -> None:
        try:
            self.restore(state)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InvalidValue(damaged(folder.path, error)) from error
        self.history = history
        folder.mend_word(self.concept())
        if self.finished:
            folder.release()

    # What `advance` calls, in this order.
    def claim(self) -> None:
        """Claim its folder, if any, for this thread.

        Raises:
            ValueError: it is another run's by now.
        """
        if self.folder is not None:
            self.folder.use()

    def _begin(self) -> Batch:
        self._before = len(self.records), self.state(), [*self._learner.notes]
        if self._watch is None and self.settings.watch:
            self._watch = Watch(self.model, self._draws, self.start, self._negative, self.settings, self.plan)
        self._draws.step = len(self.records)
        return self._draws.draw()

    def _end(self, loss: float, began: float) -> StepRecord:
        step, before = len(self.records) + 1, self.records[-1].seconds if self.records else 0.0
        rate = self._learner.rate(step - 1)
        note = self._learner.step(step - 1, loss)
        if self._learner.bad > MAX_BAD_STEPS:
            raise NotFinite(
                f"{self._learner.bad} steps in a row were not finite (step {step}, rate {rate:g}): lower the rate, or load the "
                "model with dtype=torch.float32"
            )
        vectors = self._learner.vectors()
        for key, rows in vectors.items():
            self.history[key].append(rows)
        record = StepRecord.of(step, self.settings.steps, loss, rate, before, note, self.start, vectors)
        if self._watch is not None and (step % self.settings.watch == 0 or step == self.settings.steps):
            self._watch.plan = self.plan
            record = self._watch.measure(record, vectors)
        record = replace(record, seconds=before + time.monotonic() - began)
        self.records.append(record)
        if self.folder is not None and (self.finished or self.folder.is_due(step)):
            self.save()
        return record

    def _put_back(self) -> None:
        """Undo a step that was interrupted. If this is interrupted too, the next call that needs the state does it again."""
        if self._before is not None:
            done, state, notes = self._before
            if len(self.records) == done:
                self.restore(state)
                self._learner.notes[:] = notes
                for rows in self.history.values():
                    del rows[done:]
            self._before = None

    def _is_flat(self) -> bool:
        return self.settings.stop == "flat" and Watch.is_flat([r.gain for r in self.records if r.gain is not None])


def advance(runs: Sequence[Run]) -> list[StepRecord]:
    """One step of each run, all or nothing: after an error or an interrupt each is as it was before the step, and saved."""
    with turns.turn:
        for run in runs:
            run.claim()
        try:
            began = time.monotonic()
            batches, learners, first = [run._begin() for run in runs], [run._learner for run in runs], runs[0]
            losses, plan = gradients(first.model, first.plan, learners, batches)
            for run in runs:
                run.plan = plan
            return [run._end(loss, began) for run, loss in zip(runs, losses)]
        except BaseException:
            with interrupts_deferred():
                _save_all(runs)
            raise


def _save_all(runs: Sequence[Run]) -> None:
    """Save each, though another's save fails."""
    errors = []
    for run in runs:
        try:
            run.save()
        except (OSError, ValueError) as error:
            errors.append(error)
    if errors:
        raise errors[0]
