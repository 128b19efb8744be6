"""The panel without a kernel: values are set, buttons clicked, and what it says and gives is what the functions give."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from PIL import Image

import ti_nb as ti
from ti_nb.pictures import masks, subject
from ti_nb.pictures.concept_images import EXAMPLES
from ti_nb.pictures.faults import Finding
from ti_nb.results.measures import embed_words, known_words, suggest_words, tiny_words
from ti_nb.training.batches import Draws, drawn_samples
from ti_nb.widgets import parts
from ti_nb.widgets.prepare import helper, painter
from ti_nb.widgets.prepare import panel as panel_module
from ti_nb.widgets.prepare.entry import Entry, framed, thumb
from ti_nb.widgets.prepare.panel import PreparePanel
from tools.tiny_model import world

pytestmark = pytest.mark.slow

PENGUIN = EXAMPLES / "penguin" / "pictures"


@pytest.fixture
def panel(model: ti.Model) -> PreparePanel:
    return PreparePanel(model, PENGUIN, word="<my-penguin>", init="bird")


@pytest.fixture(scope="module")
def judge() -> ti.Judge:
    return ti.load_judge("tiny")


def png(colour: str = "red", size: tuple[int, int] = (80, 64)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def upload(panel: PreparePanel, files: dict[str, bytes]) -> None:
    """What the browser sends, in the shape of the ipywidgets that is installed."""
    facts = [{"name": name, "type": "", "size": len(data), "lastModified": 0} for name, data in files.items()]
    if widgets.__version__.startswith("7."):
        counter = panel.upload._counter + len(files)
        data = [memoryview(data) for data in files.values()]
        panel.upload.set_state({"metadata": facts, "data": data, "_counter": counter})
    else:
        contents = [{"content": memoryview(data), "last_modified": 0} for data in files.values()]
        panel.upload.set_state({"value": [{**fact, **content} for fact, content in zip(facts, contents)]})


def counted(panel: PreparePanel) -> int:
    """The number that the browser puts on the upload's button."""
    return panel.upload._counter if widgets.__version__.startswith("7.") else len(panel.upload.value)


def walk(widget: widgets.Widget) -> list[widgets.Widget]:
    return [widget, *(w for child in getattr(widget, "children", ()) for w in walk(child))]


def said_in(column: widgets.VBox) -> list[str]:
    return [note.value for note in column.children]


def two_tone() -> Image.Image:
    """White at the left, a red square at the right, 200 x 100."""
    picture = Image.new("RGB", (200, 100), "white")
    picture.paste((200, 0, 0), (130, 30, 170, 70))
    return picture


def test_a_source_is_loaded_and_given_back_as_load_images_does(panel: PreparePanel) -> None:
    plain, images = ti.load_images(PENGUIN), panel.images()
    assert images.names == plain.names
    assert all(np.array_equal(a, b) for a, b in zip(images.images, plain.images))
    assert (images.captions, images.masks, images.flip) == ((), (), False)
    assert panel.settings() == {"word": "<my-penguin>", "init": "bird", "templates": "object"}


@pytest.mark.slow
def test_what_it_gives_trains(panel: PreparePanel, model: ti.Model) -> None:
    panel.kind.value = "style"
    run = ti.train(model, panel.images(), steps=1, batch=1, **panel.settings())
    assert next(iter(run)).step == 1
    assert run.settings.templates == "style"


def test_both_shapes_of_an_upload_are_read(model: ti.Model) -> None:
    for value in (
        {"a.png": {"metadata": {"name": "a.png"}, "content": png()}},
        ({"name": "a.png", "type": "image/png", "size": 9, "content": memoryview(png())},),
    ):
        panel = PreparePanel(model)
        panel.add(parts.uploaded(value))
        assert panel.images().names == ("a.png",)


def test_an_upload_is_added_and_what_is_no_picture_is_named(panel: PreparePanel) -> None:
    noise = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(noise, "JPEG")
    upload(panel, {"good.png": png(), "text.png": b"hello", "empty.png": b"", "cut.jpg": noise.getvalue()[:900]})
    assert panel.images().names[-1] == "good.png"
    assert [name for name, _ in panel.images().skipped] == ["text.png", "empty.png", "cut.jpg"]
    for name in ("text.png", "empty.png", "cut.jpg"):
        assert name in panel.loaded.value
    assert "Warning" in panel.loaded.value and "1 picture added" in panel.loaded.value
    upload(panel, {"good.png": png("blue")})
    assert panel.images().names[-2:] == ("good.png", "good.png (2)")


