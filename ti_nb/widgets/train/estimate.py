"""How long a run still takes: its steps, the scores measured on the way, and the previews."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from ...host.devices import used_memory

if TYPE_CHECKING:
    from ...training.run import Run

RECENT = 200  # steps


def progress_in_words(run: Run, every: int, preview_seconds: float | None) -> str:
    """Steps done, time elapsed and left, with what previews and scores take of it, seconds per step, memory.

    Args:
        every: steps between two previews. preview_seconds: of the last one; None before any was drawn.
    """
    memory = f"memory {used_memory(run.model.device)}"
    done = len(run.records)
    previews = max(0, len(run) // every - done // every) if every else 0
    words = [f"step {done} of {len(run)}"]
    if run.records:
        step, score = step_seconds(run)
        watch = run.settings.watch
        scores = len(run) // watch - done // watch if watch else 0
        extras = [
            _of_it(scores, "score", scores * score) if score is not None else "",
            _of_it(previews, "preview", previews * preview_seconds) if preview_seconds is not None else "",
        ]
        left = (len(run) - done) * step + scores * (score or 0) + previews * (preview_seconds or 0)
        unknown = f" and {previews} preview{'s' * (previews > 1)}" if previews and preview_seconds is None else ""
        said = f"{in_time(run.records[-1].seconds)} elapsed, {in_time(left)}{unknown} left"
        words += [", ".join([said, *(extra for extra in extras if extra)]), f"{step:.2g} s per step"]
    elif previews and preview_seconds is not None:
        words.append(f"{in_time(previews * preview_seconds)} for {previews} previews, and the steps")
    return " · ".join([*words, memory])


def step_seconds(run: Run) -> tuple[float, float | None]:
    """Of a recent step alone, and what measuring the scores adds; None before they were measured beside a step without."""
    recent = list(run.records[-RECENT - 1 :])
    before = [0.0] if len(recent) == len(run.records) else []
    times = [record.seconds for record in recent]
    each = [after - at for at, after in zip([*before, *times], times if before else times[1:])]
    measured = [record.gain is not None for record in (recent if before else recent[1:])]
    plain = [seconds for seconds, with_scores in zip(each, measured) if not with_scores]
    scored = [seconds for seconds, with_scores in zip(each, measured) if with_scores]
    step = median(plain or each)
    return step, max(0.0, median(scored) - step) if scored and plain else None


def in_time(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _of_it(count: int, what: str, seconds: float) -> str:
    """What so many of them take; "" for less than a second, which nobody asks about."""
    return f"{in_time(seconds)} of it for {count} {what}{'s' if count > 1 else ''}" if seconds >= 1 else ""
