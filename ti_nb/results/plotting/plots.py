"""Plots of records and samples. Each returns a `matplotlib.figure.Figure`; pyplot and its global state are not used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from ...host.arguments import checked
from ...host.plain_text import plain
from ...words.prompts import replace_word
from .figures import ACCENT, SERIES, SOFT, NotebookFigure, add_legend, axes_of, ink, label_points, series, show_grid

if TYPE_CHECKING:
    from PIL import Image

    from ...training.records import StepRecord
    from ..drawing.samples import Sample
    from ..look_inside import Attention
    from ..scores import Scores
    from ..selection import Comparison

Vector = Any  # a 1-D tensor or array
NAMED = 8  # words: the labels of more would cover each other


@checked(window=(1, None))
def plot_loss(records: Sequence[StepRecord], *, window: int = 25) -> NotebookFigure:
    """Three plots of a run: its loss, which says little; its gain, which says whether it learns; its vector's norm and cosine.

    Args:
        window: steps in the loss's moving average.
    """
    figure = NotebookFigure(figsize=(10.5, 2.9))  # panels draw it often, and a layout engine would double the time
    left, middle, right = axes_of(figure, 1, 3)
    figure.subplots_adjust(left=0.06, bottom=0.17, right=0.985, top=0.89, wspace=0.29)
    steps = [r.step for r in records]
    losses = [r.loss for r in records]
    means = [sum(losses[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(losses))]
    left.plot(steps, losses, color=SOFT, linewidth=0.8, label="each step")
    left.plot(steps, means, color=ACCENT, linewidth=2, label=f"mean of {window}")
    left.set(title="loss", xlabel="step", ylabel="mean squared error")
    measured = [r for r in records if r.gain is not None]
    at = [0, *(r.step for r in measured)]
    middle.axhline(0, color=SOFT, linewidth=0.8)
    middle.plot(at, [0, *(r.gain for r in measured)], "o-", color=ACCENT, markersize=4, label="over the initializer")
    middle.plot(
        at[1:], [r.gain_empty for r in measured], "s--", color=ink(), markersize=3, label="over an empty prompt"
    )
    middle.set(title="gain", xlabel="step", ylabel="mean squared error saved")
    right.plot(steps, [r.norm for r in records], color=ink(), label="norm")
    right.plot(steps, [r.cosine for r in records], "--", color=ACCENT, label="cosine to start")
    lowest = min(0, *(r.cosine for r in records)) - 0.05 if records else 0
    right.set(title="the vector", xlabel="step", ylabel="length, cosine", ylim=(lowest, None))
    for axes in (left, middle, right):
        add_legend(axes)
        axes.set_xlim(0, records[-1].steps if records else None)
        if not records:
            axes.set(xticks=[], yticks=[])
    return figure


@checked()
def plot_timesteps(timesteps: Vector, losses: Sequence[Vector], names: Sequence[str]) -> NotebookFigure:
    """The result of `loss_by_timestep`: losses, and the gain of each further concept over the first, in % of its loss."""
    figure = NotebookFigure(figsize=(9.5, 3.1), layout="constrained")
    left, right = axes_of(figure, 1, 2)
    at = [int(t) for t in timesteps]
    rows = [[float(loss) for loss in row] for row in losses]
    for i, (row, name) in enumerate(zip(rows, names)):
        left.plot(at, row, label=name, **series(i))
        if i:
            gains = [100 * (first - loss) / first for first, loss in zip(rows[0], row)]
            right.plot(at, gains, label=f"{name} over {names[0]}", **series(i))
    right.axhline(0, color=SOFT, linewidth=0.8)
    left.set(title="loss", xlabel="timestep (right: more noise)", ylabel="mean squared error", yscale="log")
    for set_formatter in (left.yaxis.set_major_formatter, left.yaxis.set_minor_formatter):
        # Labels at 1, 2, 3 and 5 of each decade only: all nine overlap.
        set_formatter(lambda loss, _: f"{loss:g}" if f"{loss:e}"[0] in "1235" else "")
    right.set(title="gain", xlabel="timestep (right: more noise)", ylabel="% of the loss")
    for axes in (left, right):
        add_legend(axes)
    return figure


@checked()
def plot_attention(images: Sequence[Image.Image], found: Attention) -> NotebookFigure:
    """A row per picture, a column per token: bright where the UNet attends to the token; each column has its own scale."""
    from PIL import Image

    rows = []
    tops = found.maps.amax(dim=(0, 2, 3)).tolist()
    for image, maps in zip(images, found.maps):
        small = image.convert("L").convert("RGB").resize((128, 128))
        masks = [
            Image.fromarray((255 * (weights / top).clamp(0, 1) ** 2).byte().numpy()).resize(
                (128, 128), Image.Resampling.BICUBIC
            )
            for weights, top in zip(maps, tops)
        ]
        dark, warm = Image.new("RGB", small.size, "#101418"), Image.new("RGB", small.size, "#ffb000")
        dim = Image.blend(small, dark, 0.35)
        rows.append([image, *(Image.composite(Image.blend(small, warm, 0.5), dim, mask) for mask in masks)])
    shares = found.maps.mean(dim=(0, 2, 3)).tolist()
    return show_grid(
        rows, heads=["", *(f"{token}\n{share:.1%}" for token, share in zip(found.tokens, shares))], size=1.0
    )


@checked()
def plot_path(history: Sequence[Vector], start: Vector, words: Mapping[str, Vector]) -> NotebookFigure:
    """The path of a vector in the plane spanned by its start and its end, with some words' vectors for orientation.

    Args:
        history: the (mean) vector after each step, (width,) each. start: the vector before training. words: name -> vector.
    """
    import numpy as np

    path = np.stack([np.asarray(start), *(np.asarray(v) for v in history)])
    across = path[0] / np.linalg.norm(path[0])
    rest = path[-1] - (path[-1] @ across) * across
    up = rest / max(float(np.linalg.norm(rest)), 1e-12)
    figure = NotebookFigure(figsize=(6, 4.4), layout="constrained")
    (axes,) = axes_of(figure)
    axes.axhline(0, color=SOFT, linewidth=0.8)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    places = [(float(np.asarray(v) @ across), float(np.asarray(v) @ up), name) for name, v in words.items()]
    for x, y, _ in places:
        axes.plot(x, y, "s", color=ink(), markersize=3)
    axes.plot(path @ across, path @ up, "-", color=ACCENT, linewidth=1.2)
    axes.plot(path[0] @ across, path[0] @ up, "o", color=SERIES[0], markersize=7, label="start")
    axes.plot(path[-1] @ across, path[-1] @ up, "*", color=ACCENT, markersize=12, label="learned")
    axes.set(xlabel="along the start", ylabel="towards the end", aspect="equal")
    axes.margins(0.15)
    axes.legend(frameon=False, fontsize=9, labelcolor=ink(), loc="upper left", bbox_to_anchor=(1, 1))
    label_points(axes, places, avoid=np.stack([path @ across, path @ up], axis=1).tolist())
    return figure


@checked("before", "after")
def compare(
    before: Sequence[Sample], after: Sequence[Sample], names: tuple[str, str], *, pictures: Sequence[Image.Image] = ()
) -> NotebookFigure:
    """A row per prompt: the samples of `before`, then those of `after`, both lists as `sample` returns them.

    Args:
        names: above both. pictures: those the word was learned from, one at the beginning of each row.
    """
    prompts = list(dict.fromkeys(s.prompt for s in after))
    count = len(after) // len(prompts)
    rows, labels = [], []
    for i, prompt in enumerate(prompts):
        pair = [*before[i * count : (i + 1) * count], *after[i * count : (i + 1) * count]]
        rows.append([*([pictures[i % len(pictures)]] if pictures else []), *(s.image for s in pair)])
        labels.append(prompt)
    heads = [*(["pictures"] if pictures else []), names[0], *[""] * (count - 1), names[1], *[""] * (count - 1)]
    return show_grid(rows, labels, heads=heads)


@checked()
def plot_scores(scores: Scores) -> NotebookFigure:
    """Subject and prompt fidelity of the word beside its references, as bars with their values and intervals of 95 %."""
    figure = NotebookFigure(figsize=(9, 2.3), layout="constrained")
    colours = {"initializer": SOFT, "word": ACCENT, "real": SERIES[0], "no word": SERIES[2]}
    found = {"subject": scores.subject_fidelity, "prompt": scores.prompt_fidelity}
    for axes, (axis, values), judge in zip(axes_of(figure, 1, 2), found.items(), scores.judges):
        names = [name for name in reversed(values) if isfinite(values[name])]  # "real" is nan for a single picture
        shown = [values[name] for name in names]
        edges = [scores.interval(axis, name) for name in names]
        errors = [
            (max(0, v - low), max(0, high - v)) if isfinite(low) else (0, 0) for v, (low, high) in zip(shown, edges)
        ]
        bars = axes.barh(
            names, shown, color=[colours[n] for n in names], xerr=list(zip(*errors)), ecolor=ink(), capsize=3
        )
        axes.bar_label(bars, fmt="%.3f", padding=4, color=ink())
        most = max(1e-6, *(v + error[1] for v, error in zip(shown, errors)))
        axes.set(title=f"{axis} fidelity", xlabel=f"cosine{f', by {judge}' if judge else ''}")
        axes.set_xlim(min(0, *shown), most * 1.2)
    return figure


@checked(most=(2, 12))
def plot_comparison(comparison: Comparison, *, most: int = 6) -> NotebookFigure:
    """Left, likeness against following the prompt: what no other word beats on both axes is coloured, the chosen one a star.

    Right, pictures of the words, or of `most` that no other beats: two of the subject prompt, then one of each of three prompts.
    Grey lines are intervals of 95 %. More than eight words are numbered, and named below.
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
    """Every word's pictures on the same prompts and seeds, a row each, `most` of them."""
    rows = [[s.image for s in one.scenes[:most]] for one in comparison.measured.values()]
    first = next(iter(comparison.measured.values())).scenes[:most]
    words = {concept.word for concept in comparison.concepts.values()}
    said = [replace_word(s.prompt, next((w for w in words if w in s.prompt), s.prompt), "…") for s in first]
    heads = [f"{prompt}\nseed {s.seed}" for prompt, s in zip(said, first)]
    return show_grid(rows, list(comparison.measured), heads=heads)


@checked(window=(1, None))
def plot_runs(records: Mapping[str, Sequence[StepRecord]], *, window: int = 25) -> NotebookFigure:
    """Several runs' curves over each other, such as a comparison's `records`: loss (the mean of `window` steps), gain, and norm."""
    figure = NotebookFigure(figsize=(11, 3.1), layout="constrained")
    left, middle, right = axes_of(figure, 1, 3)
    for number, (name, own) in enumerate(records.items()):
        look = {**series(number), "marker": None}
        losses = [r.loss for r in own]
        means = [sum(losses[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(losses))]
        left.plot([r.step for r in own], means, label=plain(name), **look)
        measured = [(r.step, r.gain) for r in own if r.gain is not None]
        middle.plot([0, *(s for s, _ in measured)], [0, *(g for _, g in measured)], label=plain(name), **series(number))
        right.plot([r.step for r in own], [r.norm for r in own], label=plain(name), **look)
    left.set(title=f"loss, mean of {window} steps", xlabel="step", ylabel="mean squared error")
    middle.set(title="gain over the initializer", xlabel="step", ylabel="mean squared error saved")
    right.set(title="norm", xlabel="step", ylabel="length")
    add_legend(left)
    return figure