def test_an_upload_that_was_taken_in_is_counted_no_more(panel: PreparePanel) -> None:
    button = panel.upload
    upload(panel, {"a.png": png(), "b.png": png("blue")})
    assert counted(panel) == 0 and not button.value and len(panel.images()) == 7
    assert "2 pictures added" in panel.loaded.value
    upload(panel, {"a.png": png()})
    assert counted(panel) == 0 and panel.images().names[-3:] == ("a.png", "b.png", "a.png (2)")
    assert panel.upload is button  # which keeps the keyboard's focus


def test_clear_makes_room_for_the_same_file_again(panel: PreparePanel) -> None:
    upload(panel, {"a.png": png()})
    panel.buttons["Clear"].click()
    with pytest.raises(ValueError, match="no picture is chosen"):
        panel.images()
    assert "No pictures yet" in panel.loaded.value and not panel._tiles.children
    upload(panel, {"a.png": png()})
    assert panel.images().names == ("a.png",)


def test_a_folder_and_its_captions_are_loaded(tmp_path: Path, model: ti.Model) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(png())
    (tmp_path / "a.txt").write_text("a {} on a chair")
    (tmp_path / "notes.md").write_text("x")
    panel = PreparePanel(model)
    panel.folder.value = f" {tmp_path} "
    panel.buttons["Load folder"].click()
    assert panel.images().captions == ("a {} on a chair", "")
    assert "notes.md: not a picture" in panel.loaded.value and "a.txt" not in panel.loaded.value


@pytest.mark.parametrize("path", ["", "/nowhere/at/all"])
def test_a_wrong_folder_is_an_error_in_words(panel: PreparePanel, path: str) -> None:
    panel.folder.value = path
    panel.buttons["Load folder"].click()
    assert "Error" in panel.loaded.value
    assert len(panel.images()) == 5


def test_an_example_is_one_click(model: ti.Model) -> None:
    panel = PreparePanel(model)
    panel.example.value = "axe"
    panel.buttons["Use example"].click()
    assert len(panel.images()) == 5


def test_only_ticked_pictures_are_used(panel: PreparePanel) -> None:
    panel._tiles.children[1].use.value = False
    assert panel.images().names == ("1.png", "3.png", "4.png", "5.png")


def test_findings_are_said_beside_their_picture_and_of_the_set(model: ti.Model) -> None:
    panel = PreparePanel(model)
    panel.add([("small.png", png(size=(20, 20))), ("wide.png", png(size=(300, 100)))])
    background, same, few = said_in(panel.of_the_set)
    assert "Warning: wide.png is nearly the same" in same and "Warning: all have" in background
    assert "2 pictures" in few and "Warning" not in few
    small, wide = (tile.faults for tile in panel._tiles.children)
    assert any("20 px" in one and "Warning" in one for one in said_in(small))
    assert any("cuts off 67% of its width" in one for one in said_in(wide))
    panel.add([("good.png", Image.effect_noise((80, 80), 30))])
    assert said_in(panel.of_the_set) == [same]
    (one,) = said_in(panel._tiles.children[2].faults)
    assert "✓ nothing to remark" in one
    panel.add([("little.png", Image.effect_noise((60, 60), 30))])  # a note, which is said below, of all pictures
    assert said_in(panel._tiles.children[3].faults) == []
    assert "little.png" in "".join(said_in(panel.routine))
    panel.editor.choose(panel.entries, "wide.png")
    panel.editor.across.value = 0  # once a crop is chosen, the middle is no matter
    assert "cuts off" not in "".join(said_in(panel._tiles.children[1].faults))


def test_names_are_shown_as_they_are_and_break_where_they_must(model: ti.Model) -> None:
    panel = PreparePanel(model)
    panel.add([("<i>" + "x" * 60 + ".png", png())])
    name = panel._tiles.children[0].name.value
    assert "&lt;i&gt;xxx" in name and "overflow-wrap:anywhere" in name and "80 x 64 px" in name


