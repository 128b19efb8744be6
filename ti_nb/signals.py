"""Is it learning? The same pictures, noise and timesteps each time, so that a loss can be compared with another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from .inject import condition, token_ids
from .losses import word_loss

if TYPE_CHECKING:
    from .batches import Batch, Draws
    from .concept import Concept, Vectors
    from .models import Model
    from .records import StepRecord
    from .settings import TrainSettings

COUNT = 8  # pictures in the fixed batch
CONTEXTS = ("a photo of a {} on the beach", "a painting of a {} at night", "a {} with a hat in the snow")
DROWNED = 0.5  # `kept` below this is warned of


class Watch:
    """Measures a word on a fixed batch, against its initializer and an empty prompt, both measured once."""

    def __init__(
        self, model: Model, draws: Draws, start: Concept, negative: Concept | None, settings: TrainSettings
    ) -> None:
        self.model, self.settings, self.start = model, settings, start
        self.batch = draws.fixed(COUNT)
        first = dict(start.vectors)
        if negative:
            first = {key: torch.cat([rows, negative.vectors[key]]) for key, rows in first.items()}
        empty = token_ids(model, [""] * COUNT, {})
        self.initial = self._loss(self.batch, first)
        self.empty = self._loss(replace(self.batch, ids=empty, negative_ids=None), first)
        said = [context.format(start.word) for context in CONTEXTS]
        self._ids = token_ids(model, said, {start.word: len(start)})
        self._after = _after_the_word(self._ids, {e.key: (e.first, e.tokenizer.eos_token_id) for e in model.encoders})
        self._states = self._context(start.vectors)
        self._norms = {e.key: e.table.norm(dim=-1).cpu() for e in model.encoders}

    def measure(self, record: StepRecord, vectors: Vectors) -> StepRecord:
        """The record with its gain, what is kept of other words, percentile and warning filled in."""
        own = {key: rows[: len(self.start)] for key, rows in vectors.items()}
        loss = self._loss(self.batch, vectors)
        kept = F.cosine_similarity(self._context(own), self._states, dim=-1).mean()
        shorter = [(self._norms[key] < rows.norm(dim=-1).mean()).float().mean() for key, rows in own.items()]
        filled = replace(
            record,
            gain=self.initial - loss,
            gain_empty=self.empty - loss,
            kept=float(kept),
            percentile=float(torch.stack(shorter).mean()),
        )
        return replace(filled, warning=self._warning(filled))

    @staticmethod
    def is_flat(gains: Sequence[float], *, window: int = 6, share: float = 0.15) -> bool:
        """Whether the gain no longer changes: variance of the last `window` under `share` of that of all (DVAR)."""
        if len(gains) < 2 * window:
            return False
        every, last = torch.tensor(gains), torch.tensor(gains[-window:])
        return bool(last.var(correction=0) < share * every.var(correction=0))

    def _warning(self, record: StepRecord) -> str:
        assert record.gain is not None and record.kept is not None
        init = self.start.facts.get("init", "the initializer")
        if record.step >= min(2 * self.settings.watch, record.steps) and abs(1 - record.cosine) < 1e-4:
            return f"the word has not moved from {init!r} in {record.step} steps: raise the rate ({record.rate:.2g})"
        if record.step >= record.steps // 2 and record.gain <= 0:
            return f"the word explains the pictures no better than {init!r}: raise the rate, or train longer"
        if record.kept < DROWNED:
            return f"the word drowns the rest of the prompt ({record.kept:.0%} is left): hold its norm, or train less"
        return ""

    @torch.no_grad()
    def _loss(self, batch: Batch, rows: Vectors) -> float:
        on = {key: v.to(self.model.device) for key, v in rows.items()}
        parts = [batch[at : at + self.settings.batch] for at in range(0, len(batch), self.settings.batch)]
        guidance = self.settings.negative_guidance
        return float(torch.cat([word_loss(self.model, on, part, guidance=guidance) for part in parts]).mean())

    @torch.no_grad()
    def _context(self, rows: Vectors) -> torch.Tensor:
        on = {key: v.to(self.model.device) for key, v in rows.items()}
        return condition(self.model, self._ids, on).states[self._after].float()


def _after_the_word(ids: dict[str, torch.Tensor], marks: dict[str, tuple[int, int]]) -> torch.Tensor:
    """(b, 77) bool: the tokens after the word, the end token among them, padding not (by the first encoder)."""
    key = next(iter(ids))
    first, end = marks[key]
    seen_word = ((ids[key] >= first).long().cumsum(-1) > 0) & (ids[key] < first)
    ended = (ids[key] == end).long().cumsum(-1)
    return seen_word & ((ended == 0) | ((ended == 1) & (ids[key] == end)))
