"""A concept's vectors stand in for rows of the embedding table while a prompt is encoded.

Nothing is resized and no weight is written: ids past the vocabulary take rows of a separate parameter. The same way
serves any encoder that looks its ids up in a table, T5 as well as CLIP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..host import turns
from .model import Vectors
from .tokens import tokenise

if TYPE_CHECKING:
    from .model import Model


class ExtendedEmbedding(torch.nn.Module):
    """A frozen embedding table followed by a few rows of its own: id `len(table) + i` gives `rows[i]`."""

    def __init__(self, table: torch.nn.Embedding, rows: torch.Tensor) -> None:
        super().__init__()
        self.table = table
        self.rows = rows
        self.first = self.num_embeddings = table.num_embeddings

    @property
    def weight(self) -> torch.Tensor:
        """The frozen table; transformers looks here for the dtype."""
        return self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(..., ) ids -> (..., width) vectors in the table's dtype."""
        known = self.table(ids.clamp(max=self.first - 1))
        own = self.rows[(ids - self.first).clamp(min=0)].to(known)
        return torch.where((ids >= self.first).unsqueeze(-1), own, known)


@contextmanager
def extended(text_encoder: Any, rows: torch.Tensor) -> Iterator[int]:
    """Within the block, ids from the yielded number on mean `rows` (n, width); they may require gradients."""
    table = plain(text_encoder).get_input_embeddings()
    text_encoder.set_input_embeddings(ExtendedEmbedding(table, rows))
    try:
        yield table.num_embeddings
    finally:
        text_encoder.set_input_embeddings(table)


def plain(text_encoder: Any) -> Any:
    """The encoder, without the rows that an interrupt may have left in it."""
    table = text_encoder.get_input_embeddings()
    if isinstance(table, ExtendedEmbedding):
        text_encoder.set_input_embeddings(table.table)
    return text_encoder


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What the UNet is told: `states` (b, 77, width), and with SDXL the pooled text `pooled` (b, width)."""

    states: torch.Tensor
    pooled: torch.Tensor | None = None

    def __getitem__(self, rows: Any) -> Conditioning:
        return Conditioning(self.states[rows], None if self.pooled is None else self.pooled[rows])

    def emptied(self, row: int) -> Conditioning:
        """With zeros in one row: what SDXL's pipeline takes for no prompt at all."""
        states, pooled = self.states.clone(), None if self.pooled is None else self.pooled.clone()
        for rows in (states, pooled):
            if rows is not None:
                rows[row] = 0
        return Conditioning(states, pooled)


def condition(model: Model, ids: Mapping[str, torch.Tensor], rows: Vectors) -> Conditioning:
    """Encode token ids, each encoder's (b, 77), those past its vocabulary standing for its `rows` (n, width).

    SD takes its encoder's last states. SDXL takes both encoders' states before the last layer, side by side, and the
    second's pooled text (as `StableDiffusionXLPipeline.encode_prompt`).
    """
    states, pooled = [], None
    for encoder in model.encoders:
        with turns.turn, extended(encoder.network, rows[encoder.key]):
            out = encoder.network(ids[encoder.key], output_hidden_states=model.is_xl)
        states.append(out.hidden_states[-2] if model.is_xl else out[0])
        pooled = out[0] if model.is_xl else None
    return Conditioning(torch.cat(states, dim=-1), pooled)


def token_ids(model: Model, prompts: Sequence[str], words: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Each encoder's ids (b, 77) of `prompts`; `words` gives each word's number of vectors, in the order of their rows.

    Raises:
        ValueError: a prompt that does not fit.
    """
    out = {}
    for encoder in model.encoders:
        at, places = encoder.first, {}
        for word, count in words.items():
            places[word] = list(range(at, at + count))
            at += count
        out[encoder.key] = torch.tensor([tokenise(p, encoder.tokenizer, places) for p in prompts], device=model.device)
    return out