def test_the_picture_being_edited_is_named_at_its_thumbnail(panel: PreparePanel) -> None:
    panel._tiles.children[2].edit.click()
    assert panel.editor.which.value == "3.png" and panel.editor.entry is panel.entries[2]
    said = [tile.edit.description for tile in panel._tiles.children]
    assert said == ["Edit", "Edit", "Editing below", "Edit", "Edit"]


def test_crop_sliders_cut_the_square_they_say(model: ti.Model) -> None:
    panel = PreparePanel(model, [two_tone()])
    editor = panel.editor
    editor.zoom.value, editor.across.value, editor.down.value = 60, 100, 50
    assert panel.entries[0].crop == (140, 20, 60)
    assert np.array_equal(panel.images()[0], two_tone().crop((140, 20, 200, 80)))
    assert "square of 60 px at left 140, top 20" in editor.said.value
    editor.buttons["Centre"].click()
    assert panel.entries[0].crop is None
    assert "all of it" not in editor.said.value
    assert (editor.zoom.value, editor.across.value) == (100, 50)


def test_the_guess_is_guess_crops(model: ti.Model) -> None:
    panel = PreparePanel(model, [two_tone(), two_tone()])
    panel.editor.buttons["Guess the subject"].click()
    guess = subject.guess_crop(two_tone(), least=model.resolution)
    assert [e.crop for e in panel.entries] == [guess, None]
    panel.buttons["Guess all crops"].click()
    assert [e.crop for e in panel.entries] == [guess, guess]


def test_a_threshold_mask_follows_the_crop_and_is_shown_red(model: ti.Model) -> None:
    panel = PreparePanel(model, [two_tone()])
    panel.editor.mask.value = "threshold"
    panel.editor.across.value = 100
    (mask,) = panel.images().masks
    assert mask is not None and mask.size == (100, 100)
    truth = np.asarray(two_tone().crop((100, 0, 200, 100)))[..., 1] < 100
    kept = np.asarray(mask) > 127
    assert (kept & truth).sum() / (kept | truth).sum() > 0.8
    assert "the mask keeps 1" in panel.editor.said.value  # 16%
    shown = np.asarray(framed(panel.entries[0], side=200)).astype(int)
    assert shown[50, 190, 0] > shown[50, 190, 1] + 50  # masked out: white, reddened
    assert shown[50, 20].max() < 140  # cut off: dark
    assert np.abs(shown[50, 150] - (200, 0, 0)).max() < 5  # kept: as it is


def test_an_empty_mask_is_warned_of(model: ti.Model) -> None:
    panel = PreparePanel(model, [Image.new("RGB", (100, 100), "white")])
    panel.editor.mask.value = "threshold"
    assert "Warning" in panel.editor.said.value and "keeps 0%" in panel.editor.said.value


def test_a_mask_from_transparency(model: ti.Model) -> None:
    alpha = Image.new("L", (200, 100), 0)
    alpha.paste(255, (130, 30, 170, 70))
    panel = PreparePanel(model, [Image.merge("RGBA", (*two_tone().split(), alpha)), two_tone()])
    panel.editor.mask.value = "alpha"
    panel.editor.across.value = 100
    mask, none = panel.images().masks
    assert np.array_equal(mask, alpha.crop((100, 0, 200, 100))) and none is None
    panel.editor.choose(panel.entries, panel.entries[1].name)
    panel.editor.mask.value = "alpha"
    assert "no transparent part" in panel.editor.said.value


def test_the_brush_adds_and_erases_and_undoes(model: ti.Model) -> None:
    panel = PreparePanel(model, [Image.new("RGB", (100, 100), "white")])
    editor = panel.editor
    editor.x.value, editor.y.value, editor.radius.value = 30, 30, 20
    editor.buttons["Add to mask"].click()
    assert editor.mask.value == "painted"
    truth = subject.paint(Image.new("L", (100, 100), 0), 0.3, 0.3, 0.2)
    assert np.array_equal(panel.images().masks[0], truth)
    editor.buttons["Erase from mask"].click()
    assert not np.asarray(panel.images().masks[0]).any()
    editor.buttons["Undo stroke"].click()
    assert np.array_equal(panel.images().masks[0], truth)
    editor.mask.value = "off"
    assert panel.images().masks == ()


