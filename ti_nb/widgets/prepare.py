"""`PreparePanel`: load pictures, see what is wrong with them, crop, mask and caption them, choose the word."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import torch
from PIL import Image, ImageOps, ImageStat

from .. import findings
from ..batches import prompts_of_pictures
from ..images import EXAMPLES, ConceptImages, caption_of, decode, example_names, find_pictures, load_images
from ..inject import token_ids
from ..prompts import check_word, fill, init_ids, tokenise, vary_caption
from ..settings import TrainSettings, as_settings
from . import parts

if TYPE_CHECKING:
    from ..evaluate import Judge
    from ..images import Crop, Picture
    from ..models import Model

MASKS = (("off", "off"), ("by threshold", "threshold"), ("from transparency", "alpha"), ("painted only", "painted"))
TILE, LARGE, SMALL = 150, 340, 96  # px: a thumbnail, the picture being edited, a sample

# The single words the embedded model was trained on: what else its tokenizer has, it does not know.
_TINY = """alien ambulance anchor animal automobile avocado backpack banana basketball bear bed bell bicycle bird bomb
    books building butterfly cactus camera candle carrot castle cat chair cherries chicken cloud cookie cow crab creature
    croissant cupcake deer dog dolphin doughnut dress duck eggplant elephant envelope fire fish food fox frog ghost giraffe
    glasses grapes guitar hamburger hammer helicopter honeybee horse house hut jellyfish key koala laptop lemon lion
    locomotive motorcycle mushroom object octopus panda pear pig pineapple pizza plant rabbit rocket rose sailboat scissors
    shark ship sign skull snail snowman star strawberry sun sunflower sushi teapot television tent tomato tractor trophy
    trumpet tulip turtle umbrella unicorn vehicle watermelon zebra"""
TINY_WORDS = _TINY.split()


@dataclass
class Entry:
    """One picture and what was chosen for it; `picture` is upright, `crop` None for the middle.

    Attributes:
        mask: one of `MASKS`' values. strokes: (x, y, radius, white) of the brush, as `findings.paint` takes them.
        base: a mask it came with, which "painted" starts from.
    """

    name: str
    picture: Image.Image
    faults: list[findings.Finding] = field(default_factory=list)
    use: bool = True
    crop: Crop | None = None
    mask: str = "off"
    tolerance: int = 40
    strokes: list[tuple[float, float, float, bool]] = field(default_factory=list)
    base: Image.Image | None = None
    caption: str = ""
    _by_threshold: tuple[int, Image.Image] | None = field(default=None, repr=False)  # of which tolerance, and the mask

    @cached_property
    def small(self) -> Image.Image:
        """A copy in RGB, its longer side at most 2 x `LARGE`."""
        return findings.shrunk(self.picture, 2 * LARGE)

    def square(self) -> Crop:
        """The square to use: (left, top, side) in px."""
        width, height = self.picture.size
        side = min(width, height)
        return self.crop or ((width - side) // 2, (height - side) // 2, side)

    def mask_of(self, picture: Image.Image) -> Image.Image | None:
        """The mask at the size of `picture`, which is this one's or a smaller copy; None where it is off."""
        if self.mask == "off":
            return None
        if self.mask == "threshold":
            if self._by_threshold is None or self._by_threshold[0] != self.tolerance:
                self._by_threshold = (self.tolerance, findings.mask_by_threshold(self.small, self.tolerance))
            out = self._by_threshold[1].resize(picture.size)
        elif self.mask == "alpha":
            out = self.picture.convert("RGBA").getchannel("A").resize(picture.size)
        elif self.base:
            out = self.base.resize(picture.size)
        else:  # erased first: from all, painted first: from nothing
            out = Image.new("L", picture.size, 255 if self.strokes and not self.strokes[0][3] else 0)
        for stroke in self.strokes:
            out = findings.paint(out, *stroke)
        return out


def framed(entry: Entry, *, side: int) -> Image.Image:
    """The picture within `side` px: dark where it is cut off, in reds alone where its mask leaves it out."""
    shown = entry.small.copy()
    shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    mask = entry.mask_of(shown)
    if mask:
        reds = ImageOps.colorize(shown.convert("L"), (70, 0, 20), (255, 130, 150))
        shown = Image.composite(shown, reds, mask)
    k = shown.width / entry.picture.width
    left, top, length = (round(k * value) for value in entry.square())
    inside = Image.new("L", shown.size, 0)
    inside.paste(255, (left, top, left + length, top + length))
    return Image.composite(shown, Image.blend(shown, Image.new("RGB", shown.size, (60, 60, 60)), 0.75), inside)


