"""`Tile`: the thumbnail of one of `PreparePanel`'s pictures, what is wrong with it, and whether it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ...host.plain_text import in_page
from .. import parts
from .entry import Entry, framed, padded

if TYPE_CHECKING:
    from ...pictures.faults import Finding

SIDE = 150  # px: a thumbnail


class Tile(widgets.VBox):
    """One picture among the others; `use` is its tick, `edit` the button that opens it in the editor."""

    def __init__(self, entry: Entry, *, on_use: Callable[[], None], on_edit: Callable[[], None]) -> None:
        self.entry = entry
        self.shown, self.name, self.faults = parts.picture(width=SIDE), widgets.HTML(), parts.column()
        self.use = widgets.Checkbox(value=entry.use, description="Use this picture", indent=False)
        self.use.layout = widgets.Layout(width=f"{SIDE}px")
        self.edit = parts.button("Edit", on_edit, tooltip=f"Edit {entry.name}")
        self.edit.layout.align_self = "flex-start"

        def switch(change: Any) -> None:
            entry.use = change["new"]
            on_use()

        self.use.observe(switch, "value")
        body = [self.shown, self.name, self.use, self.edit, self.faults]
        super().__init__(body, layout=widgets.Layout(width=f"{SIDE + 24}px", margin="2px 6px 8px 0"))
        self.refresh()

    def refresh(self) -> None:
        """Show the picture as it is cropped and masked now; what a chosen crop has settled is not remarked on."""
        entry = self.entry
        self.shown.value = parts.as_png(padded(framed(entry, side=SIDE), SIDE))
        size = "{} x {} px".format(*entry.size)
        style = "line-height:1.4;padding:0 2px;overflow-wrap:anywhere"
        self.name.value = f'<div style="{style}">{in_page(entry.name)}<br>{size}</div>'
        found = [f for f in entry.faults if not (f.kind == "cut" and entry.crop)]
        show_findings(self.faults, found, "nothing to remark")

    def mark(self, edited: bool) -> None:
        """Say whether it is the one being edited."""
        self.edit.description = "Editing below" if edited else "Edit"


def show_findings(where: widgets.VBox, found: Sequence[Finding], none: str = "") -> None:
    """A note for each, or `none` said as something good; what has not changed is not sent again."""
    said = [(f.text, "warning" if f.severity == "warning" else "plain") for f in found]
    if none and not said:
        said = [(none, "good")]
    if len(where.children) != len(said):
        where.children = [parts.note() for _ in said]
    for note, (text, kind) in zip(where.children, said):
        parts.say(note, text, kind)
