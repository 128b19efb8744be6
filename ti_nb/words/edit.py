"""A learned word made stronger, weaker, closer to another word, mixed, joined or split: no training.

Vectors are turned along the great circle between their directions (slerp), and their lengths are set apart from that.
Turning a learned word towards its class word is Embedding-Adjustment (TEA, ICLR 2026).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..errors import InvalidValue
from ..host.arguments import SHARE, checked
from .concept import Concept, initial_concept

if TYPE_CHECKING:
    from ..models.model import Model

OPPOSITE = 1e-6  # radians from pi within which two directions count as opposite, with no unique arc between them


@checked(editability=SHARE, match_length=SHARE)
def adjust(
    concept: Concept,
    toward: Concept | None,
    *,
    strength: float = 1.0,
    editability: float = 0.0,
    match_length: float = 0.0,
) -> Concept:
    """The word with each vector scaled and turned, for each encoder; strength 1 and the others 0 leave it as learned.

    Args:
        toward: what to turn to: the initializer (`run.start`, or `initializer(model, concept)`), or any class word as
            `initial_concept` makes it, of as many vectors; None where only the strength changes.
        strength: factor of the learned length; below 1 the rest of the prompt has more influence, the word less.
        editability: share, 0 to 1, of the angle to `toward` that each vector is turned by; its length stays.
        match_length: share, 0 to 1, of the way from the learned length to that of `toward`: a word that has grown long drowns
            the rest of a prompt. Token Embedding Adjustment is editability=0.2, match_length=0.5.

    Raises:
        ValueError: a number out of range; different encoders, widths or counts of vectors; vectors that are opposite or zero.

    >>> import torch
    >>> learned = Concept("<my-cat>", {"clip_l": torch.tensor([[3.0, 0.0]])})
    >>> start = Concept("<my-cat>", {"clip_l": torch.tensor([[0.0, 1.0]])})
    >>> adjust(learned, None, strength=0.5).vectors["clip_l"]
    tensor([[1.5000, 0.0000]])
    >>> adjust(learned, start, editability=0.5).vectors["clip_l"]  # half of the right angle between them
    tensor([[2.1213, 2.1213]])
    """
    if not (math.isfinite(strength) and strength >= 0):
        raise InvalidValue(f"strength is {strength:g}: 1 keeps the learned length, 0.5 halves it, 0 is the least")
    if toward is None and (editability or match_length):
        told = f"editability is {editability:g}" if editability else f"match_length is {match_length:g}"
        raise InvalidValue(
            f"{told}, and there is nothing to turn {concept.word!r} to: give a class word, such as "
            f"initial_concept(model, {concept.word!r}, 'cat', {len(concept)})"
        )
    toward = concept if toward is None else toward
    check_pair(concept, toward)

    def turned(own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        learned, theirs = (rows.norm(dim=-1, keepdim=True) for rows in (own, other))
        if not (editability or match_length):
            return own * strength
        lengths = torch.lerp(learned, theirs, match_length) * strength
        return lengths * (slerp(own, other, editability) if editability else own / learned.clamp_min(1e-12))

    scaled = [f"strength {strength:g}"] if strength != 1 else []
    shares = {"editability": editability, "match_length": match_length}
    turns = [f"{name.replace('_', ' ')} {share:g} towards {named(toward)}" for name, share in shares.items() if share]
    done = [*scaled, *turns]
    before = [str(concept.facts["edits"])] if "edits" in concept.facts else []
    edits = {"edits": "; ".join([*before, ", ".join(done)])} if done else {}
    return Concept(concept.word, _each(concept, toward, turned), {**concept.facts, **edits})


@checked(share=SHARE)
def mix(a: Concept, b: Concept, share: float, word: str | None = None) -> Concept:
    """The word `share` of the way from `a` (0) to `b` (1): directions by slerp, lengths in proportion.

    Args:
        word: the new word; by default "<a-b>" of the two words' letters.

    Raises:
        ValueError: a share outside 0 to 1; different encoders, widths or counts of vectors; vectors that are opposite or zero.

    >>> import torch
    >>> cat = Concept("<cat>", {"clip_l": torch.tensor([[3.0, 0.0]])})
    >>> dog = Concept("<dog>", {"clip_l": torch.tensor([[0.0, 1.0]])})
    >>> both = mix(cat, dog, 0.5)
    >>> both.word, both.vectors["clip_l"]  # half of the angle between them, and the mean of their lengths
    ('<cat-dog>', tensor([[1.4142, 1.4142]]))
    """
    check_pair(a, b)

    def between(start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        lengths = torch.lerp(start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True), share)
        return lengths * slerp(start, end, share)

    word = word or f"<{a.word.strip('<>')}-{b.word.strip('<>')}>"
    common = {key: value for key, value in a.facts.items() if key in b.facts and b.facts[key] == value}
    done = f"{1 - share:g} of {named(a)} and {share:g} of {named(b)}"
    return Concept(word, _each(a, b, between), {**common, "edits": done})


@checked()
def rename(concept: Concept, word: str) -> Concept:
    """The same vectors under another word.

    Raises:
        ValueError: an empty word, or one with spaces in it.

    Examples:
        >>> import torch, ti_nb as ti
        >>> cat = ti.Concept("<my-cat>", {"clip_l": torch.ones(1, 768)}, {})
        >>> ti.rename(cat, "<tom>").word
        '<tom>'
    """
    if not word or word.split() != [word]:
        raise InvalidValue(f"word {word!r} must be one piece without spaces: write '<my-cat>'")
    return replace(concept, word=word)


@checked("word")
def join(concepts: Sequence[Concept], word: str) -> Concept:
    """One word that stands for several, in order: it has all of their vectors.

    Raises:
        ValueError: fewer than two words, or words of other encoders or widths.

    Examples:
        >>> import torch, ti_nb as ti
        >>> cat, hat = (ti.Concept(word, {"clip_l": torch.ones(1, 768)}, {}) for word in ("<my-cat>", "<my-hat>"))
        >>> len(ti.join([cat, hat], "<cat-in-hat>"))  # vectors
        2
    """
    if len(concepts) < 2:
        raise InvalidValue(f"joining takes two words or more, not {len(concepts)}")
    shapes = [{key: v.shape[1] for key, v in c.vectors.items()} for c in concepts]
    if any(shape != shapes[0] for shape in shapes):
        families = ", ".join(f"{c.word} for {c.family}" for c in concepts)
        raise InvalidValue(f"words of different models can't be joined: {families}")
    rows = {key: torch.cat([c.vectors[key] for c in concepts]) for key in shapes[0]}
    common = {k: v for k, v in concepts[0].facts.items() if all(c.facts.get(k) == v for c in concepts)}
    return Concept(word, rows, {**common, "edits": f"joined from {', '.join(c.word for c in concepts)}"})


@checked()
def split(concept: Concept) -> list[Concept]:
    """Each of a word's vectors as a word of its own, "<my-cat-1>", "<my-cat-2>" ...; `join` undoes it.

    Examples:
        >>> import torch, ti_nb as ti
        >>> cat = ti.Concept("<my-cat>", {"clip_l": torch.ones(2, 768)}, {})
        >>> [part.word for part in ti.split(cat)]
        ['<my-cat-1>', '<my-cat-2>']
    """
    name = concept.word.strip("<>")
    edits = {"edits": f"split from {concept.word}"}
    return [
        Concept(
            f"<{name}-{i + 1}>",
            {k: v[i : i + 1].clone() for k, v in concept.vectors.items()},
            {**concept.facts, **edits},
        )
        for i in range(len(concept))
    ]


@checked()
def initializer(model: Model, concept: Concept) -> Concept | None:
    """The word's initializer with as many vectors, from its facts; None if they name none that the model knows.

    Examples:
        >>> import ti_nb as ti
        >>> model = ti.load_model("tiny")
        >>> ti.initializer(model, ti.initial_concept(model, "<my-cat>", "cat", 2)).vectors["clip_l"].shape
        torch.Size([2, 192])
    """
    init = concept.facts.get("init")
    if not isinstance(init, str) or init == "random":
        return None
    try:
        return initial_concept(model, concept.word, init, len(concept))
    except ValueError:
        return None


def slerp(start: torch.Tensor, end: torch.Tensor, share: float) -> torch.Tensor:
    """Unit vectors (n, d): each direction of `start` (n, d) turned by `share` of its angle to the same row of `end`.

    Raises:
        ValueError: rows of zero length, or opposite ones (unless `share` is 0 or 1, when no way between is needed).
    """
    lengths = torch.stack([start.norm(dim=-1), end.norm(dim=-1)])
    if not bool((lengths > 0).all()):
        raise InvalidValue(
            "a vector of length 0 has no direction to turn from or to: use another strength, or another word"
        )
    a, b = (v / v.norm(dim=-1, keepdim=True) for v in (start.double(), end.double()))
    turned: torch.Tensor = b if share else a
    if share in (0, 1):
        return turned.to(start)
    angle = 2 * torch.atan2((a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True))
    if bool((angle > math.pi - OPPOSITE).any()):
        raise InvalidValue("two vectors are opposite, so that no one way leads from one to the other: use another word")
    sine = angle.sin()
    near = sine < 1e-9  # then slerp and lerp are the same
    first = torch.where(near, 1 - share, ((1 - share) * angle).sin() / sine)
    second = torch.where(near, share, (share * angle).sin() / sine)
    turned = first * a + second * b
    return turned.to(start)


def named(concept: Concept) -> str:
    """What to call a concept: its initializer if it was never trained, else its word."""
    untrained = concept.facts.get("steps") == 0 and "init" in concept.facts
    return repr(concept.facts["init"]) if untrained else concept.word


def _each(
    a: Concept, b: Concept, combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    return {key: combine(rows.double(), b.vectors[key].double()).float() for key, rows in a.vectors.items()}


def check_pair(a: Concept, b: Concept) -> None:
    """Raise `ValueError` unless both have the same encoders and widths, and as many vectors."""
    shapes = [{key: tuple(rows.shape) for key, rows in c.vectors.items()} for c in (a, b)]
    if shapes[0] == shapes[1]:
        return
    shown = [", ".join(f"{key} {n} x {width}" for key, (n, width) in s.items()) for s in shapes]
    raise InvalidValue(
        f"{named(a)} has vectors {shown[0]} and {named(b)} has {shown[1]}: both need the same encoders and widths, and as many "
        f"vectors; `initial_concept(model, word, init, {len(a)})` makes a class word of {len(a)}"
    )
