"""`PreparePanel`: load pictures, see what is wrong with them, crop, mask and caption them, choose the word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import torch
from PIL import ImageOps

from .. import findings
from ..images import EXAMPLES, ConceptImages, example_names, load_images
from ..pictures import caption_of, decode, find_pictures
from ..prompts import check_word, init_ids
from ..seen import drawn_samples, token_in_words
from ..settings import TrainSettings
from ..suggest import embed_words, known_words, suggest_words, tiny_words
from . import parts
from .editor import Editor
from .entry import Entry, framed, padded, sample_card, thumb

if TYPE_CHECKING:
    from PIL import Image

    from ..evaluate import Judge
    from ..models import Model
    from ..pictures import Picture

TILE = 150  # px: a thumbnail


class PreparePanel(widgets.VBox):
    """Pictures in, `images()` and `settings()` out: `ti.train(model, panel.images(), **panel.settings())`.

    Args:
        model: checks words and shows what will be seen; without one only pictures are prepared, for 512 px.
        source: what `load_images` takes, or a `ConceptImages`. word, init: to begin with. judge: to suggest words.

    Attributes:
        entries: the pictures and what was chosen for each. skipped: (name, reason) of what could not be used.
        step: the training step whose samples are shown.
    """

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
        self._vectors: torch.Tensor | None = None
        self._words_of_model: list[str] = []
        self.editor = Editor(self)
        super().__init__([*self._loading(), self.editor, *self._naming(word, init), *self._seeing()])
        if source is not None:
            self.load(source)
        self._changed()

    # -- what comes out ------------------------------------------------------------------------------------------------

    def images(self) -> ConceptImages:
        """The chosen pictures with their crops, masks and captions.

        Raises:
            ValueError: none is chosen, or a caption without a place for the word.
        """
        chosen = [e for e in self.entries if e.use]
        if not chosen:
            raise ValueError("no picture is chosen: load some, and tick 'Use this picture'")
        loaded = load_images(
            [e.picture for e in chosen],
            flip=self.flip.value,
            captions=[e.caption for e in chosen] if any(e.caption for e in chosen) else (),
            masks=[e.mask_of(e.picture) for e in chosen],
            crops=[e.crop for e in chosen],
        )
        return replace(loaded, names=tuple(e.name for e in chosen), skipped=tuple(self.skipped))

    def settings(self) -> dict[str, Any]:
        """The word, its initializer (None for random vectors) and the kind of templates, as `train` takes them."""
        return {"word": self.word.value, "init": self.init.value.strip() or None, "templates": self.kind.value}

    # -- pictures ------------------------------------------------------------------------------------------------------

    def load(self, source: Any) -> None:
        """Add pictures: what `load_images` takes or a `ConceptImages`; what can't be used is named and left out.

        Raises:
            FileNotFoundError, ValueError: no such folder, or nothing that could be a picture.
        """
        if isinstance(source, ConceptImages):
            captions = source.captions or [""] * len(source)
            masks = source.masks or [None] * len(source)
            for name, picture, caption, mask in zip(source.names, source.images, captions, masks):
                self._add(name, picture, caption=caption, base=mask, mask="painted" if mask else "off")
            return self._show_pictures()
        found, skipped = find_pictures(source)
        said = [caption_of(item) if isinstance(item, (str, Path)) else "" for _, item in found]
        with_files = {Path(name).with_suffix(".txt").name for name, _ in found}
        self.add(found, said, [(n, why) for n, why in skipped if n not in with_files])

    def add(
        self,
        pictures: Iterable[tuple[str, Picture]],
        captions: Sequence[str] = (),
        skipped: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Add (name, picture) pairs, such as an upload's; what can't be read is named and left out."""
        left_out, before = list(skipped), len(self.entries)
        for number, (name, item) in enumerate(pictures):
            try:
                self._add(name, decode(item, name), caption=captions[number] if captions else "")
            except (ValueError, OSError) as error:
                left_out.append((name, str(error)))
        self.skipped += left_out
        added = len(self.entries) - before
        lines = [f"{added} picture{'s' if added != 1 else ''} added"]
        lines += [f"skipped {name}: {reason.removeprefix(name).strip()}" for name, reason in left_out]
        parts.say(self.loaded, "\n".join(lines), "plain" if added and not left_out else "warning" if added else "error")
        self._show_pictures()

    def clear(self) -> None:
        """Take all pictures out."""
        self.entries, self.skipped = [], []
        self._sources.children = (self._fresh_upload(), *self._sources.children[1:])
        parts.say(self.loaded, "No pictures yet.")
        self._show_pictures()

    def guess_all(self) -> None:
        """Guess each picture's crop."""
        for entry in self.entries:
            entry.crop = findings.guess_crop(entry.picture, least=self.size)
        self._show_pictures()

    def _add(self, name: str, picture: Image.Image, **chosen: Any) -> None:
        taken = {e.name for e in self.entries}
        name = next(n for n in (name, *(f"{name} ({i})" for i in range(2, 9999))) if n not in taken)
        faults = findings.faults_of(picture, name, size=self.size)
        self.entries.append(Entry(name, ImageOps.exif_transpose(picture), faults, **chosen))

    def _loading(self) -> list[widgets.Widget]:
        self.folder = parts.control(
            widgets.Text, "Folder or file", placeholder="my-photos/ or /content/drive/MyDrive/..."
        )
        self.example = parts.control(widgets.Dropdown, "Example", options=example_names(), value="penguin")
        self.loaded = parts.note("No pictures yet.")
        self.set_note = parts.note()
        self._tiles = parts.row()
        self._tiles.layout.align_items = "flex-start"
        open_folder = parts.button("Load folder", partial(self._try, self._load_folder, self.loaded))
        use_example = parts.button("Use example", lambda: self.load(EXAMPLES / self.example.value / "pictures"))
        self.buttons = {b.description: b for b in (open_folder, use_example, parts.button("Clear", self.clear))}
        guess = self.buttons["Guess all crops"] = parts.button("Guess all crops", self.guess_all)
        self._sources = parts.row(self._fresh_upload(), self.folder, open_folder)
        second = parts.row(self.example, use_example, guess, self.buttons["Clear"])
        return [parts.heading("1. Pictures"), self._sources, second, self.loaded, self._tiles, self.set_note]

    def _fresh_upload(self) -> widgets.FileUpload:
        """A new one, as ipywidgets 7 can't empty it and the same file chosen twice is no change."""
        self.upload = widgets.FileUpload(accept="image/*", multiple=True, description="Upload pictures")
        self.upload.layout = widgets.Layout(width="auto", min_width="11em")
        self.upload.observe(lambda change: self.add(parts.uploaded(change["new"])), "value")
        return self.upload

    def _load_folder(self) -> None:
        if not self.folder.value.strip():
            raise ValueError("no folder is given: type its path, such as my-photos/")
        self.load(self.folder.value.strip())

    def _try(self, action: Callable[[], Any], where: widgets.HTML) -> None:
        """Do it; an error that a user can mend is said in words."""
        try:
            action()
        except (ValueError, OSError) as error:
            parts.say(where, str(error), "error")

    def _show_pictures(self) -> None:
        self._tiles.children = [self._tile(entry) for entry in self.entries]
        names = [e.name for e in self.entries]
        before = self.editor.entry
        self.editor.choose(names, before.name if before and before.name in names else None)
        self._changed()

    def _tile(self, entry: Entry) -> widgets.VBox:
        use = widgets.Checkbox(value=entry.use, description="Use this picture", indent=False)
        use.layout = widgets.Layout(width=f"{TILE}px")

        def switch(change: Any) -> None:
            entry.use = change["new"]
            self._changed()

        use.observe(switch, "value")
        edit = parts.button("Edit", lambda: self.editor.choose([e.name for e in self.entries], entry.name))
        edit.tooltip, edit.layout.align_self = f"Edit {entry.name}", "flex-start"
        body = [parts.picture(width=TILE), parts.note(), parts.note(), use, edit]
        tile = widgets.VBox(body, layout=widgets.Layout(width=f"{TILE + 24}px", margin="2px 6px 8px 0"))
        self._label(tile, entry)
        return tile

    def _label(self, tile: widgets.VBox, entry: Entry) -> None:
        image, name, faults, _, _ = tile.children
        image.value = parts.as_png(padded(framed(entry, side=TILE), TILE))
        parts.say(name, f"{entry.name}\n{entry.picture.width} x {entry.picture.height} px")
        found = [f for f in entry.faults if not (f.kind == "cut" and entry.crop)]
        kind = "warning" if any(f.severity == "warning" for f in found) else "plain"
        parts.say(faults, "\n".join(f.text for f in found) or "nothing to remark", kind)

    def mark_edited(self) -> None:
        """Say at the thumbnails which one is being edited."""
        for entry, tile in zip(self.entries, self._tiles.children):
            tile.children[-1].description = "Editing below" if entry is self.editor.entry else "Edit"

    # -- one picture ---------------------------------------------------------------------------------------------------

    def edited(self, entry: Entry) -> None:
        """Show again a picture that was changed."""
        self._label(self._tiles.children[self.entries.index(entry)], entry)
        self._show_samples()

    # -- the word ------------------------------------------------------------------------------------------------------

    def _naming(self, word: str, init: str) -> list[widgets.Widget]:
        kinds = (("a thing or creature", "object"), ("a style", "style"))
        self.kind = parts.control(widgets.Dropdown, "It is", options=kinds, value="object")
        self.flip = widgets.Checkbox(description="Mirror images too (spoils text, logos and faces)", indent=False)
        self.flip.layout = widgets.Layout(width="26em", margin="2px 2px 2px 1em")
        self.word = parts.control(widgets.Text, "New word", value=word)
        self.init = parts.control(
            widgets.Text, "Start from", value=init, placeholder="a word for its kind, such as toy"
        )
        self.word_note, self.init_note, self.suggested = parts.note(), parts.note(), parts.row()
        for control in (self.kind, self.flip, self.word, self.init):
            control.observe(lambda _: self._changed(), "value")
        rows = [
            parts.row(self.kind, self.flip),
            parts.row(self.word, self.word_note),
            parts.row(self.init, self.init_note),
        ]
        if self.judge and self.model:
            suggest = parts.button("Suggest words", partial(self._try, self._suggest, self.init_note))
            self.buttons["Suggest words"] = suggest
            rows.append(parts.row(suggest, self.suggested))
        return [parts.heading("3. The word"), *rows]

    def _suggest(self) -> None:
        """Buttons of words that fit the chosen pictures, of which one can become the initializer."""
        assert self.model and self.judge
        pictures = self.images().images
        if self._vectors is None:
            self._words_of_model = known_words(self.model)
            self._vectors = embed_words(self.judge, self._words_of_model)
        found = suggest_words(self.judge, pictures, self._words_of_model, vectors=self._vectors)
        say = partial(self.init.set_trait, "value")
        self.suggested.children = [parts.button(f"{word} ({cosine:.2f})", partial(say, word)) for word, cosine in found]

    def _changed(self) -> None:
        """Check the word and the initializer, and show what follows."""
        used = [e for e in self.entries if e.use]
        found = findings.faults_of_set([e.small for e in used], [e.name for e in used]) if used else []
        warn = any(f.severity == "warning" for f in found)
        parts.say(self.set_note, "\n".join(f.text for f in found), "warning" if warn else "plain")
        self.check(self.word_note, self._word_in_words)
        self.check(self.init_note, self._init_in_words)
        self.editor.show_caption()
        self._show_samples()

    def check(self, where: widgets.HTML, text: Callable[[], tuple[str, str]]) -> None:
        """Say what `text` gives, (words, kind), or the error it raises."""
        try:
            parts.say(where, *text())
        except ValueError as error:
            parts.say(where, str(error), "error")

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
            return f"{_list(ids, tokenizer)}; not among the words that tiny was trained on", "warning"
        return f"{_list(ids, tokenizer)}{'' if len(ids) == 1 else '; one vector starts from their mean'}", "good"

    # -- what will be seen ---------------------------------------------------------------------------------------------

    def _seeing(self) -> list[widgets.Widget]:
        self.samples = parts.row()
        self.samples_note = parts.note()
        self.buttons["Draw others"] = parts.button("Draw others", self.draw_others)
        below = parts.row(self.buttons["Draw others"], self.samples_note)
        return [parts.heading("4. What the model will see"), self.samples, below]

    def draw_others(self) -> None:
        """Show the next training step's samples."""
        self.step += 1
        self._show_samples()

    def _show_samples(self) -> None:
        if not self.model:
            return parts.say(self.samples_note, "no model is given to show its samples with")
        try:
            used = [e for e in self.entries if e.use]
            if not used:
                raise ValueError("no picture is chosen: load some, and tick 'Use this picture'")
            for encoder in self.model.encoders:
                check_word(self.word.value, encoder.tokenizer)
            captions = tuple(e.caption for e in used) if any(e.caption for e in used) else ()
            thumbs = tuple(thumb(e) for e in used)
            images = ConceptImages(thumbs, tuple(e.name for e in used), flip=self.flip.value, captions=captions)
            drawn = drawn_samples(self.model, images, step=self.step, **self.settings())
        except ValueError as error:
            self.samples.children = []
            return parts.say(self.samples_note, str(error), "error")
        self.samples.children = [sample_card(d, thumbs[d.picture], self.model.encoders[0].first) for d in drawn]
        parts.say(
            self.samples_note, f"Training's step {self.step}, exactly as it is drawn (seed {TrainSettings().seed})."
        )


def _list(ids: Sequence[int], tokenizer: Any) -> str:
    """Tokens in words: "2 tokens: teddy 345, bear 67"."""
    named = ", ".join(f"{token_in_words(tokenizer, i)} {i}" for i in ids)
    return f"{len(ids)} token{'s' if len(ids) != 1 else ''}: {named}"
