"""A drawing -> one vector in the place where a learned word will stand. Trained along with the generator, then thrown away.

Half of the captions say a thing by such a vector in place of its name ("a photo of a <v> on the beach"), a part of them a
style ("in the style of <s>"). What stays is a generator and a text encoder for which "one vector here = one drawing" is
familiar, for any drawing: the vectors of ten thousand drawings, recoloured, bent and joined ones too, fill the space in
which a word is later searched. (A table with a vector for each drawing would learn each from its own few pictures only.)
"""

from __future__ import annotations

import torch
from torch import nn

PATCH, SIDE, WIDTH = 8, 64, 192


class DrawingEncoder(nn.Module):
    """A small vision transformer with two heads: the drawing, and its style.

    Args:
        dim: length of the text encoder's token embeddings.
    """

    def __init__(self, dim: int, layers: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.position_embedding = nn.Parameter(torch.randn(1, (SIDE // PATCH) ** 2, WIDTH) * 0.02)
        self.blocks = nn.ModuleList([_Block() for _ in range(layers)])
        self.norm, self.narrow = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 24)
        self.word_embedding = nn.Linear(
            24 * (SIDE // PATCH) ** 2, dim
        )  # of all places: a mean over them forgets the shape
        self.style_embedding = nn.Linear(2 * WIDTH, dim)

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (b, 3, 64, 64) in [-1, 1] -> unit vectors of the drawing and of its style, (b, dim) each."""
        x = self.patches(pictures).flatten(2).transpose(1, 2) + self.position_embedding
        for block in self.blocks:
            x = block(x)
        x = self.norm(x).float()
        word = self.word_embedding(self.narrow(x).flatten(1))
        style = self.style_embedding(torch.cat([x.mean(1), x.amax(1)], -1))
        return nn.functional.normalize(word, dim=-1), nn.functional.normalize(style, dim=-1)


class _Block(nn.Module):
    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(3 * WIDTH, WIDTH)
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, n, d))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class WordTable(nn.Module):
    """The text encoder's token embeddings; id `size + i` takes row i of `extra`, set for one call."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.table = table
        self.extra: torch.Tensor | None = None

    @property
    def weight(self) -> torch.Tensor:
        return self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        size = self.table.num_embeddings
        known = self.table(ids.clamp(max=size - 1))
        if self.extra is None:
            return known
        return torch.where((ids >= size)[..., None], self.extra[(ids - size).clamp(min=0)], known)
