"""`PreparePanel`: load pictures, check, crop, mask and caption them, and choose the word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ...errors import InvalidValue
from ...host.arguments import checked
from ...models.denoise import remark_on_photographs
from ...models.tokens import check_word
from ...pictures import faults as findings
from ...pictures import subject
from ...pictures.concept_images import EXAMPLES, ConceptImages, example_names, squared
from ...pictures.folders import MASKS, beside, find_pictures, shown
from ...pictures.masks import NO_OPENCV, has_opencv
from ...pictures.picture import read_photo
from ...training.batches import drawn_samples
from ...training.settings import TrainSettings
from .. import parts
from .editor import Editor
from .entry import Copies, Entry, sample_card, take_beside, thumb
from .helper import Helper
from .thumbnail import NONE_YET, Tile, routine_of, said_of, show_findings
from .word_form import WordForm

if TYPE_CHECKING:
    from ...models.model import Model
    from ...pictures.picture import Picture
    from ...results.judge import Judge


class PreparePanel(parts.Panel):
    """Prepares pictures and settings for training: `ti.train(model, panel.images(), **panel.settings())`.

    Args:
        model: to check words and show training samples; without one only pictures are prepared, for 512 px.
        source: as for `load_images`, or a `ConceptImages`. word, init: the initial values. judge: to suggest words.

    Attributes:
        entries: the pictures with their settings. skipped: (name, reason) of those that could not be used.
        step: the training step whose samples are shown.
    """

    @checked()
    def __init__(
        self,
        model: Model | None = None,
        source: Any = None,
        *,
        word: str = "<my-thing>",
        init: str = "",
        judge: Judge | None = None,
    ) -> None:
        self.model, self.judge = model, judge
        self.size = model.resolution if model else 512
        self.entries: list[Entry] = []
        self.skipped: list[tuple[str, str]] = []
        self.step = 1
        self.buttons: dict[str, widgets.Button] = {}
        self.editor = Editor(
            model, size=self.size, word=lambda: self.word.value, on_edit=self.edited, on_open=self.mark_edited
        )
        ask = WordForm(model, judge, word=word, init=init, pictures=lambda: self.images().images)
        self.word, self.init, self.kind, self.flip, self.word_form = ask.word, ask.init, ask.kind, ask.flip, ask
        for control in (self.kind, self.flip, self.word, self.init):
            control.observe(lambda _: self._changed(), "value")
        self.helper = Helper(lambda: self.entries, noun=lambda: self.init.value, on_done=self._show_pictures)
        super().__init__([*self._loading(), self.editor, self.helper, ask, *self._seeing()])
        if source is not None:
            self.load(source)
        self._changed()

    # -- results -------------------------------------------------------------------------------------------------------

    def images(self) -> ConceptImages:
        """The chosen pictures with their crops, masks and captions.

        Raises:
            ValueError: no picture is chosen, or a caption has no place for the word.
        """
        chosen = [e for e in self.entries if e.use]
        if not chosen:
            raise InvalidValue("no picture is chosen: load some, and tick 'Use this picture'")
        loaded = [squared(e.read(), e.crop, e.mask_of(e.size)) for e in chosen]
        images, masks = zip(*loaded)
        return ConceptImages(
            images,
            tuple(e.name for e in chosen),
            tuple(self.skipped),
            self.flip.value,
            tuple(e.caption for e in chosen) if any(e.caption for e in chosen) else (),
            masks if any(masks) else (),
        )

    def settings(self) -> dict[str, Any]:
        """The word, its initializer (None for random vectors) and the kind of templates, as `train` takes them."""
        return {"word": self.word.value, "init": self.init.value.strip() or None, "templates": self.kind.value}

    # -- pictures ------------------------------------------------------------------------------------------------------

    def load(self, source: Any) -> None:
        """Add pictures, from a source as for `load_images` or a `ConceptImages`; unusable ones are named and left out.

        Raises:
            FileNotFoundError, ValueError: there is no such folder, or no picture in it.
        """
        if isinstance(source, ConceptImages):
            captions = source.captions or [""] * len(source)
            masks = source.masks or [None] * len(source)
            for name, picture, caption, mask in zip(source.names, source.images, captions, masks):
                self._add(name, picture, caption=caption, base=mask, mask="painted" if mask else "off")
            parts.say(self.loaded, said_of(len(source), len(self.entries) - len(source)))
            return self._show_pictures()
        found, skipped = find_pictures(source)
        files = beside(found)
        used = {shown(text) for text, _ in files if text} | ({MASKS} if any(mask for _, mask in files) else set())
        self.add(found, [(name, why) for name, why in skipped if name not in used], files)

    def add(
        self,
        pictures: Iterable[tuple[str, Picture]],
        skipped: Iterable[tuple[str, str]] = (),
        files: Sequence[tuple[Path | None, Path | None]] = (),
    ) -> None:
        """Add (name, picture) pairs, such as an upload, with their caption and mask files.

        Unreadable ones are named and left out.
        """
        left_out, noted, before = list(skipped), [], len(self.entries)
        for number, (name, item) in enumerate(pictures):
            text, mask = files[number] if files else (None, None)
            try:
                self._add(name, item)
            except Exception as error:  # a bad file must not stop the upload
                left_out.append((name, str(error)))
                continue
            noted += take_beside(self.entries[-1], text, mask)
        self.skipped += left_out
        added = len(self.entries) - before
        lines = [said_of(added, before), *noted]
        lines += [
            f"skipped {name}: {reason.removeprefix(name).strip()}" for name, reason in left_out if reason != "hidden"
        ]
        if added and self.model and (remark := remark_on_photographs(self.model, self.images().pixels(self.size))):
            lines.append(remark)
        kind = "error" if not added else "warning" if len(lines) > 1 else "plain"
        parts.say(self.loaded, "\n".join(lines), kind)
        self._show_pictures()

    def clear(self) -> None:
        """Remove all pictures."""
        self.entries, self.skipped = [], []
        parts.say(self.loaded, NONE_YET)
        self._show_pictures()

    def guess_all(self) -> None:
        """Guess each picture's crop."""
        for entry in self.entries:
            entry.crop = subject.guess_square(entry.small, entry.size, least=self.size)
        self._show_pictures()

    def mask_all(self) -> None:
        """Guess each picture's mask, from its crop."""
        if not has_opencv():
            return parts.say(self.loaded, NO_OPENCV, "error")
        for entry in self.entries:
            entry.mask = "guessed"
        self._show_pictures()

    def _add(self, name: str, item: Picture, **chosen: Any) -> None:
        taken = {e.name for e in self.entries}
        name = next(n for n in (name, *(f"{name} ({i})" for i in range(2, 9999))) if n not in taken)
        photo = read_photo(item, name)
        faults = findings.faults_of(photo, size=self.size)
        self.entries.append(Entry(name, item, faults, copies=Copies.of(photo), **chosen))

    def _loading(self) -> list[widgets.Widget]:
        self.upload = widgets.FileUpload(
            accept="image/*,.heic,.heif,.avif", multiple=True, description="Upload pictures"
        )
        self.upload.layout = widgets.Layout(width="auto", min_width="11em")
        self.upload.observe(lambda change: self._take_in(change["new"]), "value")
        self.example = parts.control(widgets.Dropdown, "Example", options=example_names(), value="penguin")
        where = "my-photos/ or /content/drive/MyDrive/..."
        self.folder = parts.control(widgets.Text, "Folder or file", placeholder=where, width="36em")
        self.loaded, self.of_the_set, self.routine = parts.note(NONE_YET), parts.column(), parts.column()
        self._tiles = parts.row()
        self._tiles.layout.align_items = "flex-start"
        use_example = self._button("Use example", lambda: self.load(EXAMPLES / self.example.value / "pictures"))
        return [
            parts.heading("1. Pictures"),
            parts.row(self.upload, self.example, use_example),
            parts.note("Uploads may get lost above 1 MB on Colab, above 10 MB elsewhere: put larger ones in a folder."),
            parts.row(self.folder, self._button("Load folder", self._load_folder)),
            parts.row(
                self._button("Guess all crops", self.guess_all),
                self._button("Guess all masks", self.mask_all),
                self._button("Clear", self.clear),
                self.loaded,
            ),
            self.of_the_set,
            self._tiles,
            self.routine,
        ]

    def _button(self, label: str, on_click: Callable[[], None]) -> widgets.Button:
        self.buttons[label] = parts.button(label, on_click)
        return self.buttons[label]

    def _take_in(self, value: Any) -> None:
        """Add an upload, and empty the button, so that the same file can be uploaded again."""
        if value:
            self.add(parts.uploaded(value))
            parts.empty(self.upload)

    def _load_folder(self) -> None:
        path = self.folder.value.strip()
        try:
            if not path:
                raise InvalidValue("no folder is given: type its path, such as my-photos/")
            self.load(path)
        except (ValueError, OSError) as error:
            parts.say(self.loaded, str(error), "error")

    def _show_pictures(self) -> None:
        names = [e.name for e in self.entries]
        choose = partial(self.editor.choose, self.entries)
        tiles = (
            Tile(e, self._changed, on_edit=partial(choose, e.name), on_caption=self._recaptioned) for e in self.entries
        )
        parts.refill(self._tiles, *tiles)
        before = self.editor.entry
        choose(before.name if before and before.name in names else None)
        self._changed()

    def mark_edited(self) -> None:
        """Mark the thumbnail of the picture being edited."""
        for tile in self._tiles.children:
            tile.mark(tile.entry is self.editor.entry)

    def edited(self, entry: Entry) -> None:
        """Update what shows an edited picture."""
        self._tiles.children[self.entries.index(entry)].refresh()
        show_findings(self.routine, routine_of(self.entries))
        self._show_samples()

    def _recaptioned(self, entry: Entry) -> None:
        self.editor.reopen(entry)
        self._show_samples()

    def _changed(self) -> None:
        """Check the set, the word and the initializer, and update the samples."""
        used = [e for e in self.entries if e.use]
        found = findings.faults_of_set([e.small for e in used], [e.name for e in used]) if used else []
        show_findings(self.of_the_set, found)
        show_findings(self.routine, routine_of(self.entries))
        self.word_form.check()
        self.editor.show_caption()
        self._show_samples()

    # -- what will be seen ---------------------------------------------------------------------------------------------

    def _seeing(self) -> list[widgets.Widget]:
        self.samples = parts.row()
        self.samples_note = parts.note()
        below = parts.row(self._button("Draw others", self.draw_others), self.samples_note)
        return [parts.heading("4. What the model will see"), self.samples, below]

    def draw_others(self) -> None:
        """Show the samples of the next training step."""
        self.step += 1
        self._show_samples()

    def _show_samples(self) -> None:
        if not self.model:
            return parts.say(self.samples_note, "no model is given to show samples for")
        try:
            used = [e for e in self.entries if e.use]
            if not used:
                raise InvalidValue("no picture is chosen: load some, and tick 'Use this picture'")
            for encoder in self.model.encoders:
                check_word(self.word.value, encoder.tokenizer)
            captions = tuple(e.caption for e in used) if any(e.caption for e in used) else ()
            thumbs = tuple(thumb(e) for e in used)
            images = ConceptImages(thumbs, tuple(e.name for e in used), flip=self.flip.value, captions=captions)
            drawn = drawn_samples(self.model, images, step=self.step, **self.settings())
        except ValueError as error:
            parts.refill(self.samples)
            return parts.say(self.samples_note, str(error), "error")
        first = self.model.encoders[0].first
        parts.refill(self.samples, *(sample_card(d, thumbs[d.picture], first) for d in drawn))
        parts.say(
            self.samples_note, f"Training's step {self.step}, exactly as it is drawn (seed {TrainSettings().seed})."
        )
