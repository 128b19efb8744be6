"""The panel draws what its controls say, says what is wrong in words, and does nothing a cell could not do."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Iterator
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pytest
import torch

import ti_nb as ti
from ti_nb.host import turns
from ti_nb.results.drawing.png_settings import read_settings
from ti_nb.widgets.explore import panel as explore
from ti_nb.widgets.explore.controls import COMPARISONS
from ti_nb.widgets.explore.panel import MAX_EARLIER, ExplorePanel
from ti_nb.widgets.explore.typed import count_tokens, read_numbers, read_seeds, unknown_words
from ti_nb.widgets.parts import enlarged
from ti_nb.words.edit import adjust

from .families import pipeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "error::DeprecationWarning",
        "error::UserWarning:ipywidgets",
        "ignore:The `ipykernel.comm.Comm` class has been deprecated",  # of ipywidgets 7 on ipykernel 7
        "ignore:Deprecated in traitlets 4.1",  # of ipywidgets 7's `add_traits`, which anywidget calls
    ),
]


@pytest.fixture(scope="module")
def model() -> ti.Model:
    """Of random weights: what it draws does not matter here, only that each drawing is its own."""
    return ti.from_pipeline(pipeline("sd1"))


def learned(model: ti.Model, word: str = "<new>", init: str = "penguin", vectors: int = 1) -> ti.Concept:
    """Not trained, but far enough from its initializer."""
    start = ti.initial_concept(model, word, init, vectors)
    rows = start.vectors["clip_l"]
    return ti.Concept(word, {"clip_l": 2 * rows + rows.roll(1, -1)}, {**start.facts, "steps": 5})


@pytest.fixture
def panel(model: ti.Model, tmp_path: Path) -> ExplorePanel:
    made = ExplorePanel(model, learned(model), out=tmp_path / "out")
    made.seeds.value, made.steps.value = "3, 5", 2
    return made


def words(widget: widgets.Widget) -> Iterator[str]:
    """All text of a widget and those in it."""
    for name in ("value", "description"):
        if isinstance(getattr(widget, name, None), str):
            yield getattr(widget, name)
    for child in getattr(widget, "children", ()):
        yield from words(child)


def pictures(panel: ExplorePanel) -> list[bytes]:
    def within(widget: widgets.Widget) -> Iterator[bytes]:
        if isinstance(widget, widgets.Image):
            yield widget.value
        for child in getattr(widget, "children", ()):
            yield from within(child)

    return list(within(panel.grid))


def same(a: ti.Sample, b: ti.Sample) -> bool:
    return np.abs(np.asarray(a.image, int) - np.asarray(b.image, int)).max() <= 1


def test_the_button_and_the_method_draw_what_sample_draws(panel: ExplorePanel, model: ti.Model) -> None:
    panel.prompt.value, panel.negative.value, panel.guidance.value = "a {word} on the beach", "snow", 3.0
    panel.draw_button.click()
    (clicked,) = panel.drawings
    called = panel.draw()
    plain = ti.sample(
        model,
        "a <new> on the beach",
        learned(model),
        seeds=[3, 5],
        steps=2,
        guidance=3.0,
        negative="snow",
        progress=False,
    )
    for drawn in (clicked.samples, called):
        assert [(s.prompt, s.seed, s.steps, s.guidance, s.negative) for s in drawn] == [
            (s.prompt, s.seed, s.steps, s.guidance, s.negative) for s in plain
        ]
        assert all(same(a, b) for a, b in zip(drawn, plain))
    assert "Drawn: 2 of 2 pictures" in panel.status.value


def captions(panel: ExplorePanel) -> list[tuple[str, str]]:
    """What is written under each picture, and what a screen reader says of it."""
    found = [re.fullmatch(r'<div role="img" aria-label="(.*)" style=.*>(.*)</div>', text) for text in words(panel.grid)]
    return [(html.unescape(one[2]), html.unescape(one[1])) for one in found if one]


def test_what_pictures_share_is_said_once_and_what_differs_under_each(panel: ExplorePanel) -> None:
    panel.prompt.value, panel.negative.value, panel.guidance.value = 'a {word} in "rain"', "snow", 3.0
    panel.draw()
    shared = 'a <new> in "rain" · not: snow · steps 2 · guidance 3'
    assert html.escape(shared) in panel.grid.shared.value and panel.grid.shared is panel.grid.children[0]
    assert captions(panel) == [(f"seed {s}", f"{shared} · seed {s}") for s in (3, 5)]
    panel.compare_by.value, panel.values.value, panel.strength.value = "editability", "0, 0.5", 1.5
    panel.seeds.value = "0"
    panel.draw()
    turned = "strength 1.5, editability 0.5 towards 'penguin'"
    assert captions(panel) == [
        ("editability 0 · strength 1.5 · seed 0", f"{shared} · strength 1.5 · seed 0"),
        (f"{turned} · seed 0", f"{shared} · {turned} · seed 0"),
    ]
    panel.compare_by.value, panel.values.value, panel.strength.value = "steps", "1, 2", 1.0
    panel.draw()
    assert html.escape('a <new> in "rain" · not: snow · guidance 3') + "<" in panel.grid.shared.value
    assert [short for short, _ in captions(panel)] == ["steps 1 · seed 0", "steps 2 · seed 0"]
    panel.compare_by.value = "initializer and word"
    panel.draw()
    assert [short for short, _ in captions(panel)] == ["the initializer 'penguin' · seed 0", "word · seed 0"]


def test_where_prompts_differ_each_picture_says_its_own(model: ti.Model) -> None:
    panel = ExplorePanel(model, [learned(model), learned(model, "<two>", "teapot")])
    panel.seeds.value, panel.steps.value, panel.compare_by.value = "0", 1, "concepts"
    panel.draw()
    assert "photo" not in panel.grid.shared.value
    assert [short for short, _ in captions(panel)] == [f"a photo of a {w} · seed 0" for w in ("<new>", "<two>")]


@pytest.mark.parametrize("by", [by for by in COMPARISONS if by != "after_step"])
def test_comparisons_are_rows_on_the_same_seeds(model: ti.Model, by: str) -> None:
    """Each row is what `sample` draws with that one thing changed."""
    one, two = learned(model), learned(model, "<two>", "teapot")
    panel = ExplorePanel(model, [one, two])
    panel.seeds.value, panel.steps.value, panel.strength.value = "0-1", 2, 1.5
    panel.compare_by.value = by
    if by == "steps":
        panel.values.value = "1, 3"
    expected = "Uses &lt;new&gt;, &lt;two&gt;;" if by == "concepts" else "Uses &lt;new&gt;;"
    assert expected in panel.controls.check.value
    samples = panel.draw()
    start = ti.initial_concept(model, "<new>", "penguin")
    base = dict(steps=2, guidance=5.0)
    edited = adjust(one, start, strength=1.5)
    rows = {
        "nothing": [("<new>", edited, base)],
        "initializer and word": [("<new>", start, base), ("<new>", edited, base)],
        "concepts": [("<new>", edited, base), ("<two>", adjust(two, two, strength=1.5), base)],
        "steps": [("<new>", edited, {**base, "steps": n}) for n in (1, 3)],
        "guidance": [("<new>", edited, {**base, "guidance": g}) for g in (1.0, 3.0, 5.0, 8.0)],
        "strength": [("<new>", adjust(one, start, strength=s), base) for s in (0.5, 0.75, 1, 1.5)],
        "editability": [("<new>", adjust(one, start, strength=1.5, editability=e), base) for e in (0, 0.1, 0.2, 0.4)],
        "match_length": [("<new>", adjust(one, start, strength=1.5, match_length=m), base) for m in (0, 0.5, 1)],
    }[by]
    assert [s.seed for s in samples] == [0, 1] * len(rows)
    for i, (word, concept, options) in enumerate(rows):
        plain = ti.sample(model, f"a photo of a {word}", concept, seeds=2, progress=False, **options)
        assert all(same(a, b) for a, b in zip(samples[2 * i : 2 * i + 2], plain)), (by, i)
    assert len(set(pictures(panel))) == len(samples)
    if by != "nothing":
        said = " ".join(words(panel.grid))
        assert "seed 0" in said
        assert all(row.label in said.replace("&lt;", "<").replace("&gt;", ">") for row in panel.drawings[0].rows)


def test_the_prompt_is_checked_while_it_is_typed(panel: ExplorePanel) -> None:
    assert "✓ Uses &lt;new&gt;; 5 of 75 tokens; draws 2 pictures." in panel.controls.check.value
    for typed, answer in {
        "a cat": "does not say &lt;new&gt;",
        "{word} " * 80: "80 tokens; draws",
        "{word} " * 601: "601 tokens long, 600 fit",
        "a {word} and <dog>": "does not know &lt;dog&gt;",
        "a {wrod} {word}": "does not know {wrod}",
        "a {word} with a xylophone": "does not know xylophone",
    }.items():
        panel.prompt.value = typed
        assert answer in panel.controls.check.value, typed
    panel.prompt.value = "a  <new>\n in the snow "
    assert "✓ Uses" in panel.controls.check.value
    panel.negative.value = "cat " * 601
    assert "601 tokens" in panel.controls.check.value
    panel.negative.value, panel.seeds.value = "", "0-"
    assert "Error: seeds" in panel.controls.check.value


def test_what_is_wrong_is_said_in_the_panel_and_raised_in_a_cell(panel: ExplorePanel) -> None:
    for name, value, answer in (
        ("seeds", "one", "whole numbers"),
        ("prompt", "a cat", "does not say"),
        ("seeds", "0-500", "501 pictures"),
    ):
        kept = getattr(panel, name).value
        getattr(panel, name).value = value
        panel.draw_button.click()
        assert "Error" in panel.message.value and answer in panel.message.value
        with pytest.raises(ValueError, match=answer):
            panel.draw()
        getattr(panel, name).value = kept
    panel.save_button.click()
    assert "nothing is drawn yet" in panel.message.value
    assert panel.drawings == []
    panel.draw_button.click()
    assert "Error" not in panel.message.value and len(panel.drawings) == 1


def test_an_error_while_drawing_is_said_and_lets_the_next_draw(
    panel: ExplorePanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("out of <memory>")

    with monkeypatch.context() as patch:
        patch.setattr(explore, "sample", full)
        panel.draw_button.click()
        assert "Error: out of &lt;memory&gt;" in panel.message.value
    assert len(panel.draw()) == 2


def test_one_draws_at_a_time(panel: ExplorePanel) -> None:
    turns.claim("a training run")
    panel.draw_button.click()
    assert "a training run is at work" in panel.message.value
    with pytest.raises(RuntimeError, match="a training run is at work"):
        panel.draw()
    turns.release()
    assert len(panel.draw()) == 2


def test_stop_and_interrupt_keep_what_is_drawn(panel: ExplorePanel, monkeypatch: pytest.MonkeyPatch) -> None:
    panel.seeds.value = "0-11"
    plain = explore.sample

    def then(act: object) -> None:
        def sample(*args: object, **options: object) -> list[ti.Sample]:
            if panel.progress.value == 4:
                act()
            return plain(*args, **options)

        monkeypatch.setattr(explore, "sample", sample)

    def interrupt() -> None:
        raise KeyboardInterrupt

    then(panel.stop_button.click)
    assert len(panel.draw()) == 8
    assert "Stopped: 8 of 12" in panel.status.value
    then(interrupt)
    assert len(panel.draw()) == 4
    assert "Stopped: 4 of 12" in panel.status.value
    monkeypatch.setattr(explore, "sample", plain)
    assert len(panel.draw()) == 12


def seen(panel: ExplorePanel) -> tuple[bool, bool, bool]:
    """Whether Draw and Stop can be pressed, and whether the bar is shown."""
    return not panel.draw_button.disabled, not panel.stop_button.disabled, panel.progress.layout.display != "none"


def test_the_bar_is_there_only_while_it_draws(panel: ExplorePanel, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, during = explore.sample, []

    def sample(*args: object, **options: object) -> list[ti.Sample]:
        during.append(seen(panel))
        return plain(*args, **options)

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    idle, busy_drawing = (True, False, False), (False, True, True)
    assert seen(panel) == idle
    monkeypatch.setattr(explore, "sample", sample)
    panel.draw_button.click()
    panel.draw()
    assert during == [busy_drawing] * 2 and seen(panel) == idle
    assert "Drawn: 2 of 2" in panel.status.value
    monkeypatch.setattr(explore, "sample", full)
    panel.draw_button.click()
    assert seen(panel) == idle and "Stopped: 0 of 2" in panel.status.value
    panel.seeds.value = "none"
    panel.draw_button.click()
    assert seen(panel) == idle


def test_in_an_idle_kernel_every_click_finds_it_drawing_or_ready(
    panel: ExplorePanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clicks come between two turns: one on Draw the moment the last picture is there must draw again."""
    panel.seeds.value, panel.steps.value = "0-7", 1

    async def until_drawn(count: int) -> None:
        while panel.grid.drawing is None or len(panel.grid.drawing.samples) < count:
            await asyncio.sleep(0)

    async def clicks() -> None:
        monkeypatch.setattr(explore, "_idle_loop", asyncio.get_running_loop)
        for _ in range(2):
            panel.draw_button.click()
            panel.draw_button.click()  # a double click draws once
            await until_drawn(4)
            assert seen(panel) == (False, True, True)
            await until_drawn(8)
            assert "Drawn: 8 of 8" in panel.status.value and seen(panel) == (True, False, False)
        panel.draw_button.click()
        await until_drawn(4)
        panel.stop_button.click()
        panel.draw_button.click()  # not before it has stopped
        await panel._task
        assert "Stopped: 4 of 8" in panel.status.value
        panel.draw_button.click()
        await until_drawn(8)

    asyncio.run(clicks())
    assert [len(one.samples) for one in panel.drawings] == [8, 4, 8, 8]
    assert "Error" not in panel.message.value


