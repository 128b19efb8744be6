"""Templates, and how a prompt with a word in it becomes token ids."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from ..errors import InvalidValue
from ..host.arguments import checked
from ..models.conditioning import Conditioning, condition, count_chunks, token_ids
from ..models.tokens import cut_at_words, split_on_words
from .concept import check_fits

if TYPE_CHECKING:
    import torch

    from ..models.model import Model
    from .concept import Concept

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


UNSAYABLE = r"<>{}()\[\]:;|,`'\"\\/*?\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # within a word: what templates, other programs' weights, code and cards read otherwise


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

# Section 4.3 names these three "of varying difficulty"; it has no full list.
PAPER_PROMPTS = ("a photo of {} on the moon", "an oil painting of {}", "Elmo holding a {}")
# DreamBooth's own, published with its pictures: 20 scenes and 5 changes, for objects and for what is alive.
_SCENES = (
    *("in the jungle", "in the snow", "on the beach", "on a cobblestone street", "on top of pink fabric"),
    *("on top of a wooden floor", "with a city in the background", "with a mountain in the background"),
    *("with a blue house in the background", "on top of a purple rug in a forest"),
)
_OBJECTS = (
    *("with a wheat field in the background", "with a tree and autumn leaves in the background"),
    *("with the Eiffel Tower in the background", "floating on top of water", "floating in an ocean of milk"),
    *("on top of green grass with sunflowers around it", "on top of a mirror"),
    *("on top of the sidewalk in a crowded street", "on top of a dirt road", "on top of a white rug"),
)
_ALIVE = (
    *("wearing a red hat", "wearing a santa hat", "wearing a rainbow scarf"),
    *("wearing a black top hat and a monocle", "in a chef outfit", "in a firefighter outfit", "in a police outfit"),
    *("wearing pink glasses", "wearing a yellow shirt", "in a purple wizard outfit"),
)
_CHANGES = ("a red {}", "a purple {}", "a shiny {}", "a wet {}", "a cube shaped {}")
DREAMBOOTH_PROMPTS: Mapping[str, tuple[str, ...]] = {
    "objects": (*(f"a {{}} {scene}" for scene in _SCENES + _OBJECTS), *_CHANGES),
    "alive": (*(f"a {{}} {scene}" for scene in _SCENES + _ALIVE), *_CHANGES),
}


def fill(template: str, word: str) -> str:
    """`template` with `word` in its place, "{}" or "{word}"; a prompt without either stays as it is.

    A plain word is set off by a space from a letter it would run into ("two {}s", or writing without spaces), so that it
    is found again; CLIP's tokenizers ignore the space. "<my-cat>" needs none.
    """

    def placed(place: re.Match[str]) -> str:
        before, after = template[: place.start()], template[place.end() :]
        return f"{_gap(before, word)}{word}{_gap(word, after)}"

    return re.sub(r"\{(?:word)?\}", placed, template)


def _gap(left: str, right: str) -> str:
    """A space, where two texts would otherwise join into one word."""
    return " " if re.search(r"\w$", left) and re.match(r"\w|\{(word)?\}", right) else ""


def vary_caption(caption: str, shuffle: bool, dropout: float, word: str, draw: torch.Generator) -> str:
    """A caption's comma-separated parts in a new order, each part without `word` left out with the chance `dropout`."""
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


def picture_word(word: str, number: int) -> str:
    """The word learned for what else is in picture `number` (from 1): "<my-cat>" has "<my-cat-in-1>"."""
    return f"<{word[1:-1]}-in-{number}>" if word.startswith("<") else f"{word}-in-{number}"


def replace_word(prompt: str, word: str, other: str) -> str:
    """`prompt` with `other` wherever it says `word`."""
    return "".join(other if piece == word else piece for piece in cut_at_words(prompt, [word]))


@checked()
def without_word(prompt: str, word: str) -> str:
    """`prompt` with the word deleted, as the paper's prompt fidelity compares with (section 4.3).

    Examples:
        >>> import ti_nb as ti
        >>> ti.without_word("a photo of a <my-cat> on the beach", "<my-cat>")
        'a photo of a on the beach'
    """
    kept = [piece.strip() for piece in split_on_words(prompt, [word]) if piece != word]
    return " ".join(kept)


