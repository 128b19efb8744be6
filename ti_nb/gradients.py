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
        try:
            with busy.turn, memory.recomputing(runs[0].model.unet, runs[0].plan.checkpointing):
                return _gradients_in_parts(runs, batches)
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            smaller = runs[0].plan.smaller()
            if smaller is None:
                raise RuntimeError(
                    f"the device is out of memory with one picture at once ({runs[0].plan}): free some of it, or use a "
                    "smaller model"
                ) from error
        memory.release(runs[0].model.device)
        for run in runs:
            run.plan = smaller
            run._learner.note(f"out of memory: now {smaller}")


@torch.enable_grad()
def _gradients_in_parts(runs: Sequence[Run], batches: Sequence[Batch]) -> list[float]:
    """Parts of `plan.micro` pictures; with several processes each takes every so manyeth part of all batches."""
    from accelerate import PartialState
    from accelerate.utils import reduce

    model, plan, guidance = runs[0].model, runs[0].plan, runs[0].settings.negative_guidance
    firsts = {e.key: e.first for e in model.encoders}
    sizes = [{key: len(rows) for key, rows in run._learner.rows.items()} for run in runs]
    whole = join(batches, sizes, firsts)
    owner = torch.cat([torch.full((len(b),), i) for i, b in enumerate(batches)])
    share = torch.cat([torch.full((len(b),), 1 / len(b)) for b in batches])
    losses = torch.zeros(len(runs), device=model.device)
    for run in runs:
        run._learner.clear()
    state = PartialState()
    for at in range(state.process_index * plan.micro, len(whole), state.num_processes * plan.micro):
        part = slice(at, at + plan.micro)
        rows: Vectors = {key: torch.cat([run._learner.rows[key] for run in runs]) for key in firsts}
        each = word_loss(model, rows, whole[part], guidance=guidance)
        weighed = each * share[part].to(each)
        (weighed.sum() * runs[0]._learner.loss_scale).backward()  # type: ignore[no-untyped-call]
        losses.index_add_(0, owner[part].to(losses.device), weighed.detach())
    if state.num_processes > 1:
        losses = reduce(losses, "sum")
        for run in runs:
            run._learner.reduce()
    return [float(loss) for loss in losses.tolist()]
