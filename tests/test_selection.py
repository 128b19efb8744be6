"""The best step is the best, the front is what nothing beats, and a comparison says what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import ti_nb as ti
from tests.families import pipeline
from ti_nb.results import scores as drawing
from ti_nb.results import selection
from ti_nb.results.scores import Measured
from ti_nb.results.selection import front

from .test_scores import Colours

pytestmark = pytest.mark.slow

PLAN = ti.ScoreProtocol(("a {} here", "a {} there"), 2, subject_seeds=3, steps=1)


@pytest.fixture(scope="module")
def model() -> ti.Model:
    """Of random weights: what it draws does not matter here."""
    return ti.from_pipeline(pipeline("sd1"), name="small")


@pytest.fixture(scope="module")
def pictures() -> ti.ConceptImages:
    return ti.ConceptImages(tuple(Image.new("RGB", (16, 16), (v, 0, 0)) for v in (0, 255)), ("a", "b"))


@pytest.fixture(scope="module")
def run(model: ti.Model, pictures: ti.ConceptImages) -> ti.Run:
    run = ti.train(model, pictures, word="<x>", init="penguin", steps=9, batch=1, watch=3, norm="free")
    for _ in run:
        pass
    return run


def scored(table: dict[int, tuple[float, float]]) -> Any:
    """Stands in for `measure`: what a word scores goes by its number of steps; remembers which were asked for."""
    asked: list[int] = []

    def measure(model: Any, judge: Any, words: dict[str, ti.Concept], *_: Any) -> tuple[dict[str, Measured], tuple]:
        out = {}
        for name, concept in words.items():
            step = int(concept.facts["steps"])
            asked.append(step)
            subject, prompt = table[step]
            spread = (subject - 0.01, subject + 0.01), (prompt - 0.01, prompt + 0.01)
            out[name] = Measured(*spread, (), (), 0.0, 0.0)
        return out, ()

    measure.asked = asked  # type: ignore[attr-defined]
    return measure


# The start is unlike and follows prompts; at 3 it is like and still follows, at 9 it is more like and follows no more.
TABLE = {0: (0.2, 0.4), 1: (0.3, 0.4), 3: (0.7, 0.36), 5: (0.6, 0.3), 7: (0.72, 0.3), 9: (0.75, 0.2)}


def test_the_knee_is_the_largest_product_of_gap_closed_and_prompt_kept(
    model: ti.Model, run: ti.Run, pictures: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = scored(TABLE)
    monkeypatch.setattr(selection, "measure", measure)
    monkeypatch.setattr(selection, "real_fidelity", lambda *_: 1.0)
    scores = ti.score_steps(model, run, Colours(), pictures.images, steps=[9, 1, 3, 5, 7], protocol=PLAN)
    assert measure.asked == [0, 1, 3, 5, 7, 9]
    products = {step: (subject - 0.2) / 0.8 * prompt / 0.4 for step, (subject, prompt) in TABLE.items() if step}
    for step, product in products.items():
        assert scores.product(f"step {step}") == pytest.approx(product)
    assert scores.chosen == "step 3" and scores.step == max(products, key=products.__getitem__)
    assert scores.front() == ["step 1", "step 3", "step 7", "step 9"]  # 3 beats 5 on both axes
    best = run.best(scores)
    assert best == run.concept(3) and best != run.concept(9)
    by_hand = scores.choose(7)
    assert run.best(by_hand) == run.concept(7) and scores.step == 3
    with pytest.raises(ValueError, match="'step 2': there are step 1, step 3"):
        scores.choose(2)


def test_without_a_start_or_real_pictures_the_product_is_of_the_cosines() -> None:
    one = Measured((0.5, 0.7), (0.2, 0.4), (), (), 0.0, 0.0)
    concept = ti.Concept("<x>", {"clip_l": torch.ones(1, 4)})
    for real, start in ((1.0, None), (float("nan"), one)):
        assert ti.Comparison({"a": concept}, {"a": one}, real, start=start).product("a") == pytest.approx(0.6 * 0.3)


def test_the_front_is_what_no_other_beats() -> None:
    points = {"a": (1.0, 1.0), "b": (2.0, 0.5), "c": (0.5, 0.5), "d": (2.0, 0.4), "e": (1.0, 1.0)}
    assert front(points) == ["a", "e", "b"]
    assert front({}) == []


def test_by_default_eight_steps_are_scored_evenly(
    model: ti.Model, pictures: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(selection, "_compared", lambda model, concepts, *_: asked.extend(concepts) or concepts)

    class Long(ti.SavedRun):
        def concept(self, step: int | None = None) -> ti.Concept:
            return ti.Concept("<x>", {"clip_l": torch.ones(1, 4)}, {"steps": step})

    for done, steps in ((160, range(20, 161, 20)), (3, (1, 2, 3))):
        record = ti.StepRecord(1, done, 0.1, 0.1, 0.1, 0.1, 0.1)
        ti.score_steps(model, Long("<x>", {}, [record] * done, {}), Colours(), pictures.images, protocol=PLAN)
        assert asked == [f"step {n}" for n in steps]
        asked.clear()
    with pytest.raises(ValueError, match="no steps to score"):
        ti.score_steps(model, Long("<x>", {}, [], {}), Colours(), pictures.images, protocol=PLAN)


def test_a_gain_still_says_which_step_is_best_unless_asked(run: ti.Run) -> None:
    gains = {r.step: r.gain for r in run.records if r.gain is not None}
    assert run.best() == run.concept(max(gains, key=gains.__getitem__))
    with pytest.raises(ValueError, match=r"scores\.step"):
        run.best("the last")  # type: ignore[arg-type]


class Luminous:
    """Embeds a picture by its mean brightness: what is drawn counts."""

    def embed_images(self, images: Sequence[Image.Image], /) -> torch.Tensor:
        levels = torch.tensor([sum(i.convert("L").resize((1, 1)).getpixel((0, 0)) for _ in (0,)) / 255 for i in images])
        return torch.stack([levels.cos(), levels.sin()], -1)

    def embed_texts(self, texts: Sequence[str], /) -> torch.Tensor:
        return torch.tensor([[0.6, 0.8]]).repeat(len(texts), 1)


@pytest.mark.slow
def test_runs_seeds_words_and_files_stand_side_by_side(
    model: ti.Model, pictures: ti.ConceptImages, run: ti.Run, tmp_path: Path
) -> None:
    """Each is scored as `score` scores it alone; what has not begun is trained; what differs in settings is said."""
    other = ti.train(model, pictures, word="<x>", init="penguin", steps=3, batch=1, watch=0, seed=1, out=tmp_path / "r")
    word = ti.load(ti.save(run.concept(4), tmp_path / "x.safetensors"))
    words = {"nine": run, "three": other, "a file": word}
    found = ti.compare_words(model, words, Luminous(), pictures.images, protocol=PLAN, progress=False)
    assert len(other.records) == 3 and list(found.measured) == ["nine", "three", "a file"]
    alone = ti.score(model, Luminous(), word, run.start, pictures.images, protocol=PLAN, progress=False)
    assert found.point("a file") == pytest.approx((alone.subject_fidelity["word"], alone.prompt_fidelity["word"]))
    assert found.start is not None and found.real == alone.subject_fidelity["real"]
    assert set(found.differences()) == {"steps", "seed", "norm", "watch"}
    assert found.differences()["steps"] == {"nine": 9, "three": 3}
    assert found.records["nine"] == run.records
    saved = ti.read_run(tmp_path / "r")
    again = ti.compare_words(model, [saved, word], Luminous(), pictures.images, protocol=PLAN, progress=False)
    assert again.point("<x>") == pytest.approx(found.point("three"))
    assert "<x> (2)" in again.measured and "→" in str(again) and "<td" in again._repr_html_()


def test_names_say_what_differs(model: ti.Model, pictures: ti.ConceptImages) -> None:
    options = dict(word="<x>", init="penguin", steps=2, batch=1, watch=0)
    runs = ti.train_seeds(model, pictures, seeds=[4, 7], **options)
    assert list(selection.named(runs)) == ["seed 4", "seed 7"]
    assert list(selection.named([runs[0], runs[0]])) == ["<x>", "<x> (2)"]
    other = replace(runs[0].start, word="<y>")
    assert list(selection.named([runs[0], other])) == ["<x>", "<y>"]


def test_wrong_words_are_refused_before_anything_is_trained_or_drawn(
    model: ti.Model, pictures: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing.sampling, "sample", lambda *_, **__: pytest.fail("it drew"))
    fresh = ti.train(model, pictures, word="<x>", init="penguin", steps=2, batch=1, watch=0)
    with pytest.raises(ValueError, match="'second' is of type str"):
        ti.compare_words(model, {"first": fresh, "second": "<y>"}, Colours(), pictures.images, protocol=PLAN)
    with pytest.raises(ValueError, match="no prompts to score"):
        ti.compare_words(model, {"first": fresh}, Colours(), pictures.images)
    assert fresh.records == []
