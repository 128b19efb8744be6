"""Steps of one run, or of several side by side: each is done as a whole or not at all, and saved where it stops."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from . import busy, memory
from .checks import checked
from .gradients import gradients
from .interrupts import held

if TYPE_CHECKING:
    from .records import StepRecord
    from .training import Run


@checked()
def together(runs: Sequence[Run]) -> Iterator[list[StepRecord]]:
    """Advance several runs of one model side by side, all their batches through the UNet at once.

    Several seeds, or several concepts, share the model and fill the device better than one after the other; each
    run's result is that of the run alone, to rounding. Yields a record for each run that is not finished.

    Raises:
        ValueError: runs of different models, with negative words, or of one folder; a folder that is another run's by now.
        KeyboardInterrupt: when interrupted; each run is then as it was before the step, and saved.
    """
    folders = [run.folder.path for run in runs if run.folder is not None]
    if len(set(folders)) < len(folders):
        raise ValueError(f"runs that go together need folders of their own: {', '.join(map(repr, map(str, folders)))}")
    if len({id(run.model) for run in runs}) > 1:
        raise ValueError("runs that go together need the same loaded model")
    if len(runs) > 1 and any(run.settings.negative for run in runs):
        raise ValueError("runs with negative words can't go together: iterate over them one after the other")
    if len(runs) > 1:
        plan = memory.plan_memory(runs[0].model, runs[0].settings, together=len(runs))
        for run in runs:
            run.plan = plan
    while going := [run for run in runs if not run.finished]:
        yield _step(going)
    for run in runs:
        if run.folder is not None and run.folder.saved < len(run.records):  # the last save failed
            run.save()


def _step(runs: Sequence[Run]) -> list[StepRecord]:
    """One step of each: done and recorded, or, whatever comes between and how often, as if it had not been begun."""
    with busy.turn:
        for run in runs:
            run.claim()
        try:
            began = time.monotonic()
            losses = gradients(runs, [run._begin() for run in runs])
            return [run._end(loss, began) for run, loss in zip(runs, losses)]
        except BaseException:
            with held():
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
