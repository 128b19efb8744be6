"""`StepRecord`: what one optimiser step did; records as lines of CSV and back."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, get_type_hints

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from .concept import Concept, Vectors


@dataclass(frozen=True)
class StepRecord:
    """What one optimiser step did. With two encoders, figures of vectors are the mean of both.

    Attributes:
        step: counted from 1. steps: of how many.
        loss: mean squared error of the batch.
        rate: learning rate used (of the first encoder), in plain units; with `norm="fixed"` the angle of the step in radians.
        norm: mean length of the word's vectors after the step.
        cosine: of the mean vector with where it started.
        seconds: training time since the run began.
        gain: loss with the initializer minus loss with the word, same pictures, noise and timesteps each time. None
            between two measurements, as the two that follow.
        gain_empty: loss with an empty prompt minus loss with the word.
        percentile: share of the vocabulary (0 to 1) whose vectors are shorter than the word's.
        warning: what looks wrong, in a sentence; "" for nothing.
        note: what happened in this step out of the ordinary; "" for nothing.
    """

    step: int
    steps: int
    loss: float
    rate: float
    norm: float
    cosine: float
    seconds: float
    gain: float | None = None
    gain_empty: float | None = None
    percentile: float | None = None
    warning: str = ""
    note: str = ""

    def __str__(self) -> str:
        said = [f"loss {self.loss:.3f}", f"rate {self.rate:.2g}", f"norm {self.norm:.3f}", f"cosine {self.cosine:.3f}"]
        said += [] if self.gain is None else [f"gain {self.gain:+.4f}"]
        return ", ".join([f"step {self.step} of {self.steps}: {said[0]}", *said[1:], f"{self.seconds:.1f} s"])

    @staticmethod
    def of(
        step: int, steps: int, loss: float, rate: float, seconds: float, note: str, start: Concept, vectors: Vectors
    ) -> StepRecord:
        """A record with the figures of the vectors filled in."""
        own = {key: rows[: len(start)] for key, rows in vectors.items()}
        norms = [float(rows.norm(dim=-1).mean()) for rows in own.values()]
        cosines = [float(F.cosine_similarity(r.mean(0), start.vectors[k].mean(0), dim=0)) for k, r in own.items()]
        mean = torch.tensor([norms, cosines]).mean(1).tolist()
        return StepRecord(step, steps, loss, rate, mean[0], mean[1], seconds, note=note)


COLUMNS = [f.name for f in fields(StepRecord)]


def as_csv(records: Sequence[StepRecord], *, header: bool) -> str:
    """A line for each; numbers are read again equal, None is left empty."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    for record in records:
        values = asdict(record).values()
        writer.writerow(
            "" if v is None else " ".join(v.splitlines()) if isinstance(v, str) else repr(v) for v in values
        )
    return lines.getvalue()


def from_csv(text: str) -> list[StepRecord]:
    """The records of what `as_csv` wrote, its header included; of "" none.

    Raises:
        ValueError: other columns, or values that are none of theirs.
    """
    kinds = get_type_hints(StepRecord)
    header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [COLUMNS]
    if header != COLUMNS:
        raise ValueError("the records have other columns")
    return [StepRecord(**{name: _parse(v, kinds[name]) for name, v in zip(COLUMNS, row, strict=True)}) for row in rows]


def _parse(value: str, kind: Any) -> Any:
    if kind in (int, float, str):
        return kind(value)
    return float(value) if value else None
