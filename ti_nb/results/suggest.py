"""Suggest initializers: which of the model's words fit the pictures best, by a CLIP model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..host.arguments import checked
from ..models.model import TINY

if TYPE_CHECKING:
    from PIL import Image

    from ..models.model import Model
    from .judge import Judge


def tiny_words() -> list[str]:
    """The words the embedded model was trained on; its tokenizer has others, which mean nothing to it."""
    return (TINY / "words.txt").read_text().split()


@checked(most=(1, None))
def known_words(model: Model, *, most: int = 6000) -> list[str]:
    """Words that are one token: for "tiny" those it was trained on, else the first `most` with at least three letters.

    Examples:
        >>> import ti_nb as ti
        >>> "cat" in ti.known_words(ti.load_model("tiny"))
        True
    """
    if model.name == "tiny":
        return tiny_words()
    vocabulary = sorted(model.tokenizer.get_vocab().items(), key=lambda item: item[1])
    words = [token.removesuffix("</w>") for token, _ in vocabulary if token.endswith("</w>")]
    return [word for word in words if word.isascii() and word.isalpha() and len(word) > 2][:most]


def embed_words(judge: Judge, words: Sequence[str]) -> torch.Tensor:
    """Unit vectors (n, d) of "a ..." for each word, 256 at a time."""
    texts = [f"a {word}" for word in words]
    return torch.cat([judge.embed_texts(texts[i : i + 256]) for i in range(0, len(texts), 256)])


@checked("pictures", "words", count=(1, None))
def suggest_words(
    judge: Judge,
    pictures: Sequence[Image.Image],
    words: Sequence[str],
    *,
    vectors: torch.Tensor | None = None,
    count: int = 5,
) -> list[tuple[str, float]]:
    """The words nearest to the pictures with their mean cosine, best first.

    Args:
        vectors: `embed_words(judge, words)`, if it is at hand: computing it takes most of the time.

    Examples:
        >>> import ti_nb as ti
        >>> photos = ti.example_images("penguin").images
        >>> ti.suggest_words(ti.load_judge("tiny"), photos, ["penguin", "teapot", "house"], count=1)
        [('penguin', 0...)]
    """
    vectors = embed_words(judge, words) if vectors is None else vectors
    cosines, indices = (judge.embed_images(pictures) @ vectors.T).mean(0).topk(min(count, len(words)))
    return [(words[int(i)], float(cosine)) for i, cosine in zip(indices, cosines)]