def test_saved_pictures_say_how_to_draw_them(panel: ExplorePanel, model: ti.Model, tmp_path: Path) -> None:
    panel.compare_by.value, panel.values.value = "editability", "0, 0.5"
    samples = panel.draw()
    panel.save_button.click()
    paths = sorted((tmp_path / "out").iterdir())
    assert "✓ Saved 4 pictures" in panel.message.value and str(tmp_path / "out") in panel.message.value
    assert [read_settings(p) for p in paths] == [s.settings() for s in samples]
    edits = [read_settings(p)["words"]["<new>"]["edits"] for p in paths]
    assert edits == ["", "", *["editability 0.5 towards 'penguin'"] * 2]
    again = adjust(learned(model), ti.initial_concept(model, "<new>", "penguin"), editability=0.5)
    assert same(ti.sample(model, samples[3].prompt, again, seeds=[5], steps=2, progress=False)[0], samples[3])


def test_earlier_drawings_come_back(panel: ExplorePanel) -> None:
    panel.seeds.value, panel.steps.value = "0", 1
    shown = []
    for number in range(MAX_EARLIER + 2):
        panel.seeds.value = str(number)
        panel.draw()
        shown.append(pictures(panel))
    assert len(panel.history.options) == len(panel.drawings) == MAX_EARLIER
    panel.history.value = MAX_EARLIER - 1
    assert pictures(panel) == shown[2]
    panel.history.value = 0
    assert pictures(panel) == shown[-1]
    panel.history.value = 3
    panel.draw()
    assert panel.history.value == 0 and pictures(panel) == shown[-1]


