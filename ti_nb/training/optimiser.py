"""`Learner`: the word's vectors as parameters, and what one optimiser step does to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ..host import turns
from ..host.devices import add_up, attempt, own_share
from ..models.denoise import recomputing
from .batches import join_batches
from .losses import word_loss

if TYPE_CHECKING:
    from ..models.model import Model, Vectors
    from .batches import Batch
    from .losses import Plan
    from .settings import TrainSettings

# Good steps after which the loss scale is tried twice as large. No more than a run has, so that at most one step in 50 is
# lost to finding the limit.
GROW_AFTER = 50


class Learner:
    """The trained rows of each encoder, float32, with AdamW on them; a bad gradient is skipped, and the rate lowered.

    Attributes:
        rows: each encoder's (n, width) parameter.
        bad: consecutive steps that were skipped.
        factor: multiplies the settings' rate; may be changed while the run goes on.
        notes: what was unusual in the current step.
        loss_scale: multiply the loss by it before the backward pass: float16 gradients would vanish otherwise. It is
            halved where they overflow, and doubled after each `GROW_AFTER` good steps (as torch's `GradScaler`).
    """

    def __init__(self, model: Model, first: Vectors, settings: TrainSettings) -> None:
        self.settings = settings
        self.rows = {key: torch.nn.Parameter(v.to(model.device, torch.float32, copy=True)) for key, v in first.items()}
        self.spreads = {e.key: e.spread for e in model.encoders}
        groups = [{"params": [rows], "key": key} for key, rows in self.rows.items()]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=settings.weight_decay)
        self._start = {key: rows.detach().clone() for key, rows in self.rows.items()}
        self._lengths = {key: rows.norm(dim=-1, keepdim=True) for key, rows in self._start.items()}
        self._mean = {key: rows.clone() for key, rows in self._start.items()} if settings.ema else None
        self._is_half = model.dtype == torch.float16
        self.loss_scale = 2.0**14 if self._is_half else 1.0
        self.bad, self._good = 0, 0  # consecutive skipped steps; good steps since the loss scale changed
        self.factor = 1.0
        self._slower = 1.0
        self.notes: list[str] = []

    def vectors(self) -> dict[str, torch.Tensor]:
        """What is learned, on the CPU: the rows, or their running mean."""
        return {key: v.detach().cpu().clone() for key, v in (self._mean or self.rows).items()}

    def rate(self, step: int, key: str | None = None) -> float:
        """Learning rate of step `step` for an encoder, by default the first; with fixed norm the angle, in radians."""
        return self.factor * self._slower * self.settings.rate_at(step, self.spreads[key or next(iter(self.spreads))])

    def note(self, text: str, *, instead_of: str = "") -> None:
        """Add a note to the current step; it replaces those that begin as `instead_of`."""
        self.notes = [note for note in self.notes if not (instead_of and note.startswith(instead_of))] + [text]

    def clear(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def reduce(self) -> None:
        """Add up the gradients of all processes (a process may have computed none)."""
        for rows in self.rows.values():
            rows.grad = add_up(torch.zeros_like(rows) if rows.grad is None else rows.grad)

    @torch.no_grad()
    def step(self, step: int, loss: float) -> str:
        """Apply the gradients; returns a note on what was unusual, "" for nothing."""
        if math.isfinite(loss) and self._unscale():
            self.bad = 0
            self._apply(step)
            self._grow()
        elif self._is_half and self.loss_scale > 1 and math.isfinite(loss):
            self.loss_scale, self._good = self.loss_scale / 2, 0
            self.note(f"float16 gradients overflowed: step skipped, loss scale now {self.loss_scale:g}")
        else:
            self.bad += 1
            self._slower /= 2
            self.note(f"loss or gradient not finite: step skipped, rate now {self.rate(step):.3g}")
        notes, self.notes = "; ".join(self.notes), []
        return notes

    def _grow(self) -> None:
        self._good += 1
        if self._is_half and self._good == GROW_AFTER:
            self.loss_scale, self._good = self.loss_scale * 2, 0

    def _unscale(self) -> bool:
        for rows in self.rows.values():
            if rows.grad is None:
                return False
            rows.grad.div_(self.loss_scale)
        return all(bool(rows.grad.isfinite().all()) for rows in self.rows.values() if rows.grad is not None)

    def _apply(self, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step, group["key"])
        if self.settings.pull:
            for key, rows in self.rows.items():
                assert rows.grad is not None
                rows.grad.add_(rows - self._start[key], alpha=self.settings.pull)
        if self.settings.norm == "fixed":
            self._rotate(self.rate(step))
        else:
            self.optimizer.step()
        for key, rows in self.rows.items():
            if self.settings.norm == "clamp":
                norms = rows.norm(dim=-1, keepdim=True)
                rows.mul_(norms.clamp(max=self._lengths[key]) / norms.clamp_min(1e-12))
            if self._mean is not None:
                self._mean[key].lerp_(rows, 1 - min(self.settings.ema, (1 + step) / (10 + step)))

    def _rotate(self, angle: float) -> None:
        """Rotate each vector by `angle` radians against its gradient, whose size does not matter.

        Riemannian gradient descent on the sphere, as in Directional Textual Inversion (arXiv 2512.13672); with `pull`
        its von Mises-Fisher prior, as (vectors - start) has the start's direction along the sphere.
        """
        for key, rows in self.rows.items():
            assert rows.grad is not None
            unit = torch.nn.functional.normalize(rows, dim=-1)
            tangent = rows.grad - (rows.grad * unit).sum(-1, keepdim=True) * unit
            rotated = math.cos(angle) * unit - math.sin(angle) * torch.nn.functional.normalize(tangent, dim=-1)
            rows.copy_(self._lengths[key] * torch.nn.functional.normalize(rotated, dim=-1))

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as clones."""
        out: dict[str, Any] = {"loss_scale": self.loss_scale, "slower": self._slower, "bad": self.bad}
        out |= {"factor": self.factor, "good": self._good}
        for key, rows in self.rows.items():
            out[f"rows.{key}"] = rows.detach().cpu().clone()
            for name, value in self.optimizer.state.get(rows, {}).items():
                out[f"adam.{name}.{key}"] = value.detach().cpu().clone()
            if self._mean is not None:
                out[f"mean.{key}"] = self._mean[key].cpu().clone()
        return out

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Set what `state` returned."""
        self.loss_scale, self._slower = float(state["loss_scale"]), float(state["slower"])
        self.bad, self.factor = int(state["bad"]), float(state.get("factor", 1.0))
        self._good = int(state.get("good", 0))
        self.clear()
        for key, rows in self.rows.items():
            rows.copy_(state[f"rows.{key}"])
            adam = {
                n: state[f"adam.{n}.{key}"] for n in ("step", "exp_avg", "exp_avg_sq") if f"adam.{n}.{key}" in state
            }
            self.optimizer.state.pop(rows, None)
            if adam:
                moments = {n: v.clone() if n == "step" else v.to(rows.device, copy=True) for n, v in adam.items()}
                self.optimizer.state[rows] = moments
            if self._mean is not None:
                self._mean[key].copy_(state[f"mean.{key}"])


def gradients(
    model: Model, plan: Plan, learners: Sequence[Learner], batches: Sequence[Batch]
) -> tuple[list[float], Plan]:
    """Put each batch's gradient into its learner; returns their losses, and the plan that the device had room for."""
    while True:
        smaller = plan.smaller()
        least = "" if smaller else f"one picture at once ({plan})"
        work = partial(_gradients_in_parts, model, plan, learners, batches)
        losses = attempt(work, model.device, least=least)
        if losses is not None:
            return losses, plan
        assert smaller is not None
        plan = smaller
        for learner in learners:
            learner.note(f"out of memory: now {plan}")


@torch.enable_grad()
def _gradients_in_parts(model: Model, plan: Plan, learners: Sequence[Learner], batches: Sequence[Batch]) -> list[float]:
    """Parts of `plan.micro` pictures of this process's share of all batches; each learner's loss has its own scale."""
    firsts = {e.key: e.first for e in model.encoders}
    sizes = [{key: len(rows) for key, rows in learner.rows.items()} for learner in learners]
    whole = join_batches(batches, sizes, firsts)
    owner = torch.cat([torch.full((len(b),), i) for i, b in enumerate(batches)])
    share = torch.cat([torch.full((len(b),), 1 / len(b)) for b in batches])
    scale = torch.tensor([learner.loss_scale for learner in learners])[owner]
    losses = torch.zeros(len(learners), device=model.device)
    for learner in learners:
        learner.clear()
    mine = own_share(len(whole))
    with turns.turn, recomputing(model.unet, plan.checkpointing):
        for at in range(mine.start, mine.stop, plan.micro):
            part = slice(at, min(at + plan.micro, mine.stop))
            rows: Vectors = {key: torch.cat([learner.rows[key] for learner in learners]) for key in firsts}
            each = word_loss(model, rows, whole[part], learners[0].settings)
            weighed = each * share[part].to(each)
            (weighed * scale[part].to(each)).sum().backward()  # type: ignore[no-untyped-call]
            losses.index_add_(0, owner[part].to(losses.device), weighed.detach())
    for learner in learners:
        learner.reduce()
    return [float(loss) for loss in add_up(losses).tolist()]
