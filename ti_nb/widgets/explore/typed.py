"""What was typed into a control: seeds, numbers, a prompt; and what is wrong with it, in words."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from ...errors import InvalidValue
from ...models.tokens import split_on_words

if TYPE_CHECKING:
    from ...models.model import Model

RANGES = {"steps": (1, 1000), "guidance": (1, 100), "strength": (0, 10), "editability": (0, 1)}
WIDEST = 1000  # seeds in one range
PIECES = 3  # of a word's spelling: in more, the model does not know it (as `tokens.init_ids`)


def read_seeds(text: str) -> list[int]:
    """Seeds of "0, 1, 2" or "0-3, 8", each once.

    Raises:
        ValueError: none, or what is no seed.
    """
    seeds: dict[int, None] = {}
    for piece in re.split(r"[,\s]+", re.sub(r"\s*-\s*", "-", text.strip())):
        found = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", piece)
        if found is None:
            raise InvalidValue(f"seeds {text!r}: write whole numbers, as in 0, 1, 2 or 0-3")
        first, last = int(found[1]), int(found[2] or found[1])
        if not 0 <= last - first < WIDEST:
            raise InvalidValue(f"seeds {piece}: write a range from low to high, of at most {WIDEST}")
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)


def read_numbers(text: str, what: str) -> list[float]:
    """Numbers of "5, 15, 25" in the range that `what`, a key of `RANGES`, allows; each once.

    Raises:
        ValueError: none, what is no number, a number out of range.
    """
    try:
        numbers = list(dict.fromkeys(float(piece) for piece in re.split(r"[,\s]+", text.strip())))
    except ValueError:
        raise InvalidValue(f"values {text!r}: write numbers with commas between them, as in 1, 2.5") from None
    low, high = RANGES[what]
    for number in numbers:
        if not low <= number <= high or (what == "steps" and number % 1):
            kind = "whole numbers" if what == "steps" else "numbers"
            raise InvalidValue(f"{what} is {number:g}: give {kind} from {low} to {high}")
    return numbers


def count_tokens(text: str, model: Model, words: dict[str, int]) -> int:
    """Tokens of `text` without start and end; `words` gives each learned word's number of vectors.

    Raises:
        ValueError: more than fit.
    """
    pieces = split_on_words(text, words)
    counts, room = [], []
    for encoder in model.encoders:
        spelled = [len(encoder.tokenizer(p, add_special_tokens=False).input_ids) for p in pieces if p not in words]
        counts.append(sum(spelled) + sum(words.get(piece, 0) for piece in pieces))
        room.append(int(encoder.tokenizer.model_max_length) - 2)
    if max(counts) > min(room):
        raise InvalidValue(f"prompt is {max(counts)} tokens long, {min(room)} fit: shorten {text[:40]!r}...")
    return max(counts)


def unknown_words(text: str, model: Model, words: Collection[str]) -> list[str]:
    """What the model can't know: "<...>" and "{...}" that are no learned words, and words it must spell in many pieces."""
    found = []
    for piece in split_on_words(text, list(words)):
        if piece in words:
            continue
        for one in re.findall(r"<[^<>\s]+>|\{[^{}]*\}|[^\W_]+", piece):
            spelled = model.tokenizer(one, add_special_tokens=False).input_ids
            if one[0] in "<{" or len(spelled) > PIECES:
                found.append(one)
    return list(dict.fromkeys(found))