def padded(picture: Image.Image, side: int) -> Image.Image:
    """In the middle of a clear square of `side` px, so that thumbnails stand in line."""
    out = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    out.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return out


@dataclass(frozen=True)
class Drawn:
    """One sample of a training step: the picture's number, whether mirrored, the prompt, its ids without padding."""

    picture: int
    mirrored: bool
    prompt: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]


def drawn_samples(
    model: Model,
    images: ConceptImages,
    *,
    word: str,
    init: str | None = None,
    step: int = 1,
    settings: TrainSettings | str | None = None,
    **changes: Any,
) -> list[Drawn]:
    """What training's step `step` (from 1) shows the model; the same arguments as `train`, nothing is encoded.

    Raises:
        ValueError: a word, initializer, caption or setting that won't do.
    """
    chosen = as_settings(settings, changes)
    said = prompts_of_pictures(images, chosen, word, len(images) * (2 if images.flip else 1))
    size = model.resolution // model.vae_factor
    shape = (chosen.batch, int(model.vae.config.latent_channels), size, size)
    draw = torch.Generator().manual_seed(chosen.seed)
    for _ in range(step):
        rows, prompts = _one_step(said, chosen, word, shape, len(model.scheduler.alphas_cumprod), draw)
    vectors = chosen.vectors or (max(len(init_ids(init, e.tokenizer)) for e in model.encoders) if init else 1)
    return [_drawn(model, row, prompt, word, vectors, len(images)) for row, prompt in zip(rows, prompts)]


