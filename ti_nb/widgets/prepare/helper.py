"""`Helper`: captions or masks of all pictures by another model, which the user names and says yes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ipywidgets as widgets

from ...pictures.colours import on_background
from ...results.helpers import about_model, caption_for_word, load_captioner, load_segmenter
from .. import parts
from .entry import reduced

if TYPE_CHECKING:
    from .entry import Entry

EXAMPLES = {
    "captions": "Salesforce/blip-image-captioning-base",
    "masks": "facebook/mask2former-swin-tiny-coco-instance",
}


class Helper(widgets.VBox):
    """Asks for a model's name, says what it is, how large and from where, and uses it once that was seen.

    Args:
        entries: returns the pictures. noun: returns the thing's kind, which captions are searched for. on_done: called after.
    """

    def __init__(
        self, entries: Callable[[], Sequence[Entry]], *, noun: Callable[[], str], on_done: Callable[[], None]
    ) -> None:
        self.entries, self.noun, self.on_done = entries, noun, on_done
        self.what = parts.control(widgets.Dropdown, "To make", options=list(EXAMPLES), value="captions")
        self.name = parts.control(widgets.Text, "Model", value=EXAMPLES["captions"], width="36em")
        self.look = parts.button(
            "What is it?", self._look, tooltip="ask the Hub what it is and how large; fetches nothing"
        )
        self.use = parts.button("Fetch and use it", self._use, tooltip="fetch it, if it is not here, and use it")
        self.said = parts.note()
        body = parts.column(self.what, self.name, parts.row(self.look, self.use), self.said)
        self.fold = widgets.Accordion([body], selected_index=None)
        self.fold.set_title(0, "Captions or masks by a model")
        super().__init__([self.fold])
        self.what.observe(self._other, "value")
        self.name.observe(lambda _: self._ask_again(), "value")
        self._ask_again()

    def _other(self, change: dict[str, str]) -> None:
        if self.name.value in ("", *EXAMPLES.values()):
            self.name.value = EXAMPLES[change["new"]]
        self._ask_again()

    def _ask_again(self) -> None:
        self.use.disabled = True
        parts.say(self.said, "Nothing is fetched before you have seen what it is and how large.")

    def _look(self) -> None:
        try:
            parts.say(self.said, str(about_model(self.name.value.strip())))
            self.use.disabled = False
        except (OSError, ValueError) as error:
            parts.say(self.said, str(error), "error")

    def _use(self) -> None:
        make = self._caption if self.what.value == "captions" else self._mask
        parts.say(self.said, "Fetching it, and looking at the pictures ...")
        try:
            lines = make([entry for entry in self.entries() if entry.use])
        except (OSError, RuntimeError, ValueError) as error:
            return parts.say(self.said, str(error), "error")
        self.on_done()
        parts.say(self.said, "\n".join(lines) or "there is no picture", "good" if lines else "warning")

    def _caption(self, entries: Sequence[Entry]) -> list[str]:
        """Caption each picture; says what its word will not learn."""
        describe, lines = load_captioner(self.name.value.strip(), fetch=True), []
        for entry in entries:
            entry.caption, rest = caption_for_word(describe(entry.small), self.noun())
            lines.append(f"{entry.name}: will not be learned: {rest or 'nothing'}")
        return [*lines, "Take out of a caption what belongs to the thing: what a caption says, the word need not mean."]

    def _mask(self, entries: Sequence[Entry]) -> list[str]:
        """Mask each picture by the most salient of the model's segments, or by what is in its crop if that can be asked."""
        cut = load_segmenter(self.name.value.strip(), fetch=True)
        for entry in entries:
            mask = cut(on_background(entry.read().picture, "white"), entry.square())
            entry.base, entry.mask, entry.strokes = reduced(mask), "painted", []
        return [f"{entry.name}: masked" for entry in entries]
