"""Figures show the numbers they are given: their data are compared, not their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ti_nb as ti
from ti_nb.results.look_inside import Attention

RECORDS = [
    ti.StepRecord(
        step=n,
        steps=40,
        loss=1 / n,
        rate=0.1,
        norm=0.5 + 0.01 * n,
        cosine=1 - 0.02 * n,
        seconds=float(n),
        gain=0.1 * n if n % 4 == 0 else None,
        gain_empty=0.3 * n if n % 4 == 0 else None,
    )
    for n in range(1, 13)
]


def lines(axes: Any) -> dict[str, list[list[float]]]:
    """Each line's points, by what the legend calls it."""
    assert [text.get_text() for text in axes.get_legend().get_texts()] == axes.get_legend_handles_labels()[1]
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines if line.get_label()[0] != "_"}


def colour(value: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (value, 0, 0))


def shown(axes: Any) -> int:
    """The colour of the picture in it."""
    return int(np.asarray(axes.images[0].get_array())[0, 0, 0])


def test_a_runs_figures_are_its_records() -> None:
    loss, gain, vector = ti.plot_loss(RECORDS, window=5).axes
    losses = [1 / n for n in range(1, 13)]
    means = [np.mean(losses[max(0, n - 5) : n]) for n in range(1, 13)]
    assert [axes.get_title() for axes in (loss, gain, vector)] == ["loss", "gain", "the vector"]
    assert lines(loss)["each step"] == [[n, 1 / n] for n in range(1, 13)]
    assert np.allclose(lines(loss)["mean of 5"], np.stack([np.arange(1, 13), means], axis=1))
    assert np.allclose(lines(gain)["over the initializer"], [[0, 0], [4, 0.4], [8, 0.8], [12, 1.2]])
    assert np.allclose(lines(gain)["over an empty prompt"], [[4, 1.2], [8, 2.4], [12, 3.6]])
    assert np.allclose(lines(vector)["norm"], [[n, 0.5 + 0.01 * n] for n in range(1, 13)])
    assert np.allclose(lines(vector)["cosine to start"], [[n, 1 - 0.02 * n] for n in range(1, 13)])
    assert all(axes.get_xlim() == (0, 40) for axes in (loss, gain, vector))


def test_a_run_without_records_or_measurements_has_a_figure() -> None:
    assert [len(line) for line in lines(ti.plot_loss([]).axes[0]).values()] == [0, 0]
    assert lines(ti.plot_loss(RECORDS[:2]).axes[1])["over the initializer"] == [[0, 0]]


@pytest.mark.parametrize("real", [0.9, float("nan")])
def test_scores_are_bars_of_their_own_names(real: float) -> None:
    """A single picture has no other real one beside it, and no bar."""
    scores = ti.Scores({"initializer": 0.25, "word": 0.75, "real": real}, {"initializer": -0.125, "word": 0.5}, [], [])
    subject, prompt = ti.plot_scores(scores).axes
    expected = [
        ("subject fidelity", {"initializer": 0.25, "word": 0.75, "real": 0.9}),
        ("prompt fidelity", {"initializer": -0.125, "word": 0.5}),
    ]
    for axes, (title, values) in zip((subject, prompt), expected):
        if real != real:
            values.pop("real", None)
        names = [text.get_text() for text in axes.get_yticklabels()]
        assert axes.get_title() == title
        assert {name: bar.get_width() for name, bar in zip(names, axes.patches)} == values
        assert [text.get_text() for text in axes.texts] == [f"{values[name]:.3f}" for name in names]
        low, high = axes.get_xlim()
        assert low <= min(values.values()) and max(values.values()) < high
        places = [bar.get_y() + bar.get_height() / 2 for bar in axes.patches]
        assert places == pytest.approx(list(axes.get_yticks())) and names[-1] == "initializer"


def test_losses_by_timestep_are_those_that_were_found() -> None:
    losses = torch.tensor([[0.5, 0.25], [0.4, 0.25], [0.25, 0.3]])
    left, right = ti.plot_timesteps([100, 900], losses.tolist(), ["cat", "<one>", "<two>"]).axes
    for name, row in zip(("cat", "<one>", "<two>"), losses.tolist()):
        assert lines(left)[name] == [[100, row[0]], [900, row[1]]]
    assert np.allclose(lines(right)["<one> over cat"], [[100, 20], [900, 0]], atol=1e-4)
    assert np.allclose(lines(right)["<two> over cat"], [[100, 50], [900, -20]], atol=1e-4)


def test_a_comparison_has_a_row_a_prompt_and_the_start_first() -> None:
    prompts = [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    before = [ti.Sample(colour(n), text, seed) for n, (text, seed) in enumerate(prompts)]
    after = [ti.Sample(colour(100 + n), text, seed) for n, (text, seed) in enumerate(prompts)]
    axes = ti.compare(before, after, ("cat", "<new>")).axes
    assert [shown(one) for one in axes] == [0, 1, 100, 101, 2, 3, 102, 103]
    assert [one.get_title() for one in axes] == ["cat", "", "<new>", "", "", "", "", ""]
    assert [one.get_ylabel() for one in axes] == ["a", "", "", "", "b", "", "", ""]
    beside = ti.compare(before, after, ("cat", "<new>"), pictures=[colour(n) for n in (200, 201, 202)]).axes
    assert [shown(one) for one in beside] == [200, 0, 1, 100, 101, 201, 2, 3, 102, 103]
    assert [one.get_title() for one in beside][:5] == ["pictures", "cat", "", "<new>", ""]


def test_pictures_stand_under_their_own_titles() -> None:
    axes = ti.show_images([colour(n) for n in range(3)], ["zero", "one", "two"], columns=2).axes
    assert [(shown(one), one.get_title()) for one in axes if one.images] == [(0, "zero"), (1, "one"), (2, "two")]


def test_attention_is_bright_in_the_tokens_own_column() -> None:
    maps = torch.zeros(2, 2, 2, 2)
    maps[0, 0, 0, 0] = maps[1, 1, 1, 1] = 0.5  # the first picture's first token at the top left, and so on
    images = [Image.new("RGB", (128, 128), "black")] * 2
    axes = ti.plot_attention(images, Attention(("cat", "snow"), maps)).axes
    assert [one.get_title().split("\n")[0] for one in axes[:3]] == ["", "cat", "snow"]
    assert [one.get_title().split("\n")[-1] for one in axes[1:3]] == ["6.2%", "6.2%"]
    bright = [[np.asarray(one.images[0].get_array())[y, x, 0] > 60 for y, x in ((5, 5), (122, 122))] for one in axes]
    assert bright == [[False, False], [True, False], [False, False], [False, False], [False, False], [False, True]]
