"""Figures can be read: on light and dark pages, in vector files, by colour-blind people, with labels that keep off each other."""

from __future__ import annotations

import io
import re
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

import ti_nb as ti
from ti_nb.results.plotting import figures
from ti_nb.results.plotting.figures import ACCENT, INK, PAGE_INK, SERIES, NotebookFigure
from ti_nb.results.scores import Measured
from ti_nb.results.selection import Comparison

pytestmark = pytest.mark.slow

RECORDS = [ti.StepRecord(n, 10, 1 / n, 0.1, 0.5, 0.9, float(n), 0.1 * n, 0.2 * n) for n in range(1, 11)]
DARK, WHITE = (0x11 / 255,) * 3, (1.0, 1.0, 1.0)  # Jupyter's dark page


def comparison() -> Comparison:
    """Three words, the first two close to each other."""
    concept = ti.Concept("<x>", {"clip_l": torch.ones(1, 4)})
    samples = tuple(ti.Sample(Image.new("RGB", (4, 4)), f"a <x> {place}", 0) for place in ("here", "there"))
    scores = {"one": (0.50, 0.30), "two": (0.505, 0.301), "three": (0.7, 0.2)}
    measured = {
        name: Measured((s - 0.01, s + 0.01), (p - 0.01, p + 0.01), samples, samples, 0.1, 0.1)
        for name, (s, p) in scores.items()
    }
    start = Measured((0.2, 0.3), (0.31, 0.35), samples, samples, 0.1, 0.1)
    return Comparison(dict.fromkeys(scores, concept), measured, 0.8, start=start)


FIGURES = {
    "loss": lambda: ti.plot_loss(RECORDS, window=3),
    "runs": lambda: ti.plot_runs({"one": RECORDS, "two": RECORDS[:5]}),
    "timesteps": lambda: ti.plot_timesteps([100, 900], [[0.5, 0.4], [0.4, 0.3]], ["cat", "<x>"]),
    "path": lambda: ti.plot_path([torch.tensor([1.0, 3.0])], torch.tensor([2.0, 0.0]), {"owl": torch.ones(2)}),
    "scores": lambda: ti.plot_scores(
        ti.Scores({"initializer": 0.2, "word": 0.5}, {"initializer": 0.3, "word": 0.2}, [], [])
    ),
    "comparison": lambda: ti.plot_comparison(comparison()),
}
each_figure = pytest.mark.parametrize("name", list(FIGURES))