def test_without_an_initializer_only_what_needs_it_is_off(model: ti.Model) -> None:
    unknown = ti.Concept("<new>", learned(model).vectors)
    panel = ExplorePanel(model, unknown)
    assert panel.editability.disabled and "toward=" in panel.controls.editing.value
    off = {"concepts", "editability", "match_length", "initializer and word", "after_step"}
    assert set(COMPARISONS) - set(panel.compare_by.options) == off
    panel.strength.value, panel.steps.value, panel.seeds.value = 0.5, 1, "0"
    assert same(
        panel.draw()[0],
        ti.sample(model, "a photo of a {}", adjust(unknown, unknown, strength=0.5), seeds=1, steps=1, progress=False)[
            0
        ],
    )
    given = ExplorePanel(model, unknown, toward=ti.initial_concept(model, "<x>", "teapot"))
    assert not given.editability.disabled and "teapot" in given.controls.editing.value
    several = ExplorePanel(model, [learned(model), ti.Concept("<two>", unknown.vectors)])
    several.compare_by.value = "editability"
    several.concept.value = "<two>"
    assert several.editability.disabled and several.compare_by.value == "nothing"


def test_a_class_word_can_be_written_for_any_word(model: ti.Model) -> None:
    """As for a downloaded one that says nothing of its beginnings."""
    unknown = ti.Concept("<new>", learned(model, vectors=2).vectors)
    panel = ExplorePanel(model, unknown)
    panel.class_word.value = "teapot"
    assert not panel.editability.disabled and "teapot" in panel.controls.editing.value
    panel.editability.value, panel.match_length.value, panel.strength.value = 0.5, 1.0, 2.0
    teapot = ti.initial_concept(model, "<new>", "teapot", 2)
    turned = adjust(unknown, teapot, strength=2, editability=0.5, match_length=1)
    assert panel.word() == turned
    panel.class_word.value = "qqzzxxjjkk"
    assert "Error" in panel.controls.editing.value and panel.word() == turned
    panel.class_word.value = ""
    assert panel.editability.disabled and panel.word() == adjust(unknown, None, strength=2)


