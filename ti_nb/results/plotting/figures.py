"""How figures and grids of pictures look: colours that colour-blind people tell apart, labels that keep off each other, light and dark pages, vector files.

A figure is drawn in dark ink for paper; on a page it has no ground of its own, and its ink is a grey that can be read on white and
on black. Under a dark style of matplotlib (`plt.style.use("dark_background")`) it takes that style's ground and ink.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from ...errors import InvalidValue
from ...host.arguments import checked
from ...host.plain_text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

DPI = 96
AIR = 3  # px kept free left and right of a label
INK, PAGE_INK = "#22303c", "#737b85"  # 4.3 : 1 on white, 4.4 : 1 on Jupyter's dark page
SOFT, ACCENT = "#84919d", "#d55e00"
# Okabe and Ito's colours, told apart with every kind of colour vision, the light two darker: 3 : 1 on white. No black, no yellow.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#3d94c9", "#b87f00")
MARKS, DASHES = "os^Dv*", ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))


class NotebookFigure(Figure):
    """A figure that notebooks display without pyplot or `%matplotlib inline`; its texts are drawn as written.

    `savefig` writes it for paper, as "curves.svg" or "curves.pdf" too, whose texts stay text.
    """

    def draw(self, renderer: Any) -> None:
        """Draw the figure without reading $...$ in a text as a formula."""
        for text in self.findobj(Text):
            text.set(parse_math=False, usetex=False, text=plain(text.get_text(), lines=True))
        super().draw(renderer)

    def savefig(self, fname: Any, *args: Any, **options: Any) -> None:
        """Write the figure to a file, as matplotlib does; in SVG and PDF its texts can be searched and edited."""
        with matplotlib.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
            super().savefig(fname, *args, **options)

    def for_page(self, dpi: int = DPI) -> bytes:
        """As PNG without a ground, for light and dark pages; under a dark style on that style's ground."""
        if is_dark():
            return self._render("png", dpi=dpi)
        with _inked(self, INK, PAGE_INK):
            return self._render("png", dpi=dpi, transparent=True)

    def _repr_png_(self) -> bytes:
        return self.for_page()

    def _render(self, format: str, *, dpi: int = DPI, **options: Any) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format=format, dpi=dpi, **options)
        return file.getvalue()


class JpegFigure(NotebookFigure):
    """A figure of pictures, displayed as JPEG: as PNG it would add megabytes to the notebook. Its ground is the style's, or white."""

    _repr_png_ = None  # type: ignore[assignment]

    def _repr_jpeg_(self) -> bytes:
        return self._render("jpeg", pil_kwargs={"quality": 88})


@checked("images", columns=(1, None), size=(0.1, 100))
def show_images(
    images: Sequence[Image.Image], titles: Sequence[str] = (), *, columns: int = 5, size: float = 1.5
) -> NotebookFigure:
    """Pictures in rows of `columns`, each `size` inches.

    Examples:
        >>> import ti_nb as ti
        >>> photos = ti.example_images("penguin")
        >>> len(ti.show_images(photos.images[:2], ["first", "second"]).axes)
        2
    """
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
) -> NotebookFigure:
    """Rows of pictures, with `labels` left of the rows, and `heads` above the columns or `titles` above each picture.

    Examples:
        >>> import ti_nb as ti
        >>> photos = ti.example_images("penguin").images
        >>> len(ti.show_grid([photos[:2], photos[2:4]], ["above", "below"]).axes)
        4
    """
    if not rows or not rows[0]:
        raise InvalidValue("no pictures to show")
    columns = max(len(r) for r in rows)
    labels, titles = [plain(label) for label in labels], [plain(title) for title in titles]
    margin = 0.075 * max((len(label) for label in labels), default=0)
    width = round(13 * size)  # letters that fit above a picture
    titles = [textwrap.fill(title, width, break_on_hyphens=False) for title in titles]
    heads = _beside_each_other([plain(head, lines=True) for head in heads], width)
    extra = 0.09 + 0.13 * max(title.count("\n") + 1 for title in titles) if titles else 0.0
    above = 0.12 + 0.17 * max(head.count("\n") + 1 for head in heads) if heads else 0.0
    figure = JpegFigure(figsize=(columns * size + margin, len(rows) * (size + extra) + above))
    figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.04, wspace=0.0, hspace=0.0)
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
                axes.set_title(titles[number], fontsize=8, color=ink())
            if heads and y == 0 and x < len(heads):
                axes.set_title(heads[x], fontsize=9, color=ink())
            number += 1
        if y < len(labels):
            grid[y][0].set_ylabel(labels[y], rotation=0, ha="right", va="center", fontsize=9, color=ink())
    return figure


def _beside_each_other(heads: Sequence[str], width: int) -> list[str]:
    """Heads of columns in lines of at most `width` letters, where there is another beside them."""

    def is_free(number: int) -> bool:
        return not any(0 <= at < len(heads) and heads[at] for at in (number - 1, number + 1))

    def wrapped(head: str) -> str:
        return "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in head.split("\n"))

    return [head if is_free(number) else wrapped(head) for number, head in enumerate(heads)]


