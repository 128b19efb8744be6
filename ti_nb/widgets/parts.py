"""What all panels share: pictures as widgets, notes in words, controls with their labels, uploads of both ipywidgets."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure
from PIL import Image

from ..host.plain_text import in_page

LABEL = "10em"  # of all controls, so that they stand in line
MARKS = {"plain": "", "good": "✓ ", "warning": "⚠ Warning: ", "error": "✗ Error: "}
LINK = 'target="_blank" rel="noopener noreferrer" style="color:inherit;text-decoration:underline"'
BORDERS = {"plain": "transparent", "good": "#3c8d5a", "warning": "#c98a00", "error": "#c0392b"}


SENT = 320  # px of a picture sent to the page, which shows it smaller


class Panel(widgets.VBox):
    """What the panels have in common: in a saved notebook, where no widget can be, they say so in words."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}: its buttons and pictures show while the notebook runs; run this cell"


def as_png(picture: Image.Image | Figure, *, dpi: int = 100) -> bytes:
    """A picture or a figure as the contents of a PNG file; figures on white, readable in light and dark themes."""
    file = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(file, format="png", dpi=dpi, facecolor="white")
    else:
        picture.save(file, format="PNG")
    return file.getvalue()


def picture(content: Image.Image | Figure | None = None, *, width: int, height: int | None = None) -> widgets.Image:
    """An image of fixed size in px, so that the page does not jump when its value is swapped."""
    value = as_png(content) if content is not None else BLANK
    size = dict(width=f"{width}px", height=f"{height or width}px", margin="2px")
    return widgets.Image(value=value, format="png", layout=widgets.Layout(**size))


BLANK = as_png(Image.new("RGBA", (1, 1), (0, 0, 0, 0)))


def note(text: str = "", kind: str = "plain") -> widgets.HTML:
    """A line or a few in words; `say` changes it."""
    out = widgets.HTML()
    say(out, text, kind)
    return out


def say(where: widgets.HTML, text: str, kind: str = "plain", *, link: tuple[str, str] | None = None) -> None:
    """Show `text`, escaped, its kind in words and by a rule at the left; a text that has not changed sends nothing.

    `link` is put behind it: its words, and the address, which opens in a page of its own.
    """
    body = in_page(text).replace("\n", "<br>")
    if link is not None:
        body += f' <a href="{in_page(link[1])}" {LINK}>{in_page(link[0])}</a>'
    style = f"line-height:1.4;padding:1px 8px;overflow-wrap:anywhere;border-left:3px solid {BORDERS[kind]}"
    value = f'<div style="{style}">{MARKS[kind] if text else ""}{body}</div>'
    if where.value != value:
        where.value = value


def say_result(where: widgets.HTML, text: Callable[[], tuple[str, str]]) -> None:
    """Say what `text` gives, (words, kind), or the error it raises."""
    try:
        say(where, *text())
    except ValueError as error:
        say(where, str(error), "error")


def control(kind: type[widgets.Widget], label: str, *, width: str = "26em", **traits: Any) -> Any:
    """A control with its label in words at its left."""
    return kind(description=label, style={"description_width": LABEL}, layout=widgets.Layout(width=width), **traits)


def button(label: str, on_click: Any, *, style: str = "", tooltip: str = "") -> widgets.Button:
    """A button whose text says what it does; `on_click` takes no arguments."""
    out = widgets.Button(description=label, button_style=style, tooltip=tooltip or label)
    out.layout = widgets.Layout(width="auto", min_width="6em")
    out.on_click(lambda _: on_click())
    return out


def tick(label: str, **traits: Any) -> widgets.Checkbox:
    """A check box, with all of its words at its right."""
    return widgets.Checkbox(description=label, indent=False, layout=widgets.Layout(width="auto"), **traits)


def row(*children: widgets.Widget) -> widgets.HBox:
    """Side by side, wrapping where the page is narrow."""
    return widgets.HBox(list(children), layout=widgets.Layout(flex_flow="row wrap", align_items="center"))


def column(*children: widgets.Widget) -> widgets.VBox:
    """One under the other."""
    return widgets.VBox(list(children))


def refill(box: widgets.Box, *children: widgets.Widget) -> None:
    """Put these in place of what was there, which is closed."""
    before, box.children = box.children, children
    for one in before:
        close(one)


def close(widget: widgets.Widget) -> None:
    """Close a widget and all within it: those left open stay in the kernel and in the page for good."""
    for child in getattr(widget, "children", ()):
        close(child)
    for trait in ("layout", "style"):
        if isinstance(own := getattr(widget, trait, None), widgets.Widget):
            own.close()
    widget.close()


def heading(text: str) -> widgets.HTML:
    """A heading within a panel."""
    return widgets.HTML(f'<div style="font-weight:600;font-size:1.05em;margin:6px 0 2px">{in_page(text)}</div>')


def captioned(content: Image.Image, caption: str, *, width: int, label: str = "") -> widgets.VBox:
    """A picture with words under it, which also say to a screen reader what it shows; `label` says it more fully."""
    height = round(width * content.height / content.width)
    spoken = f'role="img" aria-label="{in_page(label)}" ' if label else ""
    style = "font-size:0.85em;line-height:1.25;padding:0 4px"
    words = widgets.HTML(f'<div {spoken}style="{style}">{in_page(caption)}</div>')
    words.layout = widgets.Layout(width=f"{width}px")
    return widgets.VBox([picture(content, width=width, height=height), words])


def uploaded(value: Any) -> list[tuple[str, bytes]]:
    """What a `FileUpload` holds, as (name, contents): ipywidgets 7 has a dictionary, 8 a tuple of dictionaries."""
    if isinstance(value, Mapping):
        return [(name, bytes(item["content"])) for name, item in value.items()]
    items: Sequence[Mapping[str, Any]] = value
    return [(str(item["name"]), bytes(item["content"])) for item in items]


def empty(upload: widgets.FileUpload) -> None:
    """Forget what it holds; its button counts 0 again."""
    if isinstance(upload.value, Mapping):
        upload.metadata, upload.data = [], []
        upload._counter = 0  # makes its value of the two above
    else:
        upload.value = ()


def enlarged(image: Image.Image) -> Image.Image:
    """A picture of about 320 px, each pixel of a small one a square."""
    if image.width >= SENT:
        return image.resize((SENT, round(SENT * image.height / image.width)), Image.Resampling.LANCZOS)
    times = round(SENT / image.width)
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