def test_erasing_first_starts_from_all(model: ti.Model) -> None:
    panel = PreparePanel(model, [Image.new("RGB", (100, 100), "white")])
    panel.editor.buttons["Erase from mask"].click()
    mask = np.asarray(panel.images().masks[0])
    assert mask[50, 50] == 0 and mask[0, 0] == 255


def test_captions_are_checked_as_they_are_typed(panel: PreparePanel) -> None:
    panel.editor.caption.value = "a {} on a chair"
    assert panel.images().captions == ("a {} on a chair", "", "", "", "")
    assert "a &lt;my-penguin&gt; on a chair" in panel.editor.caption_note.value
    panel.editor.caption.value = "a bird"
    assert "Error" in panel.editor.caption_note.value and "{}" in panel.editor.caption_note.value
    assert "Error" in panel.samples_note.value
    panel.editor.caption.value = "{} " + "red " * 600
    assert "tokens long" in panel.editor.caption_note.value


def test_word_and_initializer_are_checked_as_they_are_typed(panel: PreparePanel) -> None:
    assert "free" in panel.word_form.word_note.value and "1 token: bird" in panel.word_form.init_note.value
    for word, why in (("cat", "already"), ("<x", "only one"), ("My", "capitals"), ("a b", "spaces")):
        panel.word.value = word
        assert "Error" in panel.word_form.word_note.value and why in panel.word_form.word_note.value
    panel.init.value = "teddy bear"
    assert "2 tokens" in panel.word_form.init_note.value and "teddy" in panel.word_form.init_note.value
    panel.init.value = "xylorimba"
    assert "does not know" in panel.word_form.init_note.value
    panel.init.value = ""
    assert "random" in panel.word_form.init_note.value and panel.settings()["init"] is None


def test_a_word_tiny_was_not_trained_on_is_warned_of(panel: PreparePanel) -> None:
    panel.init.value = "penguin"
    assert "Warning" in panel.word_form.init_note.value and "not among" in panel.word_form.init_note.value


def test_tinys_words_are_those_it_was_trained_on_that_are_one_token(model: ti.Model) -> None:
    things = world.training_things()
    words = {w for w in [*map(world.plain, things), *things.values()] if " " not in w}
    one = {w for w in words if len(model.tokenizer(w, add_special_tokens=False).input_ids) == 1}
    assert set(tiny_words()) == one
    assert known_words(model) == tiny_words()


@pytest.mark.slow
def test_suggested_words_fit_pictures_of_known_things(model: ti.Model, judge: ti.Judge) -> None:
    concept = ti.initial_concept(model, "<it>", "umbrella")
    pictures = [s.image for s in ti.sample(model, "a flat drawing of a {}", concept, seeds=3)]
    assert suggest_words(judge, pictures, tiny_words())[0][0] == "umbrella"
    vectors = embed_words(judge, tiny_words())
    cosines = (judge.embed_images(pictures) @ vectors.T).mean(0)
    assert suggest_words(judge, pictures, tiny_words(), vectors=vectors)[0][1] == pytest.approx(float(cosines.max()))


def test_suggestions_become_the_initializer(model: ti.Model, judge: ti.Judge) -> None:
    panel = PreparePanel(model, PENGUIN, judge=judge)
    panel.word_form.suggest_button.click()
    buttons = panel.word_form.suggested.children
    assert len(buttons) == 5
    buttons[1].click()
    assert panel.init.value == buttons[1].description.split()[0]
    empty = PreparePanel(model, judge=judge)
    empty.word_form.suggest_button.click()
    assert "no picture is chosen" in empty.word_form.init_note.value


