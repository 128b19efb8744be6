"""What all panels share: pictures, notes, labelled controls, layout; and uploads in ipywidgets 7 and 8."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
from PIL import Image

from ..host.plain_text import in_page
from ..results.plotting.figures import NotebookFigure
from .labels import labels

LABEL = "10em"  # width of every control's label, so that the controls line up
MARKS = {"plain": "", "good": "✓ ", "warning": "⚠ Warning: ", "error": "✗ Error: "}
LINK = 'target="_blank" rel="noopener noreferrer" style="color:inherit;text-decoration:underline"'
BORDERS = {"plain": "transparent", "good": "#3c8d5a", "warning": "#c98a00", "error": "#c0392b"}
SENT = 320  # px of a picture sent to the browser, which shows it smaller: sharp on screens of high density


class Panel(widgets.VBox):
    """Base of the panels. In a saved notebook, which can't show widgets, a line of text stands in for the panel."""

    def __init__(self, children: Sequence[widgets.Widget]) -> None:
        super().__init__([*children, *labels()])
        self.add_class("ti-nb-panel")

    def __repr__(self) -> str:
        return f"{type(self).__name__}: its buttons and pictures show while the notebook runs; run this cell"


class Shown(widgets.HTML):
    """A picture with alternative text, which ipywidgets' `Image` has no place for; as wide as it is, or as the page."""

    def show(self, png: bytes, alt: str) -> None:
        """Show it, with a line that says the same to who can't see it; the same again sends no message."""
        data = base64.b64encode(png).decode()
        style = "display:block;max-width:100%;height:auto;margin:2px"
        self.set_trait("value", f'<img src="data:image/png;base64,{data}" alt="{in_page(alt)}" style="{style}">')


def as_png(picture: Image.Image | NotebookFigure, *, dpi: int = 100) -> bytes:
    """A picture or a figure as PNG bytes; figures without a ground, readable in light and dark themes."""
    if isinstance(picture, NotebookFigure):
        return picture.for_page(dpi)
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def picture(
    content: Image.Image | NotebookFigure | None = None, *, width: int, height: int | None = None
) -> widgets.Image:
    """An image widget of fixed size in px, so that the page does not jump when its value changes."""
    value = as_png(content) if content is not None else BLANK
    size = dict(width=f"{width}px", height=f"{height or width}px", margin="2px")
    return widgets.Image(value=value, format="png", layout=widgets.Layout(**size))


BLANK = as_png(Image.new("RGBA", (1, 1), (0, 0, 0, 0)))


def note(text: str = "", kind: str = "plain") -> widgets.HTML:
    """One or more lines of text; `say` changes them."""
    out = widgets.HTML()
    say(out, text, kind)
    return out


def say(where: widgets.HTML, text: str, kind: str = "plain", *, link: tuple[str, str] | None = None) -> None:
    """Show `text`, escaped, with its kind as a word and as a coloured rule; an unchanged text sends no message.

    Args:
        link: its text and its address, shown after `text`; it opens in a new tab.
    """
    body = in_page(text).replace("\n", "<br>")
    if link is not None:
        body += f' <a href="{in_page(link[1])}" {LINK}>{in_page(link[0])}</a>'
    style = f"line-height:1.4;padding:1px 8px;overflow-wrap:anywhere;border-left:3px solid {BORDERS[kind]}"
    value = f'<div style="{style}">{MARKS[kind] if text else ""}{body}</div>'
    if where.value != value:
        where.value = value


def say_result(where: widgets.HTML, text: Callable[[], tuple[str, str]]) -> None:
    """Show what `text()` returns, (text, kind), or the error that it raises."""
    try:
        say(where, *text())
    except ValueError as error:
        say(where, str(error), "error")


def control(kind: type[widgets.Widget], label: str, *, width: str = "26em", **traits: Any) -> Any:
    """A control with its label at its left."""
    return kind(
        description=label,
        style={"description_width": LABEL},
        layout=widgets.Layout(width=width, max_width="98%"),
        **traits,
    )


def button(label: str, on_click: Any, *, style: str = "", tooltip: str = "") -> widgets.Button:
    """A button; `on_click` takes no arguments."""
    out = widgets.Button(description=label, button_style=style, tooltip=tooltip or label)
    out.layout = widgets.Layout(width="auto", min_width="6em")
    out.on_click(lambda _: on_click())
    return out


def tick(label: str, **traits: Any) -> widgets.Checkbox:
    """A check box with its whole label at its right."""
    return widgets.Checkbox(description=label, indent=False, layout=widgets.Layout(width="auto"), **traits)


def row(*children: widgets.Widget) -> widgets.HBox:
    """Widgets side by side, wrapping where the page is narrow."""
    return widgets.HBox(list(children), layout=widgets.Layout(flex_flow="row wrap", align_items="center"))


def column(*children: widgets.Widget) -> widgets.VBox:
    """Widgets one below the other."""
    return widgets.VBox(list(children))


def refill(box: widgets.Box, *children: widgets.Widget) -> None:
    """Replace the children of `box`, and close the old ones."""
    before, box.children = box.children, children
    for child in before:
        close(child)


def close(widget: widgets.Widget) -> None:
    """Close a widget and all within it; left open, they would stay in the kernel and in the page."""
    for child in getattr(widget, "children", ()):
        close(child)
    for trait in ("layout", "style"):
        if isinstance(value := getattr(widget, trait, None), widgets.Widget):
            value.close()
    widget.close()


def heading(text: str) -> widgets.HTML:
    """A heading within a panel."""
    return widgets.HTML(f'<div style="font-weight:600;font-size:1.05em;margin:6px 0 2px">{in_page(text)}</div>')


def captioned(content: Image.Image, caption: str, *, width: int, label: str = "") -> widgets.VBox:
    """A picture with a caption; `label` is a fuller description for screen readers."""
    height = round(width * content.height / content.width)
    spoken = f'role="img" aria-label="{in_page(label)}" ' if label else ""
    style = "font-size:0.85em;line-height:1.25;padding:0 4px"
    words = widgets.HTML(f'<div {spoken}style="{style}">{in_page(caption)}</div>')
    words.layout = widgets.Layout(width=f"{width}px")
    return widgets.VBox([picture(content, width=width, height=height), words])


def uploaded(value: Any) -> list[tuple[str, bytes]]:
    """The value of a `FileUpload` as (name, bytes): ipywidgets 7 has a dictionary, 8 a tuple of dictionaries."""
    if isinstance(value, Mapping):
        return [(name, bytes(item["content"])) for name, item in value.items()]
    items: Sequence[Mapping[str, Any]] = value
    return [(str(item["name"]), bytes(item["content"])) for item in items]


def empty(upload: widgets.FileUpload) -> None:
    """Empty a `FileUpload`; its button shows a count of 0 again."""
    if isinstance(upload.value, Mapping):
        upload.metadata, upload.data = [], []
        upload._counter = 0  # its value is computed from these two
    else:
        upload.value = ()


def enlarged(image: Image.Image) -> Image.Image:
    """A picture resized to about 320 px wide; small ones are enlarged by a whole factor, with sharp pixels."""
    if image.width >= SENT:
        return image.resize((SENT, round(SENT * image.height / image.width)), Image.Resampling.LANCZOS)
    factor = round(SENT / image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
