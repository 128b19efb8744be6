"""Templates, and how a prompt with a word in it becomes token ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .checks import checked

if TYPE_CHECKING:
    import torch

# Appendix D of the paper, which ends each with a period; its code does not (research: issue #92 of the paper's repository).
OBJECT_TEMPLATES = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)

STYLE_TEMPLATES = (
    "a painting in the style of {}",
    "a rendering in the style of {}",
    "a cropped painting in the style of {}",
    "the painting in the style of {}",
    "a clean painting in the style of {}",
    "a dirty painting in the style of {}",
    "a dark painting in the style of {}",
    "a picture in the style of {}",
    "a cool painting in the style of {}",
    "a close-up painting in the style of {}",
    "a bright painting in the style of {}",
    "a cropped painting in the style of {}",
    "a good painting in the style of {}",
    "a close-up painting in the style of {}",
    "a rendition in the style of {}",
    "a nice painting in the style of {}",
    "a small painting in the style of {}",
    "a weird painting in the style of {}",
    "a large painting in the style of {}",
)


def _with_opening(opening: str) -> tuple[str, ...]:
    """The 27 lines with "a photo of" at their start said otherwise, as the paper's code lists them."""
    return tuple(re.sub(r"^a photo of", opening, line) for line in OBJECT_TEMPLATES)


# What the paper's code really trains with: 81 lines, 57 of them distinct.
OBJECT_TEMPLATES_CODE = OBJECT_TEMPLATES + _with_opening("an illustration of") + _with_opening("a depiction of")

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "object": OBJECT_TEMPLATES,
    "object-paper": tuple(line + "." for line in OBJECT_TEMPLATES),
    "object-code": OBJECT_TEMPLATES_CODE,
    "style": STYLE_TEMPLATES,
}


@checked()
def check_word(word: str, tokenizer: Any) -> str:
    """Return `word` if it can become a new word of `tokenizer`; else raise `ValueError` saying why and what to do."""
    if not hasattr(tokenizer, "get_vocab"):
        raise ValueError(f"tokenizer is of the kind {type(tokenizer).__name__}: give model.tokenizer")
    if not word or word != word.strip() or re.search(r"\s", word):
        raise ValueError(f"word {word!r} must be one piece without spaces: write '<my-cat>'")
    if word != word.lower():
        raise ValueError(f"word {word!r} has capitals, which CLIP's tokenizers drop: write {word.lower()!r}")
    if word.startswith("<") != word.endswith(">"):
        name = word.strip("<>")
        raise ValueError(f"word {word!r} has only one of '<' and '>': write '<{name}>'")
    if "{" in word or "}" in word:
        raise ValueError(f"word {word!r} holds a brace, which templates use: write '<my-cat>'")
    vocabulary = tokenizer.get_vocab()
    if word in vocabulary or f"{word}</w>" in vocabulary:
        raise ValueError(
            f"word {word!r} is already in the model's vocabulary: write '<{word.strip('<>')}>' or invent one"
        )
    return word


def init_ids(init: str, tokenizer: Any) -> list[int]:
    """Token ids of the initializer; one word may be several tokens.

    Raises:
        ValueError: `init` is empty or a word the tokenizer must spell in more than three pieces (it does not know it).
    """
    ids: list[int] = tokenizer(init, add_special_tokens=False).input_ids
    if not ids:
        raise ValueError("the initializer is empty: give a word for the kind of thing, such as 'cat' or 'toy'")
    words = init.split()
    pieces = [len(tokenizer(word, add_special_tokens=False).input_ids) for word in words]
    unknown = [word for word, n in zip(words, pieces) if n > 3]
    if unknown:
        raise ValueError(
            f"initializer {init!r}: the model does not know {unknown[0]!r}; give a plainer word for the kind of thing"
        )
    return ids


def fill(template: str, word: str) -> str:
    """`template` with `word` in its place, "{}" or "{word}"; a prompt that already says the word stays as it is.

    A plain word is set off by a space from a letter it would run into ("two {}s", or writing without spaces), so that it
    is found again; CLIP's tokenizers ignore the space. "<my-cat>" needs none.
    """

    def placed(place: re.Match[str]) -> str:
        before, after = template[: place.start()], template[place.end() :]
        return f"{_gap(before, word)}{word}{_gap(word, after)}"

    return re.sub(r"\{(?:word)?\}", placed, template)


def _gap(left: str, right: str) -> str:
    """A space where two texts would become one word."""
    return " " if re.search(r"\w$", left) and re.match(r"\w|\{(word)?\}", right) else ""


def vary_caption(caption: str, shuffle: bool, dropout: float, word: str, draw: torch.Generator) -> str:
    """A caption's comma-separated parts in a new order, each that does not say `word` left out by chance."""
    import torch

    if not (shuffle or dropout) or "," not in caption:
        return caption
    parts = [part.strip() for part in caption.split(",")]
    kept = [p for p in parts if word in split_on_words(p, [word]) or float(torch.rand((), generator=draw)) >= dropout]
    if shuffle:
        kept = [kept[i] for i in torch.randperm(len(kept), generator=draw)]
    return ", ".join(kept)


def negative_word(word: str) -> str:
    """The word learned for the negative prompt beside `word`: "<my-cat>" has "<not-my-cat>"."""
    return f"<not-{word[1:-1]}>" if word.startswith("<") else f"not-{word}"


def tokenise(prompt: str, tokenizer: Any, words: Mapping[str, Sequence[int]] | None = None) -> list[int]:
    """Ids of `prompt` with start and end, padded to the tokenizer's length (77); each word in `words` becomes its ids.

    The tokenizer is not changed. The text between words is tokenised as it stands, which is what adding the
    words to the tokenizer gives as well (CLIP's tokenizers ignore white space).

    Raises:
        ValueError: the prompt does not fit.
    """
    words = words or {}
    ids: list[int] = []
    for piece in split_on_words(prompt, words):
        ids += words[piece] if piece in words else tokenizer(piece, add_special_tokens=False).input_ids
    length = int(tokenizer.model_max_length)
    if len(ids) > length - 2:
        raise ValueError(
            f"prompt is {len(ids)} tokens long, {length - 2} fit ({length} with start and end): shorten {prompt[:60]!r}..."
        )
    ids = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return ids + [tokenizer.pad_token_id] * (length - len(ids))


def split_on_words(prompt: str, words: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """`prompt` cut before and after every occurrence of one of `words`; longer words win.

    A word that begins or ends with a letter is not looked for within other words; "<my-cat>" is found anywhere, as in
    diffusers, also in "two <my-cat>s".
    """
    return [piece for piece in _cut(prompt, words) if piece.strip()]


def replace_word(prompt: str, word: str, other: str) -> str:
    """`prompt` with `other` wherever it says `word`."""
    return "".join(other if piece == word else piece for piece in _cut(prompt, [word]))


@checked()
def without_word(prompt: str, word: str) -> str:
    """`prompt` with the word deleted, as the paper's prompt fidelity compares with (section 4.3)."""
    kept = [piece.strip() for piece in split_on_words(prompt, [word]) if piece != word]
    return " ".join(kept)


def _cut(prompt: str, words: Mapping[str, Any] | Sequence[str]) -> list[str]:
    longest_first = sorted(filter(None, words), key=len, reverse=True)
    if not longest_first:
        return [prompt]
    return re.split(f"({'|'.join(map(_pattern, longest_first))})", prompt)


def _pattern(word: str) -> str:
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w$", word) else ""
    return before + re.escape(word) + after
