"""`Editor`: crop, mask and caption of one of several pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import ipywidgets as widgets
from PIL import ImageStat

from ...errors import InvalidValue, NotPossible
from ...models.tokens import tokenise
from ...pictures import subject
from ...pictures.masks import odd_share
from ...words.prompts import fill
from .. import parts
from .entry import LARGE, MASKS, Entry, Stroke, framed
from .painter import painter

if TYPE_CHECKING:
    from ...models.model import Model
    from ...pictures.picture import Crop


class Editor(widgets.VBox):
    """Crop, mask and caption of one of the `entries`, `entry`.

    Args:
        model: checks captions. size: the model's resolution in px. word: returns the word as it is now.
        on_edit: called with an entry that was changed. on_open: called when another one is edited.
    """

    def __init__(
        self,
        model: Model | None,
        *,
        size: int,
        word: Callable[[], str],
        on_edit: Callable[[Entry], None],
        on_open: Callable[[], None],
    ) -> None:
        self.model, self.size, self.word = model, size, word
        self.on_edit, self.on_open = on_edit, on_open
        self.entries: Sequence[Entry] = ()
        self.entry: Entry | None = None
        self._quiet = False
        slider = partial(parts.control, widgets.IntSlider, width="25em")
        self.painter = painter(
            most=LARGE, on_ready=self.use_hands, on_crop=self._dragged, on_stroke=self._painted, on_undo=self.undo
        )
        self.which = parts.control(widgets.Dropdown, "Picture", width="25em", options=[])
        self.shown, self.said = parts.Shown(), parts.note()
        self.said.layout.width = f"{LARGE}px"
        self.across = slider("Across (%)", value=50, min=0, max=100)
        self.down = slider("Down (%)", value=50, min=0, max=100)
        self.zoom = slider("Size (%)", value=100, min=10, max=100)
        self.mask = parts.control(widgets.Dropdown, "Mask", width="30em", options=MASKS, value="off")
        self.tolerance = slider("Tolerance", value=40, min=1, max=150)
        self.x = slider("Brush across (%)", value=50, min=0, max=100)
        self.y = slider("Brush down (%)", value=50, min=0, max=100)
        self.radius = slider("Brush size (%)", value=10, min=1, max=50)
        self.caption = parts.control(
            widgets.Text, "Caption", width="36em", placeholder="empty for templates, or: {} on a chair"
        )
        self.caption_note = parts.note()
        actions = {
            "Guess the subject": self.guess,
            "Centre": partial(self.crop, None),
            "Add to mask": partial(self.stroke, True),
            "Erase from mask": partial(self.stroke, False),
            "Undo stroke": self.undo,
        }
        self.buttons = {label: parts.button(label, action) for label, action in actions.items()}
        guess, centre, *brush = self.buttons.values()
        cropping = [self.across, self.down, self.zoom]
        masking = [self.tolerance, self.x, self.y, self.radius, parts.row(*brush)]
        self.sliders = widgets.Accordion([parts.column(*cropping, *masking)], selected_index=0)
        self.sliders.set_title(0, "Crop and mask by sliders")
        self._hands = parts.column(*([self.painter] if self.painter else []))
        self._hands.layout.display = "none"  # until a page shows it
        choices = parts.column(self.which, parts.row(guess, centre), self.mask, self.sliders)
        body = parts.row(parts.column(self._hands, self.shown, self.said), choices)
        body.layout.align_items = "flex-start"
        self._body = [parts.heading("2. Crop, mask and caption"), body, parts.row(self.caption, self.caption_note)]
        super().__init__([])
        self.which.observe(lambda change: self._open(change["new"]), "value")
        for control in (self.across, self.down, self.zoom):
            control.observe(lambda _: self._moved(), "value")
        for control in (self.mask, self.tolerance, self.caption):
            control.observe(lambda _: self._set(), "value")

    def choose(self, entries: Sequence[Entry], name: str | None = None) -> None:
        """Offer these pictures and open one of them, the first if none is named."""
        self.entries, names = entries, [e.name for e in entries]
        self._quiet = True
        self.which.options = names
        self.which.value = (name or names[0]) if names else None
        self._quiet = False
        self.children = self._body if names else []
        self._open(self.which.value)

    def reopen(self, entry: Entry) -> None:
        """Show what was changed elsewhere, if it is the one being edited."""
        if entry is self.entry:
            self._open(entry.name)

    def crop(self, square: Crop | None) -> None:
        """Use this square, or with None the centre."""
        if self.entry:
            self.entry.crop = square
            self._open(self.entry.name)
            self.on_edit(self.entry)

    def guess(self) -> None:
        """Use the square around the guessed subject."""
        if self.entry:
            self.crop(subject.guess_square(self.entry.small, self.entry.size, least=self.size))

    def use_hands(self) -> None:
        """The page shows the picture that can be dragged and painted: fold the sliders away."""
        if self._hands.layout.display == "none":
            self._hands.layout.display, self.shown.layout.display, self.sliders.selected_index = "", "none", None

    def stroke(self, white: bool) -> None:
        """Paint or erase one round dot at the brush's sliders."""
        self._painted(Stroke(((self.x.value / 100, self.y.value / 100),), self.radius.value / 100, white))

    def _painted(self, stroke: Stroke) -> None:
        """Add a stroke; a mask that was off becomes "painted"."""
        if self.entry:
            self.entry.strokes.append(stroke)
            self.entry.mask = "painted" if self.entry.mask == "off" else self.entry.mask
            self._open(self.entry.name)
            self.on_edit(self.entry)

    def _dragged(self, square: Crop) -> None:
        if self.entry and square != self.entry.square():
            self.crop(square)

    def undo(self) -> None:
        """Undo the last stroke."""
        if self.entry and self.entry.strokes:
            self.entry.strokes.pop()
            if not self.entry.strokes and self.entry.mask == "painted" and self.entry.base is None:
                self.entry.mask = "off"
            self._open(self.entry.name)
            self.on_edit(self.entry)

    def _open(self, name: str | None) -> None:
        """Show a picture's values in the controls."""
        if self._quiet:
            return
        self.entry = entry = next((e for e in self.entries if e.name == name), None)
        if entry is None:
            return
        left, top, side = entry.square()
        width, height = entry.size
        self._quiet = True
        self.zoom.value = round(100 * side / min(width, height))
        self.across.value = round(100 * left / (width - side)) if width > side else 50
        self.down.value = round(100 * top / (height - side)) if height > side else 50
        self.mask.value, self.tolerance.value, self.caption.value = entry.mask, entry.tolerance, entry.caption
        self._quiet = False
        self.on_open()
        self._show()

    def _moved(self) -> None:
        """Apply the crop's sliders: size in % of the shorter side, position in % of the space left."""
        if self.entry and not self._quiet:
            width, height = self.entry.size
            side = max(1, round(self.zoom.value / 100 * min(width, height)))
            left, top = (round(s.value / 100 * (n - side)) for s, n in ((self.across, width), (self.down, height)))
            self.entry.crop = (left, top, side)
            self._show()
            self.on_edit(self.entry)

    def _set(self) -> None:
        if self.entry and not self._quiet:
            self.entry.mask, self.entry.tolerance = self.mask.value, self.tolerance.value
            self.entry.caption = self.caption.value.strip()
            try:
                self._show()
            except NotPossible as error:  # no OpenCV
                self.entry.mask = "off"
                self._open(self.entry.name)
                parts.say(self.said, str(error), "error")
            self.on_edit(self.entry)

    def _show(self) -> None:
        """Show the picture, and as text which part of it is used."""
        assert self.entry
        entry = self.entry
        shown = framed(entry, side=LARGE)
        self.shown.show(parts.as_png(shown), f"{entry.name}; what is dark is cut off, what is red is outside the mask")
        if self.painter:
            self.painter.show(entry)
        words, odd = mask_in_words(entry)
        parts.say(self.said, "\n".join([*square_in_words(entry, self.size), *words]), "warning" if odd else "plain")
        self.show_caption()

    def show_caption(self) -> None:
        """Show the caption with the word filled in, or what is wrong with it."""
        parts.say_result(self.caption_note, self._caption_in_words)

    def _caption_in_words(self) -> tuple[str, str]:
        caption, model, word = self.caption.value.strip(), self.model, self.word()
        if not caption:
            return "empty: training uses its templates", "plain"
        if "{}" not in caption and "{word}" not in caption:
            raise InvalidValue("write {} where the word goes")
        if not model:
            return f"it says: {fill(caption, word)}", "good"
        for encoder in model.encoders:
            tokenise(fill(caption, word), encoder.tokenizer, {word: [encoder.first]})
        return f"it says: {fill(caption, word)}", "good"


def square_in_words(entry: Entry, size: int) -> list[str]:
    """Which part of a picture is used, and whether it has the model's `size` px."""
    left, top, side = entry.square()
    width, height = entry.size
    square = "all of it," if side == width == height else f"the square of {side} px at left {left}, top {top} of"
    enlarged = [f"it will be enlarged to the model's {size} px"] if side < size else []
    return [f"{entry.name}: {square} {width} x {height} px", *enlarged]


def mask_in_words(entry: Entry) -> tuple[list[str], bool]:
    """How much of the square the mask keeps, what is odd about it, and whether anything is."""
    mask = entry.mask_of(entry.small.size)
    if mask is None:
        return [], False
    k = mask.width / entry.size[0]
    left, top, side = entry.square()
    inside = mask.crop((round(k * left), round(k * top), round(k * (left + side)), round(k * (top + side))))
    kept = ImageStat.Stat(inside).mean[0] / 255
    odd = [text for text in (odd_share(kept), entry.doubt()) if text]
    if entry.mask == "alpha" and entry.opacity is None:
        odd = ["it has no transparent part: the mask is all white"]
    return [f"the mask keeps {kept:.0%} of the square; what is red here counts little", *odd], bool(odd)