@pytest.mark.parametrize(("captions", "flip"), [((), False), (("a {} here, red, blue", "", "b {}", "", ""), True)])
def test_samples_are_exactly_those_that_training_draws(
    model: ti.Model, photos: ti.ConceptImages, captions: tuple[str, ...], flip: bool
) -> None:
    images = ti.ConceptImages(photos.images, photos.names, flip=flip, captions=captions)
    changes: dict[str, Any] = dict(batch=7, seed=3, shuffle=True, dropout=0.3)
    draws = Draws(model, images, ti.TrainSettings(**changes), {"<my-penguin>": 1}, 3)
    draws.mean = torch.arange(0.0, len(draws.mean))[:, None, None, None].expand_as(
        draws.mean
    )  # they tell their picture
    draws.std = draws.std * 0
    for step in (1, 2, 3):
        batch = draws.draw()
        shown = drawn_samples(model, images, word="<my-penguin>", init="bird", step=step, **changes)
        ids = batch.ids[model.encoders[0].key].tolist()
        assert [list(s.ids) for s in shown] == [row[: len(s.ids)] for row, s in zip(ids, shown)]
        rows = batch.latents[:, 0, 0, 0].int().tolist()
        assert [s.picture + len(images) * s.mirrored for s in shown] == rows


def test_samples_are_shown_with_their_tokens(panel: PreparePanel, model: ti.Model) -> None:
    first = model.encoders[0].first
    assert len(panel.samples.children) == ti.TrainSettings().batch
    before = [s.children[1].value for s in panel.samples.children]
    for text in before:
        assert f"{first}</span>" in text and "&lt;my-penguin&gt;" in text and "start" in text
    panel.buttons["Draw others"].click()
    assert [s.children[1].value for s in panel.samples.children] != before
    assert "step 2" in panel.samples_note.value
    panel.word.value = "cat"
    assert not panel.samples.children and "already" in panel.samples_note.value


def test_a_prepared_set_goes_in_as_it_came_out(model: ti.Model) -> None:
    panel = PreparePanel(model, [two_tone()])
    panel.editor.mask.value, panel.editor.caption.value, panel.editor.across.value = "threshold", "a {}", 100
    once = panel.images()
    again = PreparePanel(model, once).images()
    assert again.captions == once.captions
    assert np.array_equal(again[0], once[0]) and np.array_equal(again.masks[0], once.masks[0])


def test_without_a_model_pictures_are_prepared() -> None:
    panel = PreparePanel(source=PENGUIN)
    assert len(panel.images()) == 5
    assert "no model" in panel.word_form.word_note.value and "no model" in panel.samples_note.value
    assert "the model 512" in said_in(panel._tiles.children[0].faults)[0]
    panel.editor.caption.value = "a {}"
    assert "it says" in panel.editor.caption_note.value


def test_what_text_boxes_suggest_is_not_cut_off(panel: PreparePanel, model: ti.Model) -> None:
    """A letter is about half an em wide; the label takes its own of the width, the box's padding an em."""
    explore = ti.ExplorePanel(model, ti.initial_concept(model, "<new>", "bird"))
    boxes = [w for one in (panel, explore) for w in walk(one) if isinstance(w, (widgets.Text, widgets.Textarea))]
    suggested = {w.placeholder: w for w in boxes if w.placeholder.strip("\u200b")}
    assert len(suggested) == 6
    for text, box in suggested.items():
        room = float(box.layout.width.removesuffix("em")) - float(parts.LABEL.removesuffix("em")) - 1
        assert 0.55 * len(text) <= room, text


def test_every_control_has_a_label_in_words_and_nothing_prints(
    panel: PreparePanel, capsys: pytest.CaptureFixture[str]
) -> None:
    every = walk(panel)
    assert not any(isinstance(w, widgets.Output) for w in every)
    controls = [w for w in every if hasattr(w, "description") and not isinstance(w, (widgets.HTML, widgets.Image))]
    assert len(controls) > 25
    assert all(any(letter.isalpha() for letter in w.description) for w in controls)
    for widget in controls:
        if isinstance(widget, widgets.Button) and widget.description != "Clear":
            widget.click()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [ti.PreparePanel, ti.TrainPanel, ti.ExplorePanel, ti.PublishPanel])
def test_a_saved_notebook_says_in_words_where_a_panel_was(kind: type) -> None:
    said = repr(kind.__new__(kind))
    assert said == f"{kind.__name__}: its buttons and pictures show while the notebook runs; run this cell"
    assert len(said) <= 110  # ipywidgets cuts it there