def _one_step(
    said: list[list[str]], settings: TrainSettings, word: str, shape: tuple[int, ...], total: int, draw: torch.Generator
) -> tuple[list[int], list[str]]:
    """The same random numbers in the same order as `batches.Draws.draw`, for which a test stands."""
    rounds = [torch.randperm(len(said), generator=draw) for _ in range(-(-settings.batch // len(said)))]
    rows = torch.cat(rounds)[: settings.batch].tolist()
    for _ in ("latents", "noise"):
        torch.randn(shape, generator=draw)
    settings.draw_timesteps(settings.batch, total, draw)
    picks = [int(torch.randint(len(said[row]), (), generator=draw)) for row in rows]
    prompts = [said[row][pick] for row, pick in zip(rows, picks)]
    return rows, [vary_caption(p, settings.shuffle, settings.dropout, word, draw) for p in prompts]


def _drawn(model: Model, row: int, prompt: str, word: str, vectors: int, count: int) -> Drawn:
    encoder = model.encoders[0]
    ids = token_ids(model, [prompt], {word: vectors})[encoder.key][0].tolist()
    ids = ids[: ids.index(encoder.tokenizer.eos_token_id) + 1]
    own = [word] if vectors == 1 else [f"{word} {i + 1}" for i in range(vectors)]
    names = [own[i - encoder.first] if i >= encoder.first else _said(encoder.tokenizer, i) for i in ids]
    return Drawn(row % count, row >= count, prompt, tuple(ids), tuple(names))


def _said(tokenizer: Any, number: int) -> str:
    """A token as people read it: its end-of-word mark dropped, a "+" where the word goes on."""
    token: str = tokenizer.convert_ids_to_tokens(number)
    if number in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        return "start" if number == tokenizer.bos_token_id else "end"
    return token.removesuffix("</w>") + ("" if token.endswith("</w>") else "+")


def known_words(model: Model, *, most: int = 6000) -> list[str]:
    """Words that are one token of the model: of "tiny" those it was trained on, else the first `most` of three letters on."""
    if model.name == "tiny":
        return list(TINY_WORDS)
    vocabulary = sorted(model.tokenizer.get_vocab().items(), key=lambda item: item[1])
    words = [token.removesuffix("</w>") for token, _ in vocabulary if token.endswith("</w>")]
    return [word for word in words if word.isascii() and word.isalpha() and len(word) > 2][:most]


def embed_words(judge: Judge, words: Sequence[str]) -> torch.Tensor:
    """Unit vectors (n, d) of "a ..." for each word, 256 at a time."""
    said = [f"a {word}" for word in words]
    return torch.cat([judge.embed_texts(said[i : i + 256]) for i in range(0, len(said), 256)])


def suggest_words(
    judge: Judge,
    pictures: Sequence[Image.Image],
    words: Sequence[str],
    *,
    vectors: torch.Tensor | None = None,
    count: int = 5,
) -> list[tuple[str, float]]:
    """The words nearest to the pictures with their mean cosine, best first; `vectors`: `embed_words` of them, to keep."""
    vectors = embed_words(judge, words) if vectors is None else vectors
    near, numbers = (judge.embed_images(pictures) @ vectors.T).mean(0).topk(min(count, len(words)))
    return [(words[int(number)], float(cosine)) for number, cosine in zip(numbers, near)]


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
        if self.model.name == "tiny" and not set(init.lower().split()) <= set(TINY_WORDS):
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
            thumbs = tuple(_thumb(e) for e in used)
            images = ConceptImages(thumbs, tuple(e.name for e in used), flip=self.flip.value, captions=captions)
            drawn = drawn_samples(self.model, images, step=self.step, **self.settings())
        except ValueError as error:
            self.samples.children = []
            return parts.say(self.samples_note, str(error), "error")
        self.samples.children = [_sample(d, thumbs[d.picture], self.model.encoders[0].first) for d in drawn]
        parts.say(
            self.samples_note, f"Training's step {self.step}, exactly as it is drawn (seed {TrainSettings().seed})."
        )


class Editor(widgets.VBox):
    """Crop, mask and caption of one of a panel's pictures, `entry`."""

    def __init__(self, panel: PreparePanel) -> None:
        self.panel = panel
        self.entry: Entry | None = None
        self._quiet = False
        slider = partial(parts.control, widgets.IntSlider, width="25em")
        self.which = parts.control(widgets.Dropdown, "Picture", width="25em", options=[])
        self.shown, self.said = parts.picture(width=LARGE), parts.note()
        self.said.layout.width = f"{LARGE}px"
        self.across = slider("Across (%)", value=50, min=0, max=100)
        self.down = slider("Down (%)", value=50, min=0, max=100)
        self.zoom = slider("Size (%)", value=100, min=10, max=100)
        self.mask = parts.control(widgets.Dropdown, "Mask", width="25em", options=MASKS, value="off")
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
        cropping = parts.column(self.which, self.across, self.down, self.zoom, parts.row(guess, centre))
        masking = parts.column(self.mask, self.tolerance, self.x, self.y, self.radius, parts.row(*brush))
        body = parts.row(parts.column(self.shown, self.said), parts.column(cropping, masking))
        body.layout.align_items = "flex-start"
        self._body = [parts.heading("2. Crop, mask and caption"), body, parts.row(self.caption, self.caption_note)]
        super().__init__([])
        self.which.observe(lambda change: self._open(change["new"]), "value")
        for control in (self.across, self.down, self.zoom):
            control.observe(lambda _: self._moved(), "value")
        for control in (self.mask, self.tolerance, self.caption):
            control.observe(lambda _: self._set(), "value")

    def choose(self, names: Sequence[str], name: str | None = None) -> None:
        """Offer these pictures and open one of them, the first if none is named."""
        self._quiet = True
        self.which.options = list(names)
        self.which.value = (name or names[0]) if names else None
        self._quiet = False
        self.children = self._body if names else []
        self._open(self.which.value)

    def crop(self, square: Crop | None) -> None:
        """Use this square, or the middle."""
        if self.entry:
            self.entry.crop = square
            self._open(self.entry.name)
            self.panel.edited(self.entry)

    def guess(self) -> None:
        """Use the square where the thing seems to be."""
        if self.entry:
            self.crop(findings.guess_crop(self.entry.picture, least=self.panel.size))

    def stroke(self, white: bool) -> None:
        """One round stroke of the brush where its sliders say; a mask that was off is painted from now on."""
        if self.entry:
            self.entry.strokes.append((self.x.value / 100, self.y.value / 100, self.radius.value / 100, white))
            self.entry.mask = "painted" if self.entry.mask == "off" else self.entry.mask
            self._open(self.entry.name)
            self.panel.edited(self.entry)

    def undo(self) -> None:
        """Take the last stroke back."""
        if self.entry and self.entry.strokes:
            self.entry.strokes.pop()
            self._show()
            self.panel.edited(self.entry)

    def _open(self, name: str | None) -> None:
        """Put a picture's values into the controls."""
        if self._quiet:
            return
        self.entry = entry = next((e for e in self.panel.entries if e.name == name), None)
        if entry is None:
            return
        left, top, side = entry.square()
        width, height = entry.picture.size
        self._quiet = True
        self.zoom.value = round(100 * side / min(width, height))
        self.across.value = round(100 * left / (width - side)) if width > side else 50
        self.down.value = round(100 * top / (height - side)) if height > side else 50
        self.mask.value, self.tolerance.value, self.caption.value = entry.mask, entry.tolerance, entry.caption
        self._quiet = False
        self.panel.mark_edited()
        self._show()

    def _moved(self) -> None:
        """The crop's sliders: size in % of the shorter side, place in % of the room there is."""
        if self.entry and not self._quiet:
            width, height = self.entry.picture.size
            side = max(1, round(self.zoom.value / 100 * min(width, height)))
            left, top = (round(s.value / 100 * (n - side)) for s, n in ((self.across, width), (self.down, height)))
            self.entry.crop = (left, top, side)
            self._show()
            self.panel.edited(self.entry)

    def _set(self) -> None:
        if self.entry and not self._quiet:
            self.entry.mask, self.entry.tolerance = self.mask.value, self.tolerance.value
            self.entry.caption = self.caption.value.strip()
            self._show()
            self.panel.edited(self.entry)

    def _show(self) -> None:
        """The picture, and in words what of it is used."""
        assert self.entry
        entry = self.entry
        shown = framed(entry, side=LARGE)
        self.shown.layout.width, self.shown.layout.height = f"{shown.width}px", f"{shown.height}px"
        self.shown.value = parts.as_png(shown)
        left, top, side = entry.square()
        width, height = entry.picture.size
        words = [f"{entry.name}: the square of {side} px at left {left}, top {top} of {width} x {height} px"]
        if side < self.panel.size:
            words.append(f"it will be enlarged to the model's {self.panel.size} px")
        kind, mask = "plain", entry.mask_of(entry.small)
        if mask:
            k = mask.width / width
            inside = mask.crop((round(k * left), round(k * top), round(k * (left + side)), round(k * (top + side))))
            kept = ImageStat.Stat(inside).mean[0] / 255
            words.append(f"the mask keeps {kept:.0%} of the square; what is red here counts little")
            if kept < 0.02:
                kind = "warning"
                words.append("that is next to nothing: change the tolerance, or paint the thing")
        if entry.mask == "alpha" and "A" not in entry.picture.getbands():
            words.append("it has no transparent part: the mask is all white")
        parts.say(self.said, "\n".join(words), kind)
        self.show_caption()

    def show_caption(self) -> None:
        """What the caption says with the word in it, or what is wrong with it."""
        self.panel.check(self.caption_note, self._caption_in_words)

    def _caption_in_words(self) -> tuple[str, str]:
        caption, model, word = self.caption.value.strip(), self.panel.model, self.panel.word.value
        if not caption:
            return "empty: training says its templates", "plain"
        if "{}" not in caption and "{word}" not in caption:
            raise ValueError("write {} where the word goes")
        if not model:
            return f"it says: {fill(caption, word)}", "good"
        for encoder in model.encoders:
            tokenise(fill(caption, word), encoder.tokenizer, {word: [encoder.first]})
        return f"it says: {fill(caption, word)}", "good"


def _list(ids: Sequence[int], tokenizer: Any) -> str:
    """Tokens in words: "2 tokens: teddy 345, bear 67"."""
    named = ", ".join(f"{_said(tokenizer, i)} {i}" for i in ids)
    return f"{len(ids)} token{'s' if len(ids) != 1 else ''}: {named}"


def _thumb(entry: Entry) -> Image.Image:
    """The square to use, small."""
    k = entry.small.width / entry.picture.width
    left, top, side = (k * value for value in entry.square())
    return entry.small.resize((SMALL, SMALL), Image.Resampling.BICUBIC, (left, top, left + side, top + side))


def _sample(drawn: Drawn, thumb: Image.Image, first: int) -> widgets.HBox:
    """A picture beside its prompt and tokens, those from `first` on, which are the word's, in bold."""
    shown = parts.picture(ImageOps.mirror(thumb) if drawn.mirrored else thumb, width=SMALL)
    shown.layout.flex = "0 0 auto"
    tokens = " ".join(_token(name, i, i >= first) for name, i in zip(drawn.tokens, drawn.ids))
    mirrored = " (mirrored)" if drawn.mirrored else ""
    text = widgets.HTML(
        f'<div style="line-height:1.3">{html.escape(drawn.prompt)}{mirrored}</div><div style="line-height:1.9">{tokens}</div>'
    )
    return widgets.HBox([shown, text], layout=widgets.Layout(width="30em", margin="0 8px 4px 0"))


def _token(name: str, number: int, bold: bool) -> str:
    style = (
        "border:1px solid currentColor;border-radius:3px;padding:0 3px;font-size:0.8em;white-space:nowrap;opacity:0.85"
    )
    shown = f"<b>{html.escape(name)}</b>" if bold else html.escape(name)
    return f'<span style="{style}">{shown} {number}</span>'
