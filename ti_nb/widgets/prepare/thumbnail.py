"""`Tile`: the thumbnail of one of `PreparePanel`'s pictures, its findings, and whether it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ipywidgets as widgets

from ...host.plain_text import in_page
from ...pictures.faults import Finding
from .. import parts
from .entry import Entry, framed, padded

SIDE = 150  # px: a thumbnail
NONE_YET = "No pictures yet."


class Tile(widgets.VBox):
    """One picture with its findings; `use` is its check box, `edit` the button that opens it in the editor.

    Args:
        on_use, on_edit, on_caption: called when it is ticked or not, is to be edited, or was given a caption.
    """

    def __init__(
        self,
        entry: Entry,
        on_use: Callable[[], None],
        *,
        on_edit: Callable[[], None],
        on_caption: Callable[[Entry], None],
    ) -> None:
        self.entry = entry
        self.shown, self.name, self.faults = parts.Shown(), widgets.HTML(), parts.column()
        self.use = widgets.Checkbox(value=entry.use, description="Use this picture", indent=False)
        self.use.layout = widgets.Layout(width=f"{SIDE}px")
        self.edit = parts.button("Edit", on_edit, tooltip=f"Edit {entry.name}")
        self.edit.layout.align_self = "flex-start"

        def switch(change: Any) -> None:
            entry.use = change["new"]
            on_use()

        def caption(change: Any) -> None:
            if entry.caption != change["new"].strip():
                entry.caption = change["new"].strip()
                on_caption(entry)

        self.caption = widgets.Text(description="Caption", placeholder="\u200b", continuous_update=False)
        self.caption.style.description_width = "4em"
        self.caption.layout = widgets.Layout(
            width=f"{SIDE + 4}px", height="auto", flex_flow="column", align_items="stretch"
        )
        self.use.observe(switch, "value")
        self.caption.observe(caption, "value")
        body = [self.shown, self.name, self.use, self.edit, self.caption, self.faults]
        super().__init__(body, layout=widgets.Layout(width=f"{SIDE + 24}px", margin="2px 6px 8px 0"))
        self.refresh()

    def refresh(self) -> None:
        """Show the picture with its current crop and mask; a crop chosen by hand settles the finding "cut"."""
        entry = self.entry
        self.shown.show(parts.as_png(padded(framed(entry, side=SIDE), SIDE)), f"{entry.name} with its crop and mask")
        self.caption.value = entry.caption
        size = "{} x {} px".format(*entry.size)
        style = "line-height:1.4;padding:0 2px;overflow-wrap:anywhere"
        self.name.value = f'<div style="{style}">{in_page(entry.name)}<br>{size}</div>'
        doubt = [Finding(entry.name, "mask", f"mask: {text}", "warning") for text in (entry.doubt(),) if text]
        remarks = open_findings(entry)
        warnings = [f for f in remarks if f.severity == "warning"]
        show_findings(self.faults, [*doubt, *warnings], "" if remarks else "nothing to remark")

    def mark(self, edited: bool) -> None:
        """Show whether it is being edited."""
        self.edit.description = "Editing below" if edited else "Edit"


def open_findings(entry: Entry) -> list[Finding]:
    """Of a picture: a crop chosen by hand settles the finding "cut"."""
    return [f for f in entry.faults if not (f.kind == "cut" and entry.crop)]


def routine_of(entries: Sequence[Entry]) -> list[Finding]:
    """What needs no decision, a line for each kind rather than for each picture."""
    kinds: dict[str, list[Finding]] = {}
    for entry in entries:
        for finding in open_findings(entry):
            if entry.use and finding.severity != "warning":
                kinds.setdefault(finding.kind, []).append(finding)
    return [
        replace(found[0], text=f"{found[0].name}: {found[0].text}")
        if len(found) == 1
        else replace(found[0], text=f"{len(found)} pictures ({', '.join(f.name for f in found)}): {found[0].text}")
        for found in kinds.values()
    ]


def show_findings(where: widgets.VBox, findings: Sequence[Finding], none: str = "") -> None:
    """Show a note for each finding, or `none` as good news; unchanged notes are not sent again."""
    notes = [(f.text, "warning" if f.severity == "warning" else "plain") for f in findings]
    if none and not notes:
        notes = [(none, "good")]
    if len(where.children) != len(notes):
        where.children = [parts.note() for _ in notes]
    for note, (text, kind) in zip(where.children, notes):
        parts.say(note, text, kind)


def said_of(added: int, before: int) -> str:
    """How many were added, and what they join."""
    said = f"{added} picture{'s' if added != 1 else ''} added"
    join = f" to the {before} that {'was' if before == 1 else 'were'} here; to begin anew, press Clear first"
    return said + (join if added and before else "")
