"""`WordForm`: the new word, its initializer and its kind, checked while the user types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import torch

from ...models.tokens import check_word, init_ids, token_in_words
from ...results.measures import embed_words, known_words, suggest_words, tiny_words
from .. import parts

if TYPE_CHECKING:
    from PIL import Image

    from ...models.model import Model
    from ...results.judge import Judge


class WordForm(widgets.VBox):
    """The controls `word`, `init`, `kind` and `flip`; with a judge also suggestions of initializers for `pictures()`."""

    def __init__(
        self,
        model: Model | None,
        judge: Judge | None,
        *,
        word: str,
        init: str,
        pictures: Callable[[], Sequence[Image.Image]],
    ) -> None:
        self.model, self.judge, self._pictures = model, judge, pictures
        self._known_words: list[str] = []
        self._vectors: torch.Tensor | None = None
        kinds = (("a thing or creature", "object"), ("a style", "style"))
        self.kind = parts.control(widgets.Dropdown, "It is", options=kinds, value="object")
        self.flip = parts.tick("Mirror images too (spoils text, logos and faces)")
        self.flip.layout.margin = "2px 2px 2px 1em"
        self.word = parts.control(widgets.Text, "New word", value=word)
        self.init = parts.control(widgets.Text, "Start from", value=init, placeholder="its kind, such as bird")
        self.word_note, self.init_note, self.suggested = parts.note(), parts.note(), parts.row()
        rows = [
            parts.heading("3. The word"),
            parts.row(self.kind, self.flip),
            parts.row(self.word, self.word_note),
            parts.row(self.init, self.init_note),
        ]
        if judge and model:
            self.suggest_button = parts.button("Suggest words", self.suggest)
            self.suggest_button.layout.margin = f"2px 2px 2px {parts.LABEL}"
            rows.append(parts.row(self.suggest_button, self.suggested))
        super().__init__(rows)

    def check(self) -> None:
        """Show beside the word and the initializer whether the model can use them."""
        parts.say_result(self.word_note, self._word_in_words)
        parts.say_result(self.init_note, self._init_in_words)

    def suggest(self) -> None:
        """Show buttons with the words that fit the chosen pictures best; a click makes one the initializer."""
        assert self.model and self.judge
        try:
            pictures = self._pictures()
        except ValueError as error:
            return parts.say(self.init_note, str(error), "error")
        if self._vectors is None:
            self._known_words = known_words(self.model)
            self._vectors = embed_words(self.judge, self._known_words)
        suggestions = suggest_words(self.judge, pictures, self._known_words, vectors=self._vectors)
        set_init = partial(self.init.set_trait, "value")
        self.suggested.children = [
            parts.button(f"{word} ({cosine:.2f})", partial(set_init, word)) for word, cosine in suggestions
        ]

    def _word_in_words(self) -> tuple[str, str]:
        if not self.model:
            return "no model is given to check it with", "plain"
        for encoder in self.model.encoders:
            check_word(self.word.value, encoder.tokenizer)
        return "free: the model has no such word yet", "good"

    def _init_in_words(self) -> tuple[str, str]:
        init = self.init.value.strip()
        if not init:
            return "empty: it would start from random vectors; a word for its kind is better", "warning"
        if not self.model:
            return "no model is given to check it with", "plain"
        tokenizer = self.model.tokenizer
        ids = init_ids(init, tokenizer)
        if self.model.name == "tiny" and not set(init.lower().split()) <= set(tiny_words()):
            return f"{_tokens_in_words(ids, tokenizer)}; not among the words that tiny was trained on", "warning"
        return (
            f"{_tokens_in_words(ids, tokenizer)}{'' if len(ids) == 1 else '; one vector starts from their mean'}",
            "good",
        )


def _tokens_in_words(ids: Sequence[int], tokenizer: Any) -> str:
    """Number, text and ids of tokens, such as "2 tokens: teddy 345, bear 67"."""
    named = ", ".join(f"{token_in_words(tokenizer, i)} {i}" for i in ids)
    return f"{len(ids)} token{'s' if len(ids) != 1 else ''}: {named}"
