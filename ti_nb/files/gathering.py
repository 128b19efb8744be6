"""Collects a word's vectors from a file's tensors: one or several, of one encoder or two, whatever their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, Protocol

import torch

from ..errors import NotAConcept
from ..models.families import KEY_OF_WIDTH

SDXL_ENCODERS = {"clip_l", "clip_g"}
WORDLESS_KEYS = {"emb", "emb2"}  # XL-Textual-Inversion's two encoders
MAX_VECTORS = 512  # of one word; no prompt has room for more than 77 (CLIP) or 512 (T5) tokens


class LazyTensor(Protocol):
    """A tensor that is read from its file only by `read`."""

    @property
    def shape(self) -> Any:
        """Its shape."""

    def read(self) -> torch.Tensor:
        """Its values, float32."""


class ConcatenatedTensor:
    """Several tensors of one width, (n, width) or (width,) each, as one."""

    def __init__(self, parts: Sequence[LazyTensor]) -> None:
        self.parts = parts
        self.shape = (sum((1, *part.shape)[-2] for part in parts), parts[0].shape[-1])

    def read(self) -> torch.Tensor:
        """Its values, (n, width) float32."""
        return torch.cat([part.read().reshape(-1, self.shape[1]) for part in self.parts])


def is_tensor(value: Any) -> bool:
    """Whether it is a `LazyTensor`."""
    return hasattr(value, "shape") and hasattr(value, "read")


def by_encoder(rows: LazyTensor) -> dict[str, LazyTensor]:
    """The rows under the encoder of their width, such as {"clip_l": rows}."""
    return {KEY_OF_WIDTH.get(rows.shape[-1] if len(rows.shape) else 0, "clip_l"): rows}


def vectors_by_word(tensors: Mapping[str, LazyTensor]) -> dict[str, dict[str, LazyTensor]]:
    """Each word's vectors by encoder; the word is "" if the file does not name it."""
    return _sdxl_pair(tensors) or {word: by_encoder(rows) for word, rows in _joined(tensors).items()}


def vectors_in_list(items: Sequence[Any]) -> dict[str, dict[str, LazyTensor]]:
    """A word whose vectors are in a list of one-tensor dictionaries, as XL-Textual-Inversion writes them."""
    pairs = [pair for item in items[: MAX_VECTORS + 1] if isinstance(item, Mapping) for pair in item.items()]
    names = {str(name) for name, _ in pairs}
    vectors = all(is_tensor(rows) and len(rows.shape) in (1, 2) for _, rows in pairs)
    if not pairs or not vectors or not (len(names) == 1 or names <= WORDLESS_KEYS):
        raise NotAConcept("it is a list, but not one of a word's vectors")
    parts: dict[str, list[LazyTensor]] = {}
    for _, rows in pairs:
        parts.setdefault(next(iter(by_encoder(rows))), []).append(rows)
    if any(len({rows.shape[-1] for rows in part}) > 1 for part in parts.values()):
        raise NotAConcept("the vectors in its list are of several widths")
    word = "" if names <= WORDLESS_KEYS else names.pop()
    return {word: {key: ConcatenatedTensor(part) for key, part in parts.items()}}


def _sdxl_pair(tensors: Mapping[str, LazyTensor]) -> dict[str, dict[str, LazyTensor]]:
    """An SDXL word whose two tensors are named emb and emb2, or by the word and the word with 2 or _2 appended."""
    names = sorted(tensors, key=len)
    if len(names) != 2 or names[1] not in (f"{names[0]}2", f"{names[0]}_2"):
        return {}
    both = {key: rows for name in names for key, rows in by_encoder(tensors[name]).items()}
    return {"" if names[0] in WORDLESS_KEYS else names[0]: both} if both.keys() == SDXL_ENCODERS else {}


def _joined(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Vectors in tensors of their own, <cat>, <cat>_1, <cat>_2 or <cat>_0, <cat>_1, concatenated."""
    out: dict[str, LazyTensor] = {}
    left = dict(tensors)
    for name in list(tensors):
        base = name.removesuffix("_0")
        if name not in left or re.search(r"_[1-9]\d*$", name):
            continue
        rest = list(takewhile(left.__contains__, (f"{base}_{i}" for i in range(1, MAX_VECTORS))))
        shapes = {(1, *left[n].shape)[-2:] for n in (name, *rest)}
        if rest and len(shapes) == 1 and shapes.pop()[0] == 1:
            out[base] = ConcatenatedTensor([left.pop(n) for n in (name, *rest)])
        else:
            out[name] = left.pop(name)
    return {**out, **left}
