"""Plots of records and samples. Each returns a `matplotlib.figure.Figure`; pyplot and its global state are not used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from ...host.arguments import checked
from ...host.plain_text import plain
from .figures import ACCENT, SERIES, SOFT, NotebookFigure, add_legend, axes_of, ink, label_points, series, show_grid

if TYPE_CHECKING:
    from PIL import Image

    from ...training.records import StepRecord
    from ..drawing.samples import Sample
    from ..look_inside import Attention
    from ..scores import Scores

Vector = Any  # a 1-D tensor or array


@checked(window=(1, None))
def plot_loss(records: Sequence[StepRecord], *, window: int = 25) -> NotebookFigure:
    """Three plots of a run: its loss, which says little; its gain, which says whether it learns; its vector's norm and cosine.

    Args:
        window: steps in the loss's moving average.

    Examples:
        >>> import ti_nb as ti
        >>> records = [ti.StepRecord(n, 10, 1 / n, 0.1, 0.5, 0.9, float(n), 0.1 * n) for n in range(1, 11)]
        >>> [axes.get_title() for axes in ti.plot_loss(records).axes]
        ['loss', 'gain', 'the vector']
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
    """The result of `loss_by_timestep`: losses, and the gain of each further concept over the first, in % of its loss.

    Examples:
        >>> import ti_nb as ti
        >>> len(ti.plot_timesteps([100, 900], [[0.5, 0.4], [0.4, 0.3]], ["cat", "<x>"]).axes)
        2
    """
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

    Examples:
        >>> import ti_nb as ti, torch
        >>> history = [torch.tensor([1.0, 3.0]), torch.tensor([0.0, 4.0])]
        >>> figure = ti.plot_path(history, torch.tensor([2.0, 0.0]), {"owl": torch.ones(2)})
        >>> len(figure.axes)
        1
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

    Examples:
        >>> import ti_nb as ti
        >>> photos = ti.example_images("penguin").images
        >>> before, after = ([ti.Sample(photos[i], "a penguin", seed=0)] for i in (0, 1))
        >>> len(ti.compare(before, after, ("before", "after")).axes)
        2
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
    """Subject and prompt fidelity of the word beside its references, as bars with their values and intervals of 95 %.

    Examples:
        >>> import ti_nb as ti
        >>> scores = ti.Scores({"initializer": 0.2, "word": 0.5}, {"initializer": 0.3, "word": 0.2}, [], [])
        >>> len(ti.plot_scores(scores).axes)
        2
    """
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


@checked(window=(1, None))
def plot_runs(records: Mapping[str, Sequence[StepRecord]], *, window: int = 25) -> NotebookFigure:
    """Several runs' curves over each other, such as a comparison's `records`: loss (the mean of `window` steps), gain, and norm.

    Examples:
        >>> import ti_nb as ti
        >>> records = [ti.StepRecord(n, 10, 1 / n, 0.1, 0.5, 0.9, float(n), 0.1 * n) for n in range(1, 11)]
        >>> len(ti.plot_runs({"all": records, "half": records[:5]}).axes)
        3
    """
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