def check_prompt(prompt: str, words: Sequence[str]) -> None:
    """Raise `ValueError` if `prompt` contains none of `words`."""
    if words and not any(piece in words for piece in split_on_words(prompt, list(words))):
        raise InvalidValue(f"prompt {prompt!r} does not say {' or '.join(words)}: put the word, or {{word}}, into it")


@checked("prompts")
@torch.no_grad()
def encode(model: Model, prompts: Sequence[str], concepts: Sequence[Concept] = ()) -> Conditioning:
    """The conditioning for `prompts`, where each concept's word stands for its vectors.

    Raises:
        ValueError: a prompt that does not fit, a concept of another model, two concepts of one word.

    Examples:
        >>> import ti_nb as ti
        >>> model = ti.load_model("tiny")
        >>> word = ti.initial_concept(model, "<my-cat>", "cat")
        >>> ti.encode(model, ["a <my-cat> in the snow"], [word]).states.shape  # prompts, tokens, width
        torch.Size([1, 77, 192])
    """
    counts, rows = said(model, concepts)
    told = condition(model, token_ids(model, prompts, counts), rows)
    if not isinstance(told, Conditioning):
        raise InvalidValue(f"{model.name!r} encodes prompts within its pipeline's call: draw with ti.sample")
    return told


def encode_alike(
    model: Model, texts: Sequence[str], negative: str, concepts: Sequence[Concept]
) -> tuple[dict[int, Conditioning], list[tuple[int, int]]]:
    """Prompts to draw: those of as many chunks encoded together, with the negative one last; and for each its chunks and row.

    So none is longer because of what else is drawn.
    """
    counts, _ = said(model, concepts)
    *chunks, least = (count_chunks(model, text, counts) for text in (*texts, negative))
    groups: dict[int, list[str]] = {}
    where = []
    for text, own in zip(texts, chunks):
        group = groups.setdefault(max(own, least), [])
        where.append((max(own, least), len(group)))
        group.append(text)
    return {n: _with_negative(model, [*group, negative], concepts) for n, group in groups.items()}, where


def _with_negative(model: Model, prompts: Sequence[str], concepts: Sequence[Concept]) -> Conditioning:
    """Prompts, of which the last is the negative one."""
    both = encode(model, prompts, concepts)
    if model.clip_skip:
        both = both.ending_as(encode(model.for_negatives, prompts, concepts))
    return both.emptied(-1) if model.zeroes_empty and not prompts[-1] else both


def said(model: Model, concepts: Sequence[Concept]) -> tuple[dict[str, int], dict[str, torch.Tensor]]:
    """How many vectors each concept's word has, and for each encoder all their vectors, on the model's device.

    Raises:
        ValueError: a concept of another model, two concepts of one word.
    """
    counts: dict[str, int] = {}
    for concept in concepts:
        check_fits(concept, model)
        if concept.word in counts:
            raise InvalidValue(f"two concepts share the word {concept.word!r}: rename one when loading it")
        counts[concept.word] = len(concept)
    rows = {
        e.key: torch.cat([c.vectors[e.key] for c in concepts]).to(model.device) if concepts else e.table[:1]
        for e in model.encoders
    }
    return counts, rows


def file_word(word: str) -> str:
    """`word`, or one like it that every program reads correctly: in lower case, between < and >, without spaces.

    CLIP's tokenizers drop capitals, and diffusers puts a word's vectors wherever its text occurs, within other words too
    (diffusers #3188, #3588); between brackets no word contains another.
    """
    if re.fullmatch(rf"<[^{UNSAYABLE}]+>", word) and word == unicodedata.normalize("NFC", word).lower():
        return word
    name = re.sub(rf"[{UNSAYABLE}]+", "-", unicodedata.normalize("NFC", word).lower()).strip("-")
    return f"<{name or 'word'}>"