def luminance(colour: Any) -> float:
    """Relative, as WCAG defines it."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Any, other: Any) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@each_figure
def test_its_axes_say_what_they_count(name: str) -> None:
    for axes in [one for one in FIGURES[name]().axes if not one.images]:
        assert axes.get_xlabel()
        assert axes.get_ylabel() or [text.get_text() for text in axes.get_yticklabels()] == ["word", "initializer"]


@pytest.mark.parametrize("name", ["scores", "comparison"])
def test_it_is_written_for_paper_as_vectors_and_its_words_stay_text(name: str, tmp_path: Path) -> None:
    figure = FIGURES[name]()
    for suffix in ("svg", "pdf", "png"):
        figure.savefig(tmp_path / f"curves.{suffix}")
    svg = (tmp_path / "curves.svg").read_text()
    said = {axes.get_xlabel() for axes in figure.axes} - {""}
    assert said <= set(re.findall(r"<text[^>]*>([^<]*)</text>", svg))
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")
    assert Image.open(tmp_path / "curves.png").convert("RGB").getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["loss", "timesteps", "comparison"])
def test_on_a_page_it_has_no_ground_and_an_ink_that_can_be_read_on_both(name: str) -> None:
    figure = FIGURES[name]()
    image = Image.open(io.BytesIO(figure._repr_png_()))
    assert image.mode == "RGBA" and image.getpixel((1, 1))[3] == 0
    pixels = np.asarray(image).reshape(-1, 4)
    opaque = {tuple(int(c) for c in p[:3]) for p in np.unique(pixels[pixels[:, 3] == 255], axis=0)}
    dark, page = (tuple(round(255 * c) for c in to_rgb(colour)) for colour in (INK, PAGE_INK))
    assert page in opaque and dark not in opaque
    assert PAGE_INK not in {
        text.get_color() for text in figure.findobj(matplotlib.text.Text)
    }  # for paper it is dark again


def test_the_ink_and_the_colours_stand_out_on_light_and_dark() -> None:
    assert min(contrast(PAGE_INK, WHITE), contrast(PAGE_INK, DARK)) > 4
    assert contrast(INK, WHITE) > 10
    for colour in (*SERIES, ACCENT):
        assert min(contrast(colour, WHITE), contrast(colour, DARK)) > 2, colour


# Machado et al. 2009, on linear RGB: what the three kinds of dichromats see.
SEEN_BY = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratios = to_xyz @ linear.clip(0, 1) / (to_xyz @ np.ones(3))
    x, y, z = np.where(ratios > 0.008856, np.cbrt(ratios), 7.787 * ratios + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def least_difference(colours: Any, kind: str) -> float:
    def seen(colour: str) -> np.ndarray:
        values = np.array(to_rgb(colour))
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        return lab(np.array(SEEN_BY[kind]) @ linear)

    return min(float(np.linalg.norm(seen(a) - seen(b))) for a, b in combinations(colours, 2))


@pytest.mark.parametrize("kind", SEEN_BY)
def test_colour_blind_people_tell_the_colours_apart(kind: str) -> None:
    assert least_difference(SERIES[:4], kind) > 15
    assert least_difference(("#c44e52", "#55a868", "#8c613c"), "deutan") < 15  # a usual palette's red, green and brown


def test_no_two_curves_differ_in_colour_alone() -> None:
    looks = [figures.series(number) for number in range(6)]
    assert all(a["marker"] != b["marker"] and a["linestyle"] != b["linestyle"] for a, b in combinations(looks, 2))


def test_a_dark_style_of_matplotlib_is_followed() -> None:
    with matplotlib.style.context("dark_background"):
        for shown in (
            ti.plot_loss(RECORDS)._repr_png_(),
            ti.show_images([Image.new("RGB", (8, 8))], ["a"])._repr_jpeg_(),
        ):
            image = Image.open(io.BytesIO(shown)).convert("RGB")
            assert max(image.getpixel((0, 0))) < 5
            assert np.asarray(image).max() > 240  # its words


def test_labels_cover_neither_each_other_nor_a_point_nor_a_curve() -> None:
    draw = np.random.default_rng(0)
    for _ in range(3):
        figure = NotebookFigure(figsize=(6, 4), layout="constrained")
        (axes,) = figures.axes_of(figure)
        spots = draw.uniform(0, 1, (9, 2))
        spots[1] = spots[0] + 0.01  # two in nearly one place
        curve = [(x, 0.5 + 0.3 * np.sin(6 * x)) for x in np.linspace(0, 1, 200)]
        axes.plot(*spots.T, "o")
        axes.plot(*zip(*curve))
        labels = figures.label_points(axes, [(x, y, f"label {i}") for i, (x, y) in enumerate(spots)], avoid=curve)
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in labels]
        assert not [
            1 for a, b in combinations(boxes, 2) if a.overlaps(b.expanded(1 + 4 / b.width, 1))
        ]  # nor do they touch
        dots = axes.transData.transform([*spots.tolist(), *curve])
        assert not [1 for box in boxes for x, y in dots if box.x0 < x < box.x1 and box.y0 < y < box.y1]
        assert all(axes.bbox.x0 - 1 <= box.x0 and box.x1 <= axes.bbox.x1 + 1 for box in boxes)


def test_heads_of_columns_that_stand_side_by_side_do_not_meet() -> None:
    images = [Image.new("RGB", (8, 8))] * 3
    figure = ti.show_grid(
        [images], heads=["a photo of a cat on the beach", "a cat in the snow at night\nseed 3", "short"]
    )
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert all(a.x1 <= b.x0 for a, b in pairwise(boxes))
    alone = ti.show_grid([images], heads=["a photo of a cat on the beach", "", ""]).axes[0].get_title()
    assert alone == "a photo of a cat on the beach"


def test_words_side_by_side_have_a_row_each_under_the_same_prompts() -> None:
    figure = ti.show_comparison(comparison())
    rows = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert rows == ["one", "two", "three"]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["a … here\nseed 0", "a … there\nseed 0"]


def test_equal_values_have_an_interval_of_no_width() -> None:
    """Their mean and its edges may differ by a rounding, and a bar has no negative error."""
    values = {(axis, "word"): [0.1] * 3 for axis in ("subject", "prompt")}
    figure = ti.plot_scores(ti.Scores({"word": 0.3 - 0.2}, {"word": 0.1 + 1e-12}, [], [], values))
    figure.draw_without_rendering()
    shown = [c for axes in figure.axes for c in axes.containers if getattr(c, "errorbar", None)]
    bars = [c.errorbar.lines[2][0].get_segments()[0][:, 0] for c in shown]
    assert len(bars) == 2
    assert all(np.ptp(ends) == pytest.approx(0, abs=1e-9) for ends in bars)


def test_a_score_shows_its_interval_and_who_judged() -> None:
    values = {("subject", "word"): [0.2, 0.4, 0.9, 0.5]}
    scores = ti.Scores({"word": 0.5}, {"word": 0.3}, [], [], values, judges=("dinov2", "siglip2"))
    subject, prompt = ti.plot_scores(scores).axes
    (bars,) = [c for c in subject.containers if hasattr(c, "errorbar") and c.errorbar]
    ends = bars.errorbar.lines[2][0].get_segments()[0][:, 0]
    assert ends.tolist() == pytest.approx(list(scores.interval("subject", "word")))
    assert subject.get_xlim()[1] > ends[1]
    assert [axes.get_xlabel() for axes in (subject, prompt)] == ["cosine, by dinov2", "cosine, by siglip2"]


def test_a_comparison_shows_each_words_point_the_best_coloured_and_the_chosen_a_star() -> None:
    found = comparison()
    axes = next(a for a in ti.plot_comparison(found).axes if not a.images)
    points = {tuple(line.get_xydata()[0]): line for line in axes.lines if line.get_marker() in ("*", "o")}
    expected = {found.point(name)[::-1]: name for name in found.measured}
    assert set(points) == set(expected)
    for spot, name in expected.items():
        assert (points[spot].get_marker() == "*") == (name == found.chosen)
        assert (points[spot].get_color() == ACCENT) == (name in found.front())
    assert {t.get_text() for t in axes.texts} == {"one", "two", "three", "initializer", "real pictures"}


def test_many_words_are_numbered_and_named_below() -> None:
    few = comparison()
    many = {f"way {i}": few.measured["one"] for i in range(12)}
    figure = ti.plot_comparison(Comparison(dict.fromkeys(many, few.concepts["one"]), many, 0.8))
    axes = next(a for a in figure.axes if not a.images)
    assert {t.get_text() for t in axes.texts} == {str(i + 1) for i in range(12)} | {"real pictures"}
    (key,) = figure.subfigs[0].legends
    assert [t.get_text() for t in key.get_texts()] == [f"{i + 1}: way {i}" for i in range(12)]
