"""`plan_many`: what many jobs will take and cost, from a measured step; reckoned before anything starts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import InvalidValue
from ..host.arguments import checked
from ..host.plain_text import in_page, plain
from ..training.losses import plan_memory
from ..training.start import together as advance_together
from ..training.start import train
from .job import Job
from .tables import check_apart

if TYPE_CHECKING:
    from ..models.model import Model

MOST_TOGETHER = 16
START = 60.0  # seconds until a worker has its model, where nothing else is said


@dataclass(frozen=True)
class Hardware:
    """Machines to reckon with.

    Attributes:
        name: as the table shows it, or a flavour of Hugging Face Jobs. workers: processes at once, one a GPU.
        price: dollars an hour of one worker; 0 for your own, None for unknown.
        seconds_per_step: of one word there, with the packing; None for that measured here. together: words in a pass.
        start: seconds until a worker has its model.

    Raises:
        ValueError: a number out of range.
    """

    name: str
    workers: int = 1
    price: float | None = 0.0
    seconds_per_step: float | None = None
    together: int = 1
    start: float = START

    def __post_init__(self) -> None:
        numbers = (self.price or 0.0, self.seconds_per_step or 0.0, self.start)
        if self.workers < 1 or self.together < 1 or any(not 0 <= number < math.inf for number in numbers):
            raise InvalidValue(f"{self} can't be: workers and together are at least 1, the rest is not negative")


@dataclass(frozen=True)
class Estimate:
    """What the jobs take on one kind of hardware: the whole time, the time of all workers together, and their price."""

    hardware: Hardware
    seconds: float
    busy: float
    measured: bool

    @property
    def cost(self) -> float | None:
        """Dollars; None where the price is unknown."""
        return None if self.hardware.price is None else self.busy / 3600 * self.hardware.price


@dataclass(frozen=True)
class ManyPlan:
    """What many jobs take, on each kind of hardware.

    Attributes:
        words, steps: how many in all. seconds_per_step: as measured or given. estimates: one a row.
    """

    words: int
    steps: int
    seconds_per_step: float
    estimates: tuple[Estimate, ...]

    def rows(self) -> list[tuple[str, ...]]:
        """The table, its head first."""
        head = ("hardware", "workers", "together", "s a step", "minutes", "worker hours", "dollars")
        return [head, *(self._row(estimate) for estimate in self.estimates)]

    def _row(self, of: Estimate) -> tuple[str, ...]:
        machine, step = of.hardware, of.hardware.seconds_per_step or self.seconds_per_step
        price = "unknown" if of.cost is None else f"{of.cost:.2f}"
        shown = f"{step:.3g}{'' if of.measured else ' (as here)'}"
        counts = (str(machine.workers), str(machine.together))
        return (plain(machine.name), *counts, shown, f"{of.seconds / 60:.1f}", f"{of.busy / 3600:.2f}", price)

    def __str__(self) -> str:
        rows = self.rows()
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        return "\n".join([f"{self.words} words, {self.steps} steps in all", *lines])

    def _repr_html_(self) -> str:
        head, *rows = [[in_page(cell) for cell in row] for row in self.rows()]
        body = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rows)
        caption = f"<caption>{self.words} words, {self.steps} steps in all</caption>"
        return f"<table>{caption}<tr><th>{'</th><th>'.join(head)}</th></tr>{body}</table>"


@checked("jobs")
def plan_many(
    jobs: Sequence[Job],
    hardware: str | Hardware | Sequence[str | Hardware] = "here",
    *,
    model: Model | None = None,
    seconds_per_step: float | None = None,
    together: int | None = None,
    prices: Mapping[str, float] | None = None,
) -> ManyPlan:
    """Reckon what `train_many` will take and cost: minutes, GPU hours, dollars.

    A step is measured on `model`, in a few of the first job's, or given. Where that is another machine than will train, it is no
    more than a guess: the table says "as here". Not reckoned: waiting for a machine, and the pictures' way there.

    Args:
        hardware: "here", flavours of Hugging Face Jobs such as "l4x1", `ti.jobs.Hardware`, or a list of these.
        seconds_per_step: of one word, instead of measuring. together: words in a pass; by default as many as the plan of memory finds room for.
        prices: dollars an hour of flavours; those that are not given are asked of the Hub, where they are public.

    Raises:
        ValueError: neither a model nor the seconds of a step; no such flavour. HubError: the Hub does not say its prices.

    Examples:
        >>> import ti_nb as ti
        >>> jobs = [ti.Job("pictures/" + name, f"<my-{name}>", "thing", {"steps": 100}) for name in ("cup", "hat", "box")]
        >>> print(ti.plan_many(jobs, ["here", "l4x1"], seconds_per_step=0.5, prices={"l4x1": 0.8}))
        3 words, 300 steps in all
        hardware  workers  together  s a step        minutes  worker hours  dollars
        here      1        1         0.5             2.5      0.04          0.00
        l4x1      1        1         0.5 (as here)   3.5      0.06          0.05
    """
    for _ in check_apart(jobs):
        pass
    if seconds_per_step is None and model is None:
        raise InvalidValue(
            "there is nothing to reckon with: give a loaded model to measure a step on, or seconds_per_step"
        )
    packed = together or (packing(model, jobs[0]) if model is not None else 1)
    measured = seconds_per_step or measure_step(_loaded(model), jobs, packed)
    given = [hardware] if isinstance(hardware, str | Hardware) else hardware
    asked = [name for name in given if isinstance(name, str) and name != "here" and name not in (prices or {})]
    known = {**(_prices() if asked else {}), **(prices or {}), "here": 0.0}
    machines = [each if isinstance(each, Hardware) else _machine(each, known, packed) for each in given]
    steps = [job.settings.steps for job in jobs]
    estimates = tuple(_estimate(machine, steps, measured) for machine in machines)
    return ManyPlan(len(jobs), sum(steps), measured, estimates)


def _loaded(model: Model | None) -> Model:
    assert model is not None
    return model


def _machine(name: str, prices: Mapping[str, float], together: int) -> Hardware:
    if name not in prices:
        raise InvalidValue(f"no hardware {name!r}: there are {', '.join(prices)}")
    return Hardware(name, price=prices[name], together=together, start=0.0 if name == "here" else START)


def _estimate(machine: Hardware, steps: Sequence[int], measured: float) -> Estimate:
    """Jobs are given out as they stand, groups as large as the packing; each group lasts as long as its longest."""
    step = machine.seconds_per_step or measured
    groups = [steps[at : at + machine.together] for at in range(0, len(steps), machine.together)]
    free = [machine.start] * min(machine.workers, len(groups))
    for group in groups:
        first = min(range(len(free)), key=free.__getitem__)
        free[first] += sum(group) * step
    known = machine.seconds_per_step is not None or machine.name == "here"
    return Estimate(machine, max(free), max(free) * len(free), known)


def packing(model: Model, job: Job) -> int:
    """How many words like this one go through the model at once in the memory that is free: no more are worth while."""
    if job.settings.negative:
        return 1
    plan = plan_memory(model, job.settings, together=MOST_TOGETHER)
    fits: int = plan.micro // job.settings.batch
    return max(1, min(MOST_TOGETHER, fits))


def measure_step(
    model: Model, jobs: Sequence[Job], together: int = 1, *, steps: int = 4, clock: Callable[[], float] = time.monotonic
) -> float:
    """Seconds that one step of one word takes here, where so many share a pass; the first of the steps is not counted."""
    few = [replace(jobs[n % len(jobs)].settings, steps=steps, watch=0, stop="never", warmup=0) for n in range(together)]
    runs = [
        train(model, job.images(), word=job.word, init=job.init, settings=settings)
        for job, settings in zip([jobs[n % len(jobs)] for n in range(together)], few)
    ]
    moments = [clock() for _ in advance_together(runs)]
    return (moments[-1] - moments[0]) / (steps - 1) / together


def _prices() -> dict[str, float]:
    from .rented.prices import prices

    return prices()
