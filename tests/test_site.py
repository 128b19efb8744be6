"""The site: it builds with warnings as errors, every public name is in it, and it quotes messages that exist."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

import ti_nb as ti
from tools import site

ROOT = Path(__file__).parents[1]


def test_the_page_of_messages_quotes_what_the_package_says() -> None:
    source = "\n".join(p.read_text() for p in (ROOT / "ti_nb").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # a message over several lines
    quoted = re.findall(r'^"([^"]+)"$', (ROOT / "docs/troubleshooting.md").read_text(), re.M)
    assert len(quoted) > 8
    assert [q for q in quoted if q not in source] == []


def test_the_pages_of_docs_name_only_what_exists() -> None:
    text = "\n".join(p.read_text() for p in (ROOT / "docs").glob("*.md"))
    named = set(re.findall(r"\bti\.([a-zA-Z_]+)", text))
    assert sorted(name for name in named if not hasattr(ti, name)) == []


def test_the_gallery_shows_the_last_grid_of_pictures_rather_than_a_plot(tmp_path: Path) -> None:
    def cell(source: str, kind: str, content: bytes) -> Any:
        data = nbformat.v4.new_output("display_data", {kind: base64.b64encode(content).decode()})
        return nbformat.v4.new_code_cell(source, outputs=[data])

    cells = [cell("ti.show_grid(rows)", "image/jpeg", b"grid"), cell("ti.show_images(drawn)", "image/jpeg", b"drawn")]
    cells.append(cell("ti.plot_scores(scores)", "image/png", b"plot"))
    for shown, expected in ((cells, ("jpg", b"grid")), (cells[1:], ("jpg", b"drawn")), (cells[2:], ("png", b"plot"))):
        nbformat.write(nbformat.v4.new_notebook(cells=shown), tmp_path / "it.ipynb")
        assert site.thumbnail(tmp_path / "it.ipynb") == expected
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "it.ipynb")
    assert site.thumbnail(tmp_path / "it.ipynb") is None


@pytest.mark.thorough
def test_the_site_builds_without_a_warning_and_holds_every_public_name() -> None:
    inventory_of = pytest.importorskip("sphinx.util.inventory", reason="the site's extra is not installed")
    pytest.importorskip("myst_nb")
    done = subprocess.run(
        [sys.executable, "-m", "tools.site", "--no-run"], cwd=ROOT, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    data = (ROOT / "outputs/site/html/objects.inv").read_bytes()
    names = inventory_of.InventoryFile.loads(data, uri="")
    listed = {name.removeprefix("ti_nb.") for kind in names.data.values() for name in kind}
    assert sorted(set(ti.__all__) - {"__version__"} - listed) == []
    pages = {p.stem for p in (ROOT / "outputs/site/html/notebooks").glob("*.html")}
    assert pages == {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")}
