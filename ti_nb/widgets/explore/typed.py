"""Parse and check the text typed into a control: seeds, numbers, a prompt."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from ...errors import InvalidValue
from ...models.tokens import CHUNKS, split_on_words

if TYPE_CHECKING:
    from ...models.model import Model

MAX_RANGE = 1000  # seeds in one range
MAX_PIECES = 3  # tokens of a known word: one split into more is unknown to the model (as in `tokens.init_ids`)


def read_seeds(text: str) -> list[int]:
    """Parse seeds, such as "0, 1, 2" or "0-3, 8"; each is returned once.

    Raises:
        ValueError: no seeds, or something that is not one.
    """
    seeds: dict[int, None] = {}
    for piece in re.split(r"[,\s]+", re.sub(r"\s*-\s*", "-", text.strip())):
        match = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", piece)
        if match is None:
            raise InvalidValue(f"seeds {text!r}: write whole numbers, as in 0, 1, 2 or 0-3")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 <= last - first < MAX_RANGE:
            raise InvalidValue(f"seeds {piece}: write a range from low to high, of at most {MAX_RANGE}")
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)


def read_numbers(text: str, what: str, allowed: tuple[float, float], *, whole: bool = False) -> list[float]:
    """Parse numbers, such as "5, 15, 25", within `allowed`; each is returned once. `what` names them in errors.

    Raises:
        ValueError: no numbers, something that is not one, a number out of range.
    """
    try:
        numbers = list(dict.fromkeys(float(piece) for piece in re.split(r"[,\s]+", text.strip())))
    except ValueError:
        raise InvalidValue(f"values {text!r}: write numbers with commas between them, as in 1, 2.5") from None
    low, high = allowed
    for number in numbers:
        if not low <= number <= high or (whole and number % 1):
            kind = "whole numbers" if whole else "numbers"
            raise InvalidValue(f"{what} is {number:g}: give {kind} from {low} to {high}")
    return numbers


def count_tokens(text: str, model: Model, words: dict[str, int]) -> int:
    """Number of tokens of `text` without start and end; `words`: learned word -> number of vectors.

    Raises:
        ValueError: the text is too long.
    """
    pieces = split_on_words(text, words)
    counts, limits = [], []
    for encoder in model.encoders:
        lengths = [len(encoder.tokenizer(p, add_special_tokens=False).input_ids) for p in pieces if p not in words]
        counts.append(sum(lengths) + sum(words.get(piece, 0) for piece in pieces))
        limits.append(CHUNKS * (int(encoder.tokenizer.model_max_length) - 2))
    if max(counts) > min(limits):
        raise InvalidValue(f"prompt is {max(counts)} tokens long, {min(limits)} fit: shorten {text[:40]!r}...")
    return max(counts)


def unknown_words(text: str, model: Model, words: Collection[str]) -> list[str]:
    """What the model doesn't know: "<...>" and "{...}" that are not learned words, and words of more than 3 tokens."""
    unknown = []
    for piece in split_on_words(text, list(words)):
        if piece in words:
            continue
        for word in re.findall(r"<[^<>\s]+>|\{[^{}]*\}|[^\W_]+", piece):
            ids = model.tokenizer(word, add_special_tokens=False).input_ids
            if word[0] in "<{" or len(ids) > MAX_PIECES:
                unknown.append(word)
    return list(dict.fromkeys(unknown))
