"""Plots of records and samples. Each returns a `matplotlib.figure.Figure`; pyplot and its global state are not used."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.text import Text

from ..errors import InvalidValue
from ..host.arguments import checked
from ..host.plain_text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

    from ..training.records import StepRecord
    from .look_inside import Attention
    from .sampling import Sample
    from .scores import Scores

Vector = Any  # a 1-D tensor or array
DPI = 96
INK, SOFT, ACCENT = "#22303c", "#b9c4cf", "#d1495b"


class NotebookFigure(Figure):
    """A figure that notebooks display without pyplot or `%matplotlib inline`; its texts are drawn as written."""

    def draw(self, renderer: Any) -> None:
        """Draw the figure without reading $...$ in a text as a formula."""
        for text in self.findobj(Text):
            text.set(parse_math=False, usetex=False, text=plain(text.get_text(), lines=True))
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        return self._render("png")

    def _render(self, format: str, **options: Any) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format=format, dpi=DPI, **options)
        return file.getvalue()


class JpegFigure(NotebookFigure):
    """A figure of pictures, displayed as JPEG: as PNG it would add megabytes to the notebook."""

    _repr_png_ = None  # type: ignore[assignment]

    def _repr_jpeg_(self) -> bytes:
        return self._render("jpeg", pil_kwargs={"quality": 88})


@checked(window=(1, None))
def plot_loss(records: Sequence[StepRecord], *, window: int = 25) -> Figure:
    """Three plots of a run: its loss, which says little; its gain, which says whether it learns; its vector's norm and cosine.

    Args:
        window: steps in the loss's moving average.
    """
    figure = NotebookFigure(figsize=(10, 2.8))  # panels draw it often, and a layout engine would double the time
    figure.subplots_adjust(left=0.05, bottom=0.18, right=0.985, top=0.88, wspace=0.2)
    left, middle, right = figure.subplots(1, 3)
    steps = [r.step for r in records]
    losses = [r.loss for r in records]
    means = [sum(losses[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(losses))]
    left.plot(steps, losses, color=SOFT, linewidth=0.8, label="each step")
    left.plot(steps, means, color=ACCENT, linewidth=2, label=f"mean of {window}")
    left.set(title="loss", xlabel="step")
    measured = [r for r in records if r.gain is not None]
    at = [0, *(r.step for r in measured)]
    middle.axhline(0, color=SOFT, linewidth=0.8)
    middle.plot(at, [0, *(r.gain for r in measured)], "o-", color=ACCENT, markersize=4, label="over the initializer")
    middle.plot(at[1:], [r.gain_empty for r in measured], "s--", color=INK, markersize=3, label="over an empty prompt")
    middle.set(title="gain", xlabel="step")
    right.plot(steps, [r.norm for r in records], color=INK, label="norm")
    right.plot(steps, [r.cosine for r in records], "--", color=ACCENT, label="cosine to start")
    right.set(
        title="the vector", xlabel="step", ylim=(min(0, *(r.cosine for r in records)) - 0.05 if records else 0, None)
    )
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        axes.set_xlim(0, records[-1].steps if records else None)
        if not records:
            axes.set(xticks=[], yticks=[])
    return figure


@checked()
def plot_timesteps(timesteps: Vector, losses: Sequence[Vector], names: Sequence[str]) -> Figure:
    """The result of `loss_by_timestep`: losses, and the gain of each further concept over the first, in % of its loss."""
    figure = NotebookFigure(figsize=(9, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = [SOFT, ACCENT, INK]
    at = [int(t) for t in timesteps]
    rows = [[float(loss) for loss in row] for row in losses]
    for i, (row, name) in enumerate(zip(rows, names)):
        left.plot(at, row, "os^"[i % 3] + "-", color=colours[i % 3], markersize=4, label=name)
        if i:
            gains = [100 * (first - loss) / first for first, loss in zip(rows[0], row)]
            right.plot(
                at, gains, "os^"[i % 3] + "-", color=colours[i % 3], markersize=4, label=f"{name} over {names[0]}"
            )
    right.axhline(0, color=SOFT, linewidth=0.8)
    left.set(title="loss", xlabel="timestep (right: more noise)", yscale="log")
    for set_formatter in (left.yaxis.set_major_formatter, left.yaxis.set_minor_formatter):
        # Labels at 1, 2, 3 and 5 of each decade only: all nine overlap.
        set_formatter(lambda loss, _: f"{loss:g}" if f"{loss:e}"[0] in "1235" else "")
    right.set(title="gain, % of the loss", xlabel="timestep (right: more noise)")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        _add_legend(axes)
    return figure


def _add_legend(axes: Axes) -> None:
    """A legend of all named lines. Matplotlib's own leaves out every name that begins with _, not only its `_child0`."""
    lines = [line for line in axes.get_lines() if not re.fullmatch(r"_child\d+", str(line.get_label()))]
    legend = axes.legend(lines, [""] * len(lines), frameon=False, fontsize=8)
    for text, line in zip(legend.get_texts(), lines):
        text.set_text(str(line.get_label()))


