"""The table of `docs/models.md`: `python -m tests.today_table` writes it, and a test compares."""

from __future__ import annotations

import re
from pathlib import Path

from ti_nb.models.families import COMFYUI, FAMILIES
from ti_nb.models.today.planned import planned
from ti_nb.models.today.recipe import Family

from .test_quantised import QUANTISED
from .today import TODAY

PAGE = Path(__file__).parents[1] / "docs/models.md"
CLASSIC = ("SD 1.x", "SD 2.x", "SDXL")  # by tests/test_families.py
HEAD = (
    "| family | pipeline | learns | samples | saves | ComfyUI's key | resumes | quantised | planned on T4, L4, A100 |"
)
NOT_RUN = "not run"


def table() -> str:
    """A row for each family that can be trained: "yes" where the tests do it on a tiny random network of its classes."""
    rows = [row for row in FAMILIES if row.name in CLASSIC or row.recipe]
    return "\n".join([HEAD, "| --- " * 9 + "|", *map(_line, rows)])


def _line(row: Family) -> str:
    done = "yes" if row.name in (*TODAY, *CLASSIC) else NOT_RUN
    read = [f"`{key}`" + ("" if key in COMFYUI else " (not read)") for key in row.encoders]
    small = "8 bit" if row.name in QUANTISED else NOT_RUN
    cells = [row.name, f"`{row.pipeline}`", done, done, done, ", ".join(read), done, small, _planned(row)]
    return f"| {' | '.join(cells)} |"


def _planned(row: Family) -> str:
    """The usual model's, by arithmetic from its counts: with how many bits a weight it fits."""
    release = next(iter(row.releases.values()), None)
    return NOT_RUN if release is None else ", ".join(planned(release).values())


def written(page: str) -> str:
    """The page with the table in its place."""
    return re.sub(r"(?s)(<!-- table -->\n).*?(\n<!-- end -->)", lambda m: m[1] + table() + m[2], page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
