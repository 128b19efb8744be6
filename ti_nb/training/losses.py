"""The model's own denoising loss of a batch, as a function of the word's vectors (paper, section 4.1, equation 2).

`Plan` says how many pictures the device has room for at once, `Watch` measures the word on a fixed batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from ..host import turns
from ..host.arguments import checked
from ..host.devices import add_up, free_memory, in_parts, own_share
from ..host.plain_text import size
from ..models.conditioning import Conditioning, condition, token_ids
from ..models.denoise import activation_bytes, add_noise, predict, target_of
from ..models.today.memory import stored
from .settings import FAST, MIN_MEASUREMENTS

if TYPE_CHECKING:
    from ..models.model import Model, Vectors
    from ..words.concept import Concept
    from .batches import Batch, Draws
    from .records import StepRecord
    from .settings import TrainSettings


FIXED_BATCH = 8  # pictures in the batch that gains are measured on
CPU_MICRO_BATCH = 32  # fastest on tiny: 78 pictures/s (16: 70, 80: 58)
ROOM = 0.9  # share of the free memory to plan with: kernels and allocators need some of their own


class Kept(NamedTuple):
    """What a prompt's other words are kept near to: with these rows in the word's place; and how much, for each picture (b,)."""

    start: Vectors
    weights: torch.Tensor


def word_loss(
    model: Model, rows: Vectors, batch: Batch, settings: TrainSettings = FAST, kept: Kept | None = None
) -> torch.Tensor:
    """Each picture's loss (b,), float32, where ids past the vocabulary are looked up in `rows`, each encoder's (n, width).

    With `kept` the context term is part of it. With negative prompts in the batch the prediction is the guided one, negative + guidance x (prompt - negative)
    (DreamArtist, Dong et al. 2022).
    """
    noisy = add_noise(model, batch.latents, batch.noise, batch.timesteps)
    told = condition(model, batch.ids, rows)
    predicted = predict(model, noisy, batch.timesteps, told)
    if batch.negative_ids is not None:
        against = predict(model, noisy, batch.timesteps, condition(model.for_negatives, batch.negative_ids, rows))
        predicted = against + settings.negative_guidance * (predicted - against)
    loss = mean_square(predicted, target_of(model, batch.latents, batch.noise, batch.timesteps), batch.weights)
    if kept is None:
        return loss
    assert isinstance(told, Conditioning)  # `train` refuses others
    return loss + kept.weights.to(loss) * context_shift(model, batch.ids, told, kept.start)


def context_shift(model: Model, ids: Mapping[str, torch.Tensor], told: Conditioning, start: Vectors) -> torch.Tensor:
    """How far each prompt's other words (b,) are from what they were with `start` in the word's place.

    The mean squared difference of the encoders' states at them, in units of all states' variance then (CoRe, arXiv 2408.15914,
    section 3.2, has it of one encoder and plain). The tokens after the end count: a UNet reads them too.
    """
    with torch.no_grad():
        before = condition(model, ids, start)
    assert isinstance(before, Conditioning)
    encoder = model.encoders[0]
    others = ids[encoder.key] < encoder.first
    apart = (told.states.float() - before.states.float()).square().mean(-1)
    shift: torch.Tensor = (apart * others).sum(1) / others.sum(1) / before.states.float().var()
    return shift


def mean_square(predicted: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Each picture's weighted mean squared error (b,)."""
    return (weights * F.mse_loss(predicted, target, reduction="none")).mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class Plan:
    """How a step is computed, and what that needs.

    Attributes:
        micro: pictures through the UNet at once; a batch is cut into parts of that size, which changes no result.
        checkpointing: recompute the UNet's activations in the backward pass instead of keeping them.
        weights, activations: bytes of the frozen weights on the device, and of what is kept for one part's backward pass.
        free: bytes the device has for activations; None if it can't say.
        dtype: precision of the frozen weights.
    """

    micro: int
    checkpointing: bool
    weights: int
    activations: int
    free: int | None
    dtype: str

    def __str__(self) -> str:
        parts = f"{self.micro} pictures at once" + (", activations recomputed" if self.checkpointing else "")
        need = f"weights {size(self.weights)} ({self.dtype}) + activations {size(self.activations)}"
        return f"{parts}; {need}; free for activations: {size(self.free) if self.free is not None else 'unknown'}"

    def smaller(self) -> Plan | None:
        """The next plan to try when the device ran out of memory: half the pictures at once, then recomputing."""
        if self.micro > 1:
            return replace(self, micro=(self.micro + 1) // 2, activations=self.activations // 2)
        return None if self.checkpointing else replace(self, checkpointing=True)


@checked(together=(1, None), free=(0, None))
def plan_memory(model: Model, settings: TrainSettings, *, together: int = 1, free: int | None = None) -> Plan:
    """Choose how many pictures go through the UNet at once, and whether to recompute activations.

    As many as fit, up to the batch; recomputing (a fifth to a third slower) only where one picture doesn't fit without.

    Args:
        together: runs that share each pass. free: bytes to plan with; by default what the device has free.

    Examples:
        >>> import ti_nb as ti
        >>> plan = ti.plan_memory(ti.load_model("tiny"), ti.FAST, free=2 * 10**9)
        >>> plan.micro, plan.checkpointing
        (4, False)
    """
    from accelerate import PartialState

    wanted = -(-settings.batch * together // PartialState().num_processes)  # each process takes its share
    passes = 2 if settings.negative else 1
    weights = sum(_bytes(part) for part in (model.unet, *(e.network for e in model.encoders)))
    with turns.turn:  # between two steps of other runs, whose memory is free again then
        free = free_memory(model.device) if free is None else free
    room = None if free is None else int(free * ROOM)
    for checkpointing in (False, True):
        per_picture = activation_bytes(model, checkpointing) * passes
        fits = wanted if room is None else min(wanted, room // max(per_picture, 1))
        fits = min(fits, CPU_MICRO_BATCH) if model.device.type == "cpu" else fits
        if fits >= 1 or checkpointing:
            break
    micro = -(-wanted // -(-wanted // max(1, fits)))  # parts of equal size
    return Plan(micro, checkpointing, weights, per_picture * micro, free, str(model.dtype).removeprefix("torch."))


def _bytes(module: torch.nn.Module) -> int:
    return sum(part.numel() * part.element_size() for weight in module.parameters() for part in stored(weight))


class Watch:
    """Measures a word on a fixed batch, against its initializer and an empty prompt, both measured once.

    Attributes:
        plan: how many pictures go through the UNet at once.
    """

    def __init__(
        self, model: Model, draws: Draws, start: Concept, first: Vectors, settings: TrainSettings, plan: Plan
    ) -> None:
        self.model, self.settings, self.start, self.plan = model, settings, start, plan
        self.batch = draws.fixed(FIXED_BATCH)
        empty = token_ids(model, [""] * FIXED_BATCH, {})
        self.initial = self._loss(self.batch, first)
        self.empty = self._loss(replace(self.batch, ids=empty, negative_ids=None), first)
        self._norms = {e.key: e.table.norm(dim=-1).cpu() for e in model.encoders}

    def measure(self, record: StepRecord, vectors: Vectors) -> StepRecord:
        """Fill in the record's gain, percentile and warning."""
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
        all_gains = torch.tensor([0.0, *gains])  # 0: the initializer's own gain
        later_half = all_gains[len(all_gains) // 2 :]
        return len(gains) >= MIN_MEASUREMENTS and bool(
            later_half.var(correction=0) < share * all_gains.var(correction=0)
        )

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
                "the rest of the prompt: hold its norm, or train less"
            )
        return ""

    @torch.no_grad()
    def _loss(self, batch: Batch, rows: Vectors) -> float:
        """Over the whole batch, of which each process computes its share, as many pictures at once as the plan has."""
        on = {key: v.to(self.model.device) for key, v in rows.items()}
        share = own_share(len(batch))
        mine = batch[share.start : share.stop]

        def losses(part: slice) -> torch.Tensor:
            return word_loss(self.model, on, mine[part], self.settings)

        parts = in_parts(losses, len(mine), self.plan.micro, self.model.device)
        return float(add_up(torch.cat([*parts, torch.zeros(0, device=self.model.device)]).sum())) / len(batch)
