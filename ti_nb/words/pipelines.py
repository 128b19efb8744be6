"""Load words into diffusers' pipelines, and unload them again without a trace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..errors import InvalidValue
from ..host.arguments import checked
from . import in_place
from .concept import Concept
from .prompts import file_word

PARTS = ("", "_2", "_3")


@checked()
def load_into(pipeline: Any, concept: Concept) -> str:
    """Load `concept` into a diffusers pipeline, each encoder's vectors into the text encoder of their width.

    Returns the word to write in its prompts: the concept's, or one like it that diffusers reads correctly (`file_word`).

    Raises:
        ValueError: the pipeline has no text encoder of that width, or knows the word already.

    Examples:
        >>> import ti_nb as ti
        >>> model = ti.load_model("tiny")
        >>> pipeline = model.fresh_pipeline()
        >>> word = ti.load_into(pipeline, ti.initial_concept(model, "<my-cat>", "cat"))
        >>> picture = pipeline(f"a {word} in the snow", num_inference_steps=2, output_type="np").images[0]
        >>> picture.shape
        (64, 64, 3)
    """
    word = file_word(concept.word)
    if (family := in_place.family_of_pipeline(pipeline)) is not None:
        in_place.put(pipeline, family, concept, word)
        return word
    _check_takes_words(pipeline)
    places = _places(pipeline, concept)
    for tokenizer, _, _ in places:
        if word in tokenizer.get_added_vocab():
            raise InvalidValue(
                f"the pipeline knows {word!r} already: unload(pipeline, {word!r}) first, or rename the word"
            )
    for tokenizer, network, rows in places:
        with _plainly_resized(network):
            pipeline.load_textual_inversion({word: rows}, token=word, text_encoder=network, tokenizer=tokenizer)
        network.config.vocab_size = network.get_input_embeddings().num_embeddings
    return word


@checked()
def unload(pipeline: Any, word: str | Concept) -> None:
    """Take a word out of a pipeline again: all its vectors, from every encoder, as if it had never been there.

    Raises:
        ValueError: the pipeline does not know it.

    Examples:
        >>> import ti_nb as ti
        >>> model = ti.load_model("tiny")
        >>> pipeline = model.fresh_pipeline()
        >>> word = ti.load_into(pipeline, ti.initial_concept(model, "<my-cat>", "cat"))
        >>> ti.unload(pipeline, word)
        >>> word in pipeline.tokenizer.get_vocab()
        False
    """
    name = file_word(word.word if isinstance(word, Concept) else word)
    if (family := in_place.family_of_pipeline(pipeline)) is not None:
        in_place.take(pipeline, family, name)
        return
    _check_takes_words(pipeline)
    known = False
    for part in PARTS:
        tokenizer: Any = getattr(pipeline, f"tokenizer{part}", None)
        network: Any = getattr(pipeline, f"text_encoder{part}", None)
        added = tokenizer.get_added_vocab() if tokenizer is not None else {}
        tokens = [token for token in added if re.fullmatch(rf"{re.escape(name)}(_\d+)?", token)]
        if name not in tokens:
            continue
        known, trainable = True, network.get_input_embeddings().weight.requires_grad
        pipeline.unload_textual_inversion(tokens=tokens, tokenizer=tokenizer, text_encoder=network)
        network.get_input_embeddings().requires_grad_(trainable)
        network.config.vocab_size = network.get_input_embeddings().num_embeddings
    if not known:
        raise InvalidValue(f"the pipeline does not know {name!r}: it was not loaded into it")


def _check_takes_words(pipeline: Any) -> None:
    if not hasattr(pipeline, "load_textual_inversion"):
        kind = type(pipeline).__name__
        raise InvalidValue(
            f"pipeline is a {kind}, which can't load words: give a diffusers pipeline, or model.fresh_pipeline()"
        )


@contextmanager
def _plainly_resized(network: Any) -> Iterator[None]:
    """Within the block new rows of its table start at random, not from the vocabulary's covariance, which is slow: they are
    overwritten at once."""
    network.resize_token_embeddings = partial(network.resize_token_embeddings, mean_resizing=False)
    try:
        yield
    finally:
        del network.resize_token_embeddings


def _places(pipeline: Any, concept: Concept) -> list[tuple[Any, Any, Any]]:
    """For each encoder's vectors the tokenizer and the network they belong to."""
    free = [part for part in PARTS if getattr(pipeline, f"text_encoder{part}", None) is not None]
    out = []
    for key, rows in concept.vectors.items():
        widths = {part: getattr(pipeline, f"text_encoder{part}").get_input_embeddings().embedding_dim for part in free}
        part = next((part for part, width in widths.items() if width == rows.shape[1]), None)
        if part is None:
            has = " and ".join(map(str, widths.values())) or "none left"
            raise InvalidValue(
                f"{concept.word!r} is for {concept.family}, with {key} of width {rows.shape[1]}; this pipeline's text "
                f"encoders have {has}: load it into a pipeline of its family"
            )
        free.remove(part)
        network, tokenizer = getattr(pipeline, f"text_encoder{part}"), getattr(pipeline, f"tokenizer{part}")
        if network.get_input_embeddings().num_embeddings > len(tokenizer):
            raise InvalidValue(
                f"text_encoder{part} has rows beyond its tokenizer's words, which diffusers would cut off"
            )
        out.append((tokenizer, network, rows))
    return out
