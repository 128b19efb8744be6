"""`Summary`: a run in a saved notebook, as text and pictures that need neither kernel nor widgets."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...host.atomic import replacing
from ...host.plain_text import NO_MATH, in_page, plain
from ...results.plotting.plots import plot_loss
from ..parts import as_png

if TYPE_CHECKING:
    from ...training.run import Run


@dataclass(frozen=True)
class Summary:
    """A run's figures, curves and last previews; displayed as HTML in notebooks.

    Attributes:
        title, facts: its text. curves: a PNG. strip: the last previews as a PNG, None without. caption: of the previews.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    curves: bytes
    strip: bytes | None
    caption: str

    @classmethod
    def of(cls, run: Run, state: str, strip: bytes | None, caption: str) -> Summary:
        """Summarise the run as it is now."""
        start = run.start.facts.get("init", "a concept")
        facts = [("state", state), ("steps", f"{len(run.records)} of {len(run)}")]
        if run.records:
            facts += _figures(run)
        if run.folder is not None:
            facts.append(("kept in", str(run.folder.path)))
        title = f"{run.start.word}, learned from {start}"
        return cls(title, tuple(facts), as_png(plot_loss(run.records), dpi=90), strip, caption)

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left;padding:2px 12px 2px 0'>{in_page(name)}</th>"
            f"<td style='text-align:left;padding:2px 0'>{in_page(value)}</td></tr>"
            for name, value in self.facts
        )
        alt = f"Curves of loss, gain and vector: {self}"
        shown = [f"<b>{in_page(self.title)}</b><table>{cells}</table>", _img(self.curves, alt)]
        if self.strip is not None:
            shown += [_img(self.strip, self.caption), f"<div>{in_page(self.caption)}</div>"]
        return f"<div {NO_MATH}>{''.join(shown)}</div>"

    def __str__(self) -> str:
        return plain(f"{self.title}: " + ", ".join(f"{name} {value}" for name, value in self.facts))

    __repr__ = __str__

    def save(self, path: str | Path) -> Path:
        """Write it as an HTML page with its pictures embedded."""
        page = f"<!doctype html><meta charset='utf-8'><title>{in_page(self.title)}</title><body>{self._repr_html_()}"
        with replacing(Path(path)) as temporary:
            temporary.write_text(page, encoding="utf-8")
        return Path(path)


def _figures(run: Run) -> list[tuple[str, str]]:
    last = run.records[-1]
    measured = next((r for r in reversed(run.records) if r.gain is not None), None)
    out = [
        ("training", f"{last.seconds:.1f} s"),
        ("norm", f"{last.norm:.3f}"),
        ("cosine to start", f"{last.cosine:.2f}"),
    ]
    if measured is not None:
        out.append(("gain", f"{measured.gain:+.4f} at step {measured.step}"))
    out.append(("nearest words", ", ".join(word for word, _ in run.concept().nearest(run.model, 4))))
    if measured is not None and measured.warning:
        out.append(("warning", measured.warning))
    return out


def _img(png: bytes, alt: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{in_page(alt)}" style="max-width:100%"><br>'