@pytest.mark.parametrize(
    "size", [(6000, 4000), (3000, 2000), (1200, 800), (2048, 1365), (900, 400), (800, 1200), (64, 64)]
)
def test_the_samples_of_photographs_of_any_shape_are_shown(size: tuple[int, int]) -> None:
    assert thumb(Entry("photo", Image.new("RGB", size, "blue"))).getpixel((95, 95)) == (0, 0, 255)


def test_a_prepared_folder_comes_back_with_its_masks(model: ti.Model, tmp_path: Path) -> None:
    mask = Image.new("L", (100, 100), 0)
    mask.paste(255, (20, 20, 60, 60))
    pictures = ti.load_images([Image.new("RGB", (100, 100), c) for c in ("red", "blue")], masks=[None, mask])
    panel = PreparePanel(model, ti.save_images(pictures, tmp_path / "prepared"), init="penguin")
    assert panel.skipped == []
    kept = panel.images().masks
    assert kept[0] is None and kept[1] is not None and kept[1].tobytes() == mask.tobytes()


def test_what_is_no_longer_shown_is_closed(panel: PreparePanel) -> None:
    def within(widget: widgets.Widget) -> list[widgets.Widget]:
        return [widget, *(one for child in getattr(widget, "children", ()) for one in within(child))]

    old = [*within(panel.samples)[1:], *within(panel._tiles)[1:]]
    assert len(old) > 20
    panel.draw_others()
    panel.guess_all()
    shown = within(panel)
    assert all(one.comm is None for one in old if one not in shown)
    assert not [one for one in shown if one.comm is None and one.comm is not panel.comm]


def test_what_an_upload_joins_is_said_and_pictures_are_never_said_to_be_missing(
    model: ti.Model, photos: ti.ConceptImages
) -> None:
    panel = PreparePanel(model, photos)
    assert "5 pictures added" in panel.loaded.value and "No pictures" not in panel.loaded.value
    upload(panel, {"mine.png": png()})
    assert "1 picture added to the 5 that were here; to begin anew, press Clear first" in panel.loaded.value
    panel.buttons["Clear"].click()
    upload(panel, {"mine.png": png()})
    assert "1 picture added" in panel.loaded.value and "that were here" not in panel.loaded.value


def test_what_needs_no_decision_is_one_line_for_all_pictures(model: ti.Model) -> None:
    noise = Image.effect_noise((80, 60), 90)
    panel = PreparePanel(model, [noise, noise.rotate(90), noise.rotate(180)])
    for entry in panel.entries:
        entry.faults = [
            Finding(entry.name, "gps", "it says where"),
            Finding(entry.name, "dark", "it is dark", "warning"),
        ]
    panel.edited(panel.entries[0])
    (one,) = said_in(panel.routine)
    assert "3 pictures (picture 1, picture 2, picture 3): it says where" in one and "Warning" not in one
    assert len(said_in(panel._tiles.children[0].faults)) == 1
    assert "it is dark" in said_in(panel._tiles.children[0].faults)[0]


def test_masks_are_guessed_from_the_crops_and_their_share_is_said(model: ti.Model) -> None:
    pytest.importorskip("cv2")
    panel = PreparePanel(model, [two_tone(), two_tone()])
    panel.buttons["Guess all crops"].click()
    panel.buttons["Guess all masks"].click()
    truth = np.asarray(two_tone())[..., 1] < 100
    for entry in panel.entries:
        found = np.asarray(entry.mask_of((200, 100))) > 127
        assert (found & truth).sum() / (found | truth).sum() > 0.8
    assert "the mask keeps" in panel.editor.said.value


