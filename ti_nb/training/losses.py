"""The model's own denoising loss of a batch, as a function of the word's vectors (paper, section 4.1, equation 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..models.conditioning import condition, token_ids
from ..models.denoise import add_noise, predict, target_of
from ..models.model import Vectors
from . import plan as memory
from .batches import Batch, mean_square
from .plan import add_up, own_share
from .settings import FEWEST

if TYPE_CHECKING:
    from ..models.model import Model, Vectors
    from ..words.concept import Concept
    from .batches import Batch, Draws
    from .plan import Plan
    from .records import StepRecord
    from .settings import TrainSettings


COUNT = 8  # pictures in the fixed batch


def word_loss(model: Model, rows: Vectors, batch: Batch, *, guidance: float = 3.0) -> torch.Tensor:
    """Each picture's loss (b,), float32, with ids past the vocabulary standing for `rows`, each encoder's (n, width).

    With negative prompts in the batch the prediction is the guided one, negative + guidance x (prompt - negative)
    (DreamArtist, Dong et al. 2022).
    """
    noisy = add_noise(model, batch.latents, batch.noise, batch.timesteps)
    predicted = predict(model, noisy, batch.timesteps, condition(model, batch.ids, rows))
    if batch.negative_ids is not None:
        against = predict(model, noisy, batch.timesteps, condition(model, batch.negative_ids, rows))
        predicted = against + guidance * (predicted - against)
    return mean_square(predicted, target_of(model, batch.latents, batch.noise, batch.timesteps), batch.weights)


class Watch:
    """Measures a word on a fixed batch, against its initializer and an empty prompt, both measured once.

    Attributes:
        plan: how many pictures go through the UNet at once.
    """

    def __init__(
        self, model: Model, draws: Draws, start: Concept, negative: Concept | None, settings: TrainSettings, plan: Plan
    ) -> None:
        self.model, self.settings, self.start, self.plan = model, settings, start, plan
        self.batch = draws.fixed(COUNT)
        first = dict(start.vectors)
        if negative:
            first = {key: torch.cat([rows, negative.vectors[key]]) for key, rows in first.items()}
        empty = token_ids(model, [""] * COUNT, {})
        self.initial = self._loss(self.batch, first)
        self.empty = self._loss(replace(self.batch, ids=empty, negative_ids=None), first)
        self._norms = {e.key: e.table.norm(dim=-1).cpu() for e in model.encoders}

    def measure(self, record: StepRecord, vectors: Vectors) -> StepRecord:
        """The record with its gain, percentile and warning filled in."""
        own = {key: rows[: len(self.start)] for key, rows in vectors.items()}
        loss = self._loss(self.batch, vectors)
        shorter = [(self._norms[key] < rows.norm(dim=-1).mean()).float().mean() for key, rows in own.items()]
        filled = replace(
            record,
            gain=self.initial - loss,
            gain_empty=self.empty - loss,
            percentile=float(torch.stack(shorter).mean()),
        )
        return replace(filled, warning=self._warning(filled))

    @staticmethod
    def is_flat(gains: Sequence[float], *, share: float = 0.05) -> bool:
        """Whether the gain no longer changes: the variance of its later half under `share` of that of all (after DVAR).

        `gains` are those measured so far. Half of them, so that it fits a run of any length: of a gain that still rises
        evenly the later half has a quarter of the variance.
        """
        every = torch.tensor([0.0, *gains])  # the initializer's own
        last = every[len(every) // 2 :]
        return len(gains) >= FEWEST and bool(last.var(correction=0) < share * every.var(correction=0))

    def _warning(self, record: StepRecord) -> str:
        assert record.gain is not None
        init = self.start.facts.get("init", "the initializer")
        if record.step >= min(2 * self.settings.watch, record.steps) and abs(1 - record.cosine) < 1e-4:
            return f"the word has not moved from {init!r} in {record.step} steps: raise the rate ({record.rate:.2g})"
        if record.step >= record.steps // 2 and record.gain <= 0:
            return f"the word explains the pictures no better than {init!r}: raise the rate, or train longer"
        if record.percentile == 1:
            longest = max(float(norms.max()) for norms in self._norms.values())
            return (
                f"the word is longer than any of the vocabulary's ({record.norm:.2f}, the longest {longest:.2f}): it drowns "
                "the rest of the prompt; hold its norm, or train less"
            )
        return ""

    @torch.no_grad()
    def _loss(self, batch: Batch, rows: Vectors) -> float:
        """Over the whole batch, of which each process computes its share, as many pictures at once as the plan has."""
        on = {key: v.to(self.model.device) for key, v in rows.items()}
        share = own_share(len(batch))
        mine, guidance = batch[share.start : share.stop], self.settings.negative_guidance

        def losses(part: slice) -> torch.Tensor:
            return word_loss(self.model, on, mine[part], guidance=guidance)

        found = memory.in_parts(losses, len(mine), self.plan.micro, self.model.device)
        return float(add_up(torch.cat([*found, torch.zeros(0, device=self.model.device)]).sum())) / len(batch)
