"""A word's vectors found together: in one tensor or several, of one encoder or two, under whatever names they lie."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, Protocol

import torch

from ..errors import NotAConcept
from ..models.families import KEY_OF_WIDTH

SDXL = {"clip_l", "clip_g"}
NAMELESS = {"emb", "emb2"}  # XL-Textual-Inversion's two encoders
VECTORS = 512  # of one word at most


class Numbers(Protocol):
    """A tensor that may still be in its file."""

    @property
    def shape(self) -> Any:
        """Its sizes."""

    def read(self) -> torch.Tensor:
        """Its numbers, float32."""


class Together:
    """Rows of one width, (n, width) or (width,) each, that lie in several tensors."""

    def __init__(self, parts: Sequence[Numbers]) -> None:
        self.parts = parts
        self.shape = (sum((1, *part.shape)[-2] for part in parts), parts[0].shape[-1])

    def read(self) -> torch.Tensor:
        """Its numbers, (n, width) float32."""
        return torch.cat([part.read().reshape(-1, self.shape[1]) for part in self.parts])


def is_numbers(value: Any) -> bool:
    """Whether it is a tensor."""
    return hasattr(value, "shape") and hasattr(value, "read")


def of_width(rows: Numbers) -> dict[str, Numbers]:
    """The rows under the key of the encoder that is as wide."""
    return {KEY_OF_WIDTH.get(rows.shape[-1] if len(rows.shape) else 0, "clip_l"): rows}


def words_of(tensors: Mapping[str, Numbers]) -> dict[str, dict[str, Numbers]]:
    """Each word's vectors, by the names they have; "" for a word that has none."""
    return _halves(tensors) or {word: of_width(rows) for word, rows in _joined(tensors).items()}


def of_list(items: Sequence[Any]) -> dict[str, dict[str, Numbers]]:
    """A word whose vectors lie one by one in a list of dictionaries, as XL-Textual-Inversion writes them."""
    found = [pair for item in items[: VECTORS + 1] if isinstance(item, Mapping) for pair in item.items()]
    names = {str(name) for name, _ in found}
    vectors = all(is_numbers(rows) and len(rows.shape) in (1, 2) for _, rows in found)
    if not found or not vectors or not (len(names) == 1 or names <= NAMELESS):
        raise NotAConcept("it is a list, but not one of a word's vectors")
    parts: dict[str, list[Numbers]] = {}
    for _, rows in found:
        parts.setdefault(next(iter(of_width(rows))), []).append(rows)
    if any(len({rows.shape[-1] for rows in part}) > 1 for part in parts.values()):
        raise NotAConcept("the vectors in its list are of several widths")
    word = "" if names <= NAMELESS else names.pop()
    return {word: {key: Together(part) for key, part in parts.items()}}


def _halves(tensors: Mapping[str, Numbers]) -> dict[str, dict[str, Numbers]]:
    """One word of SDXL whose two tensors are called emb and emb2, or one by the word and one with a 2 behind it."""
    names = sorted(tensors, key=len)
    if len(names) != 2 or names[1] not in (f"{names[0]}2", f"{names[0]}_2"):
        return {}
    both = {key: rows for name in names for key, rows in of_width(tensors[name]).items()}
    return {"" if names[0] in NAMELESS else names[0]: both} if both.keys() == SDXL else {}


def _joined(tensors: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """Vectors that have each a name of its own, <cat>, <cat>_1, <cat>_2 or <cat>_0, <cat>_1, put together."""
    out: dict[str, Numbers] = {}
    left = dict(tensors)
    for name in list(tensors):
        base = name.removesuffix("_0")
        if name not in left or re.search(r"_[1-9]\d*$", name):
            continue
        rest = list(takewhile(left.__contains__, (f"{base}_{i}" for i in range(1, VECTORS))))
        shapes = {(1, *left[n].shape)[-2:] for n in (name, *rest)}
        if rest and len(shapes) == 1 and shapes.pop()[0] == 1:
            out[base] = Together([left.pop(n) for n in (name, *rest)])
        else:
            out[name] = left.pop(name)
    return {**out, **left}