@checked()
def plot_attention(images: Sequence[Image.Image], found: Attention) -> Figure:
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
def plot_path(history: Sequence[Vector], start: Vector, words: Mapping[str, Vector]) -> Figure:
    """The path of a vector in the plane spanned by its start and its end, with some words' vectors for orientation.

    Args:
        history: the (mean) vector after each step, (width,) each. start: the vector before training. words: name -> vector.
    """
    import numpy as np

    path = np.stack([np.asarray(start), *(np.asarray(v) for v in history)])
    across = path[0] / np.linalg.norm(path[0])
    rest = path[-1] - (path[-1] @ across) * across
    up = rest / max(float(np.linalg.norm(rest)), 1e-12)
    figure = NotebookFigure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=SOFT, linewidth=0.8)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    near = float(np.linalg.norm(path[0])) / 2  # in which labels may overlap
    labelled: list[tuple[float, float]] = []
    for name, vector in words.items():
        x, y = float(np.asarray(vector) @ across), float(np.asarray(vector) @ up)
        axes.plot(x, y, "s", color=INK, markersize=3)
        crowded = any(abs(x - x2) < near and abs(y - y2) < near / 6 for x2, y2 in labelled)
        offset = (4, -9 if crowded else 3)
        axes.annotate(name, (x, y), xytext=offset, textcoords="offset points", fontsize=8, color=INK)
        labelled.append((x, y))
    axes.plot(path @ across, path @ up, "-", color=ACCENT, linewidth=1.2)
    axes.plot(path[0] @ across, path[0] @ up, "o", color=SOFT, markersize=7, label="start")
    axes.plot(path[-1] @ across, path[-1] @ up, "*", color=ACCENT, markersize=12, label="learned")
    axes.set(xlabel="along the start", ylabel="towards the end", aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


@checked("images", columns=(1, None), size=(0.1, 100))
def show_images(
    images: Sequence[Image.Image], titles: Sequence[str] = (), *, columns: int = 5, size: float = 1.5
) -> Figure:
    """Pictures in rows of `columns`, each `size` inches."""
    rows = [list(images[i : i + columns]) for i in range(0, len(images), columns)]
    return show_grid(rows, [], titles=titles, size=size)


@checked(size=(0.1, 100))
def show_grid(
    rows: Sequence[Sequence[Image.Image]],
    labels: Sequence[str] = (),
    *,
    titles: Sequence[str] = (),
    heads: Sequence[str] = (),
    size: float = 1.2,
) -> Figure:
    """Rows of pictures, with `labels` left of the rows, and `heads` above the columns or `titles` above each picture."""
    if not rows or not rows[0]:
        raise InvalidValue("no pictures to show")
    columns = max(len(r) for r in rows)
    labels, titles = [plain(label) for label in labels], [plain(title) for title in titles]
    margin = 0.075 * max((len(label) for label in labels), default=0)
    width = round(13 * size)  # letters that fit above a picture
    titles = [textwrap.fill(title, width, break_on_hyphens=False) for title in titles]
    extra = 0.09 + 0.13 * max(title.count("\n") + 1 for title in titles) if titles else 0.0
    figure = JpegFigure(figsize=(columns * size + margin, len(rows) * (size + extra) + (0.3 if heads else 0)))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.04, wspace=0.0, hspace=0.0)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    number = 0
    for y, row in enumerate(rows):
        for x, axes in enumerate(grid[y]):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if x >= len(row):
                continue
            axes.imshow(row[x], interpolation="nearest" if row[x].width <= 128 else "antialiased")
            if titles and number < len(titles):
                axes.set_title(titles[number], fontsize=8, color=INK)
            if heads and y == 0 and x < len(heads):
                axes.set_title(heads[x], fontsize=9, color=INK)
            number += 1
        if y < len(labels):
            grid[y][0].set_ylabel(labels[y], rotation=0, ha="right", va="center", fontsize=9, color=INK)
    return figure


@checked("before", "after")
def compare(before: Sequence[Sample], after: Sequence[Sample], names: tuple[str, str]) -> Figure:
    """A row per prompt: the samples of `before`, then those of `after`, both lists as `sample` returns them."""
    prompts = list(dict.fromkeys(s.prompt for s in after))
    count = len(after) // len(prompts)
    rows, labels = [], []
    for i, prompt in enumerate(prompts):
        pair = [*before[i * count : (i + 1) * count], *after[i * count : (i + 1) * count]]
        rows.append([s.image for s in pair])
        labels.append(prompt)
    heads = [names[0], *[""] * (count - 1), names[1], *[""] * (count - 1)]
    return show_grid(rows, labels, heads=heads)


@checked()
def plot_scores(scores: Scores) -> Figure:
    """Subject and prompt fidelity of the word beside its references, as bars with their values."""
    figure = NotebookFigure(figsize=(8, 1.9), layout="constrained")
    colours = {"initializer": SOFT, "word": ACCENT, "real": INK}
    for axes, title, values in zip(
        figure.subplots(1, 2),
        ("subject fidelity", "prompt fidelity"),
        (scores.subject_fidelity, scores.prompt_fidelity),
    ):
        names = [name for name in reversed(values) if isfinite(values[name])]  # "real" is nan for a single picture
        shown = [values[name] for name in names]
        bars = axes.barh(names, shown, color=[colours[n] for n in names])
        axes.bar_label(bars, fmt="%.3f", padding=3)
        axes.set(title=title, xlim=(min(0, *shown), max(1e-6, *shown) * 1.2))
        axes.spines[["top", "right"]].set_visible(False)
    return figure