def ink() -> str:
    """The colour of texts and axes: dark, or what the matplotlib style in use has on its dark ground."""
    return str(matplotlib.rcParams["text.color"]) if is_dark() else INK


def is_dark() -> bool:
    """Whether the matplotlib style in use has a dark ground."""
    red, green, blue = to_rgb(matplotlib.rcParams["figure.facecolor"])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5


def axes_of(figure: Figure, rows: int = 1, columns: int = 1, **options: Any) -> list[Any]:
    """A figure's axes, row by row, without a frame at the top and the right, in the figure's ink."""
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(ink())
        axes.tick_params(colors=ink(), which="both")
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_color(ink())
        axes.set_facecolor("none")
    return list(grid.flat)


def series(number: int) -> dict[str, Any]:
    """The look of curve `number` (from 0): its colour, mark and dashes, so that no two are told apart by colour alone."""
    return {
        "color": SERIES[number % len(SERIES)],
        "marker": MARKS[number % len(MARKS)],
        "linestyle": DASHES[number % len(DASHES)],
        "markersize": 5,
    }


def add_legend(axes: Axes, **options: Any) -> None:
    """A legend of all named lines. Matplotlib's own leaves out every name that begins with _, not only its `_child0`."""
    lines = [line for line in axes.get_lines() if not re.fullmatch(r"_child\d+", str(line.get_label()))]
    legend = axes.legend(lines, [""] * len(lines), frameon=False, fontsize=9, labelcolor=ink(), **options)
    for text, line in zip(legend.get_texts(), lines):
        text.set_text(str(line.get_label()))


def label_points(
    axes: Axes, points: Sequence[tuple[float, float, str]], *, avoid: Sequence[Any] = (), size: float = 9
) -> list[Annotation]:
    """Write a label beside each point (x, y, text), at the nearest place where it covers no other label, point or curve.

    To be called when the axes' limits and everything else is set. Where there is no such place, it goes where it covers least.

    Args:
        avoid: further points (x, y) not to cover, such as those of a curve.
    """
    figure: Any = axes.figure.canvas.figure  # of a part of a figure, the whole
    figure.draw_without_rendering()
    dots = axes.transData.transform([tuple(map(float, p[:2])) for p in (*points, *avoid)]).tolist()
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    frame, out = axes.get_window_extent(), []
    for x, y, text in points:
        label = axes.annotate(
            text, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=size, color=ink(), parse_math=False
        )
        box, (px, py) = label.get_window_extent(), axes.transData.transform((x, y)).tolist()
        best = min(_places(box.width, box.height), key=lambda at: _cover((px + at[0], py + at[1]), box, taken, frame))
        left, bottom = px + best[0], py + best[1]
        taken.append((left - AIR, bottom, left + box.width + AIR, bottom + box.height))
        label.set_position((best[0] * 72 / figure.dpi, best[1] * 72 / figure.dpi))
        out.append(label)
    return out


def _places(width: float, height: float) -> list[tuple[float, float]]:
    """Offsets in px of a label's lower left corner from its point, the nearest first."""
    rings = []
    for gap in (6.0, 6 + height, 6 + 2 * height, 6 + 3 * height):
        across, up = (gap, -width / 2, -width - gap), (gap, -height / 2, -height - gap)
        rings += [(x, y) for x, y in product(across, up) if (x, y) != (across[1], up[1])]
    return rings


def _cover(
    at: tuple[float, float], box: Any, taken: Sequence[tuple[float, float, float, float]], frame: Any
) -> tuple[float, float]:
    """How much of what is taken a label at `at` would cover, in px squared, with what would lie outside of the axes."""
    left, bottom, right, top = *at, at[0] + box.width, at[1] + box.height
    covered = sum(
        max(0, min(right, x1) - max(left, x0)) * max(0, min(top, y1) - max(bottom, y0)) for x0, y0, x1, y1 in taken
    )
    outside = max(0, frame.x0 - left) + max(0, right - frame.x1) + max(0, frame.y0 - bottom) + max(0, top - frame.y1)
    return covered + 20 * outside, 0


@contextmanager
def _inked(figure: Figure, old: str, new: str) -> Iterator[None]:
    """Within the block, whatever is drawn in the one ink is drawn in the other, ticks that are made meanwhile too."""
    _change_ink(figure, old, new)
    try:
        yield
    finally:
        _change_ink(figure, new, old)


def _change_ink(figure: Figure, old: str, new: str) -> None:
    for artist in figure.findobj():
        for part in ("color", "edgecolor", "facecolor", "markeredgecolor", "markerfacecolor"):
            getter, setter = getattr(artist, f"get_{part}", None), getattr(artist, f"set_{part}", None)
            if getter is not None and setter is not None and _is_in(getter(), old):
                setter(new)


def _is_in(colours: Any, ink: str) -> bool:
    """Whether a colour, or the one of a collection of lines, is this ink."""
    if colours is None or isinstance(colours, str):
        return colours == ink
    values = np.asarray(colours, dtype=float).ravel()
    return values.shape == (4,) and np.allclose(values, to_rgba(ink), atol=1e-6)
