"""A concept's vectors stand in for rows of the embedding table while a prompt is encoded.

Nothing is resized and no weight is written: ids past the vocabulary take rows of a separate parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from .concept import Concept, check_width
from .prompts import split_on_words, tokenise

if TYPE_CHECKING:
    from .models import Model


class ExtendedEmbedding(torch.nn.Module):
    """A frozen embedding table followed by a few rows of its own: id `len(table) + i` gives `rows[i]`."""

    def __init__(self, table: torch.nn.Embedding, rows: torch.Tensor) -> None:
        super().__init__()
        self.table = table
        self.rows = rows
        self.first = table.num_embeddings

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
    table = text_encoder.get_input_embeddings()
    text_encoder.set_input_embeddings(ExtendedEmbedding(table, rows))
    try:
        yield table.num_embeddings
    finally:
        text_encoder.set_input_embeddings(table)


def check_prompt(prompt: str, words: Sequence[str]) -> None:
    """Raise `ValueError` if `prompt` says none of `words`."""
    if words and not any(piece in words for piece in split_on_words(prompt, list(words))):
        raise ValueError(f"prompt {prompt!r} does not say {' or '.join(words)}: put the word, or {{word}}, into it")


def word_ids(concepts: Sequence[Concept], first: int) -> dict[str, list[int]]:
    """Ids for each word's vectors, counted from `first`."""
    ids: dict[str, list[int]] = {}
    for concept in concepts:
        if concept.word in ids:
            raise ValueError(f"two concepts share the word {concept.word!r}: rename one when loading it")
        ids[concept.word] = list(range(first, first + len(concept)))
        first += len(concept)
    return ids


@torch.no_grad()
def encode(model: Model, prompts: Sequence[str], concepts: Sequence[Concept] = ()) -> torch.Tensor:
    """Text states of `prompts`, (n, 77, width), with each concept's word known.

    Raises:
        ValueError: a prompt that does not fit, a concept of another width, two concepts of one word.
    """
    for concept in concepts:
        check_width(concept, model)
    table = model.text_encoder.get_input_embeddings()
    rows = torch.cat([c.vectors for c in concepts]) if concepts else table.weight[:1].float()
    words = word_ids(concepts, table.num_embeddings)
    ids = torch.tensor([tokenise(p, model.tokenizer, words) for p in prompts], device=model.device)
    with extended(model.text_encoder, rows.to(model.device)):
        states: torch.Tensor = model.text_encoder(ids)[0]
    return states