def test_a_run_is_explored_step_by_step(model: ti.Model, photos: ti.ConceptImages, tmp_path: Path) -> None:
    run = ti.train(model, photos, word="<new>", init="penguin", steps=4, batch=1, watch=0, out=tmp_path / "run")
    with pytest.raises(ValueError, match="no steps yet"):
        ExplorePanel(model, run)
    for _ in run:
        pass
    panel = ExplorePanel(model, run)
    assert panel.word() == run.concept()
    panel.after_step.value = 2
    assert panel.word() == run.concept(2)
    assert [row.taken for row in panel.controls.plan().rows] == ["after step 2"]
    panel.seeds.value, panel.steps.value, panel.compare_by.value = "0", 1, "after_step"
    assert panel.values.value == "1, 2, 3, 4"
    panel.values.value = "0, 3"
    samples = panel.draw()
    for sample, step in zip(samples, (0, 3)):
        own = ti.sample(model, "a photo of a {}", run.concept(step), seeds=1, steps=1, progress=False)[0]
        assert same(sample, own)
    panel.values.value = "5"
    assert "after_step is 5: give whole numbers from 0 to 4" in panel.controls.check.value
    saved = ExplorePanel(model, ti.read_run(tmp_path / "run"))
    saved.after_step.value = 1
    assert torch.equal(saved.word().vectors["clip_l"], run.concept(1).vectors["clip_l"])


