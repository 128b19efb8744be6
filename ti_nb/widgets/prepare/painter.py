"""`painter`: the editor's picture under the hand, by anywidget: its crop is dragged, its mask painted.

Where anywidget isn't installed, or the page can't load it, the editor's sliders do the same.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets
from PIL import Image

from .. import parts
from .entry import Stroke

if TYPE_CHECKING:
    from ...pictures.picture import Crop
    from .entry import Entry

SENT = 680  # px: the longer side of the picture in the page
CSS = """
.ti-nb-bar { display: flex; flex-wrap: wrap; align-items: center; gap: 2px; margin: 2px 0; }
.ti-nb-bar button { width: auto; color: inherit; }
.ti-nb-bar button[aria-pressed=true] { outline: 2px solid currentColor; outline-offset: -2px; font-weight: 600; }
.ti-nb-bar label { display: flex; align-items: center; gap: 4px; margin-left: 6px; }
.ti-nb-bar input { width: 6em; }
.ti-nb-painter canvas { display: block; max-width: 100%; touch-action: none; cursor: crosshair; }
.ti-nb-painter canvas:focus-visible { outline: 3px solid #3b82f6; outline-offset: 2px; }
"""


def painter(
    *,
    most: int,
    on_ready: Callable[[], None],
    on_crop: Callable[[Crop], None],
    on_stroke: Callable[[Stroke], None],
    on_undo: Callable[[], None],
) -> Any:
    """The widget, `most` px large; None without anywidget. It calls `on_ready` once a page shows it."""
    kind = _kind()
    if kind is None:
        return None
    out = kind(most=most)

    def heard(_: Any, content: dict[str, Any], __: Any) -> None:
        if content.get("ready"):
            on_ready()
        elif content.get("undo"):
            on_undo()
        elif "stroke" in content:
            on_stroke(_stroke(content))

    def moved(change: Any) -> None:
        if not out.quiet:
            left, top, side = (round(value) for value in change["new"])
            on_crop((left, top, side))

    out.on_msg(heard)
    out.observe(moved, "crop")
    return out


@cache
def _kind() -> Any:
    try:
        import anywidget
    except ImportError:
        return None

    class Painter(anywidget.AnyWidget):  # type: ignore[misc]
        """Shows a picture with its crop and mask; tells of strokes by messages."""

        _esm = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
        _css = CSS
        picture = traitlets.Bytes().tag(sync=True)
        mask = traitlets.Bytes().tag(sync=True)
        size = traitlets.List([1, 1]).tag(sync=True)
        crop = traitlets.List([0, 0, 1]).tag(sync=True)
        most = traitlets.Int(340).tag(sync=True)
        label = traitlets.Unicode().tag(sync=True)
        quiet = False
        of: Any = None

        def show(self, entry: Entry) -> None:
            """Show this picture, its crop and its mask; what did not change is not sent again."""
            self.quiet = True
            new = self.of is not entry
            with self.hold_sync():
                self.of, self.crop = entry, list(entry.square())
                self.mask = _opacity(entry)
                if new:
                    self.size, self.label = list(entry.size), f"Picture {entry.name}"
                    self.picture = _thumbnail(entry.small)
            self.quiet = False

    return Painter


def _thumbnail(picture: Image.Image) -> bytes:
    small = picture.copy()
    small.thumbnail((SENT, SENT), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=95 if max(small.size) < 200 else 85)
    return file.getvalue()


def _opacity(entry: Entry) -> bytes:
    """The mask as a PNG that is opaque where it is white; b"" without one."""
    small = entry.small.copy()
    small.thumbnail((SENT // 2, SENT // 2))
    mask = entry.mask_of(small.size)
    if mask is None:
        return b""
    return parts.as_png(Image.merge("LA", (Image.new("L", mask.size, 255), mask)))


def _stroke(content: dict[str, Any]) -> Stroke:
    """A stroke as it came from the page, its numbers within their limits."""

    def share(value: Any) -> float:
        return min(max(float(value), 0.0), 1.0)

    points = tuple((share(x), share(y)) for x, y in content["stroke"][:5000])
    return Stroke(points, share(content["radius"]), bool(content["white"]))
