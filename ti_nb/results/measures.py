"""Measures of pictures by a judge: likeness, how well a prompt is followed, diversity, copied backgrounds, leaks, fitting words."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InvalidValue
from ..host.arguments import checked
from ..models.model import TINY
from ..words.prompts import replace_word, without_word
from .judge import Judge, read_texts

if TYPE_CHECKING:
    from PIL import Image

    from ..models.model import Model
    from .drawing.samples import Sample

EDGE = 0.15  # of a picture's side: the frame in which a background is looked for


def interval(values: Sequence[float], *, share: float = 0.95, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Where the mean of `values` lies with the chance `share`, by the bootstrap (percentiles); nan for fewer than two."""
    drawn = torch.tensor(list(values), dtype=torch.float64)
    if len(drawn) < 2:
        return float("nan"), float("nan")
    picks = torch.randint(len(drawn), (draws, len(drawn)), generator=torch.Generator().manual_seed(seed))
    edge = (1 - share) / 2
    low, high = drawn[picks].mean(1).quantile(torch.tensor([edge, 1 - edge], dtype=torch.float64)).tolist()
    return low, high


@checked(count=(0, None), total=(1, None), share=(0.5, 0.9999))
def share_interval(count: int, total: int, *, share: float = 0.95) -> tuple[float, float]:
    """Where a share lies with the chance `share`, when `count` of `total` were seen: Wilson's interval (1927).

    It holds for few and for none, too, where the usual one would say that there is no doubt.

    Raises:
        ValueError: more counted than there are.

    Examples:
        >>> import ti_nb as ti
        >>> low, high = ti.share_interval(0, 10)
        >>> f"{low:.0%} to {high:.0%}"
        '0% to 28%'
    """
    if count > total:
        raise InvalidValue(f"count is {count}, of a total of {total}: give no more than there are")
    z = NormalDist().inv_cdf((1 + share) / 2)
    middle = (count + z * z / 2) / (total + z * z)
    half = z * (count * (total - count) / total + z * z / 4) ** 0.5 / (total + z * z)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired(values: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the differences between two words' samples of the same prompts and seeds, and where it lies (see `interval`).

    Raises:
        ValueError: not as many of both.
    """
    if len(values) != len(others):
        raise InvalidValue(
            f"{len(values)} samples and {len(others)}: only those of the same prompts and seeds make pairs"
        )
    apart = [value - other for value, other in zip(values, others)]
    return (mean(apart), *interval(apart))


def in_words(difference: tuple[float, float, float]) -> str:
    """ "more" or "less" where the whole interval of a difference (mean, low, high) says so; else "same"."""
    _, low, high = difference
    return "more" if low > 0 else "less" if high < 0 else "same"


def mean(values: Sequence[float]) -> float:
    """Their mean; nan of none."""
    return sum(values) / len(values) if len(values) else float("nan")


@checked("samples", "pictures")
def subject_fidelity(judge: Judge, samples: Sequence[Sample | Image.Image], pictures: Sequence[Image.Image]) -> float:
    """Mean cosine (-1 to 1) of every sample with every picture of the concept: CLIP-I, the paper's "reconstruction".

    Examples:
        >>> import ti_nb as ti
        >>> judge, photos = ti.load_judge("tiny"), ti.example_images("penguin")
        >>> round(ti.subject_fidelity(judge, photos.images[:1], photos.images[:1]), 2)  # a picture and itself
        1.0
    """
    return mean(likeness(embed(judge, samples), embed(judge, pictures)))


@checked("samples", "word")
def prompt_fidelity(judge: Judge, samples: Sequence[Sample], word: str, *, instead: str = "") -> float:
    """Mean cosine of every sample with its own prompt, the word removed: CLIP-T, the paper's "editability".

    Args:
        instead: what stands for the word, such as its class, "cat"; by default it is deleted, as in the paper.

    Examples:
        >>> import ti_nb as ti
        >>> judge, photos = ti.load_judge("tiny"), ti.example_images("penguin")
        >>> said = [ti.Sample(photos[0], f"a photo of a <x> {name}", seed=0) for name in ("penguin", "taco")]
        >>> ti.prompt_fidelity(judge, said[:1], "<x>") > ti.prompt_fidelity(judge, said[1:], "<x>")
        True
    """
    return mean(following(judge, embed(judge, samples), samples, word, instead))


def embed(judge: Judge, samples: Sequence[Any]) -> torch.Tensor:
    """Unit vectors (n, d) of samples or pictures."""
    return judge.embed_images([getattr(s, "image", s) for s in samples])


def likeness(samples: torch.Tensor, pictures: torch.Tensor) -> list[float]:
    """Each sample's mean cosine with all pictures."""
    values: list[float] = (samples @ pictures.T).mean(1).tolist()
    return values


def following(
    judge: Judge, vectors: torch.Tensor, samples: Sequence[Sample], word: str, instead: str = ""
) -> list[float]:
    """Each sample's cosine with its own prompt without the word; `vectors` are those of the samples."""
    texts = [replace_word(s.prompt, word, instead) if instead else without_word(s.prompt, word) for s in samples]
    distinct = sorted(set(texts))
    said = read_texts(judge, distinct)[[distinct.index(t) for t in texts]]
    values: list[float] = (vectors * said).sum(-1).tolist()
    return values


def real_fidelity(judge: Judge, real: Sequence[Image.Image], pictures: Sequence[Image.Image]) -> float:
    """Mean cosine of real pictures with the concept's, leaving out each with itself; nan if no pair is left."""
    same = torch.tensor([[_is_same(a, b) for b in pictures] for a in real])
    return float((embed(judge, real) @ embed(judge, pictures).T)[~same].mean())


def _is_same(a: Image.Image, b: Image.Image) -> bool:
    return a is b or (a.size == b.size and a.tobytes() == b.tobytes())


@checked("samples")
def diversity(judge: Judge, samples: Sequence[Sample | Image.Image]) -> float:
    """1 less the mean cosine of all pairs of samples: 0 where all look the same; nan for a single one.

    Examples:
        >>> import ti_nb as ti
        >>> abs(ti.diversity(ti.load_judge("tiny"), [ti.example_images("penguin")[0]] * 2)) < 0.01  # twice the same
        True
    """
    return spread(embed(judge, samples))


def spread(vectors: torch.Tensor) -> float:
    """1 less the mean cosine of all pairs of unit vectors (n, d); nan for a single one."""
    count, rows = len(vectors), vectors.double()
    if count < 2:
        return float("nan")
    return 1 - (float(rows.sum(0).square().sum()) - float(rows.square().sum())) / (count * (count - 1))


@checked("samples", "pictures")
def background_likeness(
    judge: Judge, samples: Sequence[Sample | Image.Image], pictures: Sequence[Image.Image]
) -> float:
    """How much the edges of samples look like those of the picture that each is nearest to: 1 for a copied background.

    The middle of each picture is filled with the mean colour of its edge. Compare with the initializer's samples on the same
    seeds: a word that copies backgrounds is far above them.

    Examples:
        >>> import ti_nb as ti
        >>> judge, photos = ti.load_judge("tiny"), ti.example_images("penguin")
        >>> round(ti.background_likeness(judge, photos.images, photos.images), 3)
        1.0
    """
    frames, others = [_frame(s) for s in samples], [_frame(p) for p in pictures]
    return float((embed(judge, frames) @ embed(judge, others).T).amax(1).mean())


def _frame(sample: Any) -> Image.Image:
    """A picture whose middle is the mean colour of its edge."""
    import numpy as np
    from PIL import Image

    pixels = np.array(getattr(sample, "image", sample).convert("RGB"))
    height, width = (max(1, round(side * EDGE)) for side in pixels.shape[:2])
    middle = np.zeros(pixels.shape[:2], bool)
    middle[height:-height, width:-width] = True
    pixels[middle] = pixels[~middle].mean(0).round()
    return Image.fromarray(pixels)


@checked("before", "after", "pictures")
def leak(judge: Judge, before: Sequence[Sample], after: Sequence[Sample], pictures: Sequence[Image.Image]) -> float:
    """How much more like the pictures a model draws prompts without the word, once it knows the word; 0 for not at all.

    A word of this package can't leak: no other weight or row changes. Programs that train weights, or the whole table, leak.

    Args:
        before, after: samples of prompts without the word on the same seeds, such as "a photo of a cat" for a word for a cat:
            of the model alone, and of the model with the word loaded.

    Raises:
        ValueError: they have other prompts or seeds.

    Examples:
        >>> import ti_nb as ti
        >>> model, judge, photos = ti.load_model("tiny"), ti.load_judge("tiny"), ti.example_images("penguin")
        >>> before = ti.sample(model, "a photo of a cat", seeds=2)
        >>> ti.leak(judge, before, ti.sample(model, "a photo of a cat", seeds=2), photos.images)
        0.0
    """
    told = [[(s.prompt, s.seed) for s in drawn] for drawn in (before, after)]
    if told[0] != told[1]:
        raise InvalidValue("before and after were drawn with other prompts or seeds: draw both with the same")
    return subject_fidelity(judge, after, pictures) - subject_fidelity(judge, before, pictures)


@checked()
def gap_closed(initializer: float, word: float, real: float) -> float:
    """Share of the gap between the initializer's and real pictures' subject fidelity that the word closes; any number.

    Examples:
        >>> import ti_nb as ti
        >>> ti.gap_closed(initializer=0.5, word=0.75, real=1.0)
        0.5
    """
    return (word - initializer) / (real - initializer) if real != initializer else float("nan")


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
    return torch.cat([read_texts(judge, texts[i : i + 256]) for i in range(0, len(texts), 256)])


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
