"""Arithmetic with words: their average, their weighted sum, a word without one of its vectors, a word as known words say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ..errors import InvalidValue
from ..host.arguments import checked
from .concept import Concept, check_fits
from .edit import OPPOSITE, check_pair, named

if TYPE_CHECKING:
    from ..models.model import Model


@checked("concepts")
def average(concepts: Sequence[Concept], word: str | None = None) -> Concept:
    """One word in the middle of several, such as those of several seeds: the mean of their directions and of their lengths.

    Args:
        word: the new word; by default the first one's.

    Raises:
        ValueError: different encoders, widths or counts of vectors; directions that cancel each other.

    >>> import torch
    >>> words = [Concept("<cat>", {"clip_l": torch.tensor([row])}) for row in ([3.0, 0.0], [0.0, 1.0])]
    >>> average(words).vectors["clip_l"]
    tensor([[1.4142, 1.4142]])
    """
    first, *others = concepts
    for other in others:
        check_pair(first, other)
    rows = {}
    for key in first.vectors:
        every = torch.stack([c.vectors[key].double() for c in concepts])
        lengths = every.norm(dim=-1, keepdim=True)
        middle = (every / lengths.clamp_min(1e-12)).mean(0)
        if not bool((middle.norm(dim=-1) > OPPOSITE).all()):
            raise InvalidValue("the words' directions cancel each other, so that there is no middle: leave one out")
        rows[key] = (lengths.mean(0) * middle / middle.norm(dim=-1, keepdim=True)).float()
    done = f"average of {len(concepts)}: {', '.join(dict.fromkeys(named(c) for c in concepts))}"
    return Concept(word or first.word, rows, {**_common(concepts), "edits": done})


@checked("words")
def combine(words: Sequence[tuple[Concept, float]], word: str) -> Concept:
    """The sum of several words' vectors, each times its weight: king - man + woman.

    Raises:
        ValueError: a single word, different encoders, widths or counts of vectors, a sum of length 0.

    >>> import torch
    >>> king, man, woman = (Concept(f"<{n}>", {"clip_l": torch.tensor([v])}) for n, v in (
    ...     ("king", [2.0, 1.0]), ("man", [2.0, 0.0]), ("woman", [0.0, 3.0])))
    >>> combine([(king, 1), (man, -1), (woman, 1)], "<queen>").vectors["clip_l"]
    tensor([[0., 4.]])
    """
    pairs = list(words)
    first = pairs[0][0]
    for other, _ in pairs[1:]:
        check_pair(first, other)
    rows = {key: sum(c.vectors[key].double() * w for c, w in pairs).float() for key in first.vectors}  # type: ignore[union-attr]
    if any(bool((v.norm(dim=-1) == 0).any()) for v in rows.values()):
        raise InvalidValue("the words add up to nothing: change a weight")
    done = " ".join(f"{weight:+g} {named(concept)}" for concept, weight in pairs)
    return Concept(word, rows, {**_common([c for c, _ in pairs]), "edits": f"sum of {done}"})


@checked(number=(1, 75))
def drop(concept: Concept, number: int) -> Concept:
    """The word without its vector `number`, counted from 1.

    Raises:
        ValueError: it has no such vector, or only this one.

    Examples:
        >>> import ti_nb as ti
        >>> word = ti.initial_concept(ti.load_model("tiny"), "<x>", "bird", 2)
        >>> len(word), len(ti.drop(word, 1))
        (2, 1)
    """
    if not 1 <= number <= len(concept) or len(concept) == 1:
        raise InvalidValue(f"number is {number}: {concept.word!r} has {len(concept)} of vectors, and one must stay")
    kept = [i for i in range(len(concept)) if i != number - 1]
    rows = {key: v[kept].clone() for key, v in concept.vectors.items()}
    return Concept(concept.word, rows, _and_then(concept, f"without vector {number} of {len(concept)}"))


@checked(count=(1, 1000))
def project(model: Model, concept: Concept, count: int = 10) -> Concept:
    """The word as known words can say it: each vector put on the plane of its `count` nearest in the vocabulary, its length kept.

    With few words it is what they have in common with it; with as many as there are dimensions it stays as it is.

    Raises:
        ValueError: a concept of another model; a vector at right angles to all of them.

    Examples:
        >>> import ti_nb as ti
        >>> model = ti.load_model("tiny")
        >>> word = ti.initial_concept(model, "<x>", "bird")
        >>> ti.project(model, word, 1).nearest(model, 1)[0][0]  # a known word is what it was
        'bird'
    """
    check_fits(concept, model)
    rows = {e.key: _projected(concept.vectors[e.key].double(), e.table.cpu().double(), count) for e in model.encoders}
    return Concept(concept.word, rows, _and_then(concept, f"as {count} known words say it"))


def _projected(rows: torch.Tensor, table: torch.Tensor, count: int) -> torch.Tensor:
    units = F.normalize(table, dim=-1)
    out = []
    for row in rows:
        near = table[(units @ row).topk(min(count, len(table))).indices].T  # (width, count)
        point = near @ torch.linalg.lstsq(near, row[:, None], driver="gelsd").solution
        if not float(point.norm()) > 1e-9 * float(row.norm()):
            raise InvalidValue("a vector has nothing in common with the known words: take more of them")
        out.append(point[:, 0] * row.norm() / point.norm())
    return torch.stack(out).float()


def _and_then(concept: Concept, done: str) -> dict[str, Any]:
    """The concept's facts with one more edit."""
    before = [str(concept.facts["edits"])] if "edits" in concept.facts else []
    return {**concept.facts, "edits": "; ".join([*before, done])}


def _common(concepts: Sequence[Concept]) -> Mapping[str, Any]:
    """The facts that all have in common."""
    first, *others = (c.facts for c in concepts)
    return {key: value for key, value in first.items() if all(o.get(key) == value for o in others)}
