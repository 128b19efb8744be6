"""Gradients of several runs at once, in parts that fit the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from . import busy, memory
from .batches import Batch, join
from .concept import Vectors
from .losses import word_loss

if TYPE_CHECKING:
    from .training import Run


def gradients(runs: Sequence[Run], batches: Sequence[Batch]) -> list[float]:
    """Put each run's gradient into its learner, and return its loss; with less at once if the device is full."""
    while True:
        plan = runs[0].plan
        smaller = plan.smaller()
        least = "" if smaller else f"one picture at once ({plan})"
        losses = memory.attempt(lambda: _gradients_in_parts(runs, batches), runs[0].model.device, least=least)
        if losses is not None:
            return losses
        assert smaller is not None
        for run in runs:
            run.plan = smaller
            run._learner.note(f"out of memory: now {smaller}")


def own_share(count: int) -> range:
    """Which of `count` pictures this process computes: processes' shares are apart and together all, whatever each plans."""
    from accelerate import PartialState

    state = PartialState()
    ends = [count * number // state.num_processes for number in (state.process_index, state.process_index + 1)]
    return range(*ends)


def add_up(values: torch.Tensor) -> torch.Tensor:
    """The sum of all processes' `values`, the same in each."""
    from accelerate import PartialState
    from accelerate.utils import reduce

    if PartialState().num_processes == 1:
        return values
    total: torch.Tensor = reduce(values, "sum")
    return total


@torch.enable_grad()
def _gradients_in_parts(runs: Sequence[Run], batches: Sequence[Batch]) -> list[float]:
    """Parts of `plan.micro` pictures of this process's share of all batches; each run's loss has its own scale."""
    model, plan, guidance = runs[0].model, runs[0].plan, runs[0].settings.negative_guidance
    firsts = {e.key: e.first for e in model.encoders}
    sizes = [{key: len(rows) for key, rows in run._learner.rows.items()} for run in runs]
    whole = join(batches, sizes, firsts)
    owner = torch.cat([torch.full((len(b),), i) for i, b in enumerate(batches)])
    share = torch.cat([torch.full((len(b),), 1 / len(b)) for b in batches])
    scale = torch.tensor([run._learner.loss_scale for run in runs])[owner]
    losses = torch.zeros(len(runs), device=model.device)
    for run in runs:
        run._learner.clear()
    mine = own_share(len(whole))
    with busy.turn, memory.recomputing(model.unet, plan.checkpointing):
        for at in range(mine.start, mine.stop, plan.micro):
            part = slice(at, min(at + plan.micro, mine.stop))
            rows: Vectors = {key: torch.cat([run._learner.rows[key] for run in runs]) for key in firsts}
            each = word_loss(model, rows, whole[part], guidance=guidance)
            weighed = each * share[part].to(each)
            (weighed * scale[part].to(each)).sum().backward()  # type: ignore[no-untyped-call]
            losses.index_add_(0, owner[part].to(losses.device), weighed.detach())
    for run in runs:
        run._learner.reduce()
    return [float(loss) for loss in add_up(losses).tolist()]