def test_without_opencv_guessing_masks_says_what_to_install(
    panel: PreparePanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in (masks, panel_module):
        monkeypatch.setattr(where, "has_opencv", lambda: False)
    panel.editor.mask.value = "guessed"
    assert "pip install opencv-python-headless" in panel.editor.said.value and panel.entries[0].mask == "off"
    panel.buttons["Guess all masks"].click()
    assert "pip install opencv-python-headless" in panel.loaded.value and panel.images().masks == ()


def hands(panel: PreparePanel) -> Any:
    pytest.importorskip("anywidget")
    return panel.editor.painter


def test_what_is_dragged_and_painted_in_the_page_is_the_crop_and_the_mask(model: ti.Model) -> None:
    panel = PreparePanel(model, [two_tone()])
    page, entry = hands(panel), panel.entries[0]
    assert panel.editor._hands.layout.display == "none" and panel.editor.sliders.selected_index == 0
    page._handle_custom_msg({"ready": True}, [])
    assert panel.editor._hands.layout.display == "" and panel.editor.sliders.selected_index is None
    page.set_state({"crop": [120, 20, 60]})
    assert entry.crop == (120, 20, 60) and panel.editor.zoom.value == 60
    page._handle_custom_msg({"stroke": [[0.2, 0.5], [0.6, 0.5]], "radius": 0.1, "white": True}, [])
    mask = np.asarray(entry.mask_of((200, 100)))
    assert mask[50, 45:115].min() == 255 and mask[:35].max() == 0 and not mask[50, 140:].any()
    shown = Image.open(io.BytesIO(page.mask))
    assert shown.getchannel("A").getpixel((shown.width // 2, shown.height // 2)) == 255
    page._handle_custom_msg({"undo": True}, [])
    assert entry.mask == "off" and page.mask == b""


def test_what_the_page_is_sent_is_a_thumbnail(model: ti.Model) -> None:
    panel = PreparePanel(model, [Image.effect_noise((3000, 2000), 60)])
    page = hands(panel)
    assert max(Image.open(io.BytesIO(page.picture)).size) == 680 and page.size == [3000, 2000]
    before = page.picture
    page.set_state({"crop": [0, 0, 1000]})
    assert page.picture is before and len(before) < 400_000


def test_a_stroke_out_of_all_measure_stays_within_its_limits(model: ti.Model) -> None:
    panel = PreparePanel(model, [two_tone()])
    hands(panel)._handle_custom_msg({"stroke": [[-5, 99]] * 9000, "radius": 70, "white": True}, [])
    (stroke,) = panel.entries[0].strokes
    assert len(stroke.points) == 5000 and stroke.points[0] == (0, 1) and stroke.radius == 1


def test_without_anywidget_the_sliders_are_there(model: ti.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painter, "_kind", lambda: None)
    editor = PreparePanel(model, [two_tone()]).editor
    assert editor.painter is None and editor.sliders.selected_index == 0
    editor.across.value = 100
    assert editor.entry is not None and editor.entry.crop == (100, 0, 100)


def test_captions_by_a_model_are_asked_first_and_can_be_edited_beside_each_picture(
    panel: PreparePanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    facts = ti.ModelFacts("someone/captions", "image-to-text", 5000, "mit", "https://example.org/someone/captions")
    monkeypatch.setattr(helper, "about_model", lambda name: facts)
    monkeypatch.setattr(helper, "load_captioner", lambda name, fetch: asked.append((name, fetch)) or describe)
    describe = lambda picture: "a blue bird on a beach"  # noqa: E731
    form = panel.helper
    assert form.use.disabled
    form.name.value = "someone/captions"
    form.look.click()
    assert "5 kB from https://example.org/someone/captions, licence mit" in form.said.value and not form.use.disabled
    assert asked == []
    form.name.value = "someone/else"
    assert form.use.disabled  # of this one nothing was said yet
    form.name.value = "someone/captions"
    form.look.click()
    form.use.click()
    assert asked == [("someone/captions", True)]
    assert panel.images().captions == ("a blue {} on a beach",) * 5
    assert "1.png: will not be learned: blue, on a beach" in form.said.value
    panel._tiles.children[0].caption.value = "a {} on a beach"
    assert panel.images().captions[0] == "a {} on a beach" == panel.editor.caption.value
    panel.editor.caption.value = "the {}"
    assert panel._tiles.children[0].caption.value == "the {}"


def test_masks_by_a_model_are_those_it_gives(panel: PreparePanel, monkeypatch: pytest.MonkeyPatch) -> None:
    left = Image.new("L", (64, 64), 0)
    left.paste(255, (0, 0, 32, 64))
    monkeypatch.setattr(helper, "about_model", lambda name: "a folder")
    monkeypatch.setattr(helper, "load_segmenter", lambda name, fetch: lambda picture: left)
    panel.helper.what.value = "masks"
    panel.helper.look.click()
    panel.helper.use.click()
    assert all(mask is not None and mask.tobytes() == left.tobytes() for mask in panel.images().masks)
