"""Prompts and token ids: what a tokenizer makes of a word, the ids of new words in a prompt, and the rows that these mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ..errors import InvalidValue
from ..host.arguments import checked

CHUNKS = 8  # of 75 tokens each, in the longest prompt
BESIDE = 8  # tokens of a short sentence, from which a long word may not be parted


@checked()
def check_word(word: str, tokenizer: Any) -> str:
    """Return `word` if it can become a new word of `tokenizer`; else raise `ValueError` saying why and what to do.

    Examples:
        >>> import ti_nb as ti
        >>> ti.check_word("<my-cat>", ti.load_model("tiny").tokenizer)
        '<my-cat>'
    """
    if not hasattr(tokenizer, "get_vocab"):
        raise InvalidValue(f"tokenizer is of the kind {type(tokenizer).__name__}: give model.tokenizer")
    check_spelling(word)
    vocabulary = tokenizer.get_vocab()
    if word in vocabulary or f"{word}</w>" in vocabulary:
        raise InvalidValue(
            f"word {word!r} is already in the model's vocabulary: write '<{word.strip('<>')}>' or invent one"
        )
    return word


def check_spelling(word: str) -> None:
    """Raise `ValueError` for a word that no model can learn, whatever its vocabulary."""
    if not word or word != word.strip() or re.search(r"\s", word):
        raise InvalidValue(f"word {word!r} must be one piece without spaces: write '<my-cat>'")
    if word != word.lower():
        raise InvalidValue(f"word {word!r} has capitals, which CLIP's tokenizers drop: write {word.lower()!r}")
    if word.startswith("<") != word.endswith(">"):
        name = word.strip("<>")
        raise InvalidValue(f"word {word!r} has only one of '<' and '>': write '<{name}>'")
    if "{" in word or "}" in word:
        raise InvalidValue(f"word {word!r} holds a brace, which templates use: write '<my-cat>'")


def init_ids(init: str, tokenizer: Any) -> list[int]:
    """Token ids of the initializer; one word may be several tokens.

    Raises:
        ValueError: `init` is empty or a word the tokenizer must spell in more than three pieces (it does not know it).
    """
    ids = _ids_within_text(init, tokenizer)
    if not ids:
        raise InvalidValue("the initializer is empty: give a word for the kind of thing, such as 'cat' or 'toy'")
    words = init.split()
    pieces = [len(_ids_within_text(word, tokenizer)) for word in words]
    unknown = [word for word, n in zip(words, pieces) if n > 3]
    if unknown:
        raise InvalidValue(
            f"initializer {init!r}: the model does not know {unknown[0]!r}; give a plainer word for the kind of thing"
        )
    return ids


def _ids_within_text(words: str, tokenizer: Any) -> list[int]:
    """Ids of words as they are within a text: most tokenizers but CLIP's have other tokens for a word after a space."""
    before = "" if "CLIP" in type(tokenizer).__name__ or not words else " "
    ids: list[int] = tokenizer(before + words, add_special_tokens=False).input_ids
    return ids


def tokenise(prompt: str, tokenizer: Any, words: Mapping[str, Sequence[int]] | None = None) -> list[int]:
    """Ids of `prompt` with start and end, padded to the tokenizer's length (77); each word in `words` becomes its ids.

    Of a longer prompt those of all its chunks (`in_chunks`), one after the other.
    """
    return [number for chunk in in_chunks(prompt, tokenizer, words) for number in chunk]


def in_chunks(prompt: str, tokenizer: Any, words: Mapping[str, Sequence[int]] | None = None) -> list[list[int]]:
    """Ids of `prompt` in chunks of the tokenizer's length (77), as user interfaces cut it: start, 75 tokens, end.

    The tokenizer is not changed. The text between words is tokenised as it stands, which is what adding the
    words to the tokenizer gives as well (CLIP's tokenizers ignore white space). A word's vectors stay within one chunk.

    Raises:
        ValueError: the prompt does not fit into `CHUNKS` chunks, or a word, with a few others, not into one.
    """
    words, room = words or {}, int(tokenizer.model_max_length) - 2
    pieces = split_on_words(prompt, words)
    spelled = [words[p] if p in words else tokenizer(p, add_special_tokens=False).input_ids for p in pieces]
    if (total := sum(map(len, spelled))) > CHUNKS * room:
        raise InvalidValue(f"prompt is {total} tokens long, {CHUNKS * room} fit: shorten {prompt[:60]!r}...")
    chunks: list[list[int]] = [[]]
    for piece, ids in zip(pieces, spelled):
        if piece in words and len(ids) > room - BESIDE and total > room:
            raise InvalidValue(
                f"{piece!r} is {len(ids)} vectors long, and only {room} tokens are read together: shorten {prompt[:60]!r}..., "
                "or learn fewer vectors"
            )
        if piece in words and len(chunks[-1]) + len(ids) > room:
            chunks.append([])
        for number in ids:
            if len(chunks[-1]) == room:
                chunks.append([])
            chunks[-1].append(number)
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    return [[start, *chunk, end, *[pad] * (room - len(chunk))] for chunk in chunks]


def split_on_words(prompt: str, words: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """`prompt` cut before and after every occurrence of one of `words`; longer words win.

    A word that begins or ends with a letter is not looked for within other words; "<my-cat>" is found anywhere, as in
    diffusers, also in "two <my-cat>s".
    """
    return [piece for piece in cut_at_words(prompt, words) if piece.strip()]


def cut_at_words(prompt: str, words: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """As `split_on_words`, with the white space between them."""
    longest_first = sorted(filter(None, words), key=len, reverse=True)
    if not longest_first:
        return [prompt]
    return re.split(f"({'|'.join(map(_pattern, longest_first))})", prompt)


def _pattern(word: str) -> str:
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w$", word) else ""
    return before + re.escape(word) + after


def plain_token(token: str) -> str:
    """A token without the mark that CLIP's tokenizers put at a word's end, and others at its start."""
    return token.removesuffix("</w>").lstrip("▁Ġ")


def token_in_words(tokenizer: Any, number: int) -> str:
    """A token as people read it: its end-of-word mark dropped, a "+" where the word goes on."""
    token: str = tokenizer.convert_ids_to_tokens(number)
    if number in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        return "start" if number == tokenizer.bos_token_id else "end"
    return token.removesuffix("</w>") + ("" if token.endswith("</w>") else "+")


def names_of_rows(words: Mapping[str, int]) -> list[str]:
    """A name for each vector of words that have so many: "<my-cat>", or "<my-cat> 1" and "<my-cat> 2"."""
    return [f"{word} {i + 1}" if count > 1 else word for word, count in words.items() for i in range(count)]


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
