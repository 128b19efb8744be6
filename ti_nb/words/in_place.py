"""Words in pipelines of today: most have no loader of their own, so that the words' rows are left in place beside the tables."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch

from ..errors import InvalidValue
from ..models.families import family_of
from ..models.today.recipe import Family
from ..models.today.recorder import FIRST, as_codes, as_text, learn_to_read
from ..models.tokens import ExtendedEmbedding, cut_at_words
from .concept import Concept

PARTS = ("", "_2", "_3")


class LoadedWords(ExtendedEmbedding):
    """A table with the rows of the words that are loaded."""


def family_of_pipeline(pipeline: Any) -> Family | None:
    """The family of a pipeline of today; None for others."""
    network = getattr(pipeline, "text_encoder", None)
    return None if network is None else family_of(type(pipeline).__name__, width_of(network))


def width_of(network: Any) -> int:
    """Size of one of its embedding vectors."""
    return int(network.get_input_embeddings().weight.shape[-1])


def put(pipeline: Any, family: Family, concept: Concept, word: str) -> None:
    """Let every text encoder know the word.

    Raises:
        ValueError: a word of another family, or one that it knows already.
    """
    said = concept.facts.get("family", family.name)
    needs = {key: width_of(getattr(pipeline, f"text_encoder{part}")) for key, part in zip(family.encoders, PARTS)}
    has = {key: rows.shape[1] for key, rows in concept.vectors.items()}
    if said != family.name or has != needs:
        raise InvalidValue(
            f"{concept.word!r} is for {concept.family}, with {_listed(has)}; this pipeline is a {family.name}, with "
            f"{_listed(needs)}: load it into a pipeline of its family"
        )
    if word in words_of(pipeline):
        raise InvalidValue(f"the pipeline knows {word!r} already: unload(pipeline, {word!r}) first, or rename the word")
    for key, part in zip(family.encoders, PARTS):
        _install(pipeline, part, {**_rows(pipeline, part), word: concept.vectors[key]})


def take(pipeline: Any, family: Family, word: str) -> None:
    """Let every text encoder forget the word.

    Raises:
        ValueError: it does not know it.
    """
    if word not in words_of(pipeline):
        raise InvalidValue(f"the pipeline does not know {word!r}: it was not loaded into it")
    for _, part in zip(family.encoders, PARTS):
        rows = _rows(pipeline, part)
        _install(pipeline, part, {name: rows[name] for name in rows if name != word})


def words_of(pipeline: Any) -> tuple[str, ...]:
    """The words that are loaded."""
    return tuple(getattr(pipeline.tokenizer, "words", {}))


def _rows(pipeline: Any, part: str) -> dict[str, torch.Tensor]:
    """Each loaded word's vectors."""
    ranges = getattr(getattr(pipeline, f"tokenizer{part}"), "words", {})
    table = getattr(pipeline, f"text_encoder{part}").get_input_embeddings()
    return {word: table.rows[[code - FIRST for code in codes]] for word, codes in ranges.items()}


def _install(pipeline: Any, part: str, words: Mapping[str, torch.Tensor]) -> None:
    """Make these the words that are loaded, and no others."""
    tokenizer, network = getattr(pipeline, f"tokenizer{part}"), getattr(pipeline, f"text_encoder{part}")
    table = network.get_input_embeddings()
    table = table.table if isinstance(table, LoadedWords) else table
    tokenizer = getattr(tokenizer, "without_words", tokenizer)
    if words:
        reader = _reading(tokenizer, {word: len(rows) for word, rows in words.items()})
        rows = torch.cat([rows.detach().to(table.weight.device, torch.float32) for rows in words.values()])
        tokenizer, table = reader, LoadedWords(table, rows, learn_to_read(reader, len(rows)))
    setattr(pipeline, f"tokenizer{part}", tokenizer)
    network.set_input_embeddings(table)


def _reading(tokenizer: Any, counts: Mapping[str, int]) -> Any:
    """A copy of the tokenizer that reads each word as so many tokens."""
    reader, kind = deepcopy(tokenizer), type(tokenizer)
    words, at = {}, FIRST
    for word, count in counts.items():
        words[word] = range(at, at + count)
        at += count

    def read(self: Any, text: Any = None, *more: Any, **named: Any) -> Any:
        return kind.__call__(self, _spelled(text, self.words), *more, **named)

    reader.__class__ = type(kind.__name__, (kind,), {"__call__": read, "__module__": kind.__module__})
    reader.words, reader.without_words = words, tokenizer
    return reader


def _spelled(text: Any, words: dict[str, range]) -> Any:
    """The text, or each of several, with the characters of its vectors for each word."""
    if isinstance(text, list | tuple):
        return [_spelled(each, words) for each in text]
    if not isinstance(text, str):
        return text
    return as_text(as_codes(text, words, cut_at_words(text, words), 0))


def _listed(widths: Mapping[str, int]) -> str:
    return ", ".join(f"{key} of width {width}" for key, width in widths.items())
