"""The recorder: a pipeline's own call, stopped at its denoiser, says everything the denoiser is told of a prompt.

A word's vectors are written in prompts as characters of the private use area, one each, which no text has: tokenizers learn
to read them as tokens, and the embedding tables look them up among the vectors.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any

from ...errors import NotPossible, TiError

FIRST = 0xF0000  # the character of a word's first vector; there are 65533 after it
AT_ONCE = 8  # characters that a tokenizer learns at once


class _Reached(TiError):
    """The denoiser was called."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__("the denoiser was called")
        self.told = told


def record(pipeline: Any, network: Any, prompts: Sequence[str], arguments: dict[str, Any]) -> dict[str, Any]:
    """What `network`, the pipeline's denoiser, is told for the prompts, by the names of its arguments.

    With gradients on whatever rows stand in the text encoders' tables: `__wrapped__` is the call without `no_grad`.
    """
    signature = inspect.signature(network.forward)

    def stop(*given: Any, **named: Any) -> None:
        raise _Reached(dict(signature.bind(*given, **named).arguments))

    call: Any = type(pipeline).__call__
    network.forward = stop
    try:
        call.__wrapped__(pipeline, prompt=list(prompts), output_type="latent", **arguments)
    except _Reached as reached:
        return reached.told
    finally:
        del network.forward
    raise NotPossible(f"the call of {type(pipeline).__name__} ended without its {type(network).__name__}")


@contextmanager
def quietly() -> Iterator[None]:
    """Within the block no messages of diffusers, such as on guidance that a distilled model does not have."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def twin(pipeline: Any) -> Any:
    """The pipeline with the same networks, but with tokenizers and a scheduler of its own."""
    own = copy(pipeline)
    for part, value in pipeline.components.items():
        if part.startswith("tokenizer") or part == "scheduler":
            setattr(own, part, deepcopy(value))
    own.set_progress_bar_config(disable=True)
    return own


def learn_to_read(tokenizer: Any, count: int) -> int:
    """Let the tokenizer read the characters of `count` vectors, or more, as tokens; returns the first one's id.

    The white space before is part of them, as it is of known words.
    """
    from tokenizers import AddedToken

    known = tokenizer.get_added_vocab()
    if chr(FIRST + count - 1) not in known:
        upto = -(-count // AT_ONCE) * AT_ONCE
        new = [AddedToken(chr(FIRST + i), lstrip=True, normalized=False, special=False) for i in range(upto)]
        tokenizer.add_tokens([token for token in new if token.content not in known])
    return int(tokenizer.convert_tokens_to_ids(chr(FIRST)))


def as_codes(prompt: str, words: dict[str, range], pieces: Iterable[str], length: int) -> list[int]:
    """The characters of a prompt, given in pieces, as numbers, padded with 0; each of `words` as those of its vectors."""
    codes: list[int] = []
    for piece in pieces:
        codes += words[piece] if piece in words else [ord(char) for char in piece if ord(char) < FIRST]
    return codes + [0] * (length - len(codes))


def as_text(codes: Iterable[int]) -> str:
    """The prompt of such numbers."""
    return "".join(chr(code) for code in codes if code)
