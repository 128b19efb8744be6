"""The site: it builds with warnings as errors, every public name is in it, and it quotes messages that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ti_nb as ti

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
