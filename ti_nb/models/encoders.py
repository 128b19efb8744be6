"""A model's text encoders, and the rows of a word beside their embedding tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from .families import KEY_OF_WIDTH

Vectors = Mapping[str, torch.Tensor]


@dataclass(eq=False)
class TextEncoder:
    """One of a model's text encoders.

    Attributes:
        key: the name of its embeddings in shared files: "clip_l" (SD 1.x, SDXL), "clip_h" (SD 2.x), "clip_g" (SDXL).
        tokenizer, network: as transformers loads them.
        part: the end of their names in models of today's pipelines.
    """

    key: str
    tokenizer: Any
    network: Any
    part: str = ""

    @property
    def first(self) -> int:
        """The first id past the table: where a concept's vectors are put."""
        return int(self.network.get_input_embeddings().num_embeddings)

    @property
    def table(self) -> torch.Tensor:
        """The vocabulary's embedding table (tokens, width), float32."""
        weight: torch.Tensor = self.network.get_input_embeddings().weight
        return weight.detach()[: len(self.tokenizer)].float()

    @property
    def width(self) -> int:
        """Size of one embedding vector."""
        return int(self.network.get_input_embeddings().weight.shape[-1])

    @cached_property
    def spread(self) -> float:
        """Standard deviation of a coordinate over the vocabulary: the unit of learning rates (0.014 in SD 1.5)."""
        return float(self.table.std(0).mean())


class ExtendedEmbedding(torch.nn.Module):
    """A frozen embedding table and a few rows of its own: id `first + i` gives `rows[i]`.

    A concept's vectors so stand in for rows of the table while a prompt is encoded. Nothing is resized and no weight is
    written. The same way serves any encoder that looks its ids up in a table, T5 and LLMs as well as CLIP.

    Args:
        first: the id of the first row; by default the first past the table. Tables may be longer than tokenizers, whose
            next id is then within the table.
    """

    def __init__(self, table: torch.nn.Embedding, rows: torch.Tensor, first: int | None = None) -> None:
        super().__init__()
        self.table = table
        self.rows = rows
        self.num_embeddings = table.num_embeddings
        self.first = table.num_embeddings if first is None else first

    @property
    def weight(self) -> torch.Tensor:
        """The frozen table; transformers looks here for the dtype."""
        return self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(..., ) ids -> (..., width) vectors in the table's dtype."""
        known = self.table(ids.clamp(max=self.first - 1))
        own = self.rows[(ids - self.first).clamp(min=0)].to(known)
        scale = getattr(self.table, "embed_scale", None)  # Gemma's tables multiply what they give by it
        own = own if scale is None else own * torch.as_tensor(scale).to(own)
        return torch.where((ids >= self.first).unsqueeze(-1), own, known)


@contextmanager
def extended(text_encoder: Any, rows: torch.Tensor, first: int | None = None) -> Iterator[int]:
    """Within the block, ids from the yielded number on mean `rows` (n, width); they may require gradients."""
    table = plain(text_encoder).get_input_embeddings()
    inner = ExtendedEmbedding(table, rows, first)
    text_encoder.set_input_embeddings(inner)
    try:
        yield inner.first
    finally:
        text_encoder.set_input_embeddings(table)


def plain(text_encoder: Any) -> Any:
    """The encoder with its own table, whatever an interrupt may have left in it."""
    table = text_encoder.get_input_embeddings()
    if type(table) is ExtendedEmbedding:  # words that were loaded into a pipeline stay
        text_encoder.set_input_embeddings(table.table)
    return text_encoder


def clip_encoder(tokenizer: Any, network: Any, usual: str) -> TextEncoder:
    """A CLIP encoder, by the key of its width."""
    return TextEncoder(KEY_OF_WIDTH.get(network.config.hidden_size, usual), tokenizer, network)


def pool_at_the_end(encoder: TextEncoder) -> None:
    """Take pooled text from the end token, as the encoders were trained, not from the highest id.

    Published configurations name a wrong end token (2); transformers then pools at the highest id, which a new word's
    is (transformers #21029, #24650; diffusers #10754). With known words both rules pool at the same place.
    """
    for module in encoder.network.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = encoder.tokenizer.eos_token_id
