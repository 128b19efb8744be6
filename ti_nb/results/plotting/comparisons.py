"""Plots of words scored side by side: `plot_comparison` and `show_comparison`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from ...host.arguments import checked
from ...host.plain_text import plain
from ...words.prompts import replace_word
from .figures import ACCENT, SERIES, SOFT, NotebookFigure, axes_of, ink, label_points, show_grid

if TYPE_CHECKING:
    from ..selection import Comparison

NAMED = 8  # words: the labels of more would cover each other


@checked(most=(2, 12))
def plot_comparison(comparison: Comparison, *, most: int = 6) -> NotebookFigure:
    """Left, likeness against following the prompt: what no other word beats on both axes is coloured, the chosen one a star.

    Right, pictures of the words, or of `most` that no other beats: two of the subject prompt, then one of each of three prompts.
    Grey lines are intervals of 95 %. More than eight words are numbered, and named below.

    Examples:
        >>> import ti_nb as ti
        >>> ti.plot_comparison(comparison).savefig("words.png")  # doctest: +SKIP
    """
    every = list(comparison.measured)
    number = {name: str(i) for i, name in enumerate(every, 1)} if len(every) > NAMED else dict.fromkeys(every, "")
    shown = every if len(every) <= most else _evenly(comparison.front(), comparison.chosen, most)
    figure = NotebookFigure(
        figsize=(11, max(3.8 if len(every) <= NAMED else 5.8, 0.85 * len(shown) + 0.3)), layout="constrained"
    )
    parts: Any = figure.subfigures(1, 2, width_ratios=(6, 5))
    left, right = parts
    for y, name in enumerate(shown):
        one = comparison.measured[name]
        scenes = list({s.prompt: s for s in one.scenes}.values())
        for x, sample in enumerate([*one.portraits[:2], *scenes[:3]]):
            axes = right.add_subplot(len(shown), 5, 5 * y + x + 1)
            axes.imshow(sample.image, interpolation="nearest" if sample.image.width <= 128 else "antialiased")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if x == 0:
                label = ": ".join(text for text in (number[name], plain(name)) if text)
                axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9, color=ink())
    if len(every) > NAMED:
        _name_numbers(left, {plain(name): text for name, text in number.items()})
    _plot_axes(comparison, axes_of(left)[0], {name: text or plain(name) for name, text in number.items()})
    return figure


def _name_numbers(part: Any, numbers: Mapping[str, str]) -> None:
    """Below a part of a figure: what each number in it stands for."""
    said = [f"{number}: {name}" for name, number in numbers.items()]
    key = part.legend(
        [Line2D([], [], linestyle="") for _ in said],
        said,
        loc="outside lower left",
        ncols=3,
        fontsize=9,
        frameon=False,
        handlelength=0,
        handletextpad=0,
        columnspacing=1.5,
    )
    for text in key.get_texts():
        text.set(color=ink(), parse_math=False)


def _evenly(names: Sequence[str], chosen: str, most: int) -> list[str]:
    """At most `most` of the names, evenly, the chosen one among them."""
    places = {round(i * (len(names) - 1) / (most - 1)) for i in range(most)} if len(names) > most else range(len(names))
    kept = [names[i] for i in sorted(places)]
    if chosen not in kept:
        kept = [*kept[: most - 1], chosen]
    return kept


def _plot_axes(comparison: Comparison, axes: Any, labelled: Mapping[str, str]) -> None:
    points = {name: comparison.point(name) for name in comparison.measured}
    front = comparison.front()
    if all(name.startswith("step ") for name in points):
        axes.plot([p for _, p in points.values()], [s for s, _ in points.values()], "-", color=SOFT, linewidth=1)
    lines: list[tuple[float, float]] = []
    for name, (subject, prompt) in points.items():
        (low, high), (left, right) = comparison.interval(name)
        if isfinite(low + left) and labelled[name] == plain(name):  # a number may lie on a line
            lines += [(left + (right - left) * i / 40, subject) for i in range(41)]
            lines += [(prompt, low + (high - low) * i / 40) for i in range(41)]
        axes.plot([left, right], [subject] * 2, color=SOFT, linewidth=0.8)
        axes.plot([prompt] * 2, [low, high], color=SOFT, linewidth=0.8)
        mark = "*" if name == comparison.chosen else "o"
        colour = ACCENT if name in front or mark == "*" else SOFT
        axes.plot(prompt, subject, mark, color=colour, markersize=15 if mark == "*" else 7)
    labels = [(prompt, subject, labelled[name]) for name, (subject, prompt) in points.items()]
    labels += _plot_references(comparison, axes)
    by = [f", cosine by {judge}" if judge else ", cosine" for judge in comparison.judges]
    axes.set(xlabel=f"prompt fidelity{by[1]}", ylabel=f"subject fidelity{by[0]}")
    axes.margins(0.12)
    label_points(axes, labels, avoid=lines)


def _plot_references(comparison: Comparison, axes: Any) -> list[tuple[float, float, str]]:
    """Draw what is known of the initializer and of real pictures; returns the labels to write."""
    labels = []
    if (start := comparison.start) is not None:
        prompt, subject = sum(start.prompt) / len(start.prompt), sum(start.subject) / len(start.subject)
        axes.plot(prompt, subject, "s", color=ink(), markersize=6)
        labels.append((prompt, subject, "initializer"))
    if isfinite(comparison.real):
        axes.axhline(comparison.real, color=SERIES[0], linestyle="--", linewidth=1)
        labels.append((axes.get_xlim()[0], comparison.real, "real pictures"))
    return labels


@checked(most=(1, 40))
def show_comparison(comparison: Comparison, *, most: int = 8) -> NotebookFigure:
    """Every word's pictures on the same prompts and seeds, a row each, `most` of them.

    Examples:
        >>> import ti_nb as ti
        >>> ti.show_comparison(comparison, most=4)  # doctest: +SKIP
    """
    rows = [[s.image for s in one.scenes[:most]] for one in comparison.measured.values()]
    first = next(iter(comparison.measured.values())).scenes[:most]
    words = {concept.word for concept in comparison.concepts.values()}
    said = [replace_word(s.prompt, next((w for w in words if w in s.prompt), s.prompt), "…") for s in first]
    heads = [f"{prompt}\nseed {s.seed}" for prompt, s in zip(said, first)]
    return show_grid(rows, list(comparison.measured), heads=heads)