def test_if_asked_each_change_draws_anew_on_the_same_seeds(panel: ExplorePanel) -> None:
    panel.strength.value = 0.5
    assert panel.drawings == []
    panel.live.value = True
    panel.strength.value = 1.5
    panel.editability.value = 0.25
    assert [one.rows[0].concepts[0].facts.get("edits") for one in panel.drawings] == [
        "strength 1.5, editability 0.25 towards 'penguin'",
        "strength 1.5",
    ]
    assert [s.seed for s in panel.drawings[0].samples] == [3, 5]


def test_a_change_while_it_draws_ends_that_drawing_and_draws_the_newest(
    panel: ExplorePanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel.seeds.value, panel.steps.value = "0-7", 1
    panel.live.value, plain = True, explore.sample

    def sample(*args: object, **options: object) -> list[ti.Sample]:
        if panel.strength.value != 0.5:
            panel.strength.value = 0.5
        return plain(*args, **options)

    monkeypatch.setattr(explore, "sample", sample)
    panel.strength.value = 2.0
    newest, before = panel.drawings
    assert (len(newest.samples), len(before.samples)) == (8, 4)
    assert newest.rows[0].concepts[0].facts["edits"] == "strength 0.5"


def test_wrong_concepts_are_refused(model: ti.Model) -> None:
    one = learned(model)
    with pytest.raises(ValueError, match="no concept"):
        ExplorePanel(model, [])
    with pytest.raises(ValueError, match="share a word"):
        ExplorePanel(model, [one, one])
    with pytest.raises(ValueError, match="width 768"):
        ExplorePanel(model, ti.Concept("<new>", {"clip_l": one.vectors["clip_l"].repeat(1, 16)[:, :768]}))
    with pytest.raises(ValueError, match="toward has 2 vectors and <new> 1"):
        ExplorePanel(model, one, toward=ti.initial_concept(model, "<x>", "teapot", 2))


def test_every_control_has_its_label_in_words(panel: ExplorePanel) -> None:
    def controls(widget: widgets.Widget) -> Iterator[widgets.Widget]:
        kinds = (
            widgets.Text,
            widgets.Textarea,
            widgets.IntSlider,
            widgets.FloatSlider,
            widgets.Dropdown,
            widgets.Button,
        )
        if isinstance(widget, kinds):
            yield widget
        assert not isinstance(widget, widgets.Output)
        for child in getattr(widget, "children", ()):
            yield from controls(child)

    labels = [c.description for c in controls(panel)]
    assert len(labels) == len(set(labels)) >= 12 and all(labels)


def test_small_pictures_grow_by_whole_pixels(panel: ExplorePanel) -> None:
    image = panel.draw()[0].image
    large = enlarged(image)
    assert large.size == (320, 320)
    times = 320 // image.width
    assert np.array_equal(np.asarray(large)[times // 2 :: times, times // 2 :: times], np.asarray(image))
    assert enlarged(image.resize((512, 768))).size == (320, 480)


def test_seeds_and_numbers_are_read() -> None:
    assert read_seeds("0, 1,2") == [0, 1, 2] == read_seeds(" 0-2 ") == read_seeds("0 1 2 1")
    assert read_seeds("7, 3 - 5, 4") == [7, 3, 4, 5]
    for bad in ("", "a", "1.5", "-1", "3-1", "0-9999", "1,,2;", "9" * 30):
        with pytest.raises(ValueError, match="seeds"):
            read_seeds(bad)
    assert read_numbers("5, 15 ,25", "steps", (1, 1000), whole=True) == [5, 15, 25]
    assert read_numbers("0 0.5, .5", "editability", (0, 1)) == [0, 0.5]
    for bad, whole in (("", True), ("x", False), ("1.5", True), ("2", False), ("nan", False)):
        with pytest.raises(ValueError, match=r"write numbers|give"):
            read_numbers(bad, "setting", (0, 1.9), whole=whole)


def test_tokens_are_counted_as_they_are_encoded(model: ti.Model) -> None:
    counts = {"<new>": 3}
    for text in ("", "a <new> in the snow", "<new><new>", "xylophone, <new>!"):
        ids = ti.models.tokens.tokenise(text, model.tokenizer, {"<new>": [9000, 9001, 9002]})
        end = ids.index(model.tokenizer.eos_token_id)
        assert count_tokens(text, model, counts) == end - 1
    assert unknown_words("a <new> & <old>, teapot", model, counts) == ["<old>"]
